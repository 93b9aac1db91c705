//! A frame in one line, in the manner of tcpdump.

use super::arp::ArpOperation;
use super::ethernet::{Ethernet, HEADER_LEN};
use super::headers::{Fragment, Headers, Parsed, Transport};
use super::ipv4::MAX_PACKET;
use super::ndp::{Ndp, NdpKind};
use super::tcp_option::TcpOption;
use super::{Arp, PROTOCOL_UDP, icmpv4, icmpv6, tcp};
use crate::addr::Family;
use core::fmt;

/// A frame around the largest IPv4 packet: a capture may hold fewer bytes than the IP header states,
/// and is printed all the same.
const LARGEST: usize = HEADER_LEN + MAX_PACKET;

/// Displays a frame, from the Ethernet header on, in one line. Any bytes will do: a malformed frame
/// is printed as far as it can be read, with what is wrong.
///
/// ```
/// use lvs_core::wire::Pretty;
///
/// let frame = [
///     0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
///     0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x26, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
///     0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0, // TCP
/// ];
/// assert_eq!(
///     Pretty(&frame).to_string(),
///     "02:00:00:00:00:02 > 02:00:00:00:00:01, IPv4 10.0.0.1:40000 > 10.0.0.2:80, ttl 64, \
///      tcp [S], seq 7, win 65535, length 0",
/// );
/// assert_eq!(
///     Pretty(&frame[..20]).to_string(),
///     "02:00:00:00:00:02 > 02:00:00:00:00:01, IPv4 header: truncated at byte 14, 20 bytes",
/// );
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pretty<'a>(pub &'a [u8]);

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        if let Ok(ethernet) = Ethernet::parse(frame) {
            write!(f, "{} > {}, ", ethernet.src(), ethernet.dst())?;
            for tag in [ethernet.vlan(), ethernet.inner_vlan()].into_iter().flatten() {
                write!(f, "vlan {}, ", tag.id())?;
            }
        }
        match Headers::parse(frame, frame.len().max(LARGEST)) {
            Ok(Parsed::Ip(headers)) => ip(f, frame, &headers),
            Ok(Parsed::Arp(packet)) => arp(f, &packet),
            Ok(Parsed::Other { ethertype }) => {
                write!(f, "ethertype 0x{ethertype:04x}, {} bytes", frame.len())
            }
            Err(malformed) => write!(f, "{malformed}, {} bytes", frame.len()),
        }
    }
}

fn ip(f: &mut fmt::Formatter<'_>, frame: &[u8], headers: &Headers) -> fmt::Result {
    let name = match headers.family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    match (&headers.tuple, headers.addresses(frame), headers.family) {
        (Some(t), _, Family::V4) => {
            write!(f, "{name} {}:{} > {}:{}", t.src(), t.sport(), t.dst(), t.dport())?;
        }
        (Some(t), _, Family::V6) => {
            write!(f, "{name} [{}]:{} > [{}]:{}", t.src(), t.sport(), t.dst(), t.dport())?;
        }
        (None, Some((src, dst)), _) => write!(f, "{name} {src} > {dst}")?,
        (None, None, _) => f.write_str(name)?,
    }
    write!(f, ", ttl {}, ", headers.ttl)?;
    if let Some(id) = headers.fragment_id(frame) {
        let which = if headers.fragment == Fragment::First { "first" } else { "later" };
        write!(f, "{which} fragment of {id:#x}, ")?;
    }
    match headers.transport {
        Transport::Tcp { .. } => tcp_segment(f, frame, headers)?,
        Transport::Udp => f.write_str("udp")?,
        Transport::Icmp { kind, code } => icmp(f, frame, headers, kind, code)?,
        Transport::Other(PROTOCOL_UDP) => f.write_str("udp")?,
        Transport::Other(super::PROTOCOL_TCP) => f.write_str("tcp")?,
        Transport::Other(132) => f.write_str("sctp")?,
        Transport::Other(protocol) => write!(f, "protocol {protocol}")?,
    }
    let length = headers.end.saturating_sub(u32::from(headers.payload));
    write!(f, ", length {length}")
}

