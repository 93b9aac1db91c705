//! The contract with the wire: who owns a packet, when, and what is known about it.
//!
//! A [`Lane`] is everything one worker sees of the network: all ports, one receive and one transmit
//! queue each, nothing shared, no locks. Packets are owned values ([`PacketBuf`]): receiving moves
//! them into a [`Burst`], transmitting moves them out again, dropping one gives its memory back.
//! Backends borrow from their own mapping, never from the lane, so a packet may be edited while the
//! lane is used.
//!
//! ```text
//!   device ──rx_burst──► Burst<Buf> ──director──► Burst<Buf> ──tx_burst──► device
//!                            │                        ▲
//!                          drop = free              alloc (ARP, RST, ICMP)
//! ```
//!
//! # Contract
//! - `data()` of a received packet holds at least all headers up to and including L4.
//! - Nothing here blocks, allocates on the heap or panics; a full device queue leaves packets in the
//!   burst.
//! - Checksum state and segmentation travel with the packet ([`L4Csum`], [`Gso`]).

mod burst;
pub mod mem;
pub mod middleware;

pub use burst::{BURST, Burst};

use crate::addr::MacAddr;
use core::fmt;

/// A port of a [`Lane`], numbered from zero in the order of configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

impl PortId {
    /// The number as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port{}", self.0)
    }
}

/// What is known about the TCP or UDP checksum field of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum L4Csum {
    /// Nobody checked it.
    #[default]
    Unknown,
    /// Verified by the device or the kernel.
    Good,
    /// Found wrong by the device.
    Bad,
    /// The field holds the folded, not complemented pseudo-header sum, with the L4 length of the
    /// whole packet or train; whoever transmits must finish it. A lane converts to what its device
    /// means.
    Partial,
}

/// An 802.1Q tag carried beside the packet instead of in its bytes. Host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vlan {
    /// Tag protocol identifier, 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Priority (3 bits), drop eligible (1 bit), VLAN id (12 bits).
    pub tci: u16,
}

impl Vlan {
    /// The 12-bit VLAN id.
    #[must_use]
    pub const fn id(self) -> u16 {
        self.tci & 0x0fff
    }
}

/// The packet is a train of segments of `size` payload bytes each (the last may be shorter).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gso {
    /// Protocol of the segments.
    pub kind: GsoKind,
    /// L4 payload bytes of each segment.
    pub size: u16,
}

/// Protocol of a segment train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GsoKind {
    /// TCP in IPv4.
    TcpV4,
    /// TCP in IPv6.
    TcpV6,
    /// UDP in either family.
    Udp,
}

/// Which segment trains a port can transmit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GsoCaps {
    /// TCP in IPv4.
    pub tcp_v4: bool,
    /// TCP in IPv6.
    pub tcp_v6: bool,
    /// UDP in either family.
    pub udp: bool,
    /// Any of the above behind a tunnel header.
    pub in_tunnel: bool,
}

impl GsoCaps {
    /// Whether a train of this kind may be handed to the port, without a tunnel header.
    #[must_use]
    pub const fn takes(self, kind: GsoKind) -> bool {
        match kind {
            GsoKind::TcpV4 => self.tcp_v4,
            GsoKind::TcpV6 => self.tcp_v6,
            GsoKind::Udp => self.udp,
        }
    }
}

/// Which header fields a receive hash covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RxHashKind {
    /// Source and destination address.
    L3,
    /// Addresses and ports.
    L4,
}

/// A hash computed by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RxHash {
    /// The value.
    pub value: u32,
    /// What it covers.
    pub kind: RxHashKind,
}

/// The buffer has too little room at that end. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the packet buffer has no room left at that end")
    }
}
impl core::error::Error for NoRoom {}

/// One packet, owned by exactly one holder. Dropping it returns the memory to where it came from
/// (mempool, ring slot, free list).
pub trait PacketBuf {
    /// First contiguous part, from the Ethernet header on; holds all headers up to L4.
    fn data(&self) -> &[u8];
    /// The same bytes, to edit in place.
    fn data_mut(&mut self) -> &mut [u8];
    /// Bytes of the whole packet, later segments included.
    fn total_len(&self) -> usize {
        self.data().len()
    }

    /// Free bytes before `data()`.
    fn headroom(&self) -> usize;
    /// Free bytes behind `data()`.
    fn tailroom(&self) -> usize;
    /// Grows at the front and returns the whole of `data_mut()`; the first `n` bytes are undefined.
    ///
    /// # Errors
    /// [`NoRoom`] when `n > headroom()`; nothing changes.
    fn push_front(&mut self, n: usize) -> Result<&mut [u8], NoRoom>;
    /// Takes `n` bytes off the front.
    ///
    /// # Errors
    /// [`NoRoom`] when `n > data().len()`; nothing changes.
    fn pull_front(&mut self, n: usize) -> Result<(), NoRoom>;
    /// Grows at the end and returns the whole of `data_mut()`; the last `n` bytes are undefined.
    ///
    /// # Errors
    /// [`NoRoom`] when `n > tailroom()`; nothing changes.
    fn push_back(&mut self, n: usize) -> Result<&mut [u8], NoRoom>;
    /// Shortens to `len` bytes; a longer `len` changes nothing.
    fn truncate(&mut self, len: usize);

