//! The simulated network carries real TCP, loses what it should, and is a function of its seed.

use core::net::SocketAddr;
use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::io::mem::{MemLane, MemPort};
use lvs_core::io::{Burst, L4Csum, Lane, PacketBuf, PortId};
use lvs_testkit::build::{arp_request, tcp};
use lvs_testkit::net::{
    BulkClient, BulkServer, DeviceId, EchoServer, Host, HostId, Net, Ping, SegmentId, UdpClient,
    UdpEcho, Wire, stream, toa_of,
};
use lvs_testkit::oracle;

const LEFT: PortId = PortId(0);
const RIGHT: PortId = PortId(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Everything from one port to the other, with something done to each packet.
fn forward(lane: &mut MemLane, mut edit: impl FnMut(PortId, &mut [u8])) {
    for (from, to) in [(LEFT, RIGHT), (RIGHT, LEFT)] {
        let mut burst = Burst::new();
        while lane.rx_burst(from, &mut burst) != Ok(0) {
            burst.iter_mut().for_each(|packet| edit(from, packet.data_mut()));
            lane.tx_burst(to, &mut burst).unwrap();
            assert!(burst.is_empty(), "the queue of the other port has room");
        }
    }
}

struct Bridged<'d> {
    net: Net<'d>,
    clients: Vec<HostId>,
    servers: Vec<HostId>,
    left: SegmentId,
    bridge: DeviceId,
}

/// Two clients and two servers with a bridge between.
fn bridged<'d>(seed: u64, wire: Wire, turn: impl FnMut(u64, &mut MemLane) + 'd) -> Bridged<'d> {
    let mut net = Net::new(seed);
    let (left, right) = (net.segment(wire), net.segment(wire));
    let host = |name: &str, n: u8| {
        Host::new(name).addr(&format!("10.0.0.{n}/24")).addr(&format!("2001:db8::{n}/64"))
    };
    let clients = vec![net.host(left, host("c1", 1).timestamps()), net.host(left, host("c2", 2))];
    let servers =
        vec![net.host(right, host("s1", 11)), net.host(right, host("s2", 12).timestamps())];
    let lane = MemLane::new([MemPort::default(), MemPort::default()]);
    let bridge = net.device(lane, turn);
    net.attach(bridge, LEFT, left);
    net.attach(bridge, RIGHT, right);
    Bridged { net, clients, servers, left, bridge }
}

#[test]
fn a_bridge_carries_a_mebibyte_each_way_on_several_connections_under_two_percent_loss() {
    let wire = Wire::lossy(20_000);
    let Bridged { mut net, clients, servers, bridge, .. } =
        bridged(7, wire, |_, lane| forward(lane, |_, _| {}));
    let served: Vec<_> =
        servers.iter().map(|server| net.app(*server, BulkServer::new(80))).collect();
    let targets = ["10.0.0.11:80", "10.0.0.12:80", "[2001:db8::12]:80"];
    let transfers: Vec<_> = clients
        .iter()
        .flat_map(|client| targets.iter().map(move |to| (*client, to)))
        .map(|(client, to)| net.app(client, BulkClient::new(to, 1 << 20)))
        .collect();
    net.run_until(|net| transfers.iter().all(|t| net.get(*t).done()), seconds(600)).unwrap();
    for transfer in &transfers {
        assert_eq!(net.get(*transfer).failure(), None);
        assert!(net.get(*transfer).transferred());
    }
    let all: Vec<_> = served.iter().flat_map(|id| net.get(*id).served()).collect();
    assert_eq!(all.len(), transfers.len());
    assert!(all.iter().all(|served| served.complete()));
    let mut peers: Vec<SocketAddr> = all.iter().map(|served| served.peer).collect();
    let mut locals: Vec<SocketAddr> =
        transfers.iter().map(|t| net.get(*t).local().unwrap()).collect();
    peers.sort();
    locals.sort();
    assert_eq!(peers, locals);
    let lane = net.lane(bridge);
    assert_eq!((lane.held(LEFT), lane.held(RIGHT), lane.allocated()), (0, 0, 0));
}

#[test]
fn every_fault_at_once_is_survived_and_counted() {
    let Bridged { mut net, clients, servers, left, .. } =
        bridged(3, Wire::rough(10_000), |_, lane| forward(lane, |_, _| {}));
    let served = net.app(servers[0], BulkServer::new(80));
    let transfer = net.app(clients[0], BulkClient::new("10.0.0.11:80", 300_000));
    net.run_until(|net| net.get(transfer).done(), seconds(600)).unwrap();
    assert_eq!(net.get(transfer).failure(), None);
    assert!(net.get(served).served()[0].complete());
    let seen = net.counters(left);
    assert!(
        seen.lost > 0 && seen.duplicated > 0 && seen.reordered > 0 && seen.corrupted > 0,
        "{seen:?}"
    );
}

