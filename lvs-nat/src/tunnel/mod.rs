//! Tunnels toward servers: IP in IP, GRE and GUE, over either family, for either family.
//!
//! ```text
//!            20 / 40        4 or 8                    8          4
//!  IpIp  │ outer IPv4/6 │                                              │ packet as it came
//!  Gre   │ outer IPv4/6 │ GRE (RFC 2784)                               │ packet as it came
//!  Gue   │ outer IPv4/6 │                │ UDP │ GUE variant 0, no options │ packet as it came
//! ```
//!
//! The server takes the outer header off and answers the client directly, so only this direction
//! passes. A [`Tunnel`] is the outer header compiled for one server; what it takes from each packet:
//!
//! | outer field | from | rule |
//! |---|---|---|
//! | ECN | inner | copied, CE too (RFC 6040 section 4.1, normal mode; the kernel makes CE an ECT(0)) |
//! | DSCP | inner or fixed | [`Dscp`] (RFC 2983: uniform or pipe) |
//! | TTL | inner behind this hop, or fixed | [`Tunnel::ttl`] |
//! | DF | inner or fixed | [`DontFragment`]; an IPv6 packet counts as "do not fragment" |
//! | identification | zero under DF (RFC 6864), else the caller's counter | [`Sending::ip_id`] |
//! | IPv6 flow label, UDP source port | hash of the inner flow | RFC 6438; the same for all fragments of two hosts |
//! | UDP checksum | none or full over IPv4, always full over IPv6 | RFC 8200 section 8.1 |
//!
//! The inner packet keeps its own checksum, right, wrong or partial. A sum over a partial packet
//! counts its transport part as what it will be once completed: the complement of the partial field.
//!
//! # How a director uses it
//! 1. `growth()` before the size is judged: a packet that does not fit is answered with
//!    [`complain`](crate::icmp::complain) and the MTU less the growth.
//! 2. A train is handed over only if the port cuts trains in tunnels; [`RewriteError::NoGso`] says so
//!    before anything changed. Segment it ([`segment`](crate::segment)) and send each part.
//! 3. [`Tunnel::apply`] last, behind every other edit. It tells the buffer where the inner headers
//!    are, so the checksum state must not be set again from `headers.l3`.
//! 4. Errors about tunnel packets come to the tunnel's own source address:
//!    [`tunnelled`](crate::icmp::tunnelled) leads to the packet inside.

mod outer;

use crate::error::RewriteError;
use core::net::IpAddr;
use lvs_core::addr::Family;
use lvs_core::checksum::{AddrPair, Sum};
use lvs_core::io::{GsoCaps, GsoKind};

pub use lvs_core::encapsulation::Encapsulation;

/// UDP port registered for GUE.
pub const GUE_PORT: u16 = 6080;

/// Where the outer DSCP comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dscp {
    /// Copied from the inner header.
    #[default]
    Copy,
    /// This one, 0 to 63; higher bits are ignored.
    Set(u8),
}

/// Whether the outer packet may be fragmented; IPv4 outside only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "pmtu_disc")]
pub enum DontFragment {
    /// As the inner packet says.
    #[default]
    Copy,
    /// Never.
    Set,
    /// Always (`pmtu_disc = 0` of the kernel).
    Clear,
}

/// What the port and the moment of sending have to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    /// Segment trains that the port cuts.
    pub gso: GsoCaps,
    /// Identification for an outer IPv4 header that may be fragmented: a counter of the caller.
    pub ip_id: u16,
}

/// The outer header toward one server, compiled; built once per server or session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "ip_vs_tunnel_xmit")]
pub struct Tunnel {
    family: Family,
    src: u128,
    dst: u128,
    encapsulation: Encapsulation,
    dscp: Dscp,
    ttl: Option<u8>,
    df: DontFragment,
    decrement_ttl: bool,
    /// Folded sum of both addresses: part of the header checksum and of every pseudo-header.
    addresses: u16,
}

impl Tunnel {
    /// From the director's address toward the server to the server. DSCP, TTL and DF are copied, no
    /// hop is taken; see the methods. `None` when the families differ.
    #[must_use]
    pub fn new(src: IpAddr, dst: IpAddr, encapsulation: Encapsulation) -> Option<Self> {
        let pair = AddrPair::new(src, dst)?;
        let (family, src, dst) = match pair {
            AddrPair::V4 { src, dst } => (Family::V4, u128::from(src), u128::from(dst)),
            AddrPair::V6 { src, dst } => (Family::V6, src, dst),
        };
        Some(Self {
            family,
            src,
            dst,
            encapsulation,
            dscp: Dscp::Copy,
            ttl: None,
            df: DontFragment::Copy,
            decrement_ttl: false,
            addresses: Sum::ZERO.u128(src).u128(dst).fold(),
        })
    }

