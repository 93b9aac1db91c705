//! How many sessions servers may have: thresholds, and how an overload begins and ends.
//!
//! Sessions are counted by walking through all of them. One that is about to open is promised its place first, and
//! has it until it is entered or given up.

use super::Model;
use lvs_core::id::ServerId;
use lvs_core::shared::Thresholds;

/// What a server may have, and where it stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limit {
    thresholds: Thresholds,
    promised: u32,
    pub(super) overloaded: bool,
}

impl Model {
    /// Every server has the thresholds of the newest configuration that knows it. A higher upper one, or none, ends
    /// the overload at once: Linux `__ip_vs_update_dest`.
    pub(super) fn settle_limits(&mut self) {
        for id in self.world.configured().to_vec() {
            for spec in self.world.service(id).servers.clone() {
                let server = self.world.server_number(id, spec.addr);
                let now = spec.thresholds;
                let limit = self.limits.entry(server.0).or_insert_with(|| {
                    // It has no sessions yet.
                    Limit { thresholds: now, ..Limit::default() }
                });
                let before = core::mem::replace(&mut limit.thresholds, now).upper;
                if now.upper == 0 || before != 0 && now.upper > before {
                    limit.overloaded = false;
                }
                self.judge(server);
            }
        }
    }

    pub(super) fn limit(&self, server: ServerId) -> Limit {
        self.limits.get(&server.0).copied().unwrap_or_default()
    }

    fn sessions_of(&self, server: ServerId) -> u32 {
        let live = self.sessions.live.iter().filter(|session| session.server == server);
        live.count() as u32 + self.limit(server).promised
    }

    /// Overload begins at the upper threshold. It ends below the lower one, or below three quarters of the upper one
    /// where there is no lower one.
    pub(super) fn judge(&mut self, server: ServerId) {
        let sessions = self.sessions_of(server);
        let Some(limit) = self.limits.get_mut(&server.0) else { return };
        let Thresholds { upper, lower } = limit.thresholds;
        let few = if lower != 0 { sessions < lower } else { sessions * 4 < upper * 3 };
        limit.overloaded = upper != 0 && (sessions >= upper || limit.overloaded && !few);
    }

    /// A place for one more session. `false`: there is none, unless it is to have one in any case.
    pub(super) fn promise(&mut self, server: ServerId, in_any_case: bool) -> bool {
        let (limit, sessions) = (self.limit(server), self.sessions_of(server));
        let upper = limit.thresholds.upper;
        if !in_any_case && upper != 0 && (limit.overloaded || sessions >= upper) {
            return false;
        }
        self.limits.entry(server.0).or_default().promised += 1;
        self.judge(server);
        true
    }

    /// The promised session is there, or will not be.
    pub(super) fn settle_promise(&mut self, server: ServerId) {
        self.limits.entry(server.0).or_default().promised -= 1;
        self.judge(server);
    }
}
