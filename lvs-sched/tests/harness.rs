//! Properties of every scheduler, stamped over all of them by one macro.

mod common;

use common::{ONE, built, flow, play, script, server, servers, visit};
use lvs_core::flow::WireTuple;
use lvs_core::id::WorkerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};
use lvs_core::time::Tick;
use proptest::prelude::*;

/// What a scheduler promises.
struct Promise {
    /// Somebody is picked whenever somebody is available.
    always_somebody: bool,
    /// How picks are shared, and by how much a server may miss its share of `picks`.
    share: Share,
    /// What a change of members leaves as it was.
    change: Change,
}

#[derive(Clone, Copy)]
enum Change {
    /// Turns go on: each server gets its share of every whole cycle, and nobody is picked twice in a row
    /// who would not be picked so anyway.
    Turns,
    /// Flows of servers that were there before and are there after stay, but for so many of 1000.
    Flows(usize),
    /// By load or by order: nothing to keep.
    None,
}

#[derive(Clone, Copy)]
enum Share {
    /// Equal, give or take so many.
    Equal(f64),
    /// In proportion to weights, give or take so many, and as many for each server of the service times
    /// its share.
    Weights(f64, f64),
    /// By clients: equal, or in proportion to weights, give or take so many of 1000 of the share (and
    /// what chance does to the clients).
    Clients { weights: bool, permille: u32 },
    /// Not promised: stand-by servers.
    None,
}

const WEIGHTS: [u16; 6] = [1, 7, 2, 2, 30, 4];

fn shares_are_kept(def: &SchedulerDef, share: Share) {
    if matches!(share, Share::None) {
        return;
    }
    // Whole cycles, so that what comes in bursts is even again.
    let cycles = if matches!(share, Share::Clients { .. }) { 200 } else { 5 };
    let picks = cycles * WEIGHTS.iter().map(|w| u32::from(*w)).sum::<u32>() * 6;
    let mut list = servers(&WEIGHTS);
    let mut scheduler = built(def, &list);
    for n in 0..picks {
        let at = scheduler.pick(&visit(n), &list).unwrap();
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
            Share::Clients { weights, permille } => {
                let part = if weights { f64::from(weight) / sum } else { 1.0 / 6.0 };
                let due = part * f64::from(picks);
                (part, due * f64::from(permille) / 1000.0 + 4.0 * due.sqrt())
            }
            Share::None => return,
        };
        let missed = (f64::from(server.active) - part * f64::from(picks)).abs();
        assert!(missed <= bound, "{} of weight {weight} misses its share by {missed}", def.name);
    }
}

/// Wild calls are harmless: other servers than announced, indices out of range. What they answer does not count, and
/// after the next rebuild all is well.
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
            scheduler.pick(&flow(n), other);
            scheduler.load_changed(usize::MAX, other);
            scheduler.load_changed(3, other);
        }
    }
    scheduler.rebuild(&longer);
    scheduler.rebuild(&list);
    for n in 0..50 {
        let picked = scheduler.pick(&visit(n), &list);
        assert!(picked.is_some_and(|at| list[at].is_available()), "{}: {picked:?}", def.name);
    }
    let mut odd = (def.build)(SchedulerArgs { worker: WorkerId(255), workers: 0 });
    odd.rebuild(&list);
    odd.pick(&flow(1), &list);
    for tick in [0, 5, u32::MAX, 3, u32::MAX / 2, 0] {
        odd.tick(Tick(tick));
        odd.pick(&flow(tick), &list);
    }
    // Taking over from a stranger is nothing, from oneself of other members is harmless.
    odd.take_over(&mut Stranger);
    for members in [0, 1, 3, 40] {
        let mut next = (def.build)(ONE);
        next.rebuild(&longer[..members]);
        next.take_over(&mut *odd);
        for n in 0..50 {
            if let Some(at) = next.pick(&flow(n), &longer[..members]) {
                assert!(at < members);
            }
        }
        odd = next;
    }
}

struct Stranger;

impl Scheduler for Stranger {
    fn rebuild(&mut self, _: &[ServerLoad]) {}
    fn pick(&mut self, _: &WireTuple, _: &[ServerLoad]) -> Option<usize> {
        None
    }
}

/// As a director changes a service: a new instance takes over from the one before.
struct Replaced {
    def: SchedulerDef,
    args: SchedulerArgs,
    inner: Box<dyn Scheduler>,
}

