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
use crate::flight::{Asking, DEPTH, Keys, Look, Stage, kind};
use crate::fresh::Arriving;
use crate::outputs::{Outputs, Ports};
use crate::short::LONG_WAY;
use lvs_core::addr::MacAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::io::{BURST, Burst, L4Csum, Lane, PacketBuf, PortId, RxHash};
use lvs_core::key::{KeyV4, KeyV6};
use lvs_core::plan::PortPlan;
use lvs_core::prefetch::prefetch;
use lvs_core::session::{Hint, Probe};
use lvs_core::time::Time;
use lvs_core::wire::{Ordinary, OwnMac, QuickTcp};

/// Bytes of a cache line.
const LINE: usize = 64;

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
            // Headers of IPv6 end in the second line of a frame.
            let second = out.flight.saw_v6.then_some(LINE);
            for packet in burst.iter() {
                let data = packet.data();
                if let Some(start) = data.first() {
                    prefetch(start);
                }
                if let Some(more) = second.and_then(|line| data.get(line)) {
                    prefetch(more);
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
        let seen = self.look(stage, &here, keys);
        out.flight.saw_v6 = seen & kind::V6 != 0;
    }

    /// Reads what is quick to read and starts the lookups. The kinds that there are, together.
    fn look<B: PacketBuf>(&self, stage: &mut Stage<B>, here: &MacAddr, keys: &mut Keys) -> u8 {
        let mut seen = 0;
        let own = OwnMac::new(*here);
        let mut asking = Asking { keys, v4: &mut stage.v4, v6: &mut stage.v6 };
        (asking.v4.count, asking.v6.count) = (0, 0);
        for (number, (packet, look)) in (0u8..).zip(stage.burst.iter().zip(&mut stage.looks)) {
            let (data, len) = (packet.data(), packet.total_len());
            let more = beside(packet);
            if let Some(segment) = Ordinary::<12>::look(data, len, own)
                && more != kind::UNCLEAR
            {
                look.kind = more | kind::ordinary(false, segment.padding);
                look.hint = self.ask_v4(&mut asking, number, &segment.key, packet.rx_hash());
            } else if let Some(segment) = Ordinary::<36>::look(data, len, own)
                && more != kind::UNCLEAR
            {
                look.kind = more | kind::ordinary(true, segment.padding);
                look.hint = self.ask_v6(&mut asking, number, &segment.key, packet.rx_hash());
            } else {
                (look.kind, look.hint) = self.look_longer(packet, *here, &mut asking, number);
            }
            seen |= look.kind;
        }
        self.store.hash_v4(&asking.keys.v4, asking.v4.count, &mut asking.v4.hash);
        if asking.v6.count > 0 {
            self.store.hash_v6(&asking.keys.v6, asking.v6.count, &mut asking.v6.hash);
        }
        seen
    }

    /// What is known at the first look about where an IPv4 packet belongs; asks the directory if that is nothing.
    #[inline(always)]
    fn ask_v4(&self, to: &mut Asking<'_>, number: u8, key: &KeyV4, hash: Option<RxHash>) -> Hint {
        let local = self.snapshot().local_v4(key.dst());
        let count = to.v4.count;
        // Written in any case, counted only if it is to be hashed: no jump.
        if let (Some(place), Some(of)) = (to.keys.v4.get_mut(count), to.v4.packet.get_mut(count)) {
            (*place, *of) = (*key, number);
        }
        to.v4.count = count.wrapping_add(usize::from(local.is_none()));
        local.map_or(Hint::NOWHERE, |local| self.store.direct_v4(local, key, hash))
    }

    /// The same for IPv6.
    #[inline(always)]
    fn ask_v6(&self, to: &mut Asking<'_>, number: u8, key: &KeyV6, hash: Option<RxHash>) -> Hint {
        let local = self.snapshot().local_v6(key.dst());
        let count = to.v6.count;
        if let (Some(place), Some(of)) = (to.keys.v6.get_mut(count), to.v6.packet.get_mut(count)) {
            (*place, *of) = (*key, number);
        }
        to.v6.count = count.wrapping_add(usize::from(local.is_none()));
        local.map_or(Hint::NOWHERE, |local| self.store.direct_v6(local, key, hash))
    }

    /// The first look at a packet that is not told at once, which may be ordinary all the same.
    #[inline(never)]
    fn look_longer<B: PacketBuf>(
        &self,
        packet: &B,
        own: MacAddr,
        asking: &mut Asking<'_>,
        number: u8,
    ) -> (u8, Hint) {
        let (data, len, hash) = (packet.data(), packet.total_len(), packet.rx_hash());
        let ordinary = |ordinary: bool, v6: bool, ip_len: u16| {
            let padding = len.wrapping_sub(usize::from(ETHERNET)).wrapping_sub(usize::from(ip_len));
            match beside(packet) {
                more if ordinary && more != kind::UNCLEAR => more | kind::ordinary(v6, padding),
                _ => kind::KEYED | if v6 { kind::V6 } else { 0 },
            }
        };
        if let Some(quick) = QuickTcp::<12>::parse(data, len) {
            let kind = ordinary(quick.is_ordinary(own), false, quick.ip_len);
            (kind, self.ask_v4(asking, number, &quick.key, hash))
        } else if let Some(quick) = QuickTcp::<36>::parse(data, len) {
            let kind = ordinary(quick.is_ordinary(own), true, quick.ip_len);
            (kind, self.ask_v6(asking, number, &quick.key, hash))
        } else {
            (if is_apart(data) { kind::APART } else { kind::UNCLEAR }, Hint::NOWHERE)
        }
    }

    /// Turns the hashes of the bursts under way into hints.
    fn advance_all<B: PacketBuf>(&self, out: &mut Outputs<B>) {
        for stage in out.flight.iter_mut().filter(|stage| !stage.advanced) {
            stage.advanced = true;
            let asked = stage.v4.packet.iter().zip(&stage.v4.hash).take(stage.v4.count);
            for (packet, hash) in asked {
                if let Some(look) = stage.looks.get_mut(usize::from(*packet)) {
                    look.hint = self.store.guess_v4(*hash);
                }
            }
            let asked = stage.v6.packet.iter().zip(&stage.v6.hash).take(stage.v6.count);
            for (packet, hash) in asked {
                if let Some(look) = stage.looks.get_mut(usize::from(*packet)) {
                    look.hint = self.store.guess_v6(*hash);
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
        if !ports.append_all(stage) {
            let mut looks = (0u8..).zip(&stage.looks);
            stage.burst.drain_with(|packet| {
                let Some((number, look)) = looks.next() else { return };
                let left = match look.fate {
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
        for (packet, look) in stage.burst.iter_mut().zip(&mut stage.looks) {
            let Look { kind, hint, .. } = *look;
            let ordinary = kind & kind::ORDINARY != 0 && held & hint.filter_bit() == 0;
            look.fate =
                if ordinary { self.shorten(packet, kind, hint, &mut passing) } else { LONG_WAY };
            if look.fate == LONG_WAY {
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

/// What a packet brings along besides its bytes: the bits of its kind, or [`kind::UNCLEAR`] where it brings
/// something that the short way does not know.
#[inline(always)]
fn beside<B: PacketBuf>(packet: &B) -> u8 {
    let csum = packet.l4_csum();
    if (csum == L4Csum::Bad) | packet.gso().is_some() | packet.vlan().is_some() {
        return kind::UNCLEAR;
    }
    u8::from(csum == L4Csum::Partial) * kind::PARTIAL
}

/// Frames that have nothing to do with what the short way reads: IPv4 without TCP, UDP and SCTP over IPv6.
fn is_apart(frame: &[u8]) -> bool {
    match frame.get(12..24) {
        Some([0x08, 0x00, 0x45, .., protocol]) => *protocol != L4Proto::Tcp.number(),
        Some([0x86, 0xdd, _, _, _, _, _, _, 44, ..]) => {
            // Of a later TCP fragment that says so, order means nothing.
            frame.get(54) == Some(&L4Proto::Udp.number())
        }
        Some([0x86, 0xdd, _, _, _, _, _, _, next, ..]) => {
            *next == L4Proto::Udp.number() || *next == L4Proto::Sctp.number()
        }
        _ => false,
    }
}
