//! Schedulers of an LVS-class load balancer: which server gets a new session.
//!
//! Each algorithm is one file that ends in a `DEF`; a configuration names one, a program takes them
//! from [`ALL`] or [`by_name`], and one of your own is equal to these
//! ([`lvs_core::sched::Scheduler`]).
//!
//! | choose | by | when |
//! |---|---|---|
//! | [`rr`] | turn | servers are alike and sessions are short |
//! | [`wrr`] | turn, in proportion to weights | servers differ, sessions are alike |
//!
//! Orders are those of Linux IPVS for servers listed in the order of configuration (the kernel itself
//! walks the newest server first). Workers choose independently; worker 0 of 1 starts at the first
//! server, and of N workers each starts an N-th further, so that few connections do not all meet the
//! first server.
//!
//! ```
//! use lvs_core::id::WorkerId;
//! use lvs_core::sched::SchedulerArgs;
//!
//! let def = lvs_sched::by_name("wrr").unwrap();
//! let mut scheduler = (def.build)(SchedulerArgs { worker: WorkerId(0), workers: 1 });
//! scheduler.rebuild(&[]);
//! # use lvs_core::flow::{L4Proto, WireTuple};
//! # let flow = WireTuple::new(L4Proto::Tcp, [1, 2, 3, 4].into(), 5, [6, 7, 8, 9].into(), 80).unwrap();
//! assert_eq!(scheduler.pick(&flow, &[]), None);
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;

pub mod rr;
mod start;
pub mod wrr;

use lvs_core::sched::SchedulerDef;

/// Every scheduler of this crate.
pub const ALL: &[&SchedulerDef] = &[&rr::DEF, &wrr::DEF];

/// The scheduler with this name, as `ipvsadm -s` takes it.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static SchedulerDef> {
    ALL.iter().copied().find(|def| def.name == name)
}
