//! The director itself: its state, and what drives it.

use crate::drain::Drains;
use crate::expiry::Asking;
use crate::fragments::{FragmentConfig, Pieces, Ports};
use crate::generation::Generation;
use crate::neighbour::{HopInfo, Neighbours, Poll};
use crate::outputs::Outputs;
use crate::oversize::{Bucket, ErrorRate};
use crate::workers::Peers;
use alloc::sync::Arc;
use core::fmt;
use lvs_core::addr::MacAddr;
use lvs_core::counters::Counters;
use lvs_core::event::{Closed, Event, EventRing};
use lvs_core::id::{ServerId, ServiceId, SessionId};
use lvs_core::io::{Burst, Lane, PacketBuf, PortId};
use lvs_core::plan::{PortPlan, Whole};
use lvs_core::session::{Cursor, MAX_CLASSES, Session, SessionStore};
use lvs_core::shared::{Shared, SharedConfig};
use lvs_core::snapshot::Snapshot;
use lvs_core::time::{Tick, Time};
use lvs_core::timeouts::TimeoutTicks;
use lvs_core::verdict::{DropReason, Verdict};

/// Sizes and secrets of a director.
#[derive(Clone, Copy)]
pub struct DirectorConfig {
    /// Next hops it can know: servers and gateways, and clients in its own subnets.
    pub hops: u16,
    /// Packets that may wait for neighbours, 2 KiB each.
    pub waiting: u16,
    /// Secret of the initial sequence numbers; random at each start.
    pub isn_key: [u64; 2],
    /// How many ICMP errors it makes.
    pub errors: ErrorRate,
    /// How many resets it sends to those who speak of connections that it does not know; none by default.
    pub strays: ErrorRate,
    /// Places for datagrams in pieces.
    pub fragments: FragmentConfig,
    /// What the only worker would share with others ([`Director::new`]); ignored by [`Director::sharing`].
    pub shared: SharedConfig,
    /// Sessions from which on full bursts stay under way while the next ones are looked at. With fewer, the
    /// memory of sessions stays in the caches, and waiting only drives packets out of them.
    pub in_flight_from: u32,
}

impl Default for DirectorConfig {
    /// 4096 next hops, 256 waiting packets, and keys that anybody can guess: good for tests only.
    fn default() -> Self {
        Self {
            hops: 4096,
            waiting: 256,
            isn_key: [0, 0],
            errors: ErrorRate::default(),
            strays: ErrorRate::NONE,
            fragments: FragmentConfig::default(),
            shared: SharedConfig::default(),
            in_flight_from: 1 << 17,
        }
    }
}

impl fmt::Debug for DirectorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectorConfig")
            .field("hops", &self.hops)
            .field("waiting", &self.waiting)
            .field("errors", &self.errors)
            .field("strays", &self.strays)
            .field("fragments", &self.fragments)
            .field("shared", &self.shared)
            .field("in_flight_from", &self.in_flight_from)
            .finish_non_exhaustive()
    }
}

/// What became of one packet, and what it belonged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its fate.
    pub verdict: Verdict,
    /// The session that it belonged to or opened.
    pub session: Option<SessionId>,
    /// The service.
    pub service: Option<ServiceId>,
    /// The server.
    pub server: Option<ServerId>,
}

impl From<Verdict> for Report {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, session: None, service: None, server: None }
    }
}

impl From<DropReason> for Report {
    fn from(reason: DropReason) -> Self {
        Verdict::Drop(reason).into()
    }
}

/// Events kept until somebody reads them.
pub(crate) const EVENTS: usize = 256;
/// Neighbour entries looked at per tick.
const NEIGHBOURS_PER_TICK: usize = 64;
/// Sessions whose way is looked up again per tick, after the routes changed.
const REROUTED_PER_TICK: usize = 32;

/// One worker's balancer.
#[doc(alias = "ip_vs")]
pub struct Director<'m, P = Whole> {
    pub(crate) generation: Generation,
    pub(crate) store: SessionStore<'m, P>,
    pub(crate) neighbours: Neighbours,
    pub(crate) counters: Counters,
    pub(crate) events: EventRing<EVENTS>,
    pub(crate) isn_key: [u64; 2],
    pub(crate) in_flight_from: u32,
    pub(crate) short_way: u64,
    pub(crate) complaints: Bucket,
    pub(crate) resets: Bucket,
    pub(crate) asking: Asking,
    /// Identification of the newest outer header.
    pub(crate) ip_id: u16,
    pub(crate) peers: Option<Peers>,
    /// How often the packet at hand was handed over from worker to worker.
    pub(crate) passes: u8,
    /// What another worker told of the fragment at hand.
    pub(crate) ports_told: Option<Ports>,
    pub(crate) pieces: Pieces,
    pub(crate) shared: Arc<Shared>,
    pub(crate) drains: Drains,
    swept: Tick,
    /// Counts changes of what bursts under way have read: the configuration.
    pub(crate) epoch: u64,
    reroute: Option<Cursor>,
}

