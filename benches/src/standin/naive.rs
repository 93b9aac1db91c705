//! What one writes first: a map from tuples to sessions, one packet at a time.
//!
//! The map is hashbrown with its default hasher (foldhash: fast, and not meant to withstand an
//! attacker), both tuples of each session in it; sessions lie in a vector in huge pages. No prefetch:
//! a map gives no hold for one.

use super::{Counts, Hops, Key, arm_of, key_of, keys, session_of};
use crate::floor::translate::{HEADERS, Own, Session, inspect, rewrite};
use hashbrown::HashMap;
use lvs_core::io::PacketBuf;
use lvs_testkit::traffic::{Flow, Network};

/// The director.
pub struct Naive {
    map: HashMap<Key, u32>,
    sessions: Vec<Session>,
    hops: Hops,
    own: [Own; 2],
    /// What it counted.
    pub counts: Counts,
}

impl Naive {
    /// With all sessions in it, and room for as many more as `spare`.
    #[must_use]
    pub fn new(net: &Network<u32>, flows: &[Flow<u32>], hops: Hops, spare: usize) -> Self {
        let mut map = HashMap::with_capacity(2 * (flows.len() + spare));
        let mut sessions = Vec::with_capacity(flows.len() + spare);
        for (number, flow) in (0u32..).zip(flows) {
            let [inbound, reply] = keys(flow, net);
            map.insert(inbound, number << 1);
            map.insert(reply, number << 1 | 1);
            sessions.push(session_of(flow, net));
        }
        let own = net.own.map(|mac| Own::new(mac.0));
        Self { map, sessions, hops, own, counts: Counts::new() }
    }

    /// Forwards packets; gives how many it could.
    #[inline(never)]
    pub fn run<B: PacketBuf>(&mut self, packets: &mut [B], now: u32) -> usize {
        packets.iter_mut().map(|packet| usize::from(self.one(packet, now))).sum()
    }

    #[inline]
    fn one<B: PacketBuf>(&mut self, packet: &mut B, now: u32) -> bool {
        let len = packet.total_len();
        let Some(h) = packet.data_mut().first_chunk_mut::<HEADERS>() else { return false };
        if !inspect(h, len, self.own[arm_of(h)]) {
            return false;
        }
        let Some(found) = self.map.get(&key_of(h)) else { return false };
        let direction = found & 1;
        let Some(session) = self.sessions.get_mut((found >> 1) as usize) else { return false };
        self.counts.carried(session.server_number, direction as usize, len - 14);
        if direction == 0 {
            let macs = self.hops.get(session.hop_in);
            rewrite::<true>(h, session, now, macs)
        } else {
            let macs = self.hops.get(session.hop_out);
            rewrite::<false>(h, session, now, macs)
        }
    }
}
