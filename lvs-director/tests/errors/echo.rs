//! Echo as a flow: sessions by identifier, their translation in every mode, errors about them, and who answers where no
//! service asks for echo.

use crate::stage::{CLIENTS, Plan, SERVERS, Stage, mac_of};
use crate::support::service;
use crate::translated::{about, check, parts, routers};
use core::net::IpAddr;
use core::time::Duration;
use lvs_core::addr::{Family, Prefix};
use lvs_core::flow::L4Proto;
use lvs_core::io::PacketBuf;
use lvs_core::io::mem::MemBuf;
use lvs_core::service::{Encapsulation, Forwarding, ServiceKey};
use lvs_core::session::Session;
use lvs_core::snapshot::{MarkRule, SnapshotError};
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{Csum, Icmp, IcmpError, Packet, echo, echo_reply, icmp, tcp};
use lvs_testkit::{nic, oracle};

const TRANSLATING: [Forwarding; 2] = [Forwarding::Nat, Forwarding::FullNat];
const MODES: [Forwarding; 4] =
    [Forwarding::Nat, Forwarding::FullNat, Forwarding::Dr, Forwarding::Tun];
const FAMILIES: [bool; 2] = [false, true];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Client, virtual address, and first server.
fn hosts(v6: bool) -> [IpAddr; 3] {
    if v6 { ["fd00::2", "fd00::80", "fd01::11"] } else { ["10.0.0.2", "10.0.0.80", "10.1.0.11"] }
        .map(ip)
}

/// The usual services, and one for echo in each family.
fn plan(forwarding: Forwarding) -> Plan {
    let mut plan = Plan::new(forwarding);
    for [address, one, two] in [
        ["10.0.0.80:0", "10.1.0.11:0", "10.1.0.12:0"],
        ["[fd00::80]:0", "[fd01::11]:0", "[fd01::12]:0"],
    ] {
        plan.spec.services.push(service(address, L4Proto::Icmp, forwarding, &[one, two]));
    }
    plan
}

fn request(v6: bool, id: u16) -> Packet<Icmp> {
    let [client, virt, _] = hosts(v6);
    echo(id, 1).from(client).to(virt).payload_len(56)
}

/// What the server of a session answers.
fn reply(session: &Session) -> Packet<Icmp> {
    let quad = session.quad;
    echo_reply(quad.local.1, 1).from(quad.server.0).to(quad.local.0).payload_len(56)
}

/// Source, destination, type and identifier of an echo message with a right checksum.
fn read(frame: &[u8]) -> (IpAddr, IpAddr, u8, u16) {
    oracle::checksums_ok(frame).unwrap();
    let (ip, message, _) = parts(frame);
    let (src, dst) = crate::translated::addresses(ip);
    (src, dst, message[0], u16::from_be_bytes([message[4], message[5]]))
}

const fn kinds(v6: bool) -> [u8; 2] {
    if v6 { [128, 129] } else { [8, 0] }
}

#[test]
fn a_request_reaches_a_server_and_its_reply_the_client_under_the_identifier_that_it_chose() {
    for (mode, v6) in TRANSLATING.iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6))) {
        let mut stage = plan(mode).stage();
        let ([client, virt, server], [ask, answer]) = (hosts(v6), kinds(v6));
        for turn in 0..3 {
            let left = stage.pass(CLIENTS, request(v6, 7).build_buf());
            let session = stage.session();
            let (local, id) = session.quad.local;
            assert_eq!(read(left.data()), (local, server, ask, id), "{mode:?}");
            assert_eq!(
                (local == client, id == 7),
                (mode == Forwarding::Nat, mode == Forwarding::Nat)
            );
            let back = stage.pass(SERVERS, reply(&session).build_buf());
            assert_eq!(read(back.data()), (virt, client, answer, 7), "{mode:?}");
            let session = stage.session();
            assert_eq!((session.inbound.packets, session.outbound.packets), (turn + 1, turn + 1));
            assert_eq!((session.quad.proto, session.answered), (L4Proto::Icmp, true));
        }
    }
}

