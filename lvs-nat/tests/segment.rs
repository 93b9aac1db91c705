//! A segment of a train is, byte for byte, the packet that would have been built with its part.

mod support;

use lvs_core::flow::L4Proto;
use lvs_core::io::{Gso, GsoKind, L4Csum};
use lvs_core::wire::{Fragment, Headers, Transport};
use lvs_nat::segment::{SegmentError, Segments};
use proptest::prelude::*;
use support::{Spec, specs};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;
/// Of the packets that `Spec` builds.
const URGENT: u32 = 0x5678;

fn kind_of(spec: &Spec) -> GsoKind {
    match (spec.proto, spec.src.is_ipv4()) {
        (L4Proto::Tcp, true) => GsoKind::TcpV4,
        (L4Proto::Tcp, false) => GsoKind::TcpV6,
        _ => GsoKind::Udp,
    }
}

/// The slow twin: all segments of the train, whole, with complete checksums.
fn naive(spec: &Spec, size: usize) -> Vec<Vec<u8>> {
    let parts: Vec<&[u8]> =
        if spec.payload.is_empty() { vec![&[]] } else { spec.payload.chunks(size).collect() };
    let last = parts.len() - 1;
    let mut offset = 0u32;
    let mut all = vec![];
    for (i, part) in parts.iter().enumerate() {
        let mut one = spec.clone();
        (one.payload, one.padding) = (part.to_vec(), 0);
        one.seq = spec.seq.wrapping_add(offset);
        one.flags &= !if i < last { FIN | PSH } else { 0 };
        one.flags &= !if i > 0 { CWR } else { 0 };
        let passed = offset >= URGENT;
        let urgent = if spec.flags & URG == 0 { URGENT } else { URGENT.saturating_sub(offset) };
        one.flags &= !if i > 0 && passed { URG } else { 0 };
        if spec.csum == L4Csum::Partial {
            (one.csum, one.no_checksum) = (L4Csum::Unknown, false);
        }
        let mut frame = one.build();
        if spec.proto == L4Proto::Tcp {
            let at = one.l4() + 18;
            frame[at..at + 2].copy_from_slice(&(urgent as u16).to_be_bytes());
        }
        if spec.src.is_ipv4() {
            let id = 0xabcdu16.wrapping_add(i as u16);
            let ip = one.l3();
            frame[ip + 4..ip + 6].copy_from_slice(&id.to_be_bytes());
            let packet = pnet_packet::ipv4::Ipv4Packet::new(&frame[ip..one.l4()]).unwrap();
            let sum = pnet_packet::ipv4::checksum(&packet);
            frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        }
        if one.field(&frame) != 0 || spec.proto == L4Proto::Tcp {
            let sum = one.computed(&frame);
            let at = one.field_at();
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        offset += part.len() as u32;
        all.push(frame);
    }
    all
}

fn off(spec: &Spec, frame: &[u8]) -> u32 {
    (u32::from(spec.field(frame)) + 0xffff - u32::from(spec.computed(frame))) % 0xffff
}

/// Writes all segments; finishes partial ones as a device would.
fn cut(spec: &Spec, frame: &[u8], size: u16, partial: bool) -> Vec<Vec<u8>> {
    let gso = Gso { kind: kind_of(spec), size };
    let segments = Segments::new(frame, &spec.parsed(), gso, spec.csum, u16::MAX).unwrap();
    let all = (0..segments.count()).map(|i| {
        let mut out = vec![0xaa; segments.len(i).unwrap()];
        assert_eq!(segments.write(i, frame, partial, &mut vec![0; out.len() - 1]), None);
        let (len, state) = segments.write(i, frame, partial, &mut out).unwrap();
        assert_eq!(len, out.len());
        if state == L4Csum::Partial {
            lvs_core::checksum::complete_partial(&mut out[spec.l4()..], spec.proto).unwrap();
        }
        out
    });
    let all = all.collect();
    assert_eq!(segments.len(segments.count()), None);
    assert_eq!(segments.write(segments.count(), frame, partial, &mut vec![0; 70000]), None);
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// INV-3, in every checksum state, completed here or by the port.
    #[test]
    fn a_train_is_cut_as_its_fields_say(
        (mut spec, _) in specs(), more in 0usize..3000, size in 1u16..900, partial: bool,
    ) {
        spec.payload.extend((0..more).map(|i| (i * 7) as u8));
        let made = cut(&spec, &spec.build(), size, partial);
        prop_assert_eq!(made, naive(&spec, size.into()));
    }

    /// INV-3: damage that nobody has seen yet is in every segment, and by as much.
    #[test]
    fn a_wrong_checksum_is_as_wrong_in_every_segment(
        (mut spec, _) in specs(), more in 1usize..500, size in 1u16..200, field in 1u16..,
        partial: bool, state: bool,
    ) {
        spec.payload.extend((0..more).map(|i| (i * 7) as u8));
        spec.csum = if state { L4Csum::Unknown } else { L4Csum::Bad };
        spec.no_checksum = false;
        let mut frame = spec.build();
        let at = spec.field_at();
        frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
        let before = off(&spec, &frame);
        for part in cut(&spec, &frame, size, partial) {
            let mut one = spec.clone();
            one.payload = vec![0; part.len() - spec.payload_at()];
            prop_assert_eq!(off(&one, &part), before);
        }
    }

    #[test]
    fn hostile_headers_do_no_harm(
        (spec, _) in specs(), len in 0usize..150, wild: (u16, u16, u16, u32), size: u16,
        part in 0u16..4, room in 0usize..200, partial: bool,
    ) {
        let mut frame = spec.build();
        frame.truncate(len);
        let hostile = Headers { l3: wild.0, l4: wild.1, payload: wild.2, end: wild.3, ..spec.parsed() };
        let small = Headers {
            l3: wild.0 % 64, l4: wild.1 % 64, payload: wild.2 % 128, end: wild.3 % 150, ..hostile
        };
        for headers in [spec.parsed(), hostile, small] {
            let gso = Gso { kind: kind_of(&spec), size };
            let Ok(segments) = Segments::new(&frame, &headers, gso, spec.csum, 64) else { continue };
            prop_assert!(segments.count() <= 64);
            let _ = segments.write(part, &frame, partial, &mut vec![0; room]);
            let _ = segments.write(part, &frame[..len.min(frame.len()) / 2], partial, &mut [0; 200]);
        }
    }
}

#[test]
fn what_is_no_train_is_not_cut() {
    let spec = Spec {
        src: "10.0.0.1:1".parse().unwrap(),
        dst: "10.0.0.2:2".parse().unwrap(),
        proto: L4Proto::Tcp,
        vlan: false,
        ip_extra: false,
        ttl: 64,
        seq: 0,
        ack: 0,
        flags: support::ACK,
        options: vec![],
        payload: vec![1; 3000],
        no_checksum: false,
        csum: L4Csum::Good,
        padding: 0,
    };
    let (frame, headers) = (spec.build(), spec.parsed());
    let ask = |frame: &[u8], headers: Headers, kind, size, most| {
        Segments::new(frame, &headers, Gso { kind, size }, L4Csum::Good, most).map(|s| s.count())
    };
    use GsoKind::{TcpV4, TcpV6, Udp};
    assert_eq!(ask(&frame, headers, TcpV4, 1000, 3), Ok(3));
    assert_eq!(ask(&frame, headers, TcpV4, 999, 3), Err(SegmentError::TooMany));
    assert_eq!(ask(&frame, headers, TcpV4, 0, 99), Err(SegmentError::NotATrain));
    assert_eq!(ask(&frame, headers, TcpV6, 1000, 99), Err(SegmentError::NotATrain));
    assert_eq!(ask(&frame, headers, Udp, 1000, 99), Err(SegmentError::NotATrain));
    assert_eq!(ask(&frame[..3000], headers, TcpV4, 1000, 99), Err(SegmentError::NotWhole));
    assert_eq!(ask(&frame, headers, TcpV4, 65500, 99), Err(SegmentError::TooLong));
    let first = Headers { fragment: Fragment::First, ..headers };
    assert_eq!(ask(&frame, first, TcpV4, 1000, 99), Err(SegmentError::NotATrain));
    let icmp = Headers { transport: Transport::Icmp { kind: 8, code: 0 }, ..headers };
    assert_eq!(ask(&frame, icmp, TcpV4, 1000, 99), Err(SegmentError::NotATrain));
}

#[test]
fn the_urgent_byte_is_announced_until_it_has_passed() {
    let spec = Spec {
        src: "10.0.0.1:1".parse().unwrap(),
        dst: "10.0.0.2:2".parse().unwrap(),
        proto: L4Proto::Tcp,
        vlan: true,
        ip_extra: true,
        ttl: 64,
        seq: u32::MAX - 5,
        ack: 0,
        flags: support::ACK | URG | FIN | CWR,
        options: vec![],
        payload: vec![1; 40_000],
        no_checksum: false,
        csum: L4Csum::Partial,
        padding: 0,
    };
    let made = cut(&spec, &spec.build(), 9000, false);
    assert_eq!(made, naive(&spec, 9000));
    let flags: Vec<u8> = made.iter().map(|frame| frame[spec.l4() + 13] & URG).collect();
    assert_eq!(flags, [URG, URG, URG, 0, 0]);
}
