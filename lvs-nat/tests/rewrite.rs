//! A rewritten packet is, byte for byte, the packet that would have been built with the new fields.

mod support;

use core::net::SocketAddr;
use lvs_core::addr::{ClientAddr, LocalAddress, RealAddr, VirtualAddr};
use lvs_core::flow::{Direction, L4Proto};
use lvs_core::io::L4Csum;
use lvs_core::wire::{Fragment, Headers, Parsed, Transport};
use lvs_nat::{AnyRewrite, Ends, Rewrite, RewriteError, SeqDeltas};
use pnet_packet::ipv4;
use proptest::prelude::*;
use support::other::{Other, others};
use support::{ACK, Spec, ends_v4, specs};

fn slow_header_sum_is_right(frame: &[u8], spec: &Spec) -> bool {
    let ip = ipv4::Ipv4Packet::new(&frame[spec.l3()..spec.l4()]).unwrap();
    ipv4::checksum(&ip) == ip.get_checksum()
}

fn tcp_v4() -> Spec {
    Spec {
        src: "10.0.0.1:40000".parse().unwrap(),
        dst: "10.0.0.2:80".parse().unwrap(),
        proto: L4Proto::Tcp,
        vlan: false,
        ip_extra: false,
        ttl: 64,
        seq: 1,
        ack: 2,
        flags: ACK,
        options: vec![],
        payload: vec![1, 2, 3],
        no_checksum: false,
        csum: L4Csum::Unknown,
        padding: 0,
    }
}

