//! The address option: inserted, stripped and read, with every checksum right afterwards.

mod support;

use core::net::SocketAddr;
use lvs_core::flow::L4Proto;
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::wire::{Fragment, Headers, Parsed, Transport};
use lvs_nat::RewriteError;
use lvs_nat::toa::{
    Compaction, Inserted, KindSet, Limits, Outcome, ToaError, ToaKinds, ToaOption, decode, insert,
    strip,
};
use proptest::prelude::*;
use support::{ACK, Opt, SYN, Spec, edgy, encode, socket, tcp_specs};

const WIDE: Limits = Limits { mtu: 65_535, compaction: Compaction::Never };

fn client(v6: bool) -> SocketAddr {
    match v6 {
        false => "192.0.2.7:40000".parse().unwrap(),
        true => "[2001:db8::7]:40000".parse().unwrap(),
    }
}

fn option(v6: bool) -> ToaOption {
    ToaOption::encode(&client(v6), ToaKinds::default())
}

fn segment(flags: u8, options: &[Opt], payload: usize) -> Spec {
    Spec {
        src: "10.0.0.1:40000".parse().unwrap(),
        dst: "10.0.0.2:80".parse().unwrap(),
        proto: L4Proto::Tcp,
        vlan: false,
        ip_extra: false,
        ttl: 64,
        seq: 1,
        ack: 2,
        flags,
        options: encode(options, 0),
        payload: vec![0x5a; payload],
        no_checksum: false,
        csum: L4Csum::Unknown,
        padding: 0,
    }
}

fn syn_of_linux() -> Vec<Opt> {
    vec![Opt::Mss(1460), Opt::SackPermitted, Opt::Timestamps(1, 0), Opt::Nop, Opt::WindowScale(7)]
}

/// Everything that an error must not change.
fn state(buf: &MemBuf) -> (Vec<u8>, usize, usize, lvs_core::io::mem::MemMeta) {
    (buf.to_vec(), buf.headroom(), buf.data().len(), *buf.meta())
}

/// The option bytes of the segment in a buffer.
fn options_of(buf: &MemBuf, headers: &Headers) -> Vec<u8> {
    buf.data()[usize::from(headers.l4) + 20..usize::from(headers.payload)].to_vec()
}

fn insert_into(spec: &Spec, v6: bool, limits: Limits) -> (MemBuf, Result<Inserted, ToaError>) {
    let mut buf = spec.buffer(64, None, false);
    let before = state(&buf);
    let result = insert(&mut buf, &spec.parsed(), &option(v6), &limits);
    if result.is_err() {
        assert_eq!(state(&buf), before);
    }
    (buf, result)
}

