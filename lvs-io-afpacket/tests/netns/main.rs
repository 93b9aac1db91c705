//! The back end against the real kernel, in network namespaces that the tests make themselves.
//!
//! No root is needed where user namespaces are allowed; where the system forbids them, each test
//! prints `SKIPPED` with the reason. The offloads of veth stay as they are by default.

mod contract;
mod fanout;
mod frames;
mod host;
mod kernel;
mod open;
mod ring;
mod wire;
