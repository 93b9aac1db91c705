//! Vocabulary of the lvs crates: packets, sessions, services, and the contract with the wire.
//!
//! | you want to | start at |
//! |---|---|
//! | read a packet | [`wire::Headers::parse`], one pass over all headers; [`wire`] for each header alone |
//! | change one and keep its checksums right | [`checksum`]; the crate `lvs-nat` for whole rewrites |
//! | receive and send | [`io::Lane`], the trait of every back end; [`io::mem`] is one in memory |
//! | track connections | [`session::SessionStore`], in memory that you lend |
//! | describe services and servers | `snapshot::SnapshotSpec` |
//! | choose a server your own way | `sched::Scheduler`; the crate `lvs-sched` has all of IPVS and more |
//! | know why a packet was dropped | [`verdict::DropReason`]; [`counters`], [`event`] |
//!
//! All of it together, one worker of a balancer, is the crate `lvs-director`.
//!
//! Addresses have a type for each role ([`addr`]), time is an argument ([`time`]), numbers are in host
//! byte order. Nothing here reads a clock, makes a random number, logs or panics; what handles packets does
//! not allocate.
//!
//! # From a frame to a session
//! ```
//! # #[cfg(feature = "alloc")] {
//! use lvs_core::plan::Whole;
//! use lvs_core::session::{HeapMemory, Probe, SessionStore, StoreConfig, TableConfig};
//! use lvs_core::wire::{Headers, Parsed};
//!
//! let frame = [
//!     0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
//!     0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x26, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
//!     0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0, // TCP
//! ];
//! let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else { panic!() };
//! let tuple = headers.tuple.unwrap();
//! assert_eq!(tuple.to_string(), "tcp 10.0.0.1:40000 -> 10.0.0.2:80");
//!
//! let sizes = StoreConfig {
//!     v4: TableConfig { local_addresses: 0, general: 1000 }, // sessions
//!     v6: TableConfig::default(),
//!     key: [1, 2], // secret: random at each start
//!     seed: 3,
//! };
//! let plan = Whole::default();
//! let mut memory = HeapMemory::new(SessionStore::memory_for(&sizes, &plan).unwrap());
//! let mut store = SessionStore::new(sizes, plan, memory.bytes()).unwrap();
//! assert!(store.lookup_one(&Probe { tuple, local: None }).is_none()); // nobody has opened it
//! # }
//! ```
//!
//! # Features
//! `alloc` (default): what the control side builds (`sched`, `service`, `snapshot`, `shared`), lanes in memory
//! and lanes around others, memory for sessions from the heap. Views, checksums, the I/O trait and the
//! session store need no allocator.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

#[cfg(test)]
extern crate std;

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod addr;
pub mod checksum;
pub mod client_addr;
pub mod counters;
pub mod encapsulation;
pub mod event;
pub mod flow;
pub mod id;
pub mod io;
pub mod key;
#[cfg(feature = "alloc")]
mod map;
#[cfg(feature = "alloc")]
mod near;
#[cfg(feature = "alloc")]
pub mod persistence;
pub mod plan;
pub mod prefetch;
pub mod quic;
#[cfg(feature = "alloc")]
pub mod sched;
#[cfg(feature = "alloc")]
pub mod service;
pub mod session;
#[cfg(feature = "alloc")]
pub mod shared;
pub mod siphash;
#[cfg(feature = "alloc")]
pub mod snapshot;
pub mod time;
pub mod timeouts;
pub mod verdict;
pub mod wire;
