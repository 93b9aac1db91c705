//! Checksums that the capturing host had left to its network card are computed.

use lvs_core::checksum::{AddrPair, Sum};
use lvs_core::wire::{Ethernet, Fragment, Headers, Parsed, Transport, ethernet};
use lvs_nat::sctp;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Writes the right IPv4 header checksum and the right TCP, UDP, SCTP or ICMP checksum into a frame. Says
/// whether that changed anything. Fragments and frames that are no IP keep what they have, and so does
/// UDP without a checksum.
pub(super) fn checksums(frame: &mut [u8]) -> bool {
    let ip = ip_header(frame);
    // The header has to be right before anything behind it can be read.
    let transport = transport(frame);
    ip || transport
}

/// Sets a field to the checksum of `bytes` and `pseudo`; says whether it was another one.
fn set(bytes: &mut [u8], at: usize, pseudo: Sum, zero_means_none: bool) -> bool {
    let Some(field) = bytes.get_mut(at..at + 2) else { return false };
    let before = [field[0], field[1]];
    if zero_means_none && before == [0, 0] {
        return false;
    }
    field.fill(0);
    let mut right = pseudo.bytes(bytes).checksum();
    if zero_means_none && right == 0 {
        right = 0xffff;
    }
    bytes[at..at + 2].copy_from_slice(&right.to_be_bytes());
    before != right.to_be_bytes()
}

fn ip_header(frame: &mut [u8]) -> bool {
    let Ok(link) = Ethernet::parse(frame) else { return false };
    if link.ethertype() != ethernet::ETHERTYPE_IPV4 {
        return false;
    }
    let start = link.header_len();
    let words = frame.get(start).map_or(0, |first| usize::from(first & 0x0f));
    match frame.get_mut(start..start + 4 * words) {
        Some(header) if words >= 5 => set(header, 10, Sum::ZERO, false),
        _ => false,
    }
}

fn transport(frame: &mut [u8]) -> bool {
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else { return false };
    if headers.fragment != Fragment::No {
        return false;
    }
    let Some((src, dst)) = headers.addresses(frame) else { return false };
    let Some(pair) = AddrPair::new(src, dst) else { return false };
    let (start, end) = (usize::from(headers.l4), usize::try_from(headers.end).unwrap_or(0));
    let Some(bytes) = frame.get_mut(start..end) else { return false };
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    match headers.transport {
        Transport::Tcp { .. } => set(bytes, 16, pair.pseudo(TCP, length), false),
        Transport::Udp => {
            // The UDP length may be shorter than the IP payload (RFC 768 counts what it states).
            let stated = bytes.get(4..6).map_or(0, |l| u16::from_be_bytes([l[0], l[1]]));
            let Some(datagram) = bytes.get_mut(..usize::from(stated)) else { return false };
            set(datagram, 6, pair.pseudo(UDP, u32::from(stated)), src.is_ipv4())
        }
        Transport::Icmp { .. } if src.is_ipv6() => {
            set(bytes, 2, pair.pseudo(ICMPV6, length), false)
        }
        Transport::Icmp { .. } => set(bytes, 2, Sum::ZERO, false),
        Transport::Other(sctp::PROTOCOL) => {
            !sctp::verify(bytes, &[]) && sctp::complete(bytes).is_some()
        }
        Transport::Other(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_testkit::build::{Csum, echo, tcp, udp};
    use lvs_testkit::{oracle, strategies};
    use proptest::prelude::*;

    #[test]
    fn wrong_and_missing_checksums_become_right() {
        let v6 = |last: u8| {
            core::net::SocketAddr::new([0xfd00, 0, 0, 0, 0, 0, 0, last.into()].into(), 9)
        };
        for mut frame in [
            tcp().syn().wrong_l4_csum().build(),
            tcp().ack(1).payload_len(77).l4_csum(Csum::Value(0)).ip_csum(Csum::Value(0)).build(),
            tcp().from(v6(1)).to(v6(2)).ack(1).payload_len(3).wrong_l4_csum().pad(6).build(),
            udp().payload_len(9).wrong_l4_csum().build(),
            udp().from(v6(1)).to(v6(2)).payload_len(9).l4_csum(Csum::Value(0)).build(),
            echo(1, 2).payload_len(5).wrong_l4_csum().build(),
            tcp().syn().vlan(7).wrong_l4_csum().build(),
        ] {
            assert!(oracle::checksums_ok(&frame).is_err());
            assert!(checksums(&mut frame));
            assert_eq!(oracle::checksums_ok(&frame), Ok(()));
            assert!(!checksums(&mut frame), "the second time there is nothing to do");
        }
    }

    #[test]
    fn udp_over_ipv4_may_have_no_checksum() {
        let mut frame = udp().payload_len(9).l4_csum(Csum::Value(0)).build();
        assert!(!checksums(&mut frame));
    }

    proptest! {
        #[test]
        fn a_valid_frame_stays_as_it_is(built in strategies::valid()) {
            let mut frame = built.frame.clone();
            prop_assert!(!checksums(&mut frame) || oracle::checksums_ok(&built.frame).is_err());
            if oracle::checksums_ok(&built.frame).is_ok() {
                prop_assert_eq!(frame, built.frame);
            }
        }

        #[test]
        fn no_frame_is_a_panic(mut frame in strategies::hostile()) {
            let _ = checksums(&mut frame);
        }
    }
}
