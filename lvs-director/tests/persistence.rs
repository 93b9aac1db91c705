//! A client stays with its server: how long, over which workers and reloads, and when it does not.

mod support;

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use lvs_core::addr::RealAddr;
use lvs_core::event::Event;
use lvs_core::flow::L4Proto;
use lvs_core::id::{ServerId, ServiceId, WorkerId};
use lvs_core::io::mem::MemPort;
use lvs_core::persistence::{Persistence, Since};
use lvs_core::sched::{SchedulerArgs, Weight};
use lvs_core::service::{Forwarding, ServerState};
use lvs_core::session::HeapMemory;
use lvs_core::shared::{Shared, SharedConfig, Thresholds};
use lvs_core::snapshot::{ServerSpec, SnapshotSpec};
use lvs_core::time::Tick;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{tcp, udp};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use support::bench::{Bench, CLIENTS, MAC, SERVERS};

const SECOND: u64 = 1_000_000_000;

fn persistent(change: impl FnOnce(&mut Persistence)) -> SnapshotSpec {
    let mut policy = Persistence::default();
    change(&mut policy);
    let mut spec = support::spec(Forwarding::Nat);
    for service in &mut spec.services {
        service.persistence = Some(policy);
    }
    spec
}

fn bench(spec: SnapshotSpec, memory: &mut HeapMemory) -> Bench<'_> {
    Bench::new(spec, memory, MemPort::plain(MAC))
}

fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// A datagram of a client; the server that it reaches.
fn datagram(bench: &mut Bench<'_>, from: Ipv4Addr, port: u16) -> ServerId {
    let packet = udp().from((from.into(), port)).to("10.0.0.80:53").dst_mac(MAC).build_buf();
    let (report, _) = bench.feed(CLIENTS, packet);
    assert!(matches!(report.verdict, Verdict::Forward(_) | Verdict::Absorb(_)), "{report:?}");
    report.server.unwrap()
}

fn syn(bench: &mut Bench<'_>, from: Ipv4Addr, port: u16, to: &str) -> Result<ServerId, DropReason> {
    let packet = tcp().syn().from((from.into(), port)).to(to).dst_mac(MAC).build_buf();
    let (report, _) = bench.feed(CLIENTS, packet);
    match report.verdict {
        Verdict::Drop(reason) => Err(reason),
        _ => Ok(report.server.unwrap()),
    }
}

/// The whole handshake.
fn connect(bench: &mut Bench<'_>, from: Ipv4Addr, port: u16) -> ServerId {
    let server = syn(bench, from, port, "10.0.0.80:80").unwrap();
    let addr = bench.director.generation().snapshot().server(server).unwrap().addr;
    let end = (IpAddr::from(from), port);
    let answer = tcp().syn().ack(1).from((addr.ip(), addr.port())).to(end).dst_mac(MAC);
    bench.feed(SERVERS, answer.build_buf());
    let last = tcp().from(end).to("10.0.0.80:80").dst_mac(MAC).seq(1).ack(1);
    bench.feed(CLIENTS, last.build_buf());
    server
}

fn addr_of(bench: &Bench<'_>, server: ServerId) -> String {
    bench.director.generation().snapshot().server(server).unwrap().addr.to_string()
}

fn sleep(bench: &mut Bench<'_>, time: Duration) {
    bench.now += time.as_nanos() as u64;
    bench.turn();
}

#[test]
fn a_client_stays_and_different_clients_are_spread() {
    let mut memory = support::memory();
    let mut bench = bench(persistent(|_| ()), &mut memory);
    let servers: Vec<_> = (2..10).map(|n| datagram(&mut bench, client(n), 1)).collect();
    assert!(servers.iter().any(|server| *server != servers[0]), "rr spreads {servers:?}");
    for port in 2..6 {
        let again: Vec<_> = (2..10).map(|n| datagram(&mut bench, client(n), port)).collect();
        assert_eq!(again, servers);
    }
    assert_eq!(bench.director.counters().sessions_persistent, 4 * 8);
    assert_eq!(bench.director.shared().templates.stats().live, 8);
}

