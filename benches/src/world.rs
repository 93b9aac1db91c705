//! A director with n established sessions over the array lane, and packets of them.
//!
//! ```text
//!   clients ─ gateway ─ port 0 │ director │ port 1 ─ 16 servers
//!   one service                  local addresses, as many as the sessions need
//! ```
//!
//! Next hops have configured addresses: nobody asks and nobody answers while something is measured.

use crate::lane::{ArrayLane, Buf, Pool};
use core::net::IpAddr;
use lvs_core::addr::{MacAddr, Prefix, RealAddr, VirtualAddr};
use lvs_core::flow::L4Proto;
use lvs_core::id::WorkerId;
use lvs_core::io::{Burst, Lane, PacketBuf, PortId};
use lvs_core::persistence::Persistence;
use lvs_core::plan::Whole;
use lvs_core::sched::{SchedulerArgs, SchedulerDef, Weight};
use lvs_core::service::{
    ClientAddrMode, Forwarding, ServerState, ServiceFlags, ServiceKey, TimestampPolicy, ToaOptions,
};
use lvs_core::session::{SessionStore, StoreConfig, TableConfig};
use lvs_core::shared::SharedConfig;
use lvs_core::snapshot::{
    Interface, PoolSpec, Route, ServerSpec, ServiceSpec, SnapshotSpec, StaticNeighbour,
};
use lvs_core::time::Time;
use lvs_core::timeouts::Timeouts;
use lvs_core::verdict::Verdict;
use lvs_director::{Director, DirectorConfig, Generation, Outputs};
use lvs_os::clock::monotonic_ns;
use lvs_os::memory::Region;
use lvs_testkit::oracle;
use lvs_testkit::traffic::{Flow, Ip, Kind, Mix, Network, Rng, Side};
use std::sync::Arc;

/// Packets of one measured pass.
pub const PACKETS: usize = 4096;
/// Servers of the service.
pub const SERVERS: u8 = 16;
/// Where clients and servers are.
pub const PORTS: [PortId; 2] = [PortId(0), PortId(1)];
/// Places for new sessions beside the established ones.
const SPARE: usize = 3 * PACKETS;

/// Ethernet address of a server.
#[must_use]
pub const fn server_mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 2, number])
}

/// What a world consists of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Established sessions.
    pub sessions: usize,
    /// How packets reach the servers.
    pub forwarding: Forwarding,
    /// Whether servers learn the client's address by a TCP option.
    pub toa: bool,
    /// Whether clients stay with their servers.
    pub persistent: bool,
    /// Chooses servers.
    pub scheduler: &'static SchedulerDef,
    /// Whether every second server is down.
    pub half_out: bool,
}

/// Clients that can be remembered where they are: twice as many as the traffic has.
const TEMPLATES: u32 = 1 << 18;

impl Plan {
    /// FullNAT with the client's address in a TCP option.
    #[must_use]
    pub const fn full_nat(sessions: usize) -> Self {
        Self {
            sessions,
            forwarding: Forwarding::FullNat,
            toa: true,
            persistent: false,
            scheduler: &lvs_sched::rr::DEF,
            half_out: false,
        }
    }

    /// NAT.
    #[must_use]
    pub const fn nat(sessions: usize) -> Self {
        Self { forwarding: Forwarding::Nat, toa: false, ..Self::full_nat(sessions) }
    }

    /// The same, and clients stay with their servers.
    #[must_use]
    pub const fn persistent(self) -> Self {
        Self { persistent: true, ..self }
    }

    fn capacity(&self) -> usize {
        self.sessions + (self.sessions / 16).max(SPARE)
    }

    /// Local addresses, and ports of each that are used: the table is as large as the sessions need.
    fn locals(&self) -> (u16, u16) {
        let addresses = self.capacity().div_ceil(64_511);
        (addresses as u16, self.capacity().div_ceil(addresses) as u16)
    }

    fn port_plan(&self) -> Whole {
        let (_, ports) = self.locals();
        Whole::new(1025, 1024 + ports).expect("a range of ports")
    }

