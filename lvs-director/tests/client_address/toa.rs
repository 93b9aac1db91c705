//! The address option, segment by segment: which carry it, whatever the client does with its first bytes.

use crate::conversation::{Conversation, Left};
use crate::support;
use crate::support::bench::MAC;
use crate::world::spec;
use core::net::SocketAddr;
use lvs_core::io::mem::MemPort;
use lvs_core::service::{ClientAddrMode, Forwarding, ToaFormat, ToaOptions, ToaPlacement};
use lvs_core::session::HeapMemory;
use lvs_testkit::build::{option, pattern};
use lvs_testkit::net::toa_of;

pub(crate) const FIN: u8 = 1;
const RST: u8 = 4;

pub(crate) fn toa() -> ToaOptions {
    ToaOptions::default()
}

pub(crate) fn opened(options: ToaOptions, v6: bool, memory: &mut HeapMemory) -> Conversation<'_> {
    Conversation::opened(ClientAddrMode::Toa(options), v6, 0xffff_fff8, memory)
}

/// Who a segment says its client is.
fn told(left: &[Left]) -> Option<SocketAddr> {
    assert_eq!(left.len(), 1, "one segment for one");
    toa_of(&left[0].frame)
}

/// Bytes that the option takes.
pub(crate) fn growth(v6: bool) -> u16 {
    if v6 { 20 } else { 8 }
}

#[test]
fn every_segment_until_the_servers_data_carries_the_address_and_none_behind_it() {
    for v6 in [false, true] {
        let mut memory = support::memory();
        let mut talk = Conversation::new(ClientAddrMode::Toa(toa()), v6, 9, &mut memory);
        let [syn, _] = talk.open(talk.client().syn().seq(9).mss(1460));
        assert_eq!(toa_of(&syn.frame), Some(talk.client));
        for said in [talk.says(0, 0, ""), talk.says(0, 0, "hello"), talk.says(5, 0, "!")] {
            let left = talk.serve(said.build_buf());
            assert_eq!(told(&left), Some(talk.client));
        }
        talk.reply(talk.answers(0, 6, "hi").build_buf());
        assert!(!talk.session().plain);
        let left = talk.serve(talk.says(6, 2, "").build_buf());
        assert_eq!(told(&left), None);
        assert!(talk.session().plain);
        assert_eq!(talk.session().told.words().collect::<Vec<_>>(), ["option"]);
    }
}

#[test]
fn a_lost_acknowledgement_of_the_handshake_is_made_up_for_by_the_first_data() {
    for placement in [
        ToaPlacement::default(),
        ToaPlacement { syn: false, handshake: true, until_server_data: false },
    ] {
        let mut memory = support::memory();
        let mut talk = opened(ToaOptions { placement, ..toa() }, false, &mut memory);
        let left = talk.serve(talk.says(0, 0, "hello").build_buf());
        assert_eq!((told(&left), &left[0].fields.payload[..]), (Some(talk.client), &b"hello"[..]));
    }
}

#[test]
fn a_fin_on_the_first_data_carries_the_address_and_a_reset_does_not() {
    for payload in ["", "bye"] {
        let mut memory = support::memory();
        let mut talk = opened(toa(), false, &mut memory);
        let left = talk.serve(talk.says(0, 0, payload).fin().build_buf());
        assert_eq!(told(&left), Some(talk.client));
        assert_ne!(left[0].tcp().flags & FIN, 0);
        let left = talk.serve(talk.says(0, 0, "").rst().build_buf());
        assert_eq!((told(&left), left[0].tcp().flags & RST), (None, RST));
    }
}

#[test]
fn first_data_retransmitted_split_and_coalesced_carries_the_same_address() {
    let mut memory = support::memory();
    let mut talk = opened(toa(), false, &mut memory);
    let first = talk.serve(talk.says(0, 0, "hello ").build_buf());
    let again = talk.serve(talk.says(0, 0, "hello ").build_buf());
    assert_eq!(again[0].fields.segment, first[0].fields.segment, "the same segment");
    for (at, bytes) in [(0, "hel"), (3, "lo "), (0, "hello world"), (3, "lo world")] {
        let left = talk.serve(talk.says(at, 0, bytes).build_buf());
        assert_eq!(told(&left), Some(talk.client));
        assert_eq!((talk.place(&left[0]), &left[0].fields.payload[..]), (at, bytes.as_bytes()));
    }
}

