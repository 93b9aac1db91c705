//! `lvsd simulate` with what is not TCP over one IP version: NAT64 and SCTP.

#[allow(dead_code, reason = "shared with the tests of the example, of which this one uses a part")]
mod simulate_support;

use lvs_testkit::build::{raw, tcp};
use lvs_testkit::pcap::Capture;
use lvs_testkit::{net, oracle};
use simulate_support::*;

const PORTS: &str = r#"
[director]
seed = 1
[[port]]
name = "outside"
mac = "02:00:00:00:00:01"
addresses = ["10.0.0.1/24", "fd00::1/64"]
[[port]]
name = "inside"
mac = "02:00:00:00:00:02"
addresses = ["10.1.0.1/24"]
[[neighbour]]
ip = "10.0.0.2"
mac = "02:00:00:00:0c:02"
[[neighbour]]
ip = "fd00::2"
mac = "02:00:00:00:0c:02"
[[neighbour]]
ip = "10.1.0.11"
mac = "02:00:00:00:0d:0b"
"#;

/// What leaves by `inside` when this frame comes in by `outside`, and the log.
fn through(service: &str, frame: Vec<u8>, more: &[&str]) -> (Vec<Capture>, String) {
    let directory = scratch("protocols");
    directory.write("lvsd.toml", format!("{PORTS}{service}"));
    directory.capture("outside.pcap", &[Capture { time_ns: START_NS, data: frame }]);
    let arguments = ["--config", "lvsd.toml", "--in", "outside=outside.pcap", "--out", "out"];
    let run = lvsd(&directory, &[&arguments[..], more].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    (directory.sent("inside"), directory.log_text())
}

#[test]
fn an_ipv6_client_is_led_to_an_ipv4_server_and_named_to_it() {
    let service = r#"
[[local_pool]]
name = "inside"
addresses = ["10.1.0.100"]
[[service]]
address = "[fd00::80]:80"
local_pool = "inside"
[[service.server]]
address = "10.1.0.11:8080"
"#;
    let syn = tcp().from("[fd00::2]:40000").to("[fd00::80]:80").syn().linux_options(1440);
    let syn = syn.src_mac(CLIENT).dst_mac(OUTSIDE).build();
    let (sent, log) = through(service, syn, &[]);
    let fields = oracle::fields(&sent[0].data).expect("the SYN");
    assert_eq!((fields.src, fields.dst), ([10, 1, 0, 100].into(), [10, 1, 0, 11].into()));
    assert_eq!(net::toa_of(&sent[0].data), Some("[fd00::2]:40000".parse().unwrap()));
    oracle::checksums_ok(&sent[0].data).unwrap();
    assert!(log.contains("session_opened") && log.contains("[fd00::2]:40000"), "{log}");
    assert!(log.contains("10.1.0.11:8080 > 10.1.0.100:"), "{log}");
}

/// An INIT whose checksum is right, bit by bit (RFC 9260 appendix A).
fn init() -> Vec<u8> {
    let mut packet = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0];
    packet.extend([1, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
    let mut crc = u32::MAX;
    for byte in &packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    packet
}

const SCTP: &str = r#"
[[service]]
address = "10.0.0.80:80"
protocol = "sctp"
forwarding = "nat"
[[service.server]]
address = "10.1.0.11:8080"
"#;

fn carried(bytes: &[u8]) -> Vec<u8> {
    let packet = raw(132).from("10.0.0.2").to("10.0.0.80").payload(bytes);
    packet.src_mac(CLIENT).dst_mac(OUTSIDE).build()
}

#[test]
fn an_init_opens_an_sctp_session() {
    let (sent, log) = through(SCTP, carried(&init()), &[]);
    let fields = oracle::fields(&sent[0].data).expect("the INIT");
    assert_eq!((fields.src, fields.dst), ([10, 0, 0, 2].into(), [10, 1, 0, 11].into()));
    assert_eq!(fields.segment[..4], [0x9c, 0x40, 0x1f, 0x90]);
    assert!(log.contains("session_opened") && log.contains("sctp 10.0.0.2:40000"), "{log}");
}

#[test]
fn an_sctp_checksum_that_was_left_to_the_card_is_dropped_unless_it_is_fixed() {
    let mut unfinished = init();
    unfinished[8..12].fill(0);
    let (sent, log) = through(SCTP, carried(&unfinished), &[]);
    assert!(sent.is_empty() && log.contains("bad_l4_checksum"), "{log}");
    let (sent, _) = through(SCTP, carried(&unfinished), &["--fix-checksums"]);
    assert_eq!(sent.len(), 1);
}
