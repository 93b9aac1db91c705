//! SipHash-1-3: the keyed hash wherever a stranger chooses the input.
//!
//! A table that is indexed by addresses from the network must not let a sender choose his bucket,
//! and an initial sequence number must not be guessed. SipHash (Aumasson and Bernstein, "SipHash: a
//! fast short-input PRF", 2012) gives both; one compression and three finalisation rounds are the
//! usual choice for tables.
//!
//! ```
//! use lvs_core::siphash::SipHash13;
//!
//! let hash = SipHash13::new(&[0x0706050403020100, 0x0f0e0d0c0b0a0908]);
//! assert_eq!(hash.words(&[0x0102030405060708]), hash.bytes(&0x0102030405060708u64.to_le_bytes()));
//! ```

/// A keyed hash, ready to use; the key is secret and lives as long as the table.
#[derive(Clone, Copy)]
pub struct SipHash13 {
    start: State,
}

#[derive(Clone, Copy)]
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    const fn round(self) -> Self {
        let Self { v0, v1, v2, v3 } = self;
        let v0 = v0.wrapping_add(v1);
        let v2 = v2.wrapping_add(v3);
        let v1 = v1.rotate_left(13) ^ v0;
        let v3 = v3.rotate_left(16) ^ v2;
        let v0 = v0.rotate_left(32);
        let v2 = v2.wrapping_add(v1);
        let v0 = v0.wrapping_add(v3);
        let v1 = v1.rotate_left(17) ^ v2;
        let v3 = v3.rotate_left(21) ^ v0;
        let v2 = v2.rotate_left(32);
        Self { v0, v1, v2, v3 }
    }

    #[inline(always)]
    const fn absorb(self, word: u64) -> Self {
        let mixed = Self { v3: self.v3 ^ word, ..self }.round();
        Self { v0: mixed.v0 ^ word, ..mixed }
    }

    #[inline(always)]
    const fn finish(self) -> u64 {
        let end = Self { v2: self.v2 ^ 0xff, ..self }.round().round().round();
        end.v0 ^ end.v1 ^ end.v2 ^ end.v3
    }
}

/// Several states that take every step together.
struct Lanes<const L: usize>([State; L]);

impl<const L: usize> Lanes<L> {
    #[inline(always)]
    fn each(&mut self, step: impl Fn(State) -> State) {
        for state in &mut self.0 {
            *state = step(*state);
        }
    }

    #[inline(always)]
    fn absorb(&mut self, words: &[u64; L]) {
        for (state, word) in self.0.iter_mut().zip(words) {
            state.v3 ^= word;
        }
        self.each(State::round);
        for (state, word) in self.0.iter_mut().zip(words) {
            state.v0 ^= word;
        }
    }

    #[inline(always)]
    fn finish(mut self) -> [u64; L] {
        self.each(|state| State { v2: state.v2 ^ 0xff, ..state }.round());
        self.each(State::round);
        self.each(State::round);
        self.0.map(|end| end.v0 ^ end.v1 ^ end.v2 ^ end.v3)
    }
}

impl SipHash13 {
    /// With a key of 128 bits: its first eight bytes and its last eight, each read little-endian.
    #[must_use]
    pub const fn new(key: &[u64; 2]) -> Self {
        let [k0, k1] = *key;
        Self {
            start: State {
                v0: k0 ^ 0x736f_6d65_7073_6575,
                v1: k1 ^ 0x646f_7261_6e64_6f6d,
                v2: k0 ^ 0x6c79_6765_6e65_7261,
                v3: k1 ^ 0x7465_6462_7974_6573,
            },
        }
    }

    /// Hash of words: the same as of their little-endian bytes, without the byte handling. For a
    /// fixed number of words the compiler leaves neither loop nor branch.
    #[must_use]
    #[inline]
    pub fn words<const N: usize>(&self, words: &[u64; N]) -> u64 {
        let state = words.iter().fold(self.start, |state, &word| state.absorb(word));
        state.absorb(last_word((N as u64).wrapping_mul(8), [0; 8])).finish()
    }

    /// Hash of words of which the last is a closing word already: up to seven bytes, and on top the number
    /// of all bytes modulo 256. The same as of those bytes.
    #[must_use]
    #[inline(always)]
    pub(crate) fn sealed<const N: usize>(&self, words: &[u64; N]) -> u64 {
        words.iter().fold(self.start, |state, &word| state.absorb(word)).finish()
    }

    /// [`sealed`](Self::sealed) of several keys side by side, so that their dependent steps overlap. The words
    /// of all keys first, then the next ones.
    #[must_use]
    #[inline(always)]
    pub(crate) fn sealed_lanes<const N: usize, const L: usize>(
        &self,
        words: &[[u64; L]; N],
    ) -> [u64; L] {
        let mut lanes = Lanes([self.start; L]);
        for words in words {
            lanes.absorb(words);
        }
        lanes.finish()
    }

    /// Hash of four bytes, the little-endian ones of a word; of several words side by side, which costs little
    /// more than of one.
    ///
    /// ```
    /// # use lvs_core::siphash::SipHash13;
    /// let hash = SipHash13::new(&[1, 2]);
    /// assert_eq!(hash.shorts([7, 8]), [hash.bytes(&[7, 0, 0, 0]), hash.bytes(&[8, 0, 0, 0])]);
    /// ```
    #[must_use]
    #[inline]
    pub fn shorts<const L: usize>(&self, words: [u32; L]) -> [u64; L] {
        self.sealed_lanes(&[words.map(|word| u64::from(word) | 4 << 56)])
    }

    /// Hash of bytes.
    #[must_use]
    pub fn bytes(&self, bytes: &[u8]) -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        let state = words.iter().fold(self.start, |s, &word| s.absorb(u64::from_le_bytes(word)));
        let mut last = [0u8; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        state.absorb(last_word(bytes.len() as u64, last)).finish()
    }
}

/// The closing word: up to seven remaining bytes, and the length modulo 256 on top.
const fn last_word(len: u64, rest: [u8; 8]) -> u64 {
    u64::from_le_bytes(rest) | (len << 56)
}

impl core::fmt::Debug for SipHash13 {
    /// Keeps the key to itself.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SipHash13")
    }
}
