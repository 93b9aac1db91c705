//! `lvsd demo`: real TCP through the balancer, in one process, without privileges.
//!
//! ```text
//!   world: hosts with TCP/IP stacks ◄─► director on a virtual clock ──► Outcome ──report──► text, JSON
//! ```
//!
//! Everything follows from the seed, so the same command prints the same text.

mod report;
mod world;

use crate::Exit;

/// Arguments of `lvsd demo`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Needs no privileges and no configuration. The time in it is virtual; a run takes a second or less.
Exit codes: 0 all checks passed, 1 one failed.
Next: lvsd lab run fullnat")]
pub struct Args {
    /// How packets are carried
    #[arg(value_enum, default_value = "fullnat")]
    pub mode: Mode,
    /// Write one JSON object to standard output instead of text
    #[arg(long)]
    pub json: bool,
    /// Seed of everything that is chosen at random; the same seed gives the same output
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Frames lost per million on every link
    #[arg(long, value_name = "PPM", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(..=200_000))]
    pub loss: u32,
    /// Print the director's configuration, for `lvsd check` and `lvsd simulate`, and stop
    #[arg(long)]
    pub print_config: bool,
    /// Bytes each way per connection
    #[arg(long, hide = true, default_value_t = 1 << 20)]
    pub bytes: u64,
}

/// How packets are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Servers see a local address and read the client's from a TCP option
    Fullnat,
    /// Servers see the client
    Nat,
}

impl Mode {
    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fullnat => "fullnat",
            Self::Nat => "nat",
        }
    }

    /// The director's configuration.
    #[must_use]
    pub const fn config(self) -> &'static str {
        match self {
            Self::Fullnat => include_str!("fullnat.toml"),
            Self::Nat => include_str!("nat.toml"),
        }
    }
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> Exit {
    if args.print_config {
        report::say(args.mode.config());
        return Exit::Ok;
    }
    if !args.json {
        report::say(&report::opening(args));
    }
    let outcome = match world::run(args) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("lvsd: {error}");
            return Exit::Failure;
        }
    };
    report::say(&if args.json {
        report::json(args, &outcome)
    } else {
        report::text(args, &outcome)
    });
    if outcome.passed() { Exit::Ok } else { Exit::Failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_configurations_are_accepted_without_a_warning() {
        for mode in [Mode::Fullnat, Mode::Nat] {
            let loaded = config::parse(mode.name(), mode.config())
                .unwrap_or_else(|report| panic!("{}", report.render(false)));
            assert_eq!(loaded.report.counts(), (0, 0), "{}", loaded.report.render(false));
        }
    }
}
