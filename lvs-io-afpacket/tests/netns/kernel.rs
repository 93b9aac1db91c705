//! Real TCP and UDP of two kernels, forwarded between two veth pairs with default offloads.

use crate::host::{Host, has_ipv6, namespace_test, skipped};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use lvs_core::io::{Burst, L4Csum, Lane, PacketBuf, PortId, WaitReady};
use lvs_io_afpacket::{Cures, PortConfig, Rings};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;

/// What passed the bridge.
#[derive(Debug, Default)]
struct Seen {
    partial: u64,
    trains: u64,
    longest: usize,
    rejected: u64,
    truncated: u64,
}

/// Client and server with a forwarding loop between them.
struct Lab {
    client: Host,
    server: Host,
    stop: Arc<AtomicBool>,
    bridge: JoinHandle<Seen>,
}

impl Lab {
    fn new(cures: Cures) -> Self {
        let (client, server) = (Host::new(), Host::new());
        client.cable("m0", "c0", &["10.0.0.1/24", "fd00::1/64"]);
        server.cable("m1", "s0", &["10.0.0.2/24", "fd00::2/64"]);
        let mut rings = Rings::open(&["m0", "m1"].map(|name| {
            let mut port = PortConfig::new(name);
            port.cures = cures;
            port
        }))
        .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let bridge = std::thread::spawn(move || bridge(&mut rings, &stopped));
        Self { client, server, stop, bridge }
    }

    fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.bridge.join().unwrap()
    }
}

fn bridge(rings: &mut Rings, stop: &AtomicBool) -> Seen {
    let mut lane = rings.lane();
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let mut moved = 0;
        for (from, to) in [(PortId(0), PortId(1)), (PortId(1), PortId(0))] {
            let mut burst = Burst::new();
            moved += lane.rx_burst(from, &mut burst).unwrap();
            for packet in burst.iter() {
                seen.partial += u64::from(packet.l4_csum() == L4Csum::Partial);
                seen.trains += u64::from(packet.gso().is_some());
                seen.longest = seen.longest.max(packet.data().len());
            }
            let _ = lane.tx_burst(to, &mut burst).unwrap();
            lane.free_burst(&mut burst);
        }
        if moved == 0 {
            lane.wait(1000).unwrap();
        }
    }
    for port in [PortId(0), PortId(1)] {
        seen.rejected += lane.stats(port).tx_rejected;
        seen.truncated += lane.stats(port).rx_truncated;
    }
    seen
}

/// Bytes that differ everywhere.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The client sends `len` bytes, the server sends them back; true when they come back unharmed.
fn echo(lab: &Lab, server: &str, len: usize) -> Result<bool, ErrorKind> {
    let address: SocketAddr = server.parse().unwrap();
    let listener = lab.server.run(move || TcpListener::bind(address).unwrap());
    lab.server.start(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).is_ok() {
            let _ = stream.write_all(&all);
        }
    });
    lab.client.run(move || {
        let text = pattern(len);
        let mut stream =
            TcpStream::connect_timeout(&address, Duration::from_secs(3)).map_err(|e| e.kind())?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(&text).map_err(|e| e.kind())?;
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).map_err(|e| e.kind())?;
        Ok(back == text)
    })
}

namespace_test! {
    fn tcp_passes_with_default_offloads_in_trains_with_partial_checksums() {
        let lab = Lab::new(Cures::default());
        for server in ["10.0.0.2:80", "[fd00::2]:80"] {
            if server.starts_with('[') && !has_ipv6() {
                skipped("TCP in IPv6", "this kernel has no IPv6");
                continue;
            }
            assert_eq!(echo(&lab, server, 8 << 20), Ok(true), "{server}");
        }
        let seen = lab.finish();
        assert!(seen.partial > 100 && seen.trains > 50, "{seen:?}");
        assert!(seen.longest > 20_000, "no long trains: {seen:?}");
        assert_eq!((seen.rejected, seen.truncated), (0, 0), "{seen:?}");
    }
}

namespace_test! {
    // The cure switched off: even the SYN is dropped by the receiver, since its checksum field holds
    // the pseudo-header sum only.
    fn without_the_virtio_header_not_even_a_connection_comes_up() {
        let lab = Lab::new(Cures { vnet_header: false, ..Cures::default() });
        assert_eq!(echo(&lab, "10.0.0.2:80", 1000), Err(ErrorKind::TimedOut));
        let seen = lab.finish();
        assert!(seen.partial > 0 && seen.trains == 0, "{seen:?}");
    }
}

namespace_test! {
    fn udp_trains_arrive_as_the_datagrams_they_are() {
        let lab = Lab::new(Cures::default());
        let server = lab.server.run(|| {
            let socket = UdpSocket::bind("10.0.0.2:53").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        });
        lab.client.run(|| {
            let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
            let size = 1000i32;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
            // SAFETY: pointer and length describe `size`.
            let outcome = unsafe {
                libc::setsockopt(fd, libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), 4)
            };
            assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
            socket.send_to(&pattern(20_500), "10.0.0.2:53").unwrap();
        });
        let whole = lab.server.run(move || {
            let (mut whole, mut part) = (Vec::new(), [0; 2000]);
            while whole.len() < 20_500 {
                let len = server.recv(&mut part).unwrap();
                assert_eq!(len, 1000.min(20_500 - whole.len()));
                whole.extend_from_slice(&part[..len]);
            }
            whole
        });
        assert_eq!(whole, pattern(20_500));
        let seen = lab.finish();
        assert!(seen.trains > 0 && seen.longest > 20_000, "the sender cut the train: {seen:?}");
    }
}
