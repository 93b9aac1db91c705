//! Which segments carry the option, and what to do where it does not fit.
//!
//! A server reads the option from the SYN or from the segment that ends the handshake; with a deferred
//! accept, SYN cookies or a lost acknowledgement that is another segment than one thinks. So the default
//! puts it on the SYN and on every client segment until the client has acknowledged data of the server.
//! It is carried by FIN and by a SYN with data, never by RST: a server reads no options of a reset.

use super::insert::ToaError;
use crate::seq::after;
use lvs_core::wire::tcp;

/// On which segments of a client the option travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placement {
    /// On the SYN.
    pub syn: bool,
    /// On the segment that ends the handshake, and on every other that starts at the first byte and
    /// acknowledges nothing but the server's SYN: the acknowledgement may be lost, and the first data
    /// then does its work.
    pub handshake: bool,
    /// On every segment until the client has acknowledged data of the server.
    pub until_server_data: bool,
}

impl Default for Placement {
    fn default() -> Self {
        Self { syn: true, handshake: true, until_server_data: true }
    }
}

/// What a session knows of its handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Handshake {
    /// The client's initial sequence number, as the client counts.
    pub client_isn: u32,
    /// The server's first data sequence number, once its SYN-ACK has passed.
    pub server_first: Option<u32>,
    /// Past the newest byte that the server has sent; of no meaning before its SYN-ACK.
    pub server_end: u32,
}

impl Handshake {
    /// Whether an acknowledgement number of the client proves that it has data of the server. Numbers
    /// that the server has not reached prove nothing: who sends them must not get rid of the option.
    #[must_use]
    pub fn proves_data(&self, flags: u8, ack: u32) -> bool {
        let Some(first) = self.server_first else { return false };
        flags & tcp::ACK != 0 && after(ack, first) && !after(ack, self.server_end)
    }
}

impl Placement {
    /// Whether a client's segment carries the option; numbers as the client sends them.
    #[must_use]
    pub fn wants(&self, handshake: &Handshake, flags: u8, seq: u32, ack: u32) -> bool {
        if flags & tcp::RST != 0 {
            return false;
        }
        if flags & tcp::SYN != 0 {
            return self.syn;
        }
        let open = !handshake.proves_data(flags, ack);
        let first = seq == handshake.client_isn.wrapping_add(1);
        open && (self.until_server_data || self.handshake && first)
    }
}

/// Which kinds are taken out of what clients send. `own` are those that the service writes, if it does;
/// `always` extends that to services that write none (NAT, or FullNAT without the option), whose servers
/// may read it all the same.
#[must_use]
pub fn forbidden(own: Option<super::ToaKinds>, always: bool) -> Option<super::KindSet> {
    match own {
        Some(kinds) => Some(super::KindSet::KNOWN.with(kinds.v4()).with(kinds.v6())),
        None => always.then_some(super::KindSet::KNOWN),
    }
}

/// What a service prefers where the option does not fit, not even compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NoRoom {
    /// An empty acknowledgement with the option goes ahead.
    #[default]
    SeparateAck,
    /// The address goes as a PROXY header, version 2, for servers that read it.
    Proxy,
    /// The segment is dropped.
    Drop,
}

/// The next rung of the ladder: compaction, then one of these. Never silently without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rung {
    /// [`edit::own::ahead`](crate::edit::own::ahead) with the option, then the segment as it is.
    Ahead,
    /// A SYN goes without: nothing can go ahead of it, and the segments behind it carry the option. To
    /// be counted.
    Later,
    /// A PROXY header, see [`proxy`](crate::proxy).
    Proxy,
    /// The segment is dropped with a reason.
    Drop,
}

/// What to do when [`insert`](super::insert) has refused with `error`.
#[must_use]
pub const fn rung(error: ToaError, flags: u8, placement: &Placement, policy: NoRoom) -> Rung {
    let syn = flags & tcp::SYN != 0;
    let later = placement.handshake || placement.until_server_data;
    match (policy, error) {
        // What is no whole segment tells nothing; its sender is not helped by an empty one.
        (_, ToaError::Mismatch | ToaError::Fragment) | (NoRoom::Drop, _) => Rung::Drop,
        (NoRoom::Proxy, _) => Rung::Proxy,
        (NoRoom::SeparateAck, _) if !syn => Rung::Ahead,
        (NoRoom::SeparateAck, _) if later => Rung::Later,
        (NoRoom::SeparateAck, _) => Rung::Drop,
    }
}
