//! `cargo xtask bench [NAME]`: measurements as ratios inside one run.

use crate::native;
use crate::sh::{Cmd, EXIT_SKIP, Outcome, root};

/// The benchmarks: name, program of `benches/`, and whether it drives the labs of `lvsd`.
const KNOWN: &[(&str, &str, bool)] = &[("all", "bench", false), ("afpacket", "afpacket", true)];

/// The task: builds what the benchmark needs and hands over to it. It prints its own table.
pub(crate) fn run(args: &[String]) -> Outcome {
    let names = || KNOWN.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    // Without a name, all that can be measured in memory.
    let (name, rest) = match args.split_first() {
        Some((name, rest)) if !name.starts_with('-') => (name.as_str(), rest),
        _ => ("all", args),
    };
    let Some((_, program, needs_lab)) = KNOWN.iter().find(|(known, ..)| *known == name) else {
        return Outcome::Failed(format!("no benchmark `{name}`; known: {}", names()));
    };
    if *needs_lab && !rest.iter().any(|arg| arg == "--no-lab") {
        let build = Cmd::cargo("build --release --package lvsd").run();
        if !build.ok() {
            return Outcome::Failed(build.why().to_owned());
        }
    }
    let cmd = Cmd::cargo("run --release --package lvs-benches --bin").arg(program).arg("--");
    let run = rest.iter().fold(cmd, Cmd::arg).run();
    let partial = rest.iter().any(|arg| arg == "--quick" || arg == "--only");
    if *program == "bench" && run.code == Some(0) && !partial {
        let record = rest.iter().skip_while(|arg| *arg != "--json").nth(1);
        // The program was started at the root of the workspace, and so are its files.
        let record = record.map(|file| root().join(file));
        if let Err(why) = native::compare(record.as_deref()) {
            return Outcome::Failed(why);
        }
    }
    match run.code {
        Some(0) => Outcome::Passed(format!("{name} ran; its table says how it went")),
        Some(EXIT_SKIP) => Outcome::Skipped(run.last().to_owned()),
        _ => Outcome::Failed(run.why().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_benchmark_is_a_program_of_the_benches() {
        for (_, program, _) in KNOWN {
            assert!(root().join(format!("benches/src/bin/{program}.rs")).exists(), "{program}");
        }
    }

    #[test]
    fn an_unknown_benchmark_is_refused_with_the_known_ones() {
        let Outcome::Failed(why) = run(&["fast".into()]) else { panic!("it ran") };
        assert!(why.contains("afpacket") && why.contains("all"), "{why}");
    }
}
