//! An ICMP error about a translated packet becomes the error about the packet that was sent.

mod support;

use core::net::IpAddr;
use lvs_core::flow::{Direction, L4Proto, WireTuple};
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::icmp::{
    Carried, Echo, ErrorEdit, checksum_is_right, echo, embedded, less_growth, tunnelled,
};
use lvs_nat::tunnel::Encapsulation;
use lvs_nat::{RewriteError, Sending, Tunnel};
use proptest::prelude::*;
use support::icmp::Message;
use support::other::{Other, others};
use support::{Opt, Spec, edgy, specs};

fn parsed(frame: &[u8]) -> Headers {
    match Headers::parse(frame, frame.len()) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("{other:?}"),
    }
}

/// Whether the error tells an MTU; which other error it is; its code; the word behind the checksum.
type Kind = (bool, usize, u8, u32);

fn kinds() -> impl Strategy<Value = Kind> {
    (any::<bool>(), 0usize..4, any::<u8>(), prop_oneof![any::<u32>(), 0u32..2000])
}

/// Type, code and word for the family of `spec`.
fn pick(spec: &Spec, (big, which, code, word): Kind) -> (u8, u8, u32) {
    match (spec.src.is_ipv4(), big) {
        (true, true) => (3, 4, word),
        (true, false) => ([3, 4, 11, 12][which], code, word),
        (false, true) => (2, 0, word),
        (false, false) => ([1, 2, 3, 4][which], code, word),
    }
}

/// How much of a packet is quoted: any length but those that show an acknowledgement without its flag,
/// half a checksum, or a checksum without all the options that it covers.
fn quote_len(spec: &Spec, wish: usize) -> usize {
    let (l4, options_end, end) = (spec.l4(), spec.payload_at(), spec.end());
    let len = l4 + 8 + wish % (end - l4 - 7).max(1);
    let len = match (spec.proto, len - l4, spec.options.is_empty()) {
        (L4Proto::Udp, _, _) => len,
        (_, 9..14, _) => l4 + 8,
        (_, 18 | 19, true) => len,
        (_, 17..20, _) => options_end,
        _ if len < options_end && len > l4 + 19 => options_end,
        _ => len,
    };
    len - spec.l3()
}

/// The slow twin of what an error tells after growth is taken off.
fn lowered(spec: &Spec, kind: u8, code: u8, word: u32, growth: u16) -> u32 {
    match (spec.src.is_ipv4(), kind, code) {
        (true, 3, 4) => word & 0xffff_0000 | less(word & 0xffff, growth, 68),
        (false, 2, _) => less(word, growth, 1280),
        _ => word,
    }
}

fn less(mtu: u32, growth: u16, floor: u32) -> u32 {
    if mtu <= floor {
        mtu
    } else {
        i64::from(mtu).saturating_sub(growth.into()).max(floor.into()) as u32
    }
}

/// An error about a packet of a session, before and behind the director.
struct Case {
    /// As it comes.
    before: Message,
    /// As it is to leave.
    after: Message,
    direction: Direction,
    session: Spec,
}

#[derive(Clone, Debug)]
struct Shape {
    router: u128,
    kind: Kind,
    wish: usize,
    vlan: bool,
    inbound: bool,
    edit: (bool, u16),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let edit = (any::<bool>(), prop_oneof![Just(0u16), Just(8), Just(20), any::<u16>()]);
    (any::<u128>(), kinds(), any::<usize>(), any::<bool>(), any::<bool>(), edit).prop_map(
        |(router, kind, wish, vlan, inbound, edit)| Shape {
            router,
            kind,
            wish,
            vlan,
            inbound,
            edit,
        },
    )
}

impl Shape {
    fn edit(&self) -> ErrorEdit {
        ErrorEdit { keep_source: self.edit.0, growth: self.edit.1 }
    }

