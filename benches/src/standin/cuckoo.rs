//! The shape of DPDK's `rte_hash`: two buckets a key, eight 16-bit signatures in each, keys and values in
//! a store of their own; batched with prefetch in three steps, as `rte_hash_lookup_bulk`.
//!
//! The hash is the caller's, so that both tables of a comparison use the same. The bucket is one line.

use super::Key;
use lvs_core::prefetch::prefetch;

const WAYS: usize = 8;
const EMPTY: u32 = u32::MAX;
/// Moves before an insert gives up.
const MOVES: usize = 1000;
/// Keys of one batch.
pub const BATCH: usize = 64;

/// Signature of a key, and its two buckets.
pub type Homes = (u16, [usize; 2]);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    signatures: [u16; WAYS],
    places: [u32; WAYS],
}

#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Stored {
    key: Key,
    value: u32,
}

/// The table.
pub struct Cuckoo<H> {
    buckets: Vec<Bucket>,
    store: Vec<Stored>,
    hash: H,
}

impl<H: Fn(&Key) -> u64> Cuckoo<H> {
    /// For `keys` keys, at most 85 % full.
    pub fn new(keys: usize, hash: H) -> Self {
        let buckets = (keys * 100 / 85 / WAYS + 1).next_power_of_two();
        let empty = Bucket { signatures: [0; WAYS], places: [EMPTY; WAYS] };
        Self { buckets: vec![empty; buckets], store: Vec::with_capacity(keys), hash }
    }

    #[inline]
    fn homes(&self, key: &Key) -> Homes {
        let hash = (self.hash)(key);
        let (signature, mask) = ((hash >> 48) as u16, self.buckets.len() - 1);
        let first = hash as usize & mask;
        (signature, [first, (first ^ usize::from(signature)) & mask])
    }

    /// Adds a key that is not there yet; `false` when the table is too full.
    pub fn insert(&mut self, key: &Key, value: u32) -> bool {
        let (mut signature, homes) = self.homes(key);
        let mask = self.buckets.len() - 1;
        let mut place = self.store.len() as u32;
        self.store.push(Stored { key: *key, value });
        let mut home = homes[0];
        for at in homes.into_iter().chain([homes[0]]) {
            if self.put(at, signature, place) {
                return true;
            }
            home = at;
        }
        for turn in 0..MOVES {
            let way = (turn * 5 + place as usize) % WAYS;
            let bucket = &mut self.buckets[home];
            core::mem::swap(&mut bucket.places[way], &mut place);
            core::mem::swap(&mut bucket.signatures[way], &mut signature);
            home = (home ^ usize::from(signature)) & mask;
            if self.put(home, signature, place) {
                return true;
            }
        }
        false
    }

    fn put(&mut self, home: usize, signature: u16, place: u32) -> bool {
        let bucket = &mut self.buckets[home];
        let Some(way) = bucket.places.iter().position(|p| *p == EMPTY) else { return false };
        (bucket.places[way], bucket.signatures[way]) = (place, signature);
        true
    }

    /// One bit for each way whose signature is this one.
    #[inline]
    fn matches(&self, home: usize, signature: u16) -> u32 {
        let ways = self.buckets[home].signatures.iter().enumerate();
        ways.fold(0, |bits, (way, have)| bits | u32::from(*have == signature) << way)
    }

    #[inline]
    fn find(&self, key: &Key, home: usize, signature: u16) -> Option<u32> {
        let mut bits = self.matches(home, signature);
        while bits != 0 {
            let place = self.buckets[home].places[bits.trailing_zeros() as usize];
            if let Some(stored) = self.store.get(place as usize).filter(|s| s.key == *key) {
                return Some(stored.value);
            }
            bits &= bits - 1;
        }
        None
    }

    /// First step of a batch: hashes, and asks for both buckets of each key.
    #[inline]
    pub fn begin(&self, keys: &[Key], homes: &mut [Homes]) {
        for (key, home) in keys.iter().zip(homes) {
            *home = self.homes(key);
            home.1.iter().for_each(|at| prefetch(&self.buckets[*at]));
        }
    }

    /// Second step: asks for the key of the first signature that matches.
    #[inline]
    pub fn fetch(&self, homes: &[Homes]) {
        for (signature, both) in homes {
            for home in both {
                let bits = self.matches(*home, *signature);
                let place = self.buckets[*home].places[bits.trailing_zeros() as usize % WAYS];
                if let Some(stored) = self.store.get(place as usize).filter(|_| bits != 0) {
                    prefetch(stored);
                    break;
                }
            }
        }
    }

    /// Third step: compares keys.
    #[inline]
    pub fn finish(&self, keys: &[Key], homes: &[Homes], found: &mut [Option<u32>]) {
        for ((key, (signature, [first, second])), place) in keys.iter().zip(homes).zip(found) {
            *place =
                self.find(key, *first, *signature).or_else(|| self.find(key, *second, *signature));
        }
    }

    /// Looks up to [`BATCH`] keys up.
    #[inline(never)]
    pub fn lookup(&self, keys: &[Key], found: &mut [Option<u32>]) {
        let mut homes = [Homes::default(); BATCH];
        self.begin(keys, &mut homes);
        self.fetch(&homes[..keys.len().min(BATCH)]);
        self.finish(keys, &homes, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::siphash::SipHash13;

    #[test]
    fn every_key_is_found_and_no_other() {
        let hash = SipHash13::new(&[3, 4]);
        let mut table = Cuckoo::new(10_000, |key: &Key| hash.words(key));
        let key = |n: u64| [n, n ^ 0xffff];
        assert!((0..10_000u32).all(|n| table.insert(&key(n.into()), n)));
        for first in (0..20_000u64).step_by(BATCH) {
            let keys: Vec<Key> = (first..first + BATCH as u64).map(key).collect();
            let mut found = [None; BATCH];
            table.lookup(&keys, &mut found);
            for (n, found) in (first..).zip(found) {
                assert_eq!(found, u32::try_from(n).ok().filter(|n| *n < 10_000));
            }
        }
    }
}
