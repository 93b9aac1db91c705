//! Many short connections from several addresses at a steady rate, each timed; and connections that are
//! opened and then left alone.

use super::client::PATIENCE;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use lvs_os::tcp;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

/// Connections under way at once, at most.
const THREADS: usize = 48;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
const KEPT: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";

/// What is to be done.
pub(super) struct Storm<'a> {
    pub(super) target: SocketAddrV4,
    /// In turn.
    pub(super) sources: &'a [Ipv4Addr],
    pub(super) connections: usize,
    /// Connections per second.
    pub(super) rate: f64,
}

/// How one connection went: its connect time, or why it failed.
type Outcome = Result<Duration, String>;

impl Storm<'_> {
    /// Each connection begins when its turn has come, or as soon after as a thread is free.
    pub(super) fn run(&self) -> Value {
        let next = AtomicUsize::new(0);
        let begin = Instant::now();
        let work = || {
            let mut seen = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.connections {
                    return seen;
                }
                let due = Duration::from_secs_f64(number as f64 / self.rate);
                thread::sleep(due.saturating_sub(begin.elapsed()));
                let source = self.sources[number % self.sources.len()];
                seen.push(short(source, self.target).map_err(|e| format!("{source}: {e}")));
            }
        };
        let seen: Vec<Outcome> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap_or_default()).collect()
        });
        summary(&seen, begin.elapsed())
    }

    /// Opens all, has each answered once, and returns them.
    pub(super) fn hold(&self) -> io::Result<Vec<TcpStream>> {
        let open = |number| {
            let source = self.sources[number % self.sources.len()];
            let mut stream = tcp::connect_from(source, self.target, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(KEPT)?;
            let mut answer = [0; 512];
            let got = stream.read(&mut answer)?;
            is_ok(answer.get(..got).unwrap_or_default())?;
            Ok(stream)
        };
        (0..self.connections).map(open).collect()
    }
}

/// One request on a connection that the server closes.
fn short(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<Duration> {
    let begin = Instant::now();
    let mut stream = tcp::connect_from(source, target, PATIENCE)?;
    let took = begin.elapsed();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let mut answer = Vec::with_capacity(512);
    stream.read_to_end(&mut answer)?;
    is_ok(&answer).map(|()| took)
}

fn is_ok(answer: &[u8]) -> io::Result<()> {
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(io::Error::other("no answer, or a wrong one"))
    }
}

fn summary(seen: &[Outcome], took: Duration) -> Value {
    let failed: Vec<_> = seen.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    let mut times: Vec<Duration> = seen.iter().filter_map(|o| o.as_ref().ok().copied()).collect();
    times.sort_unstable();
    let millis = |time: Option<&Duration>| time.map(|time| time.as_secs_f64() * 1e3);
    let part = |percent: usize| millis(times.get(times.len().saturating_sub(1) * percent / 100));
    json!({
        "connections": seen.len(),
        "failed": failed.len(),
        "examples": failed.iter().take(3).collect::<Vec<_>>(),
        "seconds": took.as_secs_f64(),
        "rate": seen.len() as f64 / took.as_secs_f64(),
        "median_ms": part(50),
        "p99_ms": part(99),
        "slowest_ms": millis(times.last()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::server::tests::start;
    use super::*;

    fn storm(target: SocketAddrV4, connections: usize) -> Storm<'static> {
        const SOURCES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
        Storm { target, sources: &SOURCES, connections, rate: 1000.0 }
    }

    fn v4(address: core::net::SocketAddr) -> SocketAddrV4 {
        match address {
            core::net::SocketAddr::V4(v4) => v4,
            core::net::SocketAddr::V6(_) => panic!("the lab's servers listen on IPv4"),
        }
    }

    #[test]
    fn every_connection_is_counted_and_a_refused_one_is_a_failure() {
        let seen = storm(v4(start("a")), 100).run();
        assert_eq!((&seen["connections"], &seen["failed"]), (&100.into(), &0.into()), "{seen}");
        assert!(seen["slowest_ms"].as_f64() >= seen["median_ms"].as_f64());
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let seen = storm(v4(nobody), 5).run();
        assert_eq!((&seen["failed"], &seen["slowest_ms"]), (&5.into(), &Value::Null), "{seen}");
    }

    #[test]
    fn what_is_held_stays_open() {
        let mut held = storm(v4(start("a")), 3).hold().unwrap();
        for stream in &mut held {
            stream.set_nonblocking(true).unwrap();
            let again = stream.read(&mut [0; 1]).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
