//! The shortest sound look at the packet that nearly all traffic consists of: untagged Ethernet, IPv4
//! without options, a whole TCP segment.
//!
//! [`QuickTcp::parse`] answers only where [`Headers::parse`](super::Headers::parse) would accept the frame,
//! and says the same; everything else gets `None` and takes the long way.

use crate::addr::{Family, MacAddr};
use crate::checksum::Sum;
use crate::flow::{L4Proto, TupleV4, WireTuple};
use crate::wire::{Fragment, Headers, Transport};

/// Bytes up to the end of a TCP header without options.
const FIXED: usize = 54;
const IP: u16 = 14;
const TCP: u16 = 34;

/// What a plain TCP frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuickTcp {
    /// Ethernet destination.
    pub to: MacAddr,
    /// Addresses and ports.
    pub tuple: TupleV4,
    /// Bytes of the IP packet.
    pub ip_len: u16,
    /// Start of the TCP payload in the frame.
    pub payload: u16,
    /// TCP flags.
    pub flags: u8,
    /// Time to live.
    pub ttl: u8,
    /// No options, or only timestamps in their usual place: nothing in them has to be looked at.
    pub plain_options: bool,
}

impl QuickTcp {
    /// Reads a frame; `total_len` as for [`Headers::parse`].
    #[must_use]
    #[inline]
    pub fn parse(frame: &[u8], total_len: usize) -> Option<Self> {
        let f = frame.first_chunk::<FIXED>()?;
        // EtherType IPv4, version 4 with five words, no fragment, TCP, a host as Ethernet source.
        let fragment = u16::from_be_bytes([f[20], f[21]]) & 0x3fff;
        let odd = u16::from_be_bytes([f[12], f[13]]) ^ 0x0800 | u16::from(f[14] ^ 0x45);
        if odd | fragment | u16::from(f[23] ^ 6) | u16::from(f[6] & 1) != 0 {
            return None;
        }
        let ip_len = u16::from_be_bytes([f[16], f[17]]);
        let tcp_len = u16::from(f[46] >> 4) * 4;
        let sound = tcp_len >= 20
            && ip_len >= 20 + tcp_len
            && usize::from(ip_len) <= total_len.saturating_sub(usize::from(IP))
            && f.get(14..34).is_some_and(|header| Sum::ZERO.bytes(header).is_valid());
        let options = frame.get(FIXED..usize::from(TCP + tcp_len))?;
        if !sound {
            return None;
        }
        let plain_options = options.is_empty()
            || (options.len() == 12 && options.first_chunk() == Some(&[1, 1, 8, 10]));
        let word = |at: [u8; 4]| u32::from_be_bytes(at);
        Some(Self {
            to: MacAddr([f[0], f[1], f[2], f[3], f[4], f[5]]),
            tuple: TupleV4 {
                src: word([f[26], f[27], f[28], f[29]]),
                dst: word([f[30], f[31], f[32], f[33]]),
                sport: u16::from_be_bytes([f[34], f[35]]),
                dport: u16::from_be_bytes([f[36], f[37]]),
                proto: L4Proto::Tcp,
            },
            ip_len,
            payload: TCP + tcp_len,
            flags: f[47],
            ttl: f[22],
            plain_options,
        })
    }

    /// The same as [`Headers::parse`] tells; sequence number, acknowledgement and window are left at zero.
    #[must_use]
    #[inline]
    pub const fn headers(&self) -> Headers {
        Headers {
            family: Family::V4,
            vlan: None,
            l3: IP,
            l4: TCP,
            payload: self.payload,
            end: IP as u32 + self.ip_len as u32,
            fragment: Fragment::No,
            transport: Transport::Tcp { flags: self.flags, seq: 0, ack: 0, window: 0 },
            tuple: Some(WireTuple::V4(self.tuple)),
            ttl: self.ttl,
        }
    }
}
