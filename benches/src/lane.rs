//! The cheapest lane there can be: packets in memory, a handle of 16 bytes each, receive and transmit
//! are moves between arrays.
//!
//! What a director costs over this lane is its own cost. Buffers lie an odd number of cache lines apart,
//! as sensible pools have it: at a power of two all headers would fall into a few sets of the cache.
#![allow(unsafe_code, reason = "packets are places in one large piece of memory")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};
use lvs_core::addr::MacAddr;
use lvs_core::io::{
    Burst, Caps, Gso, GsoCaps, IoError, L4Csum, Lane, NoRoom, PacketBuf, PortId, PortInfo,
    PortStats, Vlan,
};
use lvs_os::memory::Region;
use std::collections::VecDeque;

/// Bytes from one buffer to the next: 35 lines.
pub const STRIDE: usize = 35 * 64;
/// Bytes in front of a frame; the first line of a buffer is its [`Side`].
const START: u16 = 128;
const SIDE: u16 = 64;
const FREE: u8 = 0;
const TAKEN: u8 = 1;

/// What is rarely asked about a packet, at the start of its buffer.
#[derive(Default)]
#[repr(C)]
struct Side {
    state: AtomicU8,
    vlan: Option<Vlan>,
    gso: Option<Gso>,
    offsets: [u16; 3],
}

const _: () = assert!(size_of::<Side>() <= SIDE as usize && STRIDE % 128 == 64);

/// Buffers for packets, never given back to the system: handles may outlive everything else.
#[derive(Clone, Copy)]
pub struct Pool {
    base: NonNull<u8>,
    buffers: usize,
    next: usize,
}

impl Pool {
    /// Room for this many packets, in huge pages where the system has some.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(buffers: usize) -> Result<Self, String> {
        let region = Region::anonymous(buffers * STRIDE).map_err(|error| error.to_string())?;
        let bytes = region.leak();
        bytes.fill(0);
        Ok(Self { base: NonNull::from(bytes).cast(), buffers, next: 0 })
    }

    /// A packet of `len` bytes in the next free buffer; `None` when all are taken or `len` is too long.
    pub fn take(&mut self, len: usize) -> Option<Buf> {
        let end =
            START.checked_add(u16::try_from(len).ok()?).filter(|e| usize::from(*e) <= STRIDE)?;
        for _ in 0..self.buffers {
            let at = self.next;
            self.next = if at + 1 < self.buffers { at + 1 } else { 0 };
            // SAFETY: `at` is below the number of buffers that the leaked memory was made for.
            let place = unsafe { self.base.add(at * STRIDE) };
            let buf = Buf { place, start: START, end, csum: L4Csum::Unknown, beside: false };
            if buf
                .state()
                .compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                return Some(buf);
            }
            // It is somebody else's: this handle must not free it.
            core::mem::forget(buf);
        }
        None
    }
}

/// A packet: its buffer, where in it, and the state of its checksum.
///
/// Invariant: `place` is a buffer of a [`Pool`] whose state is `TAKEN` by this handle alone, and
/// `SIDE <= start <= end <= STRIDE`.
pub struct Buf {
    place: NonNull<u8>,
    start: u16,
    end: u16,
    csum: L4Csum,
    /// VLAN tag or train are set in the side record.
    beside: bool,
}

impl Buf {
    fn state(&self) -> &AtomicU8 {
        // SAFETY: each buffer starts with a `Side`, is aligned to 64 bytes, and was zeroed, which is a
        // valid `AtomicU8`. Everybody accesses this byte as an atomic only.
        unsafe { &self.place.cast::<Side>().as_ref().state }
    }

    fn side_mut(&mut self) -> &mut Side {
        // SAFETY: as above; the handle owns the buffer, and the result borrows it.
        unsafe { self.place.cast::<Side>().as_mut() }
    }

    fn side(&self) -> Option<&Side> {
        // SAFETY: as above. The fields are written before `beside` is set.
        self.beside.then(|| unsafe { self.place.cast::<Side>().as_ref() })
    }

    /// The same buffer with another frame length, as it was when it was taken.
    pub fn reset(&mut self, len: usize) {
        self.start = START;
        self.end = (START + u16::try_from(len).unwrap_or(0)).min(STRIDE as u16);
        self.csum = L4Csum::Unknown;
        self.beside = false;
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        self.state().store(FREE, Ordering::Relaxed);
    }
}

impl PacketBuf for Buf {
    #[inline]
    fn data(&self) -> &[u8] {
        let (start, len) = (usize::from(self.start), usize::from(self.end - self.start));
        // SAFETY: inside of the buffer by the invariant; the bytes were initialised by the pool, belong
        // to this handle, and the result borrows it.
        unsafe { core::slice::from_raw_parts(self.place.as_ptr().add(start), len) }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        let (start, len) = (usize::from(self.start), usize::from(self.end - self.start));
        // SAFETY: as in `data`, and `&mut self` makes it the only access.
        unsafe { core::slice::from_raw_parts_mut(self.place.as_ptr().add(start), len) }
    }

    fn headroom(&self) -> usize {
        usize::from(self.start - SIDE)
    }

    fn tailroom(&self) -> usize {
        STRIDE - usize::from(self.end)
    }

    fn push_front(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        if n > self.headroom() {
            return Err(NoRoom);
        }
        self.start -= n as u16;
        Ok(self.data_mut())
    }

