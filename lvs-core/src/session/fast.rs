//! Lookup in stages, and the short way for ordinary segments of plain sessions.
//!
//! A burst goes through each stage as a whole, so that the memory of one packet is fetched while the
//! others are worked on:
//!
//! ```text
//!   hash (in lanes)      keys ──► hashes, buckets on their way        replies of FullNAT: direct(),
//!   guess                hashes ──► hints, lines on their way         no hash, line on its way
//!   plain                hint + key ──► how to translate; count and stamp
//! ```

use super::directory::Hint;
use super::layout::{Line, LineV4, LineV6, Tail};
use super::table::Table;
use super::{Candidate, Probe, SessionStore};
use crate::flow::{Direction, L4Proto, WireTuple};
use crate::id::{HopId, LocalId, ServerId};
use crate::io::{BURST, RxHash};
use crate::key::{Key, KeyV4, KeyV6, LANES, TableKey, of_side};
use crate::plan::PortPlan;
use crate::time::Tick;

/// A plain session under one of its ordinary segments: what the segment becomes. Nothing has changed until
/// it is [counted](Self::count).
#[derive(Debug)]
pub struct Plain<'a, const N: usize> {
    /// The key of the other direction: its answer is what the segment becomes.
    other: &'a [u8; N],
    tail: &'a mut Tail,
    side: usize,
}

impl<const N: usize> Plain<'_, N> {
    /// Change of the L4 checksum in this direction; bits of a [`Delta`](crate::checksum::Delta).
    #[must_use]
    #[inline(always)]
    pub fn l4_delta(&self) -> u16 {
        self.tail.l4_delta ^ self.turned()
    }

    /// The same of the addresses alone: the IPv4 header checksum, and a partial L4 checksum.
    #[must_use]
    #[inline(always)]
    pub fn ip_delta(&self) -> u16 {
        self.tail.ip_delta ^ self.turned()
    }

    /// All ones for return packets: their change is the complement of the inbound one.
    #[inline(always)]
    fn turned(&self) -> u16 {
        0u16.wrapping_sub(self.side as u16)
    }

    /// Added to the sequence number.
    #[must_use]
    #[inline(always)]
    pub fn seq_add(&self) -> u32 {
        *of_side(&self.tail.seq_deltas, self.side)
    }

    /// Added to the acknowledgement number.
    #[must_use]
    #[inline(always)]
    pub fn ack_add(&self) -> u32 {
        of_side(&self.tail.seq_deltas, self.side ^ 1).wrapping_neg()
    }

    /// Next hop of the segment.
    #[must_use]
    #[inline(always)]
    pub fn hop(&self) -> HopId {
        HopId(*of_side(&self.tail.hops, self.side))
    }

    /// Server of the session.
    #[must_use]
    #[inline(always)]
    pub fn server(&self) -> ServerId {
        ServerId(self.tail.server)
    }

    /// Counts and stamps the segment; `bytes` of its IP packet. Whether the session's counters want to be
    /// [harvested](SessionStore::harvest).
    #[must_use]
    #[inline(always)]
    pub fn count(self, now: Tick, bytes: u16) -> bool {
        self.tail.last_seen = now.0;
        self.carry(bytes)
    }

    /// Counts the segment only: the session lives no longer for it. The same answer.
    #[must_use]
    #[inline(always)]
    pub fn carry(self, bytes: u16) -> bool {
        self.tail.carry(self.side, u32::from(bytes))
    }
}

impl Plain<'_, 12> {
    /// Addresses and ports that the segment gets.
    #[must_use]
    #[inline(always)]
    pub fn key(&self) -> KeyV4 {
        Key(*self.other).swapped()
    }
}

impl Plain<'_, 36> {
    /// Addresses and ports that the segment gets.
    #[must_use]
    #[inline(always)]
    pub fn key(&self) -> KeyV6 {
        Key(*self.other).swapped()
    }
}

