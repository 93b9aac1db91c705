//! `lvsd simulate`: packets of capture files through the balancer, and what became of each.
//!
//! ```text
//!   PORT=FILE.pcap ─input─► by time ─► machine (director, ports in memory) ─► DIR/PORT.pcap
//!                                                                         └─► DIR/log.jsonl, summary
//! ```
//!
//! Nothing is sent, no privileges are needed, and time is the time of the packets: the same files and
//! the same configuration give the same output, byte for byte.

mod fix;
mod input;
mod log;
mod machine;
mod output;
pub mod pcap;
mod summary;

pub use input::{InputArg, InputError};
pub use output::OutputError;
pub use summary::{PortCount, Summary};

use crate::assemble::{self, AssembleError};
use crate::config::{self, Config, Diagnostic};
use crate::{Exit, check};
use core::fmt;
use input::{Arrival, Input};
use log::Names;
use lvs_core::io::PortId;
use lvs_core::session::Cursor;
use lvs_core::verdict::DropReason;
use machine::{Effects, Machine};
use output::Files;
use std::io::{Write, stdout};
use std::path::PathBuf;

/// Arguments of `lvsd simulate`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Writes DIR/PORT.pcap, what leaves each port, and DIR/log.jsonl, what became of each packet and why.
Every port needs a `mac` in the configuration; neighbours are static ones of the configuration, or
their answers to ARP and neighbour discovery must be in the captures.
Exit codes: 0 done, 1 the output cannot be written, 2 wrong command line, configuration or capture.
More: docs/simulate.md")]
pub struct Args {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// What arrives at a port: a pcap file of Ethernet frames; once for each port
    #[arg(long = "in", value_name = "PORT=FILE", required = true)]
    pub inputs: Vec<InputArg>,
    /// Where to write; made if it is missing, files of an earlier run are replaced
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Let so much time pass after the last packet, so that sessions can expire
    #[arg(long, value_name = "SECONDS", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(..=31_536_000))]
    pub settle: u32,
    /// Compute the checksums of all packets first: a host that captures its own packets sees them
    /// before its network card has filled them in
    #[arg(long)]
    pub fix_checksums: bool,
    /// Write the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Why there is no result.
#[derive(Debug)]
pub enum SimulateError {
    /// A port has no `mac`, or another thing that only a simulation asks of a configuration.
    Config(config::Report),
    /// A capture file cannot be used.
    Input(InputError),
    /// An output would replace an input.
    WouldOverwrite(PathBuf),
    /// The configuration cannot be carried out.
    Assemble(AssembleError),
    /// An output cannot be written.
    Output(OutputError),
}

impl fmt::Display for SimulateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(report) => f.write_str(report.render(false).trim_end()),
            Self::Input(error) => error.fmt(f),
            Self::WouldOverwrite(path) => {
                let path = path.display();
                write!(f, "the output would replace the input {path}; choose another --out")
            }
            Self::Assemble(error) => error.fmt(f),
            Self::Output(error) => error.fmt(f),
        }
    }
}
impl core::error::Error for SimulateError {}

impl From<InputError> for SimulateError {
    fn from(error: InputError) -> Self {
        Self::Input(error)
    }
}
impl From<AssembleError> for SimulateError {
    fn from(error: AssembleError) -> Self {
        Self::Assemble(error)
    }
}
impl From<OutputError> for SimulateError {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

impl SimulateError {
    /// The exit code that says so.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Input(_) | Self::WouldOverwrite(_) => Exit::Usage,
            Self::Assemble(_) | Self::Output(_) => Exit::Failure,
        }
    }
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> Exit {
    let loaded = match check::load_or_explain(&args.config) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match run(args, &loaded) {
        Ok(summary) => {
            let text = if args.json { format!("{:#}\n", summary.json()) } else { summary.text() };
            // A reader that went away is no reason to fail.
            let _ = stdout().write_all(text.as_bytes());
            Exit::Ok
        }
        Err(error) => {
            match &error {
                SimulateError::Config(report) => eprint!("{}", report.render(check::colour())),
                other => eprintln!("lvsd: {other}"),
            }
            error.exit()
        }
    }
}

/// Simulates, and writes everything but the summary.
///
/// # Errors
/// [`SimulateError`]; nothing is written when the input is at fault.
pub fn run(args: &Args, loaded: &config::Loaded) -> Result<Summary, SimulateError> {
    let config = &loaded.config;
    let inputs = input::load(&args.inputs, config)?;
    addressed(loaded, &inputs)?;
    if let Some(path) = output::clash(&args.out, config, &inputs) {
        return Err(SimulateError::WouldOverwrite(path.to_owned()));
    }
    let arrivals = input::merged(&inputs);
    let first_ns = arrivals.first().map_or(0, |arrival| arrival.record.time_ns);
    let last_ns = arrivals.last().map_or(0, |arrival| arrival.record.time_ns);
    let mut memory = assemble::session_memory(config)?;
    let director = assemble::director(config, config.director.seed.unwrap_or(0), &mut memory)?;
    let mut simulation = Simulation {
        names: Names::new(config, director.generation().snapshot()),
        machine: Machine::new(config, director, first_ns),
        files: Files::create(&args.out, config)?,
        summary: empty_summary(args, config, &inputs),
    };
    for arrival in &arrivals {
        simulation.timers(arrival.record.time_ns)?;
        simulation.packet(arrival, args.fix_checksums)?;
    }
    let settle_ns = u64::from(args.settle) * 1_000_000_000;
    simulation.timers(last_ns.saturating_add(settle_ns))?;
    simulation.summary.span_ns = [last_ns - first_ns, settle_ns];
    simulation.finish()
}

