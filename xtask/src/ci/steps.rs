//! The steps of `cargo xtask ci`, in the order in which they tell most for least time.

use super::Step;
use crate::meta::{Metadata, Package};
use crate::sh::{Cmd, EXIT_SKIP, Outcome, Run, root};
use crate::{bare_metal, layers, licences, links};

/// Targets without an operating system that the pure crates must build for.
const BARE_TARGETS: &[&str] = &["x86_64-unknown-none", "thumbv7em-none-eabihf"];
/// The crates without `std`.
const PURE: &[&str] = &["lvs-core", "lvs-sched", "lvs-nat", "lvs-director"];
/// Packages outside of the workspace.
const OUTSIDE: &[&str] = &["examples/bare_metal/Cargo.toml", "fuzz/Cargo.toml"];
/// Longest time one demo or lab may take, in seconds.
const LAB_LIMIT: &str = "300";

pub(super) const STEPS: &[Step] = &[
    short("fmt", "every file is formatted", fmt),
    short("lockfile", "Cargo.lock is complete", lockfile),
    short("layers", "crates know only what the design lets them know", layers::run),
    short("links", "links between the pages lead to files", links::run),
    short("licences", "licences of all that the shipped crates need", licence_step),
    short("clippy", "all targets without a warning", clippy),
    short("features", "each crate alone with each feature set", features),
    short("no-std", "the pure crates for bare targets", no_std),
    short("bare-metal", "the packet path links without panic and heap", bare_metal::run),
    short("tests", "unit, property, model and simulation tests", tests),
    short("doc-tests", "the examples in the documentation", doc_tests),
    short("docs", "the documentation builds without a warning", docs),
    short("instructions", "instructions of the hot functions as committed", instructions),
    short("fuzz-replay", "every stored fuzz input again", fuzz_replay),
    short("demo", "lvsd demo: the whole path in one process", demo),
    short("lab-fullnat", "lvsd lab run fullnat: real TCP over AF_PACKET", || lab("fullnat")),
    short("lab-workers", "lvsd lab run fullnat --workers 2: one balancer of two threads", || {
        lab("fullnat --workers 2")
    }),
    short("lab-nat", "lvsd lab run nat: real TCP over AF_PACKET", || lab("nat")),
    short("lab-dr", "servers answer past the director", || lab("dr")),
    short("lab-tun", "the same, with packets inside others", || lab("tun")),
    short("lab-udp", "datagrams over AF_PACKET", || lab("udp")),
    short("lab-fullnat-v6", "real TCP over IPv6", || lab("fullnat-v6")),
    short("lab-nat64", "IPv6 clients of IPv4 servers, over two threads", || {
        lab("nat64 --workers 2")
    }),
    short(
        "lab-reuse-quick",
        "local ports that come around, and a director that starts anew",
        || lab("reuse-quick"),
    ),
    short("lab-proxy", "stock nginx reads clients' addresses from PROXY headers", || lab("proxy")),
    short("lab-drain", "a server drains until its deadline, then both sides are reset", || {
        lab("drain")
    }),
    short("lab-persist", "clients stay with their servers, over two threads", || {
        lab("persist --workers 2")
    }),
    long("lab-reuse", "local ports at 2000 connections a second for a minute", || lab("reuse")),
    long("miri", "the unsafe code of the core under miri", miri),
    long("loom", "tables, rings and configurations of workers under every order of steps", loom),
    long("properties", "property tests with many more cases", properties),
    long("mutants", "mutated translation and schedulers are noticed", mutants),
    long("fuzz", "each fuzz target for five minutes", fuzz),
];

const fn short(name: &'static str, about: &'static str, run: fn() -> Outcome) -> Step {
    Step { name, about, long: false, run }
}

const fn long(name: &'static str, about: &'static str, run: fn() -> Outcome) -> Step {
    Step { name, about, long: true, run }
}

