//! Building generations: what is refused, and which numbers stay.

use core::net::IpAddr;
use core::time::Duration;
use lvs_core::addr::{Family, MacAddr, Prefix, RealAddr, VirtualAddr};
use lvs_core::flow::L4Proto;
use lvs_core::id::{LocalId, PoolId, ServerId, ServiceId, TimeoutClass};
use lvs_core::io::PortId;
use lvs_core::sched::{Scheduler, SchedulerDef, ServerLoad, Weight};
use lvs_core::service::{
    ClientAddrMode, Forwarding, ServerState, ServiceFlags, ServiceKey, TimestampPolicy,
    VirtualService,
};
use lvs_core::session::MAX_CLASSES;
use lvs_core::snapshot::{
    Interface, PoolSpec, Route, ServerSpec, ServiceSpec, Snapshot, SnapshotError, SnapshotSpec,
    StaticNeighbour,
};
use lvs_core::timeouts::{TimeoutTicks, Timeouts};

struct Nobody;
impl Scheduler for Nobody {
    fn rebuild(&mut self, _: &[ServerLoad]) {}
    fn pick(&mut self, _: &lvs_core::flow::WireTuple, _: &[ServerLoad]) -> Option<usize> {
        None
    }
}
static NOBODY: SchedulerDef =
    SchedulerDef { name: "nobody", summary: "for tests", build: |_| Box::new(Nobody) };

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(text: &str, port: u16) -> ServiceKey {
    ServiceKey::new(L4Proto::Tcp, VirtualAddr::new(ip(text), port))
}

fn server(text: &str, port: u16) -> ServerSpec {
    ServerSpec::new(RealAddr::new(ip(text), port), Weight(1))
}

fn service(key: ServiceKey, servers: &[ServerSpec]) -> ServiceSpec {
    ServiceSpec {
        key,
        forwarding: Forwarding::FullNat,
        scheduler: &NOBODY,
        pool: Some(0),
        client_addr: ClientAddrMode::None,
        timestamps: TimestampPolicy::Strip,
        timeouts: Timeouts::LVS,
        persistence: None,
        flags: ServiceFlags::default(),
        servers: servers.to_vec(),
    }
}

fn pool(addresses: &[&str]) -> PoolSpec {
    PoolSpec { addresses: addresses.iter().map(|text| ip(text)).collect() }
}

/// Two ports, two pools, two services of both families.
fn spec() -> SnapshotSpec {
    SnapshotSpec {
        interfaces: vec![
            Interface::new(0, &["10.0.0.1/24", "fd00::1/64"]).unwrap(),
            Interface::new(1, &["10.1.0.1/16"]).unwrap(),
        ],
        routes: vec![
            Route { to: Prefix::new(ip("0.0.0.0"), 0).unwrap(), via: ip("10.0.0.254") },
            Route { to: Prefix::new(ip("10.1.7.0"), 24).unwrap(), via: ip("10.1.0.254") },
        ],
        neighbours: vec![StaticNeighbour { ip: ip("10.1.0.11"), mac: MacAddr([2; 6]) }],
        pools: vec![pool(&["10.1.0.100", "fd00::100", "10.1.0.101"]), pool(&["10.1.0.102"])],
        marks: Vec::new(),
        services: vec![
            service(
                key("10.0.0.80", 80),
                &[server("10.1.0.11", 8080), server("10.1.0.12", 8080), server("10.1.0.11", 8081)],
            ),
            service(key("fd00::80", 80), &[server("fd00::11", 8080)]),
        ],
    }
}

fn build(change: impl FnOnce(&mut SnapshotSpec), previous: Option<&Snapshot>) -> Snapshot {
    let mut spec = spec();
    change(&mut spec);
    spec.build(previous).unwrap()
}

fn refused(change: impl FnOnce(&mut SnapshotSpec)) -> SnapshotError {
    let mut spec = spec();
    change(&mut spec);
    let error = spec.build(None).expect_err("must be refused");
    let text = error.to_string();
    assert!(!text.is_empty() && !text.ends_with('.'), "{text}");
    error
}

fn web(snapshot: &Snapshot) -> &VirtualService {
    snapshot.find_service(L4Proto::Tcp, ip("10.0.0.80"), 80).unwrap()
}

