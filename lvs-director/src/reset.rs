//! Resets of sessions that are ended on purpose, or that expire while their connection is open.
//!
//! A reset must carry exactly the next sequence number that its receiver expects (RFC 5961 section 3.2), which an
//! established session's record does not know (decision 0007). Whoever sends a segment tells it: his acknowledgement
//! is what he expects, and his own number is what the other side expects. So each segment of a session that
//! owes a reset is answered by two, one to each side; when something was still under way and a number has moved, the
//! receiver objects with an acknowledgement that tells the new one, and is answered again. The director starts
//! this off with a segment outside of the server's window, which RFC 9293 section 3.10.7.4 makes the server
//! answer; a session that has not finished its handshake is reset with the numbers that are known.

use crate::admit::Packet;
use crate::client_addr::is_corrupt;
use crate::director::{Director, Report};
use crate::emit::ETHERNET;
use crate::generation::is_half_open;
use crate::one_way::Way;
use crate::outputs::Outputs;
use crate::proxy::list_of;
use core::net::IpAddr;
use lvs_core::addr::MacAddr;
use lvs_core::checksum::{AddrPair, Sum, l4_checksum};
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::id::SessionId;
use lvs_core::io::{L4Csum, Lane, PacketBuf, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::session::tcp::flags::{ACK, FIN, RST, SYN};
use lvs_core::session::{Flow, Quad, Session};
use lvs_core::time::Time;
use lvs_core::verdict::DropReason;
use lvs_core::wire::{Headers, Parsed, Transport, ethernet};

/// The numbers and flags of a segment without payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
}

impl Numbers {
    pub(crate) const fn reset(seq: u32) -> Self {
        Self { seq, ack: 0, flags: RST }
    }
}

/// Server to director or client to service, the other way round: what leaves.
const fn toward(quad: &Quad, direction: Direction) -> Option<WireTuple> {
    match direction {
        Direction::Inbound => {
            WireTuple::new(quad.proto, quad.local.0, quad.local.1, quad.server.0, quad.server.1)
        }
        Direction::Return => {
            WireTuple::new(quad.proto, quad.virt.0, quad.virt.1, quad.client.0, quad.client.1)
        }
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// A segment of a session that owes a reset: it goes no further, and both sides are told.
    pub(crate) fn pay_reset<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        flow: &Flow,
        id: SessionId,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let policy = self.policy(flow);
        let verdict = DropReason::SessionReset.into();
        let report = Report {
            session: Some(id),
            service: policy.service,
            server: Some(flow.server),
            ..verdict
        };
        let (Transport::Tcp { flags, seq, ack, .. }, Some(detail)) =
            (packet.headers.transport, self.store.detail(id))
        else {
            return report;
        };
        // A corrupt segment may say any number; and nobody answers a reset.
        if is_corrupt(packet) || flags & RST != 0 {
            return report;
        }
        let payload = packet.headers.end.saturating_sub(u32::from(packet.headers.payload));
        let syn = u32::from(flags & SYN != 0);
        let taken = payload.wrapping_add(syn).wrapping_add(u32::from(flags & FIN != 0));
        let back = if flags & ACK != 0 {
            Numbers::reset(ack)
        } else {
            Numbers { seq: 0, ack: seq.wrapping_add(taken), flags: RST | ACK }
        };
        let there = flow.candidate.direction;
        let (delta, other, to_me, to_other) = match there {
            Direction::Inbound => {
                (flow.translation.seq_delta, Direction::Return, detail.hop_out, detail.hop_in)
            }
            Direction::Return => {
                (flow.translation.ack_delta, Direction::Inbound, detail.hop_in, detail.hop_out)
            }
        };
        let next = seq.wrapping_add(syn);
        let next = match there {
            Direction::Inbound => {
                list_of(&detail).reset(next, detail.server_ack.wrapping_sub(delta))
            }
            Direction::Return => next,
        };
        let forth = Numbers::reset(next.wrapping_add(delta));
        self.send_bare(now, lane, toward(&flow.quad, other), back, Way::to(to_me), out);
        let Some(one_way) = flow.one_way else {
            self.send_bare(now, lane, toward(&flow.quad, there), forth, Way::to(to_other), out);
            return report;
        };
        if let Ok(way) = self.way_of(one_way, flow.server, to_other) {
            self.send_bare(now, lane, flow.quad.inbound(), forth, way, out);
        }
        report
    }

    /// Starts a reset: with the numbers of the handshake where it is not over, else with a question to the server.
    pub(crate) fn ask_for_numbers<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        session: &Session,
        out: &mut Outputs<L::Buf>,
    ) {
        // The server's answer would not come back here: the client's next segment tells the numbers.
        if session.one_way.is_some() {
            return;
        }
        let Some(detail) = self.store.detail(session.id) else { return };
        let (in_, back) = (Direction::Inbound, Direction::Return);
        let to = |direction| toward(&session.quad, direction);
        if is_half_open(session.state) && !detail.plain {
            // The client waits for an answer to its SYN, and the server, if it has seen one, for an end of it.
            let next = detail.client_isn.wrapping_add(1);
            let refuse = Numbers { seq: 0, ack: next, flags: RST | ACK };
            let seq = match detail.server_first {
                0 => 0,
                first => first.wrapping_add(session.translation.ack_delta),
            };
            let refuse = Numbers { seq, ..refuse };
            self.send_bare(now, lane, to(back), refuse, Way::to(session.hop_out), out);
            let end = Numbers::reset(next.wrapping_add(detail.seq_delta));
            self.send_bare(now, lane, to(in_), end, Way::to(session.hop_in), out);
            return;
        }
        // One before the oldest number that the server is known to have acknowledged lies behind its window.
        let (seq, ack) = (detail.server_ack.wrapping_sub(1), detail.server_seq_end);
        let question = Numbers { seq, ack, flags: ACK };
        self.send_bare(now, lane, to(in_), question, Way::to(session.hop_in), out);
    }

    /// Sends a segment without payload that the director has made itself.
    fn send_bare<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        tuple: Option<WireTuple>,
        numbers: Numbers,
        way: Way,
        out: &mut Outputs<L::Buf>,
    ) {
        let port = self.neighbours.hop(way.hop).map(|way| way.port);
        let (Some(tuple), Some(port)) = (tuple, port) else { return };
        let sent = match bare_packet(lane, port, &tuple, numbers) {
            Some(packet) => match self.send_way(now, lane, packet, &way, out) {
                Ok(lvs_core::verdict::Verdict::Drop(reason)) | Err(reason) => Err(reason),
                Ok(_) => Ok(()),
            },
            None => Err(DropReason::NoBuffer),
        };
        match sent {
            Ok(()) => self.counters.originated = self.counters.originated.wrapping_add(1),
            Err(reason) => self.counters.drop_one(reason),
        }
    }
}

