//! The box of the scripts, and what a new configuration may change about it.
//!
//! ```text
//!   clients 10.0.0.2 .3, fd00::2   ── port 0 ┬ director ┬ port 1 ── servers 10.1.0.11-.13, fd01::11 ::12
//!   192.0.2.7 behind 10.0.0.254               │          │
//!   2001:db8::7 behind fd00::fe               services 10.0.0.80-.83, fd00::80 ::81
//!   one-arm server 10.0.0.21                  local 10.1.0.100 .101 (.102), fd01::100, 10.0.0.200
//! ```

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use lvs_core::addr::{MacAddr, Prefix, RealAddr, VirtualAddr};
use lvs_core::flow::L4Proto::{self, Tcp, Udp};
use lvs_core::persistence::{Persistence, Since};
use lvs_core::sched::{SchedulerDef, Weight};
use lvs_core::service::Forwarding::{self, FullNat, Nat};
use lvs_core::service::{
    ClientAddrMode, NoToaRoom, ServiceFlags, ServiceKey, TimestampPolicy, ToaFormat, ToaOptions,
    ToaPlacement,
};
use lvs_core::shared::Thresholds;
use lvs_core::snapshot::{
    Interface, PoolSpec, Route, ServerSpec, ServiceSpec, SnapshotSpec, StaticNeighbour,
};
use lvs_core::timeouts::Timeouts;
use proptest::prelude::*;

/// Address and port, protocol, mode, scheduler, pool, servers.
type Row =
    (&'static str, L4Proto, Forwarding, &'static SchedulerDef, usize, &'static [&'static str]);

const RR: &SchedulerDef = &lvs_sched::rr::DEF;
const WRR: &SchedulerDef = &lvs_sched::wrr::DEF;

pub(crate) const SERVICES: [Row; 9] = [
    ("10.0.0.80:80", Tcp, FullNat, RR, 0, &["10.1.0.11:8080", "10.1.0.12:8080"]),
    (
        "10.0.0.80:443",
        Tcp,
        FullNat,
        WRR,
        0,
        &["10.1.0.11:8443", "10.1.0.12:8443", "10.1.0.13:8443"],
    ),
    ("10.0.0.80:53", Udp, FullNat, RR, 0, &["10.1.0.11:53", "10.1.0.13:53"]),
    ("10.0.0.81:0", Tcp, Nat, RR, 0, &["10.1.0.11:0", "10.1.0.12:0"]),
    ("10.0.0.82:80", Tcp, Nat, WRR, 0, &["10.1.0.11:8080", "10.1.0.12:8080"]),
    ("10.0.0.83:80", Tcp, FullNat, RR, 1, &["10.0.0.21:80"]),
    ("[fd00::80]:80", Tcp, FullNat, RR, 0, &["[fd01::11]:8080", "[fd01::12]:8080"]),
    ("[fd00::80]:53", Udp, Nat, WRR, 0, &["[fd01::11]:53", "[fd01::12]:53"]),
    ("[fd00::81]:80", Tcp, Nat, RR, 0, &["[fd01::11]:80"]),
];

/// Who connects, near and far.
pub(crate) const CLIENTS: [&str; 6] =
    ["10.0.0.2", "10.0.0.3", "192.0.2.7", "10.1.0.11", "fd00::2", "2001:db8::7"];

/// Hosts on the two links; the ones that answer questions.
pub(crate) const HOSTS: [&str; 12] = [
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.254",
    "10.0.0.21",
    "10.1.0.11",
    "10.1.0.12",
    "10.1.0.13",
    "10.1.0.99",
    "fd00::2",
    "fd00::fe",
    "fd01::11",
    "fd01::12",
];

/// The link that a host is on.
pub(crate) fn port_of(ip: IpAddr) -> u16 {
    match ip {
        IpAddr::V4(v4) => u16::from(v4.octets()[..2] == [10, 1]),
        IpAddr::V6(v6) => u16::from(v6.segments()[0] == 0xfd01),
    }
}

