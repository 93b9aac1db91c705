//! The option format that IPv4 and TCP share: kind, length, value (RFC 791 section 3.1, RFC 9293
//! section 3.1).

/// Ends the list.
pub(super) const END: u8 = 0;
/// One byte of padding.
pub(super) const NOP: u8 = 1;

/// Where the first malformed option starts, if there is one: its length is missing, below 2 or past
/// the end.
pub(super) fn first_bad(options: &[u8]) -> Option<usize> {
    let mut rest = options;
    loop {
        rest = match *rest {
            [] | [END, ..] => return None,
            [NOP, ref tail @ ..] => tail,
            [_, len, ..] if len >= 2 && usize::from(len) <= rest.len() => {
                rest.get(usize::from(len)..).unwrap_or_default()
            }
            _ => return Some(options.len().saturating_sub(rest.len())),
        };
    }
}

/// Walks over options that [`first_bad`] found in order: offset from the start, and the bytes of the
/// whole option, two or more. Padding is left out, the list ends at the first end marker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Walk<'a> {
    pub(super) const fn new(options: &'a [u8]) -> Self {
        Self { rest: options, offset: 0 }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.rest {
                [NOP, ref tail @ ..] => {
                    self.rest = tail;
                    self.offset = self.offset.saturating_add(1);
                }
                [kind, len, ..] if kind != END && len >= 2 => {
                    let (option, tail) = self.rest.split_at_checked(usize::from(len))?;
                    let offset = self.offset;
                    self.rest = tail;
                    self.offset = offset.saturating_add(option.len());
                    return Some((offset, option));
                }
                _ => {
                    self.rest = &[];
                    return None;
                }
            }
        }
    }
}
