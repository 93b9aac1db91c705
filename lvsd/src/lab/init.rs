//! The lab's first process: makes the hosts, starts what runs in them, and takes all of it along
//! when it ends.
//!
//! It is process 1 of a PID namespace, so its end is the end of every process of the lab. It ends
//! on SIGTERM, and when its standard input closes, which happens whenever `lab run` ends, however
//! that may be. `lab up` writes `stay` there first. It says what it does in JSON lines on standard
//! output:
//!
//! `{"run", "host"}` · `{"ready": true}` · `{"failed", "impossible"}` · `{"director_exit"}`

use super::scenario::{DIRECTOR, HOSTS, SERVERS, SWITCH, Scenario};
use super::state::{HostFds, LabDir, State};
use super::{Problem, nginx, plan, world};
use crate::Exit;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use lvs_os::namespace::{self, Namespace, NamespaceFd};
use lvs_os::process::{self, SpawnExt};
use lvs_os::signal::{self, Signal, Signals};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// How long the director may take until its first status, and from SIGTERM to its end.
const DIRECTOR_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    scenario: Scenario,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    user_namespace: bool,
    #[arg(long)]
    director_cmd: Option<String>,
    #[arg(long, default_value_t = 1)]
    workers: u16,
}

/// Sets the lab up, keeps it, and cleans it up.
pub(crate) fn main(args: &InitArgs) -> Result<Exit, Problem> {
    let dir = LabDir { path: args.dir.clone() };
    let done = set_up(args, &dir).and_then(|lab| lab.keep(&dir));
    if let Err(problem) = &done {
        let impossible = matches!(problem, Problem::Impossible(_));
        say(&json!({ "failed": problem.to_string(), "impossible": impossible }));
    }
    dir.remove();
    Ok(if done.is_ok() { Exit::Ok } else { Exit::Failure })
}

/// One line of JSON for whoever listens; after `lab up` nobody does.
fn say(event: &Value) {
    let _ = writeln!(io::stdout(), "{event}");
}

/// The namespaces of one host.
struct Host {
    mount: NamespaceFd,
    uts: NamespaceFd,
    net: NamespaceFd,
}

impl Host {
    /// Those that this process is in.
    fn current() -> io::Result<Self> {
        Ok(Self {
            mount: NamespaceFd::current(Namespace::Mount)?,
            uts: NamespaceFd::current(Namespace::Uts)?,
            net: NamespaceFd::current(Namespace::Net)?,
        })
    }

    fn numbers(&self) -> HostFds {
        let number = |n: &NamespaceFd| n.as_fd().as_raw_fd().unsigned_abs();
        HostFds { mount: number(&self.mount), uts: number(&self.uts), net: number(&self.net) }
    }
}

struct Lab {
    signals: Signals,
    hosts: BTreeMap<&'static str, Host>,
    director: Option<u32>,
    director_exit: Option<ExitStatus>,
}

fn set_up(args: &InitArgs, dir: &LabDir) -> Result<Lab, Problem> {
    let failed = |e: io::Error| Problem::failed("lab", e);
    let signals = Signals::block(&[Signal::Terminate, Signal::Child]).map_err(failed)?;
    // Joining a mount namespace needs a process with one thread: hosts first.
    let hosts = make_hosts().map_err(|e| Problem::failed("namespaces", e))?;
    let ready = Arc::new(AtomicBool::new(false));
    end_with_standard_input(dir.clone(), Arc::clone(&ready));
    let outer_pid = outer_pid().map_err(failed)?;
    dir.set_owner(outer_pid).map_err(failed)?;
    let mut lab = Lab { signals, hosts, director: None, director_exit: None };
    lab.build_network(args.scenario, outer_pid)?;
    lab.start_tunnels(args.scenario, dir)?;
    lab.start_servers(args.scenario, dir)?;
    lab.start_director(args, dir)?;
    let state = State {
        scenario: args.scenario,
        pid: outer_pid,
        user_namespace: args.user_namespace,
        hosts: lab.hosts.iter().map(|(name, h)| ((*name).to_owned(), h.numbers())).collect(),
    };
    dir.set_state(&state).map_err(failed)?;
    ready.store(true, Ordering::Release);
    say(&json!({ "ready": true }));
    Ok(lab)
}

