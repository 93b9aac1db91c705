//! Memory layout of a session: the field ledger of ARCHITECTURE.md as types.
//!
//! A packet of an established session touches one hot line (two for IPv6) and nothing else of the
//! session; the cold record holds what open, close, expiry, synchronisation and unusual segments need.
//! Sizes and offsets are pinned at the end of this file.

use super::OneWay;
use super::tcp::{Seen, TcpState};
use crate::flow::{Direction, L4Proto, TupleV4, TupleV6, WireTuple};
use crate::key::{Key, KeyV4, KeyV6, TableKey, of_side, side};
use core::net::IpAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of [`Tail::flags`].
pub(super) mod flag {
    /// The slot holds a session.
    pub(in super::super) const LIVE: u8 = 0x01;
    /// Handshake over, nothing pending: ordinary segments need the hot line only.
    pub(in super::super) const PLAIN: u8 = 0x02;
    /// Linked in a list of its short time-out.
    pub(in super::super) const LISTED: u8 = 0x04;
    /// The server has answered at least once.
    pub(in super::super) const ANSWERED: u8 = 0x08;
    /// The reply tuple is in the directory as well (NAT); else the port plan finds the slot.
    pub(in super::super) const TWO_KEYS: u8 = 0x10;
    /// Ended on purpose: whoever sends next is answered by a reset, and so is the other side.
    pub(in super::super) const RESET_OWED: u8 = 0x20;
    /// No session, but a local port lent to one of the other table ([`nat64`](super::super::nat64)); alone.
    pub(in super::super) const LENT: u8 = 0x40;
}

/// What both families keep beside addresses; 40 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct Tail {
    /// Inbound one's complement change of the L4 checksum; the return one is its complement.
    pub(super) l4_delta: u16,
    /// The same of the IPv4 header checksum.
    pub(super) ip_delta: u16,
    /// By direction of the packet: added to its sequence number, and taken from the acknowledgement numbers
    /// of the other direction.
    pub(super) seq_deltas: [u32; 2],
    /// Tick of the newest packet.
    pub(super) last_seen: u32,
    /// State in the low 4 bits, protocol in bits 4-5, in bits 6-7 how one-way packets travel, or that the
    /// families differ.
    pub(super) state_kind: u8,
    /// Bits of [`flag`].
    pub(super) flags: u8,
    /// Next hop by direction of the packet: toward the server, toward the client.
    pub(super) hops: [u16; 2],
    /// Server entry.
    pub(super) server: u16,
    /// By direction: packets in the high 24 bits, bytes in the low 40.
    pub(super) carried: [[u32; 2]; 2],
}

/// State and flags of a session whose ordinary segments take the short way: established TCP, plain, and
/// answered; and the bits that are looked at. Those of one-way and of NAT64 sessions must be zero, too.
const PLAIN_KIND: u16 =
    u16::from_le_bytes([TcpState::Established as u8, flag::LIVE | flag::PLAIN | flag::ANSWERED]);
const PLAIN_MASK: u16 =
    u16::from_le_bytes([0xff, flag::LIVE | flag::PLAIN | flag::ANSWERED | flag::LISTED]);

impl Tail {
    pub(super) const fn state_number(&self) -> u8 {
        self.state_kind & 0x0f
    }

    pub(super) const fn proto(&self) -> L4Proto {
        match self.state_kind & 0x30 {
            0x10 => L4Proto::Udp,
            0x20 => L4Proto::Sctp,
            0x30 => L4Proto::Icmp,
            _ => L4Proto::Tcp,
        }
    }

    /// The bits of a protocol.
    #[inline(always)]
    const fn kind_bits(proto: L4Proto) -> u8 {
        match proto {
            L4Proto::Tcp => 0x00,
            L4Proto::Udp => 0x10,
            L4Proto::Sctp => 0x20,
            L4Proto::Icmp => 0x30,
        }
    }

    #[inline(always)]
    const fn is_of(&self, proto: L4Proto) -> bool {
        self.state_kind & 0x30 == Self::kind_bits(proto)
    }

    pub(super) const fn set_kind(&mut self, proto: L4Proto, state: u8) {
        self.state_kind = Self::kind_bits(proto) | (state & 0x0f);
    }

