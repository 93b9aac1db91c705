//! The same for bursts of first packets: SYNs of many clients, ordinary and odd, to services of every kind, until
//! the table is full; answered now and then, so that ports are used again.

use super::*;
use lvs_core::event::Event;
use lvs_core::persistence::Persistence;
use lvs_core::plan::Whole;
use lvs_core::service::{
    ClientAddrMode, NoToaRoom, TimestampPolicy, ToaFormat, ToaOptions, ToaPlacement,
};
use lvs_core::session::{SessionStore, StoreConfig, TableConfig};
use lvs_core::shared::{Template, Thresholds};
use lvs_core::time::Tick;
use lvs_director::DirectorConfig;

/// What a packet of a client is.
#[derive(Clone, Copy, Debug)]
enum First {
    Plain,
    Linux,
    NoOptions,
    Full,
    Forged,
    FastOpen,
    Broken,
    Ecn,
    Payload,
    Large,
    Padded,
    LastHop,
    WrongSum,
    BadSum,
    Partial,
    OtherMac,
    Tagged,
    InnerTag,
    SynFin,
    SynAck,
    Ack,
    Rst,
    Martian,
    Spoofed,
    NoService,
    ToLocal,
    V6,
    Udp,
    NeighbourMoves,
    ZeroPort,
    GroupSource,
}

fn first() -> impl Strategy<Value = First> {
    use First::*;
    let odd = [
        NoOptions,
        Full,
        Forged,
        FastOpen,
        Broken,
        Ecn,
        Payload,
        Large,
        Padded,
        LastHop,
        WrongSum,
        BadSum,
        Partial,
        OtherMac,
        Tagged,
        InnerTag,
        SynFin,
        SynAck,
        Ack,
        Rst,
        Martian,
        Spoofed,
        NoService,
        ToLocal,
        V6,
        Udp,
        NeighbourMoves,
        ZeroPort,
        GroupSource,
    ];
    prop_oneof![
        5 => Just(Plain),
        5 => Just(Linux),
        4 => prop::sample::select(odd.to_vec()),
    ]
}

/// A service and its table.
#[derive(Clone, Copy, Debug)]
struct Stand {
    forwarding: Forwarding,
    toa: Option<(bool, NoToaRoom, ToaFormat)>,
    trust_toa: bool,
    keep_timestamps: bool,
    thresholds: u32,
    persistent: Option<u8>,
    scheduler: u8,
    all_ports: bool,
    small: bool,
    servers_known: bool,
}

fn stand() -> impl Strategy<Value = Stand> {
    let room =
        prop::sample::select(vec![NoToaRoom::SeparateAck, NoToaRoom::Proxy, NoToaRoom::Drop]);
    let format = prop_oneof![3 => Just(ToaFormat::Port), 1 => Just(ToaFormat::WithVirtual)];
    let toa = (prop::bool::weighted(0.8), room, format).prop_map(Some);
    let toa = prop_oneof![1 => Just(None), 3 => toa];
    let full = prop::bool::weighted(0.7);
    let persistent = prop_oneof![2 => Just(None), 1 => Just(Some(32)), 1 => Just(Some(29))];
    let thresholds = prop_oneof![2 => Just(0u32), 1 => 3u32..40];
    (
        (full, toa, any::<[bool; 2]>(), thresholds),
        (persistent, 0u8..3, prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.7)),
    )
        .prop_map(|((full, toa, [keep_timestamps, trust_toa], thresholds), more)| {
            let (persistent, scheduler, all_ports, small, servers_known) = more;
            let forwarding = if full { Forwarding::FullNat } else { Forwarding::Nat };
            Stand {
                forwarding,
                toa,
                trust_toa,
                keep_timestamps,
                thresholds,
                persistent,
                scheduler,
                all_ports,
                small,
                servers_known,
            }
        })
}

