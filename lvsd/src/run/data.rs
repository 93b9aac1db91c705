//! The data process: gives up every privilege, takes what the supervisor hands it, carries packets.

use super::fleet::{self, Work};
use super::message::{self, FromData, Memory, ToData};
use super::steps::Reloads;
use super::supervisor;
use super::worker::Control;
use crate::Exit;
use crate::config::{self, Config};
use core::sync::atomic::Ordering;
use lvs_io_afpacket::{Fanout, PortSockets};
use lvs_os::channel::Channel;
use lvs_os::memory::{PageUse, Pages, Region, SharedMemory};
use lvs_os::{privilege, process};
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

/// User and group `nobody`.
const NOBODY: u32 = 65_534;

/// Runs the data process; its standard input is the supervisor.
#[must_use]
pub(crate) fn main() -> Exit {
    if io::stdin().is_terminal() {
        eprintln!("lvsd: this is a part of `lvsd run` and is not started by hand");
        return Exit::Usage;
    }
    // The kernel names a process after the file it was started from, which is `/proc/self/exe`.
    let _ = fs::write("/proc/self/comm", "lvsd-data");
    // Before a byte is read.
    if let Err(error) = give_up_privileges() {
        eprintln!("lvsd: data process: cannot give up privileges: {error}");
        return Exit::Failure;
    }
    let channel = match Channel::from_stdin() {
        Ok(channel) => Arc::new(channel),
        Err(error) => {
            eprintln!("lvsd: data process: no channel to the supervisor: {error}");
            return Exit::Failure;
        }
    };
    match serve(&channel) {
        Ok(()) => Exit::Ok,
        Err(why) => {
            // When the supervisor has gone as well, nobody is left to tell.
            let _ = message::send(&channel, &FromData::Failed(why), &[]);
            Exit::Failure
        }
    }
}

/// No capability, and not root's files either where there is another user to become.
fn give_up_privileges() -> io::Result<()> {
    if process::effective_uid() == 0 {
        privilege::drop_bounding_set()?;
        // Refused where the user namespace has one user only: then root is nobody outside.
        let _ = privilege::become_user(NOBODY, NOBODY);
    }
    privilege::drop_all()?;
    match privilege::effective()? {
        0 => Ok(()),
        left => Err(io::Error::other(format!("capabilities {left:#x} are left"))),
    }
}

/// What the supervisor has handed over.
struct Handed {
    config: Config,
    /// What the session memory was made for.
    layout: Config,
    seed: u64,
    memory: SharedMemory,
    sockets: Vec<PortSockets>,
}

fn serve(channel: &Arc<Channel>) -> Result<(), String> {
    let handed = take(channel)?;
    let pages = supervisor::pages(handed.layout.director.huge_pages);
    let (mut region, memory) = mapped(&handed.memory, pages)
        .map_err(|error| format!("cannot map the session memory: {error}"))?;
    let spec = config::specification(&handed.config).map_err(|error| error.to_string())?;
    let first = Arc::new(spec.clone().build(None).map_err(|error| error.to_string())?);
    let control = Arc::new(Control::default());
    let work = Work {
        layout: &handed.layout,
        first: Arc::clone(&first),
        seed: handed.seed,
        control: Arc::clone(&control),
    };
    let sockets = steered(handed.sockets, &handed.config)?;
    let told = |said: FromData| {
        message::send(channel, &said, &[]).map_err(|error| format!("supervisor: {error}"))
    };
    let ready = |supplies| {
        obey(channel, &control, Reloads::new(supplies, first, spec));
        told(FromData::Ready { uid: process::effective_uid(), memory })
    };
    fleet::run(&work, sockets, region.as_mut_slice(), ready, |counts| {
        told(FromData::Counts(counts))
    })
}

/// Maps the session memory with pages behind all of it: the first packet of a session waits for none.
fn mapped(memory: &SharedMemory, pages: Pages) -> io::Result<(Region, Memory)> {
    let mut region = memory.map_of(pages)?;
    region.prefault()?;
    let PageUse { reserved, transparent, small } = region.page_use()?;
    Ok((region, Memory { reserved, transparent, small }))
}

