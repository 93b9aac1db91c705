//! The NIC's receive hash names the worker: local ports are chosen so that replies arrive where their
//! session is, without a rule in the NIC.
//!
//! ```text
//!   index of a reply = (C(server, local address, server port) xor T(local port)) mod R
//! ```
//! is linear in the local port. `r = log2 R` of the port's low bits have independent columns in T; call the
//! other bits `u`. Toward any one server, (index, u) and port are in one-to-one relation: for each index and
//! each `u` there is exactly one port. So a worker's slots are the pairs of one of *its* indices and a `u`:
//! ```text
//!   slot = rank of the index among this worker's * |U| + u
//! ```
//! and a slot has a port toward every server, no port is lost, and the memory of all workers together is
//! that of one worker alone.

mod bits;
mod index;

pub use index::RssIndex;

use super::{PlanError, PortPlan};
use crate::addr::RealAddr;
use crate::flow::{L4Proto, WireTuple};
use crate::id::WorkerId;
use crate::io::{Rss, RxHash, RxHashKind};
use bits::PortBits;
use core::fmt;
use core::net::IpAddr;
use index::KEY_BYTES;

/// Most entries of an indirection table that does not repeat itself earlier.
const MOST: usize = 512;

/// An entry of the indirection table.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    owner: u8,
    /// How many entries before it are the same worker's.
    rank: u16,
}

/// Receive-side scaling steers replies: see the [module](crate::plan) and the table there.
///
/// Ports are used in whole blocks, as large as the highest bit of the port that is needed to choose an
/// entry: usually the number of distinct entries. [`range`](Self::range) tells which ports remain of those
/// configured; within it none is lost.
///
/// The device must hash addresses and ports of TCP, and of UDP where there are UDP services. Where it
/// hashes the addresses alone (some do for UDP), replies arrive at one worker, which
/// [`owner_of`](PortPlan::owner_of) tells where to hand them.
///
/// ```
/// use lvs_core::{addr::RealAddr, flow::{L4Proto, WireTuple}, id::WorkerId};
/// use lvs_core::io::{Rss, mem::{RSS_KEY, toeplitz}};
/// use lvs_core::plan::{PortPlan, Toeplitz};
/// let table = [0, 1, 2, 3].repeat(32);
/// let rss = Rss { key: &RSS_KEY, table: &table };
/// let plan = Toeplitz::new(rss, 1024, 65535, WorkerId(2), 4)?;
/// assert_eq!(plan.slots(), 64512 / 4);
///
/// let (server, local) = (RealAddr::new([10, 1, 0, 11].into(), 80), [10, 1, 0, 100].into());
/// let port = plan.port_for(7, local, &server).unwrap();
/// let reply = WireTuple::new(L4Proto::Tcp, server.ip(), 80, local, port).unwrap();
/// assert_eq!((plan.slot_of(&reply), plan.owner_of(&reply)), (Some(7), Some(WorkerId(2))));
///
/// // The NIC sends the reply to queue 2.
/// let [high, low] = port.to_be_bytes();
/// let hash = toeplitz(&RSS_KEY, &[10, 1, 0, 11, 10, 1, 0, 100, 0, 80, high, low]);
/// assert_eq!(table[hash as usize % table.len()], 2);
/// # Ok::<(), lvs_core::plan::PlanError>(())
/// ```
#[derive(Clone)]
pub struct Toeplitz {
    index: RssIndex,
    entries: [Entry; MOST],
    /// This worker's indices, in order.
    mine: [u16; MOST],
    indices: u16,
    v4: PortBits,
    v6: PortBits,
    block_bits: u32,
    /// Logarithm of the free combinations within a block.
    free_bits: u32,
    /// First port of the first whole block, and last of the last.
    range: (u16, u16),
    /// Values of `u`.
    per_index: u32,
    worker: u8,
}

