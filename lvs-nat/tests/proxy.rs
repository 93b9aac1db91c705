//! The PROXY protocol: both versions, what clients send, and its way through the stream edits.

mod support;

use core::net::SocketAddr;
use lvs_core::flow::L4Proto;
use lvs_core::io::PacketBuf;
use lvs_core::wire::{Headers, Parsed, Transport as L4};
use lvs_nat::edit::{EditError, EditList, Splice, StreamEdit, inbound, splice};
use lvs_nat::proxy::policy::{
    ClientHeader, Decision, Policy, Undecided, decide, own_form, own_header,
};
use lvs_nat::proxy::stored::{Again, Form, MAX_REMOVED, Stored};
use lvs_nat::proxy::tlv::{self, Tlv};
use lvs_nat::proxy::{
    Command, Header, ProxyError, Recognised, Transport, V1_MAX, Version, decode, encode,
};
use proptest::prelude::*;
use support::{ACK, edgy, socket, specs, tcp_specs};

fn client() -> SocketAddr {
    "192.0.2.7:40000".parse().unwrap()
}

fn virt() -> SocketAddr {
    "203.0.113.1:80".parse().unwrap()
}

fn header(stream: &[u8]) -> lvs_nat::proxy::Decoded<'_> {
    match decode(stream) {
        Recognised::Header(header) => header,
        other => panic!("{other:?}"),
    }
}

