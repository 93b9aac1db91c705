//! SCTP in NAT and FullNAT: which packets open a session, what its packets do to it, and their translation.
//!
//! An association is known by its first path. More addresses that its ends announce in INIT and INIT-ACK pass as
//! they are, as in Linux: a packet from or to one of them belongs to no session and is dropped, so such associations
//! live as long as their first path does. They are counted.
//!
//! Packets of another association of the same ports are told by their tags (RFC 9260 section 8.5) and dropped. Whoever
//! starts anew inside of an open association (section 5.2.2) is let through, and from then on the ends judge
//! tags alone. A packet that changes the session is verified first; all others keep a wrong checksum as wrong.
//!
//! A session has the states of TCP that mean the same:
//!
//! ```text
//!   InitSent SynRecv │ InitAcked SynAck │ CookieEchoed SynSent │ ShutdownSent FinWait │ ShutdownAcked LastAck
//! ```

use crate::admit::Packet;
use crate::carry::{count, reason_of, segment_of};
use crate::director::{Director, Report};
use crate::open::{Before, Wanted};
use crate::outputs::Outputs;
use core::net::SocketAddr;
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::id::{HopId, SessionId};
use lvs_core::io::{L4Csum, Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::session::{Candidate, Flow, Probe, Quad, Segment, TcpState};
use lvs_core::snapshot::Role;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Headers, Transport};
use lvs_nat::sctp::{self, Event, State, Tags};

/// Whether a whole packet is one of SCTP.
pub(crate) const fn is_sctp(headers: &Headers) -> bool {
    matches!(headers.transport, Transport::Other(sctp::PROTOCOL))
}

const fn state_of(state: TcpState) -> State {
    match state {
        TcpState::SynRecv => State::InitSent,
        TcpState::SynAck => State::InitAcked,
        TcpState::SynSent => State::CookieEchoed,
        TcpState::Established => State::Established,
        TcpState::FinWait => State::ShutdownSent,
        TcpState::LastAck => State::ShutdownAcked,
        TcpState::Close => State::Closed,
        _ => State::None,
    }
}

const fn kept_as(state: State) -> TcpState {
    match state {
        State::None => TcpState::None,
        State::InitSent => TcpState::SynRecv,
        State::InitAcked => TcpState::SynAck,
        State::CookieEchoed => TcpState::SynSent,
        State::Established => TcpState::Established,
        State::ShutdownSent => TcpState::FinWait,
        State::ShutdownAcked => TcpState::LastAck,
        State::Closed => TcpState::Close,
    }
}

const fn is_opening(state: State) -> bool {
    matches!(state, State::InitSent | State::InitAcked | State::CookieEchoed)
}

/// What a packet says about its association.
#[derive(Clone, Copy)]
struct Said {
    event: Event,
    tag: u32,
}

impl Said {
    fn of<B: PacketBuf>(packet: &Packet<B>) -> Result<Self, DropReason> {
        let bytes = bytes_of(packet);
        let event = Event::of(bytes, is_whole(packet)).ok_or(DropReason::MalformedSctp)?;
        let tag = sctp::tag(bytes).ok_or(DropReason::MalformedSctp)?;
        Ok(Self { event, tag })
    }
}

/// What becomes of a session by a packet.
struct Step {
    after: State,
    tags: Tags,
    changes: bool,
}

