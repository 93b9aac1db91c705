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
use crate::client_addr::forged_kinds;
use crate::director::Director;
use crate::emit::ETHERNET;
use crate::neighbour::Settled;
use crate::open::{Before, Wanted};
use crate::outputs::Outputs;
use core::net::{IpAddr, Ipv4Addr};
use lvs_core::addr::{MacAddr, RealAddr, is_martian_source};
use lvs_core::event::Event;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::HopId;
use lvs_core::io::{L4Csum, Lane, PacketBuf, PortId};
use lvs_core::key::KeyV4;
use lvs_core::plan::PortPlan;
use lvs_core::service::{Forwarding, ToaOptions};
use lvs_core::session::tcp::flags::{ACK, FIN, RST, SYN};
use lvs_core::session::{
    First, Missed, OpenV4, OpenedV4, ReservedV4, Segment, TcpState, Translation, pending,
};
use lvs_core::snapshot::NextHop;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Headers, Parsed, QUICK_V4, QuickTcp};
use lvs_nat::options::{Survey, drop_timestamps, survey_options};
use lvs_nat::toa::{KindSet, TOA_V4_LEN, insert_v4};
use lvs_nat::{End, Ends, PlainEdit, isn};

/// A service that SYNs of a burst go to: what it wants, and that its address is nothing else.
#[derive(Clone, Copy)]
pub(crate) struct Front {
    virt: (u32, u16),
    wanted: Wanted,
    kinds: KindSet,
}

/// The SYNs of one burst.
pub(crate) struct Arriving {
    pub(crate) now: Time,
    pub(crate) port: PortId,
    /// Ethernet address of the port.
    pub(crate) here: MacAddr,
    pub(crate) front: Option<Front>,
}

/// An ordinary SYN.
#[derive(Clone, Copy)]
struct Syn {
    key: KeyV4,
    ip_len: u16,
    tcp_len: u8,
    flags: u8,
    ttl: u8,
    seq: u32,
}

/// Where a new session's packets go.
struct Ways {
    addr: RealAddr,
    hop_in: HopId,
    hop_out: HopId,
    settled: Settled,
}

impl<P: PortPlan> Director<'_, P> {
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
        let left = match hash {
            Some(hash) => self.open_short(lane, arriving, packet, hash, out),
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
        hash: u64,
        out: &mut Outputs<L::Buf>,
    ) -> Option<L::Buf> {
        let Some(syn) = read_syn(&packet, &arriving.here) else { return Some(packet) };
        let Some(front) = self.front(arriving, &syn.key) else { return Some(packet) };
        let (Some(missed), Some(survey)) =
            (self.may_come(&syn.key, hash), survey_of(&packet, &syn, &front))
        else {
            return Some(packet);
        };
        self.counters.received.add(packet.total_len() as u64);
        // Ethernet padding ends here.
        packet.truncate(usize::from(ETHERNET).wrapping_add(syn.ip_len.into()));
        let known = (&syn, &front, missed, survey);
        let verdict = self.open_syn(lane, arriving, packet, known, out);
        self.counters.count(verdict);
        None
    }

    /// The service of a SYN, if its address is a service's alone and sessions are opened the usual way.
    #[inline]
    fn front(&mut self, arriving: &mut Arriving, key: &KeyV4) -> Option<Front> {
        let tuple = key.tuple(L4Proto::Tcp);
        let virt = (tuple.dst, tuple.dport);
        if let Some(front) = arriving.front.filter(|front| front.virt == virt) {
            return Some(front);
        }
        let front = self.find_front(virt);
        if let Some(front) = front {
            arriving.front = Some(front);
            self.generation.look_around(&self.shared, front.wanted.service);
        }
        front
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
        let service = self.snapshot().find_service(L4Proto::Tcp, IpAddr::V4(dst), virt.1)?;
        let wanted = self.wanted(service.id).filter(Wanted::is_usual)?;
        let kinds = wanted.toa.map_or(KindSet::EMPTY, |toa| forged_kinds(&toa));
        Some(Front { virt, wanted, kinds })
    }

    /// Whether a packet may come from where it says, and belongs to no session.
    #[inline]
    fn may_come(&self, key: &KeyV4, hash: u64) -> Option<Missed> {
        let src = IpAddr::V4(Ipv4Addr::from_bits(key.tuple(L4Proto::Tcp).src));
        if is_martian_source(&src) || self.snapshot().role(&src).is_ours() {
            return None;
        }
        self.store.missed_v4(hash, key)
    }

    /// From a service to a packet that leaves.
    fn open_syn<L: Lane>(
        &mut self,
        lane: &mut L,
        arriving: &Arriving,
        mut packet: L::Buf,
        (syn, front, missed, survey): (&Syn, &Front, Missed, Survey),
        out: &mut Outputs<L::Buf>,
    ) -> Verdict {
        let (now, wanted) = (arriving.now, &front.wanted);
        let tuple = WireTuple::V4(syn.key.tuple(L4Proto::Tcp));
        let Some(assigned) = self.assign_seen(now, wanted.service, &tuple) else {
            self.events.push(Event::NoServer { service: wanted.service });
            return Verdict::Drop(DropReason::NoServer);
        };
        let toa = wanted.toa.filter(|toa| toa.placement.syn);
        let growth = if toa.is_some() { TOA_V4_LEN as u16 } else { 0 };
        let ways = self.ways_of(now, &syn.key, &assigned);
        let ways = ways.filter(|ways| syn.ip_len.saturating_add(growth) <= ways.settled.most);
        let Some(ways) = ways else {
            let packet = (arriving.port, packet);
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
        let first = First {
            missed,
            segment: Some(Segment { tcp_flags: Some(syn.flags), bytes: syn.ip_len.into() }),
            client_isn: syn.seq,
            client_mss: survey.mss,
            pending: if wanted.toa.is_some() { pending::TOA } else { 0 },
            template: assigned.template,
        };
        match self.open_v4(now, syn, wanted, &assigned, (&ways, &first)) {
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
    fn ways_of(&mut self, now: Time, key: &KeyV4, assigned: &Assigned) -> Option<Ways> {
        let tuple = key.tuple(L4Proto::Tcp);
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
        syn: &Syn,
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
            kept = translation_of(&syn.key, &reserved.reply, seq_delta);
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
            inbound: WireTuple::V4(syn.key.tuple(L4Proto::Tcp)),
            reply: WireTuple::V4(opened.reply.tuple(L4Proto::Tcp)),
        });
    }
}

