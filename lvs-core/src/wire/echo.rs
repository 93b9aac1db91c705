//! Answers an echo request in the bytes it came in (RFC 792, RFC 4443 section 4.2).

use super::headers::{Fragment, Headers, Parsed, Transport};
use super::{icmpv4, icmpv6, ipv4, ipv6};
use crate::addr::{Family, MacAddr, is_martian_source};
use crate::checksum::Delta;
use core::mem;
use core::net::IpAddr;

/// Turns an echo request of either family into its reply and returns the length of the packet from
/// the Ethernet header on, padding left out. `ttl` is the reply's time to live or hop limit.
///
/// Addresses of both layers are exchanged; identifier, sequence number, data, type of service and
/// tags stay. Checksums move by the change, so a request with a wrong one gets a wrong one back.
/// Whether the address is ours to answer for is the caller's to know.
///
/// `None`, with nothing changed, for anything that must not be answered from one packet: not an echo
/// request, malformed, a fragment, IPv4 options or IPv6 extension headers, and group or martian
/// addresses on either side (RFC 1122 section 3.2.2.6).
///
/// ```
/// use lvs_core::wire::{Headers, Parsed, Transport, echo};
///
/// let mut frame = [
///     0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
///     0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0x66, 0xde, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
///     8, 0, 0xf7, 0xfd, 0, 1, 0, 1, // echo request
/// ];
/// assert_eq!(echo::reply_in_place(&mut frame, 64), Some(42));
/// let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else { panic!() };
/// assert_eq!(headers.transport, Transport::Icmp { kind: 0, code: 0 });
/// assert_eq!(frame[34..38], [0, 0, 0xff, 0xfd]);
/// ```
#[must_use]
pub fn reply_in_place(frame: &mut [u8], ttl: u8) -> Option<usize> {
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else {
        return None;
    };
    let end = usize::try_from(headers.end).ok()?;
    let Transport::Icmp { kind, code: 0 } = headers.transport else {
        return None;
    };
    let (request, reply, header_len) = match headers.family {
        Family::V4 => (icmpv4::ECHO_REQUEST, icmpv4::ECHO_REPLY, ipv4::HEADER_LEN),
        Family::V6 => (icmpv6::ECHO_REQUEST, icmpv6::ECHO_REPLY, ipv6::HEADER_LEN),
    };
    let plain = usize::from(headers.l4.checked_sub(headers.l3)?) == header_len;
    if kind != request || headers.fragment != Fragment::No || !plain {
        return None;
    }
    let (src, dst) = headers.addresses(frame)?;
    if is_martian_source(&src) || is_martian_source(&dst) || !macs_are_hosts(frame) {
        return None;
    }
    exchange(frame, &headers, src)?;
    replace_ttl(frame, &headers, ttl)?;
    let l4 = usize::from(headers.l4);
    replace_word(frame, l4, l4.saturating_add(2), u16::from_be_bytes([reply, 0]))?;
    Some(end)
}

fn macs_are_hosts(frame: &[u8]) -> bool {
    match frame.as_chunks::<6>().0 {
        [dst, src, ..] => MacAddr(*dst).is_host() && MacAddr(*src).is_host(),
        _ => false,
    }
}

/// Exchanges the addresses of Ethernet and IP, which changes no checksum.
fn exchange(frame: &mut [u8], headers: &Headers, src: IpAddr) -> Option<()> {
    let (macs, _) = frame.as_chunks_mut::<6>();
    let [to, from, ..] = macs else { return None };
    mem::swap(to, from);
    let header = frame.get_mut(usize::from(headers.l3)..)?;
    match src {
        IpAddr::V4(_) => {
            let [from, to, ..] = header.get_mut(12..)?.as_chunks_mut::<4>().0 else { return None };
            mem::swap(from, to);
        }
        IpAddr::V6(_) => {
            let [from, to, ..] = header.get_mut(8..)?.as_chunks_mut::<16>().0 else { return None };
            mem::swap(from, to);
        }
    }
    Some(())
}

fn replace_ttl(frame: &mut [u8], headers: &Headers, ttl: u8) -> Option<()> {
    let l3 = usize::from(headers.l3);
    match headers.family {
        Family::V4 => {
            let word = u16::from_be_bytes([ttl, super::PROTOCOL_ICMP]);
            replace_word(frame, l3.saturating_add(8), l3.saturating_add(10), word)
        }
        Family::V6 => {
            *frame.get_mut(l3.saturating_add(7))? = ttl;
            Some(())
        }
    }
}

/// Writes a word that a checksum covers, and moves the checksum.
fn replace_word(frame: &mut [u8], at: usize, checksum_at: usize, new: u16) -> Option<()> {
    let word = frame.get_mut(at..)?.first_chunk_mut::<2>()?;
    let delta = Delta::ZERO.u16(u16::from_be_bytes(*word), new);
    *word = new.to_be_bytes();
    let checksum = frame.get_mut(checksum_at..)?.first_chunk_mut::<2>()?;
    *checksum = delta.apply(u16::from_be_bytes(*checksum)).to_be_bytes();
    Some(())
}
