//! What supervisor and data process tell each other: JSON, one value per message, descriptors beside.
//!
//! The supervisor does not trust the data process: a message that is too long or is none of
//! [`FromData`] ends the data process, and nothing of it reaches a file but numbers and known names.

use lvs_core::addr::MacAddr;
use lvs_io_afpacket::{Cures, Fanout, FanoutMode, Geometry, PortMeta};
use lvs_os::channel::Channel;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Longest message.
const LONGEST: usize = 144 << 10;
/// Bytes of the configuration in one message; escaping may double them.
pub(super) const CHUNK: usize = 32 << 10;
/// Both sides are one program; a replaced file on disk must not join another version's memory.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ToData {
    /// Comes first, with the session memory.
    Start {
        /// [`VERSION`].
        version: String,
        /// Seed of all secrets.
        seed: u64,
    },
    /// One port, in the order of the configuration, with its receive and transmit socket.
    Port(Port),
    /// The next part of the configuration's text.
    Config(String),
    /// The next part of the text by which the session memory was laid out, when it is not the same.
    Layout(String),
    /// Nothing more comes; begin.
    Go,
    /// The text is whole: put it in the place of the present configuration, as this number.
    Install(u64),
    /// Send the counts now.
    Report,
    /// Send the counts a last time and end.
    Stop,
}

/// From the data process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FromData {
    /// It carries packets.
    Ready {
        /// The user that it runs as.
        uid: u32,
        /// What its session memory is made of.
        memory: Memory,
    },
    /// Its counters.
    Counts(Counts),
    /// It cannot begin, and why.
    Failed(String),
    /// The configuration of this number is in effect.
    Installed(u64),
    /// The configuration of this number is not, and why; the one before still is.
    Refused(u64, String),
}

/// Bytes of session memory by the kind of page; all of it is there before the first packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Huge pages that were reserved.
    pub(super) reserved: u64,
    /// Huge pages that the kernel gave by itself.
    pub(super) transparent: u64,
    /// Ordinary pages.
    pub(super) small: u64,
}

impl core::fmt::Display for Memory {
    /// In MiB, without what there is none of.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kinds = [
            (self.reserved, "reserved huge pages"),
            (self.transparent, "transparent huge pages"),
            (self.small, "ordinary pages"),
        ];
        let parts = kinds.into_iter().filter(|(bytes, _)| *bytes > 0);
        let parts: Vec<_> = parts
            .map(|(bytes, kind)| format!("{} MiB in {kind}", bytes.div_ceil(1 << 20)))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// Counters of a data process since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Live sessions.
    pub(super) sessions: u64,
    /// Those among them whose service or server the configuration no longer has.
    pub(super) leaving: u64,
    /// Local ports in use.
    pub(super) ports_in_use: u64,
    /// Packets received on all ports.
    pub(super) rx: u64,
    /// Packets handed to all ports.
    pub(super) tx: u64,
    /// Packets dropped, by the id of the reason; reasons that never came are left out.
    pub(super) drops: BTreeMap<String, u64>,
    /// How servers were told their clients' addresses; what never came is left out.
    #[serde(default)]
    pub(super) client_address: BTreeMap<String, u64>,
    /// Each port, in the order of the configuration.
    pub(super) ports: Vec<PortCounts>,
    /// The first [`MOST_SERVERS`] servers: those of the configuration, and removed ones with sessions.
    pub(super) servers: Vec<ServerCounts>,
    /// How many more there are.
    pub(super) servers_left_out: u64,
    /// Each worker, in the order of their numbers.
    pub(super) workers: Vec<WorkerCounts>,
}

/// So many servers fit a message with room to spare: each takes less than 480 bytes.
pub(super) const MOST_SERVERS: usize = 256;

