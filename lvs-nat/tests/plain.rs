//! The edit of ordinary segments is that of `Rewrite`, byte for byte, whatever the fields hold.

mod support;

use lvs_core::flow::L4Proto;
use lvs_core::io::L4Csum;
use lvs_core::key::{Key, KeyV4, KeyV6};
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::{Deltas, End, PlainEdit, Rewrite, RewriteV4, RewriteV6, SeqShift};
use proptest::prelude::*;
use support::{ACK, Spec};

/// Numbers with the two zeros and the wrap in reach.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]
}

fn word() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(u16::MAX), any::<u16>()]
}

fn frame(v6: bool, stamps: bool, (seq, ack): (u32, u32), sum: u16, ttl: u8) -> Vec<u8> {
    let (src, dst) =
        if v6 { ("[2001:db8::1]:5", "[2001:db8::2]:80") } else { ("10.0.0.1:5", "10.0.0.2:80") };
    let options = if stamps { vec![1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8] } else { vec![] };
    let spec = Spec {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        proto: L4Proto::Tcp,
        vlan: false,
        ip_extra: false,
        ttl,
        seq,
        ack,
        flags: ACK,
        options,
        payload: b"hello".to_vec(),
        no_checksum: false,
        csum: L4Csum::Unknown,
        padding: 0,
    };
    let mut frame = spec.build();
    let at = if v6 { 70 } else { 50 };
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_ordinary_segment_becomes_what_a_rewrite_makes_of_it(
        v6: bool, stamps: bool, partial: bool,
        numbers in (number(), number()), sum in word(), ttl in 2u8..,
        ends: (u128, u128, u16, u16),
        deltas in (word(), word()), shift in (number(), number()),
    ) {
        let mut slow = frame(v6, stamps, numbers, sum, ttl);
        let mut fast = slow.clone();
        let Ok(Parsed::Ip(headers)) = Headers::parse(&slow, slow.len()) else { panic!() };
        let csum = if partial { L4Csum::Partial } else { L4Csum::Unknown };
        let (src, dst, sport, dport) = ends;
        let (l4_delta, ip_delta) = deltas;
        let (seq_add, ack_add) = shift;
        let deltas = Deltas { l4: l4_delta, ip: ip_delta };
        let shift = SeqShift { seq_add, ack_add };
        let edit = PlainEdit { l4_delta, ip_delta, seq_add, ack_add, partial };
        let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
        if v6 {
            let rewrite: RewriteV6 = Rewrite::new(End::new(src, sport), End::new(dst, dport), deltas, shift);
            rewrite.decrement_ttl(true).apply(&mut slow, &headers, csum).unwrap();
            let key = [&src.to_be_bytes()[..], &dst.to_be_bytes(), &ports].concat();
            let key: KeyV6 = Key(key.try_into().unwrap());
            edit.apply_v6(fast.first_chunk_mut().unwrap(), &key);
        } else {
            let (src, dst) = (src as u32, dst as u32);
            let rewrite: RewriteV4 = Rewrite::new(End::new(src, sport), End::new(dst, dport), deltas, shift);
            rewrite.decrement_ttl(true).apply(&mut slow, &headers, csum).unwrap();
            let key = [&src.to_be_bytes()[..], &dst.to_be_bytes(), &ports].concat();
            let key: KeyV4 = Key(key.try_into().unwrap());
            edit.apply_v4(fast.first_chunk_mut().unwrap(), &key);
        }
        prop_assert_eq!(fast, slow);
    }
}
