//! What is refused, and how much is remembered: each with its reason and its counter.

use crate::cut::{cut, join, piece};
use crate::stage::{CLIENT, CLIENTS, SERVERS, Stage, from_client};
use crate::whole::{plan, question};
use core::time::Duration;
use lvs_core::io::mem::{MemBuf, MemMeta};
use lvs_core::io::{L4Csum, PortId};
use lvs_core::service::{ClientAddrMode, Forwarding, NoToaRoom, ProxyOptions, ToaOptions};
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_director::FragmentConfig;
use lvs_testkit::build::{echo, udp};

const HELD: Verdict = Verdict::Absorb(Absorbed::WaitsForFirst);

fn stage() -> Stage {
    plan(Forwarding::FullNat).stage()
}

fn feed(stage: &mut Stage, port: PortId, frame: &[u8]) -> (Verdict, usize) {
    let (report, sent) = stage.feed(port, MemBuf::from_bytes(frame));
    (report.verdict, sent.len())
}

fn dropped(stage: &Stage, reason: DropReason) -> u64 {
    stage.director.counters().dropped(reason)
}

const fn drop(reason: DropReason) -> (Verdict, usize) {
    (Verdict::Drop(reason), 0)
}

const GONE: (Verdict, usize) = (Verdict::Forward(SERVERS), 1);

#[test]
fn an_overlap_ends_the_whole_datagram_and_what_waits_for_it() {
    for v6 in [false, true] {
        let mut stage = stage();
        let frame = question(v6, 400).build();
        let part = |from, to, more| piece(&frame, from, to, more, 5);
        assert_eq!(feed(&mut stage, CLIENTS, &part(200, 304, true)), (HELD, 0));
        assert_eq!(feed(&mut stage, CLIENTS, &part(304, 408, false)), (HELD, 0));
        assert_eq!(stage.director.pieces(), (1, 2));
        let overlap = drop(DropReason::FragmentOverlap);
        assert_eq!(feed(&mut stage, CLIENTS, &part(104, 208, true)), overlap);
        assert_eq!(stage.director.pieces(), (1, 0), "nothing waits any more");
        assert_eq!(dropped(&stage, DropReason::FragmentOverlap), 3, "it and what waited");
        // Even what would fit, the first one too.
        assert_eq!(feed(&mut stage, CLIENTS, &part(0, 104, true)), overlap);
        assert_eq!(feed(&mut stage, CLIENTS, &part(104, 200, true)), overlap);
        assert!(stage.sessions().is_empty());
        // The next datagram is another one.
        for part in cut(&frame, &[200], 6) {
            assert_eq!(feed(&mut stage, CLIENTS, &part), GONE);
        }
        crate::support::every_packet_is_counted_once(stage.director.counters());
    }
}

#[test]
fn a_copy_is_dropped_and_harms_nobody() {
    let mut stage = stage();
    let parts = cut(&question(false, 400).build(), &[104, 208], 5);
    let mut arrived = Vec::new();
    for at in [0, 0, 1, 1, 0, 2] {
        arrived.extend(stage.feed(CLIENTS, MemBuf::from_bytes(&parts[at])).1);
    }
    assert_eq!(dropped(&stage, DropReason::FragmentDuplicate), 3);
    let frames: Vec<Vec<u8>> = arrived.into_iter().map(|(_, frame)| frame.to_vec()).collect();
    lvs_testkit::oracle::checksums_ok(&join(&frames).unwrap()).unwrap();
}

#[test]
fn fragments_whose_first_one_does_not_come_wait_for_a_while() {
    let mut stage = stage();
    let parts = cut(&question(false, 400).build(), &[104, 208], 5);
    assert_eq!(feed(&mut stage, CLIENTS, &parts[1]), (HELD, 0));
    // Never early.
    assert!(stage.wait(Duration::from_millis(199)).is_empty());
    assert_eq!(stage.director.pieces(), (1, 1));
    assert!(stage.wait(Duration::from_millis(201)).is_empty());
    assert_eq!(stage.director.pieces(), (0, 0));
    assert_eq!(dropped(&stage, DropReason::FragmentTimeout), 1);
    crate::support::every_packet_is_counted_once(stage.director.counters());
    // What comes afterwards is the beginning of another datagram.
    assert_eq!(feed(&mut stage, CLIENTS, &parts[0]), GONE);
    stage.wait(Duration::from_millis(900));
    assert_eq!(feed(&mut stage, CLIENTS, &parts[1]), GONE, "a known one lives for a second");
    stage.wait(Duration::from_millis(400));
    assert_eq!(stage.director.pieces(), (0, 0));
    assert_eq!(feed(&mut stage, CLIENTS, &parts[2]), (HELD, 0));
}

