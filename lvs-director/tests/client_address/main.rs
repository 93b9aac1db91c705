//! The client's address reaches the server, always: by address option and by PROXY header, whatever wires,
//! clients and servers do.

mod conversation;
mod first_data;
mod greeting;
mod nat64;
#[path = "../support/mod.rs"]
mod support;
mod transfers;
mod world;
