//! MSS and timestamps of a handshake, and sequence numbers, with right checksums afterwards.

mod support;

use lvs_core::addr::{LocalAddress, RealAddr};
use lvs_core::flow::L4Proto;
use lvs_core::io::L4Csum;
use lvs_core::wire::TcpOption;
use lvs_nat::isn::{isn, isn_past};
use lvs_nat::options::{drop_timestamps, lower_mss, survey};
use lvs_nat::seq::{after, before};
use lvs_nat::toa::{KindSet, strip};
use lvs_nat::{RewriteError, SeqDeltas, SeqShift};
use proptest::prelude::*;
use support::{ACK, Opt, SYN, Spec, edgy, encode, tcp_specs};

fn segment(flags: u8, options: &[Opt]) -> Spec {
    Spec {
        src: "10.0.0.1:40000".parse().unwrap(),
        dst: "10.0.0.2:80".parse().unwrap(),
        proto: L4Proto::Tcp,
        vlan: false,
        ip_extra: false,
        ttl: 64,
        seq: 1,
        ack: 2,
        flags,
        options: encode(options, 0),
        payload: vec![],
        no_checksum: false,
        csum: L4Csum::Unknown,
        padding: 0,
    }
}

#[test]
fn the_mss_goes_down_to_the_floor_and_never_up() {
    let cases = [
        // announced, by, floor, now
        (1460, 8, 536, 1452),
        (1440, 20, 536, 1420),
        (540, 8, 536, 536),
        (536, 8, 536, 536),
        (100, 8, 536, 100),
        (3, 8, 0, 0),
        (1460, 0, 536, 1460),
        (1460, 8, 65_535, 1460),
    ];
    for (announced, by, floor, now) in cases {
        // At an even and at an odd offset.
        for pad in [vec![], vec![Opt::Nop]] {
            let spec = segment(SYN | ACK, &[&pad[..], &[Opt::Mss(announced)]].concat());
            let mut frame = spec.build();
            let result = lower_mss(&mut frame, &spec.parsed(), spec.csum, by, floor);
            assert_eq!(result, Ok(Some(now)));
            let want = segment(SYN | ACK, &[&pad[..], &[Opt::Mss(now)]].concat());
            assert_eq!(frame, want.build());
        }
    }
}

#[test]
fn a_handshake_without_mss_stays_as_it_is() {
    let spec = segment(SYN | ACK, &[Opt::SackPermitted, Opt::Raw(2, vec![1, 2, 3])]);
    let mut frame = spec.build();
    assert_eq!(lower_mss(&mut frame, &spec.parsed(), spec.csum, 8, 536), Ok(None));
    assert_eq!(frame, spec.build());
}

#[test]
fn only_timestamps_of_the_right_length_are_dropped() {
    let wrong = Opt::Raw(8, vec![9; 6]);
    let spec = segment(SYN, &[wrong.clone(), Opt::Timestamps(1, 2), Opt::Timestamps(3, 4)]);
    let mut frame = spec.build();
    assert_eq!(drop_timestamps(&mut frame, &spec.parsed(), spec.csum), Ok(2));
    let nops = vec![Opt::Nop; 20];
    assert_eq!(frame, segment(SYN, &[&[wrong], &nops[..]].concat()).build());
}

#[test]
fn what_is_not_tcp_is_refused_and_stays() {
    let spec = Spec { proto: L4Proto::Udp, payload: vec![1, 2], ..segment(ACK, &[]) };
    let mut frame = spec.build();
    let headers = spec.parsed();
    let error = RewriteError::Unsupported;
    assert_eq!(lower_mss(&mut frame, &headers, spec.csum, 8, 536), Err(error));
    assert_eq!(drop_timestamps(&mut frame, &headers, spec.csum), Err(error));
    let shift = SeqShift { seq_add: 1, ack_add: 1 };
    assert_eq!(shift.apply(&mut frame, &headers, spec.csum), Err(error));
    assert_eq!(frame, spec.build());
}

#[test]
fn sack_edges_move_across_the_wrap_at_odd_alignment() {
    let blocks = vec![(0xffff_fff0, 0x10), (0, 1)];
    for pad in 0..4 {
        let mut list = vec![Opt::Nop; pad];
        list.push(Opt::Sack(blocks.clone()));
        let spec = segment(ACK, &list);
        let mut frame = spec.build();
        SeqShift { seq_add: 0, ack_add: 0xffff_fff8 }
            .apply(&mut frame, &spec.parsed(), spec.csum)
            .unwrap();
        list.pop();
        list.push(Opt::Sack(vec![(0xffff_ffe8, 8), (0xffff_fff8, 0xffff_fff9)]));
        let want = Spec { ack: 2u32.wrapping_sub(8), ..segment(ACK, &list) };
        assert_eq!(frame, want.build(), "{pad} bytes of padding in front");
    }
}

