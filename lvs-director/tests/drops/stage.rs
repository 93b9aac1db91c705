//! A director whose every size can be chosen, with configured neighbours.

use crate::support::{ARGS, spec};
use core::net::IpAddr;
use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::io::PortId;
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::plan::Whole;
use lvs_core::service::Forwarding;
use lvs_core::session::{Cursor, HeapMemory, Session, SessionStore, StoreConfig, TableConfig};
use lvs_core::snapshot::{Snapshot, SnapshotSpec, StaticNeighbour};
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_director::{
    Director, DirectorConfig, ErrorRate, FragmentConfig, Generation, Outputs, Report,
};
use lvs_testkit::build::{ROUTER_MAC, Tcp, tcp};
use std::sync::Arc;

pub(crate) const CLIENTS: PortId = PortId(0);
pub(crate) const SERVERS: PortId = PortId(1);
pub(crate) const CLIENT: &str = "10.0.0.2:40000";
pub(crate) const SERVICE: &str = "10.0.0.80:80";

pub(crate) fn mac_of(ip: IpAddr) -> MacAddr {
    match ip {
        IpAddr::V4(v4) => MacAddr([2, 4, 4, 4, 4, v4.octets()[3]]),
        IpAddr::V6(v6) => MacAddr([2, 6, 6, 6, 6, v6.octets()[15]]),
    }
}

/// What a stage is built from.
pub(crate) struct Plan {
    pub(crate) spec: SnapshotSpec,
    pub(crate) port: MemPort,
    /// Local ports of each local address.
    pub(crate) ports: u16,
    /// Sessions without one.
    pub(crate) general: u32,
    pub(crate) waiting: u16,
    pub(crate) hops: u16,
    /// Packets of the director's own.
    pub(crate) pool: usize,
    /// ICMP errors that it makes; none, where a dropped packet is to leave no trace.
    pub(crate) errors: ErrorRate,
    pub(crate) fragments: FragmentConfig,
}

impl Plan {
    /// The usual services, and every neighbour's address configured.
    pub(crate) fn new(forwarding: Forwarding) -> Self {
        let all =
            ["10.0.0.2", "10.0.0.3", "10.1.0.11", "10.1.0.12", "fd00::2", "fd01::11", "fd01::12"];
        let known = |ip: &str| {
            let ip: IpAddr = ip.parse().unwrap();
            StaticNeighbour { ip, mac: mac_of(ip) }
        };
        let mut spec = spec(forwarding);
        spec.neighbours = all.into_iter().map(known).collect();
        let port = MemPort::new(ROUTER_MAC);
        Self {
            spec,
            port,
            ports: 8,
            general: 8,
            waiting: 8,
            hops: 64,
            pool: 64,
            errors: ErrorRate::NONE,
            fragments: FragmentConfig::default(),
        }
    }

    /// Nobody's address is configured.
    pub(crate) fn without_neighbours(mut self) -> Self {
        self.spec.neighbours.clear();
        self
    }

    pub(crate) fn stage(self) -> Stage {
        let config = StoreConfig {
            v4: TableConfig { local_addresses: 2, general: self.general },
            v6: TableConfig { local_addresses: 1, general: self.general },
            key: [1, 2],
            seed: 3,
        };
        let plan = Whole::new(2000, 1999 + self.ports).unwrap();
        let bytes = SessionStore::memory_for(&config, &plan).unwrap();
        // A test ends before its memory does.
        let memory = Box::leak(Box::new(HeapMemory::new(bytes)));
        let store = SessionStore::new(config, plan, memory.bytes()).unwrap();
        let snapshot = Arc::new(self.spec.clone().build(None).unwrap());
        let sizes = DirectorConfig {
            hops: self.hops,
            waiting: self.waiting,
            isn_key: [5, 6],
            errors: self.errors,
            fragments: self.fragments,
            ..DirectorConfig::default()
        };
        let generation = Generation::new(Arc::clone(&snapshot), ARGS);
        Stage {
            director: Director::new(sizes, store, generation),
            lane: MemLane::with_pool([self.port.clone(), self.port], self.pool),
            out: Outputs::new(2),
            now: Time(1 << 40),
            spec: self.spec,
            snapshot,
            flush: true,
        }
    }
}

