//! Fail-over and overflow against twins that scan the whole list.

mod common;

use common::{ONE, built, letters, overload, play, script, servers};
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, ServerLoad};
use lvs_sched::{fo, ovf};
use proptest::prelude::*;

/// The heaviest usable server, the first of equals; `full` ones are passed over.
struct Scan {
    full: fn(&ServerLoad) -> bool,
}

impl Scheduler for Scan {
    fn rebuild(&mut self, _: &[ServerLoad]) {}

    fn pick(&mut self, _: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let mut best = None;
        let mut highest = 0;
        for (at, server) in servers.iter().enumerate() {
            if !server.overloaded && !(self.full)(server) && server.weight.0 > highest {
                (best, highest) = (Some(at), server.weight.0);
            }
        }
        best
    }
}

#[test]
fn fail_over_leaves_the_heaviest_only_when_it_must() {
    let mut list = servers(&[1, 5, 9, 9]);
    let mut fo = built(&fo::DEF, &list);
    assert_eq!(letters(&mut *fo, &list, 3), "CCC");
    overload(&mut *fo, &mut list, 2, true);
    assert_eq!(letters(&mut *fo, &list, 2), "DD");
    overload(&mut *fo, &mut list, 3, true);
    assert_eq!(letters(&mut *fo, &list, 2), "BB");
    overload(&mut *fo, &mut list, 2, false);
    assert_eq!(letters(&mut *fo, &list, 2), "CC");
}

#[test]
fn overflow_fills_one_server_after_the_other() {
    let mut list = servers(&[1, 3, 2]);
    let mut ovf = built(&ovf::DEF, &list);
    let mut order = String::new();
    for n in 0..10 {
        let picked = letters(&mut *ovf, &list, 1);
        if let Some(at) = ovf.pick(&common::flow(n), &list) {
            list[at].active += 1;
            ovf.load_changed(at, &list);
        }
        order += &picked;
    }
    // One more than the weight: a server is passed over when its sessions exceed the weight.
    assert_eq!(order, "BBBBCCCAA-");
}

proptest! {
    #[test]
    fn picks_equal_the_naive_twins_over_any_script(script in script()) {
        let exceeds = |server: &ServerLoad| server.active > u32::from(server.weight.0);
        let twins = [(&fo::DEF, Scan { full: |_| false }), (&ovf::DEF, Scan { full: exceeds })];
        for (def, mut naive) in twins {
            let mut fast = (def.build)(ONE);
            play(&script, &mut [&mut *fast, &mut naive], |_, picked| {
                assert_eq!(picked[0], picked[1], "{}", def.name);
            });
        }
    }
}
