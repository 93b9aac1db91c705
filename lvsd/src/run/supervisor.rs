//! The supervisor: holds what needs privileges, keeps a data process running, and gives it new
//! configurations.

use super::Args;
use super::alone;
use super::child::{DataProcess, Event, Shared};
use super::message::FromData;
use super::reload::{Current, Next};
use super::routes::Blackholes;
use super::say;
use super::status::{Outcome, Reload, State, Status, StatusFile};
use crate::check::counted;
use crate::config::{Config, HugePages, Loaded};
use core::net::IpAddr;
use core::time::Duration;
use lvs_os::memory::{HUGE_PAGE, Pages, SharedMemory};
use lvs_os::signal::{Signal, Signals};
use std::collections::BTreeSet;
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
/// The most that the status says about a reload; the log has all.
const LONGEST_ANSWER: usize = 16 << 10;
/// How long a data process may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until a signal says stop.
///
/// # Errors
/// Why it could not start, in words for the operator.
pub(super) fn supervise(args: &Args, loaded: Loaded) -> Result<(), String> {
    let layout = loaded.config.clone();
    let _alone = alone::claim(&layout)?;
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
    let shared = share(&layout, loaded.report.text())?;
    let file = args.status.as_deref().map(StatusFile::new);
    let mut supervisor = Supervisor {
        args,
        // Before the first packet is carried. Dropped, and so removed, however this ends.
        routes: Blackholes::install(&layout),
        status: Status::new(&layout.director.name),
        layout,
        current: Current::fresh(loaded, 1)?,
        shared,
        sender,
        file,
        data: None,
        started: 0,
        begun: Instant::now(),
        heard: Instant::now(),
        was_ready: false,
        pause: FIRST_PAUSE,
        restart_at: None,
        reload_wanted: false,
        pending: None,
    };
    supervisor.start()?;
    let outcome = supervisor.run(&events);
    supervisor.stop(&events);
    outcome
}

/// Makes what every data process gets.
fn share(config: &Config, text: &str) -> Result<Shared, String> {
    let size = config.run_memory().map_err(|error| error.to_string())?;
    let pages = pages(config.director.huge_pages);
    let memory = SharedMemory::create_of(c"lvsd-sessions", size.max(1), pages).map_err(|error| {
        let megabytes = size.div_ceil(1 << 20);
        if pages == Pages::Reserved {
            return format!(
                "too few reserved huge pages for the sessions ({} of 2 MiB: {error}); reserve more with \
                 `sysctl vm.nr_hugepages`, or set `huge_pages = \"auto\"`",
                counted(size.max(1).div_ceil(HUGE_PAGE), "page"),
            );
        }
        format!("no memory for sessions ({megabytes} MiB): {error}; use fewer local addresses")
    })?;
    let seed = match config.director.seed {
        Some(seed) => seed,
        None => random().map_err(|error| format!("no random seed: {error}"))?,
    };
    Ok(Shared { layout: text.into(), seed, memory: Arc::new(memory) })
}

/// The setting as the memory takes it.
pub(super) const fn pages(setting: HugePages) -> Pages {
    match setting {
        HugePages::Auto => Pages::Auto,
        HugePages::Reserved => Pages::Reserved,
        HugePages::Off => Pages::Small,
    }
}

fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

struct Supervisor<'a> {
    args: &'a Args,
    routes: Blackholes,
    /// What the session memory was made for.
    layout: Config,
    /// What is in effect.
    current: Current,
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
    /// SIGHUP has come and nothing was done yet.
    reload_wanted: bool,
    /// What the data process has been given and has not answered yet.
    pending: Option<Pending>,
}

/// A reload under way.
struct Pending {
    next: Next,
    /// What was installed for it.
    routes: BTreeSet<IpAddr>,
}

impl Supervisor<'_> {
    fn start(&mut self) -> Result<(), String> {
        self.started += 1;
        let sender = self.sender.clone();
        let data = DataProcess::start(self.started, &self.current, &self.shared, sender)?;
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
                Ok(Event::Signal(_)) => self.reload_wanted = true,
                Ok(Event::Said(number, said)) if self.is_present(number) => self.hear(said)?,
                Ok(Event::Gone(number)) if self.is_present(number) => self.bury()?,
                // The last words of a data process that has been replaced.
                Ok(Event::Said(..) | Event::Gone(_)) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => self.look_after(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.reload_if_wanted();
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
            FromData::Ready { uid, memory } => {
                self.was_ready = true;
                self.status.state = State::Running;
                self.status.memory = memory;
                self.status.configuration = self.current.number;
                let pid = self.status.data_pid.unwrap_or(0);
                say(&format!(
                    "ready: {}, {}; data process {pid}, user {uid}, no capabilities; \
                     session memory: {memory}",
                    counted(self.current.loaded.config.ports.len(), "port"),
                    counted(self.current.loaded.config.services.len(), "service"),
                ));
            }
            FromData::Counts(counts) => {
                // Counted after the last configuration was installed, or it would not be this one.
                if counts.leaving == 0 && self.pending.is_none() {
                    self.routes.remove_retired();
                }
                self.status.counts = counts;
            }
            FromData::Installed(number) => self.installed(number),
            FromData::Refused(number, why) => self.refused(number, &why),
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
        if self.pending.is_some() {
            self.give_up(&format!("the data process {how} meanwhile; try again"));
        }
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

    /// Reads the configuration again, when that was asked for and somebody is there to take it.
    fn reload_if_wanted(&mut self) {
        let ready = self.status.state == State::Running && self.pending.is_none();
        let Some(data) = self.data.as_ref().filter(|_| self.reload_wanted && ready) else { return };
        self.reload_wanted = false;
        match self.current.next(&self.args.config, &self.layout) {
            Ok(Some(next)) => {
                say(&format!("reload: configuration {}:\n{}", next.current.number, next.plan));
                // Before the director answers for them.
                let routes = self.routes.add(&next.current.loaded.config);
                data.install(next.current.number, next.current.text());
                self.pending = Some(Pending { next, routes });
            }
            Ok(None) => {
                let what = "the file means what it meant before";
                say(&format!("reload: {what}"));
                self.answer(Outcome::Unchanged, what.to_owned());
            }
            Err(why) => self.give_up(&why),
        }
    }

    fn installed(&mut self, number: u64) {
        let expected = |pending: &mut Pending| pending.next.current.number == number;
        let Some(Pending { next, .. }) = self.pending.take_if(expected) else { return };
        say(&format!("reload: configuration {number} is in effect"));
        self.routes.retire(&self.current.loaded.config, &next.current.loaded.config);
        self.current = next.current;
        self.status.configuration = number;
        self.status.name.clone_from(&self.current.loaded.config.director.name);
        self.answer(Outcome::Applied, next.plan.to_string());
    }

    fn refused(&mut self, number: u64, why: &str) {
        if self.pending.as_ref().is_some_and(|p| p.next.current.number == number) {
            self.give_up(why);
        }
    }

    /// Leaves the configuration as it is.
    fn give_up(&mut self, why: &str) {
        say(&format!("reload: {why}\nlvsd: reload refused: nothing has changed"));
        if let Some(pending) = self.pending.take() {
            self.routes.remove(&pending.routes);
        }
        self.answer(Outcome::Refused, why.to_owned());
    }

    fn answer(&mut self, outcome: Outcome, mut message: String) {
        message.truncate(message.floor_char_boundary(LONGEST_ANSWER));
        let count = self.status.reload.count + 1;
        self.status.reload = Reload { count, outcome, message };
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
            // No session of earlier configurations is left.
            self.current.forget_past();
            self.routes.keep_only(&self.current.loaded.config);
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
