//! Weighted round robin: the servers in turn, each as often as its weight says.
//!
//! Order of Linux `net/netfilter/ipvs/ip_vs_wrr.c`. With step = the greatest common divisor of the
//! weights, a cycle is a series of passes over the list; the first pass asks for the highest weight,
//! each further one for a step less, the last for any weight above 0, and a pass picks every server that
//! weighs enough. Weights 4, 3, 2 give A, A B, A B C, A B C. A new service starts with the last pass: everybody
//! once.
//!
//! Passes between two weights that occur are equal, so the cycle is stored as one member list per
//! distinct weight: a pick is one step in a list, whatever the weights. Where that would take too much
//! memory ([`MOST_ENTRIES`]) a pass looks at all servers instead, in the same order.
//!
//! Overloaded servers lose their turn. When two passes in a row find nobody, the pick goes straight to
//! the first pass that somebody available is in, so a pick looks at no more than a few times the number
//! of servers, where the kernel walks every pass.

use crate::ready::Ready;
use crate::start;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Reverse;
use lvs_core::flow::WireTuple;
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad, Weight};

/// Most entries of all member lists of one service together, 2 MiB: 10 000 servers of 100 different weights.
pub const MOST_ENTRIES: usize = 1 << 20;

/// Equal passes: the same members, one step of weight apart.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// The weight that the last, the least demanding of them asks for.
    lowest: u32,
    /// Where its member list starts in `entries`.
    first: usize,
    /// How many members.
    len: usize,
}

/// State: where in the sequence the next pick is.
pub struct WeightedRoundRobin {
    args: SchedulerArgs,
    /// Servers and weights of the last rebuild.
    known: Vec<(ServerId, Weight)>,
    /// Greatest common divisor of the weights.
    step: u32,
    /// What the first pass of a cycle asks for; 0 = nobody has a weight.
    top: u32,
    /// Runs by falling weight; empty = passes look at all servers.
    runs: Vec<Run>,
    /// Member lists: indices of servers.
    entries: Vec<u16>,
    /// The current pass picks servers that weigh at least this.
    asked: u32,
    /// The run of the current pass, and what it is; one of no members when passes look at all servers.
    run: usize,
    pass: Run,
    /// Where the current pass goes on: in its member list, or among all servers.
    next: usize,
    /// Of the 64 entries from `seen` on those that may be picked next, a bit each; 0 = to be looked at.
    left: u64,
    seen: usize,
    /// Whether any server was picked yet.
    moved: bool,
    ready: Ready,
}

impl Scheduler for WeightedRoundRobin {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.ready.rebuild(servers);
        let now = servers.iter().map(|server| (server.id, server.weight));
        if self.moved && now.clone().eq(self.known.iter().copied()) {
            return;
        }
        self.known.clear();
        self.known.extend(now);
        self.measure();
        self.list_members();
        if self.moved {
            self.keep_pass();
        } else {
            self.start_in_phase();
        }
    }

    fn pick(&mut self, _flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        // Nearly always there is one left of those looked at before.
        if self.left != 0
            && let place = self.seen.wrapping_add(self.left.trailing_zeros() as usize)
            && let Some(at) = self.entries.get(place)
        {
            self.left &= self.left.wrapping_sub(1);
            self.next = place.wrapping_add(1).wrapping_sub(self.pass.first);
            return Some(usize::from(*at));
        }
        self.search(servers)
    }

    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        if self.ready.changed(index, servers) {
            self.left = 0;
        }
    }

    fn take_over(&mut self, before: &mut dyn Scheduler) {
        let before: &mut dyn core::any::Any = before;
        let Some(before) = before.downcast_ref::<Self>().filter(|before| before.moved) else {
            return;
        };
        (self.asked, self.moved) = (before.asked, true);
        if self.known == before.known {
            self.next = before.next;
            self.enter(before.run);
        } else {
            self.keep_pass();
        }
    }
}

