//! `cargo xtask instructions [--bless]`: instructions a packet of the hot functions, under callgrind,
//! beside those committed in `benches/instructions.json`.
//!
//! Time on a shared machine tells little from one day to the next; instructions are nearly exact. The
//! floors are counted too: a slow floor would make every goal easy. The build is the portable one, for
//! the processor that every x86-64 has.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::meta::Metadata;
use crate::sh::{Cmd, Outcome, root};

const COMMITTED: &str = "benches/instructions.json";
/// Allowed difference, in percent; code layout and compiler patches move counts a little.
const TOLERANCE: f64 = 3.0;
const PREFIX: &str = "measured_";

type Counts = BTreeMap<String, f64>;

/// The task and the CI step.
pub(crate) fn run(args: &[String]) -> Outcome {
    if !(cfg!(target_arch = "x86_64") && has_valgrind()) {
        return Outcome::Skipped("counting needs valgrind on x86-64: apt install valgrind".into());
    }
    let counts = match count() {
        Ok(counts) => counts,
        Err(why) => return Outcome::Failed(why),
    };
    let file = root().join(COMMITTED);
    if args.iter().any(|arg| arg == "--bless") {
        let text = format!("{:#}\n", json!({"tolerance_percent": TOLERANCE, "counts": counts}));
        return match fs::write(&file, text) {
            Ok(()) => Outcome::Passed(format!("{COMMITTED} is written; look at its difference")),
            Err(error) => Outcome::Failed(format!("{COMMITTED}: {error}")),
        };
    }
    match fs::read_to_string(&file).map_err(|e| e.to_string()).and_then(|text| committed(&text)) {
        Ok(before) => compare(&before, &counts),
        Err(why) => Outcome::Failed(format!("{COMMITTED}: {why}")),
    }
}

/// Whether valgrind is there; where this runs as root with apt it is installed.
fn has_valgrind() -> bool {
    let works = || Cmd::new("valgrind").arg("--version").works();
    let is_root = || Cmd::new("id").arg("-u").quiet().last() == "0";
    works() || (is_root() && Cmd::new("apt-get").args("install --yes valgrind").works() && works())
}

/// Builds the program that calls the functions, and counts.
fn count() -> Result<Counts, String> {
    let target = Metadata::members()?.target_dir.join("portable");
    // Flags of the environment would build for another processor.
    let build = Cmd::cargo("build --release --package lvs-benches --bin count --target-dir");
    let build = build.arg(&target).env("RUSTFLAGS", "").run();
    if !build.ok() {
        return Err(build.why().to_owned());
    }
    let output = target.join("callgrind.out");
    let program = target.join("release/count");
    let run = Cmd::new("valgrind")
        .args("--tool=callgrind --compress-strings=no --compress-pos=no")
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(program)
        .run();
    if !run.ok() {
        return Err(run.why().to_owned());
    }
    let packets = run.lines.iter().filter_map(|line| {
        let (name, packets) = line.split_once(' ')?;
        Some((name.to_owned(), packets.trim().parse::<f64>().ok()?))
    });
    read(&output, &packets.collect())
}

fn read(output: &Path, packets: &Counts) -> Result<Counts, String> {
    let text = fs::read_to_string(output).map_err(|e| format!("{}: {e}", output.display()))?;
    let costs = inclusive(&text);
    packets
        .iter()
        .map(|(name, packets)| {
            let cost = costs.get(name).ok_or(format!("callgrind saw no {PREFIX}{name}"))?;
            // To a hundredth: more is noise.
            Ok((name.clone(), (cost / packets * 100.0).round() / 100.0))
        })
        .collect()
}

/// Inclusive cost of each measured function, from the lines about the calls of it: `cfn=` names the
/// callee, `calls=` follows, and the line after that ends with the cost.
fn inclusive(text: &str) -> Counts {
    let mut costs = Counts::new();
    let mut callee = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("cfn=") {
            callee = name.split(PREFIX).nth(1).map(|rest| {
                let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
                rest.chars().take_while(is_name).collect::<String>()
            });
        } else if line.starts_with("calls=") {
            let cost = lines.next().and_then(|line| line.split(' ').next_back()?.parse().ok());
            if let (Some(name), Some(cost)) = (callee.take(), cost) {
                let cost: f64 = cost;
                *costs.entry(name).or_default() += cost;
            }
        }
    }
    costs
}

fn committed(text: &str) -> Result<Counts, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let counts = value["counts"].as_object().ok_or("no counts")?;
    let pair = |(name, count): (&String, &Value)| Some((name.clone(), count.as_f64()?));
    counts.iter().map(|entry| pair(entry).ok_or("a count is no number".into())).collect()
}

fn compare(before: &Counts, now: &Counts) -> Outcome {
    let mut text = String::new();
    let mut odd = Vec::new();
    for name in before.keys().chain(now.keys().filter(|name| !before.contains_key(*name))) {
        let (old, new) = (before.get(name), now.get(name));
        let percent = match (old, new) {
            (Some(old), Some(new)) => (new / old - 1.0) * 100.0,
            _ => f64::NAN,
        };
        // Not within the tolerance, or not there on one side.
        if percent.is_nan() || percent.abs() > TOLERANCE {
            odd.push(name.as_str());
        }
        let show = |count: Option<&f64>| count.map_or("-".into(), |count| format!("{count:.1}"));
        let _ = writeln!(text, "{name:<18} {:>9} {:>9} {percent:>+7.1} %", show(old), show(new));
    }
    println!("instructions a packet  committed       now\n{text}");
    match odd.is_empty() {
        true => Outcome::Passed(format!("{} counts within {TOLERANCE} %", now.len())),
        false => Outcome::Failed(format!(
            "{} moved by more than {TOLERANCE} %; if that is meant, `cargo xtask instructions --bless`",
            odd.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
fn=count::main
10 5
cfn=count::measured_siphash
calls=1 0
12 4096
cfn=other::function
calls=7 0
13 99
cfn=count::measured_director_syn::h0123456789abcdef
calls=1 0
14 1000
";

    fn counts(pairs: &[(&str, f64)]) -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn costs_are_those_of_the_calls_of_measured_functions() {
        let wanted = counts(&[("siphash", 4096.0), ("director_syn", 1000.0)]);
        assert_eq!(inclusive(OUTPUT), wanted);
    }

    #[test]
    fn what_moved_or_is_missing_fails_in_both_directions() {
        let before = counts(&[("a", 100.0), ("b", 50.0)]);
        let passes = |now: &Counts| matches!(compare(&before, now), Outcome::Passed(_));
        assert!(passes(&counts(&[("a", 102.9), ("b", 48.6)])));
        assert!(!passes(&counts(&[("a", 103.1), ("b", 50.0)])));
        assert!(!passes(&counts(&[("a", 96.9), ("b", 50.0)])));
        assert!(!passes(&counts(&[("a", 100.0)])));
        assert!(!passes(&counts(&[("a", 100.0), ("b", 50.0), ("c", 1.0)])));
    }

    #[test]
    fn the_committed_counts_can_be_read_and_have_the_floors() {
        let text = fs::read_to_string(root().join(COMMITTED)).unwrap();
        let counts = committed(&text).unwrap();
        assert!(counts.contains_key("floor_translate") && counts.contains_key("floor_memory"));
    }
}
