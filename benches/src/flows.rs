//! A FullNAT director, and established sessions in it with one frame for each direction.
//!
//! ```text
//!   clients 198.18.0.0/15 ─ gateway 10.0.0.254 ─ port 0 │ director │ port 1 ─ servers 10.1.0.11 ..
//!   service 10.0.0.80:80                                  local addresses 10.1.1.1 ..
//! ```
//!
//! Next hops have configured addresses: nobody asks and nobody answers while something is measured.

use core::net::{IpAddr, Ipv4Addr};
use lvs_core::addr::{MacAddr, Prefix, RealAddr, VirtualAddr};
use lvs_core::flow::L4Proto;
use lvs_core::id::WorkerId;
use lvs_core::io::{Lane, PacketBuf, PortId};
use lvs_core::plan::Whole;
use lvs_core::sched::{SchedulerArgs, Weight};
use lvs_core::service::{
    ClientAddrMode, Forwarding, ServiceFlags, ServiceKey, TimestampPolicy, ToaOptions,
};
use lvs_core::session::{SessionStore, StoreConfig, TableConfig};
use lvs_core::snapshot::{
    Interface, PoolSpec, Route, ServerSpec, ServiceSpec, SnapshotSpec, StaticNeighbour,
};
use lvs_core::time::Time;
use lvs_core::timeouts::Timeouts;
use lvs_core::verdict::Verdict;
use lvs_director::{Director, DirectorConfig, Generation, Outputs};
use lvs_os::memory::Region;
use lvs_testkit::build::tcp;
use lvs_testkit::oracle;
use std::sync::Arc;

/// Where clients are.
pub const CLIENTS: PortId = PortId(0);
/// Where servers are.
pub const SERVERS: PortId = PortId(1);
/// Ethernet address of the gateway to the clients.
pub const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 0xfe]);

const SERVICE: &str = "10.0.0.80:80";
const SERVER_COUNT: u8 = 16;
const LOCAL_COUNT: u8 = 2;

/// Ethernet address of a server.
#[must_use]
pub const fn server_mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 2, number])
}

fn server_ip(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, 11 + number).into()
}

/// Address and port of the client of session `number`.
#[must_use]
pub fn client(number: usize) -> (IpAddr, u16) {
    let address = u32::from(Ipv4Addr::new(198, 18, 0, 1)) + (number / 4) as u32;
    (Ipv4Addr::from(address).into(), 40_000 + (number % 4) as u16)
}

fn spec() -> SnapshotSpec {
    let toa = ClientAddrMode::Toa(ToaOptions::default());
    let gateway: IpAddr = [10, 0, 0, 254].into();
    let addresses = (1..=LOCAL_COUNT).map(|last| IpAddr::from([10, 1, 1, last]));
    let servers = (0..SERVER_COUNT)
        .map(|number| StaticNeighbour { ip: server_ip(number), mac: server_mac(number) });
    let gateway_entry = StaticNeighbour { ip: gateway, mac: GATEWAY_MAC };
    SnapshotSpec {
        interfaces: [Interface::new(0, &["10.0.0.1/24"]), Interface::new(1, &["10.1.0.1/16"])]
            .into_iter()
            .flatten()
            .collect(),
        routes: Prefix::new(Ipv4Addr::UNSPECIFIED.into(), 0)
            .map(|to| Route { to, via: gateway })
            .into_iter()
            .collect(),
        neighbours: servers.chain([gateway_entry]).collect(),
        pools: vec![PoolSpec { addresses: addresses.collect() }],
        marks: Vec::new(),
        services: vec![ServiceSpec {
            key: ServiceKey::new(L4Proto::Tcp, VirtualAddr(SERVICE.parse().expect("an address"))),
            forwarding: Forwarding::FullNat,
            scheduler: &lvs_sched::rr::DEF,
            pool: Some(0),
            client_addr: toa,
            timestamps: TimestampPolicy::Strip,
            timeouts: Timeouts::LVS,
            persistence: None,
            flags: ServiceFlags::default(),
            servers: (0..SERVER_COUNT)
                .map(|number| ServerSpec::new(RealAddr::new(server_ip(number), 8080), Weight(1)))
                .collect(),
        }],
    }
}

