//! A burst at a time does what one packet at a time does: same bytes, same counters, same sessions
//! (INV-13), and packets of one session leave in the order in which they came.
//!
//! The scripts are biased to what could go wrong: many packets of few sessions, ordinary segments mixed
//! with every kind that takes the long way.

#[path = "../support/mod.rs"]
mod support;
mod syn;

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use lvs_core::addr::MacAddr;
use lvs_core::counters::{Carried, Counters};
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::{BURST, Burst, L4Csum, Lane, PortId};
use lvs_core::service::Forwarding;
use lvs_core::session::{Cursor, HeapMemory, Session};
use lvs_core::snapshot::{SnapshotSpec, StaticNeighbour};
use lvs_core::time::Time;
use lvs_core::wire::{Headers, Parsed};
use lvs_director::{Director, Generation, Outputs};
use lvs_nat::icmp::{Complaint, Unreachable, complain};
use lvs_testkit::build::{Packet, Tcp, arp_reply, ndp_advert, option, tcp, udp};
use lvs_testkit::oracle;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const CLIENTS: PortId = PortId(0);
const SERVERS: PortId = PortId(1);
/// IPv4 flows; as many IPv6 flows follow.
const FLOWS: u16 = 5;

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 9, last])
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Data,
    Ack,
    Timestamps,
    Sack,
    Unusual,
    Fin,
    Rst,
    Syn,
    Null,
    WrongSum,
    Partial,
    Train,
    LastHop,
    OtherMac,
    Tagged,
    IpOptions,
    NeighbourMoves,
    Padded,
    Udp,
    Error,
}

fn kind() -> impl Strategy<Value = Kind> {
    use Kind::*;
    let rare = [
        Sack,
        Unusual,
        Fin,
        Rst,
        Syn,
        Null,
        WrongSum,
        Partial,
        Train,
        LastHop,
        OtherMac,
        Tagged,
        IpOptions,
        NeighbourMoves,
        Padded,
        Udp,
        Error,
    ];
    prop_oneof![
        6 => Just(Data),
        3 => Just(Ack),
        2 => Just(Timestamps),
        4 => prop::sample::select(rare.to_vec()),
    ]
}

/// A burst, and what happens before it. A full burst may stay under way while the next ones come.
#[derive(Clone, Debug)]
struct Step {
    inbound: bool,
    wait_ms: u64,
    reload: bool,
    /// Flow, whether it goes the other way than the burst (one arm), what.
    packets: Vec<(u16, bool, Kind)>,
}

fn step() -> impl Strategy<Value = Step> {
    let one = || (0..2 * FLOWS, prop::bool::weighted(0.2), kind());
    let sizes = prop_oneof![2 => (0usize..30).boxed(), 3 => Just(BURST).boxed()];
    let packets = sizes.prop_flat_map(move |size| prop::collection::vec(one(), size));
    let wait = prop_oneof![4 => 0u64..5, 1 => 0u64..40_000];
    let reload = prop::bool::weighted(0.1);
    (any::<bool>(), wait, reload, packets).prop_map(|(inbound, wait_ms, reload, packets)| Step {
        inbound,
        wait_ms,
        reload,
        packets,
    })
}

/// One flow as its two ends see it.
#[derive(Clone, Copy, Debug)]
struct Ends {
    client: SocketAddr,
    service: SocketAddr,
    local: SocketAddr,
    server: SocketAddr,
    /// The client never acknowledges data of the server: the address option stays on.
    deaf: bool,
}

struct Rig<'m> {
    director: Director<'m>,
    lane: MemLane,
    out: Outputs<MemBuf>,
    now: u64,
    spec: SnapshotSpec,
    /// Arrived, but not yet carried out.
    pending: VecDeque<(PortId, MemBuf)>,
}

type Sent = (PortId, Vec<u8>, String);

impl<'m> Rig<'m> {
    fn new(
        forwarding: Forwarding,
        (offloads, patient): (bool, bool),
        memory: &'m mut HeapMemory,
    ) -> Self {
        let spec = spec(forwarding);
        Self::of(support::director(spec.clone(), memory), spec, (offloads, patient))
    }

    fn of(director: Director<'m>, spec: SnapshotSpec, (offloads, patient): (bool, bool)) -> Self {
        Self {
            director,
            lane: MemLane::new([1, 2].map(|last| {
                let plain = MemPort::plain(MacAddr([2, 0, 0, 0, 0, last]));
                let mut port = if offloads { MemPort::default() } else { plain };
                // A lane that cannot spare its buffers has each burst carried out at once.
                port.caps.max_held = if patient { 4096 } else { 100 };
                port
            })),
            out: Outputs::new(2),
            now: 1_000_000_000,
            spec,
            pending: VecDeque::new(),
        }
    }

