//! Bulk transfers that check every byte, both ways.

use super::app::App;
use super::proxy::{Proxied, read_proxy};
use super::stack::{Listener, Stack, socket_addr};
use core::net::SocketAddr;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

/// Byte streams that depend on a seed and on the place, so that lost, repeated, moved and foreign
/// bytes all show. Fills `out` with the bytes from `at` on.
pub fn stream(seed: u64, at: u64, out: &mut [u8]) {
    for (offset, byte) in out.iter_mut().enumerate() {
        let place = at + offset as u64;
        let word = (seed ^ (place / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *byte = (word ^ (word >> 29)).to_be_bytes()[(place % 8) as usize];
    }
}

/// One direction of a transfer.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    sent: u64,
    received: u64,
    /// Place of the first wrong byte.
    wrong: Option<u64>,
}

impl Progress {
    /// Sends and checks as much as the socket allows.
    fn pump(&mut self, socket: &mut tcp::Socket<'_>, send: (u64, u64), check: (u64, u64)) {
        let ((send_seed, send_total), (check_seed, check_total)) = (send, check);
        while self.sent < send_total && socket.can_send() {
            let (from, left) = (self.sent, send_total - self.sent);
            let sent = socket.send(|room| {
                let len = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                stream(send_seed, from, &mut room[..len]);
                (len, len)
            });
            match sent {
                Ok(sent @ 1..) => self.sent += sent as u64,
                _ => break,
            }
        }
        while socket.can_recv() {
            let at = self.received;
            let got = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            let Ok(got) = got else { break };
            let mut expected = vec![0; got.len()];
            stream(check_seed, at, &mut expected);
            let differs = got.iter().zip(&expected).position(|(a, b)| a != b);
            let beyond = (at + got.len() as u64 > check_total).then_some(check_total);
            let wrong = differs.map(|offset| at + offset as u64).or(beyond);
            self.wrong = self.wrong.or(wrong);
            self.received += got.len() as u64;
        }
    }
}

/// Opening bytes of a transfer: how much each side sends, and the seed.
const HELLO: usize = 16;

/// Connects, sends so many bytes and receives as many, checks each byte, closes.
#[derive(Debug)]
pub struct BulkClient {
    to: SocketAddr,
    bytes: u64,
    seed: Option<u64>,
    start_ns: u64,
    socket: Option<SocketHandle>,
    local: Option<SocketAddr>,
    local_port: Option<u16>,
    hello: bool,
    progress: Progress,
    closed: bool,
    linger: bool,
    failure: Option<String>,
}

impl BulkClient {
    /// A transfer of `bytes` each way with a [`BulkServer`].
    ///
    /// # Panics
    /// When the text is not address:port.
    #[must_use]
    pub fn new(to: &str, bytes: u64) -> Self {
        let to = to.parse().unwrap_or_else(|_| panic!("{to:?} is not address:port"));
        Self {
            to,
            bytes,
            seed: None,
            start_ns: 0,
            socket: None,
            local: None,
            local_port: None,
            hello: false,
            progress: Progress::default(),
            closed: false,
            linger: false,
            failure: None,
        }
    }

    /// Connects no earlier than this virtual time.
    #[must_use]
    pub fn start_at(mut self, now_ns: u64) -> Self {
        self.start_ns = now_ns;
        self
    }

    /// Connects from this port instead of a fresh one.
    #[must_use]
    pub fn from_port(mut self, port: u16) -> Self {
        self.local_port = Some(port);
        self
    }

    /// Keeps the connection open after the last byte, until [`close`](Self::close).
    #[must_use]
    pub fn keep_open(mut self) -> Self {
        self.linger = true;
        self
    }

    /// Closes a connection that was kept open.
    pub fn close(&mut self) {
        self.linger = false;
    }

    /// All bytes went both ways and were right.
    #[must_use]
    pub fn transferred(&self) -> bool {
        self.hello
            && self.progress.wrong.is_none()
            && (self.progress.sent, self.progress.received) == (self.bytes, self.bytes)
    }

    /// All bytes went both ways and were right, and the connection is closed; or it failed.
    #[must_use]
    pub fn done(&self) -> bool {
        self.failure.is_some() || self.closed
    }

    /// What went wrong, if anything.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Own address and port, once connecting.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Bytes sent and received so far.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.progress.sent, self.progress.received)
    }

    /// Frees the socket of a connection that is over, TIME-WAIT included.
    fn forget_socket(&mut self, stack: &mut Stack) {
        let mut over = |handle: &SocketHandle| stack.tcp(*handle).state() == tcp::State::Closed;
        if let Some(handle) = self.socket.take_if(|handle| over(handle)) {
            stack.remove(handle);
        }
    }

    fn pump(&mut self, socket: &mut tcp::Socket<'_>, seed: u64) {
        if !self.hello && socket.can_send() {
            let hello = [self.bytes.to_be_bytes(), seed.to_be_bytes()].concat();
            // A fresh socket has room for sixteen bytes.
            self.hello = socket.send_slice(&hello) == Ok(HELLO);
        }
        if self.hello {
            self.progress.pump(socket, (seed, self.bytes), (!seed, self.bytes));
        }
        if self.transferred() && !self.linger {
            socket.close();
        }
        match socket.state() {
            _ if self.progress.wrong.is_some() => {
                self.failure = self.progress.wrong.map(|at| format!("byte {at} is wrong"));
                socket.abort();
            }
            tcp::State::TimeWait if self.transferred() => self.closed = true,
            tcp::State::Closed if self.transferred() && !self.linger => self.closed = true,
            tcp::State::Closed => self.failure = Some("the connection was reset".into()),
            tcp::State::CloseWait if !self.transferred() && !socket.can_recv() => {
                self.failure = Some("the server closed too early".into());
                socket.abort();
            }
            _ => {}
        }
    }
}

