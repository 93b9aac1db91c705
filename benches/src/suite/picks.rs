//! What it costs to choose a server.

use super::{Effort, Report};
use crate::cpu::thread_ns;
use crate::rounds::alternate;
use crate::table::Row;
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
const CONSTANT: &[&str] = &["rr", "wrr", "maglev", "mh"];

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

/// The least (sessions + 1) / weight, as the kernel walks its list: no order is kept.
#[inline(never)]
fn scan(servers: &[ServerLoad]) -> Option<usize> {
    let load = |s: &ServerLoad| (u64::from(s.active) + 1) * 256 + u64::from(s.inactive);
    let mut best: Option<(usize, &ServerLoad)> = None;
    for (at, server) in servers.iter().enumerate().filter(|(_, s)| s.is_available()) {
        let better = best.is_none_or(|(_, least)| {
            load(server) * u64::from(least.weight.0) < load(least) * u64::from(server.weight.0)
        });
        if better {
            best = Some((at, server));
        }
    }
    best.map(|(at, _)| at)
}

/// Measures every scheduler of the crate.
pub fn run(effort: Effort, report: &mut Report) {
    let mut rng = Rng::new(5);
    for count in [16, 1000] {
        let servers = servers(count);
        let mut all: Vec<_> =
            lvs_sched::ALL.iter().map(|def| (def.name, build(def, &servers))).collect();
        let figures = alternate(all.len(), effort.rounds, |mode| {
            let flows: Vec<WireTuple> = (0..FLOWS).map(|_| flow(rng.next_u64())).collect();
            picks(all[mode].1.as_mut(), &servers, &flows)
        });
        for ((name, _), figures) in all.iter().zip(&figures) {
            let row = Row::ns(format!("pick/{name}/{count}"), figures);
            report.add(if CONSTANT.contains(name) { row.at_most(2.0, 1.0) } else { row });
        }
    }
    let (mut a, mut b) = (servers(1000), servers(1000));
    let mut wlc = lvs_sched::by_name("wlc").map(|def| build(def, &a));
    let any = flow(1);
    let figures = alternate(2, effort.rounds, |mode| match (mode, &mut wlc) {
        (0, Some(wlc)) => {
            let wlc = core::cell::RefCell::new(wlc);
            let pick = |servers: &[ServerLoad]| wlc.borrow_mut().pick(&any, servers);
            let changed = |at, servers: &[ServerLoad]| wlc.borrow_mut().load_changed(at, servers);
            turnover(&mut a, &mut rng, pick, changed)
        }
        _ => turnover(&mut b, &mut rng, scan, |_, _| ()),
    });
    report.add(Row::ns("turnover/wlc/1000", &figures[0]));
    report.add(
        Row::ns("turnover/scan/1000", &figures[1])
            .ratio(figures[1].median() / figures[0].median(), "wlc")
            .at_least(12.0, 16.0),
    );
}
