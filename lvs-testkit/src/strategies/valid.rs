//! Frames that every receiver must accept.

use super::flow::{Flow, flow};
use crate::build::{Built, Csum, Ext, Layer4, Packet, Tcp, Udp, echo, echo_reply, flag, option};
use crate::build::{tcp, udp};
use lvs_core::io::mem::MemBuf;
use proptest::collection::vec;
use proptest::prelude::*;

/// Payload bytes: often few, at most 1300 so that headers still fit into 1500.
pub fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => vec(any::<u8>(), 0..32), 1 => vec(any::<u8>(), 0..1300)]
}

/// Flag combinations of real segments.
pub fn tcp_flags() -> impl Strategy<Value = u8> {
    use flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};
    prop::sample::select(vec![
        ACK,
        ACK | PSH,
        SYN,
        SYN | ACK,
        FIN | ACK,
        FIN | PSH | ACK,
        RST,
        RST | ACK,
        ACK | URG,
        SYN | ECE | CWR,
        SYN | ACK | ECE,
        ACK | ECE,
        ACK | CWR,
    ])
}

/// One well-formed option.
fn one_option() -> impl Strategy<Value = Vec<u8>> {
    let toa = flow().prop_map(|flow| option::toa(flow.src));
    // Kinds that nobody interprets, at their shortest and with data.
    let unknown = (20u8..=250, vec(any::<u8>(), 0..6)).prop_map(|(kind, d)| option::any(kind, &d));
    prop_oneof![
        3 => Just(option::NOP.to_vec()),
        2 => (64u16..=9000).prop_map(option::mss),
        2 => (0u8..=14).prop_map(option::window_scale),
        2 => Just(option::sack_permitted()),
        2 => vec((any::<u32>(), any::<u32>()), 1..4).prop_map(|blocks| option::sack(&blocks)),
        3 => (any::<u32>(), any::<u32>()).prop_map(|(value, echo)| option::timestamps(value, echo)),
        1 => toa,
        1 => unknown,
    ]
}

/// Well-formed TCP options of up to 40 bytes in any order, sometimes with an end of list.
pub fn tcp_options() -> impl Strategy<Value = Vec<u8>> {
    (vec(one_option(), 0..8), any::<bool>()).prop_map(|(list, end)| {
        let mut bytes = Vec::new();
        for option in list {
            if bytes.len() + option.len() <= 40 {
                bytes.extend(option);
            }
        }
        if end && bytes.len() < 40 {
            bytes.push(0);
        }
        bytes
    })
}

/// Well-formed IPv4 options, padded to whole words: nothing in most cases, else no-operations,
/// record route, time stamp, router alert.
pub fn ip_options() -> impl Strategy<Value = Vec<u8>> {
    let some = prop::sample::select(vec![
        vec![1, 1, 1, 1],
        vec![7, 7, 4, 0, 0, 0, 0, 0],
        vec![68, 8, 5, 0, 0, 0, 0, 0],
        vec![148, 4, 0, 0],
        vec![1, 148, 4, 0, 0, 0],
    ]);
    prop_oneof![4 => Just(Vec::new()), 1 => some]
}

/// Well-formed IPv6 extension headers in the order of RFC 8200 section 4.1, mostly none.
pub fn ext_headers() -> impl Strategy<Value = Vec<Ext>> {
    let options = || prop::sample::select(vec![vec![], vec![5, 2, 0, 0], vec![1, 10], vec![0; 14]]);
    let padded = |mut options: Vec<u8>| {
        // A PadN states its length; fill what it promises.
        if options == [1, 10] {
            options.resize(12, 0);
        }
        options
    };
    let some =
        (prop::option::of(options()), prop::option::of(options()), prop::option::of(any::<u32>()))
            .prop_map(move |(hop, destination, fragment)| {
                let hop = hop.map(|options| Ext::HopByHop(padded(options)));
                let fragment = fragment.map(|ident| Ext::Fragment(0, false, ident));
                let destination = destination.map(|options| Ext::Destination(padded(options)));
                [hop, fragment, destination].into_iter().flatten().collect()
            });
    prop_oneof![4 => Just(Vec::new()), 1 => some]
}

