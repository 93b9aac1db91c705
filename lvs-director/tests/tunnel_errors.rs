//! Routers on the way to a tunnel's end that find a packet too big: the client is told what is left for it.

mod support;

use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::RealAddr;
use lvs_core::io::L4Csum;
use lvs_core::io::mem::{MemBuf, MemPort};
use lvs_core::service::{Encapsulation, Forwarding};
use lvs_core::session::SessionStore;
use lvs_core::snapshot::SnapshotSpec;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Headers, Parsed};
use lvs_director::{Director, DirectorConfig, ErrorRate, Generation};
use lvs_nat::icmp::{Carried, Complaint, complain, embedded};
use lvs_testkit::build::{Packet, Tcp, tcp};
use lvs_testkit::oracle;
use std::sync::Arc;
use support::bench::{Bench, CLIENTS, MAC, SERVERS, mac_of};

const TUNNELS: [(Encapsulation, u32); 5] = [
    (Encapsulation::IpIp, 0),
    (Encapsulation::Gre { checksum: false }, 4),
    (Encapsulation::Gre { checksum: true }, 8),
    (Encapsulation::Gue { dport: 6080, checksum: false }, 12),
    (Encapsulation::Gue { dport: 7777, checksum: true }, 12),
];
const V4: [&str; 3] = ["10.0.0.2:4000", "10.0.0.80:80", "10.1.0.11:80"];
const V6: [&str; 3] = ["[fd00::2]:4000", "[fd00::80]:80", "[fd01::11]:80"];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One server, whose tunnel may be of another family than its service.
fn spec(tunnel: Encapsulation, server: &str) -> SnapshotSpec {
    let mut spec = support::spec(Forwarding::Tun);
    for service in &mut spec.services {
        service.servers.truncate(1);
        let port = service.key.addr.port();
        service.servers[0].addr = RealAddr(SocketAddr::new(at(server).ip(), port));
        service.servers[0].tunnel = tunnel;
    }
    spec
}

fn segment(client: &str, vip: &str) -> Packet<Tcp> {
    tcp().from(at(client)).to(at(vip)).src_mac(mac_of(at(client).ip())).dst_mac(MAC)
}

fn parsed(frame: &[u8]) -> Headers {
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else { panic!("{frame:x?}") };
    headers
}

/// What a router answers to a frame that is too big.
fn router(frame: &[u8], mtu: u32) -> Vec<u8> {
    complaint(frame, Complaint::TooBig { mtu })
}

fn complaint(frame: &[u8], what: Complaint) -> Vec<u8> {
    let headers = parsed(frame);
    let (_, dst) = headers.addresses(frame).unwrap();
    let from: IpAddr = match dst {
        IpAddr::V4(_) => [10, 1, 0, 254].into(),
        IpAddr::V6(_) => "fd01::fe".parse().unwrap(),
    };
    let mut error = vec![0; 1400];
    let len = complain(frame, &headers, L4Csum::Good, what, from, 64, &mut error).unwrap();
    error.truncate(len);
    error
}

/// Opens a connection and sends a large segment into the tunnel; what left.
fn into_the_tunnel(bench: &mut Bench<'_>, [client, vip, _]: [&str; 3], df: bool) -> Vec<u8> {
    bench.feed(CLIENTS, segment(client, vip).syn().seq(9).build_buf());
    bench.feed(CLIENTS, segment(client, vip).seq(10).ack(1).build_buf());
    let large = segment(client, vip).seq(10).ack(1).payload_len(1300).dont_fragment(df);
    let (_, out) = bench.feed(CLIENTS, large.build_buf());
    let [(SERVERS, frame)] = &out[..] else { panic!("{out:?}") };
    frame.clone()
}

