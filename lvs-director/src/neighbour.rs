//! Next hops: who they are, what their Ethernet address is, and packets that wait for it.
//!
//! A next hop is a neighbour on a port. Sessions keep its number and hold a reference, so an entry is
//! given to somebody else only when no session uses it. A packet for a neighbour whose address is not
//! known yet is copied aside, within bounds: holding the packet itself would stop a receive ring.
//!
//! ```text
//!   Asking ──reply──► Known ──30 s──► Stale ──used──► asks again (unicast), still used
//!     │ 3 questions, 1 s apart             └─ 3 questions unanswered ─► Failed
//!     └──────────────► Failed ──after 1 s, when used──► Asking
//! ```

use alloc::boxed::Box;
use core::net::IpAddr;
use lvs_core::addr::MacAddr;
use lvs_core::id::HopId;
use lvs_core::io::{Gso, L4Csum, PortId, Vlan};
use lvs_core::snapshot::NextHop;
use lvs_core::time::Time;

const SECOND: u64 = 1_000_000_000;
/// How long an answer is trusted; RFC 4861 `REACHABLE_TIME`.
const TRUSTED: u64 = 30 * SECOND;
/// Time between questions; RFC 4861 `RETRANS_TIMER`.
const ASK_EVERY: u64 = SECOND;
/// Questions before a neighbour counts as failed; RFC 4861 `MAX_UNICAST_SOLICIT`.
const QUESTIONS: u8 = 3;
/// Steps of a probe in the table.
const WALK: usize = 16;
/// Packets that wait per next hop.
const WAIT_PER_HOP: u8 = 32;
/// Largest packet that may wait.
pub(crate) const WAIT_BYTES: usize = 2048;

/// What is known about a next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HopState {
    /// The place is free.
    #[default]
    Unused,
    /// Asked, no answer yet.
    Asking,
    /// It answered.
    Known,
    /// Its address is configured.
    Static,
    /// It did not answer.
    Failed,
}

/// A next hop, for listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopInfo {
    /// Its number.
    pub id: HopId,
    /// Where it is.
    pub hop: NextHop,
    /// What is known.
    pub state: HopState,
    /// Its Ethernet address, when known.
    pub mac: MacAddr,
    /// Sessions that use it.
    pub users: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    ip: IpAddr,
    port: PortId,
    state: HopState,
    mac: MacAddr,
    confirmed: Time,
    asked: Time,
    questions: u8,
    waiting: u8,
    users: u32,
}

const UNUSED: Entry = Entry {
    ip: IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
    port: PortId(0),
    state: HopState::Unused,
    mac: MacAddr::ZERO,
    confirmed: Time(0),
    asked: Time(0),
    questions: 0,
    waiting: 0,
    users: 0,
};

/// What a packet needs of a next hop that there is nothing to ask about: a copy of part of its entry and of its
/// port, small enough that those of many next hops stay near.
#[derive(Clone, Copy)]
pub(crate) struct Settled {
    /// Trusted before this time.
    until: Time,
    /// Ethernet destination and the first two bytes of the source, then its other four, as they stand in a
    /// frame.
    pub(crate) macs: ([u8; 8], [u8; 4]),
    pub(crate) port: PortId,
    /// Largest IP packet.
    pub(crate) most: u16,
}

impl Settled {
    const fn of(entry: &Entry, exit: &Exit) -> Self {
        let until = match entry.state {
            HopState::Static => u64::MAX,
            HopState::Known => entry.confirmed.0.saturating_add(TRUSTED),
            HopState::Unused | HopState::Asking | HopState::Failed => 0,
        };
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (entry.mac.0, exit.mac.0);
        Self {
            until: Time(until),
            macs: ([a, b, c, d, e, f, g, h], [i, j, k, l]),
            port: entry.port,
            most: exit.most,
        }
    }
}

/// What a port says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) mac: MacAddr,
    /// Largest IP packet; 0 on ports that the short way does not use.
    pub(crate) most: u16,
}

impl Exit {
    pub(crate) const NONE: Self = Self { mac: MacAddr::ZERO, most: 0 };
}

/// Ports that packets on the short way can leave by.
pub(crate) const EXITS: usize = 8;

/// A copy of a packet that waits.
pub(crate) struct Waiting {
    hop: Option<HopId>,
    /// Counts up: packets leave in the order in which they came.
    order: u64,
    pub(crate) len: usize,
    pub(crate) csum: L4Csum,
    pub(crate) gso: Option<Gso>,
    pub(crate) vlan: Option<Vlan>,
    pub(crate) l3: u16,
    pub(crate) l4: u16,
    pub(crate) payload: u16,
    pub(crate) bytes: [u8; WAIT_BYTES],
}

