//! Two independent stacks as judges: smoltcp says whether a frame is acceptable, pnet_packet what its
//! fields are. Where this crate is stricter or laxer on purpose, a [`Difference`] names it, and a
//! test shows that each of them occurs.

#[path = "wire_common/judge.rs"]
mod judge;
mod wire_common;

use judge::{Difference, compare};
use lvs_core::wire::{
    Ethernet, Fragment, Headers, Ipv4, Ipv6, Parsed, Tcp, TcpOption, Transport, Udp,
};
use pnet_packet::Packet;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::icmp::IcmpPacket;
use pnet_packet::ipv4::{Ipv4Packet, checksum as pnet_ipv4_checksum};
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::{TcpOptionNumbers, TcpPacket};
use pnet_packet::udp::UdpPacket;
use pnet_packet::vlan::VlanPacket;
use proptest::prelude::*;
use wire_common::{Frame, L4, fix_ipv4_checksum, frames, nearly_valid};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn smoltcp_and_this_crate_accept_the_same_frames(frame in nearly_valid()) {
        compare(&frame);
    }

    #[test]
    fn smoltcp_accepts_what_the_builder_makes(built in frames()) {
        // The builder makes ICMPv6 messages of any type.
        prop_assert!(matches!(compare(&built.build()), None | Some(Difference::OtherIcmpv6)));
    }

    #[test]
    fn pnet_reads_the_same_fields(frame in nearly_valid()) {
        if let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) {
            same_fields(&frame, &headers);
        }
    }
}

#[test]
fn every_named_difference_occurs() {
    let v4 = |frame: &Frame, at: usize, bytes: &[u8]| {
        let mut out = frame.build();
        out[at..at + bytes.len()].copy_from_slice(bytes);
        fix_ipv4_checksum(&mut out, 14);
        out
    };
    const PAD: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
    let v6 = |extensions: &[(u8, &[u8])]| Frame::udp_v4().v6().with_extensions(extensions).build();
    let listener = L4::Icmp { kind: 143, code: 0, rest: [0; 4] };
    let mut listener = Frame { l4: listener, ..Frame::tcp_v4() }.v6().build();
    listener.truncate(58);
    listener[19] = 4;
    let cases = [
        (Difference::GroupSource, v4(&Frame::tcp_v4(), 6, &[3])),
        (Difference::Ipv4Option, Frame::tcp_v4().with_ip_options(&[7, 9, 0, 0]).build()),
        (Difference::Unfit, v4(&Frame::udp_v4(), 20, &[0x1f, 0xff])),
        (Difference::HopByHopPlace, v6(&[(60, &PAD), (0, &PAD)])),
        (Difference::Jumbo, v6(&[(0, &[0, 0xc2, 4, 0, 1, 0, 0])])),
        (Difference::RoutingType0, v6(&[(43, &[0, 0, 1, 0, 0, 0, 0])])),
        (Difference::ManyExtensions, v6(&[(60, &PAD[..]); 9])),
        (Difference::TcpOptionLength, Frame::tcp_v4().with_tcp_options(&[2, 3, 0, 1]).build()),
        (Difference::FragmentedUdp, v4(&Frame::udp_v4(), 38, &[9, 0])),
        (Difference::OtherIcmpv6, listener),
    ];
    for (difference, mut frame) in cases {
        if difference == Difference::FragmentedUdp {
            frame[20] = 0x20;
            fix_ipv4_checksum(&mut frame, 14);
        }
        assert_eq!(compare(&frame), Some(difference));
    }
}

/// All fields of an accepted frame, as pnet_packet reads them.
fn same_fields(frame: &[u8], headers: &Headers) {
    let ours = Ethernet::parse(frame).unwrap();
    let theirs = EthernetPacket::new(frame).unwrap();
    assert_eq!(ours.src().0, theirs.get_source().octets());
    assert_eq!(ours.dst().0, theirs.get_destination().octets());
    let mut ethertype = theirs.get_ethertype().0;
    let mut at = 14;
    for tag in [ours.vlan(), ours.inner_vlan()].into_iter().flatten() {
        let theirs = VlanPacket::new(&frame[at..]).unwrap();
        assert_eq!((tag.tpid, tag.id()), (ethertype, theirs.get_vlan_identifier()));
        ethertype = theirs.get_ethertype().0;
        at += 4;
    }
    assert_eq!((ours.ethertype(), usize::from(headers.l3)), (ethertype, at));
    match ethertype {
        0x0800 => same_v4(frame, headers),
        0x86dd => same_v6(frame, headers),
        other => panic!("{other:#x} is not IP"),
    }
}

