//! Never queue: the first server without an established session, else as shortest expected delay.
//!
//! Order of Linux `net/netfilter/ipvs/ip_vs_nq.c`.

use crate::tournament::{Cost, Tournament};
use alloc::boxed::Box;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

fn cost(server: &ServerLoad) -> Cost {
    // An idle server has no cost at all, so weights do not tell idle ones apart and the first wins.
    let load = if server.active == 0 { 0 } else { u64::from(server.active).saturating_add(1) };
    Cost { load, weight: server.weight.0 }
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    Tournament::boxed(args, cost)
}

/// Never queue.
#[doc(alias = "ip_vs_nq")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "nq",
    summary: "never queue: the first idle server, else shortest expected delay",
    build,
};
