//! The bounded memory of datagrams in pieces.
//!
//! Refused are, as in the kernel (`net/ipv4/inet_fragment.c`) and by RFC 5722: a datagram with
//! overlapping fragments, as a whole, until its time is over; a fragment that came before; and
//! whatever is beyond the [`Limits`]. Work per fragment is bounded by a bucket of slots, a datagram's
//! list of gaps and its frames that wait.
//!
//! Whoever sends pieces of datagrams that are never complete takes places. They are taken back early:
//! a datagram whose first piece does not come is forgotten after [`Limits::wait`], and one that is as
//! old gives its place to a new one that finds its bucket full.

use super::key::{FragmentKey, Piece};
use core::fmt;
use core::marker::PhantomData;
use core::ops::DerefMut;
use lvs_core::io::{L4Csum, PortId, Vlan};
use lvs_core::time::Tick;

/// Slots of a bucket.
const WAYS: usize = 8;
/// Separate stretches of a datagram that are remembered.
const STRETCHES: usize = 16;

/// Bounds beside the size of the lent memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ticks that a datagram has, from its first fragment to arrive; [`Tick::covering`] makes them.
    /// RFC 1122 section 3.3.2 allows 60 s to 120 s, the kernel 30 s; a director can do with a few.
    pub timeout: u32,
    /// Ticks that fragments wait for their first one, which is behind them by little or not at all;
    /// also the age from which a datagram gives its place to another one. At most `timeout`.
    pub wait: u32,
    /// Unfinished datagrams of one source (or of a few sources that share a count).
    pub per_source: u16,
    /// Frames that may wait for the first fragment of one datagram.
    pub held: u8,
}

/// Why a fragment is refused. It should be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It overlaps another one or contradicts the datagram's length. The datagram is dead.
    Overlap,
    /// The datagram is dead since a fragment overlapped.
    Dead,
    /// Its bytes came before.
    Duplicate,
    /// No place for another datagram.
    Full,
    /// The source has too many unfinished datagrams.
    TooManyOfSource,
    /// Too many separate stretches of one datagram. The datagram is dead.
    TooManyPieces,
    /// The first fragment is not there yet, and no more frames may wait for it.
    TooManyHeld,
    /// The first fragment is not there yet, and the frame is too long to wait for it.
    TooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlap => "the fragment overlaps another one",
            Self::Dead => "a fragment of the datagram overlapped",
            Self::Duplicate => "the fragment came before",
            Self::Full => "no place for another datagram in pieces",
            Self::TooManyOfSource => "the source has too many datagrams in pieces",
            Self::TooManyPieces => "the datagram is in too many separate pieces",
            Self::TooManyHeld => "too many fragments wait for the first one",
            Self::TooLong => "the fragment is too long to wait for the first one",
        })
    }
}

impl core::error::Error for Refusal {}

/// What to do with a later fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later<T> {
    /// It goes where the first one went.
    Go(T),
    /// It was copied and waits; drop the frame.
    Held,
}

/// Frames that waited and were thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Because their first fragment did not come in time.
    pub expired: u32,
    /// Because a fragment of their datagram overlapped.
    pub overlapped: u32,
}

/// How a held frame was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// On which port.
    pub port: PortId,
    /// Its checksum state.
    pub csum: L4Csum,
    /// The tag beside it.
    pub vlan: Option<Vlan>,
}

