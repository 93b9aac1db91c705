//! What one worker needs of a configuration: the shared snapshot, and its own schedulers and counts.
//!
//! Built by the control side, moved into the worker between bursts, and the previous one handed back, so
//! that memory is neither taken nor freed on the packet path.

use crate::client_addr::{distrusts, forged_kinds, proxy_instead, toa_of};
use crate::oversize::ErrorRate;
use crate::proxy::proxy_of;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::net::IpAddr;
use lvs_core::counters::Carried;
use lvs_core::flow::WireTuple;
use lvs_core::id::{HopId, PoolId, ServerId, ServiceId};
use lvs_core::persistence::Persistence;
use lvs_core::sched::{Scheduler, SchedulerArgs, ServerLoad, Weight};
use lvs_core::service::{
    Forwarding, ProxyOptions, RealServer, ServerState, TimestampPolicy, ToaOptions, VirtualService,
};
use lvs_core::session::TcpState;
use lvs_core::shared::Shared;
use lvs_core::snapshot::{NextHop, Snapshot};
use lvs_core::time::{Tick, Time};
use lvs_nat::toa::KindSet;

/// Sessions and traffic of one server on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCount {
    /// Sessions in an established state.
    pub active: u32,
    /// All other sessions.
    pub inactive: u32,
    /// What it has carried.
    pub carried: Carried,
    /// Sessions ended because its time had come, since it is going away.
    pub ended: u64,
    /// Clients that belonged to it by a template and were led to another server, since it is going away.
    pub moved: u64,
}

/// A service as its scheduler sees it.
struct Balanced {
    scheduler: Box<dyn Scheduler>,
    loads: Box<[ServerLoad]>,
    /// By the same place: the server, and its count in `loads` as a word.
    seen: Box<[(ServerId, Option<u64>)]>,
    /// Which server the next look at what other workers have opened begins with.
    look_at: usize,
    /// Servers by address, for services that share templates with others.
    by_ip: Box<[(IpAddr, ServerId)]>,
}

/// What a service asks for on packets of its sessions.
#[derive(Clone, Copy, Default)]
pub(crate) struct Policy {
    pub(crate) service: Option<ServiceId>,
    pub(crate) toa: Option<ToaOptions>,
    pub(crate) proxy: Option<ProxyOptions>,
    /// Address options of clients are taken out, even if there is no own one.
    pub(crate) distrusts: bool,
    pub(crate) strip_timestamps: bool,
    pub(crate) new_isn: bool,
    pub(crate) persistence: Option<Persistence>,
    pub(crate) reset_on_expiry: bool,
}

impl Policy {
    pub(crate) fn of(service: &VirtualService) -> Self {
        let full = service.forwarding == Forwarding::FullNat;
        Self {
            service: Some(service.id),
            toa: toa_of(service),
            proxy: proxy_of(service),
            distrusts: distrusts(service),
            strip_timestamps: full && service.timestamps == TimestampPolicy::Strip,
            new_isn: full,
            persistence: service.persistence,
            reset_on_expiry: service.flags.reset_on_expiry,
        }
    }

    /// The PROXY header of sessions that speak PROXY.
    pub(crate) fn spoken_proxy(&self) -> Option<ProxyOptions> {
        self.proxy.or_else(|| proxy_instead(self.toa.as_ref()))
    }

    /// Kinds of options that clients have no business to send.
    pub(crate) fn forged_kinds(&self) -> Option<KindSet> {
        forged_kinds(self.toa.as_ref(), self.distrusts)
    }
}

/// Where a server stands.
#[derive(Clone, Copy, Default)]
struct Standing {
    service: ServiceId,
    /// Its place in the service's list; `None` when it was removed.
    place: Option<u16>,
    count: ServerCount,
    /// When it was first seen to be draining or down.
    since: Option<Time>,
    /// The way to it, and the number that its next hop had last.
    way: Option<NextHop>,
    hop: HopId,
}

/// One configuration, ready for one worker.
pub struct Generation {
    snapshot: Arc<Snapshot>,
    services: Box<[Option<Balanced>]>,
    /// Also of removed services: their sessions go on as they began.
    policies: Box<[Policy]>,
    servers: Box<[Standing]>,
    /// Per pool: where the next session starts to look for a local address.
    pool_turn: Box<[usize]>,
    /// The tick in which schedulers were told the time last.
    told: Option<Tick>,
    /// The service whose scheduler is told next.
    tell_next: usize,
    /// How many ICMP errors and how many resets its director makes from now on, if that changes.
    pub(crate) rates: Option<(ErrorRate, ErrorRate)>,
}

