//! Two independent stacks as judges: smoltcp says whether a frame is acceptable, pnet_packet what its
//! fields are. Where this crate is stricter or laxer on purpose, a [`Difference`] names it, and a
//! test shows that each of them occurs.

mod wire_common;

use lvs_core::wire::{
    Ethernet, Fragment, Headers, Ipv4, Ipv6, Parsed, Tcp, TcpOption, Transport, Udp,
};
use pnet_packet::Packet;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::icmp::IcmpPacket;
use pnet_packet::ipv4::{Ipv4Packet, checksum as pnet_ipv4_checksum};
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::{TcpOptionNumbers, TcpPacket};
use pnet_packet::udp::UdpPacket;
use pnet_packet::vlan::VlanPacket;
use proptest::prelude::*;
use smoltcp::wire as smol;
use std::collections::BTreeSet;
use wire_common::{Frame, L4, fix_ipv4_checksum, frames, nearly_valid};

/// Why the two may disagree about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    // Refused here, accepted by smoltcp's checked views.
    /// A group address as Ethernet source or ARP sender.
    GroupSource,
    /// A malformed IPv4 option.
    Ipv4Option,
    /// A fragment that is empty, of odd length or past 65535, or a second fragment header.
    Unfit,
    /// A hop-by-hop header that is not the first header.
    HopByHopPlace,
    /// A jumbo payload option.
    Jumbo,
    /// A routing header of type 0 that is not used up.
    RoutingType0,
    /// More than eight extension headers.
    ManyExtensions,
    // Accepted here, refused by smoltcp.
    /// MSS, window scale, SACK or timestamps with the length of another: read as an unknown option.
    TcpOptionLength,
    /// The UDP length of a first fragment is that of the whole datagram.
    FragmentedUdp,
    /// ICMPv6 messages other than errors, echo and neighbour discovery: smoltcp refuses unknown types
    /// and short multicast listener messages, which are their receiver's matter.
    OtherIcmpv6,
}

impl Difference {
    fn is_stricter(self) -> bool {
        !matches!(self, Self::TcpOptionLength | Self::FragmentedUdp | Self::OtherIcmpv6)
    }
}

/// What smoltcp says about a frame: `Err` to refuse it. Differences are collected on the way.
struct Judge(BTreeSet<Difference>);

type Verdict = Result<(), smol::Error>;

impl Judge {
    fn note(&mut self, difference: Difference, applies: bool) {
        if applies {
            self.0.insert(difference);
        }
    }

    fn frame(&mut self, frame: &[u8]) -> Verdict {
        let ethernet = smol::EthernetFrame::new_checked(frame)?;
        self.note(Difference::GroupSource, !ethernet.src_addr().is_unicast() && frame[6] & 1 != 0);
        match ethernet.ethertype() {
            smol::EthernetProtocol::Ipv4 => self.v4(ethernet.payload()),
            smol::EthernetProtocol::Ipv6 => self.v6(ethernet.payload()),
            smol::EthernetProtocol::Arp => self.arp(ethernet.payload()),
            smol::EthernetProtocol::Unknown(_) => Ok(()),
        }
    }

    fn arp(&mut self, bytes: &[u8]) -> Verdict {
        let packet = smol::ArpPacket::new_checked(bytes)?;
        let smol::ArpRepr::EthernetIpv4 { operation, source_hardware_addr, .. } =
            smol::ArpRepr::parse(&packet)?
        else {
            return Err(smol::Error);
        };
        self.note(Difference::GroupSource, source_hardware_addr.as_bytes()[0] & 1 != 0);
        match operation {
            smol::ArpOperation::Unknown(_) => Err(smol::Error),
            _ => Ok(()),
        }
    }

