//! A lab as seen from the command line: started, entered, and stopped.

use super::Problem;
use super::scenario::Scenario;
use super::state::{LabDir, State};
use core::mem;
use core::time::Duration;
use lvs_os::namespace::{self, Namespace, NamespaceFd};
use lvs_os::privilege::{self, Capability};
use lvs_os::process::{PidFd, SpawnExt};
use lvs_os::signal::{Signal, Signals};
use serde_json::Value;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How long the lab's first process may take to stop the director and itself.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Where programs are looked for: as usual, and where `ip` lies when a user's path omits it.
pub(crate) fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

/// This program, also after its file was replaced.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let path = PathBuf::from("/proc/self/exe");
    if path.exists() { Ok(path) } else { env::current_exe() }
}

fn has_program(name: &str) -> bool {
    env::split_paths(&search_path()).any(|dir| dir.join(name).is_file())
}

/// A lab that can be entered.
pub(crate) struct World {
    pub(crate) dir: LabDir,
    pub(crate) state: State,
}

impl World {
    /// Enters the user and PID namespaces of a lab that another process has started.
    pub(crate) fn enter(dir: LabDir, state: State) -> Result<Self, Problem> {
        let join = || -> io::Result<()> {
            let user = NamespaceFd::of(state.pid, Namespace::User)?;
            let pid = NamespaceFd::of(state.pid, Namespace::Pid)?;
            if !user.is_same_as(&NamespaceFd::current(Namespace::User)?)? {
                user.join()?;
                privilege::keep_across_exec()?;
            }
            pid.join()
        };
        join().map_err(|e| Problem::failed("entering the lab", e))?;
        Ok(Self { dir, state })
    }

    /// A command that runs in a host.
    pub(crate) fn command(
        &self,
        host: &str,
        program: impl AsRef<OsStr>,
    ) -> Result<Command, Problem> {
        let fds = self.state.hosts.get(host).ok_or_else(|| {
            let names: Vec<_> = self.state.hosts.keys().map(String::as_str).collect();
            Problem::Failed(format!("no host `{host}`: there are {}", names.join(", ")))
        })?;
        let open = |fd: u32, kind| {
            let path = format!("/proc/{}/fd/{fd}", self.state.pid);
            NamespaceFd::open(Path::new(&path), kind).map_err(|e| Problem::failed(host, e))
        };
        let namespaces = vec![
            open(fds.mount, Namespace::Mount)?,
            open(fds.uts, Namespace::Uts)?,
            open(fds.net, Namespace::Net)?,
        ];
        let mut command = Command::new(program);
        command.env("PATH", search_path()).unblock_signals().join_namespaces(namespaces);
        Ok(command)
    }
}

/// A lab that this process has started.
pub(crate) struct Started {
    pub(crate) world: World,
    events: BufReader<ChildStdout>,
    stopper: Arc<Stopper>,
}

/// What the lab's first process is told to do.
pub(crate) struct Order<'a> {
    pub(crate) scenario: Scenario,
    /// Of its directory.
    pub(crate) name: &'a str,
    pub(crate) director_cmd: Option<&'a str>,
    /// Threads of the director.
    pub(crate) workers: u16,
    /// Gets every command and its host.
    pub(crate) on_command: &'a dyn Fn(&str, &str),
}

impl Started {
    /// Sets a lab up. From here on this process is in the lab's namespaces, and SIGINT, SIGTERM and
    /// SIGHUP stop the lab before they end the process.
    pub(crate) fn start(order: &Order<'_>) -> Result<Self, Problem> {
        if !has_program("ip") {
            return Err(Problem::impossible("the program `ip` (package iproute2) is missing"));
        }
        // Blocked before there is anything to clean up, read once there is a thread that does it.
        let signals = Signals::block(&[Signal::Interrupt, Signal::Terminate, Signal::Hangup])
            .map_err(|e| Problem::failed("lab", e))?;
        let dir = LabDir::create(order.name)?;
        let stopper = Arc::new(Stopper { phase: Mutex::new(Phase::Before), dir: dir.clone() });
        let started = Self::start_in(order, &dir, signals, &stopper);
        stopper.unless_over(started)
    }

