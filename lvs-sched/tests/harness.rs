//! Properties of every scheduler, stamped over all of them by one macro.

mod common;

use common::{ONE, built, flow, play, script, servers};
use lvs_core::id::WorkerId;
use lvs_core::sched::{SchedulerArgs, SchedulerDef, ServerLoad};
use proptest::prelude::*;

/// What a scheduler promises.
struct Promise {
    /// Somebody is picked whenever somebody is available.
    always_somebody: bool,
    /// How picks are shared, and by how much a server may miss its share of `picks`.
    share: Share,
}

#[derive(Clone, Copy)]
enum Share {
    /// Equal, give or take so many.
    Equal(f64),
    /// In proportion to weights, give or take so many, and as many for each server of the service times
    /// its share.
    Weights(f64, f64),
    /// Not promised by picks in a row (hashes: see their own tests; stand-by servers).
    None,
}

const WEIGHTS: [u16; 6] = [1, 7, 2, 2, 30, 4];

fn shares_are_kept(def: &SchedulerDef, share: Share) {
    if matches!(share, Share::None) {
        return;
    }
    // Whole cycles, so that what comes in bursts is even again.
    let picks = 5 * WEIGHTS.iter().map(|w| u32::from(*w)).sum::<u32>() * 6;
    let mut list = servers(&WEIGHTS);
    let mut scheduler = built(def, &list);
    for n in 0..picks {
        let at = scheduler.pick(&flow(n), &list).unwrap();
        list[at].active += 1;
        scheduler.load_changed(at, &list);
    }
    let sum: f64 = WEIGHTS.iter().map(|w| f64::from(*w)).sum();
    for (server, weight) in list.iter().zip(WEIGHTS) {
        let (part, bound) = match share {
            Share::Equal(bound) => (1.0 / 6.0, bound),
            Share::Weights(bound, each) => {
                let part = f64::from(weight) / sum;
                (part, bound + each * 6.0 * part)
            }
            Share::None => return,
        };
        let missed = (f64::from(server.active) - part * f64::from(picks)).abs();
        assert!(missed <= bound, "{} of weight {weight} misses its share by {missed}", def.name);
    }
}

/// Answers to wild calls are harmless: other servers than announced, indices out of range.
fn nonsense_does_no_harm(def: &SchedulerDef) {
    let list = servers(&[1, 2, 3, 4, 5]);
    let longer = servers(&[9; 40]);
    let mut scheduler = (def.build)(ONE);
    for n in 0..50 {
        scheduler.pick(&flow(n), &list);
    }
    scheduler.rebuild(&list);
    for n in 0..50 {
        for other in [&list[..0], &list[..2], &longer[..]] {
            if let Some(at) = scheduler.pick(&flow(n), other) {
                assert!(at < other.len() && other[at].is_available());
            }
            scheduler.load_changed(usize::MAX, other);
            scheduler.load_changed(3, other);
        }
    }
    let mut odd = (def.build)(SchedulerArgs { worker: WorkerId(255), workers: 0 });
    odd.rebuild(&list);
    odd.pick(&flow(1), &list);
}

fn over_any_script(
    def: &SchedulerDef,
    promise: &Promise,
    script: &(Vec<u16>, Vec<common::Op>),
    args: SchedulerArgs,
) {
    let (mut one, mut two) = ((def.build)(args), (def.build)(args));
    play(script, &mut [&mut *one, &mut *two], |list: &[ServerLoad], picked| {
        assert_eq!(picked[0], picked[1], "two of a kind differ");
        match picked[0] {
            Some(at) => assert!(list[at].is_available(), "{at} of {list:?} is not available"),
            None if promise.always_somebody => {
                assert!(!list.iter().any(ServerLoad::is_available), "nobody of {list:?}");
            }
            None => {}
        }
    });
}

macro_rules! harness {
    ($($name:ident: $def:expr, somebody: $somebody:expr, share: $share:expr;)*) => {
        $(mod $name {
            use super::*;
            const PROMISE: Promise = Promise { always_somebody: $somebody, share: $share };

            #[test]
            fn shares_are_kept() {
                super::shares_are_kept(&$def, PROMISE.share);
            }

            #[test]
            fn nonsense_does_no_harm() {
                super::nonsense_does_no_harm(&$def);
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(64))]
                #[test]
                fn never_an_unavailable_server_and_always_the_same(
                    script in script(), worker in 0u8..4,
                ) {
                    let args = SchedulerArgs { worker: WorkerId(worker), workers: 4 };
                    over_any_script(&$def, &PROMISE, &script, args);
                }
            }
        })*

        #[test]
        fn all_of_them_are_here_and_found_by_name() {
            let here = [$($def),*];
            assert_eq!(here.len(), lvs_sched::ALL.len());
            for def in lvs_sched::ALL {
                assert!(here.contains(def), "{} has no harness", def.name);
                assert_eq!(lvs_sched::by_name(def.name), Some(*def));
                assert_eq!(lvs_sched::ALL.iter().filter(|d| d.name == def.name).count(), 1);
                assert!(!def.summary.is_empty());
            }
            assert_eq!(lvs_sched::by_name("none"), None);
        }
    };
}

harness! {
    rr: lvs_sched::rr::DEF, somebody: true, share: Share::Equal(1.0);
    wrr: lvs_sched::wrr::DEF, somebody: true, share: Share::Weights(0.0, 0.0);
    lc: lvs_sched::lc::DEF, somebody: true, share: Share::Equal(1.0);
    wlc: lvs_sched::wlc::DEF, somebody: true, share: Share::Weights(1.0, 1.0);
    sed: lvs_sched::sed::DEF, somebody: true, share: Share::Weights(1.0, 1.0);
    nq: lvs_sched::nq::DEF, somebody: true, share: Share::Weights(1.0, 1.0);
    sh: lvs_sched::sh::DEF, somebody: false, share: Share::None;
    sh_port: lvs_sched::sh::PORT, somebody: false, share: Share::None;
    sh_fallback: lvs_sched::sh::FALLBACK, somebody: false, share: Share::None;
    sh_port_fallback: lvs_sched::sh::PORT_FALLBACK, somebody: false, share: Share::None;
    mh: lvs_sched::mh::DEF, somebody: false, share: Share::None;
    mh_port: lvs_sched::mh::PORT, somebody: false, share: Share::None;
    mh_fallback: lvs_sched::mh::FALLBACK, somebody: false, share: Share::None;
    mh_port_fallback: lvs_sched::mh::PORT_FALLBACK, somebody: false, share: Share::None;
    dh: lvs_sched::dh::DEF, somebody: false, share: Share::None;
    fo: lvs_sched::fo::DEF, somebody: true, share: Share::None;
    ovf: lvs_sched::ovf::DEF, somebody: false, share: Share::None;
}
