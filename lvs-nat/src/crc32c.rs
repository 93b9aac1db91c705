//! CRC32c, the checksum of SCTP (RFC 9260 appendix A) and of a PROXY protocol value.
//!
//! The polynomial is Castagnoli's, 0x1EDC6F41, bits in the order of the wire, register and result
//! inverted. Eight bytes a step with eight tables of 1 KiB, computed by the compiler.
//!
//! # By difference
//! A CRC is linear over the exclusive or: what a change of some bytes does to it depends on the changed
//! bits and on their distance from the end, on nothing else. [`Change`] computes that without reading the
//! data, so a wrong value stays wrong by the same amount, as with
//! [`Delta`](lvs_core::checksum::Delta) for the Internet checksum.

/// The polynomial, lowest bit first.
const POLY: u32 = 0x82f6_3b78;

const TABLES: [[u32; 256]; 8] = tables();

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = value >> 1 ^ if value & 1 == 1 { POLY } else { 0 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let less = tables[table - 1][byte];
            tables[table][byte] = less >> 8 ^ tables[0][(less & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The entry of a byte; a byte is always inside of the table.
#[inline]
fn entry(table: &[u32; 256], byte: u32) -> u32 {
    table.get((byte & 0xff) as usize).copied().unwrap_or(0)
}

/// The register moved over one byte of zero.
#[inline]
fn step(register: u32) -> u32 {
    register >> 8 ^ entry(&TABLES[0], register)
}

/// A CRC32c over bytes in pieces.
///
/// ```
/// use lvs_nat::crc32c::Crc32c;
///
/// // The check value of every catalogue.
/// assert_eq!(Crc32c::new().bytes(b"1234").bytes(b"56789").value(), 0xe306_9283);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc32c {
    /// Over nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(u32::MAX)
    }

    /// Over these bytes, too.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut register = self.0;
        for [a, b, c, d, e, f, g, h] in words {
            let low = register ^ u32::from_le_bytes([*a, *b, *c, *d]);
            register = entry(&TABLES[7], low)
                ^ entry(&TABLES[6], low >> 8)
                ^ entry(&TABLES[5], low >> 16)
                ^ entry(&TABLES[4], low >> 24)
                ^ entry(&TABLES[3], u32::from(*e))
                ^ entry(&TABLES[2], u32::from(*f))
                ^ entry(&TABLES[1], u32::from(*g))
                ^ entry(&TABLES[0], u32::from(*h));
        }
        Self(rest.iter().fold(register, |register, byte| step(register ^ u32::from(*byte))))
    }

    /// The checksum. On the wire SCTP has it least significant byte first, PROXY most significant.
    #[must_use]
    pub const fn value(self) -> u32 {
        !self.0
    }
}

/// What an edit does to a CRC32c: to be combined with the old value by exclusive or.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(u32);

impl Change {
    /// Four bytes become others, `behind` bytes in front of the end of the data.
    #[must_use]
    pub const fn word(old: [u8; 4], new: [u8; 4], behind: u32) -> Self {
        let difference = u32::from_le_bytes(old) ^ u32::from_le_bytes(new);
        // Four bytes pass through the register by being put in and moved over four zeros.
        Self(over_zeros(difference, behind as u64 + 4))
    }

    /// Both edits.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// The checksum after the edit.
    #[must_use]
    pub const fn apply(self, value: u32) -> u32 {
        value ^ self.0
    }
}

/// The product of two polynomials, lowest bit first, modulo the polynomial.
const fn product(a: u32, mut b: u32) -> u32 {
    let mut result = 0;
    let mut bit = 1u32 << 31;
    while bit != 0 {
        if a & bit != 0 {
            result ^= b;
        }
        b = b >> 1 ^ if b & 1 == 1 { POLY } else { 0 };
        bit >>= 1;
    }
    result
}

/// A register moved over so many zero bytes: multiplied by x to the power of eight times their number,
/// by squaring.
const fn over_zeros(register: u32, bytes: u64) -> u32 {
    let mut power = 1u32 << 23; // x⁸
    let (mut result, mut left) = (register, bytes);
    while left != 0 {
        if left & 1 == 1 {
            result = product(result, power);
        }
        power = product(power, power);
        left >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Bit by bit, from the definition.
    fn slow(bytes: &[u8]) -> u32 {
        let mut register = u32::MAX;
        for byte in bytes {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                register = register >> 1 ^ if register & 1 == 1 { POLY } else { 0 };
            }
        }
        !register
    }

    /// RFC 3720 appendix B.4.
    #[test]
    fn the_published_examples_come_out() {
        let crc = |bytes: &[u8]| Crc32c::new().bytes(bytes).value();
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc(&up), 0x46dd_794e);
        assert_eq!(crc(&down), 0x113f_db5c);
        assert_eq!(crc(b""), 0);
    }

    proptest! {
        #[test]
        fn tables_do_what_single_bits_do(bytes: Vec<u8>, cut: usize) {
            let (a, b) = bytes.split_at(cut % (bytes.len() + 1));
            prop_assert_eq!(Crc32c::new().bytes(a).bytes(b).value(), slow(&bytes));
        }

        #[test]
        fn a_change_is_the_difference_of_the_two_values(
            front: Vec<u8>, old: [u8; 4], new: [u8; 4], back: Vec<u8>,
        ) {
            let before = slow(&[&front[..], &old, &back].concat());
            let after = slow(&[&front[..], &new, &back].concat());
            let change = Change::word(old, new, back.len() as u32);
            prop_assert_eq!(change.apply(before), after);
            prop_assert_eq!(change.and(Change::word(new, old, back.len() as u32)), Change::default());
        }
    }
}
