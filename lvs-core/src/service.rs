//! What is balanced: virtual services and their real servers.

use crate::addr::{Family, RealAddr, VirtualAddr};
use crate::flow::L4Proto;
use crate::id::{PoolId, ServerId, ServiceId, TimeoutClass};
use crate::persistence::Persistence;
use crate::sched::{SchedulerDef, Weight};
use crate::shared::Thresholds;
use alloc::boxed::Box;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

pub use crate::encapsulation::Encapsulation;

pub use crate::client_addr::{
    ClientAddrMode, ClientHeader, NoToaRoom, ProxyOptions, ProxyTiming, ProxyVersion, ToaFormat,
    ToaOptions, ToaPlacement,
};

/// How packets reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "IP_VS_CONN_F_MASQ")]
pub enum Forwarding {
    /// Destination becomes the server; replies must come back through the director.
    Nat,
    /// Source and destination change: the server sees a local address of the director.
    FullNat,
    /// Direct routing: only the Ethernet addresses change. The server has the virtual address itself, on an
    /// interface that nobody asks, stands in a network of the director, and answers the client directly.
    #[doc(alias = "IP_VS_CONN_F_DROUTE")]
    Dr,
    /// Packets travel to the server inside others. The server has the virtual address itself, and answers the
    /// client directly.
    #[doc(alias = "IP_VS_CONN_F_TUNNEL")]
    Tun,
    /// The host itself is the server: its kernel gets the packets as they are, without a session. It has the virtual
    /// address then, so all services of that address have to be of this kind where the kernel sees every packet.
    #[doc(alias = "IP_VS_CONN_F_LOCALNODE")]
    Local,
}

impl Forwarding {
    /// Name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::FullNat => "fullnat",
            Self::Dr => "dr",
            Self::Tun => "tun",
            Self::Local => "local",
        }
    }

    /// Whether servers answer clients past the director; ports then stay what they are.
    #[must_use]
    pub const fn is_one_way(self) -> bool {
        matches!(self, Self::Dr | Self::Tun)
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a service listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Protocol. An address answers echo requests itself, but for a service of [`L4Proto::Icmp`], which brings them to
    /// its servers.
    pub proto: L4Proto,
    /// Address and port; port 0 = every port that no other service of the address has. Echo has port 0 only.
    pub addr: VirtualAddr,
    /// Not 0: all packets with this mark and of the address's family, whatever their destination and protocol.
    #[doc(alias = "fwmark")]
    pub mark: u32,
}

impl ServiceKey {
    /// An address and port.
    #[must_use]
    pub const fn new(proto: L4Proto, addr: VirtualAddr) -> Self {
        Self { proto, addr, mark: 0 }
    }

    /// All packets of a family with this mark, which is not 0.
    #[must_use]
    pub const fn marked(mark: u32, family: Family) -> Self {
        let any = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { proto: L4Proto::Tcp, addr: VirtualAddr::new(any, 0), mark }
    }

    /// The virtual address; `None` for a mark, which has none of its own.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        (self.mark == 0).then(|| self.addr.ip())
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mark, self.addr.ip()) {
            (0, _) => write!(f, "{} {}", self.proto, self.addr),
            (mark, IpAddr::V4(_)) => write!(f, "mark {mark}"),
            (mark, IpAddr::V6(_)) => write!(f, "mark {mark} (IPv6)"),
        }
    }
}

/// What happens to the TCP timestamp option of FullNAT clients. Many clients share one local address,
/// so their clocks would look like one that jumps, and a server in TIME-WAIT would refuse them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampPolicy {
    /// Overwritten with NOPs in the SYN, so the connection runs without.
    #[default]
    Strip,
    /// Left as it is.
    Keep,
}

/// What a service does besides; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "IP_VS_SVC_F")]
pub struct ServiceFlags {
    /// When a TCP session expires while its connection is open, both ends are reset (alibaba/LVS, DPVS), where
    /// replies pass the director.
    pub reset_on_expiry: bool,
    /// Datagrams: each one is scheduled for itself, and no session is kept. Not with FullNAT, and with NAT not
    /// for marks: the reply must tell which service it belongs to.
    #[doc(alias = "IP_VS_SVC_F_ONEPACKET")]
    pub one_packet: bool,
    /// QUIC: a new session is scheduled by its connection id instead of the client's address ([`crate::quic`]). The
    /// value is the length of the ids that servers give out, 1 to 20 bytes.
    pub quic: Option<u8>,
    /// Address options in client segments are believed, and stay: a balancer in front has written them. Else they
    /// are overwritten with padding on the way to the servers of NAT and FullNAT services, and always where the
    /// service has an option of its own.
    pub trust_toa: bool,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "ip_vs_service")]
pub struct VirtualService {
    /// Stable number.
    pub id: ServiceId,
    /// Where it listens.
    pub key: ServiceKey,
    /// How packets reach its servers.
    pub forwarding: Forwarding,
    /// Chooses the server of a new session.
    pub scheduler: &'static SchedulerDef,
    /// Local addresses for FullNAT.
    pub pool: Option<PoolId>,
    /// How a server learns the client's address.
    pub client_addr: ClientAddrMode,
    /// What happens to client timestamps.
    pub timestamps: TimestampPolicy,
    /// Its time-outs.
    pub timeouts: TimeoutClass,
    /// Whether a client stays with its server; `None` = each session is scheduled.
    pub persistence: Option<Persistence>,
    /// What it does besides.
    pub flags: ServiceFlags,
    /// Its servers, in the order of configuration.
    pub servers: Box<[ServerId]>,
}

/// Administrative state of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerState {
    /// In use.
    #[default]
    Active,
    /// No new sessions, not even of clients that belong to it. Those it has go on, UDP included, until they
    /// end, or until the time has passed since it was first seen in this state: then they are reset.
    Draining {
        /// How long sessions may go on; `None` = until they end.
        within: Option<Duration>,
    },
    /// It does not work: no new sessions, and those it has are reset at once.
    DownKill,
    /// It does not work for new sessions; those it has are left alone.
    DownKeep,
    /// Removed from the configuration while sessions may still point at it: they go on until they end.
    Removed,
}

/// A server of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "ip_vs_dest")]
pub struct RealServer {
    /// Stable number.
    pub id: ServerId,
    /// The service it belongs to.
    pub service: ServiceId,
    /// Its address and port.
    pub addr: RealAddr,
    /// Its share.
    pub weight: Weight,
    /// How much of its share it gets at present, in hundredths from 1 to 100. Where one server of a service has less
    /// than 100, schedulers see weights of all its servers that are up to a hundred times as large, and in that proportion.
    pub share: u8,
    /// How many sessions it may have.
    pub thresholds: Thresholds,
    /// Whether it is in use.
    pub state: ServerState,
    /// How packets travel there, if its service is a [`Forwarding::Tun`] one.
    pub tunnel: Encapsulation,
}
