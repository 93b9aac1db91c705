//! What clients write in order to be taken for somebody else, and what becomes of it (INV-12).

use crate::conversation::{Conversation, Left};
use crate::support;
use crate::support::bench::MAC;
use crate::toa::toa;
use crate::world::{proxy, spec};
use lvs_core::io::mem::MemPort;
use lvs_core::service::{ClientAddrMode, Forwarding, ProxyVersion, ToaOptions};
use lvs_testkit::build::option;

/// Kinds that some reader takes for a client address; 77 is the service's own.
const KINDS: [u8; 6] = [28, 77, 200, 252, 253, 254];

/// Options that say an address, in every layout, each 8, 16 or 20 bytes with its padding.
fn forged(kind: u8) -> Vec<Vec<u8>> {
    vec![
        option::any(kind, &[1, 2, 192, 0, 2, 66]),
        [option::any(kind, &[1, 192, 0, 2, 66]), vec![1]].concat(),
        option::any(kind, &[1, 2, 192, 0, 2, 66, 0, 0, 0, 80, 10, 0, 0, 80]),
        option::any(kind, &[9; 18]),
    ]
}

fn own() -> ToaOptions {
    ToaOptions { kind_v4: 77, kind_v6: 77, ..toa() }
}

/// The only address in a segment is the true one, where there is one at all.
fn honest(talk: &Conversation<'_>, left: &Left, own: Option<u8>) {
    let true_one = vec![0x9c, 0x40, 10, 0, 0, 2];
    assert_eq!(talk.client.port(), 40000);
    let of_kinds = left.tcp().option_list().into_iter().filter(|(kind, _)| KINDS.contains(kind));
    let expected: Vec<_> = own.map(|kind| (kind, true_one)).into_iter().collect();
    assert_eq!(of_kinds.collect::<Vec<_>>(), expected);
}

fn conversation<'m>(memory: &'m mut lvs_core::session::HeapMemory) -> Conversation<'m> {
    Conversation::new(ClientAddrMode::Toa(own()), false, 9, memory)
}

#[test]
fn a_forged_option_of_each_kind_in_a_syn_is_taken_out() {
    for option in KINDS.into_iter().flat_map(forged) {
        let mut memory = support::memory();
        let mut talk = conversation(&mut memory);
        let [syn, _] = talk.open(talk.client().syn().seq(9).options(&option));
        honest(&talk, &syn, Some(77));
        assert_eq!(talk.bench.director.counters().toa_stripped, 1, "{option:?}");
        assert_eq!(talk.session().told.words().collect::<Vec<_>>(), ["option", "forged"]);
    }
}

#[test]
fn a_forged_option_of_each_kind_in_the_acknowledgement_is_taken_out() {
    for option in KINDS.into_iter().flat_map(forged) {
        let mut memory = support::memory();
        let mut talk = conversation(&mut memory);
        talk.open(talk.client().syn().seq(9).mss(1460));
        let left = talk.serve(talk.says(0, 0, "").options(&option).build_buf());
        honest(&talk, &left[0], Some(77));
        assert_eq!(talk.session().told.words().collect::<Vec<_>>(), ["option", "forged"]);
    }
}

#[test]
fn a_forged_option_of_each_kind_in_data_is_taken_out_even_when_no_more_is_told() {
    for option in KINDS.into_iter().flat_map(forged) {
        let mut memory = support::memory();
        let mut talk = conversation(&mut memory);
        talk.open(talk.client().syn().seq(9).mss(1460));
        let left = talk.serve(talk.says(0, 0, "hello").options(&option).build_buf());
        honest(&talk, &left[0], Some(77));
        talk.reply(talk.answers(0, 5, "hi").build_buf());
        talk.serve(talk.says(5, 2, "").build_buf());
        assert!(talk.session().plain);
        let left = talk.serve(talk.says(5, 2, "more").options(&option).build_buf());
        honest(&talk, &left[0], None);
        assert_eq!(talk.bench.director.counters().toa_stripped, 2);
    }
}

