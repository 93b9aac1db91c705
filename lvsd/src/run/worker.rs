//! The loop of the data process: receive, balance, send, expire, and wait when there is nothing.

use super::bells::Bells;
use super::message::{
    self, Counts, DrainCounts, MOST_SERVERS, PortCounts, ServerCounts, WorkerCounts,
};
use super::swap::Inbox;
use crate::config::{Config, Secrets};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use lvs_core::id::ServerId;
use lvs_core::io::{Burst, IoError, Lane, PortId, WaitReady};
use lvs_core::plan::LowBits;
use lvs_core::sched::SchedulerArgs;
use lvs_core::service::ServerState;
use lvs_core::session::SessionStore;
use lvs_core::shared::Shared;
use lvs_core::snapshot::Snapshot;
use lvs_core::time::Time;
use lvs_core::verdict::DropReason;
use lvs_director::{Director, DirectorConfig, Generation, Outputs, Peers};
use lvs_os::clock::monotonic_ns;
use std::sync::Arc;

/// Places looked at for expiry in each round that has carried packets. The store itself asks for no more
/// than a pass over all sessions in four seconds, so a round without packets may do all that is due.
const EXPIRE_BUDGET: u32 = 512;
/// Longest sleep: a wish of the supervisor is noticed after that at the latest.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// Packets and news taken from other workers in a round.
const TAKE_OVER: usize = 256;
/// How often counters are reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What the supervisor wishes.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Counts up: report the counters soon.
    pub(super) report: AtomicU64,
    /// End after a last report.
    pub(super) stop: AtomicBool,
}

/// One director and the names of its ports.
pub(super) struct Worker<'m> {
    director: Director<'m, LowBits>,
    names: Vec<String>,
    inbox: Inbox,
    bells: Bells,
}

/// What makes a worker one of several.
pub(super) struct Place {
    /// Its number and how many there are.
    pub(super) args: SchedulerArgs,
    /// Its rings to the others, when there are others.
    pub(super) peers: Option<Peers>,
    /// To wake and be woken.
    pub(super) bells: Bells,
    /// New configurations.
    pub(super) inbox: Inbox,
    /// What it shares with the others.
    pub(super) shared: Arc<Shared>,
}

impl<'m> Worker<'m> {
    /// A director with no session, in memory that was made for the configuration `layout`. Further
    /// configurations come through its inbox; ports are those of `layout` in all of them.
    pub(super) fn new(
        layout: &Config,
        snapshot: Arc<Snapshot>,
        seed: u64,
        memory: &'m mut [u8],
        place: Place,
    ) -> Result<Self, String> {
        let Place { args, peers, bells, inbox, shared } = place;
        let mut secrets = Secrets::new(seed);
        let plan = layout.worker_plan(args.worker).map_err(|error| error.to_string())?;
        let store = SessionStore::new(layout.worker_store(secrets.draw()), plan, memory)
            .map_err(|error| error.to_string())?;
        let isn_key = [secrets.draw(), secrets.draw()];
        let settings = DirectorConfig { isn_key, ..layout.director_config() };
        let generation = Generation::new(snapshot, args);
        let names = layout.ports.iter().map(|port| port.name.value.clone()).collect();
        let mut director = Director::sharing(settings, store, generation, shared);
        if let Some(peers) = peers {
            director.connect(peers);
        }
        Ok(Self { director, names, inbox, bells })
    }

    /// Carries packets until `control` says stop, and reports counters every second and at the end.
    pub(super) fn run<L: WaitReady>(
        &mut self,
        lane: &mut L,
        control: &Control,
        mut report: impl FnMut(Counts) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut burst = Burst::new();
        let mut out = Outputs::new(lane.port_count());
        let (mut report_at, mut answered) = (Time(0), 0);
        loop {
            self.inbox.take(&mut self.director);
            let now = Time(monotonic_ns());
            let received = self.round(now, lane, &mut burst, &mut out);
            let stop = control.stop.load(Ordering::Relaxed);
            let asked = control.report.load(Ordering::Relaxed);
            if stop || asked != answered || now >= report_at {
                answered = asked;
                report_at = now.after(REPORT_EVERY);
                report(self.counts(now, lane))?;
            }
            if stop {
                return Ok(());
            }
            if received == 0 {
                self.wait(now, lane)?;
            }
        }
    }

