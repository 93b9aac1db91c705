//! Neighbour solicitation and advertisement (RFC 4861), read and checked.

pub use super::ndp_frame::NdpFrame;

use super::error::{Fault, Layer, Malformed};
use super::icmpv6::{Icmpv6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION};
use super::ipv6::{HEADER_LEN as IP_HEADER_LEN, Ipv6};
use super::{PROTOCOL_ICMPV6, ipv6_ext};
use crate::addr::MacAddr;
use crate::checksum::{AddrPair, verify_icmpv6};
use core::net::Ipv6Addr;

/// Option with the hardware address of the sender of a solicitation.
pub const OPTION_SOURCE: u8 = 1;
/// Option with the hardware address of the target of an advertisement.
pub const OPTION_TARGET: u8 = 2;

/// Hop limit that proves that a message comes from this link (RFC 4861 section 7.1).
pub const HOP_LIMIT: u8 = 255;

/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

pub(super) const MESSAGE_LEN: usize = 24;
pub(super) const FLAG_ROUTER: u8 = 0x80;
pub(super) const FLAG_SOLICITED: u8 = 0x40;
pub(super) const FLAG_OVERRIDE: u8 = 0x20;
const OFFSET_HOP_LIMIT: usize = 7;
const OFFSET_SRC: usize = 8;
const OFFSET_DST: usize = 24;
const OFFSET_TARGET: usize = 8;

/// Question or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NdpKind {
    /// Who has the target address?
    Solicitation = NEIGHBOUR_SOLICITATION,
    /// The target address is here.
    Advertisement = NEIGHBOUR_ADVERTISEMENT,
}

/// A neighbour solicitation or advertisement that passed every check of RFC 4861 sections 7.1.1 and
/// 7.1.2, hop limit and checksum included.
#[derive(Clone, Copy)]
pub struct Ndp<'a> {
    kind: NdpKind,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    flags: u8,
    target: Ipv6Addr,
    options: &'a [u8],
    link: Option<MacAddr>,
}

impl<'a> Ndp<'a> {
    /// Checks a packet from its IPv6 header on, whole in `bytes`.
    ///
    /// # Errors
    /// What [`Ipv6::parse`] and [`Icmpv6::parse`] refuse, and
    /// - `BadVersion`: another message, or a code other than 0;
    /// - `BadField`: a hop limit below 255, a fragment header (RFC 6980), a multicast target, a
    ///   solicited advertisement to a multicast address, a solicitation from the unspecified address
    ///   that is not to a solicited-node address, a group address in a link-layer option;
    /// - `BadChecksum`: of the message;
    /// - `BadOption`: length zero or past the end, or a source address where none may be.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let ip = Ipv6::parse(bytes)?;
        if ip.protocol() != PROTOCOL_ICMPV6 {
            return Err(Malformed::new(Layer::Ipv6, Fault::BadVersion, 6));
        }
        if ip.hop_limit() != HOP_LIMIT {
            return bad(Fault::BadField, OFFSET_HOP_LIMIT);
        }
        if ip.extensions().any(|header| header.kind == ipv6_ext::FRAGMENT) {
            return bad(Fault::BadField, IP_HEADER_LEN);
        }
        let message = ip.payload();
        let base = ip.header_len();
        let icmp = Icmpv6::parse(message).map_err(|fault| fault.behind(base))?;
        let kind = match (icmp.kind(), icmp.code()) {
            (NEIGHBOUR_SOLICITATION, 0) => NdpKind::Solicitation,
            (NEIGHBOUR_ADVERTISEMENT, 0) => NdpKind::Advertisement,
            _ => return bad(Fault::BadVersion, base),
        };
        if !checksum_is_right(&ip, message) {
            return bad(Fault::BadChecksum, base.saturating_add(2));
        }
        Self::read(kind, &ip, message, base)
    }

    fn read(
        kind: NdpKind,
        ip: &Ipv6<'a>,
        message: &'a [u8],
        base: usize,
    ) -> Result<Self, Malformed> {
        let Some((&[_, _, _, _, flags, _, _, _, ref target @ ..], options)) =
            message.split_first_chunk::<MESSAGE_LEN>()
        else {
            return bad(Fault::Truncated, base);
        };
        let target = Ipv6Addr::from(*target);
        let (src, dst) = (ip.src(), ip.dst());
        if target.is_multicast() {
            return bad(Fault::BadField, base.saturating_add(OFFSET_TARGET));
        }
        if kind == NdpKind::Advertisement && flags & FLAG_SOLICITED != 0 && dst.is_multicast() {
            return bad(Fault::BadField, base.saturating_add(4));
        }
        check_options(options, base.saturating_add(MESSAGE_LEN))?;
        let wanted = match kind {
            NdpKind::Solicitation => OPTION_SOURCE,
            NdpKind::Advertisement => OPTION_TARGET,
        };
        let link = NdpOptions(options).find_map(|option| option.mac(wanted));
        if kind == NdpKind::Solicitation && src.is_unspecified() {
            if !is_solicited_node(dst) {
                return bad(Fault::BadField, OFFSET_DST);
            }
            if link.is_some() {
                return bad(Fault::BadOption, base.saturating_add(MESSAGE_LEN));
            }
        }
        if src.is_multicast() || (kind == NdpKind::Advertisement && src.is_unspecified()) {
            return bad(Fault::BadField, OFFSET_SRC);
        }
        Ok(Self { kind, src, dst, flags, target, options, link })
    }

    /// Question or answer.
    #[must_use]
    pub const fn kind(&self) -> NdpKind {
        self.kind
    }

    /// Source of the packet; unspecified when the sender only checks whether an address is in use.
    #[must_use]
    pub const fn src(&self) -> Ipv6Addr {
        self.src
    }

    /// Destination of the packet.
    #[must_use]
    pub const fn dst(&self) -> Ipv6Addr {
        self.dst
    }

    /// The address that is asked for or advertised.
    #[must_use]
    pub const fn target(&self) -> Ipv6Addr {
        self.target
    }

    /// The sender of the advertisement is a router.
    #[must_use]
    pub const fn is_router(&self) -> bool {
        self.is_advertisement_with(FLAG_ROUTER)
    }

    /// The advertisement answers a solicitation.
    #[must_use]
    pub const fn is_solicited(&self) -> bool {
        self.is_advertisement_with(FLAG_SOLICITED)
    }

    /// The advertisement replaces a hardware address that is already known.
    #[must_use]
    pub const fn is_override(&self) -> bool {
        self.is_advertisement_with(FLAG_OVERRIDE)
    }

    const fn is_advertisement_with(&self, flag: u8) -> bool {
        matches!(self.kind, NdpKind::Advertisement) && self.flags & flag != 0
    }

    /// The hardware address in the option that belongs to the message: of the source of a
    /// solicitation, of the target of an advertisement.
    #[must_use]
    pub const fn link_address(&self) -> Option<MacAddr> {
        self.link
    }

    /// All options.
    #[must_use]
    pub const fn options(&self) -> NdpOptions<'a> {
        NdpOptions(self.options)
    }

    /// The answer to a solicitation: `mac` has the target. `asker` is the Ethernet source of the
    /// question, used when it has no source option. A question from the unspecified address is
    /// answered to all nodes (RFC 4861 section 7.2.4).
    #[must_use]
    pub fn answer(&self, mac: MacAddr, asker: MacAddr) -> NdpFrame {
        let known = !self.src.is_unspecified();
        let dst = if known { self.src } else { ALL_NODES };
        let dst_mac = if known { self.link.unwrap_or(asker) } else { multicast_mac(ALL_NODES) };
        NdpFrame {
            kind: NdpKind::Advertisement,
            src_mac: mac,
            dst_mac,
            src: self.target,
            dst,
            target: self.target,
            router: false,
            solicited: known,
            override_known: true,
        }
    }
}

