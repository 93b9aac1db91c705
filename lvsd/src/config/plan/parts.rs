//! Two configurations side by side: which parts differ, and in which keys.

use super::{Action, Change};
use crate::config::Loaded;
use crate::config::model::{Config, Port, Server, Service};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// A configuration, typed and as it is written.
pub(super) struct Parts<'a> {
    config: &'a Config,
    text: Table,
}

/// What is in a repeated section, typed and as it is written, by what identifies it.
type Elements<'e, T> = BTreeMap<String, (&'e T, &'e Table)>;

fn elements<'e, T>(
    table: &'e Table,
    section: &str,
    typed: &'e [T],
    id: impl Fn(&T) -> String,
) -> Elements<'e, T> {
    let texts = table.get(section).and_then(Value::as_array);
    let tables = texts.into_iter().flatten().filter_map(Value::as_table);
    typed.iter().zip(tables).map(|(one, table)| (id(one), (one, table))).collect()
}

/// The keys of a section by their names, with dots for the sections inside it.
type Keys = BTreeMap<String, String>;

impl<'a> Parts<'a> {
    pub(super) fn of(loaded: &'a Loaded) -> Self {
        // It was read before: it is TOML.
        let text = loaded.report.text().parse().unwrap_or_default();
        Self { config: &loaded.config, text }
    }

    /// A section that exists once.
    pub(super) fn single<T: PartialEq + 'a>(
        &self,
        new: &Self,
        section: &str,
        of: impl Fn(&'a Config) -> &'a T,
    ) -> Option<Change> {
        if of(self.config) == of(new.config) {
            return None;
        }
        let none = Table::new();
        let table = |parts: &'_ Self| parts.text.get(section).and_then(Value::as_table).cloned();
        let (a, b) = (table(self), table(new));
        let (a, b) = (a.as_ref().unwrap_or(&none), b.as_ref().unwrap_or(&none));
        differing(section, section.to_owned(), a, b)
    }

    fn elements<T>(
        &self,
        section: &str,
        typed: &'a [T],
        id: impl Fn(&T) -> String,
    ) -> Elements<'_, T> {
        elements(&self.text, section, typed, id)
    }

    pub(super) fn repeated<T: PartialEq + 'a>(
        &self,
        new: &Self,
        section: &str,
        of: impl Fn(&'a Config) -> &'a [T],
        id: impl Fn(&T) -> String,
    ) -> Vec<Change> {
        let old = self.elements(section, of(self.config), &id);
        let new = new.elements(section, of(new.config), &id);
        let fixed = (section == "port").then_some("ports are opened at the start");
        let mut changes = Vec::new();
        for (action, what) in steps(&old, &new) {
            match action {
                Action::Change => {
                    let (Some(a), Some(b)) = (old.get(what), new.get(what)) else { continue };
                    if a.0 != b.0 {
                        changes.extend(differing(section, what.clone(), a.1, b.1));
                    }
                }
                _ => {
                    let change = Change::new(action, what);
                    changes.push(match fixed {
                        Some(why) => change.restart(why),
                        None => change,
                    });
                }
            }
        }
        changes
    }

    pub(super) fn services(&self, new: &Self) -> Vec<Change> {
        let old = self.elements("service", &self.config.services, service_key);
        let new = new.elements("service", &new.config.services, service_key);
        let mut changes = Vec::new();
        for (_, id) in steps(&old, &new) {
            match (old.get(id), new.get(id)) {
                (Some(a), Some(b)) if a.0 != b.0 => {
                    let name = service_name(b.0);
                    changes.extend(differing("service", name.clone(), a.1, b.1));
                    changes.extend(servers(&name, *a, *b));
                }
                (Some((gone, _)), None) => changes.push(leaving(service_name(gone))),
                (None, Some((service, _))) => {
                    let servers = service.servers.iter().map(|s| s.address.to_string());
                    let servers = servers.collect::<Vec<_>>().join(", ");
                    let servers = if servers.is_empty() { "none" } else { &servers };
                    let change = Change::new(Action::Add, service_name(service));
                    changes.push(change.detail(format!("servers: {servers}")));
                }
                _ => {}
            }
        }
        changes
    }
}

/// What happens to the parts of two lists: removals first, so that a reader sees what makes room.
fn steps<'k, T>(
    old: &'k BTreeMap<String, T>,
    new: &'k BTreeMap<String, T>,
) -> impl Iterator<Item = (Action, &'k String)> {
    let gone = old.keys().filter(|id| !new.contains_key(*id)).map(|id| (Action::Remove, id));
    let rest =
        new.keys().map(|id| (if old.contains_key(id) { Action::Change } else { Action::Add }, id));
    gone.chain(rest)
}

