//! The way of new configurations into the workers of the data process, and of the steps of a slow start between two
//! of them.

use super::ramp::Ramps;
use super::swap::{self, Supply};
use crate::config::{self, Config};
use lvs_core::id::WorkerId;
use lvs_core::sched::SchedulerArgs;
use lvs_core::snapshot::{Snapshot, SnapshotSpec};
use lvs_core::time::Time;
use lvs_director::{DirectorConfig, ErrorRate, Generation};
use lvs_os::clock::monotonic_ns;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What is in effect.
pub(super) struct Reloads {
    supplies: Vec<Supply>,
    present: Arc<Snapshot>,
    /// As it was written: with all servers at their full shares.
    spec: SnapshotSpec,
    ramps: Ramps,
}

impl Reloads {
    /// The first configuration is in effect.
    pub(super) fn new(supplies: Vec<Supply>, present: Arc<Snapshot>, spec: SnapshotSpec) -> Self {
        Self { supplies, present, spec, ramps: Ramps::default() }
    }

    /// Starts the thread that makes the steps.
    pub(super) fn with_steps(self) -> Stepped {
        let stepped = Stepped(Arc::new((Mutex::new(self), Condvar::new())));
        let climbing = stepped.clone();
        thread::spawn(move || climbing.climb());
        stepped
    }

    fn install(&mut self, config: &Config) -> Result<(), String> {
        let spec = config::specification(config).map_err(|error| error.to_string())?;
        let mut ramps = self.ramps.clone();
        ramps.changed(now(), &self.spec, &spec, config);
        let DirectorConfig { errors, strays, .. } = config.director_config();
        self.put(&spec, &mut ramps, Some((errors, strays)))?;
        (self.spec, self.ramps) = (spec, ramps);
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let (spec, mut ramps) = (self.spec.clone(), core::mem::take(&mut self.ramps));
        let put = self.put(&spec, &mut ramps, None);
        self.ramps = ramps;
        put
    }

    /// Puts a configuration into effect, with the shares of the moment, and with other rates if there are any.
    fn put(
        &mut self,
        spec: &SnapshotSpec,
        ramps: &mut Ramps,
        rates: Option<(ErrorRate, ErrorRate)>,
    ) -> Result<(), String> {
        let mut shared = spec.clone();
        ramps.apply(now(), &mut shared);
        let next = shared.build(Some(&self.present)).map_err(|error| error.to_string())?;
        let next = Arc::new(next);
        let workers = u8::try_from(self.supplies.len()).unwrap_or(1);
        for (number, supply) in (0..).zip(&mut self.supplies) {
            let worker = SchedulerArgs { worker: WorkerId(number), workers };
            let generation = Generation::new(Arc::clone(&next), worker);
            let swapped = supply.swap(match rates {
                Some((errors, strays)) => generation.with_rates(errors, strays),
                None => generation,
            });
            swapped.map_err(|swap::Ended| "a worker has ended")?;
        }
        self.present = next;
        Ok(())
    }
}

/// Shared by who listens to the supervisor and who makes the steps.
#[derive(Clone)]
pub(super) struct Stepped(Arc<(Mutex<Reloads>, Condvar)>);

impl Stepped {
    fn lock(&self) -> MutexGuard<'_, Reloads> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a configuration into effect.
    pub(super) fn install(&self, config: &Config) -> Result<(), String> {
        let installed = self.lock().install(config);
        self.0.1.notify_one();
        installed
    }

    /// Makes each step when it is due; ends when a worker has ended.
    fn climb(&self) {
        let mut reloads = self.lock();
        loop {
            let Some(left) = reloads.ramps.next(now()) else {
                reloads = self.0.1.wait(reloads).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.0.1.wait_timeout(reloads, left);
            let (back, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            reloads = back;
            if timeout.timed_out() && reloads.step().is_err() {
                return;
            }
        }
    }
}

fn now() -> Time {
    Time(monotonic_ns())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::time::Duration;
    use lvs_core::plan::Whole;
    use lvs_core::session::{HeapMemory, SessionStore};
    use lvs_director::Director;
    use std::time::Instant;

    fn config(servers: &[u8]) -> Config {
        let mut text = "[[port]]\nname = \"a\"\naddresses = [\"10.0.0.1/24\"]\n[[service]]\n\
                        address = \"10.0.0.80:80\"\nforwarding = \"nat\"\nslow_start = \"900ms\"\n"
            .to_owned();
        for last in servers {
            text += &format!("[[service.server]]\naddress = \"10.0.0.{last}:80\"\n");
        }
        config::parse("test", &text).unwrap_or_else(|r| panic!("{}", r.render(false))).config
    }

    #[test]
    fn a_worker_gets_the_steps_of_a_new_server_by_themselves() {
        let first = config::specification(&config(&[11])).unwrap();
        let present = Arc::new(first.clone().build(None).unwrap());
        let (supply, mut inbox) = swap::pair();
        let reloads = Reloads::new(vec![supply], Arc::clone(&present), first).with_steps();
        let asking = thread::spawn(move || reloads.install(&config(&[11, 12])));
        let sizes = config(&[11]).store_config(1);
        let plan = Whole::default();
        let mut memory = HeapMemory::new(SessionStore::memory_for(&sizes, &plan).unwrap());
        let store = SessionStore::new(sizes, plan, memory.bytes()).unwrap();
        let args = SchedulerArgs { worker: WorkerId(0), workers: 1 };
        let generation = Generation::new(present, args);
        let mut director = Director::new(DirectorConfig::default(), store, generation);
        let mut seen = vec![vec![100u8]];
        let begin = Instant::now();
        while seen.last() != Some(&vec![100, 100]) && begin.elapsed() < Duration::from_secs(60) {
            inbox.take(&mut director);
            let snapshot = director.generation().snapshot();
            let shares: Vec<u8> = snapshot.servers().map(|server| server.share).collect();
            if seen.last() != Some(&shares) {
                seen.push(shares);
            }
            thread::sleep(Duration::from_millis(1));
        }
        asking.join().unwrap().unwrap();
        assert!(matches!(seen[1][..], [100, 10..100]), "{seen:?}");
        // A busy machine may miss some; none comes twice or out of order.
        assert!(seen[1..].windows(2).all(|pair| pair[0][1] < pair[1][1]), "{seen:?}");
        assert_eq!(seen.last().unwrap(), &[100, 100]);
        assert!(seen.len() > 3, "{seen:?}");
    }
}
