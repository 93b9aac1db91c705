//! Accept or reject, by the parsers and checksum checks of smoltcp.

use crate::build::l3_of;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet,
    Icmpv6Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6ExtHeader, Ipv6FragmentHeader,
    Ipv6Packet, Ipv6Repr, TcpPacket, TcpRepr, UdpPacket, UdpRepr,
};

/// Whether smoltcp accepts a frame: lengths, versions, options, checksums. VLAN tags, which it does
/// not know, are skipped; fragments are checked up to their IP headers; protocols that it does not
/// know are accepted.
///
/// A UDP checksum of zero in IPv6 is refused here (RFC 8200 section 8.1: "IPv6 receivers must discard
/// UDP packets containing a zero checksum"): smoltcp reads RFC 768 for both families and takes it.
///
/// Known limits of the oracle: it refuses TCP and UDP port 0, ICMP messages it has no type for,
/// and looks into no IPv4 option.
///
/// # Errors
/// The layer that smoltcp refused.
pub fn accepted(frame: &[u8]) -> Result<(), String> {
    EthernetFrame::new_checked(frame).map_err(|_| "smoltcp refuses Ethernet")?;
    let at = l3_of(frame);
    let kind = frame.get(at - 2..at).ok_or("the frame ends inside a VLAN tag")?;
    let body = &frame[at..];
    match EthernetProtocol::from(u16::from_be_bytes([kind[0], kind[1]])) {
        EthernetProtocol::Ipv4 => ipv4(body),
        EthernetProtocol::Ipv6 => ipv6(body),
        EthernetProtocol::Arp => {
            let arp = ArpPacket::new_checked(body).map_err(|_| "smoltcp refuses ARP")?;
            ArpRepr::parse(&arp).map(drop).map_err(|_| "smoltcp refuses ARP".into())
        }
        EthernetProtocol::Unknown(_) => Ok(()),
    }
}

fn ipv4(bytes: &[u8]) -> Result<(), String> {
    let refuse = "smoltcp refuses IPv4";
    let ip = Ipv4Packet::new_checked(bytes).map_err(|_| refuse)?;
    if ip.more_frags() || ip.frag_offset() > 0 {
        // Reassembly is not built in, so its parser refuses every fragment.
        let good = ip.version() == 4 && ip.verify_checksum();
        return if good { Ok(()) } else { Err(refuse.into()) };
    }
    let repr = Ipv4Repr::parse(&ip, &ChecksumCapabilities::default()).map_err(|_| refuse)?;
    if repr.next_header == IpProtocol::Icmp {
        let refuse = "smoltcp refuses ICMP";
        let icmp = Icmpv4Packet::new_checked(ip.payload()).map_err(|_| refuse)?;
        let caps = ChecksumCapabilities::default();
        return Icmpv4Repr::parse(&icmp, &caps).map(drop).map_err(|_| refuse.into());
    }
    transport(repr.next_header, repr.src_addr.into(), repr.dst_addr.into(), ip.payload())
}

fn ipv6(bytes: &[u8]) -> Result<(), String> {
    let ip = Ipv6Packet::new_checked(bytes).map_err(|_| "smoltcp refuses IPv6")?;
    let repr = Ipv6Repr::parse(&ip).map_err(|_| "smoltcp refuses IPv6")?;
    let (mut next, mut rest) = (repr.next_header, ip.payload());
    loop {
        next = match next {
            IpProtocol::HopByHop | IpProtocol::Ipv6Route | IpProtocol::Ipv6Opts => {
                let refuse = "smoltcp refuses an IPv6 extension header";
                let header = Ipv6ExtHeader::new_checked(rest).map_err(|_| refuse)?;
                let size = (usize::from(header.header_len()) + 1) * 8;
                rest = rest.get(size..).ok_or(refuse)?;
                header.next_header()
            }
            IpProtocol::Ipv6Frag => {
                let refuse = "smoltcp refuses an IPv6 fragment header";
                let header = Ipv6ExtHeader::new_checked(rest).map_err(|_| refuse)?;
                let part = rest.get(2..8).ok_or(refuse)?;
                let part = Ipv6FragmentHeader::new_checked(part).map_err(|_| refuse)?;
                if part.frag_offset() > 0 || part.more_frags() {
                    return Ok(());
                }
                let after = header.next_header();
                rest = &rest[8..];
                after
            }
            IpProtocol::Icmpv6 => {
                let refuse = "smoltcp refuses ICMPv6";
                let icmp = Icmpv6Packet::new_checked(rest).map_err(|_| refuse)?;
                let caps = ChecksumCapabilities::default();
                let parsed = Icmpv6Repr::parse(&repr.src_addr, &repr.dst_addr, &icmp, &caps);
                return parsed.map(drop).map_err(|_| refuse.into());
            }
            other => return transport(other, repr.src_addr.into(), repr.dst_addr.into(), rest),
        }
    }
}

fn transport(
    proto: IpProtocol,
    src: IpAddress,
    dst: IpAddress,
    segment: &[u8],
) -> Result<(), String> {
    let caps = ChecksumCapabilities::default();
    match proto {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(segment).map_err(|_| "smoltcp refuses TCP")?;
            let parsed = TcpRepr::parse(&tcp, &src, &dst, &caps);
            parsed.map(drop).map_err(|_| "smoltcp refuses TCP".into())
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(segment).map_err(|_| "smoltcp refuses UDP")?;
            if udp.checksum() == 0 && matches!(src, IpAddress::Ipv6(_)) {
                return Err("a UDP checksum of zero in IPv6".into());
            }
            let parsed = UdpRepr::parse(&udp, &src, &dst, &caps);
            parsed.map(drop).map_err(|_| "smoltcp refuses UDP".into())
        }
        _ => Ok(()),
    }
}
