//! The packet of the in-memory lane: heap bytes with room at both ends, and everything a device
//! could tell about them.

use super::alloc::boxed::Box;
use super::alloc::sync::Arc;
use super::alloc::vec;
use super::alloc::vec::Vec;
use crate::io::{Gso, L4Csum, NoRoom, PacketBuf, RxHash, Vlan};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// What bytes hold whose content the contract calls undefined; zeros would hide who relies on them.
pub const JUNK: u8 = 0xdb;

/// Room that [`MemBuf::from_bytes`] leaves at either end.
const ROOM: usize = 128;

/// What is known about a [`MemBuf`] beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemMeta {
    /// State of the L4 checksum field.
    pub l4_csum: L4Csum,
    /// Offset of the L3 header, as last told by [`PacketBuf::set_l4_csum`].
    pub l3: u16,
    /// Offset of the L4 header, as last told by [`PacketBuf::set_l4_csum`].
    pub l4: u16,
    /// Tag beside the packet.
    pub vlan: Option<Vlan>,
    /// Segment train.
    pub gso: Option<Gso>,
    /// Bytes of all headers of a train, as last told by [`PacketBuf::set_gso`].
    pub gso_headers: u16,
    /// Hash computed by the device.
    pub rx_hash: Option<RxHash>,
    /// Receive time in nanoseconds.
    pub rx_time_ns: Option<u64>,
}

/// An owned packet in memory. A handle of one pointer: moving it costs nothing.
///
/// A packet may have a *tail*, bytes that [`PacketBuf::data`] does not show but
/// [`PacketBuf::total_len`] counts, as the later segments of a chained device buffer.
pub struct MemBuf(Box<Inner>);

struct Inner {
    bytes: Box<[u8]>,
    /// `start <= end <= bytes.len()` always.
    start: usize,
    end: usize,
    tail: Vec<u8>,
    meta: MemMeta,
    held: Option<Permit>,
    pooled: Option<Permit>,
}

impl MemBuf {
    /// A packet of these bytes with 128 bytes of room at either end.
    #[must_use]
    pub fn from_bytes(frame: &[u8]) -> Self {
        Self::with_room(frame, ROOM, ROOM)
    }

    /// A packet of these bytes with exactly this much room at its ends.
    #[must_use]
    pub fn with_room(frame: &[u8], headroom: usize, tailroom: usize) -> Self {
        let room = headroom.saturating_add(frame.len()).saturating_add(tailroom);
        let mut packet = Self::with_capacity(room);
        packet.reset(headroom, frame.len());
        for (to, from) in packet.data_mut().iter_mut().zip(frame) {
            *to = *from;
        }
        packet
    }

    /// The same packet with other metadata.
    #[must_use]
    pub fn with_meta(mut self, meta: MemMeta) -> Self {
        self.0.meta = meta;
        self
    }

    /// The same packet with these bytes as its tail: not in `data()`, counted by `total_len()`.
    /// Such a packet has no tailroom.
    #[must_use]
    pub fn with_tail(mut self, tail: &[u8]) -> Self {
        self.0.tail = tail.to_vec();
        self
    }

    /// Everything known beside the bytes.
    #[must_use]
    pub fn meta(&self) -> &MemMeta {
        &self.0.meta
    }

    /// The same, to edit.
    pub fn meta_mut(&mut self) -> &mut MemMeta {
        &mut self.0.meta
    }

    /// A copy of the whole packet, tail included.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.total_len());
        all.extend_from_slice(self.data());
        all.extend_from_slice(&self.0.tail);
        all
    }

    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Box::new(Inner {
            bytes: vec![JUNK; bytes].into_boxed_slice(),
            start: 0,
            end: 0,
            tail: Vec::new(),
            meta: MemMeta::default(),
            held: None,
            pooled: None,
        }))
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.bytes.len()
    }

    /// `len` bytes of junk behind `headroom`, nothing known; both are cut to the capacity.
    pub(super) fn reset(&mut self, headroom: usize, len: usize) {
        let inner = &mut *self.0;
        inner.start = headroom.min(inner.bytes.len());
        inner.end = inner.start.saturating_add(len).min(inner.bytes.len());
        inner.tail.clear();
        inner.meta = MemMeta::default();
        self.data_mut().fill(JUNK);
    }

    /// The same packet with at least this much headroom.
    pub(super) fn with_headroom(self, headroom: usize) -> Self {
        if self.headroom() >= headroom {
            return self;
        }
        let mut moved = Self::with_room(self.data(), headroom, self.tailroom());
        let (old, new) = (*self.0, &mut *moved.0);
        (new.tail, new.meta, new.held, new.pooled) = (old.tail, old.meta, old.held, old.pooled);
        moved
    }

    pub(super) fn set_held(&mut self, permit: Permit) {
        self.0.held = Some(permit);
    }

    pub(super) fn set_pooled(&mut self, permit: Permit) {
        self.0.pooled = Some(permit);
    }

    pub(super) fn release_held(&mut self) {
        self.0.held = None;
    }

    pub(super) fn release_all(&mut self) {
        self.0.held = None;
        self.0.pooled = None;
    }
}

