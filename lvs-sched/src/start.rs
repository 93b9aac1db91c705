//! Where a worker starts in a list, so that N workers do not all start at its head.

use lvs_core::sched::SchedulerArgs;

/// The worker's share of `len` places: `len * worker / workers`. Worker 0 starts at 0.
pub(crate) fn offset(args: SchedulerArgs, len: u64) -> u64 {
    let part = len.saturating_mul(u64::from(args.worker.0));
    // A worker number beyond the count, or a count of 0, is a mistake that must not lead out of the list.
    part.checked_div(u64::from(args.workers)).unwrap_or(0).min(len.saturating_sub(1))
}

/// The same as an index.
pub(crate) fn index(args: SchedulerArgs, len: usize) -> usize {
    usize::try_from(offset(args, u64::try_from(len).unwrap_or(u64::MAX))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::id::WorkerId;

    #[test]
    fn workers_start_evenly_spread_and_never_outside() {
        let at =
            |worker, workers, len| index(SchedulerArgs { worker: WorkerId(worker), workers }, len);
        assert_eq!([at(0, 1, 7), at(0, 3, 9), at(1, 3, 9), at(2, 3, 9)], [0, 0, 3, 6]);
        assert_eq!([at(3, 4, 2), at(1, 2, 1), at(1, 2, 0)], [1, 0, 0]);
        assert_eq!([at(9, 3, 6), at(5, 0, 6)], [5, 0], "nonsense stays inside");
    }
}
