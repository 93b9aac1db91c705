//! The rings of one worker to all others, and what goes through them.

use super::ring::{Meta, Receiver, Sender, ring};
use crate::fragments::Ports;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use lvs_core::addr::MacAddr;
use lvs_core::flow::L4Proto;
use lvs_core::id::WorkerId;
use lvs_core::io::{Gso, GsoKind, L4Csum, PacketBuf, PortId, Vlan};
use lvs_core::snapshot::NextHop;
use lvs_core::wire::Headers;

/// Bytes of each ring from one worker to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(pub usize);

impl Default for RingSize {
    /// 256 KiB: some 160 packets of full size, or more than 2000 small ones.
    fn default() -> Self {
        Self(256 << 10)
    }
}

/// One worker's ends of the rings between all workers.
///
/// ```
/// use lvs_director::{Peers, RingSize};
/// let all = Peers::connect(4, RingSize::default());
/// assert_eq!(all.len(), 4); // one for each worker, to be given to its director
/// ```
pub struct Peers {
    me: WorkerId,
    to: Box<[Option<Sender>]>,
    from: Box<[Option<Receiver>]>,
    /// The ring to read next.
    turn: usize,
    /// Workers that were written to since anybody asked, by bit.
    written: [u64; 4],
}

/// Ring records, by kind.
const PACKET: u32 = 0;
const NEWS: u32 = 1;
/// A fragment, with the ports that its first one told.
const PIECE: u32 = 2;
/// Of a ring, in sixteenths: news leave half of it to packets.
const ALL: usize = 16;
const HALF: usize = 8;

/// What comes with a packet that is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    /// Where it was received.
    pub(crate) port: PortId,
    /// How often it has been handed over.
    pub(crate) passes: u8,
    csum: L4Csum,
    vlan: Option<Vlan>,
    gso: Option<Gso>,
    l3: u16,
    l4: u16,
    payload: u16,
    /// Of a fragment: what its first one told. It is no train then.
    pub(crate) ports: Option<Ports>,
}

impl Parcel {
    pub(crate) fn of<B: PacketBuf>(port: PortId, passes: u8, buf: &B, headers: &Headers) -> Self {
        let Headers { l3, l4, payload, .. } = *headers;
        Self {
            port,
            passes,
            csum: buf.l4_csum(),
            vlan: buf.vlan(),
            gso: buf.gso(),
            l3,
            l4,
            payload,
            ports: None,
        }
    }

    pub(crate) const fn with(self, ports: Option<Ports>) -> Self {
        Self { ports, ..self }
    }

    /// Tells a buffer with the packet's bytes what was known beside them.
    pub(crate) fn apply<B: PacketBuf>(&self, buf: &mut B) {
        if self.vlan.is_some() {
            buf.set_vlan(self.vlan);
        }
        if self.gso.is_some() {
            buf.set_gso(self.gso, self.payload);
        }
        buf.set_l4_csum(self.csum, self.l3, self.l4);
    }

    /// `kind 4 | passes 4 | csum 4 | gso 4 | port 16`, `l3 16 | l4 16`, `payload 16 | gso size 16`,
    /// `tag protocol 16 | tag 16` (0 = none). Of a piece: its protocol for `gso`, its ports for `payload | gso size`.
    fn meta(&self) -> Meta {
        let csum = match self.csum {
            L4Csum::Unknown => 0,
            L4Csum::Good => 1,
            L4Csum::Bad => 2,
            L4Csum::Partial => 3,
        };
        let (gso, size) = match self.gso {
            None => (0, 0),
            Some(Gso { kind: GsoKind::TcpV4, size }) => (1, size),
            Some(Gso { kind: GsoKind::TcpV6, size }) => (2, size),
            Some(Gso { kind: GsoKind::Udp, size }) => (3, size),
        };
        let passes = u32::from(self.passes) << 24;
        let vlan = self.vlan.map_or(0, |vlan| pair(vlan.tpid, vlan.tci));
        let (kind, gso, train) = match self.ports {
            None => (PACKET, gso, pair(self.payload, size)),
            Some(Ports { proto: L4Proto::Tcp, src, dst }) => (PIECE, 1, pair(src, dst)),
            Some(Ports { proto: L4Proto::Sctp, src, dst }) => (PIECE, 3, pair(src, dst)),
            // Of pieces of ICMP no ports are told.
            Some(Ports { proto: L4Proto::Udp | L4Proto::Icmp, src, dst }) => {
                (PIECE, 2, pair(src, dst))
            }
        };
        [
            kind << 28 | passes | csum << 20 | gso << 16 | u32::from(self.port.0),
            pair(self.l3, self.l4),
            train,
            vlan,
        ]
    }

