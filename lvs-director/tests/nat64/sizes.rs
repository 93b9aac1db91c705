//! Headers of 20 bytes more or less: what fits, who is told, what is cut, and datagrams in pieces.

use crate::stage::{CLIENTS, Plan, SERVERS, Stage};
use crate::{ISN, THEIRS, client, connect, inside, plan, server, telling, untold};
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{PacketBuf, PortId};
use lvs_core::service::{ClientAddrMode, ToaOptions};
use lvs_core::verdict::{DropReason, Verdict};
use lvs_director::ErrorRate;
use lvs_testkit::build::{Csum, fragments, ip_of, udp};
use lvs_testkit::oracle::{self, Fields};

/// With errors of the director's own; `mtu` of the clients' port and of the servers'.
fn links(mut plan: Plan, clients: u16, servers: u16) -> Stage {
    plan.errors = ErrorRate::default();
    plan.port.mtu = 9000;
    plan.spec.interfaces[0].mtu = Some(clients);
    plan.spec.interfaces[1].mtu = Some(servers);
    plan.stage()
}

/// The MTU that the director tells about a packet that is too large.
fn told(stage: &mut Stage, port: PortId, packet: &MemBuf) -> u32 {
    let (report, sent) = stage.feed(port, packet.clone());
    assert_eq!(report.verdict, Verdict::Drop(DropReason::TooBig));
    assert_eq!((sent.len(), sent[0].0), (1, port));
    oracle::checksums_ok(sent[0].1.data()).unwrap();
    let (error, about) = (fields(sent[0].1.data()), fields(packet.data()));
    assert_eq!((error.src, error.dst), (about.dst, about.src), "of the sender's own version");
    let word = u32::from_be_bytes(error.segment[4..8].try_into().unwrap());
    assert!(matches!((error.segment[0], error.segment[1]), (2, 0) | (3, 4)));
    let quoted = &error.segment[8..];
    assert_eq!(quoted, &ip_of(packet.data())[..quoted.len()], "quoted as it came");
    word
}

fn fields(frame: &[u8]) -> Fields {
    oracle::fields(frame).unwrap()
}

fn mss(frame: &MemBuf) -> u16 {
    let option = fields(frame.data()).tcp.unwrap().option(2).expect("a segment size");
    u16::from_be_bytes(option.try_into().unwrap())
}

#[test]
fn segment_sizes_are_announced_so_that_both_links_take_the_segments() {
    for (clients, servers, toa, syn, answer) in [
        (1500, 1500, false, 1440, 1440),
        (1500, 1500, true, 1440, 1440),
        (9000, 1500, true, 1440, 1440),
        (1280, 1500, true, 1220, 1220),
        (1500, 9000, true, 1440, 1440),
    ] {
        let change = |spec: &mut lvs_core::snapshot::SnapshotSpec| {
            if !toa {
                untold(spec);
            }
        };
        let mut stage = links(plan(change), clients, servers);
        let sent = stage.pass(CLIENTS, client().syn().seq(ISN).mss(8940).build_buf());
        assert_eq!(mss(&sent), syn, "{clients} {servers} {toa}");
        let size = servers - 40;
        let packet = server(&stage, THEIRS, ISN + 1).syn().mss(size).build_buf();
        let sent = stage.pass(SERVERS, packet);
        assert_eq!(mss(&sent), answer, "{clients} {servers} {toa}");
        // Full segments of both sides fit, the option included.
        let full = client().seq(ISN + 1).ack(THEIRS + 1).payload_len(answer.into()).build_buf();
        let sent = stage.pass(CLIENTS, full);
        assert_eq!(fields(sent.data()).tcp.unwrap().option(254).is_some(), toa);
        let full = server(&stage, THEIRS + 1, ISN + 1).payload_len(syn.into()).build_buf();
        stage.pass(SERVERS, full);
    }
}

#[test]
fn who_sends_too_much_is_told_what_fits_in_his_own_version() {
    // IPv6 clients: 20 bytes more than the IPv4 link takes; 20 less where the option is to fit, too.
    for (toa, mtu) in [(false, 1520), (true, 1500)] {
        let change = telling(match toa {
            true => ClientAddrMode::Toa(ToaOptions::default()),
            false => ClientAddrMode::None,
        });
        let mut stage = links(plan(change), 9000, 1500);
        connect(&mut stage);
        let data = |len: usize| client().seq(ISN + 1).ack(THEIRS + 6).payload_len(len).build_buf();
        stage.pass(CLIENTS, data(1460));
        assert_eq!(told(&mut stage, CLIENTS, &data(1461)), mtu);
        // IPv4 servers: 20 bytes less than the IPv6 link takes.
        let mut stage = links(plan(untold), 1400, 9000);
        connect(&mut stage);
        let data = |stage: &Stage, len| server(stage, THEIRS + 6, ISN + 1).payload_len(len);
        let (fits, not) = (data(&stage, 1340).build_buf(), data(&stage, 1341).build_buf());
        stage.pass(SERVERS, fits);
        assert_eq!(told(&mut stage, SERVERS, &not), 1380);
    }
}

