//! Round robin and weighted round robin, written down as the whole cycle.

use lvs_core::snapshot::ServiceSpec;

/// Whose turn it is in one service.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// What the cycle was made from.
    made_from: ServiceSpec,
    /// Places of servers in the order of their turns, with the least weight that the pass asks for.
    cycle: Vec<(u32, usize)>,
    next: usize,
    /// The newest turn that was taken; over a change of servers, what it counts for among the new ones.
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    /// The weight that its pass asks for.
    asked: u32,
    /// The place behind its server.
    behind: usize,
}

impl Turns {
    pub(super) fn new(service: &ServiceSpec) -> Self {
        let weights: Vec<u32> = service.servers.iter().map(|s| u32::from(s.weight.0)).collect();
        let cycle = match service.scheduler.name {
            "rr" => (0..weights.len()).filter(|at| weights[*at] > 0).map(|at| (1, at)).collect(),
            "wrr" => weighted(&weights),
            name => panic!("the model knows rr and wrr, not {name}"),
        };
        // The first turn is in the least demanding pass.
        let next = cycle.iter().position(|(asked, _)| *asked == 1).unwrap_or(0);
        Self { made_from: service.clone(), cycle, next, last: None }
    }

    /// The turns under another configuration of the same service.
    pub(super) fn under(&self, service: &ServiceSpec) -> Self {
        let mut new = Self::new(service);
        if self.made_from.scheduler != service.scheduler {
            return new;
        }
        let members = |service: &ServiceSpec| -> Vec<_> {
            service.servers.iter().map(|server| (server.addr, server.weight)).collect()
        };
        if members(&self.made_from) == members(service) {
            return Self { made_from: service.clone(), ..self.clone() };
        }
        let Some(last) = self.last else { return new };
        let mut before = self.made_from.servers[..last.behind].iter().rev();
        let new_place = |addr| service.servers.iter().position(|s| s.addr == addr);
        let behind = before.find_map(|s| new_place(s.addr)).map_or(0, |at| at + 1);
        let asked = new.pass_nearest(last.asked);
        let next = match service.scheduler.name {
            "rr" => new.cycle.iter().position(|(_, at)| *at >= behind),
            _ => new.cycle.iter().position(|(pass, _)| *pass <= asked),
        };
        (new.next, new.last) = (next.unwrap_or(0), Some(Last { asked, behind }));
        new
    }

    /// The pass that goes on for one that asked for so much: Linux `ip_vs_wrr_dest_changed`.
    fn pass_nearest(&self, asked: u32) -> u32 {
        let top = self.cycle.first().map_or(0, |(asked, _)| *asked);
        let weights = self.made_from.servers.iter().map(|s| u32::from(s.weight.0));
        match weights.fold(0, gcd) {
            _ if asked > top || asked == 0 => top,
            0 | 1 => asked,
            step => asked / step * step + 1,
        }
    }

    /// The place of the server for a new session: the next one in turn that has room. Others lose their turn.
    pub(super) fn take(&mut self, has_room: impl Fn(usize) -> bool) -> Option<usize> {
        let all = self.cycle.len();
        let mut places = (self.next..self.next + all).map(|turn| turn % all);
        let Some(place) = places.find(|place| has_room(self.cycle[*place].1)) else {
            self.nobody_has_room();
            return None;
        };
        let (asked, at) = self.cycle[place];
        self.next = place + 1;
        self.last = Some(Last { asked, behind: at + 1 });
        Some(at)
    }

    /// Who has begun the last pass stays where he is; the cycle starts again for anybody else: Linux
    /// `ip_vs_wrr_schedule`.
    fn nobody_has_room(&mut self) {
        let Some(last_pass) = self.cycle.iter().position(|(asked, _)| *asked == 1) else { return };
        if self.next <= last_pass {
            self.next = 0;
            let top = self.cycle[0].0;
            self.last = self.last.map(|last| Last { asked: top, ..last });
        }
    }
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Passes over the list, each asking for one greatest common divisor less than the pass before, the last
/// for 1: Linux `net/netfilter/ipvs/ip_vs_wrr.c`.
fn weighted(weights: &[u32]) -> Vec<(u32, usize)> {
    let step = weights.iter().copied().fold(0, gcd).max(1);
    let highest = weights.iter().copied().max().unwrap_or(0);
    let passes = (1..=highest.saturating_sub(step - 1)).rev().step_by(step as usize);
    let members = |asked| (0..weights.len()).filter(move |at| weights[*at] >= asked);
    passes.flat_map(|asked| members(asked).map(move |at| (asked, at))).collect()
}
