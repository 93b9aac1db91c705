//! Packets of sessions.

mod address;
mod opening;

use super::sessions::Numbers;
use super::{Model, Outcome, Passing, Sent, drop, options, tcp};
use crate::build::fragments;
use address::{has_acked, wants_address};
use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::{LocalAddress, RealAddr};
use lvs_core::flow::Direction;
use lvs_core::io::BURST;
use lvs_core::io::{L4Csum, PortId};
use lvs_core::service::{ClientAddrMode, Forwarding, ToaFormat, ToaOptions};
use lvs_core::session::{Quad, TcpState};
use lvs_core::snapshot::ServiceSpec;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_nat::isn::{isn, isn_past};
use tcp::{ACK, FIN, RST, SYN};

/// The flags of a TCP segment, or why nobody may send them.
fn flags_of(packet: &Passing) -> Result<Option<u8>, DropReason> {
    match packet.ip.tcp().map(|tcp| tcp.flags) {
        Some(flags) if flags & (SYN | FIN | RST | ACK) == 0 => Err(DropReason::NullSegment),
        Some(flags) if flags & SYN != 0 && flags & (FIN | RST) != 0 => Err(DropReason::BadFlags),
        flags => Ok(flags),
    }
}

/// Whether a segment is known to be wrong, or would be if somebody looked.
fn is_corrupt(packet: &Passing) -> bool {
    packet.ip.fragment
        || packet.ip.csum == L4Csum::Unknown && packet.ip.tcp().is_some() && !packet.ip.is_right()
}

fn asks_for_a_connection(flags: Option<u8>) -> bool {
    flags.is_some_and(|flags| flags & (SYN | ACK | RST | FIN) == SYN)
}

fn address_option(service: &ServiceSpec) -> Option<ToaOptions> {
    match service.client_addr {
        ClientAddrMode::Toa(options) => Some(options),
        _ => None,
    }
}

/// Bytes of the address option for a client.
fn option_len(toa: &ToaOptions, client: IpAddr) -> usize {
    match toa.format {
        _ if client.is_ipv6() => 20,
        ToaFormat::WithVirtual => 16,
        ToaFormat::Port | ToaFormat::Versioned => 8,
    }
}

impl Model {
    /// A number for the server's side; behind the numbers of whoever had the port before.
    fn server_isn(&self, now: Time, quad: &Quad, look_back: bool) -> core::num::Wrapping<u32> {
        let key = &self.world.setup().isn_key;
        let local = LocalAddress::new(quad.local.0, quad.local.1);
        let server = RealAddr::new(quad.server.0, quad.server.1);
        let before = self.sessions.previous(quad.local).filter(|_| look_back);
        w(match before {
            Some((whose, expected)) if whose == quad.server && expected != 0 => {
                isn_past(key, &local, &server, now.0, expected)
            }
            _ => isn(key, &local, &server, now.0),
        })
    }

    /// A packet of a session.
    pub(super) fn carry(
        &mut self,
        now: Time,
        packet: Passing,
        at: usize,
        direction: Direction,
    ) -> Outcome {
        let flags = match flags_of(&packet) {
            Ok(flags) => flags,
            Err(reason) => return drop(reason),
        };
        let session = &self.sessions.live[at];
        let over = matches!(session.state, TcpState::TimeWait | TcpState::Close);
        // A session that was open asks for a connection a second time: its client has given it up.
        let again = session.plain && is_half_open(session.state);
        if direction == Direction::Inbound && asks_for_a_connection(flags) && (over || again) {
            let (ip, port) = session.quad.virt;
            return match self.world.service_at(session.quad.proto, ip, port) {
                // Nobody but an intact segment decides about a session.
                Some(_) if is_corrupt(&packet) => drop(DropReason::BadL4Checksum),
                Some(service) => self.open(now, packet, service, Some(at)),
                None => drop(DropReason::NoService),
            };
        }
        let mut outcome = Outcome::from(Verdict::Release);
        outcome.session = Some(session.inbound());
        outcome.service = Some(session.service);
        outcome.server = Some(session.server);
        if direction == Direction::Return && self.is_of_before(at, &packet) {
            outcome.verdict = self.reset(packet).unwrap_or_else(Verdict::Drop);
            return outcome;
        }
        let verdict = self.pass(now, packet, at, direction, flags);
        outcome.verdict = verdict.unwrap_or_else(Verdict::Drop);
        outcome
    }

