//! Frames to send and ways to receive them again.

use lvs_core::io::{Burst, Lane, PacketBuf, PortId, WaitReady};
use lvs_io_afpacket::{Geometry, PacketLane, PortConfig, Rings, Slot};

/// The local experimental EtherType: nobody else in the namespace sends it.
pub(crate) const EXPERIMENT: u16 = 0x88b5;
pub(crate) const P0: PortId = PortId(0);
pub(crate) const P1: PortId = PortId(1);

/// A small ring: tests look at its ends.
pub(crate) fn small(interface: &str) -> PortConfig {
    let mut port = PortConfig::new(interface);
    port.geometry = Geometry { slot_size: 4096, slots: 32 };
    port
}

/// `len` bytes with the experimental EtherType and a number.
pub(crate) fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![number as u8; len];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&EXPERIMENT.to_be_bytes());
    frame[14..18].copy_from_slice(&number.to_be_bytes());
    frame
}

/// Number of a frame from [`numbered`]; `None` for anything else on the wire.
pub(crate) fn number(frame: &[u8]) -> Option<u32> {
    let body = frame.get(12..18)?;
    (body[..2] == EXPERIMENT.to_be_bytes())
        .then(|| u32::from_be_bytes([body[2], body[3], body[4], body[5]]))
}

/// A fresh packet with these bytes.
pub(crate) fn fresh<'m>(lane: &mut PacketLane<'m>, bytes: &[u8]) -> Slot<'m> {
    let mut packet = lane.alloc(bytes.len()).expect("the pool is not empty");
    packet.data_mut().copy_from_slice(bytes);
    packet
}

/// Sends packets; all must be taken.
pub(crate) fn send<'m>(lane: &mut PacketLane<'m>, port: PortId, packets: Vec<Slot<'m>>) {
    let mut burst = Burst::new();
    for packet in packets {
        burst.push(packet).expect("a burst at most");
        if burst.room() == 0 {
            flush(lane, port, &mut burst);
        }
    }
    flush(lane, port, &mut burst);
}

fn flush<'m>(lane: &mut PacketLane<'m>, port: PortId, burst: &mut Burst<Slot<'m>>) {
    let all = burst.len();
    assert_eq!(lane.tx_burst(port, burst), Ok(all));
}

/// Receives what has arrived until nothing more comes; a veth pair delivers before `sendmmsg`
/// returns or shortly after, hence the short wait.
pub(crate) fn receive<'m>(lane: &mut PacketLane<'m>, port: PortId) -> Vec<Slot<'m>> {
    let mut all = Vec::new();
    let mut quiet = 0;
    while quiet < 3 {
        let mut burst = Burst::new();
        let before = lane.stats(port);
        lane.rx_burst(port, &mut burst).expect("the link is up");
        let skipped = lane.stats(port).rx_truncated > before.rx_truncated;
        quiet = if burst.is_empty() && !skipped { quiet + 1 } else { 0 };
        burst.drain_with(|packet| all.push(packet));
        if quiet > 0 {
            lane.wait(20_000).expect("waiting works");
        }
    }
    all
}

/// Numbers of the experimental frames among these.
pub(crate) fn numbers(packets: &[Slot<'_>]) -> Vec<u32> {
    packets.iter().filter_map(|packet| number(packet.data())).collect()
}

/// The Internet checksum over these parts: 0xffff when a checksum inside is right.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A UDP/IPv4 frame whose checksum field holds the pseudo-header sum only.
pub(crate) fn partial_udp(
    source: u16,
    destination: u16,
    options: usize,
    payload: &[u8],
) -> Vec<u8> {
    let udp_len = (8 + payload.len()) as u16;
    let mut frame = vec![0u8; 14 + 20 + options];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[12] = 8;
    let header = &mut frame[14..];
    header[0] = 0x40 | (5 + options / 4) as u8;
    header[2..4].copy_from_slice(&(20 + options as u16 + udp_len).to_be_bytes());
    header[8] = 64;
    header[9] = 17;
    header[12..20].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
    header[20..].fill(1); // no-operation options
    let check = !sum(&[header]);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    let pseudo = sum(&[&header[12..20], &[0, 17], &udp_len.to_be_bytes()]);
    for word in [source, destination, udp_len, pseudo] {
        frame.extend_from_slice(&word.to_be_bytes());
    }
    frame.extend_from_slice(payload);
    frame
}

/// Whether the UDP checksum of an IPv4 frame is complete and right.
pub(crate) fn udp_is_right(frame: &[u8]) -> bool {
    let l4 = 14 + usize::from(frame[14] & 15) * 4;
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let len = ((end - l4) as u16).to_be_bytes();
    sum(&[&frame[26..34], &[0, 17], &len, &frame[l4..end]]) == 0xffff
}

/// Lets the kernel send a datagram out of a0, which is port 0; tells whether a1, port 1, has seen it
/// and whether port 0 has. (The lane's own frames do not show here: going around the queueing
/// discipline, they go around the taps, too.)
pub(crate) fn host_sends_and_port_sees(rings: &mut Rings) -> (bool, bool) {
    crate::host::ip("addr replace 10.1.0.1/24 dev a0");
    let socket = std::net::UdpSocket::bind("10.1.0.1:0").unwrap();
    socket.set_broadcast(true).unwrap();
    socket.send_to(b"from the host itself", "10.1.0.255:9").unwrap();
    let mut lane = rings.lane();
    let mut saw = |port| {
        receive(&mut lane, port)
            .iter()
            .any(|packet| packet.data().ends_with(b"from the host itself"))
    };
    (saw(P1), saw(P0))
}
