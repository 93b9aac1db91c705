//! What a packet of either side becomes on the other.

use crate::stage::{CLIENTS, SERVERS, Stage, mac_of};
use crate::{
    CLIENT, ISN, SERVICE, THEIRS, client, connect, delta, inside, plan, server, sound, telling,
    untold,
};
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::service::{ClientAddrMode, ProxyOptions, ToaOptions};
use lvs_core::verdict::DropReason;
use lvs_testkit::build::{Csum, ROUTER_MAC, option, raw, tcp, udp};
use lvs_testkit::{nic, oracle};

/// Identification of an IPv4 packet.
fn ident(buf: &MemBuf) -> u16 {
    u16::from_be_bytes([buf.data()[18], buf.data()[19]])
}

#[test]
fn a_syn_becomes_one_of_ipv4_with_the_clients_ipv6_address_in_its_options() {
    let mut stage = plan(|_| {}).stage();
    let options = [&option::mss(1440)[..], &option::sack_permitted(), &option::timestamps(7, 0)];
    let syn = client().syn().seq(ISN).options(&options.concat()).ttl(60).tos(0x48);
    let sent = stage.pass(CLIENTS, syn.build_buf());
    let (local, server) = inside(&stage);
    let left = [&option::mss(1440)[..], &option::sack_permitted(), &[1; 10]];
    let expected = tcp().syn().seq(ISN.wrapping_add(delta(&stage))).from(local).to(server);
    let expected = expected
        .options(&[&option::toa(CLIENT.parse().unwrap())[..], &left.concat()].concat())
        .ttl(59)
        .tos(0x48)
        .ident(ident(&sent))
        .dont_fragment(false)
        .src_mac(ROUTER_MAC)
        .dst_mac(mac_of(server.ip()));
    assert_eq!(sound(&sent), expected.build()[12..]);
    assert_eq!(sent.data()[..12], expected.build()[..12]);
    assert_eq!(stage.director.counters().toa_inserted, 1);
}

#[test]
fn segments_of_both_sides_become_those_of_the_other_byte_by_byte() {
    let mut stage = plan(untold).stage();
    stage.pass(CLIENTS, client().syn().seq(ISN).mss(1440).build_buf());
    let (local, real) = inside(&stage);
    let add = delta(&stage);
    let answer = server(&stage, THEIRS, ISN + 1).syn().mss(1460).ttl(64).tos(4);
    let sent = stage.pass(SERVERS, answer.build_buf());
    let expected = tcp().syn().seq(THEIRS).ack(ISN + 1).mss(1440).from(SERVICE).to(CLIENT);
    assert_eq!(sound(&sent), expected.ttl(63).tos(4).build()[12..]);

    // Odd lengths, urgent data, SACK edges: in the client's numbers here, in the server's there.
    let data = client().seq(ISN + 1).ack(THEIRS + 1).psh().payload("GET /12");
    let sent = stage.pass(CLIENTS, data.sack(&[(THEIRS + 9, THEIRS + 12)]).build_buf());
    let expected = tcp().seq((ISN + 1).wrapping_add(add)).ack(THEIRS + 1).psh().payload("GET /12");
    let expected = expected.sack(&[(THEIRS + 9, THEIRS + 12)]).from(local).to(real).ttl(63);
    let expected = expected.ident(ident(&sent)).dont_fragment(false);
    assert_eq!(sound(&sent), expected.build()[12..]);

    let edge = |n: u32| (ISN + n).wrapping_add(add);
    let data = server(&stage, THEIRS + 1, ISN + 1).payload("answer").sack(&[(edge(9), edge(12))]);
    let sent = stage.pass(SERVERS, data.build_buf());
    let expected = tcp().seq(THEIRS + 1).ack(ISN + 1).payload("answer").from(SERVICE).to(CLIENT);
    let expected = expected.sack(&[(ISN + 9, ISN + 12)]).ttl(63);
    assert_eq!(sound(&sent), expected.build()[12..]);
}

#[test]
fn what_may_be_fragmented_has_an_identification_of_its_own_and_what_is_long_may_not() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    let mut idents = Vec::new();
    for len in [0, 1220, 1221, 1440] {
        let data = client().seq(ISN + 1).ack(THEIRS + 6).payload_len(len).build_buf();
        let sent = stage.pass(CLIENTS, data);
        let dont = sent.data()[20] & 0x40 != 0;
        assert_eq!(dont, len > 1220, "{len}");
        if !dont {
            idents.push(ident(&sent));
        }
    }
    assert_ne!(idents[0], idents[1]);
}

