//! The session store alone: lookups beside other tables, chosen keys, misses, sweeping, memory.

use super::{Effort, Report, lookups, size_name};
use crate::cpu::thread_ns;
use crate::rounds::{Figures, alternate};
use crate::table::Row;
use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr};
use lvs_core::flow::{L4Proto, TupleV4, WireTuple};
use lvs_core::id::{HopId, LocalId, ServerId, SessionId, TimeoutClass};
use lvs_core::io::BURST;
use lvs_core::plan::Whole;
use lvs_core::session::{
    LocalSource, Open, Place, Probe, Quad, Segment, SessionStore, StoreConfig, TableConfig,
    TcpState, Translation,
};
use lvs_core::siphash::SipHash13;
use lvs_core::time::Tick;
use lvs_os::memory::Region;
use lvs_testkit::traffic::{Ends, Network, Rng, chosen_v4};

pub(super) const SECRET: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
/// Lookups of one figure.
pub(super) const LOOKUPS: usize = 64 * BURST;
pub(super) const NOW: Tick = Tick(1 << 20);

/// Size of a store for FullNAT v4: exactly as many slots as sessions, as near as ports divide.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    addresses: u16,
    ports: u16,
}

impl Size {
    /// For at least this many.
    #[must_use]
    pub fn for_sessions(sessions: usize) -> Self {
        let addresses = sessions.div_ceil(64_511);
        Self { addresses: addresses as u16, ports: sessions.div_ceil(addresses) as u16 }
    }

    const fn slots(self) -> usize {
        self.addresses as usize * self.ports as usize
    }

    fn config(self) -> StoreConfig {
        let v4 = TableConfig { local_addresses: self.addresses, general: 0 };
        StoreConfig { v4, v6: TableConfig::default(), key: SECRET, seed: 7 }
    }

    fn plan(self) -> Whole {
        Whole::new(1025, 1024 + self.ports).expect("a range of ports")
    }

    /// Memory of that size.
    ///
    /// # Errors
    /// The kernel's.
    pub fn memory(self) -> Result<Region, String> {
        let bytes = SessionStore::memory_for(&self.config(), &self.plan());
        Region::anonymous(bytes.ok_or("too large")?).map_err(|error| error.to_string())
    }
}

pub(super) fn tuple(ends: &Ends<u32>) -> TupleV4 {
    TupleV4 {
        src: ends.src.0,
        dst: ends.dst.0,
        sport: ends.src.1,
        dport: ends.dst.1,
        proto: L4Proto::Tcp,
    }
}

/// A store and where its clients are.
pub struct Filled<'m> {
    /// The store.
    pub store: SessionStore<'m>,
    pub(super) net: Network<u32>,
    sources: Vec<LocalSource>,
}

impl<'m> Filled<'m> {
    /// An empty one.
    ///
    /// # Errors
    /// The store's.
    pub fn new(size: Size, memory: &'m mut Region) -> Result<Self, String> {
        let store = SessionStore::new(size.config(), size.plan(), memory.as_mut_slice());
        let store = store.map_err(|error| error.to_string())?;
        let source = |n: u16| LocalSource {
            id: LocalId(n),
            ip: Ipv4Addr::from_bits(0x0a01_0101 + u32::from(n)).into(),
        };
        let sources = (0..size.addresses).map(source).collect();
        Ok(Self { store, net: Network::<u32>::example(), sources })
    }