    /// One round over all ports; returns how many packets came.
    fn round<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        burst: &mut Burst<L::Buf>,
        out: &mut Outputs<L::Buf>,
    ) -> usize {
        let mut received = 0;
        for port in (0..lane.port_count()).map(PortId) {
            // A port that is down says so in its counters, and works again when it is up.
            received += lane.rx_burst(port, burst).unwrap_or(0);
            self.director.process(now, lane, port, burst, out);
        }
        received += self.director.take_over(now, lane, TAKE_OVER, out);
        self.director.expire(now, if received > 0 { EXPIRE_BUDGET } else { u32::MAX });
        self.director.tick(now, lane, out);
        out.flush(lane);
        if let Some(peers) = self.director.peers_mut() {
            peers.take_written().for_each(|worker| self.bells.ring(worker));
        }
        received
    }

    /// Sleeps until a packet comes or the director has something to do.
    fn wait<L: WaitReady>(&self, now: Time, lane: &mut L) -> Result<(), String> {
        let due = self.director.next_deadline(now);
        let until = due.map_or(LONGEST_WAIT, |due| due.since(now).min(LONGEST_WAIT));
        let micros = u32::try_from(until.as_micros()).unwrap_or(u32::MAX);
        self.bells.fall_asleep();
        let waiting = self.director.peers().is_some_and(Peers::waiting);
        let waited = if waiting { Ok(()) } else { lane.wait(micros) };
        self.bells.wake_up();
        match waited {
            Ok(()) | Err(IoError::LinkDown) => Ok(()),
            Err(error) => Err(format!("cannot wait for packets: {error}")),
        }
    }

    fn counts<L: Lane>(&self, now: Time, lane: &L) -> Counts {
        let ports = self.names.iter().zip((0..lane.port_count()).map(PortId));
        let ports: Vec<PortCounts> = ports
            .map(|(name, port)| {
                let stats = lane.stats(port);
                PortCounts {
                    name: name.clone(),
                    rx: stats.rx,
                    tx: stats.tx,
                    rx_missed: stats.rx_missed,
                    rx_truncated: stats.rx_truncated,
                    tx_rejected: stats.tx_rejected,
                }
            })
            .collect();
        let dropped = |reason: &DropReason| self.director.counters().dropped(*reason);
        let drops = DropReason::ALL.iter().filter(|reason| dropped(reason) > 0);
        let (rx, tx) = (ports.iter().map(|p| p.rx).sum(), ports.iter().map(|p| p.tx).sum());
        let counters = self.director.counters();
        let own = WorkerCounts {
            sessions: u64::from(self.director.store().len()),
            rx,
            tx,
            handed_over: counters.handed_over,
            taken_over: counters.taken_over,
        };
        let (servers, servers_left_out) = self.servers(now);
        Counts {
            servers,
            servers_left_out,
            workers: vec![own],
            sessions: u64::from(self.director.store().len()),
            leaving: self.leaving(),
            ports_in_use: self.director.store().ports_in_use(),
            rx,
            tx,
            drops: drops.map(|reason| (reason.id().to_owned(), dropped(reason))).collect(),
            client_address: counters
                .client_address()
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
            ports,
        }
    }

    /// What each server has, up to the most that fit a message, and how many more there are.
    fn servers(&self, now: Time) -> (Vec<ServerCounts>, u64) {
        let generation = self.director.generation();
        let snapshot = generation.snapshot();
        let mut counted = Vec::new();
        let mut left_out = 0;
        for server in snapshot.servers() {
            let count = generation.server_count(server.id).copied().unwrap_or_default();
            let removed = server.state == ServerState::Removed;
            if removed && count.active == 0 && count.inactive == 0 {
                continue;
            }
            if counted.len() >= MOST_SERVERS {
                left_out += 1;
                continue;
            }
            let (inbound, outbound) = (count.carried.inbound, count.carried.outbound);
            let service = snapshot.service(server.service).map(|service| service.key);
            counted.push(ServerCounts {
                service: service.map(|key| key.to_string()),
                address: server.addr.to_string(),
                removed,
                state: said(server.state),
                drain: self.drain(server.id, now),
                weight: server.weight.0,
                share: server.share,
                active: count.active,
                inactive: count.inactive,
                opened: count.carried.sessions,
                packets: [inbound.packets, outbound.packets],
                bytes: [inbound.bytes, outbound.bytes],
            });
        }
        (counted, left_out)
    }

    /// How far a server is with going away.
    fn drain(&self, server: ServerId, now: Time) -> Option<DrainCounts> {
        let drain = self.director.draining(server)?;
        let count = self.director.generation().server_count(server).copied().unwrap_or_default();
        let left = |deadline: Time| u64::try_from(deadline.since(now).as_millis());
        let left_ms = drain.deadline.map(|deadline| left(deadline).unwrap_or(u64::MAX));
        Some(DrainCounts { left_ms, reset: count.ended, moved: count.moved })
    }

    /// Sessions of servers that the configuration no longer has.
    fn leaving(&self) -> u64 {
        let generation = self.director.generation();
        let removed = generation.snapshot().servers().filter(|s| s.state == ServerState::Removed);
        let counts = removed.filter_map(|server| generation.server_count(server.id));
        counts.map(|count| u64::from(count.active) + u64::from(count.inactive)).sum()
    }
}

/// The state of a server in the words of the status.
const fn said(state: ServerState) -> message::ServerState {
    match state {
        ServerState::Draining { .. } => message::ServerState::Draining,
        ServerState::DownKill => message::ServerState::DownKill,
        ServerState::DownKeep => message::ServerState::DownKeep,
        ServerState::Removed => message::ServerState::Removed,
        _ => message::ServerState::Active,
    }
}
