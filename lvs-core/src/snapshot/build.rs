//! From a specification to a snapshot: checks, and numbers that stay over generations.

use super::marks::MarkRule;
use super::{
    LocalPool, PoolSpec, Role, RouteV4, ServerSpec, ServiceSpec, Snapshot, SnapshotError,
    SnapshotSpec,
};
use crate::addr::{Family, Prefix, RealAddr, VirtualAddr};
use crate::flow::L4Proto;
use crate::id::{LocalId, PoolId, ServerId, ServiceId, TimeoutClass};
use crate::io::PortId;
use crate::map::FixedMap;
use crate::near::NearMap;
use crate::service::{
    ClientAddrMode, Forwarding, RealServer, ServerState, ServiceKey, VirtualService,
};
use crate::session::{LocalSource, MAX_CLASSES};
use crate::timeouts::Timeouts;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

type Routes = Box<[(Prefix, Option<IpAddr>, PortId)]>;

impl SnapshotSpec {
    /// Checks the specification and builds the next generation. With `previous`, whatever stays keeps
    /// its number: services by address, port and protocol, servers by service and address, local
    /// addresses by address. What has gone stays known as removed, for the sessions that still use it.
    ///
    /// # Errors
    /// The first [`SnapshotError`] found.
    pub fn build(self, previous: Option<&Snapshot>) -> Result<Snapshot, SnapshotError> {
        let routes = self.routes()?;
        let others = self.other_addresses();
        let (locals_v4, locals_v6) = self.locals(previous, &others)?;
        let pools = self.pools(&locals_v4, &locals_v6);
        let timeouts = self.timeouts(previous)?;
        let mut numbering = Numbering::new(previous);
        let mut by_key: BTreeMap<ServiceKey, ServiceId> = BTreeMap::new();
        for spec in &self.services {
            self.check_service(spec, &pools, &routes)?;
            if by_key.contains_key(&spec.key) {
                return Err(SnapshotError::ServiceTwice(spec.key));
            }
            by_key.insert(spec.key, numbering.add(spec, &timeouts)?);
        }
        let one_packet = self.one_packet(&by_key);
        let by_key: Vec<_> = by_key.into_iter().collect();
        let roles: Vec<_> =
            self.roles(locals_v4.iter().chain(&locals_v6), &others).into_iter().collect();
        let local = |(ip, role): &(IpAddr, Role)| Some((*ip, role.local?.0));
        let v4 = |(ip, id)| if let IpAddr::V4(v4) = ip { Some((v4.to_bits(), id)) } else { None };
        let v6 = |(ip, id)| if let IpAddr::V6(v6) = ip { Some((v6.to_bits(), id)) } else { None };
        let near_v4: Vec<_> = roles.iter().filter_map(local).filter_map(v4).collect();
        let near_v6: Vec<_> = roles.iter().filter_map(local).filter_map(v6).collect();
        Ok(Snapshot {
            generation: previous.map_or(1, |old| old.generation.wrapping_add(1)),
            services: numbering.services.into(),
            servers: numbering.servers.into(),
            by_key: FixedMap::new(&by_key),
            one_packet: FixedMap::new(&one_packet),
            has_one_packet: !one_packet.is_empty(),
            marks: self.marks.into(),
            roles: FixedMap::new(&roles),
            near_v4: NearMap::new(&near_v4),
            near_v6: NearMap::new(&near_v6),
            locals_v4: locals_v4.into(),
            locals_v6: locals_v6.into(),
            pools,
            interfaces: self.interfaces.into(),
            routes_v4: routes
                .iter()
                .filter_map(|(prefix, via, port)| RouteV4::of(prefix, *via, *port))
                .collect(),
            routes,
            neighbours: self.neighbours.into(),
            timeouts: timeouts.into(),
        })
    }

