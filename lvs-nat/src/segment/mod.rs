//! Cuts a segment train into the packets that a device would have made of it.
//!
//! For a port that cannot express a train ([`GsoCaps`](lvs_core::io::GsoCaps)), a train that has to
//! be summed as a whole, or one that grows beyond what its device cuts. Pure and bounded: the caller
//! asks for segments by number and lends the bytes.
//!
//! | field | in each segment |
//! |---|---|
//! | IPv4 identification | counts up from the train's (`inet_gso_segment` in the kernel) |
//! | IP and UDP length | its own |
//! | sequence number | of its first byte |
//! | FIN, PSH | in the last one only |
//! | CWR | in the first one only (RFC 3168 section 6.1.2) |
//! | URG | until the urgent byte has passed, the pointer counting from the segment |
//! | options, window, everything else | as in the train |
//!
//! **A wrong checksum in is a wrong checksum out**: the sum of a train whose checksum nobody has
//! verified is taken first, and what is off there is off in every segment, by as much.
//!
//! ```text
//!   let segments = Segments::new(buf.data(), &headers, gso, buf.l4_csum(), MOST)?;
//!   for i in 0..segments.count() {
//!       let mut part = lane.alloc(segments.len(i)?)?;
//!       let (len, state) = segments.write(i, buf.data(), caps.tx_csum, part.data_mut())?;
//!       part.set_l4_csum(state, headers.l3, headers.l4);
//!   }
//! ```

use crate::fields::{Ipv4Fixed, Ipv6Fixed, TcpFixed, UdpFixed};
use core::fmt;
use lvs_core::addr::Family;
use lvs_core::checksum::{AddrPair, Delta, Sum, udp_field};
use lvs_core::io::{Gso, GsoKind, L4Csum};
use lvs_core::wire::{Fragment, Headers, PROTOCOL_TCP, PROTOCOL_UDP, Transport, tcp};
use zerocopy::FromBytes;

/// Why a train is not cut. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SegmentError {
    /// The segment size is zero, or the train's kind is not what its headers say, or it is a fragment.
    NotATrain,
    /// Part of the train lies outside of the contiguous bytes.
    NotWhole,
    /// More segments than the caller allows.
    TooMany,
    /// A segment does not fit the 16-bit length fields.
    TooLong,
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotATrain => "no segment train",
            Self::NotWhole => "part of the train lies outside of the contiguous bytes",
            Self::TooMany => "more segments than allowed",
            Self::TooLong => "a segment is longer than its headers can state",
        })
    }
}

impl core::error::Error for SegmentError {}

/// What can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Tcp => PROTOCOL_TCP,
            Self::Udp => PROTOCOL_UDP,
        }
    }
}

/// How the checksum of a segment comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// UDP without checksum keeps having none.
    None,
    /// Starts from this instead of the pure pseudo-header sum of the train, with the train's length.
    Seed(u16),
}

/// A train that can be cut, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    l3: usize,
    l4: usize,
    payload: usize,
    end: usize,
    size: usize,
    count: u16,
    family: Family,
    proto: Kind,
    field: Field,
}

