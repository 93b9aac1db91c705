//! Who talks to whom.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use proptest::prelude::*;

/// Source and destination of one family, both addresses that a host may have, ports not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Source.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
}

impl Flow {
    /// The way back.
    #[must_use]
    pub const fn reverse(self) -> Self {
        Self { src: self.dst, dst: self.src }
    }

    /// Whether it is IPv6.
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        self.dst.is_ipv6()
    }
}

/// A unicast IPv4 address that may appear on a wire: not zero, loopback, multicast or class E.
pub fn client_v4() -> impl Strategy<Value = Ipv4Addr> {
    let any = (1u8..=223, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| [a, b, c, d]);
    let any = any.prop_map(|mut octets| {
        octets[0] = if octets[0] == 127 { 126 } else { octets[0] };
        Ipv4Addr::from(octets)
    });
    prop_oneof![
        2 => (1u8..=254).prop_map(|n| Ipv4Addr::new(10, 0, 0, n)),
        1 => any,
    ]
}

/// A global unicast or unique local IPv6 address.
pub fn client_v6() -> impl Strategy<Value = Ipv6Addr> {
    let global = any::<u128>().prop_map(|bits| Ipv6Addr::from(bits >> 3 | 1 << 125));
    let local = any::<u128>().prop_map(|bits| Ipv6Addr::from(bits >> 8 | 0xfd << 120));
    prop_oneof![
        2 => (1u16..=999).prop_map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)),
        1 => global,
        1 => local,
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![2 => 1u16.., 1 => Just(80), 1 => Just(443)]
}

fn pair<A: Into<IpAddr> + core::fmt::Debug>(
    address: impl Strategy<Value = A> + Clone,
) -> impl Strategy<Value = Flow> {
    (address.clone(), port(), address, port()).prop_map(|(src, sport, dst, dport)| Flow {
        src: SocketAddr::new(src.into(), sport),
        dst: SocketAddr::new(dst.into(), dport),
    })
}

/// An IPv4 flow.
pub fn flow_v4() -> impl Strategy<Value = Flow> {
    pair(client_v4().boxed())
}

/// An IPv6 flow.
pub fn flow_v6() -> impl Strategy<Value = Flow> {
    pair(client_v6().boxed())
}

/// A flow of either family.
pub fn flow() -> impl Strategy<Value = Flow> {
    prop_oneof![flow_v4(), flow_v6()]
}