/// INV-13, for the network that the others run in.
#[test]
fn equal_seeds_give_equal_frames_at_equal_times_and_other_seeds_others() {
    let run = |seed| {
        let wire = Wire { jitter: Duration::from_micros(300), ..Wire::rough(10_000) };
        let Bridged { mut net, clients, servers, left, .. } =
            bridged(seed, wire, |_, lane| forward(lane, |_, _| {}));
        net.capture(left);
        net.app(servers[0], BulkServer::new(80));
        let transfer = net.app(clients[0], BulkClient::new("10.0.0.11:80", 100_000));
        net.run_until(|net| net.get(transfer).done(), seconds(600)).unwrap();
        net.captured(left).to_vec()
    };
    let first = run(5);
    assert!(first.len() > 100);
    assert!(first == run(5), "the same seed gave other frames");
    assert!(first != run(6), "another seed gave the same frames");
}

#[test]
fn a_device_that_breaks_a_checksum_carries_nothing() {
    let Bridged { mut net, clients, servers, .. } = bridged(1, Wire::default(), |_, lane| {
        forward(lane, |from, data| {
            let is_tcp = data.len() > 60 && data[12..14] == [8, 0] && data[23] == 6;
            if from == LEFT && is_tcp {
                data[57] ^= 1;
            }
        });
    });
    net.app(servers[0], BulkServer::new(80));
    let transfer = net.app(clients[0], BulkClient::new("10.0.0.11:80", 1000));
    let error = net.run_until(|net| net.get(transfer).done(), seconds(20)).unwrap_err();
    assert!(error.to_string().contains("c1: bulk to 10.0.0.11:80: 0 sent"), "{error}");
}

#[test]
fn a_device_that_changes_data_and_mends_the_checksum_is_still_found_out() {
    let Bridged { mut net, clients, servers, .. } = bridged(1, Wire::default(), |_, lane| {
        forward(lane, |from, data| {
            // Swapping two aligned words keeps the sum.
            if from == RIGHT && data.len() > 200 {
                data[100..104].rotate_left(2);
            }
        });
    });
    net.app(servers[0], BulkServer::new(80));
    let transfer = net.app(clients[0], BulkClient::new("10.0.0.11:80", 1000));
    net.run_until(|net| net.get(transfer).done(), seconds(20)).unwrap();
    assert!(net.get(transfer).failure().unwrap().contains("is wrong"));
}

#[test]
fn a_device_that_sends_partial_checksums_reaches_the_hosts() {
    // Turns every full checksum into a partial one, as a packet from a veth has it.
    let Bridged { mut net, clients, servers, .. } = bridged(2, Wire::default(), |_, lane| {
        for (from, to) in [(LEFT, RIGHT), (RIGHT, LEFT)] {
            let mut burst = Burst::new();
            while lane.rx_burst(from, &mut burst) != Ok(0) {
                for packet in burst.iter_mut() {
                    let Ok(of) = oracle::fields(packet.data()) else { continue };
                    if of.proto == 6 {
                        let sum = lvs_testkit::build::sum::ones_sum(&[
                            &lvs_testkit::build::sum::pseudo_header(
                                of.src,
                                of.dst,
                                6,
                                of.segment.len(),
                            ),
                        ]);
                        packet.data_mut()[50..52].copy_from_slice(&sum.to_be_bytes());
                        packet.set_l4_csum(L4Csum::Partial, 14, 34);
                    }
                }
                lane.tx_burst(to, &mut burst).unwrap();
            }
        }
    });
    net.app(servers[1], BulkServer::new(80));
    let transfer = net.app(clients[1], BulkClient::new("10.0.0.12:80", 100_000));
    net.run_until(|net| net.get(transfer).done(), seconds(20)).unwrap();
    assert_eq!(net.get(transfer).failure(), None);
}