/// How to reach a next hop now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Send to this address; ask anew when told so.
    Send { mac: MacAddr, port: PortId, ask: bool },
    /// Not known; the packet may wait. Ask when told so.
    Wait { port: PortId, ask: bool },
    /// It does not answer.
    Failed,
}

/// A question to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) port: PortId,
    pub(crate) ip: IpAddr,
    /// The address last known: ask it alone.
    pub(crate) mac: Option<MacAddr>,
}

/// All next hops of one worker.
pub(crate) struct Neighbours {
    entries: Box<[Entry]>,
    /// By the same number; follows every change of an entry.
    settled: Box<[Settled]>,
    exits: [Exit; EXITS],
    waiting: Box<[Waiting]>,
    cursor: usize,
    order: u64,
    /// The number that was asked for last: many clients are behind one gateway.
    recent: HopId,
}

impl Neighbours {
    /// Room for at least `hops` next hops and `waiting` packets.
    pub(crate) fn new(hops: u16, waiting: u16) -> Self {
        let size = usize::from(hops).saturating_mul(2).next_power_of_two().clamp(16, 1 << 16);
        let empty = || Waiting {
            hop: None,
            order: 0,
            len: 0,
            csum: L4Csum::Unknown,
            gso: None,
            vlan: None,
            l3: 0,
            l4: 0,
            payload: 0,
            bytes: [0; WAIT_BYTES],
        };
        Self {
            entries: alloc::vec![UNUSED; size].into(),
            settled: alloc::vec![Settled::of(&UNUSED, &Exit::NONE); size].into(),
            exits: [Exit::NONE; EXITS],
            waiting: (0..waiting.max(1)).map(|_| empty()).collect(),
            cursor: 0,
            order: 0,
            recent: HopId(0),
        }
    }

    fn home(&self, hop: &NextHop) -> usize {
        let bits = match hop.via {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() ^ (v6.to_bits() >> 64)) as u64,
        };
        let mixed = (bits ^ (u64::from(hop.port.0) << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize & self.entries.len().wrapping_sub(1)
    }

    fn walk(&self, hop: &NextHop) -> impl Iterator<Item = usize> + use<> {
        let (home, mask) = (self.home(hop), self.entries.len().wrapping_sub(1));
        (0..WALK).map(move |step| home.wrapping_add(step) & mask)
    }

    /// Whether a number is that of a next hop.
    #[inline]
    fn is_at(&self, at: usize, hop: &NextHop) -> bool {
        self.entries.get(at).is_some_and(|entry| {
            entry.state != HopState::Unused && entry.ip == hop.via && entry.port == hop.port
        })
    }

    /// [`intern`](Self::intern), faster when the number is still what it was.
    #[inline]
    pub(crate) fn intern_near(&mut self, hop: &NextHop, last: HopId) -> Option<HopId> {
        if self.is_at(last.index(), hop) { Some(last) } else { self.intern(hop) }
    }

    /// A number, if it is still that of this next hop.
    #[inline]
    pub(crate) fn near(&self, hop: &NextHop, last: HopId) -> Option<HopId> {
        self.is_at(last.index(), hop).then_some(last)
    }

    /// The number of a next hop that is known already.
    pub(crate) fn find(&self, hop: &NextHop) -> Option<HopId> {
        let at = self.walk(hop).find(|at| self.is_at(*at, hop))?;
        u16::try_from(at).ok().map(HopId)
    }

    /// [`intern`](Self::intern) for the way to a client; a next hop that is about to be used keeps its number.
    #[inline]
    pub(crate) fn intern_beside(&mut self, kept: HopId, hop: &NextHop) -> Option<HopId> {
        if self.is_at(self.recent.index(), hop) {
            return Some(self.recent);
        }
        self.hold(kept);
        let id = self.intern(hop);
        self.release(kept);
        self.recent = id?;
        id
    }

    /// The number of a next hop; a new one takes a place that no session uses. `None` when there is none.
    pub(crate) fn intern(&mut self, hop: &NextHop) -> Option<HopId> {
        if let Some(id) = self.find(hop) {
            return Some(id);
        }
        let free = |entry: &Entry| entry.state == HopState::Unused;
        let idle = |entry: &Entry| {
            entry.users == 0 && entry.waiting == 0 && entry.state != HopState::Static
        };
        let at = self
            .walk(hop)
            .find(|at| self.entries.get(*at).is_some_and(free))
            .or_else(|| self.walk(hop).find(|at| self.entries.get(*at).is_some_and(idle)))?;
        *self.entries.get_mut(at)? =
            Entry { ip: hop.via, port: hop.port, state: HopState::Asking, ..UNUSED };
        self.settle(at);
        u16::try_from(at).ok().map(HopId)
    }

    /// A session begins to use a next hop.
    pub(crate) fn hold(&mut self, id: HopId) {
        if let Some(entry) = self.entries.get_mut(id.index()) {
            entry.users = entry.users.saturating_add(1);
        }
    }

    /// A session no longer uses a next hop.
    pub(crate) fn release(&mut self, id: HopId) {
        if let Some(entry) = self.entries.get_mut(id.index()) {
            entry.users = entry.users.saturating_sub(1);
        }
    }

    /// Enters a configured neighbour.
    pub(crate) fn set_static(&mut self, hop: &NextHop, mac: MacAddr) {
        let Some(id) = self.intern(hop) else { return };
        if let Some(entry) = self.entries.get_mut(id.index()) {
            (entry.state, entry.mac) = (HopState::Static, mac);
        }
        self.settle(id.index());
    }

    /// Forgets that neighbours were configured: they are asked again. For a new configuration.
    pub(crate) fn unset_static(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.state == HopState::Static) {
            (entry.state, entry.confirmed) = (HopState::Known, Time(0));
        }
        self.settle_all();
    }

