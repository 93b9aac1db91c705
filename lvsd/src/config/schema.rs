//! Every key of the configuration: the one list that the reader accepts, that "did you mean"
//! searches, and that `docs/config.md` shows.

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What its value is, with its unit and range.
    pub kind: &'static str,
    /// What holds when it is absent, in the words of the documentation.
    pub default: &'static str,
    /// A value as it would be written.
    pub example: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// A table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its path, with dots.
    pub path: &'static str,
    /// Written with double brackets, any number of times.
    pub repeated: bool,
    /// What it describes.
    pub about: &'static str,
    /// Its keys, in the order of the documentation. Sections inside it are not among them.
    pub keys: &'static [Key],
    /// Last parts of the paths of the sections inside it.
    pub inner: &'static [&'static str],
}

impl Section {
    /// As its header is written: `[director]`, `[[service.server]]`.
    #[must_use]
    pub fn header(&self) -> String {
        if self.repeated { format!("[[{}]]", self.path) } else { format!("[{}]", self.path) }
    }

    /// Every name that may stand in it.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name).chain(self.inner.iter().copied())
    }
}

const fn key(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key { name, kind, default, example, about }
}

/// `[director]`.
pub const DIRECTOR: Section = Section {
    path: "director",
    repeated: false,
    about: "The balancer as a whole. May be absent.",
    keys: &[
        key(
            "name",
            "text",
            "\"lvsd\"",
            "\"edge-1\"",
            "What the director calls itself in messages and status.",
        ),
        key(
            "seed",
            "integer, 0 to 2^63-1",
            "random at every start; 0 in `simulate`",
            "42",
            "Seed of everything that is chosen at random: hash keys, sequence numbers, start offsets. Fix it only to repeat a run; a seed that others know weakens the protection against chosen keys.",
        ),
        key(
            "sessions",
            "integer, NAT and NAT64 sessions of each address family, 1 to 67108864",
            "65536",
            "1000000",
            "How many NAT sessions can live at once. FullNAT sessions are limited by the local pools instead: one for each local address and port. The memory for all is taken at the start; `lvsd check` prints how much.",
        ),
        key(
            "workers",
            "integer, a power of two, 1 to 64",
            "1",
            "2",
            "How many threads carry packets, each with its own sockets and sessions, on a processor of its own while there are enough. Local ports and `sessions` are shared out evenly: each worker has its part. `simulate` and `demo` have one.",
        ),
        key(
            "templates",
            "integer, clients, 0 to 16777216",
            "65536",
            "1000000",
            "How many persistent clients can be known at once, over all services; about 65 bytes each. Beyond that idle ones are forgotten first.",
        ),
        key(
            "fragments",
            "integer, datagrams, 0 to 1048576",
            "1024",
            "8192",
            "How many datagrams in pieces (fragments) each worker keeps together at once, about 450 bytes each; a quarter of them of one source, and an eighth as many fragments that came before their first one. 0: fragments are dropped.",
        ),
        key(
            "huge_pages",
            "\"auto\", \"reserved\" or \"off\"",
            "`\"auto\"`",
            "\"reserved\"",
            "What the session memory is made of. `auto`: huge pages that were reserved (`vm.nr_hugepages`) if there are enough, else transparent ones as far as the kernel gives them; `reserved`: reserved ones, or `run` does not start; `off`: ordinary pages. What was got is said at the start and in the status.",
        ),
        key(
            "icmp_errors",
            "integer, a second, 0 to 1000000",
            "1000",
            "100",
            "How many ICMP errors each worker makes (too big, time exceeded), a twentieth of it at once; 0 = none, which breaks path MTU discovery. Errors about packets of sessions that others make are translated without a limit.",
        ),
        key(
            "reset_on_miss",
            "integer, a second, 0 to 1000000",
            "0",
            "1000",
            "How many TCP segments each worker answers by a reset that belong to no connection: of clients to a service, of servers to a local address; a twentieth of it at once. Their senders then learn at once that the connection is gone. 0 = they are dropped without a word. Not for directors that share their virtual addresses with others, which may know the connection.",
        ),
    ],
    inner: &[],
};

