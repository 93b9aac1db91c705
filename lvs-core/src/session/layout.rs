//! Memory layout of a session: the field ledger of ARCHITECTURE.md as types.
//!
//! A packet of an established session touches one hot line (two for IPv6) and nothing else of the
//! session; the cold record holds what open, close, expiry, synchronisation and unusual segments need.
//! Sizes and offsets are pinned at the end of this file.

use crate::flow::{Direction, L4Proto, TupleV4, TupleV6, WireTuple};
use crate::siphash::SipHash13;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
}

/// What both families keep beside addresses; 40 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct Tail {
    /// Inbound one's complement change of the L4 checksum; the return one is its complement.
    pub(super) l4_delta: u16,
    /// The same of the IPv4 header checksum.
    pub(super) ip_delta: u16,
    /// Added to inbound sequence numbers, taken from return acknowledgements.
    pub(super) seq_delta: u32,
    /// Added to return sequence numbers, taken from inbound acknowledgements.
    pub(super) ack_delta: u32,
    /// Tick of the newest packet.
    pub(super) last_seen: u32,
    /// State in the low 4 bits, protocol in bits 4-5.
    pub(super) state_kind: u8,
    /// Bits of [`flag`].
    pub(super) flags: u8,
    /// Next hop toward the server.
    pub(super) hop_in: u16,
    /// Next hop toward the client.
    pub(super) hop_out: u16,
    /// Server entry.
    pub(super) server: u16,
    /// Packets in the high 24 bits, bytes in the low 40.
    pub(super) carried_in: [u32; 2],
    /// The same toward the client.
    pub(super) carried_out: [u32; 2],
}

impl Tail {
    pub(super) const fn state_number(&self) -> u8 {
        self.state_kind & 0x0f
    }

    pub(super) const fn proto(&self) -> L4Proto {
        if self.state_kind & 0x30 == 0x10 { L4Proto::Udp } else { L4Proto::Tcp }
    }

    pub(super) const fn set_kind(&mut self, proto: L4Proto, state: u8) {
        let proto = match proto {
            L4Proto::Tcp => 0x00,
            L4Proto::Udp => 0x10,
        };
        self.state_kind = proto | (state & 0x0f);
    }

    pub(super) const fn set_state_number(&mut self, state: u8) {
        self.state_kind = (self.state_kind & 0xf0) | (state & 0x0f);
    }

    pub(super) const fn has(&self, bits: u8) -> bool {
        self.flags & bits == bits
    }

    /// Counts one packet of `bytes`; returns whether the counter is half full and wants harvesting.
    pub(super) fn carry(&mut self, direction: Direction, bytes: u32) -> bool {
        let cell = match direction {
            Direction::Inbound => &mut self.carried_in,
            Direction::Return => &mut self.carried_out,
        };
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
    pub(super) client: u32,
    pub(super) virt: u32,
    pub(super) client_port: u16,
    pub(super) virt_port: u16,
    pub(super) local: u32,
    pub(super) server: u32,
    pub(super) local_port: u16,
    pub(super) server_port: u16,
    pub(super) tail: Tail,
}

/// An IPv6 session, an aligned pair of cache lines.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(128))]
pub(super) struct LineV6 {
    pub(super) client: [u32; 4],
    pub(super) virt: [u32; 4],
    pub(super) local: [u32; 4],
    pub(super) server: [u32; 4],
    pub(super) client_port: u16,
    pub(super) virt_port: u16,
    pub(super) local_port: u16,
    pub(super) server_port: u16,
    pub(super) tail: Tail,
    pub(super) spare: [u32; 4],
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
    /// Position of a payload edit in the client's number space.
    pub(super) edit_position: u32,
    /// Bytes it inserts.
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
        for (cell, bytes, high) in [
            (&mut tail.carried_in, bytes_in, high_in),
            (&mut tail.carried_out, bytes_out, high_out),
        ] {
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
    /// Whether session handles of this table say `v6`.
    const V6: bool;
    fn tail(&self) -> &Tail;
    fn tail_mut(&mut self) -> &mut Tail;
    /// Whether a packet with this tuple belongs here.
    fn matches(&self, direction: Direction, tuple: &Self::Tuple) -> bool;
    fn tuple(&self, direction: Direction) -> Self::Tuple;
    fn quad(&self) -> Quad;
    /// Writes the addresses; `false` when one is of the other family.
    fn set_quad(&mut self, quad: &Quad) -> bool;
    /// Keyed hash of a tuple.
    fn hash(key: &SipHash13, tuple: &Self::Tuple) -> u64;
}

impl LineV4 {
    /// Whether addresses and ports are those of the tuple.
    #[inline]
    pub(super) fn same_key(&self, direction: Direction, t: &TupleV4) -> bool {
        let [src, dst, sport, dport] = match direction {
            Direction::Inbound => {
                [self.client, self.virt, self.client_port.into(), self.virt_port.into()]
            }
            Direction::Return => {
                [self.server, self.local, self.server_port.into(), self.local_port.into()]
            }
        };
        (src, dst) == (t.src, t.dst) && (sport, dport) == (t.sport.into(), t.dport.into())
    }
}

impl Line for LineV4 {
    type Tuple = TupleV4;
    const V6: bool = false;

    fn tail(&self) -> &Tail {
        &self.tail
    }

    fn tail_mut(&mut self) -> &mut Tail {
        &mut self.tail
    }

