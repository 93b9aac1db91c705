//! The device's receive hash of a reply leads to its session without being computed again, and whatever a device
//! says instead changes nothing but the time that it takes (INV-6).

use crate::world::*;
use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use lvs_core::addr::RealAddr;
use lvs_core::counters::Counters;
use lvs_core::flow::WireTuple;
use lvs_core::id::WorkerId;
use lvs_core::io::mem::{MemBuf, RSS_KEY};
use lvs_core::io::{PacketBuf, PortId, Rss, RxHash, RxHashKind};
use lvs_core::plan::{PortPlan, Toeplitz};
use lvs_testkit::build::tcp;
use lvs_testkit::workers::Rig;

const TABLE: [u16; 8] = [0, 3, 1, 2, 2, 0, 3, 1];
const FLOWS: u32 = 60;

/// Counts how often a slot is computed, and how often it follows from the device's hash.
struct Counting(Toeplitz, Cell<u32>, Cell<u32>);

impl PortPlan for Counting {
    fn slots(&self) -> u32 {
        self.0.slots()
    }
    fn port_for(&self, slot: u32, local: IpAddr, server: &RealAddr) -> Option<u16> {
        self.0.port_for(slot, local, server)
    }
    fn slot_of(&self, reply: &WireTuple) -> Option<u32> {
        self.1.set(self.1.get() + 1);
        self.0.slot_of(reply)
    }
    fn owner_of(&self, reply: &WireTuple) -> Option<WorkerId> {
        self.0.owner_of(reply)
    }
    fn slot_of_hashed(&self, reply: &WireTuple, hash: RxHash) -> Option<u32> {
        self.2.set(self.2.get() + 1);
        self.0.slot_of_hashed(reply, hash)
    }
}

/// What the device says about replies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Truth,
    Nothing,
    /// The hash of another session's reply.
    Another,
    /// A number that leads anywhere.
    Nonsense,
    /// The true hash in one packet, another one in the next.
    Now,
    /// The addresses only, as of a device that cannot hash UDP ports.
    Addresses,
}

struct Outcome {
    /// What left, by port and worker, in order.
    sent: Vec<(PortId, usize, Vec<u8>)>,
    counters: Counters,
    short: u64,
    computed: u32,
    hashed: u32,
}

/// A packet of a server in an open connection.
fn reply(there: &WireTuple, flags: u8, (seq, ack): (u32, u32), bytes: usize) -> MemBuf {
    let from = SocketAddr::new(there.dst(), there.dport());
    let to = SocketAddr::new(there.src(), there.sport());
    let segment = tcp().flags(flags).seq(seq).ack_number(ack).payload_len(bytes);
    segment.dst_mac(MAC).from(from).to(to).build_buf()
}

