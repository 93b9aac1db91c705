"""The situations that every forwarding mode is put into: which packets arrive, in which order.

Each function gets a `Case` and tells it what arrives. In modes other than NAT servers answer clients
directly, so their packets do not pass the director and `Conn.s` only counts their numbers.
"""
import struct

from packet import icmp, icmp_error, ip, raw, tcp, tcp_segment, udp, udp_datagram

MSS = bytes.fromhex("020405b4 0101 0402".replace(" ", ""))
REQUEST = b"GET / HTTP/1.0\r\n\r\n"
RESPONSE = b"HTTP/1.0 200 OK\r\n\r\nhello, client"


class Conn:
    """One TCP connection with its numbers."""

    def __init__(self, case, port=40000, server=0, client=0, cseq=1000, sseq=5000):
        self.case, self.client = case, (case.mode.clients[client], port)
        self.server = (case.mode.servers[server], case.mode.tcp_port)
        self.cseq, self.sseq = cseq, sseq

    def c(self, flags, data=b"", note=None, seq=None, ack=None, **more):
        """From the client."""
        seq = self.cseq if seq is None else seq
        ack = (self.sseq if "A" in flags else 0) if ack is None else ack
        packet = tcp(self.client, (self.case.mode.vip, 80), flags, seq, ack, data, ident=self.case.ident(), **more)
        self.cseq = max(self.cseq, seq + len(data) + ("S" in flags) + ("F" in flags))
        self.case.arrives("clients", self.client[0], packet, note or f"client: {flags} {len(data)} bytes")
        return packet

    def s(self, flags, data=b"", note=None, seq=None, ack=None, **more):
        """From the server."""
        seq = self.sseq if seq is None else seq
        ack = (self.cseq if "A" in flags else 0) if ack is None else ack
        self.sseq = max(self.sseq, seq + len(data) + ("S" in flags) + ("F" in flags))
        packet = tcp(self.server, self.client, flags, seq, ack, data, ident=self.case.ident(), **more)
        if self.case.mode.replies:
            self.case.arrives("servers", self.server[0], packet, note or f"server: {flags} {len(data)} bytes")
        return packet

    def open(self, options=MSS):
        self.c("S", options=options)
        self.s("SA", options=options)
        self.c("A")


class Flow:
    """One UDP flow."""

    def __init__(self, case, port=41000, server=0, client=0):
        self.case, self.client = case, (case.mode.clients[client], port)
        self.server = (case.mode.servers[server], case.mode.udp_port)

    def c(self, data, note=None, **more):
        packet = udp(self.client, (self.case.mode.vip, 53), data, ident=self.case.ident(), **more)
        self.case.arrives("clients", self.client[0], packet, note or f"client: {len(data)} bytes")
        return packet

    def s(self, data, note=None, **more):
        packet = udp(self.server, self.client, data, ident=self.case.ident(), **more)
        if self.case.mode.replies:
            self.case.arrives("servers", self.server[0], packet, note or f"server: {len(data)} bytes")
        return packet


def tcp_life(case):
    """Two connections: opened, a request, a response of odd length, closed by the server, then by the client."""
    for port, server in ((40000, 0), (40001, 1)):
        conn = Conn(case, port, server)
        conn.open()
        conn.c("PA", REQUEST)
        conn.s("A")
        conn.s("PA", RESPONSE)
        conn.c("A")
        conn.s("FA")
        conn.c("FA")
        conn.s("A")


def client_reset(case):
    """The client resets an open connection; what the server still sends passes or not as it does."""
    conn = Conn(case)
    conn.open()
    conn.c("PA", REQUEST)
    conn.s("A")
    conn.c("R", note="client: R, ends the connection")
    conn.s("PA", RESPONSE, note="server: had not seen the reset yet")
    conn.c("R", seq=conn.cseq, note="client: R once more")


def server_reset(case):
    """The server refuses one connection and resets another one in its middle."""
    conn = Conn(case)
    conn.c("S", options=MSS)
    conn.s("RA", note="server: nobody listens")
    conn = Conn(case, 40001, 1)
    conn.open()
    conn.c("PA", REQUEST)
    conn.s("RA", note="server: R in the middle")
    conn.c("A", note="client: had not seen the reset yet")


