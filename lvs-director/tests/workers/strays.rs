//! What no device can steer: ICMP errors, answers of neighbours; and what must not go round.

use crate::world::*;
use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::{RealAddr, VirtualAddr};
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::WorkerId;
use lvs_core::io::mem::{MemBuf, RSS_KEY};
use lvs_core::io::{PacketBuf, Rss};
use lvs_core::plan::{AnyPlan, LowBits, PortPlan, Toeplitz};
use lvs_core::service::ServiceKey;
use lvs_core::verdict::DropReason;
use lvs_director::RingSize;
use lvs_nat::icmp::echo as echo_of;
use lvs_testkit::build::{IcmpError, arp_reply, echo, echo_reply, icmp_error, ndp_advert, udp};
use lvs_testkit::workers::{Rig, Setup};

const TABLE: [u16; 8] = [0, 3, 1, 2, 2, 0, 3, 1];

fn by_hash(worker: WorkerId) -> Toeplitz {
    Toeplitz::new(Rss { key: &RSS_KEY, table: &TABLE }, 1024, 65535, worker, 4).unwrap()
}

/// Errors translated, by worker.
fn translated<P: PortPlan>(rig: &Rig<'_, P>) -> Vec<u64> {
    rig.workers.iter().map(|worker| worker.director.counters().icmp_translated).collect()
}

fn router(v6: bool) -> IpAddr {
    if v6 { "2001:db8:1::1" } else { "192.0.2.1" }.parse().unwrap()
}

/// An error arrives where the addresses of router and director lead, and ends at the worker that owns the
/// session of the packet that it quotes: one about a packet to a server by its local port, one about a
/// packet to a client by the client's tuple.
#[test]
fn icmp_errors_end_at_the_worker_that_owns_the_quoted_session() {
    for v6 in [false, true] {
        let plans = plans(4, by_hash);
        let mut memory = memory(&plans);
        let mut rig = rig(nic(4, Some((&RSS_KEY, &TABLE))), plans, &mut memory);
        let (mut moved, mut kept) = (0, 0);
        for number in 0..40 {
            let opener = usize::from(rig.nic.inject(CLIENTS, syn(number, v6)).unwrap());
            rig.settle(NOW);
            let (worker, sent) = rig.take_sent(SERVERS).unwrap();
            assert_eq!(worker, opener);
            rig.nic.inject(SERVERS, syn_ack(&tuple(&sent), 1)).unwrap();
            rig.settle(NOW);
            let (_, back) = rig.take_sent(CLIENTS).unwrap();
            for (port, packet) in [(SERVERS, sent), (CLIENTS, back)] {
                let quote = if v6 { 48 } else { 28 };
                let error = icmp_error(IcmpError::HostUnreachable, packet.data(), quote);
                let to = tuple(&packet).src();
                let error = error.from(router(v6)).to(to).dst_mac(MAC).build_buf();
                let queue = usize::from(rig.nic.inject(port, error).unwrap());
                let mut expected = translated(&rig);
                let handed = rig.counters().handed_over;
                rig.settle(NOW);
                expected[opener] += 1;
                assert_eq!(translated(&rig), expected, "by its owner, once");
                let other = if port == SERVERS { CLIENTS } else { SERVERS };
                let (worker, sent) = rig.take_sent(other).expect("it is sent on");
                assert_eq!(worker, opener);
                lvs_testkit::oracle::checksums_ok(sent.data()).unwrap();
                assert!(rig.take_sent(other).is_none() && rig.take_sent(port).is_none());
                let passes = rig.counters().handed_over - handed;
                assert_eq!(passes, u64::from(queue != opener), "handed over once, or not at all");
                *(if queue == opener { &mut kept } else { &mut moved }) += 1;
            }
        }
        assert!(moved > 20 && kept > 5, "{moved} moved, {kept} kept");
    }
}

