//! The device with several queues spreads frames as real ones do.

use lvs_core::io::mem::{MemBuf, MemLane, MemNic, MemPort, RSS_KEY, toeplitz};
use lvs_core::io::{Burst, Lane, PacketBuf, PortId, RxHashKind};
use lvs_testkit::build::{Layer4, Packet, echo, fragments, tcp, udp};
use lvs_testkit::strategies;
use proptest::prelude::*;

const PORT: PortId = PortId(0);

fn hash<P: Layer4>(packet: Packet<P>, from: &str, to: &str) -> (u32, RxHashKind) {
    let nic = MemNic::new(4, [MemPort::default()]);
    let frame = MemBuf::from_bytes(&packet.from(from).to(to).build());
    let hash = nic.steer(PORT, &frame).0.expect("an IP packet has a hash");
    (hash.value, hash.kind)
}

#[test]
fn hashes_are_those_of_the_verification_suite() {
    // Source, destination, hash over addresses and ports, hash over addresses.
    let suite = [
        ("66.9.149.187:2794", "161.142.100.80:1766", 0x51cc_c178, 0x323e_8fc2),
        ("199.92.111.2:14230", "65.69.140.83:4739", 0xc626_b0ea, 0xd718_262a),
        ("24.19.198.95:12898", "12.22.207.184:38024", 0x5c2b_394a, 0xd2d0_a5de),
        ("38.27.205.30:48228", "209.142.163.6:2217", 0xafc7_327f, 0x8298_9176),
        ("153.39.163.191:44251", "202.188.127.2:1303", 0x10e8_28a2, 0x5d18_09c5),
        ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x4020_7d3d, 0x2cc1_8cd5),
    ];
    for (from, to, with_ports, addresses) in suite {
        assert_eq!(hash(tcp(), from, to), (with_ports, RxHashKind::L4), "{from}");
        assert_eq!(hash(udp(), from, to), (with_ports, RxHashKind::L4), "{from}");
        assert_eq!(hash(echo(1, 1), from, to), (addresses, RxHashKind::L3), "{from}");
    }
}

#[test]
fn all_fragments_of_a_datagram_meet_at_one_queue() {
    let nic = MemNic::new(8, [MemPort::default()]);
    let whole = udp().dont_fragment(false).payload_len(4000).build();
    let queues: Vec<u16> = fragments(&whole, 576, 1)
        .iter()
        .map(|part| nic.steer(PORT, &MemBuf::from_bytes(part)).1)
        .collect();
    assert!(queues.len() > 5 && queues.iter().all(|queue| *queue == queues[0]));
}

#[test]
fn a_frame_arrives_at_its_queue_with_its_hash_and_its_port_tells_key_and_table() {
    let mut nic = MemNic::new(3, [MemPort::default(), MemPort::default()]);
    let mut spread = [0; 3];
    for port in 1..=300 {
        let frame = tcp().from(format!("10.0.0.2:{port}").as_str()).build_buf();
        let (hash, queue) = nic.steer(PORT, &frame);
        assert_eq!(nic.inject(PORT, frame).unwrap(), queue);
        spread[usize::from(queue)] += 1;
        let lane = nic.lane(queue).unwrap();
        let rss = lane.port_info(PORT).rss.unwrap();
        let value = hash.unwrap().value;
        assert_eq!(rss.table[value as usize % rss.table.len()], queue);
        assert_eq!(rss.key, RSS_KEY);
        let mut burst = Burst::new();
        lane.rx_burst(PORT, &mut burst).unwrap();
        assert_eq!(burst[0].rx_hash(), hash);
        lane.tx_burst(PortId(1), &mut burst).unwrap();
        assert!(nic.take_sent(PortId(1)).is_some());
    }
    assert!(spread.iter().all(|count| *count > 60), "{spread:?}");
}

#[test]
fn a_table_that_names_no_queue_and_a_port_that_does_not_exist_are_refused() {
    let odd = MemPort { rss: Some((RSS_KEY.to_vec(), vec![7])), ..MemPort::default() };
    let mut nic = MemNic::new(0, [odd]);
    assert_eq!(nic.lanes().len(), 1);
    assert!(nic.inject(PORT, tcp().build_buf()).is_err());
    assert!(nic.inject(PortId(5), tcp().build_buf()).is_err());
    assert_eq!(nic.lanes().iter().map(|lane: &MemLane| lane.waiting(PORT)).sum::<usize>(), 0);
}

proptest! {
    #[test]
    fn the_hash_is_linear(
        key in prop::collection::vec(any::<u8>(), 40),
        a in any::<[u8; 12]>(),
        b in any::<[u8; 12]>(),
    ) {
        let both: Vec<u8> = a.iter().zip(b).map(|(a, b)| a ^ b).collect();
        prop_assert_eq!(toeplitz(&key, &both), toeplitz(&key, &a) ^ toeplitz(&key, &b));
    }

    #[test]
    fn no_hostile_frame_upsets_the_device(frame in strategies::hostile()) {
        let mut nic = MemNic::new(4, [MemPort::default()]);
        let queue = nic.inject(PORT, MemBuf::from_bytes(&frame)).unwrap();
        prop_assert_eq!(nic.lane(queue).unwrap().waiting(PORT), 1);
    }
}
