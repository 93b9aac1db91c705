//! Time as an argument: nanoseconds for protocols, ticks for sessions.
//!
//! No crate below the binary reads a clock. Whoever drives the director passes the time of the burst.

use core::time::Duration;

/// Nanoseconds of a clock that never goes back; its start means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The tick that this moment lies in.
    #[must_use]
    pub const fn tick(self) -> Tick {
        Tick((self.0 >> Tick::SHIFT) as u32)
    }

    /// Later by `by`, at most the end of time.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Saturating nanoseconds of a duration.
#[must_use]
pub const fn nanos(duration: Duration) -> u64 {
    let n = duration.as_nanos();
    if n > u64::MAX as u128 { u64::MAX } else { n as u64 }
}

/// Coarse time of a session: 2^26 ns, about 67 ms, wrapping after nine years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tick(pub u32);

impl Tick {
    /// Nanoseconds per tick as a power of two.
    pub const SHIFT: u32 = 26;
    /// Length of one tick.
    pub const LENGTH: Duration = Duration::from_nanos(1 << Self::SHIFT);

    /// Ticks passed since `earlier`, modulo the wrap.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Ticks that certainly cover `duration` when counting starts anywhere inside a tick: rounded up,
    /// plus one, so that nothing expires early.
    #[must_use]
    pub const fn covering(duration: Duration) -> u32 {
        let ticks = (nanos(duration) >> Self::SHIFT)
            .saturating_add(if nanos(duration).trailing_zeros() >= Self::SHIFT { 1 } else { 2 });
        if ticks > Self::LONGEST as u64 { Self::LONGEST } else { ticks as u32 }
    }

    /// The longest time-out that can be counted, a quarter of the wrap: about two years.
    pub const LONGEST: u32 = u32::MAX / 4;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_in_ticks_is_never_shorter_than_in_time() {
        for ms in [0u64, 1, 66, 67, 68, 1000, 3000, 90_000, 7_440_000] {
            let duration = Duration::from_millis(ms);
            for start in [0u64, 1, (1 << 26) - 1, 1 << 26, 123_456_789] {
                // Expires in the first tick that is `covering` after the start's tick.
                let expires = ((start >> 26) + u64::from(Tick::covering(duration))) << 26;
                assert!(expires >= start + nanos(duration), "{ms} ms from {start}");
                assert!(expires <= start + nanos(duration) + 2 * (1 << 26), "{ms} ms from {start}");
            }
        }
    }

    #[test]
    fn ticks_count_across_the_wrap() {
        assert_eq!(Tick(3).since(Tick(u32::MAX - 1)), 5);
    }
}