fn tcp_segment(f: &mut fmt::Formatter<'_>, frame: &[u8], headers: &Headers) -> fmt::Result {
    let Some(segment) = headers.tcp(frame) else {
        return f.write_str("tcp");
    };
    f.write_str("tcp [")?;
    let names = [
        (tcp::SYN, 'S'),
        (tcp::FIN, 'F'),
        (tcp::RST, 'R'),
        (tcp::PSH, 'P'),
        (tcp::URG, 'U'),
        (tcp::ECE, 'E'),
        (tcp::CWR, 'W'),
        (tcp::ACK, '.'),
    ];
    for (_, name) in names.iter().filter(|(flag, _)| segment.flags() & flag != 0) {
        write!(f, "{name}")?;
    }
    write!(f, "], seq {}", segment.seq())?;
    if segment.flags() & tcp::ACK != 0 {
        write!(f, ", ack {}", segment.ack())?;
    }
    write!(f, ", win {}", segment.window())?;
    let mut separator = ", options [";
    for at in segment.options() {
        f.write_str(separator)?;
        tcp_option(f, at.option)?;
        separator = ", ";
    }
    f.write_str(if separator == ", " { "]" } else { "" })
}

fn tcp_option(f: &mut fmt::Formatter<'_>, option: TcpOption<'_>) -> fmt::Result {
    match option {
        TcpOption::Mss(mss) => write!(f, "mss {mss}"),
        TcpOption::WindowScale(shift) => write!(f, "wscale {shift}"),
        TcpOption::SackPermitted => f.write_str("sackOK"),
        TcpOption::Sack(blocks) => {
            f.write_str("sack")?;
            blocks.into_iter().try_for_each(|(left, right)| write!(f, " {left}-{right}"))
        }
        TcpOption::Timestamps { value, echo } => write!(f, "TS val {value} ecr {echo}"),
        TcpOption::Other { kind, value } => {
            write!(f, "kind {kind} 0x")?;
            value.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        }
    }
}

fn icmp(
    f: &mut fmt::Formatter<'_>,
    frame: &[u8],
    headers: &Headers,
    kind: u8,
    code: u8,
) -> fmt::Result {
    let name = match (headers.family, kind) {
        (Family::V4, icmpv4::ECHO_REQUEST) | (Family::V6, icmpv6::ECHO_REQUEST) => "echo request",
        (Family::V4, icmpv4::ECHO_REPLY) | (Family::V6, icmpv6::ECHO_REPLY) => "echo reply",
        (Family::V4, icmpv4::UNREACHABLE) | (Family::V6, icmpv6::UNREACHABLE) => "unreachable",
        (Family::V4, icmpv4::TIME_EXCEEDED) | (Family::V6, icmpv6::TIME_EXCEEDED) => {
            "time exceeded"
        }
        (Family::V6, icmpv6::PACKET_TOO_BIG) => "packet too big",
        (Family::V6, icmpv6::NEIGHBOUR_SOLICITATION | icmpv6::NEIGHBOUR_ADVERTISEMENT) => {
            return neighbour(f, frame, headers);
        }
        _ => return write!(f, "icmp type {kind} code {code}"),
    };
    write!(f, "icmp {name}")?;
    if code != 0 {
        write!(f, " code {code}")?;
    }
    Ok(())
}

fn neighbour(f: &mut fmt::Formatter<'_>, frame: &[u8], headers: &Headers) -> fmt::Result {
    match Ndp::parse(frame.get(usize::from(headers.l3)..).unwrap_or_default()) {
        Ok(ndp) if ndp.kind() == NdpKind::Solicitation => {
            write!(f, "neighbour solicitation, who has {}", ndp.target())
        }
        Ok(ndp) => {
            write!(f, "neighbour advertisement, {} is at ", ndp.target())?;
            match ndp.link_address() {
                Some(mac) => write!(f, "{mac}"),
                None => f.write_str("its sender"),
            }
        }
        Err(malformed) => write!(f, "neighbour discovery, {malformed}"),
    }
}

fn arp(f: &mut fmt::Formatter<'_>, arp: &Arp) -> fmt::Result {
    match arp.operation {
        ArpOperation::Request if arp.is_gratuitous() => {
            write!(f, "ARP announcement, {} is at {}", arp.sender_ip, arp.sender_mac)
        }
        ArpOperation::Request => {
            write!(f, "ARP request, who has {} tell {}", arp.target_ip, arp.sender_ip)
        }
        ArpOperation::Reply => write!(f, "ARP reply, {} is at {}", arp.sender_ip, arp.sender_mac),
    }
}
