//! Least-connection schedulers against twins that scan the whole list.

mod common;

use common::{ONE, built, flow, letters, play, script, servers};
use lvs_core::flow::WireTuple;
use lvs_core::id::WorkerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad, Weight};
use lvs_sched::{lc, nq, sed, wlc};
use proptest::prelude::*;

/// From the first server that may be used on, a later one takes over when it is strictly better.
struct Scan(Better);

/// Whether the first is strictly better than the second.
type Better = fn(&ServerLoad, &ServerLoad) -> bool;

impl Scheduler for Scan {
    fn rebuild(&mut self, _: &[ServerLoad]) {}

    fn pick(&mut self, _: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (at, server) in servers.iter().enumerate() {
            if server.weight.0 == 0 || server.overloaded {
                continue;
            }
            if best.is_none_or(|best| (self.0)(server, &servers[best])) {
                best = Some(at);
            }
        }
        best
    }
}

fn sessions(server: &ServerLoad) -> u128 {
    256 * u128::from(server.active) + u128::from(server.inactive)
}

fn less(a: (u128, &ServerLoad), b: (u128, &ServerLoad)) -> bool {
    a.0 * u128::from(b.1.weight.0) < b.0 * u128::from(a.1.weight.0)
}

fn delay(a: &ServerLoad, b: &ServerLoad) -> bool {
    less((u128::from(a.active) + 1, a), (u128::from(b.active) + 1, b))
}

const TWINS: [(&SchedulerDef, Better); 4] = [
    (&lc::DEF, |a, b| sessions(a) < sessions(b)),
    (&wlc::DEF, |a, b| less((sessions(a), a), (sessions(b), b))),
    (&sed::DEF, delay),
    (&nq::DEF, |a, b| b.active > 0 && (a.active == 0 || delay(a, b))),
];

fn loaded(loads: &[(u16, u32, u32)]) -> Vec<ServerLoad> {
    let mut list = servers(&loads.iter().map(|load| load.0).collect::<Vec<_>>());
    for (server, load) in list.iter_mut().zip(loads) {
        (server.active, server.inactive) = (load.1, load.2);
    }
    list
}

#[test]
fn each_counts_what_its_name_says() {
    // Weight, established, other sessions.
    let list = loaded(&[(1, 4, 0), (10, 5, 3000), (3, 4, 1), (1, 0, 2000), (0, 0, 0)]);
    let picked = TWINS.map(|(def, _)| letters(&mut *built(def, &list), &list, 1));
    assert_eq!(picked, ["A", "C", "B", "D"]);
}

#[test]
fn of_equals_the_first_wins_and_a_worker_begins_its_list_at_its_own_place() {
    let mut list = servers(&[2; 6]);
    list[0].overloaded = true;
    for (def, _) in TWINS {
        assert_eq!(letters(&mut *built(def, &list), &list, 1), "B");
        let first = |worker| {
            let mut scheduler = (def.build)(SchedulerArgs { worker: WorkerId(worker), workers: 3 });
            scheduler.rebuild(&list);
            letters(&mut *scheduler, &list, 1)
        };
        assert_eq!([first(0), first(1), first(2)], ["B", "C", "E"]);
    }
}

#[test]
fn nobody_is_an_answer() {
    let mut list = servers(&[1, 0, 5]);
    for server in &mut list {
        server.overloaded = true;
    }
    for (def, _) in TWINS {
        assert_eq!(letters(&mut *built(def, &list), &list, 2), "--");
        assert_eq!(letters(&mut *built(def, &[]), &[], 1), "-");
        assert_eq!(letters(&mut *built(def, &list), &list[..1], 1), "-", "fewer than announced");
    }
}

#[test]
fn a_winner_whose_change_nobody_reported_is_not_believed() {
    for (def, better) in TWINS {
        let mut list = servers(&[1; 9]);
        let mut scheduler = built(def, &list);
        for server in &mut list[..8] {
            server.overloaded = true;
        }
        assert_eq!(scheduler.pick(&flow(1), &list), Some(8));
        for server in &mut list {
            server.active = 7;
        }
        assert_eq!(scheduler.pick(&flow(1), &list), Scan(better).pick(&flow(1), &list));
        list[8].weight = Weight(0);
        assert_eq!(scheduler.pick(&flow(1), &list), None);
    }
}

#[test]
fn weighted_sessions_that_stay_settle_in_the_proportion_of_weights() {
    // The kernel with weights 1, 1, 2 gave 4, 4, 8.
    let mut list = servers(&[1, 1, 2]);
    let mut wlc = built(&wlc::DEF, &list);
    for n in 0..16 {
        let at = wlc.pick(&flow(n), &list).unwrap();
        list[at].active += 1;
        wlc.load_changed(at, &list);
    }
    assert_eq!(list.iter().map(|s| s.active).collect::<Vec<_>>(), [4, 4, 8]);
}

proptest! {
    #[test]
    fn picks_equal_the_naive_twins_over_any_script(script in script()) {
        for (def, better) in TWINS {
            let (mut fast, mut naive) = ((def.build)(ONE), Scan(better));
            play(&script, &mut [&mut *fast, &mut naive], |_, picked| {
                assert_eq!(picked[0], picked[1], "{}", def.name);
            });
        }
    }
}
