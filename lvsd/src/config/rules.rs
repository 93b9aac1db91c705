//! What the values of a configuration mean together: each address has one role, references lead
//! somewhere, and every next hop is a neighbour of a port.

use super::build::group_number;
use super::diag::{At, Diagnostic, Sink, Span};
use super::model::{Config, Forwarding, LocalPool, ServerState, Service, Tunnel};
use super::range::AddressRange;
use super::read::Reading;
use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::{Family, Prefix};
use lvs_core::flow::L4Proto;
use lvs_core::session::MAX_CLASSES;
use lvs_director::MAX_PORTS;
use std::collections::{BTreeSet, HashMap};

/// Reports everything that is wrong with what was read.
pub(super) fn check(reading: &Reading, root: &Span, sink: &mut Sink) {
    let config = &reading.config;
    if config.ports.is_empty() && reading.ports_complete {
        let message = "there is no [[port]]: a director without one receives nothing";
        let help = "add a section [[port]] with name and addresses";
        sink.push(Diagnostic::error(&(root.start..root.start), message).help(help));
    }
    unique_names(config, sink);
    port_rules(config, sink);
    roles(config, sink);
    services(reading, sink);
    timeout_sets(config, sink);
    groups(config, sink);
    pools(config, sink);
    duplicate_destinations(config, sink);
    if reading.ports_complete {
        next_hops(config, sink);
    }
    // Among faults these would mostly repeat what the faults have said.
    if sink.is_usable() {
        unused_pools(config, sink);
        unreachable_servers(config, sink);
    }
}

/// Remembers where each key was first used, and reports a second use.
struct Once<K> {
    seen: HashMap<K, Span>,
}

impl<K: core::hash::Hash + Eq> Once<K> {
    fn new() -> Self {
        Self { seen: HashMap::new() }
    }

    fn enter(&mut self, key: K, span: &Span, sink: &mut Sink, message: impl FnOnce() -> String) {
        if let Some(first) = self.seen.get(&key) {
            let twice = Diagnostic::error(span, message()).label("again here");
            sink.push(twice.related(first, "first used here"));
        } else {
            self.seen.insert(key, span.clone());
        }
    }
}

fn unique_names(config: &Config, sink: &mut Sink) {
    let mut names = Once::new();
    let mut unique = |kind: &'static str, name: &At<String>, sink: &mut Sink| {
        names.enter((kind, name.value.clone()), &name.span, sink, || {
            format!("there are two {kind}s `{}`", name.value)
        });
    };
    for port in &config.ports {
        unique("port", &port.name, sink);
    }
    for pool in &config.pools {
        unique("local pool", &pool.name, sink);
    }
    for service in config.services.iter().filter(|service| !service.name.span.is_empty()) {
        unique("service", &service.name, sink);
    }
    let mut interfaces = Once::new();
    for port in &config.ports {
        let interface = &port.interface;
        // The same name twice is already said when it stands for the interface as well.
        if interface.span != port.name.span {
            interfaces.enter(interface.value.as_str(), &interface.span, sink, || {
                format!("two ports use the interface `{}`", interface.value)
            });
        }
    }
}

fn port_rules(config: &Config, sink: &mut Sink) {
    if let Some(port) = config.ports.get(usize::from(MAX_PORTS)) {
        let message = format!("there are more than {MAX_PORTS} ports");
        sink.push(Diagnostic::error(&port.name.span, message));
    }
    let mut addresses = Once::new();
    let mut prefixes: HashMap<Prefix, (usize, Span)> = HashMap::new();
    for (index, port) in config.ports.iter().enumerate() {
        for address in &port.addresses {
            addresses.enter(address.ip, &address.span, sink, || {
                format!("the self address {} is used twice", address.ip)
            });
            let (owner, first) =
                prefixes.entry(address.prefix).or_insert((index, address.span.clone()));
            if *owner != index {
                let message = format!("two ports have the neighbours {}", address.prefix);
                let twice = Diagnostic::error(&address.span, message).label("again here");
                let help = "give each port a prefix of its own";
                sink.push(twice.related(first, "first used here").help(help));
            }
        }
        let has_v6 = port.addresses.iter().any(|address| address.ip.is_ipv6());
        if let Some(mtu) = port.mtu.as_ref().filter(|mtu| has_v6 && mtu.value < 1280) {
            let message = format!("IPv6 needs an MTU of 1280 bytes, and `mtu` is {}", mtu.value);
            sink.push(Diagnostic::error(&mtu.span, message));
        }
    }
}

