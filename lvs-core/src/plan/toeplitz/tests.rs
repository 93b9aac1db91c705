//! The laws of the plan, for random keys and tables, with the hash bit by bit as oracle.

use super::*;
use crate::io::mem::{RSS_KEY, toeplitz};
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

/// What a device feeds its hash with.
fn input(tuple: &WireTuple) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let ports = [tuple.sport().to_be_bytes(), tuple.dport().to_be_bytes()].concat();
    [octets(tuple.src()), octets(tuple.dst()), ports].concat()
}

/// The queue that a device with this key and table chooses.
fn queue(key: &[u8], table: &[u16], tuple: &WireTuple) -> u16 {
    table[toeplitz(key, &input(tuple)) as usize % table.len()]
}

fn tuple(src: IpAddr, sport: u16, dst: IpAddr, dport: u16) -> WireTuple {
    WireTuple::new(L4Proto::Tcp, src, sport, dst, dport).unwrap()
}

/// Source, destination, hash over addresses and ports, hash over addresses: Microsoft's "Verifying the RSS
/// Hash Calculation".
const SUITE: [(&str, &str, u32, u32); 8] = [
    ("66.9.149.187:2794", "161.142.100.80:1766", 0x51cc_c178, 0x323e_8fc2),
    ("199.92.111.2:14230", "65.69.140.83:4739", 0xc626_b0ea, 0xd718_262a),
    ("24.19.198.95:12898", "12.22.207.184:38024", 0x5c2b_394a, 0xd2d0_a5de),
    ("38.27.205.30:48228", "209.142.163.6:2217", 0xafc7_327f, 0x8298_9176),
    ("153.39.163.191:44251", "202.188.127.2:1303", 0x10e8_28a2, 0x5d18_09c5),
    ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x4020_7d3d, 0x2cc1_8cd5),
    ("[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0xdde5_1bbf, 0x0f0c_461c),
    (
        "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
        "[fe80::200:f8ff:fe21:67cf]:38024",
        0x02d1_feef,
        0x4b61_e985,
    ),
];

#[test]
fn indices_are_those_of_the_verification_suite() {
    let index = RssIndex::new(&RSS_KEY, 1 << 16);
    for (from, to, with_ports, addresses) in SUITE {
        let [from, to] = [from, to].map(|end| end.parse::<core::net::SocketAddr>().unwrap());
        let packet = tuple(from.ip(), from.port(), to.ip(), to.port());
        assert_eq!(toeplitz(&RSS_KEY, &input(&packet)), with_ports, "{from}");
        assert_eq!(u32::from(index.of(&packet)), with_ports & 0xffff, "{from}");
        let without = index.of_addresses(from.ip(), to.ip()).unwrap();
        assert_eq!(u32::from(without), addresses & 0xffff, "{from}");
    }
}

fn plans(key: &[u8], table: &[u16], range: (u16, u16), workers: u16) -> Vec<Toeplitz> {
    let rss = Rss { key, table };
    let plan = |worker| Toeplitz::new(rss, range.0, range.1, WorkerId(worker), workers).unwrap();
    (0..workers as u8).map(plan).collect()
}

/// Toward one server: every port of the range belongs to exactly one slot of one worker, whose queue the
/// device chooses for the reply.
fn no_port_is_lost(plans: &[Toeplitz], key: &[u8], table: &[u16], ends: (IpAddr, IpAddr, u16)) {
    let (server, local, sport) = ends;
    let address = RealAddr::new(server, sport);
    let mut ports = BTreeSet::new();
    for (worker, plan) in (0u16..).zip(plans) {
        for slot in 0..plan.slots() {
            let port = plan.port_for(slot, local, &address).expect("a port toward any server");
            let reply = tuple(server, sport, local, port);
            assert_eq!(queue(key, table, &reply), worker, "slot {slot} port {port}");
            assert_eq!(plan.slot_of(&reply), Some(slot));
            let hash = RxHash { value: toeplitz(key, &input(&reply)), kind: RxHashKind::L4 };
            assert_eq!(plan.slot_of_hashed(&reply, hash), Some(slot), "from the device's hash");
            for other in plans {
                assert_eq!(other.owner_of(&reply), Some(WorkerId(worker as u8)));
            }
            assert!(ports.insert(port), "port {port} twice");
        }
        assert_eq!(plan.port_for(plan.slots(), local, &address), None);
    }
    let (first, last) = plans[0].range();
    assert!(ports.iter().copied().eq(first..=last), "a port of {first}-{last} is lost");
}

