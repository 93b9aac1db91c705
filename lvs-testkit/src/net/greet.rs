//! A protocol in which the server speaks first, as in SMTP, SSH or MySQL.

use super::app::App;
use super::proxy::{Proxied, read_proxy};
use super::stack::{Listener, Stack};
use core::net::SocketAddr;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

/// One connection of a [`GreetServer`].
#[derive(Clone, Debug)]
struct Guest {
    socket: SocketHandle,
    head: Vec<u8>,
    who: Option<Proxied>,
    greeted: bool,
}

/// Waits for a PROXY header, then greets the client by its address; closes when the client does.
#[derive(Debug)]
pub struct GreetServer {
    listener: Listener,
    open: Vec<Guest>,
    greeted: Vec<Proxied>,
    wrong: Vec<String>,
}

impl GreetServer {
    /// Listens on a port of all addresses of its host.
    #[must_use]
    pub const fn new(port: u16) -> Self {
        let listener = Listener::new(port, 16);
        Self { listener, open: Vec::new(), greeted: Vec::new(), wrong: Vec::new() }
    }

    /// Everybody greeted, in order.
    #[must_use]
    pub fn greeted(&self) -> &[Proxied] {
        &self.greeted
    }

    /// What was no header, and what came behind one.
    #[must_use]
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }
}

impl App for GreetServer {
    fn poll(&mut self, _now_ns: u64, stack: &mut Stack) {
        for (socket, _) in self.listener.accept(stack) {
            self.open.push(Guest { socket, head: Vec::new(), who: None, greeted: false });
        }
        let (greeted, wrong) = (&mut self.greeted, &mut self.wrong);
        self.open.retain_mut(|guest| {
            let socket = stack.tcp(guest.socket);
            while socket.can_recv() {
                let Ok(got) = socket.recv(|bytes| (bytes.len(), bytes.to_vec())) else { break };
                guest.head.extend(got);
            }
            if guest.who.is_none() {
                match read_proxy(&guest.head) {
                    Ok(Some((who, len))) => {
                        guest.head.drain(..len);
                        guest.who = Some(who);
                        greeted.push(who);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        wrong.push(error);
                        socket.abort();
                    }
                }
            }
            if let Some(who) = guest.who
                && !guest.greeted
                && socket.can_send()
            {
                let line = format!("220 hello {}\r\n", who.client);
                guest.greeted = socket.send_slice(line.as_bytes()) == Ok(line.len());
            }
            if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
                if guest.head != b"QUIT\r\n" {
                    wrong.push(format!("said {}", guest.head.escape_ascii()));
                }
                socket.close();
            }
            let over = socket.state() == tcp::State::Closed;
            if over {
                stack.remove(guest.socket);
            }
            !over
        });
    }

    fn describe(&self) -> String {
        format!("greeting server: {} greeted, wrong: {:?}", self.greeted.len(), self.wrong)
    }
}

/// Says nothing until it is greeted, then says goodbye.
#[derive(Debug)]
pub struct GreetClient {
    to: SocketAddr,
    socket: Option<SocketHandle>,
    local: Option<SocketAddr>,
    heard: Vec<u8>,
    said: bool,
    done: bool,
    failed: bool,
}

impl GreetClient {
    /// Connects to a [`GreetServer`].
    ///
    /// # Panics
    /// When the text is not address:port.
    #[must_use]
    pub fn new(to: &str) -> Self {
        let to = to.parse().unwrap_or_else(|_| panic!("{to:?} is not address:port"));
        let heard = Vec::new();
        Self { to, socket: None, local: None, heard, said: false, done: false, failed: false }
    }

    /// Own address and port, once connecting.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Whether it was greeted by its own address.
    #[must_use]
    pub fn greeted(&self) -> bool {
        let expected = self.local.map(|local| format!("220 hello {local}\r\n"));
        expected.is_some_and(|line| self.heard == line.as_bytes())
    }

    /// Whether the connection is over.
    #[must_use]
    pub const fn done(&self) -> bool {
        self.done
    }

    /// Whether it was reset.
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.failed
    }
}

impl App for GreetClient {
    fn poll(&mut self, _now_ns: u64, stack: &mut Stack) {
        if self.done {
            return;
        }
        let handle = *self.socket.get_or_insert_with(|| {
            let (handle, local) = stack.connect(self.to, None);
            self.local = Some(local);
            handle
        });
        let socket = stack.tcp(handle);
        while socket.can_recv() {
            let Ok(got) = socket.recv(|bytes| (bytes.len(), bytes.to_vec())) else { break };
            self.heard.extend(got);
        }
        if self.heard.ends_with(b"\r\n") && !self.said && socket.can_send() {
            self.said = socket.send_slice(b"QUIT\r\n") == Ok(6);
            socket.close();
        }
        match socket.state() {
            tcp::State::TimeWait => self.done = true,
            tcp::State::Closed => (self.done, self.failed) = (true, !self.said),
            _ => {}
        }
    }

    fn describe(&self) -> String {
        format!("greeted client of {}: {}", self.to, self.heard.escape_ascii())
    }
}
