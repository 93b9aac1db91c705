//! New connections: classify, schedule, open, and carry the first packet.

use crate::admit::Packet;
use crate::assign::Assigned;
use crate::carry::{AnyEnds, check_flags, count, ends_of, is_pure_syn, reason_of, segment_of};
use crate::client_addr::{Telling, distrusts, forged_kinds, growth, toa_of};
use crate::director::{Director, Report};
use crate::one_way::{Way, take_hop};
use crate::outputs::Outputs;
use crate::proxy::proxy_of;
use crate::sctp::is_sctp;
use lvs_core::addr::{Family, LocalAddress, RealAddr};
use lvs_core::event::{Closed, Event};
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::id::{HopId, PoolId, ServerId, ServiceId, SessionId, TimeoutClass};
use lvs_core::io::{Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::service::{Forwarding, ProxyOptions, TimestampPolicy, ToaFormat, ToaOptions};
use lvs_core::session::{
    First, Missed, OneWay, Open, OpenError, Opened, Place, Previous, Quad, Reserved, TcpState,
    Translation, pending,
};
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::Transport;
use lvs_nat::isn::{isn, isn_past};
use lvs_nat::options::survey;
use lvs_nat::toa::KindSet;
use lvs_nat::{AnyRewrite, End, Ends, Rewrite, SeqDeltas};

/// What a service says about a new session, copied out so that the director stays free to change.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) service: ServiceId,
    pub(crate) forwarding: Forwarding,
    pub(crate) one_way: Option<OneWay>,
    pub(crate) pool: Option<PoolId>,
    pub(crate) toa: Option<ToaOptions>,
    pub(crate) proxy: Option<ProxyOptions>,
    /// Kinds of options that clients have no business to send.
    pub(crate) forged: Option<KindSet>,
    pub(crate) strip_timestamps: bool,
    pub(crate) class: TimeoutClass,
}

/// A server, and the ways to it and back.
#[derive(Clone, Copy)]
struct Chosen {
    server: ServerId,
    template: Option<u32>,
    addr: RealAddr,
    hop_in: HopId,
    hop_out: HopId,
}

/// What the look-up of a packet that wants a session has found.
#[derive(Clone, Copy)]
pub(crate) enum Before {
    /// Nothing.
    Nothing(Missed),
    /// A session that is over.
    Session(SessionId),
}

/// A session that is open.
struct Prepared {
    session: SessionId,
    leaving: Leaving,
}

/// How the packet that opens a session leaves.
enum Leaving {
    /// Translated, to this next hop.
    Translated(AnyRewrite, HopId),
    /// As it came.
    OneWay(Way),
    /// SCTP, of a session with these ends.
    Sctp(Quad, HopId),
}

/// A new session as its first packet has it.
struct New {
    quad: Quad,
    /// Of TCP: the client's initial sequence number.
    isn: Option<u32>,
    first: First,
}

impl Wanted {
    /// Whether a SYN needs no more than an option and a translation.
    pub(crate) const fn is_usual(&self) -> bool {
        let layout = match &self.toa {
            Some(toa) => matches!(toa.format, ToaFormat::Port),
            None => true,
        };
        self.one_way.is_none() && self.proxy.is_none() && layout
    }

    /// What is to be done on client segments of a new session.
    pub(crate) const fn pending(&self) -> u8 {
        match (&self.toa, &self.proxy) {
            (Some(_), _) => pending::TOA,
            (None, Some(_)) => pending::PROXY,
            (None, None) => 0,
        }
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// A packet to a virtual service that belongs to no session, or to one that is over and gives way when
    /// nothing can keep the packet from its server any more.
    pub(crate) fn open<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        (service, before): (ServiceId, Before),
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let mut report = Report::from(DropReason::NoService);
        report.service = Some(service);
        let outcome = self.try_open(now, lane, packet, tuple, (service, before), out, &mut report);
        report.verdict = outcome.unwrap_or_else(Verdict::Drop);
        report
    }