impl Replaced {
    fn new(def: &SchedulerDef, args: SchedulerArgs) -> Self {
        Self { def: *def, args, inner: (def.build)(args) }
    }
}

impl Scheduler for Replaced {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        let mut next = (self.def.build)(self.args);
        next.rebuild(servers);
        next.take_over(&mut *self.inner);
        self.inner = next;
    }
    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        self.inner.pick(flow, servers)
    }
    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        self.inner.load_changed(index, servers);
    }
    fn tick(&mut self, now: Tick) {
        self.inner.tick(now);
    }
}

/// Servers that come and go one at a time, in place and by replacement; returns the list after each change
/// with the scheduler that served the one before.
fn changes(
    def: &SchedulerDef,
    replace: bool,
    mut see: impl FnMut(&mut dyn Scheduler, &[ServerLoad]),
) {
    let mut scheduler: Box<dyn Scheduler> =
        if replace { Box::new(Replaced::new(def, ONE)) } else { (def.build)(ONE) };
    let mut list: Vec<_> = (0..10).map(|id| server(id, 2 + id % 3)).collect();
    scheduler.rebuild(&list);
    see(&mut *scheduler, &list);
    for (id, at) in (10..).zip([4, 0, 8, 3, 3, 1]) {
        list.remove(at);
        scheduler.rebuild(&list);
        see(&mut *scheduler, &list);
        list.insert(10 - at - 1, server(id, 2 + id % 3));
        scheduler.rebuild(&list);
        see(&mut *scheduler, &list);
    }
}

fn a_change_keeps_what_it_should(def: &SchedulerDef, promise: &Promise) {
    for replace in [false, true] {
        match promise.change {
            Change::Turns => {
                changes(def, replace, |scheduler, list| {
                    turns_go_on(def, promise, scheduler, list);
                });
            }
            Change::Flows(permille) => {
                let mut before: Vec<lvs_core::id::ServerId> = Vec::new();
                changes(def, replace, |scheduler, list| {
                    let now: Vec<_> = (0..10_000)
                        .map(|n| list[scheduler.pick(&visit(n), list).unwrap()].id)
                        .collect();
                    let newest = list.iter().map(|s| s.id).max();
                    let stays = |id| list.iter().any(|s| s.id == id);
                    let moved = |(a, b): &(&_, &_)| *a != *b && stays(**a) && Some(**b) != newest;
                    let moved = before.iter().zip(&now).filter(moved).count();
                    assert!(moved <= permille * 10, "{}: {moved} of 10000 moved", def.name);
                    before = now;
                });
            }
            Change::None => {}
        }
    }
}

fn turns_go_on(
    def: &SchedulerDef,
    promise: &Promise,
    scheduler: &mut dyn Scheduler,
    list: &[ServerLoad],
) {
    let weight = |s: &ServerLoad| match promise.share {
        Share::Equal(_) => 1,
        _ => u32::from(s.weight.0),
    };
    let cycle: u32 = list.iter().map(weight).sum();
    let mut counts = vec![0; list.len()];
    // Three whole cycles and a part, so that the next change meets a turn in the middle.
    for n in 0..3 * cycle {
        counts[scheduler.pick(&flow(n), list).unwrap()] += 1;
    }
    let due: Vec<_> = list.iter().map(|s| 3 * weight(s)).collect();
    assert_eq!(counts, due, "{}", def.name);
    let part: Vec<_> = (0..7).map(|n| scheduler.pick(&flow(n), list).unwrap()).collect();
    if matches!(promise.share, Share::Equal(_)) {
        assert!(part.windows(2).all(|pair| pair[0] != pair[1]), "{}: {part:?}", def.name);
    }
}

fn over_any_script(
    def: &SchedulerDef,
    promise: &Promise,
    script: &(Vec<u16>, Vec<common::Op>),
    args: SchedulerArgs,
) {
    let (mut one, mut two) = ((def.build)(args), (def.build)(args));
    let mut three = Replaced::new(def, args);
    // mh remembers weights inside an instance, so a replaced one may differ from one that was rebuilt.
    let remembers = def.name.starts_with("mh");
    play(script, &mut [&mut *one, &mut *two, &mut three], |list: &[ServerLoad], picked| {
        assert_eq!(picked[0], picked[1], "two of a kind differ");
        if remembers {
            assert!(picked[2].is_none_or(|at| list[at].is_available()), "{at:?}", at = picked[2]);
        } else {
            assert_eq!(picked[0], picked[2], "one that took over differs");
        }
        match picked[0] {
            Some(at) => assert!(list[at].is_available(), "{at} of {list:?} is not available"),
            None if promise.always_somebody => {
                assert!(!list.iter().any(ServerLoad::is_available), "nobody of {list:?}");
            }
            None => {}
        }
    });
}

