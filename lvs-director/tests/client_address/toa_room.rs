//! The ladder: what comes where the address option has no room, each outcome counted and kept in the session.

use crate::conversation::Conversation;
use crate::support;
use crate::toa::{opened, toa};
use crate::world::spec;
use lvs_core::io::mem::MemPort;
use lvs_core::service::{
    ClientAddrMode, Forwarding, NoToaRoom, TimestampPolicy, ToaOptions, ToaPlacement,
};
use lvs_core::verdict::DropReason;
use lvs_testkit::build::{option, pattern};
use lvs_testkit::net::{read_proxy, toa_of};

/// 40 bytes of options of a SYN, none of which may go: Fast Open cookie, Multipath TCP.
fn stuffed() -> Vec<u8> {
    [option::any(34, &[7; 16]), option::any(30, &[1; 20])].concat()
}

/// 40 bytes that are one option, which stays when data has to go.
fn one_large() -> Vec<u8> {
    option::any(30, &[1; 38])
}

fn words(talk: &Conversation<'_>) -> Vec<&'static str> {
    talk.session().told.words().collect()
}

fn with(no_room: NoToaRoom) -> ToaOptions {
    ToaOptions { no_room, ..toa() }
}

#[test]
fn a_syn_with_40_bytes_of_options_makes_room_by_padding_and_by_what_can_be_missed() {
    for v6 in [false, true] {
        let mut memory = support::memory();
        let mut talk = Conversation::new(ClientAddrMode::Toa(toa()), v6, 9, &mut memory);
        let linux = [option::mss(1460), option::sack_permitted(), option::window_scale(7)].concat();
        let mut options = [linux, option::any(77, &[9; 20])].concat();
        options.resize(40, 1);
        let [syn, _] = talk.open(talk.client().syn().seq(9).options(&options));
        assert_eq!(toa_of(&syn.frame), Some(talk.client));
        for kept in [2, 3, 4] {
            assert!(syn.tcp().option(kept).is_some(), "{kept}");
        }
        let counters = talk.bench.director.counters();
        assert_eq!((counters.toa_compacted, counters.toa_no_room), (1, 0));
        assert_eq!(words(&talk), ["option", "compacted"]);
    }
}

#[test]
fn a_syn_with_40_bytes_of_options_that_must_stay_goes_without_and_the_next_segment_carries_it() {
    for v6 in [false, true] {
        let mut memory = support::memory();
        let mut talk = Conversation::new(ClientAddrMode::Toa(toa()), v6, 9, &mut memory);
        let [syn, _] = talk.open(talk.client().syn().seq(9).options(&stuffed()));
        assert_eq!(syn.tcp().options, stuffed());
        assert_eq!(words(&talk), ["no_room"]);
        let counters = talk.bench.director.counters();
        assert_eq!((counters.toa_no_room, counters.toa_later), (1, 1));
        let left = talk.serve(talk.says(0, 0, "").build_buf());
        assert_eq!(toa_of(&left[0].frame), Some(talk.client));
        assert_eq!(words(&talk), ["option", "no_room"]);
    }
}

#[test]
fn a_syn_with_40_bytes_of_options_is_dropped_where_nothing_else_would_tell() {
    let only_syn = ToaPlacement { syn: true, handshake: false, until_server_data: false };
    for options in [with(NoToaRoom::Drop), ToaOptions { placement: only_syn, ..toa() }] {
        let mut memory = support::memory();
        let mut talk = Conversation::new(ClientAddrMode::Toa(options), false, 9, &mut memory);
        let syn = talk.client().syn().seq(9).options(&stuffed()).build_buf();
        talk.refused(DropReason::NoToaRoom, syn);
        assert_eq!(talk.bench.director.counters().toa_no_room, 1);
    }
}

#[test]
fn a_syn_with_data_carries_the_option_in_front_of_it() {
    let mut memory = support::memory();
    let mut talk = Conversation::new(ClientAddrMode::Toa(toa()), false, 9, &mut memory);
    let cookie = option::any(254, &[0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8]);
    let [syn, _] = talk.open(talk.client().syn().seq(9).options(&cookie).payload("early"));
    assert_eq!(syn.tcp().option_list()[0], (254, vec![0x9c, 0x40, 10, 0, 0, 2]));
    // The magic of Fast Open is no address, and stays.
    assert_eq!(syn.tcp().option_list()[1], (254, cookie[2..].to_vec()));
    assert_eq!(syn.fields.payload, b"early");
    assert_eq!(talk.bench.director.counters().toa_stripped, 0);
}

/// A server that took it might answer before it knows whom.
#[test]
fn a_syn_that_goes_without_the_option_brings_no_data() {
    let late = ToaPlacement { syn: false, ..ToaPlacement::default() };
    let full = stuffed();
    let none: &[u8] = &[];
    for (options, theirs, carries) in [
        // Its data was in the way.
        (toa(), none, true),
        // Data and options: without the cookie there is room.
        (toa(), &full, true),
        (ToaOptions { placement: late, ..toa() }, none, false),
    ] {
        let mut memory = support::memory();
        let mut talk = Conversation::new(ClientAddrMode::Toa(options), false, 9, &mut memory);
        let len = 1460 - theirs.len();
        let syn = || talk.client().syn().seq(9).options(theirs).payload_len(len);
        let (first, again) = (syn(), syn());
        let [first, _] = talk.open(first);
        let again = talk.serve(again.build_buf());
        for syn in [&first, &again[0]] {
            assert_eq!((syn.fields.payload.len(), syn.tcp().option(34)), (0, None));
            assert_eq!(toa_of(&syn.frame).is_some(), carries);
        }
        assert_eq!(talk.bench.director.counters().syn_data_cut, 2);
        // The answer acknowledges no data, so the client sends it again, with the address.
        let left = talk.serve(talk.says(0, 0, "early").build_buf());
        assert_eq!(toa_of(&left[0].frame), Some(talk.client));
    }
}

#[test]
fn a_segment_ahead_has_the_timestamps_that_the_connection_asks_for() {
    let mut memory = support::memory();
    let mut spec = spec(Forwarding::FullNat, ClientAddrMode::Toa(toa()));
    spec.services.iter_mut().for_each(|service| service.timestamps = TimestampPolicy::Keep);
    let port = MemPort::plain(support::bench::MAC);
    let mut talk = Conversation::on(port, spec, true, 9, &mut memory);
    let stamps = [vec![1, 1], option::timestamps(0x0102_0304, 7)].concat();
    talk.open(talk.client().syn().seq(9).options(&stamps));
    let data = talk.says(0, 0, pattern(1428)).options(&stamps);
    let left = talk.serve(data.build_buf());
    assert_eq!((left.len(), toa_of(&left[0].frame)), (2, Some(talk.client)));
    for segment in &left {
        assert_eq!(segment.tcp().option(8), Some(stamps[4..].to_vec()));
    }
}

#[test]
fn a_damaged_segment_is_not_announced_by_a_sound_one() {
    let mut memory = support::memory();
    let mut talk = opened(toa(), false, &mut memory);
    let full = talk.says(0, 0, pattern(1460)).wrong_l4_csum().build_buf();
    talk.refused(DropReason::BadL4Checksum, full);
}

#[test]
fn without_room_the_address_goes_as_a_proxy_header_where_servers_read_either() {
    for v6 in [false, true] {
        let mut memory = support::memory();
        let mode = ClientAddrMode::Toa(with(NoToaRoom::Proxy));
        let mut talk = Conversation::new(mode, v6, 9, &mut memory);
        let syn = talk.client().syn().seq(9).options(&one_large()).payload("early");
        let [syn, _] = talk.open(syn);
        assert_eq!((toa_of(&syn.frame), syn.fields.payload.len()), (None, 0));
        assert_eq!(words(&talk), ["no_room"]);
        let ack = talk.serve(talk.says(0, 0, "").build_buf());
        assert_eq!((toa_of(&ack[0].frame), ack[0].fields.payload.len()), (None, 0));
        for _ in 0..2 {
            let left = talk.serve(talk.says(0, 0, "early").build_buf());
            let (proxied, len) = read_proxy(&left[0].fields.payload).unwrap().unwrap();
            assert_eq!((proxied.client, proxied.virt), (talk.client, talk.service));
            assert_eq!(
                (&left[0].fields.payload[len..], toa_of(&left[0].frame)),
                (&b"early"[..], None)
            );
        }
        assert_eq!(words(&talk), ["proxy", "no_room"]);
        let header = if v6 { 52 } else { 28 };
        let left = talk.reply(talk.answers(0, header + 5, "hi").build_buf());
        assert_eq!(talk.acked(&left), 5);
        assert!(talk.session().plain);
        let left = talk.serve(talk.says(5, 2, "more").build_buf());
        assert_eq!(
            (talk.place(&left[0]), left[0].fields.payload.as_slice()),
            (header + 5, &b"more"[..])
        );
        let counters = talk.bench.director.counters();
        assert_eq!((counters.toa_by_proxy, counters.toa_no_room), (1, 1));
    }
}

#[test]
fn first_data_without_room_becomes_a_proxy_header_if_nothing_has_told_before() {
    let late = ToaPlacement { syn: false, handshake: true, until_server_data: true };
    let mut memory = support::memory();
    let options = ToaOptions { placement: late, ..with(NoToaRoom::Proxy) };
    let mut talk = opened(options, false, &mut memory);
    // It does not fit either way: the header goes ahead.
    let full = pattern(1460);
    let left = talk.serve(talk.says(0, 0, &full).build_buf());
    assert_eq!(left.len(), 2);
    let (proxied, len) = read_proxy(&left[0].fields.payload).unwrap().unwrap();
    assert_eq!((proxied.client, len, left[0].fields.payload.len()), (talk.client, 28, 28));
    assert_eq!((talk.place(&left[1]), &left[1].fields.payload), (28, &full));
    assert_eq!(words(&talk), ["proxy", "ahead", "no_room"]);
}

#[test]
fn who_has_been_sent_the_option_gets_no_proxy_header() {
    let mut memory = support::memory();
    let mut talk = opened(with(NoToaRoom::Proxy), false, &mut memory);
    let left = talk.serve(talk.says(0, 0, pattern(1460)).build_buf());
    assert_eq!((left.len(), toa_of(&left[0].frame)), (2, Some(talk.client)));
    assert_eq!(left[0].fields.payload.len(), 0);
    let counters = talk.bench.director.counters();
    assert_eq!((counters.toa_by_proxy, counters.toa_ahead), (0, 1));
}

/// A client that gives its first attempt up begins anew: so does what its server is told.
#[test]
fn a_syn_with_another_number_is_told_anew() {
    let mut memory = support::memory();
    let mode = ClientAddrMode::Toa(with(NoToaRoom::Proxy));
    let mut talk = Conversation::new(mode, false, 9, &mut memory);
    talk.serve(talk.client().syn().seq(9).options(&one_large()).build_buf());
    assert_eq!(words(&talk), ["no_room"]);
    let left = talk.serve(talk.client().syn().seq(5000).mss(1460).build_buf());
    assert_eq!(toa_of(&left[0].frame), Some(talk.client));
    assert_eq!(words(&talk), ["option"]);
}
