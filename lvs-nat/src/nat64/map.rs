//! ICMP types and codes of one version in the other (RFC 7915 sections 4.2 and 5.2).

/// A message of the other version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mapped {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes behind the checksum: a pointer, an MTU to be adjusted, or nothing.
    pub word: Word,
}

/// What stands behind the checksum of an error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// Nothing.
    Zero,
    /// The MTU of the old message, to be adjusted ([`mtu_to_v4`], [`mtu_to_v6`]).
    Mtu,
    /// Offset of what the receiver could not read.
    Pointer(u8),
}

const fn to(kind: u8, code: u8, word: Word) -> Option<Mapped> {
    Some(Mapped { kind, code, word })
}

/// An ICMP error as an ICMPv6 one; `None` for what has no counterpart and is dropped in silence.
/// `pointer` is byte 4 of the message, where a parameter problem points.
#[must_use]
pub const fn icmp_to_v6(kind: u8, code: u8, pointer: u8) -> Option<Mapped> {
    match (kind, code) {
        (3, 0 | 1 | 5..=8 | 11 | 12) => to(1, 0, Word::Zero),
        // An unknown protocol: a parameter problem at the next header.
        (3, 2) => to(4, 1, Word::Pointer(6)),
        (3, 3) => to(1, 4, Word::Zero),
        (3, 4) => to(2, 0, Word::Mtu),
        (3, 9 | 10 | 13 | 15) => to(1, 1, Word::Zero),
        (11, code) => to(3, code, Word::Zero),
        (12, 0 | 2) => match pointer {
            0 | 1 => to(4, 0, Word::Pointer(pointer)),
            2 | 3 => to(4, 0, Word::Pointer(4)),
            8 => to(4, 0, Word::Pointer(7)),
            9 => to(4, 0, Word::Pointer(6)),
            12..=15 => to(4, 0, Word::Pointer(8)),
            16..=19 => to(4, 0, Word::Pointer(24)),
            _ => None,
        },
        _ => None,
    }
}

/// An ICMPv6 error as an ICMP one; `None` for what has no counterpart and is dropped in silence.
/// `pointer` is the word behind the checksum, where a parameter problem points.
#[must_use]
pub const fn icmp_to_v4(kind: u8, code: u8, pointer: u32) -> Option<Mapped> {
    match (kind, code) {
        (1, 0 | 2 | 3) => to(3, 1, Word::Zero),
        (1, 1) => to(3, 10, Word::Zero),
        (1, 4) => to(3, 3, Word::Zero),
        (2, _) => to(3, 4, Word::Mtu),
        (3, code) => to(11, code, Word::Zero),
        (4, 0) => match pointer {
            0 | 1 => to(12, 0, Word::Pointer(pointer as u8)),
            4 | 5 => to(12, 0, Word::Pointer(2)),
            6 => to(12, 0, Word::Pointer(9)),
            7 => to(12, 0, Word::Pointer(8)),
            8..=23 => to(12, 0, Word::Pointer(12)),
            24..=39 => to(12, 0, Word::Pointer(16)),
            _ => None,
        },
        (4, 1) => to(3, 2, Word::Zero),
        _ => None,
    }
}

/// Sizes in use (RFC 1191 section 7), for routers that do not tell the next MTU.
const PLATEAUS: [u16; 11] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// The MTU for an IPv6 sender: that of the IPv4 message, 20 bytes more, or less where a link of ours is
/// smaller; where the message tells none (0), the size below that of the packet it speaks of. At least
/// 1280, the least that IPv6 has: what is larger then gets fragmented.
#[must_use]
pub const fn mtu_to_v6(told: u16, packet_len: u16, our_v6: u16, our_v4: u16) -> u32 {
    let mut mtu = told;
    if told == 0 {
        let mut at = PLATEAUS.as_slice();
        while let [size, rest @ ..] = at {
            if *size < packet_len {
                mtu = *size;
                break;
            }
            at = rest;
        }
    }
    let ours = min(our_v6 as u32, our_v4 as u32 + 20);
    let mtu = min(mtu as u32 + 20, ours);
    if mtu < 1280 { 1280 } else { mtu }
}

/// The MTU for an IPv4 sender: that of the IPv6 message, 20 bytes less, or less where a link of ours is
/// smaller. At least 68, the least that IPv4 has.
#[must_use]
pub const fn mtu_to_v4(told: u32, our_v4: u16, our_v6: u16) -> u16 {
    let mtu = min(told.saturating_sub(20), min(our_v4 as u32, (our_v6 as u32).saturating_sub(20)));
    if mtu < 68 { 68 } else { mtu as u16 }
}

const fn min(a: u32, b: u32) -> u32 {
    if a < b { a } else { b }
}
