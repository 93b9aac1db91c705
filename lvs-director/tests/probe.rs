//! Random packets through a whole director: what leaves is right, is what came in, and is counted.

mod support;

use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::io::Lane;
use lvs_core::io::mem::{MemBuf, MemPort};
use lvs_core::service::Forwarding;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_testkit::build::{Csum, arp_reply, arp_request, flag, sum::ones_sum, tcp, udp};
use lvs_testkit::{nic, oracle, strategies};
use proptest::prelude::*;
use support::bench::{Bench, CLIENTS, MAC, SERVERS};

/// A packet of a client to a service.
#[derive(Clone, Debug)]
struct Aimed {
    packet: MemBuf,
    /// Its transport checksum is wrong.
    corrupt: bool,
}

/// Packets of few clients with few ports, so that they meet each other's sessions: any flags, options
/// and payload, with complete, unfinished and wrong checksums, as trains, with bytes behind the end.
fn aimed() -> impl Strategy<Value = Aimed> {
    let from = (any::<bool>(), 2u8..4, 1u16..4);
    let segment = (strategies::tcp_flags(), any::<u32>(), strategies::tcp_options());
    (from, proptest::option::of(segment), strategies::payload(), 0u8..4, 0usize..20).prop_map(
        |((v6, host, port), segment, payload, kind, pad)| {
            let from = match v6 {
                true => format!("[fd00::{host:x}]:{port}"),
                false => format!("10.0.0.{host}:{port}"),
            };
            let csum = match kind {
                1 => Csum::Partial,
                2 => Csum::Wrong,
                _ => Csum::Full,
            };
            let train = kind == 3 && payload.len() > 100;
            let packet = match segment {
                Some((flags, seq, options)) => {
                    let ack = if flags & flag::ACK != 0 { 77 } else { 0 };
                    let to = if v6 { "[fd00::80]:80" } else { "10.0.0.80:80" };
                    let packet = tcp().flags(flags).seq(seq).ack_number(ack).options(&options);
                    let packet = packet.payload(payload).from(from.as_str()).to(to).dst_mac(MAC);
                    let opens_or_ends = flags & (flag::SYN | flag::FIN | flag::RST) != 0;
                    match train && !opens_or_ends {
                        true => packet.gso(90).build_buf(),
                        false => packet.l4_csum(csum).pad(pad).build_buf(),
                    }
                }
                None => {
                    let to = if v6 { "[fd00::80]:53" } else { "10.0.0.80:53" };
                    let packet = udp().payload(payload).from(from.as_str()).to(to).dst_mac(MAC);
                    packet.l4_csum(csum).pad(pad).build_buf()
                }
            };
            Aimed { packet, corrupt: kind == 2 }
        },
    )
}

fn payloads<'a>(frames: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    frames.into_iter().flat_map(|frame| oracle::fields(frame).unwrap().payload).collect()
}

/// The director's own acknowledgement that carries the client address ahead of a full segment.
fn is_ahead(frame: &[u8]) -> bool {
    let of = oracle::fields(frame).unwrap();
    let carries = |tcp: oracle::TcpFields| tcp.flags == flag::ACK && tcp.option(254).is_some();
    of.payload.is_empty() && of.tcp.is_some_and(carries)
}

/// Feeds the packets one by one and judges each frame that leaves.
fn probe(forwarding: Forwarding, packets: Vec<Aimed>, plain: bool) -> Result<(), TestCaseError> {
    let mut memory = support::memory();
    let port = if plain { MemPort::plain(MAC) } else { MemPort::new(MAC) };
    let mut bench = Bench::new(support::spec(forwarding), &mut memory, port);
    for Aimed { packet, corrupt } in packets {
        let came = nic::on_wire(&packet);
        let sessions = bench.sessions();
        let (report, frames) = bench.feed(CLIENTS, packet);
        let (ahead, inside): (Vec<_>, Vec<_>) = frames
            .iter()
            .filter(|(port, _)| *port == SERVERS)
            .map(|(_, frame)| frame.clone())
            .partition(|frame| is_ahead(frame) && !payloads(&came).is_empty());
        for frame in &inside {
            // INV-3.
            let sums = oracle::checksums_ok(frame);
            prop_assert_eq!(sums.is_err(), corrupt, "{:?}\n{:02x?}\n{:02x?}", sums, came, frame);
        }
        for frame in inside.iter().filter(|_| !corrupt).chain(&ahead) {
            prop_assert_eq!(oracle::accepted(frame), Ok(()), "{:02x?}\n{:02x?}", came, frame);
        }
        for (_, answer) in frames.iter().filter(|(port, _)| *port == CLIENTS) {
            prop_assert_eq!(oracle::checksums_ok(answer), Ok(()), "{:02x?}\n{:02x?}", came, answer);
        }
        match report.verdict {
            Verdict::Forward(_) | Verdict::Absorb(Absorbed::WaitsForNeighbour) => {
                prop_assert_eq!(payloads(&inside), payloads(&came));
            }
            verdict => {
                prop_assert!(inside.is_empty() && ahead.is_empty(), "{:?} and sent", verdict);
                // INV-11: not a slot, not a state, not a time stamp.
                prop_assert_eq!(bench.sessions(), sessions, "{:?}", verdict);
            }
        }
    }
    nothing_is_lost(&mut bench)
}