    /// A configuration that says the same.
    fn reload(&mut self) {
        let old = self.director.generation().snapshot().clone();
        let new = self.spec.clone().build(Some(&old)).unwrap();
        self.director.install(Generation::new(Arc::new(new), support::ARGS));
    }

    fn port_mac(&self, port: PortId) -> MacAddr {
        self.lane.port_info(port).mac
    }

    /// Feeds one burst, and returns what leaves.
    fn burst(&mut self, port: PortId, packets: &[MemBuf]) -> Vec<Sent> {
        let mut all = Burst::new();
        for packet in packets {
            all.push(copy(packet)).unwrap();
        }
        self.director.process(Time(self.now), &mut self.lane, port, &mut all, &mut self.out);
        self.sent()
    }

    /// Lets packets arrive, and carries the oldest out one by one until only `left` are left.
    fn one_by_one(&mut self, port: PortId, packets: &[MemBuf], left: usize) -> Vec<Sent> {
        self.pending.extend(packets.iter().map(|packet| (port, copy(packet))));
        while self.pending.len() > left {
            let (port, packet) = self.pending.pop_front().unwrap();
            let (lane, out) = (&mut self.lane, &mut self.out);
            self.director.process_one(Time(self.now), lane, port, packet, out);
        }
        self.sent()
    }

    fn feed(&mut self, port: PortId, packets: &[MemBuf]) -> Vec<Sent> {
        self.one_by_one(port, packets, 0)
    }

    fn sent(&mut self) -> Vec<Sent> {
        self.out.flush(&mut self.lane);
        let mut sent = Vec::new();
        for port in [CLIENTS, SERVERS] {
            while let Some(packet) = self.lane.take_sent(port) {
                sent.push((port, packet.to_vec(), format!("{:?}", packet.meta())));
            }
        }
        sent
    }

    fn sessions(&self) -> Vec<Session> {
        let (mut all, mut cursor) = (Vec::new(), Some(Cursor::default()));
        while let Some(at) = cursor {
            cursor = self.director.store().scan(at, 1000, |session| all.push(*session));
        }
        all
    }

    fn carried(&self) -> Vec<Carried> {
        let generation = self.director.generation();
        let servers = generation.snapshot().servers();
        servers.map(|server| generation.server_count(server.id).unwrap().carried).collect()
    }

    fn counters(&self) -> Counters {
        self.director.counters().clone()
    }
}

fn spec(forwarding: Forwarding) -> SnapshotSpec {
    known(support::spec(forwarding))
}

/// With the neighbours that need not be asked for.
fn known(spec: SnapshotSpec) -> SnapshotSpec {
    // The second server stays to be asked for, so that its address can move.
    let neighbours = [("10.0.0.2", 2), ("10.1.0.11", 11), ("fd00::2", 2), ("fd01::11", 11)]
        .map(|(ip, last)| StaticNeighbour { ip: ip.parse().unwrap(), mac: mac(last) });
    SnapshotSpec { neighbours: neighbours.to_vec(), ..spec }
}

fn copy(packet: &MemBuf) -> MemBuf {
    MemBuf::from_bytes(&packet.to_vec()).with_meta(*packet.meta())
}

fn fields(frame: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let fields = oracle::fields(frame).ok()?;
    let (sport, dport) = fields.ports?;
    Some((SocketAddr::new(fields.src, sport), SocketAddr::new(fields.dst, dport)))
}

fn segment(from: SocketAddr, to: SocketAddr, dst: MacAddr) -> Packet<Tcp> {
    tcp().from(from).to(to).src_mac(mac(77)).dst_mac(dst)
}

