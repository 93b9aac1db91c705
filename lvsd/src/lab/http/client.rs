//! The lab's HTTP client: many requests over many connections at once, one long transfer, or many short
//! connections at a steady rate. Writes what it saw as JSON; what that means is decided by [`crate::lab::checks`].

use super::stay::Stay;
use super::storm::Storm;
use super::{Head, pattern, visits};
use crate::Exit;
use crate::lab::{Problem, datagrams};
use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use serde_json::{Value, json};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

/// Nothing in a lab takes this long without a byte.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct ClientArgs {
    #[arg(long, required = true)]
    target: Vec<SocketAddr>,
    /// Threads; half of them keep one connection, half connect for every request
    #[arg(long, default_value_t = 16)]
    threads: usize,
    /// Requests of each thread
    #[arg(long, default_value_t = 0)]
    requests: usize,
    /// So many sockets that each send datagrams of several sizes
    #[arg(long, default_value_t = 0)]
    datagrams: usize,
    /// One transfer of so many bytes from the server
    #[arg(long, default_value_t = 0)]
    download: u64,
    /// One transfer of so many bytes to the server
    #[arg(long, default_value_t = 0)]
    upload: u64,
    /// So many short connections, each from the next `--source`
    #[arg(long, default_value_t = 0, requires = "source")]
    short: usize,
    /// Short connections per second
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// So many connections that are opened and then left alone until standard input closes
    #[arg(long, default_value_t = 0, requires = "source")]
    hold: usize,
    /// So many rounds of one visit from each `--source`
    #[arg(long, default_value_t = 0, requires = "source")]
    visits: usize,
    /// So many endless downloads and as many idle connections, until standard input closes
    #[arg(long, default_value_t = 0, requires = "source")]
    stay: usize,
    /// An address of this host
    #[arg(long)]
    source: Vec<Ipv4Addr>,
    /// Ask the server about its peers
    #[arg(long)]
    peers: bool,
}

/// What one request asks for.
#[derive(Clone, Copy, Debug)]
enum Job {
    Info,
    Download(u64),
    Upload(u64),
}

/// Empty, tiny, around one segment, around the 64 KiB of a segmentation train, and long ones, in
/// both directions.
const MIX: [Job; 10] = [
    Job::Info,
    Job::Download(1),
    Job::Upload(1),
    Job::Download(1448),
    Job::Upload(1441),
    Job::Download(1449),
    Job::Upload(70_000),
    Job::Download(65_536),
    Job::Download(0),
    Job::Download(1_000_003),
];

/// Writes one JSON object with what was seen.
pub(crate) fn main(args: &ClientArgs) -> Result<Exit, Problem> {
    let mut result = json!({});
    if args.requests > 0 {
        result["requests"] = many(&args.target, args.threads, args.requests).into();
    }
    if args.datagrams > 0 {
        result["requests"] = datagrams::run(args.target[0], args.datagrams).into();
    }
    for (name, job, bytes) in [
        ("download", Job::Download(args.download), args.download),
        ("upload", Job::Upload(args.upload), args.upload),
    ] {
        if bytes > 0 {
            result[name] = transfer(args.target[0], job, bytes);
        }
    }
    if args.peers {
        result["peers"] = ask_peers(args.target[0]).map_err(|e| Problem::failed("peers", e))?;
    }
    let held = storms(args, &mut result)?;
    println!("{result}");
    if !held.is_empty() {
        // Whoever holds the other end waits for the line above.
        io::stdout().flush().map_err(|e| Problem::failed("client", e))?;
        let _ = io::stdin().read(&mut [0]);
    }
    Ok(Exit::Ok)
}

fn ask_peers(target: SocketAddr) -> io::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /peers HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    Head::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_reader(reader)?)
}

