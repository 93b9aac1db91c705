//! When sessions end: short time-outs in lists, long ones by a sweeper.
//!
//! A time-out of at most ten seconds is watched by the list of its class and state, whose head is always the
//! oldest. Longer ones are found by a sweeper that passes over all lines in less than four seconds, a share of
//! them per tick. Nothing is relinked for an ordinary packet.

use super::layout::{Line, Tail, flag};
use super::lists::{CLASSES, KINDS, ListId};
use super::table::Table;
use super::tcp::TcpState;
use crate::flow::L4Proto;
use crate::time::{Tick, Time};
use crate::timeouts::{SctpPhase, TimeoutTicks};

/// The numbers of the UDP and the ICMP "state" behind the eleven of TCP.
const UDP_KIND: u8 = 11;
const ICMP_KIND: u8 = 12;
/// The number of the first phase of SCTP, behind them.
const SCTP_KINDS: u8 = 13;
/// Time-outs up to this are kept in lists, exact to a tick; longer ones are found by the sweeper.
pub(super) const SHORT: u32 = Tick::covering(core::time::Duration::from_secs(10));
/// The sweeper passes over the whole table in this many ticks: 4 s less the two ticks that counting
/// may add to a time-out.
const TURN: u32 = 57;

/// Ticks since `last`; 0 when the clock went back, so that nothing expires early.
const fn idle(now: Tick, last: u32) -> u32 {
    let ticks = now.since(Tick(last));
    if ticks > u32::MAX / 2 { 0 } else { ticks }
}

