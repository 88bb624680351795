//! Histogram of whole numbers whose size does not depend on how many are counted.

use super::Distribution;

/// Number of buckets for every doubling of the value.
const PER_OCTAVE: u64 = 128;

/// Counts of whole numbers: one bucket for each value below 256, and 128 buckets for every doubling
/// above. A bucket is at most 1/128 of its values wide, so its middle is within 0.4 % of them.
///
/// Grows with the largest value only: lengths up to 1,000,000 tokens take 14 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

fn bucket(value: u64) -> usize {
    let octave = u64::from((u64::BITS - value.leading_zeros()).saturating_sub(8));
    (octave * PER_OCTAVE + (value >> octave)) as usize
}

/// Returns the smallest value of a bucket, and how many values it has.
fn values(bucket: usize) -> (u64, u64) {
    let bucket = bucket as u64;
    let octave = (bucket / PER_OCTAVE).saturating_sub(1);
    ((bucket - octave * PER_OCTAVE) << octave, 1 << octave)
}

impl Histogram {
    pub(crate) fn add(&mut self, value: u64) {
        let bucket = bucket(value);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (own, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += more;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// Returns the smallest value that a share of the values does not exceed; 0 if there are none.
    pub(crate) fn percentile(&self, share: f64) -> u64 {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut below = 0;
        let reached = self.buckets.iter().position(|count| {
            below += count;
            below >= rank
        });
        reached.map_or(0, |bucket| {
            let (first, width) = values(bucket);
            (first + (width - 1) / 2).min(self.max)
        })
    }

    /// Returns mean, percentiles and maximum; `None` if there are no values.
    pub(crate) fn distribution(&self) -> Option<Distribution> {
        Some(Distribution {
            mean: self.mean()?,
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            max: self.max,
        })
    }

    /// Returns the middle of every bucket that is not empty, and its count.
    pub(crate) fn middles(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counted = self.buckets.iter().enumerate();
        counted
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| {
                let (first, width) = values(bucket);
                (first + (width - 1) / 2, *count)
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn percentiles_are_as_close_as_stated(
            mut all in prop::collection::vec((0_u32..40).prop_flat_map(|bits| 0..=(1_u64 << bits)), 1..300),
            share in 0.0_f64..1.0,
        ) {
            let mut whole = Histogram::default();
            let mut parts = [Histogram::default(), Histogram::default()];
            for (at, value) in all.iter().enumerate() {
                whole.add(*value);
                parts[at % 2].add(*value);
            }
            let [mut merged, other] = parts;
            merged.merge(&other);
            prop_assert_eq!(&merged, &whole);
            all.sort_unstable();
            let rank = ((share * all.len() as f64).ceil() as usize).max(1);
            let (exact, found) = (all[rank - 1], whole.percentile(share));
            if exact < 256 {
                prop_assert_eq!(found, exact);
            } else {
                prop_assert!(found.abs_diff(exact) as f64 <= 0.004 * exact as f64, "{found} for {exact}");
            }
            let mean = all.iter().sum::<u64>() as f64 / all.len() as f64;
            prop_assert!((whole.mean().unwrap() - mean).abs() <= 1e-9 * mean.max(1.0));
            prop_assert_eq!(whole.max(), all[all.len() - 1]);
            prop_assert_eq!(whole.middles().map(|(_, count)| count).sum::<u64>(), whole.count());
        }
    }

    #[test]
    fn every_value_is_in_the_bucket_that_claims_it() {
        for value in (0..100_000).chain([u64::from(u32::MAX), u64::MAX]) {
            let (first, width) = values(bucket(value));
            assert!(first <= value && value - first < width, "{value}");
        }
        let mut largest = Histogram::default();
        largest.add(1_000_000);
        assert!(largest.buckets.len() * 8 <= 14 << 10);
    }
}
