//! Bursts on their way: read already, their memory being fetched, not yet carried out.
//!
//! ```text
//!   call k     look at burst k      ask for the lines of burst k-1      carry out burst k-2
//! ```
//!
//! While one burst is worked on, the buckets and session lines of the next two travel from memory. Only
//! full bursts wait, because only they say that more is queued; whatever follows a burst that is not full
//! would have to wait for traffic, so such a burst takes everything before it along to the end.

use crate::short::LONG_WAY;
use alloc::boxed::Box;
use lvs_core::io::{BURST, Burst, PortId};
use lvs_core::key::{KeyV4, KeyV6};
use lvs_core::session::Hint;

/// Most bursts that are under way at once.
pub const DEPTH: usize = 3;

/// What the first look at a packet found out.
pub(crate) mod kind {
    /// Nothing to do with what the short way reads; takes the long way and holds nobody up.
    pub(crate) const APART: u8 = 0;
    /// Not understood at a glance: everything behind it takes the long way.
    pub(crate) const UNCLEAR: u8 = 0x01;
    /// TCP whose key has been read.
    pub(crate) const KEYED: u8 = 0x02;
    /// IPv6.
    pub(crate) const V6: u8 = 0x04;
    /// A segment that may take the short way if its session is plain.
    pub(crate) const ORDINARY: u8 = 0x08;
    /// Its L4 checksum is partial.
    pub(crate) const PARTIAL: u8 = 0x10;
    /// Ethernet padding follows the IP packet.
    pub(crate) const PADDED: u8 = 0x20;

    /// The kind of an ordinary segment with so many bytes of padding.
    #[inline(always)]
    pub(crate) fn ordinary(v6: bool, padding: usize) -> u8 {
        let family = if v6 { V6 } else { 0 };
        KEYED | ORDINARY | family | (u8::from(padding != 0) * PADDED)
    }
}

/// Keys that wait for the directory: hashes, and the packets they belong to.
pub(crate) struct Asked {
    pub(crate) count: usize,
    pub(crate) packet: [u8; BURST],
    pub(crate) hash: [u64; BURST],
}

impl Asked {
    const NONE: Self = Self { count: 0, packet: [0; BURST], hash: [0; BURST] };

    /// The hash of a packet's key, if it was asked for. `from` is a place at or in front of that packet's, and moves
    /// on to it: to be asked in the order of packets.
    #[inline]
    pub(crate) fn hash_of(&self, number: u8, from: &mut usize) -> Option<u64> {
        while *from < self.count {
            let at = *self.packet.get(*from)?;
            if at >= number {
                return if at == number { self.hash.get(*from).copied() } else { None };
            }
            *from = from.wrapping_add(1);
        }
        None
    }
}

/// What is known of one packet under way; eight bytes, so that one pointer leads to all of it.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// Where its session probably is.
    pub(crate) hint: Hint,
    /// Bits of [`kind`].
    pub(crate) kind: u8,
    /// The port that it leaves by, once it has been edited.
    pub(crate) fate: u8,
}

/// One burst under way.
pub(crate) struct Stage<B> {
    pub(crate) burst: Burst<B>,
    pub(crate) port: PortId,
    pub(crate) looks: [Look; BURST],
    pub(crate) v4: Asked,
    pub(crate) v6: Asked,
    /// The hashes have become hints.
    pub(crate) advanced: bool,
    /// The director's epoch at the first look.
    pub(crate) epoch: u64,
    /// Sessions it had opened by then.
    pub(crate) opened: u64,
}

impl<B> Stage<B> {
    fn new() -> Self {
        Self {
            burst: Burst::new(),
            port: PortId(0),
            looks: [Look { hint: Hint::NOWHERE, kind: 0, fate: 0 }; BURST],
            v4: Asked::NONE,
            v6: Asked::NONE,
            advanced: true,
            epoch: 0,
            opened: 0,
        }
    }
}

impl<B> Stage<B> {
    /// The port by which all packets leave, which have been edited, if it is one.
    pub(crate) fn only_port(&self) -> Option<u8> {
        let looks = self.looks.get(..self.burst.len())?;
        let first = looks.first()?.fate;
        let other = looks.iter().fold(0, |other, look| other | (look.fate ^ first));
        (first != LONG_WAY && other == 0).then_some(first)
    }
}

/// Room for the keys of one burst while they are hashed.
pub(crate) struct Keys {
    pub(crate) v4: [KeyV4; BURST],
    pub(crate) v6: [KeyV6; BURST],
}

/// Where the first look at a burst puts what it asks the directory.
pub(crate) struct Asking<'a> {
    pub(crate) keys: &'a mut Keys,
    pub(crate) v4: &'a mut Asked,
    pub(crate) v6: &'a mut Asked,
}

/// The bursts under way, in a ring of places that are made once.
pub(crate) struct Flight<B> {
    stages: Box<[Stage<B>]>,
    first: usize,
    count: usize,
    keys: Box<Keys>,
    /// The newest burst has IPv6 in it, and so has the next one, probably.
    pub(crate) saw_v6: bool,
}

impl<B> Flight<B> {
    pub(crate) fn new() -> Self {
        Self {
            stages: (0..DEPTH).map(|_| Stage::new()).collect(),
            first: 0,
            count: 0,
            saw_v6: false,
            keys: Box::new(Keys { v4: [KeyV4::default(); BURST], v6: [KeyV6::default(); BURST] }),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Packets under way.
    pub(crate) fn packets(&self) -> usize {
        self.stages.iter().map(|stage| stage.burst.len()).sum()
    }

    /// Sends a burst on its way: its place, empty, and room for its keys. `None` while all are under way.
    pub(crate) fn enter(&mut self) -> Option<(&mut Stage<B>, &mut Keys)> {
        if self.count >= DEPTH {
            return None;
        }
        let at = self.first.wrapping_add(self.count) % DEPTH;
        self.count = self.count.wrapping_add(1);
        Some((self.stages.get_mut(at)?, &mut self.keys))
    }

    /// The oldest burst.
    pub(crate) fn oldest(&mut self) -> Option<&mut Stage<B>> {
        if self.count == 0 { None } else { self.stages.get_mut(self.first % DEPTH) }
    }

    /// The oldest burst has arrived: its place is free.
    pub(crate) fn leave(&mut self) {
        self.first = self.first.wrapping_add(1) % DEPTH;
        self.count = self.count.saturating_sub(1);
    }

    /// The places of all bursts; those that are not under way are empty.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stage<B>> {
        self.stages.iter_mut()
    }
}
