//! The short way to open what is opened most: TCP over IPv4 for a SYN, its key as it stands on the wire.
//!
//! The session is the one that [`SessionStore::open_with`] would open, bit for bit; what differs is that
//! nothing is turned into addresses and back.

use super::directory::Hint;
use super::free::Group;
use super::layout::{Cold, Line, LineV4, Tail, flag};
use super::lists::CLASSES;
use super::table::Table;
use super::tcp::{self, TcpState};
use super::{First, LocalSource, Missed, OpenError, SessionStore, Translation};
use crate::addr::RealAddr;
use crate::flow::{Direction, L4Proto};
use crate::id::{HopId, ServerId, SessionId, TimeoutClass};
use crate::key::{Key, KeyV4, TableKey, side};
use crate::plan::PortPlan;
use crate::prefetch::prefetch;
use crate::time::Tick;
use crate::timeouts::TimeoutTicks;
use core::net::IpAddr;

/// A session to open for a SYN: state `SynRecv`, not plain.
#[derive(Clone, Copy, Debug)]
pub struct OpenV4<'a> {
    /// Client to service, as on the wire.
    pub key: KeyV4,
    /// Local addresses to choose a port on, and where to start among them; `None`: the server answers the client
    /// itself.
    pub local: Option<(&'a [LocalSource], usize)>,
    /// What [`expect_v4`](SessionStore::expect_v4) gave, if it was asked; only where `local` is `None`.
    pub second: Option<u64>,
    /// Its server's address; the port is the one that the server is spoken to on.
    pub addr: RealAddr,
    /// Its server.
    pub server: ServerId,
    /// Next hops toward the server and toward the client.
    pub hops: [HopId; 2],
    /// Its time-outs.
    pub class: TimeoutClass,
}

/// What [`SessionStore::open_v4`] has decided so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedV4 {
    /// Server to director or client, as on the wire.
    pub reply: KeyV4,
    /// The sequence number that the same server expected next of the slot's last session.
    pub floor: Option<u32>,
}

/// A session was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedV4 {
    /// Its handle.
    pub id: SessionId,
    /// Server to director or client, as on the wire.
    pub reply: KeyV4,
}

impl<P: PortPlan> SessionStore<'_, P> {
    /// The look-up of a TCP packet whose key was hashed by [`hash_v4`](Self::hash_v4); `None` when it has a
    /// session.
    #[must_use]
    #[inline]
    pub fn missed_v4(&self, hash: u64, key: &KeyV4) -> Option<Missed> {
        self.hint_v4(hash, key).is_nowhere().then_some(Missed(Some(hash)))
    }

    /// The hint of a TCP packet whose key was hashed by [`hash_v4`](Self::hash_v4), complete: the key has been
    /// compared.
    #[must_use]
    #[inline]
    pub fn hint_v4(&self, hash: u64, key: &KeyV4) -> Hint {
        match self.v4.directory.has_none(hash) {
            true => Hint::NOWHERE,
            false => self.v4.find_hashed(hash, key, L4Proto::Tcp),
        }
    }

    /// Begins to fetch what the second key of a session without a local port needs.
    #[must_use]
    #[inline]
    pub fn expect_v4(&self, key: &KeyV4, server: &RealAddr) -> u64 {
        let IpAddr::V4(ip) = server.ip() else { return 0 };
        let [a, b, c, d, _, _, _, _, i, j, _, _] = key.0;
        let reply = key_of((ip.octets(), server.port().to_be_bytes()), ([a, b, c, d], [i, j]));
        let hash = reply.hash(&self.v4.hash, L4Proto::Tcp);
        self.v4.directory.prefetch(hash);
        hash
    }

    /// Opens a session; `first` and `translate` as for [`open_with`](Self::open_with).
    ///
    /// # Errors
    /// [`OpenError`]; nothing changed, and `translate` was not called.
    pub fn open_v4(
        &mut self,
        now: Tick,
        open: &OpenV4<'_>,
        first: &First,
        translate: impl FnOnce(&ReservedV4) -> Translation,
    ) -> Result<OpenedV4, OpenError> {
        let classes = self.classes.get(..self.used_classes).unwrap_or_default();
        self.v4.open_v4(now, (open, first), &self.plan, classes, translate)
    }
}

