//! The labs about local ports that come around again: what the server's kernel still remembers of the
//! connection before must not keep the next one waiting.
//!
//! ```text
//!   8 client addresses ──► VIP │ director │ one local address ──► server1
//! ```
//!
//! First the director loses its sessions while the server holds connections: new ones that get the same
//! local ports meet a server that takes the old ones for alive. Then short connections, so many that
//! each local port is used again while the server keeps its last connection in TIME-WAIT.

use super::report::{Check, Report};
use super::run::{client, counters, status};
use super::scenario::VIP;
use super::scenario::{
    CLIENT, DIRECTOR, DIRECTOR_CLIENTS, DIRECTOR_SERVERS, LOCAL_ADDRESSES, SERVERS,
};
use super::world::{self, World};
use super::{Problem, checks};
use core::net::Ipv4Addr;
use core::time::Duration;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Instant;

/// More addresses of the client, so that it has ports for all connections.
pub(crate) const CLIENTS: [Ipv4Addr; 8] = {
    let mut all = [Ipv4Addr::UNSPECIFIED; 8];
    let mut i = 0;
    while i < 8 {
        all[i] = Ipv4Addr::new(10, 0, 0, 21 + i as u8);
        i += 1;
    }
    all
};

/// A lost SYN is repeated after one second: who waits that long has lost one.
const LONGEST_CONNECT_MS: f64 = 900.0;
/// A server that takes the last connection for alive answers the SYN with an acknowledgement; a client
/// that resets it by that, and repeats its SYN in time, is connected well below this.
const LONGEST_AFTER_RESTART_MS: f64 = 1200.0;
/// How long a new data process may take on a busy machine.
const RESTART_PATIENCE: Duration = Duration::from_secs(20);

/// How much a lab of this kind does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// The local ports of the pool.
    first_port: u16,
    last_port: u16,
    /// How long the director keeps a session that is over.
    closing: &'static str,
    /// Short connections, and how many of them per second.
    connections: usize,
    rate: f64,
    /// Connections that are open when the director loses its sessions.
    held: usize,
}

/// All ports of an address come around in 32 s, of the 60 s that Linux keeps TIME-WAIT.
pub(crate) const FULL: Figures = Figures {
    first_port: 1025,
    last_port: 65535,
    closing: "7s",
    connections: 120_000,
    rate: 2000.0,
    held: 1000,
};

/// As often around, with fewer ports.
pub(crate) const QUICK: Figures = Figures {
    first_port: 1025,
    last_port: 1024 + 4096,
    closing: "1s",
    connections: 8000,
    rate: 800.0,
    held: 300,
};

impl Figures {
    const fn ports(&self) -> usize {
        self.last_port as usize - self.first_port as usize + 1
    }

    pub(super) fn director_config(&self, name: &str) -> String {
        let Self { first_port, last_port, closing, .. } = self;
        format!(
            "# Written by `lvsd lab`, scenario {name}.\n\
             [director]\nname = \"{name}\"\n\n\
             [[port]]\nname = \"clients\"\ninterface = \"clients\"\naddresses = [\"{DIRECTOR_CLIENTS}/24\"]\n\n\
             [[port]]\nname = \"servers\"\ninterface = \"servers\"\naddresses = [\"{DIRECTOR_SERVERS}/24\"]\n\n\
             [timeouts]\nprofile = \"lvs\"\ntcp_fin_wait = \"{closing}\"\ntcp_time_wait = \"{closing}\"\n\n\
             [[local_pool]]\nname = \"inside\"\naddresses = [\"{}\"]\nports = \"{first_port}-{last_port}\"\n\n\
             [[service]]\nname = \"web\"\naddress = \"{VIP}\"\nlocal_pool = \"inside\"\n\
             [[service.server]]\naddress = \"{}\"\n",
            LOCAL_ADDRESSES[0], SERVERS[0].address,
        )
    }
}

/// Both parts. With a director of the user's own nothing is killed.
pub(super) fn check_all(
    world: &World,
    figures: Figures,
    real_director: bool,
    report: &mut Report,
) -> Result<(), Problem> {
    let before = counters(world, DIRECTOR)?;
    let _held = if real_director { Some(half_dead(world, figures, report)?) } else { None };
    let (client_before, server_before) = (counters(world, CLIENT)?, peers(world)?);
    let number = figures.connections.to_string();
    let seen = storm(world, "--short", &number, figures.rate)?;
    let seen = &seen["short"];
    let server = peers(world)?;
    report.add(short(figures, seen));
    let in_time_wait = grown(&server_before, &server, "in_time_wait");
    report.add(reused(figures, in_time_wait, &server));
    let client_after = counters(world, CLIENT)?;
    let repeated = |name: &str| match (client_before.get(name), client_after.get(name)) {
        (Some(a), Some(b)) => Some(b - a),
        _ => None,
    };
    let missed = status(world)["ports"]
        .as_array()
        .map_or(0, |ports| ports.iter().filter_map(|port| port["rx_missed"].as_u64()).sum());
    report.add(no_repeats(repeated("TcpExt.TCPSynRetrans"), repeated("Tcp.RetransSegs"), missed));
    if real_director {
        report.add(checks::silence(&before, &counters(world, DIRECTOR)?));
    }
    if let Some(drops) = checks::drops(&status(world)) {
        let drops = if drops.is_empty() { "none" } else { &drops };
        report.note(&format!("      drops        {drops}"));
    }
    Ok(())
}

