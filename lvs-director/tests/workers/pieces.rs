//! Fragments that a device spreads over workers as badly as it can: they meet at one, and leave by the worker that
//! owns their session (INV-17).

use crate::cut::{cut, join};
use crate::world::*;
use core::net::SocketAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::io::PortId;
use lvs_core::io::mem::{MemBuf, MemNic, RSS_KEY};
use lvs_core::plan::{AnyPlan, LowBits, PortPlan, fragment_owner};
use lvs_core::verdict::DropReason;
use lvs_testkit::build::udp;
use lvs_testkit::oracle;
use lvs_testkit::workers::{Rig, Setup};
use proptest::prelude::*;

const TABLE: [u16; 8] = [0, 3, 1, 2, 2, 0, 3, 1];

fn names(v6: bool) -> SocketAddr {
    let mut to = service(v6);
    to.set_port(53);
    to
}

/// The usual world with UDP services beside those for TCP.
fn setup() -> Setup {
    let mut spec = spec();
    for number in 0..2 {
        let mut service = spec.services[number].clone();
        service.key.proto = L4Proto::Udp;
        service.key.addr.0.set_port(53);
        spec.services.push(service);
    }
    Setup::new(spec.build(None).unwrap(), SIZES)
}

/// How the device steers what is whole.
#[derive(Clone, Copy, Debug)]
enum Steering {
    /// By its hash, which the plan knows.
    Toeplitz,
    /// A fanout program, by low bits of local ports and the client's address.
    Fanout,
    /// Replies anyhow; the plan knows nobody's arrival.
    Unknown,
}

fn plans_for(steering: Steering, workers: u16) -> Vec<AnyPlan> {
    let table: Vec<u16> = TABLE.iter().map(|queue| queue % workers).collect();
    plans(workers, |worker| {
        let rss = lvs_core::io::Rss { key: &RSS_KEY, table: &table };
        let low = LowBits::new(1024, 65535, worker, workers).unwrap();
        match steering {
            Steering::Toeplitz => {
                AnyPlan::for_device(Some(rss), 1024, 65535, worker, workers).unwrap().0
            }
            Steering::Fanout => AnyPlan::LowBits(low.with_fanout()),
            Steering::Unknown => AnyPlan::LowBits(low),
        }
    })
}

fn device(workers: u16) -> MemNic {
    let table: Vec<u16> = TABLE.iter().map(|queue| queue % workers).collect();
    nic(workers, Some((&RSS_KEY, &table)))
}

/// The queue that gets a whole packet.
fn queue_of(rig: &Rig<'_, AnyPlan>, steering: Steering, port: PortId, packet: &MemBuf) -> u16 {
    let plan = rig.workers[0].director.store().plan();
    let owner = if port == SERVERS {
        plan.owner_of(&tuple(packet))
    } else {
        plan.arrival_of(&tuple(packet))
    };
    match (steering, owner) {
        (Steering::Fanout, Some(owner)) => owner.0.into(),
        _ => rig.nic.steer(port, packet).1,
    }
}

fn question(number: u32, v6: bool, len: usize) -> Vec<u8> {
    let packet = udp().dst_mac(MAC).from(client(number, v6)).to(names(v6));
    packet.payload_len(len).dont_fragment(false).build()
}

fn answer(there: &WireTuple, len: usize) -> Vec<u8> {
    let from = SocketAddr::new(there.dst(), there.dport());
    let to = SocketAddr::new(there.src(), there.sport());
    udp().dst_mac(MAC).from(from).to(to).payload_len(len).dont_fragment(false).build()
}

