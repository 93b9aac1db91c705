//! Maglev hashing as Linux has it: by the client's address, few clients move when a server comes or goes.
//!
//! Table and hash of `net/netfilter/ipvs/ip_vs_mh.c` with its usual 4093 places, on a 64-bit
//! little-endian kernel: each server has a permutation of the places from its address and port, and
//! servers take turns at their next free place, as many turns in a row as their weight says (scaled down
//! to 6 bits). A weight set to 0 keeps its places, over a reload too, so that nobody else's clients move; a client whose
//! server may not be used gets nobody, or with `mh-fallback` another server.

use crate::buckets::fold;
use alloc::boxed::Box;
use alloc::vec::Vec;
use lvs_core::flow::WireTuple;
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};
use lvs_core::siphash::SipHash13;

/// Places of the table, a prime. Linux `IP_VS_MH_TAB_SIZE` at its default.
const SIZE: u32 = 4093;
/// Bits that weights are scaled down to. Linux `IP_VS_MH_TAB_BITS`.
const WEIGHT_BITS: u32 = 6;
/// Keys of the two hashes, fixed so that all directors agree. Linux `generate_hash_secret`.
const KEYS: [u64; 2] = [2_654_435_761, 2_654_446_892];

struct MaglevHash<const PORT: bool, const FALLBACK: bool> {
    /// Hashes clients, and gives servers their first place.
    hash: SipHash13,
    /// Gives servers the distance from place to place.
    step: SipHash13,
    /// Each server's newest weight above 0.
    weights: Vec<(ServerId, u16)>,
    /// Each server's permutation of the places.
    turns: Vec<Turn>,
    /// Servers by place; empty when nobody has a weight. Memory for all places is there in any case.
    table: Vec<u32>,
}

/// A server while the table is filled.
struct Turn {
    home: u32,
    skip: u32,
    /// Where its next search starts.
    place: u32,
    /// How many turns in a row it has.
    turns: u32,
}

/// The kernel hashes one native 32-bit word and keeps 32 bits.
fn word(hash: &SipHash13, address: u32, port: u16, offset: u32) -> u32 {
    let word = address.wrapping_add(u32::from(port)).wrapping_add(offset);
    hash.bytes(&word.to_le_bytes()) as u32
}

impl<const PORT: bool, const FALLBACK: bool> MaglevHash<PORT, FALLBACK> {
    fn remember_weights(&mut self, servers: &[ServerLoad]) {
        let before = core::mem::take(&mut self.weights);
        let last = |server: &ServerLoad| {
            let known = before.iter().find(|(id, _)| *id == server.id);
            match server.weight.0 {
                0 => (server.id, known.map_or(0, |(_, weight)| *weight)),
                weight => (server.id, weight),
            }
        };
        self.weights = servers.iter().map(last).collect();
    }

    /// The weights that servers of weight 0 had under `before`; whether there were any.
    fn recall_weights(&mut self, before: &[(ServerId, u16)]) -> bool {
        let mut any = false;
        for (at, (id, weight)) in self.weights.iter_mut().enumerate().filter(|(_, w)| w.1 == 0) {
            // Few lists change their order.
            let same = before.get(at).filter(|known| known.0 == *id);
            if let Some(known) = same.or_else(|| before.iter().find(|known| known.0 == *id)) {
                *weight = known.1;
                any |= known.1 > 0;
            }
        }
        any
    }

    /// Everything that takes memory: the permutations, and room for the table.
    fn prepare(&mut self, servers: &[ServerLoad]) {
        let turn = |server: &ServerLoad| {
            let address = fold(server.addr.ip());
            let hash = |hash| word(hash, address, server.addr.port(), 0);
            let (home, skip) = (hash(&self.hash) % SIZE, hash(&self.step) % (SIZE - 1) + 1);
            Turn { home, skip, place: home, turns: 0 }
        };
        self.turns = servers.iter().map(turn).collect();
        self.table.clear();
        self.table.reserve_exact(SIZE as usize);
    }

