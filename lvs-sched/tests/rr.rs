//! Round robin against a twin that walks the list with a pointer.

mod common;

use common::{ONE, built, flow, letters, play, script, server, servers};
use lvs_core::flow::WireTuple;
use lvs_core::id::{ServerId, WorkerId};
use lvs_core::sched::{Scheduler, SchedulerArgs, ServerLoad};
use lvs_sched::rr::DEF;
use proptest::prelude::*;

/// The ids in order and a pointer to the one picked last; changes move the pointer one by one.
#[derive(Default)]
struct Naive {
    list: Vec<ServerId>,
    last: Option<ServerId>,
}

impl Scheduler for Naive {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        while let Some(last) = self.last
            && !servers.iter().any(|s| s.id == last)
        {
            // As if the pointer's server were taken out of the list alone: it moves to the one before.
            let at = self.list.iter().position(|id| *id == last).unwrap();
            self.last = if at == 0 { None } else { Some(self.list[at - 1]) };
            self.list.remove(at);
        }
        self.list = servers.iter().map(|s| s.id).collect();
    }

    fn pick(&mut self, _: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let start =
            self.last.map_or(0, |last| 1 + self.list.iter().position(|id| *id == last).unwrap());
        for step in 0..servers.len() {
            let at = (start + step) % servers.len();
            if servers[at].weight.0 > 0 && !servers[at].overloaded {
                self.last = Some(servers[at].id);
                return Some(at);
            }
        }
        None
    }
}

#[test]
fn servers_take_turns_whatever_their_weight() {
    let list = servers(&[1, 100, 7]);
    assert_eq!(letters(&mut *built(&DEF, &list), &list, 7), "ABCABCA");
}

#[test]
fn unavailable_servers_lose_their_turn_and_nobody_is_an_answer() {
    let mut list = servers(&[1, 0, 1, 1]);
    let mut rr = built(&DEF, &list);
    list[2].overloaded = true;
    assert_eq!(letters(&mut *rr, &list, 4), "ADAD");
    list.iter_mut().for_each(|s| s.overloaded = true);
    assert_eq!(letters(&mut *rr, &list, 2), "--");
    list.iter_mut().for_each(|s| s.overloaded = false);
    assert_eq!(letters(&mut *rr, &list, 3), "ACD", "the turn was not lost meanwhile");
}

#[test]
fn removing_a_server_neither_repeats_nor_skips_another() {
    let list = servers(&[1; 5]);
    for removed in 0..5usize {
        let mut rr = built(&DEF, &list);
        assert_eq!(letters(&mut *rr, &list, 3), "ABC");
        let mut left = list.clone();
        left.remove(removed);
        rr.rebuild(&left);
        let next: Vec<u16> = (0..4).map(|n| left[rr.pick(&flow(n), &left).unwrap()].id.0).collect();
        let expected: Vec<u16> =
            [3, 4, 0, 1, 2].into_iter().filter(|id| usize::from(*id) != removed).collect();
        assert_eq!(next, expected, "without server {removed}");
    }
    let mut rr = built(&DEF, &list);
    rr.pick(&flow(0), &list);
    rr.rebuild(&[]);
    assert_eq!(rr.pick(&flow(0), &[]), None);
    rr.rebuild(&[server(9, 1)]);
    assert_eq!(rr.pick(&flow(0), &[server(9, 1)]), Some(0));
}

#[test]
fn workers_start_apart() {
    let list = servers(&[1; 6]);
    let first = |worker| {
        let mut rr = (DEF.build)(SchedulerArgs { worker: WorkerId(worker), workers: 3 });
        rr.rebuild(&[]);
        rr.rebuild(&list);
        letters(&mut *rr, &list, 4)
    };
    assert_eq!([first(0), first(1), first(2)], ["ABCD", "CDEF", "EFAB"]);
}

proptest! {
    #[test]
    fn picks_equal_the_naive_twin_over_any_script(script in script()) {
        let (mut rr, mut naive) = ((DEF.build)(ONE), Naive::default());
        play(&script, &mut [&mut *rr, &mut naive], |_, picked| assert_eq!(picked[0], picked[1]));
    }
}