    fn try_open<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        (service, before): (ServiceId, Before),
        out: &mut Outputs<L::Buf>,
        report: &mut Report,
    ) -> Result<Verdict, DropReason> {
        let flags = check_flags(&packet.headers.transport)
            .map_err(|reason| self.stray(now, lane, &packet, reason, out))?;
        if flags.is_some() && !is_pure_syn(flags) {
            return Err(self.stray(now, lane, &packet, DropReason::NoSession, out));
        }
        if packet.headers.ttl <= 1 {
            return Err(self.expired(now, lane, &packet, out));
        }
        let wanted = self.wanted(service).ok_or(DropReason::NoService)?;
        if is_sctp(&packet.headers) {
            self.may_open_sctp(&packet, &wanted)?;
        }
        let seen = self.seen_by_scheduler(service, tuple, &packet);
        let assigned = self.assign(now, service, &seen).ok_or_else(|| {
            self.events.push(Event::NoServer { service });
            DropReason::NoServer
        })?;
        let (session, verdict) = self.open_on(now, lane, packet, (&wanted, before), &assigned, out);
        if session.is_some() {
            (report.session, report.server) = (session, Some(assigned.server));
        }
        Ok(verdict)
    }

    /// Opens the session on the server that was chosen and counted for it; if it cannot be, that is taken back.
    pub(crate) fn open_on<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        what: (&Wanted, Before),
        assigned: &Assigned,
        out: &mut Outputs<L::Buf>,
    ) -> (Option<SessionId>, Verdict) {
        match self.prepare(now, lane, &mut packet, what, assigned, out) {
            Ok(Prepared { session, leaving }) => {
                let left = self.leave(now, lane, packet, &leaving, out);
                (Some(session), left.unwrap_or_else(Verdict::Drop))
            }
            Err(reason) => {
                self.unassign(assigned);
                (None, Verdict::Drop(reason))
            }
        }
    }

    fn leave<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        leaving: &Leaving,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        match leaving {
            Leaving::Translated(rewrite, hop) => {
                let csum = packet.buf.l4_csum();
                rewrite.apply(packet.buf.data_mut(), &packet.headers, csum).map_err(reason_of)?;
                Ok(self.emit(now, lane, packet, *hop, out))
            }
            Leaving::Sctp(quad, hop) => {
                self.send_sctp(now, lane, packet, (quad, Direction::Inbound), *hop, out)
            }
            Leaving::OneWay(way) => {
                take_hop(&mut packet)?;
                self.send_way(now, lane, packet, way, out)
            }
        }
    }

    /// From a server to an open session and a packet that may leave. What fails has changed nothing yet, except
    /// that the session before may have ended.
    fn prepare<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        (wanted, before): (&Wanted, Before),
        assigned: &Assigned,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Prepared, DropReason> {
        let flags = check_flags(&packet.headers.transport)?;
        let tuple = packet.headers.tuple.ok_or(DropReason::NoSession)?;
        let chosen = self.choose(&tuple, assigned)?;
        let quad = quad_of(&tuple, &chosen, wanted);
        // What is counted is the packet as it came.
        let segment = segment_of(packet, flags);
        if quad.is_nat64() {
            if quad.proto == L4Proto::Icmp {
                // By a mark: echo stays in its family.
                return Err(DropReason::UnsupportedProtocol);
            }
            let gain = wanted.toa.map_or(0, |toa| growth(&toa, &quad));
            let hops = [chosen.hop_in, chosen.hop_out];
            self.begin_nat64(now, lane, packet, (&quad, hops, gain), out)?;
        }
        let syn_toa = wanted.toa.filter(|toa| toa.placement.syn && flags.is_some());
        let option_growth = wanted.toa.map_or(0, |toa| growth(&toa, &quad));
        let growth = if syn_toa.is_some() { option_growth } else { 0 };
        let way = match wanted.one_way {
            Some(one_way) => Some(self.way_of(one_way, chosen.server, chosen.hop_in)?),
            None => None,
        };
        if let Some(way) = &way {
            self.fits_way_or_tell(now, lane, packet, way, out)?;
        } else if self.fits(now, lane, packet, chosen.hop_in, growth).is_err() {
            // Without room for the option in the SYN, later segments carry it, or the policy drops it.
            let gain = wanted.toa.filter(|_| flags.is_some()).map_or(0, |_| option_growth);
            self.fits_or_tell(now, lane, packet, (chosen.hop_in, gain), out)?;
        }
        let isn = isn_of(&packet.headers.transport);
        let mut pending = if isn.is_some() { wanted.pending() } else { 0 };
        let client_mss =
            if isn.is_some() { self.edit_options(packet, wanted, &mut pending) } else { 0 };
        if let Some(proxy) = wanted.proxy.filter(|_| quad.proto != L4Proto::Icmp) {
            self.begin_proxy(now, lane, packet, (&proxy, &quad, chosen.hop_in), out)?;
            pending |= if isn.is_none() { pending::TOLD_BY_PROXY } else { 0 };
        }
        if let Some(own) = wanted.toa.filter(|_| isn.is_some()) {
            let telling =
                Telling { own: &own, quad: &quad, hop: chosen.hop_in, pending: &mut pending };
            self.tell_by_syn(now, lane, packet, telling)?;
        }
        let missed = match before {
            Before::Nothing(missed) => missed,
            Before::Session(old) => {
                self.end_reused(now, old);
                Missed::default()
            }
        };
        let first = First {
            missed,
            segment: Some(segment),
            client_isn: isn.unwrap_or(0),
            client_mss,
            pending,
            template: chosen.template,
        };
        let new = New { quad, isn, first };
        let (session, rewrite) = self.register(now, &new, wanted, &chosen)?;
        if let Some(carried) = self.generation.carried(chosen.server) {
            count(carried, Direction::Inbound, segment);
        }
        let sctp = is_sctp(&packet.headers);
        let leaving = match (way, rewrite) {
            (Some(way), _) => Leaving::OneWay(way),
            (None, _) if sctp => {
                let quad = self.begin_sctp(packet, session).ok_or(DropReason::NoSession)?;
                Leaving::Sctp(quad, chosen.hop_in)
            }
            (None, rewrite) => {
                Leaving::Translated(rewrite.ok_or(DropReason::NoSession)?, chosen.hop_in)
            }
        };
        Ok(Prepared { session, leaving })
    }

    fn end_reused(&mut self, now: Time, old: SessionId) {
        if let Some(session) = self.store.close(old) {
            self.closed(now.tick(), &session, Closed::Reused);
            self.counters.sessions_reused = self.counters.sessions_reused.wrapping_add(1);
        }
    }

    /// Takes out of a SYN what must not reach the server; returns the MSS that it announces, 0 for none.
    fn edit_options<B: PacketBuf>(
        &mut self,
        packet: &mut Packet<B>,
        wanted: &Wanted,
        pending: &mut u8,
    ) -> u16 {
        let kinds = wanted.forged.unwrap_or(KindSet::EMPTY);
        let Some(seen) = survey(packet.buf.data(), &packet.headers, kinds) else { return 0 };
        if seen.suspect && self.strip_forged(packet, wanted.forged) {
            *pending |= pending::FORGED;
        }
        if seen.timestamps {
            self.drop_syn_timestamps(packet, wanted.strip_timestamps);
        }
        seen.mss
    }

    pub(crate) fn wanted(&self, service: ServiceId) -> Option<Wanted> {
        let service = self.snapshot().service(service)?;
        let full = service.forwarding == Forwarding::FullNat;
        Some(Wanted {
            service: service.id,
            forwarding: service.forwarding,
            one_way: match service.forwarding {
                Forwarding::Dr => Some(OneWay::Direct),
                Forwarding::Tun => Some(OneWay::Tunnel),
                Forwarding::Nat | Forwarding::FullNat | Forwarding::Local => None,
            },
            pool: service.pool,
            toa: toa_of(service),
            proxy: proxy_of(service),
            forged: forged_kinds(toa_of(service).as_ref(), distrusts(service)),
            strip_timestamps: full && service.timestamps == TimestampPolicy::Strip,
            class: service.timeouts,
        })
    }

    fn choose(&mut self, tuple: &WireTuple, assigned: &Assigned) -> Result<Chosen, DropReason> {
        let Assigned { server, template } = *assigned;
        let snapshot = self.snapshot();
        let addr = snapshot.server(server).ok_or(DropReason::NoServer)?.addr;
        let (there, last) = self.generation.way_to(server).ok_or(DropReason::NoRoute)?;
        let back = snapshot.route(tuple.src()).ok_or(DropReason::NoRoute)?;
        let hop_in = self.neighbours.intern_near(&there, last).ok_or(DropReason::NoRoute)?;
        self.generation.note_hop(server, hop_in);
        let hop_out = self.neighbours.intern_beside(hop_in, &back);
        Ok(Chosen { server, template, addr, hop_in, hop_out: hop_out.ok_or(DropReason::NoRoute)? })
    }

    /// Opens the session in the store and books it in.
    fn register(
        &mut self,
        now: Time,
        new: &New,
        wanted: &Wanted,
        chosen: &Chosen,
    ) -> Result<(SessionId, Option<AnyRewrite>), DropReason> {
        let opened = self.open_session(now, new, wanted, chosen);
        let (opened, rewrite) = opened.map_err(|error| self.refused(error, wanted))?;
        self.neighbours.hold(chosen.hop_in);
        self.neighbours.hold(chosen.hop_out);
        let state = first_state(&new.quad);
        self.generation.moved(&self.shared, chosen.server, None, Some(state));
        self.counters.sessions_opened = self.counters.sessions_opened.wrapping_add(1);
        if let Some(carried) = self.generation.carried(chosen.server) {
            carried.sessions = carried.sessions.wrapping_add(1);
        }
        if let (Some(inbound), Some(reply)) = (opened.quad.inbound(), opened.quad.reply()) {
            let (session, service, server) = (opened.id, wanted.service, chosen.server);
            self.events.push(Event::SessionOpened { session, service, server, inbound, reply });
        }
        Ok((opened.id, rewrite))
    }

    fn open_session(
        &mut self,
        now: Time,
        new: &New,
        wanted: &Wanted,
        chosen: &Chosen,
    ) -> Result<(Opened, Option<AnyRewrite>), OpenError> {
        let New { quad, isn: client_isn, first } = new;
        // Local addresses are of the server's family.
        let family = Family::of(&quad.server.0);
        let full = wanted.forwarding == Forwarding::FullNat;
        let place = match (wanted.one_way, wanted.pool.filter(|_| full)) {
            (Some(way), _) => Place::Elsewhere(way),
            (None, None) => Place::General,
            (None, Some(id)) => {
                let size = self.snapshot().pool(id).map_or(0, |pool| pool.of(family).len());
                let first = self.generation.pool_turn(id, size);
                let pool = self.generation.snapshot().pool(id).ok_or(OpenError::NoPort)?;
                Place::Local { addresses: pool.of(family), first }
            }
        };
        let tcp = client_isn.is_some();
        let open = Open {
            quad: *quad,
            place,
            state: first_state(quad),
            // One whose replies do not pass here waits for nothing.
            plain: !tcp || wanted.one_way.is_some(),
            server: chosen.server,
            hop_in: chosen.hop_in,
            hop_out: chosen.hop_out,
            class: wanted.class,
        };
        let key = self.isn_key;
        let mut rewrite = None;
        let opened = self.store.open_with(now.tick(), &open, first, |reserved: &Reserved| {
            if matches!(open.place, Place::Elsewhere(_)) {
                return Translation::default();
            }
            let isn = client_isn.filter(|_| full).map(|old| {
                server_isn(&key, now, &reserved.quad, reserved.previous).wrapping_sub(old)
            });
            let (translation, edit) = translation(&reserved.quad, isn.unwrap_or(0));
            rewrite = edit;
            translation
        })?;
        Ok((opened, rewrite))
    }

    pub(crate) fn refused(&mut self, error: OpenError, wanted: &Wanted) -> DropReason {
        match error {
            OpenError::NoPort => {
                let pool = wanted.pool.unwrap_or_default();
                self.events.push(Event::NoPort { pool });
                DropReason::NoPort
            }
            OpenError::Taken => DropReason::TupleTaken,
            _ => {
                self.events.push(Event::SessionTableFull);
                DropReason::SessionTableFull
            }
        }
    }

    /// A number for the server's side of a session.
    pub(crate) fn new_isn(&self, now: Time, quad: &Quad, previous: Option<Previous>) -> u32 {
        server_isn(&self.isn_key, now, quad, previous)
    }
}