    /// Opens a plain established session for a client, which the server has answered.
    ///
    /// # Errors
    /// The store's.
    pub fn open(&mut self, client: u64) -> Result<SessionId, String> {
        let sources = self.sources.as_slice();
        let ip = |bits: u32| IpAddr::V4(Ipv4Addr::from_bits(bits));
        let (client, virt) = (self.net.client(client), self.net.service);
        let open = Open {
            quad: Quad {
                proto: L4Proto::Tcp,
                client: (ip(client.0), client.1),
                virt: (ip(virt.0), virt.1),
                local: (ip(0), 0),
                server: (ip(0x0a01_000b), 8080),
            },
            place: Place::Local { addresses: sources, first: client.0 as usize % sources.len() },
            state: TcpState::Established,
            plain: true,
            server: ServerId(0),
            hop_in: HopId(0),
            hop_out: HopId(0),
            class: TimeoutClass(0),
        };
        let opened = self.store.open(NOW, &open, |_| Translation::default());
        let opened = opened.map_err(|error| error.to_string())?;
        let local = sources.iter().find(|source| source.ip == opened.quad.local.0);
        let reply = opened.quad.reply().ok_or("families differ")?;
        let candidate = self.store.lookup_one(&Probe { tuple: reply, local: local.map(|s| s.id) });
        let segment = Segment { tcp_flags: Some(0x10), bytes: 46 };
        candidate
            .and_then(|candidate| self.store.packet(candidate, &reply, NOW, segment))
            .map(|_| opened.id)
            .ok_or_else(|| "the answer found no session".into())
    }

    /// Opens sessions for all these clients.
    ///
    /// # Errors
    /// The store's.
    pub fn fill(&mut self, mut clients: impl Iterator<Item = u64>) -> Result<(), String> {
        clients.try_for_each(|client| self.open(client).map(drop))
    }

    /// What a packet of a client is looked up by.
    #[must_use]
    pub fn probe(&self, client: u64) -> Probe {
        let ends = Ends { src: self.net.client(client), dst: self.net.service };
        Probe { tuple: WireTuple::V4(tuple(&ends)), local: None }
    }

    /// Looks clients up in bursts and, with `touch`, takes a packet into each session found.
    fn lookups(&mut self, clients: &[u64], touch: bool) -> (f64, usize) {
        let probes: Vec<Probe> = clients.iter().map(|client| self.probe(*client)).collect();
        let segment = Segment { tcp_flags: Some(0x10), bytes: 46 };
        let (mut hits, start) = (0, thread_ns());
        for burst in probes.chunks(BURST) {
            let mut found = [None; BURST];
            self.store.lookup(burst, &mut found);
            for (probe, found) in burst.iter().zip(found) {
                let Some(candidate) = found else { continue };
                hits += 1;
                if touch {
                    black_box(self.store.packet(candidate, &probe.tuple, NOW, segment).is_some());
                }
            }
        }
        ((thread_ns() - start) as f64 / clients.len() as f64, hits)
    }
}

/// Clients drawn at random.
pub(super) fn draw(rng: &mut Rng, among: usize) -> Vec<u64> {
    (0..LOOKUPS).map(|_| rng.below(among) as u64).collect()
}

/// Measures everything of this file.
///
/// # Errors
/// A lookup that went wrong.
pub fn run(effort: Effort, report: &mut Report) -> Result<(), String> {
    lookups::run(1 << 20, effort, report)?;
    under_attack(effort, report)?;
    sweep(if effort.full { 10_000_000 } else { 1_000_000 }, report)?;
    memory(report);
    Ok(())
}

/// Sessions of chosen clients beside random ones, and misses in a full table beside those in one that is
/// half full.
fn under_attack(effort: Effort, report: &mut Report) -> Result<(), String> {
    const SESSIONS: usize = 1 << 16;
    let size = Size::for_sessions(2 * SESSIONS);
    let net = Network::<u32>::example();
    let believed = SipHash13::new(&[0, 0]);
    let chosen = chosen_v4(&net, 1 << 32, SESSIONS, 64, |words| believed.words(words));
    let mut memory = [size.memory()?, size.memory()?, size.memory()?];
    let [m0, m1, m2] = &mut memory;
    let mut plain = Filled::new(size, m0)?;
    plain.fill(0..SESSIONS as u64)?;
    let mut attacked = Filled::new(size, m1)?;
    attacked.fill(chosen.iter().copied())?;
    let mut full = Filled::new(size, m2)?;
    full.fill(0..size.slots() as u64)?;
    let (mut rng, mut wrong) = (Rng::new(22), 0);
    let figures: Vec<Figures> = alternate(4, effort.rounds, |mode| {
        let random = draw(&mut rng, SESSIONS);
        let absent = || random.iter().map(|n| n + (1 << 31)).collect::<Vec<u64>>();
        let (ns, hits, expected) = match mode {
            0 => {
                let (ns, hits) = plain.lookups(&random, true);
                (ns, hits, LOOKUPS)
            }
            1 => {
                let these: Vec<u64> = random.iter().map(|n| chosen[*n as usize]).collect();
                let (ns, hits) = attacked.lookups(&these, true);
                (ns, hits, LOOKUPS)
            }
            2 => {
                let (ns, hits) = plain.lookups(&absent(), false);
                (ns, hits, 0)
            }
            _ => {
                let (ns, hits) = full.lookups(&absent(), false);
                (ns, hits, 0)
            }
        };
        wrong += hits.abs_diff(expected);
        ns
    });
    if wrong > 0 {
        return Err(format!("{wrong} lookups under attack went wrong"));
    }
    let ratio = |a: usize, b: usize| figures[a].median() / figures[b].median();
    report.add(Row::ns("lookup64/random-keys/64k", &figures[0]));
    report.add(
        Row::ns("lookup64/chosen-keys/64k", &figures[1])
            .ratio(ratio(1, 0), "random keys")
            .at_most(1.2, 1.1),
    );
    report.add(Row::ns("miss64/half-full/128k", &figures[2]));
    report.add(
        Row::ns("miss64/full/128k", &figures[3]).ratio(ratio(3, 2), "half full").at_most(2.0, 1.5),
    );
    Ok(())
}

