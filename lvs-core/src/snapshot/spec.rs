//! What a snapshot is built from: plain data, and the reasons why it cannot be built.

use super::marks::MarkRule;
use crate::addr::{MacAddr, Prefix, RealAddr};
use crate::io::PortId;
use crate::persistence::Persistence;
use crate::sched::{SchedulerDef, Weight};
use crate::service::{
    ClientAddrMode, Encapsulation, Forwarding, ServerState, ServiceFlags, ServiceKey,
    TimestampPolicy,
};
use crate::shared::Thresholds;
use crate::timeouts::Timeouts;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

/// Who answers ARP, neighbour discovery and echo for a port's own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SelfOwner {
    /// The host's kernel, which has its own copy of each packet (AF_PACKET).
    #[default]
    Host,
    /// The director.
    Director,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number in the lane.
    pub port: PortId,
    /// Its Ethernet address; `None` = what the lane says.
    pub mac: Option<MacAddr>,
    /// Largest IP packet; `None` = what the lane says.
    pub mtu: Option<u16>,
    /// Its own addresses with the length of the connected prefix.
    pub addresses: Box<[(IpAddr, u8)]>,
    /// Who speaks for these addresses.
    pub owner: SelfOwner,
}

impl Interface {
    /// A port with addresses in CIDR form, the director speaking for them; `None` when one is malformed.
    #[must_use]
    pub fn new(port: u16, addresses: &[&str]) -> Option<Self> {
        let parse = |text: &&str| {
            let (ip, len) = text.split_once('/')?;
            let (ip, len): (IpAddr, u8) = (ip.parse().ok()?, len.parse().ok()?);
            Prefix::new(ip, len).map(|_| (ip, len))
        };
        Some(Self {
            port: PortId(port),
            mac: None,
            mtu: None,
            addresses: addresses.iter().map(parse).collect::<Option<_>>()?,
            owner: SelfOwner::Director,
        })
    }
}

/// A route through a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations.
    pub to: Prefix,
    /// The gateway; must lie in a connected prefix.
    pub via: IpAddr,
}

/// A neighbour whose Ethernet address is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticNeighbour {
    /// Its address; must lie in a connected prefix.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

/// A pool of local addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSpec {
    /// Its addresses, of either family.
    pub addresses: Vec<IpAddr>,
}

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// Address and port.
    pub addr: RealAddr,
    /// Its share.
    pub weight: Weight,
    /// How much of its share it gets at present, in hundredths from 1 to 100: less than all of it for a server that
    /// has just come (slow start). What schedulers see are weights in the same proportion, see
    /// [`RealServer::share`](crate::service::RealServer::share).
    pub share: u8,
    /// How many sessions it may have.
    pub thresholds: Thresholds,
    /// Whether it is in use. [`ServerState::Removed`] is what a server becomes that is left out.
    pub state: ServerState,
    /// How packets travel there, if its service is a [`Forwarding::Tun`] one.
    pub tunnel: Encapsulation,
}

impl ServerSpec {
    /// An active server without thresholds; by IP in IP, where there is a tunnel.
    #[must_use]
    pub fn new(addr: RealAddr, weight: Weight) -> Self {
        Self {
            addr,
            weight,
            share: 100,
            thresholds: Thresholds::default(),
            state: ServerState::default(),
            tunnel: Encapsulation::default(),
        }
    }
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Where it listens.
    pub key: ServiceKey,
    /// How packets reach its servers.
    pub forwarding: Forwarding,
    /// Chooses the server.
    pub scheduler: &'static SchedulerDef,
    /// Place of its pool in [`SnapshotSpec::pools`](field@SnapshotSpec::pools); needed for FullNAT.
    pub pool: Option<usize>,
    /// How servers learn the client's address.
    pub client_addr: ClientAddrMode,
    /// What happens to client timestamps.
    pub timestamps: TimestampPolicy,
    /// Its time-outs.
    pub timeouts: Timeouts,
    /// Whether a client stays with its server; `None` = each session is scheduled.
    pub persistence: Option<Persistence>,
    /// What it does besides.
    pub flags: ServiceFlags,
    /// Its servers, in order.
    pub servers: Vec<ServerSpec>,
}

