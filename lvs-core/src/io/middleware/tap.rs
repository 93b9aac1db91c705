//! A lane that shows every packet to a closure.

extern crate alloc;

use super::pass_on;
use crate::io::{
    Burst, Caps, Gso, IoError, L4Csum, Lane, PacketBuf, PortId, PortInfo, PortStats, Vlan,
    WaitReady,
};
use alloc::vec::Vec;

/// Which way a tapped packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TapDirection {
    /// Received from the wire.
    Rx,
    /// Taken by the device for transmission.
    Tx,
}

/// What a [`Tap`] shows of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tapped<'a> {
    /// Which way it goes.
    pub direction: TapDirection,
    /// At which port.
    pub port: PortId,
    /// Its first contiguous part, cut to the snap length.
    pub data: &'a [u8],
    /// Its whole length on the wire.
    pub total_len: usize,
    /// State of the L4 checksum field: a partial one looks wrong in a capture.
    pub l4_csum: L4Csum,
    /// The tag that is not in `data`.
    pub vlan: Option<Vlan>,
    /// Segment train.
    pub gso: Option<Gso>,
}

/// A lane that calls `show` once for each packet it receives and each packet its device takes.
///
/// A packet that stays in the burst because the device is full is shown when it is taken. Sent
/// bytes are copied first, because they are the device's afterwards: a tap costs a copy.
///
/// ```
/// use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
/// use lvs_core::io::middleware::{Tap, Tapped};
/// use lvs_core::io::{Burst, Lane, PortId};
///
/// let mut seen = Vec::new();
/// let inner = MemLane::new([MemPort::default()]);
/// let mut lane = Tap::new(inner, |packet: &Tapped<'_>| {
///     seen.push((packet.direction, packet.data.len()));
/// });
/// lane.inner_mut().inject(PortId(0), MemBuf::from_bytes(&[0; 60])).unwrap();
/// let mut burst = Burst::new();
/// lane.rx_burst(PortId(0), &mut burst).unwrap();
/// lane.tx_burst(PortId(0), &mut burst).unwrap();
/// drop(lane);
/// assert_eq!(seen.len(), 2);
/// ```
#[derive(Debug)]
pub struct Tap<L, F> {
    inner: L,
    show: F,
    snap: usize,
    bytes: Vec<u8>,
    kept: Vec<Kept>,
}

/// What is remembered of a packet while the device decides.
#[derive(Clone, Copy, Debug)]
struct Kept {
    end: usize,
    total_len: usize,
    l4_csum: L4Csum,
    vlan: Option<Vlan>,
    gso: Option<Gso>,
}

impl<L: Lane, F: FnMut(&Tapped<'_>)> Tap<L, F> {
    /// Shows whole packets.
    pub fn new(inner: L, show: F) -> Self {
        Self { inner, show, snap: usize::MAX, bytes: Vec::new(), kept: Vec::new() }
    }

    /// Shows, and copies, at most this many bytes of each packet.
    #[must_use]
    pub fn snap(mut self, bytes: usize) -> Self {
        self.snap = bytes;
        self
    }

    /// The lane inside.
    pub const fn inner(&self) -> &L {
        &self.inner
    }

    /// The lane inside, to change.
    pub const fn inner_mut(&mut self) -> &mut L {
        &mut self.inner
    }

    fn remember(&mut self, packets: &[L::Buf]) {
        self.bytes.clear();
        self.kept.clear();
        for packet in packets {
            self.bytes.extend(packet.data().iter().take(self.snap));
            self.kept.push(Kept {
                end: self.bytes.len(),
                total_len: packet.total_len(),
                l4_csum: packet.l4_csum(),
                vlan: packet.vlan(),
                gso: packet.gso(),
            });
        }
    }
}

fn show_one<B: PacketBuf>(
    packet: &B,
    snap: usize,
    port: PortId,
    show: &mut impl FnMut(&Tapped<'_>),
) {
    let data = packet.data();
    show(&Tapped {
        direction: TapDirection::Rx,
        port,
        data: data.get(..snap).unwrap_or(data),
        total_len: packet.total_len(),
        l4_csum: packet.l4_csum(),
        vlan: packet.vlan(),
        gso: packet.gso(),
    });
}

impl<L: Lane, F: FnMut(&Tapped<'_>)> Lane for Tap<L, F> {
    type Buf = L::Buf;

    pass_on!(port_count caps port_info poll_tx alloc free_burst stats);

    fn rx_burst(&mut self, port: PortId, out: &mut Burst<L::Buf>) -> Result<usize, IoError> {
        let before = out.len();
        let received = self.inner.rx_burst(port, out)?;
        for packet in out.iter().skip(before) {
            show_one(packet, self.snap, port, &mut self.show);
        }
        Ok(received)
    }

    fn tx_burst(&mut self, port: PortId, pkts: &mut Burst<L::Buf>) -> Result<usize, IoError> {
        self.remember(pkts);
        let outcome = self.inner.tx_burst(port, pkts);
        let taken = self.kept.len().saturating_sub(pkts.len());
        let mut start = 0;
        for kept in self.kept.iter().take(taken) {
            (self.show)(&Tapped {
                direction: TapDirection::Tx,
                port,
                data: self.bytes.get(start..kept.end).unwrap_or_default(),
                total_len: kept.total_len,
                l4_csum: kept.l4_csum,
                vlan: kept.vlan,
                gso: kept.gso,
            });
            start = kept.end;
        }
        outcome
    }
}

impl<L: WaitReady, F: FnMut(&Tapped<'_>)> WaitReady for Tap<L, F> {
    fn wait(&mut self, timeout_us: u32) -> Result<(), IoError> {
        self.inner.wait(timeout_us)
    }
}