#[test]
fn the_client_is_told_what_the_tunnel_leaves_of_the_mtu() {
    for (tunnel, header) in TUNNELS {
        for ends in [V4, V6, [V4[0], V4[1], V6[2]], [V6[0], V6[1], V4[2]]] {
            let mut memory = support::memory();
            let mut bench = Bench::new(spec(tunnel, ends[2]), &mut memory, MemPort::plain(MAC));
            let frame = into_the_tunnel(&mut bench, ends, true);
            let growth = header + if at(ends[2]).is_ipv4() { 20 } else { 40 };
            let before = bench.sessions();
            let (report, out) =
                bench.feed(SERVERS, MemBuf::from_bytes(&router(&frame, 1300 + growth)));
            assert!(!matches!(report.verdict, Verdict::Drop(_) | Verdict::Release), "{report:?}");
            assert_eq!(report.session, Some(before[0].id));
            let [(CLIENTS, error)] = &out[..] else { panic!("{out:?}") };
            oracle::checksums_ok(error).expect("sound checksums");
            let headers = parsed(error);
            let (src, dst) = headers.addresses(error).unwrap();
            assert_eq!((src, dst), (at(ends[1]).ip(), at(ends[0]).ip()));
            let quote = embedded(error, &headers).expect("an error about a segment");
            assert_eq!(quote.mtu, Some(1300), "{tunnel:?} {ends:?}: not the old one");
            let Carried::Flow(tuple) = quote.carried else { panic!() };
            assert_eq!((tuple.src(), tuple.sport()), (at(ends[0]).ip(), at(ends[0]).port()));
            assert_eq!((tuple.dst(), tuple.dport()), (at(ends[1]).ip(), at(ends[1]).port()));
            assert_eq!(bench.sessions(), before, "an error changes no session");
            assert_eq!(bench.director.counters().icmp_translated, 1);
        }
    }
}

#[test]
fn what_else_is_said_about_the_tunnel_packet_is_said_about_the_packet_inside() {
    use Complaint::{TimeExceeded, Unreachable};
    use lvs_nat::icmp::Unreachable::{Host, Net, Port, Prohibited};
    // What leaves for a client of the tunnel's own version, and of the other one.
    let cases: [(Complaint, [(u8, u8); 4]); 5] = [
        (TimeExceeded, [(11, 0), (3, 0), (11, 0), (3, 0)]),
        (Unreachable(Net), [(3, 0), (1, 0), (3, 1), (1, 3)]),
        (Unreachable(Host), [(3, 1), (1, 3), (3, 1), (1, 3)]),
        (Unreachable(Port), [(3, 3), (1, 4), (3, 1), (1, 3)]),
        (Unreachable(Prohibited), [(3, 13), (1, 1), (3, 1), (1, 3)]),
    ];
    for (said, told) in cases {
        for (ends, told) in
            [V4, V6, [V4[0], V4[1], V6[2]], [V6[0], V6[1], V4[2]]].into_iter().zip(told)
        {
            let mut memory = support::memory();
            let spec = spec(Encapsulation::IpIp, ends[2]);
            let mut bench = Bench::new(spec, &mut memory, MemPort::plain(MAC));
            let frame = into_the_tunnel(&mut bench, ends, true);
            let (_, out) = bench.feed(SERVERS, MemBuf::from_bytes(&complaint(&frame, said)));
            let [(CLIENTS, error)] = &out[..] else { panic!("{said:?} {ends:?} {out:?}") };
            oracle::checksums_ok(error).expect("sound checksums");
            let l4 = usize::from(parsed(error).l4);
            assert_eq!((error[l4], error[l4 + 1]), told, "{said:?} {ends:?}");
        }
    }
}

