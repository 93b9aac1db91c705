//! What a lab's server remembers about the addresses and ports that it sees: which of them came back,
//! and how soon.

use core::net::SocketAddr;
use core::time::Duration;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How long Linux keeps a connection in TIME-WAIT that it has closed first (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT: Duration = Duration::from_secs(60);

/// All peers of one server.
#[derive(Debug, Default)]
pub(super) struct Peers {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: HashMap<SocketAddr, Last>,
    accepted: u64,
    /// Came back while the server's kernel kept the connection before in TIME-WAIT.
    in_time_wait: u64,
    /// Came back while the server held the connection before for established, which then was reset.
    half_dead: u64,
    soonest: Option<Duration>,
    /// Were reset, or ended by another error.
    failed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Last {
    Open,
    Ended(End, Instant),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The server closed it first.
    ByServer,
    /// The client did.
    ByClient,
    /// It was reset, or something else went wrong with it.
    Failed,
}

impl Peers {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was accepted.
    pub(super) fn opened(&self, peer: SocketAddr) {
        let mut seen = self.seen();
        seen.accepted += 1;
        match seen.last.insert(peer, Last::Open) {
            // The reset may be seen before or after the connection that takes its place.
            Some(Last::Open | Last::Ended(End::Failed, _)) => seen.half_dead += 1,
            Some(Last::Ended(End::ByServer, at)) if at.elapsed() < TIME_WAIT => {
                let after = at.elapsed();
                seen.in_time_wait += 1;
                seen.soonest = Some(seen.soonest.map_or(after, |soonest| soonest.min(after)));
            }
            _ => {}
        }
    }

    /// A connection has ended. To be called before the socket is closed, so that the peer cannot be back
    /// already, except after a reset.
    pub(super) fn ended(&self, peer: SocketAddr, how: End) {
        let mut seen = self.seen();
        seen.failed += u64::from(how == End::Failed);
        seen.last.insert(peer, Last::Ended(how, Instant::now()));
    }

    pub(super) fn to_json(&self) -> Value {
        let seen = self.seen();
        json!({
            "accepted": seen.accepted,
            "in_time_wait": seen.in_time_wait,
            "half_dead": seen.half_dead,
            "failed": seen.failed,
            "soonest_s": seen.soonest.map(|soonest| soonest.as_secs_f64()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_comes_back_is_counted_by_what_was_left_of_it() {
        let peers = Peers::default();
        let peer = |port: u16| SocketAddr::from(([10, 1, 0, 100], port));
        let ends = [Some(End::ByServer), Some(End::ByClient), Some(End::Failed), None];
        for (port, how) in (1..).zip(ends) {
            peers.opened(peer(port));
            if let Some(how) = how {
                peers.ended(peer(port), how);
            }
        }
        for port in 1..=5 {
            peers.opened(peer(port));
        }
        let seen = peers.to_json();
        let counts =
            ["accepted", "in_time_wait", "half_dead", "failed"].map(|name| seen[name].as_u64());
        assert_eq!(counts, [Some(9), Some(1), Some(2), Some(1)]);
        assert!(seen["soonest_s"].as_f64().is_some());
    }
}
