//! The address option, case by case: layouts, placement, and the ladder where there is no room.

mod support;

use core::net::SocketAddr;
use lvs_core::flow::L4Proto;
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::edit::own;
use lvs_nat::options::{drop_timestamps, lower_mss};
use lvs_nat::toa::place::{Handshake, NoRoom, Placement, Rung, forbidden, rung};
use lvs_nat::toa::{
    Compaction, Format, KindSet, Limits, Outcome, ToaError, ToaKinds, ToaOption, decode, insert,
    read, strip,
};
use proptest::prelude::*;
use support::{ACK, Opt, SYN, Spec, encode, socket, tcp_specs};

const FIN: u8 = 1;
const RST: u8 = 4;
const PSH: u8 = 8;
const MTU: Limits = Limits { mtu: 1500, compaction: Compaction::Options };

fn client(v6: bool) -> SocketAddr {
    if v6 { "[2001:db8::7]:40000" } else { "192.0.2.7:40000" }.parse().unwrap()
}

fn virt() -> SocketAddr {
    "203.0.113.1:80".parse().unwrap()
}

fn segment(flags: u8, options: &[Opt], payload: usize) -> Spec {
    Spec {
        src: "10.0.0.1:40000".parse().unwrap(),
        dst: "10.0.0.2:80".parse().unwrap(),
        proto: L4Proto::Tcp,
        vlan: false,
        ip_extra: false,
        ttl: 64,
        seq: 1001,
        ack: 5001,
        flags,
        options: encode(options, 0),
        payload: vec![0x5a; payload],
        no_checksum: false,
        csum: L4Csum::Unknown,
        padding: 0,
    }
}

fn option(v6: bool) -> ToaOption {
    ToaOption::encode(&client(v6), ToaKinds::default())
}

/// Inserts, and checks the checksum by building the same segment anew.
fn inserted(spec: &Spec, option: &ToaOption) -> Result<(Vec<u8>, Outcome), ToaError> {
    let mut buf = spec.buffer(64, None, false);
    let done = insert(&mut buf, &spec.parsed(), option, &MTU)?;
    let Ok(Parsed::Ip(h)) = Headers::parse(buf.data(), buf.total_len()) else { panic!() };
    let options = h.tcp(buf.data()).unwrap().option_bytes().to_vec();
    let want = Spec { options: options.clone(), ..spec.clone() };
    assert_eq!(buf.to_vec(), want.build());
    Ok((options, done.outcome))
}

#[test]
fn every_layout_in_use_is_written_as_it_is_seen() {
    let (c4, c6) = (client(false), client(true));
    let as_bytes = |format, kind, client: &SocketAddr| {
        ToaOption::encode_as(format, kind, client, &virt()).unwrap().as_bytes().to_vec()
    };
    let ip6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    for kind in [200, 252, 253, 254] {
        assert_eq!(as_bytes(Format::Port, kind, &c4), [kind, 8, 0x9c, 0x40, 192, 0, 2, 7]);
        assert_eq!(as_bytes(Format::Port, kind, &c6), [&[kind, 20, 0x9c, 0x40][..], &ip6].concat());
    }
    assert_eq!(as_bytes(Format::Versioned, 28, &c4), [28, 7, 1, 192, 0, 2, 7, 1]);
    assert_eq!(as_bytes(Format::Versioned, 28, &c6), [&[28, 19, 2][..], &ip6, &[1]].concat());
    let want = [254, 16, 0x9c, 0x40, 192, 0, 2, 7, 0, 0, 0, 80, 203, 0, 113, 1];
    assert_eq!(as_bytes(Format::WithVirtual, 254, &c4), want);
    assert_eq!(as_bytes(Format::WithVirtual, 254, &c6).len(), 20);
    for kind in [0, 1, 2, 3, 4, 5, 8] {
        assert_eq!(ToaOption::encode_as(Format::Port, kind, &c4, &virt()), None);
    }
}

