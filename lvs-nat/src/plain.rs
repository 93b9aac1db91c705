//! The edit that nearly every packet gets: an ordinary TCP segment in its usual place, without anything in
//! its options to adjust.
//!
//! The result is that of a [`Rewrite`](crate::Rewrite) of the same session and direction, byte for byte; this
//! one knows where everything is, writes address and ports as they are stored, and has no jump that
//! depends on the packet.

use lvs_core::checksum::Delta;
use lvs_core::key::{KeyV4, KeyV6};
use lvs_core::wire::{QUICK_V4, QUICK_V6};

/// What happens to an ordinary segment besides its new addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainEdit {
    /// Change of the TCP checksum by addresses and ports. Bits of a [`Delta`].
    pub l4_delta: u16,
    /// Change by addresses alone. Bits of a [`Delta`].
    pub ip_delta: u16,
    /// Added to the sequence number.
    pub seq_add: u32,
    /// Added to the acknowledgement number; the segment has the ACK flag.
    pub ack_add: u32,
    /// The TCP checksum field is partial ([`L4Csum::Partial`](lvs_core::io::L4Csum::Partial)).
    pub partial: bool,
}

/// A field of constant place and size.
#[inline(always)]
fn field<const N: usize>(head: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    head.get_mut(at..)?.first_chunk_mut()
}

/// Adds to a number of a header and tells how that changes the sum.
#[inline(always)]
fn add_u32(field: &mut [u8; 4], add: u32, delta: Delta) -> Delta {
    let old = u32::from_be_bytes(*field);
    let new = old.wrapping_add(add);
    *field = new.to_be_bytes();
    delta.u32(old, new)
}

impl PlainEdit {
    /// Edits the TCP header that starts at `l4`, but for its ports.
    #[inline(always)]
    fn tcp(&self, head: &mut [u8], l4: usize) -> Option<()> {
        let delta = Delta::from_bits(self.l4_delta);
        let delta = add_u32(field(head, l4.wrapping_add(4))?, self.seq_add, delta);
        let delta = add_u32(field(head, l4.wrapping_add(8))?, self.ack_add, delta);
        let sum: &mut [u8; 2] = field(head, l4.wrapping_add(16))?;
        let old = u16::from_be_bytes(*sum);
        let new = if self.partial {
            Delta::from_bits(self.ip_delta).apply_partial(old)
        } else {
            delta.apply(old)
        };
        *sum = new.to_be_bytes();
        Some(())
    }

    /// Edits an IPv4 segment whose time to live is at least 2; `key` = its new addresses and ports.
    #[inline(always)]
    pub fn apply_v4(&self, head: &mut [u8; QUICK_V4], key: &KeyV4) {
        // All places lie inside the array, so nothing is ever missing.
        let _ = self.v4(head, key);
    }

    #[inline(always)]
    fn v4(&self, head: &mut [u8], key: &KeyV4) -> Option<()> {
        *field(head, 26)? = key.0;
        let [ttl] = field(head, 22)?;
        *ttl = ttl.wrapping_sub(1);
        // One less in the upper half of a word.
        let delta = Delta::from_bits(self.ip_delta).u16(0x0100, 0);
        let sum: &mut [u8; 2] = field(head, 24)?;
        *sum = delta.apply(u16::from_be_bytes(*sum)).to_be_bytes();
        self.tcp(head, 34)
    }

    /// Edits an IPv6 segment whose hop limit is at least 2; `key` = its new addresses and ports.
    #[inline(always)]
    pub fn apply_v6(&self, head: &mut [u8; QUICK_V6], key: &KeyV6) {
        let _ = self.v6(head, key);
    }

    #[inline(always)]
    fn v6(&self, head: &mut [u8], key: &KeyV6) -> Option<()> {
        *field(head, 22)? = key.0;
        let [ttl] = field(head, 21)?;
        *ttl = ttl.wrapping_sub(1);
        self.tcp(head, 54)
    }
}
