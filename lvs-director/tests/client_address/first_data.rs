//! The first bytes of a client behind a PROXY header, however it sends them: as the server reads them, and as the
//! client reads the answers.

use crate::conversation::{Conversation, Left, SERVER_ISN};
use crate::support;
use crate::support::bench::MAC;
use crate::world::proxy;
use lvs_core::io::PacketBuf;
use lvs_core::service::{ClientAddrMode, ClientHeader, ProxyOptions, ProxyTiming, ProxyVersion};
use lvs_core::session::HeapMemory;
use lvs_core::verdict::DropReason;
use lvs_testkit::build::{IcmpError, icmp_error, pattern, udp};
use lvs_testkit::net::read_proxy;

const FIN: u8 = 1;
const RST: u8 = 4;
/// Bytes of a header of version 2 for IPv4.
const V2: u32 = 28;

fn v2() -> ProxyOptions {
    proxy(ProxyVersion::V2)
}

fn opened(options: ProxyOptions, memory: &mut HeapMemory) -> Conversation<'_> {
    Conversation::opened(ClientAddrMode::Proxy(options), false, 0xffff_fff8, memory)
}

/// Checks the header in front and returns what stands behind it.
fn behind_header<'a>(talk: &Conversation<'_>, payload: &'a [u8]) -> &'a [u8] {
    let (proxied, len) = read_proxy(payload).unwrap().unwrap();
    assert_eq!((proxied.client, proxied.virt), (talk.client, talk.service));
    &payload[len..]
}

/// The only segment, which brings the header and `bytes`.
fn brings(talk: &Conversation<'_>, left: &[Left], bytes: &[u8]) {
    assert_eq!(left.len(), 1);
    assert_eq!(talk.place(&left[0]), 0);
    assert_eq!(behind_header(talk, &left[0].fields.payload), bytes);
}

#[test]
fn the_acknowledgement_of_the_handshake_brings_no_header_and_the_first_data_does() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        for v6 in [false, true] {
            let mut memory = support::memory();
            let mode = ClientAddrMode::Proxy(proxy(version));
            let mut talk = Conversation::opened(mode, v6, 5, &mut memory);
            let ack = talk.serve(talk.says(0, 0, "").build_buf());
            assert_eq!((ack.len(), talk.place(&ack[0]), ack[0].fields.payload.len()), (1, 0, 0));
            let left = talk.serve(talk.says(0, 0, "hello").build_buf());
            brings(&talk, &left, b"hello");
        }
    }
}

/// The numbers of the client and of the server wrap here, too: at other places.
#[test]
fn a_retransmission_gets_the_same_bytes_split_and_coalesced_too() {
    let mut memory = support::memory();
    let mut talk = opened(v2(), &mut memory);
    let first = talk.serve(talk.says(0, 0, "hello ").build_buf());
    brings(&talk, &first, b"hello ");
    let again = talk.serve(talk.says(0, 0, "hello ").build_buf());
    assert_eq!(again[0].fields.segment, first[0].fields.segment, "the same segment");
    let split = talk.serve(talk.says(0, 0, "hel").build_buf());
    brings(&talk, &split, b"hel");
    let coalesced = talk.serve(talk.says(0, 0, "hello world").build_buf());
    brings(&talk, &coalesced, b"hello world");
    // What stands behind the first byte moves, and carries no header.
    let rest = talk.serve(talk.says(3, 0, "lo world").build_buf());
    assert_eq!(talk.place(&rest[0]), 3 + V2);
    assert_eq!(rest[0].fields.payload, b"lo world");
    // And a pure acknowledgement must not look old.
    let ack = talk.serve(talk.says(11, 0, "").build_buf());
    assert_eq!(talk.place(&ack[0]), 11 + V2);
    assert_eq!(talk.bench.director.counters().proxy_sent, 4);
}

/// Of both sides, at every place where a number may be 0: the SYN, the first byte, the byte behind it.
#[test]
fn sequence_numbers_that_wrap_change_nothing() {
    for (isn, theirs) in [(u32::MAX, u32::MAX), (u32::MAX - 1, u32::MAX - 1), (0, 0)] {
        let mut memory = support::memory();
        let mut talk = Conversation::new(ClientAddrMode::Proxy(v2()), false, isn, &mut memory);
        talk.server_starts = theirs;
        talk.open(talk.client().syn().seq(isn).mss(1460));
        let left = talk.serve(talk.says(0, 0, "hello").build_buf());
        brings(&talk, &left, b"hello");
        let left = talk.reply(talk.answers(0, V2 + 5, "hi").build_buf());
        assert_eq!(talk.acked(&left), 5);
        let left = talk.serve(talk.says(5, 2, "!").build_buf());
        assert_eq!(talk.place(&left[0]), V2 + 5);
    }
}