    fn store(&self, v6: bool) -> StoreConfig {
        let table = match self.forwarding {
            Forwarding::FullNat => TableConfig { local_addresses: self.locals().0, general: 0 },
            Forwarding::Nat | Forwarding::Dr | Forwarding::Tun | Forwarding::Local => {
                TableConfig { local_addresses: 0, general: self.capacity() as u32 }
            }
        };
        let none = TableConfig::default();
        let (v4, v6) = if v6 { (none, table) } else { (table, none) };
        let key = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        StoreConfig { v4, v6, key, seed: 7 }
    }

    /// Memory for the sessions.
    ///
    /// # Errors
    /// The kernel's.
    pub fn memory(&self, v6: bool) -> Result<Region, String> {
        let bytes = SessionStore::memory_for(&self.store(v6), &self.port_plan());
        Region::anonymous(bytes.ok_or("the sizes do not fit")?).map_err(|e| e.to_string())
    }
}

/// Addresses around the director in one family.
struct Around {
    gateway: IpAddr,
    anywhere: &'static str,
    servers: IpAddr,
    locals: IpAddr,
}

fn around(v6: bool) -> Around {
    let ip = |text: &str| text.parse().expect("an address");
    if v6 {
        let (gateway, servers, locals) = (ip("fd00::fe"), ip("fd01::11"), ip("fd01::1:1"));
        Around { gateway, anywhere: "::", servers, locals }
    } else {
        let (gateway, servers, locals) = (ip("10.0.0.254"), ip("10.1.0.11"), ip("10.1.1.1"));
        Around { gateway, anywhere: "0.0.0.0", servers, locals }
    }
}

fn nth(first: IpAddr, offset: u16) -> IpAddr {
    match first {
        IpAddr::V4(ip) => ip.to_bits().plus(offset.into()).addr(),
        IpAddr::V6(ip) => ip.to_bits().plus(offset.into()).addr(),
    }
}

fn spec<A: Ip>(plan: &Plan, net: &Network<A>) -> SnapshotSpec {
    let addr = (net.service.0.addr(), net.service.1);
    let around = around(addr.0.is_ipv6());
    let server = |number: u8| nth(around.servers, number.into());
    let neighbour = |number| StaticNeighbour { ip: server(number), mac: server_mac(number) };
    let gateway = StaticNeighbour { ip: around.gateway, mac: net.gateway };
    let full_nat = plan.forwarding == Forwarding::FullNat;
    let locals = if full_nat { plan.locals().0 } else { 0 };
    let anywhere = around.anywhere.parse().expect("an address");
    SnapshotSpec {
        interfaces: [
            Interface::new(0, &["10.0.0.1/24", "fd00::1/64"]),
            Interface::new(1, &["10.1.0.1/16", "fd01::1/64"]),
        ]
        .into_iter()
        .flatten()
        .collect(),
        routes: Prefix::new(anywhere, 0)
            .map(|to| Route { to, via: around.gateway })
            .into_iter()
            .collect(),
        neighbours: (0..SERVERS).map(neighbour).chain([gateway]).collect(),
        pools: vec![PoolSpec { addresses: (0..locals).map(|n| nth(around.locals, n)).collect() }],
        marks: Vec::new(),
        services: vec![ServiceSpec {
            key: ServiceKey::new(L4Proto::Tcp, VirtualAddr(addr.into())),
            forwarding: plan.forwarding,
            scheduler: plan.scheduler,
            pool: full_nat.then_some(0),
            client_addr: if plan.toa {
                ClientAddrMode::Toa(ToaOptions::default())
            } else {
                ClientAddrMode::None
            },
            timestamps: TimestampPolicy::Strip,
            timeouts: Timeouts::LVS,
            persistence: plan.persistent.then(Persistence::default),
            flags: ServiceFlags::default(),
            servers: (0..SERVERS)
                .map(|n| ServerSpec {
                    state: if plan.half_out && n % 2 == 1 {
                        ServerState::DownKeep
                    } else {
                        ServerState::Active
                    },
                    ..ServerSpec::new(RealAddr::new(server(n), 8080), Weight(1))
                })
                .collect(),
        }],
    }
}

