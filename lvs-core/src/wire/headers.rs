//! One pass over a frame: everything the director asks for, or the reason why not.

use super::arp::Arp;
use super::error::{Fault, Layer, Malformed};
use super::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use super::icmpv4::{self, Icmpv4};
use super::icmpv6::{self, Icmpv6};
use super::ipv4::{self, Ipv4};
use super::ipv6::Ipv6;
use super::tcp::Tcp;
use super::udp::{self, Udp};
use super::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::addr::Family;
use crate::flow::{L4Proto, TupleV4, TupleV6, WireTuple};
use crate::io::Vlan;
use core::net::IpAddr;

/// Whether a packet is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// Whole.
    No,
    /// First fragment: the transport header is there.
    First,
    /// Later fragment: no transport header.
    Later,
}

/// What the transport header told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP: flags as in byte 13 of the header, sequence and acknowledgement number.
    Tcp {
        /// FIN 0x01, SYN 0x02, RST 0x04, PSH 0x08, ACK 0x10, URG 0x20, ECE 0x40, CWR 0x80.
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Advertised window, unscaled.
        window: u16,
    },
    /// UDP.
    Udp,
    /// ICMP or ICMPv6: type and code.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A later fragment or a protocol that is not tracked: the number in the IP header.
    Other(u8),
}

/// Everything about one IP frame that the director asks for, found in one pass.
///
/// Offsets count from the start of the frame; `l3 <= l4 <= payload <= end` always holds and `payload`
/// lies inside the first contiguous part. The IP length bounds the payload: bytes behind `end` are
/// padding. (A UDP length may bound it further: see [`Udp::parse`].)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Headers {
    /// IP version.
    pub family: Family,
    /// The outermost VLAN tag in the bytes; not the one carried beside the packet.
    pub vlan: Option<Vlan>,
    /// Start of the IP header, behind all VLAN tags.
    pub l3: u16,
    /// Start of the transport header, behind IPv4 options or IPv6 extension headers.
    pub l4: u16,
    /// Start of the transport payload: behind TCP options, behind 8 bytes of UDP or ICMP (4 where an
    /// ICMPv6 message has no more); equal to `l4` where there is no transport header.
    pub payload: u16,
    /// End of the IP packet: `l3` plus the length that the IP header states.
    pub end: u32,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// The transport header.
    pub transport: Transport,
    /// Addresses and ports for TCP and UDP, unless it is a later fragment.
    pub tuple: Option<WireTuple>,
    /// Time to live or hop limit.
    pub ttl: u8,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parsed {
    /// IPv4 or IPv6.
    Ip(Headers),
    /// ARP for IPv4.
    Arp(Arp),
    /// Anything else.
    Other {
        /// Its EtherType behind all tags; below 0x0600 it is an IEEE 802.3 length.
        ethertype: u16,
    },
}

impl Headers {
    /// Reads and checks all headers of a frame.
    ///
    /// `frame` is the first contiguous part, from the Ethernet header on, and must hold all headers
    /// up to L4. `total_len` is the length of the whole packet, later segments included; less than
    /// `frame.len()` counts as `frame.len()`. A segment train is checked as the one large packet
    /// that its IP header describes.
    ///
    /// Checked are Ethernet ([`Ethernet::parse`]), IPv4 with its header checksum and options
    /// ([`Ipv4::parse_within`]), IPv6 with its extension headers ([`Ipv6::parse_within`]), the TCP
    /// header with its options ([`Tcp::parse`]), the UDP length ([`Udp::parse`]) and the lengths of
    /// ICMP messages. A first fragment must hold its whole transport header (RFC 1858, RFC 7112).
    /// Checksums of the transport, TCP flags, ports and addresses are not judged here.
    ///
    /// ```
    /// use lvs_core::wire::{Headers, Parsed, Transport, tcp};
    ///
    /// let frame = [
    ///     0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
    ///     0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x26, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
    ///     0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0, // TCP
    /// ];
    /// let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else { panic!() };
    /// assert_eq!((headers.l3, headers.l4, headers.payload, headers.end), (14, 34, 54, 54));
    /// assert!(matches!(headers.transport, Transport::Tcp { flags: tcp::SYN, seq: 7, .. }));
    /// assert_eq!(headers.tuple.unwrap().to_string(), "tcp 10.0.0.1:40000 -> 10.0.0.2:80");
    /// ```
    ///
    /// # Errors
    /// [`Malformed`] with the header, the fault and its offset in `frame`. `BadLength` also when a
    /// packet is larger than `end` can state.
    pub fn parse(frame: &[u8], total_len: usize) -> Result<Parsed, Malformed> {
        let ethernet = Ethernet::parse(frame)?;
        let l3 = ethernet.header_len();
        let bytes = ethernet.payload();
        match ethernet.ethertype() {
            ETHERTYPE_IPV4 => {
                let available = total_len.saturating_sub(l3);
                v4(bytes, available, l3, ethernet.vlan()).map_err(|fault| fault.behind(l3))
            }
            ETHERTYPE_IPV6 => {
                let available = total_len.saturating_sub(l3);
                v6(bytes, available, l3, ethernet.vlan()).map_err(|fault| fault.behind(l3))
            }
            ETHERTYPE_ARP => Arp::parse(bytes).map(Parsed::Arp).map_err(|fault| fault.behind(l3)),
            ethertype => Ok(Parsed::Other { ethertype }),
        }
    }

