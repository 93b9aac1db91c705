//! Sessions: every tracked flow of one worker, found from either side.
//!
//! ```text
//!   C:cp ─► V:vp ──keyed hash──► directory ──┐
//!                                            ├──► hot line (64 B) ┄ same slot ┄ cold record (64 B)
//!   S:sp ─► L:lp ──port plan (arithmetic)────┘
//! ```
//!
//! The reply of a FullNAT session needs no hash: its local port *is* the slot ([`crate::plan`]). A NAT
//! session has no local port, so its reply tuple is a second key in the directory. A NAT64 session is one of the
//! IPv6 table without a local port of its own; it has one lent from a slot of the IPv4 table.
//!
//! # Contract
//! - Memory is lent by the caller and its size is known beforehand ([`SessionStore::memory_for`]);
//!   nothing is allocated, nothing grows, and a full store is an ordinary answer ([`OpenError`]).
//! - Every walk is bounded.
//! - No reference into the store leaves a call: sessions come out as copies.
//! - A [`SessionId`] kept too long reaches nothing. A [`Candidate`] is only a hint: each use compares
//!   the key in the session's line again.
//! - Both keys enter together and leave together.
//! - No two live sessions share (local address, local port, server address, server port, protocol).
//! - Nothing expires early. Time-outs up to 10 s are exact to two ticks (0.14 s), longer ones are at
//!   most 4 s late while [`SessionStore::next_expired`] is called with enough budget.

mod directory;
mod ending;
mod expiry;
mod fast;
mod free;
mod fresh;
#[cfg(feature = "alloc")]
mod heap;
mod layout;
mod lists;
mod nat64;
mod opening;
mod table;
pub mod tcp;
mod types;

pub use directory::Hint;
pub use fast::Plain;
pub use fresh::{OpenV4, OpenedV4, ReservedV4};
#[cfg(feature = "alloc")]
pub use heap::HeapMemory;
pub use layout::Quad;
pub use tcp::TcpState;
pub use types::*;

use crate::flow::WireTuple;
use crate::id::{LocalId, SessionId};
use crate::io::RxHash;
use crate::plan::{PortPlan, Whole};
use crate::time::{Tick, Time};
use crate::timeouts::TimeoutTicks;
use core::net::IpAddr;
use layout::{LineV4, LineV6, mapped};
use table::Table;

/// Alignment that the lent memory needs, in bytes.
pub const MEMORY_ALIGN: usize = 128;
/// Most time-out classes.
pub const MAX_CLASSES: usize = lists::CLASSES;

/// All sessions of one worker.
pub struct SessionStore<'m, P = Whole> {
    v4: Table<'m, LineV4>,
    v6: Table<'m, LineV6>,
    config: StoreConfig,
    plan: P,
    classes: [TimeoutTicks; MAX_CLASSES],
    used_classes: usize,
    /// Which family the last call of `next_expired` served first; the other one is next.
    v6_first: bool,
}

impl<'m, P: PortPlan> SessionStore<'m, P> {
    /// Bytes of memory that a store of this size takes, exactly; `None` when it is too large.
    #[must_use]
    pub fn memory_for(config: &StoreConfig, plan: &P) -> Option<usize> {
        table::memory_for::<LineV4>(&config.v4, plan.slots())?.checked_add(table::memory_for::<
            LineV6,
        >(
            &config.v6,
            plan.slots(),
        )?)
    }

    /// Formats `memory`; whatever it held is forgotten.
    ///
    /// # Errors
    /// [`StoreError`] when the memory is too small or not aligned, or the size impossible.
    pub fn new(config: StoreConfig, plan: P, memory: &'m mut [u8]) -> Result<Self, StoreError> {
        let needed = Self::memory_for(&config, &plan).ok_or(StoreError::TooLarge)?;
        let short = StoreError::Memory { needed };
        let slots = plan.slots();
        let (v4, rest) =
            Table::new(&config.v4, slots, &config.key, config.seed, memory).ok_or(short)?;
        let (v6, _) = Table::new(&config.v6, slots, &config.key, config.seed, rest).ok_or(short)?;
        Ok(Self {
            v4,
            v6,
            config,
            plan,
            classes: [TimeoutTicks::default(); MAX_CLASSES],
            used_classes: 1,
            v6_first: true,
        })
    }

    /// The port plan.
    pub const fn plan(&self) -> &P {
        &self.plan
    }

    /// Replaces the time-outs of all classes; live sessions follow at once. Classes beyond
    /// [`MAX_CLASSES`] are ignored, and a session of an unknown class counts as class 0. A session whose
    /// time-out becomes short by this may expire late by as much as one with a long time-out, until its
    /// state changes.
    pub fn set_timeouts(&mut self, classes: &[TimeoutTicks]) {
        let (before, used_before) = (self.classes, self.used_classes);
        let before = before.get(..used_before).unwrap_or_default();
        for (place, class) in self.classes.iter_mut().zip(classes) {
            *place = *class;
        }
        self.used_classes = classes.len().clamp(1, MAX_CLASSES);
        let used = self.classes.get(..self.used_classes).unwrap_or_default();
        self.v4.set_classes(before, used);
        self.v6.set_classes(before, used);
    }

