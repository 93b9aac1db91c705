//! The one edit that a director holds for a session and a direction, whatever the forwarding mode.

use crate::direct::Direct;
use crate::ends::{Address, Ends};
use crate::error::RewriteError;
use crate::icmp::{Embedded, ErrorEdit};
use crate::rewrite::{Rewrite, RewriteV4, RewriteV6};
use crate::seq::SeqDeltas;
use crate::tunnel::{Sending, Tunnel};
use lvs_core::addr::{ClientAddr, LocalAddress, RealAddr, VirtualAddr};
use lvs_core::flow::Direction;
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::wire::Headers;

/// "Edit this packet for this session and direction", for every forwarding mode and family.
///
/// The modes differ in how it is built and not in how it is used: [`AnyRewrite::growth`] before the
/// size of a packet is judged, [`AnyRewrite::apply_to`] for packets, [`AnyRewrite::apply_error`] for
/// ICMP errors about them.
///
/// | mode | variant | edits |
/// |---|---|---|
/// | NAT, FullNAT, SNAT | `V4`, `V6` | addresses, ports, numbers, time to live |
/// | DR, and whatever is only routed | `Direct` | time to live |
/// | TUN | `Tunnel` | time to live, a header in front |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnyRewrite {
    /// IPv4.
    V4(RewriteV4),
    /// IPv6.
    V6(RewriteV6),
    /// The packet stays what it is, in either family.
    Direct(Direct),
    /// The packet travels inside another one, in either family.
    Tunnel(Tunnel),
}

impl AnyRewrite {
    /// From addresses by role, without a local address for NAT. `None` when the families differ.
    ///
    /// For tools and tests: a session store keeps [`Deltas`](crate::Deltas) instead of computing them per packet.
    #[must_use]
    pub fn from_roles(
        direction: Direction,
        client: ClientAddr,
        virt: VirtualAddr,
        local: Option<LocalAddress>,
        server: RealAddr,
        seq: SeqDeltas,
    ) -> Option<Self> {
        fn build<A: Address>(ends: &Ends<A>, direction: Direction, seq: SeqDeltas) -> Rewrite<A> {
            match direction {
                Direction::Inbound => Rewrite::inbound(ends, ends.deltas(), seq),
                Direction::Return => Rewrite::returning(ends, ends.deltas(), seq),
            }
        }
        if let Some(ends) = Ends::<u32>::from_roles(client, virt, local, server) {
            return Some(Self::V4(build(&ends, direction, seq)));
        }
        let ends = Ends::<u128>::from_roles(client, virt, local, server)?;
        Some(Self::V6(build(&ends, direction, seq)))
    }

    /// The same edit, with or without taking one from the time to live.
    #[must_use]
    pub const fn decrement_ttl(self, yes: bool) -> Self {
        match self {
            Self::V4(rewrite) => Self::V4(rewrite.decrement_ttl(yes)),
            Self::V6(rewrite) => Self::V6(rewrite.decrement_ttl(yes)),
            Self::Direct(_) => Self::Direct(Direct::new(yes)),
            Self::Tunnel(tunnel) => Self::Tunnel(tunnel.decrement_ttl(yes)),
        }
    }

    /// Bytes that a packet gains by [`AnyRewrite::apply_to`].
    #[must_use]
    #[inline]
    pub const fn growth(&self) -> u16 {
        match self {
            Self::V4(_) | Self::V6(_) | Self::Direct(_) => 0,
            Self::Tunnel(tunnel) => tunnel.growth(),
        }
    }

    /// Edits a packet; see [`RewriteV4::apply`] and [`Tunnel::apply`]. Afterwards `headers` hold what
    /// the next stage needs: `l3` is the outermost IP header, `l4` and everything behind it are
    /// those of the packet that came in, at their new offsets.
    ///
    /// # Errors
    /// [`RewriteError`]; the packet and `headers` are then untouched.
    #[inline]
    pub fn apply_to<B: PacketBuf>(
        &self,
        buf: &mut B,
        headers: &mut Headers,
        sending: &Sending,
    ) -> Result<(), RewriteError> {
        let csum = buf.l4_csum();
        match self {
            Self::V4(rewrite) => rewrite.apply(buf.data_mut(), headers, csum),
            Self::V6(rewrite) => rewrite.apply(buf.data_mut(), headers, csum),
            Self::Direct(direct) => direct.apply(buf.data_mut(), headers),
            Self::Tunnel(tunnel) => tunnel.apply(buf, headers, sending),
        }
    }

    /// Edits an ICMP error about a packet of the session; the rewrite is that of the direction in
    /// which the *error* travels. Where addresses stay (DR, TUN) it goes the way of any packet.
    ///
    /// # Errors
    /// [`RewriteError`]; the packet and `headers` are then untouched.
    pub fn apply_error<B: PacketBuf>(
        &self,
        buf: &mut B,
        headers: &mut Headers,
        embedded: &Embedded,
        edit: &ErrorEdit,
        sending: &Sending,
    ) -> Result<(), RewriteError> {
        let csum = buf.l4_csum();
        match self {
            Self::V4(rewrite) => rewrite.apply_error(buf.data_mut(), headers, embedded, edit, csum),
            Self::V6(rewrite) => rewrite.apply_error(buf.data_mut(), headers, embedded, edit, csum),
            Self::Direct(_) | Self::Tunnel(_) => self.apply_to(buf, headers, sending),
        }
    }

    /// Edits the bytes of a packet, for edits that need no more than these; see [`RewriteV4::apply`].
    ///
    /// # Errors
    /// [`RewriteError`]; the frame is then untouched. A tunnel is [`RewriteError::Unsupported`]: it
    /// needs a buffer that can grow.
    #[inline]
    pub fn apply(
        &self,
        frame: &mut [u8],
        headers: &Headers,
        csum: L4Csum,
    ) -> Result<(), RewriteError> {
        match self {
            Self::V4(rewrite) => rewrite.apply(frame, headers, csum),
            Self::V6(rewrite) => rewrite.apply(frame, headers, csum),
            Self::Direct(direct) => direct.apply(frame, headers),
            Self::Tunnel(_) => Err(RewriteError::Unsupported),
        }
    }
}
