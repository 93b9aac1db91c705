//! From the typed configuration to what the crates below are built from: the specification of a
//! snapshot, the size of the session store, and the port plan.
//!
//! The rules have refused whatever the crates below refuse, so their own errors name a gap in the
//! rules and not in a user's file.

use super::model::{
    ClientAddrPolicy, Config, Forwarding, Mark, PersistentSince, Profile, Proxy, ProxyClientHeader,
    ProxySend, SelfOwner, Server, ServerState, Service, Timeouts, Timestamps, Tunnel,
};
use core::fmt;
use core::time::Duration;
use lvs_core::addr::{Family, RealAddr, VirtualAddr};
use lvs_core::io::PortId;
use lvs_core::persistence::{Persistence, Since};
use lvs_core::plan::{PlanError, Whole};
use lvs_core::sched::{SchedulerDef, Weight};
use lvs_core::service::{
    self, ClientAddrMode, ClientHeader, Encapsulation, ProxyOptions, ProxyTiming, ProxyVersion,
    ServiceFlags, ServiceKey, TimestampPolicy,
};
use lvs_core::session::{SessionStore, StoreConfig, TableConfig, TcpState};
use lvs_core::shared::{SharedConfig, Thresholds};
use lvs_core::siphash::SipHash13;
use lvs_core::snapshot::{
    self, Interface, MarkRule, PoolSpec, ServerSpec, ServiceSpec, SnapshotError, SnapshotSpec,
    StaticNeighbour,
};
use lvs_core::timeouts::{self, SctpPhase};
use lvs_director::{DirectorConfig, ErrorRate, FragmentConfig};

/// The configuration cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The configuration names a scheduler that is not among those given.
    Scheduler(String),
    /// Two of its parts contradict each other.
    Snapshot(SnapshotError),
    /// The local pools and sessions need more memory than can be addressed.
    TooManySessions,
    /// The local ports cannot be shared out.
    Plan(PlanError),
    /// Addresses in too many places for the program that spreads packets over workers.
    Steering,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheduler(name) => write!(f, "there is no scheduler `{name}`"),
            Self::Snapshot(error) => error.fmt(f),
            Self::TooManySessions => {
                f.write_str("too many sessions; use fewer local addresses or lower `sessions`")
            }
            Self::Plan(error) => write!(f, "{error}; widen `ports` or use fewer workers"),
            Self::Steering => f.write_str(
                "several workers need local and virtual addresses in fewer places: put the addresses of \
                 a pool into one range, or write workers = 1",
            ),
        }
    }
}
impl core::error::Error for BuildError {}

impl From<SnapshotError> for BuildError {
    fn from(error: SnapshotError) -> Self {
        Self::Snapshot(error)
    }
}

