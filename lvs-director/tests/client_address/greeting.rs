//! Servers that speak first, and only to those whom they know: the header goes right after the handshake.

use crate::support;
use crate::world::{V4, V6, proxy, seeds, spec, world};
use core::cell::RefCell;
use core::time::Duration;
use lvs_core::service::{ClientAddrMode, Forwarding, ProxyOptions, ProxyTiming, ProxyVersion};
use lvs_testkit::net::{AppId, GreetClient, GreetServer, Net, Wire};

fn greet(seed: u64, wire: Wire, version: ProxyVersion, service: &str) {
    let mut memory = support::memory();
    let options = ProxyOptions { timing: ProxyTiming::Handshake, ..proxy(version) };
    let mode = ClientAddrMode::Proxy(options);
    let spec = spec(Forwarding::FullNat, mode);
    let director = RefCell::new(support::director(spec, &mut memory));
    let mut w = world(seed, wire, Forwarding::FullNat, &director);
    let servers = w.servers.map(|server| w.net.app(server, GreetServer::new(8080)));
    let clients: Vec<AppId<GreetClient>> =
        (0..4).map(|_| w.net.app(w.client, GreetClient::new(service))).collect();
    let done = |net: &Net<'_>| clients.iter().all(|client| net.get(*client).done());
    let outcome = w.net.run_until(done, Duration::from_secs(600));
    let story =
        || format!("seed {seed} {version:?}: {outcome:?}\n{:#?}", director.borrow().counters());
    let mut expected = Vec::new();
    for client in &clients {
        let client = w.net.get(*client);
        assert!(client.greeted() && !client.failed(), "{}", story());
        expected.extend(client.local());
    }
    let mut greeted = Vec::new();
    for server in servers {
        let server = w.net.get(server);
        assert!(server.wrong().is_empty(), "{:?}\n{}", server.wrong(), story());
        greeted.extend(server.greeted().iter().map(|who| who.client));
    }
    expected.sort();
    greeted.sort();
    assert_eq!(greeted, expected, "{}", story());
    assert!(director.borrow().counters().proxy_alone >= 4);
    support::every_packet_is_counted_once(director.borrow().counters());
}

#[test]
fn a_server_that_speaks_first_greets_its_client_by_address() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        for service in [V4, V6] {
            greet(1, Wire::default(), version, service);
        }
    }
}

/// A lost header is repeated when the server repeats its SYN-ACK. `LVS_SEEDS=1000` for the long run.
#[test]
fn a_server_that_speaks_first_does_so_on_rough_wires_too() {
    for seed in seeds(50) {
        let version = if seed % 2 == 0 { ProxyVersion::V1 } else { ProxyVersion::V2 };
        let each = if seed % 3 == 0 { 10_000 } else { 60_000 };
        greet(1000 + seed, Wire::rough(each), version, if seed % 4 < 2 { V4 } else { V6 });
    }
}
