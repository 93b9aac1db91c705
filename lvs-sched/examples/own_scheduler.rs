//! A scheduler of one's own: servers near the client first, and of these the one with the fewest sessions.
//!
//! `cargo run -p lvs-sched --example own_scheduler`; `cargo test` runs it too. Nothing here is special to the crate: a program names
//! `NEAREST` where it would name `lvs_sched::wlc::DEF`.

use core::net::IpAddr;
use lvs_core::addr::RealAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::{ServerId, WorkerId};
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad, Weight};

/// What a service names.
pub static NEAREST: SchedulerDef = SchedulerDef {
    name: "nearest",
    summary: "the longest common prefix with the client, then the fewest sessions",
    build: |_args| Box::new(Nearest { addresses: Vec::new() }),
};

/// The servers' addresses as bits, in the order of the list.
struct Nearest {
    addresses: Vec<u128>,
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl Scheduler for Nearest {
    // Off the packet path: here memory may be taken, and work done once.
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.addresses = servers.iter().map(|server| bits(server.addr.ip())).collect();
    }

    // On the packet path: no memory, no panic (so `get` and iterators instead of indices), bounded work.
    // Only servers that are available may be picked.
    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
        let client = bits(flow.src());
        let numbered = servers.iter().zip(&self.addresses).enumerate();
        let usable = numbered.filter(|(_, (server, _))| server.is_available());
        let nearest = usable.min_by_key(|(_, (server, address))| {
            let far = u128::BITS.saturating_sub((client ^ **address).leading_zeros());
            (far, server.active)
        });
        nearest.map(|(at, _)| at)
    }
}

/// Where three clients go, one after the other; the second and third come from the same net.
fn picks() -> Vec<String> {
    let server = |id: u16, ip: [u8; 4]| ServerLoad {
        id: ServerId(id),
        addr: RealAddr::new(ip.into(), 8080),
        weight: Weight(1),
        overloaded: false,
        active: 0,
        inactive: 0,
    };
    let mut servers =
        [server(0, [10, 1, 0, 11]), server(1, [10, 2, 0, 11]), server(2, [10, 2, 0, 12])];
    let mut scheduler = (NEAREST.build)(SchedulerArgs { worker: WorkerId(0), workers: 1 });
    scheduler.rebuild(&servers);

    let mut open = |client: [u8; 4], servers: &mut [ServerLoad]| {
        let flow = WireTuple::new(L4Proto::Tcp, client.into(), 4000, [10, 0, 0, 80].into(), 80);
        let at = scheduler.pick(&flow.expect("one family"), servers)?;
        servers[at].active += 1;
        Some(servers[at].addr.to_string())
    };
    [[10, 1, 9, 9], [10, 2, 9, 9], [10, 2, 9, 9]]
        .into_iter()
        .map(|client| open(client, &mut servers).expect("somebody is available"))
        .collect()
}

fn main() {
    println!("{}", picks().join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_go_to_the_nearest_servers_in_turn() {
        assert_eq!(picks(), ["10.1.0.11:8080", "10.2.0.11:8080", "10.2.0.12:8080"]);
    }
}
