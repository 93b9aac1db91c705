//! Sessions of each server over all workers, and the thresholds that they are held to.
//!
//! ```text
//!   63          62            32 31           0
//!   [overloaded][  active 31   ][ inactive 32 ]
//! ```

use super::word::Word;
use crate::id::ServerId;
use alloc::boxed::Box;

const OVERLOADED: u64 = 1 << 63;
const ACTIVE: u32 = 32;
const MOST_ACTIVE: u64 = (1 << 31) - 1;

/// How many sessions a server may have.
///
/// At `upper` sessions it counts as overloaded and gets no new ones until they are fewer than `lower`, or
/// than three quarters of `upper` when `lower` is 0. Linux `net/netfilter/ipvs/ip_vs_conn.c`,
/// `ip_vs_bind_dest` and `ip_vs_unbind_dest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "u_threshold")]
#[doc(alias = "l_threshold")]
pub struct Thresholds {
    /// Most sessions; 0 = any number.
    pub upper: u32,
    /// Fewer than these end the overload; 0 = three quarters of `upper`.
    pub lower: u32,
}

impl Thresholds {
    /// Whether an overloaded server with `total` sessions still counts as overloaded.
    #[must_use]
    pub const fn keeps_overload(&self, total: u64) -> bool {
        if self.upper == 0 {
            false
        } else if self.lower != 0 {
            total >= self.lower as u64
        } else {
            total.saturating_mul(4) >= (self.upper as u64).saturating_mul(3)
        }
    }

    /// Whether `total` sessions are as many as allowed.
    #[must_use]
    pub const fn reached(&self, total: u64) -> bool {
        self.upper != 0 && total >= self.upper as u64
    }
}

/// Sessions of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// In an established state.
    pub active: u32,
    /// All others.
    pub inactive: u32,
    /// Its upper threshold was reached, and they have not become fewer than the lower one since.
    pub overloaded: bool,
}

impl Sessions {
    const fn unpack(word: u64) -> Self {
        Self {
            active: ((word & !OVERLOADED) >> ACTIVE) as u32,
            inactive: word as u32,
            overloaded: word & OVERLOADED != 0,
        }
    }

    const fn pack(self) -> u64 {
        let active =
            if self.active as u64 > MOST_ACTIVE { MOST_ACTIVE } else { self.active as u64 };
        let flag = if self.overloaded { OVERLOADED } else { 0 };
        flag | (active << ACTIVE) | self.inactive as u64
    }

    /// Both together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.active as u64 + self.inactive as u64
    }

    const fn judged(mut self, limits: &Thresholds) -> Self {
        if limits.reached(self.total()) {
            self.overloaded = true;
        } else if !limits.keeps_overload(self.total()) {
            self.overloaded = false;
        }
        self
    }

    const fn cell(&mut self, active: bool) -> &mut u32 {
        if active { &mut self.active } else { &mut self.inactive }
    }
}

/// The sessions of all servers, over all workers.
#[derive(Debug)]
pub struct ServerCounts {
    cells: Box<[Word]>,
}

impl ServerCounts {
    /// For servers with numbers below `servers`; those beyond are not counted.
    #[must_use]
    pub fn new(servers: u32) -> Self {
        Self { cells: (0..servers).map(|_| Word::new(0)).collect() }
    }

    /// The sessions of a server. `None` for a server beyond the table.
    #[must_use]
    pub fn get(&self, server: ServerId) -> Option<Sessions> {
        Some(Sessions::unpack(self.cells.get(server.index())?.load()))
    }

    /// The sessions of a server as one word, which is the same as long as they are. `None` for a server beyond
    /// the table.
    #[must_use]
    #[inline]
    pub fn mark(&self, server: ServerId) -> Option<u64> {
        Some(self.cells.get(server.index())?.load())
    }

    /// Counts an inactive session that is about to be opened, unless the server is overloaded: however many
    /// workers do this at once, the upper threshold is not exceeded. With `anyway` only the count matters.
    /// `false`: nothing was counted.
    #[must_use]
    pub fn reserve(&self, server: ServerId, limits: &Thresholds, anyway: bool) -> bool {
        let Some(cell) = self.cells.get(server.index()) else { return true };
        if limits.upper == 0 {
            // Without a limit: one more in the lower half, unless it is full or an old overload ends here.
            let word = cell.load();
            if word & OVERLOADED == 0
                && word as u32 != u32::MAX
                && cell.exchange(word, word.wrapping_add(1)).is_ok()
            {
                return true;
            }
        }
        let counted = cell.update(|word| {
            let mut now = Sessions::unpack(word);
            if !anyway && limits.upper != 0 && (now.overloaded || limits.reached(now.total())) {
                return None;
            }
            now.inactive = now.inactive.saturating_add(1);
            Some(now.judged(limits).pack())
        });
        counted.is_ok()
    }

    /// Counts a session from one side to the other: `true` = active, `None` = there is none.
    pub fn moved(
        &self,
        server: ServerId,
        from: Option<bool>,
        to: Option<bool>,
        limits: &Thresholds,
    ) {
        let Some(cell) = self.cells.get(server.index()) else { return };
        if from == to {
            return;
        }
        let _ = cell.update(|word| {
            let mut now = Sessions::unpack(word);
            if let Some(active) = from {
                let count = now.cell(active);
                *count = count.saturating_sub(1);
            }
            if let Some(active) = to {
                let count = now.cell(active);
                *count = count.saturating_add(1);
            }
            Some(now.judged(limits).pack())
        });
    }

