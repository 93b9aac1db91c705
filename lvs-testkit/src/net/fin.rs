//! A cure for a fault of the hosts' stack: smoltcp 0.14 can lose its FIN for good.
//!
//! Three duplicate acknowledgements start its fast retransmission, which sends the first unacknowledged
//! *data* and stops the retransmission timer. While only the FIN is unacknowledged there is no data:
//! nothing is sent, the timer stays off, and the socket waits in FIN-WAIT-1, CLOSING or LAST-ACK for
//! ever (`Socket::dispatch` and `Socket::seq_to_transmit` in its `src/socket/tcp.rs`). It takes a peer
//! that acknowledges segments it has already, and no FIN among them: usual where frames are lost,
//! doubled or late.
//!
//! The card of a host therefore lets only two acknowledgements of "everything but your FIN" through
//! to the stack, one less than it takes. They carry nothing else that a closing socket acts upon, and
//! a FIN that is lost is sent again when its timer runs out.

use crate::oracle::{self, Fields};
use core::net::SocketAddr;
use std::collections::BTreeMap;

/// Duplicate acknowledgements that start a fast retransmission (RFC 5681 section 3.2), less one.
const HARMLESS: u8 = 2;

const FIN: u8 = 0x01;
const ACK: u8 = 0x10;

/// The FINs that a host has sent, by its own address and the peer's: sequence number of the newest,
/// and how many acknowledgements of all before it have passed.
#[derive(Debug, Default)]
pub(super) struct FinGuard {
    sent: BTreeMap<(SocketAddr, SocketAddr), (u32, u8)>,
}

impl FinGuard {
    /// Notes a frame that the host sends.
    pub(super) fn sent(&mut self, frame: &[u8]) {
        let Some((of, from, to)) = tcp_fields(frame) else { return };
        let Some(tcp) = of.tcp.filter(|tcp| tcp.flags & FIN != 0) else { return };
        let seq = tcp.seq.wrapping_add(of.payload.len() as u32);
        let fin = self.sent.entry((from, to)).or_insert((seq, 0));
        if fin.0 != seq {
            *fin = (seq, 0);
        }
    }

    /// Whether a frame that arrives may reach the stack.
    pub(super) fn admits(&mut self, frame: &[u8]) -> bool {
        let Some((of, from, to)) = tcp_fields(frame) else { return true };
        let Some((seq, passed)) = self.sent.get_mut(&(to, from)) else { return true };
        let all_but_fin =
            of.payload.is_empty() && of.tcp.is_some_and(|t| t.flags == ACK && t.ack == *seq);
        // One with a wrong checksum never counts: the stack drops it.
        if !all_but_fin || oracle::checksums_ok(frame).is_err() {
            return true;
        }
        *passed = passed.saturating_add(1);
        *passed <= HARMLESS
    }
}

/// Fields, sender and receiver of a TCP segment.
fn tcp_fields(frame: &[u8]) -> Option<(Fields, SocketAddr, SocketAddr)> {
    let of = oracle::fields(frame).ok().filter(|of| of.tcp.is_some())?;
    let (sport, dport) = of.ports?;
    let (from, to) = (SocketAddr::new(of.src, sport), SocketAddr::new(of.dst, dport));
    Some((of, from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Packet, Tcp, tcp};

    const HOST: &str = "10.0.0.2:1000";
    const PEER: &str = "10.0.0.80:80";

    fn from_peer(ack: u32) -> Packet<Tcp> {
        tcp().from(PEER).to(HOST).ack(ack)
    }

    #[test]
    fn two_acknowledgements_of_all_but_the_fin_pass_and_the_third_does_not() {
        let mut guard = FinGuard::default();
        let all = from_peer(1010).build();
        assert!((0..9).all(|_| guard.admits(&all)), "no FIN was sent");
        guard.sent(&tcp().from(HOST).to(PEER).fin().seq(1000).payload([7; 10]).build());
        let damaged = from_peer(1010).wrong_l4_csum().build();
        assert!((0..9).all(|_| guard.admits(&damaged)), "the stack drops these itself");
        assert_eq!([(); 4].map(|()| guard.admits(&all)), [true, true, false, false]);
        // Data, the FIN of the peer, an older acknowledgement, that of the FIN, a reset: all pass.
        let other = [
            from_peer(1010).payload([1]),
            from_peer(1010).fin(),
            from_peer(1009),
            from_peer(1011),
            from_peer(1010).rst(),
        ];
        assert!(other.iter().all(|packet| guard.admits(&packet.clone().build())));
    }
}
