//! The Ethernet addresses of a frame.

use crate::error::RewriteError;
use lvs_core::addr::MacAddr;

/// Sets destination and source, in the order in which they stand in the frame.
///
/// # Errors
/// [`RewriteError::Mismatch`] when the frame ends inside them; it is then untouched.
#[inline]
pub fn set_macs(frame: &mut [u8], dst: MacAddr, src: MacAddr) -> Result<(), RewriteError> {
    let [d0, d1, d2, d3, d4, d5] = dst.0;
    let [s0, s1, s2, s3, s4, s5] = src.0;
    let both = frame.first_chunk_mut::<12>().ok_or(RewriteError::Mismatch)?;
    *both = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_addresses_change() {
        let mut frame = [7u8; 20];
        set_macs(&mut frame, MacAddr([1; 6]), MacAddr([2; 6])).unwrap();
        assert_eq!(frame[..6], [1; 6]);
        assert_eq!(frame[6..12], [2; 6]);
        assert_eq!(frame[12..], [7; 8]);
    }

    #[test]
    fn a_frame_that_is_too_short_stays() {
        let mut frame = [7u8; 11];
        let result = set_macs(&mut frame, MacAddr([1; 6]), MacAddr([2; 6]));
        assert_eq!((result, frame), (Err(RewriteError::Mismatch), [7u8; 11]));
    }
}
