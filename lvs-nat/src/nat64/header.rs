//! The IP header of either version as the fields that both have.

use lvs_core::checksum::Sum;
use lvs_core::wire::{PROTOCOL_ICMP, PROTOCOL_ICMPV6};

/// Bytes of an IPv4 header without options.
pub(super) const V4_LEN: usize = 20;
/// Bytes of an IPv6 header.
pub(super) const V6_LEN: usize = 40;
/// Bytes of an IPv6 fragment header.
pub(super) const FRAGMENT_LEN: usize = 8;

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) id: u32,
    /// In units of eight bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
}

/// What a translation keeps of an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ip {
    pub(super) tos: u8,
    pub(super) ttl: u8,
    /// In the numbers of the version it was read from.
    pub(super) protocol: u8,
    pub(super) piece: Option<Piece>,
    pub(super) dont_fragment: bool,
    /// Bytes behind all headers of the network layer, as the header states them.
    pub(super) payload_len: usize,
    /// Bytes of those headers.
    pub(super) header_len: usize,
}

/// Why a header cannot be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Not what it should be.
    Malformed,
    /// A source route, an authentication header, a routing header that is not used up.
    Untranslatable,
}

/// Most extension headers.
const MAX_HEADERS: usize = 8;

impl Ip {
    /// Reads an IPv4 header, which may stand in front of less than it states.
    pub(super) fn read_v4(bytes: &[u8]) -> Result<Self, Bad> {
        let fixed = bytes.first_chunk::<V4_LEN>().ok_or(Bad::Malformed)?;
        let header_len = usize::from(fixed[0] & 0x0f).saturating_mul(4);
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let options = bytes.get(V4_LEN..header_len).ok_or(Bad::Malformed)?;
        let payload_len = total.checked_sub(header_len).ok_or(Bad::Malformed)?;
        if fixed[0] >> 4 != 4 {
            return Err(Bad::Malformed);
        }
        if has_open_source_route(options) {
            return Err(Bad::Untranslatable);
        }
        let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
        let (more, offset) = (flags & 0x2000 != 0, flags & 0x1fff);
        let id = u16::from_be_bytes([fixed[4], fixed[5]]).into();
        Ok(Self {
            tos: fixed[1],
            ttl: fixed[8],
            protocol: fixed[9],
            piece: (more || offset != 0).then_some(Piece { id, offset, more }),
            dont_fragment: flags & 0x4000 != 0,
            payload_len,
            header_len,
        })
    }

    /// Reads an IPv6 header with its extension headers, which may stand in front of less than it states.
    pub(super) fn read_v6(bytes: &[u8]) -> Result<Self, Bad> {
        let (fixed, mut rest) = bytes.split_first_chunk::<V6_LEN>().ok_or(Bad::Malformed)?;
        if fixed[0] >> 4 != 6 {
            return Err(Bad::Malformed);
        }
        let (mut next, mut extra, mut piece) = (fixed[6], 0usize, None);
        for _ in 0..MAX_HEADERS {
            let ([following, len, a, b], _) = match next {
                0 | 43 | 44 | 60 => rest.split_first_chunk::<4>().ok_or(Bad::Malformed)?,
                51 => return Err(Bad::Untranslatable),
                _ => break,
            };
            if next == 43 && *b != 0 {
                return Err(Bad::Untranslatable);
            }
            let used = match next {
                44 => FRAGMENT_LEN,
                _ => usize::from(*len).saturating_add(1).saturating_mul(8),
            };
            let (header, behind) = rest.split_at_checked(used).ok_or(Bad::Malformed)?;
            if next == 44 {
                let word = u16::from_be_bytes([*a, *b]);
                let id = header.last_chunk::<4>().map_or(0, |id| u32::from_be_bytes(*id));
                piece = Some(Piece { id, offset: word >> 3, more: word & 1 == 1 });
            }
            extra = extra.saturating_add(used);
            (next, rest) = (*following, behind);
        }
        if matches!(next, 0 | 43 | 44 | 60) && piece.is_none_or(|piece| piece.offset == 0) {
            return Err(Bad::Malformed);
        }
        let stated = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        Ok(Self {
            tos: fixed[0] << 4 | fixed[1] >> 4,
            ttl: fixed[7],
            protocol: next,
            piece,
            dont_fragment: true,
            payload_len: stated.checked_sub(extra).ok_or(Bad::Malformed)?,
            header_len: V6_LEN.saturating_add(extra),
        })
    }

