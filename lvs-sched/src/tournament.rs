//! The least loaded server, kept up to date change by change.
//!
//! A tournament tree over the servers: each inner node names the better one of its two halves, so the
//! best is known at any time and a change of load is a walk from one leaf to the root. Of equals the
//! earlier one wins, as in a scan of the list with "less than"; each worker's list starts at its own
//! place, so that workers without sessions do not all choose the first server.

use crate::start;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::select_unpredictable;
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, SchedulerArgs, ServerLoad};

/// How far a server is from being chosen: `load / weight`, compared without dividing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Below 2^41.
    pub(crate) load: u64,
    /// 0 = must not be chosen.
    pub(crate) weight: u16,
}

impl Cost {
    pub(crate) fn is_less_than(self, other: Self) -> bool {
        if self.weight == 0 || other.weight == 0 {
            return self.weight > other.weight;
        }
        let scaled = |load: u64, weight: u16| load.saturating_mul(u64::from(weight));
        scaled(self.load, other.weight) < scaled(other.load, self.weight)
    }
}

/// Sessions as least-connection schedulers count them: an established one weighs as much as 256 others.
/// Linux `ip_vs_dest_conn_overhead`.
pub(crate) const fn overhead(server: &ServerLoad) -> u64 {
    ((server.active as u64) << 8).saturating_add(server.inactive as u64)
}

/// A cost in one word: the load above, 16 bits of weight below. Of servers that must not be chosen it is
/// [`OUT`](Self::OUT), whose load no other server reaches, so that a comparison needs no branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

impl Packed {
    const MOST: u64 = 1 << 46;
    const OUT: Self = Self(Self::MOST << 16 | 1);

    fn of(cost: Cost) -> Self {
        let load = cost.load.min(Self::MOST - 1);
        if cost.weight == 0 { Self::OUT } else { Self(load << 16 | u64::from(cost.weight)) }
    }

    /// The quotient with so many bits behind the point: of different costs a different one, in the same order, if that
    /// are twice as many bits as the heaviest weight has, and the load leaves room for them.
    #[inline(always)]
    const fn key(self, bits: u32) -> u64 {
        let (load, weight) = (self.0 >> 16, self.0 & 0xffff);
        if load >= Self::MOST {
            return Key::OUT;
        }
        if load.leading_zeros() < bits {
            return Key::LARGEST;
        }
        match load.wrapping_shl(bits).checked_div(weight) {
            Some(key) => key,
            None => Key::OUT,
        }
    }
}

/// What tournaments compare: one word, so that a match is one comparison.
struct Key;

impl Key {
    /// Must not be chosen. One more is a number, too.
    const OUT: u64 = u64::MAX - 1;
    /// More than can be told apart.
    const LARGEST: u64 = u64::MAX - 2;

    /// Bits behind the point for weights up to this one.
    const fn bits(heaviest: u16) -> u32 {
        (u16::BITS - heaviest.leading_zeros()) * 2
    }
}

/// Whether the first of two keys is the smaller one; of equals it is if it stands `in_front`.
#[inline(always)]
const fn wins(mine: u64, theirs: u64, in_front: bool) -> bool {
    mine < theirs.wrapping_add(in_front as u64)
}

/// A scheduler that picks the server of least cost.
pub(crate) struct Tournament<F> {
    args: SchedulerArgs,
    cost: F,
    servers: usize,
    /// The server at leaf 0.
    first: usize,
    /// Costs by leaf; a power of two, the rest filled with servers that must not be chosen.
    leaves: Vec<Packed>,
    /// Their keys, with so many bits behind the point.
    keys: Vec<u64>,
    bits: u32,
    /// The best leaf at or below each node. Node 1 is the root, node n has 2n and 2n + 1; behind the inner
    /// nodes come the leaves, which name themselves.
    best: Vec<u32>,
}

