//! Children that join namespaces and die with their parent, and race-free signals by pidfd.

use crate::namespace::NamespaceFd;
use crate::signal::Signal;
use crate::sys;
use core::ffi::{c_int, c_uint};
use core::mem::MaybeUninit;
use core::ptr;
use core::time::Duration;
use std::env;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::Instant;

/// What a [`Command`] can do before its program starts. All of it happens in the child.
pub trait SpawnExt {
    /// The child joins these namespaces, in this order. The working directory is entered again by
    /// its path when a mount namespace is among them, and is `/` if that path does not exist there.
    fn join_namespaces(&mut self, namespaces: Vec<NamespaceFd>) -> &mut Self;

    /// The kernel sends `signal` to the child when the **thread** that spawned it ends, so spawn
    /// from a thread that lives as long as the process. A program with set-user-id or file
    /// capabilities, and a change of user, cancel it (`PR_SET_PDEATHSIG` in prctl(2)).
    fn die_with_parent(&mut self, signal: Signal) -> &mut Self;

    /// The child leads a session of its own: Ctrl-C at the terminal does not reach it.
    fn new_session(&mut self) -> &mut Self;

    /// The child starts with no signal blocked, whatever [`crate::signal::Signals`] blocks here.
    fn unblock_signals(&mut self) -> &mut Self;

    /// The program gets no descriptor beyond the three standard ones: for one that stays behind and
    /// must not keep a caller's pipe open. Linux 5.11.
    fn close_other_files(&mut self) -> &mut Self;
}

impl SpawnExt for Command {
    fn join_namespaces(&mut self, namespaces: Vec<NamespaceFd>) -> &mut Self {
        let cwd =
            env::current_dir().ok().and_then(|d| CString::new(d.into_os_string().into_vec()).ok());
        let join = move || {
            for namespace in &namespaces {
                namespace.join()?;
            }
            if let Some(cwd) = &cwd {
                // SAFETY: a nul-terminated string made before the fork. Failure leaves the root of
                // the new mount namespace, as documented.
                unsafe { libc::chdir(cwd.as_ptr()) };
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes only system calls and reads memory that
        // was made before the fork: no allocation, no lock.
        unsafe { self.pre_exec(join) }
    }

    fn die_with_parent(&mut self, signal: Signal) -> &mut Self {
        let parent = std::process::id();
        let number = signal.number();
        let ask = move || {
            // SAFETY: prctl with integers; getppid cannot fail.
            let now = unsafe {
                let arg = libc::c_ulong::try_from(number).unwrap_or(9);
                sys::check(libc::prctl(libc::PR_SET_PDEATHSIG, arg, 0, 0, 0))?;
                libc::getppid()
            };
            // The parent may have died before the request. From inside a new PID namespace an
            // outside parent reads as 0, dead or alive.
            if now != 0 && u32::try_from(now) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        };
        // SAFETY: only system calls and integers between fork and exec; the error carries a code
        // and allocates nothing.
        unsafe { self.pre_exec(ask) }
    }

    fn new_session(&mut self) -> &mut Self {
        // SAFETY: setsid takes nothing and is async-signal-safe. It fails only for a process group
        // leader, which a fresh child is not.
        unsafe { self.pre_exec(|| sys::check(libc::setsid()).map(drop)) }
    }

    fn unblock_signals(&mut self) -> &mut Self {
        let unblock = || {
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: sigemptyset initialises the set, which outlives the calls; both are
            // async-signal-safe.
            let code = unsafe {
                libc::sigemptyset(set.as_mut_ptr());
                libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut())
            };
            if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
        };
        // SAFETY: only the two system calls above between fork and exec.
        unsafe { self.pre_exec(unblock) }
    }

    fn close_other_files(&mut self) -> &mut Self {
        let close_at_exec = || {
            let flags = libc::CLOSE_RANGE_CLOEXEC;
            // SAFETY: only marks descriptors to be closed by exec, so code that still runs here can
            // use its own; three integers.
            sys::check_long(unsafe { libc::syscall(libc::SYS_close_range, 3, c_uint::MAX, flags) })
                .map(drop)
        };
        // SAFETY: one system call between fork and exec.
        unsafe { self.pre_exec(close_at_exec) }
    }
}

/// A handle to one process that never means another one, even when its number is used again.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
}

impl PidFd {
    /// Opens the process that has this number now.
    ///
    /// # Errors
    /// `ESRCH` when there is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid =
            libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
        // SAFETY: pidfd_open takes two integers and returns a new descriptor that is ours.
        let fd = unsafe {
            let ret = sys::check_long(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
            OwnedFd::from_raw_fd(c_int::try_from(ret).unwrap_or(-1))
        };
        Ok(Self { fd })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// `ESRCH` when the process has ended.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        // SAFETY: an open descriptor, an integer, and a null siginfo, which means "as kill(2)".
        sys::check_long(unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal.number(),
                ptr::null::<libc::siginfo_t>(),
                0,
            )
        })
        .map(drop)
    }

    /// Waits until the process has ended; `false` when `timeout` is over first. Also for processes
    /// that are not children.
    ///
    /// # Errors
    /// The kernel's, from waiting.
    pub fn wait_exit(&self, timeout: Duration) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            if sys::wait_readable(self.fd.as_fd(), Some(left))? {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
        }
    }
}

impl AsFd for PidFd {
    /// Readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// When the process started, in clock ticks since boot: with its number a name that is not reused.
///
/// # Errors
/// `NotFound` without such a process.
pub fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold spaces and parentheses;
    // the start time is field 22, the twentieth after it.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Takes the status of one child that has ended, of any child at all; `None` when none has.
///
/// For the first process of a PID namespace, which gets everybody's orphans. It also takes children
/// that a [`std::process::Child`] stands for, and waiting for those then fails.
///
/// # Errors
/// The kernel's; having no children is `None`.
pub fn reap_any() -> io::Result<Option<(u32, ExitStatus)>> {
    let mut status = 0;
    // SAFETY: `status` is a valid integer to write to.
    match sys::check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some((pid.unsigned_abs(), ExitStatus::from_raw(status)))),
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sleeps until a signal with a handler arrives, which for most programs is for ever.
pub fn pause() {
    // SAFETY: pause takes nothing and touches no memory of ours.
    unsafe { libc::pause() };
}

/// The effective user id.
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: geteuid reads a number and cannot fail.
    unsafe { libc::geteuid() }
}
