//! Translates an ICMP error with the packet that it quotes.
//!
//! An error travels against the packet that it is about. The rewrite of the error's own direction
//! turns `src` and `dst` of ordinary packets into its two ends; the quoted packet went the other way,
//! so *its* source becomes the rewrite's destination and its destination the rewrite's source, and
//! what translation added to its numbers is taken back:
//!
//! ```text
//!  from a router behind the director, about what the director sent   →  what the client is to see
//!    outer   router → local                                              virtual → client
//!    quoted  local:lp → server:sp   seq + Δ                              client:cp → virtual:vp   seq
//! ```

use super::embedded::{Embedded, FRAGMENTATION_NEEDED, error_kind};
use super::less_growth;
use crate::ends::Address;
use crate::error::RewriteError;
use crate::fields::TcpFixed;
use crate::rewrite::{Rewrite, RewriteV4, RewriteV6, echo_side};
use crate::seq::SeqShift;
use lvs_core::addr::Family;
use lvs_core::checksum::{Delta, Sum};
use lvs_core::flow::L4Proto;
use lvs_core::io::L4Csum;
use lvs_core::wire::{Headers, icmpv6, tcp};
use zerocopy::FromBytes;

/// What about an error is a matter of mode and policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorEdit {
    /// Leave the sender of the error as it is. Without it the error seems to come from the session's
    /// other end: toward clients always right, as it hides the servers' network (the kernel does so);
    /// toward a server it is right in FullNAT, where the server may have no way to see a foreign
    /// router, and wrong in NAT, where traceroute and the kernel keep it.
    pub keep_source: bool,
    /// Bytes that the *quoted* packet gained on its way through the director (address option, tunnel):
    /// taken off the MTU that the error tells.
    pub growth: u16,
}

/// Where the parts of an error lie, counted from the outer IP header. Checked before the first change.
struct Parts {
    /// Outer ICMP header.
    message: usize,
    /// Quoted IP header.
    quoted: usize,
    /// Quoted transport header.
    transport: usize,
}

impl RewriteV4 {
    /// Edits an IPv4 ICMP error; see [`AnyRewrite::apply_error`](crate::AnyRewrite::apply_error).
    ///
    /// The quoted transport checksum follows where it is visible, with a SACK option where all of the
    /// header is. Quoted bytes are otherwise left alone, lengths too.
    ///
    /// # Errors
    /// [`RewriteError`]; the frame is then untouched.
    pub fn apply_error(
        &self,
        frame: &mut [u8],
        headers: &Headers,
        embedded: &Embedded,
        edit: &ErrorEdit,
        csum: L4Csum,
    ) -> Result<(), RewriteError> {
        let (packet, parts) = parts(frame, headers, embedded, Family::V4)?;
        let ttl = self.ttl(headers.ttl)?;
        let (ip, rest) = packet.split_at_mut_checked(parts.message).ok_or(MISMATCH)?;
        let fixed = ip.first_chunk_mut::<20>().ok_or(MISMATCH)?;
        self.message(rest, headers, &parts, edit, csum).ok_or(MISMATCH)?;
        let mut delta = self.outer(fixed, edit);
        let [.., old_ttl, protocol, c0, c1, _, _, _, _, _, _, _, _] = fixed;
        delta = delta
            .u16(u16::from_be_bytes([*old_ttl, *protocol]), u16::from_be_bytes([ttl, *protocol]));
        *old_ttl = ttl;
        [*c0, *c1] = delta.apply(u16::from_be_bytes([*c0, *c1])).to_be_bytes();
        Ok(())
    }
}

impl RewriteV6 {
    /// Edits an ICMPv6 error; see [`RewriteV4::apply_error`].
    ///
    /// # Errors
    /// [`RewriteError`]; the frame is then untouched.
    pub fn apply_error(
        &self,
        frame: &mut [u8],
        headers: &Headers,
        embedded: &Embedded,
        edit: &ErrorEdit,
        csum: L4Csum,
    ) -> Result<(), RewriteError> {
        let (packet, parts) = parts(frame, headers, embedded, Family::V6)?;
        let ttl = self.ttl(headers.ttl)?;
        let (ip, rest) = packet.split_at_mut_checked(parts.message).ok_or(MISMATCH)?;
        let fixed = ip.first_chunk_mut::<40>().ok_or(MISMATCH)?;
        self.message(rest, headers, &parts, edit, csum).ok_or(MISMATCH)?;
        // The pseudo-header covers the outer addresses.
        let delta = self.outer(fixed, edit);
        let [.., limit] = fixed.first_chunk_mut::<8>().ok_or(MISMATCH)?;
        *limit = ttl;
        let [_, _, c0, c1, ..] = rest else { return Err(MISMATCH) };
        let field = u16::from_be_bytes([*c0, *c1]);
        [*c0, *c1] = match csum {
            L4Csum::Partial => delta.apply_partial(field),
            L4Csum::Unknown | L4Csum::Good | L4Csum::Bad => delta.apply(field),
        }
        .to_be_bytes();
        Ok(())
    }
}

