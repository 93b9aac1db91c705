//! What a packet without a session belongs to: marks, all ports of an address, datagrams for themselves, QUIC
//! connection ids, the host.

mod support;

use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::{Family, Prefix, RealAddr, VirtualAddr};
use lvs_core::flow::L4Proto;
use lvs_core::io::mem::MemPort;
use lvs_core::persistence::Persistence;
use lvs_core::quic;
use lvs_core::sched::{ServerLoad, Weight};
use lvs_core::service::{ClientAddrMode, Forwarding, ServiceFlags, ServiceKey};
use lvs_core::snapshot::{MarkRule, ServerSpec, ServiceSpec, SnapshotError, SnapshotSpec};
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{Packet, Udp, tcp, udp};
use lvs_testkit::oracle;
use support::bench::{Bench, CLIENTS, MAC, SERVERS, mac_of};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(text: &str) -> Prefix {
    let ip = ip(text);
    Prefix::new(ip, if ip.is_ipv4() { 32 } else { 128 }).unwrap()
}

fn bench(spec: SnapshotSpec, memory: &mut lvs_core::session::HeapMemory) -> Bench<'_> {
    Bench::new(spec, memory, MemPort::plain(MAC))
}

/// Ends of the only frame that left, and the port that it left by.
fn sent(out: &[(lvs_core::io::PortId, Vec<u8>)]) -> (lvs_core::io::PortId, SocketAddr, SocketAddr) {
    let [(port, frame)] = out else { panic!("{out:?}") };
    oracle::checksums_ok(frame).expect("sound checksums");
    let fields = oracle::fields(frame).unwrap();
    let (sport, dport) = fields.ports.unwrap();
    (*port, SocketAddr::new(fields.src, sport), SocketAddr::new(fields.dst, dport))
}

fn datagram(from: &str, to: &str) -> Packet<Udp> {
    udp().from(at(from)).to(at(to)).src_mac(mac_of(at(from).ip())).dst_mac(MAC).payload_len(20)
}

/// A service for a mark, whose servers keep the port that was asked for.
fn marked(mark: u32, forwarding: Forwarding, servers: &[&str]) -> ServiceSpec {
    let family = Family::of(&ip(servers[0]));
    let any = if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" };
    ServiceSpec {
        key: ServiceKey::marked(mark, family),
        servers: servers
            .iter()
            .map(|server| ServerSpec::new(RealAddr(SocketAddr::new(ip(server), 0)), Weight(1)))
            .collect(),
        ..support::service(any, L4Proto::Tcp, forwarding, &[])
    }
}

fn rules(spec: &mut SnapshotSpec) {
    spec.marks = vec![
        // An exception in front.
        MarkRule { dst: Some(host("10.0.0.90")), ports: (22, 22), ..MarkRule::all(0) },
        MarkRule { dst: Some(host("10.0.0.90")), ..MarkRule::all(7) },
        MarkRule { dst: Some(host("10.0.0.91")), proto: Some(L4Proto::Tcp), ..MarkRule::all(7) },
        MarkRule {
            src: Prefix::new(ip("10.0.0.0"), 30),
            dst: Some(host("10.0.0.80")),
            ..MarkRule::all(8)
        },
        MarkRule { dst: Prefix::new(ip("203.0.113.0"), 24), ..MarkRule::all(7) },
        MarkRule { dst: Some(host("fd00::90")), ..MarkRule::all(7) },
    ];
}

