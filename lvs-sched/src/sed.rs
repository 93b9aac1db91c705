//! Shortest expected delay: the server where a new session would wait least.
//!
//! Order of Linux `net/netfilter/ipvs/ip_vs_sed.c`: established sessions, the new one included, for the
//! weight. Other sessions do not count.

use crate::tournament::{Cost, Tournament};
use alloc::boxed::Box;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

fn cost(server: &ServerLoad) -> Cost {
    Cost { load: u64::from(server.active).saturating_add(1), weight: server.weight.0 }
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    Tournament::boxed(args, cost)
}

/// Shortest expected delay.
#[doc(alias = "ip_vs_sed")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "sed",
    summary: "shortest expected delay: the fewest established sessions, the new one included, for the weight",
    build,
};
