//! One TCP connection through a director on a bench, and what its segments say.

use super::bench::{Bench, CLIENTS, MAC, SERVERS};
use core::net::IpAddr;
use lvs_core::io::PortId;
use lvs_core::verdict::Verdict;
use lvs_core::wire::{Headers, Parsed, Transport};
use lvs_testkit::build::tcp;
use lvs_testkit::oracle;

pub const CLIENT: &str = "10.0.0.2:40000";
pub const SERVICE: &str = "10.0.0.80:80";
pub const ISN: u32 = 1000;
/// The server's first number.
pub const THEIRS: u32 = 7_000_000;

/// What a frame says: ends, sequence and acknowledgement numbers, flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub port: PortId,
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
}

pub fn said((port, frame): &(PortId, Vec<u8>)) -> Said {
    assert!(oracle::accepted(frame).is_ok(), "{frame:02x?}");
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else { panic!() };
    let (Some(tuple), Transport::Tcp { flags, seq, ack, .. }) = (headers.tuple, headers.transport)
    else {
        panic!("{headers:?}")
    };
    let (from, to) = ((tuple.src(), tuple.sport()), (tuple.dst(), tuple.dport()));
    Said { port: *port, from, to, seq, ack, flags }
}

/// A connection whose server is the first one, and what its ends know of each other.
pub struct Connection {
    /// As the server sees it.
    pub client: (IpAddr, u16),
    pub server: (IpAddr, u16),
    /// The client's next number as the server counts.
    pub next: u32,
}

pub fn connect(bench: &mut Bench<'_>, data: bool) -> Connection {
    let syn = tcp().syn().seq(ISN).from(CLIENT).to(SERVICE).dst_mac(MAC).build_buf();
    let (_, frames) = bench.feed(CLIENTS, syn);
    let seen = said(&frames[0]);
    let answer = tcp().syn().seq(THEIRS).ack(seen.seq + 1).from(seen.to).to(seen.from).dst_mac(MAC);
    bench.feed(SERVERS, answer.build_buf());
    let all = Connection { client: seen.from, server: seen.to, next: seen.seq.wrapping_add(1) };
    from_client(bench, &[], 1, 1);
    if data {
        from_server(bench, &all, b"hello", 1, all.next);
        from_client(bench, &[], 1, 6);
    }
    all
}

/// A segment of the client, numbers counted from the first ones.
pub fn from_client(
    bench: &mut Bench<'_>,
    payload: &[u8],
    seq: u32,
    ack: u32,
) -> (Verdict, Vec<Said>) {
    let segment = tcp().seq(ISN + seq).ack(THEIRS + ack).payload(payload);
    let segment = segment.from(CLIENT).to(SERVICE).dst_mac(MAC);
    let (report, frames) = bench.feed(CLIENTS, segment.build_buf());
    (report.verdict, frames.iter().map(said).collect())
}

pub fn from_server(
    bench: &mut Bench<'_>,
    connection: &Connection,
    payload: &[u8],
    seq: u32,
    ack: u32,
) -> (Verdict, Vec<Said>) {
    let segment = tcp().seq(THEIRS + seq).ack(ack).payload(payload);
    let segment = segment.from(connection.server).to(connection.client).dst_mac(MAC);
    let (report, frames) = bench.feed(SERVERS, segment.build_buf());
    (report.verdict, frames.iter().map(said).collect())
}

pub fn to_client(seq: u32) -> Said {
    let (from, to) = (
        SERVICE.parse::<core::net::SocketAddr>().unwrap(),
        CLIENT.parse::<core::net::SocketAddr>().unwrap(),
    );
    Said {
        port: CLIENTS,
        from: (from.ip(), from.port()),
        to: (to.ip(), to.port()),
        seq,
        ack: 0,
        flags: 4,
    }
}

pub fn to_server(connection: &Connection, seq: u32) -> Said {
    let Connection { client, server, .. } = *connection;
    Said { port: SERVERS, from: client, to: server, seq, ack: 0, flags: 4 }
}