#[test]
fn the_memory_is_bounded_and_says_so() {
    let mut small = plan(Forwarding::FullNat);
    let limits = FragmentConfig::default();
    small.fragments = FragmentConfig { datagrams: 8, held: 3, held_each: 2, ..limits };
    small.ports = 40;
    let mut stage = small.stage();
    let frame = |port: u16| {
        udp().from(format!("10.0.0.2:{port}").as_str()).to("10.0.0.80:53").payload_len(400).build()
    };
    let part = |ident, at: usize| piece(&frame(1000), at, at + 8, true, ident);
    // Places for frames: two of one datagram, three of all.
    assert_eq!(feed(&mut stage, CLIENTS, &part(1, 80)), (HELD, 0));
    assert_eq!(feed(&mut stage, CLIENTS, &part(1, 96)), (HELD, 0));
    let full = drop(DropReason::FragmentHeldFull);
    assert_eq!(feed(&mut stage, CLIENTS, &part(1, 112)), full);
    assert_eq!(feed(&mut stage, CLIENTS, &part(2, 80)), (HELD, 0));
    assert_eq!(feed(&mut stage, CLIENTS, &part(3, 80)), full);
    assert_eq!(stage.director.pieces(), (2, 3));
    // Places for datagrams.
    let mut results = Vec::new();
    for ident in 10..20 {
        results.push(feed(&mut stage, CLIENTS, &piece(&frame(ident as u16), 0, 8, true, ident)));
    }
    assert_eq!(results.iter().filter(|result| **result == GONE).count(), 6);
    let full = drop(DropReason::FragmentMemoryFull);
    assert_eq!(results.iter().filter(|result| **result == full).count(), 4);
    assert_eq!(dropped(&stage, DropReason::FragmentMemoryFull), 4);
    assert_eq!(stage.director.pieces().0, 8);
    // Who has had its time makes room for others, long before the time-out.
    stage.sleep(Duration::from_millis(350));
    assert_eq!(feed(&mut stage, CLIENTS, &piece(&frame(21), 0, 8, true, 21)), GONE);
    assert_eq!(stage.director.pieces().0, 8);
    stage.wait(Duration::from_secs(2));
    assert_eq!(
        (stage.director.pieces(), dropped(&stage, DropReason::FragmentTimeout)),
        ((0, 0), 3)
    );
    crate::support::every_packet_is_counted_once(stage.director.counters());
    // No memory at all: no fragment passes, and everything else does.
    small = plan(Forwarding::FullNat);
    small.fragments = FragmentConfig { datagrams: 0, held: 0, ..limits };
    let mut stage = small.stage();
    assert_eq!(feed(&mut stage, CLIENTS, &part(1, 0)), full);
    stage.pass(CLIENTS, question(false, 40).build_buf());
}

#[test]
fn one_source_does_not_take_all_places() {
    let mut small = plan(Forwarding::FullNat);
    small.fragments = FragmentConfig { per_source: 3, ..FragmentConfig::default() };
    let mut stage = small.stage();
    let frame = |from: &str| udp().from(from).to("10.0.0.80:53").payload_len(400).build();
    for ident in 0..3 {
        assert_eq!(feed(&mut stage, CLIENTS, &piece(&frame(CLIENT), 0, 8, true, ident)), GONE);
    }
    let full = drop(DropReason::FragmentMemoryFull);
    assert_eq!(feed(&mut stage, CLIENTS, &piece(&frame(CLIENT), 0, 8, true, 3)), full);
    assert_eq!(feed(&mut stage, CLIENTS, &piece(&frame("10.0.0.3:7"), 0, 8, true, 3)), GONE);
}

#[test]
fn a_syn_in_pieces_opens_nothing_and_the_rest_of_it_does_not_wait() {
    let mut stage = stage();
    let frame = from_client().syn().payload_len(100).dont_fragment(false).build();
    for part in cut(&frame, &[64], 3) {
        stage.refused(DropReason::Fragment, CLIENTS, MemBuf::from_bytes(&part));
    }
    let ping = echo(1, 1).from(CLIENT).to("10.0.0.80").payload_len(100).dont_fragment(false);
    for part in cut(&ping.build(), &[64], 4) {
        stage.refused(DropReason::Fragment, CLIENTS, MemBuf::from_bytes(&part));
    }
    assert_eq!(stage.director.pieces(), (0, 0));
    // Less than a transport header: RFC 1858.
    let tiny = piece(&from_client().ack(1).payload_len(80).build(), 0, 16, true, 5);
    stage.refused(DropReason::MalformedTcp, CLIENTS, MemBuf::from_bytes(&tiny));
    // What no offload has put together is none.
    let meta = MemMeta { l4_csum: L4Csum::Partial, ..MemMeta::default() };
    let partial = piece(&question(false, 80).build(), 0, 16, true, 6);
    stage.refused(DropReason::Fragment, CLIENTS, MemBuf::from_bytes(&partial).with_meta(meta));
}

