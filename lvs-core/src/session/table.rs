//! The sessions of one address family: directory, hot lines, cold records, free slots and expiry over
//! memory that the caller lends. The public face is [`super::SessionStore`].

use super::directory::{Bucket, Directory, buckets_for};
use super::free::{FreeSlots, Group, RingState};
use super::layout::{Cold, Line, Quad, Tail, bytes, flag, packets};
use super::lists::{CLASSES, KINDS, ListId, Lists};
use super::tcp::{self, TcpState};
use super::{
    Candidate, Detail, Flow, Open, OpenError, Opened, Place, Previous, Reserved, Segment, Session,
    TableConfig, Translation,
};
use crate::counters::Traffic;
use crate::flow::{Direction, L4Proto};
use crate::id::{HopId, ServerId, SessionId, TimeoutClass};
use crate::plan::PortPlan;
use crate::prefetch::prefetch;
use crate::siphash::SipHash13;
use crate::time::{Tick, Time};
use crate::timeouts::TimeoutTicks;
use core::mem::size_of;
use zerocopy::FromBytes;

/// The number of the UDP "state" behind the eleven of TCP.
const UDP_KIND: u8 = 11;
/// Time-outs up to this are kept in lists, exact to a tick; longer ones are found by the sweeper.
const SHORT: u32 = Tick::covering(core::time::Duration::from_secs(10));
/// The sweeper passes over the whole table in this many ticks: 4 s less the two ticks that counting
/// may add to a time-out.
const TURN: u32 = 57;

pub(super) struct Table<'m, L> {
    hash: SipHash13,
    directory: Directory<'m>,
    lines: &'m mut [L],
    cold: &'m mut [Cold],
    free: FreeSlots<'m>,
    lists: Lists,
    live: u32,
    sweep_at: usize,
    sweep_owed: u32,
    swept: Tick,
    /// Whether sessions may exist whose time-out became short while they were in no list.
    strays: bool,
    /// No session that the sweeper is responsible for has a shorter time-out, so a younger one needs no
    /// look at its class.
    shortest_swept: u32,
    /// The list at which a search for short time-outs goes on.
    short_at: usize,
    /// Which of lists and sweeper was served first by the last call; the other one is next.
    lists_first: bool,
}

/// Ticks since `last`; 0 when the clock went back, so that nothing expires early.
const fn idle(now: Tick, last: u32) -> u32 {
    let ticks = now.since(Tick(last));
    if ticks > u32::MAX / 2 { 0 } else { ticks }
}

/// How the memory of a table is divided.
#[derive(Clone, Copy)]
struct Parts {
    slots: usize,
    buckets: usize,
    rings: usize,
}

impl Parts {
    fn of(config: &TableConfig, per_local: u32) -> Option<Self> {
        let local = usize::from(config.local_addresses).checked_mul(per_local as usize)?;
        let general = config.general as usize;
        let slots = local.checked_add(general)?;
        // The highest bit of a directory entry is the direction.
        if slots >= 1 << 31 {
            return None;
        }
        let keys = local.checked_add(general.checked_mul(2)?)?;
        let buckets = if slots == 0 { 0 } else { buckets_for(keys) };
        Some(Self { slots, buckets, rings: usize::from(config.local_addresses).checked_add(1)? })
    }

    fn bytes<L>(&self) -> Option<usize> {
        let words = self.slots.checked_mul(4)?.checked_add(self.rings.checked_mul(8)?)?;
        self.slots
            .checked_mul(size_of::<L>().checked_add(size_of::<Cold>())?)?
            .checked_add(self.buckets.checked_mul(size_of::<Bucket>())?)?
            .checked_add(words.checked_next_multiple_of(128)?)?
            .checked_next_multiple_of(128)
    }
}

pub(super) fn memory_for<L>(config: &TableConfig, per_local: u32) -> Option<usize> {
    Parts::of(config, per_local)?.bytes::<L>()
}

