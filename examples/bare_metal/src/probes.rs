//! One function for each part of the packet path that must not be able to panic.
//!
//! A probe takes any frame and returns a number that depends on all that the code under it found,
//! so that nothing of it can be optimised away.

use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_core::addr::{Prefix, is_martian_source};
use lvs_core::io::Burst;

/// Fills, drains and refills a burst with as many packets as the frame is long.
pub fn burst(frame: &mut [u8]) -> u64 {
    let mut burst = Burst::new();
    let mut sum = 0u64;
    for byte in frame.iter().copied() {
        if let Err(byte) = burst.push(byte) {
            sum = sum.wrapping_add(u64::from(byte));
            burst.drain_with(|byte| sum = sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        }
    }
    while let Some(byte) = burst.pop() {
        sum = sum.wrapping_mul(33) ^ u64::from(byte);
    }
    sum
}

/// Classifies the addresses that the frame starts with.
pub fn addresses(frame: &mut [u8]) -> u64 {
    let Some((v4, rest)) = frame.split_first_chunk::<4>() else { return 1 };
    let Some((v6, rest)) = rest.split_first_chunk::<16>() else { return 2 };
    let length = rest.first().copied().unwrap_or_default();
    let mut seen = 0u64;
    for addr in [IpAddr::V4(Ipv4Addr::from(*v4)), IpAddr::V6(Ipv6Addr::from(*v6))] {
        seen = seen << 8 | u64::from(is_martian_source(&addr));
        if let Some(prefix) = Prefix::new(addr, length) {
            let inside = [
                prefix.contains(&addr),
                prefix.contains(&black_box(IpAddr::V4(Ipv4Addr::LOCALHOST))),
                prefix.contains(&black_box(IpAddr::V6(Ipv6Addr::LOCALHOST))),
            ];
            seen = inside.iter().fold(seen, |seen, inside| seen << 1 | u64::from(*inside));
        }
    }
    seen
}