/// Of both sides, at every place where a number may be 0: the SYN, the first byte, the byte behind it.
#[test]
fn sequence_numbers_that_wrap_change_nothing() {
    for (isn, theirs) in [(u32::MAX, u32::MAX), (u32::MAX - 1, u32::MAX - 1), (0, 0)] {
        let mut memory = support::memory();
        let mut talk = Conversation::new(ClientAddrMode::Toa(toa()), false, isn, &mut memory);
        talk.server_starts = theirs;
        talk.open(talk.client().syn().seq(isn).mss(1460));
        let left = talk.serve(talk.says(0, 0, "hello").build_buf());
        assert_eq!((told(&left), talk.place(&left[0])), (Some(talk.client), 0));
        let left = talk.reply(talk.answers(0, 5, "welcome").build_buf());
        assert_eq!(talk.acked(&left), 5);
        let left = talk.serve(talk.says(5, 7, "").build_buf());
        assert_eq!((told(&left), talk.place(&left[0])), (None, 5));
        assert!(talk.session().plain, "{isn} {theirs}");
    }
}

#[test]
fn selective_acknowledgements_are_mapped_to_the_clients_numbers_while_the_option_goes() {
    let mut memory = support::memory();
    let mut talk = opened(toa(), false, &mut memory);
    talk.serve(talk.says(0, 0, "hello ").build_buf());
    talk.serve(talk.says(6, 0, "world").build_buf());
    let at = |offset: u32| talk.server_isn.wrapping_add(1).wrapping_add(offset);
    let left = talk.reply(talk.answers(0, 0, "").sack(&[(at(6), at(11))]).build_buf());
    let sack = left.tcp().option(5).unwrap();
    let edge = |at: usize| u32::from_be_bytes(sack[at..at + 4].try_into().unwrap());
    let offset = |number: u32| number.wrapping_sub(talk.isn).wrapping_sub(1);
    assert_eq!((offset(edge(0)), offset(edge(4))), (6, 11));
    // The option takes no place in the stream.
    assert_eq!(talk.acked(&left), 0);
}

#[test]
fn options_of_multipath_tcp_stay_in_syn_and_data() {
    let mut memory = support::memory();
    let mut talk = Conversation::new(ClientAddrMode::Toa(toa()), false, 9, &mut memory);
    let capable = option::any(30, &[0x01, 0x00]);
    let syn =
        talk.client().syn().seq(9).mss(1460).options(&[&option::mss(1460)[..], &capable].concat());
    let [syn, _] = talk.open(syn);
    assert_eq!(toa_of(&syn.frame), Some(talk.client));
    assert_eq!(syn.tcp().option(30), Some(vec![0x01, 0x00]));
    // A data mapping of 20 bytes and an address signal of 16 leave no room: the address goes ahead.
    let full = [option::any(30, &[0x20; 18]), option::any(30, &[0x30; 14])].concat();
    let left = talk.serve(talk.says(0, 0, "hello").options(&full).build_buf());
    assert_eq!((left.len(), toa_of(&left[0].frame)), (2, Some(talk.client)));
    assert_eq!(
        (left[1].tcp().options.as_slice(), &left[1].fields.payload[..]),
        (&full[..], &b"hello"[..])
    );
}

#[test]
fn placement_is_a_choice_of_the_service() {
    let place =
        |syn, handshake, until_server_data| ToaPlacement { syn, handshake, until_server_data };
    for (placement, expected) in [
        // The SYN, the end of the handshake, the first data, the second.
        (place(true, false, false), [true, false, false, false]),
        (place(false, true, false), [false, true, true, false]),
        (place(true, true, false), [true, true, true, false]),
        (place(false, false, true), [false, true, true, true]),
        (place(true, true, true), [true, true, true, true]),
    ] {
        let mut memory = support::memory();
        let mode = ClientAddrMode::Toa(ToaOptions { placement, ..toa() });
        let mut talk = Conversation::new(mode, false, 9, &mut memory);
        let [syn, answer] = talk.open(talk.client().syn().seq(9).mss(1460));
        let mut seen = vec![toa_of(&syn.frame).is_some()];
        for said in [talk.says(0, 0, ""), talk.says(0, 0, "one"), talk.says(3, 0, "two")] {
            seen.push(told(&talk.serve(said.build_buf())).is_some());
        }
        assert_eq!(seen, expected, "{placement:?}");
        // Room is only wanted where data may carry it.
        let mss = if placement.later() { 1452u16 } else { 1460 };
        assert_eq!(answer.tcp().option(2), Some(mss.to_be_bytes().to_vec()), "{placement:?}");
    }
}

