//! What `lblc` and `lblcr` share: the cache of destinations, the least loaded server for new ones, and
//! when a server is too busy for its destinations.

use crate::cache::{Cache, Clock};
use crate::tournament::{Cost, overhead};
use crate::wlc;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;
use lvs_core::flow::WireTuple;
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, ServerLoad};
use lvs_core::time::Tick;

/// Destinations that one service remembers on one worker. Linux lets 16 for each of its 1024 buckets pass
/// before it removes some.
pub const MOST_DESTINATIONS: usize = 16 << 10;
/// A destination is forgotten when it was not used for so long. Linux `lblc_expiration`.
pub const IDLE: Duration = Duration::from_hours(24);
/// Destinations that one `tick` forgets at most.
const FORGOTTEN_PER_TICK: usize = 64;

/// The cache and what stands beside it; `V` is what is remembered for a destination.
pub(crate) struct Locality<V> {
    pub(crate) cache: Cache<V>,
    pub(crate) clock: Clock,
    wlc: Box<dyn Scheduler>,
    /// The servers' places in the list, by id.
    places: Vec<(ServerId, usize)>,
    /// Which servers have less than half as many established sessions as their weight, and how many.
    idle: Vec<bool>,
    idle_count: usize,
}

impl<V: Copy> Locality<V> {
    pub(crate) fn new(args: SchedulerArgs, destinations: usize) -> Self {
        let wlc = (wlc::DEF.build)(args);
        Self {
            cache: Cache::new(destinations),
            clock: Clock::default(),
            wlc,
            places: Vec::new(),
            idle: Vec::new(),
            idle_count: 0,
        }
    }

    pub(crate) fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.wlc.rebuild(servers);
        self.places.clear();
        self.places.extend(servers.iter().enumerate().map(|(at, server)| (server.id, at)));
        self.places.sort_unstable();
        self.idle.clear();
        self.idle.extend(servers.iter().map(is_idle));
        self.idle_count = self.idle.iter().filter(|idle| **idle).count();
    }

    pub(crate) fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        self.wlc.load_changed(index, servers);
        if let (Some(was), Some(server)) = (self.idle.get_mut(index), servers.get(index)) {
            self.idle_count = self.idle_count.saturating_sub(usize::from(*was));
            *was = is_idle(server);
            self.idle_count = self.idle_count.saturating_add(usize::from(*was));
        }
    }

    pub(crate) fn tick(&mut self, now: Tick) {
        self.clock.tell(now);
        self.cache.expire(self.clock.now, Tick::covering(IDLE), FORGOTTEN_PER_TICK);
    }

    /// Goes on with what another one has learned.
    pub(crate) fn take_over(&mut self, before: &mut Self) {
        core::mem::swap(&mut self.cache, &mut before.cache);
        self.clock = before.clock;
    }

    /// Whether a server has more established sessions than its weight while some server has less than
    /// half. Linux `is_overloaded` in `ip_vs_lblc.c`.
    pub(crate) fn is_too_busy(&self, server: &ServerLoad) -> bool {
        self.idle_count > 0 && server.active > u32::from(server.weight.0)
    }

    /// The least loaded server for its weight.
    pub(crate) fn least(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let at = self.wlc.pick(flow, servers)?;
        servers.get(at)?.is_available().then_some(at)
    }

    /// The present place of a server, if it is still there.
    pub(crate) fn place(&self, id: ServerId) -> Option<usize> {
        let found = self.places.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.places.get(found).map(|(_, at)| *at)
    }
}

fn is_idle(server: &ServerLoad) -> bool {
    u64::from(server.active).saturating_mul(2) < u64::from(server.weight.0)
}

/// How busy a server is for its weight.
pub(crate) fn cost(server: &ServerLoad) -> Cost {
    Cost { load: overhead(server), weight: server.weight.0 }
}
