//! Spreading over several workers.

use crate::frames::{P0, fresh, host_sends_and_port_sees, partial_udp, send, small};
use crate::host::{namespace_test, veth};
use lvs_core::io::{PacketBuf, Vlan};
use lvs_io_afpacket::{Cures, Fanout, FanoutMode, LocalNet, PortConfig, Rings};

const MEMBERS: usize = 4;

fn members(mode: &FanoutMode) -> Vec<Rings> {
    (0..MEMBERS)
        .map(|_| {
            let mut port = small("a1");
            port.fanout = Some(Fanout { group: 77, mode: mode.clone() });
            Rings::open(&[port]).unwrap()
        })
        .collect()
}

/// Sends the frames into a0 one by one and tells which member got each.
fn who_gets(members: &mut [Rings], frames: &[Vec<u8>], tag: Option<Vlan>) -> Vec<usize> {
    let mut sender = Rings::open(&[small("a0")]).unwrap();
    let mut sender = sender.lane();
    let mut lanes: Vec<_> = members.iter_mut().map(Rings::lane).collect();
    let mut picks = Vec::new();
    for frame in frames {
        let mut packet = fresh(&mut sender, frame);
        packet.set_vlan(tag);
        send(&mut sender, P0, vec![packet]);
        let mut found = None;
        while found.is_none() {
            found = lanes.iter_mut().position(|lane| {
                let mut burst = lvs_core::io::Burst::new();
                lvs_core::io::Lane::rx_burst(lane, P0, &mut burst).unwrap() > 0
            });
        }
        picks.extend(found);
    }
    picks
}

fn udp6(source: u16, destination: u16) -> Vec<u8> {
    let mut frame = partial_udp(source, destination, 0, &[0; 20]);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    let mut header = [0u8; 40];
    header[0] = 0x60;
    header[5] = 28;
    header[6] = 17;
    header[7] = 64;
    (header[8], header[23]) = (0xfd, 1);
    (header[24], header[39]) = (0xfd, 2);
    frame.splice(14..34, header);
    frame
}

namespace_test! {
    fn hash_keeps_both_directions_of_a_flow_together() {
        veth("a0", "a1");
        let mut members = members(&FanoutMode::Hash);
        let forward: Vec<_> = (2000..2032).map(|p| partial_udp(p, 80, 0, &[0; 20])).collect();
        let backward: Vec<_> = forward
            .iter()
            .map(|frame| {
                let mut back = frame.clone();
                (0..4).for_each(|i| back.swap(26 + i, 30 + i));
                (0..2).for_each(|i| back.swap(34 + i, 36 + i));
                back
            })
            .collect();
        let there = who_gets(&mut members, &forward, None);
        assert_eq!(there, who_gets(&mut members, &backward, None));
        let used: std::collections::BTreeSet<_> = there.iter().collect();
        assert!(used.len() > 1, "32 flows went to one member");
    }
}

namespace_test! {
    // A program with offsets from the Ethernet header (`ldh [36]`) sends everything to one member.
    fn the_program_steers_replies_by_local_port() {
        veth("a0", "a1");
        let mut members = members(&FanoutMode::LocalPort { locals: Vec::new(), virtuals: Vec::new() });
        let ports = [1000u16, 1001, 1002, 1003, 2047, 65535, 4, 6];
        let want: Vec<_> = ports.iter().map(|port| usize::from(*port) % MEMBERS).collect();
        for options in [0, 4, 40] {
            let frames: Vec<_> = ports.iter().map(|p| partial_udp(53, *p, options, &[0; 20])).collect();
            assert_eq!(who_gets(&mut members, &frames, None), want, "options {options}");
        }
        let frames: Vec<_> = ports.iter().map(|p| udp6(53, *p)).collect();
        assert_eq!(who_gets(&mut members, &frames, None), want, "IPv6");
        let frames: Vec<_> = ports.iter().map(|p| partial_udp(53, *p, 0, &[0; 20])).collect();
        let tag = Some(Vlan { tpid: 0x8100, tci: 12 });
        assert_eq!(who_gets(&mut members, &frames, tag), want, "tagged");
    }
}

namespace_test! {
    fn traffic_to_other_addresses_spreads_although_its_port_is_always_the_same() {
        veth("a0", "a1");
        let locals = vec![LocalNet { addr: "192.0.2.0".parse().unwrap(), prefix: 24 }];
        let mut members = members(&FanoutMode::LocalPort { locals, virtuals: Vec::new() });
        let frames: Vec<_> = (2000..2064).map(|p| partial_udp(p, 80, 0, &[0; 20])).collect();
        let picks = who_gets(&mut members, &frames, None);
        for member in 0..MEMBERS {
            let share = picks.iter().filter(|pick| **pick == member).count();
            assert!((6..=30).contains(&share), "member {member} got {share} of 64 flows");
        }
        assert_eq!(picks, who_gets(&mut members, &frames, None), "and flows stay where they are");
    }
}

namespace_test! {
    // A group has a hook of its own, to which PACKET_IGNORE_OUTGOING of the socket does not apply.
    fn frames_of_the_host_itself_do_not_come_back_to_a_group_either() {
        veth("a0", "a1");
        for ignore_outgoing in [true, false] {
            let mut port: PortConfig = small("a0");
            port.cures = Cures { ignore_outgoing, ..Cures::default() };
            port.fanout = Some(Fanout { group: 5, mode: FanoutMode::Hash });
            let mut rings = Rings::open(&[port, small("a1")]).unwrap();
            assert_eq!(host_sends_and_port_sees(&mut rings), (true, !ignore_outgoing));
        }
    }
}

namespace_test! {
    fn a_group_number_in_use_elsewhere_is_refused_with_advice() {
        veth("a0", "a1");
        let group = |name: &str| {
            let mut port = small(name);
            port.fanout = Some(Fanout { group: 9, mode: FanoutMode::Hash });
            Rings::open(&[port])
        };
        let first = group("a0").unwrap();
        let refused = group("a1").unwrap_err();
        assert!(refused.to_string().contains("group"), "{refused}");
        assert!(!refused.advice().is_empty(), "{refused}");
        drop(first);
        assert!(group("a1").is_ok());
    }
}
