//! The IPv4 header with its options (RFC 791).

use super::error::{Fault, Layer, Malformed};
use super::headers::Fragment;
use super::option;
use crate::checksum::Sum;
use core::net::Ipv4Addr;
use zerocopy::byteorder::{BigEndian, U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;
/// Largest packet that the total length field can state, and largest that fragments may build.
pub const MAX_PACKET: usize = 65535;

const OFFSET_TOTAL_LEN: usize = 2;
const OFFSET_FRAGMENT: usize = 6;
const OFFSET_CHECKSUM: usize = 10;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Fixed {
    version_ihl: u8,
    tos: u8,
    total_len: U16<BigEndian>,
    identification: U16<BigEndian>,
    fragment: U16<BigEndian>,
    ttl: u8,
    protocol: u8,
    checksum: U16<BigEndian>,
    src: U32<BigEndian>,
    dst: U32<BigEndian>,
}

/// An IPv4 packet whose header, options, lengths and header checksum are in order.
#[derive(Clone, Copy)]
pub struct Ipv4<'a> {
    fixed: &'a Fixed,
    header: &'a [u8],
    payload: &'a [u8],
    total_len: u32,
    fragment: Fragment,
}

impl<'a> Ipv4<'a> {
    /// Checks a packet that is whole in `bytes`; bytes behind its total length are padding.
    ///
    /// # Errors
    /// As [`Ipv4::parse_within`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_within(bytes, bytes.len())
    }

    /// Checks a packet of which `bytes` is the first contiguous part, out of `available` in all. The
    /// header must lie inside `bytes`.
    ///
    /// A total length of zero stands for all that is available when that is more than the field can
    /// state (a large TCP train; `iph_totlen` in the kernel's `include/linux/ip.h`).
    ///
    /// # Errors
    /// - `Truncated`: the header, or the stated total length, goes past the end;
    /// - `BadVersion`: not 4;
    /// - `BadLength`: header below 20 bytes or above the total length; a fragment that is empty,
    ///   reaches past 65535, or is not the last one and not a multiple of 8 bytes long;
    /// - `BadChecksum`: of the header, which is always verified;
    /// - `BadOption`: an option's length is below 2 or past the header.
    #[inline(always)]
    pub fn parse_within(bytes: &'a [u8], available: usize) -> Result<Self, Malformed> {
        let Ok((fixed, _)) = Fixed::ref_from_prefix(bytes) else {
            return bad(Fault::Truncated, 0);
        };
        if fixed.version_ihl >> 4 != 4 {
            return bad(Fault::BadVersion, 0);
        }
        let header_len = usize::from(fixed.version_ihl & 0x0f) * 4;
        if header_len < HEADER_LEN {
            return bad(Fault::BadLength, 0);
        }
        let Some((header, rest)) = bytes.split_at_checked(header_len) else {
            return bad(Fault::Truncated, 0);
        };
        let total_len = total_len(fixed, header_len, available.max(bytes.len()))?;
        if !checksum_is_right(header) {
            return bad(Fault::BadChecksum, OFFSET_CHECKSUM);
        }
        if header_len > HEADER_LEN {
            check_options(header)?;
        }
        let payload_len = (total_len as usize).saturating_sub(header_len);
        let fragment = match fixed.fragment.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) {
            0 => Fragment::No,
            field => check_fragment(field, total_len as usize, payload_len)?,
        };
        let payload = rest.get(..payload_len).unwrap_or(rest);
        Ok(Self { fixed, header, payload, total_len, fragment })
    }

    /// Source address.
    #[must_use]
    pub const fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.fixed.src.get())
    }

    /// Destination address.
    #[must_use]
    pub const fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.fixed.dst.get())
    }

    /// Protocol of the payload.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.fixed.protocol
    }

    /// Time to live.
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        self.fixed.ttl
    }

    /// Type of service: six bits DSCP (RFC 2474), two bits ECN (RFC 3168).
    #[must_use]
    pub const fn tos(&self) -> u8 {
        self.fixed.tos
    }

    /// Identification: the same in all fragments of a datagram.
    #[must_use]
    pub const fn identification(&self) -> u16 {
        self.fixed.identification.get()
    }

    /// The packet must not be fragmented.
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.fixed.fragment.get() & DONT_FRAGMENT != 0
    }

    /// This is a fragment and not the last one.
    #[must_use]
    pub const fn more_fragments(&self) -> bool {
        self.fixed.fragment.get() & MORE_FRAGMENTS != 0
    }

    /// Where the payload belongs in the datagram, in bytes.
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        (self.fixed.fragment.get() & FRAGMENT_OFFSET) << 3
    }

    /// Whether the packet is a fragment.
    #[must_use]
    pub const fn fragment(&self) -> Fragment {
        self.fragment
    }

    /// The header checksum, as in the packet.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        self.fixed.checksum.get()
    }

    /// Bytes of the header with its options: 20 to 60.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header.len()
    }

    /// Bytes of the packet, header included; above 65535 in a large TCP train only.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.total_len as usize
    }

    /// Bytes of the payload as the header states them; [`Ipv4::payload`] may hold fewer.
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        self.total_len().saturating_sub(self.header.len())
    }

    /// The payload without padding, as far as it lies in the contiguous part.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The options, padding left out.
    #[must_use]
    pub fn options(&self) -> Ipv4Options<'a> {
        Ipv4Options(option::Walk::new(self.header.get(HEADER_LEN..).unwrap_or_default()))
    }
}

