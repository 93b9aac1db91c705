//! Valid frames with exactly one thing wrong.

use super::valid::{tcp_packet, udp_packet};
use crate::build::{Built, Csum, Ext, Layer4, Packet, Tcp, Udp};
use proptest::prelude::*;

/// What is wrong with a frame of [`nearly_valid`]. Every other field is right, checksums included
/// where they can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Damage {
    /// The frame ends after this many bytes.
    Cut(usize),
    /// The IP version does not belong to the EtherType.
    Version(u8),
    /// The IPv4 header length is below 5 words.
    HeaderLength(u8),
    /// The IP length ends before the transport header does.
    LengthTooShort(u16),
    /// The IP length ends behind the frame.
    LengthTooLong(u16),
    /// The IPv4 header checksum is wrong.
    IpChecksum,
    /// The transport checksum is wrong.
    TransportChecksum,
    /// The TCP data offset is below 5 words.
    DataOffsetTooShort(u8),
    /// The TCP data offset ends behind the segment.
    DataOffsetTooLong(u8),
    /// A TCP option has this length, 0 or 1.
    OptionLength(u8),
    /// A TCP option has this length, which ends behind the header.
    OptionTooLong(u8),
    /// The UDP length is below 8.
    UdpLengthTooShort(u16),
    /// The UDP length ends behind the IP packet.
    UdpLengthTooLong(u16),
    /// An IPv6 extension header ends behind the packet.
    ExtensionTooLong(u8),
}

impl Damage {
    /// Whether only a checksum is wrong: a director need not notice (it must not mend it either),
    /// while every other damage must have the frame refused.
    #[must_use]
    pub const fn is_checksum(self) -> bool {
        matches!(self, Self::IpChecksum | Self::TransportChecksum)
    }
}

/// A frame with one thing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong.
    pub damage: Damage,
    /// The frame, and where its parts were before the damage.
    pub built: Built,
}

/// Frames with exactly one thing wrong. smoltcp refuses each of them.
pub fn nearly_valid() -> impl Strategy<Value = Broken> {
    prop_oneof![
        2 => (tcp_packet(), tcp_damage()).prop_map(|(packet, (kind, value))| {
            break_tcp(packet, kind, value)
        }),
        1 => (udp_packet(), udp_damage()).prop_map(|(packet, (kind, value))| {
            break_udp(packet, kind, value)
        }),
    ]
}

/// The kinds of damage that every packet can have, and a number that chooses the value.
const COMMON: u8 = 8;

fn tcp_damage() -> impl Strategy<Value = (u8, u16)> {
    (0..COMMON + 4, any::<u16>())
}

fn udp_damage() -> impl Strategy<Value = (u8, u16)> {
    (0..COMMON + 2, any::<u16>())
}

fn below(value: u16, limit: usize) -> u16 {
    (usize::from(value) % limit.max(1)) as u16
}

fn break_tcp(packet: Packet<Tcp>, kind: u8, value: u16) -> Broken {
    let built = packet.build_parts();
    let segment_words = (built.end - built.l4) / 4;
    match kind.checked_sub(COMMON) {
        None => break_common(packet, kind, value),
        // A header of more words than the segment has, if a nibble can say so.
        Some(0) if segment_words < 15 => {
            let words = segment_words as u8 + 1 + (value as u8) % (15 - segment_words as u8);
            done(Damage::DataOffsetTooLong(words), &packet.data_offset(words))
        }
        Some(0 | 1) => {
            let words = below(value, 5) as u8;
            done(Damage::DataOffsetTooShort(words), &packet.data_offset(words))
        }
        Some(2) => {
            let len = below(value, 2) as u8;
            done(Damage::OptionLength(len), &packet.no_options().options(&[30, len, 0, 0]))
        }
        Some(_) => {
            let len = 5 + (value % 250) as u8;
            done(Damage::OptionTooLong(len), &packet.no_options().options(&[30, len, 0, 0]))
        }
    }
}

fn break_udp(packet: Packet<Udp>, kind: u8, value: u16) -> Broken {
    let built = packet.build_parts();
    match kind.checked_sub(COMMON) {
        None => break_common(packet, kind, value),
        // Zero means "to the end" in a jumbogram (RFC 2675), so it is not certainly wrong.
        Some(0) => {
            let len = 1 + below(value, 7);
            done(Damage::UdpLengthTooShort(len), &packet.udp_len(len))
        }
        Some(_) => {
            let len = (built.end - built.l4) as u16 + 1 + value % 1000;
            done(Damage::UdpLengthTooLong(len), &packet.udp_len(len))
        }
    }
}

fn break_common<P: Layer4 + Clone>(packet: Packet<P>, kind: u8, value: u16) -> Broken {
    let Built { frame, l3, payload, end, .. } = packet.build_parts();
    let v6 = packet.is_v6();
    match kind {
        0 => {
            let len = usize::from(below(value, end));
            done(Damage::Cut(len), &packet.cut(len))
        }
        1 => {
            let right = if v6 { 6 } else { 4 };
            let version = (below(value, 15) as u8 + right + 1) % 16;
            done(Damage::Version(version), &packet.ip_version(version))
        }
        2 if !v6 => {
            let words = below(value, 5) as u8;
            done(Damage::HeaderLength(words), &packet.ihl(words))
        }
        3 if !v6 => done(Damage::IpChecksum, &packet.ip_csum(Csum::Wrong)),
        2 | 3 => {
            // Behind all right ones; 9 units more than any packet of these strategies has.
            let units = (frame.len() / 8 + 1).min(255) as u8;
            let header = Ext::Any(60, vec![units, 0, 0, 0, 0, 0, 0]);
            done(Damage::ExtensionTooLong(units), &packet.ext(header))
        }
        4 => {
            let headers = payload - l3 - if v6 { 40 } else { 0 };
            let len = below(value, headers);
            done(Damage::LengthTooShort(len), &packet.ip_len(len))
        }
        5 | 6 => {
            let room = frame.len() - l3 - if v6 { 40 } else { 0 };
            let len = room as u16 + 1 + value % 1000;
            done(Damage::LengthTooLong(len), &packet.ip_len(len))
        }
        _ => done(Damage::TransportChecksum, &packet.wrong_l4_csum()),
    }
}

fn done<P: Layer4>(damage: Damage, packet: &Packet<P>) -> Broken {
    Broken { damage, built: packet.build_parts() }
}
