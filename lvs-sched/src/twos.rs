//! Power of two choices: of two servers drawn at random by weight, the one with fewer sessions for its
//! weight.
//!
//! Rule of Linux `net/netfilter/ipvs/ip_vs_twos.c`: both draws are among all servers that may be used, may
//! meet the same one, and the first wins when they are equal. Random numbers are a fixed sequence
//! (SplitMix64) from the worker's number and the service's first members, so that the same calls give the
//! same answers and workers differ.
//!
//! A draw is a search among summed weights. One that meets a server that may not be used is repeated;
//! after [`REDRAWS`] of them the draw is among the servers that may be used, which looks at all of them.

use crate::steady;
use crate::tournament::{Cost, overhead};
use alloc::boxed::Box;
use alloc::vec::Vec;
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

/// How often a draw is repeated.
pub const REDRAWS: u32 = 8;

struct TwoChoices {
    /// State of the random numbers; `None` before the first rebuild.
    random: Option<u64>,
    args: SchedulerArgs,
    /// For each server the sum of the weights up to and with it.
    sums: Vec<u64>,
}

fn weight(server: &ServerLoad) -> u64 {
    u64::from(server.weight.0)
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
    fn draw(&mut self, servers: &[ServerLoad]) -> Option<usize> {
        let sum = self.sums.last().copied().filter(|sum| *sum > 0)?;
        for _ in 0..=REDRAWS {
            let at = next(&mut self.random, sum);
            let at = self.sums.partition_point(|sum| *sum <= at);
            if servers.get(at).is_some_and(ServerLoad::is_available) {
                return Some(at);
            }
        }
        let usable = || servers.iter().enumerate().filter(|(_, server)| server.is_available());
        let sum: u64 = usable().map(|(_, server)| weight(server)).sum();
        let mut left = next(&mut self.random, sum);
        for (at, server) in usable() {
            match left.checked_sub(weight(server)) {
                Some(rest) => left = rest,
                None => return Some(at),
            }
        }
        None
    }
}

impl Scheduler for TwoChoices {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.random.get_or_insert_with(|| {
            let of = servers.iter().take(16).map(|server| steady::member(&server.addr));
            let members = of.flatten().fold(steady::POINT, steady::step);
            steady::hash(members, &[u64::from(self.args.worker.0), u64::from(self.args.workers)])
        });
        self.sums.clear();
        self.sums.extend(servers.iter().scan(0u64, |sum, server| {
            *sum = sum.saturating_add(weight(server));
            Some(*sum)
        }));
    }

    fn pick(&mut self, _flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let (one, two) = (self.draw(servers)?, self.draw(servers)?);
        let cost = |at: usize| {
            let server = servers.get(at)?;
            Some(Cost { load: overhead(server), weight: server.weight.0 })
        };
        Some(if cost(two)?.is_less_than(cost(one)?) { two } else { one })
    }

    fn take_over(&mut self, before: &mut dyn Scheduler) {
        let before: &mut dyn core::any::Any = before;
        if let Some(before) = before.downcast_ref::<Self>() {
            self.random = before.random.or(self.random);
        }
    }
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(TwoChoices { random: None, args, sums: Vec::new() })
}

/// Power of two choices.
#[doc(alias = "ip_vs_twos")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "twos",
    summary: "two random servers by weight, the one with fewer sessions for its weight",
    build,
};
