//! Two workers at once beside one alone: what they cost each other through caches and memory.

use super::{Effort, Report, pass, size_name};
use crate::cpu;
use crate::rounds::Figures;
use crate::table::Row;
use crate::world::{Direction, Packets, Plan, World};
use lvs_testkit::traffic::{Mix, Network, Rng};
use std::sync::Barrier;

/// Who works in a phase: the first, both, the second, both, and back.
const PHASES: [[bool; 2]; 4] = [[true, false], [true, true], [false, true], [true, true]];
/// Passes of one phase.
const PASSES: usize = 4;

/// Measures a number of sessions for each worker.
///
/// # Errors
/// A packet did not come out.
pub fn run(sessions: usize, effort: Effort, report: &mut Report) -> Result<(), String> {
    let barrier = Barrier::new(2);
    let rounds = effort.rounds.div_ceil(4);
    let results = std::thread::scope(|scope| {
        let barrier = &barrier;
        let workers = [0, 1].map(|me| scope.spawn(move || worker(me, sessions, rounds, barrier)));
        workers.map(|worker| worker.join().unwrap_or_else(|_| Err("a worker panicked".into())))
    });
    let (mut alone, mut both) = (Figures::default(), Figures::default());
    for result in results {
        let (a, b) = result?;
        alone.0.extend(a.0);
        both.0.extend(b.0);
    }
    let size = size_name(sessions);
    report.add(Row::ns(format!("two-workers/alone/{size}"), &alone));
    let ratio = both.median() / alone.median();
    let row = Row::ns(format!("two-workers/at-once/{size}"), &both).ratio(ratio, "alone");
    report.add(if sessions == 1 << 20 { row.at_most(1.25, 1.1) } else { row });
    Ok(())
}

/// The figures of one worker, alone and with the other one.
fn worker(
    me: usize,
    sessions: usize,
    rounds: usize,
    barrier: &Barrier,
) -> Result<(Figures, Figures), String> {
    cpu::pin(me);
    let plan = Plan::full_nat(sessions);
    let mut memory = plan.memory(false)?;
    let mut rng = Rng::new(41 + me as u64);
    let prepared = World::new(&plan, Network::<u32>::example(), &mut memory)
        .and_then(|world| Ok((world, Packets::new()?)));
    // A worker that could not be made still goes through all phases, or the other one waits for ever.
    let mut failed = prepared.as_ref().err().cloned();
    let mut ready = prepared.ok();
    let (mut alone, mut both) = (Figures::default(), Figures::default());
    for round in 0..=rounds {
        for at in 0..PHASES.len() {
            let phase = PHASES[if round % 2 == 0 { at } else { PHASES.len() - 1 - at }];
            barrier.wait();
            let Some((world, packets)) = ready.as_mut().filter(|_| phase[me]) else { continue };
            for _ in 0..PASSES {
                let what = (Direction::Both, Mix::SMALL);
                match pass(world, packets, what, &mut rng, round == 0) {
                    // The first round warms up.
                    Ok(_) if round == 0 => {}
                    Ok(ns) if phase == [true; 2] => both.0.push(ns),
                    Ok(ns) => alone.0.push(ns),
                    Err(error) => failed = Some(error),
                }
            }
        }
    }
    failed.map_or(Ok((alone, both)), Err)
}