    fn pull_front(&mut self, n: usize) -> Result<(), NoRoom> {
        if n > usize::from(self.end - self.start) {
            return Err(NoRoom);
        }
        self.start += n as u16;
        Ok(())
    }

    fn push_back(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        if n > self.tailroom() {
            return Err(NoRoom);
        }
        self.end += n as u16;
        Ok(self.data_mut())
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if len < usize::from(self.end - self.start) {
            self.end = self.start + len as u16;
        }
    }

    #[inline]
    fn l4_csum(&self) -> L4Csum {
        self.csum
    }

    #[inline]
    fn vlan(&self) -> Option<Vlan> {
        self.side().and_then(|side| side.vlan)
    }

    #[inline]
    fn gso(&self) -> Option<Gso> {
        self.side().and_then(|side| side.gso)
    }

    fn set_l4_csum(&mut self, state: L4Csum, l3: u16, l4: u16) {
        self.csum = state;
        self.side_mut().offsets = [l3, l4, 0];
    }

    fn set_vlan(&mut self, vlan: Option<Vlan>) {
        let gso = self.gso();
        let side = self.side_mut();
        (side.vlan, side.gso) = (vlan, gso);
        self.beside = vlan.is_some() || gso.is_some();
    }

    fn set_gso(&mut self, gso: Option<Gso>, headers: u16) {
        let vlan = self.vlan();
        let side = self.side_mut();
        (side.vlan, side.gso, side.offsets[2]) = (vlan, gso, headers);
        self.beside = vlan.is_some() || gso.is_some();
    }
}

/// Ports of one worker, over arrays.
pub struct ArrayLane {
    macs: Vec<MacAddr>,
    /// What waits to be received, by port.
    pub rx: Vec<VecDeque<Buf>>,
    /// What was sent, by port.
    pub tx: Vec<Vec<Buf>>,
    spare: Pool,
}

impl ArrayLane {
    /// A lane with ports of these addresses; none of its queues ever holds more than `most` packets.
    ///
    /// # Errors
    /// The kernel's about memory.
    pub fn new(macs: &[MacAddr], most: usize) -> Result<Self, String> {
        Ok(Self {
            macs: macs.to_vec(),
            rx: macs.iter().map(|_| VecDeque::with_capacity(most)).collect(),
            tx: macs.iter().map(|_| Vec::with_capacity(most)).collect(),
            spare: Pool::new(256)?,
        })
    }
}

impl Lane for ArrayLane {
    type Buf = Buf;

    fn port_count(&self) -> u16 {
        self.macs.len() as u16
    }

    fn caps(&self, _port: PortId) -> Caps {
        Caps {
            max_frame: 1514,
            headroom: START - SIDE,
            tx_csum: true,
            tx_vlan: true,
            gso: GsoCaps::default(),
            max_held: u32::MAX,
        }
    }

    fn port_info(&self, port: PortId) -> PortInfo<'_> {
        let mac = self.macs.get(port.index()).copied().unwrap_or(MacAddr([0; 6]));
        PortInfo { mac, mtu: 1500, link_up: true, rss: None }
    }

    #[inline]
    fn rx_burst(&mut self, port: PortId, out: &mut Burst<Buf>) -> Result<usize, IoError> {
        let queue = self.rx.get_mut(port.index()).ok_or(IoError::NoPort)?;
        let count = queue.len().min(out.room());
        for packet in queue.drain(..count) {
            if out.push(packet).is_err() {
                return Err(IoError::NoPort);
            }
        }
        Ok(count)
    }

    #[inline]
    fn tx_burst(&mut self, port: PortId, pkts: &mut Burst<Buf>) -> Result<usize, IoError> {
        let queue = self.tx.get_mut(port.index()).ok_or(IoError::NoPort)?;
        let count = pkts.len();
        pkts.drain_with(|packet| queue.push(packet));
        Ok(count)
    }

    fn alloc(&mut self, len: usize) -> Option<Buf> {
        self.spare.take(len)
    }

    fn stats(&self, _port: PortId) -> PortStats {
        PortStats::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_one_owner_and_comes_back_when_dropped() {
        let mut pool = Pool::new(2).unwrap();
        let (a, b) = (pool.take(60).unwrap(), pool.take(60).unwrap());
        assert!(pool.take(60).is_none());
        drop(a);
        let again = pool.take(1514).unwrap();
        assert_eq!(again.data().len(), 1514);
        assert_ne!(again.data().as_ptr(), b.data().as_ptr());
        assert!(pool.take(5000).is_none());
    }

    #[test]
    fn packets_move_through_the_lane_with_what_is_beside_them() {
        let mut lane = ArrayLane::new(&[MacAddr([2; 6]), MacAddr([4; 6])], 8).unwrap();
        let mut packet = lane.alloc(60).unwrap();
        packet.data_mut().fill(7);
        packet.set_vlan(Some(Vlan { tpid: 0x8100, tci: 5 }));
        lane.rx[0].push_back(packet);
        let mut burst = Burst::new();
        assert_eq!(lane.rx_burst(PortId(0), &mut burst), Ok(1));
        assert!(burst[0].push_front(100).is_err() && burst[0].push_front(8).is_ok());
        assert_eq!(lane.tx_burst(PortId(1), &mut burst), Ok(1));
        let sent = &lane.tx[1][0];
        assert_eq!((sent.data().len(), sent.vlan().map(Vlan::id), sent.gso()), (68, Some(5), None));
        assert_eq!(lane.rx_burst(PortId(9), &mut burst), Err(IoError::NoPort));
    }
}
