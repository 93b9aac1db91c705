//! ICMP errors, with the packet that they quote.
//!
//! The quoted packet has gone through the translation the other way, so it gets the ends that it had on
//! the side where the error goes: [`icmp::embedded`](crate::icmp::embedded) finds the session.

use super::header::{FRAGMENT_LEN, Ip, V4_LEN, V6_LEN};
use super::map::{Mapped, Word, icmp_to_v4, icmp_to_v6, mtu_to_v4, mtu_to_v6};
use super::packet::{Nat64Error, address_delta, echo, hop, read, write_header};
use crate::ends::End;
use crate::fields::{TCP_FIXED, UdpFixed};
use crate::grow::{len_u32, resize};
use crate::icmp::checksum_is_right;
use lvs_core::addr::Family;
use lvs_core::checksum::{AddrPair, Delta, Sum};
use lvs_core::io::PacketBuf;
use lvs_core::wire::{
    Fragment, Headers, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Transport,
};
use zerocopy::FromBytes;

/// What the quoted packet is to be, in its own direction: against that of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quote<A> {
    /// Its source.
    pub src: End<A>,
    /// Its destination.
    pub dst: End<A>,
    /// Added, modulo 2³², to its TCP sequence number.
    pub seq_add: u32,
}

/// The links of the director and how it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Links {
    /// Largest IPv4 packet of the IPv4 side.
    pub mtu_v4: u16,
    /// Largest IPv6 packet of the IPv6 side.
    pub mtu_v6: u16,
    /// Takes one from the time to live of the error.
    pub decrement_ttl: bool,
    /// Identification of an IPv4 packet.
    pub id: u16,
}

/// Bytes of an ICMP error in front of the quote.
const ICMP_LEN: usize = 8;
/// Bytes of the quoted transport header that are always there.
const QUOTED: usize = 8;
/// Headers of an error up to the quoted transport header, at their longest.
const FRONT: usize = V6_LEN + ICMP_LEN + V6_LEN + FRAGMENT_LEN;
/// Largest ICMPv6 error (RFC 4443 section 2.4).
const MAX_V6: usize = 1280;

/// Turns an ICMPv6 error into an ICMP one from `src` to `dst`. Its checksum is made anew, and verified
/// first; extensions (RFC 4884) are cut off.
///
/// # Errors
/// [`Nat64Error`]; the packet is then untouched. [`Nat64Error::Unsupported`] for messages that have no
/// counterpart, which are to be dropped in silence.
pub fn error_to_v4<B: PacketBuf>(
    buf: &mut B,
    headers: &Headers,
    (src, dst): (u32, u32),
    quote: &Quote<u32>,
    links: &Links,
) -> Result<Headers, Nat64Error> {
    let old = Old::of(buf, headers, Family::V6, links)?;
    let word = u32::from_be_bytes(old.word);
    let mapped = icmp_to_v4(old.kind, old.code, word).ok_or(Nat64Error::Unsupported)?;
    let [m0, m1] = mtu_to_v4(word, links.mtu_v4, links.mtu_v6).to_be_bytes();
    let word = match mapped.word {
        Word::Zero => [0; 4],
        Word::Mtu => [0, 0, m0, m1],
        Word::Pointer(at) => [at, 0, 0, 0],
    };
    let inner = old.inner.v4(quote.src.addr, quote.dst.addr, 0).ok_or(Nat64Error::TooBig)?;
    let rest = old.end.saturating_sub(old.inner_l4);
    let outer = Ip { payload_len: ICMP_LEN + V4_LEN + rest, ..old.outer };
    let outer = outer.v4(src, dst, links.id).ok_or(Nat64Error::TooBig)?;
    let new = AddrPair::V4 { src: quote.src.addr, dst: quote.dst.addr };
    let ports = (quote.src.port, quote.dst.port);
    let transport = old.transport(buf.data(), new, ports, quote.seq_add)?;
    let front = Front::new(&outer, mapped, word, &inner, rest);
    old.build(buf, headers, &front, Sum::ZERO, &transport)
}