/// A device that finds the checksum of a piece wrong has summed a piece.
#[test]
fn what_a_device_says_about_the_checksum_of_a_piece_does_not_count() {
    let mut stage = stage();
    let meta = MemMeta { l4_csum: L4Csum::Bad, ..MemMeta::default() };
    for part in cut(&question(false, 100).build(), &[64], 4) {
        let sent = stage.pass(CLIENTS, MemBuf::from_bytes(&part).with_meta(meta));
        assert_eq!(sent.meta().l4_csum, L4Csum::Unknown);
    }
}

#[test]
fn the_rest_of_a_datagram_that_went_nowhere_goes_nowhere() {
    let mut stage = stage();
    let nobody = udp().from(CLIENT).to("10.0.0.80:54").payload_len(100).build();
    let parts = cut(&nobody, &[64], 4);
    stage.refused(DropReason::NoService, CLIENTS, MemBuf::from_bytes(&parts[0]));
    stage.refused(DropReason::FragmentNoSession, CLIENTS, MemBuf::from_bytes(&parts[1]));
    let elsewhere = udp().from(CLIENT).to("192.0.2.9:54").payload_len(100).build();
    let parts = cut(&elsewhere, &[64], 5);
    stage.refused(DropReason::NotForwarding, CLIENTS, MemBuf::from_bytes(&parts[0]));
    stage.refused(DropReason::FragmentNoSession, CLIENTS, MemBuf::from_bytes(&parts[1]));
    // The host's own.
    let host = udp().from(CLIENT).to("10.0.0.1:54").payload_len(100).build();
    for part in cut(&host, &[64], 6) {
        assert_eq!(feed(&mut stage, CLIENTS, &part), (Verdict::Release, 0));
    }
    assert_eq!(stage.director.pieces(), (0, 0));
    // The end of its life, in the middle.
    let dying = question(false, 100).ttl(1).build();
    let parts = cut(&dying, &[64], 7);
    stage.refused(DropReason::TtlExceeded, CLIENTS, MemBuf::from_bytes(&parts[0]));
    let parts = cut(&question(false, 100).build(), &[64], 8);
    assert_eq!(feed(&mut stage, CLIENTS, &parts[0]), GONE);
    let late = cut(&question(false, 100).ttl(1).build(), &[64], 8);
    stage.refused(DropReason::TtlExceeded, CLIENTS, MemBuf::from_bytes(&late[1]));
}

/// A piece cannot grow: the address goes with the next whole segment, or the piece does not go at all.
#[test]
fn a_piece_gets_no_address_option() {
    for (policy, expected) in [
        (NoToaRoom::SeparateAck, (Verdict::Forward(SERVERS), 1)),
        (NoToaRoom::Drop, drop(DropReason::NoToaRoom)),
    ] {
        let mut plan = plan(Forwarding::FullNat);
        for service in &mut plan.spec.services {
            let toa = ToaOptions { no_room: policy, ..ToaOptions::default() };
            service.client_addr = ClientAddrMode::Toa(toa);
        }
        let mut stage = plan.stage();
        stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
        let reply = stage.reply().syn().ack(8).seq(99).build_buf();
        stage.pass(SERVERS, reply);
        let segment = from_client().seq(8).ack(100).payload_len(100).dont_fragment(false).build();
        let parts = cut(&segment, &[64], 3);
        let inserted = stage.director.counters().toa_inserted;
        assert_eq!(feed(&mut stage, CLIENTS, &parts[0]), expected, "{policy:?}");
        assert_eq!(stage.director.counters().toa_no_room, 1);
        assert_eq!(stage.director.counters().toa_inserted, inserted);
        // The next one carries it.
        stage.pass(CLIENTS, from_client().seq(108).ack(100).payload_len(9).build_buf());
        assert_eq!(stage.director.counters().toa_inserted, inserted + 1);
    }
}

/// A PROXY header in front of a piece would shift it against the others: until the server has the header, a segment
/// in pieces does not go.
#[test]
fn a_piece_gets_no_proxy_header() {
    let mut plan = plan(Forwarding::FullNat);
    for service in &mut plan.spec.services {
        service.client_addr = ClientAddrMode::Proxy(ProxyOptions::default());
    }
    let mut stage = plan.stage();
    stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
    let reply = stage.reply().syn().ack(8).seq(99).build_buf();
    stage.pass(SERVERS, reply);
    let segment = from_client().seq(8).ack(100).payload_len(100).dont_fragment(false).build();
    let parts = cut(&segment, &[64], 3);
    stage.refused(DropReason::Fragment, CLIENTS, MemBuf::from_bytes(&parts[0]));
    assert_eq!(stage.director.counters().proxy_sent, 0);
}