/// Opens the flows, the same way on every rig: until their sessions are plain, but for the last two, of which
/// one waits for the client's acknowledgement and one for the server's first data.
fn establish(rig: &mut Rig<'_>) -> Vec<Ends> {
    let (left, right) = (rig.port_mac(CLIENTS), rig.port_mac(SERVERS));
    let mut flows = Vec::new();
    for (n, v6) in (0..FLOWS).map(|n| (n, false)).chain((0..FLOWS).map(|n| (n, true))) {
        let client = if v6 { "fd00::2" } else { "10.0.0.2" };
        let client = SocketAddr::new(client.parse().unwrap(), 4000 + n);
        let service = service(v6);
        let syn = segment(client, service, left).syn().seq(1000).mss(1460).build_buf();
        let mut sent = rig.feed(CLIENTS, &[syn]);
        if let Some(question) = sent.iter().position(|(_, frame, _)| fields(frame).is_none()) {
            sent.remove(question);
            // NAT64: the server is one of IPv4.
            let nat64 = rig.spec.services[1].servers[0].addr.ip().is_ipv4();
            let answer = if v6 && !nat64 {
                let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap();
                ndp_advert(mac(12), ip("fd01::12"), right, ip("fd01::1"), 0x60).build()
            } else {
                arp_reply(mac(12), [10, 1, 0, 12].into(), right, [10, 1, 0, 1].into()).build()
            };
            sent = rig.feed(SERVERS, &[MemBuf::from_bytes(&answer)]);
        }
        let (local, server) = fields(&sent[0].1).expect("the SYN has left");
        let seq = oracle::fields(&sent[0].1).unwrap().tcp.unwrap().seq;
        let ends = Ends { client, service, local, server, deaf: n == 3 };
        let synack =
            segment(server, local, right).syn().seq(5000).ack(seq.wrapping_add(1)).mss(1460);
        let data =
            segment(server, local, right).seq(5001).ack(seq.wrapping_add(1)).payload("hello");
        rig.feed(SERVERS, &[synack.build_buf()]);
        let ack = |number| segment(client, service, left).seq(1001).ack(number);
        flows.push(ends);
        if n == 4 {
            continue;
        }
        rig.feed(CLIENTS, &[ack(5001).build_buf()]);
        if ends.deaf {
            continue;
        }
        rig.feed(SERVERS, &[data.build_buf()]);
        rig.feed(CLIENTS, &[ack(5006).build_buf()]);
    }
    flows
}

fn service(v6: bool) -> SocketAddr {
    if v6 { "[fd00::80]:80" } else { "10.0.0.80:80" }.parse().unwrap()
}

fn packet(rig: &Rig<'_>, port: PortId, flow: &Ends, inbound: bool, kind: Kind, n: u32) -> MemBuf {
    let (from, to) = if inbound { (flow.client, flow.service) } else { (flow.server, flow.local) };
    let dst = rig.port_mac(port);
    let base = segment(from, to, dst).seq(0xffff_fff0_u32.wrapping_add(n));
    let base = base.ack(if flow.deaf { 5001 } else { 7000 + n });
    let data = base.clone().payload(format!("packet {n}"));
    match kind {
        Kind::Data => data.psh().build_buf(),
        Kind::Ack => base.build_buf(),
        Kind::Timestamps => {
            data.options(&[&[1, 1][..], &option::timestamps(n, n)].concat()).build_buf()
        }
        Kind::Sack => base.sack(&[(6000, 6500)]).build_buf(),
        Kind::Unusual => data.options(&option::any(254, &[1, 2, 3, 4, 5, 6])).build_buf(),
        Kind::Fin => base.fin().build_buf(),
        Kind::Rst => base.rst().build_buf(),
        Kind::Syn => segment(from, to, dst).syn().seq(n).mss(1400).build_buf(),
        Kind::Null => base.flags(0).build_buf(),
        Kind::WrongSum => data.wrong_l4_csum().build_buf(),
        Kind::Partial => data.l4_csum(lvs_testkit::build::Csum::Partial).build_buf(),
        Kind::Train => base.payload(vec![7; 5000]).gso(1000).build_buf(),
        Kind::LastHop => data.ttl(1).build_buf(),
        Kind::OtherMac => data.dst_mac(mac(99)).build_buf(),
        Kind::Tagged => data.vlan_beside(5).build_buf(),
        Kind::IpOptions if from.is_ipv6() => data.ttl(1).build_buf(),
        Kind::IpOptions => data.ip_options(&[1, 1, 1, 0]).build_buf(),
        Kind::NeighbourMoves => {
            let new = mac(100 + (n % 50) as u8);
            let ip = if port == CLIENTS { [10, 0, 0, 2] } else { [10, 1, 0, 12] };
            let own = if port == CLIENTS { [10, 0, 0, 1] } else { [10, 1, 0, 1] };
            MemBuf::from_bytes(&arp_reply(new, ip.into(), dst, own.into()).build())
        }
        Kind::Padded => data.pad(9).build_buf(),
        Kind::Error => error(from, to, dst, n),
        Kind::Udp => udp().from(from).to(to).dst_mac(dst).payload("x").build_buf(),
    }
}

