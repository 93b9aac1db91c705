//! Inserting the address option: the only edit that makes a segment longer.

use super::compact::{Compaction, compact};
use super::{TOA_V4_LEN, ToaOption};
use crate::fields::{Ipv4Fixed, TCP_FIXED, TcpFixed};
use crate::grow::{IpLength, fit, len_u32, resize};
use crate::walk;
use core::fmt;
use lvs_core::addr::Family;
use lvs_core::checksum::{Delta, Sum};
use lvs_core::io::{Gso, L4Csum, PacketBuf};
use lvs_core::wire::{Fragment, Headers, Transport, tcp};
use zerocopy::FromBytes;

/// How large the segment may become, and what may be given up for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Largest IP packet that leaves toward the server, in bytes.
    pub mtu: u16,
    /// What to do when the option does not fit at once.
    pub compaction: Compaction,
}

/// How the option came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// There was room; the client's options are all there.
    Inserted,
    /// After compaction, which took out this many options besides padding.
    InsertedAfterCompaction {
        /// Options of the client that are gone.
        dropped: u8,
    },
}

/// The segment now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inserted {
    /// Its headers; those given before are stale.
    pub headers: Headers,
    /// How it went.
    pub outcome: Outcome,
}

/// Why the option was not inserted; the packet is untouched.
///
/// What is left to do is a matter of policy: send the option on an empty acknowledgement of its own
/// in front, tell the address in another way, or drop the segment. Never forward it without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToaError {
    /// The TCP header has no room, whatever compaction may give up.
    NoRoom,
    /// The packet would exceed the MTU or what its IP header can say.
    TooBig,
    /// The buffer has too little headroom.
    NoHeadroom,
    /// A fragment: the other fragments' offsets would no longer fit.
    Fragment,
    /// Not TCP, or the headers are another frame's.
    Mismatch,
}

impl fmt::Display for ToaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoom => "the TCP header has no room for the address option",
            Self::TooBig => "the packet would be too large with the address option",
            Self::NoHeadroom => "the packet buffer has no room for the address option",
            Self::Fragment => "an address option cannot be inserted into a fragment",
            Self::Mismatch => "not a TCP segment, or the headers are another frame's",
        })
    }
}

impl core::error::Error for ToaError {}

/// Inserts the option right behind the fixed TCP header.
///
/// The headers in front move toward the headroom; the payload stays where it is and is not read.
/// Data offset, IP length and checksums follow, in every checksum state. The sizes of a segment
/// train are lowered so that each segment still fits into the MTU, and the buffer is told the new
/// offsets. Ethernet padding stays behind the packet.
///
/// # Errors
/// [`ToaError`]; the packet is then untouched, with all that is known about it.
pub fn insert<B: PacketBuf>(
    buf: &mut B,
    headers: &Headers,
    option: &ToaOption,
    limits: &Limits,
) -> Result<Inserted, ToaError> {
    let Transport::Tcp { flags, .. } = headers.transport else { return Err(ToaError::Mismatch) };
    if headers.fragment != Fragment::No {
        return Err(ToaError::Fragment);
    }
    if let ToaOption::V4(bytes) = option
        && let Some(headers) = insert_plain(buf, headers, *bytes, limits)
    {
        return Ok(Inserted { headers, outcome: Outcome::Inserted });
    }
    let old = Lengths::of(headers).ok_or(ToaError::Mismatch)?;
    let current = buf
        .data()
        .get(old.options_at..old.payload)
        .filter(|options| options.len() <= walk::MAX)
        .ok_or(ToaError::Mismatch)?;
    let max = old.options_max(buf.gso(), limits)?;
    let room = max.checked_sub(option.as_bytes().len()).ok_or(old.why(max))?;

    if current.len() <= room {
        let headers = splice(buf, headers, &old, 0, option.as_bytes(), limits)?;
        return Ok(Inserted { headers, outcome: Outcome::Inserted });
    }
    let syn = flags & tcp::SYN != 0;
    let less = compact(current, syn, room, limits.compaction).ok_or(old.why(max))?;
    let list = List::new(option, less.bytes.get(..less.len).unwrap_or_default());
    let headers = splice(buf, headers, &old, current.len(), list.as_bytes(), limits)?;
    let outcome = Outcome::InsertedAfterCompaction { dropped: less.dropped };
    Ok(Inserted { headers, outcome })
}

/// Bytes of an Ethernet header without tags and an IPv4 header without options.
const PLAIN_L4: usize = 34;
/// Up to where options begin behind them.
const PLAIN: usize = PLAIN_L4 + TCP_FIXED;

