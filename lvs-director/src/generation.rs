//! What one worker needs of a configuration: the shared snapshot, and its own schedulers and counts.
//!
//! Built by the control side, moved into the worker between bursts, and the previous one handed back, so
//! that memory is neither taken nor freed on the packet path.

use crate::client_addr::toa_of;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use lvs_core::counters::Carried;
use lvs_core::flow::WireTuple;
use lvs_core::id::{PoolId, ServerId, ServiceId};
use lvs_core::sched::{Scheduler, SchedulerArgs, ServerLoad};
use lvs_core::service::{Forwarding, ServerState, TimestampPolicy, ToaOptions, VirtualService};
use lvs_core::session::TcpState;
use lvs_core::snapshot::Snapshot;
use lvs_core::time::Tick;

/// Sessions and traffic of one server on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCount {
    /// Sessions in an established state.
    pub active: u32,
    /// All other sessions.
    pub inactive: u32,
    /// What it has carried.
    pub carried: Carried,
}

/// A service as its scheduler sees it.
struct Balanced {
    scheduler: Box<dyn Scheduler>,
    loads: Box<[ServerLoad]>,
}

/// What a service asks for on packets of its sessions.
#[derive(Clone, Copy, Default)]
pub(crate) struct Policy {
    pub(crate) service: Option<ServiceId>,
    pub(crate) toa: Option<ToaOptions>,
    pub(crate) strip_timestamps: bool,
    pub(crate) new_isn: bool,
}

impl Policy {
    pub(crate) fn of(service: &VirtualService) -> Self {
        let full = service.forwarding == Forwarding::FullNat;
        Self {
            service: Some(service.id),
            toa: toa_of(service),
            strip_timestamps: full && service.timestamps == TimestampPolicy::Strip,
            new_isn: full,
        }
    }
}

/// Where a server stands.
#[derive(Clone, Copy, Default)]
struct Standing {
    service: ServiceId,
    /// Its place in the service's list; `None` when it was removed.
    place: Option<u16>,
    count: ServerCount,
}

/// One configuration, ready for one worker.
pub struct Generation {
    snapshot: Arc<Snapshot>,
    services: Box<[Option<Balanced>]>,
    /// Also of removed services: their sessions go on as they began.
    policies: Box<[Policy]>,
    carried: Box<[Carried]>,
    servers: Box<[Standing]>,
    /// Per pool: where the next session starts to look for a local address.
    pool_turn: Box<[usize]>,
    /// The tick in which schedulers were told the time last.
    told: Option<Tick>,
    /// The service whose scheduler is told next.
    tell_next: usize,
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
            let mut scheduler = (service.scheduler.build)(args);
            scheduler.rebuild(&loads);
            if let Some(policy) = policies.get_mut(service.id.index()) {
                *policy = Policy::of(service);
            }
            if let Some(entry) = services.get_mut(service.id.index()) {
                *entry = Some(Balanced { scheduler, loads });
            }
            pools = pools.max(service.pool.map_or(0, |pool| pool.index() + 1));
        }
        Self {
            carried: alloc::vec![Carried::default(); snapshot.service_slots()].into(),
            services: services.into(),
            policies: policies.into(),
            servers: servers.into(),
            pool_turn: alloc::vec![0; pools].into(),
            told: None,
            tell_next: 0,
            snapshot,
        }
    }

    /// The snapshot.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Takes over what the previous generation has counted, and the schedulers of services whose members
    /// and weights have not changed; those of others take over what should outlive the change.
    pub(crate) fn inherit(&mut self, old: &mut Self) {
        for (standing, before) in self.servers.iter_mut().zip(old.servers.iter()) {
            standing.count = before.count;
        }
        for (policy, before) in self.policies.iter_mut().zip(old.policies.iter()) {
            if policy.service.is_none() {
                *policy = *before;
            }
        }
        for (carried, before) in self.carried.iter_mut().zip(old.carried.iter()) {
            *carried = *before;
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
            } else if scheduler(&self.snapshot) == scheduler(&old.snapshot) {
                entry.scheduler.take_over(&mut *before.scheduler);
            }
            for load in &mut entry.loads {
                if let Some(standing) = self.servers.get(load.id.index()) {
                    load.active = standing.count.active;
                    load.inactive = standing.count.inactive;
                }
            }
            for index in 0..entry.loads.len() {
                entry.scheduler.load_changed(index, &entry.loads);
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

    /// Chooses a server for a new session.
    pub(crate) fn pick(&mut self, service: ServiceId, flow: &WireTuple) -> Option<ServerId> {
        let balanced = self.services.get_mut(service.index())?.as_mut()?;
        let index = balanced.scheduler.pick(flow, &balanced.loads)?;
        let load = balanced.loads.get(index)?;
        load.is_available().then_some(load.id)
    }

    /// Where the next session of a pool starts to look, and moves it on.
    pub(crate) fn pool_turn(&mut self, pool: PoolId, size: usize) -> usize {
        let Some(turn) = self.pool_turn.get_mut(pool.index()) else { return 0 };
        let start = if *turn < size { *turn } else { 0 };
        *turn = start.wrapping_add(1);
        start
    }

    /// Counts a session that opened, moved from one state to another, or closed.
    pub(crate) fn moved(&mut self, server: ServerId, from: Option<TcpState>, to: Option<TcpState>) {
        let Some(standing) = self.servers.get_mut(server.index()) else { return };
        let count = &mut standing.count;
        for (state, opens) in [(from, false), (to, true)] {
            let Some(state) = state else { continue };
            let cell = if state.is_active() { &mut count.active } else { &mut count.inactive };
            *cell = if opens { cell.saturating_add(1) } else { cell.saturating_sub(1) };
        }
        let Some(place) = standing.place else { return };
        let Some(Some(balanced)) = self.services.get_mut(standing.service.index()) else { return };
        if let Some(load) = balanced.loads.get_mut(usize::from(place)) {
            (load.active, load.inactive) = (count.active, count.inactive);
            balanced.scheduler.load_changed(usize::from(place), &balanced.loads);
        }
    }

    /// The counters of a server and of its service, to be added to.
    pub(crate) fn carried(&mut self, server: ServerId) -> Option<[&mut Carried; 2]> {
        let standing = self.servers.get_mut(server.index())?;
        let service = self.carried.get_mut(standing.service.index())?;
        Some([&mut standing.count.carried, service])
    }

    /// What a server has on this worker.
    #[must_use]
    pub fn server_count(&self, server: ServerId) -> Option<&ServerCount> {
        self.servers.get(server.index()).map(|standing| &standing.count)
    }

    /// What a service has carried on this worker.
    #[must_use]
    pub fn service_carried(&self, service: ServiceId) -> Option<&Carried> {
        self.carried.get(service.index())
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("generation", &self.snapshot.generation())
            .finish_non_exhaustive()
    }
}

fn loads_of(snapshot: &Snapshot, service: &VirtualService) -> Box<[ServerLoad]> {
    service
        .servers
        .iter()
        .filter_map(|id| snapshot.server(*id))
        .map(|server| ServerLoad {
            id: server.id,
            addr: server.addr,
            weight: server.weight,
            overloaded: server.state != ServerState::Active,
            active: 0,
            inactive: 0,
        })
        .collect()
}
