//! Initial sequence numbers for the server's side of FullNAT.
//!
//! One local address and port speaks to a server for one client after another, and the clients'
//! own numbers have nothing to do with each other. So the director chooses: a keyed hash of the
//! four-tuple plus a clock (RFC 6528, RFC 9293 section 3.4.1). The hash keeps a stranger from
//! guessing the number, the clock makes it grow from one connection of a tuple to the next, so that
//! a server still in TIME-WAIT accepts the new SYN (RFC 9293 section 3.10.7.4, RFC 6191).

use crate::seq::after;
use core::net::IpAddr;
use lvs_core::addr::{LocalAddress, RealAddr};
use lvs_core::siphash::SipHash13;

/// The clock ticks every 64 ns and comes around after 275 s (2³² ticks).
const TICK_SHIFT: u32 = 6;

/// A new initial sequence number for a connection from `local` to `real`, opened at `now_ns`
/// nanoseconds of any steady clock. `key` is secret and lives as long as the director.
#[must_use]
#[doc(alias = "secure_tcp_sequence_number")]
pub fn isn(key: &[u64; 2], local: &LocalAddress, real: &RealAddr, now_ns: u64) -> u32 {
    let (l, r) = match (local.ip(), real.ip()) {
        (IpAddr::V4(l), IpAddr::V4(r)) => {
            let [l, r] = [(l.to_bits(), local.port()), (r.to_bits(), real.port())];
            return isn_v4(key, l, r, now_ns);
        }
        (l, r) => (wide(l), wide(r)),
    };
    let ports = u64::from(local.port()) << 16 | u64::from(real.port());
    let words = [(l >> 64) as u64, l as u64, (r >> 64) as u64, r as u64, ports];
    (SipHash13::new(key).words(&words) as u32).wrapping_add((now_ns >> TICK_SHIFT) as u32)
}

/// The same over IPv4; addresses and ports in host byte order.
#[must_use]
#[inline]
pub fn isn_v4(key: &[u64; 2], local: (u32, u16), real: (u32, u16), now_ns: u64) -> u32 {
    let ports = u64::from(local.1) << 16 | u64::from(real.1);
    let words = [u64::from(local.0) << 32 | u64::from(real.0), ports];
    (SipHash13::new(key).words(&words) as u32).wrapping_add((now_ns >> TICK_SHIFT) as u32)
}

fn wide(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Like [`isn`], and after `floor`, modulo 2³²: `floor` is the next number that the server expects
/// from the previous connection of the same tuple. Where the clock alone is not past it (more than
/// 16 MB/s were sent, or the clock came around), the number lies 64 to 128 KiB behind it.
#[must_use]
pub fn isn_past(
    key: &[u64; 2],
    local: &LocalAddress,
    real: &RealAddr,
    now_ns: u64,
    floor: u32,
) -> u32 {
    past(isn(key, local, real, now_ns), floor)
}

/// What [`isn_past`] makes of a number: it, or one behind `floor`.
#[must_use]
#[inline]
pub const fn past(isn: u32, floor: u32) -> u32 {
    if after(isn, floor) { isn } else { floor.wrapping_add(0x1_0000).wrapping_add(isn & 0xffff) }
}