impl<L: Line> Table<'_, L> {
    /// Takes a slot with a local port: the slot, and address and port.
    #[inline]
    pub(super) fn reserve_local(
        &mut self,
        (addresses, first): (&[LocalSource], usize),
        plan: &impl PortPlan,
        server: &RealAddr,
    ) -> Result<(u32, IpAddr, u16), OpenError> {
        if let Some(address) = addresses.get(first)
            && let Some((slot, within)) = self.free.pop_local(address.id.0)
        {
            if let Some(port) = plan.port_for(within, address.ip, server) {
                return Ok((slot, address.ip, port));
            }
            self.free.unpop(slot);
        }
        self.search_local((addresses, first), plan, server)
    }

    #[inline(never)]
    fn search_local(
        &mut self,
        (addresses, first): (&[LocalSource], usize),
        plan: &impl PortPlan,
        server: &RealAddr,
    ) -> Result<(u32, IpAddr, u16), OpenError> {
        let order = addresses.iter().skip(first).chain(addresses.iter().take(first));
        for address in order {
            let group = Group::Local(address.id.0);
            // A plan may have no port for this server in a slot; the next slots are tried in turn.
            for _ in 0..8 {
                let Some(slot) = self.free.pop(group) else { break };
                let within = slot.wrapping_sub(self.free.base(group));
                if let Some(port) = plan.port_for(within, address.ip, server) {
                    return Ok((slot, address.ip, port));
                }
                self.free.push(slot);
            }
        }
        Err(OpenError::NoPort)
    }
}

