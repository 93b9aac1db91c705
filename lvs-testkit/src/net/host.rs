//! Simulated hosts: a smoltcp stack with live ARP and neighbour discovery, and its applications.

use super::app::App;
use super::segment::SegmentId;
use super::toa::{self, ToaSeen};
use core::any::Any;
use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::MacAddr;
use lvs_core::io::middleware::Rng;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint, IpListenEndpoint};
use std::collections::VecDeque;

/// A host of a [`Net`](super::Net).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostId(pub(super) usize);

/// Configuration of a host.
///
/// ```
/// use lvs_testkit::net::Host;
/// let web = Host::new("web1").addr("10.0.1.11/24").addr("2001:db8:1::11/64").gateway("10.0.1.1");
/// ```
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    mac: Option<MacAddr>,
    addrs: Vec<IpCidr>,
    gateways: Vec<IpAddr>,
    mtu: usize,
    vlan: Option<u16>,
    timestamps: bool,
    buffer: usize,
}

impl Host {
    /// A host with this name and no address yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            mac: None,
            addrs: Vec::new(),
            gateways: Vec::new(),
            mtu: 1500,
            vlan: None,
            timestamps: false,
            buffer: 65535,
        }
    }

    /// One more address with its prefix length, as `10.0.0.2/24`.
    ///
    /// # Panics
    /// When the text is not of that form.
    #[must_use]
    pub fn addr(mut self, cidr: &str) -> Self {
        let parsed = cidr.split_once('/').and_then(|(ip, len)| {
            let ip: IpAddr = ip.parse().ok()?;
            let len = len.parse().ok().filter(|len| *len <= if ip.is_ipv4() { 32 } else { 128 })?;
            Some(IpCidr::new(ip.into(), len))
        });
        self.addrs.push(parsed.unwrap_or_else(|| panic!("{cidr:?} is not address/length")));
        self
    }

    /// The default route of the address's family.
    ///
    /// # Panics
    /// When the text is not an address.
    #[must_use]
    pub fn gateway(mut self, ip: &str) -> Self {
        let ip = ip.parse().unwrap_or_else(|_| panic!("{ip:?} is not an address"));
        self.gateways.push(ip);
        self
    }

    /// Its Ethernet address; otherwise one is made from its number.
    #[must_use]
    pub fn mac(mut self, mac: MacAddr) -> Self {
        self.mac = Some(mac);
        self
    }

    /// Largest IP packet; 1500 unless told otherwise.
    #[must_use]
    pub fn mtu(mut self, mtu: usize) -> Self {
        self.mtu = mtu;
        self
    }

    /// Connects it to an access port of this VLAN: devices see its frames tagged.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// Uses TCP timestamps, in milliseconds of virtual time.
    #[must_use]
    pub fn timestamps(mut self) -> Self {
        self.timestamps = true;
        self
    }

    /// Bytes of each TCP buffer; the receive buffer bounds the window.
    #[must_use]
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    pub(super) fn vlan_id(&self) -> Option<u16> {
        self.vlan
    }
}

/// The TCP/IP stack of a host, as an application sees it.
pub struct Stack {
    iface: Interface,
    sockets: SocketSet<'static>,
    device: Queues,
    rng: Rng,
    next_port: u16,
    timestamps: bool,
    buffer: usize,
}

/// First port that [`Stack::ephemeral_port`] gives.
const EPHEMERAL: u16 = 32768;