/// The director forgets its sessions, the server does not. The clients' ends of the forgotten ones come
/// back: their FINs would be repeated and counted.
fn half_dead(world: &World, figures: Figures, report: &mut Report) -> Result<Held, Problem> {
    let held = Held::open(world, figures.held)?;
    let killed = status(world)["data_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let Some(killed) = killed else {
        return Err(Problem::Failed("the director has no data process".to_owned()));
    };
    restart(world, killed)?;
    let before = peers(world)?;
    let (mut done, mut met, mut failed, mut slowest) = (0, 0, 0, 0f64);
    // The director begins at ports of its choice: go on until it has come past those that are held.
    while met < figures.held && done < figures.ports() {
        let seen = storm(world, "--short", &figures.held.to_string(), figures.rate)?;
        let seen = &seen["short"];
        done += figures.held;
        failed += seen["failed"].as_u64().unwrap_or(u64::MAX);
        slowest = slowest.max(seen["slowest_ms"].as_f64().unwrap_or(f64::INFINITY));
        let now = peers(world)?;
        met = usize::try_from(grown(&before, &now, "half_dead")).unwrap_or(0);
    }
    report.add(survived(figures, (done, met), failed, slowest));
    Ok(held)
}

/// Kills the data process and waits for the next.
fn restart(world: &World, pid: u32) -> Result<(), Problem> {
    // The number is one of the lab's PID namespace, which only processes started for it are in.
    let mut kill = world.command(DIRECTOR, "sh")?;
    let killed = kill.args(["-c", &format!("kill -9 {pid}")]).status();
    if !killed.is_ok_and(|status| status.success()) {
        return Err(Problem::Failed("the data process could not be killed".to_owned()));
    }
    let begin = Instant::now();
    while begin.elapsed() < RESTART_PATIENCE {
        let status = status(world);
        if status["state"] == "running" && status["data_pid"].as_u64() != Some(u64::from(pid)) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(Problem::Failed("no new data process".to_owned()))
}

fn storm(world: &World, job: &str, number: &str, rate: f64) -> Result<Value, Problem> {
    let rate = rate.to_string();
    let sources = CLIENTS.map(|address| address.to_string());
    let mut arguments = vec![job, number, "--rate", &rate];
    arguments.extend(sources.iter().flat_map(|source| ["--source", source]));
    client(world, &arguments)
}

/// Connections of the client that stay as they are until this is dropped.
struct Held(Child);

impl Held {
    fn open(world: &World, connections: usize) -> Result<Self, Problem> {
        let failed = |e: std::io::Error| Problem::failed(CLIENT, e);
        let mut command = world.command(CLIENT, world::own_program().map_err(failed)?)?;
        command.args(["lab", "client", "--hold", &connections.to_string()]);
        command.args(["--target", &VIP.to_string()]);
        for source in CLIENTS {
            command.args(["--source", &source.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut held = Self(command.spawn().map_err(failed)?);
        let mut line = String::new();
        if let Some(stdout) = held.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        if said["held"] == connections {
            Ok(held)
        } else {
            Err(Problem::Failed(format!("{connections} connections could not be opened: {line}")))
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What the server says about its peers. It is asked on its own host, past the director.
pub(super) fn peers(world: &World) -> Result<Value, Problem> {
    let server = &SERVERS[0];
    let failed = |e: &dyn core::fmt::Display| Problem::failed(server.name, e);
    let mut command = world.command(server.name, world::own_program().map_err(|e| failed(&e))?)?;
    command.args(["lab", "client", "--peers", "--target", &server.address.to_string()]);
    let output = command.stdin(Stdio::null()).output().map_err(|e| failed(&e))?;
    let said: Value = serde_json::from_slice(&output.stdout).map_err(|e| failed(&e))?;
    Ok(said["peers"].clone())
}

pub(super) fn grown(before: &Value, after: &Value, name: &str) -> u64 {
    let number = |value: &Value| value[name].as_u64().unwrap_or(0);
    number(after).saturating_sub(number(before))
}

fn survived(
    figures: Figures,
    (connections, met): (usize, usize),
    failed: u64,
    slowest: f64,
) -> Check {
    let held = figures.held;
    let pass = failed == 0 && met >= held && slowest <= LONGEST_AFTER_RESTART_MS;
    let what = format!(
        "data process killed while the server held {held} connections: of {connections} new ones {met} \
         got the port of a held one, {failed} failed, the slowest took {slowest:.0} ms"
    );
    Check::new("half-dead", pass, what)
        .figure("held", held)
        .figure("met", met)
        .figure("failed", failed)
        .figure("slowest_ms", slowest)
}

fn short(figures: Figures, seen: &Value) -> Check {
    let number = |name: &str| seen[name].as_f64().unwrap_or(f64::INFINITY);
    let slowest = number("slowest_ms");
    let pass = seen["connections"] == figures.connections
        && seen["failed"] == 0
        && slowest < LONGEST_CONNECT_MS;
    let mut what = format!(
        "{} connections from {} addresses in {:.1} s ({:.0}/s): {} failed; connected in {:.1} ms \
         (median), {:.1} ms (99 %), {slowest:.0} ms (slowest)",
        seen["connections"],
        CLIENTS.len(),
        number("seconds"),
        number("rate"),
        seen["failed"],
        number("median_ms"),
        number("p99_ms"),
    );
    if seen["failed"] != 0 {
        what += &format!("; for example {}", seen["examples"]);
    }
    let check = Check::new("short", pass, what);
    ["seconds", "rate", "median_ms", "p99_ms", "slowest_ms"]
        .into_iter()
        .fold(check, |check, name| check.figure(name, seen[name].clone()))
}

/// More connections than ports: all that are more came to a port in TIME-WAIT.
fn reused(figures: Figures, in_time_wait: u64, server: &Value) -> Check {
    let least = figures.connections.saturating_sub(figures.ports()) as u64;
    let soonest = server["soonest_s"].as_f64();
    let what = format!(
        "{in_time_wait} connections on {} local ports reached the server while it kept the one before in \
         TIME-WAIT, the soonest {} s after it",
        figures.ports(),
        soonest.map_or("-".to_owned(), |seconds| format!("{seconds:.1}")),
    );
    Check::new("reuse", in_time_wait >= least && least > 0, what)
        .figure("in_time_wait", in_time_wait)
        .figure("soonest_s", soonest)
}

fn no_repeats(syns: Option<i64>, segments: Option<i64>, missed: u64) -> Check {
    let shown = |n: Option<i64>| n.map_or("an unknown number of".to_owned(), |n| n.to_string());
    let mut what = format!(
        "the client's kernel repeated {} SYNs and {} segments in all",
        shown(syns),
        shown(segments)
    );
    if missed > 0 {
        what += &format!("; the director's rings were full for {missed} packets");
    }
    Check::new("repeats", syns == Some(0), what)
        .figure("syns", syns)
        .figure("segments", segments)
        .figure("rx_missed", missed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_ports_come_around_within_the_time_of_time_wait() {
        for figures in [FULL, QUICK] {
            let around = figures.ports() as f64 / figures.rate;
            assert!(around < 60.0 && figures.connections > figures.ports() * 9 / 5, "{figures:?}");
        }
    }

    #[test]
    fn one_failed_or_slow_connection_fails() {
        let seen = |failed: usize, slowest: f64| {
            json!({
                "connections": QUICK.connections, "failed": failed, "slowest_ms": slowest,
                "seconds": 10.0, "rate": 800.0, "median_ms": 1.0, "p99_ms": 2.0,
            })
        };
        assert!(short(QUICK, &seen(0, 80.0)).pass);
        assert!(!short(QUICK, &seen(1, 80.0)).pass);
        assert!(!short(QUICK, &seen(0, 1003.0)).pass);
        assert!(!short(FULL, &seen(0, 80.0)).pass, "too few");
        assert!(!short(QUICK, &Value::Null).pass);
    }

    #[test]
    fn what_did_not_come_around_or_was_repeated_fails() {
        let enough = (QUICK.connections - QUICK.ports()) as u64;
        assert!(reused(QUICK, enough, &Value::Null).pass);
        assert!(!reused(QUICK, enough - 1, &Value::Null).pass);
        assert!(no_repeats(Some(0), Some(3), 0).pass);
        assert!(!no_repeats(Some(1), Some(1), 0).pass);
        assert!(!no_repeats(None, None, 0).pass, "no counters, no statement");
    }

    #[test]
    fn a_restart_counts_only_when_held_ports_were_met() {
        let held = QUICK.held;
        assert!(survived(QUICK, (held, held), 0, 1030.0).pass);
        assert!(!survived(QUICK, (held, held - 1), 0, 10.0).pass);
        assert!(!survived(QUICK, (held, held), 1, 10.0).pass);
        assert!(!survived(QUICK, (held, held), 0, 1300.0).pass);
    }
}
