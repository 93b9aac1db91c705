//! A server's acknowledgement on its way to the client.

use super::list::EditList;
use crate::error::RewriteError;
use crate::fields::tcp_mut;
use crate::walk;
use lvs_core::checksum::{Delta, Sum};
use lvs_core::io::L4Csum;
use lvs_core::wire::{Headers, tcp};

/// Maps the acknowledgement number and the SACK edges (RFC 2018) of a server's segment to what the
/// client counts.
///
/// Inserted bytes are the client's business only as a condition: as long as some of them are missing,
/// the first byte behind them is reported as missing, so that the client repeats the segment that
/// brings them. A block that then says nothing is taken out and padded.
///
/// # Errors
/// [`RewriteError`] when it is not TCP or the headers are another frame's; the frame is untouched.
pub fn returning<const N: usize>(
    frame: &mut [u8],
    headers: &Headers,
    csum: L4Csum,
    edits: &EditList<N>,
) -> Result<(), RewriteError> {
    let (fixed, options) = tcp_mut(frame, headers)?;
    if fixed.flags & tcp::ACK == 0 {
        return Ok(());
    }
    let old = fixed.ack.get();
    let new = edits.unmap(old);
    fixed.ack.set(new);
    let mut delta = Delta::ZERO.u32(old, new);
    if !walk::is_plain(options) {
        let before = Sum::ZERO.bytes(options);
        walk::edit_each(options, |_, option| blocks(option, old, edits));
        delta = delta.sum(before, Sum::ZERO.bytes(options));
    }
    fixed.follow(csum, delta);
    Ok(())
}

/// Most blocks that 40 bytes of options hold.
const BLOCKS: usize = 4;

/// Maps the blocks of a SACK option, which stays as long as it is.
fn blocks<const N: usize>(option: &mut [u8], ack: u32, edits: &EditList<N>) {
    let [walk::SACK, _, edges @ ..] = &*option else { return };
    let mut kept = [[0u8; 8]; BLOCKS];
    let mut count = 0usize;
    let (old, rest) = edges.as_chunks::<8>();
    // Without a block there is nothing to map, and a part of one means nothing.
    if old.is_empty() || !rest.is_empty() {
        return;
    }
    for [a, b, c, d, e, f, g, h] in old {
        let (left, right) =
            (u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]));
        let Some((left, right)) = block(left, right, ack, edits) else { continue };
        let ([a, b, c, d], [e, f, g, h]) = (left.to_be_bytes(), right.to_be_bytes());
        let Some(slot) = kept.get_mut(count) else { break };
        *slot = [a, b, c, d, e, f, g, h];
        count = count.saturating_add(1);
    }
    let unchanged = count == old.len();
    let used = match count {
        0 => 0,
        _ => count.saturating_mul(8).saturating_add(2),
    };
    if let [_, len, edges @ ..] = option {
        for (to, from) in edges.as_chunks_mut::<8>().0.iter_mut().zip(kept.iter().take(count)) {
            *to = *from;
        }
        *len = used as u8;
    }
    if !unchanged && let Some(freed) = option.get_mut(used..) {
        freed.fill(walk::NOP);
    }
}

const fn before(a: u32, b: u32) -> bool {
    crate::seq::before(a, b)
}

/// One block, `None` when it says nothing to the client.
fn block<const N: usize>(
    left: u32,
    right: u32,
    ack: u32,
    edits: &EditList<N>,
) -> Option<(u32, u32)> {
    if !before(left, right) {
        // Nonsense stays nonsense, for the client to judge.
        return Some((edits.unmap(left), edits.unmap(right)));
    }
    let right_out = edits.unmap(right);
    let mut left_out = edits.unmap(left);
    // The edit that this block's first byte lies in or right behind, and that is not complete.
    let incomplete = edits.edits().iter().find(|edit| {
        let start = edits.start_of(edit);
        let end = start.wrapping_add(edit.inserted.into());
        edit.inserted > 0 && before(ack, end) && before(start, left) && !before(end, left)
    });
    if let Some(edit) = incomplete {
        // Where bytes were replaced these are missing, else the byte that the insertion stands before.
        left_out = edit.at.wrapping_add(u32::from(edit.removed.max(1)));
    }
    before(left_out, right_out).then_some((left_out, right_out))
}
