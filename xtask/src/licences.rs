//! `cargo xtask licences`: everything a shipped crate needs has a licence that we accept.
//!
//! A light check that needs no further tool: it reads the licence expression of every package that
//! the shipped crates reach through normal and build dependencies. `cargo deny` looks deeper, and
//! the `licences` step of `cargo xtask ci` runs it too where it is installed.

use std::collections::{BTreeSet, VecDeque};

use crate::meta::Metadata;
use crate::sh::Outcome;

/// The licences we accept; `deny.toml` has the same list (a test compares them).
const ALLOWED: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "CC0-1.0",
    "BSL-1.0",
    "Unlicense",
];

/// Members that nobody ships.
const NOT_SHIPPED: &[&str] = &["xtask", "lvs-benches"];

/// The task.
pub(crate) fn run() -> Outcome {
    match Metadata::graph() {
        Ok(metadata) => judge(&metadata),
        Err(error) => Outcome::Failed(error),
    }
}

fn judge(metadata: &Metadata) -> Outcome {
    let reached = reached(metadata);
    let mut faults = Vec::new();
    for package in metadata.packages.iter().filter(|package| reached.contains(&package.id)) {
        let name = format!("{} {}", package.name, package.version);
        match package.license.as_deref() {
            None => faults.push(format!("{name}: states no licence")),
            Some(expression) => match accepts(expression) {
                Some(true) => {}
                Some(false) => faults.push(format!("{name}: `{expression}` is not accepted")),
                None => faults.push(format!("{name}: cannot read `{expression}`")),
            },
        }
    }
    if reached.is_empty() {
        return Outcome::Failed("no package to look at".into());
    }
    match faults.is_empty() {
        true => Outcome::Passed(format!("{} packages, all with accepted licences", reached.len())),
        false => Outcome::Failed(faults.join("\n  ")),
    }
}

/// Ids of the shipped members and of all they need to be built and to run.
fn reached(metadata: &Metadata) -> BTreeSet<String> {
    // A member is a package with a local manifest: those are the ones without a registry source.
    let mut queue: VecDeque<&String> = metadata
        .packages
        .iter()
        .filter(|package| package.id.starts_with("path+") && !NOT_SHIPPED.contains(&&*package.name))
        .map(|package| &package.id)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = queue.pop_front() {
        if seen.insert(id.clone()) {
            queue.extend(metadata.needs.get(id).into_iter().flatten());
        }
    }
    seen
}

/// Whether an SPDX expression leaves a way that we accept; `None` when it cannot be read.
///
/// `OR` needs one side, `AND` both and binds tighter; the old `A/B` means `A OR B`. A licence `WITH`
/// an exception grants more than the licence alone, so the exception is not looked at.
fn accepts(expression: &str) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: VecDeque<&str> = spaced.split_whitespace().collect();
    let answer = any_of(&mut words)?;
    words.is_empty().then_some(answer)
}

fn any_of(words: &mut VecDeque<&str>) -> Option<bool> {
    let mut answer = all_of(words)?;
    while words.front() == Some(&"OR") {
        words.pop_front();
        answer |= all_of(words)?;
    }
    Some(answer)
}

fn all_of(words: &mut VecDeque<&str>) -> Option<bool> {
    let mut answer = one(words)?;
    while words.front() == Some(&"AND") {
        words.pop_front();
        answer &= one(words)?;
    }
    Some(answer)
}

fn one(words: &mut VecDeque<&str>) -> Option<bool> {
    let answer = match words.pop_front()? {
        "(" => {
            let inner = any_of(words)?;
            (words.pop_front()? == ")").then_some(inner)?
        }
        "OR" | "AND" | "WITH" | ")" => return None,
        name => ALLOWED.contains(&name),
    };
    if words.front() == Some(&"WITH") {
        words.pop_front();
        words.pop_front()?;
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sh::root;

    #[test]
    fn expressions_are_read_with_their_precedence() {
        for (expression, wanted) in [
            ("MIT", Some(true)),
            ("MIT OR Apache-2.0", Some(true)),
            ("GPL-3.0-only OR MIT", Some(true)),
            ("GPL-3.0-only", Some(false)),
            ("MIT AND GPL-2.0", Some(false)),
            ("GPL-2.0 AND MIT OR ISC", Some(true)),
            ("GPL-2.0 AND (MIT OR ISC)", Some(false)),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", Some(true)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("MIT/Apache-2.0", Some(true)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT Apache-2.0", None),
        ] {
            assert_eq!(accepts(expression), wanted, "{expression}");
        }
    }

    fn graph(license_of_leaf: &str, kind: &str) -> Metadata {
        let json = r#"{"packages":[
            {"id":"path+a","name":"lvs-core","license":"MIT OR Apache-2.0"},
            {"id":"path+x","name":"xtask","license":"MIT OR Apache-2.0"},
            {"id":"reg+b","name":"leaf","version":"1.0.0","license":LICENSE}],
          "resolve":{"nodes":[
            {"id":"path+a","deps":[{"pkg":"reg+b","dep_kinds":[{"kind":KIND}]}]},
            {"id":"path+x","deps":[{"pkg":"reg+b","dep_kinds":[{"kind":null}]}]},
            {"id":"reg+b","deps":[]}]}}"#;
        Metadata::parse(&json.replace("LICENSE", license_of_leaf).replace("KIND", kind)).unwrap()
    }

    #[test]
    fn a_copyleft_or_unstated_licence_below_a_shipped_crate_is_a_fault() {
        for kind in ["null", r#""build""#] {
            for license in [r#""MPL-2.0""#, "null", r#""see file""#] {
                assert!(matches!(judge(&graph(license, kind)), Outcome::Failed(_)), "{license}");
            }
            assert!(matches!(judge(&graph(r#""ISC""#, kind)), Outcome::Passed(_)));
        }
    }

    #[test]
    fn what_only_tests_and_tasks_use_is_not_shipped() {
        assert!(matches!(judge(&graph(r#""MPL-2.0""#, r#""dev""#)), Outcome::Passed(_)));
    }

    #[test]
    fn the_list_is_the_one_in_deny_toml() {
        let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
        let list = text.split("allow = [").nth(1).unwrap().split(']').next().unwrap();
        let listed: BTreeSet<&str> = list
            .split(',')
            .map(|item| item.trim().trim_matches('"'))
            .filter(|s| !s.is_empty())
            .collect();
        assert_eq!(listed, ALLOWED.iter().copied().collect());
    }
}
