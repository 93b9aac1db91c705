//! Whole packets and fragments of TCP, UDP and echo.

use super::header::{Bad, Ip};
use crate::ends::End;
use crate::fields::{TcpFixed, UdpFixed};
use crate::grow::{fit, resize};
use core::fmt;
use lvs_core::addr::Family;
use lvs_core::checksum::{AddrPair, Delta, Sum, l4_checksum};
use lvs_core::flow::{L4Proto, TupleV4, TupleV6, WireTuple};
use lvs_core::io::{Gso, GsoKind, L4Csum, PacketBuf};
use lvs_core::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use lvs_core::wire::{
    Fragment, Headers, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Transport,
};
use zerocopy::FromBytes;

/// Why a packet was not translated; it is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Nat64Error {
    /// Larger than the MTU behind the translation, and not to be fragmented: the sender is to be told
    /// ([`mtu_to_v4`](super::mtu_to_v4), [`mtu_to_v6`](super::mtu_to_v6)).
    TooBig,
    /// Larger than the MTU, and to be cut into fragments first.
    NeedsFragmenting,
    /// The buffer has too little headroom.
    NoHeadroom,
    /// The time to live is used up.
    TtlExpired,
    /// UDP without a checksum where there has to be one.
    NoChecksum,
    /// An ICMP message in fragments, whose checksum covers what is not here.
    Fragment,
    /// A protocol, an option or an extension header that has no counterpart.
    Unsupported,
    /// An ICMP message whose checksum is wrong, or that lies in several parts.
    Corrupt,
    /// The headers are another frame's, or of the other family.
    Mismatch,
}

impl fmt::Display for Nat64Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooBig => "the packet would be too large in the other IP version",
            Self::NeedsFragmenting => "the packet has to be fragmented in the other IP version",
            Self::NoHeadroom => "the packet buffer has no room for the larger header",
            Self::TtlExpired => "the time to live is used up",
            Self::NoChecksum => "a UDP datagram without a checksum cannot be translated",
            Self::Fragment => "a fragment of an ICMP message cannot be translated",
            Self::Unsupported => "the packet has no counterpart in the other IP version",
            Self::Corrupt => "the ICMP message is damaged or not in one piece",
            Self::Mismatch => "the headers are another frame's or of the other IP version",
        })
    }
}

impl core::error::Error for Nat64Error {}

impl From<Bad> for Nat64Error {
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::Malformed => Self::Mismatch,
            Bad::Untranslatable => Self::Unsupported,
        }
    }
}

/// How to make an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct To4 {
    /// Largest IPv4 packet.
    pub mtu: u16,
    /// Takes one from the time to live.
    pub decrement_ttl: bool,
    /// Identification of a whole packet; different from packet to packet, since what is smaller than
    /// 1260 bytes may be fragmented on its way.
    pub id: u16,
}

/// How to make an IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct To6 {
    /// Largest IPv6 packet.
    pub mtu: u16,
    /// Takes one from the hop limit.
    pub decrement_ttl: bool,
    /// Computes the checksum of a UDP datagram that has none; otherwise it is refused. A datagram that
    /// came without could have been damaged unseen, and the new checksum vouches for it
    /// (RFC 7915 section 4.5).
    pub compute_udp: bool,
}

/// Turns an IPv6 packet into an IPv4 one from `src` to `dst`. Ports of an echo message are not used, nor
/// are those of a later fragment.
///
/// # Errors
/// [`Nat64Error`]; the packet is then untouched.
pub fn v6_to_v4<B: PacketBuf>(
    buf: &mut B,
    headers: &Headers,
    (src, dst): (End<u32>, End<u32>),
    how: &To4,
) -> Result<Headers, Nat64Error> {
    let (mut ip, old) = read(buf, headers, Family::V6)?;
    ip.ttl = hop(ip.ttl, how.decrement_ttl)?;
    let header = ip.v4(src.addr, dst.addr, how.id).ok_or(Nat64Error::TooBig)?;
    let new = AddrPair::V4 { src: src.addr, dst: dst.addr };
    let plan = Plan { header: &header, old, new, ports: (src.port, dst.port), mtu: how.mtu };
    let edit = plan.edit(buf, headers, &ip, false)?;
    plan.apply(buf, headers, &edit)
}

