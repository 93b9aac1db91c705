//! Plain per-worker counters: written by one worker, read by copy. No atomics on the packet path.

use crate::verdict::{Absorbed, DropReason, Verdict};
use core::fmt;

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets; a segment train counts as one.
    pub packets: u64,
    /// Bytes of the IP packets.
    pub bytes: u64,
}

impl Traffic {
    /// The sum of both.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }

    /// Counts one packet.
    #[inline]
    pub const fn add(&mut self, bytes: u64) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes);
    }
}

/// What a service or a server has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "ip_vs_stats")]
pub struct Carried {
    /// Sessions opened.
    pub sessions: u64,
    /// From clients.
    pub inbound: Traffic,
    /// To clients.
    pub outbound: Traffic,
}

impl Carried {
    /// The sum of both.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            sessions: self.sessions.wrapping_add(other.sessions),
            inbound: self.inbound.plus(&other.inbound),
            outbound: self.outbound.plus(&other.outbound),
        }
    }
}

/// Counters of one worker.
#[derive(Clone, PartialEq, Eq)]
pub struct Counters {
    /// Packets that entered `process`.
    pub received: Traffic,
    /// Verdicts `Forward`.
    pub forwarded: u64,
    /// Verdicts `Answer`.
    pub answered: u64,
    /// Verdicts `Release`.
    pub released: u64,
    /// Neighbour messages learned from.
    pub learned: u64,
    /// Packets copied aside until their next hop answers.
    pub waiting: u64,
    /// Packets that waited and have left.
    pub resumed: u64,
    /// Packets that another worker owns and got.
    pub handed_over: u64,
    /// Packets that other workers handed over; they count as received once more.
    pub taken_over: u64,
    /// Packets made by the director itself (ARP requests, probes).
    pub originated: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions closed by expiry.
    pub sessions_expired: u64,
    /// Sessions closed because their client started anew.
    pub sessions_reused: u64,
    /// Sessions that a persistence template led to their server.
    pub sessions_persistent: u64,
    /// Sessions that were ended with a reset to both sides: their server goes away, or their time was over while
    /// the connection was open.
    pub sessions_reset: u64,
    /// Segments of no session that were answered by a reset; they count as originated, too.
    pub strays_reset: u64,
    /// Clients left without a persistence template because there was no room.
    pub templates_full: u64,
    /// Segments into which a client address was inserted.
    pub toa_inserted: u64,
    /// Of those, the ones whose options had to be compacted first.
    pub toa_compacted: u64,
    /// Segments from which a client's own copy of the option was removed.
    pub toa_stripped: u64,
    /// Segments that should have carried the client address and had no room; the next three say what became of
    /// them, or they were dropped as `no_toa_room`.
    pub toa_no_room: u64,
    /// Segments of the director's own without payload that carried a client address ahead of one without room.
    pub toa_ahead: u64,
    /// SYNs and pieces that went without the client address; what follows them carries it.
    pub toa_later: u64,
    /// Sessions whose client address goes as a PROXY header, as there was no room for the option.
    pub toa_by_proxy: u64,
    /// Client segments and datagrams that got a PROXY header, repeated ones too.
    pub proxy_sent: u64,
    /// Segments of the director's own that carried a PROXY header ahead of one without room.
    pub proxy_ahead: u64,
    /// PROXY headers of clients that gave way to one of the director's.
    pub proxy_replaced: u64,
    /// PROXY headers of clients that were believed and left as they were.
    pub proxy_kept: u64,
    /// PROXY headers sent right after a handshake, without data of the client; repeated ones too.
    pub proxy_alone: u64,
    /// SYNs whose data, or whose wish to send some, was taken out, as the client's address has to come first.
    pub syn_data_cut: u64,
    /// Checksums completed in software because the port cannot.
    pub csum_completed: u64,
    /// Datagrams of IPv4 servers that had no checksum and got one, as IPv6 clients take none without (NAT64).
    pub udp_csum_made: u64,
    /// INIT and INIT-ACK of SCTP that announce more addresses, which are not translated.
    pub sctp_multihomed: u64,
    /// ICMP errors about packets of sessions, translated and sent on.
    pub icmp_translated: u64,
    /// ICMP errors made by the director; they count as originated, too.
    pub icmp_made: u64,
    /// ICMP errors not made because there were too many.
    pub icmp_limited: u64,
    /// IPv4 packets cut into fragments.
    pub packets_cut: u64,
    /// Fragments that waited for the first one of their datagram; each counts again with its fate.
    pub fragments_held: u64,
    drops: [u64; DropReason::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: Traffic::default(),
            forwarded: 0,
            answered: 0,
            released: 0,
            learned: 0,
            waiting: 0,
            resumed: 0,
            handed_over: 0,
            taken_over: 0,
            originated: 0,
            sessions_opened: 0,
            sessions_expired: 0,
            sessions_reused: 0,
            sessions_persistent: 0,
            sessions_reset: 0,
            strays_reset: 0,
            templates_full: 0,
            toa_inserted: 0,
            toa_compacted: 0,
            toa_stripped: 0,
            toa_no_room: 0,
            toa_ahead: 0,
            toa_later: 0,
            toa_by_proxy: 0,
            proxy_sent: 0,
            proxy_ahead: 0,
            proxy_replaced: 0,
            proxy_kept: 0,
            proxy_alone: 0,
            syn_data_cut: 0,
            csum_completed: 0,
            udp_csum_made: 0,
            sctp_multihomed: 0,
            icmp_translated: 0,
            icmp_made: 0,
            icmp_limited: 0,
            packets_cut: 0,
            fragments_held: 0,
            drops: [0; DropReason::COUNT],
        }
    }
}

