//! Every fault has its layer and its place, and every length is refused as soon as it is wrong.

mod wire_common;

use lvs_core::wire::{
    Arp, ArpOperation, Fault, Fragment, Headers, Layer, Malformed, Parsed, Transport,
};
use wire_common::{Frame, L4, fix_ipv4_checksum};

fn parse(frame: &[u8]) -> Result<Parsed, Malformed> {
    Headers::parse(frame, frame.len())
}

fn fault(layer: Layer, fault: Fault, offset: u16) -> Result<Parsed, Malformed> {
    Err(Malformed { layer, fault, offset })
}

fn ip(frame: &[u8]) -> Headers {
    match parse(frame) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("not accepted: {other:?}"),
    }
}

/// The frame with `bytes` written at `at`, its IPv4 header checksum made right again.
fn edited(frame: &Frame, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut out = frame.build();
    out[at..at + bytes.len()].copy_from_slice(bytes);
    if frame.is_v4() {
        fix_ipv4_checksum(&mut out, frame.l3());
    }
    out
}

fn icmp(kind: u8, payload: usize) -> Frame {
    let l4 = L4::Icmp { kind, code: 0, rest: [0; 4] };
    Frame { l4, payload: vec![0; payload], ..Frame::tcp_v4() }
}

#[test]
fn a_group_source_address_is_refused() {
    let frame = edited(&Frame::tcp_v4(), 6, &[0x03]);
    assert_eq!(parse(&frame), fault(Layer::Ethernet, Fault::BadField, 6));
}

#[test]
fn two_tags_are_read_and_a_third_is_refused() {
    let mut frame = Frame::udp_v4();
    frame.tags = vec![(0x8100, 1); 2];
    assert_eq!(ip(&frame.build()).l3, 22);
    frame.tags.push((0x8100, 1));
    assert_eq!(parse(&frame.build()), fault(Layer::Ethernet, Fault::TooManyHeaders, 22));
    for len in 14..18 {
        assert_eq!(parse(&frame.build()[..len]), fault(Layer::Ethernet, Fault::Truncated, 14));
    }
    for len in 18..22 {
        assert_eq!(parse(&frame.build()[..len]), fault(Layer::Ethernet, Fault::Truncated, 18));
    }
}

#[test]
fn only_the_right_version_goes_with_an_ethertype() {
    for version in (0..16u8).filter(|version| *version != 4) {
        let frame = edited(&Frame::tcp_v4(), 14, &[version << 4 | 5]);
        assert_eq!(parse(&frame), fault(Layer::Ipv4, Fault::BadVersion, 14));
    }
    for version in (0..16u8).filter(|version| *version != 6) {
        let frame = edited(&Frame::tcp_v4().v6(), 14, &[version << 4]);
        assert_eq!(parse(&frame), fault(Layer::Ipv6, Fault::BadVersion, 14));
    }
}

#[test]
fn every_wrong_header_length_is_refused() {
    for words in 0..16u8 {
        let frame = edited(&Frame::tcp_v4(), 14, &[0x40 | words]);
        match words {
            5 => assert_eq!(ip(&frame).l4, 34),
            0..5 => assert_eq!(parse(&frame), fault(Layer::Ipv4, Fault::BadLength, 14)),
            // The longer header reaches into the ports, which make no option.
            6..=10 => assert_eq!(parse(&frame), fault(Layer::Ipv4, Fault::BadOption, 34)),
            _ => assert_eq!(parse(&frame), fault(Layer::Ipv4, Fault::Truncated, 14)),
        }
    }
    let mut padded = Frame::tcp_v4();
    padded.padding = 40;
    let frame = edited(&padded, 14, &[0x4f]);
    assert_eq!(parse(&frame), fault(Layer::Ipv4, Fault::BadLength, 16), "above the total length");
}

/// INV-4.
#[test]
fn every_wrong_total_length_is_refused() {
    let mut frame = Frame::udp_v4();
    frame.padding = 10;
    for total in 0..=u16::MAX {
        let bytes = edited(&frame, 16, &total.to_be_bytes());
        let expected = match total {
            0..20 => fault(Layer::Ipv4, Fault::BadLength, 16),
            20..28 => fault(Layer::Udp, Fault::Truncated, 34),
            28..36 => fault(Layer::Udp, Fault::BadLength, 38),
            36..=46 => {
                assert_eq!(ip(&bytes).end, 14 + u32::from(total));
                continue;
            }
            _ => fault(Layer::Ipv4, Fault::Truncated, 16),
        };
        assert_eq!(parse(&bytes), expected, "{total}");
    }
}

