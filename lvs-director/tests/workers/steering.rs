//! Replies reach the worker that owns their session.

use crate::world::*;
use lvs_core::flow::WireTuple;
use lvs_core::io::mem::{MemBuf, RSS_KEY};
use lvs_core::io::{PacketBuf, Rss};
use lvs_core::plan::{AnyPlan, PortPlan, Toeplitz};
use lvs_testkit::workers::Rig;
use std::collections::{HashMap, HashSet};

/// Packets that wait in the device at once.
const WAVE: u32 = 500;

/// What came of many flows.
struct Flows {
    /// Of the SYN as the server sees it, and who opened it.
    opened: HashMap<WireTuple, usize>,
    /// Answers that were delivered to another worker than their session's.
    strayed: u32,
}

/// Opens a session for each client, and answers each once.
fn run<P: PortPlan>(rig: &mut Rig<'_, P>, numbers: core::ops::Range<u32>, v6: bool) -> Flows {
    let mut flows = Flows { opened: HashMap::new(), strayed: 0 };
    let numbers: Vec<u32> = numbers.collect();
    for wave in numbers.chunks(WAVE as usize) {
        for number in wave {
            rig.nic.inject(CLIENTS, syn(*number, v6)).unwrap();
        }
        rig.settle(NOW);
        let mut expected = HashSet::new();
        let there: Vec<(usize, MemBuf)> = core::iter::from_fn(|| rig.take_sent(SERVERS)).collect();
        assert_eq!(there.len(), wave.len(), "{:#?}", rig.counters());
        for (worker, frame) in there {
            let tuple = tuple(&frame);
            assert_eq!(flows.opened.insert(tuple, worker), None, "INV-7: {tuple}");
            let seq = headers(&frame).tcp(frame.data()).unwrap().seq();
            let queue = rig.nic.inject(SERVERS, syn_ack(&tuple, seq.wrapping_add(1))).unwrap();
            flows.strayed += u32::from(usize::from(queue) != worker);
        }
        rig.settle(NOW);
        while let Some((_, frame)) = rig.take_sent(CLIENTS) {
            let tuple = tuple(&frame);
            assert_eq!(tuple.src(), service(v6).ip());
            assert!(expected.insert((tuple.dst(), tuple.dport())), "answered twice: {tuple}");
        }
        let clients: HashSet<_> = wave
            .iter()
            .map(|number| client(*number, v6))
            .map(|client| (client.ip(), client.port()))
            .collect();
        assert_eq!(expected, clients, "each client has its answer");
    }
    flows
}

fn by_hash(key: &[u8], table: &[u16], workers: u16) -> Vec<AnyPlan> {
    plans(workers, |worker| {
        let rss = Rss { key, table };
        let (plan, why) = AnyPlan::for_device(Some(rss), 1024, 65535, worker, workers).unwrap();
        assert_eq!(why, None);
        plan
    })
}

/// A table as a device with some of its entries moved to other queues has it.
fn mixed(workers: u16) -> Vec<u16> {
    (0..128).map(|at| at * 37 % 128 % workers).collect()
}

/// 100 000 flows for each number of queues, half of them IPv6: the simulated device delivers every reply to
/// the worker that opened its session, and nothing is handed over.
#[test]
fn every_reply_of_100_000_flows_lands_on_its_owner() {
    for workers in [2u16, 4, 8] {
        let table = mixed(workers);
        let plans = by_hash(&RSS_KEY, &table, workers);
        assert!(plans.iter().all(|plan| matches!(plan, AnyPlan::Toeplitz(_))));
        let slots: u32 = plans.iter().map(PortPlan::slots).sum();
        assert_eq!(slots, 64512, "all workers together have every port once");
        let mut memory = memory(&plans);
        let bytes: usize = memory.iter_mut().map(|memory| memory.bytes().len()).sum();
        let one = by_hash(&RSS_KEY, &[0], 1);
        let alone = crate::world::memory(&one)[0].bytes().len();
        assert!(bytes < alone + alone / 50, "{bytes} bytes for {workers} workers, {alone} for one");
        let mut rig = rig(nic(workers, Some((&RSS_KEY, &table))), plans, &mut memory);
        for v6 in [false, true] {
            let flows = run(&mut rig, 0..50_000, v6);
            assert_eq!((flows.opened.len(), flows.strayed), (50_000, 0));
        }
        let counters = rig.counters();
        assert_eq!((counters.handed_over, counters.taken_over), (0, 0));
        assert_eq!(counters.sessions_opened, 100_000);
        assert_eq!((counters.forwarded, counters.dropped_total()), (200_000, 0));
        for worker in &rig.workers {
            let share = worker.director.store().len();
            assert!(share > 100_000 / u32::from(workers) * 8 / 10, "a worker has {share} sessions");
        }
    }
}

