//! SCTP (RFC 9260) through a balancer: ports, CRC32c, the chunks that matter to a session, its states.
//!
//! What NAT may do with SCTP is less than with TCP: an association can have several addresses (RFC 9260
//! section 6.4), which travel inside of INIT and INIT-ACK and are not translated here. Single-homed
//! associations pass; [`Event::several_addresses`] tells a director that one announces more.
//!
//! ```text
//!   source port 2 │ destination port 2 │ verification tag 4 │ CRC32c 4 (low byte first) │ chunks
//! ```
//!
//! # The checksum
//! It covers the SCTP packet alone, no addresses. [`rewrite`](fn@rewrite) follows the change of ports by
//! difference ([`crc32c::Change`](crate::crc32c::Change)), so a wrong one in is a wrong one out, without
//! reading the payload, also where that lies in later parts of a buffer. States of the field as the
//! `Lane` says them are about TCP and UDP; for SCTP:
//!
//! | state | the field |
//! |---|---|
//! | `Unknown`, `Good`, `Bad` | is followed by difference |
//! | `Partial` | holds nothing yet: ports change, and [`complete`] fills it in, since what transmitters complete is the Internet checksum |
//!
//! # Sessions
//! `Headers` has no tuple for SCTP: [`ports`] reads them. [`Event::of`] says what a packet means,
//! [`State::next`] what becomes of the session, [`Tags::accept`] whether the packet belongs to the
//! association. A session stores the state (4 bits) and the two tags (8 bytes).

mod chunk;
mod rewrite;
mod state;

pub use chunk::{Chunk, Chunks, Event, kind};
pub use rewrite::{complete, rewrite, verify};
pub use state::{State, Tags};

/// Bytes of the common header.
pub const HEADER_LEN: usize = 12;
/// SCTP in the protocol field of IPv4 or as an IPv6 next header.
pub const PROTOCOL: u8 = 132;

/// Source and destination port of a packet that starts with the common header; `None` when it is too
/// short. A port of zero is nobody's (RFC 9260 section 3.1).
#[must_use]
pub fn ports(packet: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d, ..] = *packet.first_chunk::<HEADER_LEN>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// The verification tag of a packet.
#[must_use]
pub fn tag(packet: &[u8]) -> Option<u32> {
    let [_, _, _, _, a, b, c, d, ..] = *packet.first_chunk::<HEADER_LEN>()?;
    Some(u32::from_be_bytes([a, b, c, d]))
}
