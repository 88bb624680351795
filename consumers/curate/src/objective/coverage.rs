use serde::{Deserialize, Serialize};

use super::Objective;
use crate::{
    candidate::{Candidate, Features, hash},
    error::Result,
};

/// Weighted coverage of hashed features: `f(S) = Σ_u max_{i ∈ S, u ∈ i} w_i`.
///
/// A feature is worth the largest weight of the chosen candidates that have it. With equal weights
/// this counts the features that are covered. Nothing is gained by a second candidate whose features
/// are covered already, which makes sets as different as possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WeightedCoverage;

impl Objective for WeightedCoverage {
    /// Hashes of the features, each once.
    type Features = Vec<u64>;
    /// Worth of each covered feature; sorted by feature.
    type Chosen = Vec<(u64, f64)>;

    /// Returns the prompt alone and with outcome, with length, and with both, as hashes.
    fn features(&self, candidate: &Candidate) -> Result<(Vec<u64>, f64)> {
        let features = Features::of(candidate)?;
        let Features {
            prompt,
            outcome,
            length,
            weight,
        } = features;
        let joined = |parts: &[u64]| {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
            hash(&bytes)
        };
        let mut hashes = vec![
            joined(&[0, prompt]),
            joined(&[1, prompt, outcome]),
            joined(&[2, prompt, length]),
            joined(&[3, outcome, length]),
        ];
        hashes.sort_unstable();
        hashes.dedup();
        Ok((hashes, weight))
    }

    fn gain(&self, chosen: &Self::Chosen, features: &Vec<u64>, weight: f64) -> f64 {
        let gains = features.iter().map(|feature| {
            let place = chosen.binary_search_by_key(feature, |(feature, _)| *feature);
            let worth = place.map_or(0.0, |place| chosen[place].1);
            (weight - worth).max(0.0)
        });
        gains.sum()
    }

    fn add(&self, chosen: &mut Self::Chosen, features: &Vec<u64>, weight: f64) {
        for feature in features {
            match chosen.binary_search_by_key(feature, |(feature, _)| *feature) {
                Ok(place) => chosen[place].1 = chosen[place].1.max(weight),
                Err(place) => chosen.insert(place, (*feature, weight)),
            }
        }
    }
}
