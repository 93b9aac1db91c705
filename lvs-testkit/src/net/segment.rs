//! Ethernet segments: a learning switch, links with latency and faults, VLANs.

use crate::build::ip_of;
use crate::pcap::Capture;
use core::cmp::Ordering;
use core::time::Duration;
use lvs_core::io::PortId;
use lvs_core::io::middleware::Rng;
use std::collections::BTreeMap;

/// A segment of a [`Net`](super::Net).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentId(pub(super) usize);

/// The quality of every link of a segment. Probabilities in frames per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Time on the way; never less than a microsecond.
    pub latency: Duration,
    /// Up to so much more, evenly spread. More than the latency between frames reorders them.
    pub jitter: Duration,
    /// Lost.
    pub loss: u32,
    /// Arrives twice.
    pub duplicate: u32,
    /// Arrives after frames that were sent up to three latencies later.
    pub reorder: u32,
    /// One bit of the IP packet is flipped, as damage that the link's own check sum did not see.
    /// ARP, which has no checksum at all, is spared.
    pub corrupt: u32,
}

impl Default for Wire {
    /// A good link with 50 microseconds latency.
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(50),
            jitter: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            reorder: 0,
            corrupt: 0,
        }
    }
}

impl Wire {
    /// A link that loses this many frames per million.
    #[must_use]
    pub fn lossy(loss: u32) -> Self {
        Self { loss, ..Self::default() }
    }

    /// A link with every fault, each this many times per million.
    #[must_use]
    pub fn rough(each: u32) -> Self {
        Self { loss: each, duplicate: each, reorder: each, corrupt: each, ..Self::default() }
    }
}

/// What happened on a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentCounters {
    /// Frames that entered.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Copies lost.
    pub lost: u64,
    /// Copies delivered twice.
    pub duplicated: u64,
    /// Copies delayed behind later ones.
    pub reordered: u64,
    /// Copies damaged.
    pub corrupted: u64,
}

/// Who is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attachment {
    Host(usize),
    Device(usize, PortId),
}

/// A frame on its way to one receiver. Ordered so that the earliest comes first out of a heap.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) arrival: u64,
    order: u64,
    pub(super) to: Attachment,
    pub(super) frame: Vec<u8>,
}

impl Flight {
    pub(super) fn new(arrival: u64, order: u64, to: Attachment, frame: Vec<u8>) -> Self {
        Self { arrival, order, to, frame }
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.arrival, other.order).cmp(&(self.arrival, self.order))
    }
}
impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Flight {}

#[derive(Debug)]
struct Place {
    who: Attachment,
    /// Frames of this VLAN only, without the tag; `None` is a trunk.
    access: Option<u16>,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) wire: Wire,
    pub(super) counters: SegmentCounters,
    pub(super) capture: Option<Vec<Capture>>,
    rng: Rng,
    places: Vec<Place>,
    learned: BTreeMap<(u16, [u8; 6]), usize>,
}

impl Segment {
    pub(super) fn new(wire: Wire, rng: Rng) -> Self {
        Self {
            wire,
            counters: SegmentCounters::default(),
            capture: None,
            rng,
            places: Vec::new(),
            learned: BTreeMap::new(),
        }
    }

    pub(super) fn attach(&mut self, who: Attachment, access: Option<u16>) -> usize {
        self.places.push(Place { who, access });
        self.places.len() - 1
    }

    pub(super) fn everybody(&self) -> Vec<Attachment> {
        self.places.iter().map(|place| place.who).collect()
    }

    pub(super) fn record(&mut self, now_ns: u64, frame: &[u8]) {
        self.counters.frames += 1;
        self.counters.bytes += frame.len() as u64;
        if let Some(capture) = &mut self.capture {
            capture.push(Capture { time_ns: now_ns, data: frame.to_vec() });
        }
    }

    /// A frame enters at a place and goes to where its destination was last seen, or everywhere.
    pub(super) fn enter(
        &mut self,
        now_ns: u64,
        from: usize,
        mut frame: Vec<u8>,
        mut fly: impl FnMut(u64, Attachment, Vec<u8>),
    ) {
        if frame.len() < 14 {
            return;
        }
        if let Some(vlan) = self.places[from].access {
            let [high, low] = vlan.to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, high, low]);
        }
        self.record(now_ns, &frame);
        let vlan = vlan_of(&frame);
        let dst: [u8; 6] = core::array::from_fn(|at| frame[at]);
        let src: [u8; 6] = core::array::from_fn(|at| frame[at + 6]);
        self.learned.insert((vlan, src), from);
        let group = dst[0] & 1 != 0;
        let known = self.learned.get(&(vlan, dst)).copied().filter(|_| !group);
        for to in 0..self.places.len() {
            if to == from || known.is_some_and(|place| place != to) {
                continue;
            }
            let copy = match self.places[to].access {
                None => frame.clone(),
                Some(access) if access == vlan => [&frame[..12], &frame[16..]].concat(),
                Some(_) => continue,
            };
            self.fly_one(now_ns, self.places[to].who, copy, &mut fly);
        }
    }

    /// One copy on one link, with its faults.
    fn fly_one(
        &mut self,
        now_ns: u64,
        to: Attachment,
        mut frame: Vec<u8>,
        fly: &mut impl FnMut(u64, Attachment, Vec<u8>),
    ) {
        let wire = self.wire;
        let latency = (wire.latency.as_nanos() as u64).max(1_000);
        if self.rng.chance(wire.loss) {
            self.counters.lost += 1;
            return;
        }
        if self.rng.chance(wire.corrupt) && damage(&mut frame, &mut self.rng) {
            self.counters.corrupted += 1;
        }
        let mut arrival = now_ns + latency;
        if let Ok(jitter @ 1..) = u32::try_from(wire.jitter.as_micros()) {
            arrival += u64::from(self.rng.below(jitter)) * 1_000;
        }
        if self.rng.chance(wire.reorder) {
            self.counters.reordered += 1;
            arrival += latency * u64::from(1 + self.rng.below(3)) + 1_000;
        }
        if self.rng.chance(wire.duplicate) {
            self.counters.duplicated += 1;
            fly(arrival + latency / 2, to, frame.clone());
        }
        fly(arrival, to, frame);
    }
}

/// The VLAN of a tagged frame, 0 for others.
fn vlan_of(frame: &[u8]) -> u16 {
    if frame.len() < 18 || frame[12..14] != [0x81, 0x00] {
        return 0;
    }
    u16::from_be_bytes([frame[14], frame[15]]) & 0x0fff
}

/// Flips one bit of an IP packet; false for anything else.
fn damage(frame: &mut [u8], rng: &mut Rng) -> bool {
    let l3 = frame.len() - ip_of(frame).len();
    let is_ip = matches!(frame.get(l3 - 2..l3), Some([0x08, 0x00] | [0x86, 0xdd]));
    let span = frame.len() - l3;
    if !is_ip || span == 0 {
        return false;
    }
    frame[l3 + rng.below(span as u32) as usize] ^= 1 << rng.below(8);
    true
}