/// This process's number where `/proc` was mounted, which is outside of its own PID namespace.
fn outer_pid() -> io::Result<u32> {
    let link = fs::read_link("/proc/self")?;
    link.to_str().and_then(|s| s.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The namespaces this process was started in become the switch; the others are made here.
fn make_hosts() -> io::Result<BTreeMap<&'static str, Host>> {
    let mut hosts = BTreeMap::new();
    for name in HOSTS {
        if name != SWITCH {
            namespace::unshare(&[Namespace::Mount, Namespace::Uts, Namespace::Net])?;
        }
        namespace::set_hostname(name)?;
        // Refused in some containers; only tools that read /sys/class/net miss it.
        let _ = namespace::mount_sysfs();
        hosts.insert(name, Host::current()?);
    }
    if let Some(switch) = hosts.get(SWITCH) {
        switch.mount.join()?;
        switch.uts.join()?;
        switch.net.join()?;
    }
    Ok(hosts)
}

/// Ends the lab when standard input closes without a word.
fn end_with_standard_input(dir: LabDir, ready: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut said = String::new();
        let _ = io::stdin().read_to_string(&mut said);
        if said == "stay" {
            return;
        }
        if ready.load(Ordering::Acquire) {
            // Blocked, so it waits for the main loop even if that has not come there yet.
            let _ = signal::send(std::process::id(), Signal::Terminate);
        } else {
            dir.remove();
            std::process::exit(1);
        }
    });
}

impl Lab {
    /// A command that runs in a host.
    fn command(&self, host: &str, program: impl AsRef<Path>) -> io::Result<Command> {
        let host = self.hosts.get(host).ok_or(io::ErrorKind::NotFound)?;
        let namespaces =
            vec![host.mount.try_clone()?, host.uts.try_clone()?, host.net.try_clone()?];
        let mut command = Command::new(program.as_ref());
        command.env("PATH", world::search_path()).stdin(Stdio::null());
        command.unblock_signals().join_namespaces(namespaces);
        Ok(command)
    }

