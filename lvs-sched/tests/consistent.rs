//! The schedulers that all directors agree on: published vectors, an independent implementation from the
//! documentation, and how many flows a change moves.

mod common;
#[path = "common/page.rs"]
mod page;

use common::{built, flow, overload, overload_all, server, servers};
use core::net::IpAddr;
use lvs_core::addr::RealAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::sched::{SchedulerDef, ServerLoad, Weight};
use lvs_sched::conhash::Ring;
use lvs_sched::maglev::{PLACES, PLACES_LARGE, Table};
use lvs_sched::{conhash, maglev, steady};
use proptest::prelude::*;
use serde_json::Value;

const VECTORS: &str = include_str!("vectors/consistent.json");

fn number(value: &Value) -> u64 {
    let text = value.as_str().expect("hexadecimal text");
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

fn each<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    let list = value[key].as_array().unwrap_or_else(|| panic!("no list {key}"));
    assert!(!list.is_empty());
    list.iter()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

fn flow_of(value: &Value) -> WireTuple {
    let [src, dst] =
        ["src", "dst"].map(|key| text(value, key).parse::<core::net::SocketAddr>().unwrap());
    let proto = if text(value, "proto") == "tcp" { L4Proto::Tcp } else { L4Proto::Udp };
    WireTuple::new(proto, src.ip(), src.port(), dst.ip(), dst.port()).unwrap()
}

fn servers_of(set: &Value) -> Vec<ServerLoad> {
    let read = |(id, value): (u16, &Value)| ServerLoad {
        addr: RealAddr(text(value, "addr").parse().unwrap()),
        weight: Weight(value["weight"].as_u64().unwrap().try_into().unwrap()),
        overloaded: value["overloaded"].as_bool().unwrap(),
        ..server(id, 0)
    };
    (0u16..).zip(each(set, "servers")).map(read).collect()
}

#[test]
fn hashes_are_those_of_the_vectors() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for case in each(&vectors, "hashes") {
        let (seed, expected) = (number(&case["seed"]), number(&case["hash"]));
        let words: Vec<u64> = each(case, "words").map(number).collect();
        assert_eq!(page::hash(seed, &words), expected);
        let state = words.iter().fold(seed, |state, word| steady::step(state, *word));
        assert_eq!(state, expected);
        if let [a, b, c] = words[..] {
            assert_eq!(steady::hash(seed, &[a, b, c]), expected);
        }
    }
    for case in each(&vectors, "flows") {
        let flow = flow_of(case);
        assert_eq!([steady::flow(&flow), page::by_flow(&flow)], [number(&case["by_flow"]); 2]);
        assert_eq!(
            [steady::source(&flow), page::by_source(&flow)],
            [number(&case["by_source"]); 2]
        );
    }
}

#[test]
fn tables_and_rings_are_those_of_the_vectors() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let both_ways = |set| {
        let list = servers_of(set);
        [(set, list.clone()), (set, list.into_iter().rev().collect())]
    };
    for (set, list) in each(&vectors, "sets").flat_map(both_ways) {
        let order = page::members(&list);
        let rank = |at: usize| order.iter().position(|member| *member == at).unwrap() as u64;
        for (places, key) in [(PLACES, "maglev_digest"), (PLACES_LARGE, "maglev_large_digest")] {
            let table = Table::new(places, &list);
            let digest = |ranks: &mut dyn Iterator<Item = u64>| ranks.fold(0, steady::step);
            let fast = digest(&mut table.places().iter().map(|at| rank(usize::from(*at))));
            assert_eq!(fast, number(&set[key]), "{} {key}", text(set, "name"));
            if places == PLACES {
                let slow = page::table(places as usize, &list);
                assert_eq!(digest(&mut slow.iter().map(|at| rank(*at))), fast);
            }
        }
        let ring = Ring::new(&list);
        assert_eq!(ring.points().len() as u64, set["conhash_points"].as_u64().unwrap());
        let digest = ring.points().iter().fold(0, |state, (hash, at)| {
            steady::step(steady::step(state, u64::from(*hash)), rank(usize::from(*at)))
        });
        assert_eq!(digest, number(&set["conhash_digest"]));
    }
}