#[test]
fn clients_with_one_identifier_are_told_apart_and_each_has_a_server() {
    for (mode, v6) in TRANSLATING.iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6))) {
        let mut stage = plan(mode).stage();
        let (first, other) = (hosts(v6)[0], if v6 { ip("fd00::3") } else { ip("10.0.0.3") });
        for client in [first, other] {
            let (report, _) = stage.feed(CLIENTS, request(v6, 7).from(client).build_buf());
            assert!(matches!(report.verdict, Verdict::Forward(_) | Verdict::Absorb(_)));
        }
        let sessions = stage.sessions();
        assert_eq!(sessions.len(), 2);
        assert_ne!(sessions[0].quad.server, sessions[1].quad.server, "turns");
        for session in sessions {
            let back = stage.feed(SERVERS, reply(&session).build_buf()).1;
            let to =
                back.iter().map(|(_, frame)| read(frame.data())).find(|(_, to, ..)| *to == first);
            assert_eq!(to.is_some(), session.quad.client.0 == first);
        }
    }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    for (mode, v6) in TRANSLATING.iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6))) {
        let mut stage = plan(mode).stage();
        let right = stage.pass(CLIENTS, request(v6, 7).build_buf());
        let wrong = stage.pass(CLIENTS, request(v6, 7).wrong_l4_csum().build_buf());
        assert!(oracle::checksums_ok(right.data()).is_ok());
        assert!(oracle::checksums_ok(wrong.data()).is_err(), "{mode:?}: INV-3");
        let session = stage.session();
        let wrong = stage.pass(SERVERS, reply(&session).wrong_l4_csum().build_buf());
        assert!(oracle::checksums_ok(wrong.data()).is_err(), "{mode:?}: INV-3");
    }
}

#[test]
fn servers_that_have_the_virtual_address_get_the_request_as_it_is() {
    for (mode, v6) in
        [Forwarding::Dr, Forwarding::Tun].iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6)))
    {
        let mut plan = plan(mode);
        for server in plan.spec.services.iter_mut().flat_map(|service| &mut service.servers) {
            server.tunnel = Encapsulation::Gre { checksum: false };
        }
        let mut stage = plan.stage();
        let sent = request(v6, 7).build_buf();
        let left = nic::on_wire(&stage.pass(CLIENTS, sent.clone())).remove(0);
        let [_, _, server] = hosts(v6);
        assert_eq!(left[..6], mac_of(server).0);
        let header = if v6 { 40 } else { 20 };
        let growth = if mode == Forwarding::Tun { header + 4 } else { 0 };
        let inner = [&left[..14], &left[14 + growth..]].concat();
        let before = nic::on_wire(&sent).remove(0);
        assert_eq!(inner[14 + header..], before[14 + header..]);
        assert_eq!(read(&inner), read(&before));
        let session = stage.session();
        assert_eq!((session.inbound.packets, session.one_way.is_some()), (1, true));
        // A later one goes the same way.
        stage.pass(CLIENTS, request(v6, 7).build_buf());
        assert_eq!(stage.session().inbound.packets, 2);
    }
}

#[test]
fn an_echo_session_lives_as_long_as_its_own_time_out_says() {
    for mode in MODES {
        let mut plan = plan(mode);
        for service in &mut plan.spec.services {
            service.timeouts = service.timeouts.with_icmp(Duration::from_secs(30));
        }
        let mut stage = plan.stage();
        stage.pass(CLIENTS, request(false, 7).build_buf());
        stage.wait(Duration::from_secs(29));
        stage.pass(CLIENTS, request(false, 7).build_buf());
        stage.wait(Duration::from_secs(29));
        assert_eq!(stage.sessions().len(), 1, "{mode:?}: counted from the last message");
        for _ in 0..100 {
            stage.wait(Duration::from_millis(60));
        }
        assert_eq!(stage.sessions().len(), 0, "{mode:?}");
    }
}

