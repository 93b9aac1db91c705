//! NAT64: an IPv4 server's reply reaches the worker that owns its IPv6 client's session (INV-17), steered by
//! the same local ports as any other.

use crate::flows::run;
use crate::world::*;
use lvs_core::addr::RealAddr;
use lvs_core::flow::WireTuple;
use lvs_core::io::mem::RSS_KEY;
use lvs_core::io::{PacketBuf, Rss};
use lvs_core::plan::{AnyPlan, PortPlan};
use lvs_core::session::{HeapMemory, StoreConfig, TableConfig};
use lvs_core::snapshot::{Snapshot, SnapshotSpec};
use lvs_testkit::build::{IcmpError, icmp_error};
use lvs_testkit::workers::{Rig, Setup, memories};

/// IPv6 sessions of each worker.
const ROOM: u32 = 3000;
const SIZES: StoreConfig = StoreConfig {
    v6: TableConfig { local_addresses: LOCALS, general: ROOM },
    ..crate::world::SIZES
};

/// IPv4 servers behind both services.
fn snapshot() -> Snapshot {
    let SnapshotSpec { mut services, .. } = spec();
    for (number, server) in (0u16..).zip(&mut services[1].servers) {
        server.addr = RealAddr(crate::world::server(number, false));
    }
    SnapshotSpec { services, ..spec() }.build(None).unwrap()
}

fn memory<P: PortPlan>(plans: &[P]) -> Vec<HeapMemory> {
    memories(&SIZES, plans)
}

#[test]
fn replies_of_ipv4_servers_land_on_the_worker_of_their_ipv6_client() {
    for workers in [2u16, 4] {
        let table: Vec<u16> = (0..128).map(|at| at * 37 % 128 % workers).collect();
        let rss = Rss { key: &RSS_KEY, table: &table };
        let plans = plans(workers, |worker| {
            AnyPlan::for_device(Some(rss), 1024, 65535, worker, workers).unwrap().0
        });
        assert!(plans.iter().all(|plan| matches!(plan, AnyPlan::Toeplitz(_))));
        let mut memory = memory(&plans);
        let nic = nic(workers, Some((&RSS_KEY, &table)));
        let mut rig = Rig::new(&Setup::new(snapshot(), SIZES), nic, plans, &mut memory);
        // IPv4 flows on the same local addresses besides.
        for v6 in [true, false] {
            let flows = run(&mut rig, 0..2000, v6);
            assert!(flows.opened.keys().all(|there| matches!(there, WireTuple::V4(_))));
            assert_eq!((flows.opened.len(), flows.strayed), (2000, 0));
        }
        let counters = rig.counters();
        assert_eq!((counters.handed_over, counters.dropped_total()), (0, 0));
    }
}

#[test]
fn replies_that_the_device_cannot_steer_are_handed_over_in_their_own_version() {
    let plans = plans(2, |worker| AnyPlan::for_device(None, 1024, 65535, worker, 2).unwrap().0);
    assert!(plans.iter().all(|plan| matches!(plan, AnyPlan::LowBits(_))));
    let mut memory = memory(&plans);
    let mut rig = Rig::new(&Setup::new(snapshot(), SIZES), nic(2, None), plans, &mut memory);
    let flows = run(&mut rig, 0..2000, true);
    assert!((800..1200).contains(&flows.strayed), "{} of 2000 astray", flows.strayed);
    assert_eq!(rig.counters().handed_over, u64::from(flows.strayed));
    assert_eq!(rig.counters().dropped_total(), 0);

    // So are errors about packets to servers, which reach the clients.
    let before = rig.counters().handed_over;
    for there in flows.opened.keys() {
        let (src, dst) = (there.src(), there.dst());
        let sent = lvs_testkit::build::tcp()
            .from(core::net::SocketAddr::new(src, there.sport()))
            .to(core::net::SocketAddr::new(dst, there.dport()))
            .build();
        let error = icmp_error(IcmpError::HostUnreachable, &sent, 28).from(dst).to(src);
        rig.nic.inject(SERVERS, error.dst_mac(MAC).build_buf()).unwrap();
        rig.settle(NOW);
        let (_, told) = rig.take_sent(CLIENTS).expect("the client is told");
        assert_eq!((told.data()[14] >> 4, told.data()[20]), (6, 58));
    }
    assert_eq!(rig.counters().icmp_translated, 2000);
    assert!(rig.counters().handed_over > before);
}
