//! Locality-based least connection: a destination stays with its server, so that a cache sees the same
//! requests again; new destinations go to the server with the fewest sessions for its weight.
//!
//! For fwmark services that take many destinations (transparent caches). Rules of Linux
//! `net/netfilter/ipvs/ip_vs_lblc.c`: a destination moves to the least loaded server when its own may not
//! be used, or has more established sessions than its weight while some server has less than half. What
//! differs: memory is bounded strictly, by [`MOST_DESTINATIONS`]; when it is full the destination that was
//! not used for longest makes room, where Linux lets the table grow and removes what was idle for six
//! minutes. Destinations that were idle for [`IDLE`] are forgotten at once, not within half an hour.
//!
//! `tick` tells the time; without it nothing ages.

use crate::locality::Locality;
pub use crate::locality::{IDLE, MOST_DESTINATIONS};
use alloc::boxed::Box;
use core::any::Any;
use lvs_core::flow::WireTuple;
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};
use lvs_core::time::Tick;

struct LocalityLeast(Locality<ServerId>);

impl Scheduler for LocalityLeast {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.0.rebuild(servers);
    }

    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let now = self.0.clock.now;
        let known = self.0.cache.used(flow.dst(), now).copied();
        if let Some(at) = known.and_then(|id| self.0.place(id))
            && let Some(server) = servers.get(at)
            && server.is_available()
            && !self.0.is_too_busy(server)
        {
            return Some(at);
        }
        let at = self.0.least(flow, servers)?;
        let id = servers.get(at)?.id;
        match self.0.cache.used(flow.dst(), now) {
            Some(known) => *known = id,
            None => self.0.cache.enter(flow.dst(), now, id),
        }
        Some(at)
    }

    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        self.0.load_changed(index, servers);
    }

    fn tick(&mut self, now: Tick) {
        self.0.tick(now);
    }

    fn take_over(&mut self, before: &mut dyn Scheduler) {
        let before: &mut dyn Any = before;
        if let Some(before) = before.downcast_mut::<Self>() {
            self.0.take_over(&mut before.0);
        }
    }
}

/// One that remembers so many destinations.
#[must_use]
pub fn with_room(args: SchedulerArgs, destinations: usize) -> Box<dyn Scheduler> {
    Box::new(LocalityLeast(Locality::new(args, destinations)))
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    with_room(args, MOST_DESTINATIONS)
}

/// Locality-based least connection.
#[doc(alias = "ip_vs_lblc")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "lblc",
    summary: "locality-based least connection: a destination stays with its server",
    build,
};
