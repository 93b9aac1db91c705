//! Every reason to drop a packet, one named case each: the verdict, the counter, no frame, and no session
//! opened or changed (INV-2, INV-11). And the cases that a comparison with the naive director has shown.

mod half_dead;
mod mended;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use core::net::Ipv4Addr;
use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::io::mem::{MemBuf, MemMeta, MemPort};
use lvs_core::io::{BURST, L4Csum, PacketBuf};
use lvs_core::service::{
    ClientAddrMode, Forwarding, NoToaRoom, ProxyOptions, ServerState, ToaOptions,
};
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_testkit::build::{
    Csum, IcmpError, ROUTER_MAC, arp_request, icmp, icmp_error, ndp_solicit, raw, tcp, udp,
};
use stage::{CLIENT, CLIENTS, Plan, SERVERS, SERVICE, Stage, from_client};
use std::collections::BTreeSet;

fn full() -> Plan {
    Plan::new(Forwarding::FullNat)
}

/// IPv4 servers behind the IPv6 services.
fn nat64() -> Plan {
    let mut plan = full();
    plan.spec.services = support::nat64().services;
    plan
}

/// A session of a client's datagram there, and the datagram that left.
fn asked(plan: Plan) -> (Stage, MemBuf) {
    let mut stage = plan.stage();
    let ask = udp().from("[fd00::2]:9").to("[fd00::80]:53").payload_len(20).build_buf();
    let left = stage.pass(CLIENTS, ask);
    (stage, left)
}

/// An SCTP packet of the usual client with the right checksum.
fn sctp(tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0x9c, 0x40, 0, 80][..], &tag.to_be_bytes(), &[0; 4], chunks].concat();
    lvs_nat::sctp::complete(&mut bytes).expect("a whole header");
    bytes
}

fn nat() -> Plan {
    Plan::new(Forwarding::Nat)
}

fn syn(port: u16) -> MemBuf {
    tcp().syn().from((Ipv4Addr::new(10, 0, 0, 2).into(), port)).to(SERVICE).build_buf()
}

/// A piece of a datagram to a service, with this many bytes behind its IP header.
fn piece(at: u16, bytes: usize, more: bool) -> MemBuf {
    udp().from(CLIENT).to("10.0.0.80:53").payload_len(bytes - 8).fragment(at, more).build_buf()
}

/// A session whose server has agreed.
fn established(plan: Plan) -> Stage {
    let mut stage = plan.stage();
    stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
    let reply = stage.reply().syn().ack(8).seq(99).build_buf();
    stage.pass(SERVERS, reply);
    stage.pass(CLIENTS, from_client().seq(8).ack(100).build_buf());
    stage
}

fn no_room(policy: NoToaRoom) -> Plan {
    let mut plan = full();
    for service in &mut plan.spec.services {
        service.client_addr =
            ClientAddrMode::Toa(ToaOptions { no_room: policy, ..ToaOptions::default() });
    }
    plan
}

macro_rules! drops {
    ($($reason:ident, $name:ident => $case:expr;)*) => {
        /// The reasons that the cases below show.
        const SHOWN: &[DropReason] = &[$(DropReason::$reason),*];
        $(
            #[test]
            fn $name() {
                let case: fn(DropReason) = $case;
                case(DropReason::$reason);
            }
        )*
    };
}

