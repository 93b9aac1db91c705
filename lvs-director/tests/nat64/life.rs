//! Sessions of NAT64 from their first packet to their last: persistence, draining, expiry, ports used again.

use crate::stage::{CLIENTS, SERVERS, Stage};
use crate::{ISN, THEIRS, client, connect, delta, inside, plan, server, untold};
use core::net::SocketAddr;
use core::time::Duration;
use lvs_core::io::PacketBuf;
use lvs_core::io::PortId;
use lvs_core::io::mem::MemBuf;
use lvs_core::persistence::Persistence;
use lvs_core::service::ServerState;
use lvs_core::session::TcpState;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{tcp, udp};
use lvs_testkit::oracle;

/// Ends and numbers of a segment.
fn said((port, frame): &(PortId, MemBuf)) -> (PortId, SocketAddr, SocketAddr, u8, u32, u32) {
    oracle::checksums_ok(frame.data()).unwrap();
    let fields = oracle::fields(frame.data()).unwrap();
    let ((sport, dport), tcp) = (fields.ports.unwrap(), fields.tcp.unwrap());
    let (from, to) = (SocketAddr::new(fields.src, sport), SocketAddr::new(fields.dst, dport));
    (*port, from, to, tcp.flags, tcp.seq, tcp.ack)
}

const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn ends() -> (SocketAddr, SocketAddr) {
    (crate::CLIENT.parse().unwrap(), crate::SERVICE.parse().unwrap())
}

/// The server has answered the question that begins a reset: each side gets one in its own version and numbers.
fn resets(stage: &mut Stage, asked: &[(PortId, MemBuf)]) {
    let ((local, real), (client, service)) = (inside(stage), ends());
    let add = delta(stage);
    assert_eq!(asked.len(), 1);
    let (port, from, to, flags, ..) = said(&asked[0]);
    assert_eq!((port, from, to, flags), (SERVERS, local, real, ACK));
    let answer = server(stage, THEIRS + 6, ISN + 1).build_buf();
    let (report, mut sent) = stage.feed(SERVERS, answer);
    assert_eq!(report.verdict, Verdict::Drop(DropReason::SessionReset));
    sent.sort_by_key(|(port, _)| *port);
    let sent: Vec<_> = sent.iter().map(said).collect();
    let expected = [
        (CLIENTS, service, client, RST, THEIRS + 6, 0),
        (SERVERS, local, real, RST, (ISN + 1).wrapping_add(add), 0),
    ];
    assert_eq!(sent, expected);
}

#[test]
fn both_ends_of_a_session_that_expires_are_reset_in_their_own_version() {
    let mut stage = plan(|spec| {
        untold(spec);
        spec.services.iter_mut().for_each(|service| service.flags.reset_on_expiry = true);
    })
    .stage();
    connect(&mut stage);
    stage.wait(Duration::from_secs(60));
    let asked = stage.wait(Duration::from_secs(60));
    resets(&mut stage, &asked);
    stage.wait(Duration::from_secs(10));
    assert!(stage.sessions().is_empty());
    assert_eq!(stage.director.store().ports_in_use(), 0);
}

#[test]
fn both_ends_are_reset_when_their_server_goes_down() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    let asked = stage.reload(|spec| {
        spec.services[1].servers.iter_mut().for_each(|s| s.state = ServerState::DownKill);
    });
    resets(&mut stage, &asked);
    stage.refused(DropReason::NoServer, CLIENTS, client().from("[fd00::2]:5").syn().build_buf());
}

#[test]
fn a_server_that_drains_keeps_its_sessions_and_gets_no_new_ones() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    let (_, real) = inside(&stage);
    stage.reload(|spec| {
        spec.services[1].servers[0].state = ServerState::Draining { within: None };
    });
    stage.pass(CLIENTS, client().seq(ISN + 1).ack(THEIRS + 6).payload("more").build_buf());
    for port in 1..4 {
        let syn = client().from(SocketAddr::new(ends().0.ip(), port)).syn().seq(port.into());
        let sent = stage.pass(CLIENTS, syn.build_buf());
        assert_ne!(oracle::fields(sent.data()).unwrap().dst, real.ip());
    }
}

#[test]
fn clients_of_one_ipv6_prefix_stay_with_one_ipv4_server() {
    let mut stage = plan(|spec| {
        untold(spec);
        let persistence = Persistence { prefix_v6: 64, ..Persistence::default() };
        spec.services[1].persistence = Some(persistence);
        let known = spec.neighbours[0].mac;
        for ip in ["fd00::3", "fd00::4"] {
            let ip = ip.parse().unwrap();
            spec.neighbours.push(lvs_core::snapshot::StaticNeighbour { ip, mac: known });
        }
    })
    .stage();
    let mut servers = Vec::new();
    for from in ["[fd00::2]:1", "[fd00::3]:2", "[fd00::4]:3", "[fd00::2]:4"] {
        let sent = stage.pass(CLIENTS, client().from(from).syn().seq(ISN).build_buf());
        servers.push(oracle::fields(sent.data()).unwrap().dst);
    }
    servers.dedup();
    assert_eq!(servers.len(), 1);
    assert_eq!(stage.director.counters().sessions_persistent, 3);
}

