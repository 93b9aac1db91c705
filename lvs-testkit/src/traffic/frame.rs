//! Writing and reading ordinary TCP frames in place.

use core::fmt::Debug;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use lvs_core::addr::MacAddr;
use lvs_core::checksum::Sum;

/// TCP flags.
pub mod flags {
    pub use lvs_core::session::tcp::flags::{ACK, FIN, PSH, RST, SYN};
}

const ETHERNET: usize = 14;
/// Bytes of the longest headers that [`write()`] makes.
pub const MAX_HEADERS: usize = ETHERNET + 40 + 20 + 4;

/// An address as a number, IPv4 (`u32`) or IPv6 (`u128`).
pub trait Ip: Copy + Eq + Hash + Debug + Default {
    /// Bytes of the IP header without options.
    const HEADER: usize;
    /// The number as an address.
    fn addr(self) -> IpAddr;
    /// The first address plus an offset.
    #[must_use]
    fn plus(self, offset: u32) -> Self;
    /// Writes the IP header for `l4_len` bytes of TCP; the sum of its pseudo header.
    fn put(header: &mut [u8], src: Self, dst: Self, l4_len: usize) -> Sum;
    /// Source and destination of a packet.
    fn get(header: &[u8]) -> Option<(Self, Self)>;
}

impl Ip for u32 {
    const HEADER: usize = 20;

    fn addr(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }

    fn plus(self, offset: u32) -> Self {
        self.wrapping_add(offset)
    }

    fn put(header: &mut [u8], src: Self, dst: Self, l4_len: usize) -> Sum {
        let [total_hi, total_lo] = ((Self::HEADER + l4_len) as u16).to_be_bytes();
        let fixed = [0x45, 0, total_hi, total_lo, 0, 0, 0x40, 0, 64, 6, 0, 0];
        header[..12].copy_from_slice(&fixed);
        header[12..16].copy_from_slice(&src.to_be_bytes());
        header[16..20].copy_from_slice(&dst.to_be_bytes());
        let sum = Sum::ZERO.bytes(&header[..20]).checksum();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Sum::ZERO.u32(src).u32(dst).u16(6).u16(l4_len as u16)
    }

    fn get(header: &[u8]) -> Option<(Self, Self)> {
        let word = |at: usize| header.get(at..)?.first_chunk().copied().map(Self::from_be_bytes);
        Some((word(12)?, word(16)?))
    }
}

impl Ip for u128 {
    const HEADER: usize = 40;

    fn addr(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }

    fn plus(self, offset: u32) -> Self {
        self.wrapping_add(offset.into())
    }

    fn put(header: &mut [u8], src: Self, dst: Self, l4_len: usize) -> Sum {
        let [len_hi, len_lo] = (l4_len as u16).to_be_bytes();
        header[..8].copy_from_slice(&[0x60, 0, 0, 0, len_hi, len_lo, 6, 64]);
        header[8..24].copy_from_slice(&src.to_be_bytes());
        header[24..40].copy_from_slice(&dst.to_be_bytes());
        Sum::ZERO.u128(src).u128(dst).u16(6).u16(l4_len as u16)
    }

    fn get(header: &[u8]) -> Option<(Self, Self)> {
        let word = |at: usize| header.get(at..)?.first_chunk().copied().map(Self::from_be_bytes);
        Some((word(8)?, word(24)?))
    }
}

/// Where a segment comes from and goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ends<A> {
    /// Source address and port.
    pub src: (A, u16),
    /// Destination address and port.
    pub dst: (A, u16),
}

/// What a segment says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// TCP flags.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Announced maximum segment size, the only option.
    pub mss: Option<u16>,
    /// Bytes of payload, all 0x5a.
    pub payload: usize,
}

