//! A FullNAT balancer of several workers between clients behind a gateway and servers, all neighbours known.
//!
//! ```text
//!   clients ─ gateway 10.0.0.254, fd00::fe ─ port 0 │ workers │ port 1 ─ servers 10.1.0.11.., fd01::11..
//!   service 10.0.0.80:80, [fd00::80]:80                local 10.1.1.1.., fd01::1:1..
//! ```
#![allow(unreachable_pub, reason = "a module of this test alone")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use lvs_core::addr::{MacAddr, Prefix, RealAddr, VirtualAddr};
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::WorkerId;
use lvs_core::io::mem::{MemBuf, MemNic, MemPort};
use lvs_core::io::{PacketBuf, PortId};
use lvs_core::plan::PortPlan;
use lvs_core::sched::Weight;
use lvs_core::service::{ClientAddrMode, Forwarding, ServiceFlags, ServiceKey, TimestampPolicy};
use lvs_core::session::{HeapMemory, StoreConfig, TableConfig};
use lvs_core::snapshot::{
    Interface, PoolSpec, Route, ServerSpec, ServiceSpec, Snapshot, SnapshotSpec, StaticNeighbour,
};
use lvs_core::time::Time;
use lvs_core::timeouts::Timeouts;
use lvs_core::wire::{Headers, Parsed};
use lvs_testkit::build::tcp;
use lvs_testkit::workers::{Rig, Setup, memories};

pub const CLIENTS: PortId = PortId(0);
pub const SERVERS: PortId = PortId(1);
pub const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
const OTHER: MacAddr = MacAddr([2, 1, 1, 1, 1, 1]);
pub const NOW: Time = Time(1_000_000_000);
/// Servers of each family.
pub const SERVER_COUNT: u16 = 3;
/// Local addresses of each family.
pub const LOCALS: u16 = 2;

fn local(number: u16, v6: bool) -> IpAddr {
    let last = number + 1;
    if v6 {
        Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 1, last).into()
    } else {
        Ipv4Addr::new(10, 1, 1, last as u8).into()
    }
}

pub fn server(number: u16, v6: bool) -> SocketAddr {
    let last = number + 11;
    let ip: IpAddr = if v6 {
        Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, last).into()
    } else {
        Ipv4Addr::new(10, 1, 0, last as u8).into()
    };
    SocketAddr::new(ip, 8080)
}

pub fn service(v6: bool) -> SocketAddr {
    if v6 { "[fd00::80]:80" } else { "10.0.0.80:80" }.parse().unwrap()
}

/// Address and port of client `number`.
pub fn client(number: u32, v6: bool) -> SocketAddr {
    let ip: IpAddr = if v6 {
        Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number)).into()
    } else {
        Ipv4Addr::from_bits(0xc612_0001 + number / 3).into()
    };
    SocketAddr::new(ip, 1024 + (number % 3) as u16)
}

pub fn spec() -> SnapshotSpec {
    let gateways: [IpAddr; 2] = ["10.0.0.254".parse().unwrap(), "fd00::fe".parse().unwrap()];
    let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let families = [false, true];
    let servers = |v6| (0..SERVER_COUNT).map(move |number| server(number, v6));
    let hosts = families.into_iter().flat_map(servers).map(|server| server.ip());
    SnapshotSpec {
        interfaces: vec![
            Interface::new(0, &["10.0.0.1/24", "fd00::1/64"]).unwrap(),
            Interface::new(1, &["10.1.0.1/16", "fd01::1/64"]).unwrap(),
        ],
        routes: everywhere
            .into_iter()
            .zip(gateways)
            .map(|(to, via)| Route { to: Prefix::new(to, 0).unwrap(), via })
            .collect(),
        neighbours: hosts.chain(gateways).map(|ip| StaticNeighbour { ip, mac: OTHER }).collect(),
        pools: vec![PoolSpec {
            addresses: families
                .into_iter()
                .flat_map(|v6| (0..LOCALS).map(move |number| local(number, v6)))
                .collect(),
        }],
        marks: Vec::new(),
        services: families
            .into_iter()
            .map(|v6| ServiceSpec {
                key: ServiceKey::new(L4Proto::Tcp, VirtualAddr(service(v6))),
                forwarding: Forwarding::FullNat,
                scheduler: &lvs_sched::rr::DEF,
                pool: Some(0),
                client_addr: ClientAddrMode::None,
                timestamps: TimestampPolicy::Strip,
                timeouts: Timeouts::LVS,
                persistence: None,
                flags: ServiceFlags::default(),
                servers: servers(v6)
                    .map(|server| ServerSpec::new(RealAddr(server), Weight(1)))
                    .collect(),
            })
            .collect(),
    }
}

pub fn snapshot() -> Snapshot {
    spec().build(None).unwrap()
}

pub const SIZES: StoreConfig = StoreConfig {
    v4: TableConfig { local_addresses: LOCALS, general: 0 },
    v6: TableConfig { local_addresses: LOCALS, general: 0 },
    key: [11, 12],
    seed: 13,
};

pub fn plans<P: PortPlan>(workers: u16, plan: impl Fn(WorkerId) -> P) -> Vec<P> {
    (0..workers as u8).map(|worker| plan(WorkerId(worker))).collect()
}

/// The device: a key and table of its own on both ports, or the usual ones.
pub fn nic(workers: u16, rss: Option<(&[u8], &[u16])>) -> MemNic {
    let mut port = MemPort::new(MAC);
    port.rss = rss.map(|(key, table)| (key.to_vec(), table.to_vec()));
    MemNic::new(workers, [port.clone(), port])
}

pub fn memory<P: PortPlan>(plans: &[P]) -> Vec<HeapMemory> {
    memories(&SIZES, plans)
}

pub fn rig<'m, P: PortPlan>(
    nic: MemNic,
    plans: Vec<P>,
    memory: &'m mut [HeapMemory],
) -> Rig<'m, P> {
    Rig::new(&Setup::new(snapshot(), SIZES), nic, plans, memory)
}

pub fn syn(number: u32, v6: bool) -> MemBuf {
    tcp().syn().dst_mac(MAC).from(client(number, v6)).to(service(v6)).seq(number).build_buf()
}

/// What a frame says.
pub fn tuple(frame: &MemBuf) -> WireTuple {
    match Headers::parse(frame.data(), frame.total_len()) {
        Ok(Parsed::Ip(headers)) => headers.tuple.expect("TCP"),
        other => panic!("{other:?}"),
    }
}

pub fn headers(frame: &MemBuf) -> Headers {
    match Headers::parse(frame.data(), frame.total_len()) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("{other:?}"),
    }
}

/// The answer of a server to the SYN that reached it.
pub fn syn_ack(there: &WireTuple, ack: u32) -> MemBuf {
    let from = SocketAddr::new(there.dst(), there.dport());
    let to = SocketAddr::new(there.src(), there.sport());
    tcp().flags(0x12).ack_number(ack).seq(7).dst_mac(MAC).from(from).to(to).build_buf()
}
