//! Packets of a session: state, edits, translation.

use crate::admit::Packet;
use crate::client_addr::{Placed, Telling, carries, growth, is_corrupt, observe};
use crate::director::{Director, Report};
use crate::generation::{Policy, is_half_open};
use crate::open::Before;
use crate::outputs::Outputs;
use crate::proxy::{Speaker, list_of, settle, settles, speaks_proxy};
use lvs_core::counters::Carried;
use lvs_core::flow::{Direction, WireTuple};
use lvs_core::id::SessionId;
use lvs_core::io::{Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::service::ToaOptions;
use lvs_core::session::tcp::flags::{ACK, FIN, RST, SYN};
use lvs_core::session::{Candidate, Detail, Flow, Segment, TcpState, pending};
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Fragment, Transport};
use lvs_nat::options::drop_timestamps;
use lvs_nat::{AnyRewrite, Deltas, End, Ends, Rewrite, RewriteError, SeqDeltas};

/// Flags of a TCP packet, or why nobody may send them.
pub(crate) fn check_flags(transport: &Transport) -> Result<Option<u8>, DropReason> {
    match *transport {
        Transport::Tcp { flags, .. } if flags & (SYN | FIN | RST | ACK) == 0 => {
            Err(DropReason::NullSegment)
        }
        Transport::Tcp { flags, .. } if flags & SYN != 0 && flags & (FIN | RST) != 0 => {
            Err(DropReason::BadFlags)
        }
        Transport::Tcp { flags, .. } => Ok(Some(flags)),
        _ => Ok(None),
    }
}

const fn flags_of(transport: &Transport) -> Option<u8> {
    match *transport {
        Transport::Tcp { flags, .. } => Some(flags),
        _ => None,
    }
}

/// A SYN that asks for a new connection.
pub(crate) const fn is_pure_syn(flags: Option<u8>) -> bool {
    matches!(flags, Some(flags) if flags & (SYN | ACK | FIN | RST) == SYN)
}

/// One packet on its way through its session.
struct Passage {
    flow: Flow,
    id: SessionId,
    policy: Policy,
    detail: Option<Detail>,
    /// Bits of [`pending`] for a session whose details are not at hand.
    noted: u8,
}

impl Passage {
    fn note(&mut self, bits: u8) {
        match &mut self.detail {
            Some(detail) => detail.pending |= bits,
            None => self.noted |= bits,
        }
    }
}

