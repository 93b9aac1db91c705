//! What packets to servers travel in. Of use without an allocator, unlike what else services have.

/// What stands between the outer IP header and the packet on the way to a server of a
/// tunnel service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "IP_VS_CONN_F_TUNNEL_TYPE_IPIP")]
pub enum Encapsulation {
    /// Nothing: protocol 4 or 41 (RFC 2003, RFC 4213, RFC 2473).
    #[default]
    IpIp,
    /// Generic routing encapsulation without key and sequence number (RFC 2784).
    Gre {
        /// With a checksum over GRE header and packet; it costs a pass over the packet.
        checksum: bool,
    },
    /// Generic UDP encapsulation, variant 0 without flags (draft-ietf-intarea-gue).
    Gue {
        /// UDP port that the server listens on, usually 6080. Host byte order.
        dport: u16,
        /// With a UDP checksum; over IPv6 there is one in any case.
        checksum: bool,
    },
}
