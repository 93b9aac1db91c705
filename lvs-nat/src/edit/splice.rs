//! Inserting, replacing and removing bytes of a TCP or UDP payload in place.

use crate::fields::{TcpFixed, UdpFixed};
use crate::grow::{IpLength, fit, len_u32, resize};
use core::fmt;
use lvs_core::checksum::{AddrPair, Delta, Sum, udp_field};
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::wire::{Fragment, Headers, PROTOCOL_TCP, PROTOCOL_UDP, Transport};
use zerocopy::FromBytes;

/// A change of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Splice<'a> {
    /// Offset in the transport payload.
    pub at: usize,
    /// Bytes that go.
    pub cut: usize,
    /// Bytes that take their place.
    pub bytes: &'a [u8],
}

/// Why a payload was not edited; the packet is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EditError {
    /// The packet would exceed the MTU or what its IP header can say: send the bytes ahead on a
    /// segment of their own ([`own`](crate::edit::own)).
    TooBig,
    /// The buffer has too little headroom.
    NoHeadroom,
    /// A fragment, which does not tell where it stands in the stream.
    Fragment,
    /// A train of datagrams: only the first may be edited, so it has to be cut first.
    Train,
    /// The place lies outside of the payload, or behind its first contiguous part.
    OutOfReach,
    /// Neither TCP nor UDP, or the headers are another frame's.
    Mismatch,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooBig => "the packet would be too large with the inserted bytes",
            Self::NoHeadroom => "the packet buffer has no room for the inserted bytes",
            Self::Fragment => "the payload of a fragment cannot be edited",
            Self::Train => "one datagram of a train cannot be edited",
            Self::OutOfReach => "the bytes to edit are not in the first part of the packet",
            Self::Mismatch => "neither TCP nor UDP, or the headers are another frame's",
        })
    }
}

impl core::error::Error for EditError {}

/// Changes the payload; lengths, checksums and the sizes of a train follow. The headers move toward the
/// headroom, the payload behind the change stays where it is and is not read.
///
/// A checksum is right afterwards exactly when it was right before, whatever the parity of the change:
/// where bytes move from odd to even places, the sum over what is behind the change is taken from the
/// old checksum itself.
///
/// # Errors
/// [`EditError`]; the packet is then untouched.
pub fn splice<B: PacketBuf>(
    buf: &mut B,
    headers: &Headers,
    splice: &Splice<'_>,
    mtu: u16,
) -> Result<Headers, EditError> {
    let udp = match headers.transport {
        Transport::Tcp { .. } => false,
        Transport::Udp => true,
        _ => return Err(EditError::Mismatch),
    };
    if headers.fragment != Fragment::No {
        return Err(EditError::Fragment);
    }
    let place = Place::of(headers, splice, buf.data().len())?;
    let new_end = place.end.saturating_sub(splice.cut).saturating_add(splice.bytes.len());
    let ip_len = IpLength::new(headers.family, place.l3, new_end).ok_or(EditError::TooBig)?;
    let end32 = u32::try_from(new_end).map_err(|_| EditError::TooBig)?;
    let gso = match buf.gso() {
        Some(_) if udp => return Err(EditError::Train),
        Some(gso) => {
            let header_len = place.payload.saturating_sub(place.l3);
            Some(fit(gso, header_len, mtu).ok_or(EditError::TooBig)?)
        }
        None if new_end.saturating_sub(place.l3) > usize::from(mtu) => {
            return Err(EditError::TooBig);
        }
        None => None,
    };
    let csum = buf.l4_csum();
    let data = buf.data();
    if !ip_len.fits(data, place.l3) {
        return Err(EditError::Mismatch);
    }
    let change = Change::of(data, headers, &place, splice, udp)?;
    let resized = resize(buf, place.at, splice.cut, splice.bytes.len());
    let data = resized.map_err(|_| EditError::NoHeadroom)?;
    for (to, from) in data.get_mut(place.at..).unwrap_or_default().iter_mut().zip(splice.bytes) {
        *to = *from;
    }
    if let Some(ip) = data.get_mut(place.l3..) {
        ip_len.write(ip);
    }
    if let Some(l4) = data.get_mut(place.l4..) {
        change.write(l4, csum, udp);
    }
    if csum == L4Csum::Partial {
        buf.set_l4_csum(csum, headers.l3, headers.l4);
    }
    if gso.is_some() {
        buf.set_gso(gso, headers.payload);
    }
    Ok(Headers { end: end32, ..*headers })
}

/// Offsets in the frame.
struct Place {
    l3: usize,
    l4: usize,
    payload: usize,
    at: usize,
    end: usize,
}

