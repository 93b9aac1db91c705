//! The configuration as typed values: what a file says, checked, with defaults filled in where they
//! do not depend on the command that uses it.

use super::diag::At;
use super::range::{AddressRange, PortRange};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use lvs_core::addr::{Family, MacAddr, Prefix};
use lvs_core::flow::L4Proto;
use lvs_core::service::ToaOptions;
use lvs_director::ErrorRate;

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[director]`.
    pub director: Director,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[[port]]`, in the order of the file: the order of port ids.
    pub ports: Vec<Port>,
    /// `[[route]]`.
    pub routes: Vec<Route>,
    /// `[[neighbour]]`.
    pub neighbours: Vec<Neighbour>,
    /// `[[local_pool]]`.
    pub pools: Vec<LocalPool>,
    /// `[[mark]]`, in the order of the file: the first rule that matches decides.
    pub marks: Vec<Mark>,
    /// `[[service]]`.
    pub services: Vec<Service>,
}

impl Config {
    /// The port that hosts of this address are neighbours on, and the prefix that says so; the
    /// longest prefix decides.
    #[must_use]
    pub fn neighbour_port(&self, ip: &IpAddr) -> Option<(usize, Prefix)> {
        let mut best: Option<(usize, Prefix)> = None;
        for (index, port) in self.ports.iter().enumerate() {
            for address in &port.addresses {
                let prefix = address.prefix;
                if prefix.contains(ip) && best.is_none_or(|(_, b)| prefix.len() > b.len()) {
                    best = Some((index, prefix));
                }
            }
        }
        best
    }

    /// The route whose prefix is the longest that holds the address.
    #[must_use]
    pub fn route_to(&self, ip: &IpAddr) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|route| route.prefix().contains(ip))
            .max_by_key(|route| route.prefix().len())
    }
}

/// `[director]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Director {
    /// What it calls itself.
    pub name: String,
    /// Seed of all choices; `None` lets the command decide.
    pub seed: Option<u64>,
    /// NAT sessions of each address family.
    pub sessions: u32,
    /// Threads that carry packets.
    pub workers: u16,
    /// Persistent clients at once.
    pub templates: u32,
    /// Datagrams in pieces at once, in each worker.
    pub fragments: u32,
    /// What the session memory is made of.
    pub huge_pages: HugePages,
    /// ICMP errors a second.
    pub icmp_errors: u32,
    /// Resets a second to segments of no session.
    pub reset_on_miss: u32,
}

/// `huge_pages` of `[director]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Reserved ones, else transparent ones, else none.
    #[default]
    Auto,
    /// Reserved ones or no start.
    Reserved,
    /// None.
    Off,
}

impl Default for Director {
    fn default() -> Self {
        Self {
            name: "lvsd".to_owned(),
            seed: None,
            sessions: 65_536,
            workers: 1,
            templates: 65_536,
            fragments: 1024,
            huge_pages: HugePages::Auto,
            icmp_errors: ErrorRate::default().per_second,
            reset_on_miss: 0,
        }
    }
}

/// A set of timeout values to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// As production LVS directors have them.
    Lvs,
    /// As the IPVS of Linux has them.
    Kernel,
    /// The minimums of RFC 5382 and RFC 4787.
    Rfc,
}

/// `[timeouts]` or `[service.timeouts]`: what is set; the rest follows the profile, or the section
/// above.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeouts {
    /// The values of the keys that are not set.
    pub profile: Option<Profile>,
    /// No TCP state yet.
    pub tcp_none: Option<Duration>,
    /// Established.
    pub tcp_established: Option<Duration>,
    /// The server has sent a SYN.
    pub tcp_syn_sent: Option<Duration>,
    /// The client has sent a SYN.
    pub tcp_syn_recv: Option<Duration>,
    /// The server has sent a FIN.
    pub tcp_fin_wait: Option<Duration>,
    /// Both sides have closed.
    pub tcp_time_wait: Option<Duration>,
    /// Ended by RST.
    pub tcp_close: Option<Duration>,
    /// The client has sent a FIN.
    pub tcp_close_wait: Option<Duration>,
    /// The last acknowledgement is missing.
    pub tcp_last_ack: Option<Duration>,
    /// Known without a handshake.
    pub tcp_listen: Option<Duration>,
    /// A SYN proxy waits for the client.
    pub tcp_synack: Option<Duration>,
    /// UDP.
    pub udp: Option<Duration>,
    /// Echo.
    pub icmp: Option<Duration>,
    /// SCTP until the cookie has been accepted.
    pub sctp_opening: Option<Duration>,
    /// SCTP, open.
    pub sctp_established: Option<Duration>,
    /// SCTP, one side wishes to end.
    pub sctp_closing: Option<Duration>,
    /// SCTP, over.
    pub sctp_closed: Option<Duration>,
}

/// Who answers for a port's own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfOwner {
    /// The kernel that also has the interface.
    Kernel,
    /// The director itself.
    Director,
}