    /// The same with this outer DSCP.
    #[must_use]
    pub const fn dscp(mut self, dscp: Dscp) -> Self {
        self.dscp = dscp;
        self
    }

    /// The same with this outer TTL or hop limit; `None` copies the inner one behind this hop, as the
    /// kernel does.
    #[must_use]
    pub const fn ttl(mut self, ttl: Option<u8>) -> Self {
        self.ttl = ttl;
        self
    }

    /// The same with this rule for DF.
    #[must_use]
    pub const fn dont_fragment(mut self, df: DontFragment) -> Self {
        self.df = df;
        self
    }

    /// The same, taking one from the inner time to live or hop limit, as the kernel does.
    #[must_use]
    pub const fn decrement_ttl(mut self, yes: bool) -> Self {
        self.decrement_ttl = yes;
        self
    }

    /// IP version outside.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Bytes in front of the packet: the MTU of the way less this is what fits.
    ///
    /// ```
    /// use lvs_nat::tunnel::{Encapsulation, Tunnel};
    ///
    /// let tunnel = |how| Tunnel::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), how).unwrap();
    /// assert_eq!(tunnel(Encapsulation::IpIp).growth(), 20);
    /// assert_eq!(tunnel(Encapsulation::Gre { checksum: true }).growth(), 28);
    /// assert_eq!(tunnel(Encapsulation::Gue { dport: 6080, checksum: false }).growth(), 32);
    /// ```
    #[must_use]
    #[inline]
    pub const fn growth(&self) -> u16 {
        self.outer_ip() + self.between()
    }

    /// The largest TCP segment without options that fits an MTU behind this header; for
    /// [`lower_mss_to`](crate::options::lower_mss_to) where the handshake passes here.
    #[must_use]
    pub const fn mss(&self, mtu: u16, inner: Family) -> u16 {
        let headers = match inner {
            Family::V4 => 40,
            Family::V6 => 60,
        };
        mtu.saturating_sub(self.growth()).saturating_sub(headers)
    }

    /// Whether a port with these abilities cuts trains of this kind behind this header. A header with a
    /// checksum of its own is never cut by a port.
    #[must_use]
    pub const fn is_cut_by(&self, caps: GsoCaps, kind: GsoKind) -> bool {
        caps.in_tunnel && caps.takes(kind) && !self.sums()
    }

    const fn outer_ip(&self) -> u16 {
        match self.family {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }

    /// Bytes between the outer IP header and the packet.
    const fn between(&self) -> u16 {
        match self.encapsulation {
            Encapsulation::IpIp => 0,
            Encapsulation::Gre { checksum: false } => 4,
            Encapsulation::Gre { checksum: true } => 8,
            Encapsulation::Gue { .. } => 12,
        }
    }

    /// Whether the whole packet is summed for the outer header.
    const fn sums(&self) -> bool {
        match self.encapsulation {
            Encapsulation::IpIp => false,
            Encapsulation::Gre { checksum } => checksum,
            Encapsulation::Gue { checksum, .. } => checksum || matches!(self.family, Family::V6),
        }
    }

    const fn protocol(&self, inner: Family) -> u8 {
        match self.encapsulation {
            Encapsulation::IpIp => ip_in_ip(inner),
            Encapsulation::Gre { .. } => GRE,
            Encapsulation::Gue { .. } => lvs_core::wire::PROTOCOL_UDP,
        }
    }

    /// The outer length field, or why there is none for it.
    fn outer_len(&self, inner_len: u32) -> Result<u16, RewriteError> {
        let own = match self.family {
            Family::V4 => self.growth(),
            // The fixed header does not count.
            Family::V6 => self.between(),
        };
        inner_len
            .checked_add(u32::from(own))
            .and_then(|len| u16::try_from(len).ok())
            .ok_or(RewriteError::TooLong)
    }
}

/// Protocol number of GRE.
pub(crate) const GRE: u8 = 47;

/// Protocol number of IPv4 or IPv6 inside IP.
pub(crate) const fn ip_in_ip(inner: Family) -> u8 {
    match inner {
        Family::V4 => 4,
        Family::V6 => 41,
    }
}
