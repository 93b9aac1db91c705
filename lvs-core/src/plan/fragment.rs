//! Who keeps the fragments of a datagram together.

use crate::id::WorkerId;
use core::net::IpAddr;

/// The worker that keeps the fragments of one datagram together. Devices spread them by addresses, or the
/// first by ports and the others by addresses; every worker computes the same owner and hands them there.
///
/// `id` is the identification, 16 bits in IPv4 and 32 in IPv6; `workers` is at least 1. Not keyed: who
/// chooses identifications can load one worker, with what a fragment table bounds anyway.
#[must_use]
pub fn fragment_owner(src: IpAddr, dst: IpAddr, protocol: u8, id: u32, workers: u16) -> WorkerId {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() ^ (v6.to_bits() >> 64)) as u64,
    };
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let ends = bits(src).wrapping_mul(MIX).rotate_left(29) ^ bits(dst);
    let all = ends.wrapping_mul(MIX) ^ (u64::from(id) << 8 | u64::from(protocol));
    let mixed = (all.wrapping_mul(MIX) >> 32) as u32;
    let worker = mixed.checked_rem(u32::from(workers)).unwrap_or(0);
    WorkerId(u8::try_from(worker).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_of_one_datagram_have_one_owner_and_datagrams_spread() {
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut counts = [0; 3];
        for id in 0..3000 {
            let owner = fragment_owner(a, b, 17, id, 3);
            assert_eq!(owner, fragment_owner(a, b, 17, id, 3));
            counts[owner.index()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(fragment_owner(a, b, 17, 9, 1), WorkerId(0));
    }
}
