//! ICMP errors, with what they quote, in the other version (RFC 7915 sections 4.2 to 4.5, 5.2 to 5.5).

use crate::stage::{CLIENTS, SERVERS, Stage};
use crate::{ISN, THEIRS, client, connect, delta, inside, plan, server, telling, untold};
use core::net::IpAddr;
use lvs_core::io::PacketBuf;
use lvs_core::io::mem::MemBuf;
use lvs_core::service::{ClientAddrMode, ProxyOptions, ToaOptions};
use lvs_core::verdict::DropReason;
use lvs_testkit::build::{IcmpError, icmp, icmp_error, udp};
use lvs_testkit::oracle;

const ROUTER_V4: &str = "10.1.0.254";
const ROUTER_V6: &str = "fd00::fe";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Type, code, the word behind the checksum, and the quoted packet as a frame.
fn message(sent: &MemBuf) -> (u8, u8, u32, Vec<u8>) {
    oracle::checksums_ok(sent.data()).unwrap();
    let fields = oracle::fields(sent.data()).unwrap();
    let icmp = &fields.segment;
    let word = u32::from_be_bytes(icmp[4..8].try_into().unwrap());
    let ethertype = if icmp[8] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    let quoted = [&sent.data()[..12], &ethertype, &icmp[8..]].concat();
    (icmp[0], icmp[1], word, quoted)
}

/// The quoted packet is `original` but for the hop that it took.
fn quotes(quoted: &[u8], original: &MemBuf) {
    let mut expected = original.data()[14..].to_vec();
    let mut quoted = quoted[14..].to_vec();
    expected.truncate(quoted.len());
    let hops = if expected[0] >> 4 == 4 { 8 } else { 7 };
    assert_eq!(quoted[hops] + 1, expected[hops]);
    (quoted[hops], expected[hops]) = (0, 0);
    if expected[0] >> 4 == 4 {
        for bytes in [&mut quoted, &mut expected] {
            // Identification, DF and header checksum are the director's.
            bytes[4..8].fill(0);
            bytes[10..12].fill(0);
        }
    }
    assert_eq!(quoted, expected);
}

/// A connected stage, and the client's segment of `len` bytes as it came and as it left.
fn forth(stage: &mut Stage, len: usize) -> (MemBuf, MemBuf) {
    connect(stage);
    let packet = client().seq(ISN + 1).ack(THEIRS + 6).payload_len(len).build_buf();
    let left = stage.pass(CLIENTS, packet.clone());
    (packet, left)
}

#[test]
fn an_error_about_a_packet_to_a_server_reaches_the_client_as_one_about_its_own() {
    let mut stage = plan(untold).stage();
    let (packet, left) = forth(&mut stage, 200);
    let (local, _) = inside(&stage);
    let sessions = stage.sessions();
    let kinds = [
        (IcmpError::HostUnreachable, (1, 0, 0)),
        (IcmpError::PortUnreachable, (1, 4, 0)),
        (IcmpError::TimeExceeded, (3, 0, 0)),
        (IcmpError::TooBig(1400), (2, 0, 1420)),
        // 1280 at least, and what is larger as IPv4 gets fragmented.
        (IcmpError::TooBig(1000), (2, 0, 1280)),
    ];
    for ((error, expected), quote) in
        kinds.into_iter().flat_map(|kind| [(kind, 28), (kind, 40), (kind, 500)])
    {
        let error = icmp_error(error, left.data(), quote).from(ROUTER_V4).to(local.ip());
        let sent = stage.pass(SERVERS, error.build_buf());
        let fields = oracle::fields(sent.data()).unwrap();
        assert_eq!((fields.src, fields.dst), (ip("fd00::80"), ip("fd00::2")));
        let (kind, code, word, quoted) = message(&sent);
        assert_eq!((kind, code, word), expected);
        quotes(&quoted, &packet);
    }
    assert_eq!(stage.sessions(), sessions, "an error has changed its session");
    assert_eq!(stage.director.counters().icmp_translated, 15);
}

#[test]
fn an_error_about_an_answer_reaches_the_server_as_one_about_its_own() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    let (local, real) = inside(&stage);
    let packet = server(&stage, THEIRS + 6, ISN + 1).payload_len(200).build_buf();
    let left = stage.pass(SERVERS, packet.clone());
    let kinds = [
        (IcmpError::HostUnreachable, (3, 1, 0)),
        (IcmpError::PortUnreachable, (3, 3, 0)),
        (IcmpError::TimeExceeded, (11, 0, 0)),
        (IcmpError::TooBig(1300), (3, 4, 1280)),
    ];
    for ((error, expected), quote) in
        kinds.into_iter().flat_map(|kind| [(kind, 48), (kind, 60), (kind, 500)])
    {
        let error = icmp_error(error, left.data(), quote).from(ROUTER_V6).to("fd00::80");
        let sent = stage.pass(CLIENTS, error.build_buf());
        let fields = oracle::fields(sent.data()).unwrap();
        assert_eq!((fields.src, fields.dst), (local.ip(), real.ip()));
        let (kind, code, word, quoted) = message(&sent);
        assert_eq!((kind, code, word), expected);
        quotes(&quoted, &packet);
    }
}