#[test]
fn a_mark_gathers_addresses_ports_and_protocols_and_replies_come_from_what_was_asked() {
    for forwarding in [Forwarding::Nat, Forwarding::FullNat] {
        let mut memory = support::memory();
        let mut spec = support::spec(forwarding);
        rules(&mut spec);
        spec.services.push(marked(7, forwarding, &["10.1.0.11"]));
        spec.services.push(marked(7, forwarding, &["fd01::11"]));
        spec.services.push(marked(8, forwarding, &["10.1.0.12"]));
        let mut bench = bench(spec, &mut memory);
        for (client, vip, server) in [
            ("10.0.0.9:5000", "10.0.0.90:80", "10.1.0.11:80"),
            ("10.0.0.9:5000", "10.0.0.90:443", "10.1.0.11:443"),
            ("10.0.0.9:5001", "10.0.0.91:443", "10.1.0.11:443"),
            ("10.0.0.9:5000", "203.0.113.200:25", "10.1.0.11:25"),
            // Marked by its source: it wins over the service of the address.
            ("10.0.0.2:5000", "10.0.0.80:80", "10.1.0.12:80"),
            ("10.0.0.9:5000", "10.0.0.80:80", "10.1.0.11:8080"),
            ("[fd00::2]:5000", "[fd00::90]:443", "[fd01::11]:443"),
        ] {
            let syn = tcp().syn().seq(9).from(at(client)).to(at(vip)).dst_mac(MAC);
            let (report, out) = bench.feed(CLIENTS, syn.build_buf());
            let (port, from, to) = sent(&out);
            assert_eq!((port, to), (SERVERS, at(server)), "{client} {vip} {report:?}");
            let answer =
                tcp().syn().seq(1).ack(oracle::fields(&out[0].1).unwrap().tcp.unwrap().seq + 1);
            let (_, out) = bench.feed(SERVERS, answer.from(to).to(from).dst_mac(MAC).build_buf());
            assert_eq!(sent(&out), (CLIENTS, at(vip), at(client)));
        }
        let (_, out) = bench.feed(CLIENTS, datagram("10.0.0.9:5000", "10.0.0.90:53").build_buf());
        assert_eq!(sent(&out).2, at("10.1.0.11:53"), "UDP, too");
        for (to, why) in
            [("10.0.0.90:22", DropReason::NoService), ("203.0.114.1:22", DropReason::NotForwarding)]
        {
            let syn = tcp().syn().from(at("10.0.0.9:5000")).to(at(to)).dst_mac(MAC);
            let (report, _) = bench.feed(CLIENTS, syn.build_buf());
            assert_eq!(report.verdict, Verdict::Drop(why), "{to}");
        }
        // Other protocols of a marked address than the rule says: the address is virtual, nobody serves it.
        let (report, _) = bench.feed(CLIENTS, datagram("10.0.0.9:1", "10.0.0.91:53").build_buf());
        assert_eq!(report.verdict, Verdict::Drop(DropReason::NoService));
    }
}

#[test]
fn a_persistent_mark_and_a_persistent_address_keep_a_client_over_all_ports() {
    for by_mark in [true, false] {
        let mut memory = support::memory();
        let mut spec = support::spec(Forwarding::Nat);
        rules(&mut spec);
        let servers = ["10.1.0.11", "10.1.0.12"];
        let mut service = marked(7, Forwarding::Nat, &servers);
        if !by_mark {
            service.key = ServiceKey::new(L4Proto::Tcp, VirtualAddr(at("10.0.0.92:0")));
        }
        service.persistence = Some(Persistence::default());
        spec.services.push(service);
        let mut bench = bench(spec, &mut memory);
        let vips = if by_mark { ["10.0.0.90", "10.0.0.91"] } else { ["10.0.0.92"; 2] };
        let mut first = Vec::new();
        for client in 2..10u8 {
            let servers: Vec<IpAddr> = (0..6u16)
                .map(|n| {
                    let to = SocketAddr::new(ip(vips[usize::from(n % 2)]), 1000 + n);
                    let from = SocketAddr::new([10, 0, 0, client].into(), 5000 + n);
                    let syn = tcp().syn().from(from).to(to).dst_mac(MAC);
                    let (_, out) = bench.feed(CLIENTS, syn.build_buf());
                    let (_, _, server) = sent(&out);
                    assert_eq!(server.port(), 1000 + n);
                    server.ip()
                })
                .collect();
            assert!(servers.iter().all(|server| *server == servers[0]), "{servers:?}");
            first.push(servers[0]);
        }
        assert_eq!(first.iter().filter(|server| **server == first[0]).count(), 4, "in turn");
    }
}

fn one_packet(forwarding: Forwarding) -> SnapshotSpec {
    let mut spec = support::spec(forwarding);
    let services = [
        ("10.0.0.80:53", ["10.1.0.11:53", "10.1.0.12:53"]),
        ("[fd00::80]:53", ["[fd01::11]:53", "[fd01::12]:53"]),
    ];
    spec.services.truncate(2);
    for (vip, servers) in services {
        let mut service = support::service(vip, L4Proto::Udp, forwarding, &servers);
        service.flags.one_packet = true;
        spec.services.push(service);
    }
    spec
}

#[test]
fn each_datagram_is_scheduled_for_itself_and_replies_come_from_the_service() {
    let mut memory = support::memory();
    let mut bench = bench(one_packet(Forwarding::Nat), &mut memory);
    for (client, vip, servers) in [
        ("10.0.0.2:5000", "10.0.0.80:53", ["10.1.0.11:53", "10.1.0.12:53"]),
        ("[fd00::2]:5000", "[fd00::80]:53", ["[fd01::11]:53", "[fd01::12]:53"]),
    ] {
        for round in 0..6 {
            let server = servers[round % 2];
            let (report, out) = bench.feed(CLIENTS, datagram(client, vip).build_buf());
            assert_eq!(sent(&out), (SERVERS, at(client), at(server)), "{report:?}");
            assert!(report.session.is_none() && report.server.is_some());
            let (report, out) = bench.feed(SERVERS, datagram(server, client).build_buf());
            assert_eq!(sent(&out), (CLIENTS, at(vip), at(client)), "{report:?}");
        }
    }
    assert!(bench.sessions().is_empty());
    let counters = bench.director.counters();
    assert_eq!((counters.sessions_opened, counters.forwarded + counters.waiting), (0, 24));
    support::every_packet_is_counted_once(counters);
    let servers = bench.director.generation().snapshot().servers();
    let udp = servers.filter(|server| server.addr.port() == 53);
    for server in udp {
        let count = bench.director.generation().server_count(server.id).unwrap();
        assert_eq!((count.active, count.inactive), (0, 0), "no session is counted");
        assert_eq!((count.carried.inbound.packets, count.carried.outbound.packets), (3, 3));
    }
}

