//! Reads `[[service]]` with what is inside it.

use super::{Written, timeouts};
use crate::config::diag::{At, Diagnostic, Sink, Span};
use crate::config::model::{
    ClientAddrPolicy, Forwarding, LocalPool, Persistence, PersistentSince, Proxy,
    ProxyClientHeader, ProxySend, Server, ServerState, Service, Timestamps, Tunnel,
};
use crate::config::reader::{Table, Wrong, article};
use crate::config::{guess, schedulers, schema, value};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use lvs_core::flow::L4Proto;
use lvs_core::service::{NoToaRoom, ToaFormat, ToaOptions, ToaPlacement};
use lvs_nat::tunnel::GUE_PORT;
use toml::de::{DeTable, DeValue};

/// The option kinds below belong to the common options of TCP, MPTCP and Fast Open among them.
const LEAST_TOA_KIND: i64 = 35;
/// But this one (User Timeout, RFC 5482) has no user besides readers of client addresses.
const OLD_TOA_KIND: u8 = 28;

/// The names of the pools, those of faulty ones included, so that a fault in a pool is not
/// reported a second time at the services that use it.
pub(super) struct PoolNames {
    /// By index into the pools that were read.
    read: Vec<String>,
    faulty: Vec<String>,
}

impl PoolNames {
    pub(super) fn of(root: &DeTable<'_>, pools: &[LocalPool]) -> Self {
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

/// One service, and what else is to be known about its section.
pub(super) fn service(
    table: &mut Table<'_, '_>,
    pools: &PoolNames,
    sink: &mut Sink,
) -> Option<(Service, Written)> {
    let name = table.optional("name", value::name, sink);
    let number = |v: &DeValue<'_>| value::integer(v, 1, u32::MAX.into());
    let mark = table.optional("mark", number, sink);
    let address = match &mark {
        None => table.required("address", value::endpoint, sink),
        Some(mark) => {
            if let Some(address) = table.optional("address", value::endpoint, sink) {
                let message = "a service has an `address` or a `mark`, not both";
                let both = Diagnostic::error(&address.span, message);
                sink.push(both.related(&mark.span, "the mark").help("leave one out"));
            }
            None
        }
    };
    let protocol =
        table.or("protocol", L4Proto::Tcp, |v| value::choice(v, &value::PROTOCOLS), sink).value;
    let forwarding = table.or("forwarding", Forwarding::FullNat, forwarding, sink);
    let scheduler = table.or("scheduler", "wrr".to_owned(), scheduler, sink);
    let pool = table.optional("local_pool", value::name, sink);
    let local_pool = service_pool(table, &forwarding, pool.as_ref(), pools, sink);
    let client_addr = client_addr(table, *forwarding, protocol, sink);
    let timestamps = timestamps(table, *forwarding, protocol, sink);
    let (toa, toa_written) = toa(table, sink);
    let (proxy, proxy_written) = proxy(table, protocol, sink);
    let timeouts = table.inner(&schema::SERVICE_TIMEOUTS, sink).map(|mut inner| {
        let read = timeouts(&mut inner, sink);
        inner.finish();
        read
    });
    let one_packet = table.or("one_packet", false, value::boolean, sink);
    let quic = table.optional("quic", |v| value::integer(v, 1, 20), sink);
    let reset_on_expiry = table.optional("reset_on_expiry", value::boolean, sink);
    let trust_toa = trust_toa(table, client_addr, (*forwarding, protocol), sink);
    let persistence = persistence(table, sink);
    let slow_start = table.optional("slow_start", value::duration, sink);
    let (servers, servers_written) = servers(table, sink);
    let address = match &mark {
        None => address?,
        Some(mark) => {
            let v6 = servers.first().is_some_and(|server| server.address.ip().is_ipv6());
            let any: IpAddr =
                if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            At::new(SocketAddr::new(any, 0), mark.span.clone())
        }
    };
    let name = name.unwrap_or_else(|| {
        At::unwritten(match &mark {
            None => format!("{protocol} {}", *address),
            Some(mark) => format!("mark {}", mark.value),
        })
    });
    let service = Service {
        name,
        address,
        protocol,
        forwarding: *forwarding,
        scheduler,
        local_pool,
        client_addr,
        toa,
        proxy,
        timestamps,
        timeouts: timeouts.unwrap_or_default(),
        persistence,
        mark,
        one_packet,
        quic,
        reset_on_expiry: reset_on_expiry.map(|wanted| wanted.value),
        trust_toa,
        slow_start,
        servers,
    };
    Some((service, Written { toa: toa_written, proxy: proxy_written, servers: servers_written }))
}

/// The forwarding methods that people know from elsewhere get a better answer than "unknown".
fn forwarding(written: &DeValue<'_>) -> Result<Forwarding, Wrong> {
    match value::text(written)?.to_lowercase().as_str() {
        "direct" | "gatewaying" => known_as("dr", written),
        "tunnel" | "ipip" | "gre" | "gue" => known_as("tun", written),
        "masq" | "masquerading" => known_as("nat", written),
        _ => {
            let all = [
                Forwarding::FullNat,
                Forwarding::Nat,
                Forwarding::Dr,
                Forwarding::Tun,
                Forwarding::Local,
            ];
            value::choice(written, &all.map(|forwarding| (forwarding.name(), forwarding)))
        }
    }
}

fn known_as(name: &str, written: &DeValue<'_>) -> Result<Forwarding, Wrong> {
    let wrong = Wrong::new(format!("cannot be {}", show(written)));
    Err(wrong.help(format!("did you mean \"{name}\"?")))
}

fn show(written: &DeValue<'_>) -> String {
    written.as_str().map_or_else(|| article(written).to_owned(), |text| format!("\"{text}\""))
}

fn scheduler(written: &DeValue<'_>) -> Result<String, Wrong> {
    let name = value::text(written)?;
    let known: Vec<_> = schedulers().iter().map(|def| def.name).collect();
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
        (other, Some(name)) => {
            let other = other.name();
            let message =
                format!("`local_pool` does not go with {other}, where the server sees the client");
            let help = "leave it out, or write forwarding = \"fullnat\"";
            sink.push(Diagnostic::error(&name.span, message).help(help));
            None
        }
        (_, None) => None,
    }
}

fn client_addr(
    table: &mut Table<'_, '_>,
    forwarding: Forwarding,
    protocol: L4Proto,
    sink: &mut Sink,
) -> ClientAddrPolicy {
    let policies = [
        ("toa", ClientAddrPolicy::Toa),
        ("proxy-v1", ClientAddrPolicy::ProxyV1),
        ("proxy-v2", ClientAddrPolicy::ProxyV2),
        ("none", ClientAddrPolicy::None),
    ];
    let written = table.optional("client_addr", |v| value::choice(v, &policies), sink);
    let possible = forwarding == Forwarding::FullNat && protocol == L4Proto::Tcp;
    let default = if possible { ClientAddrPolicy::Toa } else { ClientAddrPolicy::None };
    let Some(written) = written else { return default };
    if *written == ClientAddrPolicy::Toa && !possible {
        let message = match protocol {
            L4Proto::Udp | L4Proto::Sctp | L4Proto::Icmp => {
                format!("`client_addr` cannot be \"toa\" with {protocol}: it is a TCP option")
            }
            L4Proto::Tcp => format!(
                "`client_addr` cannot be \"toa\" with {}: the server sees the client",
                forwarding.name()
            ),
        };
        sink.push(Diagnostic::error(&written.span, message).help("leave it out"));
    }
    let is_proxy = matches!(*written, ClientAddrPolicy::ProxyV1 | ClientAddrPolicy::ProxyV2);
    if is_proxy && matches!(forwarding, Forwarding::Dr | Forwarding::Tun) {
        let (now, mode) = (written.name(), forwarding.name());
        let message = format!(
            "`client_addr` cannot be \"{now}\" with {mode}: the server sees the client, and its replies do not pass here"
        );
        sink.push(Diagnostic::error(&written.span, message).help("leave it out"));
    }
    if is_proxy && protocol == L4Proto::Icmp {
        let message = format!("`client_addr` cannot be \"{}\" with icmp", written.name());
        sink.push(Diagnostic::error(&written.span, message).help("leave it out"));
    }
    if *written == ClientAddrPolicy::ProxyV1 && protocol == L4Proto::Udp {
        let message = "`client_addr` cannot be \"proxy-v1\" with udp: that version knows TCP only";
        sink.push(Diagnostic::error(&written.span, message).help("write \"proxy-v2\""));
    }
    if is_proxy && protocol == L4Proto::Sctp {
        let now = written.name();
        let message =
            format!("`client_addr` cannot be \"{now}\" with sctp: there is no place for it");
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
    if let (Some(written), L4Proto::Udp | L4Proto::Sctp | L4Proto::Icmp) = (&written, protocol) {
        let message = format!("`timestamps` has no effect with {protocol}");
        sink.push(Diagnostic::warning(&written.span, message));
    }
    written.map_or(
        match forwarding {
            Forwarding::FullNat => Timestamps::Strip,
            Forwarding::Nat | Forwarding::Dr | Forwarding::Tun | Forwarding::Local => {
                Timestamps::Keep
            }
        },
        |written| *written,
    )
}

fn toa(table: &mut Table<'_, '_>, sink: &mut Sink) -> (ToaOptions, Option<Span>) {
    let default = ToaOptions::default();
    let Some(mut inner) = table.inner(&schema::TOA, sink) else { return (default, None) };
    let formats = [
        ("port", ToaFormat::Port),
        ("versioned", ToaFormat::Versioned),
        ("with-virtual", ToaFormat::WithVirtual),
    ];
    let no_room = [
        ("separate-ack", NoToaRoom::SeparateAck),
        ("proxy-v2", NoToaRoom::Proxy),
        ("drop", NoToaRoom::Drop),
    ];
    let toa = ToaOptions {
        kind_v4: inner.or("kind_v4", default.kind_v4, toa_kind, sink).value,
        kind_v6: inner.or("kind_v6", default.kind_v6, toa_kind, sink).value,
        format: inner.or("format", default.format, |v| value::choice(v, &formats), sink).value,
        placement: inner.or("placement", default.placement, toa_placement, sink).value,
        no_room: inner.or("no_room", default.no_room, |v| value::choice(v, &no_room), sink).value,
    };
    let span = inner.span().clone();
    inner.finish();
    (toa, Some(span))
}

fn toa_kind(written: &DeValue<'_>) -> Result<u8, Wrong> {
    match value::integer(written, OLD_TOA_KIND.into(), 255) {
        Ok(kind) if kind == OLD_TOA_KIND => Ok(kind),
        _ => value::integer(written, LEAST_TOA_KIND, 255),
    }
}

/// One word, or several in a list.
fn toa_placement(written: &DeValue<'_>) -> Result<ToaPlacement, Wrong> {
    let none = ToaPlacement { syn: false, handshake: false, until_server_data: false };
    let words = [
        ("syn", ToaPlacement { syn: true, ..none }),
        ("handshake", ToaPlacement { handshake: true, ..none }),
        ("until-server-data", ToaPlacement { until_server_data: true, ..none }),
        ("all", ToaPlacement::default()),
    ];
    let Some(list) = written.as_array() else { return value::choice(written, &words) };
    let chosen: Vec<ToaPlacement> = list
        .iter()
        .map(|word| value::choice(word.get_ref(), &words))
        .collect::<Result<_, Wrong>>()?;
    let any = |place: fn(&ToaPlacement) -> bool| chosen.iter().any(place);
    if chosen.is_empty() {
        return Err(Wrong::new("is empty").help("write client_addr = \"none\" instead"));
    }
    Ok(ToaPlacement {
        syn: any(|place| place.syn),
        handshake: any(|place| place.handshake),
        until_server_data: any(|place| place.until_server_data),
    })
}

fn trust_toa(
    table: &mut Table<'_, '_>,
    client_addr: ClientAddrPolicy,
    (forwarding, protocol): (Forwarding, L4Proto),
    sink: &mut Sink,
) -> bool {
    let Some(written) = table.optional("trust_toa", value::boolean, sink) else { return false };
    let translates = matches!(forwarding, Forwarding::Nat | Forwarding::FullNat);
    if !translates || protocol != L4Proto::Tcp {
        let message = "`trust_toa` is for tcp with fullnat or nat";
        sink.push(Diagnostic::warning(&written.span, message));
    } else if *written && client_addr == ClientAddrPolicy::Toa {
        let message = "`trust_toa` does not go with `client_addr = \"toa\"`";
        let help = "leave it out, or write client_addr = \"none\" to pass on what a balancer in front wrote";
        sink.push(Diagnostic::error(&written.span, message).help(help));
    }
    *written
}

fn proxy(table: &mut Table<'_, '_>, protocol: L4Proto, sink: &mut Sink) -> (Proxy, Option<Span>) {
    let default = Proxy::default();
    let Some(mut inner) = table.inner(&schema::PROXY, sink) else { return (default, None) };
    let headers = [
        ("replace", ProxyClientHeader::Replace),
        ("convert", ProxyClientHeader::Convert),
        ("keep", ProxyClientHeader::Keep),
    ];
    let times = [("first-data", ProxySend::FirstData), ("handshake", ProxySend::Handshake)];
    let client_header = inner.optional("client_header", |v| value::choice(v, &headers), sink);
    let send = inner.optional("send", |v| value::choice(v, &times), sink);
    let span = inner.span().clone();
    inner.finish();
    for (key, written) in [
        ("client_header", client_header.as_ref().map(|written| &written.span)),
        ("send", send.as_ref().map(|written| &written.span)),
    ] {
        if let (Some(written), L4Proto::Udp | L4Proto::Icmp) = (written, protocol) {
            let message = format!("`{key}` has no effect with {protocol}");
            sink.push(Diagnostic::warning(written, message));
        }
    }
    if let (Some(headers), Some(send)) = (&client_header, &send)
        && headers.value != ProxyClientHeader::Replace
        && send.value == ProxySend::Handshake
    {
        let message = "`client_header` has no effect where the header goes with the handshake";
        sink.push(Diagnostic::warning(&headers.span, message));
    }
    let proxy = Proxy {
        client_header: client_header.map_or(default.client_header, |written| written.value),
        send: send.map_or(default.send, |written| written.value),
    };
    (proxy, Some(span))
}

fn persistence(table: &mut Table<'_, '_>, sink: &mut Sink) -> Persistence {
    let Some(mut inner) = table.inner(&schema::PERSISTENCE, sink) else {
        return Persistence::default();
    };
    let since = [
        ("last-packet", PersistentSince::LastPacket),
        ("last-connection", PersistentSince::LastConnection),
    ];
    let mut prefix = |name, most, sink: &mut Sink| {
        inner.optional(name, |v| value::integer(v, 0, most), sink).map(|len| len.value)
    };
    let prefix_v4 = prefix("prefix_v4", 32, sink);
    let prefix_v6 = prefix("prefix_v6", 128, sink);
    let read = Persistence {
        enabled: inner.optional("enabled", value::boolean, sink).map(|enabled| enabled.value),
        timeout: inner.optional("timeout", value::duration, sink).map(|timeout| timeout.value),
        prefix_v4,
        prefix_v6,
        group: inner.optional("group", value::name, sink),
        expire_quiescent: inner.or("expire_quiescent", false, value::boolean, sink).value,
        hard_threshold: inner.or("hard_threshold", false, value::boolean, sink).value,
        since: inner.optional("since", |v| value::choice(v, &since), sink).map(|since| since.value),
    };
    inner.finish();
    read
}

/// The servers that can be read, and how many are written.
fn servers(table: &mut Table<'_, '_>, sink: &mut Sink) -> (Vec<Server>, usize) {
    let mut servers = Vec::new();
    let tables = table.inner_list(&schema::SERVER, sink);
    let written = tables.len();
    for mut inner in tables {
        let address = inner.required("address", value::endpoint, sink);
        let weight = inner.or("weight", 1, |v| value::integer(v, 0, 65_535), sink).value;
        let count = |v: &DeValue<'_>| value::integer(v, 0, i64::from(u32::MAX));
        let upper_threshold = inner.or("upper_threshold", 0, count, sink);
        let lower_threshold = inner.or("lower_threshold", 0, count, sink);
        let states = [
            ("active", ServerState::Active),
            ("draining", ServerState::Draining),
            ("down-kill", ServerState::DownKill),
            ("down-keep", ServerState::DownKeep),
        ];
        let state = inner.or("state", ServerState::Active, |v| value::choice(v, &states), sink);
        let drain_for = inner.optional("drain_for", value::duration, sink);
        let tunnels = [("ipip", Tunnel::IpIp), ("gre", Tunnel::Gre), ("gue", Tunnel::Gue)];
        let tunnel = inner.or("tunnel", Tunnel::IpIp, |v| value::choice(v, &tunnels), sink);
        let tunnel_port = inner.or("tunnel_port", GUE_PORT, |v| value::integer(v, 1, 65_535), sink);
        let tunnel_checksum = inner.or("tunnel_checksum", false, value::boolean, sink);
        inner.finish();
        let state = state.value;
        servers.extend(address.map(|address| Server {
            address,
            weight,
            upper_threshold,
            lower_threshold,
            state,
            drain_for,
            tunnel,
            tunnel_port,
            tunnel_checksum,
        }));
    }
    (servers, written)
}