def half_open(case):
    """SYNs that are repeated, answered twice, never acknowledged, and acknowledged late."""
    conn = Conn(case)
    conn.c("S", options=MSS)
    conn.c("S", seq=1000, options=MSS, note="client: the same SYN again")
    conn.s("SA", options=MSS)
    conn.s("SA", seq=5000, options=MSS, note="server: the same SYN-ACK again")
    conn.c("S", seq=77000, options=MSS, note="client: SYN with another sequence number")
    conn.s("SA", seq=5000, ack=1001, options=MSS)
    conn.c("R", seq=1001, note="client: R in SYN_RECV, which leaves the connection as it is")
    conn.c("A", seq=1001, ack=5001, note="client: acknowledges late")
    other = Conn(case, 40001, 1)
    other.c("S", options=MSS, note="client: SYN that nobody answers")


def udp_flows(case):
    """Two flows, questions and answers; the second flow gets the other server; an empty datagram."""
    one, two = Flow(case), Flow(case, 41001, 1)
    one.c(b"query1")
    one.s(b"answer-1")
    two.c(b"second flow")
    one.c(b"query 2, odd!")
    two.s(b"answer to the second flow")
    two.c(b"", note="client: empty")
    one.s(b"", note="server: empty")


def zero_checksum(case):
    """Datagrams without a checksum, in both directions."""
    flow = Flow(case)
    flow.c(b"no checksum", zero=True)
    flow.s(b"none here either", zero=True)
    flow.c(b"with a checksum")
    flow.s(b"with a checksum")


def icmp_from_client(case):
    """A client's host complains about what servers have sent, as it sees it: from the virtual address."""
    mode = case.mode
    client, vip = mode.clients[0], mode.vip
    flow, conn = Flow(case), Conn(case, server=0)
    flow.c(b"query")
    answer = udp((vip, 53), flow.client, b"a" * 60, ident=500, ttl=63)
    flow.s(b"a" * 60)
    say = lambda packet, note: case.arrives("clients", client, packet, note)
    say(icmp_error(client, vip, 3, 3, answer, ident=case.ident()), "port unreachable about the answer")
    say(icmp_error(client, vip, 3, 3, answer, ident=case.ident(), quote=40), "the same, quoting more")
    conn.open()
    reply = tcp((vip, 80), conn.client, "A", 5001, 1001, b"x" * 100, ident=501, ttl=63)
    say(icmp_error(client, vip, 3, 4, reply, mtu=1400, ident=case.ident()), "fragmentation needed about a segment")
    say(icmp_error(client, vip, 4, 0, reply, ident=case.ident()), "source quench")
    say(icmp_error(client, vip, 12, 0, reply, ident=case.ident()), "parameter problem")
    say(icmp_error(client, vip, 3, 4, reply, mtu=1400, ident=case.ident(), damage=0x1234), "wrong ICMP checksum")
    stranger = udp((vip, 53), (client, 59999), b"who", ident=502, ttl=63)
    say(icmp_error(client, vip, 3, 3, stranger, ident=case.ident()), "about a flow that nobody knows")
    say(icmp(client, vip, 8, 0, struct.pack(">HH", 7, 1), b"ping" * 4, ident=case.ident()), "echo request")


def emitted(case, arm="servers"):
    """What the director sent last on this arm, one hop later."""
    packet = case.last[arm]
    return ip_again(packet, packet[8] - 1)


def ip_again(packet, ttl):
    """The same packet with another time to live."""
    from packet import checksum
    head = bytearray(packet[:(packet[0] & 15) * 4])
    head[8], head[10:12] = ttl, b"\0\0"
    head[10:12] = struct.pack(">H", checksum(bytes(head)))
    return bytes(head) + packet[len(head):]


def icmp_from_server(case):
    """A server's host complains about what clients have sent, as it sees it."""
    mode = case.mode
    flow, conn = Flow(case), Conn(case, server=0)
    if not mode.replies:
        # It complains to the client directly, and about a tunnel to the director. Where the director is its router,
        # the complaint passes here.
        flow.c(b"query")
        if not mode.tunnel:
            for source, note in ((mode.servers[0], "from the server's own address"), (mode.vip, "from the virtual one")):
                error = icmp_error(source, mode.clients[0], 3, 3, case.last["servers"], ident=case.ident())
                case.arrives("servers", mode.servers[0], error, "port unreachable, " + note)
            flow.c(b"again", note="client: goes on")
        else:
            error = icmp_error(mode.servers[0], mode.own, 3, 2, case.last["servers"], quote=100, ident=case.ident())
            case.arrives("servers", mode.servers[0], error, "protocol unreachable about the tunnel packet")
        return
    server = flow.server[0]
    say = lambda packet, note: case.arrives("servers", server, packet, note)
    flow.c(b"query")
    error = lambda kind, code, about, **more: icmp_error(server, flow.client[0], kind, code, about, ident=case.ident(), **more)
    say(error(3, 3, case.last["servers"]), "port unreachable")
    say(error(3, 3, case.last["servers"], quote=14), "port unreachable, quoting all")
    conn.c("S", options=MSS)
    say(error(3, 10, case.last["servers"]), "host administratively prohibited about the SYN")
    say(error(12, 0, case.last["servers"]), "parameter problem")
    say(error(3, 3, case.last["servers"], damage=0x1234), "wrong ICMP checksum")
    stranger = udp(flow.client, (server, 9), b"who", ident=502, ttl=62)
    say(error(3, 3, stranger), "about a flow that nobody knows")