impl Toeplitz {
    /// The plan of one worker, for a device with this key and indirection table, whose queue `n` is worker
    /// `n`'s.
    ///
    /// # Errors
    /// [`PlanError`] says what does not fit. With [`PlanError::Rank`] no choice of ports can reach every
    /// worker from every server: use [`LowBits`](super::LowBits) and hand replies over, or set another key.
    pub fn new(
        rss: Rss<'_>,
        first: u16,
        last: u16,
        worker: WorkerId,
        workers: u16,
    ) -> Result<Self, PlanError> {
        if workers == 0 || workers > 256 || u16::from(worker.0) >= workers {
            return Err(PlanError::BadWorker);
        }
        if first == 0 || first > last {
            return Err(PlanError::BadRange);
        }
        if rss.key.len() < KEY_BYTES {
            return Err(PlanError::ShortKey { needed: KEY_BYTES });
        }
        let table = fold(rss.table)?;
        let need = table.len().ilog2();
        let index = RssIndex::new(rss.key, table.len());
        let rank = |bits::Deficient(have)| PlanError::Rank { have, need: need as u8 };
        let v4 = PortBits::new(&index.port_columns(false), need).map_err(rank)?;
        let v6 = PortBits::new(&index.port_columns(true), need).map_err(rank)?;
        let block_bits = v4.block_bits().max(v6.block_bits());
        let range = whole_blocks(first, last, block_bits).ok_or(PlanError::BadRange)?;
        let ports = u32::from(range.1).wrapping_sub(u32::from(range.0)).wrapping_add(1);
        let (entries, mine, indices) = divide(table, worker, workers)?;
        Ok(Self {
            index,
            entries,
            mine,
            indices,
            v4: v4.within(block_bits),
            v6: v6.within(block_bits),
            block_bits,
            free_bits: block_bits.wrapping_sub(need),
            range,
            per_index: ports >> need,
            worker: worker.0,
        })
    }

    /// First and last port that are used: whole blocks of those configured.
    #[must_use]
    pub const fn range(&self) -> (u16, u16) {
        self.range
    }

    /// The worker whose queue gets a packet of which the device hashes addresses and ports.
    #[must_use]
    pub fn queue_of(&self, packet: &WireTuple) -> Option<WorkerId> {
        self.owner(self.index.of(packet))
    }

    /// The worker whose queue gets a packet of which the device hashes the addresses alone: a fragment, an
    /// ICMP message. `None` when the families differ.
    #[must_use]
    pub fn queue_of_addresses(&self, src: IpAddr, dst: IpAddr) -> Option<WorkerId> {
        self.owner(self.index.of_addresses(src, dst)?)
    }

    fn owner(&self, index: u16) -> Option<WorkerId> {
        self.entries.get(usize::from(index)).map(|entry| WorkerId(entry.owner))
    }

    const fn bits(&self, v6: bool) -> &PortBits {
        if v6 { &self.v6 } else { &self.v4 }
    }

    #[inline]
    fn in_range(&self, port: u16) -> bool {
        (self.range.0..=self.range.1).contains(&port)
    }

    #[inline]
    fn slot_at(&self, reply: &WireTuple, index: u16) -> Option<u32> {
        let port = reply.dport();
        let entry = self.entries.get(usize::from(index))?;
        if entry.owner != self.worker || !self.in_range(port) {
            return None;
        }
        let above = u32::from(port).wrapping_sub(u32::from(self.range.0));
        let block = above.wrapping_shr(self.block_bits);
        let free = self.bits(matches!(reply, WireTuple::V6(_))).gather(port);
        let u = block.wrapping_shl(self.free_bits) | free;
        Some(u32::from(entry.rank).wrapping_mul(self.per_index).wrapping_add(u))
    }
}

impl PortPlan for Toeplitz {
    fn slots(&self) -> u32 {
        u32::from(self.indices).wrapping_mul(self.per_index)
    }

