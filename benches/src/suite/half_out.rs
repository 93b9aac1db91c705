//! What a new session costs while half of the servers are out.

use super::opening::open;
use super::{Effort, Report};
use crate::rounds::{Figures, alternate};
use crate::table::Row;
use crate::world::{Packets, Plan, World};
use core::cell::RefCell;
use lvs_core::sched::SchedulerDef;
use lvs_testkit::traffic::Network;

const SESSIONS: usize = 4096;

/// Measures schedulers that look for another server by a hash, and one that takes the next in turn.
///
/// # Errors
/// A packet that did not come out, or came out wrong.
pub fn run(effort: Effort, report: &mut Report) -> Result<(), String> {
    for name in ["rr", "maglev", "mh-fallback", "mh-port-fallback"] {
        let def = lvs_sched::by_name(name).ok_or("no such scheduler")?;
        let [all, half] = measure(def, effort)?;
        let ratio = half.median() / all.median();
        let row = Row::ns(format!("new-half-out/{name}"), &half);
        report.add(row.ratio(ratio, "all in").at_most(2.0, 1.5));
        report.add(Row::ns(format!("new-all-in/{name}"), &all));
    }
    Ok(())
}

fn measure(scheduler: &'static SchedulerDef, effort: Effort) -> Result<[Figures; 2], String> {
    let plan = |half_out| Plan { scheduler, half_out, ..Plan::full_nat(SESSIONS) };
    let net = Network::<u32>::example();
    let mut memory = [plan(false).memory(false)?, plan(true).memory(false)?];
    let [m0, m1] = &mut memory;
    let worlds = [World::new(&plan(false), net, m0)?, World::new(&plan(true), net, m1)?];
    let stage = RefCell::new((worlds, Packets::new()?, 1u64 << 31));
    let mut failed = None;
    let figures = alternate(2, effort.rounds, |mode| {
        let (worlds, packets, next) = &mut *stage.borrow_mut();
        open(&mut worlds[mode], packets, next, false).unwrap_or_else(|error| {
            failed.get_or_insert(error);
            f64::NAN
        })
    });
    match (failed, <[Figures; 2]>::try_from(figures)) {
        (Some(error), _) => Err(error),
        (None, figures) => figures.map_err(|_| "two figures".into()),
    }
}
