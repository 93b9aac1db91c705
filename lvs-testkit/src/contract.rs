//! The contract of [`Lane`] and [`PacketBuf`] as a test, for everybody who writes a back end.
//!
//! A [`Rig`] is a lane and the far end of its wires. [`check`] goes through the promises of
//! [`lvs_core::io`] one by one and names the first that is broken.
//!
//! ```
//! use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
//! use lvs_core::io::PortId;
//! use lvs_testkit::{contract, nic};
//!
//! struct InMemory(MemLane);
//! impl contract::Rig for InMemory {
//!     type Lane = MemLane;
//!     fn lane(&mut self) -> &mut MemLane {
//!         &mut self.0
//!     }
//!     fn inject(&mut self, port: PortId, frame: &[u8]) {
//!         self.0.inject(port, MemBuf::from_bytes(frame)).expect("room in the queue");
//!     }
//!     fn sent(&mut self, port: PortId) -> Vec<Vec<u8>> {
//!         let mut frames = Vec::new();
//!         while let Some(packet) = self.0.take_sent(port) {
//!             frames.extend(nic::on_wire(&packet));
//!         }
//!         frames
//!     }
//! }
//! let lane = MemLane::new([MemPort::default(), MemPort::default()]);
//! assert_eq!(contract::check(&mut InMemory(lane)), Ok(()));
//! ```

mod buffer;

pub use buffer::check_buffer;

use crate::build::{pattern, udp};
use lvs_core::io::{Burst, IoError, Lane, PacketBuf, PortId};

/// A lane and the far end of its wires.
pub trait Rig {
    /// The lane under test.
    type Lane: Lane;

    /// The lane.
    fn lane(&mut self) -> &mut Self::Lane;

    /// Lets a frame arrive at a port.
    fn inject(&mut self, port: PortId, frame: &[u8]);

    /// Frames that a port put onto the wire since the last call, in order.
    fn sent(&mut self, port: PortId) -> Vec<Vec<u8>>;

    /// Called between tries while the suite waits for something to arrive; a rig with a real device
    /// waits a little here.
    fn settle(&mut self) {}
}

/// Tries before something that did not arrive counts as lost.
const TRIES: usize = 200;

/// Goes through the promises, port by port.
///
/// # Errors
/// The first promise that is broken, and how.
pub fn check<R: Rig>(rig: &mut R) -> Result<(), String> {
    ensure(rig.lane().port_count() > 0, || "a lane has at least one port".into())?;
    for port in (0..rig.lane().port_count()).map(PortId) {
        let steps: [(&str, Step<R>); 7] = [
            ("capabilities", capabilities),
            ("receive", receive),
            ("memory comes back", memory_comes_back),
            ("transmit what was received", transmit),
            ("allocate", allocate),
            ("a frame that is too long", too_long),
            ("no such port", no_such_port),
        ];
        for (name, step) in steps {
            step(rig, port).map_err(|broken| format!("{port}: {name}: {broken}"))?;
        }
    }
    Ok(())
}

type Step<R> = fn(&mut R, PortId) -> Result<(), String>;
type BufOf<R> = <<R as Rig>::Lane as Lane>::Buf;

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

/// A frame that is recognised by its number; nobody on the far end answers it.
fn frame(number: usize) -> Vec<u8> {
    udp().to("192.0.2.1:9").ident(number as u16).payload(pattern(64 + number % 200)).build()
}

/// Receives until `count` of the suite's frames are there; others are dropped.
fn receive_ours<R: Rig>(rig: &mut R, port: PortId, count: usize) -> Result<Vec<BufOf<R>>, String> {
    let mut ours = Vec::new();
    for _ in 0..TRIES {
        let mut burst = Burst::new();
        let received = rig.lane().rx_burst(port, &mut burst).map_err(|error| error.to_string())?;
        ensure(received == burst.len(), || {
            format!("rx_burst returned {received} and appended {}", burst.len())
        })?;
        burst.drain_with(|packet| {
            if packet.data().starts_with(&frame(0)[..14]) {
                ours.push(packet);
            }
        });
        if ours.len() >= count {
            return Ok(ours);
        }
        if received == 0 {
            rig.settle();
        }
    }
    Err(format!("{} of {count} frames arrived", ours.len()))
}

fn same(found: &[u8], expected: &[u8]) -> Result<(), String> {
    // A device may pad short frames.
    ensure(found.starts_with(expected) && found.len() <= expected.len().max(60), || {
        format!("found {found:02x?} where {expected:02x?} was due")
    })
}