const MISMATCH: RewriteError = RewriteError::Mismatch;

/// The packet from its IP header on, and its parts.
fn parts<'a>(
    frame: &'a mut [u8],
    headers: &Headers,
    embedded: &Embedded,
    family: Family,
) -> Result<(&'a mut [u8], Parts), RewriteError> {
    if headers.family != family {
        return Err(RewriteError::Family);
    }
    error_kind(headers).ok_or(RewriteError::Unsupported)?;
    let l3 = headers.l3;
    let from = |at: u16| at.checked_sub(l3).map(usize::from).ok_or(MISMATCH);
    let parts = Parts {
        message: from(headers.l4)?,
        quoted: from(embedded.l3)?,
        transport: from(embedded.l4)?,
    };
    let end = usize::try_from(headers.end).unwrap_or(usize::MAX).min(frame.len());
    let packet = frame.get_mut(usize::from(l3)..end).ok_or(MISMATCH)?;
    let fixed = match family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    let quoted_len = parts.transport.checked_sub(parts.quoted).ok_or(MISMATCH)?;
    let in_order = parts.message >= fixed
        && parts.message.checked_add(8) == Some(parts.quoted)
        && quoted_len >= fixed
        && parts.transport.saturating_add(8) <= packet.len();
    if in_order { Ok((packet, parts)) } else { Err(MISMATCH) }
}

impl<A: Address> Rewrite<A> {
    /// Outer addresses; returns their change.
    fn outer(&self, ip: &mut [u8], edit: &ErrorEdit) -> Delta {
        let at = A::SOURCE_AT;
        let source = match edit.keep_source {
            true => None,
            false => self.src.addr.put(ip, at),
        };
        let dst = self.dst.addr.put(ip, at.saturating_add(A::LEN));
        source.unwrap_or_default().and(dst.unwrap_or_default())
    }

    /// The ICMP message: MTU and quote, and its checksum by what changed in them. `None`, with nothing
    /// changed, when the parts do not lie in it.
    fn message(
        &self,
        message: &mut [u8],
        headers: &Headers,
        parts: &Parts,
        edit: &ErrorEdit,
        csum: L4Csum,
    ) -> Option<()> {
        let quoted = parts.quoted.checked_sub(parts.message)?;
        let transport = parts.transport.checked_sub(parts.message)?;
        // A transport header with all options is 60 bytes long.
        let reach = transport.saturating_add(60).min(message.len());
        let message = message.get_mut(..reach)?;
        let before = Sum::ZERO.bytes(message);
        let (head, quote) = message.split_at_mut_checked(quoted)?;
        let (ip, l4) = quote.split_at_mut_checked(transport.checked_sub(quoted)?)?;
        let addresses = self.quoted_ip(ip, headers.family)?;
        self.quoted_l4(l4, ip, headers.family, addresses);
        lower_mtu(head, headers, edit.growth);
        if csum != L4Csum::Partial {
            let delta = Delta::ZERO.sum(before, Sum::ZERO.bytes(message));
            let [_, _, c0, c1, ..] = message else { return None };
            [*c0, *c1] = delta.apply(u16::from_be_bytes([*c0, *c1])).to_be_bytes();
        }
        Some(())
    }

    /// Addresses and checksum of the quoted IP header; returns the change of the addresses.
    fn quoted_ip(&self, ip: &mut [u8], family: Family) -> Option<Delta> {
        let at = A::SOURCE_AT;
        let src = self.dst.addr.put(ip, at)?;
        let dst = self.src.addr.put(ip, at.saturating_add(A::LEN))?;
        let delta = src.and(dst);
        if family == Family::V4 {
            let field = ip.get_mut(10..)?.first_chunk_mut::<2>()?;
            *field = delta.apply(u16::from_be_bytes(*field)).to_be_bytes();
        }
        Some(delta)
    }

