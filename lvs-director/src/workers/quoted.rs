//! The packet that an ICMP error quotes, as far as its tuple.

use crate::icmp::is_error;
use lvs_core::addr::Family;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::wire::{Headers, PROTOCOL_ICMP, PROTOCOL_ICMPV6, icmpv4, icmpv6};
use lvs_nat::icmp::Echo;

/// Bytes of the ICMP header in front of the quoted packet, in both versions.
const ICMP: usize = 8;

/// The tuple of the packet that an ICMP error quotes; `None` for other packets, for protocols without ports but echo,
/// for later fragments, and behind IPv6 extension headers. Nothing of the quoted packet is checked: it says
/// only who may look at it.
pub(crate) fn quoted_tuple(frame: &[u8], headers: &Headers) -> Option<WireTuple> {
    if !is_error(headers) {
        return None;
    }
    let ip = frame.get(usize::from(headers.l4).checked_add(ICMP)?..)?;
    match headers.family {
        Family::V4 => {
            let header = ip.first_chunk::<20>()?;
            let [
                first,
                _,
                _,
                _,
                _,
                _,
                fragment,
                offset,
                _,
                proto,
                _,
                _,
                s0,
                s1,
                s2,
                s3,
                d0,
                d1,
                d2,
                d3,
            ] = *header;
            let later = u16::from_be_bytes([fragment, offset]) & 0x1fff != 0;
            if first >> 4 != 4 || later {
                return None;
            }
            let l4 = ip.get(usize::from(first & 15).checked_mul(4)?..)?;
            tuple(proto, l4, [s0, s1, s2, s3].into(), [d0, d1, d2, d3].into())
        }
        Family::V6 => {
            let (header, l4) = ip.split_first_chunk::<40>()?;
            let (fixed, addresses) = header.split_first_chunk::<8>()?;
            let (src, rest) = addresses.split_first_chunk::<16>()?;
            let dst = rest.first_chunk::<16>()?;
            let [first, _, _, _, _, _, proto, _] = *fixed;
            if first >> 4 != 6 {
                return None;
            }
            tuple(proto, l4, (*src).into(), (*dst).into())
        }
    }
}

fn tuple(
    proto: u8,
    l4: &[u8],
    src: core::net::IpAddr,
    dst: core::net::IpAddr,
) -> Option<WireTuple> {
    if proto == PROTOCOL_ICMP || proto == PROTOCOL_ICMPV6 {
        let [kind, _, _, _, i0, i1] = *l4.first_chunk::<6>()?;
        let request = matches!(kind, icmpv4::ECHO_REQUEST | icmpv6::ECHO_REQUEST);
        return Echo { src, dst, id: u16::from_be_bytes([i0, i1]), request }.tuple();
    }
    let [s0, s1, d0, d1] = *l4.first_chunk::<4>()?;
    let (sport, dport) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    WireTuple::new(L4Proto::from_number(proto)?, src, sport, dst, dport)
}
