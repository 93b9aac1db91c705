//! Time that a packet waits, and the longest calls under a flood.

use super::{Effort, Report};
use crate::cpu::thread_ns;
use crate::lane::Pool;
use crate::table::Row;
use crate::world::{PACKETS, PORTS, Plan, World};
use lvs_core::io::{BURST, Burst, Lane, PacketBuf};
use lvs_core::time::Time;
use lvs_testkit::traffic::{Kind, Network, Rng};

fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let at = (sorted.len() as f64 * percent / 100.0) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Measures both.
///
/// # Errors
/// A packet that did not come out.
pub fn run(effort: Effort, report: &mut Report) -> Result<(), String> {
    latency(if effort.full { 100_000 } else { 20_000 }, report)?;
    flood(if effort.full { 4096 } else { 1024 }, report)
}

/// From arrival in the lane until the flush behind it, at a tenth of what the director can carry: packets
/// arrive at random moments and a worker's loop polls. The clock is the CPU time of the thread: on a shared
/// machine the wall clock would tell how long others had the core. Reading it, some 200 ns, is included.
fn latency(count: usize, report: &mut Report) -> Result<(), String> {
    let plan = Plan::full_nat(1 << 16);
    let mut memory = plan.memory(false)?;
    let mut world = World::new(&plan, Network::<u32>::example(), &mut memory)?;
    let mut pool = Pool::new(PACKETS)?;
    let mut rng = Rng::new(31);
    let full = full_speed(&mut world)?;
    let mut waits = Vec::with_capacity(count);
    let mut burst = Burst::new();
    let start = thread_ns();
    let base = world.now.0;
    let (mut next, mut arrived) = (start as f64, Vec::with_capacity(PACKETS));
    while waits.len() < count {
        let clock = thread_ns();
        arrived.clear();
        while next <= clock as f64 && arrived.len() < BURST {
            let flow = world.flows[rng.below(world.flows.len())];
            let (arm, kind) =
                if rng.next_u64() & 1 == 0 { (0, Kind::Inbound) } else { (1, Kind::Reply) };
            let mut buf = pool.take(60).ok_or("no buffer left")?;
            let _ = flow.write(&world.net, kind, 60, buf.data_mut());
            world.lane.rx[arm].push_back(buf);
            arrived.push(next);
            // Times between arrivals are exponential: the worst case short of bursts.
            let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            next -= full * 10.0 * (1.0 - uniform).ln();
        }
        // Writing the packets takes longer than forwarding them; that time is not the director's.
        let shift = (thread_ns() - clock) as f64;
        next += shift;
        let now = Time(base + (clock - start));
        for port in PORTS {
            if world.lane.rx_burst(port, &mut burst).is_ok() {
                let (lane, out) = (&mut world.lane, &mut world.out);
                world.director.process(now, lane, port, &mut burst, out);
            }
        }
        world.director.expire(now, 256);
        world.director.tick(now, &mut world.lane, &mut world.out);
        world.out.flush(&mut world.lane);
        let done = thread_ns() as f64 - shift;
        waits.extend(arrived.iter().map(|arrival| done - arrival));
        let sent: usize = world.lane.tx.iter_mut().map(|queue| queue.drain(..).count()).sum();
        if sent != arrived.len() {
            return Err(format!("{sent} of {} packets came out", arrived.len()));
        }
    }
    waits.sort_by(f64::total_cmp);
    report.add(Row::value("latency-10%/p50/64k", percentile(&waits, 50.0), "ns"));
    report.add(Row::value("latency-10%/p99/64k", percentile(&waits, 99.0), "ns"));
    Ok(())
}

/// Nanoseconds a packet when there is no pause.
fn full_speed(world: &mut World<'_, u32>) -> Result<f64, String> {
    let mut packets = crate::world::Packets::new()?;
    let what = (crate::world::Direction::Both, lvs_testkit::traffic::Mix::SMALL);
    let mut rng = Rng::new(30);
    super::pass(world, &mut packets, what, &mut rng, true)?;
    super::pass(world, &mut packets, what, &mut rng, false)
}

/// Calls of `process` with bursts of nothing but new SYNs, past the end of the local ports.
fn flood(calls: usize, report: &mut Report) -> Result<(), String> {
    let plan = Plan::full_nat(1 << 16);
    let mut memory = plan.memory(false)?;
    let mut world = World::new(&plan, Network::<u32>::example(), &mut memory)?;
    let mut pool = Pool::new(PACKETS)?;
    let mut took = Vec::with_capacity(calls);
    let mut burst = Burst::new();
    for call in 0..calls as u64 {
        for n in 0..BURST as u64 {
            let mut buf = pool.take(58).ok_or("no buffer left")?;
            let number = (1 << 31) + call * BURST as u64 + n;
            let _ = world.net.syn(number, buf.data_mut());
            let _ = burst.push(buf);
        }
        // A million SYNs a second.
        let now = Time(world.now.0 + call * 64_000);
        let start = thread_ns();
        let (lane, out) = (&mut world.lane, &mut world.out);
        world.director.process(now, lane, PORTS[0], &mut burst, out);
        took.push((thread_ns() - start) as f64 / 1e3);
        world.director.expire(now, 256);
        world.director.tick(now, &mut world.lane, &mut world.out);
        world.out.flush(&mut world.lane);
        world.lane.tx.iter_mut().for_each(Vec::clear);
        while world.director.poll_event().is_some() {}
    }
    let opened = world.director.store().len() as usize - world.flows.len();
    if opened == 0 || world.director.counters().dropped_total() == 0 {
        return Err(format!("the flood opened {opened} sessions and filled nothing up"));
    }
    took.sort_by(f64::total_cmp);
    let (half, most) = (percentile(&took, 50.0), percentile(&took, 99.9));
    report.add(Row::value("syn-flood-call/p50", half, "us"));
    report.add(Row::value("syn-flood-call/p99.9", most, "us").ratio(most / half, "p50"));
    Ok(())
}