    /// Whether replies do not pass here, and how packets reach the server then.
    pub(super) const fn one_way(&self) -> Option<OneWay> {
        match self.state_kind & 0xc0 {
            0x40 => Some(OneWay::Direct),
            0x80 => Some(OneWay::Tunnel),
            _ => None,
        }
    }

    pub(super) const fn set_one_way(&mut self, one_way: Option<OneWay>) {
        let bits = match one_way {
            None => 0x00,
            Some(OneWay::Direct) => 0x40,
            Some(OneWay::Tunnel) => 0x80,
        };
        self.state_kind = (self.state_kind & 0x3f) | bits;
    }

    /// Whether its client speaks IPv6 and its server IPv4.
    pub(super) const fn is_nat64(&self) -> bool {
        self.state_kind & 0xc0 == 0xc0
    }

    pub(super) const fn set_nat64(&mut self) {
        self.state_kind |= 0xc0;
    }

    /// Which transitions a packet of this direction takes.
    pub(super) fn seen(&self, direction: Direction) -> Seen {
        if self.one_way().is_some() { Seen::InboundOnly } else { direction.into() }
    }

    pub(super) const fn set_state_number(&mut self, state: u8) {
        self.state_kind = (self.state_kind & 0xf0) | (state & 0x0f);
    }

    /// Whether ordinary segments take the short way.
    #[inline(always)]
    pub(super) const fn is_plain_and_established(&self) -> bool {
        u16::from_le_bytes([self.state_kind, self.flags]) & PLAIN_MASK == PLAIN_KIND
    }

    pub(super) const fn has(&self, bits: u8) -> bool {
        self.flags & bits == bits
    }

    /// Counts one packet of `bytes`; returns whether the counter is half full and wants harvesting.
    #[inline(always)]
    pub(super) fn carry(&mut self, side: usize, bytes: u32) -> bool {
        let Some(cell) = self.carried.get_mut(side) else { return false };
        let sum = join(*cell).wrapping_add((1u64 << 40) | u64::from(bytes));
        *cell = split(sum);
        sum & ((1 << 63) | (1 << 39)) != 0
    }
}

/// Packs two words kept apart so that the tail needs 4-byte alignment only.
pub(super) const fn join(cell: [u32; 2]) -> u64 {
    (cell[0] as u64) | ((cell[1] as u64) << 32)
}

const fn split(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// An IPv4 session, one cache line.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(super) struct LineV4 {
    /// The keys of inbound and return packets, as on the wire.
    pub(super) keys: [[u8; 12]; 2],
    pub(super) tail: Tail,
}

/// An IPv6 session, an aligned pair of cache lines; also one of NAT64, whose return key has IPv4 addresses
/// mapped into IPv6 ones.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(128))]
pub(super) struct LineV6 {
    /// The keys of inbound and return packets, as on the wire.
    pub(super) keys: [[u8; 36]; 2],
    pub(super) tail: Tail,
    /// NAT64: the IPv4 slot whose local port it has, plus one.
    pub(super) lender: u32,
    pub(super) spare: [u32; 3],
}

impl Default for LineV6 {
    fn default() -> Self {
        Self { keys: [[0; 36]; 2], tail: Tail::default(), lender: 0, spare: [0; 3] }
    }
}

/// What is needed only now and then; same slot number, a slab of its own.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(super) struct Cold {
    /// Incarnation of the slot; written by close.
    pub(super) generation: u32,
    /// Next in the list of its short time-out, plus one; 0 = none. Written by relink.
    pub(super) next: u32,
    /// Previous in that list, plus one.
    pub(super) prev: u32,
    /// Persistence template, plus one. Written by open.
    pub(super) template: u32,
    /// Client's initial sequence number until the session is plain, then inbound packets / 2^23.
    pub(super) isn_or_packets_in: u32,
    /// Server's first data sequence number until plain, then return packets / 2^23.
    pub(super) first_or_packets_out: u32,
    /// End of the server's newest data, in its number space: RST on expiry toward the client.
    pub(super) server_seq_end: u32,
    /// Server's newest acknowledgement, in its number space: RST on expiry toward the server, and the
    /// floor of the next incarnation's initial sequence number.
    pub(super) server_ack: u32,
    /// An edit of the client's byte stream, packed by whoever makes it: length and position.
    pub(super) edit_position: u32,
    /// Form of the edit and bytes that it removes; 0 = none.
    pub(super) edit_length: u16,
    /// Maximum segment size the client announced; 0 = none.
    pub(super) client_mss: u16,
    /// Tick of opening.
    pub(super) opened: u32,
    /// Mark of the newest synchronisation.
    pub(super) sync_mark: u16,
    /// What is still to be done on client segments: bits of [`super::pending`].
    pub(super) pending: u8,
    /// Class of its time-outs.
    pub(super) class: u8,
    /// Bytes harvested from the hot line, inbound and return.
    pub(super) bytes: [[u32; 2]; 2],
}

