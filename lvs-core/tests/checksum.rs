//! The fast sums and changes agree with slow, obvious ones and with pnet_packet.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use lvs_core::addr::Family;
use lvs_core::checksum::{
    AddrPair, Delta, Sum, complete_partial, l4_checksum, udp_field, verify_icmpv4, verify_icmpv6,
    verify_tcp, verify_udp,
};
use lvs_core::flow::L4Proto;
use pnet_packet::{icmp, icmpv6, tcp, udp};
use proptest::prelude::*;

/// RFC 1071 word for word.
fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(pair[0]) << 8 | u32::from(low);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum as u16
}

fn slow_pseudo(pair: AddrPair, proto: u8, len: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    match pair {
        AddrPair::V4 { src, dst } => {
            bytes.extend(src.to_be_bytes());
            bytes.extend(dst.to_be_bytes());
            bytes.extend([0, proto]);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        AddrPair::V6 { src, dst } => {
            bytes.extend(src.to_be_bytes());
            bytes.extend(dst.to_be_bytes());
            bytes.extend(len.to_be_bytes());
            bytes.extend([0, 0, 0, proto]);
        }
    }
    bytes
}

fn pairs() -> impl Strategy<Value = AddrPair> {
    prop_oneof![
        any::<(u32, u32)>().prop_map(|(src, dst)| AddrPair::V4 { src, dst }),
        any::<(u128, u128)>().prop_map(|(src, dst)| AddrPair::V6 { src, dst }),
    ]
}

/// Numbers with many zero and all-one bytes, where one's complement has its corners.
fn edgy<T: Copy + core::fmt::Debug>(from: fn([u8; 16]) -> T) -> impl Strategy<Value = T> {
    prop::array::uniform16(prop_oneof![Just(0u8), Just(0xff), any::<u8>()]).prop_map(from)
}
fn edgy_u16() -> impl Strategy<Value = u16> {
    edgy(|b| u16::from_ne_bytes([b[0], b[1]]))
}
fn edgy_u32() -> impl Strategy<Value = u32> {
    edgy(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}
fn edgy_u128() -> impl Strategy<Value = u128> {
    edgy(u128::from_ne_bytes)
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..max)
}

/// A segment with a correct checksum as pnet_packet computes it.
fn segment(pair: AddrPair, proto: L4Proto, header: usize, payload: &[u8]) -> Vec<u8> {
    let mut l4 = vec![0u8; header];
    if proto == L4Proto::Tcp {
        l4[12] = 0x50;
    }
    l4.extend(payload);
    let (at, value) = match (pair, proto) {
        (AddrPair::V4 { src, dst }, L4Proto::Tcp) => {
            let packet = tcp::TcpPacket::new(&l4).unwrap();
            (16, tcp::ipv4_checksum(&packet, &src.into(), &dst.into()))
        }
        (AddrPair::V6 { src, dst }, L4Proto::Tcp) => {
            let packet = tcp::TcpPacket::new(&l4).unwrap();
            (16, tcp::ipv6_checksum(&packet, &src.into(), &dst.into()))
        }
        (AddrPair::V4 { src, dst }, L4Proto::Udp) => {
            let packet = udp::UdpPacket::new(&l4).unwrap();
            (6, udp_field(udp::ipv4_checksum(&packet, &src.into(), &dst.into())))
        }
        (AddrPair::V6 { src, dst }, L4Proto::Udp) => {
            let packet = udp::UdpPacket::new(&l4).unwrap();
            (6, udp_field(udp::ipv6_checksum(&packet, &src.into(), &dst.into())))
        }
        (_, L4Proto::Icmp | L4Proto::Sctp) => unreachable!("not of these"),
    };
    l4[at..at + 2].copy_from_slice(&value.to_be_bytes());
    l4
}

#[test]
fn the_example_of_rfc_1071_sums_to_ddf2() {
    let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
    assert_eq!(sum.fold(), 0xddf2);
    assert_eq!(sum.checksum(), !0xddf2);
}

#[test]
fn the_corner_case_of_rfc_1624_gives_positive_zero() {
    // RFC 1624 section 4: equation 2 would give 0xffff here.
    assert_eq!(Delta::ZERO.u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
}

#[test]
fn sums_of_all_ones_at_every_length_carry_right() {
    let ones = vec![0xff; 70_000];
    for len in (0..200).chain([65_534, 65_535, 65_536, 70_000]) {
        assert_eq!(Sum::ZERO.bytes(&ones[..len]).fold(), slow_sum(&ones[..len]), "length {len}");
    }
}

#[test]
fn a_udp_field_of_zero_stays_and_a_computed_zero_becomes_ffff() {
    let delta = Delta::ZERO.u16(1, 2);
    assert_eq!(delta.apply_udp(0), 0);
    // 0x0001 minus one would be zero.
    assert_eq!(delta.apply(0x0001), 0x0000);
    assert_eq!(delta.apply_udp(0x0001), 0xffff);
    // And back: 0xffff is a computed zero, not "none".
    assert_eq!(delta.complement().apply_udp(0xffff), 0x0001);
}

#[test]
fn a_missing_udp_checksum_is_right_over_v4_only() {
    let header = [0, 53, 0, 53, 0, 8, 0, 0];
    assert!(verify_udp(AddrPair::V4 { src: 1, dst: 2 }, &header, &[]));
    assert!(!verify_udp(AddrPair::V6 { src: 1, dst: 2 }, &header, &[]));
    assert!(!verify_udp(AddrPair::V4 { src: 1, dst: 2 }, &header[..7], &[]));
}

#[test]
fn completing_needs_the_field_and_changes_nothing_without() {
    let mut short = [7u8; 17];
    assert!(complete_partial(&mut short, L4Proto::Tcp).is_err());
    assert_eq!(short, [7u8; 17]);
    assert!(complete_partial(&mut short[..7], L4Proto::Udp).is_err());
    assert_eq!(short, [7u8; 17]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_fast_sum_is_the_slow_sum(data in bytes(2000)) {
        prop_assert_eq!(Sum::ZERO.bytes(&data).fold(), slow_sum(&data));
    }

    #[test]
    fn a_sum_in_two_parts_is_the_sum_of_the_whole(data in bytes(300), cut in 0usize..300) {
        let (a, b) = data.split_at(cut.min(data.len()));
        let sum = Sum::ZERO.bytes(a);
        let sum = if a.len() % 2 == 0 { sum.bytes(b) } else { sum.odd_bytes(b) };
        prop_assert_eq!(sum.fold(), slow_sum(&data));
    }

    #[test]
    fn numbers_sum_like_their_bytes(a in edgy_u16(), b in edgy_u32(), c in edgy_u128()) {
        let all: Vec<u8> =
            a.to_be_bytes().into_iter().chain(b.to_be_bytes()).chain(c.to_be_bytes()).collect();
        prop_assert_eq!(Sum::ZERO.u16(a).u32(b).u128(c).fold(), slow_sum(&all));
    }

    #[test]
    fn a_pseudo_header_sums_like_its_bytes(pair in pairs(), proto: u8, len in 0u32..65_536) {
        prop_assert_eq!(pair.pseudo(proto, len).fold(), slow_sum(&slow_pseudo(pair, proto, len)));
    }

    #[test]
    fn a_change_of_any_number_at_any_offset_gives_the_recomputed_checksum(
        data in prop::collection::vec(any::<u8>(), 64),
        at in 0usize..40, n16 in edgy_u16(), n32 in edgy_u32(), n128 in edgy_u128(),
    ) {
        let mut data = data;
        let before = !slow_sum(&data);
        let mut delta = Delta::ZERO;
        let odd = at % 2 == 1;

        let old = u16::from_be_bytes(data[at..at + 2].try_into().unwrap());
        data[at..at + 2].copy_from_slice(&n16.to_be_bytes());
        delta = delta.u16_at(odd, old, n16);

        let old = u32::from_be_bytes(data[at + 2..at + 6].try_into().unwrap());
        data[at + 2..at + 6].copy_from_slice(&n32.to_be_bytes());
        delta = delta.u32_at(odd, old, n32);

        let old = u128::from_be_bytes(data[48..64].try_into().unwrap());
        data[48..64].copy_from_slice(&n128.to_be_bytes());
        delta = delta.u128(old, n128);

        // Data of all zeros is the one case where 0xffff comes out of a full sum, too.
        prop_assert_eq!(delta.apply(before), !slow_sum(&data));
        prop_assert_eq!(Delta::from_bits(delta.bits()), delta);
        prop_assert_eq!(delta.complement().apply(delta.apply(before)), before);
    }

    #[test]
    fn changes_compose_in_any_order_and_cancel(
        a in edgy_u32(), b in edgy_u32(), c in edgy_u32(), field in edgy_u16(),
    ) {
        let there = Delta::ZERO.u32(a, b);
        let on = Delta::ZERO.u32(b, c);
        prop_assert_eq!(there.and(on), Delta::ZERO.u32(a, c));
        prop_assert_eq!(there.and(on).apply(field), on.and(there).apply(field));
        prop_assert_eq!(there.and(there.complement()), Delta::ZERO);
        prop_assert_eq!(there.complement(), Delta::ZERO.u32(b, a));
    }

    #[test]
    fn sockets_and_sums_change_like_their_parts(
        a: u32, b: u32, c: u128, d: u128, p: u16, q: u16,
        old in bytes(40), new in bytes(40),
    ) {
        let v4 = |ip: u32, port| SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(ip)), port);
        let v6 = |ip: u128, port| SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(ip)), port);
        let zero = Delta::ZERO;
        prop_assert_eq!(zero.socket(&v4(a, p), &v4(b, q)), zero.u32(a, b).u16(p, q));
        prop_assert_eq!(zero.socket(&v6(c, p), &v6(d, q)), zero.u128(c, d).u16(p, q));
        prop_assert_eq!(
            zero.sum(Sum::ZERO.bytes(&old), Sum::ZERO.bytes(&new)),
            zero.u16(slow_sum(&old), slow_sum(&new))
        );
    }

    #[test]
    fn what_pnet_computes_verifies_and_a_flipped_bit_does_not(
        pair in pairs(), is_tcp: bool, payload in bytes(200), bit in 0usize..2000,
    ) {
        let (proto, header) = if is_tcp { (L4Proto::Tcp, 20) } else { (L4Proto::Udp, 8) };
        let verify = if is_tcp { verify_tcp } else { verify_udp };
        let mut l4 = segment(pair, proto, header, &payload);
        prop_assert!(verify(pair, &l4[..header], &l4[header..]));

        let mut blank = l4.clone();
        let at = if is_tcp { 16 } else { 6 };
        blank[at..at + 2].fill(0);
        let field = u16::from_be_bytes(l4[at..at + 2].try_into().unwrap());
        let len = l4.len() as u32;
        prop_assert_eq!(l4_checksum(pair, proto, len, Sum::ZERO.bytes(&blank)), field);

        let bit = bit % (l4.len() * 8);
        l4[bit / 8] ^= 1 << (bit % 8);
        let none = !is_tcp && l4[6..8] == [0, 0] && pair.family() == Family::V4;
        prop_assert_eq!(verify(pair, &l4[..header], &l4[header..]), none);
    }

    #[test]
    fn completing_a_partial_field_gives_what_pnet_computes(
        old in pairs(), new4: (u32, u32), new6: (u128, u128), is_tcp: bool, payload in bytes(200),
    ) {
        // The pseudo-header sum of other addresses, translated to the new ones, then completed.
        let (new, delta) = match old {
            AddrPair::V4 { src, dst } => (
                AddrPair::V4 { src: new4.0, dst: new4.1 },
                Delta::ZERO.u32(src, new4.0).u32(dst, new4.1),
            ),
            AddrPair::V6 { src, dst } => (
                AddrPair::V6 { src: new6.0, dst: new6.1 },
                Delta::ZERO.u128(src, new6.0).u128(dst, new6.1),
            ),
        };
        let (proto, header) = if is_tcp { (L4Proto::Tcp, 20) } else { (L4Proto::Udp, 8) };
        let want = segment(new, proto, header, &payload);
        let mut l4 = want.clone();
        let at = if is_tcp { 16 } else { 6 };
        let field = old.pseudo(proto.number(), l4.len() as u32).fold();
        l4[at..at + 2].copy_from_slice(&delta.apply_partial(field).to_be_bytes());
        complete_partial(&mut l4, proto).unwrap();
        prop_assert_eq!(l4, want);
    }

    #[test]
    fn icmp_verifies_what_pnet_computes(pair in pairs(), body in bytes(100)) {
        let mut message = vec![8, 0, 0, 0, 1, 2, 3, 4];
        message.extend(&body);
        let value = match pair {
            AddrPair::V4 { .. } => icmp::checksum(&icmp::IcmpPacket::new(&message).unwrap()),
            AddrPair::V6 { src, dst } => {
                let packet = icmpv6::Icmpv6Packet::new(&message).unwrap();
                icmpv6::checksum(&packet, &src.into(), &dst.into())
            }
        };
        let right = |m: &[u8]| match pair {
            AddrPair::V4 { .. } => verify_icmpv4(&m[..8], &m[8..]),
            AddrPair::V6 { .. } => verify_icmpv6(pair, &m[..8], &m[8..]),
        };
        let len = message.len() as u32;
        prop_assert_eq!(l4_checksum(pair, L4Proto::Icmp, len, Sum::ZERO.bytes(&message)), value);
        message[2..4].copy_from_slice(&value.to_be_bytes());
        prop_assert!(right(&message));
        message[5] ^= 0x40;
        prop_assert!(!right(&message));
    }
}