fn leaving(what: String) -> Change {
    Change::new(Action::Remove, what).detail("no new sessions; the live ones go on until they end")
}

/// What a service is known by, whatever it is called.
fn service_key(service: &Service) -> String {
    match &service.mark {
        None => format!("{} {}", service.protocol, service.address.value),
        Some(mark) if service.address.is_ipv4() => format!("mark {}", mark.value),
        Some(mark) => format!("mark {} (IPv6)", mark.value),
    }
}

fn service_name(service: &Service) -> String {
    let (name, key) = (&service.name.value, service_key(service));
    if *name == key { format!("service {key}") } else { format!("service {name} ({key})") }
}

/// The servers of a service that stays.
fn servers(service: &str, old: (&Service, &Table), new: (&Service, &Table)) -> Vec<Change> {
    let address = |server: &Server| server.address.to_string();
    let a = elements(old.1, "server", &old.0.servers, address);
    let b = elements(new.1, "server", &new.0.servers, address);
    let mut changes = Vec::new();
    for (action, address) in steps(&a, &b) {
        let what = format!("server {address} of {service}");
        match (a.get(address), b.get(address)) {
            (Some(_), None) => changes.push(leaving(what)),
            (None, Some((server, _))) => {
                let weight = format!("weight: {}", server.weight);
                changes.push(Change::new(action, what).detail(weight));
            }
            (Some(before), Some(after)) if before.0 != after.0 => {
                changes.extend(differing("server", what, before.1, after.1));
            }
            _ => {}
        }
    }
    let order = |service: &Service| -> Vec<_> {
        service.servers.iter().map(|server| server.address.value).collect()
    };
    if a.keys().eq(b.keys()) && order(old.0) != order(new.0) {
        let what = format!("order of the servers of {service}");
        changes.push(Change::new(Action::Change, what));
    }
    changes
}

/// Packets carry the number of a port, and sockets are opened in the order of the file.
pub(super) fn port_order(old: &[Port], new: &[Port]) -> Option<Change> {
    let names = |ports: &[Port]| ports.iter().map(|p| p.name.value.clone()).collect::<Vec<_>>();
    let (a, b) = (names(old), names(new));
    let same = a.iter().collect::<BTreeSet<_>>() == b.iter().collect::<BTreeSet<_>>();
    (same && a != b).then(|| {
        Change::new(Action::Change, "order of the ports").restart("ports are opened at the start")
    })
}

/// The keys that differ; `None` when only the place in the file does.
fn differing(section: &str, what: String, old: &Table, new: &Table) -> Option<Change> {
    let (old, new) = (keys(old), keys(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut change = Change::new(Action::Change, what);
    for name in names {
        let (a, b) = (old.get(name), new.get(name));
        if a == b {
            continue;
        }
        let shown = |value: Option<&String>| value.map_or("(not set)", String::as_str).to_owned();
        change.details.push(format!("{name}: {} -> {}", shown(a), shown(b)));
        if change.restart.is_none() {
            change.restart = fixed(section, name).map(str::to_owned);
        }
    }
    (!change.details.is_empty()).then_some(change)
}

/// Why a key takes effect at the start only.
fn fixed(section: &str, key: &str) -> Option<&'static str> {
    match (section, key) {
        ("director", "name" | "icmp_errors" | "reset_on_miss")
        | ("port", "addresses" | "self_owner") => None,
        ("director", _) => Some("memory, threads and secrets are made at the start"),
        ("port", _) => Some("ports are opened at the start"),
        ("local_pool", "ports") => Some("the session memory is laid out by it"),
        _ => None,
    }
}

/// The keys of a table as they are written. Servers are compared one by one elsewhere.
fn keys(table: &Table) -> Keys {
    let mut keys = Keys::new();
    for (name, value) in table.iter().filter(|(name, _)| *name != "server") {
        match value {
            Value::Table(inner) => {
                keys.extend(self::keys(inner).into_iter().map(|(k, v)| (format!("{name}.{k}"), v)));
            }
            value => {
                keys.insert(name.clone(), show(value));
            }
        }
    }
    keys
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(values) => {
            format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        Value::Table(table) => {
            let entries = keys(table).into_iter().map(|(name, value)| format!("{name} = {value}"));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}
