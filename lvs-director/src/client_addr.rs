//! Telling servers who the client is: the address option on client segments, and nobody else's.
//!
//! Which segments carry it ([`ToaPlacement`](lvs_core::service::ToaPlacement)): the SYN, and then every
//! client segment until the client has acknowledged the server's first data. A lost handshake
//! acknowledgement, a deferred accept and SYN cookies are covered that way: whatever segment the server
//! looks at carries the option. RFC-less; the layout is that of alibaba/LVS and DPVS.

use crate::admit::Packet;
use crate::director::Director;
use core::net::SocketAddr;
use lvs_core::addr::Family;
use lvs_core::checksum::{AddrPair, Delta, Sum, l4_checksum, verify_tcp};
use lvs_core::flow::{Direction, L4Proto};
use lvs_core::id::HopId;
use lvs_core::io::{L4Csum, Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::service::{ClientAddrMode, NoToaRoom, ToaOptions, VirtualService};
use lvs_core::session::tcp::flags::{ACK, FIN, RST, SYN};
use lvs_core::session::{Detail, Quad, pending};
use lvs_core::time::Time;
use lvs_core::verdict::DropReason;
use lvs_core::wire::{Fragment, Headers, Parsed, Transport};
use lvs_nat::options::lower_mss;
use lvs_nat::seq::after;
use lvs_nat::toa::{self, Compaction, KindSet, Limits, Outcome, ToaKinds, ToaOption};

/// The address option of a service, if it has one. Where servers see the client, there is none.
pub(crate) const fn toa_of(service: &VirtualService) -> Option<ToaOptions> {
    match service.client_addr {
        ClientAddrMode::Toa(options) if !service.forwarding.is_one_way() => Some(options),
        _ => None,
    }
}

/// Kinds that a client has no business to send to a service with this option.
pub(crate) const fn forged_kinds(own: &ToaOptions) -> KindSet {
    KindSet::KNOWN.with(own.kind_v4).with(own.kind_v6)
}

/// Bytes that the option adds for this client.
pub(crate) const fn growth(quad: &Quad) -> u16 {
    if quad.client.0.is_ipv6() { toa::TOA_V6_LEN as u16 } else { toa::TOA_V4_LEN as u16 }
}

/// Whether a client segment is to carry the option.
pub(crate) fn carries(options: &ToaOptions, detail: &Detail, transport: &Transport) -> bool {
    let Transport::Tcp { flags, ack, .. } = *transport else { return false };
    if detail.plain || detail.pending & pending::TOA == 0 || flags & RST != 0 {
        return false;
    }
    if flags & SYN != 0 {
        return options.placement.syn;
    }
    options.placement.until_server_data && !acknowledges_data(detail, flags, ack)
}

/// Whether a client segment acknowledges data that the server has sent. Numbers that the server has not
/// reached yet prove nothing: whoever sends them must not get rid of the option by it. Nor does anything
/// while nothing is known of the server (its SYN-ACK has not passed).
const fn acknowledges_data(detail: &Detail, flags: u8, ack: u32) -> bool {
    flags & ACK != 0
        && detail.server_first != 0
        && after(ack, detail.server_first)
        && !after(ack, detail.server_seq_end)
}

impl<P: PortPlan> Director<'_, P> {
    /// Takes out what a client wrote into its own segment in order to be taken for somebody else.
    pub(crate) fn strip_forged<B: PacketBuf>(&mut self, packet: &mut Packet<B>, own: &ToaOptions) {
        let kinds = forged_kinds(own);
        let csum = packet.buf.l4_csum();
        let stripped = toa::strip(packet.buf.data_mut(), &packet.headers, csum, kinds);
        if stripped.is_ok_and(|stripped| stripped.count > 0) {
            self.counters.toa_stripped = self.counters.toa_stripped.wrapping_add(1);
        }
    }

    /// Puts the client's address into a segment. Where it does not fit, what comes back is a segment of
    /// the director's own that carries it and goes ahead.
    pub(crate) fn insert_toa<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        own: &ToaOptions,
        quad: &Quad,
        hop: HopId,
    ) -> Result<Option<Packet<L::Buf>>, DropReason> {
        let Transport::Tcp { flags, .. } = packet.headers.transport else { return Ok(None) };
        let syn = flags & SYN != 0;
        let kinds = ToaKinds::new(own.kind_v4, own.kind_v6).unwrap_or_default();
        let option = ToaOption::encode(&SocketAddr::new(quad.client.0, quad.client.1), kinds);
        // Elsewhere than in a SYN, options that compaction could drop are worth more than a packet.
        let compaction = if syn { Compaction::Options } else { Compaction::Padding };
        let way = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?;
        let limits = Limits { mtu: self.most(lane, packet, way.port), compaction };
        match toa::insert(&mut packet.buf, &packet.headers, &option, &limits) {
            Ok(inserted) => {
                packet.headers = inserted.headers;
                self.counters.toa_inserted = self.counters.toa_inserted.wrapping_add(1);
                if matches!(inserted.outcome, Outcome::InsertedAfterCompaction { .. }) {
                    self.counters.toa_compacted = self.counters.toa_compacted.wrapping_add(1);
                }
                return Ok(None);
            }
            Err(_) => self.counters.toa_no_room = self.counters.toa_no_room.wrapping_add(1),
        }
        if own.no_room == NoToaRoom::Drop {
            return Err(DropReason::NoToaRoom);
        }
        // A train that was to be cut into smaller segments goes as it is now.
        self.fits(now, lane, packet, hop, 0)?;
        if syn {
            return Ok(None);
        }
        let mut ahead = empty_ack_of(lane, packet)?;
        let inserted = toa::insert(&mut ahead.buf, &ahead.headers, &option, &limits);
        ahead.headers = inserted.map_err(|_| DropReason::NoToaRoom)?.headers;
        self.counters.toa_inserted = self.counters.toa_inserted.wrapping_add(1);
        Ok(Some(ahead))
    }

    /// Makes the client leave room for the option in its full segments.
    pub(crate) fn leave_room<B: PacketBuf>(&self, packet: &mut Packet<B>, quad: &Quad) {
        // RFC 9293 section 3.7.1: an MSS below 536 (IPv4) or 1220 (IPv6) helps nobody.
        let floor = if quad.client.0.is_ipv6() { 1220 } else { 536 };
        let csum = packet.buf.l4_csum();
        // A segment without the option stays without; it can only be TCP here.
        let _ = lower_mss(packet.buf.data_mut(), &packet.headers, csum, growth(quad), floor);
    }
}

