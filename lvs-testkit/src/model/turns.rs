//! Round robin and weighted round robin, written down as the whole cycle.

use lvs_core::snapshot::ServiceSpec;

/// Whose turn it is in one service.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// What the cycle was made from; other members, weights or another algorithm start it again.
    made_from: ServiceSpec,
    /// Places of servers in the order of their turns.
    cycle: Vec<usize>,
    next: usize,
}

impl Turns {
    pub(super) fn new(service: &ServiceSpec) -> Self {
        let weights: Vec<u32> = service.servers.iter().map(|s| u32::from(s.weight.0)).collect();
        let cycle = match service.scheduler.name {
            "rr" => (0..weights.len()).filter(|at| weights[*at] > 0).collect(),
            "wrr" => weighted(&weights),
            name => panic!("the model knows rr and wrr, not {name}"),
        };
        Self { made_from: service.clone(), cycle, next: 0 }
    }

    /// Whether the turns go on under another configuration of the same service.
    pub(super) fn go_on_for(&self, service: &ServiceSpec) -> bool {
        self.made_from.scheduler == service.scheduler && self.made_from.servers == service.servers
    }

    /// The place of the server for a new session.
    pub(super) fn take(&mut self) -> Option<usize> {
        let at = *self.cycle.get(self.next % self.cycle.len().max(1))?;
        self.next += 1;
        Some(at)
    }
}

/// Passes over the list, each asking for one greatest common divisor less than the pass before, from the
/// least demanding one on: Linux `net/netfilter/ipvs/ip_vs_wrr.c`.
fn weighted(weights: &[u32]) -> Vec<usize> {
    let gcd = |mut a: u32, mut b: u32| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = weights.iter().copied().fold(0, gcd).max(1);
    let highest = weights.iter().copied().max().unwrap_or(0);
    let mut passes: Vec<u32> = (1..=highest).rev().step_by(step as usize).collect();
    if !passes.is_empty() {
        passes.rotate_right(1);
    }
    let members = |asked| (0..weights.len()).filter(move |at| weights[*at] >= asked);
    passes.into_iter().flat_map(members).collect()
}
