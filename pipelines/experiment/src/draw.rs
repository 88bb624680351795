//! Random numbers: one generator for each purpose of a seed, so that methods which are compared meet the
//! same archive whatever else they draw.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Purpose of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// World: the code, the decoders.
    World = 0,
    /// Rows of the archive.
    Archive = 1,
    /// Rewards and observations of live episodes.
    Live = 2,
    /// Choices among equals.
    Ties = 3,
    /// Resamples of a bootstrap.
    Bootstrap = 4,
}

/// Source of random numbers; the same seed and purpose give the same.
#[derive(Debug, Clone)]
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    pub(crate) fn new(seed: u64, purpose: Purpose) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(purpose as u64);
        Self(generator)
    }

    /// Draws from 0 to `count` - 1; 0 if `count` is 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        self.0.random_range(0..count)
    }

    /// Draws true with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    /// Draws one of the indices whose score is within [`ALIKE`] of the lowest; 0 if there is none.
    pub(crate) fn lowest(&mut self, scores: &(impl Iterator<Item = f64> + Clone)) -> usize {
        let least = scores.clone().fold(f64::INFINITY, f64::min);
        let alike = || {
            let scores = scores.clone().enumerate();
            scores.filter(|(_, score)| *score <= least + ALIKE)
        };
        let drawn = self.below(alike().count());
        alike().nth(drawn).map_or(0, |(at, _)| at)
    }
}

/// Difference up to which two scores count as equal: far above the rounding of a sum of 1e3 terms near 1, far
/// below the least difference that one episode makes (1e-6 of 1e3 episodes).
pub(crate) const ALIKE: f64 = 1e-10;

#[cfg(test)]
mod tests {
    use super::{Draw, Purpose};

    #[test]
    fn equals_are_drawn_alike_and_others_never() {
        let mut draw = Draw::new(1, Purpose::Ties);
        let scores = [0.3, 0.1, 0.2, 0.1 + 1e-15];
        let mut drawn = [0; 4];
        for _ in 0..1000 {
            drawn[draw.lowest(&scores.iter().copied())] += 1;
        }
        assert_eq!((drawn[0], drawn[2]), (0, 0));
        assert!(drawn[1] > 420 && drawn[3] > 420, "{drawn:?}");
    }

    #[test]
    fn purposes_of_a_seed_are_unlike_and_the_same_each_time() {
        let of = |purpose| {
            let mut draw = Draw::new(7, purpose);
            [0; 8].map(|_: i32| draw.below(1000))
        };
        assert_eq!(of(Purpose::Live), of(Purpose::Live));
        assert_ne!(of(Purpose::Live), of(Purpose::Archive));
    }
}
