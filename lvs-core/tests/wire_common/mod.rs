//! A small frame builder and its proptest strategies, written from the RFCs and without the crate
//! under test.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use proptest::collection::vec;
use proptest::prelude::*;

pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 2];
pub const DIRECTOR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

/// The slow twin of every checksum: word by word, in 16-bit one's complement.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[derive(Clone, Debug)]
pub enum L4 {
    Tcp { sport: u16, dport: u16, seq: u32, ack: u32, flags: u8, window: u16, options: Vec<u8> },
    Udp { sport: u16, dport: u16 },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Other { protocol: u8 },
}

#[derive(Clone, Debug)]
pub enum Ip {
    V4 { src: [u8; 4], dst: [u8; 4], options: Vec<u8> },
    V6 { src: [u8; 16], dst: [u8; 16], extensions: Vec<(u8, Vec<u8>)> },
}

/// A frame to build. Everything in it is valid, unless a test says otherwise.
#[derive(Clone, Debug)]
pub struct Frame {
    pub tags: Vec<(u16, u16)>,
    pub ip: Ip,
    pub ttl: u8,
    pub l4: L4,
    pub payload: Vec<u8>,
    pub padding: usize,
}

impl Frame {
    pub fn tcp_v4() -> Self {
        let (src, dst) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        Self {
            tags: vec![],
            ip: Ip::V4 { src, dst, options: vec![] },
            ttl: 64,
            l4: L4::Tcp {
                sport: 40000,
                dport: 80,
                seq: 7,
                ack: 0,
                flags: 2,
                window: 65535,
                options: vec![],
            },
            payload: vec![],
            padding: 0,
        }
    }

    pub fn udp_v4() -> Self {
        let l4 = L4::Udp { sport: 5353, dport: 53 };
        Self { l4, payload: b"question".to_vec(), ..Self::tcp_v4() }
    }

    pub fn v6(self) -> Self {
        let mut src = [0; 16];
        (src[0], src[1], src[15]) = (0xfd, 0, 1);
        let mut dst = src;
        dst[15] = 2;
        Self { ip: Ip::V6 { src, dst, extensions: vec![] }, ..self }
    }

    pub fn with_tcp_options(mut self, bytes: &[u8]) -> Self {
        if let L4::Tcp { options, .. } = &mut self.l4 {
            *options = bytes.to_vec();
        }
        self
    }

    pub fn with_ip_options(mut self, bytes: &[u8]) -> Self {
        if let Ip::V4 { options, .. } = &mut self.ip {
            *options = bytes.to_vec();
        }
        self
    }

    /// Extension headers as (number, bytes behind "next header").
    pub fn with_extensions(mut self, list: &[(u8, &[u8])]) -> Self {
        if let Ip::V6 { extensions, .. } = &mut self.ip {
            *extensions = list.iter().map(|(kind, bytes)| (*kind, bytes.to_vec())).collect();
        }
        self
    }

    pub fn is_v4(&self) -> bool {
        matches!(self.ip, Ip::V4 { .. })
    }

    pub fn protocol(&self) -> u8 {
        match self.l4 {
            L4::Tcp { .. } => 6,
            L4::Udp { .. } => 17,
            L4::Icmp { .. } if self.is_v4() => 1,
            L4::Icmp { .. } => 58,
            L4::Other { protocol } => protocol,
        }
    }

