//! One-way rings from worker to worker: records of any length, copied word by word through atomics.
//!
//! ```text
//!   producer: tail ──► [ meta x 5 | bytes .. ] [ meta .. ] ◄── head :consumer
//! ```
//! Each side writes one counter only. The words are relaxed atomics, plain moves on the machine; what a
//! record says is visible because its end is published with release and read with acquire.

use alloc::boxed::Box;
use alloc::sync::Arc;

#[cfg(not(all(test, loom)))]
use core::sync::atomic::{AtomicUsize, Ordering};
#[cfg(all(test, loom))]
use loom::sync::atomic::{AtomicUsize, Ordering};

/// Words in front of a record's bytes: its length, and what else the writer says.
const META: usize = 5;
/// What a record says besides its bytes.
pub(super) type Meta = [u32; META - 1];
/// Bytes of a word.
const WORD: usize = size_of::<usize>();

/// Kept apart, so that the two sides do not take each other's cache line away.
#[repr(align(128))]
struct Counter(AtomicUsize);

struct Ring {
    words: Box<[AtomicUsize]>,
    /// Words read so far.
    head: Counter,
    /// Words written so far.
    tail: Counter,
}

impl Ring {
    fn word(&self, at: usize) -> Option<&AtomicUsize> {
        self.words.get(at & self.words.len().wrapping_sub(1))
    }