/// The jobs that need an address of their own for each connection; what is to stay open comes back.
fn storms(args: &ClientArgs, result: &mut Value) -> Result<Vec<TcpStream>, Problem> {
    let target = match args.target[0] {
        SocketAddr::V4(target) => target,
        SocketAddr::V6(_) => return Ok(Vec::new()),
    };
    let storm = |connections| Storm { target, sources: &args.source, connections, rate: args.rate };
    if args.short > 0 {
        result["short"] = storm(args.short).run();
    }
    if args.visits > 0 {
        result["visits"] = visits::run(target, &args.source, args.visits);
    }
    if args.stay > 0 {
        let stay = Stay { target, sources: &args.source, each: args.stay };
        result["stay"] = stay_until_told(&stay).map_err(|e| Problem::failed("staying", e))?;
    }
    if args.hold == 0 {
        return Ok(Vec::new());
    }
    let held = storm(args.hold).hold().map_err(|e| Problem::failed("holding connections", e))?;
    result["held"] = held.len().into();
    Ok(held)
}

/// One line of JSON when all connections are open, and then on until standard input closes.
fn stay_until_told(stay: &Stay<'_>) -> io::Result<Value> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    stay.run(&stop, |open| {
        println!("{}", json!({ "open": open }));
        io::stdout().flush()?;
        let listen = move || {
            let _ = io::stdin().read(&mut [0]);
            told.store(true, Ordering::Relaxed);
        };
        thread::Builder::new().spawn(listen).map(drop)
    })
}

/// One long transfer on a connection of its own, timed from the request to the last byte.
fn transfer(target: SocketAddr, job: Job, bytes: u64) -> Value {
    let attempt = || -> io::Result<Value> {
        let connection = Connection::open(target)?;
        let start = Instant::now();
        let mut seen = connection.request(job, true)?;
        seen["bytes"] = bytes.into();
        seen["seconds"] = start.elapsed().as_secs_f64().into();
        Ok(seen)
    };
    attempt().unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

/// All threads connect, wait for each other, and then work: so many connections are open at once.
fn many(targets: &[SocketAddr], threads: usize, requests: usize) -> Vec<Value> {
    let all_connected = Barrier::new(threads);
    thread::scope(|scope| {
        let work = |number: usize| {
            let target = |i: usize| targets[(number + i) % targets.len()];
            let first = Connection::open(target(0));
            all_connected.wait();
            let seen = if number.is_multiple_of(2) {
                keep(first, requests)
            } else {
                renew(first, requests, target)
            };
            seen.into_iter().map(move |(connection, value)| {
                let mut value = value.unwrap_or_else(|e| json!({ "error": e.to_string() }));
                value["connection"] = format!("{number}.{connection}").into();
                value
            })
        };
        let handles: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || work(number).collect::<Vec<_>>()))
            .collect();
        handles.into_iter().flat_map(|h| h.join().unwrap_or_default()).collect()
    })
}

type Seen = Vec<(usize, io::Result<Value>)>;

/// All requests over one connection, up to the first that fails.
fn keep(connection: io::Result<Connection>, requests: usize) -> Seen {
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => return vec![(0, Err(error))],
    };
    let job = |i: usize| MIX[i % MIX.len()];
    let mut seen = Seen::new();
    for i in 0..requests {
        let value = connection.request(job(i), i + 1 == requests);
        let failed = value.is_err();
        seen.push((0, value));
        if failed {
            break;
        }
    }
    seen
}

/// A new connection for every request, up to the first that fails: one that gets no answer takes
/// long, and one is enough to say so.
fn renew(
    first: io::Result<Connection>,
    requests: usize,
    target: impl Fn(usize) -> SocketAddr,
) -> Seen {
    let mut next = Some(first);
    let mut seen = Seen::new();
    for i in 0..requests {
        let connection = next.take().unwrap_or_else(|| Connection::open(target(i)));
        let value = connection.and_then(|c| c.request(MIX[i % MIX.len()], true));
        let failed = value.is_err();
        seen.push((i, value));
        if failed {
            break;
        }
    }
    seen
}

