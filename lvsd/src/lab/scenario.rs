//! The scenarios: their hosts and addresses, what the director is told, and what must come out.

use super::decap::Outer;
use super::net::{self, Net};
use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

/// What a lab shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Both addresses change; servers know only their own subnet and read the client from TOA
    Fullnat,
    /// The destination changes; the servers' default route points at the director
    Nat,
    /// FullNAT between IPv6 clients and servers
    FullnatV6,
    /// FullNAT between IPv6 clients and IPv4 servers, which read the client's IPv6 address from TOA
    Nat64,
    /// The servers have the virtual address too and answer the client past the director
    Dr,
    /// The same, with packets to the servers inside others: IP in IP to one, GUE to the other
    Tun,
    /// Datagrams through FullNAT
    Udp,
    /// Local ports come around while the server still remembers them: 2000 short connections a second for
    /// a minute on one local address, and a director that starts anew while the server holds connections
    Reuse,
    /// The same in a quarter of the time, with fewer local ports
    ReuseQuick,
    /// A server that goes away: no new connections at once, the old ones until a deadline, then resets to
    /// both sides
    Drain,
    /// Clients that stay with their servers until the time-out, unless the server goes away
    Persist,
    /// FullNAT with the client's address in a PROXY header, version 2 on port 80 and 1 on port 81, read by
    /// stock nginx
    Proxy,
    /// No balancer: the director's kernel forwards, for comparison of the figures
    Forward,
}

pub(crate) const ALL: [Scenario; 13] = [
    Scenario::Fullnat,
    Scenario::Nat,
    Scenario::FullnatV6,
    Scenario::Nat64,
    Scenario::Dr,
    Scenario::Tun,
    Scenario::Udp,
    Scenario::Reuse,
    Scenario::ReuseQuick,
    Scenario::Drain,
    Scenario::Persist,
    Scenario::Proxy,
    Scenario::Forward,
];

pub(crate) const CLIENT: &str = "client";
pub(crate) const DIRECTOR: &str = "director";
pub(crate) const SWITCH: &str = "switch";

/// The hosts, each a network namespace; the switch comes first because it is made first.
pub(crate) const HOSTS: [&str; 5] = [SWITCH, CLIENT, DIRECTOR, "server1", "server2"];

pub(crate) const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const DIRECTOR_CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const DIRECTOR_SERVERS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub(crate) const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 80), 80);
/// Where the `proxy` scenario has the service with version 1.
const PROXY_V1: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 80), 81);
pub(crate) const LOCAL_ADDRESSES: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 1, 0, 100), Ipv4Addr::new(10, 1, 0, 101)];

/// An HTTP server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddrV4,
    pub(crate) weight: u32,
}

pub(crate) const SERVERS: [Server; 2] = [
    Server {
        name: "server1",
        address: SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 11), 8080),
        weight: 1,
    },
    Server {
        name: "server2",
        address: SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 12), 8080),
        weight: 1,
    },
];

