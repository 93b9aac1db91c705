//! For everyday use: `cargo bench -p lvs-benches [FILTER]` tells, against the run before, what a change did
//! to one part. What is promised stands in the table of `cargo xtask bench` instead: times of two runs on a
//! shared machine are no proof.

use core::hint::black_box;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lvs_benches::suite::picks::{build, flow, servers};
use lvs_benches::suite::store::{Filled, Size};
use lvs_benches::world::{Direction, PACKETS, Packets, Plan, World};
use lvs_core::checksum::Sum;
use lvs_core::io::{BURST, L4Csum};
use lvs_core::session::Probe;
use lvs_core::wire::{Headers, Parsed, QuickTcp};
use lvs_nat::{End, Ends, Rewrite, SeqDeltas};
use lvs_testkit::traffic::{Flow, Ip, Kind, Mix, Network, Rng};

fn frame<A: Ip>(net: &Network<A>, len: usize) -> (Flow<A>, Vec<u8>) {
    let flow = Flow {
        client: net.client(3),
        local: (net.service.0.plus(500), 2000),
        server: (net.service.0.plus(900), 8080),
        ..Flow::default()
    };
    let mut frame = vec![0; 2048];
    let len = flow.write(net, Kind::Inbound, len, &mut frame).expect("it fits");
    frame.truncate(len);
    (flow, frame)
}

fn headers(frame: &[u8]) -> Headers {
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else { panic!("no IP") };
    headers
}

fn parse(c: &mut Criterion) {
    let (_, v4) = frame(&Network::<u32>::example(), 60);
    let (_, v6) = frame(&Network::<u128>::example(), 80);
    let mut group = c.benchmark_group("parse");
    group.bench_function("quick-v4", |b| b.iter(|| QuickTcp::<12>::parse(black_box(&v4), 60)));
    group.bench_function("headers-v4", |b| b.iter(|| Headers::parse(black_box(&v4), v4.len())));
    group.bench_function("headers-v6", |b| b.iter(|| Headers::parse(black_box(&v6), v6.len())));
}

fn rewrite(c: &mut Criterion) {
    let (flow4, v4) = frame(&Network::<u32>::example(), 60);
    let (flow6, v6) = frame(&Network::<u128>::example(), 80);
    let seq = SeqDeltas { seq: 77, ack: 0 };
    let mut group = c.benchmark_group("rewrite");
    let end = |(ip, port)| End::new(ip, port);
    let service = Network::<u32>::example().service;
    let ends = Ends {
        client: end(flow4.client),
        virt: end(service),
        local: end(flow4.local),
        server: end(flow4.server),
    };
    let (edit, h) = (Rewrite::inbound(&ends, ends.deltas(), seq).decrement_ttl(true), headers(&v4));
    group.bench_function("v4", |b| {
        let edit = |frame: &mut Vec<u8>| edit.apply(frame, black_box(&h), L4Csum::Unknown);
        b.iter_batched_ref(|| v4.clone(), edit, BatchSize::SmallInput);
    });
    let end = |(ip, port)| End::new(ip, port);
    let service = Network::<u128>::example().service;
    let ends = Ends {
        client: end(flow6.client),
        virt: end(service),
        local: end(flow6.local),
        server: end(flow6.server),
    };
    let (edit, h) = (Rewrite::inbound(&ends, ends.deltas(), seq).decrement_ttl(true), headers(&v6));
    group.bench_function("v6", |b| {
        let edit = |frame: &mut Vec<u8>| edit.apply(frame, black_box(&h), L4Csum::Unknown);
        b.iter_batched_ref(|| v6.clone(), edit, BatchSize::SmallInput);
    });
}

fn checksum(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..1500u32).map(|n| n as u8).collect();
    let mut group = c.benchmark_group("checksum");
    for len in [20, 40, 1500] {
        group.throughput(Throughput::Bytes(len as u64));
        let bytes = &bytes[..len];
        group.bench_function(len.to_string(), |b| {
            b.iter(|| Sum::ZERO.bytes(black_box(bytes)).fold());
        });
    }
}

fn store(c: &mut Criterion) {
    let size = Size::for_sessions(1 << 16);
    let mut memory = size.memory().expect("memory");
    let mut filled = Filled::new(size, &mut memory).expect("a store");
    filled.fill(0..60_000).expect("room");
    let mut rng = Rng::new(1);
    let mut group = c.benchmark_group("store");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("lookup-64", |b| {
        let mut probes = || -> Vec<Probe> {
            (0..BURST).map(|_| filled.probe(rng.below(60_000) as u64)).collect()
        };
        let lookup = |probes: &mut Vec<Probe>| {
            let mut found = [None; BURST];
            filled.store.lookup(probes, &mut found);
            found
        };
        b.iter_batched_ref(&mut probes, lookup, BatchSize::SmallInput);
    });
    group.throughput(Throughput::Elements(1));
    let mut next = 1 << 31;
    group.bench_function("open-and-close", |b| {
        b.iter(|| {
            next += 1;
            let id = filled.open(next).expect("room");
            filled.store.close(id)
        });
    });
}

fn picks(c: &mut Criterion) {
    let servers = servers(100);
    let mut group = c.benchmark_group("pick-of-100");
    for def in lvs_sched::ALL {
        let mut scheduler = build(def, &servers);
        let mut number = 0u64;
        group.bench_function(def.name, |b| {
            b.iter(|| {
                number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
                scheduler.pick(&flow(number), &servers)
            });
        });
    }
}

fn director(c: &mut Criterion) {
    let plan = Plan::full_nat(1 << 16);
    let mut memory = plan.memory(false).expect("memory");
    let world = World::new(&plan, Network::<u32>::example(), &mut memory);
    let (mut world, mut packets) = (world.expect("a director"), Packets::new().expect("memory"));
    let mut rng = Rng::new(1);
    let mut group = c.benchmark_group("director");
    group.throughput(Throughput::Elements(PACKETS as u64));
    group.bench_function("64k-sessions", |b| {
        b.iter_custom(|times| {
            let mut spent = core::time::Duration::ZERO;
            for _ in 0..times {
                let what = (Direction::Both, Mix::SMALL);
                packets.fill(&world.net, &world.flows, what, &mut rng);
                world.load(&mut packets);
                let start = std::time::Instant::now();
                world.run(false);
                spent += start.elapsed();
                world.unload(&mut packets).expect("all packets come out");
            }
            spent
        });
    });
}

criterion_group!(all, parse, rewrite, checksum, store, picks, director);
criterion_main!(all);
