//! Hashing schedulers against twins that write their tables out, and what a change moves.

mod common;

use common::{ONE, built, flow, play, script, server, servers};
use core::hash::Hasher;
use core::net::IpAddr;
use lvs_core::addr::RealAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, SchedulerDef, ServerLoad, Weight};
use lvs_sched::{dh, mh, sh};
use proptest::prelude::*;
use siphasher::sip::SipHasher13;
use std::collections::HashMap;

fn fold(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => u32::from_be_bytes(ip.octets()),
        IpAddr::V6(ip) => {
            let words = ip.octets();
            let words = words.chunks(4).map(|w| u32::from_be_bytes(w.try_into().unwrap()));
            words.fold(0, |a, b| a ^ b)
        }
    }
}

/// What a twin hashes.
#[derive(Clone, Copy)]
enum By {
    Source { port: bool },
    Destination,
}

impl By {
    fn word(self, flow: &WireTuple) -> u32 {
        match self {
            Self::Source { port: false } => fold(flow.src()),
            Self::Source { port: true } => fold(flow.src()).wrapping_add(u32::from(flow.sport())),
            Self::Destination => fold(flow.dst()),
        }
    }
}

fn usable(server: &ServerLoad) -> bool {
    server.weight.0 > 0 && !server.overloaded
}

/// 256 buckets.
struct Buckets {
    by: By,
    fallback: bool,
    table: Vec<usize>,
}

impl Scheduler for Buckets {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.table.clear();
        let (mut at, mut taken) = (0, 0);
        while self.table.len() < 256 && !servers.is_empty() {
            self.table.push(at);
            taken += 1;
            if matches!(self.by, By::Destination) || taken >= servers[at].weight.0 {
                (at, taken) = ((at + 1) % servers.len(), 0);
            }
        }
    }

    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let word = u64::from(self.by.word(flow));
        let home = (word * 0x61c8_8647 % (1 << 32) / (1 << 24)) as usize;
        let at = *self.table.get(home)?;
        if usable(&servers[at]) {
            return Some(at);
        }
        let again = (0..256).map(|n| self.table[(home + (home + n) % 256) % 256]);
        again.into_iter().find(|at| self.fallback && usable(&servers[*at]))
    }
}

/// The whole permutation of each server, as in the Maglev paper.
struct Permutations {
    by: By,
    fallback: bool,
    weights: HashMap<ServerId, u16>,
    table: Vec<Option<usize>>,
}

const SIZE: usize = 4093;

fn hash(word: u32, key: u64) -> usize {
    let mut hasher = SipHasher13::new_with_keys(key, key);
    hasher.write(&word.to_le_bytes());
    (hasher.finish() % (1 << 32)) as usize
}

impl Scheduler for Permutations {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        let weights: Vec<u16> = servers
            .iter()
            .map(|s| match s.weight.0 {
                0 => self.weights.get(&s.id).copied().unwrap_or(0),
                weight => weight,
            })
            .collect();
        self.weights = servers.iter().map(|s| s.id).zip(weights.iter().copied()).collect();
        self.table = vec![None; SIZE];
        let highest = weights.iter().copied().max().unwrap_or(0);
        if highest == 0 {
            return;
        }
        let divisor = (1..=highest).rev().find(|d| weights.iter().all(|w| w % d == 0)).unwrap();
        let mut shift = 0;
        while (highest / divisor) >> shift >= 64 {
            shift += 1;
        }
        let permutations: Vec<Vec<usize>> = servers
            .iter()
            .map(|s| {
                let word = fold(s.addr.ip()) + u32::from(s.addr.port());
                let offset = hash(word, 2_654_435_761) % SIZE;
                let skip = hash(word, 2_654_446_892) % (SIZE - 1) + 1;
                (0..SIZE).map(|j| (offset + j * skip) % SIZE).collect()
            })
            .collect();
        let mut next = vec![0; servers.len()];
        let mut filled = 0;
        loop {
            for at in 0..servers.len() {
                let turns = match (weights[at] / divisor) >> shift {
                    0 if weights[at] > 0 => 1,
                    turns => turns,
                };
                for _ in 0..turns {
                    while self.table[permutations[at][next[at]]].is_some() {
                        next[at] += 1;
                    }
                    self.table[permutations[at][next[at]]] = Some(at);
                    filled += 1;
                    if filled == SIZE {
                        return;
                    }
                }
            }
        }
    }

    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let word = self.by.word(flow);
        let home = hash(word, 2_654_435_761) % SIZE;
        let at = self.table.get(home).copied().flatten()?;
        if usable(&servers[at]) {
            return Some(at);
        }
        let offsets = (0..SIZE).map(|n| ((home + n) % SIZE) as u32);
        let mut again =
            offsets.map(|o| self.table[hash(word.wrapping_add(o), 2_654_435_761) % SIZE]);
        again.find(|at| self.fallback && usable(&servers[at.unwrap()]))?
    }
}

