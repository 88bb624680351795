//! Candidates of the benchmark. Each is a function of the seed and its number, so that none is stored.

use std::collections::BTreeSet;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};
use serde::Serialize;
use vintage_control::PolicyVersion;
use vintage_curate::{Candidate, CandidateId, ConcaveOverGroups, Objective, WeightedCoverage};

use crate::error::Result;

/// Number of rows of a group.
const GROUP: u32 = 8;

/// Number of groups that are trained between two versions.
const GROUPS_OF_UPDATE: u64 = 16;

/// Number of features that there are to cover.
const UNIVERSE: f64 = 4096.0;

/// Objective with its candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Groups of 8 rollouts under the default objective: each prompt comes about eight times in a
    /// window and has a difficulty of its own.
    Groups,
    /// Sets of 4 to 19 features, some of them much more common than others, under weighted coverage.
    Coverage,
}

/// Stream of candidates.
pub(super) trait Stream {
    type Objective: Objective;

    fn objective(&self) -> Self::Objective;

    /// Returns version, weight and features of a candidate.
    fn candidate(&self, number: u64) -> Result<Of<Self::Objective>>;
}

type Of<O> = (PolicyVersion, f64, <O as Objective>::Features);

pub(super) fn id(number: u64) -> CandidateId {
    CandidateId(u128::from(number).to_be_bytes())
}

/// Draws for one number.
struct Draw(ChaCha8Rng);

impl Draw {
    fn new(seed: u64, purpose: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ (purpose << 56));
        rng.set_stream(number);
        Self(rng)
    }

    /// Draws from [0, 1).
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Groups of rollouts.
pub(super) struct Groups {
    seed: u64,
    prompts: f64,
}

impl Groups {
    pub(super) fn new(seed: u64, rows: usize) -> Self {
        Self {
            seed,
            prompts: (rows as f64 / 8.0).max(16.0),
        }
    }

    fn group(&self, number: u64) -> Candidate {
        let mut draw = Draw::new(self.seed, 1, number);
        let prompt = (draw.unit() * self.prompts) as u64;
        let solved = Draw::new(self.seed, 2, prompt).unit();
        let right = (0..GROUP).filter(|_| draw.unit() < solved).count();
        let correct = right as f64 / f64::from(GROUP);
        // Harder prompts have longer answers, from 32 to 1024 tokens.
        let mean_length = 32.0 * (1.0 + 31.0 * draw.unit() * (1.0 - solved));
        Candidate {
            id: id(number),
            prompt: prompt.to_string(),
            version: PolicyVersion(number / GROUPS_OF_UPDATE),
            mean_reward: correct,
            correct,
            mean_length,
            // Mean magnitude of the advantages (r − mean) / deviation of rewards 0 and 1.
            spread: 2.0 * (correct * (1.0 - correct)).sqrt(),
            sketch: Vec::new(),
        }
    }
}

impl Stream for Groups {
    type Objective = ConcaveOverGroups;

    fn objective(&self) -> ConcaveOverGroups {
        ConcaveOverGroups::default()
    }

    fn candidate(&self, number: u64) -> Result<Of<ConcaveOverGroups>> {
        let group = self.group(number);
        let (features, weight) = self.objective().features(&group)?;
        Ok((group.version, weight, features))
    }
}

/// Sets of features.
pub(super) struct Coverage {
    seed: u64,
}

impl Coverage {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl Stream for Coverage {
    type Objective = WeightedCoverage;

    fn objective(&self) -> WeightedCoverage {
        WeightedCoverage
    }

    fn candidate(&self, number: u64) -> Result<Of<WeightedCoverage>> {
        let mut draw = Draw::new(self.seed, 3, number);
        let count = 4 + (draw.unit() * 16.0) as usize;
        let features: BTreeSet<u64> = (0..count)
            .map(|_| (draw.unit().powi(3) * UNIVERSE) as u64)
            .collect();
        let version = PolicyVersion(number / GROUPS_OF_UPDATE);
        Ok((version, 1.0, features.into_iter().collect()))
    }
}
