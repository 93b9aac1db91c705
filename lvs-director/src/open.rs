//! New connections: classify, schedule, open, and carry the first packet.

use crate::admit::Packet;
use crate::assign::Assigned;
use crate::carry::{
    AnyEnds, check_flags, count, ends_of, is_pure_syn, reason_of, rewrite_of, segment_of,
};
use crate::client_addr::{growth, toa_of};
use crate::director::{Director, Report};
use crate::outputs::Outputs;
use lvs_core::addr::{Family, LocalAddress, RealAddr};
use lvs_core::event::{Closed, Event};
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::id::{HopId, PoolId, ServerId, ServiceId, SessionId, TimeoutClass};
use lvs_core::io::{Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::service::{Forwarding, TimestampPolicy, ToaOptions};
use lvs_core::session::tcp::flags::SYN;
use lvs_core::session::{
    Open, OpenError, Opened, Place, Previous, Quad, Reserved, Segment, TcpState, Translation,
    pending,
};
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Tcp, TcpOption, Transport};
use lvs_nat::isn::{isn, isn_past};

/// What a service says about a new session, copied out so that the director stays free to change.
#[derive(Clone, Copy)]
struct Wanted {
    service: ServiceId,
    forwarding: Forwarding,
    pool: Option<PoolId>,
    toa: Option<ToaOptions>,
    strip_timestamps: bool,
    class: TimeoutClass,
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

/// A session that is open, and its first packet, which is edited and not translated yet.
struct Prepared<B> {
    packet: Packet<B>,
    /// The packet as it came.
    segment: Segment,
    opened: Opened,
    /// Next hop toward the server.
    hop: HopId,
}

impl<P: PortPlan> Director<'_, P> {
    /// A packet to a virtual service that belongs to no session, or to `old`, which is over and gives way
    /// when nothing can keep the packet from its server any more.
    pub(crate) fn open<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        (service, old): (ServiceId, Option<SessionId>),
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let mut report = Report::from(DropReason::NoService);
        report.service = Some(service);
        let outcome = self.try_open(now, lane, packet, tuple, (service, old), out, &mut report);
        report.verdict = outcome.unwrap_or_else(Verdict::Drop);
        report
    }

    fn try_open<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        (service, old): (ServiceId, Option<SessionId>),
        out: &mut Outputs<L::Buf>,
        report: &mut Report,
    ) -> Result<Verdict, DropReason> {
        let flags = check_flags(&packet.headers.transport)?;
        if flags.is_some() && !is_pure_syn(flags) {
            return Err(DropReason::NoSession);
        }
        if packet.headers.ttl <= 1 {
            return Err(self.expired(now, lane, &packet, out));
        }
        let wanted = self.wanted(service).ok_or(DropReason::NoService)?;
        let assigned = self.assign(now, service, tuple).ok_or_else(|| {
            self.events.push(Event::NoServer { service });
            DropReason::NoServer
        })?;
        let first = self.prepare(now, lane, packet, tuple, (&wanted, old), &assigned, out);
        let first = first.inspect_err(|_| self.unassign(&assigned))?;
        let Prepared { packet, segment, opened, hop } = first;
        (report.session, report.server) = (Some(opened.id), Some(assigned.server));
        self.first_packet(now, lane, packet, segment, &opened, hop, out)
    }

    /// From a server to an open session and a packet that may leave. What fails has changed nothing yet, except
    /// that `old` may have ended.
    fn prepare<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        tuple: &WireTuple,
        (wanted, old): (&Wanted, Option<SessionId>),
        assigned: &Assigned,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Prepared<L::Buf>, DropReason> {
        let flags = check_flags(&packet.headers.transport)?;
        let chosen = self.choose(tuple, assigned)?;
        let quad = quad_of(tuple, &chosen);
        let syn_toa = wanted.toa.filter(|toa| toa.placement.syn && flags.is_some());
        let option_growth = growth(&quad);
        let growth = if syn_toa.is_some() { option_growth } else { 0 };
        let fits = self.fits(now, lane, &packet, chosen.hop_in, growth);
        // Without room for the option in the SYN, later segments carry it, or the policy drops it.
        if fits.is_err() {
            let gain = wanted.toa.filter(|_| flags.is_some()).map_or(0, |_| option_growth);
            self.fits_or_tell(now, lane, &packet, (chosen.hop_in, gain), out)?;
        }
        // What is counted is the packet as it came.
        let segment = segment_of(&packet, flags);
        if let Some(toa) = wanted.toa {
            self.strip_forged(&mut packet, &toa);
        }
        self.drop_syn_timestamps(&mut packet, wanted.strip_timestamps);
        let seq_and_mss = seq_and_mss(&packet);
        if let Some(toa) = syn_toa {
            // A SYN never sends a segment ahead.
            let _ = self.insert_toa(now, lane, &mut packet, &toa, &quad, chosen.hop_in)?;
        }
        if let Some(session) = old.and_then(|old| self.store.close(old)) {
            self.closed(now.tick(), &session, Closed::Reused);
            self.counters.sessions_reused = self.counters.sessions_reused.wrapping_add(1);
        }
        let opened = self.register(now, &quad, wanted, &chosen, seq_and_mss)?;
        Ok(Prepared { packet, segment, opened, hop: chosen.hop_in })
    }

    fn wanted(&self, service: ServiceId) -> Option<Wanted> {
        let service = self.snapshot().service(service)?;
        let full = service.forwarding == Forwarding::FullNat;
        Some(Wanted {
            service: service.id,
            forwarding: service.forwarding,
            pool: service.pool,
            toa: toa_of(service),
            strip_timestamps: full && service.timestamps == TimestampPolicy::Strip,
            class: service.timeouts,
        })
    }

    fn choose(&mut self, tuple: &WireTuple, assigned: &Assigned) -> Result<Chosen, DropReason> {
        let Assigned { server, template } = *assigned;
        let snapshot = self.snapshot();
        let addr = snapshot.server(server).ok_or(DropReason::NoServer)?.addr;
        let there = snapshot.route(addr.ip()).ok_or(DropReason::NoRoute)?;
        let back = snapshot.route(tuple.src()).ok_or(DropReason::NoRoute)?;
        let hop_in = self.neighbours.intern(&there).ok_or(DropReason::NoRoute)?;
        self.neighbours.hold(hop_in);
        let hop_out = self.neighbours.intern(&back);
        self.neighbours.release(hop_in);
        Ok(Chosen { server, template, addr, hop_in, hop_out: hop_out.ok_or(DropReason::NoRoute)? })
    }

    /// Opens the session in the store and books it in.
    fn register(
        &mut self,
        now: Time,
        quad: &Quad,
        wanted: &Wanted,
        chosen: &Chosen,
        seq_and_mss: Option<(u32, u16)>,
    ) -> Result<Opened, DropReason> {
        let opened = self.open_session(now, quad, wanted, chosen, seq_and_mss.map(|(seq, _)| seq));
        let opened = opened.map_err(|error| self.refused(error, wanted))?;
        if let Some((seq, mss)) = seq_and_mss
            && let Some(mut detail) = self.store.detail(opened.id)
        {
            detail.client_isn = seq;
            detail.client_mss = mss;
            detail.pending = if wanted.toa.is_some() { pending::TOA } else { 0 };
            self.store.set_detail(opened.id, &detail);
        }
        if chosen.template.is_some() {
            self.store.set_template(opened.id, chosen.template);
        }
        self.neighbours.hold(chosen.hop_in);
        self.neighbours.hold(chosen.hop_out);
        let state = if seq_and_mss.is_some() { TcpState::SynRecv } else { TcpState::None };
        self.generation.moved(&self.shared, chosen.server, None, Some(state));
        self.counters.sessions_opened = self.counters.sessions_opened.wrapping_add(1);
        if let Some(carried) = self.generation.carried(chosen.server) {
            carried.sessions = carried.sessions.wrapping_add(1);
        }
        if let (Some(inbound), Some(reply)) = (opened.quad.inbound(), opened.quad.reply()) {
            let (session, service, server) = (opened.id, wanted.service, chosen.server);
            self.events.push(Event::SessionOpened { session, service, server, inbound, reply });
        }
        Ok(opened)
    }

    fn open_session(
        &mut self,
        now: Time,
        quad: &Quad,
        wanted: &Wanted,
        chosen: &Chosen,
        client_isn: Option<u32>,
    ) -> Result<Opened, OpenError> {
        let family = Family::of(&quad.client.0);
        let full = wanted.forwarding == Forwarding::FullNat;
        let place = match wanted.pool.filter(|_| full) {
            None => Place::General,
            Some(id) => {
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
            state: if tcp { TcpState::SynRecv } else { TcpState::None },
            plain: !tcp,
            server: chosen.server,
            hop_in: chosen.hop_in,
            hop_out: chosen.hop_out,
            class: wanted.class,
        };
        let key = self.isn_key;
        self.store.open(now.tick(), &open, |reserved: &Reserved| {
            let isn = client_isn.filter(|_| full).map(|old| {
                server_isn(&key, now, &reserved.quad, reserved.previous).wrapping_sub(old)
            });
            translation(&reserved.quad, isn.unwrap_or(0))
        })
    }

    fn refused(&mut self, error: OpenError, wanted: &Wanted) -> DropReason {
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

    /// Translates and sends the packet that opened the session.
    fn first_packet<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        segment: Segment,
        opened: &Opened,
        hop: HopId,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        let tuple = opened.quad.inbound().ok_or(DropReason::NoSession)?;
        let probe = lvs_core::session::Probe { tuple, local: None };
        let candidate = self.store.lookup_one(&probe).ok_or(DropReason::NoSession)?;
        let flow = self.store.packet(candidate, &tuple, now.tick(), segment);
        let flow = flow.ok_or(DropReason::NoSession)?;
        if let Some(carried) = self.generation.carried(flow.server) {
            count(carried, Direction::Inbound, segment);
        }
        let rewrite = rewrite_of(&flow, None).ok_or(DropReason::NoSession)?;
        let csum = packet.buf.l4_csum();
        rewrite.apply(packet.buf.data_mut(), &packet.headers, csum).map_err(reason_of)?;
        Ok(self.emit(now, lane, packet, hop, out))
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

fn quad_of(tuple: &WireTuple, chosen: &Chosen) -> Quad {
    let client = (tuple.src(), tuple.sport());
    Quad {
        proto: tuple.proto(),
        client,
        virt: (tuple.dst(), tuple.dport()),
        local: client,
        server: (chosen.addr.ip(), server_port(&chosen.addr, tuple)),
    }
}

/// A server of an all-ports service keeps the port that the client asked for.
fn server_port(addr: &RealAddr, tuple: &WireTuple) -> u16 {
    if addr.port() == 0 { tuple.dport() } else { addr.port() }
}

fn translation(quad: &Quad, seq_delta: u32) -> Translation {
    let deltas = match ends_of(quad) {
        Some(AnyEnds::V4(ends)) => ends.deltas(),
        Some(AnyEnds::V6(ends)) => ends.deltas(),
        None => lvs_nat::Deltas::default(),
    };
    Translation { l4_delta: deltas.l4, ip_delta: deltas.ip, seq_delta, ack_delta: 0 }
}

/// Sequence number and announced MSS of a SYN; `None` for other protocols.
fn seq_and_mss<B: PacketBuf>(packet: &Packet<B>) -> Option<(u32, u16)> {
    let headers = &packet.headers;
    let Transport::Tcp { seq, flags, .. } = headers.transport else { return None };
    debug_assert!(flags & SYN != 0 && headers.tuple.is_some_and(|t| t.proto() == L4Proto::Tcp));
    let header = packet.buf.data().get(usize::from(headers.l4)..usize::from(headers.payload))?;
    let mss = Tcp::parse(header).ok()?.options().find_map(|option| match option.option {
        TcpOption::Mss(mss) => Some(mss),
        _ => None,
    });
    Some((seq, mss.unwrap_or(0)))
}