impl App for BulkClient {
    fn poll(&mut self, now_ns: u64, stack: &mut Stack) {
        if self.done() || now_ns < self.start_ns {
            return self.forget_socket(stack);
        }
        let seed = *self.seed.get_or_insert_with(|| stack.rng().next_u64());
        let handle = *self.socket.get_or_insert_with(|| {
            let (handle, local) = stack.connect(self.to, self.local_port);
            self.local = Some(local);
            handle
        });
        self.pump(stack.tcp(handle), seed);
    }

    fn wake_at(&self) -> Option<u64> {
        (self.socket.is_none() && !self.done()).then_some(self.start_ns)
    }

    fn describe(&self) -> String {
        let Progress { sent, received, .. } = self.progress;
        let state = if self.closed { "closed" } else { "open" };
        let (to, bytes, failure) = (self.to, self.bytes, self.failure().unwrap_or("none"));
        format!(
            "bulk to {to}: {sent} sent, {received} received of {bytes}, {state}, failure: {failure}"
        )
    }
}

/// One connection of a [`BulkServer`].
#[derive(Clone, Debug)]
pub struct Served {
    /// Who the server sees as its peer.
    pub peer: SocketAddr,
    /// The server's own address and port.
    pub local: SocketAddr,
    /// What the PROXY header said, once it has been read, or why it could not be.
    pub proxied: Option<Result<Proxied, String>>,
    socket: Option<SocketHandle>,
    head: Option<Vec<u8>>,
    hello: Vec<u8>,
    progress: Progress,
}

impl Served {
    /// All bytes went both ways and were right.
    #[must_use]
    pub fn complete(&self) -> bool {
        let asked = self.asked().map(|(bytes, _)| bytes);
        self.progress.wrong.is_none()
            && Some(self.progress.received) == asked
            && Some(self.progress.sent) == asked
    }

    /// Bytes received and sent so far.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.progress.received, self.progress.sent)
    }

    /// Place of the first wrong byte.
    #[must_use]
    pub fn wrong(&self) -> Option<u64> {
        self.progress.wrong
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.socket.is_none()
    }

    fn asked(&self) -> Option<(u64, u64)> {
        let (bytes, rest) = self.hello.split_first_chunk()?;
        Some((u64::from_be_bytes(*bytes), u64::from_be_bytes(*rest.first_chunk()?)))
    }

    fn pump(&mut self, stack: &mut Stack) {
        let Some(handle) = self.socket else { return };
        let socket = stack.tcp(handle);
        // A header is taken byte by byte, so that nothing behind it is.
        while let Some(head) = self.head.as_mut().filter(|_| socket.can_recv()) {
            let mut byte = [0];
            if socket.recv_slice(&mut byte) != Ok(1) {
                break;
            }
            head.push(byte[0]);
            self.proxied =
                read_proxy(head).transpose().map(|read| read.map(|(proxied, _)| proxied));
            self.head.take_if(|_| matches!(self.proxied, Some(Ok(_))));
            if matches!(self.proxied, Some(Err(_))) {
                socket.abort();
                break;
            }
        }
        if self.head.is_some() && socket.may_recv() {
            return;
        }
        while self.hello.len() < HELLO && socket.can_recv() {
            let mut bytes = [0; HELLO];
            let missing = HELLO - self.hello.len();
            let Ok(got) = socket.recv_slice(&mut bytes[..missing]) else { break };
            self.hello.extend(&bytes[..got]);
        }
        if let Some((total, seed)) = self.asked() {
            self.progress.pump(socket, (!seed, total), (seed, total));
        }
        if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
            socket.close();
        }
        if socket.state() == tcp::State::Closed {
            stack.remove(handle);
            self.socket = None;
        }
    }
}

/// Serves any number of [`BulkClient`]s.
#[derive(Debug)]
pub struct BulkServer {
    listener: Listener,
    served: Vec<Served>,
    reset: bool,
    proxy: bool,
}

impl BulkServer {
    /// Listens on a port of all addresses of its host; 16 connections may be opening at once.
    #[must_use]
    pub const fn new(port: u16) -> Self {
        Self { listener: Listener::new(port, 16), served: Vec::new(), reset: false, proxy: false }
    }

    /// Expects a PROXY header in front of everything, and resets connections without.
    #[must_use]
    pub const fn behind_proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    /// All connections so far, in the order of their opening.
    #[must_use]
    pub fn served(&self) -> &[Served] {
        &self.served
    }

    /// Resets all open connections, as a server does that is restarted.
    pub fn reset_all(&mut self) {
        self.reset = true;
    }
}

impl App for BulkServer {
    fn poll(&mut self, _now_ns: u64, stack: &mut Stack) {
        for (handle, peer) in self.listener.accept(stack) {
            let local = stack.tcp(handle).local_endpoint().map_or(peer, socket_addr);
            let progress = Progress::default();
            let socket = Some(handle);
            let (hello, head) = (Vec::new(), self.proxy.then(Vec::new));
            let served = Served { peer, local, proxied: None, socket, head, hello, progress };
            self.served.push(served);
        }
        let reset = core::mem::take(&mut self.reset);
        for served in &mut self.served {
            if let Some(handle) = served.socket.filter(|_| reset) {
                stack.tcp(handle).abort();
            }
            served.pump(stack);
        }
    }

    fn describe(&self) -> String {
        let complete = self.served.iter().filter(|served| served.complete()).count();
        format!("bulk server: {complete} of {} connections complete", self.served.len())
    }
}
