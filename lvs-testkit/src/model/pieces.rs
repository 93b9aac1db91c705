//! Fragments, byte by byte: the slow twin of the director's memory of datagrams in pieces.

use super::frame::Piece;
use super::sessions::Session;
use super::{Model, Outcome, Passing, drop, tcp::SYN, world};
use core::net::IpAddr;
use lvs_core::flow::{Direction, L4Proto};
use lvs_core::io::L4Csum;
use lvs_core::time::{Tick, Time};
use lvs_core::verdict::{Absorbed, DropReason, Verdict};

/// Source, destination, number, protocol (not in IPv6, where only the first fragment's counts).
type Key = (IpAddr, IpAddr, u32, u8);
/// What the first fragment told: protocol and ports; `None`: all of it is to be dropped.
type Ports = Option<(L4Proto, u16, u16)>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waits,
    Goes(Ports),
    Dead,
}

#[derive(Clone, Debug)]
pub(super) struct Datagram {
    key: Key,
    born: Tick,
    state: State,
    /// For each byte, whether it came.
    came: Vec<bool>,
    total: Option<usize>,
    held: Vec<Passing>,
}

impl Datagram {
    /// Stretches that are not joined yet: more than these nobody remembers.
    fn stretches(&self) -> usize {
        let starts = |(at, came): (usize, &bool)| *came && (at == 0 || !self.came[at - 1]);
        self.came.iter().enumerate().filter(|(at, came)| starts((*at, came))).count()
    }

    fn add(&mut self, piece: &Piece) -> Result<(), DropReason> {
        if self.state == State::Dead {
            return Err(DropReason::FragmentOverlap);
        }
        let (from, to) = (piece.start, piece.start + piece.len);
        self.came.resize(self.came.len().max(to), false);
        let known = self.came[from..to].iter().filter(|came| **came).count();
        if known == piece.len {
            return Err(DropReason::FragmentDuplicate);
        }
        let behind_end = self.total.is_some_and(|total| to > total || piece.last);
        let cuts_off = piece.last && self.came[to..].iter().any(|came| *came);
        if known > 0 || behind_end || cuts_off {
            self.state = State::Dead;
            return Err(DropReason::FragmentOverlap);
        }
        self.came[from..to].fill(true);
        if self.stretches() > 16 {
            self.state = State::Dead;
            return Err(DropReason::FragmentMemoryFull);
        }
        if piece.last {
            self.total = Some(to);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let all = |total: usize| self.came[..total].iter().all(|came| *came);
        matches!(self.state, State::Goes(_)) && self.total.is_some_and(all)
    }
}

impl Model {
    pub(super) fn fragment(&mut self, now: Time, mut packet: Passing, is: world::Is) -> Outcome {
        packet.ip.drop_padding();
        let piece = packet.ip.piece.expect("a fragment");
        if packet.gso.is_some() || packet.ip.csum == L4Csum::Partial {
            return drop(DropReason::Fragment);
        }
        let protocol = if packet.ip.dst.is_ipv6() { 0 } else { packet.ip.proto() };
        if packet.ip.csum == L4Csum::Bad {
            packet.ip.csum = L4Csum::Unknown;
        }
        let key = (packet.ip.src, packet.ip.dst, piece.id, protocol);
        self.forget_old_pieces(now, Some(key));
        let at = self.pieces.iter().position(|datagram| datagram.key == key);
        if piece.start == 0 {
            return self.first_fragment(now, packet, (key, piece), is);
        }
        let state = at.map_or(State::Waits, |at| self.pieces[at].state);
        match state {
            State::Dead => drop(DropReason::FragmentOverlap),
            State::Goes(ports) => {
                let at = at.expect("it goes");
                if let Err(reason) = self.pieces[at].add(&piece) {
                    return self.buried(at, reason);
                }
                self.forget_if_done(at);
                self.lead(now, packet, ports, is)
            }
            State::Waits => self.wait_for_first(now, packet, (key, piece)),
        }
    }

    fn first_fragment(
        &mut self,
        now: Time,
        packet: Passing,
        (key, piece): (Key, Piece),
        is: world::Is,
    ) -> Outcome {
        let at = self.datagram(now, key);
        if let Err(reason) = self.pieces[at].add(&piece) {
            return self.buried(at, reason);
        }
        let is_syn = packet.ip.tcp().is_some_and(|tcp| tcp.flags & SYN != 0);
        let ports = packet.ip.ports().filter(|_| !is_syn);
        self.pieces[at].state = State::Goes(ports);
        let held = core::mem::take(&mut self.pieces[at].held);
        self.forget_if_done(at);
        let outcome = self.lead(now, packet, ports, is);
        for packet in held {
            let verdict = self.lead(now, packet, ports, is).verdict;
            self.count_verdict(verdict);
        }
        outcome
    }

