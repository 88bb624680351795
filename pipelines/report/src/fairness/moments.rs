//! Count, mean and variance of numbers, without keeping them.

/// Sums from which mean and variance follow (Welford's method, which loses no digits to large
/// means).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
    min: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            count: 0,
            mean: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
        }
    }
}

impl Moments {
    /// Adds a value; one that is not finite is left out.
    pub(crate) fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.merge(&Self {
                count: 1,
                mean: value,
                squares: 0.0,
                min: value,
            });
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        if other.count == 0 {
            return;
        }
        let (own, more) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        self.mean += apart * more / count as f64;
        self.squares += other.squares + apart * apart * own * more / count as f64;
        self.count = count;
        self.min = self.min.min(other.min);
    }

    pub(crate) fn merged(mut self, other: &Self) -> Self {
        self.merge(other);
        self
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the mean; `None` if there are no values.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// Returns the unbiased variance; `None` if there are fewer than two values.
    pub(crate) fn variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.squares / (self.count - 1) as f64)
    }

    /// Returns true if a value is negative.
    pub(crate) fn has_negative(&self) -> bool {
        self.min < 0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_merge_to_the_whole(all in prop::collection::vec(-1e6_f64..1e6, 2..100), cut in 0_usize..100) {
            let of = |values: &[f64]| {
                let mut moments = Moments::default();
                for value in values {
                    moments.add(*value);
                }
                moments
            };
            let (before, after) = all.split_at(cut.min(all.len()));
            let merged = of(before).merged(&of(after));
            let n = all.len() as f64;
            let mean = all.iter().sum::<f64>() / n;
            let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
            prop_assert_eq!(merged.count(), all.len() as u64);
            prop_assert!((merged.mean().unwrap() - mean).abs() < 1e-6);
            prop_assert!((merged.variance().unwrap() - variance).abs() <= 1e-9 * variance.max(1.0));
            prop_assert_eq!(merged.has_negative(), all.iter().any(|x| *x < 0.0));
        }
    }

    #[test]
    fn a_value_that_is_no_number_is_left_out() {
        let mut moments = Moments::default();
        assert_eq!((moments.mean(), moments.variance()), (None, None));
        for value in [1.0, f64::NAN, 3.0, f64::INFINITY] {
            moments.add(value);
        }
        assert_eq!((moments.count(), moments.mean()), (2, Some(2.0)));
    }
}
