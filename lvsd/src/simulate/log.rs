//! The lines of `log.jsonl`: one JSON object each, keys always in the same order.

use super::input::Arrival;
use super::machine::Sent;
use crate::config::Config;
use core::net::{IpAddr, SocketAddr};
use lvs_core::event::{Closed, Event};
use lvs_core::flow::WireTuple;
use lvs_core::id::{ServerId, ServiceId};
use lvs_core::io::PortId;
use lvs_core::session::Session;
use lvs_core::snapshot::Snapshot;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_core::wire::Pretty;
use lvs_director::{Director, Report};
use serde::Serialize;
use std::collections::BTreeMap;

/// What the configuration calls things.
pub(super) struct Names {
    ports: Vec<String>,
    pools: Vec<String>,
    services: BTreeMap<ServiceId, String>,
    servers: BTreeMap<ServerId, String>,
}

impl Names {
    pub(super) fn new(config: &Config, snapshot: &Snapshot) -> Self {
        let named = |service: &lvs_core::service::VirtualService| {
            let same = |known: &&crate::config::Service| match &known.mark {
                Some(mark) => {
                    mark.value == service.key.mark
                        && known.address.is_ipv4() == service.key.addr.0.is_ipv4()
                }
                None => {
                    known.protocol == service.key.proto && known.address.value == service.key.addr.0
                }
            };
            let known = config.services.iter().find(same);
            known.map_or_else(|| service.id.to_string(), |known| known.name.value.clone())
        };
        Self {
            ports: config.ports.iter().map(|port| port.name.value.clone()).collect(),
            pools: config.pools.iter().map(|pool| pool.name.value.clone()).collect(),
            services: snapshot.services().map(|s| (s.id, named(s))).collect(),
            servers: snapshot.servers().map(|s| (s.id, s.addr.0.to_string())).collect(),
        }
    }

    pub(super) fn port(&self, port: PortId) -> &str {
        self.ports.get(port.index()).map_or("?", String::as_str)
    }

    fn service(&self, service: ServiceId) -> &str {
        self.services.get(&service).map_or("?", String::as_str)
    }

    fn server(&self, server: ServerId) -> &str {
        self.servers.get(&server).map_or("?", String::as_str)
    }
}

/// A frame that left.
#[derive(Serialize)]
struct After<'a> {
    port: &'a str,
    text: String,
}

fn after<'a>(names: &'a Names, sent: &[Sent]) -> Vec<After<'a>> {
    sent.iter()
        .map(|sent| After { port: names.port(sent.port), text: Pretty(&sent.frame).to_string() })
        .collect()
}

#[derive(Serialize)]
struct Dropped {
    reason: &'static str,
    sentence: &'static str,
    advice: &'static str,
}

#[derive(Serialize)]
struct PacketLine<'a> {
    input: &'a str,
    index: usize,
    time: String,
    verdict: &'static str,
    drop: Option<Dropped>,
    session: Option<String>,
    service: Option<&'a str>,
    server: Option<&'a str>,
    before: String,
    after: Vec<After<'a>>,
    /// Length on the wire, when the capture has less of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_from: Option<u32>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    checksum_fixed: bool,
}

/// The verdict in one word.
pub(super) const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forward(_) => "forward",
        Verdict::Answer(_) => "answer",
        Verdict::Release => "release",
        Verdict::Absorb(Absorbed::NeighbourLearned) => "learned",
        Verdict::Absorb(Absorbed::WaitsForNeighbour) => "waiting",
        Verdict::Absorb(Absorbed::HandedOver) => "handed_over",
        Verdict::Absorb(Absorbed::WaitsForFirst) => "waiting_for_first",
        Verdict::Drop(_) => "drop",
    }
}

