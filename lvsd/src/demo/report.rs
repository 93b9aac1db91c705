//! What the demo prints.

use super::world::{CLIENTS, Connection, Outcome, VIRTUAL};
use super::{Args, Mode};
use lvs_core::counters::Counters;
use lvs_core::verdict::DropReason;
use serde_json::{Map, Value, json};
use std::io::{Write, stdout};

/// Version of the shape of the JSON output.
const JSON_SCHEMA: u32 = 1;

/// A reader that went away is no reason to fail.
pub(super) fn say(text: &str) {
    let _ = stdout().write_all(text.as_bytes());
}

/// What is shown before the packets run.
pub(super) fn opening(args: &Args) -> String {
    let loss = match args.loss {
        0 => "good links".to_owned(),
        ppm => format!("links that lose {ppm} frames per million"),
    };
    format!(
        "{}\n{} connections, {} each way, every byte checked; {loss}; seed {}.\n\
         All hosts are TCP/IP stacks in this process and the clock is virtual.\n\n",
        drawing(args.mode),
        CLIENTS.len() * VIRTUAL.len(),
        size(args.bytes),
        args.seed,
    )
}

fn drawing(mode: Mode) -> String {
    let [a, b, c] = match mode {
        Mode::Fullnat => {
            ["FullNAT, round robin, TOA", "local  10.1.0.100, .101", "       fd01::100"]
        }
        Mode::Nat => ["NAT, round robin", "servers' default route:", "       10.1.0.1, fd01::1"],
    };
    let [four, six] = VIRTUAL;
    let bar = "─".repeat(28);
    format!(
        "  clients                          director                          servers\n\
         \x20                        ┌{bar}┐\n\
         \x20 client1 10.0.0.21 ─┐   │ VIP    {four:<20}│   ┌─ server1 10.1.0.11\n\
         \x20         fd00::21   │   │        {six:<20}│   │          fd01::11\n\
         \x20 client2 10.0.0.22 ─┼───┤ {a:<27}├───┼─ server2 10.1.0.12\n\
         \x20         fd00::22   │   │ {b:<27}│   │          fd01::12\n\
         \x20 client3 10.0.0.23 ─┘   │ {c:<27}│   └─ server3 10.1.0.13\n\
         \x20         fd00::23       └{bar}┘              fd01::13\n"
    )
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes >= MIB && bytes.is_multiple_of(MIB) {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{bytes} bytes")
    }
}

/// What is shown afterwards.
pub(super) fn text(args: &Args, outcome: &Outcome) -> String {
    let mut text = String::new();
    if let Some(stuck) = &outcome.stuck {
        text += &format!("{stuck}\n\n");
    }
    for connection in &outcome.connections {
        text += &one_connection(args.mode, connection);
    }
    text += "\n";
    for check in &outcome.checks {
        let word = if check.pass { "PASS" } else { "FAIL" };
        text += &format!("{word}  {:<10} {}\n", check.id, check.what);
    }
    text += "\ncounters of the director\n";
    for (name, value) in counted(&outcome.counters) {
        text += &format!("  {name:<18} {value}\n");
    }
    text += &format!(
        "\ndemo {}: {} after {:.3} s of virtual time.\n",
        args.mode.name(),
        if outcome.passed() { "all checks passed" } else { "FAILED" },
        outcome.took.as_secs_f64(),
    );
    text += match args.mode {
        Mode::Fullnat => {
            "Next: `lvsd lab run fullnat` does the same between kernel TCP stacks, over AF_PACKET.\n"
        }
        Mode::Nat => {
            "Next: `lvsd lab run nat` does the same between kernel TCP stacks, over AF_PACKET.\n"
        }
    };
    text
}

fn one_connection(mode: Mode, connection: &Connection) -> String {
    let word = if connection.faults.is_empty() { "PASS" } else { "FAIL" };
    let client = connection.client.map_or_else(|| "not connected".to_owned(), |c| c.to_string());
    let Connection { client_name, to, sent, received, .. } = connection;
    let mut text =
        format!("{word}  {client_name} {client} -> {to}: {sent} bytes there, {received} back\n");
    if let Some(side) = &connection.server {
        let knows = match (mode, side.toa) {
            (Mode::Fullnat, Some(toa)) => format!("reads client {toa} from TOA"),
            (Mode::Fullnat, None) => "reads no client".to_owned(),
            (Mode::Nat, _) => "which is the client itself".to_owned(),
        };
        text += &format!("        {} {} sees peer {}, {knows}\n", side.name, side.local, side.peer);
    }
    for fault in &connection.faults {
        text += &format!("        ! {fault}\n");
    }
    text
}

/// Every counter that is not zero, drops last.
fn counted(counters: &Counters) -> Vec<(&'static str, u64)> {
    let received = [("received", counters.received.packets), ("bytes", counters.received.bytes)];
    let drops = DropReason::ALL.iter().map(|reason| (reason.id(), counters.dropped(*reason)));
    let all = received.into_iter().chain(counters.named()).chain(drops);
    all.filter(|(_, value)| *value > 0).collect()
}

/// The same for programs.
pub(super) fn json(args: &Args, outcome: &Outcome) -> String {
    let connections: Vec<Value> = outcome.connections.iter().map(connection_json).collect();
    let servers: Map<_, _> =
        outcome.balance.iter().map(|(name, served)| (name.clone(), json!(served))).collect();
    let checks: Vec<Value> = outcome
        .checks
        .iter()
        .map(|check| json!({ "id": check.id, "pass": check.pass, "what": check.what }))
        .collect();
    let counters: Map<_, _> = counted(&outcome.counters)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let value = json!({
        "schema": JSON_SCHEMA,
        "mode": args.mode.name(),
        "seed": args.seed,
        "loss_ppm": args.loss,
        "bytes": args.bytes,
        "pass": outcome.passed(),
        "stuck": outcome.stuck,
        "virtual_seconds": outcome.took.as_secs_f64(),
        "connections": connections,
        "served": servers,
        "checks": checks,
        "counters": counters,
    });
    format!("{value:#}\n")
}

fn connection_json(connection: &Connection) -> Value {
    let side = connection.server.as_ref();
    json!({
        "host": connection.client_name,
        "client": connection.client.map(|client| client.to_string()),
        "virtual": connection.to,
        "server": side.map(|side| side.local.to_string()),
        "peer_seen": side.map(|side| side.peer.to_string()),
        "client_from_toa": side.and_then(|side| side.toa).map(|toa| toa.to_string()),
        "bytes_sent": connection.sent,
        "bytes_received": connection.received,
        "bytes_at_server": side.map(|side| side.received),
        "pass": connection.faults.is_empty(),
        "faults": connection.faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_drawing_stays_within_a_terminal() {
        for mode in [Mode::Fullnat, Mode::Nat] {
            for line in drawing(mode).lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }

    #[test]
    fn sizes_are_whole_mebibytes_or_bytes() {
        assert_eq!(size(1 << 20), "1 MiB");
        assert_eq!(size((1 << 20) + 1), "1048577 bytes");
        assert_eq!(size(0), "0 bytes");
    }
}
