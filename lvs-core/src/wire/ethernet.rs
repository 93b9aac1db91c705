//! The Ethernet header, with up to two VLAN tags behind it.

use super::error::{Fault, Layer, Malformed};
use super::vlan;
use crate::addr::MacAddr;
use crate::io::Vlan;
use zerocopy::byteorder::{BigEndian, U16};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of the header without tags.
pub const HEADER_LEN: usize = 14;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Fixed {
    dst: [u8; 6],
    src: [u8; 6],
    ethertype: U16<BigEndian>,
}

/// A frame whose Ethernet header and tags are in order.
#[derive(Clone, Copy)]
pub struct Ethernet<'a> {
    fixed: &'a Fixed,
    tags: vlan::Tags,
    ethertype: u16,
    payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// Checks the header and the tags.
    ///
    /// # Errors
    /// `Truncated` when the bytes end inside the header or a tag, `BadField` at byte 6 when the
    /// source is a group address (IEEE 802.3 section 3.2.3), `TooManyHeaders` at the third tag.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header = Self::without_tags(bytes)?;
        if !vlan::is_tag(header.ethertype) {
            return Ok(header);
        }
        let (tags, ethertype, payload) = vlan::walk(header.ethertype, header.payload)?;
        Ok(Self { tags, ethertype, payload, ..header })
    }

    /// The header alone: its type may say that a tag follows.
    #[inline(always)]
    pub(super) fn without_tags(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Ok((fixed, payload)) = Fixed::ref_from_prefix(bytes) else {
            return Err(Malformed::new(Layer::Ethernet, Fault::Truncated, 0));
        };
        if MacAddr(fixed.src).is_group() {
            return Err(Malformed::new(Layer::Ethernet, Fault::BadField, 6));
        }
        Ok(Self { fixed, tags: vlan::Tags::NONE, ethertype: fixed.ethertype.get(), payload })
    }

    /// Destination address.
    #[must_use]
    pub const fn dst(&self) -> MacAddr {
        MacAddr(self.fixed.dst)
    }

    /// Source address, never a group address.
    #[must_use]
    pub const fn src(&self) -> MacAddr {
        MacAddr(self.fixed.src)
    }

    /// Type of the payload, behind all tags. Below 0x0600 it is an IEEE 802.3 length.
    #[must_use]
    pub const fn ethertype(&self) -> u16 {
        self.ethertype
    }

    /// The outermost tag in the bytes.
    #[must_use]
    pub const fn vlan(&self) -> Option<Vlan> {
        self.tags.outer
    }

    /// The second tag in the bytes (IEEE 802.1ad).
    #[must_use]
    pub const fn inner_vlan(&self) -> Option<Vlan> {
        self.tags.inner
    }

    /// Bytes of the header with its tags: 14, 18 or 22.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.tags.len()
    }

    /// What follows the header and the tags, padding included.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Writes an Ethernet header, with a tag when `vlan` is given, and returns its length: 14 or 18.
/// `None`, with nothing written, when `out` is too short.
#[must_use]
pub fn emit(
    dst: MacAddr,
    src: MacAddr,
    vlan: Option<Vlan>,
    ethertype: u16,
    out: &mut [u8],
) -> Option<usize> {
    let len = HEADER_LEN + if vlan.is_some() { vlan::TAG_LEN } else { 0 };
    let out = out.get_mut(..len)?;
    let addresses = dst.0.into_iter().chain(src.0);
    let tag = vlan.map(|tag| {
        let ([a, b], [c, d]) = (tag.tpid.to_be_bytes(), tag.tci.to_be_bytes());
        [a, b, c, d]
    });
    let header = addresses.chain(tag.into_iter().flatten()).chain(ethertype.to_be_bytes());
    for (to, byte) in out.iter_mut().zip(header) {
        *to = byte;
    }
    Some(len)
}

/// Writes a header as [`emit`] does and `payload` behind it; returns the length of both.
pub(super) fn emit_with(
    dst: MacAddr,
    src: MacAddr,
    vlan: Option<Vlan>,
    ethertype: u16,
    payload: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let header_len = HEADER_LEN + if vlan.is_some() { vlan::TAG_LEN } else { 0 };
    let len = header_len.checked_add(payload.len())?;
    let (header, rest) = out.get_mut(..len)?.split_at_mut_checked(header_len)?;
    emit(dst, src, vlan, ethertype, header)?;
    for (to, from) in rest.iter_mut().zip(payload) {
        *to = *from;
    }
    Some(len)
}
