//! NAT64: packets, echo and ICMP errors against packets built anew, with checksums by pnet_packet.

mod support;

use core::net::SocketAddr;
use lvs_core::flow::L4Proto;
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::End;
use lvs_nat::nat64::{
    Links, Nat64Error, Quote, To4, To6, Word, error_to_v4, error_to_v6, icmp_to_v4, icmp_to_v6,
    mtu_to_v4, mtu_to_v6, v4_to_v6, v6_to_v4,
};
use pnet_packet::{icmp, icmpv6, ipv4};
use proptest::prelude::*;
use support::{ACK, Spec, edgy, specs};

const TO4: To4 = To4 { mtu: 1500, decrement_ttl: true, id: 0x1234 };
const TO6: To6 = To6 { mtu: 1500, decrement_ttl: true, compute_udp: true };
const LINKS: Links = Links { mtu_v4: 1500, mtu_v6: 1500, decrement_ttl: true, id: 0x1234 };

fn v4(end: &SocketAddr) -> End<u32> {
    match end {
        SocketAddr::V4(v4) => End::new(v4.ip().to_bits(), v4.port()),
        SocketAddr::V6(_) => panic!(),
    }
}

fn v6(end: &SocketAddr) -> End<u128> {
    match end {
        SocketAddr::V6(v6) => End::new(v6.ip().to_bits(), v6.port()),
        SocketAddr::V4(_) => panic!(),
    }
}

/// The headers of a frame.
fn parse(buf: &MemBuf) -> Headers {
    let Ok(Parsed::Ip(headers)) = Headers::parse(buf.data(), buf.total_len()) else {
        panic!("{:?}", Headers::parse(buf.data(), buf.total_len()))
    };
    headers
}

/// The IPv4 frame of a description with other words in its header, checksum by pnet_packet.
fn v4_frame(spec: &Spec, tos: u8, id: u16, flags: u16) -> Vec<u8> {
    let mut frame = spec.build();
    let l3 = spec.l3();
    frame[l3 + 1] = tos;
    frame[l3 + 4..l3 + 6].copy_from_slice(&id.to_be_bytes());
    frame[l3 + 6..l3 + 8].copy_from_slice(&flags.to_be_bytes());
    header_sum(&mut frame[l3..]);
    frame
}