fn some_rewrite() -> Rewrite<u32> {
    let spec = tcp_v4();
    let local = "10.9.0.1:5000".parse().unwrap();
    let server = "10.9.0.8:8080".parse().unwrap();
    let ends = ends_v4(&spec.src, &spec.dst, &local, &server);
    Rewrite::inbound(&ends, ends.deltas(), SeqDeltas { seq: 5, ack: 7 })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// INV-3, in every checksum state.
    #[test]
    fn an_inbound_packet_becomes_what_the_server_side_would_have_built(
        (spec, list) in specs(), other in others(),
    ) {
        let mut frame = spec.build();
        other.rewrite(&spec, Direction::Inbound)
            .apply(&mut frame, &spec.parsed(), spec.csum).unwrap();
        let mut want = other.moved(&spec, &list, other.seq.inbound());
        (want.src, want.dst) = (other.local(&spec).unwrap_or(spec.src), other.server(&spec));
        prop_assert_eq!(frame, want.build());
    }

    /// INV-3, in every checksum state.
    #[test]
    fn a_return_packet_becomes_what_the_virtual_service_would_have_built(
        (session, list) in specs(), other in others(),
    ) {
        let rewrite = other.rewrite(&session, Direction::Return);
        let mut spec = session.clone();
        (spec.src, spec.dst) =
            (other.server(&session), other.local(&session).unwrap_or(session.src));
        let mut frame = spec.build();
        rewrite.apply(&mut frame, &spec.parsed(), spec.csum).unwrap();
        let mut want = other.moved(&spec, &list, other.seq.returning());
        (want.src, want.dst) = (session.dst, session.src);
        prop_assert_eq!(frame, want.build());
    }

    #[test]
    fn a_translation_and_its_inverse_give_the_same_bytes_back(
        (spec, _) in specs(), mut other in others(),
    ) {
        other.hop = false;
        let before = spec.build();
        let mut frame = before.clone();
        let headers = spec.parsed();
        other.rewrite(&spec, Direction::Inbound).apply(&mut frame, &headers, spec.csum).unwrap();
        // The session seen from the other side: the server's address is translated to the virtual one.
        let mut there = spec.clone();
        (there.src, there.dst) = (other.local(&spec).unwrap_or(spec.src), other.server(&spec));
        let back = Other {
            local: Some(match spec.src {
                SocketAddr::V4(a) => (u128::from(a.ip().to_bits()), a.port()),
                SocketAddr::V6(a) => (a.ip().to_bits(), a.port()),
            }),
            server: match spec.dst {
                SocketAddr::V4(a) => (u128::from(a.ip().to_bits()), a.port()),
                SocketAddr::V6(a) => (a.ip().to_bits(), a.port()),
            },
            seq: SeqDeltas {
                seq: other.seq.seq.wrapping_neg(),
                ack: other.seq.ack.wrapping_neg(),
            },
            hop: false,
        };
        back.rewrite(&there, Direction::Inbound).apply(&mut frame, &headers, spec.csum).unwrap();
        prop_assert_eq!(frame, before);
    }

    /// INV-3.
    #[test]
    fn damage_before_the_balancer_is_the_same_damage_behind_it(
        (mut spec, _) in specs(), other in others(), bit in any::<prop::sample::Index>(),
    ) {
        spec.csum = L4Csum::Unknown;
        spec.no_checksum = false;
        spec.payload.push(0);
        let mut frame = spec.build();
        let bit = bit.index(spec.payload.len() * 8);
        frame[spec.payload_at() + bit / 8] ^= 1 << (bit % 8);
        let error = |frame: &[u8], spec: &Spec| {
            // Distance of the field from the right value; both zeros are one.
            let (is, right) = (u32::from(spec.field(frame)), u32::from(spec.computed(frame)));
            (is + 0xffff - right) % 0xffff
        };
        let before = error(&frame, &spec);
        prop_assert_ne!(before, 0);
        other.rewrite(&spec, Direction::Inbound)
            .apply(&mut frame, &spec.parsed(), spec.csum).unwrap();
        let mut seen = spec.clone();
        (seen.src, seen.dst) = (other.local(&spec).unwrap_or(spec.src), other.server(&spec));
        prop_assert_eq!(error(&frame, &seen), before);
    }

    #[test]
    fn every_wrong_checksum_stays_wrong_by_the_same_amount(field: u16, other in others()) {
        let spec = tcp_v4();
        let mut frame = spec.build();
        let at = spec.field_at();
        frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
        let off = |frame: &[u8], spec: &Spec| {
            (u32::from(spec.field(frame)) + 0xffff - u32::from(spec.computed(frame))) % 0xffff
        };
        let before = off(&frame, &spec);
        other.rewrite(&spec, Direction::Inbound)
            .apply(&mut frame, &spec.parsed(), L4Csum::Bad).unwrap();
        let mut seen = spec.clone();
        (seen.src, seen.dst) = (other.local(&spec).unwrap_or(spec.src), other.server(&spec));
        prop_assert_eq!(off(&frame, &seen), before);
    }

    #[test]
    fn of_a_later_fragment_only_addresses_and_header_checksum_change(
        (spec, _) in specs(), other in others(),
    ) {
        let before = spec.build();
        let mut frame = before.clone();
        let headers = Headers {
            fragment: Fragment::Later,
            payload: spec.l4() as u16,
            transport: Transport::Other(spec.proto.number()),
            tuple: None,
            ..spec.parsed()
        };
        other.rewrite(&spec, Direction::Inbound).apply(&mut frame, &headers, spec.csum).unwrap();
        prop_assert_eq!(&frame[spec.l4()..], &before[spec.l4()..]);
        let mut want = spec.clone();
        want.ttl -= u8::from(other.hop);
        (want.src, want.dst) = (other.local(&spec).unwrap_or(spec.src), other.server(&spec));
        prop_assert_eq!(&frame[..spec.l4()], &want.build()[..spec.l4()]);
    }

    #[test]
    fn headers_of_another_frame_are_refused_without_a_change_or_applied(
        (spec, _) in specs(), other in others(), len in 0usize..120,
        offsets: (u16, u16, u16),
    ) {
        let mut frame = spec.build();
        frame.truncate(len);
        let before = frame.clone();
        let rewrite = other.rewrite(&spec, Direction::Inbound);
        let wild = Headers { l3: offsets.0, l4: offsets.1, payload: offsets.2, ..spec.parsed() };
        for headers in [spec.parsed(), wild] {
            let mut frame = before.clone();
            if rewrite.apply(&mut frame, &headers, spec.csum).is_err() {
                prop_assert_eq!(&frame, &before);
            }
        }
    }
}