#[test]
fn ipv4_and_ipv6_services_share_local_ports_and_never_answer_for_each_other() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    let six = stage.session();
    for n in 0..15 {
        let from = SocketAddr::new([10, 0, 0, 2].into(), 100 + n);
        stage.pass(CLIENTS, tcp().from(from).to("10.0.0.80:80").syn().seq(1).build_buf());
    }
    let ports: std::collections::BTreeSet<_> =
        stage.sessions().iter().map(|session| session.quad.local).collect();
    assert_eq!(ports.len(), 16, "two local addresses of eight ports each");
    let more = tcp().from("10.0.0.2:999").to("10.0.0.80:80").syn().build_buf();
    stage.refused(DropReason::NoPort, CLIENTS, more);
    let more = client().from("[fd00::2]:999").syn().build_buf();
    stage.refused(DropReason::NoPort, CLIENTS, more);
    // A server that speaks to the port of a NAT64 session without being its server.
    let stranger = tcp().from("10.1.0.12:8080").to(six.quad.local).ack(1).build_buf();
    stage.refused(DropReason::NoSessionLocal, SERVERS, stranger);
    let other = udp().from(six.quad.server).to(six.quad.local).build_buf();
    stage.refused(DropReason::NoSessionLocal, SERVERS, other);
}

#[test]
fn a_client_that_starts_anew_gets_numbers_past_those_that_the_server_has_seen() {
    let mut stage = plan(|spec| {
        untold(spec);
        // One port, one server: the next session is the successor of the last one.
        spec.services[1].servers.truncate(1);
        spec.pools[0].addresses.retain(|ip| ip.to_string() == "10.1.0.100");
    });
    stage.ports = 1;
    let mut stage = stage.stage();
    connect(&mut stage);
    let fin = client().fin().seq(ISN + 1).ack(THEIRS + 6).build_buf();
    stage.pass(CLIENTS, fin);
    let fin = server(&stage, THEIRS + 6, ISN + 2).fin().build_buf();
    stage.pass(SERVERS, fin);
    stage.pass(CLIENTS, client().seq(ISN + 2).ack(THEIRS + 7).build_buf());
    let last = (ISN + 2).wrapping_add(delta(&stage));
    assert_eq!(stage.session().state, TcpState::TimeWait);
    let sent = stage.pass(CLIENTS, client().syn().seq(5).build_buf());
    let seq = oracle::fields(sent.data()).unwrap().tcp.unwrap().seq;
    assert!(lvs_nat::seq::after(seq, last), "{seq} is not past {last}");
    assert_eq!(stage.director.counters().sessions_reused, 1);
    assert_eq!(stage.session().state, TcpState::SynRecv);
}

#[test]
fn a_server_with_an_older_connection_of_the_port_is_reset_and_the_client_is_not_told() {
    let mut stage = plan(untold).stage();
    stage.pass(CLIENTS, client().syn().seq(ISN).build_buf());
    let (local, real) = inside(&stage);
    let old = tcp().from(real).to(local).seq(99).ack(12345).build_buf();
    let (report, sent) = stage.feed(SERVERS, old);
    assert_eq!(report.verdict, Verdict::Answer(SERVERS));
    let (port, from, to, flags, seq, _) = said(&sent[0]);
    assert_eq!((sent.len(), port, from, to, flags, seq), (1, SERVERS, local, real, RST, 12345));
}

#[test]
fn a_session_without_a_slot_is_an_ordinary_answer_and_its_port_stays_free() {
    let mut plan = plan(untold);
    plan.general = 0;
    let mut stage = plan.stage();
    let syn = client().syn().seq(ISN).build_buf();
    stage.refused(DropReason::SessionTableFull, CLIENTS, syn);
    assert_eq!(stage.director.store().ports_in_use(), 0);
}

#[test]
fn a_packet_at_the_end_of_its_life_goes_no_further_on_either_side() {
    let mut stage = plan(untold).stage();
    connect(&mut stage);
    let up = client().seq(ISN + 1).ack(THEIRS + 6).ttl(1).build_buf();
    stage.refused(DropReason::TtlExceeded, CLIENTS, up);
    let down = server(&stage, THEIRS + 6, ISN + 1).ttl(1).build_buf();
    stage.refused(DropReason::TtlExceeded, SERVERS, down);
}
