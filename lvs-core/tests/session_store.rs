//! The session store through its public face.

use core::time::Duration;
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::id::{HopId, LocalId, ServerId, TimeoutClass};
use lvs_core::plan::Whole;
use lvs_core::session::tcp::flags::{ACK, FIN, SYN};
use lvs_core::session::{
    LocalSource, Open, OpenError, Place, Probe, Quad, Segment, SessionStore, StoreConfig,
    StoreError, TableConfig, TcpState, Translation,
};
use lvs_core::time::{Tick, Time};
use lvs_core::timeouts::Timeouts;

#[repr(C, align(128))]
struct Memory([u8; 1 << 21]);

fn memory() -> Box<Memory> {
    Box::new(Memory([0; 1 << 21]))
}

fn config() -> StoreConfig {
    StoreConfig {
        v4: TableConfig { local_addresses: 2, general: 100 },
        v6: TableConfig { local_addresses: 1, general: 10 },
        key: [1, 2],
        seed: 3,
    }
}

fn plan() -> Whole {
    Whole::new(1025, 2024).unwrap()
}

const POOL: [LocalSource; 2] = [
    LocalSource {
        id: LocalId(0),
        ip: core::net::IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 0, 100)),
    },
    LocalSource {
        id: LocalId(1),
        ip: core::net::IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 0, 101)),
    },
];

fn quad(client_port: u16) -> Quad {
    Quad {
        proto: L4Proto::Tcp,
        client: ([10, 0, 0, 2].into(), client_port),
        virt: ([10, 0, 0, 80].into(), 80),
        local: ([10, 0, 0, 2].into(), client_port),
        server: ([10, 1, 0, 11].into(), 8080),
    }
}

fn open(client_port: u16, place: Place<'_>) -> Open<'_> {
    Open {
        quad: quad(client_port),
        place,
        state: TcpState::SynRecv,
        plain: false,
        server: ServerId(7),
        hop_in: HopId(1),
        hop_out: HopId(2),
        class: TimeoutClass(0),
    }
}

const FULLNAT: Place<'_> = Place::Local { addresses: &POOL, first: 0 };
const SEGMENT: Segment = Segment { tcp_flags: Some(ACK), bytes: 100 };

fn store(memory: &mut Memory) -> SessionStore<'_> {
    let mut store = SessionStore::new(config(), plan(), &mut memory.0).unwrap();
    store.set_timeouts(&[Timeouts::LVS.ticks()]);
    store
}

fn probe(tuple: WireTuple) -> Probe {
    let local = POOL.iter().find(|source| source.ip == tuple.dst()).map(|source| source.id);
    Probe { tuple, local }
}

#[test]
fn memory_is_exact_and_must_be_aligned() {
    let mut memory = memory();
    let needed = SessionStore::memory_for(&config(), &plan()).unwrap();
    let error = StoreError::Memory { needed };
    assert_eq!(SessionStore::new(config(), plan(), &mut memory.0[..needed - 1]).err(), Some(error));
    assert_eq!(SessionStore::new(config(), plan(), &mut memory.0[64..]).err(), Some(error));
    assert!(SessionStore::new(config(), plan(), &mut memory.0[..needed]).is_ok());
    // Line, cold record, ring word, and 11.6 bytes of directory: below 144 bytes a session.
    let big = StoreConfig {
        v4: TableConfig { local_addresses: 10, general: 0 },
        v6: TableConfig::default(),
        ..config()
    };
    let bytes = SessionStore::memory_for(&big, &Whole::default()).unwrap();
    assert!(bytes as f64 / 645_110.0 < 144.0, "{} bytes a session", bytes as f64 / 645_110.0);
}

/// INV-5, and INV-6 for what is stale.
#[test]
fn a_fullnat_session_is_found_from_both_sides_until_it_is_closed() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let opened = store.open(Tick(5), &open(4000, FULLNAT), |_| Translation::default()).unwrap();
    assert_eq!(opened.quad.local.0, POOL[0].ip);
    let inbound = probe(opened.quad.inbound().unwrap());
    let reply = probe(opened.quad.reply().unwrap());
    assert_eq!(store.lookup_one(&inbound).unwrap().direction, Direction::Inbound);
    let found = store.lookup_one(&reply).unwrap();
    assert_eq!(found.direction, Direction::Return);
    let flow = store
        .packet(found, &reply.tuple, Tick(6), Segment { tcp_flags: Some(SYN | ACK), bytes: 60 })
        .unwrap();
    assert_eq!(
        (flow.before, flow.after, flow.first_answer),
        (TcpState::SynRecv, TcpState::SynRecv, true)
    );
    assert_eq!((flow.hop, flow.server), (HopId(2), ServerId(7)));
    assert_eq!((store.len(), store.ports_in_use()), (1, 1));

    let last = store.close(opened.id).unwrap();
    assert_eq!((last.outbound.packets, last.outbound.bytes), (1, 60));
    assert_eq!((store.len(), store.ports_in_use()), (0, 0));
    assert_eq!(store.lookup_one(&inbound), None);
    assert_eq!(store.lookup_one(&reply), None);
    assert_eq!(store.packet(found, &reply.tuple, Tick(7), SEGMENT), None, "a stale candidate");
    assert_eq!(store.close(opened.id), None, "a stale handle");
    assert_eq!(store.session(opened.id), None);
}

