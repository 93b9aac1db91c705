//! Makes ICMP errors: too big, time exceeded, unreachable.
//!
//! Rules of RFC 1812 section 4.3.2 and RFC 4443 section 2.4, which the kernel's `icmp_send` and
//! `icmp6_send` follow, too: never about an ICMP error or a redirect, a group address on any layer, a
//! source that is no single host, or a fragment other than the first; IPv4 quotes as much as keeps
//! the error within 576 bytes, IPv6 within 1280. The type of service is "internetwork control"
//! (RFC 1812 section 4.3.2.5). How many a second is the caller's to limit.

use super::embedded::{Quote, quote_v4, quote_v6};
use crate::fields::{Ipv4Fixed, Ipv6Fixed};
use core::net::IpAddr;
use lvs_core::addr::{Family, MacAddr, is_martian_source};
use lvs_core::checksum::{AddrPair, Sum, udp_field};
use lvs_core::io::L4Csum;
use lvs_core::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use lvs_core::wire::{Headers, PROTOCOL_ICMP, PROTOCOL_ICMPV6, Transport, icmpv4, icmpv6};
use zerocopy::{FromBytes, IntoBytes};

/// Longest IPv4 error (RFC 1812 section 4.3.2.3).
const LONGEST_V4: usize = 576;
/// Longest IPv6 error (RFC 4443 section 2.4 c).
const LONGEST_V6: usize = 1280;
/// Precedence "internetwork control".
const TOS: u8 = 0xc0;
const DONT_FRAGMENT: u16 = 0x4000;

/// What could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// No route.
    Net,
    /// The next hop does not answer.
    Host,
    /// Nobody listens; what the kernel's IPVS says when a service has no server.
    Port,
    /// By policy.
    Prohibited,
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Complaint {
    /// It does not fit the way: "fragmentation needed" (only for packets with DF), "packet too big".
    TooBig {
        /// What fits, as the sender of the packet counts: growth already taken off, see
        /// [`less_growth`](super::less_growth). IPv4 can tell 65535 at most.
        mtu: u32,
    },
    /// Its time to live is used up.
    TimeExceeded,
    /// It cannot be delivered.
    Unreachable(Unreachable),
    /// What an error of the same IP version has said about the packet that it travelled in, without a number of
    /// its own.
    Relayed {
        /// Type of that error.
        kind: u8,
        /// Its code.
        code: u8,
    },
}

impl Complaint {
    /// Type, code, and the four bytes behind the checksum.
    fn fields(self, family: Family) -> (u8, u8, u32) {
        match (family, self) {
            (Family::V4, Self::TooBig { mtu }) => {
                (icmpv4::UNREACHABLE, 4, mtu.min(u16::MAX.into()))
            }
            (Family::V6, Self::TooBig { mtu }) => (icmpv6::PACKET_TOO_BIG, 0, mtu),
            (_, Self::Relayed { kind, code }) => (kind, code, 0),
            (Family::V4, Self::TimeExceeded) => (icmpv4::TIME_EXCEEDED, 0, 0),
            (Family::V6, Self::TimeExceeded) => (icmpv6::TIME_EXCEEDED, 0, 0),
            (Family::V4, Self::Unreachable(why)) => {
                let code = match why {
                    Unreachable::Net => 0,
                    Unreachable::Host => 1,
                    Unreachable::Port => 3,
                    Unreachable::Prohibited => 13,
                };
                (icmpv4::UNREACHABLE, code, 0)
            }
            (Family::V6, Self::Unreachable(why)) => {
                let code = match why {
                    Unreachable::Net => 0,
                    Unreachable::Prohibited => 1,
                    Unreachable::Host => 3,
                    Unreachable::Port => 4,
                };
                (icmpv6::UNREACHABLE, code, 0)
            }
        }
    }
}

/// What is complained about, and the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offender<'a> {
    /// The packet that is complained about, from its IP header on, without padding.
    pub packet: &'a [u8],
    /// The Ethernet header, tags included, for the error; its EtherType is written anew.
    pub link: &'a [u8],
}