    /// The thresholds of a server changed. A higher or absent upper one ends the overload at once, as in Linux
    /// `__ip_vs_update_dest`.
    pub fn changed(&self, server: ServerId, before: &Thresholds, after: &Thresholds) {
        let Some(cell) = self.cells.get(server.index()) else { return };
        let _ = cell.update(|word| {
            let mut now = Sessions::unpack(word);
            let raised = after.upper == 0 || (before.upper != 0 && after.upper > before.upper);
            now.overloaded &= !raised;
            let new = now.judged(after).pack();
            (new != word).then_some(new)
        });
    }
}

/// Sessions of each service that wait for the end of their handshake, over all workers.
#[derive(Debug)]
pub struct HalfOpen {
    cells: Box<[Word]>,
}

impl HalfOpen {
    /// For services with numbers below `services`; those beyond are not counted.
    #[must_use]
    pub fn new(services: u32) -> Self {
        Self { cells: (0..services).map(|_| Word::new(0)).collect() }
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self, service: crate::id::ServiceId) -> u64 {
        self.cells.get(service.index()).map_or(0, Word::load)
    }

    /// One more, or one less.
    pub fn moved(&self, service: crate::id::ServiceId, more: bool) {
        let Some(cell) = self.cells.get(service.index()) else { return };
        if more {
            cell.add(1);
        } else {
            let _ = cell.update(|count| Some(count.saturating_sub(1)));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::id::ServiceId;
    use proptest::prelude::*;

    const ME: ServerId = ServerId(3);

    fn with(total: u32, limits: &Thresholds) -> ServerCounts {
        let counts = ServerCounts::new(8);
        for _ in 0..total {
            assert!(counts.reserve(ME, limits, false));
        }
        counts
    }

    fn closes_until_it_takes_more(counts: &ServerCounts, limits: &Thresholds) -> u32 {
        let mut closed = 0;
        while !counts.reserve(ME, limits, false) {
            counts.moved(ME, Some(false), None, limits);
            closed += 1;
        }
        closed
    }

    #[test]
    fn an_overloaded_server_takes_sessions_again_below_three_quarters() {
        for (upper, closed) in [(1, 1), (2, 1), (4, 2), (8, 3), (100, 26)] {
            let limits = Thresholds { upper, lower: 0 };
            let counts = with(upper, &limits);
            assert_eq!(closes_until_it_takes_more(&counts, &limits), closed, "of {upper}");
        }
    }

    #[test]
    fn or_below_the_lower_threshold() {
        let limits = Thresholds { upper: 10, lower: 4 };
        assert_eq!(closes_until_it_takes_more(&with(10, &limits), &limits), 7);
    }

    #[test]
    fn without_an_upper_threshold_nothing_is_refused() {
        let limits = Thresholds { upper: 0, lower: 5 };
        let counts = with(1000, &limits);
        assert_eq!(counts.get(ME).unwrap().total(), 1000);
        assert_eq!(counts.get(ServerId(8)), None);
        assert!(counts.reserve(ServerId(8), &limits, false), "beyond the table nothing is counted");
    }

    #[test]
    fn a_persistent_client_may_go_beyond_and_is_counted() {
        let limits = Thresholds { upper: 2, lower: 0 };
        let counts = with(2, &limits);
        assert!(counts.reserve(ME, &limits, true));
        assert_eq!(counts.get(ME).unwrap().total(), 3);
    }

    #[test]
    fn a_raised_threshold_ends_the_overload_and_a_lowered_one_begins_it() {
        let [low, high] = [10, 12].map(|upper| Thresholds { upper, lower: 2 });
        let counts = with(10, &low);
        counts.changed(ME, &low, &high);
        assert!(counts.reserve(ME, &high, false));
        counts.changed(ME, &high, &low);
        assert!(!counts.reserve(ME, &low, false));
        counts.changed(ME, &low, &Thresholds::default());
        assert!(counts.reserve(ME, &Thresholds::default(), false));
    }

    #[test]
    fn half_open_sessions_are_counted_up_and_down() {
        let half_open = HalfOpen::new(2);
        for more in [true, true, false] {
            half_open.moved(ServiceId(1), more);
        }
        half_open.moved(ServiceId(2), true);
        assert_eq!((half_open.get(ServiceId(1)), half_open.get(ServiceId(2))), (1, 0));
    }

    proptest! {
        /// Beside the rules of IPVS in plain words.
        #[test]
        fn thresholds_agree_with_a_naive_twin(
            upper in 0u32..12,
            lower in 0u32..12,
            steps in prop::collection::vec((any::<bool>(), any::<bool>()), 1..200),
        ) {
            let limits = Thresholds { upper, lower };
            let counts = ServerCounts::new(8);
            let (mut active, mut inactive, mut overloaded) = (0u32, 0u32, false);
            for (open, busy) in steps {
                if open {
                    let takes = !overloaded;
                    prop_assert_eq!(counts.reserve(ME, &limits, false), takes);
                    inactive += u32::from(takes);
                    if takes && busy {
                        counts.moved(ME, Some(false), Some(true), &limits);
                        (inactive, active) = (inactive - 1, active + 1);
                    }
                } else if active > 0 && busy {
                    counts.moved(ME, Some(true), None, &limits);
                    active -= 1;
                } else if inactive > 0 {
                    counts.moved(ME, Some(false), None, &limits);
                    inactive -= 1;
                }
                let total = active + inactive;
                if upper != 0 && total >= upper {
                    overloaded = true;
                } else if upper == 0 || (lower != 0 && total < lower) || (lower == 0 && total * 4 < upper * 3) {
                    overloaded = false;
                }
                prop_assert!(upper == 0 || total <= upper);
                prop_assert_eq!(counts.get(ME), Some(Sessions { active, inactive, overloaded }));
            }
        }
    }
}