/// What a router before one end of a flow says about a packet that the director has sent to that end.
fn error(from: SocketAddr, to: SocketAddr, director: MacAddr, n: u32) -> MemBuf {
    let complaint = match n % 3 {
        0 => Complaint::TooBig { mtu: 1300 },
        1 => Complaint::TimeExceeded,
        _ => Complaint::Unreachable(Unreachable::Host),
    };
    // The packet itself went the other way.
    let sent = segment(to, from, mac(77)).src_mac(director).seq(n).ack(1).build();
    let Ok(Parsed::Ip(headers)) = Headers::parse(&sent, sent.len()) else { panic!("a segment") };
    let router: IpAddr =
        if from.is_ipv4() { [192, 0, 2, 1].into() } else { "2001:db8::1".parse().unwrap() };
    let mut bytes = vec![0; 200];
    let csum = if n.is_multiple_of(5) { L4Csum::Unknown } else { L4Csum::Good };
    let len = complain(&sent, &headers, csum, complaint, router, 64, &mut bytes).unwrap();
    bytes.truncate(len);
    if n.is_multiple_of(7) {
        // A wrong checksum is not believed.
        *bytes.last_mut().unwrap() ^= 0x10;
    }
    MemBuf::from_bytes(&bytes)
}

/// What leaves, by session: the order between sessions is free.
fn by_flow(sent: Vec<Sent>) -> BTreeMap<String, Vec<Sent>> {
    let mut flows: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
    for one in sent {
        flows.entry(format!("{:?}", fields(&one.1))).or_default().push(one);
    }
    flows
}

fn equal_on(
    forwarding: Forwarding,
    lane: (bool, bool),
    script: &[Step],
) -> Result<(), TestCaseError> {
    equal_with(&spec(forwarding), lane, script)
}

