//! A frame taken apart into owned pieces, and put together again with every checksum summed anew.
//!
//! What was wrong with the transport checksum on arrival is kept as a number, and is wrong by the
//! same number when the pieces are put together (INV-3).

mod read;

pub(super) use read::read;

use crate::build::sum::{ones_sum, pseudo_header};
use core::net::{IpAddr, Ipv4Addr};
use lvs_core::addr::MacAddr;
use lvs_core::flow::L4Proto;
use lvs_core::io::L4Csum;

/// What a frame is.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    Arp(Arp),
    Ip(Box<Ip>),
    Other,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arp {
    pub(super) request: bool,
    pub(super) sender_mac: MacAddr,
    pub(super) sender: Ipv4Addr,
    pub(super) target: Ipv4Addr,
}

/// An IP packet in pieces.
#[derive(Clone, Debug)]
pub(super) struct Ip {
    /// Ethernet header with its tags.
    pub(super) link: Vec<u8>,
    /// IP header with options or extension headers.
    network: Vec<u8>,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) ttl: u8,
    /// Transport protocol.
    proto: u8,
    pub(super) fragment: bool,
    /// Which piece of which datagram it is.
    pub(super) piece: Option<Piece>,
    /// Whether there is a fragment header or field at all, be it of a whole packet.
    fragment_header: bool,
    pub(super) upper: Upper,
    /// What stands behind the IP packet.
    padding: Vec<u8>,
    /// How the checksum field is to be read and written.
    pub(super) csum: L4Csum,
    /// By how much the field differs from the right one, modulo 65535; `None` = the field says "none".
    wrong_by: Option<u32>,
}

/// A piece of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Number of the datagram.
    pub(super) id: u32,
    /// Bytes of the datagram before it, and its own.
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) last: bool,
}

