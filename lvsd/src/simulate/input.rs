//! The capture files of a simulation: read, checked, and merged into one order.

use super::pcap::{self, PcapError, Record};
use crate::config::Config;
use core::fmt;
use lvs_core::addr::MacAddr;
use lvs_core::io::PortId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `PORT=FILE` as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputArg {
    /// The name of a port in the configuration.
    pub port: String,
    /// What arrives there.
    pub file: PathBuf,
}

impl core::str::FromStr for InputArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((port, file)) if !port.is_empty() && !file.is_empty() => {
                Ok(Self { port: port.to_owned(), file: file.into() })
            }
            _ => Err("write it as PORT=FILE, with the name of a port in the configuration"),
        }
    }
}

/// What is wrong with an input.
#[derive(Debug)]
pub enum InputError {
    /// The configuration has no such port.
    NoSuchPort {
        /// As asked for.
        port: String,
        /// The ports that there are.
        ports: Vec<String>,
    },
    /// Two files for one port.
    Twice {
        /// The port.
        port: String,
    },
    /// A file cannot be read.
    File {
        /// Its name.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// A file is no capture that can be used.
    Pcap {
        /// Its name.
        path: PathBuf,
        /// Why.
        why: PcapError,
    },
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPort { port, ports } => write!(
                f,
                "--in {port}=...: the configuration has no port `{port}`; it has `{}`",
                ports.join("`, `")
            ),
            Self::Twice { port } => write!(
                f,
                "--in {port}=...: the port `{port}` has two files; merge them first (mergecap)"
            ),
            Self::File { path, why } => write!(f, "cannot read {}: {why}", path.display()),
            Self::Pcap { path, why } => write!(f, "{}: {why}", path.display()),
        }
    }
}
impl core::error::Error for InputError {}

/// One capture file.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) port: PortId,
    pub(super) name: String,
    pub(super) path: PathBuf,
    file: Vec<u8>,
    records: Vec<Record>,
}

/// One packet of one of the files.
pub(super) struct Arrival<'a> {
    pub(super) input: &'a Input,
    /// Its number in the file, from 1 as packet analysers count.
    pub(super) index: usize,
    pub(super) record: &'a Record,
    pub(super) frame: &'a [u8],
}

impl Input {
    fn arrivals(&self) -> impl Iterator<Item = Arrival<'_>> {
        self.records.iter().enumerate().map(|(at, record)| Arrival {
            input: self,
            index: at + 1,
            record,
            frame: self.file.get(record.bytes.clone()).unwrap_or_default(),
        })
    }

    /// How many packets it has.
    pub(super) const fn len(&self) -> usize {
        self.records.len()
    }

    /// The single destination that most frames have: on a capture from a router's port, its address.
    pub(super) fn usual_destination(&self) -> Option<MacAddr> {
        let mut seen = BTreeMap::new();
        for arrival in self.arrivals() {
            let to = arrival.frame.first_chunk::<6>().map(|bytes| MacAddr(*bytes));
            if let Some(to) = to.filter(|to| !to.is_group()) {
                *seen.entry(to.0).or_insert(0_usize) += 1;
            }
        }
        seen.into_iter().max_by_key(|(_, count)| *count).map(|(mac, _)| MacAddr(mac))
    }
}

/// Reads all files.
pub(super) fn load(args: &[InputArg], config: &Config) -> Result<Vec<Input>, InputError> {
    let mut inputs: Vec<Input> = Vec::with_capacity(args.len());
    for InputArg { port: name, file: path } in args {
        let numbered = (0u16..).map(PortId).zip(&config.ports);
        let port = numbered.into_iter().find(|(_, port)| port.name.value == *name);
        let Some((port, _)) = port else {
            let ports = config.ports.iter().map(|port| port.name.value.clone()).collect();
            return Err(InputError::NoSuchPort { port: name.clone(), ports });
        };
        if inputs.iter().any(|input| input.port == port) {
            return Err(InputError::Twice { port: name.clone() });
        }
        inputs.push(one(port, name, path)?);
    }
    Ok(inputs)
}

fn one(port: PortId, name: &str, path: &Path) -> Result<Input, InputError> {
    let file =
        std::fs::read(path).map_err(|why| InputError::File { path: path.to_owned(), why })?;
    let records =
        pcap::read(&file).map_err(|why| InputError::Pcap { path: path.to_owned(), why })?;
    Ok(Input { port, name: name.to_owned(), path: path.to_owned(), file, records })
}

/// All packets by time; at the same time in the order of the inputs, then in that of the file.
pub(super) fn merged(inputs: &[Input]) -> Vec<Arrival<'_>> {
    let mut all: Vec<Arrival<'_>> = inputs.iter().flat_map(Input::arrivals).collect();
    all.sort_by_key(|arrival| arrival.record.time_ns);
    all
}
