//! NAT64 in the session store: a session of the IPv6 table with a local port of the IPv4 one.

use core::net::IpAddr;
use lvs_core::flow::{Direction, L4Proto, TupleV6, WireTuple};
use lvs_core::id::{HopId, LocalId, ServerId, TimeoutClass};
use lvs_core::plan::Whole;
use lvs_core::session::tcp::flags::{ACK, PSH, SYN};
use lvs_core::session::{
    Candidate, Cursor, Hint, LocalSource, MEMORY_ALIGN, Open, OpenError, Opened, Place, Probe,
    Quad, Segment, SessionStore, StoreConfig, TableConfig, TcpState, Translation,
};
use lvs_core::time::{Tick, Time};
use lvs_core::timeouts::Timeouts;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Ports of the local address.
const PORTS: u32 = 8;
/// IPv6 slots without a local port.
const GENERAL: u32 = 6;

#[repr(C, align(128))]
struct Memory([u8; 1 << 16]);

const _: () = assert!(MEMORY_ALIGN == 128);

fn memory() -> Box<Memory> {
    Box::new(Memory([0; 1 << 16]))
}

fn store(memory: &mut Memory) -> SessionStore<'_> {
    let config = StoreConfig {
        v4: TableConfig { local_addresses: 1, general: 4 },
        v6: TableConfig { local_addresses: 1, general: GENERAL },
        key: [1, 2],
        seed: 3,
    };
    let plan = Whole::new(2000, 2000 + PORTS as u16 - 1).unwrap();
    let mut store = SessionStore::new(config, plan, &mut memory.0).unwrap();
    store.set_timeouts(&[Timeouts::LVS.ticks()]);
    store
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool() -> [LocalSource; 1] {
    [LocalSource { id: LocalId(0), ip: ip("10.1.0.100") }]
}

fn quad(client: &str, port: u16) -> Quad {
    let v6 = client.contains(':');
    let virt = if v6 { ip("2001:db8::80") } else { ip("10.0.0.80") };
    Quad {
        proto: L4Proto::Tcp,
        client: (ip(client), port),
        virt: (virt, 80),
        local: (ip(client), port),
        server: (ip("10.1.0.11"), 8080),
    }
}

fn open(
    store: &mut SessionStore<'_>,
    now: u32,
    client: &str,
    port: u16,
) -> Result<Opened, OpenError> {
    let pool = pool();
    let open = Open {
        quad: quad(client, port),
        place: Place::Local { addresses: &pool, first: 0 },
        state: TcpState::SynRecv,
        plain: false,
        server: ServerId(7),
        hop_in: HopId(1),
        hop_out: HopId(2),
        class: TimeoutClass(0),
    };
    store.open(Tick(now), &open, |_| Translation::default())
}

fn probe(tuple: WireTuple) -> Probe {
    Probe { tuple, local: (tuple.dst() == pool()[0].ip).then_some(LocalId(0)) }
}

fn find(store: &SessionStore<'_>, tuple: WireTuple) -> Option<Candidate> {
    store.lookup_one(&probe(tuple))
}

const DATA: Segment = Segment { tcp_flags: Some(ACK | PSH), bytes: 100 };

/// INV-5.
#[test]
fn a_nat64_session_is_found_by_the_tuple_of_each_side_until_it_is_closed() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let opened = open(&mut store, 5, "2001:db8::2", 4000).unwrap();
    let inbound = opened.quad.inbound().unwrap();
    let reply = opened.quad.reply().unwrap();
    assert!(matches!((inbound, reply), (WireTuple::V6(_), WireTuple::V4(_))));
    assert_eq!(reply.to_string(), format!("tcp 10.1.0.11:8080 -> 10.1.0.100:{}", reply.dport()));

    let there = find(&store, inbound).unwrap();
    let back = find(&store, reply).unwrap();
    assert_eq!((there.direction, back.direction), (Direction::Inbound, Direction::Return));
    assert_eq!(store.id_of(there), Some(opened.id));
    assert_eq!(store.id_of(back), Some(opened.id));
    let mut found = [None; 2];
    store.lookup(&[probe(inbound), probe(reply)], &mut found);
    assert_eq!(found, [Some(there), Some(back)], "a burst of look-ups finds the same");

    let answer = Segment { tcp_flags: Some(SYN | ACK), bytes: 60 };
    let flow = store.packet(back, &reply, Tick(6), answer).unwrap();
    assert!(flow.first_answer && flow.quad == opened.quad && flow.hop == HopId(2));
    let flow = store.packet(there, &inbound, Tick(6), DATA).unwrap();
    assert_eq!((flow.after, flow.quad, flow.hop), (TcpState::Established, opened.quad, HopId(1)));
    let session = store.session(opened.id).unwrap();
    assert_eq!((session.inbound.packets, session.outbound.packets), (1, 1));
    assert!(session.has_local_port && session.one_way.is_none());

    let mut seen = Vec::new();
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        cursor = store.scan(at, 3, |session| seen.push(session.quad));
    }
    assert_eq!(seen, [opened.quad], "listed once");
    assert_eq!((store.len(), store.ports_in_use()), (1, 1));

    assert_eq!(store.close(opened.id).unwrap().quad, opened.quad);
    assert_eq!((find(&store, inbound), find(&store, reply)), (None, None));
    assert!(store.packet(back, &reply, Tick(7), DATA).is_none(), "an old candidate finds nothing");
    assert_eq!((store.len(), store.ports_in_use()), (0, 0));
}

