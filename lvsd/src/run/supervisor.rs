//! The supervisor: holds what needs privileges, and keeps a data process running.

use super::Args;
use super::alone;
use super::child::{DataProcess, Event, Shared};
use super::message::FromData;
use super::routes::Blackholes;
use super::say;
use super::status::{State, Status, StatusFile};
use crate::check::counted;
use crate::config::{Config, Loaded};
use core::time::Duration;
use lvs_os::memory::SharedMemory;
use lvs_os::signal::{Signal, Signals};
use std::fs::File;
use std::io::Read;
use std::process::ExitStatus;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

/// The first pause before a new data process, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A data process that has lived so long was healthy: the next pause is the first again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// A data process reports every second; one that is silent for so long hangs.
const SILENCE: Duration = Duration::from_secs(10);
/// The same before it is ready: it may have many gigabytes of session memory to prepare.
const SILENCE_AT_START: Duration = Duration::from_secs(120);
/// How long a data process may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until a signal says stop.
///
/// # Errors
/// Why it could not start, in words for the operator.
pub(super) fn supervise(args: &Args, loaded: &Loaded) -> Result<(), String> {
    let config = &loaded.config;
    let _alone = alone::claim(config)?;
    let stops = [Signal::Terminate, Signal::Interrupt, Signal::User1, Signal::Hangup];
    // Before the first thread: threads inherit the mask.
    let signals = Signals::block(&stops).map_err(|e| format!("cannot block signals: {e}"))?;
    let (sender, events) = mpsc::channel();
    let for_signals = sender.clone();
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if for_signals.send(Event::Signal(signal)).is_err() {
                break;
            }
        }
    });
    let shared = share(config, loaded.report.text())?;
    let file = args.status.as_deref().map(StatusFile::new);
    let mut supervisor = Supervisor {
        config,
        shared,
        sender,
        file,
        status: Status::new(&config.director.name),
        data: None,
        started: 0,
        begun: Instant::now(),
        heard: Instant::now(),
        was_ready: false,
        pause: FIRST_PAUSE,
        restart_at: None,
    };
    // Before the first packet is carried. Dropped, and so removed, however this ends.
    let _routes = Blackholes::install(config);
    supervisor.start()?;
    let outcome = supervisor.run(&events);
    supervisor.stop(&events);
    outcome
}

/// Makes what every data process gets.
fn share(config: &Config, text: &str) -> Result<Shared, String> {
    let size = config.session_memory().map_err(|error| error.to_string())?;
    let memory = SharedMemory::create(c"lvsd-sessions", size.max(1)).map_err(|error| {
        let megabytes = size.div_ceil(1 << 20);
        format!("no memory for sessions ({megabytes} MiB): {error}; use fewer local addresses")
    })?;
    let seed = match config.director.seed {
        Some(seed) => seed,
        None => random().map_err(|error| format!("no random seed: {error}"))?,
    };
    Ok(Shared { text: text.into(), seed, memory: Arc::new(memory) })
}

fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

struct Supervisor<'c> {
    config: &'c Config,
    shared: Shared,
    sender: mpsc::Sender<Event>,
    file: Option<StatusFile>,
    status: Status,
    data: Option<DataProcess>,
    /// How many data processes there have been.
    started: u64,
    /// When the present one was started.
    begun: Instant,
    /// When it was heard last.
    heard: Instant,
    /// Whether any has carried packets.
    was_ready: bool,
    pause: Duration,
    restart_at: Option<Instant>,
}

