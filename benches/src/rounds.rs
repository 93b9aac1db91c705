//! Comparing two or more ways of doing one thing in one run.
//!
//! Rounds go forward and back through the modes (A-B-B-A), so that a drift of the machine meets all
//! of them alike. In front of each pass that counts the same mode has one that does not: whoever follows a
//! mode that has filled caches and translations with its own memory would otherwise pay for that mode.

/// The figures of one mode: nanoseconds a packet, one for each round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(pub Vec<f64>);

impl Figures {
    /// The middle one; `NaN` without any.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.0)
    }

    /// The smallest; `NaN` without any.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Runs `rounds` rounds over modes `0..modes`, forward and back; `measure` gives the figure of one mode, and is
/// called twice for each one that is taken.
pub fn alternate(
    modes: usize,
    rounds: usize,
    mut measure: impl FnMut(usize) -> f64,
) -> Vec<Figures> {
    let mut figures = vec![Figures::default(); modes];
    for round in 0..rounds {
        for step in 0..modes {
            let mode = if round % 2 == 0 { step } else { modes - 1 - step };
            measure(mode);
            figures[mode].0.push(measure(mode));
        }
    }
    figures
}

/// How much more `b` does in the same time than `a`: the median of `a / b` over neighbouring pairs
/// of rounds, in each of which both stand once in front.
#[must_use]
pub fn throughput(a: &Figures, b: &Figures) -> f64 {
    let sums =
        |of: &Figures| of.0.chunks(2).map(|pair| pair.iter().sum::<f64>()).collect::<Vec<_>>();
    let ratios: Vec<f64> = sums(a).iter().zip(sums(b)).map(|(a, b)| a / b).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_go_forward_and_back_with_a_warm_pass_before_each() {
        let mut order = Vec::new();
        let figures = alternate(2, 3, |mode| {
            order.push(mode);
            order.len() as f64
        });
        assert_eq!(order, [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1]);
        assert_eq!(figures[0], Figures(vec![2.0, 8.0, 10.0]));
        assert_eq!((figures[0].median(), figures[0].min()), (8.0, 2.0));
    }

    #[test]
    fn a_steady_drift_does_not_change_the_ratio() {
        let mut drift = 1.0;
        let figures = alternate(2, 40, |mode| {
            drift *= 1.01;
            drift * if mode == 0 { 1.0 } else { 2.0 }
        });
        assert!((throughput(&figures[0], &figures[1]) - 0.5).abs() < 0.001);
    }
}
