//! Packets described by their fields, built the slow and obvious way, with checksums by pnet_packet.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod icmp;
pub(crate) mod other;

use core::net::SocketAddr;
use lvs_core::addr::Family;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::io::mem::{MemBuf, MemMeta};
use lvs_core::io::{Gso, GsoKind, L4Csum};
use lvs_core::wire::{Fragment, Headers, Parsed, Transport};
use lvs_nat::{End, Ends};
use pnet_packet::{ipv4, tcp, udp};
use proptest::prelude::*;

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

/// A TCP option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opt {
    Nop,
    Mss(u16),
    WindowScale(u8),
    SackPermitted,
    Sack(Vec<(u32, u32)>),
    Timestamps(u32, u32),
    /// Kind and value.
    Raw(u8, Vec<u8>),
}

impl Opt {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Nop => vec![1],
            Self::Mss(mss) => [&[2, 4], &mss.to_be_bytes()[..]].concat(),
            Self::WindowScale(shift) => vec![3, 3, *shift],
            Self::SackPermitted => vec![4, 2],
            Self::Sack(blocks) => {
                let mut bytes = vec![5, 2 + 8 * blocks.len() as u8];
                for (left, right) in blocks {
                    bytes.extend(left.to_be_bytes());
                    bytes.extend(right.to_be_bytes());
                }
                bytes
            }
            Self::Timestamps(value, echo) => {
                [&[8, 10], &value.to_be_bytes()[..], &echo.to_be_bytes()[..]].concat()
            }
            Self::Raw(kind, value) => [&[*kind, 2 + value.len() as u8], &value[..]].concat(),
        }
    }

    /// The slow twin of the SACK edit.
    pub(crate) fn shifted(&self, add: u32) -> Self {
        match self {
            Self::Sack(blocks) => Self::Sack(
                blocks.iter().map(|(l, r)| (l.wrapping_add(add), r.wrapping_add(add))).collect(),
            ),
            other => other.clone(),
        }
    }
}

/// Options one after another, as many as fit into 40 bytes, padded with `pad` to a multiple of four.
pub(crate) fn encode(options: &[Opt], pad: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options.iter().map(Opt::bytes) {
        if bytes.len() + option.len() <= 40 {
            bytes.extend(option);
        }
    }
    while !bytes.len().is_multiple_of(4) {
        bytes.push(pad);
    }
    bytes
}

/// A packet by its fields.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) proto: L4Proto,
    pub(crate) vlan: bool,
    /// With IPv4 options or an IPv6 extension header.
    pub(crate) ip_extra: bool,
    pub(crate) ttl: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    /// Multiple of four.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// UDP over IPv4 without a checksum.
    pub(crate) no_checksum: bool,
    pub(crate) csum: L4Csum,
    /// Ethernet padding.
    pub(crate) padding: usize,
}

impl Spec {
    pub(crate) fn family(&self) -> Family {
        Family::of(&self.src.ip())
    }

    pub(crate) fn l3(&self) -> usize {
        if self.vlan { 18 } else { 14 }
    }

    pub(crate) fn l4(&self) -> usize {
        let fixed = if self.family() == Family::V4 { 20 } else { 40 };
        self.l3() + fixed + if self.ip_extra { 8 } else { 0 }
    }

    pub(crate) fn payload_at(&self) -> usize {
        self.l4() + if self.proto == L4Proto::Tcp { 20 + self.options.len() } else { 8 }
    }

    pub(crate) fn end(&self) -> usize {
        self.payload_at() + self.payload.len()
    }

    /// Offset of the transport checksum field.
    pub(crate) fn field_at(&self) -> usize {
        self.l4() + if self.proto == L4Proto::Tcp { 16 } else { 6 }
    }

