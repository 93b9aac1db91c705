//! The TCP header (RFC 9293 section 3.1).

use super::error::{Fault, Layer, Malformed};
use super::option;
use super::tcp_option::TcpOptions;
use zerocopy::byteorder::{BigEndian, U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgement number counts.
pub const ACK: u8 = 0x10;
/// The urgent pointer counts.
pub const URG: u8 = 0x20;
/// ECN echo (RFC 3168).
pub const ECE: u8 = 0x40;
/// Congestion window reduced (RFC 3168).
pub const CWR: u8 = 0x80;

const OFFSET_DATA_OFFSET: usize = 12;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Fixed {
    sport: U16<BigEndian>,
    dport: U16<BigEndian>,
    seq: U32<BigEndian>,
    ack: U32<BigEndian>,
    data_offset: u8,
    flags: u8,
    window: U16<BigEndian>,
    checksum: U16<BigEndian>,
    urgent: U16<BigEndian>,
}

/// A TCP segment whose header and options are in order. Which flags make sense together is not
/// asked here.
#[derive(Clone, Copy)]
pub struct Tcp<'a> {
    fixed: &'a Fixed,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// Checks the header of a segment. `bytes` is the payload of its IP packet, or the first
    /// contiguous part of it with at least the whole header.
    ///
    /// # Errors
    /// `Truncated` when the bytes end inside the header or its options, `BadLength` when the data
    /// offset is below 5, `BadOption` when an option's length is below 2 or past the header.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Ok((fixed, rest)) = Fixed::ref_from_prefix(bytes) else {
            return bad(Fault::Truncated, 0);
        };
        let header_len = usize::from(fixed.data_offset >> 4) * 4;
        let Some(options_len) = header_len.checked_sub(HEADER_LEN) else {
            return bad(Fault::BadLength, OFFSET_DATA_OFFSET);
        };
        let Some((options, payload)) = rest.split_at_checked(options_len) else {
            return bad(Fault::Truncated, OFFSET_DATA_OFFSET);
        };
        if !options.is_empty() && !is_plain_timestamp(options) {
            check_options(options)?;
        }
        Ok(Self { fixed, options, payload })
    }

    /// Source port.
    #[must_use]
    pub const fn sport(&self) -> u16 {
        self.fixed.sport.get()
    }

    /// Destination port.
    #[must_use]
    pub const fn dport(&self) -> u16 {
        self.fixed.dport.get()
    }

    /// Sequence number of the first payload byte, or of the SYN.
    #[must_use]
    pub const fn seq(&self) -> u32 {
        self.fixed.seq.get()
    }

    /// Next sequence number expected from the other side, when [`ACK`] is set.
    #[must_use]
    pub const fn ack(&self) -> u32 {
        self.fixed.ack.get()
    }

    /// All eight flags: [`FIN`] to [`CWR`].
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.fixed.flags
    }

    /// Advertised window, unscaled.
    #[must_use]
    pub const fn window(&self) -> u16 {
        self.fixed.window.get()
    }

    /// The checksum, as in the packet.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        self.fixed.checksum.get()
    }

    /// Urgent pointer, when [`URG`] is set.
    #[must_use]
    pub const fn urgent(&self) -> u16 {
        self.fixed.urgent.get()
    }

    /// Bytes of the header with its options: 20 to 60.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN.saturating_add(self.options.len())
    }

    /// The option bytes as they are, padding included: 0 to 40.
    #[must_use]
    pub const fn option_bytes(&self) -> &'a [u8] {
        self.options
    }

    /// The options, padding left out.
    #[must_use]
    pub const fn options(&self) -> TcpOptions<'a> {
        TcpOptions::new(self.options)
    }

    /// The payload, as far as it lies in the bytes that were parsed.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

fn bad<T>(fault: Fault, offset: usize) -> Result<T, Malformed> {
    Err(Malformed::new(Layer::Tcp, fault, offset))
}

/// The option list of nearly every segment of an open connection: two NOPs and a timestamp
/// (RFC 7323 appendix A). Known to be in order without a walk.
#[inline]
fn is_plain_timestamp(options: &[u8]) -> bool {
    options.len() == 12 && options.first_chunk() == Some(&[option::NOP, option::NOP, 8, 10])
}

fn check_options(options: &[u8]) -> Result<(), Malformed> {
    match option::first_bad(options) {
        Some(at) => bad(Fault::BadOption, at.saturating_add(HEADER_LEN)),
        None => Ok(()),
    }
}
