//! Rules of the session store that random scripts reach seldom, one by one.

use core::time::Duration;
use lvs_core::addr::RealAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::{HopId, LocalId, ServerId, SessionId, TimeoutClass};
use lvs_core::key::KeyV4;
use lvs_core::plan::Whole;
use lvs_core::session::tcp::flags::ACK;
use lvs_core::session::{
    Cursor, Detail, HeapMemory, LocalSource, MAX_CLASSES, Open, OpenError, Opened, Place, Previous,
    Probe, Quad, Segment, SessionStore, StoreConfig, TableConfig, TcpState, Translation,
};
use lvs_core::siphash::SipHash13;
use lvs_core::time::{Tick, Time};
use lvs_core::timeouts::Timeouts;

const CONFIG: StoreConfig = StoreConfig {
    v4: TableConfig { local_addresses: 1, general: 900 },
    v6: TableConfig { local_addresses: 0, general: 900 },
    key: [1, 2],
    seed: 3,
};

fn plan() -> Whole {
    Whole::new(1025, 1028).unwrap()
}

fn memory() -> HeapMemory {
    HeapMemory::new(SessionStore::memory_for(&CONFIG, &plan()).unwrap())
}

fn store(memory: &mut HeapMemory) -> SessionStore<'_> {
    let mut store = SessionStore::new(CONFIG, plan(), memory.bytes()).unwrap();
    store.set_timeouts(&[Timeouts::LVS.ticks()]);
    store
}

const POOL: [LocalSource; 1] = [LocalSource {
    id: LocalId(0),
    ip: core::net::IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 0, 100)),
}];
const LOCAL: Place<'_> = Place::Local { addresses: &POOL, first: 0 };

fn request(client_port: u16, place: Place<'_>) -> Open<'_> {
    Open {
        quad: Quad {
            proto: L4Proto::Tcp,
            client: ([10, 0, 0, 2].into(), client_port),
            virt: ([10, 0, 0, 80].into(), 80),
            local: ([10, 0, 0, 2].into(), client_port),
            server: ([10, 1, 0, 11].into(), 8080),
        },
        place,
        state: TcpState::SynRecv,
        plain: false,
        server: ServerId(7),
        hop_in: HopId(1),
        hop_out: HopId(2),
        class: TimeoutClass(0),
    }
}

fn request_v6(client_port: u16) -> Open<'static> {
    let mut open = request(client_port, Place::General);
    let ip = |n| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n].into();
    open.quad.client.0 = ip(1);
    open.quad.local.0 = ip(1);
    open.quad.virt.0 = ip(2);
    open.quad.server.0 = ip(3);
    open
}

fn opened(store: &mut SessionStore<'_>, now: u32, open: &Open<'_>) -> Opened {
    store.open(Tick(now), open, |_| Translation::default()).unwrap()
}

fn packet(store: &mut SessionStore<'_>, opened: &Opened, now: u32, tcp_flags: u8) {
    let tuple = opened.quad.inbound().unwrap();
    let found = store.lookup_one(&Probe { tuple, local: None }).unwrap();
    let segment = Segment { tcp_flags: Some(tcp_flags), bytes: 40 };
    store.packet(found, &tuple, Tick(now), segment).unwrap();
}

fn drain(store: &mut SessionStore<'_>, now: u32) -> Vec<SessionId> {
    let mut budget = u32::MAX;
    let mut ended = Vec::new();
    while let Some(id) = store.next_expired(Tick(now), &mut budget) {
        store.close(id).unwrap();
        ended.push(id);
    }
    ended
}

#[test]
fn a_session_of_an_unknown_class_lives_as_long_as_one_of_class_0() {
    for (class, state) in [1, 63, 64, 255]
        .into_iter()
        .flat_map(|class| [(class, TcpState::TimeWait), (class, TcpState::Established)])
    {
        let mut memory = memory();
        let mut store = store(&mut memory);
        let mut open = request(4000, LOCAL);
        (open.class, open.state) = (TimeoutClass(class), state);
        let first = opened(&mut store, 100, &open);
        let timeout = Tick::covering(Timeouts::LVS.tcp(state));
        assert_eq!(drain(&mut store, 100 + timeout - 1), []);
        assert_eq!(drain(&mut store, 100 + timeout), [first.id], "{state:?} of class {class}");
    }
}

/// INV-10.
#[test]
fn a_refused_open_leaves_the_slots_last_session_known() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    // One of the four ports has held a session, and is the next to be given out.
    let first = opened(&mut store, 1, &request(4000, LOCAL));
    store.set_detail(first.id, &Detail { server_ack: 77_000, ..Detail::default() });
    store.close(first.id).unwrap();
    let held: Vec<_> = (1..4).map(|n| opened(&mut store, 1, &request(n, LOCAL))).collect();
    let mut taken = request(1, LOCAL);
    taken.quad.server = ([10, 1, 0, 99].into(), 9999);
    let mut asked = 0;
    let refused = store.open(Tick(1), &taken, |_| {
        asked += 1;
        Translation::default()
    });
    assert_eq!((refused, asked), (Err(OpenError::Taken), 0), "nothing to translate");
    store.close(held[0].id).unwrap();
    let mut seen = None;
    let again = store.open(Tick(1), &request(5000, LOCAL), |reserved| {
        seen = reserved.previous;
        Translation::default()
    });
    assert_eq!(again.unwrap().quad.local, first.quad.local);
    let server = RealAddr::new(first.quad.server.0, first.quad.server.1);
    assert_eq!(seen, Some(Previous { server, next_seq: 77_000 }));
}