/// Schedulers that are told the time in one tick: with 4000 services each knows it to about a second.
const TOLD_PER_TICK: usize = 256;

impl Generation {
    /// Prepares a snapshot for the worker that `args` names.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, args: SchedulerArgs) -> Self {
        let mut servers = alloc::vec![Standing::default(); snapshot.server_slots()];
        for server in snapshot.servers() {
            if let Some(standing) = servers.get_mut(server.id.index()) {
                standing.service = server.service;
                standing.way = snapshot.route(server.addr.ip());
            }
        }
        let mut services: alloc::vec::Vec<Option<Balanced>> =
            (0..snapshot.service_slots()).map(|_| None).collect();
        let mut policies = alloc::vec![Policy::default(); snapshot.service_slots()];
        let mut pools = 0;
        for service in snapshot.services() {
            for (place, server) in (0u16..).zip(&service.servers) {
                if let Some(standing) = servers.get_mut(server.index()) {
                    standing.place = Some(place);
                }
            }
            let loads = loads_of(&snapshot, service);
            let by_ip = by_ip(&loads, service);
            let mut scheduler = (service.scheduler.build)(args);
            scheduler.rebuild(&loads);
            if let Some(policy) = policies.get_mut(service.id.index()) {
                *policy = Policy::of(service);
            }
            if let Some(entry) = services.get_mut(service.id.index()) {
                let seen = loads.iter().map(|load| (load.id, None)).collect();
                *entry = Some(Balanced { scheduler, loads, seen, look_at: 0, by_ip });
            }
            pools = pools.max(service.pool.map_or(0, |pool| pool.index() + 1));
        }
        Self {
            services: services.into(),
            policies: policies.into(),
            servers: servers.into(),
            pool_turn: alloc::vec![0; pools].into(),
            told: None,
            tell_next: 0,
            rates: None,
            snapshot,
        }
    }

    /// The same, and from its installation on this many ICMP errors and resets of the director's own, as
    /// [`DirectorConfig`](crate::DirectorConfig) says for the start.
    #[must_use]
    pub const fn with_rates(mut self, errors: ErrorRate, strays: ErrorRate) -> Self {
        self.rates = Some((errors, strays));
        self
    }

    /// The snapshot.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Takes over what the previous generation has counted, and the schedulers of services whose members
    /// and weights have not changed; those of others take over what should outlive the change.
    pub(crate) fn inherit(&mut self, old: &mut Self, shared: &Shared) {
        let (now, then) = (&self.snapshot, &old.snapshot);
        for (id, (standing, before)) in
            (0u16..).map(ServerId).zip(self.servers.iter_mut().zip(old.servers.iter()))
        {
            standing.count = before.count;
            if let (Some(now), Some(then)) = (now.server(id), then.server(id)) {
                let same = is_ending(now) == is_ending(then);
                standing.since = before.since.filter(|_| same);
                if now.state == ServerState::Active {
                    (standing.count.ended, standing.count.moved) = (0, 0);
                }
                shared.servers.changed(id, &then.thresholds, &now.thresholds);
            }
        }
        for (policy, before) in self.policies.iter_mut().zip(old.policies.iter()) {
            if policy.service.is_none() {
                *policy = *before;
            }
        }
        for (turn, before) in self.pool_turn.iter_mut().zip(old.pool_turn.iter()) {
            *turn = *before;
        }
        let ids = (0u16..).map(ServiceId);
        for ((entry, before), id) in self.services.iter_mut().zip(old.services.iter_mut()).zip(ids)
        {
            let (Some(entry), Some(before)) = (entry, before) else { continue };
            let scheduler = |snapshot: &Snapshot| snapshot.service(id).map(|s| s.scheduler);
            let same = scheduler(&self.snapshot) == scheduler(&old.snapshot)
                && entry.loads.len() == before.loads.len()
                && entry
                    .loads
                    .iter()
                    .zip(before.loads.iter())
                    .all(|(a, b)| (a.id, a.addr, a.weight) == (b.id, b.addr, b.weight));
            if same {
                core::mem::swap(&mut entry.scheduler, &mut before.scheduler);
                // It knows the loads of before, so what changes is told against these.
                core::mem::swap(&mut entry.loads, &mut before.loads);
            } else if scheduler(&self.snapshot) == scheduler(&old.snapshot) {
                entry.scheduler.take_over(&mut *before.scheduler);
            }
        }
        self.refresh_all(shared);
    }

    /// Looks at what all workers have opened on every server.
    pub(crate) fn refresh_all(&mut self, shared: &Shared) {
        for balanced in self.services.iter_mut().flatten() {
            for place in 0..balanced.loads.len() {
                refresh(balanced, place, &self.servers, &self.snapshot, shared);
            }
        }
    }

    /// What the service of a server asks for, or asked for until it was removed.
    pub(crate) fn policy(&self, server: ServerId) -> Policy {
        let standing = self.servers.get(server.index());
        let policy = standing.and_then(|standing| self.policies.get(standing.service.index()));
        policy.copied().unwrap_or_default()
    }

    /// Tells some of the schedulers the time, once in each tick; the next tick goes on behind them.
    pub(crate) fn tick(&mut self, now: Tick) {
        if self.told == Some(now) {
            return;
        }
        self.told = Some(now);
        let Some((told, rest)) = self.services.split_at_mut_checked(self.tell_next) else {
            self.tell_next = 0;
            return;
        };
        let some = rest.len().min(TOLD_PER_TICK);
        self.tell_next = if some < rest.len() { told.len().wrapping_add(some) } else { 0 };
        for balanced in rest.iter_mut().take(some).flatten() {
            balanced.scheduler.tick(now);
        }
    }

    /// Looks at a few servers of a service anew: of other workers' sessions it knows what it saw last, so with up
    /// to [`LOOKS`] servers it knows all.
    pub(crate) fn look_around(&mut self, shared: &Shared, service: ServiceId) {
        let balanced = self.services.get_mut(service.index()).and_then(Option::as_mut);
        let Some(balanced) = balanced else { return };
        for _ in 0..LOOKS.min(balanced.loads.len()) {
            let at = balanced.look_at;
            balanced.look_at = if at.wrapping_add(1) >= balanced.loads.len() { 0 } else { at + 1 };
            refresh(balanced, at, &self.servers, &self.snapshot, shared);
        }
    }

    /// Chooses a server for a new session, and counts that session on it.
    pub(crate) fn pick(
        &mut self,
        shared: &Shared,
        service: ServiceId,
        flow: &WireTuple,
    ) -> Option<ServerId> {
        let balanced = self.services.get_mut(service.index())?.as_mut()?;
        // Whom a threshold refuses is seen to be overloaded now, and not offered again.
        for _ in 0..balanced.loads.len() {
            let index = balanced.scheduler.pick(flow, &balanced.loads)?;
            let load = balanced.loads.get(index).filter(|load| load.is_available())?;
            let (id, limits) = (load.id, self.snapshot.server(load.id)?.thresholds);
            if shared.servers.reserve(id, &limits, false) {
                return Some(id);
            }
            refresh(balanced, index, &self.servers, &self.snapshot, shared);
        }
        None
    }

    /// The server of `service` that a template's server stands for, if new sessions may go there.
    pub(crate) fn usable(
        &self,
        service: ServiceId,
        server: ServerId,
        policy: &Persistence,
    ) -> Option<ServerId> {
        let found = self.snapshot.server(server)?;
        let balanced = self.services.get(service.index())?.as_ref()?;
        let found = if found.service == service {
            found
        } else {
            let ip = found.addr.ip();
            let at = balanced.by_ip.binary_search_by(|(other, _)| other.cmp(&ip)).ok()?;
            self.snapshot.server(balanced.by_ip.get(at)?.1)?
        };
        let present = self.servers.get(found.id.index())?.place.is_some();
        let quiesced = found.weight.0 == 0 && policy.expire_quiescent;
        (present && found.state == ServerState::Active && !quiesced).then_some(found.id)
    }

    /// Counts a session that a template leads to a server. `false`: it is full, and nothing was counted.
    pub(crate) fn reserve(&self, shared: &Shared, server: ServerId, anyway: bool) -> bool {
        let limits = self.snapshot.server(server).map(|server| server.thresholds);
        shared.servers.reserve(server, &limits.unwrap_or_default(), anyway)
    }

    /// Takes back what [`pick`](Self::pick) or [`reserve`](Self::reserve) has counted.
    pub(crate) fn unreserve(&mut self, shared: &Shared, server: ServerId) {
        let limits = self.snapshot.server(server).map(|server| server.thresholds);
        shared.servers.moved(server, Some(false), None, &limits.unwrap_or_default());
        self.refresh_server(shared, server);
    }

    /// Where the next session of a pool starts to look, and moves it on.
    pub(crate) fn pool_turn(&mut self, pool: PoolId, size: usize) -> usize {
        let Some(turn) = self.pool_turn.get_mut(pool.index()) else { return 0 };
        let start = if *turn < size { *turn } else { 0 };
        *turn = start.wrapping_add(1);
        start
    }

    /// Counts a session that moved from one state to another, or closed. One that opens was counted as inactive
    /// when its server was chosen.
    pub(crate) fn moved(
        &mut self,
        shared: &Shared,
        server: ServerId,
        from: Option<TcpState>,
        to: Option<TcpState>,
    ) {
        let limits = self.snapshot.server(server).map(|server| server.thresholds);
        let Some(standing) = self.servers.get_mut(server.index()) else { return };
        let count = &mut standing.count;
        for (state, opens) in [(from, false), (to, true)] {
            let Some(state) = state else { continue };
            let cell = if state.is_active() { &mut count.active } else { &mut count.inactive };
            *cell = if opens { cell.saturating_add(1) } else { cell.saturating_sub(1) };
        }
        let [waited, waits] = [from, to].map(|state| state.is_some_and(is_half_open));
        if waited != waits {
            shared.half_open.moved(standing.service, waits);
        }
        let before = from.map_or(Some(false), |state| Some(state.is_active()));
        let after = to.map(TcpState::is_active);
        shared.servers.moved(server, before, after, &limits.unwrap_or_default());
        self.refresh_server(shared, server);
    }

    /// Counts a session that opens with a SYN of `bytes`, and that SYN.
    #[inline]
    pub(crate) fn opened(&mut self, shared: &Shared, server: ServerId, bytes: u16) {
        let Some(standing) = self.servers.get_mut(server.index()) else { return };
        let ServerCount { inactive, carried, .. } = &mut standing.count;
        *inactive = inactive.saturating_add(1);
        carried.sessions = carried.sessions.wrapping_add(1);
        carried.inbound.add(bytes.into());
        shared.half_open.moved(standing.service, true);
        self.refresh_server(shared, server);
    }

    fn refresh_server(&mut self, shared: &Shared, server: ServerId) {
        let Some(standing) = self.servers.get(server.index()) else { return };
        let Some(place) = standing.place else { return };
        let Some(Some(balanced)) = self.services.get_mut(standing.service.index()) else { return };
        refresh(balanced, place.into(), &self.servers, &self.snapshot, shared);
    }

    /// When sessions of a server are to be reset; `None` = never. From the first call on time counts.
    pub(crate) fn ends(&mut self, server: ServerId, now: Time) -> Option<Time> {
        let within = match self.snapshot.server(server)?.state {
            ServerState::Draining { within } => within?,
            ServerState::DownKill => core::time::Duration::ZERO,
            _ => return None,
        };
        let standing = self.servers.get_mut(server.index())?;
        Some(standing.since.get_or_insert(now).after(within))
    }

    /// When sessions of a server are to be reset, as decided before.
    pub(crate) fn deadline(&self, server: ServerId) -> Option<Time> {
        let since = self.servers.get(server.index())?.since?;
        match self.snapshot.server(server)?.state {
            ServerState::Draining { within } => Some(since.after(within?)),
            ServerState::DownKill => Some(since),
            _ => None,
        }
    }

    /// The way to a server, and what its next hop's number was when it was [noted](Self::note_hop) last.
    pub(crate) fn way_to(&self, server: ServerId) -> Option<(NextHop, HopId)> {
        let standing = self.servers.get(server.index())?;
        Some((standing.way?, standing.hop))
    }

    /// Notes the number of a server's next hop.
    pub(crate) fn note_hop(&mut self, server: ServerId, hop: HopId) {
        if let Some(standing) = self.servers.get_mut(server.index()) {
            standing.hop = hop;
        }
    }

    /// The counters of a server, to be added to.
    pub(crate) fn carried(&mut self, server: ServerId) -> Option<&mut Carried> {
        self.servers.get_mut(server.index()).map(|standing| &mut standing.count.carried)
    }

    /// Counts one packet of a server's session: side 0 from the client, side 1 to it.
    #[inline(always)]
    pub(crate) fn carry(&mut self, server: ServerId, side: usize, bytes: u16) {
        let Some(standing) = self.servers.get_mut(server.index()) else { return };
        let carried = &mut standing.count.carried;
        let traffic = if side == 0 { &mut carried.inbound } else { &mut carried.outbound };
        traffic.add(u64::from(bytes));
    }

    /// A session of a server was ended because its time had come.
    pub(crate) fn ended(&mut self, server: ServerId) {
        if let Some(standing) = self.servers.get_mut(server.index()) {
            standing.count.ended = standing.count.ended.saturating_add(1);
        }
    }

    /// A client that belonged to a server was led to another one.
    pub(crate) fn left(&mut self, server: ServerId) {
        if self.snapshot.server(server).is_some_and(|server| server.state == ServerState::Active) {
            return;
        }
        if let Some(standing) = self.servers.get_mut(server.index()) {
            standing.count.moved = standing.count.moved.saturating_add(1);
        }
    }

    /// What a server has on this worker.
    #[must_use]
    pub fn server_count(&self, server: ServerId) -> Option<&ServerCount> {
        self.servers.get(server.index()).map(|standing| &standing.count)
    }

    /// What a service has carried on this worker: the sum over its servers, the removed ones included.
    #[must_use]
    pub fn service_carried(&self, service: ServiceId) -> Option<Carried> {
        self.policies.get(service.index())?;
        let servers = self.servers.iter().filter(|standing| standing.service == service);
        Some(servers.fold(Carried::default(), |sum, standing| sum.plus(&standing.count.carried)))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("generation", &self.snapshot.generation())
            .finish_non_exhaustive()
    }
}

