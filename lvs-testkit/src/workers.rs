//! Several workers that are one balancer, over one simulated device with several queues.
//!
//! ```text
//!   frame ─► MemNic ─┬─ queue 0 ─► worker 0 ─┐
//!           (hash)   ├─ queue 1 ─► worker 1 ─┼─► wire
//!                    └─ ..         ..        ┘
//!                        └─ rings ─┘  what the device could not steer
//! ```
//! Each worker has a director with its own sessions and port plan. [`Rig::turn`] lets all of them take one
//! round, one after the other; [`Rig::split`] gives them to threads.
//!
//! ```
//! use lvs_core::id::WorkerId;
//! use lvs_core::io::mem::{MemNic, MemPort};
//! use lvs_core::plan::{LowBits, PortPlan};
//! use lvs_core::session::{StoreConfig, TableConfig};
//! use lvs_core::snapshot::SnapshotSpec;
//! use lvs_testkit::workers::{Rig, Setup, memories};
//!
//! let nic = MemNic::new(2, [MemPort::default()]);
//! let plans = [0, 1].map(|worker| LowBits::new(1024, 65535, WorkerId(worker), 2).unwrap());
//! let sizes = StoreConfig {
//!     v4: TableConfig { local_addresses: 1, general: 0 },
//!     v6: TableConfig::default(),
//!     key: [1, 2],
//!     seed: 3,
//! };
//! let mut memory = memories(&sizes, &plans);
//! let snapshot = SnapshotSpec::default().build(None).unwrap();
//! let rig = Rig::new(&Setup::new(snapshot, sizes), nic, plans, &mut memory);
//! assert_eq!(rig.workers.len(), 2);
//! ```

use lvs_core::counters::Counters;
use lvs_core::id::WorkerId;
use lvs_core::io::mem::{MemBuf, MemLane, MemNic};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::sched::SchedulerArgs;
use lvs_core::session::{HeapMemory, SessionStore, StoreConfig};
use lvs_core::shared::Shared;
use lvs_core::snapshot::Snapshot;
use lvs_core::time::Time;
use lvs_director::{Director, DirectorConfig, Generation, Outputs, Peers, RingSize};
use std::sync::Arc;

/// Packets and news taken over in a round.
const TAKE_OVER: usize = 256;

/// What all workers of a rig have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// Sizes of each worker's session store.
    pub sizes: StoreConfig,
    /// Sizes and secrets of each director.
    pub config: DirectorConfig,
    /// Bytes of the ring between two workers; `None`: nothing is handed over.
    pub rings: Option<RingSize>,
}

impl Setup {
    /// With a small director and rings of the usual size.
    #[must_use]
    pub fn new(snapshot: impl Into<Arc<Snapshot>>, sizes: StoreConfig) -> Self {
        let config = DirectorConfig { hops: 64, waiting: 16, ..DirectorConfig::default() };
        Self { snapshot: snapshot.into(), sizes, config, rings: Some(RingSize::default()) }
    }
}

/// Memory for the session stores of workers with these plans.
///
/// # Panics
/// When the sizes are impossible.
#[must_use]
pub fn memories<P: PortPlan>(sizes: &StoreConfig, plans: &[P]) -> Vec<HeapMemory> {
    let memory = |plan| SessionStore::memory_for(sizes, plan).expect("possible sizes");
    plans.iter().map(|plan| HeapMemory::new(memory(plan))).collect()
}

/// One worker: everything but its lane.
#[derive(Debug)]
pub struct Worker<'m, P> {
    /// Its balancer.
    pub director: Director<'m, P>,
    /// What it sends.
    pub out: Outputs<MemBuf>,
}

impl<P: PortPlan> Worker<'_, P> {
    /// One round of a worker's loop; how many packets it received and took over.
    pub fn round(&mut self, now: Time, lane: &mut MemLane) -> usize {
        let mut burst = Burst::new();
        let mut moved = 0;
        for port in (0..lane.port_count()).map(PortId) {
            moved += lane.rx_burst(port, &mut burst).unwrap_or(0);
            self.director.process(now, lane, port, &mut burst, &mut self.out);
        }
        moved += self.director.take_over(now, lane, TAKE_OVER, &mut self.out);
        self.director.expire(now, 512);
        self.director.tick(now, lane, &mut self.out);
        self.out.flush(lane);
        moved
    }
}

/// All workers and their device. See the [module](self).
#[derive(Debug)]
pub struct Rig<'m, P> {
    /// The device, one queue for each worker.
    pub nic: MemNic,
    /// The workers, by number.
    pub workers: Vec<Worker<'m, P>>,
}

impl<'m, P: PortPlan> Rig<'m, P> {
    /// Workers with these plans, in memory from [`memories`]; worker `n` has queue `n`.
    ///
    /// # Panics
    /// When plans, queues and memories are not equally many, or more than 255.
    #[must_use]
    pub fn new(
        setup: &Setup,
        nic: MemNic,
        plans: impl IntoIterator<Item = P>,
        memory: &'m mut [HeapMemory],
    ) -> Self {
        let count = memory.len();
        assert_eq!(nic.lanes().len(), count, "one queue for each worker");
        let workers = u8::try_from(count).expect("at most 255 workers");
        let ports = nic.lanes().first().map_or(0, Lane::port_count);
        let mut peers = setup.rings.map(|size| Peers::connect(u16::from(workers), size));
        let mut plans = plans.into_iter();
        let shared = Arc::new(Shared::new(&setup.config.shared));
        let worker = |(number, memory): (u8, &'m mut HeapMemory)| {
            let plan = plans.next().expect("one plan for each worker");
            let store = SessionStore::new(setup.sizes, plan, memory.bytes()).expect("its memory");
            let args = SchedulerArgs { worker: WorkerId(number), workers };
            let generation = Generation::new(Arc::clone(&setup.snapshot), args);
            let mut director =
                Director::sharing(setup.config, store, generation, Arc::clone(&shared));
            if let Some(peers) = peers.as_mut() {
                director.connect(peers.remove(0));
            }
            Worker { director, out: Outputs::new(ports) }
        };
        let workers = (0..).zip(memory).map(worker).collect();
        Self { nic, workers }
    }

    /// One round of every worker, in order; how many packets moved.
    pub fn turn(&mut self, now: Time) -> usize {
        self.split().map(|(worker, lane)| worker.round(now, lane)).sum()
    }

    /// Rounds until nothing moves any more.
    pub fn settle(&mut self, now: Time) {
        while self.turn(now) > 0 {}
    }

    /// Each worker with its lane, to be worked with one by one or in threads.
    pub fn split(&mut self) -> impl Iterator<Item = (&mut Worker<'m, P>, &mut MemLane)> {
        self.workers.iter_mut().zip(self.nic.lanes_mut())
    }

    /// Takes a frame off the wire, with the number of the worker that sent it.
    pub fn take_sent(&mut self, port: PortId) -> Option<(usize, MemBuf)> {
        let mut lanes = self.nic.lanes_mut().iter_mut().enumerate();
        lanes.find_map(|(worker, lane)| lane.take_sent(port).map(|frame| (worker, frame)))
    }

    /// The counters of all workers together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut folded = Counters::default();
        self.workers.iter().for_each(|worker| folded.fold(worker.director.counters()));
        folded
    }
}