/// What an address is used as. A message names it as `the … of …`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    SelfAddress,
    Virtual,
    Server,
    Router,
    Neighbour,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::SelfAddress => "a self address",
            Self::Virtual => "a virtual address",
            Self::Server => "a server",
            Self::Router => "a router",
            Self::Neighbour => "a neighbour",
        }
    }

    /// Whether the director itself answers for the address.
    const fn is_ours(self) -> bool {
        matches!(self, Self::SelfAddress | Self::Virtual)
    }
}

/// Every written address except those of pools.
fn used_addresses(config: &Config) -> Vec<(IpAddr, Role, &Span)> {
    let mut used = Vec::new();
    for address in config.ports.iter().flat_map(|port| &port.addresses) {
        used.push((address.ip, Role::SelfAddress, &address.span));
    }
    for service in &config.services {
        if service.mark.is_none() {
            used.push((service.address.ip(), Role::Virtual, &service.address.span));
        }
        for server in &service.servers {
            used.push((server.address.ip(), Role::Server, &server.address.span));
        }
    }
    for mark in &config.marks {
        if let (Some(ip), Some(to)) = (mark.address(), &mark.to) {
            used.push((ip, Role::Virtual, &to.span));
        }
    }
    for route in &config.routes {
        used.push((route.via.value, Role::Router, &route.via.span));
    }
    for neighbour in &config.neighbours {
        used.push((neighbour.ip.value, Role::Neighbour, &neighbour.ip.span));
    }
    used
}

/// An address of ours has one role, and no other host has it.
fn roles(config: &Config, sink: &mut Sink) {
    let used = used_addresses(config);
    let mut ours: HashMap<IpAddr, (Role, &Span)> = HashMap::new();
    for (ip, role, span) in &used {
        if role.is_ours() {
            ours.entry(*ip).or_insert((*role, span));
        }
    }
    for (ip, role, span) in &used {
        if let Some((other, first)) = ours.get(ip).filter(|(other, _)| other != role) {
            sink.push(clash(*ip, (*role, span), (*other, first)));
        }
        for range in config.pools.iter().flat_map(|pool| &pool.addresses) {
            if range.contains(ip) {
                let message = format!("{ip} is {} and a local address", role.name());
                let help = "a local address belongs to the director alone; choose a free one";
                let clash = Diagnostic::error(span, message).label(role.name());
                sink.push(clash.related(&range.span, "a local address").help(help));
            }
        }
    }
}

fn clash(ip: IpAddr, (role, span): (Role, &Span), (other, first): (Role, &Span)) -> Diagnostic {
    let message = format!("{ip} is {} and {}", role.name(), other.name());
    let help = match (role, other) {
        (Role::Virtual, Role::SelfAddress) => {
            "the kernel would refuse connections to it; give the service an address of its own"
        }
        (Role::Server, _) => "the director cannot be its own server; name another host",
        _ => "the director cannot be its own next hop; name another host",
    };
    Diagnostic::error(span, message).label(role.name()).related(first, other.name()).help(help)
}

fn services(reading: &Reading, sink: &mut Sink) {
    let config = &reading.config;
    let mut addresses = Once::new();
    for (service, written) in config.services.iter().zip(&reading.written) {
        let (address, protocol) = (service.address.value, service.protocol);
        let mark = service.mark.as_ref().map_or(0, |mark| mark.value);
        let protocol = if mark == 0 { protocol } else { L4Proto::Tcp };
        addresses.enter((address, protocol, mark), &service.address.span, sink, || match mark {
            0 => format!("two services have the address {address} for {protocol}"),
            mark => format!("two services have the mark {mark}"),
        });
        super::served::check(config, service, sink);
        service_servers(config, service, written.servers, sink);
        server_limits(service, sink);
        slow_start(service, sink);
        one_way(config, service, sink);
        tunnels(service, sink);
        pool_family(config, service, sink);
        client_addr(service, written, sink);
    }
}

/// Sections about another way to tell the client's address than the service has.
fn client_addr(service: &Service, written: &super::read::Written, sink: &mut Sink) {
    let now = service.client_addr.name();
    let is_proxy = matches!(now, "proxy-v1" | "proxy-v2");
    for (key, span, used) in
        [("toa", &written.toa, now == "toa"), ("proxy", &written.proxy, is_proxy)]
    {
        if let (Some(span), false) = (span, used) {
            let message =
                format!("`{key}` has no effect: `client_addr` is \"{now}\" for this service");
            sink.push(Diagnostic::warning(span, message));
        }
    }
}

