//! lblc and lblcr against twins with a map, a list and a scan; time, room and change of members.

mod common;

use common::{ONE, server, servers};
use core::net::IpAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, ServerLoad, Weight};
use lvs_core::time::Tick;
use lvs_sched::{lblc, lblcr};
use proptest::prelude::*;
use std::collections::HashMap;

/// 24 hours in ticks of 2^26 ns, rounded up, and one.
const DAY: u32 = 1_287_462;
const ROOM: usize = 12;

struct Entry {
    /// Newest first.
    servers: Vec<ServerId>,
    changed: u32,
    used: u32,
    /// Grows with each use.
    order: u32,
}

/// Both algorithms: with `replicas` it is lblcr.
struct Naive {
    replicas: bool,
    known: HashMap<IpAddr, Entry>,
    now: u32,
    uses: u32,
}

fn load(server: &ServerLoad) -> u128 {
    256 * u128::from(server.active) + u128::from(server.inactive)
}

fn less(a: &ServerLoad, b: &ServerLoad) -> bool {
    load(a) * u128::from(b.weight.0) < load(b) * u128::from(a.weight.0)
}

fn usable(server: &ServerLoad) -> bool {
    server.weight.0 > 0 && !server.overloaded
}

fn too_busy(at: usize, servers: &[ServerLoad]) -> bool {
    servers[at].active > servers[at].weight.0.into()
        && servers.iter().any(|s| u64::from(s.active) * 2 < s.weight.0.into())
}

/// The one that no other beats; of equals the first of `order`.
fn best(
    order: &[usize],
    servers: &[ServerLoad],
    may: impl Fn(&ServerLoad) -> bool,
    beats: impl Fn(&ServerLoad, &ServerLoad) -> bool,
) -> Option<usize> {
    let mut best: Option<usize> = None;
    for at in order.iter().copied().filter(|at| may(&servers[*at])) {
        if best.is_none_or(|best| beats(&servers[at], &servers[best])) {
            best = Some(at);
        }
    }
    best
}

impl Naive {
    fn new(replicas: bool) -> Self {
        Self { replicas, known: HashMap::new(), now: 0, uses: 0 }
    }

    fn of_set(&mut self, ip: IpAddr, servers: &[ServerLoad]) -> Option<usize> {
        let place = |id: &ServerId| servers.iter().position(|s| s.id == *id);
        let entry = self.known.get_mut(&ip)?;
        if !self.replicas {
            let at = place(&entry.servers[0])?;
            return (usable(&servers[at]) && !too_busy(at, servers)).then_some(at);
        }
        entry.servers.retain(|id| place(id).is_some());
        let order: Vec<_> = entry.servers.iter().filter_map(place).collect();
        let least = best(&order, servers, usable, less);
        if entry.servers.len() > 1 && self.now - entry.changed > DAY {
            shrink(entry, &order, servers, self.now);
        }
        least.filter(|at| !too_busy(*at, servers))
    }
}

fn shrink(entry: &mut Entry, order: &[usize], servers: &[ServerLoad], now: u32) {
    let most = best(order, servers, |s| s.weight.0 > 0, |a, b| less(b, a));
    let gone = most.map_or(*entry.servers.last().unwrap(), |at| servers[at].id);
    entry.servers.retain(|id| *id != gone);
    entry.changed = now;
}

impl Scheduler for Naive {
    fn rebuild(&mut self, _: &[ServerLoad]) {}

    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let (ip, now) = (flow.dst(), self.now);
        self.uses += 1;
        if let Some(entry) = self.known.get_mut(&ip) {
            (entry.used, entry.order) = (now, self.uses);
        }
        if let Some(at) = self.of_set(ip, servers) {
            return Some(at);
        }
        let all: Vec<_> = (0..servers.len()).collect();
        let at = best(&all, servers, usable, less)?;
        let id = servers[at].id;
        if self.known.len() == ROOM && !self.known.contains_key(&ip) {
            let oldest = self.known.iter().min_by_key(|(_, entry)| entry.order);
            let oldest = *oldest.unwrap().0;
            self.known.remove(&oldest);
        }
        let fresh = || Entry { servers: Vec::new(), changed: now, used: now, order: 0 };
        let entry = self.known.entry(ip).or_insert_with(fresh);
        entry.order = self.uses;
        if !self.replicas {
            entry.servers = vec![id];
        } else if !entry.servers.contains(&id) {
            if entry.servers.len() == 8 {
                let place = |id: &ServerId| servers.iter().position(|s| s.id == *id);
                let order: Vec<_> = entry.servers.iter().filter_map(place).collect();
                shrink(entry, &order, servers, now);
            }
            entry.servers.insert(0, id);
            entry.changed = now;
        }
        Some(at)
    }

    fn tick(&mut self, now: Tick) {
        self.now = now.0;
        self.known.retain(|_, entry| now.0 - entry.used <= DAY);
    }
}

