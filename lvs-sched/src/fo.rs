//! Fail-over: all sessions to the heaviest server that may be used.
//!
//! Order of Linux `net/netfilter/ipvs/ip_vs_fo.c`.

use crate::by_weight::ByWeight;
use alloc::boxed::Box;
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

struct FailOver(ByWeight);

impl Scheduler for FailOver {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.0.rebuild(servers);
    }

    fn pick(&mut self, _flow: &WireTuple, _servers: &[ServerLoad]) -> Option<usize> {
        self.0.heaviest()
    }

    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        self.0.changed(index, servers);
    }
}

fn build(_args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(FailOver(ByWeight::new(|_| true)))
}

/// Fail-over.
#[doc(alias = "ip_vs_fo")]
pub const DEF: SchedulerDef =
    SchedulerDef { name: "fo", summary: "fail-over: the heaviest server that may be used", build };
