//! All ports of one worker: the mapped rings, and the [`Lane`] that receives from and sends to them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use lvs_core::addr::MacAddr;
use lvs_core::io::{
    BURST, Burst, Caps, GsoCaps, IoError, Lane, PacketBuf, PortId, PortInfo, PortStats, WaitReady,
};

use crate::config::PortConfig;
use crate::error::{OpenError, Step};
use crate::open::{PortSockets, refused};
use crate::pool::Pool;
use crate::ring::{Next, PortRing};
use crate::slot::{HEADROOM, Slot};
use crate::sys::{self, SendBatch};

/// Buffers for packets that the director makes itself.
const POOL: u32 = 1024;

/// The mapped rings of one worker: the memory from which its packets are borrowed.
#[derive(Debug)]
pub struct Rings {
    ports: Vec<PortRing>,
    pool: Pool,
}

impl Rings {
    /// Opens the sockets of all ports and maps their rings.
    ///
    /// # Errors
    /// [`OpenError`] says which interface and step failed and what to do.
    pub fn open(configs: &[PortConfig]) -> Result<Self, OpenError> {
        Self::map(configs.iter().map(PortSockets::open).collect::<Result<_, _>>()?)
    }

    /// Makes and maps the rings of opened sockets; needs no privilege. Where several workers share a
    /// fanout group, the order of these calls numbers them.
    ///
    /// # Errors
    /// [`OpenError`] says which interface and step failed and what to do.
    pub fn map(sockets: Vec<PortSockets>) -> Result<Self, OpenError> {
        Self::map_with_pool(sockets, POOL)
    }

    /// As [`map`](Self::map), with this many buffers for [`Lane::alloc`] instead of 1024. Each holds
    /// a frame of the largest MTU, up to 9 KiB.
    ///
    /// # Errors
    /// As for [`map`](Self::map).
    pub fn map_with_pool(sockets: Vec<PortSockets>, buffers: u32) -> Result<Self, OpenError> {
        let longest = sockets.iter().map(|s| u32::from(s.meta().mtu)).max().unwrap_or(0);
        let pool = Pool::new(buffers, longest.clamp(1500, 9216) + 18)
            .map_err(refused("buffers for own packets", Step::MapMemory))?;
        let ports = sockets.into_iter().map(PortRing::map).collect::<Result<_, _>>()?;
        Ok(Self { ports, pool })
    }

    /// The lane over these rings. Packets of an earlier lane are gone by then, since they borrowed.
    pub fn lane(&mut self) -> PacketLane<'_> {
        PacketLane { rings: self, batch: SendBatch::new(), polls: Vec::new(), wake: None }
            .with_polls()
    }
}

/// All ports of one worker. Not `Send`: a worker makes its lane where it uses it.
pub struct PacketLane<'m> {
    rings: &'m Rings,
    batch: SendBatch,
    polls: Vec<libc::pollfd>,
    wake: Option<OwnedFd>,
}

/// What a port that does not exist can do.
const NO_CAPS: Caps = Caps {
    max_frame: 0,
    headroom: 0,
    tx_csum: false,
    tx_vlan: false,
    gso: GsoCaps { tcp_v4: false, tcp_v6: false, udp: false, in_tunnel: false },
    max_held: 0,
};

/// What the kernel did with the packets it was offered.
enum Sent {
    /// It took this many from the front.
    Took(usize),
    /// It has no room now, or the device did not take the first one.
    Full(i32),
    /// It will never take the first one.
    Refused,
    /// The port does not work.
    Failed(IoError),
}

impl<'m> PacketLane<'m> {
    fn with_polls(mut self) -> Self {
        self.polls = self
            .rings
            .ports
            .iter()
            .map(|port| libc::pollfd {
                fd: port.rx_fd().as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        self
    }

    fn port(&self, port: PortId) -> Option<&'m PortRing> {
        self.rings.ports.get(port.index())
    }

    /// Lets [`wait`](WaitReady::wait) also return when this descriptor becomes readable, so that others
    /// can wake the worker. Reading from it is the caller's part.
    #[must_use]
    pub fn wake_by(mut self, wake: OwnedFd) -> Self {
        self.polls.truncate(self.rings.ports.len());
        let fd = wake.as_raw_fd();
        self.polls.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        self.wake = Some(wake);
        self
    }

    /// Looks at link and MTU of all ports again. [`wait`](WaitReady::wait) does it whenever nothing
    /// arrived; a worker that never waits calls this once in a while.
    pub fn refresh_links(&mut self) {
        self.rings.ports.iter().for_each(PortRing::refresh);
    }

    /// Offers all of the burst to the kernel once.
    fn offer(&mut self, ring: &PortRing, pkts: &mut Burst<Slot<'m>>) -> Sent {
        let vnet = ring.meta.cures.vnet_header;
        let frames = pkts.iter_mut().map(|slot| slot.parts(vnet));
        let errno = match self.batch.send(ring.tx.as_fd(), frames) {
            Ok(count) => return Sent::Took(count),
            Err(errno) => errno,
        };
        match errno {
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR => Sent::Full(errno),
            libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EBADF | libc::ENOTSOCK => {
                Sent::Failed(ring.io_error(errno))
            }
            // EMSGSIZE: longer than the MTU. EINVAL: a header that makes no sense. Whatever else the
            // kernel says of one frame must not block those behind it either.
            _ => Sent::Refused,
        }
    }
}

/// Drops the first `n` packets; the others close up.
fn drop_front<B>(pkts: &mut Burst<B>, n: usize) {
    if n >= pkts.len() {
        return pkts.drain_with(drop);
    }
    let mut rest = Burst::new();
    let mut left = n;
    pkts.drain_with(|packet| match left.checked_sub(1) {
        Some(fewer) => left = fewer,
        // There is room: it holds less than the burst it comes from.
        None => drop(rest.push(packet)),
    });
    core::mem::swap(pkts, &mut rest);
}

impl<'m> Lane for PacketLane<'m> {
    type Buf = Slot<'m>;