    fn from_meta([head, layers, train, vlan]: Meta) -> Self {
        let csum = match head >> 20 & 15 {
            1 => L4Csum::Good,
            2 => L4Csum::Bad,
            3 => L4Csum::Partial,
            _ => L4Csum::Unknown,
        };
        let ((l3, l4), (payload, size)) = (split(layers), split(train));
        let (tpid, tci) = split(vlan);
        let parcel = Self {
            port: PortId(head as u16),
            passes: (head >> 24 & 15) as u8,
            csum,
            vlan: (vlan != 0).then_some(Vlan { tpid, tci }),
            gso: None,
            l3,
            l4,
            payload,
            ports: None,
        };
        if head >> 28 == PIECE {
            let proto = match head >> 16 & 15 {
                1 => L4Proto::Tcp,
                2 => L4Proto::Udp,
                _ => L4Proto::Sctp,
            };
            return Self { payload: l4, ..parcel }.with(Some(Ports {
                proto,
                src: payload,
                dst: size,
            }));
        }
        let kind = match head >> 16 & 15 {
            1 => Some(GsoKind::TcpV4),
            2 => Some(GsoKind::TcpV6),
            3 => Some(GsoKind::Udp),
            _ => None,
        };
        Self { gso: kind.map(|kind| Gso { kind, size }), ..parcel }
    }
}

const fn pair(high: u16, low: u16) -> u32 {
    (high as u32) << 16 | low as u32
}

const fn split(word: u32) -> (u16, u16) {
    ((word >> 16) as u16, word as u16)
}

/// What a neighbour told: where it is and its Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) hop: NextHop,
    pub(crate) mac: MacAddr,
}

/// Bytes of news: an address of either family, mapped, and an Ethernet address.
const NEWS_BYTES: usize = 22;