#[test]
fn no_port_is_lost_and_memory_is_a_share() {
    let ends = [
        (IpAddr::from([10, 1, 0, 11]), IpAddr::from([10, 1, 0, 100]), 8080),
        ("fd01::11".parse().unwrap(), "fd01::100".parse().unwrap(), 443),
    ];
    for workers in [1u16, 2, 4, 8] {
        // In turn, and the same in another order, which does not repeat.
        let turns: Vec<u16> = (0..workers).cycle().take(128).collect();
        let mixed: Vec<u16> = (0..128).map(|at| (at * 37 % 128) / (128 / workers)).collect();
        for table in [turns, mixed] {
            let plans = plans(&RSS_KEY, &table, (1024, 65535), workers);
            assert_eq!(plans[0].range(), (1024, 65535));
            assert!(plans.iter().all(|plan| plan.slots() == 64512 / u32::from(workers)));
            for ends in ends {
                no_port_is_lost(&plans, &RSS_KEY, &table, ends);
            }
        }
    }
}

#[test]
fn a_range_that_is_no_whole_blocks_is_cut_and_says_so() {
    let table: Vec<u16> = (0..128).map(|at| (at * 37 % 128) / 64).collect();
    let cut = plans(&RSS_KEY, &table, (1025, 65534), 2);
    let block = 1u32 << cut[0].block_bits;
    let (first, last) = cut[0].range();
    assert!(first >= 1025 && u32::from(first) < 1025 + block);
    assert!(last <= 65534 && u32::from(last) > 65534 - block);
    no_port_is_lost(&cut, &RSS_KEY, &table, ([10, 0, 0, 9].into(), [10, 0, 0, 1].into(), 1));
    let outside = tuple([10, 0, 0, 9].into(), 1, [10, 0, 0, 1].into(), first - 1);
    assert!(cut.iter().all(|plan| plan.slot_of(&outside).is_none()));
    assert_eq!(cut[0].owner_of(&outside), None);
    let rss = Rss { key: &RSS_KEY, table: &table };
    let narrow = Toeplitz::new(rss, 1025, 1025 + 100, WorkerId(0), 2);
    assert_eq!(narrow.unwrap_err(), PlanError::BadRange);
}

#[test]
fn what_cannot_steer_is_refused_with_the_reason() {
    let refuse = |key: &[u8], table: &[u16], worker, workers| {
        Toeplitz::new(Rss { key, table }, 1024, 65535, WorkerId(worker), workers).unwrap_err()
    };
    assert_eq!(refuse(&RSS_KEY, &[0, 1], 2, 2), PlanError::BadWorker);
    assert_eq!(refuse(&RSS_KEY, &[0, 1], 0, 0), PlanError::BadWorker);
    assert_eq!(refuse(&RSS_KEY, &[0, 1, 0], 0, 2), PlanError::BadTable);
    assert_eq!(refuse(&RSS_KEY, &[], 0, 2), PlanError::BadTable);
    assert_eq!(refuse(&RSS_KEY, &[0, 2], 0, 2), PlanError::BadQueue { queue: 2 });
    // Worker 1 has no queue: worker 0 says so, too.
    for worker in 0..3 {
        let refused = refuse(&RSS_KEY, &[0, 2, 2, 0], worker, 3);
        assert_eq!(refused, PlanError::BadQueue { queue: 1 });
    }
    assert_eq!(refuse(&RSS_KEY[..39], &[0, 1], 0, 2), PlanError::ShortKey { needed: 40 });
    let long: Vec<u16> = (0..1024).map(|at| u16::from(at >= 700)).collect();
    assert_eq!(refuse(&RSS_KEY, &long, 0, 2), PlanError::BadTable);
    let mut key = [0; 40];
    assert_eq!(refuse(&key, &[0, 1, 1, 0], 0, 2), PlanError::Rank { have: 0, need: 2 });
    key[10..17].fill(0xff); // every port bit contributes the same
    assert_eq!(refuse(&key, &[0, 1, 1, 0], 0, 2), PlanError::Rank { have: 1, need: 2 });
}

#[test]
fn errors_and_fragments_are_told_apart_from_replies() {
    let table = [0, 1, 2, 3].repeat(32);
    let plans = plans(&RSS_KEY, &table, (1024, 65535), 4);
    let (server, local) = (Ipv4Addr::new(10, 1, 0, 11), Ipv4Addr::new(10, 1, 0, 100));
    let address = RealAddr::new(server.into(), 80);
    for (worker, plan) in (0u8..).zip(&plans) {
        for slot in (0..plan.slots()).step_by(997) {
            let port = plan.port_for(slot, local.into(), &address).unwrap();
            let sent = tuple(local.into(), port, server.into(), 80);
            assert_eq!(plans[0].owner_of_quoted(&sent), Some(WorkerId(worker)));
        }
    }
    // What the device hashes by addresses alone goes to one queue, whatever the port.
    let both = [server.octets(), local.octets()].concat();
    let there = table[toeplitz(&RSS_KEY, &both) as usize % 128] as u8;
    let queue = plans[2].queue_of_addresses(server.into(), local.into());
    assert_eq!(queue, Some(WorkerId(there)));
    for id in [0, 7, 40_000] {
        let ping = WireTuple::new(L4Proto::Icmp, server.into(), id, local.into(), 0).unwrap();
        assert_eq!(plans[1].arrival_of(&ping), queue, "echo has no ports for a device");
    }
    assert_eq!(plans[2].queue_of_addresses(server.into(), Ipv6Addr::LOCALHOST.into()), None);
}