#[test]
fn datagrams_for_themselves_travel_in_every_mode_that_has_no_local_port() {
    for forwarding in [Forwarding::Dr, Forwarding::Tun] {
        let mut memory = support::memory();
        let mut bench = bench(one_packet(forwarding), &mut memory);
        for server in ["10.1.0.11", "10.1.0.12", "10.1.0.11"] {
            let packet = datagram("10.0.0.2:5000", "10.0.0.80:53").build_buf();
            let (_, out) = bench.feed(CLIENTS, packet);
            let [(SERVERS, frame)] = &out[..] else { panic!("{out:?}") };
            assert_eq!(frame[..6], mac_of(ip(server)).0);
            let tunnelled = frame[23] == 4;
            assert_eq!(tunnelled, forwarding == Forwarding::Tun);
        }
        assert!(bench.sessions().is_empty());
        // Nobody's answers are touched.
        let stray = datagram("10.1.0.11:53", "10.0.0.2:5000").build_buf();
        assert_eq!(bench.feed(SERVERS, stray).0.verdict, Verdict::Drop(DropReason::NotForwarding));
    }
}

#[test]
fn a_datagram_for_itself_that_cannot_go_is_dropped_with_its_reason() {
    let mut memory = support::memory();
    let mut spec = one_packet(Forwarding::Nat);
    spec.interfaces[1].mtu = Some(600);
    let mut bench = bench(spec, &mut memory);
    let (client, vip) = ("10.0.0.2:5000", "10.0.0.80:53");
    for (packet, reason, errors) in [
        (datagram(client, vip).ttl(1), DropReason::TtlExceeded, 1),
        (datagram(client, vip).payload_len(900), DropReason::TooBig, 1),
    ] {
        let (report, out) = bench.feed(CLIENTS, packet.build_buf());
        assert_eq!((report.verdict, out.len()), (Verdict::Drop(reason), errors));
    }
    // A wrong checksum stays wrong (INV-3), no checksum none.
    let (_, out) = bench.feed(CLIENTS, datagram(client, vip).wrong_l4_csum().build_buf());
    assert!(oracle::checksums_ok(&out[0].1).is_err());
    let mut spec = one_packet(Forwarding::Nat);
    for server in spec.services.iter_mut().flat_map(|service| &mut service.servers) {
        server.weight = Weight(0);
    }
    bench.reload(spec);
    let (report, _) = bench.feed(CLIENTS, datagram(client, vip).build_buf());
    assert_eq!(report.verdict, Verdict::Drop(DropReason::NoServer));
}

#[test]
fn what_could_not_be_told_apart_is_refused() {
    let refused = |spec: SnapshotSpec| spec.build(None).unwrap_err();
    assert!(matches!(refused(one_packet(Forwarding::FullNat)), SnapshotError::OnePacket(_)));
    let mut spec = support::spec(Forwarding::Nat);
    let mut service = marked(7, Forwarding::Nat, &["10.1.0.11"]);
    service.flags.one_packet = true;
    spec.services.push(service);
    assert!(matches!(refused(spec), SnapshotError::OnePacket(_)));
    for length in [0, 21] {
        let mut spec = support::spec(Forwarding::Nat);
        spec.services[2].flags.quic = Some(length);
        assert!(matches!(refused(spec), SnapshotError::QuicLength(_)));
    }
}

/// A datagram with a long header, as a client's first one, or with a short one.
fn quic_packet(long: bool, id: &[u8]) -> Vec<u8> {
    let mut bytes = if long {
        [&[0xc3, 0, 0, 0, 1, id.len() as u8][..], id, &[0]].concat()
    } else {
        [&[0x43][..], id].concat()
    };
    bytes.resize(200, 0x5a);
    bytes
}

