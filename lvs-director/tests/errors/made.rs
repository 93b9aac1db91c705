//! Errors that the director makes, and packets that it cuts.

use crate::stage::{CLIENT, CLIENTS, Plan, SERVERS, Stage, from_client};
use core::time::Duration;
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{PacketBuf, PortId};
use lvs_core::service::Forwarding;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_director::ErrorRate;
use lvs_testkit::build::{IcmpError, icmp_error, tcp, udp};
use lvs_testkit::oracle;

const SIX: (&str, &str) = ("[fd00::2]:40000", "[fd00::80]:80");

fn plan(mtu: u16) -> Plan {
    let mut plan = Plan::new(Forwarding::FullNat);
    plan.errors = ErrorRate { per_second: 10, burst: 4 };
    plan.spec.interfaces[1].mtu = Some(mtu);
    plan
}

/// The error that a dropped packet has for an answer, from its IP header on.
fn told(stage: &mut Stage, reason: DropReason, port: PortId, packet: MemBuf) -> Vec<u8> {
    let made = stage.director.counters().icmp_made;
    let (bytes, sessions) = (packet.to_vec(), stage.sessions());
    let (report, sent) = stage.feed(port, packet);
    assert_eq!(report.verdict, Verdict::Drop(reason));
    assert_eq!(stage.sessions(), sessions);
    assert_eq!(stage.director.counters().icmp_made, made + 1);
    let [(back, error)] = &sent[..] else { panic!("{sent:?}") };
    let error = error.to_vec();
    assert_eq!((*back, &error[..6], &error[6..12]), (port, &bytes[6..12], &bytes[..6]));
    oracle::checksums_ok(&error).unwrap();
    let quote = if error[12] == 8 { 42 } else { 62 };
    assert_eq!(error[quote..], bytes[14..bytes.len().min(14 + error.len() - quote)]);
    error[14..].to_vec()
}

#[test]
fn a_sender_is_told_what_fits_beside_the_address_option() {
    let mut stage = plan(1400).stage();
    stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
    let long = || from_client().seq(8).ack(100).payload_len(1361);
    let error = told(&mut stage, DropReason::TooBig, CLIENTS, long().build_buf());
    assert_eq!(error[20..22], [3, 4]);
    assert_eq!(error[26..28], 1392u16.to_be_bytes());
    assert_eq!((&error[12..16], &error[16..20]), (&[10, 0, 0, 80][..], &[10, 0, 0, 2][..]));
    // A datagram gains nothing.
    let datagram = udp().from(CLIENT).to("10.0.0.80:53").payload_len(1373).build_buf();
    let error = told(&mut stage, DropReason::TooBig, CLIENTS, datagram);
    assert_eq!(error[26..28], 1400u16.to_be_bytes());
    let six = tcp().from(SIX.0).to(SIX.1).syn().payload_len(1400).build_buf();
    let error = told(&mut stage, DropReason::TooBig, CLIENTS, six);
    assert_eq!((error[40], &error[44..48]), (2, &1380u32.to_be_bytes()[..]));
}

#[test]
fn whoever_sends_a_packet_at_the_end_of_its_life_is_told() {
    let mut stage = plan(1500).stage();
    let error =
        told(&mut stage, DropReason::TtlExceeded, CLIENTS, from_client().syn().ttl(1).build_buf());
    assert_eq!((&error[12..16], &error[20..22]), (&[10, 0, 0, 80][..], &[11, 0][..]));
    let six = tcp().from(SIX.0).to(SIX.1).syn().ttl(1).build_buf();
    assert_eq!(told(&mut stage, DropReason::TtlExceeded, CLIENTS, six)[40..42], [3, 0]);
    stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
    let reply = stage.reply().syn().ack(8).ttl(1).build_buf();
    let error = told(&mut stage, DropReason::TtlExceeded, SERVERS, reply);
    assert_eq!(error[12..16], [10, 1, 0, 100], "from the local address that the server knows");
}

