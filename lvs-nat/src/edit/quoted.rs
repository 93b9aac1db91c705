//! The number that an ICMP error quotes, on its way to the client.

use super::list::EditList;
use crate::error::RewriteError;
use crate::icmp::{Carried, Embedded};
use lvs_core::checksum::Delta;
use lvs_core::flow::L4Proto;
use lvs_core::io::L4Csum;
use lvs_core::wire::Headers;

/// Maps the sequence number of the client's segment that an error quotes to what the client counts, once the
/// error has been translated ([`AnyRewrite::apply_error`](crate::AnyRewrite::apply_error)). Receivers believe
/// an error only about a number that they have sent (RFC 5927 section 4.1). The quoted checksum follows where
/// it is visible, the error's own always.
///
/// # Errors
/// [`RewriteError`] when the headers are another frame's; the frame is untouched.
pub fn quoted<const N: usize>(
    frame: &mut [u8],
    headers: &Headers,
    embedded: &Embedded,
    csum: L4Csum,
    edits: &EditList<N>,
) -> Result<(), RewriteError> {
    let Carried::Flow(tuple) = embedded.carried else { return Ok(()) };
    if tuple.proto() != L4Proto::Tcp {
        return Ok(());
    }
    let end = usize::try_from(headers.end).map_err(|_| RewriteError::Mismatch)?;
    let inner = usize::from(embedded.l4.saturating_sub(headers.l4));
    let end = end.min(frame.len());
    let message = frame.get_mut(usize::from(headers.l4)..end).ok_or(RewriteError::Mismatch)?;
    let (outer, segment) = message.split_at_mut_checked(inner).ok_or(RewriteError::Mismatch)?;
    let ([_, _, c0, c1, ..], [_, _, _, _, s0, s1, s2, s3, rest @ ..]) = (outer, segment) else {
        return Err(RewriteError::Mismatch);
    };
    let old = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
    let new = edits.unmap(old);
    [*s0, *s1, *s2, *s3] = new.to_be_bytes();
    let change = Delta::ZERO.u32(old, new);
    let mut total = change;
    if let [_, _, _, _, _, _, _, _, q0, q1, ..] = rest {
        let field = u16::from_be_bytes([*q0, *q1]);
        let follows = change.apply(field);
        [*q0, *q1] = follows.to_be_bytes();
        total = total.u16(field, follows);
    }
    if csum != L4Csum::Partial {
        let field = u16::from_be_bytes([*c0, *c1]);
        [*c0, *c1] = total.apply(field).to_be_bytes();
    }
    Ok(())
}
