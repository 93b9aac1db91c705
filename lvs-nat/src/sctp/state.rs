//! The states of an association as a balancer between its ends sees them (RFC 9260 sections 4, 5, 9).

use super::chunk::Event;
use lvs_core::flow::Direction;

/// State of an association. The client is who sent the first INIT.
///
/// ```text
///   None ─INIT─► InitSent ─INIT-ACK─► InitAcked ─COOKIE-ECHO─► CookieEchoed ─COOKIE-ACK─► Established
///                                                                                             │ SHUTDOWN
///        any ─ABORT─► Closed ◄─SHUTDOWN-COMPLETE─ ShutdownAcked ◄─SHUTDOWN-ACK─ ShutdownSent ◄┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "ip_vs_sctp_states")]
#[repr(u8)]
pub enum State {
    /// Nothing yet.
    #[default]
    None = 0,
    /// The client asked.
    InitSent = 1,
    /// The server answered with a cookie.
    InitAcked = 2,
    /// The cookie went back.
    CookieEchoed = 3,
    /// Open.
    Established = 4,
    /// One side wishes to end.
    ShutdownSent = 5,
    /// The other agreed.
    ShutdownAcked = 6,
    /// Over.
    Closed = 7,
}

impl State {
    /// The state after a packet; `None` when such a packet cannot open a session.
    ///
    /// A retransmission, a packet out of order and one that belongs to a restart (an INIT within an open
    /// association, RFC 9260 section 5.2.2) leave the state: the ends decide, and what they agree on
    /// passes here as well.
    #[must_use]
    pub const fn next(self, direction: Direction, event: Event) -> Option<Self> {
        use Direction::{Inbound, Return};
        Some(match (self, direction, event) {
            (Self::None | Self::Closed, Inbound, Event::Init { .. }) => Self::InitSent,
            (Self::None, _, _) => return None,
            (Self::Closed, _, _) | (_, _, Event::Abort { .. }) => Self::Closed,
            // A new start in the place of one that is ending.
            (Self::ShutdownAcked, Inbound, Event::Init { .. }) => Self::InitSent,
            (Self::InitSent, Return, Event::InitAck { .. }) => Self::InitAcked,
            (Self::InitAcked, Inbound, Event::CookieEcho) => Self::CookieEchoed,
            // Data of the server proves as well that it has accepted the cookie.
            (Self::CookieEchoed, Return, Event::CookieAck | Event::Other) => Self::Established,
            (Self::CookieEchoed | Self::Established, _, Event::Shutdown) => Self::ShutdownSent,
            (Self::ShutdownSent | Self::Established, _, Event::ShutdownAck) => Self::ShutdownAcked,
            (Self::ShutdownAcked, _, Event::ShutdownComplete { .. }) => Self::Closed,
            (state, _, _) => state,
        })
    }
}

/// The tags that the two ends chose; 0 where not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tags {
    /// Chosen by the client: stands in packets to it.
    pub client: u32,
    /// Chosen by the server: stands in packets to it.
    pub server: u32,
}

impl Tags {
    /// Whether a packet with the tag `tag` belongs to the association (RFC 9260 section 8.5), and what is
    /// known of the tags afterwards. A packet that does not is to be dropped: it could end the session
    /// of somebody else.
    ///
    /// The tags of an association that starts anew in the same session are learnt from
    /// [`Tags::default`] on, when [`State::next`] has gone back to [`State::InitSent`].
    #[must_use]
    pub const fn accept(self, direction: Direction, tag: u32, event: Event) -> Option<Self> {
        let (to, from) = match direction {
            Direction::Inbound => (self.server, self.client),
            Direction::Return => (self.client, self.server),
        };
        let (known, learnt) = match (event, direction) {
            // Section 8.5.1 A: an INIT has none. The newest counts until a server has answered.
            (Event::Init { .. }, _) if tag != 0 => return None,
            (Event::Init { tag: new }, Direction::Inbound) if self.server == 0 => {
                (0, Self { client: new, ..self })
            }
            (Event::Init { .. }, _) => (0, self),
            (Event::InitAck { tag: new }, Direction::Return) if self.server == 0 => {
                (to, Self { server: new, ..self })
            }
            // Sections 8.5.1 B and C: with the T bit the tag is the one of the packet's own sender.
            (Event::Abort { reflected: true }, _)
            | (Event::ShutdownComplete { reflected: true }, _) => (from, self),
            _ => (to, self),
        };
        // What has not passed here cannot be compared.
        if known == 0 || tag == known { Some(learnt) } else { None }
    }
}
