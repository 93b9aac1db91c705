//! NAT64: a client and a service of IPv6, a local address and a server of IPv4.
//!
//! ```text
//!   C:cp ─► V:vp ──keyed hash──► directory of IPv6 ──► IPv6 slot without a local port: the session
//!                                                            ▲ │
//!                                                   borrower │ │ lender
//!                                                            │ ▼
//!   S:sp ─► L:lp ──port plan───────────────────────► IPv4 slot: lends its port, holds no session
//! ```
//!
//! The session lives in the IPv6 table, where both of its keys have room. Its local port is one of the IPv4
//! pool, so it takes the IPv4 slot that *is* this port as well: ports are given out in one place, the port plan
//! steers replies to their worker as it does for any other, and one local address serves IPv4 and NAT64 services alike.
//! A slot that lends its port is not live: no walk, no time-out and no short way sees it, and only a reply that
//! has found no session there is led on.

use super::free::Group;
use super::layout::{Line, LineV4, LineV6, Tail, flag, mapped};
use super::table::Table;
use super::{
    Candidate, First, LocalSource, Open, OpenError, Opened, Place, Reserved, SessionStore,
    Translation,
};
use crate::addr::RealAddr;
use crate::flow::{Direction, TupleV4, WireTuple};
use crate::id::LocalId;
use crate::key::KeyV4;
use crate::plan::PortPlan;
use crate::time::Tick;

impl<P: PortPlan> SessionStore<'_, P> {
    /// [`open_with`](Self::open_with) for a quad whose families differ.
    pub(super) fn open_nat64(
        &mut self,
        now: Tick,
        (open, first): (&Open<'_>, &First),
        translate: impl FnOnce(&Reserved) -> Translation,
    ) -> Result<Opened, OpenError> {
        let v6 = |source: &LocalSource| source.ip.is_ipv6();
        let (Place::Local { addresses, first: turn }, true) =
            (open.place, open.quad.virt.0.is_ipv6())
        else {
            return Err(OpenError::Family);
        };
        if addresses.iter().any(v6) {
            return Err(OpenError::Family);
        }
        let server = RealAddr::new(open.quad.server.0, open.quad.server.1);
        let (lender, ip, port) = self.v4.reserve_local((addresses, turn), &self.plan, &server)?;
        let mut quad = open.quad;
        quad.local = (ip, port);
        let reserved = Reserved { quad, previous: self.v4.previous(lender) };
        let classes = self.classes.get(..self.used_classes).unwrap_or_default();
        let slot = self.v6.free.pop(Group::General).ok_or(OpenError::Full);
        let opened = slot.and_then(|slot| {
            self.v6.open_in(slot, now, (open, first), &reserved, classes, translate)
        });
        let opened = opened.inspect_err(|_| self.v4.free.unpop(lender))?;
        if let Some(line) = self.v6.lines.get_mut(opened.id.slot as usize) {
            line.lender = lender.wrapping_add(1);
        }
        if let Some(WireTuple::V4(reply)) = quad.reply() {
            self.v4.lend(lender, &reply, opened.id.slot);
        }
        Ok(opened)
    }

    /// The session that has this local port from a slot of the IPv4 table.
    #[cold]
    pub(super) fn borrower(
        &self,
        local: LocalId,
        within: u32,
        reply: &TupleV4,
    ) -> Option<Candidate> {
        let slot = self.v4.borrower(self.v4.slot_on(local.0, within)?, reply)?;
        let candidate = Candidate { v6: true, slot, direction: Direction::Return };
        self.v6.is_at(candidate, &mapped(WireTuple::V4(*reply))).then_some(candidate)
    }

    /// Before an IPv6 session is closed: its local port goes back to whom it was lent from, if it was.
    pub(super) fn give_port_back(&mut self, slot: u32) {
        let line: Option<&LineV6> = self.v6.lines.get(slot as usize);
        let lender =
            line.filter(|line| line.tail.is_nat64()).and_then(|line| line.lender.checked_sub(1));
        let Some(lender) = lender else { return };
        let server_ack = self.v6.cold.get(slot as usize).map_or(0, |cold| cold.server_ack);
        self.v4.take_back(lender, server_ack);
    }
}

impl Table<'_, LineV4> {
    /// Makes a slot that was taken the lender of its port.
    fn lend(&mut self, slot: u32, reply: &TupleV4, borrower: u32) {
        let Some(line) = self.lines.get_mut(slot as usize) else { return };
        let [a, b, c, d] = borrower.to_le_bytes();
        let mut tail = Tail { flags: flag::LENT, ..Tail::default() };
        tail.set_kind(reply.proto, 0);
        // The key of inbound packets has no other use here.
        *line = LineV4 { keys: [[a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0], KeyV4::from(reply).0], tail };
    }

    fn borrower(&self, slot: u32, reply: &TupleV4) -> Option<u32> {
        let line = self.lines.get(slot as usize)?;
        let [[a, b, c, d, ..], key] = line.keys;
        let its = line.tail.flags == flag::LENT
            && key == KeyV4::from(reply).0
            && line.tail.proto() == reply.proto;
        its.then_some(u32::from_le_bytes([a, b, c, d]))
    }

    /// Frees a slot that lent its port, and keeps what the next session of the port needs to know.
    fn take_back(&mut self, slot: u32, server_ack: u32) {
        let (Some(line), Some(cold)) =
            (self.lines.get_mut(slot as usize), self.cold.get_mut(slot as usize))
        else {
            return;
        };
        if line.tail_mut().flags != flag::LENT {
            return;
        }
        line.tail.flags = 0;
        cold.server_ack = server_ack;
        cold.generation = cold.generation.wrapping_add(1).max(1);
        self.free.push(slot);
    }
}
