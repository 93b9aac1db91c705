//! Weighted round robin against a twin that walks all passes of the list.

mod common;

use common::{ONE, built, flow, letters, overload, overload_all, play, script, server, servers};
use lvs_core::flow::WireTuple;
use lvs_core::id::{ServerId, WorkerId};
use lvs_core::sched::{Scheduler, SchedulerArgs, ServerLoad, Weight};
use lvs_sched::wrr::{DEF, MOST_ENTRIES};
use proptest::prelude::*;

/// Pass after pass over the whole list, one server after the other.
#[derive(Default)]
struct Naive {
    seen: Vec<(ServerId, Weight)>,
    picked: bool,
    last: Option<usize>,
    asked: i64,
    top: i64,
    step: i64,
}

impl Scheduler for Naive {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        let now: Vec<_> = servers.iter().map(|s| (s.id, s.weight)).collect();
        if self.picked && now == self.seen {
            return;
        }
        self.seen = now;
        let weights = || servers.iter().map(|s| i64::from(s.weight.0)).filter(|w| *w > 0);
        let highest = weights().max().unwrap_or(0);
        self.step = (1..=highest).rev().find(|d| weights().all(|w| w % d == 0)).unwrap_or(1);
        self.top = highest - (self.step - 1);
        self.last = None;
        if !self.picked {
            self.asked = self.top.min(1);
        } else if self.asked > self.top || self.asked == 0 {
            self.asked = self.top;
        } else if self.step > 1 {
            self.asked = self.asked / self.step * self.step + 1;
        }
    }

    fn pick(&mut self, _: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        if self.top == 0 {
            return None;
        }
        let before = (self.last, self.asked);
        let mut offered = vec![false; servers.len()];
        loop {
            let from = self.last.map_or(0, |last| last + 1);
            for (at, server) in servers.iter().enumerate().skip(from) {
                if !server.overloaded && i64::from(server.weight.0) >= self.asked {
                    (self.last, self.picked) = (Some(at), true);
                    return Some(at);
                }
                offered[at] |= self.asked == 1;
            }
            if offered.iter().all(|o| *o) {
                let inside_last_pass = before.1 == 1 && before.0.is_some();
                (self.last, self.asked) = if inside_last_pass { before } else { (None, self.top) };
                return None;
            }
            self.last = None;
            self.asked -= self.step;
            if self.asked <= 0 {
                self.asked = self.top;
            }
        }
    }
}

#[test]
fn the_order_is_the_kernels() {
    for (weights, expected) in [
        (&[4, 3, 2][..], "ABCAABABCABCAABABC"),
        (&[4, 2], "ABAABA"),
        (&[1, 1, 1], "ABCABC"),
        (&[1, 2, 3], "ABCCBCABCCBC"),
        (&[0, 5, 0, 10], "BDDBDD"),
        (&[100], "AAA"),
        (&[0, 0], "--"),
        (&[], "--"),
    ] {
        let list = servers(weights);
        let picks = u32::try_from(expected.len()).unwrap();
        assert_eq!(letters(&mut *built(&DEF, &list), &list, picks), expected, "{weights:?}");
    }
}

#[test]
fn weights_are_met_exactly_in_every_cycle() {
    let weights = [65535u16, 1, 13, 40000, 0, 500];
    let list = servers(&weights);
    let mut wrr = built(&DEF, &list);
    for _ in 0..2 {
        let mut counts = [0u16; 6];
        for n in 0..weights.iter().map(|w| u32::from(*w)).sum() {
            counts[wrr.pick(&flow(n), &list).unwrap()] += 1;
        }
        assert_eq!(counts, weights);
    }
}

#[test]
fn overloaded_servers_lose_their_turn_only() {
    let mut list = servers(&[4, 3, 2]);
    let mut wrr = built(&DEF, &list);
    assert_eq!(letters(&mut *wrr, &list, 5), "ABCAA");
    overload(&mut *wrr, &mut list, 0, true);
    assert_eq!(letters(&mut *wrr, &list, 6), "BBCBCB");
    overload(&mut *wrr, &mut list, 0, false);
    assert_eq!(letters(&mut *wrr, &list, 4), "ABCA");
}