/// Turns an ICMP error into an ICMPv6 one from `src` to `dst`; see [`error_to_v4`]. What would make it
/// larger than 1280 bytes is cut off at its end.
///
/// # Errors
/// [`Nat64Error`]; the packet is then untouched.
pub fn error_to_v6<B: PacketBuf>(
    buf: &mut B,
    headers: &Headers,
    (src, dst): (u128, u128),
    quote: &Quote<u128>,
    links: &Links,
) -> Result<Headers, Nat64Error> {
    let mut old = Old::of(buf, headers, Family::V4, links)?;
    let [pointer, _, m0, m1] = old.word;
    let mapped = icmp_to_v6(old.kind, old.code, pointer).ok_or(Nat64Error::Unsupported)?;
    let told = u16::from_be_bytes([m0, m1]);
    let size = old.inner.header_len.saturating_add(old.inner.payload_len);
    let size = u16::try_from(size).unwrap_or(u16::MAX);
    let word = match mapped.word {
        Word::Zero => [0; 4],
        Word::Mtu => mtu_to_v6(told, size, links.mtu_v6, links.mtu_v4).to_be_bytes(),
        Word::Pointer(at) => [0, 0, 0, at],
    };
    let inner_len = old.inner.v6_len();
    let inner = old.inner.v6(quote.src.addr, quote.dst.addr).ok_or(Nat64Error::TooBig)?;
    let inner = inner.get(..inner_len).ok_or(Nat64Error::Mismatch)?;
    let most = MAX_V6.saturating_sub(V6_LEN + ICMP_LEN).saturating_sub(inner_len);
    let rest = old.end.saturating_sub(old.inner_l4).min(most);
    old.end = old.inner_l4.saturating_add(rest);
    let payload_len = ICMP_LEN.saturating_add(inner_len).saturating_add(rest);
    let outer = Ip { payload_len, ..old.outer };
    let outer = outer.v6(src, dst).ok_or(Nat64Error::TooBig)?;
    let outer = outer.get(..V6_LEN).ok_or(Nat64Error::Mismatch)?;
    let new = AddrPair::V6 { src: quote.src.addr, dst: quote.dst.addr };
    let ports = (quote.src.port, quote.dst.port);
    let transport = old.transport(buf.data(), new, ports, quote.seq_add)?;
    let front = Front::new(outer, mapped, word, inner, rest);
    let pseudo = AddrPair::V6 { src, dst }.pseudo(PROTOCOL_ICMPV6, len_u32(payload_len, 0));
    old.build(buf, headers, &front, pseudo, &transport)
}

/// The error as it came.
struct Old {
    outer: Ip,
    kind: u8,
    code: u8,
    word: [u8; 4],
    inner: Ip,
    inner_pair: AddrPair,
    inner_l4: usize,
    end: usize,
}

impl Old {
    fn of<B: PacketBuf>(
        buf: &B,
        headers: &Headers,
        family: Family,
        links: &Links,
    ) -> Result<Self, Nat64Error> {
        let (mut outer, _) = read(buf, headers, family)?;
        if headers.fragment != Fragment::No {
            return Err(Nat64Error::Fragment);
        }
        let Transport::Icmp { kind, code } = headers.transport else {
            return Err(Nat64Error::Unsupported);
        };
        if checksum_is_right(buf.data(), headers) != Some(true) {
            return Err(Nat64Error::Corrupt);
        }
        outer.ttl = hop(outer.ttl, links.decrement_ttl)?;
        // What is made is whole, whatever an atomic fragment header said.
        outer.piece = None;
        let end = usize::try_from(headers.end).map_err(|_| Nat64Error::Mismatch)?;
        let l4 = usize::from(headers.l4);
        let message = buf.data().get(l4..end).ok_or(Nat64Error::Corrupt)?;
        let ([_, _, _, _, word @ ..], quoted) =
            message.split_first_chunk::<ICMP_LEN>().ok_or(Nat64Error::Mismatch)?;
        let (inner, src_at) = match family {
            Family::V4 => (Ip::read_v4(quoted)?, 12usize),
            Family::V6 => (Ip::read_v6(quoted)?, 8),
        };
        let inner_l4 = l4.saturating_add(ICMP_LEN).saturating_add(inner.header_len);
        let later = inner.piece.is_some_and(|piece| piece.offset != 0);
        if later || inner_l4.saturating_add(QUOTED) > end {
            return Err(Nat64Error::Unsupported);
        }
        let inner_pair = pair_at(quoted, src_at, family).ok_or(Nat64Error::Mismatch)?;
        let end = without_extensions(kind, *word, family, l4, end, inner_l4);
        Ok(Self { outer, kind, code, word: *word, inner, inner_pair, inner_l4, end })
    }

