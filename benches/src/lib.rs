//! What the benchmark programs share: a director with established sessions, packet sockets, time, and
//! how figures are compared.
//!
//! How these measurements keep from deceiving themselves stands in `docs/performance.md`.

pub mod bare;
pub mod cpu;
pub mod flows;
pub mod generator;
pub mod rng;
pub mod rounds;
pub mod socket;
