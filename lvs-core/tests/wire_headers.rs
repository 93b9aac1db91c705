//! `Headers::parse` on valid frames, on frames cut short, and on any bytes at all.

mod wire_common;

use lvs_core::addr::Family;
use lvs_core::wire::{Arp, Layer, echo};
use lvs_core::wire::{
    Ethernet, Fault, Fragment, Headers, Icmpv4, Icmpv6, Ipv4, Ipv6, Malformed, Ndp, Parsed, Pretty,
    Tcp, Transport, Udp, ipv4, tcp_option,
};
use proptest::prelude::*;
use wire_common::{Frame, Ip, L4, fix_ipv4_checksum, frames, nearly_valid};

fn ip(frame: &[u8]) -> Headers {
    match Headers::parse(frame, frame.len()) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("not an IP packet: {other:?} {frame:02x?}"),
    }
}

/// What the builder knows must come back from the parser.
fn assert_agrees(built: &Frame, headers: &Headers, frame: &[u8]) {
    let family = if built.is_v4() { Family::V4 } else { Family::V6 };
    let vlan = headers.vlan.map(|tag| (tag.tpid, tag.tci));
    assert_eq!((headers.family, vlan), (family, built.tags.first().copied()));
    assert_eq!(usize::from(headers.l3), built.l3());
    assert_eq!(usize::from(headers.l4), built.l4_offset());
    assert_eq!(headers.end as usize, built.end());
    assert_eq!((headers.ttl, headers.fragment), (built.ttl, Fragment::No));
    let (src, dst) = match built.ip {
        Ip::V4 { src, dst, .. } => (src.into(), dst.into()),
        Ip::V6 { src, dst, .. } => (src.into(), dst.into()),
    };
    assert_eq!(headers.addresses(frame), Some((src, dst)));
    assert_eq!(headers.fragment_id(frame), None);
    if let Some(tuple) = headers.tuple {
        assert_eq!((tuple.src(), tuple.dst(), tuple.family()), (src, dst, family));
    }
    let tuple = headers.tuple.map(|t| (t.proto().number(), t.sport(), t.dport()));
    let header_len = usize::from(headers.payload - headers.l4);
    match built.l4 {
        L4::Tcp { sport, dport, seq, ack, flags, window, ref options } => {
            assert_eq!(headers.transport, Transport::Tcp { flags, seq, ack, window });
            assert_eq!(tuple, Some((6, sport, dport)));
            assert_eq!(header_len, 20 + options.len());
            let view = headers.tcp(frame).expect("the TCP view of a TCP packet");
            assert_eq!(view.option_bytes(), options);
            assert_eq!(view.payload(), built.payload);
        }
        L4::Udp { sport, dport } => {
            assert_eq!((headers.transport, header_len), (Transport::Udp, 8));
            assert_eq!(tuple, Some((17, sport, dport)));
        }
        L4::Icmp { kind, code, .. } => {
            assert_eq!(headers.transport, Transport::Icmp { kind, code });
            let unknown = family == Family::V6 && !matches!(kind, 1..=4 | 128 | 129);
            assert_eq!(header_len, if unknown { 4 } else { 8 });
            assert_eq!(tuple, None);
        }
        L4::Other { protocol } => {
            assert_eq!((headers.transport, header_len), (Transport::Other(protocol), 0));
            assert_eq!(tuple, None);
        }
    }
    assert_eq!(headers.tcp(frame).is_some(), matches!(built.l4, L4::Tcp { .. }));
}

/// The promises of `Headers`, which hold for whatever was accepted.
fn assert_in_order(frame: &[u8], total_len: usize, headers: &Headers) {
    let Headers { l3, l4, payload, end, .. } = *headers;
    assert!(14 <= l3 && l3 <= l4 && l4 <= payload && u32::from(payload) <= end, "{headers:?}");
    assert!(usize::from(payload) <= frame.len(), "{headers:?}");
    assert!(end as usize <= total_len, "{headers:?}");
    let tracked = matches!(headers.transport, Transport::Tcp { .. } | Transport::Udp);
    assert_eq!(headers.tuple.is_some(), tracked);
    assert!(headers.fragment != Fragment::Later || headers.payload == headers.l4);
    assert_eq!(headers.fragment_id(frame).is_some(), headers.fragment != Fragment::No);
    assert!(headers.addresses(frame).is_some());
}

