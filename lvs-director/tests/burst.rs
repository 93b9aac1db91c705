//! A burst at a time does what one packet at a time does: same bytes, same counters, same sessions
//! (INV-13), and packets of one session leave in the order in which they came.
//!
//! The scripts are biased to what could go wrong: many packets of few sessions, ordinary segments mixed
//! with every kind that takes the long way.

mod support;

use core::net::SocketAddr;
use lvs_core::addr::MacAddr;
use lvs_core::counters::{Carried, Counters};
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::service::Forwarding;
use lvs_core::session::{Cursor, HeapMemory, Session};
use lvs_core::snapshot::StaticNeighbour;
use lvs_core::time::Time;
use lvs_director::{Director, Outputs};
use lvs_testkit::build::{Packet, Tcp, arp_reply, option, tcp, udp};
use lvs_testkit::oracle;
use proptest::prelude::*;
use std::collections::BTreeMap;

const CLIENTS: PortId = PortId(0);
const SERVERS: PortId = PortId(1);
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
    ];
    prop_oneof![
        6 => Just(Data),
        3 => Just(Ack),
        2 => Just(Timestamps),
        4 => prop::sample::select(rare.to_vec()),
    ]
}

/// A burst: from the clients or from the servers, and a time step before it.
#[derive(Clone, Debug)]
struct Step {
    inbound: bool,
    wait_ms: u64,
    packets: Vec<(u16, Kind)>,
}

fn step() -> impl Strategy<Value = Step> {
    let packets = prop::collection::vec((0..FLOWS, kind()), 1..30);
    let wait = prop_oneof![4 => 0u64..5, 1 => 0u64..40_000];
    (any::<bool>(), wait, packets).prop_map(|(inbound, wait_ms, packets)| Step {
        inbound,
        wait_ms,
        packets,
    })
}

/// One flow as its two ends see it.
#[derive(Clone, Copy, Debug)]
struct Ends {
    client: SocketAddr,
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
}

type Sent = (PortId, Vec<u8>, String);

impl<'m> Rig<'m> {
    fn new(forwarding: Forwarding, offloads: bool, memory: &'m mut HeapMemory) -> Self {
        let mut spec = support::spec(forwarding);
        // The second server stays to be asked for, so that its address can move.
        spec.neighbours = [("10.0.0.2", 2), ("10.1.0.11", 11)]
            .map(|(ip, last)| StaticNeighbour { ip: ip.parse().unwrap(), mac: mac(last) })
            .to_vec();
        Self {
            director: support::director(spec, memory),
            lane: MemLane::new(if offloads {
                [MemPort::default(), MemPort::default()]
            } else {
                [1, 2].map(|last| MemPort::plain(MacAddr([2, 0, 0, 0, 0, last])))
            }),
            out: Outputs::new(2),
            now: 1_000_000_000,
        }
    }

    fn port_mac(&self, port: PortId) -> MacAddr {
        self.lane.port_info(port).mac
    }

