//! Fragments: each goes where the first one of its datagram goes.
//!
//! ```text
//!   fragment ─► keeper of its datagram (one worker) ─► memory ─┬─ first: its ports ─┐
//!                                                             ├─ later: they are known ─► owner of the
//!                                                             │                     │    session ─► emit
//!                                                             └─ later, too early: waits as a copy
//! ```
//! Only the first fragment shows ports. The datagram is never put together: the first fragment is translated
//! like any packet, its checksum moves by what addresses and ports change and so stays right over the whole;
//! of the others the addresses are translated. What contradicts itself (overlaps) is dropped as a whole (RFC 5722,
//! and the same for IPv4, as in the kernel); so is the rest of a datagram whose first piece this worker dropped. Where
//! each datagram is scheduled for itself, its keeper remembers the server.
//!
//! A SYN in pieces opens nothing, because nobody can verify its checksum or insert an address into it; nor does
//! ICMP in pieces, which has no ports.

use crate::admit::Packet;
use crate::carry::{count, reason_of, rewrite_of, segment_of};
use crate::director::{Director, Report};
use crate::neighbour::WAIT_BYTES;
use crate::one_packet::Served;
use crate::outputs::Outputs;
use alloc::boxed::Box;
use core::time::Duration;
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::id::{ServerId, ServiceId};
use lvs_core::io::{L4Csum, Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::session::tcp::flags::SYN;
use lvs_core::session::{Candidate, Flow, Missed, Probe, Segment};
use lvs_core::snapshot::Role;
use lvs_core::time::{Tick, Time};
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_core::wire::{Fragment, Headers, Parsed, Transport};
use lvs_nat::fragment::{
    FragmentKey, FragmentMemory, FragmentSlot, HeldFrame, Later, Limits, Received, Refusal,
};

/// Places for datagrams in pieces, in each worker. Everything is allocated at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "ipfrag_high_thresh")]
pub struct FragmentConfig {
    /// Datagrams in pieces at once, about 200 bytes each; 0: all fragments are dropped.
    pub datagrams: u32,
    /// Fragments that may wait for their first one, 2 KiB each.
    pub held: u16,
    /// Of them, those of one datagram.
    pub held_each: u8,
    /// Unfinished datagrams of one source (or of a few that share a count).
    pub per_source: u16,
    /// What a datagram has, from its first fragment to arrive to its last. The kernel's 30 s are for hosts, which
    /// put datagrams together; a number that comes again within this time is taken for the same datagram.
    #[doc(alias = "ipfrag_time")]
    pub timeout: Duration,
    /// What fragments wait for their first one.
    pub wait: Duration,
}

impl FragmentConfig {
    /// This many datagrams, a quarter of them of one source, for a second; an eighth as many fragments that wait (at
    /// least 16, at most 4096), 16 of one datagram, for 200 ms.
    #[must_use]
    pub fn with_room_for(datagrams: u32) -> Self {
        let part =
            |of: u32, least: u16| u16::try_from(datagrams / of).unwrap_or(u16::MAX).max(least);
        Self {
            datagrams,
            held: if datagrams == 0 { 0 } else { part(8, 16).min(4096) },
            held_each: 16,
            per_source: part(4, 1),
            timeout: Duration::from_secs(1),
            wait: Duration::from_millis(200),
        }
    }
}

impl Default for FragmentConfig {
    /// Room for 1024 datagrams and 128 fragments that wait.
    fn default() -> Self {
        Self::with_room_for(1024)
    }
}

/// What the first fragment of a datagram tells the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) proto: L4Proto,
    pub(crate) src: u16,
    pub(crate) dst: u16,
}

impl Ports {
    /// Of a first fragment that may go on; `None` when the whole datagram has to be dropped.
    fn of(headers: &Headers) -> Option<Self> {
        if matches!(headers.transport, Transport::Tcp { flags, .. } if flags & SYN != 0) {
            return None;
        }
        let tuple = headers.tuple.as_ref()?;
        Some(Self { proto: tuple.proto(), src: tuple.sport(), dst: tuple.dport() })
    }