/// What the IP packet carries.
#[derive(Clone, Debug)]
pub(super) enum Upper {
    Tcp(Tcp),
    Udp { sport: u16, dport: u16, rest: Vec<u8> },
    Icmp(Vec<u8>),
    Other(Vec<u8>),
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub(super) struct Tcp {
    pub(super) sport: u16,
    pub(super) dport: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    reserved: u8,
    pub(super) flags: u8,
    window: [u8; 2],
    urgent: [u8; 2],
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

fn mac(bytes: &[u8]) -> MacAddr {
    MacAddr(bytes[..6].try_into().expect("six bytes"))
}

impl Ip {
    fn field_at(&self) -> usize {
        match self.upper {
            Upper::Tcp(_) => 16,
            Upper::Udp { .. } => 6,
            Upper::Icmp(_) | Upper::Other(_) => 2,
        }
    }

    pub(super) fn proto(&self) -> u8 {
        self.proto
    }

    /// Whether this is ICMP, and which type and code.
    pub(super) fn icmp(&self) -> Option<(u8, u8)> {
        match &self.upper {
            Upper::Icmp(bytes) => Some((bytes[0], bytes[1])),
            _ => None,
        }
    }

    /// IPv4 without DF.
    pub(super) fn may_be_cut(&self) -> bool {
        !self.dst.is_ipv6() && self.network[6] & 0x40 == 0
    }

    /// Whether an IPv4 option prescribes the way: loose (131) or strict (137).
    pub(super) fn is_source_routed(&self) -> bool {
        if self.dst.is_ipv6() {
            return false;
        }
        let mut rest = &self.network[20..];
        while let [kind, after @ ..] = rest {
            match kind {
                0 => return false,
                1 => rest = after,
                131 | 137 => return true,
                _ => rest = &rest[usize::from(after[0])..],
            }
        }
        false
    }

    /// Whether this is an ICMP error: below 128 in IPv6.
    pub(super) fn is_error(&self) -> bool {
        match self.icmp() {
            Some((kind, _)) if self.dst.is_ipv6() => kind < 128,
            Some((kind, _)) => [3, 4, 11, 12].contains(&kind),
            None => false,
        }
    }

    /// Whether this is SCTP, and whether it shows two ports.
    pub(super) fn sctp(&self) -> Option<bool> {
        match &self.upper {
            Upper::Other(bytes) if self.proto == 132 => {
                Some(bytes.len() >= 12 && word(bytes, 0) != 0 && word(bytes, 2) != 0)
            }
            _ => None,
        }
    }

    /// The whole ICMP message as it came.
    pub(super) fn icmp_bytes(&self) -> Option<&[u8]> {
        match &self.upper {
            Upper::Icmp(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn set_icmp_type(&mut self, kind: u8) {
        if let Upper::Icmp(bytes) = &mut self.upper {
            bytes[0] = kind;
        }
    }

    pub(super) fn set_ports(&mut self, from: u16, to: u16) {
        match &mut self.upper {
            Upper::Tcp(tcp) => (tcp.sport, tcp.dport) = (from, to),
            Upper::Udp { sport, dport, .. } => (*sport, *dport) = (from, to),
            Upper::Icmp(_) | Upper::Other(_) => {}
        }
    }

    /// TCP or UDP with its ports.
    pub(super) fn ports(&self) -> Option<(L4Proto, u16, u16)> {
        match self.upper {
            Upper::Tcp(Tcp { sport, dport, .. }) => Some((L4Proto::Tcp, sport, dport)),
            Upper::Udp { sport, dport, .. } => Some((L4Proto::Udp, sport, dport)),
            Upper::Icmp(_) | Upper::Other(_) => None,
        }
    }

    pub(super) fn tcp(&self) -> Option<&Tcp> {
        match &self.upper {
            Upper::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }

    pub(super) fn tcp_mut(&mut self) -> Option<&mut Tcp> {
        match &mut self.upper {
            Upper::Tcp(tcp) => Some(tcp),
            _ => None,
        }
    }

    /// The transport header and payload with a checksum field of zero.
    fn segment(&self) -> Vec<u8> {
        match &self.upper {
            Upper::Tcp(tcp) => tcp.bytes(),
            Upper::Udp { sport, dport, rest } => {
                let mut bytes = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
                bytes.extend(rest);
                bytes[6..8].fill(0);
                bytes
            }
            Upper::Icmp(bytes) => {
                let mut bytes = bytes.clone();
                bytes[2..4].fill(0);
                bytes
            }
            Upper::Other(bytes) => bytes.clone(),
        }
    }

    /// What the checksum field of this segment should hold.
    fn right(&self, segment: &[u8]) -> u16 {
        let pseudo = match self.proto {
            1 => Vec::new(),
            proto => pseudo_header(self.src, self.dst, proto, segment.len()),
        };
        match self.csum {
            L4Csum::Partial => ones_sum(&[&pseudo]),
            _ => !ones_sum(&[&pseudo, segment]),
        }
    }

    /// Whether the transport checksum is right.
    pub(super) fn is_right(&self) -> bool {
        self.wrong_by == Some(0)
    }

    /// From now on the checksum is right, whatever it was.
    pub(super) fn set_right(&mut self) {
        (self.csum, self.wrong_by) = (L4Csum::Good, Some(0));
    }

    /// What is wrong with the checksum stays as wrong, with its bytes the other way round: the director takes out an
    /// odd number of bytes and works out what follows them from what the checksum says.
    pub(super) fn turn_wrong(&mut self) {
        if self.csum != L4Csum::Partial {
            self.wrong_by = self.wrong_by.map(|by| by * 256 % 65535);
        }
    }

    /// Finishes a partial checksum: the transmitter sums the field as it stands.
    pub(super) fn complete(&mut self) {
        let partial = self.field(&self.segment());
        self.csum = L4Csum::Good;
        let segment = self.segment();
        let summed = !ones_sum(&[&partial.to_be_bytes(), &segment]);
        let right = u32::from(self.right(&segment));
        self.wrong_by = Some((u32::from(summed) + 65535 - right) % 65535);
    }

    /// What the checksum field holds.
    fn field(&self, segment: &[u8]) -> u16 {
        let Some(wrong_by) = self.wrong_by else { return 0 };
        let value = (u32::from(self.right(segment)) + wrong_by) % 65535;
        // One's complement has two zeros: UDP and partial sums say all ones.
        let ones = value == 0 && (self.proto == 17 || self.csum == L4Csum::Partial);
        if ones { 0xffff } else { value as u16 }
    }

    /// Offsets of the IP header, the transport header, the transport payload and the packet's end.
    pub(super) fn offsets(&self) -> (usize, usize, usize, usize) {
        let l4 = self.link.len() + self.network.len();
        let header = match &self.upper {
            Upper::Tcp(tcp) => 20 + tcp.options.len(),
            Upper::Udp { .. } => 8,
            Upper::Icmp(_) | Upper::Other(_) => 0,
        };
        (self.link.len(), l4, l4 + header, l4 + self.segment().len())
    }

    /// Bytes of the IP packet.
    pub(super) fn len(&self) -> usize {
        let (l3, _, _, end) = self.offsets();
        end - l3
    }

    /// Whether the IP header is as short as it can be.
    pub(super) fn has_bare_header(&self) -> bool {
        self.network.len() == if self.dst.is_ipv6() { 40 } else { 20 }
    }

    /// A header as a host writes it that sends a packet of the same class of its own: without options, not to be cut.
    pub(super) fn make_own(&mut self) {
        if self.dst.is_ipv6() {
            let mut fixed = vec![0; 40];
            (fixed[0], fixed[1]) = (0x60 | self.network[0] & 0x0f, self.network[1] & 0xf0);
            fixed[6] = self.proto;
            self.network = fixed;
        } else {
            let mut fixed = vec![0; 20];
            (fixed[0], fixed[1], fixed[2], fixed[6]) = (0x45, self.network[1], 1, 0x40);
            fixed[9] = self.proto;
            self.network = fixed;
        }
    }

    /// Whether an extension header or the IPv4 header speaks of fragments.
    pub(super) fn has_fragment_header(&self) -> bool {
        self.fragment_header
    }

    pub(super) fn src_mac(&self) -> MacAddr {
        mac(&self.link[6..])
    }

    pub(super) fn dst_mac(&self) -> MacAddr {
        mac(&self.link)
    }

    pub(super) fn set_macs(&mut self, dst: MacAddr, src: MacAddr) {
        self.link[..6].copy_from_slice(&dst.0);
        self.link[6..12].copy_from_slice(&src.0);
    }

    /// Takes the tags out of the Ethernet header.
    pub(super) fn drop_tags(&mut self) {
        let ethertype = self.link.split_off(self.link.len() - 2);
        self.link.truncate(12);
        self.link.extend(ethertype);
    }

    pub(super) fn drop_padding(&mut self) {
        self.padding.clear();
    }

    /// The frame. `None` when it is longer than the IP header can say.
    pub(super) fn build(&self) -> Option<Vec<u8>> {
        let mut segment = self.segment();
        let at = self.field_at();
        if !matches!(self.upper, Upper::Other(_)) {
            let field = self.field(&segment);
            segment[at..at + 2].copy_from_slice(&field.to_be_bytes());
        }
        let mut network = self.network.clone();
        let total = network.len() + segment.len();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                // Zero is how a train says that it is longer than the field.
                if word(&network, 2) != 0 {
                    network[2..4].copy_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
                }
                network[8] = self.ttl;
                network[12..16].copy_from_slice(&src.octets());
                network[16..20].copy_from_slice(&dst.octets());
                network[10..12].fill(0);
                let sum = !ones_sum(&[&network]);
                network[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                network[4..6].copy_from_slice(&u16::try_from(total - 40).ok()?.to_be_bytes());
                network[7] = self.ttl;
                network[8..24].copy_from_slice(&src.octets());
                network[24..40].copy_from_slice(&dst.octets());
            }
            _ => return None,
        }
        Some([&self.link[..], &network, &segment, &self.padding].concat())
    }
}

impl Tcp {
    /// Header and payload with a checksum field of zero (RFC 9293 section 3.1).
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.sport.to_be_bytes(), self.dport.to_be_bytes()].concat();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        let words = (20 + self.options.len()) / 4;
        bytes.extend([(words as u8) << 4 | self.reserved, self.flags]);
        bytes.extend(self.window);
        bytes.extend([0, 0]);
        bytes.extend(self.urgent);
        bytes.extend(&self.options);
        bytes.extend(&self.payload);
        bytes
    }

    /// Makes it the reset that answers it.
    pub(super) fn make_reset(&mut self) {
        self.make_bare_ack();
        (self.sport, self.dport) = (self.dport, self.sport);
        (self.seq, self.ack, self.flags, self.window) = (self.ack, 0, 0x04, [0, 0]);
    }

    /// Makes it an acknowledgement of the same numbers and nothing else.
    pub(super) fn make_bare_ack(&mut self) {
        (self.flags, self.reserved, self.urgent) = (0x10, 0, [0, 0]);
        self.options.clear();
        self.payload.clear();
    }
}
