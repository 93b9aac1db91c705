//! The fixed headers as structures to edit in place, and the way from a parsed frame to them.

use crate::error::RewriteError;
use lvs_core::checksum::Delta;
use lvs_core::io::L4Csum;
use lvs_core::wire::{Headers, Transport};
use zerocopy::byteorder::{BigEndian, U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a TCP header without options.
pub(crate) const TCP_FIXED: usize = 20;

/// IPv4 header without options (RFC 791 section 3.1).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Ipv4Fixed {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_len: U16<BigEndian>,
    pub(crate) id: U16<BigEndian>,
    pub(crate) fragment: U16<BigEndian>,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: U16<BigEndian>,
    pub(crate) src: U32<BigEndian>,
    pub(crate) dst: U32<BigEndian>,
}

/// IPv6 header (RFC 8200 section 3).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Ipv6Fixed {
    pub(crate) version_class_flow: U32<BigEndian>,
    pub(crate) payload_len: U16<BigEndian>,
    pub(crate) next: u8,
    pub(crate) hop_limit: u8,
    pub(crate) src: U128<BigEndian>,
    pub(crate) dst: U128<BigEndian>,
}

/// TCP header without options (RFC 9293 section 3.1).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct TcpFixed {
    pub(crate) sport: U16<BigEndian>,
    pub(crate) dport: U16<BigEndian>,
    pub(crate) seq: U32<BigEndian>,
    pub(crate) ack: U32<BigEndian>,
    pub(crate) data_offset: u8,
    pub(crate) flags: u8,
    window: U16<BigEndian>,
    pub(crate) checksum: U16<BigEndian>,
    pub(crate) urgent: U16<BigEndian>,
}

/// UDP header (RFC 768).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct UdpFixed {
    pub(crate) sport: U16<BigEndian>,
    pub(crate) dport: U16<BigEndian>,
    pub(crate) length: U16<BigEndian>,
    pub(crate) checksum: U16<BigEndian>,
}

impl TcpFixed {
    /// Makes the checksum follow an edit that the pseudo-header does not cover. Whoever completes a
    /// partial field sums such bytes himself.
    pub(crate) fn follow(&mut self, csum: L4Csum, delta: Delta) {
        if csum != L4Csum::Partial {
            self.checksum.set(delta.apply(self.checksum.get()));
        }
    }
}

/// The TCP header of a frame and its option bytes.
pub(crate) fn tcp_mut<'a>(
    frame: &'a mut [u8],
    headers: &Headers,
) -> Result<(&'a mut TcpFixed, &'a mut [u8]), RewriteError> {
    if !matches!(headers.transport, Transport::Tcp { .. }) {
        return Err(RewriteError::Unsupported);
    }
    let header = frame
        .get_mut(usize::from(headers.l4)..usize::from(headers.payload))
        .ok_or(RewriteError::Mismatch)?;
    TcpFixed::mut_from_prefix(header).map_err(|_| RewriteError::Mismatch)
}
