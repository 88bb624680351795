//! Objectives: what a chosen set is worth.

mod coverage;
mod facility;
mod groups;

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    coverage::WeightedCoverage,
    facility::FacilityLocation,
    groups::{Bins, ConcaveOverGroups},
};
use crate::{candidate::Candidate, error::Result};

/// Monotone submodular function over candidates, by the gain of one more candidate.
///
/// * Gains are finite and at least 0 (monotone), and 0 for a weight of 0.
/// * A candidate gains no more by a larger set (diminishing returns), to the bit: lazy greedy
///   compares gains of different rounds. An implementation of sums, square roots, quotients and
///   maxima has this, because each of them is rounded monotonically.
/// * Scaling all weights by one factor changes which set is best for no objective, so that decay
///   with age need not touch candidates that are already there.
pub trait Objective: Clone + Debug + Serialize + DeserializeOwned {
    /// Features of a candidate that the objective looks at.
    type Features: Clone + Debug + PartialEq + Serialize + DeserializeOwned;

    /// Knowledge of a chosen set that gains depend on; the default is that of the empty set.
    type Chosen: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned;

    /// Returns the features of a group and its weight before decay.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for a number out of its range, and
    /// [`Error::Sketch`](crate::Error::Sketch).
    fn features(&self, candidate: &Candidate) -> Result<(Self::Features, f64)>;

    /// Returns how much a candidate of this weight adds to the value of a set.
    fn gain(&self, chosen: &Self::Chosen, features: &Self::Features, weight: f64) -> f64;

    /// Adds a candidate to a set.
    fn add(&self, chosen: &mut Self::Chosen, features: &Self::Features, weight: f64);
}