/// `[[port]]`.
pub const PORT: Section = Section {
    path: "port",
    repeated: true,
    about: "A network interface that the director receives on and sends from. At least one.",
    keys: &[
        key(
            "name",
            "text",
            "required",
            "\"outside\"",
            "What other keys, messages and `simulate --in` call the port.",
        ),
        key(
            "interface",
            "text, at most 15 bytes",
            "the name",
            "\"eth1\"",
            "The interface of the system that it uses.",
        ),
        key(
            "mac",
            "Ethernet address",
            "the interface's; required in `simulate`",
            "\"02:00:00:00:00:0a\"",
            "Its own Ethernet address.",
        ),
        key(
            "mtu",
            "integer, bytes of an IP packet, 576 to 65535",
            "the interface's; 1500 in `simulate`",
            "1500",
            "The longest IP packet that it sends.",
        ),
        key(
            "addresses",
            "list of address/prefix length",
            "[]",
            "[\"10.0.0.1/24\", \"2001:db8::1/64\"]",
            "Self addresses. Hosts inside the prefix are neighbours on this port.",
        ),
        key(
            "self_owner",
            "\"kernel\" or \"director\"",
            "\"kernel\" in `run`, \"director\" in `simulate` and `demo`",
            "\"kernel\"",
            "Who answers ARP, neighbour discovery and ping for the port's own addresses.",
        ),
    ],
    inner: &[],
};

/// `[[route]]`.
pub const ROUTE: Section = Section {
    path: "route",
    repeated: true,
    about: "Where packets go that are for no neighbour of a port. The longest prefix decides.",
    keys: &[
        key(
            "to",
            "address/prefix length, or \"default\"",
            "required",
            "\"172.16.0.0/12\"",
            "The destinations.",
        ),
        key(
            "via",
            "address",
            "required",
            "\"10.0.0.254\"",
            "The router: an address inside the prefix of a port.",
        ),
    ],
    inner: &[],
};

/// `[[neighbour]]`.
pub const NEIGHBOUR: Section = Section {
    path: "neighbour",
    repeated: true,
    about: "A neighbour whose Ethernet address is fixed instead of asked for.",
    keys: &[
        key(
            "ip",
            "address",
            "required",
            "\"10.0.0.254\"",
            "Its address, inside the prefix of a port.",
        ),
        key(
            "mac",
            "Ethernet address",
            "required",
            "\"02:00:00:00:00:fe\"",
            "Its Ethernet address.",
        ),
    ],
    inner: &[],
};

/// `[[local_pool]]`.
pub const LOCAL_POOL: Section = Section {
    path: "local_pool",
    repeated: true,
    about: "Local addresses: what servers of FullNAT services see as their client. All of one family.",
    keys: &[
        key("name", "text", "required", "\"inside\"", "What services call the pool."),
        key(
            "addresses",
            "list of address or first-last, at most 4096 addresses in all",
            "required",
            "[\"10.1.0.100\", \"10.1.0.101-10.1.0.110\"]",
            "The addresses. Nobody else may use them; the director answers ARP for them.",
        ),
        key(
            "ports",
            "first-last, 1 to 65535",
            "\"1025-65535\"",
            "\"1025-65535\"",
            "The ports of each address that sessions may use. The same for all pools in this version.",
        ),
    ],
    inner: &[],
};

/// `[[mark]]`.
pub const MARK: Section = Section {
    path: "mark",
    repeated: true,
    about: "Which packets belong together although they have no address in common, as the packet filter's marks for IPVS (`ipvsadm -f`). The first rule that matches a new connection or datagram decides; a service with that `mark` gets it, and else the service of its address.",
    keys: &[
        key(
            "mark",
            "integer, 0 to 4294967295",
            "required",
            "7",
            "The mark; 0 = none, for an exception from the rules below.",
        ),
        key(
            "from",
            "address/prefix length",
            "any",
            "\"198.51.100.0/24\"",
            "Where packets come from.",
        ),
        key(
            "to",
            "address/prefix length",
            "any",
            "\"10.0.0.90/32\"",
            "Where they go. A single address becomes a virtual address of the director; a longer range has to be routed to it.",
        ),
        key(
            "protocol",
            "\"tcp\", \"udp\", \"sctp\" or \"icmp\"",
            "all but icmp",
            "\"tcp\"",
            "Their protocol. `icmp` are echo requests, without `ports`.",
        ),
        key("ports", "first-last, 1 to 65535", "all", "\"80-443\"", "Their destination ports."),
    ],
    inner: &[],
};

