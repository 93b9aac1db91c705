//! The commands of `lvsd lab`, from start to exit code.

use super::report::{Check, Report};
use super::scenario::{self, CLIENT, DIRECTOR, SERVERS, Scenario, VIP};
use super::world::{Order, Started, World};
use super::{Problem, checks, datagrams, drain, persist, reuse, spread, state, world};
use crate::Exit;
use core::time::Duration;
use lvs_os::signal::{Signal, Signals};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::{Instant, SystemTime};

/// Connections at once, and requests of each of their threads.
const THREADS: usize = 16;
const REQUESTS: usize = 14;
/// Sockets that send datagrams at once.
const SOCKETS: usize = 32;
/// The long transfers.
const DOWNLOAD: u64 = 256 << 20;
const UPLOAD: u64 = 64 << 20;
/// The longest timeout of the lab's configuration is 3 s, its expiry may be 4 s late, and the
/// status one second old; the rest is for a busy machine.
const EXPIRY_PATIENCE: Duration = Duration::from_secs(12);

/// `lab run`.
pub(crate) fn run(
    scenario: Scenario,
    director_cmd: Option<&str>,
    workers: u16,
    json: bool,
) -> Result<Exit, Problem> {
    let mut report = Report::new(json);
    report.note(&scenario.drawing());
    let begin = Instant::now();
    let name = format!("run-{}", std::process::id());
    let started = Started::start(&Order {
        scenario,
        name: &name,
        director_cmd,
        workers,
        on_command: &|_, _| {},
    })?;
    let how = if started.world.state.user_namespace { "a user namespace" } else { "root" };
    report.note(&format!("set up in {:.1} s, through {how}\n", begin.elapsed().as_secs_f64()));
    let checked = check_all(&started.world, director_cmd.is_none(), &mut report);
    if !report.passed() {
        print_log(&started.world, &report);
    }
    let director_exit = started.stop();
    checked?;
    if scenario.balances() && director_cmd.is_none() {
        let how = director_exit.unwrap_or_else(|| "it said nothing".to_owned());
        let what = if how == "ok" {
            "the director ended cleanly on SIGTERM".to_owned()
        } else {
            format!("the director did not end cleanly: {how}")
        };
        report.add(Check::new("stop", how == "ok", what));
    }
    report.finish(scenario.name());
    Ok(if report.passed() { Exit::Ok } else { Exit::Failure })
}

/// `lab up`.
pub(crate) fn up(
    scenario: Scenario,
    director_cmd: Option<&str>,
    workers: u16,
) -> Result<Exit, Problem> {
    let begin = Instant::now();
    let on_command = |host: &str, command: &str| println!("{host:<9}# {command}");
    let order =
        Order { scenario, name: scenario.name(), director_cmd, workers, on_command: &on_command };
    let world = Started::start(&order)?.leave()?;
    println!("\n{}", scenario.drawing());
    println!("up in {:.1} s; files: {}", begin.elapsed().as_secs_f64(), world.dir.path.display());
    let enter = if world.state.user_namespace {
        "nsenter --user --preserve-credentials"
    } else {
        "nsenter"
    };
    println!("network namespaces (for `lvsd lab exec`, or `{enter} --net=PATH` with");
    for (host, fds) in &world.state.hosts {
        println!("  {host:<9} /proc/{}/fd/{}", world.state.pid, fds.net);
    }
    let target = scenario.targets().first().map(ToString::to_string).unwrap_or_default();
    println!(
        "\ntry: lvsd lab exec client -- curl -s http://{target}/\n\
         \x20    lvsd lab exec director -- tcpdump -ni servers\n\
         \x20    lvsd lab check\n\
         \x20    lvsd lab down"
    );
    Ok(Exit::Ok)
}

/// `lab check`.
pub(crate) fn check(scenario: Option<Scenario>, json: bool) -> Result<Exit, Problem> {
    let (dir, state) = state::find(scenario)?;
    let world = World::enter(dir, state)?;
    let mut report = Report::new(json);
    let has_director = world.dir.file("status.json").exists();
    check_all(&world, has_director, &mut report)?;
    if !report.passed() {
        print_log(&world, &report);
    }
    report.finish(world.state.scenario.name());
    Ok(if report.passed() { Exit::Ok } else { Exit::Failure })
}

/// `lab down`.
pub(crate) fn down(scenario: Option<Scenario>) -> Result<Exit, Problem> {
    let (dir, state) = state::find(scenario)?;
    world::stop(&dir, &state)?;
    println!("lab {} is down", state.scenario.name());
    Ok(Exit::Ok)
}

/// `lab list`.
pub(crate) fn list() -> Result<Exit, Problem> {
    let alive = state::alive()?;
    for known in scenario::ALL {
        let up = alive.iter().filter(|(_, s)| s.scenario == known);
        let pids: Vec<_> = up.map(|(_, s)| format!("up, process {}", s.pid)).collect();
        let text = if pids.is_empty() { "-".to_owned() } else { pids.join("; ") };
        println!("{:<10}{text}", known.name());
    }
    Ok(Exit::Ok)
}

/// `lab exec`: the exit code is the command's.
pub(crate) fn exec(lab: Option<Scenario>, host: &str, words: &[OsString]) -> Result<Exit, Problem> {
    let (dir, state) = state::find(lab)?;
    let world = World::enter(dir, state)?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(Problem::Failed("no command".to_owned()));
    };
    // Ctrl-C goes to the whole group of the terminal: it is for the command, which then ends.
    let _ours = Signals::block(&[Signal::Interrupt, Signal::Quit]);
    let mut command = world.command(host, program)?;
    let status = command
        .args(arguments)
        .status()
        .map_err(|e| Problem::failed(program.to_string_lossy(), e))?;
    // The codes of `Exit` are ours; this one is the command's, or what a shell says for a signal.
    std::process::exit(status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1))
}

