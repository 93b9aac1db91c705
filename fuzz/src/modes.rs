//! Targets `rewrite`, `tunnel` and `icmp`: one frame through the pure translation.
//!
//! The first sixteen bytes say with what it is translated ([`Control`]), the rest is the frame. What a
//! translation must keep whatever the frame is: a checksum that was right stays right and a wrong one
//! wrong (INV-3), a refused packet is untouched, there and back is nothing, and what is made parses.

use lvs_core::checksum::{AddrPair, verify_tcp, verify_udp};
use lvs_core::flow::L4Proto;
use lvs_core::io::mem::{MemBuf, MemMeta};
use lvs_core::io::{Gso, GsoKind, L4Csum, PacketBuf};
use lvs_core::wire::{Fragment, Headers, Parsed, Transport};
use lvs_nat::fragment::SplitV4;
use lvs_nat::icmp::{
    Carried, Complaint, ErrorEdit, Unreachable, checksum_is_right, complain, echo, embedded,
    may_complain, tunnelled,
};
use lvs_nat::segment::Segments;
use lvs_nat::tunnel::{DontFragment, Dscp, Encapsulation};
use lvs_nat::{AnyRewrite, Direct, End, Ends, Rewrite, Sending, SeqDeltas, Tunnel};
use std::net::IpAddr;

/// What the first bytes of an input say.
#[derive(Clone, Copy)]
struct Control {
    bits: [u8; 4],
    numbers: [u32; 3],
}

impl Control {
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, frame) = bytes.split_first_chunk::<16>()?;
        let word = |at: usize| head[at..at + 4].try_into().expect("four bytes");
        let numbers = [4, 8, 12].map(|at| u32::from_be_bytes(word(at)));
        Some((Self { bits: word(0), numbers }, frame))
    }

    fn port(&self) -> u16 {
        self.numbers[2] as u16
    }

    /// An address of the family, made of numbers.
    fn ip(&self, v4: bool, which: usize) -> IpAddr {
        let number = self.numbers[which];
        if v4 {
            IpAddr::V4(number.into())
        } else {
            IpAddr::V6((u128::from(number) << 48 | 9).into())
        }
    }
}

fn parse(frame: &[u8]) -> Option<Headers> {
    match Headers::parse(frame, frame.len()) {
        Ok(Parsed::Ip(headers)) => Some(headers),
        _ => None,
    }
}

/// Whether the transport checksum is right; `None` where there is none to judge.
fn is_right(frame: &[u8], headers: &Headers) -> Option<bool> {
    if headers.fragment != Fragment::No {
        return None;
    }
    let l4 = frame.get(usize::from(headers.l4)..headers.end as usize)?;
    match headers.transport {
        // Of zeros alone the right checksum is 0xffff, and 0 is no other number to arithmetic by difference.
        Transport::Icmp { .. } if l4.iter().all(|byte| *byte == 0) => None,
        Transport::Icmp { .. } => checksum_is_right(frame, headers),
        Transport::Other(_) => None,
        Transport::Tcp { .. } | Transport::Udp => {
            let tuple = headers.tuple?;
            match tuple.proto() {
                L4Proto::Tcp => Some(verify_tcp(AddrPair::from(&tuple), l4, &[])),
                L4Proto::Udp => {
                    // A UDP length below that of the packet leaves the rest unsummed.
                    let len = usize::from(u16::from_be_bytes([l4[4], l4[5]]));
                    (len == l4.len()).then(|| verify_udp(AddrPair::from(&tuple), l4, &[]))
                }
                #[allow(unreachable_patterns, reason = "other protocols may come")]
                _ => None,
            }
        }
    }
}

