//! The network of the demo: hosts around the director, transfers through it, and what came of them.

use super::{Args, Mode};
use crate::assemble::{self, AssembleError};
use crate::config;
use core::cell::RefCell;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::counters::Counters;
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::time::Time;
use lvs_director::{Director, Outputs};
use lvs_testkit::net::{AppId, BulkClient, BulkServer, DeviceId, Host, HostId, Net, Served, Wire};

/// Last number in the addresses of the client hosts.
pub(super) const CLIENTS: [u8; 3] = [21, 22, 23];
/// Last number in the addresses of the servers.
pub(super) const SERVERS: [u8; 3] = [11, 12, 13];
/// The virtual services, one of each family.
pub(super) const VIRTUAL: [&str; 2] = ["10.0.0.80:80", "[fd00::80]:80"];
/// Where the servers listen.
pub(super) const SERVER_PORT: u16 = 8080;
/// Virtual time that the transfers may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Virtual time in which every session must end: the longest time-out that can apply, twice.
const ENDED_BY: Duration = Duration::from_secs(180);
/// Sessions looked at for expiry in each turn.
const EXPIRE_BUDGET: u32 = 4096;

/// The demo could not be built, which a changed configuration in the source would cause.
#[derive(Debug)]
pub(super) enum DemoError {
    Config(config::Report),
    Assemble(AssembleError),
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(report) => f.write_str(report.render(false).trim_end()),
            Self::Assemble(error) => error.fmt(f),
        }
    }
}

impl From<AssembleError> for DemoError {
    fn from(error: AssembleError) -> Self {
        Self::Assemble(error)
    }
}

/// What the server's side knows about a connection.
pub(super) struct ServerSide {
    pub(super) name: String,
    pub(super) local: SocketAddr,
    /// Who the server sees as its peer.
    pub(super) peer: SocketAddr,
    /// The client's address as it read it from the TCP options.
    pub(super) toa: Option<SocketAddr>,
    pub(super) received: u64,
    pub(super) complete: bool,
}

/// One connection, seen from both ends.
pub(super) struct Connection {
    pub(super) client_name: String,
    pub(super) client: Option<SocketAddr>,
    pub(super) to: &'static str,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) server: Option<ServerSide>,
    /// What is wrong with it, as sentences; empty when it passed.
    pub(super) faults: Vec<String>,
}

/// One point that passed or failed.
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) pass: bool,
    pub(super) what: String,
}

/// Everything that is reported.
pub(super) struct Outcome {
    pub(super) connections: Vec<Connection>,
    /// Connections served, by server.
    pub(super) balance: Vec<(String, usize)>,
    pub(super) counters: Counters,
    pub(super) checks: Vec<Check>,
    /// Virtual time of the transfers.
    pub(super) took: Duration,
    /// Why the transfers did not end.
    pub(super) stuck: Option<String>,
}

impl Outcome {
    pub(super) fn passed(&self) -> bool {
        self.connections.iter().all(|connection| connection.faults.is_empty())
            && self.checks.iter().all(|check| check.pass)
    }
}

struct World<'d> {
    net: Net<'d>,
    device: DeviceId,
    clients: Vec<(String, &'static str, AppId<BulkClient>)>,
    servers: Vec<(String, HostId, AppId<BulkServer>)>,
}

/// Runs the demo.
pub(super) fn run(args: &Args) -> Result<Outcome, DemoError> {
    let loaded = config::parse("demo.toml", args.mode.config()).map_err(DemoError::Config)?;
    let mut memory = assemble::session_memory(&loaded.config)?;
    let director = assemble::director(&loaded.config, args.seed, &mut memory)?;
    let director = RefCell::new(director);
    let ports = loaded.config.ports.iter().map(|port| {
        let mac = port.mac.as_ref().map_or(MacAddr::ZERO, |mac| mac.value);
        MemPort::new(mac)
    });
    let mut world = build(args, MemLane::new(ports), &director);
    let began = world.net.now_ns();
    // A client is done when the server has closed too, so the server has read all by then.
    let done = |net: &Net<'_>| world.clients.iter().all(|(.., app)| net.get(*app).done());
    let stuck = world.net.run_until(done, PATIENCE).err().map(|error| error.to_string());
    let took = Duration::from_nanos(world.net.now_ns() - began);
    let connections = world.connections(args.mode);
    let mut checks = vec![world.balance_check()];
    checks.extend(leftovers(&mut world, &director));
    let counters = director.borrow().counters().clone();
    checks.push(accounts(&counters));
    let balance = world.balance();
    Ok(Outcome { connections, balance, counters, checks, took, stuck })
}

