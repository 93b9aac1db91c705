//! Frames from somebody who means harm: each gets one verdict and one counter, nothing malformed gets
//! further than that, and a connection beside it does not notice.

mod support;

use lvs_core::addr::MacAddr;
use lvs_core::flow::WireTuple;
use lvs_core::io::mem::{MemBuf, MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::service::Forwarding;
use lvs_core::session::{Cursor, HeapMemory, Session};
use lvs_core::snapshot::StaticNeighbour;
use lvs_core::time::Time;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_core::wire::{Headers, Parsed};
use lvs_director::{Director, Outputs, Report};
use lvs_testkit::build::{
    CLIENT_MAC, Ext, Packet, ROUTER_MAC, Tcp, arp_request, echo, flag, ndp_solicit, option, tcp,
    udp,
};
use lvs_testkit::oracle;
use lvs_testkit::strategies::{Broken, Damage, hostile, nearly_valid, tcp_packet, udp_packet};
use proptest::prelude::*;

const CLIENTS: PortId = PortId(0);
const SERVERS: PortId = PortId(1);
const SERVERS_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x5e]);
const NOW: Time = Time(1 << 40);
const V6: (&str, &str) = ("[fd00::2]:40000", "[fd00::80]:80");

/// A director between two ports, whose neighbours are all known.
struct Bed<'m> {
    director: Director<'m>,
    lane: MemLane,
    out: Outputs<MemBuf>,
}

impl<'m> Bed<'m> {
    fn new(forwarding: Forwarding, memory: &'m mut HeapMemory) -> Self {
        let known = [
            ("10.0.0.2", CLIENT_MAC),
            ("fd00::2", CLIENT_MAC),
            ("10.1.0.11", SERVER_MAC),
            ("10.1.0.12", SERVER_MAC),
            ("fd01::11", SERVER_MAC),
            ("fd01::12", SERVER_MAC),
        ];
        let mut spec = support::spec(forwarding);
        spec.neighbours =
            known.map(|(ip, mac)| StaticNeighbour { ip: ip.parse().unwrap(), mac }).to_vec();
        let ports = [ROUTER_MAC, SERVERS_MAC].map(MemPort::new);
        Self {
            director: support::director(spec, memory),
            lane: MemLane::new(ports),
            out: Outputs::new(2),
        }
    }

    /// One frame; its report, and what left. INV-2 holds for it.
    fn feed(&mut self, port: PortId, frame: &[u8]) -> (Report, Vec<(PortId, Vec<u8>)>) {
        let before = self.director.counters().clone();
        self.lane.inject(port, MemBuf::from_bytes(frame)).unwrap();
        let mut burst = Burst::new();
        assert_eq!(self.lane.rx_burst(port, &mut burst), Ok(1));
        let packet = burst.pop().unwrap();
        let report = self.director.process_one(NOW, &mut self.lane, port, packet, &mut self.out);
        self.out.flush(&mut self.lane);
        let mut sent = Vec::new();
        for port in [CLIENTS, SERVERS] {
            while let Some(packet) = self.lane.take_sent(port) {
                sent.push((port, packet.to_vec()));
            }
            assert_eq!(self.lane.held(port), 0, "the frame was not given back");
        }
        let after = self.director.counters();
        let verdicts = |c: &lvs_core::counters::Counters| {
            c.forwarded
                + c.answered
                + c.released
                + c.learned
                + c.waiting
                + c.fragments_held
                + c.dropped_total()
        };
        assert_eq!(after.received.packets, before.received.packets + 1, "INV-2");
        // Fragments that were held count again with their fate.
        let again = verdicts(after) - verdicts(&before) - 1;
        assert!(again <= before.fragments_held, "{:?} INV-2: {again} more", report.verdict);
        if let Verdict::Drop(reason) = report.verdict {
            let dropped = after.dropped(reason) - before.dropped(reason);
            assert!((1..=1 + again).contains(&dropped), "INV-2: {reason} {dropped} times");
            assert!(sent.len() as u64 <= again, "{reason}, but something left");
        }
        (report, sent)
    }

