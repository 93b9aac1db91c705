//! `lvsd check`: reads a configuration and says what is wrong with it, or what it amounts to.

use crate::Exit;
use crate::config::{self, Config, LoadError, Loaded};
use lvs_core::plan::PortPlan;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;

/// Version of the shape of the JSON output.
const JSON_SCHEMA: u32 = 1;

/// Arguments of `lvsd check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 the configuration can be used (there may be warnings), 2 it cannot.
Every key is described in docs/config.md. Next: lvsd run --config FILE")]
pub struct Args {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Write one JSON object to standard output instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
#[must_use]
pub fn main(args: &Args) -> Exit {
    let outcome = config::load(&args.config);
    if args.json {
        print_json(&outcome);
    } else {
        print_text(args, &outcome);
    }
    if outcome.is_ok() { Exit::Ok } else { Exit::Usage }
}

/// Reads the configuration for a command that goes on to use it: faults and warnings go to standard
/// error.
///
/// # Errors
/// [`Exit::Usage`], after saying why.
pub fn load_or_explain(path: &std::path::Path) -> Result<Loaded, Exit> {
    match config::load(path) {
        Ok(loaded) => {
            eprint!("{}", loaded.report.render(colour()));
            Ok(loaded)
        }
        Err(error) => {
            explain(&error);
            Err(Exit::Usage)
        }
    }
}

fn explain(error: &LoadError) {
    match error {
        LoadError::File { .. } => eprintln!("lvsd: {error}"),
        LoadError::Faults(report) => eprint!("{}", report.render(colour())),
    }
}

/// Colours are for terminals, and only for those who have not asked to be spared
/// (<https://no-color.org>).
pub(crate) fn colour() -> bool {
    stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn print_text(args: &Args, outcome: &Result<Loaded, LoadError>) {
    match outcome {
        Ok(Loaded { config, report }) => {
            eprint!("{}", report.render(colour()));
            let path = args.config.display();
            say(&format!("{path}: ok: {}\nNext: lvsd run --config {path}\n", describe(config)));
        }
        Err(error) => explain(error),
    }
}

fn print_json(outcome: &Result<Loaded, LoadError>) {
    let value = match outcome {
        Ok(Loaded { config, report }) => json!({
            "schema": JSON_SCHEMA,
            "ok": true,
            "diagnostics": report.to_json(),
            "summary": summary(config),
        }),
        Err(LoadError::Faults(report)) => json!({
            "schema": JSON_SCHEMA,
            "ok": false,
            "diagnostics": report.to_json(),
        }),
        Err(LoadError::File { path, why }) => json!({
            "schema": JSON_SCHEMA,
            "ok": false,
            "diagnostics": [{ "severity": "error", "file": path, "message": why }],
        }),
    };
    say(&format!("{value:#}\n"));
}

/// Writes to standard output. A reader that went away is no reason to fail.
pub(crate) fn say(text: &str) {
    let _ = stdout().write_all(text.as_bytes());
}

fn summary(config: &Config) -> Value {
    let services = config.services.iter().map(|service| {
        let pool = service.local_pool.and_then(|index| config.pools.get(index));
        json!({
            "name": service.name.value,
            "address": service.address.to_string(),
            "protocol": service.protocol.to_string(),
            "forwarding": service.forwarding.name(),
            "scheduler": service.scheduler.value,
            "local_pool": pool.map(|pool| &pool.name.value),
            "servers": service.servers.iter().map(|server| json!({
                "address": server.address.to_string(),
                "weight": server.weight,
            })).collect::<Vec<_>>(),
        })
    });
    let pools = config.pools.iter().map(|pool| {
        json!({
            "name": pool.name.value,
            "addresses": u64::try_from(pool.address_count()).unwrap_or(u64::MAX),
            "ports_each": pool.ports.count(),
        })
    });
    json!({
        "director": config.director.name,
        "session_memory_bytes": config.run_memory().ok(),
        "ports": config.ports.iter().map(|port| &port.name.value).collect::<Vec<_>>(),
        "local_pools": pools.collect::<Vec<_>>(),
        "services": services.collect::<Vec<_>>(),
    })
}

fn describe(config: &Config) -> String {
    let servers = config.services.iter().map(|service| service.servers.len()).sum();
    let addresses = config.pools.iter().map(config::LocalPool::address_count).sum::<u128>();
    let store = config.store_config(0);
    let nat = u64::from(store.v4.general) + u64::from(store.v6.general);
    let locals = u64::from(store.v4.local_addresses) + u64::from(store.v6.local_addresses);
    let fullnat = locals * u64::from(config.port_plan().slots());
    let mut parts = vec![
        counted(config.ports.len(), "port"),
        counted(config.services.len(), "service"),
        counted(servers, "server"),
    ];
    if addresses > 0 {
        parts.push(counted(usize::try_from(addresses).unwrap_or(usize::MAX), "local address"));
    }
    let memory = config.run_memory().unwrap_or(usize::MAX).div_ceil(1 << 20);
    format!(
        "{}\nRoom for {fullnat} FullNAT and {nat} NAT sessions, in {memory} MiB",
        parts.join(", ")
    )
}

/// A number with its noun: `1 port`, `2 ports`.
pub(crate) fn counted(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        _ if what.ends_with('s') => format!("{n} {what}es"),
        _ => format!("{n} {what}s"),
    }
}