/// The same for nearly all packets: IPv4 without tags and options of its own, not a train, its checksum
/// complete, and room for the option. `None`, with nothing changed, for all others.
fn insert_plain<B: PacketBuf>(
    buf: &mut B,
    headers: &Headers,
    option: [u8; TOA_V4_LEN],
    limits: &Limits,
) -> Option<Headers> {
    let ip_len = u16::try_from(headers.end).ok()?.checked_sub(14)?;
    let tcp_len = u8::try_from(headers.payload.checked_sub(headers.l4)?).ok()?;
    let fits = (headers.l3, headers.l4) == (14, PLAIN_L4 as u16)
        && headers.family == Family::V4
        && u32::from(headers.payload) <= headers.end
        && buf.l4_csum() != L4Csum::Partial
        && buf.gso().is_none();
    if !fits {
        return None;
    }
    insert_v4(buf, (ip_len, tcp_len), option, limits.mtu)?;
    let payload = headers.payload.checked_add(GROWN)?;
    Some(Headers { payload, end: headers.end.saturating_add(GROWN.into()), ..*headers })
}

const GROWN: u16 = TOA_V4_LEN as u16;

/// Inserts the option into a TCP segment over IPv4 without tags and IP options, which is not a train and whose
/// checksum is not partial: [`insert`] where a [`QuickTcp`](lvs_core::wire::QuickTcp) has been read.
/// `lengths` are those of the IP packet and of the TCP header. `None`, with nothing changed, when there is no
/// room for it.
pub fn insert_v4<B: PacketBuf>(
    buf: &mut B,
    lengths: (u16, u8),
    option: [u8; TOA_V4_LEN],
    mtu: u16,
) -> Option<()> {
    let old_len = lengths.0;
    let new_len = old_len.checked_add(GROWN).filter(|len| *len <= mtu)?;
    let new_header = u16::from(lengths.1).wrapping_add(GROWN);
    let payload = PLAIN_L4.wrapping_add(lengths.1.into());
    let room = (TCP_FIXED as u16 + GROWN..=60).contains(&new_header);
    if !room || buf.data().len() < payload {
        return None;
    }
    let data = buf.push_front(TOA_V4_LEN).ok()?;
    let front: [u8; PLAIN] = *data.get(TOA_V4_LEN..)?.first_chunk()?;
    let (moved, rest) = data.split_first_chunk_mut::<PLAIN>()?;
    *moved = front;
    *rest.first_chunk_mut()? = option;
    let (_, ip) = moved.split_first_chunk_mut::<14>()?;
    let (ip, tcp) = ip.split_first_chunk_mut::<20>()?;
    let (Ok(ip), Ok(tcp)) = (Ipv4Fixed::mut_from_bytes(ip), TcpFixed::mut_from_bytes(tcp)) else {
        return None;
    };
    let stated = ip.total_len.get();
    ip.total_len.set(new_len);
    ip.checksum.set(Delta::ZERO.u16(stated, new_len).apply(ip.checksum.get()));
    let before = tcp.data_offset;
    tcp.data_offset = ((new_header / 4) as u8) << 4 | (before & 0x0f);
    let [a, b, c, d, e, f, g, h] = option;
    let change = Delta::ZERO
        .u16(old_len, new_len)
        .u16(u16::from_be_bytes([before, 0]), u16::from_be_bytes([tcp.data_offset, 0]))
        .u32(0, u32::from_be_bytes([a, b, c, d]))
        .u32(0, u32::from_be_bytes([e, f, g, h]));
    tcp.checksum.set(change.apply(tcp.checksum.get()));
    Some(())
}

/// Where things are in the packet; all sums of 16-bit offsets, so nothing overflows.
struct Lengths {
    l3: usize,
    options_at: usize,
    payload: usize,
    end: usize,
}

impl Lengths {
    fn of(headers: &Headers) -> Option<Self> {
        let options_at = usize::from(headers.l4).saturating_add(TCP_FIXED);
        let payload = usize::from(headers.payload);
        let end = usize::try_from(headers.end).ok()?;
        (options_at <= payload && payload <= end && headers.l3 <= headers.l4).then_some(Self {
            l3: headers.l3.into(),
            options_at,
            payload,
            end,
        })
    }

