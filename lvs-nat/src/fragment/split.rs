//! Cuts an IPv4 packet without DF into fragments (RFC 791 section 2.3).

use crate::fields::Ipv4Fixed;
use core::fmt;
use lvs_core::addr::Family;
use lvs_core::checksum::Sum;
use lvs_core::io::L4Csum;
use lvs_core::wire::{Headers, Ipv4};
use zerocopy::FromBytes;

const MORE_FRAGMENTS: u16 = 0x2000;
/// Set in the kind of options that every fragment carries.
const COPIED: u8 = 0x80;
const NOP: u8 = 1;

/// Why a packet is not cut. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SplitError {
    /// IPv6: only its sender may fragment (RFC 8200 section 5). Answer "packet too big".
    NotV4,
    /// The packet must not be fragmented. Answer "fragmentation needed".
    DontFragment,
    /// Part of the packet lies outside of the contiguous bytes.
    NotWhole,
    /// The transport checksum is partial: nobody can complete it behind this. Complete it first.
    Partial,
    /// Not even eight bytes fit behind the header.
    TooNarrow,
    /// The headers were parsed from another frame.
    Mismatch,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotV4 => "only IPv4 packets are fragmented on their way",
            Self::DontFragment => "the packet must not be fragmented",
            Self::NotWhole => "part of the packet lies outside of the contiguous bytes",
            Self::Partial => "the transport checksum is not complete",
            Self::TooNarrow => "the link is too narrow for any fragment",
            Self::Mismatch => "the headers were parsed from another frame",
        })
    }
}

impl core::error::Error for SplitError {}

/// A packet, or a fragment, that can be cut, and how.
///
/// The IP header at `headers.l3` counts, so a tunnel packet is cut as what it is outside. Every
/// fragment has the header of the packet; options that only the first one carries are padding in the
/// others, as `ip_options_fragment` of the kernel does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "ip_fragment")]
pub struct SplitV4 {
    l3: usize,
    payload: usize,
    end: usize,
    /// Payload bytes of all fragments but the last: a multiple of eight.
    size: usize,
    /// Offset of the packet itself, in bytes.
    offset: usize,
    more: bool,
    count: u16,
}

impl SplitV4 {
    /// Looks at a packet; `mtu` is the longest IP packet that the link takes.
    ///
    /// # Errors
    /// [`SplitError`].
    pub fn new(
        frame: &[u8],
        headers: &Headers,
        csum: L4Csum,
        mtu: u16,
    ) -> Result<Self, SplitError> {
        if headers.family != Family::V4 {
            return Err(SplitError::NotV4);
        }
        let l3 = usize::from(headers.l3);
        let end = usize::try_from(headers.end).map_err(|_| SplitError::NotWhole)?;
        if end > frame.len() {
            return Err(SplitError::NotWhole);
        }
        let bytes = frame.get(l3..end).ok_or(SplitError::Mismatch)?;
        let ip = Ipv4::parse(bytes).map_err(|_| SplitError::Mismatch)?;
        if ip.dont_fragment() {
            return Err(SplitError::DontFragment);
        }
        if csum == L4Csum::Partial {
            return Err(SplitError::Partial);
        }
        let size = usize::from(mtu).saturating_sub(ip.header_len()) & !7;
        if size == 0 || ip.payload_len() == 0 {
            return Err(SplitError::TooNarrow);
        }
        let count = ip.payload_len().div_ceil(size);
        Ok(Self {
            l3,
            payload: l3.saturating_add(ip.header_len()),
            end: l3.saturating_add(ip.total_len()),
            size,
            offset: ip.fragment_offset().into(),
            more: ip.more_fragments(),
            count: u16::try_from(count).map_err(|_| SplitError::TooNarrow)?,
        })
    }

    /// How many fragments there are, at least one.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of a fragment from the Ethernet header on; `None` behind the last one.
    #[must_use]
    pub fn len(&self, index: u16) -> Option<usize> {
        let (from, to) = self.range(index)?;
        self.payload.checked_add(to.checked_sub(from)?)
    }

    /// No: there is always a fragment.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes a fragment into `out`, Ethernet header in front, and returns its length. `None` behind
    /// the last one, when `out` is too short, or when `frame` is another one.
    #[must_use]
    pub fn write(&self, index: u16, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        let (from, to) = self.range(index)?;
        let (header, data) = (frame.get(..self.payload)?, frame.get(from..to)?);
        let len = self.payload.checked_add(data.len())?;
        let out = out.get_mut(..len)?;
        for (to, byte) in out.iter_mut().zip(header.iter().chain(data)) {
            *to = *byte;
        }
        let total = u16::try_from(len.checked_sub(self.l3)?).ok()?;
        let offset = self.offset.checked_add(from.checked_sub(self.payload)?)?;
        let more = self.more || index.checked_add(1)? < self.count;
        let word = u16::try_from(offset / 8).ok()? | if more { MORE_FRAGMENTS } else { 0 };
        let header = out.get_mut(self.l3..self.payload)?;
        if offset > 0 {
            pad_options(header.get_mut(20..)?);
        }
        let (ip, _) = Ipv4Fixed::mut_from_prefix(header).ok()?;
        ip.total_len.set(total);
        ip.fragment.set(word);
        ip.checksum.set(0);
        let sum = Sum::ZERO.bytes(header).checksum();
        let (ip, _) = Ipv4Fixed::mut_from_prefix(header).ok()?;
        ip.checksum.set(sum);
        Some(len)
    }

    /// Where the payload of a fragment lies in the frame.
    fn range(&self, index: u16) -> Option<(usize, usize)> {
        if index >= self.count {
            return None;
        }
        let from = usize::from(index).checked_mul(self.size)?.checked_add(self.payload)?;
        Some((from, from.checked_add(self.size)?.min(self.end)))
    }
}

/// Overwrites options that are for the first fragment only.
fn pad_options(options: &mut [u8]) {
    crate::walk::edit_each(options, |_, option| {
        if option.first().is_some_and(|kind| kind & COPIED == 0) {
            option.fill(NOP);
        }
    });
}
