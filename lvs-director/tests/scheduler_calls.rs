//! What a scheduler is told by the director: loads, time, and who did its work before.

mod support;

use core::any::Any;
use core::time::Duration;
use lvs_core::flow::WireTuple;
use lvs_core::id::WorkerId;
use lvs_core::io::mem::MemPort;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad, Weight};
use lvs_core::service::{Forwarding, ServerState};
use lvs_core::snapshot::{ServerSpec, SnapshotSpec};
use lvs_core::time::Tick;
use lvs_director::Generation;
use lvs_testkit::build::tcp;
use lvs_testkit::oracle;
use std::sync::{Arc, Mutex, MutexGuard};
use support::bench::{Bench, CLIENTS, MAC, SERVERS};

/// What schedulers were told, in order.
static TOLD: Mutex<Vec<Told>> = Mutex::new(Vec::new());
/// Tests that use it take turns.
static TURN: Mutex<()> = Mutex::new(());

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Rebuilt,
    Time(Tick),
    /// One with so many servers takes over from one with so many.
    TakenOver(usize, usize),
}

struct Listener {
    servers: usize,
}

impl Scheduler for Listener {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.servers = servers.len();
        TOLD.lock().unwrap().push(Told::Rebuilt);
    }
    fn pick(&mut self, _: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        servers.iter().position(ServerLoad::is_available)
    }
    fn tick(&mut self, now: Tick) {
        TOLD.lock().unwrap().push(Told::Time(now));
    }
    fn take_over(&mut self, before: &mut dyn Scheduler) {
        let before: &mut dyn Any = before;
        let before = before.downcast_ref::<Self>().unwrap();
        TOLD.lock().unwrap().push(Told::TakenOver(self.servers, before.servers));
    }
}

fn build(_: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(Listener { servers: 0 })
}

static LISTENER: SchedulerDef = SchedulerDef { name: "listener", summary: "for tests", build };

const ADDRESSES: [&str; 4] =
    ["10.1.0.11:8080", "10.1.0.12:8080", "10.1.0.13:8080", "10.1.0.14:8080"];

fn spec(scheduler: &'static SchedulerDef, servers: &[&str]) -> SnapshotSpec {
    let mut spec = support::spec(Forwarding::FullNat);
    spec.services.truncate(1);
    spec.services[0].scheduler = scheduler;
    let server = |addr: &&str| {
        ServerSpec::new(addr.parse().map(lvs_core::addr::RealAddr).unwrap(), Weight(1))
    };
    spec.services[0].servers = servers.iter().map(server).collect();
    spec
}

fn told() -> Vec<Told> {
    core::mem::take(&mut *TOLD.lock().unwrap())
}

fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    told();
    turn
}

#[test]
fn a_scheduler_is_told_the_time_once_in_each_tick() {
    let _turn = turn();
    let mut memory = support::memory();
    let mut bench = Bench::new(spec(&LISTENER, &ADDRESSES), &mut memory, MemPort::new(MAC));
    bench.pass(Duration::from_secs(2), Duration::from_millis(5));
    let times: Vec<u32> = told()
        .into_iter()
        .filter_map(|told| match told {
            Told::Time(tick) => Some(tick.0),
            Told::Rebuilt => None,
            Told::TakenOver(..) => panic!("nobody was there before"),
        })
        .collect();
    assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 1), "{times:?}");
    // 2 s are 29.8 ticks.
    assert!((29..=31).contains(&times.len()), "{times:?}");
}

#[test]
fn all_of_many_schedulers_are_told_the_time_in_turn() {
    let _turn = turn();
    let mut memory = support::memory();
    let mut many = spec(&LISTENER, &ADDRESSES);
    let first = many.services.remove(0);
    many.services = (1..=600u16)
        .map(|port| {
            let mut service = first.clone();
            service.key.addr =
                format!("10.0.0.80:{port}").parse().map(lvs_core::addr::VirtualAddr).unwrap();
            service
        })
        .collect();
    let mut bench = Bench::new(many, &mut memory, MemPort::new(MAC));
    bench.pass(Duration::from_millis(2050), Duration::from_millis(10));
    let mut per_tick = std::collections::BTreeMap::new();
    for told in told() {
        if let Told::Time(tick) = told {
            *per_tick.entry(tick.0).or_insert(0) += 1;
        }
    }
    let counts: Vec<i32> = per_tick.into_values().collect();
    assert!(counts.iter().all(|count| *count <= 256), "{counts:?}");
    assert!(counts.windows(3).all(|three| three.iter().sum::<i32>() == 600), "{counts:?}");
}

#[test]
fn who_did_the_work_before_is_taken_over_from_when_members_change() {
    let _turn = turn();
    let mut memory = support::memory();
    let mut bench = Bench::new(spec(&LISTENER, &ADDRESSES), &mut memory, MemPort::new(MAC));
    let changes = |bench: &mut Bench<'_>, spec| {
        bench.reload(spec);
        told().into_iter().filter(|told| matches!(told, Told::TakenOver(..))).collect::<Vec<_>>()
    };
    let three = || spec(&LISTENER, &ADDRESSES[..3]);
    assert_eq!(changes(&mut bench, three()), [Told::TakenOver(3, 4)]);
    assert_eq!(changes(&mut bench, three()), [], "unchanged: the same one goes on");
    let other = spec(&lvs_sched::rr::DEF, &ADDRESSES[..2]);
    assert_eq!(changes(&mut bench, other), [], "another algorithm");
}

