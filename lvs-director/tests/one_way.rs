//! Direct routing and tunnels: servers that answer clients past the director.

mod support;

use core::net::SocketAddr;
use lvs_core::addr::Prefix;
use lvs_core::flow::L4Proto;
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::{Burst, L4Csum, Lane, PacketBuf};
use lvs_core::service::{Encapsulation, Forwarding, ServerState};
use lvs_core::session::{OneWay, TcpState};
use lvs_core::snapshot::SnapshotSpec;
use lvs_core::time::Time;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_director::Outputs;
use lvs_testkit::build::{arp_reply, tcp, udp};
use lvs_testkit::{nic, oracle};
use support::bench::{Bench, CLIENTS, MAC, SERVERS, mac_of};

const CLIENT: &str = "10.0.0.2:4000";
const VIP: &str = "10.0.0.80:80";
const TUNNELS: [(Encapsulation, usize); 5] = [
    (Encapsulation::IpIp, 20),
    (Encapsulation::Gre { checksum: false }, 24),
    (Encapsulation::Gre { checksum: true }, 28),
    (Encapsulation::Gue { dport: 6080, checksum: false }, 32),
    (Encapsulation::Gue { dport: 6080, checksum: true }, 32),
];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A port as AF_PACKET has it: it completes checksums and cuts trains, but not in tunnels.
fn port() -> MemPort {
    let mut port = MemPort::new(MAC);
    port.caps.gso.in_tunnel = false;
    port
}

fn spec(forwarding: Forwarding, tunnel: Encapsulation) -> SnapshotSpec {
    let mut spec = support::spec(forwarding);
    for server in spec.services.iter_mut().flat_map(|service| &mut service.servers) {
        server.tunnel = tunnel;
    }
    spec
}

fn dr() -> SnapshotSpec {
    spec(Forwarding::Dr, Encapsulation::IpIp)
}

fn tun(tunnel: Encapsulation) -> SnapshotSpec {
    spec(Forwarding::Tun, tunnel)
}

fn segment(from: &str, to: &str) -> lvs_testkit::build::Packet<lvs_testkit::build::Tcp> {
    tcp().from(at(from)).to(at(to)).src_mac(mac_of(at(from).ip())).dst_mac(MAC)
}

/// The frame with the Ethernet addresses and the time to live that it leaves with.
fn moved(packet: &MemBuf, server: &str) -> Vec<u8> {
    let mut frame = nic::on_wire(packet).remove(0);
    frame[..6].copy_from_slice(&mac_of(server.parse().unwrap()).0);
    frame[6..12].copy_from_slice(&MAC.0);
    if frame[12..14] == [8, 0] {
        frame[22] -= 1;
        // One less in the upper half of a word: the complement grows by 0x100 (RFC 1624).
        let sum = u32::from(u16::from_be_bytes([frame[24], frame[25]])) + 0x0100;
        let sum = (sum & 0xffff) + (sum >> 16);
        frame[24..26].copy_from_slice(&(sum as u16).to_be_bytes());
    } else {
        frame[21] -= 1;
    }
    frame
}

fn state(bench: &Bench<'_>) -> (TcpState, Option<OneWay>) {
    let sessions = bench.sessions();
    assert_eq!(sessions.len(), 1);
    (sessions[0].state, sessions[0].one_way)
}

