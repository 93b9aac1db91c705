//! Segments of the director's own that go ahead of a client's: with the address option, or with a PROXY header.

use crate::admit::Packet;
use lvs_core::addr::Family;
use lvs_core::io::{L4Csum, Lane, PacketBuf};
use lvs_core::verdict::DropReason;
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::edit::own::{self, AheadError};

/// Bytes of a TCP header without options.
const TCP_FIXED: usize = 20;
/// Most bytes of options.
const OPTIONS: usize = 40;

/// An acknowledgement with an option of its own, a multiple of four bytes, or with a payload, that has the ends and
/// numbers of the segment at hand. Timestamps are repeated: a connection that has them takes no segment without
/// (RFC 7323 section 3.2). Its checksum is new, so the segment's own is verified first: a corrupt segment must not
/// be made to look sound. Where it cannot be built, the reason is `otherwise`.
pub(crate) fn ahead<L: Lane>(
    lane: &mut L,
    packet: &Packet<L::Buf>,
    (option, payload): (&[u8], &[u8]),
    otherwise: DropReason,
) -> Result<Packet<L::Buf>, DropReason> {
    let (data, headers) = (packet.buf.data(), &packet.headers);
    let link = data.get(..usize::from(headers.l3)).ok_or(otherwise)?;
    let (options, options_len) = options_of(data, headers, option);
    let options = options.get(..options_len).ok_or(otherwise)?;
    let ip = if headers.family == Family::V4 { 20usize } else { 40 };
    let len = link.len().saturating_add(ip).saturating_add(TCP_FIXED);
    let len = len.saturating_add(options.len()).saturating_add(payload.len());
    let mut buf = lane.alloc(len).ok_or(DropReason::NoBuffer)?;
    for (to, from) in buf.data_mut().iter_mut().zip(link) {
        *to = *from;
    }
    let place = buf.data_mut().get_mut(link.len()..).unwrap_or_default();
    // What lies behind the first part is not at hand; a train's checksum needs no look at it.
    let csum = packet.buf.l4_csum();
    let written = own::ahead(place, (data, &[]), headers, csum, options, payload);
    written.map_err(|error| match error {
        AheadError::Corrupt => DropReason::BadL4Checksum,
        _ => otherwise,
    })?;
    buf.set_vlan(packet.buf.vlan());
    buf.set_gso(None, 0);
    let Ok(Parsed::Ip(headers)) = Headers::parse(buf.data(), len) else {
        return Err(otherwise);
    };
    buf.set_l4_csum(L4Csum::Good, headers.l3, headers.l4);
    Ok(Packet { buf, headers, port: packet.port })
}

/// The option, which stands in front, and the timestamps of the segment.
fn options_of(data: &[u8], headers: &Headers, option: &[u8]) -> ([u8; OPTIONS], usize) {
    let start = usize::from(headers.l4).saturating_add(TCP_FIXED);
    let theirs = data.get(start..headers.payload.into()).unwrap_or_default();
    let stamps = own::timestamps_of(theirs);
    let stamps = stamps.as_ref().map_or(&[][..], |stamps| &stamps[..]);
    let mut all = [0; OPTIONS];
    let both = option.iter().chain(stamps);
    all.iter_mut().zip(both).for_each(|(to, from)| *to = *from);
    (all, option.len().saturating_add(stamps.len()))
}
