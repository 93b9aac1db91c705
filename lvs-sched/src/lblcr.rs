//! Locality-based least connection with replication: a destination has a set of servers, which grows while
//! they are busy and shrinks again.
//!
//! Rules of Linux `net/netfilter/ipvs/ip_vs_lblcr.c`: of the set the server with the fewest sessions for
//! its weight is picked; when it is too busy (see [`lblc`](crate::lblc)) the least loaded server of all
//! joins the set; a set of several that did not change for [`SHRINK`] loses its most loaded server. What
//! differs: a set has at most [`MOST_SERVERS`], the most loaded one makes room; servers that were removed
//! leave their sets when the destination is met next; memory is bounded as in `lblc`.
//!
//! `tick` tells the time; without it nothing ages.

pub use crate::locality::{IDLE, MOST_DESTINATIONS};
use crate::locality::{Locality, cost};
use alloc::boxed::Box;
use core::any::Any;
use core::time::Duration;
use lvs_core::flow::WireTuple;
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};
use lvs_core::time::Tick;

/// Most servers of one destination.
pub const MOST_SERVERS: usize = 8;
/// A set that was not changed for so long loses a server. Linux `lblcr_expiration`.
pub const SHRINK: Duration = Duration::from_hours(24);

/// The servers of a destination, the newest first.
#[derive(Clone, Copy, Default)]
struct Set {
    members: [Option<ServerId>; MOST_SERVERS],
    /// When it changed last.
    changed: u32,
}

impl Set {
    fn members(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.members.iter().flatten().copied()
    }

    /// Keeps some, in order; whether any left.
    fn retain(&mut self, keep: impl Fn(ServerId) -> bool) -> bool {
        let before = *self;
        self.members = Default::default();
        let kept = before.members().filter(|id| keep(*id));
        for (place, id) in self.members.iter_mut().zip(kept) {
            *place = Some(id);
        }
        self.members != before.members
    }

    /// Puts one in front; there must be room.
    fn join(&mut self, id: ServerId, now: u32) {
        self.members.rotate_right(1);
        if let Some(first) = self.members.first_mut() {
            *first = Some(id);
        }
        self.changed = now;
    }

    fn is_full(&self) -> bool {
        self.members.iter().all(Option::is_some)
    }
}

struct LocalityReplicated(Locality<Set>);

impl LocalityReplicated {
    /// The members of a set that have a place, newest first.
    fn present<'a>(
        &'a self,
        set: &'a Set,
        servers: &'a [ServerLoad],
    ) -> impl Iterator<Item = (usize, &'a ServerLoad)> + 'a {
        let place = |id: ServerId| {
            self.0.place(id).filter(|at| servers.get(*at).is_some_and(|s| s.id == id))
        };
        set.members().filter_map(place).filter_map(|at| Some((at, servers.get(at)?)))
    }

    /// The least loaded that may be used; of equals the newest. Linux `ip_vs_dest_set_min`.
    fn least(&self, set: &Set, servers: &[ServerLoad]) -> Option<usize> {
        let usable = self.present(set, servers).filter(|(_, server)| server.is_available());
        let better =
            |a: (usize, &ServerLoad), b: (usize, &ServerLoad)| cost(b.1).is_less_than(cost(a.1));
        let least = usable.reduce(|a, b| if better(a, b) { (b.0, b.1) } else { (a.0, a.1) });
        least.map(|(at, _)| at)
    }

    /// The most loaded that has a weight; of equals the newest. Linux `ip_vs_dest_set_max`.
    fn most(&self, set: &Set, servers: &[ServerLoad]) -> Option<ServerId> {
        let weighty = self.present(set, servers).filter(|(_, server)| server.weight.0 > 0);
        let more = |a: &ServerLoad, b: &ServerLoad| cost(a).is_less_than(cost(b));
        let most = weighty.reduce(|a, b| if more(a.1, b.1) { b } else { a });
        most.map(|(_, server)| server.id)
    }

    /// Drops the most loaded server, or the oldest when none has a weight.
    fn shrink(&self, set: &mut Set, servers: &[ServerLoad], now: u32) {
        if let Some(gone) = self.most(set, servers).or_else(|| set.members().last()) {
            set.retain(|id| id != gone);
            set.changed = now;
        }
    }

    fn pick_of(
        &mut self,
        set: &mut Set,
        flow: &WireTuple,
        servers: &[ServerLoad],
    ) -> Option<usize> {
        let now = self.0.clock.now;
        set.retain(|id| self.0.place(id).is_some());
        let least = self.least(set, servers);
        if set.members().nth(1).is_some() && now.wrapping_sub(set.changed) > Tick::covering(SHRINK)
        {
            self.shrink(set, servers, now);
        }
        if let Some(at) = least
            && servers.get(at).is_some_and(|server| !self.0.is_too_busy(server))
        {
            return Some(at);
        }
        let at = self.0.least(flow, servers)?;
        let id = servers.get(at)?.id;
        if !set.members().any(|member| member == id) {
            if set.is_full() {
                self.shrink(set, servers, now);
            }
            set.join(id, now);
        }
        Some(at)
    }
}

impl Scheduler for LocalityReplicated {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.0.rebuild(servers);
    }

    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let now = self.0.clock.now;
        let known = self.0.cache.used(flow.dst(), now).copied();
        let mut set = known.unwrap_or(Set { changed: now, ..Set::default() });
        let at = self.pick_of(&mut set, flow, servers);
        match self.0.cache.used(flow.dst(), now) {
            Some(known) => *known = set,
            None if at.is_some() => self.0.cache.enter(flow.dst(), now, set),
            None => {}
        }
        at
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
    Box::new(LocalityReplicated(Locality::new(args, destinations)))
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    with_room(args, MOST_DESTINATIONS)
}

/// Locality-based least connection with replication.
#[doc(alias = "ip_vs_lblcr")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "lblcr",
    summary: "as lblc, and a busy destination gets several servers",
    build,
};