/// INV-8.
#[test]
fn a_long_time_out_that_becomes_short_is_at_most_four_seconds_late() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    // 40 established sessions; the newest packet of each is two ticks older than of the one before.
    let ids: Vec<_> = (0..40u16)
        .map(|n| {
            let open = opened(&mut store, 1000, &request(4000 + n, Place::General));
            packet(&mut store, &open, 1000 + 2 * u32::from(40 - n), ACK);
            open.id
        })
        .collect();
    assert_eq!(drain(&mut store, 1080), []);
    let nine = Timeouts::LVS.with_tcp(TcpState::Established, Duration::from_secs(9));
    store.set_timeouts(&[nine.ticks()]);
    let timeout = Tick::covering(Duration::from_secs(9));
    let four_seconds = 60 - 2;
    let mut left = ids.len();
    for now in 1081..1300 {
        for id in drain(&mut store, now) {
            left -= 1;
            let place = ids.iter().position(|have| *have == id).unwrap();
            let due = 1000 + 2 * (40 - u32::try_from(place).unwrap()) + timeout;
            assert!((due..due + four_seconds).contains(&now), "due at {due}, ended at {now}");
        }
    }
    assert_eq!(left, 0);
}

#[test]
fn a_small_budget_starves_no_list_and_no_family() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let classes: Vec<_> = (0..MAX_CLASSES as u64)
        .map(|n| Timeouts::LVS.with_udp(Duration::from_secs(60 + n)).ticks())
        .collect();
    store.set_timeouts(&classes);
    let mut expected = 0;
    for class in 0..MAX_CLASSES as u8 {
        // Short time-outs and long ones.
        for (port, state, family6) in [
            (1000, TcpState::SynSent, false),
            (2000, TcpState::TimeWait, false),
            (3000, TcpState::Established, false),
            (1000, TcpState::TimeWait, true),
            (3000, TcpState::Established, true),
        ] {
            let port = port + u16::from(class);
            let mut open = if family6 { request_v6(port) } else { request(port, Place::General) };
            (open.state, open.class) = (state, TimeoutClass(class));
            opened(&mut store, 100, &open);
            expected += 1;
        }
    }
    // Far beyond all time-outs; each call may look at three places, and little work is owed at once.
    for call in 0..20_000u32 {
        let mut budget = 3;
        let now = 100_000 + call / 8;
        while let Some(id) = store.next_expired(Tick(now), &mut budget) {
            store.close(id).unwrap();
            expected -= 1;
        }
    }
    assert_eq!(expected, 0, "sessions that never end");
}

#[test]
fn lists_that_stay_busy_do_not_keep_others_from_expiring() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    store.set_timeouts(&[Timeouts::LVS.ticks(); MAX_CLASSES]);
    let busy: Vec<_> = (0..20u8)
        .map(|class| {
            let mut open = request(1000 + u16::from(class), Place::General);
            (open.class, open.state) = (TimeoutClass(class), TcpState::TimeWait);
            opened(&mut store, 100, &open)
        })
        .collect();
    let mut short = request(9000, Place::General);
    (short.class, short.state) = (TimeoutClass(60), TcpState::TimeWait);
    let mut long = request(9001, Place::General);
    long.state = TcpState::Established;
    let mut ends = vec![
        opened(&mut store, 100, &short).id,
        opened(&mut store, 100, &long).id,
        opened(&mut store, 100, &request_v6(9000)).id,
    ];
    for now in 101..30_000 {
        if now % 16 == 0 {
            // An acknowledgement that comes again keeps the session in its list.
            busy.iter().for_each(|open| packet(&mut store, open, now, ACK));
        }
        let mut budget = 8;
        while let Some(id) = store.next_expired(Tick(now), &mut budget) {
            assert!(ends.contains(&id));
            ends.retain(|have| *have != id);
            store.close(id).unwrap();
        }
    }
    assert_eq!(ends, []);
}

/// INV-8.
#[test]
fn a_clock_that_steps_back_ends_no_session() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    opened(&mut store, 1000, &request(4000, LOCAL));
    let long = opened(&mut store, 1000, &request(4001, LOCAL));
    packet(&mut store, &long, 1000, ACK);
    assert_eq!(drain(&mut store, 999), []);
    assert_eq!(drain(&mut store, 1), []);
}

#[test]
fn a_scan_of_nothing_at_a_time_still_comes_to_its_end() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let open = opened(&mut store, 1, &request(4000, LOCAL));
    let (mut cursor, mut seen, mut steps) = (Some(Cursor::default()), Vec::new(), 0);
    while let Some(at) = cursor {
        cursor = store.scan(at, 0, |session| seen.push(session.id));
        steps += 1;
        assert!(steps < 10_000, "no progress");
    }
    assert_eq!(seen, [open.id]);
}