fn server_isn(key: &[u64; 2], now: Time, quad: &Quad, previous: Option<Previous>) -> u32 {
    let local = LocalAddress::new(quad.local.0, quad.local.1);
    let server = RealAddr::new(quad.server.0, quad.server.1);
    match previous.filter(|old| old.server == server && old.next_seq != 0) {
        Some(old) => isn_past(key, &local, &server, now.0, old.next_seq),
        None => isn(key, &local, &server, now.0),
    }
}

fn quad_of(tuple: &WireTuple, chosen: &Chosen, wanted: &Wanted) -> Quad {
    let client = (tuple.src(), tuple.sport());
    let server = (chosen.addr.ip(), server_port(&chosen.addr, tuple));
    // Where a tunnel leads to the other family, the session's server is known by number alone.
    let same = wanted.one_way.is_none() || Family::of(&server.0) == Family::of(&client.0);
    Quad {
        proto: tuple.proto(),
        client,
        virt: (tuple.dst(), tuple.dport()),
        local: client,
        server: if same { server } else { (tuple.dst(), server.1) },
    }
}

/// The state that a session begins with.
const fn first_state(quad: &Quad) -> TcpState {
    match quad.proto {
        L4Proto::Tcp | L4Proto::Sctp => TcpState::SynRecv,
        L4Proto::Udp | L4Proto::Icmp => TcpState::None,
    }
}