#[test]
fn placement_segment_by_segment() {
    let open = Handshake { client_isn: 1000, server_first: Some(5001), server_end: 5001 };
    let sent = Handshake { server_end: 6001, ..open };
    let blind = Handshake { server_first: None, ..open };
    let all = Placement::default();
    let syn = Placement { syn: true, handshake: false, until_server_data: false };
    let end = Placement { syn: false, handshake: true, until_server_data: false };
    let none = Placement { syn: false, handshake: false, until_server_data: false };
    for (name, at, flags, seq, ack, want) in [
        // (all, SYN only, end of the handshake only)
        ("SYN", &open, SYN, 1000, 0, [true, true, false]),
        ("SYN with data", &open, SYN | PSH, 1000, 0, [true, true, false]),
        ("end of the handshake", &open, ACK, 1001, 5001, [true, false, true]),
        ("first data, acknowledgement lost", &open, ACK | PSH, 1001, 5001, [true, false, true]),
        ("second data", &open, ACK | PSH, 2001, 5001, [true, false, false]),
        ("FIN without data", &open, ACK | FIN, 1001, 5001, [true, false, true]),
        ("FIN with the first data", &open, ACK | FIN | PSH, 1001, 5001, [true, false, true]),
        ("RST", &open, RST | ACK, 1001, 5001, [false, false, false]),
        ("bare RST", &open, RST, 1001, 0, [false, false, false]),
        ("server's data acknowledged", &sent, ACK, 2001, 5002, [false, false, false]),
        ("first byte again, behind the server's data", &sent, ACK, 1001, 5002, [false; 3]),
        ("an acknowledgement of what was never sent", &sent, ACK, 2001, 6002, [true, false, false]),
        ("before the server's SYN-ACK", &blind, ACK, 2001, 9, [true, false, false]),
    ] {
        let wants = |placement: &Placement| at.wants(placement, flags, seq, ack);
        assert_eq!([wants(&all), wants(&syn), wants(&end)], want, "{name}");
        assert!(!wants(&none), "{name}");
    }
}

#[test]
fn fast_open_keeps_its_magic_in_a_syn_and_loses_it_elsewhere() {
    let cookie = Opt::Raw(254, vec![0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8]);
    for (flags, gone) in [(SYN, 0), (ACK, 1)] {
        let spec = segment(flags, core::slice::from_ref(&cookie), 0);
        let mut frame = spec.build();
        let done = strip(&mut frame, &spec.parsed(), spec.csum, KindSet::KNOWN).unwrap();
        assert_eq!(done.count, gone);
    }
}

#[test]
fn client_copies_of_every_known_kind_are_taken_out_where_they_are_to_be() {
    let own = ToaKinds::new(77, 78).unwrap();
    let set = forbidden(Some(own), false).unwrap();
    for kind in [28, 77, 78, 200, 252, 253, 254] {
        assert!(set.contains(kind), "{kind}");
        for format in [Format::Port, Format::Versioned, Format::WithVirtual] {
            for v6 in [false, true] {
                let forged = ToaOption::encode_as(format, kind, &client(v6), &virt()).unwrap();
                let mut spec = segment(ACK, &[], 3);
                spec.options = forged.as_bytes().to_vec();
                let mut frame = spec.build();
                strip(&mut frame, &spec.parsed(), spec.csum, set).unwrap();
                spec.options.fill(1);
                assert_eq!(frame, spec.build(), "{kind} {format:?}");
            }
        }
    }
    // Services that write none: as configured.
    assert_eq!(forbidden(None, false), None);
    assert_eq!(forbidden(None, true), Some(KindSet::KNOWN));
}

