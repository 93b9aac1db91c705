//! Probes of the forwarding modes, of ICMP, and of packets in parts.

use core::hash::{Hash, Hasher};
use core::hint::black_box;
use core::net::IpAddr;

use lvs_core::addr::Family;
use lvs_core::flow::WireTuple;
use lvs_core::io::{Burst, Gso, GsoCaps, GsoKind, L4Csum, Lane, PacketBuf, PortId};
use lvs_core::time::Tick;
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::fragment::{
    FragmentKey, FragmentMemory, FragmentSlot, HeldFrame, Limits, Received, SplitV4,
};
use lvs_nat::icmp::{
    Complaint, ErrorEdit, Offender, checksum_is_right, complain, complain_about, echo, embedded,
    less_growth, tunnelled,
};
use lvs_nat::options::lower_mss_to;
use lvs_nat::segment::Segments;
use lvs_nat::tunnel::{DontFragment, Dscp, Encapsulation};
use lvs_nat::{AnyRewrite, Direct, Sending, SeqDeltas, Tunnel};

use crate::lane::{OneFrame, Packet};
use crate::probes::Fold;
use crate::translation::rewrites;

const SCRATCH: usize = 1600;

/// Every mode that the optimiser cannot tell apart, for this packet.
fn any(frame: &[u8], headers: &Headers) -> Option<AnyRewrite> {
    let (src, dst) = headers.addresses(frame)?;
    let how = match black_box(0u8) {
        0 => Encapsulation::IpIp,
        1 => Encapsulation::Gre { checksum: black_box(true) },
        _ => Encapsulation::Gue { dport: black_box(6080), checksum: black_box(false) },
    };
    let tunnel = Tunnel::new(src, dst, how)?;
    let dscp = if black_box(true) { Dscp::Copy } else { Dscp::Set(black_box(3)) };
    let df = if black_box(true) { DontFragment::Copy } else { DontFragment::Clear };
    let tunnel = tunnel.ttl(black_box(None)).dscp(dscp).dont_fragment(df);
    let tuple = headers.tuple.unwrap_or(WireTuple::new(
        lvs_core::flow::L4Proto::Udp,
        src,
        black_box(1),
        dst,
        black_box(2),
    )?);
    let [there, back] = rewrites(&tuple, black_box(SeqDeltas { seq: 5, ack: 6 }));
    Some(match black_box(0u8) {
        0 => there,
        1 => back,
        2 => AnyRewrite::Direct(Direct::new(black_box(true))),
        _ => AnyRewrite::Tunnel(tunnel.decrement_ttl(black_box(true))),
    })
}

/// Edits every frame received over a lane for any mode, as a packet and as an ICMP error.
pub fn forwarding(frame: &mut [u8]) -> u64 {
    let mut lane = OneFrame::new(frame, black_box(3));
    let mut burst = Burst::new();
    let mut seen = Fold::default();
    let in_tunnel = black_box(false);
    let sending = Sending { gso: GsoCaps { in_tunnel, ..GsoCaps::default() }, ip_id: black_box(7) };
    while let Ok(1..) = lane.rx_burst(PortId(0), &mut burst) {
        while let Some(mut packet) = burst.pop() {
            edit(&mut packet, &sending).hash(&mut seen);
            packet.data().hash(&mut seen);
        }
    }
    seen.finish()
}

fn edit(packet: &mut Packet, sending: &Sending) -> Option<bool> {
    let Ok(Parsed::Ip(mut headers)) = Headers::parse(packet.data(), packet.total_len()) else {
        return None;
    };
    let rewrite = any(packet.data(), &headers)?;
    let csum = packet.l4_csum();
    let _ = lower_mss_to(packet.data_mut(), &headers, csum, rewrite.growth());
    let growth = black_box(8);
    let how = ErrorEdit { keep_source: black_box(false), growth };
    Some(match embedded(packet.data(), &headers) {
        Some(quote) => rewrite.apply_error(packet, &mut headers, &quote, &how, sending).is_ok(),
        None => rewrite.apply_to(packet, &mut headers, sending).is_ok(),
    })
}

/// Reads ICMP, and complains about the frame.
pub fn icmp(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else { return 0 };
    checksum_is_right(frame, &headers).hash(&mut seen);
    echo(frame, &headers).hash(&mut seen);
    embedded(frame, &headers).map(|quote| quote.lookup()).hash(&mut seen);
    let mut out = [0; SCRATCH];
    let mtu = less_growth(black_box(1500), black_box(20), Family::V4);
    let complaint =
        if black_box(true) { Complaint::TooBig { mtu } } else { Complaint::TimeExceeded };
    let from: IpAddr = black_box([10, 0, 0, 1].into());
    let csum = black_box(L4Csum::Partial);
    complain(frame, &headers, csum, complaint, from, 64, &mut out).hash(&mut seen);
    if let Some(inner) = tunnelled(frame, &headers, black_box(Some(6080))) {
        (inner.growth, inner.mtu).hash(&mut seen);
        let link = frame.get(..black_box(14)).unwrap_or_default();
        let offender = Offender { packet: inner.packet(frame, &headers), link };
        complain_about(&offender, complaint, from, 64, &mut out).hash(&mut seen);
    }
    out.hash(&mut seen);
    seen.finish()
}

/// Cuts the frame as a train and into fragments.
pub fn parts(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else { return 0 };
    let mut out = [0; SCRATCH];
    let gso = Gso { kind: black_box(GsoKind::TcpV4), size: black_box(100) };
    let csum = black_box(L4Csum::Unknown);
    if let Ok(train) = Segments::new(frame, &headers, gso, csum, black_box(64)) {
        for i in 0..train.count() {
            let written = train.write(i, frame, black_box(false), &mut out);
            written.map(|(len, _)| len).hash(&mut seen);
            (train.len(i), out).hash(&mut seen);
        }
    }
    if let Ok(plan) = SplitV4::new(frame, &headers, csum, black_box(68)) {
        for i in 0..plan.count() {
            plan.write(i, frame, &mut out).hash(&mut seen);
            (plan.len(i), out).hash(&mut seen);
        }
    }
    seen.finish()
}

/// Follows the frame as a piece of a datagram.
pub fn pieces(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else { return 0 };
    let Some((key, piece)) = FragmentKey::of(frame, &headers) else { return 0 };
    let mut slots = black_box([FragmentSlot::EMPTY; 20]);
    let mut held = black_box([const { HeldFrame::<256>::EMPTY }; 3]);
    let limits = Limits {
        timeout: black_box(10),
        wait: black_box(9),
        per_source: black_box(2),
        held: black_box(2),
    };
    let lent = slots.get_mut(..black_box(20)).unwrap_or_default();
    let mut memory = FragmentMemory::new(lent, held.as_mut_slice(), black_box([1, 2]), limits);
    let (now, received) = (Tick(black_box(5)), Received::default());
    for _ in 0..black_box(3) {
        memory.later(now, &key, piece, frame, received).is_ok().hash(&mut seen);
        memory.first(now, &key, piece, black_box(7u8)).hash(&mut seen);
        memory.release(&key, |way, _, frame| (way, frame.len())).hash(&mut seen);
    }
    memory.expire(Tick(black_box(50)), black_box(9)).hash(&mut seen);
    (memory.live(), memory.waiting(), memory.take_lost().expired).hash(&mut seen);
    seen.finish()
}
