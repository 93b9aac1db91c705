//! A burst at a time, three bursts at once: the short way for ordinary segments of plain sessions.
//!
//! ```text
//!   look       read headers, hash, ask for buckets and lines      all packets
//!   advance    match tags, ask for lines                          all packets
//!   conclude   compare, translate, queue                          ordinary segments, in order
//!              open a session, translate, queue                   ordinary SYNs, together
//!              process_one                                        all others,    in order
//! ```
//!
//! Packets of one session keep their order: behind one that takes the long way, all others of the same
//! session take it too (a filter of 64 bits by slot). Behind a frame that may change what the short way reads
//! (ARP, a header that the quick look does not understand) everything takes the long way. Bursts are concluded
//! in the order in which they came, and every candidate is compared again then, so it does not matter what
//! happened since the first look.
//! The result is that of `process_one` for each packet at the time of the call that concludes its burst, byte
//! for byte and counter for counter; only packets of different sessions may leave in another order.

use crate::director::Director;
use crate::emit::ETHERNET;
use crate::flight::{DEPTH, Keys, Stage, kind};
use crate::fresh::Arriving;
use crate::outputs::{Outputs, Ports};
use crate::short::LONG_WAY;
use lvs_core::addr::MacAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::io::{BURST, Burst, L4Csum, Lane, PacketBuf, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::prefetch::prefetch;
use lvs_core::session::tcp::flags::{ACK, PSH};
use lvs_core::session::{Hint, Probe};
use lvs_core::time::Time;
use lvs_core::wire::QuickTcp;

impl<P: PortPlan> Director<'_, P> {
    pub(crate) fn process_burst<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        port: PortId,
        burst: &mut Burst<L::Buf>,
        out: &mut Outputs<L::Buf>,
    ) {
        let more = burst.room() == 0;
        let depth = self.depth(lane, port);
        if !burst.is_empty() {
            for packet in burst.iter() {
                if let Some(start) = packet.data().first() {
                    prefetch(start);
                }
            }
            while out.flight.len() > 0 && out.flight.len() >= depth.saturating_sub(1) {
                self.advance_all(out);
                self.conclude_oldest(now, lane, out);
            }
            self.advance_all(out);
            self.enter(lane, port, burst, out);
        }
        if !more || depth == 1 {
            self.advance_all(out);
            while out.flight.len() > 0 {
                self.conclude_oldest(now, lane, out);
            }
        }
    }

    /// How many bursts may be under way: one while the sessions are few, since they stay near anyway; else as many
    /// as the lane can do without.
    fn depth<L: Lane>(&self, lane: &L, port: PortId) -> usize {
        if self.store.len() < self.in_flight_from {
            return 1;
        }
        // Twice: as many again may wait for transmission.
        let held = lane.caps(port).max_held as usize;
        (held / (2 * BURST)).clamp(1, DEPTH)
    }

    fn enter<L: Lane>(
        &mut self,
        lane: &L,
        port: PortId,
        burst: &mut Burst<L::Buf>,
        out: &mut Outputs<L::Buf>,
    ) {
        let Some((stage, keys)) = out.flight.enter() else { return };
        stage.burst.append(burst);
        (stage.port, stage.advanced, stage.epoch) = (port, false, self.epoch);
        stage.opened = self.counters.sessions_opened;
        let here = self.mac(lane, port);
        self.look(stage, &here, keys);
    }

    /// Reads what is quick to read and starts the lookups.
    fn look<B: PacketBuf>(&self, stage: &mut Stage<B>, here: &MacAddr, keys: &mut Keys) {
        let (mut v4, mut v6) = (0usize, 0usize);
        let packets = stage.burst.iter().zip(&mut stage.kinds).zip(&mut stage.hints);
        for (number, ((packet, kind), hint)) in (0u8..).zip(packets) {
            let (data, len, hash) = (packet.data(), packet.total_len(), packet.rx_hash());
            if let Some(quick) = QuickTcp::<12>::parse(data, len) {
                *kind = kind::KEYED | self.judge(packet, len, &quick, here);
                let local = self.snapshot().local_v4(quick.key.dst());
                *hint = local
                    .map_or(Hint::NOWHERE, |local| self.store.direct_v4(local, &quick.key, hash));
                // Written in any case, counted only if it is to be hashed: no jump.
                if let (Some(key), Some(place)) = (keys.v4.get_mut(v4), stage.v4.packet.get_mut(v4))
                {
                    (*key, *place) = (quick.key, number);
                }
                v4 = v4.wrapping_add(usize::from(local.is_none()));
            } else if let Some(quick) = QuickTcp::<36>::parse(data, len) {
                *kind = kind::KEYED | kind::V6 | self.judge(packet, len, &quick, here);
                let local = self.snapshot().local_v6(quick.key.dst());
                *hint = local
                    .map_or(Hint::NOWHERE, |local| self.store.direct_v6(local, &quick.key, hash));
                if let (Some(key), Some(place)) = (keys.v6.get_mut(v6), stage.v6.packet.get_mut(v6))
                {
                    (*key, *place) = (quick.key, number);
                }
                v6 = v6.wrapping_add(usize::from(local.is_none()));
            } else {
                *kind = if is_apart(data) { kind::APART } else { kind::UNCLEAR };
                *hint = Hint::NOWHERE;
            }
        }
        (stage.v4.count, stage.v6.count) = (v4, v6);
        self.store.hash_v4(&keys.v4, v4, &mut stage.v4.hash);
        if v6 > 0 {
            self.store.hash_v6(&keys.v6, v6, &mut stage.v6.hash);
        }
    }

    /// Whether a segment may take the short way, as far as it tells itself. Whether its source may be what it
    /// says was settled when its session was opened.
    #[inline(always)]
    fn judge<B: PacketBuf, const N: usize>(
        &self,
        packet: &B,
        len: usize,
        quick: &QuickTcp<N>,
        here: &MacAddr,
    ) -> u8 {
        let csum = packet.l4_csum();
        let padded = usize::from(quick.ip_len).wrapping_add(usize::from(ETHERNET)) != len;
        let ordinary = (quick.flags & !PSH == ACK)
            & quick.plain_options
            & (quick.ttl > 1)
            & (quick.to == *here)
            & (csum != L4Csum::Bad)
            & packet.gso().is_none()
            & packet.vlan().is_none();
        (u8::from(ordinary) * kind::ORDINARY)
            | (u8::from(csum == L4Csum::Partial) * kind::PARTIAL)
            | (u8::from(padded) * kind::PADDED)
    }

    /// Turns the hashes of the bursts under way into hints.
    fn advance_all<B: PacketBuf>(&self, out: &mut Outputs<B>) {
        for stage in out.flight.iter_mut().filter(|stage| !stage.advanced) {
            stage.advanced = true;
            let asked = stage.v4.packet.iter().zip(&stage.v4.hash).take(stage.v4.count);
            for (packet, hash) in asked {
                if let Some(hint) = stage.hints.get_mut(usize::from(*packet)) {
                    *hint = self.store.guess_v4(*hash);
                }
            }
            let asked = stage.v6.packet.iter().zip(&stage.v6.hash).take(stage.v6.count);
            for (packet, hash) in asked {
                if let Some(hint) = stage.hints.get_mut(usize::from(*packet)) {
                    *hint = self.store.guess_v6(*hash);
                }
            }
        }
    }

    fn conclude_oldest<L: Lane>(&mut self, now: Time, lane: &mut L, out: &mut Outputs<L::Buf>) {
        let Outputs { flight, ports, .. } = out;
        let Some(stage) = flight.oldest() else { return };
        self.edit_all(now, lane, stage, ports);
        let (port, mut slow) = (stage.port, Burst::new());
        let mut numbers = [0u8; BURST];
        if !(stage.is_for_one_port() && ports.append_all(stage)) {
            let mut fates = (0u8..).zip(&stage.fates);
            stage.burst.drain_with(|packet| {
                let Some((number, &fate)) = fates.next() else { return };
                let left = match fate {
                    LONG_WAY => Some(packet),
                    port => ports.append(PortId(u16::from(port)), packet),
                };
                if let (Some(packet), Some(place)) = (left, numbers.get_mut(slow.len())) {
                    *place = number;
                    // The burst that is drained has no more packets than this one has places.
                    let _ = slow.push(packet);
                }
            });
        }
        if !slow.is_empty() {
            self.conclude_slow(now, lane, (port, &mut slow, &numbers), out);
        }
        out.flight.leave();
    }

    /// Carries out what the short way has left of the oldest burst: these packets, with their numbers in it.
    fn conclude_slow<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        (port, slow, numbers): (PortId, &mut Burst<L::Buf>, &[u8; BURST]),
        out: &mut Outputs<L::Buf>,
    ) {
        let mut arriving = Arriving::new(now, port, self.mac(lane, port));
        self.foresee(&mut arriving, slow);
        let (mut numbers, mut asked) = (numbers.iter(), 0);
        slow.drain_with(|packet| {
            let number = numbers.next().copied().unwrap_or(u8::MAX);
            let hash = out.flight.oldest().and_then(|stage| stage.v4.hash_of(number, &mut asked));
            self.open_or_process(lane, &mut arriving, packet, hash, out);
        });
    }

    /// Edits what takes the short way where it lies, and writes down which port each packet leaves by.
    fn edit_all<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        stage: &mut Stage<L::Buf>,
        ports: &mut Ports<L::Buf>,
    ) {
        let mut passing = self.ready(now, lane, stage.burst.len(), ports);
        // What the first look read may have been replaced since.
        let mut held = if stage.epoch == self.epoch { 0 } else { u64::MAX };
        let looks = stage.kinds.iter().zip(&stage.hints).zip(&mut stage.fates);
        for (packet, ((&kind, &hint), fate)) in stage.burst.iter_mut().zip(looks) {
            let ordinary = kind & kind::ORDINARY != 0 && held & hint.filter_bit() == 0;
            let port =
                if ordinary { self.shorten(packet, kind, hint, &mut passing) } else { LONG_WAY };
            *fate = port;
            if port == LONG_WAY {
                held |= self.hold(packet, kind, hint, stage.opened);
            }
        }
        self.book_passed(&passing);
    }

    /// Whom a packet that takes the long way holds back: its session, when it has one; everybody, when it is
    /// not clear what it will do. `opened` = sessions opened when it was looked at.
    #[cold]
    fn hold<B: PacketBuf>(&self, packet: &B, kind: u8, hint: Hint, opened: u64) -> u64 {
        if kind & kind::UNCLEAR != 0 {
            return u64::MAX;
        }
        if kind & kind::KEYED == 0 {
            return 0;
        }
        // Nowhere then, and no session came since: nowhere now.
        if hint.is_nowhere() && opened == self.counters.sessions_opened {
            return 0;
        }
        self.true_hint(packet, kind).filter_bit()
    }

    /// The hint of a packet, with its key compared.
    fn true_hint<B: PacketBuf>(&self, packet: &B, kind: u8) -> Hint {
        let frame = packet.data();
        let tuple = if kind & kind::V6 == 0 {
            frame
                .first_chunk()
                .map(|head| WireTuple::V4(QuickTcp::<12>::key_in(head).tuple(L4Proto::Tcp)))
        } else {
            frame
                .first_chunk()
                .map(|head| WireTuple::V6(QuickTcp::<36>::key_in(head).tuple(L4Proto::Tcp)))
        };
        let Some(tuple) = tuple else { return Hint::NOWHERE };
        let local = self.snapshot().role(&tuple.dst()).local;
        self.store.hint_of(&Probe { tuple, local }, packet.rx_hash())
    }
}

/// Frames that have nothing to do with what the short way reads: IPv4 without TCP, UDP over IPv6.
fn is_apart(frame: &[u8]) -> bool {
    match frame.get(12..24) {
        Some([0x08, 0x00, 0x45, .., protocol]) => *protocol != L4Proto::Tcp.number(),
        Some([0x86, 0xdd, _, _, _, _, _, _, 44, ..]) => {
            // Of a later TCP fragment that says so, order means nothing.
            frame.get(54) == Some(&L4Proto::Udp.number())
        }
        Some([0x86, 0xdd, _, _, _, _, _, _, next, ..]) => *next == L4Proto::Udp.number(),
        _ => false,
    }
}
