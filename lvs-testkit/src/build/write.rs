//! From what a packet is to say to its bytes: Ethernet, tags, IPv4, IPv6, checksums.

use super::packet::{Csum, Layer4, Packet};
use super::{ext, sum};
use core::net::IpAddr;
use lvs_core::io::mem::{MemBuf, MemMeta};
use lvs_core::io::{Gso, L4Csum, PacketBuf};

/// A finished frame and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The bytes.
    pub frame: Vec<u8>,
    /// Start of the IP header.
    pub l3: usize,
    /// Start of the transport header.
    pub l4: usize,
    /// Start of the transport payload.
    pub payload: usize,
    /// End of the IP packet; padding follows.
    pub end: usize,
}

impl<P: Layer4> Packet<P> {
    /// The bytes.
    ///
    /// # Panics
    /// When source and destination are of different families.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        self.build_parts().frame
    }

    /// The bytes, and where the parts are.
    ///
    /// # Panics
    /// When source and destination are of different families.
    #[must_use]
    pub fn build_parts(&self) -> Built {
        let v6 = self.dst.is_ipv6();
        let proto = self.l4.proto(v6);
        let mut segment = self.l4.header(self.src, self.dst, &self.payload);
        let l4_header = segment.len();
        segment.extend(&self.payload);
        self.write_l4_csum(proto, &mut segment);

        let mut frame = self.ethernet(if v6 { 0x86dd } else { 0x0800 });
        let l3 = frame.len();
        frame.extend(if v6 {
            self.ipv6(proto, segment.len())
        } else {
            self.ipv4(proto, segment.len())
        });
        let l4 = frame.len();
        frame.extend(segment);
        let end = frame.len();
        let padded = (end + self.pad).max(self.pad_to);
        frame.resize(padded, 0);
        frame.truncate(self.cut.unwrap_or(padded));
        Built { frame, l3, l4, payload: l4 + l4_header, end }
    }

    /// A packet with its metadata: checksum state, tag beside it, train.
    ///
    /// # Panics
    /// When source and destination are of different families, or a train of this protocol does not
    /// exist.
    #[must_use]
    pub fn build_buf(&self) -> MemBuf {
        let built = self.build_parts();
        let mut packet = MemBuf::from_bytes(&built.frame).with_meta(MemMeta::default());
        if self.csum == Csum::Partial {
            packet.set_l4_csum(L4Csum::Partial, built.l3 as u16, built.l4 as u16);
        }
        packet.set_vlan(self.beside);
        if let Some(size) = self.gso {
            let kind = self.l4.gso_kind(self.dst.is_ipv6()).expect("a train of TCP or UDP");
            packet.set_gso(Some(Gso { kind, size }), built.payload as u16);
        }
        packet
    }

    fn ethernet(&self, ethertype: u16) -> Vec<u8> {
        let mut bytes = [self.dst_mac.0, self.src_mac.0].concat();
        for tag in &self.tags {
            bytes.extend(tag.tpid.to_be_bytes());
            bytes.extend(tag.tci.to_be_bytes());
        }
        bytes.extend(self.ethertype.unwrap_or(ethertype).to_be_bytes());
        bytes
    }

    /// RFC 791 section 3.1.
    fn ipv4(&self, proto: u8, payload: usize) -> Vec<u8> {
        let ip = &self.ip;
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (self.src.ip(), self.dst.ip()) else {
            panic!("source {} and destination {} are of different families", self.src, self.dst);
        };
        let header = 20 + ip.options.len();
        let first = ip.version.unwrap_or(4) << 4 | ip.ihl.unwrap_or((header / 4) as u8) & 0x0f;
        let len = ip.len.unwrap_or((header + payload) as u16);
        let (offset, more) = ip.fragment.unwrap_or((0, false));
        let fragment =
            u16::from(ip.dont_fragment) << 14 | u16::from(more) << 13 | (offset / 8) & 0x1fff;
        let mut bytes = vec![first, ip.tos];
        bytes.extend(len.to_be_bytes());
        bytes.extend(ip.ident.to_be_bytes());
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([ip.ttl, ip.next.unwrap_or(proto), 0, 0]);
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        bytes.extend(&ip.options);
        let right = !sum::ones_sum(&[&bytes]);
        let written = match ip.csum {
            Csum::Full | Csum::Partial => right,
            Csum::Wrong => right ^ 0x5a5a,
            Csum::Value(value) => value,
        };
        bytes[10..12].copy_from_slice(&written.to_be_bytes());
        bytes
    }

    /// RFC 8200 section 3, with its extension headers.
    fn ipv6(&self, proto: u8, payload: usize) -> Vec<u8> {
        let ip = &self.ip;
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (self.src.ip(), self.dst.ip()) else {
            panic!("source {} and destination {} are of different families", self.src, self.dst);
        };
        let (next, ext) = ext::chain(&self.ext, ip.next.unwrap_or(proto));
        let len = ip.len.unwrap_or((ext.len() + payload) as u16);
        let word = u32::from(ip.version.unwrap_or(6)) << 28 | u32::from(ip.tos) << 20;
        let mut bytes = word.to_be_bytes().to_vec();
        bytes.extend(len.to_be_bytes());
        bytes.extend([next, ip.ttl]);
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        bytes.extend(ext);
        bytes
    }

    fn write_l4_csum(&self, proto: u8, segment: &mut [u8]) {
        let Some(at) = self.l4.csum_at().filter(|at| at + 2 <= segment.len()) else { return };
        let (src, dst) = (self.src.ip(), self.dst.ip());
        // ICMP for IPv4 is the one that covers no pseudo-header.
        let pseudo = if proto == 1 {
            Vec::new()
        } else {
            sum::pseudo_header(src, dst, proto, segment.len())
        };
        let mut right = !sum::ones_sum(&[&pseudo, segment]);
        if proto == 17 && right == 0 {
            right = 0xffff; // RFC 768: zero means "none".
        }
        let written = match self.csum {
            Csum::Full => right,
            Csum::Partial => sum::ones_sum(&[&pseudo]),
            // Zero would mean "none" to UDP.
            Csum::Wrong if right == 0x5a5a => 0x1234,
            Csum::Wrong => right ^ 0x5a5a,
            Csum::Value(value) => value,
        };
        segment[at..at + 2].copy_from_slice(&written.to_be_bytes());
    }
}
