//! Writing headers.

use super::decode::{Command, Decoded, Transport};
use super::text::Writer;
use super::tlv::{self, Tlv};
use super::{V1_MAX, V2_FIXED, V2_SIGNATURE, Version};
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use lvs_core::flow::L4Proto;

/// Why a header cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyError {
    /// Version 1 knows TCP only.
    NotTcp,
    /// The lent memory is too short, or the values are longer than a header may be.
    TooLong,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTcp => "PROXY version 1 knows TCP only; use version 2",
            Self::TooLong => "the PROXY header does not fit",
        })
    }
}

impl core::error::Error for ProxyError {}

/// A header without values, kept by value: at most 107 bytes.
///
/// ```
/// use lvs_core::flow::L4Proto;
/// use lvs_nat::proxy::{Header, Version};
///
/// let (client, virt) = ("192.0.2.7:40000".parse().unwrap(), "203.0.113.1:80".parse().unwrap());
/// let header = Header::new(Version::V1, L4Proto::Tcp, &client, &virt).unwrap();
/// assert_eq!(header.as_bytes(), b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 80\r\n");
/// assert_eq!(Header::new(Version::V2, L4Proto::Tcp, &client, &virt).unwrap().len(), 28);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; V1_MAX],
    len: usize,
}

impl Header {
    /// For a connection from `client` to `virt`.
    ///
    /// # Errors
    /// [`ProxyError::NotTcp`].
    pub fn new(
        version: Version,
        proto: L4Proto,
        client: &SocketAddr,
        virt: &SocketAddr,
    ) -> Result<Self, ProxyError> {
        Self::with(|bytes| encode(bytes, version, proto, client, virt, &[]))
    }

    /// For a connection of the director's own, such as a health check: the server is to use the
    /// addresses of the connection itself (`LOCAL`, in version 1 `UNKNOWN`).
    #[must_use]
    pub fn local(version: Version) -> Self {
        let mut header = Self { bytes: [0; V1_MAX], len: 0 };
        let mut writer = Writer::new(&mut header.bytes);
        match version {
            Version::V1 => writer.bytes(b"PROXY UNKNOWN\r\n"),
            Version::V2 => {
                writer.bytes(&V2_SIGNATURE);
                writer.bytes(&[0x20, 0, 0, 0]);
            }
        }
        header.len = writer.finish().unwrap_or(0);
        header
    }

    fn with(
        write: impl FnOnce(&mut [u8]) -> Result<usize, ProxyError>,
    ) -> Result<Self, ProxyError> {
        let mut bytes = [0; V1_MAX];
        let len = write(&mut bytes)?;
        Ok(Self { bytes, len })
    }

    /// The bytes as they go onto the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// How many bytes these are: what the MSS is to be lowered by. Never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no header is empty")]
    pub const fn len(&self) -> usize {
        self.len
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({})", self.as_bytes().escape_ascii())
    }
}

/// Both as IPv6 where the families differ.
fn same_family(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        v6 @ IpAddr::V6(_) => v6,
    };
    if a.is_ipv4() == b.is_ipv4() { (a, b) } else { (wide(a), wide(b)) }
}