    /// Whether a candidate is the session of this tuple.
    #[must_use]
    pub fn is_at(&self, candidate: Candidate, tuple: &WireTuple) -> bool {
        match (tuple, candidate.v6) {
            (WireTuple::V4(tuple), false) => self.v4.is_at(candidate, tuple),
            (tuple, true) => self.v6.is_at(candidate, &mapped(*tuple)),
            _ => false,
        }
    }

    /// Looks up one packet.
    #[must_use]
    pub fn lookup_one(&self, probe: &Probe) -> Option<Candidate> {
        if let Some(local) = probe.local {
            return self.direct(local, self.plan.slot_of(&probe.tuple)?, &probe.tuple);
        }
        match &probe.tuple {
            WireTuple::V4(tuple) => self.v4.find(tuple),
            WireTuple::V6(tuple) => self.v6.find(tuple),
        }
    }

    /// Looks up one packet with the hash that the device computed of it. A wrong hash costs time and changes
    /// nothing: the answer is that of [`lookup_one`](Self::lookup_one).
    #[must_use]
    pub fn lookup_hashed(&self, probe: &Probe, hash: Option<RxHash>) -> Option<Candidate> {
        let Probe { tuple, local } = probe;
        let by_hash = hash.zip(*local).and_then(|(hash, local)| {
            let within = self.plan.slot_of_hashed(tuple, hash)?;
            self.direct(local, within, tuple)
        });
        by_hash.or_else(|| self.lookup_one(probe))
    }

    /// The session of a reply to a local address, if it is in this slot.
    fn direct(&self, local: LocalId, within: u32, tuple: &WireTuple) -> Option<Candidate> {
        match tuple {
            WireTuple::V4(tuple) => {
                let own = self.v4.direct(local.0, within, tuple);
                own.or_else(|| self.borrower(local, within, tuple))
            }
            WireTuple::V6(tuple) => self.v6.direct(local.0, within, tuple),
        }
    }

    /// [`lookup_hashed`](Self::lookup_hashed) for a packet that opens a session when it has none.
    ///
    /// # Errors
    /// [`Missed`], for [`open_with`](Self::open_with).
    pub fn lookup_or_missed(
        &self,
        probe: &Probe,
        hash: Option<RxHash>,
    ) -> Result<Candidate, Missed> {
        match &probe.tuple {
            _ if probe.local.is_some() => self.lookup_hashed(probe, hash).ok_or(Missed(None)),
            WireTuple::V4(tuple) => self.v4.find_or_missed(tuple),
            WireTuple::V6(tuple) => self.v6.find_or_missed(tuple),
        }
    }

    /// Takes one packet into its session: counts and stamps it, moves the TCP state, and tells how to
    /// translate it. `None` when the candidate is not, or no longer, this tuple's session; nothing
    /// changed then.
    pub fn packet(
        &mut self,
        candidate: Candidate,
        tuple: &WireTuple,
        now: Tick,
        segment: Segment,
    ) -> Option<Flow> {
        let classes = self.classes.get(..self.used_classes).unwrap_or_default();
        match (tuple, candidate.v6) {
            (WireTuple::V4(tuple), false) => {
                self.v4.packet(candidate, tuple, now, segment, classes)
            }
            (tuple, true) => self.v6.packet(candidate, &mapped(*tuple), now, segment, classes),
            _ => None,
        }
    }

    /// What [`packet`](Self::packet) would answer, without counting, stamping or moving anything: to decide
    /// whether the packet can be forwarded at all before it changes its session.
    #[must_use]
    pub fn peek(&self, candidate: Candidate, tuple: &WireTuple, segment: Segment) -> Option<Flow> {
        match (tuple, candidate.v6) {
            (WireTuple::V4(tuple), false) => self.v4.peek(candidate, tuple, segment),
            (tuple, true) => self.v6.peek(candidate, &mapped(*tuple), segment),
            _ => None,
        }
    }

    /// Opens a session. `translate` is called once, when the local port is known and nothing can fail any
    /// more, and gives the numbers that translate its packets.
    ///
    /// # Errors
    /// [`OpenError`]; nothing changed, and `translate` was not called.
    pub fn open(
        &mut self,
        now: Tick,
        open: &Open<'_>,
        translate: impl FnOnce(&Reserved) -> Translation,
    ) -> Result<Opened, OpenError> {
        self.open_with(now, open, &First::default(), translate)
    }