/// Seconds and nanoseconds since 1970.
fn time(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

fn line(value: &impl Serialize) -> String {
    // Text, numbers and lists of them cannot fail.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// The line of an input packet.
pub(super) fn packet(
    names: &Names,
    arrival: &Arrival<'_>,
    checksum_fixed: bool,
    report: &Report,
    sent: &[Sent],
) -> String {
    let dropped = |reason: DropReason| Dropped {
        reason: reason.id(),
        sentence: reason.sentence(),
        advice: reason.advice(),
    };
    line(&PacketLine {
        input: &arrival.input.name,
        index: arrival.index,
        time: time(arrival.record.time_ns),
        verdict: word(report.verdict),
        drop: match report.verdict {
            Verdict::Drop(reason) => Some(dropped(reason)),
            _ => None,
        },
        session: report.session.map(|session| session.to_string()),
        service: report.service.map(|service| names.service(service)),
        server: report.server.map(|server| names.server(server)),
        before: Pretty(arrival.frame).to_string(),
        after: after(names, sent),
        cut_from: arrival.record.is_cut().then_some(arrival.record.wire_len),
        checksum_fixed,
    })
}

#[derive(Serialize)]
struct TimerLine<'a> {
    event: &'static str,
    time: String,
    after: Vec<After<'a>>,
}

/// The line of what the director sends by itself.
pub(super) fn timer(names: &Names, time_ns: u64, sent: &[Sent]) -> String {
    line(&TimerLine { event: "timer", time: time(time_ns), after: after(names, sent) })
}

#[derive(Default, Serialize)]
struct EventLine<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbound: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
    /// How the server was told who the client is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    told: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
}

/// The line of an event.
pub(super) fn event(names: &Names, director: &Director<'_>, time_ns: u64, event: &Event) -> String {
    let empty = EventLine { time: time(time_ns), ..EventLine::default() };
    line(&match *event {
        Event::SessionOpened { session, service, server, inbound, reply } => EventLine {
            event: "session_opened",
            session: Some(session.to_string()),
            service: Some(names.service(service)),
            server: Some(names.server(server)),
            inbound: Some(ends(&inbound)),
            reply: Some(ends(&reply)),
            ..empty
        },
        Event::SessionClosed { session, server, why, told } => EventLine {
            event: "session_closed",
            session: Some(session.to_string()),
            why: Some(why_closed(why)),
            server: Some(names.server(server)),
            told: told.words().collect(),
            ..empty
        },
        Event::SessionTableFull => EventLine { event: "session_table_full", ..empty },
        Event::NoPort { pool } => EventLine {
            event: "no_port",
            pool: names.pools.get(pool.index()).map(String::as_str),
            ..empty
        },
        Event::NoServer { service } => {
            EventLine { event: "no_server", service: Some(names.service(service)), ..empty }
        }
        Event::TemplatesFull { service } => {
            EventLine { event: "templates_full", service: Some(names.service(service)), ..empty }
        }
        Event::NeighbourFailed { hop } => {
            let hop = director.hops().find(|known| known.id == hop).map(|known| known.hop);
            EventLine {
                event: "neighbour_failed",
                port: hop.map(|hop| names.port(hop.port)),
                address: hop.map(|hop| hop.via),
                ..empty
            }
        }
        Event::AddressConflict { address, mac } => EventLine {
            event: "address_conflict",
            address: Some(address),
            mac: Some(mac.to_string()),
            ..empty
        },
        _ => EventLine { event: "other", ..empty },
    })
}

/// The line of a session that is open at the end.
pub(super) fn session_left(names: &Names, session: &Session) -> String {
    line(&EventLine {
        event: "session_left",
        session: Some(session.id.to_string()),
        server: Some(names.server(session.server)),
        inbound: session.quad.inbound().as_ref().map(ends),
        reply: session.quad.reply().as_ref().map(ends),
        told: session.told.words().collect(),
        ..EventLine::default()
    })
}

const fn why_closed(why: Closed) -> &'static str {
    match why {
        Closed::Expired => "expired",
        Closed::Reused => "reused",
        Closed::ServerGone => "server_gone",
        Closed::Purged => "purged",
        Closed::Drained => "drained",
    }
}

fn ends(tuple: &WireTuple) -> String {
    let src = SocketAddr::new(tuple.src(), tuple.sport());
    let dst = SocketAddr::new(tuple.dst(), tuple.dport());
    format!("{} {src} > {dst}", tuple.proto())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_all_nine_digits() {
        assert_eq!(time(1_000_000_007), "1.000000007");
        assert_eq!(time(0), "0.000000000");
    }
}
