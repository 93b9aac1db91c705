//! A lane in memory: ports that are pairs of bounded queues, for tests, simulations and benches.
//!
//! [`MemLane`] is strict where a device is: a packet that its capabilities do not cover is rejected
//! and counted, receive stalls while too many packets are held, fresh bytes are filled with
//! [`JUNK`], and `alloc` runs dry. One `MemLane` is what one worker sees; a device with several
//! queues is a [`MemNic`].
//!
//! ```
//! use lvs_core::addr::MacAddr;
//! use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
//! use lvs_core::io::{Burst, Lane, PortId};
//!
//! let (a, b) = (PortId(0), PortId(1));
//! let mut lane = MemLane::new([MemPort::new(MacAddr([2, 0, 0, 0, 0, 1])), MemPort::default()]);
//! lane.inject(a, MemBuf::from_bytes(&[7; 60])).unwrap();
//!
//! let mut burst = Burst::new();
//! assert_eq!(lane.rx_burst(a, &mut burst), Ok(1));
//! assert_eq!(lane.tx_burst(b, &mut burst), Ok(1)); // moved, not copied
//! assert_eq!(lane.take_sent(b).unwrap().to_vec(), [7; 60]);
//! ```
#![cfg(feature = "alloc")]

extern crate alloc;

mod buf;
mod nic;

pub use buf::{JUNK, MemBuf, MemMeta};
pub use nic::{MemNic, RSS_KEY, toeplitz};

use super::{Burst, Caps, GsoCaps, IoError, L4Csum, Lane, PortId, PortInfo, PortStats, Rss};
use super::{PacketBuf, WaitReady};
use crate::addr::MacAddr;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use buf::Budget;

/// Configuration of one port of a [`MemLane`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemPort {
    /// Its own address.
    pub mac: MacAddr,
    /// Largest IP packet it sends, as told by [`Lane::port_info`].
    pub mtu: u16,
    /// What it can do. `caps.headroom` and `caps.max_held` are kept exactly.
    pub caps: Caps,
    /// Longest frame it can receive, trains included; longer ones count as `rx_truncated`.
    pub rx_buffer: usize,
    /// Packets that wait for `rx_burst`; more count as `rx_missed`.
    pub rx_queue: usize,
    /// Packets that wait for [`MemLane::take_sent`]; more stay in the caller's burst.
    pub tx_queue: usize,
    /// Sent packets appear only after [`Lane::poll_tx`], as on devices with a doorbell.
    pub doorbell: bool,
    /// Toeplitz key and indirection table that [`Lane::port_info`] tells.
    pub rss: Option<(Vec<u8>, Vec<u16>)>,
}

impl MemPort {
    /// A port that takes whatever a director may send: 1500 bytes MTU, checksums, VLAN tags and all
    /// trains, 128 bytes of headroom, queues of 1024 packets, 4096 held packets.
    #[must_use]
    pub const fn new(mac: MacAddr) -> Self {
        Self {
            mac,
            mtu: 1500,
            caps: Caps {
                max_frame: 1514,
                headroom: 128,
                tx_csum: true,
                tx_vlan: true,
                gso: GsoCaps { tcp_v4: true, tcp_v6: true, udp: true, in_tunnel: true },
                max_held: 4096,
            },
            rx_buffer: 1 << 17,
            rx_queue: 1024,
            tx_queue: 1024,
            doorbell: false,
            rss: None,
        }
    }

    /// A port that can do nothing by itself: no checksums, no VLAN tags, no trains. What a director
    /// sends there must be complete.
    #[must_use]
    pub const fn plain(mac: MacAddr) -> Self {
        let mut port = Self::new(mac);
        port.caps.tx_csum = false;
        port.caps.tx_vlan = false;
        port.caps.gso = GsoCaps { tcp_v4: false, tcp_v6: false, udp: false, in_tunnel: false };
        port
    }
}

impl Default for MemPort {
    fn default() -> Self {
        Self::new(MacAddr([0x02, 0, 0, 0, 0, 0xfe]))
    }
}

/// One port at work.
#[derive(Debug)]
struct Port {
    config: MemPort,
    rx: VecDeque<MemBuf>,
    /// Sent and visible packets come first, `rung` of them.
    tx: VecDeque<MemBuf>,
    rung: usize,
    held: Budget,
    error: Option<IoError>,
    stats: PortStats,
}

impl Port {
    fn new(config: MemPort) -> Self {
        let held = usize::try_from(config.caps.max_held).unwrap_or(usize::MAX);
        Self {
            rx: VecDeque::with_capacity(config.rx_queue.min(1 << 16)),
            tx: VecDeque::with_capacity(config.tx_queue.min(1 << 16)),
            rung: 0,
            held: Budget::new(held),
            error: None,
            stats: PortStats::default(),
            config,
        }
    }

