//! The session store against a naive model: maps, exact times in nanoseconds, queues of free ports.
//!
//! Scripts of random operations run on both; after each step everything that can be asked is compared:
//! INV-5 to INV-10 for whatever a script can lead to.

mod common;

use common::model::{Model, Op, ops};
use lvs_core::id::WorkerId;
use lvs_core::plan::{LowBits, PortPlan, Whole};
use lvs_core::session::{HeapMemory, SessionStore, StoreConfig, TableConfig};
use lvs_core::time::{Tick, Time};
use proptest::prelude::*;

/// Longest script; an interpreter runs short ones.
const STEPS: usize = if cfg!(miri) { 20 } else { 120 };

fn config(seed: u64) -> StoreConfig {
    StoreConfig {
        v4: TableConfig { local_addresses: 2, general: 5 },
        v6: TableConfig { local_addresses: 1, general: 3 },
        key: [seed, !seed],
        seed,
    }
}

fn run<P: PortPlan + Clone>(plan: &P, seed: u64, start: Time, script: &[Op]) {
    let mut memory = HeapMemory::new(SessionStore::memory_for(&config(seed), plan).unwrap());
    memory.bytes().fill(0xa5);
    let mut store = SessionStore::new(config(seed), plan.clone(), memory.bytes()).unwrap();
    let mut model = Model::new(plan, config(seed), start);
    model.set_timeouts(&mut store, &[0]);
    for op in script {
        model.apply(&mut store, op);
        model.compare(&store);
    }
}

/// Moments at which the script starts: tick 0, and close before ticks wrap, by half and in full.
fn start() -> impl Strategy<Value = Time> {
    let at = |tick: u32| Time(u64::from(tick) << Tick::SHIFT);
    prop_oneof![
        1 => Just(at(0)),
        2 => (1u32..400).prop_map(move |before| at(u32::MAX - before)),
        1 => (1u32..400).prop_map(move |before| at((1 << 31) - before)),
        1 => any::<u32>().prop_map(at),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: common::cases(192), ..ProptestConfig::default() })]

    #[test]
    fn a_worker_alone_agrees_with_the_model(
        seed in any::<u64>(), start in start(), script in ops(1..STEPS),
    ) {
        run(&Whole::new(1025, 1031).unwrap(), seed, start, &script);
    }

    #[test]
    fn a_worker_among_others_agrees_with_the_model(
        seed in any::<u64>(), start in start(), script in ops(1..STEPS),
    ) {
        run(&LowBits::new(65_500, 65_535, WorkerId(2), 3).unwrap(), seed, start, &script);
    }
}
