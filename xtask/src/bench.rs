//! `cargo xtask bench NAME`: measurements as ratios inside one run.

use crate::sh::{Cmd, Outcome, root};

/// The task: hands over to the benchmark program, which prints its table.
pub(crate) fn run(args: &[String]) -> Outcome {
    let Some(name) = args.first() else {
        return Outcome::Failed("which one? known: afpacket".into());
    };
    if name != "afpacket" {
        return Outcome::Failed(format!("no benchmark `{name}`; known: afpacket"));
    }
    if !root().join("benches/Cargo.toml").exists() {
        return Outcome::Skipped("benches/ does not exist yet".into());
    }
    let mut cmd = Cmd::cargo("run --release --package lvs-benches --bin").arg(name).arg("--");
    for arg in args.iter().skip(1) {
        cmd = cmd.arg(arg);
    }
    let run = cmd.run();
    match run.code {
        Some(0) => Outcome::Passed(run.last().to_owned()),
        Some(crate::sh::EXIT_SKIP) => Outcome::Skipped(run.last().to_owned()),
        _ => Outcome::Failed(run.last().to_owned()),
    }
}