/// The server that a new session of a client goes to.
fn server_of(bench: &mut Bench<'_>, client_port: u16) -> String {
    let from = format!("10.0.0.2:{client_port}");
    let syn = tcp().syn().from(from.as_str()).to("10.0.0.80:80").dst_mac(MAC).seq(1);
    let (report, frames) = bench.feed(CLIENTS, syn.build_buf());
    let [(SERVERS, frame)] = frames.as_slice() else { panic!("{report:?}") };
    oracle::fields(frame).unwrap().dst.to_string()
}

#[test]
fn round_robin_goes_on_behind_its_newest_pick_when_a_server_goes() {
    let mut memory = support::memory();
    let mut bench =
        Bench::new(spec(&lvs_sched::rr::DEF, &ADDRESSES), &mut memory, MemPort::new(MAC));
    assert_eq!(server_of(&mut bench, 1001), "10.1.0.11");
    assert_eq!(server_of(&mut bench, 1002), "10.1.0.12");
    bench.reload(spec(&lvs_sched::rr::DEF, &[ADDRESSES[0], ADDRESSES[2], ADDRESSES[3]]));
    assert_eq!(server_of(&mut bench, 1003), "10.1.0.13");
    assert_eq!(server_of(&mut bench, 1004), "10.1.0.14");
    assert_eq!(server_of(&mut bench, 1005), "10.1.0.11");
}

#[test]
fn every_scheduler_serves_a_service_across_a_change_of_members() {
    for def in lvs_sched::ALL {
        let mut memory = support::memory();
        let mut bench = Bench::new(spec(def, &ADDRESSES), &mut memory, MemPort::new(MAC));
        for (turn, members) in [&ADDRESSES[..], &ADDRESSES[1..], &ADDRESSES[..2]].iter().enumerate()
        {
            bench.reload(spec(def, members));
            for n in 0..10 {
                let server = server_of(&mut bench, (1000 * turn + n + 1) as u16);
                assert!(members.iter().any(|addr| addr.starts_with(&server)), "{}", def.name);
            }
        }
    }
}

#[test]
fn an_idle_server_that_is_wanted_again_gets_sessions_although_nothing_else_changed() {
    for def in lvs_sched::ALL {
        let with = |drains: usize| {
            let mut spec = spec(def, &ADDRESSES[..2]);
            spec.services[0].servers[drains].state = ServerState::Draining { within: None };
            spec
        };
        let mut memory = support::memory();
        let mut bench = Bench::new(with(0), &mut memory, MemPort::new(MAC));
        bench.reload(with(1));
        let mut served = 0;
        for port in 1000..1032 {
            let from = format!("10.0.0.{}:{port}", 2 + port % 32);
            let syn = tcp().syn().from(from.as_str()).to("10.0.0.80:80").dst_mac(MAC).seq(1);
            let (_, frames) = bench.feed(CLIENTS, syn.build_buf());
            for (port, frame) in frames {
                if port == SERVERS {
                    assert_eq!(oracle::fields(&frame).unwrap().dst.to_string(), "10.1.0.11");
                    served += 1;
                }
            }
        }
        assert!(served > 0, "{}: nobody was served", def.name);
    }
}

#[test]
fn a_server_with_a_part_of_its_share_gets_that_part_whatever_its_weight() {
    for (weight, share, picks) in [(1, 10, [100, 10]), (3, 50, [100, 50]), (60_000, 25, [100, 25])]
    {
        let with = |share| {
            let mut spec = spec(&lvs_sched::wrr::DEF, &ADDRESSES[..2]);
            for server in &mut spec.services[0].servers {
                server.weight = Weight(weight);
            }
            spec.services[0].servers[1].share = share;
            spec
        };
        let mut memory = support::memory();
        let mut bench = Bench::new(with(100), &mut memory, MemPort::new(MAC));
        assert_eq!(server_of(&mut bench, 900), "10.1.0.11");
        bench.reload(with(share));
        let count = |bench: &mut Bench<'_>, from: u16, to: u16| {
            let servers = (from..to).map(|port| server_of(bench, port));
            servers.filter(|server| server == "10.1.0.12").count() as u16
        };
        let all = picks[0] + picks[1];
        let got = count(&mut bench, 1000, 1000 + all);
        assert!(got.abs_diff(picks[1]) <= 1, "{got} of {all}");
        bench.reload(with(100));
        assert_eq!(count(&mut bench, 2000, 2100), 50, "all of it again");
    }
}

#[test]
fn a_worker_that_installs_a_configuration_rebuilds_nothing() {
    let _turn = turn();
    let mut memory = support::memory();
    let mut bench = Bench::new(spec(&LISTENER, &ADDRESSES), &mut memory, MemPort::new(MAC));
    for members in [&ADDRESSES[..3], &ADDRESSES[..3], &ADDRESSES[1..]] {
        let snapshot =
            spec(&LISTENER, members).build(Some(bench.director.generation().snapshot())).unwrap();
        let args = SchedulerArgs { worker: WorkerId(0), workers: 1 };
        let next = Generation::new(Arc::new(snapshot), args);
        assert!(told().contains(&Told::Rebuilt), "the control side does");
        drop(bench.director.install(next));
        bench.pass(Duration::from_secs(1), Duration::from_millis(10));
        assert!(!told().contains(&Told::Rebuilt), "{members:?}");
    }
}
