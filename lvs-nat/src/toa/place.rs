//! Which segments carry the option, and what to do where it does not fit.
//!
//! A server reads the option from the SYN or from the segment that ends the handshake; with a deferred
//! accept, SYN cookies or a lost acknowledgement that is another segment than one thinks. So the default
//! puts it on the SYN and on every client segment until the client has acknowledged data of the server.
//! It is carried by FIN and by a SYN with data, never by RST: a server reads no options of a reset. A SYN
//! that goes without it brings no data either, which a server might answer.

use super::insert::ToaError;
use crate::seq::after;
use lvs_core::wire::tcp;

pub use lvs_core::client_addr::{NoToaRoom as NoRoom, ToaPlacement as Placement};

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
    pub const fn proves_data(&self, flags: u8, ack: u32) -> bool {
        let Some(first) = self.server_first else { return false };
        flags & tcp::ACK != 0 && after(ack, first) && !after(ack, self.server_end)
    }

    /// Whether a client's segment carries the option; numbers as the client sends them.
    #[must_use]
    pub const fn wants(&self, placement: &Placement, flags: u8, seq: u32, ack: u32) -> bool {
        if flags & tcp::RST != 0 {
            return false;
        }
        if flags & tcp::SYN != 0 {
            return placement.syn;
        }
        let open = !self.proves_data(flags, ack);
        let first = seq == self.client_isn.wrapping_add(1);
        open && (placement.until_server_data || placement.handshake && first)
    }
}

/// Which kinds are taken out of what clients send. `own` are those that the service writes, if it does;
/// `always` extends that to services that write none (NAT, or FullNAT without the option), whose servers
/// may read it all the same.
#[must_use]
pub const fn forbidden(own: Option<super::ToaKinds>, always: bool) -> Option<super::KindSet> {
    match own {
        Some(kinds) => Some(super::KindSet::KNOWN.with(kinds.v4()).with(kinds.v6())),
        None if always => Some(super::KindSet::KNOWN),
        None => None,
    }
}

/// The next rung of the ladder: compaction, then one of these. Never silently without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rung {
    /// [`edit::own::ahead`](crate::edit::own::ahead) with the option, then the segment as it is.
    Ahead,
    /// It goes without, as nothing can go ahead of a SYN, nor of a piece, whose checksum nobody can verify; the
    /// segments behind it carry the option. To be counted.
    Later,
    /// A PROXY header, see [`proxy`](crate::proxy), from now on instead of the option.
    Proxy,
    /// The segment is dropped with a reason.
    Drop,
}

/// What to do when [`insert`](super::insert()) has refused with `error`. `told`: the server has been sent the
/// option before, so a PROXY header would be one too many, and behind the bytes that have passed.
#[must_use]
pub const fn rung(
    error: ToaError,
    flags: u8,
    placement: &Placement,
    policy: NoRoom,
    told: bool,
) -> Rung {
    let syn = flags & tcp::SYN != 0;
    match (policy, error) {
        (_, ToaError::Mismatch) | (NoRoom::Drop, _) => Rung::Drop,
        (_, ToaError::Fragment) if syn || !placement.later() => Rung::Drop,
        (_, ToaError::Fragment) => Rung::Later,
        (NoRoom::Proxy, _) if !told => Rung::Proxy,
        _ if !syn => Rung::Ahead,
        _ if placement.later() => Rung::Later,
        _ => Rung::Drop,
    }
}