#[test]
fn the_bytes_of_the_option_are_those_that_servers_read() {
    assert_eq!(option(false).as_bytes(), [254, 8, 0x9c, 0x40, 192, 0, 2, 7]);
    let want = [253, 20, 0x9c, 0x40, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let kinds = ToaKinds::new(254, 253).unwrap();
    assert_eq!(ToaOption::encode(&client(true), kinds).as_bytes(), want);
    assert_eq!(decode(&want, kinds), Some(client(true)));
    assert_eq!(decode(&want, ToaKinds::default()), None);
}

#[test]
fn kinds_that_tcp_itself_needs_are_refused() {
    for kind in [0, 1, 2, 3, 4, 5, 8] {
        assert_eq!(ToaKinds::new(kind, 254), None);
        assert_eq!(ToaKinds::new(254, kind), None);
        assert!(!KindSet::EMPTY.with(kind).contains(kind));
    }
    for kind in [6, 28, 63, 64, 127, 128, 200, 253, 254, 255] {
        assert!(KindSet::EMPTY.with(kind).contains(kind));
        assert!(!KindSet::EMPTY.contains(kind));
    }
}

#[test]
fn a_reader_takes_the_first_option_and_stops_at_a_malformed_one() {
    let kinds = ToaKinds::default();
    let twice = [254, 8, 0, 1, 1, 1, 1, 1, 254, 8, 0, 2, 2, 2, 2, 2];
    assert_eq!(decode(&twice, kinds), Some("1.1.1.1:1".parse().unwrap()));
    for broken in [[7, 1], [7, 0], [7, 60], [0, 0]] {
        assert_eq!(decode(&[&broken[..], &twice[..]].concat(), kinds), None, "{broken:?}");
    }
    // Other lengths are not addresses.
    assert_eq!(decode(&[254, 7, 0, 1, 1, 1, 1], kinds), None);
}

#[test]
fn a_syn_of_linux_takes_either_option_without_compaction() {
    let spec = segment(SYN, &syn_of_linux(), 0);
    for (v6, len) in [(false, 28), (true, 40)] {
        let (buf, result) = insert_into(&spec, v6, WIDE);
        let inserted = result.unwrap();
        assert_eq!(inserted.outcome, Outcome::Inserted);
        assert_eq!(options_of(&buf, &inserted.headers).len(), len);
    }
}

#[test]
fn a_header_without_room_is_compacted_as_far_as_allowed() {
    // 40 bytes: three SACK blocks behind two NOPs and a timestamp (12 + 2 NOP + 26).
    let sack = Opt::Sack(vec![(1, 2), (3, 4), (5, 6)]);
    let full = [Opt::Nop, Opt::Nop, Opt::Timestamps(1, 2), Opt::Nop, Opt::Nop, sack.clone()];
    let spec = segment(ACK, &full, 10);
    let with = |compaction| insert_into(&spec, false, Limits { compaction, ..WIDE });

    assert_eq!(with(Compaction::Never).1, Err(ToaError::NoRoom));
    // Without padding 36 bytes are left, four too many.
    assert_eq!(with(Compaction::Padding).1, Err(ToaError::NoRoom));
    let (buf, result) = with(Compaction::Options);
    let inserted = result.unwrap();
    assert_eq!(inserted.outcome, Outcome::InsertedAfterCompaction { dropped: 1 });
    let timestamps = Opt::Timestamps(1, 2).bytes();
    let want = [option(false).as_bytes(), &timestamps, &[0, 0]].concat();
    assert_eq!(options_of(&buf, &inserted.headers), want);
    let mut shorter = spec.clone();
    shorter.options = want;
    assert_eq!(buf.to_vec(), shorter.build());
}

#[test]
fn compaction_of_padding_alone_keeps_every_option() {
    let mut list = vec![Opt::Nop; 7];
    list.push(Opt::Sack(vec![(1, 2), (3, 4), (5, 6)]));
    list.extend(vec![Opt::Nop; 7]);
    let spec = segment(ACK, &list, 10);
    assert_eq!(spec.options.len(), 40);
    let (buf, result) =
        insert_into(&spec, false, Limits { compaction: Compaction::Padding, ..WIDE });
    let inserted = result.unwrap();
    assert_eq!(inserted.outcome, Outcome::InsertedAfterCompaction { dropped: 0 });
    let sack = Opt::Sack(vec![(1, 2), (3, 4), (5, 6)]).bytes();
    let want = [option(false).as_bytes(), &sack, &[0, 0]].concat();
    assert_eq!(options_of(&buf, &inserted.headers), want);
}

#[test]
fn a_syn_keeps_one_each_of_the_options_it_cannot_do_without() {
    let cookie = Opt::Raw(34, vec![9; 8]);
    let list = [
        Opt::Mss(1460),
        Opt::SackPermitted,
        Opt::Raw(77, vec![1; 6]),
        Opt::WindowScale(7),
        Opt::WindowScale(8),
        cookie.clone(),
    ];
    let spec = segment(SYN, &list, 0);
    let limits = Limits { compaction: Compaction::Options, ..WIDE };
    let (buf, result) = insert_into(&spec, true, limits);
    let inserted = result.unwrap();
    // 4 + 2 + 3 + 10 fit into 20; the unknown one goes first, then the second copy.
    assert_eq!(inserted.outcome, Outcome::InsertedAfterCompaction { dropped: 2 });
    let kept = encode(&[Opt::Mss(1460), Opt::SackPermitted, Opt::WindowScale(7), cookie], 0);
    assert_eq!(options_of(&buf, &inserted.headers)[20..], kept);

    let full = [
        Opt::Mss(1460),
        Opt::SackPermitted,
        Opt::WindowScale(7),
        Opt::Timestamps(1, 0),
        Opt::Raw(34, vec![9; 16]),
    ];
    let (_, result) = insert_into(&segment(SYN, &full, 0), true, limits);
    assert_eq!(result, Err(ToaError::NoRoom));
}

#[test]
fn compaction_takes_out_no_more_options_than_it_must() {
    // 36 bytes; eight more need one of the three to go, and the first is taken.
    let list: Vec<Opt> = (0..3).map(|n| Opt::Raw(70 + n, vec![n; 10])).collect();
    let spec = segment(ACK, &list, 10);
    assert_eq!(spec.options.len(), 36);
    let limits = Limits { compaction: Compaction::Options, ..WIDE };
    let (buf, result) = insert_into(&spec, false, limits);
    let inserted = result.unwrap();
    assert_eq!(inserted.outcome, Outcome::InsertedAfterCompaction { dropped: 1 });
    assert_eq!(options_of(&buf, &inserted.headers)[8..], encode(&list[1..], 0));
}

#[test]
fn a_malformed_list_is_not_compacted_but_may_stay_behind_the_option() {
    let mut spec = segment(ACK, &[], 0);
    let limits = Limits { compaction: Compaction::Options, ..WIDE };
    for (len, fits) in [(32, true), (36, false)] {
        spec.options = vec![1; len];
        spec.options[4..6].copy_from_slice(&[77, 0]);
        let mut buf = spec.buffer(64, None, false);
        let result = insert(&mut buf, &spec.headers(), &option(false), &limits);
        assert_eq!(
            result.map(|i| i.outcome),
            match fits {
                true => Ok(Outcome::Inserted),
                false => Err(ToaError::NoRoom),
            }
        );
        let mut want = spec.clone();
        if fits {
            want.options.splice(0..0, option(false).as_bytes().iter().copied());
        }
        assert_eq!(buf.to_vec(), want.build());
    }
}

#[test]
fn an_end_marker_hides_what_follows_and_compaction_does_not_bring_it_back() {
    let mut spec = segment(ACK, &[], 0);
    spec.options = vec![1, 1, 0, 0];
    spec.options.extend([254, 8, 9, 9, 9, 9, 9, 9]);
    spec.options.extend([0xaa; 28]);
    let (buf, result) =
        insert_into(&spec, false, Limits { compaction: Compaction::Padding, ..WIDE });
    let inserted = result.unwrap();
    assert_eq!(options_of(&buf, &inserted.headers), option(false).as_bytes());
}

#[test]
fn the_mtu_is_kept_to_the_byte() {
    // 20 + 20 + 12 + 8 + 100
    let list = [Opt::Nop, Opt::Nop, Opt::Timestamps(1, 2)];
    let spec = segment(ACK, &list, 100);
    let with = |mtu, compaction| insert_into(&spec, false, Limits { mtu, compaction }).1;
    assert!(with(160, Compaction::Never).is_ok());
    assert_eq!(with(159, Compaction::Never), Err(ToaError::TooBig));
    // Compaction wins nothing here: ten bytes need twelve.
    assert_eq!(with(159, Compaction::Padding), Err(ToaError::TooBig));
    assert_eq!(with(159, Compaction::Options), Err(ToaError::TooBig));
    assert_eq!(with(39, Compaction::Options), Err(ToaError::TooBig));
    assert_eq!(with(0, Compaction::Options), Err(ToaError::TooBig));
}

#[test]
fn a_packet_that_compaction_makes_shorter_leaves_its_front_behind() {
    let spec = segment(ACK, &[const { Opt::Nop }; 40], 100);
    let mtu = (20 + 20 + 8 + 100) as u16;
    let limits = Limits { mtu, compaction: Compaction::Padding };
    let (buf, result) = insert_into(&spec, false, limits);
    let inserted = result.unwrap();
    let mut want = spec.clone();
    want.options = option(false).as_bytes().to_vec();
    assert_eq!(buf.to_vec(), want.build());
    assert_eq!(buf.headroom(), 64 + 32);
    assert_eq!(inserted.headers, want.parsed());
}

#[test]
fn what_the_ip_header_cannot_say_is_too_big() {
    let mut spec = segment(ACK, &[], 0);
    spec.payload = vec![1; 65_535 - 40 - 7];
    let mut buf = spec.buffer(64, Some(1400), true);
    let before = state(&buf);
    let limits = Limits { mtu: 1500, ..WIDE };
    assert_eq!(insert(&mut buf, &spec.headers(), &option(false), &limits), Err(ToaError::TooBig));
    assert_eq!(state(&buf), before);
    spec.payload.pop();
    let mut buf = spec.buffer(64, Some(1400), true);
    assert!(insert(&mut buf, &spec.headers(), &option(false), &limits).is_ok());
}

#[test]
fn too_little_headroom_fragments_and_other_protocols_are_refused_without_a_change() {
    let spec = segment(ACK, &[], 4);
    let mut buf = spec.buffer(7, None, false);
    let before = state(&buf);
    let headers = spec.parsed();
    let cases = [
        (headers, ToaError::NoHeadroom),
        (Headers { fragment: Fragment::First, ..headers }, ToaError::Fragment),
        (Headers { fragment: Fragment::Later, ..headers }, ToaError::Fragment),
        (Headers { transport: Transport::Udp, ..headers }, ToaError::Mismatch),
        (Headers { payload: headers.payload + 44, ..headers }, ToaError::Mismatch),
        (Headers { payload: headers.l4, ..headers }, ToaError::Mismatch),
    ];
    for (headers, error) in cases {
        assert_eq!(insert(&mut buf, &headers, &option(false), &WIDE), Err(error));
        assert_eq!(state(&buf), before);
    }
}

#[test]
fn a_train_gets_segments_that_still_fit() {
    for (v6, csum) in [(false, L4Csum::Partial), (true, L4Csum::Partial), (false, L4Csum::Good)] {
        let mut spec = segment(ACK, &[Opt::Nop, Opt::Nop, Opt::Timestamps(3, 4)], 20_000);
        (spec.src, spec.dst) = (socket(v6, 77, 1), socket(v6, 78, 2));
        spec.csum = csum;
        let ip = if v6 { 40 } else { 20 };
        let full = 1500 - ip - 20 - 12;
        let mut buf = spec.buffer(64, Some(full), true);
        let limits = Limits { mtu: 1500, ..WIDE };
        let inserted = insert(&mut buf, &spec.headers(), &option(v6), &limits).unwrap();
        let added = option(v6).as_bytes().len();
        assert_eq!(buf.gso().unwrap().size, full - added as u16);
        assert_eq!(buf.meta().gso_headers, inserted.headers.payload);
        let mut want = spec.clone();
        want.options = [option(v6).as_bytes(), &spec.options].concat();
        assert_eq!(buf.to_vec(), want.build());

        // A train of small segments keeps its size.
        let mut buf = spec.buffer(64, Some(500), true);
        insert(&mut buf, &spec.headers(), &option(v6), &limits).unwrap();
        assert_eq!(buf.gso().unwrap().size, 500);

        // One payload byte is the least a segment can have.
        let headers = ip + 20 + 12 + added as u16;
        let mut buf = spec.buffer(64, Some(500), true);
        let limits = Limits { mtu: headers + 1, ..WIDE };
        insert(&mut buf, &spec.headers(), &option(v6), &limits).unwrap();
        assert_eq!(buf.gso().unwrap().size, 1);
        let mut buf = spec.buffer(64, Some(500), true);
        let before = state(&buf);
        let limits = Limits { mtu: headers, ..WIDE };
        assert_eq!(insert(&mut buf, &spec.headers(), &option(v6), &limits), Err(ToaError::TooBig));
        assert_eq!(state(&buf), before);
    }
}

/// INV-12.
#[test]
fn forged_addresses_are_stripped_and_fast_open_stays_where_it_means_something() {
    let forged4 = Opt::Raw(254, vec![0, 1, 9, 9, 9, 9]);
    let forged6 = Opt::Raw(253, vec![7; 18]);
    let fast_open = Opt::Raw(254, vec![0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8]);
    let request = Opt::Raw(254, vec![0xf9, 0x89]);
    let lookalike = Opt::Raw(254, vec![0xf9, 0x89, 9, 9, 9, 9]);
    let akamai = Opt::Raw(28, vec![1, 9, 9, 9, 9]);
    let run = |flags, option: &Opt, kinds| {
        // Odd offsets on purpose.
        let spec = segment(flags, &[Opt::WindowScale(1), option.clone(), Opt::Nop], 5);
        let mut frame = spec.build();
        let stripped = strip(&mut frame, &spec.parsed(), spec.csum, kinds).unwrap();
        let mut want = spec.clone();
        if stripped.count == 1 {
            want.options[3..3 + option.bytes().len()].fill(1);
        }
        assert_eq!(frame, want.build());
        assert!(!stripped.malformed);
        stripped.count
    };
    for flags in [SYN, ACK] {
        assert_eq!(run(flags, &forged4, KindSet::EMPTY), 1);
        assert_eq!(run(flags, &forged6, KindSet::EMPTY), 1);
        assert_eq!(run(flags, &akamai, KindSet::EMPTY), 0);
        assert_eq!(run(flags, &akamai, KindSet::KNOWN), 1);
        assert_eq!(run(flags, &Opt::Timestamps(1, 2), KindSet::KNOWN), 0);
    }
    for option in [&fast_open, &request] {
        assert_eq!(run(SYN, option, KindSet::KNOWN), 0);
        assert_eq!(run(ACK, option, KindSet::KNOWN), 1);
    }
    assert_eq!(run(SYN, &lookalike, KindSet::EMPTY.with(200)), 0);
    assert_eq!(run(SYN, &lookalike, KindSet::KNOWN), 1);
}

#[test]
fn a_list_that_breaks_off_is_reported() {
    let mut spec = segment(ACK, &[], 0);
    spec.options = vec![254, 8, 1, 1, 1, 1, 1, 1, 9, 77, 0, 0];
    let mut frame = spec.build();
    let stripped = strip(&mut frame, &spec.headers(), spec.csum, KindSet::KNOWN).unwrap();
    assert_eq!((stripped.count, stripped.malformed), (1, true));
    spec.options[..8].fill(1);
    assert_eq!(frame, spec.build());
}

#[test]
fn stripping_something_else_than_tcp_is_refused() {
    let spec = Spec { proto: L4Proto::Udp, options: vec![], ..segment(ACK, &[], 4) };
    let mut frame = spec.build();
    let result = strip(&mut frame, &spec.parsed(), spec.csum, KindSet::KNOWN);
    assert_eq!((result, frame), (Err(RewriteError::Unsupported), spec.build()));
}

fn compactions() -> impl Strategy<Value = Compaction> {
    prop_oneof![Just(Compaction::Never), Just(Compaction::Padding), Just(Compaction::Options)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_segment_with_the_option_is_the_segment_that_would_have_been_built_with_it(
        (spec, _) in tcp_specs(), v6: bool, chained: bool,
    ) {
        let chained = chained && spec.padding == 0;
        let mut buf = spec.buffer(20, None, chained);
        let mut want = spec.clone();
        want.options = [option(v6).as_bytes(), &spec.options].concat();
        match insert(&mut buf, &spec.parsed(), &option(v6), &WIDE) {
            Ok(inserted) => {
                prop_assert_eq!(inserted.outcome, Outcome::Inserted);
                prop_assert_eq!(buf.to_vec(), want.build());
                let Ok(Parsed::Ip(parsed)) = Headers::parse(buf.data(), buf.total_len()) else {
                    panic!()
                };
                prop_assert_eq!(inserted.headers, parsed);
                if spec.csum == L4Csum::Partial {
                    prop_assert_eq!((buf.meta().l3, buf.meta().l4), (parsed.l3, parsed.l4));
                }
            }
            Err(error) => {
                prop_assert_eq!(error, ToaError::NoRoom);
                prop_assert!(want.options.len() > 40);
            }
        }
    }

    #[test]
    fn whatever_the_limits_the_result_keeps_them_or_nothing_changed(
        (spec, _) in tcp_specs(), v6: bool, headroom in 0usize..30,
        mtu in prop_oneof![0u16..200, Just(1500)], compaction in compactions(),
        gso in prop::option::of(1u16..200),
    ) {
        let mut buf = spec.buffer(headroom, gso, false);
        let before = state(&buf);
        match insert(&mut buf, &spec.parsed(), &option(v6), &Limits { mtu, compaction }) {
            Ok(Inserted { headers, .. }) => {
                let options = options_of(&buf, &headers);
                prop_assert_eq!(decode(&options, ToaKinds::default()), Some(client(v6)));
                let mut want = spec.clone();
                want.options = options;
                prop_assert_eq!(buf.to_vec(), want.build());
                prop_assert_eq!(headers, want.parsed());
                let segment = match buf.gso() {
                    Some(gso) => {
                        u32::from(headers.payload - headers.l3) + u32::from(gso.size)
                    }
                    None => headers.end - u32::from(headers.l3),
                };
                prop_assert!(segment <= u32::from(mtu));
                prop_assert_eq!(buf.gso().is_some(), gso.is_some());
            }
            Err(_) => prop_assert_eq!(state(&buf), before),
        }
    }

    /// INV-3.
    #[test]
    fn a_damaged_segment_is_as_damaged_with_the_option(
        (mut spec, _) in tcp_specs(), v6: bool, value: u16, kinds: bool,
    ) {
        spec.csum = L4Csum::Unknown;
        let mut buf = spec.buffer(64, None, false);
        let at = spec.field_at();
        buf.data_mut()[at..at + 2].copy_from_slice(&value.to_be_bytes());
        let off = |frame: &[u8], spec: &Spec| {
            (u32::from(spec.field(frame)) + 0xffff - u32::from(spec.computed(frame))) % 0xffff
        };
        let before = off(&buf.to_vec(), &spec);
        let set = if kinds { KindSet::KNOWN } else { KindSet::EMPTY };
        strip(buf.data_mut(), &spec.parsed(), spec.csum, set).unwrap();
        prop_assert_eq!(off(&buf.to_vec(), &spec), before);
        let limits = Limits { compaction: Compaction::Options, ..WIDE };
        if let Ok(inserted) = insert(&mut buf, &spec.parsed(), &option(v6), &limits) {
            let mut now = spec.clone();
            now.options = options_of(&buf, &inserted.headers);
            prop_assert_eq!(off(&buf.to_vec(), &now), before);
        }
    }

    /// INV-12.
    #[test]
    fn after_stripping_no_reader_finds_an_address_and_the_rest_is_as_it_was(
        (spec, list) in tcp_specs(), kinds in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let set = kinds.iter().fold(KindSet::EMPTY.with(254), |set, &kind| set.with(kind));
        let mut frame = spec.build();
        let stripped = strip(&mut frame, &spec.parsed(), spec.csum, set).unwrap();
        prop_assert!(!stripped.malformed);

        // The slow twin: each option, kept or replaced by as many NOPs.
        let syn = spec.flags & SYN != 0;
        let mut want = spec.clone();
        let mut at = 0;
        for option in &list {
            let bytes = option.bytes();
            if at + bytes.len() > 40 {
                continue;
            }
            let fast_open = syn && matches!(&bytes[..], [254, len, 0xf9, 0x89, ..]
                if !matches!(len, 8 | 16 | 20));
            let gone = bytes.len() > 1
                && (matches!(bytes[0], 253 | 254) && !fast_open
                    || set.contains(bytes[0]) && bytes[0] != 254);
            if gone {
                want.options[at..at + bytes.len()].fill(1);
            }
            at += bytes.len();
        }
        prop_assert_eq!(frame, want.build());
        prop_assert_eq!(decode(&want.options, ToaKinds::default()), None);
    }

    #[test]
    fn garbage_instead_of_options_is_survived_with_a_right_checksum(
        (mut spec, _) in tcp_specs(), garbage in edgy(41), small in prop::bool::ANY,
        v6: bool, compaction in compactions(),
    ) {
        spec.options = garbage.iter().map(|b| if small { b % 12 } else { *b }).collect();
        spec.options.truncate(spec.options.len() / 4 * 4);
        let headers = spec.headers();
        let mut buf = spec.buffer(64, None, false);
        strip(buf.data_mut(), &headers, spec.csum, KindSet::KNOWN).unwrap();
        spec.options = options_of(&buf, &headers);
        prop_assert_eq!(buf.to_vec(), spec.build());
        let limits = Limits { compaction, ..WIDE };
        if let Ok(inserted) = insert(&mut buf, &headers, &option(v6), &limits) {
            spec.options = options_of(&buf, &inserted.headers);
            prop_assert_eq!(decode(&spec.options, ToaKinds::default()), Some(client(v6)));
        }
        prop_assert_eq!(buf.to_vec(), spec.build());
    }

    #[test]
    fn headers_of_another_frame_do_no_harm(
        (spec, _) in tcp_specs(), offsets: (u16, u16, u16), near: bool, end: u32, len in 0usize..150,
    ) {
        let pick = |wild: u16| if near { wild % 160 } else { wild };
        let headers = Headers {
            l3: pick(offsets.0),
            l4: pick(offsets.1),
            payload: pick(offsets.2),
            end: if near { end % 300 } else { end },
            ..spec.headers()
        };
        let mut buf = spec.buffer(64, None, false);
        buf.truncate(len);
        let before = state(&buf);
        let limits = Limits { compaction: Compaction::Options, ..WIDE };
        if insert(&mut buf, &headers, &option(true), &limits).is_err() {
            prop_assert_eq!(state(&buf), before);
        }
        let _ = strip(buf.data_mut(), &headers, spec.csum, KindSet::KNOWN);
    }
}
