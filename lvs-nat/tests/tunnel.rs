//! A packet in a tunnel is, byte for byte, the packet inside behind a header built from its fields.

mod support;

use core::net::IpAddr;
use lvs_core::addr::Family;
use lvs_core::flow::L4Proto;
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{Gso, GsoCaps, GsoKind, L4Csum, PacketBuf};
use lvs_core::wire::{Fragment, Headers, Parsed};
use lvs_nat::tunnel::{DontFragment, Dscp, Encapsulation};
use lvs_nat::{AnyRewrite, Direct, RewriteError, Sending, Tunnel};
use pnet_packet::{ipv4, udp};
use proptest::prelude::*;
use support::{Spec, specs};

/// A tunnel by its fields.
#[derive(Clone, Debug)]
struct Outer {
    v6: bool,
    ends: (u128, u128),
    how: Encapsulation,
    dscp: Option<u8>,
    ttl: Option<u8>,
    df: DontFragment,
    hop: bool,
    id: u16,
}

fn outers() -> impl Strategy<Value = Outer> {
    let how = prop_oneof![
        Just(Encapsulation::IpIp),
        any::<bool>().prop_map(|checksum| Encapsulation::Gre { checksum }),
        any::<(u16, bool)>().prop_map(|(dport, checksum)| Encapsulation::Gue { dport, checksum }),
    ];
    let df =
        prop_oneof![Just(DontFragment::Copy), Just(DontFragment::Set), Just(DontFragment::Clear)];
    let rest = (any::<Option<u8>>(), any::<Option<u8>>(), df, any::<bool>(), any::<u16>());
    (any::<bool>(), any::<(u128, u128)>(), how, rest).prop_map(
        |(v6, ends, how, (dscp, ttl, df, hop, id))| {
            let dscp = dscp.map(|dscp| dscp & 63);
            Outer { v6, ends, how, dscp, ttl, df, hop, id }
        },
    )
}

