//! The 10-byte virtio network header that travels in front of every frame.
//!
//! With `PACKET_VNET_HDR` the kernel tells on receive, and is told on transmit, where an unfinished
//! checksum starts and how a train is to be cut (virtio 1.2, section 5.1.6; Linux
//! `include/linux/virtio_net.h`: `virtio_net_hdr_from_skb`, `virtio_net_hdr_to_skb`). All fields are
//! in host byte order, since packet sockets use the legacy form.

/// Bytes of the header.
pub(crate) const VNET_LEN: usize = 10;

/// `flags`: the checksum from `csum_start` on is still to be written to `csum_start + csum_offset`.
pub(crate) const NEEDS_CSUM: u8 = 1;
/// `flags`: the device has verified the checksum.
pub(crate) const DATA_VALID: u8 = 2;

/// `gso_type`: an ordinary packet.
pub(crate) const GSO_NONE: u8 = 0;
/// `gso_type`: TCP in IPv4.
pub(crate) const GSO_TCPV4: u8 = 1;
/// `gso_type`: TCP in IPv6.
pub(crate) const GSO_TCPV6: u8 = 4;
/// `gso_type`: UDP datagrams of equal size (`UDP_SEGMENT`), either family.
pub(crate) const GSO_UDP_L4: u8 = 5;
/// `gso_type`, added to a TCP type: the train carries CWR, so only its first segment may keep it.
pub(crate) const GSO_ECN: u8 = 0x80;

/// One header, decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VnetHeader {
    pub(crate) flags: u8,
    pub(crate) gso_type: u8,
    /// Bytes of all headers of a train; a hint.
    pub(crate) hdr_len: u16,
    /// L4 payload bytes of each segment.
    pub(crate) gso_size: u16,
    /// From the start of the frame to where the checksum begins: the L4 header.
    pub(crate) csum_start: u16,
    /// From `csum_start` to the checksum field.
    pub(crate) csum_offset: u16,
}

impl VnetHeader {
    pub(crate) const fn from_bytes(b: [u8; VNET_LEN]) -> Self {
        Self {
            flags: b[0],
            gso_type: b[1],
            hdr_len: u16::from_ne_bytes([b[2], b[3]]),
            gso_size: u16::from_ne_bytes([b[4], b[5]]),
            csum_start: u16::from_ne_bytes([b[6], b[7]]),
            csum_offset: u16::from_ne_bytes([b[8], b[9]]),
        }
    }

    pub(crate) const fn to_bytes(self) -> [u8; VNET_LEN] {
        let [a, b] = self.hdr_len.to_ne_bytes();
        let [c, d] = self.gso_size.to_ne_bytes();
        let [e, f] = self.csum_start.to_ne_bytes();
        let [g, h] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h]
    }
}

/// Where the checksum field lies in the L4 header that starts at `l4`, found from the protocol
/// number of the IP header at `l3`; `None` when the protocol has no such field or the headers do not
/// lead from `l3` to `l4`.
pub(crate) fn csum_field(frame: &[u8], l3: usize, l4: usize) -> Option<u8> {
    let protocol = match frame.get(l3)? >> 4 {
        4 => *frame.get(l3.checked_add(9)?)?,
        6 => ipv6_protocol(frame, l3, l4)?,
        _ => return None,
    };
    match protocol {
        6 => Some(16),
        17 | 136 => Some(6),
        58 => Some(2),
        _ => None,
    }
}

/// Follows the extension headers of the IPv6 header at `l3` to the one that starts at `l4`
/// (RFC 8200, section 4). At most eight are followed: more is not traffic.
fn ipv6_protocol(frame: &[u8], l3: usize, l4: usize) -> Option<u8> {
    let mut next = *frame.get(l3.checked_add(6)?)?;
    let mut at = l3.checked_add(40)?;
    for _ in 0..=8 {
        if at == l4 {
            return Some(next);
        }
        let len = match next {
            // Hop-by-hop, routing, destination options: length in units of 8, the first not counted.
            0 | 43 | 60 => {
                usize::from(*frame.get(at.checked_add(1)?)?).checked_mul(8)?.checked_add(8)?
            }
            // Fragment header.
            44 => 8,
            _ => return None,
        };
        next = *frame.get(at)?;
        at = at.checked_add(len)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_layout_of_the_virtio_standard() {
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: 0x0102,
            gso_size: 0x0304,
            csum_start: 0x0506,
            csum_offset: 0x0708,
        };
        let bytes = header.to_bytes();
        assert_eq!((bytes[0], bytes[1]), (1, 1));
        for (at, value) in [(2, 0x0102u16), (4, 0x0304), (6, 0x0506), (8, 0x0708)] {
            assert_eq!([bytes[at], bytes[at + 1]], value.to_ne_bytes());
        }
        assert_eq!(VnetHeader::from_bytes(bytes), header);
    }

    #[test]
    fn the_checksum_field_is_found_through_ipv4_and_ipv6_extension_headers() {
        let mut v4 = [0u8; 60];
        v4[14] = 0x46; // options: the protocol field does not move
        for (protocol, field) in [(6, Some(16)), (17, Some(6)), (132, None), (1, None)] {
            v4[14 + 9] = protocol;
            assert_eq!(csum_field(&v4, 14, 38), field);
        }
        let mut v6 = [0u8; 120];
        v6[14] = 0x60;
        v6[14 + 6] = 0; // hop-by-hop of 16 bytes, then a fragment header, then UDP
        (v6[54], v6[55]) = (44, 1);
        v6[70] = 17;
        assert_eq!(csum_field(&v6, 14, 78), Some(6));
        assert_eq!(csum_field(&v6, 14, 77), None, "the chain does not lead there");
        v6[14 + 6] = 58;
        assert_eq!(csum_field(&v6, 14, 54), Some(2));
        assert_eq!(csum_field(&v6[..20], 14, 54), None, "too short");
        assert_eq!(csum_field(&[0; 40], 14, 34), None, "not IP");
        // A chain of headers without end stops.
        let loops = [0x60; 14].into_iter().chain([0x60]).chain([0; 2000]).collect::<Vec<u8>>();
        assert_eq!(csum_field(&loops, 14, 1900), None);
    }
}