/// Every check that a running lab allows.
fn check_all(world: &World, real_director: bool, report: &mut Report) -> Result<(), Problem> {
    let scenario = world.state.scenario;
    if let Some(figures) = scenario.reuse() {
        return reuse::check_all(world, figures, real_director, report);
    }
    match scenario {
        Scenario::Drain | Scenario::Persist if !real_director => {
            return Err(Problem::Failed(format!("`{}` needs `lvsd run`", scenario.name())));
        }
        Scenario::Drain => return drain::check_all(world, report),
        Scenario::Persist => return persist::check_all(world, report),
        _ => {}
    }
    let before = counters(world, DIRECTOR)?;
    let datagrams = scenario == Scenario::Udp;
    let (expected, seen) = if datagrams {
        (SOCKETS * datagrams::each(), client(world, &["--datagrams", &SOCKETS.to_string()])?)
    } else {
        let words = ["--threads", &THREADS.to_string(), "--requests", &REQUESTS.to_string()];
        (THREADS * REQUESTS, client(world, &words)?)
    };
    let requests = seen["requests"].as_array().cloned().unwrap_or_default();
    let at_once = if datagrams { SOCKETS } else { THREADS };
    report.extend(checks::requests(scenario, &requests, expected, at_once));
    if requests.iter().all(|r| r["status"] != "200") {
        report.note("      nothing was answered: the other checks are left out");
        return Ok(());
    }
    if datagrams {
        report.add(checks::one_server(&requests));
    } else {
        let seen = client(world, &["--download", &DOWNLOAD.to_string()])?;
        report.add(checks::transfer("download", &seen["download"], DOWNLOAD));
        let seen = client(world, &["--upload", &UPLOAD.to_string()])?;
        report.add(checks::transfer("upload", &seen["upload"], UPLOAD));
    }
    if scenario.balances() && real_director {
        report.add(await_expiry(world));
        report.extend(spread::check(&status(world)));
        if scenario.answers_past() {
            report.add(checks::past(&status(world)));
        }
        report.add(checks::silence(&before, &counters(world, DIRECTOR)?));
    }
    let mut ends = vec![(CLIENT, counters(world, CLIENT)?)];
    for server in &SERVERS {
        ends.push((server.name, counters(world, server.name)?));
    }
    report.add(checks::checksums(&ends));
    if let Some(drops) = checks::drops(&status(world)) {
        report.note(&format!(
            "      drops        {}",
            if drops.is_empty() { "none" } else { &drops }
        ));
    }
    Ok(())
}

/// Runs the lab's client and reads what it has seen.
pub(super) fn client(world: &World, arguments: &[&str]) -> Result<Value, Problem> {
    let failed = |e: &dyn core::fmt::Display| Problem::failed(CLIENT, e);
    let program = world::own_program().map_err(|e| failed(&e))?;
    let mut command = world.command(CLIENT, program)?;
    command.args(["lab", "client"]);
    for target in world.state.scenario.targets() {
        command.args(["--target", &target.to_string()]);
    }
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| failed(&e))?;
    serde_json::from_slice(&output.stdout).map_err(|e| failed(&e))
}

pub(super) fn counters(world: &World, host: &str) -> Result<BTreeMap<String, i64>, Problem> {
    let output = world
        .command(host, "cat")?
        .args(["/proc/net/snmp", "/proc/net/netstat"])
        .output()
        .map_err(|e| Problem::failed(host, e))?;
    let mut counters = checks::kernel_counters(&String::from_utf8_lossy(&output.stdout));
    // A kernel without IPv6 has no such file.
    let output = world.command(host, "cat")?.arg("/proc/net/snmp6").stderr(Stdio::null()).output();
    let output = output.map_err(|e| Problem::failed(host, e))?;
    counters.extend(checks::kernel_counters_v6(&String::from_utf8_lossy(&output.stdout)));
    Ok(counters)
}

pub(super) fn status(world: &World) -> Value {
    let text = fs::read_to_string(world.dir.file("status.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// When the director wrote its status.
fn status_time(world: &World) -> Option<SystemTime> {
    fs::metadata(world.dir.file("status.json")).and_then(|data| data.modified()).ok()
}

/// Waits until the timeouts have emptied the director. Only a status from after the traffic counts:
/// an older one may be from before the first session.
fn await_expiry(world: &World) -> Check {
    let start = Instant::now();
    let traffic_over = SystemTime::now();
    loop {
        let fresh = status_time(world).is_some_and(|written| written > traffic_over);
        let status = if fresh { status(world) } else { Value::Null };
        let seconds = start.elapsed().as_secs_f64();
        let over = start.elapsed() > EXPIRY_PATIENCE;
        match checks::left_over(&status) {
            Some((0, 0)) => {
                let what = format!("no session and no local port left after {seconds:.1} s");
                return Check::new("expiry", true, what).figure("seconds", seconds);
            }
            Some((sessions, ports)) if over => {
                let what = format!("{sessions} sessions, {ports} ports left after {seconds:.1} s");
                return Check::new("expiry", false, what);
            }
            None if over => {
                let what = "the director writes no status, or has seen no packet";
                return Check::new("expiry", false, what);
            }
            _ => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// What the director said, when something went wrong.
fn print_log(world: &World, report: &Report) {
    let log = fs::read_to_string(world.dir.file("director.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    for line in lines.get(lines.len().saturating_sub(20)..).unwrap_or_default() {
        report.note(&format!("      director: {line}"));
    }
    report.note(&format!("      status: {}", status(world)));
    report.note(&format!(
        "      the VIP is {VIP}; look around with `lvsd lab up {}`",
        world.state.scenario.name()
    ));
}