#[derive(Clone, Copy, Debug)]
enum State<T> {
    Waits,
    Goes(T),
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Datagram<T> {
    key: FragmentKey,
    born: Tick,
    state: State<T>,
    /// Stretches that came, apart from each other, in no order.
    came: [(u32, u32); STRETCHES],
    stretches: u8,
    /// Length of the whole, once the last piece came.
    total: Option<u32>,
    held: u8,
    /// The frame that has waited longest, and the last one.
    queue: Option<(usize, usize)>,
}

/// A place for one datagram; the caller lends an array of them.
#[derive(Clone, Copy, Debug)]
pub struct FragmentSlot<T> {
    datagram: Option<Datagram<T>>,
    /// Live datagrams of the sources whose number is that of this slot.
    of_source: u16,
}

impl<T> FragmentSlot<T> {
    /// An empty place.
    pub const EMPTY: Self = Self { datagram: None, of_source: 0 };
}

/// A place for one waiting frame of up to `N` bytes; the caller lends an array of them.
#[derive(Clone, Copy, Debug)]
pub struct HeldFrame<const N: usize> {
    /// The next frame of the same datagram, or the next free place.
    next: Option<usize>,
    received: Received,
    len: usize,
    bytes: [u8; N],
}

impl<const N: usize> HeldFrame<N> {
    /// An empty place.
    pub const EMPTY: Self = Self {
        next: None,
        received: Received { port: PortId(0), csum: L4Csum::Unknown, vlan: None },
        len: 0,
        bytes: [0; N],
    };
}

/// Where datagrams in pieces go; `T` is the caller's word for it. One per worker.
///
/// `S` and `H` lend the places: `&mut [..]`, or a box where there is an allocator.
#[derive(Debug)]
#[doc(alias = "ip_defrag")]
pub struct FragmentMemory<T, const N: usize, S, H> {
    slots: S,
    held: H,
    key: [u64; 2],
    limits: Limits,
    live: usize,
    waiting: usize,
    free: Option<usize>,
    sweep: usize,
    lost: Lost,
    way: PhantomData<T>,
}

impl<T: Copy, const N: usize, S, H> FragmentMemory<T, N, S, H>
where
    S: DerefMut<Target = [FragmentSlot<T>]>,
    H: DerefMut<Target = [HeldFrame<N>]>,
{
    /// In memory lent by the caller, a multiple of 8 slots at best; what is in it is forgotten. `key`
    /// is secret, so that nobody chooses places.
    pub fn new(mut slots: S, mut held: H, key: [u64; 2], limits: Limits) -> Self {
        slots.fill(FragmentSlot::EMPTY);
        let count = held.len();
        for (next, frame) in (1..).zip(held.iter_mut()) {
            frame.next = (next < count).then_some(next);
        }
        let free = (count > 0).then_some(0);
        let (live, waiting, sweep, lost) = (0, 0, 0, Lost::default());
        Self { slots, held, key, limits, live, waiting, free, sweep, lost, way: PhantomData }
    }

    /// Unfinished datagrams, dead ones included.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// Frames that wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Frames that were thrown away since the last call.
    pub const fn take_lost(&mut self) -> Lost {
        core::mem::replace(&mut self.lost, Lost { expired: 0, overlapped: 0 })
    }

    /// Remembers where the first fragment goes. Call [`FragmentMemory::release`] next.
    ///
    /// # Errors
    /// [`Refusal`]: drop the fragment.
    pub fn first(
        &mut self,
        now: Tick,
        key: &FragmentKey,
        piece: Piece,
        way: T,
    ) -> Result<(), Refusal> {
        let at = self.place(now, key)?;
        self.add(at, piece)?;
        if let Some(datagram) = self.datagram(at) {
            datagram.state = State::Goes(way);
        }
        self.forget_if_done(at);
        Ok(())
    }

    /// Sends what is still to come of a datagram elsewhere, after its first fragment has gone. Nothing happens when
    /// that one is not known.
    pub fn redirect(&mut self, key: &FragmentKey, way: T) {
        let at = self.bucket(key).find(|at| self.holds(*at, key));
        if let Some(datagram) = at.and_then(|at| self.datagram(at))
            && let State::Goes(old) = &mut datagram.state
        {
            *old = way;
        }
    }

    /// Where a later fragment goes; if nobody knows yet, a copy of its frame waits.
    ///
    /// # Errors
    /// [`Refusal`]: drop the fragment.
    pub fn later(
        &mut self,
        now: Tick,
        key: &FragmentKey,
        piece: Piece,
        frame: &[u8],
        received: Received,
    ) -> Result<Later<T>, Refusal> {
        let known = self.find(now, key);
        let state = known.and_then(|at| self.datagram(at)).map(|datagram| datagram.state);
        if let (Some(at), Some(State::Goes(way))) = (known, state) {
            self.add(at, piece)?;
            self.forget_if_done(at);
            return Ok(Later::Go(way));
        }
        if matches!(state, Some(State::Dead)) {
            return Err(Refusal::Dead);
        }
        // Before a place is taken: nobody waits without a copy.
        let cell = self.free.ok_or(Refusal::TooManyHeld)?;
        if frame.len() > N {
            return Err(Refusal::TooLong);
        }
        let waiting = known.and_then(|at| self.datagram(at)).map_or(0, |datagram| datagram.held);
        if waiting >= self.limits.held {
            return Err(Refusal::TooManyHeld);
        }
        let at = self.place(now, key)?;
        self.add(at, piece)?;
        self.hold(at, cell, frame, received);
        Ok(Later::Held)
    }

    /// Hands out the frame that has waited longest for the datagram's first fragment, as it was
    /// received, with the way to go. `None` when no more wait.
    pub fn release<R>(
        &mut self,
        key: &FragmentKey,
        give: impl FnOnce(T, Received, &[u8]) -> R,
    ) -> Option<R> {
        let at = self.bucket(key).find(|at| self.holds(*at, key))?;
        let datagram = self.datagram(at)?;
        let State::Goes(way) = datagram.state else { return None };
        let cell = self.unqueue(at)?;
        let frame = self.held.get(cell)?;
        let given = give(way, frame.received, frame.bytes.get(..frame.len).unwrap_or_default());
        self.set_free(cell);
        self.forget_if_done(at);
        Some(given)
    }

    /// Looks at `some` slots and forgets what is too old; returns how many datagrams that were.
    pub fn expire(&mut self, now: Tick, some: usize) -> usize {
        let mut forgotten = 0usize;
        for _ in 0..some.min(self.slots.len()) {
            let at = self.sweep;
            self.sweep = match self.sweep.saturating_add(1) {
                next if next < self.slots.len() => next,
                _ => 0,
            };
            if self.is_old(now, at) {
                self.forget_old(at);
                forgotten = forgotten.saturating_add(1);
            }
        }
        forgotten
    }

    fn datagram(&mut self, at: usize) -> Option<&mut Datagram<T>> {
        self.slots.get_mut(at)?.datagram.as_mut()
    }

    fn holds(&self, at: usize, key: &FragmentKey) -> bool {
        let datagram = self.slots.get(at).and_then(|slot| slot.datagram.as_ref());
        datagram.is_some_and(|datagram| datagram.key == *key)
    }

    fn is_old(&self, now: Tick, at: usize) -> bool {
        let datagram = self.slots.get(at).and_then(|slot| slot.datagram.as_ref());
        datagram.is_some_and(|datagram| {
            let limit = match datagram.state {
                State::Waits => self.limits.wait,
                State::Goes(_) | State::Dead => self.limits.timeout,
            };
            now.since(datagram.born) >= limit
        })
    }

    /// Whether a datagram has to make room for another one.
    fn gives_way(&self, now: Tick, at: usize) -> bool {
        let datagram = self.slots.get(at).and_then(|slot| slot.datagram.as_ref());
        datagram.is_some_and(|datagram| now.since(datagram.born) >= self.limits.wait)
    }

    /// Slots that a datagram may be in.
    fn bucket(&self, key: &FragmentKey) -> core::ops::Range<usize> {
        let buckets = (self.slots.len() / WAYS).max(1);
        let bucket = (key.hash(&self.key) as usize).checked_rem(buckets).unwrap_or(0);
        let start = bucket.saturating_mul(WAYS);
        start..start.saturating_add(WAYS).min(self.slots.len())
    }

    fn find(&mut self, now: Tick, key: &FragmentKey) -> Option<usize> {
        let at = self.bucket(key).find(|at| self.holds(*at, key))?;
        if self.is_old(now, at) {
            self.forget_old(at);
            return None;
        }
        Some(at)
    }

    /// The slot of a datagram, a new one if need be.
    fn place(&mut self, now: Tick, key: &FragmentKey) -> Result<usize, Refusal> {
        if let Some(at) = self.find(now, key) {
            return Ok(at);
        }
        let empty = |at: &usize| self.slots.get(*at).is_some_and(|slot| slot.datagram.is_none());
        let at = match self.bucket(key).find(empty) {
            Some(at) => at,
            None => {
                let old = self.bucket(key).find(|at| self.gives_way(now, *at));
                let old = old.ok_or(Refusal::Full)?;
                self.forget_old(old);
                old
            }
        };
        let limit = self.limits.per_source;
        let count = self.count_of_source(key).ok_or(Refusal::Full)?;
        if *count >= limit {
            return Err(Refusal::TooManyOfSource);
        }
        *count = count.saturating_add(1);
        let slot = self.slots.get_mut(at).ok_or(Refusal::Full)?;
        slot.datagram = Some(Datagram {
            key: *key,
            born: now,
            state: State::Waits,
            came: [(0, 0); STRETCHES],
            stretches: 0,
            total: None,
            held: 0,
            queue: None,
        });
        self.live = self.live.saturating_add(1);
        Ok(at)
    }

    fn count_of_source(&mut self, key: &FragmentKey) -> Option<&mut u16> {
        let at = (key.source_hash(&self.key) as usize).checked_rem(self.slots.len())?;
        Some(&mut self.slots.get_mut(at)?.of_source)
    }

    /// Adds a piece to a datagram. One that contradicts kills it, together with what waits for it.
    fn add(&mut self, at: usize, piece: Piece) -> Result<(), Refusal> {
        let Some(datagram) = self.datagram(at) else { return Err(Refusal::Full) };
        if matches!(datagram.state, State::Dead) {
            return Err(Refusal::Dead);
        }
        let result = datagram.add(piece);
        if matches!(result, Err(Refusal::Overlap | Refusal::TooManyPieces)) {
            datagram.state = State::Dead;
            let dropped = self.drop_held(at);
            self.lost.overlapped = self.lost.overlapped.saturating_add(dropped);
        }
        result
    }

    fn hold(&mut self, at: usize, cell: usize, frame: &[u8], received: Received) {
        let Some(place) = self.held.get_mut(cell) else { return };
        for (to, byte) in place.bytes.iter_mut().zip(frame) {
            *to = *byte;
        }
        (place.received, place.len) = (received, frame.len());
        self.free = place.next.take();
        self.waiting = self.waiting.saturating_add(1);
        let Some(datagram) = self.datagram(at) else { return };
        datagram.held = datagram.held.saturating_add(1);
        let last = datagram.queue.map(|(_, last)| last);
        datagram.queue = Some((datagram.queue.map_or(cell, |(first, _)| first), cell));
        if let Some(last) = last.and_then(|last| self.held.get_mut(last)) {
            last.next = Some(cell);
        }
    }

    /// Takes the frame that has waited longest out of a datagram's queue.
    fn unqueue(&mut self, at: usize) -> Option<usize> {
        let (first, last) = self.datagram(at)?.queue?;
        let next = self.held.get_mut(first)?.next.take();
        let datagram = self.datagram(at)?;
        datagram.queue = next.map(|next| (next, last));
        datagram.held = datagram.held.saturating_sub(1);
        Some(first)
    }

    fn set_free(&mut self, cell: usize) {
        if let Some(place) = self.held.get_mut(cell) {
            place.next = self.free.replace(cell);
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    fn forget_if_done(&mut self, at: usize) {
        if self.datagram(at).is_some_and(|datagram| datagram.is_done()) {
            self.forget(at);
        }
    }

    fn forget_old(&mut self, at: usize) {
        let dropped = self.forget(at);
        self.lost.expired = self.lost.expired.saturating_add(dropped);
    }

    /// Forgets a datagram; tells how many of its frames waited.
    fn forget(&mut self, at: usize) -> u32 {
        let dropped = self.drop_held(at);
        let Some(datagram) = self.slots.get_mut(at).and_then(|slot| slot.datagram.take()) else {
            return dropped;
        };
        self.live = self.live.saturating_sub(1);
        if let Some(count) = self.count_of_source(&datagram.key) {
            *count = count.saturating_sub(1);
        }
        dropped
    }

    fn drop_held(&mut self, at: usize) -> u32 {
        let mut dropped = 0u32;
        // A queue is no longer than there are places.
        for _ in 0..self.held.len() {
            let Some(cell) = self.unqueue(at) else { break };
            self.set_free(cell);
            dropped = dropped.saturating_add(1);
        }
        dropped
    }
}

impl<T> Datagram<T> {
    fn came(&self) -> &[(u32, u32)] {
        self.came.get(..usize::from(self.stretches)).unwrap_or_default()
    }

    /// Everything came and left.
    fn is_done(&self) -> bool {
        let whole = self.total.is_some_and(|total| self.came() == [(0, total)]);
        whole && self.held == 0 && matches!(self.state, State::Goes(_))
    }

    fn add(&mut self, piece: Piece) -> Result<(), Refusal> {
        let Piece { start, end, last } = piece;
        if start >= end {
            return Err(Refusal::Overlap);
        }
        // The kernel takes what lies inside of one stretch for a copy, whatever its flags say.
        if self.came().iter().any(|&(from, to)| from <= start && end <= to) {
            return Err(Refusal::Duplicate);
        }
        let beyond = self.total.is_some_and(|total| end > total || last);
        let behind_last = last && self.came().iter().any(|&(_, to)| to > end);
        if beyond || behind_last || self.came().iter().any(|&(from, to)| start < to && from < end) {
            return Err(Refusal::Overlap);
        }
        let before = self.take(|&(_, to)| to == start);
        let behind = self.take(|&(from, _)| from == end);
        let from = before.map_or(start, |(from, _)| from);
        let to = behind.map_or(end, |(_, to)| to);
        let free = self.came.get_mut(usize::from(self.stretches)).ok_or(Refusal::TooManyPieces)?;
        *free = (from, to);
        self.stretches = self.stretches.saturating_add(1);
        if last {
            self.total = Some(end);
        }
        Ok(())
    }

    /// Takes a stretch out; the last one moves to its place.
    fn take(&mut self, wanted: impl FnMut(&(u32, u32)) -> bool) -> Option<(u32, u32)> {
        let at = self.came().iter().position(wanted)?;
        let last = *self.came().last()?;
        let place = self.came.get_mut(at)?;
        let taken = *place;
        *place = last;
        self.stretches = self.stretches.checked_sub(1)?;
        Some(taken)
    }
}
