//! A director written a second time, as naively as possible: what the real one must agree with.
//!
//! No hashing, no packet edits in place, no checksum differences, no bounds on work. Frames are taken
//! apart, changed, put together and summed from scratch; sessions, next hops and configuration are
//! lists that are searched from front to back; the TCP states are rules. What it shares with the code
//! under test is vocabulary (addresses, specifications, verdicts) and the formula of initial sequence
//! numbers.
//!
//! The model is exact about time; a real session store may end a session a little late. So the model
//! ends none by itself: whoever compares tells it which have ended ([`Model::ended`], which refuses an
//! early end) and asks which should have long ago ([`Model::overdue`]).
//!
//! ```
//! use lvs_core::addr::MacAddr;
//! use lvs_core::io::PortId;
//! use lvs_core::snapshot::{Interface, SnapshotSpec};
//! use lvs_core::time::Time;
//! use lvs_core::verdict::Verdict;
//! use lvs_testkit::build::{ROUTER_MAC, echo};
//! use lvs_testkit::model::{Model, Setup};
//!
//! let spec = SnapshotSpec {
//!     interfaces: vec![Interface::new(0, &["10.0.0.1/24"]).unwrap()],
//!     ..SnapshotSpec::default()
//! };
//! let mut model = Model::new(Setup::with_ports([ROUTER_MAC]), spec);
//! let ping = echo(1, 1).from("10.0.0.2").to("10.0.0.1").build_buf();
//! let outcome = model.receive(Time(0), PortId(0), &(&ping).into());
//! assert_eq!(outcome.verdict, Verdict::Answer(PortId(0)));
//! assert_eq!(outcome.sent[0].bytes[34], 0, "an echo reply");
//! ```
//!
//! # Limits
//! Schedulers are rr and wrr of the only worker, servers are in use or not configured, and no service is one of
//! SCTP. Transmit queues, buffers, the session directory, persistence and the next hop table have no end. Port
//! plans are [`Whole`](lvs_core::plan::Whole).

mod flow;
mod frame;
mod hops;
mod limits;
mod options;
mod pieces;
mod sessions;
mod talk;
mod tcp;
mod templates;
mod turns;
mod types;
mod world;

pub use sessions::{ServerTotals, Session};
pub use templates::Template;
pub use types::{Outcome, Packet, PortSetup, Sent, Setup};

use core::net::IpAddr;
use frame::{Frame, Ip};
use hops::{Hops, Way};
use lvs_core::addr::MacAddr;
use lvs_core::id::ServerId;
use lvs_core::io::{Gso, L4Csum, PortId, Vlan};
use lvs_core::snapshot::{NextHop, SnapshotSpec};
use lvs_core::time::{Tick, Time};
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use sessions::Sessions;
use std::collections::BTreeMap;
use turns::Turns;
use world::World;

/// A packet on its way.
#[derive(Clone, Debug)]
struct Passing {
    ip: Ip,
    port: PortId,
    headroom: usize,
    vlan: Option<Vlan>,
    gso: Option<Gso>,
}

/// The naive director.
#[derive(Clone, Debug)]
pub struct Model {
    world: World,
    hops: Hops,
    sessions: Sessions,
    pieces: Vec<pieces::Datagram>,
    /// When datagrams in pieces were looked through.
    looked: Tick,
    turns: BTreeMap<u16, Turns>,
    limits: BTreeMap<u16, limits::Limit>,
    /// Their places stay.
    templates: Vec<Template>,
    /// Per pool: the place of the address that the next session tries first.
    pool_turns: Vec<usize>,
    counts: BTreeMap<&'static str, u64>,
    received_bytes: u64,
    totals: BTreeMap<u16, ServerTotals>,
    rerouting: bool,
    /// What has left during the current packet or round.
    sent: Vec<Sent>,
}

