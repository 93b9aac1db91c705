//! Translating an SCTP packet in place, and its checksum in full.

use super::HEADER_LEN;
use crate::AnyRewrite;
use crate::crc32c::{Change, Crc32c};
use crate::ends::{Address, Deltas, End};
use crate::error::RewriteError;
use crate::rewrite::Rewrite;
use crate::seq::SeqShift;
use core::net::{IpAddr, SocketAddr};
use lvs_core::checksum::Delta;
use lvs_core::io::L4Csum;
use lvs_core::wire::{Fragment, Headers, Transport};

/// Exchanges addresses and ports of an SCTP packet, takes one from its time to live if asked to, and
/// makes both checksums follow by difference. Of a later fragment only addresses change.
///
/// The first fragment is refused: its checksum depends on how far the ports stand from the *end* of the
/// whole packet, which it does not tell. Reassemble first.
///
/// # Errors
/// [`RewriteError`]; the frame is then untouched.
pub fn rewrite(
    frame: &mut [u8],
    headers: &Headers,
    csum: L4Csum,
    (src, dst): (SocketAddr, SocketAddr),
    decrement_ttl: bool,
) -> Result<(), RewriteError> {
    let sctp = headers.transport == Transport::Other(super::PROTOCOL);
    if !sctp || headers.fragment == Fragment::First {
        return Err(RewriteError::Unsupported);
    }
    let addresses = addresses(frame, headers, src, dst)?.decrement_ttl(decrement_ttl);
    // The edit of a later fragment is that of the IP header alone.
    let later = Headers { fragment: Fragment::Later, ..*headers };
    if headers.fragment == Fragment::Later {
        return addresses.apply(frame, &later, csum);
    }
    let l4 = u32::from(headers.l4);
    let len = headers.end.checked_sub(l4).filter(|len| *len >= HEADER_LEN as u32);
    let behind = len.ok_or(RewriteError::Mismatch)?.saturating_sub(4);
    let l4 = usize::from(headers.l4);
    if frame.get(l4..).is_none_or(|bytes| bytes.len() < HEADER_LEN) {
        return Err(RewriteError::Mismatch);
    }
    addresses.apply(frame, &later, csum)?;
    let header = frame.get_mut(l4..).and_then(<[u8]>::first_chunk_mut::<HEADER_LEN>);
    let header = header.ok_or(RewriteError::Mismatch)?;
    let old = [header[0], header[1], header[2], header[3]];
    let ([a, b], [c, d]) = (src.port().to_be_bytes(), dst.port().to_be_bytes());
    [header[0], header[1], header[2], header[3]] = [a, b, c, d];
    if csum != L4Csum::Partial {
        let field = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let field = Change::word(old, [a, b, c, d], behind).apply(field);
        [header[8], header[9], header[10], header[11]] = field.to_le_bytes();
    }
    Ok(())
}

/// The edit of the addresses, ports aside.
fn addresses(
    frame: &[u8],
    headers: &Headers,
    src: SocketAddr,
    dst: SocketAddr,
) -> Result<AnyRewrite, RewriteError> {
    let old = headers.addresses(frame).ok_or(RewriteError::Mismatch)?;
    let new = (src.ip(), dst.ip());
    if let Some(edit) = edit::<u32>(old, new) {
        return Ok(AnyRewrite::V4(edit));
    }
    edit::<u128>(old, new).map(AnyRewrite::V6).ok_or(RewriteError::Family)
}

fn edit<A: Address>(old: (IpAddr, IpAddr), new: (IpAddr, IpAddr)) -> Option<Rewrite<A>> {
    let (src, dst) = (A::from_ip(new.0)?, A::from_ip(new.1)?);
    let delta = A::change(Delta::ZERO, A::from_ip(old.0)?, src);
    let ip = A::change(delta, A::from_ip(old.1)?, dst).bits();
    let (src, dst) = (End::new(src, 0), End::new(dst, 0));
    Some(Rewrite::new(src, dst, Deltas { l4: 0, ip }, SeqShift::default()))
}

/// The checksum over a packet, its field taken as zero; `None` when it is too short.
fn checksum(header: &[u8], payload: &[u8]) -> Option<u32> {
    let (front, rest) = header.split_at_checked(8)?;
    let (_, behind) = rest.split_first_chunk::<4>()?;
    Some(Crc32c::new().bytes(front).bytes(&[0; 4]).bytes(behind).bytes(payload).value())
}

/// Whether the checksum of a packet is right: `header` is what starts with the common header, `payload`
/// what follows in later parts.
#[must_use]
pub fn verify(header: &[u8], payload: &[u8]) -> bool {
    let Some(field) = header.get(8..).and_then(<[u8]>::first_chunk::<4>) else { return false };
    checksum(header, payload) == Some(u32::from_le_bytes(*field))
}

/// Fills in the checksum of a packet that is all in `packet`, without Ethernet padding; for a field in
/// state `Partial`, which nobody else completes for SCTP. Returns it, `None` when the packet is too short.
pub fn complete(packet: &mut [u8]) -> Option<u32> {
    let value = checksum(packet, &[])?;
    let field = packet.get_mut(8..)?.first_chunk_mut::<4>()?;
    *field = value.to_le_bytes();
    Some(value)
}
