//! Vocabulary of the lvs crates.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

#[cfg(test)]
extern crate std;

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod addr;
pub mod checksum;
pub mod counters;
pub mod event;
pub mod flow;
pub mod id;
pub mod io;
#[cfg(feature = "alloc")]
mod map;
pub mod plan;
pub mod prefetch;
#[cfg(feature = "alloc")]
pub mod sched;
#[cfg(feature = "alloc")]
pub mod service;
pub mod session;
pub mod siphash;
#[cfg(feature = "alloc")]
pub mod snapshot;
pub mod time;
pub mod timeouts;
pub mod verdict;
pub mod wire;
