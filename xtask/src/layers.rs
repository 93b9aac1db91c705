//! `cargo xtask layers`: which crate may know which, and where unsafe code may stand.
//!
//! The table [`RULES`] is the architecture in a form that can fail: a crate that is not in it, an
//! edge that it does not list, a lint line that is missing and an `unsafe_code` exception at a place
//! that was never audited are all errors. Cargo already refuses cycles.

use core::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::meta::{Dependency, Kind, Metadata, Package};
use crate::sh::Outcome;

/// What one crate may depend on.
struct Rule {
    name: &'static str,
    /// Our crates, in `[dependencies]`.
    ours: Edges,
    /// Our crates, in `[dev-dependencies]`, besides `ours`.
    ours_in_tests: Edges,
    /// Other people's crates, in `[dependencies]`.
    others: Edges,
    safety: Safety,
    /// Root file says `no_std`.
    no_std: bool,
}

enum Edges {
    /// These and no others.
    Only(&'static [&'static str]),
    /// Whatever it needs, as long as it is not a program of ours.
    Any,
}

enum Safety {
    /// `#![forbid(unsafe_code)]` in every root file.
    Forbid,
    /// `#![deny(unsafe_code)]`, lifted in exactly these files below `src`.
    DenyExcept(&'static [&'static str]),
    /// Unsafe code with a SAFETY note on each block, which clippy checks.
    Documented,
}

use Edges::{Any, Only};
use Safety::{DenyExcept, Documented, Forbid};

/// An architecture change starts here and in `docs/decisions/`.
const RULES: &[Rule] = &[
    Rule {
        name: "lvs-core",
        ours: Only(&[]),
        ours_in_tests: Only(&["lvs-testkit"]),
        others: Only(&["zerocopy"]),
        safety: DenyExcept(&["io/burst.rs", "prefetch.rs"]),
        no_std: true,
    },
    Rule {
        name: "lvs-sched",
        ours: Only(&["lvs-core"]),
        ours_in_tests: Only(&["lvs-testkit"]),
        others: Only(&[]),
        safety: Forbid,
        no_std: true,
    },
    Rule {
        name: "lvs-nat",
        ours: Only(&["lvs-core"]),
        ours_in_tests: Only(&["lvs-testkit"]),
        others: Only(&["zerocopy"]),
        safety: Forbid,
        no_std: true,
    },
    Rule {
        name: "lvs-director",
        ours: Only(&["lvs-core", "lvs-nat"]),
        // Schedulers arrive as values: the tests pass real ones, the pipeline never names one.
        ours_in_tests: Only(&["lvs-sched", "lvs-testkit"]),
        others: Only(&[]),
        safety: Forbid,
        no_std: true,
    },
    Rule {
        name: "lvs-io-afpacket",
        ours: Only(&["lvs-core"]),
        // Its tests make namespaces (lvs-os) and frames (testkit).
        ours_in_tests: Only(&["lvs-os", "lvs-testkit"]),
        others: Only(&["libc"]),
        safety: Documented,
        no_std: false,
    },
    Rule {
        name: "lvs-os",
        ours: Only(&[]),
        ours_in_tests: Only(&[]),
        others: Only(&["libc"]),
        safety: Documented,
        no_std: false,
    },
    Rule {
        name: "lvs-testkit",
        ours: Any,
        ours_in_tests: Any,
        others: Any,
        safety: Forbid,
        no_std: false,
    },
    Rule {
        name: "lvsd",
        ours: Any,
        ours_in_tests: Any,
        others: Any,
        safety: Forbid,
        no_std: false,
    },
    Rule {
        name: "lvs-benches",
        ours: Any,
        ours_in_tests: Any,
        others: Any,
        safety: Documented,
        no_std: false,
    },
    Rule {
        name: "xtask",
        ours: Only(&[]),
        ours_in_tests: Only(&[]),
        others: Only(&["serde_json"]),
        safety: Forbid,
        no_std: false,
    },
];

/// Nobody depends on these: they are programs.
const PROGRAMS: &[&str] = &["lvsd", "xtask", "lvs-benches"];

/// What tests of a library may use besides what the library itself may: oracles and generators.
const TEST_TOOLS: &[&str] = &[
    "proptest",
    "loom",
    "smoltcp",
    "pnet_packet",
    "hashbrown",
    "siphasher",
    "pcap-file",
    "serde_json",
];

impl Edges {
    fn allows(&self, name: &str) -> bool {
        match self {
            Only(names) => names.contains(&name),
            Any => !PROGRAMS.contains(&name),
        }
    }

    fn shown(&self) -> String {
        match self {
            Only([]) => "nothing".into(),
            Only(names) => names.join(", "),
            Any => "anything but a program".into(),
        }
    }
}

