//! The short way of a first packet: an ordinary IPv4 SYN to a service, whose key the burst has read and hashed.
//!
//! ```text
//!   before the choice of a server    whatever is odd gives the packet back, untouched: it takes the long way
//!   behind it                        whatever is odd goes on with the long way from there
//! ```
//!
//! Bytes, verdicts, counters, events and sessions are those of `process_one`, which is the oracle; only reports
//! are not made. What a burst's SYNs have in common, the service, is looked at once ([`Front`]).

use crate::admit::Packet;
use crate::assign::Assigned;
use crate::director::Director;
use crate::emit::ETHERNET;
use crate::neighbour::Settled;
use crate::open::{Before, Wanted};
use crate::outputs::Outputs;
use crate::syn::{Syn, isn_of, option_of, read_syn, survey_of, translation_of};
use core::net::{IpAddr, Ipv4Addr};
use lvs_core::addr::{MacAddr, RealAddr, is_martian_source};
use lvs_core::event::Event;
use lvs_core::flow::{L4Proto, TupleV4, WireTuple};
use lvs_core::id::HopId;
use lvs_core::io::{BURST, Lane, PacketBuf, PortId};
use lvs_core::persistence::Persistence;
use lvs_core::plan::PortPlan;
use lvs_core::service::Forwarding;
use lvs_core::session::{First, Missed, OpenV4, OpenedV4, Segment, Translation, pending};
use lvs_core::shared::Spot;
use lvs_core::snapshot::NextHop;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Headers, Parsed, QUICK_V4};
use lvs_nat::PlainEdit;
use lvs_nat::options::{Survey, drop_timestamps};
use lvs_nat::toa::{KindSet, TOA_V4_LEN, insert_v4};

/// A service that SYNs of a burst go to: what it wants, and that its address is nothing else.
#[derive(Clone, Copy)]
pub(crate) struct Front {
    virt: (u32, u16),
    wanted: Wanted,
    kinds: KindSet,
    persistence: Option<Persistence>,
}

/// The SYNs of one burst.
pub(crate) struct Arriving {
    pub(crate) now: Time,
    pub(crate) port: PortId,
    /// Ethernet address of the port.
    pub(crate) here: MacAddr,
    pub(crate) front: Option<Front>,
    /// By the order of packets: where the templates of clients are.
    spots: [Option<Spot>; BURST],
    /// The packet that is next.
    next: usize,
}

impl Arriving {
    pub(crate) const fn new(now: Time, port: PortId, here: MacAddr) -> Self {
        Self { now, port, here, front: None, spots: [None; BURST], next: 0 }
    }
}

/// Packets from which on fetching ahead is worth its work.
const MANY: usize = 4;

/// Where a new session's packets go.
struct Ways {
    addr: RealAddr,
    hop_in: HopId,
    hop_out: HopId,
    settled: Settled,
}

