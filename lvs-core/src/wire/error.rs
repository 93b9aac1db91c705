//! Why bytes were refused: which header, which fault, where.

use core::fmt;

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

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "Ethernet",
            Self::Arp => "ARP",
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmpv4 => "ICMP",
            Self::Icmpv6 => "ICMPv6",
        })
    }
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
    /// More extension headers or tags than the walk allows.
    TooManyHeaders,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated",
            Self::BadLength => "bad length",
            Self::BadVersion => "bad version or type",
            Self::BadChecksum => "bad header checksum",
            Self::BadOption => "bad option",
            Self::BadField => "forbidden field value",
            Self::TooManyHeaders => "too many headers",
        })
    }
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

impl Malformed {
    /// A fault at `offset`; an offset past 65535 reads 65535.
    pub(crate) fn new(layer: Layer, fault: Fault, offset: usize) -> Self {
        Self { layer, fault, offset: u16::try_from(offset).unwrap_or(u16::MAX) }
    }

    /// The same fault seen from `base` bytes further in front.
    #[must_use]
    pub(crate) fn behind(self, base: usize) -> Self {
        Self::new(self.layer, self.fault, base.saturating_add(usize::from(self.offset)))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} header: {} at byte {}", self.layer, self.fault, self.offset)
    }
}

impl core::error::Error for Malformed {}
