//! One round of a whole balancer: receive, process, expire, ask neighbours, transmit.
//!
//! The control side builds a director and its schedulers on its heap; here they come ready-made, so that
//! only their use is linked. Schedulers are values behind a trait, which hides them from the linker:
//! they are linked by their own types beside the director.

use core::hash::{Hash, Hasher};
use lvs_core::flow::WireTuple;
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::plan::AnyPlan;
use lvs_core::sched::{Scheduler, ServerLoad};
use lvs_core::time::Time;
use lvs_director::{Director, Outputs};
use lvs_sched::rr::RoundRobin;
use lvs_sched::wrr::WeightedRoundRobin;

use crate::lane::{OneFrame, Packet};
use crate::probes::Fold;

/// What a worker owns.
pub struct Balancer {
    director: Director<'static, AnyPlan>,
    out: Outputs<Packet>,
    rr: RoundRobin,
    wrr: WeightedRoundRobin,
    flow: WireTuple,
    servers: &'static [ServerLoad],
    now: Time,
}

impl Balancer {
    /// One round of the loop that the manual of `lvs-director` shows.
    pub fn round(&mut self, frame: &mut [u8]) -> u64 {
        let mut seen = Fold::default();
        let mut lane = OneFrame::new(frame, 3);
        let mut burst = Burst::new();
        for port in (0..lane.port_count()).map(PortId) {
            if lane.rx_burst(port, &mut burst).is_ok() {
                self.director.process(self.now, &mut lane, port, &mut burst, &mut self.out);
            }
        }
        self.director.take_over(self.now, &mut lane, 256, &mut self.out).hash(&mut seen);
        self.director.expire(self.now, 256).hash(&mut seen);
        self.director.tick(self.now, &mut lane, &mut self.out);
        self.out.flush(&mut lane);
        self.out.dropped().hash(&mut seen);
        self.director.next_deadline(self.now).hash(&mut seen);
        self.director.poll_event().is_some().hash(&mut seen);
        self.rr.pick(&self.flow, self.servers).hash(&mut seen);
        self.wrr.pick(&self.flow, self.servers).hash(&mut seen);
        seen.finish()
    }
}
