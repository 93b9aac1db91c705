//! New connections: SYNs of clients that were never seen.

use super::{Effort, Report, pass, size_name};
use crate::cpu::thread_ns;
use crate::rounds::{Figures, alternate};
use crate::standin::{Hops, naive::Naive};
use crate::table::Row;
use crate::world::{Direction, PACKETS, Packets, Plan, World, server_mac};
use lvs_core::io::PacketBuf;
use lvs_core::session::Cursor;
use lvs_testkit::traffic::{Mix, Network, Rng};

const NAMES: [&str; 7] = [
    "fullnat",
    "fullnat-syn",
    "fullnat-persistent-syn",
    "nat",
    "nat-syn",
    "naive-syn",
    "naive-persistent-syn",
];

/// SYNs that nobody has sent before.
fn fill_syns(packets: &mut Packets, net: &Network<u32>, next: &mut u64) {
    for buf in &mut packets.bufs {
        buf.reset(58);
        let _ = net.syn(*next, buf.data_mut());
        *next += 1;
    }
}

/// Nanoseconds for each new session; they are gone again afterwards.
pub(super) fn open(
    world: &mut World<'_, u32>,
    packets: &mut Packets,
    next: &mut u64,
    check: bool,
) -> Result<f64, String> {
    fill_syns(packets, &world.net, next);
    let before = world.director.store().len();
    world.load(packets);
    let start = thread_ns();
    world.run(false);
    let spent = thread_ns() - start;
    world.unload(packets)?;
    let opened = world.director.store().len() - before;
    if opened as usize != PACKETS {
        return Err(format!("{opened} sessions of {PACKETS} were opened"));
    }
    if check {
        packets.check()?;
    }
    let mut young = Vec::with_capacity(PACKETS);
    world.director.store().scan(Cursor::default(), u32::MAX, |session| {
        if !session.answered {
            young.push(session.id);
        }
    });
    young.into_iter().for_each(|id| {
        world.director.purge(id);
    });
    while world.director.poll_event().is_some() {}
    Ok(spent as f64 / PACKETS as f64)
}

/// Everything that is compared at one number of sessions.
struct Bench<'w, 'm> {
    full: &'w mut World<'m, u32>,
    persistent: &'w mut World<'m, u32>,
    nat: &'w mut World<'m, u32>,
    naive: Naive,
    naive_persistent: Naive,
    packets: Packets,
    rng: Rng,
    next: u64,
    passes: usize,
}

impl Bench<'_, '_> {
    fn measure(&mut self, mode: usize) -> Result<f64, String> {
        self.passes += 1;
        let check = self.passes <= 2 * NAMES.len();
        let small = (Direction::Both, Mix::SMALL);
        let Self { packets, rng, next, .. } = self;
        match mode {
            0 => pass(self.full, packets, small, rng, check),
            1 => open(self.full, packets, next, check),
            2 => open(self.persistent, packets, next, check),
            3 => pass(self.nat, packets, small, rng, check),
            4 => open(self.nat, packets, next, check),
            5 => naive_open(&mut self.naive, &self.full.net, packets, next, check),
            _ => naive_open(&mut self.naive_persistent, &self.full.net, packets, next, check),
        }
    }
}

/// Measures one number of established sessions.
///
/// # Errors
/// A packet that did not come out, or came out wrong.
pub fn run(sessions: usize, effort: Effort, report: &mut Report) -> Result<(), String> {
    let (full, nat) = (Plan::full_nat(sessions), Plan::nat(sessions));
    let mut memory = [full.memory(false)?, full.memory(false)?, nat.memory(false)?];
    let [m0, m1, m2] = &mut memory;
    let net = Network::<u32>::example();
    let mut full_world = World::new(&full, net, m0)?;
    let mut persistent = World::new(&full.persistent(), net, m1)?;
    let mut nat = World::new(&nat, net, m2)?;
    let hops = Hops::new(&net, server_mac);
    let flows = full_world.flows.clone();
    let mut bench = Bench {
        naive: Naive::with(&net, &flows, hops.clone(), (PACKETS, false)),
        naive_persistent: Naive::with(&net, &persistent.flows, hops, (PACKETS, true)),
        full: &mut full_world,
        persistent: &mut persistent,
        nat: &mut nat,
        packets: Packets::new()?,
        rng: Rng::new(12),
        next: 1 << 31,
        passes: 0,
    };
    let mut failed = None;
    let figures = alternate(NAMES.len(), effort.rounds, |mode| {
        bench.measure(mode).unwrap_or_else(|error| {
            failed.get_or_insert(format!("{}: {error}", NAMES[mode]));
            f64::NAN
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    // Each pass that counts has one in front of it.
    let opened = figures.first().map_or(0, |figures| 2 * figures.0.len()) * PACKETS;
    let remembered = persistent.director.counters().sessions_persistent;
    rows(&size_name(sessions), &figures, remembered as f64 / opened as f64, report);
    Ok(())
}

fn naive_open(
    naive: &mut Naive,
    net: &Network<u32>,
    packets: &mut Packets,
    next: &mut u64,
    check: bool,
) -> Result<f64, String> {
    fill_syns(packets, net, next);
    let before = naive.len();
    let start = thread_ns();
    let opened = naive.open_all(&mut packets.bufs, 1);
    let spent = thread_ns() - start;
    if opened != PACKETS || naive.len() - before != PACKETS {
        return Err(format!("{opened} sessions of {PACKETS} were opened"));
    }
    if check {
        packets.check()?;
    }
    naive.forget_to(before);
    Ok(spent as f64 / PACKETS as f64)
}

fn rows(size: &str, figures: &[Figures], remembered: f64, report: &mut Report) {
    let median = |mode: usize| figures.get(mode).map_or(f64::NAN, Figures::median);
    let row = |mode: usize| Row::ns(format!("new/{}/{size}", NAMES[mode]), &figures[mode]);
    let over = "established";
    report.add(row(1).ratio(median(1) / median(0), over));
    report.add(row(2).ratio(median(2) / median(0), over).at_most(4.0, 3.0));
    report.add(Row::value(format!("new/remembered/{size}"), remembered, "of 1"));
    report.add(row(4).ratio(median(4) / median(3), over).at_most(2.5, 2.0));
    report.add(row(5));
    report.add(row(6));
    let ratio = median(6) / median(2);
    report
        .add(Row::value(format!("new/fullnat-over-naive/{size}"), ratio, "x").at_least(8.0, 12.0));
}
