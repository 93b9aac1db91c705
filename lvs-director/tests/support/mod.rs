//! A director over an in-memory lane, between the standard addresses of these tests.
//!
//! ```text
//!   client 10.0.0.2, fd00::2 ── port 0 │ director │ port 1 ── servers 10.1.0.11, .12, fd01::11, ::12
//!   service 10.0.0.80, fd00::80          local 10.1.0.100, .101, fd01::100
//! ```
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod bench;
pub mod talk;

use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::{RealAddr, VirtualAddr};
use lvs_core::counters::Counters;
use lvs_core::flow::L4Proto;
use lvs_core::id::WorkerId;
use lvs_core::plan::Whole;
use lvs_core::sched::{SchedulerArgs, Weight};
use lvs_core::service::{
    ClientAddrMode, Forwarding, ServiceFlags, ServiceKey, TimestampPolicy, ToaOptions,
};
use lvs_core::session::{HeapMemory, SessionStore, StoreConfig, TableConfig};
use lvs_core::shared::{Shared, SharedConfig};
use lvs_core::snapshot::{Interface, PoolSpec, ServerSpec, ServiceSpec, SnapshotSpec};
use lvs_core::timeouts::Timeouts;
use lvs_director::{Director, DirectorConfig, Generation};
use std::sync::Arc;

pub const ARGS: SchedulerArgs = SchedulerArgs { worker: WorkerId(0), workers: 1 };

pub fn service(
    address: &str,
    proto: L4Proto,
    forwarding: Forwarding,
    servers: &[&str],
) -> ServiceSpec {
    let toa = ClientAddrMode::Toa(ToaOptions::default());
    ServiceSpec {
        key: ServiceKey::new(proto, VirtualAddr(address.parse().unwrap())),
        forwarding,
        scheduler: &lvs_sched::rr::DEF,
        pool: (forwarding == Forwarding::FullNat).then_some(0),
        client_addr: if forwarding == Forwarding::FullNat { toa } else { ClientAddrMode::None },
        timestamps: TimestampPolicy::Strip,
        timeouts: Timeouts::LVS,
        persistence: None,
        flags: ServiceFlags::default(),
        servers: servers
            .iter()
            .map(|addr| {
                let mut addr: SocketAddr = addr.parse().unwrap();
                if forwarding.is_one_way() {
                    addr.set_port(address.parse::<SocketAddr>().unwrap().port());
                }
                ServerSpec::new(RealAddr(addr), Weight(1))
            })
            .collect(),
    }
}

pub fn spec(forwarding: Forwarding) -> SnapshotSpec {
    let v4 = ["10.1.0.11:8080", "10.1.0.12:8080"];
    let v6 = ["[fd01::11]:8080", "[fd01::12]:8080"];
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    SnapshotSpec {
        interfaces: vec![
            Interface::new(0, &["10.0.0.1/24", "fd00::1/64"]).unwrap(),
            Interface::new(1, &["10.1.0.1/24", "fd01::1/64"]).unwrap(),
        ],
        pools: vec![PoolSpec {
            addresses: vec![ip("10.1.0.100"), ip("10.1.0.101"), ip("fd01::100")],
        }],
        services: vec![
            service("10.0.0.80:80", L4Proto::Tcp, forwarding, &v4),
            service("[fd00::80]:80", L4Proto::Tcp, forwarding, &v6),
            service("10.0.0.80:53", L4Proto::Udp, forwarding, &["10.1.0.11:53", "10.1.0.12:53"]),
        ],
        ..SnapshotSpec::default()
    }
}

/// The same with IPv4 servers behind the IPv6 services (NAT64), TCP and UDP.
pub fn nat64() -> SnapshotSpec {
    let full = Forwarding::FullNat;
    let mut spec = spec(full);
    let (tcp, udp) = (["10.1.0.11:8080", "10.1.0.12:8080"], ["10.1.0.11:53", "10.1.0.12:53"]);
    spec.services[1] = service("[fd00::80]:80", L4Proto::Tcp, full, &tcp);
    spec.services.push(service("[fd00::80]:53", L4Proto::Udp, full, &udp));
    spec
}

/// The services of [`spec`] for SCTP, IPv4 and IPv6.
pub fn sctp(forwarding: Forwarding) -> SnapshotSpec {
    let mut spec = spec(forwarding);
    spec.services.truncate(2);
    for service in &mut spec.services {
        (service.key.proto, service.client_addr) = (L4Proto::Sctp, ClientAddrMode::None);
    }
    spec
}

pub fn store_config() -> (StoreConfig, Whole) {
    let config = StoreConfig {
        v4: TableConfig { local_addresses: 2, general: 1000 },
        v6: TableConfig { local_addresses: 1, general: 1000 },
        key: [1, 2],
        seed: 3,
    };
    (config, Whole::new(1025, 3024).unwrap())
}

pub fn memory() -> HeapMemory {
    let (config, plan) = store_config();
    HeapMemory::new(SessionStore::memory_for(&config, &plan).unwrap())
}

pub fn director(spec: SnapshotSpec, memory: &mut HeapMemory) -> Director<'_> {
    let shared = Arc::new(Shared::new(&SharedConfig::default()));
    sharing(spec, memory, shared, ARGS)
}

/// One of several workers.
pub fn sharing(
    spec: SnapshotSpec,
    memory: &mut HeapMemory,
    shared: Arc<Shared>,
    args: SchedulerArgs,
) -> Director<'_> {
    let (config, plan) = store_config();
    let store = SessionStore::new(config, plan, memory.bytes()).unwrap();
    let generation = Generation::new(Arc::new(spec.build(None).unwrap()), args);
    // Full bursts stay under way however few the sessions are.
    let config = DirectorConfig { isn_key: [5, 6], in_flight_from: 0, ..DirectorConfig::default() };
    Director::sharing(config, store, generation, shared)
}

/// INV-2. To be called when no packet waits for a neighbour any more: one that waited in vain has a
/// drop besides its verdict.
pub fn every_packet_is_counted_once(counters: &Counters) {
    let verdicts = counters.forwarded
        + counters.answered
        + counters.released
        + counters.learned
        + counters.waiting
        + counters.handed_over
        + counters.dropped_total();
    let in_vain = counters.waiting - counters.resumed;
    assert_eq!(counters.received.packets, verdicts - in_vain, "{counters:#?}");
}

/// INV-16. ARP and neighbour discovery speak for addresses of the director only, and every frame carries
/// its Ethernet address.
pub fn speaks_for_itself(frame: &[u8]) {
    let ip = |bytes: &[u8]| match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()),
    };
    let own = |ip: IpAddr| OWN.iter().any(|own| own.parse() == Ok(ip));
    match [frame[12], frame[13]] {
        [8, 6] => assert!(own(ip(&frame[28..32])), "ARP for another: {frame:02x?}"),
        [0x86, 0xdd] if frame[20] == 58 && frame[54] == 135 => {
            assert!(own(ip(&frame[22..38])), "a question for another: {frame:02x?}");
        }
        [0x86, 0xdd] if frame[20] == 58 && frame[54] == 136 => {
            assert!(own(ip(&frame[62..78])), "an answer for another: {frame:02x?}");
        }
        _ => {}
    }
    assert_eq!(frame[6..12], bench::MAC.0, "another's Ethernet address");
}

/// Every address of [`spec`].
const OWN: [&str; 9] = [
    "10.0.0.1",
    "fd00::1",
    "10.1.0.1",
    "fd01::1",
    "10.1.0.100",
    "10.1.0.101",
    "fd01::100",
    "10.0.0.80",
    "fd00::80",
];
