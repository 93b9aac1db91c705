//! Several workers, one balancer: what a worker receives and another one owns.
//!
//! ```text
//!   worker 0 ── rx ─► whose is it? ── mine ─► pipeline
//!                          │ worker 2's: a copy
//!                          ▼
//!                     ring 0 ► 2 ──► worker 2: take_over ─► pipeline
//! ```
//! Sessions are not shared. The device delivers a packet to the worker that owns its session as far as it
//! can ([`PortPlan`](lvs_core::plan::PortPlan)); what it cannot steer goes through a bounded ring to its
//! owner, as a copy: a reply that the device sent elsewhere, an ICMP error (its owner follows from the
//! quoted header), a fragment (to the worker that keeps its datagram together). A packet is handed over at
//! most twice, so that it cannot go round. What a neighbour tells goes to all workers, since its answer
//! reaches only one of them.
//!
//! Who receives counts the packet and the verdict
//! [`HandedOver`](lvs_core::verdict::Absorbed::HandedOver), who takes it over counts it again with its fate,
//! and in `taken_over`: received from the wire is `received` less `taken_over` over all workers.

mod hand_over;
mod peers;
mod quoted;
mod ring;

pub use peers::{Peers, RingSize};
pub(crate) use quoted::quoted_tuple;