impl WeightedRoundRobin {
    /// The pick at the end of a pass, past servers that may not be used, and without member lists.
    #[inline(never)]
    fn search(&mut self, servers: &[ServerLoad]) -> Option<usize> {
        if self.top == 0 {
            return None;
        }
        let found = self.rest_of_pass(servers).or_else(|| self.later_pass(servers));
        self.moved |= found.is_some();
        found
    }

    /// Step and top of the weights.
    fn measure(&mut self) {
        let weights = self.known.iter().map(|(_, weight)| u32::from(weight.0));
        self.step = weights.clone().fold(0, gcd).max(1);
        // Lowered by what the last pass must not ask for: it asks for 1.
        let highest = weights.max().unwrap_or(0);
        self.top = highest.saturating_sub(self.step.wrapping_sub(1));
    }

    /// Writes the member lists, if they fit.
    fn list_members(&mut self) {
        self.runs.clear();
        self.entries.clear();
        let weights = || self.known.iter().map(|(_, weight)| u32::from(weight.0));
        let mut distinct: Vec<u32> = weights().filter(|weight| *weight > 0).collect();
        distinct.sort_unstable_by_key(|weight| Reverse(*weight));
        distinct.dedup();
        let needed = distinct.len().saturating_mul(self.known.len());
        if needed > MOST_ENTRIES || self.known.len() > usize::from(u16::MAX) {
            return;
        }
        for (number, weight) in distinct.iter().enumerate() {
            let first = self.entries.len();
            let members = (0u16..).zip(weights()).filter(|(_, have)| have >= weight);
            self.entries.extend(members.map(|(at, _)| at));
            let below = distinct.get(number.saturating_add(1)).copied().unwrap_or(0);
            self.runs.push(Run {
                lowest: below.saturating_add(1),
                first,
                len: self.entries.len().saturating_sub(first),
            });
        }
        self.entries.shrink_to_fit();
    }

    /// The worker's own share of the cycle from its last pass, which is where the kernel starts: it
    /// gets servers one by one, and of a single one every pass is the last.
    fn start_in_phase(&mut self) {
        let passes = |from: u32, to: u32| u64::from(from.saturating_sub(to) / self.step.max(1));
        let mut highest = self.top;
        let mut picks = Vec::new();
        for run in &self.runs {
            let count = passes(highest, run.lowest).saturating_add(1);
            picks.push((highest, count.saturating_mul(run.len as u64), run.len as u64));
            highest = run.lowest.saturating_sub(self.step);
        }
        let cycle = picks.iter().map(|(_, picks, _)| picks).sum::<u64>();
        let last_pass = picks.last().map_or(0, |(_, _, len)| cycle.saturating_sub(*len));
        let ahead = last_pass.saturating_add(start::offset(self.args, cycle));
        let mut ahead = ahead.checked_rem(cycle).unwrap_or(0);
        for (run, (highest, picks, len)) in picks.into_iter().enumerate() {
            if ahead < picks {
                let pass = u32::try_from(ahead.checked_div(len).unwrap_or(0)).unwrap_or(0);
                self.asked = highest.saturating_sub(pass.saturating_mul(self.step)).max(1);
                self.enter(run);
                self.next = usize::try_from(ahead.checked_rem(len).unwrap_or(0)).unwrap_or(0);
                return;
            }
            ahead = ahead.saturating_sub(picks);
        }
        self.asked = self.top.min(1);
        self.enter(0);
        self.next = start::index(self.args, self.known.len());
    }

    /// After a change the pass starts again, and asks for what it asked for, moved onto the new steps.
    fn keep_pass(&mut self) {
        if self.asked > self.top || self.asked == 0 {
            self.asked = self.top;
        } else if let Some(steps) = self.asked.checked_div(self.step)
            && self.step > 1
        {
            self.asked = steps.saturating_mul(self.step).saturating_add(1);
        }
        self.go_to(self.asked);
        let len = if self.runs.is_empty() { self.known.len() } else { self.pass.len };
        self.next = start::index(self.args, len);
    }

