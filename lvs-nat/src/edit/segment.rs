//! A client's segment on its way to the server.

use super::list::EditList;
use super::splice::{EditError, Splice, splice};
use crate::error::RewriteError;
use crate::fields::tcp_mut;
use crate::grow::IpLength;
use lvs_core::checksum::Delta;
use lvs_core::io::PacketBuf;
use lvs_core::wire::{Fragment, Headers, Transport, tcp};

/// Edits a client's segment: the bytes it has to carry, its sequence number and its urgent pointer.
/// Acknowledgement and SACK edges count the server's stream and stay.
///
/// `bytes` gives what the edit of that number in the list inserts: always the same, as often as it is
/// asked. A segment gets the whole of it even if it brings only a part of the bytes that are replaced.
///
/// # Errors
/// [`EditError`]; the packet is then untouched. [`EditError::TooBig`] and [`EditError::NoHeadroom`] are
/// answered by a segment ahead ([`own::write`](crate::edit::own::write)) where the insertion stands in
/// front of the payload.
pub fn inbound<'b, B: PacketBuf, const N: usize>(
    buf: &mut B,
    headers: &Headers,
    edits: &EditList<N>,
    mut bytes: impl FnMut(usize) -> &'b [u8],
    mtu: u16,
) -> Result<Headers, EditError> {
    let Transport::Tcp { flags, seq, .. } = headers.transport else {
        return Err(EditError::Mismatch);
    };
    if headers.fragment != Fragment::No {
        return Err(EditError::Fragment);
    }
    let payload = headers.end.saturating_sub(headers.payload.into());
    let (fixed, _) = tcp_mut(buf.data_mut(), headers).map_err(mismatch)?;
    let plan = edits.plan(seq, flags, payload, fixed.urgent.get());

    let carried = || plan.cuts.iter().zip(edits.edits()).enumerate();
    let count = carried().filter(|(_, (cut, _))| cut.is_some()).count();
    for (number, (cut, edit)) in carried() {
        if cut.is_some() && bytes(number).len() != usize::from(edit.inserted) {
            return Err(EditError::Mismatch);
        }
    }
    // One splice checks for itself; of several none may fail after the first.
    if count > 1 {
        let grown = carried().filter_map(|(_, (cut, edit))| {
            cut.map(|(_, cut)| usize::from(edit.inserted).saturating_sub(cut))
        });
        room(buf, headers, grown.fold(0, usize::saturating_add), mtu)?;
        let reach =
            carried().filter_map(|(_, (cut, _))| cut.map(|(at, cut)| at.saturating_add(cut)));
        let reach = usize::from(headers.payload).saturating_add(reach.max().unwrap_or(0));
        if reach > buf.data().len() {
            return Err(EditError::OutOfReach);
        }
    }
    let mut headers = *headers;
    for (number, (cut, _)) in carried().rev() {
        if let Some((at, cut)) = *cut {
            headers = splice(buf, &headers, &Splice { at, cut, bytes: bytes(number) }, mtu)?;
        }
    }
    renumber(buf, &mut headers, plan.seq, plan.urgent)?;
    Ok(headers)
}

/// Edits a client's segment whose inserted bytes have gone ahead on a segment of their own
/// ([`own::ahead`](crate::edit::own::ahead)): what they replace goes, and it stands behind them. One that
/// carries no edit is edited as by [`inbound`].
///
/// # Errors
/// [`EditError`]; the packet is then untouched.
pub fn behind<B: PacketBuf>(
    buf: &mut B,
    headers: &Headers,
    edits: &EditList<1>,
) -> Result<Headers, EditError> {
    let Transport::Tcp { flags, seq, .. } = headers.transport else {
        return Err(EditError::Mismatch);
    };
    let payload = headers.end.saturating_sub(headers.payload.into());
    let (fixed, _) = tcp_mut(buf.data_mut(), headers).map_err(mismatch)?;
    let plan = edits.plan(seq, flags, payload, fixed.urgent.get());
    let ([cut], Some(edit)) = (plan.cuts, edits.edits().first()) else {
        return inbound(buf, headers, edits, |_| &[], u16::MAX);
    };
    let Some((at, cut)) = cut else { return inbound(buf, headers, edits, |_| &[], u16::MAX) };
    if at != 0 {
        // What stands in front of the insertion cannot go behind it.
        return Err(EditError::OutOfReach);
    }
    let mut headers = match cut {
        0 => *headers,
        _ => splice(buf, headers, &Splice { at, cut, bytes: &[] }, u16::MAX)?,
    };
    let seq = plan.seq.wrapping_add(edit.inserted.into());
    let urgent =
        if flags & tcp::URG == 0 { plan.urgent } else { plan.urgent.saturating_sub(edit.inserted) };
    renumber(buf, &mut headers, seq, urgent)?;
    Ok(headers)
}

/// Gives a client's RST the number that the server expects ([`EditList::reset`]); `server_ack` in the numbers
/// of the list.
///
/// # Errors
/// [`EditError::Mismatch`]; the packet is then untouched.
pub fn reset<B: PacketBuf, const N: usize>(
    buf: &mut B,
    headers: &Headers,
    edits: &EditList<N>,
    server_ack: u32,
) -> Result<Headers, EditError> {
    let Transport::Tcp { seq, .. } = headers.transport else { return Err(EditError::Mismatch) };
    let (fixed, _) = tcp_mut(buf.data_mut(), headers).map_err(mismatch)?;
    let urgent = fixed.urgent.get();
    let mut headers = *headers;
    renumber(buf, &mut headers, edits.reset(seq, server_ack), urgent)?;
    Ok(headers)
}

/// Whether a packet may grow by so many bytes.
fn room<B: PacketBuf>(buf: &B, headers: &Headers, grown: usize, mtu: u16) -> Result<(), EditError> {
    let l3 = usize::from(headers.l3);
    let end = usize::try_from(headers.end).map_err(|_| EditError::Mismatch)?;
    let end = end.saturating_add(grown);
    let fits_mtu = buf.gso().is_some() || end.saturating_sub(l3) <= usize::from(mtu);
    if IpLength::new(headers.family, l3, end).is_none() || !fits_mtu {
        return Err(EditError::TooBig);
    }
    if grown > buf.headroom() { Err(EditError::NoHeadroom) } else { Ok(()) }
}

const fn mismatch(_: RewriteError) -> EditError {
    EditError::Mismatch
}

/// Writes sequence number and urgent pointer.
fn renumber<B: PacketBuf>(
    buf: &mut B,
    headers: &mut Headers,
    seq: u32,
    urgent: u16,
) -> Result<(), EditError> {
    let csum = buf.l4_csum();
    let (fixed, _) = tcp_mut(buf.data_mut(), headers).map_err(mismatch)?;
    let mut delta = Delta::ZERO.u32(fixed.seq.get(), seq);
    fixed.seq.set(seq);
    if fixed.flags & tcp::URG != 0 {
        delta = delta.u16(fixed.urgent.get(), urgent);
        fixed.urgent.set(urgent);
    }
    fixed.follow(csum, delta);
    if let Transport::Tcp { seq: known, .. } = &mut headers.transport {
        *known = seq;
    }
    Ok(())
}
