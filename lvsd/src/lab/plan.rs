//! The commands that build a scenario's network, as anybody could type them.

use super::reuse;
use super::scenario::{
    CLIENT, CLIENT_IP, DIRECTOR, DIRECTOR_CLIENTS, DIRECTOR_SERVERS, HOSTS, SERVERS, SWITCH,
    Scenario,
};
use std::collections::BTreeMap;

/// One command, and the host in whose namespace it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) host: &'static str,
    pub(crate) argv: Vec<String>,
}

impl Step {
    fn ip(host: &'static str, words: &str) -> Self {
        Self {
            host,
            argv: core::iter::once("ip").chain(words.split(' ')).map(String::from).collect(),
        }
    }

    fn sysctl(host: &'static str, file: &str, value: u8) -> Self {
        // Not every kernel has every file (IPv6, bridge filtering): what is not there is off.
        let script = format!("[ ! -e /proc/sys/{file} ] || echo {value} > /proc/sys/{file}");
        Self { host, argv: vec!["sh".to_owned(), "-c".to_owned(), script] }
    }

    /// As a line for a shell.
    pub(crate) fn shell(&self) -> String {
        let quote = |word: &String| {
            if word.contains([' ', '[', '>', '|']) { format!("'{word}'") } else { word.clone() }
        };
        self.argv.iter().map(quote).collect::<Vec<_>>().join(" ")
    }
}

/// The path of each host's network namespace.
pub(crate) type Paths = BTreeMap<&'static str, String>;

fn path<'a>(netns: &'a Paths, host: &str) -> &'a str {
    netns.get(host).map_or("", String::as_str)
}

/// All commands in order.
pub(crate) fn steps(scenario: Scenario, netns: &Paths) -> Vec<Step> {
    let mut steps = Vec::new();
    for host in HOSTS {
        steps.push(Step::sysctl(host, "net/ipv6/conf/all/disable_ipv6", 1));
        steps.push(Step::sysctl(host, "net/ipv6/conf/default/disable_ipv6", 1));
        steps.push(Step::ip(host, "link set lo up"));
    }
    switch(&mut steps, netns);
    client(&mut steps, scenario, netns);
    director(&mut steps, scenario);
    servers(&mut steps, scenario);
    steps
}

fn switch(steps: &mut Vec<Step>, netns: &Paths) {
    for file in ["iptables", "ip6tables", "arptables"] {
        steps.push(Step::sysctl(SWITCH, &format!("net/bridge/bridge-nf-call-{file}"), 0));
    }
    steps.push(Step::ip(SWITCH, "link add br0 type bridge mcast_snooping 0"));
    steps.push(Step::ip(SWITCH, "link set br0 up"));
    let cables =
        core::iter::once((DIRECTOR, "servers")).chain(SERVERS.iter().map(|s| (s.name, "eth0")));
    for (host, interface) in cables {
        let peer = format!("peer name {interface} netns {}", path(netns, host));
        steps.push(Step::ip(SWITCH, &format!("link add {host} type veth {peer}")));
        steps.push(Step::ip(SWITCH, &format!("link set {host} master br0 up")));
    }
}

fn client(steps: &mut Vec<Step>, scenario: Scenario, netns: &Paths) {
    let peer = format!("peer name clients netns {}", path(netns, DIRECTOR));
    steps.push(Step::ip(CLIENT, &format!("link add eth0 type veth {peer}")));
    steps.push(Step::ip(CLIENT, "link set eth0 up"));
    steps.push(Step::ip(CLIENT, &format!("addr add {CLIENT_IP}/24 dev eth0")));
    if scenario.has_many_clients() {
        for address in reuse::CLIENTS {
            steps.push(Step::ip(CLIENT, &format!("addr add {address}/24 dev eth0")));
        }
    }
    if !scenario.balances() {
        let net = format!("route add 10.1.0.0/24 via {DIRECTOR_CLIENTS}");
        steps.push(Step::ip(CLIENT, &net));
    }
}

fn director(steps: &mut Vec<Step>, scenario: Scenario) {
    // A new namespace copies the forwarding switch of the system, so it is set either way.
    let forward = u8::from(!scenario.balances());
    steps.push(Step::sysctl(DIRECTOR, "net/ipv4/ip_forward", forward));
    for (interface, address) in [("clients", DIRECTOR_CLIENTS), ("servers", DIRECTOR_SERVERS)] {
        steps.push(Step::ip(DIRECTOR, &format!("link set {interface} up")));
        steps.push(Step::ip(DIRECTOR, &format!("addr add {address}/24 dev {interface}")));
    }
    // On an interface, or with no route at all but forwarding on, the kernel would answer packets
    // to these addresses itself (RST, ICMP). A blackhole route keeps it silent.
    for address in scenario.floating() {
        steps.push(Step::ip(DIRECTOR, &format!("route add blackhole {address}/32")));
    }
}

fn servers(steps: &mut Vec<Step>, scenario: Scenario) {
    for server in &SERVERS {
        let host = server.name;
        steps.push(Step::ip(host, "link set eth0 up"));
        steps.push(Step::ip(host, &format!("addr add {}/24 dev eth0", server.address.ip())));
        // With FullNAT a server needs no way to the client: it has none.
        if !scenario.is_fullnat() {
            steps.push(Step::ip(host, &format!("route add default via {DIRECTOR_SERVERS}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(scenario: Scenario) -> Vec<String> {
        let netns = HOSTS.into_iter().map(|h| (h, format!("/ns/{h}"))).collect();
        steps(scenario, &netns).iter().map(|s| format!("{}# {}", s.host, s.shell())).collect()
    }

    #[test]
    fn no_vip_and_no_local_address_stands_on_an_interface_of_the_director() {
        for scenario in [Scenario::Fullnat, Scenario::Nat] {
            let lines = lines(scenario);
            for address in scenario.floating() {
                assert!(lines.contains(&format!("director# ip route add blackhole {address}/32")));
                assert!(!lines.iter().any(|l| l.contains(&format!("addr add {address}"))));
            }
        }
    }

    #[test]
    fn only_the_forward_scenario_forwards_in_the_kernel() {
        for scenario in crate::lab::scenario::ALL {
            let on = lines(scenario)
                .iter()
                .any(|l| l.contains("echo 1 > /proc/sys/net/ipv4/ip_forward"));
            let off = lines(scenario)
                .iter()
                .any(|l| l.contains("echo 0 > /proc/sys/net/ipv4/ip_forward"));
            assert_eq!((on, off), (!scenario.balances(), scenario.balances()));
        }
    }

    #[test]
    fn fullnat_servers_have_no_route_beyond_their_subnet() {
        let routed =
            |s| lines(s).iter().filter(|l| l.starts_with("server") && l.contains("route")).count();
        assert_eq!(routed(Scenario::Fullnat), 0);
        assert_eq!(routed(Scenario::Nat), 2);
    }
}
