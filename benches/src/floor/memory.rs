//! The least memory that a packet of one of n sessions has to touch.
#![allow(unsafe_code, reason = "bounds checks would make the floor slower than it is")]

use lvs_core::prefetch::prefetch;
use lvs_os::memory::Region;
use lvs_testkit::traffic::Rng;

/// Packets of one burst.
const BURST: usize = 64;
/// Bursts in flight: one is asked for, one is followed to its lines, one is worked on.
const FLIGHT: usize = 3;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// A directory and sessions, as large as n sessions need them, in huge pages.
pub struct Memory {
    directory: Region,
    sessions: Region,
    buckets: usize,
    count: usize,
}

impl Memory {
    /// For `sessions` sessions, 5.5 to a directory bucket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(sessions: usize) -> Result<Self, String> {
        let region = |lines: usize| Region::anonymous(lines * 64).map_err(|e| e.to_string());
        let buckets = (sessions * 2).div_ceil(11).max(1);
        let count = sessions.max(1);
        let mut memory =
            Self { directory: region(buckets)?, sessions: region(count)?, buckets, count };
        let mut rng = Rng::new(99);
        let (directory, lines) = memory.parts();
        directory.iter_mut().flat_map(|line| &mut line.0).for_each(|word| {
            *word = rng.below(count) as u32;
        });
        lines.fill(Line([1; 16]));
        Ok(memory)
    }

    fn parts(&mut self) -> (&mut [Line], &mut [Line]) {
        let lines = |region: &mut Region, count: usize| {
            let bytes = region.as_mut_slice();
            assert!(bytes.len() >= count * 64);
            // SAFETY: the region is that long, aligned to 2 MiB, and any bytes are a `Line`; the
            // lifetime is bound by the signature of the function around.
            unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<Line>(), count) }
        };
        (lines(&mut self.directory, self.buckets), lines(&mut self.sessions, self.count))
    }

    /// `packets` packets, every other one inbound; a fresh seed for each call. `returning` = replies
    /// only.
    #[inline(never)]
    pub fn run(&mut self, packets: usize, seed: u64, returning: bool) -> u32 {
        let (directory, sessions) = self.parts();
        let mut rng = Rng::new(seed);
        let mut flight = [[0u32; BURST]; FLIGHT];
        let bursts = packets / BURST;
        let mut seen = 0;
        for step in 0..bursts + FLIGHT - 1 {
            if step < bursts {
                for (at, place) in flight[step % FLIGHT].iter_mut().enumerate() {
                    let inbound = at & 1 == 0 && !returning;
                    let lines: &[Line] = if inbound { directory } else { sessions };
                    let number = rng.below(lines.len());
                    // SAFETY: `below` gives less than the length.
                    prefetch(unsafe { lines.get_unchecked(number) });
                    *place = number as u32;
                }
            }
            if (1..=bursts).contains(&step) && !returning {
                for place in flight[(step - 1) % FLIGHT].iter_mut().step_by(2) {
                    // SAFETY: the first step put a number of a bucket here.
                    let bucket = unsafe { directory.get_unchecked(*place as usize) };
                    let number = bucket.0[*place as usize & 7];
                    // SAFETY: all words of the directory are numbers of sessions.
                    prefetch(unsafe { sessions.get_unchecked(number as usize) });
                    *place = number;
                }
            }
            if step + 1 >= FLIGHT {
                for place in &flight[(step + 1) % FLIGHT] {
                    // SAFETY: by now all places of this burst hold numbers of sessions.
                    let line = unsafe { sessions.get_unchecked_mut(*place as usize) };
                    line.0[12] = line.0[12].wrapping_add(1);
                    seen ^= line.0[0];
                }
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_writes_one_session() {
        for (returning, packets) in [(false, 64), (false, 640), (true, 192)] {
            let mut memory = Memory::new(100).unwrap();
            memory.run(packets, 5, returning);
            let (_, sessions) = memory.parts();
            let written: u32 = sessions.iter().map(|line| line.0[12] - 1).sum();
            assert_eq!(written as usize, packets);
        }
    }
}
