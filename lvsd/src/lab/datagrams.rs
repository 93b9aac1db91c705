//! Datagrams: a server that sends them back with its name and whom it sees, and a client that compares.

use super::Problem;
use crate::Exit;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use serde_json::{Value, json};
use std::io;
use std::net::UdpSocket;
use std::thread;

/// Payloads: empty, tiny, around a word, and all that fits a frame of 1500 bytes beside the server's line.
const SIZES: [usize; 8] = [0, 1, 2, 3, 64, 511, 1200, 1400];
const PATIENCE: Duration = Duration::from_secs(2);
/// A datagram may be lost on a busy machine: a full socket, a neighbour that is asked for.
const ATTEMPTS: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct EchoArgs {
    #[arg(long)]
    name: String,
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves until killed; writes `ready` once it answers.
pub(crate) fn main(args: &EchoArgs) -> Result<Exit, Problem> {
    let failed = |e: io::Error| Problem::failed(args.listen, e);
    let socket = UdpSocket::bind(args.listen).map_err(failed)?;
    println!("ready");
    Err(failed(echo(&socket, &args.name)))
}

fn echo(socket: &UdpSocket, name: &str) -> io::Error {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let answer = socket.recv_from(&mut bytes).and_then(|(len, peer)| {
            let mut answer = format!("{name} {peer}\n").into_bytes();
            answer.extend_from_slice(bytes.get(..len).unwrap_or_default());
            socket.send_to(&answer, peer)
        });
        if let Err(error) = answer {
            return error;
        }
    }
}

/// From so many sockets at once, one datagram of each size; what came back, as the HTTP client tells it.
pub(crate) fn run(target: SocketAddr, sockets: usize) -> Vec<Value> {
    thread::scope(|scope| {
        let work = |number: usize| {
            let seen = exchange(target).unwrap_or_else(|e| vec![json!({ "error": e.to_string() })]);
            seen.into_iter().map(move |mut value| {
                value["connection"] = number.to_string().into();
                value
            })
        };
        let handles: Vec<_> = (0..sockets)
            .map(|number| scope.spawn(move || work(number).collect::<Vec<_>>()))
            .collect();
        handles.into_iter().flat_map(|h| h.join().unwrap_or_default()).collect()
    })
}

/// Datagrams of one socket.
pub(crate) const fn each() -> usize {
    SIZES.len()
}

fn exchange(target: SocketAddr) -> io::Result<Vec<Value>> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => core::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let client = socket.local_addr()?;
    SIZES.iter().map(|size| one(&socket, client, *size)).collect()
}

/// Sends a datagram until its answer comes.
fn one(socket: &UdpSocket, client: SocketAddr, size: usize) -> io::Result<Value> {
    let payload: Vec<u8> = (0..=250).cycle().take(size).collect();
    let mut bytes = vec![0; 1 << 16];
    // What was sent twice is answered twice.
    socket.set_nonblocking(true)?;
    while socket.recv(&mut bytes).is_ok() {}
    socket.set_nonblocking(false)?;
    let mut last = io::ErrorKind::TimedOut.into();
    for _ in 0..ATTEMPTS {
        socket.send(&payload)?;
        match socket.recv(&mut bytes) {
            Ok(len) => {
                let answer = bytes.get(..len).unwrap_or_default();
                return Ok(judge(answer, &payload, client));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn judge(answer: &[u8], payload: &[u8], client: SocketAddr) -> Value {
    let at = answer.iter().position(|byte| *byte == b'\n').unwrap_or(answer.len());
    let (line, rest) = answer.split_at(at);
    let line = String::from_utf8_lossy(line);
    let (server, peer) = line.split_once(' ').unwrap_or_default();
    json!({
        "job": format!("Datagram({})", payload.len()),
        "status": "200",
        "right": rest.get(1..) == Some(payload),
        "client": client.to_string(),
        "server": server,
        "peer": peer,
        "client_from_toa": Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_gets_its_datagrams_back() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        thread::spawn(move || echo(&server, "one"));
        let seen = run(target, 4);
        assert_eq!(seen.len(), 4 * each());
        for datagram in &seen {
            assert_eq!(datagram["right"], true, "{datagram}");
            assert_eq!(datagram["server"], "one");
            assert_eq!(datagram["peer"], datagram["client"]);
        }
    }

    #[test]
    fn a_changed_or_cut_answer_is_wrong() {
        let client = "10.0.0.2:4000".parse().unwrap();
        let right = |answer: &[u8]| judge(answer, &[0, 1, 2], client)["right"] == true;
        assert!(right(b"one 10.0.0.2:4000\n\x00\x01\x02"));
        assert!(!right(b"one 10.0.0.2:4000\n\x00\x01\x03"));
        assert!(!right(b"one 10.0.0.2:4000\n\x00\x01") && !right(b"") && !right(b"one"));
    }
}
