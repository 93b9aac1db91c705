//! The in-memory lane keeps the contract of `Lane`, and is as strict as a device.

use super::*;
use crate::io::{BURST, Gso, GsoKind, NoRoom, Vlan};
use std::vec;

const A: PortId = PortId(0);
const B: PortId = PortId(1);

fn lane(port: MemPort) -> MemLane {
    MemLane::new([port.clone(), port])
}

fn frame(mark: u8) -> MemBuf {
    MemBuf::from_bytes(&[mark; 60])
}

fn burst_of(packets: impl IntoIterator<Item = MemBuf>) -> Burst<MemBuf> {
    let mut burst = Burst::new();
    for packet in packets {
        burst.push(packet).unwrap();
    }
    burst
}

fn marks(burst: &Burst<MemBuf>) -> Vec<u8> {
    burst.iter().map(|p| p.data()[0]).collect()
}

#[test]
fn a_packet_grows_and_shrinks_at_both_ends_and_refuses_what_does_not_fit() {
    let mut packet = MemBuf::with_room(&[1, 2, 3], 4, 2);
    assert_eq!(packet.push_front(5), Err(NoRoom));
    assert_eq!(packet.push_back(3), Err(NoRoom));
    assert_eq!(packet.pull_front(4), Err(NoRoom));
    assert_eq!(packet.data(), [1, 2, 3]);
    assert_eq!(packet.push_front(4).unwrap(), [JUNK, JUNK, JUNK, JUNK, 1, 2, 3]);
    assert_eq!(packet.push_back(2).unwrap().len(), 9);
    assert_eq!((packet.headroom(), packet.tailroom()), (0, 0));
    packet.pull_front(5).unwrap();
    packet.truncate(2);
    packet.truncate(100);
    assert_eq!((packet.data(), packet.headroom(), packet.tailroom()), (&[2, 3][..], 5, 2));
    // What comes back by growing is junk again, not the old bytes.
    assert_eq!(packet.push_front(1).unwrap(), [JUNK, 2, 3]);
}

#[test]
fn a_tail_counts_but_does_not_show() {
    let mut packet = MemBuf::from_bytes(&[1; 20]).with_tail(&[2; 10]);
    assert_eq!((packet.data().len(), packet.total_len(), packet.tailroom()), (20, 30, 0));
    assert_eq!(packet.push_back(1), Err(NoRoom));
    packet.truncate(25);
    assert_eq!(packet.to_vec(), [[1; 20].as_slice(), &[2; 5]].concat());
    packet.truncate(7);
    assert_eq!(packet.to_vec(), [1; 7]);
}

#[test]
fn frames_are_received_in_order_and_up_to_the_room_of_the_burst() {
    let mut lane = lane(MemPort::default());
    for mark in 0..100 {
        lane.inject(A, frame(mark)).unwrap();
    }
    let mut burst = Burst::new();
    assert_eq!(lane.rx_burst(A, &mut burst), Ok(BURST));
    assert_eq!(lane.rx_burst(A, &mut burst), Ok(0));
    assert_eq!(marks(&burst), (0..64).collect::<Vec<u8>>());
    burst.clear();
    assert_eq!(lane.rx_burst(A, &mut burst), Ok(36));
    assert_eq!(lane.stats(A).rx, 100);
}

#[test]
fn a_full_transmit_queue_takes_a_prefix_and_leaves_the_rest_in_order() {
    let mut lane = lane(MemPort { tx_queue: 3, ..MemPort::default() });
    let mut burst = burst_of((0..5).map(frame));
    assert_eq!(lane.tx_burst(B, &mut burst), Ok(3));
    assert_eq!(marks(&burst), [3, 4]);
    assert_eq!(lane.tx_burst(B, &mut burst), Ok(0));
    for mark in 0..3 {
        assert_eq!(lane.take_sent(B).unwrap().data()[0], mark);
    }
    assert!(lane.take_sent(B).is_none());
    assert_eq!(lane.tx_burst(B, &mut burst), Ok(2));
    assert_eq!((lane.sent(B), lane.stats(B).tx), (2, 5));
}

#[test]
fn with_a_doorbell_nothing_is_sent_before_poll_tx() {
    let mut lane = lane(MemPort { doorbell: true, ..MemPort::default() });
    assert_eq!(lane.tx_burst(A, &mut burst_of([frame(1)])), Ok(1));
    assert!(lane.take_sent(A).is_none());
    lane.poll_tx(A);
    assert!(lane.take_sent(A).is_some());
}

#[test]
fn receive_stalls_while_too_many_packets_are_held_and_goes_on_when_they_leave() {
    let mut port = MemPort::default();
    port.caps.max_held = 2;
    let mut lane = lane(port);
    for mark in 0..4 {
        lane.inject(A, frame(mark)).unwrap();
    }
    let mut burst = Burst::new();
    assert_eq!(lane.rx_burst(A, &mut burst), Ok(2));
    assert_eq!((lane.rx_burst(A, &mut burst), lane.held(A)), (Ok(0), 2));
    drop(burst.pop());
    assert_eq!((lane.rx_burst(A, &mut burst), lane.held(A)), (Ok(1), 2));
    // A sent packet is the wire's, even while it waits there.
    assert_eq!(lane.tx_burst(B, &mut burst), Ok(2));
    assert_eq!(lane.held(A), 0);
}