/// INV-18. The clock of the test starts anywhere inside a tick.
#[test]
fn a_template_lives_600_seconds_after_the_last_packet_of_the_last_session() {
    for offset in [0, 1, 33_000_000, 67_108_863] {
        for (after, stays) in [
            (600 * SECOND - 2_000_000, true),
            (600 * SECOND, true),
            (600 * SECOND + 2 * (1 << Tick::SHIFT), false),
        ] {
            let mut memory = support::memory();
            let mut bench = bench(persistent(|_| ()), &mut memory);
            bench.now += offset;
            datagram(&mut bench, client(2), 1);
            bench.pass(Duration::from_secs(100), Duration::from_secs(1));
            // The last session's last packet, not its first, and not its end 300 s later.
            datagram(&mut bench, client(2), 1);
            let last = bench.now;
            bench.pass(Duration::from_secs(400), Duration::from_secs(1));
            assert_eq!(bench.director.store().len(), 0);
            bench.now = last + after - 1_000_000;
            datagram(&mut bench, client(2), 2);
            let hits = bench.director.counters().sessions_persistent;
            assert_eq!(hits, u64::from(stays), "{after} ns after it, offset {offset}");
        }
    }
}

#[test]
fn a_long_session_keeps_its_template_and_a_short_attempt_leaves_none() {
    let mut memory = support::memory();
    let spec = persistent(|policy| policy.timeout = Duration::from_secs(40));
    let mut bench = bench(spec, &mut memory);
    let server = connect(&mut bench, client(2), 1);
    syn(&mut bench, client(3), 1, "10.0.0.80:80").unwrap();
    assert_eq!(bench.director.shared().half_open.get(ServiceId(0)), 1);
    for _ in 0..3 {
        // Its time-out is 90 s, longer than that of the template.
        sleep(&mut bench, Duration::from_secs(80));
        let more = tcp().from("10.0.0.2:1").to("10.0.0.80:80").dst_mac(MAC).seq(1).ack(1);
        bench.feed(CLIENTS, more.build_buf());
    }
    assert_eq!(bench.director.shared().half_open.get(ServiceId(0)), 0);
    assert_eq!(connect(&mut bench, client(2), 2), server);
    assert_eq!(bench.director.counters().sessions_persistent, 1);
    // Client 3 never got further than its SYN.
    syn(&mut bench, client(3), 2, "10.0.0.80:80").unwrap();
    assert_eq!(bench.director.counters().sessions_persistent, 1);
}

#[test]
fn as_the_kernel_counts_a_template_goes_on_by_minutes_while_it_has_sessions() {
    let mut memory = support::memory();
    let spec = persistent(|policy| {
        policy.timeout = Duration::from_secs(100);
        policy.since = Since::LastConnection;
    });
    let mut bench = bench(spec, &mut memory);
    datagram(&mut bench, client(2), 1);
    // The session ends after 300 s, between the minutes at 280 s and 340 s.
    for (at, hits) in [(99, 1), (250, 2), (625, 2)] {
        let start = SECOND;
        while bench.now < start + at * SECOND {
            sleep(&mut bench, Duration::from_secs(1));
        }
        datagram(&mut bench, client(2), 1000 + at as u16);
        assert_eq!(bench.director.counters().sessions_persistent, hits, "after {at} s");
    }
}

#[test]
fn a_prefix_counts_as_one_client() {
    let mut memory = support::memory();
    let mut bench = bench(persistent(|policy| policy.prefix_v4 = 29), &mut memory);
    let first = datagram(&mut bench, client(9), 1);
    for n in 10..16 {
        assert_eq!(datagram(&mut bench, client(n), 1), first);
    }
    assert_ne!(datagram(&mut bench, client(16), 1), first, "rr goes on");
}

#[test]
fn services_of_a_group_lead_a_client_to_one_host() {
    let mut spec = support::spec(Forwarding::Nat);
    let policy = Persistence { group: Some(7), ..Persistence::default() };
    let servers = |port: u16, order: [u8; 2]| {
        let addr = |host| RealAddr::new([10, 1, 0, host].into(), port);
        order.map(|host| ServerSpec::new(addr(host), Weight(1))).to_vec()
    };
    let mut web = spec.services[0].clone();
    web.persistence = Some(policy);
    let mut tls = web.clone();
    tls.key.addr.0.set_port(443);
    web.servers = servers(8080, [11, 12]);
    tls.servers = servers(8443, [12, 11]);
    spec.services = vec![web, tls];
    let mut memory = support::memory();
    let mut bench = bench(spec, &mut memory);
    for n in 2..12 {
        let plain = syn(&mut bench, client(n), 1, "10.0.0.80:80").unwrap();
        let secure = syn(&mut bench, client(n), 2, "10.0.0.80:443").unwrap();
        let (plain, secure) = (addr_of(&bench, plain), addr_of(&bench, secure));
        assert_eq!(plain.replace("8080", "8443"), secure);
    }
    assert_eq!(bench.director.counters().sessions_persistent, 10);
}