#[test]
fn every_wrong_header_checksum_is_refused() {
    let good = Frame::tcp_v4().build();
    let right = u16::from_be_bytes([good[24], good[25]]);
    for checksum in (0..=u16::MAX).filter(|checksum| *checksum != right) {
        let mut frame = good.clone();
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(parse(&frame), fault(Layer::Ipv4, Fault::BadChecksum, 24));
    }
}

/// The slow twin of the option check: how far a list of options is in order.
fn first_bad_option(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            0 => return None,
            1 => at += 1,
            _ => {
                let len = usize::from(*options.get(at + 1).unwrap_or(&0));
                if len < 2 || at + len > options.len() {
                    return Some(at);
                }
                at += len;
            }
        }
    }
    None
}

#[test]
fn every_wrong_option_length_is_refused() {
    let list = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7, 254, 8, 0, 80];
    let list = [&list[..], &[10, 0, 0, 1, 1, 1, 1, 7]].concat();
    let mut refused = 0;
    for (at, len) in (0..list.len()).flat_map(|at| (0..=u8::MAX).map(move |len| (at, len))) {
        let mut options = list.clone();
        options[at] = len;
        let expected = first_bad_option(&options).map(|at| at as u16);
        refused += usize::from(expected.is_some());
        let tcp = parse(&Frame::tcp_v4().with_tcp_options(&options).build());
        let v4 = parse(&Frame::udp_v4().with_ip_options(&options).build());
        match expected {
            Some(at) => {
                assert_eq!(tcp, fault(Layer::Tcp, Fault::BadOption, 54 + at), "{options:?}");
                assert_eq!(v4, fault(Layer::Ipv4, Fault::BadOption, 34 + at), "{options:?}");
            }
            None => assert!(tcp.is_ok() && v4.is_ok(), "{options:?}"),
        }
    }
    assert!(refused > 2000, "{refused}");
}

#[test]
fn a_list_that_begins_like_the_usual_timestamp_is_checked_to_its_end() {
    let usual = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    for words in 1..=10 {
        let options: Vec<u8> = usual.into_iter().chain([3, 99]).cycle().take(4 * words).collect();
        let got = parse(&Frame::tcp_v4().with_tcp_options(&options).build());
        match first_bad_option(&options) {
            Some(at) => assert_eq!(got, fault(Layer::Tcp, Fault::BadOption, 54 + at as u16)),
            None => assert!(got.is_ok(), "{options:?}"),
        }
        assert_eq!(got.is_ok(), words == 3);
    }
}

#[test]
fn bytes_behind_the_end_of_the_option_list_are_not_read() {
    let options = [2, 4, 5, 180, 0, 99, 99, 99];
    let frame = Frame::tcp_v4().with_tcp_options(&options).build();
    assert_eq!(ip(&frame).tcp(&frame).unwrap().options().count(), 1);
}

#[test]
fn every_wrong_data_offset_is_refused() {
    let mut frame = Frame::tcp_v4();
    frame.payload = vec![1; 12];
    for words in 0..16u8 {
        let bytes = edited(&frame, 46, &[words << 4]);
        match words {
            0..5 => assert_eq!(parse(&bytes), fault(Layer::Tcp, Fault::BadLength, 46)),
            5..=8 => assert_eq!(u32::from(ip(&bytes).payload), 34 + 4 * u32::from(words)),
            _ => assert_eq!(parse(&bytes), fault(Layer::Tcp, Fault::Truncated, 46)),
        }
    }
}

#[test]
fn padding_is_not_part_of_a_tcp_header() {
    let mut frame = Frame::tcp_v4();
    frame.padding = 40;
    let bytes = edited(&frame, 46, &[0x60]);
    assert_eq!(parse(&bytes), fault(Layer::Tcp, Fault::Truncated, 46));
}

/// INV-4.
#[test]
fn every_wrong_udp_length_is_refused_and_a_shorter_one_is_not() {
    for frame in [Frame::udp_v4(), Frame::udp_v4().v6()] {
        let at = frame.l4_offset() + 4;
        for len in 0..=u16::MAX {
            let bytes = edited(&frame, at, &len.to_be_bytes());
            match len {
                8..=16 => assert_eq!(ip(&bytes).end as usize, bytes.len()),
                _ => assert_eq!(parse(&bytes), fault(Layer::Udp, Fault::BadLength, at as u16)),
            }
        }
    }
}

