//! Target `director`: a script runs through a director between two in-memory ports.

use crate::bursts::{End, Event, repeat, same};
use crate::checks::{self, Arrival, Departure};
use crate::outer::without;
use crate::script::{Op, Segment, decode};
use crate::world::{self, HOSTS, Settings, host_ip, host_mac, port_mac};
use lvs_core::flow::L4Proto;
use lvs_core::io::mem::{MemBuf, MemLane};
use lvs_core::io::{Burst, L4Csum, Lane, PacketBuf, PortId};
use lvs_core::time::Time;
use lvs_core::verdict::Verdict;
use lvs_director::{Director, Outputs};
use lvs_testkit::build::{
    Csum, Packet, Tcp, arp_reply, arp_request, echo, echo_reply, ndp_advert, ndp_solicit,
};
use lvs_testkit::build::{flag, tcp, udp};
use lvs_testkit::{nic, oracle};

/// What a run has seen: enough to compare two runs of one script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Verdict of each packet.
    pub verdicts: Vec<Verdict>,
    /// Every frame that left: port and bytes.
    pub sent: Vec<(PortId, Vec<u8>)>,
    /// Most sessions at once.
    pub sessions: u32,
    /// Packets that took the short way when they came in bursts.
    pub short_way: u64,
}

struct Run<'m> {
    director: Director<'m>,
    lane: MemLane,
    out: Outputs<MemBuf>,
    settings: Settings,
    now: Time,
    log: Log,
    /// The newest TCP and UDP frames that reached servers.
    reached: Vec<Vec<u8>>,
    /// What the next frame is to suffer.
    damage: Vec<(u16, u8)>,
    cut: Option<u16>,
    shape: u8,
    /// What happened, to be repeated in bursts.
    events: Vec<Event>,
    /// A corrupt packet waits for a neighbour, so it may come out later.
    corrupt_waits: bool,
}

/// Runs a script: the first two bytes are the [`Settings`], the rest the operations.
///
/// # Panics
/// When anything of [`checks`] does not hold.
pub fn run(bytes: &[u8]) -> Log {
    let Some(([first, second], script)) = bytes.split_first_chunk() else { return Log::default() };
    let settings = Settings(*first, *second);
    let mut memory = world::memory();
    let mut run = Run {
        director: world::director(settings, &mut memory),
        lane: world::lane(settings),
        out: Outputs::new(2),
        settings,
        now: Time(1 << 40),
        log: Log::default(),
        reached: Vec::new(),
        damage: Vec::new(),
        cut: None,
        shape: 0,
        events: Vec::new(),
        corrupt_waits: false,
    };
    for op in decode(script) {
        run.step(op);
    }
    run.finish();
    let once = End::of(&run.director, &run.log.sent);
    let (bursts, short_way) = repeat(settings, &run.events, settings.burst());
    same(&once, &bursts, settings.burst());
    run.log.short_way = short_way;
    run.log
}

