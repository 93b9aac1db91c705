//! AF_PACKET back end of [`lvs_core::io::Lane`]: `TPACKET_V2` receive rings and `sendmmsg` straight
//! from the slots, with the virtio header in front of every frame.
//!
//! ```text
//!   device ──copy──► ring slot ──edit in place──► sendmmsg ──copy──► device
//!            kernel   [`Slot`]                      kernel
//! ```
//!
//! A packet is never copied in user space, and checksum state, segmentation and VLAN tag travel
//! along, so veth and virtio work with their default offloads.
//!
//! - [`PortSockets::open`] needs `CAP_NET_RAW`; [`Rings::map`] needs nothing. In one process,
//!   [`Rings::open`] does both.
//! - [`Rings::lane`] gives the [`PacketLane`] of one worker; [`Slot`]s borrow from the rings.
//! - Several workers on one interface share a [`Fanout`] group.
//! - `stats` asks the kernel each time; `caps`, `port_info` and all of [`Slot`] ask nobody.
//!
//! ```no_run
//! use lvs_core::io::{Burst, Lane, PortId, WaitReady};
//! use lvs_io_afpacket::{PortConfig, Rings};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let mut rings = Rings::open(&[PortConfig::new("eth0"), PortConfig::new("eth1")])?;
//! let mut lane = rings.lane();
//! let mut burst = Burst::new();
//! loop {
//!     if lane.rx_burst(PortId(0), &mut burst)? == 0 {
//!         lane.wait(10_000)?;
//!     }
//!     lane.tx_burst(PortId(1), &mut burst)?;
//!     lane.free_burst(&mut burst); // what the device had no room for
//! }
//! # }
//! ```
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod config;
mod describe;
mod error;
mod lane;
mod open;
mod pool;
mod ring;
mod sctp;
mod slot;
mod steer;
mod sys;
mod vnet;

pub use config::{Cures, Fanout, FanoutMode, Geometry, Interface, PortConfig, PortMeta};
pub use error::{OpenError, Step};
pub use lane::{PacketLane, Rings};
pub use open::PortSockets;
pub use slot::Slot;
pub use steer::LocalNet;