fn header_sum(ip: &mut [u8]) {
    let sum = ipv4::checksum(&ipv4::Ipv4Packet::new(&ip[..20]).unwrap());
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn ends(v6: bool, ips: (u128, u128), ports: (u16, u16)) -> (SocketAddr, SocketAddr) {
    (support::socket(v6, ips.0, ports.0), support::socket(v6, ips.1, ports.1))
}

fn udp_field_is_zero(spec: &Spec) -> bool {
    spec.proto == L4Proto::Udp && spec.field(&spec.build()) == 0 && spec.csum != L4Csum::Partial
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_ipv6_packet_becomes_the_ipv4_packet_that_would_have_been_built(
        (mut spec, _) in specs(), ips: (u128, u128), to: (u32, u32), ports: (u16, u16), large: bool,
        chained: bool,
    ) {
        (spec.src, spec.dst) = ends(true, ips, (spec.src.port(), spec.dst.port()));
        if large {
            spec.payload = vec![0x77; 1300];
        }
        let chained = chained && spec.padding == 0;
        let mut buf = spec.buffer(0, None, chained);
        let headers = parse(&buf);
        let (src, dst) = ends(false, (to.0.into(), to.1.into()), ports);
        let now = v6_to_v4(&mut buf, &headers, (v4(&src), v4(&dst)), &TO4).unwrap();
        let want = Spec { src, dst, ip_extra: false, ttl: spec.ttl - 1, no_checksum: false, ..spec.clone() };
        let total = want.end() - want.l3();
        // DF from 1261 bytes on.
        let frame = v4_frame(&want, 0x01, 0x1234, if total > 1260 { 0x4000 } else { 0 });
        prop_assert_eq!(buf.to_vec(), frame);
        prop_assert_eq!(now, parse(&buf));
    }

    #[test]
    fn an_ipv4_packet_becomes_the_ipv6_packet_that_would_have_been_built(
        (mut spec, _) in specs(), from: (u32, u32), ips: (u128, u128), ports: (u16, u16), chained: bool,
    ) {
        (spec.src, spec.dst) =
            ends(false, (from.0.into(), from.1.into()), (spec.src.port(), spec.dst.port()));
        let chained = chained && spec.padding == 0 && !udp_field_is_zero(&spec);
        let mut buf = spec.buffer(20, None, chained);
        let headers = parse(&buf);
        let (src, dst) = ends(true, ips, ports);
        let now = v4_to_v6(&mut buf, &headers, (v6(&src), v6(&dst)), &TO6).unwrap();
        let want = Spec {
            src, dst, ip_extra: false, ttl: spec.ttl - 1, no_checksum: false, ..spec.clone()
        };
        let mut frame = want.build();
        let l3 = want.l3();
        frame[l3..l3 + 4].copy_from_slice(&[0x61, 0, 0, 0]);
        prop_assert_eq!(buf.to_vec(), frame);
        prop_assert_eq!(now, parse(&buf));
    }

    /// INV-3.
    #[test]
    fn damage_on_one_side_is_the_same_damage_on_the_other(
        (mut spec, _) in specs(), ips: (u128, u128), to: (u32, u32), field in 1u16..0xffff,
    ) {
        spec.csum = L4Csum::Unknown;
        (spec.src, spec.dst) = ends(true, ips, (5, 6));
        let mut buf = spec.buffer(0, None, false);
        let at = spec.field_at();
        let off = |spec: &Spec, frame: &[u8]| {
            (u32::from(spec.field(frame)) + 0xffff - u32::from(spec.computed(frame))) % 0xffff
        };
        buf.data_mut()[at..at + 2].copy_from_slice(&field.to_be_bytes());
        let before = off(&spec, buf.data());
        let headers = parse(&buf);
        let (src, dst) = ends(false, (to.0.into(), to.1.into()), (7, 8));
        v6_to_v4(&mut buf, &headers, (v4(&src), v4(&dst)), &TO4).unwrap();
        let now = Spec { src, dst, ip_extra: false, ..spec.clone() };
        prop_assert_eq!(off(&now, buf.data()), before);
    }

    #[test]
    fn any_bytes_are_survived_and_refusals_change_nothing(
        (spec, _) in specs(), bytes in edgy(40), at in 0usize..80, headroom in 0usize..60,
        len in 20usize..200, kind: u8,
    ) {
        let mut frame = spec.build();
        for (to, from) in frame.iter_mut().skip(at).zip(&bytes) {
            *to = *from;
        }
        frame.truncate(len);
        let mut headers = spec.headers();
        if kind < 200 {
            headers.transport = lvs_core::wire::Transport::Icmp { kind: kind % 16, code: kind / 16 % 3 };
        }
        let fresh = || MemBuf::with_room(&frame, headroom, 0);
        let q4 = Quote { src: End::new(1, 2), dst: End::new(3, 4), seq_add: 5 };
        let q6 = Quote { src: End::new(1, 2), dst: End::new(3, 4), seq_add: 5 };
        let mut bufs = [fresh(), fresh(), fresh(), fresh()];
        let results = [
            v6_to_v4(&mut bufs[0], &headers, (q4.src, q4.dst), &TO4),
            v4_to_v6(&mut bufs[1], &headers, (q6.src, q6.dst), &TO6),
            error_to_v4(&mut bufs[2], &headers, (1, 2), &q4, &LINKS),
            error_to_v6(&mut bufs[3], &headers, (1, 2), &q6, &LINKS),
        ];
        for (buf, result) in bufs.iter().zip(results) {
            if result.is_err() {
                prop_assert_eq!(&buf.to_vec(), &frame);
                prop_assert_eq!(buf.headroom(), headroom);
            }
        }
    }

    /// A quoted segment or datagram, whole or cut, whichever way the error goes.
    #[test]
    fn an_error_is_translated_with_what_it_quotes(
        (mut quoted, _) in specs(), to4 in any::<bool>(), keep in 8usize..200, seq_add: u32,
        damaged in prop::bool::weighted(0.1),
    ) {
        quoted.csum = L4Csum::Unknown;
        quoted.no_checksum = false;
        quoted.padding = 0;
        quoted.ip_extra = false;
        quoted.vlan = false;
        let (near, far) = (ends(to4, (11, 12), (13, 14)), ends(!to4, (21, 22), (23, 24)));
        (quoted.src, quoted.dst) = near;
        let want = Spec { src: far.0, dst: far.1, seq: quoted.seq.wrapping_add(seq_add), ..quoted.clone() };
        let (inner, inner_want) = (quoted.build(), want.build());
        // Half a checksum field stays as it is.
        let tail = match keep.min(inner.len() - quoted.l4()) {
            17 => 16,
            tail => tail,
        };
        let quote_of = |frame: &[u8], spec: &Spec| frame[14..spec.l4() + tail].to_vec();

        let kinds = if to4 { (1, 4, 3, 3) } else { (3, 3, 1, 4) };
        let mut frame = error(to4, kinds.0, kinds.1, [0; 4], &quote_of(&inner, &quoted));
        if damaged {
            *frame.last_mut().unwrap() ^= 1;
        }
        let mut buf = MemBuf::with_room(&frame, 60, 0);
        let headers = parse(&buf);
        let result = if to4 {
            let quote = Quote { src: v4(&far.0), dst: v4(&far.1), seq_add };
            error_to_v4(&mut buf, &headers, (31, 32), &quote, &LINKS)
        } else {
            let quote = Quote { src: v6(&far.0), dst: v6(&far.1), seq_add };
            error_to_v6(&mut buf, &headers, (31, 32), &quote, &LINKS)
        };
        if damaged {
            prop_assert_eq!(result, Err(Nat64Error::Corrupt));
            prop_assert_eq!(buf.to_vec(), frame);
            return Ok(());
        }
        // The quoted header as this translation makes it.
        let mut inner_want = quote_of(&inner_want, &want);
        if to4 {
            inner_want[1] = 0x01;
            inner_want[4..8].fill(0);
            if want.end() - 14 > 1260 {
                inner_want[6] = 0x40;
            }
            header_sum(&mut inner_want);
        } else {
            inner_want[..4].copy_from_slice(&[0x61, 0, 0, 0]);
        }
        let mut want = error(!to4, kinds.2, kinds.3, [0; 4], &inner_want);
        set_ends(&mut want, 31, 32, 63);
        prop_assert_eq!(buf.to_vec(), want);
        prop_assert_eq!(result.unwrap(), parse(&buf));
    }
}

/// An ICMP error, outer addresses 1 to 2, time to live 64, checksums by pnet_packet.
fn error(v6: bool, kind: u8, code: u8, word: [u8; 4], quote: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(word);
    message.extend(quote);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((message.len() as u16).to_be_bytes());
        frame.extend([58, 64]);
        frame.extend([0; 32]);
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + message.len() as u16).to_be_bytes());
        frame.extend([0x12, 0x34, 0, 0, 64, 1, 0, 0]);
        frame.extend([0; 8]);
        if 20 + message.len() > 1260 {
            frame[20] = 0x40;
        }
    }
    frame.extend(message);
    set_ends(&mut frame, 1, 2, 64);
    frame
}

