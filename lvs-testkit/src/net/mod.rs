//! A network in one process: real TCP/IP stacks (smoltcp), Ethernet segments with faults, a virtual
//! clock, and the device under test between them.
//!
//! Everything is a function of the seed. Hosts resolve neighbours, retransmit and verify every
//! checksum, so a frame with a wrong checksum is lost, and shows as a transfer that does not end.
//!
//! ```
//! use core::time::Duration;
//! use lvs_core::io::mem::{MemLane, MemPort};
//! use lvs_core::io::{Burst, Lane, PortId};
//! use lvs_testkit::net::{BulkClient, BulkServer, Host, Net, Wire};
//!
//! let mut net = Net::new(1);
//! let (left, right) = (net.segment(Wire::lossy(20_000)), net.segment(Wire::default()));
//! let client = net.host(left, Host::new("client").addr("10.0.0.2/24"));
//! let server = net.host(right, Host::new("server").addr("10.0.0.3/24"));
//!
//! // The device under test: here a plain bridge.
//! let lane = MemLane::new([MemPort::default(), MemPort::default()]);
//! let bridge = net.device(lane, |_now_ns, lane| {
//!     for (from, to) in [(PortId(0), PortId(1)), (PortId(1), PortId(0))] {
//!         let mut burst = Burst::new();
//!         while lane.rx_burst(from, &mut burst) != Ok(0) {
//!             lane.tx_burst(to, &mut burst).unwrap();
//!         }
//!     }
//! });
//! net.attach(bridge, PortId(0), left);
//! net.attach(bridge, PortId(1), right);
//!
//! let served = net.app(server, BulkServer::new(80));
//! let transfer = net.app(client, BulkClient::new("10.0.0.3:80", 100_000));
//! net.run_until(|net| net.get(transfer).done(), Duration::from_secs(60)).unwrap();
//! assert_eq!(net.get(transfer).failure(), None);
//! assert!(net.get(served).served()[0].complete());
//! ```

mod app;
mod bulk;
mod fin;
mod greet;
mod host;
mod ping;
mod proxy;
mod segment;
mod stack;
mod tcp_echo;
mod toa;
mod udp;

pub use app::{App, AppId};
pub use bulk::{BulkClient, BulkServer, Served, stream};
pub use greet::{GreetClient, GreetServer};
pub use host::{Host, HostId};
pub use ping::Ping;
pub use proxy::{Proxied, read_proxy};
pub use segment::{SegmentCounters, SegmentId, Wire};
pub use stack::{Listener, Stack};
pub use tcp_echo::EchoServer;
pub use toa::{ToaSeen, toa_of};
pub use udp::{UdpClient, UdpEcho};

use crate::nic;
use crate::pcap::Capture;
use core::fmt;
use core::time::Duration;
use host::Station;
use lvs_core::io::PortId;
use lvs_core::io::mem::MemLane;
use lvs_core::io::middleware::Rng;
use segment::{Attachment, Flight, Segment};
use std::collections::BinaryHeap;

/// A device under test in a [`Net`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId(usize);

/// How often a device is called when no frame arrives, unless told otherwise.
const TICK: Duration = Duration::from_millis(10);
/// Calls of a device in one instant before time goes on although frames wait.
const MAX_TURNS: usize = 64;

/// The device under test, called with the virtual time.
type Turn<'d> = Box<dyn FnMut(u64, &mut MemLane) + 'd>;

struct Device<'d> {
    lane: MemLane,
    turn: Turn<'d>,
    ports: Vec<(PortId, SegmentId, usize)>,
    tag_beside: bool,
    running: bool,
    tick_ns: u64,
    due: u64,
}

/// The simulated network. `'d` is what the devices under test may borrow.
pub struct Net<'d> {
    now_ns: u64,
    rng: Rng,
    segments: Vec<Segment>,
    stations: Vec<Station>,
    devices: Vec<Device<'d>>,
    flights: BinaryHeap<Flight>,
    sent: u64,
}

/// The condition of [`Net::run_until`] did not hold in time. Its text tells how far each
/// application came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedOut(String);

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl core::error::Error for TimedOut {}

