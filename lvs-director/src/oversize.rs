//! Packets that do not fit the next link: cut where that is allowed, else dropped with a word to their sender;
//! and the same word for packets whose time to live has ended.
//!
//! Errors go back to where the frame came from. Who they are about may be forged, so a token bucket bounds them.

use crate::admit::Packet;
use crate::director::Director;
use crate::one_way::Way;
use crate::outputs::Outputs;
use lvs_core::addr::Family;
use lvs_core::id::HopId;
use lvs_core::io::{BURST, L4Csum, Lane, PacketBuf, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::fragment::SplitV4;
use lvs_nat::icmp::{Complaint, complain, less_growth, may_complain};

/// Longest ICMP error: IPv6 with the Ethernet header and two tags.
const LONGEST: usize = 22 + 1280;
/// Time to live of packets of the director's own.
const TTL: u8 = 64;
const SECOND: u64 = 1_000_000_000;

/// How many answers of a kind a director makes by itself: ICMP errors, or resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "icmp_msgs_per_sec")]
pub struct ErrorRate {
    /// Answers a second in the long run; 0: none at all.
    pub per_second: u32,
    /// Answers at once after a pause.
    pub burst: u32,
}

impl ErrorRate {
    /// None.
    pub const NONE: Self = Self { per_second: 0, burst: 0 };
}

impl Default for ErrorRate {
    /// Those of Linux (`icmp_msgs_per_sec`, `icmp_msgs_burst`): 1000 a second, 50 at once.
    fn default() -> Self {
        Self { per_second: 1000, burst: 50 }
    }
}

/// Token bucket: time that is saved up, of which each error takes its share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Nanoseconds that one error costs; `None`: there are none.
    price: Option<u64>,
    most: u64,
    saved: u64,
    at: Option<Time>,
}

impl Bucket {
    pub(crate) fn new(rate: ErrorRate) -> Self {
        let price = SECOND.checked_div(rate.per_second.into()).map(|price| price.max(1));
        let most = price.unwrap_or(0).saturating_mul(rate.burst.max(1).into());
        Self { price, most, saved: most, at: None }
    }

    /// From now on this rate; one that stays keeps what is saved up.
    pub(crate) fn change(&mut self, rate: ErrorRate) {
        let new = Self::new(rate);
        if (new.price, new.most) != (self.price, self.most) {
            *self = new;
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.price.is_some()
    }

    pub(crate) fn take(&mut self, now: Time) -> bool {
        let Some(price) = self.price else { return false };
        let gone = self.at.map_or(0, |at| now.0.saturating_sub(at.0));
        self.at = Some(now);
        self.saved = self.saved.saturating_add(gone).min(self.most);
        let left = self.saved.checked_sub(price);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// A packet whose time to live has ended: its sender is told.
    #[cold]
    pub(crate) fn expired<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        out: &mut Outputs<L::Buf>,
    ) -> DropReason {
        self.tell(now, lane, packet, Complaint::TimeExceeded, out);
        DropReason::TtlExceeded
    }

    /// Whether a packet fits the way to `hop`; when not, its sender is told what does. `gain` is what packets of
    /// its kind may gain on their way, which their sender has to leave room for.
    pub(crate) fn fits_or_tell<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        (hop, gain): (HopId, u16),
        out: &mut Outputs<L::Buf>,
    ) -> Result<(), DropReason> {
        self.fits(now, lane, packet, hop, 0).inspect_err(|&reason| {
            if reason == DropReason::TooBig {
                self.tell_too_big(now, lane, packet, (hop, gain), out);
            }
        })
    }