impl<P: PortPlan> Director<'_, P> {
    /// A whole packet of SCTP that may be forwarded.
    pub(crate) fn sctp<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        role: Role,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let Some(tuple) = tuple_of(&packet) else {
            return match role.own {
                Some(_) => Verdict::Release.into(),
                None => DropReason::MalformedSctp.into(),
            };
        };
        packet.headers.tuple = Some(tuple);
        let probe = Probe { tuple, local: role.local };
        let missed = match self.store.lookup_or_missed(&probe, packet.buf.rx_hash()) {
            Ok(candidate) => return self.carry_sctp(now, lane, packet, &tuple, candidate, out),
            Err(missed) => missed,
        };
        if let Some(handed) = self.elsewhere(&packet, role) {
            return handed;
        }
        self.miss(now, lane, packet, (role, missed), out)
    }

    fn carry_sctp<L: Lane>(
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
            return DropReason::NoSession.into();
        };
        let said = match Said::of(&packet) {
            Ok(said) => said,
            Err(reason) => return reason.into(),
        };
        // A new start in the place of an association that is over or nearly so.
        let over = matches!(state_of(flow.before), State::ShutdownAcked | State::Closed);
        let starts =
            candidate.direction == Direction::Inbound && matches!(said.event, Event::Init { .. });
        if starts && over {
            let service = self.snapshot().classify(tuple).map(|service| service.id);
            let Some(service) = service else { return DropReason::NoService.into() };
            return self.open(now, lane, packet, tuple, (service, Before::Session(id)), out);
        }
        let passed = self.pass_sctp(now, lane, packet, tuple, (&flow, id, said), segment, out);
        Report {
            verdict: passed.unwrap_or_else(Verdict::Drop),
            session: Some(id),
            service: self.policy(&flow).service,
            server: Some(flow.server),
        }
    }

    fn pass_sctp<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        (flow, id, said): (&Flow, SessionId, Said),
        segment: Segment,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        if packet.headers.ttl <= 1 {
            return Err(self.expired(now, lane, &packet, out));
        }
        let mut detail = self.store.detail(id).ok_or(DropReason::NoSession)?;
        let known = Tags { client: detail.server_seq_end, server: detail.server_ack };
        let direction = flow.candidate.direction;
        let step = step(state_of(flow.before), known, direction, said)?;
        if step.changes && !is_right(&packet) {
            return Err(DropReason::BadL4Checksum);
        }
        may_leave(&packet)?;
        self.fits_or_tell(now, lane, &packet, (flow.hop, 0), out)?;
        let flow = self.store.packet(flow.candidate, tuple, now.tick(), segment);
        let flow = flow.ok_or(DropReason::NoSession)?;
        if let Some(carried) = self.generation.carried(flow.server) {
            count(carried, direction, segment);
        }
        if step.changes {
            (detail.server_seq_end, detail.server_ack) = (step.tags.client, step.tags.server);
            self.store.set_detail(id, &detail);
            let after = kept_as(step.after);
            if after != flow.before && self.store.set_state(id, after).is_some() {
                let (server, before) = (flow.server, Some(flow.before));
                self.generation.moved(&self.shared, server, before, Some(after));
            }
        }
        self.count_addresses(&packet, said);
        self.send_sctp(now, lane, packet, (&flow.quad, direction), flow.hop, out)
    }

    /// Whether a packet may open a session.
    pub(crate) fn may_open_sctp<B: PacketBuf>(
        &mut self,
        packet: &Packet<B>,
        wanted: &Wanted,
    ) -> Result<(), DropReason> {
        if wanted.one_way.is_some() || wanted.proxy.is_some() {
            return Err(DropReason::UnsupportedProtocol);
        }
        let said = Said::of(packet)?;
        if !matches!(said.event, Event::Init { .. }) || said.tag != 0 {
            return Err(DropReason::NoSession);
        }
        if !is_right(packet) {
            return Err(DropReason::BadL4Checksum);
        }
        may_leave(packet)
    }

    /// Keeps the client's tag of a session that a packet has just opened; its ends.
    pub(crate) fn begin_sctp<B: PacketBuf>(
        &mut self,
        packet: &Packet<B>,
        id: SessionId,
    ) -> Option<Quad> {
        let said = Said::of(packet).ok()?;
        if let (Event::Init { tag }, Some(mut detail)) = (said.event, self.store.detail(id)) {
            detail.server_seq_end = tag;
            self.store.set_detail(id, &detail);
        }
        self.count_addresses(packet, said);
        self.store.session(id).map(|session| session.quad)
    }

    /// Translates a packet and sends it.
    pub(crate) fn send_sctp<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        (quad, direction): (&Quad, Direction),
        hop: HopId,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        let at = |(ip, port)| SocketAddr::new(ip, port);
        let ends = match direction {
            Direction::Inbound => (at(quad.local), at(quad.server)),
            Direction::Return => (at(quad.virt), at(quad.client)),
        };
        let csum = packet.buf.l4_csum();
        let edited = sctp::rewrite(packet.buf.data_mut(), &packet.headers, csum, ends, true);
        edited.map_err(reason_of)?;
        if csum == L4Csum::Partial {
            let Headers { l3, l4, end, .. } = packet.headers;
            let end = usize::try_from(end).unwrap_or(usize::MAX);
            let bytes = packet.buf.data_mut().get_mut(usize::from(l4)..end);
            // Nobody else completes it: what devices complete is another checksum.
            bytes.and_then(sctp::complete).ok_or(DropReason::MalformedSctp)?;
            packet.buf.set_l4_csum(L4Csum::Good, l3, l4);
            self.counters.csum_completed = self.counters.csum_completed.wrapping_add(1);
        }
        Ok(self.emit(now, lane, packet, hop, out))
    }

    fn count_addresses<B: PacketBuf>(&mut self, packet: &Packet<B>, said: Said) {
        let start = matches!(said.event, Event::Init { .. } | Event::InitAck { .. });
        if start && Event::several_addresses(bytes_of(packet)) {
            self.counters.sctp_multihomed = self.counters.sctp_multihomed.wrapping_add(1);
        }
    }
}

