//! Opening a session with its first packet, beside doing the same one step after the other.

use core::net::IpAddr;
use lvs_core::flow::L4Proto;
use lvs_core::id::{HopId, LocalId, ServerId, TimeoutClass};
use lvs_core::plan::Whole;
use lvs_core::session::tcp::flags::SYN;
use lvs_core::session::{
    First, HeapMemory, LocalSource, Missed, Open, OpenError, Place, Probe, Quad, Segment,
    SessionStore, StoreConfig, TableConfig, TcpState, Translation, pending,
};
use lvs_core::time::Tick;

const NOW: Tick = Tick(77);
const LOCAL: LocalSource = LocalSource { id: LocalId(0), ip: ip(100) };
const SEGMENT: Segment = Segment { tcp_flags: Some(SYN), bytes: 44 };

const fn ip(last: u8) -> IpAddr {
    IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, last))
}

fn config() -> StoreConfig {
    let v4 = TableConfig { local_addresses: 1, general: 8 };
    StoreConfig { v4, v6: TableConfig::default(), key: [1, 2], seed: 3 }
}

fn open(port: u16, place: Place<'_>) -> Open<'_> {
    let (client, server) = ((ip(1), port), (ip(3), 8080));
    Open {
        quad: Quad { proto: L4Proto::Tcp, client, virt: (ip(2), 80), local: client, server },
        place,
        state: TcpState::SynRecv,
        plain: false,
        server: ServerId(5),
        hop_in: HopId(6),
        hop_out: HopId(7),
        class: TimeoutClass(0),
    }
}

fn with_store(test: impl FnOnce(&mut SessionStore<'_>)) {
    let plan = Whole::new(5000, 5007).unwrap();
    let bytes = SessionStore::memory_for(&config(), &plan).unwrap();
    let mut memory = HeapMemory::new(bytes);
    test(&mut SessionStore::new(config(), plan, memory.bytes()).unwrap());
}

#[test]
fn a_session_opened_with_its_first_packet_is_the_one_that_takes_it_later() {
    let translation = Translation { l4_delta: 1, ip_delta: 2, seq_delta: 3, ack_delta: 4 };
    for place in [Place::General, Place::Local { addresses: &[LOCAL], first: 0 }] {
        let open = open(1000, place);
        let tuple = open.quad.inbound().unwrap();
        let probe = Probe { tuple, local: None };
        let mut seen = Vec::new();
        with_store(|store| {
            let missed = store.lookup_or_missed(&probe, None).unwrap_err();
            assert_ne!(missed, Missed::default());
            let first = First {
                missed,
                segment: Some(SEGMENT),
                client_isn: 11,
                client_mss: 1460,
                pending: pending::TOA,
                template: Some(0),
            };
            let opened = store.open_with(NOW, &open, &first, |_| translation).unwrap();
            assert!(store.lookup_or_missed(&probe, None).is_ok());
            seen.push((store.session(opened.id), store.detail(opened.id)));
        });
        with_store(|store| {
            let opened = store.open(NOW, &open, |_| translation).unwrap();
            let mut detail = store.detail(opened.id).unwrap();
            (detail.client_isn, detail.client_mss, detail.pending) = (11, 1460, pending::TOA);
            store.set_detail(opened.id, &detail);
            store.set_template(opened.id, Some(0));
            let candidate = store.lookup_one(&probe).unwrap();
            store.packet(candidate, &tuple, NOW, SEGMENT).unwrap();
            seen.push((store.session(opened.id), store.detail(opened.id)));
        });
        assert!(seen[0].0.is_some_and(|session| session.inbound.packets == 1));
        assert_eq!(seen[0], seen[1]);
    }
}

#[test]
fn without_a_look_up_a_tuple_that_is_there_is_still_refused() {
    with_store(|store| {
        let open = open(1000, Place::Local { addresses: &[LOCAL], first: 0 });
        let again = |store: &mut SessionStore<'_>| {
            store.open_with(NOW, &open, &First::default(), |_| Translation::default())
        };
        assert!(again(store).is_ok());
        assert_eq!(again(store), Err(OpenError::Taken));
        assert_eq!(store.len(), 1);
    });
}