impl Stack {
    /// A port that no other connection of this host has used for a long time.
    pub fn ephemeral_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL);
        port
    }

    /// Seeded random numbers of this host.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// A TCP socket that listens on a port of all addresses, for one connection.
    ///
    /// # Panics
    /// When the port is zero.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = self.new_tcp();
        socket.listen(port).expect("a port that is not zero and a fresh socket");
        self.sockets.add(socket)
    }

    /// A TCP socket that connects from `local`, or from a fresh port.
    ///
    /// # Panics
    /// When the host has no address of the family of `to`.
    pub fn connect(&mut self, to: SocketAddr, local: Option<u16>) -> (SocketHandle, SocketAddr) {
        let port = local.unwrap_or_else(|| self.ephemeral_port());
        let source = self.source_for(to.ip());
        let mut socket = self.new_tcp();
        let (to, from) = (IpEndpoint::from(to), IpEndpoint::from(SocketAddr::new(source, port)));
        socket.connect(self.iface.context(), to, from).expect("a fresh socket and real ports");
        (self.sockets.add(socket), SocketAddr::new(source, port))
    }

    /// The address that packets to `to` carry as their source.
    ///
    /// # Panics
    /// When the host has no address of that family.
    #[must_use]
    pub fn source_for(&self, to: IpAddr) -> IpAddr {
        let source = self.iface.get_source_address(&to.into());
        source.unwrap_or_else(|| panic!("no source address for {to}")).into()
    }

    /// A UDP socket on a port.
    ///
    /// # Panics
    /// When the port is zero.
    pub fn udp_bind(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; self.buffer]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(IpListenEndpoint::from(port)).expect("a port that is not zero");
        self.sockets.add(socket)
    }

    /// An ICMP socket for echoes with this identifier.
    ///
    /// # Panics
    /// Never for a fresh socket.
    pub fn icmp_bind(&mut self, ident: u16) -> SocketHandle {
        let buffer =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 16], vec![0; 4096]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(ident)).expect("a fresh socket");
        self.sockets.add(socket)
    }

    /// A TCP socket by its handle.
    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// A UDP socket by its handle.
    pub fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// An ICMP socket by its handle.
    pub fn icmp(&mut self, handle: SocketHandle) -> &mut icmp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Ends a socket without a word to its peer.
    pub fn remove(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    fn new_tcp(&self) -> tcp::Socket<'static> {
        let buffer = || tcp::SocketBuffer::new(vec![0; self.buffer]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        if self.timestamps {
            socket.set_tsval_generator(Some(|| TSVAL.get()));
        }
        socket
    }
}

impl core::fmt::Debug for Stack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack").field("addrs", &self.iface.ip_addrs()).finish_non_exhaustive()
    }
}

std::thread_local! {
    /// The virtual clock in milliseconds, for stacks that use TCP timestamps: the generator that
    /// smoltcp takes is a plain function.
    static TSVAL: Cell<u32> = const { Cell::new(0) };
}

/// Listening sockets for one port. A smoltcp socket takes one connection, so several listen.
#[derive(Debug)]
pub struct Listener {
    port: u16,
    backlog: usize,
    waiting: Vec<SocketHandle>,
}

impl Listener {
    /// Will listen with this many connections that may be opening at once.
    #[must_use]
    pub const fn new(port: u16, backlog: usize) -> Self {
        Self { port, backlog, waiting: Vec::new() }
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were opened since the last call, with their peers.
    pub fn accept(&mut self, stack: &mut Stack) -> Vec<(SocketHandle, SocketAddr)> {
        let mut open = Vec::new();
        let waiting = core::mem::take(&mut self.waiting);
        for handle in waiting {
            let socket = stack.tcp(handle);
            match (socket.state(), socket.remote_endpoint()) {
                (tcp::State::Listen | tcp::State::SynReceived, _) => self.waiting.push(handle),
                (tcp::State::Closed, _) | (_, None) => stack.remove(handle),
                (_, Some(peer)) => open.push((handle, socket_addr(peer))),
            }
        }
        while self.waiting.len() < self.backlog {
            self.waiting.push(stack.listen(self.port));
        }
        open
    }
}

/// A smoltcp endpoint as the standard library has it.
pub(super) fn socket_addr(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}

/// A host at work.
pub(super) struct Station {
    pub(super) name: String,
    pub(super) apps: Vec<Box<dyn App>>,
    pub(super) toa: ToaSeen,
    pub(super) running: bool,
    pub(super) dirty: bool,
    due: Option<u64>,
    stack: Stack,
    place: (SegmentId, usize),
}

impl Station {
    pub(super) fn new(
        id: usize,
        place: (SegmentId, usize),
        host: Host,
        rng: &mut Rng,
        now_ns: u64,
    ) -> Self {
        let [high, low] = (id as u16 + 1).to_be_bytes();
        let mac = host.mac.unwrap_or(MacAddr([0x02, 0x68, 0, 0, high, low]));
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = rng.next_u64();
        let mut device = Queues { mtu: host.mtu, ..Queues::default() };
        let mut iface = Interface::new(config, &mut device, instant(now_ns));
        iface.update_ip_addrs(|addrs| {
            for addr in &host.addrs {
                addrs.push(*addr).expect("at most 8 addresses");
            }
        });
        for gateway in &host.gateways {
            let routes = iface.routes_mut();
            match gateway {
                IpAddr::V4(v4) => routes.add_default_ipv4_route(*v4).expect("room for a route"),
                IpAddr::V6(v6) => routes.add_default_ipv6_route(*v6).expect("room for a route"),
            };
        }
        let mut rng = rng.fork();
        let next_port = EPHEMERAL + rng.below(16384) as u16;
        let stack = Stack {
            iface,
            sockets: SocketSet::new(Vec::new()),
            device,
            rng,
            next_port,
            timestamps: host.timestamps,
            buffer: host.buffer,
        };
        Self {
            name: host.name,
            apps: Vec::new(),
            toa: ToaSeen::new(),
            running: true,
            dirty: true,
            due: None,
            stack,
            place,
        }
    }

