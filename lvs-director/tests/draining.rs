//! Servers that go away: who is left alone, when the others are reset, and with which numbers.

mod support;

use core::net::IpAddr;
use core::time::Duration;
use lvs_core::event::{Closed, Event};
use lvs_core::id::ServerId;
use lvs_core::io::mem::MemPort;
use lvs_core::service::{Forwarding, ServerState};
use lvs_core::session::{HeapMemory, TcpState};
use lvs_core::shared::Thresholds;
use lvs_core::snapshot::SnapshotSpec;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{tcp, udp};
use support::bench::{Bench, CLIENTS, MAC, SERVERS};
use support::talk::{
    CLIENT, ISN, SERVICE, Said, THEIRS, connect, from_client, from_server, said, to_client,
    to_server,
};

fn bench(forwarding: Forwarding, memory: &mut HeapMemory) -> Bench<'_> {
    Bench::new(support::spec(forwarding), memory, MemPort::plain(MAC))
}

fn with_first(forwarding: Forwarding, state: ServerState) -> SnapshotSpec {
    let mut spec = support::spec(forwarding);
    for service in &mut spec.services {
        service.servers[0].state = state;
    }
    spec
}

/// The worker goes on until it has nothing more to do; what leaves.
fn settle(bench: &mut Bench<'_>) -> Vec<Said> {
    let mut all: Vec<_> = bench.turn().iter().map(said).collect();
    while bench.director.next_deadline(Time(bench.now)) == Some(Time(bench.now)) {
        all.extend(bench.turn().iter().map(said));
    }
    all.sort_by_key(|said| said.port);
    all
}

fn drained(bench: &mut Bench<'_>) -> usize {
    let events = core::iter::from_fn(|| bench.director.poll_event());
    events
        .filter(|event| matches!(event, Event::SessionClosed { why: Closed::Drained, .. }))
        .count()
}

const FIRST: ServerId = ServerId(0);

#[test]
fn until_the_deadline_sessions_go_on_and_new_ones_go_elsewhere() {
    for forwarding in [Forwarding::FullNat, Forwarding::Nat] {
        let mut memory = support::memory();
        let mut bench = bench(forwarding, &mut memory);
        let connection = connect(&mut bench, true);
        assert_eq!(bench.director.draining(FIRST), None);
        let minute = Duration::from_secs(60);
        let within = Some(minute);
        bench.reload(with_first(forwarding, ServerState::Draining { within }));
        let drain = bench.director.draining(FIRST).unwrap();
        assert_eq!((drain.deadline, drain.sessions), (Some(Time(bench.now).after(minute)), 1));
        for second in 1..58 {
            bench.pass(Duration::from_secs(1), Duration::from_millis(100));
            let (verdict, frames) = from_client(&mut bench, b"more", second * 4 - 3, 6);
            assert!(matches!(verdict, Verdict::Forward(SERVERS)), "{verdict:?}");
            assert_eq!(frames.len(), 1);
            let (verdict, _) =
                from_server(&mut bench, &connection, &[], 6, connection.next + second * 4);
            assert!(matches!(verdict, Verdict::Forward(CLIENTS)), "{verdict:?}");
            let syn = tcp().syn().from((IpAddr::from([10, 0, 0, 3]), 1000 + second as u16));
            let (report, _) = bench.feed(CLIENTS, syn.to(SERVICE).dst_mac(MAC).build_buf());
            assert_eq!(report.server, Some(ServerId(1)));
        }
        // A reload in between begins no new time.
        bench.reload(with_first(forwarding, ServerState::Draining { within }));
        assert_eq!(bench.director.draining(FIRST).unwrap().deadline, drain.deadline);
        assert_eq!(bench.director.counters().sessions_reset, 0);
    }
}