fn build<'d>(args: &Args, lane: MemLane, director: &'d RefCell<Director<'_>>) -> World<'d> {
    let mut net = Net::new(args.seed);
    let wire = Wire::lossy(args.loss);
    let (outside, inside) = (net.segment(wire), net.segment(wire));
    let mut clients = Vec::new();
    for number in CLIENTS {
        let name = format!("client{}", number - 20);
        let host = Host::new(&name).timestamps();
        let host = host.addr(&format!("10.0.0.{number}/24")).addr(&format!("fd00::{number}/64"));
        let host = net.host(outside, host);
        for to in VIRTUAL {
            let app = net.app(host, BulkClient::new(to, args.bytes));
            clients.push((name.clone(), to, app));
        }
    }
    let mut servers = Vec::new();
    for number in SERVERS {
        let name = format!("server{}", number - 10);
        let host = Host::new(&name).timestamps();
        let host = host.addr(&format!("10.1.0.{number}/24")).addr(&format!("fd01::{number}/64"));
        let host = match args.mode {
            Mode::Nat => host.gateway("10.1.0.1").gateway("fd01::1"),
            Mode::Fullnat => host,
        };
        let host = net.host(inside, host);
        servers.push((name, host, net.app(host, BulkServer::new(SERVER_PORT))));
    }
    let mut out = Outputs::new(lane.port_count());
    let device = net.device(lane, move |now, lane| {
        turn(&mut director.borrow_mut(), Time(now), lane, &mut out);
    });
    net.attach(device, PortId(0), outside);
    net.attach(device, PortId(1), inside);
    World { net, device, clients, servers }
}

/// One turn of a worker's loop.
fn turn(director: &mut Director<'_>, now: Time, lane: &mut MemLane, out: &mut Outputs<MemBuf>) {
    let mut burst = Burst::new();
    for port in (0..lane.port_count()).map(PortId) {
        while lane.rx_burst(port, &mut burst).is_ok_and(|received| received > 0) {
            director.process(now, lane, port, &mut burst, out);
            out.flush(lane);
        }
    }
    director.expire(now, EXPIRE_BUDGET);
    director.tick(now, lane, out);
    out.flush(lane);
}

impl World<'_> {
    /// Every connection of every server, with the address that the options told.
    fn served(&self) -> Vec<(&str, &Served, Option<SocketAddr>)> {
        let mut all = Vec::new();
        for (name, host, app) in &self.servers {
            let told = self.net.toa_seen(*host);
            for served in self.net.get(*app).served() {
                let toa = told.get(&(served.peer, SERVER_PORT)).copied();
                all.push((name.as_str(), served, toa));
            }
        }
        all
    }

    fn connections(&self, mode: Mode) -> Vec<Connection> {
        let served = self.served();
        let one = |(name, to, app): &(String, &'static str, AppId<BulkClient>)| {
            let client = self.net.get(*app);
            let local = client.local();
            let of_this = |(_, served, toa): &&(&str, &Served, Option<SocketAddr>)| match mode {
                Mode::Fullnat => local.is_some() && *toa == local,
                Mode::Nat => Some(served.peer) == local,
            };
            let sides: Vec<ServerSide> = served.iter().filter(of_this).map(side).collect();
            let (sent, received) = client.progress();
            let mut connection = Connection {
                client_name: name.clone(),
                client: local,
                to,
                sent,
                received,
                faults: faults(mode, client, &sides),
                server: sides.into_iter().next(),
            };
            if let Some(failure) = client.failure() {
                connection.faults.push(failure.to_owned());
            }
            connection
        };
        self.clients.iter().map(one).collect()
    }

    fn balance(&self) -> Vec<(String, usize)> {
        let count = |app: AppId<BulkServer>| self.net.get(app).served().len();
        self.servers.iter().map(|(name, _, app)| (name.clone(), count(*app))).collect()
    }

    fn balance_check(&self) -> Check {
        let balance = self.balance();
        let share = self.clients.len() / self.servers.len();
        let text: Vec<_> = balance.iter().map(|(name, n)| format!("{name} {n}")).collect();
        Check {
            id: "balance",
            pass: balance.iter().all(|(_, served)| *served == share),
            what: format!("connections in turn: {}", text.join(", ")),
        }
    }
}