    /// Whether a server that has not agreed yet speaks of another connection: of one that had the local
    /// port before.
    fn is_of_before(&self, at: usize, packet: &Passing) -> bool {
        let session = &self.sessions.live[at];
        let Some(tcp) = packet.ip.tcp() else { return false };
        let expected = w(session.numbers.client_isn) + w(session.seq_delta) + w(1);
        self.service_of(at).forwarding == Forwarding::FullNat
            && session.state == TcpState::SynRecv
            && !session.plain
            && session.numbers.server_first == 0
            && tcp.flags & (SYN | RST | ACK) == ACK
            && w(tcp.ack) != expected
    }

    /// Ends that connection as its peer would.
    fn reset(&mut self, mut packet: Passing) -> Result<Verdict, DropReason> {
        if is_corrupt(&packet) {
            return Err(DropReason::BadL4Checksum);
        }
        let (to, from) = (packet.ip.src_mac(), packet.ip.dst_mac());
        packet.ip.set_macs(to, from);
        (packet.ip.src, packet.ip.dst) = (packet.ip.dst, packet.ip.src);
        packet.ip.ttl = 64;
        packet.ip.tcp_mut().ok_or(DropReason::NoSession)?.make_reset();
        packet.ip.set_right();
        let bytes = packet.ip.build().ok_or(DropReason::NoSession)?;
        let mut sent = Sent::own(packet.port, bytes, packet.vlan);
        sent.csum = L4Csum::Good;
        self.sent.push(sent);
        Ok(Verdict::Answer(packet.port))
    }

    fn pass(
        &mut self,
        now: Time,
        mut packet: Passing,
        at: usize,
        direction: Direction,
        flags: Option<u8>,
    ) -> Result<Verdict, DropReason> {
        if packet.ip.ttl <= 1 {
            return Err(DropReason::TtlExceeded);
        }
        let (spec, received) = (self.service_of(at).clone(), packet.ip.len());
        let session = &self.sessions.live[at];
        let hop = if direction == Direction::Inbound { session.hop_in } else { session.hop_out };
        let (quad, mut numbers, mut delta) = (session.quad, session.numbers, w(session.seq_delta));
        let toa = address_option(&spec);
        let mut ahead = None;
        if direction == Direction::Inbound {
            if let Some(tcp) = packet.ip.tcp()
                && asks_for_a_connection(flags)
                && is_half_open(session.state)
                && tcp.seq != numbers.client_isn
            {
                // The client has given its first attempt up.
                if is_corrupt(&packet) {
                    return Err(DropReason::BadL4Checksum);
                }
                if spec.forwarding == Forwarding::FullNat {
                    delta = self.server_isn(now, &quad, false) - w(tcp.seq);
                }
                (numbers.client_isn, numbers.server_first) = (tcp.seq, 0);
                numbers.owes_address |= toa.is_some();
            }
            let carries = toa.filter(|toa| {
                !session.plain && numbers.owes_address && wants_address(&packet, toa, &numbers)
            });
            let fits = self.fits(
                now,
                &packet,
                hop,
                carries.map_or(0, |toa| option_len(&toa, quad.client.0)),
            );
            fits.or_else(|reason| match carries {
                Some(_) => self.fits(now, &packet, hop, 0),
                None => Err(reason),
            })?;
            self.take_out(&mut packet, &spec, toa.as_ref());
            if let Some(toa) = carries {
                ahead = self.put_in(now, &mut packet, &toa, ends(quad.client, quad.virt), hop)?;
            } else if toa.is_some() && asks_for_a_connection(flags) {
                self.hold_data_back(&mut packet);
            }
        } else {
            self.fits(now, &packet, hop, 0)?;
        }
        self.take_in(now, at, direction, received, flags);
        self.sessions.live[at].seq_delta = delta.0;
        self.learn_numbers(at, numbers, direction, &packet);
        if let Some(toa) = toa
            && direction == Direction::Return
            && (toa.placement.handshake || toa.placement.until_server_data)
            && let Some(tcp) = packet.ip.tcp_mut()
            && tcp.flags & (SYN | ACK) == SYN | ACK
        {
            // RFC 9293 section 3.7.1: what every host takes anyway.
            let floor = if quad.client.0.is_ipv4() { 536 } else { 1220 };
            let by = option_len(&toa, quad.client.0) as u16;
            options::lower_mss(&mut tcp.options, by, floor);
        }
        if let Some(mut ahead) = ahead {
            self.translate(&mut ahead, at, direction);
            self.count("originated");
            self.emit(now, ahead, hop);
        }
        self.translate(&mut packet, at, direction);
        Ok(self.emit(now, packet, hop))
    }