    /// Feeds packets, as one burst or one by one, and returns what leaves.
    fn feed(&mut self, port: PortId, packets: &[MemBuf], burst: bool) -> Vec<Sent> {
        let now = Time(self.now);
        if burst {
            let mut all = Burst::new();
            for packet in packets {
                all.push(copy(packet)).unwrap();
            }
            self.director.process(now, &mut self.lane, port, &mut all, &mut self.out);
        } else {
            for packet in packets {
                let (lane, out) = (&mut self.lane, &mut self.out);
                self.director.process_one(now, lane, port, copy(packet), out);
            }
        }
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
    let service: SocketAddr = "10.0.0.80:80".parse().unwrap();
    let (left, right) = (rig.port_mac(CLIENTS), rig.port_mac(SERVERS));
    let mut flows = Vec::new();
    for n in 0..FLOWS {
        let client = SocketAddr::new([10, 0, 0, 2].into(), 4000 + n);
        let syn = segment(client, service, left).syn().seq(1000).mss(1460).build_buf();
        let mut sent = rig.feed(CLIENTS, &[syn], false);
        if let Some(question) = sent.iter().position(|(_, frame, _)| fields(frame).is_none()) {
            sent.remove(question);
            let answer = arp_reply(mac(12), [10, 1, 0, 12].into(), right, [10, 1, 0, 1].into());
            sent = rig.feed(SERVERS, &[MemBuf::from_bytes(&answer.build())], false);
        }
        let (local, server) = fields(&sent[0].1).expect("the SYN has left");
        let seq = oracle::fields(&sent[0].1).unwrap().tcp.unwrap().seq;
        let ends = Ends { client, local, server, deaf: n == 3 };
        let synack =
            segment(server, local, right).syn().seq(5000).ack(seq.wrapping_add(1)).mss(1460);
        let data =
            segment(server, local, right).seq(5001).ack(seq.wrapping_add(1)).payload("hello");
        rig.feed(SERVERS, &[synack.build_buf()], false);
        let ack = |number| segment(client, service, left).seq(1001).ack(number);
        flows.push(ends);
        if n == 4 {
            continue;
        }
        rig.feed(CLIENTS, &[ack(5001).build_buf()], false);
        if ends.deaf {
            continue;
        }
        rig.feed(SERVERS, &[data.build_buf()], false);
        rig.feed(CLIENTS, &[ack(5006).build_buf()], false);
    }
    flows
}

fn packet(rig: &Rig<'_>, flow: &Ends, inbound: bool, kind: Kind, n: u32) -> MemBuf {
    let service: SocketAddr = "10.0.0.80:80".parse().unwrap();
    let port = if inbound { CLIENTS } else { SERVERS };
    let (from, to) = if inbound { (flow.client, service) } else { (flow.server, flow.local) };
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
        Kind::IpOptions => data.ip_options(&[1, 1, 1, 0]).build_buf(),
        Kind::NeighbourMoves => {
            let new = mac(100 + (n % 50) as u8);
            let ip = if inbound { [10, 0, 0, 2] } else { [10, 1, 0, 12] };
            let own = if inbound { [10, 0, 0, 1] } else { [10, 1, 0, 1] };
            MemBuf::from_bytes(&arp_reply(new, ip.into(), dst, own.into()).build())
        }
        Kind::Padded => data.pad(9).build_buf(),
        Kind::Udp => udp().from(from).to(to).dst_mac(dst).payload("x").build_buf(),
    }
}

/// What leaves, by session: the order between sessions is free.
fn by_flow(sent: Vec<Sent>) -> BTreeMap<String, Vec<Sent>> {
    let mut flows: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
    for one in sent {
        flows.entry(format!("{:?}", fields(&one.1))).or_default().push(one);
    }
    flows
}

fn equal_on(forwarding: Forwarding, offloads: bool, script: &[Step]) -> Result<(), TestCaseError> {
    let mut memory = [support::memory(), support::memory()];
    let [left, right] = &mut memory;
    let mut fast = Rig::new(forwarding, offloads, left);
    let mut slow = Rig::new(forwarding, offloads, right);
    let flows = establish(&mut fast);
    establish(&mut slow);
    let mut n = 0;
    for (at, step) in script.iter().enumerate() {
        let port = if step.inbound { CLIENTS } else { SERVERS };
        let packets: Vec<MemBuf> = step
            .packets
            .iter()
            .map(|(flow, kind)| {
                n += 1;
                packet(&fast, &flows[usize::from(*flow)], step.inbound, *kind, n)
            })
            .collect();
        for rig in [&mut fast, &mut slow] {
            rig.now += step.wait_ms * 1_000_000;
            rig.director.expire(Time(rig.now), 1_000_000);
        }
        let (a, b) = (fast.feed(port, &packets, true), slow.feed(port, &packets, false));
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
        offloads in any::<bool>(),
    ) {
        equal_on(Forwarding::FullNat, offloads, &script)?;
    }

    #[test]
    fn a_burst_equals_its_packets_in_nat(
        script in prop::collection::vec(step(), 1..8),
        offloads in any::<bool>(),
    ) {
        equal_on(Forwarding::Nat, offloads, &script)?;
    }
}

#[test]
fn the_short_way_is_taken_at_all() {
    let mut memory = support::memory();
    let mut rig = Rig::new(Forwarding::FullNat, true, &mut memory);
    let flows = establish(&mut rig);
    let burst: Vec<MemBuf> =
        (0..60).map(|n| packet(&rig, &flows[n as usize % 3], true, Kind::Data, n)).collect();
    let sent = rig.feed(CLIENTS, &burst, true);
    assert_eq!((sent.len(), rig.director.short_way()), (60, 60));
    for (_, frame, _) in &sent {
        oracle::checksums_ok(frame).unwrap();
    }
}
