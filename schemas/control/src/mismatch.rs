use serde::{Deserialize, Serialize};

use crate::{training::Precision, unit::PolicyVersion};

/// Difference between the log-probs that one engine reported and those that the learner's model
/// gives to the same tokens, each under the very version that sampled it. A log-ratio is the
/// recomputed minus the reported log-prob, in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineMismatch {
    /// Engine that sampled, as rollouts name it.
    pub engine: String,
    /// Producer process whose engine was checked; `None` for an engine of any producers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// Precision of the matrix products that recomputed the log-probs.
    pub precision: Precision,
    /// Number of rollouts that were recomputed.
    pub rows: u64,
    /// Number of sampled tokens that were recomputed.
    pub tokens: u64,
    /// Mean of exp(l) − 1 − l over log-ratios l: the k3 estimate of KL(engine ‖ model), in nats a
    /// token. Log-ratios above 20 count as 20.
    pub kl: f64,
    /// Mean of the log-ratios' magnitudes.
    pub mean: f64,
    /// Magnitude that 99 % of the log-ratios do not exceed.
    pub p99: f64,
    /// Share of tokens whose ratio is above 1.1 or below 1/1.1.
    pub beyond_tenth: f64,
    /// Share of tokens whose ratio is above 2 or below 1/2.
    pub beyond_double: f64,
    /// Token with the log-ratio of the largest magnitude.
    pub worst: MismatchedToken,
}

/// Sampled token, with both of its log-probs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MismatchedToken {
    /// Id of the group, 32 hexadecimal digits.
    pub group: String,
    /// Number of the rollout within its group.
    pub sample_index: u16,
    /// Position in the completion, from 0.
    pub position: u64,
    /// Id of the token.
    pub token: u32,
    /// Version that sampled the token.
    pub version: PolicyVersion,
    /// Log-prob that the engine reported, in nats.
    pub reported: f32,
    /// Log-prob that the version gives the token here, in nats.
    pub recomputed: f32,
}
