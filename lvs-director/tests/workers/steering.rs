//! Replies that the device does not steer reach the worker that owns their session all the same.

use crate::flows::{WAVE, run};
use crate::world::*;
use lvs_core::plan::AnyPlan;

/// A device without usable scaling of replies: every second one (of four, three) reaches a wrong worker, which
/// hands it to its owner. Nobody handles one twice.
#[test]
fn replies_that_the_device_cannot_steer_are_handed_to_their_owner() {
    for workers in [2u16, 4] {
        let plans = plans(workers, |worker| {
            AnyPlan::for_device(None, 1024, 65535, worker, workers).unwrap().0
        });
        assert!(plans.iter().all(|plan| matches!(plan, AnyPlan::LowBits(_))));
        let mut memory = memory(&plans);
        let mut rig = rig(nic(workers, None), plans, &mut memory);
        let mut strayed = 0;
        for v6 in [false, true] {
            strayed += u64::from(run(&mut rig, 0..4000, v6).strayed);
        }
        let counters = rig.counters();
        let part = 8000 * u64::from(workers - 1) / u64::from(workers);
        assert!(strayed > part * 9 / 10 && strayed < part * 11 / 10, "{strayed} of 8000 astray");
        assert_eq!((counters.handed_over, counters.taken_over), (strayed, strayed));
        assert_eq!(counters.received.packets - counters.taken_over, 16_000, "from the wire");
        assert_eq!((counters.forwarded, counters.dropped_total()), (16_000, 0));
    }
}

/// The workers run at once, in threads, and hand over to each other.
#[test]
fn workers_in_threads_are_one_balancer_too() {
    let plans = plans(2, |worker| AnyPlan::for_device(None, 1024, 65535, worker, 2).unwrap().0);
    let mut memory = memory(&plans);
    let mut rig = rig(nic(2, None), plans, &mut memory);
    for wave in 0..20 {
        for number in wave * WAVE..(wave + 1) * WAVE {
            rig.nic.inject(CLIENTS, syn(number, false)).unwrap();
        }
        rig.settle(NOW);
        while let Some((_, frame)) = rig.take_sent(SERVERS) {
            rig.nic.inject(SERVERS, syn_ack(&tuple(&frame), 1)).unwrap();
        }
        let done = core::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (worker, lane) in rig.split() {
                let done = &done;
                scope.spawn(move || {
                    while worker.round(NOW, lane) > 0 {}
                    // What the other one hands over is still to be taken.
                    done.fetch_add(1, core::sync::atomic::Ordering::SeqCst);
                    while done.load(core::sync::atomic::Ordering::SeqCst) < 2 {
                        std::thread::yield_now();
                    }
                    while worker.round(NOW, lane) > 0 {}
                });
            }
        });
        let mut answered = 0;
        while rig.take_sent(CLIENTS).is_some() {
            answered += 1;
        }
        assert_eq!(answered, WAVE);
    }
    let counters = rig.counters();
    assert!(counters.handed_over > 4000 && counters.handed_over == counters.taken_over);
    assert_eq!((counters.forwarded, counters.dropped_total()), (20_000, 0));
}
