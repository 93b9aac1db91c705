//! Lookup in stages, and the short way for ordinary segments of plain sessions.
//!
//! A burst goes through each stage as a whole, so that the memory of one packet is fetched while the
//! others are worked on: [`SessionStore::begin`] hashes and asks for buckets (or, for replies, for
//! session lines at once), [`SessionStore::advance`] matches tags and asks for lines, and
//! [`SessionStore::plain`] compares the key in the line and tells how to translate.

use super::layout::{LineV4, flag};
use super::table::Table;
use super::{Candidate, Probe, SessionStore, TcpState};
use crate::flow::{Direction, L4Proto, TupleV4, WireTuple};
use crate::id::{HopId, ServerId};
use crate::plan::PortPlan;
use crate::time::Tick;

/// A lookup under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending(Stage);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Nowhere,
    Hashed {
        v6: bool,
        hash: u64,
    },
    Guess(Candidate),
}

impl Pending {
    /// Where the packet probably belongs, once the lookup has been advanced.
    #[must_use]
    pub const fn guess(&self) -> Option<Candidate> {
        match self.0 {
            Stage::Guess(candidate) => Some(candidate),
            Stage::Nowhere | Stage::Hashed { .. } => None,
        }
    }
}

/// How to translate an ordinary IPv4 segment: what its source and destination become, and the stored
/// numbers of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainV4 {
    /// New source address and port.
    pub src: (u32, u16),
    /// New destination address and port.
    pub dst: (u32, u16),
    /// Change of the L4 checksum in this direction.
    pub l4_delta: u16,
    /// Change of the IPv4 header checksum in this direction.
    pub ip_delta: u16,
    /// Added to the sequence number.
    pub seq_add: u32,
    /// Added to the acknowledgement number.
    pub ack_add: u32,
    /// Server of the session.
    pub server: ServerId,
    /// Next hop in this direction.
    pub hop: HopId,
}

impl<P: PortPlan> SessionStore<'_, P> {
    /// First stage of a lookup.
    #[must_use]
    #[inline]
    pub fn begin(&self, probe: &Probe) -> Pending {
        let Some(local) = probe.local else {
            return Pending(match &probe.tuple {
                WireTuple::V4(tuple) => Stage::Hashed { v6: false, hash: self.v4.begin(tuple) },
                WireTuple::V6(tuple) => Stage::Hashed { v6: true, hash: self.v6.begin(tuple) },
            });
        };
        let slot = self.plan.slot_of(&probe.tuple).and_then(|within| match &probe.tuple {
            WireTuple::V4(_) => self.v4.begin_direct(local.0, within),
            WireTuple::V6(_) => self.v6.begin_direct(local.0, within),
        });
        Pending(slot.map_or(Stage::Nowhere, Stage::Guess))
    }

    /// Second stage of a lookup.
    #[inline]
    pub fn advance(&self, pending: &mut Pending) {
        if let Stage::Hashed { v6, hash } = pending.0 {
            let guess = if v6 { self.v6.guess(hash) } else { self.v4.guess(hash) };
            pending.0 = guess.map_or(Stage::Nowhere, Stage::Guess);
        }
    }

    /// How to translate an ordinary TCP segment (ACK, perhaps PSH, nothing to adjust in its options), if its
    /// session is plain and established and the candidate is right. Changes nothing.
    #[must_use]
    #[inline]
    pub fn plain(&self, candidate: Candidate, tuple: &TupleV4) -> Option<PlainV4> {
        if candidate.v6 { None } else { self.v4.plain(candidate, tuple) }
    }

    /// Counts and stamps the segment that [`plain`](Self::plain) has just told about.
    #[inline]
    pub fn commit_plain(&mut self, candidate: Candidate, now: Tick, bytes: u32) {
        self.v4.commit_plain(candidate, now, bytes);
    }
}

impl Table<'_, LineV4> {
    #[inline]
    fn plain(&self, candidate: Candidate, tuple: &TupleV4) -> Option<PlainV4> {
        let line = self.line(candidate.slot)?;
        let tail = &line.tail;
        let wanted = flag::LIVE | flag::PLAIN | flag::ANSWERED;
        let flags = tail.flags & (wanted | flag::LISTED);
        let established = tail.state_number() == TcpState::Established as u8;
        let ordinary = flags == wanted && established && tail.proto() == L4Proto::Tcp;
        if !ordinary || !line.same_key(candidate.direction, tuple) {
            return None;
        }
        let (client, virt) = ((line.client, line.client_port), (line.virt, line.virt_port));
        let (local, server) = ((line.local, line.local_port), (line.server, line.server_port));
        let id = ServerId(tail.server);
        Some(match candidate.direction {
            Direction::Inbound => PlainV4 {
                src: local,
                dst: server,
                l4_delta: tail.l4_delta,
                ip_delta: tail.ip_delta,
                seq_add: tail.seq_delta,
                ack_add: tail.ack_delta.wrapping_neg(),
                server: id,
                hop: HopId(tail.hop_in),
            },
            Direction::Return => PlainV4 {
                src: virt,
                dst: client,
                l4_delta: !tail.l4_delta,
                ip_delta: !tail.ip_delta,
                seq_add: tail.ack_delta,
                ack_add: tail.seq_delta.wrapping_neg(),
                server: id,
                hop: HopId(tail.hop_out),
            },
        })
    }

    #[inline]
    fn commit_plain(&mut self, candidate: Candidate, now: Tick, bytes: u32) {
        let Some(line) = self.line_mut(candidate.slot) else { return };
        line.tail.last_seen = now.0;
        if line.tail.carry(candidate.direction, bytes) {
            self.harvest(candidate.slot);
        }
    }
}
