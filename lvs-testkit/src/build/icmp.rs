//! ICMP for both families: echo, errors with the packet they speak of, neighbour discovery.

use super::fragment::ip_of;
use super::packet::{Layer4, Packet};
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use lvs_core::addr::MacAddr;
use lvs_core::io::GsoKind;

/// An ICMP header in the making. The family of the addresses decides which of the two it is.
#[derive(Clone, Copy, Debug)]
pub struct Icmp {
    /// Type and code for IPv4.
    v4: (u8, u8),
    /// Type and code for IPv6.
    v6: (u8, u8),
    /// Bytes 4..8 of the header, for IPv4 and IPv6.
    rest: [[u8; 4]; 2],
}

/// Errors that both families know, under different numbers (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// No route to the network.
    NoRoute,
    /// The host does not answer.
    HostUnreachable,
    /// Nobody listens on the port.
    PortUnreachable,
    /// Forbidden by a filter.
    Prohibited,
    /// The packet is too big for a link with this MTU.
    TooBig(u16),
    /// The time to live ran out.
    TimeExceeded,
    /// A fragment did not arrive in time.
    ReassemblyTime,
    /// A field at this offset is wrong.
    ParameterProblem(u8),
}

/// An ICMP message with this type and code in either family.
#[must_use]
pub fn icmp(kind: u8, code: u8) -> Packet<Icmp> {
    Packet::new(Icmp { v4: (kind, code), v6: (kind, code), rest: [[0; 4]; 2] })
}

/// An echo request.
#[must_use]
pub fn echo(ident: u16, seq: u16) -> Packet<Icmp> {
    echo_message((8, 0), (128, 0), ident, seq)
}

/// An echo reply.
#[must_use]
pub fn echo_reply(ident: u16, seq: u16) -> Packet<Icmp> {
    echo_message((0, 0), (129, 0), ident, seq)
}

fn echo_message(v4: (u8, u8), v6: (u8, u8), ident: u16, seq: u16) -> Packet<Icmp> {
    let ([a, b], [c, d]) = (ident.to_be_bytes(), seq.to_be_bytes());
    Packet::new(Icmp { v4, v6, rest: [[a, b, c, d]; 2] })
}

/// An error about `frame` (an Ethernet frame), of which it quotes at most `quote` bytes from the IP
/// header on. Addresses are to be set; the payload is the quotation.
///
/// ```
/// use lvs_testkit::build::{icmp_error, tcp, IcmpError};
/// let sent = tcp().syn().build();
/// let error = icmp_error(IcmpError::TooBig(1400), &sent, 28).from("10.9.9.9").to("10.0.0.2").build();
/// assert_eq!(error[34..36], [3, 4]);
/// assert_eq!(error[42..], sent[14..42]);
/// ```
#[must_use]
pub fn icmp_error(error: IcmpError, frame: &[u8], quote: usize) -> Packet<Icmp> {
    let none = [0; 4];
    let (v4, v6, rest) = match error {
        IcmpError::NoRoute => ((3, 0), (1, 0), [none; 2]),
        IcmpError::HostUnreachable => ((3, 1), (1, 3), [none; 2]),
        IcmpError::PortUnreachable => ((3, 3), (1, 4), [none; 2]),
        IcmpError::Prohibited => ((3, 13), (1, 1), [none; 2]),
        IcmpError::TooBig(mtu) => {
            let [hi, lo] = mtu.to_be_bytes();
            ((3, 4), (2, 0), [[0, 0, hi, lo]; 2])
        }
        IcmpError::TimeExceeded => ((11, 0), (3, 0), [none; 2]),
        IcmpError::ReassemblyTime => ((11, 1), (3, 1), [none; 2]),
        IcmpError::ParameterProblem(at) => ((12, 0), (4, 0), [[at, 0, 0, 0], [0, 0, 0, at]]),
    };
    let inner = ip_of(frame);
    Packet::new(Icmp { v4, v6, rest }).payload(&inner[..quote.min(inner.len())])
}

/// A neighbour solicitation for `target` (RFC 4861 section 4.3), to its solicited-node group.
#[must_use]
pub fn ndp_solicit(sender: MacAddr, source: Ipv6Addr, target: Ipv6Addr) -> Packet<Icmp> {
    let [.., a, b, c] = target.octets();
    let group =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut body = target.octets().to_vec();
    if !source.is_unspecified() {
        body.extend([1, 1]);
        body.extend(sender.0);
    }
    icmp(135, 0)
        .src_mac(sender)
        .dst_mac(MacAddr([0x33, 0x33, 0xff, a, b, c]))
        .from(IpAddr::V6(source))
        .to(IpAddr::V6(group))
        .ttl(255)
        .payload(body)
}

/// A neighbour advertisement of `target` to `asker` (RFC 4861 section 4.4); flags: router 4,
/// solicited 2, override 1.
#[must_use]
pub fn ndp_advert(
    sender: MacAddr,
    target: Ipv6Addr,
    asker_mac: MacAddr,
    asker: Ipv6Addr,
    flags: u8,
) -> Packet<Icmp> {
    let mut body = target.octets().to_vec();
    body.extend([2, 1]);
    body.extend(sender.0);
    icmp(136, 0)
        .rest([flags << 5, 0, 0, 0])
        .src_mac(sender)
        .dst_mac(asker_mac)
        .from(IpAddr::V6(target))
        .to(IpAddr::V6(asker))
        .ttl(255)
        .payload(body)
}

impl Packet<Icmp> {
    /// Bytes 4..8 of the header.
    #[must_use]
    pub fn rest(mut self, bytes: [u8; 4]) -> Self {
        self.l4.rest = [bytes; 2];
        self
    }
}

impl Layer4 for Icmp {
    fn proto(&self, v6: bool) -> u8 {
        if v6 { 58 } else { 1 }
    }

    fn header(&self, _src: SocketAddr, dst: SocketAddr, _payload: &[u8]) -> Vec<u8> {
        let v6 = dst.is_ipv6();
        let (kind, code) = if v6 { self.v6 } else { self.v4 };
        [&[kind, code, 0, 0], &self.rest[usize::from(v6)][..]].concat()
    }

    fn csum_at(&self) -> Option<usize> {
        Some(2)
    }

    fn gso_kind(&self, _v6: bool) -> Option<GsoKind> {
        None
    }
}