impl Model {
    /// A box without sessions.
    #[must_use]
    pub fn new(setup: Setup, spec: SnapshotSpec) -> Self {
        let mut model = Self {
            sessions: Sessions::default(),
            world: World::new(setup, spec),
            hops: Hops::default(),
            pieces: Vec::new(),
            looked: Tick::default(),
            turns: BTreeMap::new(),
            limits: BTreeMap::new(),
            templates: Vec::new(),
            pool_turns: Vec::new(),
            counts: BTreeMap::new(),
            received_bytes: 0,
            totals: BTreeMap::new(),
            rerouting: false,
            sent: Vec::new(),
        };
        model.settle();
        model
    }

    /// Another configuration. Sessions go on (INV-14).
    pub fn install(&mut self, spec: SnapshotSpec) {
        self.world.install(spec);
        self.hops.forget_configured();
        self.settle();
        self.rerouting = true;
    }

    fn settle(&mut self) {
        let before = core::mem::take(&mut self.turns);
        for id in self.world.configured() {
            let service = self.world.service(*id);
            let turns = before.get(&id.0).map(|turns| turns.under(service));
            self.turns.insert(id.0, turns.unwrap_or_else(|| Turns::new(service)));
        }
        self.settle_limits();
        let used = self.world.spec().services.iter().filter_map(|service| service.pool).max();
        self.pool_turns.resize(used.map_or(0, |highest| highest + 1), 0);
        let neighbours = self.world.spec().neighbours.clone();
        for neighbour in neighbours {
            if let Some(at) = self.world.route(neighbour.ip) {
                self.hops.configure(at, neighbour.mac);
            }
        }
    }

    /// A packet arrives.
    pub fn receive(&mut self, now: Time, port: PortId, packet: &Packet) -> Outcome {
        self.count("received");
        self.received_bytes += packet.bytes.len() as u64;
        self.sent.clear();
        let mut outcome = match frame::read(&packet.bytes, packet.csum) {
            Err(reason) => Verdict::Drop(reason).into(),
            Ok(Frame::Other) => Verdict::Release.into(),
            Ok(Frame::Arp(arp)) => self.arp(now, port, &arp, packet.vlan).into(),
            Ok(Frame::Ip(ip)) => {
                let Packet { headroom, vlan, gso, .. } = *packet;
                self.ip(now, Passing { ip: *ip, port, headroom, vlan, gso })
            }
        };
        self.count_verdict(outcome.verdict);
        outcome.sent = core::mem::take(&mut self.sent);
        outcome
    }

    fn count_verdict(&mut self, verdict: Verdict) {
        self.count(match verdict {
            Verdict::Forward(_) => "forwarded",
            Verdict::Answer(_) => "answered",
            Verdict::Release => "released",
            Verdict::Absorb(Absorbed::NeighbourLearned) => "learned",
            Verdict::Absorb(Absorbed::WaitsForNeighbour) => "waiting",
            Verdict::Absorb(Absorbed::HandedOver) => "handed_over",
            Verdict::Absorb(Absorbed::WaitsForFirst) => "fragments_held",
            Verdict::Drop(reason) => reason.id(),
        });
    }

    /// Which packets are let in, and what they are.
    fn ip(&mut self, now: Time, mut packet: Passing) -> Outcome {
        let (src, dst) = (packet.ip.src, packet.ip.dst);
        if let Some((133..=137, _)) = packet.ip.icmp()
            && dst.is_ipv6()
        {
            return self.ndp(now, &packet).into();
        }
        if let Some(verdict) = self.not_for_us(&packet) {
            return verdict.into();
        }
        if is_martian(src) {
            return drop(DropReason::MartianSource);
        }
        if self.world.is(src).ours() {
            return drop(DropReason::SpoofedSource);
        }
        if packet.ip.is_source_routed() {
            return drop(DropReason::SourceRoute);
        }
        let is = self.world.is(dst);
        if packet.ip.fragment {
            let hosts = is.own.is_some() && !is.virt;
            return if hosts { Verdict::Release.into() } else { self.fragment(now, packet, is) };
        }
        if packet.ip.csum == L4Csum::Bad {
            return drop(DropReason::BadL4Checksum);
        }
        packet.ip.drop_padding();
        if packet.ip.is_error() {
            return Self::error(is);
        }
        if let Some(has_ports) = packet.ip.sctp() {
            return Self::sctp(has_ports, is).into();
        }
        self.with_ports(now, packet, is)
    }

