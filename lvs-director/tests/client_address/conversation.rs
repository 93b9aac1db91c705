//! One connection, packet by packet, in numbers counted from the initial ones of both sides.

use crate::support;
use crate::support::bench::{Bench, CLIENTS, MAC, SERVERS};
use crate::world::{V4, V6, proxy, spec};
use core::net::SocketAddr;
use lvs_core::io::mem::{MemBuf, MemPort};
use lvs_core::service::{ClientAddrMode, Forwarding, ProxyVersion, ToaOptions};
use lvs_core::session::{HeapMemory, Session};
use lvs_core::snapshot::SnapshotSpec;
use lvs_core::verdict::{DropReason, Verdict};
use lvs_testkit::build::{Packet, Tcp, option, tcp};
use lvs_testkit::oracle::{self, Fields, TcpFields};

/// The server's initial number.
pub(crate) const SERVER_ISN: u32 = 0x7fff_fff0;

pub(crate) struct Conversation<'m> {
    pub(crate) bench: Bench<'m>,
    pub(crate) client: SocketAddr,
    pub(crate) service: SocketAddr,
    /// The client's initial number, and the one that the server knows.
    pub(crate) isn: u32,
    pub(crate) server_isn: u32,
    /// The server's initial number.
    pub(crate) server_starts: u32,
}

/// A frame that left: where, and what it says.
pub(crate) struct Left {
    pub(crate) fields: Fields,
    pub(crate) frame: Vec<u8>,
}

impl Left {
    pub(crate) fn tcp(&self) -> &TcpFields {
        self.fields.tcp.as_ref().expect("TCP")
    }
}

impl<'m> Conversation<'m> {
    /// Until the server has agreed.
    pub(crate) fn opened(
        mode: ClientAddrMode,
        v6: bool,
        isn: u32,
        memory: &'m mut HeapMemory,
    ) -> Self {
        let mut talk = Self::new(mode, v6, isn, memory);
        let syn = talk.client().syn().seq(isn).mss(1460);
        talk.open(syn);
        talk
    }

    /// Until the server has agreed to a SYN; the SYN as it got it, and the answer as the client did.
    pub(crate) fn open(&mut self, syn: Packet<Tcp>) -> [Left; 2] {
        self.open_with(syn, &option::mss(1460))
    }

    /// The same with these options in the answer.
    #[allow(clippy::needless_pass_by_value, reason = "built where it is sent, as in `open`")]
    pub(crate) fn open_with(&mut self, syn: Packet<Tcp>, options: &[u8]) -> [Left; 2] {
        let mut left = self.serve(syn.build_buf());
        assert_eq!(left.len(), 1, "one SYN");
        self.server_isn = left[0].tcp().seq;
        let next = self.server_isn.wrapping_add(1);
        let answer = self.server().syn().seq(self.server_starts).ack(next).options(options);
        [left.remove(0), self.reply(answer.build_buf())]
    }

    pub(crate) fn new(
        mode: ClientAddrMode,
        v6: bool,
        isn: u32,
        memory: &'m mut HeapMemory,
    ) -> Self {
        Self::on(MemPort::plain(MAC), spec(Forwarding::FullNat, mode), v6, isn, memory)
    }

    /// On ports of this kind, with other services.
    pub(crate) fn on(
        port: MemPort,
        spec: SnapshotSpec,
        v6: bool,
        isn: u32,
        memory: &'m mut HeapMemory,
    ) -> Self {
        let bench = Bench::new(spec, memory, port);
        let (client, service) = if v6 { ("[fd00::2]:40000", V6) } else { ("10.0.0.2:40000", V4) };
        let (client, service) = (client.parse().unwrap(), service.parse().unwrap());
        Self { bench, client, service, isn, server_isn: 0, server_starts: SERVER_ISN }
    }

    pub(crate) fn client(&self) -> Packet<Tcp> {
        tcp().from(self.client).to(self.service).dst_mac(MAC)
    }