/// Counters of one server of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerCounts {
    /// Protocol and address of the service; none when the whole service was removed.
    pub(super) service: Option<String>,
    /// Its address.
    pub(super) address: String,
    /// Whether the configuration no longer has it.
    pub(super) removed: bool,
    /// How it stands; with `drain` where it takes no new sessions.
    #[serde(default)]
    pub(super) state: ServerState,
    /// How far it is with going away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) drain: Option<DrainCounts>,
    /// Its share of new sessions.
    pub(super) weight: u16,
    /// How much of that it has at present, in hundredths: less while it starts slowly.
    pub(super) share: u8,
    /// Sessions in an established state.
    pub(super) active: u32,
    /// All other sessions.
    pub(super) inactive: u32,
    /// Sessions opened.
    pub(super) opened: u64,
    /// Packets from clients and to them.
    pub(super) packets: [u64; 2],
    /// Bytes of the IP packets, the same way.
    pub(super) bytes: [u64; 2],
}

/// The words of the configuration, and `removed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ServerState {
    /// It takes new sessions.
    #[default]
    Active,
    /// Its sessions go on until they end or its time has come.
    Draining,
    /// Its sessions are reset.
    DownKill,
    /// Its sessions are left alone.
    DownKeep,
    /// The configuration no longer has it.
    Removed,
}

/// Of a server that takes no new sessions: `active` and `inactive` say what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DrainCounts {
    /// Milliseconds until its sessions are reset; none = never. 0 when the time has come.
    pub(super) left_ms: Option<u64>,
    /// Sessions ended because the time had come.
    pub(super) reset: u64,
    /// Persistent clients of it that were led to another server.
    pub(super) moved: u64,
}

impl DrainCounts {
    /// Each worker counts the time from its own reload, a moment apart: the last one counts.
    fn fold(&mut self, other: &Self) {
        self.left_ms = self.left_ms.max(other.left_ms);
        self.reset += other.reset;
        self.moved += other.moved;
    }
}

impl Counts {
    /// Adds what another worker has counted on the same ports.
    pub(super) fn fold(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.leaving += other.leaving;
        self.ports_in_use += other.ports_in_use;
        self.rx += other.rx;
        self.tx += other.tx;
        for (sums, more) in
            [(&mut self.drops, &other.drops), (&mut self.client_address, &other.client_address)]
        {
            for (name, count) in more {
                *sums.entry(name.clone()).or_default() += count;
            }
        }
        for (port, more) in self.ports.iter_mut().zip(&other.ports) {
            port.rx += more.rx;
            port.tx += more.tx;
            port.rx_missed += more.rx_missed;
            port.rx_truncated += more.rx_truncated;
            port.tx_rejected += more.tx_rejected;
        }
        for server in &other.servers {
            self.fold_server(server);
        }
        // Each left out as many by itself; which ones is not known.
        self.servers_left_out = self.servers_left_out.max(other.servers_left_out);
        self.workers.extend(other.workers.iter().cloned());
    }

    /// A removed server is listed by the workers that still have sessions of it.
    fn fold_server(&mut self, other: &ServerCounts) {
        let same = |server: &&mut ServerCounts| {
            (&server.service, &server.address, server.removed)
                == (&other.service, &other.address, other.removed)
        };
        if let Some(server) = self.servers.iter_mut().find(same) {
            server.active += other.active;
            server.inactive += other.inactive;
            server.opened += other.opened;
            match (&mut server.drain, &other.drain) {
                (Some(drain), Some(more)) => drain.fold(more),
                (drain, more) => *drain = drain.or(*more),
            }
            for (sum, more) in server.packets.iter_mut().zip(other.packets) {
                *sum += more;
            }
            for (sum, more) in server.bytes.iter_mut().zip(other.bytes) {
                *sum += more;
            }
        } else if self.servers.len() < MOST_SERVERS {
            self.servers.push(other.clone());
        } else {
            self.servers_left_out += 1;
        }
    }
}

/// Counters of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WorkerCounts {
    /// Live sessions.
    pub(super) sessions: u64,
    /// Packets received from all ports.
    pub(super) rx: u64,
    /// Packets handed to all ports.
    pub(super) tx: u64,
    /// Packets that another worker owns and got.
    pub(super) handed_over: u64,
    /// Packets that others handed over.
    pub(super) taken_over: u64,
}