#[test]
fn dr_changes_ethernet_addresses_and_a_hop_and_follows_the_client_alone() {
    for (client, vip, server) in
        [(CLIENT, VIP, "10.1.0.11"), ("[fd00::2]:4000", "[fd00::80]:80", "fd01::11")]
    {
        let mut memory = support::memory();
        let mut bench = Bench::new(dr(), &mut memory, port());
        let s = || segment(client, vip);
        let ways = [
            (s().syn().seq(9).mss(1460), TcpState::SynRecv),
            // The same server, for nobody knows whether it has answered.
            (s().syn().seq(9).mss(1460), TcpState::SynRecv),
            (s().syn().seq(77), TcpState::SynRecv),
            (s().seq(10).ack(1), TcpState::Established),
            (s().seq(10).ack(1).psh().payload_len(100), TcpState::Established),
            (s().seq(110).ack(1).fin(), TcpState::FinWait),
            (s().seq(111).ack(2), TcpState::FinWait),
            (s().seq(111).rst(), TcpState::Close),
        ];
        for (packet, after) in ways {
            let expected = moved(&packet.build_buf(), server);
            let (report, out) = bench.feed(CLIENTS, packet.build_buf());
            assert!(!matches!(report.verdict, Verdict::Drop(_)), "{report:?}");
            assert_eq!(out, [(SERVERS, expected)]);
            assert_eq!(state(&bench), (after, Some(OneWay::Direct)));
        }
        let session = bench.sessions()[0];
        assert_eq!((session.inbound.packets, session.outbound.packets), (8, 0));
        assert!(!session.has_local_port && !session.answered);
        // A reply would carry the virtual address as its source: nobody but the director may come with it.
        let reply = segment(vip, client).src_mac(mac_of(at(vip).ip())).ack(1).build_buf();
        let (report, _) = bench.feed(SERVERS, reply);
        assert_eq!(report.verdict, Verdict::Drop(DropReason::SpoofedSource));
        // And nothing is kept under the server's address.
        let stray = SocketAddr::new(server.parse().unwrap(), 80).to_string();
        let stray = segment(&stray, client);
        let (report, _) = bench.feed(SERVERS, stray.ack(1).build_buf());
        assert_eq!(report.verdict, Verdict::Drop(DropReason::NotForwarding));
    }
}

#[test]
fn dr_carries_datagrams_to_the_server_that_they_began_with() {
    let mut memory = support::memory();
    let mut bench = Bench::new(dr(), &mut memory, port());
    for (client, server) in [(1, "10.1.0.11"), (2, "10.1.0.12"), (1, "10.1.0.11")] {
        let from = SocketAddr::new([10, 0, 0, 2].into(), 5000 + client);
        let packet = udp().from(from).to(at("10.0.0.80:53")).dst_mac(MAC).payload_len(40);
        let (_, out) = bench.feed(CLIENTS, packet.build_buf());
        assert_eq!(out, [(SERVERS, moved(&packet.build_buf(), server))]);
    }
}

#[test]
fn a_tunnel_puts_the_packet_behind_another_header() {
    for (tunnel, growth) in TUNNELS {
        for (client, vip, outer_v6) in [(CLIENT, VIP, 0), ("[fd00::2]:4000", "[fd00::80]:80", 20)] {
            let mut memory = support::memory();
            let mut bench = Bench::new(tun(tunnel), &mut memory, port());
            let growth = growth + outer_v6;
            for packet in [
                segment(client, vip).syn().seq(9).mss(1460),
                segment(client, vip).seq(10).ack(1).payload_len(1460 - 40 - growth),
            ] {
                let server = if outer_v6 == 0 { "10.1.0.11" } else { "fd01::11" };
                let inner = moved(&packet.build_buf(), server);
                let (report, out) = bench.feed(CLIENTS, packet.build_buf());
                let [(SERVERS, frame)] = &out[..] else { panic!("{report:?} {out:?}") };
                assert_eq!(frame[..12], inner[..12], "to the server, from the director");
                assert_eq!(frame.len(), inner.len() + growth, "{tunnel:?}");
                assert_eq!(frame[14 + growth..], inner[14..], "{tunnel:?}: the packet inside");
                oracle::checksums_ok(frame).expect("sound checksums outside");
            }
            assert_eq!(state(&bench), (TcpState::Established, Some(OneWay::Tunnel)));
        }
    }
}