impl Table<'_, LineV4> {
    fn open_v4(
        &mut self,
        now: Tick,
        (open, first): (&OpenV4<'_>, &First),
        plan: &impl PortPlan,
        classes: &[TimeoutTicks],
        translate: impl FnOnce(&ReservedV4) -> Translation,
    ) -> Result<OpenedV4, OpenError> {
        let IpAddr::V4(server) = open.addr.ip() else { return Err(OpenError::Family) };
        let server = (server.octets(), open.addr.port().to_be_bytes());
        let [a, b, c, d, _, _, _, _, i, j, _, _] = open.key.0;
        let (slot, local) = match open.local {
            Some(addresses) => {
                let (slot, ip, port) = self.reserve_local(addresses, plan, &open.addr)?;
                let IpAddr::V4(ip) = ip else {
                    self.free.unpop(slot);
                    return Err(OpenError::Family);
                };
                (slot, (ip.octets(), port.to_be_bytes()))
            }
            None => {
                let slot = self.free.pop_general().ok_or(OpenError::Full)?;
                (slot, ([a, b, c, d], [i, j]))
            }
        };
        let reply = key_of(server, local);
        let two_keys = open.local.is_none();
        self.enter(slot, (&open.key, first.missed), two_keys.then_some((&reply, open.second)))
            .inspect_err(|_| self.free.unpop(slot))?;
        // Nothing fails from here on.
        self.prefetch_next(open.local);
        let reserved = ReservedV4 { reply, floor: self.floor(slot, server) };
        let translation = translate(&reserved);
        let tail = tail_of(now, (open, first), translation, two_keys);
        self.write_fresh(slot, LineV4 { keys: [open.key.0, reply.0], tail }, now, (open, first));
        self.live = self.live.wrapping_add(1);
        self.relist(slot, state_of(first), classes);
        Ok(OpenedV4 { id: self.id(slot), reply })
    }

    /// Enters the keys: all or none.
    #[inline]
    fn enter(
        &mut self,
        slot: u32,
        (inbound, missed): (&KeyV4, Missed),
        reply: Option<(&KeyV4, Option<u64>)>,
    ) -> Result<(), OpenError> {
        let proto = L4Proto::Tcp;
        let hash = missed.0.unwrap_or_else(|| inbound.hash(&self.hash, proto));
        debug_assert_eq!(hash, inbound.hash(&self.hash, proto), "another key was looked up");
        if missed.0.is_none() && !self.find_hashed(hash, inbound, proto).is_nowhere() {
            return Err(OpenError::Taken);
        }
        let Some((reply, second)) = reply else {
            let entered = self.directory.insert(hash, slot, Direction::Inbound);
            return entered.map_err(|_| OpenError::Full);
        };
        let second = second.unwrap_or_else(|| reply.hash(&self.hash, proto));
        debug_assert_eq!(second, reply.hash(&self.hash, proto), "another key was expected");
        if !self.directory.has_none(second) && !self.find_hashed(second, reply, proto).is_nowhere()
        {
            return Err(OpenError::Taken);
        }
        self.directory.insert(hash, slot, Direction::Inbound).map_err(|_| OpenError::Full)?;
        if self.directory.insert(second, slot, Direction::Return).is_err() {
            self.directory.remove(hash, slot, Direction::Inbound);
            return Err(OpenError::Full);
        }
        Ok(())
    }

    /// Asks for the memory of the slot that the session after next will have on the same ring.
    #[inline]
    fn prefetch_next(&self, local: Option<(&[LocalSource], usize)>) {
        let ring = match local {
            Some((addresses, first)) => addresses.get(first).map(|address| address.id.0),
            None => None,
        };
        let Some(slot) = self.free.soon(ring) else { return };
        if let (Some(line), Some(cold)) =
            (self.lines.get(slot as usize), self.cold.get(slot as usize))
        {
            prefetch(line);
            prefetch(cold);
        }
    }

    /// What the server expected next of the slot's last session, if it is the same server and told.
    #[inline]
    fn floor(&self, slot: u32, (ip, port): ([u8; 4], [u8; 2])) -> Option<u32> {
        let (line, cold) = (self.lines.get(slot as usize)?, self.cold.get(slot as usize)?);
        let [a, b, c, d, _, _, _, _, i, j, _, _] = line.key(side(Direction::Return)).0;
        let same = ([a, b, c, d], [i, j]) == (ip, port);
        (cold.generation != 0 && same && cold.server_ack != 0).then_some(cold.server_ack)
    }

    #[inline]
    fn write_fresh(
        &mut self,
        slot: u32,
        line: LineV4,
        now: Tick,
        (open, first): (&OpenV4<'_>, &First),
    ) {
        let (Some(place), Some(cold)) =
            (self.lines.get_mut(slot as usize), self.cold.get_mut(slot as usize))
        else {
            return;
        };
        *place = line;
        *cold = Cold {
            generation: cold.generation,
            opened: now.0,
            class: if usize::from(open.class.0) < CLASSES { open.class.0 } else { 0 },
            isn_or_packets_in: first.client_isn,
            client_mss: first.client_mss,
            pending: first.pending,
            template: first.template.map_or(0, |template| template.saturating_add(1)),
            ..Cold::default()
        };
    }
}

#[inline(always)]
const fn key_of((src, sport): ([u8; 4], [u8; 2]), (dst, dport): ([u8; 4], [u8; 2])) -> KeyV4 {
    let ([a, b, c, d], [e, f, g, h]) = (src, dst);
    let ([i, j], [k, l]) = (sport, dport);
    Key([a, b, c, d, e, f, g, h, i, j, k, l])
}

#[inline(always)]
fn tail_of(
    now: Tick,
    (open, first): (&OpenV4<'_>, &First),
    translation: Translation,
    two_keys: bool,
) -> Tail {
    let mut tail = Tail {
        l4_delta: translation.l4_delta,
        ip_delta: translation.ip_delta,
        seq_deltas: [translation.seq_delta, translation.ack_delta],
        last_seen: now.0,
        flags: flag::LIVE | if two_keys { flag::TWO_KEYS } else { 0 },
        hops: open.hops.map(|hop| hop.0),
        server: open.server.0,
        ..Tail::default()
    };
    tail.set_kind(L4Proto::Tcp, TcpState::SynRecv.index() as u8);
    if let Some(segment) = first.segment {
        // One packet never fills the counter.
        let _ = tail.carry(side(Direction::Inbound), segment.bytes);
    }
    tail
}

/// The first state, behind the first packet.
#[inline(always)]
fn state_of(first: &First) -> TcpState {
    match first.segment.and_then(|segment| segment.tcp_flags) {
        Some(flags) => tcp::next(TcpState::SynRecv, Direction::Inbound.into(), flags),
        None => TcpState::SynRecv,
    }
}
