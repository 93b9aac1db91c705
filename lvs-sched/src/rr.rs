//! Round robin: the servers in turn, whatever their weights above 0.
//!
//! Order of Linux `net/netfilter/ipvs/ip_vs_rr.c`: the search starts behind the server picked last; a
//! server that is removed hands its turn to the one behind it.

use crate::start;
use alloc::boxed::Box;
use alloc::vec::Vec;
use lvs_core::flow::WireTuple;
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

/// State: whose turn it is.
pub struct RoundRobin {
    args: SchedulerArgs,
    /// The servers of the last rebuild, to find the turn again when some of them are gone.
    order: Vec<ServerId>,
    /// The index at which the next search starts.
    next: usize,
    /// Whether any server was picked yet.
    moved: bool,
}

impl Scheduler for RoundRobin {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.next = if self.moved {
            // Behind the newest pick that is still there.
            let picked = self.order.iter().take(self.next).rev();
            let mut places = picked.filter_map(|id| servers.iter().position(|s| s.id == *id));
            places.next().map_or(0, |at| at.saturating_add(1))
        } else {
            start::index(self.args, servers.len())
        };
        self.order.clear();
        self.order.extend(servers.iter().map(|server| server.id));
    }

    fn pick(&mut self, _flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let numbered = servers.iter().enumerate();
        let in_turn = numbered.clone().skip(self.next).chain(numbered.take(self.next));
        let (at, _) = in_turn.into_iter().find(|(_, server)| server.is_available())?;
        self.next = at.saturating_add(1);
        self.moved = true;
        Some(at)
    }

    fn take_over(&mut self, before: &mut dyn Scheduler) {
        let before: &mut dyn core::any::Any = before;
        if let Some(before) = before.downcast_ref::<Self>()
            && before.moved
        {
            // As in `rebuild`.
            let picked = before.order.iter().take(before.next).rev();
            let mut places = picked.filter_map(|id| self.order.iter().position(|at| at == id));
            self.next = places.next().map_or(0, |at| at.saturating_add(1));
            self.moved = true;
        }
    }
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(RoundRobin { args, order: Vec::new(), next: 0, moved: false })
}

/// Round robin.
#[doc(alias = "ip_vs_rr")]
pub const DEF: SchedulerDef =
    SchedulerDef { name: "rr", summary: "round robin: the servers in turn", build };