drops! {
    MalformedEthernet, a_frame_that_ends_in_its_ethernet_header => |reason| {
        full().stage().refused(reason, CLIENTS, MemBuf::from_bytes(&[2; 13]));
    };
    MalformedArp, an_arp_packet_of_another_hardware => |reason| {
        let mut arp = arp_request(MacAddr([2; 6]), [10, 0, 0, 2].into(), [10, 0, 0, 80].into());
        arp.hardware = 6;
        full().stage().refused(reason, CLIENTS, MemBuf::from_bytes(&arp.build()));
    };
    MalformedIpv4, an_ipv4_header_shorter_than_itself => |reason| {
        full().stage().refused(reason, CLIENTS, from_client().syn().ihl(4).build_buf());
    };
    BadIpChecksum, a_wrong_ipv4_header_checksum => |reason| {
        let packet = from_client().syn().ip_csum(Csum::Wrong).build_buf();
        full().stage().refused(reason, CLIENTS, packet);
    };
    MalformedIpv6, an_ipv6_packet_longer_than_its_frame => |reason| {
        let packet = tcp().syn().from("[fd00::2]:1").to("[fd00::80]:80").ip_len(999).build_buf();
        full().stage().refused(reason, CLIENTS, packet);
    };
    MalformedTcp, a_tcp_header_shorter_than_itself => |reason| {
        full().stage().refused(reason, CLIENTS, from_client().syn().data_offset(4).build_buf());
    };
    MalformedUdp, a_udp_length_below_its_header => |reason| {
        let packet = udp().from(CLIENT).to("10.0.0.80:53").udp_len(7).build_buf();
        full().stage().refused(reason, CLIENTS, packet);
    };
    MalformedIcmp, a_neighbour_message_that_was_routed => |reason| {
        let question =
            ndp_solicit(MacAddr([2; 6]), "fd00::2".parse().unwrap(), "fd00::80".parse().unwrap());
        full().stage().refused(reason, CLIENTS, question.ttl(254).build_buf());
    };
    BadL4Checksum, a_segment_that_the_device_found_corrupt => |reason| {
        let meta = MemMeta { l4_csum: L4Csum::Bad, ..MemMeta::default() };
        let corrupt = || from_client().wrong_l4_csum();
        full().stage().refused(reason, CLIENTS, corrupt().syn().build_buf().with_meta(meta));
        let mut stage = established(full());
        stage.refused(reason, CLIENTS, corrupt().ack(100).build_buf().with_meta(meta));
    };
    NotForUs, a_frame_for_another_host => |reason| {
        let packet = from_client().syn().dst_mac(MacAddr([2, 7, 7, 7, 7, 7])).build_buf();
        full().stage().refused(reason, CLIENTS, packet);
    };
    MartianSource, a_source_that_no_wire_carries => |reason| {
        let mut stage = full().stage();
        for source in ["127.0.0.1:1", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1"] {
            stage.refused(reason, CLIENTS, tcp().syn().from(source).to(SERVICE).build_buf());
        }
    };
    SpoofedSource, a_source_that_is_ours => |reason| {
        let mut stage = full().stage();
        for source in ["10.0.0.80:1", "10.1.0.100:1", "10.0.0.1:1"] {
            stage.refused(reason, CLIENTS, tcp().syn().from(source).to(SERVICE).build_buf());
        }
        let claim = arp_request(MacAddr([2; 6]), [10, 0, 0, 80].into(), [10, 0, 0, 80].into());
        stage.refused(reason, CLIENTS, MemBuf::from_bytes(&claim.build()));
    };
    BadDestination, a_destination_that_is_nobody => |reason| {
        let mut stage = full().stage();
        for to in ["127.0.0.1:80", "255.255.255.255:80", "224.0.0.5:80", "0.0.0.0:80"] {
            stage.refused(reason, CLIENTS, tcp().syn().from(CLIENT).to(to).build_buf());
        }
        let packet = from_client().syn().dst_mac(MacAddr::BROADCAST).build_buf();
        stage.refused(reason, CLIENTS, packet);
    };
    SourceRoute, a_packet_that_prescribes_its_way => |reason| {
        for kind in [131, 137] {
            let packet = from_client().syn().ip_options(&[1, kind, 7, 4, 10, 0, 0, 9]).build_buf();
            full().stage().refused(reason, CLIENTS, packet);
        }
    };
    Fragment, a_fragment_of_a_syn_and_what_follows_it => |reason| {
        let mut stage = full().stage();
        let packet = || from_client().syn().payload_len(28);
        stage.refused(reason, CLIENTS, packet().fragment(0, true).build_buf());
        stage.refused(reason, CLIENTS, packet().fragment(48, false).build_buf());
    };
    FragmentOverlap, a_fragment_that_says_otherwise => |reason| {
        let mut stage = full().stage();
        stage.pass(CLIENTS, piece(0, 48, true));
        stage.refused(reason, CLIENTS, piece(40, 48, true));
        stage.refused(reason, CLIENTS, piece(88, 48, false));
    };
    FragmentDuplicate, a_fragment_that_came_before => |reason| {
        let mut stage = full().stage();
        stage.pass(CLIENTS, piece(0, 48, true));
        stage.refused(reason, CLIENTS, piece(0, 48, true));
    };
    FragmentMemoryFull, a_fragment_without_a_place => |reason| {
        let mut plan = full();
        plan.fragments.datagrams = 0;
        plan.stage().refused(reason, CLIENTS, piece(0, 48, true));
    };
    FragmentHeldFull, a_fragment_that_cannot_wait => |reason| {
        let mut plan = full();
        plan.fragments.held = 0;
        plan.stage().refused(reason, CLIENTS, piece(48, 48, true));
    };
    FragmentTimeout, a_fragment_whose_first_one_does_not_come => |reason| {
        let mut stage = full().stage();
        let (report, _) = stage.feed(CLIENTS, piece(48, 48, true));
        assert_eq!(report.verdict, Verdict::Absorb(Absorbed::WaitsForFirst));
        stage.wait(Duration::from_millis(400));
        assert_eq!(stage.director.counters().dropped(reason), 1);
    };
    FragmentNoSession, the_rest_of_a_datagram_that_nobody_wants => |reason| {
        let mut stage = full().stage();
        let nobody = |at, more| {
            udp().from(CLIENT).to("10.0.0.80:54").payload_len(40).fragment(at, more).build_buf()
        };
        stage.refused(DropReason::NoService, CLIENTS, nobody(0, true));
        stage.refused(reason, CLIENTS, nobody(48, false));
    };
    UnsupportedProtocol, a_protocol_that_no_service_has => |reason| {
        let mut stage = full().stage();
        stage.refused(reason, CLIENTS, raw(47).from(CLIENT).to("10.0.0.80").build_buf());
        stage.refused(reason, CLIENTS, icmp(13, 0).from(CLIENT).to("10.0.0.80").build_buf());
    };
    NoService, a_port_that_nobody_listens_on => |reason| {
        let packet = tcp().syn().from(CLIENT).to("10.0.0.80:81").build_buf();
        full().stage().refused(reason, CLIENTS, packet);
    };
    NoSession, a_segment_out_of_nowhere => |reason| {
        let mut stage = full().stage();
        stage.refused(reason, CLIENTS, from_client().ack(1).build_buf());
        stage.refused(reason, CLIENTS, from_client().syn().ack(1).build_buf());
        stage.refused(reason, CLIENTS, from_client().rst().build_buf());
    };
    NoSessionLocal, an_answer_to_nobody => |reason| {
        let mut stage = established(full());
        let stray = tcp().ack(1).from("10.1.0.11:8080").to("10.1.0.101:2000").build_buf();
        stage.refused(reason, SERVERS, stray);
        // The right port and the wrong server.
        let quad = stage.session().quad;
        let foreign = tcp().ack(1).from("10.1.0.99:8080").to(quad.local).build_buf();
        stage.refused(reason, SERVERS, foreign);
    };
    NotForwarding, a_packet_to_somebody_else => |reason| {
        let packet = tcp().syn().from(CLIENT).to("10.1.0.11:8080").build_buf();
        full().stage().refused(reason, CLIENTS, packet);
    };
    NoServer, a_service_without_servers => |reason| {
        let mut plan = full();
        plan.spec.services[0].servers.clear();
        plan.stage().refused(reason, CLIENTS, syn(1));
    };
    SessionTableFull, more_sessions_than_slots => |reason| {
        let mut plan = nat();
        plan.general = 2;
        let mut stage = plan.stage();
        stage.pass(CLIENTS, syn(1));
        stage.pass(CLIENTS, syn(2));
        stage.refused(reason, CLIENTS, syn(3));
    };
    NoPort, more_sessions_than_local_ports => |reason| {
        let mut plan = full();
        plan.ports = 1;
        let mut stage = plan.stage();
        // Two local addresses of one port each.
        stage.pass(CLIENTS, syn(1));
        stage.pass(CLIENTS, syn(2));
        stage.refused(reason, CLIENTS, syn(3));
    };
    TupleTaken, two_services_lead_one_client_port_to_one_server => |reason| {
        let mut plan = nat();
        let mut other = plan.spec.services[0].clone();
        other.key.addr.0.set_port(81);
        plan.spec.services.push(other);
        for service in &mut plan.spec.services {
            service.servers.truncate(1);
        }
        let mut stage = plan.stage();
        stage.pass(CLIENTS, from_client().syn().build_buf());
        let second = tcp().syn().from(CLIENT).to("10.0.0.80:81").build_buf();
        stage.refused(reason, CLIENTS, second);
    };
    NoRoute, a_client_nobody_knows_the_way_to => |reason| {
        let packet = tcp().syn().from("198.51.100.7:1").to(SERVICE).build_buf();
        full().stage().refused(reason, CLIENTS, packet);
    };
    NeighbourPending, more_packets_wait_than_there_is_room => |reason| {
        let mut plan = full().without_neighbours();
        (plan.waiting, plan.spec.services[0].scheduler) = (1, &lvs_sched::rr::DEF);
        plan.spec.services[0].servers.truncate(1);
        let mut stage = plan.stage();
        let (first, sent) = stage.feed(CLIENTS, syn(1));
        assert!(matches!(first.verdict, Verdict::Absorb(_)) && sent.len() == 1, "it asks");
        // An exception of INV-11: that session is open, its neighbour has not answered.
        stage.lost(reason, CLIENTS, syn(2));
    };
    NeighbourFailed, a_server_that_does_not_answer => |reason| {
        let mut plan = full().without_neighbours();
        plan.spec.services[0].servers.truncate(1);
        let mut stage = plan.stage();
        stage.feed(CLIENTS, syn(1));
        for _ in 0..3 {
            stage.wait(Duration::from_secs(1));
        }
        // The one that waited.
        assert_eq!(stage.director.counters().dropped(reason), 1);
        stage.refused(reason, CLIENTS, syn(2));
    };
    TtlExceeded, a_packet_at_the_end_of_its_life => |reason| {
        let mut stage = full().stage();
        for ttl in [0, 1] {
            stage.refused(reason, CLIENTS, from_client().syn().ttl(ttl).build_buf());
        }
        let mut stage = established(full());
        let reply = stage.reply().ack(8).ttl(1).build_buf();
        stage.refused(reason, SERVERS, reply);
        stage.refused(reason, CLIENTS, from_client().ack(100).ttl(1).build_buf());
    };
    TooBig, a_packet_larger_than_the_next_link => |reason| {
        let mut plan = full();
        plan.spec.interfaces[1].mtu = Some(1000);
        let mut stage = established(plan);
        let packet = from_client().ack(100).seq(8).payload_len(961).build_buf();
        stage.refused(reason, CLIENTS, packet);
    };
    NoToaRoom, no_room_for_the_address_where_policy_drops => |reason| {
        let mut stage = no_room(NoToaRoom::Drop).stage();
        let stuffed = from_client().syn().options(&[[34, 18].as_slice(), &[1; 16], &[30, 20], &[1; 18]].concat());
        stage.refused(reason, CLIENTS, stuffed.build_buf());
    };
    ProxyOrder, data_that_overtakes_the_first_byte => |reason| {
        let mut plan = full();
        plan.spec.services[0].client_addr = ClientAddrMode::Proxy(ProxyOptions::default());
        let mut stage = established(plan);
        stage.refused(reason, CLIENTS, from_client().seq(9).ack(100).payload("late").build_buf());
    };
    NoBuffer, no_buffer_for_a_segment_that_goes_ahead => |reason| {
        let mut plan = no_room(NoToaRoom::SeparateAck);
        plan.pool = 0;
        let mut stage = established(plan);
        let full_sized = from_client().seq(8).ack(100).payload_len(1460);
        stage.refused(reason, CLIENTS, full_sized.build_buf());
    };
    NoGso, a_train_for_a_port_without_trains => |reason| {
        let mut plan = full();
        plan.port = MemPort::plain(ROUTER_MAC);
        let mut stage = established(plan);
        let train = from_client().seq(8).ack(100).payload_len(3000).gso(1000);
        stage.refused(reason, CLIENTS, train.build_buf());
    };
    TxFull, a_transmit_queue_that_stays_full => |reason| {
        let mut plan = full();
        plan.port.tx_queue = 0;
        let mut stage = plan.stage();
        stage.flush = false;
        let datagram = || udp().from(CLIENT).to("10.0.0.80:53").build_buf();
        for _ in 0..BURST {
            let (report, _) = stage.feed(CLIENTS, datagram());
            assert_eq!(report.verdict, Verdict::Forward(SERVERS));
        }
        // An exception of INV-11: it had been counted in its session.
        stage.lost(reason, CLIENTS, datagram());
    };
    SessionReset, a_segment_of_a_session_whose_server_went_down => |reason| {
        let mut stage = established(full());
        stage.reload(|spec| {
            for server in spec.services.iter_mut().flat_map(|service| &mut service.servers) {
                server.state = ServerState::DownKill;
            }
        });
        let (report, sent) = stage.feed(CLIENTS, from_client().seq(8).ack(100).build_buf());
        assert_eq!((report.verdict, sent.len()), (Verdict::Drop(reason), 2));
        assert_eq!(stage.director.counters().dropped(reason), 1);
    };
    NullSegment, a_segment_without_any_flag => |reason| {
        let mut stage = established(full());
        stage.refused(reason, CLIENTS, from_client().seq(8).build_buf());
        stage.refused(reason, SERVERS, stage.reply().psh().flags(0x28).ack_number(8).build_buf());
    };
    BadFlags, a_syn_that_also_ends => |reason| {
        let mut stage = established(full());
        for flags in [0x03, 0x06, 0x07, 0x13] {
            stage.refused(reason, CLIENTS, from_client().flags(flags).build_buf());
            stage.refused(reason, CLIENTS, tcp().flags(flags).from("10.0.0.3:1").to(SERVICE).build_buf());
        }
    };
    IcmpNoSession, an_error_about_a_packet_that_nobody_sent => |reason| {
        let mut stage = established(full());
        let foreign = from_client().from("10.0.0.80:80").to("10.0.0.2:40001").ack(1).build();
        let error = |quote| icmp_error(IcmpError::PortUnreachable, &foreign, quote).from("10.0.0.2");
        stage.refused(reason, CLIENTS, error(28).to("10.0.0.80").build_buf());
        // Less than RFC 792 asks for.
        stage.refused(reason, CLIENTS, error(27).to("10.0.0.80").build_buf());
        stage.refused(reason, SERVERS, error(28).from("10.1.0.11").to("10.1.0.100").build_buf());
    };
    MalformedSctp, an_sctp_packet_whose_chunks_have_no_end => |reason| {
        let mut plan = nat();
        plan.spec.services = support::sctp(Forwarding::Nat).services;
        let mut stage = plan.stage();
        for bytes in [sctp(0, &[1, 0, 0, 99]), vec![0x9c, 0x40, 0, 80, 0, 0, 0, 0]] {
            let packet = raw(132).from("10.0.0.2").to("10.0.0.80").payload(bytes);
            stage.refused(reason, CLIENTS, packet.build_buf());
        }
    };
    SctpTag, an_sctp_packet_of_another_association => |reason| {
        let mut plan = nat();
        plan.spec.services = support::sctp(Forwarding::Nat).services;
        let mut stage = plan.stage();
        let init = [1, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1];
        let packet = |bytes: Vec<u8>| raw(132).from("10.0.0.2").to("10.0.0.80").payload(bytes);
        stage.pass(CLIENTS, packet(sctp(0, &init)).build_buf());
        // An INIT has no tag.
        stage.refused(reason, CLIENTS, packet(sctp(5, &init)).build_buf());
    };
    NoHeadroom, a_reply_without_room_for_the_longer_header_of_the_client => |reason| {
        let (mut stage, _) = asked(nat64());
        let quad = stage.session().quad;
        let bytes = udp().from(quad.server).to(quad.local).payload_len(9).build();
        stage.refused(reason, SERVERS, MemBuf::with_room(&bytes, 19, 0));
        stage.pass(SERVERS, MemBuf::with_room(&bytes, 20, 0));
    };
    Nat64NoChecksum, a_datagram_of_ipv6_without_a_checksum_for_an_ipv4_server => |reason| {
        let unsummed = udp().from("[fd00::2]:9").to("[fd00::80]:53").l4_csum(Csum::Value(0));
        nat64().stage().refused(reason, CLIENTS, unsummed.build_buf());
    };
    Nat64Untranslatable, an_error_that_icmpv6_does_not_know => |reason| {
        let (mut stage, left) = asked(nat64());
        let local = stage.session().quad.local.0;
        let quench = icmp(4, 0).rest([0; 4]).payload(&left.data()[14..42]);
        stage.refused(reason, SERVERS, quench.from("10.1.0.254").to(local).build_buf());
    };
    ArpForOther, a_question_for_somebody_else => |reason| {
        let arp = arp_request(MacAddr([2; 6]), [10, 0, 0, 99].into(), [10, 0, 0, 98].into());
        full().stage().refused(reason, CLIENTS, MemBuf::from_bytes(&arp.build()));
    };
}