/// Devices hash the addresses of echo messages alone, so replies come to whichever worker; and errors about requests.
#[test]
fn echo_replies_and_errors_about_requests_end_at_the_worker_that_owns_the_session() {
    for v6 in [false, true] {
        let plans = plans(4, by_hash);
        let mut memory = memory(&plans);
        let mut spec = spec();
        let mut echoes = spec.services[usize::from(v6)].clone();
        echoes.key =
            ServiceKey::new(L4Proto::Icmp, VirtualAddr(SocketAddr::new(service(v6).ip(), 0)));
        spec.services.push(echoes);
        let setup = Setup::new(spec.build(None).unwrap(), SIZES);
        let mut rig = Rig::new(&setup, nic(4, Some((&RSS_KEY, &TABLE))), plans, &mut memory);
        let mut moved = 0;
        for number in 0..40 {
            let from = client(3 * number, v6).ip();
            let ask = echo(7, 1).dst_mac(MAC).from(from).to(service(v6).ip()).build_buf();
            let opener = usize::from(rig.nic.inject(CLIENTS, ask).unwrap());
            rig.settle(NOW);
            let (worker, sent) = rig.take_sent(SERVERS).expect("it is sent on");
            assert_eq!(worker, opener);
            let there = echo_of(sent.data(), &headers(&sent)).unwrap();
            let reply = echo_reply(there.id, 1).dst_mac(MAC).from(there.dst).to(there.src);
            let error = icmp_error(IcmpError::TimeExceeded, sent.data(), if v6 { 48 } else { 28 });
            let error = error.from(router(v6)).to(there.src).dst_mac(MAC);
            for stray in [reply.build_buf(), error.build_buf()] {
                let queue = usize::from(rig.nic.inject(SERVERS, stray).unwrap());
                rig.settle(NOW);
                let (worker, back) = rig.take_sent(CLIENTS).expect("it comes back");
                assert_eq!(worker, opener, "INV-17");
                assert_eq!(headers(&back).addresses(back.data()), Some((service(v6).ip(), from)));
                lvs_testkit::oracle::checksums_ok(back.data()).unwrap();
                moved += u32::from(queue != opener);
            }
        }
        assert!(moved > 30, "{moved} moved");
        assert_eq!(rig.counters().dropped_total(), 0);
    }
}

/// Two workers of a broken installation each think that the other one owns everything.
struct Other(LowBits, WorkerId);

impl PortPlan for Other {
    fn slots(&self) -> u32 {
        self.0.slots()
    }
    fn port_for(&self, slot: u32, local: IpAddr, server: &RealAddr) -> Option<u16> {
        self.0.port_for(slot, local, server)
    }
    fn slot_of(&self, _reply: &WireTuple) -> Option<u32> {
        None
    }
    fn owner_of(&self, _reply: &WireTuple) -> Option<WorkerId> {
        Some(self.1)
    }
}

#[test]
fn a_packet_that_nobody_owns_does_not_go_round() {
    let plans = plans(2, |me| Other(LowBits::new(1024, 65535, me, 2).unwrap(), WorkerId(1 - me.0)));
    let mut memory = memory(&plans);
    let mut rig = rig(nic(2, None), plans, &mut memory);
    rig.nic.inject(CLIENTS, syn(1, false)).unwrap();
    rig.settle(NOW);
    let (_, sent) = rig.take_sent(SERVERS).unwrap();
    rig.nic.inject(SERVERS, syn_ack(&tuple(&sent), 1)).unwrap();
    rig.settle(NOW);
    let counters = rig.counters();
    assert_eq!((counters.handed_over, counters.taken_over), (2, 2));
    assert_eq!(counters.dropped(DropReason::HandOverLoop), 1);
    assert_eq!(counters.received.packets, 4, "the client's, and three times the server's");
}

