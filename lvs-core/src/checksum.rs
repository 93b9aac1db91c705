//! The Internet checksum: sums over bytes, sums over changes, and the rules of each protocol.
//!
//! Three tools, all of them plain 16-bit one's-complement arithmetic (RFC 1071):
//!
//! - [`Sum`] adds bytes and pseudo-headers, for whoever verifies or computes a whole checksum.
//! - [`Delta`] adds *changes* of fields, for whoever edits a packet (RFC 1141, RFC 1624). It costs
//!   the same for a packet of 64 bytes and of 64 KiB, and it is the only thing a translation needs.
//! - The functions [`verify_tcp`], [`verify_udp`], [`verify_icmpv4`], [`verify_icmpv6`] and
//!   [`complete_partial`] know where the field is and what zero means in it.
//!
//! # The invariant: a wrong checksum in is a wrong checksum out
//! [`Delta::apply`] moves the field by exactly as much as the packet moved, so the distance between
//! the field and the right value stays what it was: a packet that was damaged on its way here is
//! still seen to be damaged at its destination. A path that cannot work by change (segmentation,
//! protocols with another sum) must call a `verify` function first and leave a failing packet
//! alone. [`complete_partial`] keeps the rule by itself, as it sums what the field holds instead
//! of replacing it.
//!
//! # The two zeros
//! One's complement writes zero as 0x0000 and as 0xffff. Sums here are 0x0000 only when every byte
//! was zero, so a computed checksum is never 0xffff, except in UDP, where 0x0000 says "none" and a
//! computed zero is therefore sent as 0xffff (RFC 768).
//!
//! ```
//! use lvs_core::checksum::{Delta, Sum};
//!
//! let mut header = [0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7];
//! let before = Sum::ZERO.bytes(&header).checksum();
//! // The packet gets another source address; the checksum follows without a look at the rest.
//! header[12..16].copy_from_slice(&[10, 0, 0, 1]);
//! let delta = Delta::ZERO.u32(0xc000_0201, 0x0a00_0001);
//! assert_eq!(delta.apply(before), Sum::ZERO.bytes(&header).checksum());
//! // The answer makes the opposite change.
//! assert_eq!(delta.complement().apply(delta.apply(before)), before);
//! ```

mod field;

pub use field::{
    NoChecksumField, complete_partial, l4_checksum, udp_field, verify_icmpv4, verify_icmpv6,
    verify_tcp, verify_udp,
};

use crate::addr::Family;
use crate::flow::WireTuple;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// Adds with the carry brought around to the low end. The result is zero only if both parts are.
#[inline(always)]
const fn add_carry(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry as u64)
}

/// 64 bits to 16, carries included: adding a number to itself with its halves exchanged leaves the
/// folded sum, carry and all, in the upper half.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// A 128-bit number as a sum of its halves; congruent to the sum of its eight 16-bit words.
const fn halves(value: u128) -> u64 {
    add_carry((value >> 64) as u64, value as u64)
}

/// A running one's-complement sum (RFC 1071). Numbers are in host byte order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds bytes that start at an even offset of the summed data. An odd last byte counts as if a
    /// zero followed (RFC 1071 section 1); what comes after it belongs to [`Sum::odd_bytes`].
    #[must_use]
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        Self(add_carry(self.0, u16::from_be(fold(native_sum(bytes))) as u64))
    }

    /// Adds bytes that start at an *odd* offset, such as the second part of a packet whose first
    /// part has an odd length.
    #[must_use]
    pub fn odd_bytes(self, bytes: &[u8]) -> Self {
        Self(add_carry(self.0, u16::from_be(fold(native_sum(bytes))).swap_bytes() as u64))
    }

    /// Adds a 16-bit word.
    #[must_use]
    pub const fn u16(self, value: u16) -> Self {
        Self(add_carry(self.0, value as u64))
    }

    /// Adds two words at once.
    #[must_use]
    pub const fn u32(self, value: u32) -> Self {
        Self(add_carry(self.0, value as u64))
    }

    /// Adds eight words at once.
    #[must_use]
    pub const fn u128(self, value: u128) -> Self {
        Self(add_carry(self.0, halves(value)))
    }

    /// Adds another sum over data of even length.
    #[must_use]
    pub const fn sum(self, other: Self) -> Self {
        Self(add_carry(self.0, other.0))
    }

    /// The 16-bit sum, not complemented: what a partial checksum field holds.
    #[must_use]
    pub const fn fold(self) -> u16 {
        fold(self.0)
    }

    /// The complement: what a checksum field holds.
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !fold(self.0)
    }

    /// Whether data that includes its checksum is intact: the sum is all ones.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }
}

