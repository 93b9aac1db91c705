//! What all fragments of a datagram have in common, and which part of it one is.

use core::net::IpAddr;
use lvs_core::addr::Family;
use lvs_core::siphash::SipHash13;
use lvs_core::wire::{Fragment, Headers, Ipv4, Ipv6, ipv6_ext};

/// What all fragments of a datagram have in common (RFC 791 section 2.3, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Protocol; zero in IPv6, where only the first fragment's counts.
    pub protocol: u8,
}

/// Which bytes of the datagram a fragment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// Where they start: a multiple of eight.
    pub start: u32,
    /// Where they end; above `start`, at most 65535.
    pub end: u32,
    /// Nothing follows them.
    pub last: bool,
}

impl FragmentKey {
    /// Of a fragment; `None` for a whole packet, or when `frame` is not the one that was parsed.
    #[must_use]
    pub fn of(frame: &[u8], headers: &Headers) -> Option<(Self, Piece)> {
        if headers.fragment == Fragment::No {
            return None;
        }
        let id = headers.fragment_id(frame)?;
        let (src, dst) = headers.addresses(frame)?;
        let l3 = usize::from(headers.l3);
        let bytes = frame.get(l3..)?;
        let total = usize::try_from(headers.end).ok()?.checked_sub(l3)?;
        let (protocol, start, more, header_len) = match headers.family {
            Family::V4 => {
                let ip = Ipv4::parse_within(bytes, total).ok()?;
                (ip.protocol(), ip.fragment_offset(), ip.more_fragments(), ip.header_len())
            }
            Family::V6 => {
                let ip = Ipv6::parse_within(bytes, total).ok()?;
                let fields = ip.fragment_header()?;
                // Other extension headers may follow, and belong to what is fragmented.
                let header = ip.extensions().find(|header| header.kind == ipv6_ext::FRAGMENT)?;
                (0, fields.offset, fields.more, header.offset.checked_add(8)?)
            }
        };
        let start = u32::from(start);
        let len = u32::try_from(total.checked_sub(header_len)?).ok()?;
        let piece = Piece { start, end: start.checked_add(len)?, last: !more };
        (piece.start < piece.end).then_some((Self { src, dst, id, protocol }, piece))
    }

    /// A keyed number of the datagram: chooses its place in a table, and its worker.
    #[must_use]
    pub fn hash(&self, key: &[u64; 2]) -> u64 {
        hash(key, &[self.src, self.dst], u64::from(self.id) << 8 | u64::from(self.protocol))
    }

    /// A keyed number of the source alone.
    pub(super) fn source_hash(&self, key: &[u64; 2]) -> u64 {
        hash(key, &[self.src], 0)
    }
}

fn hash(key: &[u64; 2], addresses: &[IpAddr], rest: u64) -> u64 {
    let mut words = [0u64; 5];
    let halves = addresses.iter().flat_map(|ip| {
        let bits = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        [(bits >> 64) as u64, bits as u64]
    });
    for (word, half) in words.iter_mut().zip(halves.chain([rest])) {
        *word = half;
    }
    SipHash13::new(key).words(&words)
}