/// The examples of the specification, section 2.1 and 2.2, byte by byte.
#[test]
fn the_bytes_are_those_of_the_specification() {
    let v1 = Header::new(Version::V1, L4Proto::Tcp, &client(), &virt()).unwrap();
    assert_eq!(v1.as_bytes(), b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 80\r\n");
    let v2 = Header::new(Version::V2, L4Proto::Tcp, &client(), &virt()).unwrap();
    let want = [
        b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
        &[0x21, 0x11, 0, 12, 192, 0, 2, 7, 203, 0, 113, 1, 0x9c, 0x40, 0, 80],
    ];
    assert_eq!(v2.as_bytes(), want.concat());
    let udp = Header::new(Version::V2, L4Proto::Udp, &client(), &virt()).unwrap();
    assert_eq!((udp.len(), udp.as_bytes()[13]), (28, 0x12));
    let refused = Header::new(Version::V1, L4Proto::Udp, &client(), &virt());
    assert_eq!(refused, Err(ProxyError::NotTcp));

    let far: SocketAddr = "[2001:fdb8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535".parse().unwrap();
    let v6 = Header::new(Version::V2, L4Proto::Tcp, &far, &far).unwrap();
    assert_eq!((v6.len(), v6.as_bytes()[13], v6.as_bytes()[15]), (52, 0x21, 36));
    // The worst case of version 1 that addresses of one family can make.
    let v6 = Header::new(Version::V1, L4Proto::Tcp, &far, &far).unwrap();
    assert_eq!(v6.len(), 104);
    assert!(v6.len() <= V1_MAX);
}

#[test]
fn ends_of_two_families_are_both_written_as_ipv6() {
    let far: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
    for version in [Version::V1, Version::V2] {
        let bytes = Header::new(version, L4Proto::Tcp, &client(), &far).unwrap();
        let (src, dst) = header(bytes.as_bytes()).ends.unwrap();
        assert_eq!((src, dst), ("[::ffff:192.0.2.7]:40000".parse().unwrap(), far));
    }
}

#[test]
fn a_connection_of_our_own_says_so() {
    let v1 = Header::local(Version::V1);
    assert_eq!(v1.as_bytes(), b"PROXY UNKNOWN\r\n");
    assert_eq!(header(v1.as_bytes()).transport, Transport::Unknown);
    let v2 = Header::local(Version::V2);
    let read = header(v2.as_bytes());
    assert_eq!((read.len, read.command, read.ends), (16, Command::Local, None));
}

#[test]
fn values_and_their_checksum_are_written_and_read() {
    let values = [
        Tlv { kind: tlv::AUTHORITY, value: b"example.org" },
        Tlv { kind: tlv::CRC32C, value: &[0; 4] },
        Tlv { kind: tlv::NOOP, value: &[] },
    ];
    let mut out = [0xee; 200];
    let len = encode(&mut out, Version::V2, L4Proto::Tcp, &client(), &virt(), &values).unwrap();
    let mut bytes = out[..len].to_vec();
    let read = header(&bytes);
    assert_eq!((read.len, read.crc), (28 + 14 + 7 + 3, Some(true)));
    let kinds: Vec<u8> = read.values().map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [2, 3, 4]);
    bytes[18] ^= 1;
    assert_eq!(header(&bytes).crc, Some(false));
    // Independent of our own tables: the value for this header, bit by bit.
    bytes[18] ^= 1;
    let mut zeroed = bytes.clone();
    zeroed[45..49].fill(0);
    let mut register = u32::MAX;
    for byte in zeroed {
        register ^= u32::from(byte);
        for _ in 0..8 {
            register = register >> 1 ^ if register & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    assert_eq!(bytes[45..49], (!register).to_be_bytes());
}

#[test]
fn what_is_no_header_is_told_from_what_may_become_one() {
    use Recognised::{Malformed, None, Partial};
    let v2 = Header::new(Version::V2, L4Proto::Tcp, &client(), &virt()).unwrap();
    let v2 = v2.as_bytes();
    for cut in 1..v2.len() {
        assert_eq!(decode(&v2[..cut]), Partial, "{cut} bytes of version 2");
    }
    let line = b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 80\r\n";
    for cut in 1..line.len() {
        assert_eq!(decode(&line[..cut]), Partial, "{cut} bytes of version 1");
    }
    for (bytes, want) in [
        (&b""[..], None),
        (b"GET / HTTP/1.1\r\n", None),
        (b"PROXYTCP4", None),
        (b"\r\n\r\n\0\r\nQUIT ", None),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 80\n", Malformed),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 80\rx", Malformed),
        (b"PROXY TCP5 192.0.2.7 203.0.113.1 40000 80\r\n", Malformed),
        (b"PROXY TCP4 192.0.2.07 203.0.113.1 40000 80\r\n", Malformed),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 040 80\r\n", Malformed),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 65536 80\r\n", Malformed),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 40000\r\n", Malformed),
        (b"PROXY TCP4 192.0.2.7  203.0.113.1 40000 80\r\n", Malformed),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 80 \r\n", Malformed),
        (b"PROXY TCP6 192.0.2.7 203.0.113.1 40000 80\r\n", Malformed),
        (b"PROXY\r\n", None),
    ] {
        assert_eq!(decode(bytes), want, "{}", bytes.escape_ascii());
    }
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 91], b"\r\n"].concat();
    assert_eq!((long.len(), header(&long).len), (107, 107));
    let longer = [&b"PROXY UNKNOWN "[..], &[b'x'; 92], b"\r\n"].concat();
    assert_eq!(decode(&longer), Malformed);
}

#[test]
fn a_line_that_breaks_within_is_no_header_however_much_of_it_is_there() {
    let stream = b"PROXY UNKNOWN a\rb\r\nGET /";
    assert_eq!(decode(&stream[..16]), Recognised::Partial, "the line may end here");
    for len in 17..=stream.len() {
        assert_eq!(decode(&stream[..len]), Recognised::Malformed, "{len} bytes");
    }
    assert_eq!(decode(b"PROXY UNKNOWN a\nb\r\n"), Recognised::Malformed);
}

