//! A director that gets pieces beside one that gets the datagram whole.

use crate::cut::{cut, fix_v4, join};
use crate::stage::{CLIENT, CLIENTS, Plan, SERVERS, Stage, from_client};
use crate::support::service;
use lvs_core::flow::L4Proto;
use lvs_core::io::PortId;
use lvs_core::io::mem::MemBuf;
use lvs_core::service::Forwarding;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_testkit::build::{Csum, udp};
use lvs_testkit::oracle;
use proptest::prelude::*;

pub(crate) const CLIENT6: &str = "[fd00::2]:40000";
pub(crate) const NAMES: &str = "10.0.0.80:53";
pub(crate) const NAMES6: &str = "[fd00::80]:53";

/// Links that take everything, UDP in both families, one server each.
pub(crate) fn plan(mode: Forwarding) -> Plan {
    let mut plan = Plan::new(mode);
    plan.spec.services.push(service(NAMES6, L4Proto::Udp, mode, &["[fd01::11]:53"]));
    (plan.port.mtu, plan.port.caps.max_frame) = (9000, 9014);
    for service in &mut plan.spec.services {
        service.servers.truncate(1);
    }
    plan
}

pub(crate) fn ends(v6: bool) -> (&'static str, &'static str) {
    if v6 { (CLIENT6, NAMES6) } else { (CLIENT, NAMES) }
}

/// A datagram of the client.
pub(crate) fn question(
    v6: bool,
    len: usize,
) -> lvs_testkit::build::Packet<lvs_testkit::build::Udp> {
    let (from, to) = ends(v6);
    udp().from(from).to(to).payload_len(len).dont_fragment(false)
}

/// A TCP session whose segments gain nothing any more.
fn settled(stage: &mut Stage) {
    stage.pass(CLIENTS, from_client().syn().seq(7).build_buf());
    let reply = stage.reply().syn().ack(8).seq(99).build_buf();
    stage.pass(SERVERS, reply);
    stage.pass(CLIENTS, from_client().seq(8).ack(100).build_buf());
    let reply = stage.reply().seq(100).ack(8).payload_len(10).build_buf();
    stage.pass(SERVERS, reply);
    stage.pass(CLIENTS, from_client().seq(8).ack(110).build_buf());
}

#[derive(Clone, Copy, Debug)]
enum What {
    Question,
    Answer,
    Segment,
    SegmentBack,
}

fn whats() -> impl Strategy<Value = What> {
    prop_oneof![
        Just(What::Question),
        Just(What::Answer),
        Just(What::Segment),
        Just(What::SegmentBack)
    ]
}

/// Prepares a stage, and makes the datagram: the same for the same arguments.
fn scene(stage: &mut Stage, what: What, v6: bool, len: usize, csum: Csum) -> (PortId, Vec<u8>) {
    match what {
        What::Question => (CLIENTS, question(v6, len).l4_csum(csum).build()),
        What::Answer => {
            stage.pass(CLIENTS, question(v6, 9).build_buf());
            let quad = stage.session().quad;
            let answer = udp().from(quad.server).to(quad.local).payload_len(len);
            (SERVERS, answer.dont_fragment(false).l4_csum(csum).build())
        }
        What::Segment => {
            settled(stage);
            let segment = from_client().seq(8).ack(110).payload_len(len);
            (CLIENTS, segment.dont_fragment(false).l4_csum(csum).build())
        }
        What::SegmentBack => {
            settled(stage);
            let segment = stage.reply().seq(110).ack(8).payload_len(len);
            (SERVERS, segment.dont_fragment(false).l4_csum(csum).build())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 600 } else { 3000 }))]

    /// INV-3: joined at the other side, the pieces are the datagram translated whole, a wrong checksum wrong by as much.
    #[test]
    fn pieces_in_any_order_become_the_datagram_that_would_have_been(
        full: bool, v6: bool, what in whats(), len in 60usize..1900, wrong in 0u8..4, ident: u32,
        places in prop::collection::vec(0usize..375, 1..11), order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mode = if full { Forwarding::FullNat } else { Forwarding::Nat };
        let is_tcp = matches!(what, What::Segment | What::SegmentBack);
        let csum = match wrong {
            0 => Csum::Wrong,
            // "None", which only UDP over IPv4 has.
            1 if !is_tcp && !v6 => Csum::Value(0),
            _ => Csum::Full,
        };
        let [mut whole, mut pieces] = [(), ()].map(|()| plan(mode).stage());
        let (port, frame) = scene(&mut whole, what, v6, len, csum);
        prop_assert_eq!(scene(&mut pieces, what, v6, len, csum), (port, frame.clone()));
        // A first fragment holds the whole transport header.
        let floor = if is_tcp { 24 } else { 8 };
        let places: Vec<usize> = places.iter().map(|at| at * 8).filter(|at| *at >= floor).collect();
        let parts = cut(&frame, &places, ident);
        prop_assume!(parts.len() > 1);
        let order: Vec<usize> = order.into_iter().filter(|at| *at < parts.len()).collect();
        prop_assert_eq!(order.len(), parts.len());

        let (mut sent, mut held, mut first_came) = (Vec::new(), 0, false);
        for at in &order {
            let (report, out) = pieces.feed(port, MemBuf::from_bytes(&parts[*at]));
            first_came |= *at == 0;
            if first_came {
                prop_assert!(matches!(report.verdict, Verdict::Forward(_)), "{report:?}");
            } else {
                prop_assert_eq!(report.verdict, Verdict::Absorb(Absorbed::WaitsForFirst));
                held += 1;
            }
            sent.extend(out);
        }
        let arrived: Vec<Vec<u8>> = sent.iter().map(|(_, frame)| frame.to_vec()).collect();
        // The first one leads, the others follow in the order in which they came.
        let mut expected = vec![0];
        expected.extend(order.iter().copied().filter(|at| *at != 0));
        let offsets = |frames: &[Vec<u8>]| frames.iter().map(|f| offset(f)).collect::<Vec<_>>();
        let wanted: Vec<Vec<u8>> = expected.iter().map(|at| parts[*at].clone()).collect();
        prop_assert_eq!(offsets(&arrived), offsets(&wanted));
        let translated = ident_of(whole.pass(port, MemBuf::from_bytes(&frame)).to_vec(), ident);
        let joined = join(&arrived).expect("nothing is missing");
        prop_assert!(joined == translated, "another datagram arrived");
        if matches!(csum, Csum::Full) {
            oracle::checksums_ok(&joined).unwrap();
        }
        let counters = pieces.director.counters();
        prop_assert_eq!((counters.fragments_held, counters.dropped_total()), (held, 0));
        prop_assert_eq!(pieces.director.pieces(), (0, 0), "nothing is remembered");
        crate::support::every_packet_is_counted_once(counters);
        // Bytes and packets of pieces count as those of packets.
        let (one, other) = (pieces.session(), whole.session());
        prop_assert_eq!((one.quad, one.state), (other.quad, other.state));
    }
}

