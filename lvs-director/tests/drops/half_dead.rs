//! A server that still holds the connection that had the local port before.

use crate::stage::{CLIENT, CLIENTS, Plan, SERVERS, Stage, from_client};
use lvs_core::io::PacketBuf;
use lvs_core::io::mem::MemBuf;
use lvs_core::service::Forwarding;
use lvs_core::session::TcpState;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{ROUTER_MAC, flag, tcp};
use lvs_testkit::oracle::{self, TcpFields};

fn tcp_of(packet: &MemBuf) -> TcpFields {
    oracle::checksums_ok(&packet.to_vec()).unwrap();
    oracle::fields(&packet.to_vec()).unwrap().tcp.unwrap()
}

/// A client that has sent its SYN.
fn asked(forwarding: Forwarding) -> (Stage, u32) {
    let mut stage = Plan::new(forwarding).stage();
    let syn = stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
    (stage, tcp_of(&syn).seq)
}

#[test]
fn its_acknowledgement_is_answered_by_a_reset_in_its_numbers_and_the_client_connects() {
    for (payload, flags) in
        [(0, flag::ACK), (900, flag::ACK | flag::PSH), (0, flag::ACK | flag::FIN)]
    {
        let (mut stage, isn) = asked(Forwarding::FullNat);
        let before = stage.session();
        let challenge = stage.reply().flags(flags).seq(5000).ack(777).payload_len(payload);
        let (report, sent) = stage.feed(SERVERS, challenge.clone().build_buf());
        assert_eq!(report.verdict, Verdict::Answer(SERVERS));
        assert_eq!(sent.len(), 1, "{sent:?}");
        let (port, reset) = &sent[0];
        let fields = oracle::fields(&reset.to_vec()).unwrap();
        let tcp = tcp_of(reset);
        assert_eq!((*port, tcp.flags, tcp.seq, tcp.ack), (SERVERS, flag::RST, 777, 0));
        let quad = before.quad;
        assert_eq!((fields.src, fields.dst), (quad.local.0, quad.server.0));
        assert_eq!(fields.ports, Some((quad.local.1, quad.server.1)));
        assert_eq!(reset.data()[6..12], ROUTER_MAC.0);
        // The session stays as it was, and the same SYN goes to the same port again.
        assert_eq!(stage.session(), before);
        let again = stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
        assert_eq!(tcp_of(&again).seq, isn);
        assert_eq!(oracle::fields(&again.to_vec()).unwrap().ports, fields.ports);
        let agreed = stage.reply().syn().seq(99).ack(isn.wrapping_add(1)).build_buf();
        assert_eq!(tcp_of(&stage.pass(SERVERS, agreed)).ack, 8);
        stage.pass(CLIENTS, from_client().seq(8).ack(100).build_buf());
        assert_eq!(stage.session().state, TcpState::Established);
    }
}

#[test]
fn a_corrupt_segment_resets_nobody() {
    let (mut stage, _) = asked(Forwarding::FullNat);
    let corrupt = stage.reply().seq(5000).ack(777).wrong_l4_csum().build_buf();
    stage.refused(DropReason::BadL4Checksum, SERVERS, corrupt);
}

#[test]
fn a_server_that_has_agreed_is_not_reset_by_what_it_acknowledges() {
    let (mut stage, isn) = asked(Forwarding::FullNat);
    let agreed = stage.reply().syn().seq(99).ack(isn.wrapping_add(1)).build_buf();
    stage.pass(SERVERS, agreed);
    // Data in the SYN (TCP Fast Open, RFC 7413) are acknowledged beyond it.
    let beyond = stage.reply().seq(100).ack(isn.wrapping_add(501)).build_buf();
    stage.pass(SERVERS, beyond);
}

#[test]
fn in_nat_mode_the_client_itself_is_the_peer_of_the_old_connection() {
    let (mut stage, _) = asked(Forwarding::Nat);
    let server = stage.session().quad.server;
    let challenge = tcp().from(server).to(CLIENT).seq(5000).ack(777).build_buf();
    let seen = tcp_of(&stage.pass(SERVERS, challenge));
    assert_eq!((seen.flags, seen.ack), (flag::ACK, 777));
}
