//! Packets on their way: bursts that are not concluded yet, and what leaves, by port, in order.

use crate::flight::{Flight, Stage};
use alloc::boxed::Box;
use core::fmt;
use lvs_core::io::{Burst, Lane, PacketBuf, PortId};

/// Most ports of one director.
pub const MAX_PORTS: u16 = 64;

/// One transmit burst per port, made once and used again, and up to [`DEPTH`](crate::DEPTH) bursts under way.
pub struct Outputs<B> {
    pub(crate) flight: Flight<B>,
    pub(crate) ports: Ports<B>,
    dropped: u64,
}

impl<B: PacketBuf> Outputs<B> {
    /// For ports `0..ports`, at most [`MAX_PORTS`].
    #[must_use]
    pub fn new(ports: u16) -> Self {
        let flight = Flight::new();
        Self {
            flight,
            ports: Ports((0..ports.min(MAX_PORTS)).map(|_| Burst::new()).collect()),
            dropped: 0,
        }
    }

    /// What waits for a port.
    pub fn port(&mut self, port: PortId) -> Option<&mut Burst<B>> {
        self.ports.0.get_mut(port.index())
    }

    /// Queues a packet; a full burst is first offered to the device.
    ///
    /// # Errors
    /// Gives the packet back when the device takes nothing, or there is no such port.
    #[inline(always)]
    pub(crate) fn push<L: Lane<Buf = B>>(
        &mut self,
        lane: &mut L,
        port: PortId,
        packet: B,
    ) -> Result<(), B> {
        let Some(burst) = self.ports.0.get_mut(port.index()) else { return Err(packet) };
        if burst.room() == 0 {
            // An error of the device shows as a burst that stays full.
            let _ = lane.tx_burst(port, burst);
        }
        burst.push(packet)
    }

    /// Offers everything to the devices; what they do not take now stays for the next call, or is
    /// dropped and counted on a port that cannot transmit at all.
    pub fn flush<L: Lane<Buf = B>>(&mut self, lane: &mut L) {
        for (number, burst) in (0u16..).zip(self.ports.0.iter_mut()) {
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

    /// Packets of bursts that are under way and have no verdict yet: the next call of
    /// [`Director::process`](crate::Director::process) with a burst that is not full takes them along.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.flight.packets()
    }

    /// Packets that wait for transmission.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ports.0.iter().fold(0, |sum, burst| sum.saturating_add(burst.len()))
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What waits for each port.
pub(crate) struct Ports<B>(Box<[Burst<B>]>);

impl<B: PacketBuf> Ports<B> {
    /// Whether a port can take so many packets. When not, what waits is first offered to the device.
    pub(crate) fn make_room<L: Lane<Buf = B>>(
        &mut self,
        lane: &mut L,
        port: PortId,
        count: usize,
    ) -> bool {
        let Some(burst) = self.0.get_mut(port.index()) else { return false };
        if burst.room() < count {
            // An error of the device shows as packets that stay.
            let _ = lane.tx_burst(port, burst);
        }
        burst.room() >= count
    }

    /// Queues all packets of a burst for the one port that they leave by, if there is one and room.
    pub(crate) fn append_all(&mut self, stage: &mut Stage<B>) -> bool {
        let port = stage.only_port().map(usize::from);
        match port.and_then(|port| self.0.get_mut(port)) {
            Some(burst) if burst.room() >= stage.burst.len() => {
                burst.append(&mut stage.burst);
                true
            }
            _ => false,
        }
    }

    /// Queues a packet for which there is [room](Self::make_room), else gives it back.
    #[inline(always)]
    pub(crate) fn append(&mut self, port: PortId, packet: B) -> Option<B> {
        match self.0.get_mut(port.index()) {
            Some(burst) => burst.push(packet).err(),
            None => Some(packet),
        }
    }
}

impl<B> fmt::Debug for Outputs<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ports.0.iter().map(|burst| burst.len())).finish()
    }
}
