//! Which servers may be used, a bit each: a pick need not read the server's own line, which is far away when
//! there are thousands, and finds the next one that may be used without looking at those between.

use alloc::vec::Vec;
use lvs_core::sched::ServerLoad;

/// Small numbers, and a second row of words that says which words of the first are not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    some: Vec<u64>,
}

/// The lowest bit of a word at or behind a place of it.
#[inline(always)]
fn lowest(word: u64, from: usize) -> Option<usize> {
    let rest = word & u64::MAX.wrapping_shl(from as u32);
    (rest != 0).then_some(rest.trailing_zeros() as usize)
}

impl Bits {
    /// Room for numbers below `len`, none of them in it.
    pub(crate) fn reset(&mut self, len: usize) {
        let words = len.div_ceil(64);
        for (row, len) in [(&mut self.words, words), (&mut self.some, words.div_ceil(64))] {
            row.clear();
            row.resize(len, 0);
        }
    }

    #[inline(always)]
    pub(crate) fn has(&self, at: usize) -> bool {
        self.words.get(at / 64).is_some_and(|word| word.wrapping_shr(at as u32) & 1 != 0)
    }

    /// Puts a number in or takes it out. One beyond the room is not kept.
    pub(crate) fn set(&mut self, at: usize, is_in: bool) {
        let Some(word) = self.words.get_mut(at / 64) else { return };
        put(word, at, is_in);
        let any = *word != 0;
        if let Some(some) = self.some.get_mut(at / 64 / 64) {
            put(some, at / 64, any);
        }
    }

    /// The first at or behind a number.
    #[inline]
    pub(crate) fn behind(&self, from: usize) -> Option<usize> {
        let at = from / 64;
        if let Some(low) = lowest(*self.words.get(at)?, from % 64) {
            return Some(at.wrapping_mul(64).wrapping_add(low));
        }
        let at = self.word_behind(at.wrapping_add(1))?;
        Some(at.wrapping_mul(64).wrapping_add(lowest(*self.words.get(at)?, 0)?))
    }

    /// The first at or behind a number, round the end.
    pub(crate) fn round(&self, from: usize) -> Option<usize> {
        self.behind(from).or_else(|| self.behind(0))
    }

    /// The first word at or behind a place that is not empty.
    fn word_behind(&self, from: usize) -> Option<usize> {
        let start = from / 64;
        let mut low = from % 64;
        for (at, word) in self.some.iter().enumerate().skip(start) {
            if let Some(found) = lowest(*word, low) {
                return Some(at.wrapping_mul(64).wrapping_add(found));
            }
            low = 0;
        }
        None
    }
}

const fn put(word: &mut u64, at: usize, is_in: bool) {
    let bit = 1u64.wrapping_shl(at as u32);
    *word = if is_in { *word | bit } else { *word & !bit };
}

/// The servers that may be used, as far as somebody told: all changes must be told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready {
    bits: Bits,
    /// Servers with a weight that may not be used.
    out: usize,
}

impl Ready {
    pub(crate) fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.bits.reset(servers.len());
        self.out = 0;
        for (at, server) in servers.iter().enumerate() {
            if server.is_available() {
                self.bits.set(at, true);
            } else if server.weight.0 > 0 {
                self.out = self.out.wrapping_add(1);
            }
        }
    }

    /// A server's load changed; the result says whether it may be used now and could not before, or the other
    /// way round.
    #[inline]
    pub(crate) fn changed(&mut self, index: usize, servers: &[ServerLoad]) -> bool {
        let Some(server) = servers.get(index) else { return false };
        let now = server.is_available();
        if now == self.bits.has(index) {
            return false;
        }
        self.bits.set(index, now);
        self.out = if now { self.out.saturating_sub(1) } else { self.out.saturating_add(1) };
        true
    }

    /// Every server that has a weight.
    #[inline(always)]
    pub(crate) const fn all(&self) -> bool {
        self.out == 0
    }

    #[inline(always)]
    pub(crate) fn has(&self, at: usize) -> bool {
        self.bits.has(at)
    }

    /// The first server that may be used at or behind a place of the list, round its end.
    pub(crate) fn round(&self, from: usize) -> Option<usize> {
        self.bits.round(from)
    }

    /// The first of some servers that may be used, without a jump for each of them: whom it will be, nobody can
    /// foretell, and a wrong guess costs more than to look at all.
    #[inline(always)]
    pub(crate) fn first_of<const N: usize>(&self, candidates: [usize; N]) -> Option<usize> {
        let mut first = usize::MAX;
        for at in candidates.into_iter().rev() {
            first = core::hint::select_unpredictable(self.has(at), at, first);
        }
        (first != usize::MAX).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn bits_are_a_set_whatever_goes_in_and_out() {
        for len in [0usize, 1, 63, 64, 65, 4096, 4097, 70_000] {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            bits.reset(len);
            let mut random = len as u64;
            for turn in 0..3000u64 {
                random = crate::steady::step(random, turn);
                let at = (random >> 20) as usize % (len + 3);
                // Now mostly in, now mostly out, so that it is full of holes and nearly empty in turn.
                let is_in = random % 8 < if turn / 500 % 2 == 0 { 6 } else { 1 };
                bits.set(at, is_in);
                if is_in && at < len.div_ceil(64) * 64 {
                    set.insert(at);
                } else {
                    set.remove(&at);
                }
                for from in [0, at, at + 1, len, (random >> 40) as usize % (len + 1)] {
                    assert_eq!(bits.has(from), set.contains(&from));
                    let behind = set.range(from..).next().copied();
                    assert_eq!(bits.behind(from), behind, "{from} of {len}");
                    assert_eq!(bits.round(from), behind.or_else(|| set.first().copied()));
                }
            }
        }
    }
}