#[test]
fn answers_count_what_the_client_has_sent() {
    let mut memory = support::memory();
    let mut talk = opened(v2(), &mut memory);
    talk.serve(talk.says(0, 0, "hello ").build_buf());
    talk.serve(talk.says(6, 0, "world").build_buf());
    // Parts of the header are nothing to the client, all of it neither.
    for part in [0, 1, 27, 28] {
        let left = talk.reply(talk.answers(0, part, "").build_buf());
        assert_eq!(talk.acked(&left), 0, "{part}");
        assert_eq!(talk.session().plain, part == V2);
    }
    let left = talk.reply(talk.answers(0, V2 + 6, "").build_buf());
    assert_eq!(talk.acked(&left), 6);
    let left = talk.reply(talk.answers(0, V2 + 11, "hi").build_buf());
    assert_eq!(talk.acked(&left), 11);
    let left = talk.serve(talk.says(11, 2, "!").build_buf());
    assert_eq!(talk.place(&left[0]), 11 + V2);
    // An old segment that comes late lies below what the server has.
    let late = talk.serve(talk.says(0, 0, "hello ").build_buf());
    assert!(talk.place(&late[0]).wrapping_sub(V2 + 11) as i32 + 6 <= 0);
}

#[test]
fn a_settled_header_makes_the_session_plain() {
    let mut memory = support::memory();
    let mut talk = opened(v2(), &mut memory);
    talk.serve(talk.says(0, 0, "hello").build_buf());
    let before = talk.session();
    assert!(!before.plain);
    talk.reply(talk.answers(0, V2 + 5, "").build_buf());
    let after = talk.session();
    assert!(after.plain);
    let (before, after) = (before.translation.seq_delta, after.translation.seq_delta);
    assert_eq!(after.wrapping_sub(before), V2);
}

#[test]
fn selective_acknowledgements_are_mapped_across_the_header() {
    let mut memory = support::memory();
    let mut talk = opened(v2(), &mut memory);
    talk.serve(talk.says(0, 0, "hello ").build_buf());
    talk.serve(talk.says(6, 0, "world").build_buf());
    let at = |offset: u32| talk.server_isn.wrapping_add(1).wrapping_add(offset);
    let blocks = [(at(V2 + 6), at(V2 + 11))];
    let left = talk.reply(talk.answers(0, 0, "").sack(&blocks).build_buf());
    assert_eq!(talk.acked(&left), 0);
    let sack = left.tcp().option(5).unwrap();
    let edge = |at: usize| u32::from_be_bytes(sack[at..at + 4].try_into().unwrap());
    let offset = |number: u32| number.wrapping_sub(talk.isn).wrapping_sub(1);
    assert_eq!((offset(edge(0)), offset(edge(4))), (6, 11));
}

#[test]
fn a_fin_brings_the_header_with_and_without_data() {
    for payload in ["", "bye"] {
        let mut memory = support::memory();
        let mut talk = opened(v2(), &mut memory);
        let left = talk.serve(talk.says(0, 0, payload).fin().build_buf());
        brings(&talk, &left, payload.as_bytes());
        assert_ne!(left[0].tcp().flags & FIN, 0);
        let count = u32::try_from(payload.len()).unwrap() + 1;
        let left = talk.reply(talk.answers(0, V2 + count, "").build_buf());
        assert_eq!(talk.acked(&left), count);
    }
}

#[test]
fn a_full_first_segment_goes_behind_a_segment_with_the_header() {
    let mut memory = support::memory();
    let mut talk = opened(v2(), &mut memory);
    let full = pattern(1460);
    for _ in 0..2 {
        let left = talk.serve(talk.says(0, 0, &full).build_buf());
        assert_eq!(left.len(), 2, "header, then data");
        brings(&talk, &left[..1], b"");
        assert_eq!(talk.place(&left[1]), V2);
        assert_eq!(left[1].fields.payload, full);
        assert_eq!(left[1].frame.len(), 1514);
    }
    assert_eq!(talk.bench.director.counters().proxy_ahead, 2);
}

