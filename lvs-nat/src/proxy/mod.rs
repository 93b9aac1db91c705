//! The PROXY protocol, versions 1 and 2: the client's address in front of the byte stream.
//!
//! Follows "The PROXY protocol", versions 1 & 2 (haproxy.org, 2020/03/05). A header names both ends of
//! the client's connection: the client and the virtual service.
//!
//! | | version 1 | version 2 |
//! |---|---|---|
//! | form | one line of text, at most 107 bytes | 16 bytes, addresses, optional values (TLVs) |
//! | TCP over IPv4 / IPv6 | 32 to 56 / 34 to 104 bytes | 28 / 52 bytes |
//! | UDP | none | in front of the first datagram |
//!
//! [`encode`] and [`Header`] write, [`decode`] reads, [`policy`] decides what becomes of a header that a
//! client has sent itself, [`tlv`] reads and writes the values, [`stored`] is what a session keeps.
//!
//! # How a director uses it
//! 1. The client's SYN-ACK gets its MSS lowered by [`Header::len`]
//!    ([`options::lower_mss`](crate::options::lower_mss)), so that the first full segment has room.
//! 2. The first segment with payload or FIN at ISN + 1: [`policy::decide`] on its payload; the result
//!    becomes a [`StreamEdit`](crate::edit::StreamEdit) and a [`Stored`].
//! 3. That segment, and every later one until the edit has settled: [`edit::inbound`](crate::edit::inbound).
//!    Too full: [`edit::own::ahead`](crate::edit::own::ahead) with the header, then the segment without.
//! 4. For servers that speak first the director does not wait for 2: after the handshake it sends
//!    [`edit::own::write`](crate::edit::own::write) with the header until it is acknowledged.
//! 5. UDP: [`edit::splice`](fn@crate::edit::splice) at 0 on the first datagram of a session.

mod decode;
mod encode;
pub mod policy;
pub mod stored;
mod text;
pub mod tlv;

pub use decode::{Command, Decoded, Recognised, Transport, decode};
pub use encode::{Header, ProxyError, encode, reencode};
pub use stored::Stored;

/// Longest header of version 1 (section 2.1).
pub const V1_MAX: usize = 107;
/// Bytes of version 2 in front of the addresses.
pub const V2_FIXED: usize = 16;
/// First bytes of version 2.
pub const V2_SIGNATURE: [u8; 12] =
    [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

/// Which form a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Text.
    V1,
    /// Binary.
    V2,
}
