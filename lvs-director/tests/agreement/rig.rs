//! Director and model side by side: every step is done to both, and compared.
#![expect(clippy::needless_pass_by_value, reason = "what is compared is made for the comparison")]

use crate::config::{Config, mac_of, port_of};
use crate::script::{Known, Step};
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::event::{Closed, Event};
use lvs_core::flow::WireTuple;
use lvs_core::id::{SessionId, WorkerId};
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::plan::Whole;
use lvs_core::sched::SchedulerArgs;
use lvs_core::session::{
    Cursor, HeapMemory, Session, SessionStore, StoreConfig, TableConfig, TcpState,
};
use lvs_core::snapshot::Snapshot;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::Pretty;
use lvs_director::{
    Director, DirectorConfig, ErrorRate, FragmentConfig, Generation, HopState, Outputs,
};
use lvs_testkit::build::{arp_reply, ndp_advert};
use lvs_testkit::model::{Model, PortSetup, Sent, Setup};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const ARGS: SchedulerArgs = SchedulerArgs { worker: WorkerId(0), workers: 1 };
const PORTS: (u16, u16) = (1025, 1032);
const LOCALS: [u16; 2] = [3, 2];
const GENERAL: [u32; 2] = [10, 10];
const ISN_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 7];
/// The Ethernet address of both ports.
pub(crate) const OWN_MAC: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];

fn store_config(seed: u64) -> StoreConfig {
    let table = |at: usize| TableConfig { local_addresses: LOCALS[at], general: GENERAL[at] };
    StoreConfig { v4: table(0), v6: table(1), key: [1, 2], seed }
}

fn plan() -> Whole {
    Whole::new(PORTS.0, PORTS.1).unwrap()
}

pub(crate) fn memory() -> HeapMemory {
    HeapMemory::new(SessionStore::memory_for(&store_config(0), &plan()).unwrap())
}

/// What the two do not agree on.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn at(self, number: usize, step: &Step) -> Self {
        Self(format!("at step {number}, {step:?}:\n{}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, real: T, model: T) -> Result<(), Failure> {
    if real == model {
        return Ok(());
    }
    Err(Failure(format!("{what}\n  director {real:?}\n  model    {model:?}")))
}

fn same_frames(what: &str, real: &[Sent], model: &[Sent]) -> Result<(), Failure> {
    if real == model {
        return Ok(());
    }
    let list = |sent: &[Sent]| {
        let line = |s: &Sent| {
            let hex: Vec<String> = s.bytes.iter().take(130).map(|b| format!("{b:02x}")).collect();
            let Sent { port, csum, vlan, gso, partial_at, train_headers, .. } = s;
            format!(
                "    {port} {csum:?} {vlan:?} {gso:?} {partial_at:?} {train_headers:?} {} bytes {}\n      {}\n",
                s.bytes.len(),
                Pretty(&s.bytes),
                hex.concat()
            )
        };
        sent.iter().map(line).collect::<String>()
    };
    Err(Failure(format!("{what}\n  director sent\n{}  model sent\n{}", list(real), list(model))))
}

pub(crate) struct Rig<'m> {
    pub(crate) now: Time,
    config: Config,
    director: Director<'m>,
    lane: MemLane,
    out: Outputs<MemBuf>,
    pub(crate) model: Model,
    snapshot: Arc<Snapshot>,
    tuples: BTreeMap<SessionId, WireTuple>,
    pub(crate) silent: BTreeSet<IpAddr>,
    /// Questions that have left and that nobody has answered.
    questions: Vec<(PortId, Vec<u8>)>,
}