#[test]
fn the_mtu_leaves_room_for_what_client_segments_gain() {
    let mut stage = plan(telling(ClientAddrMode::Toa(ToaOptions::default()))).stage();
    let (_, left) = forth(&mut stage, 200);
    let (local, _) = inside(&stage);
    let error = icmp_error(IcmpError::TooBig(1400), left.data(), 28).from(ROUTER_V4);
    let sent = stage.pass(SERVERS, error.to(local.ip()).build_buf());
    assert_eq!(message(&sent).2, 1400, "20 more for the header, 20 less for the option");
}

#[test]
fn the_quoted_number_is_the_clients_own_while_a_proxy_header_is_on_its_way() {
    let mut stage = plan(telling(ClientAddrMode::Proxy(ProxyOptions::default()))).stage();
    stage.pass(CLIENTS, client().syn().seq(ISN).build_buf());
    let answer = server(&stage, THEIRS, ISN + 1).syn().build_buf();
    stage.pass(SERVERS, answer);
    let data = |seq: u32| client().seq(seq).ack(THEIRS + 1).payload("hello");
    stage.pass(CLIENTS, data(ISN + 1).build_buf());
    let behind = data(ISN + 6).build_buf();
    let left = stage.pass(CLIENTS, behind.clone());
    let seq = oracle::fields(left.data()).unwrap().tcp.unwrap().seq;
    assert_eq!(seq, (ISN + 6 + 52).wrapping_add(delta(&stage)));
    let (local, _) = inside(&stage);
    let error = icmp_error(IcmpError::HostUnreachable, left.data(), 40).from(ROUTER_V4);
    let sent = stage.pass(SERVERS, error.to(local.ip()).build_buf());
    quotes(&message(&sent).3, &behind);
}

#[test]
fn datagrams_have_errors_too() {
    let mut stage = plan(untold).stage();
    let ask = udp().from("[fd00::2]:999").to("[fd00::80]:53").payload_len(50).build_buf();
    let left = stage.pass(CLIENTS, ask.clone());
    let (local, real) = inside(&stage);
    let error = icmp_error(IcmpError::PortUnreachable, left.data(), 28).from(real.ip());
    let sent = stage.pass(SERVERS, error.to(local.ip()).build_buf());
    let (kind, code, _, quoted) = message(&sent);
    assert_eq!((kind, code), (1, 4));
    quotes(&quoted, &ask);
}

/// INV-3: the message is built anew, so it is verified first.
#[test]
fn a_wrong_checksum_is_not_believed_on_either_side() {
    let mut stage = plan(untold).stage();
    let (_, left) = forth(&mut stage, 50);
    let (local, _) = inside(&stage);
    let error = icmp_error(IcmpError::TooBig(1300), left.data(), 28).from(ROUTER_V4);
    let error = error.to(local.ip()).wrong_l4_csum().build_buf();
    stage.refused(DropReason::BadL4Checksum, SERVERS, error);
    let packet = server(&stage, THEIRS + 6, ISN + 1).payload_len(50).build_buf();
    let left = stage.pass(SERVERS, packet);
    let error = icmp_error(IcmpError::TooBig(1300), left.data(), 48).from(ROUTER_V6);
    let error = error.to("fd00::80").wrong_l4_csum().build_buf();
    stage.refused(DropReason::BadL4Checksum, CLIENTS, error);
}

#[test]
fn an_error_without_a_counterpart_or_about_another_packet_goes_no_further() {
    let mut stage = plan(untold).stage();
    let (_, left) = forth(&mut stage, 50);
    let (local, _) = inside(&stage);
    // Source quench has none (RFC 7915 section 4.2).
    let quench = icmp(4, 0).rest([0; 4]).payload(&left.data()[14..14 + 28]);
    let quench = quench.from(ROUTER_V4).to(local.ip()).build_buf();
    stage.refused(DropReason::Nat64Untranslatable, SERVERS, quench);
    let mut other = left.data().to_vec();
    other[14 + 20] ^= 1;
    let error = icmp_error(IcmpError::HostUnreachable, &other, 28).from(ROUTER_V4);
    stage.refused(DropReason::IcmpNoSession, SERVERS, error.to(local.ip()).build_buf());
}