/// A server of an all-ports service keeps the port that the client asked for. Echo has none, whatever the server of a
/// service by mark has besides.
fn server_port(addr: &RealAddr, tuple: &WireTuple) -> u16 {
    if addr.port() == 0 || tuple.proto() == L4Proto::Icmp { tuple.dport() } else { addr.port() }
}

/// The numbers that translate a session's packets, and the edit for those from the client.
fn translation(quad: &Quad, seq_delta: u32) -> (Translation, Option<AnyRewrite>) {
    let seq = SeqDeltas { seq: seq_delta, ack: 0 };
    let (deltas, rewrite) = match ends_of(quad) {
        Some(AnyEnds::V4(ends)) if quad.is_nat64() => {
            // The packet at hand comes from nobody yet (`begin_nat64`).
            let first = Ends { client: End::new(0, quad.client.1), ..ends };
            let rewrite = Rewrite::inbound(&first, first.deltas(), seq).decrement_ttl(true);
            (ends.deltas(), Some(AnyRewrite::V4(rewrite)))
        }
        Some(AnyEnds::V4(ends)) => {
            let deltas = ends.deltas();
            (deltas, Some(AnyRewrite::V4(Rewrite::inbound(&ends, deltas, seq).decrement_ttl(true))))
        }
        Some(AnyEnds::V6(ends)) => {
            let deltas = ends.deltas();
            (deltas, Some(AnyRewrite::V6(Rewrite::inbound(&ends, deltas, seq).decrement_ttl(true))))
        }
        None => (lvs_nat::Deltas::default(), None),
    };
    (Translation { l4_delta: deltas.l4, ip_delta: deltas.ip, seq_delta, ack_delta: 0 }, rewrite)
}

/// Sequence number of a segment; `None` for other protocols.
const fn isn_of(transport: &Transport) -> Option<u32> {
    match *transport {
        Transport::Tcp { seq, .. } => Some(seq),
        _ => None,
    }
}