/// Writes an ICMP error about a received frame into `out` and returns its length. It goes back to
/// where the frame came from, with the same tags; whoever routes it sets the addresses again.
///
/// `from` is the source of the error: an address of the director that the sender can reach, the
/// virtual address for packets to it. `ttl` is that of the error. The packet is quoted as it is in
/// `frame`; a transport checksum that is still partial is quoted complete where that can be known.
///
/// ```
/// use lvs_core::io::L4Csum;
/// use lvs_core::wire::{Headers, Parsed, Transport};
/// use lvs_nat::icmp::{Complaint, complain, embedded};
///
/// let frame = [
///     0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00,
///     0x45, 0, 0, 40, 0, 1, 0x40, 0, 1, 6, 0x65, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2,
///     0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0xbd, 0xb1, 0, 0,
/// ];
/// let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else { panic!() };
/// let mut out = [0; 128];
/// let from = [10, 0, 0, 2].into();
/// let len = complain(&frame, &headers, L4Csum::Good, Complaint::TimeExceeded, from, 64, &mut out);
/// let error = &out[..len.unwrap()];
/// let Ok(Parsed::Ip(headers)) = Headers::parse(error, error.len()) else { panic!() };
/// assert_eq!(headers.transport, Transport::Icmp { kind: 11, code: 0 });
/// assert!(embedded(error, &headers).is_some());
/// ```
///
/// `None`, with `out` unspecified, when the rules forbid an answer ([`may_complain`]), `from` is of the
/// other family, or `out` is too short.
#[must_use]
pub fn complain(
    frame: &[u8],
    headers: &Headers,
    csum: L4Csum,
    complaint: Complaint,
    from: IpAddr,
    ttl: u8,
    out: &mut [u8],
) -> Option<usize> {
    let l3 = usize::from(headers.l3);
    let end = usize::try_from(headers.end).unwrap_or(usize::MAX).min(frame.len());
    let packet = frame.get(l3..end)?;
    let mut link = [0; 22];
    let link = link.get_mut(..l3)?;
    for (to, byte) in link.iter_mut().zip(frame) {
        *to = *byte;
    }
    let [to, source, ..] = link.as_chunks_mut::<6>().0 else { return None };
    core::mem::swap(to, source);
    if !MacAddr(*to).is_host() || !MacAddr(*source).is_host() {
        return None;
    }
    let completed = completed(frame, headers, csum);
    write(&Offender { packet, link }, completed, complaint, from, ttl, out)
}

/// Writes an ICMP error about a packet of which there is no frame, such as one that another error
/// quotes; see [`complain`].
#[must_use]
pub fn complain_about(
    offender: &Offender<'_>,
    complaint: Complaint,
    from: IpAddr,
    ttl: u8,
    out: &mut [u8],
) -> Option<usize> {
    write(offender, None, complaint, from, ttl, out)
}

/// Whether an error about this packet may be sent at all. Needs its IP header and eight bytes more.
#[must_use]
pub fn may_complain(packet: &[u8]) -> bool {
    read(packet).is_some_and(|quote| may(&quote))
}

fn read(packet: &[u8]) -> Option<Quote<'_>> {
    match packet.first()? >> 4 {
        4 => quote_v4(packet),
        6 => quote_v6(packet),
        _ => None,
    }
}

fn may(quote: &Quote<'_>) -> bool {
    let asks = match (quote.protocol, quote.src, quote.transport.first()) {
        // Queries and their answers.
        (PROTOCOL_ICMP, IpAddr::V4(_), kind) => matches!(kind, Some(0 | 8 | 13..=18)),
        (PROTOCOL_ICMPV6, IpAddr::V6(_), kind) => {
            kind.is_some_and(|kind| *kind >= 128 && *kind != icmpv6::REDIRECT)
        }
        _ => true,
    };
    asks && !quote.later && !is_martian_source(&quote.src) && !is_martian_source(&quote.dst)
}

/// The transport checksum of a packet that has only the pseudo-header's sum so far, and its offset
/// from the IP header.
fn completed(frame: &[u8], headers: &Headers, csum: L4Csum) -> Option<(usize, u16)> {
    let (field, is_udp) = match headers.transport {
        Transport::Tcp { .. } => (16, false),
        Transport::Udp => (6, true),
        Transport::Icmp { .. } | Transport::Other(_) => return None,
    };
    if csum != L4Csum::Partial {
        return None;
    }
    let l4 = usize::from(headers.l4);
    let segment = frame.get(l4..usize::try_from(headers.end).ok()?)?;
    let computed = Sum::ZERO.bytes(segment).checksum();
    let at = l4.checked_sub(headers.l3.into())?.checked_add(field)?;
    Some((at, if is_udp { udp_field(computed) } else { computed }))
}