/// Servers whose sessions each choice looks at anew.
const LOOKS: usize = 8;

/// The server has not agreed yet.
pub(crate) const fn is_half_open(state: TcpState) -> bool {
    matches!(state, TcpState::SynRecv | TcpState::SynSent | TcpState::SynAck)
}

/// Its sessions are to end.
const fn is_ending(server: &RealServer) -> bool {
    matches!(server.state, ServerState::Draining { .. } | ServerState::DownKill)
}

/// Takes over what all workers have opened on a server, if it has changed; one beyond the shared table has what
/// this worker has.
#[inline]
fn refresh(
    balanced: &mut Balanced,
    place: usize,
    servers: &[Standing],
    snapshot: &Snapshot,
    shared: &Shared,
) {
    let Some((server, seen)) = balanced.seen.get_mut(place) else { return };
    let mark = shared.servers.mark(*server);
    if mark.is_none() || mark != *seen {
        *seen = mark;
        take_over(balanced, place, servers, snapshot, shared);
    }
}

#[inline(never)]
fn take_over(
    balanced: &mut Balanced,
    place: usize,
    servers: &[Standing],
    snapshot: &Snapshot,
    shared: &Shared,
) {
    let Some(load) = balanced.loads.get_mut(place) else { return };
    let Some(server) = snapshot.server(load.id) else { return };
    let (active, inactive, overloaded) = if let Some(all) = shared.servers.get(load.id) {
        (all.active, all.inactive, all.overloaded)
    } else {
        let own = servers
            .get(load.id.index())
            .map_or((0, 0), |standing| (standing.count.active, standing.count.inactive));
        let total = u64::from(own.0).saturating_add(own.1.into());
        let limits = &server.thresholds;
        (own.0, own.1, limits.reached(total) || (load.overloaded && limits.keeps_overload(total)))
    };
    let now = (active, inactive, overloaded || server.state != ServerState::Active);
    if now != (load.active, load.inactive, load.overloaded) {
        (load.active, load.inactive, load.overloaded) = now;
        balanced.scheduler.load_changed(place, &balanced.loads);
    }
}