    fn v4(&mut self, bytes: &[u8]) -> Verdict {
        let ip = smol::Ipv4Packet::new_checked(bytes)?;
        if ip.version() != 4 || !ip.verify_checksum() {
            return Err(smol::Error);
        }
        let options = &bytes[20..usize::from(ip.header_len())];
        self.note(Difference::Ipv4Option, !are_framed(options));
        let (more, offset, payload) = (ip.more_frags(), ip.frag_offset(), ip.payload());
        let reach = usize::from(offset) + usize::from(ip.total_len());
        self.note(Difference::Unfit, is_unfit(more, offset, payload.len(), reach));
        if offset != 0 {
            return Ok(());
        }
        match ip.next_header() {
            smol::IpProtocol::Icmp => smol::Icmpv4Packet::new_checked(payload).map(drop),
            protocol => self.transport(protocol, payload, more),
        }
    }

    fn v6(&mut self, bytes: &[u8]) -> Verdict {
        let ip = smol::Ipv6Packet::new_checked(bytes)?;
        if ip.version() != 6 {
            return Err(smol::Error);
        }
        let payload = ip.payload();
        let mut next = u8::from(ip.next_header());
        let (mut at, mut seen, mut first, mut fragment) = (0, 0, false, false);
        while matches!(next, 0 | 43 | 44 | 51 | 60) {
            let rest = &payload[at..];
            self.note(Difference::ManyExtensions, seen == 8);
            self.note(Difference::HopByHopPlace, next == 0 && seen != 0);
            let len = self.extension(next, rest)?;
            if next == 43 && rest[3] != 0 {
                self.note(Difference::RoutingType0, rest[2] == 0);
                return Ok(());
            }
            if next == 44 {
                let header = smol::Ipv6FragmentHeader::new_checked(&rest[2..])?;
                let (more, offset) = (header.more_frags(), header.frag_offset() * 8);
                let carried = rest.len() - 8;
                let reach = usize::from(offset) + at + carried;
                self.note(Difference::Unfit, fragment || is_unfit(more, offset, carried, reach));
                (first, fragment) = (more, true);
                if offset != 0 {
                    return Ok(());
                }
            }
            next = rest[0];
            (at, seen) = (at + len, seen + 1);
        }
        let payload = &payload[at..];
        if next != 58 {
            return self.transport(next.into(), payload, first);
        }
        let other = !matches!(payload.first(), Some(1..=4 | 128 | 129 | 133..=137));
        self.note(Difference::OtherIcmpv6, other && payload.len() >= 4);
        smol::Icmpv6Packet::new_checked(payload).map(drop)
    }

    /// The length of an extension header.
    fn extension(&mut self, kind: u8, bytes: &[u8]) -> Result<usize, smol::Error> {
        match kind {
            44 => {
                smol::Ipv6FragmentHeader::new_checked(bytes.get(2..).ok_or(smol::Error)?).map(|_| 8)
            }
            // By RFC 4302 section 2: smoltcp has this header in another feature.
            51 => match bytes.get(1).map(|len| (usize::from(*len) + 2) * 4) {
                Some(len) if (12..=bytes.len()).contains(&len) => Ok(len),
                _ => Err(smol::Error),
            },
            _ => {
                let header = smol::Ipv6ExtHeader::new_checked(bytes)?;
                let mut options = if kind == 43 { &[] } else { header.payload() };
                while !options.is_empty() {
                    let option = smol::Ipv6Option::new_checked(options)?;
                    let kind = u8::from(option.option_type());
                    self.note(Difference::Jumbo, kind == 0xc2);
                    let len = if kind == 0 { 1 } else { usize::from(option.data_len()) + 2 };
                    options = &options[len..];
                }
                Ok((usize::from(header.header_len()) + 1) * 8)
            }
        }
    }

    fn transport(&mut self, protocol: smol::IpProtocol, payload: &[u8], first: bool) -> Verdict {
        match protocol {
            smol::IpProtocol::Tcp => {
                let tcp = smol::TcpPacket::new_checked(payload)?;
                let mut options = tcp.options();
                self.note(Difference::TcpOptionLength, are_framed(options));
                while !options.is_empty() && options[0] != 0 {
                    options = smol::TcpOption::parse(options)?.0;
                }
                Ok(())
            }
            smol::IpProtocol::Udp => {
                let stated =
                    payload.get(4..6).map_or(0, |b| usize::from(b[0]) << 8 | usize::from(b[1]));
                let longer = first && payload.len() >= 8 && stated > payload.len();
                self.note(Difference::FragmentedUdp, longer);
                smol::UdpPacket::new_checked(payload).map(drop)
            }
            _ => Ok(()),
        }
    }
}

