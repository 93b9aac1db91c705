//! The PROXY protocol as a server reads it, written from its specification (haproxy.org, 2020/03/05).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Who a header says is connected to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// The client.
    pub client: SocketAddr,
    /// Where it connected to.
    pub virt: SocketAddr,
    /// 1 or 2.
    pub version: u8,
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header at the front of a stream or datagram: what it says, and its length. `Ok(None)` when more
/// bytes are needed.
///
/// # Errors
/// What is wrong with it.
pub fn read_proxy(bytes: &[u8]) -> Result<Option<(Proxied, usize)>, String> {
    if bytes.starts_with(b"P") {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            let short = bytes.len() < 107 && b"PROXY TCP".starts_with(&bytes[..bytes.len().min(9)]);
            return if short {
                Ok(None)
            } else {
                Err(format!("no line: {}", bytes.escape_ascii()))
            };
        };
        return Ok(Some((line(&bytes[..end])?, end + 2)));
    }
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(format!("no header: {}", bytes.escape_ascii()));
    }
    let Some(fixed) = bytes.first_chunk::<16>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let Some(rest) = bytes[16..].get(..len) else { return Ok(None) };
    if fixed[12] != 0x21 {
        return Err(format!("version and command {:#x}", fixed[12]));
    }
    let (client, virt) = match (fixed[13] >> 4, len) {
        (1, 12..) => (ip4(&rest[..4]), ip4(&rest[4..8])),
        (2, 36..) => (ip6(&rest[..16]), ip6(&rest[16..32])),
        other => return Err(format!("family and length {other:?}")),
    };
    let ports = if fixed[13] >> 4 == 1 { &rest[8..12] } else { &rest[32..36] };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let (client, virt) = (SocketAddr::new(client, port(0)), SocketAddr::new(virt, port(2)));
    Ok(Some((Proxied { client, virt, version: 2 }, 16 + len)))
}

fn ip4(bytes: &[u8]) -> IpAddr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
}

fn ip6(bytes: &[u8]) -> IpAddr {
    let mut all = [0; 16];
    all.copy_from_slice(bytes);
    Ipv6Addr::from(all).into()
}

fn line(line: &[u8]) -> Result<Proxied, String> {
    let text = core::str::from_utf8(line).map_err(|error| error.to_string())?;
    let words: Vec<&str> = text.split(' ').collect();
    let ["PROXY", family @ ("TCP4" | "TCP6"), src, dst, sport, dport] = words[..] else {
        return Err(format!("line {text:?}"));
    };
    let ip = |word: &str| {
        let ip: IpAddr = word.parse().map_err(|_| format!("address {word:?}"))?;
        if ip.is_ipv4() == (family == "TCP4") { Ok(ip) } else { Err(format!("family of {text:?}")) }
    };
    let port = |word: &str| word.parse::<u16>().map_err(|_| format!("port {word:?}"));
    Ok(Proxied {
        client: SocketAddr::new(ip(src)?, port(sport)?),
        virt: SocketAddr::new(ip(dst)?, port(dport)?),
        version: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_byte_by_byte_and_nothing_else() {
        let v1 = b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 80\r\nGET";
        let mut v2 = SIGNATURE.to_vec();
        v2.extend([0x21, 0x11, 0, 12, 192, 0, 2, 7, 203, 0, 113, 1, 0x9c, 0x40, 0, 80, b'G']);
        for (bytes, len, version) in [(&v1[..], 43, 1), (&v2, 28, 2)] {
            for short in 0..len {
                assert_eq!(read_proxy(&bytes[..short]), Ok(None), "{short}");
            }
            let (proxied, used) = read_proxy(bytes).unwrap().unwrap();
            assert_eq!((used, proxied.version), (len, version));
            assert_eq!(proxied.client, "192.0.2.7:40000".parse().unwrap());
            assert_eq!(proxied.virt, "203.0.113.1:80".parse().unwrap());
        }
        assert!(read_proxy(b"GET / HTTP/1.0\r\n").is_err());
        assert!(read_proxy(b"PROXY TCP4 ::1 ::2 1 2\r\n").is_err());
    }
}
