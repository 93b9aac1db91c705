//! Connections that fall silent until their session expires: both ends are told, in their own numbers.

mod support;

use core::time::Duration;
use lvs_core::event::{Closed, Event};
use lvs_core::io::mem::MemPort;
use lvs_core::persistence::Persistence;
use lvs_core::service::Forwarding;
use lvs_core::session::{HeapMemory, TcpState};
use lvs_core::snapshot::SnapshotSpec;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{tcp, udp};
use support::bench::{Bench, CLIENTS, MAC, SERVERS};
use support::talk::{
    CLIENT, ISN, SERVICE, Said, THEIRS, connect, from_client, from_server, said, to_client,
    to_server,
};

fn spec(forwarding: Forwarding, reset_on_expiry: bool) -> SnapshotSpec {
    let mut spec = support::spec(forwarding);
    for service in &mut spec.services {
        service.flags.reset_on_expiry = reset_on_expiry;
    }
    spec
}

fn bench(forwarding: Forwarding, memory: &mut HeapMemory) -> Bench<'_> {
    Bench::new(spec(forwarding, true), memory, MemPort::plain(MAC))
}

/// Silence for so many seconds, one round behind it. What left.
fn silence(bench: &mut Bench<'_>, seconds: u64) -> Vec<Said> {
    bench.now += seconds * 1_000_000_000;
    bench.turn().iter().map(said).collect()
}

fn closed(bench: &mut Bench<'_>, wanted: Closed) -> usize {
    let events = core::iter::from_fn(|| bench.director.poll_event());
    events
        .filter(|event| matches!(event, Event::SessionClosed { why, .. } if *why == wanted))
        .count()
}

#[test]
fn both_ends_are_reset_with_the_numbers_that_they_expect() {
    for forwarding in [Forwarding::FullNat, Forwarding::Nat] {
        let mut memory = support::memory();
        let mut bench = bench(forwarding, &mut memory);
        let all = connect(&mut bench, true);
        // More has passed than the handshake shows.
        from_client(&mut bench, &[7; 900], 1, 6);
        from_server(&mut bench, &all, &[8; 300], 6, all.next + 900);
        from_client(&mut bench, &[], 901, 306);
        assert_eq!(silence(&mut bench, 85), [], "nothing expires early (INV-8)");
        let questions = silence(&mut bench, 10);
        let [question] = &questions[..] else { panic!("{questions:?}") };
        assert_eq!((question.port, question.to), (SERVERS, all.server));
        assert_eq!((question.from, question.flags), (all.client, 0x10));
        assert!(question.seq.wrapping_sub(all.next) > u32::MAX / 2, "behind the server's window");
        let session = bench.sessions()[0];
        assert!(session.reset_owed && session.state == TcpState::Close);
        // What RFC 9293 section 3.10.7.4 makes the server say.
        let (verdict, frames) = from_server(&mut bench, &all, &[], 306, all.next + 900);
        assert_eq!(verdict, Verdict::Drop(DropReason::SessionReset));
        let expected = [to_client(THEIRS + 306), to_server(&all, all.next + 900)];
        let (mut frames, mut expected) = (frames, expected.to_vec());
        frames.sort_by_key(|said| said.port);
        expected.sort_by_key(|said| said.port);
        assert_eq!(frames, expected);
        assert_eq!(silence(&mut bench, 4), []);
        assert!(bench.sessions().is_empty());
        assert_eq!(closed(&mut bench, Closed::Expired), 1);
        let counters = bench.director.counters();
        assert_eq!((counters.sessions_reset, counters.sessions_expired), (1, 1));
        assert_eq!(bench.director.store().ports_in_use(), 0);
    }
}

