//! Vocabulary of the lvs crates.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

#[cfg(test)]
extern crate std;

pub mod addr;
pub mod checksum;
pub mod flow;
pub mod io;
pub mod siphash;
pub mod wire;