    /// Feeds a frame that is malformed: dropped as such, and nothing has changed (INV-11).
    fn refuses(&mut self, frame: &[u8]) -> DropReason {
        let before = self.sessions();
        let (report, _) = self.feed(CLIENTS, frame);
        let Verdict::Drop(reason) = report.verdict else {
            panic!("{:?} for {frame:02x?}", report.verdict);
        };
        assert!(is_malformed(reason), "{reason} for {frame:02x?}");
        assert_eq!(report.session, None);
        assert_eq!(self.sessions(), before, "a session has changed (INV-11)");
        reason
    }

    fn sessions(&self) -> Vec<Session> {
        let (mut all, mut cursor) = (Vec::new(), Some(Cursor::default()));
        while let Some(at) = cursor.filter(|_| !self.director.store().is_empty()) {
            cursor = self.director.store().scan(at, u32::MAX, |session| all.push(*session));
        }
        all
    }

    /// Passes a good frame and returns what it has become.
    fn carries(&mut self, from: PortId, frame: &[u8]) -> Vec<u8> {
        let (report, sent) = self.feed(from, frame);
        let to = if from == CLIENTS { SERVERS } else { CLIENTS };
        assert_eq!(report.verdict, Verdict::Forward(to));
        let [(port, bytes)] = <[_; 1]>::try_from(sent).unwrap();
        assert_eq!((port, oracle::checksums_ok(&bytes)), (to, Ok(())));
        bytes
    }
}

/// Reasons that say "this is no packet".
fn is_malformed(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::MalformedEthernet
            | DropReason::MalformedArp
            | DropReason::MalformedIpv4
            | DropReason::BadIpChecksum
            | DropReason::MalformedIpv6
            | DropReason::MalformedTcp
            | DropReason::MalformedUdp
            | DropReason::MalformedIcmp
    )
}

fn syn() -> Packet<Tcp> {
    tcp().syn()
}

fn in_v6<P: lvs_testkit::build::Layer4>(packet: Packet<P>) -> Packet<P> {
    packet.from(V6.0).to(V6.1)
}

/// An established connection: what its two ends send, as it arrives.
#[derive(Clone)]
struct Connection {
    client: Vec<u8>,
    server: Vec<u8>,
}

impl Connection {
    fn open(bed: &mut Bed<'_>, v6: bool) -> Self {
        let client = |packet: Packet<Tcp>| if v6 { in_v6(packet) } else { packet };
        let seen = bed.carries(CLIENTS, &client(syn().seq(1000).mss(1460)).build());
        let seen = oracle::fields(&seen).unwrap();
        let (ports, isn) = (seen.ports.unwrap(), seen.tcp.unwrap().seq);
        let server = |packet: Packet<Tcp>| {
            let packet = packet.from((seen.dst, ports.1)).to((seen.src, ports.0));
            packet.src_mac(SERVER_MAC).dst_mac(SERVERS_MAC)
        };
        let answer = tcp().syn().seq(7000).ack(isn.wrapping_add(1)).mss(1460);
        bed.carries(SERVERS, &server(answer).build());
        bed.carries(CLIENTS, &client(tcp().seq(1001).ack(7001)).build());
        let data = tcp().psh().seq(7001).ack(isn.wrapping_add(1)).payload_len(8);
        bed.carries(SERVERS, &server(data).build());
        bed.carries(CLIENTS, &client(tcp().seq(1001).ack(7009)).build());
        let reply = tcp().psh().seq(7009).ack(isn.wrapping_add(1)).payload_len(100);
        Self {
            client: client(tcp().psh().seq(1001).ack(7009).payload_len(60)).build(),
            server: server(reply).build(),
        }
    }

