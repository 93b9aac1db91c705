//! Frames from somebody who wants a parser to fall over.

use super::damage::nearly_valid;
use super::valid::valid;
use crate::build::{Ext, IcmpError, arp_request, icmp_error, pattern, raw, tcp, udp};
use lvs_core::addr::MacAddr;
use proptest::collection::vec;
use proptest::prelude::*;

/// Hostile frames: noise, noise behind valid prefixes, valid frames with bytes changed, cut, spliced
/// or repeated, and shapes that have broken parsers before. Any length from nothing to 2000 bytes.
pub fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => vec(any::<u8>(), 0..200),
        3 => noise_behind_a_prefix(),
        4 => edited(),
        2 => spliced(),
        1 => nearly_valid().prop_map(|broken| broken.built.frame),
        2 => shapes(),
    ]
}

/// A valid beginning, cut anywhere, and noise after it.
fn noise_behind_a_prefix() -> impl Strategy<Value = Vec<u8>> {
    (valid(), any::<prop::sample::Index>(), vec(any::<u8>(), 0..200)).prop_map(
        |(built, at, noise)| {
            let mut frame = built.frame;
            frame.truncate(at.index(frame.len() + 1));
            frame.extend(noise);
            frame
        },
    )
}

/// A valid frame with up to eight bytes changed, most of them in its headers.
fn edited() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<bool>(), interesting());
    (valid(), vec(edit, 1..8)).prop_map(|(built, edits)| {
        let mut frame = built.frame;
        for (at, anywhere, byte) in edits {
            let span = if anywhere { frame.len() } else { built.payload.min(frame.len()) };
            let at = at.index(span);
            frame[at] = byte;
        }
        frame
    })
}

/// Bytes at the edges of what fields hold.
fn interesting() -> impl Strategy<Value = u8> {
    prop_oneof![
        2 => any::<u8>(),
        1 => prop::sample::select(vec![0, 1, 2, 0x40, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xf0, 0xff]),
    ]
}

/// The beginning of one frame and the end of another.
fn spliced() -> impl Strategy<Value = Vec<u8>> {
    let at = any::<prop::sample::Index>;
    (valid(), at(), valid(), at()).prop_map(|(a, at, b, from)| {
        let (a, b) = (a.frame, b.frame);
        [&a[..at.index(a.len() + 1)], &b[from.index(b.len() + 1)..]].concat()
    })
}

/// Shapes with a history: long chains of extension headers, options that never end, tiny and
/// overlapping fragments, errors that quote rubbish or errors, odd ARP, stacks of tags.
fn shapes() -> impl Strategy<Value = Vec<u8>> {
    (0u8..9, any::<u8>(), any::<u16>()).prop_map(|(shape, small, big)| {
        let v6 = || udp().from("[2001:db8::1]:5").to("[2001:db8::2]:6");
        match shape {
            0 => (0..small % 200).fold(v6(), |packet, _| packet.ext(Ext::HopByHop(vec![]))).build(),
            1 => v6().ext(Ext::Any(43, vec![small, 0, 0, 0, 0, 0, 0])).build(),
            2 => (0..small % 40).fold(tcp(), |packet, n| packet.options(&[n, small])).build(),
            3 => {
                tcp().fragment(big & 0xfff8, small & 1 == 1).payload_len(usize::from(small)).build()
            }
            4 => v6().ext(Ext::Fragment(big & 0xfff8, small & 1 == 1, 1)).build(),
            5 => {
                let noise = raw(small).payload(pattern(usize::from(big % 80))).build();
                let inner = icmp_error(IcmpError::TimeExceeded, &noise, usize::from(small)).build();
                icmp_error(IcmpError::PortUnreachable, &inner, 600).build()
            }
            6 => {
                let mut arp =
                    arp_request(MacAddr([small; 6]), [127, 0, 0, 1].into(), [0; 4].into());
                (arp.hardware_len, arp.operation, arp.pad) = (small, big, usize::from(small % 3));
                arp.build()
            }
            7 => (0..small % 50).fold(tcp(), |packet, n| packet.vlan(u16::from(n))).build(),
            _ => tcp()
                .ihl(small)
                .ip_len(big)
                .data_offset(small >> 4)
                .cut(usize::from(big % 90))
                .build(),
        }
    })
}
