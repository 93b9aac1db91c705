//! A lane that counts what passes.

extern crate alloc;

use super::pass_on;
use crate::io::{Burst, Caps, IoError, Lane, PacketBuf, PortId, PortInfo, PortStats, WaitReady};
use alloc::vec;
use alloc::vec::Vec;

/// What one port of a [`Counting`] lane saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Their bytes, from the Ethernet header on; a train counts as it is held.
    pub rx_bytes: u64,
    /// Receive calls that gave something.
    pub rx_bursts: u64,
    /// Receive calls that gave nothing.
    pub rx_empty: u64,
    /// Receive calls that failed.
    pub rx_errors: u64,
    /// Packets taken for transmission, rejected ones included.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Transmit calls with at least one packet.
    pub tx_bursts: u64,
    /// Packets that the device had no room for, once per attempt.
    pub tx_left: u64,
    /// Transmit calls that failed.
    pub tx_errors: u64,
}

/// A lane that counts calls, packets and bytes per port, and allocations.
///
/// ```
/// use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
/// use lvs_core::io::middleware::Counting;
/// use lvs_core::io::{Burst, Lane, PortId};
///
/// let mut lane = Counting::new(MemLane::new([MemPort::default()]));
/// lane.inner_mut().inject(PortId(0), MemBuf::from_bytes(&[0; 60])).unwrap();
/// let mut burst = Burst::new();
/// lane.rx_burst(PortId(0), &mut burst).unwrap();
/// let seen = lane.counters(PortId(0)).unwrap();
/// assert_eq!((seen.rx_packets, seen.rx_bytes), (1, 60));
/// ```
#[derive(Debug)]
pub struct Counting<L> {
    inner: L,
    ports: Vec<LaneCounters>,
    allocs: u64,
    alloc_failures: u64,
}

impl<L: Lane> Counting<L> {
    /// Starts at zero.
    #[must_use]
    pub fn new(inner: L) -> Self {
        let ports = vec![LaneCounters::default(); usize::from(inner.port_count())];
        Self { inner, ports, allocs: 0, alloc_failures: 0 }
    }

    /// Counters of a port; `None` where there is no such port.
    #[must_use]
    pub fn counters(&self, port: PortId) -> Option<LaneCounters> {
        self.ports.get(port.index()).copied()
    }

    /// Packets given by [`Lane::alloc`], and requests that it refused.
    #[must_use]
    pub const fn allocations(&self) -> (u64, u64) {
        (self.allocs, self.alloc_failures)
    }

    /// The lane inside.
    #[must_use]
    pub const fn inner(&self) -> &L {
        &self.inner
    }

    /// The lane inside, to change.
    pub const fn inner_mut(&mut self) -> &mut L {
        &mut self.inner
    }
}

fn bytes_of<B: PacketBuf>(packets: &[B]) -> u64 {
    packets.iter().map(|packet| packet.total_len() as u64).sum()
}

impl<L: Lane> Lane for Counting<L> {
    type Buf = L::Buf;

    pass_on!(port_count caps port_info poll_tx free_burst stats);

    fn rx_burst(&mut self, port: PortId, out: &mut Burst<L::Buf>) -> Result<usize, IoError> {
        let before = out.len();
        let outcome = self.inner.rx_burst(port, out);
        if let Some(seen) = self.ports.get_mut(port.index()) {
            match outcome {
                Ok(0) => seen.rx_empty += 1,
                Ok(received) => {
                    seen.rx_bursts += 1;
                    seen.rx_packets += received as u64;
                    seen.rx_bytes += bytes_of(out.get(before..).unwrap_or_default());
                }
                Err(_) => seen.rx_errors += 1,
            }
        }
        outcome
    }

    fn tx_burst(&mut self, port: PortId, pkts: &mut Burst<L::Buf>) -> Result<usize, IoError> {
        let (packets, bytes) = (pkts.len(), bytes_of(pkts));
        let outcome = self.inner.tx_burst(port, pkts);
        if let Some(seen) = self.ports.get_mut(port.index()).filter(|_| packets > 0) {
            seen.tx_bursts += 1;
            seen.tx_left += pkts.len() as u64;
            seen.tx_packets += packets.saturating_sub(pkts.len()) as u64;
            seen.tx_bytes += bytes.saturating_sub(bytes_of(pkts));
            seen.tx_errors += u64::from(outcome.is_err());
        }
        outcome
    }

    fn alloc(&mut self, len: usize) -> Option<L::Buf> {
        let packet = self.inner.alloc(len);
        match packet {
            Some(_) => self.allocs += 1,
            None => self.alloc_failures += 1,
        }
        packet
    }
}

impl<L: WaitReady> WaitReady for Counting<L> {
    fn wait(&mut self, timeout_us: u32) -> Result<(), IoError> {
        self.inner.wait(timeout_us)
    }
}
