//! VLAN tags inside the bytes of a frame: IEEE 802.1Q, and two of them as in 802.1ad.

use super::error::{Fault, Layer, Malformed};
use super::ethernet::HEADER_LEN;
use crate::io::Vlan;

/// Bytes of a tag.
pub const TAG_LEN: usize = 4;
/// Tag protocol identifier of a customer tag, IEEE 802.1Q.
pub const TPID_CUSTOMER: u16 = 0x8100;
/// Tag protocol identifier of a service tag, IEEE 802.1ad.
pub const TPID_SERVICE: u16 = 0x88a8;

/// Tags found behind an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    pub(super) outer: Option<Vlan>,
    pub(super) inner: Option<Vlan>,
}

impl Tags {
    pub(super) const NONE: Self = Self { outer: None, inner: None };

    pub(super) const fn len(&self) -> usize {
        match (self.outer, self.inner) {
            (None, _) => 0,
            (Some(_), None) => TAG_LEN,
            (Some(_), Some(_)) => 2 * TAG_LEN,
        }
    }
}

/// Whether an EtherType says that a tag follows.
#[must_use]
#[inline]
pub const fn is_tag(ethertype: u16) -> bool {
    ethertype == TPID_CUSTOMER || ethertype == TPID_SERVICE
}

/// Reads the tags that follow an Ethernet header whose EtherType is `tpid`: the tags, the EtherType
/// behind them and the rest of the bytes.
#[cold]
pub(super) fn walk(tpid: u16, bytes: &[u8]) -> Result<(Tags, u16, &[u8]), Malformed> {
    let (outer, ethertype, rest) = take(tpid, bytes, HEADER_LEN)?;
    if !is_tag(ethertype) {
        return Ok((Tags { outer: Some(outer), inner: None }, ethertype, rest));
    }
    let (inner, ethertype, rest) = take(ethertype, rest, HEADER_LEN + TAG_LEN)?;
    if is_tag(ethertype) {
        let third = HEADER_LEN + 2 * TAG_LEN;
        return Err(Malformed::new(Layer::Ethernet, Fault::TooManyHeaders, third));
    }
    Ok((Tags { outer: Some(outer), inner: Some(inner) }, ethertype, rest))
}

fn take(tpid: u16, bytes: &[u8], offset: usize) -> Result<(Vlan, u16, &[u8]), Malformed> {
    let Some((&[a, b, c, d], rest)) = bytes.split_first_chunk::<TAG_LEN>() else {
        return Err(Malformed::new(Layer::Ethernet, Fault::Truncated, offset));
    };
    let tag = Vlan { tpid, tci: u16::from_be_bytes([a, b]) };
    Ok((tag, u16::from_be_bytes([c, d]), rest))
}