/// Outer addresses and time to live, and both checksums anew.
fn set_ends(frame: &mut [u8], src: u8, dst: u8, ttl: u8) {
    if frame[12..14] == [8, 0] {
        frame[14 + 8] = ttl;
        (frame[14 + 15], frame[14 + 19]) = (src, dst);
        header_sum(&mut frame[14..]);
        let sum = icmp::checksum(&icmp::IcmpPacket::new(&frame[34..]).unwrap());
        frame[36..38].copy_from_slice(&sum.to_be_bytes());
    } else {
        frame[14 + 7] = ttl;
        (frame[14 + 23], frame[14 + 39]) = (src, dst);
        let ip = |n: u8| core::net::Ipv6Addr::from_bits(n.into());
        let message = icmpv6::Icmpv6Packet::new(&frame[54..]).unwrap();
        let sum = icmpv6::checksum(&message, &ip(src), &ip(dst));
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
    }
}

fn udp_v4(no_checksum: bool) -> Spec {
    Spec {
        src: "10.0.0.8:53".parse().unwrap(),
        dst: "10.0.0.1:4000".parse().unwrap(),
        proto: L4Proto::Udp,
        vlan: false,
        ip_extra: false,
        ttl: 64,
        seq: 0,
        ack: 0,
        flags: ACK,
        options: vec![],
        payload: vec![3; 21],
        no_checksum,
        csum: L4Csum::Unknown,
        padding: 0,
    }
}

const FAR: (End<u128>, End<u128>) = (End::new(1, 2), End::new(3, 4));
const NEAR: (End<u32>, End<u32>) = (End::new(1, 2), End::new(3, 4));