#[test]
fn no_short_way_takes_a_segment_of_a_nat64_session() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let opened = open(&mut store, 5, "2001:db8::2", 4000).unwrap();
    let (inbound, reply) = (opened.quad.inbound().unwrap(), opened.quad.reply().unwrap());
    store.packet(find(&store, reply).unwrap(), &reply, Tick(6), DATA).unwrap();
    store.packet(find(&store, inbound).unwrap(), &inbound, Tick(6), DATA).unwrap();
    let mut detail = store.detail(opened.id).unwrap();
    detail.plain = true;
    store.set_detail(opened.id, &detail);
    let flow = store.peek(find(&store, inbound).unwrap(), &inbound, DATA).unwrap();
    assert!(flow.plain && flow.before == TcpState::Established);

    let (WireTuple::V6(inbound6), WireTuple::V4(reply4)) = (inbound, reply) else { panic!() };
    let hint = store.hint_of(&probe(inbound), None);
    assert!(!hint.is_nowhere() && store.plain_v6(hint, &(&inbound6).into()).is_none());
    let key = (&reply4).into();
    let hint: Hint = store.direct_v4(LocalId(0), &key, None);
    assert!(!hint.is_nowhere() && store.plain_v4(hint, &key).is_none());
}

#[test]
fn an_ipv6_packet_with_mapped_addresses_is_no_reply_of_nat64() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let opened = open(&mut store, 5, "2001:db8::2", 4000).unwrap();
    let WireTuple::V4(reply) = opened.quad.reply().unwrap() else { panic!() };
    let mapped = |ip: u32| 0xffff_0000_0000 | u128::from(ip);
    let forged = WireTuple::V6(TupleV6 {
        src: mapped(reply.src),
        dst: mapped(reply.dst),
        sport: reply.sport,
        dport: reply.dport,
        proto: reply.proto,
    });
    assert_eq!(find(&store, forged), None);
    assert_eq!(store.lookup_one(&Probe { tuple: forged, local: Some(LocalId(0)) }), None);
}

/// INV-7 and INV-10.
#[test]
fn ports_are_shared_with_ipv4_and_a_full_table_changes_nothing() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let mut ports = Vec::new();
    for n in 0..GENERAL as u16 {
        ports.push(open(&mut store, 1, "2001:db8::2", 4000 + n).unwrap().quad.local.1);
    }
    // No slot is left for the session; the port that it would have had is free still.
    assert_eq!(open(&mut store, 1, "2001:db8::2", 5000), Err(OpenError::Full));
    assert_eq!(store.ports_in_use(), u64::from(GENERAL));
    for n in 0..(PORTS - GENERAL) as u16 {
        ports.push(open(&mut store, 1, "10.0.0.2", 4000 + n).unwrap().quad.local.1);
    }
    assert_eq!(open(&mut store, 1, "10.0.0.2", 5000), Err(OpenError::NoPort));
    assert_eq!(open(&mut store, 1, "2001:db8::2", 5000), Err(OpenError::NoPort));
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), PORTS as usize, "no port was given out twice");
}

#[test]
fn a_client_tuple_that_is_taken_gives_its_port_back() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    open(&mut store, 1, "2001:db8::2", 4000).unwrap();
    assert_eq!(open(&mut store, 1, "2001:db8::2", 4000), Err(OpenError::Taken));
    assert_eq!((store.len(), store.ports_in_use()), (1, 1));
}

#[test]
fn families_that_do_not_go_together_are_refused() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let (v4, v6) = (pool(), [LocalSource { id: LocalId(0), ip: ip("2001:db8:1::100") }]);
    let mut refused = |quad: Quad, place| {
        let open = Open {
            quad,
            place,
            state: TcpState::SynRecv,
            plain: false,
            server: ServerId(0),
            hop_in: HopId(0),
            hop_out: HopId(0),
            class: TimeoutClass(0),
        };
        let error = store.open(Tick(1), &open, |_| Translation::default());
        assert_eq!(error, Err(OpenError::Family), "{quad:?}");
    };
    let local = |addresses| Place::Local { addresses, first: 0 };
    let six = quad("2001:db8::2", 4000);
    refused(six, local(&v6));
    refused(six, Place::General);
    refused(Quad { virt: (ip("10.0.0.80"), 80), ..six }, local(&v4));
    let four = quad("10.0.0.2", 4000);
    refused(Quad { server: (ip("2001:db8:1::11"), 80), ..four }, local(&v4));
    assert_eq!((store.len(), store.ports_in_use()), (0, 0));
}