#[test]
fn datagrams_echoes_and_the_echo_service_answer_in_both_families() {
    let Bridged { mut net, clients, servers, .. } =
        bridged(4, Wire::lossy(50_000), |_, lane| forward(lane, |_, _| {}));
    let echo = net.app(servers[0], UdpEcho::new(53));
    net.app(servers[0], EchoServer::new(7));
    let v4 = net.app(clients[0], UdpClient::new("10.0.0.11:53", 50, 100));
    let v6 = net.app(clients[1], UdpClient::new("[2001:db8::11]:53", 50, 1200));
    let ping4 = net.app(clients[0], Ping::new("10.0.0.12", 50));
    let ping6 = net.app(clients[1], Ping::new("2001:db8::12", 50));
    net.run_until(
        |net| net.get(v4).done() && net.get(v6).done() && net.get(ping4).sent_all(),
        seconds(120),
    )
    .unwrap();
    net.run_for(seconds(2));
    assert_eq!((net.get(v4).wrong(), net.get(v6).wrong()), (0, 0));
    assert!(net.get(v4).repeats() + net.get(v6).repeats() > 0, "5 % loss shows");
    assert!(net.get(echo).peers().len() >= 100);
    for ping in [ping4, ping6] {
        assert!((30..=50).contains(&net.get(ping).replies()), "{}", net.get(ping).replies());
    }
}

#[test]
fn a_host_without_power_is_silent_and_a_reset_shows_at_the_client() {
    let Bridged { mut net, clients, servers, .. } =
        bridged(4, Wire::default(), |_, lane| forward(lane, |_, _| {}));
    let served = net.app(servers[0], BulkServer::new(80));
    let transfer = net.app(clients[0], BulkClient::new("10.0.0.11:80", 1000).keep_open());
    let refused = net.app(clients[1], BulkClient::new("10.0.0.11:81", 1000));
    net.run_until(|net| net.get(transfer).transferred(), seconds(5)).unwrap();
    assert!(net.get(refused).failure().is_some(), "nobody listens on port 81");
    assert!(!net.get(served).served()[0].closed());

    net.set_power(servers[0], false);
    net.get_mut(transfer).close();
    net.run_for(seconds(2));
    assert!(!net.get(transfer).done());
    net.set_power(servers[0], true);
    net.run_until(|net| net.get(served).served()[0].closed(), seconds(60)).unwrap();
    assert_eq!(net.get(transfer).failure(), None);
}

#[test]
fn a_server_that_resets_its_connections_fails_the_transfers_and_serves_the_next() {
    let Bridged { mut net, clients, servers, .. } =
        bridged(4, Wire::default(), |_, lane| forward(lane, |_, _| {}));
    let served = net.app(servers[0], BulkServer::new(80));
    let first = net.app(clients[0], BulkClient::new("10.0.0.11:80", 1000).keep_open());
    net.run_until(|net| net.get(first).transferred(), seconds(5)).unwrap();
    net.get_mut(served).reset_all();
    net.run_until(|net| net.get(first).done(), seconds(5)).unwrap();
    assert_eq!(net.get(first).failure(), Some("the connection was reset"));
    let second = net.app(clients[0], BulkClient::new("10.0.0.11:80", 1000));
    net.run_until(|net| net.get(second).done(), seconds(5)).unwrap();
    assert_eq!(net.get(second).failure(), None);
}

#[test]
fn hosts_in_a_vlan_meet_over_a_trunk_with_the_tag_beside_or_in_the_bytes() {
    for beside in [true, false] {
        let mut net = Net::new(1);
        let segment = net.segment(Wire::default());
        net.capture(segment);
        let host = |name: &str, ip: &str, vlan| Host::new(name).addr(ip).vlan(vlan);
        let client = net.host(segment, host("client", "10.0.0.2/24", 10));
        let server = net.host(segment, host("server", "10.0.0.3/24", 20));
        // One arm: what comes in one VLAN leaves in the other.
        let mut port = MemPort::default();
        port.caps.max_frame += 4; // the tag may be in the bytes
        let device = net.device(MemLane::new([port]), move |_, lane| {
            let mut burst = Burst::new();
            while lane.rx_burst(LEFT, &mut burst) != Ok(0) {
                for packet in burst.iter_mut() {
                    if let Some(mut vlan) = packet.vlan() {
                        assert!(beside);
                        vlan.tci = 30 - vlan.tci;
                        packet.set_vlan(Some(vlan));
                    } else {
                        assert!(!beside);
                        packet.data_mut()[15] = 30 - packet.data_mut()[15];
                    }
                }
                lane.tx_burst(LEFT, &mut burst).unwrap();
            }
        });
        net.attach(device, LEFT, segment);
        net.set_tag_beside(device, beside);
        let served = net.app(server, BulkServer::new(80));
        let transfer = net.app(client, BulkClient::new("10.0.0.3:80", 10_000));
        net.run_until(|net| net.get(transfer).done(), seconds(10)).unwrap();
        assert!(net.get(served).served()[0].complete());
        assert!(net.captured(segment).iter().all(|c| c.data[12..14] == [0x81, 0]));
    }
}