#[test]
fn an_open_of_mixed_families_is_refused_whichever_address_differs() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let other = [0xfdu8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].into();
    let mut refuse = |change: &dyn Fn(&mut Quad), place| {
        let mut open = request(4000, place);
        change(&mut open.quad);
        let result = store.open(Tick(1), &open, |_| Translation::default());
        assert_eq!(result, Err(OpenError::Family));
    };
    refuse(&|quad| quad.client.0 = other, Place::General);
    refuse(&|quad| quad.virt.0 = other, Place::General);
    refuse(&|quad| quad.local.0 = other, Place::General);
    refuse(&|quad| quad.server.0 = other, LOCAL);
    let pool = [POOL[0], LocalSource { id: LocalId(0), ip: other }];
    refuse(&|_| (), Place::Local { addresses: &pool, first: 0 });
}

#[test]
fn a_pool_that_the_store_has_no_slots_for_is_empty() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let pool =
        [LocalSource { id: LocalId(1), ..POOL[0] }, LocalSource { id: LocalId(900), ..POOL[0] }];
    for first in [0, 1, 2, usize::MAX] {
        for addresses in [&pool[..], &[]] {
            let open = request(4000, Place::Local { addresses, first });
            let result = store.open(Tick(1), &open, |_| Translation::default());
            assert_eq!(result, Err(OpenError::NoPort));
        }
    }
    assert_eq!((store.len(), store.capacity()), (0, 4 + 900 + 900));
}

#[test]
fn the_next_deadline_is_the_next_tick_while_anything_lives() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    let now = Time(10 * (1 << Tick::SHIFT) + 5);
    assert_eq!(store.next_deadline(now), None);
    let open = opened(&mut store, 10, &request(4000, LOCAL));
    assert_eq!(store.next_deadline(now), Some(Time(11 << Tick::SHIFT)));
    store.close(open.id).unwrap();
    assert_eq!(store.next_deadline(now), None);
}

/// INV-9.
#[test]
fn sessions_that_have_ended_leave_no_room_taken() {
    let mut memory = memory();
    let mut store = store(&mut memory);
    // Many times what the directory could hold, were anything forgotten in it.
    for n in 0..60_000u16 {
        let place = if n % 2 == 0 { Place::General } else { LOCAL };
        let first = opened(&mut store, 1, &request(n, place));
        let second = opened(&mut store, 1, &request_v6(n));
        store.close(first.id).unwrap();
        store.close(second.id).unwrap();
    }
}

/// A store so small that a directory of 17 homes can be filled around one of them, and the home of a
/// tuple in it.
struct Crowded {
    hash: SipHash13,
}

impl Crowded {
    const CONFIG: StoreConfig = StoreConfig {
        v4: TableConfig { local_addresses: 0, general: 44 },
        v6: TableConfig { local_addresses: 0, general: 0 },
        key: [1, 2],
        seed: 3,
    };

    fn home(&self, tuple: &WireTuple) -> u64 {
        let WireTuple::V4(t) = tuple else { panic!("IPv4 only") };
        let bytes = [&KeyV4::from(t).0[..], &[6]].concat();
        ((self.hash.bytes(&bytes) >> 32) * 17) >> 32
    }

    /// NAT sessions whose keys have these homes.
    fn requests(self, inbound: u64, reply: u64) -> impl Iterator<Item = Open<'static>> {
        let all = (0..200u8).flat_map(|host| (1..60_000u16).map(move |port| (host, port)));
        all.filter_map(move |(host, port)| {
            let mut open = request(port, Place::General);
            open.quad.client.0 = [10, 7, 0, host].into();
            open.quad.local.0 = open.quad.client.0;
            let homes = (self.home(&open.quad.inbound()?), self.home(&open.quad.reply()?));
            (homes == (inbound, reply)).then_some(open)
        })
    }
}

/// INV-5, INV-10.
#[test]
fn an_open_that_finds_no_place_for_its_second_key_takes_back_the_first() {
    let plan = plan();
    let needed = SessionStore::memory_for(&Crowded::CONFIG, &plan).unwrap();
    let mut memory = HeapMemory::new(needed);
    let mut store = SessionStore::new(Crowded::CONFIG, plan, memory.bytes()).unwrap();
    let crowd = || Crowded { hash: SipHash13::new(&Crowded::CONFIG.key) };
    // 40 sessions with both keys at home in bucket 14 fill all eight buckets that it may use.
    for open in crowd().requests(14, 14).take(40) {
        opened(&mut store, 1, &open);
    }
    // The first key has a place, the second has none: more often than there are places for the first.
    for open in crowd().requests(0, 14).take(200) {
        let refused = store.open(Tick(1), &open, |_| Translation::default());
        assert_eq!(refused, Err(OpenError::Full));
        let tuple = open.quad.inbound().unwrap();
        assert_eq!(store.lookup_one(&Probe { tuple, local: None }), None);
    }
    for open in crowd().requests(0, 0).take(4) {
        opened(&mut store, 1, &open);
    }
    assert_eq!(store.len(), 44);
}
