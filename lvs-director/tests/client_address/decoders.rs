//! What independent decoders make of what the director sends: pnet_packet always, tshark where it is installed.

use crate::conversation::{Conversation, Left};
use crate::support;
use crate::toa::toa;
use crate::world::proxy;
use core::net::{IpAddr, SocketAddr};
use lvs_core::service::{ClientAddrMode, ProxyVersion, ToaFormat, ToaOptions};
use lvs_testkit::build::{option, pattern};
use lvs_testkit::oracle::{self, Fields};
use lvs_testkit::pcap::{self, Capture};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// What is said of the client, in the way of the decoders.
#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// An option: its kind, and what stands behind its length.
    Option(u8, Vec<u8>),
    /// A PROXY header: version, client, virtual address.
    Proxy(u8, SocketAddr, SocketAddr),
}

/// A frame of the director's, and what it is to say.
struct Sent {
    frame: Vec<u8>,
    word: Word,
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The option in every layout, compacted, ahead of a segment and on a FIN.
fn by_option(all: &mut Vec<Sent>) {
    for (kind, format) in [
        (254, ToaFormat::Port),
        (253, ToaFormat::Port),
        (200, ToaFormat::Port),
        (28, ToaFormat::Versioned),
        (254, ToaFormat::WithVirtual),
    ] {
        for v6 in [false, true] {
            let options = ToaOptions { kind_v4: kind, kind_v6: kind, format, ..toa() };
            let mut memory = support::memory();
            let mut talk = Conversation::new(ClientAddrMode::Toa(options), v6, 9, &mut memory);
            let (client, virt) = (talk.client, talk.service);
            let port = |end: SocketAddr| end.port().to_be_bytes().to_vec();
            let said = match format {
                ToaFormat::Versioned => {
                    [vec![if v6 { 2 } else { 1 }], octets(client.ip())].concat()
                }
                ToaFormat::WithVirtual if !v6 => {
                    let virt = [vec![0, 0], port(virt), octets(virt.ip())].concat();
                    [port(client), octets(client.ip()), virt].concat()
                }
                _ => [port(client), octets(client.ip())].concat(),
            };
            let mut say = |left: &Left| {
                let word = Word::Option(kind, said.clone());
                all.push(Sent { frame: left.frame.clone(), word });
            };
            let mut crowded = [option::mss(1460), option::any(77, &[9; 20])].concat();
            crowded.resize(40, 1);
            let [syn, _] = talk.open(talk.client().syn().seq(9).options(&crowded));
            say(&syn);
            say(&talk.serve(talk.says(0, 0, "").build_buf())[0]);
            let ahead = talk.serve(talk.says(0, 0, pattern(1440)).build_buf());
            say(&ahead[0]);
            say(&talk.serve(talk.says(0, 0, "bye").fin().build_buf())[0]);
        }
    }
}

/// Headers in front of data and on a segment of their own.
fn by_proxy(all: &mut Vec<Sent>) {
    for (version, number) in [(ProxyVersion::V1, 1), (ProxyVersion::V2, 2)] {
        for v6 in [false, true] {
            let mode = ClientAddrMode::Proxy(proxy(version));
            for len in [5, 1440] {
                let mut memory = support::memory();
                let mut talk = Conversation::opened(mode, v6, 9, &mut memory);
                let left = talk.serve(talk.says(0, 0, pattern(len)).build_buf());
                let word = Word::Proxy(number, talk.client, talk.service);
                all.push(Sent { frame: left[0].frame.clone(), word });
            }
        }
    }
}

fn sent() -> Vec<Sent> {
    let mut all = Vec::new();
    by_option(&mut all);
    by_proxy(&mut all);
    all
}

#[test]
fn pnet_packet_reads_what_was_told() {
    let all = sent();
    assert_eq!(all.len(), 48);
    for Sent { frame, word } in &all {
        oracle::checksums_ok(frame).unwrap();
        let Fields { tcp, payload, .. } = oracle::fields(frame).unwrap();
        match word {
            Word::Option(kind, said) => {
                assert_eq!(tcp.unwrap().option_list()[0], (*kind, said.clone()));
            }
            Word::Proxy(1, client, virt) => {
                let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                let (from, to, ports) = (client.ip(), virt.ip(), [client.port(), virt.port()]);
                let line = format!("PROXY {family} {from} {to} {} {}\r\n", ports[0], ports[1]);
                assert!(payload.starts_with(line.as_bytes()), "{}", payload.escape_ascii());
            }
            Word::Proxy(_, client, virt) => {
                let ends = [octets(client.ip()), octets(virt.ip())].concat();
                assert_eq!(payload[16..16 + ends.len()], ends);
                assert_eq!(payload[16 + ends.len()..][..2], client.port().to_be_bytes());
            }
        }
    }
}

/// One line for each frame, as tshark reads it; `None` where there is no tshark.
fn tshark(frames: &[Sent], fields: &[&str]) -> Option<Vec<BTreeMap<String, String>>> {
    if Command::new("tshark").arg("--version").output().is_err() {
        return None;
    }
    let file = Scratch::new();
    let captures: Vec<_> = (0u64..)
        .zip(frames)
        .map(|(number, sent)| Capture { time_ns: number * 1_000_000, data: sent.frame.clone() })
        .collect();
    pcap::write_file(&file.0, &captures).expect("a capture file");
    let mut command = Command::new("tshark");
    command.args(["-n", "-2", "-r"]).arg(&file.0).args(["-T", "fields", "-E", "separator=|"]);
    for option in ["tcp.check_checksum", "ip.check_checksum", "tcp.try_heuristic_first"] {
        command.args(["-o", &format!("{option}:TRUE")]);
    }
    // The frames are of many connections with the same ports: each for itself.
    for option in ["tcp.analyze_sequence_numbers", "tcp.desegment_tcp_streams"] {
        command.args(["-o", &format!("{option}:FALSE")]);
    }
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let line = |line: &str| {
        let named = fields.iter().map(|field| (*field).to_owned());
        named.zip(line.split('|').map(str::to_owned)).collect()
    };
    Some(text.lines().map(line).collect())
}

/// A file that goes when it is no longer needed.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("lvs-decoders-{}.pcap", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn tshark_reads_what_was_told_and_finds_no_wrong_checksum() {
    let all = sent();
    let fields = [
        "tcp.options",
        "tcp.checksum.status",
        "ip.checksum.status",
        "ip.version",
        "tcp.options.experimental.exid",
        "proxy.v1.proto",
        "proxy.v2.version",
        "proxy.src.ipv4",
        "proxy.src.ipv6",
        "proxy.dst.ipv4",
        "proxy.dst.ipv6",
        "proxy.srcport",
        "proxy.dstport",
        "_ws.malformed",
    ];
    let Some(lines) = tshark(&all, &fields) else {
        // Past the harness, which keeps to itself what a passing test prints.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIPPED: tshark is not installed, so only pnet_packet has read what the director sends\n",
        );
        return;
    };
    assert_eq!(lines.len(), all.len());
    for (line, Sent { word, frame }) in lines.iter().zip(&all) {
        let told = |field: &str| line.get(field).map(String::as_str).unwrap_or_default();
        let v4 = frame[12] == 8;
        assert_eq!(told("tcp.checksum.status"), "1", "{line:?}");
        assert_eq!(told("ip.checksum.status"), if v4 { "1" } else { "" }, "{line:?}");
        assert_eq!(told("_ws.malformed"), "", "{line:?}");
        match word {
            Word::Option(kind, said) => {
                let option = [&[*kind, said.len() as u8 + 2][..], said].concat();
                assert!(told("tcp.options").starts_with(&hex(&option)), "{option:?} {line:?}");
                if *kind > 252 {
                    // Where others have the number of their experiment there is the port.
                    let port = u16::from_be_bytes([said[0], said[1]]);
                    assert_eq!(told("tcp.options.experimental.exid"), format!("0x{port:04x}"));
                }
                assert_eq!(told("proxy.srcport"), "");
            }
            Word::Proxy(version, client, virt) => {
                let [src, dst] = if client.is_ipv4() {
                    ["proxy.src.ipv4", "proxy.dst.ipv4"]
                } else {
                    ["proxy.src.ipv6", "proxy.dst.ipv6"]
                };
                let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                let expected = if *version == 1 { [family, ""] } else { ["", "2"] };
                let read = [told("proxy.v1.proto"), told("proxy.v2.version")];
                assert_eq!(read, expected, "{line:?}");
                assert_eq!(told(src), client.ip().to_string(), "{line:?}");
                assert_eq!(told(dst), virt.ip().to_string(), "{line:?}");
                let ports = [told("proxy.srcport"), told("proxy.dstport")];
                assert_eq!(ports, [client.port(), virt.port()].map(|port| port.to_string()));
            }
        }
    }
}