#[test]
fn data_in_a_syn_is_taken_out_with_its_announcement() {
    let mut memory = support::memory();
    let mode = ClientAddrMode::Proxy(v2());
    for options in [&[34, 6, 1, 2, 3, 4, 1, 1][..], &[254, 8, 0xf9, 0x89, 1, 2, 3, 4]] {
        let mut talk = Conversation::new(mode, false, 77, &mut memory);
        let syn = talk.client().syn().seq(77).options(options).payload("early").build_buf();
        let left = talk.serve(syn);
        assert_eq!((left.len(), left[0].fields.payload.len()), (1, 0));
        assert!(left[0].tcp().options.iter().all(|byte| *byte == 1), "{:?}", left[0].tcp());
        assert_eq!(talk.bench.director.counters().syn_data_cut, 1);
        // The same for a repeated SYN.
        let syn = talk.client().syn().seq(77).options(options).payload("early").build_buf();
        assert_eq!(talk.serve(syn)[0].fields.payload.len(), 0);
    }
}

#[test]
fn what_overtakes_the_first_byte_waits_for_its_retransmission() {
    let mut memory = support::memory();
    let mut talk = opened(v2(), &mut memory);
    talk.refused(DropReason::ProxyOrder, talk.says(5, 0, "world").build_buf());
    let left = talk.serve(talk.says(0, 0, "hello").build_buf());
    brings(&talk, &left, b"hello");
    let left = talk.serve(talk.says(5, 0, "world").build_buf());
    assert_eq!(talk.place(&left[0]), V2 + 5);
}

#[test]
fn a_damaged_segment_decides_nothing_and_settles_nothing() {
    let mut memory = support::memory();
    let mut talk = opened(v2(), &mut memory);
    talk.refused(DropReason::BadL4Checksum, talk.says(0, 0, "hello").wrong_l4_csum().build_buf());
    talk.serve(talk.says(0, 0, "hello").build_buf());
    let (_, frames) = talk
        .bench
        .feed(support::bench::SERVERS, talk.answers(0, V2 + 5, "").wrong_l4_csum().build_buf());
    assert_eq!(frames.len(), 1, "a wrong checksum in is a wrong checksum out");
    assert!(lvs_testkit::oracle::checksums_ok(&frames[0].1).is_err());
    assert!(!talk.session().plain);
    // So the header is still there for who repeats.
    let left = talk.serve(talk.says(0, 0, "hello").build_buf());
    brings(&talk, &left, b"hello");
}

#[test]
fn a_clients_own_header_gives_way_is_translated_or_stays_by_policy() {
    let theirs = "PROXY TCP4 192.0.2.7 203.0.113.1 1000 80\r\n";
    let said = format!("{theirs}hello");
    let with = |client| ProxyOptions { client, ..v2() };
    let mut memory = support::memory();
    let mut talk = opened(with(ClientHeader::Replace), &mut memory);
    for _ in 0..2 {
        let left = talk.serve(talk.says(0, 0, &said).build_buf());
        brings(&talk, &left, b"hello");
    }
    let end = u32::try_from(said.len()).unwrap();
    let left = talk.reply(talk.answers(0, V2 + 5, "").build_buf());
    assert_eq!(talk.acked(&left), end);
    let left = talk.serve(talk.says(end, 0, "!").build_buf());
    assert_eq!(talk.place(&left[0]), V2 + 5);
    assert_eq!(talk.bench.director.counters().proxy_replaced, 1);

    let mut memory = support::memory();
    let mut talk = opened(with(ClientHeader::Convert), &mut memory);
    for _ in 0..2 {
        let left = talk.serve(talk.says(0, 0, &said).build_buf());
        let (proxied, len) = read_proxy(&left[0].fields.payload).unwrap().unwrap();
        assert_eq!((proxied.client, proxied.version), ("192.0.2.7:1000".parse().unwrap(), 2));
        assert_eq!(left[0].fields.payload[len..], *b"hello");
    }
    // A part of the client's header is not enough to translate it once more.
    talk.refused(DropReason::ProxyOrder, talk.says(0, 0, &said[..10]).build_buf());

    let mut memory = support::memory();
    let mut talk = opened(with(ClientHeader::Keep), &mut memory);
    let left = talk.serve(talk.says(0, 0, &said).build_buf());
    assert_eq!((talk.place(&left[0]), &left[0].fields.payload[..]), (0, said.as_bytes()));
    assert_eq!(talk.bench.director.counters().proxy_kept, 1);
}

/// Our header is longer than the client's, and the segment is full.
#[test]
fn a_clients_own_header_in_a_full_segment_gives_way_to_one_ahead() {
    let mut memory = support::memory();
    let mut talk = opened(v2(), &mut memory);
    let said = [&b"PROXY UNKNOWN\r\n"[..], &pattern(1445)].concat();
    let left = talk.serve(talk.says(0, 0, &said).build_buf());
    assert_eq!(left.len(), 2);
    brings(&talk, &left[..1], b"");
    assert_eq!(talk.place(&left[1]), V2);
    assert_eq!(left[1].fields.payload, said[15..]);
}

