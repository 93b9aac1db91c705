//! A lane without heap and without device: it receives copies of one frame and swallows what is sent.
//!
//! It exists so that code which is generic over a [`Lane`] can be linked here. Its buffers are plain
//! values; a real driver's would be pointers into its memory.

use lvs_core::addr::MacAddr;
use lvs_core::io::{
    Burst, Caps, Gso, GsoCaps, IoError, L4Csum, Lane, NoRoom, PacketBuf, PortId, PortInfo,
    PortStats, Vlan,
};

/// Bytes of a buffer, headroom included.
const SIZE: usize = 2048;
/// Bytes before a received frame.
const HEADROOM: usize = 128;
/// Longest frame that fits.
pub const MAX_FRAME: usize = SIZE - 2 * HEADROOM;

/// A packet in an array. Invariant: `start <= end <= SIZE`.
pub struct Packet {
    bytes: [u8; SIZE],
    start: usize,
    end: usize,
    csum: L4Csum,
    vlan: Option<Vlan>,
    gso: Option<Gso>,
}

impl Packet {
    /// `len` zeros behind the headroom, if they fit.
    fn zeroed(len: usize) -> Option<Self> {
        let end = HEADROOM.checked_add(len).filter(|_| len <= MAX_FRAME)?;
        let (csum, vlan, gso) = (L4Csum::Unknown, None, None);
        Some(Self { bytes: [0; SIZE], start: HEADROOM, end, csum, vlan, gso })
    }

    /// A copy of a frame, cut to what fits.
    fn copy_of(frame: &[u8]) -> Option<Self> {
        let mut packet = Self::zeroed(frame.len().min(MAX_FRAME))?;
        for (to, from) in packet.data_mut().iter_mut().zip(frame) {
            *to = *from;
        }
        Some(packet)
    }
}

impl PacketBuf for Packet {
    fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn tailroom(&self) -> usize {
        SIZE.saturating_sub(self.end)
    }

    fn push_front(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        self.start = self.start.checked_sub(n).ok_or(NoRoom)?;
        Ok(self.data_mut())
    }

    fn pull_front(&mut self, n: usize) -> Result<(), NoRoom> {
        let start = self.start.checked_add(n).filter(|start| *start <= self.end);
        self.start = start.ok_or(NoRoom)?;
        Ok(())
    }

    fn push_back(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        let end = self.end.checked_add(n).filter(|end| *end <= SIZE);
        self.end = end.ok_or(NoRoom)?;
        Ok(self.data_mut())
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start.saturating_add(len));
    }

    fn l4_csum(&self) -> L4Csum {
        self.csum
    }

    fn vlan(&self) -> Option<Vlan> {
        self.vlan
    }

    fn gso(&self) -> Option<Gso> {
        self.gso
    }

    fn set_l4_csum(&mut self, state: L4Csum, _l3: u16, _l4: u16) {
        self.csum = state;
    }

    fn set_vlan(&mut self, vlan: Option<Vlan>) {
        self.vlan = vlan;
    }

    fn set_gso(&mut self, gso: Option<Gso>, _headers: u16) {
        self.gso = gso;
    }
}

/// One port. What is received are copies of `frame`; what is sent is folded into `sent`.
pub struct OneFrame<'a> {
    frame: &'a [u8],
    left: usize,
    stats: PortStats,
    /// A number that depends on every byte that was sent.
    pub sent: u64,
}

impl<'a> OneFrame<'a> {
    /// A port that will receive the frame `copies` times.
    pub fn new(frame: &'a [u8], copies: usize) -> Self {
        Self { frame, left: copies, stats: PortStats::default(), sent: 0 }
    }
}

impl Lane for OneFrame<'_> {
    type Buf = Packet;

    fn port_count(&self) -> u16 {
        1
    }

    fn caps(&self, _port: PortId) -> Caps {
        Caps {
            max_frame: MAX_FRAME as u16,
            headroom: HEADROOM as u16,
            tx_csum: false,
            tx_vlan: false,
            gso: GsoCaps::default(),
            max_held: u32::MAX,
        }
    }

    fn port_info(&self, _port: PortId) -> PortInfo<'_> {
        PortInfo { mac: MacAddr([2, 0, 0, 0, 0, 1]), mtu: 1500, link_up: true, rss: None }
    }

    fn rx_burst(&mut self, port: PortId, out: &mut Burst<Packet>) -> Result<usize, IoError> {
        if port != PortId(0) {
            return Err(IoError::NoPort);
        }
        let mut count = 0usize;
        while self.left > 0 && out.room() > 0 {
            let Some(packet) = Packet::copy_of(self.frame) else { break };
            if out.push(packet).is_err() {
                break;
            }
            self.left = self.left.saturating_sub(1);
            self.stats.rx = self.stats.rx.wrapping_add(1);
            count = count.saturating_add(1);
        }
        Ok(count)
    }

    fn tx_burst(&mut self, port: PortId, pkts: &mut Burst<Packet>) -> Result<usize, IoError> {
        if port != PortId(0) {
            return Err(IoError::NoPort);
        }
        let count = pkts.len();
        pkts.drain_with(|packet| {
            for byte in packet.data() {
                self.sent = self.sent.rotate_left(5) ^ u64::from(*byte);
            }
            self.stats.tx = self.stats.tx.wrapping_add(1);
        });
        Ok(count)
    }

    fn alloc(&mut self, len: usize) -> Option<Packet> {
        Packet::zeroed(len)
    }

    fn stats(&self, _port: PortId) -> PortStats {
        self.stats
    }
}