    /// Ports, numbers and checksum of the quoted transport header, as far as they are there.
    fn quoted_l4(&self, l4: &mut [u8], ip: &[u8], family: Family, addresses: Delta) {
        let Some(protocol) = quoted_protocol(ip, family) else { return };
        let Some(start) = l4.first_chunk_mut::<8>() else { return };
        let with_ports = L4Proto::from_number(protocol);
        if with_ports.is_none() {
            return self.quoted_echo(start, family, addresses);
        }
        let [s0, s1, d0, d1, _, _, u0, u1] = start;
        let (old_src, old_dst) = (u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1]));
        [*s0, *s1] = self.dst.port.to_be_bytes();
        [*d0, *d1] = self.src.port.to_be_bytes();
        let delta = addresses.u16(old_src, self.dst.port).u16(old_dst, self.src.port);
        match with_ports {
            Some(L4Proto::Tcp) => self.quoted_tcp(l4, delta),
            Some(L4Proto::Udp) => {
                [*u0, *u1] = delta.apply_udp(u16::from_be_bytes([*u0, *u1])).to_be_bytes();
            }
            // Its checksum depends on what is not quoted, and nobody judges it.
            _ => {}
        }
    }

    /// Takes back what translation added to the numbers: what the error's direction adds to
    /// acknowledgements is what the other one had added to sequence numbers, with the sign changed.
    fn quoted_tcp(&self, l4: &mut [u8], delta: Delta) {
        let back = SeqShift { seq_add: self.shift.ack_add, ack_add: self.shift.seq_add };
        if let Ok((fixed, rest)) = TcpFixed::mut_from_prefix(&mut *l4) {
            let options = usize::from(fixed.data_offset >> 4).saturating_mul(4).checked_sub(20);
            // Half a SACK option cannot be told from a whole one, so options are edited only when all
            // of them are there; else the checksum, which covers them, is left for dead anyway.
            let options = options.and_then(|len| rest.get_mut(..len)).unwrap_or_default();
            let delta = back.edit(fixed, options, delta);
            fixed.checksum.set(delta.apply(fixed.checksum.get()));
            return;
        }
        quoted_tcp_start(l4, back, delta);
    }

    /// A quoted request was sent by the error's receiver, a quoted reply to its other end.
    fn quoted_echo(&self, start: &mut [u8; 8], family: Family, addresses: Delta) {
        let [kind, 0, c0, c1, i0, i1, _, _] = start else { return };
        let Some(request) = echo_side(family, *kind) else { return };
        let new = if request { self.dst.port } else { self.src.port };
        let pseudo = match family {
            Family::V4 => Delta::ZERO,
            Family::V6 => addresses,
        };
        let delta = pseudo.u16(u16::from_be_bytes([*i0, *i1]), new);
        [*c0, *c1] = delta.apply(u16::from_be_bytes([*c0, *c1])).to_be_bytes();
        [*i0, *i1] = new.to_be_bytes();
    }
}

/// The same for less than the fixed header: what is there of it.
fn quoted_tcp_start(l4: &mut [u8], back: SeqShift, mut delta: Delta) {
    let Some((head, rest)) = l4.split_first_chunk_mut::<8>() else { return };
    let [_, _, _, _, seq @ ..] = head;
    let old = u32::from_be_bytes(*seq);
    let new = old.wrapping_add(back.seq_add);
    *seq = new.to_be_bytes();
    delta = delta.u32(old, new);
    // Without the flags nobody can say whether the acknowledgement counts.
    if let [a, b, c, d, _, flags, ..] = rest
        && *flags & tcp::ACK != 0
    {
        let old = u32::from_be_bytes([*a, *b, *c, *d]);
        let new = old.wrapping_add(back.ack_add);
        [*a, *b, *c, *d] = new.to_be_bytes();
        delta = delta.u32(old, new);
    }
    if let [_, _, _, _, _, _, _, _, c0, c1, ..] = rest {
        [*c0, *c1] = delta.apply(u16::from_be_bytes([*c0, *c1])).to_be_bytes();
    }
}

/// The protocol of the transport header that starts where `ip` ends.
fn quoted_protocol(ip: &[u8], family: Family) -> Option<u8> {
    match family {
        Family::V4 => ip.get(9).copied(),
        Family::V6 => lvs_core::wire::Ipv6::parse_within(ip, usize::MAX)
            .ok()
            .filter(|parsed| parsed.header_len() == ip.len())
            .map(|parsed| parsed.protocol()),
    }
}

/// Takes the growth off the MTU in an ICMP header.
fn lower_mtu(head: &mut [u8], headers: &Headers, growth: u16) {
    let Some(kind) = error_kind(headers) else { return };
    let Some([_, _, _, _, a, b, c, d]) = head.first_chunk_mut::<8>() else { return };
    match (headers.family, kind) {
        (Family::V4, FRAGMENTATION_NEEDED) => {
            let mtu = u32::from(u16::from_be_bytes([*c, *d]));
            // Never more than it was, so it still fits.
            [*c, *d] = (less_growth(mtu, growth, Family::V4) as u16).to_be_bytes();
        }
        (Family::V6, (icmpv6::PACKET_TOO_BIG, _)) => {
            let mtu = u32::from_be_bytes([*a, *b, *c, *d]);
            [*a, *b, *c, *d] = less_growth(mtu, growth, Family::V6).to_be_bytes();
        }
        _ => {}
    }
}