/// Keys and tables as devices may have them; `None` for a table that leaves a worker out.
fn table(workers: u16, size: usize, seeds: &[u16]) -> Option<Vec<u16>> {
    let table: Vec<u16> = seeds.iter().take(size).map(|seed| seed % workers).collect();
    (0..workers).all(|worker| table.contains(&worker)).then_some(table)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Port and slot are inverse, the device delivers where the plan says, whatever key, table, range.
    #[test]
    fn slots_and_ports_are_one_to_one_for_random_keys_and_tables(
        key in prop::collection::vec(any::<u8>(), 40..=52),
        seeds in prop::collection::vec(any::<u16>(), 512),
        log_workers in 1u32..=3,
        log_size in 3u32..=9,
        first in 1u16..3000,
        ends in any::<(u32, u32, u16)>(),
        far in any::<(u128, u128)>(),
        v6 in any::<bool>(),
    ) {
        let workers = 1u16 << log_workers;
        let Some(table) = table(workers, 1 << log_size, &seeds) else { return Ok(()) };
        let rss = Rss { key: &key, table: &table };
        let plan = |worker| Toeplitz::new(rss, first, 65535, WorkerId(worker), workers);
        let plans: Result<Vec<_>, _> = (0..workers as u8).map(plan).collect();
        let plans = match plans {
            Ok(plans) => plans,
            Err(PlanError::Rank { have, need }) => {
                prop_assert!(have < need && rank(&key, &table) < need);
                return Ok(());
            }
            // A block of 64 Ki ports, rarely needed, does not fit.
            Err(PlanError::BadRange) => return Ok(()),
            Err(other) => return Err(TestCaseError::fail(std::format!("{other}"))),
        };
        let (server, local): (IpAddr, IpAddr) = if v6 {
            (Ipv6Addr::from_bits(far.0).into(), Ipv6Addr::from_bits(far.1).into())
        } else {
            (Ipv4Addr::from_bits(ends.0).into(), Ipv4Addr::from_bits(ends.1).into())
        };
        let (low, high) = plans[0].range();
        let used = u32::from(high) - u32::from(low) + 1;
        let slots: u32 = plans.iter().map(PortPlan::slots).sum();
        prop_assert_eq!(slots, used, "memory is shared out exactly");
        let address = RealAddr::new(server, ends.2);
        for (worker, plan) in (0u16..).zip(&plans) {
            let entries = table.iter().filter(|queue| **queue == worker).count() as u32;
            prop_assert_eq!(plan.slots(), used * entries / table.len() as u32);
            for slot in (0..plan.slots()).step_by(211) {
                let port = plan.port_for(slot, local, &address).unwrap();
                let reply = tuple(server, ends.2, local, port);
                prop_assert_eq!(queue(&key, &table, &reply), worker);
                prop_assert_eq!(plan.slot_of(&reply), Some(slot));
                prop_assert_eq!(plans[0].owner_of(&reply), Some(WorkerId(worker as u8)));
            }
        }
        // The other way round: any port of the range is some slot's.
        for port in (low..=high).step_by(499) {
            let reply = tuple(server, ends.2, local, port);
            let owner = plans[0].owner_of(&reply).unwrap();
            let slot = plans[owner.index()].slot_of(&reply).unwrap();
            prop_assert_eq!(plans[owner.index()].port_for(slot, local, &address), Some(port));
        }
    }
}

/// Rank of what the port contributes to the index, by plain elimination, the lower of the two families.
fn rank(key: &[u8], table: &[u16]) -> u8 {
    let mask = table.len() as u32 - 1;
    let of = |bit: usize| {
        let mut rows: Vec<u32> = Vec::new();
        for step in 0..16 {
            let mut input = std::vec![0u8; bit / 8 + 2];
            input[bit / 8 + step / 8] = 0x80 >> (step % 8);
            let mut row = toeplitz(key, &input) & mask;
            for other in &rows {
                row = row.min(row ^ other);
            }
            if row != 0 {
                rows.push(row);
                rows.sort_by(|a, b| b.cmp(a));
            }
        }
        rows.len() as u8
    };
    of(80).min(of(272))
}
