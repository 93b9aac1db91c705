//! Datagrams in pieces without a session: each is scheduled for itself, and none of its pieces goes another way.

use crate::cut::{cut, join};
use crate::stage::{CLIENTS, Plan, SERVERS, mac_of};
use crate::support::service;
use crate::whole::{NAMES6, ends, question};
use core::net::IpAddr;
use lvs_core::flow::L4Proto;
use lvs_core::io::PacketBuf;
use lvs_core::io::mem::MemBuf;
use lvs_core::service::Forwarding;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_testkit::build::udp;
use lvs_testkit::oracle;

/// Each datagram for itself, two servers in turn.
fn plan(mode: Forwarding) -> Plan {
    let mut plan = Plan::new(mode);
    let servers = ["[fd01::11]:53", "[fd01::12]:53"];
    plan.spec.services.push(service(NAMES6, L4Proto::Udp, mode, &servers));
    for service in plan.spec.services.iter_mut().filter(|s| s.key.proto == L4Proto::Udp) {
        service.flags.one_packet = true;
    }
    plan
}

fn server(v6: bool, number: usize) -> IpAddr {
    let all = if v6 { ["fd01::11", "fd01::12"] } else { ["10.1.0.11", "10.1.0.12"] };
    all[number % 2].parse().unwrap()
}

#[test]
fn all_pieces_of_a_datagram_go_to_the_server_that_its_first_one_went_to() {
    for (mode, v6) in [Forwarding::Nat, Forwarding::Dr, Forwarding::Tun]
        .into_iter()
        .flat_map(|mode| [(mode, false), (mode, true)])
    {
        let mut stage = plan(mode).stage();
        let frame = question(v6, 900).build();
        // In order, and each other order of three.
        for (number, order) in
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].iter().enumerate()
        {
            let parts = cut(&frame, &[304, 608], 40 + number as u32);
            let mut out = Vec::new();
            for at in order {
                let (report, sent) = stage.feed(CLIENTS, MemBuf::from_bytes(&parts[*at]));
                let held = Verdict::Absorb(Absorbed::WaitsForFirst);
                assert!(
                    matches!(report.verdict, Verdict::Forward(SERVERS)) || report.verdict == held
                );
                out.extend(sent.into_iter().map(|(_, frame)| frame.data().to_vec()));
            }
            assert_eq!(out.len(), 3, "{mode:?} {order:?}");
            for frame in &out {
                assert_eq!(frame[..6], mac_of(server(v6, number)).0, "{mode:?} {order:?}");
            }
            if mode != Forwarding::Tun {
                oracle::checksums_ok(&join(&out).expect("all of it")).unwrap();
            }
            assert!(stage.sessions().is_empty());
            assert_eq!(stage.director.pieces(), (0, 0));
        }
    }
}

#[test]
fn an_answer_in_pieces_comes_from_what_was_asked() {
    for v6 in [false, true] {
        let mut stage = plan(Forwarding::Nat).stage();
        let (client, service) = ends(v6);
        let at = core::net::SocketAddr::new(server(v6, 0), 53);
        let answer = udp().from(at).to(client).payload_len(900).dont_fragment(false).build();
        let mut out = Vec::new();
        for part in cut(&answer, &[304, 608], 9) {
            out.push(stage.pass(SERVERS, MemBuf::from_bytes(&part)).data().to_vec());
        }
        let whole = join(&out).expect("all of it");
        oracle::checksums_ok(&whole).unwrap();
        let fields = oracle::fields(&whole).unwrap();
        let from = core::net::SocketAddr::new(fields.src, fields.ports.unwrap().0);
        assert_eq!(from, service.parse().unwrap());
    }
}

#[test]
fn the_rest_of_a_datagram_whose_first_piece_is_dropped_goes_nowhere_even_if_its_session_lives() {
    for (mode, v6) in [Forwarding::FullNat, Forwarding::Nat, Forwarding::Dr]
        .into_iter()
        .flat_map(|mode| [(mode, false), (mode, true)])
    {
        let mut plan = Plan::new(mode);
        plan.spec.services.push(service(NAMES6, L4Proto::Udp, mode, &["[fd01::11]:53"]));
        plan.spec.interfaces[1].mtu = Some(1300);
        let mut stage = plan.stage();
        stage.pass(CLIENTS, question(v6, 10).build_buf());
        let big = question(v6, 1500).dont_fragment(true).build();
        let mut parts = cut(&big, &[1400], 7);
        if !v6 {
            for part in &mut parts {
                part[20] |= 0x40;
                crate::cut::fix_v4(&mut part[14..34]);
            }
        }
        stage.refused(DropReason::TooBig, CLIENTS, MemBuf::from_bytes(&parts[0]));
        stage.refused(DropReason::FragmentNoSession, CLIENTS, MemBuf::from_bytes(&parts[1]));
        // Nor does what had come before it.
        let mut parts = cut(&big, &[1400], 8);
        if !v6 {
            parts[0][20] |= 0x40;
            crate::cut::fix_v4(&mut parts[0][14..34]);
        }
        let (report, sent) = stage.feed(CLIENTS, MemBuf::from_bytes(&parts[1]));
        assert_eq!((report.verdict, sent.len()), (Verdict::Absorb(Absorbed::WaitsForFirst), 0));
        let before = stage.director.counters().dropped(DropReason::FragmentNoSession);
        let (report, sent) = stage.feed(CLIENTS, MemBuf::from_bytes(&parts[0]));
        assert_eq!((report.verdict, sent.len()), (Verdict::Drop(DropReason::TooBig), 0));
        assert_eq!(stage.director.counters().dropped(DropReason::FragmentNoSession), before + 1);
        // The next datagram is another one.
        stage.pass(CLIENTS, question(v6, 10).build_buf());
    }
}
