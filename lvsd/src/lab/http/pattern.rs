//! The bytes that bodies are made of: the same for everybody, different at every place.
//!
//! The stream repeats a block whose length has no factor in common with segment sizes or powers of
//! two, so a segment that is lost, doubled or moved shows as wrong bytes.

use std::io::{self, Read, Write};
use std::sync::LazyLock;

/// 251 x 4099 bytes.
const BLOCK: usize = 1_028_849;

static BLOCK_BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x6c76_735f_6c61_6221_u64;
    let word = |_| {
        // splitmix64 (Steele, Lea, Flood 2014): every word differs from its neighbours.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..BLOCK.div_ceil(8)).flat_map(word).collect();
    bytes.truncate(BLOCK);
    bytes
});

/// Writes the first `len` bytes of the stream.
pub(crate) fn write(to: &mut impl Write, len: u64) -> io::Result<()> {
    let mut left = len;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        to.write_all(&BLOCK_BYTES[..piece])?;
        left -= piece as u64;
    }
    Ok(())
}

/// Reads `len` bytes and says whether they are the first of the stream, all of them right.
pub(crate) fn read_and_compare(from: &mut impl Read, len: u64) -> io::Result<bool> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut done, mut right) = (0, true);
    while done < len {
        let piece = usize::try_from(len - done).unwrap_or(usize::MAX).min(buffer.len());
        let got = from.read(&mut buffer[..piece])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        right &= matches_at(done, &buffer[..got]);
        done += got as u64;
    }
    Ok(right)
}

/// Whether these are the bytes of the stream from there on.
pub(super) fn matches_at(offset: u64, mut bytes: &[u8]) -> bool {
    let mut place = usize::try_from(offset % BLOCK as u64).unwrap_or(0);
    while !bytes.is_empty() {
        let piece = bytes.len().min(BLOCK - place);
        let (now, rest) = bytes.split_at(piece);
        if *now != BLOCK_BYTES[place..place + piece] {
            return false;
        }
        (bytes, place) = (rest, 0);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, len as u64).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_compares_right_at_every_length_around_the_block() {
        for len in [0, 1, 1447, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 77] {
            let bytes = stream(len);
            assert_eq!(bytes.len(), len);
            assert!(read_and_compare(&mut bytes.as_slice(), len as u64).unwrap());
        }
    }

    #[test]
    fn one_wrong_bit_a_swap_of_segments_and_a_short_body_show() {
        let good = stream(3 * BLOCK);
        for place in [0, 1448, BLOCK - 1, BLOCK, 3 * BLOCK - 1] {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            assert!(!read_and_compare(&mut bad.as_slice(), bad.len() as u64).unwrap());
        }
        for segment in [1, 1448, 4096, 65_536] {
            let mut bad = good.clone();
            bad[..2 * segment].rotate_left(segment);
            assert!(!read_and_compare(&mut bad.as_slice(), bad.len() as u64).unwrap());
        }
        assert!(read_and_compare(&mut &good[1..], good.len() as u64).is_err());
    }
}
