//! Talking to neighbours: ARP and neighbour discovery, asked and answered.
//!
//! The director speaks for virtual and local addresses, and for a port's own addresses where the
//! configuration says so. It answers on a port when the address could be expected there: it lies in one
//! of the port's subnets, or in no subnet of any port.

use crate::admit::Packet;
use crate::director::{Director, Report};
use crate::neighbour::Question;
use crate::outputs::Outputs;
use core::net::{IpAddr, Ipv4Addr};
use lvs_core::addr::{MacAddr, Prefix};
use lvs_core::event::Event;
use lvs_core::id::HopId;
use lvs_core::io::{Lane, PacketBuf, PortId, Vlan};
use lvs_core::plan::PortPlan;
use lvs_core::snapshot::{Interface, NextHop, SelfOwner};
use lvs_core::time::Time;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_core::wire::NdpFrame;
use lvs_core::wire::arp::{Arp, ArpOperation};
use lvs_core::wire::ndp::{Ndp, NdpKind};

/// Whether the director speaks for an address on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Yes,
    /// The host's kernel does.
    Host,
    No,
}

impl<P: PortPlan> Director<'_, P> {
    fn speaks_for(&self, target: &IpAddr, port: PortId) -> Speaks {
        let snapshot = self.snapshot();
        let role = snapshot.role(target);
        if let Some(own) = role.own
            && snapshot.interface(own).is_none_or(|i| i.owner == SelfOwner::Host)
        {
            return Speaks::Host;
        }
        if !role.is_ours() {
            return Speaks::No;
        }
        let near = |interface: &Interface| {
            let mut own = interface.addresses.iter();
            own.any(|(ip, len)| Prefix::new(*ip, *len).is_some_and(|p| p.contains(target)))
        };
        let here = snapshot.interface(port).is_some_and(near);
        if here || !snapshot.interfaces().iter().any(near) { Speaks::Yes } else { Speaks::No }
    }

    /// Another host that uses an address of ours.
    fn conflict(&mut self, address: IpAddr, mac: MacAddr) -> Report {
        self.events.push(Event::AddressConflict { address, mac });
        DropReason::SpoofedSource.into()
    }

    pub(crate) fn arp<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        port: PortId,
        arp: &Arp,
        vlan: Option<Vlan>,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let (sender, target) = (IpAddr::V4(arp.sender_ip), IpAddr::V4(arp.target_ip));
        if self.snapshot().role(&sender).is_ours() {
            return self.conflict(sender, arp.sender_mac);
        }
        let speaks = self.speaks_for(&target, port);
        let hop = NextHop { port, via: sender };
        if arp.operation == ArpOperation::Request && speaks == Speaks::Yes {
            self.expect(&hop);
        }
        let learned = self.learn(now, lane, hop, arp.sender_mac, out);
        match (arp.operation, speaks) {
            (ArpOperation::Request, Speaks::Yes) => {
                let mac = self.mac(lane, port);
                let reply = arp.reply_from(mac);
                self.reply(lane, port, out, vlan, 46, |bytes| {
                    reply.emit(arp.sender_mac, None, bytes)
                })
            }
            _ if learned => Verdict::Absorb(Absorbed::NeighbourLearned).into(),
            (_, Speaks::Host) => Verdict::Release.into(),
            _ => DropReason::ArpForOther.into(),
        }
    }

    pub(crate) fn ndp<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let (data, port) = (packet.buf.data(), packet.port);
        let end = usize::try_from(packet.headers.end).unwrap_or(usize::MAX);
        let bytes = data.get(usize::from(packet.headers.l3)..end.min(data.len()));
        let ndp = match Ndp::parse(bytes.unwrap_or_default()) {
            Ok(ndp) => ndp,
            // Router messages and redirects are for the host.
            Err(_) if !is_neighbour_message(&packet.headers) => return Verdict::Release.into(),
            Err(malformed) => return DropReason::from(malformed).into(),
        };
        let asker = source_mac(data);
        let target = IpAddr::V6(ndp.target());
        let from = match ndp.kind() {
            NdpKind::Solicitation => IpAddr::V6(ndp.src()),
            NdpKind::Advertisement => target,
        };
        if self.snapshot().role(&from).is_ours() {
            return self.conflict(from, asker);
        }
        let speaks = self.speaks_for(&target, port);
        if ndp.kind() == NdpKind::Solicitation && speaks == Speaks::Yes {
            self.expect(&NextHop { port, via: from });
        }
        let learned = match ndp.link_address() {
            Some(mac) => self.learn(now, lane, NextHop { port, via: from }, mac, out),
            None => false,
        };
        match (ndp.kind(), speaks) {
            (NdpKind::Solicitation, Speaks::Yes) => {
                let answer = ndp.answer(self.mac(lane, port), asker);
                self.reply(lane, port, out, packet.buf.vlan(), 90, |bytes| answer.emit(None, bytes))
            }
            _ if learned => Verdict::Absorb(Absorbed::NeighbourLearned).into(),
            (_, Speaks::Host) => Verdict::Release.into(),
            _ => DropReason::ArpForOther.into(),
        }
    }

    /// Makes a frame of the director's own and queues it.
    fn originate<L: Lane>(
        &mut self,
        lane: &mut L,
        port: PortId,
        out: &mut Outputs<L::Buf>,
        vlan: Option<Vlan>,
        room: usize,
        emit: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(), DropReason> {
        let mut buf = lane.alloc(room).ok_or(DropReason::NoBuffer)?;
        let len = emit(buf.data_mut()).ok_or(DropReason::NoBuffer)?;
        buf.truncate(len);
        if vlan.is_some() {
            buf.set_vlan(vlan);
        }
        out.push(lane, port, buf).map_err(|_full| DropReason::TxFull)
    }

    fn reply<L: Lane>(
        &mut self,
        lane: &mut L,
        port: PortId,
        out: &mut Outputs<L::Buf>,
        vlan: Option<Vlan>,
        room: usize,
        emit: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Report {
        match self.originate(lane, port, out, vlan, room, emit) {
            Ok(()) => Verdict::Answer(port).into(),
            Err(reason) => reason.into(),
        }
    }

    /// Asks a neighbour for its address; a question that cannot be sent is counted and repeated later.
    pub(crate) fn ask<L: Lane>(
        &mut self,
        lane: &mut L,
        question: &Question,
        out: &mut Outputs<L::Buf>,
    ) {
        let port = question.port;
        let mac = self.mac(lane, port);
        let source = self.snapshot().source_for(port, &question.ip);
        let sent = match (question.ip, source) {
            (IpAddr::V4(target), source) => {
                // Without an address of its own on the port the question is a probe (RFC 5227).
                let source = match source {
                    Some(IpAddr::V4(source)) => source,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                let arp = Arp::request(mac, source, target);
                let to = question.mac.unwrap_or(MacAddr::BROADCAST);
                self.originate(lane, port, out, None, 46, |bytes| arp.emit(to, None, bytes))
            }
            (IpAddr::V6(target), Some(IpAddr::V6(source))) => {
                let frame = match question.mac {
                    Some(to) => NdpFrame::probe(mac, source, to, target),
                    None => NdpFrame::solicitation(mac, source, target),
                };
                self.originate(lane, port, out, None, 90, |bytes| frame.emit(None, bytes))
            }
            (IpAddr::V6(_), _) => Err(DropReason::NoRoute),
        };
        match sent {
            Ok(()) => self.counters.originated = self.counters.originated.wrapping_add(1),
            Err(reason) => self.counters.drop_one(reason),
        }
    }

    /// Whoever asks for an address of ours is about to talk to us: his answer will not have to wait
    /// (RFC 826, "packet reception"). Only hosts of the port's own subnets.
    fn expect(&mut self, hop: &NextHop) {
        if self.snapshot().route(hop.via) == Some(*hop) {
            // A table full of neighbours in use has no place; then the answer waits.
            let _ = self.neighbours.intern(hop);
        }
    }

    /// Takes over a neighbour's address if it is a known next hop, and sends what has waited for it; tells
    /// the other workers, which may wait for the same neighbour.
    fn learn<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        hop: NextHop,
        mac: MacAddr,
        out: &mut Outputs<L::Buf>,
    ) -> bool {
        if mac.is_host() && self.peers.is_some() && self.snapshot().route(hop.via) == Some(hop) {
            self.tell_peers(hop, mac);
        }
        self.learn_quietly(now, lane, hop, mac, out)
    }

    /// The same without telling anybody.
    pub(crate) fn learn_quietly<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        hop: NextHop,
        mac: MacAddr,
        out: &mut Outputs<L::Buf>,
    ) -> bool {
        if !mac.is_host() {
            return false;
        }
        let Some((id, mac)) = self.neighbours.learn(&hop, mac, now) else { return false };
        self.resume(lane, id, hop.port, mac, out);
        true
    }

    /// Sends what has waited for a next hop.
    pub(crate) fn resume<L: Lane>(
        &mut self,
        lane: &mut L,
        id: HopId,
        port: PortId,
        mac: MacAddr,
        out: &mut Outputs<L::Buf>,
    ) {
        let own = self.mac(lane, port);
        while let Some(waiting) = self.neighbours.resume(id) {
            let Some(mut buf) = lane.alloc(waiting.len) else {
                self.counters.drop_one(DropReason::NoBuffer);
                continue;
            };
            for (to, from) in buf.data_mut().iter_mut().zip(&waiting.bytes) {
                *to = *from;
            }
            buf.set_vlan(waiting.vlan);
            buf.set_gso(waiting.gso, waiting.payload);
            buf.set_l4_csum(waiting.csum, waiting.l3, waiting.l4);
            let sent = lvs_nat::set_macs(buf.data_mut(), mac, own).is_ok()
                && out.push(lane, port, buf).is_ok();
            if sent {
                self.counters.resumed = self.counters.resumed.wrapping_add(1);
            } else {
                self.counters.drop_one(DropReason::TxFull);
            }
        }
    }
}

fn is_neighbour_message(headers: &lvs_core::wire::Headers) -> bool {
    matches!(headers.transport, lvs_core::wire::Transport::Icmp { kind: 135 | 136, .. })
}

fn source_mac(frame: &[u8]) -> MacAddr {
    let (macs, _) = frame.as_chunks::<6>();
    macs.get(1).map_or(MacAddr::ZERO, |mac| MacAddr(*mac))
}
