//! Persistence: a client stays with its server for a while after its sessions.
//!
//! A template says which server a client belongs to. It lives while the client has a session and for
//! [`Persistence::timeout`] after the last packet of its last session: never less, at most two ticks (0.14 s) more.
//! A session that never left the handshake does not prolong it, so a flood of SYNs leaves no templates behind.

use crate::addr::Family;
use crate::id::ServiceId;
use crate::shared::{Ending, Scope, TemplateKey};
use crate::time::Tick;
use core::net::IpAddr;
use core::time::Duration;

/// From when a template's time counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Since {
    /// From the last packet of its last session.
    #[default]
    LastPacket,
    /// From the opening of its newest session; while it has sessions, and until they have ended, it goes on by
    /// minutes. Linux `ip_vs_sched_persist` and `ip_vs_conn_expire`.
    LastConnection,
}

/// How clients stay with their servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "IP_VS_SVC_F_PERSISTENT")]
pub struct Persistence {
    /// How long a template outlives its sessions; at most [`Persistence::LONGEST`].
    pub timeout: Duration,
    /// Length of the IPv4 prefix whose clients count as one.
    #[doc(alias = "netmask")]
    pub prefix_v4: u8,
    /// The same for IPv6.
    pub prefix_v6: u8,
    /// Services with the same number share their templates: a client belongs to one host in all of them.
    #[doc(alias = "fwmark")]
    pub group: Option<u32>,
    /// A server with weight 0 gets no new sessions even of clients that belong to it.
    #[doc(alias = "expire_quiescent_template")]
    pub expire_quiescent: bool,
    /// A server at its upper threshold gets no new sessions even of clients that belong to it: they are served
    /// elsewhere and come back afterwards. Linux lets them through.
    pub hard_threshold: bool,
    /// From when the time counts.
    pub since: Since,
}

impl Default for Persistence {
    /// 600 s after the last packet, each client for itself.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(600),
            prefix_v4: 32,
            prefix_v6: 128,
            group: None,
            expire_quiescent: false,
            hard_threshold: false,
            since: Since::default(),
        }
    }
}

/// By how much Linux puts a template with sessions off.
const STEP: u32 = Tick::covering(Duration::from_secs(60));

impl Persistence {
    /// The longest time-out: 31 days, as in `ipvsadm`.
    pub const LONGEST: Duration = Duration::from_secs(31 * 86_400);

    /// The template of a client of a service.
    #[must_use]
    pub fn key(&self, service: ServiceId, client: IpAddr) -> TemplateKey {
        let scope = self.group.map_or(Scope::Service(service), Scope::Group);
        let len = match Family::of(&client) {
            Family::V4 => self.prefix_v4,
            Family::V6 => self.prefix_v6,
        };
        TemplateKey::new(scope, client, len)
    }

    fn after(&self, tick: Tick) -> Tick {
        let timeout = self.timeout.min(Self::LONGEST);
        Tick(tick.0.wrapping_add(Tick::covering(timeout)))
    }

    /// Until when a template lives at least when a session opens.
    #[must_use]
    pub fn opened(&self, now: Tick) -> Tick {
        match self.since {
            Since::LastPacket => now,
            Since::LastConnection => self.after(now),
        }
    }

    /// What the end of a session means for its template. `settled`: it was more than an attempt.
    #[must_use]
    pub fn ended(&self, now: Tick, last_packet: Tick, settled: bool) -> Ending {
        match self.since {
            Since::LastConnection => Ending::Steps { now, step: STEP },
            Since::LastPacket if settled => Ending::Until(self.after(last_packet)),
            Since::LastPacket => Ending::Plain,
        }
    }
}
