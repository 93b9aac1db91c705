//! The command line: one subcommand per job, each read by clap and handed to its module.
//!
//! A subcommand is one variant of [`Command`] holding the arguments that its module defines, and
//! one arm of `dispatch`.

use crate::{Exit, check, demo, diff, lab, run, simulate};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What clap reads.
#[derive(Debug, Parser)]
#[command(
    name = "lvsd",
    version,
    about = "A layer-4 load balancer of the LVS kind: FullNAT and NAT over AF_PACKET",
    long_about = None,
    arg_required_else_help = true,
    after_help = "\
Exit codes: 0 done, 1 failed, 2 wrong command line or configuration, 77 not possible on this system.

Start here:
  lvsd demo                      real TCP through the balancer in one process; needs nothing
  lvsd lab run fullnat           the same between kernel TCP stacks, in network namespaces
  lvsd simulate --help           what becomes of captured packets, without sending any
  lvsd check --config FILE       read a configuration and say what is wrong with it
  lvsd run --config FILE         balance traffic
  lvsd diff OLD NEW              what a reload with another configuration would change"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The jobs of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Balance traffic on the ports of a configuration
    Run(run::Args),
    /// Read a configuration and report everything that is wrong with it
    Check(check::Args),
    /// Say what changing from one configuration to another does, and whether that needs a restart
    Diff(diff::Args),
    /// Let a running balancer read its configuration again, and say what came of it
    Reload(run::ReloadArgs),
    /// Show what a running balancer does: its servers, their sessions, how far those are that go away
    Status(run::StatusArgs),
    /// Carry real TCP through the balancer in this one process and check every byte
    Demo(demo::Args),
    /// Send the packets of capture files through the balancer and say what becomes of each
    Simulate(simulate::Args),
    /// Show and check a forwarding mode in a network of namespaces on this machine
    Lab(lab::Args),
    /// The process of `run` that carries packets; started by it
    #[command(name = run::DATA_PROCESS, hide = true)]
    DataProcess,
}

/// Reads the command line of this process and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command).into(),
        Err(error) => {
            // Help and version arrive here too and go to standard output; a closed pipe is no
            // reason to fail.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
        }
    }
}

fn dispatch(command: Command) -> Exit {
    match command {
        Command::Run(args) => run::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Diff(args) => diff::main(&args),
        Command::Reload(args) => run::reload(&args),
        Command::Status(args) => run::status(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Simulate(args) => simulate::main(&args),
        Command::Lab(args) => lab::main(&args),
        Command::DataProcess => run::data_process(),
    }
}