#[test]
fn a_service_of_all_ports_leads_a_client_to_one_server_on_every_port() {
    let mut spec = persistent(|_| ());
    spec.services.retain(|service| service.key.proto == L4Proto::Tcp);
    spec.services[0].key.addr.0.set_port(0);
    for server in &mut spec.services[0].servers {
        server.addr.0.set_port(0);
    }
    let mut memory = support::memory();
    let mut bench = bench(spec, &mut memory);
    let first = syn(&mut bench, client(2), 1, "10.0.0.80:80").unwrap();
    for port in [443, 8080, 25] {
        assert_eq!(syn(&mut bench, client(2), port, &format!("10.0.0.80:{port}")), Ok(first));
    }
}

/// What becomes of the first server, and whether its clients still come to it.
#[test]
fn a_server_that_may_get_no_sessions_gets_none_even_of_its_own_clients() {
    type Case = (bool, fn(&mut ServerSpec), bool);
    let quiet: fn(&mut ServerSpec) = |server| server.weight = Weight(0);
    let cases: [Case; 6] = [
        (false, quiet, true),
        (true, quiet, false),
        (false, |server| server.state = ServerState::Draining { within: None }, false),
        (false, |server| server.state = ServerState::DownKeep, false),
        (false, |server| server.state = ServerState::DownKill, false),
        (false, |server| server.addr = RealAddr::new([10, 1, 0, 99].into(), 53), false),
    ];
    for (at, (expire_quiescent, change, stays)) in cases.into_iter().enumerate() {
        let spec = || persistent(|policy| policy.expire_quiescent = expire_quiescent);
        let mut memory = support::memory();
        let mut bench = bench(spec(), &mut memory);
        let first = datagram(&mut bench, client(2), 1);
        let other = datagram(&mut bench, client(3), 1);
        assert_ne!(first, other);
        let mut next = spec();
        let place = bench.director.generation().snapshot().services().last().unwrap();
        let place = place.servers.iter().position(|id| *id == first).unwrap();
        change(&mut next.services[2].servers[place]);
        bench.reload(next);
        for port in 2..6 {
            let server = datagram(&mut bench, client(2), port);
            assert_eq!(server == first, stays, "case {at}");
            assert_eq!(datagram(&mut bench, client(3), port), other, "case {at}: others stay");
        }
        let goes_away = next_state_is_not_active(&bench, first);
        let moved = bench.director.generation().server_count(first).unwrap().moved;
        assert_eq!(moved, u64::from(goes_away), "case {at}: clients led elsewhere");
        // Back again: the client has moved for good, unless where it went is gone now.
        bench.reload(spec());
        if at == 5 {
            continue;
        }
        assert_eq!(datagram(&mut bench, client(2), 9) == first, stays, "case {at}: afterwards");
    }
}

fn next_state_is_not_active(bench: &Bench<'_>, server: ServerId) -> bool {
    let server = bench.director.generation().snapshot().server(server).unwrap();
    server.state != ServerState::Active
}

#[test]
fn a_reload_keeps_templates_and_their_time() {
    let mut memory = support::memory();
    let mut bench = bench(persistent(|_| ()), &mut memory);
    let before: Vec<_> = (2..8).map(|n| datagram(&mut bench, client(n), 1)).collect();
    for round in 0..3 {
        let mut spec = persistent(|_| ());
        spec.services[2]
            .servers
            .push(ServerSpec::new(RealAddr::new([10, 1, 0, 20 + round].into(), 53), Weight(9)));
        bench.reload(spec);
        sleep(&mut bench, Duration::from_secs(190));
        let after: Vec<_> =
            (2..8).map(|n| datagram(&mut bench, client(n), 2 + u16::from(round))).collect();
        assert_eq!(before, after);
    }
}

#[test]
fn a_full_server_takes_its_own_clients_or_not_as_the_policy_says() {
    for hard in [false, true] {
        let mut spec = persistent(|policy| policy.hard_threshold = hard);
        for server in &mut spec.services[2].servers {
            server.thresholds = Thresholds { upper: 2, lower: 0 };
        }
        let mut memory = support::memory();
        let mut bench = bench(spec, &mut memory);
        let first = datagram(&mut bench, client(2), 1);
        assert_eq!(datagram(&mut bench, client(2), 2), first);
        let third = datagram(&mut bench, client(2), 3);
        assert_eq!(third == first, !hard);
        sleep(&mut bench, Duration::from_secs(310));
        assert_eq!(datagram(&mut bench, client(2), 4), first, "it is the client's own still");
    }
}

