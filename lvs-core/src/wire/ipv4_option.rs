//! Options of an IPv4 header that decide what becomes of the packet.

use super::option::Walk;

/// Loose source and record route (RFC 791 section 3.1).
const LOOSE: u8 = 131;
/// Strict source and record route.
const STRICT: u8 = 137;

/// Whether the sender prescribes the way of the packet. Such packets get around filters, and nobody forwards them
/// any more (RFC 7126 sections 4.3 and 4.4; Linux `accept_source_route` is off for routers as for hosts).
///
/// `options` are the bytes behind the fixed header; [`Headers::parse`](super::Headers::parse) has found them in order.
///
/// ```
/// use lvs_core::wire::ipv4_option::is_source_routed;
/// assert!(is_source_routed(&[1, 131, 7, 4, 10, 0, 0, 1]));
/// assert!(!is_source_routed(&[148, 4, 0, 0]), "router alert");
/// assert!(!is_source_routed(&[0, 131, 7, 4]), "behind the end");
/// ```
#[must_use]
#[doc(alias = "ip_options_rcv_srr")]
pub fn is_source_routed(options: &[u8]) -> bool {
    Walk::new(options).any(|(_, option)| matches!(option, [LOOSE | STRICT, ..]))
}