#[test]
fn picks_are_those_of_the_vectors_whatever_the_order_of_the_list() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let flows: Vec<WireTuple> = each(&vectors, "flows").map(flow_of).collect();
    let defs =
        [&maglev::DEF, &maglev::LARGE, &maglev::SOURCE, &maglev::SOURCE_LARGE, &conhash::DEF];
    for set in each(&vectors, "sets") {
        let mut list = servers_of(set);
        for order in 0..3 {
            let len = list.len();
            list.rotate_left(order % len);
            for def in defs {
                let mut scheduler = built(def, &list);
                for (flow, expected) in flows.iter().zip(each(&set["picks"], def.name)) {
                    let picked = scheduler.pick(flow, &list).map(|at| list[at].addr.to_string());
                    assert_eq!(picked.as_deref(), expected.as_str(), "{} {flow:?}", def.name);
                }
            }
        }
    }
}

fn any_server() -> impl Strategy<Value = ServerLoad> {
    let weight = prop_oneof![3 => 1u16..10, 2 => Just(0u16), 2 => 0u16.., 1 => Just(u16::MAX)];
    (any::<u32>(), any::<bool>(), 1u16..4, weight, prop::bool::weighted(0.3)).prop_map(
        |(ip, v6, port, weight, overloaded)| {
            let v4 = IpAddr::from((ip % 1000).to_be_bytes());
            let v6_of = |ip: u32| IpAddr::from((u128::from(ip) << 96 | 7).to_be_bytes());
            let ip = if v6 { v6_of(ip) } else { v4 };
            ServerLoad { addr: RealAddr::new(ip, port), overloaded, ..server(0, weight) }
        },
    )
}

