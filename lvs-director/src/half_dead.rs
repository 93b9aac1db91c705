//! A server that takes the connection before for alive: its words on a local port that belongs to a new
//! client by now.
//!
//! After a cold start, or when a client has vanished, a server may hold a connection of a local port that
//! the director gives away again. It answers the new client's SYN by an acknowledgement in the numbers of
//! the old connection (RFC 9293 section 3.10.7.4, RFC 5961 section 4). Were that led to the client, its
//! reset would end the new session as well. So the director does what the peer of the old connection would
//! do (RFC 9293 section 3.5.2, group 1): it resets it, in the server's own numbers. The client repeats its
//! SYN, and finds the port free.

use crate::admit::Packet;
use crate::client_addr::is_corrupt;
use crate::director::{Director, Report};
use crate::outputs::Outputs;
use lvs_core::addr::Family;
use lvs_core::checksum::{AddrPair, Delta, Sum, l4_checksum};
use lvs_core::flow::L4Proto;
use lvs_core::io::{L4Csum, Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::session::tcp::flags::{ACK, RST, SYN};
use lvs_core::session::{Detail, Flow, TcpState};
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Headers, Parsed, Transport};

/// Hops that the reset may take; what came from a server reaches it again.
const TTL: u8 = 64;

impl<P: PortPlan> Director<'_, P> {
    /// Resets the server's old connection when its segment shows that it has one. `None`: it has not.
    pub(crate) fn reset_half_dead<L: Lane>(
        &mut self,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        flow: &Flow,
        detail: Option<&Detail>,
        out: &mut Outputs<L::Buf>,
    ) -> Option<Report> {
        let policy = self.policy(flow);
        if !policy.new_isn || !is_of_before(flow, detail?, &packet.headers.transport) {
            return None;
        }
        let verdict = match reset_of(lane, packet) {
            Ok(reset) => match out.push(lane, packet.port, reset) {
                Ok(()) => Verdict::Answer(packet.port),
                Err(_full) => Verdict::Drop(DropReason::TxFull),
            },
            Err(reason) => Verdict::Drop(reason),
        };
        Some(Report { verdict, session: None, service: policy.service, server: Some(flow.server) })
    }
}

/// Whether a server's segment cannot be an answer to the SYN of this session: it acknowledges something
/// else, and the server has not agreed yet.
const fn is_of_before(flow: &Flow, detail: &Detail, transport: &Transport) -> bool {
    let Transport::Tcp { flags, ack, .. } = *transport else { return false };
    let next = detail.client_isn.wrapping_add(detail.seq_delta).wrapping_add(1);
    matches!(flow.before, TcpState::SynRecv)
        && !flow.plain
        && flags & (SYN | RST | ACK) == ACK
        && detail.server_first == 0
        && ack != next
}

/// The reset that answers a segment: where that one came from, with the number that it expects.
fn reset_of<L: Lane>(lane: &mut L, packet: &Packet<L::Buf>) -> Result<L::Buf, DropReason> {
    let mut answer = empty_ack_of(lane, packet)?;
    let headers = answer.headers;
    turn_around(answer.buf.data_mut(), &headers).ok_or(DropReason::NoSession)?;
    Ok(answer.buf)
}

/// An acknowledgement without payload and options, made from the headers of a segment. Its checksum is
/// new, so the segment's own is verified first: a corrupt segment must not be made to look sound.
fn empty_ack_of<L: Lane>(
    lane: &mut L,
    packet: &Packet<L::Buf>,
) -> Result<Packet<L::Buf>, DropReason> {
    let (data, headers) = (packet.buf.data(), &packet.headers);
    let tuple = headers.tuple.ok_or(DropReason::NoSession)?;
    let pair = AddrPair::from(&tuple);
    if is_corrupt(packet) {
        return Err(DropReason::BadL4Checksum);
    }
    let len = usize::from(headers.l4).saturating_add(TCP_FIXED);
    let source = data.get(..len).ok_or(DropReason::NoSession)?;
    let mut buf = lane.alloc(len).ok_or(DropReason::NoBuffer)?;
    for (to, from) in buf.data_mut().iter_mut().zip(source) {
        *to = *from;
    }
    empty_ack(buf.data_mut(), headers, pair).ok_or(DropReason::NoSession)?;
    buf.set_vlan(packet.buf.vlan());
    buf.set_gso(None, 0);
    buf.set_l4_csum(L4Csum::Good, headers.l3, headers.l4);
    let parsed = Headers::parse(buf.data(), len).map_err(|_| DropReason::NoSession)?;
    let Parsed::Ip(headers) = parsed else { return Err(DropReason::NoSession) };
    Ok(Packet { buf, headers, port: packet.port })
}