/// Writes the header of a connection from `client` to `virt` into the first bytes of `out` and returns
/// its length. Values need version 2 and are left out of version 1; a CRC32c among them is computed,
/// whatever its four bytes are.
///
/// # Errors
/// [`ProxyError`]; what `out` holds is then undefined.
pub fn encode(
    out: &mut [u8],
    version: Version,
    proto: L4Proto,
    client: &SocketAddr,
    virt: &SocketAddr,
    values: &[Tlv<'_>],
) -> Result<usize, ProxyError> {
    match version {
        Version::V1 => v1(out, proto, client, virt),
        Version::V2 => {
            let room = out.len().min(usize::from(u16::MAX).saturating_add(V2_FIXED));
            let mut writer = Writer::new(out.get_mut(..room).unwrap_or_default());
            addresses(&mut writer, 0x21, proto, client, virt);
            for value in values {
                let len = u16::try_from(value.value.len()).map_err(|_| ProxyError::TooLong)?;
                writer.byte(value.kind);
                writer.bytes(&len.to_be_bytes());
                writer.bytes(value.value);
            }
            let len = writer.finish().ok_or(ProxyError::TooLong)?;
            finish(out, len, client, virt)
        }
    }
}

/// Writes the header of a connection from `client` to `virt` in the place of one that a client has sent:
/// version 2 with that one's values as they are, but for a CRC32c, which is computed anew. Where the
/// client's CRC32c is wrong its bytes stay as they are: nobody is to vouch for damage.
///
/// # Errors
/// [`ProxyError`]; what `out` holds is then undefined.
pub fn reencode(
    out: &mut [u8],
    proto: L4Proto,
    client: &SocketAddr,
    virt: &SocketAddr,
    sent: &Decoded<'_>,
) -> Result<usize, ProxyError> {
    let mut writer = Writer::new(out);
    addresses(&mut writer, 0x21, proto, client, virt);
    writer.bytes(sent.tlvs);
    let len = writer.finish().ok_or(ProxyError::TooLong)?;
    if sent.crc == Some(false) {
        return set_len(out, len);
    }
    finish(out, len, client, virt)
}

/// Writes the header that a client has sent in another version, with the addresses that it names.
///
/// # Errors
/// [`ProxyError`]; what `out` holds is then undefined.
pub(super) fn convert(
    out: &mut [u8],
    version: Version,
    sent: &Decoded<'_>,
) -> Result<usize, ProxyError> {
    match (sent.command, sent.transport, sent.ends) {
        (Command::Proxy, Transport::Tcp, Some((src, dst))) => {
            encode(out, version, L4Proto::Tcp, &src, &dst, &[])
        }
        (Command::Proxy, Transport::Udp, Some((src, dst))) => {
            encode(out, version, L4Proto::Udp, &src, &dst, &[])
        }
        _ => {
            let local = Header::local(version);
            let mut writer = Writer::new(out);
            writer.bytes(local.as_bytes());
            writer.finish().ok_or(ProxyError::TooLong)
        }
    }
}

fn v1(
    out: &mut [u8],
    proto: L4Proto,
    client: &SocketAddr,
    virt: &SocketAddr,
) -> Result<usize, ProxyError> {
    if proto != L4Proto::Tcp {
        return Err(ProxyError::NotTcp);
    }
    let (src, dst) = same_family(client.ip(), virt.ip());
    let mut writer = Writer::new(out);
    writer.bytes(if src.is_ipv4() { b"PROXY TCP4 " } else { b"PROXY TCP6 " });
    writer.ip(src);
    writer.byte(b' ');
    writer.ip(dst);
    writer.byte(b' ');
    writer.decimal(client.port());
    writer.byte(b' ');
    writer.decimal(virt.port());
    writer.bytes(b"\r\n");
    writer.finish().ok_or(ProxyError::TooLong)
}

/// Everything up to the values, with a length of zero.
fn addresses(
    writer: &mut Writer<'_>,
    command: u8,
    proto: L4Proto,
    client: &SocketAddr,
    virt: &SocketAddr,
) {
    let (src, dst) = same_family(client.ip(), virt.ip());
    let family = if src.is_ipv4() { 0x10 } else { 0x20 };
    let transport = match proto {
        // What makes a connection is a stream to this protocol.
        L4Proto::Tcp | L4Proto::Sctp => 1,
        L4Proto::Udp => 2,
        L4Proto::Icmp => 0,
    };
    writer.bytes(&V2_SIGNATURE);
    writer.bytes(&[command, family | transport, 0, 0]);
    for ip in [src, dst] {
        match ip {
            IpAddr::V4(v4) => writer.bytes(&v4.octets()),
            IpAddr::V6(v6) => writer.bytes(&v6.octets()),
        }
    }
    writer.bytes(&client.port().to_be_bytes());
    writer.bytes(&virt.port().to_be_bytes());
}

/// Writes the length of what stands behind the fixed part.
fn set_len(out: &mut [u8], len: usize) -> Result<usize, ProxyError> {
    let behind = len.checked_sub(V2_FIXED).and_then(|len| u16::try_from(len).ok());
    let fixed = out.first_chunk_mut::<V2_FIXED>();
    let (Some(behind), Some(fixed)) = (behind, fixed) else { return Err(ProxyError::TooLong) };
    [fixed[14], fixed[15]] = behind.to_be_bytes();
    Ok(len)
}

/// Length and CRC32c.
fn finish(
    out: &mut [u8],
    len: usize,
    client: &SocketAddr,
    virt: &SocketAddr,
) -> Result<usize, ProxyError> {
    set_len(out, len)?;
    let (src, _) = same_family(client.ip(), virt.ip());
    let values_at = V2_FIXED.saturating_add(if src.is_ipv4() { 12 } else { 36 });
    if let Some(header) = out.get_mut(..len) {
        tlv::set_crc(header, values_at);
    }
    Ok(len)
}