impl<P: PortPlan> Director<'_, P> {
    /// Looks ahead over packets that will be handed to [`open_or_process`](Self::open_or_process) in this order:
    /// what is remembered of clients is on its way then.
    pub(crate) fn foresee<B: PacketBuf>(&mut self, arriving: &mut Arriving, packets: &[B]) {
        if packets.len() < MANY {
            return;
        }
        for (at, packet) in packets.iter().enumerate() {
            let Some(syn) = read_syn(packet, &arriving.here) else { continue };
            if !self.knows_front(arriving, &syn.tuple) {
                return;
            }
            let Some(Front { wanted, persistence: Some(policy), .. }) = &arriving.front else {
                return;
            };
            let client = IpAddr::V4(Ipv4Addr::from_bits(syn.tuple.src));
            let spot = self.shared.templates.spot(&policy.key(wanted.service, client));
            self.shared.templates.prefetch(&spot);
            if let Some(place) = arriving.spots.get_mut(at) {
                *place = Some(spot);
            }
        }
        for spot in arriving.spots.iter().flatten() {
            self.shared.templates.prefetch_entry(spot);
        }
    }

    /// Takes a packet through the pipeline that the short way for ordinary segments has left: `hash` of its key,
    /// if it is TCP over IPv4 that a session was looked up for.
    #[inline]
    pub(crate) fn open_or_process<L: Lane>(
        &mut self,
        lane: &mut L,
        arriving: &mut Arriving,
        packet: L::Buf,
        hash: Option<u64>,
        out: &mut Outputs<L::Buf>,
    ) {
        let (now, port) = (arriving.now, arriving.port);
        let spot = arriving.spots.get(arriving.next).copied().flatten();
        arriving.next = arriving.next.wrapping_add(1);
        let left = match hash {
            Some(hash) => self.open_short(lane, arriving, packet, (hash, spot), out),
            None => Some(packet),
        };
        if let Some(packet) = left {
            self.process_one(now, lane, port, packet, out);
        }
    }

    /// Opens a session for a SYN that has none; anything else comes back, with nothing changed.
    fn open_short<L: Lane>(
        &mut self,
        lane: &mut L,
        arriving: &mut Arriving,
        mut packet: L::Buf,
        (hash, spot): (u64, Option<Spot>),
        out: &mut Outputs<L::Buf>,
    ) -> Option<L::Buf> {
        let Some(syn) = read_syn(&packet, &arriving.here) else { return Some(packet) };
        if !self.knows_front(arriving, &syn.tuple) {
            return Some(packet);
        }
        let Some(front) = &arriving.front else { return Some(packet) };
        let (Some(missed), Some(survey)) =
            (self.may_come(&syn, hash), survey_of(&packet, &syn, (front.kinds, front.wanted.toa)))
        else {
            return Some(packet);
        };
        self.counters.received.add(packet.total_len() as u64);
        // Ethernet padding ends here.
        packet.truncate(usize::from(ETHERNET).wrapping_add(syn.ip_len.into()));
        let known = (&syn, front, missed, survey, spot);
        let verdict = self.open_syn(lane, (arriving.now, arriving.port), packet, known, out);
        self.counters.count(verdict);
        None
    }

    /// Whether the service of a SYN is at hand now: its address is a service's alone, and sessions are opened the
    /// usual way.
    #[inline]
    fn knows_front(&mut self, arriving: &mut Arriving, tuple: &TupleV4) -> bool {
        let virt = (tuple.dst, tuple.dport);
        if arriving.front.as_ref().is_some_and(|front| front.virt == virt) {
            return true;
        }
        let found = self.find_front(virt);
        if let Some(front) = found {
            self.generation.look_around(&self.shared, front.wanted.service);
            arriving.front = Some(front);
        }
        found.is_some()
    }

    #[inline(never)]
    fn find_front(&self, virt: (u32, u16)) -> Option<Front> {
        let dst = Ipv4Addr::from_bits(virt.0);
        let odd =
            dst.is_multicast() || dst.is_broadcast() || dst.is_loopback() || dst.is_unspecified();
        let role = self.snapshot().role(&IpAddr::V4(dst));
        if odd || !role.virt || role.local.is_some() {
            return None;
        }
        if self.snapshot().has_marks() {
            return None;
        }
        let service = self.snapshot().find_service(L4Proto::Tcp, IpAddr::V4(dst), virt.1)?;
        if service.forwarding == Forwarding::Local {
            return None;
        }
        let persistence = service.persistence;
        let wanted = self.wanted(service.id).filter(Wanted::is_usual)?;
        let kinds = wanted.forged.unwrap_or(KindSet::EMPTY);
        Some(Front { virt, wanted, kinds, persistence })
    }

    /// Whether a packet may come from where it says, and belongs to no session.
    #[inline]
    fn may_come(&self, syn: &Syn, hash: u64) -> Option<Missed> {
        let src = IpAddr::V4(Ipv4Addr::from_bits(syn.tuple.src));
        if is_martian_source(&src) || self.snapshot().role(&src).is_ours() {
            return None;
        }
        self.store.missed_v4(hash, &syn.key)
    }

    /// From a service to a packet that leaves.
    fn open_syn<L: Lane>(
        &mut self,
        lane: &mut L,
        (now, port): (Time, PortId),
        mut packet: L::Buf,
        (syn, front, missed, survey, spot): (&Syn, &Front, Missed, Survey, Option<Spot>),
        out: &mut Outputs<L::Buf>,
    ) -> Verdict {
        let wanted = &front.wanted;
        let tuple = WireTuple::V4(syn.tuple);
        let assigned = match (&front.persistence, spot) {
            (Some(policy), Some(spot)) => {
                self.assign_at(now, wanted.service, &tuple, (policy, &spot))
            }
            _ => self.assign_seen(now, wanted.service, &tuple),
        };
        let Some(assigned) = assigned else {
            self.events.push(Event::NoServer { service: wanted.service });
            return Verdict::Drop(DropReason::NoServer);
        };
        let toa = wanted.toa.filter(|toa| toa.placement.syn);
        let growth = if toa.is_some() { TOA_V4_LEN as u16 } else { 0 };
        let ways = self.ways_of(now, &syn.tuple, &assigned);
        let second = ways.as_ref().filter(|_| wanted.forwarding == Forwarding::Nat);
        let second = second.map(|ways| self.store.expect_v4(&syn.key, &ways.addr));
        let ways = ways.filter(|ways| syn.ip_len.saturating_add(growth) <= ways.settled.most);
        let Some(ways) = ways else {
            let packet = (port, packet);
            return self.open_at_length(now, lane, packet, (wanted, missed), &assigned, out);
        };
        if survey.timestamps && wanted.strip_timestamps {
            let csum = packet.l4_csum();
            let _ = drop_timestamps(packet.data_mut(), &syn.headers(), csum);
        }
        if let Some(toa) = toa {
            let option = option_of(&toa, &syn.key);
            let lengths = (syn.ip_len, syn.tcp_len);
            // There is room: `survey_of` and the check above have seen to it.
            if insert_v4(&mut packet, lengths, option, ways.settled.most).is_none() {
                return Verdict::Drop(DropReason::NoToaRoom);
            }
            self.counters.toa_inserted = self.counters.toa_inserted.wrapping_add(1);
        }
        let told = if toa.is_some() { pending::TOLD_BY_TOA } else { 0 };
        let first = First {
            missed,
            segment: Some(Segment { tcp_flags: Some(syn.flags), bytes: syn.ip_len.into() }),
            client_isn: syn.seq,
            client_mss: survey.mss,
            pending: wanted.pending() | told,
            template: assigned.template,
        };
        match self.open_v4(now, (syn, second), wanted, &assigned, (&ways, &first)) {
            Ok((opened, translation)) => {
                self.short_way = self.short_way.wrapping_add(1);
                self.book_opened(syn, wanted, &assigned, (&ways, &opened));
                send(lane, packet, &ways.settled, (&opened, &translation), out)
            }
            Err(reason) => {
                self.unassign(&assigned);
                Verdict::Drop(reason)
            }
        }
    }

    /// The rest of the long way.
    #[cold]
    #[inline(never)]
    fn open_at_length<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        (port, buf): (PortId, L::Buf),
        (wanted, missed): (&Wanted, Missed),
        assigned: &Assigned,
        out: &mut Outputs<L::Buf>,
    ) -> Verdict {
        let parsed = Headers::parse(buf.data(), buf.total_len());
        let Ok(Parsed::Ip(headers)) = parsed else {
            self.unassign(assigned);
            return Verdict::Drop(DropReason::MalformedEthernet);
        };
        let before = Before::Nothing(missed);
        let packet = Packet { buf, headers, port };
        self.open_on(now, lane, packet, (wanted, before), assigned, out).1
    }

    /// The ways to a server and back, when there is nothing to ask on the way to it.
    #[inline]
    fn ways_of(&mut self, now: Time, tuple: &TupleV4, assigned: &Assigned) -> Option<Ways> {
        let addr = self.snapshot().server(assigned.server)?.addr;
        let port = if addr.port() == 0 { tuple.dport } else { addr.port() };
        let (there, hop_in) = self.generation.way_to(assigned.server)?;
        let (port_back, via) = self.snapshot().route_v4(tuple.src)?;
        let back = NextHop { port: port_back, via: IpAddr::V4(Ipv4Addr::from_bits(via)) };
        let hop_in = self.neighbours.near(&there, hop_in)?;
        let hop_out = self.neighbours.intern_beside(hop_in, &back)?;
        let settled = *self.neighbours.settled(hop_in, now)?;
        Some(Ways { addr: RealAddr::new(addr.ip(), port), hop_in, hop_out, settled })
    }

    #[inline]
    fn open_v4(
        &mut self,
        now: Time,
        (syn, second): (&Syn, Option<u64>),
        wanted: &Wanted,
        assigned: &Assigned,
        (ways, first): (&Ways, &First),
    ) -> Result<(OpenedV4, Translation), DropReason> {
        let full = wanted.forwarding == Forwarding::FullNat;
        let first_local = wanted.pool.filter(|_| full).map(|id| {
            let size = self.snapshot().pool(id).map_or(0, |pool| pool.v4.len());
            (id, self.generation.pool_turn(id, size))
        });
        let local = first_local.map(|(id, first)| {
            let pool = self.generation.snapshot().pool(id);
            (pool.map_or(&[][..], |pool| &pool.v4), first)
        });
        let open = OpenV4 {
            key: syn.key,
            local,
            second,
            addr: ways.addr,
            server: assigned.server,
            hops: [ways.hop_in, ways.hop_out],
            class: wanted.class,
        };
        let key = self.isn_key;
        let mut kept = Translation::default();
        let opened = self.store.open_v4(now.tick(), &open, first, |reserved| {
            let seq_delta =
                if full { isn_of(&key, now, reserved).wrapping_sub(syn.seq) } else { 0 };
            kept = translation_of(&syn.tuple, &reserved.reply, seq_delta);
            kept
        });
        match opened {
            Ok(opened) => Ok((opened, kept)),
            Err(error) => Err(self.refused(error, wanted)),
        }
    }

    /// Books a session in that was opened.
    #[inline]
    fn book_opened(
        &mut self,
        syn: &Syn,
        wanted: &Wanted,
        assigned: &Assigned,
        (ways, opened): (&Ways, &OpenedV4),
    ) {
        let server = assigned.server;
        self.neighbours.hold(ways.hop_in);
        self.neighbours.hold(ways.hop_out);
        self.generation.opened(&self.shared, server, syn.ip_len);
        self.counters.sessions_opened = self.counters.sessions_opened.wrapping_add(1);
        self.events.push(Event::SessionOpened {
            session: opened.id,
            service: wanted.service,
            server,
            inbound: WireTuple::V4(syn.tuple),
            reply: WireTuple::V4(opened.reply.tuple(L4Proto::Tcp)),
        });
    }
}

/// Translates the SYN and queues it.
#[inline]
fn send<L: Lane>(
    lane: &mut L,
    mut packet: L::Buf,
    way: &Settled,
    (opened, translation): (&OpenedV4, &Translation),
    out: &mut Outputs<L::Buf>,
) -> Verdict {
    let Some(head) = packet.data_mut().first_chunk_mut::<QUICK_V4>() else {
        return Verdict::Drop(DropReason::MalformedEthernet);
    };
    let edit = PlainEdit {
        l4_delta: translation.l4_delta,
        ip_delta: translation.ip_delta,
        seq_add: translation.seq_delta,
        ack_add: 0,
        partial: false,
    };
    edit.apply_v4(head, &opened.reply.swapped());
    if let Some((first, rest)) = head.split_first_chunk_mut::<8>()
        && let Some(second) = rest.first_chunk_mut::<4>()
    {
        (*first, *second) = way.macs;
    }
    match out.push(lane, way.port, packet) {
        Ok(()) => Verdict::Forward(way.port),
        Err(_full) => Verdict::Drop(DropReason::TxFull),
    }
}
