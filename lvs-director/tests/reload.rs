//! INV-14. A new configuration leaves the sessions of unchanged services alone, and moves the others no
//! further than it must.

mod support;

use lvs_core::addr::{Prefix, RealAddr};
use lvs_core::flow::L4Proto;
use lvs_core::io::mem::MemPort;
use lvs_core::sched::Weight;
use lvs_core::service::Forwarding;
use lvs_core::snapshot::{Route, ServerSpec, SnapshotSpec};
use lvs_director::{ErrorRate, Generation};
use lvs_testkit::build::tcp;
use lvs_testkit::oracle;
use std::sync::Arc;
use support::bench::{Bench, CLIENTS, MAC, SERVERS, mac_of};

const BOTH: [Forwarding; 2] = [Forwarding::FullNat, Forwarding::Nat];

/// A packet as the servers' side of the director sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inside {
    server: String,
    /// Local address and port, or the client's (NAT).
    from: (String, u16),
    mac: [u8; 6],
}

/// What a client's segment becomes, which must be one frame toward the servers.
fn inside(bench: &mut Bench<'_>, client_port: u16, syn: bool) -> Inside {
    let from = format!("10.0.0.2:{client_port}");
    let segment = tcp().from(from.as_str()).to("10.0.0.80:80").dst_mac(MAC).seq(1000);
    let segment = if syn { segment.syn() } else { segment.seq(1001).ack(1) };
    let (report, frames) = bench.feed(CLIENTS, segment.build_buf());
    let [(SERVERS, frame)] = frames.as_slice() else { panic!("{report:?} {frames:02x?}") };
    let of = oracle::fields(frame).unwrap();
    let mac = *frame.first_chunk().unwrap();
    Inside { server: of.dst.to_string(), from: (of.src.to_string(), of.ports.unwrap().0), mac }
}

fn open(bench: &mut Bench<'_>, client_port: u16) -> Inside {
    inside(bench, client_port, true)
}

fn goes_on(bench: &mut Bench<'_>, client_port: u16) -> Inside {
    inside(bench, client_port, false)
}

/// The server's SYN-ACK reaches the client.
fn is_answered(bench: &mut Bench<'_>, client_port: u16, session: &Inside) -> bool {
    let from = format!("{}:8080", session.server);
    let to = format!("{}:{}", session.from.0, session.from.1);
    let reply = tcp().syn().from(from.as_str()).to(to.as_str()).dst_mac(MAC).ack(7);
    let (_, frames) = bench.feed(SERVERS, reply.build_buf());
    let [(CLIENTS, frame)] = frames.as_slice() else { return false };
    let of = oracle::fields(frame).unwrap();
    (of.dst.to_string(), of.ports) == ("10.0.0.2".into(), Some((80, client_port)))
}

/// The configuration with these servers of the first service.
fn with_servers(forwarding: Forwarding, servers: &[&str]) -> SnapshotSpec {
    let mut spec = support::spec(forwarding);
    let server = |addr: &&str| ServerSpec::new(RealAddr(addr.parse().unwrap()), Weight(1));
    spec.services[0].servers = servers.iter().map(server).collect();
    spec
}

const TWO: [&str; 2] = ["10.1.0.11:8080", "10.1.0.12:8080"];

