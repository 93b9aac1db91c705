//! One compiled header edit, for one session and direction.

use crate::ends::{Address, Deltas, End, Ends};
use crate::error::RewriteError;
use crate::fields::{Ipv4Fixed, Ipv6Fixed, TcpFixed, UdpFixed};
use crate::seq::{SeqDeltas, SeqShift};
use lvs_core::addr::Family;
use lvs_core::checksum::Delta;
use lvs_core::io::L4Csum;
use lvs_core::wire::{Fragment, Headers, Transport, icmpv4, icmpv6};
use zerocopy::FromBytes;

/// The edit that turns a packet of a session into what the other side is to see: new addresses, new
/// ports, moved sequence numbers, optionally one hop less to live, and checksums that follow.
///
/// Making one from stored session fields is a few moves ([`Rewrite::inbound`],
/// [`Rewrite::returning`]); applying it costs the same for every packet length.
///
/// The edit *replaces*: it is for packets whose tuple is the session's, which the lookup has
/// compared. On another packet the checksum would end up wrong, and so be refused by the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rewrite<A> {
    pub(crate) src: End<A>,
    pub(crate) dst: End<A>,
    deltas: Deltas,
    pub(crate) shift: SeqShift,
    decrement_ttl: bool,
}

/// A [`Rewrite`] for IPv4.
pub type RewriteV4 = Rewrite<u32>;
/// A [`Rewrite`] for IPv6.
pub type RewriteV6 = Rewrite<u128>;

impl<A: Address> Rewrite<A> {
    /// From its parts: what source and destination become, and how that changes the checksums.
    #[inline]
    pub const fn new(src: End<A>, dst: End<A>, deltas: Deltas, shift: SeqShift) -> Self {
        Self { src, dst, deltas, shift, decrement_ttl: false }
    }

    /// For packets from the client: client to virtual address becomes local address to server.
    /// `deltas` are [`Ends::deltas`] as stored with the session.
    #[inline]
    #[must_use]
    pub fn inbound(ends: &Ends<A>, deltas: Deltas, seq: SeqDeltas) -> Self {
        Self::new(ends.local, ends.server, deltas, seq.inbound())
    }

    /// For packets from the server: server to local address becomes virtual address to client.
    /// `deltas` are those of the *inbound* direction, as stored with the session.
    #[inline]
    #[must_use]
    pub fn returning(ends: &Ends<A>, deltas: Deltas, seq: SeqDeltas) -> Self {
        Self::new(ends.virt, ends.client, deltas.complement(), seq.returning())
    }

    /// The same edit, taking one from the time to live or hop limit, as a router does (RFC 1812
    /// section 5.3.1). Without it the balancer is invisible to traceroute.
    #[inline]
    #[must_use]
    pub const fn decrement_ttl(mut self, yes: bool) -> Self {
        self.decrement_ttl = yes;
        self
    }

    /// Time to live after the edit.
    #[inline]
    pub(crate) fn ttl(&self, ttl: u8) -> Result<u8, RewriteError> {
        ttl_after(self.decrement_ttl, ttl)
    }

    /// Edits the transport header, which ends where `segment` ends. An error comes before the first
    /// change.
    #[inline]
    fn transport(
        &self,
        segment: &mut [u8],
        headers: &Headers,
        csum: L4Csum,
    ) -> Result<(), RewriteError> {
        if headers.fragment == Fragment::Later {
            return Ok(());
        }
        match headers.transport {
            Transport::Tcp { .. } => self.tcp(segment, csum),
            Transport::Udp => self.udp(segment, csum),
            Transport::Icmp { kind, .. } => self.echo(segment, headers.family, kind, csum),
            Transport::Other(_) => Err(RewriteError::Unsupported),
        }
    }

    /// An echo message is a flow whose port is its identifier: that of the sender in a request, that
    /// of the receiver in a reply (RFC 5508 section 3.1). ICMP sums no addresses, ICMPv6 does.
    #[cold]
    fn echo(
        &self,
        message: &mut [u8],
        family: Family,
        kind: u8,
        csum: L4Csum,
    ) -> Result<(), RewriteError> {
        let request = echo_side(family, kind).ok_or(RewriteError::Unsupported)?;
        let [_, code, c0, c1, i0, i1, ..] = message else { return Err(RewriteError::Mismatch) };
        if *code != 0 {
            return Err(RewriteError::Unsupported);
        }
        let new = if request { self.src.port } else { self.dst.port };
        let pseudo = match family {
            Family::V4 => Delta::ZERO,
            Family::V6 => Delta::from_bits(self.deltas.ip),
        };
        let (field, old) = (u16::from_be_bytes([*c0, *c1]), u16::from_be_bytes([*i0, *i1]));
        let field = match csum {
            L4Csum::Partial => pseudo.apply_partial(field),
            L4Csum::Unknown | L4Csum::Good | L4Csum::Bad => pseudo.u16(old, new).apply(field),
        };
        [*c0, *c1] = field.to_be_bytes();
        [*i0, *i1] = new.to_be_bytes();
        Ok(())
    }