impl Segments {
    /// Looks at a train. `headers` are those of `frame`, `csum` is the state of its transport checksum,
    /// `most` is how many segments are allowed. A state of `Unknown` or `Bad` costs a pass over the
    /// payload.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn new(
        frame: &[u8],
        headers: &Headers,
        gso: Gso,
        csum: L4Csum,
        most: u16,
    ) -> Result<Self, SegmentError> {
        let proto = proto_of(headers, gso.kind).ok_or(SegmentError::NotATrain)?;
        let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
        let payload = usize::from(headers.payload);
        let end = usize::try_from(headers.end).map_err(|_| SegmentError::NotWhole)?;
        let size = usize::from(gso.size);
        if end > frame.len() {
            return Err(SegmentError::NotWhole);
        }
        let fixed = match proto {
            Kind::Tcp => 20,
            Kind::Udp => 8,
        };
        let in_order = l3 <= l4 && l4.saturating_add(fixed) <= payload && payload <= end;
        if size == 0 || !in_order || headers.fragment != Fragment::No {
            return Err(SegmentError::NotATrain);
        }
        if payload.saturating_sub(l3).saturating_add(size) > usize::from(u16::MAX) {
            return Err(SegmentError::TooLong);
        }
        let bytes = end.saturating_sub(payload);
        let count = u16::try_from(bytes.div_ceil(size).max(1)).unwrap_or(u16::MAX);
        if count > most {
            return Err(SegmentError::TooMany);
        }
        let family = headers.family;
        let mut segments =
            Self { l3, l4, payload, end, size, count, family, proto, field: Field::None };
        segments.field = segments.field_of(frame, csum).ok_or(SegmentError::NotATrain)?;
        Ok(segments)
    }

    /// How many segments there are, at least one.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of a segment from the Ethernet header on; `None` behind the last one.
    #[must_use]
    pub fn len(&self, index: u16) -> Option<usize> {
        let (from, to) = self.range(index)?;
        self.payload.checked_add(to.checked_sub(from)?)
    }

    /// No: there is always a segment.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes a segment into `out`, all headers in front, and returns its length and the state of its
    /// checksum: `Partial` if `partial`, else complete and as right as the train's was (`Unknown`).
    /// `None` behind the last one, when `out` is too short, or when `frame` is another one.
    #[must_use]
    pub fn write(
        &self,
        index: u16,
        frame: &[u8],
        partial: bool,
        out: &mut [u8],
    ) -> Option<(usize, L4Csum)> {
        let (from, to) = self.range(index)?;
        let (headers, data) = (frame.get(..self.payload)?, frame.get(from..to)?);
        let len = self.payload.checked_add(data.len())?;
        let out = out.get_mut(..len)?;
        for (to, byte) in out.iter_mut().zip(headers.iter().chain(data)) {
            *to = *byte;
        }
        let ip_len = len.checked_sub(self.l3)?;
        let (head, segment) = out.split_at_mut_checked(self.l4)?;
        self.edit_ip(head.get_mut(self.l3..)?, ip_len, index)?;
        let seed = self.seed(segment.len())?;
        let offset = u32::try_from(from.checked_sub(self.payload)?).ok()?;
        match self.proto {
            Kind::Tcp => self.edit_tcp(segment, index, offset)?,
            Kind::Udp => edit_udp(segment)?,
        }
        Some((len, finish(segment, self.proto, seed, partial)?))
    }

    /// Where the payload of a segment lies in the frame.
    fn range(&self, index: u16) -> Option<(usize, usize)> {
        if index >= self.count {
            return None;
        }
        let from = usize::from(index).checked_mul(self.size)?.checked_add(self.payload)?;
        Some((from, from.checked_add(self.size)?.min(self.end)))
    }

    fn field_of(&self, frame: &[u8], csum: L4Csum) -> Option<Field> {
        let l4 = frame.get(self.l4..self.end)?;
        let field = match self.proto {
            Kind::Tcp => TcpFixed::ref_from_prefix(l4).ok()?.0.checksum.get(),
            Kind::Udp => UdpFixed::ref_from_prefix(l4).ok()?.0.checksum.get(),
        };
        let pseudo = self.pair(frame)?.pseudo(self.proto.number(), u32::try_from(l4.len()).ok()?);
        Some(match csum {
            L4Csum::Partial => Field::Seed(field),
            _ if field == 0 && self.proto == Kind::Udp => Field::None,
            L4Csum::Good => Field::Seed(pseudo.fold()),
            // The whole sums to all ones if it is right; what it sums to else is the damage.
            L4Csum::Unknown | L4Csum::Bad => {
                Field::Seed(pseudo.u16(!pseudo.bytes(l4).fold()).fold())
            }
        })
    }

    fn pair(&self, frame: &[u8]) -> Option<AddrPair> {
        let ip = frame.get(self.l3..self.l4)?;
        Some(match self.family {
            Family::V4 => {
                let (ip, _) = Ipv4Fixed::ref_from_prefix(ip).ok()?;
                AddrPair::V4 { src: ip.src.get(), dst: ip.dst.get() }
            }
            Family::V6 => {
                let (ip, _) = Ipv6Fixed::ref_from_prefix(ip).ok()?;
                AddrPair::V6 { src: ip.src.get(), dst: ip.dst.get() }
            }
        })
    }

    /// What the checksum of a segment of `len` bytes starts from.
    fn seed(&self, len: usize) -> Option<Field> {
        let Field::Seed(train) = self.field else { return Some(Field::None) };
        let train_len = u32::try_from(self.end.checked_sub(self.l4)?).ok()?;
        let delta = Delta::ZERO.length(train_len, u32::try_from(len).ok()?);
        Some(Field::Seed(delta.apply_partial(train)))
    }

    fn edit_ip(&self, ip: &mut [u8], len: usize, index: u16) -> Option<()> {
        let len = u16::try_from(len).ok()?;
        match self.family {
            Family::V4 => {
                let (ip, _) = Ipv4Fixed::mut_from_prefix(ip).ok()?;
                let (old_len, old_id) = (ip.total_len.get(), ip.id.get());
                let id = old_id.wrapping_add(index);
                ip.total_len.set(len);
                ip.id.set(id);
                let delta = Delta::ZERO.u16(old_len, len).u16(old_id, id);
                ip.checksum.set(delta.apply(ip.checksum.get()));
            }
            Family::V6 => {
                let (ip, _) = Ipv6Fixed::mut_from_prefix(ip).ok()?;
                ip.payload_len.set(len.checked_sub(40)?);
            }
        }
        Some(())
    }

    fn edit_tcp(&self, segment: &mut [u8], index: u16, offset: u32) -> Option<()> {
        let (fixed, _) = TcpFixed::mut_from_prefix(segment).ok()?;
        fixed.seq.set(fixed.seq.get().wrapping_add(offset));
        if index.checked_add(1)? < self.count {
            fixed.flags &= !(tcp::FIN | tcp::PSH);
        }
        if index > 0 {
            fixed.flags &= !tcp::CWR;
        }
        if fixed.flags & tcp::URG != 0 {
            let left = u32::from(fixed.urgent.get()).saturating_sub(offset);
            fixed.urgent.set(u16::try_from(left).ok()?);
            if left == 0 && offset > 0 {
                fixed.flags &= !tcp::URG;
            }
        }
        Some(())
    }
}