#[test]
fn an_error_about_a_request_reaches_the_client_as_one_about_its_own() {
    for (mode, v6) in TRANSLATING.iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6))) {
        let mut stage = plan(mode).stage();
        let (_, router, least) = routers(v6);
        let packet = request(v6, 7).build_buf();
        let left = stage.pass(CLIENTS, packet.clone());
        let virt = stage.session().quad.virt.0;
        for quote in [least, least + 6, 500] {
            for error in
                [IcmpError::TooBig(1300), IcmpError::TimeExceeded, IcmpError::HostUnreachable]
            {
                check(&mut stage, (SERVERS, about(error, &left, quote, router)), &packet, virt);
            }
        }
    }
}

#[test]
fn an_error_about_a_reply_reaches_the_server_as_one_about_its_own() {
    for (mode, v6) in TRANSLATING.iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6))) {
        let mut stage = plan(mode).stage();
        let (router, _, least) = routers(v6);
        stage.pass(CLIENTS, request(v6, 7).build_buf());
        let session = stage.session();
        let packet = reply(&session).build_buf();
        let left = stage.pass(SERVERS, packet.clone());
        let sender = if mode == Forwarding::Nat { router } else { session.quad.local.0 };
        for quote in [least, least + 6, 500] {
            for error in [IcmpError::TooBig(1300), IcmpError::TimeExceeded] {
                check(&mut stage, (CLIENTS, about(error, &left, quote, router)), &packet, sender);
            }
        }
    }
}

#[test]
fn an_error_about_a_reply_that_passed_the_director_by_goes_to_the_server() {
    for (mode, v6) in
        [Forwarding::Dr, Forwarding::Tun].iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6)))
    {
        let mut stage = plan(mode).stage();
        let [client, virt, server] = hosts(v6);
        stage.pass(CLIENTS, request(v6, 7).build_buf());
        let before = stage.session();
        let answer = echo_reply(7, 1).from(virt).to(client).payload_len(56).build_buf();
        let (router, _, least) = routers(v6);
        let error = about(IcmpError::TimeExceeded, &answer, least, router);
        let left = nic::on_wire(&stage.pass(CLIENTS, error)).remove(0);
        assert_eq!(left[..6], mac_of(server).0, "{mode:?}");
        assert_eq!(stage.session(), before);
    }
}

#[test]
fn an_error_about_a_tunnel_with_a_request_inside_reaches_the_client() {
    for v6 in FAMILIES {
        let mut stage =
            { Plan { errors: lvs_director::ErrorRate::default(), ..plan(Forwarding::Tun) } }
                .stage();
        let [client, virt, _] = hosts(v6);
        let left = stage.pass(CLIENTS, request(v6, 7).build_buf());
        let (_, router, _) = routers(v6);
        let error = about(IcmpError::TimeExceeded, &left, 500, router);
        let told = stage.pass(SERVERS, error);
        oracle::checksums_ok(told.data()).unwrap();
        let (ip, _, quote) = parts(told.data());
        assert_eq!(crate::translated::addresses(ip), (virt, client));
        assert_eq!(quote[ip.len()..ip.len() + 1], [kinds(v6)[0]]);
        assert_eq!(quote[ip.len() + 4..ip.len() + 6], [0, 7], "its own identifier");
    }
}

#[test]
fn errors_about_echo_that_nobody_sent_are_not_believed() {
    for v6 in FAMILIES {
        let mut stage = plan(Forwarding::FullNat).stage();
        let (_, router, least) = routers(v6);
        let left = stage.pass(CLIENTS, request(v6, 7).build_buf());
        let quad = stage.session().quad;
        let other = echo(quad.local.1 ^ 1, 1).from(quad.local.0).to(quad.server.0).build_buf();
        stage.refused(
            DropReason::IcmpNoSession,
            SERVERS,
            about(IcmpError::TimeExceeded, &other, least, router),
        );
        // A reply between the same addresses was never sent there.
        let reply = echo_reply(quad.local.1, 1).from(quad.local.0).to(quad.server.0).build_buf();
        stage.refused(
            DropReason::IcmpNoSession,
            SERVERS,
            about(IcmpError::TimeExceeded, &reply, least, router),
        );
        drop(left);
    }
}