/// Offers the packets until all are taken, and collects what the port sends until `count` of the
/// suite's frames have appeared.
fn send<R: Rig>(
    rig: &mut R,
    port: PortId,
    packets: &mut Burst<BufOf<R>>,
    count: usize,
) -> Result<Vec<Vec<u8>>, String> {
    let mut ours = Vec::new();
    for _ in 0..TRIES {
        let before = packets.len();
        let taken = rig.lane().tx_burst(port, packets).map_err(|error| error.to_string())?;
        ensure(taken + packets.len() == before, || {
            format!("tx_burst took {taken} of {before} and left {}", packets.len())
        })?;
        rig.lane().poll_tx(port);
        let frames = rig.sent(port).into_iter();
        ours.extend(frames.filter(|sent| sent.starts_with(&frame(0)[..12])));
        if packets.is_empty() && ours.len() >= count {
            return Ok(ours);
        }
        rig.settle();
    }
    let left = packets.len();
    Err(format!("{} of {count} frames appeared on the wire, {left} were never taken", ours.len()))
}

fn capabilities<R: Rig>(rig: &mut R, port: PortId) -> Result<(), String> {
    let (caps, mtu) = (rig.lane().caps(port), rig.lane().port_info(port).mtu);
    ensure(u32::from(caps.max_frame) >= u32::from(mtu) + 14, || {
        format!("max_frame {} is below the MTU {mtu} with its Ethernet header", caps.max_frame)
    })?;
    ensure(caps.max_held > 0, || "no packet may be held".into())
}

fn receive<R: Rig>(rig: &mut R, port: PortId) -> Result<(), String> {
    let before = rig.lane().stats(port).rx;
    let headroom = usize::from(rig.lane().caps(port).headroom);
    (0..8).for_each(|number| rig.inject(port, &frame(number)));
    let mut packets = receive_ours(rig, port, 8)?;
    for (number, packet) in packets.iter().enumerate() {
        same(packet.data(), &frame(number))?;
        ensure(packet.headroom() >= headroom, || {
            format!("headroom {} where {headroom} is promised", packet.headroom())
        })?;
        ensure(packet.total_len() >= packet.data().len(), || "total_len below data".into())?;
    }
    packets.iter_mut().try_for_each(check_buffer)?;
    let counted = rig.lane().stats(port).rx.wrapping_sub(before);
    ensure(counted >= 8, || format!("8 packets received, {counted} counted"))?;
    appends_and_leaves_a_full_burst_alone(rig, port)
}

fn appends_and_leaves_a_full_burst_alone<R: Rig>(rig: &mut R, port: PortId) -> Result<(), String> {
    rig.inject(port, &frame(1));
    let mut burst = Burst::new();
    for packet in receive_ours(rig, port, 1)? {
        burst.push(packet).map_err(|_| "an empty burst took nothing")?;
    }
    while burst.room() > 0 {
        let Some(packet) = rig.lane().alloc(60) else { break };
        burst.push(packet).map_err(|_| "a burst with room took nothing")?;
    }
    rig.inject(port, &frame(2));
    if burst.room() == 0 {
        let received = rig.lane().rx_burst(port, &mut burst);
        ensure(received == Ok(0), || format!("a full burst received {received:?}"))?;
        while burst.len() > 1 {
            drop(burst.pop());
        }
    }
    for _ in 0..TRIES {
        rig.lane().rx_burst(port, &mut burst).map_err(|error| error.to_string())?;
        let second = burst.iter().skip(1).any(|p| p.data().starts_with(&frame(2)[..20]));
        if second {
            return same(burst[0].data(), &frame(1));
        }
        rig.settle();
    }
    Err("a frame that found the burst full was lost".into())
}

fn memory_comes_back<R: Rig>(rig: &mut R, port: PortId) -> Result<(), String> {
    // Enough for one packet lost in each burst to use up all that may be held.
    let rounds = rig.lane().caps(port).max_held.min(2048) + 1;
    for round in 0..rounds {
        (0..8).for_each(|number| rig.inject(port, &frame(number)));
        let packets = receive_ours(rig, port, 8)
            .map_err(|error| format!("after {} packets dropped: {error}", round * 8))?;
        drop(packets);
    }
    Ok(())
}