impl<L: Line> Table<'_, L> {
    #[inline(always)]
    fn hash_burst(
        &self,
        keys: &[L::Key; BURST],
        count: usize,
        proto: L4Proto,
        hashes: &mut [u64; BURST],
    ) {
        let (keys, hashes) = (keys.as_chunks::<LANES>().0, hashes.as_chunks_mut::<LANES>().0);
        // Lanes behind the last key hash what lies there.
        for (keys, hashes) in keys.iter().zip(hashes).take(count.div_ceil(LANES)) {
            *hashes = L::Key::hash_lanes(keys, &self.hash, proto);
            for hash in hashes {
                self.directory.prefetch(*hash);
            }
        }
    }

    fn begin(&self, tuple: &L::Tuple) -> u64 {
        let hash = self.hash_of(tuple);
        self.directory.prefetch(hash);
        hash
    }

    #[inline(always)]
    fn guess(&self, hash: u64) -> Hint {
        let hint = self.directory.guess(hash);
        self.prefetch(hint.slot());
        hint
    }

    #[inline(always)]
    fn plain<'a, const N: usize>(
        &'a mut self,
        hint: Hint,
        key: &L::Key,
        parts: impl FnOnce(&'a mut L) -> (&'a [[u8; N]; 2], &'a mut Tail),
    ) -> Option<Plain<'a, N>> {
        let line = self.lines.get_mut(hint.slot() as usize)?;
        let side = hint.side();
        // Both are looked at in any case: one jump instead of two.
        if (line.key(side) != *key) | !line.tail().is_plain_and_established() {
            return None;
        }
        let (keys, tail) = parts(line);
        Some(Plain { other: of_side(keys, side ^ 1), tail, side })
    }
}

