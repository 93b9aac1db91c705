//! What happens: steps that shrink to something readable, and the packets that they mean.

use crate::config::{CLIENTS, Change, HOSTS, SERVICES, ip, mac_of, port_of};
use crate::rig::OWN_MAC;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::MacAddr;
use lvs_core::flow::{Direction, L4Proto};
use lvs_core::io::mem::{MemBuf, MemMeta};
use lvs_core::io::{L4Csum, PacketBuf, PortId, Vlan};
use lvs_testkit::build::{
    Csum, Ext, Layer4, Packet, arp_reply, arp_request, echo, echo_reply, flag, icmp, ndp_advert,
    ndp_solicit, option, raw, tcp, udp,
};
use lvs_testkit::model::Session;
use proptest::sample::Index;

/// What a step may know.
pub(crate) struct Known<'a> {
    pub(crate) sessions: &'a [Session],
}

/// Something odd about a packet.
#[derive(Clone, Debug)]
pub(crate) enum Twist {
    WrongSum,
    NoUdpSum,
    Partial,
    WrongPartial,
    Train(u16),
    FoundBad,
    FoundGood,
    Ttl(u8),
    ForSomebodyElse,
    ToGroup,
    TagBeside,
    TagInside,
    IpOptions,
    SourceRoute(bool),
    /// Where it starts, whether more follow, which datagram.
    Fragment(u16, bool, u8),
    WrongIpSum,
    Padding(usize),
    NoHeadroom(usize),
    Cut(usize),
    Extension(u8),
    Tos,
    From(&'static str),
}

/// Options of a segment.
#[derive(Clone, Debug)]
pub(crate) enum Opts {
    None,
    Mss(u16),
    Linux,
    Timestamps,
    Sack(u32),
    Forged(u8),
    FastOpen(usize),
    Full,
    Bytes(Vec<u8>),
}

/// A packet of a client for a service.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    pub(super) client: usize,
    pub(super) port: u8,
    pub(super) service: usize,
    pub(super) seq: u32,
    pub(super) payload: u16,
    pub(super) opts: Opts,
    pub(super) twist: Option<Twist>,
}

/// A segment of a session that exists.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(super) at: Index,
    pub(super) inbound: bool,
    pub(super) flags: u8,
    /// Where in the sender's stream, and what it acknowledges of the other's.
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) payload: u16,
    pub(super) opts: Opts,
    pub(super) twist: Option<Twist>,
}

/// A frame of a neighbour that nobody has asked for.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(super) from: usize,
    pub(super) target: usize,
    pub(super) request: bool,
    pub(super) odd: u8,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A SYN or a datagram.
    Open(Fresh),
    /// Open, SYN-ACK, acknowledgement, request, answer, its acknowledgement; so many of them.
    Talk(Fresh, u8),
    Segment(Segment),
    Neighbour(Talk),
    Ping(usize, &'static str, bool, Option<Twist>),
    Protocol(u8, &'static str),
    Frame(Vec<u8>, u8),
    Wait(u64),
    Reload(Vec<Change>),
    Silent(Vec<&'static str>),
}

/// A script; one step a line when it is shown.
#[derive(Clone)]
pub(crate) struct Script(pub(crate) Vec<Step>);

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            write!(f, "\n  {number}: {step:?}")?;
        }
        Ok(())
    }
}

/// Where the server's stream starts, and the client's: near the end of the numbers.
const SERVER: u32 = 0xffff_fc00;

impl Step {
    /// The packets of the step, one a round.
    pub(crate) fn packet(&self, round: u32, known: &Known<'_>) -> Option<(PortId, MemBuf)> {
        match self {
            Self::Talk(fresh, most) if round <= u32::from(*most) => match round {
                0 => fresh.packet(),
                _ => dialogue(fresh, round, known),
            },
            _ if round > 0 => None,
            Self::Open(fresh) => fresh.packet(),
            Self::Segment(segment) => segment.packet(known),
            Self::Neighbour(talk) => Some(talk.packet()),
            Self::Ping(client, to, reply, twist) => {
                let from = CLIENTS[*client];
                if ip(from).is_ipv4() != ip(to).is_ipv4() {
                    return None;
                }
                let port = port_of(ip(from));
                let packet = if *reply { echo_reply(7, 1) } else { echo(7, 1) };
                let packet = packet.from(from).to(*to).payload_len(33);
                Some((PortId(port), finish(link(packet, port), twist.as_ref())))
            }
            Self::Protocol(number, to) => {
                let from = if ip(to).is_ipv4() { CLIENTS[0] } else { CLIENTS[4] };
                let packet = raw(*number).from(from).to(*to).payload_len(40);
                Some((PortId(0), link(packet, 0).build_buf()))
            }
            Self::Frame(bytes, port) => Some((PortId(u16::from(*port)), MemBuf::from_bytes(bytes))),
            Self::Talk(..) | Self::Wait(_) | Self::Reload(_) | Self::Silent(_) => None,
        }
    }
}

