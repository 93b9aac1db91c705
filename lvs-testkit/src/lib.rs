//! Test your own balancer with this.
//!
//! The kit that the lvs crates are tested with, for anything that moves packets through a
//! [`Lane`](lvs_core::io::Lane): build packets byte by byte, generate good and evil ones, judge the
//! results by crates that share no code with the one under test, and put the whole thing between
//! real TCP/IP stacks in one process.
//!
//! | module | gives |
//! |---|---|
//! | [`build`] | packets by hand, every field breakable: TCP, UDP, ICMP and its errors, ARP, neighbour discovery, options, extension headers, fragments, tags, partial checksums, trains |
//! | [`strategies`] | proptest strategies: valid, nearly valid (one thing wrong), hostile |
//! | [`oracle`] | checksums and fields by pnet_packet, accept or reject by smoltcp |
//! | [`nic`] | what a card puts on the wire for a packet with metadata |
//! | [`contract`] | the promises of a lane and its packets as a test, for writers of back ends |
//! | [`model`] | a naive director to compare a real one with |
//! | [`net`] | simulated network: smoltcp hosts, switches with seeded faults and VLANs, a virtual clock |
//! | [`workers`] | several workers that are one balancer, over a device with several queues |
//! | [`pcap`] | capture files for goldens and replay |
//! | [`golden`] | recorded packets of Linux IPVS, and the judge of those who replay them |
//! | [`traffic`] | traffic in bulk: millions of sessions, attacks, mixed sizes |
//!
//! The in-memory lane itself, and lanes that lose, count and show packets, are in
//! [`lvs_core::io::mem`] and [`lvs_core::io::middleware`]: no dependency on this kit is needed to
//! run on them.
//!
//! # One packet in, one packet out
//!
//! A rewrite under test gets a frame whose every byte is known; others say whether the result is
//! right.
//!
//! ```
//! use lvs_testkit::{build::tcp, oracle};
//!
//! fn rewrite(frame: &mut [u8]) {
//!     // ... the code under test: here it lowers the time to live, and mends the checksum.
//!     frame[22] -= 1;
//!     let sum = u16::from_be_bytes([frame[24], frame[25]]);
//!     let (sum, carry) = sum.overflowing_add(0x0100);
//!     frame[24..26].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
//! }
//!
//! let mut frame = tcp().syn().from("10.0.0.2:1234").to("10.0.0.80:80").mss(1460).ttl(64).build();
//! rewrite(&mut frame);
//! assert_eq!(oracle::checksums_ok(&frame), Ok(()));
//! assert_eq!(oracle::fields(&frame).unwrap().ttl, 63);
//! ```
//!
//! # Every packet
//!
//! ```
//! use lvs_testkit::{oracle, strategies};
//! use proptest::prelude::*;
//! # fn my_parser(frame: &[u8]) -> Result<(), ()> { oracle::accepted(frame).map_err(drop) }
//!
//! proptest!(|(built in strategies::valid())| {
//!     prop_assert!(my_parser(&built.frame).is_ok());
//! });
//! proptest!(|(broken in strategies::nearly_valid())| {
//!     prop_assert!(broken.damage.is_checksum() || my_parser(&broken.built.frame).is_err());
//! });
//! proptest!(|(frame in strategies::hostile())| {
//!     let _ = my_parser(&frame); // must not panic
//! });
//! ```
//!
//! # Real connections
//!
//! A balancer is a closure over a [`MemLane`](lvs_core::io::mem::MemLane); see [`net`] for a
//! complete example. What such a test finds without being told to look:
//!
//! - a wrong checksum: the hosts drop the segment and the transfer does not end;
//! - a wrong, lost, repeated or foreign byte: [`net::BulkClient`] compares each with what it must
//!   be;
//! - a wrong answer to ARP or neighbour discovery: nobody sends anything;
//! - a packet that is held and never given back:
//!   [`MemLane::held`](lvs_core::io::mem::MemLane::held) is not zero;
//! - a packet that the port cannot send (too long, a train or a checksum it cannot do): it is
//!   rejected and counted.
//!
//! A failing run is repeated by its seed, and [`net::Net::captured`] with [`pcap::write_file`] shows
//! it in any packet analyser.
#![forbid(unsafe_code)]

pub mod build;
pub mod contract;
pub mod golden;
pub mod model;
pub mod net;
pub mod nic;
pub mod oracle;
pub mod pcap;
pub mod strategies;
pub mod traffic;
pub mod workers;
