//! The lab's HTTP server: says who it is and whom it sees, and sends or checks patterns.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | `{"server", "peer", "client_from_toa", "bytes"}` |
//! | `GET /bytes/N` | N bytes of the pattern |
//! | `PUT /bytes` | the same JSON, `bytes` counting the body, and `"right"`: whether it was the pattern |
//! | `GET /peers` | which peers came back, and how soon ([`Peers`]) |
//!
//! Every answer names the server, its peer and the client from TOA in headers too.

use super::peers::{End, Peers};
use super::{Head, pattern};
use crate::Exit;
use crate::lab::Problem;
use core::net::SocketAddr;
use lvs_os::tcp;
use serde_json::json;
use std::io::{self, BufReader, BufWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// The TCP option kind of TOA for both families.
const TOA_KIND: u8 = 254;
/// A busy machine may not let the server accept for a while.
const BACKLOG: u16 = 4096;

#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    #[arg(long)]
    name: String,
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves until killed; writes `ready` once it accepts.
pub(crate) fn main(args: &ServerArgs) -> Result<Exit, Problem> {
    let listen = || -> io::Result<TcpListener> {
        let listener = TcpListener::bind(args.listen)?;
        tcp::save_syn(&listener)?;
        tcp::set_backlog(&listener, BACKLOG)?;
        Ok(listener)
    };
    let listener = listen().map_err(|e| Problem::failed(args.listen, e))?;
    println!("ready");
    serve(&listener, &args.name);
    Ok(Exit::Ok)
}

fn serve(listener: &TcpListener, name: &str) {
    let peers = Arc::new(Peers::default());
    for stream in listener.incoming() {
        let (name, peers) = (name.to_owned(), Arc::clone(&peers));
        let accepted = stream.and_then(|stream| {
            let peer = stream.peer_addr()?;
            peers.opened(peer);
            thread::Builder::new().spawn(move || {
                let done = converse(&name, &stream, &peers);
                if let Err(error) = &done {
                    eprintln!("{name}: {error}");
                }
                peers.ended(peer, done.unwrap_or(End::Failed));
            })
        });
        if let Err(error) = accepted {
            eprintln!("accept: {error}");
        }
    }
}

/// What the server knows about one connection.
struct Connection<'a> {
    server: &'a str,
    peer: SocketAddr,
    client: Option<SocketAddr>,
    peers: &'a Peers,
}

/// Answers until one side is done, and says which.
fn converse(server: &str, stream: &TcpStream, peers: &Peers) -> io::Result<End> {
    stream.set_nodelay(true)?;
    let syn = tcp::saved_syn(stream)?;
    let client = tcp::client_from_toa(&syn, TOA_KIND);
    let connection = Connection { server, peer: stream.peer_addr()?, client, peers };
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut writer = BufWriter::with_capacity(64 * 1024, stream);
    while let Some(head) = Head::read(&mut reader)? {
        connection.answer(&head, &mut reader, &mut writer)?;
        writer.flush()?;
        if head.closes() {
            return Ok(End::ByServer);
        }
    }
    Ok(End::ByClient)
}

impl Connection<'_> {
    fn answer(
        &self,
        head: &Head,
        reader: &mut impl io::Read,
        writer: &mut impl Write,
    ) -> io::Result<()> {
        let length = head.content_length();
        let mut words = head.start.split(' ');
        match (words.next(), words.next()) {
            (Some("GET"), Some("/")) => self.send_json(writer, 0, true),
            (Some("GET"), Some("/peers")) => {
                let body = format!("{}\n", self.peers.to_json());
                self.send_head(writer, "200 OK", body.len() as u64)?;
                writer.write_all(body.as_bytes())
            }
            (Some("PUT"), Some("/bytes")) => {
                let right = pattern::read_and_compare(reader, length)?;
                self.send_json(writer, length, right)
            }
            (Some("GET"), Some(path)) if path.starts_with("/bytes/") => {
                match path.trim_start_matches("/bytes/").parse() {
                    Ok(len) => {
                        self.send_head(writer, "200 OK", len)?;
                        pattern::write(writer, len)
                    }
                    Err(_) => self.send_head(writer, "400 Bad Request", 0),
                }
            }
            _ => self.send_head(writer, "404 Not Found", 0),
        }
    }

    fn send_head(&self, writer: &mut impl Write, status: &str, length: u64) -> io::Result<()> {
        write!(
            writer,
            "HTTP/1.1 {status}\r\nServer: {}\r\nX-Peer: {}\r\nX-Client-From-Toa: {}\r\n\
             Content-Length: {length}\r\n\r\n",
            self.server,
            self.peer,
            self.client.map(|c| c.to_string()).unwrap_or_default(),
        )
    }

    fn send_json(&self, writer: &mut impl Write, bytes: u64, right: bool) -> io::Result<()> {
        let body = json!({
            "server": self.server,
            "peer": self.peer.to_string(),
            "client_from_toa": self.client.map(|c| c.to_string()),
            "bytes": bytes,
            "right": right,
        });
        let body = format!("{body}\n");
        self.send_head(writer, "200 OK", body.len() as u64)?;
        writer.write_all(body.as_bytes())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A server on loopback in a thread of this process.
    pub(in crate::lab::http) fn start(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        tcp::save_syn(&listener).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener, name));
        address
    }
}
