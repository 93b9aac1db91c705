//! TCP options by type (RFC 9293 section 3.2, RFC 7323, RFC 2018).

use super::option;
use super::tcp::HEADER_LEN;

/// Maximum segment size.
pub const KIND_MSS: u8 = 2;
/// Window scale.
pub const KIND_WINDOW_SCALE: u8 = 3;
/// SACK permitted.
pub const KIND_SACK_PERMITTED: u8 = 4;
/// Selective acknowledgement.
pub const KIND_SACK: u8 = 5;
/// Timestamps.
pub const KIND_TIMESTAMPS: u8 = 8;

/// What an option says. Host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpOption<'a> {
    /// Largest segment the sender wants to receive, in bytes.
    Mss(u16),
    /// Shift count of the sender's window, as it stands: above 14 counts as 14 (RFC 7323
    /// section 2.3).
    WindowScale(u8),
    /// The sender takes selective acknowledgements.
    SackPermitted,
    /// Blocks that were received out of order.
    Sack(SackBlocks<'a>),
    /// RFC 7323.
    Timestamps {
        /// Clock of the sender.
        value: u32,
        /// Last value received from the other side.
        echo: u32,
    },
    /// Any other kind, such as a client address (TOA), and the kinds above with a length that is
    /// not theirs, which receivers ignore.
    Other {
        /// Kind.
        kind: u8,
        /// What follows kind and length.
        value: &'a [u8],
    },
}

/// One option and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptionAt<'a> {
    /// What it says.
    pub option: TcpOption<'a>,
    /// All its bytes, kind and length first.
    pub bytes: &'a [u8],
    /// Where it starts, from the start of the TCP header.
    pub offset: usize,
}

/// Iterates over the options of a TCP header, padding left out; made by
/// [`Tcp::options`](super::Tcp::options).
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions<'a>(option::Walk<'a>);

impl<'a> TcpOptions<'a> {
    pub(super) const fn new(options: &'a [u8]) -> Self {
        Self(option::Walk::new(options))
    }
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = TcpOptionAt<'a>;

    fn next(&mut self) -> Option<TcpOptionAt<'a>> {
        let (offset, bytes) = self.0.next()?;
        let option = TcpOption::read(bytes)?;
        Some(TcpOptionAt { option, bytes, offset: offset.saturating_add(HEADER_LEN) })
    }
}

impl<'a> TcpOption<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        Some(match *bytes {
            [KIND_MSS, _, a, b] => Self::Mss(u16::from_be_bytes([a, b])),
            [KIND_WINDOW_SCALE, _, shift] => Self::WindowScale(shift),
            [KIND_SACK_PERMITTED, _] => Self::SackPermitted,
            [KIND_TIMESTAMPS, _, a, b, c, d, e, f, g, h] => Self::Timestamps {
                value: u32::from_be_bytes([a, b, c, d]),
                echo: u32::from_be_bytes([e, f, g, h]),
            },
            [KIND_SACK, _, ref value @ ..]
                if !value.is_empty() && value.len().is_multiple_of(SACK_BLOCK_LEN) =>
            {
                Self::Sack(SackBlocks(value))
            }
            [kind, _, ref value @ ..] => Self::Other { kind, value },
            _ => return None,
        })
    }
}

const SACK_BLOCK_LEN: usize = 8;

/// Blocks of a SACK option, one to four: iterates over (left edge, right edge), where the right edge
/// is the first sequence number that is missing again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SackBlocks<'a>(&'a [u8]);

impl Iterator for SackBlocks<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let (&[a, b, c, d, e, f, g, h], rest) = self.0.split_first_chunk::<SACK_BLOCK_LEN>()?;
        self.0 = rest;
        Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
    }
}
