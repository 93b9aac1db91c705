//! The commands that build a scenario's network, as anybody could type them.

use super::net::{CLIENT_PAST, alone, subnet};
use super::reuse;
use super::scenario::{CLIENT, DIRECTOR, HOSTS, SERVERS, SWITCH, Scenario};
use core::net::IpAddr;
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

    /// An address that is of use at once: nobody else in a lab has it, so nobody is asked.
    fn address(host: &'static str, address: IpAddr, interface: &str) -> Self {
        Self::address_in(host, address, subnet(address), interface)
    }

    /// The same with another length than that of a subnet.
    fn address_in(host: &'static str, address: IpAddr, prefix: u8, interface: &str) -> Self {
        let at_once = if address.is_ipv6() { " nodad" } else { "" };
        Self::ip(host, &format!("addr add {address}/{prefix} dev {interface}{at_once}"))
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
        let off = u8::from(scenario.net().client.is_ipv4());
        steps.push(Step::sysctl(host, "net/ipv6/conf/all/disable_ipv6", off));
        steps.push(Step::sysctl(host, "net/ipv6/conf/default/disable_ipv6", off));
        steps.push(Step::ip(host, "link set lo up"));
    }
    switch(&mut steps, scenario, netns);
    client(&mut steps, scenario, netns);
    director(&mut steps, scenario);
    servers(&mut steps, scenario);
    steps
}

fn switch(steps: &mut Vec<Step>, scenario: Scenario, netns: &Paths) {
    for file in ["iptables", "ip6tables", "arptables"] {
        steps.push(Step::sysctl(SWITCH, &format!("net/bridge/bridge-nf-call-{file}"), 0));
    }
    steps.push(Step::ip(SWITCH, "link add br0 type bridge mcast_snooping 0"));
    steps.push(Step::ip(SWITCH, "link set br0 up"));
    let mut cables = vec![(DIRECTOR, "servers")];
    cables.extend(SERVERS.iter().map(|s| (s.name, "eth0")));
    if scenario.answers_past() {
        cables.push((CLIENT, "eth1"));
    }
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
    let net = scenario.net();
    steps.push(Step::address(CLIENT, net.client, "eth0"));
    if scenario.has_many_clients() {
        for address in reuse::CLIENTS {
            steps.push(Step::address(CLIENT, address.into(), "eth0"));
        }
    }
    if !scenario.balances() {
        let route = format!("route add 10.1.0.0/24 via {}", net.director_clients);
        steps.push(Step::ip(CLIENT, &route));
    }
    if scenario.answers_past() {
        steps.push(Step::ip(CLIENT, "link set eth1 up"));
        steps.push(Step::address(CLIENT, CLIENT_PAST.into(), "eth1"));
        // Answers from the virtual address come in where the client would not send to it.
        for interface in ["all", "eth0", "eth1"] {
            steps.push(Step::sysctl(CLIENT, &format!("net/ipv4/conf/{interface}/rp_filter"), 0));
        }
    }
}

fn director(steps: &mut Vec<Step>, scenario: Scenario) {
    // A new namespace copies the forwarding switch of the system, so it is set either way.
    let forward = u8::from(!scenario.balances());
    let net = scenario.net();
    steps.push(Step::sysctl(DIRECTOR, "net/ipv4/ip_forward", forward));
    for (interface, address) in
        [("clients", net.director_clients), ("servers", net.director_servers)]
    {
        steps.push(Step::ip(DIRECTOR, &format!("link set {interface} up")));
        steps.push(Step::address(DIRECTOR, address, interface));
    }
    // On an interface, or with no route at all but forwarding on, the kernel would answer packets
    // to these addresses itself (RST, ICMP). A blackhole route keeps it silent.
    for address in scenario.floating() {
        let route = format!("route add blackhole {address}/{}", alone(address));
        steps.push(Step::ip(DIRECTOR, &route));
    }
}

fn servers(steps: &mut Vec<Step>, scenario: Scenario) {
    let net = scenario.net();
    for (server, address) in SERVERS.iter().zip(net.servers) {
        let host = server.name;
        steps.push(Step::ip(host, "link set eth0 up"));
        steps.push(Step::address(host, address.ip(), "eth0"));
        if scenario.answers_past() {
            // The virtual address is the server's own, and nobody hears of it.
            for (file, value) in [("arp_ignore", 1), ("arp_announce", 2)] {
                steps.push(Step::sysctl(host, &format!("net/ipv4/conf/all/{file}"), value));
            }
            steps.push(Step::address_in(host, net.vip.ip(), alone(net.vip.ip()), "lo"));
            let back =
                format!("route add 10.0.0.0/{} via {CLIENT_PAST}", subnet(CLIENT_PAST.into()));
            steps.push(Step::ip(host, &back));
        } else if !scenario.is_fullnat() {
            // With FullNAT a server needs no way to the client: it has none.
            let back = format!("route add default via {}", net.director_servers);
            steps.push(Step::ip(host, &back));
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
        for scenario in crate::lab::scenario::ALL {
            let lines = lines(scenario);
            for address in scenario.floating() {
                let route = format!("director# ip route add blackhole {address}/");
                assert!(lines.iter().any(|l| l.starts_with(&route)));
                let own = format!("director# ip addr add {address}/");
                assert!(!lines.iter().any(|l| l.starts_with(&own)));
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
    fn nat64_clients_know_ipv6_only_and_its_servers_ipv4() {
        let lines = lines(Scenario::Nat64);
        let added = |host| {
            let begin = format!("{host}# ip addr add ");
            lines.iter().filter_map(move |line| line.strip_prefix(&begin)).collect::<Vec<_>>()
        };
        assert_eq!(added("client"), ["fd00::2/64 dev eth0 nodad"]);
        assert_eq!(added("server1"), ["10.1.0.11/24 dev eth0"]);
    }

    #[test]
    fn fullnat_servers_have_no_route_beyond_their_subnet() {
        let routed =
            |s| lines(s).iter().filter(|l| l.starts_with("server") && l.contains("route")).count();
        assert_eq!(routed(Scenario::Fullnat), 0);
        assert_eq!(routed(Scenario::FullnatV6), 0);
        assert_eq!(routed(Scenario::Nat64), 0);
        assert_eq!(routed(Scenario::Nat), 2);
    }
}