fn link<P: Layer4>(packet: Packet<P>, port: u16) -> Packet<P> {
    let src = packet.source().ip();
    packet.src_mac(mac_of(src)).dst_mac(OWN_MAC[usize::from(port)])
}

/// Builds a packet, twisted.
fn finish<P: Layer4>(packet: Packet<P>, twist: Option<&Twist>) -> MemBuf {
    let v6 = packet.is_v6();
    let Some(twist) = twist else { return packet.build_buf() };
    let metadata =
        |packet: MemBuf, l4_csum| packet.with_meta(MemMeta { l4_csum, ..MemMeta::default() });
    match twist {
        Twist::WrongSum => packet.wrong_l4_csum().build_buf(),
        Twist::NoUdpSum => packet.l4_csum(Csum::Value(0)).build_buf(),
        Twist::Partial => packet.l4_csum(Csum::Partial).build_buf(),
        Twist::WrongPartial => {
            let mut packet = packet.l4_csum(Csum::Partial).pad(3).build_buf();
            // A field that the sender has filled wrongly, found by the port and protocol bytes.
            let l4 = usize::from(packet.meta().l4);
            if let Some(field) = packet.data_mut().get_mut(l4 + 6..l4 + 8) {
                field[1] ^= 0x55;
            }
            packet
        }
        Twist::Train(size) => packet.gso(*size).build_buf(),
        Twist::FoundBad => metadata(packet.wrong_l4_csum().build_buf(), L4Csum::Bad),
        Twist::FoundGood => metadata(packet.build_buf(), L4Csum::Good),
        Twist::Ttl(ttl) => packet.ttl(*ttl).build_buf(),
        Twist::ForSomebodyElse => packet.dst_mac(MacAddr([2, 1, 1, 1, 1, 1])).build_buf(),
        Twist::ToGroup => packet.dst_mac(MacAddr::BROADCAST).build_buf(),
        Twist::TagBeside => packet.vlan_beside(7).build_buf(),
        Twist::TagInside => packet.vlan(9).build_buf(),
        Twist::IpOptions | Twist::SourceRoute(_) if v6 => packet.build_buf(),
        Twist::SourceRoute(strict) => {
            let kind = if *strict { 137 } else { 131 };
            packet.ip_options(&[1, kind, 7, 4, 10, 0, 0, 9]).build_buf()
        }
        Twist::IpOptions => packet.ip_options(&[0x94, 4, 0, 0, 1]).build_buf(),
        Twist::Fragment(start, more, id) if v6 => {
            packet.ext(Ext::Fragment(*start, *more, u32::from(*id))).build_buf()
        }
        Twist::Fragment(start, more, id) => {
            packet.fragment(*start, *more).ident(u16::from(*id)).build_buf()
        }
        Twist::WrongIpSum => packet.ip_csum(Csum::Wrong).build_buf(),
        Twist::Padding(bytes) => packet.pad(*bytes).build_buf(),
        Twist::NoHeadroom(room) => MemBuf::with_room(&packet.build(), *room, 0),
        Twist::Cut(len) => packet.cut(*len).build_buf(),
        Twist::Extension(kind) if v6 => {
            let ext = match kind % 5 {
                0 => Ext::HopByHop(vec![5, 2, 0, 0]),
                1 => Ext::Destination(vec![1, 2, 0, 0]),
                2 => Ext::Fragment(0, false, 9),
                3 => Ext::Routing(4, kind / 64, vec![0; 4]),
                _ => Ext::Auth(12),
            };
            packet.ext(ext).build_buf()
        }
        Twist::Extension(_) => packet.build_buf(),
        Twist::Tos => packet.tos(0xfd).dont_fragment(false).ident(0xffff).build_buf(),
        Twist::From(other) if ip(other).is_ipv6() == v6 => {
            let port = packet.source().port();
            packet.from((ip(other), port)).build_buf()
        }
        Twist::From(_) => packet.build_buf(),
    }
}

