//! SCTP: translated with a right checksum, walked chunk by chunk, state by state.

use core::net::SocketAddr;
use lvs_core::flow::Direction::{Inbound, Return};
use lvs_core::io::L4Csum;
use lvs_core::wire::{Fragment, Headers, Parsed};
use lvs_nat::RewriteError;
use lvs_nat::sctp::{
    self, Chunks, Event, State, Tags, complete, kind, ports, rewrite, tag, verify,
};
use pnet_packet::ipv4;
use proptest::prelude::*;

/// CRC32c bit by bit, as appendix A of RFC 9260 defines it, the field taken as zero.
fn slow(packet: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for (at, byte) in packet.iter().enumerate() {
        register ^= u32::from(if (8..12).contains(&at) { 0 } else { *byte });
        for _ in 0..8 {
            register = register >> 1 ^ if register & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !register
}

fn sctp_packet(sport: u16, dport: u16, tag: u32, chunks: &[u8], error: u32) -> Vec<u8> {
    let mut packet = [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &tag.to_be_bytes()].concat();
    packet.extend([0; 4]);
    packet.extend(chunks);
    let crc = slow(&packet) ^ error;
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    packet
}

fn frame(src: SocketAddr, dst: SocketAddr, ttl: u8, chunks: &[u8], error: u32) -> Vec<u8> {
    let packet = sctp_packet(src.port(), dst.port(), 7, chunks, error);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    match (src, dst) {
        (SocketAddr::V4(s), SocketAddr::V4(d)) => {
            let mut ip = vec![0x45, 0];
            ip.extend((20 + packet.len() as u16).to_be_bytes());
            ip.extend([0, 9, 0x40, 0, ttl, 132, 0, 0]);
            ip.extend(s.ip().octets());
            ip.extend(d.ip().octets());
            let sum = ipv4::checksum(&ipv4::Ipv4Packet::new(&ip).unwrap());
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(ip);
        }
        (SocketAddr::V6(s), SocketAddr::V6(d)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((packet.len() as u16).to_be_bytes());
            frame.extend([132, ttl]);
            frame.extend(s.ip().octets());
            frame.extend(d.ip().octets());
        }
        _ => panic!("two families"),
    }
    frame.extend(packet);
    frame
}

fn parsed(frame: &[u8], total: usize) -> Headers {
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, total) else { panic!() };
    headers
}

fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, flags];
    bytes.extend((4 + value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn init(kind: u8, tag: u32) -> Vec<u8> {
    chunk(kind, 0, &[&tag.to_be_bytes()[..], &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]].concat())
}

fn event(chunks: &[u8]) -> Option<Event> {
    Event::of(&sctp_packet(1, 2, 3, chunks, 0), true)
}

fn end(v6: bool, ip: u128, port: u16) -> SocketAddr {
    match v6 {
        true => SocketAddr::new(core::net::Ipv6Addr::from_bits(ip).into(), port),
        false => SocketAddr::new(core::net::Ipv4Addr::from_bits(ip as u32).into(), port),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// INV-3: with `error` the checksum comes in wrong and goes out wrong by as much.
    #[test]
    fn a_translated_packet_is_the_one_that_would_have_been_built(
        v6: bool, ips: [u128; 4], ports: [u16; 4], chunks in prop::collection::vec(any::<u8>(), 0..300),
        error in prop_oneof![Just(0u32), any::<u32>()], ttl in 2u8.., cut: bool, bad: bool,
    ) {
        let ends: Vec<_> = ips.iter().zip(ports).map(|(ip, port)| end(v6, *ip, port)).collect();
        let mut bytes = frame(ends[0], ends[1], ttl, &chunks, error);
        let want = frame(ends[2], ends[3], ttl - 1, &chunks, error);
        let headers = parsed(&bytes, bytes.len());
        // What lies in later parts of a buffer is not needed.
        let seen = if cut { usize::from(headers.l4) + 12 } else { bytes.len() };
        let csum = if bad { L4Csum::Bad } else { L4Csum::Unknown };
        rewrite(&mut bytes[..seen], &headers, csum, (ends[2], ends[3]), true).unwrap();
        prop_assert_eq!(&bytes, &want);
        let l4 = usize::from(headers.l4);
        prop_assert_eq!(verify(&bytes[l4..l4 + 12], &bytes[l4 + 12..]), error == 0);
        prop_assert_eq!(sctp::ports(&bytes[l4..]), Some((ends[2].port(), ends[3].port())));

        // A field that holds nothing yet is left alone, then completed.
        let mut partial = frame(ends[0], ends[1], ttl, &chunks, error);
        partial[l4 + 8..l4 + 12].fill(0);
        rewrite(&mut partial, &headers, L4Csum::Partial, (ends[2], ends[3]), true).unwrap();
        prop_assert_eq!(&partial[l4 + 8..l4 + 12], &[0; 4]);
        complete(&mut partial[l4..]);
        prop_assert_eq!(partial, frame(ends[2], ends[3], ttl - 1, &chunks, 0));
    }

    #[test]
    fn any_bytes_are_walked_without_harm(bytes in prop::collection::vec(0u8..20, 0..120), whole: bool) {
        let count = Chunks::new(&bytes).count();
        prop_assert!(count <= bytes.len() / 4);
        let _ = Event::of(&bytes, whole);
        let _ = Event::several_addresses(&bytes);
        let _ = (ports(&bytes), tag(&bytes), verify(&bytes, &[]));
        prop_assert_eq!(complete(&mut bytes.clone()).is_some(), bytes.len() >= 12);
    }

    #[test]
    fn headers_of_another_frame_do_no_harm(
        offsets: (u16, u16), end_at: u32, len in 0usize..100, v6: bool,
    ) {
        let (a, b) = (end(v6, 1, 2), end(v6, 3, 4));
        let mut bytes = frame(a, b, 9, &[5; 40], 0);
        let headers = Headers {
            l3: offsets.0 % 120, l4: offsets.1 % 120, end: end_at % 200,
            ..parsed(&bytes, bytes.len())
        };
        bytes.truncate(len);
        let before = bytes.clone();
        if rewrite(&mut bytes, &headers, L4Csum::Unknown, (b, a), true).is_err() {
            prop_assert_eq!(bytes, before);
        }
    }

    /// Whatever comes, no state is left that the table does not lead to, and nothing opens by itself.
    #[test]
    fn only_an_init_of_the_client_opens(events in prop::collection::vec((any::<bool>(), 0usize..9), 0..12)) {
        let all = [
            Event::InitAck { tag: 1 }, Event::CookieEcho, Event::CookieAck, Event::Other, Event::Shutdown,
            Event::ShutdownAck, Event::ShutdownComplete { reflected: false },
            Event::Abort { reflected: true }, Event::Init { tag: 2 },
        ];
        let mut state = State::None;
        for (inbound, number) in events {
            let direction = if inbound { Inbound } else { Return };
            let init = inbound && number == 8;
            match state.next(direction, all[number]) {
                None => prop_assert!(state == State::None && !init),
                Some(next) => {
                    prop_assert!(state != State::None || init);
                    state = next;
                }
            }
        }
    }
}

#[test]
fn fragments_and_other_protocols_and_families_are_refused_and_stay() {
    let (a, b) = (end(false, 1, 2), end(false, 3, 4));
    let bytes = frame(a, b, 9, &[5; 40], 0);
    let headers = parsed(&bytes, bytes.len());
    let with = |headers: &Headers, to, ttl| {
        let mut edited = bytes.clone();
        edited[22] = ttl;
        let before = edited.clone();
        let result = rewrite(&mut edited, headers, L4Csum::Unknown, to, true);
        assert!(result.is_ok() || edited == before);
        (result, edited)
    };
    let first = Headers { fragment: Fragment::First, ..headers };
    assert_eq!(with(&first, (b, a), 9).0, Err(RewriteError::Unsupported));
    let tcp = Headers { transport: lvs_core::wire::Transport::Other(6), ..headers };
    assert_eq!(with(&tcp, (b, a), 9).0, Err(RewriteError::Unsupported));
    let v6 = (end(true, 1, 1), end(true, 2, 2));
    assert_eq!(with(&headers, v6, 9).0, Err(RewriteError::Family));
    assert_eq!(with(&headers, (b, a), 1).0, Err(RewriteError::TtlExpired));
    // Of a later fragment only addresses and time to live change.
    let later = Headers { fragment: Fragment::Later, ..headers };
    let (result, edited) = with(&later, (b, a), 9);
    assert_eq!(result, Ok(()));
    assert_eq!(edited[34..], bytes[34..]);
    assert_eq!(edited[26..34], [0, 0, 0, 3, 0, 0, 0, 1]);
}

#[test]
fn chunks_say_what_a_packet_means() {
    let data = chunk(kind::DATA, 3, &[1; 13]);
    let cookie = chunk(kind::COOKIE_ECHO, 0, &[1; 30]);
    assert_eq!(event(&init(kind::INIT, 5)), Some(Event::Init { tag: 5 }));
    assert_eq!(event(&init(kind::INIT_ACK, 5)), Some(Event::InitAck { tag: 5 }));
    assert_eq!(event(&init(kind::INIT, 0)), None, "a tag of zero");
    assert_eq!(event(&chunk(kind::INIT, 0, &[1; 15])), None, "too short");
    for lonely in [init(kind::INIT, 5), init(kind::INIT_ACK, 5), chunk(14, 0, &[])] {
        assert_eq!(event(&[&lonely[..], &data].concat()), None, "not alone");
        assert_eq!(event(&[&data[..], &lonely].concat()), None, "not alone");
    }
    assert_eq!(event(&[&cookie[..], &data].concat()), Some(Event::CookieEcho));
    assert_eq!(event(&[chunk(11, 0, &[]), data.clone()].concat()), Some(Event::CookieAck));
    assert_eq!(event(&data), Some(Event::Other));
    let abort = chunk(kind::ABORT, 1, &[]);
    assert_eq!(event(&[&data[..], &abort].concat()), Some(Event::Abort { reflected: true }));
    assert_eq!(
        event(&[chunk(3, 0, &[0; 12]), chunk(7, 0, &[0; 4])].concat()),
        Some(Event::Shutdown)
    );
    assert_eq!(event(&[]), None, "no chunk");
    assert_eq!(event(&[0, 0, 0, 3]), None, "a length below four");
    assert_eq!(event(&[0, 0, 0, 9, 1]), None, "longer than the packet");
    // The same, cut by the end of a buffer's first part.
    let cut = sctp_packet(1, 2, 3, &[&cookie[..], &[0, 0, 0, 99, 1]].concat(), 0);
    assert_eq!(Event::of(&cut, false), Some(Event::CookieEcho));
    // The last chunk may go without padding.
    assert_eq!(event(&data[..17]), Some(Event::Other));
}

#[test]
fn an_association_with_several_addresses_is_told() {
    let with = |parameter: &[u8]| {
        let mut value = init(kind::INIT, 5)[4..].to_vec();
        value.extend([0x80, 8, 0, 5, 0xc0, 0, 0, 0]);
        value.extend(parameter);
        Event::several_addresses(&sctp_packet(1, 2, 0, &chunk(kind::INIT, 0, &value), 0))
    };
    assert!(!with(&[]));
    assert!(with(&[0, 5, 0, 8, 10, 0, 0, 1]));
    assert!(with(&[&[0, 6, 0, 20][..], &[1; 16]].concat()));
    assert!(!with(&[0, 9, 0, 8, 0, 0, 0, 0]));
}

#[test]
fn a_whole_association_state_by_state() {
    let (c, s) = (11, 22);
    let mut state = State::None;
    let mut tags = Tags::default();
    let script = [
        (Inbound, 0, Event::Init { tag: c }, State::InitSent),
        (Inbound, 0, Event::Init { tag: c }, State::InitSent),
        (Return, c, Event::InitAck { tag: s }, State::InitAcked),
        (Inbound, s, Event::CookieEcho, State::CookieEchoed),
        (Return, c, Event::CookieAck, State::Established),
        (Inbound, s, Event::Other, State::Established),
        (Return, c, Event::Other, State::Established),
        // A restart is for the ends to decide.
        (Inbound, 0, Event::Init { tag: 99 }, State::Established),
        (Return, c, Event::Shutdown, State::ShutdownSent),
        (Inbound, s, Event::Other, State::ShutdownSent),
        (Inbound, s, Event::ShutdownAck, State::ShutdownAcked),
        (Return, c, Event::ShutdownComplete { reflected: false }, State::Closed),
        (Inbound, s, Event::Other, State::Closed),
    ];
    for (direction, tag, event, want) in script {
        tags = tags.accept(direction, tag, event).unwrap();
        state = state.next(direction, event).unwrap();
        assert_eq!(state, want, "{event:?}");
    }
    assert_eq!(tags, Tags { client: c, server: s });
    assert_eq!(state.next(Inbound, Event::Init { tag: 5 }), Some(State::InitSent));
}

#[test]
fn a_packet_with_a_wrong_tag_belongs_to_somebody_else() {
    let tags = Tags { client: 11, server: 22 };
    let accepts = |direction, tag, event| tags.accept(direction, tag, event).is_some();
    for event in [
        Event::Other,
        Event::Shutdown,
        Event::CookieEcho,
        Event::Abort { reflected: false },
        Event::ShutdownComplete { reflected: false },
    ] {
        assert!(accepts(Inbound, 22, event) && accepts(Return, 11, event), "{event:?}");
        assert!(!accepts(Inbound, 11, event) && !accepts(Return, 22, event), "{event:?}");
        assert!(!accepts(Inbound, 0, event), "{event:?}");
    }
    for event in [Event::Abort { reflected: true }, Event::ShutdownComplete { reflected: true }] {
        assert!(accepts(Inbound, 11, event) && accepts(Return, 22, event));
        assert!(!accepts(Inbound, 22, event) && !accepts(Return, 11, event));
    }
    assert!(!accepts(Inbound, 22, Event::Init { tag: 5 }), "an INIT has no tag");
    assert!(!accepts(Return, 5, Event::InitAck { tag: 5 }));
    // Nobody changes the tags of an open association by another INIT.
    assert_eq!(tags.accept(Inbound, 0, Event::Init { tag: 5 }), Some(tags));
}
