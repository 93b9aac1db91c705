//! The hash that all directors share: the same key, the same number, on any machine and in any version.
//!
//! `maglev` and `conhash` place servers and flows by it, so directors that announce the same address
//! choose the same server for a flow without talking to each other. Definition and test vectors:
//! `docs/schedulers.md` and `lvs-sched/tests/vectors/`.
//!
//! One step mixes a word into the state: `m = (state xor word) * K` in 128 bits, the new state is its low
//! half xor its high half. A hash starts from a seed and takes its words in order.
//! Constants are digits of the golden ratio and of pi.
//!
//! It has no secret: who chooses his own addresses and ports can choose his server, as he can with any
//! hash that several directors agree on.

use core::net::IpAddr;
use lvs_core::addr::RealAddr;
use lvs_core::flow::WireTuple;

/// The multiplier.
pub const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
/// Seed for a server's first place in a table.
pub const PLACE: u64 = 0x243f_6a88_85a3_08d3;
/// Seed for a server's distance from place to place.
pub const SKIP: u64 = 0x1319_8a2e_0370_7344;
/// Seed for flows.
pub const FLOW: u64 = 0xa409_3822_299f_31d0;
/// Seed for a server's points on a ring.
pub const POINT: u64 = 0x082e_fa98_ec4e_6c89;

/// Seed for what a place of a table draws.
pub const DRAW: u64 = 0x4528_21e6_38d0_1377;

/// Mixes one word into a state.
#[must_use]
#[inline]
pub const fn step(state: u64, word: u64) -> u64 {
    let product = ((state ^ word) as u128).wrapping_mul(MULTIPLIER as u128);
    product as u64 ^ (product >> 64) as u64
}

/// The hash of some words.
///
/// ```
/// use lvs_sched::steady::{FLOW, hash};
/// assert_eq!(hash(FLOW, &[1, 2]), 0x8965_134a_6627_a991);
/// ```
#[must_use]
#[inline]
pub fn hash<const N: usize>(seed: u64, words: &[u64; N]) -> u64 {
    words.iter().fold(seed, |state, word| step(state, *word))
}

/// Which of `many` a hash means: its high 32 bits, scaled. Below `many`; 0 when there are none.
#[must_use]
#[inline]
pub const fn scaled(hash: u64, many: u32) -> u32 {
    ((hash >> 32).wrapping_mul(many as u64) >> 32) as u32
}

/// What identifies a server everywhere: its address as 16 bytes (IPv4 as `::ffff:a.b.c.d`) and its port.
/// Its number in a configuration does not count, nor its place in the list.
#[must_use]
pub const fn member(addr: &RealAddr) -> [u64; 3] {
    let bits = match addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64, addr.port() as u64]
}

/// The hash of a flow as the client's packet shows it: both addresses, both ports, protocol.
#[must_use]
#[inline]
pub fn flow(flow: &WireTuple) -> u64 {
    let rest = |sport: u16, dport: u16, proto: u8| {
        u64::from(sport) << 48 | u64::from(dport) << 32 | u64::from(proto)
    };
    match flow {
        WireTuple::V4(t) => {
            let addresses = u64::from(t.src) << 32 | u64::from(t.dst);
            hash(FLOW, &[addresses, rest(t.sport, t.dport, t.proto.number())])
        }
        WireTuple::V6(t) => {
            let [a, b, c, d] =
                [(t.src >> 64) as u64, t.src as u64, (t.dst >> 64) as u64, t.dst as u64];
            hash(FLOW, &[a, b, c, d, rest(t.sport, t.dport, t.proto.number())])
        }
    }
}

/// The hash of the client's address alone.
#[must_use]
#[inline]
pub fn source(flow: &WireTuple) -> u64 {
    match flow {
        WireTuple::V4(t) => hash(FLOW, &[u64::from(t.src)]),
        WireTuple::V6(t) => hash(FLOW, &[(t.src >> 64) as u64, t.src as u64]),
    }
}