/// The edit that turns source and destination of the frame into others, and its opposite.
fn there_and_back(frame: &[u8], headers: &Headers, control: &Control) -> Option<[AnyRewrite; 2]> {
    let (src, dst) = headers.addresses(frame)?;
    let (sport, dport) = match (headers.tuple, echo(frame, headers)) {
        (Some(tuple), _) => (tuple.sport(), tuple.dport()),
        (None, Some(echo)) => (echo.id, echo.id),
        _ => (0, 0),
    };
    let seq = SeqDeltas { seq: control.numbers[0], ack: control.numbers[1] };
    let back = SeqDeltas { seq: seq.seq.wrapping_neg(), ack: seq.ack.wrapping_neg() };
    let v4 = src.is_ipv4();
    let (new_src, new_dst) = (control.ip(v4, 0), control.ip(v4, 1));
    let port = control.port();
    macro_rules! pair {
        ($variant:ident, $ip:ident) => {{
            let end = |ip: IpAddr, port| match ip {
                IpAddr::$ip(ip) => Some(End::new(ip.to_bits(), port)),
                _ => None,
            };
            let (from, to) = (end(src, sport)?, end(dst, dport)?);
            let (local, server) = (end(new_src, port)?, end(new_dst, !port)?);
            let one = Ends::full_nat(from, to, local, server);
            let two = Ends::full_nat(local, server, from, to);
            [
                AnyRewrite::$variant(Rewrite::inbound(&one, one.deltas(), seq)),
                AnyRewrite::$variant(Rewrite::inbound(&two, two.deltas(), back)),
            ]
        }};
    }
    Some(if v4 { pair!(V4, V4) } else { pair!(V6, V6) })
}

/// Target `rewrite`: translation there and back, a hop less, trains and fragments.
///
/// # Panics
/// When one of the laws does not hold.
pub fn rewrite(bytes: &[u8]) {
    let Some((control, frame)) = Control::read(bytes) else { return };
    let Some(headers) = parse(frame) else { return };
    let right = is_right(frame, &headers);
    if let Some([there, back]) = there_and_back(frame, &headers, &control) {
        let mut made = frame.to_vec();
        match there.apply(&mut made, &headers, L4Csum::Unknown) {
            Err(_) => assert_eq!(made, frame, "a refused packet is untouched"),
            Ok(()) => {
                let after = parse(&made).expect("a translated packet parses");
                stays(right, is_right(&made, &after));
                back.apply(&mut made, &after, L4Csum::Unknown).expect("what went there comes back");
                same_but_zeros(&made, frame, &headers);
            }
        }
    }
    let mut made = frame.to_vec();
    if AnyRewrite::Direct(Direct::new(true)).apply(&mut made, &headers, L4Csum::Unknown).is_ok() {
        let after = parse(&made).expect("a packet with a hop less parses");
        assert_eq!(after.ttl + 1, headers.ttl);
        stays(right, is_right(&made, &after));
    }
    train(frame, &headers, &control, right);
    fragments(frame, &headers, &control);
}

/// INV-3, where both packets tell.
fn stays(before: Option<bool>, after: Option<bool>) {
    if let (Some(before), Some(after)) = (before, after) {
        assert_eq!(after, before, "INV-3");
    }
}

/// Equal but for a checksum that has two ways to be zero.
fn same_but_zeros(made: &[u8], frame: &[u8], headers: &Headers) {
    let l4 = usize::from(headers.l4);
    let fields = [usize::from(headers.l3) + 10, l4 + 16, l4 + 6, l4 + 2];
    let mut made = made.to_vec();
    for at in fields {
        let (Some(new), Some(old)) = (made.get_mut(at..at + 2), frame.get(at..at + 2)) else {
            continue;
        };
        let zero = |bytes: &[u8]| matches!(bytes, [0, 0] | [0xff, 0xff]);
        if zero(new) && zero(old) {
            new.copy_from_slice(old);
        }
    }
    assert_eq!(made, frame, "there and back");
}