#[test]
fn a_datagram_without_checksum_is_computed_or_refused_and_never_made_to_look_so() {
    let spec = udp_v4(true);
    let mut buf = spec.buffer(20, None, false);
    let headers = parse(&buf);
    let refuse = To6 { compute_udp: false, ..TO6 };
    assert_eq!(v4_to_v6(&mut buf, &headers, FAR, &refuse), Err(Nat64Error::NoChecksum));
    // In parts nobody can sum it.
    let mut parts = spec.buffer(20, None, true);
    assert_eq!(v4_to_v6(&mut parts, &headers, FAR, &TO6), Err(Nat64Error::NoChecksum));
    assert!(v4_to_v6(&mut buf, &headers, FAR, &TO6).is_ok());
    // Zero over IPv6 is damage and must not become "none".
    let now = parse(&buf);
    let at = usize::from(now.l4) + 6;
    buf.data_mut()[at..at + 2].fill(0);
    assert_eq!(v6_to_v4(&mut buf, &now, NEAR, &TO4), Err(Nat64Error::NoChecksum));
}

#[test]
fn the_larger_header_is_held_against_mtu_and_room() {
    let mut spec = udp_v4(false);
    spec.payload = vec![0; 1500 - 28 - 19];
    let mut buf = spec.buffer(60, None, false);
    let headers = parse(&buf);
    assert_eq!(v4_to_v6(&mut buf, &headers, FAR, &TO6), Err(Nat64Error::TooBig));
    // Without DF it is to be cut.
    let frame = v4_frame(&spec, 0, 1, 0);
    let mut buf = MemBuf::with_room(&frame, 60, 0);
    assert_eq!(v4_to_v6(&mut buf, &headers, FAR, &TO6), Err(Nat64Error::NeedsFragmenting));
    spec.payload.pop();
    let mut buf = spec.buffer(19, None, false);
    let headers = parse(&buf);
    assert_eq!(v4_to_v6(&mut buf, &headers, FAR, &TO6), Err(Nat64Error::NoHeadroom));
    let mut buf = spec.buffer(20, None, false);
    assert!(v4_to_v6(&mut buf, &headers, FAR, &TO6).is_ok());
    let last = Spec { ttl: 1, ..spec };
    let mut buf = last.buffer(60, None, false);
    let headers = parse(&buf);
    assert_eq!(v4_to_v6(&mut buf, &headers, FAR, &TO6), Err(Nat64Error::TtlExpired));
    let still = To6 { decrement_ttl: false, ..TO6 };
    assert_eq!(v4_to_v6(&mut buf, &headers, FAR, &still).unwrap().ttl, 1);
}

#[test]
fn fragments_keep_their_place_and_identification_both_ways() {
    let mut spec = udp_v4(false);
    spec.payload = vec![7; 24];
    for (offset, more) in [(0u16, true), (5, true), (5, false)] {
        let flags = u16::from(more) << 13 | offset;
        let frame = v4_frame(&spec, 9, 0xbeef, flags);
        let mut buf = MemBuf::with_room(&frame, 28, 0);
        let headers = parse(&buf);
        let now = v4_to_v6(&mut buf, &headers, FAR, &TO6).unwrap();
        assert_eq!(now, parse(&buf));
        assert_eq!(now.fragment_id(buf.data()), Some(0xbeef));
        assert_eq!(buf.data()[14 + 40..14 + 48], {
            let [a, b] = (offset << 3 | u16::from(more)).to_be_bytes();
            [17, 0, a, b, 0, 0, 0xbe, 0xef]
        });
        // And back: the same packet but for what the ends are and DF says.
        let back = (v4(&spec.src), v4(&spec.dst));
        let still = To4 { decrement_ttl: false, ..TO4 };
        v6_to_v4(&mut buf, &now, back, &still).unwrap();
        let mut want = v4_frame(&Spec { ttl: 63, ..spec.clone() }, 9, 0xbeef, flags);
        if offset != 0 {
            want[34..].copy_from_slice(&frame[34..]);
        }
        assert_eq!(buf.to_vec(), want);
    }
}