    fn build_network(&self, scenario: Scenario, outer_pid: u32) -> Result<(), Problem> {
        let path = |h: &Host| format!("/proc/{outer_pid}/fd/{}", h.net.as_fd().as_raw_fd());
        let netns = self.hosts.iter().map(|(name, h)| (*name, path(h))).collect();
        for step in plan::steps(scenario, &netns) {
            say(&json!({ "run": step.shell(), "host": step.host }));
            let Some((program, arguments)) = step.argv.split_first() else { continue };
            let output = self
                .command(step.host, program)
                .and_then(|mut c| c.args(arguments).output())
                .map_err(|e| Problem::failed(step.shell(), e))?;
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(if lacks_support(&why) {
                    Problem::impossible(format!("`{}` says \"{why}\"", step.shell()))
                } else {
                    Problem::failed(step.shell(), why)
                });
            }
        }
        Ok(())
    }

    /// The servers' ends of tunnels.
    fn start_tunnels(&self, scenario: Scenario, dir: &LabDir) -> Result<(), Problem> {
        for (server, outer) in SERVERS.iter().zip(scenario.tunnels().into_iter().flatten()) {
            self.start_daemon(dir, server.name, "tunnel", &["decap", "--outer", outer.name()])?;
        }
        Ok(())
    }

    fn start_servers(&self, scenario: Scenario, dir: &LabDir) -> Result<(), Problem> {
        let kind = if scenario == Scenario::Udp { "echo" } else { "server" };
        for (server, address) in SERVERS.iter().zip(scenario.listens()) {
            let listen = address.to_string();
            let words = [kind, "--name", server.name, "--listen", &listen];
            self.start_daemon(dir, server.name, server.name, &words)?;
            if scenario == Scenario::Proxy {
                nginx::start(server, dir, |program| self.command(server.name, program))?;
            }
        }
        Ok(())
    }

    /// Starts `lvsd lab WORDS` in a host and waits until it says that it is ready.
    fn start_daemon(
        &self,
        dir: &LabDir,
        host: &str,
        log: &str,
        words: &[&str],
    ) -> Result<(), Problem> {
        let start = || -> io::Result<String> {
            let log = File::create(dir.file(&format!("{log}.log")))?;
            let mut command = self.command(host, world::own_program()?)?;
            command.arg("lab").args(words).stdout(Stdio::piped()).stderr(log);
            let mut line = String::new();
            if let Some(stdout) = command.spawn()?.stdout.take() {
                BufReader::new(stdout).read_line(&mut line)?;
            }
            Ok(line)
        };
        match start().map_err(|e| Problem::failed(host, e))?.as_str() {
            "ready\n" => Ok(()),
            _ => Err(Problem::failed(host, log_tail(dir, log))),
        }
    }

    fn start_director(&mut self, args: &InitArgs, dir: &LabDir) -> Result<(), Problem> {
        let config = dir.file("director.toml");
        let status = dir.file("status.json");
        let spawn = || -> io::Result<Option<u32>> {
            let mut command = match &args.director_cmd {
                None if !args.scenario.balances() => return Ok(None),
                None => {
                    let mut command = self.command(DIRECTOR, world::own_program()?)?;
                    command.args(["run", "--config"]).arg(&config).arg("--status").arg(&status);
                    command
                }
                Some(script) => {
                    let mut command = self.command(DIRECTOR, "sh")?;
                    command.args(["-c", script]);
                    command.env("LVSD_LAB_CONFIG", &config).env("LVSD_LAB_STATUS", &status);
                    command
                }
            };
            let text = args.scenario.director_config();
            let workers = format!("[director]\nworkers = {}\n", args.workers);
            fs::write(&config, text.replacen("[director]\n", &workers, 1))?;
            let log = File::create(dir.file("director.log"))?;
            command.stdout(log.try_clone()?).stderr(log).current_dir(&dir.path);
            Ok(Some(command.spawn()?.id()))
        };
        self.director = spawn().map_err(|e| Problem::failed(DIRECTOR, e))?;
        if self.director.is_some() && args.director_cmd.is_none() {
            self.await_status(dir, &status)?;
        }
        Ok(())
    }

    /// The director is ready when it has written its first status.
    fn await_status(&mut self, dir: &LabDir, status: &Path) -> Result<(), Problem> {
        let start = Instant::now();
        while !status.exists() {
            self.reap().map_err(|e| Problem::failed(DIRECTOR, e))?;
            let why = match self.director_exit {
                Some(status) => format!("ended at once ({status})"),
                None if start.elapsed() > DIRECTOR_PATIENCE => "writes no status".to_owned(),
                None => {
                    thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            return Err(Problem::failed(DIRECTOR, format!("{why}\n{}", log_tail(dir, DIRECTOR))));
        }
        Ok(())
    }

    /// Takes the status of every child that has ended, orphans of the lab included.
    fn reap(&mut self) -> io::Result<()> {
        while let Some((pid, status)) = process::reap_any()? {
            if Some(pid) == self.director {
                self.director_exit = Some(status);
            }
        }
        Ok(())
    }

    /// Waits for the end, then stops the director the way an administrator would.
    fn keep(mut self, dir: &LabDir) -> Result<(), Problem> {
        let failed = |e: io::Error| Problem::failed("lab", e);
        loop {
            self.reap().map_err(failed)?;
            if self.signals.wait().map_err(failed)? == Signal::Terminate {
                break;
            }
        }
        // What ends now has been asked to; what has ended already has not.
        self.reap().map_err(failed)?;
        if let Some(status) = self.director_exit {
            say(&json!({ "director_exit": format!("before it was asked to: {status}") }));
        } else if let Some(pid) = self.director {
            self.stop_director(pid).map_err(failed)?;
        }
        dir.remove();
        Ok(())
    }

    fn stop_director(&mut self, pid: u32) -> io::Result<()> {
        signal::send(pid, Signal::Terminate)?;
        let start = Instant::now();
        while self.director_exit.is_none() && start.elapsed() < DIRECTOR_PATIENCE {
            self.signals.wait_timeout(Duration::from_millis(100))?;
            self.reap()?;
        }
        let how = match self.director_exit {
            Some(status) if status.success() => "ok".to_owned(),
            Some(status) => status.to_string(),
            None => format!("still running {} s after SIGTERM", DIRECTOR_PATIENCE.as_secs()),
        };
        say(&json!({ "director_exit": how }));
        Ok(())
    }
}

/// Whether the kernel, and not the lab, is to blame for a failed command.
fn lacks_support(message: &str) -> bool {
    ["not supported", "Unknown device type", "Operation not permitted"]
        .iter()
        .any(|sign| message.contains(sign))
}

/// The last lines of a host's log.
fn log_tail(dir: &LabDir, host: &str) -> String {
    let text = fs::read_to_string(dir.file(&format!("{host}.log"))).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
    tail.iter().map(|l| format!("  {host}: {l}")).collect::<Vec<_>>().join("\n")
}