impl Supervisor<'_> {
    fn start(&mut self) -> Result<(), String> {
        self.started += 1;
        let sender = self.sender.clone();
        let data = DataProcess::start(self.started, self.config, &self.shared, sender)?;
        self.begun = Instant::now();
        self.heard = self.begun;
        self.status.data_pid = Some(data.pid());
        self.data = Some(data);
        Ok(())
    }

    /// Until a signal says stop, or the first data process cannot begin.
    fn run(&mut self, events: &mpsc::Receiver<Event>) -> Result<(), String> {
        loop {
            match events.recv_timeout(self.patience()) {
                Ok(Event::Signal(Signal::Terminate | Signal::Interrupt)) => return Ok(()),
                Ok(Event::Signal(Signal::User1)) => {
                    self.data.iter().for_each(DataProcess::ask_report);
                }
                Ok(Event::Signal(_)) => {
                    say("a new configuration needs a restart in this version");
                }
                Ok(Event::Said(number, said)) if self.is_present(number) => self.hear(said)?,
                Ok(Event::Gone(number)) if self.is_present(number) => self.bury()?,
                // The last words of a data process that has been replaced.
                Ok(Event::Said(..) | Event::Gone(_)) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => self.look_after(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn is_present(&self, number: u64) -> bool {
        self.data.as_ref().is_some_and(|data| data.number() == number)
    }

    /// How long nothing needs to be done.
    fn patience(&self) -> Duration {
        let at = self.restart_at.unwrap_or(self.heard + self.longest_silence());
        at.saturating_duration_since(Instant::now())
    }

    fn longest_silence(&self) -> Duration {
        if self.status.state == State::Running { SILENCE } else { SILENCE_AT_START }
    }

    fn hear(&mut self, said: FromData) -> Result<(), String> {
        self.heard = Instant::now();
        match said {
            FromData::Ready { uid } => {
                self.was_ready = true;
                self.status.state = State::Running;
                let pid = self.status.data_pid.unwrap_or(0);
                say(&format!(
                    "ready: {}, {}; data process {pid}, user {uid}, no capabilities",
                    counted(self.config.ports.len(), "port"),
                    counted(self.config.services.len(), "service"),
                ));
            }
            FromData::Counts(counts) => {
                self.status.counts = counts;
            }
            FromData::Failed(why) if self.was_ready => say(&format!("data process: {why}")),
            FromData::Failed(why) => return Err(why),
        }
        self.publish();
        Ok(())
    }

    /// The data process has ended: says so and plans the next one.
    fn bury(&mut self) -> Result<(), String> {
        let Some(mut data) = self.data.take() else { return Ok(()) };
        let how = describe(data.end());
        if !self.was_ready {
            return Err(format!("the data process {how} before it carried packets"));
        }
        if self.begun.elapsed() >= HEALTHY_AFTER {
            self.pause = FIRST_PAUSE;
        }
        say(&format!(
            "the data process {} {how}; its sessions are lost; starting a new one in {} ms",
            data.pid(),
            self.pause.as_millis()
        ));
        self.plan_restart();
        Ok(())
    }

    fn plan_restart(&mut self) {
        self.restart_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.status.state = State::Restarting;
        self.status.data_pid = None;
        self.publish();
    }

    /// Starts a data process that is due, or ends one that hangs.
    fn look_after(&mut self) {
        if let Some(at) = self.restart_at {
            if Instant::now() < at {
                return;
            }
            self.restart_at = None;
            self.status.restarts += 1;
            if let Err(why) = self.start() {
                say(&format!("{why}; trying again in {} ms", self.pause.as_millis()));
                self.plan_restart();
            }
        } else if self.heard.elapsed() >= self.longest_silence() {
            say("the data process says nothing any more");
            self.heard = Instant::now();
            // Its end arrives as an event.
            if let Some(data) = &mut self.data {
                let _ = data.end();
            }
        }
    }

    /// Ends the data process, after its last counters.
    fn stop(&mut self, events: &mpsc::Receiver<Event>) {
        if let Some(mut data) = self.data.take() {
            data.ask_stop();
            let _ = data.end_kindly(PATIENCE);
            // What it said last is on its way through the thread that listens; `Gone` is the end.
            while let Ok(event) = events.recv_timeout(PATIENCE) {
                match event {
                    Event::Said(number, FromData::Counts(counts)) if number == data.number() => {
                        self.status.counts = counts;
                    }
                    Event::Gone(number) if number == data.number() => break,
                    _ => {}
                }
            }
        }
        self.status.state = State::Stopped;
        self.status.data_pid = None;
        self.publish();
    }

    fn publish(&self) {
        if let Some(Err(error)) = self.file.as_ref().map(|file| file.write(&self.status)) {
            say(&format!("cannot write the status file: {error}"));
        }
    }
}

/// How a process ended, as it reads in a sentence.
fn describe(ended: std::io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("has ended ({status})"),
        Err(error) => format!("has ended ({error})"),
    }
}
