//! Takes outer headers off what went into tunnels, so that the packet inside is what is looked at.

use crate::world::{Settings, port_mac};
use lvs_core::service::Encapsulation;
use lvs_testkit::oracle;

const ETHERNET: usize = 14;

/// The frame as it would have left without a tunnel; others as they are.
///
/// # Panics
/// When an outer header of the director is not sound.
#[must_use]
pub fn without(settings: Settings, frame: Vec<u8>) -> Vec<u8> {
    let Some(between) = settings.tunnel().map(between) else { return frame };
    let Some(outer) = outer_len(&frame) else { return frame };
    oracle::checksums_ok(&frame).expect("a sound outer header");
    let start = ETHERNET + outer + between;
    let version = frame.get(start).map(|byte| byte >> 4);
    let ethertype: [u8; 2] = match version {
        Some(4) => [0x08, 0x00],
        Some(6) => [0x86, 0xdd],
        other => panic!("no packet inside: {other:?} {frame:02x?}"),
    };
    [&frame[..12], &ethertype, &frame[start..]].concat()
}

/// Bytes between the outer IP header and the packet inside.
const fn between(tunnel: Encapsulation) -> usize {
    match tunnel {
        Encapsulation::IpIp => 0,
        Encapsulation::Gre { checksum: false } => 4,
        Encapsulation::Gre { checksum: true } => 8,
        Encapsulation::Gue { .. } => 12,
    }
}

/// Bytes of the outer IP header: the director's own packets to servers that are no ICMP are tunnels.
fn outer_len(frame: &[u8]) -> Option<usize> {
    if frame.get(6..12)? != port_mac(1).0 {
        return None;
    }
    let fields = oracle::fields(frame).ok()?;
    let own = [[10, 1, 0, 1].into(), [0xfd01, 0, 0, 0, 0, 0, 0, 1].into()];
    let is_outer = own.contains(&fields.src) && !matches!(fields.proto, 1 | 58);
    is_outer.then_some(if fields.src.is_ipv4() { 20 } else { 40 })
}
