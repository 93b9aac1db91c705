//! Packet views: a view that exists has been validated.
//!
//! (Shape agreed with the translation crates; the views live in the files beside this one.)

use crate::addr::Family;
use crate::flow::WireTuple;

/// Which header a fault was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Ethernet or a VLAN tag.
    Ethernet,
    /// ARP.
    Arp,
    /// IPv4 with its options.
    Ipv4,
    /// IPv6 with its extension headers.
    Ipv6,
    /// TCP with its options.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4.
    Icmpv4,
    /// ICMP for IPv6, neighbour discovery included.
    Icmpv6,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes end inside the header, or before the length it states.
    Truncated,
    /// A length field contradicts itself or another one.
    BadLength,
    /// The version, type or format is not the one expected.
    BadVersion,
    /// The header checksum is wrong.
    BadChecksum,
    /// An option is malformed.
    BadOption,
    /// A combination of fields that no sender may use.
    BadField,
    /// More extension headers than the walk allows.
    TooManyHeaders,
}

/// Why a frame was refused: which header, what, and at which byte of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed {
    /// The header.
    pub layer: Layer,
    /// The fault.
    pub fault: Fault,
    /// Offset of the header or field from the start of the bytes that were parsed.
    pub offset: u16,
}

/// Whether a packet is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// Whole.
    No,
    /// First fragment: the transport header is there.
    First,
    /// Later fragment: no transport header.
    Later,
}

/// What the transport header told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP: flags as in byte 13 of the header, sequence and acknowledgement number.
    Tcp {
        /// FIN 0x01, SYN 0x02, RST 0x04, PSH 0x08, ACK 0x10, URG 0x20, ECE 0x40, CWR 0x80.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Advertised window, unscaled.
        window: u16,
    },
    /// UDP.
    Udp,
    /// ICMP or ICMPv6: type and code.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A later fragment or a protocol that is not tracked: the number in the IP header.
    Other(u8),
}

/// Everything about one IP frame that the director asks for, found in one pass.
///
/// Offsets count from the start of the frame; `l3 <= l4 <= payload <= end` always holds and `payload`
/// lies inside the first contiguous part. The IP length bounds the payload: bytes behind `end` are
/// padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Headers {
    /// IP version.
    pub family: Family,
    /// Start of the IP header.
    pub l3: u16,
    /// Start of the transport header, behind IPv4 options or IPv6 extension headers.
    pub l4: u16,
    /// Start of the transport payload.
    pub payload: u16,
    /// End of the IP packet: `l3` plus the length that the IP header states.
    pub end: u32,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// The transport header.
    pub transport: Transport,
    /// Addresses and ports for TCP and UDP, unless it is a later fragment.
    pub tuple: Option<WireTuple>,
    /// Time to live or hop limit.
    pub ttl: u8,
}