    /// Tells the sender of a packet how large it may be on the way to `hop`, where it gains `gain` bytes.
    #[cold]
    pub(crate) fn tell_too_big<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        (hop, gain): (HopId, u16),
        out: &mut Outputs<L::Buf>,
    ) {
        let Some(way) = self.neighbours.hop(hop) else { return };
        let most = self.most(lane, packet, way.port).into();
        let mtu = less_growth(most, gain, packet.headers.family);
        self.tell(now, lane, packet, Complaint::TooBig { mtu }, out);
    }

    /// Sends an ICMP error about a packet, if it may have one. The packet must be as it came.
    #[cold]
    pub(crate) fn tell<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &Packet<L::Buf>,
        complaint: Complaint,
        out: &mut Outputs<L::Buf>,
    ) {
        let (data, headers, port) = (packet.buf.data(), &packet.headers, packet.port);
        let ip = data.get(usize::from(headers.l3)..).unwrap_or_default();
        let Some((src, dst)) = headers.addresses(data) else { return };
        if !self.complaints.is_open() || !may_complain(ip) {
            return;
        }
        // Who talks to an address of ours hears from it; who talks past us, from the port.
        let ours = self.snapshot().role(&dst).is_ours().then_some(dst);
        let Some(from) = ours.or_else(|| self.snapshot().source_for(port, &src)) else { return };
        if !self.complaints.take(now) {
            self.counters.icmp_limited = self.counters.icmp_limited.wrapping_add(1);
            return;
        }
        let sent = complaint_frame(lane, packet, complaint, from)
            .and_then(|buf| out.push(lane, port, buf).map_err(|_full| DropReason::TxFull));
        match sent {
            Ok(()) => {
                self.counters.originated = self.counters.originated.wrapping_add(1);
                self.counters.icmp_made = self.counters.icmp_made.wrapping_add(1);
            }
            Err(reason) => self.counters.drop_one(reason),
        }
    }

    /// Whether a finished packet that is still to grow is longer than `port` takes.
    pub(crate) fn is_too_long<L: Lane>(
        &self,
        lane: &L,
        packet: &Packet<L::Buf>,
        port: PortId,
        growth: u16,
    ) -> bool {
        let len = packet.headers.end.saturating_sub(packet.headers.l3.into());
        let most = self.most(lane, packet, port).saturating_sub(growth);
        packet.buf.gso().is_none() && len > u32::from(most)
    }

    /// Sends a finished packet in pieces, each with a fate of its own; the first one that is dropped tells that of
    /// the packet. In front of a tunnel the packet within is cut, so that its end puts nothing together.
    #[cold]
    #[doc(alias = "ip_do_fragment")]
    pub(crate) fn emit_in_pieces<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: Packet<L::Buf>,
        way: &Way,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Verdict, DropReason> {
        let Way { hop, tunnel } = *way;
        let growth = tunnel.map_or(0, |tunnel| tunnel.growth());
        self.cut(lane, packet, (hop, growth), out, |director, lane, piece, out| match tunnel {
            None => Ok(director.emit(now, lane, piece, hop, out)),
            Some(tunnel) => director.send_through(now, lane, piece, (hop, &tunnel), out),
        })
    }

    /// Cuts a packet into pieces that fit the way to `hop` with `growth` bytes more, and hands each one to `send`.
    pub(crate) fn cut<L: Lane>(
        &mut self,
        lane: &mut L,
        mut packet: Packet<L::Buf>,
        (hop, growth): (HopId, u16),
        out: &mut Outputs<L::Buf>,
        send: impl Fn(
            &mut Self,
            &mut L,
            Packet<L::Buf>,
            &mut Outputs<L::Buf>,
        ) -> Result<Verdict, DropReason>,
    ) -> Result<Verdict, DropReason> {
        self.complete(&mut packet);
        let port = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?.port;
        let (csum, vlan) = (packet.buf.l4_csum(), packet.buf.vlan());
        let most = self.most(lane, &packet, port).saturating_sub(growth);
        let split = SplitV4::new(packet.buf.data(), &packet.headers, csum, most)
            .map_err(|_| DropReason::TooBig)?;
        if !out.ports.make_room(lane, port, split.count().into()) {
            return Err(DropReason::TxFull);
        }
        let mut verdict = Verdict::Drop(DropReason::TooBig);
        for index in 0..split.count() {
            let buf = piece(lane, &split, index, packet.buf.data()).ok_or(DropReason::NoBuffer)?;
            let Ok(Parsed::Ip(headers)) = Headers::parse(buf.data(), buf.total_len()) else {
                return Err(DropReason::TooBig);
            };
            let mut one = Packet { buf, headers, port: packet.port };
            one.buf.set_vlan(vlan);
            one.buf.set_l4_csum(csum, headers.l3, headers.l4);
            verdict = send(self, lane, one, out)?;
            if matches!(verdict, Verdict::Drop(_)) {
                return Ok(verdict);
            }
        }
        self.counters.packets_cut = self.counters.packets_cut.wrapping_add(1);
        Ok(verdict)
    }
}

/// Whether a packet may be cut into pieces of `most` bytes: IPv4 without DF, all of it here, and no more pieces
/// than a burst has places.
pub(crate) fn may_be_cut<B: PacketBuf>(packet: &Packet<B>, most: u16) -> bool {
    let (data, headers) = (packet.buf.data(), &packet.headers);
    // A partial checksum is completed before.
    let csum = match packet.buf.l4_csum() {
        L4Csum::Partial => L4Csum::Unknown,
        other => other,
    };
    headers.family == Family::V4
        && packet.buf.gso().is_none()
        && SplitV4::new(data, headers, csum, most)
            .is_ok_and(|split| usize::from(split.count()) <= BURST)
}

fn piece<L: Lane>(lane: &mut L, split: &SplitV4, index: u16, frame: &[u8]) -> Option<L::Buf> {
    let mut buf = lane.alloc(split.len(index)?)?;
    let len = split.write(index, frame, buf.data_mut())?;
    buf.truncate(len);
    Some(buf)
}

fn complaint_frame<L: Lane>(
    lane: &mut L,
    packet: &Packet<L::Buf>,
    complaint: Complaint,
    from: core::net::IpAddr,
) -> Result<L::Buf, DropReason> {
    let (data, headers) = (packet.buf.data(), &packet.headers);
    let room = data.len().saturating_add(48).min(LONGEST);
    let mut buf = lane.alloc(room).ok_or(DropReason::NoBuffer)?;
    let csum = packet.buf.l4_csum();
    let len = complain(data, headers, csum, complaint, from, TTL, buf.data_mut());
    buf.truncate(len.ok_or(DropReason::NoBuffer)?);
    if packet.buf.vlan().is_some() {
        buf.set_vlan(packet.buf.vlan());
    }
    Ok(buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(ErrorRate { per_second: 10, burst: 3 });
        let at = |ms: u64| Time(1 + ms * 1_000_000);
        assert_eq!((0..5).filter(|_| bucket.take(at(0))).count(), 3);
        assert!(!bucket.take(at(99)));
        assert!(bucket.take(at(101)) && !bucket.take(at(101)));
        assert_eq!((0..1000).filter(|n| bucket.take(at(101 + n * 10))).count(), 99);
        assert_eq!(
            (0..9).filter(|_| bucket.take(at(1_000_000))).count(),
            3,
            "no more than a burst"
        );
        assert!(!Bucket::new(ErrorRate::NONE).take(at(0)));
        // A clock that steps back gives nothing and takes nothing.
        assert!(!bucket.take(at(5)));
    }
}