impl<'m> Rig<'m> {
    pub(crate) fn new(config: Config, memory: &'m mut HeapMemory) -> Self {
        let ports = [0, 1].map(|at| match (at, config.plain_port) {
            (1, true) => {
                let mut port = MemPort::plain(OWN_MAC[at]);
                port.caps.tx_vlan = true;
                port
            }
            _ => MemPort::new(OWN_MAC[at]),
        });
        let setup = Setup {
            ports: ports
                .iter()
                .map(|port| PortSetup {
                    mac: port.mac,
                    mtu: port.mtu,
                    max_frame: port.caps.max_frame,
                    tx_csum: port.caps.tx_csum,
                    gso: port.caps.gso,
                })
                .collect(),
            local_ports: PORTS,
            local_addresses: LOCALS,
            general: GENERAL,
            seed: config.seed,
            isn_key: ISN_KEY,
            waiting: config.waiting,
            fragments: FragmentConfig { held_each: 4, ..FragmentConfig::default() },
        };
        let fragments = setup.fragments;
        let spec = config.spec();
        let snapshot = Arc::new(spec.clone().build(None).unwrap());
        let store = SessionStore::new(store_config(config.seed), plan(), memory.bytes()).unwrap();
        let sizes = DirectorConfig {
            hops: 32,
            waiting: config.waiting,
            isn_key: ISN_KEY,
            // The naive director makes no errors; tests/errors shows them.
            errors: ErrorRate::NONE,
            fragments,
            ..DirectorConfig::default()
        };
        let generation = Generation::new(Arc::clone(&snapshot), ARGS);
        Self {
            now: Time(1 << 40),
            director: Director::new(sizes, store, generation),
            lane: MemLane::new(ports),
            out: Outputs::new(2),
            model: Model::new(setup, spec),
            snapshot,
            tuples: BTreeMap::new(),
            silent: BTreeSet::new(),
            questions: Vec::new(),
            config,
        }
    }

