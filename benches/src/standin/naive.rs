//! What one writes first: a map from tuples to sessions, one packet at a time.
//!
//! The map is hashbrown with its default hasher (foldhash: fast, and not meant to withstand an
//! attacker), both tuples of each session in it; sessions lie in a vector in huge pages. No prefetch:
//! a map gives no hold for one.

use super::{Counts, Hops, Key, arm_of, key, key_of, keys, session_of};
use crate::floor::translate::{HEADERS, Own, Pair, Session, inspect, rewrite};
use crate::world::SERVERS;
use hashbrown::HashMap;
use lvs_core::checksum::{Delta, Sum};
use lvs_core::io::PacketBuf;
use lvs_core::siphash::SipHash13;
use lvs_testkit::traffic::{Ends, Flow, Network};
use std::collections::VecDeque;

/// A session was opened: its keys, and its server.
type Opened = ([Key; 2], u16);
/// Events that are kept.
const EVENTS: usize = 256;
/// Time that a server has to answer.
const ANSWER_WITHIN: u32 = 160;

/// The director.
pub struct Naive {
    map: HashMap<Key, u32>,
    sessions: Vec<Session>,
    hops: Hops,
    own: [Own; 2],
    /// The servers of each service.
    services: HashMap<(u32, u16), Vec<(u32, u16)>>,
    turn: usize,
    /// Local addresses and ports that nobody has.
    free: Vec<(u32, u16)>,
    secret: SipHash13,
    /// Clients that stay with their servers, with the number of their sessions; `None`: they do not.
    clients: Option<HashMap<u32, (u16, u32)>>,
    /// Half-open sessions, oldest first: when they end, their place, and the client's numbers.
    half_open: VecDeque<(u32, u32, u32, u16)>,
    /// Sessions of each server that are not established.
    waiting: Vec<u32>,
    /// Networks and the ways to them, the longest prefix first.
    routes: Vec<(u32, u32, u16)>,
    /// What happened last, to be read by somebody.
    events: VecDeque<Opened>,
    /// What it counted.
    pub counts: Counts,
}

impl Naive {
    /// With all sessions in it, and room for as many more as `spare`.
    #[must_use]
    pub fn new(net: &Network<u32>, flows: &[Flow<u32>], hops: Hops, spare: usize) -> Self {
        Self::with(net, flows, hops, (spare, false))
    }

    /// The same; `persistent`: clients stay with their servers, and those of the sessions are known.
    #[must_use]
    pub fn with(
        net: &Network<u32>,
        flows: &[Flow<u32>],
        hops: Hops,
        (spare, persistent): (usize, bool),
    ) -> Self {
        let mut clients = HashMap::new();
        for flow in flows.iter().filter(|_| persistent) {
            let server = u16::from(flow.server_mac.0[5]);
            clients.entry(flow.client.0).or_insert((server, 0)).1 += 1;
        }
        let mut map = HashMap::with_capacity(2 * (flows.len() + spare));
        let mut sessions = Vec::with_capacity(flows.len() + spare);
        for (number, flow) in (0u32..).zip(flows) {
            let [inbound, reply] = keys(flow, net);
            map.insert(inbound, number << 1);
            map.insert(reply, number << 1 | 1);
            sessions.push(session_of(flow, net));
        }
        let own = net.own.map(|mac| Own::new(mac.0));
        let servers = (0..u32::from(SERVERS)).map(|n| (0x0a01_000b + n, 8080)).collect();
        Self {
            map,
            sessions,
            hops,
            own,
            services: HashMap::from_iter([(net.service, servers)]),
            turn: 0,
            // Addresses that no established session has.
            free: (0..spare)
                .map(|n| (0x0a01_f000 + (n >> 15) as u32, 1025 + (n & 0x7fff) as u16))
                .collect(),
            secret: SipHash13::new(&[1, 2]),
            clients: persistent.then_some(clients),
            half_open: VecDeque::with_capacity(spare),
            waiting: vec![0; 256],
            routes: vec![(0xffff_ff00, 0x0a00_0000, 0), (0xffff_0000, 0x0a01_0000, 1), (0, 0, 0)],
            events: VecDeque::with_capacity(EVENTS),
            counts: Counts::new(),
        }
    }