impl<F: Fn(&ServerLoad) -> Cost + Send + 'static> Tournament<F> {
    pub(crate) fn boxed(args: SchedulerArgs, cost: F) -> Box<dyn Scheduler> {
        let (leaves, keys, best) = (Vec::new(), Vec::new(), Vec::new());
        Box::new(Self { args, cost, servers: 0, first: 0, leaves, keys, bits: 0, best })
    }

    #[inline]
    fn cost_of(&self, server: &ServerLoad) -> Packed {
        if server.is_available() { Packed::of((self.cost)(server)) } else { Packed::OUT }
    }

    /// The index of the server at a leaf.
    #[inline]
    fn server_at(&self, leaf: usize) -> usize {
        let index = leaf.saturating_add(self.first);
        index.checked_sub(self.servers).unwrap_or(index)
    }

    /// The leaf of the server with this index.
    #[inline]
    fn leaf_of(&self, index: usize) -> usize {
        let leaf = index.checked_sub(self.first);
        leaf.unwrap_or_else(|| index.saturating_add(self.servers).saturating_sub(self.first))
    }

    /// The best leaf at or below a node.
    #[inline]
    fn winner(&self, node: usize) -> u32 {
        self.best.get(node).copied().unwrap_or(0)
    }

    #[inline]
    fn leaf(&self, leaf: u32) -> Packed {
        self.leaves.get(leaf as usize).copied().unwrap_or(Packed::OUT)
    }

    #[inline(always)]
    fn key(&self, leaf: u32) -> u64 {
        self.keys.get(leaf as usize).copied().unwrap_or(Key::OUT)
    }

    /// Writes a server's present cost and plays its matches from the leaf up.
    #[inline]
    fn update(&mut self, leaf: usize, server: &ServerLoad) {
        let cost = self.cost_of(server);
        let mut node = self.leaves.len().saturating_add(leaf);
        let Some(place) = self.leaves.get_mut(leaf) else { return };
        if core::mem::replace(place, cost) == cost {
            return;
        }
        let mut key = cost.key(self.bits);
        if let Some(place) = self.keys.get_mut(leaf) {
            *place = key;
        }
        let changed = leaf as u32;
        let mut best = changed;
        while node > 1 {
            let other = self.winner(node ^ 1);
            let theirs = self.key(other);
            // Who wins nobody can foretell: chosen without a jump.
            let stays = wins(key, theirs, node & 1 == 0);
            best = select_unpredictable(stays, best, other);
            key = select_unpredictable(stays, key, theirs);
            node >>= 1;
            let Some(place) = self.best.get_mut(node) else { return };
            // Where neither the winner nor its cost changed, nothing changes above.
            if (core::mem::replace(place, best) == best) & (best != changed) {
                return;
            }
        }
    }

    /// Writes every server's present cost and plays all matches.
    fn update_all(&mut self, servers: &[ServerLoad]) {
        for (index, server) in servers.iter().take(self.servers).enumerate() {
            let (leaf, cost) = (self.leaf_of(index), self.cost_of(server));
            if let Some(place) = self.leaves.get_mut(leaf) {
                *place = cost;
            }
            if let Some(place) = self.keys.get_mut(leaf) {
                *place = cost.key(self.bits);
            }
        }
        for node in (1..self.leaves.len()).rev() {
            let left = self.winner(node.saturating_mul(2));
            let right = self.winner(node.saturating_mul(2).saturating_add(1));
            let left_wins = wins(self.key(left), self.key(right), true);
            if let Some(place) = self.best.get_mut(node) {
                *place = if left_wins { left } else { right };
            }
        }
    }

    /// The pick after a change that nobody reported: it is corrected, and further ones that show.
    #[cold]
    fn corrected(&mut self, servers: &[ServerLoad]) -> Option<usize> {
        for _ in 0..4 {
            let leaf = self.winner(1);
            let index = self.server_at(leaf as usize);
            let server = servers.get(index)?;
            let cost = self.cost_of(server);
            if cost == self.leaf(leaf) {
                return (cost != Packed::OUT).then_some(index);
            }
            self.update(leaf as usize, server);
        }
        self.update_all(servers);
        let leaf = self.winner(1);
        (self.leaf(leaf) != Packed::OUT).then(|| self.server_at(leaf as usize))
    }
}