fn run(says: Says, v6: bool) -> Outcome {
    let rss = Rss { key: &RSS_KEY, table: &TABLE };
    let plans = plans(4, |worker| {
        let plan = Toeplitz::new(rss, 1024, 65535, worker, 4).unwrap();
        Counting(plan, Cell::new(0), Cell::new(0))
    });
    let mut memory = memory(&plans);
    let mut rig = rig(nic(4, Some((&RSS_KEY, &TABLE))), plans, &mut memory);
    let mut sent = Vec::new();
    for number in 0..FLOWS {
        rig.nic.inject(CLIENTS, syn(number, v6)).unwrap();
    }
    rig.settle(NOW);
    // The SYN as its server sees it, with its number; in the order of clients.
    let mut there: Vec<(WireTuple, u32)> = Vec::new();
    while let Some((worker, frame)) = rig.take_sent(SERVERS) {
        there.push((tuple(&frame), headers(&frame).tcp(frame.data()).unwrap().seq()));
        sent.push((SERVERS, worker, frame.to_vec()));
    }
    let mut count = 0u32;
    let mut answer =
        |rig: &mut Rig<'_, Counting>, packets: &mut dyn FnMut(&(WireTuple, u32)) -> Vec<MemBuf>| {
            for (index, flow) in there.iter().enumerate() {
                for mut packet in packets(flow) {
                    count += 1;
                    let (hash, queue) = rig.nic.steer(SERVERS, &packet);
                    let another = &there[(index + 1) % there.len()];
                    let other = rig.nic.steer(SERVERS, &reply(&another.0, 0x10, (0, 0), 0)).0;
                    packet.meta_mut().rx_hash = match says {
                        Says::Truth => hash,
                        Says::Nothing => None,
                        Says::Another => other,
                        Says::Nonsense => {
                            let value = count.wrapping_mul(0x9e37_79b1);
                            Some(RxHash { value, kind: RxHashKind::L4 })
                        }
                        Says::Now if count.is_multiple_of(2) => hash,
                        Says::Now => other,
                        Says::Addresses => Some(RxHash { value: count, kind: RxHashKind::L3 }),
                    };
                    rig.nic.lane(queue).unwrap().inject(SERVERS, packet).unwrap();
                }
            }
            rig.settle(NOW);
        };
    let from_clients = |rig: &mut Rig<'_, Counting>, ack: u32| {
        for number in 0..FLOWS {
            let segment = tcp().flags(0x10).seq(number + 1).ack_number(ack).dst_mac(MAC);
            let segment = segment.from(client(number, v6)).to(service(v6));
            rig.nic.inject(CLIENTS, segment.build_buf()).unwrap();
        }
        rig.settle(NOW);
    };
    answer(&mut rig, &mut |(to, isn)| vec![reply(to, 0x12, (7, isn.wrapping_add(1)), 0)]);
    from_clients(&mut rig, 8);
    answer(&mut rig, &mut |(to, isn)| vec![reply(to, 0x18, (8, isn.wrapping_add(1)), 100)]);
    from_clients(&mut rig, 108);
    // Plain by now: the short way, with segments among them that are not for it.
    answer(&mut rig, &mut |(to, isn)| {
        let ack = isn.wrapping_add(1);
        let data = |nr: u32, flags| reply(to, flags, (108 + nr * 50, ack), 50);
        vec![data(0, 0x10), data(1, 0x38), data(2, 0x10), data(3, 0x18)]
    });
    for port in [CLIENTS, SERVERS] {
        while let Some((worker, frame)) = rig.take_sent(port) {
            sent.push((port, worker, frame.to_vec()));
        }
    }
    let sum = |of: fn(&Counting) -> u32| {
        rig.workers.iter().map(|worker| of(worker.director.store().plan())).sum()
    };
    Outcome {
        counters: rig.counters(),
        short: rig.workers.iter().map(|worker| worker.director.short_way()).sum(),
        computed: sum(|plan| plan.1.get()),
        hashed: sum(|plan| plan.2.get()),
        sent,
    }
}

#[test]
fn whatever_the_device_says_the_same_packets_leave() {
    for v6 in [false, true] {
        let truth = run(Says::Truth, v6);
        assert_eq!((truth.counters.dropped_total(), truth.counters.handed_over), (0, 0));
        let replies = 6 * u64::from(FLOWS);
        assert_eq!(truth.sent.iter().filter(|(port, ..)| *port == CLIENTS).count() as u64, replies);
        assert_eq!(truth.computed, 0, "no hash of a reply was computed");
        assert!(u64::from(truth.hashed) >= replies);
        assert!(truth.short > 0, "some took the short way");
        for says in [Says::Nothing, Says::Another, Says::Nonsense, Says::Now, Says::Addresses] {
            let other = run(says, v6);
            assert!(by_flow(&other.sent) == by_flow(&truth.sent), "{says:?}: other packets left");
            assert_eq!(other.counters, truth.counters, "{says:?}");
            match says {
                Says::Nothing => assert_eq!(other.hashed, 0),
                Says::Addresses => assert_eq!(other.short, truth.short),
                _ => assert!(other.computed > 0, "{says:?}: found in the end by computing"),
            }
        }
    }
}

/// What left, in order within each connection: those that take the long way may leave behind others'.
fn by_flow(sent: &[(PortId, usize, Vec<u8>)]) -> Vec<(WireTuple, Vec<&[u8]>)> {
    let mut flows: Vec<(WireTuple, Vec<&[u8]>)> = Vec::new();
    for (_, _, frame) in sent {
        let key = tuple(&MemBuf::from_bytes(frame));
        match flows.iter_mut().find(|(flow, _)| *flow == key) {
            Some((_, frames)) => frames.push(frame),
            None => flows.push((key, vec![frame])),
        }
    }
    flows.sort_by_key(|(flow, _)| flow.to_string());
    flows
}
