//! The place in a device's indirection table, from the packet's tuple: Toeplitz by tables of 16 values.
//!
//! The hash is linear: the hash of a whole header is the sum (exclusive or) of what its parts contribute.
//! So four bits at a time are looked up, and only the low bits that choose the entry are kept.

use crate::flow::WireTuple;
use core::net::IpAddr;

/// Contribution of each value of four input bits.
type Nibble = [u16; 16];

/// Contributions of the input of one family, whose addresses have `A` times four bits.
#[derive(Clone, Copy)]
struct Input<const A: usize> {
    src: [Nibble; A],
    dst: [Nibble; A],
    ports: [Nibble; 8],
}

/// Bytes of key that the longest input needs: IPv6 addresses and ports, and the last window.
pub(super) const KEY_BYTES: usize = 40;

/// The 32 bits of the key from this bit on.
fn window(key: &[u8], bit: usize) -> u32 {
    let bytes = key.iter().skip(bit / 8).copied().chain(core::iter::repeat(0)).take(5);
    let wide = bytes.fold(0u64, |wide, byte| wide << 8 | u64::from(byte));
    (wide >> (8 - bit % 8)) as u32
}

/// Contributions of four input bits, the first of which is input bit `bit`.
fn nibble(key: &[u8], bit: usize, mask: u16) -> Nibble {
    let mut values = [0; 16];
    for (value, place) in (0u16..).zip(&mut values) {
        for (step, weight) in [8, 4, 2, 1].into_iter().enumerate() {
            if value & weight != 0 {
                *place ^= window(key, bit.wrapping_add(step)) as u16 & mask;
            }
        }
    }
    values
}

fn nibbles<const N: usize>(key: &[u8], from: usize, mask: u16) -> [Nibble; N] {
    let mut all = [[0; 16]; N];
    for (number, place) in all.iter_mut().enumerate() {
        *place = nibble(key, number.wrapping_mul(4).wrapping_add(from), mask);
    }
    all
}

/// What an address or the two ports contribute.
macro_rules! contribution {
    ($name:ident, $int:ty) => {
        #[inline]
        fn $name(tables: &[Nibble], mut value: $int) -> u16 {
            let mut sum = 0;
            for table in tables.iter().rev() {
                sum ^= table.get((value & 15) as usize).copied().unwrap_or(0);
                value >>= 4;
            }
            sum
        }
    };
}
contribution!(short, u32);
contribution!(long, u128);

impl<const A: usize> Input<A> {
    fn new(key: &[u8], mask: u16) -> Self {
        let bits = A.wrapping_mul(4);
        Self {
            src: nibbles(key, 0, mask),
            dst: nibbles(key, bits, mask),
            ports: nibbles(key, bits.wrapping_mul(2), mask),
        }
    }
}

const fn both(sport: u16, dport: u16) -> u32 {
    (sport as u32) << 16 | dport as u32
}

/// The index into an indirection table of `2^n` entries, at most 512.
///
/// ```
/// use lvs_core::io::mem::RSS_KEY;
/// use lvs_core::plan::RssIndex;
/// use lvs_core::flow::{L4Proto, WireTuple};
/// let index = RssIndex::new(&RSS_KEY, 128);
/// let (from, to) = ([66, 9, 149, 187].into(), [161, 142, 100, 80].into());
/// let tuple = WireTuple::new(L4Proto::Tcp, from, 2794, to, 1766).unwrap();
/// assert_eq!(index.of(&tuple), 0x51cc_c178_u32 as u16 % 128); // the verification suite's hash
/// assert_eq!(index.of_addresses(from, to), Some(0x323e_8fc2_u32 as u16 % 128));
/// ```
#[derive(Clone, Copy)]
pub struct RssIndex {
    v4: Input<8>,
    v6: Input<32>,
    mask: u16,
}

impl RssIndex {
    /// For this key and a table of `entries`, a power of two up to 65536 (more counts as that, and a number
    /// between as the next smaller one). A key that is too short continues with zeros.
    #[must_use]
    pub fn new(key: &[u8], entries: usize) -> Self {
        let bits = entries.max(1).ilog2().min(16);
        let mask = u16::try_from((1u32 << bits) - 1).unwrap_or(u16::MAX);
        Self { v4: Input::new(key, mask), v6: Input::new(key, mask), mask }
    }

    /// Of a packet whose addresses and ports are hashed.
    #[must_use]
    #[inline]
    pub fn of(&self, tuple: &WireTuple) -> u16 {
        match tuple {
            WireTuple::V4(t) => {
                short(&self.v4.src, t.src)
                    ^ short(&self.v4.dst, t.dst)
                    ^ short(&self.v4.ports, both(t.sport, t.dport))
            }
            WireTuple::V6(t) => {
                long(&self.v6.src, t.src)
                    ^ long(&self.v6.dst, t.dst)
                    ^ short(&self.v6.ports, both(t.sport, t.dport))
            }
        }
    }

    /// Of a packet whose addresses alone are hashed: fragments, ICMP, and on some devices UDP. `None` when
    /// the families differ.
    #[must_use]
    pub fn of_addresses(&self, src: IpAddr, dst: IpAddr) -> Option<u16> {
        match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                Some(short(&self.v4.src, s.to_bits()) ^ short(&self.v4.dst, d.to_bits()))
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                Some(long(&self.v6.src, s.to_bits()) ^ long(&self.v6.dst, d.to_bits()))
            }
            _ => None,
        }
    }

    /// Of a whole hash.
    #[must_use]
    #[inline]
    pub const fn of_hash(&self, hash: u32) -> u16 {
        hash as u16 & self.mask
    }

    /// What the destination port contributes, by bit of the port from the lowest on.
    pub(super) fn port_columns(&self, v6: bool) -> [u16; 16] {
        let ports = if v6 { &self.v6.ports } else { &self.v4.ports };
        let mut columns = [0; 16];
        for (bit, column) in columns.iter_mut().enumerate() {
            *column = short(ports, 1 << bit);
        }
        columns
    }
}
