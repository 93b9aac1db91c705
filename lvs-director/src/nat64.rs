//! NAT64: packets of sessions whose client speaks IPv6 and whose server speaks IPv4.
//!
//! ```text
//!   inbound   IPv6 ─► make_v4 ─► edits, numbers, time to live as for any IPv4 packet ─► emit
//!   return    IPv4 ─► numbers, time to live as for any IPv4 packet ─► emit_as_v6
//! ```
//! All that the director does to a session's packets is done to IPv4 packets: the address option, the PROXY header,
//! sequence numbers, and whatever comes. Only the change of version is done here, before or behind it, and what
//! hangs on it: a header of 20 bytes more or less, and who is told what about an MTU. Sessions of this kind
//! never take the short way.

use crate::admit::Packet;
use crate::director::Director;
use crate::outputs::Outputs;
use crate::oversize::may_be_cut;
use core::net::{IpAddr, Ipv4Addr};
use lvs_core::id::HopId;
use lvs_core::io::{GsoKind, L4Csum, Lane, PacketBuf, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::session::Quad;
use lvs_core::session::tcp::flags::SYN;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Fragment, Transport};
use lvs_nat::End;
use lvs_nat::icmp::Complaint;
use lvs_nat::nat64::{
    Links, Nat64Error, Quote, To4, To6, error_to_v4, error_to_v6, v4_to_v6, v6_to_v4,
};
use lvs_nat::options::lower_mss_to;

/// Bytes that an IPv6 header has more than an IPv4 one.
const LONGER: u16 = 20;
/// The same with a fragment header.
const LONGER_PIECE: u16 = 28;
/// Headers of a TCP segment without options over IPv6.
const TCP_OVER_V6: u16 = 60;
/// The least MTU of IPv6.
const LEAST_V6: u16 = 1280;

/// Ends of both versions of a NAT64 session.
struct Ends64 {
    client: End<u128>,
    virt: End<u128>,
    local: End<u32>,
    server: End<u32>,
}

impl Ends64 {
    fn of(quad: &Quad) -> Result<Self, DropReason> {
        let v6 = |(ip, port): (IpAddr, u16)| match ip {
            IpAddr::V6(ip) => Ok(End::new(ip.to_bits(), port)),
            IpAddr::V4(_) => Err(DropReason::NoSession),
        };
        let v4 = |(ip, port): (IpAddr, u16)| match ip {
            IpAddr::V4(ip) => Ok(End::new(ip.to_bits(), port)),
            IpAddr::V6(_) => Err(DropReason::NoSession),
        };
        Ok(Self {
            client: v6(quad.client)?,
            virt: v6(quad.virt)?,
            local: v4(quad.local)?,
            server: v4(quad.server)?,
        })
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// A client's packet becomes one of IPv4, from the local address to the server, if it will fit the way to `hop`;
    /// if not, the client is told what does. `gain` is what segments may gain besides.
    pub(crate) fn make_v4<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        (quad, hop, gain): (&Quad, HopId, u16),
        out: &mut Outputs<L::Buf>,
    ) -> Result<(), DropReason> {
        let ends = Ends64::of(quad)?;
        let way = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?;
        if self.neighbours.is_down(hop, now) {
            return Err(DropReason::NeighbourFailed);
        }
        let most = self.most(lane, packet, way.port);
        // What IPv6 must be able to send goes on in fragments where a link takes less.
        let how =
            To4 { mtu: most.max(LEAST_V6 - LONGER), decrement_ttl: false, id: self.next_ip_id() };
        match v6_to_v4(&mut packet.buf, &packet.headers, (ends.local, ends.server), &how) {
            Ok(headers) => packet.headers = headers,
            Err(error) => {
                if error == Nat64Error::TooBig {
                    let gain = if is_tcp(&packet.headers.transport) { gain } else { 0 };
                    let mtu = most.saturating_add(LONGER).saturating_sub(gain).max(LEAST_V6);
                    self.tell(now, lane, packet, Complaint::TooBig { mtu: mtu.into() }, out);
                }
                return Err(reason_of(error));
            }
        }
        takes(lane, packet.buf.gso().map(|gso| gso.kind), way.port)
    }

