//! What it costs to choose a server.

use super::{Effort, Report};
use crate::cpu::thread_ns;
use crate::rounds::{Figures, alternate};
use crate::table::Row;
use core::cell::RefCell;
use core::hint::black_box;
use lvs_core::addr::RealAddr;
use lvs_core::flow::{L4Proto, TupleV4, WireTuple};
use lvs_core::id::{ServerId, WorkerId};
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad, Weight};
use lvs_testkit::traffic::Rng;

const PICKS: usize = 1 << 14;
/// Tuples of one round: few enough to stay at hand.
const FLOWS: usize = 128;
/// Those that must not depend on the number of servers.
const CONSTANT: &[&str] = &["rr", "wrr", "maglev"];

/// Chooses nobody: what the loop and the call cost.
struct Nobody;

impl Scheduler for Nobody {
    fn rebuild(&mut self, _servers: &[ServerLoad]) {}
    fn pick(&mut self, _flow: &WireTuple, _servers: &[ServerLoad]) -> Option<usize> {
        None
    }
}

/// Servers of different weights, without sessions.
#[must_use]
pub fn servers(count: usize) -> Vec<ServerLoad> {
    let server = |n: usize| ServerLoad {
        id: ServerId(n as u16),
        addr: RealAddr::new([10, 1, (n >> 8) as u8, n as u8].into(), 80),
        weight: Weight(1 + (n * 37 % 100) as u16),
        overloaded: false,
        active: 0,
        inactive: 0,
    };
    (0..count).map(server).collect()
}

/// A tuple of a client.
#[must_use]
pub const fn flow(number: u64) -> WireTuple {
    WireTuple::V4(TupleV4 {
        src: number as u32,
        dst: 0x0a00_0050,
        sport: (number >> 32) as u16,
        dport: 80,
        proto: L4Proto::Tcp,
    })
}

/// A scheduler, ready.
#[must_use]
pub fn build(def: &SchedulerDef, servers: &[ServerLoad]) -> Box<dyn Scheduler> {
    let mut scheduler = (def.build)(SchedulerArgs { worker: WorkerId(0), workers: 1 });
    scheduler.rebuild(servers);
    scheduler
}

/// Nanoseconds a pick, loads unchanged.
fn picks(scheduler: &mut dyn Scheduler, servers: &[ServerLoad], flows: &[WireTuple]) -> f64 {
    let start = thread_ns();
    for flow in flows.iter().cycle().take(PICKS) {
        black_box(scheduler.pick(flow, servers));
    }
    (thread_ns() - start) as f64 / PICKS as f64
}

/// Nanoseconds for a session that comes and one that goes, loads kept by `picked` and `left`.
fn turnover(
    servers: &mut [ServerLoad],
    rng: &mut Rng,
    mut pick: impl FnMut(&[ServerLoad]) -> Option<usize>,
    mut changed: impl FnMut(usize, &[ServerLoad]),
) -> f64 {
    let start = thread_ns();
    for _ in 0..PICKS {
        let Some(at) = pick(servers) else { continue };
        servers[at].active += 1;
        changed(at, servers);
        let other = rng.below(servers.len());
        if servers[other].active > 0 {
            servers[other].active -= 1;
            changed(other, servers);
        }
    }
    (thread_ns() - start) as f64 / PICKS as f64
}

/// A server as a scan wants it: nothing else in its way.
#[derive(Clone, Copy)]
struct Tight {
    /// 256 for an established session, 1 for any other.
    load: u32,
    /// 0 is never less.
    weight: u32,
}

impl Tight {
    fn of(server: &ServerLoad) -> Self {
        let weight = if server.is_available() { server.weight.0 } else { 0 };
        Self { load: server.active * 256 + server.inactive, weight: weight.into() }
    }
}

/// The least load / weight, as the kernel walks its list, but over an array of eight bytes a server.
#[inline(never)]
fn scan(servers: &[Tight]) -> Option<usize> {
    let mut best = (None, Tight { load: 1, weight: 0 });
    for (at, server) in servers.iter().enumerate() {
        let (mine, least) = (u64::from(server.load), u64::from(best.1.load));
        if mine * u64::from(best.1.weight) < least * u64::from(server.weight) {
            best = (Some(at), *server);
        }
    }
    best.0
}

/// Measures every scheduler of the crate.
///
/// # Errors
/// The scan and the scheduler chose differently.
pub fn run(effort: Effort, report: &mut Report) -> Result<(), String> {
    let mut rng = Rng::new(5);
    for count in [16, 1000, 10_000] {
        alone(count, effort, &mut rng, report);
    }
    half_out(1000, effort, report);
    rebuilds(1000, effort, report);
    beside_scan(effort, &mut rng, report)
}

/// Each scheduler beside one that does nothing.
fn alone(count: usize, effort: Effort, rng: &mut Rng, report: &mut Report) {
    let servers = servers(count);
    let mut all: Vec<(&str, Box<dyn Scheduler>)> = vec![("nobody", Box::new(Nobody))];
    all.extend(lvs_sched::ALL.iter().map(|def| (def.name, build(def, &servers))));
    let figures = alternate(all.len(), effort.rounds, |mode| {
        let flows: Vec<WireTuple> = (0..FLOWS).map(|_| flow(rng.next_u64())).collect();
        // The flows are at hand, and so is what this scheduler reads.
        picks(all[mode].1.as_mut(), &servers, &flows);
        picks(all[mode].1.as_mut(), &servers, &flows)
    });
    let nobody = &figures[0];
    report.add(Row::ns(format!("pick/nobody/{count}"), nobody));
    for ((name, _), gross) in all.iter().zip(&figures).skip(1) {
        let net = Figures(gross.0.iter().zip(&nobody.0).map(|(a, b)| a - b).collect());
        let row = Row::value(format!("pick/{name}/{count}"), net.median(), "ns");
        let row = row.with_min(gross.min() - nobody.min());
        report.add(if CONSTANT.contains(name) { row.at_most(2.0, 1.0) } else { row });
    }
}

