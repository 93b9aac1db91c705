//! Datagrams in pieces: what arrives at the other side is the datagram translated whole, whatever way it was cut
//! and in whatever order its pieces came; and what is refused has a reason and a counter.

mod alone;
mod bounds;
mod cut;
#[path = "../drops/stage.rs"]
#[allow(dead_code, reason = "this test uses its part")]
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod whole;