/// One option of neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpOption<'a> {
    /// Kind.
    pub kind: u8,
    /// What follows kind and length.
    pub value: &'a [u8],
}

impl NdpOption<'_> {
    /// The Ethernet address in a link-layer option of this kind.
    fn mac(&self, kind: u8) -> Option<MacAddr> {
        let value = <[u8; 6]>::try_from(self.value).ok()?;
        (self.kind == kind).then_some(MacAddr(value))
    }
}

/// Iterates over the options of a message.
#[derive(Clone, Copy, Debug)]
pub struct NdpOptions<'a>(&'a [u8]);

impl<'a> Iterator for NdpOptions<'a> {
    type Item = NdpOption<'a>;

    fn next(&mut self) -> Option<NdpOption<'a>> {
        let &[kind, eighths, ..] = self.0 else { return None };
        let (option, rest) = self.0.split_at_checked(usize::from(eighths).saturating_mul(8))?;
        self.0 = rest;
        Some(NdpOption { kind, value: option.get(2..)? })
    }
}

fn check_options(options: &[u8], at: usize) -> Result<(), Malformed> {
    let mut walk = NdpOptions(options);
    loop {
        let here = at.saturating_add(options.len()).saturating_sub(walk.0.len());
        match walk.next() {
            Some(option) => {
                let mac = option.mac(OPTION_SOURCE).or(option.mac(OPTION_TARGET));
                if mac.is_some_and(MacAddr::is_group) {
                    return bad(Fault::BadField, here.saturating_add(2));
                }
            }
            None if walk.0.is_empty() => return Ok(()),
            None => return bad(Fault::BadOption, here),
        }
    }
}

fn checksum_is_right(ip: &Ipv6<'_>, message: &[u8]) -> bool {
    let pair = AddrPair::V6 { src: ip.src().to_bits(), dst: ip.dst().to_bits() };
    verify_icmpv6(pair, message, &[])
}

fn bad<T>(fault: Fault, offset: usize) -> Result<T, Malformed> {
    Err(Malformed::new(Layer::Icmpv6, fault, offset))
}

/// The multicast address that the owner of `target` listens to (RFC 4291 section 2.7.1).
#[must_use]
pub const fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(SOLICITED_NODE | target.to_bits() & 0x00ff_ffff)
}

const SOLICITED_NODE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;

const fn is_solicited_node(addr: Ipv6Addr) -> bool {
    addr.to_bits() & !0x00ff_ffff == SOLICITED_NODE
}

/// The Ethernet address of an IPv6 multicast address (RFC 2464 section 7).
#[must_use]
pub const fn multicast_mac(addr: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = addr.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}
