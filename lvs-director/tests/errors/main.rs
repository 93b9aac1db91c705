//! ICMP: errors translated both ways, and made by the director; echo as a flow.

mod echo;
mod made;
mod translated;

#[path = "../drops/stage.rs"]
#[allow(dead_code, reason = "a module of the tests of drops, of which this binary uses its part")]
mod stage;
#[path = "../support/mod.rs"]
mod support;
