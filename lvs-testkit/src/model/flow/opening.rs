//! New sessions: a server, a local port, an entry in the list.

use super::{Model, address_option, asks_for_a_connection, ends, flags_of, option_len, w};
use crate::model::sessions::{Numbers, Session};
use crate::model::templates::Assigned;
use crate::model::{Outcome, Passing, drop};
use core::net::IpAddr;
use lvs_core::counters::Carried;
use lvs_core::flow::{Direction, L4Proto};
use lvs_core::id::{ServerId, ServiceId};
use lvs_core::service::Forwarding;
use lvs_core::session::{Quad, TcpState};
use lvs_core::snapshot::ServiceSpec;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};

/// A server and the ways to both ends.
struct Chosen {
    id: ServerId,
    template: Option<usize>,
    addr: (IpAddr, u16),
    hop_in: usize,
    hop_out: usize,
}

impl Model {
    /// A packet to a service that belongs to no session, or to one that is over and gives way.
    pub(in crate::model) fn open(
        &mut self,
        now: Time,
        packet: Passing,
        service: ServiceId,
        old: Option<usize>,
    ) -> Outcome {
        let mut outcome = drop(DropReason::NoService);
        outcome.service = Some(service);
        let verdict = self.try_open(now, packet, service, old, &mut outcome);
        outcome.verdict = verdict.unwrap_or_else(Verdict::Drop);
        outcome
    }

    fn try_open(
        &mut self,
        now: Time,
        packet: Passing,
        service: ServiceId,
        old: Option<usize>,
        outcome: &mut Outcome,
    ) -> Result<Verdict, DropReason> {
        let flags = flags_of(&packet)?;
        if flags.is_some() && !asks_for_a_connection(flags) {
            return Err(DropReason::NoSession);
        }
        if packet.ip.ttl <= 1 {
            return Err(DropReason::TtlExceeded);
        }
        let assigned = self.assign(now.tick(), service, packet.ip.src);
        let assigned = assigned.ok_or(DropReason::NoServer)?;
        let verdict = self.open_on(now, packet, (service, &assigned), old, outcome);
        if verdict.is_err() {
            self.give_up(&assigned);
        }
        verdict
    }

    fn open_on(
        &mut self,
        now: Time,
        mut packet: Passing,
        (service, assigned): (ServiceId, &Assigned),
        old: Option<usize>,
        outcome: &mut Outcome,
    ) -> Result<Verdict, DropReason> {
        let flags = flags_of(&packet)?;
        let spec = self.world.service(service).clone();
        let (proto, sport, dport) = packet.ip.ports().ok_or(DropReason::NoService)?;
        let client = (packet.ip.src, sport);
        let chosen = self.choose(assigned, client.0, dport)?;
        let toa = address_option(&spec);
        let syn_toa = toa.filter(|toa| toa.placement.syn && flags.is_some());
        let growth = syn_toa.map_or(0, |toa| option_len(&toa, client.0));
        let fits = self.fits(now, &packet, chosen.hop_in, growth);
        fits.or_else(|_| self.fits(now, &packet, chosen.hop_in, 0))?;
        let received = packet.ip.len();
        let isn_of_client = packet.ip.tcp().map(|tcp| tcp.seq);
        self.take_out(&mut packet, &spec, toa.as_ref());
        let virt = (packet.ip.dst, dport);
        if let Some(toa) = syn_toa {
            self.put_in(now, &mut packet, &toa, ends(client, virt), chosen.hop_in)?;
        } else if toa.is_some() {
            self.hold_data_back(&mut packet);
        }
        if let Some(at) = old {
            self.close(now, at);
            self.count("sessions_reused");
        }
        let quad = Quad { proto, client, virt, local: client, server: chosen.addr };
        let at = self.register(now, quad, (service, &spec), &chosen, isn_of_client)?;
        outcome.session = Some(self.sessions.live[at].inbound());
        outcome.server = Some(chosen.id);
        self.take_in(now, at, Direction::Inbound, received, flags);
        self.translate(&mut packet, at, Direction::Inbound);
        Ok(self.emit(now, packet, chosen.hop_in))
    }

    /// The server, and how to get there and back.
    fn choose(
        &mut self,
        assigned: &Assigned,
        client: IpAddr,
        dport: u16,
    ) -> Result<Chosen, DropReason> {
        let (_, addr) = self.world.server(assigned.server);
        let there = self.world.route(addr.ip()).ok_or(DropReason::NoRoute)?;
        let back = self.world.route(client).ok_or(DropReason::NoRoute)?;
        Ok(Chosen {
            id: assigned.server,
            template: assigned.template,
            // A server of an all-ports service keeps the port that the client asked for.
            addr: (addr.ip(), if addr.port() == 0 { dport } else { addr.port() }),
            hop_in: self.hops.number(there),
            hop_out: self.hops.number(back),
        })
    }

    /// Enters a session into the list.
    fn register(
        &mut self,
        now: Time,
        mut quad: Quad,
        (service, spec): (ServiceId, &ServiceSpec),
        chosen: &Chosen,
        client_isn: Option<u32>,
    ) -> Result<usize, DropReason> {
        let v6 = quad.client.0.is_ipv6();
        let pool = self.world.pool(spec);
        if let Some((number, addresses)) = &pool {
            let turn = self.pool_turns[*number];
            let first = if turn < addresses.len() { turn } else { 0 };
            self.pool_turns[*number] = first + 1;
            let local = self.sessions.take_port(&self.world, addresses, first);
            quad.local = local.ok_or(DropReason::NoPort)?;
        } else {
            if self.sessions.general(v6) >= self.world.setup().general[usize::from(v6)] as usize {
                return Err(DropReason::SessionTableFull);
            }
            // INV-7: a server answers one client address and port for one session only.
            let same = |s: &Session| {
                (s.quad.proto, s.quad.server, s.quad.local) == (quad.proto, quad.server, quad.local)
            };
            if self.sessions.live.iter().any(same) {
                return Err(DropReason::TupleTaken);
            }
        }
        let full = spec.forwarding == Forwarding::FullNat;
        let isn = client_isn.filter(|_| full).map(|old| self.server_isn(now, &quad, true) - w(old));
        self.sessions.live.push(Session {
            quad,
            state: if client_isn.is_some() { TcpState::SynRecv } else { TcpState::None },
            plain: quad.proto == L4Proto::Udp,
            answered: false,
            service,
            server: chosen.id,
            seq_delta: isn.map_or(0, |delta| delta.0),
            has_local_port: pool.is_some(),
            opened: now,
            last_seen: now,
            carried: Carried { sessions: 1, ..Carried::default() },
            timeouts: spec.timeouts,
            template: chosen.template,
            hop_in: chosen.hop_in,
            hop_out: chosen.hop_out,
            numbers: Numbers {
                owes_address: client_isn.is_some() && address_option(spec).is_some(),
                client_isn: client_isn.unwrap_or(0),
                ..Numbers::default()
            },
        });
        let at = self.sessions.live.len() - 1;
        self.settle_promise(chosen.id);
        self.count("sessions_opened");
        self.moved(chosen.id, None, Some(self.sessions.live[at].state));
        self.totals.entry(chosen.id.0).or_default().carried.sessions += 1;
        Ok(at)
    }
}