    fn port_for(&self, slot: u32, local: IpAddr, server: &RealAddr) -> Option<u16> {
        let rank = slot.checked_div(self.per_index)?;
        let u = slot.checked_rem(self.per_index)?;
        if rank >= u32::from(self.indices) {
            return None;
        }
        let wanted = *self.mine.get(rank as usize)?;
        let bits = self.bits(local.is_ipv6());
        let block = u.wrapping_shr(self.free_bits).wrapping_shl(self.block_bits);
        let free = bits.scatter(u & 1u32.wrapping_shl(self.free_bits).wrapping_sub(1));
        let port = u16::try_from(u32::from(self.range.0).checked_add(block)?).ok()? | free;
        // The protocol is not hashed.
        let without = WireTuple::new(L4Proto::Tcp, server.ip(), server.port(), local, port)?;
        Some(port ^ bits.solve(self.index.of(&without) ^ wanted))
    }

    fn slot_of(&self, reply: &WireTuple) -> Option<u32> {
        self.slot_at(reply, self.index.of(reply))
    }

    fn owner_of(&self, reply: &WireTuple) -> Option<WorkerId> {
        if self.in_range(reply.dport()) { self.queue_of(reply) } else { None }
    }

    fn slot_of_hashed(&self, reply: &WireTuple, hash: RxHash) -> Option<u32> {
        match hash.kind {
            RxHashKind::L4 => self.slot_at(reply, self.index.of_hash(hash.value)),
            RxHashKind::L3 => self.slot_of(reply),
        }
    }

    fn arrival_of(&self, packet: &WireTuple) -> Option<WorkerId> {
        // Of ICMP devices hash the addresses alone.
        if packet.proto() == L4Proto::Icmp {
            return self.queue_of_addresses(packet.src(), packet.dst());
        }
        self.queue_of(packet)
    }
}

impl fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Toeplitz")
            .field("worker", &self.worker)
            .field("range", &self.range)
            .field("indices", &self.indices)
            .field("per_index", &self.per_index)
            .finish_non_exhaustive()
    }
}

/// The table without its repetitions: a table of 128 entries that names four queues in turn is one of four.
/// Fewer bits must then be independent, and blocks of ports are smaller.
fn fold(table: &[u16]) -> Result<&[u16], PlanError> {
    if !table.len().is_power_of_two() {
        return Err(PlanError::BadTable);
    }
    let mut table = table;
    while let Some((low, high)) = table.split_at_checked(table.len() / 2)
        && !low.is_empty()
        && low == high
    {
        table = low;
    }
    if table.len() > MOST { Err(PlanError::BadTable) } else { Ok(table) }
}

/// The part of a range of ports that is whole blocks; `None` when there is none.
fn whole_blocks(first: u16, last: u16, block_bits: u32) -> Option<(u16, u16)> {
    let block = 1u32.checked_shl(block_bits)?;
    let start = u32::from(first).checked_next_multiple_of(block)?;
    let end = u32::from(last).wrapping_add(1) & !block.wrapping_sub(1);
    if start >= end {
        return None;
    }
    Some((u16::try_from(start).ok()?, u16::try_from(end.wrapping_sub(1)).ok()?))
}

type Division = ([Entry; MOST], [u16; MOST], u16);

/// Who owns which index.
fn divide(table: &[u16], worker: WorkerId, workers: u16) -> Result<Division, PlanError> {
    let (mut entries, mut mine, mut indices) = ([Entry::default(); MOST], [0; MOST], 0u16);
    let mut counts = [0u16; 256];
    for (index, (queue, entry)) in (0u16..).zip(table.iter().zip(&mut entries)) {
        let owner = u8::try_from(*queue).ok().filter(|_| *queue < workers);
        let owner = owner.ok_or(PlanError::BadQueue { queue: *queue })?;
        let count = counts.get_mut(usize::from(owner)).ok_or(PlanError::BadWorker)?;
        *entry = Entry { owner, rank: *count };
        *count = count.wrapping_add(1);
        if owner == worker.0
            && let Some(place) = mine.get_mut(usize::from(indices))
        {
            *place = index;
            indices = indices.wrapping_add(1);
        }
    }
    // Every worker sees the same fault, so that all of them fall back together.
    let idle = (0..workers).zip(&counts).find(|(_, count)| **count == 0);
    if let Some((queue, _)) = idle {
        return Err(PlanError::BadQueue { queue });
    }
    Ok((entries, mine, indices))
}

#[cfg(test)]
mod tests;