/// Everything below the transport header.
fn below<P: Layer4 + Clone + core::fmt::Debug + 'static>(
    packet: impl Strategy<Value = Packet<P>>,
) -> impl Strategy<Value = Packet<P>> {
    let link = (vec(0u16..4096, 0..3), 0usize..20);
    let ip = (1u8..=255, any::<u8>(), any::<u16>(), any::<bool>(), ip_options(), ext_headers());
    (packet, flow(), link, ip).prop_map(|(packet, flow, (vlans, pad), ip)| {
        let (ttl, tos, ident, dont_fragment, options, ext) = ip;
        let mut packet = packet.from(flow.src).to(flow.dst).pad(pad);
        packet = packet.ttl(ttl).tos(tos).ident(ident).dont_fragment(dont_fragment);
        for vlan in vlans {
            packet = packet.vlan(vlan);
        }
        if flow.is_v6() {
            ext.into_iter().fold(packet, Packet::ext)
        } else {
            packet.ip_options(&options)
        }
    })
}

/// A valid TCP segment in the making, of either family. A SYN, RST or plain segment with any
/// numbers, options and payload.
pub fn tcp_packet() -> impl Strategy<Value = Packet<Tcp>> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u16>());
    below((tcp_flags(), numbers, tcp_options(), payload()).prop_map(
        |(flags, (seq, ack, window), options, payload)| {
            tcp()
                .flags(flags)
                .ack_number(if flags & flag::ACK == 0 { 0 } else { ack })
                .seq(seq)
                .window(window)
                .options(&options)
                .payload(payload)
        },
    ))
}

/// A valid UDP datagram in the making, of either family.
pub fn udp_packet() -> impl Strategy<Value = Packet<Udp>> {
    below(payload().prop_map(|payload| udp().payload(payload)))
}

/// A valid frame: TCP, UDP or an ICMP echo, IPv4 or IPv6, with tags, options, extension headers and
/// padding.
pub fn valid() -> impl Strategy<Value = Built> {
    let icmp = (any::<bool>(), any::<u16>(), any::<u16>(), payload());
    let icmp = icmp.prop_map(|(reply, ident, seq, payload)| {
        let packet = if reply { echo_reply(ident, seq) } else { echo(ident, seq) };
        packet.payload(payload)
    });
    prop_oneof![
        4 => tcp_packet().prop_map(|packet| packet.build_parts()),
        2 => udp_packet().prop_map(|packet| packet.build_parts()),
        1 => below(icmp).prop_map(|packet| packet.build_parts()),
    ]
}

/// A valid packet as a device delivers it: with a full or a partial checksum, or a train of
/// segments; a tag in the bytes or beside. [`nic::on_wire`](crate::nic::on_wire) gives the frames
/// that it stands for.
pub fn valid_buf() -> impl Strategy<Value = MemBuf> {
    let segment = (100u16..=1400, 1usize..=6);
    let shape = prop_oneof![Just(None), Just(Some(None)), segment.prop_map(|s| Some(Some(s)))];
    let endpoints = (flow(), any::<bool>(), prop::option::of(1u16..4095));
    (endpoints, tcp_options(), payload(), shape).prop_map(
        |((flow, is_tcp, vlan), options, payload, shape)| {
            if is_tcp {
                shaped(tcp().ack(7).psh().options(&options).payload(payload), flow, vlan, shape)
            } else {
                shaped(udp().payload(payload), flow, vlan, shape)
            }
        },
    )
}

/// `None`: full checksum; `Some(None)`: partial; else a train of so many segments of that size.
type Shape = Option<Option<(u16, usize)>>;

fn shaped<P: Layer4>(packet: Packet<P>, flow: Flow, vlan: Option<u16>, shape: Shape) -> MemBuf {
    let mut packet = packet.from(flow.src).to(flow.dst);
    if let Some(id) = vlan {
        packet = packet.vlan_beside(id);
    }
    match shape {
        None => packet.build_buf(),
        Some(None) => packet.l4_csum(Csum::Partial).build_buf(),
        Some(Some((size, count))) => {
            packet.payload_len(usize::from(size) * count + 1).gso(size).build_buf()
        }
    }
}