    fn wait_for_first(
        &mut self,
        now: Time,
        packet: Passing,
        (key, piece): (Key, Piece),
    ) -> Outcome {
        let limits = self.world.setup().fragments;
        let all: usize = self.pieces.iter().map(|datagram| datagram.held.len()).sum();
        let frame = packet.ip.build().expect("lengths were checked").len();
        let same = self.pieces.iter().find(|datagram| datagram.key == key);
        let own = same.map_or(0, |datagram| datagram.held.len());
        if all >= limits.held.into() || own >= limits.held_each.into() || frame > 2048 {
            return drop(DropReason::FragmentHeldFull);
        }
        let at = self.datagram(now, key);
        if let Err(reason) = self.pieces[at].add(&piece) {
            return self.buried(at, reason);
        }
        self.pieces[at].held.push(packet);
        Verdict::Absorb(Absorbed::WaitsForFirst).into()
    }

    /// The datagram with this key, a new one if need be.
    fn datagram(&mut self, now: Time, key: Key) -> usize {
        let known = self.pieces.iter().position(|datagram| datagram.key == key);
        known.unwrap_or_else(|| {
            let (born, state) = (now.tick(), State::Waits);
            let (came, held) = (Vec::new(), Vec::new());
            self.pieces.push(Datagram { key, born, state, came, total: None, held });
            self.pieces.len() - 1
        })
    }

    /// A fragment that is refused; with it may go what waited.
    fn buried(&mut self, at: usize, reason: DropReason) -> Outcome {
        if self.pieces[at].state == State::Dead {
            for _ in core::mem::take(&mut self.pieces[at].held) {
                self.count(DropReason::FragmentOverlap.id());
            }
        }
        drop(reason)
    }

    fn forget_if_done(&mut self, at: usize) {
        if self.pieces[at].is_done() {
            self.pieces.remove(at);
        }
    }

    /// Forgets datagrams, or one, whose time is over.
    pub(super) fn forget_old_pieces(&mut self, now: Time, only: Option<Key>) {
        let limits = self.world.setup().fragments;
        let (timeout, wait) = (Tick::covering(limits.timeout), Tick::covering(limits.wait));
        let is_old = |datagram: &Datagram| {
            let limit = if datagram.state == State::Waits { wait } else { timeout };
            now.tick().since(datagram.born) >= limit
        };
        let mut in_vain = 0;
        self.pieces.retain(|datagram| {
            let forget = is_old(datagram) && only.is_none_or(|only| only == datagram.key);
            in_vain += if forget { datagram.held.len() } else { 0 };
            !forget
        });
        for _ in 0..in_vain {
            self.count(DropReason::FragmentTimeout.id());
        }
    }

    /// A fragment whose ports are known goes to its session.
    fn lead(&mut self, now: Time, packet: Passing, ports: Ports, is: world::Is) -> Outcome {
        let hosts = |reason| {
            if is.own.is_some() { Verdict::Release.into() } else { drop(reason) }
        };
        let Some((proto, sport, dport)) = ports else { return hosts(DropReason::Fragment) };
        if packet.ip.ports().is_some() {
            return self.with_ports(now, packet, is);
        }
        match self.find_between(proto, (packet.ip.src, sport), (packet.ip.dst, dport)) {
            Some((at, direction)) => self.carry_later(now, packet, at, direction),
            None => hosts(DropReason::FragmentNoSession),
        }
    }

    /// A later fragment: addresses, and nothing else.
    fn carry_later(
        &mut self,
        now: Time,
        mut packet: Passing,
        at: usize,
        direction: Direction,
    ) -> Outcome {
        let session: &Session = &self.sessions.live[at];
        let mut outcome = Outcome::from(Verdict::Release);
        outcome.session = Some(session.inbound());
        outcome.service = Some(session.service);
        outcome.server = Some(session.server);
        let (quad, hops) = (session.quad, [session.hop_in, session.hop_out]);
        let (hop, src, dst) = match direction {
            Direction::Inbound => (hops[0], quad.local.0, quad.server.0),
            Direction::Return => (hops[1], quad.virt.0, quad.client.0),
        };
        outcome.verdict = if packet.ip.ttl <= 1 {
            Verdict::Drop(DropReason::TtlExceeded)
        } else if let Err(reason) = self.fits(now, &packet, hop, 0) {
            Verdict::Drop(reason)
        } else {
            self.take_in(now, at, direction, packet.ip.len(), None);
            (packet.ip.src, packet.ip.dst) = (src, dst);
            packet.ip.ttl -= 1;
            self.emit(now, packet, hop)
        };
        outcome
    }
}
