//! Datagrams that are scheduled each for itself: no session opens, and nothing is remembered.
//!
//! A server's answer shows by its source which service it belongs to, so with NAT the virtual address is put back
//! without a session (the first service in the configuration that has this server). Persistence and time-outs mean
//! nothing here, thresholds count no datagram, and ICMP errors about such datagrams find no session.

use crate::admit::Packet;
use crate::carry::{AnyEnds, count, ends_of, reason_of, segment_of};
use crate::director::{Director, Report};
use crate::one_way::take_hop;
use crate::outputs::Outputs;
use lvs_core::event::Event;
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::id::{HopId, ServerId, ServiceId};
use lvs_core::io::{Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::quic;
use lvs_core::service::{Forwarding, VirtualService};
use lvs_core::session::{OneWay, Quad};
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_nat::{AnyRewrite, Rewrite, SeqDeltas};

/// How a packet without a session is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// By a session that it opens.
    Session,
    /// For itself.
    EachPacket,
    /// By the host.
    Host,
}

impl Served {
    pub(crate) fn by(service: &VirtualService, packet: &WireTuple) -> Self {
        if service.forwarding == Forwarding::Local {
            Self::Host
        } else if service.flags.one_packet && packet.proto() == L4Proto::Udp {
            Self::EachPacket
        } else {
            Self::Session
        }
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// What a scheduler is to see of a packet: its ends, or, for QUIC, its connection id instead of the client's
    /// address. A service with persistence goes by the address in any case.
    pub(crate) fn seen_by_scheduler<B: PacketBuf>(
        &self,
        service: ServiceId,
        tuple: &WireTuple,
        packet: &Packet<B>,
    ) -> WireTuple {
        let service = self.snapshot().service(service);
        let length = service.filter(|service| service.persistence.is_none());
        let length = length.and_then(|service| service.flags.quic);
        let Some(length) = length.filter(|_| tuple.proto() == L4Proto::Udp) else { return *tuple };
        let headers = &packet.headers;
        let end = usize::try_from(headers.end).unwrap_or(usize::MAX);
        let datagram = packet.buf.data().get(usize::from(headers.payload)..end);
        let id = datagram.and_then(|datagram| quic::destination_id(datagram, length));
        id.map_or(*tuple, |id| quic::flow(id, tuple.dst(), tuple.dport()))
    }

    /// A client's datagram.
    #[doc(alias = "IP_VS_SVC_F_ONEPACKET")]
    pub(crate) fn one_packet<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        service: ServiceId,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let mut report = Report::from(DropReason::NoServer);
        report.service = Some(service);
        let seen = self.seen_by_scheduler(service, tuple, &packet);
        let Some(server) = self.generation.pick(&self.shared, service, &seen) else {
            self.events.push(Event::NoServer { service });
            return report;
        };
        // No session begins.
        self.generation.unreserve(&self.shared, server);
        report.server = Some(server);
        let sent = self.send_to(now, lane, packet, tuple, (service, server), out);
        report.verdict = sent.unwrap_or_else(Verdict::Drop);
        report
    }

