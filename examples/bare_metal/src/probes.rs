//! One function for each part of the packet path that must not be able to panic.
//!
//! A probe takes any frame and returns a number that depends on all that the code under it found,
//! so that nothing of it can be optimised away.

use core::hash::{Hash, Hasher};
use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_core::addr::{Prefix, is_martian_source};
use lvs_core::checksum::{Delta, Sum, complete_partial};
use lvs_core::flow::L4Proto;
use lvs_core::io::{Burst, Lane, PacketBuf, PortId};
use lvs_core::siphash::SipHash13;
use lvs_core::wire::{
    Arp, Headers, Icmpv4, Icmpv6, Ipv4, Ipv6, Ndp, NdpFrame, Parsed, Tcp, TcpOption, Udp, echo,
};

use crate::lane::OneFrame;

/// Folds whatever is hashed into one number. Not a good hash, only one that uses every byte.
#[derive(Default)]
pub(crate) struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(5) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn fold(found: impl Hash) -> u64 {
    let mut fold = Fold::default();
    found.hash(&mut fold);
    fold.finish()
}

/// Fills, drains and refills a burst with as many packets as the frame is long.
pub fn burst(frame: &mut [u8]) -> u64 {
    let mut burst = Burst::new();
    let mut sum = 0u64;
    for byte in frame.iter().copied() {
        if let Err(byte) = burst.push(byte) {
            sum = sum.wrapping_add(u64::from(byte));
            burst.drain_with(|byte| sum = sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        }
    }
    while let Some(byte) = burst.pop() {
        sum = sum.wrapping_mul(33) ^ u64::from(byte);
    }
    sum
}

/// Classifies the addresses that the frame starts with.
pub fn addresses(frame: &mut [u8]) -> u64 {
    let Some((v4, rest)) = frame.split_first_chunk::<4>() else { return 1 };
    let Some((v6, rest)) = rest.split_first_chunk::<16>() else { return 2 };
    let length = rest.first().copied().unwrap_or_default();
    let mut seen = 0u64;
    for addr in [IpAddr::V4(Ipv4Addr::from(*v4)), IpAddr::V6(Ipv6Addr::from(*v6))] {
        seen = seen << 8 | u64::from(is_martian_source(&addr));
        if let Some(prefix) = Prefix::new(addr, length) {
            let inside = [
                prefix.contains(&addr),
                prefix.contains(&black_box(IpAddr::V4(Ipv4Addr::LOCALHOST))),
                prefix.contains(&black_box(IpAddr::V6(Ipv6Addr::LOCALHOST))),
            ];
            seen = inside.iter().fold(seen, |seen, inside| seen << 1 | u64::from(*inside));
        }
    }
    seen
}

/// Parses the frame in one pass, as the director does, also as the first part of a longer packet.
pub fn headers(frame: &mut [u8]) -> u64 {
    let parsed = Headers::parse(frame, black_box(frame.len()));
    let more = match &parsed {
        Ok(Parsed::Ip(headers)) => {
            let options = headers.tcp(frame).map(|tcp| tcp.options().count());
            Some((headers.addresses(frame), headers.fragment_id(frame), options))
        }
        _ => None,
    };
    fold((parsed, more))
}

/// Walks the options and extension headers of the single views.
pub fn views(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    if let Ok(ip) = Ipv4::parse(frame) {
        ip.options().for_each(|option| (option.kind, option.offset, option.value).hash(&mut seen));
        (ip.src(), ip.dst(), ip.fragment(), ip.payload()).hash(&mut seen);
    }
    if let Ok(ip) = Ipv6::parse(frame) {
        ip.extensions()
            .for_each(|header| (header.kind, header.offset, header.bytes).hash(&mut seen));
        (ip.src(), ip.dst(), ip.fragment(), ip.payload()).hash(&mut seen);
    }
    if let Ok(tcp) = Tcp::parse(frame) {
        (tcp.seq(), tcp.option_bytes(), tcp.payload()).hash(&mut seen);
        for at in tcp.options() {
            let edges = match at.option {
                TcpOption::Sack(blocks) => {
                    blocks.fold(0, |seen, (left, right)| seen ^ left ^ right)
                }
                TcpOption::Timestamps { value, echo } => value ^ echo,
                _ => 0u32,
            };
            (at.offset, at.bytes, edges).hash(&mut seen);
        }
    }
    if let Ok(udp) = Udp::parse(frame) {
        (udp.sport(), udp.dport(), udp.len(), udp.payload()).hash(&mut seen);
    }
    if let Ok(icmp) = Icmpv4::parse(frame) {
        (icmp.kind(), icmp.echo_id(), icmp.payload()).hash(&mut seen);
    }
    if let Ok(icmp) = Icmpv6::parse(frame) {
        (icmp.kind(), icmp.word(), icmp.payload()).hash(&mut seen);
    }
    seen.finish()
}

/// Sums, corrects and completes checksums over the frame.
pub fn checksums(frame: &mut [u8]) -> u64 {
    let sum = Sum::ZERO.bytes(frame);
    let fixed = black_box(Delta::default()).u16(sum.fold(), sum.checksum()).apply(sum.fold());
    let completed = complete_partial(frame, L4Proto::Tcp).ok();
    fold((sum.checksum(), fixed, completed, complete_partial(frame, L4Proto::Udp).ok()))
}

/// Hashes the frame as a keyed lookup does.
pub fn siphash(frame: &mut [u8]) -> u64 {
    SipHash13::new(&black_box([7, 9])).bytes(frame)
}

/// Receives, edits at both ends, answers echoes in place and sends, over a lane.
pub fn lane(frame: &mut [u8]) -> u64 {
    let mut lane = OneFrame::new(frame, black_box(100));
    let mut burst = Burst::new();
    let mut seen = Fold::default();
    for port in (0..lane.port_count()).map(PortId) {
        while let Ok(1..) = lane.rx_burst(port, &mut burst) {
            for packet in burst.iter_mut() {
                let room = (packet.headroom(), packet.tailroom());
                let grown = packet.push_front(black_box(4)).is_ok();
                let shrunk = packet.pull_front(black_box(4)).is_ok();
                let longer = packet.push_back(black_box(6)).is_ok();
                packet.truncate(black_box(1500));
                let answer = echo::reply_in_place(packet.data_mut(), black_box(64));
                (room, grown, shrunk, longer, answer).hash(&mut seen);
            }
            lane.tx_burst(port, &mut burst).ok().hash(&mut seen);
        }
    }
    if let Some(packet) = lane.alloc(black_box(64)) {
        packet.data().hash(&mut seen);
    }
    seen.finish() ^ lane.sent ^ lane.stats(PortId(0)).tx
}

/// Neighbours found, and frames written about them.
pub fn neighbours(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    if let Ok(arp) = Arp::parse(frame) {
        let reply = arp.reply_from(arp.target_mac);
        (arp, reply.emit(arp.sender_mac, None, frame)).hash(&mut seen);
    }
    if let Ok(ndp) = Ndp::parse(frame) {
        let (mac, target) = (ndp.link_address().unwrap_or_default(), ndp.target());
        ndp.options().for_each(|option| (option.kind, option.value).hash(&mut seen));
        let answer = ndp.answer(mac, mac);
        let question = NdpFrame::solicitation(mac, ndp.src(), target);
        (answer.emit(None, frame), question.emit(None, frame)).hash(&mut seen);
    }
    seen.finish()
}