/// An address of a port with the prefix of its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfAddress {
    /// The address.
    pub ip: IpAddr,
    /// Its neighbours.
    pub prefix: Prefix,
}

/// `[[port]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// What the configuration calls it.
    pub name: At<String>,
    /// The interface of the system.
    pub interface: At<String>,
    /// Its Ethernet address; `None`: the interface's.
    pub mac: Option<At<MacAddr>>,
    /// Its longest IP packet; `None`: the interface's.
    pub mtu: Option<At<u16>>,
    /// Self addresses.
    pub addresses: Vec<At<SelfAddress>>,
    /// Who answers for them; `None` lets the command decide.
    pub self_owner: Option<SelfOwner>,
}

/// The destinations of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every address of the router's family.
    Default,
    /// The addresses of a prefix.
    Prefix(Prefix),
}

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The destinations.
    pub to: At<Target>,
    /// The router.
    pub via: At<IpAddr>,
}

impl Route {
    /// The destinations as a prefix of the router's family.
    #[must_use]
    pub fn prefix(&self) -> Prefix {
        match (self.to.value, self.via.value) {
            (Target::Prefix(prefix), _) => prefix,
            (Target::Default, IpAddr::V4(_)) => everything(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            (Target::Default, IpAddr::V6(_)) => everything(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        }
    }
}

fn everything(unspecified: IpAddr) -> Prefix {
    Prefix::new(unspecified, 0).expect("a length of zero fits every family")
}

/// `[[neighbour]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// Its address.
    pub ip: At<IpAddr>,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

/// `[[mark]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// The mark; 0 = none.
    pub mark: At<u32>,
    /// Where packets come from.
    pub from: Option<Prefix>,
    /// Where they go.
    pub to: Option<At<Prefix>>,
    /// Their protocol; none: TCP and UDP.
    pub protocol: Option<L4Proto>,
    /// Their destination ports.
    pub ports: Option<PortRange>,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mark {}", self.mark.value)?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if let Some(to) = &self.to {
            write!(f, " to {}", to.value)?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, " {protocol}")?;
        }
        if let Some(ports) = self.ports {
            write!(f, " {}-{}", ports.first(), ports.last())?;
        }
        Ok(())
    }
}

impl Mark {
    /// The single address that the rule makes a virtual one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let to = self.to.as_ref().filter(|_| self.mark.value != 0)?.value;
        let whole = if to.addr().is_ipv4() { 32 } else { 128 };
        (to.len() == whole).then(|| to.addr())
    }
}

/// `[[local_pool]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalPool {
    /// What services call it.
    pub name: At<String>,
    /// Its addresses; no address twice, all of one family, at least one.
    pub addresses: Vec<At<AddressRange>>,
    /// The ports of each that sessions may use.
    pub ports: At<PortRange>,
}

impl LocalPool {
    /// How many addresses it has.
    #[must_use]
    pub fn address_count(&self) -> u128 {
        self.addresses.iter().fold(0, |sum, range| sum.saturating_add(range.count()))
    }

    /// The family of its addresses.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        self.addresses.first().map(|range| Family::of(&range.first()))
    }
}

/// How packets of a service are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Source and destination change.
    FullNat,
    /// Only the server's side changes.
    Nat,
    /// Only the Ethernet addresses change.
    Dr,
    /// Packets travel inside others.
    Tun,
    /// The host serves it itself.
    Local,
}

impl Forwarding {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FullNat => "fullnat",
            Self::Nat => "nat",
            Self::Dr => "dr",
            Self::Tun => "tun",
            Self::Local => "local",
        }
    }

    /// Whether servers answer clients past the director.
    #[must_use]
    pub const fn is_one_way(self) -> bool {
        matches!(self, Self::Dr | Self::Tun)
    }
}

/// What packets travel in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    IpIp,
    /// Generic routing encapsulation.
    Gre,
    /// Generic UDP encapsulation.
    Gue,
}

/// How the server learns the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddrPolicy {
    /// As a TCP option.
    Toa,
    /// As a line in front of the first bytes.
    ProxyV1,
    /// As a binary header in front of the first bytes.
    ProxyV2,
    /// Not at all (in NAT it sees it anyway).
    None,
}

impl ClientAddrPolicy {
    /// Name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Toa => "toa",
            Self::ProxyV1 => "proxy-v1",
            Self::ProxyV2 => "proxy-v2",
            Self::None => "none",
        }
    }
}

/// What becomes of the TCP timestamp option of a client's SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// Overwritten, so that the connection runs without.
    Strip,
    /// Left as it is.
    Keep,
}

/// What becomes of a PROXY header that a client sends itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyClientHeader {
    /// The director's takes its place.
    #[default]
    Replace,
    /// It is believed, and translated into the service's version.
    Convert,
    /// It is believed, and stays.
    Keep,
}

/// When a PROXY header goes to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxySend {
    /// In front of the client's first bytes.
    #[default]
    FirstData,
    /// With the end of the handshake.
    Handshake,
}

