//! Overflow: the heaviest server until its established sessions exceed its weight, then the next one.
//!
//! Order of Linux `net/netfilter/ipvs/ip_vs_ovf.c`. When all servers exceed their weights nobody is
//! picked.

use crate::by_weight::ByWeight;
use alloc::boxed::Box;
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

struct Overflow(ByWeight);

impl Scheduler for Overflow {
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
    Box::new(Overflow(ByWeight::new(|server| server.active <= u32::from(server.weight.0))))
}

/// Overflow.
#[doc(alias = "ip_vs_ovf")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "ovf",
    summary: "overflow: the heaviest server whose established sessions do not exceed its weight",
    build,
};
