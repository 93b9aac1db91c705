//! Which processors a thread may run on.

use crate::sys::check;
use core::mem::size_of;
use std::io;

/// The processors that the calling thread may run on, in order.
///
/// ```
/// assert!(!lvs_os::cpu::allowed()?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The kernel's; also on machines with more than 1024 processors.
pub fn allowed() -> io::Result<Vec<usize>> {
    // SAFETY: a set of processors is an array of integers; all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: `set` is valid for writing and its size is told; 0 is the calling thread.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    let most = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: `cpu` is below CPU_SETSIZE, the number of bits in the set.
    Ok((0..most).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Keeps the calling thread on one processor.
///
/// # Errors
/// The kernel's: there is no such processor, or this thread may not run on it.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: as in `allowed`.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: `cpu` is below CPU_SETSIZE, the number of bits in the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is valid for reading and its size is told; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_pinned_may_run_nowhere_else() {
        std::thread::spawn(|| {
            let last = *allowed().unwrap().last().unwrap();
            pin(last).unwrap();
            assert_eq!(allowed().unwrap(), [last]);
            assert!(pin(1 << 20).is_err());
        })
        .join()
        .unwrap();
    }
}
