//! The one word of a template that changes: its server, its sessions, and when it ends.
//!
//! ```text
//!   63        48 47          28 27             0
//!   [ server 16 ][ sessions 20 ][ deadline 28  ]     ticks modulo 2^28: 208 days
//! ```

use crate::id::ServerId;
use crate::time::Tick;

const DEADLINE: u64 = (1 << 28) - 1;
const SESSIONS: u64 = (1 << 20) - 1;
/// Sessions that one template counts; the next one is not linked to it.
const MOST: u64 = SESSIONS - 1;

/// No template.
pub(super) const FREE: u64 = u64::MAX;
/// Somebody is writing a key.
pub(super) const CLAIMED: u64 = u64::MAX - 1;
/// Somebody is taking the template out.
pub(super) const DEAD: u64 = u64::MAX - 2;

/// A template's changing part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) server: ServerId,
    pub(super) sessions: u32,
    /// Modulo 2^28.
    pub(super) deadline: u32,
}

/// Whether `a` lies behind `b`, both modulo 2^28.
const fn is_after(a: u32, b: u32) -> bool {
    let ahead = a.wrapping_sub(b) & DEADLINE as u32;
    ahead != 0 && ahead < 1 << 27
}

impl Life {
    /// With its first session.
    pub(super) const fn new(server: ServerId, deadline: Tick) -> Self {
        Self { server, sessions: 1, deadline: deadline.0 & DEADLINE as u32 }
    }

    /// `None` when there is no template.
    pub(super) const fn unpack(word: u64) -> Option<Self> {
        if word >= DEAD {
            return None;
        }
        Some(Self {
            server: ServerId((word >> 48) as u16),
            sessions: ((word >> 28) & SESSIONS) as u32,
            deadline: (word & DEADLINE) as u32,
        })
    }

    pub(super) const fn pack(self) -> u64 {
        ((self.server.0 as u64) << 48)
            | ((self.sessions as u64 & SESSIONS) << 28)
            | self.deadline as u64
    }

    /// Whether it still says where its client belongs.
    pub(super) const fn lives(&self, now: Tick) -> bool {
        self.sessions > 0 || is_after(self.deadline, now.0)
    }

    /// Ticks until the deadline; 0 when it has passed.
    pub(super) const fn left(&self, now: Tick) -> u32 {
        if is_after(self.deadline, now.0) {
            self.deadline.wrapping_sub(now.0) & DEADLINE as u32
        } else {
            0
        }
    }

    /// With one session more; `None` when they can no longer be counted.
    pub(super) const fn opened(self) -> Option<Self> {
        if self.sessions as u64 >= MOST {
            return None;
        }
        Some(Self { sessions: self.sessions.wrapping_add(1), ..self })
    }

    pub(super) const fn closed(self) -> Self {
        Self { sessions: self.sessions.saturating_sub(1), ..self }
    }

    /// Lives until `deadline` at least.
    pub(super) const fn until(self, deadline: Tick) -> Self {
        if is_after(deadline.0, self.deadline) {
            Self { deadline: deadline.0 & DEADLINE as u32, ..self }
        } else {
            self
        }
    }

    /// Its deadline put off by whole steps, until it is not before `now`.
    pub(super) const fn stepped(self, now: Tick, step: u32) -> Self {
        let late = now.0.wrapping_sub(self.deadline) & DEADLINE as u32;
        if step == 0 || late >= 1 << 27 {
            return self;
        }
        let by = late.div_ceil(step).saturating_mul(step);
        Self { deadline: self.deadline.wrapping_add(by) & DEADLINE as u32, ..self }
    }
}
