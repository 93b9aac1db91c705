//! A frame taken apart into owned pieces, and put together again with every checksum summed anew.
//!
//! What was wrong with the transport checksum on arrival is kept as a number, and is wrong by the
//! same number when the pieces are put together (INV-3).

use crate::build::sum::{ones_sum, pseudo_header};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use lvs_core::addr::MacAddr;
use lvs_core::flow::L4Proto;
use lvs_core::io::L4Csum;
use lvs_core::verdict::DropReason;

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

/// Takes a frame apart, or says why nobody may.
pub(super) fn read(bytes: &[u8], csum: L4Csum) -> Result<Frame, DropReason> {
    if bytes.len() < 14 || bytes[6] & 1 == 1 {
        return Err(DropReason::MalformedEthernet);
    }
    let mut l3 = 14;
    while matches!(word(bytes, l3 - 2), 0x8100 | 0x88a8) {
        // Two tags at most, each with an EtherType behind it.
        if l3 == 22 || bytes.len() < l3 + 4 {
            return Err(DropReason::MalformedEthernet);
        }
        l3 += 4;
    }
    let (link, body) = bytes.split_at(l3);
    match word(link, l3 - 2) {
        0x0806 => read_arp(body),
        0x0800 => read_v4(link, body, csum),
        0x86dd => read_v6(link, body, csum),
        _ => Ok(Frame::Other),
    }
}

/// RFC 826, for IPv4 over Ethernet and nothing else.
fn read_arp(body: &[u8]) -> Result<Frame, DropReason> {
    let known = body.len() >= 28 && body[..6] == [0, 1, 8, 0, 6, 4] && body[6] == 0;
    if !known || !matches!(body[7], 1 | 2) || body[8] & 1 == 1 {
        return Err(DropReason::MalformedArp);
    }
    let ip = |at: usize| Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]);
    Ok(Frame::Arp(Arp {
        request: body[7] == 1,
        sender_mac: mac(&body[8..]),
        sender: ip(14),
        target: ip(24),
    }))
}

/// Whether a list of IPv4 or TCP options can be read to its end.
fn options_in_order(mut rest: &[u8]) -> bool {
    while let [kind, after @ ..] = rest {
        match (*kind, after) {
            (0, _) => return true,
            (1, _) => rest = after,
            (_, [len, ..]) if *len >= 2 && usize::from(*len) <= rest.len() => {
                rest = &rest[usize::from(*len)..];
            }
            _ => return false,
        }
    }
    true
}

/// RFC 791.
fn read_v4(link: &[u8], body: &[u8], csum: L4Csum) -> Result<Frame, DropReason> {
    const BAD: DropReason = DropReason::MalformedIpv4;
    if body.len() < 20 || body[0] >> 4 != 4 {
        return Err(BAD);
    }
    let header = usize::from(body[0] & 15) * 4;
    if header < 20 || header > body.len() {
        return Err(BAD);
    }
    let total = match usize::from(word(body, 2)) {
        // A train that is longer than the field can say.
        0 if body.len() > 65535 && body[9] == 6 => body.len(),
        stated => stated,
    };
    if total < header || total > body.len() {
        return Err(BAD);
    }
    let network = &body[..header];
    if ones_sum(&[network]) != 0xffff {
        return Err(DropReason::BadIpChecksum);
    }
    if !options_in_order(&network[20..]) {
        return Err(BAD);
    }
    let (more, offset) = (word(body, 6) & 0x2000 != 0, usize::from(word(body, 6) & 0x1fff) * 8);
    let carried = total - header;
    let fragment = more || offset > 0;
    if fragment && (carried == 0 || (more && carried % 8 != 0) || offset + total > 65535) {
        return Err(BAD);
    }
    let ip = |at: usize| IpAddr::V4(Ipv4Addr::from_bits(long(body, at)));
    Ip {
        link: link.to_vec(),
        network: network.to_vec(),
        src: ip(12),
        dst: ip(16),
        ttl: body[8],
        proto: body[9],
        fragment,
        fragment_header: fragment,
        upper: Upper::Other(body[header..total].to_vec()),
        padding: body[total..].to_vec(),
        csum,
        wrong_by: None,
    }
    .with_transport(offset > 0)
}

/// RFC 8200.
fn read_v6(link: &[u8], body: &[u8], csum: L4Csum) -> Result<Frame, DropReason> {
    const BAD: DropReason = DropReason::MalformedIpv6;
    if body.len() < 40 || body[0] >> 4 != 6 {
        return Err(BAD);
    }
    let total = 40 + usize::from(word(body, 4));
    if total > body.len() || (total == 40 && body[6] == 0) {
        return Err(BAD);
    }
    let (proto, at, fragments) = walk_extensions(body[6], &body[40..total]).ok_or(BAD)?;
    let (more, offset) = fragments.unwrap_or((false, 0));
    let ip = |at: usize| {
        IpAddr::V6(Ipv6Addr::from_octets(body[at..at + 16].try_into().expect("sixteen bytes")))
    };
    Ip {
        link: link.to_vec(),
        network: body[..40 + at].to_vec(),
        src: ip(8),
        dst: ip(24),
        ttl: body[7],
        proto,
        fragment: more || offset > 0,
        fragment_header: fragments.is_some(),
        upper: Upper::Other(body[40 + at..total].to_vec()),
        padding: body[total..].to_vec(),
        csum,
        wrong_by: None,
    }
    .with_transport(offset > 0)
}

/// "More" and offset in bytes of a fragment header.
type FragmentField = (bool, usize);