fn nothing_is_lost(bench: &mut Bench<'_>) -> Result<(), TestCaseError> {
    // Whatever waits for a neighbour is given up.
    bench.pass(Duration::from_secs(10), Duration::from_millis(10));
    for port in [CLIENTS, SERVERS] {
        // Every buffer has come back.
        prop_assert_eq!(bench.lane.held(port), 0);
        prop_assert_eq!(bench.lane.stats(port).tx_rejected, 0, "unfit for its port");
    }
    prop_assert_eq!(bench.lane.allocated(), 0);
    support::every_packet_is_counted_once(bench.director.counters());
    bench.pass(Duration::from_secs(400), Duration::from_secs(1));
    // INV-9.
    let store = bench.director.store();
    prop_assert_eq!((store.len(), store.ports_in_use()), (0, 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_fullnat_forwards_is_right_and_complete(
        packets in prop::collection::vec(aimed(), 1..30),
        plain: bool,
    ) {
        probe(Forwarding::FullNat, packets, plain)?;
    }

    #[test]
    fn what_nat_forwards_is_right_and_complete(
        packets in prop::collection::vec(aimed(), 1..30),
        plain: bool,
    ) {
        probe(Forwarding::Nat, packets, plain)?;
    }

    #[test]
    fn hostile_frames_neither_get_lost_nor_leave_anything_behind(
        frames in prop::collection::vec((strategies::hostile(), any::<[bool; 4]>()), 1..50),
    ) {
        let mut memory = support::memory();
        let spec = support::spec(Forwarding::FullNat);
        let mut bench = Bench::new(spec, &mut memory, MemPort::new(MAC));
        for (mut frame, [inside, to_us, to_service, answer]) in frames {
            if to_us && frame.len() >= 6 {
                frame[..6].copy_from_slice(&MAC.0);
            }
            if to_service && frame.len() >= 34 && frame[12..14] == [8, 0] {
                frame[24..26].fill(0);
                frame[30..34].copy_from_slice(&[10, 0, 0, 80]);
                let sum = !ones_sum(&[&frame[14..34]]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            bench.neighbours = answer;
            bench.feed(if inside { SERVERS } else { CLIENTS }, MemBuf::from_bytes(&frame));
        }
        nothing_is_lost(&mut bench)?;
    }
}

/// INV-11. A damaged SYN can carry the number of another connection; taken at its word it parts the
/// numbers of the client and the server of a session that is just opening.
#[test]
fn a_corrupt_syn_does_not_renumber_a_half_open_session() {
    let mut memory = support::memory();
    let spec = support::spec(Forwarding::FullNat);
    let mut bench = Bench::new(spec, &mut memory, MemPort::new(MAC));
    let syn = |seq| tcp().syn().seq(seq).from("10.0.0.2:1000").to("10.0.0.80:80").dst_mac(MAC);
    let seq_of = |frame: &[u8]| oracle::fields(frame).unwrap().tcp.unwrap().seq;

    let (_, first) = bench.feed(CLIENTS, syn(100).build_buf());
    let corrupt = MemBuf::from_bytes(&syn(900).wrong_l4_csum().build());
    let (report, sent) = bench.feed(CLIENTS, corrupt);
    assert_eq!(report.verdict, Verdict::Drop(DropReason::BadL4Checksum));
    assert!(sent.is_empty());
    let (_, again) = bench.feed(CLIENTS, syn(100).build_buf());
    assert_eq!(seq_of(&again[0].1), seq_of(&first[0].1));
    // The sound one of a client that gave its first attempt up does.
    let (_, anew) = bench.feed(CLIENTS, syn(900).build_buf());
    assert_ne!(seq_of(&anew[0].1), seq_of(&first[0].1));
}

/// INV-16. Packets that come from an address of the director, and answers that tell where it is, are
/// somebody else's; who asks for the address is still told the truth.
#[test]
fn nobody_else_is_believed_who_speaks_for_the_director() {
    let evil = MacAddr([2, 6, 6, 6, 6, 6]);
    let mut memory = support::memory();
    let spec = support::spec(Forwarding::FullNat);
    let mut bench = Bench::new(spec, &mut memory, MemPort::new(MAC));
    for own in ["10.0.0.1", "10.0.0.80", "10.1.0.1", "10.1.0.100"] {
        for port in [CLIENTS, SERVERS] {
            let packet = tcp().syn().from(format!("{own}:7").as_str()).to("10.0.0.80:80");
            let (report, sent) = bench.feed(port, packet.dst_mac(MAC).build_buf());
            assert_eq!(report.verdict, Verdict::Drop(DropReason::SpoofedSource), "{own}");
            assert!(sent.is_empty());
            let lie = arp_reply(evil, own.parse().unwrap(), MAC, "10.0.0.1".parse().unwrap());
            let (report, sent) = bench.feed(port, MemBuf::from_bytes(&lie.build()));
            assert!(!matches!(report.verdict, Verdict::Absorb(_)), "{own}: {:?}", report.verdict);
            assert!(sent.is_empty());
        }
    }
    assert_eq!(bench.director.hops().count(), 0, "nothing was learned");
    let question =
        arp_request(evil, "10.0.0.2".parse().unwrap(), "10.0.0.80".parse().unwrap()).build();
    let (_, sent) = bench.feed(CLIENTS, MemBuf::from_bytes(&question));
    let [(CLIENTS, answer)] = sent.as_slice() else { panic!("{sent:02x?}") };
    assert_eq!((&answer[20..22], &answer[22..28]), (&[0, 2][..], &MAC.0[..]));
}
