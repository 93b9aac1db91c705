//! The receive ring of one port and its transmit socket.
//!
//! Set-up order matters: `PACKET_VNET_HDR` and `PACKET_RESERVE` after the ring give `EBUSY`, and a
//! socket that is bound before its ring exists queues frames that nobody reads.

use core::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lvs_core::io::{IoError, PortStats};

use crate::config::{Blocks, Fanout, FanoutMode, PortMeta};
use crate::error::{OpenError, Step};
use crate::open::{PortSockets, refused};
use crate::slot::{Place, RESERVE, Slot};
use crate::steer;
use crate::sys::{self, Mapping};

const SOL: i32 = libc::SOL_PACKET;
const ALL_PROTOCOLS: u16 = libc::ETH_P_ALL as u16;

/// One port at work.
#[derive(Debug)]
pub(crate) struct PortRing {
    places: Box<[Place]>,
    /// The slot that the kernel fills next, as far as this side has read.
    cursor: Cell<usize>,
    pub(crate) meta: PortMeta,
    pub(crate) link_up: Cell<bool>,
    pub(crate) mtu: Cell<u16>,
    pub(crate) stats: Cell<PortStats>,
    /// Whether transmission goes around the queueing discipline.
    bypass: Cell<bool>,
    /// Owns the memory of `places`; fields drop in order, so it comes after them.
    _memory: Mapping,
    rx: OwnedFd,
    pub(crate) tx: OwnedFd,
}

/// What was in the next slot.
pub(crate) enum Next<'m> {
    /// A packet.
    Packet(Slot<'m>),
    /// A frame that is not handed out; its slot is free again.
    Skipped,
    /// Nothing, or a slot that somebody still holds.
    Nothing,
}

impl PortRing {
    /// Makes the ring, maps it and starts receiving.
    pub(crate) fn map(sockets: PortSockets) -> Result<Self, OpenError> {
        let PortSockets { rx, tx, meta } = sockets;
        let blocks = meta
            .geometry
            .blocks()
            .map_err(|reason| OpenError::Geometry { interface: meta.name.clone(), reason })?;
        prepare(rx.as_fd(), &meta)?;
        make_ring(rx.as_fd(), &meta, blocks)?;
        let memory = Mapping::of_ring(rx.as_fd(), blocks.bytes())
            .map_err(refused(&meta.name, Step::MapMemory))?;
        let places = (0..blocks.slots()).map(|i| place(&memory, blocks, i)).collect();
        start(rx.as_fd(), &meta)?;
        prepare_tx(tx.as_fd(), &meta)?;
        Ok(Self {
            places,
            cursor: Cell::new(0),
            link_up: Cell::new(meta.link_up),
            mtu: Cell::new(meta.mtu),
            stats: Cell::new(PortStats::default()),
            bypass: Cell::new(true),
            meta,
            _memory: memory,
            rx,
            tx,
        })
    }

    pub(crate) fn rx_fd(&self) -> BorrowedFd<'_> {
        self.rx.as_fd()
    }

    pub(crate) const fn slots(&self) -> usize {
        self.places.len()
    }

    /// Looks at the next slot. A slot that was handed out still reads "user" until its packet is
    /// dropped, so what is out is tracked here; otherwise it would be handed out again once the
    /// cursor has come around.
    pub(crate) fn next(&self) -> Next<'_> {
        let cursor = self.cursor.get();
        let Some(place) = self.places.get(cursor).filter(|place| !place.held()) else {
            return Next::Nothing;
        };
        let Some(arrival) = place.arrival() else { return Next::Nothing };
        self.cursor.set(if cursor + 1 < self.places.len() { cursor + 1 } else { 0 });
        // Kernels before 6.7 ignore the wish for no outgoing frames on sockets of a fanout group.
        let own = arrival.packet_type == libc::PACKET_OUTGOING && self.meta.cures.ignore_outgoing;
        if !own {
            if let Some(slot) = place.receive(&arrival, self.meta.cures.vnet_header) {
                return Next::Packet(slot);
            }
            self.count(|stats| stats.rx_truncated += 1);
        }
        place.give_back();
        Next::Skipped
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut PortStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// Adds the kernel's drop counter, which starts again at zero with each look.
    pub(crate) fn collect_missed(&self) {
        let zero = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        if let Ok(news) = sys::get(self.rx_fd(), SOL, libc::PACKET_STATISTICS, zero) {
            self.count(|stats| stats.rx_missed += u64::from(news.tp_drops));
        }
    }

    /// Asks for link and MTU again. An interface that is gone counts as down; where asking is not
    /// allowed, all stays as it was.
    pub(crate) fn refresh(&self) {
        let fd = self.rx_fd();
        match sys::interface_name(fd, self.meta.index) {
            Ok(name) => {
                if let Ok(up) = sys::interface_running(fd, &name) {
                    self.link_up.set(up);
                }
                if let Ok(mtu) = sys::interface_mtu(fd, &name) {
                    self.mtu.set(mtu);
                }
            }
            Err(libc::ENODEV | libc::ENXIO) => self.link_up.set(false),
            Err(_) => {}
        }
    }

    /// Looks again whether the link is down.
    pub(crate) fn lost(&self) -> bool {
        self.refresh();
        !self.link_up.get()
    }

    /// Reads and clears the pending error of the receive socket: an interface that goes down leaves
    /// one, and polling would return at once for ever.
    pub(crate) fn clear_error(&self) {
        let _ = sys::get(self.rx_fd(), libc::SOL_SOCKET, libc::SO_ERROR, 0i32);
        self.refresh();
    }

    /// A train was refused with `ENOBUFS`: returns whether to try once more through the queueing
    /// discipline. Around it, a train that the device cannot cut itself is not cut but dropped, with
    /// this error (`__dev_direct_xmit` in Linux `net/core/dev.c`). If that does not help, the queue
    /// is simply full, and the port goes around the discipline as before.
    pub(crate) fn try_other_way(&self, detour: &mut bool) -> bool {
        if *detour {
            self.set_bypass(true);
            return false;
        }
        *detour = self.bypass.get() && self.meta.cures.qdisc_for_trains && self.set_bypass(false);
        *detour
    }

    fn set_bypass(&self, bypass: bool) -> bool {
        let done = sys::set(self.tx.as_fd(), SOL, libc::PACKET_QDISC_BYPASS, &i32::from(bypass));
        self.bypass.set(if done.is_ok() { bypass } else { !bypass });
        done.is_ok()
    }

    /// What an error number of a whole call means to the caller.
    pub(crate) fn io_error(&self, errno: i32) -> IoError {
        if matches!(errno, libc::ENETDOWN | libc::ENXIO | libc::ENODEV) {
            self.link_up.set(false);
            return IoError::LinkDown;
        }
        IoError::Device(errno)
    }
}

