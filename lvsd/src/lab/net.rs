//! The addresses of a lab, in either family.

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
    /// Of both subnets.
    pub(crate) prefix: u8,
    /// Of one address.
    pub(crate) host_prefix: u8,
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
    prefix: 24,
    host_prefix: 32,
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
    prefix: 64,
    host_prefix: 128,
};

/// Where servers that have the virtual address themselves listen: their own address would do as well, but for the
/// port, which nobody translates.
pub(crate) fn at_vip_port(server: SocketAddrV4) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(*server.ip(), VIP.port()))
}