def icmp_from_router(case):
    """Routers on both sides complain: about packets on their way to servers, and about replies."""
    mode = case.mode
    conn = Conn(case)
    conn.open()
    conn.c("PA", REQUEST + b"x" * 500)
    inside, outside = mode.routers["servers"], mode.routers["clients"]
    to = mode.own if mode.tunnel else mode.clients[0]
    quote = 100 if mode.tunnel else 8
    about = emitted(case)
    error = lambda src, dst, kind, code, what, **more: icmp_error(src, dst, kind, code, what, ident=case.ident(), **more)
    if mode.replies or mode.tunnel:
        case.arrives("servers", inside, error(inside, to, 3, 4, about, mtu=500, quote=quote),
                     "router before the servers: fragmentation needed")
        case.arrives("servers", inside, error(inside, to, 11, 0, about, quote=quote),
                     "router before the servers: time exceeded")
        case.arrives("servers", inside, error(inside, to, 3, 1, about, quote=quote),
                     "router before the servers: host unreachable")
    reply = tcp((mode.vip, 80), conn.client, "A", conn.sseq, conn.cseq, b"x" * 100, ident=501, ttl=62)
    case.arrives("clients", outside, error(outside, mode.vip, 3, 4, reply, mtu=1300),
                 "router before the clients: fragmentation needed")
    case.arrives("clients", outside, error(outside, mode.vip, 11, 0, reply),
                 "router before the clients: time exceeded")
    conn.c("A", note="client: the connection goes on")


def mtu_df(case):
    """Packets with DF that do not fit the servers' arm, whose MTU is small (for tunnels: with their header)."""
    flow, conn, mtu = Flow(case), Conn(case), case.mtu
    flow.c(b"x" * min(mtu + 300, 1440), note="client: a first datagram that is too long")
    flow.c(b"fits")
    conn.open()
    conn.c("A", b"y" * (mtu + 100), note="client: a segment that is too long")
    conn.c("PA", b"y" * (mtu - 60), seq=1001, note="client: a segment that fits where no tunnel is")
    if case.mode.replies:
        flow.s(b"z" * 500, note="server: fits")


def mtu_no_df(case):
    """Packets without DF that do not fit the servers' arm, whose MTU is 600 (for tunnels: with their header)."""
    flow, conn = Flow(case), Conn(case)
    flow.c(b"x" * 900, note="client: a first datagram that is too long", df=False)
    flow.c(b"fits", df=False)
    conn.open()
    conn.c("A", b"y" * 1300, note="client: a segment of three fragments", df=False)
    conn.c("PA", b"y" * 540, seq=1001, note="client: a segment of 580 bytes", df=False)


def pieces(src, dst, proto, payload, cuts, ident, **more):
    """Fragments of one packet, cut at these offsets."""
    ends = cuts[1:] + [len(payload)]
    return [ip(src, dst, proto, payload[a:b], ident=ident, df=False, more=b < len(payload), offset=a, **more)
            for a, b in zip(cuts, ends)]


def fragments(case):
    """Fragments in order, in disorder, repeated, overlapping and incomplete."""
    mode = case.mode
    flow = Flow(case)
    say = lambda list, note: [case.arrives("clients", flow.client[0], p, f"{note}, {n + 1} of {len(list)}")
                              for n, p in enumerate(list)]
    datagram = lambda data: udp_datagram(flow.client, (mode.vip, 53), data)
    whole = datagram(bytes(range(250)) * 12)
    cut = [0, 1200, 2000]
    make = lambda payload, at=cut: pieces(flow.client[0], mode.vip, 17, payload, at, case.ident())
    say(make(whole), "a datagram in fragments")
    last, first, middle = (lambda p: (p[2], p[0], p[1]))(make(whole))
    say([last, first, middle], "the same in disorder")
    a, b, c = make(whole)
    say([a, a, b, c], "the first one twice")
    a, b, c = make(whole)
    over = ip(flow.client[0], mode.vip, 17, whole[1192:2000], ident=struct.unpack(">H", a[4:6])[0], df=False, more=True,
              offset=1192)
    say([a, over, c], "overlapping by 8 bytes")
    say(make(whole)[:2], "without its end")
    flow.c(b"whole", note="a whole datagram of the flow", df=False)
    if mode.replies:
        answer = udp_datagram(flow.server, flow.client, bytes(range(200)) * 10)
        for n, p in enumerate(pieces(flow.server[0], flow.client[0], 17, answer, [0, 1480], case.ident())):
            case.arrives("servers", flow.server[0], p, f"an answer in fragments, {n + 1} of 2")
    conn = Conn(case)
    conn.open()
    segment = tcp_segment(conn.client, (mode.vip, 80), "PA", conn.cseq, conn.sseq, b"z" * 1000)
    for n, p in enumerate(pieces(conn.client[0], mode.vip, 6, segment, [0, 8, 520], case.ident())):
        case.arrives("clients", conn.client[0], p, f"a segment in fragments, the first of 8 bytes, {n + 1} of 3")