impl Stand {
    fn spec(&self) -> SnapshotSpec {
        let mut spec = spec(self.forwarding);
        if !self.servers_known {
            spec.neighbours.retain(|neighbour| neighbour.mac != mac(11));
        }
        for service in &mut spec.services {
            service.client_addr =
                self.toa.map_or(ClientAddrMode::None, |(syn, no_room, format)| {
                    let placement = ToaPlacement { syn, ..ToaPlacement::default() };
                    let base = ToaOptions::default();
                    ClientAddrMode::Toa(ToaOptions { placement, no_room, format, ..base })
                });
            service.flags.trust_toa = self.trust_toa;
            if self.keep_timestamps {
                service.timestamps = TimestampPolicy::Keep;
            }
            service.persistence = self.persistent.map(|prefix_v4| Persistence {
                prefix_v4,
                timeout: core::time::Duration::from_secs(20),
                ..Persistence::default()
            });
            service.scheduler = [&lvs_sched::rr::DEF, &lvs_sched::wlc::DEF, &lvs_sched::sh::DEF]
                [usize::from(self.scheduler)];
            for server in &mut service.servers {
                server.thresholds = Thresholds { upper: self.thresholds, lower: 0 };
                if self.all_ports {
                    server.addr.0.set_port(0);
                }
            }
        }
        spec
    }

    fn store(&self) -> (StoreConfig, Whole) {
        let (config, plan) = support::store_config();
        if !self.small {
            return (config, plan);
        }
        let v4 = TableConfig { local_addresses: 2, general: 50 };
        (StoreConfig { v4, ..config }, Whole::new(1025, 1054).unwrap())
    }

    fn memory(&self) -> HeapMemory {
        let (config, plan) = self.store();
        HeapMemory::new(SessionStore::memory_for(&config, &plan).unwrap())
    }

    fn rig<'m>(&self, memory: &'m mut HeapMemory, lane: (bool, bool)) -> Rig<'m> {
        let (config, plan) = self.store();
        let store = SessionStore::new(config, plan, memory.bytes()).unwrap();
        let spec = self.spec();
        let generation =
            Generation::new(Arc::new(spec.clone().build(None).unwrap()), support::ARGS);
        let config =
            DirectorConfig { isn_key: [5, 6], in_flight_from: 0, ..DirectorConfig::default() };
        Rig::of(Director::new(config, store, generation), spec, lane)
    }
}

/// A burst of clients, or the answers of servers to some of the sessions there are.
#[derive(Clone, Debug)]
enum Round {
    Clients(Vec<(u8, First)>),
    Servers(Vec<(u8, bool)>),
}

fn round() -> impl Strategy<Value = (u64, bool, Round)> {
    let sizes = prop_oneof![1 => (0usize..20).boxed(), 2 => Just(BURST).boxed()];
    let clients = sizes.prop_flat_map(|n| prop::collection::vec((any::<u8>(), first()), n));
    let servers = prop::collection::vec((any::<u8>(), any::<bool>()), 1..20);
    let wait = prop_oneof![6 => 0u64..5, 1 => 0u64..70_000];
    let round = prop_oneof![
        4 => clients.prop_map(Round::Clients),
        1 => servers.prop_map(Round::Servers),
    ];
    (wait, prop::bool::weighted(0.1), round)
}

fn client(number: u8) -> SocketAddr {
    // A few hosts with a few ports each: retransmissions, and clients that come back.
    SocketAddr::new([10, 0, 0, 10 + number % 20].into(), 4000 + u16::from(number / 20))
}

