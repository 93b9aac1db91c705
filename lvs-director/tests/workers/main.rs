//! Several workers are one balancer, whatever the device does with replies (INV-17).

#[path = "../fragments/cut.rs"]
mod cut;
mod devices;
mod flows;
mod hashed;
mod nat64;
mod pieces;
mod steering;
mod strays;
mod turns;
mod world;