#[test]
fn a_full_ring_drops_and_counts_and_works_again() {
    let plans = plans(2, |worker| LowBits::new(1024, 65535, worker, 2).unwrap());
    let mut memory = memory(&plans);
    let setup = Setup { rings: Some(RingSize(1024)), ..Setup::new(snapshot(), SIZES) };
    let mut rig = Rig::new(&setup, nic(2, None), plans, &mut memory);
    let mut strays = Vec::new();
    for number in 0..200 {
        let opener = rig.nic.inject(CLIENTS, syn(number, false)).unwrap();
        rig.settle(NOW);
        let (_, sent) = rig.take_sent(SERVERS).unwrap();
        if opener == 1 {
            strays.push(syn_ack(&tuple(&sent), 1));
        }
    }
    // All of them to worker 0, which hands them over before worker 1 takes any.
    let count = strays.len() as u64;
    for stray in strays {
        rig.nic.lane(0).unwrap().inject(SERVERS, stray).unwrap();
    }
    let (worker, lane) = rig.split().next().unwrap();
    while worker.round(NOW, lane) > 0 {}
    let full = rig.counters().dropped(DropReason::HandOverFull);
    assert!(full > 0 && full < count, "{full} of {count}");
    rig.settle(NOW);
    let counters = rig.counters();
    assert_eq!(counters.handed_over, count - full);
    assert_eq!(counters.handed_over, counters.taken_over);
    assert_eq!(rig.nic.lanes().iter().map(|lane| lane.held(SERVERS)).sum::<usize>(), 0);
    // A packet that is longer than the ring never fits.
    let long = udp().from(server(0, false)).to("10.1.1.1:1025").dst_mac(MAC).payload_len(1200);
    rig.nic.lane(0).unwrap().inject(SERVERS, long.build_buf()).unwrap();
    rig.settle(NOW);
    assert_eq!(rig.counters().dropped(DropReason::HandOverFull), full + 1);
}

/// The answer of a neighbour reaches one worker; the others, which asked as well, learn it from that one.
#[test]
fn what_a_neighbour_answers_is_known_to_all_workers() {
    for v6 in [false, true] {
        let plans = plans(4, |worker| AnyPlan::for_device(None, 1024, 65535, worker, 4).unwrap().0);
        let mut memory = memory(&plans);
        let mut spec = spec();
        let gateway =
            |ip: IpAddr| ip == IpAddr::from([10, 0, 0, 254]) || ip.to_string() == "fd00::fe";
        spec.neighbours.retain(|neighbour| gateway(neighbour.ip));
        let setup = Setup::new(spec.build(None).unwrap(), SIZES);
        let mut rig = Rig::new(&setup, nic(4, None), plans, &mut memory);
        let mut openers = std::collections::BTreeSet::new();
        for number in 0..40 {
            openers.insert(rig.nic.inject(CLIENTS, syn(number * 7919, v6)).unwrap());
        }
        assert_eq!(openers.len(), 4, "every worker has sessions");
        rig.settle(NOW);
        let questions = core::iter::from_fn(|| rig.take_sent(SERVERS)).count();
        assert_eq!(questions, 4 * usize::from(SERVER_COUNT), "every worker asks for every server");
        for number in 0..SERVER_COUNT {
            let answer = match server(number, v6).ip() {
                IpAddr::V4(ip) => arp_reply(ROUTER, ip, MAC, [10, 1, 0, 1].into()).build(),
                IpAddr::V6(ip) => {
                    ndp_advert(ROUTER, ip, MAC, "fd01::1".parse().unwrap(), 3).build()
                }
            };
            rig.nic.inject(SERVERS, MemBuf::from_bytes(&answer)).unwrap();
        }
        rig.settle(NOW);
        assert_eq!(core::iter::from_fn(|| rig.take_sent(SERVERS)).count(), 40);
        assert_eq!(rig.counters().learned, u64::from(SERVER_COUNT), "by one worker each");
    }
}

const ROUTER: lvs_core::addr::MacAddr = lvs_core::addr::MacAddr([2, 9, 9, 9, 9, 9]);