#[test]
fn mptcp_is_never_given_up_for_the_option() {
    // A data mapping of 20 bytes, an address signal of 8, and padding to 40.
    let mapping = Opt::Raw(30, vec![0x20; 18]);
    let signal = Opt::Raw(30, vec![0x30; 6]);
    let sack = Opt::Sack(vec![(1, 2)]);
    let spec = segment(ACK, &[mapping.clone(), signal.clone(), sack], 10);
    let (options, outcome) = inserted(&spec, &option(false)).unwrap();
    assert_eq!(outcome, Outcome::InsertedAfterCompaction { dropped: 1 });
    assert_eq!(options[8..], encode(&[mapping.clone(), signal.clone()], 0));
    // Nothing else to give up: the ladder.
    let spec = segment(ACK, &[mapping, signal, Opt::Timestamps(1, 2)], 10);
    assert_eq!(inserted(&spec, &option(false)).unwrap_err(), ToaError::NoRoom);
    let down = rung(ToaError::NoRoom, ACK, &Placement::default(), NoRoom::SeparateAck, false);
    assert_eq!(down, Rung::Ahead);
    // The SYN of Linux with MP_CAPABLE takes an IPv6 address once its timestamps are gone.
    let capable = Opt::Raw(30, vec![0x01, 0]);
    let list = [
        Opt::Mss(1460),
        Opt::SackPermitted,
        Opt::Timestamps(1, 0),
        Opt::Nop,
        Opt::WindowScale(7),
        capable,
    ];
    let spec = segment(SYN, &list, 0);
    let mut frame = spec.build();
    drop_timestamps(&mut frame, &spec.parsed(), spec.csum).unwrap();
    let at = spec.l4() + 20;
    let spec = Spec { options: frame[at..at + spec.options.len()].to_vec(), ..spec };
    let (options, outcome) = inserted(&spec, &option(true)).unwrap();
    assert_eq!(outcome, Outcome::InsertedAfterCompaction { dropped: 0 });
    assert!(options.windows(4).any(|w| w == [30, 4, 1, 0]));
}

#[test]
fn a_syn_with_data_takes_the_option_in_front_of_the_data() {
    let spec = segment(SYN, &[Opt::Mss(1460)], 200);
    let (options, outcome) = inserted(&spec, &option(false)).unwrap();
    assert_eq!((outcome, options.len()), (Outcome::Inserted, 12));
}

#[test]
fn without_an_mss_nothing_is_added_and_a_full_segment_goes_behind_a_separate_acknowledgement() {
    let answer = segment(SYN | ACK, &[Opt::SackPermitted], 0);
    let mut frame = answer.build();
    assert_eq!(lower_mss(&mut frame, &answer.parsed(), answer.csum, 8, 536), Ok(None));
    assert_eq!(frame, answer.build());
    // So the client sends 1460 bytes at an MTU of 1500.
    for (v6, headers_len) in [(false, 20), (true, 20)] {
        let full = segment(ACK | PSH, &[], 1460);
        let refused = inserted(&full, &option(v6)).unwrap_err();
        assert_eq!(refused, ToaError::TooBig);
        let down = rung(refused, full.flags, &Placement::default(), NoRoom::SeparateAck, true);
        assert_eq!(down, Rung::Ahead);
        let frame = full.build();
        let mut out = frame[..14].to_vec();
        out.resize(14 + 100, 0);
        let option = option(v6);
        let (headers, csum) = (full.parsed(), full.csum);
        let len = own::ahead(&mut out[14..], (&frame, &[]), &headers, csum, option.as_bytes(), &[]);
        let len = len.unwrap();
        assert_eq!(len, headers_len + 20 + option.as_bytes().len());
        let Ok(Parsed::Ip(h)) = Headers::parse(&out[..14 + len], 14 + len) else { panic!() };
        let view = h.tcp(&out).unwrap();
        assert_eq!((view.seq(), view.ack(), view.flags()), (full.seq, full.ack, ACK));
        assert_eq!(decode(view.option_bytes(), ToaKinds::default()), Some(client(v6)));
        assert!(view.payload().is_empty());
    }
}