fn same_v4(frame: &[u8], headers: &Headers) {
    let bytes = &frame[usize::from(headers.l3)..];
    let ours = Ipv4::parse(bytes).unwrap();
    let theirs = Ipv4Packet::new(bytes).unwrap();
    assert_eq!(ours.checksum(), pnet_ipv4_checksum(&theirs));
    assert_eq!((ours.src(), ours.dst()), (theirs.get_source(), theirs.get_destination()));
    assert_eq!(ours.tos(), theirs.get_dscp() << 2 | theirs.get_ecn());
    assert_eq!(ours.total_len(), usize::from(theirs.get_total_length()));
    assert_eq!(ours.identification(), theirs.get_identification());
    let flags = theirs.get_flags();
    assert_eq!((ours.dont_fragment(), ours.more_fragments()), (flags & 2 != 0, flags & 1 != 0));
    assert_eq!(ours.fragment_offset(), theirs.get_fragment_offset() * 8);
    assert_eq!((ours.ttl(), headers.ttl), (theirs.get_ttl(), theirs.get_ttl()));
    assert_eq!(ours.protocol(), theirs.get_next_level_protocol().0);
    assert_eq!(ours.header_len(), usize::from(theirs.get_header_length()) * 4);
    assert_eq!(ours.payload(), theirs.payload());
    same_transport(ours.payload(), headers);
}

fn same_v6(frame: &[u8], headers: &Headers) {
    let bytes = &frame[usize::from(headers.l3)..];
    let ours = Ipv6::parse(bytes).unwrap();
    let theirs = Ipv6Packet::new(bytes).unwrap();
    assert_eq!((ours.src(), ours.dst()), (theirs.get_source(), theirs.get_destination()));
    assert_eq!(ours.traffic_class(), theirs.get_traffic_class());
    assert_eq!(ours.flow_label(), theirs.get_flow_label());
    assert_eq!(ours.next_header(), theirs.get_next_header().0);
    assert_eq!((ours.hop_limit(), headers.ttl), (theirs.get_hop_limit(), theirs.get_hop_limit()));
    assert_eq!(ours.total_len(), 40 + usize::from(theirs.get_payload_length()));
    assert_eq!(ours.payload(), &theirs.payload()[ours.header_len() - 40..]);
    same_transport(ours.payload(), headers);
}

fn same_transport(payload: &[u8], headers: &Headers) {
    if headers.fragment == Fragment::Later {
        return;
    }
    let ports = headers.tuple.map(|tuple| (tuple.sport(), tuple.dport()));
    match headers.transport {
        Transport::Tcp { flags, seq, ack, window } => {
            let ours = Tcp::parse(payload).unwrap();
            let theirs = TcpPacket::new(payload).unwrap();
            assert_eq!(ports, Some((theirs.get_source(), theirs.get_destination())));
            assert_eq!((seq, ack), (theirs.get_sequence(), theirs.get_acknowledgement()));
            assert_eq!((flags, window), (theirs.get_flags(), theirs.get_window()));
            assert_eq!(ours.checksum(), theirs.get_checksum());
            assert_eq!(ours.urgent(), theirs.get_urgent_ptr());
            assert_eq!(ours.payload(), theirs.payload());
            same_options(&ours, &theirs);
        }
        Transport::Udp => {
            let ours = Udp::parse_within(payload, 65535).unwrap();
            let theirs = UdpPacket::new(payload).unwrap();
            assert_eq!(ports, Some((theirs.get_source(), theirs.get_destination())));
            assert_eq!((ours.len(), ours.checksum()), (theirs.get_length(), theirs.get_checksum()));
            // pnet_packet goes on behind the length.
            let len = theirs.payload().len().min(usize::from(ours.len()) - 8);
            assert_eq!(ours.payload(), &theirs.payload()[..len]);
        }
        Transport::Icmp { kind, code } => {
            let theirs = IcmpPacket::new(payload);
            let theirs = theirs.map(|icmp| (icmp.get_icmp_type().0, icmp.get_icmp_code().0));
            assert_eq!(theirs.unwrap_or((payload[0], payload[1])), (kind, code));
        }
        Transport::Other(_) => assert_eq!(ports, None),
    }
}

/// pnet_packet reads on behind the end of the list, so it is followed up to there.
fn same_options(ours: &Tcp<'_>, theirs: &TcpPacket<'_>) {
    let theirs: Vec<_> = theirs
        .get_options_iter()
        .take_while(|option| option.get_number() != TcpOptionNumbers::EOL)
        .filter(|option| option.get_number() != TcpOptionNumbers::NOP)
        .map(|option| (option.get_number().0, option.payload().to_vec()))
        .collect();
    let list: Vec<_> = ours.options().map(|at| (at.bytes[0], at.bytes[2..].to_vec())).collect();
    assert_eq!(list, theirs);
    for at in ours.options() {
        let value = &at.bytes[2..];
        match at.option {
            TcpOption::Mss(mss) => assert_eq!(mss.to_be_bytes(), value),
            TcpOption::WindowScale(shift) => assert_eq!([shift], value),
            TcpOption::SackPermitted => assert!(value.is_empty()),
            TcpOption::Timestamps { value: clock, echo } => {
                assert_eq!([clock.to_be_bytes(), echo.to_be_bytes()].concat(), value);
            }
            TcpOption::Sack(blocks) => {
                let edges = blocks.flat_map(|(left, right)| [left, right]);
                let bytes: Vec<_> = edges.flat_map(u32::to_be_bytes).collect();
                assert_eq!(bytes, value);
            }
            TcpOption::Other { value: rest, .. } => assert_eq!(rest, value),
            other => panic!("not compared: {other:?}"),
        }
    }
}
