//! Monotonic time as one number, the form in which the packet path takes it.

/// Nanoseconds since some fixed point (usually boot), never going back (`CLOCK_MONOTONIC`).
///
/// ```
/// let a = lvs_os::clock::monotonic_ns();
/// let b = lvs_os::clock::monotonic_ns();
/// assert!(b >= a);
/// ```
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to. The call fails only for an unknown clock or a
    // bad pointer, so its result needs no check.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)
}
