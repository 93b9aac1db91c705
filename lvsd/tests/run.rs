//! `lvsd run` as an operator meets it, in network namespaces of its own: started, stopped, killed.
//!
//! Each test runs as root in a new network namespace where it is root, and rootless in a new user
//! namespace where the system allows that. Where neither works it says SKIPPED and why.

use core::time::Duration;
use lvs_os::namespace::{Namespace, NamespaceFd};
use lvs_os::process::{PidFd, SpawnExt, effective_uid};
use lvs_os::signal::{self, Signal};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Instant;

/// Long enough for a busy machine; a test that waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// A network namespace, alive as long as the process that sleeps in it.
struct Space {
    holder: Child,
    kinds: &'static [Namespace],
    what: &'static str,
}

impl Space {
    fn make(
        what: &'static str,
        options: &[&str],
        kinds: &'static [Namespace],
    ) -> Result<Self, String> {
        let mut holder = Command::new("unshare")
            .args(options)
            .args(["--", "sh", "-c", "echo made; exec sleep 600"])
            .die_with_parent(Signal::Kill)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run unshare: {error}"))?;
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        if line != "made\n" {
            let mut why = String::new();
            holder.stderr.take().expect("piped").read_to_string(&mut why).expect("text");
            holder.wait().expect("ours");
            return Err(why.trim().to_owned());
        }
        let space = Self { holder, kinds, what };
        space.shell(
            "ip link set lo up && ip link add d0 type veth peer name c0 && \
             ip link set d0 up && ip link set c0 up && ip address add 10.77.0.1/24 dev d0",
        )?;
        Ok(space)
    }

    /// A program that will run in the namespace.
    fn command(&self, program: &str) -> Command {
        let pid = self.holder.id();
        let open = |kind: &Namespace| NamespaceFd::of(pid, *kind).expect("the holder lives");
        let mut command = Command::new(program);
        command.join_namespaces(self.kinds.iter().map(open).collect());
        command
    }