    fn segment(&self) -> Vec<u8> {
        let mut l4 = Vec::new();
        l4.extend(self.src.port().to_be_bytes());
        l4.extend(self.dst.port().to_be_bytes());
        match self.proto {
            L4Proto::Icmp | L4Proto::Sctp => unreachable!("others have tests of their own"),
            L4Proto::Tcp => {
                l4.extend(self.seq.to_be_bytes());
                l4.extend(self.ack.to_be_bytes());
                l4.extend([((20 + self.options.len()) / 4 * 16) as u8 | 1, self.flags]);
                l4.extend([0x12, 0x34, 0, 0, 0x56, 0x78]);
                l4.extend(&self.options);
            }
            L4Proto::Udp => {
                l4.extend((8 + self.payload.len() as u16).to_be_bytes());
                l4.extend([0, 0]);
            }
        }
        l4.extend(&self.payload);
        l4
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.vlan {
            frame.extend([0x81, 0x00, 0x20, 0x64]);
        }
        let segment = self.segment();
        match (self.src, self.dst) {
            (SocketAddr::V4(src), SocketAddr::V4(dst)) => {
                let words = if self.ip_extra { 7 } else { 5 };
                let mut ip = vec![0x40 | words, 0x10];
                ip.extend((words as u16 * 4 + segment.len() as u16).to_be_bytes());
                ip.extend([0xab, 0xcd, 0x40, 0, self.ttl, self.proto.number(), 0, 0]);
                ip.extend(src.ip().octets());
                ip.extend(dst.ip().octets());
                if self.ip_extra {
                    ip.extend([1, 1, 1, 1, 1, 1, 1, 0]);
                }
                let sum = ipv4::checksum(&ipv4::Ipv4Packet::new(&ip).unwrap());
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend([8, 0]);
                frame.extend(ip);
            }
            (SocketAddr::V6(src), SocketAddr::V6(dst)) => {
                let extra = if self.ip_extra { 8 } else { 0 };
                frame.extend([0x86, 0xdd, 0x60, 0x12, 0x34, 0x56]);
                frame.extend((extra + segment.len() as u16).to_be_bytes());
                frame.extend([if self.ip_extra { 60 } else { self.proto.number() }, self.ttl]);
                frame.extend(src.ip().octets());
                frame.extend(dst.ip().octets());
                if self.ip_extra {
                    frame.extend([self.proto.number(), 0, 1, 4, 0, 0, 0, 0]);
                }
            }
            _ => panic!("addresses of two families"),
        }
        frame.extend(segment);
        let field = match (self.csum, self.no_checksum && self.family() == Family::V4) {
            (L4Csum::Partial, _) => self.pseudo(),
            (_, true) if self.proto == L4Proto::Udp => 0,
            _ => self.computed(&frame),
        };
        let at = self.field_at();
        frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
        frame.extend(vec![0xee; self.padding]);
        frame
    }

    /// What the field of `frame`, a packet of this shape, should hold: by pnet_packet.
    pub(crate) fn computed(&self, frame: &[u8]) -> u16 {
        let l4 = &frame[self.l4()..self.end()];
        match (self.proto, self.src, self.dst) {
            (L4Proto::Tcp, SocketAddr::V4(s), SocketAddr::V4(d)) => {
                tcp::ipv4_checksum(&tcp::TcpPacket::new(l4).unwrap(), s.ip(), d.ip())
            }
            (L4Proto::Tcp, SocketAddr::V6(s), SocketAddr::V6(d)) => {
                tcp::ipv6_checksum(&tcp::TcpPacket::new(l4).unwrap(), s.ip(), d.ip())
            }
            (L4Proto::Udp, SocketAddr::V4(s), SocketAddr::V4(d)) => {
                match udp::ipv4_checksum(&udp::UdpPacket::new(l4).unwrap(), s.ip(), d.ip()) {
                    0 => 0xffff,
                    other => other,
                }
            }
            (L4Proto::Udp, SocketAddr::V6(s), SocketAddr::V6(d)) => {
                match udp::ipv6_checksum(&udp::UdpPacket::new(l4).unwrap(), s.ip(), d.ip()) {
                    0 => 0xffff,
                    other => other,
                }
            }
            _ => panic!("addresses of two families"),
        }
    }

    /// The folded pseudo-header sum, word by word.
    fn pseudo(&self) -> u16 {
        let mut bytes = match (self.src, self.dst) {
            (SocketAddr::V4(s), SocketAddr::V4(d)) => [s.ip().octets(), d.ip().octets()].concat(),
            (SocketAddr::V6(s), SocketAddr::V6(d)) => [s.ip().octets(), d.ip().octets()].concat(),
            _ => panic!("addresses of two families"),
        };
        bytes.extend([0, self.proto.number()]);
        bytes.extend(((self.end() - self.l4()) as u32).to_be_bytes());
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// What the transport checksum field of `frame` holds.
    pub(crate) fn field(&self, frame: &[u8]) -> u16 {
        u16::from_be_bytes(frame[self.field_at()..][..2].try_into().unwrap())
    }

    /// The headers by the description, for frames that a parser would refuse.
    pub(crate) fn headers(&self) -> Headers {
        Headers {
            family: self.family(),
            vlan: None,
            l3: self.l3() as u16,
            l4: self.l4() as u16,
            payload: self.payload_at() as u16,
            end: self.end() as u32,
            fragment: Fragment::No,
            transport: match self.proto {
                L4Proto::Tcp => Transport::Tcp {
                    flags: self.flags,
                    seq: self.seq,
                    ack: self.ack,
                    window: 0x1234,
                },
                L4Proto::Udp => Transport::Udp,
                L4Proto::Icmp | L4Proto::Sctp => unreachable!("others have tests of their own"),
            },
            tuple: WireTuple::new(
                self.proto,
                self.src.ip(),
                self.src.port(),
                self.dst.ip(),
                self.dst.port(),
            ),
            ttl: self.ttl,
        }
    }

    /// The headers as parsed from the frame.
    pub(crate) fn parsed(&self) -> Headers {
        let frame = self.build();
        let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) else {
            panic!("{:?} of {self:?}", Headers::parse(&frame, frame.len()))
        };
        headers
    }

