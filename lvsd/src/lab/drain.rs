//! The lab about a server that goes away: `draining` with a deadline, put into effect by a reload while
//! downloads, idle connections and new visits are under way.

use super::report::{Check, Report};
use super::reuse::{CLIENTS, grown, peers};
use super::run::{counters, status};
use super::scenario::{CLIENT, DIRECTOR, SERVERS, VIP};
use super::world::{self, World};
use super::{Problem, change, checks};
use core::time::Duration;
use lvs_os::clock;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::Instant;

/// Of the server that goes away.
const KEYS: &str = "state = \"draining\"\ndrain_for = \"3s\"";
const DEADLINE: Duration = Duration::from_secs(3);
/// Downloads, and as many idle connections; round robin gives each server half of both.
const EACH: usize = 8;
/// Before the reload, and after the deadline.
const CALM: Duration = Duration::from_millis(700);
/// After the deadline, on a busy machine; the status is up to a second old.
const PATIENCE: Duration = Duration::from_secs(6);
/// Visits before and after the reload, at least; each takes some 25 ms.
const LEAST_VISITS: usize = 10;

/// The lab's client while its connections stay.
struct Staying(Child, BufReader<ChildStdout>);

impl Staying {
    fn open(world: &World) -> Result<Self, Problem> {
        let failed = |e: std::io::Error| Problem::failed(CLIENT, e);
        let mut command = world.command(CLIENT, world::own_program().map_err(failed)?)?;
        command.args(["lab", "client", "--stay", &EACH.to_string(), "--target", &VIP.to_string()]);
        for source in CLIENTS {
            command.args(["--source", &source.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let out =
            child.stdout.take().ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        let mut staying = Self(child, BufReader::new(out));
        let mut line = String::new();
        staying.1.read_line(&mut line).map_err(failed)?;
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        if said["open"] == 2 * EACH {
            Ok(staying)
        } else {
            Err(Problem::Failed("the connections that are to stay could not be opened".to_owned()))
        }
    }

    /// What became of them.
    fn end(mut self) -> Result<Value, Problem> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.1.read_to_string(&mut text).map_err(|e| Problem::failed(CLIENT, e))?;
        let said: Value = serde_json::from_str(&text).map_err(|e| Problem::failed(CLIENT, e))?;
        Ok(said["stay"].clone())
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// When the reload was asked for and when it was in effect, by the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Times {
    asked: u64,
    applied: u64,
}

/// What the status tells of the first server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    sessions: u64,
    /// Milliseconds to its deadline, while it is draining.
    left_ms: Option<u64>,
    reset: u64,
}

fn told(status: &Value) -> Option<Told> {
    let servers = status["servers"].as_array()?;
    let address = SERVERS[0].address.to_string();
    let server = servers.iter().find(|server| server["address"] == address.as_str())?;
    let draining = server["state"] == "draining";
    Some(Told {
        sessions: server["active"].as_u64()? + server["inactive"].as_u64()?,
        left_ms: server["drain"]["left_ms"].as_u64().filter(|_| draining),
        reset: server["drain"]["reset"].as_u64().unwrap_or(0),
    })
}

/// The whole story.
pub(super) fn check_all(world: &World, report: &mut Report) -> Result<(), Problem> {
    let before = counters(world, DIRECTOR)?;
    let peers_before = peers(world)?;
    let staying = Staying::open(world)?;
    thread::sleep(CALM);
    let asked = clock::monotonic_ns();
    change::server(world, &SERVERS[0], KEYS)?;
    let times = Times { asked, applied: clock::monotonic_ns() };
    let told = watch(world);
    thread::sleep(CALM);
    let seen = staying.end()?;
    let all = Vec::new();
    let connections = seen["connections"].as_array().unwrap_or(&all);
    let (leaving, others): (Vec<_>, Vec<_>) =
        connections.iter().partition(|c| c["server"] == SERVERS[0].name);
    report.add(unbroken(&leaving, &others, times));
    report.add(visits(seen["visits"].as_array().unwrap_or(&all), times));
    report.add(deadline(&leaving, times));
    let failed = grown(&peers_before, &peers(world)?, "failed");
    let what = format!("server1's kernel saw {failed} of {} connections reset", leaving.len());
    report.add(Check::new("server-told", failed == leaving.len() as u64 && failed > 0, what));
    report.add(moved(&leaving));
    report.add(progress(&told, leaving.len()));
    report.add(checks::silence(&before, &counters(world, DIRECTOR)?));
    let mut ends = vec![(CLIENT, counters(world, CLIENT)?)];
    for server in &SERVERS {
        ends.push((server.name, counters(world, server.name)?));
    }
    report.add(checks::checksums(&ends));
    Ok(())
}

/// Reads the status until the server has no session left; what it told, in order, without repetitions.
fn watch(world: &World) -> Vec<Told> {
    let mut told = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < DEADLINE + PATIENCE {
        let now = self::told(&status(world));
        if now != told.last().copied() {
            told.extend(now);
        }
        if now.is_some_and(|now| now.sessions == 0) && begin.elapsed() >= DEADLINE {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    told
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn unbroken(leaving: &[&Value], others: &[&Value], times: Times) -> Check {
    let earliest = times.asked + nanoseconds(DEADLINE);
    let early =
        leaving.iter().filter(|c| c["broken_ns"].as_u64().is_some_and(|at| at < earliest)).count();
    let lost = others.iter().filter(|c| !c["broken_ns"].is_null()).count();
    let wrong = leaving.iter().chain(others).filter(|c| {
        c["right"] != true || (c["download"] == true && c["bytes"].as_u64().unwrap_or(0) == 0)
    });
    let wrong = wrong.count();
    let bytes: u64 = leaving.iter().filter_map(|c| c["bytes"].as_u64()).sum();
    let both =
        |all: &[&Value]| [true, false].iter().all(|d| all.iter().any(|c| c["download"] == *d));
    let what = format!(
        "{} downloads and idle connections of server1 ({} MB) and {} of server2: {early} broken before the \
         deadline of {} s, {lost} of server2 ever, {wrong} with wrong bytes",
        leaving.len(),
        bytes / 1_000_000,
        others.len(),
        DEADLINE.as_secs(),
    );
    let pass = early == 0 && lost == 0 && wrong == 0 && both(leaving) && both(others);
    Check::new("unbroken", pass, what).figure("early", early).figure("lost", lost)
}

fn visits(seen: &[Value], times: Times) -> Check {
    let begun = |v: &Value| v["begun_ns"].as_u64().unwrap_or(0);
    let failed = seen.iter().filter(|v| !v["error"].is_null()).count();
    let count = |server: &str, of: &dyn Fn(&Value) -> bool| {
        seen.iter().filter(|v| of(v) && v["server"] == server).count()
    };
    let [one, two] = SERVERS.each_ref().map(|server| server.name);
    let (old, new) = (|v: &Value| begun(v) < times.asked, |v: &Value| begun(v) >= times.applied);
    let before = [count(one, &old), count(two, &old)];
    let after = [count(one, &new), count(two, &new)];
    let what = format!(
        "{} new connections, {failed} failed; to server1 and server2 before the reload {} and {}, after \
         it {} and {}",
        seen.len(),
        before[0],
        before[1],
        after[0],
        after[1],
    );
    let enough = before[0] > 0 && before[0] + before[1] >= LEAST_VISITS && after[1] >= LEAST_VISITS;
    Check::new("new-ones", failed == 0 && after[0] == 0 && enough, what).figure("failed", failed)
}

fn deadline(leaving: &[&Value], times: Times) -> Check {
    let reset = leaving.iter().filter(|c| c["reset"] == true).count();
    let ends: Vec<u64> = leaving.iter().filter_map(|c| c["broken_ns"].as_u64()).collect();
    let after = |ns: Option<&u64>| {
        let since = ns.map_or(f64::INFINITY, |ns| ns.saturating_sub(times.applied) as f64);
        since / 1e9
    };
    let (first, last) = (after(ends.iter().min()), after(ends.iter().max()));
    let what = format!(
        "{reset} of {} connections reset for the client, {first:.2} to {last:.2} s after the reload",
        leaving.len()
    );
    let pass = reset == leaving.len() && reset > 0 && last < (DEADLINE + PATIENCE).as_secs_f64();
    Check::new("deadline", pass, what).figure("first_s", first).figure("last_s", last)
}

fn moved(leaving: &[&Value]) -> Check {
    let moved = leaving.iter().filter(|c| c["moved_to"] == SERVERS[1].name).count();
    let what = format!("{moved} of {} clients came to server2 at once after that", leaving.len());
    Check::new("moved", moved == leaving.len() && moved > 0, what)
}

fn progress(told: &[Told], connections: usize) -> Check {
    let connections = connections as u64;
    let mut list: Vec<_> = told.iter().map(|now| now.sessions.to_string()).collect();
    list.dedup();
    let waiting = told.iter().find(|now| {
        now.left_ms.is_some_and(|ms| ms > 0 && u128::from(ms) <= DEADLINE.as_millis())
            && now.sessions >= connections
            && now.reset == 0
    });
    let end = told.last().filter(|now| {
        (now.sessions, now.left_ms) == (0, Some(0)) && now.reset >= connections && connections > 0
    });
    let what = format!(
        "sessions of server1 in the status: {}; {} ms before the deadline none was reset, at the end {}",
        list.join(", "),
        waiting.and_then(|now| now.left_ms).unwrap_or(0),
        end.map_or(0, |now| now.reset),
    );
    Check::new("status", waiting.is_some() && end.is_some(), what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TIMES: Times = Times { asked: 1_000_000_000, applied: 1_200_000_000 };

    fn connection(server: &str, download: bool, broken_ns: Option<u64>) -> Value {
        json!({
            "server": server, "download": download, "bytes": u64::from(download), "right": true,
            "reset": broken_ns.is_some(), "broken_ns": broken_ns,
            "moved_to": broken_ns.map(|_| "server2"),
        })
    }

    #[test]
    fn a_connection_that_breaks_early_or_not_at_all_fails() {
        let stay = [connection("server2", true, None), connection("server2", false, None)];
        let stay: Vec<_> = stay.iter().collect();
        let leave = |at| [connection("server1", true, at), connection("server1", false, at)];
        let judge = |at: Option<u64>| {
            let leaving = leave(at);
            let leaving: Vec<_> = leaving.iter().collect();
            let checks =
                [unbroken(&leaving, &stay, TIMES), deadline(&leaving, TIMES), moved(&leaving)];
            checks.map(|check| check.pass)
        };
        assert_eq!(judge(Some(4_000_000_000)), [true, true, true]);
        assert_eq!(judge(Some(3_999_999_999)), [false, true, true]);
        assert_eq!(judge(Some(19_000_000_000)), [true, false, true]);
        assert_eq!(judge(None), [true, false, false]);
        let leaving = leave(Some(4_000_000_000));
        let leaving: Vec<_> = leaving.iter().collect();
        assert!(!unbroken(&leaving, &leaving, TIMES).pass, "the other server lost its own");
        assert!(!unbroken(&leaving, &[], TIMES).pass && !moved(&[]).pass);
    }

    #[test]
    fn a_visit_that_fails_or_comes_to_the_leaving_server_fails() {
        let visit =
            |ns: u64, server: &str| json!({ "begun_ns": ns, "server": server, "error": null });
        let mut seen: Vec<_> =
            (0..20).map(|n| visit(n, if n % 2 == 0 { "server1" } else { "server2" })).collect();
        seen.extend((0..20).map(|n| visit(TIMES.applied + n, "server2")));
        // Between the question and the answer either server is right.
        seen.push(visit(TIMES.asked, "server1"));
        assert!(visits(&seen, TIMES).pass);
        let with = |extra: Value| visits(&[seen.clone(), vec![extra]].concat(), TIMES).pass;
        assert!(!with(visit(TIMES.applied, "server1")));
        assert!(!with(json!({ "begun_ns": 1, "server": null, "error": "reset" })));
        assert!(!visits(&seen[20..], TIMES).pass, "server1 never had a visit");
    }

    #[test]
    fn the_status_must_show_the_sessions_and_their_end() {
        let now = |sessions, left_ms, reset| Told { sessions, left_ms, reset };
        let before = now(12, Some(2900), 0);
        assert!(progress(&[before, now(8, Some(100), 0), now(0, Some(0), 8)], 8).pass);
        for wrong in [
            vec![],
            vec![before, now(8, Some(0), 0)],
            vec![now(0, Some(0), 8)],
            vec![before, now(0, Some(0), 7)],
            vec![before, now(0, None, 8)],
            vec![now(12, Some(3001), 0), now(0, Some(0), 8)],
            vec![now(12, None, 0), now(0, Some(0), 8)],
        ] {
            assert!(!progress(&wrong, 8).pass, "{wrong:?}");
        }
        let status = json!({ "servers": [
            { "address": "10.1.0.12:8080", "active": 1, "inactive": 1 },
            { "address": "10.1.0.11:8080", "active": 3, "inactive": 4, "state": "draining",
              "drain": { "left_ms": 30, "reset": 2, "moved": 0 } },
        ] });
        assert_eq!((told(&status), told(&Value::Null)), (Some(now(7, Some(30), 2)), None));
    }
}
