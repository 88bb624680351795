//! Difference between the rollouts produced and those trained, and when it is reported.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::moments::Moments;

/// Range of [`Bias::ratio`] that is not reported.
pub(crate) const RATIO: RangeInclusive<f64> = 0.95..=1.05;
/// Largest size of [`Bias::effect`] that is not reported, where there is no ratio.
pub(crate) const EFFECT: f64 = 0.1;
/// Smallest size of [`Bias::z`] that is reported. A normal variable exceeds it by chance once in
/// 16,000 times; with only [`GROUPS`] groups on a side, once in some thousands.
pub(crate) const Z: f64 = 4.0;
/// Number of groups on either side from which the mean is taken as normal.
pub(crate) const GROUPS: u64 = 30;

/// Limit of the size of [`Bias::z`], which would be infinite where neither side varies.
const MOST_Z: f64 = 1e6;

/// Difference between the mean of the rollouts trained and that of all rollouts produced.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bias {
    /// Mean of the trained over mean of the produced; 1 = no bias. `None` if either is missing, if
    /// a produced value is negative, or if the mean of the produced is 0.
    pub ratio: Option<f64>,
    /// Mean of the trained less mean of the produced, in standard deviations of the means of the
    /// produced groups. `None` if either mean is missing or the groups do not vary.
    pub effect: Option<f64>,
    /// Welch's statistic: mean over the trained groups less mean over the produced groups that did
    /// not train, in standard errors of that difference. The two samples share no group, and the
    /// unit is the group's mean, because completions of one prompt resemble each other. `None` with
    /// fewer than 30 groups on either side.
    pub z: Option<f64>,
    /// True if the difference is large (`ratio` outside 0.95 to 1.05; without a ratio, `effect`
    /// beyond ±0.1) and is not chance (`z` of 4 or more in size).
    pub biased: bool,
}

impl Bias {
    /// Compares the values of rollouts (`produced`, `trained`), and the means of trained groups with
    /// those of the `other` groups produced.
    pub(crate) fn between(
        (produced, trained): (Option<f64>, Option<f64>),
        trained_groups: &Moments,
        other_groups: &Moments,
    ) -> Self {
        let groups = trained_groups.merged(other_groups);
        let both = trained.zip(produced);
        let ratio = both
            .filter(|(_, produced)| *produced > 0.0 && !groups.has_negative())
            .map(|(trained, produced)| trained / produced);
        let deviation = groups.variance().map(f64::sqrt);
        let effect = both
            .zip(deviation.filter(|deviation| *deviation > 0.0))
            .map(|((trained, produced), deviation)| (trained - produced) / deviation);
        let z = z(trained_groups, other_groups);
        let large = match (ratio, effect) {
            (Some(ratio), _) => !RATIO.contains(&ratio),
            (None, effect) => effect.is_some_and(|effect| effect.abs() > EFFECT),
        };
        Self {
            ratio,
            effect,
            z,
            biased: large && z.is_some_and(|z| z.abs() >= Z),
        }
    }
}

fn z(trained: &Moments, other: &Moments) -> Option<f64> {
    if trained.count().min(other.count()) < GROUPS {
        return None;
    }
    let apart = trained.mean()? - other.mean()?;
    let of_mean = |side: &Moments| Some(side.variance()? / side.count() as f64);
    let error = (of_mean(trained)? + of_mean(other)?).sqrt();
    if apart == 0.0 {
        return Some(0.0);
    }
    Some((apart / error).clamp(-MOST_Z, MOST_Z))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: impl IntoIterator<Item = f64>) -> Moments {
        let mut moments = Moments::default();
        values.into_iter().for_each(|value| moments.add(value));
        moments
    }

    fn bias(trained: &[f64], other: &[f64]) -> Bias {
        let (of_trained, of_other) = (
            moments(trained.iter().copied()),
            moments(other.iter().copied()),
        );
        let produced = of_trained.merged(&of_other).mean();
        Bias::between((produced, of_trained.mean()), &of_trained, &of_other)
    }

    fn around(middle: f64, spread: f64, count: usize) -> Vec<f64> {
        let at = |i: usize| middle + spread * ((i % 11) as f64 / 5.0 - 1.0);
        (0..count).map(at).collect()
    }

    #[test]
    fn short_answers_first_are_reported() {
        let found = bias(&around(100.0, 30.0, 400), &around(200.0, 30.0, 200));
        assert!(found.biased && found.ratio.unwrap() < 0.8, "{found:?}");
        assert!(found.z.unwrap() < -4.0 && found.effect.unwrap() < -0.1);
    }

    #[test]
    fn a_difference_needs_size_and_evidence() {
        // Large, but 29 groups say little.
        let few = bias(&around(100.0, 30.0, 400), &around(2000.0, 30.0, 29));
        assert!(!few.biased && few.z.is_none(), "{few:?}");
        // Certain, and too small to matter.
        let small = bias(&around(100.0, 1.0, 10_000), &around(101.0, 1.0, 10_000));
        assert!(!small.biased && small.z.unwrap() < -4.0, "{small:?}");
        // Large, and chance.
        let noise = bias(&around(1000.0, 900.0, 40), &around(1250.0, 900.0, 40));
        assert!(
            !noise.biased && !RATIO.contains(&noise.ratio.unwrap()),
            "{noise:?}"
        );
    }

    #[test]
    fn rewards_below_zero_are_compared_by_their_spread() {
        let found = bias(&around(0.3, 1.0, 300), &around(-0.3, 1.0, 300));
        assert!(found.ratio.is_none() && found.biased, "{found:?}");
        let equal = bias(&around(0.0, 1.0, 330), &around(0.0, 1.0, 330));
        assert!(!equal.biased, "{equal:?}");
    }

    #[test]
    fn sides_that_do_not_vary_are_compared() {
        let found = bias(&[2.0; 30], &[6.0; 30]);
        assert_eq!((found.z, found.biased), (Some(-1e6), true));
        let equal = bias(&[2.0; 30], &[2.0; 30]);
        assert_eq!(
            (equal.ratio, equal.z, equal.biased),
            (Some(1.0), Some(0.0), false)
        );
        let nothing = bias(&[], &[]);
        assert_eq!(
            (nothing.ratio, nothing.z, nothing.biased),
            (None, None, false)
        );
    }
}