/// Turns an IPv4 packet into an IPv6 one from `src` to `dst`. Ports of an echo message are not used, nor
/// are those of a later fragment.
///
/// # Errors
/// [`Nat64Error`]; the packet is then untouched.
pub fn v4_to_v6<B: PacketBuf>(
    buf: &mut B,
    headers: &Headers,
    (src, dst): (End<u128>, End<u128>),
    how: &To6,
) -> Result<Headers, Nat64Error> {
    let (mut ip, old) = read(buf, headers, Family::V4)?;
    ip.ttl = hop(ip.ttl, how.decrement_ttl)?;
    let header = ip.v6(src.addr, dst.addr).ok_or(Nat64Error::TooBig)?;
    let header = header.get(..ip.v6_len()).ok_or(Nat64Error::Mismatch)?;
    let new = AddrPair::V6 { src: src.addr, dst: dst.addr };
    let plan = Plan { header, old, new, ports: (src.port, dst.port), mtu: how.mtu };
    let edit = plan.edit(buf, headers, &ip, how.compute_udp)?;
    plan.apply(buf, headers, &edit)
}

/// The IP header of a packet, and its addresses.
pub(super) fn read<B: PacketBuf>(
    buf: &B,
    headers: &Headers,
    family: Family,
) -> Result<(Ip, AddrPair), Nat64Error> {
    if headers.family != family || headers.l3 < 14 {
        return Err(Nat64Error::Mismatch);
    }
    let bytes = buf.data().get(usize::from(headers.l3)..).ok_or(Nat64Error::Mismatch)?;
    let ip = match family {
        Family::V4 => Ip::read_v4(bytes)?,
        Family::V6 => Ip::read_v6(bytes)?,
    };
    let end = usize::from(headers.l4).saturating_add(ip.payload_len);
    let l4 = usize::from(headers.l3).saturating_add(ip.header_len);
    let same = l4 == usize::from(headers.l4) && u32::try_from(end).ok() == Some(headers.end);
    let (src, dst) = headers.addresses(buf.data()).ok_or(Nat64Error::Mismatch)?;
    match (AddrPair::new(src, dst), same && headers.payload >= headers.l4) {
        (Some(pair), true) => Ok((ip, pair)),
        _ => Err(Nat64Error::Mismatch),
    }
}

pub(super) fn hop(ttl: u8, decrement: bool) -> Result<u8, Nat64Error> {
    match (ttl, decrement) {
        (0 | 1, true) => Err(Nat64Error::TtlExpired),
        (ttl, true) => Ok(ttl.saturating_sub(1)),
        (ttl, false) => Ok(ttl),
    }
}

/// How addresses change the sum of a pseudo-header; lengths and protocol numbers of TCP and UDP sum up
/// alike in both.
pub(super) fn address_delta(old: AddrPair, new: AddrPair) -> Delta {
    Delta::ZERO.sum(old.pseudo(0, 0), new.pseudo(0, 0))
}

/// An echo message of one version in the other: type, and the change of its checksum, which covers a
/// pseudo-header in ICMPv6 only (RFC 4443 section 2.3).
pub(super) fn echo(
    kind: u8,
    code: u8,
    old: AddrPair,
    new: AddrPair,
    len: u32,
) -> Option<(u8, Delta)> {
    let (other, before, after) = match (new.family(), kind) {
        (Family::V4, 128) => (8, old.pseudo(PROTOCOL_ICMPV6, len), Sum::ZERO),
        (Family::V4, 129) => (0, old.pseudo(PROTOCOL_ICMPV6, len), Sum::ZERO),
        (Family::V6, 8) => (128, Sum::ZERO, new.pseudo(PROTOCOL_ICMPV6, len)),
        (Family::V6, 0) => (129, Sum::ZERO, new.pseudo(PROTOCOL_ICMPV6, len)),
        _ => return None,
    };
    let word = |kind| u16::from_be_bytes([kind, code]);
    Some((other, Delta::ZERO.sum(before, after).u16(word(kind), word(other))))
}

/// What becomes of the transport header.
#[derive(Clone, Copy)]
enum Edit {
    /// Nothing: a later fragment.
    Nothing,
    Tcp(Delta),
    Udp(Delta),
    /// UDP with this checksum.
    UdpWith(u16),
    Echo(u8, Delta),
}