impl<L: Line> Table<'_, L> {
    pub(super) fn kind_of(tail: &Tail) -> u8 {
        match tail.proto() {
            L4Proto::Tcp => tail.state_number(),
            L4Proto::Udp => UDP_KIND,
            L4Proto::Icmp => ICMP_KIND,
            L4Proto::Sctp => {
                let phase = SctpPhase::of(TcpState::from_number(tail.state_number()));
                SCTP_KINDS.wrapping_add(phase.index() as u8)
            }
        }
    }

    pub(super) fn timeout(classes: &[TimeoutTicks], class: u8, kind: u8) -> u32 {
        let class = classes.get(usize::from(class)).or_else(|| classes.first());
        class.map_or(SHORT, |ticks| {
            let ticks = match kind {
                UDP_KIND => Some(&ticks.udp),
                ICMP_KIND => Some(&ticks.icmp),
                SCTP_KINDS.. => ticks.sctp.get(usize::from(kind.wrapping_sub(SCTP_KINDS))),
                _ => ticks.tcp.get(usize::from(kind)),
            };
            ticks.copied().unwrap_or(SHORT)
        })
    }

    /// Writes the state and puts the session at the end of the list that it now belongs to, if any.
    pub(super) fn relist(&mut self, slot: u32, state: TcpState, classes: &[TimeoutTicks]) {
        let (Some(line), Some(cold)) =
            (self.lines.get_mut(slot as usize), self.cold.get(slot as usize))
        else {
            return;
        };
        let class = cold.class;
        let tail = line.tail_mut();
        let was = ListId { class, kind: Self::kind_of(tail) };
        let listed = tail.has(flag::LISTED);
        tail.set_state_number(state.index() as u8);
        let is = ListId { class, kind: Self::kind_of(tail) };
        let short = Self::timeout(classes, class, is.kind) <= SHORT;
        tail.flags = if short { tail.flags | flag::LISTED } else { tail.flags & !flag::LISTED };
        if listed {
            self.lists.unlink(was, slot, self.cold);
        }
        if short {
            self.lists.append(is, slot, self.cold);
        }
    }

    /// Time-outs changed. Sessions in lists stay there. The sweeper keeps those that it has, until their
    /// state changes, even if their time-out is short now: appended to a list they would break its order.
    pub(super) fn set_classes(&mut self, before: &[TimeoutTicks], after: &[TimeoutTicks]) {
        let mut kinds = (0..CLASSES as u8).flat_map(|c| (0..KINDS as u8).map(move |k| (c, k)));
        let shortened = |(class, kind): (u8, u8)| {
            Self::timeout(before, class, kind) > SHORT && Self::timeout(after, class, kind) <= SHORT
        };
        self.strays = self.live > 0 && (self.strays || kinds.any(shortened));
        self.shortest_swept = after
            .iter()
            .flat_map(|ticks| ticks.tcp.iter().chain([&ticks.udp, &ticks.icmp]).chain(&ticks.sctp))
            .copied()
            .filter(|ticks| self.strays || *ticks > SHORT)
            .min()
            .unwrap_or(SHORT);
    }

    /// The next session whose time has passed, looking at no more than `budget` places. Budget is used up
    /// by what it looks at; call again until `None`. Lists and sweeper take turns at being first, so that
    /// neither starves on small budgets.
    pub(super) fn next_expired(
        &mut self,
        now: Tick,
        classes: &[TimeoutTicks],
        budget: &mut u32,
    ) -> Option<u32> {
        self.lists_first = !self.lists_first;
        if self.lists_first {
            self.next_short(now, classes, budget).or_else(|| self.next_long(now, classes, budget))
        } else {
            self.next_long(now, classes, budget).or_else(|| self.next_short(now, classes, budget))
        }
    }

    /// Looks at the oldest session of each list, once round from where an earlier call ended.
    pub(super) fn next_short(
        &mut self,
        now: Tick,
        classes: &[TimeoutTicks],
        budget: &mut u32,
    ) -> Option<u32> {
        let start = self.short_at;
        for (from, end) in [(start, KINDS.wrapping_mul(CLASSES)), (0, start)] {
            self.short_at = from;
            while let Some((at, id)) = self.lists.next_busy(self.short_at)
                && at < end
            {
                *budget = budget.checked_sub(1)?;
                self.short_at = at;
                let slot = self.lists.oldest(id)?;
                let last_seen = self.lines.get(slot as usize)?.tail().last_seen;
                if idle(now, last_seen) >= Self::timeout(classes, id.class, id.kind) {
                    return Some(slot);
                }
                self.short_at = at.wrapping_add(1);
            }
        }
        None
    }

    pub(super) fn next_long(
        &mut self,
        now: Tick,
        classes: &[TimeoutTicks],
        budget: &mut u32,
    ) -> Option<u32> {
        self.owe(now);
        while self.sweep_owed > 0 {
            *budget = budget.checked_sub(1)?;
            self.sweep_owed = self.sweep_owed.wrapping_sub(1);
            let at = self.sweep_at;
            let next = at.wrapping_add(1);
            self.sweep_at = if next >= self.lines.len() { 0 } else { next };
            let tail = self.lines.get(at)?.tail();
            if !tail.has(flag::LIVE) || tail.has(flag::LISTED) {
                continue;
            }
            let idle = idle(now, tail.last_seen);
            if idle < self.shortest_swept {
                continue;
            }
            let class = self.cold.get(at)?.class;
            if idle >= Self::timeout(classes, class, Self::kind_of(tail)) {
                return u32::try_from(at).ok();
            }
        }
        None
    }

    /// Every tick the sweeper owes its share of the table.
    pub(super) fn owe(&mut self, now: Tick) {
        let passed = now.since(self.swept);
        if passed == 0 {
            return;
        }
        self.swept = now;
        let all = u32::try_from(self.lines.len()).unwrap_or(u32::MAX);
        let share = all.div_ceil(TURN);
        self.sweep_owed = self.sweep_owed.saturating_add(share.saturating_mul(passed)).min(all);
    }

    /// When something may expire next, at the earliest; `None` while there is no session.
    pub(super) fn next_deadline(&self, now: Time) -> Option<Time> {
        (self.live > 0).then(|| Time((now.0 >> Tick::SHIFT).wrapping_add(1) << Tick::SHIFT))
    }
}