    /// One segment each way: what comes out.
    fn talk(&self, bed: &mut Bed<'_>) -> [Vec<u8>; 2] {
        [bed.carries(CLIENTS, &self.client), bed.carries(SERVERS, &self.server)]
    }

    /// Whether a frame belongs to this connection, so that it may rightly change it.
    fn has(&self, frame: &[u8]) -> bool {
        let own = [&self.client, &self.server].map(|frame| tuple(frame).unwrap());
        tuple(frame).is_some_and(|tuple| own.contains(&tuple))
    }
}

fn tuple(frame: &[u8]) -> Option<WireTuple> {
    match Headers::parse(frame, frame.len()) {
        Ok(Parsed::Ip(headers)) => headers.tuple,
        _ => None,
    }
}

/// Sound frames of every kind, each as short as its IP packet.
fn sound_frames() -> Vec<Vec<u8>> {
    let to_service = ("10.0.0.2", "10.0.0.80");
    vec![
        syn().linux_options(1460).build(),
        in_v6(syn().linux_options(1440)).build(),
        tcp().ack(1).payload_len(30).build(),
        tcp().ack(1).vlan(5).vlan(6).payload_len(3).build(),
        udp().to("10.0.0.80:53").payload_len(30).build(),
        in_v6(udp().payload_len(30)).build(),
        in_v6(udp()).ext(Ext::HopByHop(vec![])).ext(Ext::Destination(vec![0; 14])).build(),
        udp().to("10.0.0.80:53").ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]).build(),
        echo(1, 2).from(to_service.0).to(to_service.1).payload_len(20).build(),
        echo(1, 2).from("fd00::2").to("fd00::80").payload_len(20).build(),
        arp_request(CLIENT_MAC, [10, 0, 0, 2].into(), [10, 0, 0, 80].into()).build(),
        ndp_solicit(CLIENT_MAC, "fd00::2".parse().unwrap(), "fd00::80".parse().unwrap()).build(),
    ]
}

#[test]
fn a_frame_that_ends_early_is_dropped_as_malformed_wherever_it_ends() {
    let mut memory = support::memory();
    let mut bed = Bed::new(Forwarding::FullNat, &mut memory);
    for frame in sound_frames() {
        let (report, _) = bed.feed(CLIENTS, &frame);
        let malformed = |reason| is_malformed(reason);
        assert!(
            !matches!(report.verdict, Verdict::Drop(reason) if malformed(reason)),
            "{report:?}"
        );
        for len in 0..frame.len() {
            bed.refuses(&frame[..len]);
        }
    }
}

#[test]
fn every_wrong_ip_length_is_dropped_as_malformed() {
    let mut memory = support::memory();
    let mut bed = Bed::new(Forwarding::FullNat, &mut memory);
    // Without payload there is only one right length.
    for len in (0..=u16::MAX).filter(|len| *len != 40) {
        bed.refuses(&syn().ip_len(len).build());
    }
    for len in (0..=u16::MAX).filter(|len| *len != 20) {
        bed.refuses(&in_v6(syn()).ip_len(len).build());
    }
    for words in (0..16).filter(|words| *words != 5) {
        bed.refuses(&syn().ihl(words).build());
    }
    assert_eq!(bed.director.store().len(), 0);
}

#[test]
fn every_wrong_transport_length_is_dropped_as_malformed() {
    let mut memory = support::memory();
    let mut bed = Bed::new(Forwarding::FullNat, &mut memory);
    for words in (0..16).filter(|words| *words != 5) {
        assert_eq!(bed.refuses(&syn().data_offset(words).build()), DropReason::MalformedTcp);
        assert_eq!(bed.refuses(&in_v6(syn()).data_offset(words).build()), DropReason::MalformedTcp);
    }
    for len in (0..=u16::MAX).filter(|len| *len != 8) {
        let v4 = udp().to("10.0.0.80:53").udp_len(len).build();
        assert_eq!(bed.refuses(&v4), DropReason::MalformedUdp);
        assert_eq!(bed.refuses(&in_v6(udp()).udp_len(len).build()), DropReason::MalformedUdp);
    }
    assert_eq!(bed.director.store().len(), 0);
}