impl PacketBuf for MemBuf {
    fn data(&self) -> &[u8] {
        self.0.bytes.get(self.0.start..self.0.end).unwrap_or_default()
    }

    fn data_mut(&mut self) -> &mut [u8] {
        let Inner { bytes, start, end, .. } = &mut *self.0;
        bytes.get_mut(*start..*end).unwrap_or_default()
    }

    fn total_len(&self) -> usize {
        self.data().len().saturating_add(self.0.tail.len())
    }

    fn headroom(&self) -> usize {
        self.0.start
    }

    fn tailroom(&self) -> usize {
        if self.0.tail.is_empty() { self.0.bytes.len().saturating_sub(self.0.end) } else { 0 }
    }

    fn push_front(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        self.0.start = self.0.start.checked_sub(n).ok_or(NoRoom)?;
        let data = self.data_mut();
        data.iter_mut().take(n).for_each(|byte| *byte = JUNK);
        Ok(data)
    }

    fn pull_front(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.data().len() {
            return Err(NoRoom);
        }
        self.0.start = self.0.start.saturating_add(n);
        Ok(())
    }

    fn push_back(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        if n > self.tailroom() {
            return Err(NoRoom);
        }
        let old = self.data().len();
        self.0.end = self.0.end.saturating_add(n);
        let data = self.data_mut();
        data.iter_mut().skip(old).for_each(|byte| *byte = JUNK);
        Ok(data)
    }

    fn truncate(&mut self, len: usize) {
        let first = self.data().len();
        if len < first {
            self.0.end = self.0.start.saturating_add(len);
        }
        self.0.tail.truncate(len.saturating_sub(first));
    }

    fn l4_csum(&self) -> L4Csum {
        self.0.meta.l4_csum
    }

    fn vlan(&self) -> Option<Vlan> {
        self.0.meta.vlan
    }

    fn gso(&self) -> Option<Gso> {
        self.0.meta.gso
    }

    fn rx_hash(&self) -> Option<RxHash> {
        self.0.meta.rx_hash
    }

    fn rx_time_ns(&self) -> Option<u64> {
        self.0.meta.rx_time_ns
    }

    fn set_l4_csum(&mut self, state: L4Csum, l3: u16, l4: u16) {
        let meta = &mut self.0.meta;
        (meta.l4_csum, meta.l3, meta.l4) = (state, l3, l4);
    }

    fn set_vlan(&mut self, vlan: Option<Vlan>) {
        self.0.meta.vlan = vlan;
    }

    fn set_gso(&mut self, gso: Option<Gso>, headers: u16) {
        let meta = &mut self.0.meta;
        (meta.gso, meta.gso_headers) = (gso, headers);
    }
}

/// A copy belongs to no lane: it counts neither as held nor as allocated.
impl Clone for MemBuf {
    fn clone(&self) -> Self {
        let mut copy = Self::with_room(self.data(), self.headroom(), self.tailroom());
        copy.0.tail = self.0.tail.clone();
        copy.0.meta = self.0.meta;
        copy
    }
}

impl fmt::Debug for MemBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemBuf")
            .field("data", &self.data())
            .field("tail", &self.0.tail.len())
            .field("meta", &self.0.meta)
            .finish_non_exhaustive()
    }
}

/// How many of something may live at once.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: Arc<AtomicUsize>,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: Arc::new(AtomicUsize::new(0)) }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// One of them; comes back when the permit is dropped, by whomever.
    pub(super) fn take(&self) -> Option<Permit> {
        // Only this budget's owner adds, so the limit holds although others may subtract meanwhile.
        if self.used() >= self.limit {
            return None;
        }
        self.used.fetch_add(1, Ordering::Relaxed);
        Some(Permit(Arc::clone(&self.used)))
    }
}

#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
