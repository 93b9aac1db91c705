//! The short way itself: one ordinary segment of a plain session, from its hint to its port.

use crate::director::{Director, mac_of, mtu_of};
use crate::emit::ETHERNET;
use crate::flight::kind;
use crate::neighbour::{EXITS, Exit, Settled};
use crate::outputs::Ports;
use lvs_core::counters::Traffic;
use lvs_core::io::{L4Csum, Lane, PacketBuf, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::session::{Hint, Plain};
use lvs_core::time::{Tick, Time};
use lvs_core::wire::{QUICK_V4, QUICK_V6, QuickTcp};
use lvs_nat::PlainEdit;

/// The fate of a packet that takes the long way; others have the number of the port that they leave by.
pub(crate) const LONG_WAY: u8 = u8::MAX;

/// What one burst is carried out with.
pub(crate) struct Passing {
    now: Time,
    tick: Tick,
    /// Ports that may have no room for the whole burst, as bits.
    full: u8,
    /// Ports that complete checksums, as bits.
    completes: u8,
    received: Traffic,
}

impl<P: PortPlan> Director<'_, P> {
    /// Makes ready for a burst of `count` packets: asks the ports what they are, so that it need not be done for
    /// each packet.
    pub(crate) fn ready<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        count: usize,
        ports: &mut Ports<L::Buf>,
    ) -> Passing {
        let received = Traffic { packets: 0, bytes: 0 };
        let (mut full, mut completes) = (0, 0);
        for number in 0..lane.port_count().min(EXITS as u16) {
            let (port, bit) = (PortId(number), 1u8 << (number & 7));
            let caps = lane.caps(port);
            let snapshot = self.generation.snapshot();
            let most = mtu_of(snapshot, lane, port).min(caps.max_frame.saturating_sub(ETHERNET));
            let exit = Exit { mac: mac_of(snapshot, lane, port), most };
            self.neighbours.set_exit(port, &exit);
            completes |= if caps.tx_csum { bit } else { 0 };
            full |= if ports.make_room(lane, port, count) { 0 } else { bit };
        }
        Passing { now, tick: now.tick(), full, completes, received }
    }

    /// Takes one ordinary segment through its session and tells the port it leaves by; or [`LONG_WAY`], with
    /// nothing changed.
    #[inline(always)]
    pub(crate) fn shorten<B: PacketBuf>(
        &mut self,
        packet: &mut B,
        kind: u8,
        hint: Hint,
        passing: &mut Passing,
    ) -> u8 {
        let passed = if kind & kind::V6 == 0 {
            self.edit_v4(packet.data_mut(), kind, hint, passing)
        } else {
            self.edit_v6(packet.data_mut(), kind, hint, passing)
        };
        let Some((port, ip_len)) = passed else { return LONG_WAY };
        let end = usize::from(ETHERNET).wrapping_add(usize::from(ip_len));
        passing.received.add(end as u64);
        if kind & (kind::PADDED | kind::PARTIAL) != 0 {
            let padding = trim(packet, kind, end);
            passing.received.bytes = passing.received.bytes.wrapping_add(padding);
        }
        port
    }

    #[inline(always)]
    fn edit_v4(
        &mut self,
        frame: &mut [u8],
        kind: u8,
        hint: Hint,
        passing: &Passing,
    ) -> Option<(u8, u16)> {
        let head = frame.first_chunk_mut::<QUICK_V4>()?;
        let ip_len = u16::from_be_bytes([head[16], head[17]]);
        let plain = self.store.plain_v4(hint, &QuickTcp::<12>::key_in(head))?;
        let way = self.neighbours.settled(plain.hop(), passing.now)?;
        let port = leave(way, kind, ip_len, passing, head)?;
        edit_of(&plain, kind).apply_v4(head, &plain.key());
        self.generation.carry(plain.server(), hint.side(), ip_len);
        if plain.count(passing.tick, ip_len) {
            self.store.harvest(false, hint);
        }
        Some((port, ip_len))
    }

    #[inline(always)]
    fn edit_v6(
        &mut self,
        frame: &mut [u8],
        kind: u8,
        hint: Hint,
        passing: &Passing,
    ) -> Option<(u8, u16)> {
        let head = frame.first_chunk_mut::<QUICK_V6>()?;
        // The quick look has bounded the sum.
        let ip_len = u16::from_be_bytes([head[18], head[19]]).wrapping_add(40);
        let plain = self.store.plain_v6(hint, &QuickTcp::<36>::key_in(head))?;
        let way = self.neighbours.settled(plain.hop(), passing.now)?;
        let port = leave(way, kind, ip_len, passing, head)?;
        edit_of(&plain, kind).apply_v6(head, &plain.key());
        self.generation.carry(plain.server(), hint.side(), ip_len);
        if plain.count(passing.tick, ip_len) {
            self.store.harvest(true, hint);
        }
        Some((port, ip_len))
    }

    /// Counts what `process_one` would count.
    pub(crate) fn book_passed(&mut self, passing: &Passing) {
        let packets = passing.received.packets;
        self.counters.received = self.counters.received.plus(&passing.received);
        self.counters.forwarded = self.counters.forwarded.wrapping_add(packets);
        self.short_way = self.short_way.wrapping_add(packets);
    }
}

#[inline(always)]
fn edit_of<const N: usize>(plain: &Plain<'_, N>, kind: u8) -> PlainEdit {
    PlainEdit {
        l4_delta: plain.l4_delta(),
        ip_delta: plain.ip_delta(),
        seq_add: plain.seq_add(),
        ack_add: plain.ack_add(),
        partial: kind & kind::PARTIAL != 0,
    }
}

/// The port by which a segment of `ip_len` bytes leaves toward its next hop, whose Ethernet addresses are
/// written; `None`, with nothing changed, when the segment has to take the long way.
#[inline(always)]
fn leave(way: &Settled, kind: u8, ip_len: u16, passing: &Passing, head: &mut [u8]) -> Option<u8> {
    let bit = 1u8.checked_shl(u32::from(way.port.0))?;
    let unfit = if kind & kind::PARTIAL != 0 { !passing.completes } else { 0 };
    if (ip_len > way.most) | ((passing.full | unfit) & bit != 0) {
        return None;
    }
    let (first, rest) = head.split_first_chunk_mut::<8>()?;
    *rest.first_chunk_mut::<4>()? = way.macs.1;
    *first = way.macs.0;
    Some(way.port.0 as u8)
}

/// Ethernet padding ends at `end`, as on the long way; and whoever completes the checksum is told where it is.
/// Returns the bytes of padding.
#[cold]
#[inline(never)]
fn trim<B: PacketBuf>(packet: &mut B, kind: u8, end: usize) -> u64 {
    let padding = packet.total_len().saturating_sub(end) as u64;
    packet.truncate(end);
    if kind & kind::PARTIAL != 0 {
        let l4 = if kind & kind::V6 == 0 { 34 } else { 54 };
        packet.set_l4_csum(L4Csum::Partial, ETHERNET, l4);
    }
    padding
}