/// The session store tells a limited number of sets of time-outs apart.
fn timeout_sets(config: &Config, sink: &mut Sink) {
    let mut sets = Vec::new();
    for service in &config.services {
        let set = config.timeouts_of(service);
        if sets.contains(&set) {
            continue;
        }
        if sets.len() == MAX_CLASSES {
            let message = format!("there are more than {MAX_CLASSES} different sets of timeouts");
            let help = "give more services the same ones";
            sink.push(Diagnostic::error(&service.address.span, message).help(help));
            return;
        }
        sets.push(set);
    }
}

fn service_servers(config: &Config, service: &Service, written: usize, sink: &mut Sink) {
    let mut addresses = Once::new();
    for server in &service.servers {
        let address = server.address.value;
        addresses.enter(address, &server.address.span, sink, || {
            format!("the service `{}` has the server {address} twice", service.name.value)
        });
        server_family(config, service, &server.address, sink);
    }
    let span = &service.address.span;
    if service.forwarding == Forwarding::Local {
        if let Some(server) = service.servers.first() {
            let message = "the host itself is the server of a local service";
            let other = Diagnostic::error(&server.address.span, message);
            sink.push(other.help("leave [[service.server]] out"));
        }
    } else if written == 0 {
        let message = format!("the service `{}` has no server", service.name.value);
        let help = "add [[service.server]] with an address below it";
        sink.push(Diagnostic::warning(span, message).help(help));
    } else if service.servers.len() == written
        && service.servers.iter().all(|server| server.weight == 0)
    {
        let message = format!("every server of `{}` has weight 0", service.name.value);
        sink.push(Diagnostic::warning(span, message).label("refuses every new connection"));
    }
}

/// A server has the family of its service, or of its pool (NAT64); a tunnel goes across.
fn server_family(config: &Config, service: &Service, address: &At<SocketAddr>, sink: &mut Sink) {
    let (family, at) = (Family::of(&address.ip()), address.value);
    let nat64 = service.is_nat64(&config.pools);
    if service.forwarding == Forwarding::Tun || (family == service.family()) != nat64 {
        return;
    }
    let (message, help) = match (nat64, family) {
        (true, _) => (
            format!("the server {at} is not of the address family of the service's local pool"),
            "name an IPv4 server, or a local pool of IPv6 addresses",
        ),
        (false, Family::V4) => (
            format!("the server {at} is not of the service's address family"),
            "IPv6 clients reach IPv4 servers with forwarding = \"fullnat\" and a local pool of IPv4 \
             addresses; a tunnel goes across, too",
        ),
        (false, Family::V6) => (
            format!("the server {at} is not of the service's address family"),
            "nothing translates for IPv4 clients of IPv6 servers; a tunnel goes across",
        ),
    };
    let different = Diagnostic::error(&address.span, message);
    sink.push(different.related(&service.address.span, "the service").help(help));
}

/// Thresholds and time to drain that contradict what stands beside them.
fn server_limits(service: &Service, sink: &mut Sink) {
    for server in &service.servers {
        let (upper, lower) = (&server.upper_threshold, &server.lower_threshold);
        if upper.value == 0 && lower.value != 0 {
            let message = "`lower_threshold` has no effect without `upper_threshold`";
            sink.push(Diagnostic::warning(&lower.span, message));
        } else if lower.value > upper.value {
            let message = format!(
                "`lower_threshold` {} is above `upper_threshold` {}",
                lower.value, upper.value
            );
            let help = "a server that is full takes sessions again below the lower one";
            let above = Diagnostic::error(&lower.span, message).help(help);
            sink.push(above.related(&upper.span, "the upper threshold"));
        }
        if let Some(time) = server.drain_for.as_ref()
            && server.state != ServerState::Draining
        {
            let message = "`drain_for` has no effect: the server's `state` is not \"draining\"";
            sink.push(Diagnostic::warning(&time.span, message));
        }
    }
}

/// A ramp of weights where weights do not share.
fn slow_start(service: &Service, sink: &mut Sink) {
    if let Some(time) = &service.slow_start
        && service.slow_start().is_none()
    {
        let name = &service.scheduler.value;
        let message = format!("`slow_start` has no effect with the scheduler `{name}`");
        let help = "it works with wrr, wrr-smooth, wlc, sed, nq and twos";
        sink.push(Diagnostic::warning(&time.span, message).help(help));
    }
}

