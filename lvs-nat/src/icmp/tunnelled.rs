//! An ICMP error about one of the director's own tunnel packets.

use super::embedded::{Quote, error_kind, mtu_of, quote_v4, quote_v6};
use crate::tunnel::{GRE, ip_in_ip};
use core::net::IpAddr;
use lvs_core::addr::Family;
use lvs_core::flow::WireTuple;
use lvs_core::wire::{Headers, PROTOCOL_UDP};

/// What an error about a tunnel packet tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "ip_vs_icmp_tunnel")]
pub struct Tunnelled {
    /// The tunnel's end: the server that was not reached.
    pub server: IpAddr,
    /// The tunnel's start; believe the error only if it is the director's.
    pub source: IpAddr,
    /// IP version of the packet inside.
    pub family: Family,
    /// Its start in the frame, which holds it as far as the error quotes it.
    pub inner: u16,
    /// Bytes in front of it in the tunnel packet.
    pub growth: u16,
    /// The path MTU toward the server, outer header included, if the error tells one. For the client:
    /// [`less_growth`](super::less_growth) of it.
    pub mtu: Option<u32>,
}

impl Tunnelled {
    /// The quoted inner packet, for [`complain_about`](super::complain_about).
    #[must_use]
    pub fn packet<'a>(&self, frame: &'a [u8], headers: &Headers) -> &'a [u8] {
        let end = usize::try_from(headers.end).unwrap_or(usize::MAX).min(frame.len());
        frame.get(usize::from(self.inner)..end).unwrap_or_default()
    }

    /// The tuple of the inner packet; `None` when the error quotes too little of it, it is a later fragment, or
    /// neither echo nor of a protocol with ports.
    #[must_use]
    pub fn flow(&self, frame: &[u8], headers: &Headers) -> Option<WireTuple> {
        let packet = self.packet(frame, headers);
        let quote = match self.family {
            Family::V4 => quote_v4(packet)?,
            Family::V6 => quote_v6(packet)?,
        };
        quote.carried(self.family)?.tuple()
    }
}

/// Takes the outer header off what an error quotes. `gue_port` is the UDP port that stands for GUE.
/// `None` when it is not about a tunnel packet, or quotes too little of it to see an IP header inside.
#[must_use]
pub fn tunnelled(frame: &[u8], headers: &Headers, gue_port: Option<u16>) -> Option<Tunnelled> {
    let kind = error_kind(headers)?;
    let end = usize::try_from(headers.end).ok()?.min(frame.len());
    let message = frame.get(usize::from(headers.l4)..end)?;
    let quoted = message.get(8..)?;
    let outer = match headers.family {
        Family::V4 => quote_v4(quoted)?,
        Family::V6 => quote_v6(quoted)?,
    };
    let (family, between) = inside(&outer, gue_port)?;
    let version = *outer.transport.get(usize::from(between))? >> 4;
    let (expected, fixed) = match family {
        Family::V4 => (4, 20u16),
        Family::V6 => (6, 40),
    };
    let growth = outer.header_len.checked_add(between)?;
    let inner = headers.l4.checked_add(8)?.checked_add(growth)?;
    let there = outer.transport.len() >= usize::from(between.checked_add(fixed)?);
    (version == expected && there && !outer.later).then_some(Tunnelled {
        server: outer.dst,
        source: outer.src,
        family,
        inner,
        growth,
        mtu: mtu_of(kind, message, headers.family),
    })
}

/// The family inside, and the bytes between the outer IP header and it.
fn inside(outer: &Quote<'_>, gue_port: Option<u16>) -> Option<(Family, u16)> {
    let of_protocol = |protocol| {
        [Family::V4, Family::V6].into_iter().find(|family| ip_in_ip(*family) == protocol)
    };
    match outer.protocol {
        GRE => {
            let &[flags, version, e0, e1] = outer.transport.first_chunk()?;
            let family = match [e0, e1] {
                [0x08, 0x00] => Family::V4,
                [0x86, 0xdd] => Family::V6,
                _ => return None,
            };
            match (flags, version) {
                (0, 0) => Some((family, 4)),
                (0x80, 0) => Some((family, 8)),
                _ => None,
            }
        }
        PROTOCOL_UDP => {
            let &[_, _, d0, d1, _, _, _, _, 0, protocol, 0, 0] = outer.transport.first_chunk()?
            else {
                return None;
            };
            let ours = gue_port == Some(u16::from_be_bytes([d0, d1]));
            of_protocol(protocol).filter(|_| ours).map(|family| (family, 12))
        }
        protocol => of_protocol(protocol).map(|family| (family, 0)),
    }
}