#[test]
fn without_room_for_a_template_clients_are_served_and_the_operator_is_told() {
    let mut memory = support::memory();
    let shared = Arc::new(Shared::new(&SharedConfig { templates: 1, ..SharedConfig::default() }));
    let director = support::sharing(persistent(|_| ()), &mut memory, shared, support::ARGS);
    let mut bench = Bench::of(director, MemPort::plain(MAC));
    for n in 2..40 {
        datagram(&mut bench, client(n), 1);
    }
    let refused = bench.director.counters().templates_full;
    assert_eq!(refused, 38 - bench.director.shared().templates.places() as u64);
    let told = core::iter::from_fn(|| bench.director.poll_event());
    let told = told.filter(|event| matches!(event, Event::TemplatesFull { .. })).count();
    assert_eq!(told as u64, refused);
}

/// What happens to some worker.
#[derive(Clone, Debug)]
enum Step {
    Datagram { worker: usize, client: u8, port: u16 },
    Pass { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0usize..4, 2u8..12, 1u16..50)
            .prop_map(|(worker, client, port)| Step::Datagram { worker, client, port }),
        1 => (1u64..200).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// INV-18, INV-19. One server for each client whichever worker its sessions come to; no server beyond its
    /// threshold, and the counts of all workers add up to their sessions.
    #[test]
    fn workers_that_share_agree_on_every_client(
        workers in prop_oneof![Just(1usize), Just(2), Just(4)],
        upper in prop_oneof![Just(0u32), 3u32..20],
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let shared = Arc::new(Shared::new(&SharedConfig::default()));
        let mut memories: Vec<_> = (0..workers).map(|_| support::memory()).collect();
        let mut spec = persistent(|policy| policy.hard_threshold = true);
        for server in &mut spec.services[2].servers {
            server.thresholds = Thresholds { upper, lower: 0 };
        }
        let mut benches: Vec<_> = memories
            .iter_mut()
            .zip(0u8..)
            .map(|(memory, number)| {
                let args = SchedulerArgs { worker: WorkerId(number), workers: workers as u8 };
                let director = support::sharing(spec.clone(), memory, Arc::clone(&shared), args);
                Bench::of(director, MemPort::plain(MAC))
            })
            .collect();
        let mut belongs: HashMap<u8, (ServerId, u64)> = HashMap::new();
        let mut clock = SECOND;
        for step in steps {
            match step {
                Step::Pass { seconds } => {
                    for _ in 0..seconds {
                        clock += SECOND;
                        for bench in &mut benches {
                            bench.now = clock;
                            bench.turn();
                        }
                    }
                }
                Step::Datagram { worker, client: n, port } => {
                    // A tuple always comes to the same worker.
                    let worker = (worker + usize::from(n) + usize::from(port)) % workers;
                    clock += 2_000_000;
                    benches[worker].now = clock;
                    let from = (IpAddr::from(client(n)), port);
                    let packet = udp().from(from).to("10.0.0.80:53").dst_mac(MAC).build_buf();
                    let before = benches[worker].director.store().len();
                    let (report, _) = benches[worker].feed(CLIENTS, packet);
                    let Some(server) = report.server else {
                        prop_assert!(upper != 0, "{report:?}");
                        continue;
                    };
                    let opened = benches[worker].director.store().len() > before;
                    let own = belongs.get(&n).filter(|(_, at)| clock - at < 600 * SECOND);
                    if let Some((own, _)) = own && upper == 0 {
                        prop_assert_eq!(server, *own, "client {} on worker {}", n, worker);
                    }
                    if upper == 0 || opened && own.is_none() || own.is_some_and(|(own, _)| *own == server) {
                        belongs.insert(n, (server, clock));
                    }
                }
            }
            for id in [ServerId(4), ServerId(5)] {
                let all = shared.servers.get(id).unwrap();
                let each = benches.iter().map(|b| b.director.generation().server_count(id).unwrap());
                let sum: u64 = each.map(|c| u64::from(c.active) + u64::from(c.inactive)).sum();
                prop_assert_eq!(all.total(), sum);
                prop_assert!(upper == 0 || sum <= upper.into(), "{} of {}", sum, upper);
            }
        }
    }
}
