//! The least loaded server, kept up to date change by change.
//!
//! A tournament tree over the servers: each inner node names the better one of its two halves, so the
//! best is known at any time and a change of load is a walk from one leaf to the root. Of equals the
//! earlier one wins, as in a scan of the list with "less than"; each worker's list starts at its own
//! place, so that workers without sessions do not all choose the first server.

use crate::start;
use alloc::boxed::Box;
use alloc::vec::Vec;
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

/// A scheduler that picks the server of least cost.
pub(crate) struct Tournament {
    args: SchedulerArgs,
    cost: fn(&ServerLoad) -> Cost,
    servers: usize,
    /// The server at leaf 0.
    first: usize,
    /// Costs by leaf; a power of two, the rest filled with servers that must not be chosen.
    leaves: Vec<Cost>,
    /// The best leaf below each inner node; node 1 is the root, node n has 2n and 2n + 1.
    best: Vec<u32>,
}

impl Tournament {
    pub(crate) fn boxed(args: SchedulerArgs, cost: fn(&ServerLoad) -> Cost) -> Box<dyn Scheduler> {
        let (leaves, best) = (Vec::new(), Vec::new());
        Box::new(Self { args, cost, servers: 0, first: 0, leaves, best })
    }

    fn cost_of(&self, server: &ServerLoad) -> Cost {
        let cost = (self.cost)(server);
        if server.is_available() { cost } else { Cost { weight: 0, ..cost } }
    }

    /// The index of the server at a leaf.
    fn server_at(&self, leaf: usize) -> usize {
        let index = leaf.saturating_add(self.first);
        index.checked_sub(self.servers).unwrap_or(index)
    }

    /// The leaf of the server with this index.
    fn leaf_of(&self, index: usize) -> usize {
        let leaf = index.checked_sub(self.first);
        leaf.unwrap_or_else(|| index.saturating_add(self.servers).saturating_sub(self.first))
    }

    /// The best leaf below a node, leaves included.
    fn winner(&self, node: usize) -> usize {
        match node.checked_sub(self.leaves.len()) {
            Some(leaf) => leaf,
            None => self.best.get(node).map_or(0, |leaf| *leaf as usize),
        }
    }

    fn leaf(&self, leaf: usize) -> Cost {
        self.leaves.get(leaf).copied().unwrap_or_default()
    }

    /// Plays the match at a node; whether the winner is another one than before.
    fn play(&mut self, node: usize) -> bool {
        let left = self.winner(node.saturating_mul(2));
        let right = self.winner(node.saturating_mul(2).saturating_add(1));
        let winner = if self.leaf(right).is_less_than(self.leaf(left)) { right } else { left };
        let Some(place) = self.best.get_mut(node) else { return false };
        let winner = u32::try_from(winner).unwrap_or(0);
        core::mem::replace(place, winner) != winner
    }

    /// Writes a server's present cost.
    fn update(&mut self, leaf: usize, server: &ServerLoad) {
        let cost = self.cost_of(server);
        let Some(place) = self.leaves.get_mut(leaf) else { return };
        if core::mem::replace(place, cost) == cost {
            return;
        }
        let mut node = self.leaves.len().saturating_add(leaf) / 2;
        while node > 0 {
            // Where neither the winner nor its cost changed, nothing changes above.
            if !self.play(node) && self.winner(node) != leaf {
                return;
            }
            node /= 2;
        }
    }

    /// Writes every server's present cost and plays all matches.
    fn update_all(&mut self, servers: &[ServerLoad]) {
        for (index, server) in servers.iter().take(self.servers).enumerate() {
            let (leaf, cost) = (self.leaf_of(index), self.cost_of(server));
            if let Some(place) = self.leaves.get_mut(leaf) {
                *place = cost;
            }
        }
        for node in (1..self.leaves.len()).rev() {
            self.play(node);
        }
    }
}

impl Scheduler for Tournament {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.servers = servers.len();
        self.first = start::index(self.args, servers.len());
        let leaves = servers.len().max(1).next_power_of_two();
        self.leaves.clear();
        self.leaves.resize(leaves, Cost::default());
        self.best.clear();
        self.best.resize(leaves, 0);
        self.update_all(servers);
    }

    fn pick(&mut self, _flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        // A change that nobody reported shows when its server wins: it is corrected then.
        for _ in 0..4 {
            let leaf = self.winner(1);
            let index = self.server_at(leaf);
            let server = servers.get(index)?;
            let cost = self.cost_of(server);
            if cost == self.leaf(leaf) {
                return (cost.weight > 0).then_some(index);
            }
            self.update(leaf, server);
        }
        self.update_all(servers);
        let leaf = self.winner(1);
        (self.leaf(leaf).weight > 0).then(|| self.server_at(leaf))
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
}
