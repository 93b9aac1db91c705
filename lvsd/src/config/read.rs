//! Turns the TOML tree into the typed [`Config`], section by section.
//!
//! Faults of single values are reported here; what several values mean together is looked at by
//! [`super::rules`]. Elements that lack what identifies them are left out of the result, which
//! is why the result is handed on only when nothing was wrong.

use super::diag::{At, Diagnostic, Sink, Span};
use super::model::{
    ClientAddrPolicy, Config, Director, Forwarding, LocalPool, Neighbour, Port, PortRange, Profile,
    Route, SelfOwner, Server, Service, Timeouts, Timestamps, Toa, ToaNoRoom, ToaPlacement,
};
use super::reader::{Table, Wrong, article, open_all};
use super::{guess, schema, value};
use lvs_core::flow::L4Proto;
use toml::de::{DeTable, DeValue};

/// Most NAT sessions of an address family: their memory is then about 10 GiB.
const MOST_SESSIONS: i64 = 1 << 26;
/// Most addresses of one pool: about 260 million sessions.
const MOST_POOL_ADDRESSES: u128 = 1 << 12;
/// The option kinds below belong to the common options of TCP, MPTCP and Fast Open among them.
const LEAST_TOA_KIND: i64 = 35;

/// The tree as far as it can be read.
pub(super) struct Reading {
    /// What was read.
    pub(super) config: Config,
    /// Whether every port was read without a fault, so that prefixes can be relied upon.
    pub(super) ports_complete: bool,
    /// What else is known about each service.
    pub(super) written: Vec<Written>,
}

/// What stands in a service section and is lost in the typed service.
pub(super) struct Written {
    /// The header of its `toa` section.
    pub(super) toa: Option<Span>,
    /// How many servers it names, faulty ones included.
    pub(super) servers: usize,
}

/// Reads the whole tree.
pub(super) fn tree(root: &DeTable<'_>, sink: &mut Sink) -> Reading {
    report_unknown_sections(root, sink);
    let mut config = Config::default();
    if let Some(mut table) = one(&schema::DIRECTOR, root, sink) {
        config.director = director(&mut table, sink);
        table.finish();
    }
    if let Some(mut table) = one(&schema::TIMEOUTS, root, sink) {
        config.timeouts = timeouts(&mut table, sink);
        table.finish();
    }
    let before = sink.len();
    config.ports = all(&schema::PORT, root, port, sink);
    let ports_complete = sink.len() == before;
    config.routes = all(&schema::ROUTE, root, route, sink);
    config.neighbours = all(&schema::NEIGHBOUR, root, neighbour, sink);
    config.pools = all(&schema::LOCAL_POOL, root, local_pool, sink);
    let pools = PoolNames::of(root, &config.pools);
    let services = all(&schema::SERVICE, root, |table, sink| service(table, &pools, sink), sink);
    let (services, written) = services.into_iter().unzip();
    config.services = services;
    Reading { config, ports_complete, written }
}

fn report_unknown_sections(root: &DeTable<'_>, sink: &mut Sink) {
    for key in root.keys() {
        let name = key.get_ref().as_ref();
        if schema::top_level().any(|section| section.path == name) {
            continue;
        }
        let unknown = Diagnostic::error(&key.span(), format!("unknown section `{name}`"));
        let close = guess::closest(name, schema::top_level().map(|section| section.path));
        let home = schema::SECTIONS.iter().find(|section| section.names().any(|n| n == name));
        sink.push(unknown.help(match (close, home) {
            (Some(close), _) => format!("did you mean `{close}`?"),
            (None, Some(home)) => format!("`{name}` belongs in {}", home.header()),
            (None, None) => {
                let headers: Vec<_> = schema::top_level().map(schema::Section::header).collect();
                format!("the sections are: {}", headers.join(", "))
            }
        }));
    }
}

fn one<'t, 'i>(
    section: &'static schema::Section,
    root: &'t DeTable<'i>,
    sink: &mut Sink,
) -> Option<Table<'t, 'i>> {
    root.get(section.path).and_then(|value| Table::open(section, value, sink))
}

fn all<T>(
    section: &'static schema::Section,
    root: &DeTable<'_>,
    mut read: impl FnMut(&mut Table<'_, '_>, &mut Sink) -> Option<T>,
    sink: &mut Sink,
) -> Vec<T> {
    let Some(value) = root.get(section.path) else { return Vec::new() };
    let mut read_all = Vec::new();
    for mut table in open_all(section, value, sink) {
        read_all.extend(read(&mut table, sink));
        table.finish();
    }
    read_all
}

