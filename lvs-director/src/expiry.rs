//! Sessions whose time has passed: they end at once, or, where the service wants it, an open connection's ends are told
//! first, as alibaba/LVS and DPVS do.
//!
//! An idle connection whose session is gone hangs until one of its ends speaks, so both are reset, each in its own
//! numbers. These are asked for ([`reset`](crate::reset), decision 0007): the session lives on as a closed one, owes
//! a reset, and ends for good when the time-out of CLOSE has passed. Looking at sessions and sending questions
//! are different calls, so a few wait in between.

use crate::director::Director;
use crate::outputs::Outputs;
use lvs_core::event::Closed;
use lvs_core::flow::L4Proto;
use lvs_core::id::SessionId;
use lvs_core::io::Lane;
use lvs_core::plan::PortPlan;
use lvs_core::session::{Session, TcpState};
use lvs_core::time::Time;

/// Questions that can wait for the next round; more sessions than this are not looked at before.
const WAITING: usize = 64;

/// Sessions that have to ask for their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    ids: [Option<SessionId>; WAITING],
    count: usize,
}

impl Default for Asking {
    fn default() -> Self {
        Self { ids: [None; WAITING], count: 0 }
    }
}

impl Asking {
    const fn is_full(&self) -> bool {
        self.count >= WAITING
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, id: SessionId) {
        if let Some(place) = self.ids.get_mut(self.count) {
            *place = Some(id);
            self.count = self.count.wrapping_add(1);
        }
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// Ends sessions whose time has passed, looking at no more than about `budget` of them; returns how
    /// many ended. To be called once per round, and more often when idle. Sessions whose ends are to be told first
    /// wait for [`tick`](Self::tick), a few of them for each call of it.
    #[doc(alias = "ip_vs_conn_expire")]
    pub fn expire(&mut self, now: Time, budget: u32) -> u32 {
        let mut budget = budget;
        let mut ended = 0u32;
        while !self.asking.is_full()
            && let Some(id) = self.store.next_expired(now.tick(), &mut budget)
        {
            if self.tells_its_ends(now, id) {
                continue;
            }
            let Some(session) = self.store.close(id) else { break };
            self.closed(now.tick(), &session, Closed::Expired);
            self.counters.sessions_expired = self.counters.sessions_expired.wrapping_add(1);
            ended = ended.wrapping_add(1);
        }
        ended
    }

    /// Whether an expired session tells its ends, and so lives on for a while.
    fn tells_its_ends(&mut self, now: Time, id: SessionId) -> bool {
        let Some(session) = self.store.session(id) else { return false };
        if !is_open(&session) || !self.generation.policy(session.server).reset_on_expiry {
            return false;
        }
        // The client is as gone as its last packet: what it leaves behind counts from there.
        self.let_go(now.tick(), &session);
        self.store.set_template(id, None);
        let Some(before) = self.store.owe_reset(id, now.tick()) else { return false };
        let after = Some(TcpState::Close);
        self.generation.moved(&self.shared, session.server, Some(before), after);
        self.counters.sessions_reset = self.counters.sessions_reset.wrapping_add(1);
        self.asking.push(id);
        true
    }

    /// Asks for the numbers of the sessions that have expired since the last round.
    pub(crate) fn ask_expired<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        out: &mut Outputs<L::Buf>,
    ) {
        if self.asking.is_empty() {
            return;
        }
        let asking = core::mem::take(&mut self.asking);
        for id in asking.ids.into_iter().flatten() {
            if let Some(session) = self.store.session(id) {
                self.ask_for_numbers(now, lane, &session, out);
            }
        }
    }
}

/// Whether both ends of a session hold a connection open that passes here both ways.
fn is_open(session: &Session) -> bool {
    session.quad.proto == L4Proto::Tcp
        && session.state == TcpState::Established
        && session.one_way.is_none()
        && !session.reset_owed
}
