//! What the model knows from its configuration: a specification searched from front to back, and the
//! numbers that things have kept since they were first seen.

use super::Setup;
use core::net::IpAddr;
use lvs_core::addr::{MacAddr, RealAddr};
use lvs_core::flow::L4Proto;
use lvs_core::id::{ServerId, ServiceId};
use lvs_core::io::PortId;
use lvs_core::service::{Forwarding, ServiceKey};
use lvs_core::snapshot::{Interface, NextHop, SelfOwner, ServiceSpec, SnapshotSpec};

/// Which of the director's addresses an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Is {
    pub(super) own: Option<PortId>,
    pub(super) virt: bool,
    pub(super) local: bool,
}

impl Is {
    pub(super) fn ours(self) -> bool {
        self.own.is_some() || self.virt || self.local
    }
}

#[derive(Clone, Debug)]
pub(super) struct World {
    setup: Setup,
    spec: SnapshotSpec,
    /// Every service there ever was, as it was last configured. The place is its number.
    services: Vec<ServiceSpec>,
    /// Which number each service of the specification has.
    numbers: Vec<ServiceId>,
    /// Every server there ever was; the place is its number.
    servers: Vec<(ServiceId, RealAddr)>,
    /// Every local address there ever was.
    locals: Vec<IpAddr>,
}

impl World {
    pub(super) fn new(setup: Setup, spec: SnapshotSpec) -> Self {
        let mut world = Self {
            setup,
            spec: SnapshotSpec::default(),
            services: Vec::new(),
            numbers: Vec::new(),
            servers: Vec::new(),
            locals: Vec::new(),
        };
        world.install(spec);
        world
    }