fn train(frame: &[u8], headers: &Headers, control: &Control, right: Option<bool>) {
    let kind = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp][usize::from(control.bits[1]) % 3];
    let gso = Gso { kind, size: (control.numbers[2] >> 16) as u16 };
    let Ok(train) = Segments::new(frame, headers, gso, L4Csum::Unknown, 256) else { return };
    let mut payload = Vec::new();
    for index in 0..train.count() {
        let mut out = vec![0xaa; train.len(index).expect("within the count")];
        train.write(index, frame, false, &mut out).expect("room");
        let part = parse(&out).expect("a segment parses");
        assert_eq!(part.end as usize, out.len());
        // A UDP checksum of none is none in IPv4 and wrong in IPv6, of the train and of its parts.
        if let (Some(right), Some(part)) = (right, is_right(&out, &part)) {
            assert_eq!(part, right, "INV-3");
        }
        payload.extend_from_slice(&out[usize::from(headers.payload)..]);
    }
    assert_eq!(payload, frame[usize::from(headers.payload)..headers.end as usize]);
}

fn fragments(frame: &[u8], headers: &Headers, control: &Control) {
    let mtu = (control.numbers[0] as u16).max(28);
    let Ok(plan) = SplitV4::new(frame, headers, L4Csum::Unknown, mtu) else { return };
    let l4 = usize::from(headers.l4);
    let mut body = Vec::new();
    for index in 0..plan.count() {
        let mut out = vec![0xaa; plan.len(index).expect("within the count")];
        assert_eq!(plan.write(index, frame, &mut out), Some(out.len()));
        assert!(out.len() - usize::from(headers.l3) <= usize::from(mtu));
        body.extend_from_slice(&out[l4..]);
    }
    assert_eq!(body, frame[l4..headers.end as usize]);
}