#[test]
fn kind_and_layout_are_choices_of_the_service() {
    for (format, kind_v4, kind_v6, expected) in [
        (ToaFormat::Port, 200, 253, [&[0x9c, 0x40, 10, 0, 0, 2][..], &[0x9c, 0x40]]),
        (ToaFormat::Port, 252, 252, [&[0x9c, 0x40, 10, 0, 0, 2], &[0x9c, 0x40]]),
        (ToaFormat::Versioned, 28, 28, [&[1, 10, 0, 0, 2], &[2]]),
        (
            ToaFormat::WithVirtual,
            254,
            254,
            [&[0x9c, 0x40, 10, 0, 0, 2, 0, 0, 0, 80, 10, 0, 0, 80], &[0x9c, 0x40]],
        ),
    ] {
        let options = ToaOptions { kind_v4, kind_v6, format, ..toa() };
        for (v6, kind) in [(false, kind_v4), (true, kind_v6)] {
            let mut memory = support::memory();
            let mut talk = Conversation::new(ClientAddrMode::Toa(options), v6, 9, &mut memory);
            let [syn, answer] = talk.open(talk.client().syn().seq(9).mss(1460));
            let ack = talk.serve(talk.says(0, 0, "").build_buf());
            let mut want = expected[usize::from(v6)].to_vec();
            if let (true, SocketAddr::V6(client)) = (v6, talk.client) {
                want.extend(client.ip().octets());
            }
            for left in [&syn, &ack[0]] {
                assert_eq!(left.tcp().option(kind), Some(want.clone()), "{format:?} {v6}");
            }
            let grown = ack[0].tcp().options.len() as u16;
            let mss = answer.tcp().option(2).unwrap();
            assert_eq!(u16::from_be_bytes([mss[0], mss[1]]), 1460 - grown, "{format:?} {v6}");
        }
    }
}

#[test]
fn a_1460_byte_first_segment_at_mtu_1500_fits_once_the_client_has_heard_the_mss() {
    for v6 in [false, true] {
        let mut memory = support::memory();
        let mut talk = Conversation::new(ClientAddrMode::Toa(toa()), v6, 9, &mut memory);
        let own = if v6 { 1440u16 } else { 1460 };
        let syn = talk.client().syn().seq(9).mss(own);
        let [_, answer] = talk.open_with(syn, &option::mss(own));
        let mss = answer.tcp().option(2).unwrap();
        let mss = u16::from_be_bytes([mss[0], mss[1]]);
        assert_eq!(mss, own - growth(v6));
        // As much as the client may send: one packet of 1500 bytes.
        let left = talk.serve(talk.says(0, 0, pattern(mss.into())).build_buf());
        assert_eq!((told(&left), left[0].frame.len()), (Some(talk.client), 1514));
        // And as much as one sends that does not listen: nothing is cut, nothing goes without.
        let full = pattern(own.into());
        let left = talk.serve(talk.says(0, 0, &full).build_buf());
        assert_eq!((left.len(), toa_of(&left[0].frame)), (2, Some(talk.client)));
        assert_eq!((talk.place(&left[0]), left[0].fields.payload.len()), (0, 0));
        assert_eq!((talk.place(&left[1]), left[1].frame.len()), (0, 1514));
        assert_eq!(left[1].fields.payload, full);
        assert_eq!(talk.bench.director.counters().toa_ahead, 1);
        let told: Vec<_> = talk.session().told.words().collect();
        assert_eq!(told, ["option", "ahead", "no_room"]);
    }
}

#[test]
fn where_the_server_announces_no_mss_none_is_made_up() {
    let mut memory = support::memory();
    let mut talk = Conversation::new(ClientAddrMode::Toa(toa()), false, 9, &mut memory);
    let syn = talk.client().syn().seq(9).mss(1460);
    let [_, answer] = talk.open_with(syn, &option::sack_permitted());
    assert_eq!(answer.tcp().option(2), None);
    // 536 bytes are what a client sends then (RFC 9293 section 3.7.1).
    let left = talk.serve(talk.says(0, 0, pattern(536)).build_buf());
    assert_eq!(told(&left), Some(talk.client));
    let left = talk.serve(talk.says(0, 0, pattern(1460)).build_buf());
    assert_eq!((left.len(), toa_of(&left[0].frame)), (2, Some(talk.client)));
}

#[test]
fn a_train_of_segments_gets_the_option_on_each_and_each_still_fits() {
    for v6 in [false, true] {
        let mut memory = support::memory();
        let port = MemPort { mac: MAC, ..MemPort::default() };
        let spec = spec(Forwarding::FullNat, ClientAddrMode::Toa(toa()));
        let mut talk = Conversation::on(port, spec, v6, 9, &mut memory);
        talk.open(talk.client().syn().seq(9).mss(1460));
        let bytes = pattern(5000);
        let left = talk.serve(talk.says(0, 0, &bytes).gso(1440).build_buf());
        assert!(left.len() >= 4);
        let mut came = Vec::new();
        for segment in &left {
            assert_eq!(toa_of(&segment.frame), Some(talk.client));
            assert!(segment.frame.len() <= 1514, "{}", segment.frame.len());
            assert_eq!(talk.place(segment) as usize, came.len());
            came.extend_from_slice(&segment.fields.payload);
        }
        assert_eq!(came, bytes);
    }
}
