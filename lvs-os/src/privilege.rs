//! What a process may do, and how it gives all of it up.

use crate::sys;
use core::ffi::{c_int, c_ulong};
use core::ptr;
use std::fs;
use std::io;

/// The capabilities that `lvsd` asks about (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Interfaces, routes, promiscuous mode.
    NetAdmin,
    /// `AF_PACKET` sockets.
    NetRaw,
    /// Locked memory beyond the limit.
    IpcLock,
    /// Namespaces and mounts, among much else.
    SysAdmin,
}

impl Capability {
    const fn bit(self) -> u64 {
        match self {
            Self::NetAdmin => 1 << 12,
            Self::NetRaw => 1 << 13,
            Self::IpcLock => 1 << 14,
            Self::SysAdmin => 1 << 21,
        }
    }
}

/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit words for each set.
const VERSION_3: u32 = 0x2008_0522;
/// `prctl` commands that not every libc names.
const PR_CAP_AMBIENT: c_int = 47;
const PR_CAP_AMBIENT_RAISE: c_ulong = 2;
const PR_CAP_AMBIENT_CLEAR_ALL: c_ulong = 4;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Whether this thread has the capability now, over its own user namespace.
///
/// # Errors
/// The kernel's; capget does not fail on any current Linux.
pub fn has(capability: Capability) -> io::Result<bool> {
    Ok(effective()? & capability.bit() != 0)
}

/// The effective set as a bit mask; bit numbers as in `linux/capability.h`.
///
/// # Errors
/// As [`has`].
pub fn effective() -> io::Result<u64> {
    let mut header = CapHeader { version: VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 means that the kernel writes exactly two CapData, which `data` has; both
    // structs are laid out as in linux/capability.h.
    sys::check_long(unsafe {
        libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr())
    })?;
    Ok(u64::from(data[0].effective) | u64::from(data[1].effective) << 32)
}

/// Lets the programs that this process starts keep all capabilities that it has now, whatever their
/// user (ambient set, Linux 4.3); [`drop_all`] ends that.
///
/// # Errors
/// `PermissionDenied` where securebits forbid it.
pub fn keep_across_exec() -> io::Result<()> {
    let mut header = CapHeader { version: VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: as in `effective`; then the same two words go back, inheritable raised to permitted.
    unsafe {
        sys::check_long(libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()))?;
        for word in &mut data {
            word.inheritable = word.permitted;
        }
        sys::check_long(libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()))?;
    }
    let permitted = u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32;
    for capability in (0..64).filter(|bit| permitted >> bit & 1 == 1) {
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)?;
    }
    Ok(())
}

/// Gives up every capability, now and for every program started later: empty bounding, ambient,
/// inheritable, permitted and effective sets, no new privileges by set-user-id files, and no core
/// dump or ptrace by others of the same user. Open descriptors stay usable: open first, then drop.
///
/// A process with user id 0 can still open root's files: see [`become_user`].
///
/// # Errors
/// `InvalidInput` when other threads exist (the kernel drops capabilities per thread: a thread
/// that keeps them would defeat the purpose), else the kernel's.
pub fn drop_all() -> io::Result<()> {
    if thread_count()? != 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "capabilities must be dropped before threads are started",
        ));
    }
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    // Kernels before 4.3 have no ambient set.
    match prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0) {
        Err(e) if e.raw_os_error() != Some(libc::EINVAL) => return Err(e),
        _ => {}
    }
    drop_bounding_set()?;
    let header = CapHeader { version: VERSION_3, pid: 0 };
    let data = [CapData::default(); 2];
    // SAFETY: as in `effective`, and the kernel only reads.
    sys::check_long(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    prctl(libc::PR_SET_DUMPABLE, 0, 0)
}

/// Empties the bounding set where that is allowed; without CAP_SETPCAP it stays, which then means
/// little because nothing can be gained from it under `no_new_privs`. [`drop_all`] does it too; call
/// it before [`become_user`], which takes that capability away.
///
/// # Errors
/// The kernel's, other than that it is not allowed.
pub fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(()) => {}
            // Above the last capability that this kernel knows.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Becomes another user and group, with no supplementary groups. For a process that started as root
/// and keeps no use of root's files; drop capabilities afterwards.
///
/// # Errors
/// `PermissionDenied` without CAP_SETUID and CAP_SETGID, `InvalidInput` for ids that the user
/// namespace does not map.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: an empty list of groups needs no pointer; the others take integers. glibc applies
    // them to every thread.
    unsafe {
        sys::check(libc::setgroups(0, ptr::null()))?;
        sys::check(libc::setresgid(gid, gid, gid))?;
        sys::check(libc::setresuid(uid, uid, uid)).map(drop)
    }
}

fn prctl(command: c_int, a: c_ulong, b: c_ulong) -> io::Result<()> {
    // SAFETY: the commands used in this file take integers only.
    sys::check(unsafe { libc::prctl(command, a, b, 0, 0) }).map(drop)
}

fn thread_count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}