#[test]
fn a_udp_datagram_without_checksum_keeps_having_none() {
    let spec = Spec { proto: L4Proto::Udp, no_checksum: true, ..tcp_v4() };
    let mut frame = spec.build();
    some_rewrite().apply(&mut frame, &spec.parsed(), L4Csum::Unknown).unwrap();
    assert_eq!(spec.field(&frame), 0);
    assert!(slow_header_sum_is_right(&frame, &spec));
}

#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_written_as_ffff() {
    // Every source port once: one of them makes the computed sum zero.
    let mut met = false;
    for port in 0..=u16::MAX {
        let spec = Spec { proto: L4Proto::Udp, ..tcp_v4() };
        let local = SocketAddr::new("10.9.0.1".parse().unwrap(), port);
        let ends = ends_v4(&spec.src, &spec.dst, &local, &spec.dst);
        let mut frame = spec.build();
        Rewrite::inbound(&ends, ends.deltas(), SeqDeltas::ZERO)
            .apply(&mut frame, &spec.parsed(), L4Csum::Unknown)
            .unwrap();
        assert_ne!(spec.field(&frame), 0, "port {port}");
        met |= spec.field(&frame) == 0xffff;
    }
    assert!(met);
}

#[test]
fn the_last_hop_is_refused_and_the_frame_stays() {
    for ttl in [0, 1] {
        let spec = Spec { ttl, ..tcp_v4() };
        let mut frame = spec.build();
        let rewrite = some_rewrite();
        let result = rewrite.decrement_ttl(true).apply(&mut frame, &spec.headers(), L4Csum::Good);
        assert_eq!(result, Err(RewriteError::TtlExpired));
        assert_eq!(frame, spec.build());
        // Without the hop it is nobody's business here.
        rewrite.apply(&mut frame, &spec.headers(), L4Csum::Good).unwrap();
    }
}

#[test]
fn the_other_family_and_other_protocols_are_refused_and_the_frame_stays() {
    let v6 = Spec {
        src: "[2001:db8::1]:1".parse().unwrap(),
        dst: "[2001:db8::2]:2".parse().unwrap(),
        ..tcp_v4()
    };
    let mut frame = v6.build();
    let result = some_rewrite().apply(&mut frame, &v6.parsed(), L4Csum::Good);
    assert_eq!((result, &frame), (Err(RewriteError::Family), &v6.build()));

    let spec = tcp_v4();
    let mut frame = spec.build();
    for transport in [Transport::Icmp { kind: 3, code: 0 }, Transport::Other(47)] {
        let headers = Headers { transport, ..spec.parsed() };
        let result = some_rewrite().apply(&mut frame, &headers, L4Csum::Good);
        assert_eq!((result, &frame), (Err(RewriteError::Unsupported), &spec.build()));
    }
}

#[test]
fn ends_of_two_families_make_no_rewrite() {
    let v4: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    let make = |c, v, l: Option<_>, s| {
        AnyRewrite::from_roles(
            Direction::Inbound,
            ClientAddr(c),
            VirtualAddr(v),
            l.map(LocalAddress),
            RealAddr(s),
            SeqDeltas::ZERO,
        )
    };
    assert!(make(v4, v4, Some(v4), v4).is_some() && make(v6, v6, None, v6).is_some());
    for (c, v, l, s) in [(v6, v4, v4, v4), (v4, v6, v4, v4), (v4, v4, v6, v4), (v4, v4, v4, v6)] {
        assert_eq!(make(c, v, Some(l), s), None);
    }
    assert_eq!(make(v6, v6, Some(v4), v6), None);
}

#[test]
fn nat_is_full_nat_with_the_client_as_local_end() {
    let spec = tcp_v4();
    let server = "10.9.0.8:8080".parse().unwrap();
    let full = ends_v4(&spec.src, &spec.dst, &spec.src, &server);
    assert_eq!(Ends::nat(full.client, full.virt, full.server), full);
    let mut frame = spec.build();
    Rewrite::inbound(&full, full.deltas(), SeqDeltas::ZERO)
        .apply(&mut frame, &spec.parsed(), L4Csum::Unknown)
        .unwrap();
    let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else { panic!() };
    assert_eq!(headers.tuple.unwrap().to_string(), "tcp 10.0.0.1:40000 -> 10.9.0.8:8080");
}