/// Runs a test for both ways of forwarding.
fn for_both(test: impl Fn(Forwarding, &mut Bench<'_>)) {
    for forwarding in BOTH {
        let mut memory = support::memory();
        let spec = with_servers(forwarding, &TWO);
        test(forwarding, &mut Bench::new(spec, &mut memory, MemPort::new(MAC)));
    }
}

#[test]
fn sessions_and_turns_of_an_unchanged_service_stay_as_they_are() {
    for_both(|forwarding, bench| {
        let opened: Vec<_> = (1..4).map(|port| open(bench, port)).collect();
        let servers: Vec<_> = opened.iter().map(|session| session.server.as_str()).collect();
        assert_eq!(servers, ["10.1.0.11", "10.1.0.12", "10.1.0.11"]);
        let before = bench.sessions();

        // Another service, ahead of the old ones, and one of those is gone.
        let mut spec = with_servers(forwarding, &TWO);
        let new = support::service("10.0.0.81:80", L4Proto::Tcp, forwarding, &["10.1.0.13:8080"]);
        spec.services.insert(0, new);
        spec.services.pop();
        bench.reload(spec);

        assert_eq!(bench.sessions(), before, "numbers, servers, ports, ways, states, counters");
        for (port, session) in (1..4).zip(&opened) {
            assert!(is_answered(bench, port, session));
            assert_eq!(goes_on(bench, port), *session);
        }
        assert_eq!(open(bench, 4).server, "10.1.0.12", "whose turn it is");
    });
}

#[test]
fn sessions_of_a_removed_server_go_on_and_it_gets_no_new_ones() {
    for_both(|forwarding, bench| {
        let opened: Vec<_> = (1..3).map(|port| open(bench, port)).collect();
        let before = bench.sessions();
        bench.reload(with_servers(forwarding, &TWO[..1]));
        assert_eq!(bench.sessions(), before);
        assert_eq!(opened[1].server, "10.1.0.12");
        assert!(is_answered(bench, 2, &opened[1]));
        assert_eq!(goes_on(bench, 2), opened[1]);
        assert!((3..9).all(|port| open(bench, port).server == "10.1.0.11"));
    });
}

#[test]
fn a_new_server_gets_new_sessions_and_no_old_ones() {
    for_both(|forwarding, bench| {
        let opened: Vec<_> = (1..3).map(|port| open(bench, port)).collect();
        let before = bench.sessions();
        bench.reload(with_servers(forwarding, &[TWO[0], TWO[1], "10.1.0.13:8080"]));
        assert_eq!(bench.sessions(), before);
        for (port, session) in (1..3).zip(&opened) {
            assert_eq!(goes_on(bench, port), *session);
        }
        let mut new: Vec<_> = (3..9).map(|port| open(bench, port).server).collect();
        new.sort();
        let twice = |server: &str| [server.to_owned(), server.to_owned()];
        assert_eq!(new, ["10.1.0.11", "10.1.0.12", "10.1.0.13"].map(twice).concat());
    });
}

#[test]
fn a_server_that_comes_back_finds_its_old_sessions() {
    for_both(|forwarding, bench| {
        let opened: Vec<_> = (1..3).map(|port| open(bench, port)).collect();
        let before = bench.sessions();
        bench.reload(with_servers(forwarding, &TWO[..1]));
        bench.reload(with_servers(forwarding, &TWO));
        assert_eq!(bench.sessions(), before);
        assert_eq!(goes_on(bench, 2), opened[1]);
        let new: Vec<_> = (3..5).map(|port| open(bench, port).server).collect();
        assert!(new.contains(&opened[1].server), "{new:?}");
    });
}

#[test]
fn changed_routes_lead_sessions_onto_the_new_way() {
    for_both(|forwarding, bench| {
        let opened: Vec<_> = (1..3).map(|port| open(bench, port)).collect();
        let mac = |ip: &str| mac_of(ip.parse().unwrap()).0;
        assert_eq!(
            opened.iter().map(|s| s.mac).collect::<Vec<_>>(),
            [mac("10.1.0.11"), mac("10.1.0.12")]
        );
        let mut spec = with_servers(forwarding, &TWO);
        spec.routes = vec![Route {
            to: Prefix::new("10.1.0.12".parse().unwrap(), 32).unwrap(),
            via: "10.1.0.254".parse().unwrap(),
        }];
        bench.reload(spec);
        assert_eq!(goes_on(bench, 1), opened[0]);
        let moved = Inside { mac: mac("10.1.0.254"), ..opened[1].clone() };
        assert_eq!(goes_on(bench, 2), moved);
        assert!(is_answered(bench, 2, &opened[1]));
        // And back.
        bench.reload(with_servers(forwarding, &TWO));
        assert_eq!(goes_on(bench, 2), opened[1]);
    });
}

/// How many errors and resets the director makes belongs to a configuration where it says so, and stays where not.
#[test]
fn a_reload_changes_how_many_errors_and_resets_are_made() {
    let mut memory = support::memory();
    let spec = support::spec(Forwarding::Nat);
    let mut bench = Bench::new(spec.clone(), &mut memory, MemPort::new(MAC));
    let made = |bench: &mut Bench<'_>| {
        let before = (bench.director.counters().icmp_made, bench.director.counters().strays_reset);
        for port in 0..20 {
            let from = format!("10.0.0.2:{}", 5000 + port);
            let segment = tcp().from(from.as_str()).to("10.0.0.80:80").dst_mac(MAC);
            bench.feed(CLIENTS, segment.syn().ttl(1).build_buf());
            let segment = tcp().from(from.as_str()).to("10.0.0.80:80").dst_mac(MAC);
            bench.feed(CLIENTS, segment.seq(9).ack(7).build_buf());
        }
        let after = bench.director.counters();
        (after.icmp_made - before.0, after.strays_reset - before.1)
    };
    assert_eq!(made(&mut bench), (20, 0), "those of the start");
    let rate = |burst| ErrorRate { per_second: 1, burst };
    let next = |bench: &Bench<'_>| {
        let snapshot = spec.clone().build(Some(bench.director.generation().snapshot())).unwrap();
        Generation::new(Arc::new(snapshot), support::ARGS)
    };
    let new = next(&bench).with_rates(rate(3), rate(5));
    bench.director.install(new);
    assert_eq!(made(&mut bench), (3, 5));
    // The same once more is no new purse; nor is a configuration that says nothing.
    let same = next(&bench).with_rates(rate(3), rate(5));
    bench.director.install(same);
    let silent = next(&bench);
    bench.director.install(silent);
    assert_eq!(made(&mut bench), (0, 0));
    let none = next(&bench).with_rates(ErrorRate::NONE, ErrorRate::default());
    bench.director.install(none);
    assert_eq!(made(&mut bench), (0, 20));
}