#[test]
fn at_the_deadline_the_server_is_asked_and_both_ends_are_reset_with_exact_numbers() {
    for forwarding in [Forwarding::FullNat, Forwarding::Nat] {
        for data in [true, false] {
            let mut memory = support::memory();
            let mut bench = bench(forwarding, &mut memory);
            let connection = connect(&mut bench, data);
            let received = if data { 6 } else { 1 };
            bench.reload(with_first(forwarding, ServerState::DownKill));
            settle(&mut bench);
            let mut memory = support::memory();
            let mut again = self::bench(forwarding, &mut memory);
            let connection_again = connect(&mut again, data);
            let within = Some(Duration::from_secs(5));
            again.reload(with_first(forwarding, ServerState::Draining { within }));
            again.now += Duration::from_secs(5).as_nanos() as u64;
            let asked = settle(&mut again);
            // Outside of the window: the server has to answer.
            let question =
                Said { flags: 16, ..to_server(&connection_again, connection_again.next - 1) };
            assert_eq!(asked.len(), 1);
            assert_eq!(Said { ack: 0, ..asked[0].clone() }, question);
            // The kill took place during the reload; the server answers either question the same.
            for (bench, connection) in [(&mut bench, &connection), (&mut again, &connection_again)]
            {
                let (verdict, frames) =
                    from_server(bench, connection, &[], received, connection.next);
                assert_eq!(verdict, Verdict::Drop(DropReason::SessionReset));
                let mut frames = frames;
                frames.sort_by_key(|said| said.port);
                assert_eq!(
                    frames,
                    [to_client(THEIRS + received), to_server(connection, connection.next)]
                );
                assert_eq!(bench.director.counters().sessions_reset, 1);
                bench.pass(Duration::from_secs(4), Duration::from_millis(100));
                assert_eq!(bench.director.store().len(), 0, "{forwarding}");
                let count = *bench.director.generation().server_count(FIRST).unwrap();
                assert_eq!((count.ended, count.moved), (1, 0));
                assert_eq!(bench.director.draining(FIRST).unwrap().sessions, 0);
            }
        }
    }
}

#[test]
fn whoever_speaks_first_is_reset_with_what_he_acknowledges_and_the_other_with_what_comes_next() {
    for forwarding in [Forwarding::FullNat, Forwarding::Nat] {
        let mut memory = support::memory();
        let mut bench = bench(forwarding, &mut memory);
        let connection = connect(&mut bench, true);
        bench.reload(with_first(forwarding, ServerState::DownKill));
        settle(&mut bench);
        // The segment takes no effect, so the server expects its first byte.
        let (verdict, mut frames) = from_client(&mut bench, b"late", 1, 6);
        assert_eq!(verdict, Verdict::Drop(DropReason::SessionReset));
        frames.sort_by_key(|said| said.port);
        assert_eq!(frames, [to_client(THEIRS + 6), to_server(&connection, connection.next)]);
        // The client has got more meanwhile and objects; it is told again.
        let (_, mut frames) = from_client(&mut bench, &[], 1, 100);
        frames.sort_by_key(|said| said.port);
        assert_eq!(frames[0], to_client(THEIRS + 100));
        // Nobody answers a reset.
        let reset = tcp().rst().seq(THEIRS + 6).from(connection.server).to(connection.client);
        let (report, frames) = bench.feed(SERVERS, reset.dst_mac(MAC).build_buf());
        assert_eq!((report.verdict, frames.len()), (Verdict::Drop(DropReason::SessionReset), 0));
        // The client may try anew at once, and gets another server.
        let syn = tcp().syn().seq(9).from(CLIENT).to(SERVICE).dst_mac(MAC).build_buf();
        assert_eq!(bench.feed(CLIENTS, syn).0.server, Some(ServerId(1)));
    }
}

#[test]
fn a_corrupt_segment_resets_nobody() {
    let mut memory = support::memory();
    let mut bench = bench(Forwarding::FullNat, &mut memory);
    connect(&mut bench, true);
    bench.reload(with_first(Forwarding::FullNat, ServerState::DownKill));
    settle(&mut bench);
    let segment = tcp().seq(ISN + 1).ack(THEIRS + 6).from(CLIENT).to(SERVICE).dst_mac(MAC);
    let mut bytes = segment.build();
    bytes[40] ^= 1;
    let (_, frames) = bench.feed(CLIENTS, lvs_core::io::mem::MemBuf::from_bytes(&bytes));
    assert_eq!(frames.len(), 0);
}

#[test]
fn a_connection_that_is_not_open_yet_is_refused_with_the_numbers_of_its_syn() {
    for forwarding in [Forwarding::FullNat, Forwarding::Nat] {
        let mut memory = support::memory();
        let mut bench = bench(forwarding, &mut memory);
        let syn = tcp().syn().seq(ISN).from(CLIENT).to(SERVICE).dst_mac(MAC).build_buf();
        let (_, frames) = bench.feed(CLIENTS, syn);
        let seen = said(&frames[0]);
        let within = Some(Duration::from_secs(5));
        bench.reload(with_first(forwarding, ServerState::Draining { within }));
        bench.now += Duration::from_secs(5).as_nanos() as u64;
        let told = settle(&mut bench);
        let refused = Said { seq: 0, ack: ISN + 1, flags: 0x14, ..to_client(0) };
        let ended = Said { seq: seen.seq.wrapping_add(1), ack: 0, flags: 4, ..seen };
        assert_eq!(told, [refused, ended]);
    }
}