#[test]
fn what_every_ipv6_link_takes_goes_on_in_fragments_where_the_ipv4_link_does_not() {
    let mut stage = links(plan(untold), 1500, 600);
    connect(&mut stage);
    let data = |len: usize| client().seq(ISN + 1).ack(THEIRS + 6).payload_len(len).build_buf();
    let (report, sent) = stage.feed(CLIENTS, data(1220));
    assert!(matches!(report.verdict, Verdict::Forward(SERVERS)), "{report:?}");
    assert_eq!(sent.len(), 3);
    let pieces: Vec<Fields> = sent.iter().map(|(_, frame)| fields(frame.data())).collect();
    assert!(sent.iter().all(|(_, frame)| frame.data().len() <= 14 + 600));
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.segment.clone()).collect();
    assert_eq!(bytes.len(), 1240);
    assert_eq!(pieces[1].fragment.map(|(_, more)| more), Some(true));
    // RFC 7915 section 5.1: larger ones are not.
    assert_eq!(told(&mut stage, CLIENTS, &data(1221)), 1280);
}

/// The pieces of a datagram put together again.
fn together(sent: &[(PortId, MemBuf)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (_, frame) in sent {
        assert!(frame.data().len() <= 14 + 1500);
        let fields = fields(frame.data());
        let (at, _) = fields.fragment.expect("a piece");
        assert_eq!(at, all.len());
        all.extend(fields.segment);
    }
    assert_eq!(fields(sent.last().unwrap().1.data()).fragment.map(|(_, more)| more), Some(false));
    all
}

/// A datagram between these ends; what its bytes behind the IP header are.
fn datagram(from: &str, to: &str, len: usize) -> (Vec<u8>, Vec<u8>) {
    let frame = udp().from(from).to(to).payload_len(len).build();
    let bytes = fields(&frame).segment;
    (frame, bytes)
}

#[test]
fn a_datagram_in_pieces_changes_the_version_piece_by_piece_in_any_order() {
    for first_at in [0, 2] {
        let mut stage = plan(untold).stage();
        let (frame, _) = datagram("[fd00::2]:999", "[fd00::80]:53", 3000);
        let mut pieces = fragments(&frame, 1280, 0x0001_2345);
        let first = pieces.remove(0);
        pieces.insert(first_at, first);
        let mut sent = Vec::new();
        for piece in &pieces {
            sent.extend(stage.feed(CLIENTS, MemBuf::from_bytes(piece)).1);
        }
        assert_eq!(sent.len(), 3);
        sent.sort_by_key(|(_, frame)| fields(frame.data()).fragment.map(|(at, _)| at));
        let (local, real) = inside(&stage);
        let (_, expected) = datagram(&local.to_string(), &real.to_string(), 3000);
        assert_eq!(together(&sent), expected, "its checksum is that of the whole datagram");
        // The lower half of the identification (RFC 7915 section 5.1.1).
        assert!(sent.iter().all(|(_, frame)| frame.data()[18..20] == [0x23, 0x45]));

        // The answer of a server that cuts it for its own link: each piece gets a fragment header and may have to be
        // cut once more.
        let (frame, _) = datagram(&real.to_string(), &local.to_string(), 3000);
        let mut pieces = fragments(&frame, 1500, 0x777);
        let first = pieces.remove(0);
        pieces.insert(first_at, first);
        let mut sent = Vec::new();
        for piece in &pieces {
            sent.extend(stage.feed(SERVERS, MemBuf::from_bytes(piece)).1);
        }
        sent.sort_by_key(|(_, frame)| fields(frame.data()).fragment.map(|(at, _)| at));
        let (_, expected) = datagram("[fd00::80]:53", "[fd00::2]:999", 3000);
        assert_eq!(together(&sent), expected);
    }
}

#[test]
fn a_datagram_that_may_be_cut_and_does_not_fit_as_ipv6_is_cut() {
    let mut stage = plan(untold).stage();
    let ask = udp().from("[fd00::2]:999").to("[fd00::80]:53").payload_len(9).build_buf();
    stage.pass(CLIENTS, ask);
    let (local, real) = inside(&stage);
    let answer = |len| udp().from(real).to(local).payload_len(len).ident(9);
    let (report, sent) = stage.feed(SERVERS, answer(1472).dont_fragment(false).build_buf());
    assert!(matches!(report.verdict, Verdict::Forward(CLIENTS)), "{report:?}");
    let (_, expected) = datagram("[fd00::80]:53", "[fd00::2]:999", 1472);
    assert_eq!(together(&sent), expected);
    stage.refused(DropReason::TooBig, SERVERS, answer(1472).dont_fragment(true).build_buf());
    // A checksum that is not there cannot be computed from a piece.
    let unsummed = answer(1472).dont_fragment(false).l4_csum(Csum::Value(0)).build_buf();
    stage.refused(DropReason::Nat64NoChecksum, SERVERS, unsummed);
    let unsummed = udp().from(real).to(local).payload_len(2000).l4_csum(Csum::Value(0)).build();
    let pieces = fragments(&unsummed, 1500, 7);
    stage.refused(DropReason::Nat64NoChecksum, SERVERS, MemBuf::from_bytes(&pieces[0]));
}

#[test]
fn a_syn_in_pieces_opens_nothing() {
    let mut stage = plan(untold).stage();
    let syn = client().syn().seq(ISN).payload_len(2000).build();
    for piece in fragments(&syn, 1280, 5) {
        stage.refused(DropReason::Fragment, CLIENTS, MemBuf::from_bytes(&piece));
    }
}
