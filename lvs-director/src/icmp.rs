//! ICMP: errors about packets of sessions are translated, with the packet that they quote, and sent on to whoever
//! sent that packet; echo messages are packets of sessions, where a service asks for them.
//!
//! What is believed: an error whose checksum is right, that quotes a packet of a live session as this director has
//! sent it, and that is addressed to the sender of that packet. Whether the quoted sequence number is one that
//! was really sent, the receiver checks (RFC 5927 section 4.1); the session does not change.

use crate::admit::Packet;
use crate::carry::{reason_of, rewrite_of};
use crate::client_addr::growth;
use crate::director::{Director, Report};
use crate::one_way::take_hop;
use crate::outputs::Outputs;
use crate::proxy::list_of;
use core::net::IpAddr;
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::io::{Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::session::{Candidate, Missed, Probe, Quad, Segment};
use lvs_core::snapshot::Role;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Fragment, Headers, Transport};
use lvs_nat::icmp::{Carried, Embedded, ErrorEdit, checksum_is_right, echo, embedded};

/// Whether a packet is an ICMP error: RFC 792 (unreachable, quench, time exceeded, parameter problem), RFC 4443
/// section 2.1 (all errors are below 128).
pub(crate) const fn is_error(headers: &Headers) -> bool {
    match (headers.transport, headers.fragment) {
        (Transport::Icmp { kind, .. }, Fragment::No) => match headers.family {
            lvs_core::addr::Family::V4 => matches!(kind, 3 | 4 | 11 | 12),
            lvs_core::addr::Family::V6 => kind < 128,
        },
        _ => false,
    }
}

/// A session that an error is about.
struct About {
    quote: Embedded,
    /// The way back of the quoted packet.
    tuple: WireTuple,
    candidate: Candidate,
}