/// Passed with `note`, or failed with the last line of the output.
fn judge(run: &Run, note: &str) -> Outcome {
    match run.code {
        Some(0) => Outcome::Passed(note.to_owned()),
        Some(code) => Outcome::Failed(format!("exit code {code}: {}", run.why())),
        None => Outcome::Failed(format!("ended by a signal or never started: {}", run.why())),
    }
}

fn fmt() -> Outcome {
    let unformatted = |run: &Run| {
        let place = run.last_with("Diff in").unwrap_or_else(|| run.why());
        Outcome::Failed(format!("run `cargo fmt --all`: {place}"))
    };
    let run = Cmd::cargo("fmt --all --check").run();
    if !run.ok() {
        return unformatted(&run);
    }
    for manifest in OUTSIDE.iter().filter(|manifest| root().join(manifest).exists()) {
        let run = Cmd::cargo("fmt --check --manifest-path").arg(manifest).run();
        if !run.ok() {
            return unformatted(&run);
        }
    }
    Outcome::Passed(String::new())
}

fn lockfile() -> Outcome {
    let run = Cmd::cargo("metadata --locked --quiet --format-version 1").quiet();
    match run.ok() {
        true => Outcome::Passed(String::new()),
        false => Outcome::Failed(format!("Cargo.lock is not up to date: {}", run.why())),
    }
}

fn licence_step() -> Outcome {
    let own = licences::run();
    if matches!(own, Outcome::Failed(_)) {
        return own;
    }
    if !Cmd::cargo("deny --version").works() {
        println!("SKIPPED licences (second opinion): cargo deny is not installed");
        return own;
    }
    let run = Cmd::cargo("deny --all-features check licenses bans sources").run();
    judge(&run, "cargo deny agrees")
}

fn clippy() -> Outcome {
    let run = Cmd::cargo("clippy --workspace --all-targets -- -D warnings").run();
    if !run.ok() {
        return judge(&run, "");
    }
    // Code behind features that are off by default is looked at too.
    judge(&Cmd::cargo("clippy --workspace --all-targets --all-features -- -D warnings").run(), "")
}

/// The feature sets of one crate: none, default, each one alone, all; without repetitions.
fn feature_sets(package: &Package) -> Vec<String> {
    let mut sets = vec![String::new()];
    if package.features.is_empty() {
        return sets;
    }
    sets.push("--no-default-features".into());
    for feature in package.features.iter().filter(|feature| *feature != "default") {
        sets.push(format!("--no-default-features --features {feature}"));
    }
    sets.push("--all-features".into());
    sets
}

fn features() -> Outcome {
    let metadata = match Metadata::members() {
        Ok(metadata) => metadata,
        Err(error) => return Outcome::Failed(error),
    };
    let mut failed = Vec::new();
    let mut count = 0usize;
    for package in &metadata.packages {
        for set in feature_sets(package) {
            count += 1;
            if !Cmd::cargo("check --quiet -p").arg(&package.name).args(&set).run().ok() {
                failed.push(format!("{} {set}", package.name));
            }
        }
    }
    match failed.is_empty() {
        true => Outcome::Passed(format!("{count} builds")),
        false => Outcome::Failed(format!("does not build alone: {}", failed.join("; "))),
    }
}

fn no_std() -> Outcome {
    let metadata = match Metadata::members() {
        Ok(metadata) => metadata,
        Err(error) => return Outcome::Failed(error),
    };
    let (mut missing, mut failed) = (Vec::new(), Vec::new());
    for target in BARE_TARGETS {
        if let Err(why) = bare_metal::need_target(target) {
            println!("SKIPPED no-std for {target}: {why}");
            missing.push(why);
            continue;
        }
        for name in PURE {
            let Some(package) = metadata.package(name) else {
                failed.push(format!("{name} is not in the workspace"));
                continue;
            };
            for set in bare_sets(package) {
                let build = Cmd::cargo("build --quiet --no-default-features --target").arg(target);
                let run = build.arg("-p").arg(name).args(set).run();
                if !run.ok() {
                    failed.push(format!("{name} {set} for {target}: {}", run.why()));
                }
            }
        }
    }
    match (failed.is_empty(), missing.is_empty()) {
        (false, _) => Outcome::Failed(failed.join("; ")),
        (true, false) => Outcome::Skipped(missing.join("; ")),
        (true, true) => Outcome::Passed(BARE_TARGETS.join(", ")),
    }
}

