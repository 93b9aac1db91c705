//! Middleware keeps the contract of the lane inside and does exactly what it says.

use super::*;
use crate::io::mem::{MemBuf, MemLane, MemMeta, MemPort};
use crate::io::{BURST, Burst, IoError, L4Csum, Lane, PacketBuf, PortId};
use std::vec;
use std::vec::Vec;

const A: PortId = PortId(0);
const ALL: u32 = 1_000_000;

fn frame(mark: u16) -> MemBuf {
    let mut bytes = [0x55; 60];
    bytes[..2].copy_from_slice(&mark.to_be_bytes());
    MemBuf::from_bytes(&bytes)
}

fn mark(packet: &MemBuf) -> u16 {
    u16::from_be_bytes([packet.data()[0], packet.data()[1]])
}

/// Receives everything, with empty polls until no held packet can be left.
fn receive(plan: FaultPlan, seed: u64, count: u16) -> (Vec<MemBuf>, FaultCounters) {
    let mut lane = Faults::new(MemLane::new([MemPort::default()]), plan, seed);
    for mark in 0..count {
        lane.inner_mut().inject(A, frame(mark)).unwrap();
    }
    let mut all = Vec::new();
    for _ in 0..200 {
        let mut burst = Burst::new();
        let received = lane.rx_burst(A, &mut burst).unwrap();
        assert_eq!(received, burst.len());
        burst.drain_with(|packet| all.push(packet));
    }
    let (rx, _) = lane.counters(A).unwrap();
    (all, rx)
}

fn sorted(packets: &[MemBuf]) -> Vec<u16> {
    let mut marks: Vec<u16> = packets.iter().map(mark).collect();
    marks.sort_unstable();
    marks
}

