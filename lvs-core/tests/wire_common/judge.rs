//! smoltcp as the judge of a frame: accept or refuse, with every difference to this crate named.
//!
//! Included by the property test beside it and by the fuzz target `headers`.

use lvs_core::wire::Headers;
use smoltcp::wire as smol;
use std::collections::BTreeSet;

/// Why the two may disagree about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
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
        let header = &bytes[..usize::from(ip.header_len())];
        if ip.version() != 4 || !sums_up(header) {
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

/// Whether an IPv4 header checksum is right (RFC 791 section 3.1). smoltcp's own check says yes to
/// everything in a fuzzing build.
fn sums_up(header: &[u8]) -> bool {
    let words = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    (sum & 0xffff) + (sum >> 16) == 0xffff
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
pub(crate) fn compare(frame: &[u8]) -> Option<Difference> {
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