    pub(crate) fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Wait(ms) => self.wait(Duration::from_millis(*ms))?,
            Step::Reload(changes) => {
                let mut config = self.config.clone();
                changes.iter().for_each(|change| config.apply(change));
                self.reload(config)?;
            }
            Step::Silent(hosts) => {
                self.silent = hosts.iter().map(|host| host.parse().unwrap()).collect();
            }
            step => {
                for round in 0.. {
                    let known = Known { sessions: self.model.sessions() };
                    let Some((port, packet)) = step.packet(round, &known) else { break };
                    self.receive(port, &packet)?;
                    self.answer()?;
                }
            }
        }
        self.answer()?;
        self.compare()
    }

    /// One packet through both.
    fn receive(&mut self, port: PortId, packet: &MemBuf) -> Result<(), Failure> {
        let outcome = self.model.receive(self.now, port, &packet.into());
        let context = |what: &str| format!("{what} of {} on {port}", Pretty(&packet.to_vec()));
        let (copy, model) = (packet.clone(), outcome.verdict);
        if self.config.bursts {
            let mut burst = Burst::new();
            assert!(burst.push(copy).is_ok(), "an empty burst has room");
            self.director.process(self.now, &mut self.lane, port, &mut burst, &mut self.out);
            // The counters tell the verdict.
        } else {
            let report =
                self.director.process_one(self.now, &mut self.lane, port, copy, &mut self.out);
            same(&context("verdict"), report.verdict, model)?;
            let session = report.session.and_then(|id| self.director.store().session(id));
            let inbound = session.and_then(|session| session.quad.inbound());
            same(&context("session"), inbound, outcome.session)?;
            same(&context("service"), report.service, outcome.service)?;
            same(&context("server"), report.server, outcome.server)?;
        }
        let mut sent = outcome.sent;
        sent.sort_by_key(|sent| sent.port);
        let real = self.flush()?;
        same_frames(&context("frames"), &real, &sent)?;
        if let Verdict::Drop(_) = model {
            // A dropped packet leaves nothing behind but questions.
            let questions = real.iter().all(|sent| is_question(&sent.bytes));
            same(&context("frames of a dropped packet"), questions, true)?;
        }
        self.events()
    }

    /// What the director has sent, port by port.
    fn flush(&mut self) -> Result<Vec<Sent>, Failure> {
        self.out.flush(&mut self.lane);
        let mut all = Vec::new();
        for port in [PortId(0), PortId(1)] {
            while let Some(packet) = self.lane.take_sent(port) {
                all.push(Sent::of(port, &packet));
            }
            same("packets that the port cannot send", self.lane.stats(port).tx_rejected, 0)?;
        }
        for sent in all.iter().filter(|sent| is_question(&sent.bytes)) {
            self.questions.push((sent.port, sent.bytes.clone()));
        }
        Ok(all)
    }

    /// Sessions that have opened or ended by themselves.
    fn events(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.director.poll_event() {
            match event {
                Event::SessionOpened { session, inbound, .. } => {
                    self.tuples.insert(session, inbound);
                }
                Event::SessionClosed { session, why, .. } => {
                    let tuple = self.tuples.remove(&session).expect("it was opened");
                    if why == Closed::Expired {
                        self.model.ended(self.now, tuple).map_err(Failure)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<(), Failure> {
        self.now = self.now.after(time);
        self.director.expire(self.now, 1 << 20);
        self.events()?;
        if let Some(late) = self.model.overdue(self.now).next() {
            let late = format!("{} in {} is late (INV-8)", late.inbound(), late.state.name());
            return Err(Failure(late));
        }
        self.tick()
    }

    /// Rounds until there is nothing left to do. The order of what leaves means nothing.
    fn tick(&mut self) -> Result<(), Failure> {
        for _ in 0..16 {
            self.director.tick(self.now, &mut self.lane, &mut self.out);
        }
        let mut model = self.model.tick(self.now);
        let mut real = self.flush()?;
        for list in [&mut real, &mut model] {
            list.sort_by(|a, b| (a.port, &a.bytes[14..]).cmp(&(b.port, &b.bytes[14..])));
        }
        same_frames("frames of a round", &real, &model)?;
        self.events()
    }

    fn reload(&mut self, config: Config) -> Result<(), Failure> {
        let spec = config.spec();
        // What contradicts itself is refused before anybody sees it.
        let Ok(snapshot) = spec.clone().build(Some(&self.snapshot)) else { return Ok(()) };
        self.config = config;
        self.snapshot = Arc::new(snapshot);
        let generation = Generation::new(Arc::clone(&self.snapshot), ARGS);
        self.director.install(generation);
        self.model.install(spec);
        self.tick()
    }

    /// Hosts that are not silent answer what they were asked.
    fn answer(&mut self) -> Result<(), Failure> {
        while let Some((port, question)) = self.questions.pop() {
            let Some(target) = target_of(&question) else { continue };
            let asks = MacAddr(question[6..12].try_into().unwrap());
            let real = crate::config::HOSTS.iter().any(|host| target == crate::config::ip(host));
            if !real || self.silent.contains(&target) || port_of(target) != port.0 {
                continue;
            }
            let (mac, frame) = (mac_of(target), &question);
            let reply = match target {
                IpAddr::V4(v4) => {
                    let asker: [u8; 4] = frame[28..32].try_into().unwrap();
                    arp_reply(mac, v4, asks, asker.into()).build()
                }
                IpAddr::V6(v6) => {
                    let asker: [u8; 16] = frame[22..38].try_into().unwrap();
                    ndp_advert(mac, v6, asks, asker.into(), 3).build()
                }
            };
            self.receive(port, &MemBuf::from_bytes(&reply))?;
        }
        Ok(())
    }

    /// Everything that can be asked.
    fn compare(&mut self) -> Result<(), Failure> {
        self.compare_counters()?;
        let mut real = Vec::new();
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            cursor = self.director.store().scan(at, 64, |session| real.push(*session));
        }
        let mut real: Vec<_> = real.iter().map(|session| self.describe(session)).collect();
        let mut model: Vec<_> =
            self.model.sessions().iter().map(|s| self.describe_model(s)).collect();
        real.sort();
        model.sort();
        same("sessions", real, model)?;
        for server in self.snapshot.servers() {
            let count = self.director.generation().server_count(server.id).copied().unwrap();
            let model = self.model.server(server.id);
            let what = format!("server {}", server.addr);
            same(&what, (count.active, count.inactive), (model.active, model.inactive))?;
            same(&what, count.carried, model.carried)?;
            let all = self.director.shared().servers.get(server.id).unwrap();
            let all = (all.active, all.inactive, all.overloaded);
            same(&what, all, (model.active, model.inactive, model.overloaded))?;
        }
        self.compare_shared()?;
        let hops = self.director.hops();
        let mut hops: Vec<_> = hops
            .map(|hop| {
                let known = matches!(hop.state, HopState::Known | HopState::Static);
                ((hop.hop.port, hop.hop.via), known.then_some(hop.mac))
            })
            .collect();
        let mut model: Vec<_> =
            self.model.hops().map(|(hop, mac)| ((hop.port, hop.via), mac)).collect();
        hops.sort();
        model.sort();
        same("next hops", hops, model)
    }

    /// What workers share, if there are others.
    fn compare_shared(&self) -> Result<(), Failure> {
        let (now, shared) = (self.now.tick(), self.director.shared());
        for service in self.snapshot.services() {
            let half_open = self.model.sessions().iter().filter(|session| {
                let waits = matches!(session.state, TcpState::SynRecv | TcpState::SynSent);
                waits && session.service == service.id
            });
            let half_open = half_open.count() as u64;
            same("half-open sessions", shared.half_open.get(service.id), half_open)?;
        }
        let mut real = Vec::new();
        let end = shared.templates.scan(0, u32::MAX, now, |t| {
            let (scope, client) = (t.key.scope(), t.key.client());
            real.push((scope, client, t.server.0, t.sessions, t.left));
        });
        same("the end of the templates", end, None)?;
        let model = self.model.templates(now);
        let mut model: Vec<_> =
            model.map(|t| (t.scope, t.client, t.server.0, t.sessions, t.left(now))).collect();
        real.sort();
        model.sort();
        same("templates", real, model)
    }

    fn compare_counters(&self) -> Result<(), Failure> {
        let (counters, model) = (self.director.counters(), self.model.counters());
        let of = |name: &str| model.get(name).copied().unwrap_or(0);
        for (name, value) in counters.named() {
            same(&format!("counter {name}"), value, of(name))?;
        }
        for reason in DropReason::ALL {
            same(&format!("drops {reason}"), counters.dropped(*reason), of(reason.id()))?;
        }
        let received = (counters.received.packets, counters.received.bytes);
        same("received", received, (of("received"), self.model.received_bytes()))
    }

    fn describe(&self, session: &Session) -> String {
        let hop = |id| {
            let hop = self.director.hops().find(|hop| hop.id == id);
            hop.map(|hop| hop.hop)
        };
        describe(
            session.quad.inbound(),
            session.quad.reply(),
            format!(
                "{:?} plain {} answered {} {} delta {} port {} {:?} {:?} {:?} {:?} {:?} {:?}",
                session.state,
                session.plain,
                session.answered,
                session.server,
                session.translation.seq_delta,
                session.has_local_port,
                session.opened,
                session.last_seen,
                session.inbound,
                session.outbound,
                hop(session.hop_in),
                hop(session.hop_out),
            ),
        )
    }

    fn describe_model(&self, session: &lvs_testkit::model::Session) -> String {
        let [hop_in, hop_out] = self.model.ways(session);
        describe(
            session.quad.inbound(),
            session.quad.reply(),
            format!(
                "{:?} plain {} answered {} {} delta {} port {} {:?} {:?} {:?} {:?} {:?} {:?}",
                session.state,
                session.plain,
                session.answered,
                session.server,
                session.seq_delta,
                session.has_local_port,
                session.opened.tick(),
                session.last_seen.tick(),
                session.carried.inbound,
                session.carried.outbound,
                Some(hop_in),
                Some(hop_out),
            ),
        )
    }
}

fn describe(inbound: Option<WireTuple>, reply: Option<WireTuple>, rest: String) -> String {
    let text = |tuple: Option<WireTuple>| tuple.map(|tuple| tuple.to_string()).unwrap_or_default();
    format!("{} / {} {rest}", text(inbound), text(reply))
}

/// Whether a frame asks for a neighbour.
fn is_question(frame: &[u8]) -> bool {
    target_of(frame).is_some()
}

/// Who is asked for.
fn target_of(frame: &[u8]) -> Option<IpAddr> {
    match frame.get(12..14)? {
        [0x08, 0x06] if frame[21] == 1 => {
            let target: [u8; 4] = frame.get(38..42)?.try_into().ok()?;
            Some(target.into())
        }
        [0x86, 0xdd] if frame[20] == 58 && frame.get(54) == Some(&135) => {
            let target: [u8; 16] = frame.get(62..78)?.try_into().ok()?;
            Some(target.into())
        }
        _ => None,
    }
}
