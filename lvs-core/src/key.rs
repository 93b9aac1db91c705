//! Keys of sessions as they stand on the wire: read, compared, hashed and written without turning a byte.

use crate::flow::{Direction, L4Proto, TupleV4, TupleV6};
use crate::siphash::SipHash13;

/// Source address, destination address, source port, destination port, each in network byte order, as they
/// follow each other in an IPv4 packet without options or an IPv6 packet without extension headers.
/// `N` is 12 for IPv4 and 36 for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key<const N: usize>(pub [u8; N]);

/// Key of an IPv4 session.
pub type KeyV4 = Key<12>;
/// Key of an IPv6 session.
pub type KeyV6 = Key<36>;

impl<const N: usize> Default for Key<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

const fn word(b: [u8; 4]) -> u32 {
    u32::from_be_bytes(b)
}

impl KeyV4 {
    /// Destination address, host byte order.
    #[must_use]
    #[inline(always)]
    pub const fn dst(&self) -> u32 {
        let [_, _, _, _, a, b, c, d, ..] = self.0;
        word([a, b, c, d])
    }

    /// The same with source and destination exchanged: the key of the answer.
    #[must_use]
    #[inline(always)]
    pub const fn swapped(&self) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.0;
        Self([e, f, g, h, a, b, c, d, k, l, i, j])
    }

    /// As a tuple.
    #[must_use]
    #[inline]
    pub const fn tuple(&self, proto: L4Proto) -> TupleV4 {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.0;
        TupleV4 {
            src: word([a, b, c, d]),
            dst: word([e, f, g, h]),
            sport: u16::from_be_bytes([i, j]),
            dport: u16::from_be_bytes([k, l]),
            proto,
        }
    }

    /// The words that are hashed: 13 bytes with the protocol, and their number on top, as SipHash has it.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn words(&self, proto: L4Proto) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.0;
        [
            u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            u64::from_le_bytes([i, j, k, l, proto as u8, 0, 0, 13]),
        ]
    }
}

impl From<&TupleV4> for KeyV4 {
    #[inline]
    fn from(t: &TupleV4) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (t.src.to_be_bytes(), t.dst.to_be_bytes());
        let ([i, j], [k, l]) = (t.sport.to_be_bytes(), t.dport.to_be_bytes());
        Self([a, b, c, d, e, f, g, h, i, j, k, l])
    }
}

/// An IPv6 key in parts that the compiler can reason about.
const fn split(key: &[u8; 36]) -> ([u8; 16], [u8; 16], [u8; 4]) {
    let (mut src, mut dst, mut ports) = ([0; 16], [0; 16], [0; 4]);
    if let Some((a, rest)) = key.split_first_chunk::<16>()
        && let Some((b, rest)) = rest.split_first_chunk::<16>()
        && let Some(c) = rest.first_chunk::<4>()
    {
        (src, dst, ports) = (*a, *b, *c);
    }
    (src, dst, ports)
}

fn join(src: &[u8; 16], dst: &[u8; 16], ports: [u8; 4]) -> KeyV6 {
    let mut key = [0; 36];
    if let Some((a, rest)) = key.split_first_chunk_mut::<16>()
        && let Some((b, rest)) = rest.split_first_chunk_mut::<16>()
        && let Some(c) = rest.first_chunk_mut::<4>()
    {
        (*a, *b, *c) = (*src, *dst, ports);
    }
    Key(key)
}

impl KeyV6 {
    /// Destination address, host byte order.
    #[must_use]
    #[inline(always)]
    pub const fn dst(&self) -> u128 {
        u128::from_be_bytes(split(&self.0).1)
    }

    /// The same with source and destination exchanged: the key of the answer.
    #[must_use]
    #[inline(always)]
    pub fn swapped(&self) -> Self {
        let (src, dst, [i, j, k, l]) = split(&self.0);
        join(&dst, &src, [k, l, i, j])
    }

    /// As a tuple.
    #[must_use]
    #[inline]
    pub const fn tuple(&self, proto: L4Proto) -> TupleV6 {
        let (src, dst, [i, j, k, l]) = split(&self.0);
        TupleV6 {
            src: u128::from_be_bytes(src),
            dst: u128::from_be_bytes(dst),
            sport: u16::from_be_bytes([i, j]),
            dport: u16::from_be_bytes([k, l]),
            proto,
        }
    }

    /// The words that are hashed: 37 bytes with the protocol, and their number on top.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn words(&self, proto: L4Proto) -> [u64; 5] {
        let (src, dst, [i, j, k, l]) = split(&self.0);
        let (src, dst) = (u128::from_le_bytes(src), u128::from_le_bytes(dst));
        [
            src as u64,
            (src >> 64) as u64,
            dst as u64,
            (dst >> 64) as u64,
            u64::from_le_bytes([i, j, k, l, proto as u8, 0, 0, 37]),
        ]
    }
}

