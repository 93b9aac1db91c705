//! What `lblc` and `lblcr` remember: something for each destination address, least recently used first out.
//!
//! All memory is taken at construction. Entries lie in one array, linked into the chain of their hash and
//! into one list by time of use, so that finding, entering and forgetting are a few steps. A chain has at
//! most [`CHAIN`] entries: addresses that were chosen to share one push each other out, and nobody else.

use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use lvs_core::siphash::SipHash13;
use lvs_core::time::Tick;

/// Longest chain.
pub(crate) const CHAIN: usize = 16;
/// No entry.
const NONE: u32 = u32::MAX;

/// Time as far as anybody told it, from 0.
#[derive(Clone, Copy, Default)]
pub(crate) struct Clock {
    told: Option<Tick>,
    /// Ticks passed.
    pub(crate) now: u32,
}

impl Clock {
    pub(crate) fn tell(&mut self, now: Tick) {
        let passed = self.told.map_or(0, |told| now.since(told));
        // More than half of the wrap is a step back.
        if passed <= u32::MAX / 2 {
            self.now = self.now.wrapping_add(passed);
            self.told = Some(now);
        }
    }
}

#[derive(Clone, Copy)]
struct Entry<V> {
    key: u128,
    value: V,
    /// When it was used last.
    used: u32,
    bucket: u32,
    /// The next in its chain.
    chain: u32,
    newer: u32,
    older: u32,
}

pub(crate) struct Cache<V> {
    hash: SipHash13,
    entries: Vec<Entry<V>>,
    most: usize,
    /// First entry of each chain; a power of two.
    chains: Vec<u32>,
    newest: u32,
    oldest: u32,
    /// First entry that is not in use, linked by `chain`.
    free: u32,
    len: usize,
}

impl<V: Copy> Cache<V> {
    /// Room for `most` addresses, at least one.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.clamp(1, 1 << 24);
        Self {
            hash: SipHash13::new(&[0x6c62_6c63, most as u64]),
            entries: Vec::with_capacity(most),
            most,
            chains: vec![NONE; most.next_power_of_two()],
            newest: NONE,
            oldest: NONE,
            free: NONE,
            len: 0,
        }
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// What is remembered for an address, which is now used.
    pub(crate) fn used(&mut self, ip: IpAddr, now: u32) -> Option<&mut V> {
        let key = key(ip);
        let at = self
            .chain(self.bucket(key))
            .find(|at| self.entry(*at).is_some_and(|e| e.key == key))?;
        self.unlink(at);
        self.link_newest(at);
        let entry = self.entries.get_mut(at as usize)?;
        entry.used = now;
        Some(&mut entry.value)
    }

    /// Remembers something for an address that is not remembered yet; who was not used for longest makes
    /// room.
    pub(crate) fn enter(&mut self, ip: IpAddr, now: u32, value: V) {
        let key = key(ip);
        let bucket = self.bucket(key);
        if self.chain(bucket).count() >= CHAIN {
            let age = |at: &u32| self.entry(*at).map_or(0, |entry| now.wrapping_sub(entry.used));
            if let Some(at) = self.chain(bucket).max_by_key(age) {
                self.forget(at);
            }
        } else if self.len >= self.most {
            self.forget(self.oldest);
        }
        let chain = self.chains.get(bucket as usize).copied().unwrap_or(NONE);
        let entry = Entry { key, value, used: now, bucket, chain, newer: NONE, older: NONE };
        let at = self.free;
        if let Some(place) = self.entries.get_mut(at as usize) {
            self.free = core::mem::replace(place, entry).chain;
            self.admit(at, bucket);
        } else if self.entries.len() < self.most {
            self.entries.push(entry);
            self.admit((self.entries.len() as u32).wrapping_sub(1), bucket);
        }
    }

    /// Forgets what was not used for more than `idle` ticks, at most `most` addresses at once.
    pub(crate) fn expire(&mut self, now: u32, idle: u32, most: usize) {
        for _ in 0..most {
            match self.entry(self.oldest) {
                Some(entry) if now.wrapping_sub(entry.used) > idle => self.forget(self.oldest),
                _ => return,
            }
        }
    }

    fn admit(&mut self, at: u32, bucket: u32) {
        if let Some(first) = self.chains.get_mut(bucket as usize) {
            *first = at;
        }
        self.link_newest(at);
        self.len = self.len.saturating_add(1);
    }

    fn entry(&self, at: u32) -> Option<&Entry<V>> {
        self.entries.get(at as usize)
    }

    fn bucket(&self, key: u128) -> u32 {
        let hash = self.hash.words(&[(key >> 64) as u64, key as u64]);
        hash as u32 & (self.chains.len() as u32).wrapping_sub(1)
    }