/// `[service.proxy]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// A header that the client sends itself.
    pub client_header: ProxyClientHeader,
    /// When it goes.
    pub send: ProxySend,
}

/// From when the time of persistence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistentSince {
    /// From the last packet of the last session.
    LastPacket,
    /// From the opening of the newest session.
    LastConnection,
}

/// `[service.persistence]`: what is set; the rest follows the profile of the service's timeouts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Persistence {
    /// Whether clients stay with their servers at all.
    pub enabled: Option<bool>,
    /// How long after their sessions.
    pub timeout: Option<Duration>,
    /// Length of the IPv4 prefix that counts as one client.
    pub prefix_v4: Option<u8>,
    /// The same for IPv6.
    pub prefix_v6: Option<u8>,
    /// Services of the same name share their clients.
    pub group: Option<At<String>>,
    /// Servers with weight 0 get no sessions even of their clients.
    pub expire_quiescent: bool,
    /// Servers at their upper threshold get no sessions even of their clients.
    pub hard_threshold: bool,
    /// From when the time counts.
    pub since: Option<PersistentSince>,
}

/// What a server may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerState {
    /// Everything.
    #[default]
    Active,
    /// The sessions that it has.
    Draining,
    /// Nothing: its sessions are reset.
    DownKill,
    /// The sessions that it has; it does not work for new ones.
    DownKeep,
}

/// `[[service]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// What messages call it.
    pub name: At<String>,
    /// The virtual address.
    pub address: At<SocketAddr>,
    /// The transport protocol.
    pub protocol: L4Proto,
    /// How packets are carried.
    pub forwarding: Forwarding,
    /// The name of the scheduler.
    pub scheduler: At<String>,
    /// Where local addresses come from: an index into [`Config::pools`]; always there in FullNAT.
    pub local_pool: Option<usize>,
    /// How the server learns the client's address.
    pub client_addr: ClientAddrPolicy,
    /// The option that carries it.
    pub toa: ToaOptions,
    /// The header that carries it.
    pub proxy: Proxy,
    /// What becomes of timestamps.
    pub timestamps: Timestamps,
    /// What differs from [`Config::timeouts`].
    pub timeouts: Timeouts,
    /// How clients stay with their servers.
    pub persistence: Persistence,
    /// The mark of its packets, instead of an address; `address` then tells the family.
    pub mark: Option<At<u32>>,
    /// Each datagram for itself.
    pub one_packet: At<bool>,
    /// Picked by QUIC connection id: the length of those that servers give out.
    pub quic: Option<At<u8>>,
    /// Whether connections that expire are reset; `None` follows the profile.
    pub reset_on_expiry: Option<bool>,
    /// Whether address options that clients write are believed.
    pub trust_toa: bool,
    /// How long a server that comes takes to its full share.
    pub slow_start: Option<At<Duration>>,
    /// `[[service.server]]`, in the order of the file.
    pub servers: Vec<Server>,
}

/// Schedulers that share by weight alone: those for which a smaller weight for a while means fewer sessions.
const BY_WEIGHT: [&str; 6] = ["wrr", "wrr-smooth", "wlc", "sed", "nq", "twos"];

impl Service {
    /// How long a server that comes takes to its full share, where the scheduler shares by weight.
    #[must_use]
    pub fn slow_start(&self) -> Option<Duration> {
        let time = self.slow_start.as_ref().map(|time| time.value);
        time.filter(|_| BY_WEIGHT.contains(&self.scheduler.value.as_str()))
    }

    /// Whether it has a virtual address of its own that the host must not have.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.mark.is_none() && self.forwarding != Forwarding::Local
    }

    /// IP version of the virtual address.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(&self.address.ip())
    }

    /// Whether IPv6 clients are led to IPv4 servers: a fullnat service of IPv6 with a pool of IPv4.
    #[must_use]
    pub fn is_nat64(&self, pools: &[LocalPool]) -> bool {
        let pool = self.local_pool.and_then(|index| pools.get(index));
        self.forwarding == Forwarding::FullNat
            && self.family() == Family::V6
            && pool.and_then(LocalPool::family) == Some(Family::V4)
    }
}

/// `[[service.server]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Where it listens.
    pub address: At<SocketAddr>,
    /// Its share of new connections.
    pub weight: u16,
    /// Most sessions; 0 = any number.
    pub upper_threshold: At<u32>,
    /// Fewer than these end its overload; 0 = three quarters of the upper threshold.
    pub lower_threshold: At<u32>,
    /// What it may be used for.
    pub state: ServerState,
    /// How long it drains.
    pub drain_for: Option<At<Duration>>,
    /// What packets travel in, with `forwarding = "tun"`.
    pub tunnel: At<Tunnel>,
    /// The UDP port of its tunnel.
    pub tunnel_port: At<u16>,
    /// Whether the tunnel has a checksum.
    pub tunnel_checksum: At<bool>,
}
