//! The lane keeps the contract that every back end is held to, INV-10 among it.

use crate::frames::{fresh, receive, send, small};
use crate::host::{namespace_test, veth};
use lvs_core::io::{PacketBuf, PortId};
use lvs_io_afpacket::{PacketLane, PortSockets, Rings};
use lvs_testkit::contract::{self, Rig};

/// Two ports under test, and a lane of their own at the far ends of their cables.
struct Cables<'m> {
    lane: PacketLane<'m>,
    far: PacketLane<'m>,
}

impl<'m> Rig for Cables<'m> {
    type Lane = PacketLane<'m>;

    fn lane(&mut self) -> &mut PacketLane<'m> {
        &mut self.lane
    }

    fn inject(&mut self, port: PortId, frame: &[u8]) {
        let packet = fresh(&mut self.far, frame);
        send(&mut self.far, port, vec![packet]);
    }

    fn sent(&mut self, port: PortId) -> Vec<Vec<u8>> {
        receive(&mut self.far, port).iter().map(|packet| packet.data().to_vec()).collect()
    }

    fn settle(&mut self) {
        std::thread::yield_now();
    }
}

namespace_test! {
    fn the_lane_keeps_the_contract_of_back_ends() {
        for (near, far) in [("a0", "b0"), ("a1", "b1")] {
            veth(near, far);
        }
        let near = ["a0", "a1"].map(|name| PortSockets::open(&small(name)).unwrap());
        let mut near = Rings::map_with_pool(near.into(), 100).unwrap();
        let mut far = Rings::open(&["b0", "b1"].map(small)).unwrap();
        let mut rig = Cables { lane: near.lane(), far: far.lane() };
        assert_eq!(contract::check(&mut rig), Ok(()));
    }
}