#[test]
fn ports_must_be_numbered_in_order() {
    assert_eq!(refused(|s| s.interfaces.reverse()), SnapshotError::PortOrder { expected: 0 });
    let gap = |s: &mut SnapshotSpec| s.interfaces[1].port = PortId(2);
    assert_eq!(refused(gap), SnapshotError::PortOrder { expected: 1 });
}

#[test]
fn gateways_and_neighbours_must_be_connected() {
    let far = ip("192.0.2.1");
    let to = Prefix::new(ip("203.0.113.0"), 24).unwrap();
    let route = |s: &mut SnapshotSpec| s.routes.push(Route { to, via: far });
    assert_eq!(refused(route), SnapshotError::Unreachable(far));
    // A route does not make a gateway reachable: only a connected prefix does.
    let chained = |s: &mut SnapshotSpec| s.routes.push(Route { to, via: ip("198.51.100.7") });
    assert_eq!(refused(chained), SnapshotError::Unreachable(ip("198.51.100.7")));
    let mac = MacAddr([2; 6]);
    let neighbour = |s: &mut SnapshotSpec| s.neighbours.push(StaticNeighbour { ip: far, mac });
    assert_eq!(refused(neighbour), SnapshotError::Unreachable(far));
}

#[test]
fn services_and_servers_are_named_once() {
    let twice = |s: &mut SnapshotSpec| s.services.push(service(key("10.0.0.80", 80), &[]));
    assert_eq!(refused(twice), SnapshotError::ServiceTwice(key("10.0.0.80", 80)));
    let again = server("10.1.0.12", 8080);
    let twice = |s: &mut SnapshotSpec| s.services[0].servers.push(again);
    assert_eq!(refused(twice), SnapshotError::ServerTwice(again.addr));
    // Another protocol or port is another service, and two services may share a server.
    let shared = build(
        |s| {
            let mut udp = s.services[0].clone();
            udp.key.proto = L4Proto::Udp;
            s.services.extend([udp, service(key("10.0.0.80", 81), &[server("10.1.0.11", 8080)])]);
        },
        None,
    );
    assert_eq!(shared.services().count(), 4);
    assert_eq!(shared.servers().count(), 3 + 1 + 3 + 1, "each service has servers of its own");
}

#[test]
fn fullnat_needs_a_pool_of_its_family_and_nat_does_not() {
    let web = key("10.0.0.80", 80);
    for pool in [None, Some(2), Some(usize::MAX)] {
        assert_eq!(refused(|s| s.services[0].pool = pool), SnapshotError::NoPool(web));
    }
    let no_v6 = |s: &mut SnapshotSpec| s.services[1].pool = Some(1);
    assert_eq!(refused(no_v6), SnapshotError::PoolFamily(key("fd00::80", 80)));
    let nat =
        build(|s| (s.services[0].pool, s.services[0].forwarding) = (None, Forwarding::Nat), None);
    assert_eq!(self::web(&nat).pool, None);
}

#[test]
fn a_server_has_the_family_of_its_service() {
    let other = server("fd00::12", 1);
    let mixed = |s: &mut SnapshotSpec| s.services[0].servers.push(other);
    assert_eq!(refused(mixed), SnapshotError::ServerFamily(other.addr));
    let nat = |s: &mut SnapshotSpec| {
        s.services[1].forwarding = Forwarding::Nat;
        s.services[1].servers.push(server("10.1.0.11", 8080));
    };
    assert_eq!(refused(nat), SnapshotError::ServerFamily(server("10.1.0.11", 8080).addr));
}

#[test]
fn a_fullnat_service_of_ipv6_may_have_ipv4_servers_when_its_pool_has_ipv4_addresses() {
    let four = server("10.1.0.11", 8080);
    let nat64 = |s: &mut SnapshotSpec| s.services[1] = service(key("fd00::80", 80), &[four]);
    let with = |pool| {
        move |s: &mut SnapshotSpec| {
            nat64(s);
            s.services[1].pool = Some(pool);
        }
    };
    assert!(build(with(0), None).services().count() > 0);
    let six_only = |s: &mut SnapshotSpec| {
        with(1)(s);
        s.pools[1].addresses = vec![ip("fd00::200")];
    };
    assert_eq!(refused(six_only), SnapshotError::PoolFamily(key("fd00::80", 80)));
    // Servers of both families need addresses of both.
    let both = |s: &mut SnapshotSpec| s.services[1].servers.push(four);
    assert!(build(both, None).services().count() > 0);
    let half = |s: &mut SnapshotSpec| {
        both(s);
        s.services[1].pool = Some(1);
    };
    assert_eq!(refused(half), SnapshotError::PoolFamily(key("fd00::80", 80)));
}

