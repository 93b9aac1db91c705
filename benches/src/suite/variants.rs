//! Other modes, families and sizes beside plain FullNAT v4 with small frames.

use super::{Effort, Report, pass, size_name};
use crate::rounds::{Figures, alternate};
use crate::table::Row;
use crate::world::{Direction, Packets, Plan, World};
use lvs_testkit::traffic::{IMIX, Mix, Network, Rng};

const NAMES: [&str; 6] =
    ["fullnat-v4", "fullnat-v4-imix", "fullnat-v4-1500", "nat-v4", "fullnat-v6", "nat-v6"];

/// Measures one number of sessions.
///
/// # Errors
/// A packet that did not come out, or came out wrong.
pub fn run(sessions: usize, effort: Effort, report: &mut Report) -> Result<(), String> {
    let (full, nat) = (Plan::full_nat(sessions), Plan::nat(sessions));
    let mut memory =
        [full.memory(false)?, nat.memory(false)?, full.memory(true)?, nat.memory(true)?];
    let [m0, m1, m2, m3] = &mut memory;
    let (v4, v6) = (Network::<u32>::example(), Network::<u128>::example());
    let mut full_v4 = World::new(&full, v4, m0)?;
    let mut nat_v4 = World::new(&nat, v4, m1)?;
    let mut full_v6 = World::new(&full, v6, m2)?;
    let mut nat_v6 = World::new(&nat, v6, m3)?;
    let (mut packets, mut rng, mut passes) = (Packets::new()?, Rng::new(11), 0);
    let mut failed = None;
    let small = (Direction::Both, Mix::SMALL);
    let figures = alternate(NAMES.len(), effort.rounds, |mode| {
        passes += 1;
        let check = passes <= 2 * NAMES.len();
        let (p, r) = (&mut packets, &mut rng);
        let figure = match mode {
            0 => pass(&mut full_v4, p, small, r, check),
            1 => pass(&mut full_v4, p, (Direction::Both, IMIX), r, check),
            2 => pass(&mut full_v4, p, (Direction::Both, Mix::FULL), r, check),
            3 => pass(&mut nat_v4, p, small, r, check),
            4 => pass(&mut full_v6, p, small, r, check),
            _ => pass(&mut nat_v6, p, small, r, check),
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

fn rows(size: &str, figures: &[Figures], report: &mut Report) {
    let median = |mode: usize| figures.get(mode).map_or(f64::NAN, Figures::median);
    for (mode, against, bounds) in [
        (1, 0, None),
        (2, 0, Some((1.05, 1.0))),
        (3, 0, Some((1.4, 1.2))),
        (4, 0, Some((1.4, 1.25))),
        (5, 3, None),
    ] {
        let row = Row::ns(format!("{}/{size}", NAMES[mode]), &figures[mode]);
        let row = row.ratio(median(mode) / median(against), NAMES[against]);
        report.add(match bounds {
            // Payload independence is a goal of its own, but of no must.
            Some((must, goal)) => row.at_most(must, goal),
            None => row,
        });
    }
}
