//! Maglev hashing as Linux has it: by the client's address, few clients move when a server comes or goes.
//!
//! Table and hash of `net/netfilter/ipvs/ip_vs_mh.c` with its usual 4093 places, on a 64-bit
//! little-endian kernel: each server has a permutation of the places from its address and port, and
//! servers take turns at their next free place, as many turns in a row as their weight says (scaled down
//! to 6 bits). A weight set to 0 keeps its places, over a reload too, so that nobody else's clients move; a client whose
//! server may not be used gets nobody, or with `mh-fallback` another server.

use crate::buckets::fold;
use crate::ready::Ready;
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
    ready: Ready,
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
fn word(hash: &SipHash13, address: u32, port: u16) -> u32 {
    let [hash] = hash.shorts([address.wrapping_add(u32::from(port))]);
    hash as u32
}

/// The place of a hash.
#[inline(always)]
fn place_of(hash: u64) -> u32 {
    hash as u32 % SIZE
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
            let hash = |hash| word(hash, address, server.addr.port());
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

    /// What is hashed of a client.
    #[inline]
    fn client(flow: &WireTuple) -> u32 {
        let port = if PORT { flow.sport() as u32 } else { 0 };
        fold(flow.src()).wrapping_add(port)
    }

    #[inline]
    fn server(&self, place: u32) -> usize {
        self.table.get(place as usize).map_or(usize::MAX, |at| *at as usize)
    }

    /// Another server for a client whose own may not be used. The search starts as far behind what was hashed of the
    /// client as its place is behind the first one; two hashes are made side by side.
    #[inline(never)]
    fn other(&self, client: u32, home: u32) -> Option<usize> {
        let next = home.wrapping_add(1);
        let next = core::hint::select_unpredictable(next == SIZE, 0, next);
        let tries = [home, next].map(|offset| client.wrapping_add(offset));
        let found = self.hash.shorts(tries).map(|hash| self.server(place_of(hash)));
        self.ready.first_of(found).or_else(|| self.further(client, home))
    }

    /// The same behind the first two tries.
    #[inline(never)]
    fn further(&self, client: u32, home: u32) -> Option<usize> {
        let of = |step: u32| client.wrapping_add(step.wrapping_add(home) % SIZE);
        let mut pairs = (2..SIZE).step_by(2);
        pairs.find_map(|step| {
            let tries = [of(step), of(step.wrapping_add(1).min(SIZE - 1))];
            let found = self.hash.shorts(tries).map(|hash| self.server(place_of(hash)));
            self.ready.first_of(found)
        })
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
        self.ready.rebuild(servers);
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

    fn pick(&mut self, flow: &WireTuple, _servers: &[ServerLoad]) -> Option<usize> {
        let client = Self::client(flow);
        let home = place_of(self.hash.shorts([client])[0]);
        let at = self.server(home);
        if self.ready.has(at) {
            return Some(at);
        }
        if FALLBACK && !self.table.is_empty() { self.other(client, home) } else { None }
    }

    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        let _ = self.ready.changed(index, servers);
    }
}

fn build<const PORT: bool, const FALLBACK: bool>(_args: SchedulerArgs) -> Box<dyn Scheduler> {
    let [hash, step] = KEYS.map(|key| SipHash13::new(&[key, key]));
    Box::new(MaglevHash::<PORT, FALLBACK> {
        hash,
        step,
        weights: Vec::new(),
        turns: Vec::new(),
        table: Vec::new(),
        ready: Ready::default(),
    })
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