impl Opts {
    fn bytes(&self) -> Vec<u8> {
        let forged: SocketAddr = "203.0.113.9:63881".parse().unwrap();
        match self {
            Self::None => Vec::new(),
            Self::Mss(size) => option::mss(*size),
            Self::Linux => {
                let timestamps = option::timestamps(5, 0);
                [
                    option::mss(1460),
                    option::sack_permitted(),
                    timestamps,
                    vec![1],
                    option::window_scale(7),
                ]
                .concat()
            }
            Self::Timestamps => [vec![1, 1], option::timestamps(7, 8)].concat(),
            Self::Sack(edge) => {
                let blocks = [(*edge, edge.wrapping_add(100)), (edge.wrapping_add(200), *edge)];
                [vec![1], option::timestamps(7, 8), option::sack(&blocks)].concat()
            }
            Self::Forged(kind) => {
                let mut bytes = option::toa(forged);
                bytes[0] = *kind;
                [option::mss(1400), bytes].concat()
            }
            Self::FastOpen(len) => {
                let cookie: Vec<u8> = (0..*len as u8).collect();
                option::any(254, &[&[0xf9, 0x89][..], &cookie].concat())
            }
            Self::Full => {
                let other = option::any(77, &[3; 8]);
                [
                    option::mss(1460),
                    other,
                    option::sack_permitted(),
                    option::timestamps(1, 2),
                    vec![1; 2],
                    option::any(34, &[9; 8]),
                ]
                .concat()
            }
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl Fresh {
    fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let client = ip(CLIENTS[self.client]);
        let to: SocketAddr = SERVICES[self.service].0.parse().unwrap();
        let client = if client.is_ipv4() == to.is_ipv4() {
            client
        } else {
            ip(CLIENTS[if to.is_ipv4() { 0 } else { 4 }])
        };
        // A service for all ports is asked for one of two.
        let all = [8080, 25][usize::from(self.port & 1)];
        let to = SocketAddr::new(to.ip(), if to.port() == 0 { all } else { to.port() });
        Some((SocketAddr::new(client, 40000 + u16::from(self.port)), to))
    }

    fn packet(&self) -> Option<(PortId, MemBuf)> {
        let (from, to) = self.ends()?;
        let port = port_of(from.ip());
        let packet = match SERVICES[self.service].1 {
            L4Proto::Icmp => unreachable!("no service of these"),
            L4Proto::Tcp => {
                let packet = tcp().syn().seq(self.seq).options(&self.opts.bytes());
                let packet = packet.from(from).to(to).payload_len(usize::from(self.payload % 64));
                finish(link(packet, port), self.twist.as_ref())
            }
            L4Proto::Udp => {
                let packet = udp().from(from).to(to).payload_len(self.payload.into());
                finish(link(packet, port), self.twist.as_ref())
            }
            // The model does not know it.
            L4Proto::Sctp => return None,
        };
        Some((PortId(port), packet))
    }
}

/// The packets that follow an opening one.
fn dialogue(fresh: &Fresh, round: u32, known: &Known<'_>) -> Option<(PortId, MemBuf)> {
    let (from, to) = fresh.ends()?;
    let mut live = known.sessions.iter();
    let at = live.position(|s| {
        s.quad.client == (from.ip(), from.port()) && s.quad.virt == (to.ip(), to.port())
    })?;
    let session = &known.sessions[at];
    let (isn, sent) = (fresh.seq, u32::from(fresh.payload));
    let (inbound, flags, seq, ack, payload) = match round {
        1 => (false, flag::SYN | flag::ACK, 0, 1, 0),
        2 => (true, flag::ACK, 1, 1, 0),
        3 => (true, flag::ACK | flag::PSH, 1, 1, fresh.payload),
        4 => (false, flag::ACK | flag::PSH, 1, 1 + sent, 700),
        5 => (true, flag::ACK, 1 + sent, 701, 0),
        6 => (true, flag::FIN | flag::ACK, 1 + sent, 701, 0),
        7 => (false, flag::FIN | flag::ACK, 701, 2 + sent, 0),
        _ => (true, flag::ACK, 2 + sent, 702, 0),
    };
    let opts = match round {
        1 => Opts::Mss(1460),
        _ => Opts::None,
    };
    Some(segment(session, inbound, flags, (seq, ack), isn, payload, &opts, fresh.twist.as_ref()))
}

fn segment(
    session: &Session,
    inbound: bool,
    flags: u8,
    (seq, ack): (u32, u32),
    client_isn: u32,
    payload: u16,
    opts: &Opts,
    twist: Option<&Twist>,
) -> (PortId, MemBuf) {
    let quad = &session.quad;
    let direction = if inbound { Direction::Inbound } else { Direction::Return };
    let (from, to) = match direction {
        Direction::Inbound => (quad.client, quad.virt),
        Direction::Return => (quad.server, quad.local),
    };
    let port = port_of(from.0);
    let packet = match quad.proto {
        L4Proto::Icmp => unreachable!("no service of these"),
        L4Proto::Tcp => {
            // Each end numbers its own bytes; the server sees the client's numbers moved.
            let moved = client_isn.wrapping_add(if inbound { 0 } else { session.seq_delta });
            let (own, other) = if inbound { (moved, SERVER) } else { (SERVER, moved) };
            let packet = tcp()
                .flags(flags)
                .seq(own.wrapping_add(seq))
                .ack_number(other.wrapping_add(ack))
                .options(&opts.bytes())
                .from(from)
                .to(to)
                .payload_len(payload.into());
            finish(link(packet, port), twist)
        }
        L4Proto::Udp => {
            let packet = udp().from(from).to(to).payload_len(payload.into());
            finish(link(packet, port), twist)
        }
        L4Proto::Sctp => panic!("the model opens no such session"),
    };
    (PortId(port), packet)
}

impl Segment {
    fn packet(&self, known: &Known<'_>) -> Option<(PortId, MemBuf)> {
        if known.sessions.is_empty() {
            return None;
        }
        let session = &known.sessions[self.at.index(known.sessions.len())];
        let (flags, numbers) = (self.flags, (self.seq, self.ack));
        let (opts, twist) = (&self.opts, self.twist.as_ref());
        Some(segment(session, self.inbound, flags, numbers, 1000, self.payload, opts, twist))
    }
}

impl Talk {
    fn packet(&self) -> (PortId, MemBuf) {
        const TARGETS: [&str; 12] = [
            "10.0.0.1",
            "10.0.0.80",
            "10.1.0.1",
            "10.1.0.100",
            "10.0.0.200",
            "10.0.0.77",
            "10.1.0.102",
            "10.0.0.2",
            "fd00::1",
            "fd00::80",
            "fd01::100",
            "fd00::77",
        ];
        let from = ip(HOSTS[self.from]);
        let target = ip(TARGETS[self.target]);
        let port = port_of(from);
        let own = OWN_MAC[usize::from(port)];
        let mut mac = mac_of(from);
        let v6_target = [ip(TARGETS[8 + self.target % 4]), ip(TARGETS[self.target % 8])];
        let frame = match (from, target) {
            (IpAddr::V4(from), target) => {
                let target = if target.is_ipv4() { target } else { v6_target[1] };
                let IpAddr::V4(target) = target else { unreachable!("chosen above") };
                // Somebody who claims our address, or has none yet.
                let from = match self.odd {
                    1 => "10.0.0.80".parse().unwrap(),
                    2 => "0.0.0.0".parse().unwrap(),
                    _ => from,
                };
                if self.odd == 3 {
                    mac = MacAddr::ZERO;
                }
                let mut arp = match self.request {
                    true => arp_request(mac, from, target),
                    false => arp_reply(mac, from, own, target),
                };
                match self.odd {
                    4 => arp.hardware = 6,
                    5 => arp.operation = 9,
                    6 => arp.sender_mac = MacAddr([3, 0, 0, 0, 0, 1]),
                    7 => arp.pad = 18,
                    _ => {}
                }
                MemBuf::from_bytes(&arp.build())
            }
            (IpAddr::V6(from), target) => {
                let target = if target.is_ipv6() { target } else { v6_target[0] };
                let IpAddr::V6(target) = target else { unreachable!("chosen above") };
                let from = match self.odd {
                    1 => "fd00::80".parse().unwrap(),
                    2 => "::".parse().unwrap(),
                    _ => from,
                };
                let message = match self.request {
                    true => ndp_solicit(mac, from, target),
                    false => {
                        let flags = if self.odd == 3 { 1 } else { 3 };
                        ndp_advert(mac, from, own, "fd00::1".parse().unwrap(), flags)
                    }
                };
                match self.odd {
                    4 => message.ttl(64).build_buf(),
                    5 => message.wrong_l4_csum().build_buf(),
                    6 => message.ext(Ext::Fragment(0, false, 3)).build_buf(),
                    7 => message.ext(Ext::Destination(vec![])).build_buf(),
                    8 => icmp(134, 0)
                        .from(IpAddr::V6(from))
                        .to("ff02::1")
                        .payload_len(20)
                        .build_buf(),
                    9 => message.vlan_beside(5).build_buf(),
                    _ => message.build_buf(),
                }
            }
        };
        let mut frame = frame;
        if self.odd == 9 {
            frame.set_vlan(Some(Vlan { tpid: 0x8100, tci: 5 }));
        }
        (PortId(port), frame)
    }
}
