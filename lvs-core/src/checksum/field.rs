//! Where each protocol keeps its checksum, what zero means in it, and whether it is right.

use super::{AddrPair, Sum};
use crate::addr::Family;
use crate::flow::L4Proto;
use crate::wire::PROTOCOL_ICMPV6;
use core::fmt;

/// A computed UDP checksum as it goes into the field: zero means "none" there, so a computed zero
/// is written as 0xffff (RFC 768; for IPv6 RFC 8200 section 8.1).
#[must_use]
pub const fn udp_field(computed: u16) -> u16 {
    match computed {
        0 => 0xffff,
        other => other,
    }
}

/// The checksum of a TCP segment, UDP datagram or ICMP message whose field is zero or left out of `data`. SCTP has
/// another one, which is no sum.
/// `data` is the sum of transport header and payload, `l4_len` their length in bytes.
#[must_use]
pub const fn l4_checksum(pair: AddrPair, proto: L4Proto, l4_len: u32, data: Sum) -> u16 {
    let pseudo = match (proto, pair) {
        (L4Proto::Icmp, AddrPair::V4 { .. }) => Sum::ZERO,
        (L4Proto::Icmp, AddrPair::V6 { .. }) => pair.pseudo(PROTOCOL_ICMPV6, l4_len),
        _ => pair.pseudo(proto.number(), l4_len),
    };
    let computed = pseudo.sum(data).checksum();
    match proto {
        L4Proto::Tcp | L4Proto::Sctp | L4Proto::Icmp => computed,
        L4Proto::Udp => udp_field(computed),
    }
}

/// The transport header is too short to have a checksum field, or the packet too long. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoChecksumField;

impl fmt::Display for NoChecksumField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the transport header ends before its checksum field")
    }
}
impl core::error::Error for NoChecksumField {}

/// Finishes a field in state `Partial`: `l4` is the transport header with the whole payload, without
/// Ethernet padding. Returns the checksum written.
///
/// The field is summed as it stands, so a pseudo-header sum that does not belong to the packet
/// gives a checksum that the receiver refuses.
///
/// # Errors
/// [`NoChecksumField`] when `l4` ends before the field, and for SCTP, which has none of this kind.
pub fn complete_partial(l4: &mut [u8], proto: L4Proto) -> Result<u16, NoChecksumField> {
    let computed = Sum::ZERO.bytes(l4).checksum();
    let (at, value) = match proto {
        L4Proto::Icmp => (2, computed),
        L4Proto::Tcp => (16, computed),
        L4Proto::Udp => (6, udp_field(computed)),
        L4Proto::Sctp => return Err(NoChecksumField),
    };
    let field = l4.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>).ok_or(NoChecksumField)?;
    *field = value.to_be_bytes();
    Ok(value)
}

/// Sum of a header and the payload behind it, and their length.
fn parts(header: &[u8], payload: &[u8]) -> (Sum, Option<u32>) {
    let sum = Sum::ZERO.bytes(header);
    let sum =
        if header.len().is_multiple_of(2) { sum.bytes(payload) } else { sum.odd_bytes(payload) };
    (sum, header.len().checked_add(payload.len()).and_then(|len| u32::try_from(len).ok()))
}

fn verify(pair: AddrPair, protocol: u8, header: &[u8], payload: &[u8]) -> bool {
    let (sum, len) = parts(header, payload);
    len.is_some_and(|len| pair.pseudo(protocol, len).sum(sum).is_valid())
}

/// Whether the checksum of a TCP segment is right (RFC 9293 section 3.1).
#[must_use]
pub fn verify_tcp(pair: AddrPair, header: &[u8], payload: &[u8]) -> bool {
    verify(pair, L4Proto::Tcp.number(), header, payload)
}

/// Whether the checksum of a UDP datagram is right. None at all (zero) is right over IPv4
/// (RFC 768) and wrong over IPv6 (RFC 8200 section 8.1).
#[must_use]
pub fn verify_udp(pair: AddrPair, header: &[u8], payload: &[u8]) -> bool {
    match header.get(6..8) {
        Some([0, 0]) => pair.family() == Family::V4,
        Some(_) => verify(pair, L4Proto::Udp.number(), header, payload),
        None => false,
    }
}

/// Whether the checksum of an ICMP message is right: no pseudo-header (RFC 792).
#[must_use]
pub fn verify_icmpv4(header: &[u8], payload: &[u8]) -> bool {
    parts(header, payload).0.is_valid()
}

/// Whether the checksum of an ICMPv6 message is right: with a pseudo-header (RFC 4443 section 2.3).
#[must_use]
pub fn verify_icmpv6(pair: AddrPair, header: &[u8], payload: &[u8]) -> bool {
    verify(pair, 58, header, payload)
}