    /// Whether the device could ever send this packet.
    fn can_send(&self, packet: &MemBuf) -> bool {
        let caps = &self.config.caps;
        let meta = packet.meta();
        let max = usize::from(caps.max_frame);
        let fits = match meta.gso {
            None => packet.total_len() <= max,
            Some(gso) => {
                let segment = usize::from(meta.gso_headers) + usize::from(gso.size);
                caps.gso.takes(gso.kind) && gso.size > 0 && segment <= max
            }
        };
        let partial = meta.l4_csum == L4Csum::Partial;
        // Past the Ethernet header, and with room for the field itself.
        let in_place = usize::from(meta.l4) + 8 <= packet.data().len() && meta.l3 < meta.l4;
        fits && (!partial || (caps.tx_csum && in_place))
            && (meta.vlan.is_none() || caps.tx_vlan)
            && packet.data().len() >= 14
    }

    fn send(&mut self, mut packet: MemBuf) {
        if self.can_send(&packet) {
            packet.release_held();
            self.tx.push_back(packet);
            self.stats.tx = self.stats.tx.wrapping_add(1);
        } else {
            self.stats.tx_rejected = self.stats.tx_rejected.wrapping_add(1);
        }
    }
}

/// All ports of one worker, in memory. See the [module](self).
///
/// A port number that does not exist is never a panic: it receives nothing, keeps what is sent to
/// it in the burst, and answers [`IoError::NoPort`].
#[derive(Debug)]
pub struct MemLane {
    ports: Vec<Port>,
    pool: Budget,
    /// Storage of packets that came back through [`Lane::free_burst`] or [`MemLane::recycle`].
    spare: Vec<MemBuf>,
}

/// What a port that does not exist can do.
const NO_CAPS: Caps = Caps {
    max_frame: 0,
    headroom: 0,
    tx_csum: false,
    tx_vlan: false,
    gso: GsoCaps { tcp_v4: false, tcp_v6: false, udp: false, in_tunnel: false },
    max_held: 0,
};

/// Bytes behind an allocated packet, so that headers may grow at the end too.
const TAILROOM: usize = 64;
/// Smallest storage of an allocated packet: recycled ones then fit most requests.
const ALLOC_MIN: usize = 2048;
/// Most packets whose storage is kept for the next allocation.
const SPARE: usize = 1024;

impl MemLane {
    /// A lane with these ports and 4096 packets to allocate.
    #[must_use]
    pub fn new(ports: impl IntoIterator<Item = MemPort>) -> Self {
        Self::with_pool(ports, 4096)
    }

    /// A lane whose [`Lane::alloc`] gives at most `pool` packets that live at once.
    #[must_use]
    pub fn with_pool(ports: impl IntoIterator<Item = MemPort>, pool: usize) -> Self {
        let ports = ports.into_iter().map(Port::new).collect();
        Self { ports, pool: Budget::new(pool), spare: Vec::with_capacity(pool.min(SPARE)) }
    }

    fn port(&self, port: PortId) -> Option<&Port> {
        self.ports.get(port.index())
    }

    fn port_mut(&mut self, port: PortId) -> Option<&mut Port> {
        self.ports.get_mut(port.index())
    }

    /// Lets a frame arrive from the wire. It is copied only if it has less headroom than the port
    /// guarantees.
    ///
    /// # Errors
    /// Gives the frame back when there is no such port, the link is down, the receive queue is full
    /// (counted as `rx_missed`) or the frame is too long (counted as `rx_truncated`).
    pub fn inject(&mut self, port: PortId, frame: MemBuf) -> Result<(), MemBuf> {
        let Some(port) = self.port_mut(port) else { return Err(frame) };
        if port.error.is_some() {
            return Err(frame);
        }
        if frame.total_len() > port.config.rx_buffer {
            port.stats.rx_truncated = port.stats.rx_truncated.wrapping_add(1);
            return Err(frame);
        }
        if port.rx.len() >= port.config.rx_queue {
            port.stats.rx_missed = port.stats.rx_missed.wrapping_add(1);
            return Err(frame);
        }
        port.rx.push_back(frame.with_headroom(usize::from(port.config.caps.headroom)));
        Ok(())
    }

    /// Takes the oldest frame off the wire, metadata and all; `None` when nothing was sent.
    pub fn take_sent(&mut self, port: PortId) -> Option<MemBuf> {
        let port = self.port_mut(port)?;
        port.rung = port.rung.checked_sub(1)?;
        port.tx.pop_front()
    }

    /// How many frames [`take_sent`](Self::take_sent) would give now.
    #[must_use]
    pub fn sent(&self, port: PortId) -> usize {
        self.port(port).map_or(0, |p| p.rung)
    }

