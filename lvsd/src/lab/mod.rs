//! `lvsd lab`: a small network of namespaces on this machine, with kernel TCP stacks around the
//! director, that shows a forwarding mode at work and checks it.
//!
//! ```text
//!   lvsd lab run|up ──(world)──► lvsd lab init, process 1 of a PID namespace
//!        │                          │  makes the namespaces, runs `ip`, starts:
//!        │                          ├─ server1, server2   lvsd lab server   (http::server)
//!        │                          └─ director           lvsd run
//!        └─(run)──► client          lvsd lab client       (http::client)
//! ```
//!
//! Only processes and their descriptors hold the namespaces, and everything descends from one PID
//! namespace: when its first process ends, for whatever reason, nothing of the lab is left.

mod change;
mod checks;
mod datagrams;
mod decap;
mod drain;
mod http;
mod init;
mod net;
mod nginx;
mod persist;
mod plan;
mod report;
mod reuse;
mod run;
mod scenario;
mod spread;
mod state;
mod world;

use crate::Exit;
use scenario::Scenario;
use std::ffi::OsString;

/// Arguments of `lvsd lab`.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Needs `ip` (iproute2), and either root or user namespaces; changes nothing outside its own
namespaces. Exit codes: 0 all passed, 1 failed, 77 not possible on this system.

  lvsd lab run fullnat                        set up, check, clean up
  lvsd lab up fullnat                         set up and leave it running
  lvsd lab exec director -- ip route          look around in one of its hosts
  lvsd lab check; lvsd lab down"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Set up a scenario, check it, print PASS or FAIL for each point, and clean up
    Run(RunArgs),
    /// Set up a scenario and leave it running; prints every command that it runs
    Up(UpArgs),
    /// Run a command in a host of the lab that is up
    Exec(ExecArgs),
    /// Check the lab that is up
    Check(CheckArgs),
    /// Stop the lab that is up; nothing of it is left
    Down(DownArgs),
    /// Say which labs are up, and which scenarios there are
    List,
    /// Process 1 of a lab
    #[command(hide = true)]
    Init(init::InitArgs),
    /// The HTTP server of a lab
    #[command(hide = true)]
    Server(http::server::ServerArgs),
    /// The HTTP client of a lab
    #[command(hide = true)]
    Client(http::client::ClientArgs),
    /// The server of a lab that sends datagrams back
    #[command(hide = true)]
    Echo(datagrams::EchoArgs),
    /// The end of a tunnel
    #[command(hide = true)]
    Decap(decap::DecapArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    scenario: Scenario,
    /// Write one JSON object to standard output instead of text
    #[arg(long)]
    json: bool,
    /// Run this shell command as the director instead of `lvsd run`
    #[arg(long, value_name = "CMD")]
    director_cmd: Option<String>,
    /// Let the director carry packets with so many threads, a power of two
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u16,
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    scenario: Scenario,
    /// Let the director carry packets with so many threads, a power of two
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u16,
    /// Run this shell command as the director instead of `lvsd run`
    #[arg(long, value_name = "CMD")]
    director_cmd: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ExecArgs {
    /// The lab, when more than one is up
    #[arg(long, value_name = "SCENARIO")]
    lab: Option<Scenario>,
    /// client, director, server1, server2 or switch
    host: String,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The lab, when more than one is up
    scenario: Option<Scenario>,
    /// Write one JSON object to standard output instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DownArgs {
    /// The lab, when more than one is up
    scenario: Option<Scenario>,
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> Exit {
    let done = match &args.command {
        Command::Run(args) => {
            run::run(args.scenario, args.director_cmd.as_deref(), args.workers, args.json)
        }
        Command::Up(args) => run::up(args.scenario, args.director_cmd.as_deref(), args.workers),
        Command::Exec(args) => run::exec(args.lab, &args.host, &args.command),
        Command::Check(args) => run::check(args.scenario, args.json),
        Command::Down(args) => run::down(args.scenario),
        Command::List => run::list(),
        Command::Init(args) => init::main(args),
        Command::Server(args) => http::server::main(args),
        Command::Client(args) => http::client::main(args),
        Command::Echo(args) => datagrams::main(args),
        Command::Decap(args) => decap::main(args),
    };
    done.unwrap_or_else(|problem| {
        eprintln!("lvsd: {problem}");
        problem.exit()
    })
}

/// Why a lab command cannot go on.
#[derive(Debug)]
enum Problem {
    /// Not on this system: says what is missing, and what works without it.
    Impossible(String),
    /// Something went wrong.
    Failed(String),
}

impl Problem {
    fn failed(what: impl core::fmt::Display, error: impl core::fmt::Display) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }

    /// One sentence that ends with the way out.
    fn impossible(why: impl core::fmt::Display) -> Self {
        Self::Impossible(format!(
            "the lab cannot run here, because {why}: run it as root on a system that allows it, or \
             try `lvsd demo`, which needs nothing"
        ))
    }

    const fn exit(&self) -> Exit {
        match self {
            Self::Impossible(_) => Exit::Impossible,
            Self::Failed(_) => Exit::Failure,
        }
    }
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Impossible(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}
