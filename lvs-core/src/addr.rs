//! Addresses by role: the same four numbers mean different things on each side of a director, so
//! each role is a type of its own.
//!
//! ```text
//!   ClientAddr ──► VirtualAddr │ director │ LocalAddress ──► RealAddr
//! ```
//!
//! All integers are in host byte order unless a name says otherwise.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All ones.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// All zeros: "not known".
    pub const ZERO: Self = Self([0; 6]);

    /// Broadcast or multicast (the group bit is set).
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// An address that a host may have: neither group nor zero.
    #[must_use]
    pub fn is_host(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacParseError;

impl fmt::Display for MacParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an Ethernet address is six hexadecimal bytes with colons, as 02:00:00:00:00:01",
        )
    }
}
impl core::error::Error for MacParseError {}

impl core::str::FromStr for MacAddr {
    type Err = MacParseError;
    fn from_str(text: &str) -> Result<Self, MacParseError> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(MacParseError)?;
            if !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(MacParseError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacParseError)?;
        }
        if parts.next().is_some() { Err(MacParseError) } else { Ok(Self(bytes)) }
    }
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    #[must_use]
    pub const fn of(addr: &IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub SocketAddr);

        impl $name {
            /// From its parts.
            #[must_use]
            pub const fn new(ip: IpAddr, port: u16) -> Self {
                Self(SocketAddr::new(ip, port))
            }
            /// The address.
            #[must_use]
            pub const fn ip(&self) -> IpAddr {
                self.0.ip()
            }
            /// The port, host byte order.
            #[must_use]
            pub const fn port(&self) -> u16 {
                self.0.port()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

role! {
    /// Who connects: address and port that the client uses.
    #[doc(alias = "caddr")]
    ClientAddr
}
role! {
    /// What the client connects to: address and port of a virtual service.
    #[doc(alias = "vaddr")]
    #[doc(alias = "VIP")]
    VirtualAddr
}
role! {
    /// What the server sees as its peer in FullNAT: an address and port of the director.
    #[doc(alias = "laddr")]
    #[doc(alias = "LIP")]
    LocalAddress
}
role! {
    /// A server behind the director.
    #[doc(alias = "daddr")]
    #[doc(alias = "RIP")]
    RealAddr
}

/// An address range in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// A prefix with its host bits cleared; `None` when `len` exceeds the family's.
    #[must_use]
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        let addr = match addr {
            IpAddr::V4(v4) => {
                let mask = v4_mask(len)?;
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = v6_mask(len)?;
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Some(Self { addr, len })
    }

    /// The network address.
    #[must_use]
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The number of leading bits that count.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "the length of a prefix is not a count")]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// Whether the address lies inside; never across families.
    #[must_use]
    pub fn contains(&self, addr: &IpAddr) -> bool {
        Self::new(*addr, self.len).is_some_and(|of| of.addr == self.addr)
    }
}

const fn v4_mask(len: u8) -> Option<u32> {
    match len {
        0 => Some(0),
        1..=32 => Some(u32::MAX << (32 - len as u32)),
        _ => None,
    }
}

const fn v6_mask(len: u8) -> Option<u128> {
    match len {
        0 => Some(0),
        1..=128 => Some(u128::MAX << (128 - len as u32)),
        _ => None,
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// A source or destination that no packet on a wire may carry: unspecified, loopback, v4 broadcast
/// or class E, multicast as a source.
/// RFC 1812 section 5.3.7, RFC 4291 section 2.5.
#[must_use]
pub const fn is_martian_source(addr: &IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first == 0 || first == 127 || first >= 224
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_loopback() || v6.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_mac_address_reads_back_as_written_and_refuses_the_rest() {
        let mac: MacAddr = "02:00:aa:0B:cc:dd".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:aa:0b:cc:dd");
        for bad in
            ["", "02:00:aa:0b:cc", "02:00:aa:0b:cc:dd:ee", "2:0:a:b:c:d", "02:00:aa:0b:cc:+d"]
        {
            assert_eq!(bad.parse::<MacAddr>(), Err(MacParseError), "{bad}");
        }
    }

    #[test]
    fn a_prefix_contains_its_own_family_only() {
        let ten = Prefix::new("10.1.2.3".parse().unwrap(), 8).unwrap();
        assert_eq!(ten.to_string(), "10.0.0.0/8");
        assert!(ten.contains(&"10.255.0.1".parse().unwrap()));
        assert!(!ten.contains(&"11.0.0.1".parse().unwrap()));
        assert!(!ten.contains(&"::a00:1".parse().unwrap()));
        assert!(Prefix::new("::".parse().unwrap(), 0).unwrap().contains(&"::1".parse().unwrap()));
        assert_eq!(Prefix::new("10.0.0.0".parse().unwrap(), 33), None);
    }
}
