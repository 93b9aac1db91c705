//! IPv6 extension headers (RFC 8200 section 4).

/// One extension header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ext {
    /// Hop-by-hop options (0): option bytes, padded with Pad1.
    HopByHop(Vec<u8>),
    /// Destination options (60): option bytes, padded with Pad1.
    Destination(Vec<u8>),
    /// Routing header (43): type, segments left, and data padded with zeros.
    Routing(u8, u8, Vec<u8>),
    /// Fragment header (44): offset in bytes (a multiple of 8), more fragments, identification.
    Fragment(u16, bool, u32),
    /// Authentication header (51) with so many bytes of check value.
    Auth(usize),
    /// Any header number, and all its bytes after the first; nothing is padded or corrected.
    Any(u8, Vec<u8>),
}

impl Ext {
    /// Its number in the header before it.
    #[must_use]
    pub const fn number(&self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Routing(..) => 43,
            Self::Fragment(..) => 44,
            Self::Auth(_) => 51,
            Self::Destination(_) => 60,
            Self::Any(number, _) => *number,
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        match self {
            Self::HopByHop(data) | Self::Destination(data) => sized(next, &[], data),
            Self::Routing(kind, left, data) => sized(next, &[*kind, *left], data),
            Self::Fragment(offset, more, id) => {
                let mut bytes = vec![next, 0];
                bytes.extend((offset & 0xfff8 | u16::from(*more)).to_be_bytes());
                bytes.extend(id.to_be_bytes());
                bytes
            }
            // RFC 4302 section 2.2: length in 32-bit words, minus two.
            Self::Auth(icv) => {
                let len = (12 + icv).next_multiple_of(8);
                let mut bytes = vec![0xaa; len];
                bytes[..4].copy_from_slice(&[next, (len / 4 - 2) as u8, 0, 0]);
                bytes
            }
            Self::Any(_, rest) => [&[next][..], rest].concat(),
        }
    }
}

/// Next header, length in units of 8 bytes without the first, then the content, padded.
fn sized(next: u8, head: &[u8], data: &[u8]) -> Vec<u8> {
    let len = (2 + head.len() + data.len()).next_multiple_of(8);
    let mut bytes = vec![next, (len / 8 - 1) as u8];
    bytes.extend(head);
    bytes.extend(data);
    bytes.resize(len, 0);
    bytes
}

/// The first header's number, and all headers; the last one points to `proto`.
pub(super) fn chain(headers: &[Ext], proto: u8) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    for (at, header) in headers.iter().enumerate() {
        bytes.extend(header.bytes(headers.get(at + 1).map_or(proto, Ext::number)));
    }
    (headers.first().map_or(proto, Ext::number), bytes)
}
