//! How sessions begin and end: slot and port, keys, memory of the slot. All or nothing.

use super::free::Group;
use super::layout::{Cold, Line, Quad, Tail, flag};
use super::lists::{CLASSES, ListId};
use super::table::Table;
use super::tcp::{self, Seen, TcpState};
use super::{
    First, Missed, Open, OpenError, Opened, Place, Previous, Reserved, Session, Translation,
};
use crate::flow::{Direction, L4Proto};
use crate::key::{TableKey, side};
use crate::plan::PortPlan;
use crate::time::Tick;
use crate::timeouts::TimeoutTicks;

impl<L: Line> Table<'_, L> {
    pub(super) fn open(
        &mut self,
        now: Tick,
        (open, first): (&Open<'_>, &First),
        plan: &impl PortPlan,
        classes: &[TimeoutTicks],
        translate: impl FnOnce(&Reserved) -> Translation,
    ) -> Result<Opened, OpenError> {
        let mut quad = open.quad;
        let slot = self.reserve(open, plan, &mut quad)?;
        let reserved = Reserved { quad, previous: self.previous(slot) };
        self.open_in(slot, now, (open, first), &reserved, classes, translate)
    }

    /// Opens the session in a slot that was taken for it, and is put back if that fails.
    pub(super) fn open_in(
        &mut self,
        slot: u32,
        now: Tick,
        (open, first): (&Open<'_>, &First),
        reserved: &Reserved,
        classes: &[TimeoutTicks],
        translate: impl FnOnce(&Reserved) -> Translation,
    ) -> Result<Opened, OpenError> {
        let quad = reserved.quad;
        let line = line_of::<L>(now, (open, first), &quad).ok_or(OpenError::Family);
        let line = line.and_then(|line| self.publish(slot, &line, first.missed).map(|()| line));
        let mut line = line.inspect_err(|_| self.free.unpop(slot))?;
        // Nothing fails from here on.
        set_translation(line.tail_mut(), translate(reserved));
        self.write(slot, line, now, (open, first));
        self.live = self.live.wrapping_add(1);
        self.relist(slot, state_of(open, first), classes);
        Ok(Opened { id: self.id(slot), quad })
    }

    /// Takes a slot, and with it a local port.
    pub(super) fn reserve(
        &mut self,
        open: &Open<'_>,
        plan: &impl PortPlan,
        quad: &mut Quad,
    ) -> Result<u32, OpenError> {
        let Place::Local { addresses, first } = open.place else {
            return self.free.pop(Group::General).ok_or(OpenError::Full);
        };
        let server = crate::addr::RealAddr::new(quad.server.0, quad.server.1);
        let (slot, ip, port) = self.reserve_local((addresses, first), plan, &server)?;
        quad.local = (ip, port);
        Ok(slot)
    }

    /// The last session of the slot: its record is still there.
    pub(super) fn previous(&self, slot: u32) -> Option<Previous> {
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

    fn write(&mut self, slot: u32, line: L, now: Tick, (open, first): (&Open<'_>, &First)) {
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
            class: if usize::from(open.class.0) < CLASSES { open.class.0 } else { 0 },
            isn_or_packets_in: if open.plain { 0 } else { first.client_isn },
            client_mss: first.client_mss,
            pending: first.pending,
            template: first.template.map_or(0, |template| template.saturating_add(1)),
            ..Cold::default()
        };
    }

    /// Enters the keys of a line that is to be written: all or none.
    fn publish(&mut self, slot: u32, line: &L, missed: Missed) -> Result<(), OpenError> {
        let proto = line.tail().proto();
        let (inbound, reply) = (line.key(0), line.key(1));
        let hash = missed.0.unwrap_or_else(|| inbound.hash(&self.hash, proto));
        debug_assert_eq!(hash, inbound.hash(&self.hash, proto), "another tuple was looked up");
        if missed.0.is_none() && !self.find_hashed(hash, &inbound, proto).is_nowhere() {
            return Err(OpenError::Taken);
        }
        let second = line.tail().has(flag::TWO_KEYS).then(|| reply.hash(&self.hash, proto));
        if second.is_some_and(|hash| !self.find_hashed(hash, &reply, proto).is_nowhere()) {
            return Err(OpenError::Taken);
        }
        self.directory.insert(hash, slot, Direction::Inbound).map_err(|_| OpenError::Full)?;
        if let Some(second) = second
            && self.directory.insert(second, slot, Direction::Return).is_err()
        {
            self.directory.remove(hash, slot, Direction::Inbound);
            return Err(OpenError::Full);
        }
        Ok(())
    }

    /// Ends a session and frees its slot and port; its last state is returned.
    pub(super) fn close(&mut self, slot: u32) -> Option<Session> {
        self.harvest(slot);
        let session = self.session(slot)?;
        let line = self.lines.get(slot as usize)?;
        let inbound = self.hash_of(&line.tuple(Direction::Inbound));
        let reply = self.hash_of(&line.tuple(Direction::Return));
        let line = self.lines.get_mut(slot as usize)?;
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
        if session.quad.proto == L4Proto::Sctp {
            // A tag, which is no floor for the numbers of the port's next session.
            cold.server_ack = 0;
        }
        // Never 0 again: 0 means that the slot has held no session yet.
        cold.generation = cold.generation.wrapping_add(1).max(1);
        self.free.push(slot);
        self.live = self.live.saturating_sub(1);
        Some(session)
    }
}

/// The line of a session to open, without its translation; `None` when the families differ.
fn line_of<L: Line>(now: Tick, (open, first): (&Open<'_>, &First), quad: &Quad) -> Option<L> {
    let mut line = L::default();
    if !line.set_quad(quad) {
        return None;
    }
    let tail = line.tail_mut();
    tail.last_seen = now.0;
    tail.set_kind(quad.proto, open.state.index() as u8);
    tail.set_one_way(match open.place {
        Place::Elsewhere(way) => Some(way),
        Place::Local { .. } | Place::General => None,
    });
    if quad.is_nat64() {
        tail.set_nat64();
    }
    tail.flags = flag::LIVE
        | if open.plain { flag::PLAIN } else { 0 }
        | if matches!(open.place, Place::General) { flag::TWO_KEYS } else { 0 };
    tail.hops = [open.hop_in.0, open.hop_out.0];
    tail.server = open.server.0;
    if let Some(segment) = first.segment {
        // One packet never fills the counter.
        let _ = tail.carry(side(Direction::Inbound), segment.bytes);
    }
    Some(line)
}

/// The first state, behind the first packet.
fn state_of(open: &Open<'_>, first: &First) -> TcpState {
    let seen = match open.place {
        Place::Elsewhere(_) => Seen::InboundOnly,
        Place::Local { .. } | Place::General => Direction::Inbound.into(),
    };
    match first.segment.and_then(|segment| segment.tcp_flags) {
        Some(flags) => tcp::next(open.state, seen, flags),
        None => open.state,
    }
}

const fn set_translation(tail: &mut Tail, translation: Translation) {
    tail.l4_delta = translation.l4_delta;
    tail.ip_delta = translation.ip_delta;
    tail.seq_deltas = [translation.seq_delta, translation.ack_delta];
}