impl<F: Fn(&ServerLoad) -> Cost + Send + 'static> Scheduler for Tournament<F> {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.servers = servers.len();
        self.first = start::index(self.args, servers.len());
        let leaves = servers.len().max(1).next_power_of_two();
        let heaviest = servers.iter().map(|server| (self.cost)(server).weight).max();
        self.bits = Key::bits(heaviest.unwrap_or(1));
        self.keys.clear();
        self.keys.resize(leaves, Key::OUT);
        self.leaves.clear();
        self.leaves.resize(leaves, Packed::OUT);
        self.best.clear();
        self.best.resize(leaves, 0);
        self.best.extend((0u32..).take(leaves));
        self.update_all(servers);
    }

    fn pick(&mut self, _flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let leaf = self.winner(1);
        let index = self.server_at(leaf as usize);
        let cost = self.cost_of(servers.get(index)?);
        if cost != self.leaf(leaf) {
            return self.corrected(servers);
        }
        (cost != Packed::OUT).then_some(index)
    }

    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        if let Some(server) = servers.get(index) {
            self.update(self.leaf_of(index), server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_loads_and_weights_compare_without_overflow() {
        let most =
            Cost { load: (u64::from(u32::MAX) << 8) + u64::from(u32::MAX), weight: u16::MAX };
        let one_less = Cost { load: most.load - 1, ..most };
        assert!(one_less.is_less_than(most) && !most.is_less_than(one_less));
        let lighter = Cost { weight: u16::MAX - 1, ..most };
        assert!(most.is_less_than(lighter) && !lighter.is_less_than(most));
    }

    #[test]
    fn a_server_that_must_not_be_chosen_is_worse_than_any_other() {
        let out = Cost { load: 0, weight: 0 };
        let busy = Cost { load: u64::MAX, weight: 1 };
        assert!(busy.is_less_than(out) && !out.is_less_than(busy) && !out.is_less_than(out));
    }

    #[test]
    fn keys_compare_as_costs_do() {
        let most = (u64::from(u32::MAX) << 8) + u64::from(u32::MAX);
        let largest = (1 << 32) - 1;
        // Of lighter weights all loads can be told apart, of the heaviest those of 16 million sessions.
        for (heaviest, most) in [(1u16, most), (1000, most), (2047, most), (u16::MAX, largest)] {
            let loads = [0, 1, 2, 255, 256, most / 3, most - 1, most];
            let weights = [0, 1, 2, 3, heaviest / 2 + 1, heaviest - heaviest / 100, heaviest];
            let weights = weights.map(|weight| weight.min(heaviest));
            let costs =
                || loads.into_iter().flat_map(|load| weights.map(|weight| Cost { load, weight }));
            for (a, b) in costs().flat_map(|a| costs().map(move |b| (a, b))) {
                let [ka, kb] = [a, b].map(|cost| Packed::of(cost).key(Key::bits(heaviest)));
                if a.weight == 0 && b.weight == 0 {
                    assert_eq!((ka, kb), (Key::OUT, Key::OUT));
                    continue;
                }
                assert_eq!(wins(ka, kb, false), a.is_less_than(b), "{a:?} {b:?}");
                assert_eq!(wins(ka, kb, true), !b.is_less_than(a), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_load_beyond_what_can_be_told_apart_is_worse_than_any_below_and_better_than_out() {
        let key = |load, weight| Packed::of(Cost { load, weight }).key(Key::bits(u16::MAX));
        assert_eq!(key(1 << 32, u16::MAX), key(1 << 40, 1));
        assert!(key((1 << 32) - 1, 1) < key(1 << 32, u16::MAX));
        assert!(key(1 << 40, 1) < Key::OUT);
    }
}
