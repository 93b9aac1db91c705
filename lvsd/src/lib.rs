//! The reference LVS balancer `lvsd`: command line, configuration, and the processes behind them.
//!
//! This library exists so that the tests of the binary reach its parts; it makes no promise of a
//! stable interface. To build a balancer of your own, start from `lvs-director`.
//!
//! ```text
//!   FILE.toml ──config──► Config ──build──► snapshot ──► lvs-director ◄──► ports
//! ```
#![forbid(unsafe_code)]

pub mod assemble;
pub mod check;
pub mod cli;
pub mod config;
pub mod demo;
pub mod diff;
mod exit;
pub mod lab;
pub mod run;
pub mod simulate;

pub use cli::main;
pub use exit::Exit;

/// The loop in the project's README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeExample;
