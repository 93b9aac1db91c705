//! Servers that go away: when their time has come, their sessions are ended, a share of the table per round.

use crate::director::Director;
use crate::outputs::Outputs;
use lvs_core::event::Closed;
use lvs_core::flow::L4Proto;
use lvs_core::id::{ServerId, SessionId};
use lvs_core::io::Lane;
use lvs_core::plan::PortPlan;
use lvs_core::session::{Cursor, Session, TcpState};
use lvs_core::time::Time;

/// How far a server is with going away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When the sessions of this worker are reset; `None` = never, or not decided before the next
    /// [`Director::tick`].
    pub deadline: Option<Time>,
    /// Sessions left, over all workers.
    pub sessions: u64,
}

/// Where the work on sessions of such servers stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drains {
    /// The deadlines of this configuration are known.
    known: bool,
    next: Option<Time>,
    scan: Option<Cursor>,
}

impl Drains {
    /// Whether there is work that should not wait for packets.
    pub(crate) const fn is_busy(&self) -> bool {
        self.scan.is_some()
    }
}

/// Slots looked at in one go, and goes per round.
const SLOTS: usize = 64;
const GOES: usize = 8;

impl<P: PortPlan> Director<'_, P> {
    /// How far a server is with going away; `None` for one that stays.
    #[must_use]
    pub fn draining(&self, server: ServerId) -> Option<Drain> {
        use lvs_core::service::ServerState::{DownKeep, DownKill, Draining, Removed};
        let state = self.snapshot().server(server)?.state;
        if !matches!(state, Draining { .. } | DownKeep | DownKill | Removed) {
            return None;
        }
        let own = || {
            let count = self.generation.server_count(server).copied().unwrap_or_default();
            u64::from(count.active).saturating_add(count.inactive.into())
        };
        let all = self.shared.servers.get(server);
        let sessions = all.map_or_else(own, |all| all.total());
        Some(Drain { deadline: self.generation.deadline(server), sessions })
    }

    /// Ends sessions of servers whose time has come.
    pub(crate) fn drain<L: Lane>(&mut self, now: Time, lane: &mut L, out: &mut Outputs<L::Buf>) {
        if !self.drains.known {
            self.drains.known = true;
            self.drains.next = self.next_end(now, None);
        }
        if self.drains.scan.is_none() {
            if self.drains.next.is_none_or(|next| now < next) {
                return;
            }
            self.drains.scan = Some(Cursor::default());
            self.drains.next = self.next_end(now, Some(now));
        }
        for _ in 0..GOES {
            let Some(cursor) = self.drains.scan else { return };
            let mut due: [Option<SessionId>; SLOTS] = [None; SLOTS];
            let mut places = due.iter_mut();
            let generation = &self.generation;
            let ends = |session: &Session| {
                generation.deadline(session.server).is_some_and(|deadline| deadline <= now)
            };
            self.drains.scan = self.store.scan(cursor, SLOTS as u32, |session| {
                if !session.reset_owed
                    && ends(session)
                    && let Some(place) = places.next()
                {
                    *place = Some(session.id);
                }
            });
            for id in due.into_iter().flatten() {
                self.end_session(now, lane, id, out);
            }
        }
    }

    /// The earliest deadline behind `after`. Servers seen for the first time begin their time now.
    fn next_end(&mut self, now: Time, after: Option<Time>) -> Option<Time> {
        let slots = self.snapshot().server_slots();
        let ids = (0..slots).filter_map(|index| u16::try_from(index).ok().map(ServerId));
        let mut first = None;
        for id in ids {
            let Some(end) = self.generation.ends(id, now) else { continue };
            if after.is_none_or(|after| end > after) && first.is_none_or(|first| end < first) {
                first = Some(end);
            }
        }
        first
    }

    /// Ends one session: what both ends have closed, and what has no connection, goes at once; of the others
    /// both ends are told.
    fn end_session<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        id: SessionId,
        out: &mut Outputs<L::Buf>,
    ) {
        let Some(session) = self.store.session(id) else { return };
        let over = matches!(session.state, TcpState::TimeWait | TcpState::Close);
        if session.quad.proto != L4Proto::Tcp || over {
            if let Some(session) = self.store.close(id) {
                self.generation.ended(session.server);
                self.closed(now.tick(), &session, Closed::Drained);
            }
            return;
        }
        let Some(before) = self.store.owe_reset(id, now.tick()) else { return };
        let (server, after) = (session.server, Some(TcpState::Close));
        self.generation.moved(&self.shared, server, Some(before), after);
        self.generation.ended(server);
        self.counters.sessions_reset = self.counters.sessions_reset.wrapping_add(1);
        self.ask_for_numbers(now, lane, &session, out);
    }
}
