//! Telling servers who the client is: the address option on client segments, and nobody else's.
//!
//! ```text
//!   which segments carry it      lvs_nat::toa::place: the SYN, the end of the handshake, and so on
//!   there is room                in place, after compaction if need be
//!   there is none                the ladder of lvs_nat::toa::place: ahead, later, as a PROXY header, or dropped
//! ```
//!
//! Each outcome has a counter, and a bit of the session ([`pending`]). RFC-less; the layouts are those of
//! alibaba/LVS, DPVS and their readers.

use crate::admit::Packet;
use crate::ahead::ahead;
use crate::director::Director;
use core::net::SocketAddr;
use lvs_core::checksum::{AddrPair, verify_tcp};
use lvs_core::flow::{Direction, L4Proto};
use lvs_core::id::HopId;
use lvs_core::io::{L4Csum, Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::service::{
    ClientAddrMode, Forwarding, NoToaRoom, ProxyOptions, ToaOptions, VirtualService,
};
use lvs_core::session::tcp::flags::{ACK, FIN, RST, SYN};
use lvs_core::session::{Detail, Quad, pending};
use lvs_core::time::Time;
use lvs_core::verdict::DropReason;
use lvs_core::wire::{Fragment, Transport};
use lvs_nat::options::lower_mss;
use lvs_nat::seq::after;
use lvs_nat::toa::place::{Handshake, Rung, forbidden, rung};
use lvs_nat::toa::{self, Compaction, KindSet, Limits, Outcome, ToaError, ToaKinds, ToaOption};

/// The address option of a service, if it has one. Where servers see the client, there is none.
pub(crate) const fn toa_of(service: &VirtualService) -> Option<ToaOptions> {
    match service.client_addr {
        ClientAddrMode::Toa(options) if !service.forwarding.is_one_way() => Some(options),
        _ => None,
    }
}

/// Whether address options in client segments are taken out although the service has none of its own.
pub(crate) const fn distrusts(service: &VirtualService) -> bool {
    matches!(service.forwarding, Forwarding::Nat | Forwarding::FullNat)
        && matches!(service.key.proto, L4Proto::Tcp)
        && !service.flags.trust_toa
}

/// Kinds that a client has no business to send.
pub(crate) fn forged_kinds(own: Option<&ToaOptions>, distrusts: bool) -> Option<KindSet> {
    forbidden(own.map(kinds_of), distrusts)
}

/// The PROXY header that takes the place of an option without room.
pub(crate) fn proxy_instead(own: Option<&ToaOptions>) -> Option<ProxyOptions> {
    own.filter(|own| own.no_room == NoToaRoom::Proxy).map(|_| ProxyOptions::default())
}

fn kinds_of(own: &ToaOptions) -> ToaKinds {
    ToaKinds::new(own.kind_v4, own.kind_v6).unwrap_or_default()
}

/// Bytes that the option adds for this client.
pub(crate) const fn growth(own: &ToaOptions, quad: &Quad) -> u16 {
    ToaOption::len_of(own.format, quad.client.0.is_ipv6()) as u16
}

fn option_of(own: &ToaOptions, quad: &Quad) -> ToaOption {
    let (client, virt) = (SocketAddr::from(quad.client), SocketAddr::from(quad.virt));
    let kinds = kinds_of(own);
    let kind = if quad.client.0.is_ipv6() { kinds.v6() } else { kinds.v4() };
    // The kinds are no reserved ones, so there is always an option.
    ToaOption::encode_as(own.format, kind, &client, &virt)
        .unwrap_or_else(|| ToaOption::encode(&client, kinds))
}

/// Whether a client segment is to carry the option.
pub(crate) const fn carries(options: &ToaOptions, detail: &Detail, transport: &Transport) -> bool {
    let Transport::Tcp { flags, seq, ack, .. } = *transport else { return false };
    !detail.plain
        && detail.pending & pending::TOA != 0
        && handshake_of(detail).wants(&options.placement, flags, seq, ack)
}

const fn handshake_of(detail: &Detail) -> Handshake {
    Handshake {
        client_isn: detail.client_isn,
        server_first: match detail.server_first {
            0 => None,
            first => Some(first),
        },
        server_end: detail.server_seq_end,
    }
}

/// A session whose client's segment is to carry the option.
pub(crate) struct Telling<'a> {
    pub(crate) own: &'a ToaOptions,
    pub(crate) quad: &'a Quad,
    pub(crate) hop: HopId,
    /// The session's bits of [`pending`].
    pub(crate) pending: &'a mut u8,
}