impl Counters {
    /// Counts one verdict. Every received packet is counted exactly once here.
    pub fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Forward(_) => bump(&mut self.forwarded),
            Verdict::Answer(_) => bump(&mut self.answered),
            Verdict::Release => bump(&mut self.released),
            Verdict::Absorb(Absorbed::NeighbourLearned) => bump(&mut self.learned),
            Verdict::Absorb(Absorbed::WaitsForNeighbour) => bump(&mut self.waiting),
            Verdict::Absorb(Absorbed::HandedOver) => bump(&mut self.handed_over),
            Verdict::Absorb(Absorbed::WaitsForFirst) => bump(&mut self.fragments_held),
            Verdict::Drop(reason) => self.drop_one(reason),
        }
    }

    /// Counts a drop of a packet that already has another verdict, or never had one (a packet that
    /// waited, a packet of the director's own).
    pub fn drop_one(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason.index()) {
            bump(count);
        }
    }

    /// Adds the counters of another worker.
    pub fn fold(&mut self, other: &Self) {
        let own = [
            (&mut self.received.packets, other.received.packets),
            (&mut self.received.bytes, other.received.bytes),
            (&mut self.forwarded, other.forwarded),
            (&mut self.answered, other.answered),
            (&mut self.released, other.released),
            (&mut self.learned, other.learned),
            (&mut self.waiting, other.waiting),
            (&mut self.resumed, other.resumed),
            (&mut self.handed_over, other.handed_over),
            (&mut self.taken_over, other.taken_over),
            (&mut self.originated, other.originated),
            (&mut self.sessions_opened, other.sessions_opened),
            (&mut self.sessions_expired, other.sessions_expired),
            (&mut self.sessions_reused, other.sessions_reused),
            (&mut self.sessions_persistent, other.sessions_persistent),
            (&mut self.sessions_reset, other.sessions_reset),
            (&mut self.strays_reset, other.strays_reset),
            (&mut self.templates_full, other.templates_full),
            (&mut self.toa_inserted, other.toa_inserted),
            (&mut self.toa_compacted, other.toa_compacted),
            (&mut self.toa_stripped, other.toa_stripped),
            (&mut self.toa_no_room, other.toa_no_room),
            (&mut self.toa_ahead, other.toa_ahead),
            (&mut self.toa_later, other.toa_later),
            (&mut self.toa_by_proxy, other.toa_by_proxy),
            (&mut self.proxy_sent, other.proxy_sent),
            (&mut self.proxy_ahead, other.proxy_ahead),
            (&mut self.proxy_replaced, other.proxy_replaced),
            (&mut self.proxy_kept, other.proxy_kept),
            (&mut self.proxy_alone, other.proxy_alone),
            (&mut self.syn_data_cut, other.syn_data_cut),
            (&mut self.csum_completed, other.csum_completed),
            (&mut self.udp_csum_made, other.udp_csum_made),
            (&mut self.sctp_multihomed, other.sctp_multihomed),
            (&mut self.icmp_translated, other.icmp_translated),
            (&mut self.icmp_made, other.icmp_made),
            (&mut self.icmp_limited, other.icmp_limited),
            (&mut self.packets_cut, other.packets_cut),
            (&mut self.fragments_held, other.fragments_held),
        ];
        let drops = self.drops.iter_mut().zip(other.drops);
        for (sum, more) in own.into_iter().chain(drops) {
            *sum = sum.wrapping_add(more);
        }
    }

    /// Packets dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.index()).copied().unwrap_or(0)
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().fold(0u64, |sum, n| sum.wrapping_add(*n))
    }
}

impl fmt::Debug for Counters {
    /// Everything that is not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        map.entry(&"received", &self.received);
        for (name, value) in self.named() {
            if value != 0 {
                map.entry(&name, &value);
            }
        }
        for reason in DropReason::ALL {
            if self.dropped(*reason) != 0 {
                map.entry(&reason.id(), &self.dropped(*reason));
            }
        }
        map.finish()
    }
}