impl<P: PortPlan> Director<'_, P> {
    pub(crate) fn carry<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        candidate: Candidate,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let flags = match check_flags(&packet.headers.transport) {
            Ok(flags) => flags,
            Err(reason) => return reason.into(),
        };
        let segment = segment_of(&packet, flags);
        let seen = self.store.peek(candidate, tuple, segment);
        let (Some(flow), Some(id)) = (seen, self.store.id_of(candidate)) else {
            return DropReason::NoSession.into();
        };
        let inbound = candidate.direction == Direction::Inbound;
        // A session that was open once and asks for a connection again, and again: its client has given it up.
        // Of one whose replies do not pass here nobody knows.
        let given_up = flow.plain && is_half_open(flow.before) && flow.one_way.is_none();
        if inbound && is_pure_syn(flags) && (flow.before.may_be_reused() || given_up) {
            return self.start_anew(now, lane, packet, tuple, id, out);
        }
        if self.store.owes_reset(candidate) {
            return self.pay_reset(now, lane, &packet, &flow, id, out);
        }
        let policy = self.policy(&flow);
        if let Some(one_way) = flow.one_way {
            let passed =
                self.pass_one_way(now, lane, packet, tuple, segment, (&flow, one_way), out);
            let verdict = passed.unwrap_or_else(Verdict::Drop);
            let server = Some(flow.server);
            return Report { verdict, session: Some(id), service: policy.service, server };
        }
        let detail = if is_slow(&flow, flags) { self.store.detail(id) } else { None };
        if !inbound
            && is_half_open(flow.before)
            && let Some(report) = self.reset_half_dead(lane, &packet, &flow, detail.as_ref(), out)
        {
            return Report { session: Some(id), ..report };
        }
        let mut passage = Passage { flow, id, policy, detail, noted: 0 };
        let verdict = match self.pass(now, lane, packet, tuple, segment, &mut passage, out) {
            Ok(verdict) => verdict,
            Err(reason) => Verdict::Drop(reason),
        };
        Report { verdict, session: Some(id), service: policy.service, server: Some(flow.server) }
    }

    /// A client opens a new connection with the port of one that is over.
    fn start_anew<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        old: SessionId,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let service = self.snapshot().classify(tuple);
        let Some(service) = service.map(|service| service.id) else {
            return DropReason::NoService.into();
        };
        if is_corrupt(&packet) {
            return DropReason::BadL4Checksum.into();
        }
        self.open(now, lane, packet, tuple, (service, Before::Session(old)), out)
    }

    pub(crate) fn policy(&self, flow: &Flow) -> Policy {
        self.generation.policy(flow.server)
    }

    fn pass<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        tuple: &WireTuple,
        segment: Segment,
        passage: &mut Passage,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        if packet.headers.ttl <= 1 {
            return Err(self.expired(now, lane, &packet, out));
        }
        let flow = passage.flow;
        let inbound = flow.candidate.direction == Direction::Inbound;
        let nat64 = flow.quad.is_nat64();
        let mut ahead = None;
        if inbound {
            if nat64 {
                let gain = passage.policy.toa.map_or(0, |toa| growth(&toa, &flow.quad));
                self.make_v4(now, lane, &mut packet, (&flow.quad, flow.hop, gain), out)?;
            }
            self.renew_isn(now, passage, &packet)?;
            ahead = self.inbound_edits(now, lane, &mut packet, passage, out)?;
        } else if nat64 {
            self.fits_as_v6_or_tell(now, lane, &packet, flow.hop, out)?;
        } else {
            self.fits_or_tell(now, lane, &packet, (flow.hop, 0), out)?;
        }
        let Some(flow) = self.store.packet(flow.candidate, tuple, now.tick(), segment) else {
            return Err(DropReason::NoSession);
        };
        self.book(passage, &flow, &packet, segment);
        if !inbound {
            self.return_edits(&mut packet, passage);
        }
        // What the packet has settled counts from the next one on.
        let rewrite = rewrite_of(&flow, passage.detail.as_ref()).ok_or(DropReason::NoSession)?;
        let csum = packet.buf.l4_csum();
        rewrite.apply(packet.buf.data_mut(), &packet.headers, csum).map_err(reason_of)?;
        if let Some(detail) = passage.detail.as_ref().filter(|_| !inbound) {
            self.proxy_return(&mut packet, &list_of(detail));
        }
        if let Some(mut ahead) = ahead {
            let csum = ahead.buf.l4_csum();
            rewrite.apply(ahead.buf.data_mut(), &ahead.headers, csum).map_err(reason_of)?;
            self.counters.originated = self.counters.originated.wrapping_add(1);
            self.emit(now, lane, ahead, flow.hop, out);
        }
        if nat64 && !inbound {
            return self.emit_as_v6(now, lane, packet, (&flow.quad, flow.hop), out);
        }
        Ok(self.emit(now, lane, packet, flow.hop, out))
    }

    /// A SYN with another number on a half-open session: the client gave the first attempt up. A corrupt
    /// one may carry any number, and would part the numbers of client and server for good.
    fn renew_isn<B: PacketBuf>(
        &self,
        now: Time,
        passage: &mut Passage,
        packet: &Packet<B>,
    ) -> Result<(), DropReason> {
        let Transport::Tcp { flags, seq, .. } = packet.headers.transport else { return Ok(()) };
        let Some(detail) = passage.detail.as_mut() else { return Ok(()) };
        let half_open = is_half_open(passage.flow.before);
        if !is_pure_syn(Some(flags)) || !half_open || detail.client_isn == seq {
            return Ok(());
        }
        if is_corrupt(packet) {
            return Err(DropReason::BadL4Checksum);
        }
        if passage.policy.new_isn {
            let isn = self.new_isn(now, &passage.flow.quad, None);
            detail.seq_delta = isn.wrapping_sub(seq);
        }
        detail.client_isn = seq;
        detail.server_first = 0;
        detail.edit = (0, 0);
        // What the server was told before was about a connection that is none.
        detail.pending &= pending::FORGED;
        if passage.policy.toa.is_some() {
            detail.pending |= pending::TOA;
        }
        if passage.policy.proxy.is_some() {
            detail.pending |= pending::PROXY;
        }
        Ok(())
    }

    /// Everything that is done to a client's segment before its translation. What comes back is a segment
    /// of the director's own that goes ahead.
    fn inbound_edits<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        passage: &mut Passage,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Option<Packet<L::Buf>>, DropReason> {
        if passage.detail.as_ref().is_some_and(speaks_proxy) {
            self.take_out(packet, passage);
            return self.speak_proxy(now, lane, packet, passage, out);
        }
        let (hop, toa) = (passage.flow.hop, passage.policy.toa);
        let wanted = toa.filter(|toa| {
            let detail = passage.detail.as_ref();
            detail.is_some_and(|detail| carries(toa, detail, &packet.headers.transport))
        });
        let gain = match (toa, packet.headers.transport) {
            (Some(toa), Transport::Tcp { .. }) => growth(&toa, &passage.flow.quad),
            _ => 0,
        };
        // Too large only with the option: the ladder for "no room" decides.
        if wanted.is_none() || self.fits(now, lane, packet, hop, gain).is_err() {
            self.fits_or_tell(now, lane, packet, (hop, gain), out)?;
        }
        self.take_out(packet, passage);
        match (toa, wanted) {
            (_, Some(own)) => self.tell_server(now, lane, packet, (passage, &own), out),
            (Some(_), None) if is_pure_syn(flags_of(&packet.headers.transport)) => {
                self.hold_data_back(packet).map(|_| None)
            }
            _ => Ok(None),
        }
    }

    /// Takes out what a client must not tell its server.
    fn take_out<B: PacketBuf>(&mut self, packet: &mut Packet<B>, passage: &mut Passage) {
        if self.strip_forged(packet, passage.policy.forged_kinds()) {
            passage.note(pending::FORGED);
        }
        self.drop_syn_timestamps(packet, passage.policy.strip_timestamps);
    }

    /// Puts the client's address into a segment, or whatever else tells it.
    fn tell_server<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        (passage, own): (&mut Passage, &ToaOptions),
        out: &mut Outputs<L::Buf>,
    ) -> Result<Option<Packet<L::Buf>>, DropReason> {
        let Some(detail) = passage.detail.as_mut() else { return Ok(None) };
        let (quad, hop) = (&passage.flow.quad, passage.flow.hop);
        let mut telling = Telling { own, quad, hop, pending: &mut detail.pending };
        match self.insert_toa(now, lane, packet, &mut telling)? {
            Placed::Here | Placed::Later => Ok(None),
            Placed::Ahead(ahead) => Ok(Some(ahead)),
            Placed::ByProxy => self.speak_proxy(now, lane, packet, passage, out),
        }
    }

    /// Edits a client's segment of a session that speaks PROXY.
    fn speak_proxy<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        passage: &mut Passage,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Option<Packet<L::Buf>>, DropReason> {
        if packet.headers.fragment != Fragment::No {
            // Offsets of the other pieces cannot follow a header in front of this one.
            return Err(DropReason::Fragment);
        }
        let (quad, hop, options) =
            (passage.flow.quad, passage.flow.hop, passage.policy.spoken_proxy());
        let Some(detail) = passage.detail.as_mut() else { return Ok(None) };
        let mut speaker = Speaker { detail, quad, hop, options };
        self.proxy_inbound(now, lane, packet, &mut speaker, out)
    }

    pub(crate) fn drop_syn_timestamps<B: PacketBuf>(&self, packet: &mut Packet<B>, strip: bool) {
        let Transport::Tcp { flags, .. } = packet.headers.transport else { return };
        if strip && flags & SYN != 0 {
            let csum = packet.buf.l4_csum();
            // The headers are this frame's, so nothing can be refused.
            let _ = drop_timestamps(packet.buf.data_mut(), &packet.headers, csum);
        }
    }

    /// Counts the packet, and keeps what it taught about the session.
    fn book<B: PacketBuf>(
        &mut self,
        passage: &mut Passage,
        flow: &Flow,
        packet: &Packet<B>,
        segment: Segment,
    ) {
        let direction = flow.candidate.direction;
        if flow.before != flow.after {
            self.generation.moved(&self.shared, flow.server, Some(flow.before), Some(flow.after));
        }
        if let Some(carried) = self.generation.carried(flow.server) {
            count(carried, direction, segment);
        }
        if passage.noted != 0 {
            self.keep_note(passage);
        }
        let Some(detail) = passage.detail.as_mut() else { return };
        let headers = &packet.headers;
        let payload = headers.end.saturating_sub(u32::from(headers.payload));
        let established = flow.after == TcpState::Established;
        let settled = settles(detail, direction, packet);
        let _ = observe(detail, direction, &headers.transport, payload, established);
        let Some(ack) = settled else { return self.store.set_detail(passage.id, detail) };
        let mut after = *detail;
        settle(&mut after, ack);
        after.plain |= established && after.pending & pending::TOA == 0;
        self.store.set_detail(passage.id, &after);
    }

    /// Keeps what was noted about a session whose details were not at hand.
    #[cold]
    fn keep_note(&mut self, passage: &Passage) {
        if let Some(mut detail) = self.store.detail(passage.id) {
            detail.pending |= passage.noted;
            self.store.set_detail(passage.id, &detail);
        }
    }

    /// Everything that is done to a server's segment before its translation.
    fn return_edits<B: PacketBuf>(&self, packet: &mut Packet<B>, passage: &Passage) {
        let Transport::Tcp { flags, .. } = packet.headers.transport else { return };
        let Some(toa) = passage.policy.toa else { return };
        if flags & (SYN | ACK) == SYN | ACK && toa.placement.later() {
            self.leave_room(packet, &toa, &passage.flow.quad);
        }
    }
}