impl Cold {
    /// Moves what the hot counters hold into the cold ones.
    pub(super) fn harvest(&mut self, tail: &mut Tail) {
        let plain = tail.has(flag::PLAIN);
        let [bytes_in, bytes_out] = &mut self.bytes;
        let high_in = &mut self.isn_or_packets_in;
        let high_out = &mut self.first_or_packets_out;
        let [carried_in, carried_out] = &mut tail.carried;
        for (cell, bytes, high) in
            [(carried_in, bytes_in, high_in), (carried_out, bytes_out, high_out)]
        {
            let value = join(*cell);
            let (packets, count) = (value >> 40, value & ((1 << 40) - 1));
            *bytes = split(join(*bytes).wrapping_add(count));
            // Packets stay in place modulo 2^24; what overflows counts in the cold word, whose other
            // meaning has ended once the session is plain.
            if packets >= 1 << 23 && plain {
                *high = high.wrapping_add(1);
                *cell = split((packets - (1 << 23)) << 40);
            } else {
                *cell = split(packets << 40);
            }
        }
    }
}

/// Packets since opening: 2^23 per harvest plus what the hot line holds.
pub(super) const fn packets(cell: [u32; 2], high: u32) -> u64 {
    ((high as u64) << 23).wrapping_add(join(cell) >> 40)
}

/// Bytes since opening.
pub(super) const fn bytes(cell: [u32; 2], harvested: [u32; 2]) -> u64 {
    join(harvested).wrapping_add(join(cell) & ((1 << 40) - 1))
}

/// The four address pairs of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quad {
    /// Transport protocol.
    pub proto: L4Proto,
    /// Client address and port.
    pub client: (IpAddr, u16),
    /// Virtual address and port.
    pub virt: (IpAddr, u16),
    /// Local address and port; the client's own in NAT.
    pub local: (IpAddr, u16),
    /// Server address and port.
    pub server: (IpAddr, u16),
}

impl Quad {
    /// Whether client and service speak IPv6, director and server IPv4.
    #[must_use]
    pub const fn is_nat64(&self) -> bool {
        self.client.0.is_ipv6() && self.server.0.is_ipv4()
    }

    /// Client to service, as on the wire; `None` when the families differ.
    #[must_use]
    pub const fn inbound(&self) -> Option<WireTuple> {
        WireTuple::new(self.proto, self.client.0, self.client.1, self.virt.0, self.virt.1)
    }

    /// Server to director or client, as on the wire; `None` when the families differ.
    #[must_use]
    pub const fn reply(&self) -> Option<WireTuple> {
        WireTuple::new(self.proto, self.server.0, self.server.1, self.local.0, self.local.1)
    }
}

/// A hot line of either family.
pub(super) trait Line:
    Copy + Default + FromBytes + IntoBytes + KnownLayout + Immutable
{
    /// Its tuples.
    type Tuple: Copy;
    /// Its keys.
    type Key: TableKey<Tuple = Self::Tuple>;
    /// Whether session handles of this table say `v6`.
    const V6: bool;
    fn tail(&self) -> &Tail;
    fn tail_mut(&mut self) -> &mut Tail;
    /// The key of packets of one direction.
    fn key(&self, side: usize) -> Self::Key;
    /// Whether a packet with this tuple belongs here.
    fn matches(&self, direction: Direction, tuple: &Self::Tuple) -> bool {
        let (key, proto) = Self::Key::of(tuple);
        self.is(direction, &key, proto)
    }
    /// Whether a packet with this key belongs here.
    #[inline]
    fn is(&self, direction: Direction, key: &Self::Key, proto: L4Proto) -> bool {
        let tail = self.tail();
        self.key(side(direction)) == *key && tail.has(flag::LIVE) && tail.is_of(proto)
    }
    fn tuple(&self, direction: Direction) -> Self::Tuple;
    fn quad(&self) -> Quad;
    /// Writes the addresses; `false` when one is of the other family.
    fn set_quad(&mut self, quad: &Quad) -> bool;
}