/// The configuration of a world.
///
/// # Errors
/// The configuration contradicts itself.
pub fn generation<A: Ip>(plan: &Plan, net: &Network<A>) -> Result<Generation, String> {
    let snapshot = spec(plan, net).build(None).map_err(|error| error.to_string())?;
    let args = SchedulerArgs { worker: WorkerId(0), workers: 1 };
    Ok(Generation::new(Arc::new(snapshot), args))
}

/// Which packets a pass consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bursts of the two ports in turn.
    Both,
    /// From clients only.
    Inbound,
    /// From servers only.
    Reply,
}

/// Packets that wait to be forwarded: always [`PACKETS`], in the order of their buffers.
pub struct Packets {
    /// The packets.
    pub bufs: Vec<Buf>,
}

impl Packets {
    /// Fresh buffers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> Result<Self, String> {
        let mut pool = Pool::new(PACKETS)?;
        let bufs: Option<Vec<Buf>> = (0..PACKETS).map(|_| pool.take(60)).collect();
        Ok(Self { bufs: bufs.ok_or("too few buffers")? })
    }

    /// Whether the packet at a place of the order comes from a server.
    #[must_use]
    pub const fn is_reply(at: usize, direction: Direction) -> bool {
        match direction {
            Direction::Both => at / lvs_core::io::BURST % 2 == 1,
            Direction::Inbound => false,
            Direction::Reply => true,
        }
    }

    /// Writes packets of sessions drawn at random.
    pub fn fill<A: Ip>(
        &mut self,
        net: &Network<A>,
        flows: &[Flow<A>],
        (direction, mix): (Direction, Mix),
        rng: &mut Rng,
    ) {
        for (at, buf) in self.bufs.iter_mut().enumerate() {
            let flow = &flows[rng.below(flows.len())];
            let kind = if Self::is_reply(at, direction) { Kind::Reply } else { Kind::Inbound };
            let len = mix.draw(rng).max(14 + A::HEADER + 20 + 6);
            buf.reset(len);
            // A buffer has room for every frame, and a frame that was not written would not pass.
            let _ = flow.write(net, kind, len, buf.data_mut());
        }
    }

    /// All checksums are right, by a parser that nobody here wrote.
    ///
    /// # Errors
    /// What is wrong with the first bad one.
    pub fn check(&self) -> Result<(), String> {
        self.bufs.iter().try_for_each(|buf| oracle::checksums_ok(buf.data()))
    }
}

/// A director with its lane and its sessions.
pub struct World<'m, A> {
    /// The director.
    pub director: Director<'m>,
    /// Its ports.
    pub lane: ArrayLane,
    /// What it sends.
    pub out: Outputs<Buf>,
    /// Around it.
    pub net: Network<A>,
    /// Its sessions.
    pub flows: Vec<Flow<A>>,
    /// Time, which passes only while something is measured.
    pub now: Time,
    /// Whether time stands still even then: for counting instructions.
    pub frozen: bool,
}

impl<'m, A: Ip> World<'m, A> {
    /// With all sessions established.
    ///
    /// # Errors
    /// Anything that went another way.
    pub fn new(plan: &Plan, net: Network<A>, memory: &'m mut Region) -> Result<Self, String> {
        let config = plan.store(A::HEADER == 40);
        let store = SessionStore::new(config, plan.port_plan(), memory.as_mut_slice());
        let generation = generation(plan, &net)?;
        let templates = if plan.persistent { TEMPLATES } else { 0 };
        let secrets = DirectorConfig {
            isn_key: [1, 2],
            shared: SharedConfig { templates, ..SharedConfig::default() },
            ..DirectorConfig::default()
        };
        let store = store.map_err(|error| error.to_string())?;
        let mut world = Self {
            director: Director::new(secrets, store, generation),
            lane: ArrayLane::new(&net.own, 2 * PACKETS)?,
            out: Outputs::new(2),
            net,
            flows: Vec::with_capacity(plan.sessions),
            now: Time(1 << 40),
            frozen: false,
        };
        for number in 0..plan.sessions {
            let flow = world.establish(number as u64)?;
            world.flows.push(flow);
        }
        Ok(world)
    }