/// One turn of the sweeper over all sessions, in steps of the size that a worker's loop takes.
fn sweep(sessions: usize, report: &mut Report) -> Result<(), String> {
    const STEP: u32 = 256;
    let size = Size::for_sessions(sessions);
    let mut memory = size.memory()?;
    let mut filled = Filled::new(size, &mut memory)?;
    filled.fill(0..sessions as u64)?;
    let (mut turns, mut longest) = (Figures::default(), 0);
    let mut now = NOW;
    for _ in 0..3 {
        // 64 ticks of 67 ms are more than a turn.
        now = Tick(now.0 + 64);
        let (mut spent, mut places) = (0, 0usize);
        loop {
            let mut budget = STEP;
            let start = thread_ns();
            let due = filled.store.next_expired(now, &mut budget);
            let took = thread_ns() - start;
            if due.is_some() {
                return Err("a session expired that was seen 5 s ago".into());
            }
            (spent, longest) = (spent + took, took.max(longest));
            places += (STEP - budget) as usize;
            if budget > 0 {
                break;
            }
        }
        if places < size.slots() {
            return Err(format!("the sweeper looked at {places} of {} slots", size.slots()));
        }
        turns.0.push(spent as f64 / 1e6);
    }
    let per = turns.median() * 1e6 / size.slots() as f64;
    let name = size_name(sessions);
    let row = Row::value(format!("sweep/{name}"), turns.median(), "ms").with_min(turns.min());
    report.add(if sessions == 10_000_000 { row.at_most(100.0, 60.0) } else { row });
    report.add(Row::value(format!("sweep-each/{name}"), per, "ns"));
    report.add(Row::value(format!("sweep-longest-step/{name}"), longest as f64 / 1e3, "us"));
    Ok(())
}

/// Bytes of a session, both directions, everything included.
fn memory(report: &mut Report) {
    let size = Size { addresses: 16, ports: 64_511 };
    let of = |general: u32, locals: u16, v6: bool| {
        let table = TableConfig { local_addresses: locals, general };
        let none = TableConfig::default();
        let (v4, v6) = if v6 { (none, table) } else { (table, none) };
        let config = StoreConfig { v4, v6, ..size.config() };
        SessionStore::memory_for(&config, &size.plan()).unwrap_or(0) as f64 / size.slots() as f64
    };
    // The cold record is one line.
    let v4 = of(0, size.addresses, false);
    report.add(Row::value("memory/fullnat-v4/hot", v4 - 64.0, "B").at_most(80.0, 80.0));
    report.add(Row::value("memory/fullnat-v4/all", v4, "B").at_most(144.0, 128.0));
    report.add(Row::value("memory/nat-v4/all", of(size.slots() as u32, 0, false), "B"));
    report.add(Row::value("memory/fullnat-v6/all", of(0, size.addresses, true), "B"));
}