    fn port_count(&self) -> u16 {
        u16::try_from(self.rings.ports.len()).unwrap_or(u16::MAX)
    }

    fn caps(&self, port: PortId) -> Caps {
        let Some(ring) = self.port(port) else { return NO_CAPS };
        let vnet = ring.meta.cures.vnet_header;
        Caps {
            max_frame: ring.mtu.get().saturating_add(14),
            headroom: HEADROOM as u16,
            tx_csum: vnet,
            tx_vlan: true,
            gso: GsoCaps { tcp_v4: vnet, tcp_v6: vnet, udp: vnet, in_tunnel: false },
            // The kernel keeps at least as many to go on with.
            max_held: (ring.slots() / 2) as u32,
        }
    }

    fn port_info(&self, port: PortId) -> PortInfo<'_> {
        self.port(port).map_or(
            PortInfo { mac: MacAddr::ZERO, mtu: 0, link_up: false, rss: None },
            |ring| PortInfo {
                mac: ring.meta.mac,
                mtu: ring.mtu.get(),
                link_up: ring.link_up.get(),
                rss: None,
            },
        )
    }

    fn rx_burst(&mut self, port: PortId, out: &mut Burst<Slot<'m>>) -> Result<usize, IoError> {
        let ring = self.port(port).ok_or(IoError::NoPort)?;
        let mut received = 0;
        // Frames that are skipped count against the bound too, so that a flood of them cannot keep
        // the worker here.
        for _ in 0..2 * BURST {
            if out.room() == 0 {
                break;
            }
            match ring.next() {
                Next::Packet(slot) => {
                    received += usize::from(out.push(slot).is_ok());
                }
                Next::Skipped => {}
                Next::Nothing => break,
            }
        }
        if received > 0 {
            ring.link_up.set(true);
            ring.count(|stats| stats.rx += received as u64);
        }
        Ok(received)
    }

    fn tx_burst(&mut self, port: PortId, pkts: &mut Burst<Slot<'m>>) -> Result<usize, IoError> {
        let ring = self.port(port).ok_or(IoError::NoPort)?;
        let mut taken = 0;
        let mut detour = false;
        while !pkts.is_empty() {
            match self.offer(ring, pkts) {
                Sent::Took(0) => break,
                Sent::Took(count) => {
                    drop_front(pkts, count);
                    taken += count;
                    detour = false;
                    ring.count(|stats| stats.tx += count as u64);
                }
                Sent::Refused => {
                    drop_front(pkts, 1);
                    taken += 1;
                    ring.count(|stats| stats.tx_rejected += 1);
                }
                Sent::Full(errno) => {
                    let train = pkts.first().is_some_and(|slot| slot.gso().is_some());
                    if train && errno == libc::ENOBUFS && ring.try_other_way(&mut detour) {
                        continue;
                    }
                    // A lost carrier looks like a full queue, too.
                    if taken == 0 && ring.lost() {
                        return Err(IoError::LinkDown);
                    }
                    break;
                }
                Sent::Failed(error) if taken == 0 => return Err(error),
                Sent::Failed(_) => break,
            }
        }
        Ok(taken)
    }

    fn alloc(&mut self, len: usize) -> Option<Slot<'m>> {
        self.rings.pool.take(len)
    }

    fn stats(&self, port: PortId) -> PortStats {
        self.port(port).map_or_else(PortStats::default, |ring| {
            ring.collect_missed();
            ring.stats.get()
        })
    }
}

impl WaitReady for PacketLane<'_> {
    fn wait(&mut self, timeout_us: u32) -> Result<(), IoError> {
        if !sys::wait(&mut self.polls, timeout_us).map_err(IoError::Device)? {
            self.refresh_links();
            return Ok(());
        }
        for (poll, ring) in self.polls.iter().zip(&self.rings.ports) {
            if poll.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
                ring.clear_error();
            }
        }
        Ok(())
    }
}

impl core::fmt::Debug for PacketLane<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PacketLane").field("rings", self.rings).finish_non_exhaustive()
    }
}