/// The Ethernet address of a host.
pub(crate) fn mac_of(ip: IpAddr) -> MacAddr {
    let last = match ip {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15] ^ 0x80,
    };
    MacAddr([0x02, 0, 0, 1, port_of(ip) as u8, last])
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One service as it may be changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) present: bool,
    pub(crate) weights: [u16; 3],
    /// Which servers there are, as bits.
    pub(crate) servers: u8,
    /// How many sessions each server may have: upper and lower threshold.
    pub(crate) thresholds: [(u32, u32); 3],
    pub(crate) stay: Stay,
    pub(crate) toa: Toa,
    pub(crate) keep_timestamps: bool,
    pub(crate) slow: bool,
}

/// Whether clients stay with their servers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stay {
    No,
    /// 600 s.
    Usual,
    /// 20 s.
    Short,
    /// Neighbours count as one client.
    Nets,
    /// Not with a server of weight 0.
    Quiescent,
    /// Not with a full server.
    Hard,
    /// With one host in all services that say so.
    Group,
    /// As Linux counts the time.
    Linux,
}

impl Stay {
    fn persistence(self) -> Option<Persistence> {
        let base = Persistence { timeout: Duration::from_secs(60), ..Persistence::default() };
        Some(match self {
            Self::No => return None,
            Self::Usual => Persistence::default(),
            Self::Short => Persistence { timeout: Duration::from_secs(20), ..base },
            Self::Nets => Persistence { prefix_v4: 24, prefix_v6: 60, ..base },
            Self::Quiescent => Persistence { expire_quiescent: true, ..base },
            Self::Hard => Persistence { hard_threshold: true, ..base },
            Self::Group => Persistence { group: Some(7), ..base },
            Self::Linux => Persistence { since: Since::LastConnection, ..base },
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Toa {
    Off,
    Default,
    Drop,
    LateOnly,
    SynOnly,
    HandshakeOnly,
    OtherKinds,
    Versioned,
    WithVirtual,
    /// No option of its own, and those of clients stay.
    Trusted,
}

/// Everything that scripts may change.
#[derive(Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) services: Vec<Shape>,
    pub(crate) third_local: bool,
    pub(crate) first_local: bool,
    pub(crate) fixed_neighbour: bool,
    pub(crate) other_gateway: bool,
    pub(crate) mtu: Option<u16>,
    pub(crate) host_speaks: bool,
    /// Port 1 can neither finish checksums nor cut trains. Not changed by a new configuration.
    pub(crate) plain_port: bool,
    pub(crate) seed: u64,
    pub(crate) waiting: u16,
    /// Packets take the way of bursts, in which ordinary segments go a short way.
    pub(crate) bursts: bool,
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Service(usize, bool),
    Weight(usize, usize, u16),
    Servers(usize, u8),
    Thresholds(usize, usize, (u32, u32)),
    Stay(usize, Stay),
    Toa(usize, Toa),
    KeepTimestamps(usize, bool),
    ThirdLocal(bool),
    FirstLocal(bool),
    FixedNeighbour(bool),
    OtherGateway(bool),
    Mtu(Option<u16>),
    HostSpeaks(bool),
}

fn toa() -> impl Strategy<Value = Toa> {
    prop_oneof![
        6 => Just(Toa::Default),
        1 => Just(Toa::Off),
        1 => Just(Toa::Drop),
        1 => Just(Toa::LateOnly),
        1 => Just(Toa::SynOnly),
        1 => Just(Toa::HandshakeOnly),
        1 => Just(Toa::OtherKinds),
        1 => Just(Toa::Versioned),
        1 => Just(Toa::WithVirtual),
        1 => Just(Toa::Trusted),
    ]
}

fn stay() -> impl Strategy<Value = Stay> {
    use Stay::*;
    prop::sample::select(vec![Usual, Short, Nets, Quiescent, Hard, Group, Group, Linux])
}

/// `usual`: mostly none.
fn thresholds(usual: bool) -> impl Strategy<Value = (u32, u32)> {
    prop_oneof![
        if usual { 12 } else { 2 } => Just((0, 0)),
        2 => (1u32..5).prop_map(|upper| (upper, 0)),
        1 => (1u32..6, 0u32..7),
    ]
}

fn mtu() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![4 => Just(None), 1 => Just(Some(1400)), 1 => Just(Some(576))]
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let at = || 0..SERVICES.len();
    prop_oneof![
        2 => (at(), any::<bool>()).prop_map(|(at, on)| Change::Service(at, on)),
        2 => (at(), 0usize..3, 0u16..4).prop_map(|(at, n, weight)| Change::Weight(at, n, weight)),
        2 => (at(), 0u8..8).prop_map(|(at, bits)| Change::Servers(at, bits)),
        1 => (at(), 0usize..3, thresholds(false)).prop_map(|(at, n, t)| Change::Thresholds(at, n, t)),
        1 => (at(), prop_oneof![Just(Stay::No).boxed(), stay().boxed()])
            .prop_map(|(at, stay)| Change::Stay(at, stay)),
        1 => (at(), toa()).prop_map(|(at, toa)| Change::Toa(at, toa)),
        1 => (at(), any::<bool>()).prop_map(|(at, keep)| Change::KeepTimestamps(at, keep)),
        1 => any::<bool>().prop_map(Change::ThirdLocal),
        1 => any::<bool>().prop_map(Change::FirstLocal),
        1 => any::<bool>().prop_map(Change::FixedNeighbour),
        1 => any::<bool>().prop_map(Change::OtherGateway),
        1 => mtu().prop_map(Change::Mtu),
        1 => any::<bool>().prop_map(Change::HostSpeaks),
    ]
}

impl fmt::Debug for Config {
    /// One line, and of the services only what is unusual.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} waiting {} mtu {:?}", self.seed, self.waiting, self.mtu)?;
        if self.bursts {
            f.write_str(" bursts")?;
        }
        if self.plain_port {
            f.write_str(" plain port 1")?;
        }
        for (number, shape) in self.services.iter().enumerate() {
            if shape.toa != Toa::Default || shape.keep_timestamps || shape.slow {
                let Shape { toa, keep_timestamps, slow, .. } = shape;
                write!(f, "; service {number} {toa:?} keep {keep_timestamps} slow {slow}")?;
            }
            if shape.stay != Stay::No || shape.thresholds != [(0, 0); 3] {
                let Shape { stay, thresholds, .. } = shape;
                write!(f, "; service {number} stay {stay:?} thresholds {thresholds:?}")?;
            }
        }
        Ok(())
    }
}

impl Config {
    /// Mostly without persistence and thresholds.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let stays = prop_oneof![3 => Just(Stay::No).boxed(), 1 => stay().boxed()].boxed();
        Self::with(stays, thresholds(true).boxed())
    }