/// INV-5, INV-7.
#[test]
fn a_nat_session_has_two_keys_and_a_tuple_is_never_given_twice() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let opened =
        store.open(Tick(5), &open(4000, Place::General), |_| Translation::default()).unwrap();
    let reply = opened.quad.reply().unwrap();
    assert_eq!(store.lookup_one(&probe(reply)).unwrap().direction, Direction::Return);
    assert_eq!(store.ports_in_use(), 0);
    // Another service address, same client and server: the reply tuple would be the same.
    let mut other = open(4000, Place::General);
    other.quad.virt.0 = [10, 0, 0, 81].into();
    assert_eq!(store.open(Tick(5), &other, |_| Translation::default()), Err(OpenError::Taken));
    assert_eq!(store.lookup_one(&probe(other.quad.inbound().unwrap())), None, "half an entry");
    assert_eq!(store.len(), 1);
}

/// INV-10, INV-9.
#[test]
fn ports_run_out_as_an_ordinary_answer_and_come_back_in_order() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let mut ids = Vec::new();
    for n in 0..2000 {
        ids.push(store.open(Tick(1), &open(n + 1, FULLNAT), |_| Translation::default()).unwrap());
    }
    let full = store.open(Tick(1), &open(9999, FULLNAT), |_| Translation::default());
    assert_eq!(full, Err(OpenError::NoPort));
    assert_eq!(store.ports_in_use(), 2000);
    let (a, b) = (ids[3], ids[900]);
    store.close(b.id).unwrap();
    store.close(a.id).unwrap();
    let mut seen = None;
    let again = store
        .open(Tick(2), &open(9999, FULLNAT), |reserved| {
            seen = reserved.previous;
            Translation::default()
        })
        .unwrap();
    assert_eq!(again.quad.local, b.quad.local, "the port that has been free longest");
    assert_eq!(seen.unwrap().server.ip(), b.quad.server.0);
    assert_ne!(again.id, b.id);
    for n in 10..100 {
        let taken = store.open(Tick(1), &open(n + 1, Place::General), |_| Translation::default());
        assert_eq!(taken, Err(OpenError::Taken), "the client's tuple is in use");
    }
}

/// Runs expiry at every tick and tells the tick at which the only session went.
fn expires_at(store: &mut SessionStore<'_>, from: u32) -> u32 {
    for now in from..from + 200_000 {
        let mut budget = 10_000;
        if let Some(id) = store.next_expired(Tick(now), &mut budget) {
            store.close(id).unwrap();
            return now - from;
        }
    }
    panic!("never expired");
}

/// INV-8.
#[test]
fn short_time_outs_are_exact_to_two_ticks_and_long_ones_to_four_seconds() {
    let ticks = |time: Duration| u32::try_from(time.as_nanos() >> Tick::SHIFT).unwrap();
    for (steps, state) in [
        (&[][..], TcpState::SynRecv),
        (&[(true, ACK)][..], TcpState::Established),
        (&[(true, ACK), (true, FIN | ACK), (false, FIN | ACK)][..], TcpState::TimeWait),
    ] {
        let mut memory = memory();
        let mut store = store(&mut memory);
        let opened =
            store.open(Tick(50), &open(4000, FULLNAT), |_| Translation::default()).unwrap();
        for (inbound, tcp_flags) in steps {
            let tuple = if *inbound { opened.quad.inbound() } else { opened.quad.reply() }.unwrap();
            let at = store.lookup_one(&probe(tuple)).unwrap();
            store.packet(at, &tuple, Tick(100), Segment { tcp_flags: Some(*tcp_flags), bytes: 52 });
        }
        assert_eq!(store.session(opened.id).unwrap().state, state);
        let start = store.session(opened.id).unwrap().last_seen.0;
        let timeout = Timeouts::LVS.tcp(state);
        let late = expires_at(&mut store, start) - ticks(timeout);
        let bound = if timeout <= Duration::from_secs(10) { 2 } else { 62 };
        assert!(late <= bound, "{state:?}: {late} ticks late");
        assert!(store.is_empty() && store.ports_in_use() == 0);
        assert_eq!(store.next_deadline(Time(0)), None);
    }
}

#[test]
fn counters_of_a_long_session_survive_the_harvest() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let mut request = open(4000, FULLNAT);
    (request.plain, request.state) = (true, TcpState::Established);
    let opened = store.open(Tick(50), &request, |_| Translation::default()).unwrap();
    let tuple = opened.quad.inbound().unwrap();
    let at = store.lookup_one(&probe(tuple)).unwrap();
    let n = (1 << 24) + 12_345u64;
    for _ in 0..n {
        store
            .packet(at, &tuple, Tick(60), Segment { tcp_flags: Some(ACK), bytes: 60_000 })
            .unwrap();
    }
    let session = store.session(opened.id).unwrap();
    assert_eq!((session.inbound.packets, session.inbound.bytes), (n, n * 60_000));
}