struct Plan<'a> {
    header: &'a [u8],
    old: AddrPair,
    new: AddrPair,
    ports: (u16, u16),
    mtu: u16,
}

impl Plan<'_> {
    /// Everything that can be refused, before the first change.
    fn edit<B: PacketBuf>(
        &self,
        buf: &B,
        headers: &Headers,
        ip: &Ip,
        compute_udp: bool,
    ) -> Result<Edit, Nat64Error> {
        let size = self.header.len().saturating_add(ip.payload_len);
        if buf.gso().is_none() && size > usize::from(self.mtu) {
            return Err(match ip.dont_fragment {
                true => Nat64Error::TooBig,
                false => Nat64Error::NeedsFragmenting,
            });
        }
        let later = headers.fragment == Fragment::Later;
        match (headers.transport, ip.protocol) {
            (_, PROTOCOL_ICMP | PROTOCOL_ICMPV6) if headers.fragment != Fragment::No => {
                Err(Nat64Error::Fragment)
            }
            (_, PROTOCOL_TCP | PROTOCOL_UDP) if later => Ok(Edit::Nothing),
            (Transport::Icmp { kind, code }, _) => {
                let len = u32::try_from(ip.payload_len).map_err(|_| Nat64Error::Mismatch)?;
                let echo = echo(kind, code, self.old, self.new, len);
                echo.map(|(kind, delta)| Edit::Echo(kind, delta)).ok_or(Nat64Error::Unsupported)
            }
            (Transport::Tcp { .. } | Transport::Udp, _) => self.ports(buf, headers, compute_udp),
            _ => Err(Nat64Error::Unsupported),
        }
    }

    fn ports<B: PacketBuf>(
        &self,
        buf: &B,
        headers: &Headers,
        compute_udp: bool,
    ) -> Result<Edit, Nat64Error> {
        let tuple = headers.tuple.ok_or(Nat64Error::Mismatch)?;
        let addresses = address_delta(self.old, self.new);
        let partial = buf.l4_csum() == L4Csum::Partial;
        let delta = match partial {
            true => addresses,
            false => addresses.u16(tuple.sport(), self.ports.0).u16(tuple.dport(), self.ports.1),
        };
        let l4 = buf.data().get(usize::from(headers.l4)..).ok_or(Nat64Error::Mismatch)?;
        if headers.transport != Transport::Udp {
            TcpFixed::ref_from_prefix(l4).map_err(|_| Nat64Error::Mismatch)?;
            return Ok(Edit::Tcp(delta));
        }
        let (udp, _) = UdpFixed::ref_from_prefix(l4).map_err(|_| Nat64Error::Mismatch)?;
        if partial || udp.checksum.get() != 0 {
            return Ok(Edit::Udp(delta));
        }
        // RFC 8200 section 8.1: none over IPv6 is damage, and becomes none again only by laundering.
        let len = udp.length.get();
        let whole = headers.fragment == Fragment::No && buf.gso().is_none();
        let datagram = l4.get(4..usize::from(len));
        match (self.new.family(), compute_udp && whole, datagram) {
            (Family::V6, true, Some(behind_ports)) => {
                let sum = Sum::ZERO.u16(self.ports.0).u16(self.ports.1).bytes(behind_ports);
                Ok(Edit::UdpWith(l4_checksum(self.new, L4Proto::Udp, len.into(), sum)))
            }
            _ => Err(Nat64Error::NoChecksum),
        }
    }

    fn apply<B: PacketBuf>(
        &self,
        buf: &mut B,
        headers: &Headers,
        edit: &Edit,
    ) -> Result<Headers, Nat64Error> {
        let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
        let old_len = l4.saturating_sub(l3);
        let now = self.headers(headers, old_len, edit).ok_or(Nat64Error::Mismatch)?;
        let gso = match buf.gso() {
            Some(gso) => Some(self.train(gso, now.payload.saturating_sub(now.l3).into())?),
            None => None,
        };
        let csum = buf.l4_csum();
        let resized = resize(buf, l3, old_len, self.header.len());
        let data = resized.map_err(|_| Nat64Error::NoHeadroom)?;
        write_header(data, l3, self.header, self.new.family());
        if let Some(l4) = data.get_mut(l3.saturating_add(self.header.len())..) {
            self.write_transport(l4, csum, edit);
        }
        if csum == L4Csum::Partial {
            buf.set_l4_csum(csum, now.l3, now.l4);
        }
        if gso.is_some() {
            buf.set_gso(gso, now.payload);
        }
        Ok(now)
    }

    fn train(&self, gso: Gso, header_len: usize) -> Result<Gso, Nat64Error> {
        let kind = match (gso.kind, self.new.family()) {
            (GsoKind::Udp, _) => GsoKind::Udp,
            (_, Family::V4) => GsoKind::TcpV4,
            (_, Family::V6) => GsoKind::TcpV6,
        };
        let fitted = fit(gso, header_len, self.mtu).ok_or(Nat64Error::TooBig)?;
        // A datagram cannot be cut in two.
        if kind == GsoKind::Udp && fitted.size != gso.size {
            return Err(Nat64Error::TooBig);
        }
        Ok(Gso { kind, ..fitted })
    }

    fn write_transport(&self, l4: &mut [u8], csum: L4Csum, edit: &Edit) {
        let partial = csum == L4Csum::Partial;
        match *edit {
            Edit::Nothing => {}
            Edit::Tcp(delta) => {
                let Ok((tcp, _)) = TcpFixed::mut_from_prefix(l4) else { return };
                tcp.sport.set(self.ports.0);
                tcp.dport.set(self.ports.1);
                let field = tcp.checksum.get();
                tcp.checksum.set(if partial {
                    delta.apply_partial(field)
                } else {
                    delta.apply(field)
                });
            }
            Edit::Udp(delta) => {
                let Ok((udp, _)) = UdpFixed::mut_from_prefix(l4) else { return };
                udp.sport.set(self.ports.0);
                udp.dport.set(self.ports.1);
                let field = udp.checksum.get();
                udp.checksum.set(if partial {
                    delta.apply_partial(field)
                } else {
                    delta.apply_udp(field)
                });
            }
            Edit::UdpWith(field) => {
                let Ok((udp, _)) = UdpFixed::mut_from_prefix(l4) else { return };
                udp.sport.set(self.ports.0);
                udp.dport.set(self.ports.1);
                udp.checksum.set(field);
            }
            Edit::Echo(kind, delta) => {
                let Some([first, _, c0, c1]) = l4.first_chunk_mut::<4>() else { return };
                *first = kind;
                [*c0, *c1] = delta.apply(u16::from_be_bytes([*c0, *c1])).to_be_bytes();
            }
        }
    }

    /// The headers of the packet as it will be.
    fn headers(&self, old: &Headers, old_len: usize, edit: &Edit) -> Option<Headers> {
        let moved = |at: usize| at.checked_sub(old_len)?.checked_add(self.header.len());
        let at16 = |at: u16| u16::try_from(moved(at.into())?).ok();
        let end = u32::try_from(moved(usize::try_from(old.end).ok()?)?).ok()?;
        let ttl = match self.new.family() {
            Family::V4 => self.header.get(8),
            Family::V6 => self.header.get(7),
        };
        let transport = match (*edit, old.transport) {
            (Edit::Echo(kind, _), Transport::Icmp { code, .. }) => Transport::Icmp { kind, code },
            (_, transport) => transport,
        };
        let tuple = old.tuple.map(|tuple| {
            let (proto, (sport, dport)) = (tuple.proto(), self.ports);
            match self.new {
                AddrPair::V4 { src, dst } => {
                    WireTuple::V4(TupleV4 { src, dst, sport, dport, proto })
                }
                AddrPair::V6 { src, dst } => {
                    WireTuple::V6(TupleV6 { src, dst, sport, dport, proto })
                }
            }
        });
        Some(Headers {
            family: self.new.family(),
            l4: at16(old.l4)?,
            payload: at16(old.payload)?,
            end,
            transport,
            tuple,
            ttl: *ttl?,
            ..*old
        })
    }
}

/// Writes a network header at `l3` and its EtherType in front of it.
pub(super) fn write_header(data: &mut [u8], l3: usize, header: &[u8], family: Family) {
    let ethertype = match family {
        Family::V4 => ETHERTYPE_IPV4,
        Family::V6 => ETHERTYPE_IPV6,
    };
    let all = ethertype.to_be_bytes();
    let bytes = all.iter().chain(header);
    let place = data.get_mut(l3.saturating_sub(2)..).unwrap_or_default();
    place.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}
