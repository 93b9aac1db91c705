//! A director on a bench: one packet in, every frame that leaves because of it out, with neighbours that
//! answer at once.

use super::{director, speaks_for_itself};
use core::net::IpAddr;
use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::session::{HeapMemory, Session};
use lvs_core::snapshot::SnapshotSpec;
use lvs_core::time::Time;
use lvs_director::{Director, Generation, Outputs, Report};
use lvs_testkit::build::{arp_reply, ndp_advert};
use lvs_testkit::nic;
use std::sync::Arc;

/// Toward the clients.
pub const CLIENTS: PortId = PortId(0);
/// Toward the servers.
pub const SERVERS: PortId = PortId(1);
/// The director's own, on both ports.
pub const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);

/// Of the neighbour with this address.
pub fn mac_of(ip: IpAddr) -> MacAddr {
    let last = match ip {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    MacAddr([2, 1, 1, 1, 1, last])
}

pub struct Bench<'m> {
    pub director: Director<'m>,
    pub lane: MemLane,
    out: Outputs<MemBuf>,
    pub now: u64,
    /// Whether neighbours answer.
    pub neighbours: bool,
}

impl<'m> Bench<'m> {
    pub fn new(spec: SnapshotSpec, memory: &'m mut HeapMemory, port: MemPort) -> Self {
        Self::of(director(spec, memory), port)
    }

    /// Around a director.
    pub fn of(director: Director<'m>, port: MemPort) -> Self {
        Self {
            director,
            lane: MemLane::new([port.clone(), port]),
            out: Outputs::new(2),
            now: 1_000_000_000,
            neighbours: true,
        }
    }

    /// A millisecond later a packet arrives. What became of it, and what was sent until nobody had
    /// anything more to say: `(port, frame as on the wire)`, the director's questions left out.
    pub fn feed(&mut self, port: PortId, packet: MemBuf) -> (Report, Vec<(PortId, Vec<u8>)>) {
        self.now += 1_000_000;
        self.lane.inject(port, packet).expect("room in the queue");
        let packet = self.receive(port).pop().expect("it has just arrived");
        let now = Time(self.now);
        let report = self.director.process_one(now, &mut self.lane, port, packet, &mut self.out);
        let mut frames = Vec::new();
        while self.exchange(&mut frames) {}
        (report, frames)
    }

    /// Collects what was sent, and brings the answers of neighbours; whether there were any.
    fn exchange(&mut self, frames: &mut Vec<(PortId, Vec<u8>)>) -> bool {
        self.out.flush(&mut self.lane);
        let mut answered = false;
        for port in [CLIENTS, SERVERS] {
            while let Some(sent) = self.lane.take_sent(port) {
                for frame in nic::on_wire(&sent) {
                    speaks_for_itself(&frame);
                    let Some(answer) = answer(&frame) else {
                        frames.push((port, frame));
                        continue;
                    };
                    if self.neighbours {
                        answered = true;
                        self.lane.inject(port, MemBuf::from_bytes(&answer)).expect("room");
                    }
                }
            }
            let mut burst = self.receive(port);
            let now = Time(self.now);
            self.director.process(now, &mut self.lane, port, &mut burst, &mut self.out);
        }
        answered
    }

    fn receive(&mut self, port: PortId) -> Burst<MemBuf> {
        let mut burst = Burst::new();
        self.lane.rx_burst(port, &mut burst).expect("the port works");
        burst
    }

    /// One turn of the worker's loop at the present time, and what left because of it.
    pub fn turn(&mut self) -> Vec<(PortId, Vec<u8>)> {
        let now = Time(self.now);
        self.director.expire(now, u32::MAX);
        self.director.tick(now, &mut self.lane, &mut self.out);
        let mut frames = Vec::new();
        while self.exchange(&mut frames) {}
        frames
    }

    /// Lets time pass, with a turn of the worker's loop after each step of it. A turn looks at a few
    /// neighbours only.
    pub fn pass(&mut self, time: Duration, step: Duration) {
        let end = self.now + time.as_nanos() as u64;
        while self.now < end {
            self.now += step.as_nanos() as u64;
            let now = Time(self.now);
            self.director.expire(now, 10_000);
            self.director.tick(now, &mut self.lane, &mut self.out);
            while self.exchange(&mut Vec::new()) {}
        }
    }

    /// Installs the next configuration, and leads sessions onto new ways.
    pub fn reload(&mut self, spec: SnapshotSpec) {
        let next =
            spec.build(Some(self.director.generation().snapshot())).expect("a sound configuration");
        self.director.install(Generation::new(Arc::new(next), super::ARGS));
        // A turn of the worker's loop looks at a few slots only.
        for _ in 0..1000 {
            self.director.tick(Time(self.now), &mut self.lane, &mut self.out);
        }
    }

    /// Every session, in the order of the slots.
    pub fn sessions(&self) -> Vec<Session> {
        let mut all = Vec::new();
        let mut cursor = Some(lvs_core::session::Cursor::default());
        while let Some(at) = cursor {
            cursor = self.director.store().scan(at, 100, |session| all.push(*session));
        }
        all
    }
}

/// What the neighbour answers to a question of the director.
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    if frame[12..14] == [8, 6] && frame[20..22] == [0, 1] {
        let asked: [u8; 4] = frame[38..42].try_into().ok()?;
        let me: [u8; 4] = frame[28..32].try_into().ok()?;
        return Some(arp_reply(mac_of(asked.into()), asked.into(), MAC, me.into()).build());
    }
    if frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 135 {
        let asked: [u8; 16] = frame[62..78].try_into().ok()?;
        let me: [u8; 16] = frame[22..38].try_into().ok()?;
        let (mac, asked) = (mac_of(IpAddr::from(asked)), asked.into());
        return Some(ndp_advert(mac, asked, MAC, me.into(), 3).build());
    }
    None
}
