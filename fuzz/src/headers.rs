//! Target `headers`: one frame, read by the parser and judged by smoltcp.

use lvs_core::wire::{Fragment, Headers, Parsed};

// The judge of the parser's own property test.
#[path = "../../lvs-core/tests/wire_common/judge.rs"]
mod judge;

/// Both accept the frame or both refuse it, but for the named differences, and what is accepted is in
/// order.
///
/// # Panics
/// When that does not hold.
pub fn run(frame: &[u8]) {
    judge::compare(frame);
    // Later segments, which the parser does not see, only make a packet longer.
    for total in [frame.len(), frame.len() + 9000] {
        if let Ok(Parsed::Ip(headers)) = Headers::parse(frame, total) {
            in_order(&headers, frame, total);
        }
    }
}

fn in_order(headers: &Headers, frame: &[u8], total: usize) {
    let Headers { l3, l4, payload, end, .. } = *headers;
    assert!(l3 <= l4 && l4 <= payload && u32::from(payload) <= end, "{headers:?}");
    assert!(usize::from(payload) <= frame.len() && end as usize <= total, "{headers:?}");
    let (src, dst) = headers.addresses(frame).expect("the frame that was parsed");
    if let Some(tuple) = headers.tuple {
        assert_eq!((tuple.src(), tuple.dst()), (src, dst));
    }
    let fragment = headers.fragment != Fragment::No;
    assert_eq!(headers.fragment_id(frame).is_some(), fragment, "{headers:?}");
}
