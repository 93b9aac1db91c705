//! Signals as a file descriptor (`signalfd(2)`): no handler runs in the middle of other code.

use crate::sys;
use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

/// The signals that `lvsd` sends or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGHUP: reload.
    Hangup,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGKILL: cannot be waited for.
    Kill,
    /// SIGUSR1: write the status now.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGTERM: stop cleanly.
    Terminate,
    /// SIGCHLD: a child changed state.
    Child,
}

const ALL: [Signal; 8] = [
    Signal::Hangup,
    Signal::Interrupt,
    Signal::Quit,
    Signal::Kill,
    Signal::User1,
    Signal::User2,
    Signal::Terminate,
    Signal::Child,
];

impl Signal {
    /// The kernel's number; `128 + number` is the exit code that shells give.
    #[must_use]
    pub const fn number(self) -> c_int {
        match self {
            Self::Hangup => libc::SIGHUP,
            Self::Interrupt => libc::SIGINT,
            Self::Quit => libc::SIGQUIT,
            Self::Kill => libc::SIGKILL,
            Self::User1 => libc::SIGUSR1,
            Self::User2 => libc::SIGUSR2,
            Self::Terminate => libc::SIGTERM,
            Self::Child => libc::SIGCHLD,
        }
    }
}

/// A set of signals that arrive here instead of interrupting the process.
///
/// Block them before the first thread starts: threads inherit the mask of their maker, and a thread
/// with another mask would still be interrupted. Children inherit it too, and most programs then
/// cannot be stopped by Ctrl-C: start them with
/// [`unblock_signals`](crate::process::SpawnExt::unblock_signals). Dropping this value leaves the
/// signals blocked.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks `signals` for this thread and the threads it makes from now on.
    ///
    /// # Errors
    /// The kernel's, when no descriptor is free.
    pub fn block(signals: &[Signal]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set it is given; the others then work on an
        // initialised set that outlives the calls. Signal numbers come from `Signal` and are valid.
        // signalfd returns a new descriptor that nobody else owns.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal.number());
            }
            let code = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
            if code != 0 {
                return Err(io::Error::from_raw_os_error(code));
            }
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            OwnedFd::from_raw_fd(sys::check(libc::signalfd(-1, set.as_ptr(), flags))?)
        };
        Ok(Self { fd })
    }

    /// The next signal if one has arrived; does not wait.
    ///
    /// # Errors
    /// The kernel's reading error.
    pub fn try_next(&self) -> io::Result<Option<Signal>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is exactly one record long and lives through the call.
        let read = sys::check_len(unsafe {
            libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size)
        });
        match read {
            Ok(n) if n == size => {
                // SAFETY: the kernel filled the whole record, which is plain integers.
                let number = unsafe { info.assume_init() }.ssi_signo;
                Ok(ALL.into_iter().find(|s| u32::try_from(s.number()) == Ok(number)))
            }
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// The kernel's, from waiting or reading.
    pub fn wait(&self) -> io::Result<Signal> {
        loop {
            if let Some(signal) = self.try_next()? {
                return Ok(signal);
            }
            sys::wait_readable(self.fd.as_fd(), None)?;
        }
    }

    /// Waits for the next signal, at most `timeout`.
    ///
    /// # Errors
    /// The kernel's, from waiting or reading.
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<Signal>> {
        let start = Instant::now();
        loop {
            if let Some(signal) = self.try_next()? {
                return Ok(Some(signal));
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            sys::wait_readable(self.fd.as_fd(), Some(left))?;
        }
    }
}

impl AsFd for Signals {
    /// Readable while a signal waits: add it to a poll set.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends `signal` to the process `pid` (as this process's PID namespace counts).
///
/// A pid may be reused: where that matters use [`crate::process::PidFd`].
///
/// # Errors
/// `NotFound`-like (`ESRCH`) when there is no such process, `PermissionDenied` when it is not ours.
pub fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    if pid == 0 {
        // Zero would mean "my whole process group", never what a caller with a pid wants.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: kill takes two integers and touches no memory of ours.
    sys::check(unsafe { libc::kill(pid, signal.number()) }).map(drop)
}
