//! Frames beside plain segments: ICMP errors, fragments, ARP and neighbour discovery.

use super::flow::{client_v4, client_v6, flow};
use super::valid::{payload, tcp_packet, udp_packet};
use crate::build::{
    Arp, Built, Ext, IcmpError, Packet, Udp, arp_reply, arp_request, fragments, icmp_error,
    ndp_advert, ndp_solicit, udp,
};
use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::MacAddr;
use proptest::prelude::*;

/// An ICMP error and the packet that it speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The error, whole and valid.
    pub frame: Vec<u8>,
    /// What it says.
    pub error: IcmpError,
    /// The packet that somebody on the way could not pass on.
    pub about: Built,
    /// Bytes of it that are quoted, from the IP header on.
    pub quoted: usize,
}

/// Who complains: a router with an address of the right family.
fn complaint(error: IcmpError, about: Built, sender: SocketAddr, quote: usize) -> Complaint {
    let packet = icmp_error(error, &about.frame, quote);
    let quoted = quote.min(about.frame.len() - about.l3);
    let to = sender.ip();
    let router: IpAddr = if to.is_ipv4() {
        [198, 51, 100, 1].into()
    } else {
        core::net::Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).into()
    };
    Complaint { frame: packet.from(router).to(to).build(), error, about, quoted }
}

fn error() -> impl Strategy<Value = IcmpError> {
    let fixed = prop::sample::select(vec![
        IcmpError::NoRoute,
        IcmpError::HostUnreachable,
        IcmpError::PortUnreachable,
        IcmpError::Prohibited,
        IcmpError::TimeExceeded,
        IcmpError::ReassemblyTime,
        IcmpError::ParameterProblem(8),
    ]);
    prop_oneof![2 => fixed, 1 => (576u16..1500).prop_map(IcmpError::TooBig)]
}

/// An ICMP error about a TCP segment or UDP datagram of either family, to its sender. It quotes
/// between the eight transport bytes that RFC 792 promises and the whole packet.
pub fn icmp_complaint() -> impl Strategy<Value = Complaint> {
    let tcp = tcp_packet().prop_map(|packet| (packet.source(), packet.build_parts()));
    let udp = udp_packet().prop_map(|packet| (packet.source(), packet.build_parts()));
    (error(), prop_oneof![tcp, udp], 0usize..1280).prop_map(|(error, (sender, about), more)| {
        let least = about.l4 - about.l3 + 8;
        complaint(error, about, sender, (least + more).min(1232))
    })
}

/// A UDP datagram of either family and its fragments, in order. A first fragment is the only one
/// with ports.
pub fn fragmented() -> impl Strategy<Value = (Packet<Udp>, Vec<Vec<u8>>)> {
    let sizes = (1400usize..4000, 80usize..1400, any::<u16>());
    (flow(), sizes).prop_map(|(flow, (len, mtu, ident))| {
        let packet = udp().from(flow.src).to(flow.dst).dont_fragment(false).ident(ident);
        let packet = packet.payload_len(len);
        let parts = fragments(&packet.build(), mtu, u32::from(ident));
        (packet, parts)
    })
}

/// A datagram that is whole although it carries a fragment header (RFC 6946).
pub fn atomic_fragment() -> impl Strategy<Value = Packet<Udp>> {
    (super::flow::flow_v6(), any::<u32>(), payload()).prop_map(|(flow, ident, payload)| {
        udp().from(flow.src).to(flow.dst).ext(Ext::Fragment(0, false, ident)).payload(payload)
    })
}

fn host_mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| MacAddr([0x02, a, b, c, d, e]))
}

/// ARP requests, replies and gratuitous announcements between hosts.
pub fn arp() -> impl Strategy<Value = Arp> {
    let hosts = (host_mac(), client_v4(), host_mac(), client_v4());
    (0u8..3, hosts, 0usize..19).prop_map(|(kind, (mac, ip, other_mac, other), pad)| {
        let arp = match kind {
            0 => arp_request(mac, ip, other),
            1 => arp_reply(mac, ip, other_mac, other),
            _ => arp_request(mac, ip, ip),
        };
        Arp { pad, ..arp }
    })
}

/// Neighbour solicitations and advertisements between hosts.
pub fn ndp() -> impl Strategy<Value = Vec<u8>> {
    let hosts = (host_mac(), client_v6(), host_mac(), client_v6());
    (any::<bool>(), hosts, 0u8..8).prop_map(|(ask, (mac, ip, other_mac, other), flags)| {
        if ask {
            ndp_solicit(mac, ip, other).build()
        } else {
            ndp_advert(mac, ip, other_mac, other, flags).build()
        }
    })
}
