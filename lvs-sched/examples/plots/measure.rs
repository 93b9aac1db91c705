//! The figures: how far the busiest server lies above its share, and who moves when a server goes.

use lvs_core::addr::RealAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::{ServerId, WorkerId};
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad, Weight};
use lvs_sched::steady;

/// Something random that is the same everywhere.
fn random(seed: u64, n: u64) -> u64 {
    steady::hash(seed, &[n, 1])
}

fn servers(count: u16, weight: impl Fn(u16) -> u16) -> Vec<ServerLoad> {
    let server = |id: u16| {
        let [high, low] = id.to_be_bytes();
        ServerLoad {
            id: ServerId(id),
            addr: RealAddr::new([10, 1, high, low].into(), 80),
            weight: Weight(weight(id)),
            overloaded: false,
            active: 0,
            inactive: 0,
        }
    };
    (0..count).map(server).collect()
}

/// The flow of a client to a destination, both of their own.
fn flow(n: u64) -> WireTuple {
    let [a, b, c, d, e, f, g, h] = random(7, n).to_be_bytes();
    let port = u16::from_be_bytes([g, h]) | 1024;
    WireTuple::new(L4Proto::Tcp, [a, b, c, d].into(), port, [10, e, f, h].into(), 80)
        .expect("one family")
}

fn built(def: &SchedulerDef, servers: &[ServerLoad]) -> Box<dyn Scheduler> {
    let mut scheduler = (def.build)(SchedulerArgs { worker: WorkerId(0), workers: 1 });
    scheduler.rebuild(servers);
    scheduler
}

/// Steps for which a session lasts: mostly short, a few very long.
fn lifetime(n: u64) -> usize {
    match random(11, n) % 100 {
        0..60 => 1000,
        60..90 => 5000,
        90..99 => 40_000,
        _ => 200_000,
    }
}

/// 20 servers of weights 1 to 4, a new client's session at each of 300 000 steps, about 7700 at a time: how
/// many permille of its share the busiest server has too much, on average of 100 moments.
pub(crate) fn overload(def: &SchedulerDef) -> u64 {
    const STEPS: usize = 300_000;
    let mut list = servers(20, |id| 1 + id % 4);
    let mut scheduler = built(def, &list);
    let mut ends: Vec<Vec<u16>> = vec![Vec::new(); STEPS];
    let (mut sum, mut moments) = (0, 0);
    for step in 0..STEPS {
        for at in core::mem::take(&mut ends[step]) {
            list[usize::from(at)].active -= 1;
            scheduler.load_changed(at.into(), &list);
        }
        let at = scheduler.pick(&flow(step as u64), &list).expect("all are available");
        list[at].active += 1;
        scheduler.load_changed(at, &list);
        if let Some(end) = ends.get_mut(step + lifetime(step as u64)) {
            end.push(at as u16);
        }
        if step >= STEPS / 3 && step % (STEPS / 150) == 0 {
            sum += excess(&list);
            moments += 1;
        }
    }
    sum / moments
}

/// How many permille of its share the busiest server has too much.
fn excess(list: &[ServerLoad]) -> u64 {
    let all: u64 = list.iter().map(|s| u64::from(s.active)).sum();
    let weights: u64 = list.iter().map(|s| u64::from(s.weight.0)).sum();
    let permille =
        |s: &ServerLoad| u64::from(s.active) * weights * 1000 / (all * u64::from(s.weight.0));
    list.iter().map(permille).max().unwrap_or(0).saturating_sub(1000)
}

/// The same for equal servers and sessions that never end, 400 000 of them: what the hash alone does.
pub(crate) fn unevenness(def: &SchedulerDef, count: u16) -> u64 {
    let mut list = servers(count, |_| 1);
    let mut scheduler = built(def, &list);
    for n in 0..400_000 {
        let at = scheduler.pick(&flow(n), &list).expect("all are available");
        list[at].active += 1;
    }
    excess(&list)
}

/// What chance alone does: each client a server by a die.
pub(crate) fn chance(count: u16) -> u64 {
    let mut list = servers(count, |_| 1);
    for n in 0..400_000 {
        let at = random(13, n) % u64::from(count);
        list[at as usize].active += 1;
    }
    excess(&list)
}

/// How many of 10 000 clients of the other servers move when one of so many equal servers goes.
pub(crate) fn moved(def: &SchedulerDef, count: u16) -> u64 {
    let list = servers(count, |_| 1);
    let mut less = list.clone();
    let gone = less.remove(usize::from(count) / 3).id;
    let (mut before, mut after) = (built(def, &list), built(def, &less));
    let (mut others, mut moved) = (0, 0);
    for n in 0..100_000 {
        let was = list[before.pick(&flow(n), &list).expect("available")].id;
        let is = less[after.pick(&flow(n), &less).expect("available")].id;
        if was != gone {
            others += 1;
            moved += u64::from(is != was);
        }
    }
    moved * 10_000 / others
}
