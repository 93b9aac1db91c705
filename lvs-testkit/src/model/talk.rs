//! ARP, neighbour discovery and echo.

use super::frame::Arp;
use super::hops::Question;
use super::world::Is;
use super::{Model, Passing, Sent};
use crate::build::{arp_reply, arp_request, ndp_advert, ndp_solicit, sum};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use lvs_core::addr::MacAddr;
use lvs_core::io::{PortId, Vlan};
use lvs_core::snapshot::NextHop;
use lvs_core::time::Time;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};

/// A neighbour message that may be believed.
struct Message {
    solicitation: bool,
    target: Ipv6Addr,
    link: Option<MacAddr>,
}

impl Model {
    pub(super) fn arp(
        &mut self,
        now: Time,
        port: PortId,
        arp: &Arp,
        vlan: Option<Vlan>,
    ) -> Verdict {
        if self.world.is(arp.sender.into()).ours() {
            return Verdict::Drop(DropReason::SpoofedSource);
        }
        let speaks = self.world.speaks_for(arp.target.into(), port);
        if arp.request && speaks == Some(true) {
            self.expect(port, arp.sender.into());
        }
        let learned = self.learn(now, port, arp.sender.into(), arp.sender_mac);
        if arp.request && speaks == Some(true) {
            let mac = self.world.mac(port);
            let reply = arp_reply(mac, arp.target, arp.sender_mac, arp.sender).build();
            self.sent.push(Sent::own(port, reply, vlan));
            return Verdict::Answer(port);
        }
        told(learned, speaks)
    }

    pub(super) fn ndp(&mut self, now: Time, packet: &Passing) -> Verdict {
        let port = packet.port;
        if matches!(packet.ip.icmp(), Some((133 | 134 | 137, _))) {
            return Verdict::Release;
        }
        let Some(message) = read_message(packet) else {
            return Verdict::Drop(DropReason::MalformedIcmp);
        };
        let target = IpAddr::V6(message.target);
        let from = if message.solicitation { packet.ip.src } else { target };
        if self.world.is(from).ours() {
            return Verdict::Drop(DropReason::SpoofedSource);
        }
        let speaks = self.world.speaks_for(target, port);
        if message.solicitation && speaks == Some(true) {
            self.expect(port, from);
        }
        let learned = message.link.is_some_and(|mac| self.learn(now, port, from, mac));
        if message.solicitation && speaks == Some(true) {
            let mac = self.world.mac(port);
            let (to, to_mac, flags) = match packet.ip.src {
                IpAddr::V6(src) if !src.is_unspecified() => {
                    (src, message.link.unwrap_or(packet.ip.src_mac()), 3)
                }
                // Whoever has no address yet is told with everybody else (RFC 4861 section 7.2.4).
                _ => (ALL_NODES, MacAddr([0x33, 0x33, 0, 0, 0, 1]), 1),
            };
            let answer = ndp_advert(mac, message.target, to_mac, to, flags).build();
            self.sent.push(Sent::own(port, answer, packet.vlan));
            return Verdict::Answer(port);
        }
        told(learned, speaks)
    }

    /// Whoever asks for us is about to talk to us (RFC 826): a next hop, if it is in the port's subnet.
    fn expect(&mut self, port: PortId, ip: IpAddr) {
        let hop = NextHop { port, via: ip };
        if self.world.route(ip) == Some(hop) {
            self.hops.number(hop);
        }
    }

    /// A neighbour has told its address. Whether it is a next hop; what has waited for it leaves.
    fn learn(&mut self, now: Time, port: PortId, ip: IpAddr, mac: MacAddr) -> bool {
        if mac.0[0] & 1 == 1 || mac == MacAddr::ZERO {
            return false;
        }
        let Some((mac, packets)) = self.hops.learn(now, port, ip, mac) else { return false };
        for packet in packets {
            self.resume(mac, packet);
        }
        true
    }

    /// A packet that has waited leaves.
    pub(super) fn resume(&mut self, mac: MacAddr, mut packet: Sent) {
        packet.bytes[..6].copy_from_slice(&mac.0);
        packet.bytes[6..12].copy_from_slice(&self.world.mac(packet.port).0);
        self.sent.push(packet);
        self.count("resumed");
    }