impl Place {
    fn of(headers: &Headers, splice: &Splice<'_>, data_len: usize) -> Result<Self, EditError> {
        let place = Self {
            l3: headers.l3.into(),
            l4: headers.l4.into(),
            payload: headers.payload.into(),
            at: usize::from(headers.payload).saturating_add(splice.at),
            end: usize::try_from(headers.end).map_err(|_| EditError::Mismatch)?,
        };
        let ordered = place.l3 <= place.l4 && place.l4 <= place.payload;
        if !ordered || place.payload > data_len || place.payload > place.end {
            return Err(EditError::Mismatch);
        }
        let cut_end = place.at.saturating_add(splice.cut);
        if cut_end > place.end || cut_end > data_len {
            return Err(EditError::OutOfReach);
        }
        Ok(place)
    }
}

/// Adds bytes at an odd or even offset.
fn sum_at(sum: Sum, odd: bool, bytes: &[u8]) -> Sum {
    if odd { sum.odd_bytes(bytes) } else { sum.bytes(bytes) }
}

/// What the transport header becomes.
struct Change {
    /// Of the length in the pseudo-header.
    length: Delta,
    /// Of the UDP length field, as a number to write.
    udp_len: u16,
    /// The checksum field when it is not partial.
    field: u16,
}

impl Change {
    fn of(
        data: &[u8],
        headers: &Headers,
        place: &Place,
        splice: &Splice<'_>,
        udp: bool,
    ) -> Result<Self, EditError> {
        let l4 = data.get(place.l4..).ok_or(EditError::Mismatch)?;
        let removed = data.get(place.at..).and_then(|bytes| bytes.get(..splice.cut));
        let removed = removed.ok_or(EditError::OutOfReach)?;
        let mut old_len = len_u32(place.end, place.l4);
        let grow = |len: u32| {
            u32::try_from(splice.bytes.len())
                .ok()
                .and_then(|bytes| len.checked_sub(removed.len() as u32)?.checked_add(bytes))
        };
        let (field, udp_old) = if udp {
            let (header, _) = UdpFixed::ref_from_prefix(l4).map_err(|_| EditError::Mismatch)?;
            old_len = header.length.get().into();
            (header.checksum.get(), header.length.get())
        } else {
            let (header, _) = TcpFixed::ref_from_prefix(l4).map_err(|_| EditError::Mismatch)?;
            (header.checksum.get(), 0)
        };
        let new_len = grow(old_len).ok_or(EditError::OutOfReach)?;
        let udp_len = match udp {
            true => u16::try_from(new_len).map_err(|_| EditError::TooBig)?,
            false => 0,
        };
        let length = Delta::ZERO.length(old_len, new_len);
        let odd = splice.at % 2 == 1;
        let inserted = sum_at(Sum::ZERO, odd, splice.bytes);
        let removed_sum = sum_at(Sum::ZERO, odd, removed);
        let turned = removed.len() % 2 != splice.bytes.len() % 2;
        let all = length.u16(udp_old, udp_len);
        let computed = if turned {
            let front = data.get(place.l4..place.at).ok_or(EditError::Mismatch)?;
            let pair = addresses(data, headers).ok_or(EditError::Mismatch)?;
            let protocol = if udp { PROTOCOL_UDP } else { PROTOCOL_TCP };
            let front = pair.pseudo(protocol, old_len).sum(Sum::ZERO.bytes(front));
            // The whole sums up to zero, so what is behind is minus what is in front.
            let behind = !front.sum(removed_sum).fold();
            let all_parts = front.u16(!field).sum(inserted).u16(behind.swap_bytes());
            all.apply(all_parts.checksum())
        } else {
            all.sum(removed_sum, inserted).apply(field)
        };
        let field = match (udp, field) {
            (true, 0) => 0,
            (true, _) => udp_field(computed),
            (false, _) => computed,
        };
        Ok(Self { length, udp_len, field })
    }

    fn write(&self, l4: &mut [u8], csum: L4Csum, udp: bool) {
        let field = |old: u16| match csum {
            L4Csum::Partial => self.length.apply_partial(old),
            L4Csum::Unknown | L4Csum::Good | L4Csum::Bad => self.field,
        };
        if udp {
            let Ok((header, _)) = UdpFixed::mut_from_prefix(l4) else { return };
            header.length.set(self.udp_len);
            header.checksum.set(field(header.checksum.get()));
        } else {
            let Ok((header, _)) = TcpFixed::mut_from_prefix(l4) else { return };
            header.checksum.set(field(header.checksum.get()));
        }
    }
}

/// The addresses that the pseudo-header covers.
fn addresses(data: &[u8], headers: &Headers) -> Option<AddrPair> {
    if let Some(tuple) = &headers.tuple {
        return Some(AddrPair::from(tuple));
    }
    let (src, dst) = headers.addresses(data)?;
    AddrPair::new(src, dst)
}
