//! The lab about persistence: a client's connections go to the server that it had, from the first one
//! until the time-out after the last, unless that server has no weight or goes away.

use super::report::{Check, Report};
use super::reuse::CLIENTS;
use super::run::{client, counters, status};
use super::scenario::{CLIENT, DIRECTOR, SERVERS, Server};
use super::world::World;
use super::{Problem, change, checks, spread};
use core::time::Duration;
use serde_json::Value;
use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

/// Of the service: a shorter time than the 600 s that it would have, and a server at weight 0 loses its
/// clients.
pub(super) const KEYS: &str = "timeout = \"5s\", expire_quiescent = true";
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two rounds of visits: two such pauses are longer than the time-out.
const PAUSE: Duration = Duration::from_secs(3);
/// The sessions end one second after their last packet, the clients are forgotten up to 0.14 s late.
const BEYOND: Duration = Duration::from_millis(6500);
/// Connections of each client in a round.
const ROUNDS: usize = 5;
/// Round robin gives each server half of the clients; several workers take turns by themselves.
const LEAST_SHARE: usize = 2;

/// Where each client was served; `None` when a visit failed or a client met two servers.
type Homes = Option<BTreeMap<String, String>>;

fn homes(seen: &Value) -> Homes {
    let by_client = seen["by_client"].as_object().filter(|_| seen["failed"] == 0)?;
    let home = |(client, servers): (&String, &Value)| {
        let mut servers = servers.as_object()?.iter();
        let (server, count) = servers.next().filter(|_| servers.next().is_none())?;
        (*count == ROUNDS).then(|| (client.clone(), server.clone()))
    };
    let homes: BTreeMap<_, _> = by_client.iter().map(home).collect::<Option<_>>()?;
    (homes.len() == CLIENTS.len()).then_some(homes)
}

/// How many clients have that server.
fn share(homes: &Homes, server: &str) -> usize {
    homes.iter().flat_map(BTreeMap::values).filter(|home| *home == server).count()
}

/// What one round of visits has to show.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// Both servers have clients.
    Spread,
    /// All are where they were.
    Same(&'a Homes),
    /// All are at this server.
    AllAt(&'a str),
}

fn judge(id: &'static str, when: &str, seen: &Value, wanted: Wanted<'_>) -> Check {
    let homes = homes(seen);
    let met = homes.is_some()
        && match wanted {
            Wanted::Spread => SERVERS.iter().all(|s| share(&homes, s.name) >= LEAST_SHARE),
            Wanted::Same(before) => *before == homes,
            Wanted::AllAt(server) => share(&homes, server) == CLIENTS.len(),
        };
    let shares = SERVERS.each_ref().map(|s| format!("{} {}", s.name, share(&homes, s.name)));
    let what = if homes.is_none() {
        format!("{when}: not every client met one server alone: {seen}")
    } else {
        format!(
            "{when}: {} clients with {ROUNDS} connections each, clients by server: {}",
            CLIENTS.len(),
            shares.join(", ")
        )
    };
    Check::new(id, met, what)
}

fn visits(world: &World) -> Result<Value, Problem> {
    let sources = CLIENTS.map(|address| address.to_string());
    let rounds = ROUNDS.to_string();
    let mut arguments = vec!["--visits", &rounds];
    arguments.extend(sources.iter().flat_map(|source| ["--source", source]));
    Ok(client(world, &arguments)?["visits"].clone())
}

/// Name of the check, the server that is changed and how, in words, and the server where all clients are then.
type Step<'s> = (&'s str, &'s Server, &'s str, &'s str, &'s Server);

/// How often a part is begun anew because the machine stood still.
const ATTEMPTS: usize = 5;

/// Visits, and whether two rounds lay further apart than the time-out: then clients may rightly have been
/// forgotten, and what was seen says nothing.
struct Rounds<'w> {
    world: &'w World,
    last: Option<Instant>,
    late: bool,
}

impl<'w> Rounds<'w> {
    const fn new(world: &'w World) -> Self {
        Self { world, last: None, late: false }
    }

    fn visits(&mut self) -> Result<Value, Problem> {
        let begin = Instant::now();
        let seen = visits(self.world)?;
        // Every connection of the round before began after that round did.
        self.late |= is_late(self.last.map(|last| last.elapsed()));
        self.last = Some(begin);
        Ok(seen)
    }
}

fn is_late(since_the_round_before: Option<Duration>) -> bool {
    since_the_round_before.is_some_and(|passed| passed >= TIMEOUT)
}

