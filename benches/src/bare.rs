//! The measure that forwarding is compared with: the least that a program can do with a `TPACKET_V2`
//! ring and `sendmmsg`.
//!
//! Two interfaces tied together. A frame that arrives on one gets two Ethernet addresses written over
//! its own and is sent from its slot on the other. No parsing, no metadata, no buffers of its own, no
//! error handling beyond noticing: nothing that forwards this way can be much cheaper.
#![allow(unsafe_code, reason = "memory shared with the kernel")]

use crate::socket::{BATCH, Batch, RingMemory, bind, packet_socket, set};
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes of the virtio header, which lies in front of each frame.
const VNET: usize = 10;
/// The same headroom as the real lane has.
const RESERVE: i32 = 134;

/// One interface: its receive ring and its transmit socket.
struct Ring {
    memory: RingMemory,
    slot_size: usize,
    slots: usize,
    cursor: usize,
    _rx: OwnedFd,
    tx: OwnedFd,
}

impl Ring {
    fn open(interface: &str, slot_size: usize, slots: usize) -> io::Result<Self> {
        let rx = packet_socket()?;
        let fd = rx.as_fd();
        set(fd, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as i32))?;
        set(fd, libc::PACKET_VNET_HDR, &1i32)?;
        set(fd, libc::PACKET_RESERVE, &RESERVE)?;
        let block = slot_size.max(1 << 17);
        let bytes = slot_size * slots;
        let request = libc::tpacket_req {
            tp_block_size: block as u32,
            tp_block_nr: (bytes / block) as u32,
            tp_frame_size: slot_size as u32,
            tp_frame_nr: slots as u32,
        };
        set(fd, libc::PACKET_RX_RING, &request)?;
        set(fd, libc::PACKET_IGNORE_OUTGOING, &1i32)?;
        let memory = RingMemory::map(fd, bytes)?;
        bind(fd, interface, libc::ETH_P_ALL as u16)?;
        let tx = packet_socket()?;
        set(tx.as_fd(), libc::PACKET_VNET_HDR, &1i32)?;
        set(tx.as_fd(), libc::PACKET_QDISC_BYPASS, &1i32)?;
        bind(tx.as_fd(), interface, 0)?;
        Ok(Self { memory, slot_size, slots, cursor: 0, _rx: rx, tx })
    }

    fn status(&self, slot: usize) -> &AtomicU32 {
        // SAFETY: a slot starts with its status word, is aligned to 16 bytes and lies in the mapping,
        // which lives as long as `self`; both sides use it as an atomic integer.
        unsafe { AtomicU32::from_ptr(self.memory.at(slot * self.slot_size).cast()) }
    }

    /// The virtio header and the frame in a slot that the kernel has handed over.
    fn frame(&mut self, slot: usize) -> &mut [u8] {
        let start = slot * self.slot_size;
        // SAFETY: the kernel wrote the header before it handed the slot over.
        let header = unsafe { self.memory.at(start).cast::<libc::tpacket2_hdr>().read() };
        let from = usize::from(header.tp_mac) - VNET;
        let len = header.tp_snaplen as usize + VNET;
        assert!(from + len <= self.slot_size, "a frame lies in its slot");
        // SAFETY: inside of the slot, as just checked. The slot is ours until its status is cleared,
        // and the result borrows `self`, through which alone it can be.
        unsafe { core::slice::from_raw_parts_mut(self.memory.at(start + from), len) }
    }

    fn next(&self, slot: usize) -> usize {
        if slot + 1 < self.slots { slot + 1 } else { 0 }
    }
}

/// Two interfaces tied together.
pub struct Bridge {
    rings: [Ring; 2],
    batch: Batch,
}

impl Bridge {
    /// Over rings of `slots` slots of `slot_size` bytes, both powers of two.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(interfaces: [&str; 2], slot_size: usize, slots: usize) -> io::Result<Self> {
        let [left, right] = interfaces.map(|name| Ring::open(name, slot_size, slots));
        Ok(Self { rings: [left?, right?], batch: Batch::default() })
    }

    /// Moves up to a burst from interface `from` to the other one, which is told to use these first 12
    /// bytes of every frame.
    ///
    /// # Errors
    /// The kernel refused a frame.
    pub fn pass(&mut self, from: usize, macs: &[u8; 12]) -> io::Result<usize> {
        let [left, right] = &mut self.rings;
        let (rx, tx) = if from == 0 { (left, right) } else { (right, left) };
        let first = rx.cursor;
        let mut count = 0;
        let mut slot = first;
        while count < BATCH && rx.status(slot).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0 {
            rx.frame(slot)[VNET..VNET + 12].copy_from_slice(macs);
            slot = rx.next(slot);
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        rx.cursor = slot;
        let (size, slots, memory) = (rx.slot_size, rx.slots, &rx.memory);
        let frames = (0..count).map(|n| {
            let start = (first + n) % slots * size;
            // SAFETY: as in `frame`; only read from here on, until the slots are given back below.
            unsafe {
                let header = memory.at(start).cast::<libc::tpacket2_hdr>().read();
                let from = start + usize::from(header.tp_mac) - VNET;
                core::slice::from_raw_parts(
                    memory.at(from).cast_const(),
                    header.tp_snaplen as usize + VNET,
                )
            }
        });
        let sent = self.batch.send(tx.tx.as_fd(), frames)?;
        for n in 0..count {
            rx.status((first + n) % slots).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        if sent != count {
            return Err(io::Error::other(format!("{sent} of {count} frames were taken")));
        }
        Ok(count)
    }
}