/// A device without usable scaling of replies: every second one (of four, three) reaches a wrong worker, which
/// hands it to its owner. Nobody handles one twice.
#[test]
fn replies_that_the_device_cannot_steer_are_handed_to_their_owner() {
    for workers in [2u16, 4] {
        let plans = plans(workers, |worker| {
            AnyPlan::for_device(None, 1024, 65535, worker, workers).unwrap().0
        });
        assert!(plans.iter().all(|plan| matches!(plan, AnyPlan::LowBits(_))));
        let mut memory = memory(&plans);
        let mut rig = rig(nic(workers, None), plans, &mut memory);
        let mut strayed = 0;
        for v6 in [false, true] {
            strayed += u64::from(run(&mut rig, 0..4000, v6).strayed);
        }
        let counters = rig.counters();
        let part = 8000 * u64::from(workers - 1) / u64::from(workers);
        assert!(strayed > part * 9 / 10 && strayed < part * 11 / 10, "{strayed} of 8000 astray");
        assert_eq!((counters.handed_over, counters.taken_over), (strayed, strayed));
        assert_eq!(counters.received.packets - counters.taken_over, 16_000, "from the wire");
        assert_eq!((counters.forwarded, counters.dropped_total()), (16_000, 0));
    }
}

/// The whole of a local address can be used up: every worker opens as many sessions as it has slots, toward
/// whatever server, and only then says that there is no port.
#[test]
fn no_port_is_lost() {
    let table = mixed(4);
    let range = (1024, 1024 + 1023);
    let narrow = |worker| {
        let rss = Rss { key: &RSS_KEY, table: &table };
        Toeplitz::new(rss, range.0, range.1, worker, 4).unwrap()
    };
    let plans = plans(4, narrow);
    assert_eq!(plans[0].range(), range);
    let mut memory = memory(&plans);
    let mut rig = rig(nic(4, Some((&RSS_KEY, &table))), plans, &mut memory);
    let mut taken: HashMap<_, u32> = HashMap::new();
    for number in 0..6000 {
        rig.nic.inject(CLIENTS, syn(number, false)).unwrap();
        if number % 500 == 499 {
            rig.settle(NOW);
        }
        while let Some((_, frame)) = rig.take_sent(SERVERS) {
            let tuple = tuple(&frame);
            assert!((range.0..=range.1).contains(&tuple.sport()));
            *taken.entry((tuple.src(), tuple.sport(), tuple.dst())).or_default() += 1;
        }
    }
    let counters = rig.counters();
    assert_eq!(counters.sessions_opened, 1024 * u64::from(LOCALS));
    assert!(taken.values().all(|count| *count == 1));
    assert_eq!(taken.len(), 1024 * usize::from(LOCALS));
    assert_eq!(counters.dropped(lvs_core::verdict::DropReason::NoPort), 6000 - 2048);
}

/// The workers run at once, in threads, and hand over to each other.
#[test]
fn workers_in_threads_are_one_balancer_too() {
    let plans = plans(2, |worker| AnyPlan::for_device(None, 1024, 65535, worker, 2).unwrap().0);
    let mut memory = memory(&plans);
    let mut rig = rig(nic(2, None), plans, &mut memory);
    for wave in 0..20 {
        for number in wave * WAVE..(wave + 1) * WAVE {
            rig.nic.inject(CLIENTS, syn(number, false)).unwrap();
        }
        rig.settle(NOW);
        while let Some((_, frame)) = rig.take_sent(SERVERS) {
            rig.nic.inject(SERVERS, syn_ack(&tuple(&frame), 1)).unwrap();
        }
        let done = core::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (worker, lane) in rig.split() {
                let done = &done;
                scope.spawn(move || {
                    while worker.round(NOW, lane) > 0 {}
                    // What the other one hands over is still to be taken.
                    done.fetch_add(1, core::sync::atomic::Ordering::SeqCst);
                    while done.load(core::sync::atomic::Ordering::SeqCst) < 2 {
                        std::thread::yield_now();
                    }
                    while worker.round(NOW, lane) > 0 {}
                });
            }
        });
        let mut answered = 0;
        while rig.take_sent(CLIENTS).is_some() {
            answered += 1;
        }
        assert_eq!(answered, WAVE);
    }
    let counters = rig.counters();
    assert!(counters.handed_over > 4000 && counters.handed_over == counters.taken_over);
    assert_eq!((counters.forwarded, counters.dropped_total()), (20_000, 0));
}
