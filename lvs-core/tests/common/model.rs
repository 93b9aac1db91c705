//! A naive session store, and the operations that scripts are made of.

use core::net::IpAddr;
use core::time::Duration;
use lvs_core::addr::RealAddr;
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::id::{HopId, LocalId, ServerId, SessionId, TimeoutClass};
use lvs_core::plan::PortPlan;
use lvs_core::session::tcp::{self, flags};
use lvs_core::session::{
    Candidate, Cursor, Detail, LocalSource, Open, OpenError, Place, Previous, Probe, Quad, Segment,
    Session, SessionStore, StoreConfig, TcpState, Told, Translation,
};
use lvs_core::time::{Tick, Time};
use lvs_core::timeouts::{SctpPhase, Timeouts};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

const SHORT: Duration = Duration::from_secs(10);

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Request {
    v6: bool,
    proto: L4Proto,
    client: u8,
    service: u8,
    server: u8,
    class: u8,
    plain: bool,
}

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Op {
    /// A FullNAT session, trying the pool from this place on.
    OpenLocal(Request, usize),
    /// A NAT session.
    OpenGeneral(Request),
    /// FullNAT sessions until no port is left.
    Fill(bool),
    /// A packet of a live session.
    Packet(prop::sample::Index, bool, u8, u32),
    /// A packet with a candidate that was looked up some time ago.
    OldCandidate(prop::sample::Index, u8),
    /// Handshake numbers are learnt; the session becomes plain or not.
    Learn(prop::sample::Index, bool, u32),
    /// A session ends.
    Close(prop::sample::Index),
    /// An operation with the handle of a session that has ended.
    OldHandle(prop::sample::Index),
    /// Time passes in steps of a tick at most, with expiry at each.
    Wait(Duration),
    /// Time jumps, with expiry at the end only.
    Jump(Duration),
    /// Expiry with little budget.
    Glance(u32),
    /// Other time-outs: for each class one of a few sets.
    Reload(Vec<u8>),
}

fn request() -> impl Strategy<Value = Request> {
    let class = prop_oneof![8 => 0u8..4, 1 => 60u8..70, 1 => any::<u8>()];
    let proto = prop_oneof![Just(L4Proto::Tcp), Just(L4Proto::Udp), Just(L4Proto::Icmp)];
    (any::<bool>(), proto, 0u8..12, 0u8..2, 0u8..3, class, any::<bool>()).prop_map(
        |(v6, proto, client, service, server, class, plain)| Request {
            v6,
            proto,
            client,
            service,
            server,
            class,
            plain,
        },
    )
}

fn tcp_flags() -> impl Strategy<Value = u8> {
    prop_oneof![
        8 => prop::sample::select(vec![
            flags::SYN,
            flags::SYN | flags::ACK,
            flags::ACK,
            flags::ACK | flags::PSH,
            flags::FIN | flags::ACK,
            flags::RST,
        ]),
        1 => any::<u8>(),
    ]
}

/// Scripts of so many steps.
pub fn ops(len: core::ops::Range<usize>) -> impl Strategy<Value = Vec<Op>> {
    let index = any::<prop::sample::Index>;
    let millis = |range: core::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let bytes = prop_oneof![20u32..1500, Just(u32::MAX)];
    let op = prop_oneof![
        8 => (request(), 0usize..4).prop_map(|(request, first)| Op::OpenLocal(request, first)),
        4 => request().prop_map(Op::OpenGeneral),
        1 => any::<bool>().prop_map(Op::Fill),
        12 => (index(), any::<bool>(), tcp_flags(), bytes)
            .prop_map(|(at, inbound, flags, bytes)| Op::Packet(at, inbound, flags, bytes)),
        2 => (index(), tcp_flags()).prop_map(|(at, flags)| Op::OldCandidate(at, flags)),
        2 => (index(), any::<bool>(), any::<u32>())
            .prop_map(|(at, plain, number)| Op::Learn(at, plain, number)),
        3 => index().prop_map(Op::Close),
        2 => index().prop_map(Op::OldHandle),
        3 => millis(1..500).prop_map(Op::Wait),
        3 => millis(500..12_000).prop_map(Op::Wait),
        2 => millis(1..200_000).prop_map(Op::Jump),
        1 => (0u32..12).prop_map(Op::Glance),
        1 => prop::collection::vec(0u8..5, 0..6).prop_map(Op::Reload),
    ];
    prop::collection::vec(op, len)
}

