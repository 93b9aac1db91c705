//! Errors of the director's own: right by independent parsers, and never about what forbids them.

mod support;

use core::net::IpAddr;
use lvs_core::io::L4Csum;
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::icmp::{
    Carried, Complaint, Offender, Unreachable, complain, complain_about, embedded, may_complain,
};
use pnet_packet::{icmp, icmpv6, ipv4};
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr};
use support::icmp::Message;
use support::{Spec, specs};

const ALL: [Complaint; 6] = [
    Complaint::TooBig { mtu: 1400 },
    Complaint::TimeExceeded,
    Complaint::Unreachable(Unreachable::Net),
    Complaint::Unreachable(Unreachable::Host),
    Complaint::Unreachable(Unreachable::Port),
    Complaint::Unreachable(Unreachable::Prohibited),
];

fn parsed(frame: &[u8]) -> Headers {
    match Headers::parse(frame, frame.len()) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("{other:?}"),
    }
}

/// Type, code and word (RFC 792, 1191, 1812; RFC 4443).
fn fields(complaint: Complaint, v4: bool) -> (u8, u8, u32) {
    use Complaint::{TimeExceeded, TooBig};
    use Unreachable::{Host, Net, Port, Prohibited};
    match (complaint, v4) {
        (TooBig { mtu }, true) => (3, 4, mtu),
        (TooBig { mtu }, false) => (2, 0, mtu),
        (Complaint::Relayed { kind, code }, _) => (kind, code, 0),
        (TimeExceeded, true) => (11, 0, 0),
        (TimeExceeded, false) => (3, 0, 0),
        (Complaint::Unreachable(why), true) => match why {
            Net => (3, 0, 0),
            Host => (3, 1, 0),
            Port => (3, 3, 0),
            Prohibited => (3, 13, 0),
        },
        (Complaint::Unreachable(why), false) => match why {
            Net => (1, 0, 0),
            Prohibited => (1, 1, 0),
            Host => (1, 3, 0),
            Port => (1, 4, 0),
        },
    }
}

fn from_of(spec: &Spec) -> IpAddr {
    if spec.src.is_ipv4() { [10, 9, 8, 7].into() } else { "2001:db8::7".parse().unwrap() }
}

/// A host's address and nothing special.
fn ordinary(mut spec: Spec) -> Spec {
    for end in [&mut spec.src, &mut spec.dst] {
        end.set_ip(match end.ip() {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() >> 8 | 0x0a00_0000).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 16 | 0x2001 << 112).into()),
        });
    }
    spec
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_complaint_quotes_the_packet_and_says_what_the_standards_say(
        (spec, _) in specs(), which in 0usize..6, ttl: u8, more in 0usize..2000,
    ) {
        let mut spec = ordinary(spec);
        spec.payload.resize(spec.payload.len() + more, 0x5a);
        let (frame, headers) = (spec.build(), spec.parsed());
        let mut out = [0u8; 1400];
        let len = complain(&frame, &headers, spec.csum, ALL[which], from_of(&spec), ttl, &mut out);
        let error = &out[..len.unwrap()];

        // The quote is what it was on the wire: completed.
        let mut on_wire = spec.clone();
        if spec.csum == L4Csum::Partial {
            (on_wire.csum, on_wire.no_checksum) = (L4Csum::Unknown, false);
        }
        let v4 = spec.src.is_ipv4();
        let (kind, code, word) = fields(ALL[which], v4);
        let longest = if v4 { 576 - 28 } else { 1280 - 48 };
        let whole = on_wire.build()[spec.l3()..spec.end()].to_vec();
        let body = whole[..whole.len().min(longest)].to_vec();
        let message = Message {
            src: from_of(&spec), dst: spec.src.ip(), vlan: spec.vlan, ttl, kind, code, word, body,
        };
        let mut want = message.build();
        want[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        if v4 {
            let ip = &mut want[spec.l3()..][..20];
            (ip[1], ip[4], ip[5], ip[6]) = (0xc0, 0, 0, 0x40);
            let sum = ipv4::checksum(&ipv4::Ipv4Packet::new(ip).unwrap());
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        prop_assert_eq!(error, &want[..]);

        // Two independent parsers, and our own, agree.
        let own = parsed(error);
        let quote = embedded(error, &own).unwrap();
        prop_assert_eq!(quote.carried, Carried::Flow(headers.tuple.unwrap()));
        prop_assert_eq!(quote.mtu, (which == 0).then_some(1400));
        let icmp_bytes = &error[usize::from(own.l4)..];
        let caps = ChecksumCapabilities::default();
        match (from_of(&spec), spec.src.ip()) {
            (IpAddr::V4(_), _) => {
                let packet = icmp::IcmpPacket::new(icmp_bytes).unwrap();
                prop_assert_eq!(packet.get_checksum(), icmp::checksum(&packet));
                let packet = Icmpv4Packet::new_checked(icmp_bytes).unwrap();
                // smoltcp knows some types, and quotes of whole packets.
                if kind == 3 && whole.len() <= longest {
                    let repr = Icmpv4Repr::parse(&packet, &caps).unwrap();
                    prop_assert!(matches!(repr, Icmpv4Repr::DstUnreachable { header, .. }
                        if IpAddr::from(header.src_addr) == spec.src.ip()), "{:?}", repr);
                }
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let packet = icmpv6::Icmpv6Packet::new(icmp_bytes).unwrap();
                prop_assert_eq!(packet.get_checksum(), icmpv6::checksum(&packet, &src, &dst));
                let packet = Icmpv6Packet::new_checked(icmp_bytes).unwrap();
                let repr = Icmpv6Repr::parse(&src, &dst, &packet, &caps);
                prop_assert!(repr.is_ok(), "{:?}", repr);
            }
            _ => unreachable!(),
        }
    }

    #[test]
    fn hostile_packets_and_short_buffers_do_no_harm(
        (spec, _) in specs(), which in 0usize..6, room in 0usize..200, cut in 0usize..120,
        flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..8),
        wild: (u16, u16, u16, u32),
    ) {
        let mut frame = spec.build();
        for (at, byte) in flips {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(frame.len().saturating_sub(cut));
        let hostile = Headers { l3: wild.0, l4: wild.1, payload: wild.2, end: wild.3, ..spec.parsed() };
        for headers in [spec.parsed(), hostile] {
            let mut out = vec![0xaa; room];
            let len = complain(&frame, &headers, spec.csum, ALL[which], from_of(&spec), 64, &mut out);
            prop_assert!(len.is_none_or(|len| len <= room));
        }
        let mut out = vec![0; room];
        let offender = Offender { packet: &frame, link: &spec.build()[..14] };
        let len = complain_about(&offender, ALL[which], from_of(&spec), 64, &mut out);
        prop_assert!(len.is_none_or(|len| len <= room));
    }
}

/// From `src` to `dst`, with this fragment field and these first bytes of transport.
fn v4(src: [u8; 4], dst: [u8; 4], fragment: u16, protocol: u8, l4: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 20 + l4.len() as u8, 0, 0];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(src);
    packet.extend(dst);
    packet.extend(l4);
    packet
}