def ttl_1(case):
    """Packets whose time to live ends here, from clients and servers, before and in a connection."""
    conn, flow = Conn(case), Flow(case)
    conn.c("S", options=MSS, ttl=1)
    conn.c("S", seq=1000, options=MSS, ttl=2, note="client: the SYN again, two hops to live")
    conn.s("SA", options=MSS)
    conn.c("A", ttl=1)
    conn.c("A", ttl=255)
    conn.s("PA", RESPONSE, ttl=1, note="server: one hop to live")
    conn.s("PA", RESPONSE, seq=5001, ttl=2, note="server: two hops to live")
    flow.c(b"query", ttl=0, note="client: none to live")
    flow.c(b"query", ttl=1)


def odd_options(case):
    """Options and bits that hosts seldom send; all must arrive as they were."""
    timestamps = bytes.fromhex("0101080a") + struct.pack(">II", 123456, 0)
    everything = bytes.fromhex("020405b4 0402 080a0001e24000000000 01 030307".replace(" ", ""))
    conn = Conn(case, 40000, 0)
    conn.c("S", options=everything, note="client: SYN with MSS, SACK, time stamps, window scale")
    conn.s("SA", options=everything)
    conn.c("A", options=timestamps)
    conn.c("A", options=timestamps + bytes.fromhex("0101050a") + struct.pack(">II", 5001, 5100), note="client: SACK")
    conn.c("PAU", b"urgent!", urgent=3, note="client: urgent data")
    conn.s("PA", RESPONSE, tos=3, note="server: congestion experienced")
    conn.c("A", tos=0xB9, note="client: DSCP 46, ECT(1)")
    conn.c("A", window=0, note="client: window closed")
    full = bytes.fromhex("020405b4") + bytes.fromhex("2212") + bytes(range(16)) + bytes.fromhex("1312") + bytes(range(16, 32))
    two = Conn(case, 40001, 1)
    two.c("S", options=full, note="client: 40 bytes of options: MSS, Fast Open, MD5")
    two.s("SA", options=bytes.fromhex("020405b4fd0610203040 0101".replace(" ", "")), note="server: experiment 253")
    two.c("A", options=bytes.fromhex("fd04abcd00ffffff"), note="client: experiment 253, end of options, rubbish behind")
    ends = Conn(case, 40002, 0)
    ends.c("S", options=bytes(4), note="client: SYN with nothing but ends of options")
    if ":" in case.mode.vip:
        return
    record = bytes([7, 11, 4] + [0] * 8 + [0])
    routes = Conn(case, 40003, 1)
    alert = bytes.fromhex("94040000")
    head = dict(ident=case.ident())
    for options, note in ((alert, "router alert"), (bytes([1, 1, 1, 0]), "no operation"), (record, "record route")):
        segment = tcp_segment(routes.client, (case.mode.vip, 80), "S", 1000, 0, b"", MSS)
        packet = ip(routes.client[0], case.mode.vip, 6, segment, options=options, **head)
        case.arrives("clients", routes.client[0], packet, f"client: SYN with IP option: {note}")
    source_route = bytes([0x83, 7, 4]) + raw(case.mode.clients[1]) + b"\0"
    segment = tcp_segment(routes.client, (case.mode.vip, 80), "S", 1000, 0, b"", MSS)
    packet = ip(routes.client[0], case.mode.vip, 6, segment, options=source_route, **head)
    case.arrives("clients", routes.client[0], packet, "client: SYN with a source route")