#[test]
fn a_good_wire_changes_nothing() {
    let (packets, seen) = receive(FaultPlan::NONE, 1, 300);
    assert_eq!(packets.iter().map(mark).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
    assert_eq!(seen, FaultCounters { packets: 300, ..FaultCounters::default() });
}

#[test]
fn each_fault_happens_about_as_often_as_planned_and_is_counted() {
    let (packets, seen) = receive(FaultPlan { drop: 100_000, ..FaultPlan::NONE }, 2, 1000);
    assert_eq!(packets.len() as u64, 1000 - seen.dropped);
    assert!((60..140).contains(&seen.dropped), "{seen:?}");

    let (packets, seen) = receive(FaultPlan { duplicate: 100_000, ..FaultPlan::NONE }, 3, 1000);
    assert_eq!(packets.len() as u64, 1000 + seen.duplicated);
    assert!((60..140).contains(&seen.duplicated), "{seen:?}");

    let (packets, seen) = receive(FaultPlan { corrupt: 100_000, ..FaultPlan::NONE }, 4, 1000);
    let clean = |p: &&MemBuf| p.data()[2..].iter().all(|byte| *byte == 0x55);
    assert_eq!(packets.iter().filter(clean).count() as u64, 1000 - seen.corrupted);
    assert!((60..140).contains(&seen.corrupted), "{seen:?}");
}

#[test]
fn reordering_and_delay_lose_nothing_and_move_packets_back_within_bounds() {
    let reorder = FaultPlan { reorder: 200_000, ..FaultPlan::NONE };
    let delay = FaultPlan { delay: 200_000, delay_max: 40, ..FaultPlan::NONE };
    for (plan, most) in [(reorder, 3), (delay, 40)] {
        let (packets, seen) = receive(plan, 5, 1000);
        assert_eq!(sorted(&packets), (0..1000).collect::<Vec<_>>());
        assert!((120..280).contains(&seen.delayed), "{seen:?}");
        let marks: Vec<u16> = packets.iter().map(mark).collect();
        assert!(!marks.is_sorted());
        let overtaken =
            |at: usize| marks[..at].iter().filter(|before| **before > marks[at]).count();
        assert!((0..marks.len()).all(|at| overtaken(at) <= most), "most {most}");
    }
}

#[test]
fn equal_seeds_give_equal_faults_and_other_seeds_others() {
    let plan = FaultPlan {
        drop: 50_000,
        duplicate: 50_000,
        reorder: 50_000,
        corrupt: 50_000,
        delay: 50_000,
        delay_max: 10,
    };
    let bytes = |seed| receive(plan, seed, 300).0.iter().map(MemBuf::to_vec).collect::<Vec<_>>();
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[test]
fn damage_ends_the_devices_word_and_spares_what_nobody_could_check() {
    let plan = FaultPlan { corrupt: ALL, ..FaultPlan::NONE };
    let mut lane = Faults::new(MemLane::new([MemPort::default()]), plan, 1);
    let good = MemMeta { l4_csum: L4Csum::Good, ..MemMeta::default() };
    let partial = MemMeta { l4_csum: L4Csum::Partial, l3: 14, l4: 34, ..MemMeta::default() };
    lane.inner_mut().inject(A, frame(1).with_meta(good)).unwrap();
    lane.inner_mut().inject(A, frame(1).with_meta(partial)).unwrap();
    let mut burst = Burst::new();
    lane.rx_burst(A, &mut burst).unwrap();
    assert_eq!(burst[0].l4_csum(), L4Csum::Unknown);
    assert_ne!(burst[0].data(), frame(1).data());
    assert_eq!((burst[1].meta(), burst[1].data()), (&partial, frame(1).data()));
}

#[test]
fn sent_packets_wait_inside_when_the_device_is_full_and_none_is_lost_or_doubled() {
    let plan = FaultPlan { delay: 300_000, delay_max: 5, ..FaultPlan::NONE };
    let port = MemPort { tx_queue: 7, ..MemPort::default() };
    let mut lane = Faults::new(MemLane::new([port]), plan, 9);
    let mut sent = Vec::new();
    let mut next = 0;
    for _ in 0..200 {
        let mut burst = Burst::new();
        while next < 300 && burst.push(frame(next)).is_ok() {
            next += 1;
        }
        let before = burst.len();
        let taken = lane.tx_burst(A, &mut burst).unwrap();
        assert_eq!(taken + burst.len(), before);
        // What stayed is offered again.
        next -= u16::try_from(burst.len()).unwrap();
        lane.poll_tx(A);
        while let Some(packet) = lane.inner_mut().take_sent(A) {
            sent.push(packet);
        }
    }
    assert_eq!(sorted(&sent), (0..300).collect::<Vec<_>>());
}

#[test]
fn a_wire_without_a_port_answers_as_the_lane_inside() {
    let mut lane = Faults::new(MemLane::new([MemPort::default()]), FaultPlan::NONE, 1);
    let nowhere = PortId(3);
    let mut burst = Burst::new();
    burst.push(frame(1)).unwrap();
    assert_eq!(lane.tx_burst(nowhere, &mut burst), Err(IoError::NoPort));
    assert_eq!(lane.rx_burst(nowhere, &mut burst), Err(IoError::NoPort));
    lane.inner_mut().set_link(A, false);
    assert_eq!(lane.rx_burst(A, &mut burst), Err(IoError::LinkDown));
    assert_eq!(burst.len(), 1);
}

#[test]
fn counting_tells_received_taken_and_left_packets_apart() {
    let mut lane =
        Counting::new(MemLane::with_pool([MemPort { tx_queue: 3, ..MemPort::default() }], 1));
    for mark in 0..5 {
        lane.inner_mut().inject(A, frame(mark)).unwrap();
    }
    let mut burst = Burst::new();
    lane.rx_burst(A, &mut burst).unwrap();
    lane.rx_burst(A, &mut burst).unwrap();
    lane.tx_burst(A, &mut burst).unwrap();
    lane.tx_burst(A, &mut Burst::new()).unwrap();
    lane.inner_mut().set_link(A, false);
    lane.rx_burst(A, &mut burst).unwrap_err();
    lane.tx_burst(A, &mut burst).unwrap_err();
    let expected = LaneCounters {
        rx_packets: 5,
        rx_bytes: 300,
        rx_bursts: 1,
        rx_empty: 1,
        rx_errors: 1,
        tx_packets: 3,
        tx_bytes: 180,
        tx_bursts: 2,
        tx_left: 4,
        tx_errors: 1,
    };
    assert_eq!(lane.counters(A), Some(expected));
    let first = lane.alloc(1);
    assert!(first.is_some() && lane.alloc(1).is_none());
    assert_eq!(lane.allocations(), (1, 1));
    assert_eq!(lane.counters(PortId(1)), None);
}

#[test]
fn a_tap_shows_each_packet_once_even_when_the_device_is_full() {
    let mut shown: Vec<(TapDirection, Vec<u8>, usize)> = Vec::new();
    let inner = MemLane::new([MemPort { tx_queue: 2, ..MemPort::default() }]);
    let mut lane = Tap::new(inner, |packet: &Tapped<'_>| {
        assert_eq!(packet.port, A);
        shown.push((packet.direction, packet.data.to_vec(), packet.total_len));
    })
    .snap(2);
    lane.inner_mut().inject(A, frame(9).with_tail(&[0; 40])).unwrap();
    let mut burst = Burst::new();
    lane.rx_burst(A, &mut burst).unwrap();
    burst.clear();
    for mark in 0..3 {
        burst.push(frame(mark)).unwrap();
    }
    assert_eq!(lane.tx_burst(A, &mut burst), Ok(2));
    lane.inner_mut().take_sent(A).unwrap();
    assert_eq!(lane.tx_burst(A, &mut burst), Ok(1));
    drop(lane);
    let expected = vec![
        (TapDirection::Rx, vec![0, 9], 100),
        (TapDirection::Tx, vec![0, 0], 60),
        (TapDirection::Tx, vec![0, 1], 60),
        (TapDirection::Tx, vec![0, 2], 60),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn the_generator_keeps_its_sequence_and_its_limits() {
    // First outputs for seed 1234567, as published with the algorithm's reference code.
    let mut rng = Rng::new(1_234_567);
    assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
    assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    assert_eq!(rng.below(0), 0);
    assert!((0..1000).all(|_| rng.below(3) < 3));
    assert!((0..1000).all(|_| rng.chance(ALL) && !rng.chance(0)));
    let mut bytes = [0; 13];
    rng.fill(&mut bytes);
    assert!(bytes.iter().any(|byte| *byte != 0));
}

#[test]
fn a_burst_through_every_middleware_at_once_is_still_a_burst() {
    let mut count = 0;
    {
        let inner = MemLane::new([MemPort::default()]);
        let faults = Faults::new(inner, FaultPlan { duplicate: ALL, ..FaultPlan::NONE }, 1);
        let mut lane = Counting::new(Tap::new(faults, |_: &Tapped<'_>| count += 1));
        for mark in 0..BURST {
            let packet = frame(u16::try_from(mark).unwrap());
            lane.inner_mut().inner_mut().inner_mut().inject(A, packet).unwrap();
        }
        let mut burst = Burst::new();
        assert_eq!(lane.rx_burst(A, &mut burst), Ok(BURST));
        burst.clear();
        assert_eq!(lane.rx_burst(A, &mut burst), Ok(BURST));
        assert_eq!(lane.counters(A).unwrap().rx_packets, 2 * BURST as u64);
    }
    assert_eq!(count, 2 * BURST);
}