    /// The packet that opens a session becomes one of IPv4, which comes from nobody until the session has its local
    /// address. `hops` lead to the server and to the client.
    pub(crate) fn begin_nat64<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        (quad, [there, back], gain): (&Quad, [HopId; 2], u16),
        out: &mut Outputs<L::Buf>,
    ) -> Result<(), DropReason> {
        let nobody = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), quad.client.1);
        let from_nobody = Quad { local: nobody, ..*quad };
        self.make_v4(now, lane, packet, (&from_nobody, there, gain), out)?;
        // The server's segments get longer on their way to the client.
        let way = self.neighbours.hop(there).ok_or(DropReason::NoRoute)?;
        self.leave_room_for_v6(lane, packet, back, self.mtu(lane, way.port));
        Ok(())
    }

    /// Whether a server's packet can go to the client as IPv6, whole or in pieces; when it is too large, the server is
    /// told what is not.
    pub(crate) fn fits_as_v6_or_tell<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        hop: HopId,
        out: &mut Outputs<L::Buf>,
    ) -> Result<(), DropReason> {
        let way = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?;
        if self.neighbours.is_down(hop, now) {
            return Err(DropReason::NeighbourFailed);
        }
        let growth = growth_of(packet.headers.fragment);
        let cut = self.is_too_long(lane, packet, way.port, growth);
        let most = self.most(lane, packet, way.port);
        if cut && !may_be_cut(packet, most.saturating_sub(LONGER_PIECE)) {
            self.tell_too_big(now, lane, packet, (hop, growth), out);
            return Err(DropReason::TooBig);
        }
        // A checksum is computed over the whole, which a piece is not, and a train not one datagram.
        let whole = !cut && growth == LONGER && packet.buf.gso().is_none();
        if !whole && has_no_checksum(packet) {
            return Err(DropReason::Nat64NoChecksum);
        }
        if usize::from(growth) > packet.buf.headroom() {
            return Err(DropReason::NoHeadroom);
        }
        let train = packet.buf.gso().map(|gso| match gso.kind {
            GsoKind::TcpV4 | GsoKind::TcpV6 => GsoKind::TcpV6,
            GsoKind::Udp => GsoKind::Udp,
        });
        takes(lane, train, way.port)
    }

    /// Sends a server's packet, to which everything else is done, to the client.
    pub(crate) fn emit_as_v6<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        (quad, hop): (&Quad, HopId),
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        let way = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?;
        let growth = growth_of(packet.headers.fragment);
        if self.is_too_long(lane, &packet, way.port, growth) {
            return self.cut(
                lane,
                packet,
                (hop, LONGER_PIECE),
                out,
                |director, lane, piece, out| {
                    director.emit_as_v6(now, lane, piece, (quad, hop), out)
                },
            );
        }
        let link = self.mtu(lane, packet.port);
        self.leave_room_for_v6(lane, &mut packet, hop, link);
        let ends = Ends64::of(quad)?;
        let how = To6 {
            mtu: self.most(lane, &packet, way.port),
            decrement_ttl: false,
            // Nobody could have seen damage before; from here on it is seen (RFC 7915 section 4.5).
            compute_udp: true,
        };
        let unsummed = has_no_checksum(&packet);
        let done = v4_to_v6(&mut packet.buf, &packet.headers, (ends.virt, ends.client), &how);
        packet.headers = done.map_err(reason_of)?;
        if unsummed {
            self.counters.udp_csum_made = self.counters.udp_csum_made.wrapping_add(1);
        }
        Ok(self.emit(now, lane, packet, hop, out))
    }

    /// Makes the receiver of a SYN send segments that fit both links of the director as IPv6 packets and, with the
    /// address option, as IPv4 ones. `link` is the MTU of the IPv4 side, `hop` leads to the client.
    pub(crate) fn leave_room_for_v6<L: Lane>(
        &self,
        lane: &L,
        packet: &mut Packet<L::Buf>,
        hop: HopId,
        link: u16,
    ) {
        let Transport::Tcp { flags, .. } = packet.headers.transport else { return };
        let Some(way) = self.neighbours.hop(hop).filter(|_| flags & SYN != 0) else { return };
        // The option has as many bytes as the headers differ by.
        let most = self.mtu(lane, way.port).min(link).saturating_sub(TCP_OVER_V6);
        let csum = packet.buf.l4_csum();
        // A segment that announces nothing stays so; it can only be TCP here.
        let _ = lower_mss_to(packet.buf.data_mut(), &packet.headers, csum, most);
    }

    /// An error about a packet to the client becomes one about a packet to the local address, for the server.
    pub(crate) fn error_into_v4<L: Lane>(
        &mut self,
        lane: &L,
        packet: &mut Packet<L::Buf>,
        (quad, hop): (&Quad, HopId),
    ) -> Result<(), DropReason> {
        let Ends64 { local, server, .. } = Ends64::of(quad)?;
        let way = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?;
        let links = Links {
            mtu_v4: self.mtu(lane, way.port),
            mtu_v6: self.mtu(lane, packet.port),
            decrement_ttl: false,
            id: self.next_ip_id(),
        };
        let quote = Quote { src: server, dst: local, seq_add: 0 };
        let ends = (local.addr, server.addr);
        let done = error_to_v4(&mut packet.buf, &packet.headers, ends, &quote, &links);
        packet.headers = done.map_err(reason_of)?;
        Ok(())
    }

    /// An error about a packet to the server becomes one about a packet to the service, for the client.
    pub(crate) fn error_into_v6<L: Lane>(
        &mut self,
        lane: &L,
        packet: &mut Packet<L::Buf>,
        (quad, hop): (&Quad, HopId),
    ) -> Result<(), DropReason> {
        let Ends64 { client, virt, .. } = Ends64::of(quad)?;
        let way = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?;
        let links = Links {
            mtu_v4: self.mtu(lane, packet.port),
            mtu_v6: self.mtu(lane, way.port),
            decrement_ttl: false,
            id: 0,
        };
        let quote = Quote { src: client, dst: virt, seq_add: 0 };
        let ends = (virt.addr, client.addr);
        let done = error_to_v6(&mut packet.buf, &packet.headers, ends, &quote, &links);
        packet.headers = done.map_err(reason_of)?;
        Ok(())
    }

    /// The next identification of a packet of the director's own making.
    pub(crate) const fn next_ip_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }
}

