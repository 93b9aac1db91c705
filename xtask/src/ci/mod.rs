//! `cargo xtask ci`: every check of the project in named, timed steps, and a table at the end.
//!
//! All steps run even when one fails, so one run shows everything. What this machine cannot do is
//! said as `SKIPPED name: why`, never passed over in silence.

use core::fmt::Write as _;
use core::time::Duration;
use std::process::ExitCode;
use std::time::Instant;

use crate::sh::Outcome;

mod record;
mod steps;

/// One check.
struct Step {
    name: &'static str,
    about: &'static str,
    /// Only with `--long`, or when named.
    long: bool,
    run: fn() -> Outcome,
}

struct Done {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// The task.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let long = args.iter().any(|arg| arg == "--long");
    if args.iter().any(|arg| arg == "--list") {
        for step in steps::STEPS {
            println!("{:<14} {}{}", step.name, step.about, if step.long { " (long)" } else { "" });
        }
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--long").collect();
    let chosen = match choose(steps::STEPS, &names, long) {
        Ok(chosen) => chosen,
        Err(unknown) => {
            eprintln!("error: no step `{unknown}`; `cargo xtask ci --list` shows them");
            return ExitCode::from(2);
        }
    };
    let done: Vec<Done> = chosen.into_iter().map(run_one).collect();
    let table = table(&done);
    print!("\n{table}");
    if long && names.is_empty() {
        let recorded = record::append(table.lines().last().unwrap_or_default());
        recorded.unwrap_or_else(|error| eprintln!("cannot write docs/testing.md: {error}"));
    }
    match done.iter().any(|step| matches!(step.outcome, Outcome::Failed(_))) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// The steps that were asked for, in their own order; an unknown name is an error.
fn choose<'a>(all: &'a [Step], names: &[&'a str], long: bool) -> Result<Vec<&'a Step>, &'a str> {
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|step| step.name != **name)) {
        return Err(unknown);
    }
    let wanted = |step: &&Step| match names {
        [] => long || !step.long,
        names => names.contains(&step.name),
    };
    Ok(all.iter().filter(wanted).collect())
}

fn run_one(step: &Step) -> Done {
    println!("\n=== {}: {}", step.name, step.about);
    let started = Instant::now();
    let outcome = (step.run)();
    match &outcome {
        Outcome::Passed(note) if note.is_empty() => println!("PASSED {}", step.name),
        Outcome::Passed(note) => println!("PASSED {}: {note}", step.name),
        Outcome::Skipped(why) => println!("SKIPPED {}: {why}", step.name),
        Outcome::Failed(why) => println!("FAILED {}: {why}", step.name),
    }
    Done { name: step.name, outcome, took: started.elapsed() }
}

fn table(done: &[Done]) -> String {
    let mut text = String::new();
    let mut counts = [0usize; 3];
    for step in done {
        let (place, word, note) = match &step.outcome {
            Outcome::Passed(note) => (0, "ok", note),
            Outcome::Skipped(why) => (1, "SKIPPED", why),
            Outcome::Failed(why) => (2, "FAILED", why),
        };
        if let Some(count) = counts.get_mut(place) {
            *count += 1;
        }
        let (name, took) = (step.name, step.took.as_secs_f64());
        let note = note.lines().next().unwrap_or_default();
        let line = format!("{name:<14} {word:<8} {took:>7.1} s  {note}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let total: Duration = done.iter().map(|step| step.took).sum();
    let [ok, skipped, failed] = counts;
    let verdict = if failed == 0 { "PASS" } else { "FAIL" };
    let _ = writeln!(
        text,
        "ci: {verdict}: {ok} ok, {skipped} skipped, {failed} failed in {:.0} s",
        total.as_secs_f64()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &'static str, long: bool) -> Step {
        Step { name, about: "", long, run: || Outcome::Passed(String::new()) }
    }

    fn names(chosen: Result<Vec<&Step>, &str>) -> Vec<&'static str> {
        chosen.unwrap().iter().map(|step| step.name).collect()
    }

    #[test]
    fn long_steps_run_only_when_asked_for() {
        let all = [step("a", false), step("b", true), step("c", false)];
        assert_eq!(names(choose(&all, &[], false)), ["a", "c"]);
        assert_eq!(names(choose(&all, &[], true)), ["a", "b", "c"]);
        assert_eq!(names(choose(&all, &["c", "b"], false)), ["b", "c"]);
        assert_eq!(choose(&all, &["a", "nope"], false).err(), Some("nope"));
    }

    #[test]
    fn step_names_are_unique() {
        for (place, step) in steps::STEPS.iter().enumerate() {
            let first = steps::STEPS.iter().position(|other| other.name == step.name);
            assert_eq!(first, Some(place), "{}", step.name);
        }
    }

    #[test]
    fn the_table_tells_what_failed_and_what_was_skipped() {
        let done = |outcome| Done { name: "x", outcome, took: Duration::from_millis(1500) };
        let good = table(&[done(Outcome::Passed("7 tests".into()))]);
        assert_eq!(good.lines().last(), Some("ci: PASS: 1 ok, 0 skipped, 0 failed in 2 s"));
        let bad = table(&[
            done(Outcome::Skipped("no tool".into())),
            done(Outcome::Failed("line one\nline two".into())),
        ]);
        assert!(bad.contains("SKIPPED") && bad.contains("no tool") && bad.contains("line one"));
        assert!(!bad.contains("line two"), "one line a step");
        assert_eq!(bad.lines().last(), Some("ci: FAIL: 0 ok, 1 skipped, 1 failed in 3 s"));
    }
}
