//! Sessions whose replies do not pass here: direct routing and tunnels.
//!
//! The server has the virtual address itself and answers the client past the director, so a session has one key,
//! its TCP states follow the client's segments alone (`INPUT_ONLY` rows of the kernel), and nothing of a packet
//! changes but its time to live. A tunnel comes last, behind all that looks at the packet's own headers:
//! tags are off and the checksum is finished by then. Trains that the port does not cut inside a tunnel are cut here.

use crate::admit::Packet;
use crate::carry::{count, reason_of};
use crate::director::Director;
use crate::outputs::Outputs;
use crate::oversize::may_be_cut;
use core::net::IpAddr;
use lvs_core::flow::{Direction, WireTuple};
use lvs_core::id::{HopId, ServerId};
use lvs_core::io::{L4Csum, Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::session::{Flow, OneWay, Segment};
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_nat::segment::Segments;
use lvs_nat::{Direct, Sending, Tunnel};

/// Segments that one train may be cut into: 64 KiB in the smallest that IPv4 asks hosts to take (RFC 1122).
const MOST_SEGMENTS: u16 = 128;

/// How packets reach a server: its own or within another packet.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) hop: HopId,
    pub(crate) tunnel: Option<Tunnel>,
}

impl Way {
    /// Without a tunnel.
    pub(crate) const fn to(hop: HopId) -> Self {
        Self { hop, tunnel: None }
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// The way of a session's packets to its server.
    pub(crate) fn way_of(
        &self,
        one_way: OneWay,
        server: ServerId,
        hop: HopId,
    ) -> Result<Way, DropReason> {
        let tunnel = match one_way {
            OneWay::Direct => None,
            OneWay::Tunnel => Some(self.tunnel_to(server, hop).ok_or(DropReason::NoRoute)?),
        };
        Ok(Way { hop, tunnel })
    }

    /// The outer header toward a server: from the director's address toward the next hop.
    fn tunnel_to(&self, server: ServerId, hop: HopId) -> Option<Tunnel> {
        let snapshot = self.snapshot();
        let server = snapshot.server(server)?;
        let (dst, next) = (server.addr.ip(), self.neighbours.hop(hop)?);
        let src: IpAddr = snapshot.source_for(next.port, &next.via)?;
        Tunnel::new(src, dst, server.tunnel)
    }

    /// A client's packet of a session that is there.
    pub(crate) fn pass_one_way<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        tuple: &WireTuple,
        segment: Segment,
        (flow, one_way): (&Flow, OneWay),
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        if packet.headers.ttl <= 1 {
            return Err(self.expired(now, lane, &packet, out));
        }
        let way = self.way_of(one_way, flow.server, flow.hop)?;
        self.fits_way_or_tell(now, lane, &packet, &way, out)?;
        let flow = self.store.packet(flow.candidate, tuple, now.tick(), segment);
        let flow = flow.ok_or(DropReason::NoSession)?;
        if flow.before != flow.after {
            self.generation.moved(&self.shared, flow.server, Some(flow.before), Some(flow.after));
        }
        if let Some(carried) = self.generation.carried(flow.server) {
            count(carried, Direction::Inbound, segment);
        }
        take_hop(&mut packet)?;
        self.send_way(now, lane, packet, &way, out)
    }