    /// Everybody's clients stay, and servers are soon full.
    pub(crate) fn crowded() -> impl Strategy<Value = Self> {
        Self::with(stay().boxed(), thresholds(false).boxed())
    }

    fn with(
        stay: BoxedStrategy<Stay>,
        thresholds: BoxedStrategy<(u32, u32)>,
    ) -> impl Strategy<Value = Self> {
        let thresholds = [thresholds.clone(), thresholds.clone(), thresholds];
        let slow = prop_oneof![3 => Just(false), 1 => Just(true)];
        let shape = (toa(), any::<bool>(), slow, stay, thresholds).prop_map(
            |(toa, keep_timestamps, slow, stay, thresholds)| Shape {
                present: true,
                weights: [1, 2, 1],
                servers: 7,
                thresholds,
                stay,
                toa,
                keep_timestamps,
                slow,
            },
        );
        let shapes = prop::collection::vec(shape, SERVICES.len());
        (shapes, any::<[bool; 2]>(), any::<u8>(), mtu(), 1u16..12).prop_map(
            |(services, [plain_port, bursts], seed, mtu, waiting)| Self {
                services,
                third_local: false,
                first_local: true,
                fixed_neighbour: false,
                other_gateway: false,
                mtu,
                host_speaks: false,
                plain_port,
                seed: seed.into(),
                waiting,
                bursts,
            },
        )
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match *change {
            Change::Service(at, on) => self.services[at].present = on,
            Change::Weight(at, server, weight) => self.services[at].weights[server] = weight,
            Change::Servers(at, bits) => self.services[at].servers = bits,
            Change::Thresholds(at, server, limits) => self.services[at].thresholds[server] = limits,
            Change::Stay(at, stay) => self.services[at].stay = stay,
            Change::Toa(at, toa) => self.services[at].toa = toa,
            Change::KeepTimestamps(at, keep) => self.services[at].keep_timestamps = keep,
            Change::ThirdLocal(on) => self.third_local = on,
            Change::FirstLocal(on) => self.first_local = on,
            Change::FixedNeighbour(on) => self.fixed_neighbour = on,
            Change::OtherGateway(on) => self.other_gateway = on,
            Change::Mtu(mtu) => self.mtu = mtu,
            Change::HostSpeaks(on) => self.host_speaks = on,
        }
    }