#[test]
fn without_the_ack_flag_the_acknowledgement_number_is_no_number() {
    let spec = segment(SYN, &[Opt::Sack(vec![(1, 2)])]);
    let mut frame = spec.build();
    SeqShift { seq_add: 5, ack_add: 9 }.apply(&mut frame, &spec.parsed(), spec.csum).unwrap();
    assert_eq!(frame, Spec { seq: 6, ..spec }.build());
}

#[test]
fn the_two_directions_of_a_session_undo_each_other() {
    let deltas = SeqDeltas { seq: 0x8000_0001, ack: 77 };
    let (inbound, returning) = (deltas.inbound(), deltas.returning());
    assert_eq!(inbound.seq_add.wrapping_add(returning.ack_add), 0);
    assert_eq!(inbound.ack_add.wrapping_add(returning.seq_add), 0);
}

#[test]
fn order_holds_around_the_wrap() {
    for (a, b) in [(1, 2), (u32::MAX, 0), (0xffff_ff00, 0x100), (0, 0x7fff_ffff)] {
        assert!(before(a, b) && after(b, a) && !before(b, a) && !after(a, b), "{a} {b}");
    }
    assert!(!before(7, 7) && !after(7, 7));
}

fn tuple() -> (LocalAddress, RealAddr) {
    (LocalAddress("10.9.0.1:5000".parse().unwrap()), RealAddr("10.9.0.8:80".parse().unwrap()))
}

#[test]
fn the_isn_of_a_tuple_grows_by_one_every_64_ns() {
    let (local, real) = tuple();
    let first = isn(&[1, 2], &local, &real, 1000 * 64);
    assert_eq!(isn(&[1, 2], &local, &real, 1000 * 64 + 63), first);
    assert_eq!(isn(&[1, 2], &local, &real, 1001 * 64), first.wrapping_add(1));
    assert_eq!(isn(&[1, 2], &local, &real, (1000 + (1 << 32)) * 64), first);
}

