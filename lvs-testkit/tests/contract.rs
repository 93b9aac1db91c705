//! The contract suite passes the lanes of lvs-core, and finds lanes that break it.

use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::middleware::{Counting, FaultPlan, Faults, Tap, Tapped};
use lvs_core::io::{Burst, Caps, IoError, Lane, PacketBuf, PortId, PortInfo, PortStats};
use lvs_testkit::{contract, nic};

fn take_all(lane: &mut MemLane, port: PortId) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(packet) = lane.take_sent(port) {
        frames.extend(nic::on_wire(&packet));
    }
    frames
}

/// A lane and the way to the in-memory lane inside it.
struct Around<L>(L, fn(&mut L) -> &mut MemLane);

impl<L: Lane> contract::Rig for Around<L> {
    type Lane = L;
    fn lane(&mut self) -> &mut L {
        &mut self.0
    }
    fn inject(&mut self, port: PortId, frame: &[u8]) {
        let inner = (self.1)(&mut self.0);
        // A full queue drops, as a device does; the suite then says what is missing.
        let _ = inner.inject(port, MemBuf::from_bytes(frame));
    }
    fn sent(&mut self, port: PortId) -> Vec<Vec<u8>> {
        take_all((self.1)(&mut self.0), port)
    }
}

fn small() -> MemLane {
    let mut port = MemPort { tx_queue: 5, doorbell: true, ..MemPort::default() };
    port.caps.max_held = 80;
    MemLane::with_pool([port, MemPort::default()], 100)
}

/// INV-10, for the lanes of lvs-core.
#[test]
fn the_lane_in_memory_and_all_middleware_keep_the_contract() {
    assert_eq!(contract::check(&mut Around(small(), |lane| lane)), Ok(()));
    let counting = Counting::new(small());
    assert_eq!(contract::check(&mut Around(counting, Counting::inner_mut)), Ok(()));
    let tap = Tap::new(small(), |_: &Tapped<'_>| {});
    assert_eq!(contract::check(&mut Around(tap, Tap::inner_mut)), Ok(()));
    let faults = Faults::new(small(), FaultPlan::NONE, 1);
    assert_eq!(contract::check(&mut Around(faults, Faults::inner_mut)), Ok(()));
}

/// What a careless back end does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sin {
    None,
    LosesLeftovers,
    WrongCount,
    NoHeadroom,
    Leaks,
    Swaps,
    NoPortIsFine,
    CountsNothing,
    SendsTooLong,
}

struct Sinner {
    inner: MemLane,
    sin: Sin,
    leaked: Vec<MemBuf>,
}

impl Lane for Sinner {
    type Buf = MemBuf;
    fn port_count(&self) -> u16 {
        self.inner.port_count()
    }
    fn caps(&self, port: PortId) -> Caps {
        let mut caps = self.inner.caps(port);
        if self.sin == Sin::NoHeadroom {
            caps.headroom = 500;
        }
        if self.sin == Sin::SendsTooLong {
            caps.max_frame -= 100;
        }
        caps
    }
    fn port_info(&self, port: PortId) -> PortInfo<'_> {
        let info = self.inner.port_info(port);
        PortInfo { mtu: info.mtu.saturating_sub(100), ..info }
    }
    fn rx_burst(&mut self, port: PortId, out: &mut Burst<MemBuf>) -> Result<usize, IoError> {
        if self.sin == Sin::NoPortIsFine && port.0 >= self.port_count() {
            return Ok(0);
        }
        let count = self.inner.rx_burst(port, out)?;
        if self.sin == Sin::Swaps && out.len() > 2 {
            out.swap(0, 1);
        }
        if self.sin == Sin::Leaks
            && let Some(last) = out.pop()
        {
            // Gives a copy and keeps the original: one packet of each burst never comes back.
            assert!(out.push(last.clone()).is_ok());
            self.leaked.push(last);
        }
        Ok(if self.sin == Sin::WrongCount { count / 2 } else { count })
    }
    fn tx_burst(&mut self, port: PortId, pkts: &mut Burst<MemBuf>) -> Result<usize, IoError> {
        let taken = self.inner.tx_burst(port, pkts)?;
        if self.sin == Sin::LosesLeftovers {
            pkts.clear();
        }
        Ok(taken)
    }
    fn poll_tx(&mut self, port: PortId) {
        self.inner.poll_tx(port);
    }
    fn alloc(&mut self, len: usize) -> Option<MemBuf> {
        self.inner.alloc(len)
    }
    fn stats(&self, port: PortId) -> PortStats {
        if self.sin == Sin::CountsNothing { PortStats::default() } else { self.inner.stats(port) }
    }
}

#[test]
fn each_careless_back_end_is_found_out() {
    let verdict = |sin| {
        let sinner = Sinner { inner: small(), sin, leaked: Vec::new() };
        contract::check(&mut Around(sinner, |lane| &mut lane.inner))
    };
    assert_eq!(verdict(Sin::None), Ok(()));
    let found = [
        (Sin::LosesLeftovers, "tx_burst took 5 of 8 and left 0"),
        (Sin::WrongCount, "rx_burst returned 4 and appended 8"),
        (Sin::NoHeadroom, "headroom 128 where 500 is promised"),
        (Sin::Leaks, "packets dropped"),
        (Sin::Swaps, "receive: found"),
        (Sin::NoPortIsFine, "receive and transmit answered (None, Some(NoPort))"),
        (Sin::CountsNothing, "8 packets received, 0 counted"),
        (Sin::SendsTooLong, "a frame that is too long"),
    ];
    for (sin, text) in found {
        let broken = verdict(sin).expect_err(text);
        assert!(broken.contains(text), "{sin:?}: {broken}");
    }
}

#[test]
fn a_buffer_that_forgets_is_found_out() {
    assert_eq!(contract::check_buffer(&mut MemBuf::with_room(&[1; 60], 0, 0)), Ok(()));
    assert_eq!(
        contract::check_buffer(&mut MemBuf::from_bytes(&[1; 60]).with_tail(&[2; 9])),
        Ok(())
    );
    let mut packet = MemBuf::from_bytes(&[1; 60]);
    contract::check_buffer(&mut packet).unwrap();
    assert_eq!(packet.data(), [1; 60]);
}
