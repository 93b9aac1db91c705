//! Every way a packet can end, and the one registry of reasons to drop it.
//!
//! A packet's fate is not an error: it is a [`Verdict`], and a [`DropReason`] has a counter, a stable
//! id, a sentence and an advice. CLI, JSON and metrics all read [`DropReason::ALL`].

use crate::io::PortId;
use crate::wire::{Fault, Layer, Malformed};
use core::fmt;

/// What became of one received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Translated where needed and queued for this port.
    Forward(PortId),
    /// Answered by the director itself: the frame, or a new one, leaves as the reply on this port.
    Answer(PortId),
    /// Left to the host: control traffic of the box itself. On AF_PACKET the kernel already has its
    /// own copy, elsewhere the frame goes to the exception port.
    Release,
    /// Used up by the director: an ARP reply learned, a packet copied aside until its next hop
    /// answers.
    Absorb(Absorbed),
    /// Dropped.
    Drop(DropReason),
}

/// Why a packet was used up without leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Absorbed {
    /// It told the address of a neighbour.
    NeighbourLearned,
    /// It waits, as a copy, until the next hop's address is known.
    WaitsForNeighbour,
    /// Another worker owns it and got a copy.
    HandedOver,
    /// It is a fragment and waits, as a copy, for the first one of its datagram.
    WaitsForFirst,
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $sentence:literal, $advice:literal;)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum DropReason {
            $($(#[$doc])* #[doc = $sentence] $name,)*
        }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Stable name for counters, JSON and metrics; never changes once published.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }
            /// What happened, as a sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
            /// What to look at or change.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

drop_reasons! {
    MalformedEthernet = "malformed_ethernet", "The Ethernet header or a VLAN tag is malformed.", "Look at the sender's NIC and cabling.";
    MalformedArp = "malformed_arp", "The ARP packet is malformed.", "Capture it; no host sends this by itself.";
    MalformedIpv4 = "malformed_ipv4", "The IPv4 header contradicts itself or the frame.", "Capture it; scanners and broken tunnels send this.";
    BadIpChecksum = "bad_ip_checksum", "The IPv4 header checksum is wrong.", "A device on the way corrupts headers; find it by capturing on both sides.";
    MalformedIpv6 = "malformed_ipv6", "The IPv6 header or an extension header is malformed.", "Capture it; scanners send this.";
    MalformedTcp = "malformed_tcp", "The TCP header or its options are malformed.", "Capture it; scanners send this.";
    MalformedUdp = "malformed_udp", "The UDP length contradicts the IP length.", "Capture it; scanners send this.";
    MalformedSctp = "malformed_sctp", "The SCTP packet or one of its chunks is malformed.", "Capture it; scanners send this.";
    SctpTag = "sctp_tag", "The verification tag of the SCTP packet is not that of its association.", "A packet of an older association, or somebody who wants to end another's.";
    MalformedIcmp = "malformed_icmp", "The ICMP message is too short or malformed.", "Capture it; scanners send this.";
    BadL4Checksum = "bad_l4_checksum", "The device found the transport checksum wrong, or a check before recomputing it did.", "A device on the way corrupts packets.";
    NotForUs = "not_for_us", "The Ethernet destination is another host.", "Normal on a flooded or mirrored port.";
    MartianSource = "martian_source", "The source address cannot exist on a wire.", "A host or attacker on that port forges sources.";
    SpoofedSource = "spoofed_source", "The source is one of the director's own addresses.", "An address conflict, a loop, or an attacker.";
    BadDestination = "bad_destination", "The destination address cannot be forwarded to.", "Broadcast or loopback destination in a unicast frame.";
    SourceRoute = "source_route", "The sender prescribes the packet's way (IPv4 source route).", "Nobody forwards these; a scanner, or somebody who wants to get around a filter.";
    Fragment = "fragment", "The packet is a fragment of what cannot be followed: a TCP SYN, a segment that is to get a PROXY header, SCTP, or a protocol without ports.", "Lower the MTU or enable path MTU discovery on the sender.";
    FragmentOverlap = "fragment_overlap", "Fragments of a datagram overlap or contradict each other, so none of it is forwarded.", "An attacker, or two datagrams with the same number within a second.";
    FragmentDuplicate = "fragment_duplicate", "The fragment came before.", "Something on the way repeats packets.";
    FragmentMemoryFull = "fragment_memory_full", "No place for another datagram in pieces, or its source or the datagram itself has too many.", "Raise director.fragments, or find out who fragments.";
    FragmentHeldFull = "fragment_held_full", "The first fragment of the datagram is not there yet, and no more fragments can wait for it, or this one is too long to.", "Raise director.fragments, or find out what changes the order of packets.";
    FragmentTimeout = "fragment_timeout", "The fragment waited for the first one of its datagram, which did not come.", "The first fragment was lost or dropped, or an attacker sends none.";
    FragmentNoSession = "fragment_no_session", "The first fragment of the datagram was dropped, or belonged to no session and opened none.", "See why first fragments are dropped.";
    UnsupportedProtocol = "unsupported_protocol", "No service handles this transport protocol.", "Only TCP, UDP, SCTP and echo to a service address are handled.";
    NoService = "no_service", "The address is virtual, but no service listens on this port.", "Check the service's port and protocol.";
    NoSession = "no_session", "A TCP packet other than SYN, or an SCTP packet other than INIT, belongs to no session.", "Sessions lost on restart or expired; the time-out of the service may be too short.";
    NoSessionLocal = "no_session_local", "A packet to a local address belongs to no session.", "A server answers after the session expired.";
    NotForwarding = "not_forwarding", "Neither a service, a session nor an address of the director.", "The director is no router here; check the host's routes.";
    NoServer = "no_server", "No server of the service is available.", "No server is configured, or all are at weight 0, draining, down or at their upper threshold.";
    SessionTableFull = "session_table_full", "The session table is full.", "Raise director.sessions.";
    NoPort = "no_port", "No local address of the pool has a free port.", "Add local addresses to the pool or shorten closing time-outs.";
    TupleTaken = "tuple_taken", "Another session already has this client and server port pair.", "Two NAT services lead one client port to the same server; use FullNAT.";
    NoRoute = "no_route", "There is no route to the next hop.", "Add a route, or a port in the destination's subnet.";
    NeighbourPending = "neighbour_pending", "The next hop has not answered yet and no more packets are held for it.", "See whether the next hop is up and in the same subnet and VLAN.";
    NeighbourFailed = "neighbour_failed", "The next hop does not answer ARP or neighbour discovery.", "See whether the next hop is up and in the same subnet and VLAN.";
    TtlExceeded = "ttl_exceeded", "The time to live ran out.", "A routing loop, or a traceroute.";
    TooBig = "too_big", "The packet does not fit the next link.", "Lower the sender's MTU or MSS, or raise the link's MTU.";
    NoHeadroom = "no_headroom", "The buffer has no room for a growing header.", "Raise the lane's headroom.";
    NoToaRoom = "no_toa_room", "The client's address does not fit into the TCP options.", "Set no_room of the service's toa to separate-ack.";
    ProxyOrder = "proxy_order", "The segment cannot be passed before the one that the PROXY header belongs to.", "Normal where segments overtake each other; the client repeats it. Else its first bytes were lost.";
    Nat64Untranslatable = "nat64_untranslatable", "The packet has no counterpart in the other IP version: its protocol, an option, an extension header, or what its ICMP message says.", "Normal for a few ICMP messages; else see what the sender sends.";
    Nat64NoChecksum = "nat64_no_checksum", "A UDP datagram without a checksum cannot change the IP version, as it came by IPv6 or in pieces.", "Turn UDP checksums on at the sender.";
    NoBuffer = "no_buffer", "No buffer was left for a packet of the director's own.", "Raise the lane's buffer count.";
    NoGso = "no_gso", "The port cannot send a segment train.", "Turn segmentation offload off at the sender.";
    TxFull = "tx_full", "The port's transmit queue stayed full.", "The link is saturated.";
    ServerGone = "server_gone", "The session's server was removed.", "The server left the configuration.";
    SessionReset = "session_reset", "The session has ended because its server goes away or its time is over, and both of its ends are being told.", "Drain servers for longer, or raise the service's time-out tcp_established.";
    NullSegment = "null_segment", "A TCP segment without SYN, ACK, FIN and RST.", "A scanner; the session is left alone.";
    BadFlags = "bad_flags", "A TCP segment with contradictory flags (SYN with FIN or RST).", "A scanner.";
    IcmpNoSession = "icmp_no_session", "An ICMP error to an address of the director is about no packet of a live session that was sent from there.", "A forged error, or one about a session that has ended meanwhile.";
    HandOverFull = "hand_over_full", "The ring to the worker that owns the packet is full, or the packet does not fit it.", "Replies, ICMP errors or fragments reach a wrong worker faster than it hands them on; see whether the device hashes ports.";
    HandOverLoop = "hand_over_loop", "The packet has been handed from worker to worker and still found no owner.", "Workers disagree about the receive hash or their number; restart them together.";
    ArpForOther = "arp_for_other", "An ARP or neighbour message about an address that is not the director's.", "Normal on any Ethernet.";
}

impl DropReason {
    /// The number as an index into counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The reason with this id.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.id() == id)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match (malformed.layer, malformed.fault) {
            (Layer::Ipv4, Fault::BadChecksum) => Self::BadIpChecksum,
            (Layer::Ethernet, _) => Self::MalformedEthernet,
            (Layer::Arp, _) => Self::MalformedArp,
            (Layer::Ipv4, _) => Self::MalformedIpv4,
            (Layer::Ipv6, _) => Self::MalformedIpv6,
            (Layer::Tcp, _) => Self::MalformedTcp,
            (Layer::Udp, _) => Self::MalformedUdp,
            (Layer::Icmpv4 | Layer::Icmpv6, _) => Self::MalformedIcmp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_an_id_of_its_own_and_is_found_by_it() {
        let ids: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.id()).collect();
        assert_eq!(ids.len(), DropReason::COUNT);
        for (number, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), number);
            assert_eq!(DropReason::from_id(reason.id()), Some(*reason));
            assert!(reason.sentence().ends_with('.') && reason.advice().ends_with('.'), "{reason}");
        }
        assert_eq!(DropReason::from_id("no such"), None);
    }
}
