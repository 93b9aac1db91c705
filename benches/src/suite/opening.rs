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

const NAMES: [&str; 5] = ["fullnat", "fullnat-syn", "nat", "nat-syn", "naive-syn"];

/// SYNs that nobody has sent before.
fn fill_syns(packets: &mut Packets, net: &Network<u32>, next: &mut u64) {
    for buf in &mut packets.bufs {
        buf.reset(58);
        let _ = net.syn(*next, buf.data_mut());
        *next += 1;
    }
}

/// Nanoseconds for each new session; they are gone again afterwards.
fn open(
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

/// Measures one number of established sessions.
///
/// # Errors
/// A packet that did not come out, or came out wrong.
pub fn run(sessions: usize, effort: Effort, report: &mut Report) -> Result<(), String> {
    let (full, nat) = (Plan::full_nat(sessions), Plan::nat(sessions));
    let mut memory = [full.memory(false)?, nat.memory(false)?];
    let [m0, m1] = &mut memory;
    let net = Network::<u32>::example();
    let mut full = World::new(&full, net, m0)?;
    let mut nat = World::new(&nat, net, m1)?;
    let mut naive = Naive::new(&net, &full.flows, Hops::new(&net, server_mac), PACKETS);
    let (mut packets, mut rng, mut passes) = (Packets::new()?, Rng::new(12), 0);
    let mut next = 1 << 31;
    let mut failed = None;
    let small = (Direction::Both, Mix::SMALL);
    let figures = alternate(NAMES.len(), effort.rounds, |mode| {
        passes += 1;
        let check = passes <= 2 * NAMES.len();
        let (p, r) = (&mut packets, &mut rng);
        let figure = match mode {
            0 => pass(&mut full, p, small, r, check),
            1 => open(&mut full, p, &mut next, check),
            2 => pass(&mut nat, p, small, r, check),
            3 => open(&mut nat, p, &mut next, check),
            _ => naive_open(&mut naive, &net, p, &mut next, check),
        };
        figure.unwrap_or_else(|error| {
            failed.get_or_insert(format!("{}: {error}", NAMES[mode]));
            f64::NAN
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    rows(&size_name(sessions), &figures, report);
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

fn rows(size: &str, figures: &[Figures], report: &mut Report) {
    let median = |mode: usize| figures.get(mode).map_or(f64::NAN, Figures::median);
    let row = |mode: usize| Row::ns(format!("new/{}/{size}", NAMES[mode]), &figures[mode]);
    let over = "established";
    report.add(row(1).ratio(median(1) / median(0), over).at_most(4.0, 3.0));
    report.add(row(3).ratio(median(3) / median(2), over).at_most(2.5, 2.0));
    report.add(row(4));
    let ratio = median(4) / median(1);
    report
        .add(Row::value(format!("new/fullnat-over-naive/{size}"), ratio, "x").at_least(8.0, 12.0));
}