fn first_packet(rig: &Rig<'_>, number: u8, first: First, n: u32) -> MemBuf {
    use First::*;
    let (to, dst) = (service(false), rig.port_mac(CLIENTS));
    let base =
        |from: SocketAddr, to: SocketAddr| segment(from, to, dst).seq(n.wrapping_mul(77_777));
    let from = client(number);
    let bare = base(from, to).syn();
    let syn = bare.clone().mss(1400 + n as u16 % 50);
    let other = |to: &str| base(from, to.parse().unwrap()).syn().mss(1460).build_buf();
    match first {
        Plain => syn.build_buf(),
        Linux => bare.linux_options(1460).build_buf(),
        NoOptions => bare.no_options().build_buf(),
        Full => bare
            .options(
                &[
                    option::any(34, &[7; 14]),
                    option::mss(1300),
                    option::timestamps(n, 0),
                    vec![1; 10],
                ]
                .concat(),
            )
            .build_buf(),
        Forged => bare.options(&[option::toa(client(3)), option::mss(1460)].concat()).build_buf(),
        FastOpen => {
            bare.options(&[option::mss(1460), option::any(254, &[0xf9, 0x89])].concat()).build_buf()
        }
        Broken => bare.options(&[2, 4, 5, 0, 99, 1, 8, 10]).build_buf(),
        Ecn => syn.flags(0xc2).build_buf(),
        Payload => syn.payload("early data").build_buf(),
        Large => syn.payload(vec![1; 1440 + n as usize % 30]).build_buf(),
        Padded => syn.pad(6).build_buf(),
        LastHop => syn.ttl(1).build_buf(),
        WrongSum => syn.wrong_l4_csum().build_buf(),
        BadSum => {
            let mut buf = syn.build_buf();
            let (l3, l4) = (14, 34);
            lvs_core::io::PacketBuf::set_l4_csum(&mut buf, L4Csum::Bad, l3, l4);
            buf
        }
        Partial => syn.l4_csum(lvs_testkit::build::Csum::Partial).build_buf(),
        OtherMac => syn.dst_mac(mac(99)).build_buf(),
        Tagged => syn.vlan_beside(5).build_buf(),
        InnerTag => syn.vlan(5).build_buf(),
        SynFin => syn.fin().build_buf(),
        SynAck => syn.ack(n).build_buf(),
        Ack => base(from, to).ack(n).build_buf(),
        Rst => base(from, to).rst().build_buf(),
        Martian => base("127.0.0.1:99".parse().unwrap(), to).syn().build_buf(),
        Spoofed => base("10.1.0.100:99".parse().unwrap(), to).syn().build_buf(),
        NoService => other("10.0.0.80:81"),
        ToLocal => other("10.1.0.100:80"),
        V6 => base(
            SocketAddr::new("fd00::2".parse().unwrap(), 4000 + u16::from(number)),
            service(true),
        )
        .syn()
        .mss(1440)
        .build_buf(),
        Udp => udp().from(from).to("10.0.0.80:53").dst_mac(dst).payload("x").build_buf(),
        ZeroPort => base(SocketAddr::new(from.ip(), 0), to).syn().build_buf(),
        GroupSource => syn.src_mac(MacAddr([1, 0, 0x5e, 0, 0, 1])).build_buf(),
        NeighbourMoves => {
            let new = mac(100 + (n % 50) as u8);
            MemBuf::from_bytes(
                &arp_reply(new, [10, 0, 0, 2].into(), dst, [10, 0, 0, 1].into()).build(),
            )
        }
    }
}

/// Answers to sessions, drawn from those that both sides have.
fn answers(rig: &Rig<'_>, drawn: &[(u8, bool)], n: u32) -> Vec<MemBuf> {
    let sessions = rig.sessions();
    let of_v4 = |session: &&Session| session.quad.server.0.is_ipv4();
    let sessions: Vec<_> = sessions.iter().filter(of_v4).collect();
    let pick = |(at, reset): &(u8, bool)| {
        let quad = sessions.get(usize::from(*at) % sessions.len().max(1))?.quad;
        let [server, local] = [quad.server, quad.local].map(|(ip, port)| SocketAddr::new(ip, port));
        let answer = segment(server, local, rig.port_mac(SERVERS)).seq(n).ack(n.wrapping_mul(3));
        Some(if *reset { answer.rst().build_buf() } else { answer.syn().mss(1460).build_buf() })
    };
    drawn.iter().filter_map(pick).collect()
}

