//! Weighted least connection: the server with the fewest sessions for its weight.
//!
//! Order of Linux `net/netfilter/ipvs/ip_vs_wlc.c`: an established session counts as 256 others.

use crate::tournament::{Cost, Tournament, overhead};
use alloc::boxed::Box;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

fn cost(server: &ServerLoad) -> Cost {
    Cost { load: overhead(server), weight: server.weight.0 }
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    Tournament::boxed(args, cost)
}

/// Weighted least connection.
#[doc(alias = "ip_vs_wlc")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "wlc",
    summary: "weighted least connection: the server with the fewest sessions for its weight",
    build,
};
