//! `lvsd run`: balances traffic, in two processes.
//!
//! ```text
//!   supervisor ── capabilities, routes, packet sockets, session memory ── parses nothing from the network
//!       │  ▲
//!  start│  │counts every second      (one socket pair, descriptors included)
//!       ▼  │
//!   data process ── no capability, no user, no way to get one ── rx ─► director ─► tx
//! ```
//!
//! The supervisor opens what needs a privilege and hands it over. When the data process dies, the
//! supervisor starts it again, with a growing pause, on new sockets and the same session memory; the
//! routes that keep the kernel from answering for virtual and local addresses stay meanwhile.

mod alone;
mod ask;
mod bells;
mod child;
mod data;
mod fleet;
mod message;
mod ramp;
mod reload;
mod routes;
mod show;
mod status;
mod steps;
mod supervisor;
mod swap;
mod worker;

use crate::{Exit, check};
use std::path::PathBuf;

/// Arguments of `lvsd run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needs CAP_NET_RAW for its ports and CAP_NET_ADMIN for blackhole routes; the process that sees packets
has no capability. Stop it with SIGTERM or Ctrl-C; SIGUSR1 writes the status at once; SIGHUP reads the
configuration again (see lvsd reload).
Exit codes: 0 stopped as asked, 1 failed, 2 the configuration is wrong.
Next: lvsd check --config FILE tells what FILE amounts to.")]
pub struct Args {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Write counters to this file every second, as JSON, replacing it as a whole
    #[arg(long, value_name = "FILE")]
    pub status: Option<PathBuf>,
}

pub use ask::ReloadArgs;
pub use show::StatusArgs;

/// `lvsd status`.
#[must_use]
pub fn status(args: &StatusArgs) -> Exit {
    show::main(args)
}

/// `lvsd reload`.
#[must_use]
pub fn reload(args: &ReloadArgs) -> Exit {
    ask::main(args)
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> Exit {
    let loaded = match check::load_or_explain(&args.config) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match supervisor::supervise(args, loaded) {
        Ok(()) => Exit::Ok,
        Err(why) => {
            eprintln!("lvsd: {why}");
            Exit::Failure
        }
    }
}

/// Name of the subcommand that `run` starts.
pub(crate) const DATA_PROCESS: &str = "data-process";

/// The process that `run` starts.
pub(crate) fn data_process() -> Exit {
    data::main()
}

/// Says something to whoever reads the log.
fn say(text: &str) {
    eprintln!("lvsd: {text}");
}