impl<P: PortPlan> Director<'_, P> {
    /// Whatever ICMP brings to `dst` but neighbour discovery.
    pub(crate) fn icmp<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        (dst, role): (&IpAddr, Role),
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        if is_error(&packet.headers) {
            self.icmp_error(now, lane, packet, (dst, role), out)
        } else {
            self.icmp_query(now, lane, packet, role, out)
        }
    }

    /// An echo message is a packet of a flow (RFC 5508 section 3): requests come from the client, replies from the
    /// server, and a service of protocol ICMP opens sessions for requests. What belongs to none is answered where it is.
    fn icmp_query<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        role: Role,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let echo = echo(packet.buf.data(), &packet.headers);
        if let Some(echo) = echo
            && let Some(tuple) = echo.tuple()
        {
            packet.headers.tuple = Some(tuple);
            let found = self.store.lookup_one(&Probe { tuple, local: role.local });
            if let Some(candidate) = found.filter(|found| asks(found.direction) == echo.request) {
                return self.carry(now, lane, packet, &tuple, candidate, out);
            }
        }
        if let Some(handed) = self.elsewhere(&packet, role) {
            return handed;
        }
        packet.headers.tuple =
            packet.headers.tuple.filter(|_| echo.is_some_and(|echo| echo.request));
        self.miss(now, lane, packet, (role, Missed::default()), out)
    }

    /// An ICMP error that was addressed to `dst`.
    #[doc(alias = "ip_vs_in_icmp")]
    #[doc(alias = "ip_vs_out_icmp")]
    pub(crate) fn icmp_error<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        (dst, role): (&IpAddr, Role),
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        if let Some(about) = self.about(&packet, dst, role) {
            return self.carry_error(now, lane, packet, &about, out);
        }
        if role.own.is_some()
            && let Some(report) = self.tunnel_error(now, lane, &packet, dst, out)
        {
            return report;
        }
        if let Some(handed) = self.elsewhere(&packet, role) {
            return handed;
        }
        match (role.own, role.is_ours()) {
            (Some(_), _) => Verdict::Release.into(),
            (None, true) => DropReason::IcmpNoSession.into(),
            (None, false) => DropReason::NotForwarding.into(),
        }
    }

    /// The session here that an error is about.
    fn about<B: PacketBuf>(&self, packet: &Packet<B>, dst: &IpAddr, role: Role) -> Option<About> {
        let quote = embedded(packet.buf.data(), &packet.headers)?;
        let back = quote.lookup();
        let tuple = back.tuple().filter(|tuple| tuple.dst() == *dst)?;
        let candidate = self.store.lookup_one(&Probe { tuple, local: role.local })?;
        if let Carried::Echo(echo) = back
            && asks(candidate.direction) != echo.request
        {
            return None;
        }
        Some(About { quote, tuple, candidate })
    }

    fn carry_error<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        about: &About,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        // Only looked at: an error keeps no session alive.
        let nothing = Segment { tcp_flags: None, bytes: 0 };
        let seen = self.store.peek(about.candidate, &about.tuple, nothing);
        let (Some(flow), Some(id)) = (seen, self.store.id_of(about.candidate)) else {
            return DropReason::IcmpNoSession.into();
        };
        let policy = self.policy(&flow);
        let verdict = self.translate_error(now, lane, packet, about, &flow, out);
        Report {
            verdict: verdict.unwrap_or_else(Verdict::Drop),
            session: Some(id),
            service: policy.service,
            server: Some(flow.server),
        }
    }

    fn translate_error<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        about: &About,
        flow: &lvs_core::session::Flow,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        // Always, whatever the device says: the message is short, and the path MTU hangs on it.
        if checksum_is_right(packet.buf.data(), &packet.headers) != Some(true) {
            return Err(DropReason::BadL4Checksum);
        }
        if packet.headers.ttl <= 1 {
            return Err(DropReason::TtlExceeded);
        }
        if let Some(one_way) = flow.one_way {
            // The server has the virtual address: the error goes to it as it is.
            let way = self.way_of(one_way, flow.server, flow.hop)?;
            self.fits_way_or_tell(now, lane, &packet, &way, out)?;
            take_hop(&mut packet)?;
            let verdict = self.send_way(now, lane, packet, &way, out)?;
            self.count_error(verdict);
            return Ok(verdict);
        }
        self.fits(now, lane, &packet, flow.hop, 0)?;
        let to_client = flow.candidate.direction == Direction::Return;
        let nat64 = flow.quad.is_nat64();
        if nat64 && !to_client {
            self.error_into_v4(lane, &mut packet, (&flow.quad, flow.hop))?;
        }
        let quote = match nat64 {
            false => Some(about.quote),
            true => embedded(packet.buf.data(), &packet.headers),
        };
        let quote = quote.ok_or(DropReason::IcmpNoSession)?;
        let tcp = flow.quad.proto == L4Proto::Tcp;
        let gained = self.policy(flow).toa.filter(|_| tcp && to_client);
        let edit = ErrorEdit {
            keep_source: !to_client && !hides_servers(&flow.quad),
            // What was quoted may have carried the client's address, or the next one will.
            growth: gained.map_or(0, |toa| growth(&toa, &flow.quad)),
        };
        let detail = self.store.id_of(about.candidate).and_then(|id| self.store.detail(id));
        let rewrite = rewrite_of(flow, detail.as_ref()).ok_or(DropReason::IcmpNoSession)?;
        let Packet { buf, headers, .. } = &mut packet;
        let csum = buf.l4_csum();
        let data = buf.data_mut();
        let edited = match &rewrite {
            lvs_nat::AnyRewrite::V4(v4) => v4.apply_error(data, headers, &quote, &edit, csum),
            lvs_nat::AnyRewrite::V6(v6) => v6.apply_error(data, headers, &quote, &edit, csum),
            other => other.apply(data, headers, csum),
        };
        edited.map_err(reason_of)?;
        if let Some(list) = detail.as_ref().map(list_of).filter(|_| to_client) {
            let quoted = lvs_nat::edit::quoted(buf.data_mut(), headers, &quote, csum, &list);
            quoted.map_err(reason_of)?;
        }
        if nat64 && to_client {
            self.error_into_v6(lane, &mut packet, (&flow.quad, flow.hop))?;
        }
        let verdict = self.emit(now, lane, packet, flow.hop, out);
        self.count_error(verdict);
        Ok(verdict)
    }

    pub(crate) fn count_error(&mut self, verdict: Verdict) {
        if !matches!(verdict, Verdict::Drop(_)) {
            let count = &mut self.counters.icmp_translated;
            *count = count.wrapping_add(1);
        }
    }
}

/// Whether echo messages of this direction are requests.
const fn asks(direction: Direction) -> bool {
    matches!(direction, Direction::Inbound)
}

/// Whether servers see a local address in the client's place (FullNAT). Only then has a server no use for the
/// address of a router that it may not even reach; in NAT it sees the client's network anyway, and the kernel
/// keeps the sender, too.
fn hides_servers(quad: &Quad) -> bool {
    quad.local != quad.client
}