/// `[[service]]`.
pub const SERVICE: Section = Section {
    path: "service",
    repeated: true,
    about: "A virtual service: the address that clients connect to, and how their packets are carried.",
    keys: &[
        key(
            "name",
            "text",
            "protocol and address, `tcp 10.0.0.80:80`",
            "\"web\"",
            "What messages and status call the service.",
        ),
        key(
            "address",
            "address:port",
            "required",
            "\"10.0.0.80:80\"",
            "The virtual address. On no interface: the director answers ARP for it. Port 0: all ports that no other service of the address has.",
        ),
        key(
            "mark",
            "integer, 1 to 4294967295",
            "none",
            "7",
            "Instead of `address`: all packets that `[[mark]]` gives this mark, of the family of the servers. The servers' port is usually 0, the one that was asked for.",
        ),
        key(
            "protocol",
            "\"tcp\", \"udp\", \"sctp\" or \"icmp\"",
            "\"tcp\"",
            "\"tcp\"",
            "The protocol. `sctp` goes with nat and fullnat; an association lives by its first pair of addresses. `icmp`: echo requests to this address are answered by the servers, and no longer by the director; its port and theirs are 0.",
        ),
        key(
            "forwarding",
            "\"fullnat\", \"nat\", \"dr\", \"tun\" or \"local\"",
            "\"fullnat\"",
            "\"fullnat\"",
            "`fullnat`: the server sees a local address, and its reply comes back through the director wherever it stands. `nat`: the server sees the client, and its route to the client must lead through the director. `dr`: only Ethernet addresses change; `tun`: packets travel inside others. With both, the server has the virtual address itself and answers the client directly. `local`: the host is the server; it has the address (on `lo`), and its kernel sees all packets to it, so all services of the address are local.",
        ),
        key(
            "scheduler",
            "name of a scheduler",
            "\"wrr\"",
            "\"rr\"",
            "How a server is chosen for a new connection, by the names of `ipvsadm -s`: `rr` in turn, `wrr` in turn by weight (`wrr-smooth` spread out), `lc` `wlc` `sed` `nq` `twos` by load, `sh` `mh` `maglev` `conhash` by hash of the client, `dh` `lblc` `lblcr` by destination, `fo` `ovf` by order. Flags are part of the name: `sh-port`, `sh-fallback`, `sh-port-fallback`, the same of `mh`; `maglev-large`, `maglev-source`, `maglev-source-large`.",
        ),
        key(
            "slow_start",
            "duration",
            "at once",
            "\"60s\"",
            "How long a server takes to its full share of new connections, from a tenth on, after a reload that adds it or makes it active again. With `wrr`, `wrr-smooth`, `wlc`, `sed`, `nq` and `twos`. Servers of a new service, or after a start, have all of it at once.",
        ),
        key(
            "local_pool",
            "name of a local pool",
            "required with fullnat",
            "\"inside\"",
            "Where local addresses come from. For fullnat only.",
        ),
        key(
            "client_addr",
            "\"toa\", \"proxy-v1\", \"proxy-v2\" or \"none\"",
            "\"toa\" for TCP with fullnat, else \"none\"",
            "\"toa\"",
            "How the server learns the client's address. `toa`: as a TCP option. `proxy-v1`, `proxy-v2`: as a header of the PROXY protocol in front of the client's first bytes, of version 2 also in front of the first datagram of a UDP session; the server must expect it (nginx: `listen 80 proxy_protocol`).",
        ),
        key(
            "timestamps",
            "\"strip\" or \"keep\"",
            "\"strip\" with fullnat, else \"keep\"",
            "\"strip\"",
            "Whether the TCP timestamp option of a client's SYN reaches the server. Many clients behind one local address have clocks of their own, and a server in TIME_WAIT may refuse the older one.",
        ),
        key(
            "one_packet",
            "true or false",
            "false",
            "true",
            "Whether each datagram is scheduled for itself and no session is kept. For udp with nat (the virtual address is put back by the server's address), dr and tun; not with persistence.",
        ),
        key(
            "quic",
            "integer, bytes, 1 to 20",
            "none",
            "8",
            "For udp: a new client address is scheduled by the packet's QUIC connection id instead of the address. The value is the length of the ids that servers give out; with a consistent scheduler (`maglev`, `conhash`) an id leads to the same server from every address. Not with persistence.",
        ),
        key(
            "reset_on_expiry",
            "true or false",
            "true with the profile lvs",
            "true",
            "Whether both ends of a TCP connection are reset when its session expires in `tcp_established`, so that neither waits for the other. For fullnat and nat.",
        ),
        key(
            "trust_toa",
            "true or false",
            "false",
            "true",
            "Whether TCP options that say a client's address (kinds 28, 200, 252, 253, 254) are believed where clients send them: a balancer in front wrote them, and the servers read them. Else they are overwritten with padding, whatever `client_addr` says. For tcp with fullnat and nat; not with `client_addr = \"toa\"`, which always takes them out.",
        ),
    ],
    inner: &["toa", "proxy", "timeouts", "persistence", "server"],
};

