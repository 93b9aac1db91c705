//! Port plans: the local port of a FullNAT session says where the session is.
//!
//! A server answers to (local address, local port). When the port is chosen so that it encodes the
//! session's slot, the reply needs no hash and no second directory entry, and any worker can tell which
//! worker owns a reply. A plan is pure arithmetic; two shapes exist: [`Whole`] and [`LowBits`]. Your own
//! is equal to them.
//!
//! Slots count from zero within one local address.

use crate::addr::RealAddr;
use crate::flow::WireTuple;
use crate::id::WorkerId;
use core::fmt;
use core::net::IpAddr;

/// Which local port belongs to which slot.
///
/// Laws, for every local address `l` and server `s`: `slot_of(reply(s, l, port_for(n, l, s))) == Some(n)`
/// for each `n < slots()` for which `port_for` answers, and `owner_of` of that reply is this worker.
pub trait PortPlan {
    /// Slots this worker has on each local address.
    fn slots(&self) -> u32;
    /// The local port of slot `slot` toward `server`; `None` when the slot has no port there.
    fn port_for(&self, slot: u32, local: IpAddr, server: &RealAddr) -> Option<u16>;
    /// The slot that a packet from a server to a local address belongs to; `None` when its destination
    /// port is not one of this worker's.
    fn slot_of(&self, reply: &WireTuple) -> Option<u32>;
    /// The worker that owns a packet from a server to a local address; `None` when nobody does.
    fn owner_of(&self, reply: &WireTuple) -> Option<WorkerId>;
}

/// The range of local ports cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// First port above last port, or port 0.
    BadRange,
    /// More than 256 workers, no worker, or a worker number beyond the count.
    BadWorker,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRange => "local ports must be a range first-last with 1 <= first <= last",
            Self::BadWorker => "the worker number must be below the number of workers",
        })
    }
}
impl core::error::Error for PlanError {}

/// One worker owns every port of its local addresses: `port = first + slot`.
///
/// ```
/// use lvs_core::addr::RealAddr;
/// use lvs_core::plan::{PortPlan, Whole};
/// let plan = Whole::new(1025, 65535)?;
/// let server = RealAddr::new([10, 1, 0, 11].into(), 80);
/// assert_eq!(plan.slots(), 64511);
/// assert_eq!(plan.port_for(7, [10, 1, 0, 100].into(), &server), Some(1032));
/// # Ok::<(), lvs_core::plan::PlanError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    first: u16,
    last: u16,
    owner: WorkerId,
}

impl Whole {
    /// Ports `first..=last`, owned by worker 0.
    ///
    /// # Errors
    /// [`PlanError::BadRange`].
    pub const fn new(first: u16, last: u16) -> Result<Self, PlanError> {
        if first == 0 || first > last {
            return Err(PlanError::BadRange);
        }
        Ok(Self { first, last, owner: WorkerId(0) })
    }
}

impl Default for Whole {
    /// Ports 1025 to 65535, as DPVS.
    fn default() -> Self {
        Self { first: 1025, last: 65535, owner: WorkerId(0) }
    }
}

impl PortPlan for Whole {
    fn slots(&self) -> u32 {
        u32::from(self.last).wrapping_sub(u32::from(self.first)).wrapping_add(1)
    }

    fn port_for(&self, slot: u32, _local: IpAddr, _server: &RealAddr) -> Option<u16> {
        let port = u16::try_from(u32::from(self.first).checked_add(slot)?).ok()?;
        (port <= self.last).then_some(port)
    }

    fn slot_of(&self, reply: &WireTuple) -> Option<u32> {
        let port = reply.dport();
        if port > self.last { None } else { port.checked_sub(self.first).map(u32::from) }
    }

    fn owner_of(&self, reply: &WireTuple) -> Option<WorkerId> {
        self.slot_of(reply).map(|_| self.owner)
    }
}

/// The low bits of the port name the worker: `port mod 2^bits`. Steered by an AF_PACKET fanout program
/// or a flow rule. Residues beyond the number of workers stay unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowBits {
    /// First port of the range with this worker's residue.
    first: u16,
    slots: u32,
    bits: u32,
    worker: u8,
    workers: u16,
    range: (u16, u16),
}

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
        })
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::L4Proto;
    use std::collections::HashMap;
    use std::vec::Vec;

    const LOCAL: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 0, 100));

    fn server() -> RealAddr {
        RealAddr::new([10, 1, 0, 11].into(), 80)
    }

    fn reply(port: u16) -> WireTuple {
        WireTuple::new(L4Proto::Tcp, server().ip(), 80, LOCAL, port).unwrap()
    }

    fn obeys_the_laws(plan: &impl PortPlan, me: WorkerId) -> Vec<u16> {
        let mut ports = Vec::new();
        for slot in 0..plan.slots() {
            let port = plan.port_for(slot, LOCAL, &server()).unwrap();
            assert_eq!(plan.slot_of(&reply(port)), Some(slot));
            assert_eq!(plan.owner_of(&reply(port)), Some(me));
            ports.push(port);
        }
        assert_eq!(plan.port_for(plan.slots(), LOCAL, &server()), None);
        ports
    }

    #[test]
    fn whole_gives_every_port_of_the_range_once() {
        let plan = Whole::new(1025, 65535).unwrap();
        assert_eq!(obeys_the_laws(&plan, WorkerId(0)), (1025..=65535).collect::<Vec<_>>());
        assert_eq!(plan.slot_of(&reply(1024)), None);
        let one = Whole::new(65535, 65535).unwrap();
        assert_eq!(obeys_the_laws(&one, WorkerId(0)), [65535]);
        assert_eq!(Whole::new(0, 9), Err(PlanError::BadRange));
        assert_eq!(Whole::new(9, 8), Err(PlanError::BadRange));
    }

    #[test]
    fn low_bits_shares_the_range_without_overlap() {
        for (workers, first, last) in
            [(1u16, 1025u16, 2000u16), (2, 1025, 65535), (3, 5000, 5100), (8, 1, 65535)]
        {
            let mut owner: HashMap<u16, u8> = HashMap::new();
            for worker in 0..u8::try_from(workers).unwrap() {
                let plan = LowBits::new(first, last, WorkerId(worker), workers).unwrap();
                for port in obeys_the_laws(&plan, WorkerId(worker)) {
                    assert!((first..=last).contains(&port));
                    assert_eq!(owner.insert(port, worker), None, "port {port} twice");
                }
            }
            let all = LowBits::new(first, last, WorkerId(0), workers).unwrap();
            for port in first..=last {
                assert_eq!(all.owner_of(&reply(port)).map(|w| w.0), owner.get(&port).copied());
            }
        }
    }

    #[test]
    fn low_bits_refuses_what_cannot_work() {
        assert_eq!(LowBits::new(10, 20, WorkerId(2), 2), Err(PlanError::BadWorker));
        assert_eq!(LowBits::new(10, 20, WorkerId(0), 0), Err(PlanError::BadWorker));
        assert_eq!(LowBits::new(10, 10, WorkerId(1), 2), Err(PlanError::BadRange));
    }
}
