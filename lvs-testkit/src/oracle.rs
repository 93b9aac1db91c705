//! Second opinions from crates that share no code with ours: pnet_packet recomputes checksums and
//! reads fields, smoltcp accepts or refuses.
//!
//! ```
//! use lvs_testkit::{build::tcp, oracle};
//! let good = tcp().syn().mss(1460).build();
//! assert_eq!(oracle::checksums_ok(&good), Ok(()));
//! assert_eq!(oracle::accepted(&good), Ok(()));
//! let bad = tcp().syn().wrong_l4_csum().build();
//! assert!(oracle::checksums_ok(&bad).is_err() && oracle::accepted(&bad).is_err());
//! ```

mod smol;

pub use smol::accepted;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::ip::IpNextHeaderProtocol;
use pnet_packet::ipv4::{self, Ipv4Flags, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::TcpPacket;
use pnet_packet::udp::UdpPacket;
use pnet_packet::vlan::VlanPacket;
use pnet_packet::{Packet, util};

/// The fields of an IP packet, as pnet_packet reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// VLAN ids, outermost first.
    pub vlans: Vec<u16>,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol of what follows the IP header and its extension headers.
    pub proto: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Offset in bytes and "more fragments", for fragments.
    pub fragment: Option<(usize, bool)>,
    /// Everything from the transport header to the end that the IP header states.
    pub segment: Vec<u8>,
    /// Source and destination port of TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// TCP only.
    pub tcp: Option<TcpFields>,
    /// Transport payload of TCP and UDP.
    pub payload: Vec<u8>,
}

/// The fields of a TCP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpFields {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags, byte 13.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// The option bytes, padding included.
    pub options: Vec<u8>,
}

impl TcpFields {
    /// The options one by one: kind and data. Ends at the first that is malformed, or at kind 0.
    #[must_use]
    pub fn option_list(&self) -> Vec<(u8, Vec<u8>)> {
        let (mut list, mut rest) = (Vec::new(), &self.options[..]);
        while let [kind, after @ ..] = rest {
            match (*kind, after) {
                (0, _) => break,
                (1, _) => {
                    list.push((1, Vec::new()));
                    rest = after;
                }
                (kind, [len, ..]) if usize::from(*len) >= 2 && usize::from(*len) <= rest.len() => {
                    let (option, next) = rest.split_at(usize::from(*len));
                    list.push((kind, option[2..].to_vec()));
                    rest = next;
                }
                _ => break,
            }
        }
        list
    }

    /// The data of the first option of this kind.
    #[must_use]
    pub fn option(&self, kind: u8) -> Option<Vec<u8>> {
        self.option_list().into_iter().find(|(of, _)| *of == kind).map(|(_, data)| data)
    }
}

/// Reads all fields of an Ethernet frame with an IP packet.
///
/// # Errors
/// What is missing, for frames that end too early or carry something else. The caller decides
/// whether that is a fault; use [`accepted`] to judge validity.
pub fn fields(frame: &[u8]) -> Result<Fields, String> {
    let ethernet = EthernetPacket::new(frame).ok_or("no whole Ethernet header")?;
    let (mut kind, mut body) = (ethernet.get_ethertype(), ethernet.payload().to_vec());
    let mut vlans = Vec::new();
    // 0x9100 is no tag of 802.1Q, and nobody else here takes it for one.
    while kind == EtherTypes::Vlan || kind.0 == 0x88a8 {
        let tag = VlanPacket::new(&body).ok_or("no whole VLAN tag")?;
        vlans.push(tag.get_vlan_identifier());
        (kind, body) = (tag.get_ethertype(), tag.payload().to_vec());
    }
    let ip = match kind {
        EtherTypes::Ipv4 => v4_fields(&body)?,
        EtherTypes::Ipv6 => v6_fields(&body)?,
        other => return Err(format!("EtherType {other} is not IP")),
    };
    transport_fields(Fields { vlans, ..ip })
}

fn v4_fields(bytes: &[u8]) -> Result<Fields, String> {
    let ip = Ipv4Packet::new(bytes).ok_or("no whole IPv4 header")?;
    let header = usize::from(ip.get_header_length()) * 4;
    let end = usize::from(ip.get_total_length());
    let segment = bytes.get(header..end).filter(|_| header >= 20).ok_or("IPv4 lengths")?.to_vec();
    let offset = usize::from(ip.get_fragment_offset()) * 8;
    let more = ip.get_flags() & Ipv4Flags::MoreFragments != 0;
    Ok(Fields {
        vlans: Vec::new(),
        src: ip.get_source().into(),
        dst: ip.get_destination().into(),
        proto: ip.get_next_level_protocol().0,
        ttl: ip.get_ttl(),
        tos: ip.get_dscp() << 2 | ip.get_ecn(),
        fragment: (offset > 0 || more).then_some((offset, more)),
        segment,
        ports: None,
        tcp: None,
        payload: Vec::new(),
    })
}