/// `[service.toa]`.
pub const TOA: Section = Section {
    path: "service.toa",
    repeated: false,
    about: "The TCP option that carries the client's address. Also written `toa = { kind_v4 = 254 }`.",
    keys: &[
        key(
            "kind_v4",
            "integer, 28 or 35 to 255",
            "254",
            "254",
            "Option kind for an IPv4 client: what the servers look for, 254 in most deployments, 200, 252 or 28 in others.",
        ),
        key(
            "kind_v6",
            "integer, 28 or 35 to 255",
            "254",
            "253",
            "Option kind for an IPv6 client: 254, or 253.",
        ),
        key(
            "format",
            "\"port\", \"versioned\" or \"with-virtual\"",
            "\"port\"",
            "\"port\"",
            "What the option says. `port`: port and address, 8 bytes for IPv4 and 20 for IPv6. `versioned`: a version byte and the address without the port, as long with its padding (usually of kind 28). `with-virtual`: also the virtual address and port, 16 bytes; `port` for an IPv6 client.",
        ),
        key(
            "placement",
            "\"syn\", \"handshake\", \"until-server-data\", \"all\", or a list of them",
            "\"all\"",
            "[\"syn\", \"handshake\"]",
            "Which segments of the client carry it. `syn`: the SYN. `handshake`: the end of the handshake, and the first data, which does its work if that is lost. `until-server-data`: every segment until the client has data of the server. `all`: each of these. A SYN that goes without it loses its data (TCP Fast Open), which the client sends again.",
        ),
        key(
            "no_room",
            "\"separate-ack\", \"proxy-v2\" or \"drop\"",
            "\"separate-ack\"",
            "\"drop\"",
            "What becomes of a segment that has no room for the option, not even after its own options were compacted. `separate-ack`: the address goes ahead on a segment without payload; a SYN goes without and the next segments carry it, or, if `placement` is `syn` alone, it is dropped. `proxy-v2`: the address goes as a PROXY header instead, unless the server has been sent the option before: for servers that look for a header only where the option is missing. One that believes a header behind the option believes clients, whose bytes stand there. `drop`: the segment is dropped and counted.",
        ),
    ],
    inner: &[],
};

/// `[service.proxy]`.
pub const PROXY: Section = Section {
    path: "service.proxy",
    repeated: false,
    about: "The PROXY header, with `client_addr = \"proxy-v1\"` or `\"proxy-v2\"`. Also written `proxy = { send = \"handshake\" }`.",
    keys: &[
        key(
            "client_header",
            "\"replace\", \"convert\" or \"keep\"",
            "\"replace\"",
            "\"convert\"",
            "What becomes of a PROXY header that a TCP client sends itself. `replace`: the director's takes its place, nobody is believed. For a trusted proxy in front: `convert` believes it and translates it into the service's version; `keep` believes it and leaves it as it is.",
        ),
        key(
            "send",
            "\"first-data\" or \"handshake\"",
            "\"first-data\"",
            "\"handshake\"",
            "When the header of a TCP connection goes. `first-data`: in front of the client's first bytes. `handshake`: with the end of the handshake, for servers that speak first (SMTP, SSH, MySQL); a header that the client sends is then data.",
        ),
    ],
    inner: &[],
};