impl News {
    fn bytes(&self) -> [u8; NEWS_BYTES] {
        let mut bytes = [0; NEWS_BYTES];
        let ip = match self.hop.via {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        for (to, from) in bytes.iter_mut().zip(ip.into_iter().chain(self.mac.0)) {
            *to = from;
        }
        bytes
    }

    fn from_bytes(port: PortId, v6: bool, bytes: &[u8; NEWS_BYTES]) -> Option<Self> {
        let (ip, mac) = bytes.split_first_chunk::<16>()?;
        let ip = core::net::Ipv6Addr::from(*ip);
        let via = if v6 { IpAddr::V6(ip) } else { IpAddr::V4(ip.to_ipv4_mapped()?) };
        Some(Self { hop: NextHop { port, via }, mac: MacAddr(*mac.first_chunk()?) })
    }
}

/// What lies next in the rings of a worker.
pub(crate) enum Arrived {
    /// A packet of this many bytes, to be fetched.
    Packet(Parcel, usize),
    News(News),
}

impl Peers {
    /// Rings between all pairs of `workers`; the result is in the order of their numbers. At most 256.
    #[must_use]
    pub fn connect(workers: u16, size: RingSize) -> Vec<Self> {
        let count = usize::from(workers.min(256));
        let mut all: Vec<Self> = (0..=u8::MAX)
            .take(count)
            .map(|number| Self {
                me: WorkerId(number),
                to: (0..count).map(|_| None).collect(),
                from: (0..count).map(|_| None).collect(),
                turn: 0,
                written: [0; 4],
            })
            .collect();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let (sender, receiver) = ring(size.0);
                if let Some(place) = all.get_mut(from).and_then(|peers| peers.to.get_mut(to)) {
                    *place = Some(sender);
                }
                if let Some(place) = all.get_mut(to).and_then(|peers| peers.from.get_mut(from)) {
                    *place = Some(receiver);
                }
            }
        }
        all
    }

    /// Whose ends these are.
    #[must_use]
    pub const fn me(&self) -> WorkerId {
        self.me
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> u16 {
        u16::try_from(self.to.len()).unwrap_or(u16::MAX)
    }

    /// The workers that something was written to since the last call: those that may have to be woken.
    pub fn take_written(&mut self) -> impl Iterator<Item = WorkerId> + use<> {
        let written = core::mem::take(&mut self.written);
        (0..=u8::MAX)
            .filter(move |worker| {
                let word = written.get(usize::from(worker >> 6)).copied().unwrap_or(0);
                word >> (worker & 63) & 1 == 1
            })
            .map(WorkerId)
    }

    /// Whether another worker has written something that was not read yet.
    #[must_use]
    pub fn waiting(&self) -> bool {
        self.from.iter().flatten().any(|ring| !ring.is_empty())
    }

    fn note(&mut self, to: usize) {
        if let Some(word) = self.written.get_mut(to >> 6) {
            *word |= 1 << (to & 63);
        }
    }

    /// Copies a packet into the ring to its owner; `false` when there is no room, or no such worker.
    pub(crate) fn send(&mut self, to: WorkerId, parcel: &Parcel, bytes: &[u8]) -> bool {
        let Some(Some(ring)) = self.to.get_mut(to.index()) else { return false };
        let sent = ring.push(parcel.meta(), bytes, ALL);
        if sent {
            self.note(to.index());
        }
        sent
    }

    /// Tells all others what a neighbour has told. A ring that is half full is left out: who needs to know
    /// asks the neighbour again.
    pub(crate) fn tell(&mut self, news: &News) {
        let v6 = u32::from(news.hop.via.is_ipv6());
        let meta = [NEWS << 28 | u32::from(news.hop.port.0), v6, 0, 0];
        for to in 0..self.to.len() {
            let Some(Some(ring)) = self.to.get_mut(to) else { continue };
            if ring.push(meta, &news.bytes(), HALF) {
                self.note(to);
            }
        }
    }

    /// What the next ring in turn has, if any has something. A packet stays there until it is fetched.
    pub(crate) fn next(&mut self) -> Option<Arrived> {
        for _ in 0..self.from.len() {
            let at = self.turn;
            if let Some(Some(ring)) = self.from.get_mut(at)
                && let Some((len, meta)) = ring.peek()
            {
                let [head, v6, ..] = meta;
                if head >> 28 != NEWS {
                    return Some(Arrived::Packet(Parcel::from_meta(meta), len));
                }
                let mut bytes = [0; NEWS_BYTES];
                ring.take(len, &mut bytes);
                self.pass_on();
                if let Some(news) = News::from_bytes(PortId(head as u16), v6 != 0, &bytes) {
                    return Some(Arrived::News(news));
                }
                continue;
            }
            self.pass_on();
        }
        None
    }

    /// Fetches the packet that [`next`](Self::next) has just shown, into a buffer of its length; into a
    /// shorter one: throws it away.
    pub(crate) fn fetch(&mut self, len: usize, to: &mut [u8]) {
        if let Some(Some(ring)) = self.from.get_mut(self.turn) {
            ring.take(len, to);
        }
        self.pass_on();
    }

    fn pass_on(&mut self) {
        let next = self.turn.wrapping_add(1);
        self.turn = if next < self.from.len() { next } else { 0 };
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("me", &self.me).field("workers", &self.workers()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_and_news_survive_the_way_through_a_ring() {
        let gso = |kind| Some(Gso { kind, size: 1448 });
        let vlan = Some(Vlan { tpid: 0x88a8, tci: 0xe00c });
        for (csum, gso, vlan) in [
            (L4Csum::Unknown, None, None),
            (L4Csum::Good, gso(GsoKind::TcpV4), vlan),
            (L4Csum::Bad, gso(GsoKind::TcpV6), None),
            (L4Csum::Partial, gso(GsoKind::Udp), vlan),
        ] {
            let (port, passes) = (PortId(63), 2);
            let ports = None;
            let parcel =
                Parcel { port, passes, csum, vlan, gso, l3: 14, l4: 34, payload: 54, ports };
            assert_eq!(Parcel::from_meta(parcel.meta()), parcel);
            for proto in [L4Proto::Tcp, L4Proto::Udp, L4Proto::Sctp] {
                let ports = Some(Ports { proto, src: 65535, dst: 53 });
                let piece = Parcel { gso: None, payload: 34, ports, ..parcel };
                assert_eq!(Parcel::from_meta(piece.meta()), piece);
            }
        }
        for ip in ["10.0.0.9", "fd00::9"] {
            let hop = NextHop { port: PortId(3), via: ip.parse().unwrap() };
            let news = News { hop, mac: MacAddr([2, 3, 4, 5, 6, 7]) };
            let back = News::from_bytes(hop.port, hop.via.is_ipv6(), &news.bytes());
            assert_eq!(back, Some(news));
        }
    }

    #[test]
    fn rings_are_read_in_turn_and_those_written_to_are_named() {
        let mut all = Peers::connect(3, RingSize(4096));
        let mut two = all.pop().unwrap();
        let parcel = |port| Parcel {
            port: PortId(port),
            passes: 0,
            csum: L4Csum::Unknown,
            vlan: None,
            gso: None,
            l3: 0,
            l4: 0,
            payload: 0,
            ports: None,
        };
        assert!(!two.waiting());
        for (number, peers) in (0u16..).zip(&mut all) {
            assert!(peers.send(WorkerId(2), &parcel(number), &[1, 2, 3]));
            assert!(peers.send(WorkerId(2), &parcel(number), &[]));
            assert!(!peers.send(peers.me(), &parcel(0), &[]), "to oneself");
            assert!(!peers.send(WorkerId(9), &parcel(0), &[]), "to nobody");
            assert!(peers.take_written().eq([WorkerId(2)]));
            assert_eq!(peers.take_written().count(), 0);
        }
        let mut order = Vec::new();
        while let Some(Arrived::Packet(parcel, len)) = two.next() {
            assert!(two.waiting());
            let mut bytes = [0; 3];
            two.fetch(len, &mut bytes);
            order.push((parcel.port.0, len, bytes[2]));
        }
        assert_eq!(order, [(0, 3, 3), (1, 3, 3), (0, 0, 0), (1, 0, 0)]);
        assert!(!two.waiting());
    }
}