    /// The head of the pass that asks for `asked`.
    fn go_to(&mut self, asked: u32) {
        self.asked = asked;
        self.enter(self.runs.iter().position(|run| run.lowest <= asked).unwrap_or(0));
        self.next = 0;
    }

    fn enter(&mut self, run: usize) {
        self.run = run;
        self.pass = self.runs.get(run).copied().unwrap_or_default();
        self.left = 0;
    }

    /// The head of the next pass.
    fn next_pass(&mut self) {
        self.next = 0;
        if self.asked <= self.step {
            self.asked = self.top;
            self.enter(0);
            return;
        }
        self.asked = self.asked.wrapping_sub(self.step);
        if self.pass.lowest > self.asked {
            self.enter(self.run.saturating_add(1));
        }
    }

    /// The next available server of the current pass.
    fn rest_of_pass(&mut self, servers: &[ServerLoad]) -> Option<usize> {
        if !self.runs.is_empty() {
            return self.rest_of_list();
        }
        let heavy =
            |at: &usize| servers.get(*at).is_some_and(|s| u32::from(s.weight.0) >= self.asked);
        let at = (self.next..servers.len()).find(|at| heavy(at) && self.ready.has(*at))?;
        self.next = at.saturating_add(1);
        Some(at)
    }

    /// The same from the member list: 64 entries are looked at in one go.
    fn rest_of_list(&mut self) -> Option<usize> {
        self.left = 0;
        let members = self.entries.get(self.pass.first..)?.get(..self.pass.len)?;
        let chunks = members.get(self.next..)?.chunks(64);
        for (from, chunk) in (self.next..).step_by(64).zip(chunks) {
            let ready = chunk
                .iter()
                .rev()
                .fold(0u64, |bits, at| bits << 1 | u64::from(self.ready.has(usize::from(*at))));
            if ready != 0 {
                let first = ready.trailing_zeros() as usize;
                let at = usize::from(*chunk.get(first)?);
                self.seen = self.pass.first.saturating_add(from);
                self.left = ready & ready.wrapping_sub(1);
                self.next = from.saturating_add(first).saturating_add(1);
                return Some(at);
            }
        }
        None
    }

    /// The first available server behind the current pass.
    fn later_pass(&mut self, servers: &[ServerLoad]) -> Option<usize> {
        // Where the kernel stands after it found nobody: where it was if that was inside the last
        // pass, else at the start of the cycle.
        let stays = (self.asked <= self.step && self.next > 0).then_some((self.run, self.next));
        self.next_pass();
        if let Some(at) = self.rest_of_pass(servers) {
            return Some(at);
        }
        let weights = servers.iter().filter(|server| server.is_available());
        if let Some(highest) = weights.map(|server| u32::from(server.weight.0)).max() {
            self.go_to(highest.saturating_sub(self.step.wrapping_sub(1)).max(1));
            return self.rest_of_pass(servers);
        }
        self.go_to(self.top);
        if let Some((run, next)) = stays {
            self.asked = 1;
            self.enter(run);
            self.next = next;
        }
        None
    }
}

/// Greatest common divisor; of 0 and n it is n.
pub(crate) fn gcd(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}

fn build(args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(WeightedRoundRobin {
        args,
        known: Vec::new(),
        step: 1,
        top: 0,
        runs: Vec::new(),
        entries: Vec::new(),
        asked: 0,
        run: 0,
        next: 0,
        moved: false,
        pass: Run::default(),
        left: 0,
        seen: 0,
        ready: Ready::default(),
    })
}

/// Weighted round robin.
#[doc(alias = "ip_vs_wrr")]
pub const DEF: SchedulerDef = SchedulerDef {
    name: "wrr",
    summary: "weighted round robin: the servers in turn, each as often as its weight says",
    build,
};
