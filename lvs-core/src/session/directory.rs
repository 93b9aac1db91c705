//! From a tuple to the slot of its session: buckets of one cache line, fixed capacity, bounded walk.
//!
//! ```text
//!  bucket, 64 bytes:  tag 10 x u16 | passed u16 | spare u16 | entry 10 x u32
//! ```
//!
//! A tag is 16 bits of the keyed hash, so one line answers nearly every question; the key itself is
//! compared in the session line, which the packet needs anyway. A key that finds its bucket full moves
//! to the next one, and `passed` of each full bucket counts such keys, so a miss ends at the first
//! bucket with `passed == 0`. No key lies more than [`WALK`] buckets from its home; an insert that
//! would is refused. Nothing grows, nothing is ever rehashed.
//!
//! The entry is the slot with the direction in its highest bit: a lookup tells both at once.

use crate::flow::Direction;
use crate::prefetch::prefetch;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Keys per bucket.
const WAYS: usize = 10;
/// Buckets a key may lie in: its home and the ones behind it.
const WALK: usize = 8;
const RETURN_BIT: u32 = 1 << 31;

/// One cache line of directory.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    tag: [u16; WAYS],
    passed: u16,
    spare: u16,
    entry: [u32; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// Buckets for this many keys at 5.5 keys a bucket, where overflow stays below one key in a hundred.
pub(super) const fn buckets_for(keys: usize) -> usize {
    // 2 / 11 = 1 / 5.5; the walk never wraps, so the last home needs WALK - 1 buckets behind it.
    keys.saturating_mul(2).div_ceil(11).saturating_add(WALK)
}

/// The walk from the key's home found no free place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoPlace;

pub(super) struct Directory<'m> {
    buckets: &'m mut [Bucket],
}

const fn tag_of(hash: u64) -> u16 {
    hash as u16 | 1
}

/// Where a key leads: a slot, and whether it is the key of the inbound or of the return packets; or
/// nowhere. Only a hint, and only until the store changes: each use compares the key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint(u32);

impl Default for Hint {
    fn default() -> Self {
        Self::NOWHERE
    }
}

impl Hint {
    /// The key is not in the directory.
    pub const NOWHERE: Self = Self(u32::MAX);

    pub(super) const fn new(slot: u32, direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self(slot),
            Direction::Return => Self(slot | RETURN_BIT),
        }
    }

    /// Whether it leads nowhere.
    #[must_use]
    #[inline(always)]
    pub const fn is_nowhere(self) -> bool {
        self.0 == u32::MAX
    }

    /// The slot; of a hint to nowhere one that does not exist.
    #[inline(always)]
    pub(super) const fn slot(self) -> u32 {
        self.0 & !RETURN_BIT
    }

    /// 0 for inbound, 1 for return packets.
    #[must_use]
    #[inline(always)]
    pub const fn side(self) -> usize {
        (self.0 >> 31) as usize
    }

    pub(super) const fn split(self) -> Option<(u32, Direction)> {
        if self.is_nowhere() {
            return None;
        }
        let direction = if self.side() == 0 { Direction::Inbound } else { Direction::Return };
        Some((self.slot(), direction))
    }

    /// One bit out of 64 that stands for the session: packets of the same session have the same one. Of a
    /// hint to nowhere it is the last one.
    #[must_use]
    #[inline(always)]
    pub const fn filter_bit(self) -> u64 {
        1 << (self.0 & 63)
    }
}

/// The lowest bit of each 16-bit lane.
const LANES: u64 = 0x0001_0001_0001_0001;

/// Places in a bucket, as bits: place `4 group + lane` is bit `16 lane + group`.
#[derive(Clone, Copy)]
struct Places(u64);

impl Places {
    /// The places whose tag is this one. A place behind one that is, in the same group, may be there although
    /// it is not; the first one always is.
    #[inline(always)]
    const fn of(bucket: &Bucket, tag: u16) -> Self {
        let [a, b, c, d, e, f, g, h, i, j] = bucket.tag;
        let wanted = (tag as u64).wrapping_mul(LANES);
        // The lanes that a group does not have hold 0, which no key has as its tag.
        let first = equal(lanes(a, b, c, d) ^ wanted);
        let second = equal(lanes(e, f, g, h) ^ wanted);
        let third = equal(lanes(i, j, 0, 0) ^ wanted);
        Self(first >> 15 | second >> 14 | third >> 13)
    }

