//! What a port is to be, and the plain description of an opened one that crosses a process border.

use core::fmt;
use lvs_core::addr::MacAddr;

use crate::steer::LocalNet;

/// Which interface a port sits on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interface {
    /// By name, as `ip link` shows it.
    Name(String),
    /// By index.
    Index(u32),
}

impl From<&str> for Interface {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "interface {index}"),
        }
    }
}

/// How the receive ring is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a slot, headroom included. A frame that does not fit is counted as truncated and
    /// dropped. Rounded up to a multiple of 64.
    pub slot_size: u32,
    /// Slots of the ring. Rounded up to whole blocks.
    pub slots: u32,
}

impl Geometry {
    /// Slots that hold whole segment trains: 128 KiB x 256, 32 MiB of memory. What veth, virtio and
    /// containers need with their default offloads.
    pub const TRAINS: Self = Self { slot_size: 128 << 10, slots: 256 };
    /// Slots for frames of a 1500-byte MTU only: 2 KiB x 4096, 8 MiB. Only where no sender and no
    /// receive offload builds trains.
    pub const MTU_ONLY: Self = Self { slot_size: 2 << 10, slots: 4096 };

    /// The ring as the kernel wants it, or why it cannot be.
    pub(crate) fn blocks(self) -> Result<Blocks, &'static str> {
        if !(1024..=1 << 20).contains(&self.slot_size) {
            return Err("the slot size must be between 1 KiB and 1 MiB");
        }
        if !(8..=1 << 16).contains(&self.slots) {
            return Err("the number of slots must be between 8 and 65536");
        }
        let slot_size = self.slot_size.next_multiple_of(64);
        let block_size = slot_size.next_power_of_two().max(1 << 17);
        let per_block = block_size / slot_size;
        let blocks = self.slots.div_ceil(per_block);
        if u64::from(block_size) * u64::from(blocks) > 1 << 30 {
            return Err("the ring must not exceed 1 GiB");
        }
        Ok(Blocks { slot_size, block_size, per_block, blocks })
    }
}

impl Default for Geometry {
    fn default() -> Self {
        Self::TRAINS
    }
}

/// A [`Geometry`] in whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) slot_size: u32,
    pub(crate) block_size: u32,
    pub(crate) per_block: u32,
    pub(crate) blocks: u32,
}

impl Blocks {
    pub(crate) const fn bytes(self) -> usize {
        self.block_size as usize * self.blocks as usize
    }

    pub(crate) const fn slots(self) -> usize {
        self.per_block as usize * self.blocks as usize
    }

    /// Where slot `i` starts, from the start of the mapping.
    pub(crate) const fn slot_offset(self, i: usize) -> usize {
        let per_block = self.per_block as usize;
        i / per_block * self.block_size as usize + i % per_block * self.slot_size as usize
    }
}

/// How the kernel spreads the frames of one interface over the sockets of several workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fanout {
    /// Number of the group: the same on all workers of the interface, used by nobody else in the
    /// network namespace.
    pub group: u16,
    /// Who gets which frame.
    pub mode: FanoutMode,
}

/// Who gets which frame. Members are numbered in the order in which their rings were mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FanoutMode {
    /// By the kernel's flow hash, which is the same for both directions of a flow, but not for a
    /// flow and its translated replies.
    Hash,
    /// By port, the software twin of a flow rule on a NIC: a frame to one of `locals` goes to member
    /// `destination port mod members`, and so does an ICMP error about a frame from there (its own
    /// port taken from the quoted header). A frame to one of `virtuals` goes by a hash of source
    /// address and source port ([`lvs_core::plan::LowBits::fanout_member`]), and everything else by the same hash of its
    /// destination: what a NAT server answers meets its client's packets.
    ///
    /// Without `virtuals` everything that is not to a local address goes by its source; without either,
    /// every address counts as local.
    LocalPort {
        /// The networks of the director's local addresses.
        locals: Vec<LocalNet>,
        /// The networks of its services.
        virtuals: Vec<LocalNet>,
    },
}

/// Which of the crate's cures are in force: all, except in tests that show what each is for.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cures {
    /// Checksum state and segmentation travel with the frame.
    pub vnet_header: bool,
    /// Frames that another socket sends on the interface are not received.
    pub ignore_outgoing: bool,
    /// The queueing discipline comes back when the device cannot cut a train itself.
    pub qdisc_for_trains: bool,
}

impl Default for Cures {
    fn default() -> Self {
        Self { vnet_header: true, ignore_outgoing: true, qdisc_for_trains: true }
    }
}

/// One port as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// The interface.
    pub interface: Interface,
    /// Its receive ring.
    pub geometry: Geometry,
    /// Whether frames for foreign MAC addresses are received too. Reference counted by the kernel
    /// and gone with the socket.
    pub promiscuous: bool,
    /// The spreading over several workers, if there are several.
    pub fanout: Option<Fanout>,
    #[doc(hidden)]
    pub cures: Cures,
}

impl PortConfig {
    /// A port on this interface with [`Geometry::TRAINS`], not promiscuous, for one worker.
    #[must_use]
    pub fn new(interface: impl Into<Interface>) -> Self {
        Self {
            interface: interface.into(),
            geometry: Geometry::TRAINS,
            promiscuous: false,
            fanout: None,
            cures: Cures::default(),
        }
    }
}

/// What is known about an opened port: plain data, to be handed to the process that maps it, for
/// example as [`to_bytes`](Self::to_bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMeta {
    /// Name of the interface, for messages.
    pub name: String,
    /// Index of the interface.
    pub index: u32,
    /// Its address.
    pub mac: MacAddr,
    /// Largest IP packet it sends; 65535 also stands for more.
    pub mtu: u16,
    /// Whether it was up and had carrier.
    pub link_up: bool,
    /// The ring it is to get.
    pub geometry: Geometry,
    /// As configured.
    pub promiscuous: bool,
    /// As configured.
    pub fanout: Option<Fanout>,
    #[doc(hidden)]
    pub cures: Cures,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lie_inside_the_mapping_and_never_overlap() {
        for (slot_size, slots) in
            [(2048, 4096), (128 << 10, 256), (1024, 8), (70_000, 31), (9300, 9)]
        {
            let blocks = Geometry { slot_size, slots }.blocks().unwrap();
            assert!(blocks.slots() >= slots as usize && blocks.slot_size >= slot_size);
            assert_eq!(blocks.block_size % 4096, 0);
            let starts: Vec<_> = (0..blocks.slots()).map(|i| blocks.slot_offset(i)).collect();
            assert!(starts.iter().all(|s| s % 64 == 0));
            let step = blocks.slot_size as usize;
            assert!(starts.windows(2).all(|pair| pair[0] + step <= pair[1]));
            assert!(starts.last().unwrap() + step <= blocks.bytes());
        }
    }

    #[test]
    fn impossible_geometries_are_refused_with_a_reason() {
        for (slot_size, slots) in
            [(512, 64), (2 << 20, 8), (2048, 1), (2048, 1 << 20), (1 << 20, 65536)]
        {
            assert!(Geometry { slot_size, slots }.blocks().is_err(), "{slot_size} x {slots}");
        }
    }
}