#[test]
fn every_wrong_extension_header_length_is_dropped_as_malformed() {
    let mut memory = support::memory();
    let mut bed = Bed::new(Forwarding::FullNat, &mut memory);
    for kind in [0, 43, 60] {
        // One unit of eight bytes; the UDP header behind it cannot be one as well.
        for units in 1..=255u8 {
            let header = Ext::Any(kind, vec![units, 0, 0, 0, 0, 0, 0]);
            bed.refuses(&in_v6(udp()).ext(header).build());
        }
    }
}

/// The slow twin of the option walk: kind, length, value, by RFC 9293 section 3.1.
fn are_framed(options: &[u8]) -> bool {
    match options {
        [] | [0, ..] => true,
        [1, rest @ ..] => are_framed(rest),
        [_, len, ..] if *len >= 2 => options.get(usize::from(*len)..).is_some_and(are_framed),
        _ => false,
    }
}

#[test]
fn every_wrong_tcp_option_length_is_dropped_as_malformed() {
    let mut memory = support::memory();
    let mut bed = Bed::new(Forwarding::FullNat, &mut memory);
    for kind in 0..=255u8 {
        for len in 0..=255u8 {
            let options = [kind, len, 1, 1, 1, 1, 1, 1];
            let frame = syn().options(&options).build();
            if are_framed(&options) {
                let (report, _) = bed.feed(CLIENTS, &frame);
                assert_eq!(report.verdict, Verdict::Forward(SERVERS), "{options:?}");
                assert!(bed.director.purge(report.session.unwrap()).is_some());
            } else {
                assert_eq!(bed.refuses(&frame), DropReason::MalformedTcp, "{options:?}");
            }
        }
    }
    assert_eq!((bed.director.store().len(), bed.director.store().ports_in_use()), (0, 0), "INV-9");
}

/// Frames that are made to hurt the connection: beginnings of its own frames with noise behind them or
/// bytes changed, and whatever else is hostile.
fn attack(of: Connection) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let own = prop::sample::select(vec![of.client, of.server]);
    let cut = any::<prop::sample::Index>();
    let noise = prop::collection::vec(any::<u8>(), 0..120);
    let prefixed = (own.clone(), cut, noise).prop_map(|(mut frame, cut, noise)| {
        frame.truncate(cut.index(frame.len() + 1));
        frame.extend(noise);
        frame
    });
    let edits = prop::collection::vec((0usize..74, any::<u8>()), 1..4);
    let edited = (own, edits).prop_map(|(mut frame, edits)| {
        for (at, value) in edits {
            frame[at] = value;
        }
        frame
    });
    prop::collection::vec(prop_oneof![2 => prefixed, 2 => edited, 1 => hostile()], 1..30)
}

/// An established connection on a director of its own.
fn sample(v6: bool) -> Connection {
    let mut memory = support::memory();
    Connection::open(&mut Bed::new(Forwarding::FullNat, &mut memory), v6)
}

