//! Create and join Linux namespaces, as root or, through a user namespace, without any privilege.

use crate::sys;
use core::ffi::{CStr, c_int};
use core::ptr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// Users and capabilities.
    User,
    /// Mounted file systems.
    Mount,
    /// Interfaces, routes, sockets.
    Net,
    /// Process numbers; concerns children, not the caller itself.
    Pid,
    /// Host name.
    Uts,
}

impl Namespace {
    const fn flag(self) -> c_int {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Net => libc::CLONE_NEWNET,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Uts => libc::CLONE_NEWUTS,
        }
    }

    /// Its name below `/proc/PID/ns`.
    const fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Uts => "uts",
        }
    }
}

/// Puts this process into new namespaces of the given kinds.
///
/// With [`Namespace::User`] among them no privilege is needed (where the system allows user
/// namespaces): the caller gets every capability over the other new namespaces and keeps its user
/// and group numbers, the only ones that exist inside. Not being root there, it loses them at exec
/// unless it calls [`crate::privilege::keep_across_exec`]. It is not made root because programs that
/// step down from root to a user of their own (tcpdump) would fail for want of that user. Call it before any thread is started; the kernel refuses otherwise.
/// A new mount namespace is made private, so nothing mounted in it shows outside.
///
/// With [`Namespace::Pid`] the caller stays where it is; its next child becomes process 1 of the
/// new namespace, and when that one dies the kernel kills every other process in it. From then on
/// the caller cannot start threads: start them before, in a call of its own after the user namespace.
///
/// # Errors
/// `PermissionDenied` where the system does not allow it. An error after a user namespace was made
/// (its maps could not be written) leaves the process without an identity: then it should end.
pub fn unshare(kinds: &[Namespace]) -> io::Result<()> {
    let flags = kinds.iter().fold(0, |all, kind| all | kind.flag());
    // SAFETY: geteuid and getegid read two numbers and cannot fail; unshare takes an integer.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: as above.
    sys::check(unsafe { libc::unshare(flags) })?;
    if kinds.contains(&Namespace::User) {
        // Without "deny" an unprivileged process may not map its group (user_namespaces(7)).
        // Kernels before 3.19 do not have the file.
        match fs::write("/proc/self/setgroups", "deny") {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1\n"))?;
        fs::write("/proc/self/gid_map", format!("{gid} {gid} 1\n"))?;
    }
    if kinds.contains(&Namespace::Mount) {
        mount_flags_on_root(libc::MS_REC | libc::MS_PRIVATE)?;
    }
    Ok(())
}

fn mount_flags_on_root(flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the target is a nul-terminated string; the other pointers may be null for a change of
    // propagation (mount(2)).
    sys::check(unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), flags, ptr::null()) })
        .map(drop)
}

/// Mounts a new `sysfs` over `/sys`, so that `/sys/class/net` shows the network namespace of the
/// caller. Do it in a private mount namespace.
///
/// # Errors
/// `PermissionDenied` in containers that mask parts of `/sys`; most tools do without.
pub fn mount_sysfs() -> io::Result<()> {
    const NAME: &CStr = c"sysfs";
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: three nul-terminated strings; sysfs takes no data.
    sys::check(unsafe {
        libc::mount(NAME.as_ptr(), c"/sys".as_ptr(), NAME.as_ptr(), flags, ptr::null())
    })
    .map(drop)
}

/// Sets the host name of the caller's UTS namespace.
///
/// # Errors
/// `PermissionDenied` without the capability, `InvalidInput` for a name above 64 bytes.
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and length describe `name`, which lives through the call.
    sys::check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// An open namespace. It exists at least as long as this value, whatever its processes do.
#[derive(Debug)]
pub struct NamespaceFd {
    kind: Namespace,
    fd: OwnedFd,
}

impl NamespaceFd {
    /// The namespace of the process `pid`, as the mounted `/proc` counts.
    ///
    /// # Errors
    /// `NotFound` without such a process, `PermissionDenied` when it is not ours.
    pub fn of(pid: u32, kind: Namespace) -> io::Result<Self> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/{}", kind.file())), kind)
    }

    /// The namespace that this thread is in.
    ///
    /// # Errors
    /// The kernel's, without a mounted `/proc`.
    pub fn current(kind: Namespace) -> io::Result<Self> {
        Self::open(Path::new(&format!("/proc/thread-self/ns/{}", kind.file())), kind)
    }

    /// The namespace behind a path: `/proc/PID/fd/N` of a process that holds one open, or a bind
    /// mount as `ip netns add` makes it. A wrong kind shows when it is joined.
    ///
    /// # Errors
    /// As for opening a file.
    pub fn open(path: &Path, kind: Namespace) -> io::Result<Self> {
        Ok(Self { kind, fd: File::open(path)?.into() })
    }

    /// Another handle to the same namespace.
    ///
    /// # Errors
    /// The kernel's, when no descriptor is free.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { kind: self.kind, fd: self.fd.try_clone()? })
    }

    /// Whether both are the same namespace.
    ///
    /// # Errors
    /// The kernel's, from asking for the inode.
    pub fn is_same_as(&self, other: &Self) -> io::Result<bool> {
        let id = |fd: &OwnedFd| -> io::Result<(u64, u64)> {
            let data = File::from(fd.try_clone()?).metadata()?;
            Ok((data.dev(), data.ino()))
        };
        Ok(id(&self.fd)? == id(&other.fd)?)
    }

    /// Moves this process there. User and mount namespaces can be joined by a process with one
    /// thread only; a PID namespace counts for the next child.
    ///
    /// # Errors
    /// `PermissionDenied` without the right over it, `InvalidInput` when threads forbid it or the
    /// process is already in this user namespace.
    pub fn join(&self) -> io::Result<()> {
        // SAFETY: setns takes an open descriptor and an integer.
        sys::check(unsafe { libc::setns(self.fd.as_raw_fd(), self.kind.flag()) }).map(drop)
    }

    /// What kind it is.
    #[must_use]
    pub const fn kind(&self) -> Namespace {
        self.kind
    }
}

impl AsFd for NamespaceFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
