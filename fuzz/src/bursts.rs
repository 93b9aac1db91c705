//! The twin of a script: the same arrivals a burst at a time.
//!
//! Everything must come out as with one packet at a time (INV-13): frames, counters, sessions. Only
//! packets of different connections may leave in another order.

use crate::outer::without;
use crate::world::{self, Settings};
use lvs_core::counters::Counters;
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{Burst, Lane, PacketBuf, PortId};
use lvs_core::time::Time;
use lvs_director::{Director, Outputs};
use lvs_testkit::{nic, oracle};
use std::collections::BTreeMap;

/// Something that happened to the first director.
#[derive(Clone, Debug)]
pub enum Event {
    /// A packet arrived.
    Packet(Time, PortId, MemBuf),
    /// A turn of the loop without packets.
    Turn(Time),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// All counters.
    pub counters: Counters,
    /// Live sessions.
    pub sessions: u32,
    /// Frames by port and connection, in order; those without a connection in the order of their bytes.
    pub frames: BTreeMap<(PortId, String), Vec<Vec<u8>>>,
}

impl End {
    /// Of a director and what it has sent.
    #[must_use]
    pub fn of(director: &Director<'_>, sent: &[(PortId, Vec<u8>)]) -> Self {
        let mut frames: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        for (port, frame) in sent {
            let connection = connection(frame);
            frames.entry((*port, connection)).or_default().push(frame.clone());
        }
        for ((_, name), list) in &mut frames {
            if name.is_empty() {
                list.sort();
            }
        }
        let sessions = director.store().len();
        Self { counters: director.counters().clone(), sessions, frames }
    }
}

/// Asserts that both ended the same way, and says where they differ.
///
/// # Panics
/// When they did not.
pub fn same(single: &End, bursts: &End, longest: usize) {
    let how = format!("in bursts of {longest} (INV-13)");
    assert_eq!(single.counters, bursts.counters, "counters {how}");
    assert_eq!(single.sessions, bursts.sessions, "sessions {how}");
    let names = |end: &End| end.frames.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(single), names(bursts), "connections {how}");
    for ((name, one), many) in single.frames.iter().zip(bursts.frames.values()) {
        assert_eq!(one.len(), many.len(), "frames of {name:?} {how}");
        for (number, (one, many)) in one.iter().zip(many).enumerate() {
            assert_eq!(one, many, "frame {number} of {name:?} {how}");
        }
    }
}

/// Addresses and ports of a frame; nothing where there are none.
fn connection(frame: &[u8]) -> String {
    let fields = oracle::fields(frame).ok().filter(|fields| fields.ports.is_some());
    fields.map_or_else(String::new, |f| format!("{} {} {:?} {}", f.src, f.dst, f.ports, f.proto))
}

/// Lets the same happen to a second director, in bursts of up to `longest` packets. Tells how it ended,
/// and how many packets took the short way.
///
/// # Panics
/// When a packet does not arrive that did the first time.
#[must_use]
pub fn repeat(settings: Settings, events: &[Event], longest: usize) -> (End, u64) {
    let mut memory = world::memory();
    let mut director = world::director(settings, &mut memory);
    let mut lane = world::lane(settings);
    let mut out = Outputs::new(2);
    let mut sent = Vec::new();
    let mut events = events.iter().peekable();
    while let Some(event) = events.next() {
        match event {
            Event::Turn(now) => {
                director.expire(*now, 1000);
                director.tick(*now, &mut lane, &mut out);
            }
            Event::Packet(now, port, packet) => {
                let mut packets = vec![packet.clone()];
                let same = |event: &&Event| matches!(event, Event::Packet(at, on, _) if at == now && on == port);
                while packets.len() < longest
                    && let Some(Event::Packet(_, _, packet)) = events.next_if(same)
                {
                    packets.push(packet.clone());
                }
                let mut burst = Burst::new();
                for packet in packets {
                    lane.inject(*port, packet).expect("it arrived the first time");
                    lane.rx_burst(*port, &mut burst).expect("the link is up");
                }
                director.process(*now, &mut lane, *port, &mut burst, &mut out);
            }
        }
        out.flush(&mut lane);
        for port in [PortId(0), PortId(1)] {
            while let Some(packet) = lane.take_sent(port) {
                assert!(packet.data().len() >= 14);
                let frames = nic::on_wire(&packet).into_iter();
                sent.extend(frames.map(|frame| (port, without(settings, frame))));
            }
        }
        while director.poll_event().is_some() {}
    }
    (End::of(&director, &sent), director.short_way())
}
