//! Sessions, their local ports, and what they count.

use super::frame::Ip;
use super::world::World;
use super::{Model, tcp};
use core::net::IpAddr;
use core::time::Duration;
use lvs_core::counters::Carried;
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::id::{ServerId, ServiceId};
use lvs_core::session::{Quad, TcpState};
use lvs_core::snapshot::ServiceSpec;
use lvs_core::time::{Tick, Time};
use lvs_core::timeouts::{SctpPhase, Timeouts};
use std::collections::{HashMap, VecDeque};

/// A session of the model.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its addresses.
    pub quad: Quad,
    /// Its TCP state; `None` for UDP.
    pub state: TcpState,
    /// Handshake over and nothing pending.
    pub plain: bool,
    /// The server has answered.
    pub answered: bool,
    /// Its service.
    pub service: ServiceId,
    /// Its server.
    pub server: ServerId,
    /// What is added to the client's sequence numbers.
    pub seq_delta: u32,
    /// It holds a local port.
    pub has_local_port: bool,
    /// When it was opened.
    pub opened: Time,
    /// When its newest packet came.
    pub last_seen: Time,
    /// What it has carried.
    pub carried: Carried,
    pub(super) timeouts: Timeouts,
    /// Place of its client's template.
    pub(super) template: Option<usize>,
    pub(super) hop_in: usize,
    pub(super) hop_out: usize,
    pub(super) numbers: Numbers,
}

/// What the handshake has taught; 0 = not known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// The client's address still goes onto client segments.
    pub(super) owes_address: bool,
    /// The client's initial sequence number, until the session is plain.
    pub(super) client_isn: u32,
    /// The server's first data sequence number, until the session is plain.
    pub(super) server_first: u32,
    /// Where the server's newest data end.
    pub(super) server_end: u32,
    /// What the server has acknowledged last.
    pub(super) server_ack: u32,
}

impl Session {
    /// Client to service, as on the wire.
    ///
    /// # Panics
    /// Never: a session has addresses of one family.
    #[must_use]
    pub fn inbound(&self) -> WireTuple {
        self.quad.inbound().expect("one family")
    }

    fn timeout(&self) -> Duration {
        match self.quad.proto {
            L4Proto::Tcp => self.timeouts.tcp(self.state),
            L4Proto::Udp => self.timeouts.udp(),
            L4Proto::Sctp => self.timeouts.sctp(SctpPhase::of(self.state)),
            L4Proto::Icmp => self.timeouts.icmp(),
        }
    }

    /// When it may end at the earliest.
    #[must_use]
    pub fn due(&self) -> Time {
        self.last_seen.after(self.timeout())
    }

    /// When it must have ended (INV-8).
    #[must_use]
    pub fn overdue(&self) -> Time {
        let short = self.timeout() <= Duration::from_secs(10);
        self.due().after(if short { 2 * Tick::LENGTH } else { Duration::from_secs(4) })
    }
}

/// Live sessions and traffic of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerTotals {
    /// Sessions in an established state.
    pub active: u32,
    /// All others.
    pub inactive: u32,
    /// It has reached its upper threshold, and not fallen below the lower one since.
    pub overloaded: bool,
    /// What it has carried.
    pub carried: Carried,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    pub(super) live: Vec<Session>,
    /// Free ports of each local address that was ever used, the one that is free longest first.
    ports: HashMap<IpAddr, VecDeque<u16>>,
    /// Who used a local address and port last, and what the server expected next.
    previous: HashMap<(IpAddr, u16), ((IpAddr, u16), u32)>,
}

impl Sessions {
    /// The free ports of a local address. At first they stand in order, from a place that follows from
    /// the seed and the number of the address.
    fn free_ports(&mut self, world: &World, local: IpAddr) -> &mut VecDeque<u16> {
        self.ports.entry(local).or_insert_with(|| {
            let setup = world.setup();
            let number = world.local_number(local);
            if number >= usize::from(setup.local_addresses[usize::from(local.is_ipv6())]) {
                return VecDeque::new();
            }
            let (first, last) = setup.local_ports;
            let mut ports: VecDeque<u16> = (first..=last).collect();
            let mixed = setup.seed.wrapping_add(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let turn = (mixed >> 32) % ports.len() as u64;
            ports.rotate_left(turn as usize);
            ports
        })
    }

    /// A local address and port, from the first address in turn that has one.
    pub(super) fn take_port(
        &mut self,
        world: &World,
        pool: &[IpAddr],
        first: usize,
    ) -> Option<(IpAddr, u16)> {
        let in_turn = pool.iter().skip(first).chain(pool.iter().take(first));
        in_turn.into_iter().find_map(|ip| {
            let port = self.free_ports(world, *ip).pop_front()?;
            Some((*ip, port))
        })
    }

    /// Who used a local address and port last.
    pub(super) fn previous(&self, local: (IpAddr, u16)) -> Option<((IpAddr, u16), u32)> {
        self.previous.get(&local).copied()
    }

    /// Sessions without a local port, of one family.
    pub(super) fn general(&self, v6: bool) -> usize {
        let general = self.live.iter().filter(|session| !session.has_local_port);
        general.filter(|session| session.quad.client.0.is_ipv6() == v6).count()
    }
}

impl Model {
    /// The session of a packet, and where it comes from.
    pub(super) fn find(&self, ip: &Ip) -> Option<(usize, Direction)> {
        let (proto, sport, dport) = ip.ports()?;
        self.find_between(proto, (ip.src, sport), (ip.dst, dport))
    }

