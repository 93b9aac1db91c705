//! IPv6 extension headers (RFC 8200 section 4): a bounded walk to the transport header.
//!
//! Hop-by-hop, routing, fragment, destination options and authentication headers are walked, at most
//! [`MAX_HEADERS`] of them. Every other number ends the walk and is the protocol of the payload: the
//! transport protocols, encryption (50), "nothing follows" (59), mobility (135) and the like.
//!
//! # What is refused
//! - a header or an option past the end, or an authentication header below 12 bytes;
//! - hop-by-hop anywhere but first, a second fragment header (RFC 8200 section 4.1);
//! - a jumbo payload option (RFC 2675);
//! - a routing header of type 0 that is not used up (RFC 5095);
//! - a fragment that is empty, reaches past 65535, or is neither the last one nor a multiple of 8
//!   bytes long (RFC 8200 section 4.5).
//!
//! A routing header of another type that is not used up ends the walk: the destination in the IPv6
//! header is then not the one that the transport checksum covers, so there is no tuple to track.

use super::error::{Fault, Layer, Malformed};
use super::headers::Fragment;
use super::ipv6::HEADER_LEN;

/// Hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Routing.
pub const ROUTING: u8 = 43;
/// Fragment.
pub const FRAGMENT: u8 = 44;
/// Authentication (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Destination options.
pub const DESTINATION: u8 = 60;

/// Most extension headers that a packet may have.
pub const MAX_HEADERS: usize = 8;

const OPTION_PAD1: u8 = 0;
const OPTION_JUMBO: u8 = 0xc2;
const MAX_DATAGRAM: usize = 65535;

/// Whether the walk goes on through a header of this number.
#[must_use]
#[inline]
pub const fn is_extension(number: u8) -> bool {
    matches!(number, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

/// Fields of a fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentHeader {
    /// The same in all fragments of a datagram.
    pub identification: u32,
    /// Where the payload belongs in the datagram, in bytes.
    pub offset: u16,
    /// This is not the last fragment.
    pub more: bool,
}

impl FragmentHeader {
    /// First, later, or, for an atomic fragment, none at all.
    #[must_use]
    pub const fn fragment(self) -> Fragment {
        match (self.offset, self.more) {
            (0, false) => Fragment::No,
            (0, true) => Fragment::First,
            _ => Fragment::Later,
        }
    }

    fn read(header: &[u8]) -> Option<Self> {
        let &[_, _, a, b, c, d, e, f] = header.first_chunk()?;
        let field = u16::from_be_bytes([a, b]);
        let identification = u32::from_be_bytes([c, d, e, f]);
        Some(Self { identification, offset: field & !7, more: field & 1 != 0 })
    }
}

/// Where the walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upper {
    /// Number of the payload's protocol.
    pub(super) protocol: u8,
    /// Its start, from the end of the fixed header.
    pub(super) offset: usize,
    /// The fragment header that was passed.
    pub(super) fragment: Option<FragmentHeader>,
}

/// One extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Its number: [`HOP_BY_HOP`] and so on.
    pub kind: u8,
    /// All its bytes, the number of the next header first.
    pub bytes: &'a [u8],
    /// Where it starts, from the start of the IPv6 header.
    pub offset: usize,
}

/// Iterates over extension headers.
#[derive(Clone, Copy, Debug)]
pub struct Extensions<'a> {
    kind: u8,
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Extensions<'a> {
    pub(super) const fn new(kind: u8, bytes: &'a [u8]) -> Self {
        Self { kind, rest: bytes, offset: HEADER_LEN }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Extension<'a>> {
        if !is_extension(self.kind) {
            return None;
        }
        let (bytes, tail) = self.rest.split_at_checked(header_len(self.kind, self.rest)?)?;
        let extension = Extension { kind: self.kind, bytes, offset: self.offset };
        self.kind = *bytes.first()?;
        self.rest = tail;
        self.offset = self.offset.saturating_add(bytes.len());
        Some(extension)
    }
}