fn equal_with(
    spec: &SnapshotSpec,
    lane: (bool, bool),
    script: &[Step],
) -> Result<(), TestCaseError> {
    let mut memory = [support::memory(), support::memory()];
    let [mut fast, mut slow] = memory
        .each_mut()
        .map(|memory| Rig::of(support::director(spec.clone(), memory), spec.clone(), lane));
    let flows = establish(&mut fast);
    establish(&mut slow);
    let mut n = 0;
    for (at, step) in script.iter().enumerate() {
        let port = if step.inbound { CLIENTS } else { SERVERS };
        let packets: Vec<MemBuf> = step
            .packets
            .iter()
            .map(|(flow, turned, kind)| {
                n += 1;
                let inbound = step.inbound != *turned;
                packet(&fast, port, &flows[usize::from(*flow)], inbound, *kind, n)
            })
            .collect();
        for rig in [&mut fast, &mut slow] {
            rig.now += step.wait_ms * 1_000_000;
            rig.director.expire(Time(rig.now), 1_000_000);
            if step.reload {
                rig.reload();
            }
        }
        let a = fast.burst(port, &packets);
        let b = slow.one_by_one(port, &packets, fast.out.under_way());
        prop_assert_eq!(by_flow(a), by_flow(b), "step {}", at);
        prop_assert_eq!(fast.counters(), slow.counters(), "step {}", at);
        prop_assert_eq!(fast.sessions(), slow.sessions(), "step {}", at);
        prop_assert_eq!(fast.carried(), slow.carried(), "step {}", at);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_burst_equals_its_packets_in_fullnat(
        script in prop::collection::vec(step(), 1..8),
        lane in any::<(bool, bool)>(),
    ) {
        equal_on(Forwarding::FullNat, lane, &script)?;
    }

    #[test]
    fn a_burst_equals_its_packets_in_nat(
        script in prop::collection::vec(step(), 1..8),
        lane in any::<(bool, bool)>(),
    ) {
        equal_on(Forwarding::Nat, lane, &script)?;
    }

    /// IPv4 flows as ever, and NAT64 ones among them on the same local addresses.
    #[test]
    fn a_burst_equals_its_packets_with_nat64_among_them(
        script in prop::collection::vec(step(), 1..8),
        lane in any::<(bool, bool)>(),
    ) {
        equal_with(&known(support::nat64()), lane, &script)?;
    }
}

#[test]
fn nat64_segments_leave_the_short_way_to_the_others() {
    let mut memory = support::memory();
    let spec = known(support::nat64());
    let director = support::director(spec.clone(), &mut memory);
    let mut rig = Rig::of(director, spec, (true, true));
    let flows = establish(&mut rig);
    for (port, inbound) in [(CLIENTS, true), (SERVERS, false)] {
        let before = rig.director.short_way();
        // In turn one of IPv4 and one of NAT64, all of them plain.
        let flow = |n: u32| &flows[(n / 2 % 3 + n % 2 * u32::from(FLOWS)) as usize];
        let burst: Vec<MemBuf> =
            (0..60).map(|n| packet(&rig, port, flow(n), inbound, Kind::Data, n)).collect();
        let sent = rig.burst(port, &burst);
        // A NAT64 session holds back an IPv4 one that has the same place in the filter of slots, at worst.
        let short = rig.director.short_way() - before;
        assert_eq!(sent.len(), 60);
        assert!(short.is_multiple_of(10) && (10..=30).contains(&short), "{short}");
        for (_, frame, _) in &sent {
            oracle::checksums_ok(frame).unwrap();
        }
    }
}

#[test]
fn the_short_way_is_taken_at_all() {
    let mut memory = support::memory();
    let mut rig = Rig::new(Forwarding::FullNat, (true, true), &mut memory);
    let flows = establish(&mut rig);
    // Three IPv4 and three IPv6 flows that are plain.
    let flow = |n: u32| &flows[(n % 3 + n / 3 % 2 * u32::from(FLOWS)) as usize];
    let burst: Vec<MemBuf> =
        (0..60).map(|n| packet(&rig, CLIENTS, flow(n), true, Kind::Data, n)).collect();
    let sent = rig.burst(CLIENTS, &burst);
    assert_eq!((sent.len(), rig.director.short_way()), (60, 60));
    for (_, frame, _) in &sent {
        oracle::checksums_ok(frame).unwrap();
    }
}

#[test]
fn full_bursts_stay_under_way_and_the_first_that_is_not_full_takes_them_along() {
    let mut memory = support::memory();
    let mut rig = Rig::new(Forwarding::FullNat, (true, true), &mut memory);
    let flows = establish(&mut rig);
    let mut n = 0;
    let mut burst = |rig: &mut Rig<'_>, size: usize| {
        let packets: Vec<MemBuf> = (0..size)
            .map(|_| {
                n += 1;
                packet(rig, CLIENTS, &flows[0], true, Kind::Data, n)
            })
            .collect();
        (rig.burst(CLIENTS, &packets).len(), rig.out.under_way())
    };
    let seen: Vec<_> = [BURST, BURST, BURST, BURST, 3, 0].map(|size| burst(&mut rig, size)).into();
    assert_eq!(seen, [(0, 64), (0, 128), (64, 128), (64, 128), (131, 0), (0, 0)]);
}

#[test]
fn errors_about_sessions_are_translated_in_bursts() {
    for forwarding in [Forwarding::FullNat, Forwarding::Nat] {
        let mut memory = support::memory();
        let mut rig = Rig::new(forwarding, (true, true), &mut memory);
        let flows = establish(&mut rig);
        let flow = |n: u32| &flows[(n % 3 + n / 3 % 2 * u32::from(FLOWS)) as usize];
        for (port, inbound) in [(CLIENTS, true), (SERVERS, false)] {
            let before = rig.director.counters().icmp_translated;
            let burst: Vec<MemBuf> = (1..7)
                .map(|n| packet(&rig, port, flow(n), inbound, Kind::Error, n))
                .chain([packet(&rig, port, flow(1), inbound, Kind::Data, 8)])
                .collect();
            assert_eq!(rig.burst(port, &burst).len(), 7);
            assert_eq!(rig.director.counters().icmp_translated, before + 6);
        }
    }
}

#[test]
fn datagrams_hold_nobody_up() {
    let mut memory = support::memory();
    let mut rig = Rig::new(Forwarding::FullNat, (true, true), &mut memory);
    let flows = establish(&mut rig);
    // UDP of both families in front, ordinary segments of both families behind.
    let udp = [&flows[0], &flows[usize::from(FLOWS)]].map(|flow| (flow, Kind::Udp));
    let tcp = [&flows[1], &flows[usize::from(FLOWS) + 1]].map(|flow| (flow, Kind::Data));
    let burst: Vec<MemBuf> = (1..)
        .zip(udp.into_iter().chain(tcp))
        .map(|(n, (flow, kind))| packet(&rig, CLIENTS, flow, true, kind, n))
        .collect();
    rig.burst(CLIENTS, &burst);
    assert_eq!(rig.director.short_way(), 2);
}