/// Where in its datagram a piece lies.
fn offset(frame: &[u8]) -> u16 {
    if frame[12] == 8 {
        (u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff) * 8
    } else {
        u16::from_be_bytes([frame[56], frame[57]]) & !7
    }
}

/// The number in an IPv4 header, which pieces have of their own.
fn ident_of(mut frame: Vec<u8>, ident: u32) -> Vec<u8> {
    if frame[12] == 8 {
        let end = frame.len();
        frame = crate::cut::piece(&frame, 0, end - 34, false, ident);
    }
    frame
}

/// A path with smaller links cuts pieces further, and tells about those that must not be cut.
#[test]
fn pieces_that_do_not_fit_are_cut_or_their_sender_is_told() {
    let mut narrow = plan(Forwarding::FullNat);
    narrow.spec.interfaces[1].mtu = Some(600);
    let mut stage = narrow.stage();
    let frame = question(false, 2000).build();
    let mut sent = Vec::new();
    for part in cut(&frame, &[1480], 7).iter().rev() {
        sent.extend(stage.feed(CLIENTS, MemBuf::from_bytes(part)).1);
    }
    assert_eq!((sent.len(), stage.director.counters().packets_cut), (4, 1));
    let arrived: Vec<Vec<u8>> = sent.into_iter().map(|(_, frame)| frame.to_vec()).collect();
    assert!(arrived.iter().all(|frame| frame.len() <= 614));
    oracle::checksums_ok(&join(&arrived).unwrap()).unwrap();

    let mut narrow = plan(Forwarding::FullNat);
    narrow.spec.interfaces[1].mtu = Some(600);
    narrow.errors = lvs_director::ErrorRate::default();
    let mut stage = narrow.stage();
    for v6 in [false, true] {
        let mut parts = cut(&question(v6, 2000).build(), &[800, 1600], 8);
        if !v6 {
            for part in &mut parts {
                // DF in a fragment: some senders do both.
                part[20] |= 0x40;
                fix_v4(&mut part[14..34]);
            }
        }
        let made = stage.director.counters().icmp_made;
        let (report, sent) = stage.feed(CLIENTS, MemBuf::from_bytes(&parts[0]));
        assert_eq!(report.verdict, Verdict::Drop(DropReason::TooBig));
        assert_eq!((sent.len(), sent[0].0), (1, CLIENTS), "its sender is told");
        let (report, sent) = stage.feed(CLIENTS, MemBuf::from_bytes(&parts[1]));
        assert!(matches!(report.verdict, Verdict::Drop(_)), "{report:?}");
        assert!(sent.is_empty(), "once");
        assert_eq!(stage.director.counters().icmp_made, made + 1);
    }
}