/// The sum of the bytes as 32-bit numbers of this machine. Byte order does not matter to the sum
/// as long as the folded result is turned once (RFC 1071 section 2 B). The loop has neither carry
/// nor branch, so the compiler vectorises it; 64 bits overflow only beyond 16 GiB.
#[inline]
fn native_sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum = words.iter().fold(0u64, |sum, &w| sum.wrapping_add(u64::from(u32::from_ne_bytes(w))));
    let last = match *rest {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    sum.wrapping_add(u64::from(u32::from_ne_bytes(last)))
}

/// The two addresses that a pseudo-header covers. Host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddrPair {
    /// IPv4.
    V4 {
        /// Source.
        src: u32,
        /// Destination.
        dst: u32,
    },
    /// IPv6. With a routing header the destination is the last one (RFC 8200 section 8.1).
    V6 {
        /// Source.
        src: u128,
        /// Destination.
        dst: u128,
    },
}

impl AddrPair {
    /// From two addresses; `None` when the families differ.
    #[must_use]
    pub const fn new(src: IpAddr, dst: IpAddr) -> Option<Self> {
        match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => Some(Self::V4 { src: s.to_bits(), dst: d.to_bits() }),
            (IpAddr::V6(s), IpAddr::V6(d)) => Some(Self::V6 { src: s.to_bits(), dst: d.to_bits() }),
            _ => None,
        }
    }

    /// IP version.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::V4 { .. } => Family::V4,
            Self::V6 { .. } => Family::V6,
        }
    }

    /// The sum of the pseudo-header: addresses, protocol number, and length of the transport
    /// header with its payload in bytes. RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1.
    ///
    /// [`Sum::fold`] of it is what a field in state `Partial` holds.
    #[must_use]
    pub const fn pseudo(self, protocol: u8, l4_len: u32) -> Sum {
        let tail = Sum::ZERO.u16(protocol as u16).u32(l4_len);
        match self {
            Self::V4 { src, dst } => tail.u32(src).u32(dst),
            Self::V6 { src, dst } => tail.u128(src).u128(dst),
        }
    }
}

impl From<&WireTuple> for AddrPair {
    fn from(tuple: &WireTuple) -> Self {
        match *tuple {
            WireTuple::V4(t) => Self::V4 { src: t.src, dst: t.dst },
            WireTuple::V6(t) => Self::V6 { src: t.src, dst: t.dst },
        }
    }
}

/// How much a set of edits changes a one's-complement sum. Numbers are in host byte order; every
/// method adds one edit, so edits compose in any order.
///
/// Folded to 16 bits ([`Delta::bits`]) it is what a session stores; [`Delta::complement`] of it is
/// the change that the other direction makes.
#[derive(Clone, Copy, Default)]
pub struct Delta(u64);

impl Delta {
    /// No change.
    pub const ZERO: Self = Self(0);