    /// The tuple of a fragment between these ports.
    pub(crate) fn tuple<B: PacketBuf>(self, packet: &Packet<B>) -> Option<WireTuple> {
        let (src, dst) = packet.headers.addresses(packet.buf.data())?;
        WireTuple::new(self.proto, src, self.src, dst, self.dst)
    }
}

/// Where the pieces of a datagram go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    ports: Ports,
    /// The server that the datagram was scheduled to, without a session.
    alone: Option<(ServiceId, ServerId)>,
}

impl From<Ports> for Lead {
    fn from(ports: Ports) -> Self {
        Self { ports, alone: None }
    }
}

/// Or why they go nowhere.
type Led = Result<Lead, DropReason>;

/// Places that are looked at in each tick, so that no turn takes long: 15 000 a second.
const LOOKED_AT: usize = 1024;

type Slots = Box<[FragmentSlot<Led>]>;
type Held = Box<[HeldFrame<WAIT_BYTES>]>;

/// The datagrams in pieces that a worker keeps together.
pub(crate) struct Pieces {
    memory: FragmentMemory<Led, WAIT_BYTES, Slots, Held>,
    /// Places that are looked at in each tick.
    share: usize,
}

impl Pieces {
    pub(crate) fn new(config: &FragmentConfig, key: [u64; 2]) -> Self {
        let slots: Slots = (0..config.datagrams).map(|_| FragmentSlot::EMPTY).collect();
        let held: Held = (0..config.held).map(|_| HeldFrame::EMPTY).collect();
        let (timeout, wait) = (Tick::covering(config.timeout), Tick::covering(config.wait));
        let limits = Limits {
            timeout,
            wait: wait.min(timeout),
            per_source: config.per_source,
            held: config.held_each,
        };
        let share = slots.len().min(LOOKED_AT);
        Self { memory: FragmentMemory::new(slots, held, key, limits), share }
    }
}

