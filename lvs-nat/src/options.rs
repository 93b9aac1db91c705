//! Edits of the options of a SYN or SYN-ACK that keep the header's length.

use crate::error::RewriteError;
use crate::fields::{TCP_FIXED, TcpFixed, tcp_mut};
use crate::toa::KindSet;
use crate::walk;
use lvs_core::checksum::{Delta, Sum};
use lvs_core::io::L4Csum;
use lvs_core::wire::{Headers, Transport};

/// Edits the options of a segment and makes the checksum follow, whatever was edited at whatever
/// alignment. Options start at an even offset and are at most 40 bytes: summing them before and
/// after is exact and cheap.
pub(crate) fn edit<T>(
    (fixed, options): (&mut TcpFixed, &mut [u8]),
    csum: L4Csum,
    edit: impl FnOnce(&mut [u8]) -> T,
) -> T {
    let before = Sum::ZERO.bytes(options);
    let result = edit(options);
    fixed.follow(csum, Delta::ZERO.sum(before, Sum::ZERO.bytes(options)));
    result
}

/// Lowers the maximum segment size that a SYN or SYN-ACK announces by `by` bytes, though not below
/// `floor`; a size that is at or below `floor` already stays. Returns the size as it is now, `None`
/// when the segment announces none (nothing is added then).
///
/// A FullNAT director does this to the SYN-ACK, so that the client leaves room for the address
/// option ([`toa`](crate::toa)): 8 bytes for IPv4, 20 for IPv6.
///
/// # Errors
/// [`RewriteError`] when it is not TCP or the headers are another frame's; the frame is untouched.
#[doc(alias = "tcp_in_adjust_mss")]
pub fn lower_mss(
    frame: &mut [u8],
    headers: &Headers,
    csum: L4Csum,
    by: u16,
    floor: u16,
) -> Result<Option<u16>, RewriteError> {
    Ok(edit(tcp_mut(frame, headers)?, csum, |options| {
        let mut announced = None;
        walk::edit_each(options, |_, option| {
            let [walk::MSS, 4, size @ ..] = option else { return };
            let Some(size) = size.first_chunk_mut::<2>() else { return };
            let old = u16::from_be_bytes(*size);
            let new = old.min(old.saturating_sub(by).max(floor));
            *size = new.to_be_bytes();
            announced = Some(new);
        });
        announced
    }))
}

/// Overwrites the timestamps of a SYN with padding, so that the connection runs without, and returns
/// how many there were.
///
/// One local address and port speaks to a server for many clients, whose clocks differ: a server
/// that remembers the last timestamp of the tuple would drop the next client's segments
/// (RFC 7323 section 5, PAWS).
///
/// # Errors
/// [`RewriteError`] when it is not TCP or the headers are another frame's; the frame is untouched.
#[doc(alias = "tcp_in_remove_ts")]
pub fn drop_timestamps(
    frame: &mut [u8],
    headers: &Headers,
    csum: L4Csum,
) -> Result<u8, RewriteError> {
    Ok(edit(tcp_mut(frame, headers)?, csum, |options| {
        let mut dropped = 0u8;
        walk::edit_each(options, |_, option| {
            if matches!(option, [walk::TIMESTAMPS, 10, ..]) {
                option.fill(walk::NOP);
                dropped = dropped.wrapping_add(1);
            }
        });
        dropped
    }))
}

/// What the options of a SYN hold that a director acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The maximum segment size that the first such option announces; 0 = none.
    pub mss: u16,
    /// [`drop_timestamps`] may find something.
    pub timestamps: bool,
    /// [`strip`](crate::toa::strip) may find something.
    pub suspect: bool,
    /// The list cannot be read to its end.
    pub malformed: bool,
}

/// Looks over the options of a SYN once, so that edits that have nothing to do need not look for it. `kinds`
/// are those that [`strip`](crate::toa::strip) would be given. `None` when it is not TCP or the headers are
/// another frame's.
#[must_use]
pub fn survey(frame: &[u8], headers: &Headers, kinds: KindSet) -> Option<Survey> {
    let Transport::Tcp { .. } = headers.transport else { return None };
    let options = usize::from(headers.l4).checked_add(TCP_FIXED)?;
    Some(survey_options(frame.get(options..usize::from(headers.payload))?, kinds))
}

/// The same of the bytes of options alone.
#[must_use]
#[inline]
pub fn survey_options(options: &[u8], kinds: KindSet) -> Survey {
    let (mut seen, mut announced) = (Survey::default(), None);
    for option in walk::Options::new(options) {
        let Ok(option) = option else {
            seen.malformed = true;
            break;
        };
        match *option {
            [walk::MSS, 4, a, b] => {
                announced.get_or_insert(u16::from_be_bytes([a, b]));
            }
            [walk::TIMESTAMPS, ..] => seen.timestamps = true,
            [0..=5, ..] => {}
            [253 | 254, ..] => seen.suspect = true,
            [kind, ..] => seen.suspect |= kinds.contains(kind),
            [] => {}
        }
    }
    seen.mss = announced.unwrap_or(0);
    seen
}

/// Overwrites the options with which a SYN asks for TCP Fast Open or announces data, kind 34 and the experimental
/// form (RFC 7413 section 4.1), with padding, and returns how many there were. Without them a server takes no
/// data from the SYN, nor does it give a cookie out.
///
/// # Errors
/// [`RewriteError`] when it is not TCP or the headers are another frame's; the frame is untouched.
pub fn drop_fast_open(
    frame: &mut [u8],
    headers: &Headers,
    csum: L4Csum,
) -> Result<u8, RewriteError> {
    Ok(edit(tcp_mut(frame, headers)?, csum, |options| {
        let mut dropped = 0u8;
        walk::edit_each(options, |_, option| {
            if matches!(option, [walk::FAST_OPEN, ..] | [254, _, 0xf9, 0x89, ..]) {
                option.fill(walk::NOP);
                dropped = dropped.wrapping_add(1);
            }
        });
        dropped
    }))
}

/// Lowers the maximum segment size that a SYN or SYN-ACK announces to `most`; a smaller one stays.
/// Returns the size as it is now, `None` when the segment announces none (nothing is added then).
///
/// For ways that are narrower than both ends know, such as a [`Tunnel`](crate::tunnel::Tunnel::mss).
///
/// # Errors
/// [`RewriteError`] when it is not TCP or the headers are another frame's; the frame is untouched.
#[doc(alias = "TCPMSS")]
pub fn lower_mss_to(
    frame: &mut [u8],
    headers: &Headers,
    csum: L4Csum,
    most: u16,
) -> Result<Option<u16>, RewriteError> {
    Ok(edit(tcp_mut(frame, headers)?, csum, |options| {
        let mut announced = None;
        walk::edit_each(options, |_, option| {
            let [walk::MSS, 4, size @ ..] = option else { return };
            let Some(size) = size.first_chunk_mut::<2>() else { return };
            let new = u16::from_be_bytes(*size).min(most);
            *size = new.to_be_bytes();
            announced = Some(new);
        });
        announced
    }))
}