/// Where servers have the virtual address themselves, ports stay, and in DR nobody stands between.
fn one_way(config: &Config, service: &Service, sink: &mut Sink) {
    if !service.forwarding.is_one_way() {
        return;
    }
    let name = service.forwarding.name();
    for server in &service.servers {
        let address = &server.address;
        if address.port() != service.address.port() {
            let (port, wanted) = (address.port(), service.address.port());
            let message = format!("with {name} the server's port is the service's, not {port}");
            let help = format!("let the server listen on port {wanted}, and write that");
            let other = Diagnostic::error(&address.span, message).help(help);
            sink.push(other.related(&service.address.span, "the service"));
        }
        let ip = address.ip();
        let far = config.neighbour_port(&ip).is_none() && config.route_to(&ip).is_some();
        if far && service.forwarding == Forwarding::Dr {
            let message = format!("dr needs {ip} in the network of a port, not behind a router");
            let help = "write forwarding = \"tun\" to reach servers elsewhere";
            sink.push(Diagnostic::error(&address.span, message).help(help));
        }
    }
}

/// Keys about tunnels that have no effect.
fn tunnels(service: &Service, sink: &mut Sink) {
    let tun = service.forwarding == Forwarding::Tun;
    for server in &service.servers {
        let (tunnel, port) = (&server.tunnel, &server.tunnel_port);
        let checksum = &server.tunnel_checksum;
        let needs_tun = "the service's `forwarding` is not \"tun\"";
        let (gue, ipip) = (tunnel.value == Tunnel::Gue, tunnel.value == Tunnel::IpIp);
        for (key, span, idle, why) in [
            ("tunnel", &tunnel.span, !tun, needs_tun),
            ("tunnel_port", &port.span, !tun, needs_tun),
            ("tunnel_port", &port.span, tun && !gue, "only \"gue\" has a port"),
            ("tunnel_checksum", &checksum.span, !tun, needs_tun),
            ("tunnel_checksum", &checksum.span, tun && ipip, "\"ipip\" has no place for one"),
        ] {
            if idle && !span.is_empty() {
                sink.push(Diagnostic::warning(span, format!("`{key}` has no effect: {why}")));
            }
        }
    }
}

/// Services of a group know the same hosts and cut clients alike, or a client has no single place in them.
fn groups(config: &Config, sink: &mut Sink) {
    let mut first_of: HashMap<u32, &Service> = HashMap::new();
    for service in &config.services {
        let Some(group) = &service.persistence.group else { continue };
        let first = *first_of.entry(group_number(&group.value)).or_insert(service);
        let Some(other) = first.persistence.group.as_ref() else { continue };
        if other.value != group.value {
            let message = format!("the groups `{}` and `{}` clash", other.value, group.value);
            let clash = Diagnostic::error(&group.span, message);
            sink.push(clash.related(&other.span, "the other one").help("rename one of them"));
            continue;
        }
        let prefixes =
            |service: &Service| config.persistence_of(service).map(|p| (p.prefix_v4, p.prefix_v6));
        if prefixes(first) != prefixes(service) {
            let message =
                format!("services of the group `{}` take clients apart differently", group.value);
            let different = Diagnostic::error(&group.span, message);
            let help = "give them the same `enabled`, `prefix_v4` and `prefix_v6`";
            sink.push(different.related(&other.span, "the other one").help(help));
        }
        let hosts = |service: &Service| {
            service.servers.iter().map(|server| server.address.ip()).collect::<BTreeSet<_>>()
        };
        if hosts(first) != hosts(service) {
            let message = format!("services of the group `{}` have different hosts", group.value);
            let different = Diagnostic::warning(&group.span, message);
            let help = "a client whose host another service lacks is moved there";
            sink.push(different.related(&other.span, "the other one").help(help));
        }
    }
}

fn pool_family(config: &Config, service: &Service, sink: &mut Sink) {
    let pool = service.local_pool.and_then(|index| config.pools.get(index));
    if service.forwarding != Forwarding::FullNat {
        return;
    }
    let Some((pool, range)) = pool.and_then(|pool| Some((pool, pool.addresses.first()?))) else {
        return;
    };
    if pool.family() != Some(service.family()) && !service.is_nat64(&config.pools) {
        let message = format!(
            "the addresses of local pool `{}` are not of the service's address family",
            pool.name.value
        );
        let different = Diagnostic::error(&service.address.span, message);
        sink.push(different.related(&range.span, "the pool's addresses"));
    }
}

