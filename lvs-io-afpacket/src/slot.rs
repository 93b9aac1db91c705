//! One packet: a slot of a receive ring, or a buffer of the pool, edited in place.
//!
//! What a packet is made of:
//!
//! ```text
//!   ring slot   | tpacket2_hdr 32 | sockaddr_ll 20 | headroom ... | vnet header 10 | frame ...  |
//!   pool buffer |            unused                | headroom ...                  | frame ...  |
//!               0                                 52   LOWEST                      off   off+len
//! ```
//!
//! A [`Place`] describes such a piece of memory and what is known about the frame in it; a [`Slot`]
//! is the right to use it. Offsets into the frame are kept from the start of the *memory*, so that
//! growing at the front needs no correction.
//!
//! **Invariant.** For each `Place` at most one `Slot` exists, exactly while `held` is set; the memory
//! at `base .. base + size` is mapped for as long as the `Place` exists, and while a `Slot` exists
//! nobody else reads or writes it: the kernel leaves a slot alone while its status word is not zero
//! (`packet_lookup_frame` in Linux `net/packet/af_packet.c`), and this file stores zero only when
//! the `Slot` is gone.
#![allow(unsafe_code, reason = "memory shared with the kernel; the invariant above is the proof")]

use core::cell::Cell;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};

use lvs_core::io::{Gso, GsoKind, L4Csum, NoRoom, PacketBuf, Vlan};

use crate::pool::Pool;
use crate::sctp;
use crate::sys::Parts;
use crate::vnet::{self, VNET_LEN, VnetHeader};

/// Bytes that the kernel writes at the start of a ring slot: `TPACKET2_HDRLEN`.
const SLOT_HEADER: u32 = 52;
/// Room kept in front of the lowest frame for what is added on transmit: virtio header, VLAN tag.
const TX_ROOM: u32 = VNET_LEN as u32 + 4;
/// The lowest offset at which a frame may start.
pub(crate) const LOWEST: u32 = SLOT_HEADER + TX_ROOM;

/// `PACKET_RESERVE`. The kernel puts the network header at `align16(52 + 16) + reserve + 10`; this
/// value makes that 224, so that the IP header is aligned to 32 bytes.
pub(crate) const RESERVE: u32 = 134;
/// Where a received Ethernet header starts, and with it the headroom that every packet has.
pub(crate) const FRAME_START: u32 = 210;
/// Guaranteed headroom.
pub(crate) const HEADROOM: u32 = FRAME_START - LOWEST;

/// A train's headers are never longer; the kernel's hint often counts payload too.
const MAX_HEADERS: u32 = 256;

/// A checksum field that cannot be: the kernel refuses the frame, which is then counted, instead of
/// writing a checksum over something else.
const NO_FIELD: u16 = u16::MAX;

/// What the kernel wrote in front of a received frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    status: u32,
    wire_len: u32,
    len: u32,
    off: u32,
    pub(crate) packet_type: u8,
}

/// A piece of memory that holds at most one packet. See the [module](self).
#[repr(align(64))]
#[derive(Debug)]
pub(crate) struct Place {
    base: NonNull<u8>,
    size: u32,
    off: Cell<u32>,
    len: Cell<u32>,
    /// From `base` to the L4 header, where an unfinished checksum begins.
    l4: Cell<u32>,
    /// From `base` to the L4 payload of a train.
    headers_end: Cell<u32>,
    gso_size: Cell<u16>,
    gso_type: Cell<u8>,
    csum_offset: Cell<u16>,
    csum: Cell<L4Csum>,
    vlan: Cell<Option<Vlan>>,
    held: Cell<bool>,
    /// Pool buffers: the next free one.
    pub(crate) next: Cell<u32>,
}

// SAFETY: `base` is the only part that is not `Send` by itself. It points into a mapping that
// belongs to the process, and all access goes through `Slot` or the owner of the place; a `Slot`
// borrows the place and `Place` is not `Sync`, so a place with a live `Slot` cannot be moved.
unsafe impl Send for Place {}

