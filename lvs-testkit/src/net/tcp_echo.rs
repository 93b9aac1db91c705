//! The TCP echo service.

use super::app::App;
use super::stack::{Listener, Stack};
use core::net::SocketAddr;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

/// Sends back what it receives, and closes when its peer does.
#[derive(Debug)]
pub struct EchoServer {
    listener: Listener,
    open: Vec<SocketHandle>,
    peers: Vec<SocketAddr>,
    bytes: u64,
}

impl EchoServer {
    /// Listens on a port of all addresses of its host.
    #[must_use]
    pub const fn new(port: u16) -> Self {
        Self { listener: Listener::new(port, 16), open: Vec::new(), peers: Vec::new(), bytes: 0 }
    }

    /// Everybody who connected, in order.
    #[must_use]
    pub fn peers(&self) -> &[SocketAddr] {
        &self.peers
    }

    /// Bytes echoed.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl App for EchoServer {
    fn poll(&mut self, _now_ns: u64, stack: &mut Stack) {
        for (handle, peer) in self.listener.accept(stack) {
            self.open.push(handle);
            self.peers.push(peer);
        }
        let bytes = &mut self.bytes;
        self.open.retain(|&handle| {
            let socket = stack.tcp(handle);
            while socket.can_recv() && socket.can_send() {
                let room = socket.send_capacity() - socket.send_queue();
                let got = socket.recv(|got| {
                    let len = got.len().min(room);
                    (len, got[..len].to_vec())
                });
                let Ok(got) = got else { break };
                // No more was taken than there is room for.
                *bytes += socket.send_slice(&got).map_or(0, |sent| sent as u64);
            }
            if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
                socket.close();
            }
            let over = socket.state() == tcp::State::Closed;
            if over {
                stack.remove(handle);
            }
            !over
        });
    }

    fn describe(&self) -> String {
        format!("echo server: {} connections, {} bytes", self.peers.len(), self.bytes)
    }
}
