use serde::{Deserialize, Serialize};

use super::Objective;
use crate::{
    candidate::{Candidate, Features},
    error::Result,
};

/// Concave over groups: `f(S) = Σ_g a_g √(Σ_{i ∈ S, i in g} w_i)`, the default objective.
///
/// A candidate is in three bins: of its prompt, its outcome and its length. The square root makes
/// the second candidate of a bin worth less than the first, so a set is spread over prompts,
/// outcomes and lengths, as far as the weights allow. A gain looks at three sums; there are no
/// vectors to compute or store.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ConcaveOverGroups {
    /// Factor of bins of prompts.
    pub prompt: f64,
    /// Factor of bins of outcomes.
    pub outcome: f64,
    /// Factor of bins of lengths.
    pub length: f64,
}

impl Default for ConcaveOverGroups {
    fn default() -> Self {
        Self {
            prompt: 1.0,
            outcome: 1.0,
            length: 1.0,
        }
    }
}

/// Bins of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bins {
    /// Bin of the prompt.
    pub prompt: u64,
    /// Bin of the outcome.
    pub outcome: u64,
    /// Bin of the length.
    pub length: u64,
}

/// Sum of the weights of each bin that has a member; sorted by bin.
type Sums = Vec<(u64, f64)>;

impl ConcaveOverGroups {
    fn each(&self, bins: &Bins) -> [(f64, u64); 3] {
        [
            (self.prompt, bins.prompt),
            (self.outcome, bins.outcome),
            (self.length, bins.length),
        ]
    }
}

impl Objective for ConcaveOverGroups {
    type Features = Bins;
    /// Sums of the bins of prompts, outcomes and lengths.
    type Chosen = [Sums; 3];

    fn features(&self, candidate: &Candidate) -> Result<(Bins, f64)> {
        let features = Features::of(candidate)?;
        let bins = Bins {
            prompt: features.prompt,
            outcome: features.outcome,
            length: features.length,
        };
        Ok((bins, features.weight))
    }

    fn gain(&self, chosen: &[Sums; 3], bins: &Bins, weight: f64) -> f64 {
        if weight <= 0.0 {
            return 0.0;
        }
        let gains = self.each(bins).into_iter().zip(chosen);
        gains
            .map(|((factor, bin), sums)| {
                let place = sums.binary_search_by_key(&bin, |(bin, _)| *bin);
                let sum = place.map_or(0.0, |place| sums[place].1);
                // √(s + w) − √s without its cancellation, which would break diminishing returns.
                factor * (weight / ((sum + weight).sqrt() + sum.sqrt()))
            })
            .sum()
    }

    fn add(&self, chosen: &mut [Sums; 3], bins: &Bins, weight: f64) {
        for ((_, bin), sums) in self.each(bins).into_iter().zip(chosen) {
            match sums.binary_search_by_key(&bin, |(bin, _)| *bin) {
                Ok(place) => sums[place].1 += weight,
                Err(place) => sums.insert(place, (bin, weight)),
            }
        }
    }
}
