//! ARP for IPv4 over Ethernet (RFC 826): read, and write whole frames.

use super::error::{Fault, Layer, Malformed};
use super::ethernet::{self, ETHERTYPE_ARP, ETHERTYPE_IPV4};
use crate::addr::MacAddr;
use crate::io::Vlan;
use core::net::Ipv4Addr;
use zerocopy::byteorder::{BigEndian, U16};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const PACKET_LEN: usize = 28;

const HARDWARE_ETHERNET: u16 = 1;
const OFFSET_OPERATION: usize = 6;
const OFFSET_SENDER_MAC: usize = 8;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Fixed {
    hardware: U16<BigEndian>,
    protocol: U16<BigEndian>,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16<BigEndian>,
    sender_mac: [u8; 6],
    sender_ip: [u8; 4],
    target_mac: [u8; 6],
    target_ip: [u8; 4],
}

/// What an ARP packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ArpOperation {
    /// Who has the target address?
    Request = 1,
    /// The sender has the sender address.
    Reply = 2,
}

/// An ARP packet for IPv4 over Ethernet, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arp {
    /// Request or reply.
    pub operation: ArpOperation,
    /// Hardware address of the sender; never a group address in a parsed packet.
    pub sender_mac: MacAddr,
    /// Protocol address of the sender; unspecified in an address probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Hardware address of the target; meaningless in a request.
    pub target_mac: MacAddr,
    /// Protocol address of the target.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// Reads the packet behind an Ethernet header; bytes behind it are padding.
    ///
    /// # Errors
    /// `Truncated` below 28 bytes, `BadVersion` when it is not IPv4 over Ethernet or neither request
    /// nor reply, `BadField` when the sender claims a group address (RFC 1812 section 3.3.2).
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let bad = |fault, offset| Err(Malformed::new(Layer::Arp, fault, offset));
        let Ok((fixed, _padding)) = Fixed::ref_from_prefix(bytes) else {
            return bad(Fault::Truncated, 0);
        };
        let lengths = (fixed.hardware_len, fixed.protocol_len);
        let format = (fixed.hardware.get(), fixed.protocol.get(), lengths);
        if format != (HARDWARE_ETHERNET, ETHERTYPE_IPV4, (6, 4)) {
            return bad(Fault::BadVersion, 0);
        }
        let operation = match fixed.operation.get() {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            _ => return bad(Fault::BadVersion, OFFSET_OPERATION),
        };
        let sender_mac = MacAddr(fixed.sender_mac);
        if sender_mac.is_group() {
            return bad(Fault::BadField, OFFSET_SENDER_MAC);
        }
        Ok(Self {
            operation,
            sender_mac,
            sender_ip: fixed.sender_ip.into(),
            target_mac: MacAddr(fixed.target_mac),
            target_ip: fixed.target_ip.into(),
        })
    }

    /// The question who has `target`, asked by `sender`.
    #[must_use]
    pub const fn request(sender_mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        let target_mac = MacAddr::ZERO;
        Self { operation: ArpOperation::Request, sender_mac, sender_ip, target_mac, target_ip }
    }

    /// The answer to a request: `mac` has the address that was asked for.
    #[must_use]
    pub const fn reply_from(&self, mac: MacAddr) -> Self {
        Self {
            operation: ArpOperation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// Announces, unasked, that `mac` has `ip`: a gratuitous ARP request (RFC 5227 section 3).
    #[must_use]
    #[doc(alias = "GARP")]
    pub const fn announcement(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self::request(mac, ip, ip)
    }

    /// Whether the packet only announces the sender's own address.
    #[must_use]
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip
    }

    /// Writes a frame from the sender to `dst` and returns its length, 42 bytes or 46 with a tag.
    /// `None`, with nothing written, when `out` is too short. The frame is shorter than the minimum
    /// of Ethernet; devices pad.
    #[must_use]
    pub fn emit(&self, dst: MacAddr, vlan: Option<Vlan>, out: &mut [u8]) -> Option<usize> {
        let fixed = Fixed {
            hardware: HARDWARE_ETHERNET.into(),
            protocol: ETHERTYPE_IPV4.into(),
            hardware_len: 6,
            protocol_len: 4,
            operation: (self.operation as u16).into(),
            sender_mac: self.sender_mac.0,
            sender_ip: self.sender_ip.octets(),
            target_mac: self.target_mac.0,
            target_ip: self.target_ip.octets(),
        };
        ethernet::emit_with(dst, self.sender_mac, vlan, ETHERTYPE_ARP, fixed.as_bytes(), out)
    }
}
