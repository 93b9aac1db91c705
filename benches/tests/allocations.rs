//! After construction the packet path never asks for memory: established traffic, new connections,
//! closings, expiry, ARP, and a new configuration.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use lvs_benches::world::{Direction, Packets, Plan, World};
use lvs_core::addr::MacAddr;
use lvs_core::io::{Burst, Lane, PacketBuf, PortId};
use lvs_core::session::Cursor;
use lvs_core::time::Time;
use lvs_testkit::build::arp_request;
use lvs_testkit::traffic::{Ip, Mix, Network, Rng, Segment, flags};
use std::alloc::System;

thread_local! {
    /// Calls of the allocator by this thread while it counts; `None` = it does not.
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

fn count() {
    // A thread that is being torn down has no counter any more, and is not counted.
    let _ = CALLS.try_with(|calls| calls.set(calls.get().map(|n| n + 1)));
}

// SAFETY: everything goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator, frees included, while `f` runs.
fn calls(f: impl FnOnce()) -> u64 {
    CALLS.set(Some(0));
    f();
    CALLS.replace(None).unwrap_or(0)
}

#[test]
fn the_counter_sees_an_allocation_and_its_end() {
    assert_eq!(calls(|| drop(core::hint::black_box(vec![1u8; 100]))), 2);
    assert_eq!(calls(|| ()), 0);
}

/// Lets one frame arrive on a port and takes away what leaves.
fn arrive<A: Ip>(world: &mut World<'_, A>, port: PortId, now: Time, frame: &[u8]) -> usize {
    let Some(mut buf) = world.lane.alloc(frame.len()) else { return 0 };
    buf.data_mut().copy_from_slice(frame);
    let mut burst = Burst::new();
    let _ = burst.push(buf);
    let World { director, lane, out, .. } = world;
    director.process(now, lane, port, &mut burst, out);
    director.tick(now, lane, out);
    out.flush(lane);
    lane.tx.iter_mut().map(|queue| queue.drain(..).count()).sum()
}

fn everything<A: Ip>(plan: &Plan, net: Network<A>) {
    let mut memory = plan.memory(A::HEADER == 40).unwrap();
    let mut world = World::new(plan, net, &mut memory).unwrap();
    let mut packets = Packets::new().unwrap();
    let mut rng = Rng::new(1);

    // Established traffic, mixed sizes.
    packets.fill(&world.net, &world.flows, (Direction::Both, lvs_testkit::traffic::IMIX), &mut rng);
    world.load(&mut packets);
    assert_eq!(calls(|| world.run(false)), 0, "bursts");
    world.unload(&mut packets).unwrap();
    packets.fill(&world.net, &world.flows, (Direction::Both, Mix::SMALL), &mut rng);
    world.load(&mut packets);
    assert_eq!(calls(|| world.run(true)), 0, "one at a time");
    world.unload(&mut packets).unwrap();

    // New connections, until local ports or places run out and SYNs are dropped.
    let mut opened = 0;
    for round in 0..5u64 {
        let before = world.director.store().len();
        for (n, buf) in (0u64..).zip(&mut packets.bufs) {
            buf.reset(14 + A::HEADER + 24);
            world.net.syn((1 << 31) + (round << 16) + n, buf.data_mut()).unwrap();
        }
        world.load(&mut packets);
        assert_eq!(calls(|| world.run(false)), 0, "new connections, round {round}");
        if world.unload(&mut packets).is_err() {
            packets = Packets::new().unwrap();
        }
        opened += world.director.store().len() - before;
    }
    assert!(opened > 10_000 && world.director.counters().dropped_total() > 0);

    // Closings: FIN of the client, FIN of the server, and a reset.
    let now = world.now;
    let flows: Vec<_> = world.flows.iter().take(100).copied().collect();
    let mut sent = 0;
    for (n, flow) in (0u64..).zip(&flows) {
        let mut frame = [0; 128];
        let fin = Segment {
            flags: flags::FIN | flags::ACK,
            seq: flow.client_seq,
            ack: flow.server_seq,
            ..Segment::default()
        };
        let len = world.net.from_client(n, &mut frame, &fin).unwrap();
        assert_eq!(calls(|| sent += arrive(&mut world, PortId(0), now, &frame[..len])), 0, "FIN");
        let kind = if n % 2 == 0 { flags::FIN | flags::ACK } else { flags::RST };
        let answer = Segment { flags: kind, seq: flow.server_seq, ack: flow.client_seen, ..fin };
        let len = flow.from_server(&world.net, &mut frame, &answer).unwrap();
        assert_eq!(calls(|| sent += arrive(&mut world, PortId(1), now, &frame[..len])), 0, "close");
    }
    assert_eq!(sent, 200);

    // Expiry of half-open, closing and established sessions.
    let mut ended = 0;
    let all = world.director.store().len();
    for second in 0..200 {
        let later = Time(now.0 + second * 1_000_000_000);
        assert_eq!(calls(|| ended += world.director.expire(later, u32::MAX)), 0, "expiry");
        assert_eq!(calls(|| while world.director.poll_event().is_some() {}), 0, "events");
    }
    assert_eq!((ended, world.director.store().len()), (all, 0));
    world.now = Time(now.0 + 200_000_000_000);
}

#[test]
fn full_nat_with_client_addresses_never_allocates() {
    everything(&Plan::full_nat(500), Network::<u32>::example());
    everything(&Plan::full_nat(500), Network::<u128>::example());
}

#[test]
fn nat_never_allocates() {
    everything(&Plan::nat(500), Network::<u32>::example());
    everything(&Plan::nat(500), Network::<u128>::example());
}

#[test]
fn questions_of_neighbours_and_a_new_configuration_never_allocate() {
    let plan = Plan::full_nat(500);
    let mut memory = plan.memory(false).unwrap();
    let mut world = World::new(&plan, Network::<u32>::example(), &mut memory).unwrap();
    let now = world.now;
    let sender = MacAddr([2, 0, 0, 0, 2, 0]);
    let question = arp_request(sender, [10, 1, 0, 11].into(), [10, 1, 0, 1].into()).build();
    let mut answers = 0;
    assert_eq!(calls(|| answers += arrive(&mut world, PortId(1), now, &question)), 0, "ARP");
    assert_eq!(answers, 1);

    // Another configuration is made elsewhere; only the swap happens between bursts.
    let next = lvs_benches::world::generation(&plan, &world.net).unwrap();
    let mut old = None;
    assert_eq!(calls(|| old = Some(world.director.install(next))), 0, "install");
    let (lane, out) = (&mut world.lane, &mut world.out);
    for _ in 0..100 {
        assert_eq!(calls(|| world.director.tick(now, lane, out)), 0, "leading onto new ways");
    }
    let mut packets = Packets::new().unwrap();
    packets.fill(&world.net, &world.flows, (Direction::Both, Mix::SMALL), &mut Rng::new(2));
    world.load(&mut packets);
    assert_eq!(calls(|| world.run(false)), 0, "after the swap");
    world.unload(&mut packets).unwrap();
    let mut live = 0;
    world.director.store().scan(Cursor::default(), u32::MAX, |_| live += 1);
    assert_eq!(live, 500);
    drop(old);
}