/// Walks from the first extension header. `bytes` is the contiguous part of what follows the fixed
/// header, `len` the payload length that the fixed header states.
#[cold]
pub(super) fn walk(first: u8, bytes: &[u8], len: usize) -> Result<Upper, Malformed> {
    let mut upper = Upper { protocol: first, offset: 0, fragment: None };
    for _ in 0..MAX_HEADERS {
        let (kind, at) = (upper.protocol, upper.offset);
        if !is_extension(kind) {
            return Ok(upper);
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((header, next)) = header_len(kind, rest)
            .and_then(|len| rest.get(..len))
            .and_then(|header| Some((header, *header.first()?)))
        else {
            return bad(Fault::Truncated, at);
        };
        match kind {
            ROUTING if is_in_use(header, at)? => return Ok(upper),
            HOP_BY_HOP if at != 0 => return bad(Fault::BadField, at),
            HOP_BY_HOP | DESTINATION => check_options(header, at)?,
            AUTHENTICATION if header.len() < 12 => return bad(Fault::BadLength, at),
            FRAGMENT if upper.fragment.is_some() => return bad(Fault::BadField, at),
            FRAGMENT => upper.fragment = Some(check_fragment(header, at, len)?),
            _ => {}
        }
        upper.protocol = next;
        upper.offset = at.saturating_add(header.len());
        if upper.fragment.is_some_and(|header| header.offset != 0) {
            return Ok(upper);
        }
    }
    if is_extension(upper.protocol) {
        return bad(Fault::TooManyHeaders, upper.offset);
    }
    Ok(upper)
}

/// Length of a header that the walk goes through, from its length field.
fn header_len(kind: u8, bytes: &[u8]) -> Option<usize> {
    let field = usize::from(*bytes.get(1)?);
    Some(match kind {
        FRAGMENT => 8,
        AUTHENTICATION => (field + 2) * 4,
        _ => (field + 1) * 8,
    })
}

/// Whether a routing header still has segments to visit.
fn is_in_use(header: &[u8], at: usize) -> Result<bool, Malformed> {
    match *header {
        [_, _, _, 0, ..] => Ok(false),
        [_, _, 0, ..] => bad(Fault::BadField, at.saturating_add(2)),
        _ => Ok(true),
    }
}

fn check_fragment(header: &[u8], at: usize, len: usize) -> Result<FragmentHeader, Malformed> {
    let Some(fields) = FragmentHeader::read(header) else {
        return bad(Fault::Truncated, at);
    };
    if fields.fragment() == Fragment::No {
        return Ok(fields);
    }
    let carried = len.saturating_sub(at).saturating_sub(header.len());
    let reach = usize::from(fields.offset).saturating_add(at).saturating_add(carried);
    if carried == 0 || (fields.more && !carried.is_multiple_of(8)) || reach > MAX_DATAGRAM {
        return bad(Fault::BadLength, at);
    }
    Ok(fields)
}

/// RFC 8200 section 4.2: kind, length, value; `Pad1` has no length.
fn check_options(header: &[u8], at: usize) -> Result<(), Malformed> {
    let mut rest = header.get(2..).unwrap_or_default();
    loop {
        let here = at.saturating_add(header.len()).saturating_sub(rest.len());
        rest = match *rest {
            [] => return Ok(()),
            [OPTION_PAD1, ref tail @ ..] => tail,
            [OPTION_JUMBO, ..] => return bad(Fault::BadLength, here),
            [_, len, ref tail @ ..] => match tail.get(usize::from(len)..) {
                Some(tail) => tail,
                None => return bad(Fault::BadOption, here),
            },
            [_] => return bad(Fault::BadOption, here),
        };
    }
}

/// A fault at `offset` from the end of the fixed header.
fn bad<T>(fault: Fault, offset: usize) -> Result<T, Malformed> {
    Err(Malformed::new(Layer::Ipv6, fault, offset.saturating_add(HEADER_LEN)))
}