    /// How to send to a next hop at `now`, and whether to ask for it.
    #[inline]
    pub(crate) fn reach(&mut self, id: HopId, now: Time) -> Reach {
        if let Some(entry) = self.entries.get(id.index())
            && entry.state == HopState::Static
        {
            return Reach::Send { mac: entry.mac, port: entry.port, ask: false };
        }
        self.reach_learned(id, now)
    }

    fn reach_learned(&mut self, id: HopId, now: Time) -> Reach {
        let reach = self.ask_or_send(id, now);
        self.settle(id.index());
        reach
    }

    fn ask_or_send(&mut self, id: HopId, now: Time) -> Reach {
        let Some(entry) = self.entries.get_mut(id.index()) else { return Reach::Failed };
        let due = now.0 >= entry.asked.0.saturating_add(ASK_EVERY) || entry.questions == 0;
        let (mac, port) = (entry.mac, entry.port);
        match entry.state {
            HopState::Static => Reach::Send { mac, port, ask: false },
            HopState::Known => {
                let fresh = now.0 < entry.confirmed.0.saturating_add(TRUSTED);
                if !fresh && due {
                    if entry.questions >= QUESTIONS {
                        entry.state = HopState::Failed;
                        entry.asked = now;
                        return Reach::Failed;
                    }
                    entry.questions = entry.questions.saturating_add(1);
                    entry.asked = now;
                    return Reach::Send { mac, port, ask: true };
                }
                Reach::Send { mac, port, ask: false }
            }
            HopState::Asking => {
                // Packets ask as long as there are questions left; giving up is the round's part, which
                // ever new questions would put off for ever.
                let ask = due && entry.questions < QUESTIONS;
                if ask {
                    entry.questions = entry.questions.saturating_add(1);
                    entry.asked = now;
                }
                Reach::Wait { port, ask }
            }
            HopState::Failed if !due => Reach::Failed,
            HopState::Failed => {
                (entry.state, entry.questions, entry.asked) = (HopState::Asking, 1, now);
                Reach::Wait { port, ask: true }
            }
            HopState::Unused => Reach::Failed,
        }
    }

    /// Whether a next hop has just failed, so that nothing can be sent to it now.
    pub(crate) fn is_down(&self, id: HopId, now: Time) -> bool {
        self.entries.get(id.index()).is_none_or(|entry| {
            entry.state == HopState::Failed && now.0 < entry.asked.0.saturating_add(ASK_EVERY)
        })
    }

    /// Copies what packets need of an entry that has changed.
    fn settle(&mut self, at: usize) {
        if let (Some(entry), Some(place)) = (self.entries.get(at), self.settled.get_mut(at)) {
            *place = Settled::of(entry, exit_of(&self.exits, entry));
        }
    }

    #[cold]
    fn settle_all(&mut self) {
        for (entry, place) in self.entries.iter().zip(&mut self.settled) {
            *place = Settled::of(entry, exit_of(&self.exits, entry));
        }
    }

    /// Takes note of what a port says about itself.
    #[inline]
    pub(crate) fn set_exit(&mut self, port: PortId, exit: &Exit) {
        let Some(place) = self.exits.get_mut(port.index()) else { return };
        if *place != *exit {
            *place = *exit;
            self.settle_all();
        }
    }