impl<'m, L: Line> Table<'m, L> {
    /// Formats the front of `memory` and returns the rest; `None` when it is too small or not aligned
    /// to 128 bytes.
    pub(super) fn new(
        config: &TableConfig,
        per_local: u32,
        key: &[u64; 2],
        seed: u64,
        memory: &'m mut [u8],
    ) -> Option<(Self, &'m mut [u8])> {
        let parts = Parts::of(config, per_local)?;
        let (own, rest) = memory.split_at_mut_checked(parts.bytes::<L>()?)?;
        let (lines, own) = <[L]>::mut_from_prefix_with_elems(own, parts.slots).ok()?;
        let (cold, own) = <[Cold]>::mut_from_prefix_with_elems(own, parts.slots).ok()?;
        let (buckets, own) = <[Bucket]>::mut_from_prefix_with_elems(own, parts.buckets).ok()?;
        let (rings, own) = <[RingState]>::mut_from_prefix_with_elems(own, parts.rings).ok()?;
        let (cells, _) = <[u32]>::mut_from_prefix_with_elems(own, parts.slots).ok()?;
        lines.fill(L::default());
        cold.fill(Cold::default());
        let table = Self {
            hash: SipHash13::new(key),
            directory: Directory::new(buckets),
            lines,
            cold,
            free: FreeSlots::new(cells, rings, config.local_addresses, per_local, seed),
            lists: Lists::new(),
            live: 0,
            sweep_at: 0,
            sweep_owed: 0,
            swept: Tick(0),
            strays: false,
            shortest_swept: SHORT,
            short_at: 0,
            lists_first: false,
        };
        Some((table, rest))
    }

    pub(super) fn live(&self) -> u32 {
        self.live
    }

