//! Source hashing: the server belongs to the client's address.
//!
//! Table and hash of Linux `net/netfilter/ipvs/ip_vs_sh.c`: 256 buckets, each server in turn takes as
//! many in a row as its weight (one at weight 0), so any change of weights moves most clients. Weights that
//! add up to more than 256 leave the servers at the end of the list without a bucket.
//!
//! Two options, as `ipvsadm -b`: `sh-port` hashes the client's port too; `sh-fallback` goes on to the
//! buckets behind when the server may not be used, where otherwise nobody is picked.

use crate::buckets::{Buckets, Fallbacks, bucket_of, fold};
use alloc::boxed::Box;
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

#[derive(Default)]
struct SourceHash<const PORT: bool, const FALLBACK: bool> {
    buckets: Buckets,
    fallbacks: Fallbacks,
}

impl<const PORT: bool, const FALLBACK: bool> Scheduler for SourceHash<PORT, FALLBACK> {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.buckets.fill(servers, |server| usize::from(server.weight.0));
        if FALLBACK {
            self.fallbacks.rebuild(&self.buckets, servers);
        }
    }

    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let port = if PORT { u32::from(flow.sport()) } else { 0 };
        let home = bucket_of(fold(flow.src()).wrapping_add(port));
        let bucket = if FALLBACK { self.fallbacks.of(home) } else { home };
        let at = self.buckets.server(bucket)?;
        servers.get(at)?.is_available().then_some(at)
    }

    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        if FALLBACK {
            self.fallbacks.changed(&self.buckets, index, servers);
        }
    }
}

fn build<const PORT: bool, const FALLBACK: bool>(_args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(SourceHash::<PORT, FALLBACK>::default())
}

/// Source hashing with option `sh-port`.
pub const PORT: SchedulerDef = SchedulerDef {
    name: "sh-port",
    summary: "source hashing: by client address and port",
    build: build::<true, false>,
};

/// Source hashing with option `sh-fallback`.
pub const FALLBACK: SchedulerDef = SchedulerDef {
    name: "sh-fallback",
    summary: "source hashing: by client address, another server while one may not be used",
    build: build::<false, true>,
};

/// Source hashing with both options.
pub const PORT_FALLBACK: SchedulerDef = SchedulerDef {
    name: "sh-port-fallback",
    summary: "source hashing: by client address and port, another server while one may not be used",
    build: build::<true, true>,
};

/// Source hashing.
#[doc(alias = "ip_vs_sh")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "sh",
    summary: "source hashing: by client address",
    build: build::<false, false>,
};
