//! What the model is made from, is given, and answers.

use lvs_core::addr::MacAddr;
use lvs_core::flow::WireTuple;
use lvs_core::id::{ServerId, ServiceId};
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{Gso, GsoCaps, L4Csum, PacketBuf, PortId, Vlan};
use lvs_core::verdict::Verdict;
use lvs_director::FragmentConfig;

/// One port of the modelled box.
#[derive(Clone, Debug)]
pub struct PortSetup {
    /// Its own address.
    pub mac: MacAddr,
    /// Largest IP packet.
    pub mtu: u16,
    /// Longest frame, tags in its bytes included.
    pub max_frame: u16,
    /// Completes partial checksums.
    pub tx_csum: bool,
    /// Trains that it sends.
    pub gso: GsoCaps,
}

/// Sizes and secrets: those of the director, its store and its lane.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The ports of the lane.
    pub ports: Vec<PortSetup>,
    /// First and last local port.
    pub local_ports: (u16, u16),
    /// Local addresses that the store has room for, IPv4 and IPv6.
    pub local_addresses: [u16; 2],
    /// Sessions without a local port that the store has room for, IPv4 and IPv6.
    pub general: [u32; 2],
    /// Where local ports start.
    pub seed: u64,
    /// Secret of the initial sequence numbers.
    pub isn_key: [u64; 2],
    /// Packets that may wait for neighbours.
    pub waiting: u16,
    /// Time-outs and places of fragments. Datagrams in pieces have no end here.
    pub fragments: FragmentConfig,
}

impl Setup {
    /// Ports of 1500 bytes that can send everything, and a small store.
    #[must_use]
    pub fn with_ports(macs: impl IntoIterator<Item = MacAddr>) -> Self {
        let gso = GsoCaps { tcp_v4: true, tcp_v6: true, udp: true, in_tunnel: true };
        let port = |mac| PortSetup { mac, mtu: 1500, max_frame: 1514, tx_csum: true, gso };
        Self {
            ports: macs.into_iter().map(port).collect(),
            local_ports: (1025, 1088),
            local_addresses: [4, 4],
            general: [64, 64],
            seed: 0,
            isn_key: [0, 0],
            waiting: 64,
            fragments: FragmentConfig::default(),
        }
    }
}

/// A packet as it arrives.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The frame.
    pub bytes: Vec<u8>,
    /// Room in front of it.
    pub headroom: usize,
    /// State of its transport checksum.
    pub csum: L4Csum,
    /// Tag beside it.
    pub vlan: Option<Vlan>,
    /// Segment train.
    pub gso: Option<Gso>,
}

impl From<&MemBuf> for Packet {
    fn from(packet: &MemBuf) -> Self {
        Self {
            bytes: packet.to_vec(),
            headroom: packet.headroom(),
            csum: packet.l4_csum(),
            vlan: packet.vlan(),
            gso: packet.gso(),
        }
    }
}

/// A packet that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// On this port.
    pub port: PortId,
    /// The frame.
    pub bytes: Vec<u8>,
    /// State of its transport checksum.
    pub csum: L4Csum,
    /// Tag beside it.
    pub vlan: Option<Vlan>,
    /// Segment train.
    pub gso: Option<Gso>,
    /// Where a transmitter finds what it has to finish: offsets of the IP and the transport header of
    /// a partial checksum.
    pub partial_at: Option<(u16, u16)>,
    /// Bytes of all headers of a train.
    pub train_headers: Option<u16>,
}

impl Sent {
    /// What a lane was given.
    #[must_use]
    pub fn of(port: PortId, packet: &MemBuf) -> Self {
        let meta = packet.meta();
        let partial = meta.l4_csum == L4Csum::Partial;
        Self {
            port,
            bytes: packet.to_vec(),
            csum: meta.l4_csum,
            vlan: meta.vlan,
            gso: meta.gso,
            partial_at: partial.then_some((meta.l3, meta.l4)),
            train_headers: meta.gso.map(|_| meta.gso_headers),
        }
    }

    /// A frame that the director makes itself, on a port.
    pub(super) fn own(port: PortId, bytes: Vec<u8>, vlan: Option<Vlan>) -> Self {
        let csum = L4Csum::Unknown;
        Self { port, bytes, csum, vlan, gso: None, partial_at: None, train_headers: None }
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its fate.
    pub verdict: Verdict,
    /// The session that it belonged to or opened: its inbound tuple.
    pub session: Option<WireTuple>,
    /// The service.
    pub service: Option<ServiceId>,
    /// The server.
    pub server: Option<ServerId>,
    /// All that left, in order.
    pub sent: Vec<Sent>,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, session: None, service: None, server: None, sent: Vec::new() }
    }
}
