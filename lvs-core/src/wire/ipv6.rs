//! The IPv6 header (RFC 8200), with its extension headers walked.

use super::error::{Fault, Layer, Malformed};
use super::headers::Fragment;
use super::ipv6_ext::{self, Extensions, FragmentHeader, Upper};
use core::net::Ipv6Addr;
use zerocopy::byteorder::{BigEndian, U16, U32, U128};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

const OFFSET_PAYLOAD_LEN: usize = 4;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Fixed {
    version_class_flow: U32<BigEndian>,
    payload_len: U16<BigEndian>,
    next_header: u8,
    hop_limit: u8,
    src: U128<BigEndian>,
    dst: U128<BigEndian>,
}

/// An IPv6 packet whose header, lengths and extension headers are in order.
#[derive(Clone, Copy)]
pub struct Ipv6<'a> {
    fixed: &'a Fixed,
    /// What follows the fixed header, without padding.
    behind: &'a [u8],
    upper: Upper,
}

impl<'a> Ipv6<'a> {
    /// Checks a packet that is whole in `bytes`; bytes behind its payload length are padding.
    ///
    /// # Errors
    /// As [`Ipv6::parse_within`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_within(bytes, bytes.len())
    }

    /// Checks a packet of which `bytes` is the first contiguous part, out of `available` in all. The
    /// header and all extension headers must lie inside `bytes`.
    ///
    /// # Errors
    /// - `Truncated`: a header, or the stated payload length, goes past the end;
    /// - `BadVersion`: not 6;
    /// - `BadLength`: a payload length of zero before a hop-by-hop header (a jumbogram, RFC 2675,
    ///   is not supported), or lengths that [`ipv6_ext`] refuses;
    /// - `BadOption`, `BadField`, `TooManyHeaders`: from the walk, see [`ipv6_ext`].
    #[inline(always)]
    pub fn parse_within(bytes: &'a [u8], available: usize) -> Result<Self, Malformed> {
        let bad = |fault, offset| Err(Malformed::new(Layer::Ipv6, fault, offset));
        let Ok((fixed, rest)) = Fixed::ref_from_prefix(bytes) else {
            return bad(Fault::Truncated, 0);
        };
        if fixed.version_class_flow.get() >> 28 != 6 {
            return bad(Fault::BadVersion, 0);
        }
        let payload_len = usize::from(fixed.payload_len.get());
        if payload_len > available.max(bytes.len()).saturating_sub(HEADER_LEN) {
            return bad(Fault::Truncated, OFFSET_PAYLOAD_LEN);
        }
        let next = fixed.next_header;
        if payload_len == 0 && next == ipv6_ext::HOP_BY_HOP {
            return bad(Fault::BadLength, OFFSET_PAYLOAD_LEN);
        }
        let behind = rest.get(..payload_len).unwrap_or(rest);
        let upper = if ipv6_ext::is_extension(next) {
            ipv6_ext::walk(next, behind, payload_len)?
        } else {
            Upper { protocol: next, offset: 0, fragment: None }
        };
        Ok(Self { fixed, behind, upper })
    }

    /// Source address.
    #[must_use]
    pub const fn src(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.fixed.src.get())
    }

    /// Destination address.
    #[must_use]
    pub const fn dst(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.fixed.dst.get())
    }

    /// Hop limit.
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        self.fixed.hop_limit
    }

    /// Traffic class: six bits DSCP (RFC 2474), two bits ECN (RFC 3168).
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        let [_, class, _, _] = (self.fixed.version_class_flow.get() << 4 >> 8).to_be_bytes();
        class
    }

    /// Flow label, 20 bits.
    #[must_use]
    pub const fn flow_label(&self) -> u32 {
        self.fixed.version_class_flow.get() & 0x000f_ffff
    }

    /// The header that follows the fixed one directly.
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        self.fixed.next_header
    }

    /// Protocol of the payload, behind the extension headers that were walked.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.upper.protocol
    }

    /// The fragment header, if there is one; also that of an atomic fragment (RFC 6946).
    #[must_use]
    pub const fn fragment_header(&self) -> Option<FragmentHeader> {
        self.upper.fragment
    }

    /// Whether the packet is a fragment; an atomic fragment is whole.
    #[must_use]
    #[inline]
    pub const fn fragment(&self) -> Fragment {
        match self.upper.fragment {
            None => Fragment::No,
            Some(header) => header.fragment(),
        }
    }

    /// Bytes of the fixed header and the extension headers that were walked.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN.saturating_add(self.upper.offset)
    }

    /// Bytes of the packet, fixed header included.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        HEADER_LEN.saturating_add(self.fixed.payload_len.get() as usize)
    }

    /// Bytes behind all headers as the lengths state them; [`Ipv6::payload`] may hold fewer.
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        (self.fixed.payload_len.get() as usize).saturating_sub(self.upper.offset)
    }

    /// What follows all headers, without padding, as far as it lies in the contiguous part.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.behind.get(self.upper.offset..).unwrap_or_default()
    }

    /// The extension headers in front of the payload.
    #[must_use]
    pub fn extensions(&self) -> Extensions<'a> {
        let bytes = self.behind.get(..self.upper.offset).unwrap_or_default();
        Extensions::new(self.fixed.next_header, bytes)
    }
}
