//! Frames with a neighbour solicitation or advertisement (RFC 4861), written whole.

use super::PROTOCOL_ICMPV6;
use super::ethernet::{self, ETHERTYPE_IPV6};
use super::icmpv6::{NEIGHBOUR_SOLICITATION, message_len};
use super::ipv6::HEADER_LEN as IP_HEADER_LEN;
use super::ndp::{
    ALL_NODES, FLAG_OVERRIDE, FLAG_ROUTER, FLAG_SOLICITED, HOP_LIMIT, MESSAGE_LEN, NdpKind,
    OPTION_SOURCE, OPTION_TARGET, multicast_mac, solicited_node,
};
use crate::addr::MacAddr;
use crate::checksum::{AddrPair, Sum};
use crate::io::Vlan;
use core::net::Ipv6Addr;
use zerocopy::byteorder::{BigEndian, U16, U32};
use zerocopy::{Immutable, IntoBytes, KnownLayout, Unaligned};

/// A frame with a neighbour solicitation or advertisement, to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpFrame {
    /// Question or answer.
    pub kind: NdpKind,
    /// Ethernet source, also in the link-layer option.
    pub src_mac: MacAddr,
    /// Ethernet destination.
    pub dst_mac: MacAddr,
    /// Source of the packet.
    pub src: Ipv6Addr,
    /// Destination of the packet.
    pub dst: Ipv6Addr,
    /// The address that is asked for or advertised.
    pub target: Ipv6Addr,
    /// Router flag of an advertisement.
    pub router: bool,
    /// Solicited flag of an advertisement.
    pub solicited: bool,
    /// Override flag of an advertisement.
    pub override_known: bool,
}

#[derive(IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Packet {
    version_class_flow: U32<BigEndian>,
    payload_len: U16<BigEndian>,
    next_header: u8,
    hop_limit: u8,
    src: [u8; 16],
    dst: [u8; 16],
    kind: u8,
    code: u8,
    checksum: U16<BigEndian>,
    flags: u8,
    reserved: [u8; 3],
    target: [u8; 16],
    option_kind: u8,
    option_len: u8,
    option_mac: [u8; 6],
}

impl NdpFrame {
    /// Asks the link who has `target`. An unspecified `src` asks whether the target is in use
    /// (RFC 4862 section 5.4.2); the message then has no option.
    #[must_use]
    pub const fn solicitation(src_mac: MacAddr, src: Ipv6Addr, target: Ipv6Addr) -> Self {
        let dst = solicited_node(target);
        Self {
            kind: NdpKind::Solicitation,
            src_mac,
            dst_mac: multicast_mac(dst),
            src,
            dst,
            target,
            router: false,
            solicited: false,
            override_known: false,
        }
    }

    /// Asks a neighbour whose hardware address is known whether it is still there (RFC 4861
    /// section 7.3.3).
    #[must_use]
    pub const fn probe(
        src_mac: MacAddr,
        src: Ipv6Addr,
        dst_mac: MacAddr,
        target: Ipv6Addr,
    ) -> Self {
        let question = Self::solicitation(src_mac, src, target);
        Self { dst_mac, dst: target, ..question }
    }

    /// Announces, unasked, that `mac` has `addr` (RFC 4861 section 7.2.6).
    #[must_use]
    pub const fn announcement(mac: MacAddr, addr: Ipv6Addr) -> Self {
        Self {
            kind: NdpKind::Advertisement,
            src_mac: mac,
            dst_mac: multicast_mac(ALL_NODES),
            src: addr,
            dst: ALL_NODES,
            target: addr,
            router: false,
            solicited: false,
            override_known: true,
        }
    }

    /// Writes the frame and returns its length: 86 bytes, 8 fewer without an option, 4 more with a
    /// tag. `None`, with nothing written, when `out` is too short.
    #[must_use]
    pub fn emit(&self, vlan: Option<Vlan>, out: &mut [u8]) -> Option<usize> {
        let mut packet = self.packet();
        let bytes = packet.as_bytes();
        let packet_len = IP_HEADER_LEN.saturating_add(usize::from(packet.payload_len.get()));
        let message = Sum::ZERO.bytes(bytes.get(IP_HEADER_LEN..packet_len)?);
        let pair = AddrPair::V6 { src: self.src.to_bits(), dst: self.dst.to_bits() };
        let len = u32::from(packet.payload_len.get());
        packet.checksum = pair.pseudo(PROTOCOL_ICMPV6, len).sum(message).checksum().into();
        let bytes = packet.as_bytes().get(..packet_len)?;
        ethernet::emit_with(self.dst_mac, self.src_mac, vlan, ETHERTYPE_IPV6, bytes, out)
    }

    fn packet(&self) -> Packet {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let advertisement = self.kind == NdpKind::Advertisement;
        let flags = flag(self.router, FLAG_ROUTER)
            | flag(self.solicited, FLAG_SOLICITED)
            | flag(self.override_known, FLAG_OVERRIDE);
        let bare = !advertisement && self.src.is_unspecified();
        Packet {
            version_class_flow: (6 << 28).into(),
            payload_len: if bare { 24 } else { 32 }.into(),
            next_header: PROTOCOL_ICMPV6,
            hop_limit: HOP_LIMIT,
            src: self.src.octets(),
            dst: self.dst.octets(),
            kind: self.kind as u8,
            code: 0,
            checksum: 0.into(),
            flags: if advertisement { flags } else { 0 },
            reserved: [0; 3],
            target: self.target.octets(),
            option_kind: if advertisement { OPTION_TARGET } else { OPTION_SOURCE },
            option_len: 1,
            option_mac: self.src_mac.0,
        }
    }
}

const _: () = assert!(
    size_of::<Packet>() == IP_HEADER_LEN + MESSAGE_LEN + 8
        && message_len(NEIGHBOUR_SOLICITATION) == MESSAGE_LEN
);