    /// The entries of a chain.
    fn chain(&self, bucket: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.chains.get(bucket as usize).copied();
        let next = |at: &u32| self.entry(*at).map(|entry| entry.chain);
        core::iter::successors(first, next).take_while(|at| *at != NONE).take(CHAIN)
    }

    fn forget(&mut self, at: u32) {
        let Some(entry) = self.entry(at) else { return };
        let (bucket, chain) = (entry.bucket, entry.chain);
        self.unlink(at);
        let before = self.chain(bucket).find(|b| self.entry(*b).is_some_and(|e| e.chain == at));
        let link = match before {
            Some(before) => self.entries.get_mut(before as usize).map(|entry| &mut entry.chain),
            None => self.chains.get_mut(bucket as usize),
        };
        if let Some(link) = link {
            *link = chain;
        }
        if let Some(entry) = self.entries.get_mut(at as usize) {
            entry.chain = core::mem::replace(&mut self.free, at);
        }
        self.len = self.len.saturating_sub(1);
    }

    /// Takes an entry out of the list by use.
    fn unlink(&mut self, at: u32) {
        let Some(entry) = self.entry(at) else { return };
        let (newer, older) = (entry.newer, entry.older);
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let older = core::mem::replace(&mut self.newest, at);
        if let Some(entry) = self.entries.get_mut(at as usize) {
            (entry.newer, entry.older) = (NONE, older);
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = at,
            None => self.oldest = at,
        }
    }
}

fn key(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    /// Address, value, time of last use and a number that grows with each use.
    #[derive(Default)]
    struct Naive(BTreeMap<u32, (u32, u32, u32)>);

    #[test]
    fn the_cache_equals_a_map_that_is_searched_for_its_oldest_entry() {
        let mut cache = Cache::new(50);
        let mut naive = Naive::default();
        let mut random = 1u64;
        for use_number in 0..200_000u32 {
            random = crate::steady::step(random, use_number.into());
            // Slowly moving favourites, so that entries are hit, pushed out and aged.
            let key = (random >> 40) as u32 % 90 + use_number / 4000;
            let now = use_number / 7;
            let found = cache.used(ip(key), now).copied();
            let expected = naive.0.get_mut(&key).map(|entry| {
                (entry.1, entry.2) = (now, use_number);
                entry.0
            });
            assert_eq!(found, expected);
            if found.is_none() && !random.is_multiple_of(5) {
                if naive.0.len() == 50 {
                    let oldest = naive.0.iter().min_by_key(|(_, entry)| entry.2);
                    let oldest = *oldest.map(|(key, _)| key).unwrap();
                    naive.0.remove(&oldest);
                }
                cache.enter(ip(key), now, use_number);
                naive.0.insert(key, (use_number, now, use_number));
            }
            if random.is_multiple_of(64) {
                cache.expire(now, 40, usize::MAX);
                naive.0.retain(|_, entry| now - entry.1 <= 40);
            }
            assert_eq!(cache.len(), naive.0.len());
        }
    }

    #[test]
    fn addresses_that_share_a_chain_push_out_only_each_other() {
        let mut cache = Cache::new(1 << 12);
        let shared = cache.bucket(key(ip(0)));
        let hostile: Vec<u32> =
            (0..1 << 20).filter(|n| cache.bucket(key(ip(*n))) == shared).take(100).collect();
        assert_eq!(hostile.len(), 100);
        let quiet = (1 << 20..1 << 21).find(|n| cache.bucket(key(ip(*n))) != shared).unwrap();
        cache.enter(ip(quiet), 0, 7);
        for n in &hostile {
            cache.enter(ip(*n), 1, *n);
        }
        assert_eq!(cache.len(), 1 + CHAIN);
        assert_eq!(cache.used(ip(quiet), 2), Some(&mut 7));
        let kept = hostile.iter().filter(|n| cache.used(ip(**n), 2).is_some()).count();
        assert_eq!(kept, CHAIN);
    }

    #[test]
    fn time_that_goes_back_does_not_count() {
        let mut clock = Clock::default();
        for (tick, now) in
            [(1000, 0), (1010, 10), (1005, 10), (1011, 11), (1 << 30, (1 << 30) - 1000)]
        {
            clock.tell(Tick(tick));
            assert_eq!(clock.now, now, "tick {tick}");
        }
        let mut clock = Clock::default();
        clock.tell(Tick(u32::MAX - 2));
        clock.tell(Tick(4));
        assert_eq!(clock.now, 7, "round the wrap");
    }
}