impl Outer {
    fn ip(&self, bits: u128) -> IpAddr {
        if self.v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) }
    }

    fn tunnel(&self) -> Tunnel {
        Tunnel::new(self.ip(self.ends.0), self.ip(self.ends.1), self.how)
            .unwrap()
            .dscp(self.dscp.map_or(Dscp::Copy, Dscp::Set))
            .ttl(self.ttl)
            .dont_fragment(self.df)
            .decrement_ttl(self.hop)
    }

    fn sending(&self) -> Sending {
        Sending { gso: GsoCaps::default(), ip_id: self.id }
    }

    fn has_sum(&self) -> bool {
        match self.how {
            Encapsulation::IpIp => false,
            Encapsulation::Gre { checksum } => checksum,
            Encapsulation::Gue { checksum, .. } => checksum || self.v6,
        }
    }

    /// The slow twin: the packet inside, as it is on the wire, behind the header. Flow label and UDP
    /// source port are taken from `made`, as they may be anything.
    fn wrap(&self, spec: &Spec, made: &[u8]) -> Vec<u8> {
        let mut inside = spec.clone();
        inside.ttl -= u8::from(self.hop);
        inside.padding = 0;
        let frame = inside.build();
        let inner = &frame[spec.l3()..];
        let inner_v4 = spec.family() == Family::V4;
        let l3 = spec.l3();
        let mut between = match self.how {
            Encapsulation::IpIp => vec![],
            Encapsulation::Gre { checksum } => {
                let mut gre = vec![if checksum { 0x80 } else { 0 }, 0];
                gre.extend(if inner_v4 { [8, 0] } else { [0x86, 0xdd] });
                gre.extend(if checksum { &[0; 4][..] } else { &[] });
                gre
            }
            Encapsulation::Gue { dport, .. } => {
                let sport_at = l3 + if self.v6 { 40 } else { 20 };
                let mut udp = made[sport_at..sport_at + 2].to_vec();
                assert!(udp[0] >= 0xc0, "source port below 49152");
                udp.extend(dport.to_be_bytes());
                udp.extend((12 + inner.len() as u16).to_be_bytes());
                udp.extend([0, 0, 0, if inner_v4 { 4 } else { 41 }, 0, 0]);
                udp
            }
        };
        between.extend(inner);
        if self.has_sum() {
            let sum = self.sum(&between);
            let at = if matches!(self.how, Encapsulation::Gre { .. }) { 4 } else { 6 };
            between[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let inner_tos = if inner_v4 { inner[1] } else { inner[0] << 4 | inner[1] >> 4 };
        let tos = self.dscp.map_or(inner_tos, |dscp| dscp << 2 | inner_tos & 3);
        let ttl = self.ttl.unwrap_or(inside.ttl);
        let protocol = match self.how {
            Encapsulation::IpIp if inner_v4 => 4,
            Encapsulation::IpIp => 41,
            Encapsulation::Gre { .. } => 47,
            Encapsulation::Gue { .. } => 17,
        };
        let mut out = frame[..l3 - 2].to_vec();
        if self.v6 {
            out.extend([0x86, 0xdd, 0x60 | tos >> 4, tos << 4 | made[l3 + 1] & 0x0f]);
            out.extend(&made[l3 + 2..l3 + 4]);
            out.extend((between.len() as u16).to_be_bytes());
            out.extend([protocol, ttl]);
            out.extend(self.ends.0.to_be_bytes());
            out.extend(self.ends.1.to_be_bytes());
        } else {
            let df = match self.df {
                DontFragment::Copy => !inner_v4 || inner[6] & 0x40 != 0,
                DontFragment::Set => true,
                DontFragment::Clear => false,
            };
            let mut ip = vec![0x45, tos];
            ip.extend((20 + between.len() as u16).to_be_bytes());
            ip.extend(if df { [0, 0] } else { self.id.to_be_bytes() });
            ip.extend([if df { 0x40 } else { 0 }, 0, ttl, protocol, 0, 0]);
            ip.extend((self.ends.0 as u32).to_be_bytes());
            ip.extend((self.ends.1 as u32).to_be_bytes());
            let sum = ipv4::checksum(&ipv4::Ipv4Packet::new(&ip).unwrap());
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            out.extend([8, 0]);
            out.extend(ip);
        }
        out.extend(between);
        out
    }

    fn sum(&self, between: &[u8]) -> u16 {
        let Encapsulation::Gue { .. } = self.how else {
            return pnet_packet::util::checksum(between, usize::MAX);
        };
        let packet = udp::UdpPacket::new(between).unwrap();
        let (src, dst) = self.ends;
        let sum = match self.v6 {
            true => udp::ipv6_checksum(&packet, &src.into(), &dst.into()),
            false => udp::ipv4_checksum(&packet, &(src as u32).into(), &(dst as u32).into()),
        };
        if sum == 0 { 0xffff } else { sum }
    }
}

/// The packet inside as it will be once the port has completed its checksum.
fn complete(spec: &Spec, frame: &mut [u8], growth: usize) {
    if spec.csum == L4Csum::Partial {
        let at = spec.l4() + growth;
        lvs_core::checksum::complete_partial(&mut frame[at..spec.end() + growth], spec.proto)
            .unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// INV-3: also when the packet inside is wrong or not complete yet.
    #[test]
    fn a_packet_is_wrapped_as_its_fields_say(
        (spec, _) in specs(), outer in outers(), damage in any::<Option<prop::sample::Index>>(),
    ) {
        let tunnel = outer.tunnel();
        let growth = usize::from(tunnel.growth());
        let mut buf = spec.buffer(growth, None, false);
        let mut headers = spec.parsed();
        AnyRewrite::Tunnel(tunnel).apply_to(&mut buf, &mut headers, &outer.sending()).unwrap();

        prop_assert_eq!(usize::from(headers.l3), spec.l3());
        prop_assert_eq!(usize::from(headers.l4), spec.l4() + growth);
        prop_assert_eq!(usize::from(headers.payload), spec.payload_at() + growth);
        prop_assert_eq!(headers.end as usize, spec.end() + growth);
        prop_assert_eq!(buf.data().len(), spec.end() + growth);
        prop_assert_eq!(buf.l4_csum(), spec.csum);
        prop_assert_eq!(usize::from(buf.meta().l3), spec.l3() + growth);
        prop_assert_eq!(usize::from(buf.meta().l4), spec.l4() + growth);

        let mut made = buf.data().to_vec();
        complete(&spec, &mut made, growth);
        let mut on_wire = spec.clone();
        if spec.csum == L4Csum::Partial {
            (on_wire.csum, on_wire.no_checksum) = (L4Csum::Unknown, false);
        }
        let want = outer.wrap(&on_wire, &made);
        prop_assert_eq!(&made, &want);

        // A packet damaged before: the outer header vouches for the bytes, not for their truth.
        if let (Some(at), L4Csum::Unknown) = (damage, spec.csum) {
            let mut frame = spec.build();
            let at = at.index(spec.end() - spec.l4()) + spec.l4();
            frame[at] ^= 0x10;
            let mut buf = MemBuf::with_room(&frame, growth, 0);
            let mut headers = spec.parsed();
            tunnel.apply(&mut buf, &mut headers, &outer.sending()).unwrap();
            prop_assert_eq!(buf.data()[at + growth], frame[at]);
            let same = buf.data()[spec.l4() + growth..].iter().zip(&frame[spec.l4()..]);
            prop_assert!(same.into_iter().all(|(a, b)| a == b));
        }
    }

    #[test]
    fn the_frame_parses_as_the_outer_packet(
        (spec, _) in specs(), outer in outers(),
    ) {
        let tunnel = outer.tunnel();
        let mut buf = spec.buffer(64, None, false);
        let mut headers = spec.parsed();
        tunnel.apply(&mut buf, &mut headers, &outer.sending()).unwrap();
        let Ok(Parsed::Ip(outside)) = Headers::parse(buf.data(), buf.data().len()) else {
            return Err(TestCaseError::fail("does not parse"));
        };
        prop_assert_eq!(outside.family, tunnel.family());
        prop_assert_eq!((outside.l3, outside.end), (headers.l3, headers.end));
        prop_assert_eq!(outside.fragment, Fragment::No);
        prop_assert_eq!(
            outside.addresses(buf.data()),
            Some((outer.ip(outer.ends.0), outer.ip(outer.ends.1)))
        );
    }

    #[test]
    fn a_refused_packet_is_untouched(
        (spec, _) in specs(), outer in outers(), room in 0usize..70, len in 0usize..120,
        wild: (u16, u16, u16, u32), chained: bool,
    ) {
        let hostile = Headers { l3: wild.0, l4: wild.1, payload: wild.2, end: wild.3, ..spec.parsed() };
        let mut cut = spec.build();
        cut.truncate(len);
        for (mut buf, mut headers) in [
            (spec.buffer(room, None, chained), spec.parsed()),
            (spec.buffer(64, None, chained), hostile),
            (MemBuf::with_room(&cut, 64, 0), spec.parsed()),
            (MemBuf::with_room(&cut, 64, 0), hostile),
        ] {
            let (before, old) = (buf.to_vec(), headers);
            if outer.tunnel().apply(&mut buf, &mut headers, &outer.sending()).is_err() {
                prop_assert_eq!(buf.to_vec(), before);
                prop_assert_eq!(headers, old);
            }
        }
    }

    #[test]
    fn all_fragments_of_two_hosts_take_one_way((spec, _) in specs(), outer in outers(), ports: (u16, u16)) {
        let label = |ports: Option<(u16, u16)>, fragment| {
            let mut spec = spec.clone();
            if let Some((sport, dport)) = ports {
                spec.src.set_port(sport);
                spec.dst.set_port(dport);
            }
            let mut headers = Headers { fragment, ..spec.parsed() };
            let mut buf = spec.buffer(64, None, false);
            outer.tunnel().apply(&mut buf, &mut headers, &outer.sending()).unwrap();
            let at = spec.l3() + if outer.v6 { 1 } else { 20 };
            buf.data()[at..at + 3 - usize::from(!outer.v6)].to_vec()
        };
        if matches!(outer.how, Encapsulation::Gue { .. }) || outer.v6 {
            prop_assert_eq!(label(None, Fragment::First), label(Some(ports), Fragment::First));
            prop_assert_eq!(label(Some(ports), Fragment::No), label(Some(ports), Fragment::No));
        }
    }
}

fn v4() -> Spec {
    Spec {
        src: "10.0.0.1:40000".parse().unwrap(),
        dst: "10.0.0.2:80".parse().unwrap(),
        proto: L4Proto::Tcp,
        vlan: false,
        ip_extra: false,
        ttl: 64,
        seq: 1,
        ack: 2,
        flags: support::ACK,
        options: vec![],
        payload: vec![1, 2, 3],
        no_checksum: false,
        csum: L4Csum::Unknown,
        padding: 6,
    }
}

fn tunnel(how: Encapsulation) -> Tunnel {
    Tunnel::new([10, 1, 0, 1].into(), [10, 1, 0, 11].into(), how).unwrap()
}

#[test]
fn ports_differ_between_flows() {
    let mut ports = std::collections::HashSet::new();
    for port in 0..256 {
        let mut spec = v4();
        spec.src.set_port(port);
        let mut buf = spec.buffer(64, None, false);
        let how = Encapsulation::Gue { dport: 6080, checksum: false };
        tunnel(how).apply(&mut buf, &mut spec.parsed(), &Sending::default()).unwrap();
        ports.insert([buf.data()[34], buf.data()[35]]);
    }
    assert!(ports.len() > 240, "{} of 256", ports.len());
}

#[test]
fn a_train_is_refused_unless_the_port_cuts_it_behind_this_header() {
    let gre_sum = Encapsulation::Gre { checksum: true };
    let gue_sum = Encapsulation::Gue { dport: 6080, checksum: true };
    let caps = |in_tunnel, tcp_v4| GsoCaps { tcp_v4, in_tunnel, ..GsoCaps::default() };
    for (how, gso, taken) in [
        (Encapsulation::IpIp, caps(true, true), true),
        (Encapsulation::Gre { checksum: false }, caps(true, true), true),
        (Encapsulation::IpIp, caps(false, true), false),
        (Encapsulation::IpIp, caps(true, false), false),
        (gre_sum, caps(true, true), false),
        (gue_sum, caps(true, true), false),
    ] {
        let spec = Spec { payload: vec![7; 3000], csum: L4Csum::Partial, padding: 0, ..v4() };
        let mut buf = spec.buffer(64, Some(1000), false);
        let (before, mut headers) = (buf.to_vec(), spec.parsed());
        let result = tunnel(how).apply(&mut buf, &mut headers, &Sending { gso, ip_id: 1 });
        if !taken {
            assert_eq!((result, buf.to_vec()), (Err(RewriteError::NoGso), before));
            continue;
        }
        result.unwrap();
        assert_eq!(buf.gso(), Some(Gso { kind: GsoKind::TcpV4, size: 1000 }));
        assert_eq!(buf.meta().gso_headers, headers.payload);
    }
}

#[test]
fn a_packet_in_pieces_is_wrapped_unless_it_has_to_be_summed() {
    let spec = Spec { padding: 0, payload: vec![1; 100], ..v4() };
    let mut buf = spec.buffer(64, None, true);
    tunnel(Encapsulation::IpIp).apply(&mut buf, &mut spec.parsed(), &Sending::default()).unwrap();
    assert_eq!(buf.to_vec().len(), spec.end() + 20);
    let mut buf = spec.buffer(64, None, true);
    let how = Encapsulation::Gre { checksum: true };
    let result = tunnel(how).apply(&mut buf, &mut spec.parsed(), &Sending::default());
    assert_eq!(result, Err(RewriteError::NotWhole));
}

#[test]
fn a_packet_that_would_be_too_long_is_refused() {
    let spec = Spec { payload: vec![0; 65535 - 40 - 19], padding: 0, ..v4() };
    let mut buf = spec.buffer(64, None, false);
    let result =
        tunnel(Encapsulation::IpIp).apply(&mut buf, &mut spec.parsed(), &Sending::default());
    assert_eq!(result, Err(RewriteError::TooLong));
}

#[test]
fn the_last_hop_enters_no_tunnel() {
    for ttl in [0, 1] {
        let spec = Spec { ttl, ..v4() };
        let mut buf = spec.buffer(64, None, false);
        let tunnel = tunnel(Encapsulation::IpIp).decrement_ttl(true);
        let result = tunnel.apply(&mut buf, &mut spec.parsed(), &Sending::default());
        assert_eq!((result, buf.to_vec()), (Err(RewriteError::TtlExpired), spec.build()));
    }
}

/// RFC 6040 section 4.1, normal mode: congestion marks are copied outward, and so is the class (RFC 2983).
#[test]
fn all_congestion_marks_and_classes_are_copied_outward_and_stay_inside() {
    for tos in 0..=255u8 {
        for (how, end) in [
            (Encapsulation::IpIp, "fd01::11"),
            (Encapsulation::Gre { checksum: false }, "10.1.0.11"),
            (Encapsulation::Gue { dport: 6080, checksum: true }, "fd01::11"),
        ] {
            let end: IpAddr = end.parse().unwrap();
            let start: IpAddr =
                if end.is_ipv4() { [10, 1, 0, 1].into() } else { "fd01::1".parse().unwrap() };
            let tunnel = Tunnel::new(start, end, how).unwrap();
            let (spec, growth) = (v4(), usize::from(tunnel.growth()));
            let mut buf = spec.buffer(64, None, false);
            buf.data_mut()[15] = tos;
            tunnel.apply(&mut buf, &mut spec.parsed(), &Sending::default()).unwrap();
            let outer = match (end, &buf.data()[14..16]) {
                (IpAddr::V4(_), [_, outer]) => *outer,
                (IpAddr::V6(_), [high, low]) => high << 4 | low >> 4,
                _ => panic!(),
            };
            assert_eq!((outer, buf.data()[15 + growth]), (tos, tos), "{how:?}");
        }
    }
}

#[test]
fn ends_of_two_families_make_no_tunnel() {
    let v6 = IpAddr::V6(1.into());
    assert_eq!(Tunnel::new([1, 2, 3, 4].into(), v6, Encapsulation::IpIp), None);
}

#[test]
fn a_segment_of_the_largest_size_fits_the_tunnel() {
    for how in [Encapsulation::IpIp, Encapsulation::Gue { dport: 1, checksum: true }] {
        let tunnel = tunnel(how);
        let spec =
            Spec { payload: vec![0; tunnel.mss(1500, Family::V4).into()], padding: 0, ..v4() };
        let mut buf = spec.buffer(64, None, false);
        tunnel.apply(&mut buf, &mut spec.parsed(), &Sending::default()).unwrap();
        assert_eq!(buf.data().len(), 14 + 1500);
    }
}

proptest! {
    /// Direct routing touches the time to live and nothing else.
    #[test]
    fn a_packet_for_a_server_on_the_link_only_loses_a_hop((spec, _) in specs(), hop: bool) {
        let mut buf = spec.buffer(0, None, false);
        let mut headers = spec.parsed();
        let rewrite = AnyRewrite::Direct(Direct::new(hop));
        prop_assert_eq!(rewrite.growth(), 0);
        rewrite.apply_to(&mut buf, &mut headers, &Sending::default()).unwrap();
        let mut want = spec.clone();
        want.ttl -= u8::from(hop);
        prop_assert_eq!(buf.to_vec(), want.build());
    }
}