    /// `session` is a client's packet; `list` its options.
    fn case(&self, session: &Spec, list: &[Opt], other: &Other) -> Case {
        // The error travels against the packet that it is about.
        let (direction, mut sent, mut left) = if self.inbound {
            // The client's side complains about what the server sent: server → local became
            // virtual → client.
            let mut sent = session.clone();
            (sent.src, sent.dst) =
                (other.server(session), other.local(session).unwrap_or(session.src));
            let mut left = other.moved(&sent, list, other.seq.returning());
            (left.src, left.dst) = (session.dst, session.src);
            (Direction::Inbound, sent, left)
        } else {
            let sent = session.clone();
            let mut left = other.moved(&sent, list, other.seq.inbound());
            (left.src, left.dst) =
                (other.local(session).unwrap_or(session.src), other.server(session));
            (Direction::Return, sent, left)
        };
        // No hop between sender and director, so that the quotes are comparable.
        left.ttl = sent.ttl;
        (sent.vlan, left.vlan) = (false, false);
        let quote = |spec: &Spec| {
            let len = quote_len(spec, self.wish);
            spec.build()[spec.l3()..][..len].to_vec()
        };
        let (kind, code, word) = pick(session, self.kind);
        let router = support::socket(session.src.is_ipv6(), self.router, 0).ip();
        let before = Message {
            src: router,
            dst: left.src.ip(),
            vlan: self.vlan,
            ttl: 50,
            kind,
            code,
            word,
            body: quote(&left),
        };
        let after = Message {
            src: if self.edit.0 { router } else { sent.dst.ip() },
            dst: sent.src.ip(),
            ttl: 50 - u8::from(other.hop),
            word: lowered(session, kind, code, word, self.edit.1),
            body: quote(&sent),
            ..before.clone()
        };
        Case { before, after, direction, session: session.clone() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// INV-3.
    #[test]
    fn an_error_becomes_the_one_that_the_other_side_would_have_got(
        (mut spec, list) in specs(), other in others(), shape in shapes(), damage: u16,
    ) {
        spec.csum = L4Csum::Unknown;
        let case = shape.case(&spec, &list, &other);
        let mut frame = case.before.build();
        let headers = parsed(&frame);
        prop_assert_eq!(checksum_is_right(&frame, &headers), Some(true));
        let quote = embedded(&frame, &headers).unwrap();
        let rewrite = other.rewrite(&case.session, case.direction);

        // What the lookup asks for is an ordinary packet in the direction of the error.
        let (src, dst) = match case.direction {
            Direction::Return => {
                (other.server(&spec), other.local(&spec).unwrap_or(spec.src))
            }
            Direction::Inbound => (spec.src, spec.dst),
        };
        let tuple = WireTuple::new(spec.proto, src.ip(), src.port(), dst.ip(), dst.port());
        prop_assert_eq!(quote.lookup(), Carried::Flow(tuple.unwrap()));

        let wrong = frame.clone();
        let mut buf = MemBuf::from_bytes(&frame);
        rewrite
            .apply_error(&mut buf, &mut headers.clone(), &quote, &shape.edit(), &Sending::default())
            .unwrap();
        frame = buf.to_vec();
        prop_assert_eq!(case.after.error(&frame), 0);
        let mut want = case.after.build();
        // Both zeros are one in ICMP.
        let at = case.after.l4() + 2;
        want[at..at + 2].copy_from_slice(&frame[at..at + 2]);
        prop_assert_eq!(frame, want);

        // Off by some before, off by as much behind.
        let mut frame = wrong;
        frame[at..at + 2].copy_from_slice(&damage.to_be_bytes());
        let off = case.before.error(&frame);
        prop_assert_eq!(checksum_is_right(&frame, &headers), Some(off == 0));
        let mut buf = MemBuf::from_bytes(&frame);
        rewrite
            .apply_error(&mut buf, &mut headers.clone(), &quote, &shape.edit(), &Sending::default())
            .unwrap();
        prop_assert_eq!(case.after.error(&buf.to_vec()), off);
    }

    #[test]
    fn hostile_errors_and_headers_of_other_frames_do_no_harm(
        (spec, list) in specs(), other in others(), shape in shapes(), cut in 0usize..200,
        flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
        wild: (u16, u16, u16, u32),
    ) {
        let case = shape.case(&spec, &list, &other);
        let rewrite = other.rewrite(&case.session, case.direction);
        let whole = case.before.build();
        let real = parsed(&whole);
        let quote = embedded(&whole, &real).unwrap();
        let mut frame = whole.clone();
        for (at, byte) in flips {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(frame.len().saturating_sub(cut));
        let hostile = Headers { l3: wild.0, l4: wild.1, payload: wild.2, end: wild.3, ..real };
        for headers in [real, hostile] {
            let _ = (checksum_is_right(&frame, &headers), echo(&frame, &headers));
            let _ = tunnelled(&frame, &headers, Some(6080)).map(|t| t.packet(&frame, &headers).len());
            for quote in [Some(quote), embedded(&frame, &headers)].into_iter().flatten() {
                let mut buf = MemBuf::from_bytes(&frame);
                let how = (&quote, &shape.edit(), &Sending::default());
                let result = rewrite.apply_error(&mut buf, &mut headers.clone(), how.0, how.1, how.2);
                prop_assert_eq!(buf.data().len(), frame.len());
                if result.is_err() {
                    prop_assert_eq!(buf.data(), &frame[..]);
                }
            }
        }
    }

    /// An echo is a flow whose port is the identifier, and NAT then its inverse is nothing.
    #[test]
    fn an_echo_is_translated_there_and_back(
        (mut spec, _) in specs(), mut other in others(), id: u16, seq: u16, body in edgy(60), vlan: bool,
        damage: Option<u16>,
    ) {
        other.hop = false;
        spec.src.set_port(id);
        let kinds = if spec.src.is_ipv4() { (8, 0) } else { (128, 129) };
        let word = |id: u16| u32::from(id) << 16 | u32::from(seq);
        let local = other.local(&spec).unwrap_or(spec.src);
        let ping = Message {
            src: spec.src.ip(), dst: spec.dst.ip(), vlan, ttl: 9, kind: kinds.0, code: 0,
            word: word(id), body: body.clone(),
        };
        let behind = Message {
            src: local.ip(), dst: other.server(&spec).ip(), word: word(local.port()), ..ping.clone()
        };
        let mut frame = ping.build();
        let headers = parsed(&frame);
        let flow = Echo { src: ping.src, dst: ping.dst, id, request: true };
        prop_assert_eq!(echo(&frame, &headers), Some(flow));
        let at = ping.l4() + 2;
        if let Some(damage) = damage {
            frame[at..at + 2].copy_from_slice(&damage.to_be_bytes());
        }
        let off = ping.error(&frame);
        let inbound = other.rewrite(&spec, Direction::Inbound);
        inbound.apply(&mut frame, &headers, L4Csum::Unknown).unwrap();
        prop_assert_eq!(behind.error(&frame), off);
        let mut want = behind.build();
        want[at..at + 2].copy_from_slice(&frame[at..at + 2]);
        prop_assert_eq!(&frame, &want);

        // The server answers.
        let pong = Message { src: behind.dst, dst: behind.src, kind: kinds.1, ..behind.clone() };
        let mut frame = pong.build();
        let headers = parsed(&frame);
        prop_assert_eq!(echo(&frame, &headers).map(|echo| echo.reverse().id), Some(local.port()));
        let back = other.rewrite(&spec, Direction::Return);
        back.apply(&mut frame, &headers, L4Csum::Unknown).unwrap();
        let seen = Message { src: spec.dst.ip(), dst: spec.src.ip(), word: word(id), ..pong };
        prop_assert_eq!(seen.error(&frame), 0);
        let mut want = seen.build();
        want[at..at + 2].copy_from_slice(&frame[at..at + 2]);
        prop_assert_eq!(&frame, &want);

        // A router complains about the translated request: the asker reads his own identifier.
        let v4 = spec.src.is_ipv4();
        let complaint = Message {
            src: behind.dst, dst: behind.src, vlan, ttl: 9, kind: if v4 { 11 } else { 3 }, code: 0,
            word: 0, body: behind.build()[behind.l3()..].to_vec(),
        };
        let frame = complaint.build();
        let headers = parsed(&frame);
        let quote = embedded(&frame, &headers).unwrap();
        let Carried::Echo(asked) = quote.lookup() else { panic!("{quote:?}") };
        prop_assert_eq!((asked.id, asked.request), (local.port(), false));
        let mut buf = MemBuf::from_bytes(&frame);
        back.apply_error(
            &mut buf, &mut headers.clone(), &quote, &ErrorEdit::default(), &Sending::default(),
        ).unwrap();
        let told = Message {
            src: spec.dst.ip(), dst: spec.src.ip(), body: ping.build()[ping.l3()..].to_vec(),
            ..complaint
        };
        let frame = buf.to_vec();
        prop_assert_eq!(told.error(&frame), 0);
        let mut want = told.build();
        want[at..at + 2].copy_from_slice(&frame[at..at + 2]);
        let quoted = told.l4() + 8 + (ping.l4() - ping.l3()) + 2;
        want[quoted..quoted + 2].copy_from_slice(&frame[quoted..quoted + 2]);
        prop_assert_eq!(frame, want);
    }

    /// What a tunnel wraps is found again in what a router quotes.
    #[test]
    fn an_error_about_a_tunnel_packet_leads_to_the_packet_inside(
        (mut spec, _) in specs(), ends: (u128, u128), v6: bool, which in 0usize..4, mtu: u16,
        router: u128, part: Option<u8>,
    ) {
        (spec.csum, spec.vlan, spec.padding) = (L4Csum::Unknown, false, 0);
        let how = [
            Encapsulation::IpIp,
            Encapsulation::Gre { checksum: false },
            Encapsulation::Gre { checksum: true },
            Encapsulation::Gue { dport: 6080, checksum: false },
        ][which];
        let ip = |bits| support::socket(v6, bits, 0).ip();
        let tunnel = Tunnel::new(ip(ends.0), ip(ends.1), how).unwrap();
        let mut buf = spec.buffer(64, None, false);
        tunnel.apply(&mut buf, &mut spec.parsed(), &Sending::default()).unwrap();
        let growth = usize::from(tunnel.growth());
        let fixed = if spec.src.is_ipv4() { 20 } else { 40 };
        let wrapped = &buf.data()[spec.l3()..];
        let quoted = part.map_or(wrapped.len(), |part| wrapped.len().min(growth + fixed + usize::from(part)));
        let message = Message {
            src: ip(router), dst: ip(ends.0), vlan: true, ttl: 3,
            kind: if v6 { 2 } else { 3 }, code: if v6 { 0 } else { 4 }, word: mtu.into(),
            body: wrapped[..quoted].to_vec(),
        };
        let frame = message.build();
        let headers = parsed(&frame);
        let found = tunnelled(&frame, &headers, Some(6080)).unwrap();
        prop_assert_eq!((found.source, found.server), (ip(ends.0), ip(ends.1)));
        prop_assert_eq!((found.growth, found.mtu), (tunnel.growth(), Some(mtu.into())));
        prop_assert_eq!(found.family, spec.family());
        let inside = &spec.build()[spec.l3()..][..quoted - growth];
        prop_assert_eq!(found.packet(&frame, &headers), inside);
        // Without the port it is any UDP packet.
        if which == 3 {
            prop_assert_eq!(tunnelled(&frame, &headers, None), None);
        }
        // A quote without an IP header inside leads nowhere.
        let short = Message { body: wrapped[..growth + fixed - 1].to_vec(), ..message }.build();
        prop_assert_eq!(tunnelled(&short, &parsed(&short), Some(6080)), None);
    }
}

fn unreachable_v4(body: Vec<u8>) -> Vec<u8> {
    Message {
        src: IpAddr::from([10, 0, 0, 9]),
        dst: IpAddr::from([10, 0, 0, 1]),
        vlan: false,
        ttl: 64,
        kind: 3,
        code: 1,
        word: 0,
        body,
    }
    .build()
}

/// From 10.0.0.1:1234 to 10.0.0.2:80.
fn quoted_v4(protocol: u8, offset: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0];
    packet.extend(offset.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x04, 0xd2, 0, 80, 0, 0, 0, 1]);
    packet
}

#[test]
fn what_does_not_tell_a_flow_is_no_quote() {
    let tells = |body| {
        let frame = unreachable_v4(body);
        embedded(&frame, &parsed(&frame)).is_some()
    };
    assert!(tells(quoted_v4(6, 0x4000)) && tells(quoted_v4(17, 0x2000)));
    assert!(!tells(quoted_v4(6, 1)), "a later fragment");
    assert!(!tells(quoted_v4(50, 0)), "another protocol");
    assert!(!tells(quoted_v4(6, 0)[..27].to_vec()), "seven bytes of transport");
    assert!(!tells(quoted_v4(1, 0)), "an ICMP type that is no echo");
    let mut other_version = quoted_v4(6, 0);
    other_version[0] = 0x65;
    assert!(!tells(other_version));
    let mut short_header = quoted_v4(6, 0);
    short_header[0] = 0x44;
    assert!(!tells(short_header));
    assert!(!tells(vec![]));
}

#[test]
fn redirects_echoes_and_fragments_of_errors_are_no_errors_about_a_flow() {
    for kind in [0, 5, 8, 13] {
        let mut frame = unreachable_v4(quoted_v4(6, 0));
        frame[34] = kind;
        assert_eq!(embedded(&frame, &parsed(&frame)), None, "type {kind}");
    }
    let frame = unreachable_v4(quoted_v4(6, 0));
    let headers = parsed(&frame);
    let first = Headers { fragment: lvs_core::wire::Fragment::First, ..headers };
    assert_eq!((embedded(&frame, &first), checksum_is_right(&frame, &first)), (None, None));
}

#[test]
fn an_error_for_the_other_family_is_refused_and_the_frame_stays() {
    let frame = unreachable_v4(quoted_v4(6, 0));
    let headers = parsed(&frame);
    let quote = embedded(&frame, &headers).unwrap();
    let end = |port| lvs_nat::End::new(1u128, port);
    let ends = lvs_nat::Ends::nat(end(1), end(2), end(3));
    let rewrite = lvs_nat::Rewrite::inbound(&ends, ends.deltas(), lvs_nat::SeqDeltas::ZERO);
    let mut copy = frame.clone();
    let result =
        rewrite.apply_error(&mut copy, &headers, &quote, &ErrorEdit::default(), L4Csum::Unknown);
    assert_eq!((result, copy), (Err(RewriteError::Family), frame));
}

/// Nobody sends it, and no lookup finds a flow for it.
#[test]
fn an_echo_with_a_code_is_no_flow() {
    let mut frame = unreachable_v4(vec![0; 8]);
    for (code, flow) in [(0, true), (1, false)] {
        (frame[34], frame[35]) = (8, code);
        let headers = parsed(&frame);
        assert_eq!(echo(&frame, &headers).is_some(), flow);
        let end = |port| lvs_nat::End::new(1u32, port);
        let ends = lvs_nat::Ends::nat(end(1), end(2), end(3));
        let rewrite = lvs_nat::Rewrite::inbound(&ends, ends.deltas(), lvs_nat::SeqDeltas::ZERO);
        let (mut copy, before) = (frame.clone(), frame.clone());
        let done = rewrite.apply(&mut copy, &headers, L4Csum::Unknown).is_ok();
        assert_eq!((done, copy != before), (flow, flow));
        let mut quoted = quoted_v4(1, 0);
        (quoted[20], quoted[21]) = (8, code);
        let error = unreachable_v4(quoted);
        assert_eq!(embedded(&error, &parsed(&error)).is_some(), flow);
    }
}

#[test]
fn an_mtu_is_lowered_to_what_every_link_carries_and_no_further() {
    use lvs_core::addr::Family::{V4, V6};
    for (mtu, growth, family, want) in [
        (1500, 20, V4, 1480),
        (80, 20, V4, 68),
        (68, 20, V4, 68),
        (60, 20, V4, 60),
        (0, 20, V4, 0),
        (1500, 20, V6, 1480),
        (1290, 20, V6, 1280),
        (1280, 20, V6, 1280),
        (u32::MAX, 0, V6, u32::MAX),
    ] {
        assert_eq!(less_growth(mtu, growth, family), want, "{mtu} - {growth}");
    }
}