impl Config {
    /// The specification of the first snapshot. Ports whose owner the file leaves open get
    /// `self_owner`; service names are looked up in `schedulers`.
    ///
    /// # Errors
    /// [`BuildError::Scheduler`].
    pub fn snapshot_spec(
        &self,
        schedulers: &[&'static SchedulerDef],
        self_owner: SelfOwner,
    ) -> Result<SnapshotSpec, BuildError> {
        let services = self.services.iter().map(|service| self.service(service, schedulers));
        Ok(SnapshotSpec {
            interfaces: self.interfaces(self_owner),
            routes: self
                .routes
                .iter()
                .map(|route| snapshot::Route { to: route.prefix(), via: route.via.value })
                .collect(),
            neighbours: self
                .neighbours
                .iter()
                .map(|neighbour| StaticNeighbour { ip: neighbour.ip.value, mac: neighbour.mac })
                .collect(),
            pools: self
                .pools
                .iter()
                .map(|pool| PoolSpec {
                    addresses: pool.addresses.iter().flat_map(|range| range.iter()).collect(),
                })
                .collect(),
            marks: self.marks.iter().map(mark).collect(),
            services: services.collect::<Result<_, _>>()?,
        })
    }

    fn interfaces(&self, self_owner: SelfOwner) -> Vec<Interface> {
        let numbered = (0u16..).zip(&self.ports);
        numbered
            .map(|(number, port)| Interface {
                port: PortId(number),
                mac: port.mac.as_ref().map(|mac| mac.value),
                mtu: port.mtu.as_ref().map(|mtu| mtu.value),
                addresses: port
                    .addresses
                    .iter()
                    .map(|address| (address.ip, address.prefix.len()))
                    .collect(),
                owner: match port.self_owner.unwrap_or(self_owner) {
                    SelfOwner::Kernel => snapshot::SelfOwner::Host,
                    SelfOwner::Director => snapshot::SelfOwner::Director,
                },
            })
            .collect()
    }

    fn service(
        &self,
        service: &Service,
        schedulers: &[&'static SchedulerDef],
    ) -> Result<ServiceSpec, BuildError> {
        let scheduler = schedulers
            .iter()
            .find(|known| known.name == service.scheduler.value)
            .ok_or_else(|| BuildError::Scheduler(service.scheduler.value.clone()))?;
        Ok(ServiceSpec {
            key: match &service.mark {
                None => ServiceKey::new(service.protocol, VirtualAddr(service.address.value)),
                Some(mark) => ServiceKey::marked(mark.value, service.family()),
            },
            forwarding: match service.forwarding {
                Forwarding::FullNat => service::Forwarding::FullNat,
                Forwarding::Nat => service::Forwarding::Nat,
                Forwarding::Dr => service::Forwarding::Dr,
                Forwarding::Tun => service::Forwarding::Tun,
                Forwarding::Local => service::Forwarding::Local,
            },
            scheduler,
            pool: service.local_pool,
            client_addr: match service.client_addr {
                ClientAddrPolicy::Toa => ClientAddrMode::Toa(service.toa),
                ClientAddrPolicy::ProxyV1 => proxy(ProxyVersion::V1, &service.proxy),
                ClientAddrPolicy::ProxyV2 => proxy(ProxyVersion::V2, &service.proxy),
                ClientAddrPolicy::None => ClientAddrMode::None,
            },
            timestamps: match service.timestamps {
                Timestamps::Strip => TimestampPolicy::Strip,
                Timestamps::Keep => TimestampPolicy::Keep,
            },
            timeouts: self.timeouts_of(service),
            persistence: self.persistence_of(service),
            flags: self.flags_of(service),
            servers: service.servers.iter().map(server).collect(),
        })
    }

    /// The time-outs of a service: its own, then those of a profile it names, then the director's.
    #[must_use]
    pub fn timeouts_of(&self, service: &Service) -> timeouts::Timeouts {
        let director = self.timeouts.over(timeouts::Timeouts::LVS);
        service.timeouts.over(director)
    }

    fn profile_of(&self, service: &Service) -> Profile {
        service.timeouts.profile.or(self.timeouts.profile).unwrap_or(Profile::Lvs)
    }

    /// What a service does besides.
    #[must_use]
    pub fn flags_of(&self, service: &Service) -> ServiceFlags {
        let lvs = self.profile_of(service) == Profile::Lvs;
        ServiceFlags {
            reset_on_expiry: service.reset_on_expiry.unwrap_or(lvs),
            one_packet: service.one_packet.value,
            quic: service.quic.as_ref().map(|length| length.value),
            trust_toa: service.trust_toa,
        }
    }

    /// What a director makes by itself, how many ICMP errors and how many resets, and its room for fragments; keys and sizes are those of the
    /// default.
    #[must_use]
    pub fn director_config(&self) -> DirectorConfig {
        let rate = |per_second: u32| ErrorRate { per_second, burst: (per_second / 20).max(1) };
        DirectorConfig {
            errors: rate(self.director.icmp_errors),
            strays: rate(self.director.reset_on_miss),
            fragments: FragmentConfig::with_room_for(self.director.fragments),
            ..DirectorConfig::default()
        }
    }

    /// How clients of a service stay with their servers; `None` = they do not.
    #[must_use]
    pub fn persistence_of(&self, service: &Service) -> Option<Persistence> {
        let written = &service.persistence;
        let profile = self.profile_of(service);
        let by_packet = service.one_packet.value || service.quic.is_some();
        let wanted = (profile == Profile::Lvs && !by_packet) || written.timeout.is_some();
        if !written.enabled.unwrap_or(wanted) {
            return None;
        }
        let default = Persistence::default();
        let since = match (written.since, profile) {
            (Some(PersistentSince::LastPacket), _) | (None, Profile::Lvs | Profile::Rfc) => {
                Since::LastPacket
            }
            (Some(PersistentSince::LastConnection), _) | (None, Profile::Kernel) => {
                Since::LastConnection
            }
        };
        Some(Persistence {
            timeout: written.timeout.unwrap_or(default.timeout),
            prefix_v4: written.prefix_v4.unwrap_or(default.prefix_v4),
            prefix_v6: written.prefix_v6.unwrap_or(default.prefix_v6),
            group: written.group.as_ref().map(|group| group_number(&group.value)),
            expire_quiescent: written.expire_quiescent,
            hard_threshold: written.hard_threshold,
            since,
        })
    }

    /// The size of what workers share; its secret follows from `seed`.
    #[must_use]
    pub fn shared_config(&self, seed: u64) -> SharedConfig {
        let mut secrets = Secrets::new(seed);
        SharedConfig {
            templates: self.director.templates,
            // Every number that there is: later configurations go on counting.
            servers: 1 << 16,
            services: 1 << 16,
            key: [secrets.draw(), secrets.draw()],
        }
    }

    /// The size of the session store; its secrets follow from `seed`.
    ///
    /// FullNAT sessions have one slot for each local address and port; all others share
    /// `sessions` slots for each family that has a service of another kind. NAT64 sessions have both.
    #[must_use]
    pub fn store_config(&self, seed: u64) -> StoreConfig {
        let mut secrets = Secrets::new(seed);
        StoreConfig {
            v4: self.table_config(Family::V4),
            v6: self.table_config(Family::V6),
            key: [secrets.draw(), secrets.draw()],
            seed: secrets.draw(),
        }
    }

    fn table_config(&self, family: Family) -> TableConfig {
        let pools = self.pools.iter().filter(|pool| pool.family() == Some(family));
        let locals: u128 = pools.map(super::LocalPool::address_count).sum();
        let general = |service: &Service| {
            let own = !matches!(service.forwarding, Forwarding::FullNat | Forwarding::Local);
            (own || service.is_nat64(&self.pools)) && service.family() == family
        };
        TableConfig {
            local_addresses: u16::try_from(locals).unwrap_or(u16::MAX),
            general: if self.services.iter().any(general) { self.director.sessions } else { 0 },
        }
    }

    /// Which local port belongs to which session: one worker owns all.
    #[must_use]
    pub fn port_plan(&self) -> Whole {
        let ports = self.pools.first().map(|pool| pool.ports.value);
        ports.and_then(|ports| Whole::new(ports.first(), ports.last()).ok()).unwrap_or_default()
    }

    /// Bytes of memory that the session store takes.
    ///
    /// # Errors
    /// [`BuildError::TooManySessions`].
    pub fn session_memory(&self) -> Result<usize, BuildError> {
        SessionStore::memory_for(&self.store_config(0), &self.port_plan())
            .ok_or(BuildError::TooManySessions)
    }
}

/// The number of a persistence group: the same for the same name in every configuration and on every
/// director. The rules refuse two names with one number.
pub(super) fn group_number(name: &str) -> u32 {
    let hash = SipHash13::new(&[0, 0]).bytes(name.as_bytes());
    u32::try_from(hash >> 32).unwrap_or(u32::MAX)
}

fn mark(mark: &Mark) -> MarkRule {
    MarkRule {
        src: mark.from,
        dst: mark.to.as_ref().map(|to| to.value),
        proto: mark.protocol,
        ports: mark.ports.map_or((0, u16::MAX), |ports| (ports.first(), ports.last())),
        mark: mark.mark.value,
    }
}

fn server(server: &Server) -> ServerSpec {
    let spec = ServerSpec::new(RealAddr(server.address.value), Weight(server.weight));
    ServerSpec {
        thresholds: Thresholds {
            upper: server.upper_threshold.value,
            lower: server.lower_threshold.value,
        },
        state: match server.state {
            ServerState::Active => service::ServerState::Active,
            ServerState::Draining => {
                let within = server.drain_for.as_ref().map(|time| time.value);
                service::ServerState::Draining { within }
            }
            ServerState::DownKill => service::ServerState::DownKill,
            ServerState::DownKeep => service::ServerState::DownKeep,
        },
        tunnel: encapsulation(server),
        ..spec
    }
}

fn encapsulation(server: &Server) -> Encapsulation {
    let checksum = server.tunnel_checksum.value;
    match server.tunnel.value {
        Tunnel::IpIp => Encapsulation::IpIp,
        Tunnel::Gre => Encapsulation::Gre { checksum },
        Tunnel::Gue => Encapsulation::Gue { dport: server.tunnel_port.value, checksum },
    }
}

fn proxy(version: ProxyVersion, proxy: &Proxy) -> ClientAddrMode {
    ClientAddrMode::Proxy(ProxyOptions {
        version,
        client: match proxy.client_header {
            ProxyClientHeader::Replace => ClientHeader::Replace,
            ProxyClientHeader::Convert => ClientHeader::Convert,
            ProxyClientHeader::Keep => ClientHeader::Keep,
        },
        timing: match proxy.send {
            ProxySend::FirstData => ProxyTiming::FirstData,
            ProxySend::Handshake => ProxyTiming::Handshake,
        },
    })
}

impl Timeouts {
    /// What is set here, else a profile that is named here, else `base`.
    #[must_use]
    pub fn over(&self, base: timeouts::Timeouts) -> timeouts::Timeouts {
        let mut timeouts = match self.profile {
            Some(Profile::Lvs) => timeouts::Timeouts::LVS,
            Some(Profile::Kernel) => timeouts::Timeouts::KERNEL,
            Some(Profile::Rfc) => timeouts::Timeouts::RFC,
            None => base,
        };
        for state in TcpState::ALL {
            if let Some(timeout) = self.tcp(state) {
                timeouts = timeouts.with_tcp(state, timeout);
            }
        }
        for phase in SctpPhase::ALL {
            if let Some(timeout) = self.sctp(phase) {
                timeouts = timeouts.with_sctp(phase, timeout);
            }
        }
        if let Some(timeout) = self.udp {
            timeouts = timeouts.with_udp(timeout);
        }
        self.icmp.map_or(timeouts, |timeout| timeouts.with_icmp(timeout))
    }

    /// What is set for a phase of SCTP.
    #[must_use]
    pub const fn sctp(&self, phase: SctpPhase) -> Option<Duration> {
        match phase {
            SctpPhase::Opening => self.sctp_opening,
            SctpPhase::Established => self.sctp_established,
            SctpPhase::Closing => self.sctp_closing,
            SctpPhase::Closed => self.sctp_closed,
        }
    }

    /// What is set for a TCP state.
    #[must_use]
    pub const fn tcp(&self, state: TcpState) -> Option<Duration> {
        match state {
            TcpState::None => self.tcp_none,
            TcpState::Established => self.tcp_established,
            TcpState::SynSent => self.tcp_syn_sent,
            TcpState::SynRecv => self.tcp_syn_recv,
            TcpState::FinWait => self.tcp_fin_wait,
            TcpState::TimeWait => self.tcp_time_wait,
            TcpState::Close => self.tcp_close,
            TcpState::CloseWait => self.tcp_close_wait,
            TcpState::LastAck => self.tcp_last_ack,
            TcpState::Listen => self.tcp_listen,
            TcpState::SynAck => self.tcp_synack,
        }
    }
}

/// Independent secrets from one seed: a director has several, and none tells anything of another
/// (SipHash-1-3 of a counter, keyed by the seed).
#[derive(Clone)]
pub struct Secrets {
    seed: u64,
    drawn: u64,
}

impl Secrets {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next secret.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        SipHash13::new(&[self.seed, !self.seed]).words(&[self.drawn])
    }
}