fn transmit<R: Rig>(rig: &mut R, port: PortId) -> Result<(), String> {
    drop(rig.sent(port));
    let before = rig.lane().stats(port).tx;
    (0..8).for_each(|number| rig.inject(port, &frame(number)));
    let mut burst = Burst::new();
    for mut packet in receive_ours(rig, port, 8)?.into_iter().take(8) {
        // An edit in place and a tag of four bytes in front of the EtherType.
        packet.data_mut()[22] = 7;
        let grown = packet.push_front(4).map_err(|error| error.to_string())?;
        grown.copy_within(4..16, 0);
        grown[12..16].copy_from_slice(&[0x88, 0xb5, 0, 0]);
        burst.push(packet).map_err(|_| "a burst with room took nothing")?;
    }
    for (number, sent) in send(rig, port, &mut burst, 8)?.iter().enumerate() {
        let mut expected = frame(number);
        expected[22] = 7;
        expected.splice(12..12, [0x88, 0xb5, 0, 0]);
        same(sent, &expected)?;
    }
    let counted = rig.lane().stats(port).tx.wrapping_sub(before);
    ensure(counted >= 8, || format!("8 packets sent, {counted} counted"))
}

fn allocate<R: Rig>(rig: &mut R, port: PortId) -> Result<(), String> {
    let headroom = usize::from(rig.lane().caps(port).headroom);
    let mut packets = Vec::new();
    // Until the pool is dry, or it is clearly large.
    while packets.len() < 100_000 {
        let Some(packet) = rig.lane().alloc(60 + packets.len() % 1000) else { break };
        packets.push(packet);
    }
    ensure(!packets.is_empty(), || "no packet to be had".into())?;
    for (index, packet) in packets.iter().enumerate().take(2000) {
        ensure(packet.data().len() == 60 + index % 1000, || {
            format!("{} bytes where {} were asked for", packet.data().len(), 60 + index % 1000)
        })?;
        ensure(packet.headroom() >= headroom, || {
            format!("headroom {} where {headroom} is promised", packet.headroom())
        })?;
        let plain = packet.vlan().is_none() && packet.gso().is_none();
        ensure(plain, || "a fresh packet has a tag or is a train".into())?;
    }
    let most = packets.len();
    check_buffer(&mut packets[0])?;
    drop(packets);
    for turn in 0..most.min(1000) {
        let packet = rig.lane().alloc(60);
        ensure(packet.is_some(), || format!("no packet after {turn} given back"))?;
    }
    Ok(())
}

fn too_long<R: Rig>(rig: &mut R, port: PortId) -> Result<(), String> {
    drop(rig.sent(port));
    let len = usize::from(rig.lane().caps(port).max_frame) + 1;
    let before = rig.lane().stats(port).tx_rejected;
    let mut burst = Burst::new();
    // A back end whose packets cannot be that long has nothing to reject.
    if let Some(mut packet) = rig.lane().alloc(len) {
        let head = frame(0);
        let mut bytes = head[..14].to_vec();
        bytes.resize(len, 0);
        packet.data_mut().copy_from_slice(&bytes);
        burst.push(packet).map_err(|_| "an empty burst took nothing")?;
    }
    let rejected = burst.len() as u64;
    let good = rig.lane().alloc(frame(5).len()).ok_or("no packet to be had")?;
    burst.push(good).map_err(|_| "a burst with room took nothing")?;
    if let Some(packet) = burst.last_mut() {
        packet.data_mut().copy_from_slice(&frame(5));
    }
    let sent = send(rig, port, &mut burst, 1)?;
    same(&sent[0], &frame(5))?;
    let counted = rig.lane().stats(port).tx_rejected.wrapping_sub(before);
    ensure(counted == rejected, || format!("{rejected} rejected, {counted} counted"))
}

fn no_such_port<R: Rig>(rig: &mut R, _port: PortId) -> Result<(), String> {
    let nowhere = PortId(rig.lane().port_count());
    let mut burst = Burst::new();
    let packet = rig.lane().alloc(60).ok_or("no packet to be had")?;
    burst.push(packet).map_err(|_| "an empty burst took nothing")?;
    let answers = (
        rig.lane().rx_burst(nowhere, &mut burst).err(),
        rig.lane().tx_burst(nowhere, &mut burst).err(),
    );
    ensure(answers == (Some(IoError::NoPort), Some(IoError::NoPort)), || {
        format!("receive and transmit answered {answers:?}")
    })?;
    ensure(burst.len() == 1, || "the packet is gone".into())?;
    // These must answer too, with whatever says "nothing".
    let _ = (rig.lane().caps(nowhere), rig.lane().stats(nowhere));
    let up = rig.lane().port_info(nowhere).link_up;
    ensure(!up, || "its link is up".into())
}
