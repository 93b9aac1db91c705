//! What the benchmark programs share: a director with established sessions, what it is compared with,
//! packet sockets, time, and how figures are compared.
//!
//! How these measurements keep from deceiving themselves stands in `docs/performance.md`.

pub mod bare;
pub mod cpu;
pub mod floor;
pub mod flows;
pub mod generator;
pub mod huge;
pub mod lane;
pub mod rng;
pub mod rounds;
pub mod socket;
pub mod standin;
pub mod suite;
pub mod table;
pub mod world;
