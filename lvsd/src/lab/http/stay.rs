//! Connections that stay: long downloads that are read slowly, and idle ones; and all the while new
//! visits. Tells when and how each connection broke, and where its client went then.

use super::client::PATIENCE;
use super::visits::visit;
use super::{Head, pattern};
use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use lvs_os::{clock, tcp};
use serde_json::{Value, json};
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;

/// No download comes to its end.
const ENDLESS: u64 = 1 << 50;
/// A download reads so much at a time, and then rests.
const PIECE: usize = 32 << 10;
const REST: Duration = Duration::from_millis(10);
/// Between two visits, and between two looks at an idle connection.
const VISIT_EVERY: Duration = Duration::from_millis(20);
/// Whoever listens has gone when nobody says stop for so long.
const LONGEST: Duration = Duration::from_secs(60);

/// What is to be done.
pub(super) struct Stay<'a> {
    pub(super) target: SocketAddrV4,
    /// In turn.
    pub(super) sources: &'a [Ipv4Addr],
    /// So many downloads, and as many idle connections.
    pub(super) each: usize,
}

struct Connection {
    source: Ipv4Addr,
    server: String,
    download: bool,
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(source: Ipv4Addr, target: SocketAddrV4, download: bool) -> io::Result<Self> {
        let mut stream = tcp::connect_from(source, target, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let path = if download { format!("/bytes/{ENDLESS}") } else { "/".to_owned() };
        write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let mut reader = BufReader::with_capacity(PIECE, stream);
        let server = answer(&mut reader, download)?;
        Ok(Self { source, server, download, reader })
    }

    /// Until it breaks or is over: the bytes that came, whether all were right, and what broke it.
    fn last(&mut self, over: &dyn Fn() -> bool) -> (u64, bool, Option<io::Error>) {
        if self.download { self.download(over) } else { self.idle(over) }
    }

    fn download(&mut self, over: &dyn Fn() -> bool) -> (u64, bool, Option<io::Error>) {
        let (mut bytes, mut right, mut buffer) = (0, true, vec![0; PIECE]);
        while !over() {
            match self.reader.read(&mut buffer) {
                Ok(0) => return (bytes, right, Some(io::ErrorKind::UnexpectedEof.into())),
                Ok(got) => {
                    right &= pattern::matches_at(bytes, &buffer[..got]);
                    bytes += got as u64;
                }
                Err(error) => return (bytes, right, Some(error)),
            }
            thread::sleep(REST);
        }
        (bytes, right, None)
    }

    /// It says nothing, so that only the other side can break it, and must answer at the end.
    fn idle(&mut self, over: &dyn Fn() -> bool) -> (u64, bool, Option<io::Error>) {
        let waits = self.reader.get_ref().set_read_timeout(Some(VISIT_EVERY));
        let mut broken = waits.err();
        while broken.is_none() && !over() {
            broken = match self.reader.read(&mut [0]) {
                Ok(0) => Some(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => Some(io::ErrorKind::InvalidData.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => Some(error),
            };
        }
        let mut again = || -> io::Result<()> {
            self.reader.get_ref().set_read_timeout(Some(PATIENCE))?;
            self.reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
            answer(&mut self.reader, false).map(drop)
        };
        let broken = broken.or_else(|| again().err());
        (0, true, broken)
    }
}

/// Reads the head of an answer, and its body unless that is the download; says who sent it.
fn answer(reader: &mut BufReader<TcpStream>, download: bool) -> io::Result<String> {
    let head = Head::read(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if !download {
        let mut body = vec![0; usize::try_from(head.content_length()).unwrap_or(0).min(1 << 16)];
        reader.read_exact(&mut body)?;
    }
    let server = head.header("server").filter(|_| head.start.contains(" 200 "));
    server.map(String::from).ok_or_else(|| io::Error::other("no answer, or a wrong one"))
}

impl Stay<'_> {
    fn source(&self, number: usize) -> Ipv4Addr {
        self.sources[number % self.sources.len()]
    }

    /// Opens all, and tells `ready` how many; goes on until `stop`.
    pub(super) fn run(
        &self,
        stop: &AtomicBool,
        ready: impl FnOnce(usize) -> io::Result<()>,
    ) -> io::Result<Value> {
        let begin = clock::monotonic_ns();
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let over =
            || stop.load(Ordering::Relaxed) || clock::monotonic_ns().wrapping_sub(begin) > longest;
        let over: &(dyn Fn() -> bool + Sync) = &over;
        let open = |n| Connection::open(self.source(n), self.target, n < self.each);
        let open: Vec<_> = (0..2 * self.each).map(open).collect::<io::Result<_>>()?;
        ready(open.len())?;
        Ok(thread::scope(|scope| {
            let visits = scope.spawn(|| self.visits(over));
            let threads: Vec<_> =
                open.into_iter().map(|c| scope.spawn(|| self.watch(c, over))).collect();
            let seen: Vec<_> = threads.into_iter().map(|t| t.join().unwrap_or_default()).collect();
            json!({ "connections": seen, "visits": visits.join().unwrap_or_default() })
        }))
    }

    fn watch(&self, mut connection: Connection, over: &dyn Fn() -> bool) -> Value {
        let (bytes, right, broken) = connection.last(over);
        let at = clock::monotonic_ns();
        let moved_to = broken.as_ref().and_then(|_| visit(connection.source, self.target).ok());
        let reset = broken.as_ref().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionReset);
        json!({
            "server": connection.server,
            "download": connection.download,
            "bytes": bytes,
            "right": right,
            "reset": reset,
            "broken": broken.as_ref().map(ToString::to_string),
            "broken_ns": broken.map(|_| at),
            "moved_to": moved_to,
        })
    }

    fn visits(&self, over: &dyn Fn() -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        while !over() {
            let begun = clock::monotonic_ns();
            let met = visit(self.source(seen.len()), self.target);
            let error = met.as_ref().err().map(ToString::to_string);
            seen.push(json!({ "begun_ns": begun, "server": met.ok(), "error": error }));
            thread::sleep(VISIT_EVERY);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::tests::start;
    use super::*;
    use core::net::SocketAddr;

    #[test]
    fn what_stays_is_alive_at_the_end_and_visits_go_on_meanwhile() {
        let SocketAddr::V4(target) = start("a") else { panic!("IPv4") };
        let sources = [Ipv4Addr::new(127, 0, 0, 2)];
        let stop = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                stop.store(true, Ordering::Relaxed);
            });
            Stay { target, sources: &sources, each: 2 }.run(&stop, |_| Ok(())).unwrap()
        });
        let connections = seen["connections"].as_array().unwrap();
        assert_eq!(connections.len(), 4);
        for connection in connections {
            assert_eq!(connection["right"], true, "{connection}");
            assert_eq!(connection["broken"], Value::Null, "{connection}");
            let bytes = connection["bytes"].as_u64().unwrap();
            assert_eq!(bytes > 0, connection["download"] == true, "{connection}");
        }
        let visits = seen["visits"].as_array().unwrap();
        assert!(!visits.is_empty() && visits.iter().all(|v| v["server"] == "a"), "{seen}");
    }
}