#[test]
fn a_local_address_is_nothing_else() {
    for used in ["10.1.0.101", "10.1.0.102", "10.1.0.1", "10.0.0.80", "10.1.0.12", "fd00::11"] {
        let clash = |s: &mut SnapshotSpec| s.pools[1].addresses.push(ip(used));
        assert_eq!(refused(clash), SnapshotError::LocalClash(ip(used)));
    }
}

/// INV-10, for the numbers of a configuration.
#[test]
fn numbers_run_out_as_an_ordinary_answer() {
    let many = |count: u32| {
        move |s: &mut SnapshotSpec| {
            s.services.truncate(1);
            let numbered = (0..count).map(|n| {
                let [_, a, b, c] = n.to_be_bytes();
                server(&format!("10.{}.{b}.{c}", 20 + a), 80)
            });
            s.services[0].servers = numbered.collect();
        }
    };
    assert_eq!(refused(many(65_537)), SnapshotError::TooMany);
    assert_eq!(build(many(65_536), None).servers().count(), 65_536);
    let locals = |s: &mut SnapshotSpec| {
        s.pools[1].addresses =
            (0..65_535u32).map(|n| IpAddr::from((0x2d00_0000 + n).to_be_bytes())).collect();
    };
    assert_eq!(refused(locals), SnapshotError::TooMany);
    let services = |s: &mut SnapshotSpec| {
        s.services = (0..65_537u32)
            .map(|n| {
                let [_, a, b, c] = n.to_be_bytes();
                service(key(&format!("11.{a}.{b}.{c}"), 80), &[])
            })
            .collect();
    };
    assert_eq!(refused(services), SnapshotError::TooMany);
}

/// `count` services with time-outs that no other has, starting at `first`.
fn with_time_outs(s: &mut SnapshotSpec, first: u64, count: u64) {
    s.services.truncate(1);
    for n in first..first + count {
        let mut own = service(key("10.0.0.81", u16::try_from(n).unwrap()), &[]);
        own.timeouts = Timeouts::LVS.with_udp(Duration::from_secs(n));
        s.services.push(own);
    }
}

#[test]
fn there_are_as_many_sets_of_time_outs_as_the_store_can_tell_apart() {
    let most = MAX_CLASSES as u64;
    assert_eq!(refused(|s| with_time_outs(s, 1, most)), SnapshotError::TooManyTimeouts);
    let snapshot = build(|s| with_time_outs(s, 1, most - 1), None);
    assert_eq!(snapshot.timeouts().len(), MAX_CLASSES);
    let mut ticks = [TimeoutTicks::default(); 100];
    assert_eq!(snapshot.timeout_ticks(&mut ticks), MAX_CLASSES);
    assert_eq!(snapshot.timeout_ticks(&mut ticks[..7]), 7);
    for service in snapshot.services() {
        let class = service.timeouts.index();
        assert_eq!(ticks[class], snapshot.timeouts()[class].ticks());
    }
}

#[test]
fn time_outs_keep_their_class_and_only_unused_classes_are_given_away() {
    let mut last = build(|s| with_time_outs(s, 1, 30), None);
    // Far more sets over time than there are classes, never more than 31 at once.
    for generation in 1..40u64 {
        let next = build(|s| with_time_outs(s, 1 + generation * 10, 30), Some(&last));
        assert_eq!(next.timeouts().len().min(MAX_CLASSES), next.timeouts().len());
        let sets = next.timeouts();
        for service in next.services() {
            let class = service.timeouts;
            let set = sets[class.index()];
            assert_eq!(sets.iter().filter(|have| **have == set).count(), 1, "one class a set");
            if let Some(old) = last.services().find(|old| old.key == service.key) {
                assert_eq!(class, old.timeouts, "an unchanged service keeps its class");
            }
        }
        // What the generation before used and this one does not is given away last.
        for old in last.services() {
            assert_eq!(sets[old.timeouts.index()], last.timeouts()[old.timeouts.index()]);
        }
        last = next;
    }
    assert_eq!(build(|s| s.services.clear(), None).timeouts(), [Timeouts::default()]);
    let class = web(&last).timeouts;
    assert_eq!((class, last.timeouts()[0]), (TimeoutClass(0), Timeouts::LVS));
}

