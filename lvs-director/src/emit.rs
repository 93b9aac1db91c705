//! Last stage: can the packet leave at all, what does the port need done to it, and to whom does it go?

use crate::admit::Packet;
use crate::director::Director;
use crate::neighbour::{Question, Reach, WAIT_BYTES, Waiting};
use crate::one_way::Way;
use crate::outputs::Outputs;
use crate::oversize::may_be_cut;
use lvs_core::checksum::complete_partial;
use lvs_core::flow::L4Proto;
use lvs_core::id::HopId;
use lvs_core::io::{L4Csum, Lane, PacketBuf, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::time::Time;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_core::wire::{Headers, Transport};

/// Bytes of an Ethernet header without tags.
pub(crate) const ETHERNET: u16 = 14;

/// Takes all VLAN tags off a packet that leaves on another port: they name VLANs of the port it came from.
fn untag<B: PacketBuf>(packet: &mut Packet<B>) {
    if packet.buf.vlan().is_some() {
        packet.buf.set_vlan(None);
    }
    let tags = packet.headers.l3.saturating_sub(ETHERNET);
    if tags > 0 {
        take_out(packet, tags);
    }
}

/// Moves the Ethernet addresses over the tags behind them.
#[cold]
fn take_out<B: PacketBuf>(packet: &mut Packet<B>, tags: u16) {
    let data = packet.buf.data_mut();
    let Some(macs) = data.first_chunk::<12>().copied() else { return };
    for (to, from) in data.iter_mut().skip(tags.into()).zip(macs) {
        *to = from;
    }
    if packet.buf.pull_front(tags.into()).is_err() {
        return;
    }
    let headers = &mut packet.headers;
    headers.vlan = None;
    for offset in [&mut headers.l3, &mut headers.l4, &mut headers.payload] {
        *offset = offset.saturating_sub(tags);
    }
    headers.end = headers.end.saturating_sub(tags.into());
    if packet.buf.l4_csum() == L4Csum::Partial {
        packet.buf.set_l4_csum(L4Csum::Partial, headers.l3, headers.l4);
    }
    if let Some(gso) = packet.buf.gso() {
        packet.buf.set_gso(Some(gso), headers.payload);
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// The largest that the IP packet may be on `port`.
    pub(crate) fn most<L: Lane>(&self, lane: &L, packet: &Packet<L::Buf>, port: PortId) -> u16 {
        // A packet that stays on its port keeps its tags.
        let link = if port == packet.port { packet.headers.l3 } else { ETHERNET };
        self.mtu(lane, port).min(lane.caps(port).max_frame.saturating_sub(link))
    }

    /// Whether a packet will fit the way to `hop`, before anything is done to it. `growth` is what its
    /// headers will gain.
    pub(crate) fn fits<L: Lane>(
        &self,
        now: Time,
        lane: &L,
        packet: &Packet<L::Buf>,
        hop: HopId,
        growth: u16,
    ) -> Result<(), DropReason> {
        let Some(way) = self.neighbours.hop(hop) else { return Err(DropReason::NoRoute) };
        if self.neighbours.is_down(hop, now) {
            return Err(DropReason::NeighbourFailed);
        }
        let caps = lane.caps(way.port);
        let most = u32::from(self.most(lane, packet, way.port));
        let headers = &packet.headers;
        let len = match packet.buf.gso() {
            Some(gso) if !caps.gso.takes(gso.kind) => return Err(DropReason::NoGso),
            Some(gso) => {
                // A growing train is cut into smaller segments instead.
                let fixed = u32::from(headers.payload.saturating_sub(headers.l3));
                let size = if growth > 0 { 1 } else { u32::from(gso.size) };
                fixed.saturating_add(size)
            }
            None => headers.end.saturating_sub(u32::from(headers.l3)),
        };
        if len.saturating_add(u32::from(growth)) > most {
            // Without DF it is cut; a header that is to grow has other ways.
            let cut = growth == 0 && may_be_cut(packet, self.most(lane, packet, way.port));
            return if cut { Ok(()) } else { Err(DropReason::TooBig) };
        }
        if usize::from(growth) > packet.buf.headroom() {
            return Err(DropReason::NoHeadroom);
        }
        Ok(())
    }

    /// Sends a finished packet to a next hop, or lets it wait until the next hop's address is known.
    pub(crate) fn emit<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        hop: HopId,
        out: &mut Outputs<L::Buf>,
    ) -> Verdict {
        let Some(way) = self.neighbours.hop(hop) else { return Verdict::Drop(DropReason::NoRoute) };
        if way.port != packet.port {
            untag(&mut packet);
        }
        if self.is_too_long(lane, &packet, way.port, 0) {
            let way = Way::to(hop);
            return self.emit_in_pieces(now, lane, packet, &way, out).unwrap_or_else(Verdict::Drop);
        }
        self.finish_checksum(lane, way.port, &mut packet, true);
        self.send(now, lane, packet, hop, out)
    }

    /// What is left to be done to a packet before it is put into a tunnel on `port`. `completes`: the port knows how
    /// to complete a checksum in there.
    pub(crate) fn finish<L: Lane>(
        &mut self,
        lane: &L,
        port: PortId,
        packet: &mut Packet<L::Buf>,
        completes: bool,
    ) {
        if port != packet.port {
            untag(packet);
        }
        self.finish_checksum(lane, port, packet, completes);
    }

    /// Sends a packet to which everything is done.
    pub(crate) fn send<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        hop: HopId,
        out: &mut Outputs<L::Buf>,
    ) -> Verdict {
        let (reach, way) = (self.neighbours.reach(hop, now), self.neighbours.hop(hop));
        let Some(way) = way else { return Verdict::Drop(DropReason::NoRoute) };
        match reach {
            Reach::Failed => Verdict::Drop(DropReason::NeighbourFailed),
            Reach::Wait { port, ask } => {
                let verdict = self.set_aside(&packet, hop);
                if ask {
                    self.ask(lane, &Question { port, ip: way.via, mac: None }, out);
                }
                verdict
            }
            Reach::Send { mac, port, ask } => {
                if ask {
                    self.ask(lane, &Question { port, ip: way.via, mac: Some(mac) }, out);
                }
                let own = self.mac(lane, port);
                if lvs_nat::set_macs(packet.buf.data_mut(), mac, own).is_err() {
                    return Verdict::Drop(DropReason::MalformedEthernet);
                }
                match out.push(lane, port, packet.buf) {
                    Ok(()) => Verdict::Forward(port),
                    Err(_full) => Verdict::Drop(DropReason::TxFull),
                }
            }
        }
    }

    /// Completes a partial checksum where the port cannot.
    fn finish_checksum<L: Lane>(
        &mut self,
        lane: &L,
        port: PortId,
        packet: &mut Packet<L::Buf>,
        completes: bool,
    ) {
        if packet.buf.l4_csum() != L4Csum::Partial {
            return;
        }
        let Headers { l3, l4, .. } = packet.headers;
        if (completes && lane.caps(port).tx_csum) || packet.buf.gso().is_some() {
            packet.buf.set_l4_csum(L4Csum::Partial, l3, l4);
            return;
        }
        self.complete(packet);
    }

    /// Completes a partial checksum.
    pub(crate) fn complete<B: PacketBuf>(&mut self, packet: &mut Packet<B>) {
        if packet.buf.l4_csum() != L4Csum::Partial {
            return;
        }
        let Headers { l3, l4, end, transport, .. } = packet.headers;
        let proto = match transport {
            Transport::Tcp { .. } => L4Proto::Tcp,
            Transport::Udp => L4Proto::Udp,
            Transport::Icmp { .. } | Transport::Other(_) => return,
        };
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        let Some(bytes) = packet.buf.data_mut().get_mut(usize::from(l4)..end) else { return };
        if complete_partial(bytes, proto).is_ok() {
            packet.buf.set_l4_csum(L4Csum::Good, l3, l4);
            self.counters.csum_completed = self.counters.csum_completed.wrapping_add(1);
        }
    }

    /// Copies a packet to where it waits for a neighbour.
    fn set_aside<B: PacketBuf>(&mut self, packet: &Packet<B>, hop: HopId) -> Verdict {
        let (data, headers) = (packet.buf.data(), &packet.headers);
        if data.len() > WAIT_BYTES || packet.buf.total_len() != data.len() {
            return Verdict::Drop(DropReason::NeighbourPending);
        }
        let Some(place) = self.neighbours.wait(hop) else {
            return Verdict::Drop(DropReason::NeighbourPending);
        };
        let Waiting { len, csum, gso, vlan, l3, l4, payload, bytes, .. } = place;
        (*len, *csum, *gso) = (data.len(), packet.buf.l4_csum(), packet.buf.gso());
        *vlan = packet.buf.vlan();
        (*l3, *l4, *payload) = (headers.l3, headers.l4, headers.payload);
        for (to, from) in bytes.iter_mut().zip(data) {
            *to = *from;
        }
        Verdict::Absorb(Absorbed::WaitsForNeighbour)
    }
}