/// The sets of time-outs that scripts choose from.
fn timeouts(number: u8) -> Timeouts {
    let s = Duration::from_secs;
    match number {
        0 => Timeouts::LVS,
        1 => Timeouts::KERNEL,
        2 => Timeouts::LVS.with_tcp(TcpState::Established, s(4)).with_udp(s(3)).with_icmp(s(7)),
        3 => Timeouts::LVS.with_udp(s(10)).with_icmp(s(11)).with_tcp(TcpState::SynRecv, s(20)),
        _ => TcpState::ALL.iter().fold(Timeouts::LVS.with_udp(Duration::ZERO), |set, state| {
            set.with_tcp(*state, Duration::from_millis(50))
        }),
    }
}

/// A session as the model knows it.
#[derive(Clone, Debug)]
struct Known {
    expected: Session,
    detail: Detail,
    /// When its newest packet came, exactly.
    last: Time,
    /// Since when its time-out has been what it is now.
    since: Time,
    /// Its time-out was long when it entered its state, so the long bound holds.
    long: bool,
}

/// The free ports of one local address, longest free first.
#[derive(Default)]
struct Ports {
    /// Empty until the first open shows where the address starts.
    queue: VecDeque<u16>,
    started: bool,
}

pub struct Model {
    now: Time,
    config: StoreConfig,
    /// The ports of the plan, in the order of slots.
    plan: Vec<u16>,
    classes: Vec<Timeouts>,
    live: BTreeMap<SessionId, Known>,
    keys: HashMap<WireTuple, (SessionId, Direction)>,
    ports: HashMap<IpAddr, Ports>,
    previous: HashMap<(bool, u32), Previous>,
    candidates: Vec<(Candidate, WireTuple, SessionId)>,
    ended: Vec<(SessionId, Quad)>,
}

fn ip(v6: bool, net: u8, host: u8) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, net, 0, 0, 0, 0, 0, 0, 0, host])
    } else {
        IpAddr::from([10, net, 0, host])
    }
}

fn source(v6: bool, number: u16) -> LocalSource {
    LocalSource { id: LocalId(number), ip: ip(v6, 9, u8::try_from(number).unwrap()) }
}

fn pool(v6: bool, config: &StoreConfig) -> Vec<LocalSource> {
    let count = if v6 { config.v6.local_addresses } else { config.v4.local_addresses };
    (0..count).map(|number| source(v6, number)).collect()
}

fn probe(tuple: WireTuple) -> Probe {
    let v6 = tuple.dst().is_ipv6();
    let local = (0..8).map(|number| source(v6, number)).find(|source| source.ip == tuple.dst());
    Probe { tuple, local: local.map(|source| source.id) }
}

fn quad(request: &Request) -> Quad {
    let proto = request.proto;
    let client = (ip(request.v6, 1, request.client % 4), 4000 + u16::from(request.client / 4));
    Quad {
        proto,
        client,
        virt: (ip(request.v6, 2, request.service), 80),
        local: client,
        server: (ip(request.v6, 3, request.server / 2), 8080 + u16::from(request.server % 2)),
    }
}

fn open<'a>(request: &Request, place: Place<'a>) -> Open<'a> {
    Open {
        quad: quad(request),
        place,
        state: if request.proto == L4Proto::Tcp { TcpState::SynRecv } else { TcpState::None },
        plain: request.plain,
        server: ServerId(u16::from(request.server)),
        hop_in: HopId(7),
        hop_out: HopId(8),
        class: TimeoutClass(request.class),
    }
}

