//! Devices with receive hash keys and indirection tables that chance has drawn. Where the key lets the port choose,
//! every reply lands on its owner and no port is lost; where it does not, all workers say so and hand over.
//!
//! `LVS_SEEDS=20` draws so many times as many devices.

use crate::flows::{WAVE, run};
use crate::world::*;
use core::cell::Cell;
use core::net::IpAddr;
use lvs_core::addr::RealAddr;
use lvs_core::flow::WireTuple;
use lvs_core::id::WorkerId;
use lvs_core::io::Rss;
use lvs_core::plan::{AnyPlan, PlanError, PortPlan, Toeplitz};
use lvs_core::session::HeapMemory;
use lvs_core::verdict::DropReason;
use lvs_testkit::traffic::Rng;
use lvs_testkit::workers::Rig;
use std::collections::HashSet;

/// Devices of each kind, for each number of queues.
const DEVICES: u64 = 10;
/// Sessions of the first test for each number of queues, over all devices and both families.
const FLOWS: u32 = 100_000;

fn seeds() -> core::ops::Range<u64> {
    let more = std::env::var("LVS_SEEDS").ok().and_then(|text| text.parse().ok());
    0..DEVICES * more.unwrap_or(1)
}

/// A device.
struct Drawn {
    key: Vec<u8>,
    table: Vec<u16>,
    /// Every queue stands in the table as often as every other.
    even: bool,
}

impl Drawn {
    /// 40 or 52 bytes of key, 8 to 512 entries: every second device's table shares them out evenly in any order, the
    /// others' as chance has it.
    fn new(workers: u16, rng: &mut Rng) -> Self {
        let key = (0..[40, 52][rng.below(2)]).map(|_| rng.next_u64() as u8).collect();
        let size = 8u16 << rng.below(7);
        let even = rng.below(2) == 0;
        let mut table: Vec<u16> = (0..size).map(|at| at % workers).collect();
        if !even {
            // Every queue keeps one entry.
            for entry in table.iter_mut().skip(usize::from(workers)) {
                *entry = rng.below(usize::from(workers)) as u16;
            }
        }
        for at in (1..table.len()).rev() {
            table.swap(at, rng.below(at + 1));
        }
        Self { key, table, even }
    }

    fn rss(&self) -> Rss<'_> {
        Rss { key: &self.key, table: &self.table }
    }

    /// The plan of each worker. `None`: the key, or the range with this key, lets no port choose.
    fn steered(&self, range: (u16, u16), workers: u16) -> Option<Vec<Toeplitz>> {
        let plan = |worker| Toeplitz::new(self.rss(), range.0, range.1, WorkerId(worker), workers);
        let plans: Result<Vec<_>, _> = (0..workers as u8).map(plan).collect();
        match plans {
            Ok(plans) => Some(plans),
            Err(PlanError::Rank { .. } | PlanError::BadRange) => None,
            Err(other) => panic!("{other}"),
        }
    }

    /// The first device of a seed that can steer.
    fn that_steers(seed: u64, range: (u16, u16), workers: u16) -> (Self, Vec<Toeplitz>) {
        let mut rng = Rng::new(seed << 8 | u64::from(workers));
        let mut drawn = core::iter::repeat_with(|| Self::new(workers, &mut rng));
        drawn
            .find_map(|device| device.steered(range, workers).map(|plans| (device, plans)))
            .unwrap()
    }

    /// Its key made so that local ports choose too little: over IPv4, over IPv6, or over both.
    fn blind(mut self, seed: u64) -> Self {
        // The port's 16 bits, and the windows of 32 bits that begin with them.
        let [v4, v6] = [(10, 16), (34, 40)];
        let fill = [0, 0xff, 0x55, 0x33][(seed % 4) as usize];
        for (from, to) in [&[v4][..], &[v6], &[v4, v6]][(seed % 3) as usize] {
            self.key[*from..*to].fill(fill);
        }
        self
    }
}

fn bytes_of<P: PortPlan>(plan: P) -> u64 {
    memory(&[plan])[0].bytes().len() as u64
}

/// 100 000 flows for each number of queues, half of them IPv6, over ten devices: each delivers every reply to the
/// worker that opened its session, and nothing is handed over. Each worker has its share of ports and memory.
#[test]
fn every_reply_of_100_000_flows_lands_on_its_owner_whatever_key_and_table() {
    let alone = AnyPlan::for_device(None, 1024, 65535, WorkerId(0), 1).unwrap().0;
    let (all_slots, all_bytes) = (u64::from(alone.slots()), bytes_of(alone));
    for workers in [2u16, 4, 8] {
        let (mut flows, mut even) = (0, 0);
        for seed in seeds() {
            let (device, plans) = Drawn::that_steers(seed, (1024, 65535), workers);
            let ports = u32::from(plans[0].range().1 - plans[0].range().0) + 1;
            assert_eq!(plans.iter().map(PortPlan::slots).sum::<u32>(), ports, "each port once");
            let mut memory = memory(&plans);
            for (plan, memory) in plans.iter().zip(&mut memory) {
                let (slots, bytes) = (u64::from(plan.slots()), memory.bytes().len() as u64);
                assert!(!device.even || slots * u64::from(workers) == u64::from(ports));
                let share = all_bytes * slots / all_slots;
                assert!(bytes < share + share / 50 + 4096, "{bytes} bytes for {slots} slots");
            }
            let mut rig = rig(nic(workers, Some((&device.key, &device.table))), plans, &mut memory);
            let each = FLOWS / DEVICES as u32 / 2;
            for v6 in [false, true] {
                let done = run(&mut rig, 0..each, v6);
                assert_eq!((done.opened.len() as u32, done.strayed), (each, 0), "seed {seed}");
            }
            let counters = rig.counters();
            assert_eq!((counters.handed_over, counters.taken_over), (0, 0));
            let both = 2 * u64::from(each);
            assert_eq!(counters.sessions_opened, both);
            assert_eq!((counters.forwarded, counters.dropped_total()), (2 * both, 0));
            flows += both;
            even += u32::from(device.even);
        }
        println!("{workers} queues: {flows} flows over {:?} devices, {even} of them even", seeds());
        assert!(flows >= u64::from(FLOWS) && even > 0);
    }
}