fn is_unfit(more: bool, offset: u16, len: usize, reach: usize) -> bool {
    (more || offset != 0) && (len == 0 || reach > 65535 || (more && !len.is_multiple_of(8)))
}

/// Whether kind, length, value are in order, by the definition in RFC 791 section 3.1.
fn are_framed(options: &[u8]) -> bool {
    match options {
        [] | [0, ..] => true,
        [1, rest @ ..] => are_framed(rest),
        [_, len, ..] if *len >= 2 => options.get(usize::from(*len)..).is_some_and(are_framed),
        _ => false,
    }
}

/// The frame without its tags, which smoltcp does not know; `None` when there are more than two.
fn untagged(frame: &[u8]) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    for tags in 0..=2 {
        match frame.get(12..14) {
            Some([0x81, 0x00] | [0x88, 0xa8]) if tags == 2 || frame.len() < 18 => return None,
            Some([0x81, 0x00] | [0x88, 0xa8]) => drop(frame.drain(12..16)),
            _ => break,
        }
    }
    Some(frame)
}

/// Asserts that both agree but for a named difference; returns a difference that showed.
fn compare(frame: &[u8]) -> Option<Difference> {
    let ours = Headers::parse(frame, frame.len());
    let Some(plain) = untagged(frame) else {
        assert!(ours.is_err(), "{ours:?}");
        return None;
    };
    let mut judge = Judge(BTreeSet::new());
    let theirs = judge.frame(&plain).is_ok();
    let differences = judge.0;
    let stricter = differences.iter().copied().find(|difference| difference.is_stricter());
    let laxer = differences.iter().copied().find(|difference| !difference.is_stricter());
    let expected = match (theirs, stricter, laxer) {
        (_, Some(_), _) => false,
        (true, None, _) => true,
        (false, None, laxer) => laxer.is_some(),
    };
    assert_eq!(ours.is_ok(), expected, "smoltcp {theirs} {differences:?} {ours:?} {frame:02x?}");
    if theirs == expected { None } else { stricter.or(laxer) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn smoltcp_and_this_crate_accept_the_same_frames(frame in nearly_valid()) {
        compare(&frame);
    }

    #[test]
    fn smoltcp_accepts_what_the_builder_makes(built in frames()) {
        // The builder makes ICMPv6 messages of any type.
        prop_assert!(matches!(compare(&built.build()), None | Some(Difference::OtherIcmpv6)));
    }

    #[test]
    fn pnet_reads_the_same_fields(frame in nearly_valid()) {
        if let Ok(Parsed::Ip(headers)) = Headers::parse(&frame, frame.len()) {
            same_fields(&frame, &headers);
        }
    }
}

#[test]
fn every_named_difference_occurs() {
    let v4 = |frame: &Frame, at: usize, bytes: &[u8]| {
        let mut out = frame.build();
        out[at..at + bytes.len()].copy_from_slice(bytes);
        fix_ipv4_checksum(&mut out, 14);
        out
    };
    const PAD: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
    let v6 = |extensions: &[(u8, &[u8])]| Frame::udp_v4().v6().with_extensions(extensions).build();
    let listener = L4::Icmp { kind: 143, code: 0, rest: [0; 4] };
    let mut listener = Frame { l4: listener, ..Frame::tcp_v4() }.v6().build();
    listener.truncate(58);
    listener[19] = 4;
    let cases = [
        (Difference::GroupSource, v4(&Frame::tcp_v4(), 6, &[3])),
        (Difference::Ipv4Option, Frame::tcp_v4().with_ip_options(&[7, 9, 0, 0]).build()),
        (Difference::Unfit, v4(&Frame::udp_v4(), 20, &[0x1f, 0xff])),
        (Difference::HopByHopPlace, v6(&[(60, &PAD), (0, &PAD)])),
        (Difference::Jumbo, v6(&[(0, &[0, 0xc2, 4, 0, 1, 0, 0])])),
        (Difference::RoutingType0, v6(&[(43, &[0, 0, 1, 0, 0, 0, 0])])),
        (Difference::ManyExtensions, v6(&[(60, &PAD[..]); 9])),
        (Difference::TcpOptionLength, Frame::tcp_v4().with_tcp_options(&[2, 3, 0, 1]).build()),
        (Difference::FragmentedUdp, v4(&Frame::udp_v4(), 38, &[9, 0])),
        (Difference::OtherIcmpv6, listener),
    ];
    for (difference, mut frame) in cases {
        if difference == Difference::FragmentedUdp {
            frame[20] = 0x20;
            fix_ipv4_checksum(&mut frame, 14);
        }
        assert_eq!(compare(&frame), Some(difference));
    }
}

/// All fields of an accepted frame, as pnet_packet reads them.
fn same_fields(frame: &[u8], headers: &Headers) {
    let ours = Ethernet::parse(frame).unwrap();
    let theirs = EthernetPacket::new(frame).unwrap();
    assert_eq!(ours.src().0, theirs.get_source().octets());
    assert_eq!(ours.dst().0, theirs.get_destination().octets());
    let mut ethertype = theirs.get_ethertype().0;
    let mut at = 14;
    for tag in [ours.vlan(), ours.inner_vlan()].into_iter().flatten() {
        let theirs = VlanPacket::new(&frame[at..]).unwrap();
        assert_eq!((tag.tpid, tag.id()), (ethertype, theirs.get_vlan_identifier()));
        ethertype = theirs.get_ethertype().0;
        at += 4;
    }
    assert_eq!((ours.ethertype(), usize::from(headers.l3)), (ethertype, at));
    match ethertype {
        0x0800 => same_v4(frame, headers),
        0x86dd => same_v6(frame, headers),
        other => panic!("{other:#x} is not IP"),
    }
}

fn same_v4(frame: &[u8], headers: &Headers) {
    let bytes = &frame[usize::from(headers.l3)..];
    let ours = Ipv4::parse(bytes).unwrap();
    let theirs = Ipv4Packet::new(bytes).unwrap();
    assert_eq!(ours.checksum(), pnet_ipv4_checksum(&theirs));
    assert_eq!((ours.src(), ours.dst()), (theirs.get_source(), theirs.get_destination()));
    assert_eq!(ours.tos(), theirs.get_dscp() << 2 | theirs.get_ecn());
    assert_eq!(ours.total_len(), usize::from(theirs.get_total_length()));
    assert_eq!(ours.identification(), theirs.get_identification());
    let flags = theirs.get_flags();
    assert_eq!((ours.dont_fragment(), ours.more_fragments()), (flags & 2 != 0, flags & 1 != 0));
    assert_eq!(ours.fragment_offset(), theirs.get_fragment_offset() * 8);
    assert_eq!((ours.ttl(), headers.ttl), (theirs.get_ttl(), theirs.get_ttl()));
    assert_eq!(ours.protocol(), theirs.get_next_level_protocol().0);
    assert_eq!(ours.header_len(), usize::from(theirs.get_header_length()) * 4);
    assert_eq!(ours.payload(), theirs.payload());
    same_transport(ours.payload(), headers);
}

fn same_v6(frame: &[u8], headers: &Headers) {
    let bytes = &frame[usize::from(headers.l3)..];
    let ours = Ipv6::parse(bytes).unwrap();
    let theirs = Ipv6Packet::new(bytes).unwrap();
    assert_eq!((ours.src(), ours.dst()), (theirs.get_source(), theirs.get_destination()));
    assert_eq!(ours.traffic_class(), theirs.get_traffic_class());
    assert_eq!(ours.flow_label(), theirs.get_flow_label());
    assert_eq!(ours.next_header(), theirs.get_next_header().0);
    assert_eq!((ours.hop_limit(), headers.ttl), (theirs.get_hop_limit(), theirs.get_hop_limit()));
    assert_eq!(ours.total_len(), 40 + usize::from(theirs.get_payload_length()));
    assert_eq!(ours.payload(), &theirs.payload()[ours.header_len() - 40..]);
    same_transport(ours.payload(), headers);
}

fn same_transport(payload: &[u8], headers: &Headers) {
    if headers.fragment == Fragment::Later {
        return;
    }
    let ports = headers.tuple.map(|tuple| (tuple.sport(), tuple.dport()));
    match headers.transport {
        Transport::Tcp { flags, seq, ack, window } => {
            let ours = Tcp::parse(payload).unwrap();
            let theirs = TcpPacket::new(payload).unwrap();
            assert_eq!(ports, Some((theirs.get_source(), theirs.get_destination())));
            assert_eq!((seq, ack), (theirs.get_sequence(), theirs.get_acknowledgement()));
            assert_eq!((flags, window), (theirs.get_flags(), theirs.get_window()));
            assert_eq!(ours.checksum(), theirs.get_checksum());
            assert_eq!(ours.urgent(), theirs.get_urgent_ptr());
            assert_eq!(ours.payload(), theirs.payload());
            same_options(&ours, &theirs);
        }
        Transport::Udp => {
            let ours = Udp::parse_within(payload, 65535).unwrap();
            let theirs = UdpPacket::new(payload).unwrap();
            assert_eq!(ports, Some((theirs.get_source(), theirs.get_destination())));
            assert_eq!((ours.len(), ours.checksum()), (theirs.get_length(), theirs.get_checksum()));
            // pnet_packet goes on behind the length.
            let len = theirs.payload().len().min(usize::from(ours.len()) - 8);
            assert_eq!(ours.payload(), &theirs.payload()[..len]);
        }
        Transport::Icmp { kind, code } => {
            let theirs = IcmpPacket::new(payload);
            let theirs = theirs.map(|icmp| (icmp.get_icmp_type().0, icmp.get_icmp_code().0));
            assert_eq!(theirs.unwrap_or((payload[0], payload[1])), (kind, code));
        }
        Transport::Other(_) => assert_eq!(ports, None),
    }
}

/// pnet_packet reads on behind the end of the list, so it is followed up to there.
fn same_options(ours: &Tcp<'_>, theirs: &TcpPacket<'_>) {
    let theirs: Vec<_> = theirs
        .get_options_iter()
        .take_while(|option| option.get_number() != TcpOptionNumbers::EOL)
        .filter(|option| option.get_number() != TcpOptionNumbers::NOP)
        .map(|option| (option.get_number().0, option.payload().to_vec()))
        .collect();
    let list: Vec<_> = ours.options().map(|at| (at.bytes[0], at.bytes[2..].to_vec())).collect();
    assert_eq!(list, theirs);
    for at in ours.options() {
        let value = &at.bytes[2..];
        match at.option {
            TcpOption::Mss(mss) => assert_eq!(mss.to_be_bytes(), value),
            TcpOption::WindowScale(shift) => assert_eq!([shift], value),
            TcpOption::SackPermitted => assert!(value.is_empty()),
            TcpOption::Timestamps { value: clock, echo } => {
                assert_eq!([clock.to_be_bytes(), echo.to_be_bytes()].concat(), value);
            }
            TcpOption::Sack(blocks) => {
                let edges = blocks.flat_map(|(left, right)| [left, right]);
                let bytes: Vec<_> = edges.flat_map(u32::to_be_bytes).collect();
                assert_eq!(bytes, value);
            }
            TcpOption::Other { value: rest, .. } => assert_eq!(rest, value),
            other => panic!("not compared: {other:?}"),
        }
    }
}
