//! Errors about the director's own tunnel packets: whoever complains knows the director only, so the client whose
//! packet was inside is told, by an error about that packet; of an MTU, what is left of it for the client.
//!
//! What is believed: an error whose checksum is right, that was sent to the tunnel's own start, and quotes a
//! packet of a live session in a tunnel to that session's server. The client checks the numbers in what is quoted
//! (RFC 5927 section 4.1). What quotes too little to see the packet inside is left to the host.

use crate::admit::Packet;
use crate::director::{Director, Report};
use crate::emit::ETHERNET;
use crate::outputs::Outputs;
use crate::workers::quoted_tuple;
use core::net::IpAddr;
use lvs_core::addr::Family;
use lvs_core::flow::WireTuple;
use lvs_core::id::HopId;
use lvs_core::io::{L4Csum, Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::session::{OneWay, Probe, Segment};
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Headers, Parsed, Transport, icmpv4, icmpv6};
use lvs_nat::icmp::{
    Complaint, Offender, Tunnelled, Unreachable, checksum_is_right, complain_about, less_growth,
    tunnelled,
};

/// Longest error: IPv6 behind an Ethernet header.
const LONGEST: usize = 14 + 1280;
const TTL: u8 = 64;

/// An error about a packet of a live session.
struct About {
    found: Tunnelled,
    /// The packet inside, as the client sent it.
    tuple: WireTuple,
    complaint: Complaint,
    /// Next hop toward the client.
    hop: HopId,
    report: Report,
}

/// The tuple of the packet inside of the tunnel packet that an error quotes, and the rest of what it says.
pub(crate) fn tunnelled_tuple<B: PacketBuf>(packet: &Packet<B>) -> Option<(Tunnelled, WireTuple)> {
    let (data, headers) = (packet.buf.data(), &packet.headers);
    // Whether UDP to this port is a tunnel, the session's server says.
    let port = quoted_tuple(data, headers).map(|tuple| tuple.dport());
    let found = tunnelled(data, headers, port)?;
    let tuple = found.flow(data, headers)?;
    Some((found, tuple))
}

impl<P: PortPlan> Director<'_, P> {
    /// An ICMP error to an address of the box itself, if it is about a tunnel packet of a session here.
    #[cold]
    #[doc(alias = "ip_vs_icmp_tunnel")]
    pub(crate) fn tunnel_error<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        dst: &IpAddr,
        out: &mut Outputs<L::Buf>,
    ) -> Option<Report> {
        let about = self.about_tunnel(packet, dst)?;
        let verdict = self.relay(now, lane, packet, &about, out);
        Some(Report { verdict: verdict.unwrap_or_else(Verdict::Drop), ..about.report })
    }

    fn about_tunnel<B: PacketBuf>(&self, packet: &Packet<B>, dst: &IpAddr) -> Option<About> {
        let (found, tuple) = tunnelled_tuple(packet)?;
        let complaint = complaint_of(&packet.headers, &found).filter(|_| found.source == *dst)?;
        let candidate = self.store.lookup_one(&Probe { tuple, local: None })?;
        // Only looked at: an error keeps no session alive.
        let nothing = Segment { tcp_flags: None, bytes: 0 };
        let flow = self.store.peek(candidate, &tuple, nothing)?;
        let id = self.store.id_of(candidate)?;
        let server = self.snapshot().server(flow.server)?;
        if flow.one_way != Some(OneWay::Tunnel) || server.addr.ip() != found.server {
            return None;
        }
        let tunnel = self.way_of(OneWay::Tunnel, flow.server, flow.hop).ok()?.tunnel?;
        if tunnel.growth() != found.growth {
            return None;
        }
        let report = Report {
            verdict: Verdict::Release,
            session: Some(id),
            service: self.policy(&flow).service,
            server: Some(flow.server),
        };
        let hop = self.store.detail(id)?.hop_out;
        Some(About { found, tuple, complaint, hop, report })
    }

    fn relay<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        about: &About,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        let (data, headers) = (packet.buf.data(), &packet.headers);
        if checksum_is_right(data, headers) != Some(true) {
            return Err(DropReason::BadL4Checksum);
        }
        let inside = about.found.packet(data, headers);
        // An IPv4 client whose packets may be cut has not asked how large they may be.
        let asked = about.tuple.src().is_ipv6() || inside.get(6).is_some_and(|b| b & 0x40 != 0);
        if matches!(about.complaint, Complaint::TooBig { .. }) && !asked {
            return Ok(Verdict::Release);
        }
        if !self.complaints.take(now) {
            self.counters.icmp_limited = self.counters.icmp_limited.wrapping_add(1);
            return Err(DropReason::TooBig);
        }
        let way = self.neighbours.hop(about.hop).ok_or(DropReason::NoRoute)?;
        let link = [0; ETHERNET as usize];
        let offender = Offender { packet: inside, link: &link };
        let room = inside.len().saturating_add(link.len()).saturating_add(48).min(LONGEST);
        let mut buf = lane.alloc(room).ok_or(DropReason::NoBuffer)?;
        let (what, from) = (about.complaint, about.tuple.dst());
        let len = complain_about(&offender, what, from, TTL, buf.data_mut());
        buf.truncate(len.ok_or(DropReason::IcmpNoSession)?);
        let Ok(Parsed::Ip(headers)) = Headers::parse(buf.data(), buf.total_len()) else {
            return Err(DropReason::IcmpNoSession);
        };
        buf.set_l4_csum(L4Csum::Good, headers.l3, headers.l4);
        let error = Packet { buf, headers, port: way.port };
        let verdict = self.emit(now, lane, error, about.hop, out);
        self.count_error(verdict);
        Ok(verdict)
    }
}

/// What the client is told; `None` for what says nothing to it: an MTU of nobody knows how much, problems with parameters
/// of the outer header, requests to be quiet.
fn complaint_of(headers: &Headers, found: &Tunnelled) -> Option<Complaint> {
    use Family::{V4, V6};
    let Transport::Icmp { kind, code } = headers.transport else { return None };
    if let Some(mtu) = found.mtu {
        let mtu = less_growth(mtu, found.growth, found.family);
        return (mtu > 0).then_some(Complaint::TooBig { mtu });
    }
    let other = match (headers.family, kind) {
        (V4, icmpv4::UNREACHABLE) | (V6, icmpv6::UNREACHABLE) => {
            Complaint::Unreachable(Unreachable::Host)
        }
        (V4, icmpv4::TIME_EXCEEDED) | (V6, icmpv6::TIME_EXCEEDED) => Complaint::TimeExceeded,
        _ => return None,
    };
    // Types and codes of the other version mean something else.
    Some(if headers.family == found.family { Complaint::Relayed { kind, code } } else { other })
}