impl Model {
    pub fn new(plan: &impl PortPlan, config: StoreConfig, now: Time) -> Self {
        let any = RealAddr::new(ip(false, 3, 0), 80);
        let port = |slot| plan.port_for(slot, ip(false, 9, 0), &any).unwrap();
        Self {
            now,
            config,
            plan: (0..plan.slots()).map(port).collect(),
            classes: vec![Timeouts::LVS],
            live: BTreeMap::new(),
            keys: HashMap::new(),
            ports: HashMap::new(),
            previous: HashMap::new(),
            candidates: Vec::new(),
            ended: Vec::new(),
        }
    }

    fn timeout(&self, session: &Session) -> Duration {
        let class = self.classes.get(usize::from(session.class.0)).unwrap_or(&self.classes[0]);
        match session.quad.proto {
            L4Proto::Tcp => class.tcp(session.state),
            L4Proto::Udp => class.udp(),
            L4Proto::Icmp => class.icmp(),
            L4Proto::Sctp => class.sctp(SctpPhase::of(session.state)),
        }
    }

    fn nth(&self, at: &prop::sample::Index) -> Option<SessionId> {
        let ids: Vec<_> = self.live.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[at.index(ids.len())])
    }

    pub fn set_timeouts<P: PortPlan>(&mut self, store: &mut SessionStore<'_, P>, sets: &[u8]) {
        let sets: Vec<Timeouts> = sets.iter().map(|number| timeouts(*number)).collect();
        store.set_timeouts(&sets.iter().map(Timeouts::ticks).collect::<Vec<_>>());
        let before: Vec<_> =
            self.live.values().map(|known| self.timeout(&known.expected)).collect();
        if sets.is_empty() {
            // No set at all leaves class 0 as it was, and all sessions in it.
            self.classes.truncate(1);
        } else {
            self.classes = sets;
        }
        let after: Vec<_> = self.live.values().map(|known| self.timeout(&known.expected)).collect();
        for ((known, before), after) in self.live.values_mut().zip(before).zip(after) {
            if before != after {
                known.since = self.now;
            }
            known.long |= before > SHORT;
        }
    }

    pub fn apply<P: PortPlan>(&mut self, store: &mut SessionStore<'_, P>, op: &Op) {
        match op {
            Op::OpenLocal(request, first) => {
                self.open_local(store, request, *first);
            }
            Op::OpenGeneral(request) => self.open_general(store, request),
            Op::Fill(v6) => self.fill(store, *v6),
            Op::Packet(at, inbound, flags, bytes) => {
                if let Some(id) = self.nth(at) {
                    let direction = if *inbound { Direction::Inbound } else { Direction::Return };
                    self.packet(store, id, direction, *flags, *bytes);
                }
            }
            Op::OldCandidate(at, flags) => self.old_candidate(store, at, *flags),
            Op::Learn(at, plain, number) => {
                if let Some(id) = self.nth(at) {
                    self.learn(store, id, *plain, *number);
                }
            }
            Op::Close(at) => {
                if let Some(id) = self.nth(at) {
                    self.close(store, id);
                }
            }
            Op::OldHandle(at) => self.old_handle(store, at),
            Op::Wait(time) => {
                let end = self.now.after(*time);
                while self.now < end {
                    // Steps that fall on every place within a tick.
                    self.now = Time(self.now.0 + 41_000_003).min(end);
                    self.expire(store);
                }
            }
            Op::Jump(time) => {
                self.now = self.now.after(*time);
                self.expire(store);
            }
            Op::Glance(budget) => {
                let mut left = *budget;
                while let Some(id) = store.next_expired(self.now.tick(), &mut left) {
                    assert!(left < *budget, "a place was looked at for nothing");
                    self.end_expired(store, id);
                }
            }
            Op::Reload(sets) => self.set_timeouts(store, sets),
        }
    }

    fn open_local<P: PortPlan>(
        &mut self,
        store: &mut SessionStore<'_, P>,
        request: &Request,
        first: usize,
    ) -> bool {
        let pool = pool(request.v6, &self.config);
        let in_turn = (0..pool.len()).map(|step| pool[(first.min(pool.len()) + step) % pool.len()]);
        let slots = self.plan.len();
        let has_free = |source: &LocalSource| {
            self.ports.get(&source.ip).is_none_or(|p| !p.started || !p.queue.is_empty())
        };
        debug_assert!(slots > 0);
        let chosen = in_turn.into_iter().find(has_free);
        let open = open(request, Place::Local { addresses: &pool, first });
        let Some(chosen) = chosen else {
            self.refused(store, &open, &[OpenError::NoPort, OpenError::Taken]);
            return false;
        };
        if self.keys.contains_key(&open.quad.inbound().unwrap()) {
            self.refused(store, &open, &[OpenError::Taken]);
            return false;
        }
        let quad = self.opened(store, &open);
        assert_eq!(quad.local.0, chosen.ip, "the first address of the pool with a free port");
        let ports = self.ports.entry(chosen.ip).or_default();
        if !ports.started {
            ports.started = true;
            let first = self.plan.iter().position(|port| *port == quad.local.1).expect("my port");
            ports.queue = (0..slots).map(|step| self.plan[(first + step) % slots]).collect();
        }
        assert_eq!(ports.queue.pop_front(), Some(quad.local.1), "the port free longest");
        true
    }

    fn open_general<P: PortPlan>(&mut self, store: &mut SessionStore<'_, P>, request: &Request) {
        let open = open(request, Place::General);
        let general =
            |known: &&Known| known.expected.id.v6 == request.v6 && !known.expected.has_local_port;
        let used = self.live.values().filter(general).count();
        let room = if request.v6 { self.config.v6.general } else { self.config.v4.general };
        let taken = self.keys.contains_key(&open.quad.inbound().unwrap())
            || self.keys.contains_key(&open.quad.reply().unwrap());
        if used == room as usize {
            self.refused(store, &open, &[OpenError::Full, OpenError::Taken]);
        } else if taken {
            self.refused(store, &open, &[OpenError::Taken]);
        } else {
            self.opened(store, &open);
        }
    }

    fn fill<P: PortPlan>(&mut self, store: &mut SessionStore<'_, P>, v6: bool) {
        for number in 0..255u8 {
            let request = Request {
                v6,
                proto: if number % 2 == 0 { L4Proto::Udp } else { L4Proto::Tcp },
                client: number,
                service: 9,
                server: number % 3,
                class: number % 3,
                plain: false,
            };
            if !self.open_local(store, &request, 0) {
                break;
            }
        }
        let taken = pool(v6, &self.config).iter().all(|s| {
            self.ports.get(&s.ip).is_some_and(|ports| ports.started && ports.queue.is_empty())
        });
        let again = self.live.values().any(|known| known.expected.quad.virt.0 == ip(v6, 2, 9));
        assert!(taken || again, "filling stopped early");
    }

    /// An open that must fail, and change nothing.
    fn refused<P: PortPlan>(
        &self,
        store: &mut SessionStore<'_, P>,
        open: &Open<'_>,
        allowed: &[OpenError],
    ) {
        let before = scan(store);
        let result = store.open(self.now.tick(), open, |_| Translation::default());
        let error = result.expect_err("must be refused");
        assert!(allowed.contains(&error), "{error:?} instead of {allowed:?}");
        assert_eq!(scan(store), before, "a failed open changed something");
    }

    /// An open that must succeed.
    fn opened<P: PortPlan>(&mut self, store: &mut SessionStore<'_, P>, open: &Open<'_>) -> Quad {
        let mut seen = Vec::new();
        let translation = Translation { l4_delta: 5, ip_delta: 6, seq_delta: 7, ack_delta: 8 };
        let result = store.open(self.now.tick(), open, |reserved| {
            seen.push(*reserved);
            translation
        });
        let opened = result.expect("must be opened");
        let [reserved] = seen[..] else { panic!("translated {} times", seen.len()) };
        assert_eq!(reserved.quad, opened.quad);
        let local = matches!(open.place, Place::Local { .. });
        assert_eq!((opened.quad.client, opened.quad.virt), (open.quad.client, open.quad.virt));
        assert_eq!(opened.quad.server, open.quad.server);
        let slot = (opened.id.v6, opened.id.slot);
        assert_eq!(reserved.previous, self.previous.get(&slot).copied(), "the slot's last session");
        let class = if open.class.0 < 64 { open.class } else { TimeoutClass(0) };
        let expected = Session {
            id: opened.id,
            quad: opened.quad,
            state: open.state,
            plain: open.plain,
            answered: false,
            server: open.server,
            hop_in: open.hop_in,
            hop_out: open.hop_out,
            class,
            translation,
            opened: self.now.tick(),
            last_seen: self.now.tick(),
            inbound: Default::default(),
            outbound: Default::default(),
            has_local_port: local,
            one_way: None,
            template: None,
            reset_owed: false,
            told: Told(0),
        };
        let detail = Detail {
            plain: open.plain,
            seq_delta: 7,
            hop_in: open.hop_in,
            hop_out: open.hop_out,
            ..Detail::default()
        };
        let long = self.timeout(&expected) > SHORT;
        let known = Known { expected, detail, last: self.now, since: self.now, long };
        assert!(self.live.insert(opened.id, known).is_none(), "a handle was given twice");
        let (inbound, reply) = (opened.quad.inbound().unwrap(), opened.quad.reply().unwrap());
        for (key, direction) in [(inbound, Direction::Inbound), (reply, Direction::Return)] {
            let other = self.keys.insert(key, (opened.id, direction));
            assert_eq!(other, None, "two sessions share {key}");
        }
        opened.quad
    }

    fn packet<P: PortPlan>(
        &mut self,
        store: &mut SessionStore<'_, P>,
        id: SessionId,
        direction: Direction,
        flags: u8,
        bytes: u32,
    ) {
        let quad = self.live[&id].expected.quad;
        let tuple = match direction {
            Direction::Inbound => quad.inbound().unwrap(),
            Direction::Return => quad.reply().unwrap(),
        };
        let candidate = store.lookup_one(&probe(tuple)).expect("a live session is found");
        self.candidates.push((candidate, tuple, id));
        self.take(store, candidate, &tuple, flags, bytes);
    }

    /// A packet that the session with this tuple must take.
    fn take<P: PortPlan>(
        &mut self,
        store: &mut SessionStore<'_, P>,
        candidate: Candidate,
        tuple: &WireTuple,
        flags: u8,
        bytes: u32,
    ) {
        let (id, direction) = self.keys[tuple];
        let now = self.now;
        let tcp_flags = (tuple.proto() == L4Proto::Tcp).then_some(flags);
        let segment = Segment { tcp_flags, bytes };
        let peeked = store.peek(candidate, tuple, segment);
        let flow = store.packet(candidate, tuple, now.tick(), segment);
        assert_eq!(peeked, flow, "what was announced is not what happened");
        let flow = flow.expect("the candidate is this tuple's session");
        let known = self.live.get_mut(&id).unwrap();
        let session = &mut known.expected;
        assert_eq!(
            (flow.before, flow.quad, flow.server),
            (session.state, session.quad, session.server)
        );
        assert_eq!((flow.translation, flow.plain), (session.translation, session.plain));
        let first = direction == Direction::Return && !session.answered;
        let hop = if direction == Direction::Inbound { session.hop_in } else { session.hop_out };
        assert_eq!(
            (flow.first_answer, flow.hop, flow.candidate.direction),
            (first, hop, direction)
        );
        session.answered |= direction == Direction::Return;
        if let Some(flags) = tcp_flags {
            session.state = tcp::next(session.state, direction.into(), flags);
        }
        assert_eq!(flow.after, session.state);
        let traffic = match direction {
            Direction::Inbound => &mut session.inbound,
            Direction::Return => &mut session.outbound,
        };
        traffic.packets += 1;
        traffic.bytes += u64::from(bytes);
        session.last_seen = now.tick();
        (known.last, known.since) = (now, now);
        if flow.before != flow.after {
            let session = known.expected;
            let long = self.timeout(&session) > SHORT;
            self.live.get_mut(&id).unwrap().long = long;
        }
    }

    fn old_candidate<P: PortPlan>(
        &mut self,
        store: &mut SessionStore<'_, P>,
        at: &prop::sample::Index,
        flags: u8,
    ) {
        if self.candidates.is_empty() {
            return;
        }
        let (candidate, tuple, id) = self.candidates[at.index(self.candidates.len())];
        if self.live.contains_key(&id) {
            return self.take(store, candidate, &tuple, flags, 100);
        }
        // The tuple may live again: in the same slot, where the hint is right, or elsewhere.
        let again = self.keys.get(&tuple).map(|(other, _)| *other);
        if again.is_some_and(|other| (other.v6, other.slot) == (id.v6, id.slot)) {
            return self.take(store, candidate, &tuple, flags, 100);
        }
        let before = scan(store);
        let segment = Segment { tcp_flags: Some(flags), bytes: 100 };
        assert_eq!(store.packet(candidate, &tuple, self.now.tick(), segment), None);
        assert_eq!(store.peek(candidate, &tuple, segment), None);
        assert_eq!(scan(store), before, "a stale candidate changed something");
    }

    fn learn<P: PortPlan>(
        &mut self,
        store: &mut SessionStore<'_, P>,
        id: SessionId,
        plain: bool,
        number: u32,
    ) {
        let known = self.live.get_mut(&id).unwrap();
        let asked = Detail {
            plain,
            pending: number.to_be_bytes()[0],
            client_isn: number,
            server_first: number ^ 1,
            server_seq_end: number ^ 2,
            server_ack: number ^ 3,
            client_mss: u16::try_from(number >> 16).unwrap(),
            edit: (number ^ 5, u16::try_from(number & 0xffff).unwrap()),
            seq_delta: number ^ 4,
            hop_in: HopId(1),
            hop_out: HopId(2),
        };
        store.set_detail(id, &asked);
        let stays_plain = known.detail.plain || plain;
        let word = |value| if stays_plain { 0 } else { value };
        known.detail = Detail {
            plain: stays_plain,
            client_isn: word(asked.client_isn),
            server_first: word(asked.server_first),
            ..asked
        };
        known.expected.plain = stays_plain;
        known.expected.told = Told(asked.pending);
        known.expected.translation.seq_delta = asked.seq_delta;
        (known.expected.hop_in, known.expected.hop_out) = (asked.hop_in, asked.hop_out);
    }

    fn close<P: PortPlan>(&mut self, store: &mut SessionStore<'_, P>, id: SessionId) {
        let known = self.live.remove(&id).unwrap();
        let quad = known.expected.quad;
        assert_eq!(store.close(id), Some(known.expected));
        for key in [quad.inbound().unwrap(), quad.reply().unwrap()] {
            self.keys.remove(&key).unwrap();
        }
        let server = RealAddr::new(quad.server.0, quad.server.1);
        let previous = Previous { server, next_seq: known.detail.server_ack };
        self.previous.insert((id.v6, id.slot), previous);
        if known.expected.has_local_port {
            self.ports.get_mut(&quad.local.0).unwrap().queue.push_back(quad.local.1);
        }
        self.ended.push((id, quad));
    }

    fn old_handle<P: PortPlan>(
        &mut self,
        store: &mut SessionStore<'_, P>,
        at: &prop::sample::Index,
    ) {
        if self.ended.is_empty() {
            return;
        }
        let (id, _) = self.ended[at.index(self.ended.len())];
        let before = scan(store);
        assert_eq!(store.close(id), None, "a stale handle closed a session");
        store.set_detail(id, &Detail { plain: true, seq_delta: 99, ..Detail::default() });
        assert_eq!(scan(store), before, "a stale handle changed something");
    }

    /// Ends a session that the store says is due: never early.
    fn end_expired<P: PortPlan>(&mut self, store: &mut SessionStore<'_, P>, id: SessionId) {
        let known = self.live.get(&id).expect("only live sessions are due");
        let due = known.last.after(self.timeout(&known.expected));
        assert!(self.now >= due, "{} ends {:?} early", id, due.since(self.now));
        self.close(store, id);
    }

    /// Ends all that is due; what stays must not be late by more than the bounds.
    fn expire<P: PortPlan>(&mut self, store: &mut SessionStore<'_, P>) {
        let mut budget = 100_000;
        while let Some(id) = store.next_expired(self.now.tick(), &mut budget) {
            self.end_expired(store, id);
        }
        for (id, known) in &self.live {
            let timeout = self.timeout(&known.expected);
            let bound = if known.long || timeout > SHORT {
                Duration::from_secs(4)
            } else {
                2 * Tick::LENGTH
            };
            let late = self.now.since(known.last.after(timeout).max(known.since));
            assert!(late < bound, "{id} of {timeout:?} is {late:?} late, long: {}", known.long);
        }
    }

    /// Everything that can be asked, compared.
    pub fn compare<P: PortPlan>(&self, store: &SessionStore<'_, P>) {
        let live: Vec<Session> = self.live.values().map(|known| known.expected).collect();
        let mut seen = scan(store);
        seen.sort_by_key(|session| session.id);
        assert_eq!(seen, live);
        assert_eq!(store.len() as usize, live.len());
        assert_eq!(store.is_empty(), live.is_empty());
        let with_port = live.iter().filter(|session| session.has_local_port).count();
        assert_eq!(store.ports_in_use(), with_port as u64);
        let mut replies = HashSet::new();
        for (id, known) in &self.live {
            let quad = known.expected.quad;
            assert!(replies.insert((quad.local, quad.server, quad.proto)), "{quad:?} twice");
            assert_eq!(store.session(*id), Some(known.expected));
            assert_eq!(store.detail(*id), Some(known.detail));
        }
        let probes: Vec<Probe> = self.keys.keys().map(|tuple| probe(*tuple)).collect();
        let mut found = vec![None; probes.len()];
        store.lookup(&probes, &mut found);
        for (probe, found) in probes.iter().zip(found) {
            let (id, direction) = self.keys[&probe.tuple];
            let found = found.expect("both keys of a live session are found");
            assert_eq!((store.id_of(found), found.direction), (Some(id), direction));
        }
        for (id, quad) in &self.ended {
            assert_eq!((store.session(*id), store.detail(*id)), (None, None), "a stale handle");
            for tuple in [quad.inbound().unwrap(), quad.reply().unwrap()] {
                let found = store.lookup_one(&probe(tuple)).and_then(|c| store.id_of(c));
                assert_eq!(found, self.keys.get(&tuple).map(|(id, _)| *id), "{tuple}");
            }
        }
    }
}

fn scan<P: PortPlan>(store: &SessionStore<'_, P>) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut cursor = Some(Cursor::default());
    while let Some(at) = cursor {
        cursor = store.scan(at, 3, |session| sessions.push(*session));
    }
    sessions
}
