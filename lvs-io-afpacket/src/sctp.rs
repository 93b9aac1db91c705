//! The checksum of SCTP, which the virtio header cannot express.
//!
//! A local sender leaves its CRC32c unfinished on devices such as veth that promise to compute it.
//! What arrives here says "checksum needed, field at 8", and sent on like that the kernel would write
//! an Internet checksum there. So the CRC is finished on receive (RFC 9260, section 6.8 and
//! appendix A); no other protocol of Linux has its checksum field at offset 8.

/// From the SCTP header to its checksum field.
pub(crate) const FIELD: u16 = 8;

/// CRC32c of each byte value, polynomial 0x1edc6f41, bits reversed.
const TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ *byte)];
    !bytes.iter().fold(u32::MAX, step)
}

/// Writes the CRC of the SCTP packet that starts at `start` and ends with the frame. Returns whether
/// there is such a packet.
pub(crate) fn finish(frame: &mut [u8], start: usize) -> bool {
    let Some(packet) = frame.get_mut(start..) else { return false };
    let Some(field) = packet.get_mut(8..12) else { return false };
    field.fill(0);
    let crc = crc32c(packet).to_le_bytes();
    packet.iter_mut().skip(8).zip(crc).for_each(|(place, byte)| *place = byte);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_has_the_published_check_values() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_finished_packet_verifies_and_a_runt_is_left_alone() {
        let mut frame: Vec<u8> = (0..80).collect();
        let before = frame.clone();
        assert!(finish(&mut frame, 34));
        assert_eq!((&frame[..42], &frame[46..]), (&before[..42], &before[46..]));
        let field = u32::from_le_bytes(frame[42..46].try_into().unwrap());
        let zeroed = [&frame[34..42], &[0; 4], &frame[46..]].concat();
        assert_eq!(field, crc32c(&zeroed));
        let mut runt = vec![1; 45];
        assert!(!finish(&mut runt, 34) && !finish(&mut runt, 90));
        assert_eq!(runt, [1; 45]);
    }
}
