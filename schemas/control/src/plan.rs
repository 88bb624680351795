use serde::{Deserialize, Serialize};

use crate::{Name, PolicyVersion, RecordId, Sha256, Training};

/// Parts of a group share a key, and so stand close together in one partition: what is missing
/// when this many records have followed will not come.
pub const INCOMPLETE_AFTER_RECORDS: u64 = 1024;

/// `plans/<learner>/<N>.json`: what update N is made of, written if-absent before it runs.
///
/// The write-ahead log of training and its fence: two learners of one name race for the same
/// file and the loser stops. Update N turns version N into version N + 1, so every plan
/// consumes exactly one version. Recovery and `replay --exact` re-run plans and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`crate::CONTROL_FORMAT`].
    pub format: String,
    /// Who trains.
    pub learner: Name,
    /// Unique to this life of the learner: tells its own plan from a rival's.
    pub writer: String,
    /// The lineage being trained.
    pub policy: Name,
    /// Version before the update.
    pub version: PolicyVersion,
    /// Digest of that version's weights: chains the plans.
    pub weights_sha256: Sha256,
    /// The run's seed.
    pub seed: u64,
    /// Groups of the batch, in order.
    pub groups: Vec<PlannedGroup>,
    /// How the rows of `groups`, numbered through in order, are packed.
    pub micro_batches: Vec<MicroBatch>,
    /// Groups refused since the last plan.
    pub rejections: Vec<Rejection>,
    /// The loss.
    pub algorithm: Algorithm,
    /// The optimizer.
    pub optimizer: OptimizerSettings,
    /// What of the model is trained, and how.
    #[serde(default, skip_serializing_if = "Training::is_default")]
    pub training: Training,
    /// The machine and build that planned: bits are promised only on the same one.
    pub fingerprint: Fingerprint,
    /// The learner whose plan of this number this one takes its batch from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Name>,
    /// Newest versions known of the lineages that sampled, where they are not this learner's
    /// own: what the staleness of their tokens is measured from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<KnownVersion>,
}

impl Plan {
    /// Whether `policy` is the lineage of the leader whose batch this is: its version goes up with
    /// this learner's.
    pub fn is_leaders(&self, policy: &str) -> bool {
        // A copied plan names its leader's own lineage last.
        let leads = |known: &KnownVersion| known.source.is_none() && known.policy == policy;
        self.follows.is_some() && self.known.last().is_some_and(leads)
    }

    /// The version that staleness of `policy`'s tokens is measured from: that lineage's newest
    /// one known; of the learner's own lineage, the version the update starts from.
    pub fn newest_of(&self, source: Option<&str>, policy: &str) -> PolicyVersion {
        let known = self
            .known
            .iter()
            .find(|known| known.policy == policy && known.source.as_deref() == source);
        known.map_or(self.version, |known| known.version)
    }
}

/// The newest version of a lineage that a learner has met in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownVersion {
    /// The archived topic it was met in; `None` for the run's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The lineage.
    pub policy: String,
    /// Its newest version met.
    pub version: PolicyVersion,
}

/// A group of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedGroup {
    /// Group id, 32 hexadecimal digits.
    pub group: String,
    /// Records that hold it, in part order; one unless the group was split.
    pub records: Vec<RecordId>,
    /// Rows of the group.
    pub rows: u32,
    /// Producer that numbered it.
    pub producer: String,
    /// Its number.
    pub producer_seq: u64,
    /// Digest of the values training reads (tokens, log-probs, masks, versions, rewards).
    pub content_sha256: Sha256,
    /// The archived topic that `records` stand in; `None` for the run's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Rows that go through the model together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MicroBatch {
    /// Row numbers within the plan.
    pub rows: Vec<u32>,
}

/// A group the learner refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// Group id, 32 hexadecimal digits; `None` where the record could not be read that far.
    pub group: Option<String>,
    /// Producer and its number, where known.
    pub producer: Option<String>,
    /// The producer's number of the group.
    pub producer_seq: Option<u64>,
    /// Records concerned.
    pub records: Vec<RecordId>,
    /// Why, as a class to count by.
    pub reason: RejectReason,
    /// Why, in words.
    pub detail: String,
    /// The archived topic that `records` stand in; `None` for the run's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Why a group was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// The record has no payload.
    NoPayload,
    /// The message is not a trajectory batch.
    Undecodable,
    /// The headers are missing or contradict the rows.
    BadHeaders,
    /// Lengths, spans or masks contradict one another.
    Malformed,
    /// A log-prob is not finite, above 0, or so low that it stands for minus infinity.
    BadLogprob,
    /// A reward is not finite, or larger than any reward.
    BadReward,
    /// A token id is outside the vocabulary.
    OutOfVocabulary,
    /// Prompt and completion exceed the model's context or the token budget.
    TooLong,
    /// A token claims a version that was not announced when it was read.
    FutureVersion,
    /// The log-probs are of a mode the learner does not train on.
    LogprobMode,
    /// Sampled at temperature 0 or below: there is no distribution.
    Temperature,
    /// Sampled by another lineage.
    OtherPolicy,
    /// Older than the learner's `max_age`.
    TooStale,
    /// Parts or rows of the group did not arrive in time.
    Incomplete,
    /// This producer's number was seen before, on the same group.
    Duplicate,
    /// This producer's number was seen before, on another group: it numbers again from 0.
    Renumbered,
    /// The batch it was sampled for is full or past.
    BatchFull,
}

impl RejectReason {
    /// The name under which it is counted.
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
            Self::Temperature => "temperature",
            Self::OtherPolicy => "other_policy",
            Self::TooStale => "too_stale",
            Self::Incomplete => "incomplete",
            Self::Duplicate => "duplicate",
            Self::Renumbered => "renumbered",
            Self::BatchFull => "batch_full",
        }
    }
}

/// The loss and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Algorithm {
    /// Which rule bounds the update.
    pub name: AlgorithmName,
    /// Budget τ on the second moment of the log-ratio (m2po).
    pub m2_threshold: f64,
    /// Clip range ε on both sides of ratio 1 (grpo, m2po_areal).
    pub clip_eps: f64,
    /// |log-ratio| is clamped to this before `exp`; clamped tokens are counted.
    pub log_ratio_clamp: f64,
}

/// Rules that bound an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlgorithmName {
    /// M2PO as the paper's Algorithm 1.
    M2po,
    /// M2PO as AReaL implements it.
    M2poAreal,
    /// M2PO as the authors' released code implements it.
    M2poFork,
    /// PPO's clip, as GRPO uses it.
    Grpo,
    /// No trust region.
    None,
}

/// AdamW and what goes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Learning rate.
    pub lr: f64,
    /// First-moment decay.
    pub beta1: f64,
    /// Second-moment decay.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Whether tensors with one dimension (norms, biases) decay too.
    pub decay_vectors: bool,
    /// Global gradient norm is scaled down to this.
    pub grad_clip: f64,
}

/// What bit-exactness depends on besides the plan: the build and the CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Version of this program.
    pub vintage: String,
    /// Versions of the numeric libraries.
    pub libraries: String,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Instruction sets the kernels choose from.
    pub isa: String,
    /// Cache sizes, which set the blocking of matrix products.
    pub caches: String,
}