    /// The places that nobody has; as above, the first one is right.
    #[inline(always)]
    const fn free(bucket: &Bucket) -> Self {
        // Without the lanes that the last group does not have.
        Self(Self::of(bucket, 0).0 & !(1 << 34 | 1 << 50))
    }

    #[inline(always)]
    const fn first(self) -> Option<usize> {
        let bit = self.0.trailing_zeros() as usize;
        if self.0 == 0 { None } else { Some((bit & 3) * 4 + (bit >> 4)) }
    }

    const fn without_first(self) -> Self {
        Self(self.0 & self.0.wrapping_sub(1))
    }
}

#[inline(always)]
const fn lanes(a: u16, b: u16, c: u16, d: u16) -> u64 {
    (a as u64) | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48
}

/// The highest bit of each lane that is zero, and perhaps of lanes above one that is.
#[inline(always)]
const fn equal(difference: u64) -> u64 {
    difference.wrapping_sub(LANES) & !difference & (LANES << 15)
}

impl<'m> Directory<'m> {
    /// Over zeroed or old memory; forgets everything in it.
    pub(super) fn new(buckets: &'m mut [Bucket]) -> Self {
        buckets.fill(Bucket::default());
        Self { buckets }
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        let homes = self.buckets.len().saturating_sub(WALK - 1) as u64;
        // High bits times the number of homes: any count, no division.
        ((hash >> 32).wrapping_mul(homes) >> 32) as usize
    }

