//! One data process as the supervisor sees it: started, fed, listened to, ended.

use super::message::{self, FromData, Port, ToData};
use super::reload::Current;
use crate::config::Config;
use core::time::Duration;
use lvs_io_afpacket::{Fanout, FanoutMode, Interface, PortConfig, PortSockets};
use lvs_os::channel::Channel;
use lvs_os::memory::SharedMemory;
use lvs_os::process::SpawnExt;
use lvs_os::signal::Signal;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

/// What the supervisor waits for.
#[derive(Debug)]
pub(super) enum Event {
    /// A signal.
    Signal(Signal),
    /// Data process number `.0` has said something.
    Said(u64, FromData),
    /// Data process number `.0` has ended, or talks nonsense.
    Gone(u64),
}

/// What every data process gets, the first as the last.
pub(super) struct Shared {
    /// The text of the configuration that the session memory was made for.
    pub(super) layout: Arc<str>,
    /// Seed of all secrets.
    pub(super) seed: u64,
    /// The session memory.
    pub(super) memory: Arc<SharedMemory>,
}

/// A running data process.
pub(super) struct DataProcess {
    number: u64,
    child: Child,
    channel: Arc<Channel>,
}

impl DataProcess {
    /// Opens the ports, starts a process and hands it everything. What it says comes as events.
    ///
    /// To be called on a thread that lives as long as the supervisor: the kernel kills the data
    /// process when that thread ends.
    pub(super) fn start(
        number: u64,
        current: &Current,
        shared: &Shared,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, String> {
        let sockets = open_ports(&current.loaded.config)?;
        let (channel, its_end) = Channel::pair().map_err(|e| format!("no socket pair: {e}"))?;
        let child = Command::new("/proc/self/exe")
            .arg0("lvsd")
            .arg(super::DATA_PROCESS)
            .stdin(OwnedFd::from(its_end))
            .die_with_parent(Signal::Kill)
            // Ctrl-C at the terminal is for the supervisor.
            .new_session()
            .spawn()
            .map_err(|error| format!("cannot start the data process: {error}"))?;
        let channel = Arc::new(channel);
        let (memory, seed, layout) = (shared.memory.clone(), shared.seed, shared.layout.clone());
        let text = current.text();
        let theirs = Arc::clone(&channel);
        // A thread, because a data process that hangs must not hang the supervisor.
        thread::spawn(move || {
            let fed = begin(&theirs, seed, &memory, sockets).and_then(|()| {
                if layout != text {
                    send_text(&theirs, &layout, ToData::Layout)?;
                }
                send_text(&theirs, &text, ToData::Config)?;
                message::send(&theirs, &ToData::Go, &[])
            });
            let said = fed.and_then(|()| listen(number, &theirs, &events));
            if let Err(error) = said {
                super::say(&format!("data process: {error}"));
            }
            let _ = events.send(Event::Gone(number));
        });
        Ok(Self { number, child, channel })
    }

    /// The number it was started with.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for its counters now. An error shows as the end of the process soon after.
    pub(super) fn ask_report(&self) {
        let _ = message::send(&self.channel, &ToData::Report, &[]);
    }

    /// Sends it another configuration; the answer comes as an event. To be called when it carries
    /// packets: until then another thread is sending.
    pub(super) fn install(&self, number: u64, text: Arc<str>) {
        let channel = Arc::clone(&self.channel);
        // A thread for the same reason as in `start`. An error shows as the end of the process.
        thread::spawn(move || {
            let _ = send_text(&channel, &text, ToData::Config)
                .and_then(|()| message::send(&channel, &ToData::Install(number), &[]));
        });
    }

    /// Asks it to end.
    pub(super) fn ask_stop(&self) {
        let _ = message::send(&self.channel, &ToData::Stop, &[]);
    }

    /// Ends it for sure and says how it ended.
    pub(super) fn end(&mut self) -> io::Result<ExitStatus> {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        self.child.wait()
    }

    /// Waits for its own end, at most `patience`, then ends it for sure.
    pub(super) fn end_kindly(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < patience {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.end()
    }
}

/// The sockets of all ports for the first worker, then for the next one.
fn open_ports(config: &Config) -> Result<Vec<PortSockets>, String> {
    let mut sockets = Vec::new();
    let workers = usize::from(config.director.workers);
    for port in core::iter::repeat_n(&config.ports, workers).flatten() {
        let mut wanted = PortConfig::new(Interface::Name(port.interface.value.clone()));
        // Frames for an address that is not the interface's own reach it only so.
        wanted.promiscuous = port.mac.is_some();
        let mut opened = PortSockets::open(&wanted)
            .map_err(|error| format!("port `{}`: {error}", port.name.value))?;
        if workers > 1 {
            opened = in_group(opened);
        }
        let most = opened.meta().mtu;
        if let Some(mtu) = port.mtu.as_ref().filter(|mtu| mtu.value > most) {
            return Err(format!(
                "port `{}`: mtu {} is more than the {most} of {}; lower it, or raise the \
                 interface's (ip link set {} mtu {})",
                port.name.value, mtu.value, port.interface.value, port.interface.value, mtu.value,
            ));
        }
        sockets.push(opened);
    }
    Ok(sockets)
}

/// The same sockets, to join the group of all workers on their interface. Its number follows from that of the
/// interface, one to one, and is unlikely to be what other programs choose.
fn in_group(sockets: PortSockets) -> PortSockets {
    let (rx, tx, mut meta) = sockets.into_parts();
    let group = (meta.index as u16).wrapping_mul(0x9e37) ^ 0x6c76;
    meta.fanout = Some(Fanout { group, mode: FanoutMode::Hash });
    PortSockets::from_parts(rx, tx, meta)
}

fn begin(
    channel: &Channel,
    seed: u64,
    memory: &SharedMemory,
    sockets: Vec<PortSockets>,
) -> io::Result<()> {
    let start = ToData::Start { version: message::VERSION.to_owned(), seed };
    message::send(channel, &start, &[memory.as_fd()])?;
    for port in sockets {
        let (rx, tx, meta) = port.into_parts();
        let described = ToData::Port(Port::from(&meta));
        message::send(channel, &described, &[rx.as_fd(), tx.as_fd()])?;
    }
    Ok(())
}

fn send_text(channel: &Channel, text: &str, message: impl Fn(String) -> ToData) -> io::Result<()> {
    message::chunks(text)
        .try_for_each(|chunk| message::send(channel, &message(chunk.to_owned()), &[]))
}

/// Passes on what the process says until it ends.
fn listen(number: u64, channel: &Channel, events: &mpsc::Sender<Event>) -> io::Result<()> {
    // Descriptors that came along are closed here: none are expected.
    while let Some((said, _)) = message::receive::<FromData>(channel)? {
        if events.send(Event::Said(number, said)).is_err() {
            break;
        }
    }
    Ok(())
}
