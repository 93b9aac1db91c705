//! UDP request and answer.

use super::app::App;
use super::proxy::{Proxied, read_proxy};
use super::stack::{Stack, socket_addr};
use core::net::SocketAddr;
use core::time::Duration;
use smoltcp::iface::SocketHandle;
use std::collections::BTreeSet;

/// Sends back every datagram.
#[derive(Debug)]
pub struct UdpEcho {
    port: u16,
    socket: Option<SocketHandle>,
    peers: Vec<SocketAddr>,
    proxied: Option<Vec<Proxied>>,
}

impl UdpEcho {
    /// Answers on a port of all addresses of its host.
    #[must_use]
    pub const fn new(port: u16) -> Self {
        Self { port, socket: None, peers: Vec::new(), proxied: None }
    }

    /// Takes a PROXY header off the datagrams that have one.
    #[must_use]
    pub fn behind_proxy(mut self) -> Self {
        self.proxied = Some(Vec::new());
        self
    }

    /// What the headers said, in order.
    #[must_use]
    pub fn proxied(&self) -> &[Proxied] {
        self.proxied.as_deref().unwrap_or_default()
    }

    /// Senders of the datagrams received so far, in order.
    #[must_use]
    pub fn peers(&self) -> &[SocketAddr] {
        &self.peers
    }
}

impl App for UdpEcho {
    fn poll(&mut self, _now_ns: u64, stack: &mut Stack) {
        let handle = *self.socket.get_or_insert_with(|| stack.udp_bind(self.port));
        let socket = stack.udp(handle);
        while socket.can_send() {
            let Ok((data, meta)) = socket.recv() else { break };
            let mut data = data.to_vec();
            if let Some(proxied) = &mut self.proxied
                && let Ok(Some((who, len))) = read_proxy(&data)
            {
                proxied.push(who);
                data.drain(..len);
            }
            self.peers.push(socket_addr(meta.endpoint));
            // Answered from the address that was asked.
            let _ = socket.send_slice(&data, meta);
        }
    }

    fn describe(&self) -> String {
        format!("UDP echo: {} datagrams", self.peers.len())
    }
}

/// Asks a [`UdpEcho`] a number of questions, one after another, and repeats what is lost.
#[derive(Debug)]
pub struct UdpClient {
    to: SocketAddr,
    questions: u32,
    size: usize,
    pause: Duration,
    socket: Option<SocketHandle>,
    local: Option<SocketAddr>,
    answered: BTreeSet<u32>,
    repeats: u32,
    wrong: u32,
    next_ns: u64,
    asked: Option<u32>,
}

/// A question is repeated after this time.
const REPEAT: Duration = Duration::from_millis(200);

impl UdpClient {
    /// So many questions of so many bytes (at least 4).
    ///
    /// # Panics
    /// When the text is not address:port.
    #[must_use]
    pub fn new(to: &str, questions: u32, size: usize) -> Self {
        let to = to.parse().unwrap_or_else(|_| panic!("{to:?} is not address:port"));
        Self {
            to,
            questions,
            size: size.max(4),
            pause: Duration::ZERO,
            socket: None,
            local: None,
            answered: BTreeSet::new(),
            repeats: 0,
            wrong: 0,
            next_ns: 0,
            asked: None,
        }
    }

    /// Waits this long after each answer.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Every question was answered.
    #[must_use]
    pub fn done(&self) -> bool {
        self.answered.len() == self.questions as usize
    }

    /// Answers that were not the question, or came from elsewhere.
    #[must_use]
    pub const fn wrong(&self) -> u32 {
        self.wrong
    }

    /// Questions that had to be repeated.
    #[must_use]
    pub const fn repeats(&self) -> u32 {
        self.repeats
    }

    /// Own address and port, once started.
    #[must_use]
    pub const fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    fn question(&self, number: u32) -> Vec<u8> {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(self.size, number as u8);
        bytes
    }

    fn take_answers(&mut self, now_ns: u64, stack: &mut Stack, handle: SocketHandle) {
        while let Ok((data, meta)) = stack.udp(handle).recv() {
            let number = data.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
            let right = socket_addr(meta.endpoint) == self.to
                && number.is_some_and(|n| n < self.questions && data == self.question(n));
            match number.filter(|_| right) {
                Some(number) if self.answered.insert(number) => {
                    self.next_ns = now_ns + self.pause.as_nanos() as u64;
                }
                Some(_) => {} // a repetition of the network
                None => self.wrong += 1,
            }
        }
    }
}

impl App for UdpClient {
    fn poll(&mut self, now_ns: u64, stack: &mut Stack) {
        let handle = *self.socket.get_or_insert_with(|| {
            let port = stack.ephemeral_port();
            self.local = Some(SocketAddr::new(stack.source_for(self.to.ip()), port));
            stack.udp_bind(port)
        });
        self.take_answers(now_ns, stack, handle);
        if self.done() || now_ns < self.next_ns {
            return;
        }
        let number = self.answered.len() as u32;
        self.repeats += u32::from(self.asked == Some(number));
        self.asked = Some(number);
        self.next_ns = now_ns + REPEAT.as_nanos() as u64;
        // A full socket is one more loss.
        let _ = stack.udp(handle).send_slice(&self.question(number), self.to);
    }

    fn wake_at(&self) -> Option<u64> {
        (!self.done()).then_some(self.next_ns)
    }

    fn describe(&self) -> String {
        let (answered, of, wrong) = (self.answered.len(), self.questions, self.wrong);
        format!("UDP to {}: {answered} of {of} answered, {wrong} wrong", self.to)
    }
}
