//! The keyed hash agrees with an independent implementation.

use core::hash::Hasher;
use lvs_core::siphash::SipHash13;
use proptest::prelude::*;
use siphasher::sip::SipHasher13;

fn theirs(key: &[u64; 2], bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
    hasher.write(bytes);
    hasher.finish()
}

#[test]
fn every_length_up_to_two_blocks_and_the_length_wrap_hash_alike() {
    let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
    let bytes: Vec<u8> = (0..=255u8).cycle().take(600).collect();
    for len in (0..64).chain([255, 256, 257, 511, 512, 600]) {
        let input = &bytes[..len];
        assert_eq!(SipHash13::new(&key).bytes(input), theirs(&key, input), "length {len}");
    }
}

#[test]
fn a_debug_print_does_not_show_the_key() {
    assert_eq!(format!("{:?}", SipHash13::new(&[0xdead, 0xbeef])), "SipHash13");
}

proptest! {
    #[test]
    fn any_key_and_bytes_hash_as_in_the_other_implementation(
        key: [u64; 2], input in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        prop_assert_eq!(SipHash13::new(&key).bytes(&input), theirs(&key, &input));
    }

    #[test]
    fn words_hash_as_their_little_endian_bytes(key: [u64; 2], one: [u64; 1], five: [u64; 5]) {
        let hash = SipHash13::new(&key);
        let bytes = |w: &[u64]| w.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        prop_assert_eq!(hash.words(&one), theirs(&key, &bytes(&one)));
        prop_assert_eq!(hash.words(&five), theirs(&key, &bytes(&five)));
    }
}