/// Bytes of a TCP header without options.
const TCP_FIXED: usize = 20;

/// Makes the headers in `frame` those of an acknowledgement that ends with them.
fn empty_ack(frame: &mut [u8], headers: &Headers, pair: AddrPair) -> Option<()> {
    let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
    let (ip, tcp) = frame.split_at_mut_checked(l4)?;
    let ip = ip.get_mut(l3..)?;
    let ip_len = u16::try_from(ip.len().saturating_add(TCP_FIXED)).ok()?;
    match headers.family {
        Family::V4 => {
            let fixed = ip.first_chunk_mut::<20>()?;
            let old = u16::from_be_bytes([fixed[2], fixed[3]]);
            let sum = u16::from_be_bytes([fixed[10], fixed[11]]);
            let sum = Delta::ZERO.u16(old, ip_len).apply(sum);
            [fixed[2], fixed[3]] = ip_len.to_be_bytes();
            [fixed[10], fixed[11]] = sum.to_be_bytes();
        }
        Family::V6 => {
            let fixed = ip.first_chunk_mut::<40>()?;
            [fixed[4], fixed[5]] = ip_len.saturating_sub(40).to_be_bytes();
        }
    }
    let tcp = tcp.first_chunk_mut::<TCP_FIXED>()?;
    (tcp[12], tcp[13]) = (0x50, ACK);
    (tcp[16], tcp[17], tcp[18], tcp[19]) = (0, 0, 0, 0);
    let sum = Sum::ZERO.bytes(&tcp[..]);
    [tcp[16], tcp[17]] = l4_checksum(pair, L4Proto::Tcp, 20, sum).to_be_bytes();
    Some(())
}

/// Makes an acknowledgement without payload and options the reset that answers it.
fn turn_around(frame: &mut [u8], headers: &Headers) -> Option<()> {
    let pair = AddrPair::from(&headers.tuple?);
    let (link, rest) = frame.split_at_mut_checked(headers.l3.into())?;
    let (to, from) = link.first_chunk_mut::<12>()?.split_at_mut_checked(6)?;
    swap(to, from);
    let (ip, tcp) = rest.split_at_mut_checked(headers.l4.saturating_sub(headers.l3).into())?;
    match headers.family {
        Family::V4 => {
            let fixed = ip.first_chunk_mut::<20>()?;
            let (old, protocol) = (fixed[8], fixed[9]);
            let sum = u16::from_be_bytes([fixed[10], fixed[11]]);
            let (old, new) =
                (u16::from_be_bytes([old, protocol]), u16::from_be_bytes([TTL, protocol]));
            [fixed[10], fixed[11]] = Delta::ZERO.u16(old, new).apply(sum).to_be_bytes();
            fixed[8] = TTL;
            let (_, addresses) = fixed.split_at_mut_checked(12)?;
            let (source, destination) = addresses.split_at_mut_checked(4)?;
            swap(source, destination);
        }
        Family::V6 => {
            let fixed = ip.first_chunk_mut::<40>()?;
            fixed[7] = TTL;
            let (_, addresses) = fixed.split_at_mut_checked(8)?;
            let (source, destination) = addresses.split_at_mut_checked(16)?;
            swap(source, destination);
        }
    }
    let tcp = tcp.first_chunk_mut::<20>()?;
    [tcp[0], tcp[1], tcp[2], tcp[3]] = [tcp[2], tcp[3], tcp[0], tcp[1]];
    // RFC 9293 section 3.10.7.4: SEQ=SEG.ACK, without an acknowledgement.
    [tcp[4], tcp[5], tcp[6], tcp[7]] = [tcp[8], tcp[9], tcp[10], tcp[11]];
    [tcp[8], tcp[9], tcp[10], tcp[11]] = [0; 4];
    tcp[13] = RST;
    [tcp[14], tcp[15], tcp[16], tcp[17]] = [0; 4];
    // The pseudo header of the way back has the same sum.
    let sum = Sum::ZERO.bytes(&tcp[..]);
    [tcp[16], tcp[17]] = l4_checksum(pair, L4Proto::Tcp, 20, sum).to_be_bytes();
    Some(())
}

fn swap(a: &mut [u8], b: &mut [u8]) {
    for (a, b) in a.iter_mut().zip(b) {
        core::mem::swap(a, b);
    }
}