    /// The packet in a buffer, its payload cut off into a tail if `chained`.
    pub(crate) fn buffer(&self, headroom: usize, gso: Option<u16>, chained: bool) -> MemBuf {
        let frame = self.build();
        let cut = if chained { self.payload_at() } else { frame.len() };
        let (first, tail) = frame.split_at(cut);
        let kind = match self.family() {
            Family::V4 => GsoKind::TcpV4,
            Family::V6 => GsoKind::TcpV6,
        };
        MemBuf::with_room(first, headroom, 0).with_tail(tail).with_meta(MemMeta {
            l4_csum: self.csum,
            gso: gso.map(|size| Gso { kind, size }),
            ..MemMeta::default()
        })
    }
}

pub(crate) fn socket(v6: bool, ip: u128, port: u16) -> SocketAddr {
    match v6 {
        false => SocketAddr::new(core::net::IpAddr::V4((ip as u32).into()), port),
        true => SocketAddr::new(core::net::IpAddr::V6(ip.into()), port),
    }
}

/// Bytes with many zeros and ones, where checksums have their corners.
pub(crate) fn edgy(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..max)
}

fn edgy_u32() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), Just(0x7fff_ffff), 0u32..20, any::<u32>()]
}

pub(crate) fn one_option() -> impl Strategy<Value = Opt> {
    prop_oneof![
        3 => Just(Opt::Nop),
        1 => any::<u16>().prop_map(Opt::Mss),
        1 => (0u8..15).prop_map(Opt::WindowScale),
        1 => Just(Opt::SackPermitted),
        3 => prop::collection::vec((edgy_u32(), edgy_u32()), 1..4).prop_map(Opt::Sack),
        2 => any::<(u32, u32)>().prop_map(|(a, b)| Opt::Timestamps(a, b)),
        1 => (prop_oneof![Just(28u8), Just(200), Just(253), Just(254)], edgy(19))
            .prop_map(|(kind, value)| Opt::Raw(kind, value)),
        1 => edgy(17).prop_map(|v| Opt::Raw(254, [&[0xf9, 0x89], &v[..]].concat())),
        1 => (30u8..40, edgy(9)).prop_map(|(kind, value)| Opt::Raw(kind, value)),
    ]
}

pub(crate) fn options() -> impl Strategy<Value = Vec<Opt>> {
    prop_oneof![
        1 => Just(vec![]),
        1 => any::<(u32, u32)>()
            .prop_map(|(a, b)| vec![Opt::Nop, Opt::Nop, Opt::Timestamps(a, b)]),
        6 => prop::collection::vec(one_option(), 0..8),
    ]
}

pub(crate) fn states() -> impl Strategy<Value = L4Csum> {
    prop_oneof![Just(L4Csum::Unknown), Just(L4Csum::Good), Just(L4Csum::Bad), Just(L4Csum::Partial)]
}

/// Packets of every kind, TCP with the options given beside.
pub(crate) fn specs() -> impl Strategy<Value = (Spec, Vec<Opt>)> {
    let shape = (any::<[bool; 5]>(), any::<(u128, u128, u16, u16)>(), 2u8.., any::<(u32, u32)>());
    let rest = (any::<u8>(), options(), 0u8..2, edgy(80), states(), 0usize..8);
    (shape, rest).prop_map(
        |((bits, addrs, ttl, numbers), (flags, list, pad, payload, csum, padding))| {
            let [v6, is_tcp, vlan, ip_extra, no_checksum] = bits;
            let options = if is_tcp { encode(&list, pad) } else { vec![] };
            let spec = Spec {
                src: socket(v6, addrs.0, addrs.2),
                dst: socket(v6, addrs.1, addrs.3),
                proto: if is_tcp { L4Proto::Tcp } else { L4Proto::Udp },
                vlan,
                ip_extra,
                ttl,
                seq: numbers.0,
                ack: numbers.1,
                flags,
                options,
                payload,
                no_checksum,
                csum,
                padding,
            };
            (spec, list)
        },
    )
}

/// TCP only.
pub(crate) fn tcp_specs() -> impl Strategy<Value = (Spec, Vec<Opt>)> {
    (specs(), options(), 0u8..2).prop_map(|((mut spec, _), list, pad)| {
        spec.proto = L4Proto::Tcp;
        spec.options = encode(&list, pad);
        (spec, list)
    })
}

pub(crate) fn ends_v4(
    client: &SocketAddr,
    virt: &SocketAddr,
    local: &SocketAddr,
    server: &SocketAddr,
) -> Ends<u32> {
    let end = |s: &SocketAddr| match s {
        SocketAddr::V4(v4) => End::new(v4.ip().to_bits(), v4.port()),
        SocketAddr::V6(_) => panic!("not IPv4"),
    };
    Ends::full_nat(end(client), end(virt), end(local), end(server))
}