/// One option of an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Option<'a> {
    /// Copied flag (0x80), class and number. Loose source route is 131, strict 137, record route 7,
    /// timestamp 68, router alert 148.
    pub kind: u8,
    /// What follows kind and length.
    pub value: &'a [u8],
    /// Where the option starts, from the start of the IPv4 header.
    pub offset: usize,
}

/// Iterates over the options of an IPv4 header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Options<'a>(option::Walk<'a>);

impl<'a> Iterator for Ipv4Options<'a> {
    type Item = Ipv4Option<'a>;

    fn next(&mut self) -> Option<Ipv4Option<'a>> {
        let (offset, bytes) = self.0.next()?;
        let (&[kind, _], value) = bytes.split_first_chunk()?;
        Some(Ipv4Option { kind, value, offset: offset.saturating_add(HEADER_LEN) })
    }
}

fn bad<T>(fault: Fault, offset: usize) -> Result<T, Malformed> {
    Err(Malformed::new(Layer::Ipv4, fault, offset))
}

#[inline(always)]
fn total_len(fixed: &Fixed, header_len: usize, available: usize) -> Result<u32, Malformed> {
    let stated = fixed.total_len.get();
    if usize::from(stated) > available {
        return bad(Fault::Truncated, OFFSET_TOTAL_LEN);
    }
    if usize::from(stated) >= header_len {
        return Ok(u32::from(stated));
    }
    let train = stated == 0 && available > MAX_PACKET && fixed.protocol == super::PROTOCOL_TCP;
    match u32::try_from(available) {
        Ok(available) if train => Ok(available),
        _ => bad(Fault::BadLength, OFFSET_TOTAL_LEN),
    }
}

/// RFC 1071: the sum of the header, its checksum included, is all ones. Without options it is five
/// words, added without a loop.
#[inline(always)]
fn checksum_is_right(header: &[u8]) -> bool {
    let Some((fixed, options)) = header.split_first_chunk::<HEADER_LEN>() else {
        return false;
    };
    let words = fixed.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
    let sum = words.fold(Sum::ZERO, Sum::u32);
    if options.is_empty() { sum.is_valid() } else { with_options(sum, options) }
}

#[cold]
fn with_options(sum: Sum, options: &[u8]) -> bool {
    sum.bytes(options).is_valid()
}

#[cold]
fn check_options(header: &[u8]) -> Result<(), Malformed> {
    let options = header.get(HEADER_LEN..).unwrap_or_default();
    match option::first_bad(options) {
        Some(at) => bad(Fault::BadOption, at.saturating_add(HEADER_LEN)),
        None => Ok(()),
    }
}

/// Whether a fragment fits into a datagram. `field` holds its offset and whether more follow.
#[cold]
fn check_fragment(field: u16, total_len: usize, payload_len: usize) -> Result<Fragment, Malformed> {
    let offset = usize::from((field & FRAGMENT_OFFSET) << 3);
    let odd = field & MORE_FRAGMENTS != 0 && !payload_len.is_multiple_of(8);
    if odd || payload_len == 0 || offset.saturating_add(total_len) > MAX_PACKET {
        return bad(Fault::BadLength, OFFSET_FRAGMENT);
    }
    Ok(if offset == 0 { Fragment::First } else { Fragment::Later })
}
