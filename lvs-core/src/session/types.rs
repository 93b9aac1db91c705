//! What is asked of a session store and what it answers.

use super::MEMORY_ALIGN;
use super::layout::Quad;
use super::tcp::TcpState;
use crate::addr::RealAddr;
use crate::counters::Traffic;
use crate::flow::{Direction, WireTuple};
use crate::id::{HopId, LocalId, ServerId, SessionId, TimeoutClass};
use crate::time::Tick;
use core::fmt;
use core::net::IpAddr;

/// Bits of [`Detail::pending`]: what is still to be done on client segments to tell the server who the
/// client is, and what has been done.
pub mod pending {
    /// The client's address still goes onto client segments.
    pub const TOA: u8 = 0x01;
    /// A PROXY header is still to go out, or has not been acknowledged by the server yet.
    pub const PROXY: u8 = 0x02;
    /// For the address option, options of the client had to make room.
    pub const COMPACTED: u8 = 0x04;
    /// The address went out ahead, on a segment of the director's own.
    pub const AHEAD: u8 = 0x08;
    /// The address went out as an option.
    pub const TOLD_BY_TOA: u8 = 0x10;
    /// The address went out as a PROXY header.
    pub const TOLD_BY_PROXY: u8 = 0x20;
    /// A segment had no room for the address; policy decided.
    pub const NO_ROOM: u8 = 0x40;
    /// The client sent an address of its own making, which was taken out.
    pub const FORGED: u8 = 0x80;
}

/// How a server was told who its client is, and what was in the way: the bits of [`pending`] that say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Told(pub u8);

impl Told {
    /// Every bit in a word, as logs show it.
    pub const WORDS: [(u8, &'static str); 6] = [
        (pending::TOLD_BY_TOA, "option"),
        (pending::COMPACTED, "compacted"),
        (pending::TOLD_BY_PROXY, "proxy"),
        (pending::AHEAD, "ahead"),
        (pending::NO_ROOM, "no_room"),
        (pending::FORGED, "forged"),
    ];

    /// The words that hold; none when the server was told nothing.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS.into_iter().filter(move |(bit, _)| self.0 & bit != 0).map(|(_, word)| word)
    }
}

/// Size of one family's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableConfig {
    /// Local addresses; each takes as many slots as the port plan has.
    pub local_addresses: u16,
    /// Slots for sessions without a local port (NAT).
    pub general: u32,
}

/// Size and secrets of a store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// IPv4 sessions.
    pub v4: TableConfig,
    /// IPv6 sessions.
    pub v6: TableConfig,
    /// Secret of the hash; random at each start.
    pub key: [u64; 2],
    /// Where each local address starts to give out ports; random at each start.
    pub seed: u64,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("v4", &self.v4)
            .field("v6", &self.v6)
            .finish_non_exhaustive()
    }
}

/// The store could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// More slots than 2^31 in one table.
    TooLarge,
    /// The lent memory is smaller than [`SessionStore::memory_for`](super::SessionStore::memory_for) says, or not aligned to
    /// [`MEMORY_ALIGN`].
    Memory {
        /// Bytes needed.
        needed: usize,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("a session table holds at most 2^31 slots; use fewer"),
            Self::Memory { needed } => {
                write!(f, "the session store needs {needed} bytes aligned to {MEMORY_ALIGN}")
            }
        }
    }
}
impl core::error::Error for StoreError {}

/// A packet to look up: its tuple, and which local address its destination is, if it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// As on the wire.
    pub tuple: WireTuple,
    /// The destination as a local address.
    pub local: Option<LocalId>,
}

/// Where a packet seems to belong. Only a hint, and only until the store changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub(super) v6: bool,
    pub(super) slot: u32,
    /// Which side the packet comes from.
    pub direction: Direction,
}

/// What a packet tells its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// TCP flags; `None` for other protocols.
    pub tcp_flags: Option<u8>,
    /// Bytes of the IP packet.
    pub bytes: u32,
}

/// The stored numbers that translate packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// One's complement change of the L4 checksum inbound; the return change is its complement.
    pub l4_delta: u16,
    /// The same of the IPv4 header checksum.
    pub ip_delta: u16,
    /// Added to inbound sequence numbers, taken from return acknowledgements.
    pub seq_delta: u32,
    /// Added to return sequence numbers, taken from inbound acknowledgements.
    pub ack_delta: u32,
}

/// A session as one packet meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it is.
    pub candidate: Candidate,
    /// Its addresses.
    pub quad: Quad,
    /// State before the packet.
    pub before: TcpState,
    /// State after it.
    pub after: TcpState,
    /// Handshake over and nothing pending.
    pub plain: bool,
    /// This is the first packet from the server.
    pub first_answer: bool,
    /// How packets are translated.
    pub translation: Translation,
    /// Its server.
    pub server: ServerId,
    /// Next hop of this packet.
    pub hop: HopId,
    /// Replies do not pass here; packets are not translated but brought to the server this way.
    pub one_way: Option<OneWay>,
}

/// A local address to choose a port on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSource {
    /// Its number.
    pub id: LocalId,
    /// Its address.
    pub ip: IpAddr,
}

/// Where the reply of a new session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// To a port of one of these local addresses, tried in turn from number `first` on.
    Local {
        /// The pool.
        addresses: &'a [LocalSource],
        /// Where to start in it.
        first: usize,
    },
    /// To the client itself: no local port, two keys.
    General,
    /// Past the director (DR, TUN): no local port, one key.
    Elsewhere(OneWay),
}

