//! What forwarding through the director costs over veth, beside a bare ring loop, in one run.
//!
//! `afpacket [--quick] [--json] [--no-lab]`. It makes a network namespace of its own, as any user where
//! the system allows it; where not, it says so and ends with 77.
//!
//! ```text
//!   generator ─ veth ─ forwarder ─ veth ─ nobody      (and the other way round)
//! ```
//!
//! Three ways of forwarding take turns: a bare `TPACKET_V2` ring with `sendmmsg`
//! ([`lvs_benches::bare`]), the same loop over `PacketLane`, and the director over `PacketLane` with
//! 256 FullNAT sessions. A figure is CPU time of the forwarding thread for packets that already wait in
//! its rings, so that it is never idle. The exit code says whether it ran, not how fast it was.

use lvs_benches::bare::Bridge;
use lvs_benches::flows::{self, CLIENTS, GATEWAY_MAC, SERVERS};
use lvs_benches::generator::{Generator, Source};
use lvs_benches::rounds::{self, Figures};
use lvs_benches::{cpu, rounds::throughput};
use lvs_core::addr::MacAddr;
use lvs_core::io::{Burst, Lane, PacketBuf, PortId};
use lvs_core::time::Time;
use lvs_director::{Director, Outputs};
use lvs_io_afpacket::{Geometry, PacketLane, PortConfig, Rings, Slot};
use lvs_os::clock::monotonic_ns;
use lvs_os::namespace::{Namespace, unshare};
use serde_json::{Value, json};
use std::process::{Command, ExitCode};

/// Established sessions.
const SESSIONS: usize = 256;
/// Packets on each side in all passes of one figure.
const PACKETS: usize = 3840;
/// What must be and what should be reached, as throughput beside the bare loop.
const MUST: f64 = 0.90;
const GOAL: f64 = 0.95;
/// The exit code by which a program says that it cannot run on this machine.
const EXIT_SKIP: u8 = 77;