    /// Whether a packet fits the way to a server, whole or in parts; when not, its sender is told what does.
    pub(crate) fn fits_way_or_tell<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        way: &Way,
        out: &mut Outputs<L::Buf>,
    ) -> Result<(), DropReason> {
        let (fits, gain) = match way.tunnel {
            None => (self.fits(now, lane, packet, way.hop, 0), 0),
            Some(tunnel) => {
                (self.fits_tunnel(now, lane, packet, (way.hop, &tunnel)), tunnel.growth())
            }
        };
        fits.inspect_err(|&reason| {
            if reason == DropReason::TooBig {
                self.tell_too_big(now, lane, packet, (way.hop, gain), out);
            }
        })
    }

    fn fits_tunnel<L: Lane>(
        &self,
        now: Time,
        lane: &L,
        packet: &Packet<L::Buf>,
        (hop, tunnel): (HopId, &Tunnel),
    ) -> Result<(), DropReason> {
        let next = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?;
        let Some(gso) = packet.buf.gso() else {
            let fits = self.fits(now, lane, packet, hop, tunnel.growth());
            let most = self.most(lane, packet, next.port).saturating_sub(tunnel.growth());
            let cut = fits == Err(DropReason::TooBig) && may_be_cut(packet, most);
            return if cut { Ok(()) } else { fits };
        };
        if self.neighbours.is_down(hop, now) {
            return Err(DropReason::NeighbourFailed);
        }
        let headers = packet.headers.payload.saturating_sub(packet.headers.l3);
        let segment =
            headers.checked_add(gso.size).and_then(|len| len.checked_add(tunnel.growth()));
        if segment.is_none_or(|len| len > self.most(lane, packet, next.port)) {
            return Err(DropReason::TooBig);
        }
        if tunnel.is_cut_by(lane.caps(next.port).gso, gso.kind) {
            return Ok(());
        }
        self.segments(packet).map(drop)
    }

    fn segments<B: PacketBuf>(&self, packet: &Packet<B>) -> Result<Segments, DropReason> {
        let gso = packet.buf.gso().ok_or(DropReason::NoGso)?;
        let (data, csum) = (packet.buf.data(), packet.buf.l4_csum());
        Segments::new(data, &packet.headers, gso, csum, MOST_SEGMENTS)
            .map_err(|_| DropReason::NoGso)
    }

    /// Sends a packet that fits to a server.
    pub(crate) fn send_way<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        way: &Way,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        let Some(tunnel) = way.tunnel else {
            return Ok(self.emit(now, lane, packet, way.hop, out));
        };
        let port = self.neighbours.hop(way.hop).ok_or(DropReason::NoRoute)?.port;
        let caps = lane.caps(port).gso;
        if packet.buf.gso().is_some_and(|gso| !tunnel.is_cut_by(caps, gso.kind)) {
            return self.send_cut(now, lane, &packet, (way.hop, &tunnel), out);
        }
        if self.is_too_long(lane, &packet, port, tunnel.growth()) {
            return self.emit_in_pieces(now, lane, packet, way, out);
        }
        self.send_through(now, lane, packet, (way.hop, &tunnel), out)
    }

    /// Cuts a train and sends its parts; the verdict is that of the last part. Part of a train may be lost like
    /// any packet, and is counted.
    fn send_cut<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        to: (HopId, &Tunnel),
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        let segments = self.segments(packet)?;
        let mut last = Err(DropReason::NoGso);
        for index in 0..segments.count() {
            if let Ok(Verdict::Drop(reason)) | Err(reason) = last
                && index > 0
            {
                self.counters.drop_one(reason);
            }
            last = part(lane, &segments, index, packet)
                .and_then(|part| self.send_through(now, lane, part, to, out));
        }
        last
    }

    /// Puts a packet that is no train, or one that the port cuts, into a tunnel.
    pub(crate) fn send_through<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        (hop, tunnel): (HopId, &Tunnel),
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        let port = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?.port;
        let gso = lane.caps(port).gso;
        self.finish(lane, port, &mut packet, gso.in_tunnel);
        let sending = Sending { gso, ip_id: self.next_ip_id() };
        let inner = packet.headers.l3.saturating_add(tunnel.growth());
        let Packet { buf, headers, .. } = &mut packet;
        tunnel.apply(buf, headers, &sending).map_err(reason_of)?;
        // From here on only who completes a checksum asks where headers are: those of the packet inside.
        packet.headers.l3 = inner;
        Ok(self.send(now, lane, packet, hop, out))
    }
}

/// One hop less to live, in either mode.
pub(crate) fn take_hop<B: PacketBuf>(packet: &mut Packet<B>) -> Result<(), DropReason> {
    let taken = Direct::new(true).apply(packet.buf.data_mut(), &packet.headers);
    taken.map_err(reason_of)
}

/// One packet of a train.
fn part<L: Lane>(
    lane: &mut L,
    segments: &Segments,
    index: u16,
    train: &Packet<L::Buf>,
) -> Result<Packet<L::Buf>, DropReason> {
    let len = segments.len(index).ok_or(DropReason::NoGso)?;
    let mut buf = lane.alloc(len).ok_or(DropReason::NoBuffer)?;
    let written = segments.write(index, train.buf.data(), false, buf.data_mut());
    let (len, csum) = written.ok_or(DropReason::NoGso)?;
    debug_assert_ne!(csum, L4Csum::Partial);
    let mut headers = train.headers;
    headers.end = u32::try_from(len).map_err(|_| DropReason::NoGso)?;
    buf.set_gso(None, 0);
    buf.set_vlan(train.buf.vlan());
    buf.set_l4_csum(csum, headers.l3, headers.l4);
    Ok(Packet { buf, headers, port: train.port })
}
