//! The client's address reaches the server, always: by address option and by PROXY header, whatever wires,
//! clients and servers do.

mod conversation;
mod decoders;
mod first_data;
mod forged;
mod greeting;
mod nat64;
#[path = "../support/mod.rs"]
mod support;
mod toa;
mod toa_room;
mod transfers;
mod world;