#[test]
fn after_nobody_the_cycle_starts_again_unless_it_was_in_its_last_pass() {
    let after = |picks: usize| {
        let mut list = servers(&[3, 2]);
        let mut wrr = built(&DEF, &list);
        let cycle = "ABAABAB";
        assert_eq!(letters(&mut *wrr, &list, picks as u32), cycle[..picks]);
        overload_all(&mut *wrr, &mut list, true);
        assert_eq!(letters(&mut *wrr, &list, 2), "--");
        overload_all(&mut *wrr, &mut list, false);
        letters(&mut *wrr, &list, 5)
    };
    assert_eq!([after(0), after(2), after(3), after(4), after(5)], ["AABAB"; 5]);
    assert_eq!([after(1), after(6), after(7)], ["BAABA", "BAABA", "AABAB"]);
}

#[test]
fn a_light_server_is_found_at_once_when_all_heavy_ones_are_overloaded() {
    // The kernel would walk 65 534 passes for each pick.
    let mut list = servers(&[65535, 65535, 1, 2]);
    list[0].overloaded = true;
    list[1].overloaded = true;
    assert_eq!(letters(&mut *built(&DEF, &list), &list, 6), "CDDCDD");
}

#[test]
fn too_many_different_weights_for_lists_give_the_same_order() {
    let weights: Vec<u16> = (1..=1100u16).map(|n| n * 7 % 1101 + 1).collect();
    assert!(
        weights.len() * weights.len() > MOST_ENTRIES,
        "this is to test passes over all servers"
    );
    let mut list = servers(&weights);
    let (mut wrr, mut naive) = (built(&DEF, &list), Naive::default());
    naive.rebuild(&list);
    for n in 0..50_000u32 {
        if n % 100 == 0 {
            let at = usize::try_from(n / 100 * 17 % 1100).unwrap();
            let out = !list[at].overloaded;
            overload(&mut *wrr, &mut list, at, out);
        }
        assert_eq!(wrr.pick(&flow(n), &list), naive.pick(&flow(n), &list), "pick {n}");
    }
    overload_all(&mut *wrr, &mut list, true);
    assert_eq!(wrr.pick(&flow(0), &list), None);
}

#[test]
fn a_changed_weight_starts_the_list_again_at_the_pass_that_was_on() {
    let mut list = servers(&[4, 3, 2]);
    let mut wrr = built(&DEF, &list);
    assert_eq!(letters(&mut *wrr, &list, 6), "ABCAAB");
    list[1].weight = Weight(1);
    wrr.rebuild(&list);
    // The pass on was the one that asks for 3.
    assert_eq!(letters(&mut *wrr, &list, 6), "AACABC");
    list.truncate(1);
    wrr.rebuild(&list);
    assert_eq!(letters(&mut *wrr, &list, 2), "AA");
}

#[test]
fn an_unchanged_reload_changes_nothing() {
    let list = servers(&[4, 3, 2]);
    let mut wrr = built(&DEF, &list);
    let mut order = letters(&mut *wrr, &list, 4);
    wrr.rebuild(&list);
    order += &letters(&mut *wrr, &list, 5);
    assert_eq!(order, "ABCAABABC");
}

#[test]
fn workers_start_an_even_share_of_the_cycle_apart() {
    for list in [servers(&[4, 3, 2]), servers(&[5, 0, 1, 9, 9]), vec![server(1, 30), server(2, 10)]]
    {
        let cycle: u32 = {
            let gcd =
                (1..100u32).rev().find(|d| list.iter().all(|s| u32::from(s.weight.0) % d == 0));
            list.iter().map(|s| u32::from(s.weight.0)).sum::<u32>() / gcd.unwrap()
        };
        let whole = letters(&mut *built(&DEF, &list), &list, 2 * cycle);
        for workers in 1..5u8 {
            for worker in 0..workers {
                let mut wrr = (DEF.build)(SchedulerArgs { worker: WorkerId(worker), workers });
                wrr.rebuild(&list[..1]);
                wrr.rebuild(&list);
                let from = cycle * u32::from(worker) / u32::from(workers);
                let from = usize::try_from(from).unwrap();
                let own = letters(&mut *wrr, &list, cycle);
                assert_eq!(own, whole[from..from + own.len()], "worker {worker} of {workers}");
            }
        }
    }
}

proptest! {
    #[test]
    fn picks_equal_the_naive_twin_over_any_script(script in script()) {
        let (mut wrr, mut naive) = ((DEF.build)(ONE), Naive::default());
        play(&script, &mut [&mut *wrr, &mut naive], |_, picked| assert_eq!(picked[0], picked[1]));
    }
}