    /// A later fragment of a datagram whose first one went to, or came from, this server.
    pub(crate) fn one_packet_piece<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        to: (ServiceId, ServerId),
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let mut report = Report::from(DropReason::NoService);
        (report.service, report.server) = (Some(to.0), Some(to.1));
        let inbound = self.snapshot().classify(tuple).is_some();
        let sent = if inbound {
            self.send_to(now, lane, packet, tuple, to, out)
        } else {
            self.send_back(now, lane, packet, tuple, &mut report, out)
        };
        report.verdict = sent.unwrap_or_else(Verdict::Drop);
        report
    }

    fn send_to<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        tuple: &WireTuple,
        (service, server): (ServiceId, ServerId),
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        if packet.headers.ttl <= 1 {
            return Err(self.expired(now, lane, &packet, out));
        }
        let snapshot = self.snapshot();
        let forwarding = snapshot.service(service).ok_or(DropReason::NoService)?.forwarding;
        let addr = snapshot.server(server).ok_or(DropReason::NoServer)?.addr;
        let (there, last) = self.generation.way_to(server).ok_or(DropReason::NoRoute)?;
        let hop = self.neighbours.intern_near(&there, last).ok_or(DropReason::NoRoute)?;
        self.generation.note_hop(server, hop);
        let segment = segment_of(&packet, None);
        let one_way = match forwarding {
            Forwarding::Dr => Some(OneWay::Direct),
            Forwarding::Tun => Some(OneWay::Tunnel),
            Forwarding::Nat | Forwarding::FullNat | Forwarding::Local => None,
        };
        let way = match one_way {
            Some(one_way) => Some(self.way_of(one_way, server, hop)?),
            None => None,
        };
        match &way {
            Some(way) => self.fits_way_or_tell(now, lane, &packet, way, out)?,
            None => self.fits_or_tell(now, lane, &packet, (hop, 0), out)?,
        }
        if let Some(carried) = self.generation.carried(server) {
            count(carried, Direction::Inbound, segment);
        }
        if let Some(way) = way {
            take_hop(&mut packet)?;
            return self.send_way(now, lane, packet, &way, out);
        }
        let client = (tuple.src(), tuple.sport());
        let port = if addr.port() == 0 { tuple.dport() } else { addr.port() };
        let quad = Quad {
            proto: L4Proto::Udp,
            client,
            virt: (tuple.dst(), tuple.dport()),
            local: client,
            server: (addr.ip(), port),
        };
        self.rewritten(now, lane, packet, (&quad, Direction::Inbound), hop, out)
    }

    /// A server's datagram to a client.
    pub(crate) fn one_packet_reply<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        service: ServiceId,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let mut report = Report::from(DropReason::NoService);
        report.service = Some(service);
        let sent = self.send_back(now, lane, packet, tuple, &mut report, out);
        report.verdict = sent.unwrap_or_else(Verdict::Drop);
        report
    }

    fn send_back<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        tuple: &WireTuple,
        report: &mut Report,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        if packet.headers.ttl <= 1 {
            return Err(self.expired(now, lane, &packet, out));
        }
        let snapshot = self.snapshot();
        let service = report.service.and_then(|id| snapshot.service(id));
        let service = service.ok_or(DropReason::NoService)?;
        let from = |id: &&ServerId| {
            let addr = snapshot.server(**id).map(|server| server.addr);
            addr.is_some_and(|addr| {
                addr.ip() == tuple.src() && (addr.port() == 0 || addr.port() == tuple.sport())
            })
        };
        let server = service.servers.iter().find(from).copied().ok_or(DropReason::NoServer)?;
        let virt = service.key.addr;
        let port = if virt.port() == 0 { tuple.sport() } else { virt.port() };
        let back = snapshot.route(tuple.dst()).ok_or(DropReason::NoRoute)?;
        let hop = self.neighbours.intern(&back).ok_or(DropReason::NoRoute)?;
        report.server = Some(server);
        self.fits_or_tell(now, lane, &packet, (hop, 0), out)?;
        if let Some(carried) = self.generation.carried(server) {
            count(carried, Direction::Return, segment_of(&packet, None));
        }
        let client = (tuple.dst(), tuple.dport());
        let quad = Quad {
            proto: L4Proto::Udp,
            client,
            virt: (virt.ip(), port),
            local: client,
            server: (tuple.src(), tuple.sport()),
        };
        self.rewritten(now, lane, packet, (&quad, Direction::Return), hop, out)
    }

    fn rewritten<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        (quad, direction): (&Quad, Direction),
        hop: HopId,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        let (inbound, seq) = (direction == Direction::Inbound, SeqDeltas::default());
        let rewrite = match ends_of(quad).ok_or(DropReason::NoService)? {
            AnyEnds::V4(ends) if inbound => {
                AnyRewrite::V4(Rewrite::inbound(&ends, ends.deltas(), seq))
            }
            AnyEnds::V4(ends) => AnyRewrite::V4(Rewrite::returning(&ends, ends.deltas(), seq)),
            AnyEnds::V6(ends) if inbound => {
                AnyRewrite::V6(Rewrite::inbound(&ends, ends.deltas(), seq))
            }
            AnyEnds::V6(ends) => AnyRewrite::V6(Rewrite::returning(&ends, ends.deltas(), seq)),
        };
        let csum = packet.buf.l4_csum();
        let edited =
            rewrite.decrement_ttl(true).apply(packet.buf.data_mut(), &packet.headers, csum);
        edited.map_err(reason_of)?;
        Ok(self.emit(now, lane, packet, hop, out))
    }
}