    fn store(&self, at: usize, value: usize) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn load(&self, at: usize) -> usize {
        self.word(at).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

/// The writing end.
pub(super) struct Sender {
    ring: Arc<Ring>,
    tail: usize,
    /// As last seen: the consumer is at least here.
    head: usize,
}

/// The reading end.
pub(super) struct Receiver {
    ring: Arc<Ring>,
    head: usize,
    /// As last seen: the producer is at least here.
    tail: usize,
}

/// A ring of at least this many bytes.
pub(super) fn ring(bytes: usize) -> (Sender, Receiver) {
    let words = (bytes / WORD).clamp(8, 1 << 28).next_power_of_two();
    let ring = Arc::new(Ring {
        words: (0..words).map(|_| AtomicUsize::new(0)).collect(),
        head: Counter(AtomicUsize::new(0)),
        tail: Counter(AtomicUsize::new(0)),
    });
    (Sender { ring: Arc::clone(&ring), tail: 0, head: 0 }, Receiver { ring, head: 0, tail: 0 })
}

const fn words_of(len: usize) -> usize {
    META.wrapping_add(len.div_ceil(WORD))
}

impl Sender {
    /// Writes a record, if `share` of the ring in sixteenths has room for it. `false` when not: nothing
    /// was written.
    pub(super) fn push(&mut self, meta: Meta, bytes: &[u8], share: usize) -> bool {
        let room = (self.ring.words.len() / 16).max(1).wrapping_mul(share);
        let room = room.min(self.ring.words.len());
        let (Ok(len), needed) = (u32::try_from(bytes.len()), words_of(bytes.len())) else {
            return false;
        };
        let fits = |head: usize| self.tail.wrapping_sub(head).saturating_add(needed) <= room;
        if !fits(self.head) {
            self.head = self.ring.head.0.load(Ordering::Acquire);
            if !fits(self.head) {
                return false;
            }
        }
        let mut at = self.tail;
        let mut put = |value| {
            self.ring.store(at, value);
            at = at.wrapping_add(1);
        };
        put(len as usize);
        meta.into_iter().for_each(|word| put(word as usize));
        let (whole, rest) = bytes.as_chunks::<WORD>();
        whole.iter().for_each(|word| put(usize::from_ne_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; WORD];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            put(usize::from_ne_bytes(last));
        }
        self.tail = at;
        self.ring.tail.0.store(at, Ordering::Release);
        true
    }
}

impl Receiver {
    /// Length and meta of the oldest record.
    pub(super) fn peek(&mut self) -> Option<(usize, Meta)> {
        if self.head == self.tail {
            self.tail = self.ring.tail.0.load(Ordering::Acquire);
            if self.head == self.tail {
                return None;
            }
        }
        let mut at = self.head;
        let mut next = || {
            at = at.wrapping_add(1);
            self.ring.load(at) as u32
        };
        let meta = [next(), next(), next(), next()];
        Some((self.ring.load(self.head), meta))
    }

    /// Copies the bytes of the record of this length, which [`peek`](Self::peek) has shown, as far as there
    /// is room, and removes it.
    pub(super) fn take(&mut self, len: usize, to: &mut [u8]) {
        let mut at = self.head.wrapping_add(META);
        let to = to.split_at_mut_checked(len).map_or(&mut [][..], |(to, _)| to);
        for part in to.chunks_mut(WORD) {
            let word = self.ring.load(at).to_ne_bytes();
            for (to, from) in part.iter_mut().zip(word) {
                *to = from;
            }
            at = at.wrapping_add(1);
        }
        self.head = self.head.wrapping_add(words_of(len));
        self.ring.head.0.store(self.head, Ordering::Release);
    }

    /// Whether there is a record.
    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail && self.head == self.ring.tail.0.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    extern crate std;

    #[test]
    fn records_of_all_lengths_come_out_as_they_went_in_over_many_turns_of_the_ring() {
        let (mut sender, mut receiver) = ring(512);
        for round in 0..2000u32 {
            let bytes: Vec<u8> = (0..round % 200).map(|at| (at + round) as u8).collect();
            assert!(receiver.peek().is_none() && receiver.is_empty());
            assert!(sender.push([round, 1, 2, u32::MAX], &bytes, 16));
            assert!(!receiver.is_empty());
            let (len, meta) = receiver.peek().unwrap();
            assert_eq!((len, meta), (bytes.len(), [round, 1, 2, u32::MAX]));
            let mut copy = vec![0; len];
            receiver.take(len, &mut copy);
            assert_eq!(copy, bytes);
        }
    }

    #[test]
    fn a_full_ring_takes_nothing_and_half_of_it_can_be_kept_for_others() {
        let (mut sender, mut receiver) = ring(64 * WORD);
        let bytes = [7; 3 * WORD]; // 8 words with its meta
        assert_eq!((0..9).filter(|_| sender.push([0; 4], &bytes, 8)).count(), 4);
        assert_eq!((0..9).filter(|_| sender.push([0; 4], &bytes, 16)).count(), 4);
        assert!(!sender.push([0; 4], &[0; 4096], 16));
        for left in (0..8).rev() {
            let (len, _) = receiver.peek().unwrap();
            receiver.take(len, &mut []);
            assert_eq!(receiver.is_empty(), left == 0);
        }
        assert!(sender.push([0; 4], &bytes, 8));
    }

    #[test]
    fn two_threads_pass_everything_in_order() {
        let (mut sender, mut receiver) = ring(1024);
        let there = std::thread::spawn(move || {
            for number in 0..20_000u32 {
                let bytes = vec![number as u8; number as usize % 97];
                while !sender.push([number, !number, 0, 0], &bytes, 16) {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..20_000u32 {
            let (len, meta) = loop {
                match receiver.peek() {
                    Some(found) => break found,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!((len, meta[0], meta[1]), (number as usize % 97, number, !number));
            let mut bytes = vec![0; len];
            receiver.take(len, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == number as u8));
        }
        there.join().unwrap();
    }
}

/// Every order in which the two sides can take their steps:
/// `RUSTFLAGS="--cfg loom" cargo test -p lvs-director --lib ring`.
#[cfg(all(test, loom))]
mod interleavings {
    use super::*;

    #[test]
    fn a_record_is_seen_whole_or_not_at_all_and_none_is_overwritten() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            // Eight words: the second record fits only after the first has been read.
            let (mut sender, mut receiver) = ring(0);
            let writer = loom::thread::spawn(move || {
                let bytes = |number: u32| [number as u8; WORD + 1];
                let mut written = 0;
                for number in 1..=2u32 {
                    for _ in 0..2 {
                        if sender.push([number; 4], &bytes(number), 16) {
                            written = number;
                            break;
                        }
                        loom::thread::yield_now();
                    }
                    if written != number {
                        break;
                    }
                }
                written
            });
            let mut seen = 0;
            for _ in 0..3 {
                if let Some((len, meta)) = receiver.peek() {
                    let number = seen + 1;
                    assert_eq!((len, meta), (WORD + 1, [number; 4]));
                    let mut bytes = [0; WORD + 1];
                    receiver.take(len, &mut bytes);
                    assert_eq!(bytes, [number as u8; WORD + 1]);
                    seen = number;
                }
                loom::thread::yield_now();
            }
            assert!(writer.join().unwrap() >= seen);
        });
    }
}