/// Calls everything there is on any bytes.
fn exercise(bytes: &[u8]) {
    if let Ok(Parsed::Ip(headers)) = Headers::parse(bytes, bytes.len()) {
        assert_in_order(bytes, bytes.len(), &headers);
    }
    if let Ok(view) = Ethernet::parse(bytes) {
        assert_eq!(view.header_len() + view.payload().len(), bytes.len());
    }
    if let Ok(view) = Ipv4::parse(bytes) {
        assert!(view.header_len() + view.payload().len() == view.total_len());
        let options: usize = view.options().map(|option| option.value.len() + 2).sum();
        assert!(options + ipv4::HEADER_LEN <= view.header_len());
    }
    if let Ok(view) = Ipv6::parse(bytes) {
        assert_eq!(view.header_len() + view.payload().len(), view.total_len());
        let walked: usize = view.extensions().map(|header| header.bytes.len()).sum();
        assert_eq!(walked + 40, view.header_len());
    }
    if let Ok(view) = Tcp::parse(bytes) {
        assert_eq!(view.header_len() + view.payload().len(), bytes.len());
        for at in view.options() {
            assert_eq!(&bytes[at.offset..at.offset + at.bytes.len()], at.bytes);
            if let tcp_option::TcpOption::Sack(blocks) = at.option {
                assert!((1..=4).contains(&blocks.count()));
            }
        }
    }
    if let Ok(view) = Udp::parse(bytes) {
        assert_eq!(view.payload().len() + 8, usize::from(view.len()));
    }
    if let Ok(view) = Icmpv4::parse(bytes) {
        assert_eq!(view.payload().len() + 8, bytes.len());
    }
    if let Ok(view) = Icmpv6::parse(bytes) {
        assert_eq!(view.body().len() + 4, bytes.len());
        assert_eq!(view.payload().len(), bytes.len().saturating_sub(8));
    }
    if let Ok(view) = Ndp::parse(bytes) {
        assert!(!view.target().is_multicast() && view.options().count() <= bytes.len() / 8);
    }
    let _ = Arp::parse(bytes);
    assert!(!Pretty(bytes).to_string().is_empty());
    let mut copy = bytes.to_vec();
    if echo::reply_in_place(&mut copy, 64).is_none() {
        assert_eq!(copy, bytes, "a refused echo leaves the frame as it was");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn every_field_of_a_valid_frame_comes_back(built in frames()) {
        let frame = built.build();
        let headers = ip(&frame);
        assert_agrees(&built, &headers, &frame);
        assert_in_order(&frame, frame.len(), &headers);
        exercise(&frame);
    }

    /// INV-4.
    #[test]
    fn a_frame_cut_at_any_byte_before_the_end_of_the_packet_is_refused(built in frames()) {
        let frame = built.build();
        for len in 0..built.end() {
            let got = Headers::parse(&frame[..len], len);
            prop_assert!(
                matches!(got, Err(Malformed { fault: Fault::Truncated, .. })),
                "{len} bytes: {got:?}"
            );
        }
        for len in built.end()..=frame.len() {
            assert_agrees(&built, &ip(&frame[..len]), &frame);
        }
    }

    #[test]
    fn only_the_headers_need_to_be_contiguous(built in frames()) {
        let frame = built.build();
        let whole = Headers::parse(&frame, frame.len());
        let l4_header_len = match built.l4 {
            // A message of unknown type has four bytes that are certain (RFC 4443 section 2.1).
            L4::Icmp { kind, .. } if !built.is_v4() && !matches!(kind, 1..=4 | 128 | 129) => 4,
            _ => built.l4_header_len(),
        };
        let headers = built.l4_offset() + l4_header_len;
        for len in 0..=frame.len() {
            let got = Headers::parse(&frame[..len], frame.len());
            if len >= headers {
                prop_assert_eq!(got, whole);
            } else {
                let truncated = matches!(got, Err(Malformed { fault: Fault::Truncated, .. }));
                prop_assert!(truncated, "{len} bytes: {got:?}");
            }
        }
    }

    /// INV-4.
    #[test]
    fn nearly_valid_bytes_never_break_a_promise(frame in nearly_valid(), more in 0usize..70_000) {
        exercise(&frame);
        let total = frame.len() + more;
        if let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, total) {
            assert_in_order(&frame, total, &headers);
        }
    }

    #[test]
    fn every_view_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), skip in 0usize..60) {
        exercise(&bytes);
        exercise(bytes.get(skip..).unwrap_or_default());
    }

    #[test]
    fn views_take_the_parts_of_nearly_valid_frames(frame in nearly_valid()) {
        for start in [14, 18, 22, 34, 54, 62] {
            exercise(frame.get(start..).unwrap_or_default());
        }
    }

    #[test]
    fn a_fault_lies_inside_the_bytes(frame in nearly_valid()) {
        if let Err(malformed) = Headers::parse(&frame, frame.len()) {
            // A header that is missing altogether starts right behind the last byte.
            prop_assert!(usize::from(malformed.offset) <= frame.len(), "{malformed:?}");
        }
    }
}

#[test]
fn a_large_train_without_a_total_length_takes_all_there_is() {
    let mut frame = Frame::tcp_v4().build();
    frame[16..18].fill(0);
    fix_ipv4_checksum(&mut frame, 14);
    let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, 200_000) else { panic!() };
    assert_eq!((headers.payload, headers.end), (54, 200_000));
    for small in [54, 1514, 14 + 65535] {
        let fault = Malformed { layer: Layer::Ipv4, fault: Fault::BadLength, offset: 16 };
        assert_eq!(Headers::parse(&frame, small), Err(fault));
    }
    let mut udp = Frame::udp_v4().build();
    udp[16..18].fill(0);
    fix_ipv4_checksum(&mut udp, 14);
    assert!(Headers::parse(&udp, 200_000).is_err(), "UDP has no large trains");
}

#[test]
fn a_train_with_a_total_length_ends_there() {
    let mut frame = Frame::tcp_v4().build();
    frame[16..18].copy_from_slice(&60_000u16.to_be_bytes());
    fix_ipv4_checksum(&mut frame, 14);
    let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, 60_014) else { panic!() };
    assert_eq!(headers.end, 60_014);
    assert!(Headers::parse(&frame, 60_013).is_err());
}

#[test]
fn ethertypes_that_are_not_ip_are_told_behind_all_tags() {
    let mut frame = Frame::tcp_v4();
    frame.tags = vec![(0x88a8, 5), (0x8100, 6)];
    let mut bytes = frame.build();
    for (ethertype, wanted) in [([0x88, 0xcc], 0x88cc), ([0x00, 0x26], 0x26)] {
        bytes[20..22].copy_from_slice(&ethertype);
        let parsed = Headers::parse(&bytes, bytes.len());
        assert_eq!(parsed, Ok(Parsed::Other { ethertype: wanted }));
    }
    let view = Ethernet::parse(&bytes).unwrap();
    assert_eq!((view.vlan().unwrap().id(), view.inner_vlan().unwrap().id()), (5, 6));
}
