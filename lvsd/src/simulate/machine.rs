//! A director between ports in memory, and its clock: packets go in, packets and events come out.
//!
//! The director's clock starts one second before the first packet, so a capture gives the same result
//! whatever day it was taken on.

use crate::config::Config;
use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::event::Event;
use lvs_core::io::mem::{MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::time::Time;
use lvs_director::{Director, HopState, Outputs, Report};
use lvs_testkit::nic;

/// Timers run this often.
pub(super) const STEP: Duration = Duration::from_millis(100);
const STEP_NS: u64 = STEP.as_nanos() as u64;
/// What the director's clock shows at the first packet.
const START: Duration = Duration::from_secs(1);
/// A neighbour that was asked has answered or failed after this time.
const ASKED_FOR: Duration = Duration::from_secs(5);
/// MTU of a port whose configuration names none.
const MTU: u16 = 1500;
/// Ethernet header and two VLAN tags.
const LINK_HEADERS: u16 = 22;
/// Longer than any record of a capture.
const RX_BUFFER: usize = 1 << 19;
/// Sessions that may end at once without filling the director's ring of events.
const ENDED_AT_ONCE: u32 = 200;
/// Neighbours that the director looks at in one tick.
const NEIGHBOURS_PER_TICK: usize = 64;

/// A frame that left.
pub(super) struct Sent {
    pub(super) port: PortId,
    pub(super) frame: Vec<u8>,
}

/// What one call of the machine brought about.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) sent: Vec<Sent>,
    pub(super) events: Vec<Event>,
}

/// The director at work.
pub(super) struct Machine<'m> {
    director: Director<'m>,
    lane: MemLane,
    out: Outputs<<MemLane as Lane>::Buf>,
    /// Time of the first packet.
    first_ns: u64,
    /// When timers run next.
    step_ns: u64,
    /// Neighbours may have to be asked again until then.
    asking_until_ns: u64,
}

impl<'m> Machine<'m> {
    /// A machine for the packets of a capture that begins at `first_ns`.
    pub(super) fn new(config: &Config, director: Director<'m>, first_ns: u64) -> Self {
        let ports = config.ports.iter().map(|port| {
            let mac = port.mac.as_ref().map_or(MacAddr::ZERO, |mac| mac.value);
            let mtu = port.mtu.as_ref().map_or(MTU, |mtu| mtu.value);
            let mut port = MemPort { mtu, rx_buffer: RX_BUFFER, ..MemPort::plain(mac) };
            port.caps.tx_vlan = true;
            port.caps.max_frame = mtu.saturating_add(LINK_HEADERS);
            port
        });
        let lane = MemLane::new(ports);
        let out = Outputs::new(lane.port_count());
        let step_ns = first_ns.saturating_add(STEP_NS);
        Self { director, lane, out, first_ns, step_ns, asking_until_ns: 0 }
    }

    pub(super) const fn director(&self) -> &Director<'m> {
        &self.director
    }

    fn clock(&self, time_ns: u64) -> Time {
        Time(time_ns.saturating_sub(self.first_ns)).after(START)
    }

    /// A packet arrives. Timers that are due before it have run.
    pub(super) fn packet(&mut self, time_ns: u64, port: PortId, frame: &[u8]) -> (Report, Effects) {
        let now = self.clock(time_ns);
        let mut burst = Burst::new();
        let mut report = None;
        // The queue is empty and has room for the longest frame.
        let _ = self.lane.inject(port, nic::from_wire(frame, true));
        let _ = self.lane.rx_burst(port, &mut burst);
        let Self { director, lane, out, .. } = self;
        burst.drain_with(|packet| {
            report = Some(director.process_one(now, lane, port, packet, out));
        });
        let mut effects = Effects::default();
        self.collect(&mut effects);
        self.asking_until_ns = time_ns.saturating_add(nanos(ASKED_FOR));
        (report.unwrap_or(lvs_core::verdict::Verdict::Release.into()), effects)
    }

    /// The next time, not after `until_ns`, at which timers have to run.
    pub(super) fn due(&mut self, until_ns: u64) -> Option<u64> {
        if self.step_ns > until_ns {
            return None;
        }
        let asking = self.step_ns <= self.asking_until_ns
            && self.director.hops().any(|hop| hop.state == HopState::Asking);
        if self.director.store().is_empty() && !asking {
            // Nothing can happen until a packet comes.
            let steps = (until_ns - self.step_ns) / STEP_NS + 1;
            self.step_ns = self.step_ns.saturating_add(steps.saturating_mul(STEP_NS));
            return None;
        }
        Some(self.step_ns)
    }

    /// Runs the timers that [`due`](Self::due) named.
    pub(super) fn step(&mut self) -> Effects {
        let now = self.clock(self.step_ns);
        let mut effects = Effects::default();
        self.expire(now, &mut effects);
        for _ in 0..=self.director.hop_capacity() / NEIGHBOURS_PER_TICK {
            self.director.tick(now, &mut self.lane, &mut self.out);
            self.collect(&mut effects);
        }
        if !effects.sent.is_empty() {
            self.asking_until_ns = self.step_ns.saturating_add(nanos(ASKED_FOR));
        }
        self.step_ns = self.step_ns.saturating_add(STEP_NS);
        effects
    }

    /// Ends all sessions whose time has passed, few enough at once that no event is lost: a call that
    /// looks at so many places ends no more sessions than that.
    fn expire(&mut self, now: Time, effects: &mut Effects) {
        let mut left = self.director.store().capacity().saturating_add(ENDED_AT_ONCE as usize);
        loop {
            if self.director.store().len() <= ENDED_AT_ONCE {
                self.director.expire(now, u32::MAX);
                return self.collect(effects);
            }
            self.director.expire(now, ENDED_AT_ONCE);
            self.collect(effects);
            let Some(rest) = left.checked_sub(ENDED_AT_ONCE as usize) else { return };
            left = rest;
        }
    }

    fn collect(&mut self, effects: &mut Effects) {
        self.out.flush(&mut self.lane);
        for port in (0..self.lane.port_count()).map(PortId) {
            while let Some(packet) = self.lane.take_sent(port) {
                let frames = nic::on_wire(&packet).into_iter();
                effects.sent.extend(frames.map(|frame| Sent { port, frame }));
                self.lane.recycle(packet);
            }
        }
        effects.events.extend(core::iter::from_fn(|| self.director.poll_event()));
    }

    /// Packets that the ports refused to send: more than zero is a fault of the director.
    pub(super) fn refused(&self) -> u64 {
        let ports = (0..self.lane.port_count()).map(PortId);
        ports.map(|port| self.lane.stats(port).tx_rejected).sum()
    }
}

const fn nanos(duration: Duration) -> u64 {
    lvs_core::time::nanos(duration)
}