#[test]
fn a_server_remembers_the_client_address_of_the_newest_handshake() {
    let mut net = Net::new(1);
    let segment = net.segment(Wire::default());
    let server = net.host(segment, Host::new("server").addr("10.0.0.80/24").mac(MacAddr([2; 6])));
    let client: SocketAddr = "192.0.2.9:5555".parse().unwrap();
    let other: SocketAddr = "[2001:db8::9]:7".parse().unwrap();
    let syn = || tcp().syn().dst_mac(MacAddr([2; 6]));
    let frame = syn().mss(1400).toa(client).build();
    assert_eq!(toa_of(&frame), Some(client));
    net.send_frame(segment, &frame);
    net.send_frame(segment, &syn().from("10.0.0.3:1").toa(other).build());
    net.send_frame(segment, &syn().from("10.0.0.4:1").toa(other).wrong_l4_csum().build());
    net.send_frame(segment, &tcp().ack(1).from("10.0.0.5:1").toa(other).build());
    net.run_for(seconds(1));
    let key = |text: &str| (text.parse().unwrap(), 80);
    let seen = net.toa_seen(server);
    assert_eq!(seen.get(&key("10.0.0.2:40000")), Some(&client));
    assert_eq!(seen.get(&key("10.0.0.3:1")), Some(&other));
    assert_eq!(seen.get(&key("10.0.0.4:1")), None, "the stack drops it");
    assert_eq!(seen.get(&key("10.0.0.5:1")), Some(&other), "a later segment may carry it");
    net.send_frame(segment, &syn().build());
    net.run_for(seconds(1));
    assert_eq!(net.toa_seen(server).get(&key("10.0.0.2:40000")), None);
}

#[test]
fn a_stopped_device_loses_what_arrives_and_is_called_again_when_it_runs() {
    let calls = core::cell::Cell::new(0);
    let mut net = Net::new(1);
    let segment = net.segment(Wire::default());
    let device = net.device(MemLane::new([MemPort::default()]), |_, lane| {
        calls.set(calls.get() + 1);
        let mut burst = Burst::new();
        lane.rx_burst(LEFT, &mut burst).unwrap();
    });
    net.attach(device, LEFT, segment);
    net.set_tick(device, Duration::from_millis(100));
    net.run_for(seconds(1));
    assert_eq!(calls.get(), 11);
    net.set_running(device, false);
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let frame = arp_request(mac, [10, 0, 0, 9].into(), [10, 0, 0, 1].into()).build();
    net.send_frame(segment, &frame);
    net.run_for(seconds(1));
    assert_eq!((calls.get(), net.lane(device).stats(LEFT).rx), (11, 0));
    net.set_running(device, true);
    net.send_frame(segment, &frame);
    net.run_for(Duration::from_millis(1));
    assert_eq!(net.lane(device).stats(LEFT).rx, 1);
}

#[test]
fn a_switch_learns_and_floods_what_it_does_not_know() {
    let seen = core::cell::Cell::new(0);
    let mut net = Net::new(1);
    let segment = net.segment(Wire::default());
    let a = net.host(segment, Host::new("a").addr("10.0.0.1/24"));
    let b = net.host(segment, Host::new("b").addr("10.0.0.2/24"));
    let device = net.device(MemLane::new([MemPort::default()]), |_, lane| {
        let mut burst = Burst::new();
        seen.set(seen.get() + lane.rx_burst(LEFT, &mut burst).unwrap());
    });
    net.attach(device, LEFT, segment);
    net.app(b, EchoServer::new(7));
    let served = net.app(b, BulkServer::new(80));
    let transfer = net.app(a, BulkClient::new("10.0.0.2:80", 100_000));
    net.run_until(|net| net.get(transfer).done(), seconds(10)).unwrap();
    assert!(net.get(served).served()[0].complete());
    assert_eq!(seen.get(), 1, "a third port sees the ARP request and no more");
}

#[test]
fn the_byte_stream_depends_on_seed_and_place() {
    let (mut a, mut b, mut c) = ([0; 64], [0; 32], [0; 64]);
    stream(1, 0, &mut a);
    stream(1, 17, &mut b);
    stream(2, 0, &mut c);
    assert_eq!(a[17..49], b);
    assert_ne!(a, c);
    assert!(a.windows(8).enumerate().all(|(at, w)| !a[at + 8..].windows(8).any(|v| v == w)));
}
