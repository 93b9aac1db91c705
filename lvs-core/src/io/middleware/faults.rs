//! A lane over a bad wire.

extern crate alloc;

use super::{Rng, pass_on};
use crate::io::{
    Burst, Caps, IoError, L4Csum, Lane, PacketBuf, PortId, PortInfo, PortStats, WaitReady,
};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How bad the wire is. Probabilities in packets per million; all zero is a good wire.
///
/// ```
/// use lvs_core::io::middleware::FaultPlan;
/// let rough = FaultPlan { drop: 20_000, reorder: 10_000, ..FaultPlan::NONE }; // 2 % and 1 %
/// assert_ne!(rough, FaultPlan::NONE);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Lost.
    pub drop: u32,
    /// Arrives twice, if the lane has a buffer for the copy.
    pub duplicate: u32,
    /// Overtaken by one to three later packets.
    pub reorder: u32,
    /// One bit behind the Ethernet header is flipped. The device no longer vouches for the
    /// checksum; packets whose checksum is yet to be finished and trains are spared, because damage
    /// to them could not be noticed.
    pub corrupt: u32,
    /// Overtaken by one to `delay_max` later packets.
    pub delay: u32,
    /// Longest delay, in packets or empty polls of the same port and direction.
    pub delay_max: u32,
}

impl FaultPlan {
    /// A good wire.
    pub const NONE: Self =
        Self { drop: 0, duplicate: 0, reorder: 0, corrupt: 0, delay: 0, delay_max: 0 };
}

/// What [`Faults`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounters {
    /// Packets that came in.
    pub packets: u64,
    /// Lost.
    pub dropped: u64,
    /// Repeated.
    pub duplicated: u64,
    /// Held back behind later ones.
    pub delayed: u64,
    /// Damaged.
    pub corrupted: u64,
}

/// A lane whose packets suffer on the way in and on the way out.
///
/// Equal seed, plan and calls give equal faults. A packet that is held back waits for later packets
/// of the same port and direction; an empty receive or a `poll_tx` counts as one, so nothing waits
/// for ever.
#[derive(Debug)]
pub struct Faults<L: Lane> {
    inner: L,
    wires: Vec<Wires<L::Buf>>,
}

/// Both directions of one port.
#[derive(Debug)]
struct Wires<B> {
    rx: Wire<B>,
    tx: Wire<B>,
}

/// One direction of one port.
#[derive(Debug)]
struct Wire<B> {
    plan: FaultPlan,
    rng: Rng,
    /// Packets and empty polls seen.
    clock: u64,
    waiting: Vec<(u64, B)>,
    ready: VecDeque<B>,
    seen: FaultCounters,
}

impl<L: Lane> Faults<L> {
    /// The same plan for every port, both ways.
    #[must_use]
    pub fn new(inner: L, plan: FaultPlan, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut wire = || Wire {
            plan,
            rng: rng.fork(),
            clock: 0,
            waiting: Vec::new(),
            ready: VecDeque::new(),
            seen: FaultCounters::default(),
        };
        let wires = (0..inner.port_count()).map(|_| Wires { rx: wire(), tx: wire() }).collect();
        Self { inner, wires }
    }

    /// Another plan for one port: `rx` for what it receives, `tx` for what it sends.
    pub fn set_plan(&mut self, port: PortId, rx: FaultPlan, tx: FaultPlan) {
        if let Some(wires) = self.wires.get_mut(port.index()) {
            (wires.rx.plan, wires.tx.plan) = (rx, tx);
        }
    }

    /// What was done to received and to sent packets of a port.
    #[must_use]
    pub fn counters(&self, port: PortId) -> Option<(FaultCounters, FaultCounters)> {
        self.wires.get(port.index()).map(|wires| (wires.rx.seen, wires.tx.seen))
    }

    /// The lane inside.
    #[must_use]
    pub const fn inner(&self) -> &L {
        &self.inner
    }

    /// The lane inside, to change.
    pub const fn inner_mut(&mut self) -> &mut L {
        &mut self.inner
    }