#[test]
fn every_wrong_payload_length_of_ipv6_is_refused() {
    let mut frame = Frame::udp_v4().v6();
    frame.padding = 10;
    for len in 0..=u16::MAX {
        let bytes = edited(&frame, 18, &len.to_be_bytes());
        let expected = match len {
            0..8 => fault(Layer::Udp, Fault::Truncated, 54),
            8..16 => fault(Layer::Udp, Fault::BadLength, 58),
            16..=26 => {
                assert_eq!(ip(&bytes).end, 54 + u32::from(len));
                continue;
            }
            _ => fault(Layer::Ipv6, Fault::Truncated, 18),
        };
        assert_eq!(parse(&bytes), expected, "{len}");
    }
}

#[test]
fn jumbograms_are_refused() {
    let jumbo = [0, 0xc2, 4, 0, 1, 0x11, 0x70];
    let frame = Frame::udp_v4().v6().with_extensions(&[(0, &jumbo)]);
    assert_eq!(parse(&edited(&frame, 18, &[0, 0])), fault(Layer::Ipv6, Fault::BadLength, 18));
    assert_eq!(parse(&frame.build()), fault(Layer::Ipv6, Fault::BadLength, 56));
}

#[test]
fn every_wrong_extension_header_length_is_refused() {
    const PAD: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
    const ROUTING: [u8; 7] = [0, 2, 0, 0, 0, 0, 0];
    const AUTHENTICATION: [u8; 11] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (kind, bytes) in [(0, &PAD[..]), (60, &PAD), (43, &ROUTING), (51, &AUTHENTICATION)] {
        let frame = Frame::udp_v4().v6().with_extensions(&[(kind, bytes)]);
        assert_eq!(usize::from(ip(&frame.build()).l4), frame.l4_offset());
        for len in (0..=u8::MAX).filter(|len| *len != bytes[0]) {
            let got = parse(&edited(&frame, 55, &[len]));
            // Another length makes either no header, or one that what follows does not fit.
            match (kind, len) {
                (51, 0) => assert_eq!(got, fault(Layer::Ipv6, Fault::BadLength, 54)),
                _ => assert!(got.is_err(), "{kind} {len}: {got:?}"),
            }
        }
        for len in 6..=u8::MAX {
            let got = parse(&edited(&frame, 55, &[len]));
            assert_eq!(got, fault(Layer::Ipv6, Fault::Truncated, 54), "{kind} {len}");
        }
    }
}

#[test]
fn options_of_extension_headers_stay_inside_them() {
    for (options, at) in
        [([1, 5, 0, 0, 0, 0], 56), ([0, 0, 0, 0, 0, 1], 61), ([0, 5, 1, 9, 5, 9], 60)]
    {
        let bytes = [&[0], &options[..]].concat();
        for kind in [0, 60] {
            let frame = Frame::udp_v4().v6().with_extensions(&[(kind, &bytes)]);
            assert_eq!(parse(&frame.build()), fault(Layer::Ipv6, Fault::BadOption, at));
        }
    }
}

#[test]
fn eight_extension_headers_are_walked_and_a_ninth_is_refused() {
    const PAD: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
    let eight = Frame::udp_v4().v6().with_extensions(&[(60, &PAD[..]); 8]);
    assert_eq!(ip(&eight.build()).l4, 54 + 64);
    let nine = Frame::udp_v4().v6().with_extensions(&[(60, &PAD[..]); 9]);
    assert_eq!(parse(&nine.build()), fault(Layer::Ipv6, Fault::TooManyHeaders, 54 + 64));
}

#[test]
fn extension_headers_keep_their_place() {
    const PAD: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
    const ATOMIC: [u8; 7] = [0, 0, 0, 0, 0, 0, 9];
    let hop_second = Frame::udp_v4().v6().with_extensions(&[(60, &PAD), (0, &PAD)]);
    assert_eq!(parse(&hop_second.build()), fault(Layer::Ipv6, Fault::BadField, 62));
    let twice = Frame::udp_v4().v6().with_extensions(&[(44, &ATOMIC), (44, &ATOMIC)]);
    assert_eq!(parse(&twice.build()), fault(Layer::Ipv6, Fault::BadField, 62));
}

#[test]
fn a_routing_header_that_is_in_use_hides_the_transport() {
    let left = |kind: u8| [2, kind, 1, 0, 0, 0, 0].into_iter().chain([0; 16]).collect::<Vec<_>>();
    let segments = left(4);
    let frame = Frame::tcp_v4().v6().with_extensions(&[(43, &segments)]);
    let headers = ip(&frame.build());
    assert_eq!((headers.transport, headers.tuple), (Transport::Other(43), None));
    assert_eq!((headers.l4, headers.payload), (54, 54));
    let type_0 = Frame::tcp_v4().v6().with_extensions(&[(43, &left(0))]);
    assert_eq!(parse(&type_0.build()), fault(Layer::Ipv6, Fault::BadField, 56));
}