#[test]
fn version_2_in_all_families_and_with_bad_parts() {
    let with = |command: u8, family: u8, body: &[u8]| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([command, family, (body.len() >> 8) as u8, body.len() as u8]);
        bytes.extend(body);
        bytes
    };
    let unix = with(0x21, 0x31, &[b'/'; 216]);
    assert_eq!(header(&unix).transport, Transport::UnixStream);
    assert_eq!(header(&unix).len, 232);
    assert_eq!(header(&with(0x21, 0x32, &[0; 216])).transport, Transport::UnixDatagram);
    assert_eq!(header(&with(0x21, 0x00, &[])).transport, Transport::Unknown);
    assert_eq!(header(&with(0x20, 0x11, &[])).ends, None);
    for (command, family, body) in [
        (0x11, 0x11, &[0u8; 12][..]),
        (0x22, 0x11, &[0; 12]),
        (0x21, 0x13, &[0; 12]),
        (0x21, 0x41, &[0; 12]),
        (0x21, 0x11, &[0; 11]),
        (0x21, 0x21, &[0; 35]),
        // A value that is longer than the header, and half a value.
        (0x21, 0x11, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1]),
        (0x21, 0x11, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]),
    ] {
        assert_eq!(
            decode(&with(command, family, body)),
            Recognised::Malformed,
            "{command:x} {family:x}"
        );
    }
}

fn policy(client: ClientHeader, version: Version) -> Policy {
    Policy { version, client, undecided: Undecided::Data }
}

#[test]
fn nobody_is_trusted_by_default() {
    assert_eq!(ClientHeader::default(), ClientHeader::Replace);
    let forged = b"PROXY TCP4 9.9.9.9 203.0.113.1 1 80\r\nGET /";
    let replace = policy(ClientHeader::Replace, Version::V2);
    assert_eq!(decide(forged, &replace), Decision::Replace(37));
    assert_eq!(decide(b"GET /", &replace), Decision::Insert);
    assert_eq!(decide(b"", &replace), Decision::Insert);
    // Cut or broken: data behind our own.
    assert_eq!(decide(&forged[..20], &replace), Decision::Insert);
    assert_eq!(decide(b"PROXY TCP4 x\r\n", &replace), Decision::Insert);
    let drop = Policy { undecided: Undecided::Drop, ..replace };
    assert_eq!(decide(&forged[..20], &drop), Decision::Drop);
    assert_eq!(decide(b"PROXY TCP4 x\r\n", &drop), Decision::Insert);
    assert_eq!(decide(b"GET /", &drop), Decision::Insert);
    // A segment that starts as a header only by chance of one byte, such as "POST".
    assert_eq!(decide(b"POST /", &drop), Decision::Insert);
}

#[test]
fn a_trusted_header_is_kept_or_converted() {
    let (v1, v2) = (
        Header::new(Version::V1, L4Proto::Tcp, &client(), &virt()).unwrap(),
        Header::new(Version::V2, L4Proto::Tcp, &client(), &virt()).unwrap(),
    );
    for version in [Version::V1, Version::V2] {
        let keep = policy(ClientHeader::Keep, version);
        assert_eq!(decide(v1.as_bytes(), &keep), Decision::Leave);
        assert_eq!(decide(v2.as_bytes(), &keep), Decision::Leave);
        assert_eq!(decide(b"GET", &keep), Decision::Insert);
    }
    let (ours, theirs) = ("[::1]:1".parse().unwrap(), "[::2]:2".parse().unwrap());
    for (sent, version, want) in [(v1, Version::V2, v2), (v2, Version::V1, v1)] {
        let convert = policy(ClientHeader::Convert, version);
        let Decision::Rebuild(rebuild) = decide(sent.as_bytes(), &convert) else { panic!() };
        let mut out = [0; 200];
        let len = rebuild.write(&mut out, L4Proto::Tcp, &ours, &theirs).unwrap();
        assert_eq!(&out[..len], want.as_bytes());
        assert_eq!(decide(want.as_bytes(), &convert), Decision::Leave);
    }
    for (version, other) in [(Version::V1, Version::V2), (Version::V2, Version::V1)] {
        let convert = policy(ClientHeader::Convert, version);
        let local = Header::local(other);
        let Decision::Rebuild(rebuild) = decide(local.as_bytes(), &convert) else { panic!() };
        let mut out = [0; 200];
        let len = rebuild.write(&mut out, L4Proto::Tcp, &ours, &theirs).unwrap();
        assert_eq!(&out[..len], Header::local(version).as_bytes());
    }
    // UDP cannot be said in version 1, so ours takes its place.
    let udp = Header::new(Version::V2, L4Proto::Udp, &client(), &virt()).unwrap();
    let convert = policy(ClientHeader::Convert, Version::V1);
    assert_eq!(decide(udp.as_bytes(), &convert), Decision::Replace(28));
}

