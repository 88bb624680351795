//! Random times: heavy tails of sampling, and moments of trouble.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Longest draw of a heavy tail, in means.
const LONGEST: f64 = 100.0;

/// Source of random times; the same seed gives the same.
#[derive(Debug)]
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Draws a duration of this mean from a Pareto distribution of this shape, above 1: the smaller
    /// the shape, the heavier the tail. A shape without end gives the mean.
    pub(super) fn heavy(&mut self, mean: f64, shape: f64) -> f64 {
        if shape.is_infinite() {
            return mean;
        }
        let least = mean * (shape - 1.0) / shape;
        (least * self.unit().powf(-1.0 / shape)).min(LONGEST * mean)
    }

    /// Draws the time to the next of events that come at random, once per `mean` on average.
    pub(super) fn next_event(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// Draws from (0, 1].
    fn unit(&mut self) -> f64 {
        1.0 - self.0.random::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::Draw;

    #[test]
    fn draws_have_their_mean_and_a_heavy_tail_its_tail() {
        let mut draw = Draw::new(1);
        let times: Vec<_> = (0..100_000).map(|_| draw.heavy(2.0, 2.5)).collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        assert!((mean - 2.0).abs() < 0.05, "{mean}");
        // P(X > x) = (least / x)^shape, and least = 1.2.
        let late = times.iter().filter(|time| **time > 12.0).count() as f64 / 1e5;
        assert!((late - 0.1_f64.powf(2.5)).abs() < 6e-4, "{late}");
        let events: f64 = (0..100_000).map(|_| draw.next_event(3.0)).sum::<f64>() / 1e5;
        assert!((events - 3.0).abs() < 0.05, "{events}");
        assert_eq!(draw.heavy(2.0, f64::INFINITY).to_bits(), 2.0_f64.to_bits());
    }
}
