//! A generation of everything a worker reads: built by the control side, never edited, swapped in between
//! bursts.
//!
//! A [`SnapshotSpec`] is plain data; [`SnapshotSpec::build`] checks it and numbers what it names. Built
//! with the previous generation, everything that stays keeps its number, so the sessions of unchanged
//! services are untouched by a reload.
//!
//! ```
//! use lvs_core::snapshot::{Interface, SnapshotSpec};
//! let spec = SnapshotSpec {
//!     interfaces: vec![Interface::new(0, &["10.0.0.1/24"]).unwrap()],
//!     ..SnapshotSpec::default()
//! };
//! let snapshot = spec.build(None)?;
//! let hop = snapshot.route("10.0.0.9".parse().unwrap()).unwrap();
//! assert_eq!((hop.port.0, hop.via.to_string()), (0, "10.0.0.9".to_string()));
//! # Ok::<(), lvs_core::snapshot::SnapshotError>(())
//! ```

mod build;
mod marks;
mod spec;

pub use marks::MarkRule;
pub use spec::{
    Interface, PoolSpec, Route, SelfOwner, ServerSpec, ServiceSpec, SnapshotError, SnapshotSpec,
    StaticNeighbour,
};

use crate::addr::{Family, Prefix, VirtualAddr};
use crate::flow::{L4Proto, WireTuple};
use crate::id::{LocalId, PoolId, ServerId, ServiceId};
use crate::io::PortId;
use crate::map::FixedMap;
use crate::near::NearMap;
use crate::service::{RealServer, ServiceKey, VirtualService};
use crate::session::LocalSource;
use crate::timeouts::{TimeoutTicks, Timeouts};
use alloc::boxed::Box;
use core::net::IpAddr;

/// Which of the director's addresses an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// An address of the box itself, on this port.
    #[doc(alias = "Self IP")]
    pub own: Option<PortId>,
    /// The address of a virtual service.
    #[doc(alias = "VIP")]
    pub virt: bool,
    /// A local address for FullNAT.
    #[doc(alias = "LIP")]
    pub local: Option<LocalId>,
}

impl Role {
    /// Whether the address is the director's in any way.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.own.is_some() || self.virt || self.local.is_some()
    }
}

/// A pool of local addresses, by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalPool {
    /// IPv4.
    pub v4: Box<[LocalSource]>,
    /// IPv6.
    pub v6: Box<[LocalSource]>,
}

impl LocalPool {
    /// The addresses of one family.
    #[must_use]
    pub fn of(&self, family: Family) -> &[LocalSource] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// The way to an address: which neighbour on which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The port.
    pub port: PortId,
    /// The neighbour: the destination itself, or a gateway.
    pub via: IpAddr,
}

/// A route of IPv4 as numbers in host byte order.
#[derive(Clone, Copy, Debug)]
struct RouteV4 {
    net: u32,
    mask: u32,
    via: Option<IpAddr>,
    port: PortId,
}

impl RouteV4 {
    fn of(prefix: &Prefix, via: Option<IpAddr>, port: PortId) -> Option<Self> {
        let IpAddr::V4(net) = prefix.addr() else { return None };
        let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix.len().into())).unwrap_or(0);
        Some(Self { net: net.to_bits(), mask, via, port })
    }
}

/// One generation.
#[derive(Clone, Debug)]
pub struct Snapshot {
    generation: u64,
    services: Box<[Option<VirtualService>]>,
    servers: Box<[Option<RealServer>]>,
    by_key: FixedMap<ServiceKey, ServiceId>,
    /// Services whose datagrams are scheduled each for itself, by the addresses of their servers.
    one_packet: FixedMap<ServiceKey, ServiceId>,
    has_one_packet: bool,
    marks: Box<[MarkRule]>,
    roles: FixedMap<IpAddr, Role>,
    /// The local addresses out of `roles` once more, for every packet.
    near_v4: NearMap<u32>,
    near_v6: NearMap<u128>,
    locals_v4: Box<[LocalSource]>,
    locals_v6: Box<[LocalSource]>,
    pools: Box<[LocalPool]>,
    interfaces: Box<[Interface]>,
    /// Connected prefixes and routes, longest prefix first.
    routes: Box<[(Prefix, Option<IpAddr>, PortId)]>,
    /// Those of IPv4 once more, as numbers.
    routes_v4: Box<[RouteV4]>,
    neighbours: Box<[StaticNeighbour]>,
    timeouts: Box<[Timeouts]>,
}

impl Snapshot {
    /// Number of the generation, one more than the previous one's.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The service that a packet to this address and port belongs to: one with exactly this port, else
    /// the address's service with port 0. Linux `ip_vs_service_find`.
    #[must_use]
    pub fn find_service(&self, proto: L4Proto, ip: IpAddr, port: u16) -> Option<&VirtualService> {
        let key = |port| ServiceKey::new(proto, VirtualAddr::new(ip, port));
        let id = self.by_key.get(&key(port)).or_else(|| self.by_key.get(&key(0)))?;
        self.service(id)
    }