/// Counters of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PortCounts {
    /// Its name in the configuration.
    pub(super) name: String,
    /// Packets received.
    pub(super) rx: u64,
    /// Packets handed to the device.
    pub(super) tx: u64,
    /// Packets that the kernel dropped because the ring was full.
    pub(super) rx_missed: u64,
    /// Packets that were longer than a ring slot.
    pub(super) rx_truncated: u64,
    /// Packets that the device refused.
    pub(super) tx_rejected: u64,
}

/// What is known about an opened port, as it crosses the border.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Port {
    name: String,
    index: u32,
    mac: [u8; 6],
    mtu: u16,
    link_up: bool,
    slot_size: u32,
    slots: u32,
    promiscuous: bool,
    /// Number of the fanout group, when there are several workers.
    fanout: Option<u16>,
}

impl From<&PortMeta> for Port {
    fn from(meta: &PortMeta) -> Self {
        Self {
            name: meta.name.clone(),
            index: meta.index,
            mac: meta.mac.0,
            mtu: meta.mtu,
            link_up: meta.link_up,
            slot_size: meta.geometry.slot_size,
            slots: meta.geometry.slots,
            promiscuous: meta.promiscuous,
            fanout: meta.fanout.as_ref().map(|fanout| fanout.group),
        }
    }
}

impl From<Port> for PortMeta {
    fn from(port: Port) -> Self {
        Self {
            name: port.name,
            index: port.index,
            mac: MacAddr(port.mac),
            mtu: port.mtu,
            link_up: port.link_up,
            geometry: Geometry { slot_size: port.slot_size, slots: port.slots },
            promiscuous: port.promiscuous,
            // Who gets what is in the configuration, which comes later.
            fanout: port.fanout.map(|group| Fanout { group, mode: FanoutMode::Hash }),
            cures: Cures::default(),
        }
    }
}

/// Sends one message.
pub(super) fn send<M: Serialize>(
    channel: &Channel,
    message: &M,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, fds)
}

/// Waits for one message; `None` when the other side has ended.
pub(super) fn receive<M: DeserializeOwned>(
    channel: &Channel,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; LONGEST];
    let message = channel.receive(&mut buffer)?;
    if message.len == 0 {
        return Ok(None);
    }
    let text = buffer.get(..message.len).unwrap_or_default();
    Ok(Some((serde_json::from_slice(text)?, message.fds)))
}

