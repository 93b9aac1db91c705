//! A director as a case describes it, and what it does with the packets of the case.

use core::time::Duration;
use lvs_core::addr::{MacAddr, RealAddr, VirtualAddr};
use lvs_core::counters::Counters;
use lvs_core::flow::L4Proto;
use lvs_core::id::WorkerId;
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::plan::Whole;
use lvs_core::sched::{SchedulerArgs, Weight};
use lvs_core::service::{
    ClientAddrMode, Encapsulation, Forwarding, ServiceFlags, ServiceKey, TimestampPolicy,
};
use lvs_core::session::{HeapMemory, SessionStore, StoreConfig, TableConfig};
use lvs_core::snapshot::{Interface, ServerSpec, ServiceSpec, SnapshotSpec, StaticNeighbour};
use lvs_core::time::Time;
use lvs_core::timeouts::Timeouts;
use lvs_core::verdict::Verdict;
use lvs_director::{Director, DirectorConfig, Generation, Outputs};
use lvs_testkit::golden::{Case, Observed, Step};
use lvs_testkit::nic;
use serde_json::Value;
use std::sync::Arc;

/// What a run gave.
pub(crate) struct Run {
    /// For each packet, or for each burst at its last packet.
    pub(crate) observed: Vec<Observed>,
    pub(crate) counters: Vec<(&'static str, u64)>,
}

impl Run {
    pub(crate) fn sent(&self, arm: usize) -> Vec<&Vec<u8>> {
        let all = self.observed.iter().flat_map(|seen| &seen.out);
        all.filter(|(at, _)| *at == arm).map(|(_, frame)| frame).collect()
    }
}

fn words<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn entries<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn mac(text: &str) -> MacAddr {
    text.parse().unwrap_or_else(|_| panic!("no Ethernet address: {text}"))
}

fn tunnel(service: &Value) -> Encapsulation {
    let tunnel = &service["tunnel"];
    if tunnel.is_null() {
        return Encapsulation::default();
    }
    match words(tunnel, "type") {
        "ipip" => Encapsulation::IpIp,
        "gre" => Encapsulation::Gre { checksum: false },
        "gue" => Encapsulation::Gue {
            dport: u16::try_from(tunnel["port"].as_u64().unwrap()).unwrap(),
            checksum: false,
        },
        other => panic!("no tunnel {other}"),
    }
}

fn spec(config: &Value) -> SnapshotSpec {
    let interface = |(port, arm): (u16, &Value)| {
        let addresses: Vec<&str> =
            entries(arm, "addresses").iter().filter_map(Value::as_str).collect();
        Interface::new(port, &addresses).expect("addresses")
    };
    let mut timeouts = Timeouts::KERNEL;
    if let Some(udp) = config["timeouts"]["udp"].as_u64() {
        timeouts = timeouts.with_udp(Duration::from_secs(udp));
    }
    let server = |server: &Value, tunnel: Encapsulation| ServerSpec {
        tunnel,
        ..ServerSpec::new(
            RealAddr(words(server, "address").parse().unwrap()),
            Weight(u16::try_from(server["weight"].as_u64().unwrap()).unwrap()),
        )
    };
    let service = |service: &Value| ServiceSpec {
        key: ServiceKey::new(
            if words(service, "protocol") == "tcp" { L4Proto::Tcp } else { L4Proto::Udp },
            VirtualAddr(words(service, "address").parse().unwrap()),
        ),
        forwarding: match words(service, "forwarding") {
            "nat" => Forwarding::Nat,
            "dr" => Forwarding::Dr,
            "tun" => Forwarding::Tun,
            other => panic!("{other} is pending, or this test must learn it"),
        },
        scheduler: lvs_sched::by_name(words(service, "scheduler")).expect("a scheduler"),
        pool: None,
        client_addr: ClientAddrMode::None,
        timestamps: TimestampPolicy::Keep,
        timeouts,
        persistence: None,
        // Linux leaves the options of clients alone.
        flags: ServiceFlags { trust_toa: true, ..ServiceFlags::default() },
        servers: entries(service, "servers").iter().map(|s| server(s, tunnel(service))).collect(),
    };
    SnapshotSpec {
        interfaces: (0..).zip(entries(config, "arms")).map(interface).collect(),
        neighbours: entries(config, "neighbours")
            .iter()
            .map(|n| StaticNeighbour {
                ip: words(n, "ip").parse().unwrap(),
                mac: mac(words(n, "mac")),
            })
            .collect(),
        services: entries(config, "services").iter().map(service).collect(),
        ..SnapshotSpec::default()
    }
}

struct Stage<'m> {
    director: Director<'m>,
    lane: MemLane,
    out: Outputs<MemBuf>,
    first_ns: u64,
    /// Packet time of the newest turn of timers.
    turn_ns: u64,
}

