//! Walking over TCP options, to read and to edit, safe against any bytes.
//!
//! RFC 9293 section 3.1: a list of `kind`, `length`, value; kind 0 ends it, kind 1 is one byte of
//! padding. A length below 2 or past the header makes the rest of the list unreadable, and every
//! walk stops there, as receivers do.

/// Ends the list; what follows is padding.
pub(crate) const END: u8 = 0;
/// One byte of padding.
pub(crate) const NOP: u8 = 1;
/// Maximum segment size (RFC 9293 section 3.7.1).
pub(crate) const MSS: u8 = 2;
/// Window scale (RFC 7323).
pub(crate) const WINDOW_SCALE: u8 = 3;
/// Selective acknowledgements permitted (RFC 2018).
pub(crate) const SACK_PERMITTED: u8 = 4;
/// Selective acknowledgement (RFC 2018).
pub(crate) const SACK: u8 = 5;
/// Timestamps (RFC 7323).
pub(crate) const TIMESTAMPS: u8 = 8;
/// Multipath TCP (RFC 8684).
pub(crate) const MPTCP: u8 = 30;
/// Fast Open cookie (RFC 7413).
pub(crate) const FAST_OPEN: u8 = 34;
/// Most bytes that options can take: 60 of the header less the fixed 20.
pub(crate) const MAX: usize = 40;

/// What stands at the start of the remaining list.
enum Step {
    Padding,
    Option(usize),
    End,
    Malformed,
}

fn step(rest: &[u8]) -> Step {
    match *rest {
        [] | [END, ..] => Step::End,
        [NOP, ..] => Step::Padding,
        [_, len, ..] if len >= 2 && usize::from(len) <= rest.len() => Step::Option(len.into()),
        _ => Step::Malformed,
    }
}

/// Whether the options are exactly what nearly every segment of an open connection has: two NOPs
/// and timestamps (RFC 7323 appendix A). There is nothing to look for in them.
#[inline]
pub(crate) fn is_plain(options: &[u8]) -> bool {
    options.is_empty()
        || (options.len() == 12 && options.first_chunk() == Some(&[NOP, NOP, TIMESTAMPS, 10]))
}

/// Hands every option, kind and length included, to `edit`, and whether its offset in the header is
/// odd. Returns whether the whole list was in order.
pub(crate) fn edit_each(options: &mut [u8], mut edit: impl FnMut(bool, &mut [u8])) -> bool {
    let mut rest = options;
    let mut odd = false;
    loop {
        let len = match step(rest) {
            Step::Padding => 1,
            Step::Option(len) => len,
            Step::End => return true,
            Step::Malformed => return false,
        };
        let Some((option, tail)) = rest.split_at_mut_checked(len) else { return false };
        if option.len() > 1 {
            edit(odd, option);
        }
        odd ^= len & 1 == 1;
        rest = tail;
    }
}

/// The options in order, padding left out; after a malformed one comes a last item `Err`.
#[derive(Clone)]
pub(crate) struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    pub(crate) const fn new(options: &'a [u8]) -> Self {
        Self { rest: options }
    }
}

/// The rest of the list cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Iterator for Options<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let len = match step(self.rest) {
                Step::Padding => 1,
                Step::Option(len) => len,
                Step::End => return None,
                Step::Malformed => {
                    self.rest = &[];
                    return Some(Err(Malformed));
                }
            };
            let (option, tail) = self.rest.split_at_checked(len)?;
            self.rest = tail;
            if len > 1 {
                return Some(Ok(option));
            }
        }
    }
}
