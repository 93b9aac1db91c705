//! Blackhole routes for the addresses that the director answers for, so that the kernel stays silent.
//!
//! The kernel gets a copy of every packet. A virtual or local address is on no interface, so a host
//! that forwards would send the copy on, or answer with ICMP. A blackhole route makes it drop the
//! copy without a word.
//!
//! Routes of `lvsd` carry a protocol number of their own, and only such routes are removed. One that a
//! crashed run has left behind is taken over.

use super::say;
use crate::config::{Config, Forwarding};
use core::net::IpAddr;
use lvs_core::addr::Family;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Marks our routes: `ip route show proto 76`. Nobody else uses it (`/etc/iproute2/rt_protos`).
const PROTOCOL: &str = "76";

/// The routes that were installed, removed on drop.
#[derive(Debug, Default)]
pub(super) struct Blackholes {
    ours: BTreeSet<IpAddr>,
    /// Those of them that serve sessions of removed services only.
    retired: BTreeSet<IpAddr>,
}

impl Blackholes {
    /// Installs a route for each virtual and local address. What cannot be installed is said and
    /// left: the director works without, as long as the host does not forward.
    pub(super) fn install(config: &Config) -> Self {
        let mut routes = Self::default();
        routes.add(config);
        routes
    }

    /// Installs what a configuration needs and is not there yet; returns what that was.
    pub(super) fn add(&mut self, config: &Config) -> BTreeSet<IpAddr> {
        let before = self.ours.clone();
        let wanted = &addresses(config) - &self.ours;
        for family in [Family::V4, Family::V6] {
            let of_family = only(family, &wanted);
            if of_family.is_empty() {
                continue;
            }
            match install(family, &of_family) {
                Ok(Present { ours: installed, others }) => {
                    let there = &installed | &others;
                    report_missing(of_family.difference(&there));
                    self.ours.extend(installed);
                }
                Err(error) => say(&format!(
                    "no blackhole routes for {}: cannot run `ip`: {error}. Where the host forwards \
                     packets, add them: ip route add blackhole {}",
                    list(of_family.iter()),
                    of_family.first().map_or_else(String::new, ToString::to_string),
                )),
            }
        }
        &self.ours - &before
    }

    /// Marks the virtual addresses that a new configuration no longer has: their routes are needed
    /// while their sessions live. Local addresses are not marked: sessions of services that stay may
    /// use them for long, so their routes stay until [`Blackholes::keep_only`].
    pub(super) fn retire(&mut self, before: &Config, now: &Config) {
        let balanced = before.services.iter().filter(|service| service.is_balanced());
        self.retired.extend(balanced.map(|service| service.address.ip()));
        self.retired.extend(before.marks.iter().filter_map(crate::config::Mark::address));
        self.retired = &self.retired - &addresses(now);
    }

    /// Removes the routes of marked addresses.
    pub(super) fn remove_retired(&mut self) {
        let retired = core::mem::take(&mut self.retired);
        self.remove(&(&self.ours & &retired));
    }

    /// Removes every route that a configuration does not need.
    pub(super) fn keep_only(&mut self, config: &Config) {
        self.retired.clear();
        let gone = &self.ours - &addresses(config);
        self.remove(&gone);
    }

    /// Removes some of the routes that were installed.
    pub(super) fn remove(&mut self, gone: &BTreeSet<IpAddr>) {
        for family in [Family::V4, Family::V6] {
            let lines: String = only(family, gone)
                .iter()
                .map(|ip| format!("route del blackhole {ip} proto {PROTOCOL}\n"))
                .collect();
            if lines.is_empty() {
                continue;
            }
            if let Err(error) = batch(family, &lines) {
                say(&format!("blackhole routes stay behind: cannot run `ip`: {error}"));
            }
        }
        self.ours.retain(|ip| !gone.contains(ip));
    }
}

impl Drop for Blackholes {
    fn drop(&mut self) {
        let all = core::mem::take(&mut self.ours);
        self.remove(&all);
    }
}

fn only(family: Family, addresses: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    addresses.iter().filter(|ip| Family::of(ip) == family).copied().collect()
}

/// Virtual addresses, and the local addresses of pools that a service uses.
fn addresses(config: &Config) -> BTreeSet<IpAddr> {
    let mut addresses: BTreeSet<IpAddr> =
        config.services.iter().filter(|s| s.is_balanced()).map(|s| s.address.ip()).collect();
    addresses.extend(config.marks.iter().filter_map(crate::config::Mark::address));
    for service in config.services.iter().filter(|s| s.forwarding == Forwarding::FullNat) {
        let pool = service.local_pool.and_then(|index| config.pools.get(index));
        for range in pool.into_iter().flat_map(|pool| &pool.addresses) {
            addresses.extend(range.iter());
        }
    }
    addresses
}

