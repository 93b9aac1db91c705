//! The configuration: text in TOML to a typed, checked [`Config`], or everything that is wrong.
//!
//! ```text
//!   text ─► TOML tree with positions ─read─► Config ─rules─► Config │ Report
//!                                      ▲
//!                                   schema: the one list of keys
//! ```
//!
//! What comes out is carried into the crates below by [`Config::snapshot_spec`],
//! [`Config::store_config`] and [`Config::port_plan`].
//!
//! The steps report into one list, so a single run names every fault, in the order of the file.
//! Text that is not TOML is reported alone: what its author meant with the rest is a guess.

mod build;
mod diag;
mod guess;
mod model;
mod plan;
mod range;
mod read;
mod reader;
mod rules;
pub mod schema;
mod served;
mod value;
mod workers;

pub use build::{BuildError, Secrets};
pub use diag::{At, Diagnostic, Report, Severity, Span};
pub use model::{
    ClientAddrPolicy, Config, Director, Forwarding, HugePages, LocalPool, Mark, Neighbour, Port,
    Profile, Proxy, ProxyClientHeader, ProxySend, Route, SelfAddress, SelfOwner, Server, Service,
    Target, Timeouts, Timestamps,
};
pub use plan::{Action, Change, Plan, generation, specification};
pub use range::{AddressRange, PortRange};

use core::fmt;
use diag::Sink;
use lvs_core::sched::SchedulerDef;
use std::path::Path;
use toml::de::DeTable;

/// Longest file that is read.
const MOST_BYTES: u64 = 16 << 20;

/// The schedulers that a service may name.
#[must_use]
pub const fn schedulers() -> &'static [&'static SchedulerDef] {
    lvs_sched::ALL
}

/// A configuration that can be used, with what there is to say about it all the same.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings only.
    pub report: Report,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    File {
        /// As it was named.
        path: String,
        /// Why.
        why: String,
    },
    /// It was read, and this is wrong with it.
    Faults(Report),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, why } => write!(f, "cannot read {path}: {why}"),
            Self::Faults(report) => f.write_str(report.render(false).trim_end()),
        }
    }
}
impl core::error::Error for LoadError {}

/// Reads a file.
///
/// # Errors
/// [`LoadError::File`] when it cannot be read, [`LoadError::Faults`] when it is wrong.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let name = path.display().to_string();
    let unreadable = |why: String| LoadError::File { path: path.display().to_string(), why };
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > MOST_BYTES {
        return Err(unreadable(format!("it is longer than {} MiB", MOST_BYTES >> 20)));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    match String::from_utf8(bytes) {
        Ok(text) => parse(&name, &text).map_err(LoadError::Faults),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            Err(unreadable(format!("line {line} is not text in UTF-8")))
        }
    }
}

/// Reads a text; `name` is what messages call it.
///
/// # Errors
/// The report of everything that is wrong with it.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Report> {
    let mut sink = Sink::default();
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            sink.push(Diagnostic::error(&span, error.message()));
        }
        return Err(sink.into_report(name, text));
    }
    let reading = read::tree(root.get_ref(), &mut sink);
    rules::check(&reading, &root.span(), &mut sink);
    let usable = sink.is_usable();
    let report = sink.into_report(name, text);
    if usable { Ok(Loaded { config: reading.config, report }) } else { Err(report) }
}