fn twins() -> Vec<(&'static SchedulerDef, Box<dyn Scheduler>)> {
    let mut twins: Vec<(_, Box<dyn Scheduler>)> = Vec::new();
    let sh = [&sh::DEF, &sh::PORT, &sh::FALLBACK, &sh::PORT_FALLBACK];
    let mh = [&mh::DEF, &mh::PORT, &mh::FALLBACK, &mh::PORT_FALLBACK];
    for (n, (sh, mh)) in sh.into_iter().zip(mh).enumerate() {
        let (by, fallback) = (By::Source { port: n % 2 == 1 }, n >= 2);
        twins.push((sh, Box::new(Buckets { by, fallback, table: Vec::new() })));
        let (weights, table) = (HashMap::new(), Vec::new());
        twins.push((mh, Box::new(Permutations { by, fallback, weights, table })));
    }
    let table = Vec::new();
    let by = By::Destination;
    twins.push((&dh::DEF, Box::new(Buckets { by, fallback: false, table })));
    twins
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn picks_equal_the_naive_twins_over_any_script(script in script()) {
        for (def, mut naive) in twins() {
            let mut fast = (def.build)(ONE);
            play(&script, &mut [&mut *fast, &mut *naive], |_, picked| {
                assert_eq!(picked[0], picked[1], "{}", def.name);
            });
        }
    }

    #[test]
    fn picks_equal_the_naive_twins_for_any_address(
        src in any::<u128>(), dst in any::<u128>(), sport in any::<u16>(), v6 in any::<bool>(),
    ) {
        let ip = |bits: u128| if v6 {
            IpAddr::from(bits.to_be_bytes())
        } else {
            IpAddr::from((bits as u32).to_be_bytes())
        };
        let flow = WireTuple::new(L4Proto::Udp, ip(src), sport, ip(dst), 53).unwrap();
        let mut list = servers(&[3, 1, 2, 200]);
        list[3].overloaded = true;
        list[1].addr = RealAddr::new(ip(dst ^ src), 9);
        for (def, mut naive) in twins() {
            naive.rebuild(&list);
            let fast = built(def, &list).pick(&flow, &list);
            assert_eq!(fast, naive.pick(&flow, &list), "{}", def.name);
        }
    }
}

fn counts(def: &SchedulerDef, list: &[ServerLoad], flows: u32) -> Vec<u32> {
    let mut scheduler = built(def, list);
    let mut counts = vec![0; list.len()];
    for n in 0..flows {
        counts[scheduler.pick(&flow(n), list).unwrap()] += 1;
    }
    counts
}

#[test]
fn clients_spread_in_the_proportion_of_weights() {
    let list = servers(&[1, 2, 5]);
    for (def, permille) in [(&mh::DEF, 60), (&mh::PORT, 60), (&sh::DEF, 120), (&sh::PORT, 120)] {
        for (count, weight) in counts(def, &list, 80_000).into_iter().zip([1u32, 2, 5]) {
            let share = weight * 10_000;
            assert!(count.abs_diff(share) * 1000 < share * permille, "{}: {count}", def.name);
        }
    }
}

#[test]
fn maglev_moves_few_clients_when_a_server_goes_and_none_when_its_weight_becomes_0() {
    let list = servers(&[1; 10]);
    let all: Vec<_> = {
        let mut mh = built(&mh::DEF, &list);
        (0..20_000).map(|n| list[mh.pick(&flow(n), &list).unwrap()].id).collect()
    };
    let mut less = list.clone();
    let gone = less.remove(4).id;
    let mut mh = built(&mh::DEF, &less);
    let others = |(n, id): &(u32, ServerId)| {
        *id != gone && less[mh.pick(&flow(*n), &less).unwrap()].id != *id
    };
    let moved = (0..20_000u32).zip(all.iter().copied()).filter(others).count();
    assert!(moved < 20_000 / 20, "{moved} of 20000 clients of other servers moved");

    let mut quiet = list.clone();
    let mut mh = built(&mh::FALLBACK, &list);
    let mut strict = built(&mh::DEF, &list);
    quiet[4].weight = Weight(0);
    mh.rebuild(&quiet);
    strict.rebuild(&quiet);
    for (n, id) in (0..20_000u32).zip(&all) {
        let picked = mh.pick(&flow(n), &quiet).unwrap();
        if *id == gone {
            assert_ne!(picked, 4);
            assert_eq!(strict.pick(&flow(n), &quiet), None);
        } else {
            assert_eq!(quiet[picked].id, *id);
        }
    }
}