/// INV-3.
#[test]
fn a_wrong_checksum_stays_as_wrong_in_both_directions() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    let off = |right: &[u8], wrong: &[u8], at: usize| {
        let word = |frame: &[u8]| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        (word(wrong) + 0xffff - word(right)) % 0xffff
    };
    let up = || client().seq(ISN + 1).ack(THEIRS + 6).payload("some data");
    let right = stage.pass(CLIENTS, up().build_buf());
    let wrong = stage.pass(CLIENTS, up().wrong_l4_csum().build_buf());
    assert!(oracle::checksums_ok(right.data()).is_ok());
    assert!(oracle::checksums_ok(wrong.data()).is_err());
    let before = off(&up().build(), &up().wrong_l4_csum().build(), 14 + 40 + 16);
    assert_eq!(off(right.data(), wrong.data(), 14 + 20 + 16), before);

    let down = |stage: &Stage| server(stage, THEIRS + 6, ISN + 1).payload("an answer");
    let packet = down(&stage).build_buf();
    let right = stage.pass(SERVERS, packet);
    let packet = down(&stage).wrong_l4_csum();
    let before = off(&down(&stage).build(), &packet.build(), 14 + 20 + 16);
    let wrong = stage.pass(SERVERS, packet.build_buf());
    assert!(oracle::checksums_ok(right.data()).is_ok());
    assert!(oracle::checksums_ok(wrong.data()).is_err());
    assert_eq!(off(right.data(), wrong.data(), 14 + 40 + 16), before);
}

#[test]
fn checksums_that_are_not_there_yet_and_trains_change_the_version_too() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    let up = client().seq(ISN + 1).ack(THEIRS + 6);
    let down = server(&stage, THEIRS + 6, ISN + 1);
    for (port, base, v4) in [(CLIENTS, up, true), (SERVERS, down, false)] {
        let single = base.clone().payload_len(333).l4_csum(Csum::Partial).build_buf();
        let train = base.payload_len(5000).gso(1000).build_buf();
        for (packet, count) in [(single, 1), (train, 5)] {
            let sent = stage.pass(port, packet);
            assert_eq!(sent.l4_csum(), L4Csum::Partial);
            let frames = nic::on_wire(&sent);
            assert_eq!(frames.len(), count);
            for frame in frames {
                oracle::checksums_ok(&frame).unwrap();
                assert_eq!(oracle::fields(&frame).unwrap().dst.is_ipv4(), v4);
            }
        }
    }
}

#[test]
fn a_train_whose_segments_would_be_too_long_as_ipv6_is_cut_into_shorter_ones() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    let train = server(&stage, THEIRS + 6, ISN + 1).payload_len(4380).gso(1460).build_buf();
    let sent = stage.pass(SERVERS, train);
    let frames = nic::on_wire(&sent);
    assert!(frames.iter().all(|frame| frame.len() <= 14 + 1500), "{}", frames[0].len());
    let bytes: usize = frames.iter().map(|f| oracle::fields(f).unwrap().payload.len()).sum();
    assert_eq!(bytes, 4380);
}

#[test]
fn a_port_that_cannot_send_trains_of_the_other_version_refuses_them() {
    for v4 in [false, true] {
        let mut plan = plan(untold);
        (plan.port.caps.gso.tcp_v4, plan.port.caps.gso.tcp_v6) = (v4, !v4);
        let mut stage = plan.stage();
        connect(&mut stage);
        let up = client().seq(ISN + 1).ack(THEIRS + 6).payload_len(4000).gso(1000).build_buf();
        let down = server(&stage, THEIRS + 6, ISN + 1).payload_len(4000).gso(1000).build_buf();
        let ways = [(CLIENTS, up), (SERVERS, down)];
        let [(port, good), (other, bad)] = if v4 {
            ways
        } else {
            let [a, b] = ways;
            [b, a]
        };
        assert!(stage.pass(port, good).gso().is_some());
        stage.refused(DropReason::NoGso, other, bad);
    }
}

