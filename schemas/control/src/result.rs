use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Name, PolicyVersion, Sha256};

/// `results/<learner>/<N>.json`: what update N did. Means are over the batch's valid tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateResult {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Who trained.
    pub learner: Name,
    /// The lineage.
    pub policy: Name,
    /// Version before the update.
    pub version: PolicyVersion,
    /// Digest of version + 1.
    pub weights_sha256: Sha256,
    /// Why nothing was changed, if nothing was.
    pub skipped: Option<String>,
    /// The loss.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Groups of the batch.
    pub groups: u64,
    /// Rows of the batch.
    pub rows: u64,
    /// Valid (completion, not masked out by the producer) tokens.
    pub tokens: u64,
    /// Prompt and completion tokens together.
    pub all_tokens: u64,
    /// Valid tokens in the trust-region set T.
    pub trust_tokens: u64,
    /// Valid tokens that got no gradient from the rule: masked or clipped.
    pub masked_tokens: u64,
    /// `masked_tokens / tokens`.
    pub clip_fraction: f64,
    /// Second moment of the log-ratio before masking, over what the rule bounds: T, or all
    /// valid tokens of prox against behaviour (`m2po_areal`).
    pub m2_before: f64,
    /// The same after masking.
    pub m2_after: f64,
    /// Second moment over all valid tokens.
    pub m2_all: f64,
    /// Mean of behaviour minus new log-prob (the k1 estimate of KL).
    pub kl: f64,
    /// Largest |log-ratio| that was kept.
    pub max_log_ratio: f64,
    /// Tokens whose log-ratio was clamped before `exp`.
    pub clamped_tokens: u64,
    /// Mean entropy of the new policy, nats.
    pub entropy: f64,
    /// Mean reward of the batch's rows.
    pub reward: f64,
    /// Groups whose rows all have one reward, and so give no gradient; not in results of earlier
    /// programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equal_groups: Option<u64>,
    /// Rows that ended at the limit on their length; not in results of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_rows: Option<u64>,
    /// Mean of `staleness` over the valid tokens.
    pub mean_staleness: f64,
    /// Largest staleness of any valid token.
    pub max_staleness: u64,
    /// Valid tokens by staleness, in updates: the version that the learner trained, less the one
    /// that sampled the token. Of a learner that follows another's plans it is the other's
    /// version. Tokens counted in `lag_tokens` stand here with their lag.
    pub staleness: BTreeMap<u64, u64>,
    /// Valid tokens of lineages that are neither the learner's own nor its leader's. Updates are
    /// counted within a lineage, so that no number of updates lies between such a token and this
    /// learner: what is told is its lag, the newest version of its lineage met in the log so far,
    /// less the one that sampled it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lag_tokens: u64,
    /// Seconds waiting for groups to train on.
    pub wait_seconds: f64,
    /// Seconds computing the update.
    pub update_seconds: f64,
    /// Seconds making plan, weights and result durable.
    pub record_seconds: f64,
    /// When it was done, milliseconds since the epoch.
    pub finished_at_ms: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// `deviations/<learner>/<N>-<first 16 digits of computed_sha256>.json`: update N, run again after
/// an interruption on a device that is not bound to repeat its bits, gave other weights than were
/// recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Who trained.
    pub learner: Name,
    /// The lineage.
    pub policy: Name,
    /// Version before the update.
    pub version: PolicyVersion,
    /// What version + 1 is known by.
    pub recorded_sha256: Sha256,
    /// What it was when it was run again.
    pub computed_sha256: Sha256,
    /// Whether the recorded weights were taken instead. If not, they were in the store no more, or
    /// adapters are trained: the next update began with the computed ones.
    pub taken: bool,
    /// The life that ran it again.
    pub writer: String,
}

/// `evaluations/<policy>/<N>.json`: accuracy of version N on held-out prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationResult {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// The lineage.
    pub policy: Name,
    /// The version.
    pub version: PolicyVersion,
    /// Share of right answers, one sample a prompt at temperature 1.
    pub sampled_accuracy: f64,
    /// Share of right arg-max answers.
    pub greedy_accuracy: f64,
    /// Prompts.
    pub samples: u64,
    /// Seconds it took.
    pub seconds: f64,
}
