//! Packet views: a view that exists has been validated.
//!
//! [`Headers::parse`] reads a whole frame in one pass and is all that the packet path needs. Each
//! header also has a view of its own, one file each, made only by its `parse`: afterwards every
//! accessor is infallible and cheap. Views borrow the bytes, so nothing can change under them.
//!
//! ```text
//!  Ethernet ─ 0..2 VLAN tags ─┬─ IPv4 + options ───────────┬─ TCP + options
//!                             ├─ IPv6 + extension headers ─┼─ UDP
//!                             ├─ ARP                       └─ ICMP, ICMPv6 ─ neighbour discovery
//!                             └─ other
//! ```
//!
//! # Contract
//! - Nothing here panics, allocates or reads outside the given bytes, whatever the bytes are.
//! - All integers are in host byte order.
//! - `parse` of a view gets the bytes from its own header on; `Malformed::offset` counts from there.
//! - Functions that write packets take the caller's buffer, return the length, and write nothing
//!   when it is too short.

pub mod arp;
pub mod echo;
mod error;
pub mod ethernet;
mod headers;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv4_option;
pub mod ipv6;
pub mod ipv6_ext;
pub mod ndp;
mod ndp_frame;
mod option;
mod pretty;
mod quick;
pub mod tcp;
pub mod tcp_option;
pub mod udp;
pub mod vlan;

pub use arp::{Arp, ArpOperation};
pub use error::{Fault, Layer, Malformed};
pub use ethernet::Ethernet;
pub use headers::{Fragment, Headers, Parsed, Transport};
pub use icmpv4::Icmpv4;
pub use icmpv6::Icmpv6;
pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use ndp::{Ndp, NdpFrame, NdpKind};
pub use pretty::Pretty;
pub use quick::{Ordinary, OwnMac, QUICK_V4, QUICK_V6, QuickTcp};
pub use tcp::Tcp;
pub use tcp_option::{TcpOption, TcpOptionAt, TcpOptions};
pub use udp::Udp;

/// ICMP in the protocol field of IPv4.
pub const PROTOCOL_ICMP: u8 = 1;
/// TCP in the protocol field of IPv4 or as an IPv6 next header.
pub const PROTOCOL_TCP: u8 = 6;
/// UDP in the protocol field of IPv4 or as an IPv6 next header.
pub const PROTOCOL_UDP: u8 = 17;
/// ICMPv6 as an IPv6 next header.
pub const PROTOCOL_ICMPV6: u8 = 58;
