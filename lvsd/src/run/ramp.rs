//! Slow start: a server that comes into a running service begins with a tenth of its weight and has all of it after
//! a while, tenth by tenth. Each step is a configuration like any other, only with other shares.

use crate::config::Config;
use core::time::Duration;
use lvs_core::addr::RealAddr;
use lvs_core::service::{ServerState, ServiceKey};
use lvs_core::snapshot::{ServerSpec, SnapshotSpec};
use lvs_core::time::Time;

/// Steps of a ramp.
const STEPS: u32 = 10;

/// A server on its way to its full share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Coming {
    service: ServiceKey,
    server: RealAddr,
    begun: Time,
    lasts: Duration,
}

impl Coming {
    /// The last of the steps is due when the time is over.
    fn step(&self) -> Duration {
        (self.lasts / (STEPS - 1)).max(Duration::from_nanos(1))
    }

    /// Steps behind it; the first is due at once.
    fn steps(&self, now: Time) -> u32 {
        let passed = now.since(self.begun).as_nanos() / self.step().as_nanos();
        u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1).min(STEPS)
    }

    /// When its next step is due.
    fn next(&self, now: Time) -> Time {
        self.begun.after(self.step() * self.steps(now))
    }
}

/// All servers that are on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Ramps {
    coming: Vec<Coming>,
}

impl Ramps {
    /// Takes note of a new configuration: servers that take sessions in it and did not before begin, those on their
    /// way go on, those that are gone or out are forgotten. A service that is new has no beginners: all are equal.
    pub(super) fn changed(
        &mut self,
        now: Time,
        before: &SnapshotSpec,
        after: &SnapshotSpec,
        config: &Config,
    ) {
        let known = core::mem::take(&mut self.coming);
        // A specification has the services in the order of the file.
        for (service, written) in after.services.iter().zip(&config.services) {
            let Some(lasts) = written.slow_start() else { continue };
            let Some(old) = before.services.iter().find(|old| old.key == service.key) else {
                continue;
            };
            for server in service.servers.iter().filter(|server| takes(server)) {
                let begun = known
                    .iter()
                    .find(|coming| coming.service == service.key && coming.server == server.addr);
                let there = old.servers.iter().any(|old| old.addr == server.addr && takes(old));
                let begun = match begun {
                    Some(known) if there => known.begun,
                    _ if there => continue,
                    _ => now,
                };
                let (service, server) = (service.key, server.addr);
                self.coming.push(Coming { service, server, begun, lasts });
            }
        }
        self.forget(now);
    }

    /// Sets the shares of the moment.
    pub(super) fn apply(&mut self, now: Time, spec: &mut SnapshotSpec) {
        self.forget(now);
        for coming in &self.coming {
            let services = spec.services.iter_mut().filter(|s| s.key == coming.service);
            let servers = services.flat_map(|service| &mut service.servers);
            for server in servers.filter(|server| server.addr == coming.server) {
                server.share = u8::try_from(coming.steps(now) * 100 / STEPS).unwrap_or(100);
            }
        }
    }

    /// How long until the next step; `None`: nobody is on his way.
    pub(super) fn next(&self, now: Time) -> Option<Duration> {
        let next = self.coming.iter().map(|coming| coming.next(now)).min()?;
        Some(next.since(now))
    }

    /// Drops who has arrived.
    fn forget(&mut self, now: Time) {
        self.coming.retain(|coming| coming.steps(now) < STEPS);
    }
}

