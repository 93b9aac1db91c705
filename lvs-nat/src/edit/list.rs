//! Where a position of one stream lies in the other.

use crate::seq::SeqDeltas;
use core::fmt;
use lvs_core::wire::tcp;

/// At position `at` of the client's stream, `removed` bytes give way to `inserted` others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StreamEdit {
    /// Sequence number, as the client counts, of the first byte that is removed, or in front of which
    /// bytes are inserted.
    pub at: u32,
    /// Bytes of the client that the server does not see.
    pub removed: u16,
    /// Bytes that the client does not know of.
    pub inserted: u16,
}

impl StreamEdit {
    /// What it adds, modulo 2³², to the numbers behind it.
    #[must_use]
    pub const fn growth(self) -> u32 {
        (self.inserted as u32).wrapping_sub(self.removed as u32)
    }

    /// Position behind the removed bytes.
    const fn behind(self) -> u32 {
        self.at.wrapping_add(self.removed as u32)
    }
}

/// To which side of inserted bytes a position belongs that lies exactly there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bias {
    /// In front of them: a segment that brings them.
    Before,
    /// Behind them: a segment without payload, which must not look old.
    After,
}

/// Why an edit was not taken into a list; the list is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EditListError {
    /// The list is full: the oldest edit has to settle first.
    Full,
    /// It does not lie behind the last edit of the list.
    Order,
}

impl fmt::Display for EditListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the list of stream edits is full until the oldest settles",
            Self::Order => "a stream edit has to lie behind those before it",
        })
    }
}

impl core::error::Error for EditListError {}

/// Up to `N` edits of a client's stream in order, and the constant difference in front of them.
///
/// Numbers are compared within half of the number space, so an edit has to settle before 2 GiB of
/// stream have passed it. It does when its bytes are acknowledged, one window later at the latest.
///
/// ```
/// use lvs_nat::edit::{Bias, EditList, StreamEdit};
///
/// let mut list = EditList::<1>::with_base(1000);
/// list.push(StreamEdit { at: 500, removed: 0, inserted: 28 }).unwrap();
/// assert_eq!(list.map(500, Bias::Before), 1500); // the segment that brings the 28 bytes
/// assert_eq!(list.map(501, Bias::Before), 1529);
/// assert_eq!(list.unmap(1510), 500); // half of them: the client learns of none
/// assert_eq!(list.unmap(1528), 500);
/// assert_eq!(list.unmap(1530), 502);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EditList<const N: usize> {
    base: u32,
    edits: [StreamEdit; N],
    len: usize,
}

impl<const N: usize> Default for EditList<N> {
    fn default() -> Self {
        Self::with_base(0)
    }
}

/// What becomes of a client's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentPlan<const N: usize> {
    /// Its sequence number toward the server.
    pub seq: u32,
    /// Its urgent pointer toward the server.
    pub urgent: u16,
    /// Which edits it carries: offset in the payload and bytes to cut there, by number of the edit.
    pub cuts: [Option<(usize, usize)>; N],
}

/// What counts in a client's segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) seq: u32,
    pub(super) flags: u8,
    pub(super) payload: u32,
    pub(super) urgent: u16,
}

impl Facts {
    const fn flag(&self, flag: u8) -> u32 {
        (self.flags & flag != 0) as u32
    }

    /// Sequence number of the first byte of payload.
    const fn data(&self) -> u32 {
        self.seq.wrapping_add(self.flag(tcp::SYN))
    }
}

