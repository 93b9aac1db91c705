//! Things worth telling, declared once: read by tests, logs and metrics.
//!
//! Events wait in a ring of fixed size inside the director; when nobody reads them the oldest are
//! lost and counted, the packet path never waits.

use crate::flow::WireTuple;
use crate::id::{HopId, PoolId, ServerId, ServiceId, SessionId};
use crate::session::Told;

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A session was opened for the packet with this tuple.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Its service.
        service: ServiceId,
        /// The server chosen.
        server: ServerId,
        /// Client to service, as on the wire.
        inbound: WireTuple,
        /// Server to director or client, as on the wire.
        reply: WireTuple,
    },
    /// A session ended.
    SessionClosed {
        /// The session.
        session: SessionId,
        /// Its server.
        server: ServerId,
        /// Why.
        why: Closed,
        /// How its server was told who the client was.
        told: Told,
    },
    /// The session table has no free slot.
    SessionTableFull,
    /// No local address of the pool has a free port.
    NoPort {
        /// The pool.
        pool: PoolId,
    },
    /// No server of the service is available.
    NoServer {
        /// The service.
        service: ServiceId,
    },
    /// A client of the service stays without a persistence template: there is no room.
    TemplatesFull {
        /// The service.
        service: ServiceId,
    },
    /// A next hop does not answer.
    NeighbourFailed {
        /// The next hop.
        hop: HopId,
    },
    /// Another host claims one of the director's addresses.
    AddressConflict {
        /// The address.
        address: core::net::IpAddr,
        /// The other host.
        mac: crate::addr::MacAddr,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// Its time-out passed without a packet.
    Expired,
    /// Its client opened a new connection with the same port.
    Reused,
    /// Its server was removed.
    ServerGone,
    /// Its server is draining or down and the time for its sessions is over.
    Drained,
    /// The operator asked.
    Purged,
}

/// Ring of the newest `N` events.
#[derive(Debug)]
pub struct EventRing<const N: usize> {
    ring: [Option<Event>; N],
    next_read: usize,
    len: usize,
    lost: u64,
}

impl<const N: usize> Default for EventRing<N> {
    fn default() -> Self {
        Self { ring: [None; N], next_read: 0, len: 0, lost: 0 }
    }
}

impl<const N: usize> EventRing<N> {
    /// Adds one; the oldest gives way when the ring is full.
    pub fn push(&mut self, event: Event) {
        if N == 0 {
            return;
        }
        let at = self.next_read.wrapping_add(self.len) % N;
        if self.len == N {
            self.next_read = if self.next_read + 1 >= N { 0 } else { self.next_read + 1 };
            self.lost = self.lost.wrapping_add(1);
        } else {
            self.len += 1;
        }
        if let Some(place) = self.ring.get_mut(at) {
            *place = Some(event);
        }
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Event> {
        let event = self.ring.get_mut(self.next_read)?.take()?;
        self.next_read = if self.next_read + 1 >= N { 0 } else { self.next_read + 1 };
        self.len = self.len.saturating_sub(1);
        Some(event)
    }

    /// How many were lost because nobody read them in time.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_in_order_and_counts_the_lost() {
        let mut ring = EventRing::<3>::default();
        for n in 0..5 {
            ring.push(Event::NoPort { pool: PoolId(n) });
        }
        let left: std::vec::Vec<_> = core::iter::from_fn(|| ring.pop()).collect();
        assert_eq!(left, [2, 3, 4].map(|n| Event::NoPort { pool: PoolId(n) }));
        assert_eq!(ring.lost(), 2);
        ring.push(Event::SessionTableFull);
        assert_eq!(ring.pop(), Some(Event::SessionTableFull));
        assert_eq!(ring.pop(), None);
    }
}