fn bare_packet<L: Lane>(
    lane: &mut L,
    port: PortId,
    tuple: &WireTuple,
    numbers: Numbers,
) -> Option<Packet<L::Buf>> {
    let mut bytes = [0u8; 14 + 40 + 20];
    let len = bare_frame(tuple, numbers, &mut bytes)?;
    let mut buf = lane.alloc(len)?;
    for (to, from) in buf.data_mut().iter_mut().zip(bytes) {
        *to = from;
    }
    let Ok(Parsed::Ip(headers)) = Headers::parse(buf.data(), len) else { return None };
    buf.set_l4_csum(L4Csum::Good, headers.l3, headers.l4);
    Some(Packet { buf, headers, port })
}

/// Writes Ethernet, IP and TCP headers; returns their length. Time to live 64, identification 0, no fragments;
/// window 0.
pub(crate) fn bare_frame(tuple: &WireTuple, numbers: Numbers, out: &mut [u8; 74]) -> Option<usize> {
    let mut tcp = [0u8; 20];
    let [s0, s1] = tuple.sport().to_be_bytes();
    let [d0, d1] = tuple.dport().to_be_bytes();
    let [q0, q1, q2, q3] = numbers.seq.to_be_bytes();
    let [a0, a1, a2, a3] = numbers.ack.to_be_bytes();
    for (to, from) in
        tcp.iter_mut().zip([s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, 0x50, numbers.flags])
    {
        *to = from;
    }
    let pair = AddrPair::from(tuple);
    let sum = l4_checksum(pair, L4Proto::Tcp, 20, Sum::ZERO.bytes(&tcp));
    [tcp[16], tcp[17]] = sum.to_be_bytes();
    let mut ip = [0u8; 40];
    let (ethertype, ip_len) = match (tuple.src(), tuple.dst()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let fixed = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, L4Proto::Tcp.number(), 0, 0];
            let bytes = fixed.into_iter().chain(src.octets()).chain(dst.octets());
            for (to, from) in ip.iter_mut().zip(bytes) {
                *to = from;
            }
            let sum = Sum::ZERO.bytes(ip.get(..20)?).checksum();
            [ip[10], ip[11]] = sum.to_be_bytes();
            (0x0800, 20)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let fixed = [0x60, 0, 0, 0, 0, 20, L4Proto::Tcp.number(), 64];
            let bytes = fixed.into_iter().chain(src.octets()).chain(dst.octets());
            for (to, from) in ip.iter_mut().zip(bytes) {
                *to = from;
            }
            (0x86dd, 40)
        }
        _ => return None,
    };
    let link = ethernet::emit(MacAddr::ZERO, MacAddr::ZERO, None, ethertype, out)?;
    debug_assert_eq!(link, usize::from(ETHERNET));
    let bytes = ip.iter().take(ip_len).chain(&tcp);
    for (to, from) in out.iter_mut().skip(link).zip(bytes) {
        *to = *from;
    }
    Some(link.wrapping_add(ip_len).wrapping_add(20))
}
