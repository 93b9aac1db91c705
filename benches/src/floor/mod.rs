//! The floor F(n) that pipelines are compared with: the least that forwarding a packet can cost.
//!
//! F is the sum of two loops that share nothing but the machine:
//!
//! - [`translate`]: every check and every write that a segment of an established FullNAT session needs,
//!   with one session that never leaves the first-level cache, first all packets of one direction, then
//!   all of the other, so that no branch is ever guessed wrong;
//! - [`memory`]: the memory that n sessions cost and nothing else: for half of the packets a random
//!   directory bucket and then a random session line, for the other half a random session line, each
//!   written; three bursts of 64 in flight.
//!
//! A slow floor would make any goal easy. Their instruction counts are therefore committed
//! (`benches/instructions.json`) and compared in CI.

pub mod memory;
pub mod translate;
