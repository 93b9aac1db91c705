//! A simulation of captured packets does what the director did when they were captured: real TCP/IP
//! stacks talk through a director, both sides are captured, and the frames of the hosts alone, taken
//! through `lvsd simulate`, must give the frames of the director, byte for byte and to the nanosecond.

use core::cell::RefCell;
use core::time::Duration;
use lvs_core::addr::MacAddr;
use lvs_core::io::mem::{MemLane, MemPort};
use lvs_core::io::{Burst, Lane, PortId};
use lvs_core::time::Time;
use lvs_director::Outputs;
use lvs_testkit::net::{BulkClient, BulkServer, Host, Net, Wire};
use lvs_testkit::pcap::{self, Capture};
use lvsd::demo::Mode;
use lvsd::simulate::{self, InputArg};
use lvsd::{assemble, config};
use std::path::Path;

const PORTS: [&str; 2] = ["outside", "inside"];
/// From a host to the director.
const LATENCY: Duration = Duration::from_micros(50);
const LATENCY_NS: u64 = LATENCY.as_nanos() as u64;
const SECOND: u64 = 1_000_000_000;

/// What entered both segments while six connections were open.
fn live(mode: Mode, loaded: &config::Loaded) -> [Vec<Capture>; 2] {
    let mut memory = assemble::session_memory(&loaded.config).unwrap();
    let seed = loaded.config.director.seed.unwrap_or(0);
    let director = RefCell::new(assemble::director(&loaded.config, seed, &mut memory).unwrap());
    let mut net = Net::new(5);
    let wire = Wire { latency: LATENCY, ..Wire::default() };
    let segments = [net.segment(wire), net.segment(wire)];
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for n in 1..=3 {
        let client = Host::new("client").timestamps();
        let client = client.addr(&format!("10.0.0.2{n}/24")).addr(&format!("fd00::2{n}/64"));
        let client = net.host(segments[0], client);
        for to in ["10.0.0.80:80", "[fd00::80]:80"] {
            clients.push(net.app(client, BulkClient::new(to, 20_000)));
        }
        let server = Host::new("server");
        let server = server.addr(&format!("10.1.0.1{n}/24")).addr(&format!("fd01::1{n}/64"));
        let server = match mode {
            Mode::Nat => server.gateway("10.1.0.1").gateway("fd01::1"),
            Mode::Fullnat => server,
        };
        let server = net.host(segments[1], server);
        servers.push(net.app(server, BulkServer::new(8080)));
    }
    let mut out = Outputs::new(2);
    // A simulation counts from one second before the first packet; this network from one second
    // before the first packet is sent.
    let device = net.device(lane(&loaded.config), move |now, lane| {
        let (mut director, now) = (director.borrow_mut(), Time(now - LATENCY_NS));
        let mut burst = Burst::new();
        for port in [PortId(0), PortId(1)] {
            while lane.rx_burst(port, &mut burst) != Ok(0) {
                // One packet at a time, as a simulation goes: a burst may exchange packets of different
                // sessions.
                burst.drain_with(|packet| {
                    director.process_one(now, lane, port, packet, &mut out);
                });
                out.flush(lane);
            }
        }
        director.expire(now, 1000);
        director.tick(now, lane, &mut out);
        out.flush(lane);
    });
    for (port, segment) in [PortId(0), PortId(1)].into_iter().zip(segments) {
        net.attach(device, port, segment);
        net.capture(segment);
    }
    let done = |net: &Net<'_>| clients.iter().all(|client| net.get(*client).done());
    net.run_until(done, Duration::from_secs(60)).unwrap();
    assert!(clients.iter().all(|client| net.get(*client).transferred()));
    // Everything that is still on its way arrives.
    net.run_for(Duration::from_secs(1));
    segments.map(|segment| net.captured(segment).to_vec())
}

fn macs(config: &config::Config) -> Vec<MacAddr> {
    config.ports.iter().map(|port| port.mac.as_ref().unwrap().value).collect()
}

fn lane(config: &config::Config) -> MemLane {
    MemLane::new(macs(config).into_iter().map(MemPort::new))
}

fn agrees(mode: Mode) {
    let loaded = config::parse(mode.name(), mode.config()).unwrap();
    let captured = live(mode, &loaded);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "simulate-live-{}-{}",
        mode.name(),
        std::process::id()
    ));
    std::fs::create_dir_all(&directory).unwrap();
    let mut inputs = Vec::new();
    let mut expected = Vec::new();
    for ((name, captures), mac) in PORTS.into_iter().zip(captured).zip(macs(&loaded.config)) {
        let from_director = |capture: &Capture| capture.data[6..12] == mac.0;
        let (ours, theirs): (Vec<_>, Vec<_>) = captures.into_iter().partition(from_director);
        assert!(ours.len() > 50 && theirs.len() > 50, "{name}: {} {}", ours.len(), theirs.len());
        let arrived: Vec<_> =
            theirs.into_iter().map(|c| Capture { time_ns: c.time_ns + LATENCY_NS, ..c }).collect();
        let file = directory.join(format!("{name}-in.pcap"));
        pcap::write_file(&file, &arrived).unwrap();
        inputs.push(InputArg { port: name.to_owned(), file });
        expected.push((name, ours));
    }
    let arguments = simulate::Args {
        config: "unused".into(),
        inputs,
        out: directory.join("out"),
        settle: 1,
        fix_checksums: false,
        json: false,
    };
    let summary = simulate::run(&arguments, &loaded).unwrap();
    assert_eq!((summary.sessions_opened, summary.refused), (6, 0));
    assert!(summary.drops.is_empty(), "{:?}", summary.drops);
    assert_eq!(summary.span_ns[1], SECOND);
    for (name, ours) in expected {
        let sent = pcap::read_file(directory.join(format!("out/{name}.pcap"))).unwrap();
        for (number, (simulated, live)) in sent.iter().zip(&ours).enumerate() {
            let show = |c: &Capture| format!("{} {}", c.time_ns, lvs_core::wire::Pretty(&c.data));
            assert_eq!(show(simulated), show(live), "{name}, packet {number}");
            assert_eq!(simulated.data, live.data, "{name}, packet {number}");
        }
        assert_eq!(sent.len(), ours.len(), "{name}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn fullnat_of_a_capture_is_what_happened_on_the_wire() {
    agrees(Mode::Fullnat);
}

#[test]
fn nat_of_a_capture_is_what_happened_on_the_wire() {
    agrees(Mode::Nat);
}