    pub(crate) fn spec(&self) -> SnapshotSpec {
        let mut pool = vec![ip("10.1.0.101"), ip("fd01::100")];
        if self.first_local {
            pool.insert(0, ip("10.1.0.100"));
        }
        if self.third_local {
            pool.push(ip("10.1.0.102"));
        }
        let mut interfaces = vec![
            Interface::new(0, &["10.0.0.1/24", "fd00::1/64"]).unwrap(),
            Interface::new(1, &["10.1.0.1/24", "fd01::1/64"]).unwrap(),
        ];
        interfaces[1].mtu = self.mtu;
        if self.host_speaks {
            interfaces[0].owner = lvs_core::snapshot::SelfOwner::Host;
        }
        let gateway = if self.other_gateway { "10.0.0.3" } else { "10.0.0.254" };
        let route = |to: &str, len, via: &str| Route {
            to: Prefix::new(ip(to), len).unwrap(),
            via: ip(via),
        };
        let fixed = StaticNeighbour { ip: ip("10.1.0.12"), mac: MacAddr([2, 9, 9, 9, 9, 9]) };
        let services = self.services.iter().zip(SERVICES).filter(|(shape, _)| shape.present);
        SnapshotSpec {
            interfaces,
            routes: vec![route("192.0.2.0", 24, gateway), route("2001:db8::", 32, "fd00::fe")],
            neighbours: if self.fixed_neighbour { vec![fixed] } else { Vec::new() },
            pools: vec![
                PoolSpec { addresses: pool },
                PoolSpec { addresses: vec![ip("10.0.0.200")] },
            ],
            marks: Vec::new(),
            services: services.map(|(shape, row)| service(shape, row)).collect(),
        }
    }
}

fn service(shape: &Shape, (addr, proto, forwarding, scheduler, pool, servers): Row) -> ServiceSpec {
    let numbered = servers.iter().zip(shape.weights).zip(shape.thresholds).enumerate();
    let servers = numbered.filter(|(at, _)| shape.servers >> at & 1 == 1);
    let base = ToaOptions::default();
    let placement =
        |syn, handshake, until_server_data| ToaPlacement { syn, handshake, until_server_data };
    let toa = match shape.toa {
        Toa::Off | Toa::Trusted => None,
        Toa::Default => Some(base),
        Toa::Drop => Some(ToaOptions { no_room: NoToaRoom::Drop, ..base }),
        Toa::LateOnly => Some(ToaOptions { placement: placement(false, false, true), ..base }),
        Toa::SynOnly => Some(ToaOptions { placement: placement(true, false, false), ..base }),
        Toa::HandshakeOnly => Some(ToaOptions { placement: placement(false, true, false), ..base }),
        Toa::Versioned => Some(ToaOptions { kind_v4: 28, format: ToaFormat::Versioned, ..base }),
        Toa::WithVirtual => Some(ToaOptions { format: ToaFormat::WithVirtual, ..base }),
        Toa::OtherKinds => Some(ToaOptions { kind_v4: 200, kind_v6: 99, ..base }),
    };
    ServiceSpec {
        key: ServiceKey::new(proto, VirtualAddr(addr.parse().unwrap())),
        forwarding,
        scheduler,
        pool: (forwarding == FullNat).then_some(pool),
        client_addr: match toa {
            Some(toa) if forwarding == FullNat => ClientAddrMode::Toa(toa),
            _ => ClientAddrMode::None,
        },
        timestamps: match shape.keep_timestamps {
            true => TimestampPolicy::Keep,
            false => TimestampPolicy::Strip,
        },
        timeouts: if shape.slow { Timeouts::KERNEL } else { Timeouts::LVS },
        persistence: shape.stay.persistence(),
        flags: ServiceFlags { trust_toa: shape.toa == Toa::Trusted, ..ServiceFlags::default() },
        servers: servers
            .map(|(_, ((addr, weight), (upper, lower)))| ServerSpec {
                thresholds: Thresholds { upper, lower },
                ..ServerSpec::new(RealAddr(addr.parse().unwrap()), Weight(weight))
            })
            .collect(),
    }
}
