//! What a pick costs, and a rebuild: every scheduler at 10 to 10 000 servers, and as ratios in this one run.
//!
//! `cargo run --release -p lvs-sched --example pick_cost`. Nanoseconds are the best of several rounds, so that
//! another program's turn on the core does not count; rounds go forward and back through what is compared.

use core::hint::black_box;
use lvs_core::addr::RealAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::{ServerId, WorkerId};
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad, Weight};
use std::time::Instant;

const SIZES: [u16; 4] = [10, 100, 1000, 10_000];

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let rounds = if quick { 3 } else { 9 };
    println!(
        "ns a pick, servers of weights 1 to 4, a session opened and one closed between picks where load counts"
    );
    println!("{:22} {:>8} {:>8} {:>8} {:>8}   rebuild at 1000, ms", "", 10, 100, 1000, 10_000);
    let floor = SchedulerDef {
        name: "(the loop alone)",
        summary: "picks the first",
        build: |_| Box::new(First),
    };
    for def in [&floor].into_iter().chain(lvs_sched::ALL.iter().copied()) {
        let cost = SIZES.map(|count| best(rounds, || picks(def, &mut Stage::new(def, count))));
        let rebuild = best(rounds, || rebuild(def)) / 1e6;
        let [a, b, c, d] = cost;
        println!("{:22} {a:8.1} {b:8.1} {c:8.1} {d:8.1}   {rebuild:.2}", def.name);
    }
    println!();
    let scan = SchedulerDef {
        name: "scan",
        summary: "wlc by looking at all servers",
        build: |_| Box::new(Scan),
    };
    let [wlc, scan] = compare(rounds, [&lvs_sched::wlc::DEF, &scan], |def| {
        picks(def, &mut Stage::new(def, 1000))
    });
    println!(
        "wlc at 1000 servers: {wlc:.0} ns by tournament, {scan:.0} ns by scan: {:.1} x (must: 12)",
        scan / wlc
    );
    println!(
        "with half of 1000 servers out, drawn at random: times the cost with all of them (must: 2), call included"
    );
    for def in lvs_sched::ALL {
        let mut stages = [false, true].map(|out| {
            let mut stage = Stage::new(def, 1000);
            if out {
                stage.take_half_out();
            }
            stage
        });
        let mut least = [f64::MAX; 2];
        for at in (0..rounds).flat_map(|_| [0, 1, 1, 0]) {
            least[at] = least[at].min(picks(def, &mut stages[at]));
        }
        println!("{:22} {:5.2} x of {:.1} ns", def.name, least[1] / least[0], least[0]);
    }
}

/// What the loop and the call cost.
struct First;

impl Scheduler for First {
    fn rebuild(&mut self, _: &[ServerLoad]) {}

    fn pick(&mut self, _: &WireTuple, _: &[ServerLoad]) -> Option<usize> {
        Some(0)
    }
}

/// Looks at every server.
struct Scan;

impl Scheduler for Scan {
    fn rebuild(&mut self, _: &[ServerLoad]) {}

    fn pick(&mut self, _: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let load = |s: &ServerLoad| u64::from(s.active) * 256 + u64::from(s.inactive);
        let mut best: Option<(usize, &ServerLoad)> = None;
        for (at, server) in servers.iter().enumerate().filter(|(_, s)| s.is_available()) {
            let less = |b: &ServerLoad| {
                load(server) * u64::from(b.weight.0) < load(b) * u64::from(server.weight.0)
            };
            if best.is_none_or(|(_, best)| less(best)) {
                best = Some((at, server));
            }
        }
        best.map(|(at, _)| at)
    }
}

struct Stage {
    scheduler: Box<dyn Scheduler>,
    servers: Vec<ServerLoad>,
    flows: Vec<WireTuple>,
    /// Whether sessions open and close: the algorithm looks at loads.
    loads: bool,
}

impl Stage {
    fn new(def: &SchedulerDef, count: u16) -> Self {
        let server = |id: u16| {
            let [high, low] = id.to_be_bytes();
            ServerLoad {
                id: ServerId(id),
                addr: RealAddr::new([10, 1, high, low].into(), 80),
                weight: Weight(1 + id % 4),
                overloaded: false,
                active: 10 * u32::from(1 + id % 4),
                inactive: 0,
            }
        };
        let servers: Vec<_> = (0..count).map(server).collect();
        let flow = |n: u32| {
            let ip = n.wrapping_mul(0x9e37_79b9).to_be_bytes();
            let dst = [10, 0, (n >> 8) as u8, n as u8];
            WireTuple::new(L4Proto::Tcp, ip.into(), (n * 7) as u16, dst.into(), 80)
                .expect("one family")
        };
        let mut scheduler = (def.build)(SchedulerArgs { worker: WorkerId(0), workers: 1 });
        scheduler.rebuild(&servers);
        let loads = ["lc", "wlc", "scan", "sed", "nq", "twos", "lblc", "lblcr"].contains(&def.name);
        Self { scheduler, servers, flows: (0..1 << 16).map(flow).collect(), loads }
    }
}

impl Stage {
    fn take_half_out(&mut self) {
        let mut random = 7u64;
        for at in 0..self.servers.len() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.servers[at].overloaded = random >> 63 == 0;
            self.scheduler.load_changed(at, &self.servers);
        }
    }
}

/// Nanoseconds a pick.
fn picks(def: &SchedulerDef, stage: &mut Stage) -> f64 {
    let slow = stage.loads || def.name == "wrr-smooth";
    let times = if slow { 1 } else { 3 };
    let start = Instant::now();
    let mut random = 1u64;
    for _ in 0..times {
        for flow in &stage.flows {
            let picked = black_box(stage.scheduler.pick(flow, &stage.servers));
            if let (Some(at), true) = (picked, stage.loads) {
                stage.servers[at].active += 1;
                stage.scheduler.load_changed(at, &stage.servers);
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let closed = (random >> 33) as usize % stage.servers.len();
                stage.servers[closed].active = stage.servers[closed].active.saturating_sub(1);
                stage.scheduler.load_changed(closed, &stage.servers);
            }
        }
    }
    start.elapsed().as_nanos() as f64 / (times * stage.flows.len()) as f64
}

/// Nanoseconds of a rebuild with 1000 servers.
fn rebuild(def: &SchedulerDef) -> f64 {
    let mut stage = Stage::new(def, 1000);
    // Another weight, or some know that nothing has changed.
    stage.servers[500].weight = Weight(3);
    let start = Instant::now();
    stage.scheduler.rebuild(&stage.servers);
    start.elapsed().as_nanos() as f64
}

fn best(rounds: usize, measure: impl Fn() -> f64) -> f64 {
    (0..rounds).map(|_| measure()).fold(f64::MAX, f64::min)
}

fn compare<const N: usize>(
    rounds: usize,
    what: [&SchedulerDef; N],
    measure: impl Fn(&SchedulerDef) -> f64,
) -> [f64; N] {
    let mut best = [f64::MAX; N];
    for round in 0..2 * rounds {
        for step in 0..N {
            let at = if round % 2 == 0 { step } else { N - 1 - step };
            best[at] = best[at].min(measure(what[at]));
        }
    }
    best
}