impl Run<'_> {
    fn step(&mut self, op: Op) {
        match op {
            Op::Wait(time) => {
                self.now = Time(self.now.0 + u64::from(time) * 10_000_000);
                self.turn();
            }
            Op::Frame { port, bytes } => self.arrives(PortId(u16::from(port % 2)), &bytes, true),
            Op::Client { client, segment } => self.client(client, &segment),
            Op::Server { back, segment } => self.server(back, &segment),
            Op::Datagram { client, len } => {
                let packet = udp().payload_len(usize::from(len));
                let from = (host_ip(client % HOSTS, false), 4000 + u16::from(client) / 4);
                let packet = packet.from(from).to(world::service(L4Proto::Udp, false));
                self.frame_of_host(client % HOSTS, &packet.dst_mac(port_mac(0)).build());
            }
            Op::Echo { client } => {
                let v6 = client & 0x80 != 0;
                let to = world::service(L4Proto::Icmp, v6).0;
                let packet =
                    echo(u16::from(client >> 4), 2).from(host_ip(client % HOSTS, v6)).to(to);
                self.frame_of_host(client % HOSTS, &packet.dst_mac(port_mac(0)).build());
            }
            Op::Neighbour { host, asks } => self.neighbour(host, asks),
            Op::Damage { at, value } => self.damage.push((at, value)),
            Op::Cut(len) => self.cut = Some(len),
            Op::Shape(shape) => self.shape = shape,
        }
    }

    fn frame_of_host(&mut self, host: u8, frame: &[u8]) {
        self.arrives(PortId(u16::from(host / HOSTS % 2)), frame, false);
    }

    fn client(&mut self, client: u8, segment: &Segment) {
        let v6 = client & 0x80 != 0;
        let (host, port) = (client % HOSTS, 4000 + u16::from(client & 0x7f) / 4);
        let from = (host_ip(host, v6), port);
        // The newest word of the server, translated, if there is one.
        let heard = self.log.sent.iter().rev().find_map(|(_, frame)| {
            let fields = oracle::fields(frame).ok()?;
            let to_it = fields.dst == from.0 && fields.ports?.1 == port;
            next_after(&fields).filter(|_| to_it)
        });
        let seq = 1000u32.wrapping_add_signed(segment.ahead.into());
        let packet = packet_of(segment, seq, heard.unwrap_or(0)).from(from);
        let packet = packet.to(world::service(L4Proto::Tcp, v6)).src_mac(host_mac(host));
        self.segment(PortId(0), packet.dst_mac(port_mac(0)));
    }

    fn server(&mut self, back: u8, segment: &Segment) {
        let newest = self.reached.len().checked_sub(1 + usize::from(back) % 8);
        let Some(frame) = newest.and_then(|at| self.reached.get(at)) else { return };
        let Ok(fields) = oracle::fields(frame) else { return };
        let Some((client_port, server_port)) = fields.ports else {
            return self.echo_reply(&fields);
        };
        let (from, to) = ((fields.dst, server_port), (fields.src, client_port));
        let Some(ack) = next_after(&fields) else {
            let reply = udp().payload_len(usize::from(segment.len)).from(from).to(to);
            return self.arrives(PortId(1), &reply.dst_mac(port_mac(1)).build(), false);
        };
        let seq = 5000u32.wrapping_add_signed(segment.ahead.into());
        self.segment(
            PortId(1),
            packet_of(segment, seq, ack).from(from).to(to).dst_mac(port_mac(1)),
        );
    }

    /// What a server says to an echo request.
    fn echo_reply(&mut self, request: &oracle::Fields) {
        let Some([_, _, _, _, a, b]) = request.segment.first_chunk() else { return };
        let reply = echo_reply(u16::from_be_bytes([*a, *b]), 2).from(request.dst).to(request.src);
        self.arrives(PortId(1), &reply.dst_mac(port_mac(1)).build(), false);
    }

    /// A segment in the form that the script wants.
    fn segment(&mut self, port: PortId, packet: Packet<Tcp>) {
        let shape = core::mem::take(&mut self.shape);
        let packet = match shape % 4 {
            0 => return self.arrives(port, &packet.build(), false),
            1 => packet.l4_csum(Csum::Partial),
            2 => packet.vlan_beside(u16::from(shape)),
            _ => packet.payload_len(700).gso(100 + u16::from(shape)),
        };
        self.suffer(port, packet.build_buf());
    }

    fn neighbour(&mut self, host: u8, asks: bool) {
        let (v6, host) = (host & 0x80 != 0, host % (2 * HOSTS));
        let port = u16::from(host / HOSTS);
        let (mac, own) = (host_mac(host), port_mac(port));
        let frame = match (host_ip(host, v6), asks) {
            (core::net::IpAddr::V4(ip), true) => {
                arp_request(mac, ip, [10, port as u8, 0, if port == 0 { 80 } else { 100 }].into())
                    .build()
            }
            (core::net::IpAddr::V4(ip), false) => {
                arp_reply(mac, ip, own, [10, port as u8, 0, 1].into()).build()
            }
            (core::net::IpAddr::V6(ip), true) => {
                let last = if port == 0 { 0x80 } else { 0x100 };
                ndp_solicit(mac, ip, [0xfd00 + port, 0, 0, 0, 0, 0, 0, last].into()).build()
            }
            (core::net::IpAddr::V6(ip), false) => {
                let asker = [0xfd00 + port, 0, 0, 0, 0, 0, 0, 1].into();
                ndp_advert(mac, ip, own, asker, 0x60).build()
            }
        };
        self.arrives(PortId(port), &frame, false);
    }

    /// A frame arrives as bytes; `as_is` frames are not ours to damage.
    fn arrives(&mut self, port: PortId, frame: &[u8], as_is: bool) {
        let packet = MemBuf::from_bytes(frame);
        if as_is { self.passes(port, packet) } else { self.suffer(port, packet) }
    }

    fn suffer(&mut self, port: PortId, mut packet: MemBuf) {
        if let Some(len) = self.cut.take() {
            let len = usize::from(len) % (packet.data().len() + 1);
            packet.truncate(len);
        }
        for (at, value) in core::mem::take(&mut self.damage) {
            let len = packet.data().len();
            if let Some(byte) = packet.data_mut().get_mut(usize::from(at) % len.max(1)) {
                *byte = value;
            }
        }
        // A device that says "partial" has looked at the headers; for anything else it does not.
        if packet.l4_csum() == L4Csum::Partial && !checks::is_believable(&packet) {
            packet.set_l4_csum(L4Csum::Unknown, 0, 0);
            packet.set_gso(None, 0);
        }
        self.passes(port, packet);
    }

    /// One packet through the director, with everything that is asserted about it.
    fn passes(&mut self, port: PortId, packet: MemBuf) {
        let Ok(()) = self.lane.inject(port, packet) else { return };
        let mut burst = Burst::new();
        self.lane.rx_burst(port, &mut burst).expect("the link is up");
        let Some(packet) = burst.pop() else { panic!("the frame did not arrive") };
        self.events.push(Event::Packet(self.now, port, packet.clone()));
        let arrival = Arrival::of(&packet, self.director.counters());
        let resumed = self.director.counters().resumed;
        let report =
            self.director.process_one(self.now, &mut self.lane, port, packet, &mut self.out);
        self.log.verdicts.push(report.verdict);
        arrival.check_counters(report.verdict, self.director.counters());
        let sent = self.flush();
        let resumed = self.director.counters().resumed != resumed;
        if report.verdict == Verdict::Absorb(lvs_core::verdict::Absorbed::WaitsForNeighbour) {
            self.corrupt_waits |= !arrival.sound;
        }
        let may_be_corrupt = resumed && self.corrupt_waits;
        arrival.check_frames(report.verdict, &sent, may_be_corrupt);
        self.checks();
    }

    /// Gives everything to the wire and reads it from there.
    fn flush(&mut self) -> Vec<Departure> {
        self.out.flush(&mut self.lane);
        let mut departures = Vec::new();
        for port in [PortId(0), PortId(1)] {
            while let Some(packet) = self.lane.take_sent(port) {
                let frames = nic::on_wire(&packet).into_iter();
                let frames: Vec<_> = frames.map(|frame| without(self.settings, frame)).collect();
                for frame in &frames {
                    let is_tracked = oracle::fields(frame).is_ok_and(|f| {
                        f.ports.is_some() || matches!(f.segment.first(), Some(8 | 128))
                    });
                    if port == PortId(1) && is_tracked {
                        self.reached.push(frame.clone());
                    }
                    self.log.sent.push((port, frame.clone()));
                }
                departures.push(Departure { port, frames });
            }
        }
        let keep = self.reached.len().saturating_sub(8);
        self.reached.drain(..keep);
        departures
    }

    fn turn(&mut self) {
        self.events.push(Event::Turn(self.now));
        self.director.expire(self.now, 1000);
        self.director.tick(self.now, &mut self.lane, &mut self.out);
        let sent = self.flush();
        checks::originals(&sent);
        self.checks();
    }

    fn checks(&mut self) {
        checks::conserved(&self.director, self.settings.forwarding());
        checks::nothing_held(&self.lane, &self.out);
        self.log.sessions = self.log.sessions.max(self.director.store().len());
        while self.director.poll_event().is_some() {}
    }

    /// Every time-out passes: nothing may be left.
    fn finish(&mut self) {
        for _ in 0..40 {
            self.now = Time(self.now.0 + 10_000_000_000);
            self.turn();
        }
        assert_eq!(self.director.store().len(), 0, "sessions are left (INV-9)");
        assert_eq!(self.director.store().ports_in_use(), 0, "ports are left (INV-9)");
    }
}

/// What the receiver of a segment acknowledges.
fn next_after(fields: &oracle::Fields) -> Option<u32> {
    let tcp = fields.tcp.as_ref()?;
    let marks = [flag::SYN, flag::FIN].iter().filter(|mark| tcp.flags & **mark != 0).count();
    Some(tcp.seq.wrapping_add((fields.payload.len() + marks) as u32))
}

fn packet_of(segment: &Segment, seq: u32, ack: u32) -> Packet<Tcp> {
    let packet = tcp().flags(segment.flags).seq(seq).options(&segment.options);
    let packet = packet.ttl(segment.ttl).payload_len(usize::from(segment.len) * 8);
    if segment.flags & flag::ACK == 0 { packet } else { packet.ack(ack) }
}