    fn routes(&self) -> Result<Routes, SnapshotError> {
        let mut routes = Vec::new();
        for (expected, interface) in (0u16..).zip(&self.interfaces) {
            if interface.port != PortId(expected) {
                return Err(SnapshotError::PortOrder { expected });
            }
            let connected = interface.addresses.iter();
            routes.extend(
                connected
                    .filter_map(|(ip, len)| Prefix::new(*ip, *len))
                    .map(|prefix| (prefix, None, interface.port)),
            );
        }
        let connected = routes.clone();
        let port_of = |ip: &IpAddr| {
            let on = connected.iter().filter(|(prefix, _, _)| prefix.contains(ip));
            // Of equal ones the first, as for destinations.
            on.min_by_key(|(prefix, _, _)| core::cmp::Reverse(prefix.len()))
                .map(|(_, _, port)| *port)
        };
        for route in &self.routes {
            let port = port_of(&route.via).ok_or(SnapshotError::Unreachable(route.via))?;
            routes.push((route.to, Some(route.via), port));
        }
        for neighbour in &self.neighbours {
            port_of(&neighbour.ip).ok_or(SnapshotError::Unreachable(neighbour.ip))?;
        }
        // Stable: connected prefixes come before routes of the same length.
        routes.sort_by_key(|(prefix, _, _)| core::cmp::Reverse(prefix.len()));
        Ok(routes.into())
    }

    /// Local addresses of both families; the place of each is its number.
    fn locals(
        &self,
        previous: Option<&Snapshot>,
        others: &BTreeSet<IpAddr>,
    ) -> Result<(Vec<LocalSource>, Vec<LocalSource>), SnapshotError> {
        let old = |family| previous.map_or_else(Vec::new, |old| old.locals(family).to_vec());
        let (mut v4, mut v6) = (old(Family::V4), old(Family::V6));
        let known: BTreeSet<IpAddr> = v4.iter().chain(&v6).map(|source| source.ip).collect();
        let mut seen = BTreeSet::new();
        for ip in self.pools.iter().flat_map(|pool| &pool.addresses) {
            if !seen.insert(*ip) || others.contains(ip) {
                return Err(SnapshotError::LocalClash(*ip));
            }
            if !known.contains(ip) {
                let list = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
                let id = u16::try_from(list.len()).map_err(|_| SnapshotError::TooMany)?;
                list.push(LocalSource { id: LocalId(id), ip: *ip });
            }
        }
        Ok((v4, v6))
    }

    /// Every address that is something else than a local one: own, service, server.
    fn other_addresses(&self) -> BTreeSet<IpAddr> {
        let own = self.interfaces.iter().flat_map(|interface| &interface.addresses);
        let services = self.services.iter().flat_map(|service| {
            let servers = service.servers.iter().map(|server| server.addr.ip());
            servers.chain(service.key.ip())
        });
        let marked = self.marks.iter().filter_map(MarkRule::address);
        own.map(|(ip, _)| *ip).chain(services).chain(marked).collect()
    }

    fn pools(&self, v4: &[LocalSource], v6: &[LocalSource]) -> Box<[LocalPool]> {
        let by_ip: BTreeMap<IpAddr, LocalSource> =
            v4.iter().chain(v6).map(|source| (source.ip, *source)).collect();
        let members = |pool: &PoolSpec, v4: bool| {
            let wanted = pool.addresses.iter().filter(|ip| ip.is_ipv4() == v4);
            wanted.filter_map(|ip| by_ip.get(ip).copied()).collect()
        };
        let split = |pool| LocalPool { v4: members(pool, true), v6: members(pool, false) };
        self.pools.iter().map(split).collect()
    }

    /// Distinct time-outs. Those of the previous generation keep their class, because sessions carry
    /// it. When all classes are taken, one that no service has any more is given away, best one that
    /// was already unused before; sessions that still carry it follow its new time-outs. Class 0 exists
    /// even without a service.
    fn timeouts(&self, previous: Option<&Snapshot>) -> Result<Vec<Timeouts>, SnapshotError> {
        let mut distinct = previous.map_or_else(Vec::new, |old| old.timeouts.to_vec());
        let mut wanted: Vec<Timeouts> = Vec::new();
        for service in &self.services {
            if !wanted.contains(&service.timeouts) {
                wanted.push(service.timeouts);
            }
        }
        let used_before: BTreeSet<usize> = previous
            .into_iter()
            .flat_map(Snapshot::services)
            .map(|service| service.timeouts.index())
            .collect();
        for timeouts in &wanted {
            if distinct.contains(timeouts) {
                continue;
            }
            if distinct.len() < MAX_CLASSES {
                distinct.push(*timeouts);
                continue;
            }
            let unused = distinct.iter().enumerate().filter(|(_, have)| !wanted.contains(have));
            let best = unused.map(|(class, _)| class).min_by_key(|at| used_before.contains(at));
            let place = best.and_then(|class| distinct.get_mut(class));
            *place.ok_or(SnapshotError::TooManyTimeouts)? = *timeouts;
        }
        if distinct.is_empty() {
            distinct.push(Timeouts::default());
        }
        Ok(distinct)
    }

