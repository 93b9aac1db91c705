//! Project tasks, run as `cargo xtask TASK`. One task is one file; this one only picks it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod bare_metal;
mod bench;
mod ci;
mod fuzz;
mod instructions;
mod layers;
mod licences;
mod links;
mod meta;
mod native;
mod sh;

const USAGE: &str = "\
usage: cargo xtask TASK

  ci [--long] [--list] [STEP...]   all checks (or the named ones), timed, with a table at the end
  layers                           which crate may know which, and where unsafe code may stand
  licences                         licences of everything the shipped crates depend on
  links                            links between the pages lead to files
  bare-metal                       link the packet path without panic handler and heap
  bench [all] [--quick]            the packet path in memory beside floors and stand-ins, one table
  bench afpacket                   forwarding over veth beside a bare ring loop, downloads in the lab
  instructions [--bless]           instructions of the hot functions beside the committed ones (valgrind)
  fuzz [TARGET] [--seconds N]      look for inputs that break something (cargo-fuzz, nightly)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("ci") => return ci::main(rest),
        Some("layers") => layers::run(),
        Some("licences" | "licenses") => licences::run(),
        Some("links") => links::run(),
        Some("bare-metal") => bare_metal::run(),
        Some("bench") => bench::run(rest),
        Some("instructions") => instructions::run(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("help" | "-h" | "--help") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        sh::Outcome::Passed(note) => println!("ok: {note}"),
        sh::Outcome::Skipped(why) => println!("SKIPPED: {why}"),
        sh::Outcome::Failed(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
