//! CPU time of the calling thread, and on which core it runs.
#![allow(unsafe_code, reason = "two system calls that std does not offer")]

/// Nanoseconds of CPU that this thread has used (`CLOCK_THREAD_CPUTIME_ID`). Time in which something
/// else had the core does not count; softirq work that the kernel does on behalf of a send does.
#[must_use]
pub fn thread_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread on one core; `false` when the system does not let it.
pub fn pin(core: usize) -> bool {
    // SAFETY: an integer array: all zero bytes are a value.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return false;
    }
    // SAFETY: `core` lies inside the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: pointer and size describe `set`, which the kernel only reads; 0 is the caller.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) == 0 }
}

/// The system that a figure belongs to: kernel, processor, cores, load.
#[must_use]
pub fn conditions() -> Vec<(&'static str, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    vec![
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("processor", model.to_owned()),
        ("cores", cores().to_string()),
        ("load", load.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_thread_passes_while_it_works_and_not_while_it_sleeps() {
        let start = thread_ns();
        std::thread::sleep(core::time::Duration::from_millis(20));
        let slept = thread_ns() - start;
        let mut sum = 0u64;
        while thread_ns() - start < slept + 1_000_000 {
            sum = core::hint::black_box(sum.wrapping_add(1));
        }
        assert!(slept < 15_000_000 && sum > 0);
    }
}