    /// As an IPv4 header (RFC 7915 section 5.1); `None` when the length cannot be stated.
    pub(super) fn v4(&self, src: u32, dst: u32, id: u16) -> Option<[u8; V4_LEN]> {
        let total = u16::try_from(self.payload_len.checked_add(V4_LEN)?).ok()?;
        let (id, flags) = match self.piece {
            Some(piece) => (piece.id as u16, u16::from(piece.more) << 13 | piece.offset & 0x1fff),
            None if usize::from(total) > SMALL => (id, 0x4000),
            None => (id, 0),
        };
        let protocol = match self.protocol {
            PROTOCOL_ICMPV6 => PROTOCOL_ICMP,
            other => other,
        };
        let ([t0, t1], [i0, i1], [f0, f1]) =
            (total.to_be_bytes(), id.to_be_bytes(), flags.to_be_bytes());
        let ([a, b, c, d], [e, f, g, h]) = (src.to_be_bytes(), dst.to_be_bytes());
        let mut out = [
            0x45, self.tos, t0, t1, i0, i1, f0, f1, self.ttl, protocol, 0, 0, //
            a, b, c, d, e, f, g, h,
        ];
        [out[10], out[11]] = Sum::ZERO.bytes(&out).checksum().to_be_bytes();
        Some(out)
    }

    /// Bytes of it as an IPv6 header.
    pub(super) const fn v6_len(&self) -> usize {
        if self.piece.is_some() { V6_LEN + FRAGMENT_LEN } else { V6_LEN }
    }

    /// As an IPv6 header with a fragment header if it is a fragment (RFC 7915 section 4.1), of
    /// [`Ip::v6_len`] bytes; `None` when the length cannot be stated.
    pub(super) fn v6(&self, src: u128, dst: u128) -> Option<[u8; V6_LEN + FRAGMENT_LEN]> {
        let extra = self.v6_len().checked_sub(V6_LEN)?;
        let len = u16::try_from(self.payload_len.checked_add(extra)?).ok()?;
        let protocol = match self.protocol {
            PROTOCOL_ICMP => PROTOCOL_ICMPV6,
            other => other,
        };
        let next = if self.piece.is_some() { 44 } else { protocol };
        let [v0, v1, v2, v3] = (0x6000_0000 | u32::from(self.tos) << 20).to_be_bytes();
        let [l0, l1] = len.to_be_bytes();
        let piece = self.piece.unwrap_or(Piece { id: 0, offset: 0, more: false });
        let [o0, o1] = (piece.offset << 3 | u16::from(piece.more)).to_be_bytes();
        let front = [v0, v1, v2, v3, l0, l1, next, self.ttl].into_iter();
        let addresses = src.to_be_bytes().into_iter().chain(dst.to_be_bytes());
        let fragment = [protocol, 0, o0, o1].into_iter().chain(piece.id.to_be_bytes());
        let mut out = [0; V6_LEN + FRAGMENT_LEN];
        let all = front.chain(addresses).chain(fragment);
        out.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        Some(out)
    }
}

/// IPv4 packets up to this size may be fragmented on their way (RFC 7915 section 5.1).
const SMALL: usize = 1260;

/// Whether IPv4 options hold a source route that is not used up (RFC 7915 section 4.1).
fn has_open_source_route(mut options: &[u8]) -> bool {
    loop {
        match *options {
            [] | [0, ..] => return false,
            [1, ref rest @ ..] => options = rest,
            [131 | 137, len, pointer, ..] if pointer < len => return true,
            [_, len, ..] if len >= 2 => {
                options = options.get(usize::from(len)..).unwrap_or_default();
            }
            // Malformed: nobody can say what it is.
            _ => return true,
        }
    }
}
