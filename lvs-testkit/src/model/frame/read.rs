//! Takes frames apart: the checks of Ethernet, ARP, IPv4, IPv6 and the transports, one after another.

use super::{Arp, Frame, Ip, Piece, Tcp, Upper, long, mac, word};
use crate::build::sum::ones_sum;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use lvs_core::io::L4Csum;
use lvs_core::verdict::DropReason;

/// Takes a frame apart, or says why nobody may.
pub(in super::super) fn read(bytes: &[u8], csum: L4Csum) -> Result<Frame, DropReason> {
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
        piece: fragment.then(|| Piece {
            id: word(body, 4).into(),
            start: offset,
            len: carried,
            last: !more,
        }),
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
    let (more, offset) = fragments.map_or((false, 0), |field| (field.more, field.offset));
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
        piece: fragments.map(|field| Piece {
            id: field.id,
            start: offset,
            len: total - 40 - field.behind,
            last: !more,
        }),
        fragment_header: fragments.is_some(),
        upper: Upper::Other(body[40 + at..total].to_vec()),
        padding: body[total..].to_vec(),
        csum,
        wrong_by: None,
    }
    .with_transport(offset > 0)
}

/// What a fragment header says.
#[derive(Clone, Copy)]
struct FragmentField {
    more: bool,
    /// In bytes.
    offset: usize,
    id: u32,
    /// Where the piece begins, counted from the first extension header.
    behind: usize,
}

/// Protocol and offset of what stands behind the extension headers, and the fragment header. `None` when they are not in order.
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
                let (id, behind) = (long(header, 4), at + 8);
                fragment = Some(FragmentField { more, offset, id, behind });
            }
            _ => {}
        }
        (next, at) = (header[0], at + len);
        if fragment.is_some_and(|field| field.offset > 0) {
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