#[test]
fn replies_open_nothing_and_requests_from_servers_are_no_replies() {
    for (mode, v6) in TRANSLATING.iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6))) {
        let mut stage = plan(mode).stage();
        let [client, virt, _] = hosts(v6);
        let unasked = echo_reply(7, 1).from(client).to(virt).build_buf();
        stage.refused(DropReason::UnsupportedProtocol, CLIENTS, unasked);
        // An identifier of 0 makes question and answer look alike but for their type.
        stage.pass(CLIENTS, request(v6, 0).build_buf());
        let session = stage.session();
        let quad = session.quad;
        let asks = echo(quad.local.1, 1).from(quad.server.0).to(quad.local.0).build_buf();
        let (report, _) = stage.feed(SERVERS, asks);
        assert!(!matches!(report.verdict, Verdict::Forward(_)), "{mode:?} {report:?}");
        stage.pass(SERVERS, reply(&session).build_buf());
        let unasked = echo_reply(0, 1).from(client).to(virt).build_buf();
        stage.refused(DropReason::UnsupportedProtocol, CLIENTS, unasked);
    }
}

#[test]
fn without_a_service_for_echo_the_director_answers_for_its_addresses() {
    for (mode, v6) in MODES.iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6))) {
        let mut stage = Plan::new(mode).stage();
        let ([client, virt, _], [_, answer]) = (hosts(v6), kinds(v6));
        let (report, sent) = stage.feed(CLIENTS, request(v6, 7).build_buf());
        assert_eq!(report.verdict, Verdict::Answer(CLIENTS), "{mode:?}");
        assert_eq!(read(sent[0].1.data()), (virt, client, answer, 7));
        assert_eq!(stage.sessions().len(), 0);
    }
    // With one, local addresses still do.
    let mut stage = plan(Forwarding::FullNat).stage();
    let local = echo(7, 1).from("10.1.0.11").to("10.1.0.100").build_buf();
    assert_eq!(stage.feed(SERVERS, local).0.verdict, Verdict::Answer(SERVERS));
    let reply = echo_reply(7, 1).from("10.1.0.11").to("10.1.0.100").build_buf();
    stage.refused(DropReason::UnsupportedProtocol, SERVERS, reply);
    // Other questions than echo are nobody's.
    let mask = icmp(17, 0).from("10.0.0.2").to("10.0.0.80").payload_len(4).build_buf();
    stage.refused(DropReason::UnsupportedProtocol, CLIENTS, mask);
}

#[test]
fn a_mark_means_echo_where_its_rule_says_so() {
    for named in [false, true] {
        let mut plan = Plan::new(Forwarding::Nat);
        let all = MarkRule { dst: Prefix::new(ip("10.0.0.90"), 32), ..MarkRule::all(7) };
        plan.spec.marks.push(all);
        if named {
            plan.spec.marks.push(MarkRule { proto: Some(L4Proto::Icmp), ..all });
        }
        let servers = ["10.1.0.11:0", "10.1.0.12:8080"];
        let mut marked = service("0.0.0.0:0", L4Proto::Tcp, Forwarding::Nat, &servers);
        marked.key = ServiceKey::marked(7, Family::V4);
        plan.spec.services.push(marked);
        let mut stage = plan.stage();
        for id in [7, 8] {
            let ping = request(false, id).to("10.0.0.90").build_buf();
            let (report, sent) = stage.feed(CLIENTS, ping);
            if !named {
                assert_eq!(report.verdict, Verdict::Answer(CLIENTS));
                continue;
            }
            let server = if id == 7 { "10.1.0.11" } else { "10.1.0.12" };
            assert_eq!(read(sent[0].1.data()), (ip("10.0.0.2"), ip(server), 8, id));
            // Whatever port the server has for others.
            let back = echo_reply(id, 1).from(server).to("10.0.0.2").build_buf();
            let back = stage.pass(SERVERS, back);
            assert_eq!(read(back.data()), (ip("10.0.0.90"), ip("10.0.0.2"), 0, id));
        }
        assert_eq!(stage.sessions().len(), if named { 2 } else { 0 });
    }
}