    /// What belongs to a session, may open one, or to nobody.
    fn with_ports(&mut self, now: Time, packet: Passing, is: world::Is) -> Outcome {
        let dst = packet.ip.dst;
        if let Some((at, direction)) = self.find(&packet.ip) {
            return self.carry(now, packet, at, direction);
        }
        match packet.ip.ports() {
            Some((proto, _, port)) if is.virt => match self.world.service_at(proto, dst, port) {
                Some(service) => self.open(now, packet, service, None),
                None if is.own.is_some() => Verdict::Release.into(),
                None => drop(DropReason::NoService),
            },
            _ if is.own.is_some_and(|own| !self.world.director_owns(own)) => {
                Verdict::Release.into()
            }
            _ if is.ours() => self.echo(packet, is).into(),
            _ => drop(DropReason::NotForwarding),
        }
    }

    /// A packet of SCTP, of which there are no services here.
    fn sctp(has_ports: bool, is: world::Is) -> Verdict {
        match has_ports {
            _ if is.own.is_some() => Verdict::Release,
            false => Verdict::Drop(DropReason::MalformedSctp),
            true if is.virt => Verdict::Drop(DropReason::NoService),
            true if is.local => Verdict::Drop(DropReason::NoSessionLocal),
            true => Verdict::Drop(DropReason::NotForwarding),
        }
    }

    /// An ICMP error. This director translates none: scripts have no errors about live sessions, which tests of
    /// their own show with the packets that went in.
    fn error(is: world::Is) -> Outcome {
        match (is.own, is.ours()) {
            (Some(_), _) => Verdict::Release.into(),
            (None, true) => drop(DropReason::IcmpNoSession),
            (None, false) => drop(DropReason::NotForwarding),
        }
    }

    /// A verdict for what is not addressed to us, or to nobody alone.
    fn not_for_us(&self, packet: &Passing) -> Option<Verdict> {
        let (to, dst) = (packet.ip.dst_mac(), packet.ip.dst);
        let group = dst.is_multicast() || dst == IpAddr::from([255, 255, 255, 255]);
        if to == self.world.mac(packet.port) {
            let nobody = group || dst.is_loopback() || dst.is_unspecified();
            return nobody.then_some(Verdict::Drop(DropReason::BadDestination));
        }
        Some(match to.0[0] & 1 {
            0 => Verdict::Drop(DropReason::NotForUs),
            _ if group || self.world.is_broadcast(packet.port, dst) => Verdict::Release,
            _ => Verdict::Drop(DropReason::BadDestination),
        })
    }

    /// Sends a finished packet to a next hop, or lets it wait.
    fn emit(&mut self, now: Time, mut packet: Passing, hop: usize) -> Verdict {
        let at = self.hops.place(hop);
        let setup = self.world.setup();
        let (waiting, tx_csum) = (setup.waiting, setup.ports[at.port.index()].tx_csum);
        if at.port != packet.port {
            // Tags name VLANs of the port that the packet came from.
            packet.vlan = None;
            packet.ip.drop_tags();
        }
        if self.is_cut(&packet, at.port) {
            return self.emit_in_pieces(now, packet, hop);
        }
        if packet.ip.csum == L4Csum::Partial && !tx_csum && packet.gso.is_none() {
            packet.ip.complete();
            self.count("csum_completed");
        }
        let (way, question) = self.hops.way(hop, now);
        let (dst, verdict) = match way {
            Way::Failed => return Verdict::Drop(DropReason::NeighbourFailed),
            Way::Send(mac) => (mac, Verdict::Forward(at.port)),
            Way::Wait => (MacAddr::ZERO, Verdict::Absorb(Absorbed::WaitsForNeighbour)),
        };
        packet.ip.set_macs(dst, self.world.mac(at.port));
        let (l3, l4, payload, _) = packet.ip.offsets();
        let sent = Sent {
            port: at.port,
            bytes: packet.ip.build().expect("lengths were checked"),
            csum: packet.ip.csum,
            vlan: packet.vlan,
            gso: packet.gso,
            partial_at: (packet.ip.csum == L4Csum::Partial).then_some((l3 as u16, l4 as u16)),
            train_headers: packet.gso.map(|_| payload as u16),
        };
        if way == Way::Wait {
            let waits = self.hops.wait(hop, sent, waiting.into());
            self.ask(question);
            return if waits { verdict } else { Verdict::Drop(DropReason::NeighbourPending) };
        }
        self.ask(question);
        self.sent.push(sent);
        verdict
    }