    /// Hands sent packets that are due to the lane inside; whether all went.
    fn flush(&mut self, port: PortId) -> Result<bool, IoError> {
        let Some(wires) = self.wires.get_mut(port.index()) else { return Err(IoError::NoPort) };
        let ready = &mut wires.tx.ready;
        while !ready.is_empty() {
            let mut burst = Burst::new();
            while burst.room() > 0 {
                let Some(packet) = ready.pop_front() else { break };
                if let Err(back) = burst.push(packet) {
                    ready.push_front(back);
                    break;
                }
            }
            let outcome = self.inner.tx_burst(port, &mut burst);
            let stuck = !burst.is_empty();
            while let Some(packet) = burst.pop() {
                ready.push_front(packet);
            }
            outcome?;
            if stuck {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<B: PacketBuf> Wire<B> {
    /// One packet enters the wire.
    fn enter(&mut self, mut packet: B, copy: impl FnOnce(&B) -> Option<B>) {
        self.seen.packets += 1;
        if self.rng.chance(self.plan.drop) {
            self.seen.dropped += 1;
            return self.tick();
        }
        if self.rng.chance(self.plan.corrupt) && corrupt(&mut packet, &mut self.rng) {
            self.seen.corrupted += 1;
        }
        let twin = if self.rng.chance(self.plan.duplicate) { copy(&packet) } else { None };
        let wait = if self.rng.chance(self.plan.reorder) {
            1 + self.rng.below(3)
        } else if self.plan.delay_max > 0 && self.rng.chance(self.plan.delay) {
            1 + self.rng.below(self.plan.delay_max)
        } else {
            0
        };
        self.tick();
        if wait > 0 {
            self.seen.delayed += 1;
            self.waiting.push((self.clock.saturating_add(u64::from(wait)), packet));
        } else {
            self.ready.push_back(packet);
        }
        if let Some(twin) = twin {
            self.seen.duplicated += 1;
            self.ready.push_back(twin);
        }
        self.release();
    }

    /// Time passes by one packet.
    fn tick(&mut self) {
        self.clock = self.clock.saturating_add(1);
        self.release();
    }

    /// Held packets that are due go on.
    fn release(&mut self) {
        let clock = self.clock;
        let due = self.waiting.extract_if(.., |(when, _)| *when <= clock);
        self.ready.extend(due.map(|(_, packet)| packet));
    }
}

/// Flips one bit behind the Ethernet header; false for packets whose damage nobody could notice.
fn corrupt<B: PacketBuf>(packet: &mut B, rng: &mut Rng) -> bool {
    if packet.l4_csum() == L4Csum::Partial || packet.gso().is_some() {
        return false;
    }
    let span = u32::try_from(packet.data().len()).unwrap_or(u32::MAX).saturating_sub(14);
    let place = usize::try_from(rng.below(span)).unwrap_or(0).saturating_add(14);
    let bit = rng.below(8);
    let Some(byte) = packet.data_mut().get_mut(place) else { return false };
    *byte ^= 1 << bit;
    packet.set_l4_csum(L4Csum::Unknown, 0, 0);
    true
}

/// A second packet with the same bytes and metadata; none for chained buffers, which a fresh
/// packet cannot hold, and where the lane has no buffer to give.
fn copy_of<L: Lane>(lane: &mut L, packet: &L::Buf) -> Option<L::Buf> {
    let plain = packet.total_len() == packet.data().len()
        && packet.gso().is_none()
        && packet.l4_csum() != L4Csum::Partial;
    if !plain {
        return None;
    }
    let mut copy = lane.alloc(packet.data().len())?;
    for (to, from) in copy.data_mut().iter_mut().zip(packet.data()) {
        *to = *from;
    }
    copy.set_l4_csum(packet.l4_csum(), 0, 0);
    copy.set_vlan(packet.vlan());
    Some(copy)
}

impl<L: Lane> Lane for Faults<L> {
    type Buf = L::Buf;

    pass_on!(port_count caps port_info alloc free_burst stats);

    fn rx_burst(&mut self, port: PortId, out: &mut Burst<L::Buf>) -> Result<usize, IoError> {
        let Self { inner, wires } = self;
        let Some(Wires { rx, .. }) = wires.get_mut(port.index()) else {
            return inner.rx_burst(port, out);
        };
        if rx.ready.is_empty() {
            let mut fresh = Burst::new();
            if inner.rx_burst(port, &mut fresh)? == 0 {
                rx.tick();
            }
            fresh.drain_with(|packet| rx.enter(packet, |original| copy_of(inner, original)));
        }
        let mut received = 0;
        while out.room() > 0 {
            let Some(packet) = rx.ready.pop_front() else { break };
            if out.push(packet).is_err() {
                break;
            }
            received += 1;
        }
        Ok(received)
    }

    /// Takes all packets, unless the device is full; what it has no room for after that waits
    /// inside.
    fn tx_burst(&mut self, port: PortId, pkts: &mut Burst<L::Buf>) -> Result<usize, IoError> {
        if !self.flush(port)? {
            return Ok(0);
        }
        let Self { inner, wires } = self;
        let Some(Wires { tx, .. }) = wires.get_mut(port.index()) else {
            return inner.tx_burst(port, pkts);
        };
        let taken = pkts.len();
        pkts.drain_with(|packet| tx.enter(packet, |original| copy_of(inner, original)));
        // The packets are inside either way, so an error now is told by the next call.
        let _ = self.flush(port);
        Ok(taken)
    }

    fn poll_tx(&mut self, port: PortId) {
        if let Some(wires) = self.wires.get_mut(port.index()) {
            wires.tx.tick();
        }
        // An error shows at the next transmit; what was not sent stays inside.
        let _ = self.flush(port);
        self.inner.poll_tx(port);
    }
}

impl<L: WaitReady> WaitReady for Faults<L> {
    fn wait(&mut self, timeout_us: u32) -> Result<(), IoError> {
        if self.wires.iter().any(|wires| !wires.rx.ready.is_empty()) {
            return Ok(());
        }
        self.inner.wait(timeout_us)
    }
}