#[test]
fn values_are_kept_with_our_addresses_and_a_new_checksum() {
    let values =
        [Tlv { kind: tlv::UNIQUE_ID, value: b"id" }, Tlv { kind: tlv::CRC32C, value: &[0; 4] }];
    let mut sent = [0; 100];
    let len = encode(&mut sent, Version::V2, L4Proto::Tcp, &client(), &virt(), &values).unwrap();
    let keeping = policy(ClientHeader::ReplaceKeepingValues, Version::V2);
    let (ours, theirs) = ("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap());
    let Decision::Rebuild(rebuild) = decide(&sent[..len], &keeping) else { panic!() };
    assert_eq!(rebuild.form(), Form::KeepValues);
    let mut out = [0; 200];
    let len = rebuild.write(&mut out, L4Proto::Tcp, &ours, &theirs).unwrap();
    let read = header(&out[..len]);
    assert_eq!((read.len, read.ends, read.crc), (len, Some((ours, theirs)), Some(true)));
    assert_eq!(read.values().next(), Some(values[0]));
    // A wrong one stays wrong.
    sent[20] ^= 1;
    let Decision::Rebuild(rebuild) = decide(&sent, &keeping) else { panic!() };
    let len = rebuild.write(&mut out, L4Proto::Tcp, &ours, &theirs).unwrap();
    assert_eq!(header(&out[..len]).crc, Some(false));
    // Without values, or for version 1, ours is all there is.
    let bare = Header::new(Version::V2, L4Proto::Tcp, &client(), &virt()).unwrap();
    assert_eq!(decide(bare.as_bytes(), &keeping), Decision::Replace(28));
    let v1 = policy(ClientHeader::ReplaceKeepingValues, Version::V1);
    assert!(matches!(decide(&sent, &v1), Decision::Replace(_)));
}

#[test]
fn a_header_longer_than_a_session_can_remember_is_data() {
    let noop = vec![0; MAX_REMOVED - 28 - 3];
    let mut out = vec![0; 5000];
    for (more, want) in [(0, Decision::Replace(MAX_REMOVED as u16)), (1, Decision::Insert)] {
        let value = [&noop[..], &vec![0; more]].concat();
        let values = [Tlv { kind: tlv::NOOP, value: &value }];
        let len = encode(&mut out, Version::V2, L4Proto::Tcp, &client(), &virt(), &values).unwrap();
        assert_eq!(decide(&out[..len], &policy(ClientHeader::Replace, Version::V2)), want);
    }
    let huge = vec![0; 65_536];
    let values = [Tlv { kind: tlv::NOOP, value: &huge }];
    let mut out = vec![0; 70_000];
    let result = encode(&mut out, Version::V2, L4Proto::Tcp, &client(), &virt(), &values);
    assert_eq!(result, Err(ProxyError::TooLong));
}

#[test]
fn a_session_makes_the_same_header_again() {
    let mut out = [0; 200];
    let edit = StreamEdit { at: 1000, removed: 0, inserted: 28 };
    let own = Stored { edit, form: own_form(Version::V2) };
    let again = own.again(&mut out, (77, b""), L4Proto::Tcp, &client(), &virt());
    assert_eq!(again, Ok(Again::Written(28)));
    let p = policy(ClientHeader::Replace, Version::V2);
    assert_eq!(&out[..28], own_header(&p, L4Proto::Tcp, &client(), &virt()).unwrap().as_bytes());

    // One that was made from the client's needs the client's.
    let sent = Header::new(Version::V1, L4Proto::Tcp, &client(), &virt()).unwrap();
    let edit = StreamEdit { at: 1000, removed: sent.len() as u16, inserted: 28 };
    let made = Stored { edit, form: Form::ConvertV2 };
    let all = [b"xyz", sent.as_bytes(), b"GET /"].concat();
    let again = |out: &mut [u8], seq, payload: &[u8]| {
        made.again(out, (seq, payload), L4Proto::Tcp, &virt(), &client())
    };
    assert_eq!(again(&mut out, 997, &all), Ok(Again::Written(28)));
    assert_eq!(header(&out).ends, Some((client(), virt())));
    assert_eq!(again(&mut out, 1000, sent.as_bytes()), Ok(Again::Written(28)));
    assert_eq!(again(&mut out, 1000, &sent.as_bytes()[..20]), Ok(Again::Incomplete));
    assert_eq!(again(&mut out, 1001, &sent.as_bytes()[1..]), Ok(Again::Incomplete));
    assert_eq!(again(&mut [0; 10], 1000, sent.as_bytes()), Err(ProxyError::TooLong));
}

#[test]
fn a_datagram_gets_version_2_in_front_and_a_train_of_them_does_not() {
    use lvs_core::io::{Gso, GsoKind};
    for no_checksum in [false, true] {
        let spec = support::Spec {
            src: client(),
            dst: virt(),
            proto: L4Proto::Udp,
            vlan: true,
            ip_extra: false,
            ttl: 9,
            seq: 0,
            ack: 0,
            flags: 0,
            options: vec![],
            payload: vec![5; 33],
            no_checksum,
            csum: Default::default(),
            padding: 0,
        };
        let header = Header::new(Version::V2, L4Proto::Udp, &client(), &virt()).unwrap();
        let change = Splice { at: 0, cut: 0, bytes: header.as_bytes() };
        let mut buf = spec.buffer(28, None, false);
        let headers = splice(&mut buf, &spec.parsed(), &change, 1500).unwrap();
        let mut want = spec.clone();
        want.payload.splice(0..0, header.as_bytes().iter().copied());
        assert_eq!((buf.to_vec(), headers), (want.build(), want.parsed()));
        let mut train = spec.buffer(28, None, false);
        train.set_gso(Some(Gso { kind: GsoKind::Udp, size: 11 }), headers.payload);
        let refused = splice(&mut train, &spec.parsed(), &change, 1500);
        assert_eq!(refused, Err(EditError::Train));
    }
}

#[test]
fn a_replaced_header_reaches_the_server_once_however_the_client_cuts_it() {
    let forged = b"PROXY TCP4 9.9.9.9 203.0.113.1 1 80\r\n";
    let stream = [&forged[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
    let own = Header::new(Version::V2, L4Proto::Tcp, &client(), &virt()).unwrap();
    let want = [own.as_bytes(), &stream[37..]].concat();
    let mut list = EditList::<1>::default();
    list.push(StreamEdit { at: 500, removed: 37, inserted: 28 }).unwrap();
    for from in 0..stream.len() {
        for to in from + 1..=stream.len() {
            let spec = support::Spec {
                src: client(),
                dst: virt(),
                proto: L4Proto::Tcp,
                vlan: false,
                ip_extra: false,
                ttl: 9,
                seq: 500 + from as u32,
                ack: 1,
                flags: ACK,
                options: vec![],
                payload: stream[from..to].to_vec(),
                no_checksum: false,
                csum: Default::default(),
                padding: 0,
            };
            let mut buf = spec.buffer(64, None, false);
            inbound(&mut buf, &spec.parsed(), &list, |_| own.as_bytes(), 1500).unwrap();
            let Ok(Parsed::Ip(h)) = Headers::parse(buf.data(), buf.total_len()) else { panic!() };
            let L4::Tcp { seq, .. } = h.transport else { panic!() };
            let payload = &buf.data()[usize::from(h.payload)..h.end as usize];
            let at = seq.wrapping_sub(500) as usize;
            assert_eq!(want.get(at..at + payload.len()), Some(payload), "{from}..{to}");
            let whole = if from < 37 { 0 } else { from - 37 + 28 };
            assert_eq!((at, at + payload.len()), (whole, if to <= 37 { 28 } else { to - 9 }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_is_read_and_fits(
        v6: (bool, bool), ips: (u128, u128), ports: (u16, u16), udp: bool, v2: bool,
        values in prop::collection::vec((any::<u8>(), edgy(40)), 0..4), behind in edgy(30),
    ) {
        let (src, dst) = (socket(v6.0, ips.0, ports.0), socket(v6.1, ips.1, ports.1));
        let version = if v2 { Version::V2 } else { Version::V1 };
        let proto = if udp && v2 { L4Proto::Udp } else { L4Proto::Tcp };
        let values: Vec<Tlv<'_>> =
            values.iter().map(|(kind, value)| Tlv { kind: *kind, value }).collect();
        let mut out = vec![0xee; 400];
        let len = encode(&mut out, version, proto, &src, &dst, &values).unwrap();
        prop_assert!(out[len..].iter().all(|byte| *byte == 0xee));
        for short in 0..len {
            let mut out = vec![0; short];
            let result = encode(&mut out, version, proto, &src, &dst, &values);
            prop_assert_eq!(result, Err(ProxyError::TooLong));
            prop_assert!(short == 0 || decode(&out[..short.min(5)]) != Recognised::None || short < 5);
        }
        let stream = [&out[..len], &behind].concat();
        let read = header(&stream);
        prop_assert_eq!((read.version, read.len, read.command), (version, len, Command::Proxy));
        let wide = |end: SocketAddr| match end {
            SocketAddr::V4(v4) if v6.0 != v6.1 => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            other => other,
        };
        prop_assert_eq!(read.ends, Some((wide(src), wide(dst))));
        if v2 {
            let crc = values.iter().any(|v| v.kind == tlv::CRC32C && v.value.len() == 4);
            prop_assert_eq!(read.crc, crc.then_some(true));
            prop_assert_eq!(read.values().count(), values.len());
        }
        // Cut anywhere it may still become one.
        for cut in 1..len {
            prop_assert_eq!(decode(&stream[..cut]), Recognised::Partial);
        }
    }

    #[test]
    fn any_bytes_at_all_are_survived(
        bytes in edgy(300), start in 0usize..3, at in 0usize..60, value: u8,
    ) {
        let v2 = Header::new(Version::V2, L4Proto::Tcp, &client(), &virt()).unwrap();
        let v1 = Header::new(Version::V1, L4Proto::Tcp, &client(), &virt()).unwrap();
        let front = [&b""[..], v2.as_bytes(), v1.as_bytes()][start];
        let mut stream = [front, &bytes].concat();
        if let Some(byte) = stream.get_mut(at) {
            *byte = value;
        }
        if let Recognised::Header(read) = decode(&stream) {
            prop_assert!(read.len <= stream.len() && read.len > 0);
            prop_assert!(tlv::is_sound(read.tlvs));
            // Nothing behind it counts.
            prop_assert_eq!(decode(&stream[..read.len]), Recognised::Header(read));
        }
        for mode in [
            ClientHeader::Replace, ClientHeader::ReplaceKeepingValues,
            ClientHeader::Convert, ClientHeader::Keep,
        ] {
            for version in [Version::V1, Version::V2] {
                if let Decision::Rebuild(rebuild) = decide(&stream, &policy(mode, version)) {
                    let mut out = [0; 500];
                    let len = rebuild.write(&mut out, L4Proto::Tcp, &client(), &virt()).unwrap();
                    prop_assert_eq!(header(&out[..len]).len, len);
                    prop_assert_eq!(header(&out[..len]).version, version);
                }
            }
        }
    }

    #[test]
    fn a_session_remembers_what_it_needs(
        isn: u32, offset: u16, removed in 0u16..0x1000, inserted: u16, form in 0usize..5,
    ) {
        let at = isn.wrapping_add(1).wrapping_add(offset.into());
        let form =
            [Form::OwnV1, Form::OwnV2, Form::ConvertV1, Form::ConvertV2, Form::KeepValues][form];
        let stored = Stored { edit: StreamEdit { at, removed, inserted }, form };
        let packed = stored.pack(isn).unwrap();
        prop_assert_eq!(Stored::unpack(isn, packed), Some(stored));
        prop_assert_eq!(Stored::unpack(isn, (packed.0, packed.1 & 0x0fff)), None);
        let far = StreamEdit { at: at.wrapping_add(0x1_0000), ..stored.edit };
        prop_assert_eq!(Stored { edit: far, ..stored }.pack(isn), None);
        let long = StreamEdit { removed: removed | 0x1000, ..stored.edit };
        prop_assert_eq!(Stored { edit: long, ..stored }.pack(isn), None);
    }

    /// Version 1 has odd lengths, which turn the parity of everything behind.
    #[test]
    fn a_header_goes_into_any_segment_with_a_right_checksum(
        (spec, _) in tcp_specs(), v2: bool, port: u16,
    ) {
        let client = SocketAddr::new(client().ip(), port);
        let version = if v2 { Version::V2 } else { Version::V1 };
        let header = Header::new(version, L4Proto::Tcp, &client, &virt()).unwrap();
        let mut list = EditList::<1>::default();
        let syn = u32::from(spec.flags & 2 != 0);
        let at = spec.seq.wrapping_add(syn);
        list.push(StreamEdit { at, removed: 0, inserted: header.len() as u16 }).unwrap();
        let mut buf = spec.buffer(64, None, false);
        inbound(&mut buf, &spec.parsed(), &list, |_| header.as_bytes(), 1500).unwrap();
        let carries = !spec.payload.is_empty() || spec.flags & 1 != 0;
        let mut want = spec.clone();
        if carries {
            want.payload.splice(0..0, header.as_bytes().iter().copied());
        } else if syn == 0 {
            want.seq = spec.seq.wrapping_add(header.len() as u32);
        }
        let mut built = want.build();
        if spec.flags & 0x20 != 0 && (carries || syn == 1) {
            // The builder's urgent pointer is 0x5678 and points behind the header.
            let at = want.l4() + 18;
            let urgent = 0x5678 + header.len() as u16;
            built[at..at + 2].copy_from_slice(&urgent.to_be_bytes());
            if spec.csum != lvs_core::io::L4Csum::Partial {
                let field = want.computed(&built);
                built[at - 2..at].copy_from_slice(&field.to_be_bytes());
            }
        }
        prop_assert_eq!(buf.to_vec(), built);
    }

    #[test]
    fn nothing_but_tcp_is_a_stream((spec, _) in specs(), bytes in edgy(9)) {
        if spec.proto == L4Proto::Tcp {
            return Ok(());
        }
        let mut buf = spec.buffer(64, None, false);
        let list = EditList::<1>::default();
        let result = inbound(&mut buf, &spec.parsed(), &list, |_| &bytes, 1500);
        prop_assert_eq!(result, Err(EditError::Mismatch));
        prop_assert_eq!(buf.to_vec(), spec.build());
    }
}
