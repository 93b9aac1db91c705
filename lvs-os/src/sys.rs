//! Turns the return value of a system call into a `Result`.

use core::ffi::{c_int, c_long};
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `-1` becomes the error in `errno`.
pub(crate) fn check(ret: c_int) -> io::Result<c_int> {
    if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// [`check`] for the `long` that `syscall(2)` returns.
pub(crate) fn check_long(ret: c_long) -> io::Result<c_long> {
    if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// [`check`] for calls that return a byte count.
pub(crate) fn check_len(ret: isize) -> io::Result<usize> {
    usize::try_from(ret).map_err(|_| io::Error::last_os_error())
}

/// Waits until `fd` is readable; `false` when the time is over first. `None` waits for ever.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let millis = match timeout {
        None => -1,
        // Rounded up, so that a wait of 0.5 ms is a wait and not a busy loop.
        Some(t) => c_int::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX),
    };
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one valid pollfd that outlives the call, and its descriptor is borrowed.
    match check(unsafe { libc::poll(&raw mut poll, 1, millis) }) {
        Ok(ready) => Ok(ready > 0),
        // Interrupted by a signal: the caller looks at its clock and decides.
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(e) => Err(e),
    }
}