impl Scenario {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fullnat => "fullnat",
            Self::Nat => "nat",
            Self::FullnatV6 => "fullnat-v6",
            Self::Nat64 => "nat64",
            Self::Dr => "dr",
            Self::Tun => "tun",
            Self::Udp => "udp",
            Self::Reuse => "reuse",
            Self::ReuseQuick => "reuse-quick",
            Self::Drain => "drain",
            Self::Persist => "persist",
            Self::Proxy => "proxy",
            Self::Forward => "forward",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        ALL.into_iter().find(|s| s.name() == name)
    }

    /// Whether a balancer stands in the middle.
    pub(crate) const fn balances(self) -> bool {
        !matches!(self, Self::Forward)
    }

    /// Whether the director puts the client's address into TOA.
    pub(crate) const fn has_toa(self) -> bool {
        self.is_fullnat() && !matches!(self, Self::Udp | Self::Proxy)
    }

    /// How servers learn the client's address where the packet's own is another, if they do.
    pub(crate) const fn tells_client(self) -> Option<&'static str> {
        match self {
            Self::Proxy => Some("the PROXY header"),
            _ if self.has_toa() => Some("TOA"),
            _ => None,
        }
    }

    /// Whether servers have the virtual address themselves and answer past the director.
    pub(crate) const fn answers_past(self) -> bool {
        matches!(self, Self::Dr | Self::Tun)
    }

    /// What the packets of the servers come in, one after the other.
    pub(crate) const fn tunnels(self) -> Option<[Outer; 2]> {
        if matches!(self, Self::Tun) { Some([Outer::Ipip, Outer::Gue]) } else { None }
    }

    /// Its addresses.
    pub(crate) const fn net(self) -> &'static Net {
        match self {
            Self::FullnatV6 => &net::V6,
            Self::Nat64 => &net::NAT64,
            _ => &net::V4,
        }
    }

    /// The servers as the director knows them.
    pub(crate) fn servers(self) -> [SocketAddr; 2] {
        if self.answers_past() {
            SERVERS.each_ref().map(|server| net::at_vip_port(server.address))
        } else {
            self.net().servers
        }
    }

    /// Where the servers listen.
    pub(crate) fn listens(self) -> [SocketAddr; 2] {
        match self {
            Self::Proxy => [super::nginx::BEHIND; 2],
            _ if self.answers_past() => [self.net().vip; 2],
            _ => self.net().servers,
        }
    }

    /// Whether the client host has many addresses.
    pub(crate) const fn has_many_clients(self) -> bool {
        self.reuse().is_some() || matches!(self, Self::Drain | Self::Persist)
    }

    /// Whether both addresses change: a server needs no way to the client then.
    pub(crate) const fn is_fullnat(self) -> bool {
        !matches!(self, Self::Nat | Self::Dr | Self::Tun | Self::Forward)
    }

    /// The figures of a scenario about the reuse of local ports.
    pub(crate) const fn reuse(self) -> Option<super::reuse::Figures> {
        match self {
            Self::Reuse => Some(super::reuse::FULL),
            Self::ReuseQuick => Some(super::reuse::QUICK),
            _ => None,
        }
    }

    /// Addresses that the director answers for and that stand on no interface of its kernel.
    pub(crate) fn floating(self) -> Vec<IpAddr> {
        let net = self.net();
        let locals = match self {
            Self::Reuse | Self::ReuseQuick => 1,
            _ if self.is_fullnat() => 2,
            _ => 0,
        };
        if self.balances() {
            [&[net.vip.ip()][..], &net.local_addresses[..locals]].concat()
        } else {
            Vec::new()
        }
    }

    /// Where the client connects to, one after the other.
    pub(crate) fn targets(self) -> Vec<SocketAddr> {
        match self {
            Self::Proxy => vec![self.net().vip, PROXY_V1.into()],
            _ if self.balances() => vec![self.net().vip],
            _ => self.servers().to_vec(),
        }
    }

    /// Whether a server may see `peer` as its peer when `client` is the client's own address.
    pub(crate) fn peer_is_right(self, peer: SocketAddr, client: SocketAddr) -> bool {
        if self.is_fullnat() {
            self.net().local_addresses.contains(&peer.ip())
        } else {
            peer == client
        }
    }

    /// The configuration for `lvsd run`. Timeouts are short, so that the end of a session can be
    /// waited for.
    pub(crate) fn director_config(self) -> String {
        if let Some(figures) = self.reuse() {
            return figures.director_config(self.name());
        }
        let net = self.net();
        let mut text = format!(
            "# Written by `lvsd lab`, scenario {name}.\n\
             [director]\nname = \"{name}\"\nsessions = 65536\n\n\
             [[port]]\nname = \"clients\"\ninterface = \"clients\"\naddresses = [\"{clients}/{near}\"]\n\n\
             [[port]]\nname = \"servers\"\ninterface = \"servers\"\naddresses = [\"{servers}/{far}\"]\n\n\
             [timeouts]\nprofile = \"lvs\"\ntcp_established = \"{established}\"\ntcp_syn_recv = \"3s\"\n\
             tcp_fin_wait = \"1s\"\ntcp_time_wait = \"1s\"\ntcp_close = \"1s\"\n\
             tcp_close_wait = \"1s\"\ntcp_last_ack = \"1s\"\nudp = \"3s\"\n\n",
            name = self.name(),
            clients = net.director_clients,
            servers = net.director_servers,
            near = net::subnet(net.director_clients),
            far = net::subnet(net.director_servers),
            // Idle connections are to outlive the deadline.
            established = if self == Self::Drain { "60s" } else { "3s" },
        );
        if self.is_fullnat() {
            let addresses = net.local_addresses.map(|a| format!("\"{a}\"")).join(", ");
            text += &format!("[[local_pool]]\nname = \"inside\"\naddresses = [{addresses}]\n\n");
        }
        let client_addr = if self == Self::Proxy { "proxy-v2" } else { "toa" };
        text += &self.service_config("web", self.net().vip, client_addr);
        if self == Self::Proxy {
            text += &self.service_config("text", PROXY_V1.into(), "proxy-v1");
        }
        text
    }

    fn service_config(self, name: &str, address: SocketAddr, client_addr: &str) -> String {
        let mut text = format!(
            "[[service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"{}\"\n\
             forwarding = \"{}\"\nscheduler = \"rr\"\n\
             persistence = {{ {} }}\n",
            if self == Self::Udp { "udp" } else { "tcp" },
            match self {
                Self::Dr => "dr",
                Self::Tun => "tun",
                _ if self.is_fullnat() => "fullnat",
                _ => "nat",
            },
            if self == Self::Persist { super::persist::KEYS } else { "enabled = false" },
        );
        if self.is_fullnat() {
            text += "local_pool = \"inside\"\n";
        }
        if self.tells_client().is_some() {
            text += &format!("client_addr = \"{client_addr}\"\n");
        }
        for (index, (server, address)) in SERVERS.iter().zip(self.servers()).enumerate() {
            text += &format!(
                "[[service.server]]\naddress = \"{address}\"\nweight = {}\n",
                server.weight
            );
            if let Some(outer) = self.tunnels().and_then(|tunnels| tunnels.get(index).copied()) {
                text += &format!("tunnel = \"{}\"\n", outer.name());
            }
        }
        text
    }

    /// The topology, for people.
    pub(crate) fn drawing(self) -> String {
        let net = self.net();
        let [one, two] = self.servers().map(|address| address.to_string());
        let vip = format!("VIP       {}", net.vip);
        let [first, second] = net.local_addresses;
        let locals = match second {
            IpAddr::V4(second) => format!("Local     {first}, .{}", second.octets()[3]),
            IpAddr::V6(second) => format!("Local     {first}, ::{:x}", second.segments()[7]),
        };
        let middle = match self {
            Self::Fullnat | Self::FullnatV6 => {
                [vip, "FullNAT, round robin, TOA".to_owned(), locals]
            }
            Self::Nat64 => [vip, "FullNAT from IPv6 to IPv4, TOA".to_owned(), locals],
            Self::Udp => [vip, "FullNAT of datagrams".to_owned(), locals],
            Self::Drain => [vip, "FullNAT, server1 goes away".to_owned(), locals],
            Self::Persist => [vip, "FullNAT, clients stay".to_owned(), locals],
            Self::Reuse | Self::ReuseQuick => {
                [vip, "FullNAT to server1 only".to_owned(), format!("Local     {first} alone")]
            }
            Self::Proxy => [
                format!("{vip}, :{}", PROXY_V1.port()),
                "FullNAT, PROXY v2, v1; nginx".to_owned(),
                locals,
            ],
            Self::Nat => {
                [vip, "NAT, round robin".to_owned(), "(the servers' default route)".to_owned()]
            }
            Self::Dr | Self::Tun => [
                vip,
                if self == Self::Dr { "direct routing" } else { "tunnels: ipip, gue" }.to_owned(),
                format!("(answers by br0 to {})", net::CLIENT_PAST),
            ],
            Self::Forward => ["kernel routing".to_owned(), String::new(), String::new()],
        };
        let clients =
            format!("clients   {}/{}", net.director_clients, net::subnet(net.director_clients));
        let servers =
            format!("servers   {}/{}", net.director_servers, net::subnet(net.director_servers));
        let client = net.client;
        let [a, b, c] = middle;
        let bar = "─".repeat(33);
        format!(
            "   client               director\n\
             \x20 ┌──────────┐        ┌{bar}┐\n\
             \x20 │ {client:<8} ├────────┤ {clients:<31} │\n\
             \x20 └──────────┘        │ {a:<31} │        switch     server1\n\
             \x20                     │ {b:<31} │        ┌─────┐   ┌─────────────────┐\n\
             \x20                     │ {servers:<31} ├────────┤     ├───┤ {one:<15} │\n\
             \x20                     │ {c:<31} │        │ br0 │   ├─────────────────┤\n\
             \x20                     └{bar}┘        │     ├───┤ {two:<15} │\n\
             \x20                                                                └─────┘   └─────────────────┘\n\
             \x20                                                                           server2\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_configurations_are_accepted_by_lvsd_check_without_a_warning() {
        for scenario in ALL.into_iter().filter(|s| s.balances()) {
            let loaded = config::parse("lab.toml", &scenario.director_config())
                .unwrap_or_else(|report| panic!("{}", report.render(false)));
            assert_eq!(loaded.report.counts(), (0, 0), "{}", loaded.report.render(false));
            // One for each target.
            assert_eq!(loaded.config.services.len(), scenario.targets().len());
        }
    }

    #[test]
    fn the_boxes_of_a_drawing_are_straight_and_fit_a_terminal() {
        for scenario in ALL {
            for line in scenario.drawing().lines() {
                assert!(line.chars().count() <= 100, "{line}");
                // The director's box: its right wall is in the same column in every line.
                let wall = line.chars().nth(56);
                let inside = line.chars().nth(22).is_some_and(|c| "┌│┤└".contains(c));
                assert!(!inside || wall.is_some_and(|c| "┐│├┘".contains(c)), "{line}");
            }
        }
    }

    #[test]
    fn only_fullnat_shows_the_servers_a_local_address() {
        let client = "10.0.0.2:40000".parse().unwrap();
        let local = "10.1.0.101:1025".parse().unwrap();
        assert!(Scenario::Fullnat.peer_is_right(local, client));
        assert!(!Scenario::Fullnat.peer_is_right(client, client));
        assert!(Scenario::Nat.peer_is_right(client, client));
        assert!(!Scenario::Nat.peer_is_right("10.0.0.2:40001".parse().unwrap(), client));
    }
}
