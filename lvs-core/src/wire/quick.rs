//! The shortest sound look at the packets that nearly all traffic consists of: untagged Ethernet, IPv4
//! without options or IPv6 without extension headers, a whole TCP segment.
//!
//! [`QuickTcp`] answers only where [`Headers::parse`](super::Headers::parse) would accept the frame, but for
//! options that are not [plain](QuickTcp::plain_options) and may be malformed, and says the same; everything
//! else gets `None` and takes the long way.

use crate::addr::{Family, MacAddr};
use crate::checksum::Sum;
use crate::flow::{L4Proto, WireTuple};
use crate::key::{Key, KeyV4, KeyV6};
use crate::session::tcp::flags::{ACK, PSH};
use crate::wire::{Fragment, Headers, Transport};

/// Bytes up to the end of a TCP header without options, over IPv4.
pub const QUICK_V4: usize = 54;
/// The same over IPv6.
pub const QUICK_V6: usize = 74;
/// Start of the IP header.
const IP: u16 = 14;

/// What a plain TCP frame says; `N` as in [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuickTcp<const N: usize> {
    /// Ethernet destination.
    pub to: MacAddr,
    /// Addresses and ports.
    pub key: Key<N>,
    /// Bytes of the IP packet.
    pub ip_len: u16,
    /// Bytes of the TCP header.
    pub tcp_len: u8,
    /// TCP flags.
    pub flags: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// No options, or only timestamps in their usual place: nothing in them has to be looked at.
    pub plain_options: bool,
}

/// TCP header length, and whether its options are plain; `None` when the header is not whole.
#[inline(always)]
fn options(frame: &[u8], fixed: usize, offset: u8) -> Option<(u8, bool)> {
    let tcp_len = (offset >> 4) << 2;
    if tcp_len == 20 {
        return Some((tcp_len, true));
    }
    let options = frame.get(fixed..fixed.wrapping_sub(20).wrapping_add(usize::from(tcp_len)))?;
    let stamps = options.len() == 12 && options.first_chunk() == Some(&[1, 1, 8, 10]);
    Some((tcp_len, stamps))
}

/// `frame[at..at + N]`, of constant places.
#[inline(always)]
fn part<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    frame.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Zero when the bytes that `mask` covers are these.
#[inline(always)]
const fn unlike(bytes: [u8; 4], these: [u8; 4], mask: [u8; 4]) -> u32 {
    (u32::from_le_bytes(bytes) ^ u32::from_le_bytes(these)) & u32::from_le_bytes(mask)
}

/// The Ethernet address of a port, ready to be compared with the first eight bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnMac(u64);

impl OwnMac {
    /// Of an address.
    #[must_use]
    pub const fn new(mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// Zero when the frame is for this address and its source is a host.
    #[inline(always)]
    fn unlike(self, frame: &[u8]) -> u64 {
        const MASK: u64 = u64::from_le_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]);
        (u64::from_le_bytes(part(frame, 0)) & MASK) ^ self.0
    }
}

/// An ordinary segment: what nearly all frames are, told by one comparison of all that is fixed in them.
///
/// Of a frame without TCP options this is exactly what [`QuickTcp::parse`] says and
/// [`QuickTcp::is_ordinary`] judges; of others it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordinary<const N: usize> {
    /// Addresses and ports.
    pub key: Key<N>,
    /// Bytes of the frame behind the IP packet: Ethernet padding.
    pub padding: usize,
}

/// Zero when these are header length and flags of a segment without options, ACK and perhaps PSH.
#[inline(always)]
const fn unlike_ack([length, flags]: [u8; 2]) -> u32 {
    unlike([length, flags, 0, 0], [0x50, ACK, 0, 0], [0xf0, !PSH, 0, 0])
}

impl Ordinary<12> {
    /// Looks at an IPv4 frame; `total_len` as for [`Headers::parse`].
    #[must_use]
    #[inline(always)]
    pub fn look(frame: &[u8], total_len: usize, own: OwnMac) -> Option<Self> {
        let f = frame.first_chunk::<QUICK_V4>()?;
        // EtherType IPv4, version 4 with five words, no fragment, TCP.
        let start = unlike(part(f, 12), [0x08, 0x00, 0x45, 0], [0xff, 0xff, 0xff, 0]);
        let whole = unlike(part(f, 20), [0, 0, 0, 6], [0x3f, 0xff, 0, 0xff]);
        let other = own.unlike(f) | u64::from(start | whole | unlike_ack(part(f, 46)));
        let ip_len = usize::from(u16::from_be_bytes(part(f, 16)));
        let behind = total_len.max(frame.len()).wrapping_sub(usize::from(IP));
        let header = part::<20>(f, usize::from(IP));
        let sound = (other == 0)
            & (ip_len >= 40)
            & (ip_len <= behind)
            & (f[22] > 1)
            & Sum::ZERO.bytes(&header).is_valid();
        sound.then(|| Self { key: Key(part(f, 26)), padding: behind.wrapping_sub(ip_len) })
    }
}

impl Ordinary<36> {
    /// Looks at an IPv6 frame; `total_len` as for [`Headers::parse`].
    #[must_use]
    #[inline(always)]
    pub fn look(frame: &[u8], total_len: usize, own: OwnMac) -> Option<Self> {
        let f = frame.first_chunk::<QUICK_V6>()?;
        // EtherType IPv6, version 6; TCP.
        let start = unlike(part(f, 12), [0x86, 0xdd, 0x60, 0], [0xff, 0xff, 0xf0, 0]);
        let tcp = u32::from(f[20] ^ 6) | unlike_ack(part(f, 66));
        let other = own.unlike(f) | u64::from(start | tcp);
        let l4_len = usize::from(u16::from_be_bytes(part(f, 18)));
        let behind = total_len.max(frame.len()).wrapping_sub(54);
        let sound = (other == 0)
            & (l4_len >= 20)
            & (l4_len <= behind.min(usize::from(u16::MAX - 40)))
            & (f[21] > 1);
        sound.then(|| Self { key: Key(part(f, 22)), padding: behind.wrapping_sub(l4_len) })
    }
}

