//! A 64-bit word that several workers change: the only kind of memory that the shared tables are made of.

#[cfg(all(target_has_atomic = "64", not(all(test, loom))))]
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(all(test, loom))]
use loom::sync::atomic::{AtomicU64, Ordering};

#[cfg(not(target_has_atomic = "64"))]
use halves::{AtomicU64, Ordering};

/// A word. Whoever reads a value sees everything that was written before it by whoever stored it.
#[derive(Debug)]
pub(super) struct Word(AtomicU64);

impl Word {
    pub(super) fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    #[inline]
    pub(super) fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// Writes `new` if the word is still `old`, else tells what it is.
    pub(super) fn exchange(&self, old: u64, new: u64) -> Result<(), u64> {
        self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    /// Replaces the value by what `next` makes of it; `None` from `next` leaves it. A repetition means that
    /// another worker has succeeded. Returns the value before.
    pub(super) fn update(&self, mut next: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        let mut old = self.load();
        while let Some(new) = next(old) {
            match self.exchange(old, new) {
                Ok(()) => return Ok(old),
                Err(seen) => old = seen,
            }
        }
        Err(old)
    }

    /// Adds modulo 2^64; returns the value before.
    pub(super) fn add(&self, amount: u64) -> u64 {
        self.0.fetch_add(amount, Ordering::AcqRel)
    }
}

/// Where the machine has no 64-bit atomics: two halves behind a lock of their own. Not to be used from
/// interrupt handlers.
#[cfg(not(target_has_atomic = "64"))]
mod halves {
    use core::hint::spin_loop;
    pub(super) use core::sync::atomic::Ordering;
    use core::sync::atomic::{AtomicBool, AtomicU32};

    #[derive(Debug)]
    pub(super) struct AtomicU64 {
        locked: AtomicBool,
        low: AtomicU32,
        high: AtomicU32,
    }

    impl AtomicU64 {
        pub(super) const fn new(value: u64) -> Self {
            Self {
                locked: AtomicBool::new(false),
                low: AtomicU32::new(value as u32),
                high: AtomicU32::new((value >> 32) as u32),
            }
        }

        /// Shows the value to `f` and writes what it returns, alone.
        fn alone<T>(&self, f: impl FnOnce(u64) -> (Option<u64>, T)) -> T {
            while self.locked.swap(true, Ordering::Acquire) {
                spin_loop();
            }
            let low = u64::from(self.low.load(Ordering::Relaxed));
            let (new, answer) = f(low | (u64::from(self.high.load(Ordering::Relaxed)) << 32));
            if let Some(new) = new {
                self.low.store(new as u32, Ordering::Relaxed);
                self.high.store((new >> 32) as u32, Ordering::Relaxed);
            }
            self.locked.store(false, Ordering::Release);
            answer
        }

        pub(super) fn load(&self, _: Ordering) -> u64 {
            self.alone(|value| (None, value))
        }

        pub(super) fn store(&self, value: u64, _: Ordering) {
            self.alone(|_| (Some(value), ()));
        }

        pub(super) fn compare_exchange(
            &self,
            old: u64,
            new: u64,
            _: Ordering,
            _: Ordering,
        ) -> Result<u64, u64> {
            self.alone(|now| if now == old { (Some(new), Ok(now)) } else { (None, Err(now)) })
        }

        pub(super) fn fetch_add(&self, amount: u64, _: Ordering) -> u64 {
            self.alone(|now| (Some(now.wrapping_add(amount)), now))
        }
    }
}
