//! One pass over a frame: everything the director asks for, or the reason why not.

use super::arp::Arp;
use super::error::Malformed;
use super::ethernet::{self, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use super::icmpv4::{self, Icmpv4};
use super::icmpv6::{self, Icmpv6};
use super::ipv4::{self, Ipv4};
use super::ipv6::Ipv6;
use super::tcp::Tcp;
use super::udp::{self, Udp};
use super::vlan;
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
    /// [`Malformed`] with the header, the fault and its offset in `frame`.
    pub fn parse(frame: &[u8], total_len: usize) -> Result<Parsed, Malformed> {
        let ethernet = Ethernet::without_tags(frame)?;
        if vlan::is_tag(ethernet.ethertype()) {
            return tagged(frame, total_len);
        }
        behind(&ethernet, Link { vlan: None, l3: ethernet::HEADER_LEN as u16 }, total_len)
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

/// What the headers in front of IP tell.
#[derive(Clone, Copy)]
struct Link {
    vlan: Option<Vlan>,
    l3: u16,
}

/// The same for frames with tags, apart so that the usual case works with constants.
#[cold]
fn tagged(frame: &[u8], total_len: usize) -> Result<Parsed, Malformed> {
    let ethernet = Ethernet::parse(frame)?;
    let l3 = if ethernet.inner_vlan().is_some() { 22 } else { 18 };
    behind(&ethernet, Link { vlan: ethernet.vlan(), l3 }, total_len)
}

/// What the headers up to IP tell, in the words that both versions share.
///
/// The functions below are inlined into one: each kind of transport then writes its result straight
/// to where the caller wants it. Handing a `Transport` from one to the next costs more than the
/// checks do.
struct Network<'a> {
    family: Family,
    link: Link,
    /// Of the IP header: at most 60 in IPv4, 40 and eight times 2048 in IPv6.
    header_len: u16,
    /// Of the packet: a `u32` in [`Ipv4`], at most 65575 in IPv6.
    total_len: u32,
    ttl: u8,
    fragment: Fragment,
    protocol: u8,
    /// The contiguous part of the IP payload.
    payload: &'a [u8],
    /// Its length as the IP header states it.
    payload_len: usize,
}

#[inline(always)]
fn behind(ethernet: &Ethernet<'_>, link: Link, total_len: usize) -> Result<Parsed, Malformed> {
    let bytes = ethernet.payload();
    let l3 = usize::from(link.l3);
    let available = total_len.saturating_sub(l3);
    match ethernet.ethertype() {
        ETHERTYPE_IPV4 => v4(bytes, available, link).map_err(|fault| fault.behind(l3)),
        ETHERTYPE_IPV6 => v6(bytes, available, link).map_err(|fault| fault.behind(l3)),
        ETHERTYPE_ARP => Arp::parse(bytes).map(Parsed::Arp).map_err(|fault| fault.behind(l3)),
        ethertype => Ok(Parsed::Other { ethertype }),
    }
}

#[inline(always)]
fn v4(bytes: &[u8], available: usize, link: Link) -> Result<Parsed, Malformed> {
    let ip = Ipv4::parse_within(bytes, available)?;
    let network = Network {
        family: Family::V4,
        link,
        header_len: ip.header_len() as u16,
        total_len: ip.total_len() as u32,
        ttl: ip.ttl(),
        fragment: ip.fragment(),
        protocol: ip.protocol(),
        payload: ip.payload(),
        payload_len: ip.payload_len(),
    };
    let (src, dst) = (ip.src().to_bits(), ip.dst().to_bits());
    network.parse(|proto, sport, dport| WireTuple::V4(TupleV4 { src, dst, sport, dport, proto }))
}

#[inline(always)]
fn v6(bytes: &[u8], available: usize, link: Link) -> Result<Parsed, Malformed> {
    let ip = Ipv6::parse_within(bytes, available)?;
    let network = Network {
        family: Family::V6,
        link,
        header_len: ip.header_len() as u16,
        total_len: ip.total_len() as u32,
        ttl: ip.hop_limit(),
        fragment: ip.fragment(),
        protocol: ip.protocol(),
        payload: ip.payload(),
        payload_len: ip.payload_len(),
    };
    let (src, dst) = (ip.src().to_bits(), ip.dst().to_bits());
    network.parse(|proto, sport, dport| WireTuple::V6(TupleV6 { src, dst, sport, dport, proto }))
}

impl Network<'_> {
    /// Reads the transport header.
    #[inline(always)]
    fn parse(&self, tuple: impl Fn(L4Proto, u16, u16) -> WireTuple) -> Result<Parsed, Malformed> {
        let behind = |fault: Malformed| fault.behind(usize::from(self.header_len));
        if self.fragment == Fragment::Later {
            return self.finish(Transport::Other(self.protocol), 0, None);
        }
        match (self.protocol, self.family) {
            (PROTOCOL_TCP, _) => {
                let tcp = Tcp::parse(self.payload).map_err(behind)?;
                let tuple = tuple(L4Proto::Tcp, tcp.sport(), tcp.dport());
                let (flags, window) = (tcp.flags(), tcp.window());
                let transport = Transport::Tcp { flags, seq: tcp.seq(), ack: tcp.ack(), window };
                self.finish(transport, tcp.header_len(), Some(tuple))
            }
            (PROTOCOL_UDP, _) => {
                let first = self.fragment == Fragment::First;
                let available = if first { ipv4::MAX_PACKET } else { self.payload_len };
                let udp = Udp::parse_within(self.payload, available).map_err(behind)?;
                let tuple = tuple(L4Proto::Udp, udp.sport(), udp.dport());
                self.finish(Transport::Udp, udp::HEADER_LEN, Some(tuple))
            }
            (PROTOCOL_ICMP, Family::V4) => {
                let icmp = Icmpv4::parse(self.payload).map_err(behind)?;
                let transport = Transport::Icmp { kind: icmp.kind(), code: icmp.code() };
                self.finish(transport, icmpv4::HEADER_LEN, None)
            }
            (PROTOCOL_ICMPV6, Family::V6) => {
                let icmp = Icmpv6::parse(self.payload).map_err(behind)?;
                let transport = Transport::Icmp { kind: icmp.kind(), code: icmp.code() };
                let header_len = icmpv6::message_len(icmp.kind()).min(icmpv4::HEADER_LEN);
                self.finish(transport, header_len, None)
            }
            (protocol, _) => self.finish(Transport::Other(protocol), 0, None),
        }
    }

    /// `l4_header_len` is at most 60. All offsets lie below 2^15, so none is cut off.
    #[inline(always)]
    fn finish(
        &self,
        transport: Transport,
        l4_header_len: usize,
        tuple: Option<WireTuple>,
    ) -> Result<Parsed, Malformed> {
        let Link { vlan, l3 } = self.link;
        let l4 = l3.saturating_add(self.header_len);
        Ok(Parsed::Ip(Headers {
            family: self.family,
            vlan,
            l3,
            l4,
            payload: l4.saturating_add(l4_header_len as u16),
            end: u32::from(l3).saturating_add(self.total_len),
            fragment: self.fragment,
            transport,
            tuple,
            ttl: self.ttl,
        }))
    }
}
