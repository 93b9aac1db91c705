//! The sessions of one address family over memory that the caller lends: how the memory is divided, and
//! what packets and listings ask. Opening and closing are in `opening`, time-outs in `expiry`. The public face is [`super::SessionStore`].

use super::directory::{Bucket, Directory, Hint, buckets_for};
use super::expiry::SHORT;
use super::free::{FreeSlots, Group, RingState};
use super::layout::{Cold, Line, Tail, bytes, flag, packets};
use super::lists::Lists;
use super::tcp::{self, TcpState};
use super::{Candidate, Detail, Flow, Missed, Segment, Session, TableConfig, Told, Translation};
use crate::counters::Traffic;
use crate::flow::{Direction, L4Proto};
use crate::id::{HopId, ServerId, SessionId, TimeoutClass};
use crate::key::{TableKey, of_side, side};
use crate::prefetch::prefetch;
use crate::siphash::SipHash13;
use crate::time::Tick;
use crate::timeouts::TimeoutTicks;
use core::mem::size_of;
use zerocopy::FromBytes;

pub(super) struct Table<'m, L> {
    pub(super) hash: SipHash13,
    pub(super) directory: Directory<'m>,
    pub(super) lines: &'m mut [L],
    pub(super) cold: &'m mut [Cold],
    pub(super) free: FreeSlots<'m>,
    pub(super) lists: Lists,
    pub(super) live: u32,
    pub(super) sweep_at: usize,
    pub(super) sweep_owed: u32,
    pub(super) swept: Tick,
    /// Whether sessions may exist whose time-out became short while they were in no list.
    pub(super) strays: bool,
    /// No session that the sweeper is responsible for has a shorter time-out, so a younger one needs no
    /// look at its class.
    pub(super) shortest_swept: u32,
    /// The list at which a search for short time-outs goes on.
    pub(super) short_at: usize,
    /// Which of lists and sweeper was served first by the last call; the other one is next.
    pub(super) lists_first: bool,
}

/// How the memory of a table is divided.
#[derive(Clone, Copy)]
struct Parts {
    slots: usize,
    buckets: usize,
    rings: usize,
}

