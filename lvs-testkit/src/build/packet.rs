//! Everything below the transport header: Ethernet, tags, IPv4, IPv6, and the knobs that break them.

use super::ext::{self, Ext};
use super::sum;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use lvs_core::addr::MacAddr;
use lvs_core::io::mem::{MemBuf, MemMeta};
use lvs_core::io::{Gso, GsoKind, L4Csum, PacketBuf, Vlan};

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
    src_mac: MacAddr,
    dst_mac: MacAddr,
    tags: Vec<Vlan>,
    beside: Option<Vlan>,
    ethertype: Option<u16>,
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    ip: Ip,
    ext: Vec<Ext>,
    payload: Vec<u8>,
    csum: Csum,
    gso: Option<u16>,
    pad: usize,
    pad_to: usize,
    cut: Option<usize>,
}

#[derive(Clone, Debug)]
struct Ip {
    ttl: u8,
    tos: u8,
    ident: u16,
    dont_fragment: bool,
    fragment: Option<(u16, bool)>,
    options: Vec<u8>,
    version: Option<u8>,
    ihl: Option<u8>,
    len: Option<u16>,
    next: Option<u8>,
    csum: Csum,
}

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
