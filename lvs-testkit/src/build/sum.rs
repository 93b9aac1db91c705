//! The Internet checksum, the slow and obvious way (RFC 1071), independent of the code under test.

use core::net::IpAddr;

/// One's complement sum of 16-bit words, folded, not complemented.
#[must_use]
pub fn ones_sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The pseudo-header of RFC 9293 section 3.1 or RFC 8200 section 8.1.
///
/// # Panics
/// When the families differ.
#[must_use]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, proto: u8, l4_len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            bytes.extend(s.octets());
            bytes.extend(d.octets());
            bytes.extend([0, proto]);
            bytes.extend((l4_len as u16).to_be_bytes());
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            bytes.extend(s.octets());
            bytes.extend(d.octets());
            bytes.extend((l4_len as u32).to_be_bytes());
            bytes.extend([0, 0, 0, proto]);
        }
        _ => panic!("source {src} and destination {dst} are of different families"),
    }
    bytes
}

/// The checksum of a TCP, UDP or ICMPv6 segment whose checksum field is zero.
#[must_use]
pub fn l4_checksum(src: IpAddr, dst: IpAddr, proto: u8, segment: &[u8]) -> u16 {
    !ones_sum(&[&pseudo_header(src, dst, proto, segment.len()), segment])
}