    /// What a packet teaches about a session that is not plain.
    fn learn_numbers(
        &mut self,
        at: usize,
        mut numbers: Numbers,
        from: Direction,
        packet: &Passing,
    ) {
        let session = &mut self.sessions.live[at];
        let Some(tcp) = packet.ip.tcp() else { return };
        let ordinary = tcp.flags & (SYN | FIN | RST) == 0 && session.state == TcpState::Established;
        if session.plain && ordinary {
            return;
        }
        let bit = |flag: u8| u32::from(tcp.flags & flag != 0);
        if from == Direction::Return && tcp.flags & RST == 0 {
            let end = w(tcp.seq) + w(tcp.payload.len() as u32) + w(bit(SYN)) + w(bit(FIN));
            if bit(SYN) == 1 {
                // 0 stands for "unknown".
                numbers.server_first = tcp.seq.wrapping_add(1).max(1);
            }
            if bit(SYN) == 1 || tcp::after(end.0, numbers.server_end) || numbers.server_end == 0 {
                numbers.server_end = end.0;
            }
            if bit(ACK) == 1 {
                numbers.server_ack = tcp.ack;
            }
        }
        if from == Direction::Inbound && tcp.flags & (SYN | RST) == 0 && has_acked(tcp, &numbers) {
            numbers.owes_address = false;
        }
        if session.state == TcpState::Established && !numbers.owes_address {
            session.plain = true;
        }
        if session.plain {
            (numbers.client_isn, numbers.server_first) = (0, 0);
        }
        session.numbers = numbers;
    }

    /// Whether a packet can leave toward a next hop when its headers grow.
    pub(super) fn fits(
        &self,
        now: Time,
        packet: &Passing,
        hop: usize,
        growth: usize,
    ) -> Result<(), DropReason> {
        if self.hops.is_down(hop, now) {
            return Err(DropReason::NeighbourFailed);
        }
        let port = self.hops.place(hop).port;
        let (l3, _, payload, end) = packet.ip.offsets();
        let len = match packet.gso {
            Some(gso) if !self.world.setup().ports[port.index()].gso.takes(gso.kind) => {
                return Err(DropReason::NoGso);
            }
            // A growing train is cut into smaller segments, down to one byte each.
            Some(_) if growth > 0 => payload - l3 + 1,
            Some(gso) => payload - l3 + usize::from(gso.size),
            None => end - l3,
        };
        let cut = growth == 0 && self.is_cut(packet, port);
        if len + growth > self.most(packet, port) && !cut {
            return Err(DropReason::TooBig);
        }
        if growth > packet.headroom { Err(DropReason::NoHeadroom) } else { Ok(()) }
    }

    /// Whether a packet is too long for a port and may be cut into no more pieces than a burst has places.
    pub(super) fn is_cut(&self, packet: &Passing, port: PortId) -> bool {
        let ((l3, _, _, end), most) = (packet.ip.offsets(), self.most(packet, port));
        let long = packet.gso.is_none() && end - l3 > most;
        // Less than the longest header and a piece: nobody has such a link.
        long && packet.ip.may_be_cut()
            && most >= 68
            && packet.ip.build().is_some_and(|whole| fragments(&whole, most, 0).len() <= BURST)
    }

    /// The largest that the IP packet may be on a port.
    pub(super) fn most(&self, packet: &Passing, port: PortId) -> usize {
        // A packet that stays on its port keeps its tags.
        let link = if port == packet.port { packet.ip.offsets().0 } else { 14 };
        let max_frame = usize::from(self.world.setup().ports[port.index()].max_frame);
        self.world.mtu(port).min(max_frame - link)
    }

    /// Makes a packet of a session what the other side is to see.
    fn translate(&self, packet: &mut Passing, at: usize, direction: Direction) {
        let session = &self.sessions.live[at];
        let (quad, delta) = (&session.quad, session.seq_delta);
        let (src, dst) = match direction {
            Direction::Inbound => (quad.local, quad.server),
            Direction::Return => (quad.virt, quad.client),
        };
        (packet.ip.src, packet.ip.dst) = (src.0, dst.0);
        packet.ip.set_ports(src.1, dst.1);
        packet.ip.ttl -= 1;
        let Some(tcp) = packet.ip.tcp_mut() else { return };
        match direction {
            Direction::Inbound => tcp.seq = tcp.seq.wrapping_add(delta),
            Direction::Return if tcp.flags & ACK != 0 => {
                tcp.ack = tcp.ack.wrapping_sub(delta);
                options::shift_sack(&mut tcp.options, delta);
            }
            Direction::Return => {}
        }
    }
}

fn ends(client: (IpAddr, u16), virt: (IpAddr, u16)) -> (SocketAddr, SocketAddr) {
    (client.into(), virt.into())
}

fn w(number: u32) -> core::num::Wrapping<u32> {
    core::num::Wrapping(number)
}

fn is_half_open(state: TcpState) -> bool {
    matches!(state, TcpState::SynRecv | TcpState::SynSent)
}
