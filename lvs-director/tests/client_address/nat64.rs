//! NAT64: IPv6 clients, IPv4 servers, over wires that lose, double, reorder and damage frames. The server reads the
//! client's IPv6 address, and only then speaks.

use crate::support;
use crate::transfers::Transfers;
use crate::world::{V6, proxy, seeds};
use lvs_core::service::{ClientAddrMode, Forwarding, ProxyVersion, ToaOptions};
use lvs_core::timeouts::Timeouts;

fn run(seed: u64, each: u32, mode: ClientAddrMode) {
    let mut spec = support::nat64();
    for service in &mut spec.services {
        (service.client_addr, service.timeouts) = (mode, Timeouts::RFC);
    }
    let forwarding = Forwarding::FullNat;
    Transfers { seed, each, forwarding, mode, service: V6 }.run_on(spec, false);
}

fn modes() -> [ClientAddrMode; 3] {
    let [v1, v2] =
        [ProxyVersion::V1, ProxyVersion::V2].map(|version| ClientAddrMode::Proxy(proxy(version)));
    [ClientAddrMode::Toa(ToaOptions::default()), v1, v2]
}

#[test]
fn on_good_wires_every_ipv4_server_knows_its_ipv6_clients() {
    modes().into_iter().for_each(|mode| run(1, 0, mode));
}

/// `LVS_SEEDS=1000` for the long run.
#[test]
fn on_rough_wires_no_byte_is_lost_between_ipv6_and_ipv4() {
    for seed in seeds(25) {
        let each = if seed % 2 == 0 { 10_000 } else { 30_000 };
        modes().into_iter().for_each(|mode| run(100 + seed, each, mode));
    }
}
