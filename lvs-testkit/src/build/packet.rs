//! A packet in the making: what it is to say, and the knobs that break it.

use super::ext::Ext;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use lvs_core::addr::MacAddr;
use lvs_core::io::{GsoKind, Vlan};

/// Source address of frames that do not say otherwise.
pub const CLIENT_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x0c]);
/// Destination address of frames that do not say otherwise.
pub const ROUTER_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);

/// An address with or without a port, for [`Packet::from`] and [`Packet::to`].
pub trait Endpoint {
    /// The address, and the port or 0.
    fn endpoint(self) -> (IpAddr, u16);
}

impl Endpoint for SocketAddr {
    fn endpoint(self) -> (IpAddr, u16) {
        (self.ip(), self.port())
    }
}

impl Endpoint for IpAddr {
    fn endpoint(self) -> (IpAddr, u16) {
        (self, 0)
    }
}

impl Endpoint for (IpAddr, u16) {
    fn endpoint(self) -> (IpAddr, u16) {
        self
    }
}

/// Panics when the text is neither `address:port` nor an address.
impl Endpoint for &str {
    fn endpoint(self) -> (IpAddr, u16) {
        let parsed = self
            .parse::<SocketAddr>()
            .map(|addr| (addr.ip(), addr.port()))
            .or_else(|_| self.parse::<IpAddr>().map(|ip| (ip, 0)));
        parsed.unwrap_or_else(|_| panic!("{self:?} is neither address:port nor an address"))
    }
}

/// What to write into a TCP or UDP checksum field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Csum {
    /// The right one.
    #[default]
    Full,
    /// The folded pseudo-header sum, to be finished by the transmitter; sets the metadata too.
    Partial,
    /// One that is certainly wrong.
    Wrong,
    /// This value.
    Value(u16),
}

/// Bytes that depend on their place, so that a shifted or repeated payload shows.
#[must_use]
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8) ^ ((at >> 8) as u8).wrapping_mul(31)).collect()
}

