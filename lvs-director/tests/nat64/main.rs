//! NAT64: IPv6 clients of an IPv6 service, IPv4 servers. Packets byte by byte, both ways.

mod errors;
mod life;
mod packets;
mod sizes;
#[path = "../drops/stage.rs"]
#[allow(dead_code, reason = "a module of the tests of drops, of which this binary uses its part")]
mod stage;
#[path = "../support/mod.rs"]
mod support;

use core::net::SocketAddr;
use lvs_core::io::PacketBuf;
use lvs_core::io::mem::MemBuf;
use lvs_core::service::{ClientAddrMode, Forwarding};
use lvs_core::snapshot::SnapshotSpec;
use lvs_testkit::build::{Packet, Tcp, tcp};
use lvs_testkit::oracle;
use stage::{CLIENTS, Plan, SERVERS, Stage};

const CLIENT: &str = "[fd00::2]:40000";
const SERVICE: &str = "[fd00::80]:80";
/// The client's first number, and the server's.
const ISN: u32 = 1000;
const THEIRS: u32 = 7_000_000;

/// The services of [`support::nat64`], with neighbours that need not be asked for.
fn plan(change: impl Fn(&mut SnapshotSpec)) -> Plan {
    let mut plan = Plan::new(Forwarding::FullNat);
    plan.spec.services = support::nat64().services;
    change(&mut plan.spec);
    plan
}

/// Servers are not told who the client is.
fn untold(spec: &mut SnapshotSpec) {
    spec.services.iter_mut().for_each(|service| service.client_addr = ClientAddrMode::None);
}

/// The mode of all services.
fn telling(mode: ClientAddrMode) -> impl Fn(&mut SnapshotSpec) {
    move |spec| spec.services.iter_mut().for_each(|service| service.client_addr = mode)
}

/// A segment of the client.
fn client() -> Packet<Tcp> {
    tcp().from(CLIENT).to(SERVICE)
}

/// What the director adds to the client's numbers.
fn delta(stage: &Stage) -> u32 {
    stage.session().translation.seq_delta
}

/// A segment of the server that acknowledges `ack` in the client's numbers.
fn server(stage: &Stage, seq: u32, ack: u32) -> Packet<Tcp> {
    stage.reply().seq(seq).ack(ack.wrapping_add(delta(stage)))
}

/// Opens a connection, and lets data of the server be acknowledged so that it becomes plain.
fn connect(stage: &mut Stage) {
    stage.pass(CLIENTS, client().syn().seq(ISN).mss(1440).build_buf());
    let answer = server(stage, THEIRS, ISN + 1).syn().mss(1460).build_buf();
    stage.pass(SERVERS, answer);
    stage.pass(CLIENTS, client().seq(ISN + 1).ack(THEIRS + 1).build_buf());
    let hello = server(stage, THEIRS + 1, ISN + 1).payload("hello").build_buf();
    stage.pass(SERVERS, hello);
    stage.pass(CLIENTS, client().seq(ISN + 1).ack(THEIRS + 6).build_buf());
    assert!(stage.session().plain);
}

/// Ends of the IPv4 side: local address, server.
fn inside(stage: &Stage) -> (SocketAddr, SocketAddr) {
    let quad = stage.session().quad;
    let addr = |(ip, port)| SocketAddr::new(ip, port);
    (addr(quad.local), addr(quad.server))
}

/// The whole frame behind the Ethernet addresses, once its checksums have been found right.
fn sound(buf: &MemBuf) -> Vec<u8> {
    oracle::checksums_ok(buf.data()).unwrap();
    buf.data()[12..].to_vec()
}
