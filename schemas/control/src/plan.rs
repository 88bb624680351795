use serde::{Deserialize, Serialize};

use crate::{
    algorithm::Algorithm,
    digest::Sha256,
    name::Name,
    reuse::{Reuse, ReusedGroup},
    training::Training,
    unit::{PolicyVersion, RecordId, UpdateNumber},
};

/// Number of following records after which a missing part of a group is given up. Parts of a group
/// share a key, so they are close together in one partition.
pub const INCOMPLETE_AFTER_RECORDS: u64 = 1024;

/// Contents of `plans/<learner>/<N>.json`: everything that update N is made of, created if absent
/// before the update runs.
///
/// Plans are the write-ahead log of training and its fence: two learners of one name race to create
/// the same file, and the loser stops. Update N turns version N into version N + 1, so every plan
/// consumes exactly one version. Recovery and `replay --exact` run plans again and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Format tag, always [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Learner that runs the update.
    pub learner: Name,
    /// Unique id of the learner's process. The learner uses it to distinguish its own plan from a
    /// rival's.
    pub writer: String,
    /// Policy that is trained.
    pub policy: Name,
    /// Policy version before the update.
    pub version: PolicyVersion,
    /// Digest of the weights of `version`, which chains the plans.
    pub weights_sha256: Sha256,
    /// Random seed of the run.
    pub seed: u64,
    /// Groups of the batch, in order.
    pub groups: Vec<PlannedGroup>,
    /// Packing of the rows into micro-batches. Rows are numbered consecutively over `groups` and
    /// `reused`.
    pub micro_batches: Vec<MicroBatch>,
    /// Groups refused since the previous plan.
    pub rejections: Vec<Rejection>,
    /// Loss and its settings.
    pub algorithm: Algorithm,
    /// Optimizer and its settings.
    pub optimizer: OptimizerSettings,
    /// Part of the model that is trained, and the precision of the computation.
    #[serde(default, skip_serializing_if = "Training::is_default")]
    pub training: Training,
    /// Build and machine that made the plan. Equal bits are promised only on the same ones.
    pub fingerprint: Fingerprint,
    /// Learner whose plan of the same number supplies the batch, if this learner follows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Name>,
    /// Newest known versions of the sampling policies that are not this learner's own. The
    /// staleness of their tokens is measured from these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<KnownVersion>,
    /// Groups that earlier updates trained and that this one trains again. Their rows are numbered
    /// after those of `groups`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reused: Vec<ReusedGroup>,
    /// Use of data more than once.
    #[serde(default, skip_serializing_if = "Reuse::is_default")]
    pub reuse: Reuse,
}

impl Plan {
    /// Returns the number of rows in the batch, those of reused groups included.
    pub fn rows(&self) -> u64 {
        let reused = self.reused.iter().map(|reused| &reused.group);
        let groups = self.groups.iter().chain(reused);
        groups.map(|group| u64::from(group.rows)).sum()
    }

    /// Returns the update that the plan is of.
    pub fn update(&self) -> UpdateNumber {
        UpdateNumber::from_version(self.version)
    }

    /// Returns true if `policy` is the one that the leader trains, whose batch this plan takes. The
    /// leader's version rises together with this learner's.
    pub fn is_leaders(&self, policy: &str) -> bool {
        // A copied plan lists its leader's own policy last.
        let leads = |known: &KnownVersion| known.source.is_none() && known.policy == policy;
        self.follows.is_some() && self.known.last().is_some_and(leads)
    }

    /// Returns the version from which the staleness of `policy`'s tokens is measured. For another
    /// policy this is its newest known version; for the learner's own, the version that the update
    /// starts from.
    pub fn newest_of(&self, source: Option<&str>, policy: &str) -> PolicyVersion {
        let known = self
            .known
            .iter()
            .find(|known| known.policy == policy && known.source.as_deref() == source);
        known.map_or(self.version, |known| known.version)
    }
}

/// Newest version of a policy that a learner has seen in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownVersion {
    /// Archived topic in which the version was seen; `None` for the run's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Name of the policy.
    pub policy: String,
    /// Newest version seen of the policy.
    pub version: PolicyVersion,
}