/// A UDP packet of 24 bytes behind the IPv4 header, with this flags and offset field.
fn v4_fragment(field: u16, payload: usize) -> Vec<u8> {
    let mut frame = Frame::udp_v4();
    frame.payload = vec![0; payload - 8];
    edited(&frame, 20, &field.to_be_bytes())
}

#[test]
fn fragments_of_ipv4_are_told_apart() {
    let whole = ip(&v4_fragment(0x4000, 24));
    assert_eq!((whole.fragment, whole.transport), (Fragment::No, Transport::Udp));
    let first = v4_fragment(0x2000, 24);
    let headers = ip(&first);
    assert_eq!((headers.fragment, headers.transport), (Fragment::First, Transport::Udp));
    assert_eq!((headers.tuple.is_some(), headers.fragment_id(&first)), (true, Some(1)));
    for field in [0x2001, 0x0001, 0x00ff] {
        let later = v4_fragment(field, 24);
        let headers = ip(&later);
        assert_eq!((headers.fragment, headers.transport), (Fragment::Later, Transport::Other(17)));
        assert_eq!((headers.tuple, headers.fragment_id(&later)), (None, Some(1)));
    }
}

#[test]
fn a_fragment_that_cannot_be_put_together_is_refused() {
    let refused = fault(Layer::Ipv4, Fault::BadLength, 20);
    assert_eq!(parse(&v4_fragment(0x2000, 23)), refused, "not the last one, odd length");
    assert!(parse(&v4_fragment(0x0001, 23)).is_ok(), "the last one may have any length");
    // 8191 * 8 = 65528: with 20 bytes of header no room is left.
    assert_eq!(parse(&v4_fragment(0x1fff, 8)), refused);
    // 8185 * 8 + 20 + 35 = 65535.
    assert!(parse(&v4_fragment(8185, 35)).is_ok());
    assert_eq!(parse(&v4_fragment(8185, 36)), refused);
    let empty = edited(&Frame::udp_v4(), 16, &[0, 20, 0, 1, 0x20, 0x05]);
    assert_eq!(parse(&empty), refused);
}

#[test]
fn a_first_fragment_holds_its_whole_transport_header() {
    for (payload, accepted) in [(8, false), (16, false), (24, true)] {
        let mut frame = Frame::tcp_v4();
        frame.payload = vec![0; 24];
        let mut bytes = edited(&frame, 16, &[0, 20 + payload, 0, 1, 0x20, 0]);
        assert_eq!(parse(&bytes).is_ok(), accepted, "{payload} bytes of TCP");
        bytes[20] = 0;
        fix_ipv4_checksum(&mut bytes, 14);
        assert_eq!(parse(&bytes).is_ok(), accepted);
    }
    // Options that continue in the next fragment.
    let frame = Frame::tcp_v4().with_tcp_options(&[1; 8]);
    let bytes = edited(&frame, 16, &[0, 44, 0, 1, 0x20, 0]);
    assert_eq!(parse(&bytes), fault(Layer::Tcp, Fault::Truncated, 46));
}

#[test]
fn the_udp_length_of_a_first_fragment_is_that_of_the_datagram() {
    let frame = v4_fragment(0x2000, 24);
    let with_len = |len: u16| {
        let mut frame = frame.clone();
        frame[38..40].copy_from_slice(&len.to_be_bytes());
        parse(&frame)
    };
    assert!(with_len(3000).is_ok() && with_len(65535).is_ok());
    assert_eq!(with_len(7), fault(Layer::Udp, Fault::BadLength, 38));
}

/// A UDP packet with a fragment header of this offset and flags field.
fn v6_fragment(field: u16, payload: usize) -> Vec<u8> {
    let [a, b] = field.to_be_bytes();
    let mut frame = Frame::udp_v4().v6().with_extensions(&[(44, &[0, a, b, 0, 1, 0, 2])]);
    frame.payload = vec![0; payload - 8];
    frame.build()
}