fn to(n: u8) -> WireTuple {
    WireTuple::new(L4Proto::Tcp, [192, 0, 2, 1].into(), 9, [203, 0, 113, n].into(), 80).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Visit(u8),
    Load(usize, u32, u32),
    Flip(usize),
    Weigh(usize, u16),
    Replace(usize),
    Wait(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0u8..18).prop_map(Op::Visit),
        // A few favourites, so that sets grow.
        6 => (0u8..2).prop_map(Op::Visit),
        6 => (0usize..10, 0u32..40, 0u32..600).prop_map(|(at, a, i)| Op::Load(at, a, i)),
        1 => (0usize..10).prop_map(Op::Flip),
        1 => (0usize..10, 0u16..20).prop_map(|(at, w)| Op::Weigh(at, w)),
        1 => (0usize..10).prop_map(Op::Replace),
        1 => prop::sample::select(vec![1, 1000, DAY / 3, DAY / 2 + 7, DAY, DAY + 1]).prop_map(Op::Wait),
    ]
}

fn compare(replicas: bool, count: usize, ops: &[Op]) -> usize {
    let mut list: Vec<_> = (0..count).map(|id| server(id as u16, 10)).collect();
    let (mut id, mut now) = (100, 0);
    let mut fast = match replicas {
        true => lblcr::with_room(ONE, ROOM),
        false => lblc::with_room(ONE, ROOM),
    };
    let mut naive = Naive::new(replicas);
    fast.rebuild(&list);
    fast.tick(Tick(0));
    for op in ops {
        match *op {
            Op::Visit(n) => {
                let picked = fast.pick(&to(n), &list);
                assert_eq!(picked, naive.pick(&to(n), &list), "{op:?} of {list:?}");
                if let Some(at) = picked {
                    list[at].active += 1;
                    fast.load_changed(at, &list);
                }
            }
            Op::Load(at, active, inactive) if at < count => {
                (list[at].active, list[at].inactive) = (active, inactive);
                fast.load_changed(at, &list);
            }
            Op::Flip(at) if at < count => {
                list[at].overloaded = !list[at].overloaded;
                fast.load_changed(at, &list);
            }
            Op::Weigh(at, weight) if at < count => {
                list[at].weight = Weight(weight);
                fast.rebuild(&list);
            }
            Op::Replace(at) if at < count => {
                list.remove(at);
                list.push(server(id, 10));
                id += 1;
                fast.rebuild(&list);
            }
            Op::Wait(ticks) => {
                now += ticks;
                fast.tick(Tick(now));
                naive.tick(Tick(now));
            }
            _ => {}
        }
    }
    naive.known.values().map(|entry| entry.servers.len()).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn picks_equal_the_naive_twins(
        count in 1usize..11, ops in prop::collection::vec(op(), 1..300),
    ) {
        compare(false, count, &ops);
        compare(true, count, &ops);
    }
}

#[test]
fn a_set_grows_to_its_bound_and_no_further() {
    // Whoever was picked last is too busy the next time.
    let busy = |n: usize| [Op::Visit(1), Op::Load(n, 11 + n as u32, 0)];
    let ops: Vec<_> = (0..10).flat_map(busy).collect();
    assert_eq!(compare(true, 10, &ops), lblcr::MOST_SERVERS);
}

#[test]
fn a_destination_stays_until_its_server_is_out_or_too_busy() {
    let mut list = servers(&[10, 10, 10]);
    let mut lblc = (lblc::DEF.build)(ONE);
    lblc.rebuild(&list);
    let mut visit = |list: &[ServerLoad]| {
        (0..3).for_each(|at| lblc.load_changed(at, list));
        lblc.pick(&to(1), list)
    };
    assert_eq!(visit(&list), Some(0));
    list[0].active = 10;
    assert_eq!(visit(&list), Some(0), "as many as its weight");
    list[0].active = 11;
    (list[1].active, list[2].active) = (5, 6);
    assert_eq!(visit(&list), Some(0), "nobody has less than half of his weight");
    list[2].active = 4;
    assert_eq!(visit(&list), Some(2), "moves to the least loaded");
    list[0].active = 0;
    assert_eq!(visit(&list), Some(2), "and stays there");
    list[2].overloaded = true;
    assert_eq!(visit(&list), Some(0));
}

#[test]
fn what_was_learned_outlives_a_change_of_members() {
    let list = servers(&[1, 1, 1, 1]);
    for def in [&lblc::DEF, &lblcr::DEF] {
        let mut old = common::built(def, &list);
        let mut loads = list.clone();
        let before: Vec<_> = (0..40)
            .map(|n| {
                let at = old.pick(&to(n), &loads).unwrap();
                loads[at].active += 1;
                old.load_changed(at, &loads);
                list[at].id
            })
            .collect();
        let idle = servers(&[1, 1, 1, 1, 1])[1..].to_vec();
        let mut new = common::built(def, &idle);
        new.take_over(&mut *old);
        for (n, id) in (0..40).zip(before) {
            let at = new.pick(&to(n), &idle).unwrap();
            assert!(idle[at].id == id || id == ServerId(0), "{} forgot destination {n}", def.name);
        }
    }
}

#[test]
fn the_first_time_that_is_told_ages_nothing() {
    let list = servers(&[1, 1]);
    let mut lblc = common::built(&lblc::DEF, &list);
    let mut loads = list.clone();
    let first = lblc.pick(&to(1), &loads).unwrap();
    loads[first].active = 1;
    lblc.load_changed(first, &loads);
    lblc.tick(Tick(3_000_000_000));
    assert_eq!(lblc.pick(&to(1), &loads), Some(first));
    // From now on a day counts.
    lblc.tick(Tick(3_000_000_000 + DAY + 1));
    assert_eq!(lblc.pick(&to(1), &loads), Some(1 - first));
}
