//! In-place packet translation for load balancers: NAT, FullNAT and the client address option.
//!
//! Everything here edits a packet where it lies, by exactly what has to change, and makes the
//! checksums follow by the same amount ([`lvs_core::checksum`]). The payload is never read. So
//! **a wrong checksum in is a wrong checksum out**: damage that happened before the balancer is
//! still seen behind it. An edit that is refused has changed nothing.
//!
//! | module | does |
//! |---|---|
//! | [`AnyRewrite`] | the edit of a session and direction, whatever the forwarding mode: one of the next three |
//! | [`rewrite`] | NAT, FullNAT, SNAT: addresses, ports, sequence numbers and time to live |
//! | [`plain`] | the same for an ordinary TCP segment, in the fewest instructions |
//! | [`direct`] | DR: time to live |
//! | [`tunnel`] | TUN: a header in front, IP in IP, GRE or GUE, over either family |
//! | [`icmp`] | errors translated with what they quote, errors made, echo as a flow |
//! | [`fragment`] | where datagrams in pieces go; cutting a packet |
//! | [`segment`] | cutting a segment train |
//! | [`seq`] | comparing sequence numbers; moving a segment with its SACK edges |
//! | [`options`] | lowering the MSS, dropping the timestamps of a SYN |
//! | [`toa`] | the client address option: encode, insert, strip, decode |
//! | [`edit`] | bytes inserted into a byte stream, with every number that counts bytes |
//! | [`proxy`] | the PROXY protocol: encode, decode, what becomes of a client's own header |
//! | [`sctp`] | ports and checksum of SCTP, its chunks and states |
//! | [`nat64`] | IPv6 clients of IPv4 servers: packets, echo, ICMP errors |
//! | [`crc32c`] | the checksum of SCTP, in full and by difference |
//! | [`isn`] | initial sequence numbers toward the servers |
//! | [`macs`] | Ethernet addresses |
//!
//! # Rewrite in place, checksums stay right
//! ```
//! use lvs_core::addr::{ClientAddr, LocalAddress, RealAddr, VirtualAddr};
//! use lvs_core::checksum::{AddrPair, verify_tcp};
//! use lvs_core::flow::Direction;
//! use lvs_core::io::L4Csum;
//! use lvs_core::wire::{Headers, Parsed};
//! use lvs_nat::{AnyRewrite, SeqDeltas};
//!
//! // 10.0.0.1:40000 to the virtual address 10.0.0.2:80, as a client sends it.
//! let mut frame = [
//!     0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00,
//!     0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x26, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2,
//!     0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0,
//! ];
//! # let tcp: &[u8] = &frame[34..]; let sum = lvs_core::checksum::Sum::ZERO.bytes(tcp);
//! # let pair = AddrPair::V4 { src: 0x0a000001, dst: 0x0a000002 };
//! # frame[50..52].fill(0);
//! # let sum = lvs_core::checksum::Sum::ZERO.bytes(&frame[34..]);
//! # let field = lvs_core::checksum::l4_checksum(pair, lvs_core::flow::L4Proto::Tcp, 20, sum);
//! # frame[50..52].copy_from_slice(&field.to_be_bytes());
//! let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else { panic!() };
//!
//! // FullNAT: the server at 10.9.0.8:8080 is to see 10.9.0.1:5000, and other sequence numbers.
//! let rewrite = AnyRewrite::from_roles(
//!     Direction::Inbound,
//!     ClientAddr("10.0.0.1:40000".parse().unwrap()),
//!     VirtualAddr("10.0.0.2:80".parse().unwrap()),
//!     Some(LocalAddress("10.9.0.1:5000".parse().unwrap())),
//!     RealAddr("10.9.0.8:8080".parse().unwrap()),
//!     SeqDeltas { seq: 1000, ack: 0 },
//! )
//! .unwrap();
//! rewrite.apply(&mut frame, &headers, L4Csum::Unknown).unwrap();
//!
//! let Ok(Parsed::Ip(after)) = Headers::parse(&frame, frame.len()) else { panic!() };
//! let tuple = after.tuple.unwrap();
//! assert_eq!(tuple.to_string(), "tcp 10.9.0.1:5000 -> 10.9.0.8:8080");
//! assert!(verify_tcp(AddrPair::from(&tuple), &frame[34..], &[]));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

#[cfg(test)]
extern crate std;

mod any;
pub mod crc32c;
pub mod direct;
pub mod edit;
pub mod ends;
mod error;
mod fields;
pub mod fragment;
mod grow;
pub mod icmp;
pub mod isn;
pub mod macs;
pub mod nat64;
pub mod options;
pub mod plain;
pub mod proxy;
pub mod rewrite;
pub mod sctp;
pub mod segment;
pub mod seq;
pub mod toa;
pub mod tunnel;
mod walk;

pub use any::AnyRewrite;
pub use direct::Direct;
pub use ends::{Deltas, End, Ends};
pub use error::RewriteError;
pub use macs::set_macs;
pub use plain::PlainEdit;
pub use rewrite::{Rewrite, RewriteV4, RewriteV6};
pub use seq::{SeqDeltas, SeqShift};
pub use tunnel::{Sending, Tunnel};
