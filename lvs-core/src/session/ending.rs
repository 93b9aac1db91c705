//! Sessions that are ended on purpose, and the templates that sessions hold.

use super::layout::{Line, flag};
use super::table::Table;
use super::{Candidate, SessionStore, TcpState};
use crate::id::SessionId;
use crate::plan::PortPlan;
use crate::time::Tick;
use crate::timeouts::TimeoutTicks;

impl<P: PortPlan> SessionStore<'_, P> {
    /// Writes down which persistence template a session holds. A stale handle changes nothing.
    pub fn set_template(&mut self, id: SessionId, template: Option<u32>) {
        if id.v6 {
            self.v6.set_template(id, template);
        } else {
            self.v4.set_template(id, template);
        }
    }

    /// A session is over, and both of its ends are to be told: it owes a reset to whoever sends next, and lives on
    /// as a closed one does. Returns its state before; `None` when the handle is stale or it owes one already.
    pub fn owe_reset(&mut self, id: SessionId, now: Tick) -> Option<TcpState> {
        let classes = self.classes.get(..self.used_classes).unwrap_or_default();
        if id.v6 {
            self.v6.owe_reset(id, now, classes)
        } else {
            self.v4.owe_reset(id, now, classes)
        }
    }

    /// Another state for a session whose packets do not tell it by TCP flags (SCTP). Returns the one before; `None`
    /// when the handle is stale.
    pub fn set_state(&mut self, id: SessionId, state: TcpState) -> Option<TcpState> {
        let classes = self.classes.get(..self.used_classes).unwrap_or_default();
        if id.v6 {
            self.v6.set_state(id, state, classes)
        } else {
            self.v4.set_state(id, state, classes)
        }
    }

    /// Whether a candidate's session owes a reset to whoever sends.
    #[must_use]
    pub fn owes_reset(&self, candidate: Candidate) -> bool {
        if candidate.v6 {
            self.v6.owes_reset(candidate.slot)
        } else {
            self.v4.owes_reset(candidate.slot)
        }
    }
}

impl<L: Line> Table<'_, L> {
    fn set_template(&mut self, id: SessionId, template: Option<u32>) {
        let slot = self.resolve(id);
        if let Some(cold) = slot.and_then(|slot| self.cold.get_mut(slot as usize)) {
            cold.template = template.map_or(0, |slot| slot.saturating_add(1));
        }
    }

    fn owe_reset(
        &mut self,
        id: SessionId,
        now: Tick,
        classes: &[TimeoutTicks],
    ) -> Option<TcpState> {
        let slot = self.resolve(id)?;
        let tail = self.lines.get_mut(slot as usize)?.tail_mut();
        if tail.has(flag::RESET_OWED) {
            return None;
        }
        tail.flags |= flag::RESET_OWED;
        tail.last_seen = now.0;
        let before = TcpState::from_number(tail.state_number());
        self.relist(slot, TcpState::Close, classes);
        Some(before)
    }

    fn set_state(
        &mut self,
        id: SessionId,
        state: TcpState,
        classes: &[TimeoutTicks],
    ) -> Option<TcpState> {
        let slot = self.resolve(id)?;
        let before = TcpState::from_number(self.lines.get(slot as usize)?.tail().state_number());
        self.relist(slot, state, classes);
        Some(before)
    }

    fn owes_reset(&self, slot: u32) -> bool {
        self.is_live(slot).is_some_and(|line| line.tail().has(flag::RESET_OWED))
    }
}
