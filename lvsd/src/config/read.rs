//! Turns the TOML tree into the typed [`Config`], section by section.
//!
//! Faults of single values are reported here; what several values mean together is looked at by
//! [`super::rules`]. Elements that lack what identifies them are left out of the result, which
//! is why the result is handed on only when nothing was wrong.

mod service;

use super::diag::{Diagnostic, Sink, Span};
use super::model::{
    Config, Director, HugePages, LocalPool, Mark, Neighbour, Port, Profile, Route, SelfOwner,
    Timeouts,
};
use super::range::PortRange;
use super::reader::{Table, Wrong, open_all};
use super::{guess, schema, value};
use lvs_core::flow::L4Proto;
use service::{PoolNames, service};
use toml::de::{DeTable, DeValue};

/// Most NAT sessions of an address family: their memory is then about 10 GiB.
const MOST_SESSIONS: i64 = 1 << 26;
const MOST_WORKERS: i64 = 64;
/// Most persistent clients: their memory is then about 1 GiB.
const MOST_TEMPLATES: i64 = 1 << 24;
/// Answers of a kind that the director may make by itself, a second.
const MOST_ANSWERS: i64 = 1_000_000;
const MOST_FRAGMENTS: i64 = 1 << 20;
/// Most addresses of one pool: about 260 million sessions.
const MOST_POOL_ADDRESSES: u128 = 1 << 12;
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
    /// The header of its `proxy` section.
    pub(super) proxy: Option<Span>,
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
    config.marks = all(&schema::MARK, root, mark, sink);
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
        templates: table
            .or("templates", default.templates, |v| value::integer(v, 0, MOST_TEMPLATES), sink)
            .value,
        fragments: table
            .or("fragments", default.fragments, |v| value::integer(v, 0, MOST_FRAGMENTS), sink)
            .value,
        huge_pages: table
            .or("huge_pages", default.huge_pages, |v| value::choice(v, &HUGE_PAGES), sink)
            .value,
        icmp_errors: table
            .or("icmp_errors", default.icmp_errors, |v| value::integer(v, 0, MOST_ANSWERS), sink)
            .value,
        reset_on_miss: table
            .or(
                "reset_on_miss",
                default.reset_on_miss,
                |v| value::integer(v, 0, MOST_ANSWERS),
                sink,
            )
            .value,
    }
}

const HUGE_PAGES: [(&str, HugePages); 3] =
    [("auto", HugePages::Auto), ("reserved", HugePages::Reserved), ("off", HugePages::Off)];

fn workers(written: &DeValue<'_>) -> Result<u16, Wrong> {
    let workers: u16 = value::integer(written, 1, MOST_WORKERS)?;
    if workers.is_power_of_two() {
        return Ok(workers);
    }
    let wrong = Wrong::new(format!("cannot be {workers}: it must be a power of two"));
    Err(wrong
        .help("the low bits of a local port say whose a reply is; write 2, 4, 8, 16, 32 or 64"))
}

/// The sixteen timeouts have one type, one reader and one name each.
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
        icmp: duration("icmp"),
        sctp_opening: duration("sctp_opening"),
        sctp_established: duration("sctp_established"),
        sctp_closing: duration("sctp_closing"),
        sctp_closed: duration("sctp_closed"),
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

fn mark(table: &mut Table<'_, '_>, sink: &mut Sink) -> Option<Mark> {
    let number = |v: &DeValue<'_>| value::integer(v, 0, u32::MAX.into());
    let mark = table.required("mark", number, sink);
    let from = table.optional("from", value::prefix, sink);
    let to = table.optional("to", value::prefix, sink);
    let protocol = table.optional("protocol", |v| value::choice(v, &value::PROTOCOLS), sink);
    let ports = table.optional("ports", value::port_range, sink);
    if let (Some(ports), Some(L4Proto::Icmp)) = (&ports, protocol.as_ref().map(|p| p.value)) {
        let message = "`ports` does not go with icmp, which has none";
        sink.push(Diagnostic::error(&ports.span, message).help("leave it out"));
    }
    Some(Mark {
        mark: mark?,
        from: from.map(|from| from.value),
        to,
        protocol: protocol.map(|protocol| protocol.value),
        ports: ports.map(|ports| ports.value),
    })
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
