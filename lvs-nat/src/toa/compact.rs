//! Making room in an option list that is full.

use crate::walk;

/// How far to go when the address option does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compaction {
    /// Leave the client's options alone.
    Never,
    /// Take out padding. No meaning is lost.
    #[default]
    Padding,
    /// Then take out options, first to last, until there is room: in a SYN all but one each of MSS,
    /// window scale, SACK-permitted, timestamps, MPTCP and Fast Open cookie, elsewhere all but
    /// timestamps and everything of MPTCP, which a connection cannot lose without damage (RFC 8684
    /// section 3.7). SACK blocks may be lost, which costs retransmissions.
    Options,
}

/// A rebuilt option list.
pub(super) struct Compacted {
    pub(super) bytes: [u8; walk::MAX],
    /// A multiple of four.
    pub(super) len: usize,
    /// Options taken out.
    pub(super) dropped: u8,
}

const fn padded(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// Rebuilds `options` in at most `room` bytes, or `None` when that cannot be done, or the list is
/// malformed and therefore nobody knows what would be lost.
///
/// The client's padding goes; where the result is not a multiple of four it ends with zeros, which
/// is the end marker followed by what nobody reads (RFC 9293 section 3.1).
pub(super) fn compact(
    options: &[u8],
    syn: bool,
    room: usize,
    how: Compaction,
) -> Option<Compacted> {
    let mut need = 0usize;
    for option in walk::Options::new(options) {
        need = need.saturating_add(option.ok()?.len());
    }
    let mut out = Compacted { bytes: [0; walk::MAX], len: 0, dropped: 0 };
    let mut at = 0usize;
    let mut seen = Seen::default();
    for option in walk::Options::new(options).map_while(Result::ok) {
        let protected = seen.protects(option, syn);
        if padded(need) > room && !protected && how == Compaction::Options {
            need = need.saturating_sub(option.len());
            out.dropped = out.dropped.saturating_add(1);
            continue;
        }
        for (to, from) in out.bytes.get_mut(at..)?.iter_mut().zip(option) {
            *to = *from;
        }
        at = at.saturating_add(option.len());
    }
    out.len = padded(at);
    (how != Compaction::Never && out.len <= room && out.len <= walk::MAX).then_some(out)
}

/// Which protected kinds have been met: the first of each is kept, a second copy is not.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    fn protects(&mut self, option: &[u8], syn: bool) -> bool {
        let [kind, len, ..] = *option else { return false };
        if kind == walk::MPTCP && !syn {
            // Data mappings and address signals come several to a segment.
            return true;
        }
        let longest = match (kind, syn) {
            (walk::TIMESTAMPS, _) => 10,
            (walk::MSS, true) => 4,
            (walk::WINDOW_SCALE, true) => 3,
            (walk::SACK_PERMITTED, true) => 2,
            (walk::MPTCP, true) => 40,
            (walk::FAST_OPEN, true) => 18,
            _ => return false,
        };
        let bit = 1u64 << (kind & 63);
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first && len <= longest
    }
}