    pub(super) fn capacity(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn ports_in_use(&self, locals: u16, per_local: u32) -> u64 {
        (0..locals)
            .map(|local| u64::from(per_local.saturating_sub(self.free.len(Group::Local(local)))))
            .sum()
    }

    fn is_live(&self, slot: u32) -> Option<&L> {
        self.lines.get(slot as usize).filter(|line| line.tail().has(flag::LIVE))
    }

    fn id(&self, slot: u32) -> SessionId {
        let generation = self.cold.get(slot as usize).map_or(0, |cold| cold.generation);
        SessionId { v6: L::V6, slot, generation }
    }

    /// The handle of the session in a slot, if there is one.
    pub(super) fn live_id(&self, slot: u32) -> Option<SessionId> {
        self.is_live(slot).map(|_| self.id(slot))
    }

    /// The slot of a handle, if its session still lives.
    pub(super) fn resolve(&self, id: SessionId) -> Option<u32> {
        self.is_live(id.slot)?;
        (self.id(id.slot) == id).then_some(id.slot)
    }

    /// Where a packet with this tuple belongs, from the directory.
    pub(super) fn find(&self, tuple: &L::Tuple) -> Option<Candidate> {
        let hash = L::hash(&self.hash, tuple);
        let (slot, direction) = self.directory.find(hash, |slot, direction| {
            self.lines.get(slot as usize).is_some_and(|line| line.matches(direction, tuple))
        })?;
        Some(Candidate { v6: L::V6, slot, direction })
    }

    /// Whether a candidate is the session of this tuple.
    pub(super) fn is_at(&self, candidate: Candidate, tuple: &L::Tuple) -> bool {
        let line = self.lines.get(candidate.slot as usize);
        line.is_some_and(|line| line.matches(candidate.direction, tuple))
    }

    /// The hash of a tuple; its bucket is on its way.
    pub(super) fn begin(&self, tuple: &L::Tuple) -> u64 {
        let hash = L::hash(&self.hash, tuple);
        self.directory.prefetch(hash);
        hash
    }

    /// Where a key with this hash probably is; its line is on its way.
    pub(super) fn guess(&self, hash: u64) -> Option<Candidate> {
        let (slot, direction) = self.directory.guess(hash)?;
        self.prefetch(slot);
        Some(Candidate { v6: L::V6, slot, direction })
    }

    /// The slot that the port plan names; its line is on its way.
    pub(super) fn begin_direct(&self, local: u16, within: u32) -> Option<Candidate> {
        let slot = self.free.base(Group::Local(local)).checked_add(within)?;
        self.prefetch(slot);
        Some(Candidate { v6: L::V6, slot, direction: Direction::Return })
    }

    fn prefetch(&self, slot: u32) {
        if let Some(line) = self.lines.get(slot as usize) {
            prefetch(line);
        }
    }

    /// Where a reply belongs, from the port plan.
    pub(super) fn direct(&self, local: u16, within: u32, tuple: &L::Tuple) -> Option<Candidate> {
        let slot = self.free.base(Group::Local(local)).checked_add(within)?;
        let line = self.lines.get(slot as usize)?;
        line.matches(Direction::Return, tuple).then_some(Candidate {
            v6: L::V6,
            slot,
            direction: Direction::Return,
        })
    }

    /// Counts and stamps a packet, moves the state, and tells how to translate it.
    pub(super) fn packet(
        &mut self,
        candidate: Candidate,
        tuple: &L::Tuple,
        now: Tick,
        segment: Segment,
        classes: &[TimeoutTicks],
    ) -> Option<Flow> {
        let slot = candidate.slot as usize;
        let line = self.lines.get_mut(slot)?;
        if !line.matches(candidate.direction, tuple) {
            return None;
        }
        let tail = line.tail_mut();
        let before = TcpState::from_number(tail.state_number());
        let after = match segment.tcp_flags {
            Some(flags) => tcp::next(before, candidate.direction.into(), flags),
            None => before,
        };
        tail.last_seen = now.0;
        let harvest = tail.carry(candidate.direction, segment.bytes);
        let settle = tail.has(flag::LISTED) || before != after;
        let first_answer = candidate.direction == Direction::Return && !tail.has(flag::ANSWERED);
        if first_answer {
            tail.flags |= flag::ANSWERED;
        }
        if settle {
            self.relist(candidate.slot, after, classes);
        }
        if harvest {
            self.harvest(candidate.slot);
        }
        let flow = self.flow(candidate)?;
        Some(Flow { before, after, first_answer, ..flow })
    }

    /// What [`packet`](Self::packet) would tell, without counting, stamping or moving anything.
    pub(super) fn peek(
        &self,
        candidate: Candidate,
        tuple: &L::Tuple,
        segment: Segment,
    ) -> Option<Flow> {
        let line = self.lines.get(candidate.slot as usize)?;
        if !line.matches(candidate.direction, tuple) {
            return None;
        }
        let flow = self.flow(candidate)?;
        let after = segment
            .tcp_flags
            .map_or(flow.before, |flags| tcp::next(flow.before, candidate.direction.into(), flags));
        Some(Flow { after, ..flow })
    }

    fn flow(&self, candidate: Candidate) -> Option<Flow> {
        let line = self.lines.get(candidate.slot as usize)?;
        let tail = line.tail();
        let state = TcpState::from_number(tail.state_number());
        Some(Flow {
            candidate,
            quad: line.quad(),
            before: state,
            after: state,
            plain: tail.has(flag::PLAIN),
            first_answer: candidate.direction == Direction::Return && !tail.has(flag::ANSWERED),
            translation: translation_of(tail),
            server: ServerId(tail.server),
            hop: HopId(match candidate.direction {
                Direction::Inbound => tail.hop_in,
                Direction::Return => tail.hop_out,
            }),
        })
    }

    pub(super) fn line(&self, slot: u32) -> Option<&L> {
        self.lines.get(slot as usize)
    }

    pub(super) fn line_mut(&mut self, slot: u32) -> Option<&mut L> {
        self.lines.get_mut(slot as usize)
    }

    pub(super) fn harvest(&mut self, slot: u32) {
        if let (Some(line), Some(cold)) =
            (self.lines.get_mut(slot as usize), self.cold.get_mut(slot as usize))
        {
            cold.harvest(line.tail_mut());
        }
    }

    fn kind_of(tail: &Tail) -> u8 {
        match tail.proto() {
            L4Proto::Tcp => tail.state_number(),
            L4Proto::Udp => UDP_KIND,
        }
    }

    fn timeout(classes: &[TimeoutTicks], class: u8, kind: u8) -> u32 {
        let class = classes.get(usize::from(class)).or_else(|| classes.first());
        class.map_or(SHORT, |ticks| {
            if kind == UDP_KIND {
                ticks.udp
            } else {
                ticks.tcp.get(usize::from(kind)).copied().unwrap_or(SHORT)
            }
        })
    }

    /// Writes the state and puts the session at the end of the list that it now belongs to, if any.
    fn relist(&mut self, slot: u32, state: TcpState, classes: &[TimeoutTicks]) {
        let (Some(line), Some(cold)) =
            (self.lines.get_mut(slot as usize), self.cold.get(slot as usize))
        else {
            return;
        };
        let class = cold.class;
        let tail = line.tail_mut();
        let was = ListId { class, kind: Self::kind_of(tail) };
        let listed = tail.has(flag::LISTED);
        tail.set_state_number(state.index() as u8);
        let is = ListId { class, kind: Self::kind_of(tail) };
        let short = Self::timeout(classes, class, is.kind) <= SHORT;
        tail.flags = if short { tail.flags | flag::LISTED } else { tail.flags & !flag::LISTED };
        if listed {
            self.lists.unlink(was, slot, self.cold);
        }
        if short {
            self.lists.append(is, slot, self.cold);
        }
    }

    /// Time-outs changed. Sessions in lists stay there. The sweeper keeps those that it has, until their
    /// state changes, even if their time-out is short now: appended to a list they would break its order.
    pub(super) fn set_classes(&mut self, before: &[TimeoutTicks], after: &[TimeoutTicks]) {
        let mut kinds = (0..CLASSES as u8).flat_map(|c| (0..KINDS as u8).map(move |k| (c, k)));
        let shortened = |(class, kind): (u8, u8)| {
            Self::timeout(before, class, kind) > SHORT && Self::timeout(after, class, kind) <= SHORT
        };
        self.strays = self.live > 0 && (self.strays || kinds.any(shortened));
        self.shortest_swept = after
            .iter()
            .flat_map(|ticks| ticks.tcp.iter().chain([&ticks.udp]))
            .copied()
            .filter(|ticks| self.strays || *ticks > SHORT)
            .min()
            .unwrap_or(SHORT);
    }

    pub(super) fn open(
        &mut self,
        now: Tick,
        open: &Open<'_>,
        plan: &impl PortPlan,
        classes: &[TimeoutTicks],
        translate: impl FnOnce(&Reserved) -> Translation,
    ) -> Result<Opened, OpenError> {
        let mut quad = open.quad;
        let slot = self.reserve(open, plan, &mut quad)?;
        let line = line_of::<L>(now, open, &quad).ok_or(OpenError::Family);
        let line = line.and_then(|line| self.publish(slot, &line).map(|()| line));
        let mut line = line.inspect_err(|_| self.free.unpop(slot))?;
        // Nothing fails from here on.
        let reserved = Reserved { quad, previous: self.previous(slot) };
        set_translation(line.tail_mut(), translate(&reserved));
        self.write(slot, line, now, open.class);
        self.live = self.live.wrapping_add(1);
        self.relist(slot, open.state, classes);
        Ok(Opened { id: self.id(slot), quad })
    }

    /// Takes a slot, and with it a local port.
    fn reserve(
        &mut self,
        open: &Open<'_>,
        plan: &impl PortPlan,
        quad: &mut Quad,
    ) -> Result<u32, OpenError> {
        let Place::Local { addresses, first } = open.place else {
            return self.free.pop(Group::General).ok_or(OpenError::Full);
        };
        let server = crate::addr::RealAddr::new(quad.server.0, quad.server.1);
        let order = addresses.iter().skip(first).chain(addresses.iter().take(first));
        for address in order {
            let group = Group::Local(address.id.0);
            // A plan may have no port for this server in a slot; the next slots are tried in turn.
            for _ in 0..8 {
                let Some(slot) = self.free.pop(group) else { break };
                let within = slot.wrapping_sub(self.free.base(group));
                if let Some(port) = plan.port_for(within, address.ip, &server) {
                    quad.local = (address.ip, port);
                    return Ok(slot);
                }
                self.free.push(slot);
            }
        }
        Err(OpenError::NoPort)
    }

    /// The last session of the slot: its record is still there.
    fn previous(&self, slot: u32) -> Option<Previous> {
        let cold = self.cold.get(slot as usize)?;
        if cold.generation == 0 {
            return None;
        }
        let server = self.lines.get(slot as usize)?.quad().server;
        Some(Previous {
            server: crate::addr::RealAddr::new(server.0, server.1),
            next_seq: cold.server_ack,
        })
    }

    fn write(&mut self, slot: u32, line: L, now: Tick, class: TimeoutClass) {
        let (Some(place), Some(cold)) =
            (self.lines.get_mut(slot as usize), self.cold.get_mut(slot as usize))
        else {
            return;
        };
        *place = line;
        *cold = Cold {
            generation: cold.generation,
            opened: now.0,
            // There is a list for each class that is known, and none for others.
            class: if usize::from(class.0) < CLASSES { class.0 } else { 0 },
            ..Cold::default()
        };
    }

    /// Enters the keys of a line that is to be written: all or none.
    fn publish(&mut self, slot: u32, line: &L) -> Result<(), OpenError> {
        let inbound = line.tuple(Direction::Inbound);
        let reply = line.tuple(Direction::Return);
        let two_keys = line.tail().has(flag::TWO_KEYS);
        if self.find(&inbound).is_some() || (two_keys && self.find(&reply).is_some()) {
            return Err(OpenError::Taken);
        }
        let hash = L::hash(&self.hash, &inbound);
        self.directory.insert(hash, slot, Direction::Inbound).map_err(|_| OpenError::Full)?;
        if two_keys {
            let second = L::hash(&self.hash, &reply);
            if self.directory.insert(second, slot, Direction::Return).is_err() {
                self.directory.remove(hash, slot, Direction::Inbound);
                return Err(OpenError::Full);
            }
        }
        Ok(())
    }

    /// Ends a session and frees its slot and port; its last state is returned.
    pub(super) fn close(&mut self, slot: u32) -> Option<Session> {
        self.harvest(slot);
        let session = self.session(slot)?;
        let line = self.lines.get_mut(slot as usize)?;
        let inbound = L::hash(&self.hash, &line.tuple(Direction::Inbound));
        let reply = L::hash(&self.hash, &line.tuple(Direction::Return));
        let tail = line.tail_mut();
        let flags = core::mem::take(&mut tail.flags);
        let id = ListId { class: session.class.0, kind: Self::kind_of(tail) };
        self.directory.remove(inbound, slot, Direction::Inbound);
        if flags & flag::TWO_KEYS != 0 {
            self.directory.remove(reply, slot, Direction::Return);
        }
        if flags & flag::LISTED != 0 {
            self.lists.unlink(id, slot, self.cold);
        }
        let cold = self.cold.get_mut(slot as usize)?;
        // Never 0 again: 0 means that the slot has held no session yet.
        cold.generation = cold.generation.wrapping_add(1).max(1);
        self.free.push(slot);
        self.live = self.live.saturating_sub(1);
        Some(session)
    }

    /// A copy of everything about a session.
    pub(super) fn session(&self, slot: u32) -> Option<Session> {
        let line = self.is_live(slot)?;
        let (tail, cold) = (line.tail(), self.cold.get(slot as usize)?);
        let plain = tail.has(flag::PLAIN);
        let high = |word: u32| if plain { word } else { 0 };
        let traffic = |cell, word, harvested| Traffic {
            packets: packets(cell, high(word)),
            bytes: bytes(cell, harvested),
        };
        let [bytes_in, bytes_out] = cold.bytes;
        Some(Session {
            id: self.id(slot),
            quad: line.quad(),
            state: TcpState::from_number(tail.state_number()),
            plain,
            answered: tail.has(flag::ANSWERED),
            server: ServerId(tail.server),
            hop_in: HopId(tail.hop_in),
            hop_out: HopId(tail.hop_out),
            class: TimeoutClass(cold.class),
            translation: translation_of(tail),
            opened: Tick(cold.opened),
            last_seen: Tick(tail.last_seen),
            inbound: traffic(tail.carried_in, cold.isn_or_packets_in, bytes_in),
            outbound: traffic(tail.carried_out, cold.first_or_packets_out, bytes_out),
            has_local_port: !tail.has(flag::TWO_KEYS),
        })
    }

    pub(super) fn detail(&self, slot: u32) -> Option<Detail> {
        let (line, cold) = (self.is_live(slot)?, self.cold.get(slot as usize)?);
        let tail = line.tail();
        let plain = tail.has(flag::PLAIN);
        Some(Detail {
            plain,
            pending: cold.pending,
            client_isn: if plain { 0 } else { cold.isn_or_packets_in },
            server_first: if plain { 0 } else { cold.first_or_packets_out },
            server_seq_end: cold.server_seq_end,
            server_ack: cold.server_ack,
            client_mss: cold.client_mss,
            seq_delta: tail.seq_delta,
            hop_in: HopId(tail.hop_in),
            hop_out: HopId(tail.hop_out),
        })
    }

    pub(super) fn set_detail(&mut self, slot: u32, detail: &Detail) {
        if self.is_live(slot).is_none() {
            return;
        }
        let (Some(line), Some(cold)) =
            (self.lines.get_mut(slot as usize), self.cold.get_mut(slot as usize))
        else {
            return;
        };
        let tail = line.tail_mut();
        let was_plain = tail.has(flag::PLAIN);
        tail.seq_delta = detail.seq_delta;
        tail.hop_in = detail.hop_in.0;
        tail.hop_out = detail.hop_out.0;
        cold.pending = detail.pending;
        cold.server_seq_end = detail.server_seq_end;
        cold.server_ack = detail.server_ack;
        cold.client_mss = detail.client_mss;
        if detail.plain {
            tail.flags |= flag::PLAIN;
            if !was_plain {
                (cold.isn_or_packets_in, cold.first_or_packets_out) = (0, 0);
            }
        } else if !was_plain {
            // A plain session never becomes unplain this way: its two words count packets now.
            cold.isn_or_packets_in = detail.client_isn;
            cold.first_or_packets_out = detail.server_first;
        }
    }

    /// The next session whose time has passed, looking at no more than `budget` places. Budget is used up
    /// by what it looks at; call again until `None`. Lists and sweeper take turns at being first, so that
    /// neither starves on small budgets.
    pub(super) fn next_expired(
        &mut self,
        now: Tick,
        classes: &[TimeoutTicks],
        budget: &mut u32,
    ) -> Option<u32> {
        self.lists_first = !self.lists_first;
        if self.lists_first {
            self.next_short(now, classes, budget).or_else(|| self.next_long(now, classes, budget))
        } else {
            self.next_long(now, classes, budget).or_else(|| self.next_short(now, classes, budget))
        }
    }

    /// Looks at the oldest session of each list, once round from where an earlier call ended.
    fn next_short(&mut self, now: Tick, classes: &[TimeoutTicks], budget: &mut u32) -> Option<u32> {
        let start = self.short_at;
        for (from, end) in [(start, KINDS.wrapping_mul(CLASSES)), (0, start)] {
            self.short_at = from;
            while let Some((at, id)) = self.lists.next_busy(self.short_at)
                && at < end
            {
                *budget = budget.checked_sub(1)?;
                self.short_at = at;
                let slot = self.lists.oldest(id)?;
                let last_seen = self.lines.get(slot as usize)?.tail().last_seen;
                if idle(now, last_seen) >= Self::timeout(classes, id.class, id.kind) {
                    return Some(slot);
                }
                self.short_at = at.wrapping_add(1);
            }
        }
        None
    }

    fn next_long(&mut self, now: Tick, classes: &[TimeoutTicks], budget: &mut u32) -> Option<u32> {
        self.owe(now);
        while self.sweep_owed > 0 {
            *budget = budget.checked_sub(1)?;
            self.sweep_owed = self.sweep_owed.wrapping_sub(1);
            let at = self.sweep_at;
            let next = at.wrapping_add(1);
            self.sweep_at = if next >= self.lines.len() { 0 } else { next };
            let tail = self.lines.get(at)?.tail();
            if !tail.has(flag::LIVE) || tail.has(flag::LISTED) {
                continue;
            }
            let idle = idle(now, tail.last_seen);
            if idle < self.shortest_swept {
                continue;
            }
            let class = self.cold.get(at)?.class;
            if idle >= Self::timeout(classes, class, Self::kind_of(tail)) {
                return u32::try_from(at).ok();
            }
        }
        None
    }

    /// Every tick the sweeper owes its share of the table.
    fn owe(&mut self, now: Tick) {
        let passed = now.since(self.swept);
        if passed == 0 {
            return;
        }
        self.swept = now;
        let all = u32::try_from(self.lines.len()).unwrap_or(u32::MAX);
        let share = all.div_ceil(TURN);
        self.sweep_owed = self.sweep_owed.saturating_add(share.saturating_mul(passed)).min(all);
    }

    /// When something may expire next, at the earliest; `None` while there is no session.
    pub(super) fn next_deadline(&self, now: Time) -> Option<Time> {
        (self.live > 0).then(|| Time((now.0 >> Tick::SHIFT).wrapping_add(1) << Tick::SHIFT))
    }

    /// Copies of live sessions from `cursor` on; returns where to go on.
    pub(super) fn scan(
        &self,
        cursor: u32,
        most: u32,
        mut each: impl FnMut(&Session),
    ) -> Option<u32> {
        let end = (cursor as usize).saturating_add(most.max(1) as usize).min(self.lines.len());
        for slot in cursor as usize..end {
            if let Some(session) = u32::try_from(slot).ok().and_then(|slot| self.session(slot)) {
                each(&session);
            }
        }
        if end < self.lines.len() { u32::try_from(end).ok() } else { None }
    }
}

/// The line of a session to open, without its translation; `None` when the families differ.
fn line_of<L: Line>(now: Tick, open: &Open<'_>, quad: &Quad) -> Option<L> {
    let mut line = L::default();
    if !line.set_quad(quad) {
        return None;
    }
    let tail = line.tail_mut();
    tail.last_seen = now.0;
    tail.set_kind(quad.proto, open.state.index() as u8);
    tail.flags = flag::LIVE
        | if open.plain { flag::PLAIN } else { 0 }
        | if matches!(open.place, Place::General) { flag::TWO_KEYS } else { 0 };
    tail.hop_in = open.hop_in.0;
    tail.hop_out = open.hop_out.0;
    tail.server = open.server.0;
    Some(line)
}

const fn translation_of(tail: &Tail) -> Translation {
    Translation {
        l4_delta: tail.l4_delta,
        ip_delta: tail.ip_delta,
        seq_delta: tail.seq_delta,
        ack_delta: tail.ack_delta,
    }
}

const fn set_translation(tail: &mut Tail, translation: Translation) {
    tail.l4_delta = translation.l4_delta;
    tail.ip_delta = translation.ip_delta;
    tail.seq_delta = translation.seq_delta;
    tail.ack_delta = translation.ack_delta;
}