/// The four ends from the tuples of both directions.
fn quad_of(inbound: &WireTuple, reply: &WireTuple) -> Quad {
    Quad {
        proto: inbound.proto(),
        client: (inbound.src(), inbound.sport()),
        virt: (inbound.dst(), inbound.dport()),
        local: (reply.dst(), reply.dport()),
        server: (reply.src(), reply.sport()),
    }
}

macro_rules! line {
    ($line:ident, $key:ty, $tuple:ty, $wire:path, $v6:literal, $reply:expr, $key_of:expr) => {
        impl Line for $line {
            type Tuple = $tuple;
            type Key = $key;
            const V6: bool = $v6;

            #[inline(always)]
            fn tail(&self) -> &Tail {
                &self.tail
            }

            #[inline(always)]
            fn tail_mut(&mut self) -> &mut Tail {
                &mut self.tail
            }

            #[inline(always)]
            fn key(&self, side: usize) -> $key {
                Key(*of_side(&self.keys, side))
            }

            fn tuple(&self, direction: Direction) -> $tuple {
                self.key(side(direction)).tuple(self.tail.proto())
            }

            fn quad(&self) -> Quad {
                let [inbound, reply] =
                    [Direction::Inbound, Direction::Return].map(|to| self.tuple(to));
                quad_of(&$wire(inbound), &($reply)(self, reply))
            }

            fn set_quad(&mut self, quad: &Quad) -> bool {
                let (Some($wire(inbound)), Some(reply)) = (quad.inbound(), quad.reply()) else {
                    return false;
                };
                let Some(reply) = ($key_of)(reply) else { return false };
                self.keys = [<$key>::from(&inbound).0, <$key>::from(&reply).0];
                true
            }
        }
    };
}

line!(LineV4, KeyV4, TupleV4, WireTuple::V4, false, |_, reply| WireTuple::V4(reply), |reply| {
    match reply {
        WireTuple::V4(reply) => Some(reply),
        WireTuple::V6(_) => None,
    }
});
line!(LineV6, KeyV6, TupleV6, WireTuple::V6, true, reply_of, |reply| Some(mapped(reply)));

/// The tuple of an IPv6 line's return packets as it stands on the wire.
fn reply_of(line: &LineV6, reply: TupleV6) -> WireTuple {
    let TupleV6 { src, dst, sport, dport, proto } = reply;
    match line.tail.is_nat64() {
        // The lower 32 bits of a mapped address are the IPv4 one.
        true => WireTuple::V4(TupleV4 { src: src as u32, dst: dst as u32, sport, dport, proto }),
        false => WireTuple::V6(reply),
    }
}

/// A tuple as the key of an IPv6 line: IPv4 addresses are mapped (RFC 4291 section 2.5.5.2).
pub(super) const fn mapped(tuple: WireTuple) -> TupleV6 {
    const PREFIX: u128 = 0xffff_0000_0000;
    match tuple {
        WireTuple::V6(tuple) => tuple,
        WireTuple::V4(TupleV4 { src, dst, sport, dport, proto }) => {
            TupleV6 { src: PREFIX | src as u128, dst: PREFIX | dst as u128, sport, dport, proto }
        }
    }
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Tail>() == 40 && align_of::<Tail>() == 4);
    assert!(size_of::<LineV4>() == 64 && align_of::<LineV4>() == 64);
    assert!(offset_of!(LineV4, tail) == 24);
    assert!(size_of::<LineV6>() == 128 && align_of::<LineV6>() == 128);
    assert!(offset_of!(LineV6, tail) == 72);
    assert!(size_of::<Cold>() == 64 && align_of::<Cold>() == 64);
    assert!(offset_of!(Cold, bytes) == 48);
};