#[test]
fn a_first_forgery_on_an_open_connection_is_kept_in_the_session() {
    let mut memory = support::memory();
    let mut talk = conversation(&mut memory);
    talk.open(talk.client().syn().seq(9).mss(1460));
    talk.serve(talk.says(0, 0, "hello").build_buf());
    talk.reply(talk.answers(0, 5, "hi").build_buf());
    talk.serve(talk.says(5, 2, "").build_buf());
    assert!(talk.session().plain);
    let before = talk.session();
    let forged = talk.says(5, 2, "more").options(&forged(254)[0]);
    talk.serve(forged.build_buf());
    let after = talk.session();
    assert_eq!(after.told.words().collect::<Vec<_>>(), ["option", "forged"]);
    assert!(after.plain);
    assert_eq!((after.translation, after.state), (before.translation, before.state));
}

/// Forgeries behind a list that is full of what looks innocent, and forgeries that fill it themselves.
#[test]
fn forged_options_of_each_kind_with_full_option_space_leave_no_trace() {
    for kind in KINDS {
        let alone = forged(kind).remove(0);
        for full in [
            [option::timestamps(1, 2), vec![1; 22], alone.clone()].concat(),
            alone.repeat(5),
            [option::any(5, &[7; 8]), option::any(30, &[2; 20]), alone.clone()].concat(),
        ] {
            assert_eq!(full.len(), 40);
            let mut memory = support::memory();
            let mut talk = conversation(&mut memory);
            let [syn, _] = talk.open(talk.client().syn().seq(9).options(&full));
            honest(&talk, &syn, Some(77));
            for payload in ["", "hello"] {
                let left = talk.serve(talk.says(0, 0, payload).options(&full).build_buf());
                honest(&talk, &left[0], Some(77));
                // Whatever goes behind one that went ahead is as honest.
                left.iter().skip(1).for_each(|rest| honest(&talk, rest, None));
            }
        }
    }
}

/// Services without an option of their own: their servers may read one all the same.
#[test]
fn forged_options_are_taken_out_for_every_service_that_does_not_trust_them() {
    let v2 = ClientAddrMode::Proxy(proxy(ProxyVersion::V2));
    for (forwarding, mode) in [
        (Forwarding::FullNat, ClientAddrMode::None),
        (Forwarding::FullNat, v2),
        (Forwarding::Nat, ClientAddrMode::None),
        (Forwarding::Nat, v2),
    ] {
        for trust in [false, true] {
            let mut memory = support::memory();
            let mut spec = spec(forwarding, mode);
            spec.services.iter_mut().for_each(|service| service.flags.trust_toa = trust);
            let mut talk = Conversation::on(MemPort::plain(MAC), spec, false, 9, &mut memory);
            let option = &forged(254)[0];
            let [syn, _] = talk.open(talk.client().syn().seq(9).options(option));
            let ack = talk.serve(talk.says(0, 0, "").options(option).build_buf());
            let data = talk.serve(talk.says(0, 0, "hello").options(option).build_buf());
            for left in [&syn, &ack[0], &data[0]] {
                assert_eq!(left.tcp().option(254).is_some(), trust, "{forwarding} {mode:?}");
            }
            assert_eq!(talk.session().told.words().any(|word| word == "forged"), !trust);
        }
    }
}

#[test]
fn the_magic_of_fast_open_is_believed_in_a_syn_and_nowhere_else() {
    let cookie = option::any(254, &[0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8]);
    // As long as a client address with port 63881: nobody can tell.
    let either = option::any(254, &[0xf9, 0x89, 192, 0, 2, 66]);
    let mut memory = support::memory();
    let mut talk = conversation(&mut memory);
    let [syn, _] =
        talk.open(talk.client().syn().seq(9).options(&[cookie.clone(), either].concat()));
    let magic: Vec<_> =
        syn.tcp().option_list().into_iter().filter(|(kind, _)| *kind == 254).collect();
    assert_eq!(magic, [(254, cookie[2..].to_vec())]);
    let left = talk.serve(talk.says(0, 0, "").options(&cookie).build_buf());
    honest(&talk, &left[0], Some(77));
}