#[test]
fn quic_packets_go_where_their_connection_id_leads_from_whatever_address() {
    const LENGTH: u8 = 8;
    for forwarding in [Forwarding::Nat, Forwarding::FullNat] {
        for scheduler in [&lvs_sched::maglev::DEF, &lvs_sched::conhash::DEF] {
            let mut memory = support::memory();
            let mut spec = support::spec(forwarding);
            let servers = ["10.1.0.11:443", "10.1.0.12:443", "10.1.0.13:443", "10.1.0.14:443"];
            let mut service = support::service("10.0.0.80:443", L4Proto::Udp, forwarding, &servers);
            (service.scheduler, service.client_addr) = (scheduler, ClientAddrMode::None);
            service.flags = ServiceFlags { quic: Some(LENGTH), ..service.flags };
            spec.services.push(service);
            let mut bench = bench(spec, &mut memory);
            let mut used = std::collections::BTreeSet::new();
            for n in 0..40u8 {
                let id = [n, 7, 7, 7, 7, 7, 7, n ^ 0x55];
                // What the id leads to, as a server can compute it for itself.
                let flow = quic::flow(&id, ip("10.0.0.80"), 443);
                let snapshot = bench.director.generation().snapshot().clone();
                let service = snapshot.find_service(L4Proto::Udp, ip("10.0.0.80"), 443).unwrap();
                let loads: Vec<ServerLoad> = service
                    .servers
                    .iter()
                    .map(|id| snapshot.server(*id).unwrap())
                    .map(|server| ServerLoad {
                        id: server.id,
                        addr: server.addr,
                        weight: server.weight,
                        overloaded: false,
                        active: 0,
                        inactive: 0,
                    })
                    .collect();
                let mut own = (scheduler.build)(support::ARGS);
                own.rebuild(&loads);
                let expected = loads[own.pick(&flow, &loads).unwrap()].addr.0;
                used.insert(expected);
                for (port, long) in [(100, true), (200, true), (300, false)] {
                    let client = format!("10.0.0.2:{}", 1000 + port + u16::from(n));
                    let packet = datagram(&client, "10.0.0.80:443");
                    let packet = packet.payload(quic_packet(long, &id));
                    let (_, out) = bench.feed(CLIENTS, packet.build_buf());
                    assert_eq!(sent(&out).2, expected, "{id:?} long {long}");
                }
                // An address that has a session stays, whatever id comes.
                let client = format!("10.0.0.2:{}", 1100 + u16::from(n));
                let packet =
                    datagram(&client, "10.0.0.80:443").payload(quic_packet(false, &[9; 8]));
                let (_, out) = bench.feed(CLIENTS, packet.build_buf());
                assert_eq!(sent(&out).2, expected);
            }
            assert_eq!(used.len(), 4, "ids are spread");
            // What shows no id is picked by its address, and is forwarded all the same.
            for payload in [&[][..], &[0x43, 1], &[0xc3, 0, 0, 0, 1, 200, 1]] {
                let client = format!("10.0.0.2:{}", 9000 + payload.len());
                let packet = datagram(&client, "10.0.0.80:443").payload(payload);
                let (report, _) = bench.feed(CLIENTS, packet.build_buf());
                assert!(!matches!(report.verdict, Verdict::Drop(_)), "{report:?}");
            }
        }
    }
}

#[test]
fn what_the_host_serves_itself_is_left_to_it() {
    let mut memory = support::memory();
    let mut spec = support::spec(Forwarding::Nat);
    for interface in &mut spec.interfaces {
        interface.owner = lvs_core::snapshot::SelfOwner::Host;
    }
    let local = support::service("10.0.0.95:80", L4Proto::Tcp, Forwarding::Local, &[]);
    spec.services.push(ServiceSpec { pool: None, client_addr: ClientAddrMode::None, ..local });
    let mut bench = bench(spec, &mut memory);
    let before = Time(bench.now);
    for packet in [
        tcp().syn().from(at("10.0.0.2:1")).to(at("10.0.0.95:80")).dst_mac(MAC).build_buf(),
        tcp().ack(7).from(at("10.0.0.2:1")).to(at("10.0.0.95:80")).dst_mac(MAC).build_buf(),
        datagram("10.0.0.2:1", "10.0.0.95:99").build_buf(),
        lvs_testkit::build::echo(1, 1).from("10.0.0.2").to("10.0.0.95").dst_mac(MAC).build_buf(),
    ] {
        let (report, out) = bench.feed(CLIENTS, packet);
        assert_eq!((report.verdict, out.len()), (Verdict::Release, 0));
    }
    assert!(bench.sessions().is_empty() && Time(bench.now) > before);
    // It is an address of the box: nobody else may come with it.
    let spoofed = tcp().syn().from(at("10.0.0.95:80")).to(at("10.0.0.80:80")).dst_mac(MAC);
    let (report, _) = bench.feed(CLIENTS, spoofed.build_buf());
    assert_eq!(report.verdict, Verdict::Drop(DropReason::SpoofedSource));
}