/// Reasons that no packet meets today, and why.
const NOT_YET: &[(DropReason, &str)] = &[
    (
        DropReason::ServerGone,
        "a removed server keeps its sessions until they end; nothing kills them",
    ),
    (DropReason::HandOverFull, "one worker hands nothing over; shown in tests/workers"),
    (DropReason::HandOverLoop, "one worker hands nothing over; shown in tests/workers"),
];

#[test]
fn every_reason_has_its_case_or_its_excuse() {
    let shown: BTreeSet<_> = SHOWN.iter().copied().collect();
    let excused: BTreeSet<_> = NOT_YET.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(shown.len(), SHOWN.len(), "one case each");
    assert!(shown.is_disjoint(&excused));
    let all: BTreeSet<_> = DropReason::ALL.iter().copied().collect();
    assert_eq!(&shown | &excused, all);
}

#[test]
fn without_headroom_the_policy_for_missing_room_decides() {
    // An option that finds none to grow into is no NoHeadroom.
    let mut stage = no_room(NoToaRoom::Drop).stage();
    let bytes = from_client().syn().build();
    stage.refused(DropReason::NoToaRoom, CLIENTS, MemBuf::with_room(&bytes, 7, 0));
    stage.pass(CLIENTS, MemBuf::with_room(&bytes, 8, 0));
}