const fn growth_of(fragment: Fragment) -> u16 {
    match fragment {
        Fragment::No => LONGER,
        Fragment::First | Fragment::Later => LONGER_PIECE,
    }
}

const fn is_tcp(transport: &Transport) -> bool {
    matches!(transport, Transport::Tcp { .. })
}

/// Whether a port can send a train of this kind, if there is one.
fn takes<L: Lane>(lane: &L, train: Option<GsoKind>, port: PortId) -> Result<(), DropReason> {
    match train {
        Some(kind) if !lane.caps(port).gso.takes(kind) => Err(DropReason::NoGso),
        _ => Ok(()),
    }
}

/// Whether a packet is a UDP datagram whose sender has left the checksum out.
fn has_no_checksum<B: PacketBuf>(packet: &Packet<B>) -> bool {
    let at = usize::from(packet.headers.l4).saturating_add(6);
    packet.headers.transport == Transport::Udp
        && packet.buf.l4_csum() != L4Csum::Partial
        && packet.buf.data().get(at..).and_then(<[u8]>::first_chunk::<2>) == Some(&[0, 0])
}

const fn reason_of(error: Nat64Error) -> DropReason {
    match error {
        Nat64Error::TooBig | Nat64Error::NeedsFragmenting => DropReason::TooBig,
        Nat64Error::NoHeadroom => DropReason::NoHeadroom,
        Nat64Error::TtlExpired => DropReason::TtlExceeded,
        Nat64Error::NoChecksum => DropReason::Nat64NoChecksum,
        Nat64Error::Fragment => DropReason::Fragment,
        Nat64Error::Corrupt => DropReason::BadL4Checksum,
        _ => DropReason::Nat64Untranslatable,
    }
}