/// What is written behind the IP header.
pub trait Layer4 {
    /// Protocol number; ICMP depends on the family.
    fn proto(&self, v6: bool) -> u8;
    /// Header bytes with a zero checksum field.
    fn header(&self, src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8>;
    /// Offset of the checksum field in the header, if there is one.
    fn csum_at(&self) -> Option<usize>;
    /// Kind of a train, if there can be one.
    fn gso_kind(&self, v6: bool) -> Option<GsoKind>;
}

/// A packet in the making. The type of its transport header decides which further methods there
/// are; see [`tcp`](super::tcp), [`udp`](super::udp), [`icmp`](super::icmp()), [`raw`](super::raw).
#[derive(Clone, Debug)]
pub struct Packet<P> {
    pub(super) l4: P,
    pub(super) src_mac: MacAddr,
    pub(super) dst_mac: MacAddr,
    pub(super) tags: Vec<Vlan>,
    pub(super) beside: Option<Vlan>,
    pub(super) ethertype: Option<u16>,
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    pub(super) ip: Ip,
    pub(super) ext: Vec<Ext>,
    pub(super) payload: Vec<u8>,
    pub(super) csum: Csum,
    pub(super) gso: Option<u16>,
    pub(super) pad: usize,
    pub(super) pad_to: usize,
    pub(super) cut: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Ip {
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) ident: u16,
    pub(super) dont_fragment: bool,
    pub(super) fragment: Option<(u16, bool)>,
    pub(super) options: Vec<u8>,
    pub(super) version: Option<u8>,
    pub(super) ihl: Option<u8>,
    pub(super) len: Option<u16>,
    pub(super) next: Option<u8>,
    pub(super) csum: Csum,
}

impl<P: Layer4> Packet<P> {
    pub(super) fn new(l4: P) -> Self {
        let client = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 2).into(), 40000);
        let server = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 80).into(), 80);
        Self {
            l4,
            src_mac: CLIENT_MAC,
            dst_mac: ROUTER_MAC,
            tags: Vec::new(),
            beside: None,
            ethertype: None,
            src: client,
            dst: server,
            ip: Ip {
                ttl: 64,
                tos: 0,
                ident: 0x1234,
                dont_fragment: true,
                fragment: None,
                options: Vec::new(),
                version: None,
                ihl: None,
                len: None,
                next: None,
                csum: Csum::Full,
            },
            ext: Vec::new(),
            payload: Vec::new(),
            csum: Csum::Full,
            gso: None,
            pad: 0,
            pad_to: 0,
            cut: None,
        }
    }

    /// Source address and port.
    #[must_use]
    pub fn from(mut self, source: impl Endpoint) -> Self {
        self.src = source.endpoint().into();
        self
    }

    /// Destination address and port; of the same family as the source.
    #[must_use]
    pub fn to(mut self, destination: impl Endpoint) -> Self {
        self.dst = destination.endpoint().into();
        self
    }

    /// Ethernet source address.
    #[must_use]
    pub fn src_mac(mut self, mac: MacAddr) -> Self {
        self.src_mac = mac;
        self
    }

    /// Ethernet destination address.
    #[must_use]
    pub fn dst_mac(mut self, mac: MacAddr) -> Self {
        self.dst_mac = mac;
        self
    }

    /// One more 802.1Q tag in the bytes; the first one is the outermost.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.tags.push(Vlan { tpid: 0x8100, tci: id });
        self
    }

    /// One more tag in the bytes, of any type.
    #[must_use]
    pub fn tag(mut self, tag: Vlan) -> Self {
        self.tags.push(tag);
        self
    }

    /// A tag beside the packet, as a device delivers it. Only [`build_buf`](Self::build_buf) can
    /// carry it.
    #[must_use]
    pub fn vlan_beside(mut self, id: u16) -> Self {
        self.beside = Some(Vlan { tpid: 0x8100, tci: id });
        self
    }

    /// Transport payload.
    #[must_use]
    pub fn payload(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.payload = bytes.as_ref().to_vec();
        self
    }

    /// Transport payload of so many bytes of [`pattern`].
    #[must_use]
    pub fn payload_len(self, len: usize) -> Self {
        self.payload(pattern(len))
    }

    /// Time to live or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ip.ttl = ttl;
        self
    }

    /// Type of service or traffic class.
    #[must_use]
    pub fn tos(mut self, tos: u8) -> Self {
        self.ip.tos = tos;
        self
    }

    /// IPv4 identification.
    #[must_use]
    pub fn ident(mut self, ident: u16) -> Self {
        self.ip.ident = ident;
        self
    }

    /// IPv4 "don't fragment"; on unless told otherwise.
    #[must_use]
    pub fn dont_fragment(mut self, yes: bool) -> Self {
        self.ip.dont_fragment = yes;
        self
    }

    /// Only *marks* the packet as an IPv4 fragment at this offset (bytes, a multiple of 8). See
    /// [`fragments`](super::fragments) for real ones; IPv6 takes [`Ext::Fragment`].
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.ip.fragment = Some((offset, more));
        self.ip.dont_fragment = false;
        self
    }

    /// IPv4 options, padded with zeros to a multiple of four; up to 40 bytes.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip.options = options.to_vec();
        self.ip.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// One more IPv6 extension header, in order.
    #[must_use]
    pub fn ext(mut self, header: Ext) -> Self {
        self.ext.push(header);
        self
    }

    /// Bytes of padding behind the IP packet.
    #[must_use]
    pub fn pad(mut self, bytes: usize) -> Self {
        self.pad = bytes;
        self
    }

    /// Padding up to this frame length, as a device does to 60.
    #[must_use]
    pub fn pad_to(mut self, len: usize) -> Self {
        self.pad_to = len;
        self
    }

    /// What the transport checksum field holds.
    #[must_use]
    pub fn l4_csum(mut self, csum: Csum) -> Self {
        self.csum = csum;
        self
    }

    /// A wrong transport checksum.
    #[must_use]
    pub fn wrong_l4_csum(self) -> Self {
        self.l4_csum(Csum::Wrong)
    }

    /// What the IPv4 header checksum field holds.
    #[must_use]
    pub fn ip_csum(mut self, csum: Csum) -> Self {
        self.ip.csum = csum;
        self
    }

    /// A train of segments with this much payload each; its checksum is partial.
    #[must_use]
    pub fn gso(mut self, segment: u16) -> Self {
        self.gso = Some(segment);
        self.l4_csum(Csum::Partial)
    }

    /// Any EtherType instead of the right one.
    #[must_use]
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = Some(ethertype);
        self
    }

    /// Any IP version number instead of the right one.
    #[must_use]
    pub fn ip_version(mut self, version: u8) -> Self {
        self.ip.version = Some(version);
        self
    }

    /// Any IPv4 header length, in 32-bit words, instead of the right one.
    #[must_use]
    pub fn ihl(mut self, words: u8) -> Self {
        self.ip.ihl = Some(words);
        self
    }

    /// Any IPv4 total length or IPv6 payload length instead of the right one.
    #[must_use]
    pub fn ip_len(mut self, len: u16) -> Self {
        self.ip.len = Some(len);
        self
    }

    /// Any protocol number in front of the transport header instead of the right one.
    #[must_use]
    pub fn proto(mut self, number: u8) -> Self {
        self.ip.next = Some(number);
        self
    }

    /// The frame ends after so many bytes, whatever its lengths say.
    #[must_use]
    pub fn cut(mut self, len: usize) -> Self {
        self.cut = Some(len);
        self
    }

    /// Source address and port.
    #[must_use]
    pub fn source(&self) -> SocketAddr {
        self.src
    }

    /// Destination address and port.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        self.dst
    }

    /// Whether it is IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.dst.is_ipv6()
    }
}
