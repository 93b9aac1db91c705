//! Which server a new session goes to: the client's own, if it has one, else the scheduler's choice; counted
//! on it before the session opens, so that no number of workers exceeds a threshold.

use crate::director::Director;
use lvs_core::event::Event;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::{ServerId, ServiceId};
use lvs_core::persistence::Persistence;
use lvs_core::plan::PortPlan;
use lvs_core::session::Session;
use lvs_core::shared::{Ending, Hold, Inserted, Spot};
use lvs_core::time::{Tick, Time};

use crate::generation::is_half_open;

/// A server, with one session counted on it, and the template that the session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) server: ServerId,
    pub(crate) template: Option<u32>,
}

impl<P: PortPlan> Director<'_, P> {
    /// Chooses and counts. `None`: no server may get the session.
    pub(crate) fn assign(
        &mut self,
        now: Time,
        service: ServiceId,
        tuple: &WireTuple,
    ) -> Option<Assigned> {
        self.generation.look_around(&self.shared, service);
        self.assign_seen(now, service, tuple)
    }

    /// The same, with what is known of other workers' sessions.
    pub(crate) fn assign_seen(
        &mut self,
        now: Time,
        service: ServiceId,
        tuple: &WireTuple,
    ) -> Option<Assigned> {
        let persistence = self.snapshot().service(service)?.persistence;
        let Some(policy) = persistence else {
            let server = self.generation.pick(&self.shared, service, tuple)?;
            return Some(Assigned { server, template: None });
        };
        let spot = self.shared.templates.spot(&policy.key(service, tuple.src()));
        self.assign_at(now, service, tuple, (&policy, &spot))
    }

    /// The same for a client of a persistent service, whose template is, or will be, at `spot`.
    pub(crate) fn assign_at(
        &mut self,
        now: Time,
        service: ServiceId,
        tuple: &WireTuple,
        (policy, spot): (&Persistence, &Spot),
    ) -> Option<Assigned> {
        let tick = now.tick();
        if let Some(hold) = self.shared.templates.find_at(spot, tick, policy.opened(tick)) {
            return self.follow(service, tuple, policy, hold);
        }
        let server = self.generation.pick(&self.shared, service, tuple)?;
        match self.shared.templates.insert_at(spot, server, tick, policy.opened(tick)) {
            Inserted::New(hold) => Some(Assigned { server, template: Some(hold.slot) }),
            Inserted::Other(hold) => Some(self.settle_on(service, policy, server, hold)),
            Inserted::Full => {
                self.counters.templates_full = self.counters.templates_full.wrapping_add(1);
                self.events.push(Event::TemplatesFull { service });
                Some(Assigned { server, template: None })
            }
        }
    }

    /// The client has a template. Its server is asked first; when that may get no new sessions at all the client
    /// moves, and when it is only full, this session goes elsewhere.
    fn follow(
        &mut self,
        service: ServiceId,
        tuple: &WireTuple,
        policy: &Persistence,
        hold: Hold,
    ) -> Option<Assigned> {
        let template = Some(hold.slot);
        let usable = self.generation.usable(service, hold.server, policy);
        if let Some(server) = usable
            && self.generation.reserve(&self.shared, server, !policy.hard_threshold)
        {
            self.counters.sessions_persistent = self.counters.sessions_persistent.wrapping_add(1);
            return Some(Assigned { server, template });
        }
        let Some(server) = self.generation.pick(&self.shared, service, tuple) else {
            self.shared.templates.release(hold.slot, Ending::Plain);
            return None;
        };
        if usable.is_some() {
            self.shared.templates.release(hold.slot, Ending::Plain);
            return Some(Assigned { server, template: None });
        }
        self.generation.left(hold.server);
        let hold = self.shared.templates.retarget(hold, server);
        Some(self.settle_on(service, policy, server, hold))
    }

    /// A template was entered or changed, perhaps by another worker at the same time: what it says counts, if that
    /// server can be used. `mine` has been counted.
    fn settle_on(
        &mut self,
        service: ServiceId,
        policy: &Persistence,
        mine: ServerId,
        hold: Hold,
    ) -> Assigned {
        if hold.server == mine {
            return Assigned { server: mine, template: Some(hold.slot) };
        }
        let theirs = self.generation.usable(service, hold.server, policy);
        let theirs = theirs.filter(|server| {
            self.generation.reserve(&self.shared, *server, !policy.hard_threshold)
        });
        let Some(server) = theirs else {
            self.shared.templates.release(hold.slot, Ending::Plain);
            return Assigned { server: mine, template: None };
        };
        self.generation.unreserve(&self.shared, mine);
        self.counters.sessions_persistent = self.counters.sessions_persistent.wrapping_add(1);
        Assigned { server, template: Some(hold.slot) }
    }

    /// The session was not opened after all.
    pub(crate) fn unassign(&mut self, assigned: &Assigned) {
        self.generation.unreserve(&self.shared, assigned.server);
        if let Some(slot) = assigned.template {
            self.shared.templates.release(slot, Ending::Plain);
        }
    }

    /// A closed session gives its template back.
    pub(crate) fn let_go(&mut self, now: Tick, session: &Session) {
        let Some(slot) = session.template else { return };
        let attempt = session.quad.proto == L4Proto::Tcp && is_half_open(session.state);
        let policy = self.generation.policy(session.server).persistence;
        // A service that is no longer persistent leaves its templates to themselves.
        let ending =
            policy.map_or(Ending::Plain, |policy| policy.ended(now, session.last_seen, !attempt));
        self.shared.templates.release(slot, ending);
    }
}
