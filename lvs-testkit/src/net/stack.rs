//! The TCP/IP stack of a simulated host: smoltcp with its sockets, and a card of two queues.

use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use lvs_core::io::middleware::Rng;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};
use std::collections::VecDeque;

/// The TCP/IP stack of a host, as an application sees it.
pub struct Stack {
    pub(super) iface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) device: Queues,
    pub(super) rng: Rng,
    pub(super) next_port: u16,
    pub(super) timestamps: bool,
    pub(super) buffer: usize,
}

/// First port that [`Stack::ephemeral_port`] gives.
pub(super) const EPHEMERAL: u16 = 32768;

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
    pub(super) static TSVAL: Cell<u32> = const { Cell::new(0) };
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

impl Stack {
    pub(super) fn poll(&mut self, now_ns: u64) {
        let Self { iface, sockets, device, .. } = self;
        iface.poll(instant(now_ns), device, sockets);
    }
}

pub(super) fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1_000).unwrap_or(i64::MAX))
}

/// The network card of a host: two queues. Checksums are made and verified by the stack.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) rx: VecDeque<Vec<u8>>,
    pub(super) tx: Vec<Vec<u8>>,
    pub(super) mtu: usize,
}

/// A frame on its way into the stack.
pub(super) struct Received(Vec<u8>);
/// Room for a frame on its way out.
pub(super) struct Sender<'a>(&'a mut Vec<Vec<u8>>);

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