    /// Most option bytes that the MTU allows. A train can be cut into smaller segments, down to one
    /// byte of payload each.
    fn options_max(&self, gso: Option<Gso>, limits: &Limits) -> Result<usize, ToaError> {
        let fixed = self.options_at.saturating_sub(self.l3);
        let payload = match gso {
            Some(_) => 1,
            None => self.end.saturating_sub(self.payload),
        };
        let mtu = usize::from(limits.mtu);
        let max = mtu.checked_sub(fixed.saturating_add(payload)).ok_or(ToaError::TooBig)?;
        Ok(max.min(walk::MAX) & !3)
    }

    /// What is in the way when `max` bytes of options are too few.
    fn why(&self, max: usize) -> ToaError {
        if max < walk::MAX { ToaError::TooBig } else { ToaError::NoRoom }
    }
}

/// The option and what compaction left of the others.
struct List {
    bytes: [u8; walk::MAX],
    len: usize,
}

impl List {
    fn new(option: &ToaOption, rest: &[u8]) -> Self {
        let mut bytes = [0; walk::MAX];
        let both = option.as_bytes().iter().chain(rest);
        bytes.iter_mut().zip(both).for_each(|(to, from)| *to = *from);
        let len = option.as_bytes().len().saturating_add(rest.len()).min(walk::MAX);
        Self { bytes, len }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Puts `new` in the place of the first `cut` bytes of options; both lengths are multiples of four.
/// All that can fail comes before the first change.
fn splice<B: PacketBuf>(
    buf: &mut B,
    headers: &Headers,
    old: &Lengths,
    cut: usize,
    new: &[u8],
    limits: &Limits,
) -> Result<Headers, ToaError> {
    let payload = old.payload.saturating_sub(cut).saturating_add(new.len());
    let end = payload.saturating_add(old.end.saturating_sub(old.payload));
    let ip_len = IpLength::new(headers.family, old.l3, end).ok_or(ToaError::TooBig)?;
    let (Ok(payload16), Ok(end32)) = (u16::try_from(payload), u32::try_from(end)) else {
        return Err(ToaError::TooBig);
    };
    let gso = match buf.gso() {
        Some(gso) => {
            let header_len = payload.saturating_sub(old.l3);
            Some(fit(gso, header_len, limits.mtu).ok_or(ToaError::TooBig)?)
        }
        None => None,
    };
    let csum = buf.l4_csum();
    let l4 = usize::from(headers.l4);
    let data = buf.data();
    let removed = data.get(old.options_at..).and_then(|options| options.get(..cut));
    let (Some(removed), true) = (removed, ip_len.fits(data, old.l3)) else {
        return Err(ToaError::Mismatch);
    };
    let change = TcpChange {
        header_len: payload.saturating_sub(l4),
        length: Delta::ZERO.length(len_u32(old.end, l4), len_u32(end, l4)),
        options: Delta::ZERO.sum(Sum::ZERO.bytes(removed), Sum::ZERO.bytes(new)),
        csum,
    };
    let resized = resize(buf, old.options_at, cut, new.len());
    let data = resized.map_err(|_| ToaError::NoHeadroom)?;
    if let Some(ip) = data.get_mut(old.l3..) {
        ip_len.write(ip);
    }
    if let Some(segment) = data.get_mut(l4..) {
        change.write(segment, new);
    }

    let headers = Headers { payload: payload16, end: end32, ..*headers };
    if csum == L4Csum::Partial {
        buf.set_l4_csum(csum, headers.l3, headers.l4);
    }
    if gso.is_some() {
        buf.set_gso(gso, headers.payload);
    }
    Ok(headers)
}

/// What becomes of the TCP header.
struct TcpChange {
    header_len: usize,
    length: Delta,
    options: Delta,
    csum: L4Csum,
}

impl TcpChange {
    fn write(&self, segment: &mut [u8], new: &[u8]) {
        let Ok((fixed, options)) = TcpFixed::mut_from_prefix(segment) else { return };
        for (to, from) in options.as_chunks_mut::<4>().0.iter_mut().zip(new.as_chunks::<4>().0) {
            *to = *from;
        }
        let old = fixed.data_offset;
        fixed.data_offset = ((self.header_len / 4) as u8) << 4 | (old & 0x0f);
        let field = fixed.checksum.get();
        fixed.checksum.set(match self.csum {
            L4Csum::Partial => self.length.apply_partial(field),
            L4Csum::Unknown | L4Csum::Good | L4Csum::Bad => self
                .length
                .and(self.options)
                .u16(u16::from_be_bytes([old, 0]), u16::from_be_bytes([fixed.data_offset, 0]))
                .apply(field),
        });
    }
}