const MODES: [&str; 3] = ["bare V2 ring + sendmmsg", "PacketLane alone", "director, FullNAT"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // The lab makes namespaces itself, so it runs before this process leaves the first one.
    let downloads = if has("--no-lab") { Vec::new() } else { downloads() };
    if let Err(error) = namespace() {
        println!("no network namespace with a veth pair can be made here: {error}");
        return ExitCode::from(EXIT_SKIP);
    }
    let rounds = if has("--quick") { 6 } else { 40 };
    let mut tables = Vec::new();
    let conditions = conditions();
    // Packets that wait on each side before a pass: most of the ring, in whole bursts.
    for (name, geometry, waiting) in
        [("128 KiB x 256", Geometry::TRAINS, 192), ("2 KiB x 4096", Geometry::MTU_ONLY, PACKETS)]
    {
        match measure(geometry, waiting, rounds) {
            Ok(figures) => tables.push((name, figures)),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if has("--json") {
        show_json(&conditions, &tables, &downloads);
    } else {
        show(&conditions, &tables, &downloads);
    }
    ExitCode::SUCCESS
}

/// Leaves for a namespace where interfaces can be made.
fn namespace() -> Result<(), String> {
    unshare(&[Namespace::User, Namespace::Net])
        .or_else(|_| unshare(&[Namespace::Net]))
        // `ip` is to make interfaces, too, though nobody is root in there.
        .and_then(|()| lvs_os::privilege::keep_across_exec())
        .map_err(|error| error.to_string())?;
    ip("link set lo up")
}

fn ip(args: &str) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let run = Command::new("ip").args(args.split(' ')).env("PATH", path).output();
    let output = run.map_err(|error| format!("ip (iproute2): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Two cables; names of the generator's and of the forwarder's ends.
fn cables(prefix: &str) -> Result<[(String, String); 2], String> {
    let cable = |number: usize| {
        let (far, near) = (format!("{prefix}g{number}"), format!("{prefix}p{number}"));
        ip(&format!("link add {far} type veth peer name {near}"))?;
        for end in [&far, &near] {
            // Without an address of its own it is silent; a kernel without IPv6 refuses, and is too.
            let _ = ip(&format!("link set {end} addrgenmode none"));
            ip(&format!("link set {end} up"))?;
        }
        Ok::<_, String>((far, near))
    };
    Ok([cable(0)?, cable(1)?])
}

/// Everything that forwards, with its own cables.
struct Bench<'m> {
    generator: Generator,
    bare: Bridge,
    lane: PacketLane<'m>,
    director: Director<'m>,
    out: Outputs<Slot<'m>>,
    waiting: usize,
    /// First 12 bytes of what leaves toward servers and toward clients.
    macs: [[u8; 12]; 2],
}

fn measure(geometry: Geometry, waiting: usize, rounds: usize) -> Result<Vec<Figures>, String> {
    // Names that are gone again when the geometry changes.
    let prefix = if geometry == Geometry::TRAINS { "a" } else { "b" };
    let bare_cables = cables(&format!("{prefix}x"))?;
    let lane_cables = cables(&format!("{prefix}y"))?;
    let configs = lane_cables.each_ref().map(|(_, near)| {
        let mut port = PortConfig::new(near.as_str());
        port.geometry = geometry;
        port
    });
    let mut rings = Rings::open(&configs).map_err(|error| error.to_string())?;
    let mut memory = flows::memory()?;
    let mut lane = rings.lane();
    let mut director = flows::director(&mut memory);
    let now = Time(monotonic_ns());
    let flows = flows::establish(&mut director, &mut lane, now, SESSIONS)?;
    let own = [CLIENTS, SERVERS].map(|port| lane.port_info(port).mac);
    let twelve = |dst: MacAddr, src: MacAddr| {
        let mut bytes = [0; 12];
        bytes[..6].copy_from_slice(&dst.0);
        bytes[6..].copy_from_slice(&src.0);
        bytes
    };
    let names = bare_cables.each_ref().map(|(_, near)| near.as_str());
    let (size, slots) = (geometry.slot_size as usize, geometry.slots as usize);
    let bare = Bridge::open(names, size, slots).map_err(|error| format!("bare ring: {error}"))?;
    let source = |cables: &[(String, String); 2]| Source {
        sides: [
            (cables[0].0.clone(), flows.inbound.clone()),
            (cables[1].0.clone(), flows.replies.clone()),
        ],
    };
    let sources = vec![source(&bare_cables), source(&lane_cables)];
    let generator = Generator::new(sources).map_err(|error| error.to_string())?;
    let out = Outputs::new(2);
    let macs = [twelve(flows::server_mac(0), own[1]), twelve(GATEWAY_MAC, own[0])];
    let mut bench = Bench { generator, bare, lane, director, out, waiting, macs };
    let mut failed = None;
    let figures = rounds::alternate(MODES.len(), rounds, |mode| {
        bench.figure(mode).unwrap_or_else(|error| {
            failed.get_or_insert(format!("{}: {error}", MODES[mode]));
            f64::NAN
        })
    });
    drop(bench);
    failed.map_or(Ok(figures), Err)
}

impl Bench<'_> {
    /// Nanoseconds of CPU a packet.
    fn figure(&mut self, mode: usize) -> Result<f64, String> {
        let (mut spent, mut packets, mut disturbed) = (0, 0, 0);
        while packets < 2 * PACKETS {
            self.generator.send(usize::from(mode > 0), self.waiting).map_err(|e| e.to_string())?;
            let start = cpu::thread_ns();
            let idle = self.drain(mode)?;
            let took = cpu::thread_ns() - start;
            if idle == 0 {
                (spent, packets) = (spent + took, packets + 2 * self.waiting);
                continue;
            }
            // Packets came late: the pass measured waiting, too.
            disturbed += 1;
            if disturbed > 1000 {
                return Err("packets do not wait in the rings when they should".into());
            }
        }
        Ok(spent as f64 / packets as f64)
    }

    /// Forwards everything that waits; returns how often there was nothing to do.
    fn drain(&mut self, mode: usize) -> Result<u32, String> {
        let (mut moved, mut idle) = (0, 0);
        while moved < 2 * self.waiting {
            let now = match mode {
                0 => self.bare_round()?,
                1 => self.lane_round()?,
                _ => self.director_round()?,
            };
            moved += now;
            idle += u32::from(now == 0);
            if idle > 1_000_000 {
                return Err(format!("only {moved} of {} packets arrived", 2 * self.waiting));
            }
        }
        Ok(idle)
    }

    fn bare_round(&mut self) -> Result<usize, String> {
        let [up, down] = self.macs;
        let failed = |error: std::io::Error| error.to_string();
        Ok(self.bare.pass(0, &up).map_err(failed)? + self.bare.pass(1, &down).map_err(failed)?)
    }

    fn lane_round(&mut self) -> Result<usize, String> {
        let mut received = 0;
        for (from, to, macs) in [(CLIENTS, SERVERS, self.macs[0]), (SERVERS, CLIENTS, self.macs[1])]
        {
            let mut burst = Burst::new();
            received += self.lane.rx_burst(from, &mut burst).map_err(|e| e.to_string())?;
            for packet in burst.iter_mut() {
                if let Some(place) = packet.data_mut().first_chunk_mut::<12>() {
                    *place = macs;
                }
            }
            let all = burst.len();
            let taken = self.lane.tx_burst(to, &mut burst).map_err(|e| e.to_string())?;
            if taken != all {
                return Err(format!("{taken} of {all} packets were taken"));
            }
        }
        Ok(received)
    }

    /// One turn of a worker's loop.
    fn director_round(&mut self) -> Result<usize, String> {
        let (lane, out) = (&mut self.lane, &mut self.out);
        let mut burst = Burst::new();
        let now = Time(monotonic_ns());
        let mut received = 0;
        for port in (0..lane.port_count()).map(PortId) {
            received += lane.rx_burst(port, &mut burst).map_err(|error| error.to_string())?;
            self.director.process(now, lane, port, &mut burst, out);
        }
        self.director.expire(now, 256);
        self.director.tick(now, lane, out);
        out.flush(lane);
        let counters = self.director.counters();
        if out.dropped() > 0 || !out.is_empty() || counters.dropped_total() > 0 {
            return Err(format!("packets were dropped: {counters:?}"));
        }
        Ok(received)
    }
}

/// What one long TCP connection reaches in the labs: name, MB/s or why not.
fn downloads() -> Vec<(&'static str, Result<f64, String>)> {
    [("fullnat", "through FullNAT"), ("forward", "plain kernel forwarding")]
        .into_iter()
        .map(|(scenario, name)| (name, download(scenario)))
        .collect()
}

/// Runs a lab of the `lvsd` that stands beside this program.
fn download(scenario: &str) -> Result<f64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let lvsd = own.with_file_name("lvsd");
    if !lvsd.exists() {
        return Err("not measured: build it with `cargo build --release -p lvsd`".into());
    }
    let run = Command::new(lvsd).args(["lab", "run", scenario, "--json"]).output();
    let output = run.map_err(|error| error.to_string())?;
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().last().unwrap_or("no word").to_owned()
    };
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("not measured: lvsd lab run {scenario}: {}", last(&output.stderr)))?;
    let checks = report["checks"].as_array().cloned().unwrap_or_default();
    let figure = checks.iter().find(|check| check["id"] == "download");
    let speed = figure.and_then(|check| check["figures"]["mb_per_s"].as_f64());
    speed.ok_or_else(|| format!("not measured: no download in lvsd lab run {scenario}"))
}