    pub(super) fn place(&self) -> (SegmentId, usize) {
        self.place
    }

    pub(super) fn app<A: App>(&self, index: usize) -> &A {
        let app: &dyn Any = &*self.apps[index];
        app.downcast_ref().expect("an AppId is made for its type")
    }

    pub(super) fn app_mut<A: App>(&mut self, index: usize) -> &mut A {
        let app: &mut dyn Any = &mut *self.apps[index];
        app.downcast_mut().expect("an AppId is made for its type")
    }

    pub(super) fn receive(&mut self, frame: Vec<u8>) {
        if self.running {
            toa::record(&frame, &mut self.toa);
            self.stack.device.rx.push_back(frame);
            self.dirty = true;
        }
    }

    /// When something is due: at once when frames wait, else at a timer of the stack or of an
    /// application.
    pub(super) fn next_instant(&self, now_ns: u64) -> Option<u64> {
        match (self.running, self.dirty) {
            (false, _) => None,
            (true, true) => Some(now_ns),
            (true, false) => self.due,
        }
    }

    /// The next timer; never the same instant twice.
    fn next_timer(&mut self, now_ns: u64) -> Option<u64> {
        let Stack { iface, sockets, .. } = &mut self.stack;
        let timer = iface.poll_at(instant(now_ns), sockets);
        let timer = timer.map(|at| u64::try_from(at.total_micros()).unwrap_or(0) * 1_000);
        let app = self.apps.iter().filter_map(|app| app.wake_at()).min();
        [timer, app].into_iter().flatten().min().map(|at| at.max(now_ns + 1_000))
    }

    /// Polls applications and stack; the frames they send, or `None` when nothing was due.
    pub(super) fn turn(&mut self, now_ns: u64) -> Option<Vec<Vec<u8>>> {
        let due = self.dirty || self.due.is_some_and(|due| due <= now_ns);
        if !self.running || !due {
            return None;
        }
        self.dirty = false;
        TSVAL.set((now_ns / 1_000_000) as u32);
        let Self { stack, apps, .. } = self;
        // What arrived reaches the applications, and what they answer leaves in the same instant.
        stack.poll(now_ns);
        apps.iter_mut().for_each(|app| app.poll(now_ns, stack));
        stack.poll(now_ns);
        let sent = core::mem::take(&mut stack.device.tx);
        self.due = self.next_timer(now_ns);
        Some(sent)
    }
}

impl Stack {
    fn poll(&mut self, now_ns: u64) {
        let Self { iface, sockets, device, .. } = self;
        iface.poll(instant(now_ns), device, sockets);
    }
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1_000).unwrap_or(i64::MAX))
}

/// The network card of a host: two queues. Checksums are made and verified by the stack.
#[derive(Default)]
struct Queues {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
    mtu: usize,
}

struct Received(Vec<u8>);
struct Sender<'a>(&'a mut Vec<Vec<u8>>);

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sender<'_>)> {
        let frame = self.rx.pop_front()?;
        Some((Received(frame), Sender(&mut self.tx)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = self.mtu + 14;
        caps
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}
