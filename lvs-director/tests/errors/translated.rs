//! Errors about packets of sessions. What a receiver must see is what it has sent: the packet that went in.

use crate::stage::{CLIENTS, Plan, SERVERS, Stage};
use core::net::IpAddr;
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{PacketBuf, PortId};
use lvs_core::service::{ClientAddrMode, Forwarding};
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{IcmpError, Packet, Tcp, icmp_error, tcp, udp};
use lvs_testkit::oracle;

const MODES: [Forwarding; 2] = [Forwarding::Nat, Forwarding::FullNat];

fn plan(forwarding: Forwarding, toa: bool) -> Plan {
    let mut plan = Plan::new(forwarding);
    for service in plan.spec.services.iter_mut().filter(|_| !toa) {
        service.client_addr = ClientAddrMode::None;
    }
    plan
}

fn ends(v6: bool) -> (&'static str, &'static str) {
    if v6 { ("[fd00::2]:40000", "[fd00::80]:80") } else { ("10.0.0.2:40000", "10.0.0.80:80") }
}

/// Addresses of routers on both sides, and the quote that every error has at least.
pub(crate) fn routers(v6: bool) -> (IpAddr, IpAddr, usize) {
    let ip = |text: &str| text.parse().unwrap();
    if v6 { (ip("fd00::fe"), ip("fd01::fe"), 48) } else { (ip("10.0.0.254"), ip("10.1.0.254"), 28) }
}

fn client(v6: bool) -> Packet<Tcp> {
    let (from, to) = ends(v6);
    tcp().from(from).to(to)
}

fn established(plan: Plan, v6: bool) -> Stage {
    let mut stage = plan.stage();
    stage.pass(CLIENTS, client(v6).syn().seq(7).build_buf());
    let reply = stage.reply().syn().ack(8).seq(99).build_buf();
    stage.pass(SERVERS, reply);
    stage.pass(CLIENTS, client(v6).seq(8).ack(100).build_buf());
    stage
}

/// Outer IP header, ICMP header and quote.
pub(crate) fn parts(frame: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let ip = if frame[12] == 0x08 { 20 } else { 40 };
    (&frame[14..14 + ip], &frame[14 + ip..22 + ip], &frame[22 + ip..])
}

fn source(ip: &[u8]) -> IpAddr {
    addresses(ip).0
}

pub(crate) fn addresses(ip: &[u8]) -> (IpAddr, IpAddr) {
    if ip.len() == 20 {
        let at = |at: usize| <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap().into();
        (at(12), at(16))
    } else {
        let at = |at: usize| <[u8; 16]>::try_from(&ip[at..at + 16]).unwrap().into();
        (at(8), at(24))
    }
}

/// What is quoted is the packet that its sender made, but for the hop that it took.
fn quotes(quote: &[u8], original: &MemBuf) {
    let sent = &original.data()[14..14 + quote.len()];
    let (mut quote, mut sent) = (quote.to_vec(), sent.to_vec());
    let hops = if quote[0] >> 4 == 4 { 8 } else { 7 };
    assert_eq!(quote[hops] + 1, sent[hops]);
    if quote[0] >> 4 == 4 {
        let sum: u32 =
            quote[..20].as_chunks::<2>().0.iter().map(|w| u32::from(u16::from_be_bytes(*w))).sum();
        assert_eq!((sum >> 16) + (sum & 0xffff), 0xffff, "checksum of the quoted header");
        (quote[10], quote[11], sent[10], sent[11]) = (0, 0, 0, 0);
    }
    (quote[hops], sent[hops]) = (0, 0);
    assert_eq!(quote, sent);
}

/// An error of `from` about a packet that left.
pub(crate) fn about(error: IcmpError, left: &MemBuf, quote: usize, from: IpAddr) -> MemBuf {
    let ip = &left.data()[14..];
    let header = if ip[0] >> 4 == 4 { 20 } else { 40 };
    icmp_error(error, left.data(), quote).from(from).to(source(&ip[..header])).build_buf()
}

pub(crate) fn check(
    stage: &mut Stage,
    (port, error): (PortId, MemBuf),
    original: &MemBuf,
    sender: IpAddr,
) -> MemBuf {
    let (sessions, translated) = (stage.sessions(), stage.director.counters().icmp_translated);
    let sent = stage.pass(port, error.clone());
    oracle::checksums_ok(sent.data()).unwrap();
    let (ip, _, quote) = parts(sent.data());
    let to = source(&original.data()[14..14 + ip.len()]);
    assert_eq!(addresses(ip), (sender, to));
    let hops = if ip.len() == 20 { 8 } else { 7 };
    assert_eq!(ip[hops] + 1, error.data()[14 + hops]);
    quotes(quote, original);
    assert_eq!(stage.sessions(), sessions, "an error has changed its session");
    assert_eq!(stage.director.counters().icmp_translated, translated + 1);
    sent
}

