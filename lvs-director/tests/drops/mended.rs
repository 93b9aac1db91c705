//! Small cases that a comparison with the naive director has shown, each a fault once.

use crate::stage::{CLIENT, CLIENTS, Plan, SERVERS, SERVICE, Stage, from_client, mac_of};
use core::net::IpAddr;
use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{L4Csum, PacketBuf, Vlan};
use lvs_core::service::Forwarding;
use lvs_core::session::TcpState;
use lvs_core::snapshot::StaticNeighbour;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{arp_reply, flag, option, tcp, udp};
use lvs_testkit::oracle::{self, TcpFields};

const ADDRESS: u8 = 254;

fn full() -> Plan {
    Plan::new(Forwarding::FullNat)
}

fn one_server(mut plan: Plan) -> Plan {
    plan.spec.services[0].servers.truncate(1);
    plan
}

fn tcp_of(packet: &MemBuf) -> TcpFields {
    oracle::checksums_ok(&packet.to_vec()).unwrap();
    oracle::fields(&packet.to_vec()).unwrap().tcp.unwrap()
}

/// SYN and SYN-ACK; the server's data start at 100.
fn half_open(plan: Plan) -> Stage {
    let mut stage = plan.stage();
    stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
    let reply = stage.reply().syn().ack(8).seq(99).build_buf();
    stage.pass(SERVERS, reply);
    stage
}

/// A session whose client has acknowledged the server's data.
fn plain(plan: Plan) -> Stage {
    let mut stage = half_open(plan);
    stage.pass(CLIENTS, from_client().seq(8).ack(100).build_buf());
    let data = stage.reply().ack(8).seq(100).payload_len(50).build_buf();
    stage.pass(SERVERS, data);
    stage.pass(CLIENTS, from_client().seq(8).ack(150).build_buf());
    assert!(stage.session().plain);
    stage
}

/// INV-11.
#[test]
fn a_refused_connection_leaves_the_finished_session_that_it_would_replace() {
    let mut stage = plain(full());
    let reset = stage.reply().rst().build_buf();
    stage.pass(SERVERS, reset);
    assert_eq!(stage.session().state, TcpState::Close);
    let again = || from_client().syn().seq(70_000);
    stage.refused(DropReason::TtlExceeded, CLIENTS, again().ttl(1).build_buf());
    stage.refused(DropReason::BadL4Checksum, CLIENTS, again().wrong_l4_csum().build_buf());
    stage.pass(CLIENTS, again().build_buf());
    assert_eq!(stage.session().state, TcpState::SynRecv);
}

/// INV-12: a client cannot get rid of its address either.
#[test]
fn acknowledging_what_the_server_never_sent_does_not_end_the_option() {
    let mut stage = half_open(full());
    for ack in [100, 101, 5000] {
        let sent = stage.pass(CLIENTS, from_client().seq(8).ack(ack).build_buf());
        assert!(tcp_of(&sent).option(ADDRESS).is_some(), "ack {ack}");
    }
    // The number alone, without its flag.
    let fin = from_client().flags(flag::FIN).seq(8).ack_number(101).build_buf();
    assert!(tcp_of(&stage.pass(CLIENTS, fin)).option(ADDRESS).is_some());
}

#[test]
fn a_retransmission_does_not_take_back_what_the_server_has_sent() {
    let mut stage = half_open(full());
    for (seq, len) in [(100, 50), (150, 50), (100, 50)] {
        let data = stage.reply().ack(8).seq(seq).payload_len(len).build_buf();
        stage.pass(SERVERS, data);
    }
    stage.pass(CLIENTS, from_client().seq(8).ack(200).build_buf());
    assert!(stage.session().plain);
}

/// INV-12.
#[test]
fn sessions_of_a_removed_service_keep_the_option_and_its_protection() {
    let mut stage = half_open(full());
    stage.reload(|spec| {
        spec.services.remove(0);
    });
    let forged = option::toa("203.0.113.1:1".parse().unwrap());
    let sent = stage.pass(CLIENTS, from_client().seq(8).ack(100).options(&forged).build_buf());
    let list = tcp_of(&sent).option_list();
    let addresses: Vec<_> = list.iter().filter(|(kind, _)| *kind == ADDRESS).collect();
    assert_eq!(addresses, [&(ADDRESS, vec![0x9c, 0x40, 10, 0, 0, 2])]);
}

#[test]
fn a_session_that_was_open_and_is_asked_to_open_twice_starts_anew() {
    let mut stage = plain(full());
    stage.pass(CLIENTS, from_client().fin().ack(150).seq(8).build_buf());
    assert_eq!(stage.session().state, TcpState::CloseWait);
    let before = stage.session();
    let again = || from_client().syn().seq(70_000).build_buf();
    // One SYN may be a stranger's: it goes where the session leads.
    stage.pass(CLIENTS, again());
    assert_eq!(stage.session().id, before.id);
    let sent = stage.pass(CLIENTS, again());
    let session = stage.session();
    assert_ne!(session.id, before.id);
    let (seq, fields) = (tcp_of(&sent).seq, tcp_of(&sent));
    assert!(fields.option(ADDRESS).is_some());
    // From now on its numbers stay.
    let third = stage.pass(CLIENTS, again());
    assert_eq!((tcp_of(&third).seq, stage.session().id), (seq, session.id));
}

