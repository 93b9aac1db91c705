//! Reading headers, whatever the bytes are.

use super::text;
use super::tlv::{self, Tlvs};
use super::{V1_MAX, V2_FIXED, V2_SIGNATURE, Version};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a header says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Made for a client.
    Proxy,
    /// Made by the proxy itself; the addresses count for nothing.
    Local,
}

/// What the client speaks to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Not said (`UNKNOWN`, `UNSPEC`).
    Unknown,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// UNIX stream sockets.
    UnixStream,
    /// UNIX datagram sockets.
    UnixDatagram,
}

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Its form.
    pub version: Version,
    /// What it says about the connection.
    pub command: Command,
    /// What the client speaks.
    pub transport: Transport,
    /// Client and the address it connected to, where these are IP addresses.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// Bytes of the whole header.
    pub len: usize,
    /// The bytes of its values, empty in version 1.
    pub tlvs: &'a [u8],
    /// Whether its CRC32c is right, if it has one.
    pub crc: Option<bool>,
}

impl<'a> Decoded<'a> {
    /// Its values.
    #[must_use]
    pub const fn values(&self) -> Tlvs<'a> {
        Tlvs::new(self.tlvs)
    }
}

/// What stands at the start of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised<'a> {
    /// A header.
    Header(Decoded<'a>),
    /// The start of one, as far as can be seen: the rest is in a later segment.
    Partial,
    /// It starts as only a header does, and is none.
    Malformed,
    /// No header.
    None,
}

/// Reads the start of a stream.
///
/// ```
/// use lvs_nat::proxy::{Recognised, decode};
///
/// assert_eq!(decode(b"GET / HTTP/1.1\r\n"), Recognised::None);
/// assert_eq!(decode(b"PROXY TCP4 192.0."), Recognised::Partial);
/// let stream = b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 80\r\nGET /";
/// let Recognised::Header(header) = decode(stream) else { panic!() };
/// assert_eq!(header.len, 43);
/// assert_eq!(header.ends.unwrap().0, "192.0.2.7:40000".parse().unwrap());
/// ```
#[must_use]
pub fn decode(stream: &[u8]) -> Recognised<'_> {
    if starts(stream, &V2_SIGNATURE) {
        return v2(stream);
    }
    if starts(stream, b"PROXY ") {
        return v1(stream);
    }
    Recognised::None
}

/// Whether the stream starts with `sign`, or is not long enough to tell; of nothing nothing is told.
fn starts(stream: &[u8], sign: &[u8]) -> bool {
    !stream.is_empty() && stream.iter().zip(sign).all(|(a, b)| a == b)
}

fn v1(stream: &[u8]) -> Recognised<'_> {
    let line = stream.get(..stream.len().min(V1_MAX)).unwrap_or_default();
    let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
        return match stream.len() < V1_MAX && !early_end(line) {
            true => Recognised::Partial,
            false => Recognised::Malformed,
        };
    };
    // What is ignored behind UNKNOWN ends with the line, too.
    let whole = line.get(..end).filter(|line| !line.contains(&b'\r') && !line.contains(&b'\n'));
    let found = whole.and_then(|line| line_of(line, end.saturating_add(2)));
    found.map_or(Recognised::Malformed, Recognised::Header)
}

/// Whether the line breaks in a way that no header does: nothing that comes could mend it.
fn early_end(line: &[u8]) -> bool {
    let before_last = line.split_last().map_or(line, |(_, rest)| rest);
    line.contains(&b'\n') || before_last.contains(&b'\r')
}