impl Counters {
    /// Every counter but `received` and the drops, by its stable name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 37] {
        [
            ("forwarded", self.forwarded),
            ("answered", self.answered),
            ("released", self.released),
            ("learned", self.learned),
            ("waiting", self.waiting),
            ("resumed", self.resumed),
            ("handed_over", self.handed_over),
            ("taken_over", self.taken_over),
            ("originated", self.originated),
            ("sessions_opened", self.sessions_opened),
            ("sessions_expired", self.sessions_expired),
            ("sessions_reused", self.sessions_reused),
            ("sessions_persistent", self.sessions_persistent),
            ("sessions_reset", self.sessions_reset),
            ("strays_reset", self.strays_reset),
            ("templates_full", self.templates_full),
            ("toa_inserted", self.toa_inserted),
            ("toa_compacted", self.toa_compacted),
            ("toa_stripped", self.toa_stripped),
            ("toa_no_room", self.toa_no_room),
            ("toa_ahead", self.toa_ahead),
            ("toa_later", self.toa_later),
            ("toa_by_proxy", self.toa_by_proxy),
            ("proxy_sent", self.proxy_sent),
            ("proxy_ahead", self.proxy_ahead),
            ("proxy_replaced", self.proxy_replaced),
            ("proxy_kept", self.proxy_kept),
            ("proxy_alone", self.proxy_alone),
            ("syn_data_cut", self.syn_data_cut),
            ("csum_completed", self.csum_completed),
            ("udp_csum_made", self.udp_csum_made),
            ("sctp_multihomed", self.sctp_multihomed),
            ("icmp_translated", self.icmp_translated),
            ("icmp_made", self.icmp_made),
            ("icmp_limited", self.icmp_limited),
            ("packets_cut", self.packets_cut),
            ("fragments_held", self.fragments_held),
        ]
    }

    /// How servers were told who their clients are: those of [`named`](Self::named) that are about it and not zero.
    pub fn client_address(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.named().into_iter().filter(|(name, count)| {
            let about = name.starts_with("toa_") || name.starts_with("proxy_");
            *count > 0 && (about || *name == "syn_data_cut")
        })
    }
}

const fn bump(count: &mut u64) {
    *count = count.wrapping_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    /// Every counter has a value of its own, so that one that is left out or swapped is seen.
    #[test]
    fn folding_adds_every_counter() {
        let mut one = Counters::default();
        one.received.add(100);
        for (number, reason) in (1u32..).zip(DropReason::ALL) {
            (0..number).for_each(|_| one.drop_one(*reason));
        }
        let Counters {
            received: _,
            forwarded,
            answered,
            released,
            learned,
            waiting,
            resumed,
            handed_over,
            taken_over,
            originated,
            sessions_opened,
            sessions_expired,
            sessions_reused,
            sessions_persistent,
            sessions_reset,
            strays_reset,
            templates_full,
            toa_inserted,
            toa_compacted,
            toa_stripped,
            toa_no_room,
            toa_ahead,
            toa_later,
            toa_by_proxy,
            proxy_sent,
            proxy_ahead,
            proxy_replaced,
            proxy_kept,
            proxy_alone,
            syn_data_cut,
            csum_completed,
            udp_csum_made,
            sctp_multihomed,
            icmp_translated,
            icmp_made,
            icmp_limited,
            packets_cut,
            fragments_held,
            drops: _,
        } = &mut one;
        let all = [
            forwarded,
            answered,
            released,
            learned,
            waiting,
            resumed,
            handed_over,
            taken_over,
            originated,
            sessions_opened,
            sessions_expired,
            sessions_reused,
            sessions_persistent,
            sessions_reset,
            strays_reset,
            templates_full,
            toa_inserted,
            toa_compacted,
            toa_stripped,
            toa_no_room,
            toa_ahead,
            toa_later,
            toa_by_proxy,
            proxy_sent,
            proxy_ahead,
            proxy_replaced,
            proxy_kept,
            proxy_alone,
            syn_data_cut,
            csum_completed,
            udp_csum_made,
            sctp_multihomed,
            icmp_translated,
            icmp_made,
            icmp_limited,
            packets_cut,
            fragments_held,
        ];
        for (value, counter) in (1000..).zip(all) {
            *counter = value;
        }
        let mut folded = Counters::default();
        folded.fold(&one);
        assert_eq!(folded, one);
        folded.fold(&one);
        for ((name, twice), (_, once)) in folded.named().into_iter().zip(one.named()) {
            assert_eq!(twice, 2 * once, "{name}");
        }
        assert_eq!(folded.dropped_total(), 2 * one.dropped_total());
        assert_eq!((folded.received.packets, folded.received.bytes), (2, 200));
        assert!(format!("{folded:?}").contains("handed_over"));
    }
}
