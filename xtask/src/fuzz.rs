//! `cargo xtask fuzz [TARGET] [--seconds N]`: lets cargo-fuzz look for inputs that break something.
//!
//! What it learns stays in `fuzz/artifacts/`, which is not committed; the committed seeds are only read.

use crate::sh::{Cmd, Outcome, root};

/// Longest input: whole connections and frames of full size fit.
const LONGEST: u32 = 8192;
/// What a target gets when nobody says otherwise.
const SECONDS: u32 = 60;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    target: Option<&'a str>,
    seconds: u32,
}

fn parse(args: &[String]) -> Result<Wanted<'_>, String> {
    let mut wanted = Wanted { target: None, seconds: SECONDS };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let number = args.next().ok_or("--seconds needs a number")?;
                let seconds = number.parse().map_err(|_| format!("`{number}` is no number"))?;
                wanted.seconds = seconds;
            }
            flag if flag.starts_with('-') => return Err(format!("no option `{flag}`")),
            target if wanted.target.is_none() => wanted.target = Some(target),
            more => return Err(format!("one target at a time; what is `{more}`?")),
        }
    }
    Ok(wanted)
}

/// The task.
pub(crate) fn run(args: &[String]) -> Outcome {
    match parse(args) {
        Ok(wanted) => fuzz(wanted.target, wanted.seconds),
        Err(why) => Outcome::Failed(why),
    }
}

/// Fuzzes one target or all, each for so many seconds.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32) -> Outcome {
    let cargo_fuzz = || Cmd::new("rustup").args("run nightly cargo fuzz");
    let list = cargo_fuzz().arg("list").quiet();
    if !list.ok() {
        let how = "rustup toolchain add nightly; cargo install cargo-fuzz --locked";
        return Outcome::Skipped(format!("no cargo fuzz on the nightly tool chain: {how}"));
    }
    let known: Vec<&str> = list.lines.iter().map(|line| line.trim()).collect();
    let chosen: Vec<&str> = match target {
        None => known,
        Some(target) if known.contains(&target) => vec![target],
        Some(target) => {
            return Outcome::Failed(format!("no target `{target}`; known: {}", known.join(", ")));
        }
    };
    for name in &chosen {
        let learned = format!("fuzz/artifacts/corpus/{name}");
        if let Err(error) = std::fs::create_dir_all(root().join(&learned)) {
            return Outcome::Failed(format!("{learned}: {error}"));
        }
        let seeds = format!("fuzz/corpus/{name}");
        let cmd = cargo_fuzz().arg("run").arg(name).arg(learned).arg(seeds).arg("--");
        let limits = format!("-max_total_time={seconds} -max_len={LONGEST} -timeout=10");
        let run = cmd.args(&limits).run();
        if !run.ok() {
            let to =
                format!("put the input into fuzz/regressions/{name}, then mend what it breaks");
            let why = run.last_with("panicked at").or(run.last_with("ERROR:"));
            return Outcome::Failed(format!("{name}: {}; {to}", why.unwrap_or(run.last())));
        }
    }
    Outcome::Passed(format!("{} for {seconds} s each", chosen.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn target_and_seconds_may_stand_in_any_order_or_be_left_out() {
        let both = Ok(Wanted { target: Some("headers"), seconds: 7 });
        assert_eq!(parse(&args("headers --seconds 7")), both);
        assert_eq!(parse(&args("--seconds 7 headers")), both);
        assert_eq!(parse(&[]), Ok(Wanted { target: None, seconds: SECONDS }));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in ["--seconds", "--seconds soon", "--minutes 3", "headers director"] {
            assert!(parse(&args(text)).is_err(), "{text}");
        }
    }
}
