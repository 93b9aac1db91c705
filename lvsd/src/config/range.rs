//! Ranges of addresses and of ports, as pools of local addresses have them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use lvs_core::addr::Family;

/// Addresses from the first to the last, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// `None` when the ends are of two families or in the wrong order.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (Family::of(&first) == Family::of(&last) && first <= last).then_some(Self { first, last })
    }

    /// The first address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub const fn last(&self) -> IpAddr {
        self.last
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u128 {
        let (first, last) = self.bits();
        (last - first).saturating_add(1)
    }

    /// Whether the address is one of them.
    #[must_use]
    pub fn contains(&self, ip: &IpAddr) -> bool {
        Family::of(ip) == Family::of(&self.first) && (self.first..=self.last).contains(ip)
    }

    /// Whether two ranges share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        Family::of(&self.first) == Family::of(&other.first)
            && self.first <= other.last
            && other.first <= self.last
    }

    /// Each address, in order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let family = Family::of(&self.first);
        let (first, last) = self.bits();
        (first..=last).map(move |bits| match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        })
    }

    fn bits(&self) -> (u128, u128) {
        let bits = |ip| match ip {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        (bits(self.first), bits(self.last))
    }
}

impl core::fmt::Display for AddressRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Ports from the first to the last, both included, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports that a pool uses when it names none.
    pub const DEFAULT: Self = Self { first: 1025, last: u16::MAX };

    /// `None` when the first is zero or behind the last.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last { None } else { Some(Self { first, last }) }
    }

    /// The first port.
    #[must_use]
    pub const fn first(&self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub const fn last(&self) -> u16 {
        self.last
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }
}

impl core::fmt::Display for PortRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}