#[test]
fn key_and_every_part_of_the_tuple_change_the_isn() {
    let parse = |l: &str, r: &str| (LocalAddress(l.parse().unwrap()), RealAddr(r.parse().unwrap()));
    let tuples = [
        parse("10.9.0.1:5000", "10.9.0.8:80"),
        parse("10.9.0.2:5000", "10.9.0.8:80"),
        parse("10.9.0.1:5001", "10.9.0.8:80"),
        parse("10.9.0.1:5000", "10.9.0.9:80"),
        parse("10.9.0.1:5000", "10.9.0.8:81"),
        parse("10.9.0.8:5000", "10.9.0.1:80"),
        parse("[fd00::1]:5000", "[fd00::8]:80"),
        parse("[fd00::2]:5000", "[fd00::8]:80"),
        parse("[fd00::1]:5000", "[fd00::9]:80"),
        parse("[fd00:1::1]:5000", "[fd00::8]:80"),
        parse("[fd00::1]:5000", "[fd00:1::8]:80"),
        parse("[fd00::1]:5000", "10.9.0.8:80"),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for key in [[1, 2], [1, 3], [2, 2]] {
        for (local, real) in &tuples {
            assert!(seen.insert(isn(&key, local, real, 0)), "{local} {real}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_isn_is_past_the_floor_and_the_plain_one_where_that_is(
        key: [u64; 2], now: u64, floor: u32,
    ) {
        let (local, real) = tuple();
        let plain = isn(&key, &local, &real, now);
        let past = isn_past(&key, &local, &real, now, floor);
        prop_assert!(after(past, floor));
        match after(plain, floor) {
            true => prop_assert_eq!(past, plain),
            false => {
                let distance = past.wrapping_sub(floor);
                prop_assert!((0x1_0000..0x2_0000).contains(&distance));
            }
        }
    }

    #[test]
    fn a_lowered_mss_is_the_only_change(
        (spec, list) in tcp_specs(), by in 0u16..100, floor in prop_oneof![Just(0u16), Just(536)],
    ) {
        let mut frame = spec.build();
        let result = lower_mss(&mut frame, &spec.parsed(), spec.csum, by, floor).unwrap();
        let pad = spec.options.last().copied().filter(|&b| b == 0).unwrap_or(1);
        let mut want = spec.clone();
        let lowered: Vec<Opt> = list.iter().map(|option| match option {
            Opt::Mss(mss) => Opt::Mss((*mss).min(mss.saturating_sub(by).max(floor))),
            other => other.clone(),
        }).collect();
        want.options = encode(&lowered, pad);
        prop_assert_eq!(frame, want.build());
        prop_assert_eq!(result.is_some(), want.options != encode(&[], 0) && has_mss(&want));
    }

    #[test]
    fn dropped_timestamps_are_ten_nops_each_and_the_only_change((spec, list) in tcp_specs()) {
        let mut frame = spec.build();
        let dropped = drop_timestamps(&mut frame, &spec.parsed(), spec.csum).unwrap();
        let mut want = spec.clone();
        let (mut at, mut count) = (0, 0);
        for option in list.iter().map(Opt::bytes) {
            if at + option.len() > 40 {
                continue;
            }
            if option[0] == 8 {
                want.options[at..at + 10].fill(1);
                count += 1;
            }
            at += option.len();
        }
        prop_assert_eq!(frame, want.build());
        prop_assert_eq!(dropped, count);
    }

    /// Beside the edits themselves: where the survey sees nothing to do, they do nothing.
    #[test]
    fn a_survey_misses_nothing_that_an_edit_would_find(
        (mut spec, _) in tcp_specs(), garbage in edgy(41), small in 0u8..3, syn: bool,
    ) {
        match small {
            0 => {}
            1 => spec.options = garbage.iter().map(|b| b % 12).collect(),
            _ => {
                let kind = |b: &u8| if b.is_multiple_of(2) { 252 + b % 4 } else { b % 9 };
                spec.options = garbage.iter().map(kind).collect();
            }
        }
        spec.options.truncate(spec.options.len() / 4 * 4);
        spec.flags = if syn { SYN } else { ACK };
        let headers = spec.headers();
        let before = spec.build();
        for kinds in [KindSet::EMPTY, KindSet::KNOWN, KindSet::KNOWN.with(77)] {
            let seen = survey(&before, &headers, kinds).unwrap();
            let mut frame = before.clone();
            let stripped = strip(&mut frame, &headers, spec.csum, kinds).unwrap();
            prop_assert!(stripped.count == 0 || seen.suspect);
            let mut frame = before.clone();
            let dropped = drop_timestamps(&mut frame, &headers, spec.csum).unwrap();
            prop_assert!(dropped == 0 || seen.timestamps);
            if let Some(tcp) = headers.tcp(&before) {
                let first = tcp.options().find_map(|at| match at.option {
                    TcpOption::Mss(mss) => Some(mss),
                    _ => None,
                });
                prop_assert_eq!(seen.mss, first.unwrap_or(0));
            }
        }
    }

    #[test]
    fn garbage_instead_of_options_is_survived_with_a_right_checksum(
        (mut spec, _) in tcp_specs(), garbage in edgy(41), small: bool, add: u32,
    ) {
        spec.options = garbage.iter().map(|b| if small { b % 12 } else { *b }).collect();
        spec.options.truncate(spec.options.len() / 4 * 4);
        spec.flags |= ACK;
        let headers = spec.headers();
        let mut frame = spec.build();
        lower_mss(&mut frame, &headers, spec.csum, 8, 536).unwrap();
        drop_timestamps(&mut frame, &headers, spec.csum).unwrap();
        SeqShift { seq_add: add, ack_add: add }.apply(&mut frame, &headers, spec.csum).unwrap();
        spec.options = frame[spec.l4() + 20..spec.payload_at()].to_vec();
        spec.seq = spec.seq.wrapping_add(add);
        spec.ack = spec.ack.wrapping_add(add);
        prop_assert_eq!(frame, spec.build());
    }

    #[test]
    fn the_other_direction_takes_a_shift_back((spec, _) in tcp_specs(), seq: u32, ack: u32) {
        let before = spec.build();
        let mut frame = before.clone();
        let shift = SeqDeltas { seq, ack }.inbound();
        let back = SeqShift {
            seq_add: shift.seq_add.wrapping_neg(),
            ack_add: shift.ack_add.wrapping_neg(),
        };
        shift.apply(&mut frame, &spec.parsed(), spec.csum).unwrap();
        back.apply(&mut frame, &spec.parsed(), spec.csum).unwrap();
        prop_assert_eq!(frame, before);
    }
}

/// Whether an MSS option is in the list, found the slow way.
fn has_mss(spec: &Spec) -> bool {
    let mut rest = &spec.options[..];
    while let [kind, ..] = rest {
        match kind {
            0 => return false,
            1 => rest = &rest[1..],
            2 if rest[1] == 4 => return true,
            _ => rest = &rest[usize::from(rest[1])..],
        }
    }
    false
}