proptest! {
    #[test]
    fn frames_with_one_thing_wrong_are_dropped_and_open_nothing(broken in nearly_valid()) {
        let Broken { damage, built } = broken;
        prop_assume!(damage != Damage::TransportChecksum);
        let mut memory = support::memory();
        let mut bed = Bed::new(Forwarding::FullNat, &mut memory);
        bed.refuses(&built.frame);
        prop_assert_eq!(bed.director.store().len(), 0);
    }

    #[test]
    fn packets_to_a_service_are_dropped_as_malformed_when_cut_anywhere(
        tcp in tcp_packet(),
        udp in udp_packet(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut memory = support::memory();
        let mut bed = Bed::new(Forwarding::Nat, &mut memory);
        let (tcp, udp) = (addressed(tcp, 80), addressed(udp, 53));
        for frame in [tcp, udp] {
            bed.refuses(&frame[..at.index(frame.len())]);
        }
        prop_assert_eq!(bed.director.store().len(), 0);
    }

    #[test]
    fn hostile_frames_get_one_verdict_each_in_every_mode(
        frames in prop::collection::vec((hostile(), any::<bool>()), 1..20),
    ) {
        for forwarding in [Forwarding::FullNat, Forwarding::Nat] {
            let mut memory = support::memory();
            let mut bed = Bed::new(forwarding, &mut memory);
            for (frame, from_clients) in &frames {
                let (report, _) = bed.feed(if *from_clients { CLIENTS } else { SERVERS }, frame);
                if Headers::parse(frame, frame.len()).is_err() {
                    let malformed =
                        matches!(report.verdict, Verdict::Drop(reason) if is_malformed(reason));
                    prop_assert!(malformed, "{:?}", report);
                }
            }
            let end = Time(NOW.0 + 1_000_000_000_000);
            while bed.director.expire(end, u32::MAX) > 0 {}
            let store = bed.director.store();
            prop_assert_eq!((store.len(), store.ports_in_use()), (0, 0), "INV-9");
        }
    }

    #[test]
    fn a_connection_under_attack_stays_right_byte_for_byte(
        (v6, frames) in any::<bool>().prop_flat_map(|v6| (Just(v6), attack(sample(v6)))),
        from_servers in any::<bool>(),
    ) {
        let (mut memory, mut quiet_memory) = (support::memory(), support::memory());
        let mut bed = Bed::new(Forwarding::FullNat, &mut memory);
        let mut quiet = Bed::new(Forwarding::FullNat, &mut quiet_memory);
        let connection = Connection::open(&mut bed, v6);
        let untouched = Connection::open(&mut quiet, v6);
        let port = if from_servers { SERVERS } else { CLIENTS };
        for frame in frames.iter().filter(|frame| !connection.has(frame)) {
            bed.feed(port, frame);
            prop_assert_eq!(connection.talk(&mut bed), untouched.talk(&mut quiet));
        }
        // Its record is the same, too: state, numbers, time stamps, counters.
        let record = quiet.sessions();
        prop_assert!(bed.sessions().iter().any(|session| record == [*session]));
    }
}

/// The packet, from the client to a service of its family.
fn addressed<P: lvs_testkit::build::Layer4>(packet: Packet<P>, port: u16) -> Vec<u8> {
    let (from, to) =
        if packet.is_v6() { ("fd00::2", "fd00::80") } else { ("10.0.0.2", "10.0.0.80") };
    let address = |text: &str| text.parse::<core::net::IpAddr>().unwrap();
    let built = packet.from((address(from), 40_000)).to((address(to), port)).build_parts();
    built.frame[..built.end].to_vec()
}

#[test]
fn scans_leave_an_established_session_alone() {
    let mut memory = support::memory();
    let mut bed = Bed::new(Forwarding::FullNat, &mut memory);
    let connection = Connection::open(&mut bed, false);
    let record = bed.sessions();
    for flags in 0..=255u8 {
        let null = flags & (flag::SYN | flag::ACK | flag::FIN | flag::RST) == 0;
        let odd = flags & flag::SYN != 0 && flags & (flag::FIN | flag::RST) != 0;
        if !null && !odd {
            continue;
        }
        let (report, _) = bed.feed(CLIENTS, &tcp().flags(flags).seq(1001).build());
        let expected = if null { DropReason::NullSegment } else { DropReason::BadFlags };
        assert_eq!(report.verdict, Verdict::Drop(expected), "{flags:#04x}");
        assert_eq!(bed.sessions(), record, "INV-11");
    }
    let forged = option::toa(([192, 0, 2, 1], 7).into());
    bed.refuses(&tcp().ack(1).options(&forged[..7]).data_offset(15).build());
    connection.talk(&mut bed);
}