    /// A stored change.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits as u64)
    }

    /// Folded for storage. No change may read as 0x0000 or as 0xffff; both act alike.
    #[must_use]
    pub const fn bits(self) -> u16 {
        fold(self.0)
    }

    /// A 16-bit word at an even offset becomes another.
    #[must_use]
    pub const fn u16(self, old: u16, new: u16) -> Self {
        Self(add_carry(self.0, !old as u64 + new as u64))
    }

    /// A 32-bit number at an even offset becomes another.
    #[must_use]
    #[inline(always)]
    pub const fn u32(self, old: u32, new: u32) -> Self {
        Self(add_carry(self.0, !old as u64 + new as u64))
    }

    /// A 32-bit number becomes another at an offset that is odd if `odd`: each of its bytes then
    /// counts in the other half of its word, which is the number rotated by a byte.
    #[must_use]
    pub const fn u32_at(self, odd: bool, old: u32, new: u32) -> Self {
        let turn = 8 * odd as u32;
        self.u32(old.rotate_left(turn), new.rotate_left(turn))
    }

    /// A 16-bit word becomes another at an offset that is odd if `odd`.
    #[must_use]
    pub const fn u16_at(self, odd: bool, old: u16, new: u16) -> Self {
        let turn = 8 * odd as u32;
        self.u16(old.rotate_left(turn), new.rotate_left(turn))
    }

    /// A 128-bit number at an even offset becomes another.
    #[must_use]
    pub const fn u128(self, old: u128, new: u128) -> Self {
        Self(add_carry(self.0, add_carry(halves(!old), halves(new))))
    }

    /// An address becomes another, of the same family or not.
    #[must_use]
    pub const fn addr(self, old: IpAddr, new: IpAddr) -> Self {
        let old = match old {
            IpAddr::V4(v4) => v4.to_bits() as u128,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let new = match new {
            IpAddr::V4(v4) => v4.to_bits() as u128,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        self.u128(old, new)
    }

    /// An address and its port become others.
    #[must_use]
    pub const fn socket(self, old: &SocketAddr, new: &SocketAddr) -> Self {
        self.addr(old.ip(), new.ip()).u16(old.port(), new.port())
    }

    /// Data of even offset becomes other data: `old` and `new` are the sums of it.
    #[must_use]
    pub const fn sum(self, old: Sum, new: Sum) -> Self {
        Self(add_carry(self.0, add_carry(!old.fold() as u64, new.fold() as u64)))
    }

    /// Both changes.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(add_carry(self.0, other.0))
    }

    /// The opposite change: what an edit of the other direction does.
    #[must_use]
    pub const fn complement(self) -> Self {
        Self(!fold(self.0) as u64)
    }

    /// The checksum field after the change: RFC 1624 equation 3, `HC' = ~(~HC + ~m + m')`.
    ///
    /// Right for IPv4 headers, TCP and ICMP. A field that was wrong stays wrong by the same amount.
    #[must_use]
    pub const fn apply(self, field: u16) -> u16 {
        !fold(add_carry(self.0, !field as u64))
    }

    /// The checksum field of a UDP header after the change. Zero ("none") stays zero, and a result
    /// of zero is written as 0xffff (RFC 768).
    ///
    /// Over IPv6 zero is no checksum either and is kept: it is for the receiver to refuse it
    /// (RFC 8200 section 8.1) or to take it from a tunnel (RFC 6936 section 5), and filling it in
    /// would vouch for data that nobody checked. A *computed* value is never zero.
    #[must_use]
    pub const fn apply_udp(self, field: u16) -> u16 {
        match field {
            0 => 0,
            _ => udp_field(self.apply(field)),
        }
    }

    /// The field after the change where it holds only the folded pseudo-header sum
    /// ([`L4Csum::Partial`](crate::io::L4Csum::Partial)): added, not complemented.
    ///
    /// Only what the pseudo-header covers may be in the change: addresses, and bytes by which the
    /// transport header grew ([`Delta::length`]). Ports and everything else in the transport header
    /// are summed by whoever completes the field.
    #[must_use]
    pub const fn apply_partial(self, field: u16) -> u16 {
        fold(add_carry(self.0, field as u64))
    }

    /// The length in the pseudo-header grows (or shrinks) from `old` to `new` bytes.
    #[must_use]
    pub const fn length(self, old: u32, new: u32) -> Self {
        self.u32(old, new)
    }
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delta({:#06x})", self.bits())
    }
}

impl PartialEq for Delta {
    /// Equal in effect: both zeros are one.
    fn eq(&self, other: &Self) -> bool {
        matches!(self.complement().and(*other).bits(), 0 | 0xffff)
    }
}
impl Eq for Delta {}
