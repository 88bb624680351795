use serde::{Deserialize, Serialize};

use crate::problems::{Problems, positive};

/// Section `[learner.mismatch]`: checks of the log-probs that engines report. Some rollouts of each
/// engine are recomputed under the version that sampled them, on the CPU and beside training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MismatchConfig {
    /// Number of updates between checks of an engine; 0 = no checks.
    pub every: u64,
    /// Maximum number of rollouts of a check, all of one group.
    pub rows: usize,
    /// Largest mean difference that is accepted, in nats a token. An engine beyond it is refused:
    /// its groups are rejected as `logprob_mismatch`.
    pub tolerance: f64,
}

impl Default for MismatchConfig {
    fn default() -> Self {
        Self {
            every: 16,
            rows: 8,
            tolerance: 0.1,
        }
    }
}

impl MismatchConfig {
    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(
            self.rows > 0,
            "learner.mismatch.rows",
            "must be at least 1; learner.mismatch.every = 0 turns the checks off",
        );
        problems.require(
            positive(self.tolerance),
            "learner.mismatch.tolerance",
            "must be above 0",
        );
    }
}
