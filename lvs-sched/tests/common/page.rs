//! `maglev` and `conhash` once more, slowly, written from `docs/schedulers.md` alone.

use core::net::IpAddr;
use lvs_core::flow::WireTuple;
use lvs_core::sched::ServerLoad;
use std::collections::BTreeSet;

/// "One step."
pub(crate) fn step(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * 0x9e37_79b9_7f4a_7c15;
    let (high, low) = (product / (1 << 64), product % (1 << 64));
    (high ^ low).try_into().unwrap()
}

/// "The hash of some words."
pub(crate) fn hash(seed: u64, words: &[u64]) -> u64 {
    let mut state = seed;
    for word in words {
        state = step(state, *word);
    }
    state
}

/// "Scaled to n."
pub(crate) fn scaled(hash: u64, n: usize) -> usize {
    (u128::from(hash / (1 << 32)) * n as u128 / (1 << 32)) as usize
}

fn halves(ip: IpAddr) -> [u64; 2] {
    let bytes = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    [&bytes[..8], &bytes[8..]].map(|half| u64::from_be_bytes(half.try_into().unwrap()))
}

/// "A member is three words."
pub(crate) fn member(server: &ServerLoad) -> [u64; 3] {
    let [high, low] = halves(server.addr.ip());
    [high, low, server.addr.port().into()]
}

/// "Members in order": places in the list of servers.
pub(crate) fn members(servers: &[ServerLoad]) -> Vec<usize> {
    let mut order: Vec<_> = (0..servers.len()).filter(|at| servers[*at].weight.0 > 0).collect();
    order.sort_by_key(|at| member(&servers[*at]));
    order
}

const FLOW: u64 = 0xa409_3822_299f_31d0;

/// "By flow."
pub(crate) fn by_flow(flow: &WireTuple) -> u64 {
    let ports = u64::from(flow.sport()) * (1 << 48)
        + u64::from(flow.dport()) * (1 << 32)
        + u64::from(flow.proto().number());
    match (flow.src(), flow.dst()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let addresses = u64::from(u32::from(src)) * (1 << 32) + u64::from(u32::from(dst));
            hash(FLOW, &[addresses, ports])
        }
        (src, dst) => {
            let ([a, b], [c, d]) = (halves(src), halves(dst));
            hash(FLOW, &[a, b, c, d, ports])
        }
    }
}

/// "By source."
pub(crate) fn by_source(flow: &WireTuple) -> u64 {
    match flow.src() {
        IpAddr::V4(src) => hash(FLOW, &[u32::from(src).into()]),
        src @ IpAddr::V6(_) => hash(FLOW, &halves(src)),
    }
}

/// "The table."
pub(crate) fn table(places: usize, servers: &[ServerLoad]) -> Vec<usize> {
    let order = members(servers);
    let mut turns = BTreeSet::new();
    let sum: u64 = order.iter().map(|at| u64::from(servers[*at].weight.0)).sum();
    for (number, at) in order.iter().enumerate() {
        let weight = u64::from(servers[*at].weight.0);
        // More than its share of all turns.
        for k in 1..=(places as u64 * weight / sum + order.len() as u64 + 2) {
            turns.insert(((2 * k - 1) * (1 << 39) / weight, number));
        }
    }
    let mut table = vec![None; places];
    let mut tried = vec![0; order.len()];
    let mut free = places;
    for (_, number) in turns {
        if free == 0 {
            break;
        }
        let id = member(&servers[order[number]]);
        let first = scaled(hash(0x243f_6a88_85a3_08d3, &id), places);
        let skip = scaled(hash(0x1319_8a2e_0370_7344, &id), places - 1) + 1;
        let place = loop {
            let place = (first + tried[number] * skip) % places;
            tried[number] += 1;
            if table[place].is_none() {
                break place;
            }
        };
        table[place] = Some(order[number]);
        free -= 1;
    }
    if order.is_empty() { Vec::new() } else { table.into_iter().map(Option::unwrap).collect() }
}

fn usable(server: &ServerLoad) -> bool {
    server.weight.0 > 0 && !server.overloaded
}

/// "The last resort": the list from a server on, round its end.
fn from_there(servers: &[ServerLoad], at: usize) -> Option<usize> {
    (0..servers.len()).map(|n| (at + n) % servers.len()).find(|at| usable(&servers[*at]))
}

/// "A pick" from a table.
pub(crate) fn maglev(table: &[usize], hash: u64, servers: &[ServerLoad]) -> Option<usize> {
    let place = scaled(hash, table.len());
    let mut at = *table.get(place)?;
    let mut state = self::hash(0x4528_21e6_38d0_1377, &[place as u64]);
    for draw in 1..=32 {
        if usable(&servers[at]) {
            return Some(at);
        }
        state = step(state, draw);
        at = table[scaled(state, table.len())];
    }
    from_there(servers, at)
}

/// "The ring", in no order: hash, number of the member, server.
pub(crate) fn ring(servers: &[ServerLoad]) -> Vec<(u32, usize, usize)> {
    let order = members(servers);
    let weights: Vec<u64> = order.iter().map(|at| servers[*at].weight.0.into()).collect();
    let divisor = (1..=65_535).rev().find(|d| weights.iter().all(|w| w % d == 0)).unwrap();
    let all = weights.iter().sum::<u64>() * 160 / divisor;
    let mut ring = Vec::new();
    for (number, at) in order.iter().enumerate() {
        let mut points = weights[number] / divisor * 160;
        if all > 262_144 {
            points = (points * 262_144 / all).max(1);
        }
        let [high, low, port] = member(&servers[*at]);
        for n in 0..points {
            let point = hash(0x082e_fa98_ec4e_6c89, &[high, low, port, n]);
            ring.push(((point / (1 << 32)) as u32, number, *at));
        }
    }
    ring
}

/// "A pick" from a ring.
pub(crate) fn conhash(
    ring: &[(u32, usize, usize)],
    hash: u64,
    servers: &[ServerLoad],
) -> Option<usize> {
    let hash = (hash / (1 << 32)) as u32;
    let mut round = ring.to_vec();
    // Points behind the hash first, then those before it.
    round.sort_by_key(|(point, number, _)| (*point < hash, *point, *number));
    let found = round.iter().take(128).find(|(_, _, at)| usable(&servers[*at]));
    match found {
        Some((_, _, at)) => Some(*at),
        None => from_there(servers, round.first()?.2),
    }
}
