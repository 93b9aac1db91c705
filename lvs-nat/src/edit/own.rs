//! Segments of the director's own in a session: bytes sent ahead, acknowledgements, with checksums.
//!
//! Two cases need them. A full segment has no room for inserted bytes, so they go ahead on a segment of
//! their own; or the server speaks first and waits for a PROXY header that no client segment will bring,
//! so one goes out right after the handshake and again ([`retransmit_after_ms`]) until the server has
//! acknowledged it ([`EditList::settled`](crate::edit::EditList::settled)).
//!
//! The frame in front of IP is the caller's: [`write()`] fills the IP packet only.

use crate::walk;
use core::net::SocketAddr;
use lvs_core::checksum::{AddrPair, Sum, l4_checksum, verify_tcp};
use lvs_core::flow::L4Proto;
use lvs_core::io::L4Csum;
use lvs_core::wire::{Fragment, Headers, Transport, tcp};

/// A segment to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnSegment<'a> {
    /// Source.
    pub src: SocketAddr,
    /// Destination, of the same family.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags ([`tcp`]).
    pub flags: u8,
    /// Window as it stands in the header, unscaled: that of the client's newest segment.
    pub window: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Identification of an IPv4 packet. It is sent with DF, so 0 will do (RFC 6864 section 4.1).
    pub id: u16,
    /// Options; a multiple of four bytes, at most 40.
    pub options: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

impl OwnSegment<'_> {
    /// Bytes of the IP packet, if the parts go together.
    #[must_use]
    pub fn ip_len(&self) -> Option<usize> {
        let ip = match (self.src, self.dst) {
            (SocketAddr::V4(_), SocketAddr::V4(_)) => 20usize,
            (SocketAddr::V6(_), SocketAddr::V6(_)) => 40,
            _ => return None,
        };
        let options = self.options.len();
        if options > walk::MAX || !options.is_multiple_of(4) {
            return None;
        }
        let len = ip.checked_add(20)?.checked_add(options)?.checked_add(self.payload.len())?;
        (len <= usize::from(u16::MAX)).then_some(len)
    }
}

/// Writes the IP packet with right checksums into the first bytes of `out` and returns its length.
/// `None`, and nothing written, when `out` is too short or the parts do not go together.
///
/// ```
/// use lvs_core::wire::tcp::{ACK, PSH};
/// use lvs_nat::edit::own::{OwnSegment, write};
///
/// let segment = OwnSegment {
///     src: "10.0.0.1:5000".parse().unwrap(),
///     dst: "10.0.0.2:80".parse().unwrap(),
///     seq: 1, ack: 2, flags: ACK | PSH, window: 512, ttl: 64, tos: 0, id: 0,
///     options: &[],
///     payload: b"PROXY UNKNOWN\r\n",
/// };
/// let mut out = [0; 64];
/// assert_eq!(write(&mut out, &segment), Some(55));
/// assert_eq!(out[40..55], *b"PROXY UNKNOWN\r\n");
/// ```
#[must_use]
pub fn write(out: &mut [u8], segment: &OwnSegment<'_>) -> Option<usize> {
    let len = segment.ip_len()?;
    let out = out.get_mut(..len)?;
    let ip_header = if segment.src.is_ipv4() { 20 } else { 40 };
    let (ip, l4) = out.split_at_mut_checked(ip_header)?;
    let l4_len = u16::try_from(l4.len()).ok()?;
    ip_header_of(ip, segment, l4_len)?;
    tcp_header_of(l4, segment)?;
    let pair = AddrPair::new(segment.src.ip(), segment.dst.ip())?;
    let field = l4_checksum(pair, L4Proto::Tcp, l4_len.into(), Sum::ZERO.bytes(l4));
    let header = l4.first_chunk_mut::<20>()?;
    [header[16], header[17]] = field.to_be_bytes();
    Some(len)
}

fn ip_header_of(ip: &mut [u8], segment: &OwnSegment<'_>, l4_len: u16) -> Option<()> {
    match (segment.src, segment.dst) {
        (SocketAddr::V4(src), SocketAddr::V4(dst)) => {
            let ip = ip.first_chunk_mut::<20>()?;
            let [l0, l1] = l4_len.saturating_add(20).to_be_bytes();
            let [i0, i1] = segment.id.to_be_bytes();
            let ([a, b, c, d], [e, f, g, h]) = (src.ip().octets(), dst.ip().octets());
            *ip = [
                0x45,
                segment.tos,
                l0,
                l1,
                i0,
                i1,
                0x40,
                0,
                segment.ttl,
                6,
                0,
                0, //
                a,
                b,
                c,
                d,
                e,
                f,
                g,
                h,
            ];
            let sum = Sum::ZERO.bytes(&ip[..]).checksum();
            [ip[10], ip[11]] = sum.to_be_bytes();
        }
        (SocketAddr::V6(src), SocketAddr::V6(dst)) => {
            let ip = ip.first_chunk_mut::<40>()?;
            let tos = u32::from(segment.tos);
            let [v0, v1, v2, v3] = (0x6000_0000u32 | tos << 20).to_be_bytes();
            let [l0, l1] = l4_len.to_be_bytes();
            let start = [v0, v1, v2, v3, l0, l1, 6, segment.ttl];
            let all = start.into_iter().chain(src.ip().octets()).chain(dst.ip().octets());
            ip.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        }
        _ => return None,
    }
    Some(())
}