/// Whether a packet needs the session's cold record.
const fn is_slow(flow: &Flow, flags: Option<u8>) -> bool {
    match flags {
        None => false,
        Some(flags) => {
            !flow.plain
                || flags & (SYN | FIN | RST) != 0
                || !matches!(flow.after, TcpState::Established)
        }
    }
}

pub(crate) fn segment_of<B: PacketBuf>(packet: &Packet<B>, tcp_flags: Option<u8>) -> Segment {
    let headers = &packet.headers;
    Segment { tcp_flags, bytes: headers.end.saturating_sub(u32::from(headers.l3)) }
}

pub(crate) const fn count(carried: &mut Carried, direction: Direction, segment: Segment) {
    let traffic = match direction {
        Direction::Inbound => &mut carried.inbound,
        Direction::Return => &mut carried.outbound,
    };
    traffic.add(segment.bytes as u64);
}

pub(crate) const fn reason_of(error: RewriteError) -> DropReason {
    match error {
        RewriteError::TtlExpired => DropReason::TtlExceeded,
        RewriteError::NoRoom => DropReason::NoHeadroom,
        RewriteError::TooLong => DropReason::TooBig,
        RewriteError::NoGso | RewriteError::NotWhole => DropReason::NoGso,
        _ => DropReason::NoSession,
    }
}