/// Counts how often a port is asked for.
struct Asked(Toeplitz, Cell<u64>);

impl PortPlan for Asked {
    fn slots(&self) -> u32 {
        self.0.slots()
    }
    fn port_for(&self, slot: u32, local: IpAddr, server: &RealAddr) -> Option<u16> {
        self.1.set(self.1.get() + 1);
        self.0.port_for(slot, local, server)
    }
    fn slot_of(&self, reply: &WireTuple) -> Option<u32> {
        self.0.slot_of(reply)
    }
    fn owner_of(&self, reply: &WireTuple) -> Option<WorkerId> {
        self.0.owner_of(reply)
    }
}

/// Opens sessions until every worker has said that there is no port. What reached the servers.
fn fill(rig: &mut Rig<'_, Asked>, v6: bool) -> Vec<WireTuple> {
    let mut reached = Vec::new();
    for wave in 0.. {
        for number in wave * WAVE..(wave + 1) * WAVE {
            rig.nic.inject(CLIENTS, syn(number, v6)).unwrap();
        }
        rig.settle(NOW);
        while let Some((_, frame)) = rig.take_sent(SERVERS) {
            reached.push(tuple(&frame));
        }
        let full = |worker: &lvs_testkit::workers::Worker<'_, Asked>| {
            worker.director.counters().dropped(DropReason::NoPort) > 0
        };
        if rig.workers.iter().all(full) {
            break;
        }
    }
    reached
}

/// The whole of a local address can be used up: every worker opens as many sessions as it has slots, toward whatever
/// server, and only then says that there is no port. The last port is found as the first one: by asking once.
#[test]
fn no_port_is_lost_and_each_is_found_at_once_whatever_key_and_table() {
    for (seed, workers) in seeds().zip([2u16, 4, 8].into_iter().cycle()) {
        for v6 in [false, true] {
            let (device, plans) = Drawn::that_steers(seed, (2048, 4095), workers);
            let ports = usize::from(plans[0].range().1 - plans[0].range().0) + 1;
            let plans: Vec<Asked> =
                plans.into_iter().map(|plan| Asked(plan, Cell::new(0))).collect();
            let mut memory: Vec<HeapMemory> = memory(&plans);
            let mut rig = rig(nic(workers, Some((&device.key, &device.table))), plans, &mut memory);
            let reached = fill(&mut rig, v6);
            let opened = rig.counters().sessions_opened;
            assert_eq!(opened, (ports * usize::from(LOCALS)) as u64, "seed {seed}");
            let distinct: HashSet<&WireTuple> = reached.iter().collect();
            assert_eq!((reached.len(), distinct.len()), (opened as usize, opened as usize));
            let plans = rig.workers.iter().map(|worker| worker.director.store().plan());
            assert_eq!(plans.map(|plan| plan.1.get()).sum::<u64>(), opened, "seed {seed}");
        }
    }
}

/// Keys by which the port does not reach every entry: all workers fall back alike, say why, and every reply still
/// reaches its owner, by hand.
#[test]
fn keys_without_full_rank_fall_back_and_say_so() {
    for (seed, workers) in seeds().zip([2u16, 4, 8].into_iter().cycle()) {
        let mut rng = Rng::new(seed);
        // Three bits and less are within the reach of the dullest key.
        let mut drawn = core::iter::repeat_with(|| Drawn::new(workers, &mut rng));
        let device = drawn.find(|device| device.table.len() >= 32).unwrap();
        let device = device.blind(seed);
        let plans = plans(workers, |worker| {
            let rss = Some(device.rss());
            let (plan, why) = AnyPlan::for_device(rss, 1024, 65535, worker, workers).unwrap();
            assert!(matches!(plan, AnyPlan::LowBits(_)), "seed {seed}");
            let why = why.expect("a reason");
            assert!(matches!(why, PlanError::Rank { have, need } if have < need), "{why:?}");
            assert!(why.to_string().ends_with("set another key"), "{why}");
            plan
        });
        let mut memory = memory(&plans);
        let mut rig = rig(nic(workers, Some((&device.key, &device.table))), plans, &mut memory);
        let strayed: u64 =
            [false, true].into_iter().map(|v6| u64::from(run(&mut rig, 0..500, v6).strayed)).sum();
        let counters = rig.counters();
        assert!(strayed > 0, "seed {seed}: by chance all replies found their owner");
        assert_eq!((counters.handed_over, counters.taken_over), (strayed, strayed));
        assert_eq!((counters.forwarded, counters.dropped_total()), (2000, 0));
    }
}