/// A text in parts that each fit a message, cut between characters.
pub(super) fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let (chunk, left) = rest.split_at(rest.floor_char_boundary(CHUNK));
        rest = left;
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_configuration_arrives_whole_whatever_is_in_it() {
        let (here, there) = Channel::pair().unwrap();
        let text = "\"\\ö\n\t漢\u{1}".repeat(20_000);
        let sent = text.clone();
        let sender = std::thread::spawn(move || {
            for chunk in chunks(&sent) {
                send(&here, &ToData::Config(chunk.to_owned()), &[]).unwrap();
            }
        });
        let mut arrived = String::new();
        while let Some((ToData::Config(chunk), _)) = receive(&there).unwrap() {
            arrived += &chunk;
        }
        sender.join().unwrap();
        assert!(arrived == text, "{} of {} bytes", arrived.len(), text.len());
        assert_eq!(chunks("").count(), 0);
    }

    #[test]
    fn counters_of_workers_add_up_server_by_server() {
        let server = |address: &str, active| ServerCounts {
            address: address.into(),
            active,
            opened: 2 * u64::from(active),
            packets: [1, 2],
            ..ServerCounts::default()
        };
        let counts = |servers: Vec<ServerCounts>| Counts {
            sessions: 5,
            rx: 7,
            drops: [("no_port".to_owned(), 3)].into(),
            client_address: [("toa_ahead".to_owned(), 2)].into(),
            ports: vec![PortCounts { rx: 7, ..PortCounts::default() }],
            workers: vec![WorkerCounts { sessions: 5, ..WorkerCounts::default() }],
            servers,
            ..Counts::default()
        };
        let mut sum = counts(vec![server("a", 1), server("b", 2)]);
        sum.fold(&counts(vec![server("b", 10), server("c", 4)]));
        assert_eq!((sum.sessions, sum.rx, sum.drops["no_port"], sum.ports[0].rx), (10, 14, 6, 14));
        assert_eq!((sum.workers.len(), sum.client_address["toa_ahead"]), (2, 4));
        let active: Vec<_> = sum.servers.iter().map(|s| (s.address.as_str(), s.active)).collect();
        assert_eq!(active, [("a", 1), ("b", 12), ("c", 4)]);
        assert_eq!((sum.servers[1].opened, sum.servers[1].packets), (24, [2, 4]));
        let many = (0..MOST_SERVERS).map(|n| server(&n.to_string(), 1)).collect();
        let mut full = counts(many);
        full.fold(&counts(vec![server("one more", 1), server("7", 1)]));
        assert_eq!((full.servers.len(), full.servers_left_out), (MOST_SERVERS, 1));
        assert_eq!(full.servers[7].active, 2);
    }

    #[test]
    fn what_workers_say_of_a_server_that_goes_away_adds_up_and_the_last_deadline_counts() {
        let says = |drain| Counts {
            servers: vec![ServerCounts { drain, ..ServerCounts::default() }],
            ..Counts::default()
        };
        let drain = |left_ms, reset, moved| Some(DrainCounts { left_ms, reset, moved });
        for (one, two, both) in [
            (drain(Some(5), 1, 2), drain(Some(7), 10, 20), drain(Some(7), 11, 22)),
            (drain(None, 1, 0), drain(None, 0, 1), drain(None, 1, 1)),
            (None, drain(Some(0), 3, 0), drain(Some(0), 3, 0)),
        ] {
            let mut sum = says(one);
            sum.fold(&says(two));
            assert_eq!(sum.servers[0].drain, both);
        }
    }

    #[test]
    fn a_port_keeps_what_is_known_about_it() {
        let meta = PortMeta {
            name: "eth1".into(),
            index: 7,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 9000,
            link_up: true,
            geometry: Geometry::MTU_ONLY,
            promiscuous: true,
            fanout: Some(Fanout { group: 77, mode: FanoutMode::Hash }),
            cures: Cures::default(),
        };
        let json = serde_json::to_string(&Port::from(&meta)).unwrap();
        assert_eq!(PortMeta::from(serde_json::from_str::<Port>(&json).unwrap()), meta);
    }

    #[test]
    fn counts_of_the_most_servers_fit_a_message() {
        let long = "udp [2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".to_owned();
        let server = ServerCounts {
            service: Some(long.clone()),
            address: long,
            removed: false,
            state: ServerState::Draining,
            drain: Some(DrainCounts { left_ms: Some(u64::MAX), reset: u64::MAX, moved: u64::MAX }),
            weight: u16::MAX,
            share: 100,
            active: u32::MAX,
            inactive: u32::MAX,
            opened: u64::MAX,
            packets: [u64::MAX; 2],
            bytes: [u64::MAX; 2],
        };
        let counts = Counts { servers: vec![server; MOST_SERVERS], ..Counts::default() };
        let bytes = serde_json::to_vec(&FromData::Counts(counts)).unwrap().len();
        assert!(bytes < LONGEST - (24 << 10), "{bytes}: room for ports and drops is missing");
    }

    #[test]
    fn memory_is_told_by_the_kinds_that_there_are() {
        let mixed = Memory { reserved: 0, transparent: 6 << 20, small: (2 << 20) + 1 };
        assert_eq!(mixed.to_string(), "6 MiB in transparent huge pages, 3 MiB in ordinary pages");
        let reserved = Memory { reserved: 4 << 20, ..Memory::default() };
        assert_eq!(reserved.to_string(), "4 MiB in reserved huge pages");
    }

    #[test]
    fn a_message_that_is_not_one_is_an_error_and_the_end_is_none() {
        let (here, there) = Channel::pair().unwrap();
        here.send(b"{\"steal\":1}", &[]).unwrap();
        assert!(receive::<FromData>(&there).is_err());
        drop(here);
        assert!(receive::<FromData>(&there).unwrap().is_none());
    }
}