    pub(super) fn ask(&mut self, question: Option<Question>) {
        let Some((hop, known)) = question else { return };
        let mac = self.world.mac(hop.port);
        let asker = self.world.asker(hop.port, hop.via);
        let frame = match (hop.via, asker) {
            (IpAddr::V4(target), asker) => {
                let asker = match asker {
                    Some(IpAddr::V4(asker)) => asker,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                let mut arp = arp_request(mac, asker, target);
                arp.dst_mac = known.unwrap_or(MacAddr::BROADCAST);
                arp.build()
            }
            (IpAddr::V6(target), Some(IpAddr::V6(asker))) => {
                let question = ndp_solicit(mac, asker, target);
                match known {
                    Some(to) => question.dst_mac(to).to(hop.via).build(),
                    None => question.build(),
                }
            }
            // Nobody can be asked in IPv6 without an address of one's own.
            (IpAddr::V6(_), _) => return self.count(DropReason::NoRoute.id()),
        };
        self.sent.push(Sent::own(hop.port, frame, None));
        self.count("originated");
    }

    /// An echo request to one of our addresses comes back as the reply.
    pub(super) fn echo(&mut self, mut packet: Passing, is: Is) -> Verdict {
        let (request, reply) = if packet.ip.dst.is_ipv6() { (128, 129) } else { (8, 0) };
        let host = |mac: MacAddr| mac.0[0] & 1 == 0 && mac != MacAddr::ZERO;
        let (to, from) = (packet.ip.src_mac(), packet.ip.dst_mac());
        let asked = packet.ip.icmp() == Some((request, 0)) && packet.ip.has_bare_header();
        if !asked || !host(to) || !host(from) {
            return match (packet.ip.ports().is_some() && is.local, is.own) {
                (true, _) => Verdict::Drop(DropReason::NoSessionLocal),
                (_, Some(_)) => Verdict::Release,
                _ => Verdict::Drop(DropReason::UnsupportedProtocol),
            };
        }
        (packet.ip.src, packet.ip.dst) = (packet.ip.dst, packet.ip.src);
        packet.ip.set_macs(to, from);
        packet.ip.ttl = 64;
        packet.ip.set_icmp_type(reply);
        let bytes = packet.ip.build().expect("no longer than it came");
        let mut sent = Sent::own(packet.port, bytes, packet.vlan);
        (sent.csum, sent.gso) = (packet.ip.csum, packet.gso);
        self.sent.push(sent);
        Verdict::Answer(packet.port)
    }
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What becomes of a message that nobody answers.
fn told(learned: bool, speaks: Option<bool>) -> Verdict {
    match (learned, speaks) {
        (true, _) => Verdict::Absorb(Absorbed::NeighbourLearned),
        (false, None) => Verdict::Release,
        (false, Some(_)) => Verdict::Drop(DropReason::ArpForOther),
    }
}

/// The checks of RFC 4861 section 7.1.
fn read_message(packet: &Passing) -> Option<Message> {
    let ip = &packet.ip;
    let (kind, code) = ip.icmp()?;
    let body = ip.icmp_bytes()?;
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (ip.src, ip.dst) else { return None };
    let solicitation = kind == 135;
    let octets: [u8; 16] = body.get(8..24)?.try_into().ok()?;
    let target = Ipv6Addr::from_octets(octets);
    let pseudo = sum::pseudo_header(ip.src, ip.dst, 58, body.len());
    let sound = ip.ttl == 255
        && code == 0
        && !ip.has_fragment_header()
        && sum::ones_sum(&[&pseudo, body]) == 0xffff
        && !target.is_multicast()
        && !src.is_multicast();
    let wanted = if solicitation { 1 } else { 2 };
    let mut link = None;
    let mut rest = &body[24..];
    while !rest.is_empty() {
        let len = usize::from(*rest.get(1)?) * 8;
        let option = rest.get(..len).filter(|option| !option.is_empty())?;
        if let [kind @ (1 | 2), 1, address @ ..] = option {
            let mac = MacAddr(address.try_into().ok()?);
            if mac.0[0] & 1 == 1 {
                return None;
            }
            if *kind == wanted {
                link = link.or(Some(mac));
            }
        }
        rest = &rest[len..];
    }
    let solicited = body[4] & 0x40 != 0;
    let bad = match (solicitation, src.is_unspecified()) {
        (true, true) => {
            let group = dst.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
            !group || link.is_some()
        }
        (false, true) => true,
        (false, false) => solicited && dst.is_multicast(),
        (true, false) => false,
    };
    (sound && !bad).then_some(Message { solicitation, target, link })
}