    fn matches(&self, direction: Direction, t: &TupleV4) -> bool {
        self.same_key(direction, t) && self.tail.has(flag::LIVE) && self.tail.proto() == t.proto
    }

    fn tuple(&self, direction: Direction) -> TupleV4 {
        let proto = self.tail.proto();
        match direction {
            Direction::Inbound => TupleV4 {
                src: self.client,
                dst: self.virt,
                sport: self.client_port,
                dport: self.virt_port,
                proto,
            },
            Direction::Return => TupleV4 {
                src: self.server,
                dst: self.local,
                sport: self.server_port,
                dport: self.local_port,
                proto,
            },
        }
    }

    fn quad(&self) -> Quad {
        let ip = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
        Quad {
            proto: self.tail.proto(),
            client: (ip(self.client), self.client_port),
            virt: (ip(self.virt), self.virt_port),
            local: (ip(self.local), self.local_port),
            server: (ip(self.server), self.server_port),
        }
    }

    fn set_quad(&mut self, quad: &Quad) -> bool {
        let (IpAddr::V4(client), IpAddr::V4(virt), IpAddr::V4(local), IpAddr::V4(server)) =
            (quad.client.0, quad.virt.0, quad.local.0, quad.server.0)
        else {
            return false;
        };
        self.client = client.to_bits();
        self.virt = virt.to_bits();
        self.local = local.to_bits();
        self.server = server.to_bits();
        self.client_port = quad.client.1;
        self.virt_port = quad.virt.1;
        self.local_port = quad.local.1;
        self.server_port = quad.server.1;
        true
    }

    #[inline]
    fn hash(key: &SipHash13, t: &TupleV4) -> u64 {
        let addresses = (u64::from(t.src) << 32) | u64::from(t.dst);
        key.words(&[addresses, ports(t.sport, t.dport, t.proto)])
    }
}

fn ports(sport: u16, dport: u16, proto: L4Proto) -> u64 {
    (u64::from(sport) << 32) | (u64::from(dport) << 16) | u64::from(proto.number())
}

const fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

const fn quarters(bits: u128) -> [u32; 4] {
    [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
}

const fn whole(quarters: [u32; 4]) -> u128 {
    ((quarters[0] as u128) << 96)
        | ((quarters[1] as u128) << 64)
        | ((quarters[2] as u128) << 32)
        | quarters[3] as u128
}

impl Line for LineV6 {
    type Tuple = TupleV6;
    const V6: bool = true;

    fn tail(&self) -> &Tail {
        &self.tail
    }

    fn tail_mut(&mut self) -> &mut Tail {
        &mut self.tail
    }

    fn matches(&self, direction: Direction, t: &TupleV6) -> bool {
        let (src, dst) = (quarters(t.src), quarters(t.dst));
        let same = match direction {
            Direction::Inbound => {
                self.client == src
                    && self.virt == dst
                    && self.client_port == t.sport
                    && self.virt_port == t.dport
            }
            Direction::Return => {
                self.server == src
                    && self.local == dst
                    && self.server_port == t.sport
                    && self.local_port == t.dport
            }
        };
        same && self.tail.has(flag::LIVE) && self.tail.proto() == t.proto
    }

    fn tuple(&self, direction: Direction) -> TupleV6 {
        let proto = self.tail.proto();
        match direction {
            Direction::Inbound => TupleV6 {
                src: whole(self.client),
                dst: whole(self.virt),
                sport: self.client_port,
                dport: self.virt_port,
                proto,
            },
            Direction::Return => TupleV6 {
                src: whole(self.server),
                dst: whole(self.local),
                sport: self.server_port,
                dport: self.local_port,
                proto,
            },
        }
    }

    fn quad(&self) -> Quad {
        let ip = |bits| IpAddr::V6(Ipv6Addr::from_bits(whole(bits)));
        Quad {
            proto: self.tail.proto(),
            client: (ip(self.client), self.client_port),
            virt: (ip(self.virt), self.virt_port),
            local: (ip(self.local), self.local_port),
            server: (ip(self.server), self.server_port),
        }
    }

    fn set_quad(&mut self, quad: &Quad) -> bool {
        let (IpAddr::V6(client), IpAddr::V6(virt), IpAddr::V6(local), IpAddr::V6(server)) =
            (quad.client.0, quad.virt.0, quad.local.0, quad.server.0)
        else {
            return false;
        };
        self.client = quarters(client.to_bits());
        self.virt = quarters(virt.to_bits());
        self.local = quarters(local.to_bits());
        self.server = quarters(server.to_bits());
        self.client_port = quad.client.1;
        self.virt_port = quad.virt.1;
        self.local_port = quad.local.1;
        self.server_port = quad.server.1;
        true
    }

    #[inline]
    fn hash(key: &SipHash13, t: &TupleV6) -> u64 {
        let ([a, b], [c, d]) = (halves(t.src), halves(t.dst));
        key.words(&[a, b, c, d, ports(t.sport, t.dport, t.proto)])
    }
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Tail>() == 40 && align_of::<Tail>() == 4);
    assert!(size_of::<LineV4>() == 64 && align_of::<LineV4>() == 64);
    assert!(offset_of!(LineV4, tail) == 24);
    assert!(size_of::<LineV6>() == 128 && align_of::<LineV6>() == 128);
    assert!(offset_of!(LineV6, client_port) == 64 && offset_of!(LineV6, tail) == 72);
    assert!(size_of::<Cold>() == 64 && align_of::<Cold>() == 64);
    assert!(offset_of!(Cold, bytes) == 48);
};