    /// Begins to fetch the home bucket of a key.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.home(hash)) {
            prefetch(bucket);
        }
    }

    /// The first slot on the walk whose tag matches. Nearly always the right one; the caller compares.
    #[inline(always)]
    pub(super) fn guess(&self, hash: u64) -> Hint {
        let Some(bucket) = self.buckets.get(self.home(hash)) else { return Hint::NOWHERE };
        match Places::of(bucket, tag_of(hash)).first().and_then(|at| bucket.entry.get(at)) {
            Some(entry) => Hint(*entry),
            None if bucket.passed == 0 => Hint::NOWHERE,
            None => self.guess_beyond(hash),
        }
    }

    /// Whether one look tells that no key with this hash is here; most keys that are not are told so.
    #[inline(always)]
    pub(super) fn has_none(&self, hash: u64) -> bool {
        let home = self.buckets.get(self.home(hash));
        home.is_some_and(|home| home.passed == 0 && Places::of(home, tag_of(hash)).0 == 0)
    }

    #[cold]
    #[inline(never)]
    fn guess_beyond(&self, hash: u64) -> Hint {
        self.find(hash, |_, _| true)
    }

    /// The first slot on the walk whose tag matches and whose session `is_it`.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32, Direction) -> bool) -> Hint {
        let tag = tag_of(hash);
        for bucket in self.buckets.get(self.home(hash)..).unwrap_or_default().iter().take(WALK) {
            let mut places = Places::of(bucket, tag);
            while let Some(at) = places.first() {
                places = places.without_first();
                let (Some(have), Some(entry)) = (bucket.tag.get(at), bucket.entry.get(at)) else {
                    continue;
                };
                if *have == tag
                    && let Some((slot, direction)) = Hint(*entry).split()
                    && is_it(slot, direction)
                {
                    return Hint(*entry);
                }
            }
            if bucket.passed == 0 {
                break;
            }
        }
        Hint::NOWHERE
    }

    /// Adds an entry. The caller has made sure that the key is not there yet.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        slot: u32,
        direction: Direction,
    ) -> Result<(), NoPlace> {
        let home = self.home(hash);
        let walk = self.buckets.get_mut(home..).ok_or(NoPlace)?;
        if let Some(bucket) = walk.first_mut()
            && let Some(at) = Places::free(bucket).first()
            && let (Some(tag), Some(entry)) = (bucket.tag.get_mut(at), bucket.entry.get_mut(at))
        {
            (*tag, *entry) = (tag_of(hash), Hint::new(slot, direction).0);
            return Ok(());
        }
        Self::insert_beyond(walk, hash, Hint::new(slot, direction))
    }

    /// Behind a full home.
    #[cold]
    fn insert_beyond(walk: &mut [Bucket], hash: u64, hint: Hint) -> Result<(), NoPlace> {
        let at =
            walk.iter().take(WALK).position(|bucket| bucket.tag.contains(&0)).ok_or(NoPlace)?;
        for (step, bucket) in walk.iter_mut().take(at.saturating_add(1)).enumerate() {
            if step < at {
                bucket.passed = bucket.passed.saturating_add(1);
                continue;
            }
            for (tag, entry) in bucket.tag.iter_mut().zip(&mut bucket.entry) {
                if *tag == 0 {
                    *tag = tag_of(hash);
                    *entry = hint.0;
                    return Ok(());
                }
            }
        }
        Err(NoPlace)
    }

    /// Removes an entry; `false` when it is not there.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, direction: Direction) -> bool {
        let (tag, wanted) = (tag_of(hash), Hint::new(slot, direction).0);
        let home = self.home(hash);
        let Some(walk) = self.buckets.get_mut(home..) else { return false };
        let holds = |bucket: &Bucket| {
            bucket.tag.iter().zip(&bucket.entry).any(|(t, e)| *t == tag && *e == wanted)
        };
        let Some(at) = walk.iter().take(WALK).position(holds) else { return false };
        for (step, bucket) in walk.iter_mut().take(at.saturating_add(1)).enumerate() {
            if step < at {
                bucket.passed = bucket.passed.saturating_sub(1);
                continue;
            }
            for (have, entry) in bucket.tag.iter_mut().zip(&bucket.entry) {
                if *have == tag && *entry == wanted {
                    *have = 0;
                    break;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::vec;
    use std::vec::Vec;

    /// A cheap stand-in for the keyed hash.
    fn mix(key: u64) -> u64 {
        (key ^ 0x9e37_79b9)
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
            .rotate_left(31)
            .wrapping_mul(0xc4ce_b9fe_1a85_ec53)
    }

    #[test]
    fn what_went_in_is_found_until_it_is_removed() {
        let mut memory = vec![Bucket::default(); buckets_for(1000)];
        let mut directory = Directory::new(&mut memory);
        let mut model: HashMap<u64, u32> = HashMap::new();
        let mut random = 1u64;
        for step in 0..if cfg!(miri) { 2_000 } else { 200_000u32 } {
            random = mix(random.wrapping_add(u64::from(step)));
            let key = random % 1500;
            let found = directory.find(mix(key), |slot, _| model.get(&key) == Some(&slot));
            assert_eq!(found.split().map(|f| f.0), model.get(&key).copied());
            if let Some(slot) = model.remove(&key) {
                assert!(directory.remove(mix(key), slot, Direction::Inbound));
                assert!(!directory.remove(mix(key), slot, Direction::Inbound));
            } else if model.len() < 1000 {
                let slot = u32::try_from(key).unwrap();
                directory.insert(mix(key), slot, Direction::Inbound).unwrap();
                model.insert(key, slot);
            }
        }
        for (key, slot) in model {
            assert!(directory.remove(mix(key), slot, Direction::Inbound));
        }
        assert!(memory.iter().all(|b| b.tag == [0; WAYS] && b.passed == 0), "something is left");
    }

    #[test]
    fn keys_of_one_home_fill_the_walk_and_then_are_refused() {
        let mut memory = vec![Bucket::default(); buckets_for(5)];
        let mut directory = Directory::new(&mut memory);
        let room = u32::try_from(WALK * WAYS).unwrap();
        let inserted: Vec<_> =
            (0..=room).map(|slot| directory.insert(7, slot, Direction::Return).is_ok()).collect();
        assert_eq!(inserted.iter().filter(|ok| **ok).count(), WALK * WAYS);
        assert_eq!(inserted.last(), Some(&false));
        for slot in (0..room).rev() {
            assert_eq!(
                directory.find(7, |s, _| s == slot).split(),
                Some((slot, Direction::Return)),
                "slot {slot}"
            );
            assert!(directory.remove(7, slot, Direction::Return));
        }
        assert_eq!(directory.find(7, |_, _| true), Hint::NOWHERE);
    }
}
