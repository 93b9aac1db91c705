//! Bulk transfers over wires that lose, double, reorder and damage frames: every byte arrives once and right, and
//! the server knows its client before its own first byte.

use crate::support;
use crate::world::{V4, V6, proxy, seeds, spec, world};
use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;
use lvs_core::service::{ClientAddrMode, Forwarding, ProxyVersion, ToaOptions, ToaPlacement};
use lvs_core::snapshot::SnapshotSpec;
use lvs_testkit::net::{AppId, BulkClient, BulkServer, HostId, Net, Served, Wire};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfers {
    pub(crate) seed: u64,
    pub(crate) each: u32,
    pub(crate) forwarding: Forwarding,
    pub(crate) mode: ClientAddrMode,
    pub(crate) service: &'static str,
}

/// Who the server takes its client for; `None` as long as it cannot know.
fn known(net: &Net<'_>, host: HostId, served: &Served, mode: ClientAddrMode) -> Option<SocketAddr> {
    match mode {
        ClientAddrMode::Toa(_) => net.toa_seen(host).get(&(served.peer, 8080)).copied(),
        _ => {
            let proxied = served.proxied.as_ref()?;
            Some(proxied.as_ref().expect("a header in front of everything").client)
        }
    }
}

impl Transfers {
    fn run(self) {
        self.run_on(spec(self.forwarding, self.mode), true);
    }

    /// On these services instead of the standard ones. `short`: plain sessions take the short way.
    pub(crate) fn run_on(self, spec: SnapshotSpec, short: bool) {
        let mut memory = support::memory();
        let director = RefCell::new(support::director(spec, &mut memory));
        let wire = if self.each == 0 { Wire::default() } else { Wire::rough(self.each) };
        let mut w = world(self.seed, wire, self.forwarding, &director);
        let by_proxy = matches!(self.mode, ClientAddrMode::Proxy(_));
        let served = w.servers.map(|server| {
            let app = BulkServer::new(8080);
            w.net.app(server, if by_proxy { app.behind_proxy() } else { app })
        });
        let clients: Vec<AppId<BulkClient>> =
            (0..3).map(|_| w.net.app(w.client, BulkClient::new(self.service, 30_000))).collect();
        let servers = w.servers;
        let closed = |net: &Net<'_>| {
            for (host, app) in servers.iter().zip(&served) {
                for served in net.get(*app).served() {
                    // Before its first byte, not at the end.
                    let speaks = served.progress().1 > 0;
                    let known = known(net, *host, served, self.mode);
                    assert!(!speaks || known.is_some(), "{self:?}: speaks to a stranger");
                }
            }
            clients.iter().all(|client| net.get(*client).done())
                && served.iter().all(|id| net.get(*id).served().iter().all(Served::closed))
        };
        let outcome = w.net.run_until(closed, Duration::from_secs(3600));
        let story = || format!("{self:?}: {outcome:?}\n{:#?}", director.borrow().counters());
        let mut expected = Vec::new();
        for client in clients.iter().map(|client| w.net.get(*client)) {
            assert!(client.transferred() && client.failure().is_none(), "{}", story());
            expected.extend(client.local());
        }
        let mut told = Vec::new();
        for (host, app) in servers.iter().zip(&served) {
            for served in w.net.get(*app).served() {
                assert!(served.complete(), "{}", story());
                told.push(known(&w.net, *host, served, self.mode).unwrap());
                if let Some(Ok(proxied)) = &served.proxied {
                    assert_eq!(proxied.virt, self.service.parse().unwrap());
                }
            }
        }
        expected.sort();
        told.sort();
        assert_eq!(told, expected, "{}", story());
        assert!(outcome.is_ok(), "{}", story());
        w.net.run_for(Duration::from_secs(500));
        let director = director.borrow();
        // INV-9.
        assert_eq!((director.store().len(), director.store().ports_in_use()), (0, 0), "left over");
        support::every_packet_is_counted_once(director.counters());
        let told: Vec<_> = director.counters().client_address().collect();
        assert!(!told.is_empty(), "{}", story());
        if by_proxy {
            assert!(director.counters().proxy_sent >= 3);
            // Bytes moved once the header had settled, so sessions became plain.
            assert!(self.each > 0 || director.short_way() > 0 || !short, "{}", story());
        }
    }
}

fn ways() -> Vec<(Forwarding, ClientAddrMode, &'static str)> {
    let full = Forwarding::FullNat;
    let toa = ClientAddrMode::Toa(ToaOptions::default());
    let handshake = ToaPlacement { syn: false, handshake: true, until_server_data: false };
    let by_handshake =
        ClientAddrMode::Toa(ToaOptions { placement: handshake, ..ToaOptions::default() });
    let [v1, v2] =
        [ProxyVersion::V1, ProxyVersion::V2].map(|version| ClientAddrMode::Proxy(proxy(version)));
    vec![
        (full, toa, V4),
        (full, toa, V6),
        (full, by_handshake, V4),
        (full, v1, V4),
        (full, v2, V4),
        (full, v1, V6),
        (full, v2, V6),
        (Forwarding::Nat, v2, V4),
    ]
}

#[test]
fn on_good_wires_every_server_knows_its_clients() {
    for (forwarding, mode, service) in ways() {
        Transfers { seed: 1, each: 0, forwarding, mode, service }.run();
    }
}

/// `LVS_SEEDS=1000` for the long run.
#[test]
fn on_rough_wires_no_byte_is_lost_and_every_server_knows_its_clients() {
    for seed in seeds(25) {
        for (forwarding, mode, service) in ways() {
            let each = if seed % 2 == 0 { 10_000 } else { 30_000 };
            Transfers { seed: 100 + seed, each, forwarding, mode, service }.run();
        }
    }
}