fn director(table: &mut Table<'_, '_>, sink: &mut Sink) -> Director {
    let default = Director::default();
    Director {
        name: table.or("name", default.name, value::name, sink).value,
        seed: table
            .optional("seed", |v| value::integer(v, 0, i64::MAX), sink)
            .map(|seed| seed.value),
        sessions: table
            .or("sessions", default.sessions, |v| value::integer(v, 1, MOST_SESSIONS), sink)
            .value,
        workers: table.or("workers", default.workers, workers, sink).value,
    }
}

fn workers(written: &DeValue<'_>) -> Result<u16, Wrong> {
    match value::integer(written, 1, 1024)? {
        1 => Ok(1),
        more => Err(Wrong::new(format!("cannot be {more}: this version has one worker"))
            .help("write workers = 1, or leave it out")),
    }
}

/// The twelve timeouts have one type, one reader and one name each.
fn timeouts(table: &mut Table<'_, '_>, sink: &mut Sink) -> Timeouts {
    let profiles = [("lvs", Profile::Lvs), ("kernel", Profile::Kernel), ("rfc", Profile::Rfc)];
    let profile = table.optional("profile", |v| value::choice(v, &profiles), sink);
    let mut duration =
        |name| table.optional(name, value::duration, sink).map(|duration| duration.value);
    Timeouts {
        profile: profile.map(|profile| profile.value),
        tcp_none: duration("tcp_none"),
        tcp_established: duration("tcp_established"),
        tcp_syn_sent: duration("tcp_syn_sent"),
        tcp_syn_recv: duration("tcp_syn_recv"),
        tcp_fin_wait: duration("tcp_fin_wait"),
        tcp_time_wait: duration("tcp_time_wait"),
        tcp_close: duration("tcp_close"),
        tcp_close_wait: duration("tcp_close_wait"),
        tcp_last_ack: duration("tcp_last_ack"),
        tcp_listen: duration("tcp_listen"),
        tcp_synack: duration("tcp_synack"),
        udp: duration("udp"),
    }
}

fn port(table: &mut Table<'_, '_>, sink: &mut Sink) -> Option<Port> {
    let name = table.required("name", value::name, sink);
    let interface = table.optional("interface", value::interface, sink);
    let mac = table.optional("mac", value::mac, sink);
    let mtu = table.optional("mtu", |v| value::integer(v, 576, 65_535), sink);
    let addresses = table.list("addresses", value::self_address, sink).unwrap_or_default();
    let owners = [("kernel", SelfOwner::Kernel), ("director", SelfOwner::Director)];
    let self_owner = table.optional("self_owner", |v| value::choice(v, &owners), sink);
    let name = name?;
    let interface = interface.unwrap_or_else(|| {
        if let Err(why) = value::interface_name(&name) {
            let message = format!("`name` \"{}\" {why}", name.value);
            let help = "name the interface: interface = \"eth0\"";
            sink.push(Diagnostic::error(&name.span, message).help(help));
        }
        name.clone()
    });
    let self_owner = self_owner.map(|owner| owner.value);
    Some(Port { name, interface, mac, mtu, addresses, self_owner })
}

fn route(table: &mut Table<'_, '_>, sink: &mut Sink) -> Option<Route> {
    let to = table.required("to", value::target, sink);
    let via = table.required("via", value::host, sink);
    Some(Route { to: to?, via: via? })
}

fn neighbour(table: &mut Table<'_, '_>, sink: &mut Sink) -> Option<Neighbour> {
    let ip = table.required("ip", value::host, sink);
    let mac = table.required("mac", value::mac, sink);
    Some(Neighbour { ip: ip?, mac: mac?.value })
}

fn local_pool(table: &mut Table<'_, '_>, sink: &mut Sink) -> Option<LocalPool> {
    let name = table.required("name", value::name, sink);
    let addresses = table.required_list("addresses", value::address_range, sink);
    let ports = table.or("ports", PortRange::DEFAULT, value::port_range, sink);
    let pool = LocalPool { name: name?, addresses: addresses.unwrap_or_default(), ports };
    let count = pool.address_count();
    if count > MOST_POOL_ADDRESSES {
        let message = format!(
            "local pool `{}` has {count} addresses; {MOST_POOL_ADDRESSES} is the most",
            pool.name.value
        );
        sink.push(Diagnostic::error(&pool.name.span, message));
    }
    Some(pool)
}

/// The names of the pools, those of faulty ones included, so that a fault in a pool is not
/// reported a second time at the services that use it.
struct PoolNames {
    /// By index into the pools that were read.
    read: Vec<String>,
    faulty: Vec<String>,
}