    #[inline]
    fn tcp(&self, segment: &mut [u8], csum: L4Csum) -> Result<(), RewriteError> {
        let (tcp, options) =
            TcpFixed::mut_from_prefix(segment).map_err(|_| RewriteError::Mismatch)?;
        tcp.sport.set(self.src.port);
        tcp.dport.set(self.dst.port);
        let full = self.shift.edit(tcp, options, Delta::from_bits(self.deltas.l4));
        let field = tcp.checksum.get();
        tcp.checksum.set(match csum {
            L4Csum::Partial => Delta::from_bits(self.deltas.ip).apply_partial(field),
            L4Csum::Unknown | L4Csum::Good | L4Csum::Bad => full.apply(field),
        });
        Ok(())
    }

    #[inline]
    fn udp(&self, segment: &mut [u8], csum: L4Csum) -> Result<(), RewriteError> {
        let (udp, _) = UdpFixed::mut_from_prefix(segment).map_err(|_| RewriteError::Mismatch)?;
        udp.sport.set(self.src.port);
        udp.dport.set(self.dst.port);
        let field = udp.checksum.get();
        udp.checksum.set(match csum {
            L4Csum::Partial => Delta::from_bits(self.deltas.ip).apply_partial(field),
            L4Csum::Unknown | L4Csum::Good | L4Csum::Bad => {
                Delta::from_bits(self.deltas.l4).apply_udp(field)
            }
        });
        Ok(())
    }
}

/// Time to live or hop limit behind a hop, if it counts as one.
#[inline]
pub(crate) const fn ttl_after(decrement: bool, ttl: u8) -> Result<u8, RewriteError> {
    match (decrement, ttl) {
        (false, _) => Ok(ttl),
        (true, 0 | 1) => Err(RewriteError::TtlExpired),
        (true, _) => Ok(ttl.wrapping_sub(1)),
    }
}

/// Whether an ICMP type is that of an echo request (`true`) or reply (`false`).
pub(crate) const fn echo_side(family: Family, kind: u8) -> Option<bool> {
    match (family, kind) {
        (Family::V4, icmpv4::ECHO_REQUEST) | (Family::V6, icmpv6::ECHO_REQUEST) => Some(true),
        (Family::V4, icmpv4::ECHO_REPLY) | (Family::V6, icmpv6::ECHO_REPLY) => Some(false),
        _ => None,
    }
}

/// The IP header and the transport header with its options.
#[inline]
fn split<'a>(
    frame: &'a mut [u8],
    headers: &Headers,
    family: Family,
) -> Result<(&'a mut [u8], &'a mut [u8]), RewriteError> {
    if headers.family != family {
        return Err(RewriteError::Family);
    }
    let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
    frame
        .get_mut(l3..usize::from(headers.payload))
        .and_then(|bytes| bytes.split_at_mut_checked(l4.wrapping_sub(l3)))
        .ok_or(RewriteError::Mismatch)
}

impl RewriteV4 {
    /// Edits an IPv4 packet. `headers` are those of `frame`, `csum` is the state of its transport
    /// checksum; the state holds for the edited packet, too. Of later fragments only the addresses
    /// are edited, which is all that the checksum in the first fragment needs.
    ///
    /// # Errors
    /// [`RewriteError`]; the frame is then untouched.
    #[inline]
    pub fn apply(
        &self,
        frame: &mut [u8],
        headers: &Headers,
        csum: L4Csum,
    ) -> Result<(), RewriteError> {
        let (ip, segment) = split(frame, headers, Family::V4)?;
        let (ip, _) = Ipv4Fixed::mut_from_prefix(ip).map_err(|_| RewriteError::Mismatch)?;
        let ttl = self.ttl(ip.ttl)?;
        self.transport(segment, headers, csum)?;
        let protocol = ip.protocol;
        let delta = Delta::from_bits(self.deltas.ip)
            .u16(u16::from_be_bytes([ip.ttl, protocol]), u16::from_be_bytes([ttl, protocol]));
        ip.ttl = ttl;
        ip.src.set(self.src.addr);
        ip.dst.set(self.dst.addr);
        ip.checksum.set(delta.apply(ip.checksum.get()));
        Ok(())
    }
}

impl RewriteV6 {
    /// Edits an IPv6 packet; see [`RewriteV4::apply`].
    ///
    /// # Errors
    /// [`RewriteError`]; the frame is then untouched.
    #[inline]
    pub fn apply(
        &self,
        frame: &mut [u8],
        headers: &Headers,
        csum: L4Csum,
    ) -> Result<(), RewriteError> {
        let (ip, segment) = split(frame, headers, Family::V6)?;
        let (ip, _) = Ipv6Fixed::mut_from_prefix(ip).map_err(|_| RewriteError::Mismatch)?;
        let ttl = self.ttl(ip.hop_limit)?;
        self.transport(segment, headers, csum)?;
        ip.hop_limit = ttl;
        ip.src.set(self.src.addr);
        ip.dst.set(self.dst.addr);
        Ok(())
    }
}
