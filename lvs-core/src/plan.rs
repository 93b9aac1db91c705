//! Port plans: the local port of a FullNAT session says where the session is.
//!
//! A server answers to (local address, local port). When the port is chosen so that it encodes the
//! session's slot, the reply needs no hash and no second directory entry, and any worker can tell which
//! worker owns a reply. A plan is pure arithmetic:
//!
//! | plan | worker that owns a reply | delivered to it by |
//! |---|---|---|
//! | [`Whole`] | the only one | anything |
//! | [`LowBits`] | the low bits of the local port | an AF_PACKET fanout program, flow rules of a NIC |
//! | [`Toeplitz`] | the NIC's receive hash of the reply | receive-side scaling of any NIC, no rule needed |
//!
//! [`AnyPlan`] is one of them, chosen when the program runs. Your own plan is equal to them.
//!
//! Slots count from zero within one local address.

mod any;
mod fragment;
mod low_bits;
mod toeplitz;

pub use any::AnyPlan;
pub use fragment::fragment_owner;
pub use low_bits::LowBits;
pub use toeplitz::{RssIndex, Toeplitz};

use crate::addr::RealAddr;
use crate::flow::WireTuple;
use crate::id::WorkerId;
use crate::io::RxHash;
use core::fmt;
use core::net::IpAddr;

/// Which local port belongs to which slot.
///
/// Laws, for every local address `l` and server `s` of one family:
/// 1. Each slot `n < slots()` has a port toward any server: `port_for(n, l, s)` answers. A session that was
///    given the slot can so be opened toward whatever server was chosen.
/// 2. `slot_of(reply(s, l, port_for(n, l, s))) == Some(n)`. So two slots of one local address never have
///    the same port toward the same server, and no two live sessions share local address, local port,
///    server address and server port.
/// 3. `owner_of` of that reply is this worker, and every worker's plan names the same owner.
///
/// A plan of your own may break the first law where it has to: opening then tries the next slots in turn.
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

    /// As [`slot_of`](Self::slot_of), with the hash that the device computed of the packet, so that a plan
    /// which is made of that hash need not compute it again. A hash that is not the device's makes a slot
    /// whose session is another one, never a wrong session: its key is compared.
    fn slot_of_hashed(&self, reply: &WireTuple, hash: RxHash) -> Option<u32> {
        let _ = hash;
        self.slot_of(reply)
    }

    /// The worker that owns the session of a packet which this side sent to a server, as an ICMP error
    /// quotes it.
    fn owner_of_quoted(&self, quoted: &WireTuple) -> Option<WorkerId> {
        self.owner_of(&quoted.reverse())
    }

    /// The worker to which the device delivers an ordinary packet of this tuple that is not a reply to a
    /// local address: who opened its session. `None` when the plan does not know.
    fn arrival_of(&self, packet: &WireTuple) -> Option<WorkerId> {
        let _ = packet;
        None
    }
}

/// The range of local ports cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// First port above last port, or port 0.
    BadRange,
    /// More than 256 workers, no worker, or a worker number beyond the count.
    BadWorker,
    /// The indirection table's length is no power of two, or more than 512 entries do not repeat.
    BadTable,
    /// The indirection table names a queue that is no worker's, or leaves this worker out.
    BadQueue {
        /// The queue without worker, or the worker without entry.
        queue: u16,
    },
    /// The key is too short for the longest packet header that is hashed.
    ShortKey {
        /// Bytes that it needs.
        needed: usize,
    },
    /// The key does not let the local port choose every entry of the indirection table.
    Rank {
        /// Independent bits that the port chooses.
        have: u8,
        /// Bits of an index into the table.
        need: u8,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRange => f.write_str(
                "local ports must be a range first-last with 1 <= first <= last, wide enough for every \
                 worker to own some",
            ),
            Self::BadWorker => f.write_str("the worker number must be below the number of workers"),
            Self::BadTable => f.write_str(
                "the indirection table needs a power of two of entries, at most 512 before it repeats",
            ),
            Self::BadQueue { queue } => write!(
                f,
                "the indirection table and the workers do not match at queue {queue}: set as many \
                 queues as workers, each named in the table",
            ),
            Self::ShortKey { needed } => {
                write!(f, "the receive hash key is shorter than {needed} bytes; set a longer one")
            }
            Self::Rank { have, need } => write!(
                f,
                "the receive hash key lets the port choose {have} of {need} bits; set another key",
            ),
        }
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

    fn arrival_of(&self, _packet: &WireTuple) -> Option<WorkerId> {
        Some(self.owner)
    }
}

#[cfg(test)]
mod tests;
