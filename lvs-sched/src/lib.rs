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
//! | [`smooth`] | the same, spread out | as wrr, and a heavy server must not get its turns in a row |
//! | [`lc`] | fewest sessions | sessions last, servers are alike |
//! | [`wlc`] | fewest sessions for the weight | sessions last, servers differ: a good default |
//! | [`sed`] | least wait for the new session | as wlc, and few sessions must meet the big servers first |
//! | [`nq`] | an idle server, else as sed | one session must never wait while a server idles |
//! | [`twos`] | two random servers, the less loaded | as wlc with many workers or directors that do not see each other's sessions |
//! | [`sh`] | client address | a client must stay with its server without state; a change moves most clients |
//! | [`mh`] | client address, Maglev table | the same, and a change moves few; directors agree |
//! | [`maglev`] | flow or client address, large Maglev table | the same, closest to the weights, first choice for clusters |
//! | [`conhash`] | client address, ring | the same, and a change moves nobody else |
//! | [`dh`] | destination address | one service for many destinations: caches |
//! | [`lblc`] | destination address, remembered | the same, and servers must not be overrun |
//! | [`lblcr`] | destination address, remembered with several servers | the same, and some destinations are too much for one server |
//! | [`fo`] | highest weight | one server works, the others stand by |
//! | [`ovf`] | highest weight until it is full | servers are filled one after the other |
//!
//! `sh` and `mh` have variants that hash the port too, or fall back to another server; `maglev` has them by
//! client address and with a larger table. Figures and plots: `docs/schedulers.md`.
//!
//! Orders are those of Linux IPVS for servers listed in the order of configuration (the kernel itself
//! walks the newest server first), compared with recordings of it. Workers choose independently;
//! worker 0 of 1 starts where the kernel does, and of N workers each starts an N-th further, so that
//! few connections do not all meet the first server.
//!
//! ```
//! use lvs_core::addr::RealAddr;
//! use lvs_core::flow::{L4Proto, WireTuple};
//! use lvs_core::id::{ServerId, WorkerId};
//! use lvs_core::sched::{SchedulerArgs, ServerLoad, Weight};
//!
//! let server = |n: u8, weight| ServerLoad {
//!     id: ServerId(n.into()),
//!     addr: RealAddr(format!("10.1.0.{n}:8080").parse().unwrap()),
//!     weight: Weight(weight),
//!     overloaded: false,
//!     active: 0,
//!     inactive: 0,
//! };
//! let servers = [server(1, 2), server(2, 1)];
//! let def = lvs_sched::by_name("wrr").unwrap();
//! let mut scheduler = (def.build)(SchedulerArgs { worker: WorkerId(0), workers: 1 });
//! scheduler.rebuild(&servers);
//!
//! let flow = WireTuple::new(L4Proto::Tcp, [1, 2, 3, 4].into(), 5, [6, 7, 8, 9].into(), 80).unwrap();
//! let mut picks = [0, 0];
//! for _ in 0..6 {
//!     picks[scheduler.pick(&flow, &servers).unwrap()] += 1;
//! }
//! assert_eq!(picks, [4, 2]); // twice the weight, twice the connections
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;

mod buckets;
mod by_weight;
mod cache;
pub mod conhash;
mod detours;
pub mod dh;
pub mod fo;
pub mod lblc;
pub mod lblcr;
pub mod lc;
mod locality;
pub mod maglev;
mod members;
pub mod mh;
pub mod nq;
pub mod ovf;
mod ready;
pub mod rr;
pub mod sed;
pub mod sh;
pub mod smooth;
mod start;
pub mod steady;
mod tournament;
pub mod twos;
pub mod wlc;
pub mod wrr;

use lvs_core::sched::SchedulerDef;

/// The page compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/schedulers.md")]
pub struct SchedulersPage;

/// Every scheduler of this crate.
pub const ALL: &[&SchedulerDef] = &[
    &rr::DEF,
    &wrr::DEF,
    &smooth::DEF,
    &lc::DEF,
    &wlc::DEF,
    &sed::DEF,
    &nq::DEF,
    &twos::DEF,
    &sh::DEF,
    &sh::PORT,
    &sh::FALLBACK,
    &sh::PORT_FALLBACK,
    &mh::DEF,
    &mh::PORT,
    &mh::FALLBACK,
    &mh::PORT_FALLBACK,
    &maglev::DEF,
    &maglev::LARGE,
    &maglev::SOURCE,
    &maglev::SOURCE_LARGE,
    &conhash::DEF,
    &dh::DEF,
    &lblc::DEF,
    &lblcr::DEF,
    &fo::DEF,
    &ovf::DEF,
];

/// The scheduler with this name, as `ipvsadm -s` takes it.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static SchedulerDef> {
    ALL.iter().copied().find(|def| def.name == name)
}
