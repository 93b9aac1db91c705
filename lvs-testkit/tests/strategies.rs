//! What the strategies promise holds, by pnet_packet, smoltcp and the parser of lvs-core.

use lvs_core::io::PacketBuf;
use lvs_core::wire::{Headers, Parsed};
use lvs_testkit::build::{Csum, udp};
use lvs_testkit::strategies::{
    Broken, Damage, arp, atomic_fragment, client_v4, client_v6, flow, fragmented, hostile,
    icmp_complaint, ndp, nearly_valid, tcp_packet, valid, valid_buf,
};
use lvs_testkit::{nic, oracle};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;

proptest! {
    #[test]
    fn valid_frames_have_right_checksums_and_are_accepted(built in valid()) {
        prop_assert_eq!(oracle::checksums_ok(&built.frame), Ok(()));
        prop_assert_eq!(oracle::accepted(&built.frame), Ok(()));
    }

    #[test]
    fn complaints_are_valid_and_quote_what_they_speak_of(complaint in icmp_complaint()) {
        prop_assert_eq!(oracle::checksums_ok(&complaint.frame), Ok(()));
        let of = oracle::fields(&complaint.frame).unwrap();
        let about = &complaint.about;
        let quoted = &about.frame[about.l3..about.l3 + complaint.quoted];
        prop_assert_eq!(&of.segment[8..], quoted);
        prop_assert!(complaint.quoted >= about.l4 - about.l3 + 8);
        prop_assert!(matches!(Headers::parse(&complaint.frame, 0), Ok(Parsed::Ip(_))));
    }

    #[test]
    fn fragments_are_valid_and_make_up_the_datagram((whole, parts) in fragmented()) {
        let mut body = Vec::new();
        for part in &parts {
            prop_assert_eq!(oracle::checksums_ok(part), Ok(()));
            prop_assert_eq!(oracle::accepted(part), Ok(()));
            let of = oracle::fields(part).unwrap();
            prop_assert_eq!(of.ports.is_some(), body.is_empty());
            let Ok(Parsed::Ip(found)) = Headers::parse(part, part.len()) else { panic!() };
            prop_assert_eq!(found.tuple.is_some(), body.is_empty());
            body.extend(of.segment);
        }
        prop_assert_eq!(body, oracle::fields(&whole.build()).unwrap().segment);
    }

    #[test]
    fn atomic_fragments_are_whole(packet in atomic_fragment()) {
        let frame = packet.build();
        prop_assert_eq!(oracle::accepted(&frame), Ok(()));
        prop_assert_eq!(oracle::fields(&frame).unwrap().fragment, Some((0, false)));
    }

    #[test]
    fn arp_and_neighbour_discovery_are_accepted(arp in arp(), ndp in ndp()) {
        let arp = arp.build();
        prop_assert_eq!(oracle::accepted(&arp), Ok(()));
        prop_assert!(matches!(Headers::parse(&arp, 0), Ok(Parsed::Arp(_))));
        prop_assert_eq!(oracle::accepted(&ndp), Ok(()));
        prop_assert_eq!(oracle::checksums_ok(&ndp), Ok(()));
    }

    #[test]
    fn frames_with_one_thing_wrong_are_refused(broken in nearly_valid()) {
        let frame = &broken.built.frame;
        prop_assert!(oracle::accepted(frame).is_err(), "{:?}", broken.damage);
    }

    #[test]
    fn whatever_a_device_delivers_becomes_frames_that_are_accepted(packet in valid_buf()) {
        for frame in nic::on_wire(&packet) {
            prop_assert_eq!(oracle::checksums_ok(&frame), Ok(()));
            prop_assert_eq!(oracle::accepted(&frame), Ok(()));
            prop_assert_eq!(packet.vlan().is_some(), frame[12..14] == [0x81, 0]);
        }
    }

    #[test]
    fn the_oracles_answer_hostile_frames_and_agree_on_checksums(frame in hostile()) {
        let accepted = oracle::accepted(&frame).is_ok();
        let right = oracle::checksums_ok(&frame);
        let proto = oracle::fields(&frame).map(|fields| fields.proto);
        if accepted && matches!(proto, Ok(6 | 17)) {
            prop_assert_eq!(right, Ok(()));
        }
    }

    #[test]
    fn lvs_core_finds_the_parts_of_valid_frames_where_they_were_written(built in valid()) {
        match Headers::parse(&built.frame, built.frame.len()) {
            Ok(Parsed::Ip(found)) => {
                let places = (found.l3.into(), found.l4.into(), found.payload.into(), found.end);
                let written = (built.l3, built.l4, built.payload, built.end as u32);
                prop_assert_eq!(places, written);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// INV-4.
    #[test]
    fn lvs_core_refuses_all_damage_but_wrong_transport_checksums(broken in nearly_valid()) {
        let Broken { damage, built } = broken;
        let parsed = Headers::parse(&built.frame, built.frame.len());
        let must_refuse = damage != Damage::TransportChecksum;
        prop_assert_eq!(parsed.is_err(), must_refuse, "{:?}: {:?}", damage, parsed);
    }

    /// INV-4.
    #[test]
    fn lvs_core_never_panics_on_hostile_frames(frame in hostile()) {
        if let Ok(Parsed::Ip(found)) = Headers::parse(&frame, frame.len()) {
            let ordered = found.l3 <= found.l4 && found.l4 <= found.payload;
            prop_assert!(ordered && u32::from(found.payload) <= found.end);
            prop_assert!(found.end as usize <= frame.len());
        }
    }

    #[test]
    fn addresses_of_flows_may_appear_on_a_wire(v4 in client_v4(), v6 in client_v6(), flow in flow()) {
        prop_assert!(!lvs_core::addr::is_martian_source(&v4.into()));
        prop_assert!(!lvs_core::addr::is_martian_source(&v6.into()));
        prop_assert_eq!(flow.reverse().reverse(), flow);
        prop_assert!(flow.src.port() != 0 && flow.dst.port() != 0);
    }
}

/// Two tags, IPv6, and a UDP datagram of 10 bytes without a checksum in a packet with room for 27: a
/// splice of two valid frames, on which the oracles disagreed.
#[test]
fn both_oracles_refuse_udp_over_ipv6_without_a_checksum() {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 12];
    frame.extend([0x81, 0, 0, 0, 0x81, 0, 0, 0, 0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0, 0, 27, 17, 1]);
    let address = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    frame.extend([address, address].concat());
    frame.extend([
        0, 1, 0, 1, 0, 10, 0, 0, 1, 10, 0, 0, 1, 7, 7, 4, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 18,
    ]);
    assert_eq!(oracle::accepted(&frame), Err("a UDP checksum of zero in IPv6".into()));
    assert!(oracle::checksums_ok(&frame).unwrap_err().starts_with("the UDP checksum is 0x0000"));

    // RFC 768 allows it in IPv4.
    let v4 = udp().l4_csum(Csum::Value(0)).payload([1, 2, 3]).build();
    assert_eq!((oracle::accepted(&v4), oracle::checksums_ok(&v4)), (Ok(()), Ok(())));
}

/// What stands behind a datagram in its packet is in neither the datagram nor its checksum.
#[test]
fn both_oracles_judge_a_datagram_that_is_shorter_than_its_packet_by_its_own_length() {
    for (from, to) in [("10.0.0.1:5", "10.0.0.2:6"), ("[2001:db8::1]:5", "[2001:db8::2]:6")] {
        let short = udp().from(from).to(to).payload([1, 2, 3]).build();
        let mut frame = udp().from(from).to(to).payload([1, 2, 3, 9, 9, 9, 9]).build();
        let udp_at = frame.len() - 15;
        frame[udp_at + 4..udp_at + 8].copy_from_slice(&short[udp_at + 4..udp_at + 8]);
        assert_eq!((oracle::accepted(&frame), oracle::checksums_ok(&frame)), (Ok(()), Ok(())));
        assert_eq!(oracle::fields(&frame).unwrap().payload, [1, 2, 3]);
        // A checksum over all of it is wrong.
        let whole = udp().from(from).to(to).udp_len(11).payload([1, 2, 3, 9, 9, 9, 9]).build();
        assert!(oracle::accepted(&whole).is_err() && oracle::checksums_ok(&whole).is_err());
    }
}

#[test]
fn every_kind_of_damage_is_made() {
    let mut runner = TestRunner::deterministic();
    let kinds: BTreeSet<String> = (0..2000)
        .map(|_| nearly_valid().new_tree(&mut runner).unwrap().current().damage)
        .map(|damage| format!("{damage:?}").split('(').next().unwrap().to_owned())
        .collect();
    let expected = [
        Damage::Cut(0),
        Damage::Version(0),
        Damage::HeaderLength(0),
        Damage::LengthTooShort(0),
        Damage::LengthTooLong(0),
        Damage::IpChecksum,
        Damage::TransportChecksum,
        Damage::DataOffsetTooShort(0),
        Damage::DataOffsetTooLong(0),
        Damage::OptionLength(0),
        Damage::OptionTooLong(0),
        Damage::UdpLengthTooShort(0),
        Damage::UdpLengthTooLong(0),
        Damage::ExtensionTooLong(0),
    ];
    for damage in expected {
        let name = format!("{damage:?}");
        assert!(kinds.contains(name.split('(').next().unwrap()), "{name} is never made");
    }
    assert_eq!(kinds.len(), expected.len());
}

#[test]
fn both_families_tags_options_and_extension_headers_appear() {
    let mut runner = TestRunner::deterministic();
    let frames: Vec<_> = (0..500)
        .map(|_| tcp_packet().new_tree(&mut runner).unwrap().current().build())
        .map(|frame| (oracle::fields(&frame).unwrap(), frame))
        .collect();
    let count = |check: &dyn Fn(&oracle::Fields) -> bool| {
        frames.iter().filter(|(fields, _)| check(fields)).count()
    };
    assert!(count(&|f| f.src.is_ipv6()) > 100);
    assert!(count(&|f| f.src.is_ipv4()) > 100);
    assert!(count(&|f| !f.vlans.is_empty()) > 100);
    assert!(count(&|f| !f.tcp.as_ref().unwrap().options.is_empty()) > 100);
    assert!(count(&|f| f.payload.len() > 500) > 20);
}

#[test]
fn a_tag_of_9100_is_one_to_none_of_the_oracles() {
    let mut frame =
        lvs_testkit::build::tcp().from("10.0.0.2:1234").to("10.0.0.80:80").ack(7).build();
    frame.splice(12..12, [0x91, 0, 0, 1]);
    assert_eq!(oracle::accepted(&frame), Ok(()));
    assert!(oracle::fields(&frame).is_err());
}