#[test]
fn nobody_complains_about_what_the_standards_forbid() {
    let (host, other) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let tcp = [0u8; 20];
    assert!(may_complain(&v4(host, other, 0, 6, &tcp)));
    assert!(may_complain(&v4(host, other, 0x2000, 6, &tcp)), "the first fragment");
    assert!(may_complain(&v4(host, other, 0, 50, &tcp)), "a protocol nobody tracks");
    assert!(!may_complain(&v4(host, other, 0x0001, 6, &tcp)), "a later fragment");
    for bad in [[0; 4], [127, 0, 0, 1], [224, 0, 0, 5], [240, 0, 0, 1], [255; 4]] {
        assert!(!may_complain(&v4(bad, other, 0, 6, &tcp)), "from {bad:?}");
        assert!(!may_complain(&v4(host, bad, 0, 6, &tcp)), "to {bad:?}");
    }
    for kind in 0..=255u8 {
        let message = [kind, 0, 0, 0, 0, 0, 0, 0];
        // RFC 1122 section 3.2.2: echo, timestamp, information and mask queries and their replies.
        let query = matches!(kind, 0 | 8 | 13..=18);
        assert_eq!(may_complain(&v4(host, other, 0, 1, &message)), query, "ICMP {kind}");
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        packet.extend("2001:db8::1".parse::<core::net::Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8::2".parse::<core::net::Ipv6Addr>().unwrap().octets());
        packet.extend(message);
        let query = kind >= 128 && kind != 137;
        assert_eq!(may_complain(&packet), query, "ICMPv6 {kind}");
    }
    assert!(!may_complain(&v4(host, other, 0, 1, &[])), "ICMP without a type");
    assert!(!may_complain(&[]) && !may_complain(&[0x45; 19]) && !may_complain(&[0x75; 60]));
}

#[test]
fn nobody_answers_a_group_on_the_link_or_through_a_foreign_family() {
    let spec = Spec {
        src: "10.0.0.1:1".parse().unwrap(),
        dst: "10.0.0.2:2".parse().unwrap(),
        proto: lvs_core::flow::L4Proto::Udp,
        vlan: false,
        ip_extra: false,
        ttl: 1,
        seq: 0,
        ack: 0,
        flags: 0,
        options: vec![],
        payload: vec![1; 10],
        no_checksum: false,
        csum: L4Csum::Unknown,
        padding: 0,
    };
    let (mut frame, headers) = (spec.build(), spec.parsed());
    let mut out = [0; 200];
    let mut tell = |frame: &[u8], from: IpAddr| {
        complain(frame, &headers, L4Csum::Unknown, Complaint::TimeExceeded, from, 64, &mut out)
    };
    assert_eq!(tell(&frame, [10, 0, 0, 2].into()), Some(14 + 20 + 8 + 38));
    assert_eq!(tell(&frame, IpAddr::V6(1.into())), None);
    frame[0] = 0xff;
    assert_eq!(tell(&frame, [10, 0, 0, 2].into()), None);
}