    /// The service that a packet belongs to: that of its mark, else that of its destination. Linux
    /// `ip_vs_service_find`.
    #[must_use]
    pub fn classify(&self, packet: &WireTuple) -> Option<&VirtualService> {
        if !self.marks.is_empty() {
            let mark = marks::mark_of(&self.marks, packet);
            let key = ServiceKey::marked(mark, packet.family());
            let id = if mark == 0 { None } else { self.by_key.get(&key) };
            if let Some(service) = id.and_then(|id| self.service(id)) {
                return Some(service);
            }
        }
        self.find_service(packet.proto(), packet.dst(), packet.dport())
    }

    /// Whether packets to addresses that are not the director's may belong to a service.
    #[must_use]
    pub const fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    /// The service that a datagram from this server answers for, if each datagram of it is scheduled for itself.
    #[must_use]
    pub fn one_packet(&self, reply: &WireTuple) -> Option<&VirtualService> {
        if !self.has_one_packet || reply.proto() != L4Proto::Udp {
            return None;
        }
        let key = |port| ServiceKey::new(L4Proto::Udp, VirtualAddr::new(reply.src(), port));
        let id = self.one_packet.get(&key(reply.sport()));
        self.service(id.or_else(|| self.one_packet.get(&key(0)))?)
    }

    /// A service by number.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&VirtualService> {
        self.services.get(id.index())?.as_ref()
    }

    /// All services, in the order of their numbers.
    pub fn services(&self) -> impl Iterator<Item = &VirtualService> {
        self.services.iter().flatten()
    }

    /// A server by number; also one that was removed while sessions may still point at it.
    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<&RealServer> {
        self.servers.get(id.index())?.as_ref()
    }

    /// All servers, the removed ones included.
    pub fn servers(&self) -> impl Iterator<Item = &RealServer> {
        self.servers.iter().flatten()
    }

    /// One more than the highest server number.
    #[must_use]
    pub fn server_slots(&self) -> usize {
        self.servers.len()
    }

    /// One more than the highest service number.
    #[must_use]
    pub fn service_slots(&self) -> usize {
        self.services.len()
    }

    /// Which of the director's addresses this is.
    #[must_use]
    #[inline]
    pub fn role(&self, ip: &IpAddr) -> Role {
        self.roles.get(ip).unwrap_or_default()
    }

    /// Which local address this is: [`role`](Self::role)`.local`, faster. Host byte order.
    #[must_use]
    #[inline(always)]
    pub fn local_v4(&self, ip: u32) -> Option<LocalId> {
        self.near_v4.get(ip).map(LocalId)
    }

    /// The same for IPv6.
    #[must_use]
    #[inline(always)]
    pub fn local_v6(&self, ip: u128) -> Option<LocalId> {
        self.near_v6.get(ip).map(LocalId)
    }

    /// A pool by number.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> Option<&LocalPool> {
        self.pools.get(id.index())
    }

    /// All local addresses of a family, the retired ones included; the place is the [`LocalId`].
    #[must_use]
    pub fn locals(&self, family: Family) -> &[LocalSource] {
        match family {
            Family::V4 => &self.locals_v4,
            Family::V6 => &self.locals_v6,
        }
    }

    /// The ports, in the order of their numbers.
    #[must_use]
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// One port.
    #[must_use]
    pub fn interface(&self, port: PortId) -> Option<&Interface> {
        self.interfaces.get(port.index())
    }

    /// The way to an address: the longest prefix wins, connected before routed.
    #[must_use]
    pub fn route(&self, to: IpAddr) -> Option<NextHop> {
        let (_, via, port) = self.routes.iter().find(|(prefix, _, _)| prefix.contains(&to))?;
        Some(NextHop { port: *port, via: via.unwrap_or(to) })
    }

    /// The same for an IPv4 address, in host byte order, faster: port and neighbour. `None` also when the
    /// neighbour is one of IPv6.
    #[must_use]
    #[inline]
    pub fn route_v4(&self, to: u32) -> Option<(PortId, u32)> {
        let route = self.routes_v4.iter().find(|route| to & route.mask == route.net)?;
        match route.via {
            None => Some((route.port, to)),
            Some(IpAddr::V4(via)) => Some((route.port, via.to_bits())),
            Some(IpAddr::V6(_)) => None,
        }
    }

    /// The address that the director speaks from on a port, when it asks for `target`: the port's own
    /// address in the same subnet, else its first one of the family.
    #[must_use]
    pub fn source_for(&self, port: PortId, target: &IpAddr) -> Option<IpAddr> {
        let interface = self.interface(port)?;
        let family = Family::of(target);
        let mut own = interface.addresses.iter().filter(|(ip, _)| Family::of(ip) == family);
        let first = own.clone().next()?;
        let near = own.find(|(ip, len)| Prefix::new(*ip, *len).is_some_and(|p| p.contains(target)));
        Some(near.unwrap_or(first).0)
    }

    /// Neighbours whose address is configured.
    #[must_use]
    pub fn neighbours(&self) -> &[StaticNeighbour] {
        &self.neighbours
    }

    /// Distinct time-outs; the place is the [`crate::id::TimeoutClass`].
    #[must_use]
    pub fn timeouts(&self) -> &[Timeouts] {
        &self.timeouts
    }

    /// The same in ticks, into `out`; returns how many.
    pub fn timeout_ticks(&self, out: &mut [TimeoutTicks]) -> usize {
        let mut count = 0;
        for (place, timeouts) in out.iter_mut().zip(&self.timeouts) {
            *place = timeouts.ticks();
            count += 1;
        }
        count
    }
}