/// Everything that left by a port.
fn sent(rig: &mut Rig<'_, AnyPlan>, port: PortId) -> Vec<(usize, Vec<u8>)> {
    core::iter::from_fn(|| rig.take_sent(port))
        .map(|(worker, frame)| (worker, frame.to_vec()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn pieces_spread_over_workers_leave_by_the_one_that_owns_their_session(
        workers in prop_oneof![Just(1u16), Just(2), Just(4)],
        steering in prop_oneof![Just(Steering::Toeplitz), Just(Steering::Fanout), Just(Steering::Unknown)],
        v6: bool, whole_first: bool,
        datagrams in prop::collection::vec((0u32..30, prop::collection::vec(1usize..150, 1..8), any::<u32>(), any::<u64>()), 1..12),
    ) {
        let plans = plans_for(steering, workers);
        let mut memory = memory(&plans);
        let mut rig = Rig::new(&setup(), device(workers), plans, &mut memory);
        let mut pieces_sent = 0;
        for (at, (number, places, ident, seed)) in datagrams.into_iter().enumerate() {
            // A datagram in one piece, which the device steers, before or behind those in pieces.
            let small = MemBuf::from_bytes(&question(number, v6, 8));
            let queue = queue_of(&rig, steering, CLIENTS, &small);
            let whole = |rig: &mut Rig<'_, AnyPlan>| {
                let small = MemBuf::from_bytes(&question(number, v6, 8));
                rig.nic.lane(queue).unwrap().inject(CLIENTS, small).unwrap();
                rig.settle(NOW);
                let mut all = sent(rig, SERVERS);
                assert_eq!(all.len(), 1);
                let (worker, frame) = all.pop().unwrap();
                (worker, tuple(&MemBuf::from_bytes(&frame)))
            };
            let before = whole_first.then(|| whole(&mut rig));
            let ident = if v6 { ident } else { at as u32 };
            let frame = question(number, v6, 1300);
            let places: Vec<usize> = places.iter().map(|at| at * 8).collect();
            let arrived = scattered(&mut rig, CLIENTS, SERVERS, &cut(&frame, &places, ident), seed, workers);
            pieces_sent += arrived.len() as u64;
            let joined = join(&arrived.iter().map(|(_, frame)| frame.clone()).collect::<Vec<_>>()).unwrap();
            oracle::checksums_ok(&joined).unwrap();
            let there = tuple(&MemBuf::from_bytes(&joined));
            let l4 = if v6 { 54 } else { 34 };
            prop_assert!(joined[l4 + 8..] == frame[l4 + 8..]);
            let owner = arrived[0].0;
            prop_assert!(arrived.iter().all(|(worker, _)| *worker == owner), "one worker sends them all");
            let after = before.or_else(|| (!matches!(steering, Steering::Unknown)).then(|| whole(&mut rig)));
            // Where nobody knows which worker whole datagrams reach, those in pieces are a session of their own.
            if let (Some(after), false) = (after, matches!(steering, Steering::Unknown)) {
                prop_assert_eq!((owner, there), after, "the same session");
            }
            // The answer comes back in pieces, too.
            let frame = answer(&there, 1300);
            let arrived = scattered(&mut rig, SERVERS, CLIENTS, &cut(&frame, &places, !ident), !seed, workers);
            pieces_sent += arrived.len() as u64;
            let joined = join(&arrived.iter().map(|(_, frame)| frame.clone()).collect::<Vec<_>>()).unwrap();
            oracle::checksums_ok(&joined).unwrap();
            let back = tuple(&MemBuf::from_bytes(&joined));
            prop_assert_eq!((back.src(), back.sport()), (names(v6).ip(), 53));
            prop_assert_eq!((back.dst(), back.dport()), (client(number, v6).ip(), client(number, v6).port()));
            prop_assert!(arrived.iter().all(|(worker, _)| *worker == owner));
        }
        let counters = rig.counters();
        prop_assert_eq!(counters.dropped_total(), 0, "{:#?}", counters);
        prop_assert_eq!(counters.handed_over, counters.taken_over);
        let whole = counters.forwarded - pieces_sent;
        prop_assert_eq!(counters.received.packets - counters.taken_over, pieces_sent + whole, "each once");
        prop_assert!(rig.workers.iter().all(|worker| worker.director.pieces() == (0, 0)));
        if workers == 1 {
            prop_assert_eq!(counters.handed_over, 0);
        }
    }
}

/// Pieces arrive in any order at any queue; what leaves on the other port. Each worker runs when it likes.
fn scattered(
    rig: &mut Rig<'_, AnyPlan>,
    from: PortId,
    to: PortId,
    parts: &[Vec<u8>],
    seed: u64,
    workers: u16,
) -> Vec<(usize, Vec<u8>)> {
    let mut random = seed | 1;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random >> 33) as usize % below
    };
    let mut order: Vec<usize> = (0..parts.len()).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, draw(at + 1));
    }
    for at in order {
        let lane = rig.nic.lane(draw(usize::from(workers)) as u16).unwrap();
        lane.inject(from, MemBuf::from_bytes(&parts[at])).unwrap();
        if draw(2) == 0 {
            let worker = draw(usize::from(workers));
            let (worker, lane) = rig.split().nth(worker).unwrap();
            worker.round(NOW, lane);
        }
    }
    rig.settle(NOW);
    assert!(sent(rig, from).is_empty());
    sent(rig, to)
}

/// Every refusal on the way between workers is counted: here the ring is full.
#[test]
fn a_full_ring_between_keeper_and_owner_is_counted_and_no_piece_goes_elsewhere() {
    let plans = plans_for(Steering::Fanout, 2);
    let mut memory = memory(&plans);
    let mut setup = setup();
    setup.rings = Some(lvs_director::RingSize(4096));
    let mut rig = Rig::new(&setup, device(2), plans, &mut memory);
    let (mut pieces, mut keepers) = (0u64, [0; 2]);
    for ident in 0..40u32 {
        let frame = question(ident, false, 2000);
        for part in cut(&frame, &[1000], ident) {
            rig.nic.lane(0).unwrap().inject(CLIENTS, MemBuf::from_bytes(&part)).unwrap();
            pieces += 1;
        }
        let (src, dst) = (client(ident, false).ip(), names(false).ip());
        keepers[fragment_owner(src, dst, 17, ident, 2).index()] += 1;
    }
    assert!(keepers.iter().all(|count| *count > 8), "{keepers:?}");
    // Worker 0 alone: its ring to worker 1 fills.
    let (worker, lane) = rig.split().next().unwrap();
    while worker.round(NOW, lane) > 0 {}
    let full = rig.counters().dropped(DropReason::HandOverFull);
    assert!(full > 0, "{:#?}", rig.counters());
    rig.settle(NOW);
    let counters = rig.counters();
    assert_eq!(counters.handed_over, counters.taken_over);
    let waiting: usize = rig.workers.iter().map(|worker| worker.director.pieces().1).sum();
    let fates = counters.forwarded + counters.dropped_total() + waiting as u64;
    assert_eq!(fates, pieces, "{counters:#?}");
    assert_eq!(counters.dropped(DropReason::HandOverLoop), 0);
}