#[test]
fn an_error_about_a_packet_to_a_server_reaches_the_client_as_one_about_its_own_packet() {
    for (mode, v6) in MODES.iter().flat_map(|mode| [(*mode, false), (*mode, true)]) {
        let mut stage = established(plan(mode, false), v6);
        let (_, router, least) = routers(v6);
        let packet = client(v6).seq(8).ack(100).payload_len(200).build_buf();
        let left = stage.pass(CLIENTS, packet.clone());
        let virt = stage.session().quad.virt.0;
        for quote in [least, least + 6, least + 12, 500] {
            for error in
                [IcmpError::TooBig(1300), IcmpError::TimeExceeded, IcmpError::HostUnreachable]
            {
                let error = about(error, &left, quote, router);
                check(&mut stage, (SERVERS, error), &packet, virt);
            }
        }
    }
}

#[test]
fn an_error_about_an_answer_reaches_the_server_as_one_about_its_own_packet() {
    for (mode, v6) in MODES.iter().flat_map(|mode| [(*mode, false), (*mode, true)]) {
        let mut stage = established(plan(mode, false), v6);
        let (router, _, least) = routers(v6);
        let packet = stage.reply().seq(100).ack(8).payload_len(200).build_buf();
        // Numbers of the server's side, as its stack would write them.
        let delta = stage.session().translation.seq_delta;
        let packet = if mode == Forwarding::FullNat {
            stage.reply().seq(100).ack(8u32.wrapping_add(delta)).payload_len(200).build_buf()
        } else {
            packet
        };
        let left = stage.pass(SERVERS, packet.clone());
        let quad = stage.session().quad;
        let sender = if mode == Forwarding::Nat { router } else { quad.local.0 };
        for quote in [least, least + 6, least + 12, 500] {
            for error in [IcmpError::TooBig(1300), IcmpError::PortUnreachable] {
                let error = about(error, &left, quote, router);
                check(&mut stage, (CLIENTS, error), &packet, sender);
            }
        }
    }
}

#[test]
fn datagrams_have_errors_too() {
    for mode in MODES {
        let mut stage = plan(mode, false).stage();
        let packet = udp().from("10.0.0.2:999").to("10.0.0.80:53").payload_len(100).build_buf();
        let left = stage.pass(CLIENTS, packet.clone());
        let server = stage.session().quad.server.0;
        let error = about(IcmpError::PortUnreachable, &left, 28, server);
        check(&mut stage, (SERVERS, error), &packet, "10.0.0.80".parse().unwrap());
    }
}

#[test]
fn the_mtu_toward_a_server_tells_a_client_what_is_left_beside_its_address() {
    for (v6, growth) in [(false, 8), (true, 20)] {
        let mut stage = established(plan(Forwarding::FullNat, true), v6);
        let (front, back, least) = routers(v6);
        let packet = client(v6).seq(8).ack(100).payload_len(700).build_buf();
        let left = stage.pass(CLIENTS, packet);
        let error = about(IcmpError::TooBig(1400), &left, least, back);
        let sent = stage.pass(SERVERS, error);
        let mtu = |frame: &[u8]| u16::from_be_bytes(parts(frame).1[6..8].try_into().unwrap());
        assert_eq!(mtu(sent.data()), 1400 - growth);
        // Toward servers nothing grows.
        let packet = stage.reply().seq(100).ack_number(8).ack(8).payload_len(700).build_buf();
        let left = stage.pass(SERVERS, packet);
        let sent = stage.pass(CLIENTS, about(IcmpError::TooBig(1400), &left, least, front));
        assert_eq!(mtu(sent.data()), 1400);
    }
}

#[test]
fn a_wrong_checksum_is_not_believed() {
    for v6 in [false, true] {
        let mut stage = established(plan(Forwarding::FullNat, false), v6);
        let (_, router, least) = routers(v6);
        let left = stage.pass(CLIENTS, client(v6).seq(8).ack(100).payload_len(50).build_buf());
        let local = stage.session().quad.local.0;
        let error = icmp_error(IcmpError::TooBig(1300), left.data(), least).from(router).to(local);
        stage.refused(DropReason::BadL4Checksum, SERVERS, error.wrong_l4_csum().build_buf());
    }
}

#[test]
fn errors_at_the_end_of_their_life_and_for_the_wrong_receiver_go_no_further() {
    let mut stage = established(plan(Forwarding::FullNat, false), false);
    let left = stage.pass(CLIENTS, client(false).seq(8).ack(100).payload_len(50).build_buf());
    let local = stage.session().quad.local.0;
    let error =
        |to: IpAddr| icmp_error(IcmpError::TooBig(1300), left.data(), 28).from("10.1.0.254").to(to);
    stage.refused(DropReason::TtlExceeded, SERVERS, error(local).ttl(1).build_buf());
    // The packet was sent from another address.
    for other in ["10.0.0.80", "10.1.0.101"] {
        let error = error(other.parse().unwrap()).build_buf();
        stage.refused(DropReason::IcmpNoSession, SERVERS, error);
    }
    let error = error("10.1.0.77".parse().unwrap()).build_buf();
    stage.refused(DropReason::NotForwarding, SERVERS, error);
}

#[test]
fn errors_about_the_hosts_own_packets_are_the_hosts() {
    let mut stage = established(plan(Forwarding::FullNat, false), false);
    let own = tcp().from("10.1.0.1:999").to("10.1.0.11:22").syn().build();
    let error = icmp_error(IcmpError::HostUnreachable, &own, 28).from("10.1.0.254").to("10.1.0.1");
    let (report, sent) = stage.feed(SERVERS, error.build_buf());
    assert_eq!((report.verdict, sent.len()), (Verdict::Release, 0));
}