impl<P: PortPlan> SessionStore<'_, P> {
    /// Hashes the first `count` keys of TCP packets; what the hashes need next is on its way. Hashes behind
    /// them are undefined.
    #[inline(always)]
    pub fn hash_v4(&self, keys: &[KeyV4; BURST], count: usize, hashes: &mut [u64; BURST]) {
        self.v4.hash_burst(keys, count, L4Proto::Tcp, hashes);
    }

    /// The same for IPv6.
    #[inline(always)]
    pub fn hash_v6(&self, keys: &[KeyV6; BURST], count: usize, hashes: &mut [u64; BURST]) {
        self.v6.hash_burst(keys, count, L4Proto::Tcp, hashes);
    }

    /// Where a key with this hash probably is; its line is on its way.
    #[must_use]
    #[inline(always)]
    pub fn guess_v4(&self, hash: u64) -> Hint {
        self.v4.guess(hash)
    }

    /// The same for IPv6.
    #[must_use]
    #[inline(always)]
    pub fn guess_v6(&self, hash: u64) -> Hint {
        self.v6.guess(hash)
    }

    /// Where the port plan says that a TCP reply to a local address belongs, with the device's hash of it if there
    /// is one; its line is on its way. A hash that is not the device's leads astray, which the key in the line shows.
    #[must_use]
    #[inline(always)]
    pub fn direct_v4(&self, local: LocalId, key: &KeyV4, hash: Option<RxHash>) -> Hint {
        let reply = WireTuple::V4(key.tuple(L4Proto::Tcp));
        let within = self.within(&reply, hash);
        within.map_or(Hint::NOWHERE, |within| self.v4.direct_hint(local.0, within))
    }

    /// The same for IPv6.
    #[must_use]
    #[inline(always)]
    pub fn direct_v6(&self, local: LocalId, key: &KeyV6, hash: Option<RxHash>) -> Hint {
        let reply = WireTuple::V6(key.tuple(L4Proto::Tcp));
        let within = self.within(&reply, hash);
        within.map_or(Hint::NOWHERE, |within| self.v6.direct_hint(local.0, within))
    }

    /// The slot within its local address of a reply that the device may have hashed.
    #[inline(always)]
    fn within(&self, reply: &WireTuple, hash: Option<RxHash>) -> Option<u32> {
        // Nowhere by the hash may be somewhere in truth, and nowhere means that nobody looks there any more.
        hash.and_then(|hash| self.plan.slot_of_hashed(reply, hash))
            .or_else(|| self.plan.slot_of(reply))
    }

    /// How to translate an ordinary TCP segment (ACK, perhaps PSH, nothing to adjust in its options), if its
    /// session is plain and established and the hint is right.
    #[must_use]
    #[inline(always)]
    pub fn plain_v4(&mut self, hint: Hint, key: &KeyV4) -> Option<Plain<'_, 12>> {
        self.v4.plain(hint, key, |line: &mut LineV4| (&line.keys, &mut line.tail))
    }

    /// The same for IPv6.
    #[must_use]
    #[inline(always)]
    pub fn plain_v6(&mut self, hint: Hint, key: &KeyV6) -> Option<Plain<'_, 36>> {
        self.v6.plain(hint, key, |line: &mut LineV6| (&line.keys, &mut line.tail))
    }

    /// Moves what a session's hot counters hold into the cold ones, before they run over.
    #[cold]
    pub fn harvest(&mut self, v6: bool, hint: Hint) {
        if v6 { self.v6.harvest(hint.slot()) } else { self.v4.harvest(hint.slot()) }
    }

    /// The hint of one packet, which the device may have hashed, complete: the key has been compared.
    #[must_use]
    pub fn hint_of(&self, probe: &Probe, hash: Option<RxHash>) -> Hint {
        self.lookup_hashed(probe, hash)
            .map_or(Hint::NOWHERE, |found| Hint::new(found.slot, found.direction))
    }

    /// Looks up a burst: one answer per probe, in order. Probes beyond `found.len()` are not looked at.
    pub fn lookup(&self, probes: &[Probe], found: &mut [Option<Candidate>]) {
        for (probes, found) in probes.chunks(BURST).zip(found.chunks_mut(BURST)) {
            self.lookup_burst(probes, found);
        }
    }

    fn lookup_burst(&self, probes: &[Probe], found: &mut [Option<Candidate>]) {
        let mut hashes = [0u64; BURST];
        for (probe, hash) in probes.iter().zip(&mut hashes) {
            *hash = self.begin(probe);
        }
        let mut guesses = [None; BURST];
        for ((probe, hash), guess) in probes.iter().zip(&hashes).zip(&mut guesses) {
            *guess = self.advance(probe, *hash);
        }
        for ((probe, guess), place) in probes.iter().zip(&guesses).zip(found) {
            // A guess that is not the right one, rare as it is, takes the slow way.
            *place = guess.and_then(|guess| {
                if self.is_at(guess, &probe.tuple) { Some(guess) } else { self.lookup_one(probe) }
            });
        }
    }

    /// The hash of a probe, or the slot of one whose destination is a local address.
    fn begin(&self, probe: &Probe) -> u64 {
        match (&probe.tuple, probe.local) {
            (WireTuple::V4(tuple), None) => self.v4.begin(tuple),
            (WireTuple::V6(tuple), None) => self.v6.begin(tuple),
            (tuple, Some(local)) => {
                let within = self.plan.slot_of(tuple);
                let slot = within.and_then(|within| match tuple {
                    WireTuple::V4(_) => self.v4.slot_on(local.0, within),
                    WireTuple::V6(_) => self.v6.slot_on(local.0, within),
                });
                let slot = slot.unwrap_or(Hint::NOWHERE.slot());
                match tuple {
                    WireTuple::V4(_) => self.v4.prefetch(slot),
                    WireTuple::V6(_) => self.v6.prefetch(slot),
                }
                u64::from(slot)
            }
        }
    }

    fn advance(&self, probe: &Probe, hash: u64) -> Option<Candidate> {
        let v6 = matches!(probe.tuple, WireTuple::V6(_));
        let hint = match (v6, probe.local) {
            (_, Some(_)) if hash == u64::from(Hint::NOWHERE.slot()) => Hint::NOWHERE,
            (_, Some(_)) => Hint::new(u32::try_from(hash).ok()?, Direction::Return),
            (false, None) => self.v4.guess(hash),
            (true, None) => self.v6.guess(hash),
        };
        hint.split().map(|(slot, direction)| Candidate { v6, slot, direction })
    }
}