/// Group that a plan trains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedGroup {
    /// Group id, 32 hexadecimal digits.
    pub group: String,
    /// Records that hold the group, in part order. There is one unless the group was split.
    pub records: Vec<RecordId>,
    /// Number of rows in the group.
    pub rows: u32,
    /// Producer that numbered the group.
    pub producer: String,
    /// Producer's sequence number of the group.
    pub producer_seq: u64,
    /// Digest of the values that training reads: tokens, log-probs, masks, versions, rewards.
    pub content_sha256: Sha256,
    /// Archived topic that contains `records`; `None` for the run's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Rows that the model takes together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MicroBatch {
    /// Row numbers within the plan.
    pub rows: Vec<u32>,
}

/// Group that the learner refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// Group id, 32 hexadecimal digits; `None` if the record could not be read that far.
    pub group: Option<String>,
    /// Producer that numbered the group, if known.
    pub producer: Option<String>,
    /// Producer's sequence number of the group, if known.
    pub producer_seq: Option<u64>,
    /// Records that hold the refused group or its parts.
    pub records: Vec<RecordId>,
    /// Reason for the refusal, as a class to count by.
    pub reason: RejectReason,
    /// Reason for the refusal, in words.
    pub detail: String,
    /// Archived topic that contains `records`; `None` for the run's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Reasons for which a learner refuses a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// The record has no payload.
    NoPayload,
    /// The message is not a trajectory batch.
    Undecodable,
    /// The headers are missing or contradict the rows.
    BadHeaders,
    /// Lengths, spans or masks contradict one another, or a sampling setting is impossible.
    Malformed,
    /// A log-prob is not finite, above 0, or so low that it can only mean minus infinity.
    BadLogprob,
    /// A reward, or a part of one, is not finite or implausibly large.
    BadReward,
    /// A token id is outside the learner's vocabulary.
    OutOfVocabulary,
    /// Prompt and completion together exceed the model's context or the micro-batch's token budget.
    TooLong,
    /// A token claims a version that was not yet announced when the record was read.
    FutureVersion,
    /// The log-probs are of a mode that the learner does not train on.
    LogprobMode,
    /// The engine's log-probs are not those of the version that it says it sampled with.
    LogprobMismatch,
    /// The sampling temperature is outside the accepted range, 0.001 to 1000.
    Temperature,
    /// The group was sampled by a policy that the learner does not train on.
    OtherPolicy,
    /// The group is staler than the learner's `max_age`, or than the bound under which its slot
    /// was granted.
    TooStale,
    /// Parts or rows of the group are missing, or did not arrive in time.
    Incomplete,
    /// The producer's number was seen before, with the same group.
    Duplicate,
    /// The producer's number was seen before, with another group: the producer numbers from 0
    /// again.
    Renumbered,
    /// The update that the group was sampled for is full or past.
    BatchFull,
    /// Another group of the slot came before: its lease had ended, and another producer filled it.
    SlotTaken,
}

impl RejectReason {
    /// Returns the snake_case name under which the reason is counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoPayload => "no_payload",
            Self::Undecodable => "undecodable",
            Self::BadHeaders => "bad_headers",
            Self::Malformed => "malformed",
            Self::BadLogprob => "bad_logprob",
            Self::BadReward => "bad_reward",
            Self::OutOfVocabulary => "out_of_vocabulary",
            Self::TooLong => "too_long",
            Self::FutureVersion => "future_version",
            Self::LogprobMode => "logprob_mode",
            Self::LogprobMismatch => "logprob_mismatch",
            Self::Temperature => "temperature",
            Self::OtherPolicy => "other_policy",
            Self::TooStale => "too_stale",
            Self::Incomplete => "incomplete",
            Self::Duplicate => "duplicate",
            Self::Renumbered => "renumbered",
            Self::BatchFull => "batch_full",
            Self::SlotTaken => "slot_taken",
        }
    }
}

/// Settings of AdamW, and of the gradient clipping before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Learning rate.
    pub lr: f64,
    /// Decay rate β1 of the first moment.
    pub beta1: f64,
    /// Decay rate β2 of the second moment.
    pub beta2: f64,
    /// Constant ε added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// True if tensors with one dimension (norms, biases) decay too.
    pub decay_vectors: bool,
    /// Limit to which the global gradient norm is scaled down.
    pub grad_clip: f64,
}

/// Build and CPU on which the bits of an update depend, besides the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Version of this program.
    pub vintage: String,
    /// Versions of the numeric libraries.
    pub libraries: String,
    /// Device of the computation: `cpu`, `cuda`, or `torch` for PyTorch, whose device is `isa`.
    pub device: String,
    /// Instruction sets that the kernels choose from.
    pub isa: String,
    /// Cache sizes, which set the blocking of matrix products.
    pub caches: String,
}
