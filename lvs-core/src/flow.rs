//! The tuple that a packet shows on the wire, and how its roles map onto a session.

use crate::addr::Family;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocols whose flows the director tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum L4Proto {
    /// Echo of ICMP or, over IPv6, of ICMPv6. The identifier is the port of who asks, the port of who answers is 0
    /// (RFC 5508 section 3.1): a request goes from the identifier to 0, its reply from 0 to the identifier.
    #[doc(alias = "ping")]
    Icmp = 1,
    /// Transmission Control Protocol.
    Tcp = 6,
    /// User Datagram Protocol.
    Udp = 17,
    /// Stream Control Transmission Protocol.
    Sctp = 132,
}

impl L4Proto {
    /// The number in the IP header; of ICMP that in IPv4.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// From the number in the IP header, of protocols that have ports there.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for L4Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Source and destination as an IPv4 packet shows them. Host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TupleV4 {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Transport protocol.
    pub proto: L4Proto,
}

/// Source and destination as an IPv6 packet shows them. Host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TupleV6 {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Transport protocol.
    pub proto: L4Proto,
}

/// Source and destination of a packet of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WireTuple {
    /// IPv4.
    V4(TupleV4),
    /// IPv6.
    V6(TupleV6),
}

impl WireTuple {
    /// From its parts; `None` when the families differ.
    #[must_use]
    pub const fn new(
        proto: L4Proto,
        src: IpAddr,
        sport: u16,
        dst: IpAddr,
        dport: u16,
    ) -> Option<Self> {
        match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                Some(Self::V4(TupleV4 { src: s.to_bits(), dst: d.to_bits(), sport, dport, proto }))
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                Some(Self::V6(TupleV6 { src: s.to_bits(), dst: d.to_bits(), sport, dport, proto }))
            }
            _ => None,
        }
    }

    /// IP version.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// Transport protocol.
    #[must_use]
    pub const fn proto(&self) -> L4Proto {
        match self {
            Self::V4(t) => t.proto,
            Self::V6(t) => t.proto,
        }
    }

    /// Source address.
    #[must_use]
    pub const fn src(&self) -> IpAddr {
        match self {
            Self::V4(t) => IpAddr::V4(Ipv4Addr::from_bits(t.src)),
            Self::V6(t) => IpAddr::V6(Ipv6Addr::from_bits(t.src)),
        }
    }

    /// Destination address.
    #[must_use]
    pub const fn dst(&self) -> IpAddr {
        match self {
            Self::V4(t) => IpAddr::V4(Ipv4Addr::from_bits(t.dst)),
            Self::V6(t) => IpAddr::V6(Ipv6Addr::from_bits(t.dst)),
        }
    }

    /// Source port.
    #[must_use]
    pub const fn sport(&self) -> u16 {
        match self {
            Self::V4(t) => t.sport,
            Self::V6(t) => t.sport,
        }
    }

    /// Destination port.
    #[must_use]
    pub const fn dport(&self) -> u16 {
        match self {
            Self::V4(t) => t.dport,
            Self::V6(t) => t.dport,
        }
    }

    /// The tuple of an answer: source and destination exchanged.
    #[must_use]
    pub const fn reverse(&self) -> Self {
        match *self {
            Self::V4(TupleV4 { src, dst, sport, dport, proto }) => {
                Self::V4(TupleV4 { src: dst, dst: src, sport: dport, dport: sport, proto })
            }
            Self::V6(TupleV6 { src, dst, sport, dport, proto }) => {
                Self::V6(TupleV6 { src: dst, dst: src, sport: dport, dport: sport, proto })
            }
        }
    }
}

impl fmt::Display for WireTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.proto())?;
        match self {
            Self::V4(_) => {
                write!(f, "{}:{} -> {}:{}", self.src(), self.sport(), self.dst(), self.dport())
            }
            Self::V6(_) => {
                write!(f, "[{}]:{} -> [{}]:{}", self.src(), self.sport(), self.dst(), self.dport())
            }
        }
    }
}

/// Which side a packet of a session comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client toward the server.
    Inbound,
    /// From the server toward the client.
    Return,
}