/// INV-14, for services, servers and local addresses.
#[test]
fn everything_that_stays_keeps_its_number() {
    let first = build(|_| (), None);
    let second = build(
        |s| {
            // Everything is listed in another order, with something new in front.
            s.services.insert(0, service(key("10.0.0.79", 80), &[server("10.1.0.12", 8080)]));
            s.services.reverse();
            for service in &mut s.services {
                service.servers.reverse();
            }
            s.pools[0].addresses.reverse();
            s.pools[0].addresses.insert(0, ip("10.1.0.99"));
            s.pools.reverse();
            for service in &mut s.services {
                service.pool = Some(1);
            }
        },
        Some(&first),
    );
    assert_eq!((first.generation(), second.generation()), (1, 2));
    for old in first.services() {
        let new = second.service(old.id).unwrap();
        assert_eq!((new.key, new.timeouts), (old.key, old.timeouts));
        let mut ids = new.servers.to_vec();
        ids.reverse();
        assert_eq!(*ids, *old.servers, "in the order of configuration");
        for id in &old.servers {
            assert_eq!(second.server(*id), first.server(*id));
        }
    }
    for family in [Family::V4, Family::V6] {
        for (place, source) in second.locals(family).iter().enumerate() {
            assert_eq!(source.id.index(), place);
            assert_eq!(second.role(&source.ip).local, Some(source.id));
        }
        assert!(second.locals(family).starts_with(first.locals(family)));
    }
    let pool = second.pool(PoolId(1)).unwrap();
    let order: Vec<IpAddr> = pool.of(Family::V4).iter().map(|source| source.ip).collect();
    assert_eq!(order, [ip("10.1.0.99"), ip("10.1.0.101"), ip("10.1.0.100")], "as configured");
    let new = second.find_service(L4Proto::Tcp, ip("10.0.0.79"), 80).unwrap();
    assert!(first.service(new.id).is_none());
}

#[test]
fn what_goes_stays_known_and_comes_back_under_its_number() {
    let first = build(|_| (), None);
    let gone = RealAddr::new(ip("10.1.0.12"), 8080);
    let id = ServerId(1);
    assert_eq!(first.server(id).unwrap().addr, gone);
    let drop_it = |s: &mut SnapshotSpec| {
        s.services[0].servers.remove(1);
    };
    let second = build(drop_it, Some(&first));
    let removed = second.server(id).unwrap();
    assert_eq!((removed.addr, removed.state), (gone, ServerState::Removed));
    assert_eq!(*web(&second).servers, [ServerId(0), ServerId(2)]);
    assert_eq!(second.server(ServerId(2)).unwrap().state, ServerState::Active);
    let third = build(drop_it, Some(&second));
    assert_eq!(third.server(id).unwrap().state, ServerState::Removed, "for good");
    let fourth = build(|s| s.services[0].servers[1].weight = Weight(9), Some(&third));
    let back = fourth.server(id).unwrap();
    assert_eq!((back.addr, back.state, back.weight), (gone, ServerState::Active, Weight(9)));
    assert_eq!(*web(&fourth).servers, [ServerId(0), id, ServerId(2)]);
}

#[test]
fn a_service_that_comes_back_is_a_new_one_and_no_number_is_given_twice() {
    let first = build(|_| (), None);
    let second = build(|s| drop(s.services.remove(0)), Some(&first));
    assert!(second.service(ServiceId(0)).is_none());
    assert!(second.find_service(L4Proto::Tcp, ip("10.0.0.80"), 80).is_none());
    assert!(!second.role(&ip("10.0.0.80")).is_ours());
    assert_eq!(second.server(ServerId(0)).unwrap().state, ServerState::Removed);
    let third = build(|_| (), Some(&second));
    let back = web(&third);
    assert_eq!((back.id, third.service_slots()), (ServiceId(2), 3));
    assert!(back.servers.iter().all(|id| first.server(*id).is_none()));
    assert_eq!(third.server(ServerId(0)).unwrap().service, ServiceId(0));
}