fn events(rig: &mut Rig<'_>) -> (Vec<Event>, u64) {
    let all = core::iter::from_fn(|| rig.director.poll_event()).collect();
    (all, rig.director.events_lost())
}

fn templates(rig: &Rig<'_>) -> Vec<Template> {
    let mut all = Vec::new();
    let now = Time(rig.now).tick();
    rig.director.shared().templates.scan(0, u32::MAX, Tick(now.0), |one| all.push(*one));
    all
}

fn hops(rig: &Rig<'_>) -> Vec<String> {
    rig.director.hops().map(|hop| format!("{hop:?}")).collect()
}

fn counts(rig: &Rig<'_>) -> Vec<String> {
    let generation = rig.director.generation();
    let all = generation.snapshot().servers().map(|server| {
        let shared = rig.director.shared();
        let half_open = shared.half_open.get(server.service);
        let mine = generation.server_count(server.id);
        format!("{mine:?} {:?} {half_open}", shared.servers.get(server.id))
    });
    all.collect()
}

fn equal(
    stand: Stand,
    lane: (bool, bool),
    script: &[(u64, bool, Round)],
) -> Result<u64, TestCaseError> {
    let mut memory = [stand.memory(), stand.memory()];
    let [left, right] = &mut memory;
    let (mut fast, mut slow) = (stand.rig(left, lane), stand.rig(right, lane));
    let mut n = 0;
    for (at, (wait_ms, reload, round)) in script.iter().enumerate() {
        n += 100;
        let (port, packets) = match round {
            Round::Clients(all) => {
                let packets = (n..)
                    .zip(all)
                    .map(|(n, (number, first))| first_packet(&fast, *number, *first, n));
                (CLIENTS, packets.collect())
            }
            Round::Servers(drawn) => (SERVERS, answers(&slow, drawn, n)),
        };
        for rig in [&mut fast, &mut slow] {
            rig.now += wait_ms * 1_000_000;
            rig.director.expire(Time(rig.now), 1_000_000);
            if *reload {
                rig.reload();
            }
        }
        let packets: Vec<MemBuf> = packets;
        let a = fast.burst(port, &packets);
        let b = slow.one_by_one(port, &packets, fast.out.under_way());
        prop_assert_eq!(by_flow(a), by_flow(b), "round {}", at);
        prop_assert_eq!(fast.counters(), slow.counters(), "round {}", at);
        prop_assert_eq!(fast.sessions(), slow.sessions(), "round {}", at);
        prop_assert_eq!(fast.carried(), slow.carried(), "round {}", at);
        prop_assert_eq!(counts(&fast), counts(&slow), "round {}", at);
        prop_assert_eq!(hops(&fast), hops(&slow), "round {}", at);
        prop_assert_eq!(templates(&fast), templates(&slow), "round {}", at);
        prop_assert_eq!(events(&mut fast), events(&mut slow), "round {}", at);
    }
    Ok(fast.director.counters().sessions_opened)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_burst_of_syns_equals_its_packets(
        stand in stand(),
        lane in any::<(bool, bool)>(),
        script in prop::collection::vec(round(), 1..8),
    ) {
        equal(stand, lane, &script)?;
    }
}

#[test]
fn ordinary_syns_take_the_short_way() {
    for forwarding in [Forwarding::FullNat, Forwarding::Nat] {
        let mut memory = support::memory();
        let mut rig = Rig::new(forwarding, (true, true), &mut memory);
        establish(&mut rig);
        let before = rig.director.short_way();
        let kinds = [First::Plain, First::Linux, First::Ecn, First::Payload, First::Padded];
        let all = (0u8..60).map(|n| (n, kinds[usize::from(n % 5)]));
        let packets: Vec<_> =
            all.map(|(n, kind)| first_packet(&rig, n, kind, u32::from(n))).collect();
        let sent = rig.burst(CLIENTS, &packets);
        assert_eq!((sent.len() as u64, rig.director.short_way() - before), (60, 60));
        for (_, frame, _) in &sent {
            oracle::checksums_ok(frame).unwrap();
        }
    }
}
