//! Shares and means over seeds, with 95 % intervals.

use serde::Serialize;

use crate::draw::{Draw, Purpose};

/// Standard errors on either side that hold a normal mean with a probability of 95 %.
const Z: f64 = 1.959_964;
/// Resamples of a bootstrap: the ends of a 95 % interval are the 50th values from either side.
const RESAMPLES: usize = 2000;

/// Number with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Estimated number.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Mean over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// 95 % interval of a bootstrap over seeds; `None` for a single one.
    pub interval: Option<(f64, f64)>,
}

impl Spread {
    /// Computes mean and interval; `None` of no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let found = mean(values);
        Some(Self {
            mean: found.mean,
            interval: (values.len() > 1).then_some((found.low, found.high)),
        })
    }
}

/// Returns the share of `hits` in `trials` with Wilson's interval, which has a width at 0 % and 100 %, too.
pub fn share(hits: usize, trials: usize) -> Estimate {
    if trials == 0 {
        return Estimate {
            mean: 0.0,
            low: 0.0,
            high: 1.0,
        };
    }
    let (n, p) = (trials as f64, hits as f64 / trials as f64);
    let scale = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    Estimate {
        mean: p,
        low: (centre - half).clamp(0.0, p),
        high: (centre + half).clamp(p, 1.0),
    }
}

/// Returns the mean of values with the percentile interval of a bootstrap, which is a function of the values
/// alone. Differences of methods on the same seeds are paired by passing their differences.
pub fn mean(values: &[f64]) -> Estimate {
    let count = values.len();
    let of = |sum: f64| sum / count.max(1) as f64;
    let mean = of(values.iter().sum());
    let mut draw = Draw::new(count as u64, Purpose::Bootstrap);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| of((0..count).map(|_| values[draw.below(count)]).sum()))
        .collect();
    means.sort_by(f64::total_cmp);
    let end = RESAMPLES / 40;
    Estimate {
        mean,
        low: means[end - 1],
        high: means[RESAMPLES - end],
    }
}

#[cfg(test)]
mod tests {
    use super::{mean, share};

    #[test]
    fn wilsons_intervals_are_those_of_the_textbook() {
        // 8 of 10: 49.0 % to 94.3 %; 0 of 20: 0 to 16.1 %.
        let found = share(8, 10);
        assert!((found.low - 0.4902).abs() < 1e-4 && (found.high - 0.9433).abs() < 1e-4);
        let none = share(0, 20);
        assert!((none.low, none.mean) == (0.0, 0.0) && (none.high - 0.1611).abs() < 1e-4);
        let all = share(20, 20);
        assert!((all.low - 0.8389).abs() < 1e-4 && all.high == 1.0);
        assert!((share(0, 0).low, share(0, 0).high) == (0.0, 1.0));
    }

    #[test]
    fn a_bootstrap_is_as_wide_as_the_standard_error_says() {
        // 50 zeros and 50 ones: the standard error is 0.05.
        let values: Vec<f64> = (0..100).map(|at| f64::from(at % 2)).collect();
        let found = mean(&values);
        assert!((found.mean - 0.5).abs() < 1e-12);
        assert!(
            (found.high - found.low - 2.0 * 1.96 * 0.05).abs() < 0.03,
            "{found:?}"
        );
        assert_eq!(found, mean(&values));
    }

    #[test]
    fn values_that_agree_have_no_width_and_none_gives_zero() {
        let same = mean(&[0.25; 7]);
        assert!((same.low, same.mean, same.high) == (0.25, 0.25, 0.25));
        assert!(mean(&[]).mean == 0.0);
    }
}
