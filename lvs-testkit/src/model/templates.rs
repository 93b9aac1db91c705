//! Persistence: which server a client belongs to, and for how long.

use super::Model;
use super::sessions::Session;
use core::net::IpAddr;
use core::time::Duration;
use lvs_core::flow::L4Proto;
use lvs_core::id::{ServerId, ServiceId};
use lvs_core::persistence::{Persistence, Since};
use lvs_core::session::TcpState;
use lvs_core::shared::Scope;
use lvs_core::time::Tick;

/// A client, or a net of clients, that belongs to a server.
#[derive(Clone, Debug)]
pub struct Template {
    /// In which services.
    pub scope: Scope,
    /// Its address, or the first one of its net.
    pub client: IpAddr,
    /// The server.
    pub server: ServerId,
    /// Its live sessions.
    pub sessions: u32,
    /// Until when it lives without any.
    pub ends: Tick,
}

impl Template {
    /// Whether it says anything.
    #[must_use]
    pub fn lives(&self, now: Tick) -> bool {
        self.sessions > 0 || self.left(now) > 0
    }

    /// Ticks for which it would live on without sessions.
    #[must_use]
    pub fn left(&self, now: Tick) -> u32 {
        self.ends.0.saturating_sub(now.0)
    }

    fn until(&mut self, tick: Tick) {
        self.ends.0 = self.ends.0.max(tick.0);
    }
}

/// Where a new session goes, which has been promised its place there; and the place of its template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assigned {
    pub(super) server: ServerId,
    pub(super) template: Option<usize>,
}

/// The first tick that lies a time-out behind all of another one.
fn after(tick: Tick, time: Duration) -> Tick {
    Tick(tick.0 + Tick::covering(time))
}

/// The first address of a client's net.
fn net_of(client: IpAddr, policy: &Persistence) -> IpAddr {
    let masked = |bits: u128, all: u8, len: u8| {
        let free = u32::from(all - len.min(all));
        bits.checked_shr(free).unwrap_or(0).checked_shl(free).unwrap_or(0)
    };
    match client {
        IpAddr::V4(v4) => {
            let bits = masked(v4.to_bits().into(), 32, policy.prefix_v4);
            core::net::Ipv4Addr::from_bits(bits as u32).into()
        }
        IpAddr::V6(v6) => {
            core::net::Ipv6Addr::from_bits(masked(v6.to_bits(), 128, policy.prefix_v6)).into()
        }
    }
}

impl Model {
    /// A server for a new session: the client's own, else whose turn it is.
    pub(super) fn assign(
        &mut self,
        now: Tick,
        service: ServiceId,
        client: IpAddr,
    ) -> Option<Assigned> {
        let Some(policy) = self.world.service(service).persistence else {
            return Some(Assigned { server: self.next_in_turn(service)?, template: None });
        };
        let scope = policy.group.map_or(Scope::Service(service), Scope::Group);
        let client = net_of(client, &policy);
        let ends = match policy.since {
            Since::LastPacket => now,
            Since::LastConnection => after(now, policy.timeout),
        };
        let mut all = self.templates.iter();
        let known = all.position(|known| (known.scope, known.client) == (scope, client));
        if let Some(at) = known.filter(|at| self.templates[*at].lives(now)) {
            self.templates[at].sessions += 1;
            self.templates[at].until(ends);
            return self.follow(service, &policy, at);
        }
        let server = self.next_in_turn(service)?;
        let new = Template { scope, client, server, sessions: 1, ends };
        let at = known.unwrap_or(self.templates.len());
        match self.templates.get_mut(at) {
            // What has ended says nothing any more.
            Some(ended) => *ended = new,
            None => self.templates.push(new),
        }
        Some(Assigned { server, template: Some(at) })
    }

    /// The server of a template that lives. When that may get no new sessions at all the client moves; when it is
    /// full, this session goes elsewhere and the client still belongs to it.
    fn follow(&mut self, service: ServiceId, policy: &Persistence, at: usize) -> Option<Assigned> {
        let home = self.home(service, self.templates[at].server, policy);
        if let Some(server) = home
            && self.promise(server, !policy.hard_threshold)
        {
            self.count("sessions_persistent");
            return Some(Assigned { server, template: Some(at) });
        }
        let other = self.next_in_turn(service);
        if home.is_some() || other.is_none() {
            self.templates[at].sessions -= 1;
            return other.map(|server| Assigned { server, template: None });
        }
        let server = other?;
        self.templates[at].server = server;
        Some(Assigned { server, template: Some(at) })
    }

    /// The server of a service that a template means, if it may get new sessions: in a group it is the one on the
    /// same host.
    fn home(&self, service: ServiceId, means: ServerId, policy: &Persistence) -> Option<ServerId> {
        let (of, addr) = self.world.server(means);
        let mut servers = self.world.service(service).servers.iter();
        let found = servers.find(|server| match of == service {
            true => server.addr == addr,
            false => server.addr.ip() == addr.ip(),
        })?;
        let quiet = found.weight.0 == 0 && policy.expire_quiescent;
        (!quiet).then(|| self.world.server_number(service, found.addr))
    }

    /// Whose turn it is among those that may get a session.
    fn next_in_turn(&mut self, service: ServiceId) -> Option<ServerId> {
        let servers = self.world.service(service).servers.iter();
        let numbers: Vec<ServerId> =
            servers.map(|server| self.world.server_number(service, server.addr)).collect();
        let full: Vec<bool> = numbers.iter().map(|id| self.limit(*id).overloaded).collect();
        let at = self.turns.get_mut(&service.0)?.take(|at| !full[at])?;
        assert!(self.promise(numbers[at], false), "who is not overloaded has room");
        Some(numbers[at])
    }

    /// The session that was promised a place does not open after all.
    pub(super) fn give_up(&mut self, assigned: &Assigned) {
        self.settle_promise(assigned.server);
        if let Some(at) = assigned.template {
            self.templates[at].sessions -= 1;
        }
    }

    /// A session has ended. One that never got further than its handshake does not keep its client.
    pub(super) fn let_go(&mut self, now: Tick, session: &Session) {
        let Some(at) = session.template else { return };
        let template = &mut self.templates[at];
        template.sessions -= 1;
        let policy = self.world.service(session.service).persistence;
        let attempt = session.quad.proto == L4Proto::Tcp
            && matches!(session.state, TcpState::SynRecv | TcpState::SynSent);
        match policy {
            Some(Persistence { since: Since::LastConnection, .. }) => {
                // As Linux `ip_vs_conn_expire`: a minute at a time.
                while template.ends.0 < now.0 {
                    template.ends = after(template.ends, Duration::from_secs(60));
                }
            }
            Some(policy) if !attempt => {
                template.until(after(session.last_seen.tick(), policy.timeout));
            }
            _ => {}
        }
    }

    /// Which clients belong to servers.
    pub fn templates(&self, now: Tick) -> impl Iterator<Item = &Template> {
        self.templates.iter().filter(move |template| template.lives(now))
    }
}
