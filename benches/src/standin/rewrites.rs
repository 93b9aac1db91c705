//! One header rewrite by general packet crates: parse and check Ethernet, IPv4 and TCP, change addresses,
//! ports, sequence and acknowledgement numbers and time to live, and make both checksums right.
//!
//! All three recompute the checksums over the whole packet; none offers an incremental update. etherparse
//! reads headers into structs and writes them back.

use core::net::Ipv4Addr;

/// What a packet is to become.
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    /// New source.
    pub src: (u32, u16),
    /// New destination.
    pub dst: (u32, u16),
    /// Added to the sequence number, taken from the acknowledgement.
    pub shift: u32,
}

/// By smoltcp's wire types.
pub fn smoltcp(frame: &mut [u8], edit: &Edit) -> Option<()> {
    use smoltcp::wire::{
        EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber,
    };
    let mut ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let mut ip = Ipv4Packet::new_checked(ethernet.payload_mut()).ok()?;
    let ttl = ip.hop_limit();
    let sound = ip.version() == 4 && ip.verify_checksum() && ttl > 1;
    if !sound || ip.next_header() != IpProtocol::Tcp || ip.more_frags() || ip.frag_offset() != 0 {
        return None;
    }
    let (src, dst) = (Ipv4Addr::from(edit.src.0), Ipv4Addr::from(edit.dst.0));
    ip.set_src_addr(src);
    ip.set_dst_addr(dst);
    ip.set_hop_limit(ttl - 1);
    ip.fill_checksum();
    let mut tcp = TcpPacket::new_checked(ip.payload_mut()).ok()?;
    tcp.set_src_port(edit.src.1);
    tcp.set_dst_port(edit.dst.1);
    let (seq, ack) = (tcp.seq_number().0 as u32, tcp.ack_number().0 as u32);
    tcp.set_seq_number(TcpSeqNumber(seq.wrapping_add(edit.shift) as i32));
    tcp.set_ack_number(TcpSeqNumber(ack.wrapping_sub(edit.shift) as i32));
    tcp.fill_checksum(&IpAddress::Ipv4(src), &IpAddress::Ipv4(dst));
    Some(())
}

/// By pnet_packet.
pub fn pnet(frame: &mut [u8], edit: &Edit) -> Option<()> {
    use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
    use pnet_packet::ip::IpNextHeaderProtocols;
    use pnet_packet::ipv4::{self, MutableIpv4Packet};
    use pnet_packet::tcp::{self, MutableTcpPacket};
    if EthernetPacket::new(frame)?.get_ethertype() != EtherTypes::Ipv4 {
        return None;
    }
    let (src, dst) = (Ipv4Addr::from(edit.src.0), Ipv4Addr::from(edit.dst.0));
    let mut ip = MutableIpv4Packet::new(frame.get_mut(14..)?)?;
    let (len, ttl) = (usize::from(ip.get_total_length()), ip.get_ttl());
    let sound = ip.get_version() == 4 && ip.get_header_length() == 5 && ttl > 1;
    if !sound
        || ip.get_next_level_protocol() != IpNextHeaderProtocols::Tcp
        || ip.get_fragment_offset() != 0
        || ipv4::checksum(&ip.to_immutable()) != ip.get_checksum()
    {
        return None;
    }
    ip.set_source(src);
    ip.set_destination(dst);
    ip.set_ttl(ttl - 1);
    let sum = ipv4::checksum(&ip.to_immutable());
    ip.set_checksum(sum);
    let mut tcp = MutableTcpPacket::new(frame.get_mut(34..14 + len)?)?;
    tcp.set_source(edit.src.1);
    tcp.set_destination(edit.dst.1);
    let (seq, ack) = (tcp.get_sequence(), tcp.get_acknowledgement());
    tcp.set_sequence(seq.wrapping_add(edit.shift));
    tcp.set_acknowledgement(ack.wrapping_sub(edit.shift));
    let sum = tcp::ipv4_checksum(&tcp.to_immutable(), &src, &dst);
    tcp.set_checksum(sum);
    Some(())
}

/// By etherparse.
pub fn etherparse(frame: &mut [u8], edit: &Edit) -> Option<()> {
    use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, TcpHeader};
    let (ethernet, _) = Ethernet2Header::from_slice(frame).ok()?;
    let (mut ip, rest) = Ipv4Header::from_slice(frame.get(14..)?).ok()?;
    let sound = ethernet.ether_type == EtherType::IPV4 && ip.protocol == IpNumber::TCP;
    if !sound
        || ip.time_to_live < 2
        || ip.is_fragmenting_payload()
        || ip.header_checksum != ip.calc_header_checksum()
    {
        return None;
    }
    let len = usize::from(ip.total_len).checked_sub(20)?;
    let (mut tcp, payload) = TcpHeader::from_slice(rest.get(..len)?).ok()?;
    ip.source = edit.src.0.to_be_bytes();
    ip.destination = edit.dst.0.to_be_bytes();
    ip.time_to_live -= 1;
    ip.header_checksum = ip.calc_header_checksum();
    (tcp.source_port, tcp.destination_port) = (edit.src.1, edit.dst.1);
    tcp.sequence_number = tcp.sequence_number.wrapping_add(edit.shift);
    tcp.acknowledgment_number = tcp.acknowledgment_number.wrapping_sub(edit.shift);
    tcp.checksum = tcp.calc_checksum_ipv4(&ip, payload).ok()?;
    let (ip, tcp) = (ip.to_bytes(), tcp.to_bytes());
    frame.get_mut(14..34)?.copy_from_slice(&ip);
    frame.get_mut(34..34 + tcp.len())?.copy_from_slice(&tcp);
    Some(())
}