impl Place {
    /// Describes memory.
    ///
    /// # Safety
    /// `base .. base + size` stays mapped while the place exists, starts at a multiple of 4, holds
    /// at least `FRAME_START` bytes, and is described by no other place. If it is a ring slot,
    /// nobody but the kernel and this place touches it.
    pub(crate) const unsafe fn new(base: NonNull<u8>, size: u32, next: u32) -> Self {
        Self {
            base,
            size,
            off: Cell::new(FRAME_START),
            len: Cell::new(0),
            l4: Cell::new(0),
            headers_end: Cell::new(0),
            gso_size: Cell::new(0),
            gso_type: Cell::new(0),
            csum_offset: Cell::new(NO_FIELD),
            csum: Cell::new(L4Csum::Unknown),
            vlan: Cell::new(None),
            held: Cell::new(false),
            next: Cell::new(next),
        }
    }

    pub(crate) const fn held(&self) -> bool {
        self.held.get()
    }

    const fn status(&self) -> &AtomicU32 {
        // SAFETY: the status word is the first of the slot, aligned by the promise in `new`, and
        // both sides access it atomically.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().cast()) }
    }

    /// What arrived here, if the kernel has handed the slot over.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the status says that the slot is ours, and the acquire load orders this read after
        // the kernel's writes; offsets 0 to 52 lie inside the memory.
        let (header, packet_type) = unsafe {
            (
                self.base.cast::<libc::tpacket2_hdr>().read(),
                // `sll_pkttype`, at 10 in the `sockaddr_ll` that follows the header.
                self.base.add(32 + 10).read(),
            )
        };
        Some(Arrival {
            status,
            wire_len: header.tp_len,
            len: header.tp_snaplen,
            off: u32::from(header.tp_mac),
            packet_type,
        })
    }

    /// Gives a ring slot back to the kernel.
    pub(crate) fn give_back(&self) {
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }

    /// Makes the packet of an arrival, unless the slot was too small for it.
    pub(crate) fn receive(&self, arrival: &Arrival, with_vnet: bool) -> Option<Slot<'_>> {
        let end = arrival.off.checked_add(arrival.len)?;
        let whole = arrival.wire_len == arrival.len;
        if !whole || arrival.off < LOWEST || end > self.size || self.held.get() {
            return None;
        }
        self.off.set(arrival.off);
        self.len.set(arrival.len);
        self.vlan.set(None);
        if arrival.status & libc::TP_STATUS_VLAN_VALID != 0 {
            self.vlan.set(Some(self.received_tag(arrival.status)));
        }
        let header =
            if with_vnet { self.received_vnet(arrival.off) } else { VnetHeader::default() };
        self.set_vnet(header, arrival);
        self.held.set(true);
        let mut slot = Slot { place: self, pool: None };
        if header.flags & vnet::NEEDS_CSUM != 0
            && header.csum_offset == sctp::FIELD
            && sctp::finish(slot.data_mut(), header.csum_start.into())
        {
            self.csum.set(L4Csum::Good);
        }
        Some(slot)
    }

    fn received_tag(&self, status: u32) -> Vlan {
        // SAFETY: as in `arrival`: the slot is ours, its header is inside the memory.
        let header = unsafe { self.base.cast::<libc::tpacket2_hdr>().read() };
        let known = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        Vlan { tpid: if known { header.tp_vlan_tpid } else { 0x8100 }, tci: header.tp_vlan_tci }
    }

    fn received_vnet(&self, off: u32) -> VnetHeader {
        // SAFETY: the slot is ours, and `LOWEST <= off <= size` was checked, so the 10 bytes before
        // `off` lie inside the memory; bytes need no alignment.
        let bytes = unsafe {
            self.base.add((off - VNET_LEN as u32) as usize).cast::<[u8; VNET_LEN]>().read()
        };
        VnetHeader::from_bytes(bytes)
    }

    fn set_vnet(&self, header: VnetHeader, arrival: &Arrival) {
        let not_ready = arrival.status & libc::TP_STATUS_CSUMNOTREADY != 0;
        let valid = arrival.status & libc::TP_STATUS_CSUM_VALID != 0;
        self.csum.set(if header.flags & vnet::NEEDS_CSUM != 0 || not_ready {
            L4Csum::Partial
        } else if header.flags & vnet::DATA_VALID != 0 || valid {
            L4Csum::Good
        } else {
            L4Csum::Unknown
        });
        self.l4.set(arrival.off + u32::from(header.csum_start));
        let named = header.flags & vnet::NEEDS_CSUM != 0;
        self.csum_offset.set(if named { header.csum_offset } else { NO_FIELD });
        self.gso_type.set(header.gso_type);
        self.gso_size.set(header.gso_size);
        self.headers_end.set(arrival.off + u32::from(header.hdr_len).min(MAX_HEADERS));
    }

    /// Makes a fresh packet of `len` bytes in a pool buffer; `None` when it does not fit.
    pub(crate) fn fresh<'m>(&'m self, len: usize, pool: &'m Pool) -> Option<Slot<'m>> {
        let len = u32::try_from(len).ok()?;
        if FRAME_START.checked_add(len)? > self.size || self.held.get() {
            return None;
        }
        self.off.set(FRAME_START);
        self.len.set(len);
        self.csum.set(L4Csum::Unknown);
        self.csum_offset.set(NO_FIELD);
        self.vlan.set(None);
        self.gso_type.set(vnet::GSO_NONE);
        self.gso_size.set(0);
        self.held.set(true);
        Some(Slot { place: self, pool: Some(pool) })
    }

    /// The virtio header for transmission, for a frame that starts `shift` bytes earlier than now.
    fn tx_vnet(&self, shift: u32) -> VnetHeader {
        let from_start = |at: u32| {
            let offset = at.checked_sub(self.off.get()).and_then(|d| d.checked_add(shift));
            // An offset that cannot be makes the kernel refuse the frame, which is then counted.
            u16::try_from(offset.unwrap_or(u32::MAX)).unwrap_or(u16::MAX)
        };
        let mut header = VnetHeader::default();
        if self.csum.get() == L4Csum::Partial {
            header.flags = vnet::NEEDS_CSUM;
            header.csum_start = from_start(self.l4.get());
            header.csum_offset = self.csum_offset.get();
        }
        if self.gso_type.get() != vnet::GSO_NONE {
            header.gso_type = self.gso_type.get();
            header.gso_size = self.gso_size.get();
            header.hdr_len = from_start(self.headers_end.get());
        }
        header
    }
}