/// Protocol and offset of what stands behind the extension headers, and the fragment header's "more"
/// and offset. `None` when they are not in order.
fn walk_extensions(first: u8, bytes: &[u8]) -> Option<(u8, usize, Option<FragmentField>)> {
    let (mut next, mut at, mut fragment) = (first, 0, None);
    for count in 0.. {
        if !matches!(next, 0 | 43 | 44 | 51 | 60) {
            break;
        }
        if count == 8 {
            return None;
        }
        let rest = &bytes[at..];
        let len = usize::from(*rest.get(1)?);
        let len = match next {
            44 => 8,
            51 => (len + 2) * 4,
            _ => (len + 1) * 8,
        };
        let header = rest.get(..len)?;
        match next {
            // A routing header in use hides who the destination is; type 0 is forbidden.
            43 if header[3] > 0 && header[2] == 0 => return None,
            43 if header[3] > 0 => return Some((43, at, fragment)),
            0 if at > 0 => return None,
            0 | 60 if !padding_in_order(&header[2..]) => return None,
            51 if len < 12 => return None,
            44 if fragment.is_some() => return None,
            44 => {
                let (more, offset) = (header[3] & 1 == 1, usize::from(word(header, 2) & !7));
                let carried = bytes.len() - at - 8;
                let whole = !more && offset == 0;
                let odd = more && !carried.is_multiple_of(8);
                if !whole && (carried == 0 || odd || offset + at + carried > 65535) {
                    return None;
                }
                fragment = Some((more, offset));
            }
            _ => {}
        }
        (next, at) = (header[0], at + len);
        if fragment.is_some_and(|(_, offset)| offset > 0) {
            break;
        }
    }
    Some((next, at, fragment))
}

/// Hop-by-hop and destination options, without the jumbo payload.
fn padding_in_order(mut rest: &[u8]) -> bool {
    while let [kind, after @ ..] = rest {
        match (*kind, after) {
            (0, _) => rest = after,
            (0xc2, _) | (_, []) => return false,
            (_, [len, tail @ ..]) if usize::from(*len) <= tail.len() => {
                rest = &tail[usize::from(*len)..];
            }
            _ => return false,
        }
    }
    true
}

impl Ip {
    /// Reads the transport header out of the payload, which later fragments do not have.
    fn with_transport(mut self, later: bool) -> Result<Frame, DropReason> {
        let body = match &self.upper {
            Upper::Other(body) if !later => body.clone(),
            _ => return Ok(Frame::Ip(Box::new(self))),
        };
        self.upper = match (self.proto, self.dst.is_ipv6()) {
            (6, _) => Upper::Tcp(read_tcp(&body).ok_or(DropReason::MalformedTcp)?),
            (17, _) => {
                let most = if self.fragment { 65535 } else { body.len() };
                read_udp(&body, most).ok_or(DropReason::MalformedUdp)?
            }
            (1, false) if body.len() < 8 => return Err(DropReason::MalformedIcmp),
            (58, true) if body.len() < icmpv6_len(&body) => return Err(DropReason::MalformedIcmp),
            (1, false) | (58, true) => Upper::Icmp(body.clone()),
            _ => return Ok(Frame::Ip(Box::new(self))),
        };
        let found = word(&body, self.field_at());
        let none = self.proto == 17 && found == 0 && self.csum != L4Csum::Partial;
        let right = u32::from(self.right(&self.segment()));
        self.wrong_by = (!none).then(|| (u32::from(found) + 65535 - right) % 65535);
        Ok(Frame::Ip(Box::new(self)))
    }

    fn field_at(&self) -> usize {
        match self.upper {
            Upper::Tcp(_) => 16,
            Upper::Udp { .. } => 6,
            Upper::Icmp(_) | Upper::Other(_) => 2,
        }
    }

    /// Whether this is ICMP, and which type and code.
    pub(super) fn icmp(&self) -> Option<(u8, u8)> {
        match &self.upper {
            Upper::Icmp(bytes) => Some((bytes[0], bytes[1])),
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

    /// Makes it an acknowledgement of the same numbers and nothing else.
    pub(super) fn make_bare_ack(&mut self) {
        (self.flags, self.reserved, self.urgent) = (0x10, 0, [0, 0]);
        self.options.clear();
        self.payload.clear();
    }
}

/// Shortest ICMPv6 message of the type that these bytes start with (RFC 4443, RFC 4861).
fn icmpv6_len(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(1..=4 | 128 | 129 | 133) => 8,
        Some(134) => 16,
        Some(135 | 136) => 24,
        Some(137) => 40,
        _ => 4,
    }
}

fn read_tcp(body: &[u8]) -> Option<Tcp> {
    let header = usize::from(*body.get(12)? >> 4) * 4;
    let options = body.get(20..header)?;
    options_in_order(options).then(|| Tcp {
        sport: word(body, 0),
        dport: word(body, 2),
        seq: long(body, 4),
        ack: long(body, 8),
        reserved: body[12] & 15,
        flags: body[13],
        window: [body[14], body[15]],
        urgent: [body[18], body[19]],
        options: options.to_vec(),
        payload: body[header..].to_vec(),
    })
}

fn read_udp(body: &[u8], most: usize) -> Option<Upper> {
    let rest = body.get(4..)?;
    let len = usize::from(word(rest.get(..4)?, 0));
    (8..=most).contains(&len).then(|| Upper::Udp {
        sport: word(body, 0),
        dport: word(body, 2),
        rest: rest.to_vec(),
    })
}
