//! The addresses of a lab, in either family or, with NAT64, in both.

use super::scenario::{
    CLIENT_IP, DIRECTOR_CLIENTS, DIRECTOR_SERVERS, LOCAL_ADDRESSES, SERVERS, VIP,
};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Two subnets: the clients' and the servers'.
pub(crate) struct Net {
    pub(crate) client: IpAddr,
    pub(crate) director_clients: IpAddr,
    pub(crate) director_servers: IpAddr,
    pub(crate) vip: SocketAddr,
    pub(crate) local_addresses: [IpAddr; 2],
    pub(crate) servers: [SocketAddr; 2],
}

/// The length of an address's subnet.
pub(crate) const fn subnet(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

/// The length that means the address alone.
pub(crate) const fn alone(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The client's address in the servers' subnet, where servers answer it past the director.
pub(crate) const CLIENT_PAST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

pub(crate) const V4: Net = Net {
    client: IpAddr::V4(CLIENT_IP),
    director_clients: IpAddr::V4(DIRECTOR_CLIENTS),
    director_servers: IpAddr::V4(DIRECTOR_SERVERS),
    vip: SocketAddr::V4(VIP),
    local_addresses: [IpAddr::V4(LOCAL_ADDRESSES[0]), IpAddr::V4(LOCAL_ADDRESSES[1])],
    servers: [SocketAddr::V4(SERVERS[0].address), SocketAddr::V4(SERVERS[1].address)],
};

const fn v6(subnet: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(subnet, 0, 0, 0, 0, 0, 0, host))
}

const fn at_v6(subnet: u16, host: u16, port: u16) -> SocketAddr {
    let address = Ipv6Addr::new(subnet, 0, 0, 0, 0, 0, 0, host);
    SocketAddr::V6(SocketAddrV6::new(address, port, 0, 0))
}

pub(crate) const V6: Net = Net {
    client: v6(0xfd00, 0x2),
    director_clients: v6(0xfd00, 0x1),
    director_servers: v6(0xfd01, 0x1),
    vip: at_v6(0xfd00, 0x80, 80),
    local_addresses: [v6(0xfd01, 0x100), v6(0xfd01, 0x101)],
    servers: [at_v6(0xfd01, 0x11, 8080), at_v6(0xfd01, 0x12, 8080)],
};

/// IPv6 clients, IPv4 servers.
pub(crate) const NAT64: Net = Net {
    client: V6.client,
    director_clients: V6.director_clients,
    director_servers: V4.director_servers,
    vip: V6.vip,
    local_addresses: V4.local_addresses,
    servers: V4.servers,
};

/// Where servers that have the virtual address themselves listen: their own address would do as well, but for the
/// port, which nobody translates.
pub(crate) fn at_vip_port(server: SocketAddrV4) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(*server.ip(), VIP.port()))
}