    /// What has been started when this fails is left to the caller.
    fn start_in(
        order: &Order<'_>,
        dir: &LabDir,
        signals: Signals,
        stopper: &Arc<Stopper>,
    ) -> Result<Self, Problem> {
        let user_namespace = enter_new_namespaces().map_err(|e| {
            let uid = lvs_os::process::effective_uid();
            Problem::impossible(format!("user {uid} may not make network namespaces ({e})"))
        })?;
        let failed = |e: io::Error| Problem::failed("lab", e);
        // In this order: a user namespace can be made before there are threads only, and a process
        // whose children go to another PID namespace cannot start any.
        stop_on_signal(signals, Arc::clone(stopper)).map_err(failed)?;
        namespace::unshare(&[Namespace::Pid])
            .map_err(|e| Problem::impossible(format!("PID namespaces are refused ({e})")))?;
        let stdout = stopper.spawn_init(order, user_namespace).map_err(failed)?;
        let mut events = BufReader::new(stdout);
        await_ready(&mut events, order.on_command)?;
        let state =
            dir.state().ok_or_else(|| Problem::Failed("the lab has no state".to_owned()))?;
        let world = World { dir: dir.clone(), state };
        Ok(Self { world, events, stopper: Arc::clone(stopper) })
    }

    /// Leaves the lab running.
    pub(crate) fn leave(self) -> Result<World, Problem> {
        let left = self.stopper.leave().map_err(|e| Problem::failed("lab", e));
        self.stopper.unless_over(left)?;
        Ok(self.world)
    }

    /// Stops the lab, and says how the director ended (`ok`, or what else), if there was one.
    pub(crate) fn stop(mut self) -> Option<String> {
        self.stopper.stop();
        let mut line = String::new();
        let mut how = None;
        while self.events.read_line(&mut line).is_ok_and(|n| n > 0) {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            how = event["director_exit"].as_str().map(String::from).or(how);
            line.clear();
        }
        how
    }
}

/// New namespaces as root, or through a user namespace; says whether it took one.
fn enter_new_namespaces() -> io::Result<bool> {
    const KINDS: [Namespace; 3] = [Namespace::Mount, Namespace::Uts, Namespace::Net];
    // A container's root may lack the capability, or have it and be refused all the same.
    if privilege::has(Capability::SysAdmin)? && namespace::unshare(&KINDS).is_ok() {
        return Ok(false);
    }
    let [a, b, c] = KINDS;
    namespace::unshare(&[Namespace::User, a, b, c])?;
    privilege::keep_across_exec()?;
    Ok(true)
}

fn spawn_init(order: &Order<'_>, dir: &LabDir, user_namespace: bool) -> io::Result<Child> {
    let mut command = Command::new(own_program()?);
    command.args(["lab", "init", order.scenario.name(), "--dir"]).arg(&dir.path);
    if user_namespace {
        command.arg("--user-namespace");
    }
    command.args(["--workers", &order.workers.to_string()]);
    if let Some(script) = order.director_cmd {
        command.args(["--director-cmd", script]);
    }
    // After `lab up` it stays, and must not hold what the caller may read to its end.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(File::create(dir.file("init.log"))?).close_other_files();
    // A session of its own: Ctrl-C is for the process that the user sees, which then stops the lab.
    command.new_session().unblock_signals().spawn()
}

fn await_ready(
    events: &mut BufReader<ChildStdout>,
    on_command: &dyn Fn(&str, &str),
) -> Result<(), Problem> {
    let mut line = String::new();
    while events.read_line(&mut line).is_ok_and(|n| n > 0) {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if let (Some(command), Some(host)) = (event["run"].as_str(), event["host"].as_str()) {
            on_command(host, command);
        } else if let Some(why) = event["failed"].as_str() {
            let impossible = event["impossible"] == true;
            let why = why.to_owned();
            return Err(if impossible { Problem::Impossible(why) } else { Problem::Failed(why) });
        } else if event["ready"] == true {
            return Ok(());
        }
        line.clear();
    }
    Err(Problem::Failed("the lab's first process ended before it was ready".to_owned()))
}

/// Stops the lab once, whoever asks first.
struct Stopper {
    phase: Mutex<Phase>,
    dir: LabDir,
}

enum Phase {
    Before,
    Running(Running),
    /// Stopped, being stopped, or left to itself.
    Over,
}