fn line_of<'a>(line: &[u8], len: usize) -> Option<Decoded<'a>> {
    let mut decoded = Decoded {
        version: Version::V1,
        command: Command::Proxy,
        transport: Transport::Unknown,
        ends: None,
        len,
        tlvs: &[],
        crc: None,
    };
    let mut words = line.split(|byte| *byte == b' ');
    let (_, family) = (words.next()?, words.next()?);
    if family == b"UNKNOWN" {
        // What follows is to be ignored (section 2.1).
        return Some(decoded);
    }
    let (src, dst) = (words.next()?, words.next()?);
    let (sport, dport) = (text::port(words.next()?)?, text::port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let (src, dst) = match family {
        b"TCP4" => (text::ipv4(src)?.into(), text::ipv4(dst)?.into()),
        b"TCP6" => (text::ipv6(src)?.into(), text::ipv6(dst)?.into()),
        _ => return None,
    };
    decoded.transport = Transport::Tcp;
    decoded.ends = Some((SocketAddr::new(src, sport), SocketAddr::new(dst, dport)));
    Some(decoded)
}

fn v2(stream: &[u8]) -> Recognised<'_> {
    // What is there of command and family must be sound, the rest may follow.
    if stream.get(12).is_some_and(|byte| !matches!(byte, 0x20 | 0x21)) {
        return Recognised::Malformed;
    }
    let kind = match stream.get(13) {
        Some(byte) => match transport_of(*byte) {
            Some(kind) => kind,
            None => return Recognised::Malformed,
        },
        None => return Recognised::Partial,
    };
    let Some((fixed, rest)) = stream.split_first_chunk::<V2_FIXED>() else {
        return Recognised::Partial;
    };
    let behind = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let addresses = address_len(fixed[13]);
    if behind < addresses && fixed[12] == 0x21 {
        return Recognised::Malformed;
    }
    let Some(body) = rest.get(..behind) else { return Recognised::Partial };
    let len = V2_FIXED.saturating_add(behind);
    let tlvs = body.get(addresses..).unwrap_or_default();
    if !tlv::is_sound(tlvs) {
        return Recognised::Malformed;
    }
    let command = if fixed[12] == 0x21 { Command::Proxy } else { Command::Local };
    let whole = stream.get(..len).unwrap_or_default();
    Recognised::Header(Decoded {
        version: Version::V2,
        command,
        transport: kind,
        ends: ends_of(fixed[13], body),
        len,
        tlvs,
        crc: tlv::verify_crc(whole, V2_FIXED.saturating_add(addresses.min(behind))),
    })
}

/// Family and protocol in one byte; `None` for what the protocol forbids.
const fn transport_of(byte: u8) -> Option<Transport> {
    Some(match byte {
        0x00 => Transport::Unknown,
        0x11 | 0x21 => Transport::Tcp,
        0x12 | 0x22 => Transport::Udp,
        0x31 => Transport::UnixStream,
        0x32 => Transport::UnixDatagram,
        // Known halves of an unspecified whole are to be accepted as unspecified.
        0x01 | 0x02 | 0x10 | 0x20 | 0x30 => Transport::Unknown,
        _ => return None,
    })
}

/// Bytes that the addresses of a family take.
const fn address_len(byte: u8) -> usize {
    match byte >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    }
}

fn ends_of(byte: u8, body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |bytes: [u8; 2]| u16::from_be_bytes(bytes);
    match byte {
        0x11 | 0x12 => {
            let [a, b, c, d, e, f, g, h, p, q, r, s] = *body.first_chunk::<12>()?;
            let (src, dst) = (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h));
            Some((
                SocketAddr::new(src.into(), port([p, q])),
                SocketAddr::new(dst.into(), port([r, s])),
            ))
        }
        0x21 | 0x22 => {
            let (src, rest) = body.split_first_chunk::<16>()?;
            let (dst, rest) = rest.split_first_chunk::<16>()?;
            let [p, q, r, s] = *rest.first_chunk::<4>()?;
            let (src, dst) = (Ipv6Addr::from_octets(*src), Ipv6Addr::from_octets(*dst));
            Some((
                SocketAddr::new(src.into(), port([p, q])),
                SocketAddr::new(dst.into(), port([r, s])),
            ))
        }
        _ => None,
    }
}
