//! The memory shape of DPVS: what a packet touches there, and in which order. A model, not DPVS.
//!
//! From the structures of DPVS 1.10.2 on a 64-bit system: a table of 2^20 list heads of 16 bytes; a
//! connection of 576 bytes, nine cache lines, with two tuple nodes of 64 bytes inside, linked into the
//! list of their hash (Jenkins); each packet looked up by itself while the headers of the packets behind
//! it are prefetched; addresses, timer, sequence numbers and state in lines of their own; checksum
//! changes computed from the addresses for each packet. Left out, to its favour: the timer that DPVS
//! moves to another list for each packet, its hooks, its reference counts and its second checksum pass.

use super::{Counts, Hops, Key, arm_of, key_of, keys, session_of};
use crate::floor::translate::{HEADERS, Own, Pair, Session, inspect, rewrite};
use lvs_core::io::PacketBuf;
use lvs_core::prefetch::prefetch;
use lvs_testkit::traffic::{Flow, Network};

const HEADS: usize = 1 << 20;
const NONE: u32 = u32::MAX;
/// Packets received at once.
const BURST: usize = 32;

/// Lines of a connection.
const ADDRESSES: usize = 0;
const PORTS: usize = 1;
const NODES: usize = 2;
const TIMER: usize = 4;
const NUMBERS: usize = 5;
const STATE: usize = 7;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Connection([[u32; 16]; 9]);

const _: () = assert!(size_of::<Connection>() == 576);

/// The director.
pub struct Dpvs {
    heads: Vec<[u32; 4]>,
    connections: Vec<Connection>,
    hops: Hops,
    own: [Own; 2],
    /// What it counted.
    pub counts: Counts,
}

/// Bob Jenkins' hash of three words (lookup3, public domain), as `rte_jhash_3words`.
#[inline]
const fn jenkins(key: &Key) -> usize {
    let start = 0xdead_beef_u32.wrapping_add(12);
    let mut a = start.wrapping_add(key[0] as u32);
    let mut b = start.wrapping_add((key[0] >> 32) as u32);
    let mut c = start.wrapping_add((key[1] >> 16) as u32);
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    c as usize & (HEADS - 1)
}

const fn words(key: &Key) -> [u32; 4] {
    [key[0] as u32, (key[0] >> 32) as u32, key[1] as u32, (key[1] >> 32) as u32]
}

impl Dpvs {
    /// With all sessions in it.
    #[must_use]
    pub fn new(net: &Network<u32>, flows: &[Flow<u32>], hops: Hops) -> Self {
        let connections = Vec::with_capacity(flows.len());
        let own = net.own.map(|mac| Own::new(mac.0));
        let heads = vec![[NONE; 4]; HEADS];
        let mut dpvs = Self { heads, connections, hops, own, counts: Counts::new() };
        for flow in flows {
            dpvs.insert(&session_of(flow, net), &keys(flow, net));
        }
        dpvs
    }

    fn insert(&mut self, s: &Session, keys: &[Key; 2]) {
        let number = self.connections.len() as u32;
        let mut lines = [[0u32; 16]; 9];
        // DPVS keeps 16 bytes for an address of either family.
        let [[client, virt, inner], [local, server, outer]] = [s.inner, s.outer].map(Pair::words);
        (lines[ADDRESSES][4], lines[ADDRESSES][8], lines[ADDRESSES][12]) = (client, virt, local);
        (lines[PORTS][0], lines[PORTS][4], lines[PORTS][5]) = (server, inner, outer);
        (lines[NUMBERS][0], lines[NUMBERS][1]) = (s.seq_delta, s.ack_delta);
        lines[STATE][0] = u32::from(s.state) | u32::from(s.flags) << 8;
        lines[STATE][1] = u32::from(s.hop_in) << 16 | u32::from(s.server_number);
        for (node, key) in keys.iter().enumerate() {
            let head = &mut self.heads[jenkins(key)][0];
            lines[NODES + node][2..6].copy_from_slice(&words(key));
            lines[NODES + node][0] = *head;
            *head = number << 1 | node as u32;
        }
        self.connections.push(Connection(lines));
    }

    /// Forwards packets; gives how many it could.
    #[inline(never)]
    pub fn run<B: PacketBuf>(&mut self, packets: &mut [B], now: u32) -> usize {
        let mut done = 0;
        let mut rest = packets;
        while !rest.is_empty() {
            let (burst, behind) = rest.split_at_mut(rest.len().min(BURST));
            for packet in behind.iter().take(BURST) {
                if let Some(first) = packet.data().first() {
                    prefetch(first);
                }
            }
            done +=
                burst.iter_mut().map(|packet| usize::from(self.one(packet, now))).sum::<usize>();
            rest = behind;
        }
        done
    }

    #[inline]
    fn find(&self, key: &Key) -> Option<u32> {
        let wanted = words(key);
        let mut node = self.heads[jenkins(key)][0];
        while node != NONE {
            let line = &self.connections[(node >> 1) as usize].0[NODES + (node & 1) as usize];
            if line[2..6] == wanted {
                return Some(node);
            }
            node = line[0];
        }
        None
    }

    #[inline]
    fn one<B: PacketBuf>(&mut self, packet: &mut B, now: u32) -> bool {
        let len = packet.total_len();
        let Some(h) = packet.data_mut().first_chunk_mut::<HEADERS>() else { return false };
        if !inspect(h, len, self.own[arm_of(h)]) {
            return false;
        }
        let Some(node) = self.find(&key_of(h)) else { return false };
        let Connection(lines) = &mut self.connections[(node >> 1) as usize];
        // Checksum changes are not kept with a connection but computed from the addresses.
        let mut session = Session {
            inner: Pair::from_words([lines[ADDRESSES][4], lines[ADDRESSES][8], lines[PORTS][4]]),
            outer: Pair::from_words([lines[ADDRESSES][12], lines[PORTS][0], lines[PORTS][5]]),
            seq_delta: lines[NUMBERS][0],
            ack_delta: lines[NUMBERS][1],
            state: lines[STATE][0] as u8,
            flags: (lines[STATE][0] >> 8) as u8,
            ..Session::default()
        }
        .with_deltas();
        let (hop, server) = ((lines[STATE][1] >> 16) as u16, lines[STATE][1] as u16);
        let direction = (node & 1) as usize;
        let sent = if direction == 0 {
            rewrite::<true>(h, &mut session, now, self.hops.get(hop))
        } else {
            rewrite::<false>(h, &mut session, now, self.hops.get(0))
        };
        lines[TIMER][0] = now;
        lines[STATE][2 + direction] = lines[STATE][2 + direction].wrapping_add(1);
        lines[STATE][4 + direction] = lines[STATE][4 + direction].wrapping_add(len as u32);
        self.counts.carried(server, direction, len - 14);
        sent
    }
}