#[test]
fn an_ipv6_connection_is_reset_behind_the_data_of_the_segment_that_tells_the_numbers() {
    let mut memory = support::memory();
    let mut bench = bench(Forwarding::FullNat, &mut memory);
    let (client, vip) = ("[fd00::2]:40000", "[fd00::80]:80");
    let from_client = |flags: u8, seq: u32, ack: u32, len: usize| {
        tcp().flags(flags).seq(seq).ack(ack).payload_len(len).from(client).to(vip).dst_mac(MAC)
    };
    let syn = tcp().syn().seq(ISN).from(client).to(vip).dst_mac(MAC).build_buf();
    let seen = said(&bench.feed(CLIENTS, syn).1[0]);
    let answer = tcp().syn().seq(THEIRS).ack(seen.seq + 1).from(seen.to).to(seen.from);
    bench.feed(SERVERS, answer.dst_mac(MAC).build_buf());
    bench.feed(CLIENTS, from_client(0x10, ISN + 1, THEIRS + 1, 0).build_buf());
    assert_eq!(silence(&mut bench, 95).len(), 1);
    // The server sends, and its 77 bytes of payload are what the client is to expect to have had.
    let late = tcp().flags(0x18).seq(THEIRS + 1).ack(seen.seq + 1).payload_len(77);
    let late = late.from(seen.to).to(seen.from).dst_mac(MAC).build_buf();
    let told: Vec<Said> = bench.feed(SERVERS, late).1.iter().map(said).collect();
    let seqs: Vec<(u16, u32)> = told.iter().map(|said| (said.port.0, said.seq)).collect();
    assert!(seqs.contains(&(0, THEIRS + 1)) && seqs.contains(&(1, seen.seq + 1)), "{told:?}");
    // The client sends: the server is told with the number in front of the payload, the client with its acknowledgement.
    let told = bench.feed(CLIENTS, from_client(0x18, ISN + 1, THEIRS + 1, 55).build_buf()).1;
    let told: Vec<Said> = told.iter().map(said).collect();
    let seqs: Vec<(u16, u32)> = told.iter().map(|said| (said.port.0, said.seq)).collect();
    assert!(seqs.contains(&(0, THEIRS + 1)) && seqs.contains(&(1, seen.seq + 1)), "{told:?}");
    // Without an acknowledgement: all of the payload and the FIN are acknowledged, none of the IP header's bytes.
    let fin = tcp().flags(0x01).seq(ISN + 1).payload_len(55).from(client).to(vip).dst_mac(MAC);
    let told = bench.feed(CLIENTS, fin.build_buf()).1;
    let told: Vec<Said> = told.iter().map(said).collect();
    assert!(
        told.iter().any(|said| said.port == CLIENTS && said.ack == ISN + 1 + 55 + 1),
        "{told:?}"
    );
}

#[test]
fn a_client_that_speaks_again_meanwhile_is_reset_though_the_server_is_silent() {
    let mut memory = support::memory();
    let mut bench = bench(Forwarding::FullNat, &mut memory);
    let all = connect(&mut bench, true);
    assert_eq!(silence(&mut bench, 95).len(), 1);
    let (verdict, frames) = from_client(&mut bench, b"hello", 1, 6);
    assert_eq!(verdict, Verdict::Drop(DropReason::SessionReset));
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert!(frames.contains(&to_client(THEIRS + 6)) && frames.contains(&to_server(&all, all.next)));
}

#[test]
fn whoever_does_not_answer_is_not_told_and_the_session_ends_all_the_same() {
    let mut memory = support::memory();
    let mut bench = bench(Forwarding::FullNat, &mut memory);
    connect(&mut bench, true);
    assert_eq!(silence(&mut bench, 95).len(), 1);
    assert_eq!((silence(&mut bench, 2), bench.sessions().len()), (Vec::new(), 1));
    assert_eq!((silence(&mut bench, 2), bench.sessions().len()), (Vec::new(), 0));
}