impl Syn {
    fn headers(&self) -> Headers {
        QuickTcp::<12> {
            to: MacAddr::ZERO,
            key: self.key,
            ip_len: self.ip_len,
            tcp_len: self.tcp_len,
            flags: self.flags,
            ttl: self.ttl,
            plain_options: false,
        }
        .headers()
    }
}

/// An ordinary SYN to this port, out of a frame that [`QuickTcp`] understood.
#[inline(always)]
fn read_syn<B: PacketBuf>(packet: &B, here: &MacAddr) -> Option<Syn> {
    let head = packet.data().first_chunk::<QUICK_V4>()?;
    let (flags, ttl) = (head[47], head[22]);
    let csum = packet.l4_csum();
    let ordinary = (flags & (SYN | ACK | FIN | RST) == SYN)
        & (ttl > 1)
        & (*head.first_chunk::<6>()? == here.0)
        & (csum != L4Csum::Bad)
        & (csum != L4Csum::Partial)
        & packet.gso().is_none()
        & packet.vlan().is_none();
    ordinary.then(|| Syn {
        key: QuickTcp::<12>::key_in(head),
        ip_len: u16::from_be_bytes([head[16], head[17]]),
        tcp_len: (head[46] >> 4) << 2,
        flags,
        ttl,
        seq: u32::from_be_bytes([head[38], head[39], head[40], head[41]]),
    })
}

/// What the options of a SYN hold; `None` when they are suspect or malformed, or there is no room for one more that
/// is wanted.
#[inline]
fn survey_of<B: PacketBuf>(packet: &B, syn: &Syn, front: &Front) -> Option<Survey> {
    let end = QUICK_V4.wrapping_sub(20).wrapping_add(syn.tcp_len.into());
    let survey = survey_options(packet.data().get(QUICK_V4..end)?, front.kinds);
    let grows = front.wanted.toa.is_some_and(|toa| toa.placement.syn);
    let room =
        usize::from(syn.tcp_len).wrapping_add(TOA_V4_LEN) <= 60 && packet.headroom() >= TOA_V4_LEN;
    (!survey.suspect && !survey.malformed && (room || !grows)).then_some(survey)
}

#[inline(always)]
fn option_of(toa: &ToaOptions, key: &KeyV4) -> [u8; TOA_V4_LEN] {
    let [a, b, c, d, _, _, _, _, i, j, _, _] = key.0;
    [toa.kind_v4, TOA_V4_LEN as u8, i, j, a, b, c, d]
}

#[inline(always)]
fn isn_of(key: &[u64; 2], now: Time, reserved: &ReservedV4) -> u32 {
    let reply = reserved.reply.tuple(L4Proto::Tcp);
    let isn = isn::isn_v4(key, (reply.dst, reply.dport), (reply.src, reply.sport), now.0);
    reserved.floor.map_or(isn, |floor| isn::past(isn, floor))
}

#[inline(always)]
fn translation_of(inbound: &KeyV4, reply: &KeyV4, seq_delta: u32) -> Translation {
    let (inbound, reply) = (inbound.tuple(L4Proto::Tcp), reply.tuple(L4Proto::Tcp));
    let ends = Ends {
        client: End::new(inbound.src, inbound.sport),
        virt: End::new(inbound.dst, inbound.dport),
        local: End::new(reply.dst, reply.dport),
        server: End::new(reply.src, reply.sport),
    };
    let deltas = ends.deltas();
    Translation { l4_delta: deltas.l4, ip_delta: deltas.ip, seq_delta, ack_delta: 0 }
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

/// A new session waits for its server, which counts as half open and not as active.
const _: () = assert!(!TcpState::SynRecv.is_active());