    fn check_service(
        &self,
        spec: &ServiceSpec,
        pools: &[LocalPool],
        routes: &Routes,
    ) -> Result<(), SnapshotError> {
        let family = Family::of(&spec.key.addr.ip());
        // A server is spoken to from an address of its own family: that of its service, or IPv4 behind an IPv6
        // service with a pool (NAT64).
        let full = spec.forwarding == Forwarding::FullNat;
        if full {
            let pool = spec.pool.and_then(|at| pools.get(at));
            let pool = pool.ok_or(SnapshotError::NoPool(spec.key))?;
            let mut needed = spec.servers.iter().map(|server| Family::of(&server.addr.ip()));
            let none = spec.servers.is_empty() && pool.of(family).is_empty() && pool.v4.is_empty();
            if none || needed.any(|family| pool.of(family).is_empty()) {
                return Err(SnapshotError::PoolFamily(spec.key));
            }
        }
        // Ports and chunks of SCTP need replies that pass here, and CRC32c no change of version.
        let other = |server: &ServerSpec| Family::of(&server.addr.ip()) != family;
        if spec.key.proto == L4Proto::Sctp
            && (spec.forwarding.is_one_way()
                || spec.forwarding == Forwarding::Local
                || spec.client_addr != ClientAddrMode::None
                || spec.servers.iter().any(other))
        {
            return Err(SnapshotError::Sctp(spec.key));
        }
        let by_mark = spec.key.mark != 0 && spec.forwarding == Forwarding::Nat;
        if spec.flags.one_packet && (by_mark || spec.forwarding == Forwarding::FullNat) {
            return Err(SnapshotError::OnePacket(spec.key));
        }
        if spec.key.proto == L4Proto::Icmp && spec.key.addr.port() != 0 {
            return Err(SnapshotError::EchoPort(spec.key));
        }
        if spec.flags.quic.is_some_and(|len| !(1..=20).contains(&len)) {
            return Err(SnapshotError::QuicLength(spec.key));
        }
        let mut seen = BTreeSet::new();
        for server in &spec.servers {
            // A tunnel of either family carries packets of either family.
            let nat64 = full && family == Family::V6 && spec.key.proto != L4Proto::Icmp;
            let any = nat64 || spec.forwarding == Forwarding::Tun;
            if Family::of(&server.addr.ip()) != family && !any {
                return Err(SnapshotError::ServerFamily(server.addr));
            }
            if !seen.insert(server.addr) {
                return Err(SnapshotError::ServerTwice(server.addr));
            }
            if spec.forwarding.is_one_way() && server.addr.port() != spec.key.addr.port() {
                return Err(SnapshotError::ServerPort(server.addr));
            }
            let ip = server.addr.ip();
            let way = routes.iter().find(|(prefix, _, _)| prefix.contains(&ip));
            if spec.forwarding == Forwarding::Dr && way.is_some_and(|(_, via, _)| via.is_some()) {
                return Err(SnapshotError::ServerBehindRouter(server.addr));
            }
        }
        Ok(())
    }

    /// What each address is. A local address that has left its pool still takes replies, unless it has
    /// become something else.
    fn roles<'a>(
        &self,
        locals: impl Iterator<Item = &'a LocalSource>,
        others: &BTreeSet<IpAddr>,
    ) -> BTreeMap<IpAddr, Role> {
        let mut roles: BTreeMap<IpAddr, Role> = BTreeMap::new();
        for interface in &self.interfaces {
            for (ip, _) in &interface.addresses {
                roles.entry(*ip).or_default().own = Some(interface.port);
            }
        }
        for service in &self.services {
            let Some(ip) = service.key.ip() else { continue };
            let role = roles.entry(ip).or_default();
            role.virt = true;
            if service.forwarding == Forwarding::Local {
                role.own = role.own.or_else(|| self.nearest_port(&ip));
            }
        }
        for ip in self.marks.iter().filter_map(MarkRule::address) {
            roles.entry(ip).or_default().virt = true;
        }
        for source in locals.filter(|source| !others.contains(&source.ip)) {
            roles.entry(source.ip).or_default().local = Some(source.id);
        }
        roles
    }
}