    /// A client's segment with `bytes` at offset `at` of its stream, that acknowledges `ack` bytes.
    pub(crate) fn says(&self, at: u32, ack: u32, bytes: impl AsRef<[u8]>) -> Packet<Tcp> {
        let seq = self.isn.wrapping_add(1).wrapping_add(at);
        let ack = self.server_starts.wrapping_add(1).wrapping_add(ack);
        self.client().seq(seq).ack(ack).payload(bytes)
    }

    pub(crate) fn server(&self) -> Packet<Tcp> {
        let quad = self.session().quad;
        tcp().from(quad.server).to(quad.local).dst_mac(MAC)
    }

    /// A server's segment that acknowledges `ack` bytes of what it counts.
    pub(crate) fn answers(&self, at: u32, ack: u32, bytes: impl AsRef<[u8]>) -> Packet<Tcp> {
        let seq = self.server_starts.wrapping_add(1).wrapping_add(at);
        self.server().seq(seq).ack(self.server_isn.wrapping_add(1).wrapping_add(ack)).payload(bytes)
    }

    pub(crate) fn session(&self) -> Session {
        let all = self.bench.sessions();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }

    pub(crate) fn serve(&mut self, packet: MemBuf) -> Vec<Left> {
        let (report, frames) = self.bench.feed(CLIENTS, packet);
        assert!(!matches!(report.verdict, Verdict::Drop(_)), "{report:?}");
        frames.into_iter().map(|(port, frame)| left(port == SERVERS, frame)).collect()
    }

    pub(crate) fn reply(&mut self, packet: MemBuf) -> Left {
        let (report, mut frames) = self.bench.feed(SERVERS, packet);
        assert!(matches!(report.verdict, Verdict::Forward(_) | Verdict::Absorb(_)), "{report:?}");
        assert_eq!(frames.len(), 1);
        let (port, frame) = frames.remove(0);
        left(port == CLIENTS, frame)
    }

    pub(crate) fn refused(&mut self, reason: DropReason, packet: MemBuf) {
        let before = self.bench.sessions();
        let (report, frames) = self.bench.feed(CLIENTS, packet);
        assert_eq!((report.verdict, frames.len()), (Verdict::Drop(reason), 0));
        assert_eq!(self.bench.sessions(), before, "a dropped packet left a trace");
    }

    /// Offset in the server's stream of a segment that it got.
    pub(crate) fn place(&self, left: &Left) -> u32 {
        left.tcp().seq.wrapping_sub(self.server_isn).wrapping_sub(1)
    }

    /// Offset in the client's stream of an acknowledgement that it got.
    pub(crate) fn acked(&self, left: &Left) -> u32 {
        left.tcp().ack.wrapping_sub(self.isn).wrapping_sub(1)
    }
}

fn left(right_port: bool, frame: Vec<u8>) -> Left {
    assert!(right_port, "left on the wrong port");
    oracle::checksums_ok(&frame).unwrap();
    let fields = oracle::fields(&frame).unwrap();
    if fields.ports.is_some() {
        oracle::accepted(&frame).unwrap();
    }
    Left { fields, frame }
}

/// The MSS of a server is lowered by what the option takes, and by nothing where a header or nobody tells the address.
#[test]
fn the_mss_is_lowered_for_the_option_only() {
    let headers = [ProxyVersion::V1, ProxyVersion::V2].map(|v| ClientAddrMode::Proxy(proxy(v)));
    let toa = ClientAddrMode::Toa(ToaOptions::default());
    for v6 in [false, true] {
        for mode in [toa, headers[0], headers[1], ClientAddrMode::None] {
            let mut memory = support::memory();
            let mut talk = Conversation::new(mode, v6, 77, &mut memory);
            talk.server_isn = talk.serve(talk.client().syn().seq(77).build_buf())[0].tcp().seq;
            let answer = talk.server().syn().seq(5).ack(talk.server_isn.wrapping_add(1));
            let seen = talk.reply(answer.mss(1440).build_buf());
            let taken = if mode != toa { 0 } else { 8 + 12 * u16::from(v6) };
            let [high, low] = (1440 - taken).to_be_bytes();
            assert_eq!(seen.fields.segment[20..24], [2, 4, high, low], "{mode:?} {v6}");
        }
    }
}