#[test]
fn a_local_address_that_leaves_its_pool_still_takes_replies_until_it_is_something_else() {
    let first = build(|_| (), None);
    let retire = |s: &mut SnapshotSpec| {
        s.pools[0].addresses.remove(0);
    };
    let local = ip("10.1.0.100");
    let second = build(retire, Some(&first));
    assert_eq!(second.role(&local).local, Some(LocalId(0)), "sessions still use it");
    assert!(second.pool(PoolId(0)).unwrap().v4.iter().all(|source| source.ip != local));
    let again = build(|_| (), Some(&second));
    assert_eq!(again.role(&local).local, Some(LocalId(0)));
    assert_eq!(again.pool(PoolId(0)).unwrap().v4[0].id, LocalId(0));
    // As a service, an own or a server's address it must not be taken for a local one any more.
    let as_service = build(
        |s| {
            retire(s);
            s.services[0].key = key("10.1.0.100", 80);
        },
        Some(&first),
    );
    let role = as_service.role(&local);
    assert_eq!((role.virt, role.local), (true, None));
    let as_own = build(
        |s| {
            retire(s);
            s.interfaces[1] = Interface::new(1, &["10.1.0.1/16", "10.1.0.100/16"]).unwrap();
        },
        Some(&first),
    );
    let role = as_own.role(&local);
    assert_eq!((role.own, role.local), (Some(PortId(1)), None));
    let as_server = build(
        |s| {
            retire(s);
            s.services[0].servers.push(server("10.1.0.100", 80));
        },
        Some(&first),
    );
    assert!(!as_server.role(&local).is_ours());
    assert_eq!(as_server.locals(Family::V4)[0].ip, local, "its number is not given to another");
}

#[test]
fn a_service_is_found_by_port_and_else_by_port_0() {
    let snapshot = build(
        |s| {
            let mut any = service(key("10.0.0.80", 0), &[]);
            any.timeouts = Timeouts::KERNEL;
            s.services.push(any);
        },
        None,
    );
    let port = |proto, port| {
        snapshot.find_service(proto, ip("10.0.0.80"), port).map(|service| service.key.addr.port())
    };
    assert_eq!((port(L4Proto::Tcp, 80), port(L4Proto::Tcp, 81)), (Some(80), Some(0)));
    assert_eq!(port(L4Proto::Udp, 80), None);
    assert!(snapshot.find_service(L4Proto::Tcp, ip("10.0.0.81"), 80).is_none());
}

#[test]
fn the_longest_prefix_wins_and_connected_comes_before_routed() {
    let snapshot = build(
        |s| {
            let same = Prefix::new(ip("10.0.0.0"), 24).unwrap();
            s.routes.insert(0, Route { to: same, via: ip("10.1.0.254") });
        },
        None,
    );
    for (to, port, via) in [
        ("10.0.0.9", 0, "10.0.0.9"),
        ("10.1.0.9", 1, "10.1.0.9"),
        ("10.1.7.9", 1, "10.1.0.254"),
        ("192.0.2.1", 0, "10.0.0.254"),
        ("fd00::9", 0, "fd00::9"),
    ] {
        let hop = snapshot.route(ip(to)).unwrap();
        assert_eq!((hop.port, hop.via), (PortId(port), ip(via)), "to {to}");
        if let (IpAddr::V4(to), IpAddr::V4(via)) = (ip(to), hop.via) {
            assert_eq!(snapshot.route_v4(to.to_bits()), Some((hop.port, via.to_bits())), "to {to}");
        }
    }
    assert_eq!(snapshot.route(ip("2001:db8::1")), None);
    assert_eq!(snapshot.source_for(PortId(1), &ip("10.1.3.4")), Some(ip("10.1.0.1")));
    assert_eq!(snapshot.source_for(PortId(1), &ip("192.0.2.1")), Some(ip("10.1.0.1")));
    assert_eq!(snapshot.source_for(PortId(1), &ip("fd00::2")), None);
    assert_eq!(snapshot.source_for(PortId(7), &ip("10.1.3.4")), None);
}

#[test]
fn of_two_ports_in_one_subnet_gateways_and_destinations_take_the_first() {
    let spec = SnapshotSpec {
        interfaces: vec![
            Interface::new(0, &["10.0.0.1/24"]).unwrap(),
            Interface::new(1, &["10.0.0.2/24"]).unwrap(),
        ],
        routes: vec![Route {
            to: Prefix::new("10.9.0.0".parse().unwrap(), 16).unwrap(),
            via: "10.0.0.254".parse().unwrap(),
        }],
        ..SnapshotSpec::default()
    };
    let snapshot = spec.build(None).unwrap();
    let port = |to: &str| snapshot.route(to.parse().unwrap()).unwrap().port.0;
    assert_eq!((port("10.0.0.9"), port("10.9.0.9")), (0, 0));
}