/// The header edit for one packet of a session.
pub(crate) fn rewrite_of(flow: &Flow, detail: Option<&Detail>) -> Option<AnyRewrite> {
    let quad = &flow.quad;
    let stored = &flow.translation;
    let deltas = Deltas { l4: stored.l4_delta, ip: stored.ip_delta };
    let seq = detail.map_or(stored.seq_delta, |detail| detail.seq_delta);
    let seq = SeqDeltas { seq, ack: stored.ack_delta };
    let direction = flow.candidate.direction;
    let rewrite = match ends_of(quad)? {
        AnyEnds::V4(ends) => AnyRewrite::V4(match direction {
            Direction::Inbound => Rewrite::inbound(&ends, deltas, seq),
            Direction::Return => Rewrite::returning(&ends, deltas, seq),
        }),
        AnyEnds::V6(ends) => AnyRewrite::V6(match direction {
            Direction::Inbound => Rewrite::inbound(&ends, deltas, seq),
            Direction::Return => Rewrite::returning(&ends, deltas, seq),
        }),
    };
    Some(rewrite.decrement_ttl(true))
}

/// The ends of a session, in the family in which its packets are edited.
pub(crate) enum AnyEnds {
    V4(Ends<u32>),
    V6(Ends<u128>),
}

pub(crate) fn ends_of(quad: &lvs_core::session::Quad) -> Option<AnyEnds> {
    use core::net::IpAddr::{V4, V6};
    let (client, virt, local, server) = (quad.client, quad.virt, quad.local, quad.server);
    match (client.0, virt.0, local.0, server.0) {
        (V4(c), V4(v), V4(l), V4(s)) => Some(AnyEnds::V4(Ends {
            client: End::new(c.to_bits(), client.1),
            virt: End::new(v.to_bits(), virt.1),
            local: End::new(l.to_bits(), local.1),
            server: End::new(s.to_bits(), server.1),
        })),
        (V6(c), V6(v), V6(l), V6(s)) => Some(AnyEnds::V6(Ends {
            client: End::new(c.to_bits(), client.1),
            virt: End::new(v.to_bits(), virt.1),
            local: End::new(l.to_bits(), local.1),
            server: End::new(s.to_bits(), server.1),
        })),
        // NAT64: what is left for IPv4 to do, before or behind the change of version, is to move numbers.
        (V6(_), V6(_), V4(l), V4(s)) => {
            let (local, server) = (End::new(l.to_bits(), local.1), End::new(s.to_bits(), server.1));
            Some(AnyEnds::V4(Ends { client: local, virt: server, local, server }))
        }
        _ => None,
    }
}