#[test]
fn a_proxy_header_names_the_ipv6_addresses_and_moves_numbers_until_it_has_settled() {
    let mut stage = plan(telling(ClientAddrMode::Proxy(ProxyOptions::default()))).stage();
    stage.pass(CLIENTS, client().syn().seq(ISN).mss(1440).build_buf());
    let answer = server(&stage, THEIRS, ISN + 1).syn().mss(1460).build_buf();
    stage.pass(SERVERS, answer);
    let data = || client().seq(ISN + 1).ack(THEIRS + 1).payload("hello");
    for _ in 0..2 {
        let sent = stage.pass(CLIENTS, data().build_buf());
        oracle::checksums_ok(sent.data()).unwrap();
        let fields = oracle::fields(sent.data()).unwrap();
        assert!(fields.dst.is_ipv4() && fields.payload.len() == 52 + 5);
        // Version 2, PROXY; TCP over IPv6; client and service.
        assert_eq!(fields.payload[12..14], [0x21, 0x21]);
        assert_eq!(
            fields.payload[16..32],
            "fd00::2".parse::<core::net::Ipv6Addr>().unwrap().octets()
        );
        assert_eq!(
            fields.payload[32..48],
            "fd00::80".parse::<core::net::Ipv6Addr>().unwrap().octets()
        );
        assert_eq!(fields.payload[48..52], [0x9c, 0x40, 0, 80]);
        assert_eq!(&fields.payload[52..], b"hello");
    }
    let ack = server(&stage, THEIRS + 1, ISN + 1 + 5 + 52).build_buf();
    let sent = stage.pass(SERVERS, ack);
    oracle::checksums_ok(sent.data()).unwrap();
    assert_eq!(oracle::fields(sent.data()).unwrap().tcp.unwrap().ack, ISN + 6);
    let more = client().seq(ISN + 6).ack(THEIRS + 1).payload("more").build_buf();
    let sent = stage.pass(CLIENTS, more);
    let tcp = oracle::fields(sent.data()).unwrap().tcp.unwrap();
    assert_eq!(tcp.seq, (ISN + 6).wrapping_add(delta(&stage)), "the header is part of the delta");
    assert!(stage.session().plain);
}

/// INV-12.
#[test]
fn an_address_that_a_client_wrote_does_not_reach_the_server() {
    let mut stage = plan(telling(ClientAddrMode::Toa(ToaOptions::default()))).stage();
    let forged = option::toa("[2001:db8::bad]:1".parse().unwrap());
    let sent = stage.pass(CLIENTS, client().syn().seq(ISN).options(&forged).build_buf());
    let options = oracle::fields(sent.data()).unwrap().tcp.unwrap().option_list();
    let told: Vec<_> = options.iter().filter(|(kind, _)| *kind == 254).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, option::toa(CLIENT.parse().unwrap())[2..]);
}

#[test]
fn datagrams_go_both_ways_and_one_without_a_checksum_gets_one_toward_the_client() {
    let mut stage = plan(untold).stage();
    let ask = || udp().from("[fd00::2]:999").to("[fd00::80]:53");
    let sent = stage.pass(CLIENTS, ask().payload("question").build_buf());
    let (local, real) = inside(&stage);
    let expected = udp().from(local).to(real).payload("question").ttl(63);
    let expected = expected.ident(ident(&sent)).dont_fragment(false);
    assert_eq!(sound(&sent), expected.build()[12..]);

    let answer = || udp().from(real).to(local).payload("answer!");
    let expected = udp().from("[fd00::80]:53").to("[fd00::2]:999").payload("answer!").ttl(63);
    let sent = stage.pass(SERVERS, answer().build_buf());
    assert_eq!(sound(&sent), expected.build()[12..]);
    assert_eq!(stage.director.counters().udp_csum_made, 0);
    let sent = stage.pass(SERVERS, answer().l4_csum(Csum::Value(0)).build_buf());
    assert_eq!(sound(&sent), expected.build()[12..], "RFC 7915 section 4.5");
    assert_eq!(stage.director.counters().udp_csum_made, 1);

    // RFC 8200 section 8.1: no datagram of IPv6 is without.
    let unsummed = ask().payload("question").l4_csum(Csum::Value(0)).build_buf();
    stage.refused(DropReason::Nat64NoChecksum, CLIENTS, unsummed);
}

#[test]
fn what_has_no_counterpart_is_dropped_with_a_reason() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    stage.refused(
        DropReason::NoService,
        CLIENTS,
        raw(132).from("fd00::2").to("fd00::80").payload_len(40).build_buf(),
    );
    // Options of IPv4 are left out (RFC 7915 section 4.1).
    let options = server(&stage, THEIRS + 6, ISN + 1).payload("x").ip_options(&[1, 1, 1, 0]);
    let sent = stage.pass(SERVERS, options.build_buf());
    let expected = tcp().seq(THEIRS + 6).ack(ISN + 1).payload("x").from(SERVICE).to(CLIENT);
    assert_eq!(sound(&sent), expected.ttl(63).build()[12..]);
}
