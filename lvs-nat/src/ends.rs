//! The four ends of a session, and what exchanging them changes in checksums.

use core::net::IpAddr;
use lvs_core::addr::{ClientAddr, LocalAddress, RealAddr, VirtualAddr};
use lvs_core::checksum::Delta;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u128 {}
}

/// An address as a number in host byte order: `u32` for IPv4, `u128` for IPv6.
pub trait Address: Copy + Eq + core::fmt::Debug + sealed::Sealed {
    /// Adds the change from `old` to `new` to a checksum change.
    #[must_use]
    fn change(delta: Delta, old: Self, new: Self) -> Delta;
    /// From an address, if it is of this family.
    #[must_use]
    fn from_ip(ip: IpAddr) -> Option<Self>;
    /// Where an IP header holds the source address; the destination follows it.
    #[doc(hidden)]
    const SOURCE_AT: usize;
    /// Bytes of an address.
    #[doc(hidden)]
    const LEN: usize;
    /// Writes the address over the one at `at` and returns the change.
    #[doc(hidden)]
    fn put(self, header: &mut [u8], at: usize) -> Option<Delta>;
}

impl Address for u32 {
    fn change(delta: Delta, old: Self, new: Self) -> Delta {
        delta.u32(old, new)
    }
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(v4) => Some(v4.to_bits()),
            IpAddr::V6(_) => None,
        }
    }
    const SOURCE_AT: usize = 12;
    const LEN: usize = 4;
    fn put(self, header: &mut [u8], at: usize) -> Option<Delta> {
        let bytes = header.get_mut(at..)?.first_chunk_mut()?;
        let old = Self::from_be_bytes(*bytes);
        *bytes = self.to_be_bytes();
        Some(Self::change(Delta::ZERO, old, self))
    }
}

impl Address for u128 {
    fn change(delta: Delta, old: Self, new: Self) -> Delta {
        delta.u128(old, new)
    }
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V6(v6) => Some(v6.to_bits()),
            IpAddr::V4(_) => None,
        }
    }
    const SOURCE_AT: usize = 8;
    const LEN: usize = 16;
    fn put(self, header: &mut [u8], at: usize) -> Option<Delta> {
        let bytes = header.get_mut(at..)?.first_chunk_mut()?;
        let old = Self::from_be_bytes(*bytes);
        *bytes = self.to_be_bytes();
        Some(Self::change(Delta::ZERO, old, self))
    }
}

/// An address and a port. Host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End<A> {
    /// Address.
    pub addr: A,
    /// Port.
    pub port: u16,
}

impl<A: Address> End<A> {
    /// From its parts.
    pub const fn new(addr: A, port: u16) -> Self {
        Self { addr, port }
    }

    fn from_ip(ip: IpAddr, port: u16) -> Option<Self> {
        Some(Self::new(A::from_ip(ip)?, port))
    }
}

/// How the checksums change when an inbound packet of a session is translated; the return direction
/// makes the complement. Two numbers per session are all that has to be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deltas {
    /// Of the transport checksum: addresses and ports. Bits of a [`Delta`].
    pub l4: u16,
    /// Of the addresses alone: the IPv4 header checksum, and in both families a transport checksum
    /// field that is still partial. Bits of a [`Delta`].
    pub ip: u16,
}

impl Deltas {
    /// Those of the other direction.
    #[must_use]
    pub const fn complement(self) -> Self {
        // `Delta::complement` of a folded change is its bitwise complement.
        Self { l4: !self.l4, ip: !self.ip }
    }
}

/// The four ends of a session.
///
/// ```text
///   inbound   client → virtual    becomes   local   → server
///   return    server → local      becomes   virtual → client
/// ```
///
/// NAT is the case in which `local` is the client itself: the server sees who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends<A> {
    /// Who connects.
    pub client: End<A>,
    /// What the client connects to.
    pub virt: End<A>,
    /// What the server sees as its peer.
    pub local: End<A>,
    /// The server.
    pub server: End<A>,
}

impl<A: Address> Ends<A> {
    /// NAT: only the server's side of the tuple is translated.
    pub const fn nat(client: End<A>, virt: End<A>, server: End<A>) -> Self {
        Self { client, virt, local: client, server }
    }

    /// FullNAT: both sides are translated.
    pub const fn full_nat(client: End<A>, virt: End<A>, local: End<A>, server: End<A>) -> Self {
        Self { client, virt, local, server }
    }

    /// From addresses by role, without a local address for NAT; `None` when one of them is not of
    /// this family.
    #[must_use]
    pub fn from_roles(
        client: ClientAddr,
        virt: VirtualAddr,
        local: Option<LocalAddress>,
        server: RealAddr,
    ) -> Option<Self> {
        let client = End::from_ip(client.ip(), client.port())?;
        Some(Self {
            client,
            virt: End::from_ip(virt.ip(), virt.port())?,
            local: match local {
                Some(local) => End::from_ip(local.ip(), local.port())?,
                None => client,
            },
            server: End::from_ip(server.ip(), server.port())?,
        })
    }

    /// How translating an inbound packet changes its checksums. Computed once, when a session opens.
    #[must_use]
    pub fn deltas(&self) -> Deltas {
        let ip = A::change(Delta::ZERO, self.client.addr, self.local.addr);
        let ip = A::change(ip, self.virt.addr, self.server.addr);
        let l4 = ip.u16(self.client.port, self.local.port).u16(self.virt.port, self.server.port);
        Deltas { l4: l4.bits(), ip: ip.bits() }
    }
}
