//! The ICMPv6 header (RFC 4443).

use super::error::{Fault, Layer, Malformed};

/// Bytes that every message has: type, code, checksum.
pub const HEADER_LEN: usize = 4;

/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Router solicitation (RFC 4861).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router advertisement (RFC 4861).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation (RFC 4861).
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement (RFC 4861).
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Redirect (RFC 4861).
pub const REDIRECT: u8 = 137;

/// An ICMPv6 message that has all the bytes that its type needs.
#[derive(Clone, Copy)]
pub struct Icmpv6<'a> {
    header: &'a [u8; HEADER_LEN],
    body: &'a [u8],
}

impl<'a> Icmpv6<'a> {
    /// Checks the length of a message; `bytes` is the payload of its IP packet. The checksum covers
    /// the whole message and is not verified here, nor are options of neighbour discovery (see
    /// [`super::ndp`]).
    ///
    /// # Errors
    /// `Truncated` below [`message_len`] of its type, or below 4 bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.split_first_chunk() {
            Some((header, body)) if bytes.len() >= message_len(header[0]) => {
                Ok(Self { header, body })
            }
            _ => Err(Malformed::new(Layer::Icmpv6, Fault::Truncated, 0)),
        }
    }

    /// Type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        let [kind, ..] = *self.header;
        kind
    }

    /// Code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        let [_, code, ..] = *self.header;
        code
    }

    /// The checksum, as in the packet.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        let [_, _, a, b] = *self.header;
        u16::from_be_bytes([a, b])
    }

    /// The four bytes behind the checksum, or zero where a message has none: MTU of "packet too
    /// big", pointer of "parameter problem", identifier and sequence number of an echo.
    #[must_use]
    pub fn word(&self) -> u32 {
        self.body.first_chunk().map_or(0, |word| u32::from_be_bytes(*word))
    }

    /// Identifier of an echo message.
    #[must_use]
    pub fn echo_id(&self) -> u16 {
        let [a, b, _, _] = self.word().to_be_bytes();
        u16::from_be_bytes([a, b])
    }

    /// Sequence number of an echo message.
    #[must_use]
    pub fn echo_seq(&self) -> u16 {
        let [_, _, a, b] = self.word().to_be_bytes();
        u16::from_be_bytes([a, b])
    }

    /// Whether the payload quotes the packet that caused the message (RFC 4443 section 2.1).
    #[must_use]
    pub const fn is_error(&self) -> bool {
        self.kind() < 128
    }

    /// What follows type, code and checksum.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// What follows the first eight bytes: echo data, or the quoted packet of an error.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.body.get(4..).unwrap_or_default()
    }
}

/// Fewest bytes that a message of this type has: 8 for errors and echo (RFC 4443), more for
/// neighbour discovery (RFC 4861 section 4), 4 where nothing is known.
#[must_use]
pub const fn message_len(kind: u8) -> usize {
    match kind {
        UNREACHABLE..=PARAMETER_PROBLEM | ECHO_REQUEST | ECHO_REPLY | ROUTER_SOLICITATION => 8,
        ROUTER_ADVERTISEMENT => 16,
        NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT => 24,
        REDIRECT => 40,
        _ => HEADER_LEN,
    }
}
