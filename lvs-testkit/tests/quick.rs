//! The quick look says what the thorough one says, or nothing (INV-4).

use lvs_core::addr::MacAddr;
use lvs_core::wire::{Headers, Ordinary, OwnMac, Parsed, QuickTcp, Transport};
use lvs_testkit::strategies;
use proptest::prelude::*;

/// What a quick look says: headers, flags, whether the options are plain, Ethernet destination.
type Quick = (Headers, u8, bool, [u8; 6]);

fn quick(frame: &[u8]) -> Option<Quick> {
    let v4 = QuickTcp::<12>::parse(frame, frame.len());
    let v6 = QuickTcp::<36>::parse(frame, frame.len());
    assert!(v4.is_none() || v6.is_none(), "of both families");
    let v4 = v4.map(|q| (q.headers(), q.flags, q.plain_options, q.to.0));
    v4.or_else(|| v6.map(|q| (q.headers(), q.flags, q.plain_options, q.to.0)))
}

/// The shortest look says what the quick one says of ordinary segments without options, and of no others.
fn ordinary_agrees(frame: &[u8]) -> Result<(), TestCaseError> {
    let Some(to) = frame.first_chunk().map(|to| MacAddr(*to)) else { return Ok(()) };
    let end = |ip_len: u16| frame.len().wrapping_sub(14).wrapping_sub(usize::from(ip_len));
    let plain = |tcp_len: u8, ordinary: bool| tcp_len == 20 && ordinary;
    let v4 = QuickTcp::<12>::parse(frame, frame.len())
        .filter(|q| plain(q.tcp_len, q.is_ordinary(to)))
        .map(|q| Ordinary { key: q.key, padding: end(q.ip_len) });
    let v6 = QuickTcp::<36>::parse(frame, frame.len())
        .filter(|q| plain(q.tcp_len, q.is_ordinary(to)))
        .map(|q| Ordinary { key: q.key, padding: end(q.ip_len) });
    prop_assert_eq!(Ordinary::<12>::look(frame, frame.len(), OwnMac::new(to)), v4);
    prop_assert_eq!(Ordinary::<36>::look(frame, frame.len(), OwnMac::new(to)), v6);
    let other = OwnMac::new(MacAddr(to.0.map(|byte| byte ^ 2)));
    prop_assert_eq!(Ordinary::<12>::look(frame, frame.len(), other), None);
    prop_assert_eq!(Ordinary::<36>::look(frame, frame.len(), other), None);
    Ok(())
}

fn agrees(frame: &[u8]) -> Result<bool, TestCaseError> {
    ordinary_agrees(frame)?;
    let Some((mut same, quick_flags, plain_options, to)) = quick(frame) else { return Ok(false) };
    let thorough = Headers::parse(frame, frame.len());
    let Ok(Parsed::Ip(headers)) = thorough else {
        // Options that nobody may take the short way with are judged by the thorough look only.
        prop_assert!(!plain_options, "{thorough:?}");
        return Ok(false);
    };
    let Transport::Tcp { flags, .. } = headers.transport else {
        return Err(TestCaseError::fail("not TCP"));
    };
    prop_assert_eq!(flags, quick_flags);
    same.transport = headers.transport;
    prop_assert_eq!(same, headers);
    prop_assert_eq!(&frame[..6], &to);
    Ok(true)
}

proptest! {
    #[test]
    fn on_valid_frames(frame in strategies::valid()) {
        agrees(&frame.frame)?;
    }

    #[test]
    fn on_nearly_valid_frames(frame in strategies::nearly_valid()) {
        agrees(&frame.built.frame)?;
    }

    #[test]
    fn on_hostile_frames(frame in strategies::hostile()) {
        agrees(&frame)?;
    }
}

#[test]
fn no_byte_of_an_ordinary_segment_is_overlooked() {
    for (from, to) in
        [("10.0.0.2:1234", "10.0.0.80:80"), ("[2001:db8::2]:1234", "[2001:db8::80]:80")]
    {
        let plain = lvs_testkit::build::tcp().from(from).to(to).ack(7).payload("hello");
        let frame = plain.build();
        let own = OwnMac::new(MacAddr(*frame.first_chunk().unwrap()));
        let v4 = Ordinary::<12>::look(&frame, frame.len(), own).is_some();
        assert!(v4 || Ordinary::<36>::look(&frame, frame.len(), own).is_some());
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut damaged = frame.clone();
                damaged[at] ^= 1 << bit;
                ordinary_agrees(&damaged).unwrap();
            }
            ordinary_agrees(&frame[..at]).unwrap();
        }
        for padding in 1..9 {
            ordinary_agrees(&[&frame[..], &vec![0; padding]].concat()).unwrap();
        }
    }
}

#[test]
fn a_plain_segment_is_not_missed() {
    for (from, to) in
        [("10.0.0.2:1234", "10.0.0.80:80"), ("[2001:db8::2]:1234", "[2001:db8::80]:80")]
    {
        let plain = lvs_testkit::build::tcp().from(from).to(to).ack(7).payload("hello");
        assert!(agrees(&plain.clone().build()).unwrap());
        let stamps = [&[1, 1][..], &lvs_testkit::build::option::timestamps(1, 2)].concat();
        let stamped = plain.options(&stamps).build();
        assert!(agrees(&stamped).unwrap() && quick(&stamped).unwrap().2);
    }
}