#[test]
fn the_next_session_of_a_port_knows_where_the_last_one_ended_whatever_its_family() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let pool = pool();
    let mut floors = BTreeMap::new();
    for round in 0..4 * PORTS {
        let client = if round % 3 == 0 { "2001:db8::2" } else { "10.0.0.2" };
        let open = Open {
            quad: quad(client, 4000),
            place: Place::Local { addresses: &pool, first: 0 },
            state: TcpState::SynRecv,
            plain: false,
            server: ServerId(7),
            hop_in: HopId(1),
            hop_out: HopId(2),
            class: TimeoutClass(0),
        };
        let mut before = None;
        let opened = store.open(Tick(1), &open, |reserved| {
            before = reserved.previous.map(|old| (old.server.ip(), old.next_seq));
            Translation::default()
        });
        let opened = opened.unwrap();
        let port = opened.quad.local.1;
        assert_eq!(before, floors.get(&port).map(|seq| (ip("10.1.0.11"), *seq)));
        let mut detail = store.detail(opened.id).unwrap();
        detail.server_ack = 1000 + round;
        store.set_detail(opened.id, &detail);
        store.close(opened.id).unwrap();
        floors.insert(port, 1000 + round);
    }
    assert_eq!(floors.len(), PORTS as usize);
}

/// INV-8 for sessions in lists and for those of the sweeper.
#[test]
fn nat64_sessions_expire_like_any_other_and_free_their_port() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let half = open(&mut store, 0, "2001:db8::2", 4000).unwrap();
    let full = open(&mut store, 0, "2001:db8::2", 4001).unwrap();
    let (inbound, reply) = (full.quad.inbound().unwrap(), full.quad.reply().unwrap());
    store.packet(find(&store, reply).unwrap(), &reply, Tick(0), DATA).unwrap();
    store.packet(find(&store, inbound).unwrap(), &inbound, Tick(0), DATA).unwrap();
    let mut ended = Vec::new();
    for second in 0..120u64 {
        let now = Time(second * 1_000_000_000).tick();
        let mut budget = 1000;
        while let Some(id) = store.next_expired(now, &mut budget) {
            ended.push((second, store.close(id).unwrap().id));
        }
    }
    assert_eq!(ended.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [half.id, full.id]);
    assert!((30..=34).contains(&ended[0].0) && (90..=94).contains(&ended[1].0), "{ended:?}");
    assert_eq!((store.len(), store.ports_in_use()), (0, 0));
}

proptest! {
    /// INV-5, INV-7 and INV-9: any order of opening and closing sessions of both kinds on one local address.
    #[test]
    fn sessions_of_both_kinds_share_ports_and_never_meet(
        steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0u16..12), 1..200),
    ) {
        let mut memory = memory();
        let mut store = store(&mut memory);
        let mut live: BTreeMap<(bool, u16), Opened> = BTreeMap::new();
        for (close, v6, port) in steps {
            if close {
                let Some(opened) = live.remove(&(v6, port)) else { continue };
                prop_assert_eq!(store.close(opened.id).map(|session| session.quad), Some(opened.quad));
                continue;
            }
            let sixes = live.keys().filter(|(v6, _)| *v6).count();
            let client = if v6 { "2001:db8::2" } else { "10.0.0.2" };
            let outcome = open(&mut store, 1, client, port);
            // A port is taken first, then a slot, then the keys are entered.
            let expected = if live.len() == PORTS as usize {
                Err(OpenError::NoPort)
            } else if v6 && sixes == GENERAL as usize {
                Err(OpenError::Full)
            } else if live.contains_key(&(v6, port)) {
                Err(OpenError::Taken)
            } else {
                Ok(())
            };
            prop_assert_eq!(outcome.map(|_| ()), expected);
            if let Ok(opened) = outcome {
                live.insert((v6, port), opened);
            }
            prop_assert_eq!(store.ports_in_use(), live.len() as u64);
            prop_assert_eq!(store.len() as usize, live.len());
            for opened in live.values() {
                for tuple in [opened.quad.inbound(), opened.quad.reply()].into_iter().flatten() {
                    let found = find(&store, tuple).and_then(|found| store.id_of(found));
                    prop_assert_eq!(found, Some(opened.id));
                }
            }
        }
    }
}