impl<'d> Net<'d> {
    /// An empty network at time zero plus one second, so that no clock in it reads zero.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            now_ns: 1_000_000_000,
            rng: Rng::new(seed),
            segments: Vec::new(),
            stations: Vec::new(),
            devices: Vec::new(),
            flights: BinaryHeap::new(),
            sent: 0,
        }
    }

    /// The virtual time in nanoseconds.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// A new Ethernet segment: a learning switch whose links are all like `wire`.
    pub fn segment(&mut self, wire: Wire) -> SegmentId {
        self.segments.push(Segment::new(wire, self.rng.fork()));
        SegmentId(self.segments.len() - 1)
    }

    /// Another quality for all links of a segment, from now on.
    pub fn set_wire(&mut self, segment: SegmentId, wire: Wire) {
        self.segments[segment.0].wire = wire;
    }

    /// What happened on a segment.
    #[must_use]
    pub fn counters(&self, segment: SegmentId) -> SegmentCounters {
        self.segments[segment.0].counters
    }

    /// Keeps a copy of every frame that enters the segment from now on.
    pub fn capture(&mut self, segment: SegmentId) {
        self.segments[segment.0].capture.get_or_insert_default();
    }

    /// The frames kept since [`capture`](Self::capture), with tags of VLANs in their bytes.
    #[must_use]
    pub fn captured(&self, segment: SegmentId) -> &[Capture] {
        self.segments[segment.0].capture.as_deref().unwrap_or_default()
    }

    /// A host at a segment.
    ///
    /// # Panics
    /// When the host has more addresses than a stack can hold (8).
    pub fn host(&mut self, segment: SegmentId, host: Host) -> HostId {
        let id = self.stations.len();
        let vlan = host.vlan_id();
        let place = self.segments[segment.0].attach(Attachment::Host(id), vlan);
        self.stations.push(Station::new(id, (segment, place), host, &mut self.rng, self.now_ns));
        HostId(id)
    }

    /// Runs an application on a host.
    pub fn app<A: App>(&mut self, host: HostId, app: A) -> AppId<A> {
        let station = &mut self.stations[host.0];
        station.apps.push(Box::new(app));
        station.dirty = true;
        AppId::new(host.0, station.apps.len() - 1)
    }

    /// The application, to read its results.
    #[must_use]
    pub fn get<A: App>(&self, id: AppId<A>) -> &A {
        self.stations[id.host].app(id.app)
    }

    /// The application, to change what it does next.
    pub fn get_mut<A: App>(&mut self, id: AppId<A>) -> &mut A {
        self.stations[id.host].dirty = true;
        self.stations[id.host].app_mut(id.app)
    }

    /// Client addresses that a host read from TOA options, by peer and own port.
    #[must_use]
    pub fn toa_seen(&self, host: HostId) -> &ToaSeen {
        &self.stations[host.0].toa
    }

    /// Takes a host off the network, as if its power were cut, or puts it back as it was.
    pub fn set_power(&mut self, host: HostId, on: bool) {
        self.stations[host.0].running = on;
        self.stations[host.0].dirty = on;
    }

    /// A device under test. `turn` is called with the virtual time in nanoseconds whenever frames
    /// have arrived at its ports, and every 10 ms.
    pub fn device(&mut self, lane: MemLane, turn: impl FnMut(u64, &mut MemLane) + 'd) -> DeviceId {
        self.devices.push(Device {
            lane,
            turn: Box::new(turn),
            ports: Vec::new(),
            tag_beside: true,
            running: true,
            tick_ns: TICK.as_nanos() as u64,
            due: self.now_ns,
        });
        DeviceId(self.devices.len() - 1)
    }

    /// Connects a port of a device to a segment. It sees the frames of all VLANs.
    pub fn attach(&mut self, device: DeviceId, port: PortId, segment: SegmentId) {
        let place = self.segments[segment.0].attach(Attachment::Device(device.0, port), None);
        self.devices[device.0].ports.push((port, segment, place));
    }

    /// How often a device is called when no frame arrives.
    pub fn set_tick(&mut self, device: DeviceId, tick: Duration) {
        self.devices[device.0].tick_ns = (tick.as_nanos() as u64).max(1);
    }

    /// Whether VLAN tags reach the device beside the packet (as from a card that strips them, the
    /// default) or in its bytes.
    pub fn set_tag_beside(&mut self, device: DeviceId, beside: bool) {
        self.devices[device.0].tag_beside = beside;
    }

    /// Stops a device, which then loses what arrives, or lets it go on.
    pub fn set_running(&mut self, device: DeviceId, running: bool) {
        self.devices[device.0].running = running;
    }

    /// The ports of a device.
    #[must_use]
    pub fn lane(&self, device: DeviceId) -> &MemLane {
        &self.devices[device.0].lane
    }

    /// The ports of a device, for instance to take a link down.
    pub fn lane_mut(&mut self, device: DeviceId) -> &mut MemLane {
        &mut self.devices[device.0].lane
    }

    /// Puts a frame onto a segment: everybody there receives it as it is, at once and without faults.
    pub fn send_frame(&mut self, segment: SegmentId, frame: &[u8]) {
        let arrival = self.now_ns;
        self.segments[segment.0].record(arrival, frame);
        let everybody = self.segments[segment.0].everybody();
        for to in everybody {
            self.sent += 1;
            self.flights.push(Flight::new(arrival, self.sent, to, frame.to_vec()));
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now_ns + time.as_nanos() as u64;
        while self.step(end) {}
        self.now_ns = end;
    }

    /// Lets time pass until the condition holds.
    ///
    /// # Errors
    /// [`TimedOut`] when it does not hold within `limit` of virtual time.
    pub fn run_until(
        &mut self,
        mut condition: impl FnMut(&Self) -> bool,
        limit: Duration,
    ) -> Result<(), TimedOut> {
        let end = self.now_ns + limit.as_nanos() as u64;
        loop {
            if condition(self) {
                return Ok(());
            }
            if !self.step(end) {
                self.now_ns = end;
                return if condition(self) { Ok(()) } else { Err(self.timed_out(limit)) };
            }
        }
    }

    fn timed_out(&self, limit: Duration) -> TimedOut {
        let mut text = format!("not done after {limit:?} of virtual time");
        for station in &self.stations {
            for app in &station.apps {
                text += &format!("\n  {}: {}", station.name, app.describe());
            }
        }
        TimedOut(text)
    }

    /// The next instant at which something happens: a frame arrives, a timer of a stack or a tick of
    /// a device is due.
    fn next_instant(&self) -> Option<u64> {
        let now_ns = self.now_ns;
        let flight = self.flights.peek().map(|flight| flight.arrival);
        let device = self.devices.iter().filter(|d| d.running).map(|d| d.due).min();
        let host = self.stations.iter().filter_map(|s| s.next_instant(now_ns)).min();
        [flight, device, host].into_iter().flatten().min()
    }

    /// One instant; false when nothing happens up to `end`.
    fn step(&mut self, end: u64) -> bool {
        let Some(next) = self.next_instant().filter(|next| *next <= end) else { return false };
        self.now_ns = self.now_ns.max(next);
        self.deliver();
        for index in 0..self.devices.len() {
            self.turn_device(index);
        }
        for index in 0..self.stations.len() {
            if let Some(frames) = self.stations[index].turn(self.now_ns) {
                let (segment, place) = self.stations[index].place();
                frames.into_iter().for_each(|frame| self.send(segment, place, frame));
            }
        }
        true
    }

    fn deliver(&mut self) {
        while self.flights.peek().is_some_and(|flight| flight.arrival <= self.now_ns) {
            let Some(flight) = self.flights.pop() else { break };
            match flight.to {
                Attachment::Host(host) => self.stations[host].receive(flight.frame),
                Attachment::Device(device, port) => {
                    let device = &mut self.devices[device];
                    if device.running {
                        // What a full device drops is counted in its port statistics.
                        let packet = nic::from_wire(&flight.frame, device.tag_beside);
                        let _ = device.lane.inject(port, packet);
                        device.due = self.now_ns;
                    }
                }
            }
        }
    }

    fn turn_device(&mut self, index: usize) {
        let device = &mut self.devices[index];
        if !device.running || device.due > self.now_ns {
            return;
        }
        let mut sent = Vec::new();
        let mut waits = true;
        for _ in 0..MAX_TURNS {
            (device.turn)(self.now_ns, &mut device.lane);
            for &(port, segment, place) in &device.ports {
                while let Some(packet) = device.lane.take_sent(port) {
                    nic::on_wire(&packet).into_iter().for_each(|f| sent.push((segment, place, f)));
                    device.lane.recycle(packet);
                }
            }
            waits = device.ports.iter().any(|(port, ..)| device.lane.waiting(*port) > 0);
            if !waits {
                break;
            }
        }
        device.due = self.now_ns + if waits { 1_000 } else { device.tick_ns };
        sent.into_iter().for_each(|(segment, place, frame)| self.send(segment, place, frame));
    }

    fn send(&mut self, segment: SegmentId, place: usize, frame: Vec<u8>) {
        let Self { now_ns, segments, flights, sent, .. } = self;
        segments[segment.0].enter(*now_ns, place, frame, |arrival, to, frame| {
            *sent += 1;
            flights.push(Flight::new(arrival, *sent, to, frame));
        });
    }
}

impl fmt::Debug for Net<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("now_ns", &self.now_ns)
            .field("hosts", &self.stations.len())
            .field("devices", &self.devices.len())
            .field("in_flight", &self.flights.len())
            .finish_non_exhaustive()
    }
}
