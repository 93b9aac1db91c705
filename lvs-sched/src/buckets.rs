//! A table of 256 buckets, as source and destination hashing use it.

use crate::ready::{Bits, Ready};
use alloc::vec::Vec;
use core::net::IpAddr;
use lvs_core::sched::ServerLoad;

/// Number of buckets. Linux `IP_VS_SH_TAB_SIZE`, `IP_VS_DH_TAB_SIZE`.
const SIZE: usize = 256;

/// Servers by bucket; empty without servers.
#[derive(Default)]
pub(crate) struct Buckets(Vec<u32>);

impl Buckets {
    /// Fills the table: each server in turn takes so many buckets in a row, at least one, until all are
    /// taken.
    pub(crate) fn fill(&mut self, servers: &[ServerLoad], run: impl Fn(&ServerLoad) -> usize) {
        self.0.clear();
        let runs = (0u32..).zip(servers).map(|(at, server)| (at, run(server).max(1)));
        let round = runs.flat_map(|(at, run)| core::iter::repeat_n(at, run));
        self.0.extend(round.cycle().take(SIZE));
    }

    /// The server of a bucket; the number counts modulo the number of buckets.
    pub(crate) fn server(&self, bucket: u32) -> Option<usize> {
        self.0.get(bucket as usize % SIZE).map(|at| *at as usize)
    }
}

/// Where each bucket leads when those go on whose servers may not be used: worked out anew when somebody may be used
/// again or no more.
#[derive(Default)]
pub(crate) struct Fallbacks {
    ready: Ready,
    /// Buckets whose servers may be used.
    usable: Bits,
    /// The bucket that each leads to; itself where nobody may be used.
    to: Vec<u8>,
}

impl Fallbacks {
    /// Memory is taken here alone.
    pub(crate) fn rebuild(&mut self, buckets: &Buckets, servers: &[ServerLoad]) {
        self.ready.rebuild(servers);
        self.usable.reset(SIZE);
        self.to.clear();
        self.to.resize(SIZE, 0);
        self.work_out(buckets);
    }

    /// A server's load changed.
    pub(crate) fn changed(&mut self, buckets: &Buckets, index: usize, servers: &[ServerLoad]) {
        if self.ready.changed(index, servers) {
            self.work_out(buckets);
        }
    }

    /// The search starts as far behind the bucket as the bucket is behind the first one.
    fn work_out(&mut self, buckets: &Buckets) {
        for (bucket, at) in buckets.0.iter().enumerate() {
            self.usable.set(bucket, self.ready.has(*at as usize));
        }
        for (bucket, to) in self.to.iter_mut().enumerate() {
            let own = Some(bucket).filter(|bucket| self.usable.has(*bucket));
            let found = own.or_else(|| self.usable.round(bucket.wrapping_mul(2) % SIZE));
            *to = found.unwrap_or(bucket) as u8;
        }
    }

    /// The bucket that a bucket leads to.
    #[inline]
    pub(crate) fn of(&self, bucket: u32) -> u32 {
        self.to.get(bucket as usize % SIZE).map_or(bucket, |to| u32::from(*to))
    }
}

/// An address as one word: an IPv6 address is its four words, exclusive-or.
pub(crate) fn fold(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}

/// The bucket of a word. Linux `hash_32` with 8 bits.
pub(crate) const fn bucket_of(word: u32) -> u32 {
    word.wrapping_mul(0x61c8_8647) >> 24
}
