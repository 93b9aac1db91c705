//! What an ICMP error quotes.

use crate::rewrite::echo_side;
use core::net::{IpAddr, Ipv4Addr};
use lvs_core::addr::Family;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::wire::{Fragment, Headers, Ipv6, Transport, icmpv4, icmpv6};

use super::echo::Echo;

/// Source quench, deprecated (RFC 6633), yet forwarded like any other error.
const SOURCE_QUENCH: u8 = 4;
/// Bytes of the transport header that every ICMP error quotes (RFC 792).
const FEWEST: usize = 8;

/// Whose packet an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carried {
    /// One of a flow with ports, as the quoted packet shows it.
    Flow(WireTuple),
    /// An echo message, as the quoted packet shows it.
    Echo(Echo),
}

impl Carried {
    /// The tuple by which a session knows the packet.
    #[must_use]
    pub const fn tuple(&self) -> Option<WireTuple> {
        match self {
            Self::Flow(tuple) => Some(*tuple),
            Self::Echo(echo) => echo.tuple(),
        }
    }
}

/// The packet that an ICMP error quotes, and where it lies in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "ip_vs_in_icmp")]
pub struct Embedded {
    /// Source and destination of the quoted packet.
    pub carried: Carried,
    /// Start of the quoted IP header, from the start of the frame.
    pub l3: u16,
    /// Start of the quoted transport header. At least eight bytes of it are there.
    pub l4: u16,
    /// The path MTU of "fragmentation needed" and "packet too big"; zero where a router tells none.
    pub mtu: Option<u32>,
}

impl Embedded {
    /// The way back of the quoted packet: what to look up, as the error goes to its sender. The
    /// direction in which a session is found is that of the error.
    #[must_use]
    pub const fn lookup(&self) -> Carried {
        match &self.carried {
            Carried::Flow(tuple) => Carried::Flow(tuple.reverse()),
            Carried::Echo(echo) => Carried::Echo(echo.reverse()),
        }
    }
}

/// What an ICMP or ICMPv6 error is about. `None` for what cannot be told from it: no error, a redirect
/// (which is for neighbours), a fragment, a quote without the eight bytes that RFC 792 asks for, a
/// quoted later fragment (its ports are elsewhere), another protocol or another IP version.
///
/// The checksum of the quoted IP header is not judged: routers change the header before they quote it.
#[must_use]
pub fn embedded(frame: &[u8], headers: &Headers) -> Option<Embedded> {
    let kind = error_kind(headers)?;
    let end = usize::try_from(headers.end).ok()?.min(frame.len());
    let message = frame.get(usize::from(headers.l4)..end)?;
    let quoted = message.get(8..)?;
    let quote = match headers.family {
        Family::V4 => quote_v4(quoted)?,
        Family::V6 => quote_v6(quoted)?,
    };
    let l3 = headers.l4.checked_add(8)?;
    Some(Embedded {
        carried: quote.carried(headers.family)?,
        l3,
        l4: l3.checked_add(quote.header_len)?,
        mtu: mtu_of(kind, message, headers.family),
    })
}

/// Type and code of an error that may be about a flow.
pub(super) fn error_kind(headers: &Headers) -> Option<(u8, u8)> {
    let Transport::Icmp { kind, code } = headers.transport else { return None };
    let known = match headers.family {
        Family::V4 => matches!(
            kind,
            icmpv4::UNREACHABLE | SOURCE_QUENCH | icmpv4::TIME_EXCEEDED | icmpv4::PARAMETER_PROBLEM
        ),
        Family::V6 => (icmpv6::UNREACHABLE..=icmpv6::PARAMETER_PROBLEM).contains(&kind),
    };
    (known && headers.fragment == Fragment::No).then_some((kind, code))
}

/// The MTU that an error tells.
pub(super) fn mtu_of(kind: (u8, u8), message: &[u8], family: Family) -> Option<u32> {
    let &[_, _, _, _, a, b, c, d] = message.first_chunk()?;
    match (family, kind) {
        (Family::V4, FRAGMENTATION_NEEDED) => Some(u32::from(u16::from_be_bytes([c, d]))),
        (Family::V6, (icmpv6::PACKET_TOO_BIG, _)) => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

/// Type and code (RFC 1191).
pub(super) const FRAGMENTATION_NEEDED: (u8, u8) = (icmpv4::UNREACHABLE, 4);

/// A quoted IP header.
pub(super) struct Quote<'a> {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    pub(super) header_len: u16,
    pub(super) later: bool,
    pub(super) transport: &'a [u8],
}

impl Quote<'_> {
    pub(super) fn carried(&self, family: Family) -> Option<Carried> {
        let start = self.transport.first_chunk::<FEWEST>().filter(|_| !self.later)?;
        let &[a, b, c, d, e, f, _, _] = start;
        if let Some(proto) = L4Proto::from_number(self.protocol) {
            let (sport, dport) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let tuple = WireTuple::new(proto, self.src, sport, self.dst, dport)?;
            return Some(Carried::Flow(tuple));
        }
        let icmp = match family {
            Family::V4 => lvs_core::wire::PROTOCOL_ICMP,
            Family::V6 => lvs_core::wire::PROTOCOL_ICMPV6,
        };
        if self.protocol != icmp || b != 0 {
            return None;
        }
        let request = echo_side(family, a)?;
        let id = u16::from_be_bytes([e, f]);
        Some(Carried::Echo(Echo { src: self.src, dst: self.dst, id, request }))
    }
}

/// Reads a quoted IPv4 header.
pub(super) fn quote_v4(quoted: &[u8]) -> Option<Quote<'_>> {
    let &[version, _, _, _, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        quoted.first_chunk()?;
    let header_len = usize::from(version & 0x0f) * 4;
    if version >> 4 != 4 || header_len < 20 {
        return None;
    }
    Some(Quote {
        src: IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3)),
        dst: IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
        protocol,
        header_len: header_len as u16,
        later: u16::from_be_bytes([f0, f1]) & 0x1fff != 0,
        transport: quoted.get(header_len..)?,
    })
}

/// Reads a quoted IPv6 header with its extension headers, which have to be quoted whole.
pub(super) fn quote_v6(quoted: &[u8]) -> Option<Quote<'_>> {
    let ip = Ipv6::parse_within(quoted, usize::MAX).ok()?;
    Some(Quote {
        src: IpAddr::V6(ip.src()),
        dst: IpAddr::V6(ip.dst()),
        protocol: ip.protocol(),
        header_len: u16::try_from(ip.header_len()).ok()?,
        later: ip.fragment() == Fragment::Later,
        transport: ip.payload(),
    })
}
