//! Smooth weighted round robin against a twin that lets every server gain and pay.

mod common;

use common::{ONE, built, flow, letters, overload, play, script, servers, tell};
use lvs_core::flow::WireTuple;
use lvs_core::id::{ServerId, WorkerId};
use lvs_core::sched::{Scheduler, SchedulerArgs, ServerLoad, Weight};
use lvs_sched::smooth::DEF;
use proptest::prelude::*;

/// Gains and payments from the start of the order. With `skip` servers that may not be used take part and
/// lose their turn, else they take no part.
struct Naive {
    skip: bool,
    known: Vec<(ServerId, Weight)>,
    gained: Vec<i64>,
    picked: bool,
}

fn members(servers: &[ServerLoad]) -> Vec<(ServerId, Weight)> {
    servers.iter().map(|s| (s.id, s.weight)).collect()
}

/// As the page says: written out when the order is short and quick to find.
fn is_short(servers: &[ServerLoad]) -> bool {
    let weights: Vec<u64> = servers.iter().map(|s| s.weight.0.into()).filter(|w| *w > 0).collect();
    let Some(highest) = weights.iter().max() else { return false };
    let divisor = (1..=*highest).rev().find(|d| weights.iter().all(|w| w % d == 0)).unwrap();
    let cycle = weights.iter().sum::<u64>() / divisor;
    cycle <= 1 << 16 && cycle * servers.len() as u64 <= 1 << 24
}

impl Scheduler for Naive {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        if self.picked && self.known == members(servers) {
            return;
        }
        self.known = members(servers);
        self.gained = vec![0; servers.len()];
        self.skip = is_short(servers);
    }

    fn pick(&mut self, _: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        if !servers.iter().any(ServerLoad::is_available) {
            return None;
        }
        loop {
            let takes_part = |s: &ServerLoad| s.weight.0 > 0 && (self.skip || !s.overloaded);
            let mut sum = 0;
            for (gained, server) in self.gained.iter_mut().zip(servers) {
                if takes_part(server) {
                    *gained += i64::from(server.weight.0);
                    sum += i64::from(server.weight.0);
                }
            }
            let mut best = None;
            for (at, server) in servers.iter().enumerate() {
                if takes_part(server)
                    && best.is_none_or(|b: usize| self.gained[at] > self.gained[b])
                {
                    best = Some(at);
                }
            }
            let at = best.unwrap();
            self.gained[at] -= sum;
            if !servers[at].overloaded {
                self.picked = true;
                return Some(at);
            }
        }
    }
}

fn naive(skip: bool) -> Naive {
    Naive { skip, known: Vec::new(), gained: Vec::new(), picked: false }
}

#[test]
fn the_order_is_that_of_nginx() {
    let order = |weights: &[u16], picks| {
        let list = servers(weights);
        letters(&mut *built(&DEF, &list), &list, picks)
    };
    assert_eq!(order(&[5, 1, 1], 14), "AABACAAAABACAA");
    assert_eq!(order(&[4, 3, 2], 9), "ABCABACBA");
    assert_eq!(order(&[10, 0, 20], 6), "CACCAC");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn picks_equal_the_naive_twin_over_any_script(script in script()) {
        let (mut fast, mut slow) = ((DEF.build)(ONE), naive(true));
        play(&script, &mut [&mut *fast, &mut slow], |_, picked| {
            assert_eq!(picked[0], picked[1]);
        });
    }

    #[test]
    fn picks_equal_the_naive_twin_where_the_order_is_long(
        weights in prop::collection::vec(1u16.., 2..6), overloaded in any::<u8>(),
    ) {
        let mut list = servers(&weights);
        let (mut fast, mut slow) = ((DEF.build)(ONE), naive(true));
        let mut all: [&mut dyn Scheduler; 2] = [&mut *fast, &mut slow];
        all.iter_mut().for_each(|s| s.rebuild(&list));
        for n in 0..400u32 {
            for (at, server) in list.iter_mut().enumerate() {
                server.overloaded = n > 100 && n < 300 && overloaded >> at & 1 == 1;
            }
            let [fast, slow] = &mut all;
            tell(*fast, &list);
            assert_eq!(fast.pick(&flow(n), &list), slow.pick(&flow(n), &list), "pick {n}");
        }
    }
}

#[test]
fn long_orders_give_exact_shares_too() {
    // 65 535 + 65 534 turns: not written out.
    let list = servers(&[65_535, 65_534]);
    let mut scheduler = built(&DEF, &list);
    let first = (0..131_069).filter(|n| scheduler.pick(&flow(*n), &list) == Some(0)).count();
    assert_eq!(first, 65_535);
}

#[test]
fn behind_the_turns_of_a_heavy_server_that_is_out_the_others_share_by_weight() {
    let mut list = servers(&[60_000, 2, 1]);
    let mut scheduler = built(&DEF, &list);
    overload(&mut *scheduler, &mut list, 0, true);
    let picks = letters(&mut *scheduler, &list, 6);
    assert_eq!(picks, "BCBBCB");
}

#[test]
fn each_worker_starts_its_share_of_the_cycle_further() {
    let list = servers(&[1; 4]);
    let starts = (0..4).map(|worker| {
        let mut scheduler = (DEF.build)(SchedulerArgs { worker: WorkerId(worker), workers: 4 });
        scheduler.rebuild(&list);
        scheduler.pick(&flow(1), &list).unwrap()
    });
    assert_eq!(starts.collect::<Vec<_>>(), [0, 1, 2, 3]);
}