/// How packets reach the server of a session whose replies do not pass the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "IP_VS_CONN_F_NOOUTPUT")]
pub enum OneWay {
    /// As they are, to another Ethernet address (DR).
    #[doc(alias = "IP_VS_CONN_F_DROUTE")]
    Direct,
    /// Inside another packet (TUN).
    #[doc(alias = "IP_VS_CONN_F_TUNNEL")]
    Tunnel,
}

/// A session to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    /// Its addresses; with [`Place::Local`] the store fills in `local`.
    pub quad: Quad,
    /// Where its replies go.
    pub place: Place<'a>,
    /// Its first state; for UDP any.
    pub state: TcpState,
    /// Whether it starts with nothing pending (UDP).
    pub plain: bool,
    /// Its server.
    pub server: ServerId,
    /// Next hop toward the server.
    pub hop_in: HopId,
    /// Next hop toward the client.
    pub hop_out: HopId,
    /// Its time-outs.
    pub class: TimeoutClass,
}

/// The session that used the same slot, and so the same local port, before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its server.
    pub server: RealAddr,
    /// The next sequence number that the server expected, in the server's number space; 0 when the
    /// server never acknowledged anything.
    pub next_seq: u32,
}

/// What an open has decided so far, for whoever computes the translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// All addresses, the local port included.
    pub quad: Quad,
    /// The slot's last session.
    pub previous: Option<Previous>,
}

/// A tuple that the directory does not have: its hash, so that opening its session need not compute and look for
/// it again. Only until the store changes, and only for the tuple that was looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed(pub(super) Option<u64>);

/// What the packet that opens a session tells about it beside its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct First {
    /// The look-up of the inbound tuple; the default when there was none.
    pub missed: Missed,
    /// The packet itself, counted as [`packet`](super::SessionStore::packet) counts it.
    pub segment: Option<Segment>,
    /// [`Detail::client_isn`]; of no meaning when the session starts plain.
    pub client_isn: u32,
    /// [`Detail::client_mss`].
    pub client_mss: u16,
    /// [`Detail::pending`].
    pub pending: u8,
    /// [`Session::template`].
    pub template: Option<u32>,
}

/// A session was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its handle.
    pub id: SessionId,
    /// Its addresses.
    pub quad: Quad,
}

/// A session could not be opened. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// No slot is free, or the directory has no place for the key.
    Full,
    /// No local address of the pool has a free port.
    NoPort,
    /// Another session already has one of the tuples.
    Taken,
    /// The addresses are of different families, and not those of NAT64: client and service of IPv6, server and
    /// local addresses of IPv4.
    Family,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the session table is full",
            Self::NoPort => "no local address of the pool has a free port",
            Self::Taken => "another session already has this tuple",
            Self::Family => {
                "client, service, local address and server are of families that do not go together"
            }
        })
    }
}
impl core::error::Error for OpenError {}

/// What unusual segments need to know and change; none of it is read for ordinary ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Handshake over, nothing pending. Once set it stays.
    pub plain: bool,
    /// Bits of [`pending`].
    pub pending: u8,
    /// The client's initial sequence number, as the client sent it; 0 once plain.
    pub client_isn: u32,
    /// The server's first data sequence number; 0 once plain.
    pub server_first: u32,
    /// End of the server's newest data, in its number space. Of SCTP the tag that the client chose.
    pub server_seq_end: u32,
    /// The server's newest acknowledgement, in its number space. Of SCTP the tag that the server chose.
    pub server_ack: u32,
    /// Maximum segment size that the client announced; 0 = none.
    pub client_mss: u16,
    /// The edit of the client's byte stream, packed: position and length, form and bytes removed; zero = none.
    pub edit: (u32, u16),
    /// Added to inbound sequence numbers.
    pub seq_delta: u32,
    /// Next hop toward the server.
    pub hop_in: HopId,
    /// Next hop toward the client.
    pub hop_out: HopId,
}

/// A copy of everything about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "ip_vs_conn")]
pub struct Session {
    /// Its handle.
    pub id: SessionId,
    /// Its addresses.
    pub quad: Quad,
    /// Its TCP state; `None` for UDP; of SCTP the one that means the same ([`SctpPhase`](crate::timeouts::SctpPhase)).
    pub state: TcpState,
    /// Handshake over and nothing pending.
    pub plain: bool,
    /// The server has answered.
    pub answered: bool,
    /// Its server.
    pub server: ServerId,
    /// Next hop toward the server.
    pub hop_in: HopId,
    /// Next hop toward the client.
    pub hop_out: HopId,
    /// Its time-outs.
    pub class: TimeoutClass,
    /// How packets are translated.
    pub translation: Translation,
    /// When it was opened.
    pub opened: Tick,
    /// When its newest packet came.
    pub last_seen: Tick,
    /// From the client.
    pub inbound: Traffic,
    /// To the client.
    pub outbound: Traffic,
    /// It holds a local port.
    pub has_local_port: bool,
    /// Its replies do not pass here, and its packets reach the server this way.
    pub one_way: Option<OneWay>,
    /// The persistence template that it holds ([`crate::shared::Hold::slot`]).
    pub template: Option<u32>,
    /// Its ends are still to be told that it is over.
    pub reset_owed: bool,
    /// How the server was told who the client is, and what is still to be done for it.
    pub told: Told,
}

/// A place in a [`SessionStore::scan`](super::SessionStore::scan).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub(super) v6: bool,
    pub(super) slot: u32,
}