#[test]
fn a_service_for_echo_has_no_port_and_leaves_the_other_protocols_alone() {
    let mut wrong = Plan::new(Forwarding::Nat).spec;
    let with_port = service("10.0.0.80:7", L4Proto::Icmp, Forwarding::Nat, &["10.1.0.11:0"]);
    let key = with_port.key;
    wrong.services.push(with_port);
    assert_eq!(wrong.build(None).unwrap_err(), SnapshotError::EchoPort(key));
    // Nor does it change the family.
    let mut across = Plan::new(Forwarding::FullNat).spec;
    let servers = ["10.1.0.11:0"];
    across.services.push(service("[fd00::80]:0", L4Proto::Icmp, Forwarding::FullNat, &servers));
    assert!(matches!(across.build(None), Err(SnapshotError::ServerFamily(_))));

    let mut stage = plan(Forwarding::Nat).stage();
    let syn = tcp().from("10.0.0.2:40000").to("10.0.0.80:81").syn();
    stage.refused(DropReason::NoService, CLIENTS, syn.build_buf());
}

#[test]
fn requests_that_are_too_long_or_too_old_are_told_so_and_open_nothing() {
    for (mode, v6) in MODES.iter().flat_map(|mode| FAMILIES.map(|v6| (*mode, v6))) {
        let mut plan = plan(mode);
        plan.spec.interfaces[1].mtu = Some(1300);
        plan.errors = lvs_director::ErrorRate::default();
        let mut stage = plan.stage();
        for (packet, why) in [
            (request(v6, 7).payload_len(1350).dont_fragment(true), DropReason::TooBig),
            (request(v6, 7).ttl(1), DropReason::TtlExceeded),
        ] {
            let (report, sent) = stage.feed(CLIENTS, packet.build_buf());
            assert_eq!(report.verdict, Verdict::Drop(why), "{mode:?}");
            let [(CLIENTS, error)] = &sent[..] else { panic!("{mode:?} {sent:?}") };
            oracle::checksums_ok(error.data()).unwrap();
            assert_eq!(stage.sessions().len(), 0);
        }
    }
}

#[test]
fn an_identifier_is_free_again_when_no_local_port_was_left() {
    let mut plan = plan(Forwarding::FullNat);
    plan.ports = 2;
    let mut stage = plan.stage();
    let full =
        |stage: &mut Stage, id| stage.feed(CLIENTS, request(false, id).build_buf()).0.verdict;
    for id in 1..=4 {
        assert!(matches!(full(&mut stage, id), Verdict::Forward(_)), "two addresses of two ports");
    }
    assert_eq!(full(&mut stage, 5), Verdict::Drop(DropReason::NoPort));
    stage.sleep(Duration::from_secs(60));
    for _ in 0..100 {
        stage.wait(Duration::from_millis(60));
    }
    assert!(matches!(full(&mut stage, 5), Verdict::Forward(_)));
}

/// A reply whose checksum field is what no sender writes.
#[test]
fn a_message_without_a_checksum_is_no_exception() {
    let mut stage = plan(Forwarding::FullNat).stage();
    let none = request(false, 7).l4_csum(Csum::Value(0)).build_buf();
    let left: MemBuf = stage.pass(CLIENTS, none);
    assert!(oracle::checksums_ok(left.data()).is_err(), "it stays as wrong as it was");
}
