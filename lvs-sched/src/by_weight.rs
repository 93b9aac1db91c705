//! The servers by falling weight; of equals the earlier one comes first. Who fits is kept change by change, so
//! that the heaviest of them is found without looking at those that do not.

use crate::ready::Bits;
use alloc::vec::Vec;
use core::cmp::Reverse;
use lvs_core::sched::ServerLoad;

/// Indices of servers, heaviest first.
pub(crate) struct ByWeight {
    fits: fn(&ServerLoad) -> bool,
    order: Vec<usize>,
    /// The place of each server in `order`.
    ranks: Vec<usize>,
    /// Places of servers that may be used and fit.
    fitting: Bits,
}

impl ByWeight {
    pub(crate) fn new(fits: fn(&ServerLoad) -> bool) -> Self {
        Self { fits, order: Vec::new(), ranks: Vec::new(), fitting: Bits::default() }
    }

    pub(crate) fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.order.clear();
        self.order.extend(0..servers.len());
        // The sort is stable.
        self.order.sort_by_key(|at| Reverse(servers.get(*at).map(|server| server.weight)));
        self.ranks.clear();
        self.ranks.resize(servers.len(), 0);
        for (rank, at) in self.order.iter().enumerate() {
            if let Some(place) = self.ranks.get_mut(*at) {
                *place = rank;
            }
        }
        self.fitting.reset(servers.len());
        (0..servers.len()).for_each(|at| self.changed(at, servers));
    }

    pub(crate) fn changed(&mut self, index: usize, servers: &[ServerLoad]) {
        if let (Some(rank), Some(server)) = (self.ranks.get(index), servers.get(index)) {
            self.fitting.set(*rank, server.is_available() && (self.fits)(server));
        }
    }

    /// The heaviest server that may be used and fits.
    pub(crate) fn heaviest(&self) -> Option<usize> {
        self.order.get(self.fitting.behind(0)?).copied()
    }
}
