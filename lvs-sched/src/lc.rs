//! Least connection: the server with the fewest sessions, whatever its weight above 0.
//!
//! Order of Linux `net/netfilter/ipvs/ip_vs_lc.c`: an established session counts as 256 others.

use crate::tournament::{Cost, Tournament, overhead};
use alloc::boxed::Box;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

fn cost(server: &ServerLoad) -> Cost {
    Cost { load: overhead(server), weight: 1 }
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    Tournament::boxed(args, cost)
}

/// Least connection.
#[doc(alias = "ip_vs_lc")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "lc",
    summary: "least connection: the server with the fewest sessions",
    build,
};