def port_reuse(case):
    """A client uses a port again: after TIME_WAIT, after a reset, in FIN_WAIT, and in an open connection."""
    conn = Conn(case, 40000, 0)
    conn.open()
    conn.s("FA")
    conn.c("FA")
    conn.s("A")
    again = Conn(case, 40000, 1, cseq=90000, sseq=60000)
    again.c("S", options=MSS, note="client: new SYN on TIME_WAIT (on FIN_WAIT where replies are not seen)")
    again.s("SA", options=MSS)
    again.c("A")
    other = Conn(case, 40001, 0)
    other.open()
    other.c("R")
    other = Conn(case, 40001, 1, cseq=90000, sseq=60000)
    other.c("S", options=MSS, note="client: new SYN on CLOSE")
    third = Conn(case, 40002, 0)
    third.open()
    third.s("FA", note="server: closes first")
    third.c("S", seq=200000, options=MSS, note="client: new SYN on FIN_WAIT")
    fourth = Conn(case, 40003, 1)
    fourth.open()
    fourth.c("FA", note="client: closes first")
    fourth.c("S", seq=200000, options=MSS, note="client: new SYN on CLOSE_WAIT")
    fifth = Conn(case, 40004, 0)
    fifth.open()
    fifth.c("S", seq=300000, options=MSS, note="client: new SYN on an established connection")
    fifth.c("A", seq=1001, ack=5001, note="client: the old connection goes on")


def no_syn(case):
    """Segments that belong to no connection, and strange first segments."""
    client = lambda port: Conn(case, port)
    for port, flags in ((40000, "A"), (40001, "PA"), (40002, "FA"), (40003, "R"), (40004, ""), (40005, "FPU"),
                        (40006, "SR")):
        client(port).c(flags, b"data" if flags == "PA" else b"", ack=1 if "A" in flags else 0,
                       note=f"client: {flags or 'no flags at all'}, no connection")
    client(40007).c("SF", note="client: SYN and FIN")
    client(40008).c("SA", ack=1, note="client: SYN and ACK")
    if case.mode.replies:
        stray = Conn(case, 40100)
        stray.s("SA", ack=1001, note="server: SYN-ACK that nobody asked for")
        stray.s("A", note="server: ACK without a connection")
        Flow(case, 41100).s(b"unasked", note="server: a datagram that nobody asked for")
    conn = Conn(case, 40200, 0)
    conn.open()
    conn.c("", note="client: no flags at all, in a connection")
    conn.c("PA", REQUEST, note="client: the connection goes on")


def bad_checksum(case):
    """Wrong checksums: they must not become right."""
    conn, flow = Conn(case), Flow(case)
    conn.c("S", options=MSS, damage=0x1234)
    conn.s("SA", options=MSS)
    conn.c("A")
    conn.c("PA", REQUEST, damage=0x0101)
    conn.s("PA", RESPONSE, damage=0x8000)
    flow.c(b"query", damage=0x00FF)
    flow.s(b"answer", damage=0xFF00)
    if ":" not in case.mode.vip:
        packet = bytearray(udp(flow.client, (case.mode.vip, 53), b"header", ident=case.ident()))
        packet[10] ^= 0x55
        case.arrives("clients", flow.client[0], bytes(packet), "client: wrong IP checksum")


def udp_expiry(case):
    """A flow lives two seconds after its last packet; the next datagram opens a new one."""
    flow = Flow(case)
    flow.c(b"one")
    case.wait(1)
    flow.c(b"two", note="client: a second later, the same server")
    case.wait(1)
    flow.s(b"answer")
    case.wait(1)
    flow.c(b"three", note="client: a second after that, the same server")
    case.wait(5)
    flow.c(b"four", note="client: five seconds later, the next server")


SITUATIONS = {
    "tcp-life": tcp_life, "client-reset": client_reset, "server-reset": server_reset, "half-open": half_open,
    "udp": udp_flows, "zero-checksum": zero_checksum, "icmp-from-client": icmp_from_client,
    "icmp-from-server": icmp_from_server, "icmp-from-router": icmp_from_router, "mtu-df": mtu_df,
    "mtu-no-df": mtu_no_df, "fragments": fragments, "ttl-1": ttl_1, "odd-options": odd_options,
    "port-reuse": port_reuse, "no-syn": no_syn, "bad-checksum": bad_checksum, "udp-expiry": udp_expiry,
}
#: Not for IPv6: what these are made of is IPv4's.
ONLY_V4 = {"zero-checksum", "icmp-from-client", "icmp-from-server", "icmp-from-router", "mtu-no-df", "fragments"}
#: MTU of the servers' arm: over IPv4, and over IPv6, which has a least one.
SMALL = {"mtu-df": (600, 1280), "mtu-no-df": (600, 1280)}
#: Seconds that a UDP flow lives.
UDP_TIMEOUT = {"udp-expiry": 2}
