//! NAT64: IPv6 clients, IPv4 servers (RFC 7915), in place.
//!
//! ```text
//!   inbound   IPv6 client → IPv6 virtual    becomes   IPv4 local → IPv4 server      [`v6_to_v4`]
//!   return    IPv4 server → IPv4 local      becomes   IPv6 virtual → IPv6 client    [`v4_to_v6`]
//! ```
//!
//! Addresses and ports come from the session; none is embedded in another (RFC 6052 is not used). The
//! transport checksum follows by difference, so a wrong one in is a wrong one out; ICMP errors, whose
//! message is built anew, are verified first. Sequence numbers are moved before or after by
//! [`SeqShift::apply`](crate::SeqShift::apply), as within one family.
//!
//! | | IPv6 to IPv4 | IPv4 to IPv6 |
//! |---|---|---|
//! | length | 20 bytes less, and extension headers | 20 more, a fragment 28 |
//! | traffic class, type of service | copied | copied |
//! | time to live | one less if asked for, never below 1 | the same |
//! | whole packet | DF if larger than 1260 bytes, identification of the caller's | no fragment header |
//! | fragment | offset and identification (lower half) kept | fragment header |
//! | extension headers, options | hop-by-hop, destination, used-up routing left out; AH refused | left out; an open source route refused |
//! | UDP checksum of zero | refused: it says damage | computed, or refused, by policy; of a fragment refused |
//! | echo | 128/129 to 8/0 | 8/0 to 128/129 |
//! | ICMP errors | [`error_to_v4`] | [`error_to_v6`] |

mod error;
mod header;
mod map;
mod packet;

pub use error::{Links, Quote, error_to_v4, error_to_v6};
pub use map::{Mapped, Word, icmp_to_v4, icmp_to_v6, mtu_to_v4, mtu_to_v6};
pub use packet::{Nat64Error, To4, To6, v4_to_v6, v6_to_v4};