    /// The TCP view of a TCP packet, whose options are not part of `Headers`. `None` for anything
    /// else, or when `frame` is not the frame that was parsed.
    #[must_use]
    pub fn tcp<'a>(&self, frame: &'a [u8]) -> Option<Tcp<'a>> {
        if !matches!(self.transport, Transport::Tcp { .. }) {
            return None;
        }
        let end = usize::try_from(self.end).unwrap_or(usize::MAX).min(frame.len());
        Tcp::parse(frame.get(usize::from(self.l4)..end)?).ok()
    }

    /// What all fragments of a datagram have in common besides addresses and protocol: the
    /// identification, 16 bits in IPv4 and 32 in IPv6. `None` when the packet is whole, or when
    /// `frame` is not the frame that was parsed.
    #[must_use]
    pub fn fragment_id(&self, frame: &[u8]) -> Option<u32> {
        if self.fragment == Fragment::No {
            return None;
        }
        let bytes = frame.get(usize::from(self.l3)..)?;
        match self.family {
            Family::V4 => {
                let &[a, b] = bytes.get(4..)?.first_chunk()?;
                Some(u32::from(u16::from_be_bytes([a, b])))
            }
            Family::V6 => {
                let ip = Ipv6::parse_within(bytes, usize::MAX).ok()?;
                Some(ip.fragment_header()?.identification)
            }
        }
    }

    /// Source and destination address, for packets with and without a tuple. `None` only when
    /// `frame` is not the frame that was parsed.
    #[must_use]
    pub fn addresses(&self, frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
        let header = frame.get(usize::from(self.l3)..)?;
        match self.family {
            Family::V4 => {
                let (src, rest) = header.get(12..)?.split_first_chunk::<4>()?;
                Some(((*src).into(), (*rest.first_chunk::<4>()?).into()))
            }
            Family::V6 => {
                let (src, rest) = header.get(8..)?.split_first_chunk::<16>()?;
                Some(((*src).into(), (*rest.first_chunk::<16>()?).into()))
            }
        }
    }
}

/// What the transport header gives.
struct L4 {
    transport: Transport,
    header_len: usize,
    ports: Option<(L4Proto, u16, u16)>,
}

#[inline]
fn v4(bytes: &[u8], available: usize, l3: usize, vlan: Option<Vlan>) -> Result<Parsed, Malformed> {
    let ip = Ipv4::parse_within(bytes, available)?;
    let (fragment, header_len) = (ip.fragment(), ip.header_len());
    let l4 = transport(Family::V4, ip.protocol(), fragment, ip.payload(), ip.payload_len())
        .map_err(|fault| fault.behind(header_len))?;
    let (src, dst) = (ip.src().to_bits(), ip.dst().to_bits());
    let tuple = l4
        .ports
        .map(|(proto, sport, dport)| WireTuple::V4(TupleV4 { src, dst, sport, dport, proto }));
    let lengths = Lengths { l3, header_len, total_len: ip.total_len() };
    lengths.assemble(Family::V4, vlan, fragment, &l4, tuple, ip.ttl())
}

