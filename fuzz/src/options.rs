//! Target `tcp_options`: the option bytes of one segment, through every edit of options there is.
//!
//! First byte: flags. Second: an option kind that is stripped as well. Then up to 40 bytes of options, cut
//! to a multiple of four; what follows is payload.

use lvs_core::checksum::{AddrPair, verify_tcp};
use lvs_core::io::mem::MemBuf;
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::SeqDeltas;
use lvs_nat::edit::{EditList, StreamEdit, own, returning};
use lvs_nat::options::{drop_timestamps, lower_mss};
use lvs_nat::toa::{Compaction, KindSet, Limits, ToaKinds, ToaOption, decode, insert, read, strip};
use lvs_testkit::build::tcp;

/// No reader finds a client's address after stripping, the inserted one is found, and the checksum is
/// right after each edit.
///
/// # Panics
/// When that does not hold.
pub fn run(bytes: &[u8]) {
    let [flags, kind, rest @ ..] = bytes else { return };
    let (options, payload) = rest.split_at(rest.len().min(40) / 4 * 4);
    for kind in [*kind, 28, 200, 252, 253, 254] {
        let _ = read(options, kind);
    }
    let _ = own::timestamps_of(options);
    let frame = tcp().flags(*flags).options(options).payload(payload).build();
    let mut buf = MemBuf::from_bytes(&frame);
    let Some(headers) = parse(&buf) else { return };
    let csum = L4Csum::Unknown;
    let set = KindSet::KNOWN.with(*kind);
    let stripped = strip(buf.data_mut(), &headers, csum, set).expect("a segment");
    assert!(!stripped.malformed, "the parser had accepted the list");
    let view = headers.tcp(buf.data()).expect("a segment");
    assert_eq!(decode(view.option_bytes(), ToaKinds::default()), None);
    right(&buf, "strip");

    lower_mss(buf.data_mut(), &headers, csum, 8, 536).expect("a segment");
    right(&buf, "lower_mss");
    drop_timestamps(buf.data_mut(), &headers, csum).expect("a segment");
    right(&buf, "drop_timestamps");
    let mut list = EditList::<1>::default();
    list.push(StreamEdit { at: 1000, removed: 3, inserted: 28 }).expect("an empty list");
    returning(buf.data_mut(), &headers, csum, &list).expect("a segment");
    right(&buf, "returning");
    let shift = SeqDeltas { seq: 77, ack: 5 }.returning();
    shift.apply(buf.data_mut(), &headers, csum).expect("a segment");
    right(&buf, "shift");

    let client = "192.0.2.7:40000".parse().expect("an address");
    let option = ToaOption::encode(&client, ToaKinds::default());
    for compaction in [Compaction::Padding, Compaction::Options] {
        let mut buf = MemBuf::from_bytes(buf.data());
        let limits = Limits { mtu: 1500, compaction };
        if insert(&mut buf, &headers, &option, &limits).is_ok() {
            let headers = parse(&buf).expect("what we made");
            let view = headers.tcp(buf.data()).expect("a segment");
            assert_eq!(decode(view.option_bytes(), ToaKinds::default()), Some(client));
        }
        right(&buf, "insert");
    }
}

fn parse(buf: &MemBuf) -> Option<Headers> {
    match Headers::parse(buf.data(), buf.total_len()) {
        Ok(Parsed::Ip(headers)) => Some(headers),
        _ => None,
    }
}

fn right(buf: &MemBuf, after: &str) {
    let headers = parse(buf).unwrap_or_else(|| panic!("cannot be parsed after {after}"));
    let pair = AddrPair::from(&headers.tuple.expect("TCP"));
    let segment = &buf.data()[usize::from(headers.l4)..headers.end as usize];
    assert!(verify_tcp(pair, segment, &[]), "the checksum is wrong after {after}");
}
