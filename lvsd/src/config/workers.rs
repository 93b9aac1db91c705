//! What each of several workers gets: its part of the local ports, of the sessions, of the memory, and of
//! the packets.

use super::build::BuildError;
use super::model::Config;
use super::range::AddressRange;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use lvs_core::addr::Family;
use lvs_core::id::WorkerId;
use lvs_core::plan::LowBits;
use lvs_core::session::{MEMORY_ALIGN, SessionStore, StoreConfig};
use lvs_io_afpacket::{FanoutMode, LocalNet};

/// Networks that one program can tell apart, by family: the kernel takes 4096 instructions, and each network
/// needs 4 or at most 13.
const MOST_INSTRUCTIONS: usize = 3500;

impl Config {
    /// The local ports of one worker.
    ///
    /// # Errors
    /// [`BuildError::Plan`]: fewer ports than workers, or no such worker.
    pub fn worker_plan(&self, worker: WorkerId) -> Result<LowBits, BuildError> {
        let ports = self.pools.first().map(|pool| pool.ports.value);
        let (first, last) = ports.map_or((1025, 65535), |ports| (ports.first(), ports.last()));
        let plan = LowBits::new(first, last, worker, self.director.workers);
        plan.map(LowBits::with_fanout).map_err(BuildError::Plan)
    }

    /// The size of one worker's session store; its secrets follow from `seed`.
    #[must_use]
    pub fn worker_store(&self, seed: u64) -> StoreConfig {
        let mut store = self.store_config(seed);
        for table in [&mut store.v4, &mut store.v6] {
            table.general = table.general.div_ceil(u32::from(self.director.workers).max(1));
        }
        store
    }

    /// Bytes of memory that the session store of each worker takes, in the order of their numbers. Each part
    /// is aligned behind the one before.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn worker_memory(&self) -> Result<Vec<usize>, BuildError> {
        let store = self.worker_store(0);
        (0..=u8::MAX)
            .take(self.director.workers.into())
            .map(|worker| {
                let plan = self.worker_plan(WorkerId(worker))?;
                SessionStore::memory_for(&store, &plan)
                    .and_then(|bytes| bytes.checked_next_multiple_of(MEMORY_ALIGN))
                    .ok_or(BuildError::TooManySessions)
            })
            .collect()
    }

    /// Bytes of memory that `lvsd run` takes for the sessions of all workers.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn run_memory(&self) -> Result<usize, BuildError> {
        let parts = self.worker_memory()?;
        let sum = parts.into_iter().try_fold(0usize, usize::checked_add);
        sum.ok_or(BuildError::TooManySessions)
    }

    /// How packets are spread over the workers: replies to local addresses by their port, clients by their
    /// address and port, and what NAT servers answer as their clients.
    ///
    /// # Errors
    /// [`BuildError::Steering`]: the local and virtual addresses are in too many places.
    pub fn fanout(&self) -> Result<FanoutMode, BuildError> {
        let ranges = self.pools.iter().flat_map(|pool| &pool.addresses);
        let locals: Vec<LocalNet> = ranges.flat_map(|range| cover(range)).collect();
        let mut virtuals: Vec<IpAddr> = self.services.iter().map(|s| s.address.ip()).collect();
        virtuals.sort();
        virtuals.dedup();
        let virtuals: Vec<LocalNet> =
            virtuals.into_iter().map(|addr| LocalNet { addr, prefix: 128 }).collect();
        let cost = |net: &LocalNet| if net.addr.is_ipv4() { 4 } else { 13 };
        let all = locals.iter().chain(&virtuals).map(cost).sum::<usize>();
        if all > MOST_INSTRUCTIONS {
            Err(BuildError::Steering)
        } else {
            Ok(FanoutMode::LocalPort { locals, virtuals })
        }
    }
}

/// The fewest networks that hold exactly the addresses of a range.
fn cover(range: &AddressRange) -> Vec<LocalNet> {
    let v6 = Family::of(&range.first()) == Family::V6;
    let width: u8 = if v6 { 128 } else { 32 };
    let bits = |ip| match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let (mut at, last) = (bits(range.first()), bits(range.last()));
    let mut nets = Vec::new();
    loop {
        let mut free = 0u8;
        while free < width && at >> free & 1 == 0 {
            let end = at | ((2u128 << free).wrapping_sub(1));
            if end > last {
                break;
            }
            free += 1;
        }
        let addr = match u32::try_from(at) {
            Ok(low) if !v6 => IpAddr::V4(Ipv4Addr::from_bits(low)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(at)),
        };
        nets.push(LocalNet { addr, prefix: width - free });
        let end = at | 1u128.checked_shl(free.into()).unwrap_or(0).wrapping_sub(1);
        if end >= last {
            return nets;
        }
        at = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(first: &str, last: &str) -> Vec<String> {
        let range = AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
        cover(&range).iter().map(|net| format!("{}/{}", net.addr, net.prefix)).collect()
    }

    #[test]
    fn a_range_is_covered_exactly_by_few_networks() {
        assert_eq!(of("10.0.0.5", "10.0.0.5"), ["10.0.0.5/32"]);
        assert_eq!(of("10.0.0.0", "10.0.0.255"), ["10.0.0.0/24"]);
        assert_eq!(of("10.0.0.5", "10.0.0.9"), ["10.0.0.5/32", "10.0.0.6/31", "10.0.0.8/31"]);
        assert_eq!(of("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(of("fd00::ffff", "fd00::1:0"), ["fd00::ffff/128", "fd00::1:0/128"]);
        assert_eq!(of("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ["::/0"]);
    }
}