impl<const N: usize> QuickTcp<N> {
    /// Whether this is an ordinary segment to `own`: ACK and perhaps PSH, nothing in its options, at least one
    /// more hop to live.
    #[must_use]
    #[inline(always)]
    pub fn is_ordinary(&self, own: MacAddr) -> bool {
        (self.flags & !PSH == ACK) & self.plain_options & (self.ttl > 1) & (self.to == own)
    }
}

impl QuickTcp<12> {
    /// Reads an IPv4 frame; `total_len` as for [`Headers::parse`].
    #[must_use]
    #[inline(always)]
    pub fn parse(frame: &[u8], total_len: usize) -> Option<Self> {
        let f = frame.first_chunk::<QUICK_V4>()?;
        // EtherType IPv4, version 4 with five words, no fragment, TCP, a host as Ethernet source.
        let start = unlike(part(f, 12), [0x08, 0x00, 0x45, 0], [0xff, 0xff, 0xff, 0]);
        let whole = unlike(part(f, 20), [0, 0, 0, 6], [0x3f, 0xff, 0, 0xff]);
        let other = start | whole | u32::from(f[6] & 1);
        let ip_len = u16::from_be_bytes([f[16], f[17]]);
        let (tcp_len, plain_options) = options(frame, QUICK_V4, f[46])?;
        let header = part::<20>(f, usize::from(IP));
        let sound = (other == 0)
            & (tcp_len >= 20)
            & (usize::from(ip_len) >= usize::from(tcp_len).wrapping_add(20))
            & (usize::from(ip_len) <= total_len.max(frame.len()).wrapping_sub(usize::from(IP)))
            & Sum::ZERO.bytes(&header).is_valid();
        if !sound {
            return None;
        }
        let to = MacAddr(part(f, 0));
        let (flags, ttl) = (f[47], f[22]);
        Some(Self { to, key: Key(part(f, 26)), ip_len, tcp_len, flags, ttl, plain_options })
    }

    /// The key in the fixed place, of a frame that has been looked at.
    #[must_use]
    #[inline(always)]
    pub fn key_in(head: &[u8; QUICK_V4]) -> KeyV4 {
        Key(part(head, 26))
    }

    /// The same as [`Headers::parse`] tells; sequence number, acknowledgement and window are left at zero.
    #[must_use]
    pub fn headers(&self) -> Headers {
        let tuple = WireTuple::V4(self.key.tuple(L4Proto::Tcp));
        headers(Family::V4, 34, tuple, (self.ip_len, self.tcp_len, self.flags, self.ttl))
    }
}

impl QuickTcp<36> {
    /// Reads an IPv6 frame; `total_len` as for [`Headers::parse`].
    #[must_use]
    #[inline(always)]
    pub fn parse(frame: &[u8], total_len: usize) -> Option<Self> {
        let f = frame.first_chunk::<QUICK_V6>()?;
        // EtherType IPv6, version 6, TCP, a host as Ethernet source.
        let start = unlike(part(f, 12), [0x86, 0xdd, 0x60, 0], [0xff, 0xff, 0xf0, 0]);
        let other = start | u32::from(f[20] ^ 6) | u32::from(f[6] & 1);
        let l4_len = u16::from_be_bytes([f[18], f[19]]);
        let (tcp_len, plain_options) = options(frame, QUICK_V6, f[66])?;
        let sound = (other == 0)
            & (tcp_len >= 20)
            & (l4_len >= u16::from(tcp_len))
            & (l4_len <= u16::MAX - 40)
            & (usize::from(l4_len) <= total_len.max(frame.len()).wrapping_sub(54));
        if !sound {
            return None;
        }
        let to = MacAddr(part(f, 0));
        let (flags, ttl, ip_len) = (f[67], f[21], l4_len.wrapping_add(40));
        Some(Self { to, key: Key(part(f, 22)), ip_len, tcp_len, flags, ttl, plain_options })
    }

    /// The key in the fixed place, of a frame that has been looked at.
    #[must_use]
    #[inline(always)]
    pub fn key_in(head: &[u8; QUICK_V6]) -> KeyV6 {
        Key(part(head, 22))
    }

    /// The same as [`Headers::parse`] tells; sequence number, acknowledgement and window are left at zero.
    #[must_use]
    pub fn headers(&self) -> Headers {
        let tuple = WireTuple::V6(self.key.tuple(L4Proto::Tcp));
        headers(Family::V6, 54, tuple, (self.ip_len, self.tcp_len, self.flags, self.ttl))
    }
}

fn headers(
    family: Family,
    l4: u16,
    tuple: WireTuple,
    (ip_len, tcp_len, flags, ttl): (u16, u8, u8, u8),
) -> Headers {
    Headers {
        family,
        vlan: None,
        l3: IP,
        l4,
        payload: l4.wrapping_add(u16::from(tcp_len)),
        end: u32::from(IP).wrapping_add(u32::from(ip_len)),
        fragment: Fragment::No,
        transport: Transport::Tcp { flags, seq: 0, ack: 0, window: 0 },
        tuple: Some(tuple),
        ttl,
    }
}