    /// How many turns in a row each weight means.
    fn scale(&mut self) {
        let weights = || self.weights.iter().map(|(_, weight)| u32::from(*weight));
        let divisor = weights().fold(0, crate::wrr::gcd);
        let highest = weights().max().unwrap_or(0).checked_div(divisor).unwrap_or(0);
        let bits = u32::BITS.saturating_sub(highest.leading_zeros());
        let shift = bits.saturating_sub(WEIGHT_BITS);
        for (turn, weight) in self.turns.iter_mut().zip(weights()) {
            let scaled = weight.checked_div(divisor).unwrap_or(0) >> shift;
            (turn.place, turn.turns) = (turn.home, scaled.max(u32::from(weight > 0)));
        }
    }

    /// Fills the table; takes no memory.
    fn fill(&mut self) {
        self.scale();
        self.table.clear();
        if self.turns.iter().all(|turn| turn.turns == 0) {
            return;
        }
        self.table.resize(SIZE as usize, u32::MAX);
        let mut free = SIZE;
        while free > 0 {
            for (at, turn) in (0u32..).zip(&mut self.turns) {
                for _ in 0..turn.turns.min(free) {
                    take_next(&mut self.table, turn, at);
                    free = free.saturating_sub(1);
                }
            }
        }
    }

    fn server(&self, flow: &WireTuple, offset: u32) -> Option<usize> {
        let port = if PORT { flow.sport() } else { 0 };
        let place = word(&self.hash, fold(flow.src()), port, offset) % SIZE;
        self.table.get(place as usize).map(|at| *at as usize)
    }

    /// The place that the search for another server starts with.
    fn home(&self, flow: &WireTuple) -> u32 {
        let port = if PORT { flow.sport() } else { 0 };
        word(&self.hash, fold(flow.src()), port, 0) % SIZE
    }
}

/// The server takes the next free place of its permutation. The number of places is a prime, so the
/// permutation meets all of them.
fn take_next(table: &mut [u32], turn: &mut Turn, at: u32) {
    for _ in 0..SIZE {
        if let Some(place) = table.get_mut(turn.place as usize)
            && *place == u32::MAX
        {
            *place = at;
            return;
        }
        turn.place = turn.place.wrapping_add(turn.skip) % SIZE;
    }
}

impl<const PORT: bool, const FALLBACK: bool> Scheduler for MaglevHash<PORT, FALLBACK> {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.remember_weights(servers);
        self.prepare(servers);
        self.fill();
    }

    fn take_over(&mut self, before: &mut dyn Scheduler) {
        let before: &mut dyn core::any::Any = before;
        if let Some(before) = before.downcast_ref::<Self>()
            && self.recall_weights(&before.weights)
        {
            self.fill();
        }
    }

    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let usable = |at: &usize| servers.get(*at).is_some_and(ServerLoad::is_available);
        let at = self.server(flow, 0)?;
        if usable(&at) {
            return Some(at);
        }
        if !FALLBACK {
            return None;
        }
        let home = self.home(flow);
        let mut others = (0..SIZE).map(|step| step.wrapping_add(home) % SIZE);
        others.find_map(|offset| self.server(flow, offset).filter(usable))
    }
}

fn build<const PORT: bool, const FALLBACK: bool>(_args: SchedulerArgs) -> Box<dyn Scheduler> {
    let [hash, step] = KEYS.map(|key| SipHash13::new(&[key, key]));
    let (weights, turns, table) = (Vec::new(), Vec::new(), Vec::new());
    Box::new(MaglevHash::<PORT, FALLBACK> { hash, step, weights, turns, table })
}

/// Maglev hashing with option `mh-port`.
pub const PORT: SchedulerDef = SchedulerDef {
    name: "mh-port",
    summary: "Maglev hashing: by client address and port",
    build: build::<true, false>,
};

/// Maglev hashing with option `mh-fallback`.
pub const FALLBACK: SchedulerDef = SchedulerDef {
    name: "mh-fallback",
    summary: "Maglev hashing: by client address, another server while one may not be used",
    build: build::<false, true>,
};

/// Maglev hashing with both options.
pub const PORT_FALLBACK: SchedulerDef = SchedulerDef {
    name: "mh-port-fallback",
    summary: "Maglev hashing: by client address and port, another server while one may not be used",
    build: build::<true, true>,
};

/// Maglev hashing.
#[doc(alias = "ip_vs_mh")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "mh",
    summary: "Maglev hashing: by client address, few move when servers change",
    build: build::<false, false>,
};
