//! `cargo xtask bare-metal`: the packet path links where a panic and the heap lead nowhere.
//!
//! `examples/bare_metal` is built for a target without an operating system. Its panic handler and its
//! allocator call symbols that exist nowhere, so the linker refuses it if the optimised code can still
//! reach one of them. A check that cannot fail is worth nothing, so it is built again with a panic and
//! with an allocation planted behind each probe, and those builds have to be refused, for that reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::meta::Metadata;
use crate::sh::{Cmd, Outcome, Run, root};

const TARGET: &str = "x86_64-unknown-none";
/// The symbols that the panic handler and the allocator of the example call.
const PANIC: &str = "a_panic_is_reachable";
const HEAP: &[&str] = &["an_allocation_is_reachable", "a_free_is_reachable"];

/// The task.
pub(crate) fn run() -> Outcome {
    if let Err(why) = need_target(TARGET) {
        return Outcome::Skipped(why);
    }
    let clean = build("").run();
    if !clean.ok() {
        return Outcome::Failed(reason(&clean));
    }
    for (feature, symbol) in [("plant-panic", PANIC), ("plant-alloc", HEAP[0])] {
        let planted = build(&format!("--features {feature}")).quiet();
        if planted.ok() {
            return Outcome::Failed(format!("linked in spite of {feature}: this check is blind"));
        }
        if planted.last_with(symbol).is_none() {
            return Outcome::Failed(format!("{feature} broke otherwise: {}", planted.why()));
        }
    }
    Outcome::Passed("links; with a planted panic or allocation it does not".into())
}

/// Why the example was not linked.
fn reason(run: &Run) -> String {
    if HEAP.iter().any(|symbol| run.last_with(symbol).is_some()) {
        return "the packet path can reach the heap (who calls it: see the linker's message)"
            .into();
    }
    match run.last_with(PANIC) {
        Some(_) => format!("a panic can be reached, from one of: {}", panicking_files()),
        None => format!("examples/bare_metal does not build: {}", run.why()),
    }
}

fn target_dir() -> PathBuf {
    let metadata = Metadata::members();
    metadata.map_or_else(|_| root().join("target"), |metadata| metadata.target_dir)
}

fn build(extra: &str) -> Cmd {
    let dir = root().join("examples/bare_metal");
    let cmd = Cmd::cargo("build --release --target").arg(TARGET).args(extra);
    cmd.env("CARGO_TARGET_DIR", target_dir().join("bare-metal")).dir(&dir)
}

/// The source files whose panics a program contains that was allowed to keep them.
fn panicking_files() -> String {
    // Debug information names every file there is.
    let built = build("--features show-panics").env("CARGO_PROFILE_RELEASE_DEBUG", "false").quiet();
    let program = target_dir().join("bare-metal").join(TARGET).join("release/lvs-bare-metal");
    match std::fs::read(program) {
        Ok(bytes) if built.ok() => source_names(&bytes).into_iter().collect::<Vec<_>>().join(", "),
        _ => format!("(cannot tell: {})", built.why()),
    }
}

/// Every text in `bytes` that looks like the path of a Rust file.
fn source_names(bytes: &[u8]) -> BTreeSet<String> {
    let is_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let texts = bytes.split(|byte| !is_path(byte)).filter_map(|text| str::from_utf8(text).ok());
    // Texts lie end to end: one run may hold several paths.
    let paths = texts.flat_map(|text| text.split_inclusive(".rs"));
    paths.filter(|path| path.ends_with(".rs")).map(str::to_owned).collect()
}

/// Makes sure that the standard crates for `target` are there, or says why they are not.
pub(crate) fn need_target(target: &str) -> Result<(), String> {
    let installed = || {
        let run = Cmd::new("rustc").args("--print target-libdir --target").arg(target).quiet();
        run.ok() && Path::new(run.last()).is_dir()
    };
    if installed() {
        return Ok(());
    }
    let added = Cmd::new("rustup").args("target add").arg(target).run();
    if installed() {
        return Ok(());
    }
    Err(format!("target {target} is not installed and cannot be added: {}", added.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_found_between_other_bytes() {
        let names = source_names(b"\0\x01nat/src/a.rslvs-core/src/b.rs\0noise.rsrc attempt");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(names, ["lvs-core/src/b.rs", "nat/src/a.rs", "noise.rs"]);
    }
}
