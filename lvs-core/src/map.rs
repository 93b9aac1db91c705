//! A small fixed map from addresses or service keys to numbers: built once by the control side, read on
//! the packet path. Open addressing with linear probing at a quarter of its size, so a probe ends after
//! a step or two; nothing is inserted after construction.

use crate::service::ServiceKey;
use alloc::boxed::Box;
use alloc::vec;
use core::net::IpAddr;

/// A key that can be spread over a table. Keys come from the configuration, so no secret is needed.
pub(crate) trait FixedKey: Copy + Eq {
    fn spread(&self) -> u64;
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value ^ (value >> 29)
}

impl FixedKey for IpAddr {
    #[inline]
    fn spread(&self) -> u64 {
        match self {
            Self::V4(v4) => mix(v4.to_bits() as u64),
            Self::V6(v6) => {
                let bits = v6.to_bits();
                mix((bits >> 64) as u64 ^ mix(bits as u64))
            }
        }
    }
}

impl FixedKey for ServiceKey {
    #[inline]
    fn spread(&self) -> u64 {
        let port = u64::from(self.addr.port()) << 8 | u64::from(self.proto.number());
        mix(self.addr.ip().spread() ^ port ^ u64::from(self.mark) << 32)
    }
}

/// The map.
#[derive(Clone, Debug)]
pub(crate) struct FixedMap<K, V> {
    places: Box<[Option<(K, V)>]>,
}

impl<K: FixedKey, V: Copy> FixedMap<K, V> {
    /// Of these pairs; a later pair replaces an earlier one with the same key.
    pub(crate) fn new(pairs: &[(K, V)]) -> Self {
        let size = pairs.len().saturating_mul(4).max(4).next_power_of_two();
        let mut places = vec![None; size].into_boxed_slice();
        for (key, value) in pairs {
            let mut at = key.spread() as usize & (size - 1);
            while let Some(place) = places.get_mut(at) {
                match place {
                    Some((have, _)) if have != key => at = (at + 1) & (size - 1),
                    _ => {
                        *place = Some((*key, *value));
                        break;
                    }
                }
            }
        }
        Self { places }
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mask = self.places.len().wrapping_sub(1);
        let mut at = key.spread() as usize & mask;
        // Three quarters of the places are empty, so this ends; the bound is for the proof.
        for _ in 0..self.places.len() {
            match self.places.get(at)? {
                Some((have, value)) if have == key => return Some(*value),
                Some(_) => at = at.wrapping_add(1) & mask,
                None => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_key_is_found_and_no_other() {
        let pairs: Vec<(IpAddr, u32)> = (0..500u32)
            .map(|n| (IpAddr::from((0x0a00_0000 + n * 7).to_be_bytes()), n))
            .chain((0..500u32).map(|n| (IpAddr::from((u128::from(n) << 64).to_be_bytes()), n)))
            .collect();
        let map = FixedMap::new(&pairs);
        for (key, value) in &pairs {
            assert_eq!(map.get(key), Some(*value));
        }
        assert_eq!(map.get(&"10.0.0.1".parse().unwrap()), None);
        assert_eq!(FixedMap::<IpAddr, u8>::new(&[]).get(&"::1".parse().unwrap()), None);
    }
}