fn side((name, served, toa): &(&str, &Served, Option<SocketAddr>)) -> ServerSide {
    ServerSide {
        name: (*name).to_owned(),
        local: served.local,
        peer: served.peer,
        toa: *toa,
        received: served.progress().0,
        complete: served.complete(),
    }
}

/// What is wrong with a connection.
fn faults(mode: Mode, client: &BulkClient, sides: &[ServerSide]) -> Vec<String> {
    let mut faults = Vec::new();
    if !client.transferred() {
        faults.push("the client did not get all bytes through, and right ones back".to_owned());
    }
    let [side] = sides else {
        faults.push(match sides.len() {
            0 => "no server knows this client".to_owned(),
            n => format!("{n} connections at the servers claim this client"),
        });
        return faults;
    };
    if !side.complete {
        faults.push("the server did not get all bytes through, and right ones in".to_owned());
    }
    if mode == Mode::Fullnat && Some(side.peer) == client.local() {
        faults.push("the server sees the client as its peer, not a local address".to_owned());
    }
    if mode == Mode::Nat && side.toa.is_some() {
        faults.push("there is a TOA option, which nobody asked for".to_owned());
    }
    faults
}

/// Waits for the goodbyes and the time-outs: nothing may be left of the connections.
fn leftovers(world: &mut World<'_>, director: &RefCell<Director<'_>>) -> [Check; 2] {
    let began = world.net.now_ns();
    let ended = |_: &Net<'_>| director.borrow().store().is_empty();
    // How many are left says the check.
    let _ = world.net.run_until(ended, ENDED_BY);
    let waited = Duration::from_nanos(world.net.now_ns() - began);
    let director = director.borrow();
    let (sessions, ports) = (director.store().len(), director.store().ports_in_use());
    let lane = world.net.lane(world.device);
    let held: usize = (0..lane.port_count()).map(|port| lane.held(PortId(port))).sum();
    let opened = director.counters().sessions_opened;
    [
        Check {
            id: "sessions",
            pass: sessions == 0 && ports == 0 && opened > 0,
            what: format!(
                "{opened} opened; {:.1} s after the last byte {sessions} sessions and {ports} \
                 local ports are left",
                waited.as_secs_f64()
            ),
        },
        Check { id: "buffers", pass: held == 0, what: format!("{held} packets still held") },
    ]
}

/// Every received packet has exactly one verdict. One that waited for a neighbour in vain is counted
/// as a drop besides.
fn accounts(counters: &Counters) -> Check {
    let kept = counters.forwarded
        + counters.answered
        + counters.released
        + counters.learned
        + counters.waiting;
    let (received, dropped) = (counters.received.packets, counters.dropped_total());
    Check {
        id: "accounts",
        pass: (received..=received + counters.waiting - counters.resumed)
            .contains(&(kept + dropped)),
        what: format!(
            "{received} packets received: {} forwarded, {} answered, {} taken in, {dropped} dropped",
            counters.forwarded,
            counters.answered,
            counters.released + counters.learned + counters.waiting
        ),
    }
}
