//! Two interfaces tied together: what one receives the other sends, and nothing else. The bare ring
//! and `sendmmsg`, without a director; a director can be compared against it.
//!
//! `bridge LEFT RIGHT [SECONDS]` prints, at the end, what each side did and the CPU time.

use core::error::Error;
use core::time::Duration;
use lvs_core::io::{Burst, IoError, Lane, PortId, WaitReady};
use lvs_io_afpacket::{PacketLane, PortConfig, Rings};
use std::process::ExitCode;
use std::time::Instant;

/// Empty rounds before the loop sleeps.
const SPIN: u32 = 64;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [left, right, rest @ ..] = args.as_slice() else {
        return Err("usage: bridge LEFT RIGHT [SECONDS]".into());
    };
    let seconds: u64 = rest.first().map_or(Ok(u64::MAX), |text| text.parse())?;
    let mut rings = Rings::open(&[left, right].map(|name| {
        let mut port = PortConfig::new(name.as_str());
        port.promiscuous = true;
        port
    }))?;
    let mut lane = rings.lane();
    let start = Instant::now();
    let mut idle = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        let moved = pass(&mut lane, PortId(0), PortId(1))? + pass(&mut lane, PortId(1), PortId(0))?;
        idle = if moved == 0 { idle + 1 } else { 0 };
        if idle > SPIN {
            lane.wait(10_000)?;
        }
    }
    let mut packets = 0;
    for port in [PortId(0), PortId(1)] {
        let stats = lane.stats(port);
        println!("{port}: {stats:?}");
        packets += stats.tx;
    }
    println!("packets {packets} cpu_ns {}", cpu_ns().unwrap_or(0));
    Ok(())
}

/// CPU time of this thread, from the first number of its scheduler statistics.
fn cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Moves one burst; what the other side has no room for is lost, as on a wire.
fn pass(lane: &mut PacketLane<'_>, from: PortId, to: PortId) -> Result<usize, IoError> {
    let mut burst = Burst::new();
    let received = match lane.rx_burst(from, &mut burst) {
        Err(IoError::LinkDown) => 0,
        other => other?,
    };
    match lane.tx_burst(to, &mut burst) {
        Ok(_) | Err(IoError::LinkDown) => {}
        Err(other) => return Err(other),
    }
    lane.free_burst(&mut burst);
    Ok(received)
}
