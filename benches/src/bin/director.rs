//! What the director alone costs: plain FullNAT segments over the in-memory lane, in bursts and one at
//! a time, beside the lane alone.
//!
//! `director [--quick] [--json]`. The figures are the baseline that faster packet paths are compared
//! with; see `docs/performance.md`.

use lvs_benches::flows::{self, CLIENTS, Flows, SERVERS};
use lvs_benches::rng::Rng;
use lvs_benches::{cpu, rounds};
use lvs_core::addr::MacAddr;
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::{BURST, Burst, Lane, PortId};
use lvs_core::time::Time;
use lvs_director::{Director, Outputs};
use lvs_os::clock::monotonic_ns;
use lvs_os::memory::Region;
use std::process::ExitCode;

/// Packets of one figure, half of them in each direction.
const PACKETS: usize = 64 * BURST;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All modes over one set of sessions.
struct Bench<'m> {
    director: Director<'m>,
    lane: MemLane,
    out: Outputs<MemBuf>,
    flows: Flows,
    rng: Rng,
}

fn run() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (quick, json) = (args.contains(&"--quick".into()), args.contains(&"--json".into()));
    let conditions = cpu::conditions();
    let pinned = cpu::pin(0);
    let sizes: &[usize] = if quick { &[1, 1 << 10] } else { &[1, 1 << 10, 1 << 16] };
    let mut rows = Vec::new();
    for sessions in sizes {
        let mut memory = flows::memory()?;
        let mut bench = Bench::new(*sessions, &mut memory)?;
        let rounds = if quick { 20 } else { 200 };
        let mut failed = None;
        let figures = rounds::alternate(3, rounds, |mode| {
            bench.measure(mode).unwrap_or_else(|error| {
                failed = Some(error);
                f64::NAN
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
        rows.push((*sessions, figures));
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(sessions, f)| {
                serde_json::json!({
                    "sessions": sessions,
                    "lane_ns": {"median": f[0].median(), "min": f[0].min()},
                    "bursts_ns": {"median": f[1].median(), "min": f[1].min()},
                    "one_at_a_time_ns": {"median": f[2].median(), "min": f[2].min()},
                })
            })
            .collect();
        println!("{}", serde_json::json!({"bench": "director", "rows": rows}));
        return Ok(());
    }
    println!("FullNAT v4, plain segments of 60 bytes, both directions");
    for (name, value) in conditions {
        println!("{name:>10}  {value}");
    }
    println!("{:>10}  {}", "pinned", if pinned { "core 0" } else { "no" });
    println!("ns of CPU a packet, lane included: median (min)");
    println!("  sessions       lane alone           bursts    one at a time   director in bursts");
    for (sessions, f) in rows {
        let cell = |at: usize| format!("{:.1} ({:.1})", f[at].median(), f[at].min());
        let own = f[1].median() - f[0].median();
        println!("  {sessions:>8} {:>16} {:>16} {:>16} {own:>20.1}", cell(0), cell(1), cell(2));
    }
    Ok(())
}

impl<'m> Bench<'m> {
    fn new(sessions: usize, memory: &'m mut Region) -> Result<Self, String> {
        let ports = [1, 2].map(|last| {
            let mut port = MemPort::new(MacAddr([2, 0, 0, 0, 0, last]));
            (port.rx_queue, port.tx_queue, port.caps.max_held) = (PACKETS, PACKETS, u32::MAX);
            port
        });
        let mut lane = MemLane::new(ports);
        let mut director = flows::director(memory);
        let now = Time(monotonic_ns());
        let flows = flows::establish(&mut director, &mut lane, now, sessions)?;
        Ok(Self { director, lane, out: Outputs::new(2), flows, rng: Rng::new(1) })
    }

    /// One figure: nanoseconds a packet over fresh packets of sessions drawn at random.
    fn measure(&mut self, mode: usize) -> Result<f64, String> {
        for (port, frames) in [(CLIENTS, &self.flows.inbound), (SERVERS, &self.flows.replies)] {
            for _ in 0..PACKETS / 2 {
                let frame = &frames[self.rng.below(frames.len())];
                let refused = |_| "the lane took no more packets".to_owned();
                self.lane.inject(port, MemBuf::from_bytes(frame)).map_err(refused)?;
            }
        }
        let start = cpu::thread_ns();
        let now = Time(monotonic_ns());
        match mode {
            0 => self.through_lane(),
            1 => self.through_director(now, false),
            _ => self.through_director(now, true),
        }
        let spent = cpu::thread_ns() - start;
        let mut sent = 0;
        for port in [CLIENTS, SERVERS] {
            while self.lane.take_sent(port).is_some() {
                sent += 1;
            }
        }
        if sent != PACKETS {
            return Err(format!("{sent} of {PACKETS} packets came out: {:?}", self.director));
        }
        Ok(spent as f64 / PACKETS as f64)
    }

    fn through_director(&mut self, now: Time, one_at_a_time: bool) {
        let mut burst = Burst::new();
        loop {
            let mut received = 0;
            for port in [CLIENTS, SERVERS] {
                received += self.lane.rx_burst(port, &mut burst).unwrap_or(0);
                if one_at_a_time {
                    burst.drain_with(|packet| {
                        let (lane, out) = (&mut self.lane, &mut self.out);
                        self.director.process_one(now, lane, port, packet, out);
                    });
                } else {
                    self.director.process(now, &mut self.lane, port, &mut burst, &mut self.out);
                }
            }
            self.director.expire(now, 256);
            self.director.tick(now, &mut self.lane, &mut self.out);
            self.out.flush(&mut self.lane);
            if received == 0 {
                return;
            }
        }
    }

    fn through_lane(&mut self) {
        let mut burst = Burst::new();
        loop {
            let mut received = 0;
            for (from, to) in [(CLIENTS, SERVERS), (SERVERS, CLIENTS)] {
                received += self.lane.rx_burst(from, &mut burst).unwrap_or(0);
                let _: Result<usize, _> = self.lane.tx_burst(to, &mut burst);
            }
            if received == 0 {
                return;
            }
        }
    }
}

/// The two ports are all there are.
const _: () = assert!(CLIENTS.0 == PortId(0).0 && SERVERS.0 == PortId(1).0);