/// Each scheduler with half of its servers out, drawn at random, beside itself with all of them. Clients are always
/// others, so that nobody learns who goes where; the call is included, as its cost is part of the choice.
fn half_out(count: usize, effort: Effort, report: &mut Report) {
    let servers = servers(count);
    let mut drawn = Rng::new(7);
    let mut half = servers.clone();
    for server in &mut half {
        server.overloaded = drawn.below(2) == 0;
    }
    for def in lvs_sched::ALL {
        let mut all = [build(def, &servers), build(def, &servers)];
        (0..count).for_each(|at| all[1].load_changed(at, &half));
        let lists = [&servers, &half];
        if def.name.starts_with("maglev") {
            // What places lead to is remembered: most of them have been asked.
            let mut rng = Rng::new(13);
            (0..2_000_000).for_each(|_| {
                black_box(all[1].pick(&flow(rng.next_u64()), &half));
            });
        }
        let seeds = RefCell::new([Rng::new(11), Rng::new(11)]);
        let figures = alternate(2, effort.rounds, |mode| {
            let rng = &mut seeds.borrow_mut()[mode];
            let flows: Vec<WireTuple> = (0..PICKS).map(|_| flow(rng.next_u64())).collect();
            picks(all[mode].as_mut(), lists[mode], &flows);
            let flows: Vec<WireTuple> = (0..PICKS).map(|_| flow(rng.next_u64())).collect();
            picks(all[mode].as_mut(), lists[mode], &flows)
        });
        let ratio = figures[1].median() / figures[0].median();
        let row = Row::ns(format!("pick-half-out/{}/{count}", def.name), &figures[1]);
        report.add(row.ratio(ratio, "all in").at_most(2.0, 1.5));
    }
}

/// What it takes to build the large structures, in the control side.
fn rebuilds(count: usize, effort: Effort, report: &mut Report) {
    let servers = servers(count);
    for name in ["maglev", "maglev-large", "conhash", "mh"] {
        let Some(def) = lvs_sched::by_name(name) else { continue };
        let mut scheduler = build(def, &servers);
        let figures = alternate(1, effort.rounds, |_| {
            let start = thread_ns();
            scheduler.rebuild(&servers);
            (thread_ns() - start) as f64 / 1e6
        });
        let row = Row::value(format!("rebuild/{name}/{count}"), figures[0].median(), "ms");
        let row = row.with_min(figures[0].min());
        report.add(if name == "maglev" { row.at_most(5.0, 2.5) } else { row });
    }
}

/// Exact least connections beside a scan, over the same sessions.
fn beside_scan(effort: Effort, rng: &mut Rng, report: &mut Report) -> Result<(), String> {
    let (mut a, mut b) = (servers(1000), servers(1000));
    let mut tight: Vec<Tight> = b.iter().map(Tight::of).collect();
    let wlc = lvs_sched::by_name("wlc").ok_or("no wlc")?;
    let wlc = RefCell::new(build(wlc, &a));
    let any = flow(1);
    let seed = rng.next_u64();
    let mut others = [0; 3].map(|_| Rng::new(seed));
    let (mut c, mut next) = (servers(1000), 0);
    let figures = alternate(3, effort.rounds, |mode| {
        let rng = &mut others[mode];
        if mode == 2 {
            // The sessions alone: servers in turn.
            let pick = |servers: &[ServerLoad]| {
                next = (next + 1) % servers.len();
                Some(next)
            };
            return turnover(&mut c, rng, pick, |_, _| ());
        }
        if mode == 0 {
            let pick = |servers: &[ServerLoad]| wlc.borrow_mut().pick(&any, servers);
            let changed = |at, servers: &[ServerLoad]| wlc.borrow_mut().load_changed(at, servers);
            return turnover(&mut a, rng, pick, changed);
        }
        let tight = RefCell::new(&mut tight);
        let pick = |_: &[ServerLoad]| scan(&tight.borrow());
        let changed =
            |at: usize, servers: &[ServerLoad]| tight.borrow_mut()[at] = Tight::of(&servers[at]);
        turnover(&mut b, rng, pick, changed)
    });
    if a != b {
        return Err("the scan chose other servers than wlc".into());
    }
    let net = |mode: usize| {
        let pairs = figures[mode].0.iter().zip(&figures[2].0);
        Figures(pairs.map(|(gross, sessions)| gross - sessions).collect())
    };
    let (wlc, scan) = (net(0), net(1));
    report.add(Row::ns("turnover/sessions/1000", &figures[2]));
    report.add(Row::ns("turnover/wlc/1000", &wlc));
    report.add(
        Row::ns("turnover/scan/1000", &scan)
            .ratio(scan.median() / wlc.median(), "wlc")
            .at_least(12.0, 16.0),
    );
    Ok(())
}