#[test]
fn a_reset_has_the_number_that_the_server_expects() {
    // What the server has acknowledged last says what it expects, within the header too.
    for (acked, at, expected) in [(0, 0, 0), (V2, 0, V2), (10, 0, 10), (V2 + 5, 5, V2 + 5)] {
        let mut memory = support::memory();
        let mut talk = opened(v2(), &mut memory);
        talk.serve(talk.says(0, 0, "hello").build_buf());
        if acked > 0 {
            talk.reply(talk.answers(0, acked, "").build_buf());
        }
        let left = talk.serve(talk.says(at, 0, "").rst().build_buf());
        assert_ne!(left[0].tcp().flags & RST, 0);
        assert_eq!(talk.place(&left[0]), expected, "{acked} acknowledged, reset at {at}");
    }
}

#[test]
fn an_error_about_a_moved_segment_quotes_the_clients_number() {
    let mut memory = support::memory();
    let mut talk = opened(v2(), &mut memory);
    talk.serve(talk.says(0, 0, "hello").build_buf());
    let sent = talk.says(5, 0, "world").build_buf();
    let seq = lvs_testkit::oracle::fields(sent.data()).unwrap().tcp.unwrap().seq;
    let moved = talk.serve(sent);
    let server = talk.session().quad.server.0;
    for quote in [28, 60] {
        let error = icmp_error(IcmpError::NoRoute, &moved[0].frame, quote)
            .from(server)
            .to(talk.session().quad.local.0)
            .dst_mac(MAC)
            .build_buf();
        let left = talk.reply(error);
        let quoted = &left.frame[14 + 20 + 8 + 20..];
        assert_eq!(u32::from_be_bytes(quoted[4..8].try_into().unwrap()), seq);
    }
}

#[test]
fn a_server_that_speaks_first_gets_the_header_with_the_handshake() {
    let mut memory = support::memory();
    let options = ProxyOptions { timing: ProxyTiming::Handshake, ..v2() };
    let mut talk = opened(options, &mut memory);
    for _ in 0..2 {
        let left = talk.serve(talk.says(0, 0, "").build_buf());
        brings(&talk, &left, b"");
    }
    assert_eq!(talk.bench.director.counters().proxy_alone, 2);
    let left = talk.serve(talk.says(0, 0, "early").build_buf());
    brings(&talk, &left, b"early");
    talk.reply(talk.answers(0, V2, "220 hello").build_buf());
    let left = talk.serve(talk.says(5, 9, "").build_buf());
    assert_eq!((talk.place(&left[0]), left[0].fields.payload.len()), (V2 + 5, 0));
    assert_eq!(left[0].tcp().ack, SERVER_ISN.wrapping_add(10));
}

#[test]
fn the_first_datagram_of_a_session_gets_the_header_and_no_other() {
    let mut memory = support::memory();
    let spec =
        crate::world::spec(lvs_core::service::Forwarding::FullNat, ClientAddrMode::Proxy(v2()));
    let mut bench =
        support::bench::Bench::new(spec, &mut memory, lvs_core::io::mem::MemPort::plain(MAC));
    let ask = || udp().from("10.0.0.2:5000").to("10.0.0.80:53").dst_mac(MAC).payload("question");
    for first in [true, false] {
        let (_, frames) = bench.feed(support::bench::CLIENTS, ask().build_buf());
        lvs_testkit::oracle::checksums_ok(&frames[0].1).unwrap();
        let payload = lvs_testkit::oracle::fields(&frames[0].1).unwrap().payload;
        if first {
            let (proxied, len) = read_proxy(&payload).unwrap().unwrap();
            assert_eq!(proxied.client, "10.0.0.2:5000".parse().unwrap());
            assert_eq!(payload[len..], *b"question");
        } else {
            assert_eq!(payload, b"question");
        }
    }
    // One without room is refused, and its sender told.
    let big =
        udp().from("10.0.0.2:5001").to("10.0.0.80:53").dst_mac(MAC).payload_len(1472).build_buf();
    let (report, _) = bench.feed(support::bench::CLIENTS, big);
    assert_eq!(report.verdict, lvs_core::verdict::Verdict::Drop(DropReason::TooBig));
    assert_eq!(bench.sessions().len(), 1);
}