#[test]
fn nobody_is_told_of_what_was_not_open() {
    type Stop = fn(&mut Bench<'_>);
    let stops: [(&str, Stop); 5] = [
        ("half open", |bench| {
            let syn = tcp().syn().seq(ISN).from(CLIENT).to(SERVICE).dst_mac(MAC);
            bench.feed(CLIENTS, syn.build_buf());
        }),
        ("client has closed", |bench| {
            connect(bench, true);
            let fin = tcp().seq(ISN + 1).ack(THEIRS + 6).fin().from(CLIENT).to(SERVICE);
            bench.feed(CLIENTS, fin.dst_mac(MAC).build_buf());
        }),
        ("client has reset", |bench| {
            connect(bench, true);
            let rst = tcp().seq(ISN + 1).rst().from(CLIENT).to(SERVICE);
            bench.feed(CLIENTS, rst.dst_mac(MAC).build_buf());
        }),
        ("a datagram", |bench| {
            let packet = udp().from(CLIENT).to("10.0.0.80:53").dst_mac(MAC).build_buf();
            bench.feed(CLIENTS, packet);
        }),
        ("by configuration", |bench| {
            connect(bench, true);
            bench.reload(spec(Forwarding::FullNat, false));
        }),
    ];
    for (what, stop) in stops {
        let mut memory = support::memory();
        let mut bench = bench(Forwarding::FullNat, &mut memory);
        stop(&mut bench);
        assert_eq!(bench.sessions().len(), 1, "{what}");
        assert_eq!(silence(&mut bench, 310), [], "{what}");
        assert!(bench.sessions().is_empty(), "{what}");
        assert_eq!(bench.director.counters().sessions_reset, 0, "{what}");
    }
}

#[test]
fn sessions_whose_replies_pass_elsewhere_end_without_a_word() {
    for forwarding in [Forwarding::Dr, Forwarding::Tun] {
        let mut memory = support::memory();
        let mut bench = bench(forwarding, &mut memory);
        let syn = tcp().syn().seq(ISN).from(CLIENT).to(SERVICE).dst_mac(MAC).build_buf();
        bench.feed(CLIENTS, syn);
        let ack = tcp().seq(ISN + 1).ack(THEIRS + 1).from(CLIENT).to(SERVICE).dst_mac(MAC);
        bench.feed(CLIENTS, ack.build_buf());
        assert_eq!(bench.sessions()[0].state, TcpState::Established);
        assert_eq!(silence(&mut bench, 95), []);
        assert!(bench.sessions().is_empty());
    }
}

#[test]
fn the_client_belongs_to_its_server_no_longer_for_it() {
    let mut memory = support::memory();
    let mut spec = spec(Forwarding::FullNat, true);
    spec.services[0].persistence =
        Some(Persistence { timeout: Duration::from_secs(20), ..Persistence::default() });
    let mut bench = Bench::new(spec, &mut memory, MemPort::plain(MAC));
    connect(&mut bench, true);
    assert_eq!(silence(&mut bench, 89), []);
    // 95 s behind its last packet the client's time is over: the reset does not count as a packet.
    assert_eq!(silence(&mut bench, 6).len(), 1);
    connect(&mut bench, false);
    let counters = bench.director.counters();
    assert_eq!((counters.sessions_opened, counters.sessions_persistent), (2, 0));
}

#[test]
fn however_many_expire_at_once_all_are_asked() {
    let mut memory = support::memory();
    let mut bench = bench(Forwarding::FullNat, &mut memory);
    const MANY: u16 = 300;
    for port in 0..MANY {
        let client = format!("10.0.0.2:{}", 20_000 + port);
        let syn = tcp().syn().seq(ISN).from(&*client).to(SERVICE).dst_mac(MAC).build_buf();
        let (_, frames) = bench.feed(CLIENTS, syn);
        let seen = said(&frames[0]);
        let answer = tcp().syn().seq(THEIRS).ack(seen.seq + 1).from(seen.to).to(seen.from);
        bench.feed(SERVERS, answer.dst_mac(MAC).build_buf());
        let ack = tcp().seq(ISN + 1).ack(THEIRS + 1).from(&*client).to(SERVICE).dst_mac(MAC);
        bench.feed(CLIENTS, ack.build_buf());
    }
    bench.now += 95_000_000_000;
    let mut asked = 0;
    while bench.director.counters().sessions_reset < MANY.into() || asked < usize::from(MANY) {
        let now = bench.turn().len();
        assert!(now > 0 && now <= 64, "{now} questions in one round");
        asked += now;
    }
    assert_eq!(asked, usize::from(MANY));
    // Who still has questions to send does not sleep.
    assert_ne!(bench.director.next_deadline(Time(bench.now)), Some(Time(bench.now)));
    silence(&mut bench, 4);
    assert!(bench.sessions().is_empty());
}
