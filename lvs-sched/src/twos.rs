//! Power of two choices: of two servers drawn at random by weight, the one with fewer sessions for its
//! weight.
//!
//! Rule of Linux `net/netfilter/ipvs/ip_vs_twos.c`: both draws are among all servers that may be used, may
//! meet the same one, and the first wins when they are equal. Random numbers are a fixed sequence
//! (SplitMix64) from the worker's number and the service's first members, so that the same calls give the
//! same answers and workers differ.
//!
//! A draw is a walk down a tree of summed weights (Fenwick, 1994), in which servers that may not be used
//! weigh nothing; one that comes or goes changes as many sums as the tree is deep.

use crate::steady;
use crate::tournament::{Cost, overhead};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::select_unpredictable;
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

struct TwoChoices {
    /// State of the random numbers; `None` before the first rebuild.
    random: Option<u64>,
    args: SchedulerArgs,
    weights: Sums,
}

/// Weights by index, and their sums.
#[derive(Default)]
struct Sums {
    /// What each index weighs.
    each: Vec<u16>,
    /// Node n is the sum of as many before n, it included, as its lowest bit says; counted from 1.
    nodes: Vec<u64>,
    all: u64,
}

impl Sums {
    fn reset(&mut self, len: usize) {
        self.each.clear();
        self.each.resize(len, 0);
        self.nodes.clear();
        self.nodes.resize(len.next_power_of_two().saturating_add(1), 0);
        self.all = 0;
    }

    fn set(&mut self, index: usize, weight: u16) {
        let Some(each) = self.each.get_mut(index) else { return };
        let before = core::mem::replace(each, weight);
        if before == weight {
            return;
        }
        let change = u64::from(weight).wrapping_sub(u64::from(before));
        self.all = self.all.wrapping_add(change);
        let mut node = index.wrapping_add(1);
        while let Some(sum) = self.nodes.get_mut(node) {
            *sum = sum.wrapping_add(change);
            node = node.wrapping_add(node & node.wrapping_neg());
        }
    }

    /// The first index up to which the weights exceed `left`, which is less than all of them.
    #[inline]
    fn find(&self, mut left: u64) -> usize {
        let mut step = self.nodes.len() / 2;
        let mut found = 0usize;
        while step > 0 {
            let sum = self.nodes.get(found.wrapping_add(step)).copied().unwrap_or(u64::MAX);
            let passed = sum <= left;
            found = select_unpredictable(passed, found.wrapping_add(step), found);
            left = select_unpredictable(passed, left.wrapping_sub(sum), left);
            step /= 2;
        }
        found
    }
}

/// A number below `below` from the next 64 random bits.
fn next(random: &mut Option<u64>, below: u64) -> u64 {
    let state = random.unwrap_or(0).wrapping_add(0x9e37_79b9_7f4a_7c15);
    *random = Some(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let bits = mixed ^ (mixed >> 31);
    ((u128::from(bits).wrapping_mul(u128::from(below))) >> 64) as u64
}

impl TwoChoices {
    fn draw(&mut self) -> usize {
        let left = next(&mut self.random, self.weights.all);
        self.weights.find(left)
    }
}

impl Scheduler for TwoChoices {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.random.get_or_insert_with(|| {
            let of = servers.iter().take(16).map(|server| steady::member(&server.addr));
            let members = of.flatten().fold(steady::POINT, steady::step);
            steady::hash(members, &[u64::from(self.args.worker.0), u64::from(self.args.workers)])
        });
        self.weights.reset(servers.len());
        (0..servers.len()).for_each(|at| self.load_changed(at, servers));
    }

    fn pick(&mut self, _flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        if self.weights.all == 0 {
            return None;
        }
        let (one, two) = (self.draw(), self.draw());
        let cost = |at: usize| {
            let server = servers.get(at)?;
            Some(Cost { load: overhead(server), weight: server.weight.0 })
        };
        Some(if cost(two)?.is_less_than(cost(one)?) { two } else { one })
    }

    #[inline]
    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        if let Some(server) = servers.get(index) {
            self.weights.set(index, if server.is_available() { server.weight.0 } else { 0 });
        }
    }

    fn take_over(&mut self, before: &mut dyn Scheduler) {
        let before: &mut dyn core::any::Any = before;
        if let Some(before) = before.downcast_ref::<Self>() {
            self.random = before.random.or(self.random);
        }
    }
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(TwoChoices { random: None, args, weights: Sums::default() })
}

/// Power of two choices.
#[doc(alias = "ip_vs_twos")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "twos",
    summary: "two random servers by weight, the one with fewer sessions for its weight",
    build,
};
