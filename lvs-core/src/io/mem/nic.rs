//! A device with several queues in memory: one lane per worker, receive-side scaling between them.

use super::alloc::vec::Vec;
use super::{MemBuf, MemLane, MemPort};
use crate::flow::WireTuple;
use crate::io::{PacketBuf, PortId, RxHash, RxHashKind};
use crate::wire::{Fragment, Headers, Parsed};
use core::net::IpAddr;

/// The key of Microsoft's verification suite for receive-side scaling, which many devices start
/// with.
pub const RSS_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Entries of the indirection table of a port that brings none.
const TABLE: u16 = 128;

/// The Toeplitz hash of receive-side scaling, bit by bit: for each set bit of the input, the 32 bits
/// of the key from that bit on. A key that is too short continues with zeros.
///
/// ```
/// use lvs_core::io::mem::{RSS_KEY, toeplitz};
/// // 66.9.149.187:2794 to 161.142.100.80:1766, from the verification suite.
/// let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
/// assert_eq!(toeplitz(&RSS_KEY, &input), 0x51cc_c178);
/// assert_eq!(toeplitz(&RSS_KEY, &input[..8]), 0x323e_8fc2);
/// ```
#[must_use]
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let mut key = key.iter().copied().chain(core::iter::repeat(0));
    let mut window = 0u32;
    for byte in key.by_ref().take(4) {
        window = window << 8 | u32::from(byte);
    }
    let mut hash = 0;
    for (byte, next) in input.iter().zip(key) {
        for bit in (0..8).rev() {
            if byte >> bit & 1 == 1 {
                hash ^= window;
            }
            window = window << 1 | u32::from(next >> bit & 1);
        }
    }
    hash
}

/// Several [`MemLane`]s that share their wires: each frame goes to the lane that the device's hash
/// chooses.
///
/// ```
/// use lvs_core::io::mem::{MemBuf, MemNic, MemPort};
/// use lvs_core::io::PortId;
/// let mut nic = MemNic::new(4, [MemPort::default()]);
/// let queue = nic.inject(PortId(0), MemBuf::from_bytes(&[0; 60])).unwrap();
/// assert_eq!((queue, nic.lanes().len()), (0, 4)); // what is not IP goes to the first
/// assert_eq!(nic.lane(queue).unwrap().waiting(PortId(0)), 1);
/// ```
#[derive(Debug)]
pub struct MemNic {
    ports: Vec<MemPort>,
    lanes: Vec<MemLane>,
}

impl MemNic {
    /// A device with this many queues, at least one. A port without a key and table gets
    /// [`RSS_KEY`] and 128 entries that name the queues in turn.
    #[must_use]
    pub fn new(queues: u16, ports: impl IntoIterator<Item = MemPort>) -> Self {
        let queues = queues.max(1);
        let table = || (0..queues).cycle().take(usize::from(TABLE)).collect();
        let ports: Vec<MemPort> = ports
            .into_iter()
            .map(|mut port| {
                port.rss.get_or_insert_with(|| (RSS_KEY.to_vec(), table()));
                port
            })
            .collect();
        let lanes = (0..queues).map(|_| MemLane::new(ports.iter().cloned())).collect();
        Self { ports, lanes }
    }

    /// What each worker sees, by queue number.
    #[must_use]
    pub fn lanes(&self) -> &[MemLane] {
        &self.lanes
    }

    /// The same, to work with; they may go to threads of their own.
    pub fn lanes_mut(&mut self) -> &mut [MemLane] {
        &mut self.lanes
    }

    /// What one worker sees.
    pub fn lane(&mut self, queue: u16) -> Option<&mut MemLane> {
        self.lanes.get_mut(usize::from(queue))
    }

    /// The hash of a frame and the queue that it chooses at a port. Addresses and ports count for
    /// TCP and UDP, addresses for fragments and other IP; anything else has no hash and goes to
    /// queue 0.
    #[must_use]
    pub fn steer(&self, port: PortId, frame: &MemBuf) -> (Option<RxHash>, u16) {
        let rss = self.ports.get(port.index()).and_then(|port| port.rss.as_ref());
        let Some((key, table)) = rss else { return (None, 0) };
        let Some((input, kind)) = hash_input(frame) else { return (None, 0) };
        let value = toeplitz(key, &input);
        let index = (value as usize).checked_rem(table.len()).unwrap_or(0);
        let queue = table.get(index).copied().unwrap_or(0);
        (Some(RxHash { value, kind }), queue)
    }

    /// Lets a frame arrive at the lane that its hash chooses, and tells which. The packet carries
    /// the hash.
    ///
    /// # Errors
    /// As [`MemLane::inject`]; also when the table names a queue that does not exist.
    pub fn inject(&mut self, port: PortId, mut frame: MemBuf) -> Result<u16, MemBuf> {
        let (hash, queue) = self.steer(port, &frame);
        frame.meta_mut().rx_hash = hash;
        let Some(lane) = self.lane(queue) else { return Err(frame) };
        lane.inject(port, frame).map(|()| queue)
    }

    /// Takes a frame off the wire, from the first queue that has one.
    pub fn take_sent(&mut self, port: PortId) -> Option<MemBuf> {
        self.lanes.iter_mut().find_map(|lane| lane.take_sent(port))
    }
}

/// What a device feeds its hash with, in network byte order.
fn hash_input(frame: &MemBuf) -> Option<(Vec<u8>, RxHashKind)> {
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame.data(), frame.total_len()) else {
        return None;
    };
    let (src, dst) = headers.addresses(frame.data())?;
    let mut input = Vec::new();
    for ip in [src, dst] {
        match ip {
            IpAddr::V4(v4) => input.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => input.extend_from_slice(&v6.octets()),
        }
    }
    let whole = headers.fragment == Fragment::No;
    let Some(tuple): Option<WireTuple> = headers.tuple.filter(|_| whole) else {
        return Some((input, RxHashKind::L3));
    };
    input.extend_from_slice(&tuple.sport().to_be_bytes());
    input.extend_from_slice(&tuple.dport().to_be_bytes());
    Some((input, RxHashKind::L4))
}