#[test]
fn udp_moves_at_the_deadline_and_what_is_over_goes_quietly() {
    let forwarding = Forwarding::FullNat;
    let mut memory = support::memory();
    let mut bench = bench(forwarding, &mut memory);
    let datagram = || udp().from("10.0.0.2:5353").to("10.0.0.80:53").dst_mac(MAC).build_buf();
    let first = bench.feed(CLIENTS, datagram()).0.server.unwrap();
    let within = Some(Duration::from_secs(30));
    bench.reload(with_first(forwarding, ServerState::Draining { within }));
    bench.pass(Duration::from_secs(29), Duration::from_millis(500));
    assert_eq!(bench.feed(CLIENTS, datagram()).0.server, Some(first));
    bench.pass(Duration::from_secs(2), Duration::from_millis(500));
    assert_eq!(drained(&mut bench), 1);
    assert_ne!(bench.feed(CLIENTS, datagram()).0.server, Some(first));
}

#[test]
fn a_server_that_is_down_for_new_ones_keeps_what_it_has() {
    let forwarding = Forwarding::Nat;
    let mut memory = support::memory();
    let mut bench = bench(forwarding, &mut memory);
    connect(&mut bench, true);
    bench.reload(with_first(forwarding, ServerState::DownKeep));
    bench.pass(Duration::from_secs(80), Duration::from_secs(1));
    let (verdict, frames) = from_client(&mut bench, b"more", 1, 6);
    assert_eq!((verdict, frames.len()), (Verdict::Forward(SERVERS), 1));
    assert_eq!(bench.director.draining(FIRST).unwrap().sessions, 1);
    for port in 1..5 {
        let syn = tcp().syn().from((IpAddr::from([10, 0, 0, 3]), port)).to(SERVICE).dst_mac(MAC);
        assert_eq!(bench.feed(CLIENTS, syn.build_buf()).0.server, Some(ServerId(1)));
    }
}

#[test]
fn every_session_of_a_large_table_is_reached_and_no_other() {
    let forwarding = Forwarding::Nat;
    let mut memory = support::memory();
    let mut bench = bench(forwarding, &mut memory);
    for port in 1..=600u16 {
        let from = (IpAddr::from([10, 0, 0, 2]), port);
        bench.feed(CLIENTS, udp().from(from).to("10.0.0.80:53").dst_mac(MAC).build_buf());
    }
    assert_eq!(bench.director.store().len(), 600);
    bench.reload(with_first(forwarding, ServerState::DownKill));
    settle(&mut bench);
    let left = bench.sessions();
    assert_eq!(left.len(), 300);
    let gone = bench.director.generation().snapshot().services().last().unwrap().servers[0];
    assert!(left.iter().all(|session| session.server != gone && session.state == TcpState::None));
}

#[test]
fn a_full_server_is_passed_over_and_all_full_ones_refuse_until_enough_has_ended() {
    let mut spec = support::spec(Forwarding::Nat);
    for server in &mut spec.services[2].servers {
        server.thresholds = Thresholds { upper: 4, lower: 2 };
    }
    let mut memory = support::memory();
    let mut bench = Bench::new(spec, &mut memory, MemPort::plain(MAC));
    let feed = |bench: &mut Bench<'_>, port: u16| {
        let from = (IpAddr::from([10, 0, 0, 2]), port);
        bench.feed(CLIENTS, udp().from(from).to("10.0.0.80:53").dst_mac(MAC).build_buf()).0
    };
    let taken: Vec<_> = (1..=8).map(|port| feed(&mut bench, port).server.unwrap()).collect();
    let (first, second) = (taken[0], taken[1]);
    assert_eq!(taken.iter().filter(|server| **server == first).count(), 4);
    assert_eq!(feed(&mut bench, 9).verdict, Verdict::Drop(DropReason::NoServer));
    let end = |bench: &mut Bench<'_>, server, count| {
        let of = bench.sessions().into_iter().filter(|session| session.server == server);
        let ids: Vec<_> = of.take(count).map(|session| session.id).collect();
        ids.into_iter().for_each(|id| assert!(bench.director.purge(id).is_some()));
    };
    // Three and two are not fewer than two.
    end(&mut bench, first, 2);
    assert_eq!(feed(&mut bench, 10).verdict, Verdict::Drop(DropReason::NoServer));
    end(&mut bench, first, 1);
    assert_eq!(
        (11..=13).map(|port| feed(&mut bench, port).server).collect::<Vec<_>>(),
        [Some(first); 3]
    );
    assert_eq!(feed(&mut bench, 14).verdict, Verdict::Drop(DropReason::NoServer));
    end(&mut bench, second, 3);
    assert_eq!(feed(&mut bench, 15).server, Some(second));
}
