//! A burst at a time: the short way for ordinary segments of plain sessions.
//!
//! ```text
//!   1 read headers, hash, ask for buckets and lines     all packets
//!   2 match tags, ask for lines                         all packets
//!   3 who must not overtake whom                        all packets, in order
//!   4 compare, translate, queue                         ordinary segments, in order
//!   5 process_one                                       everything else, in order
//! ```
//!
//! Packets of one session keep their order: behind one that takes the long way, all others of the same
//! session take it too (step 3, a filter of 64 bits by slot). Behind a frame that may change what the short
//! way reads (ARP, a header that the quick look does not understand) everything takes the long way.
//! The result is that of `process_one` for each packet, byte for byte and counter for counter; only packets
//! of different sessions may leave in another order.

use crate::carry::count;
use crate::director::Director;
use crate::emit::ETHERNET;
use crate::outputs::Outputs;
use lvs_core::addr::{MacAddr, is_martian_source};
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::io::{BURST, Burst, L4Csum, Lane, PacketBuf, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::session::tcp::flags::{ACK, PSH};
use lvs_core::session::{Candidate, Pending, PlainV4, Probe, Segment};
use lvs_core::time::Time;
use lvs_core::verdict::Verdict;
use lvs_core::wire::QuickTcp;
use lvs_nat::{Deltas, End, RewriteV4, SeqShift};

/// Ports whose facts are kept at hand during a burst.
const PORTS: usize = 8;

/// What the first two steps found out about a packet.
#[derive(Clone, Copy, Default)]
struct Look {
    quick: Option<QuickTcp>,
    pending: Pending,
    ordinary: bool,
}

/// What a burst needs of a port.
#[derive(Clone, Copy)]
struct PortFacts {
    mac: MacAddr,
    /// Largest IP packet.
    most: u16,
    tx_csum: bool,
}

type Facts = [Option<PortFacts>; PORTS];

impl<P: PortPlan> Director<'_, P> {
    pub(crate) fn process_burst<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        port: PortId,
        burst: &mut Burst<L::Buf>,
        out: &mut Outputs<L::Buf>,
    ) {
        let mut looks = [Look::default(); BURST];
        let mut facts: Facts = [None; PORTS];
        let here = self.mac(lane, port);
        self.look(burst, &here, &mut looks);
        for look in looks.iter_mut().take(burst.len()) {
            self.store.advance(&mut look.pending);
        }
        keep_order(&mut looks);
        let mut held = 0;
        let mut slow = Burst::new();
        let mut looks = looks.iter();
        burst.drain_with(|packet| {
            let left = match looks.next().and_then(|look| look.choice(held)) {
                Some((quick, candidate)) => {
                    let left =
                        self.carry_plain(now, lane, packet, &quick, candidate, &mut facts, out);
                    // Whoever could not take the short way holds the rest of his session back.
                    held |= if left.is_some() { candidate.filter_bit() } else { 0 };
                    left
                }
                None => Some(packet),
            };
            if let Some(packet) = left {
                // The burst that is drained has no more packets than this one has places.
                let _ = slow.push(packet);
            }
        });
        slow.drain_with(|packet| {
            self.process_one(now, lane, port, packet, out);
        });
    }

    /// Step 1: reads what is quick to read and starts the lookups.
    fn look<B: PacketBuf>(&self, burst: &[B], here: &MacAddr, looks: &mut [Look; BURST]) {
        for (packet, look) in burst.iter().zip(looks.iter_mut()) {
            let (data, len) = (packet.data(), packet.total_len());
            let Some(quick) = QuickTcp::parse(data, len) else {
                if is_apart(data) {
                    continue;
                }
                return;
            };
            let tuple = WireTuple::V4(quick.tuple);
            let role = self.snapshot().role(&tuple.dst());
            look.pending = self.store.begin(&Probe { tuple, local: role.local });
            look.ordinary = quick.flags & !PSH == ACK
                && quick.plain_options
                && quick.ttl > 1
                && quick.to == *here
                && packet.l4_csum() != L4Csum::Bad
                && packet.gso().is_none()
                && packet.vlan().is_none()
                && !is_martian_source(&tuple.src())
                && !self.snapshot().role(&tuple.src()).is_ours();
            look.quick = Some(quick);
        }
    }

    /// Takes one ordinary segment through its session; gives it back, with nothing changed, when it has to
    /// take the long way.
    fn carry_plain<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: L::Buf,
        quick: &QuickTcp,
        candidate: Candidate,
        facts: &mut Facts,
        out: &mut Outputs<L::Buf>,
    ) -> Option<L::Buf> {
        let Some(plain) = self.store.plain(candidate, &quick.tuple) else { return Some(packet) };
        let Some((mac, port)) = self.neighbours.settled(plain.hop, now) else {
            return Some(packet);
        };
        let Some(to) = self.facts(lane, port, facts) else { return Some(packet) };
        let (csum, frame_len) = (packet.l4_csum(), packet.total_len());
        let fits = quick.ip_len <= to.most && (csum != L4Csum::Partial || to.tx_csum);
        let room = out.port(port).is_some_and(|burst| burst.room() > 0);
        if !fits || !room {
            return Some(packet);
        }
        let rewrite = rewrite_of(&plain).decrement_ttl(true);
        let headers = quick.headers();
        if rewrite.apply(packet.data_mut(), &headers, csum).is_err() {
            return Some(packet);
        }
        // Ethernet padding ends here, as on the long way.
        packet.truncate(usize::try_from(headers.end).unwrap_or(usize::MAX));
        if csum == L4Csum::Partial {
            packet.set_l4_csum(csum, headers.l3, headers.l4);
        }
        // The quick look has found 54 bytes, so there are twelve to write to.
        let _ = lvs_nat::set_macs(packet.data_mut(), mac, to.mac);
        self.book_plain(now, &plain, candidate, frame_len, quick, port);
        // There is room, so nothing comes back.
        out.push(lane, port, packet).err()
    }

    /// Counts what `process_one` would count.
    fn book_plain(
        &mut self,
        now: Time,
        plain: &PlainV4,
        candidate: Candidate,
        frame_len: usize,
        quick: &QuickTcp,
        port: PortId,
    ) {
        let bytes = u32::from(quick.ip_len);
        self.store.commit_plain(candidate, now.tick(), bytes);
        self.counters.received.add(frame_len as u64);
        self.counters.count(Verdict::Forward(port));
        self.short_way = self.short_way.wrapping_add(1);
        let segment = Segment { tcp_flags: Some(quick.flags), bytes };
        for carried in self.generation.carried(plain.server).into_iter().flatten() {
            count(carried, candidate.direction, segment);
        }
    }

    fn facts<L: Lane>(&self, lane: &L, port: PortId, facts: &mut Facts) -> Option<PortFacts> {
        let place = facts.get_mut(port.index())?;
        if place.is_none() {
            let caps = lane.caps(port);
            *place = Some(PortFacts {
                mac: self.mac(lane, port),
                most: self.mtu(lane, port).min(caps.max_frame.saturating_sub(ETHERNET)),
                tx_csum: caps.tx_csum,
            });
        }
        *place
    }
}