#[test]
fn errors_are_limited_and_counted() {
    let mut stage = plan(1500).stage();
    let mut round = || {
        for _ in 0..20 {
            stage.feed(CLIENTS, from_client().syn().ttl(1).build_buf());
        }
        stage.sleep(Duration::from_millis(201));
        let counters = stage.director.counters();
        (counters.icmp_made, counters.icmp_limited)
    };
    assert_eq!(round(), (4, 16));
    assert_eq!(round(), (6, 34));
    assert_eq!(round(), (8, 52));
    let mut silent = plan(1500);
    silent.errors = ErrorRate::NONE;
    let mut stage = silent.stage();
    stage.refused(DropReason::TtlExceeded, CLIENTS, from_client().syn().ttl(1).build_buf());
    assert_eq!(stage.director.counters().icmp_limited, 0);
}

#[test]
fn nobody_complains_about_an_error() {
    let mut stage = plan(1500).stage();
    let left = stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
    let local = stage.session().quad.local.0;
    let error =
        icmp_error(IcmpError::HostUnreachable, left.data(), 28).from("10.1.0.254").to(local);
    stage.refused(DropReason::TtlExceeded, SERVERS, error.ttl(1).build_buf());
}

#[test]
fn a_packet_without_df_is_cut_and_its_pieces_make_the_whole() {
    for mode in [Forwarding::Nat, Forwarding::FullNat] {
        let mut plan = plan(600);
        for service in &mut plan.spec.services {
            service.forwarding = mode;
            service.pool = (mode == Forwarding::FullNat).then_some(0);
        }
        let mut stage = plan.stage();
        let whole = udp().from(CLIENT).to("10.0.0.80:53").payload_len(1400).dont_fragment(false);
        let (report, sent) = stage.feed(CLIENTS, whole.build_buf());
        assert_eq!(report.verdict, Verdict::Forward(SERVERS));
        assert_eq!((sent.len(), stage.director.counters().packets_cut), (3, 1));
        let mut payload: Vec<u8> = Vec::new();
        for (number, (port, piece)) in sent.iter().enumerate() {
            let ip = &piece.data()[14..];
            assert_eq!(*port, SERVERS);
            assert!(ip.len() <= 600);
            let word = u16::from_be_bytes([ip[6], ip[7]]);
            assert_eq!(
                (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0),
                (payload.len(), number < 2)
            );
            payload.extend(&ip[20..]);
        }
        // As the server puts it together.
        let mut frame = sent[0].1.data()[..34].to_vec();
        frame[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
        (frame[20], frame[21], frame[24], frame[25]) = (0, 0, 0, 0);
        let sum: u32 = frame[14..34]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|w| u32::from(u16::from_be_bytes(*w)))
            .sum();
        let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend(payload);
        oracle::checksums_ok(&frame).unwrap();
        assert_eq!(frame[42..], whole.build()[42..]);
        assert_eq!(stage.session().inbound.packets, 1);
    }
}

#[test]
fn pieces_wait_for_a_neighbour_and_leave_when_it_is_known() {
    let mut plan = plan(600).without_neighbours();
    plan.spec.services[2].servers.truncate(1);
    let mut stage = plan.stage();
    let whole = udp().from(CLIENT).to("10.0.0.80:53").payload_len(1400).dont_fragment(false);
    let (report, _) = stage.feed(CLIENTS, whole.build_buf());
    assert!(matches!(report.verdict, Verdict::Absorb(_)), "{report:?}");
    let answer = lvs_testkit::build::arp_reply(
        crate::stage::mac_of([10, 1, 0, 11].into()),
        [10, 1, 0, 11].into(),
        lvs_testkit::build::ROUTER_MAC,
        [10, 1, 0, 1].into(),
    );
    let (_, sent) = stage.feed(SERVERS, MemBuf::from_bytes(&answer.build()));
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|(_, piece)| piece.data().len() <= 614));
}

#[test]
fn what_would_make_too_many_pieces_is_too_big() {
    let mut stage = plan(68).stage();
    let whole = udp().from(CLIENT).to("10.0.0.80:53").payload_len(1480).dont_fragment(false);
    let (report, sent) = stage.feed(CLIENTS, whole.build_buf());
    assert_eq!((report.verdict, sent.len()), (Verdict::Forward(SERVERS), 31));
    let whole = whole.payload_len(3200).build_buf();
    let error = told(&mut stage, DropReason::TooBig, CLIENTS, whole);
    assert_eq!(error[20], 3);
}
