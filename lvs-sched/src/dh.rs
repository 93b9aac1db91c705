//! Destination hashing: the server belongs to the destination address of the client's packet.
//!
//! For fwmark services that take many destinations (caches). Table and hash of Linux
//! `net/netfilter/ipvs/ip_vs_dh.c`: 256 buckets, dealt to the servers in turn whatever their weights;
//! nobody when the bucket's server may not be used.

use crate::buckets::{Buckets, bucket_of, fold};
use alloc::boxed::Box;
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

struct DestinationHash(Buckets);

impl Scheduler for DestinationHash {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.0.fill(servers, |_| 1);
    }

    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let at = self.0.server(bucket_of(fold(flow.dst())))?;
        servers.get(at)?.is_available().then_some(at)
    }
}

fn build(_args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(DestinationHash(Buckets::default()))
}

/// Destination hashing.
#[doc(alias = "ip_vs_dh")]
pub const DEF: SchedulerDef =
    SchedulerDef { name: "dh", summary: "destination hashing: by destination address", build };
