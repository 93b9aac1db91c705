//! The director and a naive one, written apart from it, agree on every packet of random scripts: the
//! verdict, every byte that leaves, and in the end all sessions, next hops and counters.
//!
//! A failing script is printed step by step, shrunk. Which of the two is wrong is for the reader to
//! decide.

mod config;
mod random;
mod rig;
mod script;

use config::Config;
use proptest::prelude::*;
use rig::{Failure, Rig};
use script::Step;

fn run(config: Config, steps: &[Step]) -> Result<(), Failure> {
    let mut memory = rig::memory();
    let mut rig = Rig::new(config, &mut memory);
    for (number, step) in steps.iter().enumerate() {
        rig.step(step).map_err(|failure| failure.at(number, step))?;
    }
    Ok(())
}

fn agree(config: Config, steps: &[Step]) -> Result<(), TestCaseError> {
    run(config, steps).map_err(|failure| TestCaseError::fail(failure.to_string()))
}

fn cases(cases: u32) -> ProptestConfig {
    // PROPTEST_CASES asks for longer runs.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    ProptestConfig { cases, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(500))]

    /// INV-2, INV-3, INV-5, INV-7, INV-9, INV-11, INV-12: connections as hosts make them, with the
    /// accidents of a wire.
    #[test]
    fn on_connections(config in Config::any(), steps in random::connections(1..80)) {
        agree(config, &steps.0)?;
    }

    /// INV-11, INV-14, INV-18, INV-19: clients that stay with their servers, for a while, and servers that are soon
    /// full.
    #[test]
    fn on_clients_that_come_back(config in Config::crowded(), steps in random::visits(1..100)) {
        agree(config, &steps.0)?;
    }

    /// INV-8, INV-9, INV-10, INV-14, INV-16: everything at once, with time, neighbours that fall silent and new
    /// configurations.
    #[test]
    fn on_everything(config in Config::any(), steps in random::everything(1..80)) {
        agree(config, &steps.0)?;
    }
}

proptest! {
    #![proptest_config(cases(600))]

    /// INV-1, INV-2, INV-4, INV-11, INV-16: frames that nobody should send.
    #[test]
    fn on_hostile_frames(config in Config::any(), steps in random::hostile(1..60)) {
        agree(config, &steps.0)?;
    }
}