/// The header with a checksum of zero, options and payload.
fn tcp_header_of(l4: &mut [u8], segment: &OwnSegment<'_>) -> Option<()> {
    let (header, rest) = l4.split_first_chunk_mut::<20>()?;
    let ([p0, p1], [q0, q1]) = (segment.src.port().to_be_bytes(), segment.dst.port().to_be_bytes());
    let ([s0, s1, s2, s3], [a0, a1, a2, a3]) =
        (segment.seq.to_be_bytes(), segment.ack.to_be_bytes());
    let [w0, w1] = segment.window.to_be_bytes();
    let offset = (segment.options.len().saturating_add(20) / 4) as u8;
    *header = [
        p0,
        p1,
        q0,
        q1,
        s0,
        s1,
        s2,
        s3,
        a0,
        a1,
        a2,
        a3,
        offset << 4,
        segment.flags,
        w0,
        w1, //
        0,
        0,
        0,
        0,
    ];
    let bytes = segment.options.iter().chain(segment.payload);
    rest.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Some(())
}

/// The timestamps of a segment as an option list of their own, two NOPs first (RFC 7323 appendix A):
/// where a connection uses timestamps, every segment has to have them (RFC 7323 section 3.2). A segment
/// of the director's repeats those of the client's newest one.
#[must_use]
pub fn timestamps_of(options: &[u8]) -> Option<[u8; 12]> {
    let found = walk::Options::new(options).map_while(Result::ok);
    let option: &[u8; 10] = found
        .into_iter()
        .find_map(|o| <&[u8; 10]>::try_from(o).ok().filter(|o| o[0] == walk::TIMESTAMPS))?;
    let [a, b, c, d, e, f, g, h, i, j] = *option;
    Some([walk::NOP, walk::NOP, a, b, c, d, e, f, g, h, i, j])
}

/// Why no segment goes ahead of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AheadError {
    /// The checksum of the segment that it would be made from is wrong: what is new must not vouch for
    /// what is damaged.
    Corrupt,
    /// Not a whole TCP segment, or the headers are another frame's.
    Mismatch,
    /// The lent memory is too short.
    NoRoom,
}

/// Builds the segment that goes ahead of a client's: same ends and numbers, ACK (and PSH if there is a
/// payload), `options` and `payload` instead of the segment's own. The segment's checksum is verified
/// first, unless its state says what it is. Returns the length of the IP packet in `out`.
///
/// `tail` is what of the packet lies behind the first contiguous part.
///
/// # Errors
/// [`AheadError`]; `out` is then as it was.
pub fn ahead(
    out: &mut [u8],
    (frame, tail): (&[u8], &[u8]),
    headers: &Headers,
    csum: L4Csum,
    options: &[u8],
    payload: &[u8],
) -> Result<usize, AheadError> {
    let Transport::Tcp { seq, ack, window, flags } = headers.transport else {
        return Err(AheadError::Mismatch);
    };
    let tuple = headers.tuple.ok_or(AheadError::Mismatch)?;
    if headers.fragment != Fragment::No || flags & (tcp::SYN | tcp::RST) != 0 {
        return Err(AheadError::Mismatch);
    }
    if is_corrupt(frame, tail, headers, csum).ok_or(AheadError::Mismatch)? {
        return Err(AheadError::Corrupt);
    }
    let ip = frame.get(usize::from(headers.l3)..).unwrap_or_default();
    let tos = match (ip, tuple.src().is_ipv4()) {
        ([_, tos, ..], true) => *tos,
        ([a, b, ..], false) => a << 4 | b >> 4,
        _ => return Err(AheadError::Mismatch),
    };
    let push = if payload.is_empty() { 0 } else { tcp::PSH };
    let segment = OwnSegment {
        src: SocketAddr::new(tuple.src(), tuple.sport()),
        dst: SocketAddr::new(tuple.dst(), tuple.dport()),
        seq,
        ack,
        flags: tcp::ACK | push,
        window,
        ttl: headers.ttl,
        tos,
        id: 0,
        options,
        payload,
    };
    write(out, &segment).ok_or(AheadError::NoRoom)
}

/// Whether a segment is known to be damaged; `None` when the bytes do not hold it.
fn is_corrupt(frame: &[u8], tail: &[u8], headers: &Headers, csum: L4Csum) -> Option<bool> {
    match csum {
        L4Csum::Good | L4Csum::Partial => return Some(false),
        L4Csum::Bad => return Some(true),
        L4Csum::Unknown => {}
    }
    let (start, end) = (usize::from(headers.l4), usize::try_from(headers.end).ok()?);
    let first = frame.get(start..end.min(frame.len()))?;
    let rest = tail.get(..end.saturating_sub(frame.len()))?;
    Some(!verify_tcp(AddrPair::from(headers.tuple.as_ref()?), first, rest))
}

/// Milliseconds to wait for an acknowledgement after a segment was sent for the `sent`th time (from 1
/// on), doubling from the smallest time-out in use (200 ms); `None` when it is time to give up, after
/// six times and 12.6 seconds.
#[must_use]
pub const fn retransmit_after_ms(sent: u8) -> Option<u32> {
    match sent {
        0 => Some(0),
        1..=6 => Some(100 << sent),
        _ => None,
    }
}
