//! Smooth weighted round robin: shares as in `wrr`, and the turns of a heavy server spread out.
//!
//! Order of nginx: at each turn every server gains its weight, the one that has most is picked (of equals
//! the earlier) and pays the sum of all weights. Weights 5, 1, 1 give A A B A C A A, where `wrr` gives A A
//! A A A B C.
//!
//! The order repeats after sum / greatest common divisor turns. It is written out where that is at most
//! [`MOST_TURNS`] turns and takes at most [`MOST_WORK`] steps to find; a pick is then one step in it, and a
//! server that may not be used loses its turn. Elsewhere each pick looks at all servers, and those that may
//! not be used neither gain nor pay. Either way the others share by their weights.

use crate::ready::Ready;
use crate::start;
use crate::wrr::gcd;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use lvs_core::flow::WireTuple;
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad, Weight};

/// Most turns of an order that is written out: 256 KiB with what finds the next turn of a server.
pub const MOST_TURNS: u64 = 1 << 16;
/// Most turns times servers of an order that is written out.
pub const MOST_WORK: u64 = 1 << 24;
/// How many turns of servers that may not be used a pick passes one by one.
const PASSED: usize = 64;

struct SmoothRoundRobin {
    args: SchedulerArgs,
    /// Servers and weights of the last rebuild.
    known: Vec<(ServerId, Weight)>,
    /// The servers by turn; empty = picks look at all servers.
    order: Vec<u16>,
    /// The turns of each server in turn, each server's rising.
    turns: Vec<u16>,
    /// Where each server's turns start in `turns`, and where the last one's end.
    starts: Vec<u32>,
    /// The next turn.
    next: usize,
    /// What each server has gained, where the order is not written out.
    gained: Vec<i64>,
    /// Whether any server was picked yet.
    moved: bool,
    ready: Ready,
}

/// One turn: who has most among those that take part. Linear in the number of servers.
fn turn(gained: &mut [i64], parts: impl Iterator<Item = Option<i64>>) -> Option<usize> {
    let (mut sum, mut best) = (0i64, None);
    for ((at, gained), part) in gained.iter_mut().enumerate().zip(parts) {
        let Some(part) = part else { continue };
        *gained = gained.saturating_add(part);
        sum = sum.saturating_add(part);
        if best.is_none_or(|(_, most)| *gained > most) {
            best = Some((at, *gained));
        }
    }
    let (at, _) = best?;
    let paying = gained.get_mut(at)?;
    *paying = paying.saturating_sub(sum);
    Some(at)
}

impl SmoothRoundRobin {
    fn write_out(&mut self) {
        self.order.clear();
        self.turns.clear();
        self.starts.clear();
        let weights = || self.known.iter().map(|(_, weight)| u64::from(weight.0));
        let step = self.known.iter().fold(0, |step, (_, weight)| gcd(step, u32::from(weight.0)));
        let cycle = weights().sum::<u64>().checked_div(u64::from(step)).unwrap_or(0);
        let work = cycle.saturating_mul(self.known.len() as u64);
        if cycle == 0 || cycle > MOST_TURNS || work > MOST_WORK {
            return;
        }
        let mut gained = vec![0; self.known.len()];
        let parts = || self.known.iter().map(|(_, weight)| Some(i64::from(weight.0)));
        let turns = (0..cycle).filter_map(|_| turn(&mut gained, parts().map(positive)));
        self.order = turns.filter_map(|at| u16::try_from(at).ok()).collect();
        self.index_turns();
    }

    /// Sorts the turns by server, by counting.
    fn index_turns(&mut self) {
        self.starts = vec![0; self.known.len().saturating_add(1)];
        for at in &self.order {
            if let Some(count) = self.starts.get_mut(usize::from(*at).saturating_add(1)) {
                *count = count.saturating_add(1);
            }
        }
        let mut sum = 0u32;
        for start in &mut self.starts {
            sum = sum.saturating_add(*start);
            *start = sum;
        }
        let mut free = self.starts.clone();
        self.turns = vec![0; self.order.len()];
        for (turn, at) in (0..=u16::MAX).zip(&self.order) {
            let Some(free) = free.get_mut(usize::from(*at)) else { continue };
            if let Some(place) = self.turns.get_mut(*free as usize) {
                *place = turn;
            }
            *free = free.saturating_add(1);
        }
    }

    /// The first turn at or behind `next`, round the end, of somebody available: how far it is, and who.
    #[inline]
    fn next_turn(&self) -> Option<(usize, usize)> {
        let usable = |at: usize| self.ready.has(at);
        let cycle = self.order.len();
        // Nearly always the next one, or one of the next.
        let mut turn = self.next;
        for far in 0..PASSED.min(cycle) {
            let at = usize::from(*self.order.get(turn)?);
            if usable(at) {
                return Some((far, at));
            }
            turn = turn.wrapping_add(1);
            turn = if turn < cycle { turn } else { 0 };
        }
        let ahead = |at: usize| {
            let ends = self.starts.get(at..)?.first_chunk::<2>()?.map(|end| end as usize);
            let turns = self.turns.get(ends[0]..ends[1])?;
            let passed = turns.partition_point(|turn| usize::from(*turn) < self.next);
            let turn = turns.get(passed).or_else(|| turns.first())?;
            let turn = usize::from(*turn);
            let far = turn.checked_sub(self.next);
            Some((far.unwrap_or_else(|| turn.saturating_add(cycle).saturating_sub(self.next)), at))
        };
        (0..self.known.len()).filter(|at| usable(*at)).filter_map(ahead).min()
    }
}

/// Who has no weight takes no part.
fn positive(part: Option<i64>) -> Option<i64> {
    part.filter(|part| *part > 0)
}

impl Scheduler for SmoothRoundRobin {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.ready.rebuild(servers);
        let now = servers.iter().map(|server| (server.id, server.weight));
        if self.moved && now.clone().eq(self.known.iter().copied()) {
            return;
        }
        self.known.clear();
        self.known.extend(now);
        self.write_out();
        self.gained.clear();
        self.gained.resize(self.known.len(), 0);
        self.next = start::index(self.args, self.order.len());
    }

    fn pick(&mut self, _flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        if self.order.is_empty() {
            let part = |s: &ServerLoad| s.is_available().then(|| i64::from(s.weight.0));
            let found = turn(&mut self.gained, servers.iter().map(part));
            self.moved |= found.is_some();
            return found;
        }
        let (far, at) = self.next_turn()?;
        let next = self.next.saturating_add(far).saturating_add(1);
        self.next = next.checked_sub(self.order.len()).unwrap_or(next);
        self.moved = true;
        Some(at)
    }

    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        let _ = self.ready.changed(index, servers);
    }

    fn take_over(&mut self, before: &mut dyn Scheduler) {
        let before: &mut dyn core::any::Any = before;
        if let Some(before) = before.downcast_mut::<Self>()
            && before.known == self.known
        {
            (self.next, self.moved) = (before.next, before.moved);
            core::mem::swap(&mut self.gained, &mut before.gained);
        }
    }
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(SmoothRoundRobin {
        args,
        known: Vec::new(),
        order: Vec::new(),
        turns: Vec::new(),
        starts: Vec::new(),
        next: 0,
        gained: Vec::new(),
        moved: false,
        ready: Ready::default(),
    })
}

/// Smooth weighted round robin.
pub const DEF: SchedulerDef = SchedulerDef {
    name: "wrr-smooth",
    summary: "weighted round robin with the turns of heavy servers spread out, as nginx",
    build,
};
