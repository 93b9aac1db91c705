//! Packets on their way out, by port, in order.

use alloc::boxed::Box;
use core::fmt;
use lvs_core::io::{Burst, Lane, PacketBuf, PortId};

/// Most ports of one director.
pub const MAX_PORTS: u16 = 64;

/// One transmit burst per port, made once and used again.
pub struct Outputs<B> {
    ports: Box<[Burst<B>]>,
    dropped: u64,
}

impl<B: PacketBuf> Outputs<B> {
    /// For ports `0..ports`, at most [`MAX_PORTS`].
    #[must_use]
    pub fn new(ports: u16) -> Self {
        Self { ports: (0..ports.min(MAX_PORTS)).map(|_| Burst::new()).collect(), dropped: 0 }
    }

    /// What waits for a port.
    pub fn port(&mut self, port: PortId) -> Option<&mut Burst<B>> {
        self.ports.get_mut(port.index())
    }

    /// Queues a packet; a full burst is first offered to the device.
    ///
    /// # Errors
    /// Gives the packet back when the device takes nothing, or there is no such port.
    pub(crate) fn push<L: Lane<Buf = B>>(
        &mut self,
        lane: &mut L,
        port: PortId,
        packet: B,
    ) -> Result<(), B> {
        let Some(burst) = self.ports.get_mut(port.index()) else { return Err(packet) };
        if burst.room() == 0 {
            // An error of the device shows as a burst that stays full.
            let _ = lane.tx_burst(port, burst);
        }
        burst.push(packet)
    }

    /// Offers everything to the devices; what they do not take now stays for the next call, or is
    /// dropped and counted on a port that cannot transmit at all.
    pub fn flush<L: Lane<Buf = B>>(&mut self, lane: &mut L) {
        for (number, burst) in (0u16..).zip(self.ports.iter_mut()) {
            if burst.is_empty() {
                continue;
            }
            if lane.tx_burst(PortId(number), burst).is_err() {
                self.dropped = self.dropped.wrapping_add(burst.len() as u64);
                lane.free_burst(burst);
            }
            lane.poll_tx(PortId(number));
        }
    }

    /// Packets dropped behind their verdict, because their port could not transmit at all.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Packets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ports.iter().fold(0, |sum, burst| sum.saturating_add(burst.len()))
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<B> fmt::Debug for Outputs<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ports.iter().map(|burst| burst.len())).finish()
    }
}
