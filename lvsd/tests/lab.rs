//! `lvsd lab` from outside: it passes, it can be looked into, and nothing of it is left however it
//! ends. The `forward` scenario serves: what the labs share does not depend on the balancer.
//!
//! Each test runs as the user that started it and, when that is root, as user 65534 too. Where
//! namespaces are not allowed the tests say SKIPPED and why.

use core::time::Duration;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::Instant;

use lvs_os::process::{PidFd, effective_uid};
use lvs_os::signal::Signal;

/// Somewhere to run labs: a copy of the program that its user may execute, a runtime directory, and
/// a mark in the environment by which all processes of these labs are found.
struct Place {
    dir: PathBuf,
    mark: String,
    user: Option<u32>,
}

impl Place {
    fn new(test: &str, user: Option<u32>) -> Self {
        let mark = format!("{test}-{}-{}", std::process::id(), user.unwrap_or(0));
        let dir = std::env::temp_dir().join(format!("lvsd-lab-test-{mark}"));
        fs::create_dir_all(dir.join("run")).unwrap();
        // A link where that works: nobody can run a copy while a child of another test, forked during
        // the copying, still holds it open for writing.
        let (program, here) = (env!("CARGO_BIN_EXE_lvsd"), dir.join("lvsd"));
        fs::hard_link(program, &here).or_else(|_| fs::copy(program, &here).map(|_| ())).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        chown(dir.join("run"), user, user).unwrap();
        Self { dir, mark, user }
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env("LVSD_LAB_TEST", &self.mark).env("XDG_RUNTIME_DIR", self.dir.join("run"));
        command.current_dir("/tmp").stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    fn lab(&self, words: &[&str]) -> Command {
        let mut command = self.command(self.dir.join("lvsd"));
        command.arg("lab").args(words);
        command
    }

    fn output(&self, words: &[&str]) -> Output {
        self.lab(words).output().unwrap()
    }

    fn start(&self, words: &[&str]) -> Child {
        self.lab(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Processes of labs that were started here.
    fn processes(&self) -> Vec<String> {
        let wanted = format!("LVSD_LAB_TEST={}", self.mark);
        let has_mark = |path: &Path| {
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            environment.split(|b| *b == 0).any(|entry| entry == wanted.as_bytes())
        };
        let all = fs::read_dir("/proc").unwrap().flatten().map(|e| e.path());
        all.filter(|p| has_mark(p)).map(|p| p.display().to_string()).collect()
    }

    /// Files of labs that were started here.
    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.dir.join("run")).unwrap().flatten().map(|e| e.path()).collect()
    }

    fn is_left(&self) -> bool {
        !(self.processes().is_empty() && self.files().is_empty())
    }

    fn assert_nothing_is_left(&self, after: &str) {
        assert_eq!(self.processes(), Vec::<String>::new(), "processes {after}");
        assert_eq!(self.files(), Vec::<PathBuf>::new(), "files {after}");
    }

    /// Whether no process is left, but files of a lab that has never been ready: its first process was not
    /// there yet to clean up. A lab that is ready has a file `state.json`, and must be gone by itself.
    fn ended_before_it_was_ready(&self) -> bool {
        let labs =
            self.files().into_iter().flat_map(|base| fs::read_dir(base).into_iter().flatten());
        let ready = labs.flatten().any(|lab| lab.path().join("state.json").exists());
        self.processes().is_empty() && !self.files().is_empty() && !ready
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a test in a place for every user that it can be run as.
fn for_every_user(test: &str, body: impl Fn(&Place)) {
    let mut users = vec![None];
    if effective_uid() == 0 {
        users.push(Some(65534));
    }
    for user in users {
        let place = Place::new(test, user);
        let probe = place.output(&["run", "forward", "--json"]);
        if probe.status.code() == Some(77) {
            eprintln!("SKIPPED {test}: {}", String::from_utf8_lossy(&probe.stderr).trim());
            continue;
        }
        body(&place);
        place.assert_nothing_is_left("at the end of the test");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_run_passes_and_says_so_in_text_and_in_json() {
    for_every_user("passes", |place| {
        let output = place.output(&["run", "forward"]);
        let said = text(&output.stdout);
        assert!(output.status.success(), "{said}{}", text(&output.stderr));
        assert!(said.contains("PASS  download") && said.contains("MB/s"), "{said}");
        assert!(!said.contains("FAIL"), "{said}");
        place.assert_nothing_is_left("after a run");
        let output = place.output(&["run", "forward", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["pass"], true);
        let checks = report["checks"].as_array().unwrap();
        let requests = checks.iter().find(|c| c["id"] == "requests").unwrap();
        assert!(requests["figures"]["requests"].as_u64().unwrap() >= 200);
        let download = checks.iter().find(|c| c["id"] == "download").unwrap();
        assert!(download["figures"]["mb_per_s"].as_f64().unwrap() > 0.0);
    });
}

/// Two workers: both carry packets, none gets what the other one owns, and NAT answers meet their clients.
#[test]
fn two_workers_balance_as_one() {
    for_every_user("workers", |place| {
        for scenario in ["fullnat", "nat"] {
            let output = place.output(&["run", scenario, "--workers", "2", "--json"]);
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["pass"], true, "{report:#}");
            let checks = report["checks"].as_array().unwrap();
            assert!(checks.iter().any(|c| c["id"] == "workers" && c["pass"] == true), "{report:#}");
        }
    });
}

/// Runs a scenario and returns which checks it has made; all must have passed.
fn checks_of(place: &Place, words: &[&str]) -> Vec<String> {
    let output = place.output(&[&["run"], words, &["--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["pass"], true, "{report:#}{}", text(&output.stderr));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let checks = report["checks"].as_array().unwrap().iter();
    checks.map(|check| check["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_draining_server_keeps_its_connections_until_the_deadline_and_then_resets_both_sides() {
    for_every_user("drain", |place| {
        let made = checks_of(place, &["drain"]);
        for id in ["unbroken", "new-ones", "deadline", "server-told", "moved", "status", "stop"] {
            assert!(made.iter().any(|made| made == id), "{id} is missing: {made:?}");
        }
    });
}

#[test]
fn clients_stay_with_their_servers_whatever_worker_gets_them() {
    for_every_user("persist", |place| {
        let made = checks_of(place, &["persist", "--workers", "2"]);
        for id in ["spread", "same", "last-packet", "weight-0", "draining", "expired", "workers"] {
            assert!(made.iter().any(|made| made == id), "{id} is missing: {made:?}");
        }
    });
}

#[test]
fn ipv4_servers_read_the_ipv6_addresses_of_their_clients() {
    for_every_user("nat64", |place| {
        for workers in ["1", "2"] {
            let made = checks_of(place, &["nat64", "--workers", workers]);
            for id in ["requests", "peer", "toa", "balance", "upload", "expiry", "silence"] {
                assert!(made.iter().any(|made| made == id), "{id} is missing: {made:?}");
            }
        }
    });
}

#[test]
fn a_run_whose_network_is_broken_fails() {
    for_every_user("broken", |place| {
        // A stub that is no balancer: nobody answers at the VIP.
        let output = place.output(&["run", "nat", "--json", "--director-cmd", "sleep 1000"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["pass"], false);
        place.assert_nothing_is_left("after a run that failed");
    });
}

/// Ends a run by a signal after some time, and says how it ended.
fn end_by(place: &Place, signal: Signal, after: Duration) -> ExitStatus {
    let mut run = place.start(&["run", "forward"]);
    sleep(after);
    let _ = PidFd::open(run.id()).unwrap().send(signal);
    run.wait().unwrap()
}

/// From before the first namespace to the middle of the transfers.
const MOMENTS: [u64; 8] = [0, 2, 10, 30, 60, 120, 250, 400];

#[test]
fn nothing_is_left_after_ctrl_c_or_sigterm_when_the_command_has_returned() {
    for_every_user("signals", |place| {
        for signal in [Signal::Interrupt, Signal::Terminate] {
            for after in MOMENTS {
                let status = end_by(place, signal, Duration::from_millis(after));
                let when = format!("after {signal:?} at {after} ms: {status}");
                // At the very first a signal ends the program itself; at the last the run may be over.
                let known = [Some(128 + signal.number()), Some(0), None];
                assert!(known.contains(&status.code()), "{when}");
                place.assert_nothing_is_left(&when);
            }
        }
    });
}

/// A signal that waits from before the start of the program hits it at the earliest moment there is, when
/// the threads that set the lab up and that stop it race; the code tells who has won.
#[test]
fn the_exit_code_is_the_signals_however_early_it_comes() {
    for_every_user("earliest", |place| {
        for (command, signal) in ["run", "up"].into_iter().cycle().zip([Signal::Terminate; 24]) {
            let mut run = place.command("env");
            let script = "kill -TERM $$; exec \"$0\" lab $1 forward";
            run.args(["--block-signal=TERM", "sh", "-c", script]).arg(place.dir.join("lvsd"));
            let output = run.arg(command).output().unwrap();
            let said = text(&output.stderr);
            if output.status.code() == Some(125) {
                eprintln!("SKIPPED earliest: {}", said.trim());
                return;
            }
            assert_eq!(output.status.code(), Some(128 + signal.number()), "{command}: {said}");
            place.assert_nothing_is_left(&format!("after an early {signal:?} to `{command}`"));
        }
    });
}

#[test]
fn nothing_is_left_after_kill_9_of_the_command() {
    for_every_user("kill9", |place| {
        let mut killed = 0;
        // Until the lab's first process runs (milliseconds, more on a busy machine) nobody is there to
        // remove the directory; the next lab command does.
        for after in MOMENTS {
            let status = end_by(place, Signal::Kill, Duration::from_millis(after));
            killed += u32::from(status.signal().is_some());
            let (start, mut unseen) = (Instant::now(), 0);
            // A process that is being replaced by its program shows no mark for a moment.
            while unseen < 10 && start.elapsed() < Duration::from_secs(30) {
                unseen = if place.is_left() { 0 } else { unseen + 1 };
                if unseen == 0 && place.ended_before_it_was_ready() {
                    let _ = place.output(&["list"]);
                }
                sleep(Duration::from_millis(20));
            }
            place.assert_nothing_is_left(&format!("after kill -9 at {after} ms"));
        }
        assert!(killed > 0, "no run lasted long enough to be killed");
    });
}

/// The number of the first process of the lab that is up or running.
fn first_process(place: &Place) -> u32 {
    let lab = place.dir.join("run/lvsd-lab");
    let owner = fs::read_dir(lab).unwrap().flatten().next().unwrap().path().join("owner");
    fs::read_to_string(owner).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn nothing_is_left_after_kill_9_of_the_first_process() {
    for_every_user("kill9-first", |place| {
        let words = ["run", "nat", "--director-cmd", "sleep 1000"];
        let mut run = place.start(&words);
        let ready = || {
            place.files().iter().any(|f| {
                fs::read_dir(f)
                    .is_ok_and(|d| d.flatten().any(|e| e.path().join("state.json").exists()))
            })
        };
        while !ready() {
            assert!(run.try_wait().unwrap().is_none(), "the run ended before it was ready");
            sleep(Duration::from_millis(5));
        }
        PidFd::open(first_process(place)).unwrap().send(Signal::Kill).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(1));
        place.assert_nothing_is_left("after kill -9 of the first process");
    });
}

#[test]
fn a_lab_that_is_up_can_be_entered_checked_and_taken_down() {
    for_every_user("up", |place| {
        let up = place.output(&["up", "forward"]);
        let said = text(&up.stdout);
        assert!(up.status.success(), "{said}{}", text(&up.stderr));
        assert!(said.contains("client   # ip addr add 10.0.0.2/24 dev eth0"), "{said}");
        assert!(!place.output(&["up", "forward"]).status.success(), "twice");
        let output = place.output(&["exec", "server2", "--", "cat", "/proc/sys/kernel/hostname"]);
        assert_eq!(text(&output.stdout), "server2\n", "{}", text(&output.stderr));
        let output = place.output(&["exec", "client", "--", "sh", "-c", "exit 42"]);
        assert_eq!(output.status.code(), Some(42));
        let output = place.output(&["exec", "client", "--", "ip", "-br", "addr", "show", "eth0"]);
        assert!(text(&output.stdout).contains("10.0.0.2/24"));
        assert!(!place.output(&["exec", "nowhere", "--", "true"]).status.success());
        assert!(text(&place.output(&["list"]).stdout).contains("forward   up"));
        let check = place.output(&["check"]);
        assert!(check.status.success(), "{}{}", text(&check.stdout), text(&check.stderr));
        // A command that still runs in a host does not keep the lab.
        let mut inside = place.start(&["exec", "client", "--", "sleep", "1000"]);
        sleep(Duration::from_millis(100));
        let down = place.output(&["down"]);
        assert!(down.status.success(), "{}", text(&down.stderr));
        assert_eq!(inside.wait().unwrap().code(), Some(128 + 9));
        place.assert_nothing_is_left("after down");
        assert_eq!(place.output(&["down"]).status.code(), Some(1));
    });
}

#[test]
fn an_interrupted_up_leaves_nothing() {
    for_every_user("up-signal", |place| {
        for after in [0, 5, 20, 40, 80] {
            let mut up = place.start(&["up", "forward"]);
            sleep(Duration::from_millis(after));
            let _ = PidFd::open(up.id()).unwrap().send(Signal::Interrupt);
            if up.wait().unwrap().success() {
                assert!(place.output(&["down"]).status.success());
            }
            place.assert_nothing_is_left(&format!("after `up` was interrupted at {after} ms"));
        }
    });
}

#[test]
fn where_namespaces_are_refused_one_sentence_names_the_demo_and_the_code_is_77() {
    for_every_user("refused", |place| {
        // A user namespace in which no network namespace may be made.
        let mut refused = place.command("unshare");
        let script = "echo 0 > /proc/sys/user/max_net_namespaces && exec \"$0\" lab run forward";
        refused.args(["-Ur", "sh", "-c", script]).arg(place.dir.join("lvsd"));
        let Ok(output) = refused.output() else {
            eprintln!("SKIPPED refused: the program `unshare` is missing");
            return;
        };
        assert_eq!(output.status.code(), Some(77), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains("lvsd demo") && said.lines().count() == 1, "{said}");
    });
}
