//! Schedulers that take turns: no worker, and not all workers together, prefer a server.

use crate::world::*;
use lvs_core::id::WorkerId;
use lvs_core::plan::LowBits;
use lvs_core::sched::{SchedulerDef, Weight};
use lvs_testkit::workers::{Rig, Setup};

/// New sessions by worker and server, in the order in which they came.
fn picks(workers: u16, scheduler: &'static SchedulerDef, weights: [u16; 3]) -> Vec<Vec<usize>> {
    let plans =
        plans(workers, |worker: WorkerId| LowBits::new(1024, 65535, worker, workers).unwrap());
    let mut memory = memory(&plans);
    let mut spec = spec();
    for service in &mut spec.services {
        service.scheduler = scheduler;
        for (server, weight) in service.servers.iter_mut().zip(weights) {
            server.weight = Weight(weight);
        }
    }
    let setup = Setup::new(spec.build(None).unwrap(), SIZES);
    let mut rig = Rig::new(&setup, nic(workers, None), plans, &mut memory);
    let mut picks = vec![Vec::new(); usize::from(workers)];
    for number in 0..1200 {
        rig.nic.inject(CLIENTS, syn(number, false)).unwrap();
        rig.settle(NOW);
        let (worker, sent) = rig.take_sent(SERVERS).unwrap();
        let to = tuple(&sent).dst();
        picks[worker].push((0..SERVER_COUNT).position(|n| server(n, false).ip() == to).unwrap());
    }
    picks
}

fn counts(picks: &[usize]) -> [u32; 3] {
    let mut counts = [0; 3];
    picks.iter().for_each(|server| counts[*server] += 1);
    counts
}

#[test]
fn rr_is_even_to_one_session_per_worker_at_every_moment() {
    for workers in [1u16, 2, 4] {
        let picks = picks(workers, &lvs_sched::rr::DEF, [1; 3]);
        for own in &picks {
            assert!(own.len() > 100, "every worker gets clients");
            for so_far in 1..=own.len() {
                let counts = counts(&own[..so_far]);
                let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
                assert!(most - least <= 1, "{workers} workers: {counts:?}");
            }
        }
        let all: Vec<usize> = picks.concat();
        let counts = counts(&all);
        let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
        assert!(most - least <= u32::from(workers), "{workers} workers: {counts:?}");
    }
}

/// The first sessions of three workers go to three servers, not all to the first.
#[test]
fn workers_start_at_different_servers() {
    for scheduler in [&lvs_sched::rr::DEF, &lvs_sched::wrr::DEF] {
        let firsts: Vec<usize> = picks(3, scheduler, [1; 3]).iter().map(|own| own[0]).collect();
        let distinct: std::collections::BTreeSet<_> = firsts.iter().collect();
        assert_eq!(distinct.len(), 3, "{}: {firsts:?}", scheduler.name);
    }
}

#[test]
fn wrr_gives_each_worker_the_weights_in_every_cycle() {
    for workers in [1u16, 2, 4] {
        for own in picks(workers, &lvs_sched::wrr::DEF, [4, 3, 2]) {
            for cycle in own.chunks_exact(9) {
                assert_eq!(counts(cycle), [4, 3, 2], "{workers} workers");
            }
        }
    }
}