    fn shell(&self, script: &str) -> Result<String, String> {
        let output = self.command("sh").args(["-c", script]).output().expect("sh starts");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// Addresses that have a blackhole route.
    fn blackholes(&self) -> Vec<String> {
        let routes = self.shell("ip route show; ip -6 route show").expect("ip works");
        let holes = routes.lines().filter_map(|line| line.strip_prefix("blackhole "));
        holes.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs a test in each kind of namespace that this system has.
fn in_namespaces(test: impl Fn(&Space)) {
    type Kind = (&'static str, &'static [&'static str], &'static [Namespace]);
    let rootless: Kind =
        ("rootless", &["--user", "--map-root-user", "--net"], &[Namespace::User, Namespace::Net]);
    let root: Kind = ("root", &["--net"], &[Namespace::Net]);
    let kinds = if effective_uid() == 0 { vec![root, rootless] } else { vec![rootless] };
    for (what, options, namespaces) in kinds {
        match Space::make(what, options, namespaces) {
            Ok(space) => test(&space),
            Err(why) => {
                // Straight to the terminal: the harness hides what passing tests print.
                let _ = writeln!(std::io::stderr(), "SKIPPED ({what}): no namespaces: {why}");
            }
        }
    }
}

/// A directory of one test, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str, space: &Space) -> Self {
        let name = format!("lvsd-run-{}-{test}-{}", std::process::id(), space.what);
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("writable");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CONFIG: &str = r#"
[[port]]
name = "d0"
addresses = ["10.77.0.1/24"]
[[local_pool]]
name = "local"
addresses = ["10.77.0.100-10.77.0.101"]
[[service]]
address = "10.77.0.80:80"
local_pool = "local"
[[service.server]]
address = "10.77.0.11:80"
[[service]]
address = "[2001:db8::80]:80"
forwarding = "nat"
"#;

const HOLES: [&str; 4] = ["10.77.0.80", "10.77.0.100", "10.77.0.101", "2001:db8::80"];

/// A running `lvsd run`.
struct Running {
    child: Child,
    status: PathBuf,
}

impl Running {
    fn start(space: &Space, scratch: &Scratch) -> Self {
        let config = scratch.file("lvsd.toml", CONFIG);
        let status = scratch.path("status.json");
        let said = fs::File::create(scratch.path("stderr")).expect("writable");
        let child = space
            .command(env!("CARGO_BIN_EXE_lvsd"))
            .args([Path::new("run"), Path::new("--config"), &config])
            .args([Path::new("--status"), &status])
            .stderr(said)
            .die_with_parent(Signal::Kill)
            .spawn()
            .expect("the binary starts");
        let mut running = Self { child, status };
        running.until("it carries packets", |status| status["state"] == "running");
        running
    }

    /// Waits until the status file says what is expected, and returns it.
    fn until(
        &mut self,
        what: &str,
        expected: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let began = Instant::now();
        let mut last = serde_json::Value::Null;
        while began.elapsed() < DEADLINE {
            if let Ok(text) = fs::read(&self.status) {
                // Replaced as a whole: never a part, so never a syntax error.
                last = serde_json::from_slice(&text).expect("the status is whole");
                if expected(&last) {
                    return last;
                }
            }
            if let Some(status) = self.child.try_wait().expect("ours") {
                panic!("lvsd ended ({status}) before {what}; last status {last}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("not seen: {what}; last status {last}");
    }

    fn data_pid(&mut self) -> u32 {
        let status = self.until("a data process", |status| status["data_pid"].is_u64());
        u32::try_from(status["data_pid"].as_u64().expect("a number")).expect("a process id")
    }

    fn stop(mut self, signal: Signal) -> (ExitStatus, serde_json::Value) {
        signal::send(self.child.id(), signal).expect("it runs");
        let ended = self.child.wait().expect("ours");
        let text = fs::read(&self.status).expect("the last status");
        (ended, serde_json::from_slice(&text).expect("whole"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(space: &Space, config: &Path) -> Output {
    let arguments = [Path::new("run"), Path::new("--config"), config];
    let command = &mut space.command(env!("CARGO_BIN_EXE_lvsd"));
    command.args(arguments).output().expect("the binary starts")
}

fn ended(pid: u32) -> bool {
    PidFd::open(pid).map_or(true, |process| process.wait_exit(DEADLINE).expect("waiting works"))
}

#[test]
fn sigterm_and_sigint_exit_with_0_and_leave_no_route_and_no_process() {
    in_namespaces(|space| {
        for signal in [Signal::Terminate, Signal::Interrupt] {
            let scratch = Scratch::new("stop", space);
            let mut running = Running::start(space, &scratch);
            assert_eq!(space.blackholes(), HOLES);
            let data = running.data_pid();
            let (status, last) = running.stop(signal);
            assert_eq!(status.code(), Some(0));
            assert_eq!(last["state"], "stopped");
            assert_eq!(space.blackholes(), [""; 0]);
            assert!(ended(data));
        }
    });
}

#[test]
fn a_killed_data_process_is_started_again_and_the_kernel_stays_silent_meanwhile() {
    in_namespaces(|space| {
        let scratch = Scratch::new("kill", space);
        let mut running = Running::start(space, &scratch);
        for restarts in 1..=2 {
            let old = running.data_pid();
            signal::send(old, Signal::Kill).expect("it runs");
            let status = running.until("a new data process", |status| {
                status["restarts"] == restarts && status["state"] == "running"
            });
            assert_ne!(status["data_pid"], old);
            assert_eq!(space.blackholes(), HOLES);
        }
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
        assert_eq!(space.blackholes(), [""; 0]);
    });
}

#[test]
fn the_data_process_has_no_capability_and_no_way_to_get_one() {
    in_namespaces(|space| {
        let scratch = Scratch::new("caps", space);
        let mut running = Running::start(space, &scratch);
        let status = fs::read_to_string(format!("/proc/{}/status", running.data_pid()))
            .expect("the data process lives");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.expect("the kernel shows it").trim().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set} ({})", space.what);
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        if space.what == "root" {
            assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
            assert_eq!(field("Groups:"), "");
        }
    });
}

#[test]
fn the_data_process_ends_with_its_supervisor_and_the_next_run_takes_its_routes_over() {
    in_namespaces(|space| {
        let scratch = Scratch::new("orphan", space);
        let mut running = Running::start(space, &scratch);
        let data = running.data_pid();
        running.child.kill().expect("it runs");
        running.child.wait().expect("ours");
        assert!(ended(data));
        assert_eq!(space.blackholes(), HOLES);
        drop(scratch);
        drop(running);
        let scratch = Scratch::new("orphan", space);
        let running = Running::start(space, &scratch);
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
        assert_eq!(space.blackholes(), [""; 0]);
    });
}

#[test]
fn a_route_of_somebody_else_is_left_alone_and_mentioned_where_it_is_no_blackhole() {
    in_namespaces(|space| {
        space.shell("ip route add blackhole 10.77.0.80").expect("root here");
        space.shell("ip route add 10.77.0.100/32 dev d0").expect("root here");
        let scratch = Scratch::new("foreign", space);
        let running = Running::start(space, &scratch);
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
        assert_eq!(space.blackholes(), ["10.77.0.80"]);
        let said = fs::read_to_string(scratch.path("stderr")).expect("kept");
        let mentioned: Vec<_> =
            said.lines().filter(|line| line.contains("no blackhole route")).collect();
        assert_eq!(mentioned.len(), 1, "{said}");
        assert!(mentioned[0].contains("route for 10.77.0.100: "), "{said}");
        let routes = space.shell("ip route show 10.77.0.100").expect("ip works");
        assert!(routes.contains("dev d0"), "{routes}");
    });
}

#[test]
fn the_status_counts_packets_and_the_reasons_of_drops() {
    in_namespaces(|space| {
        let scratch = Scratch::new("status", space);
        let mut running = Running::start(space, &scratch);
        // The other end of the cable asks for a neighbour that is not the director's.
        let ask = "ip address add 10.79.0.1/24 dev c0 && bash -c 'echo > /dev/udp/10.79.0.2/9'";
        space.shell(ask).expect("root here");
        signal::send(running.child.id(), Signal::User1).expect("it runs");
        let status = running.until("the reason of a drop", |status| {
            status["drops"]["arp_for_other"].as_u64() >= Some(1)
        });
        assert!(status["rx"].as_u64() >= Some(1), "{status}");
        for key in ["sessions", "ports_in_use", "rx", "tx"] {
            assert!(status[key].is_u64(), "{key} in {status}");
        }
        assert!(status["drops"].is_object());
        assert_eq!(status["ports"][0]["name"], "d0");
    });
}

#[test]
fn a_second_director_on_the_same_interface_is_refused() {
    in_namespaces(|space| {
        let scratch = Scratch::new("second", space);
        let running = Running::start(space, &scratch);
        let second = run(space, &scratch.path("lvsd.toml"));
        assert_eq!(second.status.code(), Some(1));
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(said.contains("another lvsd runs on d0"), "{said}");
        assert_eq!(space.blackholes(), HOLES);
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
    });
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    in_namespaces(|space| {
        let scratch = Scratch::new("fail", space);
        for (name, text, expected) in [
            (
                "gone.toml",
                CONFIG.replace("\"d0\"", "\"nosuch0\""),
                "nosuch0: could not find the interface",
            ),
            (
                "mtu.toml",
                CONFIG.replace("name = \"d0\"", "name = \"d0\"\nmtu = 9000"),
                "mtu 9000 is more than the 1500 of d0",
            ),
        ] {
            let failed = run(space, &scratch.file(name, &text));
            let said = String::from_utf8_lossy(&failed.stderr).into_owned();
            assert_eq!(failed.status.code(), Some(1), "{said}");
            assert!(said.contains(expected), "{said}");
            assert_eq!(space.blackholes(), [""; 0]);
        }
        let failed = run(space, &scratch.file("bad.toml", &CONFIG.replace("name", "nmae")));
        assert_eq!(failed.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&failed.stderr).contains("did you mean `name`?"));
    });
}

#[test]
fn the_data_process_is_not_started_by_hand() {
    let output = Command::new(env!("CARGO_BIN_EXE_lvsd"))
        .arg("data-process")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    assert_ne!(output.status.code(), Some(0));
    let help = Command::new(env!("CARGO_BIN_EXE_lvsd")).arg("--help").output().expect("starts");
    assert!(!String::from_utf8_lossy(&help.stdout).contains("data-process"));
}