    /// A service keeps its number while it is configured without a break, a server while its service
    /// does, a local address for ever.
    pub(super) fn install(&mut self, spec: SnapshotSpec) {
        let old: Vec<(ServiceKey, ServiceId)> =
            self.spec.services.iter().map(|s| s.key).zip(self.numbers.iter().copied()).collect();
        self.numbers.clear();
        for service in &spec.services {
            let kept = old.iter().find(|(key, _)| *key == service.key);
            let number = kept.map_or(ServiceId(self.services.len() as u16), |(_, id)| *id);
            self.services.resize(self.services.len().max(number.index() + 1), service.clone());
            self.services[number.index()] = service.clone();
            self.numbers.push(number);
            for server in &service.servers {
                if !self.servers.contains(&(number, server.addr)) {
                    self.servers.push((number, server.addr));
                }
            }
        }
        for ip in spec.pools.iter().flat_map(|pool| &pool.addresses) {
            if !self.locals.contains(ip) {
                self.locals.push(*ip);
            }
        }
        self.spec = spec;
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(super) fn spec(&self) -> &SnapshotSpec {
        &self.spec
    }

    /// The service for a new packet: this port, else every port.
    pub(super) fn service_at(&self, proto: L4Proto, ip: IpAddr, port: u16) -> Option<ServiceId> {
        let at = |port| {
            let same =
                |key: ServiceKey| (key.proto, key.addr.ip(), key.addr.port()) == (proto, ip, port);
            self.spec.services.iter().position(|service| same(service.key))
        };
        at(port).or_else(|| at(0)).map(|at| self.numbers[at])
    }

    /// A service as it is, or was when it was removed: its sessions go on as they began (INV-12).
    pub(super) fn service(&self, id: ServiceId) -> &ServiceSpec {
        &self.services[id.index()]
    }

    /// The numbers of configured services.
    pub(super) fn configured(&self) -> &[ServiceId] {
        &self.numbers
    }

    pub(super) fn server_number(&self, service: ServiceId, addr: RealAddr) -> ServerId {
        let at = self.servers.iter().position(|server| *server == (service, addr));
        ServerId(at.expect("every server has a number") as u16)
    }

    /// Whose server it is, and its address.
    pub(super) fn server(&self, id: ServerId) -> (ServiceId, RealAddr) {
        self.servers[id.index()]
    }

    /// What else an address is than a local one.
    fn otherwise_used(&self, ip: IpAddr) -> bool {
        let own =
            self.spec.interfaces.iter().flat_map(|i| i.addresses.iter()).any(|(a, _)| *a == ip);
        let by = |service: &ServiceSpec| {
            service.key.addr.ip() == ip || service.servers.iter().any(|s| s.addr.ip() == ip)
        };
        own || self.spec.services.iter().any(by)
    }

    pub(super) fn is(&self, ip: IpAddr) -> Is {
        let has = |interface: &&Interface| interface.addresses.iter().any(|(own, _)| *own == ip);
        Is {
            own: self.spec.interfaces.iter().rev().find(has).map(|interface| interface.port),
            virt: self.spec.services.iter().any(|service| service.key.addr.ip() == ip),
            local: self.locals.contains(&ip) && !self.otherwise_used(ip),
        }
    }

    /// Number of a local address within its family.
    pub(super) fn local_number(&self, ip: IpAddr) -> usize {
        let family = self.locals.iter().filter(|local| local.is_ipv4() == ip.is_ipv4());
        family.take_while(|local| **local != ip).count()
    }

    /// The local addresses for a service's sessions, in order.
    pub(super) fn pool(&self, service: &ServiceSpec) -> Option<(usize, Vec<IpAddr>)> {
        let at = service.pool.filter(|_| service.forwarding == Forwarding::FullNat)?;
        let v4 = service.key.addr.ip().is_ipv4();
        let addresses = self.spec.pools[at].addresses.iter().copied();
        Some((at, addresses.filter(|ip| ip.is_ipv4() == v4).collect()))
    }

    pub(super) fn interface(&self, port: PortId) -> Option<&Interface> {
        self.spec.interfaces.get(port.index())
    }

    pub(super) fn director_owns(&self, port: PortId) -> bool {
        self.interface(port).is_some_and(|i| i.owner == SelfOwner::Director)
    }

    pub(super) fn mac(&self, port: PortId) -> MacAddr {
        let configured = self.interface(port).and_then(|interface| interface.mac);
        configured.unwrap_or(self.setup.ports[port.index()].mac)
    }

    pub(super) fn mtu(&self, port: PortId) -> usize {
        let configured = self.interface(port).and_then(|interface| interface.mtu);
        let actual = self.setup.ports[port.index()].mtu;
        usize::from(configured.map_or(actual, |mtu| mtu.min(actual)))
    }

    /// The longest prefix wins, a connected one before a route of the same length.
    pub(super) fn route(&self, to: IpAddr) -> Option<NextHop> {
        let mut best: Option<(u8, NextHop)> = None;
        let mut consider = |len: u8, hop: NextHop| {
            if best.is_none_or(|(longest, _)| len > longest) {
                best = Some((len, hop));
            }
        };
        for interface in &self.spec.interfaces {
            for (ip, len) in interface.addresses.iter().filter(|(ip, len)| within(*ip, *len, to)) {
                let _ = ip;
                consider(*len, NextHop { port: interface.port, via: to });
            }
        }
        for route in &self.spec.routes {
            if within(route.to.addr(), route.to.len(), to)
                && let Some(port) = self.connected(route.via)
            {
                consider(route.to.len(), NextHop { port, via: route.via });
            }
        }
        best.map(|(_, hop)| hop)
    }

    /// The port in whose subnet an address is.
    fn connected(&self, to: IpAddr) -> Option<PortId> {
        let mut best: Option<(u8, PortId)> = None;
        for interface in &self.spec.interfaces {
            for (_, len) in interface.addresses.iter().filter(|(ip, len)| within(*ip, *len, to)) {
                if best.is_none_or(|(longest, _)| *len > longest) {
                    best = Some((*len, interface.port));
                }
            }
        }
        best.map(|(_, port)| port)
    }

    /// Whether a port has a subnet with this address.
    pub(super) fn is_near(&self, port: PortId, ip: IpAddr) -> bool {
        let subnets = self.interface(port).map(|interface| &interface.addresses[..]);
        subnets.unwrap_or_default().iter().any(|(own, len)| within(*own, *len, ip))
    }

    /// Whether the director answers for an address on a port: `None` = the host does.
    pub(super) fn speaks_for(&self, ip: IpAddr, port: PortId) -> Option<bool> {
        let is = self.is(ip);
        if is.own.is_some_and(|own| !self.director_owns(own)) {
            return None;
        }
        let ports = self.spec.interfaces.iter().map(|interface| interface.port);
        let nowhere_near = !ports.into_iter().any(|port| self.is_near(port, ip));
        Some(is.ours() && (self.is_near(port, ip) || nowhere_near))
    }

    /// Who asks for a neighbour: the port's address in its subnet, else its first of the family.
    pub(super) fn asker(&self, port: PortId, target: IpAddr) -> Option<IpAddr> {
        let addresses = self.interface(port)?.addresses.iter();
        let family: Vec<_> = addresses.filter(|(ip, _)| ip.is_ipv4() == target.is_ipv4()).collect();
        let near = family.iter().find(|(ip, len)| within(*ip, *len, target));
        near.or(family.first()).map(|(ip, _)| *ip)
    }

    /// Whether this is the broadcast address of one of the port's subnets.
    pub(super) fn is_broadcast(&self, port: PortId, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        let subnets = self.interface(port).map(|interface| &interface.addresses[..]);
        subnets.unwrap_or_default().iter().any(|(own, len)| match own {
            IpAddr::V4(own) => *len < 31 && own.to_bits() | (u32::MAX >> len) == ip.to_bits(),
            IpAddr::V6(_) => false,
        })
    }
}

/// Whether two addresses agree in their first `len` bits.
fn within(a: IpAddr, len: u8, b: IpAddr) -> bool {
    let bits = |ip: IpAddr| -> Vec<bool> {
        let bytes = match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        bytes.iter().flat_map(|byte| (0..8).map(move |at| byte >> (7 - at) & 1 == 1)).collect()
    };
    a.is_ipv4() == b.is_ipv4() && bits(a).iter().zip(bits(b)).take(len.into()).all(|(a, b)| *a == b)
}