impl Look {
    /// The packet may take the short way, unless its session is held back.
    fn choice(&self, held: u64) -> Option<(QuickTcp, Candidate)> {
        let candidate = self.pending.guess().filter(|_| self.ordinary)?;
        if held & candidate.filter_bit() != 0 { None } else { Some((self.quick?, candidate)) }
    }
}

/// Step 3: in order, whoever stands behind a packet of his session that takes the long way takes it too.
fn keep_order(looks: &mut [Look]) {
    let mut held = 0u64;
    for look in looks {
        let Some(candidate) = look.pending.guess() else { continue };
        let bit = candidate.filter_bit();
        if !look.ordinary {
            held |= bit;
        } else if held & bit != 0 {
            look.ordinary = false;
        }
    }
}

/// Frames that have nothing to do with what the short way reads: IPv6, and IPv4 without TCP.
fn is_apart(frame: &[u8]) -> bool {
    match frame.get(12..24) {
        Some([0x86, 0xdd, ..]) => true,
        Some([0x08, 0x00, 0x45, .., protocol]) => *protocol != L4Proto::Tcp.number(),
        _ => false,
    }
}

#[inline]
fn rewrite_of(plain: &PlainV4) -> RewriteV4 {
    RewriteV4::new(
        End::new(plain.src.0, plain.src.1),
        End::new(plain.dst.0, plain.dst.1),
        Deltas { l4: plain.l4_delta, ip: plain.ip_delta },
        SeqShift { seq_add: plain.seq_add, ack_add: plain.ack_add },
    )
}
