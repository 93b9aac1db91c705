//! Several workers are one balancer, whatever the device does with replies (INV-17).

mod hashed;
mod steering;
mod strays;
mod turns;
mod world;
