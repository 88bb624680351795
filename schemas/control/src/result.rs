use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Sha256,
    mismatch::EngineMismatch,
    name::Name,
    unit::{PolicyVersion, UpdateNumber},
};

/// Contents of `results/<learner>/<N>.json`: the outcome of update N. Means are over the batch's
/// valid tokens unless stated otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateResult {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Learner that ran the update.
    pub learner: Name,
    /// Policy that was trained.
    pub policy: Name,
    /// Policy version before the update.
    pub version: PolicyVersion,
    /// Digest of the weights of `version + 1`.
    pub weights_sha256: Sha256,
    /// Reason for leaving the weights unchanged; `None` if the update changed them.
    pub skipped: Option<String>,
    /// Value of the loss.
    pub loss: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Cosine of the gradient with the decaying mean of those before, which Adam's first moment is. Near 1 while
    /// updates go one way, near 0 where they are noise, negative where one takes back what those before did. Missing
    /// where one of the two is zero, as in the first update, and in results of earlier program versions and of
    /// learners in Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_cosine: Option<f64>,
    /// Number of groups in the batch that no earlier update trained.
    pub groups: u64,
    /// Number of groups in the batch that earlier updates trained.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reused_groups: u64,
    /// Number of rows in the batch.
    pub rows: u64,
    /// Number of valid tokens: completion tokens that the producer did not mask out.
    pub tokens: u64,
    /// Number of prompt and completion tokens together.
    pub all_tokens: u64,
    /// Number of valid tokens in the trust-region set T.
    pub trust_tokens: u64,
    /// Number of valid tokens that the rule removed: masked, or clipped by a clipping rule.
    pub masked_tokens: u64,
    /// Fraction of valid tokens removed: `masked_tokens / tokens`.
    pub clip_fraction: f64,
    /// Second moment of the log-ratio before masking, over the tokens that the rule bounds: T, or
    /// for `m2po_areal` all valid tokens, with prox against behaviour.
    pub m2_before: f64,
    /// Second moment of the log-ratio after masking, over the tokens that the rule bounds.
    pub m2_after: f64,
    /// Second moment of the log-ratio over all valid tokens, before masking.
    pub m2_all: f64,
    /// Mean of behaviour minus new log-prob in nats (the k1 estimate of KL).
    pub kl: f64,
    /// Estimate of KL(π ‖ reference) in nats a token, if the plan has a penalty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_reference: Option<f64>,
    /// Estimate of KL(π ‖ version before) in nats a token, if the plan has a penalty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_previous: Option<f64>,
    /// Effective share of rows, `(Σ R)² / (B Σ R²)` with the importance weight R of a whole row: 1 if all count
    /// alike. Results of earlier program versions and of learners in Python lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_rows: Option<f64>,
    /// Effective share of valid tokens, with the ratio of each. As `effective_rows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_tokens: Option<f64>,
    /// Clipped concentrability `Σ R min(R / R̄, 10) / Σ R` with the mean R̄ of the weights: 1 if all rows count alike,
    /// near 10 if most of what the new policy does is hardly in the batch. As `effective_rows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concentrability: Option<f64>,
    /// Largest |log-ratio| of a token that was kept, in nats, not clamped.
    pub max_log_ratio: f64,
    /// Number of valid tokens whose log-ratio was clamped before `exp`.
    pub clamped_tokens: u64,
    /// Mean entropy of the new policy, in nats.
    pub entropy: f64,
    /// Mean reward of the batch's rows.
    pub reward: f64,
    /// Number of groups whose rows all have one reward, and so give no gradient. Results of earlier
    /// program versions lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equal_groups: Option<u64>,
    /// Number of rows that ended at their length limit. Results of earlier program versions lack
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_rows: Option<u64>,
    /// Mean of `staleness` over the valid tokens.
    pub mean_staleness: f64,
    /// Largest staleness of any valid token.
    pub max_staleness: u64,
    /// Number of valid tokens by staleness in updates: the version that the learner trained, minus
    /// the version that sampled the token. A learner that follows another's plans counts from the
    /// other's version. Tokens counted in `lag_tokens` are listed here under their lag.
    pub staleness: BTreeMap<u64, u64>,
    /// Number of valid tokens of policies that are neither the learner's own nor its leader's.
    /// Staleness in updates is undefined for them, since updates are counted within a policy.
    /// Their lag is reported instead: the newest version of their policy seen in the log so far,
    /// minus the version that sampled the token.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lag_tokens: u64,
    /// Checks of engines' log-probs since the update before, one per engine; see
    /// [`EngineMismatch`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mismatch: Vec<EngineMismatch>,
    /// Seconds spent waiting for groups to train on.
    pub wait_seconds: f64,
    /// Seconds spent computing the update.
    pub update_seconds: f64,
    /// Seconds for which nothing was computed because plan or weights were being made durable. Weights
    /// that were published while the next update was computed do not count, unless that one had to
    /// wait for them.
    pub record_seconds: f64,
    /// Time at which the update was done, in milliseconds since the epoch.
    pub finished_at_ms: i64,
}

impl UpdateResult {
    /// Returns the update whose outcome this is.
    pub fn update(&self) -> UpdateNumber {
        UpdateNumber::from_version(self.version)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Contents of `deviations/<learner>/<N>-<first 16 digits of computed_sha256>.json`: update N was
/// run again after an interruption and gave other weights than recorded. Only devices that need not
/// repeat their bits (GPUs) do so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Learner that ran the update.
    pub learner: Name,
    /// Policy that was trained.
    pub policy: Name,
    /// Policy version before the update.
    pub version: PolicyVersion,
    /// Digest of the weights of `version + 1` as recorded.
    pub recorded_sha256: Sha256,
    /// Digest of the weights that the second run computed.
    pub computed_sha256: Sha256,
    /// True if the recorded weights were used instead of the computed ones. False if they were no
    /// longer in the store, or if adapters are trained; the next update then began with the
    /// computed ones.
    pub taken: bool,
    /// Unique id of the learner process that ran the update again.
    pub writer: String,
}

impl Deviation {
    /// Returns the update that was run again.
    pub fn update(&self) -> UpdateNumber {
        UpdateNumber::from_version(self.version)
    }
}

/// Contents of `evaluations/<policy>/<N>.json`: accuracy of version N on held-out prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationResult {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Policy that was evaluated.
    pub policy: Name,
    /// Version that was evaluated.
    pub version: PolicyVersion,
    /// Fraction of right answers, with one sample per prompt at temperature 1.
    pub sampled_accuracy: f64,
    /// Fraction of right answers with greedy (arg-max) decoding.
    pub greedy_accuracy: f64,
    /// Number of prompts.
    pub samples: u64,
    /// Duration of the evaluation in seconds.
    pub seconds: f64,
    /// Greedy completions of the first prompts, for people; empty in records of earlier builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<EvaluationExample>,
}

/// Greedy completion of a held-out prompt, as it was judged. Long texts have lost their middle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationExample {
    /// Name of the prompt.
    pub prompt_id: String,
    /// Text that was completed.
    pub prompt: String,
    /// Known answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Completion, without special tokens.
    pub completion: String,
    /// Reward of the completion.
    pub reward: f64,
}