/// What there is of the wanted routes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Present {
    /// With our protocol number: to be removed at the end.
    ours: BTreeSet<IpAddr>,
    /// Made by somebody else, which serves as well and is left alone.
    others: BTreeSet<IpAddr>,
}

/// Adds what is not there, and returns what is there then. A route of another kind that somebody has
/// for the same address is not replaced; the address is then in neither set.
fn install(family: Family, wanted: &BTreeSet<IpAddr>) -> io::Result<Present> {
    let lines: String =
        wanted.iter().map(|ip| format!("route add blackhole {ip} proto {PROTOCOL}\n")).collect();
    // What exists first: a second route beside somebody else's would only differ in its metric.
    let before = present(family, wanted)?;
    if before.ours.len() + before.others.len() < wanted.len() {
        batch(family, &lines)?;
    }
    present(family, wanted)
}

fn present(family: Family, wanted: &BTreeSet<IpAddr>) -> io::Result<Present> {
    let shown = Command::new("ip")
        .args([option(family), "-o", "route", "show", "table", "main", "type", "blackhole"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let mut present = Present::default();
    for line in String::from_utf8_lossy(&shown.stdout).lines() {
        let Some((ip, ours)) = blackhole_in(line).filter(|(ip, _)| wanted.contains(ip)) else {
            continue;
        };
        if ours {
            present.ours.insert(ip)
        } else {
            present.others.insert(ip)
        };
    }
    present.others.retain(|ip| !present.ours.contains(ip));
    Ok(present)
}

/// The address of a line such as `blackhole 10.0.0.80 proto 76` or
/// `blackhole 2001:db8::80 dev lo proto 3 metric 1024`, and whether the route is ours.
fn blackhole_in(line: &str) -> Option<(IpAddr, bool)> {
    let mut words = line.strip_prefix("blackhole ")?.split_whitespace();
    let address = words.next()?.parse().ok()?;
    let protocol = words.skip_while(|word| *word != "proto").nth(1);
    Some((address, protocol == Some(PROTOCOL)))
}

/// Lets `ip` carry out many commands in one process; a failed one does not stop the others.
fn batch(family: Family, lines: &str) -> io::Result<()> {
    let mut child = Command::new("ip")
        .args([option(family), "-force", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let fed = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(lines.as_bytes()));
    child.wait()?;
    fed
}

const fn option(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

fn report_missing<'a>(missing: impl Iterator<Item = &'a IpAddr>) {
    let missing = list(missing);
    if !missing.is_empty() {
        say(&format!(
            "no blackhole route for {missing}: CAP_NET_ADMIN is missing, or another route to it \
             exists (see: ip route show table main)"
        ));
    }
}

/// The first few of many addresses.
fn list<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> String {
    let all: Vec<String> = addresses.map(ToString::to_string).collect();
    match all.split_at_checked(4) {
        Some((first, rest)) if !rest.is_empty() => {
            format!("{} and {} more", first.join(", "), rest.len())
        }
        _ => all.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_addresses_and_used_local_addresses_get_a_route() {
        let text = "[[port]]\nname = \"a\"\n\
            [[local_pool]]\nname = \"used\"\naddresses = [\"10.1.0.1-10.1.0.2\"]\n\
            [[local_pool]]\nname = \"unused\"\naddresses = [\"10.2.0.1\"]\n\
            [[service]]\naddress = \"10.0.0.80:80\"\nlocal_pool = \"used\"\n\
            [[service]]\naddress = \"10.0.0.80:443\"\nlocal_pool = \"used\"\n\
            [[service]]\naddress = \"[2001:db8::80]:80\"\nforwarding = \"nat\"\n";
        let config = crate::config::parse("test", text).unwrap().config;
        let expected = ["10.0.0.80", "10.1.0.1", "10.1.0.2", "2001:db8::80"];
        assert_eq!(addresses(&config), expected.map(|ip| ip.parse().unwrap()).into());
    }

    #[test]
    fn routes_are_read_as_ip_shows_them() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (line, read) in [
            ("blackhole 10.0.0.80 proto 76 ", (ip("10.0.0.80"), true)),
            ("blackhole 10.0.0.80 ", (ip("10.0.0.80"), false)),
            (
                "blackhole 2001:db8::80 dev lo proto 76 metric 1024 pref medium",
                (ip("2001:db8::80"), true),
            ),
            ("blackhole 2001:db8::80 dev lo proto 3 metric 1024", (ip("2001:db8::80"), false)),
        ] {
            assert_eq!(blackhole_in(line), Some(read), "{line}");
        }
        assert_eq!(blackhole_in("10.0.0.0/24 dev eth0"), None);
        assert_eq!(blackhole_in("blackhole 10.0.0.0/24"), None);
    }

    #[test]
    fn a_long_list_is_cut() {
        let ips: Vec<IpAddr> = (1..=6).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        assert_eq!(list(ips.iter()), "10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 2 more");
        assert_eq!(list(ips.iter().take(1)), "10.0.0.1");
    }
}