type Conditions = Vec<(&'static str, String)>;

/// Where this was measured; keeps the thread on one core from here on.
fn conditions() -> Conditions {
    let mut conditions = cpu::conditions();
    let pinned = if cpu::pin(0) { "core 0" } else { "no" };
    conditions.push(("pinned", pinned.to_owned()));
    conditions
}

fn verdict(ratio: f64) -> &'static str {
    match ratio {
        ratio if ratio >= GOAL => "goal reached",
        ratio if ratio >= MUST => "must reached",
        _ => "MISSED",
    }
}

fn show(
    conditions: &Conditions,
    tables: &[(&str, Vec<Figures>)],
    downloads: &[(&str, Result<f64, String>)],
) {
    println!(
        "AF_PACKET over veth, frames of 60 bytes, {SESSIONS} FullNAT sessions, both directions"
    );
    for (name, value) in conditions {
        println!("{name:>10}  {value}");
    }
    for (name, figures) in tables {
        let packets = figures[0].0.len() * 2 * PACKETS;
        println!("\nring of {name} slots, {packets} packets each way of forwarding");
        println!("  ns of CPU a packet         median      min   throughput beside the bare loop");
        for (mode, figure) in MODES.iter().zip(figures) {
            let ratio = throughput(&figures[0], figure);
            let (median, min) = (figure.median(), figure.min());
            println!("  {mode:<24} {median:>8.0} {min:>8.0}   {ratio:.3}");
        }
        let ratio = throughput(&figures[0], &figures[2]);
        println!(
            "  director / bare loop: {ratio:.3}, must {MUST:.2}, goal {GOAL:.2}: {}",
            verdict(ratio)
        );
        println!("  director / PacketLane alone: {:.3}", throughput(&figures[1], &figures[2]));
    }
    if !downloads.is_empty() {
        println!("\none long TCP download in the lab, MB/s");
    }
    for (name, figure) in downloads {
        match figure {
            Ok(speed) => println!("  {name:<24} {speed:>8.0}"),
            Err(why) => println!("  {name:<24} {why}"),
        }
    }
}

fn show_json(
    conditions: &Conditions,
    tables: &[(&str, Vec<Figures>)],
    downloads: &[(&str, Result<f64, String>)],
) {
    let rows = |figures: &[Figures]| -> Vec<Value> {
        let row = |(mode, figure): (&&str, &Figures)| {
            let ratio = throughput(&figures[0], figure);
            json!({"mode": mode, "median_ns": figure.median(), "min_ns": figure.min(), "ratio": ratio})
        };
        MODES.iter().zip(figures).map(row).collect()
    };
    let tables: Vec<Value> = tables
        .iter()
        .map(|(ring, figures)| {
            let ratio = throughput(&figures[0], &figures[2]);
            json!({"ring": ring, "rows": rows(figures), "ratio": ratio, "verdict": verdict(ratio)})
        })
        .collect();
    let downloads: Vec<Value> = downloads
        .iter()
        .map(|(name, figure)| match figure {
            Ok(speed) => json!({"what": name, "mb_per_s": speed}),
            Err(why) => json!({"what": name, "why_not": why}),
        })
        .collect();
    let conditions: serde_json::Map<String, Value> = conditions
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
        .collect();
    let report = json!({
        "schema": 1, "bench": "afpacket", "conditions": conditions, "must": MUST, "goal": GOAL,
        "rings": tables, "downloads": downloads,
    });
    println!("{report}");
}
