//! The servers by falling weight; of equals the earlier one comes first.

use alloc::vec::Vec;
use core::cmp::Reverse;
use lvs_core::sched::ServerLoad;

/// Indices of servers, heaviest first.
#[derive(Default)]
pub(crate) struct ByWeight {
    order: Vec<usize>,
}

impl ByWeight {
    pub(crate) fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.order.clear();
        self.order.extend(0..servers.len());
        // The sort is stable.
        self.order.sort_by_key(|at| Reverse(servers.get(*at).map(|server| server.weight)));
    }

    /// The heaviest server that may be used and that `fits`.
    pub(crate) fn heaviest(
        &self,
        servers: &[ServerLoad],
        fits: impl Fn(&ServerLoad) -> bool,
    ) -> Option<usize> {
        let usable = |server: &ServerLoad| server.is_available() && fits(server);
        self.order.iter().copied().find(|at| servers.get(*at).is_some_and(usable))
    }
}