/// One packet of a [`PacketLane`](crate::PacketLane), in a ring slot or in a pool buffer. Dropping
/// it gives the memory back; a slot that is kept stops its ring once the ring has come around.
#[derive(Debug)]
pub struct Slot<'m> {
    place: &'m Place,
    /// `None`: a ring slot.
    pool: Option<&'m Pool>,
}

impl Slot<'_> {
    /// The frame as the kernel wants it: virtio header in front if `with_vnet`, tag put in. The
    /// frame itself stays as it is.
    pub(crate) fn parts(&mut self, with_vnet: bool) -> Parts<'_> {
        let tag = self.place.vlan.get().filter(|_| self.place.len.get() >= 12);
        let off = self.place.off.get() as usize;
        let start = if with_vnet {
            let header = self.place.tx_vnet(if tag.is_some() { 4 } else { 0 });
            self.write(off - VNET_LEN, header.to_bytes());
            off - VNET_LEN
        } else {
            off
        };
        let end = off + self.place.len.get() as usize;
        let Some(tag) = tag else { return [self.bytes(start, end), &[], &[]] };
        let ([a, b], [c, d]) = (tag.tpid.to_be_bytes(), tag.tci.to_be_bytes());
        let beside = off - TX_ROOM as usize;
        self.write(beside, [a, b, c, d]);
        [self.bytes(start, off + 12), self.bytes(beside, beside + 4), self.bytes(off + 12, end)]
    }

    /// Writes into the room before the frame.
    fn write<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        debug_assert!(at + N <= self.place.off.get() as usize && at >= SLOT_HEADER as usize);
        // SAFETY: `at .. at + N` lies between the slot header and the frame, since `off >= LOWEST`
        // holds always; this is the only `Slot` of the place, borrowed exclusively, so no reference
        // into the memory exists.
        unsafe { self.place.base.add(at).cast::<[u8; N]>().write(bytes) };
    }

    fn bytes(&self, from: usize, to: usize) -> &[u8] {
        // SAFETY: callers pass bounds between `SLOT_HEADER` and `off + len <= size`, all initialised
        // (mapped memory is zeroed at first); nobody else writes while this `Slot` exists, and the
        // result borrows it.
        unsafe { slice::from_raw_parts(self.place.base.add(from).as_ptr(), to - from) }
    }

    fn is_tcp_train(&self) -> bool {
        matches!(self.place.gso_type.get() & !vnet::GSO_ECN, vnet::GSO_TCPV4 | vnet::GSO_TCPV6)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.place.held.set(false);
        match self.pool {
            None => self.place.give_back(),
            Some(pool) => pool.give_back(self.place),
        }
    }
}