const fn refused(refusal: Refusal) -> DropReason {
    match refusal {
        Refusal::Overlap | Refusal::Dead => DropReason::FragmentOverlap,
        Refusal::Duplicate => DropReason::FragmentDuplicate,
        Refusal::TooManyHeld | Refusal::TooLong => DropReason::FragmentHeldFull,
        _ => DropReason::FragmentMemoryFull,
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// Datagrams in pieces that are not complete, and fragments that wait for their first one.
    #[must_use]
    pub const fn pieces(&self) -> (usize, usize) {
        (self.pieces.memory.live(), self.pieces.memory.waiting())
    }

    /// A fragment that is not for the host alone.
    #[cold]
    pub(crate) fn fragment<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        role: Role,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        packet.buf.truncate(usize::try_from(packet.headers.end).unwrap_or(usize::MAX));
        // Offloads work on whole packets. A device that judges the checksum of a piece does not know what it says.
        let whole = packet.buf.total_len() == packet.buf.data().len();
        if packet.buf.gso().is_some() || packet.buf.l4_csum() == L4Csum::Partial || !whole {
            return DropReason::Fragment.into();
        }
        if packet.buf.l4_csum() == L4Csum::Bad {
            let Headers { l3, l4, .. } = packet.headers;
            packet.buf.set_l4_csum(L4Csum::Unknown, l3, l4);
        }
        if let Some(ports) = self.ports_told.take() {
            return self.carry_piece(now, lane, packet, ports.into(), role, out);
        }
        if let Some(handed) = self.elsewhere(&packet, role) {
            return handed;
        }
        let Some((key, piece)) = FragmentKey::of(packet.buf.data(), &packet.headers) else {
            return DropReason::Fragment.into();
        };
        let tick = now.tick();
        if packet.headers.fragment == Fragment::First {
            let lead = Ports::of(&packet.headers).map(Lead::from).ok_or(DropReason::Fragment);
            let kept = self.pieces.memory.first(tick, &key, piece, lead);
            self.count_lost();
            if let Err(refusal) = kept {
                return refused(refusal).into();
            }
            let report = self.lead(now, lane, packet, lead, role, out);
            self.heed(&key, lead, &report);
            self.release_pieces(now, lane, &key, role, out);
            return report;
        }
        let received =
            Received { port: packet.port, csum: packet.buf.l4_csum(), vlan: packet.buf.vlan() };
        let told = self.pieces.memory.later(tick, &key, piece, packet.buf.data(), received);
        self.count_lost();
        match told {
            Ok(Later::Go(lead)) => self.lead(now, lane, packet, lead, role, out),
            Ok(Later::Held) => Verdict::Absorb(Absorbed::WaitsForFirst).into(),
            Err(refusal) => refused(refusal).into(),
        }
    }

    /// What became of the first fragment decides about the others.
    fn heed(&mut self, key: &FragmentKey, led: Led, report: &Report) {
        let alone = report.service.zip(report.server).filter(|_| report.session.is_none());
        let next = match (report.verdict, led) {
            (Verdict::Drop(_), Ok(_)) => Err(DropReason::FragmentNoSession),
            (_, Ok(lead)) if alone.is_some() => Ok(Lead { alone, ..lead }),
            _ => return,
        };
        self.pieces.memory.redirect(key, next);
    }

    /// Leads a fragment of a known datagram to the owner of its session.
    fn lead<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        led: Led,
        role: Role,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let lead = match led {
            Ok(lead) => lead,
            Err(reason) => return no_session(role, reason),
        };
        // Without a session nobody owns it but its keeper, who knows the server.
        let alone = lead.alone.is_some() || self.is_alone(&packet, lead.ports);
        if !alone && let Some(handed) = self.elsewhere_with(&packet, lead.ports, role) {
            return handed;
        }
        self.carry_piece(now, lane, packet, lead, role, out)
    }

    /// Whether datagrams like this one are scheduled each for itself.
    fn is_alone<B: PacketBuf>(&self, packet: &Packet<B>, ports: Ports) -> bool {
        let Some(tuple) = ports.tuple(packet).filter(|tuple| tuple.proto() == L4Proto::Udp) else {
            return false;
        };
        let service = self.snapshot().classify(&tuple);
        service.map_or(self.snapshot().one_packet(&tuple).is_some(), |service| {
            Served::by(service, &tuple) == Served::EachPacket
        })
    }

    /// A fragment that this worker owns, or nobody.
    fn carry_piece<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        lead: Lead,
        role: Role,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let Some(tuple) = lead.ports.tuple(&packet) else { return DropReason::Fragment.into() };
        let found = self.store.lookup_one(&Probe { tuple, local: role.local });
        match (found, packet.headers.fragment) {
            (Some(candidate), Fragment::Later) => {
                self.carry_later(now, lane, packet, &tuple, candidate, out)
            }
            (Some(candidate), _) => self.carry(now, lane, packet, &tuple, candidate, out),
            (None, Fragment::Later) => match lead.alone {
                Some(to) => self.one_packet_piece(now, lane, packet, &tuple, to, out),
                None => no_session(role, DropReason::FragmentNoSession),
            },
            (None, _) => self.miss(now, lane, packet, (role, Missed::default()), out),
        }
    }

    /// A later fragment of a packet of a session: no flags, no numbers, addresses only.
    fn carry_later<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        candidate: Candidate,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let segment = segment_of(&packet, None);
        let seen = self.store.peek(candidate, tuple, segment);
        let (Some(flow), Some(id)) = (seen, self.store.id_of(candidate)) else {
            return DropReason::FragmentNoSession.into();
        };
        let policy = self.policy(&flow);
        let verdict = match flow.one_way {
            _ if self.store.owes_reset(candidate) => Err(DropReason::SessionReset),
            Some(one_way) => {
                self.pass_one_way(now, lane, packet, tuple, segment, (&flow, one_way), out)
            }
            None => self.pass_later(now, lane, packet, tuple, &flow, segment, out),
        };
        Report {
            verdict: verdict.unwrap_or_else(Verdict::Drop),
            session: Some(id),
            service: policy.service,
            server: Some(flow.server),
        }
    }

    fn pass_later<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        tuple: &WireTuple,
        flow: &Flow,
        segment: Segment,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        if packet.headers.ttl <= 1 {
            return Err(DropReason::TtlExceeded);
        }
        let inbound = flow.candidate.direction == Direction::Inbound;
        match (flow.quad.is_nat64(), inbound) {
            (false, _) => self.fits_or_tell(now, lane, &packet, (flow.hop, 0), out)?,
            (true, true) => {
                self.make_v4(now, lane, &mut packet, (&flow.quad, flow.hop, 0), out)?;
            }
            (true, false) => self.fits_as_v6_or_tell(now, lane, &packet, flow.hop, out)?,
        }
        let flow = self.store.packet(flow.candidate, tuple, now.tick(), segment);
        let flow = flow.ok_or(DropReason::FragmentNoSession)?;
        if let Some(carried) = self.generation.carried(flow.server) {
            count(carried, flow.candidate.direction, segment);
        }
        let rewrite = rewrite_of(&flow, None).ok_or(DropReason::FragmentNoSession)?;
        let csum = packet.buf.l4_csum();
        rewrite.apply(packet.buf.data_mut(), &packet.headers, csum).map_err(reason_of)?;
        if flow.quad.is_nat64() && !inbound {
            return self.emit_as_v6(now, lane, packet, (&flow.quad, flow.hop), out);
        }
        Ok(self.emit(now, lane, packet, flow.hop, out))
    }

    /// Sends on what has waited for the first fragment, in the order of arrival.
    fn release_pieces<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        key: &FragmentKey,
        role: Role,
        out: &mut Outputs<L::Buf>,
    ) {
        loop {
            let copy = |lead, received: Received, bytes: &[u8]| {
                (lead, received.port, copy_of(lane, received, bytes))
            };
            let Some((lead, port, copied)) = self.pieces.memory.release(key, copy) else { return };
            let verdict = match copied.map(|buf| (headers_of(&buf), buf)) {
                Some((Some(headers), buf)) => {
                    let packet = Packet { buf, headers, port };
                    self.lead(now, lane, packet, lead, role, out).verdict
                }
                _ => Verdict::Drop(DropReason::NoBuffer),
            };
            self.counters.count(verdict);
        }
    }

    fn count_lost(&mut self) {
        let lost = self.pieces.memory.take_lost();
        for _ in 0..lost.expired {
            self.counters.drop_one(DropReason::FragmentTimeout);
        }
        for _ in 0..lost.overlapped {
            self.counters.drop_one(DropReason::FragmentOverlap);
        }
    }

    /// Forgets datagrams that will not be complete any more. Once in a tick.
    pub(crate) fn forget_pieces(&mut self, now: Tick) {
        if self.pieces.memory.live() > 0 {
            self.pieces.memory.expire(now, self.pieces.share);
            self.count_lost();
        }
    }
}

/// What becomes of a fragment without a session: the host may know it.
fn no_session(role: Role, reason: DropReason) -> Report {
    if role.own.is_some() { Verdict::Release.into() } else { reason.into() }
}

fn copy_of<L: Lane>(lane: &mut L, received: Received, bytes: &[u8]) -> Option<L::Buf> {
    let mut buf = lane.alloc(bytes.len())?;
    for (to, from) in buf.data_mut().iter_mut().zip(bytes) {
        *to = *from;
    }
    buf.set_vlan(received.vlan);
    buf.set_gso(None, 0);
    let (l3, l4) = headers_of(&buf).map_or((0, 0), |headers| (headers.l3, headers.l4));
    buf.set_l4_csum(received.csum, l3, l4);
    Some(buf)
}

fn headers_of<B: PacketBuf>(buf: &B) -> Option<Headers> {
    match Headers::parse(buf.data(), buf.total_len()) {
        Ok(Parsed::Ip(headers)) => Some(headers),
        _ => None,
    }
}