/// An acknowledgement without payload and options, made from the headers of a segment. Its checksum is
/// new, so the segment's own is verified first: a corrupt segment must not be made to look sound.
pub(crate) fn empty_ack_of<L: Lane>(
    lane: &mut L,
    packet: &Packet<L::Buf>,
) -> Result<Packet<L::Buf>, DropReason> {
    let (data, headers) = (packet.buf.data(), &packet.headers);
    let tuple = headers.tuple.ok_or(DropReason::NoToaRoom)?;
    let pair = AddrPair::from(&tuple);
    if is_corrupt(packet) {
        return Err(DropReason::BadL4Checksum);
    }
    let len = usize::from(headers.l4).saturating_add(TCP_FIXED);
    let source = data.get(..len).ok_or(DropReason::NoToaRoom)?;
    let mut buf = lane.alloc(len).ok_or(DropReason::NoBuffer)?;
    for (to, from) in buf.data_mut().iter_mut().zip(source) {
        *to = *from;
    }
    empty_ack(buf.data_mut(), headers, pair).ok_or(DropReason::NoToaRoom)?;
    buf.set_vlan(packet.buf.vlan());
    buf.set_gso(None, 0);
    buf.set_l4_csum(L4Csum::Good, headers.l3, headers.l4);
    let parsed = Headers::parse(buf.data(), len).map_err(|_| DropReason::NoToaRoom)?;
    let Parsed::Ip(headers) = parsed else { return Err(DropReason::NoToaRoom) };
    Ok(Packet { buf, headers, port: packet.port })
}

/// Whether nobody has verified the checksum of a TCP segment yet and it is wrong. Asked where a single
/// segment decides something that outlasts it.
pub(crate) fn is_corrupt<B: PacketBuf>(packet: &Packet<B>) -> bool {
    let headers = &packet.headers;
    if headers.fragment != Fragment::No {
        // Nobody can tell from a piece.
        return true;
    }
    let end = usize::try_from(headers.end).unwrap_or(usize::MAX);
    let segment = packet.buf.data().get(usize::from(headers.l4)..end);
    let (L4Csum::Unknown, Some(tuple), Some(segment)) =
        (packet.buf.l4_csum(), headers.tuple, segment)
    else {
        return false;
    };
    !verify_tcp(AddrPair::from(&tuple), segment, &[])
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

/// What a packet teaches about a session that is not plain yet; `true` when something changed.
pub(crate) fn observe(
    detail: &mut Detail,
    direction: Direction,
    transport: &Transport,
    payload: u32,
    established: bool,
) -> bool {
    let Transport::Tcp { flags, seq, ack, .. } = *transport else { return false };
    let before = *detail;
    match direction {
        Direction::Return if flags & RST == 0 => {
            let (syn, fin) = (u32::from(flags & SYN != 0), u32::from(flags & FIN != 0));
            if syn == 1 {
                detail.server_first = seq.wrapping_add(1);
            }
            let end = seq.wrapping_add(payload).wrapping_add(syn).wrapping_add(fin);
            // A retransmission does not take back what came after it.
            if syn == 1 || detail.server_seq_end == 0 || after(end, detail.server_seq_end) {
                detail.server_seq_end = end;
            }
            if flags & ACK != 0 {
                detail.server_ack = ack;
            }
        }
        Direction::Inbound if flags & (SYN | RST) == 0 && acknowledges_data(detail, flags, ack) => {
            detail.pending &= !pending::TOA;
        }
        _ => {}
    }
    if established && detail.pending & (pending::TOA | pending::PROXY) == 0 {
        detail.plain = true;
    }
    *detail != before
}