/// Whether a server takes new sessions.
fn takes(server: &ServerSpec) -> bool {
    server.state == ServerState::Active && server.weight.0 > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const HEAD: &str = "[[port]]\nname = \"a\"\naddresses = [\"10.0.0.1/24\"]\n";

    fn loaded(servers: &str) -> (Config, SnapshotSpec) {
        service("wlc", "slow_start = \"90s\"\n", servers)
    }

    fn service(scheduler: &str, keys: &str, servers: &str) -> (Config, SnapshotSpec) {
        service_at("address = \"10.0.0.80:80\"", scheduler, keys, servers)
    }

    fn service_at(at: &str, scheduler: &str, keys: &str, servers: &str) -> (Config, SnapshotSpec) {
        let servers: String = servers
            .split_whitespace()
            .map(|server| {
                let (last, state) = server.split_once(':').unwrap_or((server, "active"));
                let address = format!("address = \"10.0.0.{last}:80\"\n");
                format!("[[service.server]]\n{address}state = \"{state}\"\n")
            })
            .collect();
        let text = format!(
            "{HEAD}[[service]]\n{at}\nforwarding = \"nat\"\nscheduler = \"{scheduler}\"\n{keys}{servers}"
        );
        let config = config::parse("test", &text).unwrap_or_else(|r| panic!("{}", r.render(false)));
        let spec = config::specification(&config.config).unwrap();
        (config.config, spec)
    }

    const fn at(seconds: u64) -> Time {
        Time(1_000_000_000_000 + seconds * 1_000_000_000)
    }

    fn shares(ramps: &mut Ramps, now: Time, spec: &SnapshotSpec) -> Vec<u8> {
        let mut spec = spec.clone();
        ramps.apply(now, &mut spec);
        spec.services[0].servers.iter().map(|server| server.share).collect()
    }

    #[test]
    fn a_server_that_is_added_has_a_tenth_at_once_and_all_when_its_time_is_over() {
        let ((_, before), (config, after)) = (loaded("11 12"), loaded("11 12 13"));
        let mut ramps = Ramps::default();
        ramps.changed(at(0), &before, &after, &config);
        for (second, share) in [(0, 10), (9, 10), (10, 20), (45, 50), (89, 90)] {
            assert_eq!(shares(&mut ramps, at(second), &after), [100, 100, share], "{second} s");
            let next = ramps.next(at(second)).unwrap();
            assert_eq!(next, Duration::from_secs(10 - second % 10), "{second} s");
        }
        assert_eq!(shares(&mut ramps, at(90), &after), [100; 3]);
        assert_eq!(ramps.next(at(90)), None);
    }

    #[test]
    fn a_service_by_mark_starts_slowly_as_well() {
        let marked = |servers| service_at("mark = 7", "wlc", "slow_start = \"90s\"\n", servers);
        let ((_, before), (config, after)) = (marked("11 12"), marked("11 12 13"));
        let mut ramps = Ramps::default();
        ramps.changed(at(0), &before, &after, &config);
        assert_eq!(shares(&mut ramps, at(0), &after), [100, 100, 10]);
    }

    #[test]
    fn a_reload_meanwhile_begins_nothing_anew() {
        let ((_, before), (config, after)) = (loaded("11 12"), loaded("11 12 13"));
        let mut ramps = Ramps::default();
        ramps.changed(at(0), &before, &after, &config);
        ramps.changed(at(30), &after, &after, &config);
        assert_eq!(shares(&mut ramps, at(30), &after), [100, 100, 40]);
        let (config, later) = loaded("12 13 14");
        ramps.changed(at(50), &after, &later, &config);
        assert_eq!(shares(&mut ramps, at(50), &later), [100, 60, 10]);
    }

    #[test]
    fn who_comes_back_begins_and_who_goes_is_forgotten() {
        let all = loaded("11 12");
        for state in ["draining", "down-keep", "down-kill"] {
            let out = loaded(&format!("11 12:{state}"));
            let mut ramps = Ramps::default();
            ramps.changed(at(0), &all.1, &out.1, &out.0);
            assert_eq!(ramps.next(at(0)), None, "{state}");
            ramps.changed(at(1), &out.1, &all.1, &all.0);
            assert_eq!(shares(&mut ramps, at(1), &all.1), [100, 10], "{state}");
            ramps.changed(at(40), &all.1, &out.1, &out.0);
            assert_eq!(ramps.next(at(40)), None, "{state}");
            ramps.changed(at(41), &out.1, &all.1, &all.0);
            assert_eq!(shares(&mut ramps, at(41), &all.1), [100, 10], "{state}: anew");
        }
    }

    #[test]
    fn services_that_are_new_or_share_otherwise_have_no_slow_start() {
        let full = |before: (Config, SnapshotSpec), after: (Config, SnapshotSpec)| {
            let mut ramps = Ramps::default();
            ramps.changed(at(0), &before.1, &after.1, &after.0);
            assert_eq!(ramps.next(at(0)), None);
        };
        let mut nothing = loaded("11");
        nothing.1.services.clear();
        full(nothing, loaded("11 12"));
        full(loaded("11"), service("wlc", "", "11 12"));
        for scheduler in ["rr", "lc", "sh", "mh", "maglev", "conhash", "dh", "lblc", "fo", "ovf"] {
            full(loaded("11"), service(scheduler, "slow_start = \"90s\"\n", "11 12"));
        }
    }
}
