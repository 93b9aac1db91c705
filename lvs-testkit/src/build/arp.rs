//! ARP over Ethernet (RFC 826).

use core::net::Ipv4Addr;
use lvs_core::addr::MacAddr;

/// An ARP packet; every field may be set to anything.
///
/// ```
/// use lvs_core::addr::MacAddr;
/// use lvs_testkit::build::{Arp, arp_request};
/// let who_has = arp_request(MacAddr([2, 0, 0, 0, 0, 9]), [10, 0, 0, 9].into(), [10, 0, 0, 1].into());
/// assert_eq!(who_has.build().len(), 42);
/// let odd = Arp { hardware_len: 5, ..who_has }.build();
/// assert_eq!(odd[18], 5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Ethernet destination.
    pub dst_mac: MacAddr,
    /// Ethernet source.
    pub src_mac: MacAddr,
    /// VLAN id in the bytes.
    pub vlan: Option<u16>,
    /// Hardware type: 1.
    pub hardware: u16,
    /// Protocol type: 0x0800.
    pub protocol: u16,
    /// Hardware address length: 6.
    pub hardware_len: u8,
    /// Protocol address length: 4.
    pub protocol_len: u8,
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: MacAddr,
    /// Sender protocol address.
    pub sender: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: MacAddr,
    /// Target protocol address.
    pub target: Ipv4Addr,
    /// Bytes of padding.
    pub pad: usize,
}

/// "Who has `target`? Tell `sender`", broadcast.
#[must_use]
pub fn arp_request(sender_mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Arp {
    Arp {
        dst_mac: MacAddr::BROADCAST,
        src_mac: sender_mac,
        vlan: None,
        hardware: 1,
        protocol: 0x0800,
        hardware_len: 6,
        protocol_len: 4,
        operation: 1,
        sender_mac,
        sender,
        target_mac: MacAddr::ZERO,
        target,
        pad: 0,
    }
}

/// "`sender` is at `sender_mac`", to the one who asked.
#[must_use]
pub fn arp_reply(
    sender_mac: MacAddr,
    sender: Ipv4Addr,
    target_mac: MacAddr,
    target: Ipv4Addr,
) -> Arp {
    let request = arp_request(sender_mac, sender, target);
    Arp { dst_mac: target_mac, operation: 2, target_mac, ..request }
}

impl Arp {
    /// The bytes.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = [self.dst_mac.0, self.src_mac.0].concat();
        if let Some(id) = self.vlan {
            bytes.extend([0x81, 0x00]);
            bytes.extend(id.to_be_bytes());
        }
        bytes.extend([0x08, 0x06]);
        bytes.extend(self.hardware.to_be_bytes());
        bytes.extend(self.protocol.to_be_bytes());
        bytes.extend([self.hardware_len, self.protocol_len]);
        bytes.extend(self.operation.to_be_bytes());
        bytes.extend(self.sender_mac.0);
        bytes.extend(self.sender.octets());
        bytes.extend(self.target_mac.0);
        bytes.extend(self.target.octets());
        bytes.resize(bytes.len() + self.pad, 0);
        bytes
    }
}
