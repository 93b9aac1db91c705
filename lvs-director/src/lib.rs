//! The packet pipeline of one worker: sans-IO, one thread, no locks, no clock.
//!
//! ```text
//!   frame ─► parse ─► admit ─► look up ─┬─ session ──► edit, rewrite ─► emit ─► port
//!            (wire)   (role,   (store)  │                               (next hop, MTU,
//!                     source)           └─ none ─► service ─► server     checksum)
//!                                                  (scheduler)   └─► open session
//! ```
//!
//! One stage is one file, in the order a packet meets them: `admit`, `answer` (ARP, neighbour discovery,
//! echo), `open` (classify, open), `assign` (the client's server: persistence, thresholds, scheduler), `carry`
//! (packets of a session), `client_addr` (TOA), `emit`. `icmp` translates errors about packets of sessions,
//! `oversize` makes errors and cuts packets. `drain` and `reset` end the sessions of servers that go away.
//! `fragments` leads the pieces of a datagram where its first one goes.
//! `workers` hands over what belongs to another worker.
//! `fast` goes before them: ordinary segments of established sessions take a short way (`short`), a burst at a
//! time and up to three bursts at once (`flight`).
//!
//! The caller owns the loop, the lane, the buffers and the time; the project's README has a complete
//! program with services, servers and session memory:
//!
//! ```no_run
//! # use lvs_core::io::{Burst, Lane, PortId};
//! # use lvs_core::time::Time;
//! # use lvs_director::{Director, Outputs};
//! # fn worker<L: Lane>(lane: &mut L, director: &mut Director<'_>, clock: impl Fn() -> Time) {
//! let mut burst = Burst::new();
//! let mut out = Outputs::new(lane.port_count());
//! loop {
//!     let now = clock();
//!     for port in (0..lane.port_count()).map(PortId) {
//!         if lane.rx_burst(port, &mut burst).is_ok() {
//!             director.process(now, lane, port, &mut burst, &mut out);
//!         }
//!     }
//!     director.expire(now, 256);
//!     director.tick(now, lane, &mut out);
//!     out.flush(lane);
//! }
//! # }
//! ```
//!
//! # Contract
//! - No allocation after construction ([`Generation`]s are built elsewhere), no panic, bounded work per
//!   packet.
//! - Every received packet gets exactly one [`Verdict`](lvs_core::verdict::Verdict), and one counter.
//! - A dropped packet changes no session. Exceptions: a packet that finds its transmit queue full, and one
//!   whose neighbour has not answered, have already been taken into their session; and a finished session
//!   has ended when the one that replaces it finds neither port nor place.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;

mod admit;
mod ahead;
mod answer;
mod assign;
mod carry;
mod client_addr;
mod director;
mod drain;
mod emit;
mod expiry;
mod fast;
mod flight;
mod fragments;
mod fresh;
mod generation;
mod half_dead;
mod icmp;
mod nat64;
mod neighbour;
mod one_packet;
mod one_way;
mod open;
mod outputs;
mod oversize;
mod proxy;
mod reset;
mod sctp;
mod short;
mod stray;
mod syn;
mod tunnel_error;
mod workers;

pub use director::{Director, DirectorConfig, Report};
pub use drain::Drain;
pub use flight::DEPTH;
pub use fragments::FragmentConfig;
pub use generation::{Generation, ServerCount};
pub use neighbour::{HopInfo, HopState};
pub use outputs::{MAX_PORTS, Outputs};
pub use oversize::ErrorRate;
pub use workers::{Peers, RingSize};
