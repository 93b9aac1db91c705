//! What the director is compared with: other ways to build the same thing, in the same run.
//!
//! All forward the same packets of the same sessions with the same checks as the floor
//! ([`translate`](crate::floor::translate)), write the same bytes, and count per session, server and
//! service. None has the director's long ways (fragments, options, new configurations, neighbours): they
//! are models that err on the fast side.
//!
//! | stand-in | what it is |
//! |---|---|
//! | [`naive`] | what one writes first: a hashbrown map from both tuples to a session in a vector, one packet at a time |
//! | [`dpvs`] | the memory shape of DPVS 1.10: chained lists in 2^20 heads, two 64-byte nodes inside a connection of 576 bytes, one packet at a time with packet headers prefetched |
//! | [`cuckoo`] | the shape of DPDK's rte_hash: buckets of eight 16-bit signatures, keys in a store of their own, batched with prefetch |
//! | [`rewrites`] | one header rewrite by smoltcp, pnet_packet and etherparse |

pub mod cuckoo;
pub mod dpvs;
pub mod naive;
pub mod rewrites;

use crate::floor::translate::{Pair, Session};
use lvs_testkit::traffic::{Ends, Flow, Network};

/// A tuple as two words: addresses, then ports and protocol.
pub type Key = [u64; 2];

/// The key of an IPv4 tuple.
#[inline]
#[must_use]
pub const fn key(ends: &Ends<u32>) -> Key {
    lvs_testkit::traffic::hash_words_v4(ends)
}

/// The key of a frame that has passed [`inspect`](crate::floor::translate::inspect).
#[inline]
#[must_use]
pub fn key_of(h: &[u8; crate::floor::translate::HEADERS]) -> Key {
    let word = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
    let port = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
    key(&Ends { src: (word(26), port(34)), dst: (word(30), port(36)) })
}

/// Number of the port that a frame came in on: its Ethernet destination tells.
#[inline]
fn arm_of(h: &[u8; crate::floor::translate::HEADERS]) -> usize {
    // The last byte is 1 or 2 in every network of the traffic generator.
    usize::from(h[5] & 2 != 0)
}

/// The keys of both directions.
#[must_use]
pub const fn keys(flow: &Flow<u32>, net: &Network<u32>) -> [Key; 2] {
    [
        key(&Ends { src: flow.client, dst: net.service }),
        key(&Ends { src: flow.server, dst: flow.local }),
    ]
}

/// A session as the floor and the stand-ins keep it.
#[must_use]
pub fn session_of(flow: &Flow<u32>, net: &Network<u32>) -> Session {
    Session {
        inner: Pair::new(flow.client, net.service),
        outer: Pair::new(flow.local, flow.server),
        seq_delta: flow.client_seen.wrapping_sub(flow.client_seq),
        state: 1,
        flags: 3,
        hop_in: u16::from(flow.server_mac.0[5]) + 1,
        server_number: u16::from(flow.server_mac.0[5]),
        ..Session::default()
    }
    .with_deltas()
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub u64, pub u64);

impl Count {
    #[inline]
    fn add(&mut self, bytes: usize) {
        self.0 += 1;
        self.1 += bytes as u64;
    }
}

/// What every director of this kind counts: the service, and each server.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Packets received.
    pub received: Count,
    /// Of the service, inbound and out.
    pub service: [Count; 2],
    /// Of each server.
    pub servers: Vec<[Count; 2]>,
}

impl Counts {
    fn new() -> Self {
        Self {
            received: Count::default(),
            service: Default::default(),
            servers: vec![Default::default(); 256],
        }
    }

    #[inline]
    fn carried(&mut self, server: u16, direction: usize, bytes: usize) {
        self.received.add(bytes);
        self.service[direction].add(bytes);
        if let Some(server) = self.servers.get_mut(usize::from(server)) {
            server[direction].add(bytes);
        }
    }
}

/// Ethernet addresses to write, by next hop: the gateway is 0, servers follow.
#[derive(Clone, Debug)]
pub struct Hops(Vec<[u8; 12]>);

impl Hops {
    /// For servers whose address ends in their number.
    #[must_use]
    pub fn new(net: &Network<u32>, server_mac: impl Fn(u8) -> lvs_core::addr::MacAddr) -> Self {
        let join = |to: [u8; 6], from: [u8; 6]| {
            let mut twelve = [0; 12];
            twelve[..6].copy_from_slice(&to);
            twelve[6..].copy_from_slice(&from);
            twelve
        };
        let gateway = join(net.gateway.0, net.own[0].0);
        let servers = (0..=254).map(|number| join(server_mac(number).0, net.own[1].0));
        Self(core::iter::once(gateway).chain(servers).collect())
    }

    #[inline]
    fn get(&self, hop: u16) -> &[u8; 12] {
        &self.0[usize::from(hop & 0xff)]
    }
}