fn v6_fields(bytes: &[u8]) -> Result<Fields, String> {
    let ip = Ipv6Packet::new(bytes).ok_or("no whole IPv6 header")?;
    let end = 40 + usize::from(ip.get_payload_length());
    let mut rest = bytes.get(40..end).ok_or("IPv6 payload length")?;
    let mut proto = ip.get_next_header().0;
    let mut fragment = None;
    // pnet_packet has no walk of its own; RFC 8200 section 4, RFC 4302 section 2.2 for 51.
    while matches!(proto, 0 | 43 | 44 | 51 | 60) && fragment.is_none_or(|(at, _)| at == 0) {
        let [next, len, ..] = *rest else { return Err("a cut IPv6 extension header".into()) };
        let size = match proto {
            44 => 8,
            51 => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        let header = rest.get(..size).ok_or("an IPv6 extension header past the end")?;
        if proto == 44 {
            let word = u16::from_be_bytes([header[2], header[3]]);
            fragment = Some((usize::from(word & 0xfff8), word & 1 != 0));
        }
        (proto, rest) = (next, &rest[size..]);
    }
    Ok(Fields {
        vlans: Vec::new(),
        src: ip.get_source().into(),
        dst: ip.get_destination().into(),
        proto,
        ttl: ip.get_hop_limit(),
        tos: ip.get_traffic_class(),
        fragment,
        segment: rest.to_vec(),
        ports: None,
        tcp: None,
        payload: Vec::new(),
    })
}

fn transport_fields(mut of: Fields) -> Result<Fields, String> {
    if of.fragment.is_some_and(|(offset, _)| offset > 0) {
        return Ok(of);
    }
    let segment = of.segment.clone();
    match of.proto {
        6 => {
            let tcp = TcpPacket::new(&segment).ok_or("no whole TCP header")?;
            let header = usize::from(tcp.get_data_offset()) * 4;
            let options = segment.get(20..header).ok_or("TCP data offset")?.to_vec();
            of.ports = Some((tcp.get_source(), tcp.get_destination()));
            of.tcp = Some(TcpFields {
                seq: tcp.get_sequence(),
                ack: tcp.get_acknowledgement(),
                flags: tcp.get_flags(),
                window: tcp.get_window(),
                options,
            });
            of.payload = segment[header..].to_vec();
        }
        17 => {
            let udp = UdpPacket::new(&segment).ok_or("no whole UDP header")?;
            // A first fragment states the length of the whole datagram.
            let whole = of.fragment.is_none();
            let end = if whole { usize::from(udp.get_length()) } else { segment.len() };
            of.ports = Some((udp.get_source(), udp.get_destination()));
            of.payload = segment.get(8..end).ok_or("UDP length")?.to_vec();
        }
        _ => {}
    }
    Ok(of)
}

/// Recomputes every checksum of an Ethernet frame with pnet_packet: the IPv4 header; TCP, ICMP and
/// ICMPv6 over what the IP header states, UDP over what its own length states (RFC 768: what stands
/// behind is not of the datagram). Fragments have their IP header checked only. A UDP checksum of
/// zero is right in IPv4 (RFC 768) and wrong in IPv6 (RFC 8200 section 8.1).
///
/// # Errors
/// Which checksum is wrong, what was found and what is right; or what is missing.
pub fn checksums_ok(frame: &[u8]) -> Result<(), String> {
    let mut of = fields(frame)?;
    if of.src.is_ipv4() {
        let header = crate::build::ip_of(frame);
        let ip = Ipv4Packet::new(header).ok_or("no whole IPv4 header")?;
        same("IPv4", ip.get_checksum(), ipv4::checksum(&ip))?;
    }
    if of.fragment.is_some() {
        return Ok(());
    }
    let (name, at) = match (of.proto, of.src.is_ipv4()) {
        (6, _) => ("TCP", 16),
        (17, _) => ("UDP", 6),
        (1, true) => ("ICMP", 2),
        (58, false) => ("ICMPv6", 2),
        _ => return Ok(()),
    };
    if of.proto == 17 {
        of.segment.truncate(8 + of.payload.len());
    }
    let field = of.segment.get(at..at + 2).ok_or_else(|| format!("no whole {name} header"))?;
    let found = u16::from_be_bytes([field[0], field[1]]);
    let mut right = match (of.src, of.dst) {
        (IpAddr::V4(_), _) if of.proto == 1 => util::checksum(&of.segment, at / 2),
        (IpAddr::V4(src), IpAddr::V4(dst)) => v4_checksum(&of, at, src, dst),
        (IpAddr::V6(src), IpAddr::V6(dst)) => v6_checksum(&of, at, src, dst),
        _ => return Err("addresses of different families".into()),
    };
    if of.proto == 17 && of.src.is_ipv4() && found == 0 {
        return Ok(());
    }
    if of.proto == 17 && right == 0 {
        right = 0xffff; // RFC 768: a computed zero is sent as all ones.
    }
    same(name, found, right)
}

fn v4_checksum(of: &Fields, at: usize, src: Ipv4Addr, dst: Ipv4Addr) -> u16 {
    util::ipv4_checksum(&of.segment, at / 2, &[], &src, &dst, IpNextHeaderProtocol(of.proto))
}

fn v6_checksum(of: &Fields, at: usize, src: Ipv6Addr, dst: Ipv6Addr) -> u16 {
    util::ipv6_checksum(&of.segment, at / 2, &[], &src, &dst, IpNextHeaderProtocol(of.proto))
}

fn same(name: &str, found: u16, right: u16) -> Result<(), String> {
    if found == right {
        return Ok(());
    }
    Err(format!("the {name} checksum is {found:#06x} where {right:#06x} is right"))
}