    /// The quoted transport header's first bytes as they will be, as far as they are there.
    fn transport(
        &self,
        data: &[u8],
        new: AddrPair,
        (sport, dport): (u16, u16),
        seq_add: u32,
    ) -> Result<Start, Nat64Error> {
        let there = data.get(self.inner_l4..self.end).ok_or(Nat64Error::Mismatch)?;
        let mut start = Start { bytes: [0; TCP_FIXED], len: there.len().min(TCP_FIXED) };
        start.bytes.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        let bytes = &mut start.bytes;
        let word = |a: usize, bytes: &[u8; TCP_FIXED]| match bytes
            .get(a..)
            .and_then(<[u8]>::first_chunk)
        {
            Some(word) => u16::from_be_bytes(*word),
            None => 0,
        };
        let ports = address_delta(self.inner_pair, new)
            .u16(word(0, bytes), sport)
            .u16(word(2, bytes), dport);
        match self.inner.protocol {
            PROTOCOL_TCP => {
                let old = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
                let seq = old.wrapping_add(seq_add);
                [bytes[0], bytes[1]] = sport.to_be_bytes();
                [bytes[2], bytes[3]] = dport.to_be_bytes();
                [bytes[4], bytes[5], bytes[6], bytes[7]] = seq.to_be_bytes();
                // A checksum that is there in part cannot be judged by anybody.
                if start.len >= 18 {
                    let field = ports.u32(old, seq).apply(word(16, bytes));
                    [bytes[16], bytes[17]] = field.to_be_bytes();
                }
            }
            PROTOCOL_UDP => {
                let (udp, _) =
                    UdpFixed::mut_from_prefix(&mut bytes[..]).map_err(|_| Nat64Error::Mismatch)?;
                udp.sport.set(sport);
                udp.dport.set(dport);
                udp.checksum.set(ports.apply_udp(udp.checksum.get()));
            }
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 => {
                let len = len_u32(self.inner.payload_len, 0);
                let mapped = echo(bytes[0], bytes[1], self.inner_pair, new, len);
                let (kind, delta): (u8, Delta) = mapped.ok_or(Nat64Error::Unsupported)?;
                bytes[0] = kind;
                let field = delta.apply(word(2, bytes));
                [bytes[2], bytes[3]] = field.to_be_bytes();
            }
            _ => return Err(Nat64Error::Unsupported),
        }
        Ok(start)
    }