#[test]
fn what_the_port_cannot_express_is_rejected_and_counted_and_never_blocks_the_queue() {
    let gso = Gso { kind: GsoKind::TcpV4, size: 1000 };
    let train = |headers| MemMeta { gso: Some(gso), gso_headers: headers, ..MemMeta::default() };
    let partial = MemMeta { l4_csum: L4Csum::Partial, l3: 14, l4: 34, ..MemMeta::default() };
    let misplaced = MemMeta { l4: 59, ..partial };
    let tagged = MemMeta { vlan: Some(Vlan { tpid: 0x8100, tci: 5 }), ..MemMeta::default() };
    let full = lane(MemPort::default());
    let plain = lane(MemPort::plain(MacAddr::ZERO));
    let cases = [
        // (packet, taken by a full port, taken by a plain port)
        (frame(1), true, true),
        (MemBuf::from_bytes(&[0; 1514]), true, true),
        (MemBuf::from_bytes(&[0; 1515]), false, false),
        (MemBuf::from_bytes(&[0; 1000]).with_tail(&[0; 515]), false, false),
        (MemBuf::from_bytes(&[0; 13]), false, false),
        (MemBuf::from_bytes(&[0; 5000]).with_meta(train(54)), true, false),
        (MemBuf::from_bytes(&[0; 5000]).with_meta(train(515)), false, false),
        (frame(1).with_meta(partial), true, false),
        (frame(1).with_meta(misplaced), false, false),
        (frame(1).with_meta(tagged), true, false),
    ];
    for (mut lane, column) in [(full, 1), (plain, 2)] {
        let mut rejected = 0;
        for (packet, by_full, by_plain) in &cases {
            let taken = if column == 1 { *by_full } else { *by_plain };
            rejected += u64::from(!taken);
            assert_eq!(lane.tx_burst(A, &mut burst_of([packet.clone()])), Ok(1));
            assert_eq!(lane.take_sent(A).is_some(), taken, "port {column}: {:?}", packet.meta());
            assert_eq!(lane.stats(A).tx_rejected, rejected);
        }
    }
}

#[test]
fn the_pool_runs_dry_and_fills_again_however_packets_are_given_back() {
    let mut lane = MemLane::with_pool([MemPort::default()], 2);
    let first = lane.alloc(60).unwrap();
    let second = lane.alloc(60).unwrap();
    assert_eq!((first.data(), first.headroom()), (&[JUNK; 60][..], 128));
    assert!(lane.alloc(60).is_none());
    drop(first);
    assert_eq!(lane.allocated(), 1);
    let mut third = lane.alloc(1).unwrap();
    third.set_vlan(Some(Vlan { tpid: 0x8100, tci: 1 }));
    lane.free_burst(&mut burst_of([second, third]));
    assert_eq!(lane.allocated(), 0);
    // Recycled storage tells nothing of its former life.
    let again = lane.alloc(5000).unwrap();
    assert_eq!((again.data().len(), again.meta()), (5000, &MemMeta::default()));
    let again = lane.alloc(10).unwrap();
    assert_eq!((again.data(), again.meta()), (&[JUNK; 10][..], &MemMeta::default()));
    assert!(lane.alloc(usize::MAX).is_none());
}

#[test]
fn arriving_frames_get_the_promised_headroom_and_a_full_device_drops_and_counts() {
    let mut lane = lane(MemPort { rx_queue: 1, rx_buffer: 100, ..MemPort::default() });
    let tight = MemBuf::with_room(&[9; 60], 0, 7).with_tail(&[8; 3]);
    lane.inject(A, tight).unwrap();
    assert!(lane.inject(A, frame(1)).is_err());
    assert!(lane.inject(B, MemBuf::from_bytes(&[0; 101])).is_err());
    assert_eq!((lane.stats(A).rx_missed, lane.stats(B).rx_truncated), (1, 1));
    let mut burst = Burst::new();
    lane.rx_burst(A, &mut burst).unwrap();
    assert_eq!(burst[0].headroom(), 128);
    assert_eq!(burst[0].to_vec(), [[9; 60].as_slice(), &[8; 3]].concat());
}

#[test]
fn a_port_that_is_down_or_missing_answers_with_an_error_and_keeps_the_packets() {
    let mut lane = lane(MemPort::default());
    lane.inject(A, frame(1)).unwrap();
    lane.set_link(A, false);
    let mut burst = burst_of([frame(2)]);
    assert!(lane.inject(A, frame(3)).is_err());
    assert_eq!(lane.rx_burst(A, &mut burst), Err(IoError::LinkDown));
    assert_eq!(lane.tx_burst(A, &mut burst), Err(IoError::LinkDown));
    assert!(!lane.port_info(A).link_up);
    lane.set_error(A, Some(IoError::Device(5)));
    assert_eq!(lane.tx_burst(A, &mut burst), Err(IoError::Device(5)));
    lane.set_link(A, true);
    assert_eq!((lane.rx_burst(A, &mut burst), marks(&burst)), (Ok(1), vec![2, 1]));

    let nowhere = PortId(9);
    assert_eq!(lane.tx_burst(nowhere, &mut burst), Err(IoError::NoPort));
    assert_eq!(lane.rx_burst(nowhere, &mut burst), Err(IoError::NoPort));
    assert!(lane.inject(nowhere, frame(1)).is_err());
    assert_eq!((burst.len(), lane.caps(nowhere).max_frame), (2, 0));
}

#[test]
fn lanes_and_packets_may_move_to_another_thread() {
    fn check<T: Send>() {}
    check::<MemBuf>();
    check::<MemLane>();
}