const TIMEOUT_KEYS: &[Key] = &[
    key(
        "profile",
        "\"lvs\", \"kernel\" or \"rfc\"",
        "\"lvs\"; in a service: the director's timeouts",
        "\"lvs\"",
        "The values of all keys below that are not set. `lvs`: as production LVS directors have them; `kernel`: as the Linux IPVS has them; `rfc`: the minimums of RFC 5382 and RFC 4787.",
    ),
    key("tcp_none", "duration", "2s / 2s / 2s", "\"2s\"", "No TCP state yet."),
    key(
        "tcp_established",
        "duration",
        "90s / 900s / 7440s",
        "\"15m\"",
        "Established, counted from the last packet.",
    ),
    key(
        "tcp_syn_sent",
        "duration",
        "3s / 120s / 240s",
        "\"3s\"",
        "The server has sent a SYN and the client has not answered.",
    ),
    key(
        "tcp_syn_recv",
        "duration",
        "30s / 60s / 240s",
        "\"30s\"",
        "The client has sent a SYN and the handshake is not over.",
    ),
    key("tcp_fin_wait", "duration", "7s / 120s / 240s", "\"7s\"", "The server has sent a FIN."),
    key("tcp_time_wait", "duration", "7s / 120s / 240s", "\"7s\"", "Both sides have closed."),
    key("tcp_close", "duration", "3s / 10s / 240s", "\"3s\"", "Ended by RST."),
    key("tcp_close_wait", "duration", "7s / 60s / 240s", "\"7s\"", "The client has sent a FIN."),
    key(
        "tcp_last_ack",
        "duration",
        "7s / 30s / 240s",
        "\"7s\"",
        "Both have sent a FIN, the last acknowledgement is missing.",
    ),
    key(
        "tcp_listen",
        "duration",
        "120s / 120s / 240s",
        "\"120s\"",
        "Known, but without a handshake under way.",
    ),
    key(
        "tcp_synack",
        "duration",
        "30s / 120s / 240s",
        "\"30s\"",
        "A SYN proxy has answered and waits for the client; there is none in this version.",
    ),
    key("udp", "duration", "300s / 300s / 300s", "\"300s\"", "UDP, counted from the last packet."),
    key("icmp", "duration", "60s / 60s / 60s", "\"60s\"", "Echo, counted from the last message."),
    key(
        "sctp_opening",
        "duration",
        "60s / 60s / 60s",
        "\"60s\"",
        "SCTP, from INIT until the cookie is accepted.",
    ),
    key("sctp_established", "duration", "900s / 900s / 900s", "\"900s\"", "SCTP, open."),
    key("sctp_closing", "duration", "60s / 60s / 60s", "\"60s\"", "SCTP, after a SHUTDOWN."),
    key(
        "sctp_closed",
        "duration",
        "10s / 10s / 10s",
        "\"10s\"",
        "SCTP, after SHUTDOWN COMPLETE or ABORT.",
    ),
];

/// `[timeouts]`.
pub const TIMEOUTS: Section = Section {
    path: "timeouts",
    repeated: false,
    about: "How long a session lives in each state without a packet. A duration is a number with a unit, from 1ms to 7 days: \"500ms\", \"90s\", \"15m\", \"2h\". Defaults are given as lvs / kernel / rfc.",
    keys: TIMEOUT_KEYS,
    inner: &[],
};

/// `[service.timeouts]`.
pub const SERVICE_TIMEOUTS: Section = Section {
    path: "service.timeouts",
    repeated: false,
    about: "The same keys for one service. What is not set here follows `[timeouts]`, or the profile if one is named here.",
    keys: TIMEOUT_KEYS,
    inner: &[],
};