fn store_config() -> StoreConfig {
    StoreConfig {
        v4: TableConfig { local_addresses: LOCAL_COUNT.into(), general: 0 },
        v6: TableConfig::default(),
        key: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
        seed: 7,
    }
}

/// Memory for the sessions of a [`director`], about 129 000: as `lvsd` has it, in huge pages where the
/// system has some.
///
/// # Errors
/// The kernel's.
pub fn memory() -> Result<Region, String> {
    let bytes = SessionStore::memory_for(&store_config(), &Whole::default());
    Region::anonymous(bytes.ok_or("the sizes do not fit")?).map_err(|error| error.to_string())
}

/// A director with one FullNAT service (TOA on, timestamps stripped) and 16 servers.
///
/// # Panics
/// Never: the configuration is fixed and sound.
#[must_use]
pub fn director(memory: &mut Region) -> Director<'_> {
    let store = SessionStore::new(store_config(), Whole::default(), memory.as_mut_slice());
    let snapshot = spec().build(None).expect("a sound configuration");
    let args = SchedulerArgs { worker: WorkerId(0), workers: 1 };
    let config = DirectorConfig { isn_key: [1, 2], ..DirectorConfig::default() };
    let generation = Generation::new(Arc::new(snapshot), args);
    Director::new(config, store.expect("the memory has the right size"), generation)
}

/// The frames of established sessions, one of 60 bytes (64 with the check sequence) for each session
/// and direction: 6 bytes of payload, ACK and PSH.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// From clients, as they arrive on [`CLIENTS`].
    pub inbound: Vec<Vec<u8>>,
    /// From servers, as they arrive on [`SERVERS`].
    pub replies: Vec<Vec<u8>>,
}

/// What a session has negotiated, as the two ends see it.
struct Numbers {
    /// The session's client.
    client: (IpAddr, u16),
    /// Local address and port, and the server: what the server's frames carry.
    local: (IpAddr, u16),
    server: (IpAddr, u16),
    server_mac: MacAddr,
    /// Next sequence number of the client, as the client counts and as the server sees it.
    client_seq: u32,
    client_seen: u32,
    /// Next sequence number of the server.
    server_seq: u32,
}

/// Passes one frame through the director and returns what leaves on `to`, checked by pnet_packet.
///
/// # Errors
/// The frame was not forwarded there, or a checksum came out wrong.
pub fn pass<L: Lane>(
    director: &mut Director<'_>,
    lane: &mut L,
    out: &mut Outputs<L::Buf>,
    now: Time,
    (from, to): (PortId, PortId),
    frame: &[u8],
) -> Result<Vec<u8>, String> {
    let mut buf = lane.alloc(frame.len()).ok_or("no buffer left")?;
    buf.data_mut().copy_from_slice(frame);
    let report = director.process_one(now, lane, from, buf, out);
    if report.verdict != Verdict::Forward(to) {
        return Err(format!("verdict {:?} instead of Forward({to})", report.verdict));
    }
    let sent = out.port(to).and_then(lvs_core::io::Burst::pop).ok_or("nothing was queued")?;
    let bytes = sent.data().to_vec();
    oracle::checksums_ok(&bytes)?;
    Ok(bytes)
}

/// Opens `count` sessions and lets each become plain: handshake, one segment each way, and the
/// client's acknowledgement. `macs` are the director's own addresses on its two ports.
///
/// # Errors
/// Any step that went another way.
pub fn establish<L: Lane>(
    director: &mut Director<'_>,
    lane: &mut L,
    now: Time,
    count: usize,
) -> Result<Flows, String> {
    let macs = [CLIENTS, SERVERS].map(|port| lane.port_info(port).mac);
    let mut out = Outputs::new(lane.port_count());
    let mut flows = Flows::default();
    for number in 0..count {
        let context = |error| format!("session {number}: {error}");
        let mut pass =
            |way, frame: Vec<u8>| pass(director, lane, &mut out, now, way, &frame).map_err(context);
        let numbers = handshake(number, macs, &mut pass)?;
        let (inbound, replies) = numbers.frames(macs);
        pass((CLIENTS, SERVERS), inbound.clone())?;
        pass((SERVERS, CLIENTS), replies.clone())?;
        flows.inbound.push(inbound);
        flows.replies.push(replies);
    }
    Ok(flows)
}