/// Every port has an address: there is no interface to ask.
fn addressed(loaded: &config::Loaded, inputs: &[Input]) -> Result<(), SimulateError> {
    let bare = |(number, port): (u16, &config::Port)| {
        if port.mac.is_some() {
            return None;
        }
        let here = inputs.iter().find(|input| input.port == PortId(number));
        let usual = here.and_then(Input::usual_destination);
        let advice = match (here, usual) {
            (Some(input), Some(mac)) => format!(
                "most frames in {} are for {mac}: if that is the director's, add mac = \"{mac}\"",
                input.path.display()
            ),
            _ => "add mac = \"02:00:00:00:00:01\", say".to_owned(),
        };
        let message =
            format!("the port `{}` has no mac, which a simulation needs", port.name.value);
        Some(Diagnostic::error(&port.name.span, message).help(advice))
    };
    let faults: Vec<_> = (0u16..).zip(&loaded.config.ports).filter_map(bare).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(SimulateError::Config(loaded.report.about(faults)))
}

fn empty_summary(args: &Args, config: &Config, inputs: &[Input]) -> Summary {
    let ports = (0u16..).map(PortId).zip(&config.ports).map(|(id, port)| PortCount {
        name: port.name.value.clone(),
        packets_in: inputs.iter().find(|input| input.port == id).map_or(0, Input::len),
        packets_out: 0,
        file: output::port_path(&args.out, &port.name.value),
    });
    Summary { ports: ports.collect(), log: output::log_path(&args.out), ..Summary::default() }
}

struct Simulation<'m> {
    names: Names,
    machine: Machine<'m>,
    files: Files,
    summary: Summary,
}

impl Simulation<'_> {
    /// Runs the timers up to this time.
    fn timers(&mut self, until_ns: u64) -> Result<(), OutputError> {
        while let Some(time_ns) = self.machine.due(until_ns) {
            let effects = self.machine.step();
            if !effects.sent.is_empty() {
                self.files.line(&log::timer(&self.names, time_ns, &effects.sent))?;
            }
            self.effects(time_ns, &effects)?;
        }
        Ok(())
    }

    fn packet(&mut self, arrival: &Arrival<'_>, fix_checksums: bool) -> Result<(), OutputError> {
        let time_ns = arrival.record.time_ns;
        let mut frame = arrival.frame.to_vec();
        let fixed = fix_checksums && fix::checksums(&mut frame);
        let (report, effects) = self.machine.packet(time_ns, arrival.input.port, &frame);
        self.summary.count(report.verdict);
        self.summary.fixed += u64::from(fixed);
        self.summary.cut += u64::from(arrival.record.is_cut());
        self.files.line(&log::packet(&self.names, arrival, fixed, &report, &effects.sent))?;
        self.effects(time_ns, &effects)
    }

    fn effects(&mut self, time_ns: u64, effects: &Effects) -> Result<(), OutputError> {
        for sent in &effects.sent {
            if let Some(port) = self.summary.ports.get_mut(sent.port.index()) {
                port.packets_out += 1;
            }
        }
        self.files.sent(time_ns, &effects.sent)?;
        for event in &effects.events {
            let line = log::event(&self.names, self.machine.director(), time_ns, event);
            self.files.line(&line)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Summary, SimulateError> {
        self.sessions_left()?;
        let Self { machine, files, mut summary, .. } = self;
        files.finish()?;
        let director = machine.director();
        let counters = director.counters();
        summary.drops = DropReason::ALL
            .iter()
            .map(|reason| (*reason, counters.dropped(*reason)))
            .filter(|(_, count)| *count > 0)
            .collect();
        summary.refused = machine.refused();
        summary.sessions_opened = counters.sessions_opened;
        summary.sessions_left = director.store().len();
        summary.ports_in_use = director.store().ports_in_use();
        summary.client_address = counters.client_address().collect();
        Ok(summary)
    }

    /// The lines of the sessions that are open at the end.
    fn sessions_left(&mut self) -> Result<(), OutputError> {
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let mut lines = String::new();
            cursor = self.machine.director().store().scan(at, 1024, |session| {
                lines += &log::session_left(&self.names, session);
            });
            self.files.line(&lines)?;
        }
        Ok(())
    }
}