/// Large tables take long to build.
fn cases(def: &SchedulerDef) -> u32 {
    if def.name.ends_with("large") { 6 } else { 64 }
}

macro_rules! harness {
    ($($name:ident: $def:expr, somebody: $somebody:expr, share: $share:expr, change: $change:expr;)*) => {
        $(mod $name {
            use super::*;
            const PROMISE: Promise =
                Promise { always_somebody: $somebody, share: $share, change: $change };

            #[test]
            fn shares_are_kept() {
                super::shares_are_kept(&$def, PROMISE.share);
            }

            #[test]
            fn a_change_keeps_what_it_should() {
                super::a_change_keeps_what_it_should(&$def, &PROMISE);
            }

            #[test]
            fn nonsense_does_no_harm() {
                super::nonsense_does_no_harm(&$def);
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(cases(&$def)))]
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
    rr: lvs_sched::rr::DEF, somebody: true, share: Share::Equal(1.0), change: Change::Turns;
    wrr: lvs_sched::wrr::DEF, somebody: true, share: Share::Weights(0.0, 0.0), change: Change::Turns;
    smooth: lvs_sched::smooth::DEF, somebody: true, share: Share::Weights(0.0, 0.0), change: Change::Turns;
    lc: lvs_sched::lc::DEF, somebody: true, share: Share::Equal(1.0), change: Change::None;
    wlc: lvs_sched::wlc::DEF, somebody: true, share: Share::Weights(1.0, 1.0), change: Change::None;
    sed: lvs_sched::sed::DEF, somebody: true, share: Share::Weights(1.0, 1.0), change: Change::None;
    nq: lvs_sched::nq::DEF, somebody: true, share: Share::Weights(1.0, 1.0), change: Change::None;
    twos: lvs_sched::twos::DEF, somebody: true, share: Share::Weights(2.0, 4.0), change: Change::None;
    sh: lvs_sched::sh::DEF, somebody: false, share: clients(120), change: Change::Flows(1000);
    sh_port: lvs_sched::sh::PORT, somebody: false, share: clients(120), change: Change::Flows(1000);
    sh_fallback: lvs_sched::sh::FALLBACK, somebody: false, share: clients(120), change: Change::Flows(1000);
    sh_port_fallback: lvs_sched::sh::PORT_FALLBACK, somebody: false, share: clients(120), change: Change::Flows(1000);
    mh: lvs_sched::mh::DEF, somebody: false, share: clients(20), change: Change::Flows(50);
    mh_port: lvs_sched::mh::PORT, somebody: false, share: clients(20), change: Change::Flows(50);
    mh_fallback: lvs_sched::mh::FALLBACK, somebody: false, share: clients(20), change: Change::Flows(50);
    mh_port_fallback: lvs_sched::mh::PORT_FALLBACK, somebody: false, share: clients(20), change: Change::Flows(50);
    maglev: lvs_sched::maglev::DEF, somebody: true, share: clients(1), change: Change::Flows(9);
    maglev_large: lvs_sched::maglev::LARGE, somebody: true, share: clients(1), change: Change::Flows(2);
    maglev_source: lvs_sched::maglev::SOURCE, somebody: true, share: clients(1), change: Change::Flows(9);
    maglev_source_large: lvs_sched::maglev::SOURCE_LARGE, somebody: true, share: clients(1), change: Change::Flows(2);
    conhash: lvs_sched::conhash::DEF, somebody: true, share: clients(200), change: Change::Flows(0);
    dh: lvs_sched::dh::DEF, somebody: false, share: Share::Clients { weights: false, permille: 50 }, change: Change::Flows(1000);
    lblc: lvs_sched::lblc::DEF, somebody: true, share: Share::Weights(1.0, 1.0), change: Change::Flows(0);
    lblcr: lvs_sched::lblcr::DEF, somebody: true, share: Share::Weights(1.0, 1.0), change: Change::Flows(0);
    fo: lvs_sched::fo::DEF, somebody: true, share: Share::None, change: Change::None;
    ovf: lvs_sched::ovf::DEF, somebody: false, share: Share::None, change: Change::None;
}

const fn clients(permille: u32) -> Share {
    Share::Clients { weights: true, permille }
}
