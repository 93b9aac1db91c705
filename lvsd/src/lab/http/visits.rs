//! Short visits from several addresses, one after the other, and which server each has met.

use super::Head;
use super::client::PATIENCE;
use core::net::{Ipv4Addr, SocketAddrV4};
use lvs_os::tcp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";

/// One request on a connection of its own; says which server has answered all of it.
pub(super) fn visit(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<String> {
    let mut stream = tcp::connect_from(source, target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let mut reader = BufReader::new(stream);
    let head = Head::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    let whole = head.start.contains(" 200 ") && body.len() as u64 == head.content_length();
    match head.header("server") {
        Some(server) if whole => Ok(server.to_owned()),
        _ => Err(io::Error::other("no answer, or a wrong one")),
    }
}

/// So many rounds of one visit from each address, in order.
pub(super) fn run(target: SocketAddrV4, sources: &[Ipv4Addr], rounds: usize) -> Value {
    let mut by_client: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let mut failed = Vec::new();
    for source in sources.iter().cycle().take(rounds * sources.len()) {
        match visit(*source, target) {
            Ok(server) => {
                *by_client.entry(source.to_string()).or_default().entry(server).or_default() += 1;
            }
            Err(error) => failed.push(format!("{source}: {error}")),
        }
    }
    let examples: Vec<_> = failed.iter().take(3).collect();
    json!({ "by_client": by_client, "failed": failed.len(), "examples": examples })
}

#[cfg(test)]
mod tests {
    use super::super::server::tests::start;
    use super::*;
    use core::net::SocketAddr;

    #[test]
    fn each_visit_is_counted_for_its_address_and_server() {
        let SocketAddr::V4(target) = start("a") else { panic!("IPv4") };
        let sources = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
        let seen = run(target, &sources, 3);
        assert_eq!(seen["by_client"]["127.0.0.2"], json!({ "a": 3 }));
        assert_eq!(seen["by_client"]["127.0.0.3"], json!({ "a": 3 }));
        assert_eq!(seen["failed"], 0);
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let SocketAddr::V4(nobody) = nobody else { panic!("IPv4") };
        assert_eq!(run(nobody, &sources, 2)["failed"], 4);
    }
}