impl Rule {
    /// The complaint about one dependency, if there is one.
    fn judge(&self, dependency: &Dependency, is_ours: bool) -> Option<String> {
        let name = dependency.name.as_str();
        let in_tests = dependency.kind == Kind::Dev;
        let (base, kind) = match is_ours {
            true => (&self.ours, "our crates"),
            false => (&self.others, "third-party crates"),
        };
        let fine = base.allows(name)
            || (in_tests && is_ours && self.ours_in_tests.allows(name))
            || (in_tests && !is_ours && TEST_TOOLS.contains(&name));
        let allowed = match in_tests {
            false => base.shown(),
            true if is_ours => format!("{}; in tests {}", base.shown(), self.ours_in_tests.shown()),
            true => format!("{}; in tests {}", base.shown(), TEST_TOOLS.join(", ")),
        };
        let edge = format!("{} -> {name} ({:?})", self.name, dependency.kind);
        (!fine).then(|| format!("{edge}: of {kind} it may know {allowed}"))
    }
}

/// The task.
pub(crate) fn run() -> Outcome {
    let metadata = match Metadata::members() {
        Ok(metadata) => metadata,
        Err(error) => return Outcome::Failed(error),
    };
    let mut faults = edge_faults(&metadata);
    for package in &metadata.packages {
        if let Some(rule) = rule_of(&package.name) {
            faults.extend(source_faults(rule, package, &|path| std::fs::read_to_string(path).ok()));
        }
    }
    if faults.is_empty() {
        return Outcome::Passed(format!("{} crates keep to their layers", metadata.packages.len()));
    }
    let mut all = format!("{} layer faults (the rules are in xtask/src/layers.rs)", faults.len());
    for fault in faults {
        let _ = write!(all, "\n  {fault}");
    }
    Outcome::Failed(all)
}

