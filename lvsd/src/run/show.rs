//! `lvsd status`: what the status file of a running `lvsd run` says, as text.

use super::message::{DrainCounts, ServerCounts, ServerState};
use super::status::Reload;
use crate::Exit;
use core::fmt::Write as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Arguments of `lvsd status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file itself is the same as JSON; SIGUSR1 to the supervisor brings it up to date at once.
Exit codes: 0 done, 1 the file cannot be read.")]
pub struct StatusArgs {
    /// The file that `lvsd run --status FILE` writes
    #[arg(long, value_name = "FILE")]
    pub status: PathBuf,
}

/// What of the file is shown.
#[derive(Debug, Deserialize)]
struct Seen {
    name: String,
    state: String,
    pid: u32,
    restarts: u64,
    configuration: u64,
    reload: Reload,
    sessions: u64,
    leaving: u64,
    ports_in_use: u64,
    rx: u64,
    tx: u64,
    drops: BTreeMap<String, u64>,
    #[serde(default)]
    client_address: BTreeMap<String, u64>,
    servers: Vec<ServerCounts>,
    servers_left_out: u64,
}

/// Runs the command.
pub(super) fn main(args: &StatusArgs) -> Exit {
    let wrong = |error: &dyn core::fmt::Display| format!("{}: {error}", args.status.display());
    let read = fs::read(&args.status).map_err(|error| wrong(&error));
    match read.and_then(|text| serde_json::from_slice(&text).map_err(|error| wrong(&error))) {
        Ok(seen) => {
            print!("{}", text(&seen));
            Exit::Ok
        }
        Err(why) => {
            eprintln!("lvsd: {why}");
            Exit::Failure
        }
    }
}

fn text(seen: &Seen) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}: {}, process {}, restarted {} times; configuration {}, {} reloads",
        seen.name, seen.state, seen.pid, seen.restarts, seen.configuration, seen.reload.count
    );
    let _ = writeln!(
        out,
        "{} sessions, {} of them of servers that are removed; {} local ports; {} packets received, {} sent",
        seen.sessions, seen.leaving, seen.ports_in_use, seen.rx, seen.tx
    );
    for (reason, count) in &seen.drops {
        let _ = writeln!(out, "dropped: {count} {reason}");
    }
    if !seen.client_address.is_empty() {
        let counts = seen.client_address.iter().map(|(name, count)| format!("{count} {name}"));
        let _ = writeln!(out, "client addresses: {}", counts.collect::<Vec<_>>().join(", "));
    }
    let head = ["service", "server", "state", "weight", "active", "inactive", "opened", ""];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(seen.servers.iter().map(row));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    out.push('\n');
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if seen.servers_left_out > 0 {
        let _ = writeln!(out, "and {} more servers", seen.servers_left_out);
    }
    out
}

fn row(server: &ServerCounts) -> [String; 8] {
    [
        server.service.clone().unwrap_or_else(|| "(removed)".to_owned()),
        server.address.clone(),
        state(server.state).to_owned(),
        match server.share {
            100 => server.weight.to_string(),
            share => format!("{} ({share} %)", server.weight),
        },
        server.active.to_string(),
        server.inactive.to_string(),
        server.opened.to_string(),
        server.drain.map(|drain| progress(server, drain)).unwrap_or_default(),
    ]
}

const fn state(state: ServerState) -> &'static str {
    match state {
        ServerState::Active => "active",
        ServerState::Draining => "draining",
        ServerState::DownKill => "down-kill",
        ServerState::DownKeep => "down-keep",
        ServerState::Removed => "removed",
    }
}

/// How far a server is with going away.
fn progress(server: &ServerCounts, drain: DrainCounts) -> String {
    let left = u64::from(server.active) + u64::from(server.inactive);
    let when = match drain.left_ms {
        Some(0) => "time is up".to_owned(),
        Some(ms) => format!("{}.{} s left", ms / 1000, ms % 1000 / 100),
        None => "no deadline".to_owned(),
    };
    format!("{left} to go, {when}; {} reset, {} clients moved", drain.reset, drain.moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::status::Status;

    #[test]
    fn servers_that_go_away_say_how_far_they_are() {
        let server = |address: &str, state, drain| ServerCounts {
            service: Some("tcp 10.0.0.80:80".into()),
            address: address.into(),
            state,
            drain,
            weight: 1,
            share: if state == ServerState::Active { 30 } else { 100 },
            active: 3,
            inactive: 4,
            opened: 130,
            ..ServerCounts::default()
        };
        let drain = |left_ms| Some(DrainCounts { left_ms, reset: 5, moved: 2 });
        let mut status = Status::new("edge");
        status.counts.drops.insert("no_service".into(), 3);
        status.counts.servers = vec![
            server("10.1.0.11:8080", ServerState::Active, None),
            server("10.1.0.12:8080", ServerState::Draining, drain(Some(2149))),
            server("10.1.0.13:8080", ServerState::Draining, drain(Some(0))),
            server("10.1.0.14:8080", ServerState::DownKeep, drain(None)),
        ];
        // As the file holds it.
        let json = serde_json::to_string(&status).unwrap();
        let seen: Seen = serde_json::from_str(&json).unwrap();
        let text = text(&seen);
        let (head, table) = text.split_once("\n\n").unwrap();
        assert!(head.starts_with("edge: starting, process "), "{head}");
        assert!(head.ends_with("\ndropped: 3 no_service"), "{head}");
        let columns = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .filter(|c| !c.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let rows: Vec<Vec<String>> = table.lines().map(columns).collect();
        assert_eq!(
            rows[0],
            ["service", "server", "state", "weight", "active", "inactive", "opened"]
        );
        assert_eq!(
            rows[1],
            ["tcp 10.0.0.80:80", "10.1.0.11:8080", "active", "1 (30 %)", "3", "4", "130"]
        );
        let last: Vec<_> = rows[2..].iter().map(|row| (row[2].as_str(), row[7].as_str())).collect();
        assert_eq!(
            last,
            [
                ("draining", "7 to go, 2.1 s left; 5 reset, 2 clients moved"),
                ("draining", "7 to go, time is up; 5 reset, 2 clients moved"),
                ("down-keep", "7 to go, no deadline; 5 reset, 2 clients moved"),
            ]
        );
        assert!(
            json.contains(r#""state":"draining","drain":{"left_ms":2149,"reset":5,"moved":2}"#)
        );
    }
}