/// Writes a whole frame with right checksums and gives its length; `None` when it does not fit.
/// `macs` are destination and source.
///
/// # Panics
/// Never: lengths are checked at the start.
pub fn write<A: Ip>(
    frame: &mut [u8],
    macs: [MacAddr; 2],
    ends: &Ends<A>,
    segment: &Segment,
) -> Option<usize> {
    let options = if segment.mss.is_some() { 4 } else { 0 };
    let l4_len = 20 + options + segment.payload;
    let len = ETHERNET + A::HEADER + l4_len;
    let frame = frame.get_mut(..len)?;
    frame[..6].copy_from_slice(&macs[0].0);
    frame[6..12].copy_from_slice(&macs[1].0);
    frame[12..14].copy_from_slice(if A::HEADER == 20 { &[0x08, 0] } else { &[0x86, 0xdd] });
    let (ip, tcp) = frame[ETHERNET..].split_at_mut(A::HEADER);
    let pseudo = A::put(ip, ends.src.0, ends.dst.0, l4_len);
    tcp[..2].copy_from_slice(&ends.src.1.to_be_bytes());
    tcp[2..4].copy_from_slice(&ends.dst.1.to_be_bytes());
    tcp[4..8].copy_from_slice(&segment.seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&segment.ack.to_be_bytes());
    tcp[12] = if options == 4 { 0x60 } else { 0x50 };
    tcp[13] = segment.flags;
    tcp[14..20].copy_from_slice(&[0x40, 0, 0, 0, 0, 0]);
    if let Some(mss) = segment.mss {
        let [hi, lo] = mss.to_be_bytes();
        tcp[20..24].copy_from_slice(&[2, 4, hi, lo]);
    }
    tcp[20 + options..].fill(0x5a);
    let sum = pseudo.bytes(tcp).checksum();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    Some(len)
}

/// Ends, sequence number and Ethernet destination of a frame without VLAN tag, IP options or extension
/// headers; `None` when it is too short. Nothing else is checked.
#[must_use]
pub fn read<A: Ip>(frame: &[u8]) -> Option<(Ends<A>, u32, MacAddr)> {
    let (src, dst) = A::get(frame.get(ETHERNET..)?)?;
    let tcp: &[u8; 8] = frame.get(ETHERNET + A::HEADER..)?.first_chunk()?;
    let [s0, s1, d0, d1, q0, q1, q2, q3] = *tcp;
    let ends =
        Ends { src: (src, u16::from_be_bytes([s0, s1])), dst: (dst, u16::from_be_bytes([d0, d1])) };
    Some((ends, u32::from_be_bytes([q0, q1, q2, q3]), MacAddr(*frame.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::tcp;
    use crate::oracle;

    const MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];

    #[test]
    fn frames_are_those_of_the_builder() {
        let ends = Ends { src: (0xc612_0001, 4000), dst: (0x0a00_0050, 80) };
        let segment = Segment { flags: flags::SYN, seq: 77, mss: Some(1460), ..Segment::default() };
        let mut frame = [0; 128];
        let len = write(&mut frame, MACS, &ends, &segment).unwrap();
        let fields = oracle::fields(&frame[..len]).unwrap();
        let built = tcp().syn().seq(77).mss(1460).from("198.18.0.1:4000").to("10.0.0.80:80");
        let wanted = oracle::fields(&built.dst_mac(MACS[0]).src_mac(MACS[1]).build()).unwrap();
        assert_eq!((fields.src, fields.dst, fields.ports), (wanted.src, wanted.dst, wanted.ports));
        assert_eq!(fields.tcp.unwrap().seq, 77);
        assert_eq!(read::<u32>(&frame[..len]), Some((ends, 77, MACS[0])));
    }

    #[test]
    fn checksums_are_right_in_both_families_at_every_length() {
        let mut frame = [0; 1600];
        for payload in [0, 1, 6, 7, 536, 1460] {
            let segment = Segment { flags: flags::ACK, seq: 1, ack: 2, mss: None, payload };
            let v4 = Ends { src: (0xc612_0001, 4000), dst: (0x0a00_0050u32, 80) };
            let len = write(&mut frame, MACS, &v4, &segment).unwrap();
            assert_eq!((len, oracle::checksums_ok(&frame[..len])), (54 + payload, Ok(())));
            let v6 = Ends { src: (1 << 120, 4000), dst: ((1u128 << 120) + 5, 80) };
            let len = write(&mut frame, MACS, &v6, &segment).unwrap();
            assert_eq!((len, oracle::checksums_ok(&frame[..len])), (74 + payload, Ok(())));
        }
        let none = write(&mut frame[..50], MACS, &Ends::<u32>::default(), &Segment::default());
        assert_eq!(none, None);
    }
}