impl Parts {
    pub(super) fn of(config: &TableConfig, per_local: u32) -> Option<Self> {
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

    pub(super) fn bytes<L>(&self) -> Option<usize> {
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

/// Asks for all lines of a session.
#[inline(always)]
fn fetch<L: Line>(line: &L) {
    prefetch(line);
    if L::V6 {
        prefetch(&line.tail().hops);
    }
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

    pub(super) fn is_live(&self, slot: u32) -> Option<&L> {
        self.lines.get(slot as usize).filter(|line| line.tail().has(flag::LIVE))
    }

    pub(super) fn id(&self, slot: u32) -> SessionId {
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
        let (key, proto) = L::Key::of(tuple);
        let (slot, direction) = self.find_key(&key, proto).split()?;
        Some(Candidate { v6: L::V6, slot, direction })
    }

    /// The same, with the hash of a tuple that belongs nowhere.
    pub(super) fn find_or_missed(&self, tuple: &L::Tuple) -> Result<Candidate, Missed> {
        let (key, proto) = L::Key::of(tuple);
        let hash = key.hash(&self.hash, proto);
        match self.find_hashed(hash, &key, proto).split() {
            Some((slot, direction)) => Ok(Candidate { v6: L::V6, slot, direction }),
            None => Err(Missed(Some(hash))),
        }
    }

    /// Whether a candidate is the session of this tuple.
    pub(super) fn is_at(&self, candidate: Candidate, tuple: &L::Tuple) -> bool {
        let line = self.lines.get(candidate.slot as usize);
        line.is_some_and(|line| line.matches(candidate.direction, tuple))
    }

    pub(super) fn hash_of(&self, tuple: &L::Tuple) -> u64 {
        let (key, proto) = L::Key::of(tuple);
        key.hash(&self.hash, proto)
    }

    /// Where a packet with this key belongs, from the directory.
    pub(super) fn find_key(&self, key: &L::Key, proto: L4Proto) -> Hint {
        self.find_hashed(key.hash(&self.hash, proto), key, proto)
    }

    /// The same with the key's hash.
    pub(super) fn find_hashed(&self, hash: u64, key: &L::Key, proto: L4Proto) -> Hint {
        self.directory.find(hash, |slot, direction| {
            self.lines.get(slot as usize).is_some_and(|line| line.is(direction, key, proto))
        })
    }

    /// The slot that the port plan names; beyond the table, or of somebody else, where the address has none.
    #[inline(always)]
    fn slot_at(&self, local: u16, within: u32) -> usize {
        let base = u64::from(local).wrapping_mul(u64::from(self.free.per_local()));
        base.wrapping_add(u64::from(within)) as usize
    }

    /// The slot that the port plan names.
    pub(super) fn slot_on(&self, local: u16, within: u32) -> Option<u32> {
        u32::try_from(self.slot_at(local, within)).ok()
    }

    /// Where a reply belongs, from the port plan, nothing compared; its line is on its way.
    #[inline(always)]
    pub(super) fn direct_hint(&self, local: u16, within: u32) -> Hint {
        let slot = self.slot_at(local, within);
        let Some(line) = self.lines.get(slot) else { return Hint::NOWHERE };
        fetch(line);
        // Tables have fewer than 2^31 slots.
        Hint::new(slot as u32, Direction::Return)
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, slot: u32) {
        if let Some(line) = self.lines.get(slot as usize) {
            fetch(line);
        }
    }

    /// Where a reply belongs, from the port plan.
    pub(super) fn direct(&self, local: u16, within: u32, tuple: &L::Tuple) -> Option<Candidate> {
        let slot = self.slot_on(local, within)?;
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
            Some(flags) => tcp::next(before, tail.seen(candidate.direction), flags),
            None => before,
        };
        tail.last_seen = now.0;
        let harvest = tail.carry(side(candidate.direction), segment.bytes);
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
        let seen = line.tail().seen(candidate.direction);
        let after =
            segment.tcp_flags.map_or(flow.before, |flags| tcp::next(flow.before, seen, flags));
        Some(Flow { after, ..flow })
    }

    pub(super) fn flow(&self, candidate: Candidate) -> Option<Flow> {
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
            hop: HopId(*of_side(&tail.hops, side(candidate.direction))),
            one_way: tail.one_way(),
        })
    }

    pub(super) fn harvest(&mut self, slot: u32) {
        if let (Some(line), Some(cold)) =
            (self.lines.get_mut(slot as usize), self.cold.get_mut(slot as usize))
        {
            cold.harvest(line.tail_mut());
        }
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
            hop_in: HopId(tail.hops[0]),
            hop_out: HopId(tail.hops[1]),
            class: TimeoutClass(cold.class),
            translation: translation_of(tail),
            opened: Tick(cold.opened),
            last_seen: Tick(tail.last_seen),
            inbound: traffic(tail.carried[0], cold.isn_or_packets_in, bytes_in),
            outbound: traffic(tail.carried[1], cold.first_or_packets_out, bytes_out),
            has_local_port: !tail.has(flag::TWO_KEYS) && tail.one_way().is_none(),
            one_way: tail.one_way(),
            template: cold.template.checked_sub(1),
            reset_owed: tail.has(flag::RESET_OWED),
            told: Told(cold.pending),
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
            edit: (cold.edit_position, cold.edit_length),
            seq_delta: tail.seq_deltas[0],
            hop_in: HopId(tail.hops[0]),
            hop_out: HopId(tail.hops[1]),
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
        tail.seq_deltas[0] = detail.seq_delta;
        tail.hops = [detail.hop_in.0, detail.hop_out.0];
        cold.pending = detail.pending;
        cold.server_seq_end = detail.server_seq_end;
        cold.server_ack = detail.server_ack;
        cold.client_mss = detail.client_mss;
        (cold.edit_position, cold.edit_length) = detail.edit;
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

const fn translation_of(tail: &Tail) -> Translation {
    Translation {
        l4_delta: tail.l4_delta,
        ip_delta: tail.ip_delta,
        seq_delta: tail.seq_deltas[0],
        ack_delta: tail.seq_deltas[1],
    }
}