    /// Forwards packets; gives how many it could.
    #[inline(never)]
    pub fn run<B: PacketBuf>(&mut self, packets: &mut [B], now: u32) -> usize {
        packets.iter_mut().map(|packet| usize::from(self.one(packet, now))).sum()
    }

    #[inline]
    fn one<B: PacketBuf>(&mut self, packet: &mut B, now: u32) -> bool {
        let len = packet.total_len();
        let Some(h) = packet.data_mut().first_chunk_mut::<HEADERS>() else { return false };
        if !inspect(h, len, self.own[arm_of(h)]) {
            return false;
        }
        let Some(found) = self.map.get(&key_of(h)) else { return false };
        let direction = found & 1;
        let Some(session) = self.sessions.get_mut((found >> 1) as usize) else { return false };
        self.counts.carried(session.server_number, direction as usize, len - 14);
        if direction == 0 {
            let macs = self.hops.get(session.hop_in);
            rewrite::<true>(h, session, now, macs)
        } else {
            let macs = self.hops.get(session.hop_out);
            rewrite::<false>(h, session, now, macs)
        }
    }
}

/// Bytes of a SYN with a maximum segment size and nothing else.
const SYN_FRAME: usize = 58;
/// Bytes of the option with the client's address.
const TOA: usize = 8;

impl Naive {
    /// Sessions.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Forgets the newest sessions, so that `len` stay.
    pub fn forget_to(&mut self, len: usize) {
        while self.sessions.len() > len {
            let Some(session) = self.sessions.pop() else { return };
            self.half_open.pop_back();
            self.waiting[usize::from(session.server_number)] -= 1;
            let [client, _, _] = session.inner.words().map(u32::from_be);
            if let Some(clients) = &mut self.clients
                && let Some(known) = clients.get_mut(&client)
            {
                known.1 -= 1;
                if known.1 == 0 {
                    clients.remove(&client);
                }
            }
            for key in session_keys(&session) {
                self.map.remove(&key);
            }
            let [_, _, ports] = session.outer.words();
            let [local, _, _] = session.outer.words();
            self.free.push((u32::from_be(local), u16::from_be(ports as u16)));
        }
    }

    /// Opens a session for each SYN; gives how many.
    #[inline(never)]
    pub fn open_all<B: PacketBuf>(&mut self, packets: &mut [B], now: u32) -> usize {
        packets.iter_mut().map(|packet| usize::from(self.open(packet, now).is_some())).sum()
    }

