//! The small director of the target `director`: few ports, slots, next hops and waiting places, so that
//! every limit is within reach of a short script.

use core::net::IpAddr;
use lvs_core::addr::{MacAddr, RealAddr, VirtualAddr};
use lvs_core::flow::L4Proto;
use lvs_core::id::WorkerId;
use lvs_core::io::mem::{MemLane, MemPort};
use lvs_core::plan::Whole;
use lvs_core::sched::{SchedulerArgs, Weight};
use lvs_core::service::{
    ClientAddrMode, Forwarding, NoToaRoom, ServiceFlags, ServiceKey, TimestampPolicy, ToaOptions,
};
use lvs_core::session::{HeapMemory, SessionStore, StoreConfig, TableConfig};
use lvs_core::snapshot::{
    Interface, PoolSpec, ServerSpec, ServiceSpec, SnapshotSpec, StaticNeighbour,
};
use lvs_core::timeouts::Timeouts;
use lvs_director::{Director, DirectorConfig, Generation};
use std::sync::Arc;

/// What a script's first byte chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings(pub u8);

impl Settings {
    /// NAT instead of FullNAT.
    pub const NAT: u8 = 1;
    /// Ports that can do nothing by themselves.
    pub const PLAIN_PORTS: u8 = 2;
    /// A segment without room for the client's address is dropped.
    pub const TOA_OR_DROP: u8 = 4;
    /// The servers' side takes 600 bytes only.
    pub const SMALL_MTU: u8 = 8;
    /// Nobody's Ethernet address is configured.
    pub const ASK: u8 = 16;
    /// Timestamps stay.
    pub const TIMESTAMPS: u8 = 32;

    /// Most packets of a burst where bursts are compared with single packets.
    #[must_use]
    pub const fn burst(self) -> usize {
        match self.0 >> 6 {
            0 => 64,
            1 => 1,
            2 => 3,
            _ => 17,
        }
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// How packets reach servers.
    #[must_use]
    pub fn forwarding(self) -> Forwarding {
        if self.has(Self::NAT) { Forwarding::Nat } else { Forwarding::FullNat }
    }
}

/// Hosts on either side.
pub const HOSTS: u8 = 4;

/// The director's own address on a port.
#[must_use]
pub const fn port_mac(port: u16) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, port as u8 + 1])
}

/// Ethernet address of a host; the ones on the servers' side start at [`HOSTS`].
#[must_use]
pub const fn host_mac(host: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 9, host])
}

/// IP address of a host.
#[must_use]
pub fn host_ip(host: u8, v6: bool) -> IpAddr {
    let (side, last) = (host / HOSTS % 2, 11 + host % HOSTS);
    if v6 {
        let net = 0xfd00 + u16::from(side);
        [net, 0, 0, 0, 0, 0, 0, u16::from(last)].into()
    } else {
        [10, side, 0, last].into()
    }
}

/// Where the service of a family and protocol listens.
#[must_use]
pub fn service(proto: L4Proto, v6: bool) -> (IpAddr, u16) {
    let port = if proto == L4Proto::Tcp { 80 } else { 53 };
    let ip = if v6 { [0xfd00, 0, 0, 0, 0, 0, 0, 0x80].into() } else { [10, 0, 0, 80].into() };
    (ip, port)
}

fn service_spec(settings: Settings, proto: L4Proto, v6: bool) -> ServiceSpec {
    let forwarding = settings.forwarding();
    let full = forwarding == Forwarding::FullNat;
    let no_room = match settings.has(Settings::TOA_OR_DROP) {
        true => NoToaRoom::Drop,
        false => NoToaRoom::SeparateAck,
    };
    let toa = ClientAddrMode::Toa(ToaOptions { no_room, ..ToaOptions::default() });
    let (ip, port) = service(proto, v6);
    ServiceSpec {
        key: ServiceKey::new(proto, VirtualAddr((ip, port).into())),
        forwarding,
        scheduler: &lvs_sched::rr::DEF,
        pool: full.then_some(0),
        client_addr: if full { toa } else { ClientAddrMode::None },
        timestamps: match settings.has(Settings::TIMESTAMPS) {
            true => TimestampPolicy::Keep,
            false => TimestampPolicy::Strip,
        },
        timeouts: Timeouts::LVS,
        persistence: None,
        flags: ServiceFlags::default(),
        servers: (HOSTS..HOSTS + 2)
            .map(|host| ServerSpec::new(RealAddr::new(host_ip(host, v6), 8000 + port), Weight(1)))
            .collect(),
    }
}

fn snapshot(settings: Settings) -> SnapshotSpec {
    let mut interfaces: Vec<Interface> =
        [["10.0.0.1/24", "fd00::1/64"], ["10.1.0.1/24", "fd01::1/64"]]
            .iter()
            .zip(0..)
            .filter_map(|(addresses, port)| Interface::new(port, addresses))
            .collect();
    if settings.has(Settings::SMALL_MTU) {
        interfaces[1].mtu = Some(600);
    }
    // Host 3 of either side has no configured address in any case.
    let known = (0..2 * HOSTS).filter(|host| host % HOSTS != 3 && !settings.has(Settings::ASK));
    SnapshotSpec {
        interfaces,
        neighbours: known
            .flat_map(|host| [false, true].map(|v6| (host, v6)))
            .map(|(host, v6)| StaticNeighbour { ip: host_ip(host, v6), mac: host_mac(host) })
            .collect(),
        pools: vec![PoolSpec {
            addresses: ["10.1.0.100", "fd01::100"]
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
        }],
        services: [(L4Proto::Tcp, false), (L4Proto::Tcp, true), (L4Proto::Udp, false)]
            .map(|(proto, v6)| service_spec(settings, proto, v6))
            .to_vec(),
        ..SnapshotSpec::default()
    }
}

fn sizes() -> (StoreConfig, Whole) {
    let table = TableConfig { local_addresses: 1, general: 6 };
    let config = StoreConfig { v4: table, v6: table, key: [1, 2], seed: 3 };
    (config, Whole::new(1025, 1030).expect("a range"))
}

/// Memory for its sessions.
#[must_use]
pub fn memory() -> HeapMemory {
    let (config, plan) = sizes();
    HeapMemory::new(SessionStore::memory_for(&config, &plan).expect("small enough"))
}

/// The director.
#[must_use]
pub fn director(settings: Settings, memory: &mut HeapMemory) -> Director<'_> {
    let (config, plan) = sizes();
    let store = SessionStore::new(config, plan, memory.bytes()).expect("the right size");
    let snapshot = snapshot(settings).build(None).expect("a sound configuration");
    let args = SchedulerArgs { worker: WorkerId(0), workers: 1 };
    let sizes =
        DirectorConfig { hops: 16, waiting: 3, isn_key: [5, 6], ..DirectorConfig::default() };
    Director::new(sizes, store, Generation::new(Arc::new(snapshot), args))
}

/// Its two ports.
#[must_use]
pub fn lane(settings: Settings) -> MemLane {
    let make = match settings.has(Settings::PLAIN_PORTS) {
        true => MemPort::plain,
        false => MemPort::new,
    };
    let ports = [0, 1].map(|port| {
        let mut port = make(port_mac(port));
        (port.rx_queue, port.tx_queue) = (8, 64);
        // Tags come beside packets, so they may leave like that.
        port.caps.tx_vlan = true;
        port
    });
    MemLane::with_pool(ports, 64)
}