#[test]
fn no_client_is_told_less_than_every_link_carries() {
    for (ends, floor) in [(V4, 68), (V6, 1280)] {
        let mut memory = support::memory();
        let spec = spec(Encapsulation::IpIp, ends[2]);
        let mut bench = Bench::new(spec, &mut memory, MemPort::plain(MAC));
        let frame = into_the_tunnel(&mut bench, ends, true);
        let (_, out) = bench.feed(SERVERS, MemBuf::from_bytes(&router(&frame, floor + 1)));
        let [(CLIENTS, error)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(embedded(error, &parsed(error)).unwrap().mtu, Some(floor));
    }
}

#[test]
fn what_is_forged_corrupt_or_about_nobody_reaches_no_client() {
    let mut memory = support::memory();
    let spec = spec(Encapsulation::IpIp, V4[2]);
    let mut bench = Bench::new(spec, &mut memory, MemPort::plain(MAC));
    let frame = into_the_tunnel(&mut bench, V4, true);
    let error = router(&frame, 1300);
    let before = bench.sessions();
    let with = |at: usize, value: u8| {
        let mut error = error.clone();
        error[at] ^= value;
        // ICMP checksum over the message, so that only what was changed is wrong.
        error[36..38].fill(0);
        let sum = lvs_core::checksum::Sum::ZERO.bytes(&error[34..]).checksum();
        error[36..38].copy_from_slice(&sum.to_be_bytes());
        error
    };
    // Outer header behind 14 + 20 + 8 bytes, inner one behind 20 more, its ports behind another 20.
    let (outer, inner, ports) = (42, 62, 82);
    for (what, forged) in [
        ("another server", with(outer + 19, 1)),
        ("another director", with(outer + 15, 1)),
        ("another client", with(inner + 15, 1)),
        ("another connection", with(ports, 1)),
        ("no MTU", {
            let mut none = error.clone();
            none[40..42].fill(0);
            none[36..38].fill(0);
            let sum = lvs_core::checksum::Sum::ZERO.bytes(&none[34..]).checksum();
            none[36..38].copy_from_slice(&sum.to_be_bytes());
            none
        }),
    ] {
        let (report, out) = bench.feed(SERVERS, MemBuf::from_bytes(&forged));
        assert_eq!((report.verdict, out.len()), (Verdict::Release, 0), "{what}");
    }
    let mut corrupt = error.clone();
    corrupt[41] ^= 1;
    let (report, out) = bench.feed(SERVERS, MemBuf::from_bytes(&corrupt));
    assert_eq!((report.verdict, out.len()), (Verdict::Drop(DropReason::BadL4Checksum), 0));
    assert_eq!(bench.sessions(), before);
}

#[test]
fn a_client_that_lets_its_packets_be_cut_hears_nothing() {
    let mut memory = support::memory();
    let spec = spec(Encapsulation::IpIp, V4[2]);
    let mut bench = Bench::new(spec, &mut memory, MemPort::plain(MAC));
    let frame = into_the_tunnel(&mut bench, V4, false);
    let (report, out) = bench.feed(SERVERS, MemBuf::from_bytes(&router(&frame, 1300)));
    assert_eq!((report.verdict, out.len()), (Verdict::Release, 0));
}

#[test]
fn there_are_no_more_than_the_rate_of_errors_allows() {
    let mut memory = support::memory();
    let (config, plan) = support::store_config();
    let store = SessionStore::new(config, plan, memory.bytes()).unwrap();
    let snapshot = spec(Encapsulation::IpIp, V4[2]).build(None).unwrap();
    let generation = Generation::new(Arc::new(snapshot), support::ARGS);
    let errors = ErrorRate { per_second: 10, burst: 3 };
    let config = DirectorConfig { isn_key: [5, 6], errors, ..DirectorConfig::default() };
    let mut bench = Bench::of(Director::new(config, store, generation), MemPort::plain(MAC));
    let frame = into_the_tunnel(&mut bench, V4, true);
    let error = router(&frame, 1300);
    let told: usize =
        (0..1000).map(|_| bench.feed(SERVERS, MemBuf::from_bytes(&error)).1.len()).sum();
    // A millisecond passes with each: 3 at once, then 10 a second.
    assert_eq!((told, bench.director.counters().icmp_limited), (3 + 9, 1000 - 12));
}