fn edit_udp(datagram: &mut [u8]) -> Option<()> {
    let len = u16::try_from(datagram.len()).ok()?;
    let (fixed, _) = UdpFixed::mut_from_prefix(datagram).ok()?;
    fixed.length.set(len);
    Some(())
}

/// Writes the checksum field.
fn finish(segment: &mut [u8], proto: Kind, seed: Field, partial: bool) -> Option<L4Csum> {
    let at = match proto {
        Kind::Tcp => 16,
        Kind::Udp => 6,
    };
    let Field::Seed(seed) = seed else { return Some(L4Csum::Unknown) };
    let field = segment.get_mut(at..)?.first_chunk_mut::<2>()?;
    *field = seed.to_be_bytes();
    if partial {
        return Some(L4Csum::Partial);
    }
    let computed = Sum::ZERO.bytes(segment).checksum();
    let value = match proto {
        Kind::Tcp => computed,
        Kind::Udp => udp_field(computed),
    };
    *segment.get_mut(at..)?.first_chunk_mut::<2>()? = value.to_be_bytes();
    Some(L4Csum::Unknown)
}

/// The protocol, if the headers are those of a train of this kind.
fn proto_of(headers: &Headers, kind: GsoKind) -> Option<Kind> {
    match (headers.transport, kind, headers.family) {
        (Transport::Tcp { .. }, GsoKind::TcpV4, Family::V4)
        | (Transport::Tcp { .. }, GsoKind::TcpV6, Family::V6) => Some(Kind::Tcp),
        (Transport::Udp, GsoKind::Udp, _) => Some(Kind::Udp),
        _ => None,
    }
}