    pub fn l3(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    pub fn l4_offset(&self) -> usize {
        self.l3()
            + match &self.ip {
                Ip::V4 { options, .. } => 20 + options.len(),
                Ip::V6 { extensions, .. } => {
                    40 + extensions.iter().map(|(_, bytes)| bytes.len() + 1).sum::<usize>()
                }
            }
    }

    pub fn l4_header_len(&self) -> usize {
        match &self.l4 {
            L4::Tcp { options, .. } => 20 + options.len(),
            L4::Udp { .. } | L4::Icmp { .. } => 8,
            L4::Other { .. } => 0,
        }
    }

    pub fn end(&self) -> usize {
        self.l4_offset() + self.l4_header_len() + self.payload.len()
    }

    fn pseudo(&self, len: usize) -> Vec<u8> {
        let tail = [0, self.protocol()];
        match &self.ip {
            Ip::V4 { src, dst, .. } => {
                [&src[..], &dst[..], &tail, &(len as u16).to_be_bytes()].concat()
            }
            Ip::V6 { src, dst, .. } => {
                [&src[..], &dst[..], &tail, &(len as u32).to_be_bytes()].concat()
            }
        }
    }

    fn l4_bytes(&self) -> Vec<u8> {
        let len = self.l4_header_len() + self.payload.len();
        let (mut bytes, checksum_at) = match &self.l4 {
            L4::Tcp { sport, dport, seq, ack, flags, window, options } => {
                let mut b = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
                b.extend(seq.to_be_bytes());
                b.extend(ack.to_be_bytes());
                b.extend([(((20 + options.len()) / 4) << 4) as u8, *flags]);
                b.extend(window.to_be_bytes());
                b.extend([0; 4]);
                b.extend(options);
                (b, Some(16))
            }
            L4::Udp { sport, dport } => {
                let words = [sport, dport, &(len as u16), &0];
                (words.iter().flat_map(|w| w.to_be_bytes()).collect(), Some(6))
            }
            L4::Icmp { kind, code, rest } => ([&[*kind, *code, 0, 0], &rest[..]].concat(), Some(2)),
            L4::Other { .. } => (vec![], None),
        };
        bytes.extend(&self.payload);
        if let Some(at) = checksum_at {
            let pseudo = self.pseudo(len);
            let with_pseudo = self.protocol() != 1;
            let value = checksum(&[if with_pseudo { &pseudo } else { &[] }, &bytes]);
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }

    pub fn build(&self) -> Vec<u8> {
        let mut frame = [DIRECTOR_MAC, CLIENT_MAC].concat();
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        let l4 = self.l4_bytes();
        match &self.ip {
            Ip::V4 { src, dst, options } => {
                frame.extend([0x08, 0x00]);
                let header_len = 20 + options.len();
                let total = (header_len + l4.len()) as u16;
                frame.extend([0x40 | (header_len / 4) as u8, 0]);
                frame.extend(total.to_be_bytes());
                frame.extend([0, 1, 0x40, 0, self.ttl, self.protocol(), 0, 0]);
                frame.extend(src);
                frame.extend(dst);
                frame.extend(options);
                fix_ipv4_checksum(&mut frame, self.l3());
            }
            Ip::V6 { src, dst, extensions } => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                let len = self.l4_offset() - self.l3() - 40 + l4.len();
                frame.extend((len as u16).to_be_bytes());
                let kinds = extensions.iter().map(|(kind, _)| *kind).chain([self.protocol()]);
                let kinds: Vec<u8> = kinds.collect();
                frame.extend([kinds[0], self.ttl]);
                frame.extend(src);
                frame.extend(dst);
                for ((_, bytes), next) in extensions.iter().zip(&kinds[1..]) {
                    frame.push(*next);
                    frame.extend(bytes);
                }
            }
        }
        frame.extend(l4);
        frame.extend(core::iter::repeat_n(0xa5, self.padding));
        frame
    }
}

/// Puts the right header checksum into the IPv4 header at `l3`.
pub fn fix_ipv4_checksum(frame: &mut [u8], l3: usize) {
    let end = (l3 + usize::from(frame[l3] & 15) * 4).min(frame.len());
    if end < l3 + 20 {
        return;
    }
    frame[l3 + 10..l3 + 12].fill(0);
    let value = checksum(&[&frame[l3..end]]);
    frame[l3 + 10..l3 + 12].copy_from_slice(&value.to_be_bytes());
}

/// Well-formed options of kind, length, value; filled up with NOPs to a multiple of four.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        Just(vec![1]),
        Just(vec![2, 4, 5, 180]),
        Just(vec![3, 3, 7]),
        Just(vec![4, 2]),
        Just(vec![8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
        (1u8..=4).prop_flat_map(|n| {
            vec(any::<u8>(), usize::from(n) * 8)
                .prop_map(move |value| [vec![5, n * 8 + 2], value].concat())
        }),
        (6u8..=254, vec(any::<u8>(), 0..=18))
            .prop_filter("timestamps have their own length", |(kind, _)| *kind != 8)
            .prop_map(|(kind, value)| [vec![kind, value.len() as u8 + 2], value].concat()),
    ];
    (vec(one, 0..6), any::<bool>()).prop_map(|(list, end)| {
        let mut bytes = vec![];
        for option in list {
            if bytes.len() + option.len() <= 40 {
                bytes.extend(option);
            }
        }
        let filler = u8::from(!end);
        while bytes.len() % 4 != 0 {
            bytes.push(filler);
        }
        bytes
    })
}

fn l4() -> impl Strategy<Value = L4> {
    let ports = (any::<u16>(), any::<u16>());
    prop_oneof![
        4 => (ports, any::<(u32, u32, u8, u16)>(), options()).prop_map(
            |((sport, dport), (seq, ack, flags, window), options)| {
                L4::Tcp { sport, dport, seq, ack, flags, window, options }
            }
        ),
        2 => ports.prop_map(|(sport, dport)| L4::Udp { sport, dport }),
        1 => (prop::sample::select(vec![0u8, 3, 8, 11, 2, 128, 129]), any::<u8>(), any::<[u8; 4]>())
            .prop_map(|(kind, code, rest)| L4::Icmp { kind, code, rest }),
        1 => prop::sample::select(vec![47u8, 50, 59, 89, 112, 132])
            .prop_map(|protocol| L4::Other { protocol }),
    ]
}

/// Extension headers that may stand in front of a transport header of a whole packet.
fn extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let pad = |n: u8| {
        let mut bytes = vec![n, 1, n * 8 + 4];
        bytes.resize(usize::from(n) * 8 + 7, 0);
        bytes
    };
    let hop = prop::option::of((0u8..3).prop_map(move |n| (0u8, pad(n))));
    let others = vec(
        prop_oneof![
            (0u8..3).prop_map(move |n| (60u8, pad(n))),
            Just((43u8, vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            (1u8..5).prop_map(|n| {
                (51u8, [vec![n], vec![0; (usize::from(n) + 2) * 4 - 2]].concat())
            }),
        ],
        0..5,
    );
    let atomic = prop::option::of(any::<[u8; 4]>());
    (hop, others, atomic).prop_map(|(hop, others, atomic)| {
        let atomic = atomic.map(|id| (44u8, [vec![0, 0, 0], id.to_vec()].concat()));
        hop.into_iter().chain(others).chain(atomic).collect()
    })
}

fn ip() -> impl Strategy<Value = Ip> {
    prop_oneof![
        3 => (any::<[u8; 4]>(), any::<[u8; 4]>(), prop_oneof![3 => Just(vec![]), 1 => options()])
            .prop_map(|(src, dst, options)| Ip::V4 { src, dst, options }),
        2 => (any::<[u8; 16]>(), any::<[u8; 16]>(), prop_oneof![2 => Just(vec![]), 1 => extensions()])
            .prop_map(|(src, dst, extensions)| Ip::V6 { src, dst, extensions }),
    ]
}

/// Valid frames of every shape the parser knows, whole, with and without padding.
pub fn frames() -> impl Strategy<Value = Frame> {
    let tags = vec((prop::sample::select(vec![0x8100u16, 0x88a8]), any::<u16>()), 0..=2);
    (tags, ip(), any::<u8>(), l4(), vec(any::<u8>(), 0..64), 0usize..20).prop_map(
        |(tags, ip, ttl, l4, payload, padding)| Frame { tags, ip, ttl, l4, payload, padding },
    )
}

/// One change to the bytes of a frame.
#[derive(Clone, Debug)]
pub enum Mutation {
    Set { at: prop::sample::Index, to: u8 },
    Flip { at: prop::sample::Index, bit: u8 },
    Cut { at: prop::sample::Index },
}

/// Frames that are nearly valid: a few bytes differ, most of them in the headers, and the IPv4
/// header checksum is usually made right again.
pub fn nearly_valid() -> impl Strategy<Value = Vec<u8>> {
    let at = any::<prop::sample::Index>();
    let mutation = prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(at, to)| Mutation::Set { at, to }),
        4 => (at.clone(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        1 => at.prop_map(|at| Mutation::Cut { at }),
    ];
    (frames(), vec(mutation, 0..4), prop::bool::weighted(0.8)).prop_map(|(built, list, fix)| {
        let mut frame = built.build();
        for mutation in list {
            if frame.is_empty() {
                break;
            }
            let headers = frame.len().min(built.l4_offset() + built.l4_header_len());
            match mutation {
                Mutation::Set { at, to } => frame[at.index(headers)] = to,
                Mutation::Flip { at, bit } => frame[at.index(headers)] ^= 1 << bit,
                Mutation::Cut { at } => frame.truncate(at.index(frame.len())),
            }
        }
        if fix && built.is_v4() && frame.len() >= built.l3() + 20 {
            fix_ipv4_checksum(&mut frame, built.l3());
        }
        frame
    })
}
