//! Many connections at once through a rig: opened, and answered once.
#![allow(unreachable_pub, reason = "a module of this test alone")]

use crate::world::*;
use lvs_core::flow::WireTuple;
use lvs_core::io::PacketBuf;
use lvs_core::io::mem::MemBuf;
use lvs_core::plan::PortPlan;
use lvs_testkit::workers::Rig;
use std::collections::{HashMap, HashSet};

/// Packets that wait in the device at once.
pub const WAVE: u32 = 500;

/// What came of many flows.
pub struct Flows {
    /// Of the SYN as the server sees it, and who opened it.
    pub opened: HashMap<WireTuple, usize>,
    /// Answers that were delivered to another worker than their session's.
    pub strayed: u32,
}

/// Opens a session for each client, and answers each once.
pub fn run<P: PortPlan>(rig: &mut Rig<'_, P>, numbers: core::ops::Range<u32>, v6: bool) -> Flows {
    let mut flows = Flows { opened: HashMap::new(), strayed: 0 };
    let numbers: Vec<u32> = numbers.collect();
    for wave in numbers.chunks(WAVE as usize) {
        for number in wave {
            rig.nic.inject(CLIENTS, syn(*number, v6)).unwrap();
        }
        rig.settle(NOW);
        let mut expected = HashSet::new();
        let there: Vec<(usize, MemBuf)> = core::iter::from_fn(|| rig.take_sent(SERVERS)).collect();
        assert_eq!(there.len(), wave.len(), "{:#?}", rig.counters());
        for (worker, frame) in there {
            let tuple = tuple(&frame);
            assert_eq!(flows.opened.insert(tuple, worker), None, "INV-7: {tuple}");
            let seq = headers(&frame).tcp(frame.data()).unwrap().seq();
            let queue = rig.nic.inject(SERVERS, syn_ack(&tuple, seq.wrapping_add(1))).unwrap();
            flows.strayed += u32::from(usize::from(queue) != worker);
        }
        rig.settle(NOW);
        while let Some((_, frame)) = rig.take_sent(CLIENTS) {
            let tuple = tuple(&frame);
            assert_eq!(tuple.src(), service(v6).ip());
            assert!(expected.insert((tuple.dst(), tuple.dport())), "answered twice: {tuple}");
        }
        let clients: HashSet<_> = wave
            .iter()
            .map(|number| client(*number, v6))
            .map(|client| (client.ip(), client.port()))
            .collect();
        assert_eq!(expected, clients, "each client has its answer");
    }
    flows
}
