//! SCTP through NAT and FullNAT, packet by packet, against a bitwise CRC32c.

#[path = "drops/stage.rs"]
#[allow(dead_code, reason = "a module of the tests of drops, of which this binary uses its part")]
mod stage;
mod support;

use core::net::SocketAddr;
use core::time::Duration;
use lvs_core::flow::L4Proto;
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{L4Csum, PacketBuf, PortId};
use lvs_core::service::{Forwarding, ServerState};
use lvs_core::session::TcpState;
use lvs_core::verdict::DropReason;
use lvs_testkit::build::{IcmpError, icmp_error, raw};
use lvs_testkit::oracle;
use stage::{CLIENTS, Plan, SERVERS, Stage};

const FULL: Forwarding = Forwarding::FullNat;
const NAT: Forwarding = Forwarding::Nat;
/// Tags that the ends choose.
const CLIENTS_TAG: u32 = 0x1111_2222;
const SERVERS_TAG: u32 = 0x3333_4444;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// CRC32c bit by bit (RFC 9260 appendix A), the checksum field taken as zero.
fn crc32c(packet: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for (at, byte) in packet.iter().enumerate() {
        crc ^= u32::from(if (8..12).contains(&at) { 0 } else { *byte });
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The checksum field against the one that it should be: 0 when right.
fn off(packet: &[u8]) -> u32 {
    u32::from_le_bytes(packet[8..12].try_into().unwrap()) ^ crc32c(packet)
}

fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let len = (4 + value.len() as u16).to_be_bytes();
    let mut bytes = [&[kind, flags][..], &len, value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The fixed fields of INIT and INIT-ACK.
fn init_fields(tag: u32) -> Vec<u8> {
    [&tag.to_be_bytes()[..], &[0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]].concat()
}

fn packet((from, to): (SocketAddr, SocketAddr), tag: u32, chunks: &[u8]) -> Vec<u8> {
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let mut bytes = [&ports[..], &tag.to_be_bytes(), &[0; 4], chunks].concat();
    let crc = crc32c(&bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn carry((from, to): (SocketAddr, SocketAddr), bytes: &[u8]) -> MemBuf {
    raw(132).from(from.ip()).to(to.ip()).payload(bytes).build_buf()
}

fn client(v6: bool) -> (SocketAddr, SocketAddr) {
    match v6 {
        false => ("10.0.0.2:40000".parse().unwrap(), "10.0.0.80:80".parse().unwrap()),
        true => ("[fd00::2]:40000".parse().unwrap(), "[fd00::80]:80".parse().unwrap()),
    }
}

fn server(stage: &Stage) -> (SocketAddr, SocketAddr) {
    let quad = stage.session().quad;
    let addr = |(ip, port)| SocketAddr::new(ip, port);
    (addr(quad.server), addr(quad.local))
}

fn stage(forwarding: Forwarding) -> Stage {
    let mut plan = Plan::new(forwarding);
    plan.spec.services = support::sctp(forwarding).services;
    plan.stage()
}

fn turned((from, to): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    (to, from)
}

/// An end says something; what arrives at the other end is the same with other ends and a right checksum.
fn say(stage: &mut Stage, v6: bool, inbound: bool, tag: u32, chunks: &[u8]) -> TcpState {
    let ends = if inbound { client(v6) } else { server(stage) };
    let sent = packet(ends, tag, chunks);
    let port = if inbound { CLIENTS } else { SERVERS };
    let out = stage.pass(port, carry(ends, &sent));
    let other = if inbound { turned(server(stage)) } else { turned(client(v6)) };
    let fields = oracle::fields(out.data()).unwrap();
    assert_eq!((fields.src, fields.dst), (other.0.ip(), other.1.ip()));
    assert_eq!(fields.ttl, 63);
    assert_eq!(fields.segment, packet(other, tag, chunks));
    if !v6 {
        let sum = lvs_core::checksum::Sum::ZERO.bytes(&out.data()[14..34]);
        assert!(sum.is_valid(), "the IPv4 header");
    }
    stage.session().state
}

fn open(stage: &mut Stage, v6: bool) {
    let init = chunk(INIT, 0, &init_fields(CLIENTS_TAG));
    assert_eq!(say(stage, v6, true, 0, &init), TcpState::SynRecv);
    let ack = chunk(INIT_ACK, 0, &[&init_fields(SERVERS_TAG)[..], b"\0\x07\0\x08cook"].concat());
    assert_eq!(say(stage, v6, false, CLIENTS_TAG, &ack), TcpState::SynAck);
    let echo = chunk(COOKIE_ECHO, 0, b"cook");
    assert_eq!(say(stage, v6, true, SERVERS_TAG, &echo), TcpState::SynSent);
    let ack = chunk(COOKIE_ACK, 0, &[]);
    assert_eq!(say(stage, v6, false, CLIENTS_TAG, &ack), TcpState::Established);
}

fn data(text: &str) -> Vec<u8> {
    chunk(DATA, 3, &[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], text.as_bytes()].concat())
}

#[test]
fn an_association_lives_and_ends_in_every_mode_and_family() {
    for (forwarding, v6) in [(NAT, false), (NAT, true), (FULL, false), (FULL, true)] {
        let mut stage = stage(forwarding);
        open(&mut stage, v6);
        let quad = stage.session().quad;
        assert_eq!(quad.local == quad.client, forwarding == NAT);
        assert_eq!(say(&mut stage, v6, true, SERVERS_TAG, &data("ask")), TcpState::Established);
        assert_eq!(say(&mut stage, v6, false, CLIENTS_TAG, &data("tell")), TcpState::Established);
        let chunks = chunk(SHUTDOWN, 0, &[0, 0, 0, 9]);
        assert_eq!(say(&mut stage, v6, true, SERVERS_TAG, &chunks), TcpState::FinWait);
        let chunks = chunk(SHUTDOWN_ACK, 0, &[]);
        assert_eq!(say(&mut stage, v6, false, CLIENTS_TAG, &chunks), TcpState::LastAck);
        let chunks = chunk(SHUTDOWN_COMPLETE, 0, &[]);
        assert_eq!(say(&mut stage, v6, true, SERVERS_TAG, &chunks), TcpState::Close);
        let session = stage.session();
        assert_eq!((session.inbound.packets, session.outbound.packets), (5, 4));
        // Ten seconds, as the kernel.
        stage.wait(Duration::from_secs(9));
        assert_eq!(stage.sessions().len(), 1);
        stage.wait(Duration::from_secs(2));
        assert!(stage.sessions().is_empty() && stage.director.store().ports_in_use() == 0);
    }
}

#[test]
fn an_open_association_may_be_silent_for_a_quarter_of_an_hour_and_one_that_opens_for_a_minute() {
    for (opened, seconds) in [(true, 900), (false, 60)] {
        let mut stage = stage(NAT);
        if opened {
            open(&mut stage, false);
        } else {
            say(&mut stage, false, true, 0, &chunk(INIT, 0, &init_fields(CLIENTS_TAG)));
        }
        for _ in 0..seconds - 1 {
            stage.wait(Duration::from_secs(1));
        }
        assert_eq!(stage.sessions().len(), 1);
        for _ in 0..7 {
            assert!(stage.wait(Duration::from_secs(1)).is_empty(), "nobody is reset");
        }
        assert!(stage.sessions().is_empty());
    }
}

/// INV-3: by difference, so a wrong one stays as wrong; but nothing is decided by it.
#[test]
fn a_wrong_checksum_stays_wrong_and_changes_no_session() {
    for forwarding in [NAT, FULL] {
        let mut stage = stage(forwarding);
        let wrong = |ends, tag, chunks: &[u8]| {
            let mut bytes = packet(ends, tag, chunks);
            bytes[9] ^= 0x40;
            bytes
        };
        let ends = client(false);
        let init = chunk(INIT, 0, &init_fields(CLIENTS_TAG));
        let bad = carry(ends, &wrong(ends, 0, &init));
        stage.refused(DropReason::BadL4Checksum, CLIENTS, bad);
        open(&mut stage, false);
        let bytes = wrong(ends, SERVERS_TAG, &data("damaged"));
        let sent = stage.pass(CLIENTS, carry(ends, &bytes));
        assert_eq!(off(&oracle::fields(sent.data()).unwrap().segment), off(&bytes));
        assert_ne!(off(&bytes), 0);
        let abort = carry(ends, &wrong(ends, SERVERS_TAG, &chunk(ABORT, 0, &[])));
        stage.refused(DropReason::BadL4Checksum, CLIENTS, abort);
    }
}

#[test]
fn a_packet_of_another_association_is_told_by_its_tag() {
    let mut stage = stage(NAT);
    open(&mut stage, false);
    let (up, down) = (client(false), server(&stage));
    for (port, ends, tag) in [(CLIENTS, up, SERVERS_TAG ^ 1), (SERVERS, down, SERVERS_TAG)] {
        for chunks in [data("x"), chunk(ABORT, 0, &[]), chunk(SHUTDOWN_ACK, 0, &[])] {
            let bytes = packet(ends, tag, &chunks);
            stage.refused(DropReason::SctpTag, port, carry(ends, &bytes));
        }
    }
    // With the T bit it is the tag of the sender (RFC 9260 section 8.5.1).
    let state = say(&mut stage, false, false, SERVERS_TAG, &chunk(ABORT, 1, &[]));
    assert_eq!(state, TcpState::Close);
}

#[test]
fn only_a_sound_init_opens_a_session() {
    let mut stage = stage(NAT);
    let ends = client(false);
    let of = |tag, chunks: &[u8]| carry(ends, &packet(ends, tag, chunks));
    let init = chunk(INIT, 0, &init_fields(CLIENTS_TAG));
    stage.refused(DropReason::NoSession, CLIENTS, of(5, &data("x")));
    stage.refused(DropReason::NoSession, CLIENTS, of(5, &init));
    stage.refused(DropReason::NoSession, CLIENTS, of(5, &chunk(COOKIE_ECHO, 0, b"old")));
    let nobody = chunk(INIT, 0, &init_fields(0));
    for bad in [&nobody, &[&init[..], &data("x")].concat(), &vec![0, 0, 0, 99]] {
        stage.refused(DropReason::MalformedSctp, CLIENTS, of(0, bad));
    }
    stage.refused(DropReason::MalformedSctp, CLIENTS, carry(ends, &[0, 80, 0, 80]));
    let other = (ends.0, "10.0.0.80:81".parse().unwrap());
    let other = carry(other, &packet(other, 0, &init));
    stage.refused(DropReason::NoService, CLIENTS, other);
    let pieces = raw(132).from(ends.0.ip()).to(ends.1.ip()).payload(packet(ends, 0, &init));
    stage.refused(DropReason::Fragment, CLIENTS, pieces.fragment(0, true).build_buf());
    stage.reload(|spec| spec.services[0].servers.clear());
    stage.refused(DropReason::NoServer, CLIENTS, of(0, &init));
}

#[test]
fn a_client_that_starts_anew_inside_of_an_open_association_is_let_through() {
    let mut stage = stage(NAT);
    open(&mut stage, false);
    let (new_client, new_server) = (0x5555_0001, 0x6666_0001);
    let opened = stage.session().opened;
    say(&mut stage, false, true, 0, &chunk(INIT, 0, &init_fields(new_client)));
    // The association that is there goes on, should the INIT be a stranger's.
    say(&mut stage, false, true, SERVERS_TAG, &data("old"));
    say(&mut stage, false, false, CLIENTS_TAG, &data("old"));
    let ack = chunk(INIT_ACK, 0, &init_fields(new_server));
    say(&mut stage, false, false, new_client, &ack);
    say(&mut stage, false, true, new_server, &chunk(COOKIE_ECHO, 0, b"cook"));
    say(&mut stage, false, false, new_client, &chunk(COOKIE_ACK, 0, &[]));
    assert_eq!(say(&mut stage, false, true, new_server, &data("new")), TcpState::Established);
    assert_eq!(stage.session().opened, opened, "the same session");
    // A damaged INIT must not turn the judgement off.
    let mut other = self::stage(NAT);
    open(&mut other, false);
    let ends = client(false);
    let mut bad = packet(ends, 0, &chunk(INIT, 0, &init_fields(7)));
    bad[8] ^= 1;
    other.refused(DropReason::BadL4Checksum, CLIENTS, carry(ends, &bad));
}

#[test]
fn an_init_after_the_end_is_a_new_session_with_a_new_choice_of_server() {
    for forwarding in [NAT, FULL] {
        let mut stage = stage(forwarding);
        open(&mut stage, false);
        let first = stage.session();
        say(&mut stage, false, true, SERVERS_TAG, &chunk(ABORT, 0, &[]));
        say(&mut stage, false, true, 0, &chunk(INIT, 0, &init_fields(9)));
        let second = stage.session();
        assert_ne!((second.id, second.quad.server), (first.id, first.quad.server));
        assert_eq!(stage.director.counters().sessions_reused, 1);
    }
}

#[test]
fn more_addresses_pass_as_they_are_and_are_counted() {
    let mut stage = stage(NAT);
    let more = [&init_fields(CLIENTS_TAG)[..], &[0, 5, 0, 8, 192, 0, 2, 9]].concat();
    say(&mut stage, false, true, 0, &chunk(INIT, 0, &more));
    assert_eq!(stage.director.counters().sctp_multihomed, 1);
    let other = ("10.0.0.3:40000".parse().unwrap(), client(false).1);
    let bytes = packet(other, SERVERS_TAG, &chunk(4, 0, b"beat"));
    stage.refused(DropReason::NoSession, CLIENTS, carry(other, &bytes));
}

#[test]
fn a_checksum_that_is_not_there_yet_is_computed() {
    for forwarding in [NAT, FULL] {
        let mut stage = stage(forwarding);
        let ends = client(false);
        let mut bytes = packet(ends, 0, &chunk(INIT, 0, &init_fields(CLIENTS_TAG)));
        bytes[8..12].fill(0x77);
        let mut buf = carry(ends, &bytes);
        buf.set_l4_csum(L4Csum::Partial, 14, 34);
        let sent = stage.pass(CLIENTS, buf);
        assert_eq!(sent.l4_csum(), L4Csum::Good);
        assert_eq!(off(&oracle::fields(sent.data()).unwrap().segment), 0);
    }
}

#[test]
fn icmp_errors_about_its_packets_reach_whoever_sent_them() {
    for (forwarding, v6) in [(NAT, false), (FULL, false), (FULL, true)] {
        let mut stage = stage(forwarding);
        open(&mut stage, v6);
        let (up, down) = (client(v6), server(&stage));
        let routers = if v6 { ["fd01::fe", "fd00::fe"] } else { ["10.1.0.254", "10.0.0.254"] };
        let ways: [(PortId, PortId, _, _); 2] =
            [(CLIENTS, SERVERS, up, SERVERS_TAG), (SERVERS, CLIENTS, down, CLIENTS_TAG)];
        for ((from, back, ends, tag), router) in ways.into_iter().zip(routers) {
            let original = carry(ends, &packet(ends, tag, &data("much")));
            let left = stage.pass(from, original.clone());
            let router: core::net::IpAddr = router.parse().unwrap();
            let sender = oracle::fields(left.data()).unwrap().src;
            let error = icmp_error(IcmpError::TooBig(1300), left.data(), 60).from(router);
            let sent = stage.pass(back, error.to(sender).build_buf());
            oracle::checksums_ok(sent.data()).unwrap();
            let fields = oracle::fields(sent.data()).unwrap();
            assert_eq!(fields.dst, ends.0.ip());
            let inner = if v6 { 40 } else { 20 };
            let quoted = &fields.segment[8 + inner..];
            let was = &oracle::fields(original.data()).unwrap().segment;
            assert_eq!(quoted[..8], was[..8], "ports and tag as they were sent");
        }
    }
}

#[test]
fn sessions_of_a_server_that_goes_down_end_at_once() {
    let mut stage = stage(NAT);
    open(&mut stage, false);
    let sent = stage.reload(|spec| {
        spec.services[0].servers.iter_mut().for_each(|s| s.state = ServerState::DownKill);
    });
    assert!(sent.is_empty() && stage.sessions().is_empty());
}

#[test]
fn a_tcp_session_of_the_same_ports_is_another_one() {
    let mut plan = Plan::new(FULL);
    let mut services = support::sctp(FULL).services;
    services.append(&mut plan.spec.services);
    plan.spec.services = services;
    let mut stage = plan.stage();
    open(&mut stage, false);
    let syn = lvs_testkit::build::tcp().from("10.0.0.2:40000").to("10.0.0.80:80").syn().seq(1);
    stage.pass(CLIENTS, syn.build_buf());
    let protocols: Vec<_> = stage.sessions().iter().map(|s| s.quad.proto).collect();
    assert_eq!(protocols.len(), 2);
    assert!(protocols.contains(&L4Proto::Sctp) && protocols.contains(&L4Proto::Tcp));
}