    /// Where a next hop is and its Ethernet address, when there is nothing to ask.
    #[inline(always)]
    pub(crate) fn settled(&self, id: HopId, now: Time) -> Option<&Settled> {
        self.settled.get(id.index()).filter(|settled| now.0 < settled.until.0)
    }

    /// Where a next hop is.
    pub(crate) fn hop(&self, id: HopId) -> Option<NextHop> {
        let entry = self.entries.get(id.index()).filter(|e| e.state != HopState::Unused)?;
        Some(NextHop { port: entry.port, via: entry.ip })
    }

    /// A neighbour told its address. If it is a known next hop: its number, and the address that counts,
    /// which is the configured one where there is one.
    pub(crate) fn learn(
        &mut self,
        hop: &NextHop,
        mac: MacAddr,
        now: Time,
    ) -> Option<(HopId, MacAddr)> {
        let id = self.find(hop)?;
        let entry = self.entries.get_mut(id.index())?;
        if entry.state != HopState::Static {
            (entry.state, entry.mac) = (HopState::Known, mac);
            (entry.confirmed, entry.questions) = (now, 0);
        }
        let mac = entry.mac;
        self.settle(id.index());
        Some((id, mac))
    }

    /// A place for a packet that waits for `id`; `None` when enough wait already.
    pub(crate) fn wait(&mut self, id: HopId) -> Option<&mut Waiting> {
        let entry = self.entries.get_mut(id.index())?;
        if entry.waiting >= WAIT_PER_HOP {
            return None;
        }
        let place = self.waiting.iter_mut().find(|place| place.hop.is_none())?;
        entry.waiting = entry.waiting.saturating_add(1);
        self.order = self.order.wrapping_add(1);
        (place.hop, place.order) = (Some(id), self.order);
        Some(place)
    }

    /// The oldest packet that waits for `id`. The caller sends it and calls again.
    pub(crate) fn resume(&mut self, id: HopId) -> Option<&Waiting> {
        let entry = self.entries.get_mut(id.index())?;
        entry.waiting = entry.waiting.checked_sub(1)?;
        let own = self.waiting.iter_mut().filter(|place| place.hop == Some(id));
        let place = own.min_by_key(|place| place.order)?;
        place.hop = None;
        Some(place)
    }

    /// One entry per call, going round: a question to repeat, a neighbour that has just failed, or one that
    /// packets need not wait for any longer.
    pub(crate) fn poll(&mut self, now: Time, budget: usize) -> Option<Poll> {
        for _ in 0..budget {
            let at = self.cursor;
            self.cursor =
                if at.wrapping_add(1) < self.entries.len() { at.wrapping_add(1) } else { 0 };
            let entry = self.entries.get_mut(at)?;
            if entry.state == HopState::Static && entry.waiting > 0 {
                let hop = NextHop { port: entry.port, via: entry.ip };
                return u16::try_from(at).ok().map(|id| Poll::Found(HopId(id), hop, entry.mac));
            }
            let due = now.0 >= entry.asked.0.saturating_add(ASK_EVERY);
            if entry.state != HopState::Asking || entry.questions == 0 || !due {
                continue;
            }
            if entry.questions >= QUESTIONS {
                (entry.state, entry.asked) = (HopState::Failed, now);
                return u16::try_from(at).ok().map(|id| Poll::Failed(HopId(id)));
            }
            entry.questions = entry.questions.saturating_add(1);
            entry.asked = now;
            return Some(Poll::Ask(Question { port: entry.port, ip: entry.ip, mac: None }));
        }
        None
    }

    /// Entries in the table, used or not.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// All next hops.
    pub(crate) fn iter(&self) -> impl Iterator<Item = HopInfo> {
        (0u16..).zip(&self.entries).filter(|(_, e)| e.state != HopState::Unused).map(|(id, e)| {
            HopInfo {
                id: HopId(id),
                hop: NextHop { port: e.port, via: e.ip },
                state: e.state,
                mac: e.mac,
                users: e.users,
            }
        })
    }
}

/// What is known about the port of an entry.
fn exit_of<'a>(exits: &'a [Exit; EXITS], entry: &Entry) -> &'a Exit {
    exits.get(entry.port.index()).unwrap_or(&Exit::NONE)
}

/// What [`Neighbours::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// Ask again.
    Ask(Question),
    /// Its address has been configured meanwhile; what waits for it may go.
    Found(HopId, NextHop, MacAddr),
    /// It does not answer; what waits for it is to be dropped.
    Failed(HopId),
}