/// Everything a snapshot is built from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// Ports, in the order of their numbers, none left out.
    pub interfaces: Vec<Interface>,
    /// Routes through gateways.
    pub routes: Vec<Route>,
    /// Configured neighbours.
    pub neighbours: Vec<StaticNeighbour>,
    /// Pools of local addresses.
    pub pools: Vec<PoolSpec>,
    /// Which packets have which mark; the first rule that matches decides.
    pub marks: Vec<MarkRule>,
    /// Services.
    pub services: Vec<ServiceSpec>,
}

/// The specification contradicts itself. Nothing was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Port number `expected` is missing or out of order.
    PortOrder {
        /// The number that should have come.
        expected: u16,
    },
    /// The gateway or neighbour lies in no connected prefix.
    Unreachable(IpAddr),
    /// Two services listen on the same address, port and protocol.
    ServiceTwice(ServiceKey),
    /// A service lists the same server twice.
    ServerTwice(RealAddr),
    /// A FullNAT service has no pool, or names one that does not exist.
    NoPool(ServiceKey),
    /// A FullNAT service's pool has no address of the family of one of its servers.
    PoolFamily(ServiceKey),
    /// A server is of another address family than its service: neither TUN, nor IPv4 behind a FullNAT service of
    /// IPv6 (NAT64).
    ServerFamily(RealAddr),
    /// A server of a DR or TUN service has another port than the service: ports stay what they are there.
    ServerPort(RealAddr),
    /// A server of a DR service lies in no connected prefix.
    ServerBehindRouter(RealAddr),
    /// SCTP goes with NAT and FullNAT within one address family, and its servers are not told who the client is.
    Sctp(ServiceKey),
    /// Each datagram for itself does not go with FullNAT, nor with NAT by mark.
    OnePacket(ServiceKey),
    /// A connection id of QUIC has 1 to 20 bytes.
    QuicLength(ServiceKey),
    /// Echo has no ports: its services have port 0.
    EchoPort(ServiceKey),
    /// A local address is listed twice, or is also a service, own or server address.
    LocalClash(IpAddr),
    /// More than 65 536 services, servers or local addresses.
    TooMany,
    /// More distinct time-outs at once than [`crate::session::MAX_CLASSES`].
    TooManyTimeouts,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortOrder { expected } => {
                write!(f, "ports must be numbered from 0 without a gap; port {expected} is missing")
            }
            Self::Unreachable(ip) => {
                write!(f, "{ip} lies in no connected prefix; give a port an address in its subnet")
            }
            Self::ServiceTwice(key) => {
                write!(f, "two services listen on {key}; remove one")
            }
            Self::ServerTwice(addr) => write!(f, "server {addr} is listed twice in one service"),
            Self::NoPool(key) => {
                write!(f, "the FullNAT service {} needs a pool of local addresses", key.addr)
            }
            Self::PoolFamily(key) => {
                write!(f, "the pool of {} has no address of the family of its servers", key.addr)
            }
            Self::ServerFamily(addr) => {
                write!(f, "server {addr} is of another address family than its service")
            }
            Self::ServerPort(addr) => {
                write!(f, "server {addr} needs the port of its service: DR and TUN change no ports")
            }
            Self::ServerBehindRouter(addr) => {
                write!(f, "DR needs server {addr} in a connected prefix; use TUN to go farther")
            }
            Self::Sctp(key) => {
                write!(f, "{key} needs nat or fullnat, one address family, and no client_addr")
            }
            Self::OnePacket(key) => {
                write!(
                    f,
                    "the replies of {key} cannot be told apart packet by packet; use dr, tun or nat"
                )
            }
            Self::QuicLength(key) => {
                write!(f, "connection ids of {key} have 1 to 20 bytes")
            }
            Self::EchoPort(key) => write!(f, "{key} needs port 0: echo has no ports"),
            Self::LocalClash(ip) => {
                write!(f, "local address {ip} is used twice or for something else as well")
            }
            Self::TooMany => f.write_str("at most 65536 services, servers and local addresses"),
            Self::TooManyTimeouts => {
                write!(f, "at most {} different sets of time-outs", crate::session::MAX_CLASSES)
            }
        }
    }
}
impl core::error::Error for SnapshotError {}
