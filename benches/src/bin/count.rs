//! Runs the hot functions a known number of times, to count their instructions under callgrind.
//!
//! `cargo xtask instructions` runs it and reads the inclusive cost of each `measured_` function. It
//! prints `name packets` for each, so that the reader can divide.

use core::hint::black_box;
use lvs_benches::floor::memory::Memory;
use lvs_benches::floor::translate::{self, Own, Session};
use lvs_benches::standin::{Hops, naive::Naive, session_of};
use lvs_benches::world::{Direction, PACKETS, Packets, Plan, World, server_mac};
use lvs_core::flow::{L4Proto, TupleV4, WireTuple};
use lvs_core::io::{BURST, L4Csum, PacketBuf};
use lvs_core::session::{Probe, SessionStore};
use lvs_core::siphash::SipHash13;
use lvs_core::wire::{Headers, QuickTcp};
use lvs_nat::{End, Ends, RewriteV4, SeqDeltas};
use lvs_testkit::traffic::{Flow, Ip, Mix, Network, Rng};
use std::process::ExitCode;

const SESSIONS: usize = 1024;

fn main() -> ExitCode {
    let counted = || -> Result<(), String> {
        full_nat_v4()?;
        first_packets("director_syn_persistent", Plan::full_nat(SESSIONS).persistent(), |world| {
            measured_director_syn_persistent(world);
        })?;
        first_packets("director_syn_nat", Plan::nat(SESSIONS), |world| {
            measured_director_syn_nat(world);
        })?;
        naive_syn()?;
        established::<u128>("director_v6", Network::<u128>::example(), measured_director_v6)?;
        floors()
    };
    match counted() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn counted(name: &str, packets: usize) {
    println!("{name} {packets}");
}

fn fill<A: Ip>(packets: &mut Packets, world: &World<'_, A>, direction: Direction) {
    packets.fill(&world.net, &world.flows, (direction, Mix::SMALL), &mut Rng::new(1));
}

/// One pass of established sessions, after one that warms up.
fn established<A: Ip>(
    name: &str,
    net: Network<A>,
    run: fn(&mut World<'_, A>),
) -> Result<(), String> {
    let plan = Plan::full_nat(SESSIONS);
    let mut memory = plan.memory(A::HEADER == 40)?;
    let mut world = World::new(&plan, net, &mut memory)?;
    world.settle();
    world.frozen = true;
    let mut packets = Packets::new()?;
    fill(&mut packets, &world, Direction::Both);
    world.load(&mut packets);
    world.run(false);
    world.unload(&mut packets)?;
    fill(&mut packets, &world, Direction::Both);
    world.load(&mut packets);
    run(&mut world);
    world.unload(&mut packets)?;
    counted(name, PACKETS);
    Ok(())
}

fn full_nat_v4() -> Result<(), String> {
    let plan = Plan::full_nat(SESSIONS);
    let mut memory = plan.memory(false)?;
    let mut world = World::new(&plan, Network::<u32>::example(), &mut memory)?;
    world.settle();
    world.frozen = true;
    let mut packets = Packets::new()?;
    parts(&world, &mut packets)?;
    fill(&mut packets, &world, Direction::Both);
    world.load(&mut packets);
    world.run(false);
    world.unload(&mut packets)?;
    fill(&mut packets, &world, Direction::Both);
    world.load(&mut packets);
    measured_director_plain(&mut world);
    world.unload(&mut packets)?;
    counted("director_plain", PACKETS);
    fill_syns(&mut packets, &world.net);
    world.load(&mut packets);
    measured_director_syn(&mut world);
    world.unload(&mut packets)?;
    counted("director_syn", PACKETS);
    Ok(())
}

fn fill_syns(packets: &mut Packets, net: &Network<u32>) {
    for (number, buf) in (1 << 31..).zip(&mut packets.bufs) {
        buf.reset(58);
        let _ = net.syn(number, buf.data_mut());
    }
}

/// SYNs of clients of which a quarter are known.
fn first_packets(
    name: &str,
    plan: Plan,
    run: impl FnOnce(&mut World<'_, u32>),
) -> Result<(), String> {
    let mut memory = plan.memory(false)?;
    let mut world = World::new(&plan, Network::<u32>::example(), &mut memory)?;
    world.settle();
    world.frozen = true;
    let mut packets = Packets::new()?;
    fill(&mut packets, &world, Direction::Both);
    world.load(&mut packets);
    world.run(false);
    world.unload(&mut packets)?;
    fill_syns(&mut packets, &world.net);
    world.load(&mut packets);
    run(&mut world);
    world.unload(&mut packets)?;
    counted(name, PACKETS);
    Ok(())
}

fn naive_syn() -> Result<(), String> {
    let net = Network::<u32>::example();
    let flows: Vec<Flow<u32>> = (0..SESSIONS as u64)
        .map(|n| Flow {
            client: net.client(n),
            local: (0x0a01_0101, 1025 + n as u16),
            server: (0x0a01_000b + n as u32 % 16, 8080),
            server_mac: server_mac((n % 16) as u8),
            ..Flow::default()
        })
        .collect();
    let mut naive = Naive::with(&net, &flows, Hops::new(&net, server_mac), (PACKETS, true));
    let mut packets = Packets::new()?;
    fill_syns(&mut packets, &net);
    if measured_naive_syn(&mut naive, &mut packets) != PACKETS {
        return Err("the naive director did not open".into());
    }
    counted("naive_syn", PACKETS);
    Ok(())
}

/// The parts that the director is made of, each over the same packets.
fn parts(world: &World<'_, u32>, packets: &mut Packets) -> Result<(), String> {
    fill(packets, world, Direction::Inbound);
    measured_headers_parse(packets);
    counted("headers_parse", PACKETS);
    measured_quick_parse(packets);
    counted("quick_parse", PACKETS);
    let hash = SipHash13::new(&[1, 2]);
    measured_siphash(&hash, PACKETS);
    counted("siphash", PACKETS);
    let probes: Vec<Probe> = packets.bufs.iter().filter_map(probe).collect();
    if measured_store_lookup(world.director.store(), &probes) != PACKETS {
        return Err("a lookup found nothing".into());
    }
    counted("store_lookup", PACKETS);
    let flow = world.flows.first().ok_or("no session")?;
    packets.fill(&world.net, &[*flow], (Direction::Inbound, Mix::SMALL), &mut Rng::new(1));
    let quick: Vec<Headers> = packets
        .bufs
        .iter()
        .filter_map(|b| QuickTcp::<12>::parse(b.data(), 60))
        .map(|q| q.headers())
        .collect();
    if measured_rewrite_v4(&rewrite(&world.net, flow), packets, &quick) != PACKETS {
        return Err("a rewrite failed".into());
    }
    counted("rewrite_v4", PACKETS);
    packets.check()
}

fn probe(buf: &impl PacketBuf) -> Option<Probe> {
    let (ends, ..) = lvs_testkit::traffic::read::<u32>(buf.data())?;
    let (src, dst) = (ends.src, ends.dst);
    let proto = L4Proto::Tcp;
    let tuple = TupleV4 { src: src.0, dst: dst.0, sport: src.1, dport: dst.1, proto };
    Some(Probe { tuple: WireTuple::V4(tuple), local: None })
}

fn rewrite(net: &Network<u32>, flow: &Flow<u32>) -> RewriteV4 {
    let [client, virt, local, server] =
        [flow.client, net.service, flow.local, flow.server].map(|(ip, port)| End::new(ip, port));
    let ends = Ends { client, virt, local, server };
    let seq = SeqDeltas { seq: flow.client_seen.wrapping_sub(flow.client_seq), ack: 0 };
    RewriteV4::inbound(&ends, ends.deltas(), seq).decrement_ttl(true)
}

fn floors() -> Result<(), String> {
    let net = Network::<u32>::example();
    let flow = Flow {
        client: net.client(3),
        local: (0x0a01_0101, 2000),
        server: (0x0a01_000b, 8080),
        ..Flow::default()
    };
    let mut packets = Packets::new()?;
    let both = (Direction::Inbound, Mix::SMALL);
    packets.fill(&net, &[flow], both, &mut Rng::new(1));
    let mut session = session_of(&flow, &net);
    if measured_floor_translate(&mut packets, &mut session, Own::new(net.own[0].0)) != PACKETS {
        return Err("the floor did not translate".into());
    }
    counted("floor_translate", PACKETS);
    let mut memory = Memory::new(SESSIONS)?;
    black_box(measured_floor_memory(&mut memory));
    counted("floor_memory", PACKETS);
    Ok(())
}

#[inline(never)]
fn measured_director_plain(world: &mut World<'_, u32>) {
    world.run(false);
}

#[inline(never)]
fn measured_director_syn(world: &mut World<'_, u32>) {
    black_box(&mut *world).run(false);
}

#[inline(never)]
fn measured_director_syn_persistent(world: &mut World<'_, u32>) {
    // Functions of equal code become one: each of these passes a number of its own.
    black_box((&mut *world, 1)).0.run(false);
}

#[inline(never)]
fn measured_director_syn_nat(world: &mut World<'_, u32>) {
    black_box((&mut *world, 2)).0.run(false);
}

#[inline(never)]
fn measured_naive_syn(naive: &mut Naive, packets: &mut Packets) -> usize {
    naive.open_all(&mut packets.bufs, 1)
}

#[inline(never)]
fn measured_director_v6(world: &mut World<'_, u128>) {
    world.run(false);
}

#[inline(never)]
fn measured_headers_parse(packets: &Packets) {
    for buf in &packets.bufs {
        let _ = black_box(Headers::parse(buf.data(), buf.total_len()));
    }
}

#[inline(never)]
fn measured_quick_parse(packets: &Packets) {
    for buf in &packets.bufs {
        let _ = black_box(QuickTcp::<12>::parse(buf.data(), buf.total_len()));
    }
}

#[inline(never)]
fn measured_siphash(hash: &SipHash13, times: usize) {
    for n in 0..times as u64 {
        let _ = black_box(hash.words(&black_box([n, n])));
    }
}

#[inline(never)]
fn measured_store_lookup(store: &SessionStore<'_>, probes: &[Probe]) -> usize {
    let mut hits = 0;
    for burst in probes.chunks(BURST) {
        let mut found = [None; BURST];
        store.lookup(burst, &mut found);
        hits += found.iter().flatten().count();
    }
    hits
}

#[inline(never)]
fn measured_rewrite_v4(rewrite: &RewriteV4, packets: &mut Packets, headers: &[Headers]) -> usize {
    let pairs = packets.bufs.iter_mut().zip(headers);
    pairs.filter_map(|(b, h)| rewrite.apply(b.data_mut(), h, L4Csum::Unknown).ok()).count()
}

#[inline(never)]
fn measured_floor_translate(packets: &mut Packets, session: &mut Session, own: Own) -> usize {
    translate::run::<true, _>(&mut packets.bufs, session, own, &[2; 12], 7)
}

#[inline(never)]
fn measured_floor_memory(memory: &mut Memory) -> u32 {
    memory.run(PACKETS, 3, false)
}