impl PacketBuf for Slot<'_> {
    fn data(&self) -> &[u8] {
        let off = self.place.off.get() as usize;
        self.bytes(off, off + self.place.len.get() as usize)
    }

    fn data_mut(&mut self) -> &mut [u8] {
        let (off, len) = (self.place.off.get() as usize, self.place.len.get() as usize);
        // SAFETY: `LOWEST <= off` and `off + len <= size` hold always, the bytes are initialised, and
        // the only `Slot` of the place is borrowed exclusively for as long as the result lives.
        unsafe { slice::from_raw_parts_mut(self.place.base.add(off).as_ptr(), len) }
    }

    fn headroom(&self) -> usize {
        (self.place.off.get() - LOWEST) as usize
    }

    fn tailroom(&self) -> usize {
        (self.place.size - self.place.off.get() - self.place.len.get()) as usize
    }

    fn push_front(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        if n > self.headroom() {
            return Err(NoRoom);
        }
        self.place.off.update(|off| off - n as u32);
        self.place.len.update(|len| len + n as u32);
        Ok(self.data_mut())
    }

    fn pull_front(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > self.place.len.get() as usize {
            return Err(NoRoom);
        }
        self.place.off.update(|off| off + n as u32);
        self.place.len.update(|len| len - n as u32);
        Ok(())
    }

    fn push_back(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        if n > self.tailroom() {
            return Err(NoRoom);
        }
        self.place.len.update(|len| len + n as u32);
        Ok(self.data_mut())
    }

    fn truncate(&mut self, len: usize) {
        if let Ok(len) = u32::try_from(len) {
            self.place.len.update(|old| old.min(len));
        }
    }

    fn l4_csum(&self) -> L4Csum {
        self.place.csum.get()
    }

    fn vlan(&self) -> Option<Vlan> {
        self.place.vlan.get()
    }

    fn gso(&self) -> Option<Gso> {
        let kind = match self.place.gso_type.get() & !vnet::GSO_ECN {
            vnet::GSO_TCPV4 => GsoKind::TcpV4,
            vnet::GSO_TCPV6 => GsoKind::TcpV6,
            vnet::GSO_UDP_L4 => GsoKind::Udp,
            _ => return None,
        };
        Some(Gso { kind, size: self.place.gso_size.get() })
    }

    fn rx_time_ns(&self) -> Option<u64> {
        if self.pool.is_some() {
            return None;
        }
        // SAFETY: a ring slot that is ours; nobody writes its header while the `Slot` exists.
        let header = unsafe { self.place.base.cast::<libc::tpacket2_hdr>().read() };
        Some(u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec))
    }

    fn set_l4_csum(&mut self, state: L4Csum, l3: u16, l4: u16) {
        self.place.csum.set(state);
        if state != L4Csum::Partial {
            return;
        }
        self.place.l4.set(self.place.off.get() + u32::from(l4));
        // A protocol that is not recognised keeps the field that the kernel named, if it did.
        if let Some(field) = vnet::csum_field(self.data(), l3.into(), l4.into()) {
            self.place.csum_offset.set(field.into());
        }
    }

    fn set_vlan(&mut self, vlan: Option<Vlan>) {
        self.place.vlan.set(vlan);
    }

    fn set_gso(&mut self, gso: Option<Gso>, headers: u16) {
        let ecn = if self.is_tcp_train() { self.place.gso_type.get() & vnet::GSO_ECN } else { 0 };
        let Some(gso) = gso else {
            self.place.gso_type.set(vnet::GSO_NONE);
            return self.place.gso_size.set(0);
        };
        self.place.gso_size.set(gso.size);
        self.place.headers_end.set(self.place.off.get() + u32::from(headers));
        self.place.gso_type.set(match gso.kind {
            GsoKind::TcpV4 => vnet::GSO_TCPV4 | ecn,
            GsoKind::TcpV6 => vnet::GSO_TCPV6 | ecn,
            GsoKind::Udp => vnet::GSO_UDP_L4,
        });
    }
}

#[cfg(test)]
mod tests;