struct Running {
    init: Child,
    handle: PidFd,
    stdin: Option<ChildStdin>,
}

impl Stopper {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the lab's first process. The lock is held meanwhile, so that a signal finds either no
    /// lab or one that it can stop.
    fn spawn_init(&self, order: &Order<'_>, user_namespace: bool) -> io::Result<ChildStdout> {
        let mut phase = self.phase();
        if !matches!(*phase, Phase::Before) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut init = spawn_init(order, &self.dir, user_namespace)?;
        let stdout = init.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (handle, stdin) = (PidFd::open(init.id())?, init.stdin.take());
        *phase = Phase::Running(Running { init, handle, stdin });
        Ok(stdout)
    }

    /// Ends everything in the lab and removes its files. When another thread is doing that, or has
    /// done it, this one has nothing left to do: it waits for the end of the process.
    fn stop(&self) {
        let taken = mem::replace(&mut *self.phase(), Phase::Over);
        match taken {
            Phase::Before => {}
            Phase::Running(running) => running.end(),
            Phase::Over => loop {
                thread::park();
            },
        }
        self.dir.remove();
    }

    /// Stops the lab when a step of the main thread has failed. That may be so because a signal is
    /// stopping the lab: then the error says nothing, and the code that the process ends with is the
    /// signal's, so this does not return.
    fn unless_over<T>(&self, step: Result<T, Problem>) -> Result<T, Problem> {
        step.inspect_err(|_| self.stop())
    }

    fn leave(&self) -> io::Result<()> {
        let mut phase = self.phase();
        let Phase::Running(running) = &mut *phase else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        running.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(b"stay")?;
        *phase = Phase::Over;
        Ok(())
    }
}

impl Running {
    /// Asks by closing its input. A first process that hangs is killed, and the rest with it.
    fn end(mut self) {
        drop(self.stdin.take());
        if !self.handle.wait_exit(STOP_PATIENCE).unwrap_or(false) {
            let _ = self.init.kill();
        }
        let _ = self.init.wait();
    }
}

fn stop_on_signal(signals: Signals, stopper: Arc<Stopper>) -> io::Result<()> {
    let wait = move || {
        if let Ok(signal) = signals.wait() {
            eprintln!("lvsd: stopping the lab");
            stopper.stop();
            std::process::exit(128 + signal.number());
        }
    };
    thread::Builder::new().spawn(wait).map(drop)
}

/// Stops a lab that another process has started.
pub(crate) fn stop(dir: &LabDir, state: &State) -> Result<(), Problem> {
    let stop = || -> io::Result<bool> {
        let init = PidFd::open(state.pid)?;
        init.send(Signal::Terminate)?;
        if init.wait_exit(STOP_PATIENCE)? {
            return Ok(true);
        }
        init.send(Signal::Kill)?;
        init.wait_exit(STOP_PATIENCE)
    };
    let ended = stop().map_err(|e| Problem::failed("stopping the lab", e))?;
    dir.remove();
    if ended { Ok(()) } else { Err(Problem::Failed("the lab does not end".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn stopper(phase: Phase) -> Arc<Stopper> {
        let path = env::temp_dir().join(format!("lvsd-world-{}-none", std::process::id()));
        Arc::new(Stopper { phase: Mutex::new(phase), dir: LabDir { path } })
    }

    /// Whether the main thread gets an error to exit with.
    fn fails(phase: Phase) -> bool {
        let (stopper, (told, heard)) = (stopper(phase), mpsc::channel());
        thread::spawn(move || {
            let step = Err::<(), _>(Problem::Failed("spawning".to_owned()));
            let _ = told.send(stopper.unless_over(step).is_err());
        });
        heard.recv_timeout(Duration::from_millis(200)).unwrap_or(false)
    }

    #[test]
    fn an_error_of_the_main_thread_ends_the_process_unless_a_signal_is_doing_that() {
        assert!(fails(Phase::Before));
        assert!(!fails(Phase::Over));
    }

    #[test]
    fn a_lab_that_is_being_stopped_cannot_be_left_running() {
        let stopper = stopper(Phase::Over);
        assert_eq!(stopper.leave().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(matches!(*stopper.phase(), Phase::Over));
    }
}