/// What a packet does to a session, or that it is of another association.
fn step(before: State, known: Tags, direction: Direction, said: Said) -> Result<Step, DropReason> {
    let (opening, Said { event, tag }) = (is_opening(before), said);
    // Who starts anew inside of an open association is either its client or a stranger, and only the server
    // finds out: neither may lose by it, so tags are not judged here any more.
    let anew = matches!((event, direction), (Event::Init { .. }, Direction::Inbound)) && !opening;
    let tags = if anew { Tags::default() } else { known };
    let learnt = tags.accept(direction, tag, event).ok_or(DropReason::SctpTag)?;
    let tags = if opening { learnt } else { tags };
    let after = before.next(direction, event).unwrap_or(before);
    Ok(Step { after, tags, changes: after != before || tags != known })
}

/// The packet from its common header on, as far as it lies in the first part of its buffer.
fn bytes_of<B: PacketBuf>(packet: &Packet<B>) -> &[u8] {
    let (data, headers) = (packet.buf.data(), &packet.headers);
    let end = usize::try_from(headers.end).unwrap_or(usize::MAX).min(data.len());
    data.get(usize::from(headers.l4)..end).unwrap_or_default()
}

fn is_whole<B: PacketBuf>(packet: &Packet<B>) -> bool {
    usize::try_from(packet.headers.end).is_ok_and(|end| end <= packet.buf.data().len())
}

/// Whether the checksum is right, or will be.
fn is_right<B: PacketBuf>(packet: &Packet<B>) -> bool {
    match packet.buf.l4_csum() {
        L4Csum::Good | L4Csum::Partial => true,
        L4Csum::Bad => false,
        L4Csum::Unknown => is_whole(packet) && sctp::verify(bytes_of(packet), &[]),
    }
}

/// A checksum that is not there yet is computed over the whole packet, so that has to be at hand.
fn may_leave<B: PacketBuf>(packet: &Packet<B>) -> Result<(), DropReason> {
    let train = packet.buf.gso().is_some();
    let unfinished = packet.buf.l4_csum() == L4Csum::Partial && !is_whole(packet);
    if train || unfinished { Err(DropReason::NoGso) } else { Ok(()) }
}

fn tuple_of<B: PacketBuf>(packet: &Packet<B>) -> Option<WireTuple> {
    let (sport, dport) = sctp::ports(bytes_of(packet)).filter(|(s, d)| *s != 0 && *d != 0)?;
    let (src, dst) = packet.headers.addresses(packet.buf.data())?;
    WireTuple::new(L4Proto::Sctp, src, sport, dst, dport)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_kept_as_another_one_and_found_again() {
        let all = [
            State::None,
            State::InitSent,
            State::InitAcked,
            State::CookieEchoed,
            State::Established,
            State::ShutdownSent,
            State::ShutdownAcked,
            State::Closed,
        ];
        assert!(all.iter().all(|state| state_of(kept_as(*state)) == *state));
    }
}
