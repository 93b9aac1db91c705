//! Prints the published vectors of the schedulers that all directors agree on, as JSON.
//!
//! `cargo run -p lvs-sched --example vectors > lvs-sched/tests/vectors/consistent.json`. They change only
//! with the definition in `docs/schedulers.md`, and then every director of a cluster has to change at once.

use lvs_core::addr::RealAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::{ServerId, WorkerId};
use lvs_core::sched::{SchedulerArgs, ServerLoad, Weight};
use lvs_sched::conhash::Ring;
use lvs_sched::maglev::{PLACES, PLACES_LARGE, Table};
use lvs_sched::{conhash, maglev, steady};
use serde_json::{Value, json};

fn main() {
    let hashes: Vec<Value> = [
        (steady::FLOW, vec![0]),
        (steady::FLOW, vec![1, 2]),
        (steady::PLACE, vec![0, 0xffff_0a01_000b, 8080]),
        (steady::SKIP, vec![0, 0xffff_0a01_000b, 8080]),
        (steady::POINT, vec![0, 0xffff_0a01_000b, 8080, 159]),
        (u64::MAX, vec![u64::MAX, 0, u64::MAX]),
    ]
    .into_iter()
    .map(|(seed, words)| {
        let state = words.iter().fold(seed, |state, word| steady::step(state, *word));
        let hash = hex(state);
        let words: Vec<_> = words.into_iter().map(hex).collect();
        json!({ "seed": hex(seed), "words": words, "hash": hash })
    })
    .collect();
    let flows = flows();
    let shown = flows.iter().map(|flow| {
        json!({
            "proto": flow.proto().to_string(),
            "src": RealAddr::new(flow.src(), flow.sport()).to_string(),
            "dst": RealAddr::new(flow.dst(), flow.dport()).to_string(),
            "by_flow": hex(steady::flow(flow)),
            "by_source": hex(steady::source(flow)),
        })
    });
    let shown: Vec<Value> = shown.collect();
    let sets: Vec<Value> =
        sets().iter().map(|(name, servers)| set(name, servers, &flows)).collect();
    let all = json!({
        "about": "docs/schedulers.md, section Vectors, says what these are",
        "hashes": hashes,
        "flows": shown,
        "sets": sets,
    });
    println!("{}", serde_json::to_string_pretty(&all).expect("JSON"));
}

fn hex(number: u64) -> String {
    format!("{number:#018x}")
}

fn flows() -> Vec<WireTuple> {
    let v4 = (0..24u32).map(|n| {
        let src = (0xc633_6400u32 + n * 7).to_be_bytes();
        let proto = if n % 3 == 0 { L4Proto::Udp } else { L4Proto::Tcp };
        WireTuple::new(proto, src.into(), 1024 + n as u16 * 777, [10, 0, 0, 80].into(), 80)
    });
    let v6 = (0..8u128).map(|n| {
        let [src, dst] = [(0x2001_0db8u128 << 96) | (n * 0x1_0000_0001), (0xfd00 << 112) | 0x80];
        let [src, dst] = [src, dst].map(|ip| core::net::Ipv6Addr::from_bits(ip).into());
        WireTuple::new(L4Proto::Tcp, src, 50_000 + n as u16, dst, 443)
    });
    v4.chain(v6).flatten().collect()
}

fn server(id: u16, addr: &str, weight: u16, overloaded: bool) -> ServerLoad {
    ServerLoad {
        id: ServerId(id),
        addr: RealAddr(addr.parse().expect("address:port")),
        weight: Weight(weight),
        overloaded,
        active: 0,
        inactive: 0,
    }
}

fn sets() -> Vec<(&'static str, Vec<ServerLoad>)> {
    let row = |list: &[(&str, u16, bool)]| {
        let server =
            |(id, (addr, weight, out)): (u16, &(&str, u16, bool))| server(id, addr, *weight, *out);
        (0..).zip(list).map(server).collect()
    };
    vec![
        ("one", row(&[("10.1.0.11:8080", 1, false)])),
        (
            "equal",
            row(&[
                ("10.1.0.11:8080", 1, false),
                ("10.1.0.12:8080", 1, false),
                ("10.1.0.13:8080", 1, false),
            ]),
        ),
        (
            "weights",
            row(&[
                ("10.1.0.11:8080", 10, false),
                ("10.1.0.12:8080", 20, false),
                ("10.1.0.12:8081", 5, false),
                ("10.1.0.9:8080", 0, false),
                ("10.1.0.100:80", 65, false),
            ]),
        ),
        (
            "half of them overloaded",
            row(&[
                ("10.1.0.11:8080", 3, true),
                ("10.1.0.12:8080", 1, false),
                ("10.1.0.13:8080", 2, true),
                ("10.1.0.14:8080", 2, false),
            ]),
        ),
        (
            "IPv6",
            row(&[
                ("[fd01::11]:8080", 1, false),
                ("[fd01::12]:8080", 2, false),
                ("[fd01:0:0:1::]:443", 1, false),
            ]),
        ),
        (
            "a hundred",
            (0..100).map(|n| server(n, &format!("10.2.0.{n}:80"), 1 + n % 3, false)).collect(),
        ),
    ]
}

fn set(name: &str, servers: &[ServerLoad], flows: &[WireTuple]) -> Value {
    let mut order: Vec<usize> = (0..servers.len()).filter(|at| servers[*at].weight.0 > 0).collect();
    order.sort_by_key(|at| steady::member(&servers[*at].addr));
    let rank = |at: u16| {
        order.iter().position(|member| *member == usize::from(at)).map_or(0, |n| n as u64)
    };
    let digest = |places| {
        let table = Table::new(places, servers);
        hex(table.places().iter().fold(0, |state, at| steady::step(state, rank(*at))))
    };
    let ring = Ring::new(servers);
    let ring_digest = ring.points().iter().fold(0, |state, (hash, at)| {
        steady::step(steady::step(state, u64::from(*hash)), rank(*at))
    });
    let defs =
        [&maglev::DEF, &maglev::LARGE, &maglev::SOURCE, &maglev::SOURCE_LARGE, &conhash::DEF];
    let picks = defs.map(|def| {
        let mut scheduler = (def.build)(SchedulerArgs { worker: WorkerId(0), workers: 1 });
        scheduler.rebuild(servers);
        let picks = flows.iter().map(|flow| scheduler.pick(flow, servers));
        let picks: Vec<_> = picks.map(|at| at.map(|at| servers[at].addr.to_string())).collect();
        (def.name.to_owned(), json!(picks))
    });
    let members = servers.iter().map(
        |s| json!({ "addr": s.addr.to_string(), "weight": s.weight.0, "overloaded": s.overloaded }),
    );
    json!({
        "name": name,
        "servers": members.collect::<Vec<_>>(),
        "maglev_digest": digest(PLACES),
        "maglev_large_digest": digest(PLACES_LARGE),
        "conhash_points": ring.points().len(),
        "conhash_digest": hex(ring_digest),
        "picks": Value::Object(picks.into_iter().collect()),
    })
}
