//! The threads of the data process: one for each worker, started in order, and their counters as one.

use super::bells::Bells;
use super::message::Counts;
use super::swap::{self, Supply};
use super::worker::{Control, Place, Worker};
use crate::config::{Config, Secrets};
use core::sync::atomic::Ordering;
use lvs_core::id::WorkerId;
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::sched::SchedulerArgs;
use lvs_core::shared::Shared;
use lvs_core::snapshot::Snapshot;
use lvs_director::{Peers, RingSize};
use lvs_io_afpacket::{PacketLane, PortSockets, Rings};
use lvs_os::cpu;
use std::sync::{Arc, mpsc};
use std::thread;

/// What all workers are made of.
pub(super) struct Work<'c> {
    /// What the session memory was made for.
    pub(super) layout: &'c Config,
    /// The first configuration.
    pub(super) first: Arc<Snapshot>,
    /// Seed of all secrets.
    pub(super) seed: u64,
    /// Wishes of the supervisor.
    pub(super) control: Arc<Control>,
}

/// What a worker says.
enum Said {
    /// It has its sockets and waits for the start.
    Prepared,
    Counts(Counts),
    Ended(Result<(), String>),
}

/// The ends of one worker's threads of talk.
struct Talk {
    number: usize,
    said: mpsc::Sender<(usize, Said)>,
    /// Says when to start; nothing comes when there is no start.
    start: mpsc::Receiver<()>,
}

/// Runs a worker for each part of `sockets` until the supervisor says stop. `ready` is called when all are
/// prepared, with the ways of new configurations; `report` with the counters of all together.
pub(super) fn run(
    work: &Work<'_>,
    sockets: Vec<Vec<PortSockets>>,
    memory: &mut [u8],
    ready: impl FnOnce(Vec<Supply>) -> Result<(), String>,
    report: impl FnMut(Counts) -> Result<(), String>,
) -> Result<(), String> {
    let count = u8::try_from(sockets.len()).map_err(|_| "too many workers")?;
    let mut memory = parts(memory, work.layout)?.into_iter();
    let bells = Bells::hang(count).map_err(|error| format!("no sockets for workers: {error}"))?;
    let mut peers = Peers::connect(u16::from(count), RingSize::default()).into_iter();
    // A secret that no worker draws for itself.
    let secret = Secrets::new(!work.seed).draw();
    let shared = Arc::new(Shared::new(&work.layout.shared_config(secret)));
    let cpus = cpu::allowed().unwrap_or_default();
    let (said, heard) = mpsc::channel();
    thread::scope(|scope| {
        let (mut supplies, mut starts) = (Vec::new(), Vec::new());
        for ((number, sockets), bells) in sockets.into_iter().enumerate().zip(bells) {
            let (supply, inbox) = swap::pair();
            let (start, begin) = mpsc::channel();
            let worker = WorkerId(u8::try_from(number).unwrap_or(0));
            let peers = peers.next().filter(|_| count > 1);
            let args = SchedulerArgs { worker, workers: count };
            let place = Place { args, peers, bells, inbox, shared: Arc::clone(&shared) };
            let memory = memory.next().ok_or("the session memory has too few parts")?;
            let cpu = cpus.get(number).copied().filter(|_| count > 1 && cpus.len() >= count.into());
            let talk = Talk { number, said: said.clone(), start: begin };
            scope.spawn(move || {
                let (number, said) = (talk.number, talk.said.clone());
                let ended = one(work, sockets, memory, place, cpu, &talk);
                let _ = said.send((number, Said::Ended(ended)));
            });
            // In order: who maps first is the first member of the fanout group.
            if let Ok((_, Said::Ended(Err(why)))) = heard.recv() {
                return Err(why);
            }
            supplies.push(supply);
            starts.push(start);
        }
        ready(supplies)?;
        for start in &starts {
            // One that has ended meanwhile has said so.
            let _ = start.send(());
        }
        let outcome = listen(&heard, count.into(), report);
        // The others must not go on alone.
        work.control.stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// The memory of each worker.
fn parts<'m>(memory: &'m mut [u8], layout: &Config) -> Result<Vec<&'m mut [u8]>, String> {
    let sizes = layout.worker_memory().map_err(|error| error.to_string())?;
    let mut rest = memory;
    let mut parts = Vec::new();
    for size in sizes {
        let (part, behind) =
            rest.split_at_mut_checked(size).ok_or("the session memory is too small")?;
        parts.push(part);
        rest = behind;
    }
    Ok(parts)
}

/// The life of one worker.
fn one(
    work: &Work<'_>,
    sockets: Vec<PortSockets>,
    memory: &mut [u8],
    place: Place,
    cpu: Option<usize>,
    talk: &Talk,
) -> Result<(), String> {
    if let Some(Err(error)) = cpu.map(cpu::pin) {
        super::say(&format!("worker {}: stays on no processor of its own: {error}", talk.number));
    }
    let alone = place.args.workers == 1;
    let ear = place.bells.ear().map_err(|error| format!("no descriptor: {error}"))?;
    let mut rings = Rings::map(sockets).map_err(|error| error.to_string())?;
    let mut worker = Worker::new(work.layout, Arc::clone(&work.first), work.seed, memory, place)?;
    let _ = talk.said.send((talk.number, Said::Prepared));
    if talk.start.recv().is_err() {
        return Ok(());
    }
    let mut lane = rings.lane();
    if !alone {
        lane = lane.wake_by(ear);
        forget(&mut lane);
    }
    let gone = |_| "the data process ends".to_owned();
    worker.run(&mut lane, &work.control, |counts| {
        talk.said.send((talk.number, Said::Counts(counts))).map_err(gone)
    })
}

/// Drops what came while not all workers were members of the group: it was spread over fewer.
fn forget(lane: &mut PacketLane<'_>) {
    let mut burst = Burst::new();
    for port in (0..lane.port_count()).map(PortId) {
        // A ring has at most 65536 slots.
        for _ in 0..65_536 {
            if !matches!(lane.rx_burst(port, &mut burst), Ok(1..)) {
                break;
            }
            lane.free_burst(&mut burst);
        }
    }
}

/// Passes counters on, once all workers have said theirs, until all have ended well or one badly. A worker
/// that hangs says nothing, so that the supervisor hears nothing either and ends the process.
fn listen(
    heard: &mpsc::Receiver<(usize, Said)>,
    count: usize,
    mut report: impl FnMut(Counts) -> Result<(), String>,
) -> Result<(), String> {
    let mut latest: Vec<Option<Counts>> = vec![None; count];
    let mut fresh = vec![false; count];
    let mut running = count;
    while running > 0 {
        let (number, said) = heard.recv().map_err(|_| "no worker is left")?;
        match said {
            Said::Prepared => {}
            Said::Ended(ended) => {
                ended?;
                running -= 1;
            }
            Said::Counts(counts) => {
                if let (Some(place), Some(fresh)) = (latest.get_mut(number), fresh.get_mut(number))
                {
                    (*place, *fresh) = (Some(counts), true);
                }
                if fresh.iter().all(|fresh| *fresh) {
                    fresh.fill(false);
                    report(folded(&latest))?;
                }
            }
        }
    }
    // Counters that came after the last full round.
    if fresh.contains(&true) { report(folded(&latest)) } else { Ok(()) }
}

fn folded(latest: &[Option<Counts>]) -> Counts {
    let mut all = latest.iter().flatten();
    let mut sum = all.next().cloned().unwrap_or_default();
    all.for_each(|counts| sum.fold(counts));
    sum
}
