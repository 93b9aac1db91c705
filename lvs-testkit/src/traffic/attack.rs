//! Keys chosen by somebody who knows the code but not the secret.

use super::{Ends, Network};
use lvs_core::flow::L4Proto;

/// The words that a table may hash for an IPv4 tuple: addresses, then ports and protocol.
#[must_use]
pub const fn hash_words_v4(ends: &Ends<u32>) -> [u64; 2] {
    let addresses = ((ends.src.0 as u64) << 32) | ends.dst.0 as u64;
    let ports = ((ends.src.1 as u64) << 32) | ((ends.dst.1 as u64) << 16);
    [addresses, ports | L4Proto::Tcp.number() as u64]
}

/// `count` clients whose inbound tuples, under the `hash` that the attacker believes in, all have their
/// upper 32 bits within one part in `parts`: for a table without a secret of its own they fall on the
/// same few places. With a secret they must be as good as any. From client `first` on.
pub fn chosen_v4(
    net: &Network<u32>,
    first: u64,
    count: usize,
    parts: u64,
    hash: impl Fn(&[u64; 2]) -> u64,
) -> Vec<u64> {
    let here = |number: &u64| {
        let words = hash_words_v4(&Ends { src: net.client(*number), dst: net.service });
        ((hash(&words) >> 32) * parts) >> 32 == 0
    };
    (first..).filter(here).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::siphash::SipHash13;

    #[test]
    fn chosen_keys_collide_under_the_believed_key_and_under_no_other() {
        let net = Network::<u32>::example();
        let believed = SipHash13::new(&[0, 0]);
        let chosen = chosen_v4(&net, 1 << 32, 200, 100, |words| believed.words(words));
        let hits = |hash: SipHash13| {
            let word = |n: &u64| hash_words_v4(&Ends { src: net.client(*n), dst: net.service });
            let home = |n: &&u64| ((hash.words(&word(n)) >> 32) * 100) >> 32 == 0;
            chosen.iter().filter(home).count()
        };
        assert_eq!((chosen.len(), hits(believed)), (200, 200));
        assert!(hits(SipHash13::new(&[1, 2])) < 20);
    }
}