impl Stage<'_> {
    fn clock(&self, ns: u64) -> Time {
        Time(ns - self.first_ns + 1_000_000_000)
    }

    /// Timers run every 100 ms of packet time.
    fn pass(&mut self, until_ns: u64) -> Vec<(usize, Vec<u8>)> {
        while self.turn_ns + 100_000_000 <= until_ns {
            self.turn_ns += 100_000_000;
            let now = self.clock(self.turn_ns);
            self.director.expire(now, 10_000);
            self.director.tick(now, &mut self.lane, &mut self.out);
        }
        self.sent()
    }

    fn inject(&mut self, steps: &[&Step]) -> Burst<MemBuf> {
        let mut burst = Burst::new();
        for step in steps {
            let port = PortId(u16::try_from(step.arm).unwrap());
            self.lane.inject(port, nic::from_wire(&step.packet.data, true)).expect("room");
        }
        if let Some(step) = steps.first() {
            let port = PortId(u16::try_from(step.arm).unwrap());
            self.lane.rx_burst(port, &mut burst).expect("the port works");
        }
        assert_eq!(burst.len(), steps.len());
        burst
    }

    fn sent(&mut self) -> Vec<(usize, Vec<u8>)> {
        self.out.flush(&mut self.lane);
        let mut all = Vec::new();
        for port in (0..self.lane.port_count()).map(PortId) {
            while let Some(packet) = self.lane.take_sent(port) {
                all.extend(nic::on_wire(&packet).into_iter().map(|frame| (port.index(), frame)));
            }
            assert_eq!(self.lane.stats(port).tx_rejected, 0);
        }
        all
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters: &Counters = self.director.counters();
        let reasons = lvs_core::verdict::DropReason::ALL.iter();
        let drops = reasons.map(|reason| (reason.id(), counters.dropped(*reason)));
        counters.named().into_iter().chain(drops).collect()
    }
}

fn staged<R>(case: &Case, act: impl FnOnce(&mut Stage<'_>) -> R) -> R {
    let table = |general| TableConfig { local_addresses: 0, general };
    let sizes = StoreConfig { v4: table(200), v6: table(200), key: [1, 2], seed: 3 };
    let plan = Whole::default();
    let mut memory = HeapMemory::new(SessionStore::memory_for(&sizes, &plan).unwrap());
    let store = SessionStore::new(sizes, plan, memory.bytes()).unwrap();
    let snapshot = spec(&case.config).build(None).expect("a sound configuration");
    let args = SchedulerArgs { worker: WorkerId(0), workers: 1 };
    let generation = Generation::new(Arc::new(snapshot), args);
    let ports = entries(&case.config, "arms").iter().map(|arm| {
        let mtu = u16::try_from(arm["mtu"].as_u64().unwrap()).unwrap();
        let mut port = MemPort { mtu, ..MemPort::plain(mac(words(arm, "mac"))) };
        port.caps.max_frame = mtu + 22;
        port
    });
    let first_ns = case.steps.first().expect("a packet").packet.time_ns;
    let mut stage = Stage {
        director: Director::new(DirectorConfig::default(), store, generation),
        lane: MemLane::new(ports),
        out: Outputs::new(u16::try_from(case.arms.len()).unwrap()),
        first_ns,
        turn_ns: first_ns,
    };
    act(&mut stage)
}

fn name(verdict: Verdict) -> String {
    match verdict {
        Verdict::Forward(_) => "forward".into(),
        Verdict::Answer(_) => "answer".into(),
        Verdict::Release => "release".into(),
        Verdict::Absorb(_) => "absorb".into(),
        Verdict::Drop(reason) => format!("drop {reason}"),
    }
}

/// Each packet by itself.
pub(crate) fn one_by_one(case: &Case) -> Run {
    staged(case, |stage| {
        let mut observed = Vec::new();
        for step in &case.steps {
            let timers = stage.pass(step.packet.time_ns);
            assert_eq!(timers, [], "{}: timers send something", case.name);
            let packet = stage.inject(&[step]).pop().expect("it has just arrived");
            let (now, port) =
                (stage.clock(step.packet.time_ns), PortId(u16::try_from(step.arm).unwrap()));
            let Stage { director, lane, out, .. } = stage;
            let report = director.process_one(now, lane, port, packet, out);
            observed.push(Observed { verdict: name(report.verdict), out: stage.sent() });
        }
        Run { observed, counters: stage.counters() }
    })
}

/// Neighbouring packets of one arm together, when timers do not run between them.
pub(crate) fn in_bursts(case: &Case) -> Run {
    staged(case, |stage| {
        let mut observed = Vec::new();
        let close = |a: &Step, b: &Step| {
            a.arm == b.arm && b.packet.time_ns - a.packet.time_ns < 100_000_000
        };
        for steps in case.steps.chunk_by(close) {
            for steps in steps.chunks(32) {
                let (first, last) = (&steps[0], &steps[steps.len() - 1]);
                stage.pass(first.packet.time_ns);
                let now = stage.clock(last.packet.time_ns);
                let mut burst = stage.inject(&steps.iter().collect::<Vec<_>>());
                let port = PortId(u16::try_from(first.arm).unwrap());
                let Stage { director, lane, out, .. } = stage;
                director.process(now, lane, port, &mut burst, out);
                observed.push(Observed { verdict: String::new(), out: stage.sent() });
            }
        }
        Run { observed, counters: stage.counters() }
    })
}
