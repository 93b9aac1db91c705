//! The low bits of the local port name the worker.

use super::{PlanError, PortPlan};
use crate::addr::RealAddr;
use crate::flow::WireTuple;
use crate::id::WorkerId;
use core::net::IpAddr;

/// The low bits of the port name the worker: `port mod 2^bits`. Steered by an AF_PACKET fanout program
/// or a flow rule. Residues beyond the number of workers stay unused.
///
/// ```
/// use lvs_core::{addr::RealAddr, id::WorkerId, plan::{LowBits, PortPlan}};
/// let second = LowBits::new(1024, 65535, WorkerId(1), 4)?;
/// let server = RealAddr::new([10, 1, 0, 11].into(), 80);
/// assert_eq!(second.slots(), 16128); // a quarter
/// assert_eq!(second.port_for(2, [10, 1, 0, 100].into(), &server), Some(1033));
/// # Ok::<(), lvs_core::plan::PlanError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowBits {
    /// First port of the range with this worker's residue.
    first: u16,
    slots: u32,
    bits: u32,
    worker: u8,
    workers: u16,
    range: (u16, u16),
    fanout: bool,
}

/// Spreads hash input over the high bits (the golden ratio), which are then used.
const MIX: u32 = 0x9e37_79b1;

impl LowBits {
    /// The ports of `first..=last` whose low bits are `worker`, out of `workers` workers.
    ///
    /// # Errors
    /// [`PlanError`] when the range is empty for this worker or the worker number is out of range.
    pub fn new(first: u16, last: u16, worker: WorkerId, workers: u16) -> Result<Self, PlanError> {
        if workers == 0 || workers > 256 || u16::from(worker.0) >= workers {
            return Err(PlanError::BadWorker);
        }
        if first == 0 || first > last {
            return Err(PlanError::BadRange);
        }
        let bits = workers.next_power_of_two().trailing_zeros();
        let step = 1u32 << bits;
        let residue = u32::from(worker.0);
        let up = residue.wrapping_sub(u32::from(first)) & (step - 1);
        let start = u32::from(first) + up;
        if start > u32::from(last) {
            return Err(PlanError::BadRange);
        }
        Ok(Self {
            first: u16::try_from(start).map_err(|_| PlanError::BadRange)?,
            slots: ((u32::from(last) - start) >> bits) + 1,
            bits,
            worker: worker.0,
            workers,
            range: (first, last),
            fanout: false,
        })
    }

    /// The same, where a fanout program spreads all packets that are no replies by
    /// [`fanout_member`](Self::fanout_member), so that the plan knows their worker too.
    #[must_use]
    pub const fn with_fanout(mut self) -> Self {
        self.fanout = true;
        self
    }

    /// The member of a fanout group of `members` that gets packets of this client: the upper 16 bits of
    /// (port xor each 32-bit word of the address) times the golden ratio, modulo the members. What the
    /// program of `lvs-io-afpacket` computes in the kernel.
    #[must_use]
    pub fn fanout_member(ip: IpAddr, port: u16, members: u16) -> u16 {
        let words = match ip {
            IpAddr::V4(v4) => v4.to_bits(),
            IpAddr::V6(v6) => {
                let octets = v6.octets();
                let (words, _) = octets.as_chunks::<4>();
                words.iter().fold(0, |sum, word| sum ^ u32::from_be_bytes(*word))
            }
        };
        let mixed = (words ^ u32::from(port)).wrapping_mul(MIX) >> 16;
        let member = mixed.checked_rem(u32::from(members)).unwrap_or(0);
        u16::try_from(member).unwrap_or(0)
    }
}

impl PortPlan for LowBits {
    fn slots(&self) -> u32 {
        self.slots
    }

    fn port_for(&self, slot: u32, _local: IpAddr, _server: &RealAddr) -> Option<u16> {
        if slot >= self.slots {
            return None;
        }
        u16::try_from(u32::from(self.first).wrapping_add(slot.wrapping_shl(self.bits))).ok()
    }

    fn slot_of(&self, reply: &WireTuple) -> Option<u32> {
        if self.owner_of(reply)? != WorkerId(self.worker) {
            return None;
        }
        let above = u32::from(reply.dport()).checked_sub(u32::from(self.first))?;
        Some(above.wrapping_shr(self.bits))
    }

    fn owner_of(&self, reply: &WireTuple) -> Option<WorkerId> {
        let port = reply.dport();
        if port < self.range.0 || port > self.range.1 {
            return None;
        }
        let residue = u32::from(port) & 1u32.wrapping_shl(self.bits).wrapping_sub(1);
        u8::try_from(residue).ok().filter(|n| u16::from(*n) < self.workers).map(WorkerId)
    }

    fn arrival_of(&self, packet: &WireTuple) -> Option<WorkerId> {
        if !self.fanout {
            return None;
        }
        let member = Self::fanout_member(packet.src(), packet.sport(), self.workers);
        u8::try_from(member).ok().map(WorkerId)
    }
}