#[test]
fn with_a_lowered_mss_the_first_full_segment_takes_the_option_at_once() {
    for (v6, by) in [(false, 8), (true, 20)] {
        let answer = segment(SYN | ACK, &[Opt::Mss(1460)], 0);
        let mut frame = answer.build();
        let mss = lower_mss(&mut frame, &answer.parsed(), answer.csum, by, 536).unwrap().unwrap();
        assert_eq!(mss, 1460 - by);
        let full = segment(ACK | PSH, &[], usize::from(mss));
        assert_eq!(inserted(&full, &option(v6)).unwrap().1, Outcome::Inserted);
        let more = segment(ACK | PSH, &[], usize::from(mss) + 1);
        assert_eq!(inserted(&more, &option(v6)).unwrap_err(), ToaError::TooBig);
    }
}

#[test]
fn the_ladder_never_ends_in_silence() {
    let (all, only_syn) =
        (Placement::default(), Placement { syn: true, handshake: false, until_server_data: false });
    use NoRoom::{Drop, Proxy, SeparateAck};
    for error in [ToaError::NoRoom, ToaError::TooBig, ToaError::NoHeadroom] {
        for told in [false, true] {
            assert_eq!(rung(error, ACK, &all, SeparateAck, told), Rung::Ahead);
            assert_eq!(rung(error, ACK | FIN, &all, SeparateAck, told), Rung::Ahead);
            assert_eq!(rung(error, SYN, &all, SeparateAck, told), Rung::Later);
            // Where nothing comes later, a SYN without would be a connection without.
            assert_eq!(rung(error, SYN, &only_syn, SeparateAck, told), Rung::Drop);
            assert_eq!(rung(error, ACK, &all, Drop, told), Rung::Drop);
        }
        for (flags, placement) in [(SYN, all), (SYN, only_syn), (ACK, all)] {
            assert_eq!(rung(error, flags, &placement, Proxy, false), Rung::Proxy);
        }
        // Who has read the option reads no header.
        assert_eq!(rung(error, ACK, &all, Proxy, true), Rung::Ahead);
        assert_eq!(rung(error, SYN, &all, Proxy, true), Rung::Later);
        assert_eq!(rung(error, SYN, &only_syn, Proxy, true), Rung::Drop);
    }
    for policy in [SeparateAck, Proxy, Drop] {
        assert_eq!(rung(ToaError::Mismatch, ACK, &all, policy, false), Rung::Drop);
        // A piece cannot grow, and a SYN in pieces opens nothing.
        let piece = rung(ToaError::Fragment, ACK, &all, policy, false);
        assert_eq!(piece, if policy == Drop { Rung::Drop } else { Rung::Later });
        assert_eq!(rung(ToaError::Fragment, SYN, &all, policy, false), Rung::Drop);
        assert_eq!(rung(ToaError::Fragment, ACK, &only_syn, policy, false), Rung::Drop);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_layout_is_read_as_it_was_written(
        (spec, _) in tcp_specs(), v6: bool, ip: u128, port: u16, format in 0usize..3,
        kind in prop::sample::select(vec![28u8, 200, 252, 253, 254]),
    ) {
        let client = socket(v6, ip, port);
        let format = [Format::Port, Format::Versioned, Format::WithVirtual][format];
        let option = ToaOption::encode_as(format, kind, &client, &virt()).unwrap();
        prop_assert_eq!(option.as_bytes().len() % 4, 0);
        let told = read(option.as_bytes(), kind).unwrap();
        prop_assert_eq!(told.client, client.ip());
        prop_assert_eq!(told.port, (format != Format::Versioned).then_some(port));
        prop_assert_eq!(told.virt, (format == Format::WithVirtual && !v6).then_some(virt()));
        // And it is inserted like any other.
        if let Ok((options, _)) = inserted(&spec, &option) {
            prop_assert_eq!(read(&options, kind), Some(told));
        }
        let (short, _) = option.as_bytes().split_at(option.as_bytes().len() - 2);
        prop_assert_eq!(read(short, kind), None);
    }

    #[test]
    fn options_of_any_bytes_are_read_without_harm(bytes: Vec<u8>, kind: u8) {
        let _ = read(&bytes, kind);
    }
}