fn handshake(
    number: usize,
    macs: [MacAddr; 2],
    pass: &mut impl FnMut((PortId, PortId), Vec<u8>) -> Result<Vec<u8>, String>,
) -> Result<Numbers, String> {
    let (isn, server_isn) = (1000 + number as u32, 0x7000_0000 + number as u32);
    let client = client(number);
    let to_service = |packet: lvs_testkit::build::Packet<lvs_testkit::build::Tcp>| {
        packet.from(client).to(SERVICE).src_mac(GATEWAY_MAC).dst_mac(macs[0])
    };
    let (up, down) = ((CLIENTS, SERVERS), (SERVERS, CLIENTS));
    let seen = pass(up, to_service(tcp().syn().seq(isn).mss(1460)).build())?;
    let fields = oracle::fields(&seen)?;
    let seen_tcp = fields.tcp.ok_or("not TCP")?;
    let (local_port, server_port) = fields.ports.ok_or("no ports")?;
    let server_mac = seen.first_chunk().copied().map(MacAddr).ok_or("no Ethernet header")?;
    let numbers = Numbers {
        client,
        local: (fields.src, local_port),
        server: (fields.dst, server_port),
        server_mac,
        client_seq: isn.wrapping_add(1),
        client_seen: seen_tcp.seq.wrapping_add(1),
        server_seq: server_isn.wrapping_add(1),
    };
    let answer = tcp().syn().seq(server_isn).ack(numbers.client_seen).mss(1460);
    pass(down, numbers.reply_frame(answer, macs).build())?;
    let ack = tcp().seq(numbers.client_seq).ack(numbers.server_seq);
    pass(up, to_service(ack).build())?;
    // The server's first data and the client's word that it has come end the client-address option.
    let data = tcp().psh().seq(numbers.server_seq).ack(numbers.client_seen).payload([0; 6]);
    pass(down, numbers.reply_frame(data, macs).build())?;
    let numbers = Numbers { server_seq: numbers.server_seq.wrapping_add(6), ..numbers };
    let ack = tcp().seq(numbers.client_seq).ack(numbers.server_seq);
    pass(up, to_service(ack).build())?;
    Ok(numbers)
}

impl Numbers {
    fn reply_frame(
        &self,
        packet: lvs_testkit::build::Packet<lvs_testkit::build::Tcp>,
        macs: [MacAddr; 2],
    ) -> lvs_testkit::build::Packet<lvs_testkit::build::Tcp> {
        packet.from(self.server).to(self.local).src_mac(self.server_mac).dst_mac(macs[1])
    }

    /// One small segment of the established session for each direction.
    fn frames(&self, macs: [MacAddr; 2]) -> (Vec<u8>, Vec<u8>) {
        let inbound = tcp().psh().seq(self.client_seq).ack(self.server_seq).payload([1; 6]);
        let inbound = inbound.from(self.client).to(SERVICE).src_mac(GATEWAY_MAC).dst_mac(macs[0]);
        let reply = tcp().psh().seq(self.server_seq).ack(self.client_seen).payload([2; 6]);
        (inbound.build(), self.reply_frame(reply, macs).build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::io::mem::{MemLane, MemPort};

    #[test]
    fn sessions_become_plain_and_their_frames_have_64_bytes_on_the_wire() {
        let mut memory = memory().unwrap();
        let mut director = director(&mut memory);
        let ports = [1, 2].map(|last| MemPort::new(MacAddr([2, 0, 0, 0, 0, last])));
        let mut lane = MemLane::new(ports);
        let flows = establish(&mut director, &mut lane, Time(1 << 40), 300).unwrap();
        assert_eq!((flows.inbound.len(), flows.replies.len()), (300, 300));
        assert!(flows.inbound.iter().chain(&flows.replies).all(|frame| frame.len() == 60));
        let mut plain = 0;
        director.store().scan(lvs_core::session::Cursor::default(), u32::MAX, |session| {
            plain += u32::from(director.store().detail(session.id).is_some_and(|d| d.plain));
        });
        assert_eq!((plain, director.store().len()), (300, 300));
        let inserted = director.counters().toa_inserted;
        // SYN, handshake acknowledgement; the third carries it no more or still, by its own rule.
        assert!((600..=900).contains(&inserted), "{inserted}");
    }
}