    fn establish(&mut self, number: u64) -> Result<Flow<A>, String> {
        let Self { director, lane, out, net, now, .. } = self;
        // Every frame of some sessions is judged by others; all of them would take minutes.
        let judged = number < 64 || number.is_multiple_of(4099);
        net.establish(number, &mut |side, frame, sent| {
            let (from, to) = match side {
                Side::Clients => (PORTS[0], PORTS[1]),
                Side::Servers => (PORTS[1], PORTS[0]),
            };
            let mut buf = lane.alloc(frame.len()).ok_or("no buffer left")?;
            buf.data_mut().copy_from_slice(frame);
            let report = director.process_one(*now, lane, from, buf, out);
            if report.verdict != Verdict::Forward(to) {
                return Err(format!("session {number}: {:?}", report.verdict));
            }
            let buf = out.port(to).and_then(Burst::pop).ok_or("nothing was queued")?;
            sent.clear();
            sent.extend_from_slice(buf.data());
            if judged { oracle::checksums_ok(sent) } else { Ok(()) }
        })
    }

    /// Lets the packets arrive, each on the port that its Ethernet destination says.
    pub fn load(&mut self, packets: &mut Packets) {
        for buf in packets.bufs.drain(..) {
            let arm = usize::from(buf.data().get(5) == self.net.own[1].0.get(5));
            self.lane.rx[arm].push_back(buf);
        }
    }

    /// The measured part: the loop of a worker until nothing waits.
    #[inline(never)]
    pub fn run(&mut self, one_at_a_time: bool) {
        let mut burst = Burst::new();
        let start = monotonic_ns();
        loop {
            let passed = if self.frozen { 0 } else { monotonic_ns() - start };
            let now = Time(self.now.0 + passed);
            let mut received = 0;
            for port in PORTS {
                received += self.lane.rx_burst(port, &mut burst).unwrap_or(0);
                if one_at_a_time {
                    burst.drain_with(|packet| {
                        let (lane, out) = (&mut self.lane, &mut self.out);
                        self.director.process_one(now, lane, port, packet, out);
                    });
                } else {
                    self.director.process(now, &mut self.lane, port, &mut burst, &mut self.out);
                }
            }
            self.director.expire(now, 256);
            self.director.tick(now, &mut self.lane, &mut self.out);
            self.out.flush(&mut self.lane);
            if received == 0 {
                self.now = now;
                return;
            }
        }
    }

    /// Lets the sweeper come round, so that it owes nothing for the time before.
    pub fn settle(&mut self) {
        for _ in 0..self.director.store().len() / 64 + 1024 {
            self.director.expire(self.now, 256);
        }
    }

    /// The same packets through the lane alone.
    #[inline(never)]
    pub fn run_lane_only(&mut self) {
        let mut burst = Burst::new();
        loop {
            let mut received = 0;
            for port in PORTS {
                received += self.lane.rx_burst(port, &mut burst).unwrap_or(0);
                let _: Result<usize, _> = self.lane.tx_burst(port, &mut burst);
            }
            if received == 0 {
                return;
            }
        }
    }

    /// Takes back what was sent.
    ///
    /// # Errors
    /// Something was not sent.
    pub fn unload(&mut self, packets: &mut Packets) -> Result<(), String> {
        for queue in &mut self.lane.tx {
            packets.bufs.append(queue);
        }
        packets.bufs.sort_by_key(|buf| buf.data().as_ptr().addr());
        if packets.bufs.len() != PACKETS {
            let dropped = self.director.counters().dropped_total();
            return Err(format!("{} of {PACKETS} came out, {dropped} dropped", packets.bufs.len()));
        }
        Ok(())
    }
}