    /// The same, with what the first packet tells, written at once.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        &mut self,
        now: Tick,
        open: &Open<'_>,
        first: &First,
        translate: impl FnOnce(&Reserved) -> Translation,
    ) -> Result<Opened, OpenError> {
        let classes = self.classes.get(..self.used_classes).unwrap_or_default();
        let v6 = |ip: IpAddr| ip.is_ipv6();
        let family = v6(open.quad.client.0);
        let sources: &[LocalSource] = match open.place {
            Place::Local { addresses, .. } => addresses,
            Place::General | Place::Elsewhere(_) => &[],
        };
        if open.quad.is_nat64() {
            return self.open_nat64(now, (open, first), translate);
        }
        if v6(open.quad.virt.0) != family
            || v6(open.quad.server.0) != family
            || sources.iter().any(|source| v6(source.ip) != family)
            || (sources.is_empty() && v6(open.quad.local.0) != family)
        {
            return Err(OpenError::Family);
        }
        if family {
            self.v6.open(now, (open, first), &self.plan, classes, translate)
        } else {
            self.v4.open(now, (open, first), &self.plan, classes, translate)
        }
    }

    /// Ends a session; its last state is returned. `None` when the handle is stale.
    pub fn close(&mut self, id: SessionId) -> Option<Session> {
        if id.v6 {
            let slot = self.v6.resolve(id)?;
            self.give_port_back(slot);
            self.v6.close(slot)
        } else {
            let slot = self.v4.resolve(id)?;
            self.v4.close(slot)
        }
    }

    /// The handle of the session in a candidate's slot. No key is compared here: to be asked only about a
    /// candidate that [`packet`](Self::packet) or a look-up has just confirmed, with no change in between.
    #[must_use]
    pub fn id_of(&self, candidate: Candidate) -> Option<SessionId> {
        if candidate.v6 { self.v6.live_id(candidate.slot) } else { self.v4.live_id(candidate.slot) }
    }

    /// A copy of a session. `None` when the handle is stale.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<Session> {
        if id.v6 {
            self.v6.session(self.v6.resolve(id)?)
        } else {
            self.v4.session(self.v4.resolve(id)?)
        }
    }

    /// What unusual segments need to know. `None` when the handle is stale.
    #[must_use]
    pub fn detail(&self, id: SessionId) -> Option<Detail> {
        if id.v6 {
            self.v6.detail(self.v6.resolve(id)?)
        } else {
            self.v4.detail(self.v4.resolve(id)?)
        }
    }

    /// Writes what [`detail`](Self::detail) gave back, changed. A stale handle changes nothing.
    pub fn set_detail(&mut self, id: SessionId, detail: &Detail) {
        if id.v6 {
            if let Some(slot) = self.v6.resolve(id) {
                self.v6.set_detail(slot, detail);
            }
        } else if let Some(slot) = self.v4.resolve(id) {
            self.v4.set_detail(slot, detail);
        }
    }

    /// The next session whose time-out has passed; the caller closes it. `budget` is the number of
    /// places that may be looked at and is counted down; `None` when it is used up or nothing is due.
    pub fn next_expired(&mut self, now: Tick, budget: &mut u32) -> Option<SessionId> {
        let classes = self.classes.get(..self.used_classes).unwrap_or_default();
        // The families take turns at being first, so that neither starves on small budgets.
        self.v6_first = !self.v6_first;
        for v6 in [self.v6_first, !self.v6_first] {
            let due = if v6 {
                self.v6.next_expired(now, classes, budget).and_then(|slot| self.v6.session(slot))
            } else {
                self.v4.next_expired(now, classes, budget).and_then(|slot| self.v4.session(slot))
            };
            if let Some(session) = due {
                return Some(session.id);
            }
        }
        None
    }

    /// When [`next_expired`](Self::next_expired) is worth calling next; `None` while there is no session.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        self.v4.next_deadline(now).into_iter().chain(self.v6.next_deadline(now)).min()
    }

    /// Live sessions.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.v4.live().saturating_add(self.v6.live())
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots of both families.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.v4.capacity().saturating_add(self.v6.capacity())
    }

    /// Local ports that are taken.
    #[must_use]
    pub fn ports_in_use(&self) -> u64 {
        let slots = self.plan.slots();
        let v4 = self.v4.ports_in_use(self.config.v4.local_addresses, slots);
        let v6 = self.v6.ports_in_use(self.config.v6.local_addresses, slots);
        v4.saturating_add(v6)
    }

    /// Shows up to `most` slots' sessions to `each`, from `cursor` (at first `Some(Cursor::default())`), and
    /// returns where to go on. Sessions that open or close meanwhile may be missed or seen.
    pub fn scan(&self, cursor: Cursor, most: u32, each: impl FnMut(&Session)) -> Option<Cursor> {
        if cursor.v6 {
            return self.v6.scan(cursor.slot, most, each).map(|slot| Cursor { v6: true, slot });
        }
        let next = self.v4.scan(cursor.slot, most, each);
        Some(next.map_or(Cursor { v6: true, slot: 0 }, |slot| Cursor { v6: false, slot }))
    }
}