fn any_servers() -> impl Strategy<Value = Vec<ServerLoad>> {
    prop::collection::vec(any_server(), 0..20).prop_map(|mut list| {
        list.sort_by_key(|s| s.addr.to_string());
        list.dedup_by_key(|s| s.addr);
        list
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn small_tables_equal_those_by_the_page(
        list in any_servers(), places in prop::sample::select(vec![2u32, 3, 13, 251, 1021]),
    ) {
        let fast: Vec<_> =
            Table::new(places, &list).places().iter().map(|at| usize::from(*at)).collect();
        prop_assert_eq!(fast, page::table(places as usize, &list));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn picks_equal_those_by_the_page_while_servers_go_and_come(
        list in any_servers().prop_shuffle(), first in any::<u32>(),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let mut list = list;
        let table = page::table(PLACES as usize, &list);
        let ring = page::ring(&list);
        let defs = [&maglev::DEF, &maglev::SOURCE, &conhash::DEF];
        let mut fast = defs.map(|def| built(def, &list));
        for flip in flips.iter().map(Some).chain([None]) {
            // The same clients again and again, so that what was found before must be forgotten.
            for n in 0..8 {
                let flow = flow(first.wrapping_add(n));
                let naive = [
                    page::maglev(&table, page::by_flow(&flow), &list),
                    page::maglev(&table, page::by_source(&flow), &list),
                    page::conhash(&ring, page::by_source(&flow), &list),
                ];
                for ((fast, naive), def) in fast.iter_mut().zip(naive).zip(defs) {
                    prop_assert_eq!(fast.pick(&flow, &list), naive, "{}", def.name);
                }
            }
            if let Some(flip) = flip.filter(|_| !list.is_empty()) {
                let at = flip.index(list.len());
                list[at].overloaded = !list[at].overloaded;
                fast.iter_mut().for_each(|s| s.load_changed(at, &list));
            }
        }
    }
}

/// Of so many flows, how many of other servers move when one server goes.
fn moved(def: &SchedulerDef, count: u16, flows: u32) -> u32 {
    let list = servers(&vec![1; usize::from(count)]);
    let mut less = list.clone();
    let gone = less.remove(usize::from(count) / 3).id;
    let (mut before, mut after) = (built(def, &list), built(def, &less));
    (0..flows).fold(0, |moved, n| {
        let was = list[before.pick(&flow(n), &list).unwrap()].id;
        let is = less[after.pick(&flow(n), &less).unwrap()].id;
        moved + u32::from(was != gone && was != is)
    })
}

#[test]
fn a_server_that_goes_moves_less_than_one_percent_of_the_flows_of_others() {
    for count in [2, 3, 10, 100, 300, 1000] {
        for (def, permille) in [(&maglev::DEF, 10), (&maglev::LARGE, 5), (&conhash::DEF, 0)] {
            let moved = moved(def, count, 50_000);
            assert!(moved * 1000 <= 50_000 * permille, "{}: {moved} of {count}", def.name);
        }
    }
}

#[test]
fn shares_of_the_table_are_within_one_and_a_half_places_of_the_weights() {
    for weights in [vec![1; 1000], vec![65_535, 1], (1..=200).collect(), vec![7, 7, 7, 1, 30_000]] {
        let list = servers(&weights);
        let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        for places in [PLACES, PLACES_LARGE] {
            let mut counts = vec![0u64; list.len()];
            for at in Table::new(places, &list).places() {
                counts[usize::from(*at)] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let due = u64::from(places) * u64::from(*weight);
                assert!(
                    2 * (count * sum).abs_diff(due) <= 3 * sum,
                    "{count} places of weight {weight}"
                );
            }
        }
    }
}

#[test]
fn flows_of_an_overloaded_server_spread_by_weight_and_nobody_else_moves() {
    for def in [&maglev::DEF, &maglev::SOURCE, &conhash::DEF] {
        let list = servers(&[2, 4, 2, 1, 1]);
        let mut out = list.clone();
        out[1].overloaded = true;
        let (mut scheduler, mut other) = (built(def, &list), built(def, &list));
        other.load_changed(1, &out);
        let mut counts = [0u32; 5];
        for n in 0..50_000 {
            let was = scheduler.pick(&flow(n), &list).unwrap();
            let is = other.pick(&flow(n), &out).unwrap();
            assert!(is == was || was == 1);
            counts[is] += u32::from(was == 1);
        }
        let all: u32 = counts.iter().sum();
        for (count, weight) in counts.iter().zip([2u32, 0, 2, 1, 1]) {
            let (due, count) = (f64::from(all * weight) / 6.0, f64::from(*count));
            let bound = if def.name == "conhash" { 0.5 } else { 0.1 };
            assert!((count - due).abs() <= bound * due, "{}: {count} for {due}", def.name);
        }
    }
}

#[test]
fn the_last_one_left_gets_everything() {
    let mut list = servers(&[1; 200]);
    for def in [&maglev::DEF, &conhash::DEF] {
        let mut scheduler = built(def, &list);
        overload_all(&mut *scheduler, &mut list, true);
        overload(&mut *scheduler, &mut list, 77, false);
        for n in 0..500 {
            assert_eq!(scheduler.pick(&flow(n), &list), Some(77), "{}", def.name);
        }
        overload(&mut *scheduler, &mut list, 77, true);
        assert_eq!(scheduler.pick(&flow(1), &list), None);
        overload_all(&mut *scheduler, &mut list, false);
    }
}

#[test]
fn weights_far_apart_do_not_blow_up_a_ring() {
    let list = servers(&[65_535, 65_534, 1, 3]);
    let ring = Ring::new(&list);
    let of = |at: u16| ring.points().iter().filter(|(_, owner)| *owner == at).count();
    assert!(ring.points().len() <= 262_144 + 4, "{}", ring.points().len());
    assert!(of(0) > 131_000 && of(1) > 131_000 && of(2) >= 1 && of(3) >= 3);
}

#[test]
fn the_hash_spreads_neighbouring_addresses_and_ports_evenly() {
    // Chi-square over 64 cells: the mean is 63, 120 is beyond one in 10 000.
    fn tuple(src: u32, sport: u16) -> WireTuple {
        let (src, dst) = (IpAddr::from(src.to_be_bytes()), [10, 0, 0, 80].into());
        WireTuple::new(L4Proto::Tcp, src, sport, dst, 80).unwrap()
    }
    type Hash = fn(u32) -> u64;
    let many: [(&str, Hash); 5] = [
        ("ports", |n| steady::flow(&tuple(0x0a00_0002, 1024 + n as u16))),
        ("addresses", |n| steady::flow(&tuple(0x0a00_0000 + n, 40_000))),
        ("subnets", |n| steady::flow(&tuple(n << 8, 40_000))),
        ("sources", |n| steady::source(&tuple(0x0a00_0000 + n, 1))),
        ("source subnets", |n| steady::source(&tuple(n << 12, 1))),
    ];
    for (name, hash) in many {
        let mut cells = [0u32; 64];
        (0..32_000).for_each(|n| cells[steady::scaled(hash(n), 64) as usize] += 1);
        let chi: f64 = cells.iter().map(|c| (f64::from(*c) - 500.0).powi(2) / 500.0).sum();
        assert!(chi < 120.0, "{name}: {chi}");
    }
}
