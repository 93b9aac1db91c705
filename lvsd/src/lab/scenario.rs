//! The scenarios: their hosts and addresses, what the director is told, and what must come out.

use core::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

/// What a lab shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Both addresses change; servers know only their own subnet and read the client from TOA
    Fullnat,
    /// The destination changes; the servers' default route points at the director
    Nat,
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
    /// No balancer: the director's kernel forwards, for comparison of the figures
    Forward,
}

pub(crate) const ALL: [Scenario; 7] = [
    Scenario::Fullnat,
    Scenario::Nat,
    Scenario::Reuse,
    Scenario::ReuseQuick,
    Scenario::Drain,
    Scenario::Persist,
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
            Self::Reuse => "reuse",
            Self::ReuseQuick => "reuse-quick",
            Self::Drain => "drain",
            Self::Persist => "persist",
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
        !matches!(self, Self::Nat | Self::Forward)
    }

    /// Whether the client host has many addresses.
    pub(crate) const fn has_many_clients(self) -> bool {
        self.reuse().is_some() || matches!(self, Self::Drain | Self::Persist)
    }

    /// Whether the director stands between the servers and the clients for good: with FullNAT a server
    /// needs no way to the client.
    pub(crate) const fn is_fullnat(self) -> bool {
        self.has_toa()
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
    pub(crate) fn floating(self) -> Vec<Ipv4Addr> {
        match self {
            Self::Fullnat | Self::Drain | Self::Persist => {
                [&[*VIP.ip()][..], &LOCAL_ADDRESSES].concat()
            }
            Self::Reuse | Self::ReuseQuick => vec![*VIP.ip(), LOCAL_ADDRESSES[0]],
            Self::Nat => vec![*VIP.ip()],
            Self::Forward => Vec::new(),
        }
    }

    /// Where the client connects to, one after the other.
    pub(crate) fn targets(self) -> Vec<SocketAddr> {
        if self.balances() {
            vec![VIP.into()]
        } else {
            SERVERS.iter().map(|s| s.address.into()).collect()
        }
    }

    /// Whether a server may see `peer` as its peer when `client` is the client's own address.
    pub(crate) fn peer_is_right(self, peer: SocketAddr, client: SocketAddr) -> bool {
        match self {
            Self::Fullnat | Self::Reuse | Self::ReuseQuick | Self::Drain | Self::Persist => {
                LOCAL_ADDRESSES.iter().any(|a| IpAddr::V4(*a) == peer.ip())
            }
            Self::Nat | Self::Forward => peer == client,
        }
    }

    /// The configuration for `lvsd run`. Timeouts are short, so that the end of a session can be
    /// waited for.
    pub(crate) fn director_config(self) -> String {
        if let Some(figures) = self.reuse() {
            return figures.director_config(self.name());
        }
        let mut text = format!(
            "# Written by `lvsd lab`, scenario {name}.\n\
             [director]\nname = \"{name}\"\nsessions = 65536\n\n\
             [[port]]\nname = \"clients\"\ninterface = \"clients\"\naddresses = [\"{DIRECTOR_CLIENTS}/24\"]\n\n\
             [[port]]\nname = \"servers\"\ninterface = \"servers\"\naddresses = [\"{DIRECTOR_SERVERS}/24\"]\n\n\
             [timeouts]\nprofile = \"lvs\"\ntcp_established = \"{established}\"\ntcp_syn_recv = \"3s\"\n\
             tcp_fin_wait = \"1s\"\ntcp_time_wait = \"1s\"\ntcp_close = \"1s\"\n\
             tcp_close_wait = \"1s\"\ntcp_last_ack = \"1s\"\n\n",
            name = self.name(),
            // Idle connections are to outlive the deadline.
            established = if self == Self::Drain { "60s" } else { "3s" },
        );
        if self.has_toa() {
            let addresses = LOCAL_ADDRESSES.map(|a| format!("\"{a}\"")).join(", ");
            text += &format!("[[local_pool]]\nname = \"inside\"\naddresses = [{addresses}]\n\n");
        }
        text += &format!(
            "[[service]]\nname = \"web\"\naddress = \"{VIP}\"\nprotocol = \"tcp\"\n\
             forwarding = \"{}\"\nscheduler = \"rr\"\n\
             persistence = {{ {} }}\n",
            if self.has_toa() { "fullnat" } else { "nat" },
            if self == Self::Persist { super::persist::KEYS } else { "enabled = false" },
        );
        if self.has_toa() {
            text += "local_pool = \"inside\"\nclient_addr = \"toa\"\n";
        }
        for server in &SERVERS {
            text += &format!(
                "[[service.server]]\naddress = \"{}\"\nweight = {}\n",
                server.address, server.weight
            );
        }
        text
    }

    /// The topology, for people.
    pub(crate) fn drawing(self) -> String {
        let [one, two] = SERVERS.map(|s| s.address);
        let middle = match self {
            Self::Fullnat => [
                format!("VIP       {VIP}"),
                "FullNAT, round robin, TOA".to_owned(),
                format!("Local     {}, .{}", LOCAL_ADDRESSES[0], LOCAL_ADDRESSES[1].octets()[3]),
            ],
            Self::Drain | Self::Persist => [
                format!("VIP       {VIP}"),
                if self == Self::Drain {
                    "FullNAT, server1 goes away".to_owned()
                } else {
                    "FullNAT, clients stay".to_owned()
                },
                format!("Local     {}, .{}", LOCAL_ADDRESSES[0], LOCAL_ADDRESSES[1].octets()[3]),
            ],
            Self::Reuse | Self::ReuseQuick => [
                format!("VIP       {VIP}"),
                "FullNAT to server1 only".to_owned(),
                format!("Local     {} alone", LOCAL_ADDRESSES[0]),
            ],
            Self::Nat => [
                format!("VIP       {VIP}"),
                "NAT, round robin".to_owned(),
                "(the servers' default route)".to_owned(),
            ],
            Self::Forward => ["kernel routing".to_owned(), String::new(), String::new()],
        };
        let clients = format!("clients   {DIRECTOR_CLIENTS}/24");
        let servers = format!("servers   {DIRECTOR_SERVERS}/24");
        let [a, b, c] = middle;
        let bar = "─".repeat(33);
        format!(
            "   client               director\n\
             \x20 ┌──────────┐        ┌{bar}┐\n\
             \x20 │ {CLIENT_IP:<8} ├────────┤ {clients:<31} │\n\
             \x20 └──────────┘        │ {a:<31} │        switch     server1\n\
             \x20                     │ {b:<31} │        ┌─────┐   ┌────────────────┐\n\
             \x20                     │ {servers:<31} ├────────┤     ├───┤ {one:<14} │\n\
             \x20                     │ {c:<31} │        │ br0 │   ├────────────────┤\n\
             \x20                     └{bar}┘        │     ├───┤ {two:<14} │\n\
             \x20                                                                └─────┘   └────────────────┘\n\
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
            assert_eq!(loaded.config.services.len(), 1);
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
