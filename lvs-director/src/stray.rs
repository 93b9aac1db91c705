//! Segments that belong to no connection: dropped, and, where that is wanted, their sender is told by a reset, as a host
//! that has no such connection does (RFC 9293 section 3.10.7.1).
//!
//! A client whose session the director has lost then learns it at once instead of by its own time-outs. Sources may
//! be forged, so a token bucket bounds the resets; there are none by default.

use crate::admit::Packet;
use crate::client_addr::is_corrupt;
use crate::director::Director;
use crate::emit::ETHERNET;
use crate::outputs::Outputs;
use crate::reset::{Numbers, bare_frame};
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::io::{L4Csum, Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::session::tcp::flags::{ACK, FIN, RST, SYN};
use lvs_core::time::Time;
use lvs_core::verdict::DropReason;
use lvs_core::wire::Transport;

impl<P: PortPlan> Director<'_, P> {
    /// A segment is dropped because it belongs to no session: `reason` says why, and comes back.
    #[cold]
    #[doc(alias = "tcp_v4_send_reset")]
    pub(crate) fn stray<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        reason: DropReason,
        out: &mut Outputs<L::Buf>,
    ) -> DropReason {
        let Some((tuple, numbers)) = answer(packet) else { return reason };
        // A corrupt segment may be anybody's.
        if !self.resets.is_open() || is_corrupt(packet) || !self.resets.take(now) {
            return reason;
        }
        let sent = reset_frame(lane, packet, &tuple, numbers)
            .and_then(|buf| out.push(lane, packet.port, buf).map_err(|_full| DropReason::TxFull));
        match sent {
            Ok(()) => {
                self.counters.originated = self.counters.originated.wrapping_add(1);
                self.counters.strays_reset = self.counters.strays_reset.wrapping_add(1);
            }
            Err(reason) => self.counters.drop_one(reason),
        }
        reason
    }
}

/// What a segment without a connection is answered by; `None` for a reset, and for what is no TCP.
fn answer<B: PacketBuf>(packet: &Packet<B>) -> Option<(WireTuple, Numbers)> {
    let headers = &packet.headers;
    let Transport::Tcp { flags, seq, ack, .. } = headers.transport else { return None };
    let tuple = headers.tuple.filter(|tuple| tuple.proto() == L4Proto::Tcp)?.reverse();
    if flags & RST != 0 {
        return None;
    }
    if flags & ACK != 0 {
        return Some((tuple, Numbers::reset(ack)));
    }
    let marks = u32::from(flags & SYN != 0).wrapping_add(u32::from(flags & FIN != 0));
    let taken = headers.end.saturating_sub(u32::from(headers.payload)).wrapping_add(marks);
    Some((tuple, Numbers { seq: 0, ack: seq.wrapping_add(taken), flags: RST | ACK }))
}

/// The reset, back to where the segment came from, with its tags.
fn reset_frame<L: Lane>(
    lane: &mut L,
    packet: &Packet<L::Buf>,
    tuple: &WireTuple,
    numbers: Numbers,
) -> Result<L::Buf, DropReason> {
    let mut bytes = [0u8; 14 + 40 + 20];
    let len = bare_frame(tuple, numbers, &mut bytes).ok_or(DropReason::NoBuffer)?;
    let bytes = bytes.get(usize::from(ETHERNET)..len).unwrap_or_default();
    let l3 = packet.headers.l3;
    let link = packet.buf.data().get(..l3.into()).ok_or(DropReason::NoBuffer)?;
    let mut buf = lane.alloc(link.len().saturating_add(bytes.len())).ok_or(DropReason::NoBuffer)?;
    for (to, from) in buf.data_mut().iter_mut().zip(link.iter().chain(bytes)) {
        *to = *from;
    }
    if let Some(macs) = buf.data_mut().first_chunk_mut::<12>() {
        macs.rotate_left(6);
    }
    buf.set_vlan(packet.buf.vlan());
    let ip = if tuple.src().is_ipv4() { 20 } else { 40 };
    buf.set_l4_csum(L4Csum::Good, l3, l3.saturating_add(ip));
    Ok(buf)
}
