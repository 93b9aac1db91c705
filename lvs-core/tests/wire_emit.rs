//! What is written reads back: ARP, neighbour discovery, echo replies, and the one-line display.

mod wire_common;

use core::net::{Ipv4Addr, Ipv6Addr};
use lvs_core::addr::MacAddr;
use lvs_core::io::Vlan;
use lvs_core::wire::{
    Arp, Ethernet, Fault, Headers, Layer, Ndp, NdpFrame, NdpKind, Parsed, Pretty, TcpOption,
    Transport, echo, ethernet, icmpv6, ndp,
};
use pnet_packet::Packet;
use pnet_packet::arp::ArpPacket;
use pnet_packet::icmpv6::Icmpv6Packet;
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire as smol;
use wire_common::{Frame, Ip, L4, checksum, frames};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const TAG: Vlan = Vlan { tpid: 0x8100, tci: 0x2005 };

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

#[test]
fn an_arp_question_and_its_answer_read_back_in_two_other_stacks() {
    let (asker, owner) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let question = Arp::request(PEER, asker, owner);
    let answer = question.reply_from(MAC);
    for (arp, dst, operation) in [(question, MacAddr::BROADCAST, 1), (answer, PEER, 2)] {
        let mut out = [0xee; 60];
        assert_eq!(arp.emit(dst, None, &mut out), Some(42));
        assert_eq!(Headers::parse(&out, 60), Ok(Parsed::Arp(arp)));
        assert_eq!(out[42..], [0xee; 18], "only the frame is written");
        let ethernet = Ethernet::parse(&out).unwrap();
        assert_eq!((ethernet.dst(), ethernet.src()), (dst, arp.sender_mac));
        let other = ArpPacket::new(&out[14..42]).unwrap();
        assert_eq!(other.get_operation().0, operation);
        assert_eq!(other.get_sender_proto_addr(), arp.sender_ip);
        assert_eq!(other.get_target_proto_addr(), arp.target_ip);
        assert_eq!(other.get_target_hw_addr().octets(), arp.target_mac.0);
        let packet = smol::ArpPacket::new_checked(&out[14..42]).unwrap();
        assert!(smol::ArpRepr::parse(&packet).is_ok());
    }
    assert_eq!((answer.sender_ip, answer.target_ip), (owner, asker));
    assert!(Arp::announcement(MAC, owner).is_gratuitous() && !question.is_gratuitous());
}

#[test]
fn a_tag_in_the_bytes_is_written_and_read() {
    let mut out = [0; 64];
    let arp = Arp::announcement(MAC, Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!(arp.emit(MacAddr::BROADCAST, Some(TAG), &mut out), Some(46));
    assert_eq!(Headers::parse(&out, 46), Ok(Parsed::Arp(arp)));
    let view = Ethernet::parse(&out).unwrap();
    assert_eq!((view.vlan(), view.ethertype()), (Some(TAG), ethernet::ETHERTYPE_ARP));
}

#[test]
fn nothing_is_written_where_a_frame_does_not_fit() {
    let arp = Arp::announcement(MAC, Ipv4Addr::new(10, 0, 0, 2));
    let question = NdpFrame::solicitation(MAC, v6("fd00::1"), v6("fd00::2"));
    for len in 0..90 {
        let mut out = [0xee; 90];
        let fits = |written: Option<usize>, needed: usize, out: &[u8]| {
            assert_eq!(written, (len >= needed).then_some(needed), "{len} bytes");
            assert!(written.is_some() || out.iter().all(|byte| *byte == 0xee), "{len} bytes");
        };
        let written = arp.emit(MacAddr::BROADCAST, Some(TAG), &mut out[..len]);
        fits(written, 46, &out);
        let mut out = [0xee; 90];
        let written = question.emit(None, &mut out[..len]);
        fits(written, 86, &out);
        let mut out = [0xee; 90];
        let written = ethernet::emit(PEER, MAC, Some(TAG), 0x0800, &mut out[..len]);
        fits(written, 18, &out);
    }
}

fn emitted(frame: &NdpFrame) -> Vec<u8> {
    let mut out = [0; 100];
    let len = frame.emit(None, &mut out).unwrap();
    out[..len].to_vec()
}

/// smoltcp's reading of the message, checksum verified.
fn smoltcp_reads(bytes: &[u8]) -> Option<String> {
    let ip = smol::Ipv6Packet::new_checked(&bytes[14..]).ok()?;
    let packet = smol::Icmpv6Packet::new_checked(ip.payload()).ok()?;
    let caps = ChecksumCapabilities::default();
    let repr = smol::Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &packet, &caps).ok()?;
    Some(format!("{repr:?}"))
}