pub(crate) struct Stage {
    pub(crate) director: Director<'static>,
    pub(crate) lane: MemLane,
    out: Outputs<MemBuf>,
    now: Time,
    pub(crate) spec: SnapshotSpec,
    snapshot: Arc<Snapshot>,
    /// What leaves is handed to the device at once.
    pub(crate) flush: bool,
}

impl Stage {
    /// A packet arrives. What became of it, and what left.
    pub(crate) fn feed(&mut self, port: PortId, packet: MemBuf) -> (Report, Vec<(PortId, MemBuf)>) {
        let (director, lane) = (&mut self.director, &mut self.lane);
        let report = director.process_one(self.now, lane, port, packet, &mut self.out);
        (report, self.sent())
    }

    fn sent(&mut self) -> Vec<(PortId, MemBuf)> {
        if self.flush {
            self.out.flush(&mut self.lane);
        }
        let mut all = Vec::new();
        for port in [CLIENTS, SERVERS] {
            while let Some(packet) = self.lane.take_sent(port) {
                all.push((port, packet));
            }
        }
        all
    }

    /// Feeds a packet that is to pass, and returns the only one that leaves.
    pub(crate) fn pass(&mut self, port: PortId, packet: MemBuf) -> MemBuf {
        let (report, mut sent) = self.feed(port, packet);
        assert!(matches!(report.verdict, Verdict::Forward(_)), "{report:?}");
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.pop().unwrap().1
    }

    /// Feeds a packet that is to be dropped without a trace: no frame, no session opened or changed
    /// (INV-11), one count more (INV-2).
    pub(crate) fn refused(&mut self, reason: DropReason, port: PortId, packet: MemBuf) {
        let (sessions, before) = (self.sessions(), self.director.counters().dropped(reason));
        let total = self.director.counters().dropped_total();
        let (report, sent) = self.feed(port, packet);
        assert_eq!(report.verdict, Verdict::Drop(reason));
        assert!(sent.is_empty(), "{sent:?}");
        assert_eq!(self.director.counters().dropped(reason), before + 1);
        assert_eq!(self.director.counters().dropped_total(), total + 1, "for one reason only");
        assert_eq!(self.sessions(), sessions, "a dropped packet left a trace");
    }

    /// The same for packets that had been taken into their session before it showed that they could not
    /// leave: the exceptions of INV-11.
    pub(crate) fn lost(&mut self, reason: DropReason, port: PortId, packet: MemBuf) {
        let before = self.director.counters().dropped(reason);
        let (report, sent) = self.feed(port, packet);
        assert_eq!((report.verdict, sent.len()), (Verdict::Drop(reason), 0));
        assert_eq!(self.director.counters().dropped(reason), before + 1);
    }

    /// Time passes without a round.
    pub(crate) fn sleep(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Time passes, with a round at its end. What left.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<(PortId, MemBuf)> {
        self.sleep(time);
        self.director.expire(self.now, 100_000);
        for _ in 0..8 {
            self.director.tick(self.now, &mut self.lane, &mut self.out);
        }
        self.sent()
    }

    /// Installs what `change` makes of the configuration. What left during the rounds behind it.
    pub(crate) fn reload(&mut self, change: impl Fn(&mut SnapshotSpec)) -> Vec<(PortId, MemBuf)> {
        change(&mut self.spec);
        let next = self.spec.clone().build(Some(&self.snapshot)).unwrap();
        self.snapshot = Arc::new(next);
        self.director.install(Generation::new(Arc::clone(&self.snapshot), ARGS));
        self.wait(Duration::ZERO)
    }

    pub(crate) fn sessions(&self) -> Vec<Session> {
        let mut all = Vec::new();
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            cursor = self.director.store().scan(at, 100, |session| all.push(*session));
        }
        all
    }

    /// The only session.
    pub(crate) fn session(&self) -> Session {
        let all = self.sessions();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }

    /// A segment of the only session's server.
    pub(crate) fn reply(&self) -> lvs_testkit::build::Packet<Tcp> {
        let quad = self.session().quad;
        tcp().from(quad.server).to(quad.local)
    }
}

/// A segment of the client.
pub(crate) fn from_client() -> lvs_testkit::build::Packet<Tcp> {
    tcp().from(CLIENT).to(SERVICE)
}