    /// Writes it all. Nothing is refused behind the first change.
    fn build<B: PacketBuf>(
        &self,
        buf: &mut B,
        headers: &Headers,
        front: &Front,
        pseudo: Sum,
        start: &Start,
    ) -> Result<Headers, Nat64Error> {
        let l3 = usize::from(headers.l3);
        let old_len = self.inner_l4.saturating_sub(l3);
        if front.len.saturating_sub(old_len) > buf.headroom() {
            return Err(Nat64Error::NoHeadroom);
        }
        let (family, outer) =
            if front.outer == V4_LEN { (Family::V4, V4_LEN) } else { (Family::V6, V6_LEN) };
        let l4 = l3.saturating_add(outer);
        let end = l3.saturating_add(front.len).saturating_add(front.rest);
        let at = |at: usize| u16::try_from(at).map_err(|_| Nat64Error::Mismatch);
        let ttl = front.bytes.get(if family == Family::V4 { 8 } else { 7 }).copied().unwrap_or(0);
        let now = Headers {
            family,
            l4: at(l4)?,
            payload: at(l4.saturating_add(ICMP_LEN))?,
            end: u32::try_from(end).map_err(|_| Nat64Error::Mismatch)?,
            transport: Transport::Icmp { kind: front.mapped.kind, code: front.mapped.code },
            tuple: None,
            ttl,
            ..*headers
        };
        buf.truncate(self.end);
        let resized = resize(buf, l3, old_len, front.len);
        let data = resized.map_err(|_| Nat64Error::NoHeadroom)?;
        write_header(data, l3, front.bytes.get(..front.len).unwrap_or_default(), family);
        let quoted = data.get_mut(l3.saturating_add(front.len)..).unwrap_or_default();
        quoted.iter_mut().zip(start.bytes).take(start.len).for_each(|(to, from)| *to = from);
        if let Some(message) = data.get_mut(l4..) {
            let sum = pseudo.sum(Sum::ZERO.bytes(message)).checksum();
            if let Some([_, _, c0, c1]) = message.first_chunk_mut::<4>() {
                [*c0, *c1] = sum.to_be_bytes();
            }
        }
        Ok(now)
    }
}

/// The first bytes of the quoted transport header.
struct Start {
    bytes: [u8; TCP_FIXED],
    len: usize,
}

/// Outer header, ICMP header and quoted header, one behind the other.
struct Front {
    bytes: [u8; FRONT],
    len: usize,
    outer: usize,
    mapped: Mapped,
    /// Bytes of the quote behind them.
    rest: usize,
}

impl Front {
    fn new(outer: &[u8], mapped: Mapped, word: [u8; 4], inner: &[u8], rest: usize) -> Self {
        let [a, b, c, d] = word;
        let icmp = [mapped.kind, mapped.code, 0, 0, a, b, c, d];
        let mut bytes = [0; FRONT];
        let all = outer.iter().chain(&icmp).chain(inner);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        let len = outer.len().saturating_add(ICMP_LEN).saturating_add(inner.len()).min(FRONT);
        Self { bytes, len, outer: outer.len(), mapped, rest }
    }
}

/// The addresses in a header that starts at `bytes`.
fn pair_at(bytes: &[u8], src_at: usize, family: Family) -> Option<AddrPair> {
    let bytes = bytes.get(src_at..)?;
    Some(match family {
        Family::V4 => {
            let (src, rest) = bytes.split_first_chunk::<4>()?;
            let (src, dst) = (u32::from_be_bytes(*src), u32::from_be_bytes(*rest.first_chunk()?));
            AddrPair::V4 { src, dst }
        }
        Family::V6 => {
            let (src, rest) = bytes.split_first_chunk::<16>()?;
            let (src, dst) = (u128::from_be_bytes(*src), u128::from_be_bytes(*rest.first_chunk()?));
            AddrPair::V6 { src, dst }
        }
    })
}

/// The end of the message without extensions (RFC 4884 section 4): the length of the quote is stated in
/// words of 4 bytes by ICMP, of 8 by ICMPv6, where it is stated at all.
fn without_extensions(
    kind: u8,
    word: [u8; 4],
    family: Family,
    l4: usize,
    end: usize,
    inner_l4: usize,
) -> usize {
    let stated = match (family, kind) {
        (Family::V4, 3 | 11 | 12) => usize::from(word[1]).saturating_mul(4),
        (Family::V6, 1 | 3) => usize::from(word[0]).saturating_mul(8),
        _ => 0,
    };
    let quote_end = l4.saturating_add(ICMP_LEN).saturating_add(stated);
    match stated {
        0 => end,
        _ if quote_end < inner_l4.saturating_add(QUOTED) => end,
        _ => end.min(quote_end),
    }
}