/// The sockets of each worker, with the program that spreads packets over them.
fn steered(sockets: Vec<PortSockets>, config: &Config) -> Result<Vec<Vec<PortSockets>>, String> {
    let (ports, workers) = (config.ports.len(), usize::from(config.director.workers));
    if sockets.len() != ports * workers {
        return Err("the supervisor has sent other sockets than were expected".to_owned());
    }
    let mode = config.fanout().map_err(|error| error.to_string());
    let mode = if workers > 1 { Some(mode?) } else { None };
    let steer = |sockets: PortSockets| {
        let (rx, tx, mut meta) = sockets.into_parts();
        meta.fanout = meta.fanout.zip(mode.clone()).map(|(fanout, mode)| Fanout { mode, ..fanout });
        PortSockets::from_parts(rx, tx, meta)
    };
    let mut all = sockets.into_iter().map(steer);
    Ok((0..workers).map(|_| all.by_ref().take(ports).collect()).collect())
}

/// Receives until the supervisor says that this is all.
fn take(channel: &Channel) -> Result<Handed, String> {
    let mut start = None;
    let mut sockets = Vec::new();
    let (mut text, mut layout) = (String::new(), String::new());
    loop {
        let next = message::receive::<ToData>(channel);
        let next = next.map_err(|error| format!("supervisor: {error}"))?;
        let (said, fds) = next.ok_or("the supervisor has gone")?;
        match said {
            ToData::Start { version, seed } => start = Some(begin(&version, seed, fds)?),
            ToData::Port(port) => sockets.push(port_of(port, fds)?),
            ToData::Config(chunk) => text += &chunk,
            ToData::Layout(chunk) => layout += &chunk,
            ToData::Go => break,
            ToData::Report | ToData::Install(_) => {}
            ToData::Stop => return Err("stopped before it began".to_owned()),
        }
    }
    let (seed, memory) = start.ok_or("the supervisor has sent no session memory")?;
    let config = read(&text)?;
    let layout = if layout.is_empty() { config.clone() } else { read(&layout)? };
    Ok(Handed { config, layout, seed, memory, sockets })
}

fn read(text: &str) -> Result<Config, String> {
    config::parse("configuration", text)
        .map(|loaded| loaded.config)
        .map_err(|report| format!("the configuration was damaged: {}", report.render(false)))
}

fn begin(version: &str, seed: u64, fds: Vec<OwnedFd>) -> Result<(u64, SharedMemory), String> {
    if version != message::VERSION {
        return Err(format!(
            "the supervisor is version {version}, the data process {}",
            message::VERSION
        ));
    }
    let [memory] = <[OwnedFd; 1]>::try_from(fds).map_err(|_| "one memory was expected")?;
    let memory =
        SharedMemory::from_fd(memory).map_err(|error| format!("session memory: {error}"))?;
    Ok((seed, memory))
}

fn port_of(port: message::Port, fds: Vec<OwnedFd>) -> Result<PortSockets, String> {
    let [rx, tx] = <[OwnedFd; 2]>::try_from(fds).map_err(|_| "two sockets were expected")?;
    Ok(PortSockets::from_parts(rx, tx, port.into()))
}

/// Listens to the supervisor while packets are carried. When it has gone, so does this process: a
/// balancer that nobody can stop must not run.
fn obey(channel: &Arc<Channel>, control: &Arc<Control>, reloads: Reloads) {
    let (channel, control) = (Arc::clone(channel), Arc::clone(control));
    let mut text = String::new();
    thread::spawn(move || {
        let reloads = reloads.with_steps();
        loop {
            match message::receive::<ToData>(&channel) {
                Ok(Some((ToData::Report, _))) => {
                    control.report.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Some((ToData::Stop, _))) => control.stop.store(true, Ordering::Relaxed),
                Ok(Some((ToData::Config(chunk), _))) => text += &chunk,
                Ok(Some((ToData::Install(number), _))) => {
                    let next = read(&core::mem::take(&mut text));
                    let said = match next.and_then(|config| reloads.install(&config)) {
                        Ok(()) => FromData::Installed(number),
                        Err(why) => FromData::Refused(number, why),
                    };
                    // An error shows at the next receive.
                    let _ = message::send(&channel, &said, &[]);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => std::process::exit(i32::from(Exit::Failure.code())),
            }
        }
    });
}