#[test]
fn what_grows_beyond_the_mtu_is_dropped_before_anything_changes_and_its_sender_told() {
    for (tunnel, growth) in TUNNELS {
        let mut memory = support::memory();
        let mut bench = Bench::new(tun(tunnel), &mut memory, port());
        let datagram = |len| {
            udp().from(at("10.0.0.2:5000")).to(at("10.0.0.80:53")).dst_mac(MAC).payload_len(len)
        };
        let most = 1500 - 28 - growth;
        let (report, out) = bench.feed(CLIENTS, datagram(most + 1).build_buf());
        assert_eq!(report.verdict, Verdict::Drop(DropReason::TooBig));
        let [(CLIENTS, told)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(told[34..36], [3, 4], "fragmentation needed");
        assert_eq!(usize::from(u16::from_be_bytes([told[40], told[41]])), 1500 - growth);
        assert_eq!(bench.sessions(), [], "a packet that cannot leave opens nothing");
        let (_, out) = bench.feed(CLIENTS, datagram(most).build_buf());
        assert_eq!(out[0].1.len(), 1514);
        let (report, _) = bench.feed(CLIENTS, datagram(most + 1).build_buf());
        assert_eq!(report.verdict, Verdict::Drop(DropReason::TooBig));
        assert_eq!(bench.sessions()[0].inbound.packets, 1);
    }
}

#[test]
fn an_ipv6_packet_that_a_tunnel_makes_too_long_is_dropped_and_its_sender_told() {
    for (tunnel, header) in TUNNELS {
        let mut memory = support::memory();
        let mut bench = Bench::new(tun(tunnel), &mut memory, port());
        let growth = header + 20;
        let syn = |len| segment("[fd00::2]:4000", "[fd00::80]:80").syn().payload_len(len);
        let most = 1500 - 60 - growth;
        let (report, out) = bench.feed(CLIENTS, syn(most + 1).build_buf());
        assert_eq!(report.verdict, Verdict::Drop(DropReason::TooBig));
        let [(CLIENTS, told)] = &out[..] else { panic!("{out:?}") };
        oracle::checksums_ok(told).unwrap();
        assert_eq!(told[54], 2, "packet too big");
        let mtu = u32::from_be_bytes(told[58..62].try_into().unwrap());
        assert_eq!(mtu as usize, 1500 - growth, "{tunnel:?}");
        assert_eq!(bench.sessions(), [], "a packet that cannot leave opens nothing");
        let (_, out) = bench.feed(CLIENTS, syn(most).build_buf());
        assert_eq!(out[0].1.len(), 1514, "and what was told does fit");
    }
}

#[test]
fn without_df_it_is_cut_and_each_piece_put_into_the_tunnel() {
    for (tunnel, growth) in TUNNELS {
        let mut memory = support::memory();
        let mut bench = Bench::new(tun(tunnel), &mut memory, port());
        let datagram = udp().from(at("10.0.0.2:5000")).to(at("10.0.0.80:53")).dst_mac(MAC);
        let datagram = datagram.dont_fragment(false);
        bench.feed(CLIENTS, datagram.clone().payload_len(9).build_buf());
        let datagram = datagram.payload_len(1472);
        let whole = moved(&datagram.build_buf(), "10.1.0.11");
        let (report, out) = bench.feed(CLIENTS, datagram.build_buf());
        assert_eq!(report.verdict, Verdict::Forward(SERVERS));
        assert_eq!(out.len(), 2, "{tunnel:?}");
        let mut payload = Vec::new();
        for (_, frame) in &out {
            assert!(frame.len() <= 1514);
            oracle::checksums_ok(frame).expect("sound checksums outside");
            let inner = &frame[14 + growth..];
            assert_eq!(inner[12..20], whole[26..34], "{tunnel:?}: both addresses");
            payload.extend_from_slice(&inner[20..]);
        }
        assert_eq!(payload, whole[34..], "{tunnel:?}");
        assert_eq!(bench.sessions()[0].inbound.packets, 2);
    }
}

#[test]
fn a_train_is_cut_where_the_port_cannot_cut_it_in_a_tunnel() {
    for (tunnel, growth) in TUNNELS {
        let mut memory = support::memory();
        let mut bench = Bench::new(tun(tunnel), &mut memory, port());
        bench.feed(CLIENTS, segment(CLIENT, VIP).syn().seq(9).build_buf());
        let train = || segment(CLIENT, VIP).seq(10).ack(1).payload_len(5000).gso(1300);
        let expected = nic::on_wire(&train().build_buf());
        let (report, out) = bench.feed(CLIENTS, train().build_buf());
        assert!(matches!(report.verdict, Verdict::Forward(SERVERS)), "{report:?}");
        assert_eq!(out.len(), 4);
        for ((_, frame), part) in out.iter().zip(expected) {
            oracle::checksums_ok(frame).expect("sound checksums outside");
            let mut inner = [&frame[..12], &[8, 0], &frame[14 + growth..]].concat();
            oracle::checksums_ok(&inner).expect("sound checksums inside");
            // Behind addresses, identification, time to live and checksum all is as a port would have cut it.
            inner[..34].copy_from_slice(&part[..34]);
            assert_eq!(inner, part, "{tunnel:?}");
        }
        // Parts that do not fit with the header are refused as a whole.
        let train = segment(CLIENT, VIP).seq(10).ack(1).payload_len(5000).gso(1460);
        let (report, _) = bench.feed(CLIENTS, train.build_buf());
        assert_eq!(report.verdict, Verdict::Drop(DropReason::TooBig));
    }
}

#[test]
fn a_packet_with_a_partial_checksum_waits_for_the_neighbour_inside_its_tunnel() {
    for in_tunnel in [false, true] {
        let mut memory = support::memory();
        let mut own = port();
        own.caps.gso.in_tunnel = in_tunnel;
        let mut bench = Bench::new(tun(Encapsulation::IpIp), &mut memory, own);
        bench.neighbours = false;
        let partial = segment(CLIENT, VIP).syn().seq(9).l4_csum(lvs_testkit::build::Csum::Partial);
        let (report, _) = bench.feed(CLIENTS, partial.build_buf());
        assert_eq!(report.verdict, Verdict::Absorb(Absorbed::WaitsForNeighbour));
        bench.neighbours = true;
        let (server, own) = ([10, 1, 0, 11], [10, 1, 0, 1]);
        let answer = arp_reply(mac_of(server.into()), server.into(), MAC, own.into()).build();
        let (_, mut out) = bench.feed(SERVERS, MemBuf::from_bytes(&answer));
        out.extend(bench.turn());
        let [(SERVERS, frame)] = &out[..] else { panic!("{out:?}") };
        let inner = [&frame[..12], &[8, 0], &frame[34..]].concat();
        oracle::checksums_ok(frame).expect("outside");
        oracle::checksums_ok(&inner).expect("inside");
    }
}

/// A card is told where the headers are whose checksum it completes: those inside.
#[test]
fn who_completes_a_checksum_is_told_the_headers_inside() {
    let mut memory = support::memory();
    let mut director = support::director(tun(Encapsulation::IpIp), &mut memory);
    let mut lane = MemLane::new([MemPort::new(MAC), MemPort::new(MAC)]);
    let mut out = Outputs::new(2);
    let now = Time(1_000_000_000);
    let partial = segment(CLIENT, VIP).syn().seq(9).l4_csum(lvs_testkit::build::Csum::Partial);
    let (server, own) = ([10, 1, 0, 11], [10, 1, 0, 1]);
    let answer = arp_reply(mac_of(server.into()), server.into(), MAC, own.into()).build();
    // The first waits for the server's address, the second does not.
    director.process_one(now, &mut lane, CLIENTS, partial.build_buf(), &mut out);
    director.process_one(now, &mut lane, SERVERS, MemBuf::from_bytes(&answer), &mut out);
    director.tick(now, &mut lane, &mut out);
    director.process_one(now, &mut lane, CLIENTS, partial.build_buf(), &mut out);
    out.flush(&mut lane);
    let mut seen = Vec::new();
    while let Some(sent) = lane.take_sent(SERVERS) {
        if sent.data()[12..14] == [8, 0] {
            seen.push((sent.meta().l4_csum, sent.meta().l3, sent.meta().l4));
        }
    }
    assert_eq!(seen, [(L4Csum::Partial, 34, 54); 2]);
}

#[test]
fn a_tunnel_of_the_other_family_leads_there_too() {
    let mut memory = support::memory();
    let servers = ["[fd01::11]:80"];
    let service = support::service(VIP, L4Proto::Tcp, Forwarding::Tun, &servers);
    let spec = SnapshotSpec { services: vec![service], ..dr() };
    let mut bench = Bench::new(spec.clone(), &mut memory, port());
    let syn = || segment(CLIENT, VIP).syn().seq(9);
    let (_, out) = bench.feed(CLIENTS, syn().build_buf());
    let [(SERVERS, frame)] = &out[..] else { panic!("{out:?}") };
    assert_eq!((&frame[12..14], frame[20]), (&[0x86, 0xdd][..], 4), "IPv4 in IPv6");
    let inner = moved(&syn().build_buf(), "fd01::11");
    assert_eq!((&frame[..12], &frame[54..]), (&inner[..12], &inner[14..]));
    // It still does when sessions are led onto their ways again.
    bench.reload(spec);
    let (report, out) = bench.feed(CLIENTS, segment(CLIENT, VIP).seq(10).ack(1).build_buf());
    assert_eq!((report.verdict, out.len()), (Verdict::Forward(SERVERS), 1));
    assert_eq!(out[0].1[..6], mac_of("fd01::11".parse().unwrap()).0);
}

#[test]
fn a_session_that_is_ended_on_purpose_is_reset_when_the_client_sends() {
    for spec in [dr(), tun(Encapsulation::IpIp)] {
        let mut memory = support::memory();
        let mut bench = Bench::new(spec.clone(), &mut memory, port());
        bench.feed(CLIENTS, segment(CLIENT, VIP).syn().seq(9).build_buf());
        bench.feed(CLIENTS, segment(CLIENT, VIP).seq(10).ack(501).build_buf());
        let mut down = spec;
        down.services[0].servers[0].state = ServerState::DownKill;
        bench.reload(down);
        assert_eq!(bench.turn(), [], "the server's answer would not come back here");
        let data = segment(CLIENT, VIP).seq(10).ack(501).payload_len(5);
        let (report, mut out) = bench.feed(CLIENTS, data.build_buf());
        assert_eq!(report.verdict, Verdict::Drop(DropReason::SessionReset));
        out.sort_by_key(|(port, _)| port.0);
        assert_eq!(out.len(), 2, "{out:?}");
        let fields = oracle::fields(&out[0].1).unwrap();
        let tcp = fields.tcp.unwrap();
        assert_eq!((out[0].0, fields.src, fields.dst), (CLIENTS, at(VIP).ip(), at(CLIENT).ip()));
        assert_eq!((tcp.seq, tcp.flags & 4), (501, 4), "what the client expects next");
        let (to, frame) = &out[1];
        let skip = frame.len() - 54;
        let inner = [&frame[..14], &frame[14 + skip..]].concat();
        let fields = oracle::fields(&inner).unwrap();
        let tcp = fields.tcp.unwrap();
        assert_eq!((*to, fields.src, fields.dst), (SERVERS, at(CLIENT).ip(), at(VIP).ip()));
        assert_eq!((tcp.seq, tcp.flags & 4), (10, 4), "what the server expects next");
    }
}

#[test]
fn a_service_whose_servers_cannot_be_reached_that_way_is_refused() {
    use lvs_core::snapshot::{Route, SnapshotError};
    let service = |forwarding, server| support::service(VIP, L4Proto::Tcp, forwarding, &[server]);
    let with = |service| {
        let routes = vec![Route {
            to: Prefix::new([10, 9, 0, 0].into(), 16).unwrap(),
            via: [10, 1, 0, 254].into(),
        }];
        SnapshotSpec { services: vec![service], routes, ..dr() }.build(None).err()
    };
    let far = "10.9.0.11:80";
    let behind = SnapshotError::ServerBehindRouter(lvs_core::addr::RealAddr(at(far)));
    assert_eq!(with(service(Forwarding::Dr, far)), Some(behind));
    assert_eq!(with(service(Forwarding::Tun, far)), None);
    for forwarding in [Forwarding::Dr, Forwarding::Tun] {
        let mut other = service(forwarding, "10.1.0.11:80");
        other.servers[0].addr = lvs_core::addr::RealAddr(at("10.1.0.11:81"));
        assert_eq!(with(other.clone()), Some(SnapshotError::ServerPort(other.servers[0].addr)));
    }
}

/// INV-6. A burst gives the frames, verdicts and sessions of its packets one by one.
#[test]
fn a_burst_equals_its_packets() {
    let specs = [dr(), tun(Encapsulation::IpIp), tun(TUNNELS[4].0)];
    for (seed, spec) in (1u64..).zip(specs.iter().cycle().take(60)) {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut memory = [support::memory(), support::memory()];
        let [left, right] = &mut memory;
        let mut rigs = [left, right].map(|memory| {
            let director = support::director(spec.clone(), memory);
            (director, MemLane::new([port(), port()]), Outputs::new(2))
        });
        for step in 0..40u64 {
            let packets: Vec<_> = (0..=draw(32))
                .map(|n| {
                    let v6 = draw(4) == 0;
                    let from = if v6 { "[fd00::2]" } else { "10.0.0.2" };
                    let from = format!("{from}:{}", 4000 + draw(6));
                    let s = segment(&from, if v6 { "[fd00::80]:80" } else { VIP });
                    let s = s.seq(n as u32);
                    match draw(8) {
                        0 | 1 => s.syn(),
                        2 => s.ack(1).fin(),
                        3 if draw(4) == 0 => s.rst(),
                        4 => s.ack(1).payload_len(3000).gso(1000),
                        _ => s.ack(1).payload_len(draw(1480) as usize),
                    }
                })
                .collect();
            let answers = [11u8, 12].map(|last| {
                let (server, own) = ([10, 1, 0, last], [10, 1, 0, 1]);
                arp_reply(mac_of(server.into()), server.into(), MAC, own.into()).build()
            });
            let now = Time(1_000_000_000 + step * 300_000_000);
            let mut sent = Vec::new();
            for (n, (director, lane, out)) in rigs.iter_mut().enumerate() {
                if step == 3 {
                    for answer in &answers {
                        let answer = MemBuf::from_bytes(answer);
                        director.process_one(now, lane, SERVERS, answer, out);
                    }
                }
                director.expire(now, 10_000);
                director.tick(now, lane, out);
                let mut burst = Burst::new();
                for packet in &packets {
                    if n == 0 {
                        burst.push(packet.build_buf()).expect("33 at most in a burst of 64");
                    } else {
                        director.process_one(now, lane, CLIENTS, packet.build_buf(), out);
                    }
                }
                director.process(now, lane, CLIENTS, &mut burst, out);
                out.flush(lane);
                let mut frames = Vec::new();
                for port in [CLIENTS, SERVERS] {
                    while let Some(packet) = lane.take_sent(port) {
                        frames.push((port, packet.to_vec(), *packet.meta()));
                    }
                    assert_eq!(lane.stats(port).tx_rejected, 0);
                }
                sent.push(frames);
            }
            assert_eq!(sent[0], sent[1], "seed {seed} step {step}");
            let [(a, ..), (b, ..)] = &rigs;
            assert_eq!(a.counters(), b.counters(), "seed {seed} step {step}");
        }
    }
}