#[test]
fn a_silent_neighbour_fails_although_packets_keep_coming() {
    let mut stage = one_server(full().without_neighbours()).stage();
    let datagram = || udp().from(CLIENT).to("10.0.0.80:53").build_buf();
    let mut questions = 0;
    for _ in 0..80 {
        // Whenever a question is due, a packet comes first.
        stage.sleep(Duration::from_millis(50));
        let (_, sent) = stage.feed(CLIENTS, datagram());
        questions += sent.len() + stage.wait(Duration::ZERO).len();
    }
    let failed = stage.director.counters().dropped(DropReason::NeighbourFailed);
    assert!(failed > 0, "{:?}", stage.director.counters());
    assert!((3..=4).contains(&questions), "{questions} questions in four seconds");
}

/// INV-16.
#[test]
fn what_waits_goes_to_the_address_that_is_configured_and_to_nobody_who_claims_it() {
    let ip: IpAddr = "10.1.0.11".parse().unwrap();
    let configure = |stage: &mut Stage| {
        stage.reload(|spec| {
            spec.neighbours.push(StaticNeighbour { ip, mac: mac_of(ip) });
        })
    };
    let mut stage = one_server(full().without_neighbours()).stage();
    let (report, _) = stage.feed(CLIENTS, from_client().syn().build_buf());
    assert!(matches!(report.verdict, Verdict::Absorb(_)));
    let sent = configure(&mut stage);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1.data()[..6], mac_of(ip).0);
    let thief = MacAddr([2, 0xbd, 0, 0, 0, 1]);
    let claim = arp_reply(thief, [10, 1, 0, 11].into(), MacAddr([2; 6]), [10, 1, 0, 1].into());
    stage.feed(SERVERS, MemBuf::from_bytes(&claim.build()));
    let sent = stage.pass(CLIENTS, from_client().syn().build_buf());
    assert_eq!(sent.data()[..6], mac_of(ip).0);
}

#[test]
fn tags_of_one_port_do_not_leave_on_another() {
    for partial in [false, true] {
        let mut stage = full().stage();
        let syn = from_client().syn().payload_len(3).vlan(7).vlan(8);
        let mut packet = match partial {
            false => syn.build_buf(),
            true => syn.l4_csum(lvs_testkit::build::Csum::Partial).build_buf(),
        };
        packet.set_vlan(Some(Vlan { tpid: 0x8100, tci: 6 }));
        let sent = stage.pass(CLIENTS, packet);
        assert_eq!((sent.vlan(), &sent.data()[12..14]), (None, &[8, 0][..]));
        if partial {
            assert_eq!((sent.meta().l3, sent.meta().l4), (14, 34));
            assert_eq!(sent.l4_csum(), L4Csum::Partial);
        }
        for frame in lvs_testkit::nic::on_wire(&sent) {
            oracle::checksums_ok(&frame).unwrap();
        }
    }
}

#[test]
fn tags_and_padding_do_not_make_a_full_sized_packet_too_long_to_send() {
    let mut stage = plain(full());
    let largest = || from_client().seq(8).ack(150).payload_len(1460);
    let sent = stage.pass(CLIENTS, largest().pad(4).build_buf());
    assert_eq!(sent.total_len(), 1514);
    let sent = stage.pass(CLIENTS, largest().vlan(7).build_buf());
    assert_eq!(sent.total_len(), 1514);
}

#[test]
fn a_packet_that_waits_keeps_its_tag_if_it_stays_on_its_port() {
    let mut plan = one_server(full().without_neighbours());
    plan.spec.neighbours.clear();
    let mut stage = plan.stage();
    // A client among the servers.
    let syn = tcp().syn().from("10.1.0.50:40000").to(SERVICE).vlan_beside(9);
    stage.feed(SERVERS, syn.build_buf());
    let answer = arp_reply(
        mac_of("10.1.0.11".parse().unwrap()),
        [10, 1, 0, 11].into(),
        MacAddr([2; 6]),
        [10, 1, 0, 1].into(),
    );
    let (_, sent) = stage.feed(SERVERS, MemBuf::from_bytes(&answer.build()));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1.vlan().map(Vlan::id), Some(9));
}

#[test]
fn a_train_that_the_option_does_not_fit_into_still_fits_the_link() {
    let mut stage = half_open(full());
    let stuffed =
        [[1, 1].as_slice(), &option::timestamps(1, 2), &option::any(77, &[9; 26])].concat();
    assert_eq!(stuffed.len(), 40);
    let train = |size| {
        let data = from_client().seq(8).ack(100).options(&stuffed).payload_len(4000);
        data.gso(size).build_buf()
    };
    // 20 + 60 + 1421 bytes are more than the link takes.
    stage.refused(DropReason::TooBig, CLIENTS, train(1421));
    let (report, sent) = stage.feed(CLIENTS, train(1420));
    assert_eq!(report.verdict, Verdict::Forward(SERVERS));
    assert_eq!(sent.len(), 2, "the address goes ahead");
}

#[test]
fn a_packet_is_counted_as_it_came() {
    let mut stage = full().stage();
    stage.pass(CLIENTS, from_client().syn().build_buf());
    stage.pass(CLIENTS, from_client().syn().build_buf());
    assert_eq!((stage.session().inbound.packets, stage.session().inbound.bytes), (2, 80));
}