/// Target `tunnel`: a packet into a tunnel, read as the outer packet, and as what a router quotes of it.
///
/// # Panics
/// When one of the laws does not hold.
pub fn tunnel(bytes: &[u8]) {
    let Some((control, frame)) = Control::read(bytes) else { return };
    let Some(headers) = parse(frame) else { return };
    let [how, family, fields, csum] = control.bits;
    let how = match how % 6 {
        0 => Encapsulation::IpIp,
        1 => Encapsulation::Gre { checksum: false },
        2 => Encapsulation::Gre { checksum: true },
        3 => Encapsulation::Gue { dport: 6080, checksum: true },
        _ => Encapsulation::Gue { dport: 6080, checksum: false },
    };
    let v4 = family & 1 == 0;
    let ends = (control.ip(v4, 0), control.ip(v4, 1));
    let tunnel = Tunnel::new(ends.0, ends.1, how)
        .expect("one family")
        .dscp(if fields & 1 == 0 { Dscp::Copy } else { Dscp::Set(fields >> 2) })
        .dont_fragment(if fields & 2 == 0 { DontFragment::Copy } else { DontFragment::Clear })
        .decrement_ttl(fields & 4 != 0);
    let l4_csum = if csum & 1 == 0 { L4Csum::Unknown } else { L4Csum::Partial };
    let room = if csum & 2 == 0 { 64 } else { usize::from(csum) };
    let meta = MemMeta { l4_csum, ..MemMeta::default() };
    let mut buf = MemBuf::with_room(frame, room, 0).with_meta(meta);
    let mut shifted = headers;
    let sending = Sending { ip_id: control.port(), ..Sending::default() };
    if AnyRewrite::Tunnel(tunnel).apply_to(&mut buf, &mut shifted, &sending).is_err() {
        assert_eq!((buf.data(), shifted), (frame, headers), "a refused packet is untouched");
        return;
    }
    let (growth, l3) = (usize::from(tunnel.growth()), usize::from(headers.l3));
    let out = buf.data();
    let outer = parse(out).expect("the outer packet parses");
    assert_eq!(outer.addresses(out), Some(ends));
    assert_eq!(outer.end, headers.end + growth as u32);
    if l4_csum == L4Csum::Unknown && outer.transport == Transport::Udp {
        assert_eq!(is_right(out, &outer), Some(true), "the outer checksum");
    }
    // What is behind the IP header inside is what came.
    let l4 = usize::from(headers.l4);
    assert_eq!(out[l4 + growth..outer.end as usize], frame[l4..headers.end as usize]);

    // A router complains about it, if it may.
    let mut error = [0; 1400];
    let from = control.ip(v4, 2);
    let complaint = Complaint::TooBig { mtu: 1300 };
    let mut sent = out.to_vec();
    sent[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    let Some(len) = complain(&sent, &outer, L4Csum::Unknown, complaint, from, 9, &mut error) else {
        return;
    };
    let error = &error[..len];
    let headers = parse(error).expect("an error parses");
    let found = tunnelled(error, &headers, Some(6080)).expect("the packet inside is quoted");
    assert_eq!((found.source, found.server), ends);
    assert_eq!((usize::from(found.growth), found.mtu), (growth, Some(1300)));
    let inside = found.packet(error, &headers);
    assert_eq!(inside, &out[l3 + growth..][..inside.len()]);
}

/// Target `icmp`: what an error quotes, its translation, and errors about anything.
///
/// # Panics
/// When one of the laws does not hold.
pub fn icmp(bytes: &[u8]) {
    let Some((control, frame)) = Control::read(bytes) else { return };
    let Some(headers) = parse(frame) else { return };
    let right = checksum_is_right(frame, &headers);
    let quote = embedded(frame, &headers);
    assert!(quote.is_none() || echo(frame, &headers).is_none(), "an error is no echo");
    if let (Some(quote), Some([there, _])) = (quote, there_and_back(frame, &headers, &control)) {
        let edit =
            ErrorEdit { keep_source: control.bits[0] & 1 != 0, growth: u16::from(control.bits[1]) };
        let mut buf = MemBuf::from_bytes(frame);
        let mut same = headers;
        let sending = Sending::default();
        there
            .apply_error(&mut buf, &mut same, &quote, &edit, &sending)
            .expect("a quote of this frame");
        let made = buf.data();
        let after = parse(made).expect("a translated error parses");
        assert_eq!(checksum_is_right(made, &after), right, "INV-3");
        let (src, dst) = after.addresses(made).expect("its own headers");
        let told = embedded(made, &after).expect("still an error about a flow");
        // The quoted packet is one from the error's receiver to its other end.
        let (from, to) = match told.carried {
            Carried::Flow(tuple) => {
                assert_eq!((tuple.sport(), tuple.dport()), (!control.port(), control.port()));
                (tuple.src(), tuple.dst())
            }
            Carried::Echo(echo) => (echo.src, echo.dst),
        };
        assert_eq!((from, edit.keep_source || to == src), (dst, true));
    }
    about_anything(frame, &headers, &control);
}

fn about_anything(frame: &[u8], headers: &Headers, control: &Control) {
    let (src, _) = headers.addresses(frame).expect("the frame that was parsed");
    let complaint = match control.bits[2] % 4 {
        0 => Complaint::TooBig { mtu: control.numbers[0] },
        1 => Complaint::TimeExceeded,
        2 => Complaint::Unreachable(Unreachable::Host),
        _ => Complaint::Unreachable(Unreachable::Port),
    };
    let from = control.ip(src.is_ipv4(), 2);
    let mut out = [0; 1400];
    let len = complain(frame, headers, L4Csum::Unknown, complaint, from, 64, &mut out);
    let packet = &frame[usize::from(headers.l3)..headers.end as usize];
    let Some(len) = len else { return };
    assert!(may_complain(packet) && headers.fragment != Fragment::Later);
    let error = &out[..len];
    let own = parse(error).expect("an error parses");
    assert_eq!(checksum_is_right(error, &own), Some(true));
    assert_eq!(own.addresses(error), Some((from, src)));
    assert!(!may_complain(&error[usize::from(own.l3)..]), "nobody complains about a complaint");
    let told = embedded(error, &own).map(|quote| quote.carried);
    if let Some(tuple) = headers.tuple {
        assert_eq!(told, Some(Carried::Flow(tuple)));
    }
}