impl<'m, P: PortPlan> Director<'m, P> {
    /// The only worker, with an empty store and its first configuration.
    #[must_use]
    pub fn new(config: DirectorConfig, store: SessionStore<'m, P>, generation: Generation) -> Self {
        let shared = Arc::new(Shared::new(&config.shared));
        Self::sharing(config, store, generation, shared)
    }

    /// One of several workers, with an empty store and its first configuration. What they share outlives each of
    /// them; a worker that goes has to close its sessions first, or they stay counted.
    #[must_use]
    pub fn sharing(
        config: DirectorConfig,
        store: SessionStore<'m, P>,
        generation: Generation,
        shared: Arc<Shared>,
    ) -> Self {
        let mut director = Self {
            generation,
            store,
            neighbours: Neighbours::new(config.hops, config.waiting),
            counters: Counters::default(),
            events: EventRing::default(),
            isn_key: config.isn_key,
            in_flight_from: config.in_flight_from,
            short_way: 0,
            complaints: Bucket::new(config.errors),
            resets: Bucket::new(config.strays),
            asking: Asking::default(),
            ip_id: 0,
            peers: None,
            passes: 0,
            ports_told: None,
            pieces: Pieces::new(&config.fragments, config.isn_key),
            shared,
            drains: Drains::default(),
            swept: Tick::default(),
            epoch: 0,
            reroute: None,
        };
        director.generation.refresh_all(&director.shared);
        director.settle();
        director
    }

    /// Replaces the configuration and returns the previous one, to be freed elsewhere. To be called
    /// between bursts. Sessions go on; those of removed servers until they end.
    pub fn install(&mut self, mut generation: Generation) -> Generation {
        generation.inherit(&mut self.generation, &self.shared);
        if let Some((errors, strays)) = generation.rates {
            self.complaints.change(errors);
            self.resets.change(strays);
        }
        let old = core::mem::replace(&mut self.generation, generation);
        self.epoch = self.epoch.wrapping_add(1);
        self.neighbours.unset_static();
        self.settle();
        self.reroute = (!self.store.is_empty()).then(Cursor::default);
        old
    }

    fn settle(&mut self) {
        self.drains = Drains::default();
        let snapshot = self.generation.snapshot();
        let mut ticks = [TimeoutTicks::default(); MAX_CLASSES];
        let used = snapshot.timeout_ticks(&mut ticks);
        self.store.set_timeouts(ticks.get(..used).unwrap_or_default());
        for neighbour in snapshot.neighbours() {
            if let Some(hop) = snapshot.route(neighbour.ip) {
                self.neighbours.set_static(&hop, neighbour.mac);
            }
        }
    }