impl PoolNames {
    fn of(root: &DeTable<'_>, pools: &[LocalPool]) -> Self {
        let read: Vec<_> = pools.iter().map(|pool| pool.name.value.clone()).collect();
        let written = root.get(schema::LOCAL_POOL.path).and_then(|v| v.get_ref().as_array());
        let names = written.into_iter().flat_map(|tables| tables.iter());
        let names = names.filter_map(|table| table.get_ref().get("name")?.get_ref().as_str());
        let faulty = names.filter(|name| !read.iter().any(|r| r == name)).map(str::to_owned);
        Self { faulty: faulty.collect(), read }
    }

    /// The pool of that name.
    fn find(&self, name: &At<String>, sink: &mut Sink) -> Option<usize> {
        let found = self.read.iter().position(|pool| *pool == name.value);
        if found.is_none() && !self.faulty.contains(&name.value) {
            let message = format!("there is no local pool `{}`", name.value);
            let missing = Diagnostic::error(&name.span, message);
            let names = || self.read.iter().map(String::as_str);
            sink.push(match guess::closest(name, names()) {
                Some(close) => missing.help(format!("did you mean \"{close}\"?")),
                None if self.read.is_empty() => missing.help(ADD_A_POOL),
                None => missing.help(format!("the pools are: {}", self.read.join(", "))),
            });
        }
        found
    }
}

const ADD_A_POOL: &str = "add a section [[local_pool]] with name and addresses";

fn service(
    table: &mut Table<'_, '_>,
    pools: &PoolNames,
    sink: &mut Sink,
) -> Option<(Service, Written)> {
    let name = table.optional("name", value::name, sink);
    let address = table.required("address", value::endpoint, sink);
    let protocols = [("tcp", L4Proto::Tcp), ("udp", L4Proto::Udp)];
    let protocol = table.or("protocol", L4Proto::Tcp, |v| value::choice(v, &protocols), sink).value;
    let forwarding = table.or("forwarding", Forwarding::FullNat, forwarding, sink);
    let scheduler = table.or("scheduler", "wrr".to_owned(), scheduler, sink);
    let pool = table.optional("local_pool", value::name, sink);
    let local_pool = service_pool(table, &forwarding, pool.as_ref(), pools, sink);
    let client_addr = client_addr(table, *forwarding, protocol, sink);
    let timestamps = timestamps(table, *forwarding, protocol, sink);
    let (toa, toa_written) = toa(table, sink);
    let timeouts = table.inner(&schema::SERVICE_TIMEOUTS, sink).map(|mut inner| {
        let read = timeouts(&mut inner, sink);
        inner.finish();
        read
    });
    let (servers, servers_written) = servers(table, sink);
    let address = address?;
    let name = name.unwrap_or_else(|| At::unwritten(format!("{protocol} {}", *address)));
    let service = Service {
        name,
        address,
        protocol,
        forwarding: *forwarding,
        scheduler,
        local_pool,
        client_addr,
        toa,
        timestamps,
        timeouts: timeouts.unwrap_or_default(),
        servers,
    };
    Some((service, Written { toa: toa_written, servers: servers_written }))
}

/// The forwarding methods that people know from elsewhere get a better answer than "unknown".
fn forwarding(written: &DeValue<'_>) -> Result<Forwarding, Wrong> {
    match value::text(written)?.to_lowercase().as_str() {
        "dr" | "direct" | "gatewaying" | "tun" | "tunnel" | "ipip" => {
            let what = format!("cannot be {}: this version has fullnat and nat", show(written));
            Err(Wrong::new(what).help("write \"fullnat\", which asks least of the network"))
        }
        "masq" | "masquerading" => {
            Err(Wrong::new(format!("cannot be {}", show(written))).help("did you mean \"nat\"?"))
        }
        _ => value::choice(written, &[("fullnat", Forwarding::FullNat), ("nat", Forwarding::Nat)]),
    }
}

fn show(written: &DeValue<'_>) -> String {
    written.as_str().map_or_else(|| article(written).to_owned(), |text| format!("\"{text}\""))
}

fn scheduler(written: &DeValue<'_>) -> Result<String, Wrong> {
    let name = value::text(written)?;
    let known: Vec<_> = super::schedulers().iter().map(|def| def.name).collect();
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    let list = known.join(", ");
    let wrong = Wrong::new(format!("is not a known scheduler: \"{name}\""));
    Err(match guess::closest(name, known.iter().copied()) {
        Some(close) => wrong.help(format!("did you mean \"{close}\"? The schedulers are: {list}")),
        None => wrong.help(format!("the schedulers are: {list}")),
    })
}