fn pools(config: &Config, sink: &mut Sink) {
    let ranges: Vec<(&LocalPool, &At<AddressRange>)> = config
        .pools
        .iter()
        .flat_map(|pool| pool.addresses.iter().map(move |range| (pool, range)))
        .collect();
    same_ports(config, sink);
    enough_for_workers(config, sink);
    for (index, (pool, range)) in ranges.iter().enumerate() {
        let earlier = ranges.iter().take(index).find(|(_, other)| other.overlaps(range));
        if let Some((other, first)) = earlier {
            let message = if core::ptr::eq(*pool, *other) {
                format!("the local pool `{}` has an address twice", pool.name.value)
            } else {
                let (a, b) = (&other.name.value, &pool.name.value);
                format!("the local pools `{a}` and `{b}` share an address")
            };
            let twice = Diagnostic::error(&range.span, message).label("again here");
            sink.push(twice.related(&first.span, "first used here"));
        }
        if pool.family() != Some(Family::of(&range.first())) {
            let message = format!("the local pool `{}` mixes address families", pool.name.value);
            let help = "make two pools of it";
            sink.push(Diagnostic::error(&range.span, message).help(help));
        }
    }
}

/// The place of a session follows from its local port by one plan for all local addresses.
fn same_ports(config: &Config, sink: &mut Sink) {
    let Some((first, others)) = config.pools.split_first() else { return };
    for pool in others.iter().filter(|pool| pool.ports.value != first.ports.value) {
        let message = "all local pools need the same `ports` in this version";
        let span = if pool.ports.span.is_empty() { &pool.name.span } else { &pool.ports.span };
        let other = if first.ports.span.is_empty() { &first.name.span } else { &first.ports.span };
        let different = Diagnostic::error(span, message).label(pool.ports.to_string());
        sink.push(different.related(other, first.ports.to_string()));
    }
}

/// Every worker needs local ports, and the program that spreads packets knows so many networks only.
fn enough_for_workers(config: &Config, sink: &mut Sink) {
    if config.director.workers == 1 {
        return;
    }
    if let (Err(error), Some(pool)) = (config.worker_memory(), config.pools.first()) {
        sink.push(Diagnostic::error(&pool.name.span, error.to_string()));
    }
    if let (Err(error), Some(port)) = (config.fanout(), config.ports.first()) {
        sink.push(Diagnostic::error(&port.name.span, error.to_string()));
    }
}

fn unused_pools(config: &Config, sink: &mut Sink) {
    for (index, pool) in config.pools.iter().enumerate() {
        if !config.services.iter().any(|service| service.local_pool == Some(index)) {
            let message = format!("no service uses the local pool `{}`", pool.name.value);
            sink.push(Diagnostic::warning(&pool.name.span, message));
        }
    }
}

fn duplicate_destinations(config: &Config, sink: &mut Sink) {
    let mut routes = Once::new();
    for route in &config.routes {
        let prefix = route.prefix();
        if Family::of(&prefix.addr()) == Family::of(&route.via) {
            routes.enter(prefix, &route.to.span, sink, || format!("two routes lead to {prefix}"));
        } else {
            let message = format!("the router {} is not of the family of {prefix}", *route.via);
            let different = Diagnostic::error(&route.via.span, message);
            sink.push(different.related(&route.to.span, "the destinations"));
        }
    }
    let mut neighbours = Once::new();
    for neighbour in &config.neighbours {
        let ip = neighbour.ip.value;
        neighbours
            .enter(ip, &neighbour.ip.span, sink, || format!("the neighbour {ip} is given twice"));
    }
}

/// Routers and fixed neighbours are inside the prefix of a port.
fn next_hops(config: &Config, sink: &mut Sink) {
    let hops = config.routes.iter().map(|route| ("router", &route.via));
    let hops = hops.chain(config.neighbours.iter().map(|neighbour| ("neighbour", &neighbour.ip)));
    for (what, ip) in hops {
        if config.neighbour_port(ip).is_none() {
            let message = format!("no port reaches the {what} {}", ip.value);
            sink.push(Diagnostic::error(&ip.span, message).help(known_prefixes(config)));
        }
    }
}

fn unreachable_servers(config: &Config, sink: &mut Sink) {
    for server in config.services.iter().flat_map(|service| &service.servers) {
        let ip = server.address.ip();
        if config.neighbour_port(&ip).is_none() && config.route_to(&ip).is_none() {
            let message = format!("no port and no route reaches the server {ip}");
            let help = "add a [[route]] to it, or give a port an address in its network";
            sink.push(Diagnostic::warning(&server.address.span, message).help(help));
        }
    }
}

fn known_prefixes(config: &Config) -> String {
    let addresses = config.ports.iter().flat_map(|port| {
        port.addresses.iter().map(|address| format!("{} ({})", address.prefix, port.name.value))
    });
    let known: Vec<_> = addresses.collect();
    if known.is_empty() {
        "no port has `addresses`: add them, for example [\"10.0.0.1/24\"]".to_owned()
    } else {
        format!("the ports reach {}", known.join(", "))
    }
}