    /// Takes a burst from `port` through the pipeline. What leaves is queued in `out`; the burst is empty
    /// afterwards.
    ///
    /// A full burst says that more is queued, so with many sessions it may stay under way inside `out` until later
    /// calls, while the memory that it needs is fetched; a burst that is not full, an empty one too, takes everything to
    /// the end. So a loop that polls its ports needs nothing else, and adds no latency while it keeps up.
    pub fn process<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        port: PortId,
        burst: &mut Burst<L::Buf>,
        out: &mut Outputs<L::Buf>,
    ) {
        self.process_burst(now, lane, port, burst, out);
    }

    /// Takes one packet through the pipeline and tells what became of it. Bytes, verdicts and counters are
    /// those of [`process`](Self::process), which is faster.
    pub fn process_one<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        port: PortId,
        packet: L::Buf,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        self.counters.received.add(packet.total_len() as u64);
        let report = self.admit(now, lane, port, packet, out);
        self.counters.count(report.verdict);
        report
    }

    /// Books a session out that the store has closed.
    pub(crate) fn closed(&mut self, now: Tick, session: &Session, why: Closed) {
        self.generation.moved(&self.shared, session.server, Some(session.state), None);
        self.let_go(now, session);
        self.neighbours.release(session.hop_in);
        self.neighbours.release(session.hop_out);
        let Session { id, server, told, .. } = *session;
        self.events.push(Event::SessionClosed { session: id, server, why, told });
    }

    /// Ends a session on demand, without a word to its ends. `None` when the handle is stale.
    pub fn purge(&mut self, id: SessionId) -> Option<Session> {
        let session = self.store.close(id)?;
        self.closed(session.last_seen, &session, Closed::Purged);
        Some(session)
    }

    /// Repeats questions to neighbours, gives up those that do not answer, after a new configuration
    /// leads sessions onto their new ways, and tells schedulers the time. To be called once per round.
    pub fn tick<L: Lane>(&mut self, now: Time, lane: &mut L, out: &mut Outputs<L::Buf>) {
        while let Some(poll) = self.neighbours.poll(now, NEIGHBOURS_PER_TICK) {
            match poll {
                Poll::Ask(question) => self.ask(lane, &question, out),
                Poll::Found(id, hop, mac) => self.resume(lane, id, hop.port, mac, out),
                Poll::Failed(hop) => {
                    while self.neighbours.resume(hop).is_some() {
                        self.counters.drop_one(DropReason::NeighbourFailed);
                    }
                    self.events.push(Event::NeighbourFailed { hop });
                    break;
                }
            }
        }
        self.reroute_some();
        self.generation.tick(now.tick());
        self.drain(now, lane, out);
        self.ask_expired(now, lane, out);
        if self.swept != now.tick() {
            self.swept = now.tick();
            self.forget_pieces(now.tick());
            // A minute for all places, whatever the number of workers.
            let share = self.shared.templates.places() / 900;
            self.shared
                .templates
                .sweep(now.tick(), u32::try_from(share).unwrap_or(u32::MAX).max(1));
        }
    }

    fn reroute_some(&mut self) {
        let Some(cursor) = self.reroute else { return };
        let mut some = [None; REROUTED_PER_TICK];
        let mut places = some.iter_mut();
        let most = u32::try_from(REROUTED_PER_TICK).unwrap_or(1);
        self.reroute = self.store.scan(cursor, most, |session| {
            if let Some(place) = places.next() {
                *place = Some(*session);
            }
        });
        for session in some.iter().flatten() {
            self.reroute_one(session);
        }
    }

    fn reroute_one(&mut self, session: &Session) {
        let snapshot = self.generation.snapshot();
        // Behind a tunnel the server may be of another family than its sessions.
        let server = snapshot.server(session.server).filter(|_| session.one_way.is_some());
        let server = server.map_or(session.quad.server.0, |server| server.addr.ip());
        // An end whose address is the director's by now cannot go on: its packets would count as spoofed.
        if [session.quad.client.0, server].iter().any(|ip| self.snapshot().role(ip).is_ours()) {
            self.purge(session.id);
            return;
        }
        let Some(mut detail) = self.store.detail(session.id) else { return };
        let snapshot = self.generation.snapshot();
        for (to, hop) in
            [(server, &mut detail.hop_in), (session.quad.client.0, &mut detail.hop_out)]
        {
            let Some(way) = snapshot.route(to) else { continue };
            if self.neighbours.hop(*hop) == Some(way) {
                continue;
            }
            if let Some(new) = self.neighbours.intern(&way) {
                self.neighbours.hold(new);
                self.neighbours.release(*hop);
                *hop = new;
            }
        }
        self.store.set_detail(session.id, &detail);
    }

    /// When the director wants to be called even if no packet comes: to expire sessions or to ask
    /// neighbours again.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let due = self.store.next_deadline(now);
        if self.drains.is_busy() || !self.asking.is_empty() { Some(now) } else { due }
    }

    /// What it shares with other workers.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The oldest event not read yet.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// Events lost because nobody read them in time.
    #[must_use]
    pub const fn events_lost(&self) -> u64 {
        self.events.lost()
    }

    /// Packets of bursts that took a short way: ordinary segments of plain sessions, and ordinary SYNs that opened
    /// one. They are counted in [`counters`](Self::counters) like all others.
    #[must_use]
    pub const fn short_way(&self) -> u64 {
        self.short_way
    }

    /// Its counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Its sessions.
    #[must_use]
    pub const fn store(&self) -> &SessionStore<'m, P> {
        &self.store
    }

    /// Its configuration and what its servers carry.
    #[must_use]
    pub const fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The next hops that it knows.
    pub fn hops(&self) -> impl Iterator<Item = HopInfo> {
        self.neighbours.iter()
    }

    /// Next hops that fit its table.
    #[must_use]
    pub fn hop_capacity(&self) -> usize {
        self.neighbours.capacity()
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.generation.snapshot()
    }

    /// The Ethernet address of a port.
    pub(crate) fn mac<L: Lane>(&self, lane: &L, port: PortId) -> MacAddr {
        mac_of(self.snapshot(), lane, port)
    }

    /// The largest IP packet of a port.
    pub(crate) fn mtu<L: Lane>(&self, lane: &L, port: PortId) -> u16 {
        mtu_of(self.snapshot(), lane, port)
    }
}

/// The Ethernet address of a port: as configured, else as the lane says.
pub(crate) fn mac_of<L: Lane>(snapshot: &Snapshot, lane: &L, port: PortId) -> MacAddr {
    let configured = snapshot.interface(port).and_then(|interface| interface.mac);
    configured.unwrap_or_else(|| lane.port_info(port).mac)
}

/// The largest IP packet of a port.
pub(crate) fn mtu_of<L: Lane>(snapshot: &Snapshot, lane: &L, port: PortId) -> u16 {
    let configured = snapshot.interface(port).and_then(|interface| interface.mtu);
    let actual = lane.port_info(port).mtu;
    configured.map_or(actual, |mtu| mtu.min(actual))
}

impl<P> fmt::Debug for Director<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Director")
            .field("generation", &self.generation)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