fn write(
    offender: &Offender<'_>,
    completed: Option<(usize, u16)>,
    complaint: Complaint,
    from: IpAddr,
    ttl: u8,
    out: &mut [u8],
) -> Option<usize> {
    let Offender { packet, link } = *offender;
    let quote = read(packet).filter(may)?;
    let pair = AddrPair::new(from, quote.src)?;
    let (ip_len, longest, ethertype) = match pair {
        AddrPair::V4 { .. } => (20, LONGEST_V4, ETHERTYPE_IPV4),
        AddrPair::V6 { .. } => (40, LONGEST_V6, ETHERTYPE_IPV6),
    };
    let quoted = packet.len().min(longest.saturating_sub(ip_len + 8));
    let message_len = quoted.checked_add(8)?;
    let total = link.len().checked_add(ip_len)?.checked_add(message_len)?;
    let (head, rest) = out.get_mut(..total)?.split_at_mut_checked(link.len())?;
    for (to, byte) in head.iter_mut().zip(link) {
        *to = *byte;
    }
    *head.last_chunk_mut::<2>()? = ethertype.to_be_bytes();
    let (ip, message) = rest.split_at_mut_checked(ip_len)?;
    write_message(message, packet, completed, complaint, pair)?;
    write_ip(ip, pair, u16::try_from(message_len).ok()?, ttl)?;
    Some(total)
}

fn write_message(
    message: &mut [u8],
    packet: &[u8],
    completed: Option<(usize, u16)>,
    complaint: Complaint,
    pair: AddrPair,
) -> Option<()> {
    let (kind, code, word) = complaint.fields(pair.family());
    let len = u32::try_from(message.len()).ok()?;
    let (header, quote) = message.split_first_chunk_mut::<8>()?;
    for (to, byte) in quote.iter_mut().zip(packet) {
        *to = *byte;
    }
    if let Some((at, field)) = completed
        && let Some(bytes) = quote.get_mut(at..).and_then(<[u8]>::first_chunk_mut)
    {
        *bytes = field.to_be_bytes();
    }
    let [w0, w1, w2, w3] = word.to_be_bytes();
    *header = [kind, code, 0, 0, w0, w1, w2, w3];
    let pseudo = match pair {
        AddrPair::V4 { .. } => Sum::ZERO,
        AddrPair::V6 { .. } => pair.pseudo(PROTOCOL_ICMPV6, len),
    };
    let sum = pseudo.bytes(message).checksum();
    let [_, _, c0, c1, ..] = message else { return None };
    [*c0, *c1] = sum.to_be_bytes();
    Some(())
}

fn write_ip(out: &mut [u8], pair: AddrPair, message_len: u16, ttl: u8) -> Option<()> {
    match pair {
        AddrPair::V4 { src, dst } => {
            let ip = Ipv4Fixed {
                version_ihl: 0x45,
                tos: TOS,
                total_len: message_len.checked_add(20)?.into(),
                id: 0.into(),
                fragment: DONT_FRAGMENT.into(),
                ttl,
                protocol: PROTOCOL_ICMP,
                checksum: 0.into(),
                src: src.into(),
                dst: dst.into(),
            };
            ip.write_to_prefix(out).ok()?;
            let sum = Sum::ZERO.bytes(out).checksum();
            let (written, _) = Ipv4Fixed::mut_from_prefix(out).ok()?;
            written.checksum.set(sum);
        }
        AddrPair::V6 { src, dst } => {
            let ip = Ipv6Fixed {
                version_class_flow: (6 << 28).into(),
                payload_len: message_len.into(),
                next: PROTOCOL_ICMPV6,
                hop_limit: ttl,
                src: src.into(),
                dst: dst.into(),
            };
            ip.write_to_prefix(out).ok()?;
        }
    }
    Some(())
}