/// Everything that must be set before the ring exists.
fn prepare(rx: BorrowedFd<'_>, meta: &PortMeta) -> Result<(), OpenError> {
    let failed = |step| refused(&meta.name, step);
    let version = libc::tpacket_versions::TPACKET_V2 as i32;
    sys::set(rx, SOL, libc::PACKET_VERSION, &version).map_err(failed(Step::RingVersion))?;
    let vnet = i32::from(meta.cures.vnet_header);
    sys::set(rx, SOL, libc::PACKET_VNET_HDR, &vnet).map_err(failed(Step::VnetHeader))?;
    sys::set(rx, SOL, libc::PACKET_RESERVE, &RESERVE).map_err(failed(Step::Headroom))?;
    let ignore = i32::from(meta.cures.ignore_outgoing);
    sys::set(rx, SOL, libc::PACKET_IGNORE_OUTGOING, &ignore).map_err(failed(Step::IgnoreOutgoing))
}

fn make_ring(rx: BorrowedFd<'_>, meta: &PortMeta, blocks: Blocks) -> Result<(), OpenError> {
    let request = libc::tpacket_req {
        tp_block_size: blocks.block_size,
        tp_block_nr: blocks.blocks,
        tp_frame_size: blocks.slot_size,
        tp_frame_nr: blocks.slots() as u32,
    };
    sys::set(rx, SOL, libc::PACKET_RX_RING, &request).map_err(refused(&meta.name, Step::MakeRing))
}

/// Describes slot `i` of a ring.
#[allow(unsafe_code, reason = "see the proof inside")]
fn place(memory: &Mapping, blocks: Blocks, i: usize) -> Place {
    let offset = blocks.slot_offset(i);
    assert!(offset + blocks.slot_size as usize <= memory.len(), "a slot lies inside its ring");
    // SAFETY: checked above to lie inside the mapping, which `PortRing` keeps as long as the place.
    // Slots do not overlap (`Blocks`, tested there), start at a multiple of 64 and are larger than
    // `FRAME_START`. The kernel has just made the ring with these very measures, and refuses to make
    // a ring on a socket that has one (`EBUSY`), so no other `Place` describes this memory.
    unsafe { Place::new(memory.base().add(offset), blocks.slot_size, 0) }
}

/// From here on frames arrive.
fn start(rx: BorrowedFd<'_>, meta: &PortMeta) -> Result<(), OpenError> {
    let failed = |step| refused(&meta.name, step);
    if meta.promiscuous {
        let membership = libc::packet_mreq {
            mr_ifindex: meta.index.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        sys::set(rx, SOL, libc::PACKET_ADD_MEMBERSHIP, &membership)
            .map_err(failed(Step::Promiscuous))?;
    }
    sys::bind(rx, meta.index, ALL_PROTOCOLS).map_err(failed(Step::Bind))?;
    meta.fanout.as_ref().map_or(Ok(()), |fanout| join(rx, meta, fanout))
}

fn join(rx: BorrowedFd<'_>, meta: &PortMeta, fanout: &Fanout) -> Result<(), OpenError> {
    let mut mode = match fanout.mode {
        FanoutMode::Hash => libc::PACKET_FANOUT_HASH,
        FanoutMode::LocalPort { .. } => libc::PACKET_FANOUT_CBPF,
    };
    if meta.cures.ignore_outgoing {
        // A group has a hook of its own, to which the option of the single socket does not apply.
        mode |= libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    }
    let request = u32::from(fanout.group) | mode << 16;
    sys::set(rx, SOL, libc::PACKET_FANOUT, &request)
        .map_err(refused(&meta.name, Step::JoinFanout))?;
    if let FanoutMode::LocalPort { locals, virtuals } = &fanout.mode {
        sys::set_fanout_program(rx, &steer::program(locals, virtuals))
            .map_err(refused(&meta.name, Step::FanoutProgram))?;
    }
    Ok(())
}

fn prepare_tx(tx: BorrowedFd<'_>, meta: &PortMeta) -> Result<(), OpenError> {
    let failed = |step| refused(&meta.name, step);
    let vnet = i32::from(meta.cures.vnet_header);
    sys::set(tx, SOL, libc::PACKET_VNET_HDR, &vnet).map_err(failed(Step::VnetHeader))?;
    sys::set(tx, SOL, libc::PACKET_QDISC_BYPASS, &1i32).map_err(failed(Step::QdiscBypass))?;
    sys::bind(tx, meta.index, 0).map_err(failed(Step::Bind))
}