/// `[service.persistence]`.
pub const PERSISTENCE: Section = Section {
    path: "service.persistence",
    repeated: false,
    about: "How a client stays with its server. Also written `persistence = { timeout = \"10m\" }`.",
    keys: &[
        key(
            "enabled",
            "true or false",
            "true with the profile lvs, else true if `timeout` is set",
            "false",
            "Whether a client's new connections go to the server that it had.",
        ),
        key(
            "timeout",
            "duration",
            "600s",
            "\"10m\"",
            "How long after the client's last session. A client that never finished a handshake is forgotten at once.",
        ),
        key(
            "prefix_v4",
            "integer, bits, 0 to 32",
            "32",
            "24",
            "IPv4 clients with the same prefix of this length count as one.",
        ),
        key(
            "prefix_v6",
            "integer, bits, 0 to 128",
            "128",
            "64",
            "IPv6 clients with the same prefix of this length count as one.",
        ),
        key(
            "group",
            "text",
            "none",
            "\"shop\"",
            "Services with the same group send a client to the same host, found by its address.",
        ),
        key(
            "expire_quiescent",
            "true or false",
            "false",
            "true",
            "Whether a server with weight 0 loses its clients too. Without it they come back to it.",
        ),
        key(
            "hard_threshold",
            "true or false",
            "false",
            "true",
            "Whether the upper threshold holds for a server's own clients as well: those beyond it are served elsewhere, and come back later.",
        ),
        key(
            "since",
            "\"last-packet\" or \"last-connection\"",
            "\"last-packet\"; \"last-connection\" with the profile kernel",
            "\"last-packet\"",
            "From when `timeout` counts. `last-packet`: from the last packet of the last session. `last-connection`: from the opening of the newest session, and by minutes while one is open, as Linux does.",
        ),
    ],
    inner: &[],
};

/// `[[service.server]]`.
pub const SERVER: Section = Section {
    path: "service.server",
    repeated: true,
    about: "A real server of the service above it.",
    keys: &[
        key(
            "address",
            "address:port",
            "required",
            "\"10.1.0.11:8080\"",
            "Where the server listens. The family is the service's, except with tun and where a fullnat service of IPv6 has a `local_pool` of IPv4 (NAT64): then it is the pool's. With dr and tun the port is the service's, and with dr the server is in the network of a port.",
        ),
        key(
            "weight",
            "integer, 0 to 65535",
            "1",
            "2",
            "Its share of new connections; 0 gives it none and leaves those it has.",
        ),
        key(
            "upper_threshold",
            "integer, sessions",
            "0",
            "1000",
            "At so many sessions, over all workers, it gets no new ones; 0 = any number.",
        ),
        key(
            "lower_threshold",
            "integer, sessions",
            "0",
            "800",
            "It gets new ones again when they have become fewer than this; 0 = three quarters of the upper threshold.",
        ),
        key(
            "state",
            "\"active\", \"draining\", \"down-kill\" or \"down-keep\"",
            "\"active\"",
            "\"draining\"",
            "`draining`: no new sessions, not even of persistent clients; those it has go on until they end or `drain_for` has passed, and are then reset on both sides. `down-kill`: no new ones, and those it has are reset at once. `down-keep`: no new ones, and those it has are left alone.",
        ),
        key(
            "drain_for",
            "duration",
            "without end",
            "\"10m\"",
            "How long a draining server keeps its sessions, from the reload that first says `draining`. A later reload does not begin anew.",
        ),
        key(
            "tunnel",
            "\"ipip\", \"gre\" or \"gue\"",
            "\"ipip\"",
            "\"gue\"",
            "With `forwarding = \"tun\"`: what packets travel in. `ipip`: protocol 4 or 41, 20 bytes more over IPv4 and 40 over IPv6; `gre` 4 more; `gue`, in UDP, 12 more.",
        ),
        key(
            "tunnel_port",
            "integer, 1 to 65535",
            "6080",
            "6080",
            "The UDP port on which the server takes `gue`.",
        ),
        key(
            "tunnel_checksum",
            "true or false",
            "false",
            "true",
            "Whether `gre` (4 bytes more) or `gue` carries a checksum over the packet inside. `gue` over IPv6 always does.",
        ),
    ],
    inner: &[],
};

/// All sections, in the order of the documentation.
pub const SECTIONS: &[Section] = &[
    DIRECTOR,
    TIMEOUTS,
    PORT,
    ROUTE,
    NEIGHBOUR,
    LOCAL_POOL,
    MARK,
    SERVICE,
    TOA,
    PROXY,
    SERVICE_TIMEOUTS,
    PERSISTENCE,
    SERVER,
];

/// The names that may stand at the top of the file.
pub fn top_level() -> impl Iterator<Item = &'static Section> {
    SECTIONS.iter().filter(|section| !section.path.contains('.'))
}