struct Connection {
    stream: TcpStream,
    local: SocketAddr,
}

impl Connection {
    fn open(target: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { local: stream.local_addr()?, stream })
    }

    /// Sends one request, reads its whole answer, and says what came.
    fn request(&self, job: Job, last: bool) -> io::Result<Value> {
        self.send(job, last)?;
        // Nothing is left in this reader afterwards: one request at a time, and the body is read
        // to its end.
        let mut reader = BufReader::with_capacity(64 * 1024, &self.stream);
        let head = Head::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = head.content_length();
        let right = match job {
            Job::Download(len) => pattern::read_and_compare(&mut reader, length)? && length == len,
            Job::Info | Job::Upload(_) => {
                let mut body = vec![0; usize::try_from(length.min(1 << 16)).unwrap_or(0)];
                reader.read_exact(&mut body)?;
                judge(&body, job)
            }
        };
        let text = |name| head.header(name).filter(|v| !v.is_empty());
        Ok(json!({
            "job": format!("{job:?}"),
            "status": head.start.split(' ').nth(1).unwrap_or_default(),
            "right": right,
            "client": self.local.to_string(),
            "server": text("server"),
            "peer": text("x-peer"),
            "client_from_toa": text("x-client-from-toa"),
        }))
    }

    fn send(&self, job: Job, last: bool) -> io::Result<()> {
        let mut writer = BufWriter::with_capacity(64 * 1024, &self.stream);
        let (start, length) = match job {
            Job::Info => ("GET /".to_owned(), 0),
            Job::Download(len) => (format!("GET /bytes/{len}"), 0),
            Job::Upload(len) => ("PUT /bytes".to_owned(), len),
        };
        let connection = if last { "close" } else { "keep-alive" };
        write!(
            writer,
            "{start} HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n\
             Content-Length: {length}\r\n\r\n"
        )?;
        pattern::write(&mut writer, length)?;
        writer.flush()
    }
}

/// Whether the server's JSON says that it got what was sent.
fn judge(body: &[u8], job: Job) -> bool {
    let sent = if let Job::Upload(len) = job { len } else { 0 };
    serde_json::from_slice::<Value>(body)
        .is_ok_and(|said| said["right"] == json!(true) && said["bytes"] == json!(sent))
}

#[cfg(test)]
mod tests {
    use super::super::server::tests::start;
    use super::*;

    #[test]
    fn every_job_over_kept_and_new_connections_comes_back_right() {
        let seen = many(&[start("a"), start("b")], 16, 13);
        assert_eq!(seen.len(), 16 * 13);
        for request in &seen {
            assert_eq!(request["status"], "200", "{request}");
            assert_eq!(request["right"], true, "{request}");
            assert_eq!(request["peer"], request["client"]);
            assert_eq!(request["client_from_toa"], Value::Null);
        }
        let mut connections: Vec<_> = seen.iter().map(|r| r["connection"].to_string()).collect();
        connections.sort();
        connections.dedup();
        assert_eq!(connections.len(), 8 + 8 * 13);
    }

    #[test]
    fn a_long_transfer_is_timed_and_a_dead_target_is_an_error() {
        let seen = transfer(start("a"), Job::Upload(5_000_000), 5_000_000);
        assert_eq!(seen["right"], true);
        assert!(seen["seconds"].as_f64().unwrap() > 0.0);
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(transfer(nobody, Job::Info, 1)["error"].is_string());
    }

    #[test]
    fn an_upload_that_the_server_did_not_get_right_is_wrong() {
        assert!(judge(br#"{"right":true,"bytes":7}"#, Job::Upload(7)));
        assert!(!judge(br#"{"right":true,"bytes":6}"#, Job::Upload(7)));
        assert!(!judge(br#"{"right":false,"bytes":7}"#, Job::Upload(7)));
        assert!(!judge(b"garbage", Job::Info));
    }
}