/// Servers by address, each address once: the first of the configuration.
fn by_ip(loads: &[ServerLoad], service: &VirtualService) -> Box<[(IpAddr, ServerId)]> {
    if service.persistence.and_then(|persistence| persistence.group).is_none() {
        return Box::default();
    }
    let mut all: alloc::vec::Vec<_> = loads.iter().map(|load| (load.addr.ip(), load.id)).collect();
    all.sort_by_key(|(ip, _)| *ip);
    all.dedup_by_key(|(ip, _)| *ip);
    all.into()
}

fn loads_of(snapshot: &Snapshot, service: &VirtualService) -> Box<[ServerLoad]> {
    let servers = || service.servers.iter().filter_map(|id| snapshot.server(*id));
    let larger = if servers().any(|server| server.share < 100) {
        // So that a tenth of 1 is a weight, too.
        let heaviest = servers().map(|server| server.weight.0).max().unwrap_or(0);
        u16::MAX.checked_div(heaviest).unwrap_or(1).clamp(1, 100)
    } else {
        1
    };
    servers()
        .map(|server| ServerLoad {
            id: server.id,
            addr: server.addr,
            weight: weight_of(server, larger),
            overloaded: server.state != ServerState::Active,
            active: 0,
            inactive: 0,
        })
        .collect()
}

/// The weight that schedulers see.
fn weight_of(server: &RealServer, larger: u16) -> Weight {
    let all = u32::from(server.weight.0).saturating_mul(larger.into());
    let now = all.saturating_mul(server.share.into()) / 100;
    let least = u16::from(server.weight.0 > 0);
    Weight(u16::try_from(now).unwrap_or(u16::MAX).max(least))
}