impl From<&TupleV6> for KeyV6 {
    #[inline]
    fn from(t: &TupleV6) -> Self {
        let ([i, j], [k, l]) = (t.sport.to_be_bytes(), t.dport.to_be_bytes());
        join(&t.src.to_be_bytes(), &t.dst.to_be_bytes(), [i, j, k, l])
    }
}

/// Keys hashed at once.
pub(crate) const LANES: usize = 4;

/// What the tables of both families need of a key.
pub(crate) trait TableKey: Copy + Default + PartialEq {
    /// Its tuple.
    type Tuple: Copy;
    fn of(tuple: &Self::Tuple) -> (Self, L4Proto);
    fn hash(&self, key: &SipHash13, proto: L4Proto) -> u64;
    /// The hashes of several keys, computed side by side.
    fn hash_lanes(keys: &[Self; LANES], key: &SipHash13, proto: L4Proto) -> [u64; LANES];
}

impl TableKey for KeyV4 {
    type Tuple = TupleV4;

    #[inline]
    fn of(tuple: &TupleV4) -> (Self, L4Proto) {
        (tuple.into(), tuple.proto)
    }

    #[inline(always)]
    fn hash(&self, key: &SipHash13, proto: L4Proto) -> u64 {
        key.sealed(&self.words(proto))
    }

    #[inline(always)]
    fn hash_lanes(keys: &[Self; LANES], key: &SipHash13, proto: L4Proto) -> [u64; LANES] {
        let words = keys.each_ref().map(|k| k.words(proto));
        key.sealed_lanes(&[words.map(|[a, ..]| a), words.map(|[_, b]| b)])
    }
}

impl TableKey for KeyV6 {
    type Tuple = TupleV6;

    #[inline]
    fn of(tuple: &TupleV6) -> (Self, L4Proto) {
        (tuple.into(), tuple.proto)
    }

    #[inline(always)]
    fn hash(&self, key: &SipHash13, proto: L4Proto) -> u64 {
        key.sealed(&self.words(proto))
    }

    #[inline(always)]
    fn hash_lanes(keys: &[Self; LANES], key: &SipHash13, proto: L4Proto) -> [u64; LANES] {
        let words = keys.each_ref().map(|k| k.words(proto));
        key.sealed_lanes(&[
            words.map(|[a, ..]| a),
            words.map(|[_, b, ..]| b),
            words.map(|[_, _, c, ..]| c),
            words.map(|[_, _, _, d, _]| d),
            words.map(|[.., e]| e),
        ])
    }
}

/// One of a pair by side; without a branch.
#[inline(always)]
pub(crate) fn of_side<T>(pair: &[T; 2], side: usize) -> &T {
    pair.get(side & 1).unwrap_or(&pair[0])
}

/// The place of a direction in the pairs of a line.
#[inline(always)]
pub(crate) const fn side(direction: Direction) -> usize {
    match direction {
        Direction::Inbound => 0,
        Direction::Return => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_and_tuples_are_the_same_thing(
            src: u128, dst: u128, sport: u16, dport: u16, udp: bool, secret: [u64; 2],
        ) {
            let proto = if udp { L4Proto::Udp } else { L4Proto::Tcp };
            let hash = SipHash13::new(&secret);
            let v4 = TupleV4 { src: src as u32, dst: dst as u32, sport, dport, proto };
            let key = KeyV4::from(&v4);
            prop_assert_eq!(key.tuple(proto), v4);
            prop_assert_eq!(key.dst(), v4.dst);
            prop_assert_eq!(key.swapped().tuple(proto).src, v4.dst);
            prop_assert_eq!(key.swapped().tuple(proto).dport, sport);
            prop_assert_eq!(key.swapped().swapped(), key);
            // The hash is SipHash of the bytes, with the protocol behind them.
            let mut bytes = std::vec::Vec::from(key.0);
            bytes.push(proto.number());
            prop_assert_eq!(key.hash(&hash, proto), hash.bytes(&bytes));
            let keys = [key, key.swapped(), KeyV4::default(), key];
            prop_assert_eq!(KeyV4::hash_lanes(&keys, &hash, proto), keys.map(|k| k.hash(&hash, proto)));

            let v6 = TupleV6 { src, dst, sport, dport, proto };
            let key = KeyV6::from(&v6);
            prop_assert_eq!(key.tuple(proto), v6);
            prop_assert_eq!(key.dst(), dst);
            prop_assert_eq!(key.swapped().tuple(proto).src, dst);
            prop_assert_eq!(key.swapped().swapped(), key);
            let mut bytes = std::vec::Vec::from(key.0);
            bytes.push(proto.number());
            prop_assert_eq!(key.hash(&hash, proto), hash.bytes(&bytes));
            let keys = [key, key.swapped(), KeyV6::default(), key];
            prop_assert_eq!(KeyV6::hash_lanes(&keys, &hash, proto), keys.map(|k| k.hash(&hash, proto)));
        }
    }
}
