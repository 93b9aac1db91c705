//! Power of two choices against a twin that walks the list, and how evenly it loads.

mod common;

use common::{ONE, built, flow, play, script, servers};
use lvs_core::flow::WireTuple;
use lvs_core::id::WorkerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, ServerLoad};
use lvs_sched::twos::DEF;
use proptest::prelude::*;

/// The same random numbers, with 128-bit arithmetic and a walk for each draw.
struct Naive {
    state: Option<u64>,
}

const MASK: u128 = u64::MAX as u128;

fn product(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) & MASK) as u64
}

impl Naive {
    fn below(&mut self, below: u64) -> u64 {
        let state = (u128::from(self.state.unwrap()) + 0x9e37_79b9_7f4a_7c15) & MASK;
        let state = state as u64;
        self.state = Some(state);
        let x = product(state ^ state >> 30, 0xbf58_476d_1ce4_e5b9);
        let x = product(x ^ x >> 27, 0x94d0_49bb_1331_11eb);
        let x = x ^ x >> 31;
        ((u128::from(x) * u128::from(below)) >> 64) as u64
    }

    fn draw(&mut self, servers: &[ServerLoad]) -> Option<usize> {
        let usable = || servers.iter().enumerate().filter(|(_, s)| s.is_available());
        let sum: u64 = usable().map(|(_, s)| u64::from(s.weight.0)).sum();
        if sum == 0 {
            return None;
        }
        let mut left = self.below(sum);
        for (at, server) in usable() {
            if left < u64::from(server.weight.0) {
                return Some(at);
            }
            left -= u64::from(server.weight.0);
        }
        None
    }
}

impl Scheduler for Naive {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        if self.state.is_none() {
            let mut state = 0x082e_fa98_ec4e_6c89u64;
            let mut mix = |word: u64| {
                let product = u128::from(state ^ word) * 0x9e37_79b9_7f4a_7c15;
                state = (product & MASK) as u64 ^ (product >> 64) as u64;
            };
            for server in servers.iter().take(16) {
                let bits = match server.addr.ip() {
                    core::net::IpAddr::V4(ip) => u128::from(u32::from(ip)) | 0xffff << 32,
                    core::net::IpAddr::V6(ip) => ip.into(),
                };
                mix((bits >> 64) as u64);
                mix((bits & MASK) as u64);
                mix(server.addr.port().into());
            }
            mix(0);
            mix(1);
            self.state = Some(state);
        }
    }

    fn pick(&mut self, _: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let one = self.draw(servers)?;
        let two = self.draw(servers)?;
        let load =
            |at: usize| u128::from(servers[at].active) * 256 + u128::from(servers[at].inactive);
        let weight = |at: usize| u128::from(servers[at].weight.0);
        Some(if weight(two) * load(one) > weight(one) * load(two) { two } else { one })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn picks_equal_the_naive_twin_over_any_script(script in script()) {
        let (mut fast, mut slow) = ((DEF.build)(ONE), Naive { state: None });
        play(&script, &mut [&mut *fast, &mut slow], |_, picked| {
            assert_eq!(picked[0], picked[1]);
        });
    }
}

#[test]
fn draws_are_in_proportion_to_weights_also_among_those_that_are_left() {
    // All loads are equal for their weight, so the first draw decides.
    for out in [false, true] {
        let mut list = servers(&[1, 3, 20, 6]);
        for server in &mut list {
            server.active = u32::from(server.weight.0);
        }
        list[2].overloaded = out;
        let mut scheduler = built(&DEF, &list);
        let mut counts = [0u32; 4];
        for n in 0..120_000 {
            counts[scheduler.pick(&flow(n), &list).unwrap()] += 1;
        }
        let sum = if out { 10.0 } else { 30.0 };
        for (count, server) in counts.into_iter().zip(&list).filter(|(_, s)| !s.overloaded) {
            let due = 120_000.0 * f64::from(server.weight.0) / sum;
            assert!((f64::from(count) - due).abs() < 5.0 * due.sqrt(), "{count} instead of {due}");
        }
    }
}

#[test]
fn two_choices_leave_far_less_imbalance_than_one() {
    let mut list = servers(&[1; 100]);
    let mut scheduler = built(&DEF, &list);
    for n in 0..10_000 {
        let at = scheduler.pick(&flow(n), &list).unwrap();
        list[at].active += 1;
        scheduler.load_changed(at, &list);
    }
    let most = list.iter().map(|s| s.active).max().unwrap();
    // One random choice gives about 125; two give 100 and a few.
    assert!(most <= 105, "{most} sessions on one of 100 servers, 100 would be even");
}

#[test]
fn workers_draw_differently_and_each_the_same_again() {
    let list = servers(&[1; 50]);
    let picks = |worker| {
        let args = SchedulerArgs { worker: WorkerId(worker), workers: 2 };
        let mut scheduler = (DEF.build)(args);
        scheduler.rebuild(&list);
        (0..20).map(|n| scheduler.pick(&flow(n), &list).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(picks(0), picks(0));
    assert_ne!(picks(0), picks(1));
}
