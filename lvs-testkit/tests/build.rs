//! Built packets mean what they say, by pnet_packet and smoltcp.

use lvs_core::addr::MacAddr;
use lvs_core::io::{GsoKind, L4Csum, PacketBuf};
use lvs_testkit::build::{
    Csum, Ext, IcmpError, Layer4, Packet, arp_reply, arp_request, echo, echo_reply, flag,
    fragments, icmp_error, ip_of, ndp_advert, ndp_solicit, option, raw, tcp, udp,
};
use lvs_testkit::{nic, oracle, pcap};

const V6: (&str, &str) = ("[2001:db8::2]:1234", "[2001:db8:1::80]:80");

fn good(frame: &[u8]) {
    assert_eq!(oracle::checksums_ok(frame), Ok(()), "{frame:02x?}");
    assert_eq!(oracle::accepted(frame), Ok(()), "{frame:02x?}");
}

fn both<P: Layer4 + Clone>(packet: &Packet<P>) -> [Vec<u8>; 2] {
    [packet.build(), packet.clone().from(V6.0).to(V6.1).build()]
}

#[test]
fn a_syn_has_the_fields_it_was_given() {
    let frame = tcp()
        .syn()
        .from("10.1.2.3:1234")
        .to("10.9.8.7:443")
        .seq(7)
        .window(4096)
        .ttl(33)
        .tos(0xb8)
        .vlan(5)
        .linux_options(1460)
        .toa("192.0.2.1:999".parse().unwrap())
        .build();
    good(&frame);
    let of = oracle::fields(&frame).unwrap();
    assert_eq!(of.vlans, [5]);
    assert_eq!((of.src, of.dst), ("10.1.2.3".parse().unwrap(), "10.9.8.7".parse().unwrap()));
    assert_eq!((of.ports, of.proto, of.ttl, of.tos), (Some((1234, 443)), 6, 33, 0xb8));
    let tcp = of.tcp.unwrap();
    assert_eq!((tcp.seq, tcp.ack, tcp.flags, tcp.window), (7, 0, flag::SYN, 4096));
    let kinds: Vec<u8> = tcp.option_list().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [2, 4, 8, 1, 3, 254]);
    assert_eq!(tcp.option(2).unwrap(), [0x05, 0xb4]);
    assert_eq!(tcp.option(254).unwrap(), [0x03, 0xe7, 192, 0, 2, 1]);
}

#[test]
fn whole_packets_of_every_kind_are_accepted_in_both_families() {
    for len in [0, 1, 2, 3, 100, 1400] {
        for frame in both(&tcp().ack(5).psh().timestamps(1, 2).payload_len(len)) {
            good(&frame);
            assert_eq!(oracle::fields(&frame).unwrap().payload.len(), len);
        }
        for frame in both(&udp().payload_len(len)) {
            good(&frame);
            assert_eq!(oracle::fields(&frame).unwrap().payload.len(), len);
        }
        both(&echo(1, 2).payload_len(len)).iter().for_each(|frame| good(frame));
        both(&echo_reply(1, 2).payload_len(len)).iter().for_each(|frame| good(frame));
        both(&raw(132).payload_len(len)).iter().for_each(|frame| good(frame));
    }
}

#[test]
fn options_padding_and_tags_leave_a_packet_valid() {
    good(&udp().ip_options(&[7, 7, 4, 0, 0, 0, 0]).payload(b"routed").build());
    good(&udp().pad_to(60).build());
    good(&tcp().syn().pad(13).vlan(1).vlan(2).build());
    let built = tcp().syn().mss(1).ip_options(&[1; 4]).vlan(9).payload(b"abc").pad(2).build_parts();
    assert_eq!((built.l3, built.l4, built.payload, built.end), (18, 42, 66, 69));
    assert_eq!(built.frame.len(), 71);
}

