//! The UDP header (RFC 768).

use super::error::{Fault, Layer, Malformed};
use zerocopy::byteorder::{BigEndian, U16};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

const OFFSET_LEN: usize = 4;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Fixed {
    sport: U16<BigEndian>,
    dport: U16<BigEndian>,
    len: U16<BigEndian>,
    checksum: U16<BigEndian>,
}

/// A UDP datagram whose length is in order.
#[derive(Clone, Copy)]
pub struct Udp<'a> {
    fixed: &'a Fixed,
    payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Checks a datagram that is whole in `bytes`, the payload of its IP packet.
    ///
    /// A length below that of the IP payload is accepted and bounds the UDP payload, in both
    /// families: the rest is padding (or the surplus area of UDP options).
    ///
    /// # Errors
    /// `Truncated` below 8 bytes; `BadLength` when the length field is below 8 (a jumbogram's zero
    /// included) or above what is there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_within(bytes, bytes.len())
    }

    /// Checks a datagram of which `bytes` is the first contiguous part, out of `available` in all.
    /// For a first fragment, whose length is that of the whole datagram, `available` is 65535.
    ///
    /// # Errors
    /// As [`Udp::parse`].
    #[inline(always)]
    pub fn parse_within(bytes: &'a [u8], available: usize) -> Result<Self, Malformed> {
        let Ok((fixed, rest)) = Fixed::ref_from_prefix(bytes) else {
            return Err(Malformed::new(Layer::Udp, Fault::Truncated, 0));
        };
        let len = usize::from(fixed.len.get());
        if len < HEADER_LEN || len > available.max(bytes.len()) {
            return Err(Malformed::new(Layer::Udp, Fault::BadLength, OFFSET_LEN));
        }
        let payload = rest.get(..len.saturating_sub(HEADER_LEN)).unwrap_or(rest);
        Ok(Self { fixed, payload })
    }

    /// Source port; zero when no answer is expected.
    #[must_use]
    pub const fn sport(&self) -> u16 {
        self.fixed.sport.get()
    }

    /// Destination port.
    #[must_use]
    pub const fn dport(&self) -> u16 {
        self.fixed.dport.get()
    }

    /// Length of header and payload, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a header field, never below 8")]
    pub const fn len(&self) -> u16 {
        self.fixed.len.get()
    }

    /// The checksum, as in the packet. Zero means none in IPv4 (RFC 768) and is forbidden in IPv6
    /// outside of tunnels (RFC 8200 section 8.1, RFC 6935).
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        self.fixed.checksum.get()
    }

    /// The payload without padding, as far as it lies in the contiguous part.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}