impl SnapshotSpec {
    /// The port whose subnet an address is in, else the first one.
    fn nearest_port(&self, ip: &IpAddr) -> Option<PortId> {
        let near = self.interfaces.iter().find(|interface| {
            let mut own = interface.addresses.iter();
            own.any(|(own, len)| Prefix::new(*own, *len).is_some_and(|p| p.contains(ip)))
        });
        near.or(self.interfaces.first()).map(|interface| interface.port)
    }

    /// The services whose servers answer packets that no session knows, by the servers' addresses. Of two that
    /// share a server the first one has its answers.
    fn one_packet(&self, ids: &BTreeMap<ServiceKey, ServiceId>) -> Vec<(ServiceKey, ServiceId)> {
        let mut all = BTreeMap::new();
        for service in &self.services {
            let nat = service.flags.one_packet && service.forwarding == Forwarding::Nat;
            let (true, Some(id)) = (nat, ids.get(&service.key)) else { continue };
            for server in &service.servers {
                let addr = VirtualAddr::new(server.addr.ip(), server.addr.port());
                all.entry(ServiceKey::new(L4Proto::Udp, addr)).or_insert(*id);
            }
        }
        all.into_iter().collect()
    }
}

/// Numbers of services and servers, taken over from the previous generation.
struct Numbering {
    services: Vec<Option<VirtualService>>,
    servers: Vec<Option<RealServer>>,
    old: BTreeMap<ServiceKey, ServiceId>,
    known: BTreeMap<(ServiceId, RealAddr), ServerId>,
}

impl Numbering {
    fn new(previous: Option<&Snapshot>) -> Self {
        let Some(old) = previous else {
            return Self {
                services: Vec::new(),
                servers: Vec::new(),
                old: BTreeMap::new(),
                known: BTreeMap::new(),
            };
        };
        let retired = |server: &RealServer| RealServer { state: ServerState::Removed, ..*server };
        Self {
            services: vec![None; old.services.len()],
            servers: old.servers.iter().map(|entry| entry.as_ref().map(retired)).collect(),
            old: old.services().map(|service| (service.key, service.id)).collect(),
            known: old.servers().map(|server| ((server.service, server.addr), server.id)).collect(),
        }
    }

    fn add(
        &mut self,
        spec: &ServiceSpec,
        timeouts: &[Timeouts],
    ) -> Result<ServiceId, SnapshotError> {
        let id = self.service_id(&spec.key)?;
        let servers = spec
            .servers
            .iter()
            .map(|server| {
                let number = self.server_id(id, &server.addr)?;
                let entry = RealServer {
                    id: number,
                    service: id,
                    addr: server.addr,
                    weight: server.weight,
                    share: server.share.clamp(1, 100),
                    thresholds: server.thresholds,
                    state: server.state,
                    tunnel: server.tunnel,
                };
                if let Some(place) = self.servers.get_mut(number.index()) {
                    *place = Some(entry);
                }
                Ok(number)
            })
            .collect::<Result<Box<[ServerId]>, SnapshotError>>()?;
        let class = timeouts.iter().position(|have| *have == spec.timeouts).unwrap_or(0);
        let pool = spec.pool.map(u16::try_from).transpose().map_err(|_| SnapshotError::TooMany)?;
        let service = VirtualService {
            id,
            key: spec.key,
            forwarding: spec.forwarding,
            scheduler: spec.scheduler,
            pool: pool.map(PoolId),
            client_addr: spec.client_addr,
            timestamps: spec.timestamps,
            timeouts: TimeoutClass(u8::try_from(class).unwrap_or(0)),
            persistence: spec.persistence,
            flags: spec.flags,
            servers,
        };
        if let Some(place) = self.services.get_mut(id.index()) {
            *place = Some(service);
        }
        Ok(id)
    }

    fn service_id(&mut self, key: &ServiceKey) -> Result<ServiceId, SnapshotError> {
        if let Some(id) = self.old.get(key) {
            return Ok(*id);
        }
        // A new service takes a new number: sessions of a removed one may still carry the old number
        // through their servers.
        let id = u16::try_from(self.services.len()).map_err(|_| SnapshotError::TooMany)?;
        self.services.push(None);
        Ok(ServiceId(id))
    }

    fn server_id(
        &mut self,
        service: ServiceId,
        addr: &RealAddr,
    ) -> Result<ServerId, SnapshotError> {
        if let Some(id) = self.known.get(&(service, *addr)) {
            return Ok(*id);
        }
        let id = u16::try_from(self.servers.len()).map_err(|_| SnapshotError::TooMany)?;
        self.servers.push(None);
        Ok(ServerId(id))
    }
}
