//! Segments of no connection, where their senders are to be told.

mod support;

use lvs_core::io::PortId;
use lvs_core::io::mem::MemPort;
use lvs_core::service::Forwarding;
use lvs_core::session::{HeapMemory, SessionStore};
use lvs_core::verdict::{DropReason, Verdict};
use lvs_director::{Director, DirectorConfig, ErrorRate, Generation};
use lvs_testkit::build::{Packet, Tcp, tcp, udp};
use std::sync::Arc;
use support::bench::{Bench, CLIENTS, MAC, SERVERS};
use support::talk::{ISN, SERVICE, Said, THEIRS, connect, said, to_server};

const RATE: ErrorRate = ErrorRate { per_second: 10, burst: 3 };

fn bench(rate: ErrorRate, memory: &mut HeapMemory) -> Bench<'_> {
    let (config, plan) = support::store_config();
    let store = SessionStore::new(config, plan, memory.bytes()).unwrap();
    let snapshot = support::spec(Forwarding::FullNat).build(None).unwrap();
    let generation = Generation::new(Arc::new(snapshot), support::ARGS);
    let config = DirectorConfig { isn_key: [5, 6], strays: rate, ..DirectorConfig::default() };
    Bench::of(Director::new(config, store, generation), MemPort::plain(MAC))
}

fn stray(flags: u8) -> Packet<Tcp> {
    tcp().flags(flags).seq(1000).from("10.0.0.2:40000").to(SERVICE).dst_mac(MAC)
}

const ACK: u8 = 0x10;

#[test]
fn a_segment_is_answered_as_by_a_host_without_the_connection() {
    // RFC 9293 section 3.10.7.1: with an acknowledgement its number, else one that acknowledges all there is.
    let cases = [
        (stray(ACK).ack(77), (77, 0, 0x04)),
        (stray(ACK | 1).ack(77).payload_len(9), (77, 0, 0x04)),
        (stray(ACK | 2).ack(77), (77, 0, 0x04)),
        (stray(1), (0, 1001, 0x14)),
        (stray(0x29).payload_len(9), (0, 1010, 0x14)),
        (stray(0), (0, 1000, 0x14)),
    ];
    for (segment, expected) in cases {
        let mut memory = support::memory();
        let mut bench = bench(RATE, &mut memory);
        let (report, frames) = bench.feed(CLIENTS, segment.build_buf());
        assert!(matches!(report.verdict, Verdict::Drop(_)), "{report:?}");
        let [frame] = &frames[..] else { panic!("{frames:?}") };
        let said = said(frame);
        assert_eq!((said.seq, said.ack, said.flags), expected);
        assert_eq!((said.from.1, said.to.1), (80, 40000));
        let counters = bench.director.counters();
        assert_eq!((counters.strays_reset, counters.originated), (1, 1));
        assert!(bench.sessions().is_empty());
        support::every_packet_is_counted_once(counters);
    }
}

#[test]
fn a_server_that_speaks_to_a_local_address_of_no_session_is_told() {
    let mut memory = support::memory();
    let mut bench = bench(RATE, &mut memory);
    let all = connect(&mut bench, true);
    bench.now += 200_000_000_000;
    bench.turn();
    assert!(bench.sessions().is_empty());
    let late = tcp().seq(THEIRS + 6).ack(all.next).payload(b"x").from(all.server).to(all.client);
    let (report, frames) = bench.feed(SERVERS, late.dst_mac(MAC).build_buf());
    assert_eq!(report.verdict, Verdict::Drop(DropReason::NoSessionLocal));
    let frames: Vec<Said> = frames.iter().map(said).collect();
    assert_eq!(frames, [to_server(&all, all.next)]);
}

#[test]
fn an_ipv6_segment_is_answered_and_tags_stay() {
    let mut memory = support::memory();
    let mut bench = bench(RATE, &mut memory);
    let segment = tcp().flags(ACK).seq(1).ack(5).from("[fd00::2]:9").to("[fd00::80]:80");
    let (_, frames) = bench.feed(CLIENTS, segment.dst_mac(MAC).vlan(7).build_buf());
    let [(port, frame)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((*port, &frame[12..18]), (CLIENTS, &[0x81, 0, 0, 7, 0x86, 0xdd][..]));
    assert_eq!((frame.len(), said(&(*port, frame.clone())).seq), (18 + 40 + 20, 5));
    let fin = tcp().flags(1).seq(1).payload_len(9).from("[fd00::2]:9").to("[fd00::80]:80");
    let (_, frames) = bench.feed(CLIENTS, fin.dst_mac(MAC).build_buf());
    assert_eq!(said(&frames[0]).ack, 1 + 9 + 1, "payload as the IPv6 header counts it");
}

#[test]
fn nobody_answers_resets_datagrams_corruption_or_a_contradiction() {
    let mut memory = support::memory();
    let mut bench = bench(RATE, &mut memory);
    let datagram = udp().from("10.0.0.2:1").to("10.0.0.80:99").dst_mac(MAC).build_buf();
    for packet in [
        stray(0x04).build_buf(),
        stray(0x14).build_buf(),
        stray(ACK).wrong_l4_csum().build_buf(),
        datagram,
    ] {
        let (report, frames) = bench.feed(CLIENTS, packet);
        assert!(matches!(report.verdict, Verdict::Drop(_)) && frames.is_empty(), "{report:?}");
    }
    assert_eq!(bench.director.counters().strays_reset, 0);
}

#[test]
fn there_are_no_more_than_the_rate_allows_and_none_by_default() {
    let mut memory = support::memory();
    let mut limited = bench(RATE, &mut memory);
    let mut answers = 0;
    for _ in 0..1000 {
        answers += limited.feed(CLIENTS, stray(ACK).ack(1).build_buf()).1.len();
    }
    // 3 at once, and 10 in the second that the bench lets pass.
    assert_eq!(answers, 3 + 9);
    let mut memory = support::memory();
    let mut silent = bench(DirectorConfig::default().strays, &mut memory);
    assert!(silent.feed(CLIENTS, stray(ACK).ack(1).build_buf()).1.is_empty());
}

#[test]
fn a_connection_that_lives_is_left_alone() {
    let mut memory = support::memory();
    let mut bench = bench(RATE, &mut memory);
    connect(&mut bench, true);
    let segment = tcp().flags(ACK).seq(ISN + 1).ack(THEIRS + 6).from("10.0.0.2:40000").to(SERVICE);
    let (report, frames) = bench.feed(CLIENTS, segment.dst_mac(MAC).build_buf());
    assert_eq!((report.verdict, frames.len()), (Verdict::Forward(PortId(1)), 1));
}
