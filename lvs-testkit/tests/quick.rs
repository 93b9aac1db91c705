//! The quick look says what the thorough one says, or nothing (INV-4).

use lvs_core::wire::{Headers, Parsed, QuickTcp, Transport};
use lvs_testkit::strategies;
use proptest::prelude::*;

fn agrees(frame: &[u8]) -> Result<bool, TestCaseError> {
    let Some(quick) = QuickTcp::parse(frame, frame.len()) else { return Ok(false) };
    let thorough = Headers::parse(frame, frame.len());
    let Ok(Parsed::Ip(headers)) = thorough else {
        // Options that nobody may take the short way with are judged by the thorough look only.
        prop_assert!(!quick.plain_options, "{thorough:?}");
        return Ok(false);
    };
    let Transport::Tcp { flags, .. } = headers.transport else {
        return Err(TestCaseError::fail("not TCP"));
    };
    prop_assert_eq!(flags, quick.flags);
    let mut same = quick.headers();
    same.transport = headers.transport;
    prop_assert_eq!(same, headers);
    prop_assert_eq!(&frame[..6], &quick.to.0);
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
fn a_plain_segment_is_not_missed() {
    let frame = lvs_testkit::build::tcp()
        .from("10.0.0.2:1234")
        .to("10.0.0.80:80")
        .ack(7)
        .payload("hello")
        .build();
    assert!(agrees(&frame).unwrap());
}