fn service_pool(
    table: &Table<'_, '_>,
    forwarding: &At<Forwarding>,
    pool: Option<&At<String>>,
    pools: &PoolNames,
    sink: &mut Sink,
) -> Option<usize> {
    match (forwarding.value, pool) {
        (Forwarding::FullNat, Some(name)) => pools.find(name, sink),
        (Forwarding::FullNat, None) => {
            // A forwarding that cannot be read may have been meant as one without a pool.
            let meant = !forwarding.span.is_empty() || !table.has("forwarding");
            if meant && !table.has("local_pool") {
                let message = "a fullnat service needs `local_pool`";
                let help = match pools.read.first() {
                    Some(first) => format!("for example: local_pool = \"{first}\""),
                    None => ADD_A_POOL.to_owned(),
                };
                sink.push(Diagnostic::error(table.span(), message).help(help));
            }
            None
        }
        (Forwarding::Nat, Some(name)) => {
            let message = "`local_pool` does not go with nat, where the server sees the client";
            let help = "leave it out, or write forwarding = \"fullnat\"";
            sink.push(Diagnostic::error(&name.span, message).help(help));
            None
        }
        (Forwarding::Nat, None) => None,
    }
}

fn client_addr(
    table: &mut Table<'_, '_>,
    forwarding: Forwarding,
    protocol: L4Proto,
    sink: &mut Sink,
) -> ClientAddrPolicy {
    let policies = [("toa", ClientAddrPolicy::Toa), ("none", ClientAddrPolicy::None)];
    let written = table.optional("client_addr", |v| value::choice(v, &policies), sink);
    let possible = forwarding == Forwarding::FullNat && protocol == L4Proto::Tcp;
    let default = if possible { ClientAddrPolicy::Toa } else { ClientAddrPolicy::None };
    let Some(written) = written else { return default };
    if *written == ClientAddrPolicy::Toa && !possible {
        let message = match protocol {
            L4Proto::Udp => "`client_addr` cannot be \"toa\" with udp: it is a TCP option",
            L4Proto::Tcp => "`client_addr` cannot be \"toa\" with nat: the server sees the client",
        };
        sink.push(Diagnostic::error(&written.span, message).help("leave it out"));
    }
    *written
}

fn timestamps(
    table: &mut Table<'_, '_>,
    forwarding: Forwarding,
    protocol: L4Proto,
    sink: &mut Sink,
) -> Timestamps {
    let words = [("strip", Timestamps::Strip), ("keep", Timestamps::Keep)];
    let written = table.optional("timestamps", |v| value::choice(v, &words), sink);
    if let (Some(written), L4Proto::Udp) = (&written, protocol) {
        let message = "`timestamps` has no effect with udp";
        sink.push(Diagnostic::warning(&written.span, message));
    }
    written.map_or(
        match forwarding {
            Forwarding::FullNat => Timestamps::Strip,
            Forwarding::Nat => Timestamps::Keep,
        },
        |written| *written,
    )
}

fn toa(table: &mut Table<'_, '_>, sink: &mut Sink) -> (Toa, Option<Span>) {
    let default = Toa::default();
    let Some(mut inner) = table.inner(&schema::TOA, sink) else { return (default, None) };
    let kind = |v: &DeValue<'_>| value::integer(v, LEAST_TOA_KIND, 255);
    let placements = [
        ("all", ToaPlacement::All),
        ("syn", ToaPlacement::Syn),
        ("until-server-data", ToaPlacement::UntilServerData),
    ];
    let no_room = [("separate-ack", ToaNoRoom::SeparateAck), ("drop", ToaNoRoom::Drop)];
    let toa = Toa {
        kind_v4: inner.or("kind_v4", default.kind_v4, kind, sink).value,
        kind_v6: inner.or("kind_v6", default.kind_v6, kind, sink).value,
        placement: inner
            .or("placement", default.placement, |v| value::choice(v, &placements), sink)
            .value,
        no_room: inner.or("no_room", default.no_room, |v| value::choice(v, &no_room), sink).value,
    };
    let span = inner.span().clone();
    inner.finish();
    (toa, Some(span))
}

/// The servers that can be read, and how many are written.
fn servers(table: &mut Table<'_, '_>, sink: &mut Sink) -> (Vec<Server>, usize) {
    let mut servers = Vec::new();
    let tables = table.inner_list(&schema::SERVER, sink);
    let written = tables.len();
    for mut inner in tables {
        let address = inner.required("address", value::endpoint, sink);
        let weight = inner.or("weight", 1, |v| value::integer(v, 0, 65_535), sink).value;
        inner.finish();
        servers.extend(address.map(|address| Server { address, weight }));
    }
    (servers, written)
}