    /// The checks of a SYN and its options, a look for an old session, the service, the client's server or the
    /// next one, the way back, a local address and port, a sequence number that nobody can guess, both keys, the
    /// time that it ends at, what is counted, an event, the client's address as a TCP option, and the translated
    /// packet.
    fn open<B: PacketBuf>(&mut self, packet: &mut B, now: u32) -> Option<()> {
        let len = packet.total_len();
        let h: &[u8; HEADERS] = packet.data().first_chunk()?;
        // An ordinary segment but for SYN instead of ACK, and one word of options.
        let mut like = *h;
        (like[46], like[47]) = (like[46].wrapping_sub(0x10), like[47] ^ 0x12);
        if !inspect(&like, len, self.own[arm_of(h)]) || len != SYN_FRAME {
            return None;
        }
        let mss = announced(packet.data().get(HEADERS..)?)?;
        let key = key_of(h);
        if self.map.contains_key(&key) {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let port = |at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
        let (client, virt, first) = ((word(26), port(34)), (word(30), port(36)), word(38));
        let (number, server) = self.choose(client.0, virt)?;
        let (_, _, hop_out) = self.routes.iter().find(|(mask, net, _)| client.0 & mask == *net)?;
        let local = self.free.pop()?;
        let isn = self.secret.words(&key) as u32;
        let session = Session {
            inner: Pair::new(client, virt),
            outer: Pair::new(local, server),
            seq_delta: isn.wrapping_sub(first),
            state: 1,
            flags: 3,
            hop_in: number + 1,
            hop_out: *hop_out,
            server_number: number,
            ..Session::default()
        }
        .with_deltas();
        let at = u32::try_from(self.sessions.len()).ok()?;
        let keys = session_keys(&session);
        for (side, key) in (0u32..).zip(keys) {
            self.map.insert(key, at << 1 | side);
        }
        self.sessions.push(session);
        self.half_open.push_back((now + ANSWER_WITHIN, at, first, mss));
        self.waiting[usize::from(number)] += 1;
        self.counts.carried(number, 0, len - 14);
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back((keys, number));
        let session = self.sessions.last_mut()?;
        let grown = packet.push_back(TOA).ok()?;
        add_client_address(grown, client)?;
        let h = grown.first_chunk_mut::<HEADERS>()?;
        rewrite::<true>(h, session, now, self.hops.get(session.hop_in)).then_some(())
    }

    /// The client's server, if it has one, else the next one.
    fn choose(&mut self, client: u32, virt: (u32, u16)) -> Option<(u16, (u32, u16))> {
        let servers = self.services.get(&virt)?;
        let mut next = || {
            self.turn = (self.turn + 1) % servers.len();
            self.turn as u16
        };
        let number = match &mut self.clients {
            None => next(),
            Some(clients) => {
                let known = clients.entry(client).or_insert_with(|| (next(), 0));
                known.1 += 1;
                known.0
            }
        };
        Some((number, *servers.get(usize::from(number))?))
    }
}

/// The segment size that a SYN announces, 0 for none; `None` when its options are malformed, or one is the address
/// option, which no client may send.
fn announced(options: &[u8]) -> Option<u16> {
    let (mut rest, mut mss) = (options, 0);
    loop {
        rest = match *rest {
            [] | [0, ..] => return Some(mss),
            [1, ref rest @ ..] => rest,
            [253 | 254, ..] => return None,
            [kind, len, ..] if len >= 2 => {
                if let (2, [_, _, a, b, ..]) = (kind, rest) {
                    mss = u16::from_be_bytes([*a, *b]);
                }
                rest.get(usize::from(len)..)?
            }
            _ => return None,
        };
    }
}

/// The tuples of both directions.
fn session_keys(session: &Session) -> [Key; 2] {
    let [client, virt, inner] = session.inner.words().map(u32::from_be);
    let [local, server, outer] = session.outer.words().map(u32::from_be);
    // Ports stand in a packet as source, destination: read as one number the source is on top.
    let ports = |both: u32| ((both >> 16) as u16, both as u16);
    let ((cport, vport), (lport, sport)) = (ports(inner), ports(outer));
    [
        key(&Ends { src: (client, cport), dst: (virt, vport) }),
        key(&Ends { src: (server, sport), dst: (local, lport) }),
    ]
}

/// Fills the last eight bytes with the option, and mends lengths and both checksums.
fn add_client_address(frame: &mut [u8], client: (u32, u16)) -> Option<()> {
    let at = frame.len().checked_sub(TOA)?;
    let option = frame.get_mut(at..)?;
    option[..2].copy_from_slice(&[254, TOA as u8]);
    option[2..4].copy_from_slice(&client.1.to_be_bytes());
    option[4..8].copy_from_slice(&client.0.to_be_bytes());
    let added = Sum::ZERO.bytes(option);
    let h = frame.first_chunk_mut::<HEADERS>()?;
    let field = |h: &[u8; HEADERS], at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
    let old = field(h, 16);
    let new = old + TOA as u16;
    h[16..18].copy_from_slice(&new.to_be_bytes());
    let ip = Delta::default().u16(old, new);
    let sum = ip.apply(field(h, 24));
    h[24..26].copy_from_slice(&sum.to_be_bytes());
    let offset = field(h, 46);
    h[46] += 0x20;
    // Pseudo header length, data offset, and the option itself.
    let tcp = ip.u16(offset, field(h, 46)).sum(Sum::ZERO, added);
    let sum = tcp.apply(field(h, 50));
    h[50..52].copy_from_slice(&sum.to_be_bytes());
    Some(())
}
