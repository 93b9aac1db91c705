//! Addresses to small numbers, on the path of every packet: two places per bucket, so that an answer takes
//! one multiplication, one line and two comparisons, whether the address is there or not.
//!
//! Built once by the control side, which draws multipliers until no bucket has a third address. Addresses
//! come from the configuration, so no secret is needed; a stranger cannot put anything in, and every probe
//! costs the same.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// An address as a number in host byte order.
pub(crate) trait Spread: Copy + Eq {
    /// An address and its number.
    type Place: Copy + Eq + core::fmt::Debug;
    /// A place that no address has.
    const EMPTY: Self::Place;
    /// All bits onto 64, in a way that another `factor` changes.
    fn spread(self, factor: u64) -> u64;
    /// A place of this address.
    fn place(self, number: u16) -> Self::Place;
    /// The number of the place that has this key, without a jump; [`NONE`] or more when neither has.
    fn pick(self, places: &[Self::Place; 2]) -> u64;
}

impl Spread for u32 {
    /// The number below the address.
    type Place = u64;
    const EMPTY: u64 = NONE as u64;

    #[inline(always)]
    fn spread(self, factor: u64) -> u64 {
        u64::from(self).wrapping_add(1).wrapping_mul(factor)
    }

    #[inline(always)]
    fn place(self, number: u16) -> u64 {
        u64::from(self) << 16 | u64::from(number)
    }

    #[inline(always)]
    fn pick(self, [a, b]: &[u64; 2]) -> u64 {
        // A key that differs is a number above all others.
        let key = self.place(0);
        (a ^ key).min(b ^ key)
    }
}

impl Spread for u128 {
    type Place = (Self, u16);
    const EMPTY: Self::Place = (0, NONE);

    #[inline(always)]
    fn spread(self, factor: u64) -> u64 {
        let (high, low) = ((self >> 64) as u64, self as u64);
        (low ^ high.wrapping_mul(factor).rotate_left(32)).wrapping_add(1).wrapping_mul(factor)
    }

    #[inline(always)]
    fn place(self, number: u16) -> Self::Place {
        (self, number)
    }

    #[inline(always)]
    fn pick(self, [a, b]: &[Self::Place; 2]) -> u64 {
        let number = |place: &(u128, u16)| u64::from(place.0 != self) << 16 | u64::from(place.1);
        number(a).min(number(b))
    }
}

/// The number of no address.
const NONE: u16 = u16::MAX;
/// Multipliers that are tried for one size.
const TRIES: u64 = 64;

/// The map; numbers are below 65535.
#[derive(Clone, Debug)]
pub(crate) struct NearMap<K: Spread> {
    factor: u64,
    shift: u32,
    buckets: Box<[[K::Place; 2]]>,
    /// What fits nowhere, were there ever such addresses.
    rest: Box<[(K, u16)]>,
}

impl<K: Spread> NearMap<K> {
    /// Of these pairs, no key twice.
    pub(crate) fn new(pairs: &[(K, u16)]) -> Self {
        let bits = pairs.len().saturating_mul(2).next_power_of_two().trailing_zeros().clamp(1, 20);
        let mut best: Option<Self> = None;
        for bits in bits..=bits.saturating_add(2) {
            for number in 0..TRIES {
                // Odd, with bits all over.
                let factor =
                    number.wrapping_mul(2).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let map = Self::with(pairs, factor, bits);
                if best.as_ref().is_none_or(|best| map.rest.len() < best.rest.len()) {
                    best = Some(map);
                }
                if best.as_ref().is_some_and(|best| best.rest.is_empty()) {
                    break;
                }
            }
        }
        best.unwrap_or_else(|| Self::with(pairs, 1, bits))
    }

    fn with(pairs: &[(K, u16)], factor: u64, bits: u32) -> Self {
        let empty = [K::EMPTY; 2];
        let mut map = Self {
            factor,
            shift: 64u32.saturating_sub(bits),
            buckets: vec![empty; 1 << bits].into(),
            rest: Box::default(),
        };
        let mut rest = Vec::new();
        for pair in pairs {
            let at = map.at(pair.0);
            let bucket = map.buckets.get_mut(at);
            match bucket.and_then(|bucket| bucket.iter_mut().find(|place| **place == K::EMPTY)) {
                Some(place) => *place = pair.0.place(pair.1),
                None => rest.push(*pair),
            }
        }
        map.rest = rest.into();
        map
    }

    #[inline(always)]
    fn at(&self, key: K) -> usize {
        (key.spread(self.factor) >> (self.shift & 63)) as usize
    }

    /// The number of an address.
    #[inline(always)]
    pub(crate) fn get(&self, key: K) -> Option<u16> {
        let found = self.buckets.get(self.at(key)).map(|places| key.pick(places))?;
        match u16::try_from(found) {
            Ok(number) if number != NONE => Some(number),
            _ => self.beyond(key),
        }
    }

    #[inline(always)]
    fn beyond(&self, key: K) -> Option<u16> {
        if self.rest.is_empty() {
            return None;
        }
        self.rest.iter().find(|pair| pair.0 == key).map(|pair| pair.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_found_and_no_other() {
        for count in [0u16, 1, 3, 64, 1000, 5000] {
            let v4: Vec<(u32, u16)> =
                (0..count).map(|n| (0x0a00_0000 + u32::from(n) * 3, n)).collect();
            let map = NearMap::new(&v4);
            assert!(map.rest.is_empty(), "{count}");
            for (key, number) in &v4 {
                assert_eq!(map.get(*key), Some(*number));
                assert_eq!(map.get(*key + 1), None);
            }
            let v6: Vec<(u128, u16)> = (0..count)
                .map(|n| ((0x2001_0db8u128 << 96) | (u128::from(n % 7) << 64) | u128::from(n), n))
                .collect();
            let map = NearMap::new(&v6);
            assert!(map.rest.is_empty(), "{count}");
            for (key, number) in &v6 {
                assert_eq!(map.get(*key), Some(*number));
                assert_eq!(map.get(*key | 1 << 80), None);
            }
        }
    }

    #[test]
    fn the_address_zero_is_an_address_like_others() {
        assert_eq!(NearMap::<u32>::new(&[]).get(0), None);
        assert_eq!(NearMap::new(&[(0u32, 4)]).get(0), Some(4));
    }

    #[test]
    fn what_fits_nowhere_is_found_too() {
        let crowd: Vec<(u32, u16)> = (0..9).map(|n| (u32::from(n), n)).collect();
        let map = NearMap::with(&crowd, 1, 1);
        assert!(!map.rest.is_empty());
        for (key, number) in crowd {
            assert_eq!(map.get(key), Some(number));
        }
        assert_eq!(map.get(77), None);
    }
}