#[test]
fn what_has_no_counterpart_is_refused() {
    // An open source route, and one that is used up.
    for (pointer, refused) in [(4u8, true), (8, false)] {
        let mut spec = udp_v4(false);
        spec.ip_extra = true;
        let mut frame = spec.build();
        frame[34..42].copy_from_slice(&[131, 7, pointer, 9, 9, 9, 9, 0]);
        let sum = {
            frame[24..26].fill(0);
            let sum = frame[14..42]
                .chunks(2)
                .fold(0u32, |s, w| s + u32::from(w[0]) * 256 + u32::from(w[1]));
            !((sum & 0xffff) + (sum >> 16)) as u16
        };
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let mut buf = MemBuf::with_room(&frame, 60, 0);
        let headers = parse(&buf);
        let result = v4_to_v6(&mut buf, &headers, FAR, &TO6);
        assert_eq!(result.err(), refused.then_some(Nat64Error::Unsupported), "{pointer}");
    }
    // An authentication header: it covers the addresses.
    let mut frame =
        vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 51, 9];
    frame.extend([1; 32]);
    frame.extend([17, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    frame.extend([0, 1, 0, 2, 0, 8, 1, 1]);
    let mut buf = MemBuf::with_room(&frame, 0, 0);
    let headers = parse(&buf);
    assert_eq!(v6_to_v4(&mut buf, &headers, NEAR, &TO4), Err(Nat64Error::Unsupported));
}

#[test]
fn echo_goes_both_ways_with_a_right_checksum() {
    for (v6, kind, other) in [(true, 128, 8), (true, 129, 0), (false, 8, 128), (false, 0, 129)] {
        let frame = error(v6, kind, 0, [1, 2, 3, 4], &[5; 33]);
        let mut buf = MemBuf::with_room(&frame, 20, 0);
        let headers = parse(&buf);
        let now = match v6 {
            true => v6_to_v4(&mut buf, &headers, (End::new(31, 0), End::new(32, 0)), &TO4),
            false => v4_to_v6(&mut buf, &headers, (End::new(31, 0), End::new(32, 0)), &TO6),
        };
        let mut want = error(!v6, other, 0, [1, 2, 3, 4], &[5; 33]);
        set_ends(&mut want, 31, 32, 63);
        assert_eq!(buf.to_vec(), want);
        assert_eq!(now.unwrap(), parse(&buf));
    }
}

/// RFC 7915 sections 4.2 and 5.2, row by row.
#[test]
fn types_and_codes_are_those_of_the_tables() {
    let z = |kind, code| Some((kind, code, Word::Zero));
    for (kind, code, want) in [
        (3, 0, z(1, 0)),
        (3, 1, z(1, 0)),
        (3, 2, Some((4, 1, Word::Pointer(6)))),
        (3, 3, z(1, 4)),
        (3, 4, Some((2, 0, Word::Mtu))),
        (3, 5, z(1, 0)),
        (3, 6, z(1, 0)),
        (3, 7, z(1, 0)),
        (3, 8, z(1, 0)),
        (3, 9, z(1, 1)),
        (3, 10, z(1, 1)),
        (3, 11, z(1, 0)),
        (3, 12, z(1, 0)),
        (3, 13, z(1, 1)),
        (3, 14, None),
        (3, 15, z(1, 1)),
        (3, 16, None),
        (4, 0, None),
        (5, 0, None),
        (11, 0, z(3, 0)),
        (11, 1, z(3, 1)),
        (12, 1, None),
        (12, 3, None),
        (13, 0, None),
    ] {
        let got = icmp_to_v6(kind, code, 0).map(|m| (m.kind, m.code, m.word));
        assert_eq!(got, want, "{kind}/{code}");
    }
    for (kind, code, want) in [
        (1, 0, z(3, 1)),
        (1, 1, z(3, 10)),
        (1, 2, z(3, 1)),
        (1, 3, z(3, 1)),
        (1, 4, z(3, 3)),
        (1, 5, None),
        (2, 0, Some((3, 4, Word::Mtu))),
        (3, 0, z(11, 0)),
        (3, 1, z(11, 1)),
        (4, 1, z(3, 2)),
        (4, 2, None),
        (130, 0, None),
        (200, 0, None),
    ] {
        let got = icmp_to_v4(kind, code, 0).map(|m| (m.kind, m.code, m.word));
        assert_eq!(got, want, "{kind}/{code}");
    }
    let to6 = |at| icmp_to_v6(12, 0, at).map(|m| m.word);
    let to4 = |at| icmp_to_v4(4, 0, at).map(|m| m.word);
    let p = |at| Some(Word::Pointer(at));
    let want6 = [
        p(0),
        p(1),
        p(4),
        p(4),
        None,
        None,
        None,
        None,
        p(7),
        p(6),
        None,
        None,
        p(8),
        p(8),
        p(8),
        p(8),
        p(24),
        p(24),
        p(24),
        p(24),
        None,
    ];
    assert_eq!((0..21).map(to6).collect::<Vec<_>>(), want6);
    for (range, want) in [
        (0..1, p(0)),
        (1..2, p(1)),
        (2..4, None),
        (4..6, p(2)),
        (6..7, p(9)),
        (7..8, p(8)),
        (8..24, p(12)),
        (24..40, p(16)),
        (40..50, None),
    ] {
        for at in range {
            assert_eq!(to4(at), want, "{at}");
        }
    }
}

#[test]
fn the_mtu_is_that_of_the_other_side_and_of_our_links() {
    assert_eq!(mtu_to_v6(1400, 1500, 9000, 9000), 1420);
    assert_eq!(mtu_to_v6(1400, 1500, 1300, 9000), 1300);
    assert_eq!(mtu_to_v6(9000, 9000, 9000, 1480), 1500);
    assert_eq!(mtu_to_v6(576, 1500, 9000, 9000), 1280);
    // Told nothing: the plateau below the packet.
    assert_eq!(mtu_to_v6(0, 1500, 9000, 9000), 1512);
    assert_eq!(mtu_to_v6(0, 68, 9000, 9000), 1280);
    assert_eq!(mtu_to_v4(1400, 9000, 9000), 1380);
    assert_eq!(mtu_to_v4(1400, 1300, 9000), 1300);
    assert_eq!(mtu_to_v4(9000, 9000, 1500), 1480);
    assert_eq!(mtu_to_v4(0, 9000, 9000), 68);
    // In the message itself.
    let quoted = Spec { ip_extra: false, ..udp_v4(false) };
    let quote = quoted.build()[14..].to_vec();
    let frame = error(false, 3, 4, [0, 0, 5, 0x78], &quote);
    let mut buf = MemBuf::with_room(&frame, 40, 0);
    let headers = parse(&buf);
    let q = Quote { src: FAR.0, dst: FAR.1, seq_add: 0 };
    let now = error_to_v6(&mut buf, &headers, (1, 2), &q, &LINKS).unwrap();
    let at = usize::from(now.l4);
    assert_eq!(buf.data()[at..at + 2], [2, 0]);
    assert_eq!(buf.data()[at + 4..at + 8], 1420u32.to_be_bytes());
}

#[test]
fn a_long_error_is_cut_to_what_ipv6_allows_and_extensions_go() {
    let mut quoted = udp_v4(false);
    quoted.payload = vec![1; 1300];
    let quote = quoted.build()[14..].to_vec();
    let frame = error(false, 3, 3, [0; 4], &quote);
    let q = Quote { src: FAR.0, dst: FAR.1, seq_add: 0 };
    let mut buf = MemBuf::with_room(&frame, 40, 0);
    let headers = parse(&buf);
    let now = error_to_v6(&mut buf, &headers, (1, 2), &q, &LINKS).unwrap();
    assert_eq!((now.end - u32::from(now.l3), buf.data().len()), (1280, 1294));
    assert_eq!(lvs_nat::icmp::checksum_is_right(buf.data(), &now), Some(true));
    // 32 words of quote, then an extension.
    let frame = error(false, 3, 3, [0, 32, 0, 0], &quote[..200]);
    let mut buf = MemBuf::with_room(&frame, 40, 0);
    let headers = parse(&buf);
    let now = error_to_v6(&mut buf, &headers, (1, 2), &q, &LINKS).unwrap();
    assert_eq!(now.end - u32::from(now.payload), 128 + 20);
    assert_eq!(lvs_nat::icmp::checksum_is_right(buf.data(), &now), Some(true));
}

#[test]
fn what_is_larger_than_1260_bytes_is_not_to_be_fragmented() {
    for (payload, flags) in [(1260 - 28, 0), (1260 - 28 + 1, 0x40)] {
        let (src, dst) = ends(true, (1, 2), (3, 4));
        let spec = Spec { src, dst, payload: vec![7; payload], ..udp_v4(false) };
        let mut buf = spec.buffer(0, None, false);
        let headers = parse(&buf);
        v6_to_v4(&mut buf, &headers, NEAR, &TO4).unwrap();
        assert_eq!(buf.data()[20..22], [flags, 0], "{payload}");
    }
}