#[test]
fn a_weight_of_0_keeps_its_places_over_a_reload() {
    let before = servers(&[1, 7, 3, 5, 2]);
    let mut quiet = before.clone();
    quiet[1].weight = Weight(0);
    // A reload: a new instance, which learns from the old one after its rebuild.
    let reload = |def: &SchedulerDef, old: &mut dyn Scheduler, list: &[ServerLoad]| {
        let mut new = built(def, list);
        new.take_over(old);
        new
    };
    let picks = |of: &mut dyn Scheduler, list: &[ServerLoad]| {
        (0..5000).map(|n| of.pick(&flow(n), list).map(|at| list[at].id)).collect::<Vec<_>>()
    };
    for def in [&mh::DEF, &mh::PORT] {
        let mut old = built(def, &before);
        let all = picks(old.as_mut(), &before);
        let mut kept = built(def, &before);
        kept.rebuild(&quiet);
        let mut new = reload(def, old.as_mut(), &quiet);
        let now = picks(new.as_mut(), &quiet);
        assert_eq!(now, picks(kept.as_mut(), &quiet), "as without a reload");
        for (id, now) in all.iter().zip(&now) {
            assert_eq!(*now, id.filter(|id| *id != before[1].id));
        }
        // Another order, another reload, and the weight comes back.
        let mut turned = quiet.clone();
        turned.reverse();
        let mut new = reload(def, new.as_mut(), &turned);
        let mut kept = built(def, &before);
        kept.rebuild(&turned);
        assert_eq!(picks(new.as_mut(), &turned), picks(kept.as_mut(), &turned));
        let mut back = reload(def, new.as_mut(), &before);
        assert_eq!(picks(back.as_mut(), &before), all);
        // Nobody had a weight: there is nothing to remember.
        let none = servers(&[0, 0]);
        let mut old = built(def, &none);
        assert_eq!(picks(reload(def, old.as_mut(), &none).as_mut(), &none), [None; 5000]);
        // Everybody's weight becomes 0.
        let all_quiet = servers(&[0; 5]);
        let mut new = reload(def, built(def, &before).as_mut(), &all_quiet);
        assert_eq!(picks(new.as_mut(), &all_quiet), [None; 5000]);
        assert_eq!(picks(reload(def, new.as_mut(), &before).as_mut(), &before), all);
    }
}

#[test]
fn a_client_keeps_its_server_from_any_port_unless_ports_count() {
    let list: Vec<_> = (0..7).map(|id| server(id, 1)).collect();
    let from = |sport| {
        WireTuple::new(L4Proto::Tcp, [203, 0, 113, 9].into(), sport, [10, 0, 0, 80].into(), 80)
            .unwrap()
    };
    for (def, sticky) in
        [(&sh::DEF, true), (&mh::DEF, true), (&sh::PORT, false), (&mh::PORT, false)]
    {
        let mut scheduler = built(def, &list);
        let first = scheduler.pick(&from(1), &list);
        let same = (1..200).all(|sport| scheduler.pick(&from(sport), &list) == first);
        assert_eq!(same, sticky, "{}", def.name);
    }
}

#[test]
fn fallback_finds_whoever_is_left() {
    let mut list = servers(&[3, 1, 2, 4]);
    for left in 0..4 {
        for (at, server) in list.iter_mut().enumerate() {
            server.overloaded = at != left;
        }
        for def in [&sh::FALLBACK, &sh::PORT_FALLBACK, &mh::FALLBACK, &mh::PORT_FALLBACK] {
            let mut scheduler = built(def, &list);
            let found = (0..300).all(|n| scheduler.pick(&flow(n), &list) == Some(left));
            assert!(found, "{} with only {left} left", def.name);
        }
    }
}