/// Distance from `b` to `a`, negative when `a` comes before.
const fn distance(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

impl<const N: usize> EditList<N> {
    /// Without edits: the server's numbers are the client's plus `base`.
    #[must_use]
    pub const fn with_base(base: u32) -> Self {
        Self { base, edits: [StreamEdit { at: 0, removed: 0, inserted: 0 }; N], len: 0 }
    }

    /// The edits, in order.
    #[must_use]
    pub fn edits(&self) -> &[StreamEdit] {
        self.edits.get(..self.len).unwrap_or_default()
    }

    /// Appends an edit, when its bytes go out first.
    ///
    /// # Errors
    /// [`EditListError`].
    pub fn push(&mut self, edit: StreamEdit) -> Result<(), EditListError> {
        if let Some(last) = self.edits().last() {
            let gap = distance(edit.at, last.behind());
            if gap < 0 || (gap == 0 && last.removed == 0) {
                return Err(EditListError::Order);
            }
        }
        *self.edits.get_mut(self.len).ok_or(EditListError::Full)? = edit;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Position `at` of the client's stream in the server's. Positions inside of removed bytes are
    /// those of the bytes that replace them: their start or their end.
    #[must_use]
    pub fn map(&self, at: u32, bias: Bias) -> u32 {
        let mut shift = self.base;
        for edit in self.edits() {
            let into = distance(at, edit.at);
            let removed = i32::from(edit.removed);
            if into < 0 || (into == 0 && (removed > 0 || bias == Bias::Before)) {
                break;
            }
            if into < removed {
                let start = edit.at.wrapping_add(shift);
                return match bias {
                    Bias::Before => start,
                    Bias::After => start.wrapping_add(edit.inserted.into()),
                };
            }
            shift = shift.wrapping_add(edit.growth());
        }
        at.wrapping_add(shift)
    }

    /// Position `at` of the server's stream in the client's: an acknowledgement, a SACK edge, the
    /// sequence number in an ICMP error. Of inserted bytes only all count: a position inside of them is
    /// the one in front of what they replace.
    #[must_use]
    pub fn unmap(&self, at: u32) -> u32 {
        let mut shift = self.base;
        for edit in self.edits() {
            let into = distance(at, edit.at.wrapping_add(shift));
            if into < 0 {
                break;
            }
            if into < i32::from(edit.inserted) {
                return edit.at;
            }
            shift = shift.wrapping_add(edit.growth());
        }
        at.wrapping_sub(shift)
    }

    /// Where the bytes that an edit of the list inserts start, as the server counts.
    pub(super) fn start_of(&self, edit: &StreamEdit) -> u32 {
        self.map(edit.at, Bias::Before)
    }

    /// The number of a client's RST. A receiver takes a reset only at exactly the next number that it
    /// expects (RFC 5961 section 3.2), which is `server_ack`, its newest acknowledgement, as the
    /// server counts. Where the client cannot know it, inside of inserted bytes, it is put in.
    #[must_use]
    pub fn reset(&self, at: u32, server_ack: u32) -> u32 {
        if self.unmap(server_ack) == at { server_ack } else { self.map(at, Bias::After) }
    }

    /// The constant differences, once the server has acknowledged (`server_ack`, as it counts) the
    /// inserted bytes of all edits. `ack` of the result is zero: there are no edits of its stream.
    #[must_use]
    pub fn settled(&self, server_ack: u32) -> Option<SeqDeltas> {
        let mut shift = self.base;
        for edit in self.edits() {
            let end = edit.at.wrapping_add(shift).wrapping_add(edit.inserted.into());
            if distance(server_ack, end) < 0 {
                return None;
            }
            shift = shift.wrapping_add(edit.growth());
        }
        Some(SeqDeltas { seq: shift, ack: 0 })
    }

    /// Folds the edits at the front that `server_ack` covers into the base; returns how many.
    pub fn fold(&mut self, server_ack: u32) -> usize {
        let (mut folded, mut base) = (0usize, self.base);
        for edit in self.edits() {
            let end = edit.at.wrapping_add(base).wrapping_add(edit.inserted.into());
            if distance(server_ack, end) < 0 {
                break;
            }
            base = base.wrapping_add(edit.growth());
            folded = folded.saturating_add(1);
        }
        self.base = base;
        if folded > 0 {
            self.edits.rotate_left(folded.min(N));
            self.len = self.len.saturating_sub(folded);
            self.edits.iter_mut().skip(self.len).for_each(|free| *free = StreamEdit::default());
        }
        folded
    }

    /// What becomes of a segment: `payload` bytes from sequence number `seq` (that of the SYN, if it is
    /// one) on. A segment carries an insertion if it brings the byte or the FIN behind it, and a
    /// replacement if it brings any of the replaced bytes.
    #[must_use]
    pub fn plan(&self, seq: u32, flags: u8, payload: u32, urgent: u16) -> SegmentPlan<N> {
        let facts = Facts { seq, flags, payload, urgent };
        let mut cuts = [None; N];
        for (cut, edit) in cuts.iter_mut().zip(self.edits()) {
            *cut = cut_of(edit, &facts);
        }
        let carries = cuts.iter().any(Option::is_some);
        let bias = if carries { Bias::Before } else { Bias::After };
        let seq_out = match facts.flag(tcp::SYN) {
            0 => self.map(facts.seq, bias),
            _ => self.map(facts.seq, Bias::Before),
        };
        SegmentPlan { seq: seq_out, urgent: self.urgent(&facts, seq_out), cuts }
    }

    /// The urgent pointer counts from the sequence number (RFC 9293 section 3.1, RFC 6093).
    fn urgent(&self, facts: &Facts, seq_out: u32) -> u16 {
        if facts.flag(tcp::URG) == 0 || facts.urgent == 0 {
            return facts.urgent;
        }
        let position = facts.seq.wrapping_add(facts.urgent.into());
        let offset = distance(self.map(position, Bias::Before), seq_out);
        u16::try_from(offset.max(0)).unwrap_or(u16::MAX)
    }
}

/// Offset in the payload and number of bytes to cut, if the segment carries the edit.
fn cut_of(edit: &StreamEdit, facts: &Facts) -> Option<(usize, usize)> {
    let start = distance(edit.at, facts.data());
    let payload = i32::try_from(facts.payload).ok()?;
    let end = start.checked_add(i32::from(edit.removed))?;
    let (from, to) = (start.max(0), end.min(payload));
    let carries = match edit.removed {
        0 => start >= 0 && start < payload.saturating_add(facts.flag(tcp::FIN) as i32),
        _ => from < to,
    };
    let cut = to.checked_sub(from)?;
    carries.then_some((usize::try_from(from).ok()?, usize::try_from(cut).ok()?))
}
