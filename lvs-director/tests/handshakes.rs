//! Handshakes that hosts seldom make and may: data in the SYN, and both sides opening at once.

mod support;

use core::net::SocketAddr;
use lvs_core::io::PortId;
use lvs_core::io::mem::{MemBuf, MemPort};
use lvs_core::service::{ClientAddrMode, Forwarding, ToaOptions};
use lvs_core::session::TcpState;
use lvs_core::verdict::Verdict;
use lvs_testkit::build::{Packet, Tcp, flag, tcp};
use lvs_testkit::oracle::{self, Fields};
use support::bench::{Bench, CLIENTS, MAC, SERVERS};

/// Client and service of each family.
const ENDS: [[&str; 2]; 2] =
    [["10.0.0.2:4000", "10.0.0.80:80"], ["[fd00::2]:4000", "[fd00::80]:80"]];

/// NAT, FullNAT, and FullNAT with the client's address in the options.
const MODES: [(Forwarding, bool); 3] =
    [(Forwarding::Nat, false), (Forwarding::FullNat, false), (Forwarding::FullNat, true)];

fn bench(
    (forwarding, toa): (Forwarding, bool),
    memory: &mut lvs_core::session::HeapMemory,
) -> Bench<'_> {
    let mut spec = support::spec(forwarding);
    for service in &mut spec.services {
        let option = ClientAddrMode::Toa(ToaOptions::default());
        service.client_addr = if toa { option } else { ClientAddrMode::None };
    }
    Bench::new(spec, memory, MemPort::new(MAC))
}

/// What the only frame that left says.
fn passes(bench: &mut Bench<'_>, port: PortId, packet: MemBuf) -> Fields {
    let (report, sent) = bench.feed(port, packet);
    let verdict = report.verdict;
    assert!(matches!(verdict, Verdict::Forward(_) | Verdict::Absorb(_)), "{verdict:?}");
    let [(to, frame)] = &sent[..] else { panic!("{sent:?}") };
    assert_ne!(*to, port);
    oracle::checksums_ok(frame).unwrap();
    oracle::fields(frame).unwrap()
}

fn client([from, to]: [&str; 2]) -> Packet<Tcp> {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    tcp().from(at(from)).to(at(to)).dst_mac(MAC)
}

fn server(bench: &Bench<'_>) -> Packet<Tcp> {
    let quad = bench.sessions()[0].quad;
    tcp().from(quad.server).to(quad.local).dst_mac(MAC)
}

fn numbers(fields: &Fields) -> (u8, u32, u32) {
    let tcp = fields.tcp.as_ref().unwrap();
    (tcp.flags, tcp.seq, tcp.ack)
}

#[test]
fn data_in_a_syn_reaches_the_server_and_is_acknowledged_in_the_clients_numbers() {
    for (mode, ends) in MODES.iter().flat_map(|mode| ENDS.map(|ends| (*mode, ends))) {
        let mut memory = support::memory();
        let mut bench = bench(mode, &mut memory);
        let syn = client(ends).syn().seq(99).payload("early").build_buf();
        let there = passes(&mut bench, CLIENTS, syn);
        assert_eq!(there.payload, b"early", "{mode:?}");
        let (_, seq, _) = numbers(&there);
        let answer = server(&bench).syn().seq(500).ack(seq.wrapping_add(6)).build_buf();
        let back = passes(&mut bench, SERVERS, answer);
        assert_eq!(numbers(&back), (flag::SYN | flag::ACK, 500, 105), "{mode:?}");
        let next = client(ends).seq(105).ack(501).payload("more").build_buf();
        let there = passes(&mut bench, CLIENTS, next);
        assert_eq!((numbers(&there).1, &there.payload[..]), (seq.wrapping_add(6), &b"more"[..]));
        assert_eq!(bench.sessions()[0].state, TcpState::Established);
    }
}

#[test]
fn both_sides_may_open_at_once() {
    for (mode, ends) in MODES.iter().flat_map(|mode| ENDS.map(|ends| (*mode, ends))) {
        let mut memory = support::memory();
        let mut bench = bench(mode, &mut memory);
        let there = passes(&mut bench, CLIENTS, client(ends).syn().seq(99).build_buf());
        let (_, seq, _) = numbers(&there);
        // RFC 9293 figure 7: the SYNs cross, and each side answers the other's.
        let crossing = server(&bench).syn().seq(500).build_buf();
        let back = passes(&mut bench, SERVERS, crossing);
        assert_eq!((numbers(&back).0, numbers(&back).1), (flag::SYN, 500), "{mode:?}");
        let answer = client(ends).syn().seq(99).ack(501).build_buf();
        let there = passes(&mut bench, CLIENTS, answer);
        assert_eq!(numbers(&there), (flag::SYN | flag::ACK, seq, 501), "{mode:?}");
        let answer = server(&bench).syn().seq(500).ack(seq.wrapping_add(1)).build_buf();
        let back = passes(&mut bench, SERVERS, answer);
        assert_eq!(numbers(&back), (flag::SYN | flag::ACK, 500, 100), "{mode:?}");
        let data = client(ends).seq(100).ack(501).payload("hi").build_buf();
        let there = passes(&mut bench, CLIENTS, data);
        assert_eq!((numbers(&there).1, &there.payload[..]), (seq.wrapping_add(1), &b"hi"[..]));
        let data = server(&bench).seq(501).ack(seq.wrapping_add(3)).payload("ho").build_buf();
        let back = passes(&mut bench, SERVERS, data);
        assert_eq!((numbers(&back).2, &back.payload[..]), (102, &b"ho"[..]));
        assert_eq!((bench.sessions().len(), bench.sessions()[0].state), (1, TcpState::Established));
    }
}
