//! The small director of the target `director`: few ports, slots, next hops and waiting places, so that
//! every limit is within reach of a short script.

use core::net::IpAddr;
use lvs_core::addr::{Family, MacAddr, Prefix, RealAddr, VirtualAddr};
use lvs_core::flow::L4Proto;
use lvs_core::id::WorkerId;
use lvs_core::io::mem::{MemLane, MemPort};
use lvs_core::persistence::Persistence;
use lvs_core::plan::Whole;
use lvs_core::sched::{SchedulerArgs, Weight};
use lvs_core::service::{
    ClientAddrMode, Encapsulation, Forwarding, NoToaRoom, ProxyOptions, ServiceFlags, ServiceKey,
    TimestampPolicy, ToaOptions,
};
use lvs_core::session::{HeapMemory, SessionStore, StoreConfig, TableConfig};
use lvs_core::snapshot::{
    Interface, MarkRule, PoolSpec, ServerSpec, ServiceSpec, SnapshotSpec, StaticNeighbour,
};
use lvs_core::timeouts::Timeouts;
use lvs_director::{Director, DirectorConfig, Generation};
use std::sync::Arc;

/// What a script's first two bytes choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings(pub u8, pub u8);

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

    /// The second byte, its low three bits: what the first one says, with or without the PROXY protocol, DR, and
    /// tunnels of each kind.
    pub const PROXY: u8 = 1;
    /// Direct routing.
    pub const DR: u8 = 2;
    /// IP in IP.
    pub const IPIP: u8 = 3;
    /// GRE, without and with a checksum.
    pub const GRE: u8 = 4;
    /// GRE with a checksum.
    pub const GRE_CHECKSUM: u8 = 5;
    /// GUE.
    pub const GUE: u8 = 6;
    /// GUE with a checksum.
    pub const GUE_CHECKSUM: u8 = 7;
    /// The servers answer echo requests.
    pub const ECHO: u8 = 8;
    /// Clients stay with their server.
    pub const PERSISTENT: u8 = 16;
    /// Each datagram is scheduled for itself, where that goes.
    pub const ONE_PACKET: u8 = 32;
    /// The ends of tunnels are of the other IP version.
    pub const ACROSS: u8 = 64;
    /// All ports, by address for TCP, and by a mark for the rest.
    pub const ALL_PORTS: u8 = 128;

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

    fn wants(self, bit: u8) -> bool {
        self.1 & bit != 0
    }

    /// How packets reach servers.
    #[must_use]
    pub fn forwarding(self) -> Forwarding {
        match self.1 & 7 {
            Self::DR => Forwarding::Dr,
            Self::IPIP.. => Forwarding::Tun,
            _ if self.has(Self::NAT) => Forwarding::Nat,
            _ => Forwarding::FullNat,
        }
    }

    /// What packets travel in.
    #[must_use]
    pub const fn tunnel(self) -> Option<Encapsulation> {
        match self.1 & 7 {
            Self::IPIP => Some(Encapsulation::IpIp),
            kind @ (Self::GRE | Self::GRE_CHECKSUM) => {
                Some(Encapsulation::Gre { checksum: kind == Self::GRE_CHECKSUM })
            }
            kind @ (Self::GUE | Self::GUE_CHECKSUM) => {
                Some(Encapsulation::Gue { dport: 6080, checksum: kind == Self::GUE_CHECKSUM })
            }
            _ => None,
        }
    }

    fn client_addr(self) -> ClientAddrMode {
        if self.1 & 7 == Self::PROXY {
            return ClientAddrMode::Proxy(ProxyOptions::default());
        }
        let no_room = match self.has(Self::TOA_OR_DROP) {
            true => NoToaRoom::Drop,
            false => NoToaRoom::SeparateAck,
        };
        match self.forwarding() {
            Forwarding::FullNat => {
                ClientAddrMode::Toa(ToaOptions { no_room, ..ToaOptions::default() })
            }
            _ => ClientAddrMode::None,
        }
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
    let port = match proto {
        L4Proto::Tcp => 80,
        L4Proto::Udp => 53,
        L4Proto::Icmp | L4Proto::Sctp => 0,
    };
    let ip = if v6 { [0xfd00, 0, 0, 0, 0, 0, 0, 0x80].into() } else { [10, 0, 0, 80].into() };
    (ip, port)
}

fn service_spec(settings: Settings, proto: L4Proto, v6: bool) -> ServiceSpec {
    let forwarding = settings.forwarding();
    let full = forwarding == Forwarding::FullNat;
    let (ip, port) = service(proto, v6);
    let all = settings.wants(Settings::ALL_PORTS) && proto == L4Proto::Tcp;
    let port = if all { 0 } else { port };
    let ours = match (proto, port) {
        (L4Proto::Icmp, _) | (_, 0) => 0,
        _ if forwarding.is_one_way() => port,
        _ => 8000 + port,
    };
    let across = v6 ^ (settings.wants(Settings::ACROSS) && settings.tunnel().is_some());
    let one_packet = settings.wants(Settings::ONE_PACKET) && proto == L4Proto::Udp && !full;
    let server = |host| ServerSpec {
        tunnel: settings.tunnel().unwrap_or_default(),
        ..ServerSpec::new(RealAddr::new(host_ip(host, across), ours), Weight(1))
    };
    ServiceSpec {
        key: ServiceKey::new(proto, VirtualAddr((ip, port).into())),
        forwarding,
        scheduler: &lvs_sched::rr::DEF,
        pool: full.then_some(0),
        client_addr: settings.client_addr(),
        timestamps: match settings.has(Settings::TIMESTAMPS) {
            true => TimestampPolicy::Keep,
            false => TimestampPolicy::Strip,
        },
        timeouts: Timeouts::LVS,
        persistence: settings.wants(Settings::PERSISTENT).then(Persistence::default),
        flags: ServiceFlags { one_packet, ..ServiceFlags::default() },
        servers: (HOSTS..HOSTS + 2).map(server).collect(),
    }
}

fn services(settings: Settings) -> Vec<ServiceSpec> {
    let mut all = [(L4Proto::Tcp, false), (L4Proto::Tcp, true), (L4Proto::Udp, false)]
        .map(|(proto, v6)| service_spec(settings, proto, v6))
        .to_vec();
    if settings.wants(Settings::ECHO) {
        all.extend([false, true].map(|v6| service_spec(settings, L4Proto::Icmp, v6)));
    }
    if settings.wants(Settings::ALL_PORTS) {
        all.push(ServiceSpec {
            key: ServiceKey::marked(7, Family::V4),
            flags: ServiceFlags::default(),
            ..service_spec(settings, L4Proto::Icmp, false)
        });
    }
    all
}

/// Everything to the virtual address of IPv4 that is no TCP, echo where the servers answer it.
fn marks(settings: Settings) -> Vec<MarkRule> {
    let to = Prefix::new(service(L4Proto::Udp, false).0, 32);
    let rule = |proto| MarkRule { dst: to, proto: Some(proto), ..MarkRule::all(7) };
    let echo = settings.wants(Settings::ECHO).then_some(L4Proto::Icmp);
    let all = [L4Proto::Udp].into_iter().chain(echo).map(rule);
    if settings.wants(Settings::ALL_PORTS) { all.collect() } else { Vec::new() }
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
        services: services(settings),
        marks: marks(settings),
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
