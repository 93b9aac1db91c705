//! What the tests of all schedulers share: server sets, and scripts that change them between picks.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use lvs_core::addr::RealAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::{ServerId, WorkerId};
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad, Weight};
use proptest::prelude::*;

pub const ONE: SchedulerArgs = SchedulerArgs { worker: WorkerId(0), workers: 1 };

pub fn built(def: &SchedulerDef, servers: &[ServerLoad]) -> Box<dyn Scheduler> {
    let mut scheduler = (def.build)(ONE);
    scheduler.rebuild(servers);
    scheduler
}

/// Tells a scheduler the loads of all servers.
pub fn tell(scheduler: &mut dyn Scheduler, servers: &[ServerLoad]) {
    (0..servers.len()).for_each(|at| scheduler.load_changed(at, servers));
}

/// Every server is overloaded, or none, and the scheduler knows.
pub fn overload_all(scheduler: &mut dyn Scheduler, servers: &mut [ServerLoad], overloaded: bool) {
    servers.iter_mut().for_each(|server| server.overloaded = overloaded);
    tell(scheduler, servers);
}

/// One server is overloaded, or not any more, and the scheduler knows.
pub fn overload(
    scheduler: &mut dyn Scheduler,
    servers: &mut [ServerLoad],
    at: usize,
    overloaded: bool,
) {
    servers[at].overloaded = overloaded;
    scheduler.load_changed(at, servers);
}

/// A server without sessions; its number is also the last byte of its address.
pub fn server(id: u16, weight: u16) -> ServerLoad {
    let [high, low] = id.to_be_bytes();
    ServerLoad {
        id: ServerId(id),
        addr: RealAddr::new([10, 1, high, low].into(), 8080),
        weight: Weight(weight),
        overloaded: false,
        active: 0,
        inactive: 0,
    }
}

/// Servers 0, 1, 2 .. with these weights.
pub fn servers(weights: &[u16]) -> Vec<ServerLoad> {
    (0u16..).zip(weights).map(|(id, weight)| server(id, *weight)).collect()
}

/// A flow of the `n`-th client.
pub fn flow(n: u32) -> WireTuple {
    let [a, b, c, d] = n.wrapping_mul(0x9e37_79b9).to_be_bytes();
    let sport = u16::try_from(n % 60_000).unwrap() + 1025;
    WireTuple::new(L4Proto::Tcp, [a, b, c, d].into(), sport, [10, 0, 0, 80].into(), 80).unwrap()
}

/// The flow of the `n`-th client to a destination of its own.
pub fn visit(n: u32) -> WireTuple {
    let flow = flow(n);
    let [a, b, c] = [(n >> 16) as u8, (n >> 8) as u8, n as u8];
    WireTuple::new(L4Proto::Tcp, flow.src(), flow.sport(), [10, a, b, c].into(), 80).unwrap()
}

/// The servers that so many picks give, as letters: `A` is the first of the list, `-` is nobody.
pub fn letters(scheduler: &mut dyn Scheduler, servers: &[ServerLoad], picks: u32) -> String {
    let name =
        |at: Option<usize>| at.map_or('-', |at| char::from(b'A' + u8::try_from(at).unwrap()));
    (0..picks).map(|n| name(scheduler.pick(&flow(n), servers))).collect()
}

/// One thing that happens to a service.
#[derive(Clone, Debug)]
pub enum Op {
    /// New sessions come: so many picks.
    Picks(u8),
    /// A server crosses its threshold, one way or the other.
    Flip(prop::sample::Index),
    /// All servers are overloaded, or none.
    FlipAll(bool),
    /// A server's sessions change.
    Load(prop::sample::Index, u32, u32),
    /// A server gets another weight.
    Weigh(prop::sample::Index, u16),
    /// A server goes.
    Remove(prop::sample::Index),
    /// A server comes, somewhere in the list.
    Add(prop::sample::Index, u16),
    /// The configuration is loaded again, with nothing changed.
    Reload,
}

fn weight() -> impl Strategy<Value = u16> {
    prop_oneof![
        6 => 0u16..6,
        3 => prop::sample::select(vec![2u16, 4, 6, 10, 50, 100, 200]),
        1 => 0u16..2000,
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (1u8..20).prop_map(Op::Picks),
        3 => index().prop_map(Op::Flip),
        1 => any::<bool>().prop_map(Op::FlipAll),
        4 => (index(), 0u32..5, 0u32..600).prop_map(|(at, a, i)| Op::Load(at, a, i)),
        1 => (index(), any::<u32>(), any::<u32>()).prop_map(|(at, a, i)| Op::Load(at, a, i)),
        2 => (index(), weight()).prop_map(|(at, w)| Op::Weigh(at, w)),
        1 => index().prop_map(Op::Remove),
        1 => (index(), weight()).prop_map(|(at, w)| Op::Add(at, w)),
        1 => Just(Op::Reload),
    ]
}

/// A service's weights at first, and what happens to it.
pub fn script() -> impl Strategy<Value = (Vec<u16>, Vec<Op>)> {
    (prop::collection::vec(weight(), 0..9), prop::collection::vec(op(), 1..40))
}

/// Plays a script. Every scheduler in `all` is told of all changes; `check` sees the answers to each
/// pick, in order. Each pick that the first one answers opens a session on its server.
pub fn play(
    (weights, ops): &(Vec<u16>, Vec<Op>),
    all: &mut [&mut dyn Scheduler],
    mut check: impl FnMut(&[ServerLoad], &[Option<usize>]),
) {
    let mut list = servers(weights);
    let mut ids = u16::try_from(list.len()).unwrap()..;
    let mut client = 0u32;
    all.iter_mut().for_each(|s| s.rebuild(&list));
    for op in ops {
        let mut changed = None;
        match op {
            Op::Picks(picks) => {
                for _ in 0..*picks {
                    client += 1;
                    let flow = flow(client);
                    let picked: Vec<_> = all.iter_mut().map(|s| s.pick(&flow, &list)).collect();
                    check(&list, &picked);
                    if let Some(at) = picked.first().copied().flatten() {
                        list[at].inactive = list[at].inactive.saturating_add(1);
                        all.iter_mut().for_each(|s| s.load_changed(at, &list));
                    }
                }
                continue;
            }
            Op::Flip(at) if !list.is_empty() => {
                let at = at.index(list.len());
                list[at].overloaded = !list[at].overloaded;
                changed = Some(at);
            }
            Op::FlipAll(overloaded) => {
                for at in 0..list.len() {
                    list[at].overloaded = *overloaded;
                    all.iter_mut().for_each(|s| s.load_changed(at, &list));
                }
                continue;
            }
            Op::Load(at, active, inactive) if !list.is_empty() => {
                let at = at.index(list.len());
                (list[at].active, list[at].inactive) = (*active, *inactive);
                changed = Some(at);
            }
            Op::Weigh(at, weight) if !list.is_empty() => {
                let at = at.index(list.len());
                list[at].weight = Weight(*weight);
            }
            Op::Remove(at) if !list.is_empty() => {
                list.remove(at.index(list.len()));
            }
            Op::Add(at, weight) => {
                let at = at.index(list.len() + 1);
                list.insert(at, server(ids.next().unwrap(), *weight));
            }
            _ => {}
        }
        match changed {
            Some(at) => all.iter_mut().for_each(|s| s.load_changed(at, &list)),
            None => all.iter_mut().for_each(|s| s.rebuild(&list)),
        }
    }
}
