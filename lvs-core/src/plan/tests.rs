//! The laws of plans that need no hash.

use super::*;
use crate::flow::L4Proto;
use std::collections::HashMap;
use std::vec::Vec;

const LOCAL: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 1, 0, 100));

fn server() -> RealAddr {
    RealAddr::new([10, 1, 0, 11].into(), 80)
}

fn reply(port: u16) -> WireTuple {
    WireTuple::new(L4Proto::Tcp, server().ip(), 80, LOCAL, port).unwrap()
}

fn obeys_the_laws(plan: &impl PortPlan, me: WorkerId) -> Vec<u16> {
    let mut ports = Vec::new();
    for slot in 0..plan.slots() {
        let port = plan.port_for(slot, LOCAL, &server()).unwrap();
        assert_eq!(plan.slot_of(&reply(port)), Some(slot));
        assert_eq!(plan.owner_of(&reply(port)), Some(me));
        ports.push(port);
    }
    assert_eq!(plan.port_for(plan.slots(), LOCAL, &server()), None);
    ports
}

#[test]
fn whole_gives_every_port_of_the_range_once() {
    let plan = Whole::new(1025, 65535).unwrap();
    assert_eq!(obeys_the_laws(&plan, WorkerId(0)), (1025..=65535).collect::<Vec<_>>());
    assert_eq!(plan.slot_of(&reply(1024)), None);
    let one = Whole::new(65535, 65535).unwrap();
    assert_eq!(obeys_the_laws(&one, WorkerId(0)), [65535]);
    assert_eq!(Whole::new(0, 9), Err(PlanError::BadRange));
    assert_eq!(Whole::new(9, 8), Err(PlanError::BadRange));
}

#[test]
fn low_bits_shares_the_range_without_overlap() {
    for (workers, first, last) in
        [(1u16, 1025u16, 2000u16), (2, 1025, 65535), (3, 5000, 5100), (8, 1, 65535)]
    {
        let mut owner: HashMap<u16, u8> = HashMap::new();
        for worker in 0..u8::try_from(workers).unwrap() {
            let plan = LowBits::new(first, last, WorkerId(worker), workers).unwrap();
            for port in obeys_the_laws(&plan, WorkerId(worker)) {
                assert!((first..=last).contains(&port));
                assert_eq!(owner.insert(port, worker), None, "port {port} twice");
            }
        }
        let all = LowBits::new(first, last, WorkerId(0), workers).unwrap();
        for port in first..=last {
            assert_eq!(all.owner_of(&reply(port)).map(|w| w.0), owner.get(&port).copied());
        }
    }
}

#[test]
fn low_bits_refuses_what_cannot_work() {
    assert_eq!(LowBits::new(10, 20, WorkerId(2), 2), Err(PlanError::BadWorker));
    assert_eq!(LowBits::new(10, 20, WorkerId(0), 0), Err(PlanError::BadWorker));
    assert_eq!(LowBits::new(10, 10, WorkerId(1), 2), Err(PlanError::BadRange));
}