/// What became of the option.
pub(crate) enum Placed<B> {
    /// It is in the segment.
    Here,
    /// It goes ahead on a segment of the director's own.
    Ahead(Packet<B>),
    /// The segment goes without; those behind it carry it.
    Later,
    /// From now on the session speaks PROXY.
    ByProxy,
}

impl<P: PortPlan> Director<'_, P> {
    /// Takes out what a client wrote into its own segment in order to be taken for somebody else; whether there
    /// was anything.
    pub(crate) fn strip_forged<B: PacketBuf>(
        &mut self,
        packet: &mut Packet<B>,
        kinds: Option<KindSet>,
    ) -> bool {
        let (Some(kinds), Transport::Tcp { .. }) = (kinds, packet.headers.transport) else {
            return false;
        };
        let csum = packet.buf.l4_csum();
        let stripped = toa::strip(packet.buf.data_mut(), &packet.headers, csum, kinds);
        let forged = stripped.is_ok_and(|stripped| stripped.count > 0);
        if forged {
            bump(&mut self.counters.toa_stripped);
        }
        forged
    }

    /// Tells the server the client's address, by this segment or as the ladder says.
    pub(crate) fn insert_toa<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        telling: &mut Telling<'_>,
    ) -> Result<Placed<L::Buf>, DropReason> {
        let Transport::Tcp { flags, .. } = packet.headers.transport else {
            return Ok(Placed::Later);
        };
        let (own, syn) = (telling.own, flags & SYN != 0);
        let option = option_of(own, telling.quad);
        let Err(mut refused) = self.put_option(lane, packet, &option, telling)? else {
            return Ok(Placed::Here);
        };
        bump(&mut self.counters.toa_no_room);
        *telling.pending |= pending::NO_ROOM;
        if syn && own.no_room != NoToaRoom::Drop && self.hold_data_back(packet)? {
            // Its data was in the way.
            match self.put_option(lane, packet, &option, telling)? {
                Ok(()) => return Ok(Placed::Here),
                Err(again) => refused = again,
            }
        }
        self.step_down(now, lane, packet, (&option, refused), telling)
    }

    /// What comes where the option has no room.
    fn step_down<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        (option, refused): (&ToaOption, ToaError),
        telling: &mut Telling<'_>,
    ) -> Result<Placed<L::Buf>, DropReason> {
        let Transport::Tcp { flags, .. } = packet.headers.transport else {
            return Err(DropReason::NoToaRoom);
        };
        let own = telling.own;
        let told = *telling.pending & pending::TOLD_BY_TOA != 0;
        match rung(refused, flags, &own.placement, own.no_room, told) {
            Rung::Drop => Err(DropReason::NoToaRoom),
            Rung::Proxy => {
                bump(&mut self.counters.toa_by_proxy);
                *telling.pending = *telling.pending & !pending::TOA | pending::PROXY;
                Ok(Placed::ByProxy)
            }
            Rung::Later => {
                // A train that was to be cut into smaller segments goes as it is now.
                self.fits(now, lane, packet, telling.hop, 0)?;
                bump(&mut self.counters.toa_later);
                Ok(Placed::Later)
            }
            Rung::Ahead => {
                self.fits(now, lane, packet, telling.hop, 0)?;
                let (bytes, reason) = (option.as_bytes(), DropReason::NoToaRoom);
                let ahead = ahead(lane, packet, (bytes, &[]), reason)?;
                bump(&mut self.counters.toa_ahead);
                *telling.pending |= pending::TOLD_BY_TOA | pending::AHEAD;
                Ok(Placed::Ahead(ahead))
            }
        }
    }

    /// The same for a SYN.
    pub(crate) fn tell_by_syn<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        mut telling: Telling<'_>,
    ) -> Result<(), DropReason> {
        if !telling.own.placement.syn {
            return self.hold_data_back(packet).map(drop);
        }
        match self.insert_toa(now, lane, packet, &mut telling)? {
            // Nothing goes ahead of a SYN.
            Placed::Here | Placed::Later | Placed::Ahead(_) => Ok(()),
            Placed::ByProxy => self.without_data(packet),
        }
    }

    fn put_option<L: Lane>(
        &mut self,
        lane: &L,
        packet: &mut Packet<L::Buf>,
        option: &ToaOption,
        telling: &mut Telling<'_>,
    ) -> Result<Result<(), ToaError>, DropReason> {
        let syn =
            matches!(packet.headers.transport, Transport::Tcp { flags, .. } if flags & SYN != 0);
        // Elsewhere than in a SYN, options that compaction could drop are worth more than a packet.
        let compaction = if syn { Compaction::Options } else { Compaction::Padding };
        let way = self.neighbours.hop(telling.hop).ok_or(DropReason::NoRoute)?;
        let limits = Limits { mtu: self.most(lane, packet, way.port), compaction };
        let inserted = match toa::insert(&mut packet.buf, &packet.headers, option, &limits) {
            Ok(inserted) => inserted,
            Err(refused) => return Ok(Err(refused)),
        };
        packet.headers = inserted.headers;
        bump(&mut self.counters.toa_inserted);
        *telling.pending |= pending::TOLD_BY_TOA;
        if matches!(inserted.outcome, Outcome::InsertedAfterCompaction { .. }) {
            bump(&mut self.counters.toa_compacted);
            *telling.pending |= pending::COMPACTED;
        }
        Ok(Ok(()))
    }

    /// Takes data out of a SYN that does not carry the client's address: a server that took it (TCP Fast Open)
    /// might answer before it knows whom. Whether there was any.
    pub(crate) fn hold_data_back<B: PacketBuf>(
        &mut self,
        packet: &mut Packet<B>,
    ) -> Result<bool, DropReason> {
        let data = u32::from(packet.headers.payload) < packet.headers.end;
        if data {
            self.without_data(packet)?;
        }
        Ok(data)
    }

    /// Makes the client leave room for the option in its full segments.
    pub(crate) fn leave_room<B: PacketBuf>(
        &self,
        packet: &mut Packet<B>,
        own: &ToaOptions,
        quad: &Quad,
    ) {
        // RFC 9293 section 3.7.1: an MSS below 536 (IPv4) or 1220 (IPv6) helps nobody.
        let floor = if quad.client.0.is_ipv6() { 1220 } else { 536 };
        let csum = packet.buf.l4_csum();
        // A segment without the option stays without; it can only be TCP here.
        let _ = lower_mss(packet.buf.data_mut(), &packet.headers, csum, growth(own, quad), floor);
    }
}

const fn bump(count: &mut u64) {
    *count = count.wrapping_add(1);
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
                // 0 says that nothing is known, so where that is the number, the next one stands for it.
                detail.server_first = seq.wrapping_add(1).max(1);
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
        Direction::Inbound
            if flags & (SYN | RST) == 0 && handshake_of(detail).proves_data(flags, ack) =>
        {
            detail.pending &= !pending::TOA;
        }
        _ => {}
    }
    if established && detail.pending & (pending::TOA | pending::PROXY) == 0 {
        detail.plain = true;
    }
    *detail != before
}