/// Does a part again until it was quick enough, or the attempts are used up.
fn in_time(
    world: &World,
    report: &mut Report,
    part: impl Fn(&mut Rounds<'_>) -> Result<Vec<Check>, Problem>,
) -> Result<(), Problem> {
    for attempt in 1..=ATTEMPTS {
        let mut rounds = Rounds::new(world);
        let checks = part(&mut rounds)?;
        if !rounds.late || checks.iter().all(|check| check.pass) || attempt == ATTEMPTS {
            report.extend(checks);
            return Ok(());
        }
    }
    Ok(())
}

/// All parts, in the order in which they build on each other.
pub(super) fn check_all(world: &World, report: &mut Report) -> Result<(), Problem> {
    let before = counters(world, DIRECTOR)?;
    let [one, two] = &SERVERS;
    in_time(world, report, |rounds| {
        let begin = Instant::now();
        let seen = rounds.visits()?;
        let first = homes(&seen);
        let mut checks = vec![judge("spread", "at first", &seen, Wanted::Spread)];
        for id in ["same", "last-packet"] {
            thread::sleep(PAUSE);
            let seen = rounds.visits()?;
            let passed = begin.elapsed().as_secs_f64();
            let when = format!("{passed:.1} s later, time-out {} s", TIMEOUT.as_secs());
            checks.push(judge(id, &when, &seen, Wanted::Same(&first)));
        }
        Ok(checks)
    })?;
    let steps = |pair: [Step<'static>; 2]| {
        move |rounds: &mut Rounds<'_>| {
            let mut checks = Vec::new();
            for (id, server, keys, when, home) in pair {
                change::server(rounds.world, server, keys)?;
                checks.push(judge(id, when, &rounds.visits()?, Wanted::AllAt(home.name)));
            }
            Ok(checks)
        }
    };
    in_time(
        world,
        report,
        steps([
            ("weight-0", one, "weight = 0", "server1 at weight 0", two),
            ("stays", one, "weight = 1", "its weight back", two),
        ]),
    )?;
    in_time(
        world,
        report,
        steps([
            ("draining", two, "state = \"draining\"", "server2 draining", one),
            ("active", two, "weight = 1", "server2 active again", one),
        ]),
    )?;
    thread::sleep(BEYOND);
    let when = format!("{:.1} s without a connection", BEYOND.as_secs_f64());
    report.add(judge("expired", &when, &visits(world)?, Wanted::Spread));
    report.extend(spread::check(&status(world)));
    report.add(checks::silence(&before, &counters(world, DIRECTOR)?));
    let mut ends = vec![(CLIENT, counters(world, CLIENT)?)];
    for server in &SERVERS {
        ends.push((server.name, counters(world, server.name)?));
    }
    report.add(checks::checksums(&ends));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    /// Clients in turn at the servers of these names.
    fn seen(at: &[&str]) -> Value {
        let visits = CLIENTS.iter().zip(at.iter().cycle());
        let by_client: Map<String, Value> =
            visits.map(|(c, s)| (c.to_string(), json!({ *s: ROUNDS }))).collect();
        json!({ "by_client": by_client, "failed": 0, "examples": [] })
    }

    fn passes(seen: &Value, wanted: Wanted<'_>) -> bool {
        judge("x", "now", seen, wanted).pass
    }

    #[test]
    fn a_round_passes_for_what_it_shows_and_nothing_else() {
        let (both, one) = (seen(&["server1", "server2"]), seen(&["server1"]));
        assert!(passes(&both, Wanted::Spread) && !passes(&one, Wanted::Spread));
        assert!(passes(&one, Wanted::AllAt("server1")) && !passes(&both, Wanted::AllAt("server1")));
        assert!(passes(&both, Wanted::Same(&homes(&both))));
        assert!(!passes(&one, Wanted::Same(&homes(&both))));
    }

    #[test]
    fn a_client_at_two_servers_a_failed_visit_and_a_missing_client_have_no_home() {
        let mut torn = seen(&["server1", "server2"]);
        torn["by_client"]["10.0.0.21"] = json!({ "server1": ROUNDS - 1, "server2": 1 });
        let mut failed = seen(&["server1", "server2"]);
        failed["failed"] = json!(1);
        let mut few = seen(&["server1", "server2"]);
        few["by_client"].as_object_mut().unwrap().remove("10.0.0.21");
        for seen in [torn, failed, few, Value::Null] {
            assert_eq!(homes(&seen), None);
            assert!(!passes(&seen, Wanted::Spread));
            assert!(!passes(&seen, Wanted::Same(&None)), "nothing is not the same as nothing");
        }
    }

    #[test]
    fn rounds_further_apart_than_the_timeout_say_nothing() {
        assert!(!is_late(None) && !is_late(Some(TIMEOUT - Duration::from_millis(1))));
        assert!(is_late(Some(TIMEOUT)));
    }

    #[test]
    fn the_pauses_lie_within_the_timeout_and_together_beyond_it() {
        assert!(
            PAUSE < TIMEOUT && PAUSE * 2 > TIMEOUT && BEYOND > TIMEOUT + Duration::from_secs(1)
        );
        assert!(KEYS.contains(&format!("\"{}s\"", TIMEOUT.as_secs())));
    }
}
