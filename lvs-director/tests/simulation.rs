//! Real TCP/IP stacks on both sides of a director, with faults, on a virtual clock.

mod support;

use core::cell::RefCell;
use core::time::Duration;
use lvs_core::counters::Counters;
use lvs_core::io::mem::{MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::service::Forwarding;
use lvs_core::time::Time;
use lvs_core::timeouts::Timeouts;
use lvs_core::verdict::DropReason;
use lvs_director::{Director, Outputs};
use lvs_testkit::net::{
    AppId, BulkClient, BulkServer, Host, HostId, Net, Ping, SegmentId, Served, UdpClient, UdpEcho,
    Wire,
};
use lvs_testkit::pcap::Capture;

struct World<'d> {
    net: Net<'d>,
    client: HostId,
    servers: [HostId; 2],
    segments: [SegmentId; 2],
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
                    _ => host,
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
    World { net, client, servers, segments: [left, right] }
}

const V4: &str = "10.0.0.80:80";
const V6: &str = "[fd00::80]:80";

/// Four transfers through a director, until the last time-out.
#[derive(Clone, Copy)]
struct Transfers {
    seed: u64,
    wire: Wire,
    forwarding: Forwarding,
    service: &'static str,
    bytes: u64,
    timeouts: Timeouts,
}

/// What a run left behind, besides what [`Transfers::run`] checks itself.
struct Ran {
    /// Everybody at both ends has closed its connection.
    closed: bool,
    counters: Counters,
    wire: [Vec<Capture>; 2],
}

impl Transfers {
    /// A mebibyte each way, on good wires.
    fn new(seed: u64, forwarding: Forwarding, service: &'static str) -> Self {
        let (wire, bytes, timeouts) = (Wire::default(), 1 << 20, Timeouts::LVS);
        Self { seed, wire, forwarding, service, bytes, timeouts }
    }

    /// Less, on wires with every fault so many times per million frames.
    fn rough(seed: u64, each: u32, forwarding: Forwarding, service: &'static str) -> Self {
        let wire = Wire::rough(each);
        Self { wire, bytes: 50_000, ..Self::new(seed, forwarding, service) }
    }

    /// Runs until everybody has closed, or an hour has passed. No byte is lost, repeated or changed
    /// whatever happens, every server knows its clients, and nothing is left over in the director.
    fn run(self) -> Ran {
        let mut memory = support::memory();
        let mut spec = support::spec(self.forwarding);
        spec.services.iter_mut().for_each(|service| service.timeouts = self.timeouts);
        let director = RefCell::new(support::director(spec, &mut memory));
        let mut w = world(self.seed, self.wire, self.forwarding, &director);
        let served = w.servers.map(|server| w.net.app(server, BulkServer::new(8080)));
        let clients: Vec<AppId<BulkClient>> = (0..4)
            .map(|_| w.net.app(w.client, BulkClient::new(self.service, self.bytes)))
            .collect();
        let closed = |net: &Net<'_>| {
            clients.iter().all(|client| net.get(*client).done())
                && served.iter().all(|id| net.get(*id).served().iter().all(Served::closed))
        };
        let outcome = w.net.run_until(closed, Duration::from_secs(3600));
        let story = || format!("{outcome:?}\n{:#?}", director.borrow().counters());
        for client in clients.iter().map(|client| w.net.get(*client)) {
            assert!(client.transferred(), "seed {}: {}", self.seed, story());
            assert_eq!(client.failure(), None, "seed {}", self.seed);
        }
        let counts = served.map(|server| w.net.get(server).served().len());
        assert_eq!(counts.iter().sum::<usize>(), 4, "connections served {counts:?}");
        if self.wire == Wire::default() {
            assert_eq!(counts, [2, 2], "round robin");
        }
        knows_its_clients(&w, &clients, &served, self.forwarding);
        // The longest time-out of a session that is closing or half open, and then some.
        w.net.run_for(Duration::from_secs(400));
        let director = director.borrow();
        // INV-9.
        assert_eq!((director.store().len(), director.store().ports_in_use()), (0, 0), "left over");
        support::every_packet_is_counted_once(director.counters());
        Ran {
            closed: outcome.is_ok(),
            counters: director.counters().clone(),
            wire: w.segments.map(|segment| w.net.captured(segment).to_vec()),
        }
    }
}

/// Every server has read the real client's address from the TCP options, or sees it as its peer
/// (INV-12: and no other).
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
                _ => connection.peer,
            });
        }
    }
    expected.sort();
    known.sort();
    assert_eq!(known, expected);
}

#[test]
fn fullnat_carries_a_mebibyte_each_way_and_leaves_nothing_behind() {
    assert!(Transfers::new(1, Forwarding::FullNat, V4).run().closed);
    assert!(Transfers::new(2, Forwarding::FullNat, V6).run().closed);
}

#[test]
fn nat_carries_a_mebibyte_each_way_and_leaves_nothing_behind() {
    assert!(Transfers::new(3, Forwarding::Nat, V4).run().closed);
    assert!(Transfers::new(4, Forwarding::Nat, V6).run().closed);
}

/// All three kinds of service, on wires that lose, double, reorder and damage frames.
fn rough(seeds: core::ops::Range<u64>, each: u32) -> impl Iterator<Item = Transfers> {
    seeds.flat_map(move |seed| {
        [(Forwarding::FullNat, V4), (Forwarding::FullNat, V6), (Forwarding::Nat, V4)]
            .map(|(forwarding, service)| Transfers::rough(seed, each, forwarding, service))
    })
}

/// With the time-outs of RFC 5382 a session outlives every retransmission of the goodbyes (a stack
/// doubles its timer up to one minute), so both ends of every connection close.
#[test]
fn rough_wires_lose_no_byte_and_no_goodbye() {
    for transfers in rough(10..20, 10_000).chain(rough(25..32, 30_000)) {
        let ran = Transfers { timeouts: Timeouts::RFC, ..transfers }.run();
        assert!(ran.closed, "seed {}: {:#?}", transfers.seed, ran.counters);
    }
}

/// The closing time-outs of the `lvs` profile, three to seven seconds, are shorter than the pause
/// before the third or fourth retransmission of a FIN. Who loses as many meets no session any more
/// and is not answered; its bytes have all arrived by then.
#[test]
fn short_closing_time_outs_cost_a_goodbye_at_worst() {
    let mut unheard = 0;
    for transfers in rough(8..14, 10_000) {
        let Ran { closed, counters, .. } = transfers.run();
        let dropped =
            counters.dropped(DropReason::NoSession) + counters.dropped(DropReason::NoSessionLocal);
        assert!(closed || dropped > 0, "seed {}: {counters:#?}", transfers.seed);
        unheard += u32::from(!closed);
    }
    assert!((1..6).contains(&unheard), "{unheard} of 18 runs did not end");
}

/// INV-13. Everything that a run puts on the wires, and when, is a function of the seed.
#[test]
fn the_same_seed_gives_the_same_frames_and_counters() {
    let run = |seed| Transfers::rough(seed, 10_000, Forwarding::FullNat, V4).run();
    let (first, second, other) = (run(40), run(40), run(41));
    assert_eq!(first.counters, second.counters);
    assert!(first.wire == second.wire, "the frames differ");
    assert!(first.wire != other.wire, "the seed changes nothing");
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
