//! ICMP messages built the slow and obvious way, with checksums by pnet_packet.

use core::net::IpAddr;
use pnet_packet::{icmp, icmpv6, ipv4};

/// An ICMP message by its fields.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) vlan: bool,
    pub(crate) ttl: u8,
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) word: u32,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn l3(&self) -> usize {
        if self.vlan { 18 } else { 14 }
    }

    pub(crate) fn l4(&self) -> usize {
        self.l3() + if self.src.is_ipv4() { 20 } else { 40 }
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.vlan {
            frame.extend([0x81, 0x00, 0x20, 0x64]);
        }
        frame.extend(if self.src.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
        let mut message = vec![self.kind, self.code, 0, 0];
        message.extend(self.word.to_be_bytes());
        message.extend(&self.body);
        let (sum, ip) = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut ip = vec![0x45, 0];
                ip.extend((20 + message.len() as u16).to_be_bytes());
                ip.extend([0x12, 0x34, 0, 0, self.ttl, 1, 0, 0]);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                let sum = ipv4::checksum(&ipv4::Ipv4Packet::new(&ip).unwrap());
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                (icmp::checksum(&icmp::IcmpPacket::new(&message).unwrap()), ip)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut ip = vec![0x60, 0, 0, 0];
                ip.extend((message.len() as u16).to_be_bytes());
                ip.extend([58, self.ttl]);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                let packet = icmpv6::Icmpv6Packet::new(&message).unwrap();
                (icmpv6::checksum(&packet, &src, &dst), ip)
            }
            _ => panic!("addresses of two families"),
        };
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        frame.extend(ip);
        frame.extend(message);
        frame
    }

    /// By how much the checksum of `frame`, a packet of this shape, is off; both zeros are one.
    pub(crate) fn error(&self, frame: &[u8]) -> u32 {
        let message = &frame[self.l4()..];
        let right = match (self.src, self.dst) {
            (IpAddr::V4(_), _) => icmp::checksum(&icmp::IcmpPacket::new(message).unwrap()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                icmpv6::checksum(&icmpv6::Icmpv6Packet::new(message).unwrap(), &src, &dst)
            }
            _ => panic!("addresses of two families"),
        };
        let is = u16::from_be_bytes([message[2], message[3]]);
        (u32::from(is) + 0xffff - u32::from(right)) % 0xffff
    }
}
