//! Real TCP/IP stacks on both sides of a director, with faults, on a virtual clock.

mod support;

use core::cell::RefCell;
use core::time::Duration;
use lvs_core::io::mem::{MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::service::Forwarding;
use lvs_core::time::Time;
use lvs_director::{Director, Outputs};
use lvs_testkit::net::{
    AppId, BulkClient, BulkServer, DeviceId, Host, HostId, Net, Ping, UdpClient, UdpEcho, Wire,
};

struct World<'d> {
    net: Net<'d>,
    client: HostId,
    servers: [HostId; 2],
    director: &'d RefCell<Director<'d>>,
    device: DeviceId,
    segments: [lvs_testkit::net::SegmentId; 2],
}

/// One turn of a worker's loop.
fn turn(
    director: &mut Director<'_>,
    now: Time,
    lane: &mut MemLane,
    out: &mut Outputs<<MemLane as Lane>::Buf>,
) {
    let mut burst = Burst::new();
    for port in (0..lane.port_count()).map(PortId) {
        while lane.rx_burst(port, &mut burst) != Ok(0) {
            director.process(now, lane, port, &mut burst, out);
            out.flush(lane);
        }
    }
    director.expire(now, 10_000);
    director.tick(now, lane, out);
    out.flush(lane);
}

fn world<'d>(
    seed: u64,
    wire: Wire,
    forwarding: Forwarding,
    director: &'d RefCell<Director<'d>>,
) -> World<'d> {
    let mut net = Net::new(seed);
    let (left, right) = (net.segment(wire), net.segment(wire));
    let client =
        net.host(left, Host::new("client").addr("10.0.0.2/24").addr("fd00::2/64").timestamps());
    let servers =
        [("server1", "10.1.0.11/24", "fd01::11/64"), ("server2", "10.1.0.12/24", "fd01::12/64")]
            .map(|(name, v4, v6)| {
                let host = Host::new(name).addr(v4).addr(v6);
                let host = match forwarding {
                    Forwarding::Nat => host.gateway("10.1.0.1").gateway("fd01::1"),
                    Forwarding::FullNat => host,
                };
                net.host(right, host)
            });
    let lane = MemLane::new([MemPort::default(), MemPort::default()]);
    let mut out = Outputs::new(2);
    let device = net.device(lane, move |now, lane| {
        turn(&mut director.borrow_mut(), Time(now), lane, &mut out);
    });
    net.attach(device, PortId(0), left);
    net.attach(device, PortId(1), right);
    net.capture(left);
    net.capture(right);
    World { net, client, servers, director, device, segments: [left, right] }
}

const V4: &str = "10.0.0.80:80";
const V6: &str = "[fd00::80]:80";

fn transfers(seed: u64, wire: Wire, forwarding: Forwarding, service: &str, bytes: u64) {
    let mut memory = support::memory();
    let director = RefCell::new(support::director(support::spec(forwarding), &mut memory));
    let mut w = world(seed, wire, forwarding, &director);
    let served = w.servers.map(|server| w.net.app(server, BulkServer::new(8080)));
    let clients: Vec<AppId<BulkClient>> =
        (0..4).map(|_| w.net.app(w.client, BulkClient::new(service, bytes))).collect();
    let done = |net: &Net<'_>| clients.iter().all(|client| net.get(*client).transferred());
    w.net.run_until(done, Duration::from_secs(3600)).unwrap_or_else(|error| {
        for (name, seg) in [("left", w.segments[0]), ("right", w.segments[1])] {
            for c in w.net.captured(seg).iter().rev().take(25).rev() {
                eprintln!("{name} {} {}", c.time_ns, lvs_core::wire::Pretty(&c.data));
            }
        }
        panic!("{error}\n{:#?}", w.director.borrow().counters());
    });
    for client in &clients {
        assert_eq!(w.net.get(*client).failure(), None, "seed {seed}");
    }
    let counts = served.map(|server| w.net.get(server).served().len());
    assert_eq!(counts.iter().sum::<usize>(), 4, "connections served {counts:?}");
    if wire == Wire::default() {
        assert_eq!(counts, [2, 2], "round robin");
    }
    knows_its_clients(&w, &clients, &served, forwarding);
    // The goodbyes, then every time-out.
    w.net.run_for(Duration::from_secs(400));
    let director = w.director.borrow();
    assert_eq!((director.store().len(), director.store().ports_in_use()), (0, 0), "left over");
    let counters = director.counters();
    let verdicts = counters.forwarded
        + counters.answered
        + counters.released
        + counters.learned
        + counters.waiting;
    assert_eq!(counters.received.packets, verdicts + counters.dropped_total(), "{counters:#?}");
    assert!(w.net.lane(w.device).port_count() == 2);
}

/// Every server has read the real client's address from the TCP options, or sees it as its peer.
fn knows_its_clients(
    w: &World<'_>,
    clients: &[AppId<BulkClient>],
    served: &[AppId<BulkServer>; 2],
    forwarding: Forwarding,
) {
    let mut expected: Vec<_> =
        clients.iter().map(|client| w.net.get(*client).local().unwrap()).collect();
    let mut known = Vec::new();
    for (server, app) in w.servers.iter().zip(served) {
        let seen = w.net.toa_seen(*server);
        for connection in w.net.get(*app).served() {
            known.push(match forwarding {
                Forwarding::FullNat => {
                    assert!(!expected.contains(&connection.peer), "the peer is a local address");
                    *seen.get(&(connection.peer, 8080)).expect("no address option")
                }
                Forwarding::Nat => connection.peer,
            });
        }
    }
    expected.sort();
    known.sort();
    assert_eq!(known, expected);
}

#[test]
fn fullnat_carries_a_mebibyte_each_way_and_leaves_nothing_behind() {
    transfers(1, Wire::default(), Forwarding::FullNat, V4, 1 << 20);
    transfers(2, Wire::default(), Forwarding::FullNat, V6, 1 << 20);
}

#[test]
fn nat_carries_a_mebibyte_each_way_and_leaves_nothing_behind() {
    transfers(3, Wire::default(), Forwarding::Nat, V4, 1 << 20);
    transfers(4, Wire::default(), Forwarding::Nat, V6, 1 << 20);
}

#[test]
fn rough_wires_lose_no_byte() {
    for seed in 10..20 {
        transfers(seed, Wire::rough(10_000), Forwarding::FullNat, V4, 50_000);
        transfers(seed, Wire::rough(10_000), Forwarding::FullNat, V6, 50_000);
        transfers(seed, Wire::rough(10_000), Forwarding::Nat, V4, 50_000);
    }
}

#[test]
fn udp_questions_are_answered_and_pings_to_a_service_too() {
    for forwarding in [Forwarding::FullNat, Forwarding::Nat] {
        let mut memory = support::memory();
        let director = RefCell::new(support::director(support::spec(forwarding), &mut memory));
        let mut w = world(5, Wire::default(), forwarding, &director);
        for server in w.servers {
            w.net.app(server, UdpEcho::new(53));
        }
        let udp = w.net.app(w.client, UdpClient::new("10.0.0.80:53", 20, 500));
        let pings = ["10.0.0.80", "fd00::80", "10.0.0.1", "fd00::1"]
            .map(|to| w.net.app(w.client, Ping::new(to, 3)));
        let done = |net: &Net<'_>| {
            net.get(udp).done() && pings.iter().all(|ping| net.get(*ping).replies() == 3)
        };
        w.net.run_until(done, Duration::from_secs(60)).unwrap();
    }
}
