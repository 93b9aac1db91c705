//! A client and two servers around a director, whose services tell addresses in a given way.

use crate::support;
use core::cell::RefCell;
use core::time::Duration;
use lvs_core::io::mem::{MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::service::{ClientAddrMode, Forwarding, ProxyOptions, ProxyVersion};
use lvs_core::snapshot::SnapshotSpec;
use lvs_core::time::Time;
use lvs_core::timeouts::Timeouts;
use lvs_director::{Director, Outputs};
use lvs_testkit::net::{Host, HostId, Net, Wire};

pub(crate) const V4: &str = "10.0.0.80:80";
pub(crate) const V6: &str = "[fd00::80]:80";

pub(crate) struct World<'d> {
    pub(crate) net: Net<'d>,
    pub(crate) client: HostId,
    pub(crate) servers: [HostId; 2],
}

/// The standard services with another way to tell the client's address. Sessions outlive every
/// retransmission.
pub(crate) fn spec(forwarding: Forwarding, mode: ClientAddrMode) -> SnapshotSpec {
    let mut spec = support::spec(forwarding);
    for service in &mut spec.services {
        service.client_addr = mode;
        service.timeouts = Timeouts::RFC;
    }
    spec
}

pub(crate) const fn proxy(version: ProxyVersion) -> ProxyOptions {
    ProxyOptions {
        version,
        client: lvs_core::service::ClientHeader::Replace,
        timing: lvs_core::service::ProxyTiming::FirstData,
    }
}

pub(crate) fn world<'d>(
    seed: u64,
    wire: Wire,
    forwarding: Forwarding,
    director: &'d RefCell<Director<'d>>,
) -> World<'d> {
    let mut net = Net::new(seed);
    // Frames are damaged on one of the two wires only: two flipped bits can cancel in a checksum.
    let whole = Wire { corrupt: 0, ..wire };
    let (left, right) = if (seed / 2).is_multiple_of(2) { (wire, whole) } else { (whole, wire) };
    let (left, right) = (net.segment(left), net.segment(right));
    let client = Host::new("client").addr("10.0.0.2/24").addr("fd00::2/64").timestamps();
    let client = net.host(left, client);
    let servers =
        [("server1", "10.1.0.11/24", "fd01::11/64"), ("server2", "10.1.0.12/24", "fd01::12/64")]
            .map(|(name, v4, v6)| {
                let host = Host::new(name).addr(v4).addr(v6);
                let host = match forwarding {
                    Forwarding::Nat => host.gateway("10.1.0.1").gateway("fd01::1"),
                    _ => host,
                };
                net.host(right, host)
            });
    let lane = MemLane::new([MemPort::default(), MemPort::default()]);
    let mut out = Outputs::new(2);
    let device = net.device(lane, move |now, lane| {
        turn(&mut director.borrow_mut(), Time(now), lane, &mut out);
    });
    net.set_tick(device, Duration::from_millis(50));
    net.attach(device, PortId(0), left);
    net.attach(device, PortId(1), right);
    World { net, client, servers }
}

fn turn(
    director: &mut Director<'_>,
    now: Time,
    lane: &mut MemLane,
    out: &mut Outputs<<MemLane as Lane>::Buf>,
) {
    let mut burst = Burst::new();
    for port in (0..lane.port_count()).map(PortId) {
        while lane.rx_burst(port, &mut burst) != Ok(0) {
            director.process(now, lane, port, &mut burst, out);
            out.flush(lane);
        }
    }
    director.expire(now, 10_000);
    director.tick(now, lane, out);
    out.flush(lane);
}

/// How many seeds to try: `LVS_SEEDS` for the long run.
pub(crate) fn seeds(default: u64) -> core::ops::Range<u64> {
    let many = std::env::var("LVS_SEEDS").ok().and_then(|text| text.parse().ok());
    0..many.unwrap_or(default)
}
