//! First stage: is the frame sound, is it for us, may it come from where it says, and what is it?

use crate::director::{Director, Report};
use crate::one_packet::Served;
use crate::open::Before;
use crate::outputs::Outputs;
use crate::sctp::is_sctp;
use core::net::IpAddr;
use lvs_core::addr::{Family, MacAddr, is_martian_source};
use lvs_core::flow::L4Proto;
use lvs_core::io::{L4Csum, Lane, PacketBuf, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::session::{Missed, Probe};
use lvs_core::snapshot::{Role, SelfOwner};
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Fragment, Headers, Parsed, Transport, echo, ipv4_option};

/// A packet with everything that is known about it.
pub(crate) struct Packet<B> {
    pub(crate) buf: B,
    pub(crate) headers: Headers,
    pub(crate) port: PortId,
}

impl<P: PortPlan> Director<'_, P> {
    pub(crate) fn admit<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        port: PortId,
        buf: L::Buf,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        match Headers::parse(buf.data(), buf.total_len()) {
            Err(malformed) => DropReason::from(malformed).into(),
            Ok(Parsed::Other { .. }) => Verdict::Release.into(),
            Ok(Parsed::Arp(arp)) => self.arp(now, lane, port, &arp, buf.vlan(), out),
            Ok(Parsed::Ip(headers)) => self.ip(now, lane, Packet { buf, headers, port }, out),
        }
    }

    fn ip<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let Some((src, dst)) = packet.headers.addresses(packet.buf.data()) else {
            return DropReason::MalformedEthernet.into();
        };
        if let Transport::Icmp { kind, .. } = packet.headers.transport
            && dst.is_ipv6()
            && (133..=137).contains(&kind)
        {
            return self.ndp(now, lane, &packet, out);
        }
        if let Err(report) = self.is_for_us(lane, &packet, &dst) {
            return report;
        }
        if is_martian_source(&src) {
            return DropReason::MartianSource.into();
        }
        if self.snapshot().role(&src).is_ours() {
            return DropReason::SpoofedSource.into();
        }
        if is_source_routed(&packet) {
            return DropReason::SourceRoute.into();
        }
        let role = self.snapshot().role(&dst);
        if packet.headers.fragment != Fragment::No {
            if role.own.is_some() && !role.virt {
                return Verdict::Release.into();
            }
            return self.fragment(now, lane, packet, role, out);
        }
        if packet.buf.l4_csum() == L4Csum::Bad {
            return DropReason::BadL4Checksum.into();
        }
        // Ethernet padding ends here: behind a full-sized packet it would make the frame too long to send.
        packet.buf.truncate(usize::try_from(packet.headers.end).unwrap_or(usize::MAX));
        if let Transport::Icmp { .. } = packet.headers.transport {
            return self.icmp(now, lane, packet, (&dst, role), out);
        }
        let mut missed = Missed::default();
        if let Some(tuple) = packet.headers.tuple {
            let probe = Probe { tuple, local: role.local };
            match self.store.lookup_or_missed(&probe, packet.buf.rx_hash()) {
                Ok(candidate) => return self.carry(now, lane, packet, &tuple, candidate, out),
                Err(nowhere) => missed = nowhere,
            }
        } else if is_sctp(&packet.headers) {
            return self.sctp(now, lane, packet, role, out);
        }
        if let Some(handed) = self.elsewhere(&packet, role) {
            return handed;
        }
        self.miss(now, lane, packet, (role, missed), out)
    }

    /// Frames for other hosts, and everything that is for many hosts at once.
    fn is_for_us<L: Lane>(
        &self,
        lane: &L,
        packet: &Packet<L::Buf>,
        dst: &IpAddr,
    ) -> Result<(), Report> {
        let Some(to) = packet.buf.data().first_chunk::<6>().map(|mac| MacAddr(*mac)) else {
            return Err(DropReason::MalformedEthernet.into());
        };
        let group = dst.is_multicast() || matches!(dst, IpAddr::V4(v4) if v4.is_broadcast());
        if to == self.mac(lane, packet.port) {
            let odd = group || dst.is_loopback() || dst.is_unspecified();
            return if odd { Err(DropReason::BadDestination.into()) } else { Ok(()) };
        }
        if !to.is_group() {
            return Err(DropReason::NotForUs.into());
        }
        // Routing protocols, VRRP, DHCP: the host's. A group frame around an ordinary address is not
        // forwarded (RFC 1812 section 5.3.4).
        if group || self.is_subnet_broadcast(packet.port, dst) {
            return Err(Verdict::Release.into());
        }
        Err(DropReason::BadDestination.into())
    }

    fn is_subnet_broadcast(&self, port: PortId, dst: &IpAddr) -> bool {
        let IpAddr::V4(dst) = dst else { return false };
        let own = self.snapshot().interface(port).map_or(&[][..], |i| &i.addresses);
        own.iter().any(|(ip, len)| match ip {
            IpAddr::V4(ip) if *len < 31 => {
                let host = u32::MAX.checked_shr(u32::from(*len)).unwrap_or(0);
                ip.to_bits() | host == dst.to_bits()
            }
            _ => false,
        })
    }

    /// A packet without a session.
    pub(crate) fn miss<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        (role, missed): (Role, Missed),
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let marked = !role.is_ours() && self.snapshot().has_marks();
        if (role.virt || marked)
            && let Some(tuple) = packet.headers.tuple
        {
            let service = self.snapshot().classify(&tuple);
            match service.map(|service| (service.id, Served::by(service, &tuple))) {
                Some((service, Served::Session)) => {
                    let before = Before::Nothing(missed);
                    return self.open(now, lane, packet, &tuple, (service, before), out);
                }
                Some((service, Served::EachPacket)) => {
                    return self.one_packet(now, lane, packet, &tuple, service, out);
                }
                Some((service, Served::Host)) => {
                    return Report { service: Some(service), ..Verdict::Release.into() };
                }
                // Echo that no service wants is answered.
                None if tuple.proto() == L4Proto::Icmp => {}
                None if role.own.is_some() => return Verdict::Release.into(),
                None if role.virt => return DropReason::NoService.into(),
                None => {}
            }
        }
        if let Some(tuple) = packet.headers.tuple.filter(|_| !role.is_ours())
            && let Some(service) = self.snapshot().one_packet(&tuple)
        {
            let service = service.id;
            return self.one_packet_reply(now, lane, packet, &tuple, service, out);
        }
        if let Some(own) = role.own {
            let owner = self.snapshot().interface(own).map(|interface| interface.owner);
            if owner != Some(SelfOwner::Director) {
                return Verdict::Release.into();
            }
        }
        if role.is_ours() {
            return self.answer_echo(now, lane, packet, role, out);
        }
        DropReason::NotForwarding.into()
    }

    /// An echo request to an address of ours is answered in place; everything else about such an address
    /// is refused.
    fn answer_echo<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        role: Role,
        out: &mut Outputs<L::Buf>,
    ) -> Report {
        let ports = packet.headers.tuple.is_some_and(|tuple| tuple.proto() != L4Proto::Icmp);
        let no_session = ports && role.local.is_some();
        let mac = self.mac(lane, packet.port);
        let from = packet.buf.data().first_chunk::<12>().copied();
        let Some(len) = echo::reply_in_place(packet.buf.data_mut(), 64) else {
            return match (no_session, role.own) {
                (true, _) => self.stray(now, lane, &packet, DropReason::NoSessionLocal, out).into(),
                (_, Some(_)) => Verdict::Release.into(),
                _ => DropReason::UnsupportedProtocol.into(),
            };
        };
        debug_assert!(from.is_some_and(|macs| macs.starts_with(&mac.0)));
        packet.buf.truncate(len);
        let port = packet.port;
        match out.push(lane, port, packet.buf) {
            Ok(()) => Verdict::Answer(port).into(),
            Err(_full) => DropReason::TxFull.into(),
        }
    }
}

/// Whether the sender of a packet prescribes its way.
fn is_source_routed<B: PacketBuf>(packet: &Packet<B>) -> bool {
    let Headers { family, l3, l4, .. } = packet.headers;
    let options = usize::from(l3).saturating_add(20)..usize::from(l4);
    family == Family::V4
        && !options.is_empty()
        && packet.buf.data().get(options).is_some_and(ipv4_option::is_source_routed)
}