/// The feature sets that make sense without an operating system.
fn bare_sets(package: &Package) -> &'static [&'static str] {
    match package.features.iter().any(|feature| feature == "alloc") {
        true => &["", "--features alloc"],
        false => &[""],
    }
}

fn tests() -> Outcome {
    if Cmd::cargo("nextest --version").works() {
        let run = Cmd::cargo("nextest run --workspace --no-fail-fast").run();
        let summary = run.last_with("Summary").unwrap_or("no summary").to_owned();
        let failed = run.last_with("FAIL [").unwrap_or_default();
        return match run.ok() {
            true => Outcome::Passed(summary),
            false => Outcome::Failed(format!("{summary}; the last one: {failed}")),
        };
    }
    let run = Cmd::cargo("test --workspace --no-fail-fast --lib --bins --tests").run();
    judge(&run, &total_of_results(&run))
}

fn doc_tests() -> Outcome {
    let run = Cmd::cargo("test --workspace --doc").run();
    judge(&run, &total_of_results(&run))
}

/// Adds up the `test result:` lines that one run printed, one per test program.
fn total_of_results(run: &Run) -> String {
    let number = |line: &str, word: &str| -> u64 {
        let before = line.split(word).next().unwrap_or_default();
        before.split_whitespace().next_back().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let results = run.lines.iter().filter(|line| line.trim_start().starts_with("test result:"));
    let (passed, failed) = results.fold((0, 0), |(passed, failed), line| {
        (passed + number(line, " passed"), failed + number(line, " failed"))
    });
    format!("{passed} passed, {failed} failed")
}

fn docs() -> Outcome {
    let doc = Cmd::cargo("doc --workspace --no-deps --all-features");
    judge(&doc.env("RUSTDOCFLAGS", "-D warnings").run(), "")
}

fn instructions() -> Outcome {
    crate::instructions::run(&[])
}

fn fuzz_replay() -> Outcome {
    if !root().join("fuzz/Cargo.toml").exists() {
        return Outcome::Skipped("fuzz/ does not exist yet".into());
    }
    let run = Cmd::cargo("test --manifest-path fuzz/Cargo.toml").run();
    judge(&run, &total_of_results(&run))
}

/// Builds lvsd as a newcomer would and runs it; `words` are its arguments.
fn lvsd(words: &str) -> Outcome {
    let build = Cmd::cargo("build --release -p lvsd").run();
    if !build.ok() {
        return judge(&build, "");
    }
    let binary = match Metadata::members() {
        Ok(metadata) => metadata.target_dir.join("release/lvsd"),
        Err(error) => return Outcome::Failed(error),
    };
    let limited = Cmd::new("timeout").args("--foreground --kill-after=30").arg(LAB_LIMIT);
    verdict(&limited.arg(binary).args(words).run())
}

/// What a demo or a lab means: exit code and a `PASS` line agree, or it is a failure.
fn verdict(run: &Run) -> Outcome {
    let pass_line = run.last_with("PASS");
    match (run.code, pass_line) {
        (Some(0), Some(line)) => Outcome::Passed(line.to_owned()),
        (Some(0), None) => Outcome::Failed("ended with 0 but printed no PASS line".into()),
        (Some(EXIT_SKIP), _) => Outcome::Skipped(run.last().to_owned()),
        (Some(124), _) => Outcome::Failed(format!("not done after {LAB_LIMIT} s")),
        _ => judge(run, ""),
    }
}

fn demo() -> Outcome {
    lvsd("demo")
}

fn lab(scenario: &str) -> Outcome {
    lvsd(&format!("lab run {scenario}"))
}

fn miri() -> Outcome {
    let is_there = || Cmd::new("rustup").args("run nightly cargo miri --version").works();
    if !is_there() {
        Cmd::new("rustup").args("component add --toolchain nightly miri rust-src").run();
    }
    if !is_there() {
        return Outcome::Skipped("miri cannot be added to the nightly tool chain".into());
    }
    // Of the pure crates it is the one with unsafe code. Its exhaustive tests would take hours here and
    // use none of that, so only the modules with unsafe code and their users run.
    let cmd = Cmd::new("rustup").args("run nightly cargo miri test -p lvs-core --lib");
    let cmd = cmd.args("-- io::burst io::mem prefetch").env("PROPTEST_CASES", "4");
    // Property tests keep a file of failures, which miri's isolation forbids.
    let run = cmd.env("MIRIFLAGS", "-Zmiri-disable-isolation").run();
    judge(&run, &total_of_results(&run))
}

fn loom() -> Outcome {
    // The flag reaches every dependency, so this build stands beside the other ones.
    let cmd = Cmd::cargo("test -p lvs-core -p lvs-director -p lvsd --lib --target-dir target/loom");
    let cmd = cmd.args("-- shared:: workers::ring run::swap");
    let run = cmd.env("RUSTFLAGS", "--cfg loom").run();
    judge(&run, &total_of_results(&run))
}

fn properties() -> Outcome {
    let tests = Cmd::cargo("test --workspace --release");
    // Simulations take their seeds from the second one.
    let run = tests.env("PROPTEST_CASES", "20000").env("LVS_SEEDS", "1000").run();
    judge(&run, &total_of_results(&run))
}

fn mutants() -> Outcome {
    if !Cmd::cargo("mutants --version").works() {
        return Outcome::Skipped("cargo mutants is not installed".into());
    }
    judge(&Cmd::cargo("mutants -p lvs-nat -p lvs-sched").run(), "")
}

fn fuzz() -> Outcome {
    crate::fuzz::fuzz(None, 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(code: Option<i32>, lines: &[&str]) -> Run {
        Run { code, lines: lines.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn a_lab_passes_only_with_exit_code_and_pass_line() {
        assert!(matches!(verdict(&run(Some(0), &["PASS all"])), Outcome::Passed(_)));
        assert!(matches!(verdict(&run(Some(0), &["nothing to say"])), Outcome::Failed(_)));
        assert!(matches!(verdict(&run(Some(1), &["PASS one", "FAIL two"])), Outcome::Failed(_)));
        assert!(matches!(verdict(&run(None, &["PASS one"])), Outcome::Failed(_)));
    }

    #[test]
    fn a_lab_that_cannot_run_here_is_skipped_with_its_own_words() {
        let outcome = verdict(&run(Some(77), &["no user namespaces; try `lvsd demo`"]));
        assert_eq!(outcome, Outcome::Skipped("no user namespaces; try `lvsd demo`".into()));
    }

    #[test]
    fn results_of_several_test_programs_add_up() {
        let run = run(
            Some(0),
            &[
                "test result: ok. 12 passed; 0 failed; 0 ignored",
                "   Doc-tests lvs_core",
                "test result: FAILED. 3 passed; 2 failed; 0 ignored",
            ],
        );
        assert_eq!(total_of_results(&run), "15 passed, 2 failed");
    }

    #[test]
    fn every_feature_is_tried_alone_and_with_the_others() {
        let metadata = Metadata::parse(
            r#"{"packages":[{"id":"a","name":"a","features":{"default":[],"alloc":[]}},
                            {"id":"b","name":"b"}]}"#,
        )
        .unwrap();
        let sets = |name| feature_sets(metadata.package(name).unwrap());
        assert_eq!(sets("b"), [""]);
        assert_eq!(
            sets("a"),
            [
                "",
                "--no-default-features",
                "--no-default-features --features alloc",
                "--all-features"
            ]
        );
    }
}
