//! Consistent hashing on a ring, by the client's address: a server that comes or goes moves only its own
//! clients.
//!
//! Ketama-like, as `conhash` of DPVS: a server has 160 points for each share of weight (weight / greatest
//! common divisor of all), and a client belongs to the first point at or behind its own hash. Points come
//! from address, port and the point's number as separate words, so no two servers are alike (DPVS prints
//! address and port end to end, where 1.1.1.1 port 11 and 1.1.1.11 port 1 are one). Shares are met less
//! closely than by `maglev`, some 10 to 25 % off, and nobody else's clients move at all, as long as the
//! common divisor and [`MOST_POINTS`] do not change the others' points.
//!
//! Weight 0 takes a server off the ring. A client of an overloaded server goes on along the ring, as if
//! the server's points were not there; after [`STEPS`] points the next server of the list that may be used
//! is taken.

use crate::members::{Member, in_order};
use crate::ready::Ready;
use crate::steady;
use crate::wrr::gcd;
use alloc::boxed::Box;
use alloc::vec::Vec;
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

/// Points for each share of weight. DPVS `REPLICA`.
pub const POINTS: u32 = 160;
/// Most points of a ring, about; where weights ask for more, all servers have fewer in proportion.
pub const MOST_POINTS: u64 = 1 << 18;
/// How many points a client goes along the ring at most.
pub const STEPS: usize = 128;

/// Points in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    points: Vec<(u32, u16)>,
    /// Where the points with the same high bits start, so that a search is a step or two.
    starts: Vec<u32>,
    /// How many low bits are not among these.
    shift: u32,
}

/// How many points a member has.
fn points_of(weight: u16, divisor: u32, sum: u64) -> u64 {
    let points = |weight: u64| {
        let share = weight.checked_div(u64::from(divisor)).unwrap_or(0);
        share.saturating_mul(u64::from(POINTS))
    };
    let (mine, all) = (points(u64::from(weight)), points(sum));
    if all <= MOST_POINTS {
        return mine;
    }
    mine.saturating_mul(MOST_POINTS).checked_div(all).unwrap_or(0).max(1)
}

impl Ring {
    /// The ring of some servers; empty when none has a weight.
    #[must_use]
    pub fn new(servers: &[ServerLoad]) -> Self {
        let members = in_order(servers);
        let weights = || members.iter().map(|member| u32::from(member.weight));
        let (divisor, sum) = (weights().fold(0, gcd), weights().map(u64::from).sum());
        let of = |member: &Member| {
            let ([high, low, port], at) = (member.id, member.at);
            let point = move |n| steady::hash(steady::POINT, &[high, low, port, n]) >> 32;
            (0..points_of(member.weight, divisor, sum)).map(move |n| (point(n) as u32, at))
        };
        let mut points: Vec<(u32, u16)> = members.iter().flat_map(of).collect();
        // Stable: of equal points the earlier member's stays in front.
        points.sort_by_key(|(point, _)| *point);
        let shift = (points.len() as u32).leading_zeros().saturating_add(1).min(31);
        Self { starts: starts(&points, shift), points, shift }
    }

    /// All points, in order, with the index of the server of each.
    #[must_use]
    pub fn points(&self) -> &[(u32, u16)] {
        &self.points
    }

    /// The place of the first point at or behind a hash; the number of points when it is the first of all.
    fn find(&self, hash: u64) -> usize {
        let hash = (hash >> 32) as u32;
        let start =
            self.starts.get((hash >> self.shift) as usize).map_or(0, |start| *start as usize);
        let from = self.points.get(start..).unwrap_or_default();
        let passed = from.iter().take_while(|(point, _)| *point < hash).count();
        start.saturating_add(passed)
    }
}

/// For each value of the high bits the first point that has it or a higher one.
fn starts(points: &[(u32, u16)], shift: u32) -> Vec<u32> {
    let mut next = 0u32;
    let first = |high: u32| {
        let rest = points.get(next as usize..).unwrap_or_default();
        let passed = rest.iter().take_while(|(point, _)| point >> shift < high).count();
        next = next.saturating_add(passed as u32);
        next
    };
    (0..=u32::MAX >> shift).map(first).collect()
}

#[derive(Default)]
struct ConsistentHash {
    ring: Ring,
    ready: Ready,
}

impl ConsistentHash {
    /// The server of a point, counted round the end.
    #[inline(always)]
    fn server(&self, point: usize) -> Option<usize> {
        let points = &self.ring.points;
        let point = points.get(point.checked_sub(points.len()).unwrap_or(point))?;
        Some(usize::from(point.1))
    }

    /// The server of a client when some may not be used.
    #[inline(never)]
    fn along(&self, home: usize) -> Option<usize> {
        let some = [0, 1, 2, 3].map(|more| self.server(home.wrapping_add(more)));
        let first = self.ready.first_of(some.map(|at| at.unwrap_or(usize::MAX)));
        first.or_else(|| {
            let most = STEPS.min(self.ring.points.len());
            let further = (some.len()..most).filter_map(|n| self.server(home.wrapping_add(n)));
            further.into_iter().find(|at| self.ready.has(*at))
        })
    }
}

impl Scheduler for ConsistentHash {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.ring = Ring::new(servers);
        self.ready.rebuild(servers);
    }

    fn pick(&mut self, flow: &WireTuple, _servers: &[ServerLoad]) -> Option<usize> {
        let home = self.ring.find(steady::source(flow));
        let first = self.server(home)?;
        if self.ready.all() {
            return Some(first);
        }
        self.along(home).or_else(|| self.ready.round(first))
    }

    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        let _ = self.ready.changed(index, servers);
    }
}

fn build(_args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(ConsistentHash::default())
}

/// Consistent hashing.
#[doc(alias = "ketama")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "conhash",
    summary: "consistent hashing ring: by client address, no client of another server moves",
    build,
};

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_search_finds_the_first_point_at_or_behind_a_hash_wherever_it_lies() {
        let points =
            vec![(0, 9), (5, 1), (5, 2), (1 << 30, 3), ((1 << 30) + 1, 4), (u32::MAX - 1, 5)];
        for shift in [0x1c, 0x1d, 31] {
            let ring = Ring { starts: starts(&points, shift), points: points.clone(), shift };
            for near in points.iter().map(|(point, _)| *point) {
                for hash in [near.saturating_sub(1), near, near.saturating_add(1)] {
                    let slow = points.iter().position(|(point, _)| *point >= hash);
                    // The low half of a hash does not count.
                    let found = ring.find(u64::from(hash) << 32 | 0xffff);
                    assert_eq!(found, slow.unwrap_or(points.len()), "{hash} {shift}");
                }
            }
        }
    }
}