#[test]
fn fragments_of_ipv6_are_told_apart() {
    let atomic = ip(&v6_fragment(0, 24));
    assert_eq!((atomic.fragment, atomic.transport), (Fragment::No, Transport::Udp));
    let first = v6_fragment(1, 24);
    let headers = ip(&first);
    assert_eq!((headers.fragment, headers.transport), (Fragment::First, Transport::Udp));
    assert_eq!((headers.l4, headers.fragment_id(&first)), (62, Some(0x1_0002)));
    for field in [8, 9, 0x0f00] {
        let later = v6_fragment(field, 24);
        let headers = ip(&later);
        assert_eq!((headers.fragment, headers.transport), (Fragment::Later, Transport::Other(17)));
        assert_eq!((headers.tuple, headers.fragment_id(&later)), (None, Some(0x1_0002)));
    }
    let refused = fault(Layer::Ipv6, Fault::BadLength, 54);
    assert_eq!(parse(&v6_fragment(1, 23)), refused);
    assert_eq!(parse(&v6_fragment(0xfff8, 8)), refused);
    let mut empty = v6_fragment(9, 24);
    empty[18..20].copy_from_slice(&8u16.to_be_bytes());
    assert_eq!(parse(&empty), refused);
}

#[test]
fn icmp_messages_have_all_the_bytes_of_their_type() {
    let parse_len = |frame: &Frame, len: usize| {
        let mut bytes = frame.build();
        let at = frame.l3() + if frame.is_v4() { 2 } else { 4 };
        let total = len + if frame.is_v4() { 20 } else { 0 };
        bytes[at..at + 2].copy_from_slice(&(total as u16).to_be_bytes());
        if frame.is_v4() {
            fix_ipv4_checksum(&mut bytes, 14);
        }
        parse(&bytes)
    };
    for kind in [0, 3, 8, 11] {
        let frame = icmp(kind, 40);
        for len in 0..48 {
            assert_eq!(parse_len(&frame, len).is_ok(), len >= 8, "v4 type {kind}, {len} bytes");
        }
    }
    let least = [(1, 8), (2, 8), (128, 8), (129, 8), (133, 8), (134, 16), (135, 24), (136, 24)];
    for (kind, least) in least.into_iter().chain([(137, 40), (143, 4), (200, 4)]) {
        let frame = icmp(kind, 40).v6();
        for len in 0..48 {
            let got = parse_len(&frame, len);
            assert_eq!(got.is_ok(), len >= least, "v6 type {kind}, {len} bytes");
            if len < least {
                assert_eq!(got, fault(Layer::Icmpv6, Fault::Truncated, 54));
            }
        }
    }
}

#[test]
fn icmp_of_the_other_family_is_not_icmp() {
    let v4 = Frame { l4: L4::Other { protocol: 58 }, ..Frame::tcp_v4() };
    assert_eq!(ip(&v4.build()).transport, Transport::Other(58));
    let v6 = Frame { l4: L4::Other { protocol: 1 }, ..Frame::tcp_v4() }.v6();
    assert_eq!(ip(&v6.build()).transport, Transport::Other(1));
}

#[test]
fn odd_tcp_flags_are_for_the_director_to_judge() {
    for wanted in 0..=u8::MAX {
        let got = ip(&edited(&Frame::tcp_v4(), 47, &[wanted])).transport;
        assert!(matches!(got, Transport::Tcp { flags, .. } if flags == wanted));
    }
}

#[test]
fn every_wrong_byte_in_the_format_of_arp_is_refused() {
    let mut out = [0; 42];
    let mac = "02:00:00:00:00:02".parse().unwrap();
    let request = Arp::request(mac, [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    assert_eq!(request.emit(lvs_core::addr::MacAddr::BROADCAST, None, &mut out), Some(42));
    assert_eq!(parse(&out), Ok(Parsed::Arp(request)));
    for (at, value) in (14..22).flat_map(|at| (0..=u8::MAX).map(move |value| (at, value))) {
        let mut frame = out;
        frame[at] = value;
        let got = parse(&frame);
        match (at, value) {
            _ if value == out[at] => assert_eq!(got, Ok(Parsed::Arp(request))),
            (21, 2) => {
                let operation = ArpOperation::Reply;
                assert_eq!(got, Ok(Parsed::Arp(Arp { operation, ..request })));
            }
            (20 | 21, _) => assert_eq!(got, fault(Layer::Arp, Fault::BadVersion, 20)),
            _ => assert_eq!(got, fault(Layer::Arp, Fault::BadVersion, 14)),
        }
    }
    for len in 14..42 {
        assert_eq!(parse(&out[..len]), fault(Layer::Arp, Fault::Truncated, 14));
    }
    out[22] |= 1;
    assert_eq!(parse(&out), fault(Layer::Arp, Fault::BadField, 22));
}

#[test]
fn a_fault_reads_as_a_sentence() {
    let malformed = Malformed { layer: Layer::Ipv4, fault: Fault::BadChecksum, offset: 24 };
    assert_eq!(malformed.to_string(), "IPv4 header: bad header checksum at byte 24");
}
