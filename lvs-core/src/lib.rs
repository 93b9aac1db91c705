//! Vocabulary of the lvs crates.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

#[cfg(test)]
extern crate std;

extern crate alloc;

pub mod addr;
pub mod checksum;
pub mod counters;
pub mod event;
pub mod flow;
pub mod id;
pub mod io;
pub mod siphash;
pub mod time;
pub mod verdict;
pub mod wire;