    /// How many injected frames wait to be received.
    #[must_use]
    pub fn waiting(&self, port: PortId) -> usize {
        self.port(port).map_or(0, |p| p.rx.len())
    }

    /// Received packets of this port that are neither sent nor dropped: zero when nobody leaks.
    #[must_use]
    pub fn held(&self, port: PortId) -> usize {
        self.port(port).map_or(0, |p| p.held.used())
    }

    /// Packets from [`Lane::alloc`] that still live, on the wire included.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.pool.used()
    }

    /// Takes the link down or up. While it is down nothing arrives, and receiving and transmitting
    /// answer [`IoError::LinkDown`]; queued frames stay.
    pub fn set_link(&mut self, port: PortId, up: bool) {
        self.set_error(port, (!up).then_some(IoError::LinkDown));
    }

    /// Lets every receive and transmit of the port fail with this error until it is set to `None`.
    pub fn set_error(&mut self, port: PortId, error: Option<IoError>) {
        if let Some(port) = self.port_mut(port) {
            port.error = error;
        }
    }

    /// Keeps the storage of a packet that is done with, so that the next [`Lane::alloc`] needs no
    /// heap. Dropping the packet is as correct.
    pub fn recycle(&mut self, mut packet: MemBuf) {
        if self.spare.len() < self.spare.capacity() {
            packet.release_all();
            self.spare.push(packet);
        }
    }
}

impl Lane for MemLane {
    type Buf = MemBuf;

    fn port_count(&self) -> u16 {
        u16::try_from(self.ports.len()).unwrap_or(u16::MAX)
    }

    fn caps(&self, port: PortId) -> Caps {
        self.port(port).map_or(NO_CAPS, |p| p.config.caps)
    }

    fn port_info(&self, port: PortId) -> PortInfo<'_> {
        let Some(port) = self.port(port) else {
            return PortInfo { mac: MacAddr::ZERO, mtu: 0, link_up: false, rss: None };
        };
        PortInfo {
            mac: port.config.mac,
            mtu: port.config.mtu,
            link_up: port.error != Some(IoError::LinkDown),
            rss: port.config.rss.as_ref().map(|(key, table)| Rss { key, table }),
        }
    }

    fn rx_burst(&mut self, port: PortId, out: &mut Burst<MemBuf>) -> Result<usize, IoError> {
        let port = self.port_mut(port).ok_or(IoError::NoPort)?;
        if let Some(error) = port.error {
            return Err(error);
        }
        let mut received = 0;
        while out.room() > 0 && !port.rx.is_empty() {
            let Some(permit) = port.held.take() else { break };
            let Some(mut packet) = port.rx.pop_front() else { break };
            packet.set_held(permit);
            if out.push(packet).is_err() {
                break;
            }
            received += 1;
        }
        port.stats.rx = port.stats.rx.wrapping_add(received as u64);
        Ok(received)
    }

    fn tx_burst(&mut self, port: PortId, pkts: &mut Burst<MemBuf>) -> Result<usize, IoError> {
        let port = self.port_mut(port).ok_or(IoError::NoPort)?;
        if let Some(error) = port.error {
            return Err(error);
        }
        let before = pkts.len();
        // A burst gives packets from its end; reversed, that is the front.
        pkts.reverse();
        while port.tx.len() < port.config.tx_queue {
            let Some(packet) = pkts.pop() else { break };
            port.send(packet);
        }
        pkts.reverse();
        if !port.config.doorbell {
            port.rung = port.tx.len();
        }
        Ok(before.saturating_sub(pkts.len()))
    }

    fn poll_tx(&mut self, port: PortId) {
        if let Some(port) = self.port_mut(port) {
            port.rung = port.tx.len();
        }
    }

    fn alloc(&mut self, len: usize) -> Option<MemBuf> {
        let permit = self.pool.take()?;
        let headroom = self.ports.iter().map(|p| usize::from(p.config.caps.headroom)).max();
        let headroom = headroom.unwrap_or(0);
        let room = headroom.checked_add(len)?.checked_add(TAILROOM)?;
        let mut packet = match self.spare.pop() {
            Some(old) if old.capacity() >= room => old,
            _ => MemBuf::with_capacity(room.max(ALLOC_MIN)),
        };
        packet.reset(headroom, len);
        packet.set_pooled(permit);
        Some(packet)
    }

    fn free_burst(&mut self, pkts: &mut Burst<MemBuf>) {
        while let Some(packet) = pkts.pop() {
            self.recycle(packet);
        }
    }

    fn stats(&self, port: PortId) -> PortStats {
        self.port(port).map_or_else(PortStats::default, |p| p.stats)
    }
}

/// Nothing arrives in memory while one waits, so waiting returns at once.
impl WaitReady for MemLane {
    fn wait(&mut self, _timeout_us: u32) -> Result<(), IoError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
