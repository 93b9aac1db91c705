//! The measurements themselves, one file for each subject, each giving rows of the table.

pub mod established;
pub mod half_out;
pub mod lookups;
pub mod opening;
pub mod picks;
pub mod rewrite;
pub mod store;
pub mod strain;
pub mod variants;
pub mod workers;

use crate::cpu::thread_ns;
use crate::table::{Row, show};
use crate::world::{Direction, PACKETS, Packets, World};
use lvs_testkit::traffic::{Ip, Mix, Rng};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds of each comparison.
    pub rounds: usize,
    /// Sizes that take long are measured too.
    pub full: bool,
}

/// Rows as they come.
#[derive(Debug, Default)]
pub struct Report {
    /// All so far.
    pub rows: Vec<Row>,
    quiet: bool,
}

impl Report {
    /// One that prints each row, or not.
    #[must_use]
    pub const fn new(quiet: bool) -> Self {
        Self { rows: Vec::new(), quiet }
    }

    /// Adds a row.
    pub fn add(&mut self, row: Row) {
        if !self.quiet {
            show(&row);
        }
        self.rows.push(row);
    }

    /// The value of a row.
    #[must_use]
    pub fn value(&self, id: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.id == id).map(|row| row.value)
    }
}

/// `64k`, `1m`, `300`.
#[must_use]
pub fn size_name(size: usize) -> String {
    match size {
        n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{}m", n / 1_000_000),
        n if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{}m", n >> 20),
        n if n >= 1024 && n % 1024 == 0 => format!("{}k", n >> 10),
        n => n.to_string(),
    }
}

/// One figure of a director: nanoseconds a packet, over fresh packets of sessions drawn at random.
///
/// # Errors
/// A packet that did not come out or, with `check`, came out wrong.
pub fn pass<A: Ip>(
    world: &mut World<'_, A>,
    packets: &mut Packets,
    what: (Direction, Mix),
    rng: &mut Rng,
    check: bool,
) -> Result<f64, String> {
    packets.fill(&world.net, &world.flows, what, rng);
    world.load(packets);
    let start = thread_ns();
    world.run(false);
    let spent = thread_ns() - start;
    world.unload(packets)?;
    if check {
        packets.check()?;
    }
    Ok(spent as f64 / PACKETS as f64)
}
