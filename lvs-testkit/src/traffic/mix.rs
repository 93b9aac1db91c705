//! Frame lengths.

use super::Rng;

/// Frame lengths and how often each comes, in twelfths: seven small, four middle, one full, the usual
/// simple IMIX, here from the Ethernet header on and without the check sequence.
pub const IMIX: Mix = Mix(&[(60, 7), (590, 4), (1514, 1)]);

/// Lengths of frames with their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix(pub &'static [(usize, usize)]);

impl Mix {
    /// All frames of one length.
    pub const SMALL: Self = Self(&[(60, 1)]);
    /// Full frames.
    pub const FULL: Self = Self(&[(1514, 1)]);

    /// Length of the next frame; 60 for an empty mix.
    #[must_use]
    pub fn draw(&self, rng: &mut Rng) -> usize {
        let total: usize = self.0.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.below(total);
        for (len, weight) in self.0 {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *len,
            }
        }
        60
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_as_often_as_the_mix_says() {
        let mut rng = Rng::new(3);
        let lens: Vec<usize> = (0..12_000).map(|_| IMIX.draw(&mut rng)).collect();
        for (len, weight) in IMIX.0 {
            let count = lens.iter().filter(|seen| *seen == len).count();
            assert!(count.abs_diff(weight * 1000) < 200, "{count} of {len}");
        }
        assert_eq!(Mix::FULL.draw(&mut rng), 1514);
    }
}
