//! The ICMP header (RFC 792).

use super::error::{Fault, Layer, Malformed};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Redirect.
pub const REDIRECT: u8 = 5;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// An ICMP message with a whole header.
#[derive(Clone, Copy)]
pub struct Icmpv4<'a> {
    header: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Icmpv4<'a> {
    /// Checks the header of a message; `bytes` is the payload of its IP packet. The checksum covers
    /// the whole message and is not verified here.
    ///
    /// # Errors
    /// `Truncated` below 8 bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.split_first_chunk() {
            Some((header, payload)) => Ok(Self { header, payload }),
            None => Err(Malformed::new(Layer::Icmpv4, Fault::Truncated, 0)),
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
        let [_, _, a, b, ..] = *self.header;
        u16::from_be_bytes([a, b])
    }

    /// Identifier of an echo message.
    #[must_use]
    pub const fn echo_id(&self) -> u16 {
        let [_, _, _, _, a, b, _, _] = *self.header;
        u16::from_be_bytes([a, b])
    }

    /// Sequence number of an echo message; next-hop MTU of "fragmentation needed" (RFC 1191).
    #[must_use]
    pub const fn echo_seq(&self) -> u16 {
        let [.., a, b] = *self.header;
        u16::from_be_bytes([a, b])
    }

    /// Whether the payload quotes the packet that caused the message.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self.kind(), UNREACHABLE | 4 | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    /// What follows the header: echo data, or the quoted packet of an error.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}