    /// State of the L4 checksum field as received, or as last set.
    fn l4_csum(&self) -> L4Csum;
    /// Tag that the device took out of the bytes, or that is to be put in.
    fn vlan(&self) -> Option<Vlan>;
    /// `Some` when the packet is a train of segments.
    fn gso(&self) -> Option<Gso>;
    /// Hash computed by the device: the one that chose the receive queue, by the key of
    /// [`PortInfo::rss`] where there is one. Nobody relies on it: a wrong one costs time.
    fn rx_hash(&self) -> Option<RxHash> {
        None
    }
    /// Receive time stamp in nanoseconds of the device's clock.
    fn rx_time_ns(&self) -> Option<u64> {
        None
    }

    /// Tells the transmitter what the checksum field now holds. `l3` and `l4` are offsets of the
    /// headers from the start of `data()`. To be called again when a header grows while the state
    /// is [`L4Csum::Partial`].
    fn set_l4_csum(&mut self, state: L4Csum, l3: u16, l4: u16);
    /// Sets or removes the tag beside the packet.
    fn set_vlan(&mut self, vlan: Option<Vlan>);
    /// Sets the segment size, or makes the packet an ordinary one. `headers` = bytes of all headers
    /// up to the L4 payload, which a device needs to cut the train.
    fn set_gso(&mut self, gso: Option<Gso>, headers: u16);
}

/// What a port can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Largest frame, from the Ethernet header on and without a VLAN tag beside it, that `tx_burst`
    /// takes when `gso()` is `None`.
    pub max_frame: u16,
    /// Headroom every received packet is guaranteed to have.
    pub headroom: u16,
    /// Completes [`L4Csum::Partial`] without the core's help.
    pub tx_csum: bool,
    /// Puts a VLAN tag carried beside the packet onto the wire.
    pub tx_vlan: bool,
    /// Segment trains the port transmits.
    pub gso: GsoCaps,
    /// Received packets that may be held back at once before receive stalls.
    pub max_held: u32,
}

/// Receive-side scaling of a port, where it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rss<'a> {
    /// Toeplitz key.
    pub key: &'a [u8],
    /// Indirection table: hash modulo its length gives the queue.
    pub table: &'a [u16],
}

/// What a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortInfo<'a> {
    /// Its own address.
    pub mac: MacAddr,
    /// Largest IP packet it sends.
    pub mtu: u16,
    /// Whether the link is up, as last seen.
    pub link_up: bool,
    /// Key and table of its receive-side scaling.
    pub rss: Option<Rss<'a>>,
}

/// Why a lane could not receive or transmit at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoError {
    /// The link is down or the interface is gone.
    LinkDown,
    /// The device or kernel answered with this error number.
    Device(i32),
    /// There is no such port.
    NoPort,
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkDown => f.write_str("the link is down or the interface is gone"),
            Self::Device(errno) => write!(f, "the device failed with error number {errno}"),
            Self::NoPort => f.write_str("the lane has no such port"),
        }
    }
}
impl core::error::Error for IoError {}

/// Counters of a port as the lane saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortStats {
    /// Packets received.
    pub rx: u64,
    /// Packets handed to the device.
    pub tx: u64,
    /// Packets the device dropped for want of receive buffers.
    pub rx_missed: u64,
    /// Packets dropped because they were longer than a receive buffer.
    pub rx_truncated: u64,
    /// Packets the device refused for good and the lane dropped.
    pub tx_rejected: u64,
}

/// All ports as seen by one worker.
pub trait Lane {
    /// How a packet is held.
    type Buf: PacketBuf;

    /// How many ports there are; ids run from zero.
    fn port_count(&self) -> u16;
    /// What the port can do.
    fn caps(&self, port: PortId) -> Caps;
    /// What the port is.
    fn port_info(&self, port: PortId) -> PortInfo<'_>;

    /// Appends up to `out.room()` packets and returns how many; 0 means "nothing now".
    ///
    /// # Errors
    /// [`IoError`] when the port cannot receive at all.
    fn rx_burst(&mut self, port: PortId, out: &mut Burst<Self::Buf>) -> Result<usize, IoError>;

    /// Takes packets from the front of `pkts` and returns how many; what the device had no room for
    /// stays. A packet the device can never send is dropped, counted as `tx_rejected` and included
    /// in the result.
    ///
    /// # Errors
    /// [`IoError`] when the port cannot transmit at all; the packets stay.
    fn tx_burst(&mut self, port: PortId, pkts: &mut Burst<Self::Buf>) -> Result<usize, IoError>;

    /// Makes queued transmissions visible and collects completions.
    fn poll_tx(&mut self, port: PortId) {
        let _ = port;
    }

    /// A fresh packet of `len` undefined bytes with the largest `caps().headroom` in front.
    fn alloc(&mut self, len: usize) -> Option<Self::Buf>;

    /// Drops many at once; a backend may have a cheaper way than one by one.
    fn free_burst(&mut self, pkts: &mut Burst<Self::Buf>) {
        pkts.clear();
    }

    /// Counters of the port.
    fn stats(&self, port: PortId) -> PortStats;
}

/// Only where blocking makes sense (AF_PACKET, AF_XDP, DPDK with receive interrupts).
pub trait WaitReady: Lane {
    /// Returns when a port has packets, or after `timeout_us` microseconds.
    ///
    /// # Errors
    /// [`IoError`] when waiting itself failed.
    fn wait(&mut self, timeout_us: u32) -> Result<(), IoError>;
}