#[inline]
fn v6(bytes: &[u8], available: usize, l3: usize, vlan: Option<Vlan>) -> Result<Parsed, Malformed> {
    let ip = Ipv6::parse_within(bytes, available)?;
    let (fragment, header_len) = (ip.fragment(), ip.header_len());
    let l4 = transport(Family::V6, ip.protocol(), fragment, ip.payload(), ip.payload_len())
        .map_err(|fault| fault.behind(header_len))?;
    let (src, dst) = (ip.src().to_bits(), ip.dst().to_bits());
    let tuple = l4
        .ports
        .map(|(proto, sport, dport)| WireTuple::V6(TupleV6 { src, dst, sport, dport, proto }));
    let lengths = Lengths { l3, header_len, total_len: ip.total_len() };
    lengths.assemble(Family::V6, vlan, fragment, &l4, tuple, ip.hop_limit())
}

/// Reads the transport header. `bytes` is the contiguous part of the IP payload, `len` its length as
/// the IP header states it.
#[inline]
fn transport(
    family: Family,
    protocol: u8,
    fragment: Fragment,
    bytes: &[u8],
    len: usize,
) -> Result<L4, Malformed> {
    let other = L4 { transport: Transport::Other(protocol), header_len: 0, ports: None };
    if fragment == Fragment::Later {
        return Ok(other);
    }
    match (protocol, family) {
        (PROTOCOL_TCP, _) => {
            let tcp = Tcp::parse(bytes)?;
            let (flags, window) = (tcp.flags(), tcp.window());
            Ok(L4 {
                transport: Transport::Tcp { flags, seq: tcp.seq(), ack: tcp.ack(), window },
                header_len: tcp.header_len(),
                ports: Some((L4Proto::Tcp, tcp.sport(), tcp.dport())),
            })
        }
        (PROTOCOL_UDP, _) => {
            let whole = if fragment == Fragment::First { ipv4::MAX_PACKET } else { len };
            let udp = Udp::parse_within(bytes, whole)?;
            Ok(L4 {
                transport: Transport::Udp,
                header_len: udp::HEADER_LEN,
                ports: Some((L4Proto::Udp, udp.sport(), udp.dport())),
            })
        }
        (PROTOCOL_ICMP, Family::V4) => {
            let icmp = Icmpv4::parse(bytes)?;
            Ok(icmp_with(icmp.kind(), icmp.code(), icmpv4::HEADER_LEN))
        }
        (PROTOCOL_ICMPV6, Family::V6) => {
            let icmp = Icmpv6::parse(bytes)?;
            let header_len = icmpv6::message_len(icmp.kind()).min(icmpv4::HEADER_LEN);
            Ok(icmp_with(icmp.kind(), icmp.code(), header_len))
        }
        _ => Ok(other),
    }
}

fn icmp_with(kind: u8, code: u8, header_len: usize) -> L4 {
    L4 { transport: Transport::Icmp { kind, code }, header_len, ports: None }
}

/// What the offsets are made of.
struct Lengths {
    l3: usize,
    header_len: usize,
    total_len: usize,
}

impl Lengths {
    #[inline]
    fn assemble(
        &self,
        family: Family,
        vlan: Option<Vlan>,
        fragment: Fragment,
        l4: &L4,
        tuple: Option<WireTuple>,
        ttl: u8,
    ) -> Result<Parsed, Malformed> {
        let start = self.l3.saturating_add(self.header_len);
        let (Ok(l3), Ok(l4_start), Ok(payload), Ok(end)) = (
            u16::try_from(self.l3),
            u16::try_from(start),
            u16::try_from(start.saturating_add(l4.header_len)),
            u32::try_from(self.l3.saturating_add(self.total_len)),
        ) else {
            let layer = if family == Family::V4 { Layer::Ipv4 } else { Layer::Ipv6 };
            return Err(Malformed::new(layer, Fault::BadLength, 0));
        };
        let transport = l4.transport;
        let l4 = l4_start;
        Ok(Parsed::Ip(Headers {
            family,
            vlan,
            l3,
            l4,
            payload,
            end,
            fragment,
            transport,
            tuple,
            ttl,
        }))
    }
}
