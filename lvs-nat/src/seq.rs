//! Sequence numbers: comparing them around the wrap, and moving a segment from one number space to
//! another with its acknowledgement and SACK edges.
//!
//! A FullNAT director gives the client's byte stream new numbers toward the server (see
//! [`isn`](crate::isn)), so for the life of the session
//!
//! ```text
//!   inbound   seq += Δ                       (client's numbers → what the server sees)
//!   return    ack -= Δ,  SACK edges -= Δ     (what the server saw → client's numbers)
//! ```
//!
//! A SYN proxy has a second difference, for the server's byte stream, the other way round. Both are
//! in [`SeqDeltas`]; [`SeqShift`] is what one direction adds.

use crate::error::RewriteError;
use crate::fields::{TcpFixed, tcp_mut};
use crate::walk;
use lvs_core::checksum::Delta;
use lvs_core::io::L4Csum;
use lvs_core::wire::{Headers, tcp};

/// Whether `a` comes before `b` (RFC 9293 section 3.4): by less than half of the number space.
#[must_use]
pub const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Whether `a` comes after `b`.
#[must_use]
pub const fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// The constant differences of a session between the two sides' sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqDeltas {
    /// The client's stream: what the server sees minus what the client sends.
    #[doc(alias = "fnat_seq")]
    pub seq: u32,
    /// The server's stream: what the client sees minus what the server sends (SYN proxy).
    #[doc(alias = "syn_proxy_seq")]
    pub ack: u32,
}

impl SeqDeltas {
    /// Both streams keep their numbers.
    pub const ZERO: Self = Self { seq: 0, ack: 0 };

    /// What a segment from the client gets.
    #[must_use]
    pub const fn inbound(self) -> SeqShift {
        SeqShift { seq_add: self.seq, ack_add: self.ack.wrapping_neg() }
    }

    /// What a segment from the server gets.
    #[must_use]
    pub const fn returning(self) -> SeqShift {
        SeqShift { seq_add: self.ack, ack_add: self.seq.wrapping_neg() }
    }
}

/// What to add, modulo 2³², to the numbers of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqShift {
    /// To the sequence number.
    pub seq_add: u32,
    /// To the acknowledgement number and SACK edges of segments with the ACK flag.
    pub ack_add: u32,
}

impl SeqShift {
    /// Moves a segment. A SACK option ends up right at any alignment, across the wrap, and with a
    /// duplicate report (RFC 2883) in its first block.
    ///
    /// # Errors
    /// [`RewriteError`] when it is not TCP or the headers are another frame's.
    pub fn apply(
        self,
        frame: &mut [u8],
        headers: &Headers,
        csum: L4Csum,
    ) -> Result<(), RewriteError> {
        let (fixed, options) = tcp_mut(frame, headers)?;
        let delta = self.edit(fixed, options, Delta::ZERO);
        fixed.follow(csum, delta);
        Ok(())
    }

    /// Edits the numbers and adds the change to `delta`.
    #[inline]
    pub(crate) fn edit(self, fixed: &mut TcpFixed, options: &mut [u8], mut delta: Delta) -> Delta {
        // Zero is added like any other number: it changes no sum.
        let seq = fixed.seq.get();
        fixed.seq.set(seq.wrapping_add(self.seq_add));
        delta = delta.u32(seq, fixed.seq.get());
        if fixed.flags & tcp::ACK != 0 {
            let ack = fixed.ack.get();
            fixed.ack.set(ack.wrapping_add(self.ack_add));
            delta = delta.u32(ack, fixed.ack.get());
            if self.ack_add != 0 && !walk::is_plain(options) {
                delta = shift_sack(options, self.ack_add, delta);
            }
        }
        delta
    }
}

/// Adds to all SACK edges (RFC 2018 section 3) and returns `delta` with the change.
fn shift_sack(options: &mut [u8], add: u32, mut delta: Delta) -> Delta {
    walk::edit_each(options, |odd, option| {
        let [walk::SACK, _, edges @ ..] = option else { return };
        for edge in edges.as_chunks_mut::<4>().0 {
            let old = u32::from_be_bytes(*edge);
            let new = old.wrapping_add(add);
            *edge = new.to_be_bytes();
            delta = delta.u32_at(odd, old, new);
        }
    });
    delta
}