    /// Each piece for itself, until one is dropped.
    fn emit_in_pieces(&mut self, now: Time, mut packet: Passing, hop: usize) -> Verdict {
        let at = self.hops.place(hop);
        let most = self.most(&packet, at.port);
        if packet.ip.csum == L4Csum::Partial {
            packet.ip.complete();
            self.count("csum_completed");
        }
        let whole = packet.ip.build().expect("lengths were checked");
        let mut verdict = Verdict::Forward(at.port);
        for mut bytes in crate::build::fragments(&whole, most, 0) {
            let (way, question) = self.hops.way(hop, now);
            let dst = match way {
                Way::Failed => return Verdict::Drop(DropReason::NeighbourFailed),
                Way::Send(mac) => mac,
                Way::Wait => MacAddr::ZERO,
            };
            bytes[..6].copy_from_slice(&dst.0);
            bytes[6..12].copy_from_slice(&self.world.mac(at.port).0);
            let (csum, vlan) = (packet.ip.csum, packet.vlan);
            let (partial_at, train_headers) = (None, None);
            let sent =
                Sent { port: at.port, bytes, csum, vlan, gso: None, partial_at, train_headers };
            if way == Way::Wait {
                let places = self.world.setup().waiting;
                let waits = self.hops.wait(hop, sent, places.into());
                self.ask(question);
                if !waits {
                    return Verdict::Drop(DropReason::NeighbourPending);
                }
                verdict = Verdict::Absorb(Absorbed::WaitsForNeighbour);
            } else {
                self.ask(question);
                self.sent.push(sent);
            }
        }
        self.count("packets_cut");
        verdict
    }

    /// Once per round: neighbours are asked again or given up, and sessions led onto new ways. The order
    /// of what leaves means nothing.
    pub fn tick(&mut self, now: Time) -> Vec<Sent> {
        self.sent.clear();
        let (questions, in_vain, free) = self.hops.tick(now);
        *self.counts.entry(DropReason::NeighbourFailed.id()).or_default() += in_vain as u64;
        for question in questions {
            self.ask(Some(question));
        }
        for (mac, packet) in free {
            self.resume(mac, packet);
        }
        if core::mem::take(&mut self.rerouting) {
            self.reroute();
        }
        if self.looked != now.tick() {
            self.looked = now.tick();
            self.forget_old_pieces(now, None);
        }
        core::mem::take(&mut self.sent)
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// Counters by name, and drops by the id of their reason; what is not there is zero.
    #[must_use]
    pub fn counters(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// Bytes of all frames received.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// All sessions, oldest first.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions.live
    }

    /// Where the packets of a session go: toward its server, and toward its client.
    #[must_use]
    pub fn ways(&self, session: &Session) -> [NextHop; 2] {
        [session.hop_in, session.hop_out].map(|hop| self.hops.place(hop))
    }

    /// What a server has carried, and its live sessions.
    #[must_use]
    pub fn server(&self, id: ServerId) -> ServerTotals {
        let totals = self.totals.get(&id.0).copied().unwrap_or_default();
        ServerTotals { overloaded: self.limit(id).overloaded, ..totals }
    }

    /// Next hops, and their address where it is known.
    pub fn hops(&self) -> impl Iterator<Item = (NextHop, Option<MacAddr>)> {
        self.hops.known()
    }
}

fn drop(reason: DropReason) -> Outcome {
    Verdict::Drop(reason).into()
}

/// Sources that no packet on a wire may have: RFC 1812 section 5.3.7, RFC 4291 section 2.5.
fn is_martian(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 224..=255),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_loopback() || v6.is_multicast(),
    }
}