#[test]
fn extension_headers_are_walked_by_others() {
    let frame = udp()
        .from(V6.0)
        .to(V6.1)
        .ext(Ext::HopByHop(vec![5, 2, 0, 0]))
        .ext(Ext::Destination(vec![1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
        .ext(Ext::Fragment(0, false, 77))
        .payload(b"deep")
        .build();
    good(&frame);
    assert_eq!(oracle::fields(&frame).unwrap().payload, b"deep");
    let frame = tcp().from(V6.0).to(V6.1).ext(Ext::Auth(12)).ext(Ext::Destination(vec![])).build();
    assert_eq!(oracle::fields(&frame).unwrap().ports, Some((1234, 80)));
    assert_eq!(oracle::checksums_ok(&frame), Ok(()));
}

#[test]
fn icmp_errors_quote_the_packet_they_speak_of() {
    let all = [
        IcmpError::NoRoute,
        IcmpError::HostUnreachable,
        IcmpError::PortUnreachable,
        IcmpError::Prohibited,
        IcmpError::TooBig(1280),
        IcmpError::TimeExceeded,
        IcmpError::ReassemblyTime,
        IcmpError::ParameterProblem(4),
    ];
    for inner in both(&udp().payload_len(100)) {
        for error in all {
            let packet = icmp_error(error, &inner, 64);
            let v6 = ip_of(&inner)[0] >> 4 == 6;
            let frame = if v6 {
                packet.from("2001:db8::99").to("2001:db8::2").build()
            } else {
                packet.from("10.0.0.99").to("10.0.0.2").build()
            };
            assert_eq!(oracle::checksums_ok(&frame), Ok(()), "{error:?}");
            let of = oracle::fields(&frame).unwrap();
            assert_eq!(of.segment[8..], ip_of(&inner)[..64], "{error:?}");
        }
    }
}

#[test]
fn arp_and_neighbour_discovery_are_accepted() {
    let (a, b) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let (v4a, v4b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    good_arp(&arp_request(a, v4a, v4b).build());
    good_arp(&arp_reply(b, v4b, a, v4a).build());
    let (v6a, v6b) = ("fe80::1".parse().unwrap(), "2001:db8::1234:5678".parse().unwrap());
    good(&ndp_solicit(a, v6a, v6b).build());
    good(&ndp_advert(b, v6b, a, v6a, 3).build());
    let solicit = ndp_solicit(a, v6a, v6b).build();
    assert_eq!(solicit[..6], [0x33, 0x33, 0xff, 0x34, 0x56, 0x78]);
}

fn good_arp(frame: &[u8]) {
    assert_eq!(oracle::accepted(frame), Ok(()));
}

#[test]
fn every_knob_breaks_what_it_names() {
    let broken = [
        ("TCP checksum", tcp().wrong_l4_csum().build()),
        ("UDP checksum", udp().wrong_l4_csum().build()),
        ("ICMP checksum", echo(1, 1).wrong_l4_csum().build()),
        ("IPv4 checksum", tcp().ip_csum(Csum::Wrong).build()),
        ("IPv4 version", tcp().ip_version(5).build()),
        ("IPv4 length", tcp().ip_len(10).build()),
        ("IPv4 length past the end", tcp().ip_len(200).build()),
        ("header length", tcp().ihl(4).build()),
        ("data offset", tcp().data_offset(4).build()),
        ("data offset past the end", tcp().data_offset(15).build()),
        ("UDP length", udp().udp_len(7).build()),
        ("UDP length past the end", udp().udp_len(200).build()),
        ("option length", tcp().options(&[2, 0, 0, 0]).build()),
        ("cut", tcp().cut(40).build()),
        ("IPv6 version", tcp().from(V6.0).to(V6.1).ip_version(4).build()),
        ("IPv6 length", udp().from(V6.0).to(V6.1).ip_len(900).build()),
        ("ICMPv6 checksum", echo(1, 1).from(V6.0).to(V6.1).wrong_l4_csum().build()),
    ];
    for (what, frame) in broken {
        assert!(oracle::accepted(&frame).is_err(), "{what}: {frame:02x?}");
    }
    let none = udp().l4_csum(Csum::Value(0)).build();
    assert_eq!((oracle::checksums_ok(&none), oracle::accepted(&none)), (Ok(()), Ok(())));
}

#[test]
fn fragments_put_together_are_the_packet() {
    for whole in both(&udp().dont_fragment(false).payload_len(4000)) {
        let parts = fragments(&whole, 1280, 0xabcd);
        assert!(parts.len() > 3);
        let mut body = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            good(part);
            let of = oracle::fields(part).unwrap();
            assert_eq!(of.fragment, Some((body.len(), index + 1 < parts.len())));
            body.extend(of.segment);
        }
        assert_eq!(body, oracle::fields(&whole).unwrap().segment);
    }
}

#[test]
fn a_card_finishes_partial_checksums_and_cuts_trains_into_what_hosts_accept() {
    let big = vec![
        (tcp().ack(9).fin().psh().timestamps(1, 2).payload_len(5000).gso(1000).build_buf(), 5),
        (tcp().from(V6.0).to(V6.1).ack(9).payload_len(5001).gso(1000).build_buf(), 6),
        (udp().payload_len(2500).gso(1000).build_buf(), 3),
        (udp().from(V6.0).to(V6.1).payload_len(2500).gso(1000).build_buf(), 3),
        (tcp().payload_len(77).l4_csum(Csum::Partial).build_buf(), 1),
        (udp().from(V6.0).to(V6.1).l4_csum(Csum::Partial).build_buf(), 1),
    ];
    for (packet, count) in big {
        assert_eq!(packet.l4_csum(), L4Csum::Partial);
        let frames = nic::on_wire(&packet);
        assert_eq!(frames.len(), count);
        let mut payload = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            good(frame);
            let of = oracle::fields(frame).unwrap();
            if let Some(tcp) = of.tcp {
                assert_eq!(tcp.seq, 1000 + payload.len() as u32);
                let ends = tcp.flags & (flag::FIN | flag::PSH);
                assert!(ends == 0 || index + 1 == count);
            }
            payload.extend(of.payload);
        }
        assert_eq!(payload, lvs_testkit::build::pattern(payload.len()));
    }
    let train = tcp().payload_len(2000).gso(500).build_buf();
    assert_eq!(train.gso().map(|gso| (gso.kind, gso.size)), Some((GsoKind::TcpV4, 500)));
}

/// INV-3, for the card that stands in for real ones.
#[test]
fn a_card_launders_no_wrong_partial_sum() {
    for packet in [tcp().payload_len(3000).gso(1000), tcp().payload_len(10).l4_csum(Csum::Partial)]
    {
        let mut packet = packet.build_buf();
        packet.data_mut()[14 + 20 + 16] ^= 1;
        for frame in nic::on_wire(&packet) {
            assert!(oracle::checksums_ok(&frame).is_err());
        }
    }
}

#[test]
fn a_card_moves_a_tag_between_the_bytes_and_the_metadata() {
    let beside = udp().vlan_beside(7).build_buf();
    let frame = &nic::on_wire(&beside)[0];
    assert_eq!(*frame, udp().vlan(7).build());
    let back = nic::from_wire(frame, true);
    assert_eq!((back.vlan(), back.data()), (beside.vlan(), beside.data()));
    assert_eq!(nic::from_wire(frame, false).data(), frame);
    assert_eq!(nic::from_wire(&frame[..17], true).data().len(), 17);
}

#[test]
fn a_capture_file_reads_back_and_refuses_rubbish() {
    let captures: Vec<_> = (0..5u64)
        .map(|n| pcap::Capture {
            time_ns: n * 1_000_000_001,
            data: udp().payload_len(n as usize).build(),
        })
        .collect();
    let mut file = Vec::new();
    pcap::write(&mut file, &captures).unwrap();
    assert_eq!(pcap::read(&file[..]).unwrap(), captures);
    assert!(pcap::read(&file[..file.len() - 1]).is_err());
    assert!(pcap::read(&b"not a capture, but long enough to be one"[..]).is_err());
    let late = [pcap::Capture { time_ns: u64::MAX, data: vec![] }];
    assert!(pcap::write(Vec::new(), &late).is_err());
}

#[test]
fn option_bytes_are_the_published_ones() {
    assert_eq!(option::mss(1460), [2, 4, 5, 180]);
    assert_eq!(option::sack(&[(1, 2)]), [5, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!(option::toa("[2001:db8::1]:80".parse().unwrap()).len(), 20);
}