#[test]
fn a_solicitation_goes_to_the_solicited_node_address() {
    let bytes = emitted(&NdpFrame::solicitation(MAC, v6("fd00::1"), v6("fd00::12:3456")));
    let ethernet = Ethernet::parse(&bytes).unwrap();
    assert_eq!(ethernet.dst(), MacAddr([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
    let view = Ndp::parse(ethernet.payload()).unwrap();
    assert_eq!((view.kind(), view.src()), (NdpKind::Solicitation, v6("fd00::1")));
    assert_eq!((view.dst(), view.target()), (v6("ff02::1:ff12:3456"), v6("fd00::12:3456")));
    assert_eq!(view.link_address(), Some(MAC));
    assert_eq!(ndp::solicited_node(view.target()), view.dst());
    assert!(smoltcp_reads(&bytes).unwrap().contains("NeighborSolicit"));
    assert_eq!(Icmpv6Packet::new(&bytes[54..]).unwrap().get_icmpv6_type().0, 135);
}

#[test]
fn an_answer_goes_to_the_asker() {
    let question = emitted(&NdpFrame::solicitation(PEER, v6("fd00::1"), v6("fd00::2")));
    let answer = Ndp::parse(&question[14..]).unwrap().answer(MAC, MacAddr::ZERO);
    let bytes = emitted(&answer);
    let view = Ndp::parse(&bytes[14..]).unwrap();
    assert_eq!((view.kind(), view.src()), (NdpKind::Advertisement, v6("fd00::2")));
    assert_eq!((view.dst(), view.target()), (v6("fd00::1"), v6("fd00::2")));
    assert_eq!(view.link_address(), Some(MAC));
    assert!(view.is_solicited() && view.is_override() && !view.is_router());
    assert_eq!(Ethernet::parse(&bytes).unwrap().dst(), PEER);
    assert!(smoltcp_reads(&bytes).unwrap().contains("SOLICITED | OVERRIDE"));
}

#[test]
fn a_check_for_a_duplicate_has_no_option_and_is_answered_to_all_nodes() {
    let bytes = emitted(&NdpFrame::solicitation(PEER, Ipv6Addr::UNSPECIFIED, v6("fd00::2")));
    assert_eq!(bytes.len(), 78);
    let view = Ndp::parse(&bytes[14..]).unwrap();
    assert_eq!((view.link_address(), view.options().count()), (None, 0));
    let answer = view.answer(MAC, PEER);
    assert_eq!((answer.dst, answer.solicited), (ndp::ALL_NODES, false));
    assert_eq!(answer.dst_mac, MacAddr([0x33, 0x33, 0, 0, 0, 1]));
    assert!(Ndp::parse(&emitted(&answer)[14..]).is_ok());
}

#[test]
fn announcements_and_probes_read_back() {
    let announcement = emitted(&NdpFrame::announcement(MAC, v6("fd00::2")));
    let view = Ndp::parse(&announcement[14..]).unwrap();
    assert!(!view.is_solicited() && view.is_override() && view.dst() == ndp::ALL_NODES);
    let probe = emitted(&NdpFrame::probe(MAC, v6("fd00::1"), PEER, v6("fd00::2")));
    let view = Ndp::parse(&probe[14..]).unwrap();
    assert_eq!((view.dst(), view.target()), (v6("fd00::2"), v6("fd00::2")));
    assert_eq!(Ethernet::parse(&probe).unwrap().dst(), PEER);
}

/// Writes the right ICMPv6 checksum into a packet from the IPv6 header on.
fn fix_icmpv6(packet: &mut [u8]) {
    packet[42..44].fill(0);
    let len = (packet.len() - 40) as u32;
    let tail = [&len.to_be_bytes()[..], &[0, 58]].concat();
    let value = checksum(&[&packet[8..40], &tail, &packet[40..]]);
    packet[42..44].copy_from_slice(&value.to_be_bytes());
}

#[test]
fn every_rule_of_neighbour_discovery_is_checked() {
    let solicitation = emitted(&NdpFrame::solicitation(MAC, v6("fd00::1"), v6("fd00::2")));
    let advertisement = emitted(&NdpFrame::announcement(MAC, v6("fd00::2")));
    let duplicate = emitted(&NdpFrame::solicitation(MAC, Ipv6Addr::UNSPECIFIED, v6("fd00::2")));
    // The frame, the byte of the packet to change, its new value; the fault and its place.
    let cases = [
        (&solicitation, 7, &[254][..], Fault::BadField, 7),
        (&solicitation, 6, &[59][..], Fault::BadVersion, 6),
        (&solicitation, 40, &[128][..], Fault::BadVersion, 40),
        (&solicitation, 41, &[1][..], Fault::BadVersion, 40),
        (&solicitation, 48, &[0xff][..], Fault::BadField, 48),
        (&solicitation, 65, &[0][..], Fault::BadOption, 64),
        (&solicitation, 65, &[2][..], Fault::BadOption, 64),
        (&solicitation, 66, &[1][..], Fault::BadField, 66),
        (&solicitation, 8, &[0xff][..], Fault::BadField, 8),
        (&solicitation, 8, &[0; 16][..], Fault::BadOption, 64),
        (&duplicate, 24, &[0xfd][..], Fault::BadField, 24),
        (&advertisement, 44, &[0x60][..], Fault::BadField, 44),
        (&advertisement, 8, &[0; 16][..], Fault::BadField, 8),
    ];
    for (frame, at, bytes, fault, offset) in cases {
        let mut packet = frame[14..].to_vec();
        assert!(Ndp::parse(&packet).is_ok());
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        fix_icmpv6(&mut packet);
        let got = Ndp::parse(&packet).map(|view| view.kind()).unwrap_err();
        assert_eq!((got.fault, got.offset), (fault, offset), "byte {at}");
    }
    for at in 40..solicitation.len() - 14 {
        let mut packet = solicitation[14..].to_vec();
        packet[at] ^= 0x10;
        assert!(Ndp::parse(&packet).is_err(), "byte {at} is covered by the checksum");
    }
    let atomic = Frame {
        l4: L4::Icmp { kind: 135, code: 0, rest: [0; 4] },
        payload: vec![0; 16],
        ttl: 255,
        ..Frame::tcp_v4()
    };
    let atomic = atomic.v6().with_extensions(&[(44, &[0; 7])]).build();
    let got = Ndp::parse(&atomic[14..]).map(|view| view.kind()).unwrap_err();
    assert_eq!((got.layer, got.fault, got.offset), (Layer::Icmpv6, Fault::BadField, 40));
}

fn echo_request(payload: Vec<u8>) -> Frame {
    let l4 = L4::Icmp { kind: 8, code: 0, rest: [0x12, 0x34, 0, 9] };
    Frame { l4, payload, ttl: 3, padding: 7, ..Frame::tcp_v4() }
}

fn echo_request_v6(payload: Vec<u8>) -> Frame {
    let l4 = L4::Icmp { kind: 128, code: 0, rest: [0x12, 0x34, 0, 9] };
    Frame { l4, ..echo_request(payload).v6() }
}

/// The reply as the builder makes it from nothing.
fn reply_to(mut built: Frame) -> Vec<u8> {
    match &mut built.ip {
        Ip::V4 { src, dst, .. } => core::mem::swap(src, dst),
        Ip::V6 { src, dst, .. } => core::mem::swap(src, dst),
    }
    let reply = if built.is_v4() { 0 } else { 129 };
    built.l4 = L4::Icmp { kind: reply, code: 0, rest: [0x12, 0x34, 0, 9] };
    built.ttl = 64;
    let mut frame = built.build();
    let (macs, _) = frame.split_at_mut(12);
    macs.rotate_left(6);
    frame
}

proptest! {
    #[test]
    fn an_echo_reply_is_the_frame_that_a_builder_makes(
        payload in prop::collection::vec(any::<u8>(), 0..200), tagged in any::<bool>(),
    ) {
        for mut built in [echo_request(payload.clone()), echo_request_v6(payload)] {
            built.tags = if tagged { vec![(0x8100, 5)] } else { vec![] };
            let mut frame = built.build();
            prop_assert_eq!(echo::reply_in_place(&mut frame, 64), Some(built.end()));
            prop_assert_eq!(frame, reply_to(built));
        }
    }

    /// INV-3.
    #[test]
    fn a_damaged_echo_request_gets_a_damaged_reply(at in 34usize..60, bit in 0u8..8) {
        prop_assume!(at != 34 && at != 35);
        let built = echo_request(vec![7; 30]);
        let mut frame = built.build();
        frame[at] ^= 1 << bit;
        prop_assert_eq!(echo::reply_in_place(&mut frame, 64), Some(built.end()));
        prop_assert_ne!(checksum(&[&frame[34..built.end()]]), 0);
    }

    #[test]
    fn only_echo_requests_are_answered(built in frames()) {
        let mut frame = built.build();
        let request = matches!(
            (&built.l4, built.is_v4()),
            (L4::Icmp { kind: 8, code: 0, .. }, true) | (L4::Icmp { kind: 128, code: 0, .. }, false)
        );
        if !request {
            prop_assert_eq!(echo::reply_in_place(&mut frame, 64), None);
            prop_assert_eq!(frame, built.build());
        }
    }
}

#[test]
fn echo_requests_that_must_not_be_answered_stay_as_they_are() {
    let v4 = |src: [u8; 4], dst: [u8; 4]| {
        let ip = Ip::V4 { src, dst, options: vec![] };
        Frame { ip, ..echo_request(vec![]) }.build()
    };
    let mut group_mac = echo_request(vec![]).build();
    group_mac[0] = 0xff;
    let mut fragment = echo_request(vec![0; 8]).build();
    fragment[20] = 0x20;
    wire_common::fix_ipv4_checksum(&mut fragment, 14);
    let refused = [
        v4([10, 0, 0, 1], [224, 0, 0, 1]),
        v4([10, 0, 0, 1], [255; 4]),
        v4([127, 0, 0, 1], [10, 0, 0, 2]),
        v4([0; 4], [10, 0, 0, 2]),
        echo_request(vec![]).with_ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]).build(),
        echo_request_v6(vec![]).with_extensions(&[(60, &[0, 1, 4, 0, 0, 0, 0])]).build(),
        group_mac,
        fragment,
    ];
    for frame in refused {
        assert!(matches!(Headers::parse(&frame, frame.len()), Ok(Parsed::Ip(_))));
        let mut copy = frame.clone();
        assert_eq!(echo::reply_in_place(&mut copy, 64), None, "{}", Pretty(&frame));
        assert_eq!(copy, frame);
    }
}

#[test]
fn tcp_options_come_typed_and_with_their_place() {
    let bytes = [
        &[2, 4, 5, 180, 1, 3, 3, 7, 4, 2][..],
        &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        &[5, 10, 0, 0, 0, 3, 0, 0, 0, 4],
        &[254, 8, 0, 80, 10, 0, 0, 1, 0, 99],
    ]
    .concat();
    let frame = Frame::tcp_v4().with_tcp_options(&bytes).build();
    let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else { panic!() };
    let list: Vec<_> = headers.tcp(&frame).unwrap().options().collect();
    let places: Vec<_> = list.iter().map(|at| (at.offset, at.bytes.len())).collect();
    assert_eq!(places, [(20, 4), (25, 3), (28, 2), (30, 10), (40, 10), (50, 8)]);
    let TcpOption::Sack(blocks) = list[4].option else { panic!("{list:?}") };
    assert_eq!(blocks.collect::<Vec<_>>(), [(3, 4)]);
    let rest: Vec<_> = list.iter().map(|at| at.option).collect();
    assert_eq!(
        rest[..4],
        [
            TcpOption::Mss(1460),
            TcpOption::WindowScale(7),
            TcpOption::SackPermitted,
            TcpOption::Timestamps { value: 1, echo: 2 },
        ]
    );
    assert_eq!(rest[5], TcpOption::Other { kind: 254, value: &[0, 80, 10, 0, 0, 1] });
}

#[test]
fn a_known_option_with_a_length_that_is_not_its_own_is_an_unknown_one() {
    for bytes in
        [[2, 3, 5, 1], [2, 2, 1, 1], [3, 4, 1, 1], [4, 3, 1, 1], [8, 4, 0, 0], [5, 2, 1, 1]]
    {
        let frame = Frame::tcp_v4().with_tcp_options(&bytes).build();
        let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else { panic!() };
        let option = headers.tcp(&frame).unwrap().options().next().unwrap().option;
        let value = &bytes[2..usize::from(bytes[1])];
        assert_eq!(option, TcpOption::Other { kind: bytes[0], value });
    }
}

#[test]
fn a_frame_reads_as_one_line() {
    let show = |frame: &[u8]| Pretty(frame).to_string().split_once(", ").unwrap().1.to_string();
    let syn = Frame::tcp_v4().with_tcp_options(&[2, 4, 5, 180, 254, 4, 0xab, 0xcd]);
    assert_eq!(
        show(&syn.build()),
        "IPv4 10.0.0.1:40000 > 10.0.0.2:80, ttl 64, tcp [S], seq 7, win 65535, \
         options [mss 1460, kind 254 0xabcd], length 0"
    );
    let mut udp = Frame::udp_v4().v6();
    udp.tags = vec![(0x8100, 10)];
    assert_eq!(
        show(&udp.build()),
        "vlan 10, IPv6 [fd00::1]:5353 > [fd00::2]:53, ttl 64, udp, length 8"
    );
    assert_eq!(
        show(&echo_request(vec![0; 5]).build()),
        "IPv4 10.0.0.1 > 10.0.0.2, ttl 3, icmp echo request, length 5"
    );
    assert_eq!(
        show(&emitted(&NdpFrame::solicitation(MAC, v6("fd00::1"), v6("fd00::2")))),
        "IPv6 fd00::1 > ff02::1:ff00:2, ttl 255, neighbour solicitation, who has fd00::2, length 24"
    );
    let mut arp = [0; 42];
    let question = Arp::request(MAC, [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    question.emit(MacAddr::BROADCAST, None, &mut arp).unwrap();
    assert_eq!(show(&arp), "ARP request, who has 10.0.0.2 tell 10.0.0.1");
    let long = Frame { payload: vec![0; 1400], ..Frame::tcp_v4() }.build();
    assert!(show(&long[..60]).ends_with("length 1400"), "a capture may be cut behind the headers");
    assert_eq!(Pretty(&[]).to_string(), "Ethernet header: truncated at byte 0, 0 bytes");
}

#[test]
fn an_icmpv6_message_tells_its_identifier_and_sequence_number() {
    let frame = echo_request_v6(vec![1, 2, 3]).build();
    let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else { panic!() };
    assert_eq!(headers.transport, Transport::Icmp { kind: icmpv6::ECHO_REQUEST, code: 0 });
    let view = lvs_core::wire::Icmpv6::parse(&frame[54..headers.end as usize]).unwrap();
    assert_eq!((view.echo_id(), view.echo_seq(), view.is_error()), (0x1234, 9, false));
    assert_eq!(view.payload(), [1, 2, 3]);
    let other = Icmpv6Packet::new(&frame[54..]).unwrap();
    assert_eq!(other.get_checksum(), view.checksum());
    assert_eq!(other.payload()[..4], [0x12, 0x34, 0, 9]);
}
