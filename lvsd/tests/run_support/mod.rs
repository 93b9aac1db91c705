//! `lvsd run` in a network namespace of its own, for tests.
#![allow(dead_code, reason = "no test needs all of it")]

use core::time::Duration;
use lvs_os::namespace::{Namespace, NamespaceFd};
use lvs_os::process::{SpawnExt, effective_uid};
use lvs_os::signal::{self, Signal};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

/// Long enough for a busy machine; a test that waits so long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A network namespace, alive as long as the process that sleeps in it.
pub(crate) struct Space {
    holder: Child,
    kinds: &'static [Namespace],
    pub(crate) what: &'static str,
}

impl Space {
    pub(crate) fn make(
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
    pub(crate) fn command(&self, program: &str) -> Command {
        let pid = self.holder.id();
        let open = |kind: &Namespace| NamespaceFd::of(pid, *kind).expect("the holder lives");
        let mut command = Command::new(program);
        command.join_namespaces(self.kinds.iter().map(open).collect());
        command
    }

    pub(crate) fn shell(&self, script: &str) -> Result<String, String> {
        let output = self.command("sh").args(["-c", script]).output().expect("sh starts");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// Addresses that have a blackhole route.
    pub(crate) fn blackholes(&self) -> Vec<String> {
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
pub(crate) fn in_namespaces(test: impl Fn(&Space)) {
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
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(test: &str, space: &Space) -> Self {
        let name = format!("lvsd-run-{}-{test}-{}", std::process::id(), space.what);
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
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

pub(crate) const CONFIG: &str = r#"
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

pub(crate) const HOLES: [&str; 4] = ["10.77.0.80", "10.77.0.100", "10.77.0.101", "2001:db8::80"];

/// A running `lvsd run`.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) status: PathBuf,
}

impl Running {
    pub(crate) fn start(space: &Space, scratch: &Scratch) -> Self {
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
    pub(crate) fn until(
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

    pub(crate) fn data_pid(&mut self) -> u32 {
        let status = self.until("a data process", |status| status["data_pid"].is_u64());
        u32::try_from(status["data_pid"].as_u64().expect("a number")).expect("a process id")
    }

    pub(crate) fn stop(mut self, signal: Signal) -> (ExitStatus, serde_json::Value) {
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