    /// The session of packets between these ends, and which way they go.
    pub(super) fn find_between(
        &self,
        proto: L4Proto,
        src: (IpAddr, u16),
        dst: (IpAddr, u16),
    ) -> Option<(usize, Direction)> {
        let local = self.world.is(dst.0).local;
        let live = self.sessions.live.iter().enumerate();
        live.filter(|(_, session)| session.quad.proto == proto).find_map(|(at, session)| {
            let quad = &session.quad;
            if !local && (quad.client, quad.virt) == (src, dst) {
                return Some((at, Direction::Inbound));
            }
            let reply = (quad.server, quad.local) == (src, dst) && session.has_local_port == local;
            reply.then_some((at, Direction::Return))
        })
    }

    /// Takes a packet into its session: state, time, counters.
    pub(super) fn take_in(
        &mut self,
        now: Time,
        at: usize,
        direction: Direction,
        ip_len: usize,
        flags: Option<u8>,
    ) {
        let session = &mut self.sessions.live[at];
        let before = session.state;
        session.state = flags.map_or(before, |flags| tcp::next(before, direction, flags));
        session.last_seen = now;
        session.answered |= direction == Direction::Return;
        let (after, server) = (session.state, session.server);
        let totals = self.totals.entry(server.0).or_default();
        for carried in [&mut session.carried, &mut totals.carried] {
            match direction {
                Direction::Inbound => carried.inbound.add(ip_len as u64),
                Direction::Return => carried.outbound.add(ip_len as u64),
            }
        }
        self.moved(server, Some(before), Some(after));
    }

    /// Books a session out of one state and into another.
    pub(super) fn moved(&mut self, server: ServerId, from: Option<TcpState>, to: Option<TcpState>) {
        let totals = self.totals.entry(server.0).or_default();
        for (state, opens) in [(from, false), (to, true)] {
            let count = match state {
                None => continue,
                Some(TcpState::Established) => &mut totals.active,
                Some(_) => &mut totals.inactive,
            };
            *count = if opens { *count + 1 } else { *count - 1 };
        }
    }

    /// Ends a session; its port becomes free.
    pub(super) fn close(&mut self, now: Time, at: usize) {
        let session = self.sessions.live.remove(at);
        self.moved(session.server, Some(session.state), None);
        self.judge(session.server);
        self.let_go(now.tick(), &session);
        if session.has_local_port {
            let (ip, port) = session.quad.local;
            self.sessions.free_ports(&self.world, ip).push_back(port);
            let previous = (session.quad.server, session.numbers.server_ack);
            self.sessions.previous.insert(session.quad.local, previous);
        }
    }

    /// The real director has ended this session because its time-out had passed.
    ///
    /// # Errors
    /// When there is no such session, or it ended early (INV-8).
    pub fn ended(&mut self, now: Time, inbound: WireTuple) -> Result<(), String> {
        let live = self.sessions.live.iter().position(|session| session.inbound() == inbound);
        let at = live.ok_or_else(|| format!("no session of {inbound} to end"))?;
        let session = &self.sessions.live[at];
        if now < session.due() {
            let early = session.due().since(now);
            return Err(format!(
                "{inbound} in state {} ends {early:?} early",
                session.state.name()
            ));
        }
        self.close(now, at);
        self.count("sessions_expired");
        Ok(())
    }

    /// Sessions that should have ended long ago (INV-8).
    pub fn overdue(&self, now: Time) -> impl Iterator<Item = &Session> {
        self.sessions.live.iter().filter(move |session| now >= session.overdue())
    }

    /// All sessions follow the routes of the newest configuration.
    pub(super) fn reroute(&mut self) {
        for at in 0..self.sessions.live.len() {
            let quad = self.sessions.live[at].quad;
            let ways = [quad.server.0, quad.client.0].map(|to| self.world.route(to));
            let session = &mut self.sessions.live[at];
            for (way, hop) in ways.into_iter().zip([&mut session.hop_in, &mut session.hop_out]) {
                if let Some(way) = way {
                    *hop = self.hops.number(way);
                }
            }
        }
    }

    pub(super) fn service_of(&self, at: usize) -> &ServiceSpec {
        self.world.service(self.sessions.live[at].service)
    }
}