fn rule_of(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

fn edge_faults(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let Some(rule) = rule_of(&package.name) else {
            faults.push(format!("{}: no rule; add one to the table", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let is_ours = metadata.package(&dependency.name).is_some();
            faults.extend(rule.judge(dependency, is_ours));
        }
    }
    faults
}

/// Checks lint lines in the manifest and the sources. `read` gives the text of a file.
fn source_faults(
    rule: &Rule,
    package: &Package,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let manifest = read(&package.manifest).unwrap_or_default();
    if !manifest.replace(' ', "").contains("[lints]\nworkspace=true") {
        faults.push(format!("{}: the manifest lacks `[lints] workspace = true`", package.name));
    }
    let mut require = |line: &str| {
        for root in &package.roots {
            if !has_line(&read(root).unwrap_or_default(), line) {
                faults.push(format!("{}: lacks `{line}`", root.display()));
            }
        }
    };
    match rule.safety {
        Forbid => require("#![forbid(unsafe_code)]"),
        DenyExcept(_) => require("#![deny(unsafe_code)]"),
        Documented => {}
    }
    if rule.no_std {
        require("#![no_std]");
    }
    if let DenyExcept(audited) = rule.safety {
        let src = package.manifest.with_file_name("src");
        for file in rust_files(&src) {
            let inside = file.strip_prefix(&src).unwrap_or(&file).to_string_lossy().into_owned();
            let text = read(&file).unwrap_or_default();
            if lifts_the_ban(&text) && !audited.contains(&inside.as_str()) {
                faults.push(format!(
                    "{}: lifts `unsafe_code`; the audited modules are {}",
                    file.display(),
                    audited.join(", ")
                ));
            }
        }
    }
    faults
}

fn has_line(text: &str, wanted: &str) -> bool {
    text.lines().any(|line| line.trim() == wanted)
}

/// Whether any attribute names the lint other than to deny or forbid it. Comments do not count.
fn lifts_the_ban(text: &str) -> bool {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim())
        .filter(|line| !matches!(*line, "#![deny(unsafe_code)]" | "#![forbid(unsafe_code)]"))
        .any(|line| line.contains("unsafe_code"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metadata of a workspace with all our crates, and one more edge.
    fn workspace_with(from: &str, to: &str, kind: &str) -> Metadata {
        let mut packages: Vec<String> = RULES
            .iter()
            .map(|rule| {
                let edge = format!(r#"{{"name":"{to}","kind":{kind}}}"#);
                let edges = if rule.name == from { edge.as_str() } else { "" };
                format!(r#"{{"id":"{0}","name":"{0}","dependencies":[{edges}]}}"#, rule.name)
            })
            .collect();
        if rule_of(from).is_none() {
            packages.push(format!(r#"{{"id":"x","name":"{from}","dependencies":[]}}"#));
        }
        Metadata::parse(&format!(r#"{{"packages":[{}]}}"#, packages.join(","))).unwrap()
    }

    fn faults(from: &str, to: &str, kind: &str) -> Vec<String> {
        edge_faults(&workspace_with(from, to, kind))
    }

    #[test]
    fn every_edge_of_the_design_passes() {
        for (from, to) in [
            ("lvs-sched", "lvs-core"),
            ("lvs-nat", "lvs-core"),
            ("lvs-director", "lvs-core"),
            ("lvs-director", "lvs-nat"),
            ("lvs-io-afpacket", "lvs-core"),
            ("lvs-io-afpacket", "libc"),
            ("lvs-os", "libc"),
            ("lvsd", "lvs-sched"),
            ("lvsd", "lvs-testkit"),
            ("lvs-testkit", "lvs-director"),
        ] {
            assert_eq!(faults(from, to, "null"), Vec::<String>::new(), "{from} -> {to}");
        }
    }

    #[test]
    fn an_edge_that_points_upward_is_a_fault() {
        for (from, to) in [
            ("lvs-core", "lvs-nat"),
            ("lvs-core", "lvs-testkit"),
            ("lvs-sched", "lvs-nat"),
            ("lvs-nat", "lvs-sched"),
            ("lvs-director", "lvs-sched"),
            ("lvs-io-afpacket", "lvs-os"),
            ("lvs-io-afpacket", "lvs-director"),
            ("lvs-os", "lvs-core"),
            ("lvs-testkit", "lvsd"),
            ("lvs-testkit", "xtask"),
        ] {
            let found = faults(from, to, "null");
            assert_eq!(found.len(), 1, "{from} -> {to}: {found:?}");
            assert!(found[0].starts_with(&format!("{from} -> {to}")), "{found:?}");
            assert_eq!(faults(from, to, r#""build""#).len(), 1, "build {from} -> {to}");
        }
    }

    #[test]
    fn tests_may_use_the_kit_and_the_oracles_but_not_more() {
        for (from, to) in [
            ("lvs-core", "lvs-testkit"),
            ("lvs-director", "lvs-sched"),
            ("lvs-nat", "pnet_packet"),
            ("lvs-core", "proptest"),
            ("lvs-io-afpacket", "lvs-os"),
        ] {
            assert_eq!(faults(from, to, r#""dev""#), Vec::<String>::new(), "{from} -> {to}");
        }
        for (from, to) in [
            ("lvs-core", "lvs-nat"),
            ("lvs-nat", "lvsd"),
            ("lvs-sched", "rand"),
            ("lvs-os", "lvs-core"),
        ] {
            assert_eq!(faults(from, to, r#""dev""#).len(), 1, "{from} -> {to}");
        }
    }

    #[test]
    fn a_third_party_crate_in_a_pure_crate_is_a_fault() {
        for (from, to) in
            [("lvs-sched", "zerocopy"), ("lvs-core", "libc"), ("lvs-director", "hashbrown")]
        {
            assert_eq!(faults(from, to, "null").len(), 1, "{from} -> {to}");
        }
    }

    #[test]
    fn a_crate_without_a_rule_is_a_fault() {
        assert_eq!(
            faults("lvs-surprise", "", "null"),
            ["lvs-surprise: no rule; add one to the table"]
        );
    }

    fn source(rule: &str, root: &str) -> Vec<String> {
        let package = Package {
            id: rule.into(),
            name: rule.into(),
            version: String::new(),
            license: None,
            manifest: "/nowhere/Cargo.toml".into(),
            dependencies: Vec::new(),
            features: Vec::new(),
            roots: vec!["/nowhere/src/lib.rs".into()],
        };
        let read = |path: &Path| {
            let manifest = path.ends_with("Cargo.toml");
            Some(if manifest { "[lints]\nworkspace = true\n".into() } else { root.into() })
        };
        source_faults(rule_of(rule).unwrap(), &package, &read)
    }

    #[test]
    fn missing_lint_lines_are_faults() {
        assert!(source("lvs-nat", "#![no_std]\n#![forbid(unsafe_code)]\n").is_empty());
        assert_eq!(source("lvs-nat", "#![no_std]\n// #![forbid(unsafe_code)]\n").len(), 1);
        assert_eq!(source("lvs-core", "#![no_std]\n#![allow(unsafe_code)]\n").len(), 1);
        assert_eq!(source("lvs-sched", "").len(), 2);
        assert!(source("lvs-os", "").is_empty());
    }

    #[test]
    fn an_exception_from_the_ban_is_seen_in_any_spelling() {
        for text in [
            "#![allow(unsafe_code, reason = \"x\")]",
            "#[expect(unsafe_code)]\nmod x;",
            "#[allow(\n    unsafe_code,\n)]",
        ] {
            assert!(lifts_the_ban(text), "{text}");
        }
        for text in ["#![deny(unsafe_code)]", "// allow(unsafe_code) is not for us", "fn x() {}"] {
            assert!(!lifts_the_ban(text), "{text}");
        }
    }
}
