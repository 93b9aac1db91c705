//! Taking out what a client put into its own segments to look like somebody else.

use crate::error::RewriteError;
use crate::fields::tcp_mut;
use crate::options;
use crate::walk;
use lvs_core::io::L4Csum;
use lvs_core::wire::{Headers, tcp};

/// A set of TCP option kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KindSet([u64; 4]);

impl KindSet {
    /// None.
    pub const EMPTY: Self = Self([0; 4]);
    /// All kinds under which a known reader looks for client addresses: 28, 200, 252, 253 and 254.
    pub const KNOWN: Self = Self::EMPTY.with(28).with(200).with(252).with(253).with(254);

    /// The set with one more kind. Kinds that every TCP needs (0 to 5 and 8) are left out.
    #[must_use]
    pub const fn with(self, kind: u8) -> Self {
        let Self([a, b, c, d]) = self;
        let bit = match kind {
            0..=5 | 8 => 0,
            _ => 1u64 << (kind & 63),
        };
        Self(match kind >> 6 {
            0 => [a | bit, b, c, d],
            1 => [a, b | bit, c, d],
            2 => [a, b, c | bit, d],
            _ => [a, b, c, d | bit],
        })
    }

    /// Whether a kind is in the set.
    #[must_use]
    pub const fn contains(self, kind: u8) -> bool {
        let Self([a, b, c, d]) = self;
        let word = match kind >> 6 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        word >> (kind & 63) & 1 == 1
    }
}

/// What [`strip`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stripped {
    /// Options overwritten with padding.
    pub count: u8,
    /// The list breaks off in a malformed option. Receivers stop reading there; nothing behind it
    /// was looked at.
    pub malformed: bool,
}

/// Overwrites client addresses with padding, in place, on a segment from a client:
///
/// - every option of a kind in `kinds`,
/// - every other experiment of kinds 253 and 254 (RFC 4727),
///
/// except the experimental form of TCP Fast Open (kind 254, then 0xf989; RFC 7413 section 4.1.2)
/// in a SYN, the only place where it means anything. A Fast Open option of 8, 16 or 20 bytes cannot
/// be told from a client address with port 63881 and is overwritten when its kind is in `kinds`: to
/// the client that costs a round trip, to the server the other mistake would cost its trust.
///
/// # Errors
/// [`RewriteError`] when it is not TCP or the headers are another frame's; the frame is untouched.
pub fn strip(
    frame: &mut [u8],
    headers: &Headers,
    csum: L4Csum,
    kinds: KindSet,
) -> Result<Stripped, RewriteError> {
    let (fixed, options) = tcp_mut(frame, headers)?;
    if walk::is_plain(options) {
        return Ok(Stripped::default());
    }
    let syn = fixed.flags & tcp::SYN != 0;
    Ok(options::edit((fixed, options), csum, |options| {
        let mut count = 0u8;
        let in_order = walk::edit_each(options, |_, option| {
            if is_address(option, kinds, syn) {
                option.fill(walk::NOP);
                count = count.wrapping_add(1);
            }
        });
        Stripped { count, malformed: !in_order }
    }))
}

/// Whether an option is, or may be read as, a client address.
fn is_address(option: &[u8], kinds: KindSet, syn: bool) -> bool {
    match *option {
        [kind @ 254, len, 0xf9, 0x89, ..] if syn => {
            kinds.contains(kind) && matches!(len, 8 | 16 | 20)
        }
        [253 | 254, ..] => true,
        [kind, ..] => kinds.contains(kind),
        [] => false,
    }
}
