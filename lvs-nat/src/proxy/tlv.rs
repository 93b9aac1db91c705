//! The optional values behind the addresses of version 2 (section 2.2): type, length, value.

use crate::crc32c::Crc32c;

/// Application protocol (ALPN).
pub const ALPN: u8 = 0x01;
/// Host name that the client asked for (SNI).
pub const AUTHORITY: u8 = 0x02;
/// CRC32c over the whole header, its own value taken as zero.
pub const CRC32C: u8 = 0x03;
/// Nothing; alignment.
pub const NOOP: u8 = 0x04;
/// An opaque name of the connection, at most 128 bytes.
pub const UNIQUE_ID: u8 = 0x05;
/// What is known of TLS.
pub const SSL: u8 = 0x20;
/// Name of a network namespace.
pub const NETNS: u8 = 0x30;

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tlv<'a> {
    /// Its type.
    pub kind: u8,
    /// Its bytes.
    pub value: &'a [u8],
}

/// The values in order; ends without a word where the bytes are malformed (see [`is_sound`]).
#[derive(Clone, Copy, Debug)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// Over the bytes behind the addresses.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let ([kind, l0, l1], rest) = self.0.split_first_chunk::<3>()?;
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(Tlv { kind: *kind, value })
    }
}

/// Whether the bytes are values from start to end.
#[must_use]
pub fn is_sound(bytes: &[u8]) -> bool {
    let used = Tlvs::new(bytes)
        .fold(0usize, |used, tlv| used.saturating_add(3).saturating_add(tlv.value.len()));
    used == bytes.len()
}

/// Offset in `bytes` of the four bytes of the CRC32c, if there is one.
fn crc_at(bytes: &[u8]) -> Option<usize> {
    let mut at = 0usize;
    for tlv in Tlvs::new(bytes) {
        if tlv.kind == CRC32C && tlv.value.len() == 4 {
            return at.checked_add(3);
        }
        at = at.checked_add(3)?.checked_add(tlv.value.len())?;
    }
    None
}

/// The CRC32c of a whole header whose values start at `values_at`, and where it belongs.
fn crc_of(header: &[u8], values_at: usize) -> Option<(usize, u32)> {
    let at = crc_at(header.get(values_at..)?)?.checked_add(values_at)?;
    let (front, rest) = header.split_at_checked(at)?;
    let (_, behind) = rest.split_first_chunk::<4>()?;
    Some((at, Crc32c::new().bytes(front).bytes(&[0; 4]).bytes(behind).value()))
}

/// Whether a header's CRC32c is right; `None` when it has none.
#[must_use]
pub fn verify_crc(header: &[u8], values_at: usize) -> Option<bool> {
    let (at, crc) = crc_of(header, values_at)?;
    Some(header.get(at..)?.first_chunk::<4>()? == &crc.to_be_bytes())
}

/// Computes the CRC32c of a header that has one anew.
pub(super) fn set_crc(header: &mut [u8], values_at: usize) {
    let Some((at, crc)) = crc_of(header, values_at) else { return };
    if let Some(field) = header.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *field = crc.to_be_bytes();
    }
}
